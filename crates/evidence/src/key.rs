//! Public keys, their ids and schemes.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use aws_lc_rs::signature::{
    self, ParsedPublicKey, RsaParameters, RsaPssSaltLength, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use ssh_key::public::KeyData;

use crate::{
    digest::{Digest, DigestError, Sha256},
    spki::{Curve, Spki},
};

/// SHA-256 of the key's SubjectPublicKeyInfo in DER, for an OpenPGP key of the body of its primary key's packet;
/// prints `sha256:<hex>`.
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
    /// RSA-PSS with SHA-256, 2048 to 8192 bits; the salt is as long as the digest, or as long as it can be.
    RsaPssSha256,
    /// An OpenPGP key: its signatures are OpenPGP packets, which say how they are made (RFC 9580).
    Openpgp,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 7] = [
        Self::Ed25519,
        Self::EcdsaP256Sha256,
        Self::EcdsaP384Sha384,
        Self::EcdsaP521Sha512,
        Self::RsaPkcs1Sha256,
        Self::RsaPssSha256,
        Self::Openpgp,
    ];

    /// The name that the API, the database and the command line use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::EcdsaP384Sha384 => "ecdsa-p384-sha384",
            Self::EcdsaP521Sha512 => "ecdsa-p521-sha512",
            Self::RsaPkcs1Sha256 => "rsa-pkcs1-sha256",
            Self::RsaPssSha256 => "rsa-pss-sha256",
            Self::Openpgp => "openpgp",
        }
    }

    /// How bare signatures are verified; OpenPGP has none.
    fn algorithm(self) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match self {
            Self::Ed25519 => &signature::ED25519,
            Self::EcdsaP256Sha256 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP384Sha384 => &signature::ECDSA_P384_SHA384_ASN1,
            Self::EcdsaP521Sha512 => &signature::ECDSA_P521_SHA512_ASN1,
            Self::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::RsaPssSha256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Openpgp => return None,
        })
    }

    /// Whether keys of this type can sign with this scheme.
    fn fits(self, key: &Spki) -> bool {
        match key {
            Spki::Ed25519(_) => self == Self::Ed25519,
            Spki::Ecdsa { curve: Curve::P256, .. } => self == Self::EcdsaP256Sha256,
            Spki::Ecdsa { curve: Curve::P384, .. } => self == Self::EcdsaP384Sha384,
            Spki::Ecdsa { curve: Curve::P521, .. } => self == Self::EcdsaP521Sha512,
            Spki::Rsa { .. } => matches!(self, Self::RsaPkcs1Sha256 | Self::RsaPssSha256),
        }
    }

    /// What a key says of its scheme: everything, but for the padding of RSA, where PKCS#1 v1.5 is the usual one.
    fn usual(key: &Spki) -> Self {
        match key {
            Spki::Ed25519(_) => Self::Ed25519,
            Spki::Ecdsa { curve: Curve::P256, .. } => Self::EcdsaP256Sha256,
            Spki::Ecdsa { curve: Curve::P384, .. } => Self::EcdsaP384Sha384,
            Spki::Ecdsa { curve: Curve::P521, .. } => Self::EcdsaP521Sha512,
            Spki::Rsa { .. } => Self::RsaPkcs1Sha256,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scheme {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let known = Self::ALL.into_iter().find(|scheme| scheme.as_str() == text);
        known.ok_or_else(|| KeyError::UnknownScheme(text.to_owned()))
    }
}

/// RFC 8017 section 9.1 leaves the length of the salt to the signer. Go's library, and with it Witness, takes the greatest that
/// fits the key. Each length is verified exactly: neither accepts a signature of the other.
static RSA_PSS_LONGEST_SALT: RsaParameters =
    signature::RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);

