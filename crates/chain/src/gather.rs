//! What a verdict reads, and how it is fetched frontier by frontier.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::{
    KeyId,
    attestation::Attestation,
    digest::{Digest, Node, Sha256},
    object::Object,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A fact and its place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logged<T> {
    /// Index of its entry.
    pub index: u64,
    /// Time of its entry: our upper bound for when it was signed.
    pub received_at: Timestamp,
    /// The fact.
    pub fact: T,
}

/// The evidence in `log[0..N)` that can matter to one question. Filled by the caller; [`crate::evaluate()`] only reads.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Attestations by id. Must hold, for every wanted node, all attestations about it that a wanted signer
    /// vouches for, and may hold others (near misses).
    pub attestations: BTreeMap<Sha256, Logged<Attestation>>,
    /// Objects by the node that they prove.
    pub objects: BTreeMap<Node, Logged<Object>>,
    /// Known indexes that contain a manifest: child digest to index digests.
    pub parents: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Nodes whose attestations were cut at the store's limit: whatever needs them is INDETERMINATE.
    pub truncated: BTreeSet<Node>,
    /// Evidence whose stored bytes no longer match their hash: it counts as absent and is named (SYS_INTEGRITY_VIOLATION).
    pub damaged: BTreeSet<Sha256>,
}

/// One frontier: what the store is asked for in one round trip.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Want {
    /// For each node: its object, its parent indexes, the attestations with it as a subject.
    pub nodes: Vec<Node>,
    /// Signers that some policy trusts for some role: their attestations are loaded up to the budget
    /// (1,000 a node); of all others the first 20 by log index are loaded for near misses.
    pub signers: Vec<KeyId>,
}

/// Says what to fetch next.
#[derive(Debug)]
pub struct Gather;
