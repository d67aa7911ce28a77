//! What a policy wants to be known of the image beside how it was made (`require`), and what may speak against it
//! (`negatives`).

use std::collections::BTreeMap;

use catenary_evidence::predicate::{self, Claim, Severity};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::expr::Assert;

use super::{
    document::{Mode, Signer, SignerWire, duration},
    glob::Matcher,
};

/// One of `require`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Require {
    /// The rule's id.
    pub id: String,
    /// Statements of any of these kinds serve.
    pub predicate: Vec<Kind>,
    /// Whose signature; that of the builders whom `build` takes when absent.
    #[serde(default = "builders")]
    pub signer: Speaker,
    /// What the statement is about.
    #[serde(default)]
    pub subject: About,
    /// Whether each platform of an index needs a statement of its own.
    #[serde(default)]
    pub per_platform: bool,
    /// How many distinct signers; one when absent.
    pub at_least: Option<u32>,
    /// How old the statement may be.
    #[serde(default, deserialize_with = "duration")]
    pub max_age: Option<SignedDuration>,
    /// Accepted results; `PASSED` when absent.
    pub result: Option<Vec<Grade>>,
    /// Which verifier an SVR or a VSA must be of: a signer may not speak for every one.
    pub verifier_id: Option<Matcher>,
    /// What an SVR, a SCAI report or a VSA must say.
    pub properties: Option<Vec<String>>,
    /// How many findings a scan may have.
    pub vulnerabilities: Option<Vulnerabilities>,
    /// What must be true of the statement.
    #[serde(default)]
    pub assert: Vec<Assert>,
    /// What it means when nothing serves.
    #[serde(default)]
    pub mode: Mode,
}

impl Require {
    /// Whether the rule asks for an SBOM and nothing else.
    pub fn is_of_sbom(&self) -> bool {
        self.predicate.iter().all(|kind| matches!(kind, Kind::Spdx | Kind::Cyclonedx))
    }

    /// Whether a statement is of a verifier that the rule takes. One that names none is of no such verifier.
    pub fn takes_verifier(&self, claim: &Claim) -> bool {
        let Some(matcher) = &self.verifier_id else { return true };
        match claim {
            Claim::Verification(result) => matcher.matches(&result.verifier_id),
            Claim::Summary(summary) => matcher.matches(&summary.verifier_id),
            _ => false,
        }
    }

    /// From how many distinct signers.
    pub fn signers(&self) -> usize {
        self.at_least.unwrap_or(1) as usize
    }
}

/// A speaker that is not given. A parsed policy has the builders in its place.
fn builders() -> Speaker {
    Speaker::AnyOf(Vec::new())
}

/// Kinds of statement, by short names or by the whole predicate type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An SPDX document of any version.
    Spdx,
    /// A CycloneDX document of any version.
    Cyclonedx,
    /// A vulnerability scan.
    Vulns,
    /// An OpenVEX document.
    Vex,
    /// An in-toto test result.
    TestResult,
    /// A SCAI attribute report.
    Scai,
    /// An in-toto release.
    Release,
    /// An in-toto runtime trace.
    RuntimeTrace,
    /// A simple verification result.
    Svr,
    /// A SLSA verification summary.
    Vsa,
    /// A predicate type, byte for byte.
    Type(String),
}

impl Kind {
    /// The short names.
    const NAMES: [(&'static str, Self); 10] = [
        ("spdx", Self::Spdx),
        ("cyclonedx", Self::Cyclonedx),
        ("vulns", Self::Vulns),
        ("vex", Self::Vex),
        ("test-result", Self::TestResult),
        ("scai", Self::Scai),
        ("release", Self::Release),
        ("runtime-trace", Self::RuntimeTrace),
        ("svr", Self::Svr),
        ("vsa", Self::Vsa),
    ];

    /// As in the document.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Type(uri) => uri,
            other => Self::NAMES.iter().find(|(_, kind)| kind == other).map_or("", |(name, _)| name),
        }
    }

    /// Whether a statement is of this kind.
    pub fn is_of(&self, predicate_type: &str, claim: &Claim) -> bool {
        let versioned = |base: &str| {
            predicate_type.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match self {
            Self::Spdx => versioned(predicate::SPDX),
            Self::Cyclonedx => versioned(predicate::CYCLONEDX),
            Self::Vulns => matches!(claim, Claim::Scan(_)),
            Self::Vex => matches!(claim, Claim::Vex(_)),
            Self::TestResult => matches!(claim, Claim::Test(_)),
            Self::Scai => matches!(claim, Claim::Attributes(_)),
            Self::Release => matches!(claim, Claim::Release(_)),
            Self::RuntimeTrace => matches!(claim, Claim::Trace(_)),
            Self::Svr => matches!(claim, Claim::Verification(_)),
            Self::Vsa => matches!(claim, Claim::Summary(_)),
            Self::Type(uri) => uri == predicate_type,
        }
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = Self::NAMES.into_iter().find(|(name, _)| *name == text);
        match known {
            Some((_, kind)) => Ok(kind),
            None if text.contains(':') => Ok(Self::Type(text)),
            None => Err(D::Error::custom(format!(
                "`{text}` is neither a predicate type (a URI) nor one of {}",
                Self::NAMES.map(|(name, _)| name).join(", ")
            ))),
        }
    }
}

