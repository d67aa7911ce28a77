//! Read replicas: they gather evidence for verdicts when they are far enough, and never when nobody can tell.
//!
//! What can turn a yes into a no comes from the follower, which reads the primary alone. A replica is asked for evidence only; that can
//! speak against an image, too, so it must hold all of `log[0..N)`, N being the size that the follower read from the primary:
//!
//! 1. the head of the log that the replica shows has at least N entries, and at N the followed root. Every entry is written in one
//!    transaction with the head, under the head's lock, so whoever shows a head shows all before it, in whatever order other
//!    transactions become visible there;
//! 2. it is a replica, not a server that was promoted and goes its own way;
//! 3. before the first query and after the last it is the same connection to the same start of the same server: one that was
//!    restarted, or another behind the same address, may show less.
//!
//! Else, and whenever it is slow, gone, or shows something damaged, the question is passed on to the primary.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use catenary_chain::gather::{Evidence, Want};
use sqlx::postgres::PgConnectOptions;
use tokio::time::Instant;

use crate::{
    Prefix, Store, StoreError,
    entry::from_sql,
    gather::Picked,
    pool::{self, StoreOptions},
    pooler,
};

/// How long a replica may take; then the primary is asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one that is behind is not asked again.
const BEHIND: Duration = Duration::from_millis(100);
/// How long one that failed is not asked again.
const GONE: Duration = Duration::from_secs(2);

/// Where a replica is.
#[derive(Clone)]
pub struct ReplicaAddress(PgConnectOptions);

impl fmt::Debug for ReplicaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a replica)")
    }
}

impl ReplicaAddress {
    /// Reads addresses with commas between them. The error never shows what was read.
    pub fn read_all(text: &str) -> Result<Vec<Self>, &'static str> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let read = |part: &str| part.parse().map(Self).map_err(|_| "not a Postgres URL");
        parts.map(read).collect()
    }
}

/// How often replicas were asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaReads {
    /// Answered by a replica.
    pub served: u64,
    /// Passed on to the primary.
    pub passed_on: u64,
}

/// The replicas, asked in turn.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    all: Vec<Replica>,
    next: AtomicUsize,
    served: AtomicU64,
    passed_on: AtomicU64,
}

#[derive(Debug)]
struct Replica {
    address: ReplicaAddress,
    /// Stores that read from it, each by one connection of its own.
    free: Mutex<Vec<Store>>,
    rests_until: Mutex<Option<Instant>>,
    /// Whether it was seen to keep connections apart.
    checked: AtomicBool,
}

/// What a replica shows of itself.
struct Standing {
    connection: i32,
    started: String,
    is_replica: bool,
    size: u64,
    root: Vec<u8>,
}

/// Why a replica did not answer.
enum Declined {
    /// It is not there yet, or cannot be told to be.
    Behind,
    /// It failed.
    Failed(StoreError),
}

impl From<StoreError> for Declined {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl Replicas {
    /// Nothing is connected to yet: a replica that is down keeps nobody from starting.
    pub(crate) fn new(primary: &Store, options: &StoreOptions) -> Self {
        let slots = |address: &ReplicaAddress| {
            let reader = || primary.reading_from(pool::to_replica(address.0.clone(), options));
            (0..options.readers.max(1)).map(|_| reader()).collect()
        };
        let replica = |address: &ReplicaAddress| Replica {
            address: address.clone(),
            free: Mutex::new(slots(address)),
            rests_until: Mutex::default(),
            checked: AtomicBool::new(false),
        };
        Self { all: options.replicas.iter().map(replica).collect(), ..Self::default() }
    }

    /// Refuses a pooler before a replica that mixes up statements; one that is not there is looked at later.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        for replica in &self.all {
            match replica.check().await {
                Err(error @ StoreError::Pooler(_)) => return Err(error),
                Err(error) => tracing::warn!(%error, "a replica is not there; the primary serves"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    pub(crate) async fn close(&self) {
        for replica in &self.all {
            let stores = std::mem::take(&mut *replica.free.lock().unwrap_or_else(PoisonError::into_inner));
            for store in stores {
                store.reads().close().await;
            }
        }
    }

    fn counts(&self) -> ReplicaReads {
        let (served, passed_on) =
            (self.served.load(Ordering::Relaxed), self.passed_on.load(Ordering::Relaxed));
        ReplicaReads { served, passed_on }
    }

    /// A replica that has a connection free, in turn.
    fn pick(&self) -> Option<(&Replica, Store)> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn =
            (0..self.all.len()).filter_map(|n| self.all.get(first.wrapping_add(n) % self.all.len()));
        in_turn.filter(|replica| replica.is_awake()).find_map(|replica| Some((replica, replica.take()?)))
    }
}

impl Replica {
    fn is_awake(&self) -> bool {
        let rests = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        rests.is_none_or(|until| until <= Instant::now())
    }

    fn rest(&self, how_long: Duration) {
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + how_long);
    }

