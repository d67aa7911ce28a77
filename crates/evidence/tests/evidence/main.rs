//! The two ways in, from outside: `attestation::verify` and `object::read`.
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod build_types;
mod bundles;
mod common;
mod corpus;
mod envelope;
mod keyless;
mod layouts;
mod limits;
mod mutate;
mod objects;
mod openpgp;
mod predicates;
mod properties;
mod samples;
mod schemas;
mod second_opinion;
mod source_claims;
mod witness;