/// Why a text is not a public key that Catenary verifies with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Larger than [`MAX_KEY`].
    #[error("a public key has at most {MAX_KEY} bytes")]
    TooLarge,
    /// There is not exactly one `PUBLIC KEY` block.
    #[error("expected exactly one `-----BEGIN PUBLIC KEY-----` block, found {found}")]
    NotOneKey {
        /// How many there are.
        found: usize,
    },
    /// A private key was sent; it should be considered lost.
    #[error("this is a private key: replace it, and register its public half")]
    PrivateKey,
    /// Not PEM, or not OpenSSH text.
    #[error("not a public key: {0}")]
    Malformed(String),
    /// A key of another type, or no key.
    #[error("only Ed25519, ECDSA P-256, P-384, P-521 and RSA keys are supported")]
    UnsupportedKey,
    /// The same key has another, usual encoding.
    #[error("the key is not in canonical DER with an uncompressed point")]
    NotCanonical,
    /// RSA of another size.
    #[error("RSA keys have 2048 to 8192 bits, this one has {bits}")]
    RsaSize {
        /// Its size.
        bits: usize,
    },
    /// An OpenPGP key that is revoked, or whose holder never said that it signs.
    #[error("no part of this key may sign: it is revoked, or made for something else")]
    CannotSign,
    /// A key cannot sign with that scheme.
    #[error("this key cannot sign with `{scheme}`")]
    SchemeMismatch {
        /// The scheme asked for.
        scheme: Scheme,
    },
    /// No such scheme.
    #[error("`{0}` is not a signature scheme")]
    UnknownScheme(String),
}

/// Largest text of a public key: RSA 8192 takes 1.5 KiB of PEM.
pub const MAX_KEY: usize = 16 * 1024;

/// A public key that can verify.
#[derive(Clone)]
pub struct PublicKey {
    id: KeyId,
    scheme: Scheme,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Bare {
        spki: Vec<u8>,
        parts: Spki,
        parsed: ParsedPublicKey,
    },
    #[cfg(feature = "gpg")]
    Openpgp(Arc<crate::openpgp::Certificate>),
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.scheme, self.id)
    }
}

