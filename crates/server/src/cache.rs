//! Ready-made answers, dropped when a log entry can change them.
//!
//! An answer is kept under a digest of tenant, trust epoch and canonical question, with the nodes that it read
//! and the log size that it was computed at. Each followed entry has a write set; where the two meet, the answer
//! is dropped. An answer goes in only when nothing between its size and the followed size meets its read set
//! (else the drop that already happened would be lost), and comes out only while the cache has seen everything
//! that the follower has.

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
use catenary_evidence::digest::{Node, Sha256};
use jiff::Timestamp;
use quick_cache::{Weighter, sync::Cache};

/// How many write sets a tenant remembers for answers that are still being computed.
const REMEMBERED: usize = 4096;

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
}

impl Ready {
    /// Makes the bytes.
    pub fn new(verdict: Verdict, read_set: ReadSet) -> Self {
        let bytes = Bytes::from(serde_json::to_vec(&verdict).unwrap_or_default());
        let etag = format!("\"{}\"", &Sha256::of(&bytes).to_hex()[..32]);
        let (size, valid_until) = (verdict.log.size, verdict.valid_until);
        Self { verdict, bytes, etag, read_set, size, valid_until }
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
        // The verdict itself is about as large as its JSON; the read set has 40 bytes a node.
        (2 * ready.bytes.len() + 40 * ready.read_set.nodes.len() + 256) as u64
    }
}

/// The answers of every tenant, bounded in bytes.
pub struct Answers {
    ready: Cache<Key, Arc<Ready>, ByBytes>,
    tenants: Mutex<HashMap<String, Followed>>,
}

/// What the cache has seen of a tenant's log.
#[derive(Default)]
struct Followed {
    /// Everything before this index was dropped for.
    size: u64,
    /// The write sets of `[size - len, size)`.
    writes: VecDeque<WriteSet>,
    /// Which answers read a node.
    readers: HashMap<Node, Vec<Key>>,
    /// Entries of `readers`, to know when to tidy.
    links: usize,
}

impl Answers {
    /// A cache of about `bytes` bytes.
    pub fn new(bytes: u64) -> Self {
        let items = (bytes / 4096).max(16);
        let ready = Cache::with_weighter(usize::try_from(items).unwrap_or(16), bytes.max(1), ByBytes);
        Self { ready, tenants: Mutex::default() }
    }

    /// The answer, when it still holds at `now`. The caller checks the lease *after* this, and passes the
    /// size that the follower has published: an answer comes out only when the cache has seen as much.
    pub fn get(&self, tenant: &str, key: &Key, followed: u64, now: Timestamp) -> Option<Arc<Ready>> {
        let ready = self.ready.get(key)?;
        let seen = self.lock().get(tenant).is_some_and(|f| f.size >= followed);
        (seen && now < ready.valid_until).then_some(ready)
    }

    /// Keeps an answer unless something that was followed since its size meets what it read.
    pub fn insert(&self, tenant: &str, key: Key, ready: &Arc<Ready>) -> bool {
        if !ready.is_keepable() {
            return false;
        }
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
        for node in &ready.read_set.nodes {
            followed.readers.entry(*node).or_default().push(key);
        }
        followed.links += ready.read_set.nodes.len();
        self.ready.insert(key, Arc::clone(ready));
        if followed.links > 100_000 {
            followed.tidy(&self.ready);
        }
        true
    }

    /// The entries `[from, from + writes.len())` were followed: drops what they can change.
    pub fn follow(&self, tenant: &str, from: u64, writes: &[WriteSet]) {
        let mut tenants = self.lock();
        let followed = tenants.entry(tenant.to_owned()).or_default();
        if from > followed.size {
            // Something was missed: whatever was kept may be wrong.
            followed.forget(&self.ready);
            followed.size = from;
        }
        let overlap = usize::try_from(followed.size - from).unwrap_or(usize::MAX);
        for written in writes.iter().skip(overlap) {
            followed.drop_met(written, &self.ready);
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
            followed.drop_all(&self.ready);
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
        self.ready.weight()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Followed>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Followed {
    fn drop_met(&mut self, written: &WriteSet, ready: &Cache<Key, Arc<Ready>, ByBytes>) {
        match written {
            WriteSet::None => {}
            WriteSet::All => self.drop_all(ready),
            WriteSet::Nodes(nodes) => {
                for key in nodes.iter().filter_map(|node| self.readers.remove(node)).flatten() {
                    self.links = self.links.saturating_sub(1);
                    ready.remove(&key);
                }
            }
        }
    }

    fn drop_all(&mut self, ready: &Cache<Key, Arc<Ready>, ByBytes>) {
        for key in self.readers.drain().flat_map(|(_, keys)| keys) {
            ready.remove(&key);
        }
        self.links = 0;
    }

    fn forget(&mut self, ready: &Cache<Key, Arc<Ready>, ByBytes>) {
        self.drop_all(ready);
        self.writes.clear();
    }

    /// Removes links to answers that were pushed out.
    fn tidy(&mut self, ready: &Cache<Key, Arc<Ready>, ByBytes>) {
        self.readers.retain(|_, keys| {
            keys.sort_unstable();
            keys.dedup();
            keys.retain(|key| ready.peek(key).is_some());
            !keys.is_empty()
        });
        self.links = self.readers.values().map(Vec::len).sum();
        if self.links > 1_000_000 {
            self.drop_all(ready);
        }
    }
}

#[cfg(test)]
mod tests;
