//! Private keys on this machine, and the envelopes that they sign.

use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::{Context, Result, bail};
use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use catenary_evidence::PublicKey;
use serde_json::{Value, json};

use crate::commands::key::Algorithm;

/// A private key, and what it signs with.
pub enum PrivateKey {
    /// Ed25519.
    Ed25519(Ed25519KeyPair, Vec<u8>),
    /// ECDSA P-256 or P-384.
    Ecdsa(EcdsaKeyPair, Vec<u8>),
}

impl PrivateKey {
    /// Makes a new key.
    pub fn generate(algorithm: Algorithm) -> Result<Self> {
        let pkcs8 = match algorithm {
            Algorithm::Ed25519 => Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?.as_ref().to_vec(),
            Algorithm::P256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())?
                    .as_ref()
                    .to_vec()
            }
            Algorithm::P384 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &SystemRandom::new())?
                    .as_ref()
                    .to_vec()
            }
        };
        Self::from_pkcs8(pkcs8)
    }

    /// The Ed25519 key of a seed: the demonstration's developer, so that its commit has the same id on every run.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self> {
        Self::from_pkcs8(Ed25519KeyPair::from_seed_unchecked(seed)?.to_pkcs8()?.as_ref().to_vec())
    }

    /// Reads a PKCS#8 PEM file.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the signing key {}", file.display()))?;
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        if !text.contains("-----BEGIN PRIVATE KEY-----") {
            bail!(
                "{} is not a PKCS#8 private key (`-----BEGIN PRIVATE KEY-----`); make one with `catenary key generate`",
                file.display()
            );
        }
        Self::from_pkcs8(STANDARD.decode(body).context("the key's base64")?)
    }

    fn from_pkcs8(der: Vec<u8>) -> Result<Self> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(&der) {
            return Ok(Self::Ed25519(pair, der));
        }
        for algorithm in [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING] {
            if let Ok(pair) = EcdsaKeyPair::from_pkcs8(algorithm, &der) {
                return Ok(Self::Ecdsa(pair, der));
            }
        }
        bail!("the key is neither Ed25519 nor ECDSA P-256 or P-384")
    }

    /// PKCS#8 as PEM.
    pub fn to_pem(&self) -> String {
        let (Self::Ed25519(_, der) | Self::Ecdsa(_, der)) = self;
        pem("PRIVATE KEY", der)
    }

    /// The public half.
    pub fn public(&self) -> Result<PublicKey> {
        let spki = match self {
            Self::Ed25519(pair, _) => pair.public_key().as_der()?.as_ref().to_vec(),
            Self::Ecdsa(pair, _) => pair.public_key().as_der()?.as_ref().to_vec(),
        };
        Ok(PublicKey::from_pem(&pem("PUBLIC KEY", &spki), None)?)
    }

    /// A signature over `message`.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        Ok(match self {
            Self::Ed25519(pair, _) => pair.sign(message).as_ref().to_vec(),
            Self::Ecdsa(pair, _) => pair.sign(&SystemRandom::new(), message)?.as_ref().to_vec(),
        })
    }

    /// A DSSE envelope around an in-toto statement.
    pub fn envelope(&self, statement: &Value) -> Result<Value> {
        let payload = serde_json::to_vec(statement)?;
        let signature = self.sign(&catenary_evidence::dsse::pae(PAYLOAD_TYPE, &payload))?;
        Ok(json!({
            "payloadType": PAYLOAD_TYPE,
            "payload": STANDARD.encode(&payload),
            "signatures": [{"keyid": self.public()?.id(), "sig": STANDARD.encode(signature)}],
        }))
    }
}

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// DER as PEM, 64 columns (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Writes a secret that only its owner can read; never over an existing file.
pub fn write_private(file: &Path, text: &str) -> Result<()> {
    let mut handle =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).with_context(
            || format!("cannot create {} (an existing key is never overwritten)", file.display()),
        )?;
    handle.write_all(text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use catenary_evidence::{Trust, attestation};

    use super::*;

    #[test]
    fn what_each_kind_of_key_signs_verifies_under_its_public_half() {
        for algorithm in [Algorithm::Ed25519, Algorithm::P256, Algorithm::P384] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("a.key");
            write_private(&file, &PrivateKey::generate(algorithm).unwrap().to_pem()).unwrap();
            assert!(write_private(&file, "never over an existing key").is_err());
            let key = PrivateKey::read(&file).unwrap();
            let statement = json!({
                "_type": "https://in-toto.io/Statement/v1",
                "subject": [{"name": "a", "digest": {"sha256": "1".repeat(64)}}],
                "predicateType": "https://example.com/anything/v1",
                "predicate": {},
            });
            let envelope = serde_json::to_vec(&key.envelope(&statement).unwrap()).unwrap();
            let ring: Trust = [key.public().unwrap()].into_iter().collect();
            assert!(attestation::verify(&envelope, &ring).unwrap().is_verified(), "{algorithm:?}");
        }
    }
}
