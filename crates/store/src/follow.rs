//! Following the logs: every instance reads each tenant's entries, checks them, and folds them in memory.
//!
//! What can turn a yes into a no is believed from here only, never from a row's presence. A log with a
//! gap, another root, a shorter length, or one that does not extend the checkpoint kept outside is
//! [`Broken`], and stays so: every yes of that tenant stops.
//!
//! **Lease.** An answer may come from memory only while [`Follower::lease_valid`]: less than [`LEASE`] has
//! passed since the *start* of the last successful poll. A control entry is acknowledged only
//! [`LEASE`] + [`POLL`] after its commit, also to who asks for it again, so nothing begun after the acknowledgement can miss it.

mod clock;
pub(crate) mod fold;
mod outside;
mod polls;
pub(crate) mod saved;
mod tenant;
mod writes;

pub(crate) use writes::object_nodes;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use catenary_chain::{
    control::{Control, Entry, WriteSet},
    gather::Wanted,
};
use catenary_evidence::{Trust, digest::Sha256};
use catenary_tlog::{Checkpoint, Frontier, Hash, Tail};
use jiff::Timestamp;
use thiserror::Error;
use tokio::{sync::broadcast, task::JoinHandle, time::Instant};

use crate::{
    Appended, Head, New, Prefix, Reading, Store, StoreError, checkpoints::CheckpointStore, failpoint::hit,
    keys::ServiceKeys,
};
use tenant::Tenant;

/// How long an answer may come from memory after the start of a poll.
pub const LEASE: Duration = Duration::from_secs(1);
/// How often the heads are read.
pub const POLL: Duration = Duration::from_millis(250);
/// How often new tenants are looked for, and checkpoints put outside (design 8: at least once a second).
const SLOW: Duration = Duration::from_millis(500);
/// How often a control entry is decided anew because another one came first.
const ATTEMPTS: usize = 16;

/// What one tenant's log holds, as far as this instance has followed and checked it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The tenant.
    pub tenant: String,
    /// Name of the log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// The tree's right edge.
    pub frontier: Frontier,
    /// The tree's newest leaves.
    tail: Arc<Tail>,
    /// Time of the last entry.
    pub time: Timestamp,
    /// What the tenant trusts.
    pub control: Arc<Control>,
    /// Every key that was ever registered: what evidence is verified with when it arrives.
    pub trust: Trust,
    /// Whether it is of a time before trust that was added since.
    past: bool,
    /// The control entries with their indexes.
    history: Arc<Vec<fold::ControlEntry>>,
    /// The checkpoint, once somebody wanted it.
    signed: OnceLock<String>,
    /// Whom questions want to hear, once somebody asked one.
    wanted: OnceLock<Wanted>,
}

impl Snapshot {
    /// The prefix for [`Store::gather`].
    pub fn prefix(&self) -> Prefix {
        Prefix { size: self.size, root: self.root, trust: self.trust.clone(), past: self.past }
    }

    /// Whom its questions want to hear.
    pub fn wanted(&self) -> &Wanted {
        self.wanted.get_or_init(|| Wanted::under(&self.control))
    }

    /// The root of a complete subtree, if it can be told without a tile.
    pub(crate) fn node(&self, level: u8, index: u64) -> Option<Hash> {
        self.tail.node(level, index)
    }

    /// The control entries before `size`, oldest first.
    pub fn history(&self, size: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.history
            .iter()
            .take_while(move |known| known.index < size)
            .map(|known| (known.index, &*known.entry))
    }

    /// The control entry with this index.
    pub fn control_entry(&self, index: u64) -> Option<&Entry> {
        let at = self.history.binary_search_by_key(&index, |logged| logged.index).ok()?;
        self.history.get(at).map(|logged| &*logged.entry)
    }
}

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownAt {
    /// After so many entries.
    Size(u64),
    /// After the last entry that is not younger.
    Time(Timestamp),
}

/// New entries, told before any answer that takes them into account.
#[derive(Debug, Clone)]
pub struct Change {
    /// The tenant.
    pub tenant: String,
    /// Index of the first new entry.
    pub from: u64,
    /// Size of the log with them.
    pub to: u64,
    /// What they can change.
    pub writes: Vec<WriteSet>,
}

