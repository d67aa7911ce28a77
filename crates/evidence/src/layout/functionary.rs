//! Who may do a step, as a layout names them: keys, OpenPGP keys, and what nobody can be held to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use sha1::{Digest as _, Sha1};

use crate::{
    digest::Sha256,
    key::{KeyId, PublicKey, Scheme},
};

/// A key of a layout.
#[derive(Deserialize)]
pub(super) struct WireKey {
    #[serde(default)]
    keytype: String,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    keyval: WireKeyValue,
    /// Of OpenPGP keys, as securesystemslib exports them.
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    creation_time: Option<u32>,
    #[serde(default)]
    validity_period: Option<u32>,
    #[serde(default)]
    subkeys: BTreeMap<String, IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct WireKeyValue {
    #[serde(default)]
    public: Value,
}

/// A functionary who can be known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Functionary {
    pub(super) key: KeyId,
    /// From then on the key does nothing more.
    pub(super) ends: Option<Timestamp>,
}

/// The functionary whom a layout's step names; else why it cannot be known who that is.
pub(super) fn named(keys: &BTreeMap<String, WireKey>, name: &str) -> Result<Functionary, &'static str> {
    if let Some(key) = keys.get(name) {
        return key.functionary(name);
    }
    // Facts say which OpenPGP key signed, not by which of its parts: to let one part stand for the whole would let in others.
    match keys.values().any(|key| key.subkeys.contains_key(name)) {
        true => Err("a subkey without its OpenPGP key"),
        false => Err("a key that the layout does not have"),
    }
}

impl WireKey {
    fn functionary(&self, name: &str) -> Result<Functionary, &'static str> {
        if self.method.as_deref().is_some_and(|method| method.starts_with("pgp+")) {
            return self.openpgp(name);
        }
        let key = self.read().ok_or("a key of a kind that is not read")?;
        Ok(Functionary { key: key.id(), ends: None })
    }

    /// The key, if it is of a kind that is read: PEM, or the hex of an Ed25519 key.
    pub(super) fn read(&self) -> Option<PublicKey> {
        let text = self.keyval.public.as_str()?;
        match self.keytype.as_str() {
            "ed25519" if !text.contains("-----BEGIN") => {
                let raw: [u8; 32] = hex::decode(text).ok()?.try_into().ok()?;
                // RFC 8410 section 4: the key's place in a SubjectPublicKeyInfo.
                let mut spki = hex::decode("302a300506032b6570032100").ok()?;
                spki.extend(raw);
                PublicKey::from_spki(&spki, None).ok()
            }
            _ => {
                let scheme = match self.scheme.as_str() {
                    "rsassa-pss-sha256" => Some(Scheme::RsaPssSha256),
                    "rsa-pkcs1v15-sha256" => Some(Scheme::RsaPkcs1Sha256),
                    _ => None,
                };
                PublicKey::from_pem(text, scheme).ok()
            }
        }
    }

    /// An OpenPGP key by the packet that its name is the fingerprint of (RFC 9580 section 5.5.4). The layout shows its numbers
    /// only; what binds subkeys to it, and what it may do, is in the key that an operator registered under the same id.
    fn openpgp(&self, name: &str) -> Result<Functionary, &'static str> {
        let born = self.creation_time.ok_or("an OpenPGP key without the time of its creation")?;
        let bodies = self.bodies(born).ok_or("an OpenPGP key of a kind that is not read")?;
        let named = bodies.iter().find(|body| fingerprint(body) == name);
        let body = named.ok_or("an OpenPGP key under a name that is not its fingerprint")?;
        let life = self.validity_period.filter(|seconds| *seconds > 0);
        let ends = life.and_then(|life| Timestamp::from_second(i64::from(born) + i64::from(life)).ok());
        Ok(Functionary { key: KeyId(Sha256::of(body)), ends })
    }

    /// The bodies that the key's packet can have: RSA keys have one of two numbers.
    fn bodies(&self, born: u32) -> Option<Vec<Vec<u8>>> {
        let number = |name: &str| hex::decode(self.keyval.public.get(name)?.as_str()?).ok();
        let head = |algorithm: u8| [&[4], &born.to_be_bytes()[..], &[algorithm]].concat();
        match self.method.as_deref()? {
            "pgp+rsa-pkcsv1.5" => {
                let numbers = [mpi(&number("n")?), mpi(&number("e")?)].concat();
                Some([1, 3].map(|algorithm| [head(algorithm), numbers.clone()].concat()).into())
            }
            "pgp+eddsa-ed25519" => {
                let point = number("q").filter(|point| point.len() == 32)?;
                // The curve's object identifier, and the point in its native form (RFC 9580 sections 9.2 and 11.2.2).
                let curve = hex::decode("092b06010401da470f01").ok()?;
                Some(vec![[head(22), curve, mpi(&[&[0x40], &point[..]].concat())].concat()])
            }
            _ => None,
        }
    }
}

fn fingerprint(body: &[u8]) -> String {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    hex::encode(Sha1::digest([&[0x99], &length[..], body].concat()))
}

/// A number of RFC 9580 section 3.2: its length in bits, and its bytes without leading zeros.
pub(crate) fn mpi(bytes: &[u8]) -> Vec<u8> {
    let skipped = bytes.iter().take_while(|byte| **byte == 0).count();
    let number = &bytes[skipped..];
    let bits = number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize);
    [&u16::try_from(bits).unwrap_or(u16::MAX).to_be_bytes()[..], number].concat()
}
