//! Decisions: what was answered to whom, in chains of batches (docs/log-format.md, "Decisions").
//!
//! Each instance of the service writes one chain for each tenant, so that none waits for another. A batch is its
//! records, one JSON object a line, behind a line that carries the hash of the batch in front. The rows of `decision`
//! are derived from the records, so that they can be looked up; `verdict_body` keeps the bytes of each verdict once.

mod read;
mod write;

use catenary_evidence::digest::Sha256;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use read::decision;
pub use read::{Chosen, Cursor, DecisionRow, KeptVerdict};
pub use write::{KeptBytes, NewBatch, RecordError};
pub(crate) use write::{Row, add_rows};

use crate::{SealKeys, seal::Sealed};

/// The largest verdict whose bytes are kept.
pub const MAX_VERDICT: usize = 1024 * 1024;
/// What the first batch of a chain follows.
pub const START: Sha256 = Sha256([0; 32]);

/// One record of a batch. Member order is the wire's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Record {
    /// A verdict was answered.
    Decision(Box<Decision>),
    /// The instance began to record.
    Start {
        /// When.
        time: Timestamp,
        /// What was before.
        after: After,
    },
    /// It stopped in order; everything answered before is recorded.
    Stop {
        /// When.
        time: Timestamp,
    },
    /// Something answered in between may not be recorded.
    Gap {
        /// Everything answered before is recorded.
        from: Timestamp,
        /// Everything answered after is recorded.
        to: Timestamp,
        /// Why.
        why: Why,
        /// How many answers are missing, when that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
    },
}

/// What was before a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum After {
    /// Nothing: the chain is new.
    New,
    /// A stop in order.
    Stop,
    /// No stop: a gap goes in front.
    Crash,
}

/// Why answers may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// The instance ended without a stop.
    Crash,
    /// More waited to be recorded than memory takes.
    Full,
    /// The end of the chain was not as it had been written.
    Changed,
}

/// Equal answers to one principal within one minute; several records of a chain may add up to one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decision {
    /// Who asked: a token's public id.
    pub principal: String,
    /// The verdict.
    pub verdict: Sha256,
    /// `registry/repository`
    pub resource: String,
    /// `sha256:…`
    pub digest: String,
    /// The environment that was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// `os/architecture[/variant]`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// `PASSED`, `FAILED`, `INDETERMINATE`
    pub outcome: String,
    /// Whether it may run.
    pub allowed: bool,
    /// Size of the log that the verdict was computed at.
    pub size: u64,
    /// Whether the verdict's bytes are kept; not when they are over the limit.
    pub kept: bool,
    /// The minute, cut off to whole ones.
    pub minute: Timestamp,
    /// How many answers.
    pub count: u64,
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
}

impl Decision {
    /// The row that the record counts for.
    pub fn id(&self, instance: &str) -> Sha256 {
        let minute = self.minute.as_microsecond().to_string();
        let parts = [instance, &self.principal, &self.verdict.to_hex(), &minute];
        Sha256::of(&serde_json::to_vec(&parts).unwrap_or_default())
    }
}

/// A batch of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The tenant.
    pub tenant: String,
    /// Which instance's chain.
    pub instance: String,
    /// 1, 2, 3 …
    pub number: u64,
    /// Hash of the batch in front.
    pub previous: Sha256,
    /// When it was closed: everything that the instance answered before is in this batch, or in front of it.
    pub time: Timestamp,
    /// The records, one JSON object a line.
    pub records: Vec<u8>,
}

/// The line in front of the records, as it is hashed.
#[derive(Serialize)]
struct Heading<'a> {
    v: u8,
    tenant: &'a str,
    instance: &'a str,
    number: u64,
    previous: Sha256,
    time: String,
}

impl Batch {
    /// SHA-256 over the heading's line and the records.
    pub fn hash(&self) -> Sha256 {
        let heading = Heading {
            v: 1,
            tenant: &self.tenant,
            instance: &self.instance,
            number: self.number,
            previous: self.previous,
            time: format!("{:.6}", self.time),
        };
        let mut bytes = serde_json::to_vec(&heading).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.records);
        Sha256::of(&bytes)
    }

    /// The records, if every line is one.
    pub fn read(&self) -> Result<Vec<Record>, String> {
        let lines = self.records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).map_err(|error| error.to_string())).collect()
    }

    /// The place of the row, as seals name it.
    fn key(&self) -> Vec<u8> {
        format!("{} {}", self.instance, self.number).into_bytes()
    }

    fn seal(&self, keys: &SealKeys) -> (u32, Vec<u8>) {
        self.with_sealed(|row| keys.seal(row))
    }

    pub(crate) fn is_sealed(&self, keys: &SealKeys, id: i32, mac: &[u8]) -> bool {
        u32::try_from(id).is_ok_and(|id| self.with_sealed(|row| keys.opens(row, id, mac)))
    }

    fn with_sealed<T>(&self, f: impl FnOnce(&Sealed<'_>) -> T) -> T {
        // The hash covers every other column.
        let hash = self.hash();
        let columns = vec![Some(&hash.0[..])];
        f(&Sealed {
            tenant: &self.tenant,
            table: "decision_batch",
            key: &self.key(),
            index: self.number,
            columns,
        })
    }
}

