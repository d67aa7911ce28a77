//! CycloneDX 1.0 to 1.7.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Document, hash, licence};
use crate::{
    mention::{MAX_LISTED, Mention, Mentions, list, rank},
    predicate::Sbom,
    refusal::Refusal,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    spec_version: String,
    metadata: Option<Metadata>,
    #[serde(default, deserialize_with = "list")]
    components: Vec<Component>,
    #[serde(default, deserialize_with = "list")]
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
    #[serde(default, deserialize_with = "list")]
    licenses: Vec<Licence>,
    #[serde(default, deserialize_with = "list")]
    hashes: Vec<Hash>,
    #[serde(default, deserialize_with = "list")]
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
    #[serde(default, deserialize_with = "list")]
    ratings: Vec<Rating>,
    analysis: Option<Analysis>,
    #[serde(default, deserialize_with = "list")]
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

pub(super) fn read(document: &Document<'_>) -> Result<(Sbom, Mentions), Refusal> {
    let wire: Wire = document.parse()?;
    let minor = wire.spec_version.strip_prefix("1.").and_then(|minor| minor.parse::<u8>().ok());
    if minor.is_none() {
        return Err(document.reader.refuse("/specVersion", "it is not 1.x"));
    }
    let mut mentions = Mentions::default();
    let mut by_reference: BTreeMap<&str, &Component> = BTreeMap::new();
    // Components hold components; their depth is bounded by that of the JSON.
    let mut open: Vec<&Component> = wire.components.iter().collect();
    let mut count = 0;
    while let Some(component) = open.pop() {
        count += 1;
        open.extend(&component.components);
        if let Some(reference) = &component.reference {
            by_reference.insert(reference, component);
        }
        mentions.push(component.mention())?;
    }
    for vulnerability in &wire.vulnerabilities {
        let ratings = vulnerability.ratings.iter().filter_map(|rating| rating.severity.as_deref());
        let analysis = vulnerability.analysis.as_ref().and_then(|analysis| analysis.state.as_deref());
        let state = analysis.or(ratings.max_by_key(|severity| rank(severity))).unwrap_or_default();
        let affected = vulnerability.affects.iter().filter_map(|a| by_reference.get(a.reference.as_deref()?));
        let mut found = false;
        for component in affected {
            found = true;
            mentions.push(component.package().hit(&vulnerability.id, state))?;
        }
        if !found {
            mentions.push(Mention::default().hit(&vulnerability.id, state))?;
        }
    }
    let metadata = wire.metadata.as_ref();
    let sbom = Sbom {
        format: format!("cyclonedx-{}", wire.spec_version),
        name: metadata.and_then(|m| m.component.as_ref()).map(|component| component.name.clone()),
        created: metadata.and_then(|m| m.timestamp.as_ref()?.parse().ok()),
        components: count,
    };
    Ok((sbom, mentions))
}

impl Component {
    fn package(&self) -> Mention {
        Mention::package(self.purl.as_deref(), &self.name, self.version.as_deref())
    }

    fn mention(&self) -> Mention {
        let named = |l: &'_ NamedLicence| l.id.as_deref().or(l.name.as_deref()).map(str::to_owned);
        let texts: Vec<String> = (self.licenses.iter().take(MAX_LISTED))
            .filter_map(|l| l.expression.clone().or_else(|| l.license.as_ref().and_then(named)))
            .collect();
        let hashes: Vec<String> =
            self.hashes.iter().take(MAX_LISTED).map(|h| hash(&h.alg, &h.content)).collect();
        let licences = texts.iter().filter_map(|text| licence(Some(text)));
        self.package().licensed(licences).hashed(hashes.iter().map(String::as_str))
    }
}
