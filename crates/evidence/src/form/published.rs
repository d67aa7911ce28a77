//! PyPI publish attestations (PEP 740): one certificate, its log entries, a statement and a signature.

use serde::Deserialize;

use super::{Content, Material, Opened, Over, Unverified, bundle::Entry, decode_strict};
use crate::{dsse, json, refusal::Refusal};

#[derive(Deserialize)]
struct Wire {
    version: u64,
    verification_material: WireMaterial,
    envelope: WireEnvelope,
}

#[derive(Deserialize)]
struct WireMaterial {
    certificate: String,
    transparency_entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct WireEnvelope {
    statement: String,
    signature: String,
}

/// Takes a publish attestation apart. The signature is over the DSSE pre-authentication encoding.
pub(super) fn open(text: &str) -> Result<Opened, Refusal> {
    let wire: Wire = json::read(text).map_err(Refusal::Json)?;
    if wire.version != 1 {
        return Err(Refusal::UnsupportedForm { form: "a publish attestation of an unknown version" });
    }
    let place = "/verification_material";
    let mut material = Material::default();
    let certificate =
        decode_strict(&wire.verification_material.certificate, || format!("{place}/certificate"))?;
    material.certificates.push(certificate);
    for (i, entry) in wire.verification_material.transparency_entries.into_iter().enumerate() {
        material.entries.push(entry.open(&format!("{place}/transparency_entries/{i}"))?);
    }
    let content = Content::Payload {
        payload_type: dsse::PAYLOAD_TYPE.to_owned(),
        bytes: decode_strict(&wire.envelope.statement, || "/envelope/statement".into())?,
    };
    let bytes = decode_strict(&wire.envelope.signature, || "/envelope/signature".into())?;
    let signature =
        Unverified { bytes, over: Over::Pae, keyid: None, material: Some(material), envelope: None };
    Ok(Opened { form: "pypi-attestation", content, signatures: vec![signature] })
}
