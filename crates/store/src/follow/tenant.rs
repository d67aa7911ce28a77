//! One tenant's followed state, and how it catches up with a head.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use catenary_chain::control::{Entry, WriteSet};
use catenary_evidence::digest::{Digest, Node, Sha256};
use catenary_tlog::Checkpoint;
use tokio::sync::{Mutex, watch};

use super::{
    Broken, Change, FollowError, LEASE, Shared, Snapshot, clock,
    fold::{Fold, Folded, needs_body},
    polls::Polls,
    saved::{Resumed, Waypoint},
    takes_away,
};
use crate::{EntryRow, Head, StoreError};

/// Entries read at once.
const BATCH: u64 = 2_000;

/// One followed tenant.
#[derive(Debug)]
pub struct Tenant {
    name: String,
    visible: RwLock<Visible>,
    /// Boot-time clock, in nanoseconds, at the start of the last successful poll; 0 before the first.
    renewed: AtomicU64,
    sizes: watch::Sender<u64>,
    pub(super) polls: Polls,
    /// Size of the newest snapshot of its fold that we know of.
    pub(super) saved: AtomicU64,
    /// What only the one who catches up touches.
    pub(super) work: Mutex<Work>,
}

#[derive(Debug, Default)]
struct Visible {
    snapshot: Option<Arc<Snapshot>>,
    /// Sticky: what was broken once is believed only after a restart that checks everything anew.
    broken: Option<Broken>,
    /// Boot-time clock when the head behind `snapshot` had been read: a poll begun earlier may see less.
    read_at: Duration,
    /// Boot-time clock when the newest entry that takes something away was first seen here, which is not before its commit.
    taken_at: Duration,
}

/// The state that catching up carries along.
#[derive(Debug, Default)]
pub struct Work {
    pub fold: Fold,
    /// The checkpoint outside that was last seen: its bytes, and what they say.
    pub outside: Option<(Vec<u8>, Checkpoint)>,
    /// Whether `outside` is known to be a prefix of the fold.
    pub outside_passed: bool,
}

/// What was read of a log.
struct Read {
    fold: Fold,
    /// What the new entries can change.
    writes: Vec<WriteSet>,
}

