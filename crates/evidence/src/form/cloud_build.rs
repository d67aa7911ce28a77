//! What Cloud Build's document (`gcloud artifacts docker images describe --show-provenance`) says around its envelopes.
//!
//! Nobody signs it and nothing of it is believed. Where it repeats what an envelope holds it must say the same: people and tools
//! read the text, and a document that contradicts itself was edited by somebody.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;

/// How deep a repeated statement is compared; theirs have about eight levels.
const MAX_LEVELS: usize = 24;

/// What it says of the image.
#[derive(Deserialize)]
pub(super) struct Image {
    digest: String,
    fully_qualified_digest: String,
}

#[derive(Deserialize)]
pub(super) struct Summary<'a> {
    #[serde(borrow)]
    pub provenance: Vec<Provenance<'a>>,
}

/// One envelope, and what stands beside it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Provenance<'a> {
    #[serde(borrow)]
    pub envelope: &'a RawValue,
    kind: Option<String>,
    resource_uri: Option<String>,
    #[serde(borrow)]
    build: Option<Build<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Build<'a> {
    #[serde(borrow)]
    intoto_statement: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    payload: Cow<'a, str>,
    #[serde(borrow)]
    signatures: Vec<Signature<'a>>,
}

#[derive(Deserialize)]
struct Signature<'a> {
    #[serde(borrow)]
    keyid: Option<Cow<'a, str>>,
}

/// Where the document contradicts itself.
pub(super) fn contradiction(image: Option<&Image>, summary: Option<&Summary<'_>>) -> Option<String> {
    if let Some(Image { digest, fully_qualified_digest: name }) = image
        && !name.ends_with(&format!("@{digest}"))
    {
        return Some(format!("`image_summary` names {digest} and {name}"));
    }
    summary?.provenance.iter().find_map(|provenance| beside(image, provenance))
}

fn beside(image: Option<&Image>, provenance: &Provenance<'_>) -> Option<String> {
    if let Some(kind) = provenance.kind.as_deref().filter(|kind| *kind != "BUILD") {
        return Some(format!("provenance of the kind {}", json::shorten(kind)));
    }
    if let (Some(image), Some(uri)) = (image, &provenance.resource_uri)
        && *uri != format!("https://{}", image.fully_qualified_digest)
    {
        return Some(format!("`resourceUri` names {}, not the image", json::shorten(uri)));
    }
    // An envelope that cannot be read is for its verifier to see.
    let envelope = json::loose::<Envelope<'_>>(provenance.envelope.get()).ok()?;
    let mut keyids = envelope.signatures.iter().filter_map(|signature| signature.keyid.as_deref());
    if let Some(keyid) = keyids.find(|keyid| !names_a_key(keyid)) {
        return Some(format!("`keyid` is {}, which cannot be a key's name", json::shorten(keyid)));
    }
    let statement = provenance.build.as_ref()?.intoto_statement?;
    let payload = STANDARD.decode(envelope.payload.as_bytes()).ok()?;
    let payload = std::str::from_utf8(&payload).ok()?;
    json::loose::<&RawValue>(payload).ok()?;
    let place = differs(statement.get(), payload, "", 0)?;
    Some(format!("`build.intotoStatement` is not the signed statement, at {}", json::shorten(&place)))
}

/// Whether a name of Cloud KMS could be one: it may say which key, and never gives trust. Its locations are single words
/// (`global`, `us`) or end in a digit (`us-west2`).
fn names_a_key(keyid: &str) -> bool {
    let mut parts = keyid.split('/');
    if parts.clone().next() != Some("projects") {
        return true;
    }
    let location = parts.clone().skip_while(|part| *part != "locations").nth(1).unwrap_or_default();
    let placed = !location.contains('-') || location.ends_with(|c: char| c.is_ascii_digit());
    placed && parts.all(|part| !part.is_empty())
}

