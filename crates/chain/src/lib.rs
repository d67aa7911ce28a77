//! Facts and policy to a verdict.
//!
//! [`evaluate`] is a pure function of (question, control state, evidence, now): the same prefix of the log
//! and the same time give the same verdict on any machine. It reads nothing but its arguments; what it
//! needs is fetched before by [`Gather`], which says frontier by frontier which nodes it wants.
//! Cryptography is `catenary-evidence`'s business, storage `catenary-store`'s.

pub mod consent;
pub mod context;
pub mod control;
pub mod evaluate;
pub mod exception;
pub mod expr;
#[cfg(feature = "faults")]
pub mod faults;
pub mod gather;
pub mod life;
pub mod pin;
pub mod policy;
pub mod reason;
pub mod revocation;
pub mod verdict;
pub mod vsa;

pub use control::Control;
pub use evaluate::{ENGINE, evaluate, known_resources};
pub use gather::{Evidence, Gather, ReadSet, Want};
pub use policy::{Policy, PolicyError};
pub use reason::{Code, Reason};
pub use verdict::{Outcome, Question, Verdict};
