//! Writing batches: one transaction for all tenants of an instance.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use catenary_evidence::digest::Sha256;
use jiff::Timestamp;
use sqlx::PgConnection;
use thiserror::Error;

use super::{Batch, Chain, Decision, Record, lines};
use crate::{
    SealKeys, Store, StoreError,
    entry::{from_sql, to_sql},
    facts::{id_from, time_from},
    failpoint::hit,
    limit::{in_time, own_task},
    pool::{Lender, retry},
};

/// A batch that is to be written behind the end of its chain.
#[derive(Debug)]
pub struct NewBatch {
    batch: Batch,
    end: Chain,
    records: Vec<Record>,
    verdicts: Vec<KeptBytes>,
}

/// The bytes of a verdict, with its id and the log size that it was computed at.
pub type KeptBytes = (Sha256, u64, Bytes);

impl NewBatch {
    /// The next batch of `chain`, closed at `time`; `stays_open` when the instance goes on afterwards.
    pub fn new(
        chain: &Chain,
        time: Timestamp,
        records: Vec<Record>,
        verdicts: Vec<KeptBytes>,
        stays_open: bool,
    ) -> Self {
        let batch = Batch {
            tenant: chain.tenant.clone(),
            instance: chain.instance.clone(),
            number: chain.number + 1,
            previous: chain.hash,
            time,
            records: lines(&records),
        };
        let (number, hash) = (batch.number, batch.hash());
        let end = Chain { number, hash, alive: time, is_open: stays_open, ..chain.clone() };
        Self { batch, end, records, verdicts }
    }

    /// The chain's end once this is written.
    pub fn end(&self) -> &Chain {
        &self.end
    }

    /// What it records.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The verdicts whose bytes it keeps.
    pub fn verdicts(&self) -> &[KeptBytes] {
        &self.verdicts
    }
}

/// Why nothing was recorded.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The end of a chain is not where this instance left it.
    #[error("the end of a chain of decisions is not as this instance wrote it")]
    Moved,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for RecordError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Store {
    /// Writes batches, at most one a chain, in one transaction. Whether an error left them written can be
    /// asked of [`Store::decision_chains`].
    pub async fn record_decisions(&self, batches: Arc<Vec<NewBatch>>) -> Result<(), RecordError> {
        let (pool, seal) = (self.writes().clone(), self.seal().clone());
        own_task(async move { in_time(write(&pool, &seal, &batches)).await }).await
    }

    /// Notes that everything answered before `chain.alive` is recorded.
    pub async fn keep_alive(&self, chain: &Chain) -> Result<(), StoreError> {
        let (key, mac) = chain.seal(self.seal());
        let update = sqlx::query!(
            "update decision_chain set alive_us = $4, mac_key = $5, mac = $6
             where tenant = $1 and instance = $2 and number = $3",
            chain.tenant,
            chain.instance,
            to_sql(chain.number),
            chain.alive.as_microsecond(),
            key as i32,
            mac
        );
        in_time(update.execute(self.writes())).await?;
        Ok(())
    }

    /// The ends of an instance's chains for these tenants. One whose seal is broken is named as an alarm, and
    /// still given: the next batch says that it was changed.
    pub async fn decision_chains(
        &self,
        tenants: &[String],
        instance: &str,
    ) -> Result<Vec<Chain>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                "select tenant, number, hash, alive_us, is_open, mac_key, mac from decision_chain
             where tenant = any($1) and instance = $2 order by tenant",
                tenants,
                instance
            )
            .fetch_all(self.reads())
        })
        .await?;
        let mut chains = Vec::new();
        for row in rows {
            let chain = Chain {
                tenant: row.tenant,
                instance: instance.to_owned(),
                number: from_sql(row.number),
                hash: id_from(&row.hash).unwrap_or(super::START),
                alive: time_from(row.alive_us),
                is_open: row.is_open,
            };
            if !chain.is_sealed(self.seal(), row.mac_key, &row.mac) {
                self.alarm(&chain.tenant, "decision_chain", instance, "the seal is broken");
            }
            chains.push(chain);
        }
        Ok(chains)
    }
}

/// 1. new chains; 2. their ends, as they were left; 3. batches; 4. rows; 5. verdicts.
async fn write(pool: &Lender, seal: &SealKeys, batches: &[NewBatch]) -> Result<(), RecordError> {
    let mut transaction = pool.begin().await?;
    begin_chains(&mut transaction, batches).await?;
    if move_ends(&mut transaction, seal, batches).await? != batches.len() as u64 {
        transaction.rollback().await?;
        return Err(RecordError::Moved);
    }
    insert_batches(&mut transaction, seal, batches).await?;
    insert_rows(&mut transaction, batches).await?;
    insert_verdicts(&mut transaction, batches).await?;
    hit("decisions.before_commit").map_err(StoreError::from)?;
    transaction.commit().await?;
    Ok(())
}

