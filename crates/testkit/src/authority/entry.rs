//! The bodies of log entries: what a log says was signed, by whom.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::trusted_root::key_details;
use crate::{der, dsse::Envelope, key::Key, sha256_hex};

/// A kind of log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `dsse` 0.0.1, Rekor v1.
    DsseV1,
    /// `intoto` 0.0.1, Rekor v1.
    IntotoV1,
    /// `intoto` 0.0.2, Rekor v1.
    IntotoV2,
    /// `hashedrekord` 0.0.1, Rekor v1; over the envelope's encoding, if there is an envelope.
    HashedRekordV1,
    /// `hashedrekord` 0.0.2, Rekor v2.
    HashedRekordV2,
    /// `dsse` 0.0.2, Rekor v2.
    DsseV2,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::DsseV1,
        Self::IntotoV1,
        Self::IntotoV2,
        Self::HashedRekordV1,
        Self::HashedRekordV2,
        Self::DsseV2,
    ];

    /// `kind` and `version`.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::DsseV1 => ("dsse", "0.0.1"),
            Self::IntotoV1 => ("intoto", "0.0.1"),
            Self::IntotoV2 => ("intoto", "0.0.2"),
            Self::HashedRekordV1 => ("hashedrekord", "0.0.1"),
            Self::HashedRekordV2 => ("hashedrekord", "0.0.2"),
            Self::DsseV2 => ("dsse", "0.0.2"),
        }
    }

    /// Whether Rekor v2 logs it.
    pub fn is_v2(self) -> bool {
        matches!(self, Self::HashedRekordV2 | Self::DsseV2)
    }

    /// Whether it can only be about an envelope.
    pub fn needs_envelope(self) -> bool {
        !matches!(self, Self::HashedRekordV1 | Self::HashedRekordV2)
    }
}

/// A signature and all that belongs to it.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The bytes that are signed.
    pub message: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
    /// The envelope, with the signature.
    pub envelope: Option<Envelope>,
    /// The certificate of the key, if it has one.
    pub certificate: Option<Vec<u8>>,
    /// The key.
    pub key: Key,
}

impl Signed {
    /// The certificate, or else the public key, as PEM.
    pub fn verifier_pem(&self) -> String {
        match &self.certificate {
            Some(certificate) => der::pem("CERTIFICATE", certificate),
            None => self.key.public_pem(),
        }
    }

    /// The body of an entry. Kinds for envelopes panic when a file was signed.
    pub fn body(&self, kind: Kind) -> Value {
        let signature = STANDARD.encode(&self.signature);
        let pem = STANDARD.encode(self.verifier_pem());
        let sha256 = |bytes: &[u8]| json!({"algorithm": "sha256", "value": sha256_hex(bytes)});
        let digest = |bytes: &[u8]| STANDARD.encode(hex::decode(sha256_hex(bytes)).expect("it is hex"));
        let envelope = || self.envelope.as_ref().expect("this kind of entry is about an envelope");
        let spec = match kind {
            Kind::HashedRekordV1 => json!({
                "data": {"hash": sha256(&self.message)},
                "signature": {"content": signature, "publicKey": {"content": pem}},
            }),
            Kind::HashedRekordV2 => json!({"hashedRekordV002": {
                "data": {"algorithm": "SHA2_256", "digest": digest(&self.message)},
                "signature": {"content": signature, "verifier": self.verifier()},
            }}),
            Kind::DsseV1 => json!({
                "envelopeHash": sha256(&envelope().to_bytes()),
                "payloadHash": sha256(&envelope().payload),
                "signatures": [{"signature": signature, "verifier": pem}],
            }),
            Kind::DsseV2 => json!({"dsseV002": {
                "payloadHash": {"algorithm": "SHA2_256", "digest": digest(&envelope().payload)},
                "signatures": [{"content": signature, "verifier": self.verifier()}],
            }}),
            Kind::IntotoV1 => json!({
                "content": {
                    "hash": sha256(&envelope().to_bytes()),
                    "payloadHash": sha256(&envelope().payload),
                },
                "publicKey": pem,
            }),
            // The log encodes the signature of this kind twice.
            Kind::IntotoV2 => json!({"content": {
                "envelope": {
                    "payloadType": envelope().payload_type,
                    "signatures": [{"publicKey": pem, "sig": STANDARD.encode(&signature)}],
                },
                "hash": sha256(&envelope().to_bytes()),
                "payloadHash": sha256(&envelope().payload),
            }}),
        };
        let (kind, version) = kind.names();
        json!({"apiVersion": version, "kind": kind, "spec": spec})
    }

    fn verifier(&self) -> Value {
        let mut verifier = json!({"keyDetails": key_details(&self.key)});
        match &self.certificate {
            Some(der) => verifier["x509Certificate"] = json!({"rawBytes": STANDARD.encode(der)}),
            None => verifier["publicKey"] = json!({"rawBytes": STANDARD.encode(self.key.spki_der())}),
        }
        verifier
    }
}
