//! The checker: reads the journal, Postgres by plain SQL and the service over HTTP, and proves the invariants as far as they show
//! from outside. It shares no code with the service: trees, notes, leaves and signatures are read by what stands beside
//! this file, from docs/log-format.md.

pub mod dsse;
mod record;
pub mod rows;
#[cfg(test)]
mod tests;
pub mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use acceptance::{Answer, http::escape};
use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use self::{
    rows::Rows,
    tree::{Hash, from_hex, hex_id, leaf_hash, log_keys, node_hash, open_note, proven_leaf, roots},
};
use super::{
    call::{Body, short},
    cast::Actor,
    findings::Findings,
    journal::Record,
    play::{Play, Tenant, question},
    roles::sample,
};

/// Acknowledged attestations that are also asked for over HTTP.
const ASKED: usize = 200;

/// Everything, once nothing moves any more.
pub async fn everything(play: &Arc<Play>) -> Result<()> {
    let mut journal = play.journal.read().await?;
    outside(play, &mut journal);
    let mut db = PgConnection::connect(&play.site.database).await?;
    let keys =
        play.tenants[0].admin.get("/.well-known/catenary/keys.json").await.context("the published keys")?;
    let keys = log_keys(&keys.json());
    for tenant in &play.tenants {
        let rows = Rows::read(&mut db, &tenant.name).await?;
        let log = Log { name: &tenant.name, rows: &rows, findings: &play.findings };
        let own: Vec<&Record> = journal.iter().filter(|record| belongs(record, &tenant.name)).collect();
        let attestations = log.acknowledged(&own);
        signatures(play, tenant, &attestations, &mut db).await?;
        log.counterparts(&own);
        log.order();
        log.tiles();
        log.seen(&own, &keys);
        log.once(&own);
        record::decisions(&log, &own);
        record::control(&log, &own);
    }
    db.close().await?;
    verdicts(play).await;
    over_http(play, &journal).await;
    connections(play).await;
    Ok(())
}

fn belongs(record: &Record, name: &str) -> bool {
    let (Record::Intent { tenant, .. }
    | Record::Acknowledged { tenant, .. }
    | Record::Refused { tenant, .. }
    | Record::Control { tenant, .. }
    | Record::Decision { tenant, .. }
    | Record::Checkpoint { tenant, .. }
    | Record::Root { tenant, .. }) = record;
    tenant == name
}

/// One tenant's log as it is stored.
struct Log<'a> {
    name: &'a str,
    rows: &'a Rows,
    findings: &'a Findings,
}

