//! Vulnerability scans: in-toto vulns v0.1 and v0.2, and cosign's predicate with the scanner's own result inside.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Reader, Scan, judged::Found};
use crate::{
    dsse::within,
    json,
    mention::{Mention, Mentions, list, rank},
    refusal::Refusal,
};

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    scanner: Scanner<'a>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Scanner<'a> {
    uri: Option<String>,
    version: Option<String>,
    db: Option<Database>,
    /// in-toto lists findings; cosign carries what the scanner wrote.
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Database {
    last_update: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    scan_finished_on: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    id: Option<String>,
    #[serde(default, deserialize_with = "list")]
    aliases: Vec<String>,
    vulnerability: Option<Vulnerability>,
    #[serde(default)]
    severity: Option<Severities>,
    package: Option<Package>,
    component: Option<Package>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vulnerability {
    Id(String),
    /// As v0.1 says under its fields; its example has the members beside it.
    Object {
        id: Option<String>,
        severity: Option<Severities>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Severities {
    Text(String),
    One(Severity),
    Many(Vec<Severity>),
}

impl Severities {
    /// The worst of several.
    fn worst(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::One(severity) => severity.text(),
            Self::Many(list) => list.into_iter().filter_map(Severity::text).max_by_key(|text| rank(text)),
        }
    }
}

#[derive(Deserialize)]
struct Severity {
    method: Option<String>,
    score: Option<Score>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Score {
    Text(String),
    Number(f64),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Package {
    Purl(String),
    Object { purl: Option<String>, name: Option<String>, version: Option<String> },
}

/// trivy's `Results`, grype's `matches`.
#[derive(Deserialize)]
struct Report {
    #[serde(rename = "Results")]
    results: Option<Vec<TrivyTarget>>,
    matches: Option<Vec<GrypeMatch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyTarget {
    #[serde(default)]
    vulnerabilities: Option<Vec<TrivyFinding>>,
}

#[derive(Deserialize)]
struct TrivyFinding {
    #[serde(rename = "VulnerabilityID")]
    id: String,
    #[serde(rename = "PkgName")]
    name: Option<String>,
    #[serde(rename = "PkgIdentifier")]
    identifier: Option<TrivyIdentifier>,
    #[serde(rename = "InstalledVersion")]
    version: Option<String>,
    #[serde(rename = "Severity")]
    severity: Option<String>,
}

#[derive(Deserialize)]
struct TrivyIdentifier {
    #[serde(rename = "PURL")]
    purl: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GrypeMatch {
    vulnerability: GrypeVulnerability,
    #[serde(default, deserialize_with = "list")]
    related_vulnerabilities: Vec<Related>,
    artifact: Option<GrypeArtifact>,
}

#[derive(Deserialize)]
struct Related {
    id: String,
}

#[derive(Deserialize)]
struct GrypeVulnerability {
    id: String,
    severity: Option<String>,
}

#[derive(Deserialize)]
struct GrypeArtifact {
    purl: Option<String>,
    name: Option<String>,
    version: Option<String>,
}

/// One finding, whatever the scanner.
struct Hit {
    id: String,
    aliases: Vec<String>,
    severity: String,
    package: Mention,
}

/// Reads the predicate.
pub(super) fn read(reader: &Reader<'_>) -> Result<(Scan, Vec<Mention>), Refusal> {
    let wire: Wire<'_> = reader.parse()?;
    let read = |e: serde_json::Error| reader.refuse("/scanner/result", e.to_string());
    let mut findings = Mentions::default();
    let mut found = Found::default();
    let mut severities: BTreeMap<String, u64> = BTreeMap::new();
    let mut add = |hit: Hit| {
        let finding = hit.package.hit(&hit.id, &hit.severity);
        *severities.entry(finding.state.clone()).or_default() += 1;
        found.push(&hit.id, hit.aliases, &hit.severity, &hit.package);
        findings.push(finding)
    };
    let is_read = match wire.scanner.result.map(RawValue::get) {
        Some(text) if text.starts_with('[') => {
            let list: Vec<Listed> = json::loose(text).map_err(read)?;
            for (position, listed) in list.into_iter().enumerate() {
                let pointer = format!("/scanner/result/{position}");
                add(listed.hit().ok_or_else(|| reader.refuse(&pointer, "a finding without an id"))?)?;
            }
            true
        }
        Some(text) if text.starts_with('{') => {
            let report: Report = json::loose(text).map_err(read)?;
            let is_known = report.results.is_some() || report.matches.is_some();
            report.hits().try_for_each(add)?;
            is_known
        }
        // A scan whose result nobody here reads has found nothing that is known, which is not nothing.
        Some(_) | None => false,
    };
    within("severities", severities.len(), crate::limits::MAX_LEVELS)?;
    let scan = Scan {
        scanner: wire.scanner.uri.unwrap_or_default(),
        version: wire.scanner.version,
        database_updated: wire.scanner.db.and_then(|db| db.last_update?.parse().ok()),
        finished: wire.metadata.and_then(|m| m.scan_finished_on?.parse().ok()),
        severities: is_read.then_some(severities),
        findings: found.finish(),
    };
    Ok((scan, findings.finish()))
}

impl Hit {
    fn new(id: String, aliases: Vec<String>, severity: Option<String>, package: Mention) -> Self {
        Self { id, aliases, severity: severity.unwrap_or_default().to_lowercase(), package }
    }
}

impl Listed {
    fn hit(self) -> Option<Hit> {
        let (inner, inner_severity) = match self.vulnerability {
            Some(Vulnerability::Id(id)) => (Some(id), None),
            Some(Vulnerability::Object { id, severity }) => (id, severity),
            None => (None, None),
        };
        let severity = self.severity.or(inner_severity).and_then(Severities::worst);
        let package = match self.package.or(self.component) {
            Some(Package::Purl(purl)) => Mention::package(Some(&purl), "", None),
            Some(Package::Object { purl, name, version }) => {
                Mention::package(purl.as_deref(), name.as_deref().unwrap_or_default(), version.as_deref())
            }
            None => Mention::default(),
        };
        let id = self.id.or(inner).filter(|id| !id.is_empty())?;
        Some(Hit::new(id, self.aliases, severity, package))
    }
}

impl Severity {
    fn text(self) -> Option<String> {
        let score = match self.score? {
            Score::Text(text) => text,
            Score::Number(number) => number.to_string(),
        };
        // A bare number says little without its method.
        match (score.parse::<f64>(), self.method) {
            (Ok(_), Some(method)) => Some(format!("{method} {score}")),
            _ => Some(score),
        }
    }
}

impl Report {
    fn hits(self) -> impl Iterator<Item = Hit> {
        let targets = self.results.into_iter().flatten();
        let trivy = targets.flat_map(|target| target.vulnerabilities.unwrap_or_default()).map(|found| {
            let purl = found.identifier.and_then(|identifier| identifier.purl);
            let name = found.name.unwrap_or_default();
            let package = Mention::package(purl.as_deref(), &name, found.version.as_deref());
            Hit::new(found.id, Vec::new(), found.severity, package)
        });
        let grype = self.matches.into_iter().flatten().map(|found| {
            let package = found.artifact.map(|artifact| {
                let name = artifact.name.unwrap_or_default();
                Mention::package(artifact.purl.as_deref(), &name, artifact.version.as_deref())
            });
            let aliases = found.related_vulnerabilities.into_iter().map(|related| related.id).collect();
            let GrypeVulnerability { id, severity } = found.vulnerability;
            Hit::new(id, aliases, severity, package.unwrap_or_default())
        });
        trivy.chain(grype)
    }
}
