//! Decisions on their way into the record (docs/decisions.md).
//!
//! An answer is noted in memory, in a map that is sharded and bounded, at the cost of a look-up; a task writes what was noted at
//! most a second later, or at once where somebody waits for it. Nothing is dropped in silence: what finds no room
//! is counted, and the record says that there is a gap.

mod flush;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use catenary_chain::Outcome;
use catenary_evidence::digest::Sha256;
use catenary_store::{StoreError, decisions, follow::Follower};
use jiff::Timestamp;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{cache::Ready, problem::Fault};
use flush::Flusher;

/// How long an answer may wait to be recorded.
const FLUSH: Duration = Duration::from_secs(1);
/// How long an asker waits for the record.
const PATIENCE: Duration = Duration::from_secs(5);
/// Distinct answers that may wait.
const MAX_WAITING: usize = 65_536;
/// Bytes of their verdicts, before what the cache keeps anyway.
const MAX_WAITING_BYTES: usize = 256 * 1024 * 1024;
const SHARDS: usize = 16;

/// When an answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// At once; the record follows within a second.
    Optional,
    /// When its record is durable.
    Required,
}

impl Mode {
    /// Reads the `record` parameter. There is no way to ask without a record.
    pub fn read(text: Option<&str>, default: Self) -> Result<Self, Fault> {
        match text {
            None => Ok(default),
            Some("required") => Ok(Self::Required),
            Some("optional") => Ok(Self::Optional),
            Some(_) => Err(Fault::Query("`record` is required or optional: every answer is recorded".into())),
        }
    }
}

/// Equal answers to one principal, since the last flush.
#[derive(Debug, Clone)]
struct Tally {
    tenant: String,
    ready: Arc<Ready>,
    minute: i64,
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

/// One part of the map: by verdict, by principal.
#[derive(Default)]
struct Shard {
    open: HashMap<Sha256, HashMap<String, Tally>>,
    /// Of minutes that are over.
    done: Vec<(String, Tally)>,
}

/// Answers that found no room.
#[derive(Debug, Clone, Copy)]
struct Dropped {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

/// What is noted and not yet written.
struct Waiting {
    shards: [Mutex<Shard>; SHARDS],
    number: AtomicUsize,
    bytes: AtomicUsize,
    dropped: Mutex<HashMap<String, Dropped>>,
    /// Those who wait until what they noted is durable.
    askers: Mutex<Vec<oneshot::Sender<bool>>>,
    wake: Notify,
    recorded: AtomicU64,
    lost: AtomicU64,
}

/// Records decisions. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    waiting: Arc<Waiting>,
    flusher: Arc<tokio::sync::Mutex<Flusher>>,
    /// Ends the task that writes.
    ended: CancellationToken,
}

impl Recorder {
    /// Goes on with the chains of this instance, and notes in each how the last run ended.
    pub async fn start(
        store: catenary_store::Store,
        follower: Follower,
        folder: &Path,
    ) -> Result<Self, StoreError> {
        let waiting = Arc::new(Waiting::new());
        let mut flusher = Flusher::new(store, follower, instance(folder), Arc::clone(&waiting));
        flusher.resume().await?;
        let flusher = Arc::new(tokio::sync::Mutex::new(flusher));
        Ok(Self { waiting, flusher, ended: CancellationToken::new() })
    }

    /// Writes what is noted, again and again. Requests that run while the service stops still need it: it ends with
    /// [`Recorder::stop`] or [`Recorder::abandon`].
    pub async fn run(self) {
        loop {
            tokio::select! {
                () = self.ended.cancelled() => return,
                () = self.waiting.wake.notified() => {}
                () = tokio::time::sleep(FLUSH) => {}
            }
            self.flusher.lock().await.flush(true).await;
        }
    }

    /// Writes what is noted and that this instance stops.
    pub async fn stop(&self) {
        self.ended.cancel();
        self.flusher.lock().await.stop().await;
    }

    /// Writes nothing more, as after a crash.
    pub fn abandon(&self) {
        self.ended.cancel();
    }