    fn take(&self) -> Option<Store> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, store: Store) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(store);
    }

    async fn check(&self) -> Result<(), StoreError> {
        if !self.checked.load(Ordering::Relaxed) {
            let late = |_| StoreError::Unavailable("the replica did not answer in time".to_owned());
            tokio::time::timeout(PATIENCE, pooler::check(&self.address.0)).await.map_err(late)??;
            self.checked.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Standing {
    fn has(&self, at: &Prefix) -> bool {
        self.is_replica && self.size >= at.size && (self.size > at.size || self.root == at.root.0)
    }
}

impl Store {
    /// Adds to `into` what the first `at.size` entries hold about the wanted nodes: from a replica that has all of them, else
    /// from the primary.
    pub async fn gather(
        &self,
        tenant: &str,
        want: &Want,
        at: &Prefix,
        into: &mut Evidence,
    ) -> Result<(), StoreError> {
        self.gather_shared(tenant, want, at, into).await.map(|_| ())
    }

    /// The same for several questions at once: which attestations belong to which of the nodes, so that each question can be
    /// told what it would have been told alone.
    pub async fn gather_shared(
        &self,
        tenant: &str,
        want: &Want,
        at: &Prefix,
        into: &mut Evidence,
    ) -> Result<Picked, StoreError> {
        if !self.replicas().all.is_empty() {
            if let Some((found, picked)) = self.ask_a_replica(tenant, want, at, into).await {
                self.replicas().served.fetch_add(1, Ordering::Relaxed);
                *into = found;
                return Ok(picked);
            }
            self.replicas().passed_on.fetch_add(1, Ordering::Relaxed);
        }
        self.gather_here(tenant, want, at, into).await
    }

    /// How often replicas were asked; `None` when there are none.
    pub fn replica_reads(&self) -> Option<ReplicaReads> {
        (!self.replicas().all.is_empty()).then(|| self.replicas().counts())
    }

    async fn ask_a_replica(
        &self,
        tenant: &str,
        want: &Want,
        at: &Prefix,
        before: &Evidence,
    ) -> Option<(Evidence, Picked)> {
        let (replica, store) = self.replicas().pick()?;
        let asked = async {
            replica.check().await?;
            store.gather_at_least(tenant, want, at, before).await
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        replica.give_back(store);
        match answer {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(Declined::Behind)) => replica.rest(BEHIND),
            Ok(Err(Declined::Failed(error))) => {
                tracing::warn!(%error, "a replica does not answer; the primary serves");
                replica.rest(GONE);
            }
            Err(_) => {
                tracing::warn!("a replica is slow; the primary serves");
                replica.rest(GONE);
            }
        }
        None
    }

    /// What this replica holds, if it is known to hold all of the prefix from the first query to the last.
    async fn gather_at_least(
        &self,
        tenant: &str,
        want: &Want,
        at: &Prefix,
        before: &Evidence,
    ) -> Result<(Evidence, Picked), Declined> {
        let begun = self.standing(tenant).await?;
        if !begun.has(at) {
            return Err(Declined::Behind);
        }
        let mut found = before.clone();
        let picked = self.gather_here(tenant, want, at, &mut found).await?;
        let ended = self.standing(tenant).await?;
        let same = (ended.connection, &ended.started) == (begun.connection, &begun.started);
        // What is damaged is the primary's to judge and to mend.
        if !same || !ended.has(at) || found.damaged != before.damaged {
            return Err(Declined::Behind);
        }
        Ok((found, picked))
    }

    async fn standing(&self, tenant: &str) -> Result<Standing, StoreError> {
        let row = sqlx::query!(
            r#"select pg_backend_pid() as "connection!", pg_postmaster_start_time()::text as "started!",
                      pg_is_in_recovery() as "is_replica!", h.size as "size?", h.root as "root?"
               from (select 1) as one left join log_head h on h.tenant = $1"#,
            tenant
        )
        .fetch_one(self.reads())
        .await?;
        Ok(Standing {
            connection: row.connection,
            started: row.started,
            is_replica: row.is_replica,
            size: row.size.map_or(0, from_sql),
            root: row.root.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use catenary_evidence::Trust;
    use catenary_tlog::Hash;

    use super::*;

    #[test]
    fn only_a_replica_at_or_past_the_prefix_serves_it() {
        let at = Prefix { size: 5, root: Hash([5; 32]), trust: Trust::none(), past: false };
        let standing = |is_replica, size, root: u8| Standing {
            connection: 1,
            started: String::new(),
            is_replica,
            size,
            root: vec![root; 32],
        };
        assert!(standing(true, 5, 5).has(&at) && standing(true, 6, 6).has(&at));
        assert!(!standing(true, 4, 4).has(&at), "behind");
        assert!(!standing(true, 5, 6).has(&at), "another log");
        assert!(!standing(false, 6, 6).has(&at), "promoted");
        assert!(!standing(true, 0, 0).has(&at), "no such log");
    }

    #[test]
    fn addresses_are_read_and_never_shown() {
        let read = ReplicaAddress::read_all("postgres://u:secret@one/db, postgres://two/db").unwrap();
        assert_eq!(read.len(), 2);
        assert!(!format!("{read:?}").contains("secret"));
        assert!(!ReplicaAddress::read_all("secret@nowhere").unwrap_err().contains("secret"));
        assert!(ReplicaAddress::read_all("").unwrap().is_empty());
    }
}
