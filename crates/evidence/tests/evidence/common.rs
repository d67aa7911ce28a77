//! Signers and envelopes for the tests of this crate. The bytes are written by the testkit, which shares no code with
//! the crate under test.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_evidence::{PublicKey, Scheme, Trust};
use catenary_testkit::key::Key;
use serde_json::{Value, json};

/// A key pair that signs: a fresh one each time, but for RSA.
pub struct Signer(pub Key);

fn fresh() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("evidence {}", COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Signer {
    pub fn ed25519() -> Self {
        Self(Key::ed25519(&fresh()))
    }

    pub fn p256() -> Self {
        Self(Key::p256(&fresh()))
    }

    pub fn p384() -> Self {
        Self(Key::p384(&fresh()))
    }

    pub fn p521() -> Self {
        Self(Key::p521(&fresh()))
    }

    pub fn rsa_pkcs1() -> Self {
        Self(Key::rsa_pkcs1("rsa"))
    }

    pub fn rsa_pss() -> Self {
        Self(Key::rsa_pss("pss"))
    }

    pub fn spki(&self) -> Vec<u8> {
        self.0.spki_der().to_vec()
    }

    pub fn public(&self) -> PublicKey {
        public(&self.0)
    }

    pub fn keyid(&self) -> String {
        self.0.id()
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message)
    }
}

/// The public half, as a tenant registers it.
pub fn public(key: &Key) -> PublicKey {
    let scheme: Scheme = key.scheme().name().parse().unwrap();
    let public = PublicKey::from_pem(&key.public_pem(), Some(scheme)).unwrap();
    assert_eq!(public.id().to_string(), key.id(), "both sides give a key the same id");
    public
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

pub fn ring(signers: &[&Signer]) -> Trust {
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