    /// Notes an answer, and with [`Mode::Required`] waits until it is durable.
    pub async fn note(
        &self,
        tenant: &str,
        principal: &str,
        ready: &Arc<Ready>,
        mode: Mode,
    ) -> Result<(), Fault> {
        self.count(tenant, principal, ready, mode)?;
        self.settle(mode).await
    }

    /// Notes an answer. One that finds no room is a gap in the record, or with [`Mode::Required`] no answer.
    pub fn count(&self, tenant: &str, principal: &str, ready: &Arc<Ready>, mode: Mode) -> Result<(), Fault> {
        let now = Timestamp::now();
        if self.waiting.note(tenant, principal, ready, now) {
            return Ok(());
        }
        match mode {
            Mode::Optional => {
                self.waiting.drop_one(tenant, now);
                Ok(())
            }
            Mode::Required => Err(Fault::NotRecorded { why: "too many decisions wait for it" }),
        }
    }

    /// With [`Mode::Required`] waits until everything noted so far is durable.
    pub async fn settle(&self, mode: Mode) -> Result<(), Fault> {
        match mode {
            Mode::Optional => Ok(()),
            Mode::Required => self.durable().await,
        }
    }

    async fn durable(&self) -> Result<(), Fault> {
        let (asker, written) = oneshot::channel();
        self.waiting.askers.lock().unwrap_or_else(PoisonError::into_inner).push(asker);
        self.waiting.wake.notify_one();
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(true)) => Ok(()),
            _ => Err(Fault::NotRecorded { why: "the database does not take it" }),
        }
    }

    /// Distinct answers that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.number.load(Ordering::Relaxed)
    }

    /// Answers that were recorded, and answers that found no room.
    pub fn counts(&self) -> (u64, u64) {
        (self.waiting.recorded.load(Ordering::Relaxed), self.waiting.lost.load(Ordering::Relaxed))
    }
}

impl Waiting {
    fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            number: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            dropped: Mutex::default(),
            askers: Mutex::default(),
            wake: Notify::new(),
            recorded: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    fn shard(&self, verdict: Sha256) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[usize::from(verdict.0[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answer; whether there was room.
    fn note(&self, tenant: &str, principal: &str, ready: &Arc<Ready>, now: Timestamp) -> bool {
        let (id, minute) = (ready.verdict.id, now.as_second().div_euclid(60));
        let mut shard = self.shard(id);
        if let Some(tally) = shard.open.get_mut(&id).and_then(|by_name| by_name.get_mut(principal))
            && tally.tenant == tenant
            && tally.minute == minute
        {
            tally.count += 1;
            tally.last = tally.last.max(now);
            return true;
        }
        let bytes = ready.bytes.len();
        if self.number.load(Ordering::Relaxed) >= MAX_WAITING
            || self.bytes.load(Ordering::Relaxed) + bytes > MAX_WAITING_BYTES
        {
            return false;
        }
        self.number.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let tally = Tally {
            tenant: tenant.to_owned(),
            ready: Arc::clone(ready),
            minute,
            count: 1,
            first: now,
            last: now,
        };
        let before = shard.open.entry(id).or_default().insert(principal.to_owned(), tally);
        shard.done.extend(before.map(|tally| (principal.to_owned(), tally)));
        true
    }

    fn drop_one(&self, tenant: &str, now: Timestamp) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = dropped.entry(tenant.to_owned()).or_insert(Dropped { count: 0, first: now, last: now });
        gap.count += 1;
        gap.last = gap.last.max(now);
    }

    /// Takes everything that is noted.
    fn drain(&self) -> Vec<(String, Tally)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let taken = std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            all.extend(taken.done);
            all.extend(taken.open.into_values().flatten());
        }
        all
    }

