//! Readers of the log: one that reads all of it, others that look at entries by chance, and at what is none of their business.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use acceptance::http::escape;
use serde_json::Value;

use crate::hammer::{
    call::short,
    check::tree::{Hash, from_hex, hex_id, includes, leaf_hash, log_keys, open_note, proven_leaf, roots},
    journal::Record,
    play::Play,
};

/// Entries that were read, with the checkpoint that commits to them.
struct Known {
    tenant: usize,
    size: u64,
    root: Hash,
    leaves: Vec<Vec<u8>>,
}

/// Reads whole logs against one checkpoint each, then looks at single entries of them, until the end.
pub async fn read(play: Arc<Play>) {
    while play.goes_on() {
        let tenant = fastrand::usize(..play.tenants.len());
        let Some(known) = whole(&play, tenant).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        for _ in 0..100 {
            if !play.goes_on() {
                return;
            }
            single(&play, &known).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Every entry, and whether they give the root that the checkpoint signs (I3). `None` when an answer is missing.
async fn whole(play: &Play, tenant: usize) -> Option<Known> {
    let stage = &play.tenants[tenant];
    let keys = stage.admin.get("/.well-known/catenary/keys.json").await.filter(|a| a.status == 200)?;
    let path = format!("/v1/log/{}/checkpoint", stage.name);
    let answer = stage.admin.get(&path).await.filter(|a| a.status == 200)?;
    let note = String::from_utf8_lossy(&answer.body).into_owned();
    let opened = open_note(&note, &log_keys(&keys.json()));
    play.findings.check("I3", opened.is_some(), || format!("a checkpoint does not verify: {note}"));
    play.journal.note(&Record::Checkpoint { tenant: stage.name.clone(), note });
    let (_, size, root) = opened?;
    let mut leaves = Vec::new();
    while (leaves.len() as u64) < size {
        let at = leaves.len() as u64 / 256;
        let width = (size - at * 256).min(256);
        let path = format!("/v1/log/{}/{}", stage.name, bundle(at, width));
        let answer = stage.admin.get(&path).await.filter(|a| a.status == 200)?;
        let found = entries(&answer.body);
        let fits = found.as_ref().is_some_and(|found| found.len() as u64 == width);
        play.findings.check("I3", fits, || format!("{path} does not hold {width} entries"));
        leaves.extend(found?);
    }
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let same = roots(&hashes, &BTreeSet::from([size])).get(&size) == Some(&root);
    play.findings.check("I3", same, || format!("{size} entries of {} do not give the root", stage.name));
    Some(Known { tenant, size, root, leaves })
}

/// `tile/entries/<N>[.p/<W>]`
fn bundle(index: u64, width: u64) -> String {
    let mut groups = vec![format!("{:03}", index % 1000)];
    let mut rest = index / 1000;
    while rest > 0 {
        groups.insert(0, format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    let partial = if width < 256 { format!(".p/{width}") } else { String::new() };
    format!("tile/entries/{}{partial}", groups.join("/"))
}

/// Entries after their lengths.
fn entries(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_at_checked(2)?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([length[0], length[1]])))?;
        all.push(entry.to_vec());
        bytes = rest;
    }
    Some(all)
}

/// One entry by chance: its proof against the one checkpoint, and, of an attestation, its bytes and its own proof.
async fn single(play: &Play, known: &Known) {
    let stage = &play.tenants[known.tenant];
    let index = fastrand::usize(..known.leaves.len());
    let leaf = &known.leaves[index];
    let path = format!("/v1/log/{}/proof/inclusion?index={index}&size={}", stage.name, known.size);
    if let Some(answer) = stage.admin.get(&path).await.filter(|a| a.status == 200) {
        let hashes = answer.json()["hashes"].as_array().cloned().unwrap_or_default();
        let path: Vec<Hash> = hashes.iter().filter_map(|h| from_hex(h.as_str()?)).collect();
        let holds = includes(leaf_hash(leaf), index as u64, known.size, &path, known.root);
        play.findings
            .check("I3", holds, || format!("entry {index} in {}: {}", known.size, short(&answer.show())));
    }
    let entry: Value = serde_json::from_slice(leaf).unwrap_or_default();
    let Some(id) = entry["id"].as_str().filter(|_| entry["kind"] == "attestation") else { return };
    let path = format!("/v1/attestations/{}/raw", escape(id));
    if let Some(answer) = stage.admin.get(&path).await.filter(|a| a.status != 503) {
        let whole = answer.status == 200 && hex_id(&answer.body) == id.trim_start_matches("sha256:");
        play.findings.check("I1", whole, || format!("{id} is not its bytes: {}", short(&answer.show())));
    }
    let path = format!("/v1/attestations/{}/proof", escape(id));
    if let Some(answer) = stage.admin.get(&path).await.filter(|a| a.status == 200) {
        let proven = proven_leaf(&answer.json(), index as u64);
        play.findings
            .check("I3", proven.as_ref() == Some(leaf), || format!("{id}: {}", short(&answer.show())));
    }
    trespass(play, known.tenant, id).await;
}

/// Another tenant asks for it: it is not there (I9).
async fn trespass(play: &Play, owner: usize, id: &str) {
    let other = &play.tenants[(owner + 1) % play.tenants.len()];
    for path in [
        format!("/v1/attestations/{}", escape(id)),
        format!("/v1/log/{}/checkpoint", play.tenants[owner].name),
    ] {
        if let Some(answer) = other.admin.get(&path).await {
            let hidden = [404, 503].contains(&answer.status);
            play.findings
                .check("I9", hidden, || format!("{path} for {}: {}", other.name, short(&answer.show())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_named_as_the_format_says() {
        assert_eq!(bundle(0, 3), "tile/entries/000.p/3");
        assert_eq!(bundle(1_234_067, 256), "tile/entries/x001/x234/067");
        assert_eq!(entries(&[0, 1, 7, 0, 2, 8, 9]), Some(vec![vec![7], vec![8, 9]]));
        assert_eq!(entries(&[0, 2, 7]), None);
    }
}