impl PublicKey {
    /// Reads exactly one PEM block `PUBLIC KEY`, or what [`Self::to_pem`] gives for an OpenPGP key. The scheme is needed
    /// only for RSA-PSS keys.
    pub fn from_pem(pem: &str, scheme: Option<Scheme>) -> Result<Self, KeyError> {
        #[cfg(feature = "gpg")]
        if crate::openpgp::is_key(pem) {
            return match scheme {
                None | Some(Scheme::Openpgp) => Self::from_openpgp(pem),
                Some(scheme) => Err(KeyError::SchemeMismatch { scheme }),
            };
        }
        if pem.len() > MAX_KEY {
            return Err(KeyError::TooLarge);
        }
        if pem.contains("PRIVATE KEY") {
            return Err(KeyError::PrivateKey);
        }
        let blocks: Vec<SubjectPublicKeyInfoDer<'_>> =
            SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|e| KeyError::Malformed(format!("{e:?}")))?;
        // Blocks of other kinds are skipped by the reader: count all of them, so that none is ignored silently.
        let found = pem.matches("-----BEGIN ").count();
        match blocks.as_slice() {
            [spki] if found == 1 => Self::from_spki(spki.as_ref(), scheme),
            _ => Err(KeyError::NotOneKey { found: blocks.len().max(found) }),
        }
    }

    /// Reads SubjectPublicKeyInfo in DER.
    pub fn from_spki(spki: &[u8], scheme: Option<Scheme>) -> Result<Self, KeyError> {
        if spki.len() > MAX_KEY {
            return Err(KeyError::TooLarge);
        }
        Self::from_parts(Spki::parse(spki)?, scheme)
    }

    /// Reads a line such as `ssh-ed25519 AAAA… comment`.
    pub fn from_openssh(line: &str) -> Result<Self, KeyError> {
        if line.len() > MAX_KEY {
            return Err(KeyError::TooLarge);
        }
        if line.contains("PRIVATE KEY-----") {
            return Err(KeyError::PrivateKey);
        }
        let key =
            ssh_key::PublicKey::from_openssh(line.trim()).map_err(|e| KeyError::Malformed(e.to_string()))?;
        let parts = ssh_parts(key.key_data()).ok_or(KeyError::UnsupportedKey)?;
        parts.check()?;
        Self::from_parts(parts, None)
    }

    /// Reads PEM, an OpenSSH line, or an armoured OpenPGP key.
    pub fn from_text(text: &str, scheme: Option<Scheme>) -> Result<Self, KeyError> {
        if text.contains("-----BEGIN ") {
            return Self::from_pem(text, scheme);
        }
        let key = Self::from_openssh(text)?;
        match scheme {
            Some(scheme) => Self::from_spki(key.spki(), Some(scheme)),
            None => Ok(key),
        }
    }

    /// Reads every key of a text: one, or several OpenPGP blocks one after the other.
    pub fn all_from_text(text: &str, scheme: Option<Scheme>) -> Result<Vec<Self>, KeyError> {
        const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";
        if !text.contains(END) {
            return Ok(vec![Self::from_text(text, scheme)?]);
        }
        let blocks = text.split_inclusive(END).filter(|block| block.contains(END));
        blocks.map(|block| Self::from_text(block.trim(), scheme)).collect()
    }

    /// Reads exactly one armoured OpenPGP key.
    #[cfg(feature = "gpg")]
    pub fn from_openpgp(text: &str) -> Result<Self, KeyError> {
        let certificate = Arc::new(crate::openpgp::Certificate::read(text)?);
        let material = Material::Openpgp(certificate.clone());
        Ok(Self { id: certificate.id(), scheme: Scheme::Openpgp, material })
    }

    #[cfg(feature = "gpg")]
    pub(crate) fn as_openpgp(&self) -> Option<&crate::openpgp::Certificate> {
        match &self.material {
            Material::Openpgp(certificate) => Some(certificate),
            Material::Bare { .. } => None,
        }
    }

    fn parts(&self) -> Option<&Spki> {
        match &self.material {
            Material::Bare { parts, .. } => Some(parts),
            #[cfg(feature = "gpg")]
            Material::Openpgp(_) => None,
        }
    }

    fn from_parts(parts: Spki, scheme: Option<Scheme>) -> Result<Self, KeyError> {
        let scheme = scheme.unwrap_or(Scheme::usual(&parts));
        if !scheme.fits(&parts) {
            return Err(KeyError::SchemeMismatch { scheme });
        }
        let spki = parts.to_der();
        let algorithm = scheme.algorithm().ok_or(KeyError::SchemeMismatch { scheme })?;
        let parsed = ParsedPublicKey::new(algorithm, &spki).map_err(|_| KeyError::UnsupportedKey)?;
        Ok(Self { id: KeyId(Sha256::of(&spki)), scheme, material: Material::Bare { spki, parts, parsed } })
    }

    /// SHA-256 of the SPKI, or of the OpenPGP primary key's packet.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The scheme that it signs with.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// SubjectPublicKeyInfo in DER; empty for an OpenPGP key.
    pub fn spki(&self) -> &[u8] {
        match &self.material {
            Material::Bare { spki, .. } => spki,
            #[cfg(feature = "gpg")]
            Material::Openpgp(_) => &[],
        }
    }

    /// The key as one PEM block; an OpenPGP key in the armour that it came in.
    pub fn to_pem(&self) -> String {
        #[cfg(feature = "gpg")]
        if let Some(certificate) = self.as_openpgp() {
            return certificate.armour().to_owned();
        }
        let text = STANDARD.encode(self.spki());
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END PUBLIC KEY-----\n");
        pem
    }

    /// The SSH fingerprint: `SHA256:` and unpadded base64. OpenPGP keys have none.
    pub fn ssh_fingerprint(&self) -> Option<String> {
        let blob = self.parts()?.to_ssh();
        Some(format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::of(&blob).0)))
    }

    /// The OpenPGP fingerprint of the primary key, in lower-case hex.
    pub fn openpgp_fingerprint(&self) -> Option<&str> {
        #[cfg(feature = "gpg")]
        return self.as_openpgp().map(crate::openpgp::Certificate::fingerprint);
        #[cfg(not(feature = "gpg"))]
        None
    }

    /// Whether `signature` over `message` verifies under this key and its scheme.
    ///
    /// ECDSA signatures are strict DER: aws-lc refuses trailing bytes, long lengths, and r or s of zero (E15, E17).
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        // Cheap: an unknown signer is tried under every key of the same kind only.
        if !self.could_be(signature) {
            return false;
        }
        match &self.material {
            // Some signers write r and s side by side (IEEE P1363) instead of DER (Google's VSAs).
            Material::Bare { parts: Spki::Ecdsa { curve: Curve::P256, point }, parsed, .. } => {
                parsed.verify_sig(message, signature).is_ok()
                    || signature.len() == 64
                        && UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                            .verify(message, signature)
                            .is_ok()
            }
            Material::Bare { parsed, .. } => {
                parsed.verify_sig(message, signature).is_ok()
                    || self.longest_salt().is_some_and(|key| key.verify(message, signature).is_ok())
            }
            #[cfg(feature = "gpg")]
            Material::Openpgp(_) => false,
        }
    }

    /// Whether `signature` over bytes with this digest verifies. Ed25519 and OpenPGP sign bytes, never digests.
    pub fn verify_prehashed(&self, digest: &Digest, signature: &[u8]) -> bool {
        use aws_lc_rs::digest as hash;
        let Material::Bare { parsed, .. } = &self.material else { return false };
        let fits = match (self.scheme, digest) {
            (Scheme::EcdsaP256Sha256 | Scheme::RsaPkcs1Sha256 | Scheme::RsaPssSha256, Digest::Sha256(_)) => {
                &hash::SHA256
            }
            (Scheme::EcdsaP384Sha384, Digest::Sha384(_)) => &hash::SHA384,
            (Scheme::EcdsaP521Sha512, Digest::Sha512(_)) => &hash::SHA512,
            _ => return false,
        };
        let bytes: &[u8] = match digest {
            Digest::Sha256(bytes) => bytes,
            Digest::Sha384(bytes) => bytes,
            Digest::Sha512(bytes) => bytes,
        };
        let Ok(digest) = hash::Digest::import_less_safe(bytes, fits) else { return false };
        self.could_be(signature)
            && (parsed.verify_digest_sig(&digest, signature).is_ok()
                || self.longest_salt().is_some_and(|key| key.verify_digest(&digest, signature).is_ok()))
    }

    /// The key as it verifies signatures whose salt is as long as it can be.
    fn longest_salt(&self) -> Option<UnparsedPublicKey<&[u8]>> {
        let pss = self.scheme == Scheme::RsaPssSha256;
        pss.then(|| UnparsedPublicKey::new(&RSA_PSS_LONGEST_SALT, self.spki()))
    }

    fn could_be(&self, signature: &[u8]) -> bool {
        let Some(parts) = self.parts() else { return false };
        match parts {
            Spki::Ed25519(_) => signature.len() == 64,
            Spki::Ecdsa { curve, .. } => {
                // SEQUENCE header of at most 3 bytes, and two integers with sign byte and 2-byte header.
                signature.len() == 2 * curve.width()
                    || signature.first() == Some(&0x30) && signature.len() <= 3 + 2 * (curve.width() + 3)
            }
            Spki::Rsa { modulus, .. } => signature.len() == modulus.len(),
        }
    }
}

