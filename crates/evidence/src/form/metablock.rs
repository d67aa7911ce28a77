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

#[cfg(feature = "gpg")]
use crate::openpgp::packet;

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
    /// Hex.
    sig: Option<String>,
    /// OpenPGP: what of the packet is hashed, and the signature without its packet; hex.
    other_headers: Option<String>,
    signature: Option<String>,
}

/// Takes a metablock apart.
pub(super) fn open(text: &str) -> Result<Opened, Refusal> {
    let wire: Wire = json::read(text).map_err(Refusal::Json)?;
    if wire.signatures.is_empty() {
        return Err(Refusal::Unsigned);
    }
    within("signatures", wire.signatures.len(), MAX_SIGNATURES)?;
    let bytes = canonical(&wire.signed).map_err(|e| Refusal::Predicate {
        predicate_type: "in-toto".into(),
        pointer: "/signed".into(),
        why: e.to_string(),
    })?;
    let mut signatures = Vec::new();
    for (position, signature) in wire.signatures.into_iter().enumerate() {
        within("bytes of a key id", signature.keyid.len(), MAX_KEYID)?;
        let read = |member: &str, text: &str| {
            within("bytes of a signature", text.len() / 2, MAX_SIGNATURE)?;
            let pointer = format!("/signatures/{position}/{member}");
            hex::decode(text).map_err(|_| Refusal::Encoding { pointer, why: "it is not hex" })
        };
        let (made, over) = match (&signature.sig, &signature.other_headers, &signature.signature) {
            (Some(text), None, None) => (Some(read("sig", text)?), Over::Raw),
            (None, Some(hashed), Some(bare)) => {
                (packet(&read("other_headers", hashed)?, &read("signature", bare)?, &bytes), Over::Openpgp)
            }
            // Two signatures in one would leave open which one is meant; half of one is none.
            _ => (None, Over::Raw),
        };
        let Some(made) = made else { continue };
        signatures.push(Unverified {
            bytes: made,
            over,
            keyid: Some(signature.keyid),
            material: None,
            envelope: None,
        });
    }
    let content = Content::Payload { payload_type: METABLOCK.to_owned(), bytes };
    Ok(Opened { form: "in-toto-metablock", content, signatures })
}

/// Without OpenPGP nobody vouches by such a signature.
#[cfg(not(feature = "gpg"))]
fn packet(_: &[u8], _: &[u8], _: &[u8]) -> Option<Vec<u8>> {
    None
}
