//! CycloneDX 1.0 to 1.7.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Document, hash, licence};
use crate::{dsse::within, limits::MAX_MENTIONS, mention::Mention, predicate::Sbom, refusal::Refusal};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    spec_version: String,
    metadata: Option<Metadata>,
    #[serde(default)]
    components: Vec<Component>,
    #[serde(default)]
    vulnerabilities: Vec<Vulnerability>,
}

#[derive(Deserialize)]
struct Metadata {
    timestamp: Option<String>,
    component: Option<Component>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(rename = "bom-ref")]
    reference: Option<String>,
    #[serde(default)]
    name: String,
    version: Option<String>,
    purl: Option<String>,
    #[serde(default)]
    licenses: Vec<Licence>,
    #[serde(default)]
    hashes: Vec<Hash>,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Licence {
    expression: Option<String>,
    license: Option<NamedLicence>,
}

#[derive(Deserialize)]
struct NamedLicence {
    id: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Hash {
    alg: String,
    content: String,
}

#[derive(Deserialize)]
struct Vulnerability {
    #[serde(default)]
    id: String,
    #[serde(default)]
    ratings: Vec<Rating>,
    analysis: Option<Analysis>,
    #[serde(default)]
    affects: Vec<Affected>,
}

#[derive(Deserialize)]
struct Rating {
    severity: Option<String>,
}

#[derive(Deserialize)]
struct Analysis {
    state: Option<String>,
}

#[derive(Deserialize)]
struct Affected {
    #[serde(rename = "ref")]
    reference: Option<String>,
}

pub(super) fn read(document: &Document<'_>) -> Result<(Sbom, Vec<Mention>), Refusal> {
    let wire: Wire = document.parse()?;
    let minor = wire.spec_version.strip_prefix("1.").and_then(|minor| minor.parse::<u8>().ok());
    if minor.is_none() {
        return Err(document.reader.refuse("/specVersion", "it is not 1.x"));
    }
    let mut mentions = Vec::new();
    let mut by_reference: BTreeMap<&str, Mention> = BTreeMap::new();
    // Components hold components; their depth is bounded by that of the JSON.
    let mut open: Vec<&Component> = wire.components.iter().collect();
    let mut count = 0;
    while let Some(component) = open.pop() {
        count += 1;
        within("packages and findings", count, MAX_MENTIONS)?;
        open.extend(&component.components);
        let mention = component.mention();
        if let Some(reference) = &component.reference {
            by_reference.insert(reference, mention.clone());
        }
        mentions.push(mention);
    }
    for vulnerability in &wire.vulnerabilities {
        let severity = vulnerability.ratings.iter().find_map(|rating| rating.severity.clone());
        let analysis = vulnerability.analysis.as_ref().and_then(|analysis| analysis.state.clone());
        let state = analysis.or(severity).unwrap_or_default();
        let about = |package: Mention| Mention {
            vulnerability: vulnerability.id.clone(),
            state: state.clone(),
            licences: Vec::new(),
            hashes: Vec::new(),
            ..package
        };
        let affected = vulnerability.affects.iter().filter_map(|a| by_reference.get(a.reference.as_deref()?));
        let found: Vec<Mention> = affected.cloned().map(about).collect();
        match found.is_empty() {
            true => mentions.push(about(Mention::default())),
            false => mentions.extend(found),
        }
    }
    let metadata = wire.metadata.as_ref();
    let sbom = Sbom {
        format: format!("cyclonedx-{}", wire.spec_version),
        name: metadata.and_then(|m| m.component.as_ref()).map(|component| component.name.clone()),
        created: metadata.and_then(|m| m.timestamp.as_ref()?.parse().ok()),
        components: count as u64,
    };
    Ok((sbom, mentions))
}

impl Component {
    fn mention(&self) -> Mention {
        let name = |named: &NamedLicence| named.id.clone().or_else(|| named.name.clone());
        let text = |l: &Licence| licence(l.expression.clone().or_else(|| l.license.as_ref().and_then(name)));
        Mention {
            licences: self.licenses.iter().filter_map(text).collect(),
            hashes: self.hashes.iter().map(|h| hash(&h.alg, &h.content)).collect(),
            ..Mention::package(self.purl.as_deref(), &self.name, self.version.as_deref())
        }
    }
}