/// The parts of an SSH key, when it is of a kind that has an SPKI here.
pub(crate) fn ssh_parts(key: &KeyData) -> Option<Spki> {
    match key {
        KeyData::Ed25519(raw) => Some(Spki::Ed25519(raw.0)),
        KeyData::Ecdsa(point) => {
            let curve = match point.curve() {
                ssh_key::EcdsaCurve::NistP256 => Curve::P256,
                ssh_key::EcdsaCurve::NistP384 => Curve::P384,
                ssh_key::EcdsaCurve::NistP521 => Curve::P521,
            };
            Some(Spki::Ecdsa { curve, point: point.as_sec1_bytes().to_vec() })
        }
        KeyData::Rsa(key) => Some(Spki::rsa(key.n.as_positive_bytes()?, key.e.as_positive_bytes()?)),
        _ => None,
    }
}

/// The registered keys that evidence is verified against. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(Arc<Inner>);

#[derive(Debug, Clone, Default)]
struct Inner {
    keys: BTreeMap<KeyId, PublicKey>,
    /// SHA-256 of the SSH blob → key.
    fingerprints: BTreeMap<Sha256, KeyId>,
    /// OpenPGP fingerprint, and key id, of each key that may sign → key. Lower-case hex.
    #[cfg(feature = "gpg")]
    openpgp: BTreeMap<String, KeyId>,
}

