//! `log reindex`: rows of facts and their index rows are written anew from the signed bytes, for databases that an earlier build
//! filled and whose facts had another form.
//!
//! What `log verify` compares facts with must be whole first: entries, bodies, tiles, heads. Where it is not, nothing is written.

use std::{collections::BTreeMap, num::NonZero, sync::Arc, thread::available_parallelism};

use catenary_evidence::{
    Signature,
    attestation::Attestation,
    digest::{Node, Sha256},
    object,
};
use catenary_tlog::{Leaf, leaf::kind};
use serde::Serialize;

use super::{
    Audit, Difference, Fault, Log, Part, Report,
    facts::{PAGE, expected, of_kind, pending},
    snapshot,
};
use crate::{
    EntryRow, Store, StoreError,
    append::FactRows,
    checkpoints::CheckpointStore,
    derive::blocking,
    keys::ServiceKeys,
    limit::{in_time, own_task},
};

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reindexed {
    /// One for each log.
    pub logs: Vec<ReindexedLog>,
    /// Why a log was left as it is, or a row could not be written.
    pub refused: Vec<Difference>,
}

/// What was done in one log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReindexedLog {
    /// The tenant.
    pub tenant: String,
    /// Attestations whose rows were written.
    pub attestations: u64,
    /// Objects whose rows were written.
    pub objects: u64,
    /// Rows that no entry accounts for, and which were removed.
    pub removed: u64,
}

/// Writes every row of facts of `tenant`, or of every tenant, anew.
pub async fn reindex(
    store: &Store,
    tenant: Option<&str>,
    keys: &Arc<ServiceKeys>,
    outside: Option<&CheckpointStore>,
) -> Result<Reindexed, StoreError> {
    let (store, keys, outside) = (store.clone(), keys.clone(), outside.cloned());
    let tenant = tenant.map(str::to_owned);
    own_task(async move {
        let db = snapshot(&store).await?;
        let mut audit = Audit {
            part: Part::Everything,
            db,
            store: store.clone(),
            keys,
            outside,
            report: Report::default(),
        };
        let tenants = match tenant {
            Some(tenant) => vec![tenant],
            None => audit.tenants().await?,
        };
        let mut done = Reindexed::default();
        for tenant in tenants {
            let log = audit.log(&tenant).await?;
            if audit.report.is_clean() {
                done.logs.push(audit.reindex_log(&log).await?);
            }
            done.refused.append(&mut audit.report.differences);
        }
        audit.db.rollback().await?;
        Ok(done)
    })
    .await
}

impl Audit {
    async fn reindex_log(&mut self, log: &Log) -> Result<ReindexedLog, StoreError> {
        let mut done = ReindexedLog { tenant: log.tenant.clone(), ..ReindexedLog::default() };
        let mut from = 0;
        loop {
            let entries = self.page(&log.tenant, from, PAGE).await?;
            let Some(last) = entries.last() else { break };
            from = last.index + 1;
            let mut rows = FactRows::default();
            self.reindex_attestations(log, &entries, &mut rows).await?;
            self.reindex_objects(log, &entries, &mut rows).await?;
            done.attestations += rows.attestations();
            done.objects += rows.objects();
            replace(&self.store, &log.tenant, rows).await?;
        }
        done.removed = forget_strangers(&self.store, &log.tenant).await?;
        Ok(done)
    }

    async fn reindex_attestations(
        &mut self,
        log: &Log,
        entries: &[EntryRow],
        rows: &mut FactRows,
    ) -> Result<(), StoreError> {
        let items = self.bytes_of(log, entries, kind::ATTESTATION).await?;
        let ids: Vec<Vec<u8>> = items.iter().map(|(entry, ..)| entry.id.0.to_vec()).collect();
        let mut stored = self.attestation_rows(&log.tenant, &ids).await?;
        let mut found = Vec::with_capacity(items.len());
        let mut work = Vec::with_capacity(items.len());
        for (entry, leaf, bytes) in items {
            // What vouches for it in the row already goes on doing so while the addition is pending.
            let row = stored.remove(&entry.id.0[..]);
            let facts = row.and_then(|row| row.open(&log.tenant, self.store.seal()));
            work.push((bytes, facts.map(|facts| facts.signatures).unwrap_or_default()));
            found.push((entry, leaf));
        }
        for ((entry, leaf), facts) in found.into_iter().zip(verified(log, work).await?) {
            match facts {
                Ok(facts) => rows.attestation(&log.tenant, &facts, entry.index, leaf.time, self.store.seal()),
                Err(what) => self.report.add(&log.tenant, "attestation", entry.id, Fault::Altered, what),
            }
        }
        Ok(())
    }

