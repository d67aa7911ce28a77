//! The evaluator.

use std::collections::BTreeSet;

use catenary_evidence::{KeyId, digest::{Digest, Node}};
use jiff::Timestamp;

use crate::{
    control::Control,
    gather::Evidence,
    verdict::{LogView, Outcome, Question, SubjectView, Verdict, unsealed},
};

/// Verifier and evaluator, as a verdict names them.
pub const ENGINE: &str = concat!("catenary/", env!("CARGO_PKG_VERSION"));

/// Most nodes that one evaluation reads.
pub const MAX_NODES: usize = 10_000;

/// Evaluates.
pub fn evaluate(question: &Question, control: &Control, _evidence: &Evidence, log: LogView, now: Timestamp) -> Verdict {
    Verdict {
        api_version: "v1".to_owned(),
        kind: "Verdict".to_owned(),
        id: unsealed(),
        outcome: Outcome::Failed,
        allowed: false,
        mode: "enforce".to_owned(),
        subject: SubjectView { digest: question.image.digest, media_type: None, resource: question.image.resource.clone(), platform: None },
        context: Default::default(),
        policy: None,
        trust_epoch: control.epoch,
        log,
        engine: ENGINE.to_owned(),
        evaluated_at: now,
        as_of: now,
        valid_until: now,
        levels: Default::default(),
        links: Vec::new(),
        reasons: Vec::new(),
        near_misses: Vec::new(),
        truncated: false,
        summary: String::new(),
    }
    .seal()
}

/// The repositories in which trusted registry events saw the digest, or an index that holds it.
pub fn known_resources(_digest: Digest, _control: &Control, _evidence: &Evidence) -> BTreeSet<String> {
    BTreeSet::new()
}

pub(crate) fn touched(_question: &Question, _control: &Control, _evidence: &Evidence) -> BTreeSet<Node> {
    BTreeSet::new()
}

pub(crate) fn touched_by_digest(_digest: Digest, _evidence: &Evidence) -> BTreeSet<Node> {
    BTreeSet::new()
}

/// Every key that any active policy names for any role.
pub fn signers(control: &Control) -> BTreeSet<KeyId> {
    let policies = control.policies.values().filter_map(|active| active.policy.as_ref().ok());
    policies.flat_map(|policy| policy.signers(control)).collect()
}
