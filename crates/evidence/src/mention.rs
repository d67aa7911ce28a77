//! What statements say about packages and vulnerabilities, one row each, so that it is found again by package or
//! vulnerability. It is no part of the facts that verdicts read: an SBOM has thousands.

use crate::{limits::MAX_TEXT, purl::Purl};

/// A component of an SBOM, or a finding of a scan or a VEX document.
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
    /// A scan's severity, a VEX status; empty for a component.
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
            name: purl.as_ref().map_or(name, Purl::name).to_owned(),
            version: version.to_owned(),
            ..Self::default()
        }
    }

    /// Whether it can be found again: it names something, and nothing too long for an index.
    pub(crate) fn is_findable(&self) -> bool {
        let texts = [&self.package, &self.name, &self.version, &self.vulnerability, &self.state];
        let fits = |text: &String| text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
        let named = !self.package.is_empty() || !self.name.is_empty() || !self.vulnerability.is_empty();
        named && texts.into_iter().chain(&self.licences).chain(&self.hashes).all(fits)
    }
}