impl Log<'_> {
    /// I1: each acknowledged item is where it was said to be, with its bytes; which of them are attestations.
    fn acknowledged(&self, journal: &[&Record]) -> Vec<Vec<u8>> {
        let mut attestations = BTreeSet::new();
        for record in journal {
            let Record::Acknowledged { id, index, .. } = record else { continue };
            let raw = hex::decode(id).unwrap_or_default();
            let entry = usize::try_from(*index).ok().and_then(|index| self.rows.entries.get(index));
            let kept = entry.is_some_and(|entry| entry.id == raw)
                && self.rows.bodies.get(&raw).is_some_and(|hash| hash[..] == raw[..]);
            self.findings.check("I1", kept, || format!("{id}, acknowledged at {index} of {}", self.name));
            if entry.is_some_and(|entry| entry.kind == "attestation") {
                attestations.insert(raw);
            }
        }
        attestations.into_iter().collect()
    }

    /// I2: evidence and leaves go in pairs, leaves and bodies, too; of what was refused there is nothing.
    fn counterparts(&self, journal: &[&Record]) {
        let rows = self.rows;
        let mut evidence = 0;
        for entry in &rows.entries {
            let is_evidence = ["attestation", "object"].contains(&entry.kind.as_str());
            evidence += usize::from(is_evidence);
            let paired = match rows.evidence.get(&entry.id) {
                Some(index) => is_evidence && *index == entry.index,
                None => !is_evidence,
            };
            let whole = rows.bodies.get(&entry.id).is_some_and(|hash| hash[..] == entry.id[..]);
            self.findings.check("I2", paired && whole, || {
                format!("entry {} of {} ({}) has no row or no body", entry.index, self.name, entry.kind)
            });
        }
        self.findings.check("I2", evidence == rows.evidence_rows, || {
            format!("{evidence} leaves and {} rows of evidence", rows.evidence_rows)
        });
        let known: BTreeSet<&Vec<u8>> = rows.entries.iter().map(|entry| &entry.id).collect();
        for id in rows.bodies.keys() {
            self.findings
                .check("I2", known.contains(id), || format!("the body {} has no leaf", hex::encode(id)));
        }
        for record in journal {
            let Record::Refused { id, .. } = record else { continue };
            let kept = hex::decode(id).is_ok_and(|id| known.contains(&id) || rows.bodies.contains_key(&id));
            self.findings.check("I2", !kept, || format!("{id} was to be refused, and is kept"));
        }
    }

    /// I3: 0 to n-1, each leaf says what its row says, time does not run backwards, and the head is that of the leaves.
    fn order(&self) {
        let mut last = String::new();
        for (at, entry) in self.rows.entries.iter().enumerate() {
            let leaf: Value = serde_json::from_slice(&entry.leaf).unwrap_or_default();
            let id = format!("sha256:{}", hex::encode(&entry.id));
            let time = leaf["time"].as_str().unwrap_or_default().to_owned();
            let right = entry.index == at as i64
                && leaf["id"] == id.as_str()
                && leaf["body"]["sha256"] == id.trim_start_matches("sha256:")
                && leaf["kind"] == entry.kind.as_str()
                && time >= last;
            self.findings.check("I3", right, || format!("entry {at} of {}: {leaf}", self.name));
            last = time;
        }
        let size = self.rows.entries.len() as u64;
        let root = roots(&self.leaves(), &BTreeSet::from([size])).remove(&size).unwrap_or_default();
        let head = &self.rows.head;
        let same = head.size == size as i64 && head.root == root;
        self.findings.check("I3", same, || format!("the head of {} is {head:?}", self.name));
    }

    fn leaves(&self) -> Vec<Hash> {
        self.rows.entries.iter().map(|entry| leaf_hash(&entry.leaf)).collect()
    }

    /// I3: each full tile is there, and holds the hashes that the leaves give.
    fn tiles(&self) {
        let stored: BTreeMap<(i16, i64), &Vec<u8>> =
            self.rows.tiles.iter().map(|(level, index, hashes)| ((*level, *index), hashes)).collect();
        let (mut hashes, mut level, mut expected) = (self.leaves(), 0, 0);
        while hashes.len() >= 256 {
            let full: Vec<&[Hash]> = hashes.chunks_exact(256).collect();
            for (index, tile) in full.iter().enumerate() {
                let same = stored.get(&(level, index as i64)).is_some_and(|kept| **kept == tile.concat());
                self.findings.check("I3", same, || format!("tile {level}/{index} of {}", self.name));
            }
            expected += full.len();
            hashes = full.into_iter().map(subtree).collect();
            level += 1;
        }
        self.findings
            .check("I3", stored.len() == expected, || format!("{} tiles, not {expected}", stored.len()));
    }

    /// I3: every checkpoint and every root that anybody was ever shown is that of the leaves as they are now.
    fn seen(&self, journal: &[&Record], keys: &[Vec<u8>]) {
        let mut shown: BTreeSet<(u64, Hash)> = BTreeSet::new();
        for record in journal {
            match record {
                Record::Checkpoint { note, .. } => {
                    let opened = open_note(note, keys);
                    let own = opened.as_ref().is_some_and(|(origin, ..)| {
                        origin.rsplit_once('/').is_some_and(|(_, tenant)| tenant == self.name)
                    });
                    self.findings.check("I3", own, || format!("a checkpoint that does not verify: {note}"));
                    shown.extend(opened.map(|(_, size, root)| (size, root)));
                }
                Record::Root { size, root, .. } => {
                    self.findings.check("I3", from_hex(root).is_some(), || format!("{root} is no root"));
                    shown.extend(from_hex(root).map(|root| (*size, root)));
                }
                _ => {}
            }
        }
        let now = roots(&self.leaves(), &shown.iter().map(|(size, _)| *size).collect());
        for (size, root) in shown {
            self.findings.check("I3", now.get(&size) == Some(&root), || {
                format!("{} was shown another root of {size} entries", self.name)
            });
        }
    }

    /// I8: an id has one entry; whatever was acknowledged about it names that one, and once at most as new.
    fn once(&self, journal: &[&Record]) {
        let mut said: BTreeMap<&str, (BTreeSet<u64>, u64)> = BTreeMap::new();
        for record in journal {
            let Record::Acknowledged { id, index, created, .. } = record else { continue };
            let (indexes, news) = said.entry(id).or_default();
            indexes.insert(*index);
            *news += u64::from(*created);
        }
        for (id, (indexes, news)) in said {
            self.findings.check("I8", indexes.len() == 1 && news <= 1, || {
                format!("{id} at {indexes:?}, new {news} times")
            });
        }
        let ids: BTreeSet<&Vec<u8>> = self.rows.entries.iter().map(|entry| &entry.id).collect();
        self.findings.check("I8", ids.len() == self.rows.entries.len(), || "an id has two entries".into());
    }
}

/// I1: the stored bytes of each acknowledged attestation carry a good signature of somebody who plays.
async fn signatures(play: &Play, tenant: &Tenant, ids: &[Vec<u8>], db: &mut PgConnection) -> Result<()> {
    let mut ring = dsse::Ring::default();
    let world = &tenant.world;
    for key in [&world.k_vcs, &world.k_ci, &world.k_reg, &world.k_dev, &world.k_mallory, &play.stranger] {
        ring.add(key);
    }
    for some in ids.chunks(1_000) {
        for (id, bytes) in rows::bodies(db, &tenant.name, some).await? {
            let good = ring.open(&bytes).is_some();
            play.findings.check("I1", good, || format!("the signature of {}", hex::encode(&id)));
        }
    }
    Ok(())
}

