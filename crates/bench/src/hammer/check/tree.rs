//! RFC 6962 trees and C2SP notes, written from docs/log-format.md alone.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// SHA-256 over parts.
pub fn sha256(parts: &[&[u8]]) -> Hash {
    let mut state = Sha256::new();
    parts.iter().for_each(|part| state.update(part));
    state.finalize().into()
}

/// The id of bytes, hex.
pub fn hex_id(bytes: &[u8]) -> String {
    hex::encode(sha256(&[bytes]))
}

/// The hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&[0], leaf])
}

/// The hash of an inner node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// A hash in hex, with or without `sha256:`.
pub fn from_hex(text: &str) -> Option<Hash> {
    hex::decode(text.trim_start_matches("sha256:")).ok()?.try_into().ok()
}

/// The roots at some sizes, in one pass.
pub fn roots(leaves: &[Hash], sizes: &BTreeSet<u64>) -> BTreeMap<u64, Hash> {
    let mut edge: Vec<(u32, Hash)> = Vec::new();
    let mut found = BTreeMap::new();
    for (index, leaf) in leaves.iter().enumerate() {
        let mut subtree = (0, *leaf);
        while let Some((height, left)) = edge.last().copied().filter(|(height, _)| *height == subtree.0) {
            edge.pop();
            subtree = (height + 1, node_hash(&left, &subtree.1));
        }
        edge.push(subtree);
        let size = index as u64 + 1;
        if sizes.contains(&size) {
            let mut all = edge.iter().rev().map(|(_, hash)| *hash);
            let last = all.next().unwrap_or_default();
            found.insert(size, all.fold(last, |right, left| node_hash(&left, &right)));
        }
    }
    found
}

/// RFC 9162 section 2.1.3.2.
pub fn includes(leaf: Hash, index: u64, size: u64, path: &[Hash], root: Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for step in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(step, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, step);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// Checks an inclusion proof as the API writes it, against the leaf that it carries; the leaf.
pub fn proven_leaf(proof: &Value, index: u64) -> Option<Vec<u8>> {
    let leaf = STANDARD.decode(proof["leaf"].as_str()?).ok()?;
    let path: Option<Vec<Hash>> =
        proof["hashes"].as_array()?.iter().map(|hash| from_hex(hash.as_str()?)).collect();
    let (size, root) = (proof["size"].as_u64()?, from_hex(proof["root"].as_str()?)?);
    let same = proof["index"].as_u64()? == index;
    (same && includes(leaf_hash(&leaf), index, size, &path?, root)).then_some(leaf)
}

/// The keys of the log, from `keys.json`: raw Ed25519 keys.
pub fn log_keys(published: &Value) -> Vec<Vec<u8>> {
    let keys = published["keys"].as_array().cloned().unwrap_or_default();
    let logs = keys.iter().filter(|key| key["purpose"] == "log");
    let raw = |key: &Value| {
        let encoded = key["vkey"].as_str()?.splitn(3, '+').nth(2)?;
        STANDARD.decode(encoded).ok().filter(|bytes| bytes.len() == 33 && bytes[0] == 1)
    };
    logs.filter_map(raw).map(|bytes| bytes[1..].to_vec()).collect()
}

/// Opens a signed checkpoint: origin, size and root, when one of the keys signed it.
pub fn open_note(note: &str, keys: &[Vec<u8>]) -> Option<(String, u64, Hash)> {
    let (text, signatures) = note.split_once("\n\n")?;
    let text = format!("{text}\n");
    let mut lines = text.lines();
    let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
    let signed = signatures.lines().any(|line| {
        let Some((name, encoded)) = line.strip_prefix("— ").and_then(|line| line.split_once(' ')) else {
            return false;
        };
        let Ok(bytes) = STANDARD.decode(encoded) else { return false };
        name == origin
            && keys.iter().any(|key| {
                let id = sha256(&[name.as_bytes(), b"\n\x01", key]);
                let key = UnparsedPublicKey::new(&ED25519, key);
                bytes.len() == 68 && bytes[..4] == id[..4] && key.verify(text.as_bytes(), &bytes[4..]).is_ok()
            })
    });
    let root = STANDARD.decode(root).ok()?.try_into().ok()?;
    signed.then_some((origin.to_owned(), size.parse().ok()?, root))
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, Result};

    use super::*;

    /// The test vectors of docs/log-format.md.
    fn vector(name: &str) -> Result<String> {
        let page = include_str!("../../../../../docs/log-format.md");
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
        Ok(line.with_context(|| format!("no vector {name}"))?.to_owned())
    }

    #[test]
    fn the_published_vectors_hold() -> Result<()> {
        let mut leaves = Vec::new();
        for n in 0..3 {
            leaves.push(leaf_hash(vector(&format!("leaf.{n}"))?.as_bytes()));
            assert_eq!(hex::encode(leaves[n]), vector(&format!("leaf.{n}.hash"))?);
        }
        let found = roots(&leaves, &[1, 2, 3].into());
        for n in 1..=3 {
            assert_eq!(hex::encode(found[&n]), vector(&format!("root.{n}"))?);
        }
        let path: Vec<Hash> = vector("inclusion.1.3")?.split(' ').filter_map(from_hex).collect();
        assert!(includes(leaves[1], 1, 3, &path, found[&3]));
        assert!(!includes(leaves[1], 1, 3, &path[..1], found[&3]));
        assert!(!includes(leaves[0], 1, 3, &path, found[&3]) && !includes(leaves[1], 2, 3, &path, found[&3]));
        Ok(())
    }

    #[test]
    fn the_published_checkpoint_opens_with_its_key_only() -> Result<()> {
        let page = include_str!("../../../../../docs/log-format.md");
        let note =
            page.split("```note\n").nth(1).and_then(|rest| rest.split("```").next()).context("a note")?;
        let published = serde_json::json!({"keys": [{"purpose": "log", "vkey": vector("vkey")?}]});
        let keys = log_keys(&published);
        let (origin, size, root) = open_note(note, &keys).context("it does not open")?;
        assert_eq!((origin.as_str(), size, hex::encode(root)), ("log.example/acme", 3, vector("root.3")?));
        assert_eq!(open_note(&note.replace("\n3\n", "\n4\n"), &keys), None);
        assert_eq!(open_note(note, &[vec![7; 32]]), None);
        Ok(())
    }
}
