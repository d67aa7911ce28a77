//! Near misses: evidence that exists and does not count, with why. It never decides anything.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::{
    digest::{Digest, Node, Sha256},
    predicate::Claim,
};

use crate::{policy::Spec, reason::Code, verdict::NearMiss};

use super::{
    Chain, registry, require, source, summary,
    world::{Statement, World},
};

/// How many are shown.
const SHOWN: usize = 20;

/// The first near misses by id, and whether there are more.
pub fn misses(world: &mut World<'_>, digest: Digest, chain: &Chain) -> (Vec<NearMiss>, bool) {
    let Some(decides) = &chain.policy else { return (Vec::new(), false) };
    let policy = std::sync::Arc::clone(&decides.policy);
    let spec = policy.spec();
    let mut nodes: BTreeSet<Node> = BTreeSet::from([digest.into()]);
    nodes.extend(world.parents(digest).into_iter().map(Node::Content));
    nodes.extend(world.runnable(digest).into_iter().map(Node::Content));
    let mut commits = BTreeSet::new();
    if spec.build.is_some() {
        for node in &nodes {
            for statement in world.naming(*node) {
                let Claim::Build(build) = &statement.fact.claim else { continue };
                let commit = build.source.as_ref().and_then(|source| source.commit);
                commits.extend(commit.filter(|_| builds(world, statement, spec)).map(Node::Git));
            }
        }
    }
    nodes.extend(commits);

    let mut found: BTreeMap<Sha256, NearMiss> = BTreeMap::new();
    for node in nodes {
        for statement in world.claiming(node) {
            let why = match world.conflicts(statement, node) {
                true => Some(Code::AttDigestConflict),
                false => why(world, statement, spec),
            };
            if let Some(why) = why {
                let signers: Vec<String> = statement.fact.signers().map(ToString::to_string).collect();
                let detail = if signers.is_empty() {
                    statement.fact.predicate_type.clone()
                } else {
                    signers.join(", ")
                };
                let id = statement.fact.id;
                found.entry(id).or_insert(NearMiss { attestation: id, why, detail });
            }
        }
    }
    let more = found.len() > SHOWN;
    (found.into_values().take(SHOWN).collect(), more)
}

fn builds(world: &World<'_>, statement: &Statement, spec: &Spec) -> bool {
    spec.builders().any(|rule| world.counts(statement, &rule.signer, rule.valid_from, rule.valid_until))
}

/// Why the statement does not count; `None` when it does, or when nothing asks for its kind.
fn why(world: &World<'_>, statement: &Statement, spec: &Spec) -> Option<Code> {
    if !statement.fact.is_verified() {
        return Some(Code::AttSignerUnknown);
    }
    let (counts, revoked, code) = match &statement.fact.claim {
        Claim::Build(_) if spec.build.is_some() => (
            builds(world, statement, spec),
            spec.builders().find_map(|rule| world.revocation(statement, &rule.signer)),
            Code::BldSignerNotTrusted,
        ),
        Claim::Run(_) if spec.build.as_ref().is_some_and(|build| build.run.is_some()) => {
            let rules = spec.trust.runs.iter();
            let counts = match spec.trust.runs.is_empty() {
                true => builds(world, statement, spec),
                false => {
                    rules.clone().any(|r| world.counts(statement, &r.signer, r.valid_from, r.valid_until))
                }
            };
            let revoked = rules.clone().find_map(|rule| world.revocation(statement, &rule.signer));
            (counts, revoked, Code::BldSignerNotTrusted)
        }
        Claim::Commit(_) if spec.source.is_some() && !spec.trust.sources.is_empty() => {
            let rules = &spec.trust.sources;
            let counts =
                rules.iter().any(|r| world.counts(statement, &r.signer, r.valid_from, r.valid_until));
            let revoked = rules.iter().find_map(|rule| world.revocation(statement, &rule.signer));
            (counts, revoked, Code::SrcSignerNotTrusted)
        }
        Claim::Summary(summary)
            if spec.source.is_some() && !spec.trust.sources.is_empty() && is_of_a_commit(statement) =>
        {
            let rules = &spec.trust.sources;
            let counting =
                || rules.iter().filter(|r| world.counts(statement, &r.signer, r.valid_from, r.valid_until));
            let counts = counting().any(|rule| source::speaks_for(rule, summary));
            let revoked = rules.iter().find_map(|rule| world.revocation(statement, &rule.signer));
            match counting().next() {
                Some(_) => (counts, None, Code::VsaSignerVerifierPair),
                None => (counts, revoked, Code::SrcSignerNotTrusted),
            }
        }
        Claim::Registry(event) if spec.registry.is_some() => (
            spec.registries().any(|rule| registry::speaks(world, statement, rule, event)),
            spec.registries().find_map(|rule| world.revocation(statement, &rule.signer)),
            Code::RegPusherNotTrusted,
        ),
        Claim::Summary(_) if !spec.trust.verifiers.is_empty() && !is_of_a_commit(statement) => {
            let (counts, revoked) = summary::near(world, statement, spec);
            (counts, revoked, Code::VsaSignerVerifierPair)
        }
        _ => {
            let (counts, revoked) = require::near(world, statement, spec)?;
            (counts, revoked, Code::PrpSignerNotTrusted)
        }
    };
    if counts { None } else { Some(revoked.unwrap_or(code)) }
}

/// Summaries of images are for others to read.
fn is_of_a_commit(statement: &Statement) -> bool {
    statement.fact.subject_nodes().iter().any(|node| matches!(node, Node::Git(_)))
}