/// I3: the checkpoint that the service keeps outside of the database is one that the log extends.
fn outside(play: &Play, journal: &mut Vec<Record>) {
    for tenant in &play.tenants {
        let file = play.site.checkpoints.join(format!("{}.checkpoint", tenant.name));
        let note = std::fs::read_to_string(&file);
        play.findings.check("I3", note.is_ok(), || format!("{} cannot be read", file.display()));
        journal.extend(note.ok().map(|note| Record::Checkpoint { tenant: tenant.name.clone(), note }));
    }
}

/// The root of a full tile's hashes.
fn subtree(hashes: &[Hash]) -> Hash {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = level.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    level.first().copied().unwrap_or_default()
}

/// Who asks at a time.
const ASKERS: usize = 8;

/// I4: what every instance says about everybody is what the way they were made says.
async fn verdicts(play: &Arc<Play>) {
    let cast: Vec<Arc<Actor>> = play.cast.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut askers = JoinSet::new();
    for own in cast.chunks(cast.len().div_ceil(ASKERS).max(1)) {
        let (play, own) = (play.clone(), own.to_vec());
        askers.spawn(async move {
            for actor in own {
                verdict(&play, &actor).await;
            }
        });
    }
    askers.join_all().await;
}

async fn verdict(play: &Play, actor: &Actor) {
    let Some((outcome, code)) = actor.expectation() else { return };
    let least = actor.complete.load(Ordering::SeqCst).saturating_sub(1);
    for instance in 0..play.site.urls.len() {
        let path = format!("{}&minIndex={least}", question(&actor.image));
        let answer = answered(play, actor, instance, &path).await;
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        let verdict = answer.as_ref().map(|answer| answer.json()).unwrap_or_default();
        let reasons = verdict["reasons"].as_array().cloned().unwrap_or_default();
        let told = code.is_none_or(|code| reasons.iter().any(|reason| reason["code"] == code));
        let same = verdict["outcome"] == outcome && verdict["allowed"] == (outcome == "PASSED") && told;
        play.findings.check("I4", same, || {
            let codes: Vec<&Value> = reasons.iter().map(|reason| &reason["code"]).collect();
            let part = actor.part;
            let said = &verdict["outcome"];
            format!("{} ({part:?}) is {status} {said} {codes:?} on {instance}, not {outcome}", actor.image)
        });
    }
}

/// How often an instance is asked that cannot answer: a connection that a fault left leading nowhere is found when it is used, and costs
/// the answers that wait for it.
const ASKED_AGAIN: usize = 3;

/// What an instance says, once it says something.
async fn answered(play: &Play, actor: &Actor, instance: usize, path: &str) -> Option<Answer> {
    let admin = &play.tenants[actor.tenant].admin;
    for _ in 0..ASKED_AGAIN {
        let answer = admin.ask(instance, Method::GET, path, Body::None).await;
        if answer.as_ref().is_some_and(|answer| answer.status != 503) {
            return answer;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    admin.ask(instance, Method::GET, path, Body::None).await
}

/// I1 over HTTP: some of what was acknowledged, byte for byte and with a proof to a signed checkpoint.
async fn over_http(play: &Play, journal: &[Record]) {
    let mut all: Vec<(&str, &str, u64)> = Vec::new();
    for record in journal {
        if let Record::Acknowledged { tenant, id, index, .. } = record {
            all.push((tenant, id, *index));
        }
    }
    for (name, id, index) in all.iter().step_by((all.len() / ASKED).max(1)) {
        let Some(tenant) = play.tenants.iter().find(|tenant| tenant.name == *name) else { continue };
        let id = escape(&format!("sha256:{id}"));
        let proof = tenant.admin.get(&format!("/v1/attestations/{id}/proof")).await;
        let Some(proof) = proof.filter(|proof| proof.status != 404) else { continue };
        let proven = proof.status == 200 && proven_leaf(&proof.json(), *index).is_some();
        play.findings.check("I1", proven, || format!("{id}: {}", short(&proof.show())));
        let raw = tenant.admin.get(&format!("/v1/attestations/{id}/raw")).await;
        let whole = raw.is_some_and(|raw| raw.status == 200 && id.ends_with(&hex_id(&raw.body)));
        play.findings.check("I1", whole, || format!("{id} is not its bytes"));
    }
}

/// I10: no more connections than the pools have.
async fn connections(play: &Play) {
    let cap = sample::CONNECTIONS * play.site.urls.len() as i64;
    let count = sample::connections(play).await.unwrap_or(i64::MAX);
    play.findings.check("I10", count <= cap, || format!("{count} connections, {cap} at most"));
}
