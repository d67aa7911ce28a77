//! Writing what is noted: one transaction for all tenants, the next one only after it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, PoisonError, atomic::Ordering},
};

use catenary_evidence::digest::Sha256;
use catenary_store::{
    Store, StoreError,
    decisions::{After, Chain, MAX_VERDICT, NewBatch, Record, RecordError, Why},
    follow::Follower,
};
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Dropped, Tally, Waiting, new_instance, whole};
use crate::auth::PLATFORM;

/// Records in one batch.
const MAX_BATCH: usize = 4096;
/// Bytes of verdicts in one batch.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Verdicts that are known to be kept; forgotten together, which costs no more than sending them again.
const MAX_KNOWN: usize = 100_000;

/// The only writer of this instance's chains.
pub struct Flusher {
    store: Store,
    follower: Follower,
    instance: String,
    waiting: Arc<Waiting>,
    chains: BTreeMap<String, Chain>,
    /// Records about the record itself, not yet written.
    notes: BTreeMap<String, Vec<Record>>,
    /// Taken out of the map and not yet written.
    taken: BTreeMap<String, Vec<(String, Tally)>>,
    /// Written, but whether it was committed is not known.
    doubtful: Option<Arc<Vec<NewBatch>>>,
    known: HashSet<(String, Sha256)>,
}

impl Flusher {
    pub fn new(store: Store, follower: Follower, instance: String, waiting: Arc<Waiting>) -> Self {
        Self {
            store,
            follower,
            instance,
            waiting,
            chains: BTreeMap::new(),
            notes: BTreeMap::new(),
            taken: BTreeMap::new(),
            doubtful: None,
            known: HashSet::new(),
        }
    }

    /// Reads where the chains of this instance end, and writes how the last run ended.
    pub async fn resume(&mut self) -> Result<(), StoreError> {
        let tenants = self.follower.tenants();
        let chains = self.store.decision_chains(&tenants, &self.instance).await?;
        let now = whole(Timestamp::now());
        // One row is kept up to date for all.
        let alive = chains.iter().filter(|c| c.tenant == PLATFORM && c.is_open).map(|c| c.alive).max();
        for chain in chains {
            let crashed = chain.is_open;
            let after = if crashed { After::Crash } else { After::Stop };
            let mut notes = Vec::new();
            if crashed {
                let from = alive.map_or(chain.alive, |alive| alive.max(chain.alive));
                tracing::warn!(tenant = chain.tenant, %from, "the last run did not stop in order: its last decisions may be missing");
                notes.push(Record::Gap { from, to: now.max(from), why: Why::Crash, count: None });
            }
            notes.push(Record::Start { time: now, after });
            self.notes.insert(chain.tenant.clone(), notes);
            self.chains.insert(chain.tenant.clone(), chain);
        }
        self.begin_chains(now);
        match self.write(true).await {
            Ok(()) => Ok(()),
            Err(RecordError::Store(error)) => Err(error),
            // Somebody else writes under the same name right now.
            Err(RecordError::Moved) => {
                self.take_new_name();
                self.write(true).await.map_err(|error| StoreError::Unavailable(error.to_string()))
            }
        }
    }

    /// Writes everything that was noted before this call, and answers those who wait for it.
    pub async fn flush(&mut self, stays_open: bool) {
        // Taken first: whatever these askers noted is in the map by now.
        let askers = std::mem::take(&mut *self.waiting.askers.lock().unwrap_or_else(PoisonError::into_inner));
        let now = whole(Timestamp::now());
        self.begin_chains(now);
        self.take(now);
        let written = self.write_all(stays_open).await;
        if let Err(error) = &written {
            tracing::warn!(%error, "decisions wait to be recorded");
        }
        answer(askers, written.is_ok());
        if written.is_ok() && stays_open {
            self.keep_alive(now).await;
        }
    }

    /// Writes the rest, and that this instance stops.
    pub async fn stop(&mut self) {
        let now = whole(Timestamp::now());
        for tenant in self.chains.keys() {
            self.notes.entry(tenant.clone()).or_default().push(Record::Stop { time: now });
        }
        self.flush(false).await;
    }

