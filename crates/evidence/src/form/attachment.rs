//! What cosign attaches to an image before bundles: an envelope or a payload in a layer, the rest in its annotations.
//!
//! A registry keeps the two apart, so they are sent together in a wrapper of ours
//! (`api/cosign-layer.schema.json`). Annotations say how to verify; what is signed says what it is about.

use serde::Deserialize;

use super::{Content, LogEntry, Material, Opened, Over, Unverified, certificates, decode_strict};
use crate::{
    digest::Digest,
    dsse::{self, Envelope},
    json,
    refusal::Refusal,
};

/// The media type of the wrapper.
pub(super) const MEDIA_TYPE: &str = "application/vnd.catenary.cosign-layer.v1+json";

/// The payload type of what `cosign sign` signs ("simple signing").
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wrapper {
    #[serde(rename = "mediaType")]
    _media_type: String,
    layer: Layer,
    /// The layer's bytes, base64.
    blob: String,
}

/// The descriptor of the layer, as it is in the manifest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: Digest,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "dev.cosignproject.cosign/signature")]
    signature: Option<String>,
    #[serde(rename = "dev.sigstore.cosign/certificate")]
    certificate: Option<String>,
    #[serde(rename = "dev.sigstore.cosign/chain")]
    chain: Option<String>,
    #[serde(rename = "dev.sigstore.cosign/bundle")]
    bundle: Option<String>,
    #[serde(rename = "dev.sigstore.cosign/rfc3161timestamp")]
    timestamp: Option<String>,
}

/// Rekor's answer as cosign keeps it.
#[derive(Deserialize)]
struct RekorBundle {
    #[serde(rename = "SignedEntryTimestamp")]
    promise: String,
    #[serde(rename = "Payload")]
    payload: RekorPayload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RekorPayload {
    body: String,
    integrated_time: i64,
    log_index: i64,
    #[serde(rename = "logID")]
    log_id: String,
}

impl RekorBundle {
    fn open(self, pointer: &str) -> Result<LogEntry, Refusal> {
        let at = |member: &str| format!("{pointer}/{member}");
        let log_id = hex::decode(&self.payload.log_id)
            .map_err(|_| Refusal::Encoding { pointer: at("Payload/logID"), why: "it is not hex" })?;
        Ok(LogEntry {
            canonicalized_body: decode_strict(&self.payload.body, || at("Payload/body"))?,
            log_id,
            log_index: self.payload.log_index,
            integrated_time: Some(self.payload.integrated_time),
            promise: Some(decode_strict(&self.promise, || at("SignedEntryTimestamp"))?),
            proof: None,
            kind_version: None,
        })
    }
}

#[derive(Deserialize)]
struct Rfc3161 {
    #[serde(rename = "SignedRFC3161Timestamp")]
    token: String,
}

/// Takes a wrapped layer apart.
pub(super) fn open(text: &str) -> Result<Opened, Refusal> {
    let wrapper: Wrapper = json::read(text).map_err(Refusal::Json)?;
    let blob = decode_strict(&wrapper.blob, || "/blob".into())?;
    let computed = wrapper.layer.digest.recompute(&blob);
    if computed != wrapper.layer.digest {
        let claimed = wrapper.layer.digest.to_string();
        return Err(Refusal::DigestMismatch { claimed, computed: computed.to_string() });
    }
    let material = material(&wrapper.layer.annotations)?;
    if wrapper.layer.media_type == SIMPLE_SIGNING {
        let at = || "/layer/annotations/dev.cosignproject.cosign~1signature".to_owned();
        let bytes = wrapper.layer.annotations.signature.as_deref().map(|text| decode_strict(text, at));
        let bytes = bytes.transpose()?.ok_or(Refusal::Unsigned)?;
        let signature =
            Unverified { bytes, over: Over::Raw, keyid: None, material: Some(material), envelope: None };
        let content = Content::Payload { payload_type: SIMPLE_SIGNING.to_owned(), bytes: blob };
        return Ok(Opened { form: "cosign-signature", content, signatures: vec![signature] });
    }
    let (content, signature) = envelope(blob, material, "/blob")?;
    Ok(Opened { form: "cosign-attachment", content, signatures: vec![signature] })
}

fn material(annotations: &Annotations) -> Result<Material, Refusal> {
    let at = |name: &str| format!("/layer/annotations/dev.sigstore.cosign~1{name}");
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut material = Material::default();
    for (name, pem) in [("certificate", &annotations.certificate), ("chain", &annotations.chain)] {
        if let Some(pem) = given(pem) {
            material.certificates.extend(certificates(&pem, || at(name))?);
        }
    }
    if let Some(bundle) = given(&annotations.bundle) {
        let bundle: RekorBundle = nested(&bundle, || at("bundle"))?;
        material.entries.push(bundle.open(&at("bundle"))?);
    }
    if let Some(timestamp) = given(&annotations.timestamp) {
        let timestamp: Rfc3161 = nested(&timestamp, || at("rfc3161timestamp"))?;
        material.timestamps.push(decode_strict(&timestamp.token, || at("rfc3161timestamp"))?);
    }
    Ok(material)
}

/// JSON inside a string.
fn nested<T: serde::de::DeserializeOwned>(text: &str, pointer: impl Fn() -> String) -> Result<T, Refusal> {
    json::parse(text.as_bytes()).map_err(|mut error| {
        error.pointer = pointer() + &error.pointer;
        Refusal::Json(error)
    })
}

/// What `cosign sign-blob --bundle` and `attest-blob --bundle` wrote before v0.3 bundles: a signature over an artifact that
/// only the log entry names, or a whole envelope in its place.
pub(super) fn open_v1(text: &str) -> Result<Opened, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        base64_signature: String,
        cert: Option<String>,
        rekor_bundle: Option<RekorBundle>,
    }
    let form = "cosign-bundle-v1";
    let wire: Wire = json::read(text).map_err(Refusal::Json)?;
    let bytes = decode_strict(&wire.base64_signature, || "/base64Signature".into())?;
    let mut material = Material::default();
    if let Some(cert) = wire.cert.filter(|cert| !cert.is_empty()) {
        let pem = decode_strict(&cert, || "/cert".into())?;
        material.certificates.extend(certificates(&String::from_utf8_lossy(&pem), || "/cert".into())?);
    }
    let entry = wire.rekor_bundle.map(|bundle| bundle.open("/rekorBundle")).transpose()?;
    if bytes.starts_with(b"{") {
        material.entries.extend(entry);
        let (content, signature) = envelope(bytes, material, "/base64Signature")?;
        return Ok(Opened { form, content, signatures: vec![signature] });
    }
    // The signature is verified over this digest, so a lie about it is a signature that does not verify.
    let content = match &entry {
        Some(entry) => Content::Digest(logged(entry)?),
        None => Content::Unnamed,
    };
    material.entries.extend(entry);
    let signature =
        Unverified { bytes, over: Over::Digest, keyid: None, material: Some(material), envelope: None };
    Ok(Opened { form, content, signatures: vec![signature] })
}

