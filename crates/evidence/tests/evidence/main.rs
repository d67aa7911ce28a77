//! The two ways in, from outside: `attestation::verify` and `object::read`.
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod common;
mod envelope;
mod keyless;
mod limits;
mod objects;
mod openpgp;
mod predicates;
mod samples;
mod schemas;
