//! `log verify`: everything in the database compared with what the log's leaves and the signed bytes say.
//!
//! Nothing is believed on the way. Leaves give the tree, and the tree the head and the tiles; leaves give the
//! bodies by digest; bodies give the control state and every row of facts. Each row that differs is named.
//! All is read in one snapshot of the database, so a log that grows meanwhile does not matter.

mod decisions;
mod facts;
mod log;
mod pass;
mod reindex;

use std::{collections::BTreeMap, fmt, sync::Arc};

use catenary_chain::control::Control;
use catenary_evidence::{Trust, digest::Sha256};
use catenary_tlog::{Checkpoint, Hash};

pub use pass::Pass;
pub use reindex::{Reindexed, ReindexedLog, reindex};

use crate::{
    Store, StoreError, checkpoints::CheckpointStore, entry::EntryRow, keys::ServiceKeys, limit::own_task,
    pool::Transaction,
};

/// The tables that hold evidence, or what is derived from it. Every one is compared.
pub const EVIDENCE: [&str; 14] = [
    "attestation",
    "attestation_subject",
    "body",
    "decision",
    "decision_batch",
    "decision_chain",
    "log_entry",
    "log_head",
    "log_tile",
    "mention",
    "object",
    "object_child",
    "service_key",
    "verdict_body",
];
/// The tables that hold none: which migrations were applied, what runs, what is told to whom, what spares a start work.
pub const NO_EVIDENCE: [&str; 10] = [
    "_sqlx_migrations",
    "dead_letter",
    "deployment",
    "event",
    "event_head",
    "log_fold",
    "watched",
    "watched_node",
    "watcher",
    "webhook",
];
/// More differences than a person reads; a table that was emptied must not fill the memory.
const MAX_DIFFERENCES: usize = 10_000;

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// It is not what it must be.
    Altered,
    /// It should be there.
    Missing,
    /// Nothing in the log accounts for it.
    Unexpected,
}

/// One row that differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The tenant; empty for what belongs to the installation.
    pub tenant: String,
    /// The table.
    pub table: &'static str,
    /// The row's primary key within the tenant.
    pub key: String,
    /// How it differs.
    pub fault: Fault,
    /// In words.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.fault {
            Fault::Altered => "altered",
            Fault::Missing => "missing",
            Fault::Unexpected => "unexpected",
        };
        let tenant = if self.tenant.is_empty() { String::new() } else { format!("{} ", self.tenant) };
        write!(f, "{tenant}{} {} {fault}: {}", self.table, self.key, self.what)
    }
}

/// A log that was read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Audited {
    /// The tenant.
    pub tenant: String,
    /// Entries that were read.
    pub entries: u64,
    /// The root of the tree over them; `None` when some were missing.
    pub root: Option<Hash>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The logs that were read.
    pub logs: Vec<Audited>,
    /// Rows that differ, in the order found, at most 10,000.
    pub differences: Vec<Difference>,
    /// Whether there were more.
    pub truncated: bool,
}

impl Report {
    /// Whether everything is as it must be.
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty()
    }

    fn add(
        &mut self,
        tenant: &str,
        table: &'static str,
        key: impl fmt::Display,
        fault: Fault,
        what: impl fmt::Display,
    ) {
        if self.differences.len() >= MAX_DIFFERENCES {
            self.truncated = true;
            return;
        }
        let (tenant, key, what) = (tenant.to_owned(), key.to_string(), what.to_string());
        self.differences.push(Difference { tenant, table, key, fault, what });
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Everything,
    Decisions,
}

/// Compares everything of `tenant`, or of every tenant.
pub async fn log_verify(
    store: &Store,
    tenant: Option<&str>,
    keys: &Arc<ServiceKeys>,
    outside: Option<&CheckpointStore>,
) -> Result<Report, StoreError> {
    verify(Part::Everything, store, tenant, keys, outside).await
}

/// Compares what is recorded of decisions only.
pub async fn decisions_verify(
    store: &Store,
    tenant: Option<&str>,
    keys: &Arc<ServiceKeys>,
) -> Result<Report, StoreError> {
    verify(Part::Decisions, store, tenant, keys, None).await
}

async fn verify(
    part: Part,
    store: &Store,
    tenant: Option<&str>,
    keys: &Arc<ServiceKeys>,
    outside: Option<&CheckpointStore>,
) -> Result<Report, StoreError> {
    let (store, keys, outside) = (store.clone(), keys.clone(), outside.cloned());
    let tenant = tenant.map(str::to_owned);
    own_task(async move {
        let db = snapshot(&store).await?;
        let mut audit = Audit { part, db, store: store.clone(), keys, outside, report: Report::default() };
        audit.all(tenant).await?;
        audit.db.rollback().await?;
        Ok(audit.report)
    })
    .await
}

/// One state of the database, for as long as it takes to read all of it.
async fn snapshot(store: &Store) -> Result<Transaction, StoreError> {
    let begin = "begin isolation level repeatable read, read only; set local enable_seqscan = on;
                 set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0";
    Ok(store.reads().begin_by(begin).await?)
}

struct Audit {
    part: Part,
    db: Transaction,
    store: Store,
    keys: Arc<ServiceKeys>,
    outside: Option<CheckpointStore>,
    report: Report,
}

/// What the leaves of one log say.
#[derive(Debug, Default)]
struct Log {
    tenant: String,
    /// Hashes of the leaves; `None` where an entry is missing.
    leaves: Vec<Option<Hash>>,
    /// Entries before this index were read.
    read_to: u64,
    /// Every key that was ever registered.
    trust: Trust,
    control: Control,
    origin: Option<String>,
    time_us: i64,
}

