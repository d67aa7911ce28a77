//! SPDX 3.0: a graph of elements.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Document, hash, licence};
use crate::{mention::Mention, predicate::Sbom, refusal::Refusal};

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
    #[serde(default)]
    external_identifier: Vec<Identifier>,
    #[serde(default)]
    verified_using: Vec<Integrity>,
    #[serde(rename = "simplelicensing_licenseExpression")]
    licence_expression: Option<String>,
    relationship_type: Option<String>,
    from: Option<String>,
    #[serde(default)]
    to: Vec<String>,
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

pub(super) fn read(document: &Document<'_>) -> Result<(Sbom, Vec<Mention>), Refusal> {
    let wire: Wire = document.parse()?;
    let info = wire.graph.iter().find(|element| element.kind == "CreationInfo");
    let version = info.and_then(|info| info.spec_version.as_deref()).unwrap_or("3");
    if !version.starts_with('3') {
        return Err(document.reader.refuse("/@graph", "it is not SPDX 3"));
    }
    let expressions: BTreeMap<&str, &String> = (wire.graph.iter())
        .filter_map(|element| Some((element.spdx_id.as_deref()?, element.licence_expression.as_ref()?)))
        .collect();
    let mut licences: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for element in &wire.graph {
        if let (Some("hasConcludedLicense" | "hasDeclaredLicense"), Some(from)) =
            (element.relationship_type.as_deref(), element.from.as_deref())
        {
            let found = element.to.iter().filter_map(|to| expressions.get(to.as_str()));
            licences.entry(from).or_default().extend(found.filter_map(|text| licence(Some((*text).clone()))));
        }
    }
    let packages = wire.graph.iter().filter(|element| element.kind.ends_with("software_Package"));
    let mentions: Vec<Mention> = packages
        .map(|package| {
            let is_purl = |i: &&Identifier| {
                matches!(i.external_identifier_type.as_deref(), Some("packageUrl" | "purl"))
            };
            let identifier =
                package.external_identifier.iter().find(is_purl).and_then(|i| i.identifier.as_deref());
            let purl = package.package_url.as_deref().or(identifier);
            let name = package.name.as_deref().unwrap_or_default();
            let hashes = package.verified_using.iter();
            let mut licences =
                package.spdx_id.as_deref().and_then(|id| licences.get(id)).cloned().unwrap_or_default();
            licences.sort();
            licences.dedup();
            Mention {
                licences,
                hashes: hashes
                    .filter_map(|h| Some(hash(h.algorithm.as_ref()?, h.hash_value.as_ref()?)))
                    .collect(),
                ..Mention::package(purl, name, package.package_version.as_deref())
            }
        })
        .collect();
    let root = wire.graph.iter().find(|element| element.kind.ends_with("SpdxDocument"));
    let sbom = Sbom {
        format: format!("spdx-{version}"),
        name: root.and_then(|root| root.name.clone()),
        created: info.and_then(|info| info.created.as_ref()?.parse().ok()),
        components: mentions.len() as u64,
    };
    Ok((sbom, mentions))
}
