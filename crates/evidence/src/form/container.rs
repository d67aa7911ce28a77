//! Splitting a submission into items.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::cloud_build::{self, Image, Summary};
use crate::{dsse::within, json, limits::MAX_ITEMS, refusal::Refusal};

/// Splits a submission into items, each the exact bytes that are verified and that the id is made of.
///
/// One document (an envelope or a bundle) is one item, as posted. The elements of a JSON array and the lines of
/// JSON Lines are items: their byte slice without the white space around them. Documents that tools publish around
/// envelopes and bundles (npm, GitHub, PyPI, Cloud Build, CPython releases) are opened the same way; what lies
/// beside the items in them is not kept. An item may still be malformed: that is the verifier's to say, so that the
/// batch around it goes in.
pub fn detect<'a>(bytes: &'a [u8]) -> Result<Vec<&'a [u8]>, Refusal> {
    let trimmed = bytes.trim_ascii();
    if trimmed.is_empty() {
        return Err(Refusal::Empty);
    }
    let mut items = Vec::new();
    let mut add = |inner: Inside<'a>, item: &'a [u8]| {
        match inner {
            Inside::Items(inner) => items.extend(inner),
            Inside::Nothing | Inside::NotJson => items.push(item),
        }
        within("items of one submission", items.len(), MAX_ITEMS)
    };
    if trimmed.starts_with(b"[") {
        elements(bytes)?.into_iter().try_for_each(|element| add(inside(element)?, element))?;
    } else {
        // Most submissions are one document: it is read once.
        match inside(bytes)? {
            Inside::NotJson => lines(bytes).into_iter().try_for_each(|line| add(inside(line)?, line))?,
            one => add(one, bytes)?,
        }
    }
    if items.is_empty() {
        return Err(Refusal::Empty);
    }
    Ok(items)
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// The elements of an array. Each is looked at for syntax only: equal keys and depth are found one by one.
fn elements(bytes: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    let read = |text| json::loose::<Vec<&RawValue>>(text);
    let found = std::str::from_utf8(bytes).map_err(serde::de::Error::custom).and_then(read);
    match found {
        Ok(elements) => Ok(elements.into_iter().map(|e| e.get().as_bytes()).collect()),
        // The strict reader finds the same fault and names its place.
        Err(e) => Err(Refusal::Json(json::check(bytes).err().unwrap_or_else(|| json::JsonError {
            fault: json::JsonFault::Syntax(e.to_string()),
            pointer: String::new(),
            line: e.line(),
            column: e.column(),
        }))),
    }
}

/// The lines of JSON Lines; the whole when no line is a JSON object by itself, so that the fault of a broken
/// document is told at its place.
fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let lines = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    // One more than are taken is enough to refuse them.
    let lines: Vec<&[u8]> = lines.take(MAX_ITEMS + 1).collect();
    if lines.len() > 1 && lines.iter().any(|line| line.starts_with(b"{") && is_json(line)) {
        lines
    } else {
        vec![bytes]
    }
}

/// Documents around items, told by their members. Nothing in them but the items is looked at.
#[derive(Deserialize)]
struct Around<'a> {
    /// npm, and GitHub's API: `{attestations: [{bundle}]}`.
    #[serde(borrow)]
    attestations: Option<Vec<Attestation<'a>>>,
    /// GitHub's API when it is asked about several digests at once.
    #[serde(borrow)]
    attestations_subject_digests: Option<&'a RawValue>,
    /// PyPI's integrity API: `{attestation_bundles: [{attestations: [..]}]}`.
    #[serde(borrow)]
    attestation_bundles: Option<Vec<Published<'a>>>,
    /// `gcloud artifacts docker images describe --show-provenance`.
    #[serde(borrow)]
    provenance_summary: Option<Summary<'a>>,
    /// An element of GitHub's answers.
    #[serde(borrow)]
    bundle: Option<&'a RawValue>,
    /// A release file of python.org, itself or as `raw` inside a list.
    #[serde(borrow)]
    sigstore: Option<&'a RawValue>,
    #[serde(borrow)]
    raw: Option<Release<'a>>,
    image_summary: Option<Image>,
    // What makes a document an item itself.
    payload: Option<IgnoredAny>,
    signed: Option<IgnoredAny>,
    #[serde(rename = "dsseEnvelope", alias = "dsse_envelope")]
    dsse_envelope: Option<IgnoredAny>,
    #[serde(rename = "messageSignature", alias = "message_signature")]
    message_signature: Option<IgnoredAny>,
    #[serde(rename = "verificationMaterial")]
    verification_material: Option<IgnoredAny>,
}