impl Audit {
    async fn all(&mut self, only: Option<String>) -> Result<(), StoreError> {
        if self.part == Part::Everything {
            self.tables().await?;
            self.service_keys().await?;
        }
        let tenants = match only {
            Some(tenant) => vec![tenant],
            None => self.tenants().await?,
        };
        for tenant in tenants {
            if self.part == Part::Everything {
                let log = self.log(&tenant).await?;
                self.facts(&log).await?;
            }
            self.decisions(&tenant).await?;
        }
        Ok(())
    }

    /// A table that we do not know could be read by something that we do not know.
    async fn tables(&mut self) -> Result<(), StoreError> {
        let tables: Vec<String> = sqlx::query_scalar!(
            r#"select table_name::text as "name!" from information_schema.tables
               where table_schema = current_schema() order by table_name"#
        )
        .fetch_all(&mut *self.db)
        .await?;
        for known in EVIDENCE.iter().filter(|known| !tables.iter().any(|table| table == *known)) {
            self.report.add("", known, "*", Fault::Missing, "the table is gone");
        }
        for table in tables {
            if !EVIDENCE.contains(&table.as_str()) && !NO_EVIDENCE.contains(&table.as_str()) {
                self.report.add("", "(table)", table, Fault::Unexpected, "no migration makes this table");
            }
        }
        Ok(())
    }

    /// Every tenant that any table names: one that has rows and no log must not go unseen.
    async fn tenants(&mut self) -> Result<Vec<String>, StoreError> {
        let mut tenants: Vec<String> = sqlx::query_scalar!(
            r#"select tenant as "tenant!" from log_head union select tenant from log_entry union select tenant from body
               union select tenant from log_tile union select tenant from attestation
               union select tenant from attestation_subject union select tenant from object
               union select tenant from object_child union select tenant from decision_chain
               union select tenant from decision_batch union select tenant from decision union select tenant from verdict_body"#
        )
        .fetch_all(&mut *self.db)
        .await?;
        tenants.extend(self.outside.iter().flat_map(CheckpointStore::tenants));
        tenants.sort();
        tenants.dedup();
        Ok(tenants)
    }

    async fn service_keys(&mut self) -> Result<(), StoreError> {
        let rows = sqlx::query!(
            "select purpose, generation, key_id, public from service_key order by purpose, generation"
        )
        .fetch_all(&mut *self.db)
        .await?;
        let mut expected: BTreeMap<(String, i64), (String, String)> = self
            .keys
            .rows()
            .into_iter()
            .map(|key| ((key.purpose, i64::from(key.generation)), (key.key_id, key.public)))
            .collect();
        for row in rows {
            let key = format!("{}-{}", row.purpose, row.generation);
            match expected.remove(&(row.purpose, i64::from(row.generation))) {
                None => self.report.add(
                    "",
                    "service_key",
                    key,
                    Fault::Unexpected,
                    "there is no such key in the folder",
                ),
                Some((id, public)) if id != row.key_id || public != row.public => {
                    self.report.add(
                        "",
                        "service_key",
                        key,
                        Fault::Altered,
                        "it is not the key in the folder",
                    );
                }
                Some(_) => {}
            }
        }
        for (purpose, generation) in expected.into_keys() {
            let key = format!("{purpose}-{generation}");
            self.report.add("", "service_key", key, Fault::Missing, "the key is in the folder only");
        }
        Ok(())
    }

    /// The checkpoint kept outside, if one of our keys signed it.
    fn kept_outside(&mut self, tenant: &str) -> Option<Checkpoint> {
        let bytes = match self.outside.as_ref()?.load(tenant) {
            Ok(bytes) => bytes?,
            Err(error) => {
                self.report.add(tenant, "(checkpoint outside)", tenant, Fault::Altered, error);
                return None;
            }
        };
        let text = String::from_utf8_lossy(&bytes);
        let origin = text.lines().next().unwrap_or_default();
        let known = self.keys.log_verifiers(origin).unwrap_or_default();
        match Checkpoint::open(&text, origin, &known) {
            Ok(checkpoint) => Some(checkpoint),
            Err(error) => {
                self.report.add(tenant, "(checkpoint outside)", tenant, Fault::Altered, error);
                None
            }
        }
    }

    /// The entries from `from` on, at most `limit`, in order.
    async fn page(&mut self, tenant: &str, from: u64, limit: i64) -> Result<Vec<EntryRow>, StoreError> {
        // Behind the last number that a row can have.
        let Ok(from) = i64::try_from(from) else { return Ok(Vec::new()) };
        let rows = sqlx::query!(
            "select log_index, id, kind, leaf from log_entry
             where tenant = $1 and log_index >= $2 order by log_index limit $3",
            tenant,
            from,
            limit
        )
        .fetch_all(&mut *self.db)
        .await?;
        let row = |index: i64, id: &[u8], kind, leaf| {
            let id = crate::facts::id_from(id).unwrap_or(Sha256([0; 32]));
            EntryRow { index: crate::entry::from_sql(index), id, kind, leaf }
        };
        Ok(rows.into_iter().map(|r| row(r.log_index, &r.id, r.kind, r.leaf)).collect())
    }

    /// Bodies by the id of their row, whatever their bytes are.
    async fn unchecked_bodies(
        &mut self,
        tenant: &str,
        ids: &[Vec<u8>],
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let rows = sqlx::query!("select id, bytes from body where tenant = $1 and id = any($2)", tenant, ids)
            .fetch_all(&mut *self.db)
            .await?;
        Ok(rows.into_iter().map(|row| (row.id, row.bytes)).collect())
    }
}
