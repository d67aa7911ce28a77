//! Reading what is known: lists, single rows, the family of an artifact.

use catenary_evidence::{
    attestation::Attestation,
    digest::{Node, Sha256},
    key::KeyId,
    object::Object,
};
use jiff::Timestamp;

use crate::{Store, StoreError};

/// Which attestations a list shows. Empty: all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// About this node.
    pub subject: Option<Node>,
    /// With this predicate type, byte for byte.
    pub predicate_type: Option<String>,
    /// Vouched for by this key.
    pub signer: Option<KeyId>,
    /// Provenance of this builder, byte for byte.
    pub builder: Option<String>,
    /// About a source in this canonical repository.
    pub source_repository: Option<String>,
    /// About this commit (`gitCommit:<hex>`).
    pub source_commit: Option<Node>,
    /// Verified or not.
    pub verified: Option<bool>,
    /// Logged at or after.
    pub since: Option<Timestamp>,
    /// Logged before.
    pub until: Option<Timestamp>,
}

/// An attestation as it is known.
#[derive(Debug, Clone)]
pub struct AttestationRow {
    /// Index of its entry.
    pub index: u64,
    /// Time of its entry.
    pub time: Timestamp,
    /// The facts.
    pub facts: Attestation,
}

/// An object as it is known.
#[derive(Debug, Clone)]
pub struct ObjectRow {
    /// Index of its entry.
    pub index: u64,
    /// Time of its entry.
    pub time: Timestamp,
    /// As it was sent.
    pub media_type: String,
    /// The facts.
    pub facts: Object,
}

impl Store {
    /// Attestations below entry `before` (the cursor: the index of the last one seen; the size at first),
    /// newest first. Rows whose seal is broken are left out and counted as alarms.
    pub async fn list_attestations(
        &self,
        tenant: &str,
        filter: &Filter,
        before: u64,
        limit: u32,
    ) -> Result<Vec<AttestationRow>, StoreError> {
        let _ = (tenant, filter, before, limit);
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// One attestation among the first `before` entries.
    pub async fn attestation(
        &self,
        tenant: &str,
        id: Sha256,
        before: u64,
    ) -> Result<Option<AttestationRow>, StoreError> {
        let _ = (tenant, id, before);
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// The object that proves `node`, among the first `before` entries.
    pub async fn object(
        &self,
        tenant: &str,
        node: Node,
        before: u64,
    ) -> Result<Option<ObjectRow>, StoreError> {
        let _ = (tenant, node, before);
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// Objects that name `child` (indexes a manifest, manifests a config), at most `limit`.
    pub async fn parents(
        &self,
        tenant: &str,
        child: Node,
        before: u64,
        limit: u32,
    ) -> Result<Vec<ObjectRow>, StoreError> {
        let _ = (tenant, child, before, limit);
        Err(StoreError::Unavailable("not yet written".into()))
    }
}
