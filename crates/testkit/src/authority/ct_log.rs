//! A certificate transparency log: signed certificate timestamps (RFC 6962) over precertificates.

use super::x509::{CertificateSpec, Extension, Issuer, oid};
use crate::{der, key::Key, sha256_hex};

/// The certificate transparency log.
#[derive(Debug, Clone)]
pub struct CtLog {
    /// Its P-256 key.
    pub key: Key,
}

/// What the embedded timestamp of a leaf is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sct {
    /// As it should be.
    #[default]
    Good,
    /// No list at all.
    Missing,
    /// One bit of the signature is wrong.
    BadSignature,
    /// Good, by a log that nobody knows.
    UnknownLog,
    /// Signed by another key under the known log's id.
    ForgedLogId,
    /// Good for another certificate of the same issuer.
    OtherCertificate,
    /// Good for another issuer's key.
    OtherIssuer,
}

impl CtLog {
    /// The log of that name.
    pub fn new(name: &str) -> Self {
        Self { key: Key::p256(&format!("ct log {name}")) }
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn id(&self) -> Vec<u8> {
        hex::decode(sha256_hex(self.key.spki_der())).expect("it is hex")
    }

    /// One timestamp over a precertificate's TBS. `milliseconds` is its time.
    pub fn timestamp(&self, tbs: &[u8], issuer_spki: &[u8], milliseconds: u64) -> Vec<u8> {
        let issuer_hash = hex::decode(sha256_hex(issuer_spki)).expect("it is hex");
        let length = u32::try_from(tbs.len()).expect("certificates are small").to_be_bytes();
        let signed =
            [&[0, 0][..], &milliseconds.to_be_bytes(), &[0, 1], &issuer_hash, &length[1..], tbs, &[0, 0]]
                .concat();
        let signature = self.key.sign(&signed);
        let length = u16::try_from(signature.len()).expect("signatures are small").to_be_bytes();
        [&[0][..], &self.id(), &milliseconds.to_be_bytes(), &[0, 0, 4, 3], &length, &signature].concat()
    }

    /// The list extension for `spec`, which must not hold one yet.
    pub fn extension(&self, spec: &CertificateSpec, issuer: &Issuer, sct: Sct, at: i64) -> Option<Extension> {
        let milliseconds = u64::try_from(at).expect("after 1970") * 1_000;
        let tbs = spec.tbs(issuer);
        let spki = issuer.key.spki_der();
        let stranger = Self::new("nobody knows this log");
        let bytes = match sct {
            Sct::Good => self.timestamp(&tbs, spki, milliseconds),
            Sct::Missing => return None,
            Sct::BadSignature => {
                let mut bytes = self.timestamp(&tbs, spki, milliseconds);
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                bytes
            }
            Sct::UnknownLog => stranger.timestamp(&tbs, spki, milliseconds),
            Sct::ForgedLogId => {
                let mut bytes = stranger.timestamp(&tbs, spki, milliseconds);
                bytes[1..33].copy_from_slice(&self.id());
                bytes
            }
            Sct::OtherCertificate => {
                let mut other = spec.clone();
                other.serial = vec![0x41; 16];
                self.timestamp(&other.tbs(issuer), spki, milliseconds)
            }
            Sct::OtherIssuer => self.timestamp(&tbs, Key::p256("another issuer").spki_der(), milliseconds),
        };
        let prefixed = |bytes: &[u8]| {
            let length = u16::try_from(bytes.len()).expect("timestamps are small").to_be_bytes();
            [&length[..], bytes].concat()
        };
        Some(Extension::new(oid::SCT_LIST, der::octets(&prefixed(&prefixed(&bytes)))))
    }
}
