//! The test vectors of `docs/log-format.md`, read from the page itself so that it cannot drift.
//!
//! The page's numbers were made with Python and OpenSSL, which share no code with this crate.

use crate::{
    BundleId, Checkpoint, Frontier, Hash, Leaf, Signer, TileId, Verifier, leaf_hash,
    tile::{encode_bundle, encode_tile},
    verify_consistency, verify_inclusion,
};

const PAGE: &str = include_str!("../../../docs/log-format.md");

/// The text of the only block of that name.
fn block(name: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("```{name}\n")).unwrap();
    let end = rest.find("\n```").unwrap();
    &rest[..=end]
}

fn vector(name: &str) -> &'static str {
    block("vectors").lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = ")).unwrap()
}

fn hash(name: &str) -> Hash {
    vector(name).parse().unwrap()
}

fn hashes(name: &str) -> Vec<Hash> {
    vector(name).split(' ').map(|text| text.parse().unwrap()).collect()
}

fn leaves() -> Vec<&'static [u8]> {
    (0..3).map(|index| vector(&format!("leaf.{index}")).as_bytes()).collect()
}

#[test]
fn the_pages_leaves_decode_and_encode() {
    for leaf in leaves() {
        assert_eq!(Leaf::decode(leaf).unwrap().encode().unwrap(), leaf);
    }
    let first = Leaf::decode(leaves()[0]).unwrap();
    assert_eq!(first, Leaf::origin("log.example/acme", first.time));
    let last = Leaf::decode(leaves()[2]).unwrap();
    assert_eq!(last.extra["reason"], "café \"laptop\" 🔒\nlost");
}

#[test]
fn the_pages_tree_is_ours() {
    let mut frontier = Frontier::new();
    assert_eq!(frontier.root(), hash("root.0"));
    for (index, leaf) in leaves().into_iter().enumerate() {
        assert_eq!(leaf_hash(leaf), hash(&format!("leaf.{index}.hash")));
        frontier.push(leaf_hash(leaf));
        assert_eq!(frontier.root(), hash(&format!("root.{}", index + 1)));
    }
    assert_eq!(hex::encode(frontier.to_bytes()), vector("frontier.3"));
    verify_inclusion(hash("leaf.1.hash"), 1, 3, &hashes("inclusion.1.3"), hash("root.3")).unwrap();
    verify_consistency(1, hash("root.1"), 3, hash("root.3"), &hashes("consistency.1.3")).unwrap();
}

#[test]
fn the_pages_tiles_are_ours() {
    assert_eq!(TileId::at(0, 0, 3).unwrap().to_string(), vector("tile.path"));
    let tile = encode_tile(&leaves().into_iter().map(leaf_hash).collect::<Vec<_>>());
    assert_eq!(Hash::of(&tile), hash("tile.sha256"));
    assert_eq!(BundleId::at(0, 3).unwrap().to_string(), vector("bundle.path"));
    assert_eq!(Hash::of(&encode_bundle(&leaves()).unwrap()), hash("bundle.sha256"));
}

#[test]
fn the_pages_checkpoint_is_ours() {
    let seed = hex::decode(vector("seed")).unwrap();
    let signer = Signer::from_seed("log.example/acme", seed.as_slice().try_into().unwrap()).unwrap();
    let verifier: Verifier = vector("vkey").parse().unwrap();
    assert_eq!(signer.verifier(), verifier);
    let checkpoint = Checkpoint::new("log.example/acme", 3, hash("root.3"));
    assert_eq!(checkpoint.sign(&signer).unwrap(), block("note"));
    assert_eq!(Checkpoint::open(block("note"), "log.example/acme", &[verifier]).unwrap(), checkpoint);
}