    async fn reindex_objects(
        &mut self,
        log: &Log,
        entries: &[EntryRow],
        rows: &mut FactRows,
    ) -> Result<(), StoreError> {
        for (entry, leaf, bytes) in self.bytes_of(log, entries, kind::OBJECT).await? {
            let media_type = leaf.extra.get("mediaType").cloned().unwrap_or_default();
            let node = leaf.extra.get("node").and_then(|node| node.parse::<Node>().ok());
            let (trust, sent) = (log.trust.clone(), media_type.clone());
            match blocking(move || object::read(&sent, &bytes, &trust, node)).await? {
                Ok(facts) => {
                    rows.object(&log.tenant, &facts, &media_type, entry.index, leaf.time, self.store.seal());
                }
                Err(refusal) => {
                    let what = format!("its bytes are refused: {refusal}");
                    self.report.add(&log.tenant, "object", entry.id, Fault::Altered, what);
                }
            }
        }
        Ok(())
    }

    /// The entries of one kind whose bytes are what their leaf says. Bytes that were erased leave their rows as they are.
    async fn bytes_of<'e>(
        &mut self,
        log: &Log,
        entries: &'e [EntryRow],
        wanted: &str,
    ) -> Result<Vec<(&'e EntryRow, Leaf, Vec<u8>)>, StoreError> {
        let entries = of_kind(entries, wanted);
        let ids: Vec<Vec<u8>> = entries.iter().map(|(row, _)| row.id.0.to_vec()).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut bodies: BTreeMap<Vec<u8>, Vec<u8>> = self.unchecked_bodies(&log.tenant, &ids).await?;
        let whole = |(row, leaf): (&'e EntryRow, Leaf)| {
            let bytes = bodies.remove(&row.id.0[..]).filter(|bytes| Sha256::of(bytes) == row.id)?;
            Some((row, leaf, bytes))
        };
        Ok(entries.into_iter().filter_map(whole).collect())
    }
}

/// The facts of bytes, of which the row has these signatures, in order: on every core, as nobody else has work.
async fn verified(
    log: &Log,
    mut work: Vec<(Vec<u8>, Vec<Signature>)>,
) -> Result<Vec<Result<Attestation, String>>, StoreError> {
    let cores = available_parallelism().map_or(1, NonZero::get);
    let share = work.len().div_ceil(cores).max(1);
    let mut parts = Vec::with_capacity(cores);
    while !work.is_empty() {
        let part: Vec<_> = work.drain(..share.min(work.len())).collect();
        let (trust, waits) = (log.trust.clone(), pending(log));
        let facts =
            move |(bytes, stored): &(Vec<u8>, Vec<Signature>)| expected(bytes, &trust, &waits, stored);
        parts.push(tokio::spawn(blocking(move || part.iter().map(facts).collect::<Vec<_>>())));
    }
    let mut all = Vec::new();
    for part in parts {
        all.extend(part.await.map_err(|error| StoreError::Unavailable(error.to_string()))??);
    }
    Ok(all)
}

async fn replace(store: &Store, tenant: &str, rows: FactRows) -> Result<(), StoreError> {
    let (pool, tenant) = (store.writes().clone(), tenant.to_owned());
    own_task(in_time(async move {
        let mut transaction = pool.begin().await?;
        rows.replace(&mut transaction, &tenant).await?;
        Ok(transaction.commit().await?)
    }))
    .await
}

/// Removes rows that no entry accounts for.
async fn forget_strangers(store: &Store, tenant: &str) -> Result<u64, StoreError> {
    let (pool, tenant) = (store.writes().clone(), tenant.to_owned());
    own_task(in_time(async move {
        let mut transaction = pool.begin().await?;
        let mut removed = 0;
        macro_rules! forget {
            ($statement:literal) => {
                let done = sqlx::query!($statement, tenant).execute(&mut *transaction).await?;
                removed += done.rows_affected();
            };
        }
        forget!(
            "delete from attestation a where a.tenant = $1 and not exists
                 (select 1 from log_entry e where e.tenant = a.tenant and e.id = a.id and e.kind = 'attestation')"
        );
        forget!(
            "delete from object o where o.tenant = $1 and not exists
                 (select 1 from log_entry e where e.tenant = o.tenant and e.id = o.id and e.kind = 'object')"
        );
        forget!(
            "delete from attestation_subject s where s.tenant = $1 and not exists
                 (select 1 from attestation a where a.tenant = s.tenant and a.id = s.id and a.log_index = s.log_index)"
        );
        forget!(
            "delete from mention m where m.tenant = $1 and not exists
                 (select 1 from attestation a where a.tenant = m.tenant and a.id = m.id)"
        );
        forget!(
            "delete from object_child c where c.tenant = $1 and not exists
                 (select 1 from object o where o.tenant = c.tenant and o.node = c.parent)"
        );
        transaction.commit().await?;
        Ok(removed)
    }))
    .await
}
