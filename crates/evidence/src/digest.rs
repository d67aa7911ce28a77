//! Digests, each in its own space.
//!
//! A 64-hex `gitCommit` never equals a `sha256` content digest, so the two are different types that
//! meet only in [`Node`] (chain-model 1.1). Text is lower-case hex of the exact length; anything else
//! is an error, never normalised (OCI digest grammar).

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};
use sha2::Digest as _;

/// SHA-256 of some exact bytes: the id of everything that Catenary keeps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

/// A digest in the content space: the hash of raw bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// SHA-256.
    Sha256([u8; 32]),
    /// SHA-384.
    Sha384([u8; 48]),
    /// SHA-512.
    Sha512([u8; 64]),
}

/// The id of a git object: the hash of `<type> SP <size> NUL <content>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GitOid {
    /// A repository in SHA-1 format.
    Sha1([u8; 20]),
    /// A repository in SHA-256 format.
    Sha256([u8; 32]),
}

/// A node of the evidence graph that has a digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// Raw bytes: an index, a manifest, a config, a layer, a file.
    Content(Digest),
    /// A git commit (or a tag object, when a builder names one).
    Git(GitOid),
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The text has no `algorithm:` prefix.
    #[error("a digest is written `algorithm:hex`, for example `sha256:<64 hex digits>`")]
    NoAlgorithm,
    /// The algorithm is not one that this space knows.
    #[error("`{0}` is not a digest algorithm of this space")]
    UnknownAlgorithm(String),
    /// Not lower-case hex of the algorithm's length.
    #[error("{algorithm} takes {expected} lower-case hex digits")]
    NotHex {
        /// The algorithm as written.
        algorithm: String,
        /// How many hex digits it takes.
        expected: usize,
    },
    /// All zeros: the mark of "nothing", never the hash of something.
    #[error("an all-zero digest names nothing")]
    Zero,
}

/// Decodes lower-case hex of exactly `N` bytes.
fn lower_hex<const N: usize>(algorithm: &str, text: &str) -> Result<[u8; N], DigestError> {
    let not_hex = || DigestError::NotHex { algorithm: algorithm.to_owned(), expected: N * 2 };
    if text.len() != N * 2 {
        return Err(not_hex());
    }
    let mut bytes = [0; N];
    base16ct::lower::decode(text, &mut bytes).map_err(|_| not_hex())?;
    if bytes == [0; N] { Err(DigestError::Zero) } else { Ok(bytes) }
}

/// A digest as text, without an allocation: digests are written and read more often than anything else.
struct Text {
    bytes: [u8; Self::LONGEST],
    len: usize,
}

impl Text {
    const LONGEST: usize = "sha512:".len() + 128;

    fn new(space: &str, digest: &[u8]) -> Self {
        let mut bytes = [0; Self::LONGEST];
        let (prefix, rest) = bytes.split_at_mut(space.len() + 1);
        prefix[..space.len()].copy_from_slice(space.as_bytes());
        prefix[space.len()] = b':';
        let len = space.len() + 1 + base16ct::lower::encode(digest, rest).map_or(0, <[u8]>::len);
        Self { bytes, len }
    }

    fn as_str(&self) -> &str {
        // What was written above is ASCII.
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Sha256 {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The digest as 64 lower-case hex digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl Digest {
    /// The SHA-256 content digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::Sha256(Sha256::of(bytes).0)
    }

    /// The same algorithm as `self`, over `bytes`.
    pub fn recompute(&self, bytes: &[u8]) -> Self {
        match self {
            Self::Sha256(_) => Self::Sha256(sha2::Sha256::digest(bytes).into()),
            Self::Sha384(_) => Self::Sha384(sha2::Sha384::digest(bytes).into()),
            Self::Sha512(_) => Self::Sha512(sha2::Sha512::digest(bytes).into()),
        }
    }

    /// Reads one member of an in-toto DigestSet; `None` when the algorithm is not of the content space.
    pub fn from_set(algorithm: &str, hex: &str) -> Option<Result<Self, DigestError>> {
        Some(match algorithm {
            "sha256" => lower_hex(algorithm, hex).map(Self::Sha256),
            "sha384" => lower_hex(algorithm, hex).map(Self::Sha384),
            "sha512" => lower_hex(algorithm, hex).map(Self::Sha512),
            _ => return None,
        })
    }

    /// The algorithm's name, as in OCI and in-toto.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha384(_) => "sha384",
            Self::Sha512(_) => "sha512",
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(b) => b,
            Self::Sha384(b) => b,
            Self::Sha512(b) => b,
        }
    }
}

