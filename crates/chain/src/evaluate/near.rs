//! Near misses: evidence that exists and does not count, with why. It never decides anything.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::{
    digest::{Digest, Node, Sha256},
    object::Body,
    predicate::{self, Claim},
};

use crate::{
    policy::{Mode, Spec},
    reason::{Code, Reason},
    verdict::NearMiss,
};

use super::{
    Chain,
    artifact::Artifact,
    build, registry, require, source, summary,
    world::{Statement, World},
};

/// How many are shown.
const SHOWN: usize = 20;

/// The first near misses by id, and whether there are more.
pub fn misses(world: &mut World<'_>, digest: Digest, resource: &str, chain: &Chain) -> (Vec<NearMiss>, bool) {
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
                false => why(world, statement, spec).or_else(|| replayed(world, statement, resource)),
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
    let uncovered = [Code::BldNoProvenance, Code::ArtPlatformUncovered];
    if chain.reasons.iter().any(|reason| uncovered.contains(&reason.code)) {
        for (id, near) in beside(world, digest) {
            found.entry(id).or_insert(near);
        }
    }
    let more = found.len() > SHOWN;
    (found.into_values().take(SHOWN).collect(), more)
}

/// Build statements about what is no image by itself, or stands beside the one that is asked for: configs, layers, and the other
/// images of an index. They cover nothing, and are what people attest by mistake.
fn beside(world: &mut World<'_>, digest: Digest) -> Vec<(Sha256, NearMiss)> {
    let mut own: BTreeSet<Digest> = BTreeSet::from([digest]);
    own.extend(world.runnable(digest));
    let parents = world.parents(digest);
    let mut nodes = Vec::new();
    for image in own.clone() {
        if let Some(Body::Manifest(manifest)) = world.object(image.into()).map(|object| &object.body) {
            nodes.push(manifest.config.digest);
            nodes.extend(manifest.layers.iter().map(|layer| layer.digest));
        }
    }
    own.extend(parents.iter().copied());
    for parent in parents {
        nodes.extend(world.runnable(parent));
    }
    nodes.retain(|node| !own.contains(node));
    nodes.truncate(SHOWN);
    let mut found = Vec::new();
    for node in nodes {
        for statement in world.claiming(node.into()) {
            let fact = &statement.fact;
            if matches!(fact.claim, Claim::Build(_)) && fact.is_verified() {
                let detail = format!("about {node}");
                let near = NearMiss { attestation: fact.id, why: Code::AttSubjectMismatch, detail };
                found.push((fact.id, near));
            }
        }
    }
    found
}

/// Says that nothing at all is attested about an image that is known, and what the policy asks for.
pub fn nothing(world: &mut World<'_>, artifact: &Artifact, spec: &Spec) -> Option<Reason> {
    let mut nodes = vec![artifact.digest];
    nodes.extend(&artifact.children);
    nodes.extend(world.parents(artifact.digest));
    if nodes.into_iter().any(|node| !world.claiming(node.into()).is_empty()) {
        return None;
    }
    let mut asked: BTreeSet<String> = BTreeSet::new();
    asked.extend(spec.build.as_ref().map(|_| "https://slsa.dev/provenance/v1".to_owned()));
    asked.extend(spec.registry.as_ref().map(|_| predicate::REGISTRY_EVENT_V1.to_owned()));
    asked.extend(spec.summary.as_ref().map(|_| "https://slsa.dev/verification_summary/v1".to_owned()));
    asked.extend(spec.require.iter().flat_map(|rule| &rule.predicate).map(|kind| kind.as_str().to_owned()));
    let message = "no attestation at all is about the image";
    let reason = Reason::error(Code::AttNone, artifact.digest, "", message);
    Some(reason.because(asked.into_iter().collect::<Vec<_>>(), "none").under(Mode::Shadow))
}

