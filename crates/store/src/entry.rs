//! What goes into a log, what comes out, and its head.

use catenary_chain::control;
use catenary_evidence::{attestation::Attestation, digest::Sha256, object::Object};
use catenary_tlog::{Hash, Leaf, LeafError};
use jiff::Timestamp;

/// Something to be logged. `submitter` is SHA-256 of the submitting credential's public id; all zeros
/// where the service itself writes.
#[derive(Debug, Clone)]
pub enum New {
    /// An envelope and what verifying it gave.
    Attestation {
        /// Exactly as sent.
        bytes: Vec<u8>,
        /// The facts, with `id` = SHA-256 of `bytes`.
        facts: Box<Attestation>,
        /// Who sent it.
        submitter: Sha256,
        /// Size of the log prefix whose keys it was verified with: if a key was registered since, it is
        /// not logged but answered [`crate::StoreError::KeysMoved`], so that no evidence misses a new key.
        keys_at: u64,
    },
    /// Content-addressed bytes.
    Object {
        /// Exactly as sent.
        bytes: Vec<u8>,
        /// As sent, or as the document says.
        media_type: String,
        /// The facts, with `id` = SHA-256 of `bytes`.
        facts: Box<Object>,
        /// Who sent it.
        submitter: Sha256,
        /// As for attestations: git signatures are verified with keys, too.
        keys_at: u64,
    },
    /// A control entry. Its body is its JSON.
    Control {
        /// The entry.
        entry: Box<control::Entry>,
        /// Who asked for it.
        submitter: Sha256,
    },
}

/// Where an item is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// SHA-256 of the exact bytes.
    pub id: Sha256,
    /// Index of its entry.
    pub index: u64,
    /// Time of its entry.
    pub time: Timestamp,
    /// Whether this call made the entry; `false` for what was known before.
    pub created: bool,
    /// Size of a committed log that holds the entry.
    pub size_after: u64,
    /// The leaf, as hashed into the tree.
    pub leaf: Vec<u8>,
}

/// The committed end of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Name of the log, fixed in entry 0.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree of that size.
    pub root: Hash,
    /// Time of the last entry.
    pub time: Timestamp,
}

/// One entry as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRow {
    /// Its index.
    pub index: u64,
    /// SHA-256 of the item's exact bytes.
    pub id: Sha256,
    /// The leaf's kind.
    pub kind: String,
    /// The leaf, as hashed into the tree.
    pub leaf: Vec<u8>,
}

impl EntryRow {
    /// Reads the leaf.
    pub fn decode(&self) -> Result<Leaf, LeafError> {
        Leaf::decode(&self.leaf)
    }
}

/// A tree hash as the id that it is when it hashes plain bytes.
pub(crate) fn id_of(hash: Hash) -> Sha256 {
    Sha256(hash.0)
}

/// Postgres has no unsigned integers; indexes stay far below 2^62.
pub(crate) fn to_sql(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The way back. Checks in the tables keep such columns from being negative.
pub(crate) fn from_sql(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
