//! OpenPGP keys and detached signatures (RFC 9580), read and verified by rPGP.
//!
//! rPGP verifies single signatures. What makes a key usable is decided here: self-signatures and bindings that
//! verify, the signing flag, revocation, expiry at the time of the signature, and no weak hash.

use std::{collections::BTreeMap, sync::Arc};

use pgp::{
    composed::{Deserializable as _, DetachedSignature, SignedPublicKey},
    crypto::hash::HashAlgorithm,
    packet::{PublicKey as Primary, PublicSubkey, Signature, SignatureType},
    ser::Serialize as _,
    types::{KeyDetails as _, Tag},
};

use sha2::Digest as _;

use crate::{
    digest::Sha256,
    key::{KeyError, KeyId, KeyRing},
    layout::mpi,
    refusal::Refusal,
};

/// Largest armoured key: keys of people carry the signatures of many others.
pub const MAX_OPENPGP_KEY: usize = 64 * 1024;

/// Largest armoured signature.
const MAX_SIGNATURE: usize = 16 * 1024;

const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Whether a text is an armoured OpenPGP key.
pub(crate) fn is_key(text: &str) -> bool {
    text.contains(BEGIN)
}

/// A primary key with its subkeys.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    armour: Arc<str>,
    id: KeyId,
    fingerprint: String,
    /// Keys that may sign, by fingerprint in lower-case hex.
    signing: BTreeMap<String, Signing>,
}

#[derive(Debug, Clone)]
struct Signing {
    key: Part,
    /// Unix seconds: signatures made in `from <= t < until`.
    from: u32,
    until: Option<u32>,
}

#[derive(Debug, Clone)]
enum Part {
    Primary(Box<Primary>),
    Subkey(Box<PublicSubkey>),
}

impl Certificate {
    /// Reads exactly one armoured key. A key that nobody may sign with any more is refused.
    pub(crate) fn read(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_OPENPGP_KEY {
            return Err(KeyError::TooLarge);
        }
        if text.contains("PRIVATE KEY BLOCK-----") {
            return Err(KeyError::PrivateKey);
        }
        let found = text.matches("-----BEGIN ").count();
        if found != 1 {
            return Err(KeyError::NotOneKey { found });
        }
        let malformed = |e: pgp::errors::Error| KeyError::Malformed(e.to_string());
        let (mut keys, _) = SignedPublicKey::from_string_many(text.trim()).map_err(malformed)?;
        let key =
            keys.next().ok_or_else(|| KeyError::Malformed("it holds no key".into()))?.map_err(malformed)?;
        if keys.next().is_some() {
            return Err(KeyError::NotOneKey { found: 2 });
        }
        let primary = &key.primary_key;
        let body = primary.to_bytes().map_err(malformed)?;
        let signing = signing_keys(&key);
        if signing.is_empty() {
            return Err(KeyError::CannotSign);
        }
        Ok(Self {
            armour: text.trim().into(),
            id: KeyId(Sha256::of(&body)),
            fingerprint: hex::encode(primary.fingerprint().as_bytes()),
            signing,
        })
    }

    /// SHA-256 of the body of the primary key's packet.
    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    /// The armour, as it was read.
    pub(crate) fn armour(&self) -> &str {
        &self.armour
    }

    /// Fingerprint of the primary key, lower-case hex.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Fingerprints of the keys that may sign.
    pub(crate) fn signing(&self) -> impl Iterator<Item = &str> {
        self.signing.keys().map(String::as_str)
    }

    /// The one of its keys that made the signature over `message`.
    fn verifies(&self, signature: &Signature, message: &[u8]) -> Option<&Signing> {
        let made = signature.created()?;
        let made = made.as_secs();
        let expires = signature.signature_expiration_time().map_or(0, |d| d.as_secs());
        // An expiry that the signer set is not kept: nothing here knows what time it is.
        let good = expires == 0 && signature.typ() == Some(SignatureType::Binary) && is_strong(signature);
        self.signing.values().filter(|_| good).find(|key| {
            key.from <= made
                && key.until.is_none_or(|until| made < until)
                && match &key.key {
                    Part::Primary(key) => signature.verify(&**key, message).is_ok(),
                    Part::Subkey(key) => signature.verify(&**key, message).is_ok(),
                }
        })
    }
}

/// SHA-1, MD5 and RIPEMD prove nothing; SHA-224 is below what the other forms accept.
fn is_strong(signature: &Signature) -> bool {
    matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    )
}

