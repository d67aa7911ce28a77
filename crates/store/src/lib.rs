//! The only crate with SQL.
//!
//! The database holds evidence, never trust: bodies byte for byte, the log that orders them, and facts
//! that anyone can recompute from the bodies, each row under a seal. What evidence is worth is decided
//! by `catenary-chain`; that bytes are what they say, by `catenary-evidence`.

mod append;
pub mod audit;
mod browse;
pub mod checkpoints;
pub mod decisions;
pub mod deployments;
mod derive;
mod entry;
mod error;
pub mod events;
mod facts;
pub mod failpoint;
pub mod follow;
mod frontier;
pub mod gather;
pub mod impact;
pub mod keys;
pub mod ladder;
mod limit;
mod load;
mod log;
pub mod mention;
mod pool;
mod pooler;
mod proof;
pub mod replay;
mod replica;
mod reverify;
mod seal;
mod sequencer;
mod service_keys;
mod tiles;
pub mod timeline;
pub mod watched;
pub mod webhooks;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sqlx::postgres::PgConnectOptions;

pub use browse::{AttestationRow, Filter, ObjectRow};
pub use entry::{Appended, EntryRow, Head, New};
pub use error::StoreError;
pub use gather::Prefix;
pub use pool::{Reading, StoreOptions, reading};
pub use replica::{ReplicaAddress, ReplicaReads};
pub use reverify::Vouches;
pub use seal::SealKeys;
pub use service_keys::ServiceKeyRow;

/// The evidence and the logs of every tenant in one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
    reading: Option<Reading>,
}

#[derive(Debug)]
struct Inner {
    pools: pool::Pools,
    seal: Arc<SealKeys>,
    sequencer: Arc<sequencer::Sequencer>,
    alarms: Arc<AtomicU64>,
    tiles: Arc<tiles::Tiles>,
    written: Arc<append::Written>,
    replicas: replica::Replicas,
}

impl Inner {
    /// The same without replicas.
    fn beside(&self) -> Self {
        Self {
            pools: self.pools.clone(),
            seal: self.seal.clone(),
            sequencer: self.sequencer.clone(),
            alarms: self.alarms.clone(),
            tiles: self.tiles.clone(),
            written: self.written.clone(),
            replicas: replica::Replicas::default(),
        }
    }
}

impl Store {
    /// Connects and applies the migrations.
    pub async fn open(
        connect: PgConnectOptions,
        seal: SealKeys,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        if !options.single_connection {
            pooler::check(&connect).await?;
        }
        let pools = pool::Pools::open(connect, options).await?;
        let mut migrations = sqlx::migrate!("../../migrations");
        // Those of a newer version, which only add: an instance that comes back in the middle of an upgrade must start.
        migrations.set_ignore_missing(true);
        migrations.run(pools.write.pool()).await?;
        let seal = Arc::new(seal);
        let written = Arc::<append::Written>::default();
        let (pool, seal_keys) = (pools.write.clone(), seal.clone());
        let writer = append::Writer { pool, seal: seal_keys, written: written.clone() };
        let sequencer = Arc::new(sequencer::Sequencer::new(writer));
        let (alarms, tiles, replicas) = (Arc::default(), Arc::default(), replica::Replicas::default());
        let inner = Inner { pools, seal, sequencer, alarms, tiles, written, replicas };
        let primary = Self { inner: Arc::new(inner), reading: None };
        let replicas = replica::Replicas::new(&primary, options);
        replicas.check().await?;
        let inner = Inner { replicas, ..primary.inner.beside() };
        Ok(Self { inner: Arc::new(inner), reading: None })
    }

    /// The same store, for one who always reads for the same purpose, whoever asked.
    pub fn always(&self, reading: Reading) -> Self {
        Self { reading: Some(reading), ..self.clone() }
    }

    /// The same store, but what it reads it reads from there.
    pub(crate) fn reading_from(&self, read: pool::Lender) -> Self {
        let mut inner = self.inner.beside();
        inner.pools = inner.pools.reading_from(read);
        Self { inner: Arc::new(inner), reading: self.reading }
    }

    pub(crate) fn replicas(&self) -> &replica::Replicas {
        &self.inner.replicas
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let follow = self.inner.pools.read(Some(Reading::Follow));
        pool::retry(|| async { sqlx::query("select 1").execute(follow).await.map(|_| ()) }).await
    }

    /// How often a row was found that someone had changed behind our back.
    pub fn alarms(&self) -> u64 {
        self.inner.alarms.load(Ordering::Relaxed)
    }

    /// How many logs take nothing at the moment: what is sent to them is refused.
    pub fn stalled(&self) -> usize {
        self.inner.sequencer.stalled()
    }

    /// Closes every connection, after what is being written.
    pub async fn close(&self) {
        self.inner.sequencer.close().await;
        self.inner.pools.close().await;
        self.inner.replicas.close().await;
    }

    /// Connections that read, for whoever reads now.
    pub(crate) fn reads(&self) -> &pool::Lender {
        self.inner.pools.read(self.reading)
    }

    /// Tiles that were read.
    pub(crate) fn read_tiles(&self) -> &tiles::Tiles {
        &self.inner.tiles
    }

    /// What this instance wrote and nobody asked for yet.
    pub(crate) fn written(&self) -> &append::Written {
        &self.inner.written
    }

    /// Connections that read what is evaluated.
    pub(crate) fn gathers(&self) -> &pool::Lender {
        self.inner.pools.gather(self.reading)
    }

    /// Connections that write.
    pub(crate) fn writes(&self) -> &pool::Lender {
        &self.inner.pools.write
    }

    /// What gives out indexes.
    pub(crate) fn sequencer(&self) -> &sequencer::Sequencer {
        &self.inner.sequencer
    }

    /// The keys that seal rows.
    pub(crate) fn seal(&self) -> &SealKeys {
        &self.inner.seal
    }

    /// Counts and reports a row that was changed behind our back.
    pub(crate) fn alarm(&self, tenant: &str, table: &'static str, key: &str, what: &str) {
        self.inner.alarms.fetch_add(1, Ordering::Relaxed);
        tracing::error!(tenant, table, key, what, "a stored row is not as it was written");
    }
}
