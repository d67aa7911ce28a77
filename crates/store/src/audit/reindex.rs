//! `log reindex`: rows of facts and their index rows are written anew from the signed bytes, for databases that an earlier build
//! filled and whose facts had another form.
//!
//! What `log verify` compares facts with must be whole first: entries, bodies, tiles, heads. Where it is not, nothing is written.

use std::{collections::BTreeMap, sync::Arc};

use catenary_evidence::{
    attestation::Attestation,
    digest::{Node, Sha256},
    object::{self, Object},
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
    append::{insert_attestations, insert_children, insert_objects, insert_subjects},
    checkpoints::CheckpointStore,
    derive::blocking,
    facts::{AttestationRecord, ObjectRecord, children, subject_rows},
    keys::ServiceKeys,
    limit::in_time,
    mention,
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
    // In a task of its own, as every transaction: see the pool's `after_release`.
    let work = tokio::spawn(async move {
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
    });
    work.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
}

impl Audit {
    async fn reindex_log(&mut self, log: &Log) -> Result<ReindexedLog, StoreError> {
        let mut done = ReindexedLog { tenant: log.tenant.clone(), ..ReindexedLog::default() };
        let mut from = 0;
        loop {
            let entries = self.page(&log.tenant, from, PAGE).await?;
            let Some(last) = entries.last() else { break };
            from = last.index + 1;
            done.attestations += self.reindex_attestations(log, &entries).await?;
            done.objects += self.reindex_objects(log, &entries).await?;
        }
        done.removed = forget_strangers(&self.store, &log.tenant).await?;
        Ok(done)
    }

    async fn reindex_attestations(&mut self, log: &Log, entries: &[EntryRow]) -> Result<u64, StoreError> {
        let (tenant, mut rows) = (log.tenant.clone(), Vec::new());
        for (entry, leaf, bytes) in self.bytes_of(log, entries, kind::ATTESTATION).await? {
            let stored = self.stored(&tenant, entry.id).await?;
            // What vouches for it in the row already goes on doing so while the addition is pending.
            let signatures = stored.map(|facts| facts.signatures).unwrap_or_default();
            let (trust, waits) = (log.trust.clone(), pending(log));
            match blocking(move || expected(&bytes, &trust, &waits, &signatures)).await? {
                Ok(facts) => rows.push((facts, entry.index, leaf.time)),
                Err(what) => self.report.add(&tenant, "attestation", entry.id, Fault::Altered, what),
            }
        }
        if rows.is_empty() {
            return Ok(0);
        }
        let seal = self.store.seal();
        let record = |(facts, index, time): &(Attestation, u64, jiff::Timestamp)| {
            AttestationRecord::new(&tenant, facts, *index, *time, seal)
        };
        let records: Vec<AttestationRecord> = rows.iter().map(record).collect();
        let subjects: Vec<_> = rows
            .iter()
            .flat_map(|(facts, index, _)| subject_rows(facts).into_iter().map(|row| (row, *index, facts.id)))
            .collect();
        let mentions: Vec<_> =
            rows.iter().flat_map(|(facts, index, _)| mention::rows(facts, *index)).collect();
        let ids: Vec<Vec<u8>> = rows.iter().map(|(facts, ..)| facts.id.0.to_vec()).collect();
        let (pool, written) = (self.store.writes().clone(), rows.len() as u64);
        let task = tokio::spawn(in_time(async move {
            let mut transaction = pool.begin().await?;
            sqlx::query!("delete from attestation_subject where tenant = $1 and id = any($2)", tenant, &ids)
                .execute(&mut *transaction)
                .await?;
            sqlx::query!("delete from mention where tenant = $1 and id = any($2)", tenant, &ids)
                .execute(&mut *transaction)
                .await?;
            insert_attestations(&mut transaction, &tenant, &records).await?;
            insert_subjects(&mut transaction, &tenant, &subjects).await?;
            mention::insert(&mut transaction, &tenant, &mentions).await?;
            transaction.commit().await
        }));
        task.await.map_err(|error| StoreError::Unavailable(error.to_string()))??;
        Ok(written)
    }

