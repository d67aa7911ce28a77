//! I12: the record of decisions is an unbroken chain that holds what was answered as recorded; control entries are in the log once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Log, tree::sha256};
use crate::hammer::journal::Record;

/// Batches follow one another up to the chain's end, and count at least what was answered as recorded.
pub fn decisions(log: &Log<'_>, journal: &[&Record]) {
    let mut ends: BTreeMap<&str, (i64, Vec<u8>)> = BTreeMap::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for batch in &log.rows.batches {
        let (number, hash) = ends.entry(&batch.instance).or_insert((0, vec![0; 32]));
        let follows =
            batch.number == *number + 1 && batch.previous == *hash && batch.hash == digest(log, batch);
        log.findings.check("I12", follows, || {
            format!("batch {} of {} does not follow {number}", batch.number, batch.instance)
        });
        (*number, *hash) = (batch.number, batch.hash.clone());
        for line in batch.records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let record: Value = serde_json::from_slice(line).unwrap_or_default();
            if record["kind"] == "decision" {
                let verdict = record["verdict"].as_str().unwrap_or_default().to_owned();
                *counts.entry(verdict).or_default() += record["count"].as_u64().unwrap_or(0);
            }
        }
    }
    for (instance, number, hash) in &log.rows.ends {
        let end = ends.get(instance.as_str()).cloned().unwrap_or((0, vec![0; 32]));
        log.findings.check("I12", end == (*number, hash.clone()), || format!("the end of chain {instance}"));
    }
    let mut answered: BTreeMap<&str, u64> = BTreeMap::new();
    for record in journal {
        if let Record::Decision { verdict, .. } = record {
            *answered.entry(verdict).or_default() += 1;
        }
    }
    for (verdict, times) in answered {
        let found = counts.get(verdict).copied().unwrap_or(0);
        let kept = hex::decode(verdict.trim_start_matches("sha256:"))
            .is_ok_and(|id| log.rows.verdicts.contains(&id));
        log.findings.check("I12", found >= times && kept, || {
            format!("{verdict} was answered {times} times as recorded, and is recorded {found} times")
        });
    }
}

/// SHA-256 over heading and records, as docs/log-format.md has it.
fn digest(log: &Log<'_>, batch: &super::rows::Batch) -> Vec<u8> {
    let (seconds, micros) = (batch.time_us.div_euclid(1_000_000), batch.time_us.rem_euclid(1_000_000));
    let time = jiff::Timestamp::new(seconds, i32::try_from(micros * 1_000).unwrap_or(0)).unwrap_or_default();
    let text = |value: &str| json!(value).to_string();
    let heading = format!(
        "{{\"v\":1,\"tenant\":{},\"instance\":{},\"number\":{},\"previous\":\"sha256:{}\",\"time\":\"{time:.6}\"}}\n",
        text(log.name),
        text(&batch.instance),
        batch.number,
        hex::encode(&batch.previous),
    );
    sha256(&[heading.as_bytes(), &batch.records]).to_vec()
}

/// Each acknowledged control entry is one leaf.
pub fn control(log: &Log<'_>, journal: &[&Record]) {
    let mut leaves: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    for entry in
        log.rows.entries.iter().filter(|entry| !["attestation", "object"].contains(&entry.kind.as_str()))
    {
        let leaf: Value = serde_json::from_slice(&entry.leaf).unwrap_or_default();
        for (name, value) in leaf.as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            *leaves.entry((entry.kind.clone(), name.clone(), value)).or_default() += 1;
        }
    }
    for record in journal {
        let Record::Control { entry, named: (name, value), .. } = record else { continue };
        let found = leaves.get(&(entry.clone(), name.clone(), value.clone())).copied().unwrap_or(0);
        log.findings.check("I12", found == 1, || format!("{entry} {name} {value} has {found} leaves"));
    }
}
