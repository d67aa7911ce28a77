//! Software bills of materials: SPDX 2 and 3, CycloneDX. Read with tolerance: who wrote one is who is asked.

mod cyclonedx;
mod spdx2;
mod spdx3;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

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

/// A document that an older cosign put into a member, as it is or as text.
#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(rename = "Data", borrow)]
    data: Option<&'a RawValue>,
}

/// Reads the predicate.
pub(super) fn read(reader: &Reader<'_>) -> Result<(Sbom, Vec<Mention>), Refusal> {
    let Some(predicate) = reader.statement.predicate else {
        return Err(reader.refuse("", "the predicate is missing"));
    };
    let is_text = |value: &RawValue| value.get().starts_with('"');
    let document = match is_text(predicate) {
        true => predicate,
        false => reader.parse::<Wrapped<'_>>()?.data.unwrap_or(predicate),
    };
    let inner: String;
    let text = match is_text(document) {
        true => {
            inner = serde_json::from_str(document.get()).map_err(|e| reader.refuse("", e.to_string()))?;
            json::check(inner.as_bytes()).map_err(|e| reader.refuse("", e.to_string()))?
        }
        false => document.get(),
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
