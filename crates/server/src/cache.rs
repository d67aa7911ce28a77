//! Ready-made answers, dropped when a log entry can change them.
//!
//! An answer is kept under a digest of tenant, trust epoch and canonical question, with the nodes that it read
//! and the log size that it was computed at. Each followed entry has a write set; where the two meet, the answer
//! is dropped. An answer goes in only when nothing between its size and the followed size meets its read set
//! (else the drop that already happened would be lost), and comes out only while the cache has seen everything
//! that the follower has.
//!
//! Every answer is kept packed; those that were asked for last are kept ready besides.

mod packed;
mod readers;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use catenary_chain::{
    control::WriteSet,
    gather::ReadSet,
    verdict::{Outcome, Question, Verdict},
};
use catenary_evidence::digest::Sha256;
use jiff::Timestamp;
use quick_cache::{Weighter, sync::Cache};

use crate::batch::Evaluated;
use packed::{Packed, Sample};
use readers::Readers;

/// How many write sets a tenant remembers for answers that are still being computed.
const REMEMBERED: usize = 4096;
/// The share of the bytes that ready answers have; the packed ones have the rest.
const READY: u64 = 12;
/// Links to answers are tidied when there are twice as many as after the last time, and never below this.
const LINKS: usize = 100_000;

/// An answer with its bytes.
#[derive(Debug)]
pub struct Ready {
    /// The verdict.
    pub verdict: Verdict,
    /// Its JSON.
    pub bytes: Bytes,
    /// Strong validator of the bytes.
    pub etag: String,
    /// The nodes that it rests on.
    pub read_set: ReadSet,
    /// Log size that it was computed at.
    pub size: u64,
    /// Until when it holds if no evidence arrives.
    pub valid_until: Timestamp,
    /// When time alone may change it.
    pub ends: Option<Timestamp>,
}

impl From<Evaluated> for Ready {
    fn from(evaluated: Evaluated) -> Self {
        let bytes = serde_json::to_vec(&evaluated.verdict).unwrap_or_default();
        Self::of(evaluated, bytes)
    }
}

impl Ready {
    /// With the bytes that it was written as.
    fn of(Evaluated { verdict, reads, ends }: Evaluated, bytes: Vec<u8>) -> Self {
        let bytes = Bytes::from(bytes);
        let etag = format!("\"{}\"", &Sha256::of(&bytes).to_hex()[..32]);
        let (size, valid_until) = (verdict.log.size, verdict.valid_until);
        Self { verdict, bytes, etag, read_set: reads, size, valid_until, ends }
    }

    /// Whether it may be kept at all: what a limit of time or size decided is asked for anew.
    fn is_keepable(&self) -> bool {
        self.verdict.outcome != Outcome::Indeterminate
    }
}

/// Which answer.
pub type Key = [u8; 32];