/// Why a log is not believed any more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Broken {
    /// It has fewer entries than it had.
    #[error("the log has {found} entries, it had {had}")]
    Shorter {
        /// As followed.
        had: u64,
        /// In the database now.
        found: u64,
    },
    /// Its head is not the root of its entries.
    #[error("the head says another root than the first {size} entries have")]
    OtherRoot {
        /// Size of the head.
        size: u64,
    },
    /// Its name changed.
    #[error("the log is named {found:?}, its entry 0 says {expected:?}")]
    OtherOrigin {
        /// In entry 0.
        expected: String,
        /// In the head.
        found: String,
    },
    /// An entry is missing or is not what it must be.
    #[error("entry {index}: {what}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong.
        what: String,
    },
    /// The log is gone.
    #[error("the log is gone")]
    Gone,
    /// It is shorter than the checkpoint kept outside the database.
    #[error("the log has {found} entries, the checkpoint kept outside has {kept}")]
    ShorterThanCheckpoint {
        /// In the checkpoint.
        kept: u64,
        /// In the database.
        found: u64,
    },
    /// It does not extend the checkpoint kept outside the database.
    #[error("the log does not extend the checkpoint of {kept} entries kept outside")]
    NotAnExtension {
        /// In the checkpoint.
        kept: u64,
    },
    /// The checkpoint kept outside is not signed by a key of ours.
    #[error("the checkpoint kept outside cannot be believed: {what}")]
    BadCheckpoint {
        /// Why.
        what: String,
    },
}

