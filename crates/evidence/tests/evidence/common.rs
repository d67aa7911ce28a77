//! Signers and envelopes for the tests of this crate, written with aws-lc-rs alone: no code of the crate under test
//! makes the bytes that it is tested with.

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    rsa,
    signature::{
        self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_evidence::{KeyRing, PublicKey, Scheme};
use serde_json::{Value, json};

/// A key pair that signs.
pub enum Signer {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    RsaPkcs1(RsaKeyPair),
    RsaPss(RsaKeyPair),
}

impl Signer {
    pub fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    pub fn p256() -> Self {
        Self::ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)
    }

    pub fn p384() -> Self {
        Self::ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING)
    }

    pub fn p521() -> Self {
        Self::ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING)
    }

    fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        Self::Ecdsa(EcdsaKeyPair::generate(algorithm).unwrap())
    }

    pub fn rsa_pkcs1() -> Self {
        Self::RsaPkcs1(RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap())
    }

    pub fn rsa_pss() -> Self {
        Self::RsaPss(RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap())
    }

    pub fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Ed25519(k) => k.public_key().as_der().unwrap(),
            Self::Ecdsa(k) => k.public_key().as_der().unwrap(),
            Self::RsaPkcs1(k) | Self::RsaPss(k) => k.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    pub fn public(&self) -> PublicKey {
        let scheme = matches!(self, Self::RsaPss(_)).then_some(Scheme::RsaPssSha256);
        PublicKey::from_spki(&self.spki(), scheme).unwrap()
    }

    pub fn keyid(&self) -> String {
        self.public().id().to_string()
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed25519(k) => k.sign(message).as_ref().to_vec(),
            Self::Ecdsa(k) => k.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::RsaPkcs1(k) => rsa_sign(k, &signature::RSA_PKCS1_SHA256, message),
            Self::RsaPss(k) => rsa_sign(k, &signature::RSA_PSS_SHA256, message),
        }
    }
}

fn rsa_sign(key: &RsaKeyPair, padding: &'static dyn signature::RsaEncoding, message: &[u8]) -> Vec<u8> {
    let mut out = vec![0; key.public_modulus_len()];
    key.sign(padding, &SystemRandom::new(), message, &mut out).unwrap();
    out
}

pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// What DSSE signs, written out once more.
pub fn pae(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Signatures given as (keyid, bytes).
pub fn envelope_with(payload: &[u8], signatures: &[(Option<&str>, &[u8])]) -> Vec<u8> {
    let signatures: Vec<Value> = signatures
        .iter()
        .map(|(keyid, sig)| match keyid {
            Some(keyid) => json!({"keyid": keyid, "sig": STANDARD.encode(sig)}),
            None => json!({"sig": STANDARD.encode(sig)}),
        })
        .collect();
    json!({"payloadType": PAYLOAD_TYPE, "payload": STANDARD.encode(payload), "signatures": signatures})
        .to_string()
        .into_bytes()
}

/// One signature that names its key.
pub fn envelope(payload: &[u8], signer: &Signer) -> Vec<u8> {
    envelope_with(payload, &[(Some(&signer.keyid()), &signer.sign(&pae(payload)))])
}

/// One signature without `keyid`.
pub fn anonymous(payload: &[u8], signer: &Signer) -> Vec<u8> {
    envelope_with(payload, &[(None, &signer.sign(&pae(payload)))])
}

pub fn ring(signers: &[&Signer]) -> KeyRing {
    signers.iter().map(|s| s.public()).collect()
}

pub const IMAGE: &str = "6f4bbbe5a2d0bcb7b1d6a31f6ed3c07ba7b4ea7c8bd6cbf9fbb2a3d3be0cbd5a";
pub const COMMIT: &str = "a6c23b9806c593664f68637c8f9d45dfcf98b2db";

pub fn statement(predicate_type: &str, predicate: Value) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "registry.acme.test/acme/app", "digest": {"sha256": IMAGE}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    })
}

/// Generic provenance of the golden chain.
pub fn provenance() -> Value {
    statement(
        "https://slsa.dev/provenance/v1",
        json!({
            "buildDefinition": {
                "buildType": "urn:catenary:buildtype:generic:v1",
                "externalParameters": {
                    "source": {"uri": "git+https://git.acme.test/acme/app", "ref": "refs/heads/main"},
                    "target": "release"},
                "internalParameters": {"trigger": "push", "runner": "self-hosted"},
                "resolvedDependencies": [
                    {"uri": "git+https://git.acme.test/acme/app@refs/heads/main", "digest": {"gitCommit": COMMIT}},
                    {"name": "baseImage", "uri": "docker://registry.acme.test/base/alpine", "digest": {"sha256": IMAGE}}]},
            "runDetails": {"builder": {"id": "https://ci.acme.test"},
                "metadata": {"invocationId": "run-1", "startedOn": "2026-11-20T10:00:00Z", "finishedOn": "2026-11-20T10:05:00Z"}}
        }),
    )
}

pub fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
