//! An Ed25519 key in OpenSSH's three forms: public line, private key file (PROTOCOL.key), signature
//! (PROTOCOL.sshsig). The last two are written here so that the demonstration works without OpenSSH, too.

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha512};

use crate::sign::PrivateKey;

const KIND: &[u8] = b"ssh-ed25519";

/// A developer's key, the same on every run: the commit's id depends on it.
pub struct Developer {
    seed: [u8; 32],
    raw: [u8; 32],
    key: PrivateKey,
}

impl Developer {
    /// The key of a seed.
    pub fn new(seed: [u8; 32]) -> Result<Self> {
        let key = PrivateKey::from_seed(&seed)?;
        // An Ed25519 SPKI ends in the raw key (RFC 8410).
        let raw = *key.public()?.spki().last_chunk().context("a short key")?;
        Ok(Self { seed, raw, key })
    }

    /// `ssh-ed25519 AAAA… dev@demo.test`.
    pub fn public_line(&self) -> String {
        format!("ssh-ed25519 {} dev@demo.test\n", STANDARD.encode(self.public_blob()))
    }

    /// The id under which the service knows the key.
    pub fn id(&self) -> Result<String> {
        Ok(self.key.public()?.id().to_string())
    }

    /// The private key file that `ssh-keygen` and git read.
    pub fn private_file(&self) -> String {
        let check = 0x4354_4e44_u32.to_be_bytes();
        let pair = [self.seed, self.raw].concat();
        let mut secret = [
            &check[..],
            &check,
            &string(KIND),
            &string(&self.raw),
            &string(&pair),
            &string(b"dev@demo.test"),
        ]
        .concat();
        for padding in 1..=(8 - secret.len() % 8) % 8 {
            secret.push(u8::try_from(padding).unwrap_or_default());
        }
        let head = [string(b"none"), string(b"none"), string(b"")].concat();
        let blob = [
            b"openssh-key-v1\0",
            head.as_slice(),
            &1u32.to_be_bytes(),
            &string(&self.public_blob()),
            &string(&secret),
        ]
        .concat();
        armour("OPENSSH PRIVATE KEY", &blob)
    }

    /// A signature in namespace `git`, the very bytes that `ssh-keygen -Y sign` writes.
    pub fn sign(&self, message: &[u8]) -> Result<String> {
        let named = [string(b"git"), string(b""), string(b"sha512")].concat();
        let hashed = string(&Sha512::digest(message));
        let raw = self.key.sign(&[b"SSHSIG", named.as_slice(), &hashed].concat())?;
        let signature = string(&[string(KIND), string(&raw)].concat());
        let public = string(&self.public_blob());
        Ok(armour(
            "SSH SIGNATURE",
            &[b"SSHSIG", 1u32.to_be_bytes().as_slice(), &public, &named, &signature].concat(),
        ))
    }

    fn public_blob(&self) -> Vec<u8> {
        [string(KIND), string(&self.raw)].concat()
    }
}

/// `string` of RFC 4251.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

fn armour(label: &str, bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> =
        text.as_bytes().chunks(70).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
