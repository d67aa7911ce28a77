//! The store on a real Postgres: the log, the evidence, and what happens when someone changes a row.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod evidence;
mod log;
mod migrations;
mod proofs;
mod tamper;
mod trust;
mod watched;
