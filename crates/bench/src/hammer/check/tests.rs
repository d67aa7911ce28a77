//! The checker finds what it is there for: each test bends one thing in a log that is in order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    Log, record,
    rows::{Batch, Entry, Head, Rows},
    tree::{Hash, hex_id, leaf_hash, roots, sha256},
};
use crate::hammer::{findings::Findings, journal::Record};

const TENANT: &str = "acme";

/// Three hundred entries, half of them attestations, a token among them, one tile, and a chain of two batches.
struct Scene {
    rows: Rows,
    journal: Vec<Record>,
}

fn leaf(index: usize, kind: &str, id: &str) -> Value {
    json!({"v": 1, "kind": kind, "id": format!("sha256:{id}"), "body": {"sha256": id, "size": 3},
        "time": format!("2026-11-20T10:{:02}:{:02}.000000Z", index / 60, index % 60), "token": format!("t{index}")})
}

fn scene() -> Scene {
    let (mut entries, mut journal) = (Vec::new(), Vec::new());
    let (mut evidence, mut bodies) = (BTreeMap::new(), BTreeMap::new());
    for index in 0..300_usize {
        let kind = match index {
            7 => "token.created",
            _ if index % 2 == 0 => "attestation",
            _ => "object",
        };
        let bytes = index.to_string();
        let (id, hash) = (hex_id(bytes.as_bytes()), sha256(&[bytes.as_bytes()]));
        bodies.insert(hash.to_vec(), hash);
        if kind != "token.created" {
            evidence.insert(hash.to_vec(), index as i64);
            journal.push(Record::Acknowledged {
                tenant: TENANT.into(),
                id: id.clone(),
                index: index as u64,
                created: true,
            });
        }
        let leaf = leaf(index, kind, &id).to_string().into_bytes();
        entries.push(Entry { index: index as i64, id: hash.to_vec(), kind: kind.into(), leaf });
    }
    let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(&entry.leaf)).collect();
    let shown = roots(&leaves, &BTreeSet::from([5, 300]));
    journal.push(Record::Root { tenant: TENANT.into(), size: 5, root: hex::encode(shown[&5]) });
    let named = ("token".to_owned(), "t7".to_owned());
    journal.push(Record::Control { tenant: TENANT.into(), entry: "token.created".into(), named });
    let verdict = sha256(&[b"verdict"]);
    journal.push(Record::Decision {
        tenant: TENANT.into(),
        verdict: format!("sha256:{}", hex::encode(verdict)),
    });
    let (batches, end) = chain(&hex::encode(verdict));
    let rows = Rows {
        head: Head { size: 300, root: shown[&300].to_vec() },
        evidence_rows: evidence.len(),
        evidence,
        bodies,
        tiles: vec![(0, 0, leaves[..256].concat())],
        batches,
        ends: vec![("one".into(), 2, end)],
        verdicts: BTreeSet::from([verdict.to_vec()]),
        entries,
    };
    Scene { rows, journal }
}

/// Two batches, written out as docs/log-format.md has them, and the hash of the second.
fn chain(verdict: &str) -> (Vec<Batch>, Vec<u8>) {
    let mut previous = vec![0; 32];
    let mut batches = Vec::new();
    for number in 1..=2 {
        let records =
            format!("{{\"kind\":\"decision\",\"verdict\":\"sha256:{verdict}\",\"count\":1}}\n").into_bytes();
        let heading = format!(
            "{{\"v\":1,\"tenant\":\"acme\",\"instance\":\"one\",\"number\":{number},\"previous\":\"sha256:{}\",\"time\":\"2026-11-20T10:00:00.000000Z\"}}\n",
            hex::encode(&previous)
        );
        let hash = sha256(&[heading.as_bytes(), &records]).to_vec();
        let time_us = 1_795_168_800_000_000;
        batches.push(Batch {
            instance: "one".into(),
            number,
            previous,
            hash: hash.clone(),
            time_us,
            records,
        });
        previous = hash;
    }
    (batches, previous)
}

