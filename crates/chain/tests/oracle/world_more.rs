//! The part of a world that R5, R6 and R8 read.

use super::world::Signer;

/// Who may state a property.
#[derive(Debug, Clone)]
pub enum Speaker {
    Signer(Signer),
    /// Ids of builder rules.
    AnyOf(Vec<String>),
}

#[derive(Debug, Clone)]
pub struct Require {
    pub id: String,
    /// `test-result`, `svr`, `cyclonedx` or `vsa`.
    pub kinds: Vec<&'static str>,
    pub signer: Speaker,
    pub source: bool,
    pub per_platform: bool,
    pub at_least: Option<u32>,
    pub max_age: Option<i64>,
    pub result: Option<Vec<&'static str>>,
    pub properties: Option<Vec<String>>,
    pub mode: &'static str,
}

#[derive(Debug, Clone)]
pub struct VerifierRule {
    pub id: String,
    pub signer: Signer,
    /// `exact`, `prefix` or `glob`, and its text.
    pub verifier: (&'static str, String),
    pub policies: Vec<String>,
    pub max_level: Option<u8>,
    pub resources: Option<Vec<String>>,
    pub from: Option<i64>,
    pub until: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct SummarySection {
    pub from: Option<Vec<String>>,
    pub build: Option<u8>,
    pub max_age: Option<i64>,
    pub depth: Option<u32>,
}

/// What a policy says beside how the image was made.
#[derive(Debug, Clone, Default)]
pub struct More {
    pub require: Vec<Require>,
    pub verifiers: Vec<VerifierRule>,
    pub summary: Option<SummarySection>,
    pub failed_tests: Option<Speaker>,
    /// Ids of verifier rules; all when absent.
    pub failed_summaries: Option<Option<Vec<String>>>,
}

impl More {
    pub fn has_negatives(&self) -> bool {
        self.failed_tests.is_some() || self.failed_summaries.is_some()
    }
}

/// A verification summary of an image.
#[derive(Debug, Clone)]
pub struct Vsa {
    pub verifier: String,
    pub resource: String,
    pub policy: String,
    pub passed: bool,
    pub build: Option<u8>,
    pub source: Option<u8>,
    /// Whether it states two build levels.
    pub twice: bool,
    pub verified: Option<i64>,
}