fn signing_keys(key: &SignedPublicKey) -> BTreeMap<String, Signing> {
    let primary = &key.primary_key;
    let mut signing = BTreeMap::new();
    let revoked = key.details.revocation_signatures.iter().any(|s| s.verify_key(primary).is_ok());
    // Self-signatures by SHA-1 are met on old keys; they bind the holder's own statements, not foreign bytes.
    let certified = key.details.users.iter().flat_map(|user| {
        let own = |s: &&Signature| {
            s.is_certification() && s.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        };
        let withdrawn = user.signatures.iter().any(|s| {
            s.typ() == Some(SignatureType::CertRevocation)
                && s.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        });
        user.signatures.iter().filter(own).filter(move |_| !withdrawn)
    });
    let direct = key.details.direct_signatures.iter().filter(|s| s.verify_key(primary).is_ok());
    let newest = certified.chain(direct).max_by_key(|s| s.created().map_or(0, |t| t.as_secs()));
    let Some(newest) = newest.filter(|_| !revoked) else { return signing };
    let born = primary.created_at().as_secs();
    let primary_until = until(born, newest);
    // Keys without flags are older than flags: such a primary key signs.
    let flagged = newest.config().is_some_and(|config| {
        config.hashed_subpackets().any(|p| matches!(p.data, pgp::packet::SubpacketData::KeyFlags(_)))
    });
    if newest.key_flags().sign() || !flagged {
        let key = Part::Primary(Box::new(primary.clone()));
        signing.insert(
            hex::encode(primary.fingerprint().as_bytes()),
            Signing { key, from: born, until: primary_until },
        );
    }
    for subkey in &key.public_subkeys {
        let bound = |s: &&Signature| s.verify_subkey_binding(primary, &subkey.key).is_ok();
        let revoked = subkey.signatures.iter().filter(bound);
        if revoked.clone().any(|s| s.typ() == Some(SignatureType::SubkeyRevocation)) {
            continue;
        }
        let newest = revoked.max_by_key(|s| s.created().map_or(0, |t| t.as_secs()));
        let Some(binding) = newest.filter(|s| s.key_flags().sign()) else { continue };
        // Without the subkey's own consent anyone could claim somebody's signing key as a subkey.
        let consents = binding
            .embedded_signature()
            .is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok());
        if !consents {
            continue;
        }
        let from = subkey.key.created_at().as_secs();
        let until = [until(from, binding), primary_until].into_iter().flatten().min();
        let part = Part::Subkey(Box::new(subkey.key.clone()));
        signing.insert(hex::encode(subkey.key.fingerprint().as_bytes()), Signing { key: part, from, until });
    }
    signing
}

/// When a key that was made at `born` expires, by what the signature about it says; 0 is never.
fn until(born: u32, about: &Signature) -> Option<u32> {
    let seconds = about.key_expiration_time()?.as_secs();
    (seconds > 0).then(|| born.saturating_add(seconds))
}

/// Verifies `armour` over `message`.
///
/// The signature names its key by fingerprint or key id. A name that no registered key has vouches for nothing:
/// `None`; so do signatures with a weak hash or outside the key's life. A registered key that is named and did not make
/// the signature refuses the object.
pub(crate) fn verify(armour: &str, message: &[u8], keys: &KeyRing) -> Result<Option<KeyId>, Refusal> {
    if armour.len() > MAX_SIGNATURE {
        return Ok(None);
    }
    let Ok((mut found, _)) = DetachedSignature::from_string_many(armour.trim()) else { return Ok(None) };
    // Two signatures in one armour would leave open which one is meant.
    let (Some(Ok(DetachedSignature { signature })), None) = (found.next(), found.next()) else {
        return Ok(None);
    };
    match made(&signature, None, message, keys) {
        Ok(found) => Ok(found.map(|found| found.key)),
        Err(key) => Err(Refusal::ObjectSignature { key }),
    }
}

/// A key that made a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) key: KeyId,
    /// Unix seconds at which it, or the subkey that signed, expires.
    pub(crate) until: Option<u32>,
}

/// Verifies one signature packet ([`packet`]) over `message`, as [`verify`] does; `hint` names the key as well. The error is
/// the registered key that is named and did not make it.
pub(crate) fn verify_packet(
    packet: &[u8],
    hint: Option<&str>,
    message: &[u8],
    keys: &KeyRing,
) -> Result<Option<Made>, KeyId> {
    let Ok(DetachedSignature { signature }) = DetachedSignature::from_bytes(packet) else { return Ok(None) };
    made(&signature, hint, message, keys)
}

fn made(
    signature: &Signature,
    hint: Option<&str>,
    message: &[u8],
    keys: &KeyRing,
) -> Result<Option<Made>, KeyId> {
    let prints = signature.issuer_fingerprint();
    let named = prints.iter().map(|print| hex::encode(print.as_bytes()));
    let ids = signature.issuer_key_id();
    let short = ids.iter().map(|id| hex::encode(id.as_ref()));
    let hint = hint.map(str::to_ascii_lowercase);
    let Some(key) = named.chain(short).chain(hint).find_map(|name| keys.openpgp(&name)) else {
        return Ok(None);
    };
    let Some(certificate) = key.as_openpgp() else { return Ok(None) };
    if !is_strong(signature) {
        return Ok(None);
    }
    match certificate.verifies(signature, message) {
        Some(by) => Ok(Some(Made { key: key.id(), until: by.until })),
        None => Err(key.id()),
    }
}

/// The packet of a version 4 signature that in-toto has taken apart (securesystemslib's `other_headers` and `signature`), made
/// whole again: what is hashed, an empty unhashed part, the beginning of the hash, the numbers. `None` when it is none that can
/// be verified.
pub(crate) fn packet(hashed: &[u8], bare: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let [4, _, algorithm, hash, high, low, subpackets @ ..] = hashed else { return None };
    if usize::from(u16::from_be_bytes([*high, *low])) != subpackets.len() {
        return None;
    }
    // RFC 9580 section 5.2.4: the document, the hashed part, and how long that is.
    let length = u32::try_from(hashed.len()).ok()?.to_be_bytes();
    let signed = [message, hashed, &[4, 0xff], &length].concat();
    let beginning = match hash {
        8 => sha2::Sha256::digest(&signed)[..2].to_vec(),
        9 => sha2::Sha384::digest(&signed)[..2].to_vec(),
        10 => sha2::Sha512::digest(&signed)[..2].to_vec(),
        _ => return None,
    };
    let numbers = match algorithm {
        1 | 3 => mpi(bare),
        22 if bare.len() == 64 => [mpi(&bare[..32]), mpi(&bare[32..])].concat(),
        _ => return None,
    };
    let body = [hashed, &[0, 0], &beginning, &numbers].concat();
    let length = u32::try_from(body.len()).ok()?.to_be_bytes();
    Some([&[0xc2, 0xff], &length[..], &body].concat())
}
