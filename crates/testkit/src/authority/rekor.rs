//! Transparency logs of signatures: Rekor v1 (P-256, promises) and Rekor v2 (Ed25519, no times of its own).

use std::sync::{Arc, Mutex};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Window, merkle};
use crate::{key::Key, sha256_hex};

/// Which log software.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Signs promises, and its entries have times.
    V1,
    /// Signs checkpoints only.
    V2,
}

/// A log with a real tree.
#[derive(Debug, Clone)]
pub struct Rekor {
    /// Which software.
    pub generation: Generation,
    /// The name on its signature lines, a host.
    pub host: String,
    /// The first line of its checkpoints.
    pub origin: String,
    /// Its key.
    pub key: Key,
    /// When the trusted root says that the key may be believed.
    pub window: Window,
    /// What v1 adds to an index in the tree, because older trees came before it.
    pub first_index: u64,
    tree: Arc<Mutex<merkle::Tree>>,
}

/// A proof that a body is in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Index in the tree.
    pub index: u64,
    /// Root.
    pub root: merkle::Hash,
    /// Size of the tree.
    pub size: u64,
    /// Audit path.
    pub hashes: Vec<merkle::Hash>,
    /// Signed note.
    pub checkpoint: String,
}

/// One `tlogEntries` element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `kindVersion.kind`.
    pub kind: String,
    /// `kindVersion.version`.
    pub version: String,
    /// `logIndex`.
    pub log_index: u64,
    /// `logId.keyId`.
    pub log_id: Vec<u8>,
    /// `integratedTime`.
    pub integrated_time: Option<i64>,
    /// `inclusionPromise`.
    pub promise: Option<Vec<u8>>,
    /// `inclusionProof`.
    pub proof: Option<Proof>,
    /// `canonicalizedBody`.
    pub body: Vec<u8>,
}

impl Rekor {
    /// A v1 log.
    pub fn v1(label: &str, window: Window) -> Self {
        let host = format!("rekor.{label}.test");
        Self {
            generation: Generation::V1,
            origin: format!("{host} - 1193050959916656506"),
            host,
            key: Key::p256(&format!("rekor {label}")),
            window,
            first_index: 1_000_000,
            tree: Arc::default(),
        }
        .with_history()
    }

    /// A v2 log.
    pub fn v2(label: &str, window: Window) -> Self {
        let host = format!("log2026-1.rekor.{label}.test");
        Self {
            generation: Generation::V2,
            origin: host.clone(),
            host,
            key: Key::ed25519(&format!("rekor v2 {label}")),
            window,
            first_index: 0,
            tree: Arc::default(),
        }
        .with_history()
    }

    /// A few entries of others, so that proofs are not empty.
    fn with_history(self) -> Self {
        for entry in 0..5 {
            self.append(format!("entry {entry} of somebody else").as_bytes());
        }
        self
    }

    /// SHA-256 of the key (v1) or of the note name and key (v2): the log's id.
    pub fn id(&self) -> Vec<u8> {
        let hashed = match self.generation {
            Generation::V1 => self.key.spki_der().to_vec(),
            Generation::V2 => [self.host.as_bytes(), b"\n\x01", self.key.public_raw()].concat(),
        };
        hex::decode(sha256_hex(&hashed)).expect("it is hex")
    }

    /// Adds a leaf; its index in the tree.
    pub fn append(&self, body: &[u8]) -> u64 {
        let mut tree = self.tree.lock().expect("no test panics while it holds the log");
        tree.push(merkle::leaf_hash(body));
        tree.size() as u64 - 1
    }

    /// The proof of the leaf at `index` in the tree as it stands.
    pub fn prove(&self, index: u64) -> Proof {
        let (root, size, hashes) = {
            let tree = self.tree.lock().expect("no test panics while it holds the log");
            let index = usize::try_from(index).expect("trees are small");
            (tree.root(), tree.size() as u64, tree.path(index))
        };
        Proof { index, root, size, hashes, checkpoint: self.checkpoint(size, &root) }
    }

    /// A checkpoint of this tree.
    pub fn checkpoint(&self, size: u64, root: &merkle::Hash) -> String {
        let text = format!("{}\n{size}\n{}\n", self.origin, STANDARD.encode(root));
        self.note(&text, &self.host, &self.id()[..4])
    }

    /// A signed note with any name and key hint.
    pub fn note(&self, text: &str, name: &str, hint: &[u8]) -> String {
        let signature = [hint, &self.key.sign(text.as_bytes())].concat();
        format!("{text}\n\u{2014} {name} {}\n", STANDARD.encode(signature))
    }

    /// The promise over a body, a time and an index.
    pub fn promise(&self, body: &[u8], integrated_time: i64, log_index: u64) -> Vec<u8> {
        self.key.sign(promised(body, integrated_time, log_index, &self.id()).as_bytes())
    }

    /// Logs a body: the entry with everything that this log gives.
    pub fn log(&self, kind: &str, version: &str, body: &[u8], time: i64) -> Entry {
        let index = self.append(body);
        let log_index = self.first_index + index;
        let v1 = self.generation == Generation::V1;
        Entry {
            kind: kind.into(),
            version: version.into(),
            log_index,
            log_id: self.id(),
            integrated_time: v1.then_some(time),
            promise: v1.then(|| self.promise(body, time, log_index)),
            proof: Some(self.prove(index)),
            body: body.to_vec(),
        }
    }
}

/// The canonical JSON that a promise signs.
pub fn promised(body: &[u8], integrated_time: i64, log_index: u64, log_id: &[u8]) -> String {
    format!(
        r#"{{"body":"{}","integratedTime":{integrated_time},"logID":"{}","logIndex":{log_index}}}"#,
        STANDARD.encode(body),
        hex::encode(log_id)
    )
}

impl Entry {
    /// As it stands in a bundle.
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "logIndex": self.log_index.to_string(),
            "logId": {"keyId": STANDARD.encode(&self.log_id)},
            "kindVersion": {"kind": self.kind, "version": self.version},
            "canonicalizedBody": STANDARD.encode(&self.body),
        });
        if let Some(time) = self.integrated_time {
            value["integratedTime"] = time.to_string().into();
        }
        if let Some(promise) = &self.promise {
            value["inclusionPromise"] = json!({"signedEntryTimestamp": STANDARD.encode(promise)});
        }
        if let Some(proof) = &self.proof {
            let hashes: Vec<String> = proof.hashes.iter().map(|hash| STANDARD.encode(hash)).collect();
            value["inclusionProof"] = json!({
                "logIndex": proof.index.to_string(),
                "rootHash": STANDARD.encode(proof.root),
                "treeSize": proof.size.to_string(),
                "hashes": hashes,
                "checkpoint": {"envelope": proof.checkpoint},
            });
        }
        value
    }
}
