//! SSH signatures on git objects (OpenSSH `PROTOCOL.sshsig`): parsed by ssh-key, verified by aws-lc.

use aws_lc_rs::signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};
use ssh_key::{Algorithm, HashAlg, SshSig};

use crate::{
    digest::Sha256,
    key::{KeyId, KeyRing, PublicKey, Scheme, ssh_parts},
    refusal::Refusal,
    spki::{Curve, Spki},
};

/// Verifies `armour` over `message`.
///
/// The signature carries its public key, which is looked up among the registered ones by its id. A key that nobody
/// registered, or of a kind that has no SPKI here (`sk-…`), vouches for nothing: `None`. A registered key must verify, in
/// the namespace `git`; else the object is refused.
pub(crate) fn verify(armour: &str, message: &[u8], keys: &KeyRing) -> Result<Option<KeyId>, Refusal> {
    let Ok(sig) = SshSig::from_pem(armour.trim_ascii()) else { return Ok(None) };
    let Some(parts) = ssh_parts(sig.public_key()) else { return Ok(None) };
    let Some(key) = keys.get(&KeyId(Sha256::of(&parts.to_der()))) else { return Ok(None) };
    // SSH signs with PKCS#1 v1.5; a key that is registered for PSS does not speak here.
    if key.scheme() == Scheme::RsaPssSha256 {
        return Ok(None);
    }
    // The namespace says what the signature is for: one made for a file or an email proves no commit.
    let valid = sig.namespace() == "git"
        && SshSig::signed_data("git", sig.hash_alg(), message)
            .is_ok_and(|data| is_by(key, &parts, &sig, &data));
    if valid { Ok(Some(key.id())) } else { Err(Refusal::ObjectSignature { key: key.id() }) }
}

/// The key that a signature carries.
pub(super) fn carried(armour: &str) -> Option<PublicKey> {
    let sig = SshSig::from_pem(armour.trim_ascii()).ok()?;
    PublicKey::from_spki(&ssh_parts(sig.public_key())?.to_der(), None).ok()
}

fn is_by(key: &PublicKey, parts: &Spki, sig: &SshSig, data: &[u8]) -> bool {
    let bytes = sig.signature_bytes();
    match parts {
        Spki::Ed25519(_) => sig.signature().algorithm() == Algorithm::Ed25519 && key.verify(data, bytes),
        Spki::Ecdsa { curve, point } => {
            let algorithm: &'static dyn VerificationAlgorithm = match curve {
                Curve::P256 => &signature::ECDSA_P256_SHA256_FIXED,
                Curve::P384 => &signature::ECDSA_P384_SHA384_FIXED,
                Curve::P521 => &signature::ECDSA_P521_SHA512_FIXED,
            };
            fixed(bytes, curve.width())
                .is_some_and(|rs| UnparsedPublicKey::new(algorithm, point).verify(data, &rs).is_ok())
        }
        Spki::Rsa { .. } => {
            let algorithm: &'static dyn VerificationAlgorithm = match sig.signature().algorithm() {
                Algorithm::Rsa { hash: Some(HashAlg::Sha512) } => &signature::RSA_PKCS1_2048_8192_SHA512,
                Algorithm::Rsa { hash: Some(HashAlg::Sha256) } => &signature::RSA_PKCS1_2048_8192_SHA256,
                // `ssh-rsa` is SHA-1.
                _ => return false,
            };
            ParsedPublicKey::new(algorithm, key.spki()).is_ok_and(|key| key.verify_sig(data, bytes).is_ok())
        }
    }
}

/// Two SSH mpints, r and s, as two numbers of fixed width.
fn fixed(bytes: &[u8], width: usize) -> Option<Vec<u8>> {
    let (r, rest) = mpint(bytes, width)?;
    let (s, rest) = mpint(rest, width)?;
    rest.is_empty().then(|| [r, s].concat())
}

fn mpint(bytes: &[u8], width: usize) -> Option<(Vec<u8>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let number = match number {
        [0, top, ..] if top & 0x80 != 0 => &number[1..],
        // Negative, or longer than it need be.
        [top, ..] if top & 0x80 != 0 || *top == 0 => return None,
        number => number,
    };
    let pad = width.checked_sub(number.len())?;
    Some(([&vec![0; pad], number].concat(), rest))
}
