//! The older way to attach signatures to an image: an OCI layer whose annotations hold the material.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{bundle::BundleBuilder, bundle::Signer, rekor::Entry};
use crate::sha256_hex;

/// The media type of an attestation's layer.
pub const DSSE_LAYER: &str = "application/vnd.dsse.envelope.v1+json";

/// The media type of a signature's layer.
pub const SIMPLE_SIGNING_LAYER: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// A layer with annotations.
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    /// The layer's media type.
    pub media_type: String,
    /// The layer: an envelope, or what was signed.
    pub layer: Vec<u8>,
    /// The annotations.
    pub annotations: Map<String, Value>,
}

impl Attachment {
    /// The layer's descriptor.
    pub fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": format!("sha256:{}", sha256_hex(&self.layer)),
            "size": self.layer.len(),
            "annotations": self.annotations,
        })
    }

    /// The manifest that a `.sig` or `.att` tag names.
    pub fn manifest(&self) -> Vec<u8> {
        let config = b"{}";
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": format!("sha256:{}", sha256_hex(config)),
                "size": config.len(),
            },
            "layers": [self.descriptor()],
        })
        .to_string()
        .into_bytes()
    }
}

/// What `cosign sign` signs for an image.
pub fn simple_signing(reference: &str, digest: &str) -> Vec<u8> {
    json!({
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string()
    .into_bytes()
}

/// The `dev.sigstore.cosign/bundle` annotation's text.
pub fn offline_bundle(entry: &Entry) -> String {
    json!({
        "SignedEntryTimestamp": STANDARD.encode(entry.promise.as_deref().unwrap_or_default()),
        "Payload": {
            "body": STANDARD.encode(&entry.body),
            "integratedTime": entry.integrated_time.unwrap_or_default(),
            "logIndex": entry.log_index,
            "logID": hex::encode(&entry.log_id),
        },
    })
    .to_string()
}

impl BundleBuilder<'_> {
    /// The same material as an attachment: an envelope's layer, or a simple signing payload's.
    pub fn to_attachment(&self) -> Attachment {
        let parts = self.parts();
        let mut annotations = Map::new();
        if let Signer::Leaf(leaf) = &self.signer {
            annotations.insert("dev.sigstore.cosign/certificate".into(), leaf.pem().into());
            annotations.insert("dev.sigstore.cosign/chain".into(), leaf.chain_pem().into());
        }
        if let Some(entry) = parts.entries.first() {
            annotations.insert("dev.sigstore.cosign/bundle".into(), offline_bundle(entry).into());
        }
        if let Some(token) = parts.timestamps.first() {
            let text = json!({"SignedRFC3161Timestamp": STANDARD.encode(token)}).to_string();
            annotations.insert("dev.sigstore.cosign/rfc3161timestamp".into(), text.into());
        }
        let (media_type, layer, signature) = match &parts.signed.envelope {
            Some(envelope) => (DSSE_LAYER, self.edited(envelope).to_bytes(), String::new()),
            None => {
                (SIMPLE_SIGNING_LAYER, parts.signed.message.clone(), STANDARD.encode(&parts.signed.signature))
            }
        };
        annotations.insert("dev.cosignproject.cosign/signature".into(), signature.into());
        Attachment { media_type: media_type.into(), layer, annotations }
    }
}