    /// What was taken is written: there is room again.
    fn release(&self, tallies: usize, bytes: usize) {
        self.number.fetch_sub(tallies, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Tally {
    fn record(&self, principal: &str) -> decisions::Record {
        let verdict = &self.ready.verdict;
        let outcome = match verdict.outcome {
            Outcome::Passed => "PASSED",
            Outcome::Failed => "FAILED",
            Outcome::Indeterminate => "INDETERMINATE",
        };
        decisions::Record::Decision(Box::new(decisions::Decision {
            principal: principal.to_owned(),
            verdict: verdict.id,
            resource: verdict.subject.resource.clone(),
            digest: verdict.subject.digest.to_string(),
            environment: verdict.context.get("environment").cloned(),
            platform: verdict.subject.platform.clone(),
            outcome: outcome.to_owned(),
            allowed: verdict.allowed,
            size: verdict.log.size,
            kept: self.ready.bytes.len() <= decisions::MAX_VERDICT,
            minute: Timestamp::from_second(self.minute * 60).unwrap_or(Timestamp::UNIX_EPOCH),
            count: self.count,
            first: whole(self.first),
            last: whole(self.last),
        }))
    }
}

/// To the microsecond, as the database keeps it.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// The name of this instance: the same after a restart on the same data folder, so that a chain goes on and
/// says how the last run ended. Without a folder that keeps it, a new one each time.
fn instance(folder: &Path) -> String {
    let file = folder.join("instance");
    let is_name = |name: &str| name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit());
    if let Ok(name) = std::fs::read_to_string(&file)
        && is_name(name.trim())
    {
        return name.trim().to_owned();
    }
    let name = new_instance();
    if let Err(error) = std::fs::write(&file, &name) {
        tracing::warn!(%error, file = %file.display(), "the name of this instance is not kept");
    }
    name
}

fn new_instance() -> String {
    let mut bytes = [0; 8];
    // Without randomness the first write finds that the chain has another owner.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use catenary_chain::{Evidence, control::Control, evaluate, verdict::LogView};

    use super::*;
    use crate::batch::Evaluated;

    fn ready(environment: &str) -> Arc<Ready> {
        let image = format!("registry.test/app@sha256:{}", "1".repeat(64));
        let question = crate::verdict::question(&image, Some(environment), None).unwrap();
        let log = LogView { size: 1, root: Sha256([0; 32]) };
        let verdict = evaluate::evaluate(
            &question,
            &Control::default(),
            &Evidence::default(),
            log,
            Timestamp::UNIX_EPOCH,
        );
        Arc::new(Evaluated { verdict, reads: Default::default(), ends: None }.into())
    }

    #[test]
    fn equal_answers_within_a_minute_are_one_tally() {
        let waiting = Waiting::new();
        let (one, other) = (ready("prod"), ready("test"));
        let at = |second| Timestamp::from_second(second).unwrap();
        for second in [0, 30, 59] {
            assert!(waiting.note("acme", "deploy", &one, at(second)));
        }
        assert!(waiting.note("acme", "deploy", &one, at(60)));
        assert!(waiting.note("acme", "other", &one, at(60)));
        assert!(waiting.note("acme", "deploy", &other, at(60)));
        assert_eq!(waiting.number.load(Ordering::Relaxed), 4);
        let mut counts: Vec<_> = waiting.drain().iter().map(|(_, t)| (t.minute, t.count)).collect();
        counts.sort_unstable();
        assert_eq!(counts, [(0, 3), (1, 1), (1, 1), (1, 1)]);
        assert!(waiting.drain().is_empty());
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let waiting = Waiting::new();
        waiting.number.store(MAX_WAITING, Ordering::Relaxed);
        let now = Timestamp::now();
        assert!(!waiting.note("acme", "deploy", &ready("prod"), now));
        waiting.drop_one("acme", now);
        waiting.drop_one("acme", now);
        assert_eq!(waiting.dropped.lock().unwrap()["acme"].count, 2);
        assert_eq!(waiting.lost.load(Ordering::Relaxed), 2);
        waiting.release(1, 0);
        assert!(waiting.note("acme", "deploy", &ready("prod"), now));
    }

    #[test]
    fn there_is_no_answer_without_a_record() {
        assert_eq!(Mode::read(None, Mode::Required).ok(), Some(Mode::Required));
        assert_eq!(Mode::read(Some("optional"), Mode::Required).ok(), Some(Mode::Optional));
        assert_eq!(Mode::read(Some("none"), Mode::Optional).unwrap_err().code(), "REQ_QUERY");
    }

    #[test]
    fn an_instance_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let name = instance(folder.path());
        assert_eq!((name.len(), instance(folder.path())), (16, name));
        assert_ne!(instance(Path::new("/nowhere")), instance(Path::new("/nowhere")));
    }
}