/// A summary that would count, of the image in another repository.
fn replayed(world: &World<'_>, statement: &Statement, resource: &str) -> Option<Code> {
    let Claim::Summary(claim) = &statement.fact.claim else { return None };
    let content: Vec<Digest> =
        statement.fact.subjects.iter().flat_map(|subject| subject.digests.content.clone()).collect();
    let elsewhere = !is_of_a_commit(statement)
        && !world.is_own_verdict(statement)
        && !summary::is_about(&claim.resource_uri, resource, &content);
    elsewhere.then_some(Code::AttReplayed)
}

fn builds(world: &World<'_>, statement: &Statement, spec: &Spec) -> bool {
    spec.builders().any(|rule| world.counts(statement, &rule.signer, rule.valid_from, rule.valid_until))
}

/// Why the statement does not count; `None` when it does, or when nothing asks for its kind.
fn why(world: &World<'_>, statement: &Statement, spec: &Spec) -> Option<Code> {
    if !statement.fact.is_verified() {
        return Some(Code::AttSignerUnknown);
    }
    // Most of what is asked about counts: only of the rest it is asked why not.
    let (revoked, code) = match &statement.fact.claim {
        Claim::Build(_) if spec.build.is_some() => {
            if builds(world, statement, spec) {
                return None;
            }
            let missed = spec.builders().filter_map(|rule| world.misses(statement, &rule.signer)).min();
            (
                spec.builders().find_map(|rule| world.revocation(statement, &rule.signer)),
                missed.map_or(Code::BldSignerNotTrusted, build::missed),
            )
        }
        Claim::Run(_) if spec.build.as_ref().is_some_and(|build| build.run.is_some()) => {
            let mut rules = spec.trust.runs.iter();
            let counts = match spec.trust.runs.is_empty() {
                true => builds(world, statement, spec),
                false => {
                    rules.clone().any(|r| world.counts(statement, &r.signer, r.valid_from, r.valid_until))
                }
            };
            if counts {
                return None;
            }
            (rules.find_map(|rule| world.revocation(statement, &rule.signer)), Code::BldSignerNotTrusted)
        }
        Claim::Commit(_) if spec.source.is_some() && !spec.trust.sources.is_empty() => {
            let mut rules = spec.trust.sources.iter();
            if rules.clone().any(|r| world.counts(statement, &r.signer, r.valid_from, r.valid_until)) {
                return None;
            }
            (rules.find_map(|rule| world.revocation(statement, &rule.signer)), Code::SrcSignerNotTrusted)
        }
        Claim::Summary(summary)
            if spec.source.is_some() && !spec.trust.sources.is_empty() && is_of_a_commit(statement) =>
        {
            let rules = spec.trust.sources.iter();
            let counting =
                || rules.clone().filter(|r| world.counts(statement, &r.signer, r.valid_from, r.valid_until));
            if counting().any(|rule| source::speaks_for(rule, summary)) {
                return None;
            }
            match counting().next() {
                Some(_) => (None, Code::VsaSignerVerifierPair),
                None => {
                    let revoked = rules.clone().find_map(|rule| world.revocation(statement, &rule.signer));
                    (revoked, Code::SrcSignerNotTrusted)
                }
            }
        }
        Claim::Registry(event) if spec.registry.is_some() => {
            if spec.registries().any(|rule| registry::speaks(world, statement, rule, event)) {
                return None;
            }
            (
                spec.registries().find_map(|rule| world.revocation(statement, &rule.signer)),
                Code::RegPusherNotTrusted,
            )
        }
        Claim::Summary(_) if !spec.trust.verifiers.is_empty() && !is_of_a_commit(statement) => {
            let (counts, revoked) = summary::near(world, statement, spec);
            if counts {
                return None;
            }
            (revoked, Code::VsaSignerVerifierPair)
        }
        _ => {
            let (counts, revoked) = require::near(world, statement, spec)?;
            if counts {
                return None;
            }
            (revoked, Code::PrpSignerNotTrusted)
        }
    };
    Some(revoked.unwrap_or(code))
}

/// Summaries of images are for others to read.
fn is_of_a_commit(statement: &Statement) -> bool {
    statement.fact.subject_nodes().iter().any(|node| matches!(node, Node::Git(_)))
}
