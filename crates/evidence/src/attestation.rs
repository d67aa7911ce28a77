//! An attestation: an envelope whose form, statement and signatures were checked.

use serde::{Deserialize, Serialize};

use crate::{
    digest::{Node, Sha256},
    key::KeyId,
    predicate::Claim,
    statement::Subject,
};

/// The facts of one envelope. Only [`verify`] makes one, and only the store reads one back
/// (under its seal), so holding one means that every check of this module was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// SHA-256 of the item's exact bytes.
    pub id: Sha256,
    /// SHA-256 of the signed payload.
    pub payload: Sha256,
    /// `predicateType`, byte for byte.
    pub predicate_type: String,
    /// What the statement is about.
    pub subjects: Vec<Subject>,
    /// Registered keys whose signature over this payload verified; empty means *unverified*.
    pub signers: Vec<KeyId>,
    /// The predicate in its normal form.
    pub claim: Claim,
}

impl Attestation {
    /// Whether any registered key vouches for it.
    pub fn is_verified(&self) -> bool {
        !self.signers.is_empty()
    }

    /// Every node that a subject names, sorted, each once.
    pub fn subject_nodes(&self) -> Vec<Node> {
        let mut nodes: Vec<Node> = self.subjects.iter().flat_map(|s| s.digests.nodes()).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }
}
