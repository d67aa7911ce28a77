//! An outside checker: reads a log as anyone may who has access to it, and believes nothing that it cannot recompute.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use catenary_tlog::{
    checkpoint::Checkpoint,
    leaf::Leaf,
    merkle::{Frontier, Hash, leaf_hash},
    note::Verifier,
    proof::{verify_consistency, verify_inclusion},
    tile::{BundleId, decode_bundle},
};
use serde_json::Value;

use crate::http::{Answer, Client};

/// A log whose root was recomputed from its leaves and compared with a signed checkpoint.
#[derive(Debug)]
pub struct Checked {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Every leaf hash.
    pub leaves: Vec<Hash>,
    /// Ids and their indexes.
    pub index_of: BTreeMap<String, u64>,
}

/// Reads the whole log of a tenant and checks it.
pub async fn check(client: &Client, tenant: &str) -> Checked {
    let checkpoint = checkpoint(client, tenant).await;
    let mut frontier = Frontier::new();
    let (mut leaves, mut index_of, mut last) = (Vec::new(), BTreeMap::new(), None);
    let mut seen = BTreeSet::new();
    let mut bundle = 0;
    while let Some(id) = BundleId::at(bundle, checkpoint.size) {
        let answer = client.get(&format!("/v1/log/{tenant}/{id}")).await;
        answer.is(200);
        let entries = decode_bundle(&answer.body).unwrap();
        assert_eq!(entries.len(), usize::from(id.width), "{id}");
        for bytes in entries {
            let leaf = Leaf::decode(bytes).unwrap();
            assert!(last.is_none_or(|last| last <= leaf.time), "time runs backwards at {}", leaves.len());
            assert!(seen.insert(leaf.id), "{} has two entries", leaf.id);
            last = Some(leaf.time);
            index_of.insert(leaf.id.to_hex(), leaves.len() as u64);
            leaves.push(leaf_hash(bytes));
            frontier.push(leaf_hash(bytes));
        }
        bundle += 1;
    }
    assert_eq!(leaves.len() as u64, checkpoint.size);
    assert_eq!(frontier.root(), checkpoint.root, "the root is not that of the entries");
    Checked { checkpoint, leaves, index_of }
}

/// The newest checkpoint, opened with the service's published key.
pub async fn checkpoint(client: &Client, tenant: &str) -> Checkpoint {
    let keys = client.anonymous().get("/.well-known/catenary/keys.json").await.is(200);
    let answer = client.get(&format!("/v1/log/{tenant}/checkpoint")).await;
    answer.is(200);
    let note = String::from_utf8(answer.body.to_vec()).unwrap();
    let origin = note.lines().next().unwrap().to_owned();
    let known: Vec<Verifier> = keys
        .list("keys")
        .iter()
        .filter(|key| key["purpose"] == "log")
        .filter_map(|key| verifier(key["vkey"].as_str().or(key["pem"].as_str())?, &origin))
        .collect();
    assert!(!known.is_empty(), "no log key is published: {:?}", keys.0);
    Checkpoint::open(&note, &origin, &known).unwrap_or_else(|e| panic!("{e}: {note} {:?}", keys.0))
}

/// A verifier for a log's origin: the key may be published under another name than the log's.
fn verifier(vkey: &str, origin: &str) -> Option<Verifier> {
    let verifier: Verifier = vkey.parse().ok()?;
    if verifier.name() == origin { Some(verifier) } else { Verifier::new(origin, *verifier.key()).ok() }
}

impl Checked {
    /// Fails the test unless the log has the entry, and the service proves it.
    pub async fn includes(&self, client: &Client, id: &str, index: u64) {
        let bare = id.trim_start_matches("sha256:");
        assert_eq!(self.index_of.get(bare), Some(&index), "{id} was acknowledged at {index}");
        let proof =
            client.get(&format!("/v1/attestations/{}/proof", crate::http::escape(id))).await.is(200).0;
        self.proves(index, proof.get("inclusion").unwrap_or(&proof));
    }

    /// Checks an inclusion proof as the API writes it.
    pub fn proves(&self, index: u64, proof: &Value) {
        let size = proof["size"].as_u64().unwrap_or_else(|| panic!("{proof}"));
        let hashes: Vec<Hash> = proof["hashes"].as_array().unwrap().iter().map(hash).collect();
        let leaf = self.leaves[usize::try_from(index).unwrap()];
        verify_inclusion(leaf, index, size, &hashes, hash(&proof["root"])).unwrap();
    }

    /// Fails the test unless this log extends an older state of it.
    pub async fn extends(&self, client: &Client, tenant: &str, older: &Checkpoint) {
        let (from, to) = (older.size, self.checkpoint.size);
        let path = format!("/v1/log/{tenant}/proof/consistency?from={from}&to={to}");
        let proof = client.get(&path).await.is(200).0;
        let hashes: Vec<Hash> = proof["hashes"].as_array().unwrap().iter().map(hash).collect();
        verify_consistency(from, older.root, to, self.checkpoint.root, &hashes).unwrap();
    }
}

/// A hash, in hex (with or without `sha256:`) or base64.
pub fn hash(value: &Value) -> Hash {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is not a hash"));
    let bare = text.trim_start_matches("sha256:");
    let bytes = if bare.len() == 64 { hex::decode(bare).unwrap() } else { STANDARD.decode(bare).unwrap() };
    Hash(bytes.try_into().unwrap())
}

/// Id and index of an acknowledged item.
pub fn acknowledged(answer: &Answer) -> (String, u64) {
    let body = answer.json();
    (body["id"].as_str().unwrap().to_owned(), body["index"].as_u64().unwrap())
}