async fn begin_chains(db: &mut PgConnection, batches: &[NewBatch]) -> Result<(), sqlx::Error> {
    let new: Vec<&Chain> = batches.iter().map(NewBatch::end).filter(|end| end.number == 1).collect();
    if new.is_empty() {
        return Ok(());
    }
    // The seal comes with the end, in the same transaction.
    sqlx::query!(
        "insert into decision_chain (tenant, instance, number, hash, alive_us, is_open, mac_key, mac)
         select c.tenant, c.instance, 0, $3, 0, true, 0, '' from unnest($1::text[], $2::text[]) as c(tenant, instance)
         on conflict (tenant, instance) do nothing",
        &new.iter().map(|c| c.tenant.clone()).collect::<Vec<_>>(),
        &new.iter().map(|c| c.instance.clone()).collect::<Vec<_>>(),
        &super::START.0[..]
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Moves each end on from where this instance left it; how many were there.
async fn move_ends(db: &mut PgConnection, seal: &SealKeys, batches: &[NewBatch]) -> Result<u64, sqlx::Error> {
    let (keys, macs): (Vec<i32>, Vec<Vec<u8>>) =
        batches.iter().map(|new| new.end.seal(seal)).map(|(key, mac)| (key as i32, mac)).unzip();
    let moved = sqlx::query!(
        "update decision_chain c
         set number = n.number, hash = n.hash, alive_us = n.alive_us, is_open = n.is_open, mac_key = n.mac_key, mac = n.mac
         from unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bigint[], $7::boolean[],
                     $8::integer[], $9::bytea[])
              as n(tenant, instance, number, previous, hash, alive_us, is_open, mac_key, mac)
         where c.tenant = n.tenant and c.instance = n.instance and c.number = n.number - 1 and c.hash = n.previous",
        &batches.iter().map(|new| new.batch.tenant.clone()).collect::<Vec<_>>(),
        &batches.iter().map(|new| new.batch.instance.clone()).collect::<Vec<_>>(),
        &batches.iter().map(|new| to_sql(new.batch.number)).collect::<Vec<_>>(),
        &batches.iter().map(|new| new.batch.previous.0.to_vec()).collect::<Vec<_>>(),
        &batches.iter().map(|new| new.end.hash.0.to_vec()).collect::<Vec<_>>(),
        &batches.iter().map(|new| new.end.alive.as_microsecond()).collect::<Vec<_>>(),
        &batches.iter().map(|new| new.end.is_open).collect::<Vec<_>>(),
        &keys,
        &macs
    )
    .execute(db)
    .await?;
    Ok(moved.rows_affected())
}

async fn insert_batches(
    db: &mut PgConnection,
    seal: &SealKeys,
    batches: &[NewBatch],
) -> Result<(), sqlx::Error> {
    let (keys, macs): (Vec<i32>, Vec<Vec<u8>>) =
        batches.iter().map(|new| new.batch.seal(seal)).map(|(key, mac)| (key as i32, mac)).unzip();
    sqlx::query!(
        "insert into decision_batch (tenant, instance, number, previous, hash, time_us, records, mac_key, mac)
         select n.* from unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bigint[], $7::bytea[],
                                $8::integer[], $9::bytea[])
              as n(tenant, instance, number, previous, hash, time_us, records, mac_key, mac)",
        &batches.iter().map(|new| new.batch.tenant.clone()).collect::<Vec<_>>(),
        &batches.iter().map(|new| new.batch.instance.clone()).collect::<Vec<_>>(),
        &batches.iter().map(|new| to_sql(new.batch.number)).collect::<Vec<_>>(),
        &batches.iter().map(|new| new.batch.previous.0.to_vec()).collect::<Vec<_>>(),
        &batches.iter().map(|new| new.end.hash.0.to_vec()).collect::<Vec<_>>(),
        &batches.iter().map(|new| new.batch.time.as_microsecond()).collect::<Vec<_>>(),
        &batches.iter().map(|new| new.batch.records.clone()).collect::<Vec<_>>(),
        &keys,
        &macs
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A row of `decision`, with sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) instance: String,
    pub(crate) decision: Decision,
}

