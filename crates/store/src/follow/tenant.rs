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

impl Tenant {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            visible: RwLock::default(),
            renewed: AtomicU64::new(0),
            sizes: watch::Sender::new(0),
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

    fn show(&self, snapshot: Snapshot, began: Duration) {
        let size = snapshot.size;
        {
            let mut visible = self.visible.write().unwrap_or_else(PoisonError::into_inner);
            visible.snapshot = Some(Arc::new(snapshot));
            visible.read_at = clock::since_boot();
        }
        self.extend_lease(began);
        self.sizes.send_replace(size);
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
        self.load_outside(tenant, &mut work).await?;
        let had = work.fold.frontier.size();
        let Some(head) = head else {
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
        // All of it on a copy: an error of the database half-way leaves what was there.
        let mut fold = work.fold.clone();
        let mut writes = Vec::new();
        while fold.frontier.size() < head.size {
            let from = fold.frontier.size();
            let to = outside_between(&work.outside, from, head.size).min(from + BATCH);
            self.read_batch(tenant, &mut fold, from, to, &mut writes).await?;
            if let Some((_, kept)) = &work.outside
                && kept.size == to
                && kept.root != fold.frontier.root()
            {
                return Err(tenant.break_off(Broken::NotAnExtension { kept: kept.size }));
            }
        }
        if fold.frontier.root() != head.root {
            return Err(tenant.break_off(Broken::OtherRoot { size: head.size }));
        }
        if fold.origin != head.origin {
            let reason = Broken::OtherOrigin { expected: fold.origin.clone(), found: head.origin.clone() };
            return Err(tenant.break_off(reason));
        }
        self.check_outside(tenant, &mut work, &fold, had).await?;
        let snapshot = Snapshot {
            tenant: tenant.name().to_owned(),
            origin: fold.origin.clone(),
            size: head.size,
            root: head.root,
            frontier: fold.frontier.clone(),
            time: fold.time.unwrap_or(head.time),
            control: fold.control.clone(),
            trust: fold.trust.clone(),
            past: false,
            history: fold.history.clone(),
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
                return Err(tenant.break_off(Broken::Entry { index: from, what }));
            }
            Err(other) => return Err(other.into()),
        };
        if entries.len() as u64 != to - from {
            let what = format!("{} of the entries {from}..{to} are there", entries.len());
            return Err(tenant.break_off(Broken::Entry { index: from, what }));
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
            let folded = fold.push(row, body).map_err(|reason| tenant.break_off(reason))?;
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

/// Where a batch must stop so that the root can be compared with the checkpoint's.
fn outside_between(outside: &Option<(Vec<u8>, Checkpoint)>, from: u64, to: u64) -> u64 {
    match outside {
        Some((_, kept)) if from < kept.size && kept.size < to => kept.size,
        _ => to,
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
        | Entry::Revocation(_) => WriteSet::All,
        // What a revoked token approved is not approved any more.
        Entry::TokenRevoked { .. } => WriteSet::All,
        // Not used before its `trust.effective`.
        Entry::TrustAdded(_) => WriteSet::None,
        // Not used before it is activated.
        Entry::PolicyDrafted(_) | Entry::PolicyTested(_) | Entry::PolicyApproved(_) => WriteSet::None,
        Entry::ExceptionRequested(asked) => image(&asked.digest),
        Entry::ExceptionApproved(approved) => image(&approved.digest),
        Entry::ExceptionWithdrawn(withdrawn) => image(&withdrawn.digest),
        Entry::TokenCreated(_) | Entry::TenantCreated { .. } => WriteSet::None,
    }
}