impl Tenant {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            visible: RwLock::default(),
            renewed: AtomicU64::new(0),
            sizes: watch::Sender::new(0),
            polls: Polls::default(),
            saved: AtomicU64::new(0),
            work: Mutex::default(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn sizes(&self) -> watch::Receiver<u64> {
        self.sizes.subscribe()
    }

    pub fn broken(&self) -> Option<Broken> {
        self.visible.read().unwrap_or_else(PoisonError::into_inner).broken.clone()
    }

    pub fn snapshot(&self) -> Result<Arc<Snapshot>, FollowError> {
        let visible = self.visible.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = visible.broken.clone() {
            return Err(FollowError::Broken { tenant: self.name.clone(), reason });
        }
        let unread = || StoreError::Unavailable(format!("the log of {} is still being read", self.name));
        Ok(visible.snapshot.clone().ok_or_else(unread)?)
    }

    /// Start of the last successful poll, by the boot-time clock.
    pub fn renewed(&self) -> Option<Duration> {
        let renewed = Duration::from_nanos(self.renewed.load(Ordering::Acquire));
        (!renewed.is_zero()).then_some(renewed)
    }

    pub fn lease_age(&self) -> Option<Duration> {
        Some(clock::since_boot().saturating_sub(self.renewed()?))
    }

    /// Whether somebody is catching up right now.
    pub fn is_busy(&self) -> bool {
        self.work.try_lock().is_err()
    }

    pub fn lease_valid(&self) -> bool {
        self.broken().is_none() && self.lease_age().is_some_and(|age| age < LEASE)
    }

    /// Renews the lease when `head`, read by a poll begun at `began`, is what we have.
    pub fn renew(&self, head: &Head, began: Duration) -> bool {
        let visible = self.visible.read().unwrap_or_else(PoisonError::into_inner);
        let same = visible.snapshot.as_ref().is_some_and(|s| {
            (s.size, s.root, &s.origin) == (head.size, head.root, &head.origin) && visible.broken.is_none()
        });
        if same {
            self.extend_lease(began);
        }
        same
    }

    fn extend_lease(&self, began: Duration) {
        let nanos = u64::try_from(began.as_nanos()).unwrap_or(0);
        self.renewed.fetch_max(nanos, Ordering::AcqRel);
    }

    pub(super) fn break_off(&self, reason: Broken) -> FollowError {
        tracing::error!(tenant = self.name, %reason, "the log is not believed any more: every yes stops");
        let mut visible = self.visible.write().unwrap_or_else(PoisonError::into_inner);
        let reason = visible.broken.get_or_insert(reason).clone();
        FollowError::Broken { tenant: self.name.clone(), reason }
    }

    /// The error that a log is not believed, without that it stays so.
    pub(super) fn unbelieved(&self, reason: Broken) -> FollowError {
        FollowError::Broken { tenant: self.name.clone(), reason }
    }

    /// What is not believed now is not believed any more.
    pub(super) fn stuck(&self, error: FollowError) -> FollowError {
        match error {
            FollowError::Broken { reason, .. } => self.break_off(reason),
            other => other,
        }
    }

    fn show(&self, snapshot: Snapshot, began: Duration) {
        let size = snapshot.size;
        {
            let mut visible = self.visible.write().unwrap_or_else(PoisonError::into_inner);
            let now = clock::since_boot();
            let known = visible.snapshot.as_ref().map_or(0, |old| old.history.len());
            if snapshot.history.iter().skip(known).any(|new| takes_away(&new.entry)) {
                visible.taken_at = now;
            }
            visible.snapshot = Some(Arc::new(snapshot));
            visible.read_at = now;
        }
        self.extend_lease(began);
        self.sizes.send_replace(size);
    }

    /// How long ago the newest entry that takes something away was first seen here.
    pub fn taken_for(&self) -> Duration {
        let visible = self.visible.read().unwrap_or_else(PoisonError::into_inner);
        clock::since_boot().saturating_sub(visible.taken_at)
    }

    fn read_at(&self) -> Duration {
        self.visible.read().unwrap_or_else(PoisonError::into_inner).read_at
    }
}

impl Shared {
    /// Reads and checks what is new up to `head`, which a poll begun at `began` read.
    pub(super) async fn catch_up(
        &self,
        tenant: &Tenant,
        head: Option<Head>,
        began: Duration,
    ) -> Result<(), FollowError> {
        let mut work = tenant.work.lock().await;
        tenant.broken().map_or(Ok(()), |reason| Err(tenant.break_off(reason)))?;
        self.load_outside(tenant, &mut work).await.map_err(|error| tenant.stuck(error))?;
        let had = work.fold.frontier.size();
        let Some(mut head) = head else {
            return if had > 0 || work.outside.is_some() {
                Err(tenant.break_off(Broken::Gone))
            } else {
                Err(FollowError::NoTenant(tenant.name().to_owned()))
            };
        };
        if head.size < had {
            // Another poll, begun later, has overtaken this one: not a sign of anything.
            if began <= tenant.read_at() {
                return Ok(());
            }
            return Err(tenant.break_off(Broken::Shorter { had, found: head.size }));
        }
        let resumed = if had == 0 { self.resume(tenant).await? } else { None };
        if let Some(resumed) = &resumed {
            head = self.head_after(tenant, head, resumed.waypoint.size).await.map_err(|e| tenant.stuck(e))?;
            tenant.saved.fetch_max(resumed.waypoint.size, Ordering::Relaxed);
        }
        let read = self.read_or_reread(tenant, &mut work, resumed, &head).await;
        let Read { fold, writes } = read.map_err(|error| tenant.stuck(error))?;
        let snapshot = Snapshot {
            tenant: tenant.name().to_owned(),
            origin: fold.origin.clone(),
            size: head.size,
            root: head.root,
            frontier: fold.frontier.clone(),
            tail: fold.tail.clone(),
            time: fold.time.unwrap_or(head.time),
            control: fold.control.clone(),
            trust: fold.trust.clone(),
            past: false,
            history: fold.history.clone(),
            signed: std::sync::OnceLock::new(),
            wanted: std::sync::OnceLock::new(),
        };
        if head.size > had {
            // At first nothing was answered yet, and a long list would say no more than "everything".
            let writes = if had == 0 { vec![WriteSet::All] } else { writes };
            self.tell(Change { tenant: tenant.name().to_owned(), from: had, to: head.size, writes });
        }
        work.fold = fold;
        tenant.show(snapshot, began);
        Ok(())
    }

    /// The head again, when a snapshot of the fold is of a longer log: another instance may have written it just now.
    async fn head_after(&self, tenant: &Tenant, head: Head, saved: u64) -> Result<Head, FollowError> {
        if saved <= head.size {
            return Ok(head);
        }
        let head = self.store.head(tenant.name()).await?.ok_or_else(|| tenant.unbelieved(Broken::Gone))?;
        if saved > head.size {
            return Err(tenant.unbelieved(Broken::Shorter { had: saved, found: head.size }));
        }
        Ok(head)
    }

    /// Goes on from what was folded, or from a snapshot of it; if the log does not bear the snapshot out, from its beginning.
    async fn read_or_reread(
        &self,
        tenant: &Tenant,
        work: &mut Work,
        resumed: Option<Resumed>,
        head: &Head,
    ) -> Result<Read, FollowError> {
        let Some(resumed) = resumed else {
            let fold = work.fold.clone();
            return self.read_up(tenant, work, fold, None, head).await;
        };
        let waypoint = Some(resumed.waypoint);
        match self.read_up(tenant, work, resumed.fold, waypoint, head).await {
            Err(FollowError::Broken { reason, .. }) => {
                self.alarm_of_fold(tenant, &reason.to_string());
                self.read_up(tenant, work, Fold::default(), waypoint, head).await
            }
            read => read,
        }
    }

