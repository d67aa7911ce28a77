//! The Merkle log as arithmetic: leaves, tree hashes, proofs, tiles and signed checkpoints.
//!
//! Formats are RFC 6962 / RFC 9162 (hashes and proofs) and C2SP (`tlog-tiles`, `tlog-checkpoint`,
//! `signed-note`); `docs/log-format.md` specifies them with test vectors. This crate reads no clock,
//! makes no keys and stores nothing: the store decides where tiles lie, the server when to sign.

pub mod checkpoint;
pub mod leaf;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod tail;
pub mod tile;

#[cfg(test)]
mod doc_vectors;
#[cfg(test)]
mod oracle;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use leaf::{Body, Leaf, LeafError};
pub use merkle::{Frontier, Hash, HashError, leaf_hash, node_hash};
pub use note::{NoteError, Opened, Signer, Verifier};
pub use proof::{
    ProofError, needed_consistency, needed_inclusion, needed_root, prove_consistency, prove_inclusion,
    root_at, verify_consistency, verify_inclusion,
};
pub use tail::Tail;
pub use tile::{BundleId, Tile, TileError, TileId, TileSet, new_tiles, tiles_needed};