impl KeyRing {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key; a key of the same id is replaced.
    pub fn insert(&mut self, key: PublicKey) {
        let inner = Arc::make_mut(&mut self.0);
        if let Some(parts) = key.parts() {
            inner.fingerprints.insert(Sha256::of(&parts.to_ssh()), key.id);
        }
        #[cfg(feature = "gpg")]
        for print in key.as_openpgp().into_iter().flat_map(crate::openpgp::Certificate::signing) {
            // A v4 key id is the end of the fingerprint, a v6 key id its beginning (RFC 9580 section 5.5.4).
            let short = if print.len() == 40 { &print[24..] } else { &print[..print.len().min(16)] };
            inner.openpgp.insert(short.to_owned(), key.id);
            inner.openpgp.insert(print.to_owned(), key.id);
        }
        inner.keys.insert(key.id, key);
    }

    /// The key with this id.
    pub fn get(&self, id: &KeyId) -> Option<&PublicKey> {
        self.0.keys.get(id)
    }

    /// The key that a `keyid` or hint names: `sha256:<hex>` or the bare hex of its id, its SSH fingerprint, or
    /// base64 of the SPKI's SHA-256. A hint only says which key to try first; it never gives trust.
    pub fn named(&self, hint: &str) -> Option<&PublicKey> {
        let hash = hint_hash(hint)?;
        let id = KeyId(hash);
        self.get(&id).or_else(|| self.get(self.0.fingerprints.get(&hash)?))
    }

    /// The OpenPGP key that a fingerprint or key id in lower-case hex names.
    #[cfg(feature = "gpg")]
    pub(crate) fn openpgp(&self, name: &str) -> Option<&PublicKey> {
        self.get(self.0.openpgp.get(name)?)
    }

    /// Every key, by id.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.keys.values()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.keys.is_empty()
    }
}

impl FromIterator<PublicKey> for KeyRing {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        let mut ring = Self::new();
        for key in keys {
            ring.insert(key);
        }
        ring
    }
}

/// The 32 bytes that a hint spells, in any of the spellings that tools use.
fn hint_hash(hint: &str) -> Option<Sha256> {
    let bytes = if let Some(base64) = hint.strip_prefix("SHA256:") {
        STANDARD_NO_PAD.decode(base64.trim_end_matches('=')).ok()?
    } else {
        let text = hint.strip_prefix("sha256:").unwrap_or(hint);
        match text.len() {
            64 => hex::decode(text).ok()?,
            43 | 44 => STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()?,
            _ => return None,
        }
    };
    bytes.try_into().ok().map(Sha256)
}
