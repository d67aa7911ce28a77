//! Development only: signers and builders that write wire bytes themselves.
//!
//! Nothing here depends on Catenary's own crates, so a parser and this writer check each other. What can be
//! deterministic is: keys come from their names and git and OCI bytes from their arguments; only ECDSA and
//! RSA-PSS signatures differ from run to run. Builders panic on nonsense, as test code may.

pub mod authority;
pub mod ci_run;
pub mod commit;
mod der;
pub mod dsse;
pub mod git;
pub mod key;
pub mod oci;
pub mod provenance;
pub mod registry;
mod ssh;
pub mod statement;
mod tar;
pub mod time;
pub mod world;

pub use crate::{
    dsse::{Alphabet, Envelope},
    key::{Key, Scheme},
    oci::Platform,
    statement::{Statement, Subject},
    world::World,
};

/// SHA-256 of bytes, in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}

/// SHA-512 of bytes, in hex.
pub fn sha512_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha512::digest(bytes))
}
