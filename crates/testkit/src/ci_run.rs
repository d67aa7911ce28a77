//! `urn:catenary:predicate:ci-run:v1`: how a CI run ended.

use serde_json::{Value, json};

use crate::{
    statement::{Statement, Subject},
    time::rfc3339,
};

/// The predicate type.
pub const PREDICATE_TYPE: &str = "urn:catenary:predicate:ci-run:v1";

/// A CI run's end.
#[derive(Debug, Clone, PartialEq)]
pub struct CiRun {
    /// The statement's subjects: what the run produced.
    pub subjects: Vec<Subject>,
    /// The invocation id, as the provenance spells it.
    pub invocation: String,
    /// `success`, `failure`, …
    pub conclusion: String,
    /// Unix seconds.
    pub finished_on: Option<i64>,
}

impl CiRun {
    /// The predicate.
    pub fn predicate(&self) -> Value {
        let mut value = json!({"invocation": self.invocation, "conclusion": self.conclusion});
        if let Some(finished) = self.finished_on {
            value["finishedOn"] = rfc3339(finished).into();
        }
        value
    }

    /// The statement.
    pub fn statement(&self) -> Statement {
        Statement::new(PREDICATE_TYPE, self.predicate()).with_subjects(self.subjects.clone())
    }
}
