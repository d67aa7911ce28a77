//! What of scans and VEX documents a verdict reads: bounded, because it is part of the facts of each.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    limits::{MAX_JUDGED, MAX_JUDGED_BYTES, MAX_TEXT},
    mention::{Mention, rank},
};

/// The most other names of one finding: all of them must be excused for the finding to be.
const MAX_ALIASES: usize = 16;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The scanner did not say, or not so that it can be read.
    Unknown,
    /// Hardly.
    Negligible,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

impl Severity {
    /// Reads a word or a CVSS score.
    pub fn read(text: &str) -> Self {
        match rank(text) {
            5 => Self::Critical,
            4 => Self::High,
            3 => Self::Medium,
            2 => Self::Low,
            1 => Self::Negligible,
            _ => Self::Unknown,
        }
    }

    /// As in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Negligible => "negligible",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// A vulnerability of a package, as a scan found it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// The vulnerability's id; empty when it has none that can be kept, so that nothing excuses it.
    pub id: String,
    /// Its other names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// How bad.
    pub severity: Severity,
    /// `pkg:type/namespace/name@version`, or the package's name without a package URL; may be empty.
    pub package: String,
}

/// The findings of a scan that were kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Sorted, each once.
    pub list: Vec<Finding>,
    /// Whether there are others: what rests on all of them cannot be decided.
    pub more: bool,
}

/// One statement of a VEX document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VexStatement {
    /// The vulnerability's name and its aliases.
    pub names: Vec<String>,
    /// What it means for the products.
    pub status: VexStatus,
    /// Why not, in OpenVEX's own words: free text excuses nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<String>,
    /// About what; the subjects of the attestation when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub products: Vec<VexProduct>,
    /// Since when: the statement's own time, else the document's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<Timestamp>,
}

/// A product of a VEX statement.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VexProduct {
    /// Its ids, package URLs, and digests as `algorithm:hex`.
    pub names: Vec<String>,
    /// Ids and package URLs of its parts, when the statement is about these alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<String>>,
}

/// What a vulnerability means for a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VexStatus {
    /// It does not touch it.
    NotAffected,
    /// It does.
    Affected,
    /// It did.
    Fixed,
    /// Nobody knows yet.
    UnderInvestigation,
}

/// The statements of a VEX document that were kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VexStatements {
    /// In the order of the document.
    pub list: Vec<VexStatement>,
    /// Whether there are others: what rests on all of them cannot be decided.
    pub more: bool,
}

/// How much of a document is kept still.
pub(super) struct Room {
    left: usize,
    bytes: usize,
    pub(super) more: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self { left: MAX_JUDGED, bytes: MAX_JUDGED_BYTES, more: false }
    }
}

impl Room {
    /// Whether texts of one more entry fit; once one does not, none does.
    fn takes<'a>(&mut self, texts: impl Iterator<Item = &'a String>) -> bool {
        let (count, bytes) = texts.fold((0, 0), |(count, bytes), text| (count + 1, bytes + text.len()));
        if self.more || count.max(1) > self.left || bytes > self.bytes {
            self.more = true;
            return false;
        }
        self.left -= count.max(1);
        self.bytes -= bytes;
        true
    }
}

/// Collects findings.
#[derive(Default)]
pub(super) struct Found {
    list: Vec<Finding>,
    bytes: usize,
    more: bool,
}

impl Found {
    pub(super) fn push(&mut self, id: &str, aliases: Vec<String>, severity: &str, package: &Mention) {
        let listed = match package.package.as_str() {
            "" => package.name.clone(),
            purl if package.version.is_empty() => purl.to_owned(),
            purl => format!("{purl}@{}", package.version),
        };
        let id = if id.len() > MAX_TEXT { String::new() } else { id.to_owned() };
        let mut aliases: Vec<String> = aliases.into_iter().filter(|alias| *alias != id).collect();
        aliases.sort();
        aliases.dedup();
        let bytes = id.len() + listed.len() + aliases.iter().map(String::len).sum::<usize>();
        let fits = self.list.len() < MAX_JUDGED
            && self.bytes + bytes <= MAX_JUDGED_BYTES
            && aliases.len() <= MAX_ALIASES;
        if self.more || !fits {
            self.more = true;
            return;
        }
        self.bytes += bytes;
        self.list.push(Finding { id, aliases, severity: Severity::read(severity), package: listed });
    }

    pub(super) fn finish(mut self) -> Findings {
        self.list.sort();
        self.list.dedup();
        Findings { list: self.list, more: self.more }
    }
}

impl VexStatements {
    pub(super) fn push(&mut self, statement: VexStatement, room: &mut Room) {
        let products = statement.products.iter();
        let of_products = products.flat_map(|p| p.names.iter().chain(p.parts.iter().flatten()));
        if room.takes(statement.names.iter().chain(of_products)) {
            self.list.push(statement);
        }
        self.more = room.more;
    }
}