/// A [`Signer`], or `{anyOf: [ids of trust.builders]}`.
#[derive(Debug, Clone)]
pub enum Speaker {
    /// Whoever the rule names.
    Signer(Signer),
    /// Signers of these builder rules; those of one domain count once.
    AnyOf(Vec<String>),
}

impl<'de> Deserialize<'de> for Speaker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut wire = SignerWire::deserialize(deserializer)?;
        match wire.any_of.take() {
            None => wire.signer().map(Self::Signer).map_err(D::Error::custom),
            Some(ids) if wire.is_empty() && !ids.is_empty() => Ok(Self::AnyOf(ids)),
            Some(_) => Err(D::Error::custom("`anyOf` stands alone and lists ids of `trust.builders`")),
        }
    }
}

/// What a required statement is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum About {
    /// The image.
    #[default]
    Artifact,
    /// The commit that trusted builds name.
    Source,
}

/// Results of tests and verification summaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Grade {
    /// All is well.
    Passed,
    /// Nearly.
    Warned,
    /// It is not.
    Failed,
}

impl Grade {
    /// As in the document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Warned => "WARNED",
            Self::Failed => "FAILED",
        }
    }
}

/// `require[].vulnerabilities`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vulnerabilities {
    /// The most findings by severity. One without a limit of its own counts against the next lower limit; one of unknown
    /// severity without a limit of its own as critical.
    pub max: BTreeMap<Severity, u32>,
    /// Whether VEX statements of `trust.vex` excuse findings.
    #[serde(default)]
    pub vex: Honour,
}

impl Vulnerabilities {
    /// The limit that a finding counts against.
    pub fn limit(&self, severity: Severity) -> Option<Severity> {
        let asked = match severity {
            Severity::Unknown if self.max.contains_key(&Severity::Unknown) => return Some(severity),
            Severity::Unknown => Severity::Critical,
            known => known,
        };
        let known = self.max.keys().filter(|limit| **limit != Severity::Unknown);
        known.filter(|limit| **limit <= asked).max().copied()
    }
}

/// `require[].vulnerabilities.vex`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Honour {
    /// Findings count, whatever VEX says.
    #[default]
    Ignore,
    /// Those that trusted VEX statements excuse do not.
    Honour,
}

/// One of `trust.vex`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VexRule {
    /// The rule's id.
    pub id: String,
    /// Whose signature.
    pub signer: Signer,
    /// Statements received from here on.
    pub valid_from: Option<Timestamp>,
    /// Statements received before.
    pub valid_until: Option<Timestamp>,
}

/// `negatives`: what breaks the chain although nothing is missing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Negatives {
    /// An `affected` in a VEX document.
    pub vex: Option<From>,
    /// A test result FAILED.
    pub tests: Option<Tests>,
    /// A verification summary FAILED.
    pub summaries: Option<From>,
}

impl Negatives {
    /// Whether it asks for anything.
    pub fn is_empty(&self) -> bool {
        self.vex.is_none() && self.tests.is_none() && self.summaries.is_none()
    }
}

/// Which rules of the list in `trust`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct From {
    /// Their ids; all when absent.
    pub from: Option<Vec<String>>,
}

impl From {
    /// Whether the rule with this id is meant.
    pub fn names(&self, id: &str) -> bool {
        self.from.as_ref().is_none_or(|ids| ids.iter().any(|known| known == id))
    }
}

/// `negatives.tests`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tests {
    /// Whose signature.
    pub signer: Speaker,
}
