//! Tree hashes of RFC 6962 section 2.1, and the right edge from which a tree grows.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A SHA-256 value: of a leaf, of a node of the tree, or of the bytes that a leaf points to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

/// The most leaves a log may have: far beyond use, and low enough that no index arithmetic overflows.
pub const MAX_SIZE: u64 = 1 << 62;

/// Why bytes or text are not a hash or a right edge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not 64 lower-case hex digits.
    #[error("a hash is written as 64 lower-case hex digits")]
    NotHex,
    /// The right edge of a tree of `size` leaves has another length.
    #[error("the right edge of {size} leaves takes {expected} bytes, not {found}")]
    FrontierLength {
        /// The size that the bytes claim.
        size: u64,
        /// Bytes that such an edge takes.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The bytes do not even hold a size.
    #[error("a right edge starts with a size of eight bytes")]
    FrontierHeader,
    /// More leaves than [`MAX_SIZE`].
    #[error("a log of {0} leaves is beyond the limit")]
    TooLarge(u64),
}

impl Hash {
    /// SHA-256 of the empty string: the root of the tree without leaves.
    pub const EMPTY_ROOT: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
        0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);

    /// Plain SHA-256 of `bytes`, without the leaf prefix.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash as 64 lower-case hex digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

/// The hash of one leaf: SHA-256(0x00 || leaf).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0x00]).chain_update(leaf).finalize().into())
}

/// The hash of an inner node: SHA-256(0x01 || left || right).
pub fn node_hash(left: Hash, right: Hash) -> Hash {
    Hash(Sha256::new().chain_update([0x01]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// The right edge of a tree: the roots of its complete subtrees, largest first.
///
/// It is all that appending needs; the head row of a log keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Hash>,
}

impl Frontier {
    /// The edge of the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first: one per bit set in the size.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The root of a complete subtree, if it is one of those on the edge.
    pub fn node(&self, level: u8, index: u64) -> Option<Hash> {
        let above = self.size.checked_shr(u32::from(level) + 1).unwrap_or(0);
        let on_edge = self.size.checked_shr(level.into()).unwrap_or(0) & 1 == 1 && index == above * 2;
        // The larger ones come first.
        on_edge.then(|| self.hashes.get(above.count_ones() as usize).copied()).flatten()
    }

    /// Appends a leaf by its hash and returns the leaf's index.
    pub fn push(&mut self, leaf_hash: Hash) -> u64 {
        let index = self.size;
        let mut carried = leaf_hash;
        // Each trailing one bit is a complete subtree that now has a sibling.
        for _ in 0..index.trailing_ones() {
            let Some(left) = self.hashes.pop() else { break };
            carried = node_hash(left, carried);
        }
        self.hashes.push(carried);
        self.size = index + 1;
        index
    }

    /// The root hash.
    pub fn root(&self) -> Hash {
        self.hashes
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| node_hash(left, right))
            .unwrap_or(Hash::EMPTY_ROOT)
    }

    /// The size as eight big-endian bytes, then the hashes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        bytes.extend(self.hashes.iter().flat_map(|hash| hash.0));
        bytes
    }

    /// Reads what [`Frontier::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HashError> {
        let (header, hashes) = bytes.split_first_chunk::<8>().ok_or(HashError::FrontierHeader)?;
        let size = u64::from_be_bytes(*header);
        if size > MAX_SIZE {
            return Err(HashError::TooLarge(size));
        }
        let expected = 8 + 32 * size.count_ones() as usize;
        if bytes.len() != expected {
            return Err(HashError::FrontierLength { size, expected, found: bytes.len() });
        }
        let (chunks, _) = hashes.as_chunks::<32>();
        Ok(Self { size, hashes: chunks.iter().copied().map(Hash).collect() })
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Hash {
    type Err = HashError;
    fn from_str(text: &str) -> Result<Self, HashError> {
        let mut bytes = [0; 32];
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(HashError::NotHex);
        }
        hex::decode_to_slice(text, &mut bytes).map_err(|_| HashError::NotHex)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{CT_LEAVES, CT_ROOTS, leaf_hashes, root};

    #[test]
    fn the_certificate_transparency_vectors_hold() {
        let mut frontier = Frontier::new();
        assert_eq!(frontier.root(), Hash::EMPTY_ROOT);
        assert_eq!(Hash::of(b""), Hash::EMPTY_ROOT);
        for (leaf, expected) in CT_LEAVES.iter().zip(CT_ROOTS) {
            frontier.push(leaf_hash(&hex::decode(leaf).unwrap()));
            assert_eq!(frontier.root().to_hex(), expected);
        }
    }

    #[test]
    fn the_edge_agrees_with_the_recursive_definition() {
        let leaves = leaf_hashes(600);
        let mut frontier = Frontier::new();
        for size in 0..=600 {
            assert_eq!(frontier.root(), root(&leaves[..size]), "size {size}");
            assert_eq!(frontier.size(), size as u64);
            let stored = Frontier::from_bytes(&frontier.to_bytes()).unwrap();
            assert_eq!(stored, frontier);
            if size < 600 {
                assert_eq!(frontier.push(leaves[size]), size as u64);
            }
        }
    }

    #[test]
    fn a_cut_or_padded_edge_is_refused() {
        let mut frontier = Frontier::new();
        leaf_hashes(7).into_iter().for_each(|h| {
            frontier.push(h);
        });
        let bytes = frontier.to_bytes();
        assert_eq!(Frontier::from_bytes(&bytes[..7]), Err(HashError::FrontierHeader));
        assert!(matches!(
            Frontier::from_bytes(&bytes[..bytes.len() - 1]),
            Err(HashError::FrontierLength { size: 7, .. })
        ));
        assert!(Frontier::from_bytes(&[bytes.clone(), vec![0; 32]].concat()).is_err());
        assert_eq!(Frontier::from_bytes(&u64::MAX.to_be_bytes()), Err(HashError::TooLarge(u64::MAX)));
    }

    #[test]
    fn hash_text_is_exact() {
        let text = "ab".repeat(32);
        assert_eq!(text.parse::<Hash>().unwrap().to_string(), text);
        for bad in [text.to_uppercase(), text[1..].to_owned(), format!("{text}00"), format!("sha256:{text}")]
        {
            assert_eq!(bad.parse::<Hash>(), Err(HashError::NotHex));
        }
    }
}
