//! Software bills of materials: SPDX 2 and 3, CycloneDX. Read with tolerance: who wrote one is who is asked.

mod cyclonedx;
mod spdx2;
mod spdx3;

use serde::{Deserialize, de::IgnoredAny};

use super::{Reader, Sbom};
use crate::{dsse::within, json, limits::MAX_MENTIONS, mention::Mention, refusal::Refusal};

/// What tells the formats apart.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "spdxVersion")]
    spdx_version: Option<String>,
    #[serde(rename = "bomFormat")]
    bom_format: Option<String>,
    #[serde(rename = "@graph")]
    graph: Option<IgnoredAny>,
}

/// A document that an older cosign put into the predicate as text.
#[derive(Deserialize)]
struct Wrapped {
    #[serde(rename = "Data")]
    data: Option<String>,
}

/// Reads the predicate.
pub(super) fn read(reader: &Reader<'_>) -> Result<(Sbom, Vec<Mention>), Refusal> {
    let is_text = reader.statement.predicate.is_some_and(|predicate| predicate.get().starts_with('"'));
    let inner = if is_text { Some(reader.parse()?) } else { reader.parse::<Wrapped>()?.data };
    let text = match (&inner, reader.statement.predicate) {
        (Some(inner), _) => json::check(inner.as_bytes()).map_err(|e| reader.refuse("", e.to_string()))?,
        (None, Some(predicate)) => predicate.get(),
        (None, None) => return Err(reader.refuse("", "the predicate is missing")),
    };
    let document = Document { reader, text };
    let head: Head = document.parse()?;
    let (sbom, mut mentions) = match head {
        Head { spdx_version: Some(version), .. } => spdx2::read(&document, &version)?,
        Head { bom_format: Some(format), .. } if format == "CycloneDX" => cyclonedx::read(&document)?,
        Head { graph: Some(_), .. } => spdx3::read(&document)?,
        _ => return Err(reader.refuse("", "neither SPDX nor CycloneDX")),
    };
    within("packages and findings", mentions.len(), MAX_MENTIONS)?;
    mentions.retain(Mention::is_findable);
    mentions.sort();
    mentions.dedup();
    Ok((sbom, mentions))
}

/// The document, and how it is refused.
struct Document<'a> {
    reader: &'a Reader<'a>,
    text: &'a str,
}

impl<'a> Document<'a> {
    fn parse<T: Deserialize<'a>>(&self) -> Result<T, Refusal> {
        json::read(self.text).map_err(|e| self.reader.refuse(&e.pointer, e.to_string()))
    }
}

/// `SHA-256`, `SHA256` or `sha256` and hex, as `sha256:hex`.
fn hash(algorithm: &str, value: &str) -> String {
    format!("{}:{}", algorithm.to_ascii_lowercase().replace('-', ""), value.to_ascii_lowercase())
}

/// A licence that says something.
fn licence(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty() && text != "NOASSERTION" && text != "NONE")
}
