//! Transparency log entries: the log's promise, the inclusion proof, the checkpoint.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use sigstore_types::{Checkpoint, Sha256Hash};

use super::{Fault, checkpoint, entry};
use crate::{
    form::{InclusionProof, LogEntry},
    signer::{AuthorityKind, Logged, Voucher},
    trust_root::{Domain, Log},
    witness::{self, Cosignature, Witnesses},
};

/// The most hashes of a path: a tree of 2^63 leaves.
const MAX_PATH: usize = 64;

/// What a log says.
pub(super) struct Found {
    pub logged: Logged,
    pub time: Option<Timestamp>,
    /// `at` is the epoch when the log says no time.
    pub voucher: Voucher,
    /// Who cosigned the checkpoint of its proof.
    pub cosigned: Vec<Cosignature>,
}

/// Verifies everything that the entry brings; an entry that brings neither promise nor proof proves nothing and is refused.
pub(super) fn verify(
    position: usize,
    entry: &LogEntry,
    domain: &Domain,
    witnesses: &[&Witnesses],
) -> Result<Found, Fault> {
    let unknown = || Fault::UnknownLog { log: hex::encode(&entry.log_id), domain: domain.name().to_owned() };
    let log = domain.log(&entry.log_id).ok_or_else(unknown)?;
    let v2 = entry::is_v2(&entry.canonicalized_body);
    let mut found = Found {
        logged: Logged::No,
        time: None,
        voucher: Voucher { kind: AuthorityKind::Log, authority: log.authority, at: Timestamp::UNIX_EPOCH },
        cosigned: Vec::new(),
    };
    if let Some(promise) = &entry.promise {
        // Only the promise says when, and only Rekor v1 makes one.
        let at = promised(position, entry, promise, log)?;
        found.logged = Logged::Promise;
        found.time = Some(at);
        found.voucher.at = at;
    }
    let signed = |proof: &InclusionProof| v2 || entry.promise.is_none() || proof.checkpoint.is_some();
    match &entry.proof {
        Some(proof) if signed(proof) => {
            let checkpoint = included(position, entry, proof, v2, log)?;
            let cosigned = witness::cosignatures(&checkpoint, log.authority, witnesses);
            found.cosigned = cosigned.map_err(|why| Fault::Checkpoint { position, why })?;
            found.logged = Logged::Proof;
        }
        // Bundles v0.1 carry proofs without a checkpoint: their root is nobody's word, and only the promise counts. A path that
        // does not even lead there was tampered with.
        Some(proof) => {
            let root = Sha256Hash::try_from(proof.root.as_slice());
            let root = root.map_err(|_| malformed(position, "the root of its proof has not 32 bytes"))?;
            let size = natural(position, proof.tree_size)?;
            leads(position, entry, proof, proof.log_index, size, &root)?;
        }
        None => {}
    }
    if found.logged == Logged::No {
        return Err(Fault::EntryMalformed { position, why: "it brings neither promise nor proof".into() });
    }
    Ok(found)
}

fn promised(position: usize, entry: &LogEntry, promise: &[u8], log: &Log) -> Result<Timestamp, Fault> {
    let bad = |why: String| Fault::Promise { position, why };
    let seconds = entry.integrated_time.ok_or_else(|| bad("it promises no time".into()))?;
    let at = Timestamp::from_second(seconds).map_err(|e| bad(e.to_string()))?;
    if !log.window.contains(at) {
        return Err(bad(format!("the log's key was not trusted at {at}")));
    }
    if entry.log_index < 0 {
        return Err(Fault::EntryMalformed { position, why: "its index is negative".into() });
    }
    // Canonical JSON (RFC 8785) of four members: base64, hex and numbers need no escapes.
    let message = format!(
        r#"{{"body":"{}","integratedTime":{seconds},"logID":"{}","logIndex":{}}}"#,
        STANDARD.encode(&entry.canonicalized_body),
        hex::encode(&entry.log_id),
        entry.log_index,
    );
    if !log.key.verifies(message.as_bytes(), promise) {
        return Err(bad("the log did not sign it".into()));
    }
    Ok(at)
}

fn included(
    position: usize,
    entry: &LogEntry,
    proof: &InclusionProof,
    v2: bool,
    log: &Log,
) -> Result<Checkpoint, Fault> {
    let note = proof.checkpoint.as_deref().unwrap_or_default();
    let checkpoint = checkpoint::verify(note, log).map_err(|why| Fault::Checkpoint { position, why })?;
    // Rekor v2 need not repeat index, size and root beside the checkpoint, which says them; what it repeats must be the same.
    let left_out = |absent: bool| v2 && absent;
    let index = if v2 { entry.log_index } else { proof.log_index };
    if !left_out(proof.log_index == 0) && proof.log_index != index {
        return Err(malformed(position, "the proof is of another index than the entry"));
    }
    let size = natural(position, proof.tree_size)?;
    let other_size = !left_out(size == 0) && size != checkpoint.tree_size();
    let other_root = !left_out(proof.root.is_empty()) && proof.root != checkpoint.root_hash().as_bytes();
    if other_size || other_root {
        let why = "it is about another tree than the proof".into();
        return Err(Fault::Checkpoint { position, why });
    }
    leads(position, entry, proof, index, checkpoint.tree_size(), checkpoint.root_hash())?;
    Ok(checkpoint)
}

/// Whether the path leads from the entry to a root (RFC 9162 section 2.1.3.2).
fn leads(
    position: usize,
    entry: &LogEntry,
    proof: &InclusionProof,
    index: i64,
    size: u64,
    root: &Sha256Hash,
) -> Result<(), Fault> {
    let index = natural(position, index)?;
    if proof.hashes.len() > MAX_PATH {
        return Err(malformed(position, "its path is too long"));
    }
    let hashes: Result<Vec<Sha256Hash>, _> =
        proof.hashes.iter().map(|hash| Sha256Hash::try_from(hash.as_slice())).collect();
    let hashes = hashes.map_err(|_| malformed(position, "a hash of its path has not 32 bytes"))?;
    let leaf = sigstore_merkle::hash_leaf(&entry.canonicalized_body);
    sigstore_merkle::verify_inclusion_proof(&leaf, index, size, &hashes, root)
        .map_err(|e| Fault::Proof { position, why: e.to_string() })
}

fn malformed(position: usize, why: &str) -> Fault {
    Fault::EntryMalformed { position, why: why.into() }
}

/// An index or a size.
fn natural(position: usize, number: i64) -> Result<u64, Fault> {
    u64::try_from(number).map_err(|_| malformed(position, "its index or tree size is negative"))
}
