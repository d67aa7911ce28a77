//! Public keys, their ids and schemes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::digest::{DigestError, Sha256};

/// SHA-256 of the key's SubjectPublicKeyInfo in DER; prints `sha256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub Sha256);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for KeyId {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(Self)
    }
}

/// A signature scheme. Stored with each key, because an RSA key does not say which padding it signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA P-256 with SHA-256, ASN.1 DER.
    EcdsaP256Sha256,
    /// ECDSA P-384 with SHA-384, ASN.1 DER.
    EcdsaP384Sha384,
    /// ECDSA P-521 with SHA-512, ASN.1 DER.
    EcdsaP521Sha512,
    /// RSA PKCS#1 v1.5 with SHA-256, 2048 to 8192 bits.
    RsaPkcs1Sha256,
    /// RSA-PSS with SHA-256, 2048 to 8192 bits.
    RsaPssSha256,
}
