//! Reason codes: stable API (chain-model 2.2).

use catenary_evidence::Sha256;
use serde::{Deserialize, Serialize};

/// One thing that is wrong (or worth a warning), with what mends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// The stable code.
    pub code: Code,
    /// `error`, `warning`, `info`.
    pub severity: Severity,
    /// The link it belongs to.
    pub stage: String,
    /// The node it is about.
    pub node: String,
    /// The policy member that asked for it, for example `source.refs`.
    pub rule: String,
    /// For people; not stable.
    pub message: String,
    /// What the policy wants.
    pub expected: serde_json::Value,
    /// What was found.
    pub actual: serde_json::Value,
    /// Ids of the evidence concerned.
    pub evidence: Vec<Sha256>,
    /// Whether waiting may help.
    pub retryable: bool,
    /// How to mend it.
    pub remediation: Remediation,
}

/// How to mend a broken link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remediation {
    /// One sentence.
    pub hint: String,
    /// Where to read more: `/docs/reasons/<CODE>`.
    pub doc: String,
}

/// How bad a reason is. Only errors break a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Breaks the chain.
    Error,
    /// Worth a look.
    Warning,
    /// For information.
    Info,
}

/// Stable reason codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum Code {
    /// No policy selects the resource.
    PolNoMatch,
}