/// The digest of the artifact that a log entry is about.
fn logged(entry: &LogEntry) -> Result<Digest, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        hash: Hash,
    }
    #[derive(Deserialize)]
    struct Hash {
        algorithm: String,
        value: String,
    }
    let body: Body = json::parse(&entry.canonicalized_body).map_err(Refusal::Json)?;
    let hash = body.spec.data.hash;
    let digest = Digest::from_set(&hash.algorithm, &hash.value).and_then(Result::ok);
    digest.ok_or_else(|| Refusal::DigestMalformed {
        pointer: "/rekorBundle/Payload/body".into(),
        why: "the log entry names no usable digest".into(),
    })
}

/// What the envelope holds that one certificate or key signed, and its signature with the material.
fn envelope(bytes: Vec<u8>, material: Material, pointer: &str) -> Result<(Content, Unverified), Refusal> {
    // The envelope is as hostile as what is around it.
    let inner = json::check(&bytes).map_err(Refusal::Json)?;
    let wire: dsse::Wire = json::read(inner).map_err(Refusal::Json)?;
    let Envelope { payload_type, payload, mut signatures } = Envelope::from_wire(wire, pointer)?;
    let count = signatures.len();
    let Some(signature) = signatures.pop().filter(|_| count == 1) else {
        return Err(Refusal::SignatureCount { count });
    };
    let signature = Unverified {
        bytes: signature.bytes,
        over: Over::Pae,
        keyid: signature.keyid,
        material: Some(material),
        envelope: Some(bytes),
    };
    Ok((Content::Payload { payload_type, bytes: payload }, signature))
}
