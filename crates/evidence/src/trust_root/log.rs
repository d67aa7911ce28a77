//! The logs of a trust domain, and their keys.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use sigstore_crypto::{Error, SigningScheme, VerificationKey};
use sigstore_types::{DerPublicKey, SignatureBytes};

use super::Window;
use crate::digest::Sha256;

/// A transparency log.
pub(crate) struct Log {
    pub(crate) id: [u8; 32],
    pub(crate) authority: Sha256,
    pub(crate) key: LogKey,
    pub(crate) window: Window,
}

/// A certificate transparency log.
pub(crate) struct CtLog {
    pub(super) id: [u8; 32],
    pub(crate) authority: Sha256,
    spki: DerPublicKey,
    /// Unless it is an RSA key without an SPKI around it, for which each timestamp names the scheme.
    key: Option<LogKey>,
    pub(crate) window: Window,
}

impl CtLog {
    pub(super) fn read(id: [u8; 32], spki: &DerPublicKey, window: Window) -> Result<Self, Error> {
        let key = LogKey::read(spki).ok();
        if key.is_none() {
            VerificationKey::from_der(spki, SigningScheme::RsaPkcs1Sha256)?;
        }
        Ok(Self { id, authority: Sha256::of(spki.as_bytes()), spki: spki.clone(), key, window })
    }

    /// Whether the log signed the message in the scheme that a timestamp names; `None` when it is no scheme of the key.
    pub(crate) fn signed(&self, scheme: SigningScheme, message: &[u8], signature: &[u8]) -> Option<bool> {
        if let Some(key) = self.key.as_ref().filter(|key| key.library.scheme() == scheme) {
            return Some(key.verifies(message, signature));
        }
        let library = VerificationKey::from_der(&self.spki, scheme).ok()?;
        Some(LogKey { library, parsed: None }.verifies(message, signature))
    }
}

/// A log's key.
pub(crate) struct LogKey {
    library: VerificationKey,
    /// Of the usual kind: the library checks anew for each signature that the point lies on the curve.
    parsed: Option<ParsedPublicKey>,
}

impl LogKey {
    pub(super) fn read(spki: &DerPublicKey) -> Result<Self, Error> {
        let library = VerificationKey::from_spki(spki)?;
        // The library takes no compressed points.
        let usual =
            library.scheme() == SigningScheme::EcdsaP256Sha256 && library.as_bytes().first() == Some(&4);
        let parse = || ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, library.as_bytes()).ok();
        let parsed = usual.then(parse).flatten();
        Ok(Self { library, parsed })
    }

    /// Whether it made the signature.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.parsed {
            Some(key) => key.verify_sig(message, signature).is_ok(),
            None => self.library.verify(message, &SignatureBytes::new(signature.to_vec())).is_ok(),
        }
    }
}
