//! Software bills of materials: SPDX 2 and 3, CycloneDX. Read with tolerance: who wrote one is who is asked.

mod cyclonedx;
mod spdx2;
mod spdx3;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{Reader, SPDX, Sbom, Unread};
use crate::{
    json,
    limits::MAX_TEXT,
    mention::{MAX_LISTED, Mention},
    refusal::Refusal,
};

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

/// The form of a text that is no JSON, and whether it is SPDX: SPDX's tag-value form and RDF, CycloneDX's XML.
pub(super) fn foreign(text: &str) -> Option<(&'static str, bool)> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    match first {
        line if line.starts_with("SPDXVersion:") => Some(("spdx-tag-value", true)),
        line if line.starts_with('<') && text.contains("://cyclonedx.org/schema/bom") => {
            Some(("cyclonedx-xml", false))
        }
        line if line.starts_with('<') && text.contains("://spdx.org/rdf/terms") => {
            Some(("spdx-rdf-xml", true))
        }
        _ => None,
    }
}

/// The predicate as a document in another form than JSON, if it is one of its type: kept, and its components are not read.
pub(super) fn unread(reader: &Reader<'_>) -> Option<Unread> {
    let predicate = reader.statement.predicate?;
    let text = match predicate.get().starts_with('"') {
        true => serde_json::from_str::<String>(predicate.get()).ok(),
        false => reader
            .parse::<Wrapped<'_>>()
            .ok()
            .and_then(|wrapped| serde_json::from_str(wrapped.data?.get()).ok()),
    };
    let (format, spdx) = foreign(&text?)?;
    (spdx == reader.statement.predicate_type.starts_with(SPDX)).then(|| Unread::components(format))
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
    // The type says which of them it is, and maybe which version.
    let rest = reader.statement.predicate_type.strip_prefix(SPDX);
    let version = rest.unwrap_or_default();
    let (sbom, mentions) = match head {
        Head { spdx_version: Some(v), .. } if rest.is_some() && !version.starts_with("/v3") => {
            spdx2::read(&document, &v)?
        }
        Head { bom_format: Some(format), .. } if format == "CycloneDX" && rest.is_none() => {
            cyclonedx::read(&document)?
        }
        Head { graph: Some(_), .. } if rest.is_some() && !version.starts_with("/v2") => {
            spdx3::read(&document)?
        }
        _ => return Err(reader.refuse("", "it is not the document that its type says")),
    };
    Ok((sbom, mentions.finish()))
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

/// `SHA-256`, `SHA256` or `sha256` and hex, as `sha256:hex`; nothing that is too long to be a hash.
fn hash(algorithm: &str, value: &str) -> String {
    if algorithm.len() + value.len() > MAX_TEXT {
        return String::new();
    }
    format!("{}:{}", algorithm.to_ascii_lowercase().replace('-', ""), value.to_ascii_lowercase())
}

/// A package is found under each of its package URLs, and under its name when it has none.
fn each<'a>(purls: impl Iterator<Item = Option<&'a str>>) -> Vec<Option<&'a str>> {
    let purls: Vec<_> = purls.filter(Option::is_some).take(MAX_LISTED).collect();
    if purls.is_empty() { vec![None] } else { purls }
}

/// A licence that says something.
fn licence(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty() && *text != "NOASSERTION" && *text != "NONE")
}