/// Which invariants do not hold.
fn broken(bend: impl FnOnce(&mut Scene)) -> Vec<String> {
    let mut scene = scene();
    bend(&mut scene);
    let findings = Findings::default();
    let log = Log { name: TENANT, rows: &scene.rows, findings: &findings };
    let journal: Vec<&Record> = scene.journal.iter().collect();
    log.acknowledged(&journal);
    log.counterparts(&journal);
    log.order();
    log.tiles();
    log.seen(&journal, &[]);
    log.once(&journal);
    record::decisions(&log, &journal);
    record::control(&log, &journal);
    let found = findings.json();
    let all = found.as_array().into_iter().flatten().filter(|one| one["broken"] != 0);
    all.filter_map(|one| one["invariant"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_log_that_is_in_order_is_found_in_order() {
    assert_eq!(broken(|_| {}), [""; 0]);
}

#[test]
fn a_lost_entry_is_found() {
    let found = broken(|scene| {
        scene.rows.entries.pop();
    });
    assert_eq!(found, ["I1", "I2", "I3"]);
}

#[test]
fn changed_bytes_are_found() {
    let found = broken(|scene| {
        let id = scene.rows.entries[4].id.clone();
        scene.rows.bodies.insert(id, [9; 32]);
    });
    assert_eq!(found, ["I1", "I2"]);
}

#[test]
fn a_row_without_a_leaf_and_a_leaf_without_a_row_are_found() {
    let gone = broken(|scene| {
        scene.rows.evidence.pop_first();
    });
    assert_eq!(gone, ["I2"]);
    let extra = broken(|scene| {
        scene.rows.bodies.insert(vec![1; 32], [1; 32]);
    });
    assert_eq!(extra, ["I2"]);
    let refused = broken(|scene| {
        scene.journal.push(Record::Refused { tenant: TENANT.into(), id: hex_id(b"4") });
    });
    assert_eq!(refused, ["I2"]);
    let more = broken(|scene| scene.rows.evidence_rows += 1);
    assert_eq!(more, ["I2"]);
}

#[test]
fn another_history_is_found() {
    let leaf = broken(|scene| scene.rows.entries[2].leaf.push(b' '));
    assert_eq!(leaf, ["I3"]);
    let swapped = broken(|scene| scene.rows.entries.swap(10, 12));
    assert_eq!(swapped, ["I1", "I3"]);
    let tile = broken(|scene| scene.rows.tiles[0].2[40] ^= 1);
    assert_eq!(tile, ["I3"]);
    let root = broken(|scene| {
        let other = Record::Root { tenant: TENANT.into(), size: 5, root: "00".repeat(32) };
        scene.journal.push(other);
    });
    assert_eq!(root, ["I3"]);
}

#[test]
fn what_counts_twice_is_found() {
    let found = broken(|scene| {
        let Some(first) = scene.journal.first().cloned() else { return };
        scene.journal.push(first);
    });
    assert_eq!(found, ["I8"]);
}

#[test]
fn a_gap_in_the_record_is_found() {
    let batch = broken(|scene| {
        scene.rows.batches.remove(0);
    });
    assert_eq!(batch, ["I12"]);
    let end = broken(|scene| {
        scene.rows.batches.pop();
    });
    assert_eq!(end, ["I12"]);
    let decision = broken(|scene| {
        let verdict = format!("sha256:{}", "ab".repeat(32));
        scene.journal.push(Record::Decision { tenant: TENANT.into(), verdict });
    });
    assert_eq!(decision, ["I12"]);
    let control = broken(|scene| {
        let named = ("token".into(), "t9999".into());
        scene.journal.push(Record::Control { tenant: TENANT.into(), entry: "token.created".into(), named });
    });
    assert_eq!(control, ["I12"]);
}