/// Why there is no answer about a tenant's log.
#[derive(Debug, Clone, Error)]
pub enum FollowError {
    /// No such tenant.
    #[error("there is no tenant {0:?}")]
    NoTenant(String),
    /// Its log is not believed: SYS_LOG_ROLLED_BACK.
    #[error("the log of {tenant} is not believed: {reason}")]
    Broken {
        /// The tenant.
        tenant: String,
        /// Why.
        reason: Broken,
    },
    /// The entry that was asked for has not come in time.
    #[error("the log has {size} entries; {index} is not among them yet")]
    Behind {
        /// The entry.
        index: u64,
        /// What is there.
        size: u64,
    },
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a control entry was not appended.
#[derive(Debug, Error)]
pub enum AppendError<E> {
    /// The caller's own decision, from the state it was shown.
    #[error("{0}")]
    Refused(E),
    /// The log cannot be followed.
    #[error(transparent)]
    Follow(#[from] FollowError),
}

/// A promise about what was in memory when it was made.
#[derive(Debug, Clone)]
pub struct Lease {
    tenant: Arc<Tenant>,
    renewed: Duration,
}

impl Lease {
    /// Whether what was looked up under it may still be answered.
    pub fn holds(&self) -> bool {
        self.tenant.broken().is_none() && clock::since_boot().saturating_sub(self.renewed) < LEASE
    }
}

/// Sees every change before it is visible; must be quick.
pub type Observer = Arc<dyn Fn(&Change) + Send + Sync>;

/// Follows every tenant's log. Cheap to clone; the tasks end with [`Follower::stop`] or the last clone.
#[derive(Clone)]
pub struct Follower {
    shared: Arc<Shared>,
    _tasks: Arc<Tasks>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("tenants", &self.tenants()).finish_non_exhaustive()
    }
}

struct Shared {
    store: Store,
    keys: Arc<ServiceKeys>,
    outside: Option<CheckpointStore>,
    tenants: RwLock<BTreeMap<String, Arc<Tenant>>>,
    changes: broadcast::Sender<Arc<Change>>,
    observers: RwLock<Vec<Observer>>,
}

#[derive(Debug)]
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Follower {
    /// Follows every tenant that has a log, and those that get one later. Returns when each was read once,
    /// or found broken. Without `outside`, a rolled back database is noticed only while we run.
    pub async fn start(
        store: Store,
        keys: Arc<ServiceKeys>,
        outside: Option<CheckpointStore>,
    ) -> Result<Self, StoreError> {
        let (changes, _) = broadcast::channel(1024);
        let shared = Arc::new(Shared {
            store: store.always(Reading::Follow),
            keys,
            outside,
            tenants: RwLock::default(),
            changes,
            observers: RwLock::default(),
        });
        shared.look_for_tenants().await?;
        shared.poll().await?;
        let tasks =
            vec![tokio::spawn(poll_forever(shared.clone())), tokio::spawn(tend_forever(shared.clone()))];
        Ok(Self { shared, _tasks: Arc::new(Tasks(tasks)) })
    }

    /// Follows a tenant whose log was just made.
    pub async fn follow(&self, tenant: &str) -> Result<Arc<Snapshot>, FollowError> {
        let head = self.shared.store.head(tenant).await?;
        head.ok_or_else(|| FollowError::NoTenant(tenant.to_owned()))?;
        self.shared.add(tenant);
        self.fresh(tenant).await
    }

    /// The followed tenants.
    pub fn tenants(&self) -> Vec<String> {
        self.shared.tenants.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// What was followed so far, whether or not the lease holds; an error when the log is broken.
    pub fn snapshot(&self, tenant: &str) -> Result<Arc<Snapshot>, FollowError> {
        self.shared.tenant(tenant)?.snapshot()
    }

    /// The lease as it is now, for an answer from memory: take it *before* the look-up, and ask
    /// [`Lease::holds`] last, just before answering. (A lease that was renewed in between says nothing about
    /// what was looked up before.)
    pub fn lease(&self, tenant: &str) -> Option<Lease> {
        let tenant = self.shared.tenant(tenant).ok()?;
        let renewed = tenant.renewed()?;
        Some(Lease { tenant, renewed })
    }

    /// Whether what is in memory is fresh enough now. For an answer from a cache, use [`Follower::lease`].
    pub fn lease_valid(&self, tenant: &str) -> bool {
        self.shared.tenant(tenant).is_ok_and(|t| t.lease_valid())
    }

    /// How long ago the last successful poll began; `None` before the first.
    pub fn lease_age(&self, tenant: &str) -> Option<Duration> {
        self.shared.tenant(tenant).ok()?.lease_age()
    }

    /// Why the tenant's log is not believed; `None` when it is.
    pub fn broken(&self, tenant: &str) -> Option<Broken> {
        self.shared.tenant(tenant).ok()?.broken()
    }

    /// Stops every yes of a tenant: entry `index` is stored otherwise than it was followed.
    pub fn distrust(&self, tenant: &str, index: u64, what: &str) {
        if let Ok(tenant) = self.shared.tenant(tenant) {
            let _ = tenant.break_off(Broken::Entry { index, what: what.to_owned() });
        }
    }

    /// Whether checkpoints are kept outside the database (`rollbackDetection`).
    pub fn detects_rollback(&self) -> bool {
        self.shared.outside.is_some()
    }

    /// A snapshot under a valid lease: what is in memory, or what a poll finds now.
    pub async fn fresh(&self, tenant: &str) -> Result<Arc<Snapshot>, FollowError> {
        let followed = match self.shared.tenant(tenant) {
            Ok(followed) => followed,
            Err(FollowError::NoTenant(_)) => {
                // Made by another instance a moment ago?
                let head = self.shared.store.head(tenant).await?;
                head.ok_or_else(|| FollowError::NoTenant(tenant.to_owned()))?;
                self.shared.add(tenant)
            }
            Err(other) => return Err(other),
        };
        if !followed.lease_valid() {
            followed.polls.after_now(self.shared.poll_one(&followed)).await?;
        }
        followed.snapshot()
    }

    /// A snapshot from a poll that begins after this call.
    pub async fn refreshed(&self, tenant: &str) -> Result<Arc<Snapshot>, FollowError> {
        let followed = self.shared.tenant(tenant)?;
        followed.polls.after_now(self.shared.poll_one(&followed)).await?;
        followed.snapshot()
    }

    /// What was known then: the state after fewer entries than `now` has.
    pub async fn past(&self, now: &Snapshot, known_at: KnownAt) -> Result<Snapshot, FollowError> {
        let store = &self.shared.store;
        let size = match known_at {
            KnownAt::Size(size) => size,
            KnownAt::Time(moment) => store.size_at(&now.tenant, now.size, moment).await?,
        };
        if size == now.size {
            return Ok(now.clone());
        }
        if size == 0 || size > now.size {
            return Err(StoreError::BeyondHead { asked: size, size: now.size }.into());
        }
        let damaged = |what: String| {
            let key = size.to_string();
            FollowError::Store(StoreError::Integrity { table: "log_tile", key, what })
        };
        // The tiles lie in the database: only what the followed root extends is believed.
        let root = store.root_at(&now.tenant, size).await?;
        let proof = store.consistency(&now.tenant, size, now.size).await?;
        catenary_tlog::verify_consistency(size, root, now.size, now.root, &proof)
            .map_err(|error| damaged(error.to_string()))?;
        let (control, trust) = fold::state_at(&now.history, size).map_err(damaged)?;
        let last = store.entries(&now.tenant, size - 1, size).await?;
        let time = last.first().and_then(|row| row.decode().ok()).map_or(now.time, |leaf| leaf.time);
        // Each member is named: one that is derived must not be that of `now`.
        Ok(Snapshot {
            tenant: now.tenant.clone(),
            origin: now.origin.clone(),
            size,
            root,
            frontier: Frontier::new(),
            tail: Arc::default(),
            time,
            control: Arc::new(control),
            trust,
            past: true,
            history: now.history.clone(),
            signed: OnceLock::new(),
            wanted: OnceLock::new(),
        })
    }

    /// Waits until entry `index` is followed, at most `limit`.
    pub async fn wait_for(
        &self,
        tenant: &str,
        index: u64,
        limit: Duration,
    ) -> Result<Arc<Snapshot>, FollowError> {
        let deadline = Instant::now() + limit;
        let mut snapshot = self.fresh(tenant).await?;
        if snapshot.size <= index {
            snapshot = self.refreshed(tenant).await?;
        }
        let mut sizes = self.shared.tenant(tenant)?.sizes();
        while snapshot.size <= index {
            let behind = FollowError::Behind { index, size: snapshot.size };
            match tokio::time::timeout_at(deadline, sizes.wait_for(|size| *size > index)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => {
                    // A log that broke meanwhile is a better answer than "not yet".
                    self.snapshot(tenant)?;
                    return Err(behind);
                }
            }
            snapshot = self.snapshot(tenant)?;
        }
        Ok(snapshot)
    }

    /// The signed checkpoint of a snapshot, whose head was read back after its commit.
    pub fn checkpoint(&self, snapshot: &Snapshot) -> Result<String, FollowError> {
        if let Some(signed) = snapshot.signed.get() {
            return Ok(signed.clone());
        }
        let signed = self.shared.sign(snapshot)?;
        Ok(snapshot.signed.get_or_init(|| signed).clone())
    }

    /// Every change from now on. A receiver that lags is told so, and must forget what it kept.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Change>> {
        self.shared.changes.subscribe()
    }

    /// Calls `observer` with every change before the snapshot that has it becomes visible, so that a cache
    /// drops what no longer holds before the lease covers it.
    pub fn observe(&self, observer: Observer) {
        self.shared.observers.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    /// Appends the control entry that `decide` makes of the newest state; decides again when another control
    /// entry came first. Returns when no answer begun from now on, on any instance, can miss the entry.
    pub async fn append_control<E>(
        &self,
        tenant: &str,
        submitter: Sha256,
        decide: impl Fn(&Snapshot) -> Result<Entry, E> + Send,
    ) -> Result<(Appended, Arc<Snapshot>), AppendError<E>> {
        let mut snapshot = self.refreshed(tenant).await?;
        for _ in 0..ATTEMPTS {
            let entry = decide(&snapshot).map_err(AppendError::Refused)?;
            fold::check(&entry).map_err(|what| FollowError::Store(StoreError::Unloggable(what)))?;
            let waits = takes_away(&entry);
            let new = New::Control { entry: Box::new(entry), submitter };
            match self.shared.store.append_if(tenant, snapshot.size, new).await {
                Ok(appended) => {
                    let committed = Instant::now();
                    let snapshot = self.wait_for(tenant, appended.index, Duration::from_secs(10)).await?;
                    if waits {
                        tokio::time::sleep_until(committed + LEASE + POLL).await;
                    }
                    return Ok((appended, snapshot));
                }
                Err(StoreError::Conflict { .. }) => snapshot = self.refreshed(tenant).await?,
                Err(other) => return Err(FollowError::Store(other).into()),
            }
        }
        Err(FollowError::Store(StoreError::Busy).into())
    }

    /// Returns when no answer begun from now on, on any instance, can miss what entries that are followed here took away: whoever is
    /// told that something is so already may ask again because the first answer got lost, and relies on this one.
    pub async fn settled(&self, tenant: &str) -> Result<(), FollowError> {
        let left = (LEASE + POLL).saturating_sub(self.shared.tenant(tenant)?.taken_for());
        tokio::time::sleep(left).await;
        Ok(())
    }

    /// Ends the tasks. Leases run out within [`LEASE`].
    pub fn stop(&self) {
        self._tasks.0.iter().for_each(JoinHandle::abort);
    }
}

/// Whether an instance that has not seen the entry could still give an answer that it forbids. Those
/// that only add something to be used later need not be waited for.
fn takes_away(entry: &Entry) -> bool {
    !matches!(
        entry,
        Entry::TokenCreated(_)
            | Entry::TenantCreated { .. }
            | Entry::TrustAdded(_)
            | Entry::PolicyDrafted(_)
            | Entry::PolicyTested(_)
            | Entry::PolicyApproved(_)
            | Entry::ExceptionRequested(_)
            | Entry::ExceptionApproved(_)
    )
}

impl Shared {
    fn tenant(&self, tenant: &str) -> Result<Arc<Tenant>, FollowError> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).cloned().ok_or_else(|| FollowError::NoTenant(tenant.to_owned()))
    }