    async fn reindex_objects(&mut self, log: &Log, entries: &[EntryRow]) -> Result<u64, StoreError> {
        let (tenant, mut rows): (_, Vec<(Object, String, u64, jiff::Timestamp)>) =
            (log.tenant.clone(), Vec::new());
        for (entry, leaf, bytes) in self.bytes_of(log, entries, kind::OBJECT).await? {
            let media_type = leaf.extra.get("mediaType").cloned().unwrap_or_default();
            let node = leaf.extra.get("node").and_then(|node| node.parse::<Node>().ok());
            let (trust, sent) = (log.trust.clone(), media_type.clone());
            match blocking(move || object::read(&sent, &bytes, &trust, node)).await? {
                Ok(facts) => rows.push((facts, media_type, entry.index, leaf.time)),
                Err(refusal) => {
                    let what = format!("its bytes are refused: {refusal}");
                    self.report.add(&tenant, "object", entry.id, Fault::Altered, what);
                }
            }
        }
        if rows.is_empty() {
            return Ok(0);
        }
        let seal = self.store.seal();
        let record = |(facts, media_type, index, time): &(Object, String, u64, jiff::Timestamp)| {
            ObjectRecord::new(&tenant, facts, media_type, *index, *time, seal)
        };
        let records: Vec<ObjectRecord> = rows.iter().map(record).collect();
        let named = |(facts, _, index, _): &(Object, String, u64, jiff::Timestamp)| {
            let (parent, index) = (facts.node.to_string(), *index);
            children(facts).into_iter().map(move |child| (child, parent.clone(), index)).collect::<Vec<_>>()
        };
        let named: Vec<_> = rows.iter().flat_map(named).collect();
        let nodes: Vec<String> = rows.iter().map(|(facts, ..)| facts.node.to_string()).collect();
        let ids: Vec<Vec<u8>> = rows.iter().map(|(facts, ..)| facts.id.0.to_vec()).collect();
        let (pool, written) = (self.store.writes().clone(), rows.len() as u64);
        let task = tokio::spawn(in_time(async move {
            let mut transaction = pool.begin().await?;
            sqlx::query!("delete from object_child where tenant = $1 and parent = any($2)", tenant, &nodes)
                .execute(&mut *transaction)
                .await?;
            sqlx::query!("delete from object where tenant = $1 and id = any($2)", tenant, &ids)
                .execute(&mut *transaction)
                .await?;
            insert_objects(&mut transaction, &tenant, &records).await?;
            insert_children(&mut transaction, &tenant, &named).await?;
            transaction.commit().await
        }));
        task.await.map_err(|error| StoreError::Unavailable(error.to_string()))??;
        Ok(written)
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

    /// The facts of a row that this build can read.
    async fn stored(&mut self, tenant: &str, id: Sha256) -> Result<Option<Attestation>, StoreError> {
        let row = sqlx::query_as!(
            AttestationRecord,
            "select id, log_index, time_us, verified, predicate_type, builder, source_repository, source_commit,
                    resource, facts, mac_key, mac
             from attestation where tenant = $1 and id = $2",
            tenant,
            &id.0[..]
        )
        .fetch_optional(&mut *self.db)
        .await?;
        Ok(row.and_then(|row| row.open(tenant, self.store.seal())))
    }
}

/// Removes rows that no entry accounts for.
async fn forget_strangers(store: &Store, tenant: &str) -> Result<u64, StoreError> {
    let (pool, tenant) = (store.writes().clone(), tenant.to_owned());
    let task = tokio::spawn(in_time(async move {
        let mut transaction = pool.begin().await?;
        let mut removed = 0;
        removed += sqlx::query!(
            "delete from attestation a where a.tenant = $1 and not exists
                 (select 1 from log_entry e where e.tenant = a.tenant and e.id = a.id and e.kind = 'attestation')",
            tenant
        )
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        removed += sqlx::query!(
            "delete from object o where o.tenant = $1 and not exists
                 (select 1 from log_entry e where e.tenant = o.tenant and e.id = o.id and e.kind = 'object')",
            tenant
        )
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        removed += sqlx::query!(
            "delete from attestation_subject s where s.tenant = $1 and not exists
                 (select 1 from attestation a where a.tenant = s.tenant and a.id = s.id)",
            tenant
        )
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        removed += sqlx::query!(
            "delete from mention m where m.tenant = $1 and not exists
                 (select 1 from attestation a where a.tenant = m.tenant and a.id = m.id)",
            tenant
        )
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        removed += sqlx::query!(
            "delete from object_child c where c.tenant = $1 and not exists
                 (select 1 from object o where o.tenant = c.tenant and o.node = c.parent)",
            tenant
        )
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        transaction.commit().await?;
        Ok::<_, sqlx::Error>(removed)
    }));
    Ok(task.await.map_err(|error| StoreError::Unavailable(error.to_string()))??)
}