/// The end of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The tenant.
    pub tenant: String,
    /// Whose it is.
    pub instance: String,
    /// Number of the last batch; 0 for none.
    pub number: u64,
    /// Its hash.
    pub hash: Sha256,
    /// Everything that the instance answered before is recorded.
    pub alive: Timestamp,
    /// Whether the instance has not said that it stopped.
    pub is_open: bool,
}

impl Chain {
    /// A chain without a batch.
    pub fn new(tenant: &str, instance: &str, now: Timestamp) -> Self {
        Self {
            tenant: tenant.to_owned(),
            instance: instance.to_owned(),
            number: 0,
            hash: START,
            alive: now,
            is_open: true,
        }
    }

    fn seal(&self, keys: &SealKeys) -> (u32, Vec<u8>) {
        self.with_sealed(|row| keys.seal(row))
    }

    pub(crate) fn is_sealed(&self, keys: &SealKeys, id: i32, mac: &[u8]) -> bool {
        u32::try_from(id).is_ok_and(|id| self.with_sealed(|row| keys.opens(row, id, mac)))
    }

    fn with_sealed<T>(&self, f: impl FnOnce(&Sealed<'_>) -> T) -> T {
        let (alive, open) = (self.alive.as_microsecond().to_be_bytes(), [u8::from(self.is_open)]);
        let columns = vec![Some(&self.hash.0[..]), Some(&alive[..]), Some(&open[..])];
        let key = self.instance.as_bytes();
        f(&Sealed { tenant: &self.tenant, table: "decision_chain", key, index: self.number, columns })
    }
}

/// Records as a batch has them.
pub fn lines(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        // Plain data: no way to fail.
        bytes.extend(serde_json::to_vec(record).unwrap_or_default());
        bytes.push(b'\n');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        Batch {
            tenant: "acme".into(),
            instance: "a1".into(),
            number: 1,
            previous: START,
            time: "2026-11-20T10:00:00Z".parse().unwrap(),
            records: lines(&[Record::Start {
                time: "2026-11-20T10:00:00Z".parse().unwrap(),
                after: After::New,
            }]),
        }
    }

    /// The numbers of docs/log-format.md.
    #[test]
    fn a_batch_hashes_to_what_the_page_says() {
        let page = include_str!("../../../docs/log-format.md");
        let batch = batch();
        assert!(page.contains(std::str::from_utf8(&batch.records).unwrap().trim_end()));
        assert!(page.contains(&batch.hash().to_hex()), "{}", batch.hash());
    }

    #[test]
    fn every_part_of_a_batch_is_in_its_hash() {
        let whole = batch();
        let changes: [fn(&mut Batch); 6] = [
            |b| b.tenant.push('x'),
            |b| b.instance.push('x'),
            |b| b.number += 1,
            |b| b.previous = Sha256([1; 32]),
            |b| b.time = "2026-11-20T10:00:00.000001Z".parse().unwrap(),
            |b| b.records.push(b'\n'),
        ];
        for change in changes {
            let mut other = whole.clone();
            change(&mut other);
            assert_ne!(other.hash(), whole.hash());
        }
    }

    #[test]
    fn a_seal_is_for_one_place_and_one_content() {
        let keys = SealKeys { current: (1, [7; 32]), retired: Vec::new() };
        let whole = batch();
        let (id, mac) = whole.seal(&keys);
        let id = i32::try_from(id).unwrap();
        assert!(whole.is_sealed(&keys, id, &mac));
        let mut other = whole.clone();
        other.records.clear();
        assert!(!other.is_sealed(&keys, id, &mac));
        assert!(!whole.is_sealed(&keys, id + 1, &mac));
        let chain = Chain::new("acme", "a1", whole.time);
        let (_, mac) = chain.seal(&keys);
        assert!(chain.is_sealed(&keys, id, &mac));
        assert!(!Chain { is_open: false, ..chain }.is_sealed(&keys, id, &mac));
    }

    #[test]
    fn records_read_back_and_unknown_members_are_refused() {
        let batch = batch();
        assert_eq!(lines(&batch.read().unwrap()), batch.records);
        let strange =
            Batch { records: br#"{"kind":"stop","time":"2026-11-20T10:00:00Z","x":1}"#.to_vec(), ..batch };
        assert!(strange.read().is_err());
    }
}
