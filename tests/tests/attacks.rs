//! Attacks on statements, chains and the HTTP surface: each is a test named after its id in the catalogue, and
//! each stands beside a twin that is PASSED in the same process (K01). What a case is answered with is in
//! `acceptance::attacks::TABLE`.

#![expect(clippy::unwrap_used, reason = "this is test code")]

#[path = "attacks/admission.rs"]
mod admission;
#[path = "attacks/chain.rs"]
mod chain;
#[path = "attacks/control.rs"]
mod control;
#[path = "attacks/http.rs"]
mod http;
#[path = "attacks/keyless.rs"]
mod keyless;
#[path = "attacks/names.rs"]
mod names;
#[path = "attacks/oidc.rs"]
mod oidc;
#[path = "attacks/operations.rs"]
mod operations;
#[path = "attacks/policy.rs"]
mod policy;
#[path = "attacks/statement.rs"]
mod statement;
#[path = "attacks/trust_approvals.rs"]
mod trust_approvals;