/// The first place where `text` says something that `signed` does not say. It may leave members out.
fn differs(text: &str, signed: &str, place: &str, level: usize) -> Option<String> {
    let here = || Some(place.to_owned());
    if level > MAX_LEVELS {
        return here();
    }
    match text.trim_start().as_bytes().first() {
        Some(b'{') => {
            type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;
            let Ok(repeated) = json::loose::<Members<'_>>(text) else { return here() };
            let Ok(said) = json::loose::<Members<'_>>(signed) else { return here() };
            repeated.iter().find_map(|(name, value)| {
                let place = format!("{place}/{name}");
                match said.get(name) {
                    Some(other) => differs(value.get(), other.get(), &place, level + 1),
                    None => Some(place),
                }
            })
        }
        Some(b'[') => {
            let Ok(repeated) = json::loose::<Vec<&RawValue>>(text) else { return here() };
            let Ok(said) = json::loose::<Vec<&RawValue>>(signed) else { return here() };
            if repeated.len() != said.len() {
                return here();
            }
            let mut pairs = repeated.iter().zip(&said).enumerate();
            pairs.find_map(|(i, (a, b))| differs(a.get(), b.get(), &format!("{place}/{i}"), level + 1))
        }
        // Texts may be escaped in different ways; the rest has few spellings, and theirs are the same.
        Some(b'"') => {
            let read = |text| json::loose::<Cow<'_, str>>(text).ok();
            if read(text).is_some_and(|text| read(signed) == Some(text)) { None } else { here() }
        }
        _ => {
            if text.trim() == signed.trim() {
                None
            } else {
                here()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, signed: &str) -> Option<String> {
        differs(text, signed, "", 0)
    }

    #[test]
    fn a_repeated_statement_may_say_less_and_nothing_else() {
        let signed = r#"{"a": [1, {"b": "x\/y", "c": null}], "d": true}"#;
        for same in [signed, "{}", r#"{"a":[1,{}]}"#, r#"{"a":[1,{"b":"\u0078/y"}],"d":true}"#] {
            assert_eq!(at(same, signed), None, "{same}");
        }
        for (other, place) in [
            (r#"{"a":[1]}"#, "/a"),
            (r#"{"a":[1,{"b":"x"}]}"#, "/a/1/b"),
            (r#"{"a":[2,{}]}"#, "/a/0"),
            (r#"{"a":[1,{"c":"null"}]}"#, "/a/1/c"),
            (r#"{"d":false}"#, "/d"),
            (r#"{"e":1}"#, "/e"),
            ("[]", ""),
        ] {
            assert_eq!(at(other, signed).as_deref(), Some(place), "{other}");
        }
        let deep = format!("{}{}", "[".repeat(MAX_LEVELS + 2), "]".repeat(MAX_LEVELS + 2));
        assert!(at(&deep, &deep).is_some(), "deeper than is compared");
    }

    #[test]
    fn a_document_that_contradicts_itself_is_told_where() {
        let payload = STANDARD.encode(r#"{"subject":[{"digest":{"sha256":"aa"}}]}"#);
        let provenance = |kind: &str, uri: &str, keyid: &str, subject: &str| {
            format!(
                r#"{{"provenance":[{{"kind":"{kind}","resourceUri":"{uri}","build":{{"intotoStatement":{{"subject":[{{"digest":{{"sha256":"{subject}"}}}}]}}}},
                "envelope":{{"payload":"{payload}","payloadType":"t","signatures":[{{"keyid":"{keyid}","sig":"AA=="}}]}}}}]}}"#
            )
        };
        let image = r#"{"digest":"sha256:aa","fully_qualified_digest":"r.test/app@sha256:aa"}"#;
        let says = |image: &str, summary: &str| {
            let (image, summary) =
                (serde_json::from_str(image).unwrap(), serde_json::from_str(summary).unwrap());
            contradiction(Some(&image), Some(&summary))
        };
        let (uri, key) = ("https://r.test/app@sha256:aa", "projects/p/locations/global/keyRings/k");
        assert_eq!(says(image, &provenance("BUILD", uri, key, "aa")), None);
        for (summary, word) in [
            (provenance("BUIL", uri, key, "aa"), "kind"),
            (provenance("BUILD", "https://r.test/app@sha256:bb", key, "aa"), "resourceUri"),
            (provenance("BUILD", uri, "projects/p/locations//keyRings/k", "aa"), "keyid"),
            (provenance("BUILD", uri, "projects/p/locations/no-region/keyRings/k", "aa"), "keyid"),
            (provenance("BUILD", uri, key, "bb"), "/subject/0/digest/sha256"),
        ] {
            let why = says(image, &summary).expect("it contradicts itself");
            assert!(why.contains(word), "{why}");
        }
        let other = r#"{"digest":"sha256:bb","fully_qualified_digest":"r.test/app@sha256:aa"}"#;
        assert!(says(other, &provenance("BUILD", uri, key, "aa")).is_some());
    }
}
