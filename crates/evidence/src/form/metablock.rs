//! in-toto metablocks: layouts and links signed over their canonical JSON.

use serde::Deserialize;
use serde_json::Value;

use super::{Content, Opened, Over, Unverified};
use crate::{
    dsse::within,
    json,
    layout::canonical,
    limits::{MAX_KEYID, MAX_SIGNATURE, MAX_SIGNATURES},
    refusal::Refusal,
};

/// The payload type of what a metablock signs, which has none of its own.
pub(crate) const METABLOCK: &str = "urn:catenary:in-toto-metablock";

#[derive(Deserialize)]
struct Wire {
    signatures: Vec<WireSignature>,
    signed: Value,
}

#[derive(Deserialize)]
struct WireSignature {
    #[serde(default)]
    keyid: String,
    /// Hex. OpenPGP signatures have other members, and are not read: nobody vouches by them.
    sig: Option<String>,
}

/// Takes a metablock apart.
pub(super) fn open(text: &str) -> Result<Opened, Refusal> {
    let wire: Wire = json::read(text).map_err(Refusal::Json)?;
    if wire.signatures.is_empty() {
        return Err(Refusal::Unsigned);
    }
    within("signatures", wire.signatures.len(), MAX_SIGNATURES)?;
    let mut signatures = Vec::new();
    for (position, signature) in wire.signatures.into_iter().enumerate() {
        within("bytes of a key id", signature.keyid.len(), MAX_KEYID)?;
        let Some(text) = signature.sig else { continue };
        within("bytes of a signature", text.len() / 2, MAX_SIGNATURE)?;
        let pointer = format!("/signatures/{position}/sig");
        let bytes = hex::decode(&text).map_err(|_| Refusal::Encoding { pointer, why: "it is not hex" })?;
        signatures.push(Unverified {
            bytes,
            over: Over::Raw,
            keyid: Some(signature.keyid),
            material: None,
            envelope: None,
        });
    }
    let bytes = canonical(&wire.signed).map_err(|e| Refusal::Predicate {
        predicate_type: "in-toto".into(),
        pointer: "/signed".into(),
        why: e.to_string(),
    })?;
    let content = Content::Payload { payload_type: METABLOCK.to_owned(), bytes };
    Ok(Opened { form: "in-toto-metablock", content, signatures })
}