    /// Reads and checks the entries from `fold` to `head`; on the way, the roots must be those of the waypoint and of the
    /// checkpoint outside.
    async fn read_up(
        &self,
        tenant: &Tenant,
        work: &mut Work,
        // A copy: an error of the database half-way leaves what was there.
        mut fold: Fold,
        waypoint: Option<Waypoint>,
        head: &Head,
    ) -> Result<Read, FollowError> {
        let began_at = fold.frontier.size();
        let kept = work.outside.as_ref().map(|(_, kept)| Waypoint { size: kept.size, root: kept.root });
        let mut writes = Vec::new();
        while fold.frontier.size() < head.size {
            let from = fold.frontier.size();
            let stops = [kept, waypoint].into_iter().flatten().map(|stop| stop.size);
            let to = stops.filter(|stop| from < *stop).fold(head.size, u64::min).min(from + BATCH);
            self.read_batch(tenant, &mut fold, from, to, &mut writes).await?;
            let missed = |stop: &Waypoint| stop.size == to && stop.root != fold.frontier.root();
            if let Some(stop) = [kept, waypoint].into_iter().flatten().find(missed) {
                return Err(tenant.unbelieved(Broken::NotAnExtension { kept: stop.size }));
            }
        }
        if fold.frontier.root() != head.root {
            return Err(tenant.unbelieved(Broken::OtherRoot { size: head.size }));
        }
        if fold.origin != head.origin {
            let reason = Broken::OtherOrigin { expected: fold.origin.clone(), found: head.origin.clone() };
            return Err(tenant.unbelieved(reason));
        }
        self.check_outside(tenant, work, &fold, began_at).await?;
        Ok(Read { fold, writes })
    }

    async fn read_batch(
        &self,
        tenant: &Tenant,
        fold: &mut Fold,
        from: u64,
        to: u64,
        writes: &mut Vec<WriteSet>,
    ) -> Result<(), FollowError> {
        let entries = match self.store.entries(tenant.name(), from, to).await {
            Ok(entries) => entries,
            Err(StoreError::Integrity { table, key, what }) => {
                let what = format!("{table} {key}: {what}");
                return Err(tenant.unbelieved(Broken::Entry { index: from, what }));
            }
            Err(other) => return Err(other.into()),
        };
        if entries.len() as u64 != to - from {
            let what = format!("{} of the entries {from}..{to} are there", entries.len());
            return Err(tenant.unbelieved(Broken::Entry { index: from, what }));
        }
        let bodies = self.control_bodies(tenant, &entries).await?;
        // After the first reading: nothing was answered before, so nobody needs to know what changed.
        let told = tenant.snapshot().is_ok();
        let evidence = entries.iter().any(|row| !needs_body(&row.kind));
        let touched = if told && evidence {
            self.store.touched(tenant.name(), &entries, to).await?
        } else {
            BTreeMap::new()
        };
        for row in &entries {
            let body = bodies.get(&row.id).map(Vec::as_slice);
            let folded = fold.push(row, body).map_err(|reason| tenant.unbelieved(reason))?;
            if told {
                writes.push(match folded {
                    Folded::Origin => WriteSet::None,
                    Folded::Erased => WriteSet::All,
                    // No readable facts: they may be about anything.
                    Folded::Evidence => {
                        touched.get(&row.index).cloned().map_or(WriteSet::All, WriteSet::Nodes)
                    }
                    Folded::Control(entry) => reach(&entry),
                });
            }
        }
        Ok(())
    }

    async fn control_bodies(
        &self,
        tenant: &Tenant,
        entries: &[EntryRow],
    ) -> Result<BTreeMap<Sha256, Vec<u8>>, StoreError> {
        let ids: Vec<Sha256> = entries.iter().filter(|row| needs_body(&row.kind)).map(|row| row.id).collect();
        if ids.is_empty() { Ok(BTreeMap::new()) } else { self.store.bodies(tenant.name(), &ids).await }
    }
}

/// What a control entry can change.
pub(super) fn reach(entry: &Entry) -> WriteSet {
    let image = |digest: &Digest| WriteSet::Nodes(vec![Node::Content(*digest)]);
    match entry {
        Entry::TrustEffective(_)
        | Entry::TrustWithdrawn { .. }
        | Entry::PolicyApplied { .. }
        | Entry::PolicyActivated(_)
        | Entry::TrustPinned(_)
        | Entry::GroupSet(_)
        | Entry::TrustApproved(_)
        | Entry::Revocation(_) => WriteSet::All,
        // What a revoked token approved is not approved any more.
        Entry::TokenRevoked { .. } => WriteSet::All,
        // Not used before its `trust.effective`.
        Entry::TrustAdded(_) | Entry::TrustRules(_) => WriteSet::None,
        // Not used before it is activated.
        Entry::PolicyDrafted(_) | Entry::PolicyTested(_) | Entry::PolicyApproved(_) => WriteSet::None,
        Entry::ExceptionRequested(asked) => image(&asked.digest),
        Entry::ExceptionApproved(approved) => image(&approved.digest),
        Entry::ExceptionWithdrawn(withdrawn) => image(&withdrawn.digest),
        Entry::TokenCreated(_) | Entry::TenantCreated { .. } => WriteSet::None,
    }
}
