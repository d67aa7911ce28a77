//! What statements say about packages and vulnerabilities, one row each, so that it is found again by package or
//! vulnerability. It is no part of the facts that verdicts read: an SBOM has thousands.

use serde::{Deserialize, Deserializer};

use crate::{
    digest::Node,
    limits::{MAX_MENTION_BYTES, MAX_MENTIONS, MAX_TEXT},
    purl::Purl,
    refusal::Refusal,
};

/// The most licences, and the most hashes, of one package that are kept.
pub(crate) const MAX_LISTED: usize = 16;

/// A component of an SBOM, an input of a build, or a finding of a scan or a VEX document.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mention {
    /// `pkg:type/namespace/name`; empty without a package URL.
    pub package: String,
    /// The package's name.
    pub name: String,
    /// Its version; may be empty.
    pub version: String,
    /// The vulnerability's id; empty for a component.
    pub vulnerability: String,
    /// A scan's severity, a VEX status, what a build used it as; empty for a component.
    pub state: String,
    /// Licence expressions.
    pub licences: Vec<String>,
    /// `algorithm:hex`.
    pub hashes: Vec<String>,
}

impl Mention {
    /// A package by its URL, or by its name when there is none that can be read.
    pub(crate) fn package(purl: Option<&str>, name: &str, version: Option<&str>) -> Self {
        let purl = purl.and_then(|text| Purl::parse(text).ok());
        let version = purl.as_ref().and_then(Purl::version).or(version).unwrap_or_default();
        Self {
            package: purl.as_ref().map(Purl::package).unwrap_or_default(),
            name: fit(purl.as_ref().map_or(name, Purl::name)),
            version: fit(version),
            ..Self::default()
        }
    }

    /// What a build used, by its digest: that is its name.
    pub(crate) fn input(uri: &str, node: &Node, role: &str) -> Self {
        let purl = Purl::parse(uri).ok();
        Self {
            package: purl.as_ref().map(Purl::package).unwrap_or_default(),
            name: node.to_string(),
            version: fit(purl.as_ref().and_then(Purl::version).unwrap_or_default()),
            state: role.to_owned(),
            ..Self::default()
        }
    }

    /// Adds licences, as many as are kept.
    pub(crate) fn licensed<'a>(mut self, licences: impl IntoIterator<Item = &'a str>) -> Self {
        self.licences = listed(licences);
        self
    }

    /// Adds hashes, as many as are kept.
    pub(crate) fn hashed<'a>(mut self, hashes: impl IntoIterator<Item = &'a str>) -> Self {
        self.hashes = listed(hashes);
        self
    }

    /// The same package, with a vulnerability; nothing when that has no name that can be kept.
    pub(crate) fn hit(&self, vulnerability: &str, state: &str) -> Self {
        let vulnerability = fit(vulnerability);
        if vulnerability.is_empty() {
            return Self::default();
        }
        Self {
            package: self.package.clone(),
            name: self.name.clone(),
            version: self.version.clone(),
            vulnerability,
            state: fit(state),
            ..Self::default()
        }
    }

    fn is_findable(&self) -> bool {
        !self.package.is_empty() || !self.name.is_empty() || !self.vulnerability.is_empty()
    }

    fn bytes(&self) -> usize {
        let texts = [&self.package, &self.name, &self.version, &self.vulnerability, &self.state];
        texts.into_iter().chain(&self.licences).chain(&self.hashes).map(String::len).sum()
    }
}

/// A text that an index can hold, on one line; one that is too long says nothing.
fn fit(text: &str) -> String {
    if text.len() > MAX_TEXT {
        return String::new();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn listed<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    texts.into_iter().take(MAX_LISTED).map(fit).filter(|text| !text.is_empty()).collect()
}

/// The mentions of one document, within bounds: a short document can repeat a long name very often.
#[derive(Default)]
pub(crate) struct Mentions {
    rows: Vec<Mention>,
    bytes: usize,
}

impl Mentions {
    pub(crate) fn push(&mut self, mention: Mention) -> Result<(), Refusal> {
        let what = "packages and findings";
        if self.rows.len() >= MAX_MENTIONS {
            return Err(Refusal::TooMany { what, count: self.rows.len() + 1, limit: MAX_MENTIONS });
        }
        self.bytes += mention.bytes();
        if self.bytes > MAX_MENTION_BYTES {
            return Err(Refusal::TooLarge { what, size: self.bytes, limit: MAX_MENTION_BYTES });
        }
        self.rows.push(mention);
        Ok(())
    }

    /// Those that can be found again, sorted, each once.
    pub(crate) fn finish(self) -> Vec<Mention> {
        let mut rows = self.rows;
        rows.retain(Mention::is_findable);
        rows.sort();
        rows.dedup();
        rows
    }
}

/// A list that may be `null`, as Go writes an empty one.
pub(crate) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// How bad a severity is, in words or as a CVSS score.
pub(crate) fn rank(severity: &str) -> u8 {
    match severity.to_ascii_lowercase().as_str() {
        "critical" => 5,
        "high" | "important" => 4,
        "medium" | "moderate" => 3,
        "low" => 2,
        "negligible" | "info" | "none" => 1,
        text => match text.rsplit(' ').next().unwrap_or_default().parse::<f64>() {
            Ok(score) if score >= 9.0 => 5,
            Ok(score) if score >= 7.0 => 4,
            Ok(score) if score >= 4.0 => 3,
            Ok(score) if score > 0.0 => 2,
            _ => 0,
        },
    }
}
