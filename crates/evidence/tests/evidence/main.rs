//! The two ways in, from outside: `attestation::verify` and `object::read`.

mod common;
mod envelope;
mod objects;
