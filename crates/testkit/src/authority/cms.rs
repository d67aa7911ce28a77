//! CMS `SignedData` (RFC 5652) with one signer, for timestamps and gitsign.

use super::x509::{Issuer, signature_algorithm};
use crate::{
    der,
    key::{Key, Scheme},
};

const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";

/// A message that is being signed.
#[derive(Debug, Clone)]
pub struct SignedData {
    /// `eContentType`.
    pub content_type: String,
    /// The content's bytes.
    pub content: Vec<u8>,
    /// Leaves the content out of the message.
    pub detached: bool,
    /// Whose name and serial number the signer info gives.
    pub signer: Issuer,
    /// The key that really signs.
    pub key: Key,
    /// The bag of certificates.
    pub certificates: Vec<Vec<u8>>,
    /// What is signed as the content's type, if it is not [`SignedData::content_type`].
    pub signed_type: Option<String>,
    /// `messageDigest`, if it is not the content's.
    pub message_digest: Option<Vec<u8>>,
    /// Further signed attributes: identifier and the value in DER.
    pub signed: Vec<(String, Vec<u8>)>,
    /// Attributes that nobody signs.
    pub unsigned: Vec<(String, Vec<u8>)>,
    /// `version` of the message: 1 for plain data, 3 otherwise.
    pub version: u8,
}

impl SignedData {
    /// A message signed by `signer`, with its certificate in the bag.
    pub fn new(content_type: &str, content: &[u8], signer: &Issuer) -> Self {
        Self {
            content_type: content_type.into(),
            content: content.to_vec(),
            detached: false,
            signer: signer.clone(),
            key: signer.key.clone(),
            certificates: vec![signer.certificate.clone()],
            message_digest: None,
            signed_type: None,
            signed: Vec::new(),
            unsigned: Vec::new(),
            version: 3,
        }
    }

    /// The signed attributes as `SET OF`: what is signed.
    pub fn attributes(&self) -> Vec<u8> {
        let digest = self.message_digest.clone().unwrap_or_else(|| digest(&self.key, &self.content));
        let mut attributes = vec![
            attribute(
                "1.2.840.113549.1.9.3",
                &der::oid(self.signed_type.as_ref().unwrap_or(&self.content_type)),
            ),
            attribute("1.2.840.113549.1.9.4", &der::octets(&digest)),
        ];
        attributes.extend(self.signed.iter().map(|(oid, value)| attribute(oid, value)));
        der::set_of(0x31, attributes)
    }

    /// The message as `ContentInfo`, with a fresh signature.
    pub fn to_der(&self) -> Vec<u8> {
        self.to_der_with(&self.key.sign(&self.attributes()))
    }

    /// The message with a signature that was made before.
    pub fn to_der_with(&self, signature: &[u8]) -> Vec<u8> {
        let algorithm = der::sequence(&[&digest_algorithm(&self.key)]);
        let content = match self.detached {
            true => Vec::new(),
            false => der::tlv(0xa0, &der::octets(&self.content)),
        };
        let mut attributes = self.attributes();
        attributes[0] = 0xa0;
        let unsigned: Vec<Vec<u8>> = self.unsigned.iter().map(|(oid, value)| attribute(oid, value)).collect();
        let unsigned = if unsigned.is_empty() { Vec::new() } else { der::set_of(0xa1, unsigned) };
        let signer = der::sequence(&[
            &der::integer(&[1]),
            &der::sequence(&[&self.signer.issued_by, &der::integer(&self.signer.serial)]),
            &algorithm,
            &attributes,
            &signature_algorithm(self.key.scheme()),
            &der::octets(signature),
            &unsigned,
        ]);
        let certificates = match self.certificates.is_empty() {
            true => Vec::new(),
            false => der::set_of(0xa0, self.certificates.clone()),
        };
        let data = der::sequence(&[
            &der::integer(&[self.version]),
            &der::set_of(0x31, vec![algorithm.clone()]),
            &der::sequence(&[&der::oid(&self.content_type), &content]),
            &certificates,
            &der::set_of(0x31, vec![signer]),
        ]);
        der::sequence(&[&der::oid(SIGNED_DATA), &der::tlv(0xa0, &data)])
    }
}

fn attribute(oid: &str, value: &[u8]) -> Vec<u8> {
    der::sequence(&[&der::oid(oid), &der::tlv(0x31, value)])
}

fn digest_algorithm(key: &Key) -> Vec<u8> {
    match key.scheme() {
        Scheme::P384 => der::oid("2.16.840.1.101.3.4.2.2"),
        Scheme::P521 | Scheme::Ed25519 => der::oid("2.16.840.1.101.3.4.2.3"),
        Scheme::P256 | Scheme::RsaPkcs1 | Scheme::RsaPss => der::oid("2.16.840.1.101.3.4.2.1"),
    }
}

fn digest(key: &Key, content: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256, Sha384, Sha512};
    match key.scheme() {
        Scheme::P384 => Sha384::digest(content).to_vec(),
        Scheme::P521 | Scheme::Ed25519 => Sha512::digest(content).to_vec(),
        Scheme::P256 | Scheme::RsaPkcs1 | Scheme::RsaPss => Sha256::digest(content).to_vec(),
    }
}
