//! Signatures over envelopes, verified without the service's code.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_testkit::{Key, key::Scheme};
use serde_json::Value;

/// Public keys by their ids.
#[derive(Debug, Default)]
pub struct Ring(BTreeMap<String, (&'static dyn VerificationAlgorithm, Vec<u8>)>);

impl Ring {
    /// Adds the public part of a key.
    pub fn add(&mut self, key: &Key) {
        let algorithm: &'static dyn VerificationAlgorithm = match key.scheme() {
            Scheme::Ed25519 => &ED25519,
            Scheme::P256 => &ECDSA_P256_SHA256_ASN1,
            _ => &ECDSA_P384_SHA384_ASN1,
        };
        self.0.insert(key.id(), (algorithm, key.public_raw().to_vec()));
    }

    /// Adds a P-256 or Ed25519 key of the service from its SubjectPublicKeyInfo in PEM.
    pub fn add_pem(&mut self, id: &str, pem: &str) {
        let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let spki = STANDARD.decode(text).unwrap_or_default();
        // The raw key is the end of the structure: 32 bytes, or an uncompressed point.
        let found: Option<(&'static dyn VerificationAlgorithm, usize)> = match spki.len() {
            44 => Some((&ED25519, 32)),
            91 => Some((&ECDSA_P256_SHA256_ASN1, 65)),
            _ => None,
        };
        if let Some((algorithm, length)) = found {
            self.0.insert(id.to_owned(), (algorithm, spki[spki.len() - length..].to_vec()));
        }
    }

    /// The payload, when a signature of a known key over it verifies.
    pub fn open(&self, envelope: &[u8]) -> Option<Vec<u8>> {
        let envelope: Value = serde_json::from_slice(envelope).ok()?;
        let kind = envelope["payloadType"].as_str()?;
        let payload = STANDARD.decode(envelope["payload"].as_str()?).ok()?;
        let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
        message.extend_from_slice(&payload);
        let verifies = |signature: &Value| {
            let (algorithm, key) = self.0.get(signature["keyid"].as_str()?)?;
            let bytes = STANDARD.decode(signature["sig"].as_str()?).ok()?;
            UnparsedPublicKey::new(*algorithm, key).verify(&message, &bytes).ok()
        };
        envelope["signatures"].as_array()?.iter().find_map(verifies)?;
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use catenary_testkit::dsse::envelope;

    use super::*;

    #[test]
    fn only_a_good_signature_of_a_known_key_opens() {
        let keys = [Key::ed25519("a"), Key::p256("b"), Key::p384("c")];
        let mut ring = Ring::default();
        keys.iter().for_each(|key| ring.add(key));
        for key in &keys {
            let good = envelope(key, "text/plain", "hello");
            assert_eq!(ring.open(good.as_bytes()).as_deref(), Some(&b"hello"[..]));
            assert_eq!(ring.open(good.replace("text/plain", "text/plane").as_bytes()), None);
        }
        assert_eq!(ring.open(envelope(&Key::ed25519("x"), "text/plain", "hello").as_bytes()), None);
        let mut pem = Ring::default();
        for key in &keys[..2] {
            pem.add_pem(&key.id(), &key.public_pem());
            assert!(pem.open(envelope(key, "text/plain", "hello").as_bytes()).is_some());
        }
    }
}