    async fn write_all(&mut self, stays_open: bool) -> Result<(), RecordError> {
        loop {
            match self.write(stays_open).await {
                Ok(()) if self.taken.is_empty() && self.notes.is_empty() => return Ok(()),
                Ok(()) => {}
                Err(RecordError::Moved) => {
                    tracing::error!("a chain of decisions was changed behind our back; another one goes on");
                    self.take_new_name();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Chains of tenants that are new to this instance.
    fn begin_chains(&mut self, now: Timestamp) {
        for tenant in self.follower.tenants() {
            if !self.chains.contains_key(&tenant) {
                self.begin_chain(&tenant, now);
            }
        }
    }

    fn begin_chain(&mut self, tenant: &str, now: Timestamp) {
        let chain = Chain::new(tenant, &self.instance, now);
        self.chains.insert(tenant.to_owned(), chain);
        let start = Record::Start { time: now, after: After::New };
        self.notes.entry(tenant.to_owned()).or_default().push(start);
    }

    fn take(&mut self, now: Timestamp) {
        for (principal, tally) in self.waiting.drain() {
            if !self.chains.contains_key(&tally.tenant) {
                let tenant = tally.tenant.clone();
                self.begin_chain(&tenant, now);
            }
            self.taken.entry(tally.tenant.clone()).or_default().push((principal, tally));
        }
        let dropped =
            std::mem::take(&mut *self.waiting.dropped.lock().unwrap_or_else(PoisonError::into_inner));
        for (tenant, Dropped { count, first, last }) in dropped {
            let gap = Record::Gap { from: whole(first), to: whole(last), why: Why::Full, count: Some(count) };
            if !self.chains.contains_key(&tenant) {
                self.begin_chain(&tenant, now);
            }
            self.notes.entry(tenant).or_default().push(gap);
        }
    }

    /// Writes one batch a tenant. What is not written stays where it was.
    async fn write(&mut self, stays_open: bool) -> Result<(), RecordError> {
        self.settle().await?;
        let batches = Arc::new(self.batches(stays_open));
        if batches.is_empty() {
            return Ok(());
        }
        match self.store.record_decisions(batches.clone()).await {
            Ok(()) => {
                self.written(&batches);
                Ok(())
            }
            Err(RecordError::Moved) => {
                // Perhaps the end moved because what was in doubt did arrive.
                self.doubtful = Some(batches);
                if self.settle().await? { Ok(()) } else { Err(RecordError::Moved) }
            }
            Err(error) => {
                self.doubtful = Some(batches);
                Err(error)
            }
        }
    }

    /// Finds out whether a transaction whose end was not seen was committed. Whether it was.
    async fn settle(&mut self) -> Result<bool, RecordError> {
        let Some(batches) = self.doubtful.take() else { return Ok(false) };
        let tenants: Vec<String> = batches.iter().map(|new| new.end().tenant.clone()).collect();
        let ends = match self.store.decision_chains(&tenants, &self.instance).await {
            Ok(ends) => ends,
            Err(error) => {
                self.doubtful = Some(batches);
                return Err(error.into());
            }
        };
        let arrived = |new: &NewBatch| {
            let end = new.end();
            ends.iter().any(|e| e.tenant == end.tenant && (e.number, e.hash) == (end.number, end.hash))
        };
        let committed = batches.iter().all(arrived);
        if committed {
            self.written(&batches);
        }
        Ok(committed)
    }

    fn batches(&self, stays_open: bool) -> Vec<NewBatch> {
        let tenants: BTreeSet<&String> = self.notes.keys().chain(self.taken.keys()).collect();
        let time = whole(Timestamp::now());
        let batch = |tenant: &String| {
            let chain = self.chains.get(tenant)?;
            let taken = self.taken.get(tenant).map(|all| &all[..part(all)]).unwrap_or_default();
            let rest = self.taken.get(tenant).map_or(0, Vec::len) - taken.len();
            let mut records: Vec<Record> = Vec::new();
            let mut verdicts = Vec::new();
            let mut sent = HashSet::new();
            // A stop is the last record of all.
            let (stops, notes): (Vec<Record>, Vec<Record>) = self
                .notes
                .get(tenant)
                .into_iter()
                .flatten()
                .cloned()
                .partition(|note| matches!(note, Record::Stop { .. }));
            records.extend(notes);
            for (principal, tally) in taken {
                records.push(tally.record(principal));
                let (id, bytes) = (tally.ready.verdict.id, &tally.ready.bytes);
                let is_known = self.known.contains(&(tenant.clone(), id)) || !sent.insert(id);
                if !is_known && bytes.len() <= MAX_VERDICT {
                    verdicts.push((id, tally.ready.size, bytes.clone()));
                }
            }
            let is_last = rest == 0;
            if is_last {
                records.extend(stops);
            }
            let stays_open = stays_open || !is_last;
            (!records.is_empty()).then(|| NewBatch::new(chain, time, records, verdicts, stays_open))
        };
        tenants.into_iter().filter_map(batch).collect()
    }

    /// Forgets what these batches hold.
    fn written(&mut self, batches: &[NewBatch]) {
        if self.known.len() > MAX_KNOWN {
            self.known.clear();
        }
        for new in batches {
            let end = new.end();
            let tenant = &end.tenant;
            let count = new.records().iter().filter(|r| matches!(r, Record::Decision(_))).count();
            self.known.extend(new.verdicts().iter().map(|(id, ..)| (tenant.clone(), *id)));
            if let Some(taken) = self.taken.get_mut(tenant) {
                let gone: Vec<(String, Tally)> = taken.drain(..count.min(taken.len())).collect();
                let bytes = gone.iter().map(|(_, tally)| tally.ready.bytes.len()).sum();
                self.waiting.release(gone.len(), bytes);
                let answers = gone.iter().map(|(_, tally)| tally.count).sum();
                self.waiting.recorded.fetch_add(answers, Ordering::Relaxed);
            }
            self.taken.retain(|_, rest| !rest.is_empty());
            if let Some(notes) = self.notes.get_mut(tenant) {
                notes.retain(|note| !new.records().contains(note));
            }
            self.notes.retain(|_, rest| !rest.is_empty());
            self.chains.insert(tenant.clone(), end.clone());
        }
    }

    /// The chains are not ours any more, or not as we wrote them: goes on in new ones that say so.
    fn take_new_name(&mut self) {
        self.instance = new_instance();
        let now = whole(Timestamp::now());
        for (tenant, chain) in &mut self.chains {
            let gap = Record::Gap { from: chain.alive.min(now), to: now, why: Why::Changed, count: None };
            let stops = self.notes.remove(tenant).unwrap_or_default();
            let stops = stops.into_iter().filter(|note| matches!(note, Record::Stop { .. }));
            let mut notes = vec![Record::Start { time: now, after: After::New }, gap];
            notes.extend(stops);
            self.notes.insert(tenant.clone(), notes);
            *chain = Chain::new(tenant, &self.instance, now);
        }
    }

    async fn keep_alive(&mut self, now: Timestamp) {
        let Some(chain) = self.chains.get_mut(PLATFORM) else { return };
        chain.alive = chain.alive.max(now);
        if let Err(error) = self.store.keep_alive(chain).await {
            tracing::warn!(%error, "it is not noted that this instance lives");
        }
    }
}

/// How many fit into one batch.
fn part(taken: &[(String, Tally)]) -> usize {
    let mut bytes = 0;
    let fits = |(_, tally): &&(String, Tally)| {
        bytes += tally.ready.bytes.len();
        bytes <= MAX_BATCH_BYTES
    };
    taken.iter().take(MAX_BATCH).take_while(fits).count().max(1).min(taken.len())
}

fn answer(askers: Vec<oneshot::Sender<bool>>, written: bool) {
    for asker in askers {
        // One that is gone does not matter.
        let _ = asker.send(written);
    }
}