    fn add(&self, tenant: &str) -> Arc<Tenant> {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        tenants.entry(tenant.to_owned()).or_insert_with(|| Arc::new(Tenant::new(tenant))).clone()
    }

    async fn look_for_tenants(&self) -> Result<(), StoreError> {
        for tenant in self.store.tenants().await? {
            self.add(&tenant);
        }
        // A checkpoint without a log: the log of that tenant is gone.
        if let Some(outside) = &self.outside {
            for tenant in outside.tenants() {
                self.add(&tenant);
            }
        }
        Ok(())
    }

    /// One poll of all tenants: one query for the heads, then each catches up on its own.
    async fn poll(self: &Arc<Self>) -> Result<(), StoreError> {
        let all: Vec<Arc<Tenant>> =
            self.tenants.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let names: Vec<String> = all.iter().map(|t| t.name().to_owned()).collect();
        let began = clock::since_boot();
        let mut heads: BTreeMap<String, Head> = self.store.heads(&names).await?.into_iter().collect();
        let mut behind = Vec::new();
        for tenant in all {
            let head = heads.remove(tenant.name());
            if tenant.broken().is_some() || tenant.is_busy() {
                continue;
            }
            // Most heads have not moved: no task for those.
            if let Some(head) = &head
                && tenant.renew(head, began)
            {
                continue;
            }
            let shared = self.clone();
            // Each in its own task: one that has much to read is not stopped when we stop waiting for it.
            behind.push(tokio::spawn(async move {
                if let Err(error) = shared.catch_up(&tenant, head, began).await {
                    tracing::warn!(tenant = tenant.name(), %error, "cannot follow the log");
                }
            }));
        }
        for task in behind {
            let _ = task.await;
        }
        Ok(())
    }