/// The key of a question.
pub fn key(tenant: &str, epoch: u64, question: &Question) -> Key {
    let platform = question.platform.as_ref();
    let head = [
        Some(tenant),
        Some(&epoch.to_string()),
        Some(&question.image.to_string()),
        question.environment.as_deref(),
        platform.map(|p| p.os.as_str()),
        platform.map(|p| p.architecture.as_str()),
        platform.and_then(|p| p.variant.as_deref()),
    ];
    let context = question.context.iter().flat_map(|(name, value)| [name.as_str(), value]).map(Some);
    let mut bytes = Vec::new();
    for part in head.into_iter().chain(context) {
        // Length before text, and absent apart from empty: no two questions have the same bytes.
        let length = part.map_or(u64::MAX, |text| text.len() as u64);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(part.unwrap_or_default().as_bytes());
    }
    Sha256::of(&bytes).0
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Arc<Ready>> for ByBytes {
    fn weight(&self, _: &Key, ready: &Arc<Ready>) -> u64 {
        // The verdict itself is about twice as large as its JSON.
        (3 * ready.bytes.len() + 100 * ready.read_set.nodes.len() + 512) as u64
    }
}

impl Weighter<Key, Arc<Packed>> for ByBytes {
    fn weight(&self, _: &Key, packed: &Arc<Packed>) -> u64 {
        // Each node has a link, and each answer its place in both tables.
        (packed.bytes() + 32 * packed.nodes + 256) as u64
    }
}

/// The answers of every tenant, bounded in bytes.
pub struct Answers {
    kept: Kept,
    tenants: Mutex<HashMap<String, Followed>>,
}

/// Both forms of the answers.
struct Kept {
    ready: Cache<Key, Arc<Ready>, ByBytes>,
    packed: Cache<Key, Arc<Packed>, ByBytes>,
    /// What the next answer is packed with.
    sample: Mutex<Arc<Sample>>,
}

impl Kept {
    fn remove(&self, key: &Key) {
        self.ready.remove(key);
        self.packed.remove(key);
    }

    /// The longest answer so far, about: a refusal in one line has little of what a chain has.
    fn sample(&self, ready: &Ready) -> Arc<Sample> {
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        if sample.is_outgrown_by(ready) {
            *sample = Arc::new(Sample::of(ready));
        }
        Arc::clone(&sample)
    }

    fn has(&self, key: &Key) -> bool {
        self.packed.peek(key).is_some() || self.ready.peek(key).is_some()
    }
}

/// What the cache has seen of a tenant's log.
#[derive(Default)]
struct Followed {
    /// Everything before this index was dropped for.
    size: u64,
    /// The write sets of `[size - len, size)`.
    writes: VecDeque<WriteSet>,
    /// Which answers read a node.
    readers: Readers,
    /// After the last tidying.
    links: usize,
}

impl Answers {
    /// A cache of about `bytes` bytes.
    pub fn new(bytes: u64) -> Self {
        let items = |each: u64| usize::try_from((bytes / each).max(16)).unwrap_or(16);
        let ready = Cache::with_weighter(items(READY * 8192), (bytes / READY).max(1), ByBytes);
        let packed = Cache::with_weighter(items(2048), (bytes - bytes / READY).max(1), ByBytes);
        Self { kept: Kept { ready, packed, sample: Mutex::default() }, tenants: Mutex::default() }
    }

    /// The answer, when it still holds at `now`. The caller checks the lease *after* this, and passes the
    /// size that the follower has published: an answer comes out only when the cache has seen as much.
    pub fn get(&self, tenant: &str, key: &Key, followed: u64, now: Timestamp) -> Option<Arc<Ready>> {
        let ready = match self.kept.ready.get(key) {
            Some(ready) => ready,
            None => self.unpacked(key, now)?,
        };
        let seen = self.lock().get(tenant).is_some_and(|f| f.size >= followed);
        (seen && now < ready.valid_until).then_some(ready)
    }

    /// Makes a packed answer ready, and keeps it so unless it was dropped meanwhile.
    fn unpacked(&self, key: &Key, now: Timestamp) -> Option<Arc<Ready>> {
        let packed = self.kept.packed.get(key).filter(|packed| now < packed.valid_until)?;
        let ready = Arc::new(packed.unpack()?);
        // Drops happen under this lock: what is still there under it is not dropped behind our back.
        let _tenants = self.lock();
        let same = self.kept.packed.peek(key).is_some_and(|now| Arc::ptr_eq(&now, &packed));
        same.then(|| {
            self.kept.ready.insert(*key, Arc::clone(&ready));
            ready
        })
    }

    /// Keeps an answer unless something that was followed since its size meets what it read.
    pub fn insert(&self, tenant: &str, key: Key, ready: &Arc<Ready>) -> bool {
        if !ready.is_keepable() {
            return false;
        }
        let Ok(packed) = Packed::new(ready, self.kept.sample(ready)).map(Arc::new) else { return false };
        let mut tenants = self.lock();
        let Some(followed) = tenants.get_mut(tenant) else { return false };
        // Write sets that are forgotten may have met it.
        let known_from = followed.size - followed.writes.len() as u64;
        if ready.size < known_from {
            return false;
        }
        let since = usize::try_from(ready.size.saturating_sub(known_from)).unwrap_or(usize::MAX);
        if followed.writes.iter().skip(since).any(|written| ready.read_set.intersects(written)) {
            return false;
        }
        // What is linked to nothing could not be dropped.
        if followed.readers.is_full() {
            followed.drop_all(&self.kept);
        }
        followed.readers.add(key, ready.read_set.nodes.iter());
        self.kept.ready.insert(key, Arc::clone(ready));
        self.kept.packed.insert(key, packed);
        if followed.readers.links() > LINKS.max(2 * followed.links) {
            followed.readers.tidy(|key| self.kept.has(key));
            followed.links = followed.readers.links();
        }
        true
    }

    /// The entries `[from, from + writes.len())` were followed: drops what they can change.
    pub fn follow(&self, tenant: &str, from: u64, writes: &[WriteSet]) {
        let mut tenants = self.lock();
        let followed = tenants.entry(tenant.to_owned()).or_default();
        if from > followed.size {
            // Something was missed: whatever was kept may be wrong.
            followed.forget(&self.kept);
            followed.size = from;
        }
        let overlap = usize::try_from(followed.size - from).unwrap_or(usize::MAX);
        for written in writes.iter().skip(overlap) {
            followed.drop_met(written, &self.kept);
            followed.writes.push_back(written.clone());
            if followed.writes.len() > REMEMBERED {
                followed.writes.pop_front();
            }
            followed.size += 1;
        }
    }

    /// Drops every answer of a tenant: what is stored is not what they were computed from.
    pub fn forget(&self, tenant: &str) {
        if let Some(followed) = self.lock().get_mut(tenant) {
            followed.drop_all(&self.kept);
        }
    }

    /// The write sets of the entries `from..to`, if all of them are remembered.
    pub fn writes(&self, tenant: &str, from: u64, to: u64) -> Option<Vec<WriteSet>> {
        let tenants = self.lock();
        let followed = tenants.get(tenant)?;
        let first = followed.size - followed.writes.len() as u64;
        if from < first || to > followed.size || to < from {
            return None;
        }
        let (skip, take) = (usize::try_from(from - first).ok()?, usize::try_from(to - from).ok()?);
        Some(followed.writes.iter().skip(skip).take(take).cloned().collect())
    }

    /// Starts to follow a tenant at `size` when it is not followed yet.
    pub fn start(&self, tenant: &str, size: u64) {
        self.lock().entry(tenant.to_owned()).or_insert_with(|| Followed { size, ..Followed::default() });
    }

    /// How many bytes are kept.
    pub fn bytes(&self) -> u64 {
        self.kept.ready.weight() + self.kept.packed.weight()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Followed>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Followed {
    fn drop_met(&mut self, written: &WriteSet, kept: &Kept) {
        match written {
            WriteSet::None => {}
            WriteSet::All => self.drop_all(kept),
            WriteSet::Nodes(nodes) => {
                nodes.iter().flat_map(|node| self.readers.take(node)).for_each(|key| kept.remove(&key));
            }
        }
    }

    fn drop_all(&mut self, kept: &Kept) {
        self.readers.take_all().iter().for_each(|key| kept.remove(key));
    }

    fn forget(&mut self, kept: &Kept) {
        self.drop_all(kept);
        self.writes.clear();
    }
}

#[cfg(test)]
mod tests;
