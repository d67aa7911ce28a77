//! Who stands behind a statement, what it is about, and since when: for rules that count signers and let the latest
//! statement of each win.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::{
    Signer as SignedBy,
    digest::{Digest, Node, Sha256},
    predicate::Claim,
    signer::SanKind,
};
use jiff::Timestamp;

use crate::{
    policy::{Spec, property::Speaker},
    reason::Code,
};

use super::{
    artifact::Artifact,
    world::{Statement, World},
};

/// The distinct signers of a statement that count for a rule. Two keys of one operator are one, as are a workflow's
/// certificates from several refs.
pub fn voices<'a>(
    world: &World<'a>,
    statement: &'a Statement,
    speaker: &Speaker,
    spec: &Spec,
) -> BTreeSet<String> {
    let mut found: BTreeMap<&SignedBy, String> = BTreeMap::new();
    match speaker {
        Speaker::Signer(signer) => {
            for by in world.signatures_of(statement, signer, None, None) {
                found.insert(&by.signer, name_of(world, &by.signer));
            }
        }
        Speaker::AnyOf(ids) => {
            for rule in spec.trust.builders.iter().filter(|rule| ids.contains(&rule.id)) {
                for by in world.signatures_of(statement, &rule.signer, rule.valid_from, rule.valid_until) {
                    found.entry(&by.signer).or_insert_with(|| rule.domain().to_owned());
                }
            }
        }
    }
    found.into_values().collect()
}

/// Whether any signer counts for the rule.
pub fn counts(world: &World<'_>, statement: &Statement, speaker: &Speaker, spec: &Spec) -> bool {
    match speaker {
        Speaker::Signer(signer) => world.counts(statement, signer, None, None),
        Speaker::AnyOf(ids) => {
            let mut rules = spec.trust.builders.iter().filter(|rule| ids.contains(&rule.id));
            rules.any(|rule| world.counts(statement, &rule.signer, rule.valid_from, rule.valid_until))
        }
    }
}

/// Why a statement by a signer that the rule names does not count any more.
pub fn revocation(world: &World<'_>, statement: &Statement, speaker: &Speaker, spec: &Spec) -> Option<Code> {
    match speaker {
        Speaker::Signer(signer) => world.revocation(statement, signer),
        Speaker::AnyOf(ids) => {
            let mut rules = spec.trust.builders.iter().filter(|rule| ids.contains(&rule.id));
            rules.find_map(|rule| world.revocation(statement, &rule.signer))
        }
    }
}

/// The name under which a signer counts once.
pub fn name_of(world: &World<'_>, by: &SignedBy) -> String {
    match by {
        SignedBy::Key(key) => {
            let service = world.control.keys.get(key).and_then(|state| state.key.service.as_ref());
            service.map_or_else(|| key.to_string(), |service| format!("service {service}"))
        }
        SignedBy::Certificate(identity) => {
            let workflow = match identity.san_kind {
                SanKind::Uri => identity.san.rsplit_once("@refs/").map(|(workflow, _)| workflow),
                SanKind::Email | SanKind::Dns | SanKind::Other => None,
            };
            let issuer = identity.issuer.as_deref().unwrap_or_default();
            format!("{} {issuer} {}", identity.domain, workflow.unwrap_or(&identity.san))
        }
    }
}

/// When a statement says that it was made; never later than it is proven to have existed.
pub fn stated_at(world: &World<'_>, statement: &Statement) -> Timestamp {
    let own = match &statement.fact.claim {
        Claim::Sbom(sbom) => sbom.created,
        Claim::Scan(scan) => scan.finished,
        Claim::Vex(vex) => vex.issued,
        Claim::Summary(summary) => summary.time_verified,
        Claim::Verification(result) => result.created,
        _ => None,
    };
    let existed = world.existed_at(statement);
    own.map_or(existed, |own| own.min(existed))
}

/// What a rule about an image looks at: the image itself, or each runnable platform of an index.
pub fn parts(artifact: &Artifact) -> Vec<Digest> {
    if artifact.scope.is_empty() { vec![artifact.digest] } else { artifact.scope.clone() }
}

/// The indexes through which `artifact` is reached: what is said of them is said of it.
pub fn holders(world: &mut World<'_>, artifact: Digest) -> Vec<Digest> {
    let parents = world.parents(artifact);
    let holds = |parent: &Digest| {
        let revoked = world.denied(*parent).is_some_and(|(image, _)| image == *parent);
        !revoked && world.runnable(*parent).contains(&artifact)
    };
    parents.into_iter().filter(holds).collect()
}

/// Statements about any of the nodes, each once, by id.
pub fn about<'a>(
    world: &mut World<'a>,
    nodes: impl IntoIterator<Item = Node>,
) -> BTreeMap<Sha256, &'a Statement> {
    let mut found = BTreeMap::new();
    for node in nodes {
        found.extend(world.naming(node).into_iter().map(|statement| (statement.fact.id, statement)));
    }
    found
}