impl Row {
    /// Adds a record that counts for the same row.
    pub(crate) fn add(&mut self, other: &Decision) {
        self.decision.count += other.count;
        self.decision.first = self.decision.first.min(other.first);
        self.decision.last = self.decision.last.max(other.last);
    }
}

/// The rows that records of a chain add up to.
pub(crate) fn add_rows(
    rows: &mut BTreeMap<Sha256, Row>,
    instance: &str,
    records: impl IntoIterator<Item = Record>,
) {
    for record in records {
        let Record::Decision(decision) = record else { continue };
        match rows.entry(decision.id(instance)) {
            std::collections::btree_map::Entry::Occupied(mut row) => row.get_mut().add(&decision),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(Row { instance: instance.to_owned(), decision: *decision });
            }
        }
    }
}

async fn insert_rows(db: &mut PgConnection, batches: &[NewBatch]) -> Result<(), sqlx::Error> {
    let mut tenants: Vec<String> = Vec::new();
    let mut rows: Vec<(Sha256, Row)> = Vec::new();
    for new in batches {
        let mut own = BTreeMap::new();
        add_rows(&mut own, &new.end.instance, new.records.iter().cloned());
        tenants.extend(own.iter().map(|_| new.end.tenant.clone()));
        rows.extend(own);
    }
    if rows.is_empty() {
        return Ok(());
    }
    let text = |of: fn(&Row) -> String| rows.iter().map(|(_, row)| of(row)).collect::<Vec<_>>();
    let number = |of: fn(&Decision) -> i64| rows.iter().map(|(_, row)| of(&row.decision)).collect::<Vec<_>>();
    sqlx::query!(
        "insert into decision (tenant, id, instance, principal, resource, digest, environment, platform, verdict, outcome,
                               allowed, log_size, count, first_us, last_us)
         select n.* from unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                                $8::text[], $9::bytea[], $10::text[], $11::boolean[], $12::bigint[], $13::bigint[],
                                $14::bigint[], $15::bigint[])
              as n(tenant, id, instance, principal, resource, digest, environment, platform, verdict, outcome,
                   allowed, log_size, count, first_us, last_us)
         on conflict (tenant, id) do update set
             count = decision.count + excluded.count, first_us = least(decision.first_us, excluded.first_us),
             last_us = greatest(decision.last_us, excluded.last_us)",
        &tenants,
        &rows.iter().map(|(id, _)| id.0.to_vec()).collect::<Vec<_>>(),
        &text(|row| row.instance.clone()),
        &text(|row| row.decision.principal.clone()),
        &text(|row| row.decision.resource.clone()),
        &text(|row| row.decision.digest.clone()),
        &text(|row| row.decision.environment.clone().unwrap_or_default()),
        &text(|row| row.decision.platform.clone().unwrap_or_default()),
        &rows.iter().map(|(_, row)| row.decision.verdict.0.to_vec()).collect::<Vec<_>>(),
        &text(|row| row.decision.outcome.clone()),
        &rows.iter().map(|(_, row)| row.decision.allowed).collect::<Vec<_>>(),
        &number(|d| to_sql(d.size)),
        &number(|d| to_sql(d.count)),
        &number(|d| d.first.as_microsecond()),
        &number(|d| d.last.as_microsecond())
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn insert_verdicts(db: &mut PgConnection, batches: &[NewBatch]) -> Result<(), sqlx::Error> {
    let mut verdicts: BTreeMap<(&str, Sha256), (u64, &[u8])> = BTreeMap::new();
    for new in batches {
        let own = new.verdicts.iter();
        verdicts.extend(own.map(|(id, size, bytes)| ((new.end.tenant.as_str(), *id), (*size, &bytes[..]))));
    }
    if verdicts.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into verdict_body (tenant, id, log_size, bytes)
         select n.* from unnest($1::text[], $2::bytea[], $3::bigint[], $4::bytea[]) as n(tenant, id, log_size, bytes)
         on conflict (tenant, id) do nothing",
        &verdicts.keys().map(|(tenant, _)| (*tenant).to_owned()).collect::<Vec<_>>(),
        &verdicts.keys().map(|(_, id)| id.0.to_vec()).collect::<Vec<_>>(),
        &verdicts.values().map(|(size, _)| to_sql(*size)).collect::<Vec<_>>(),
        &verdicts.values().map(|(_, bytes)| *bytes).collect::<Vec<_>>() as &[&[u8]]
    )
    .execute(db)
    .await?;
    Ok(())
}