impl GitOid {
    /// Hashes a git object of type `kind` ("commit", "tag", …) in the SHA-1 format.
    pub fn sha1(kind: &str, content: &[u8]) -> Self {
        let mut hasher = sha1::Sha1::new();
        hasher.update(format!("{kind} {}\0", content.len()));
        hasher.update(content);
        Self::Sha1(hasher.finalize().into())
    }

    /// Hashes a git object of type `kind` in the SHA-256 format.
    pub fn sha256(kind: &str, content: &[u8]) -> Self {
        let mut hasher = sha2::Sha256::new();
        hasher.update(format!("{kind} {}\0", content.len()));
        hasher.update(content);
        Self::Sha256(hasher.finalize().into())
    }

    /// Reads 40 hex digits as SHA-1, 64 as SHA-256.
    pub fn from_hex(text: &str) -> Result<Self, DigestError> {
        match text.len() {
            64 => lower_hex("gitCommit", text).map(Self::Sha256),
            _ => lower_hex("gitCommit", text).map(Self::Sha1),
        }
    }

    /// The oid as lower-case hex.
    pub fn to_hex(&self) -> String {
        match self {
            Self::Sha1(b) => hex::encode(b),
            Self::Sha256(b) => hex::encode(b),
        }
    }
}

impl FromStr for Sha256 {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        match Digest::from_str(text)? {
            Digest::Sha256(bytes) => Ok(Self(bytes)),
            other => Err(DigestError::UnknownAlgorithm(other.algorithm().to_owned())),
        }
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::NoAlgorithm)?;
        Self::from_set(algorithm, hex)
            .unwrap_or_else(|| Err(DigestError::UnknownAlgorithm(algorithm.to_owned())))
    }
}

impl FromStr for Node {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.strip_prefix("gitCommit:") {
            Some(hex) => GitOid::from_hex(hex).map(Self::Git),
            None => text.parse().map(Self::Content),
        }
    }
}

impl Sha256 {
    fn text(&self) -> Text {
        Text::new("sha256", &self.0)
    }
}

impl Digest {
    fn text(&self) -> Text {
        Text::new(self.algorithm(), self.bytes())
    }
}

impl GitOid {
    fn text(&self) -> Text {
        match self {
            Self::Sha1(oid) => Text::new("gitCommit", oid),
            Self::Sha256(oid) => Text::new("gitCommit", oid),
        }
    }
}

impl Node {
    fn text(&self) -> Text {
        match self {
            Self::Content(digest) => digest.text(),
            Self::Git(oid) => oid.text(),
        }
    }
}

impl FromStr for GitOid {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::from_hex(text.strip_prefix("gitCommit:").ok_or(DigestError::NoAlgorithm)?)
    }
}

impl From<Sha256> for Digest {
    fn from(value: Sha256) -> Self {
        Self::Sha256(value.0)
    }
}

impl From<Digest> for Node {
    fn from(value: Digest) -> Self {
        Self::Content(value)
    }
}

impl From<GitOid> for Node {
    fn from(value: GitOid) -> Self {
        Self::Git(value)
    }
}

/// Reads a digest from text that stays where it is.
struct Reader<T>(PhantomData<T>);

impl<T: FromStr<Err = DigestError>> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a digest written `algorithm:hex`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Every digest is text in JSON and prints as that text.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.text().as_str())
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.text().as_str())
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Reader(PhantomData))
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
as_text!(Sha256, Digest, GitOid, Node);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s09_non_canonical_digest_text_is_refused() {
        let good = format!("sha256:{}", "ab".repeat(32));
        assert!(good.parse::<Digest>().is_ok());
        for bad in [
            good.to_uppercase(),
            good.replace("sha256", "SHA256"),
            format!(" {good}"),
            good[..good.len() - 1].to_owned(),
            format!("{good}a"),
            good.replace("sha256:", "sha256:0x"),
            "sha256:*".into(),
            "sha256:".into(),
            format!("sha256:{}", "0".repeat(64)),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_git_commit_never_equals_a_content_digest() {
        let hex = "ab".repeat(32);
        let git: Node = format!("gitCommit:{hex}").parse().unwrap();
        let content: Node = format!("sha256:{hex}").parse().unwrap();
        assert_ne!(git, content);
    }

    #[test]
    fn a_commit_id_is_what_git_says() {
        // `git hash-object -t commit` of an empty blob-like content, computed with git 2.47.
        assert_eq!(GitOid::sha1("blob", b"").to_hex(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    }
}
