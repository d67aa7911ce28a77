//! SPDX 2.2 and 2.3.

use serde::Deserialize;

use super::{Document, hash, licence};
use crate::{mention::Mention, predicate::Sbom, refusal::Refusal};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    name: Option<String>,
    creation_info: Option<CreationInfo>,
    #[serde(default)]
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
    #[serde(default)]
    external_refs: Vec<ExternalRef>,
    license_concluded: Option<String>,
    license_declared: Option<String>,
    #[serde(default)]
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

pub(super) fn read(document: &Document<'_>, version: &str) -> Result<(Sbom, Vec<Mention>), Refusal> {
    let Some(version) = version.strip_prefix("SPDX-2.") else {
        return Err(document.reader.refuse("/spdxVersion", "it is not SPDX-2.x"));
    };
    let wire: Wire = document.parse()?;
    let packages = wire.packages.len();
    let mentions = wire.packages.into_iter().map(|package| {
        let is_purl = |r: &&ExternalRef| {
            r.reference_type.as_deref().is_some_and(|kind| kind == "purl" || kind.ends_with("/purl"))
        };
        let purl = package.external_refs.iter().find(is_purl).and_then(|r| r.reference_locator.as_deref());
        let name = package.name.unwrap_or_default();
        Mention {
            licences: licence(package.license_concluded)
                .or(licence(package.license_declared))
                .into_iter()
                .collect(),
            hashes: package.checksums.iter().map(|c| hash(&c.algorithm, &c.checksum_value)).collect(),
            ..Mention::package(purl, &name, package.version_info.as_deref())
        }
    });
    let sbom = Sbom {
        format: format!("spdx-2.{version}"),
        name: wire.name,
        created: wire.creation_info.and_then(|info| info.created?.parse().ok()),
        components: packages as u64,
    };
    Ok((sbom, mentions.collect()))
}
