//! Hostile bytes in, verified facts out.
//!
//! This crate knows what an envelope, a statement, a predicate, an image manifest and a git commit are,
//! and how each is proved. It has no clock, no network, no SQL and no async: time is an argument.
//! What a fact is *worth* is decided by `catenary-chain`; where it is kept, by `catenary-store`.
//!
//! The two ways in are [`attestation::verify`] (signed statements) and [`object::read`] (bytes that
//! prove themselves by their hash).

pub mod allowed_signers;
pub mod attestation;
pub mod digest;
pub mod dsse;
pub mod form;
pub mod json;
pub mod key;
pub mod keyless;
pub mod layout;
pub mod limits;
pub mod mention;
pub mod object;
#[cfg(feature = "gpg")]
mod openpgp;
pub mod predicate;
pub mod purl;
pub mod reference;
pub mod refusal;
pub mod signer;
mod spki;
pub mod statement;
mod tagged;
pub mod trust;
pub mod trust_root;
pub mod version;
pub mod witness;

pub use attestation::Attestation;
pub use digest::{Digest, GitOid, Node, Sha256};
pub use key::{KeyId, KeyRing, PublicKey, Scheme};
pub use refusal::Refusal;
pub use signer::{Identity, Signature, Signer};
pub use trust::Trust;
