//! SPDX 2.2 and 2.3.

use serde::Deserialize;

use super::{Document, each, hash, licence};
use crate::{
    mention::{MAX_LISTED, Mention, Mentions, list},
    predicate::Sbom,
    refusal::Refusal,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    name: Option<String>,
    creation_info: Option<CreationInfo>,
    #[serde(default, deserialize_with = "list")]
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct CreationInfo {
    created: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    #[serde(alias = "packageName")]
    name: Option<String>,
    version_info: Option<String>,
    #[serde(default, deserialize_with = "list")]
    external_refs: Vec<ExternalRef>,
    license_concluded: Option<String>,
    license_declared: Option<String>,
    #[serde(default, deserialize_with = "list")]
    checksums: Vec<Checksum>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_type: Option<String>,
    reference_locator: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: String,
    checksum_value: String,
}

pub(super) fn read(document: &Document<'_>, version: &str) -> Result<(Sbom, Mentions), Refusal> {
    let Some(version) = version.strip_prefix("SPDX-2.") else {
        return Err(document.reader.refuse("/spdxVersion", "it is not SPDX-2.x"));
    };
    let wire: Wire = document.parse()?;
    let mut mentions = Mentions::default();
    for package in &wire.packages {
        let is_purl = |r: &&ExternalRef| {
            r.reference_type.as_deref().is_some_and(|kind| kind == "purl" || kind.ends_with("/purl"))
        };
        let purls = package.external_refs.iter().filter(is_purl).map(|r| r.reference_locator.as_deref());
        let name = package.name.as_deref().unwrap_or_default();
        let licence =
            licence(package.license_concluded.as_deref()).or(licence(package.license_declared.as_deref()));
        let hashes: Vec<String> = package
            .checksums
            .iter()
            .take(MAX_LISTED)
            .map(|c| hash(&c.algorithm, &c.checksum_value))
            .collect();
        for purl in each(purls) {
            let mention = Mention::package(purl, name, package.version_info.as_deref());
            mentions.push(mention.licensed(licence).hashed(hashes.iter().map(String::as_str)))?;
        }
    }
    let sbom = Sbom {
        format: format!("spdx-2.{version}"),
        name: wire.name,
        created: wire.creation_info.and_then(|info| info.created?.parse().ok()),
        components: wire.packages.len() as u64,
    };
    Ok((sbom, mentions))
}