impl Around<'_> {
    /// Whether it is signed itself. Then what lies in it beside that says nothing: a good bundle inside a forged one does not
    /// speak for it.
    fn is_item(&self) -> bool {
        let own = [&self.payload, &self.signed, &self.dsse_envelope, &self.message_signature];
        own.into_iter().chain([&self.verification_material]).any(Option::is_some)
    }
}

#[derive(Deserialize)]
struct Attestation<'a> {
    #[serde(borrow)]
    bundle: &'a RawValue,
}

#[derive(Deserialize)]
struct Release<'a> {
    #[serde(borrow)]
    sigstore: &'a RawValue,
}

#[derive(Deserialize)]
struct Published<'a> {
    #[serde(borrow)]
    attestations: Vec<&'a RawValue>,
}

/// What one document holds.
enum Inside<'a> {
    /// The items inside a published document.
    Items(Vec<&'a [u8]>),
    /// JSON, but no such document: it is an item itself.
    Nothing,
    NotJson,
}

fn inside(bytes: &[u8]) -> Result<Inside<'_>, Refusal> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(Inside::NotJson) };
    let around = match json::loose::<Around<'_>>(text) {
        Ok(around) => around,
        // Of another form as far as it was read: what follows may be anything.
        Err(e) if e.is_data() && is_json(bytes) => return Ok(Inside::Nothing),
        Err(_) => return Ok(Inside::NotJson),
    };
    if around.is_item() {
        return Ok(Inside::Nothing);
    }
    let summary = around.provenance_summary.as_ref();
    if let Some(why) = cloud_build::contradiction(around.image_summary.as_ref(), summary) {
        return Err(Refusal::Ambiguous { why });
    }
    Ok(Inside::Items(match around {
        Around { attestations: Some(list), .. } => {
            list.into_iter().map(|a| a.bundle.get().as_bytes()).collect()
        }
        Around { attestations_subject_digests: Some(bulk), .. } => match bulk_items(bulk.get()) {
            Some(items) => items,
            None => return Ok(Inside::Nothing),
        },
        Around { attestation_bundles: Some(list), .. } => {
            list.into_iter().flat_map(|p| p.attestations).map(|a| a.get().as_bytes()).collect()
        }
        Around { provenance_summary: Some(summary), .. } => {
            summary.provenance.into_iter().map(|p| p.envelope.get().as_bytes()).collect()
        }
        Around { bundle: Some(item), .. }
        | Around { sigstore: Some(item), .. }
        | Around { raw: Some(Release { sigstore: item }), .. } => {
            // A file that was not signed is in the list with `null`.
            [item].into_iter().map(|item| item.get().as_bytes()).filter(|item| *item != b"null").collect()
        }
        _ => return Ok(Inside::Nothing),
    }))
}

/// The bundles of GitHub's answer about several digests: an object whose members are the digests, or, as its documentation
/// shows, a list of such objects. A digest without attestations has `null`, a bundle that lies elsewhere too.
fn bulk_items(text: &str) -> Option<Vec<&[u8]>> {
    type Digests<'a> = BTreeMap<Cow<'a, str>, Option<Vec<Elsewhere<'a>>>>;
    #[derive(Deserialize)]
    struct Elsewhere<'a> {
        #[serde(borrow)]
        bundle: Option<&'a RawValue>,
    }
    let all: Vec<Digests<'_>> = match text.starts_with('[') {
        true => json::loose(text).ok()?,
        false => vec![json::loose(text).ok()?],
    };
    let attestations = all.into_iter().flat_map(BTreeMap::into_values).flatten().flatten();
    Some(attestations.filter_map(|attestation| Some(attestation.bundle?.get().as_bytes())).collect())
}