    async fn poll_one(self: &Arc<Self>, tenant: &Arc<Tenant>) -> Result<(), FollowError> {
        let began = clock::since_boot();
        let head = self.store.head(tenant.name()).await?;
        if let Some(head) = &head
            && tenant.renew(head, began)
        {
            return Ok(());
        }
        // In its own task: a caller that goes away leaves no tenant half-way.
        let (shared, tenant) = (self.clone(), tenant.clone());
        match tokio::spawn(async move { shared.catch_up(&tenant, head, began).await }).await {
            Ok(result) => result,
            Err(_) => Err(FollowError::Store(StoreError::Unavailable("the follower was stopped".to_owned()))),
        }
    }

    fn tell(&self, change: Change) {
        let change = Arc::new(change);
        for observer in self.observers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            observer(&change);
        }
        let _ = self.changes.send(change);
    }

    fn sign(&self, snapshot: &Snapshot) -> Result<String, FollowError> {
        let refused = |what: String| FollowError::Store(StoreError::Refused(what));
        hit("checkpoint.sign").map_err(StoreError::from)?;
        let signer = self.keys.log_signer(&snapshot.origin).map_err(|e| refused(e.to_string()))?;
        let checkpoint = Checkpoint::new(&snapshot.origin, snapshot.size, snapshot.root);
        checkpoint.sign(&signer).map_err(|e| refused(e.to_string()))
    }
}

async fn poll_forever(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A long catch-up of one tenant must not stop the others' leases.
        if let Ok(Err(error)) = tokio::time::timeout(LEASE, shared.poll()).await {
            tracing::warn!(%error, "cannot read the heads of the logs");
        }
    }
}

async fn tend_forever(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(SLOW);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = shared.look_for_tenants().await {
            tracing::warn!(%error, "cannot list the tenants");
        }
        shared.advance_checkpoints().await;
        shared.save_long_folds().await;
    }
}
