//! SPDX 3.0: a graph of elements.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, de::IgnoredAny};

use super::{Document, each, hash, licence};
use crate::{
    mention::{MAX_LISTED, Mention, Mentions, list},
    predicate::Sbom,
    refusal::Refusal,
};

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "@graph")]
    graph: Vec<Element>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Element {
    #[serde(rename = "type", alias = "@type", default)]
    kind: String,
    #[serde(alias = "@id")]
    spdx_id: Option<String>,
    name: Option<String>,
    spec_version: Option<String>,
    created: Option<String>,
    #[serde(rename = "software_packageVersion")]
    package_version: Option<String>,
    #[serde(rename = "software_packageUrl")]
    package_url: Option<String>,
    #[serde(default, deserialize_with = "list")]
    external_identifier: Vec<Inline<Identifier>>,
    #[serde(default, deserialize_with = "list")]
    verified_using: Vec<Inline<Integrity>>,
    #[serde(rename = "simplelicensing_licenseExpression")]
    licence_expression: Option<String>,
    relationship_type: Option<String>,
    from: Option<Inline<String>>,
    #[serde(default, deserialize_with = "list")]
    to: Vec<Inline<String>>,
}

/// A value that is here; JSON-LD lets it stand elsewhere in the graph as well.
#[derive(Deserialize)]
#[serde(untagged)]
enum Inline<T> {
    Here(T),
    Elsewhere(IgnoredAny),
}

impl<T> Inline<T> {
    fn here(&self) -> Option<&T> {
        match self {
            Self::Here(value) => Some(value),
            Self::Elsewhere(_) => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identifier {
    external_identifier_type: Option<String>,
    identifier: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Integrity {
    algorithm: Option<String>,
    hash_value: Option<String>,
}

/// The class of packages, and those derived from it.
fn is_package(kind: &str) -> bool {
    ["software_Package", "ai_AIPackage", "dataset_DatasetPackage"].iter().any(|class| kind.ends_with(class))
}

pub(super) fn read(document: &Document<'_>) -> Result<(Sbom, Mentions), Refusal> {
    let wire: Wire = document.parse()?;
    let info = wire.graph.iter().find(|element| element.kind == "CreationInfo");
    let version = info.and_then(|info| info.spec_version.as_deref()).unwrap_or("3");
    if !version.starts_with('3') {
        return Err(document.reader.refuse("/@graph", "it is not SPDX 3"));
    }
    let expressions: BTreeMap<&str, &str> = (wire.graph.iter())
        .filter_map(|element| {
            Some((element.spdx_id.as_deref()?, licence(element.licence_expression.as_deref())?))
        })
        .collect();
    let mut licences: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for element in &wire.graph {
        if let (Some("hasConcludedLicense" | "hasDeclaredLicense"), Some(from)) = (
            element.relationship_type.as_deref(),
            element.from.as_ref().and_then(Inline::here).map(String::as_str),
        ) {
            let known = licences.entry(from).or_default();
            let to = element.to.iter().filter_map(Inline::here);
            known.extend(to.filter_map(|to| expressions.get(to.as_str())).copied());
        }
    }
    let mut mentions = Mentions::default();
    let mut packages = 0;
    for package in wire.graph.iter().filter(|element| is_package(&element.kind)) {
        packages += 1;
        let is_purl =
            |i: &&Identifier| matches!(i.external_identifier_type.as_deref(), Some("packageUrl" | "purl"));
        let identifiers = package.external_identifier.iter().filter_map(Inline::here);
        let identifiers = identifiers.filter(is_purl).map(|i| i.identifier.as_deref());
        let purls = std::iter::once(package.package_url.as_deref()).chain(identifiers);
        let name = package.name.as_deref().unwrap_or_default();
        let hashes: Vec<String> = (package.verified_using.iter().filter_map(Inline::here).take(MAX_LISTED))
            .filter_map(|h| Some(hash(h.algorithm.as_ref()?, h.hash_value.as_ref()?)))
            .collect();
        let licences =
            || package.spdx_id.as_deref().and_then(|id| licences.get(id)).into_iter().flatten().copied();
        for purl in each(purls) {
            let mention = Mention::package(purl, name, package.package_version.as_deref());
            mentions.push(mention.licensed(licences()).hashed(hashes.iter().map(String::as_str)))?;
        }
    }
    let root = wire.graph.iter().find(|element| element.kind.ends_with("SpdxDocument"));
    let sbom = Sbom {
        format: format!("spdx-{version}"),
        name: root.and_then(|root| root.name.clone()),
        created: info.and_then(|info| info.created.as_ref()?.parse().ok()),
        components: packages,
    };
    Ok((sbom, mentions))
}
