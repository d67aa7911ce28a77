//! Reading decisions: lists, verdicts, whole chains.

use catenary_evidence::digest::{Digest, Sha256};
use jiff::Timestamp;
use sqlx::{Postgres, QueryBuilder, Row as _, postgres::PgRow};

use super::{Batch, Chain};
use crate::{
    Store, StoreError,
    entry::{from_sql, to_sql},
    facts::{id_from, time_from},
    pool::retry,
};

/// Which decisions a list shows. Empty: all.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    /// About this digest.
    pub digest: Option<Digest>,
    /// In this `registry/repository`.
    pub resource: Option<String>,
    /// Asked by this token.
    pub principal: Option<String>,
    /// For this environment.
    pub environment: Option<String>,
    /// Allowed or not.
    pub allowed: Option<bool>,
    /// First answered at or after.
    pub since: Option<Timestamp>,
    /// First answered before.
    pub until: Option<Timestamp>,
}

/// A place in the list: time of the first answer in microseconds, and the row's id.
pub type Cursor = (i64, Sha256);

/// Equal answers to one principal within one minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionRow {
    /// Names the row.
    pub id: Sha256,
    /// Which instance answered.
    pub instance: String,
    /// Who asked.
    pub principal: String,
    /// `registry/repository`
    pub resource: String,
    /// `sha256:…`
    pub digest: String,
    /// For which environment.
    pub environment: Option<String>,
    /// `os/architecture[/variant]`
    pub platform: Option<String>,
    /// The verdict.
    pub verdict: Sha256,
    /// `PASSED`, `FAILED`, `INDETERMINATE`
    pub outcome: String,
    /// Whether it may run.
    pub allowed: bool,
    /// Size of the log that the verdict was computed at.
    pub log_size: u64,
    /// How many answers.
    pub count: u64,
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
}

impl DecisionRow {
    /// Its place in the list.
    pub fn cursor(&self) -> Cursor {
        (self.first.as_microsecond(), self.id)
    }
}

/// A verdict that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptVerdict {
    /// Its id.
    pub id: Sha256,
    /// Size of the log that it was computed at.
    pub log_size: u64,
    /// Exactly as answered.
    pub bytes: Vec<u8>,
}

impl Store {
    /// Decisions, newest first, those behind `after`.
    pub async fn list_decisions(
        &self,
        tenant: &str,
        chosen: &Chosen,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Vec<DecisionRow>, StoreError> {
        let rows =
            retry(|| async { select(tenant, chosen, after, limit).build().fetch_all(self.reads()).await })
                .await?;
        rows.iter().map(|row| Ok(decision(row)?)).collect()
    }

    /// The bytes of a verdict that was answered.
    pub async fn verdict_body(&self, tenant: &str, id: Sha256) -> Result<Option<Vec<u8>>, StoreError> {
        retry(|| {
            sqlx::query_scalar!(
                "select bytes from verdict_body where tenant = $1 and id = $2",
                tenant,
                &id.0[..]
            )
            .fetch_optional(self.reads())
        })
        .await
    }

    /// Verdicts in the order of their log size, those behind `after`.
    pub async fn verdict_bodies(
        &self,
        tenant: &str,
        after: (u64, Sha256),
        limit: u32,
    ) -> Result<Vec<KeptVerdict>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                "select id, log_size, bytes from verdict_body
                 where tenant = $1 and (log_size, id) > ($2, $3) order by log_size, id limit $4",
                tenant,
                to_sql(after.0),
                &after.1.0[..],
                i64::from(limit)
            )
            .fetch_all(self.reads())
        })
        .await?;
        let verdict = |id: &[u8], size, bytes| KeptVerdict {
            id: id_from(id).unwrap_or(super::START),
            log_size: from_sql(size),
            bytes,
        };
        Ok(rows.into_iter().map(|row| verdict(&row.id, row.log_size, row.bytes)).collect())
    }

    /// The ends of all chains of a tenant.
    pub async fn all_decision_chains(&self, tenant: &str) -> Result<Vec<Chain>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                "select instance, number, hash, alive_us, is_open from decision_chain where tenant = $1 order by instance",
                tenant
            )
            .fetch_all(self.reads())
        })
        .await?;
        let chain = |instance, number, hash: &[u8], alive, is_open| Chain {
            tenant: tenant.to_owned(),
            instance,
            number: from_sql(number),
            hash: id_from(hash).unwrap_or(super::START),
            alive: time_from(alive),
            is_open,
        };
        Ok(rows
            .into_iter()
            .map(|row| chain(row.instance, row.number, &row.hash, row.alive_us, row.is_open))
            .collect())
    }

    /// Batches of a chain behind `after`, in order.
    pub async fn decision_batches(
        &self,
        tenant: &str,
        instance: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Batch>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                "select number, previous, time_us, records from decision_batch
                 where tenant = $1 and instance = $2 and number > $3 order by number limit $4",
                tenant,
                instance,
                to_sql(after),
                i64::from(limit)
            )
            .fetch_all(self.reads())
        })
        .await?;
        let batch = |number, previous: &[u8], time, records| Batch {
            tenant: tenant.to_owned(),
            instance: instance.to_owned(),
            number: from_sql(number),
            previous: id_from(previous).unwrap_or(super::START),
            time: time_from(time),
            records,
        };
        Ok(rows.into_iter().map(|row| batch(row.number, &row.previous, row.time_us, row.records)).collect())
    }
}

pub(crate) fn decision(row: &PgRow) -> Result<DecisionRow, sqlx::Error> {
    let id = |name| Ok::<_, sqlx::Error>(id_from(&row.try_get::<Vec<u8>, _>(name)?).unwrap_or(super::START));
    let some = |name| Ok::<_, sqlx::Error>(Some(row.try_get::<String, _>(name)?).filter(|t| !t.is_empty()));
    Ok(DecisionRow {
        id: id("id")?,
        instance: row.try_get("instance")?,
        principal: row.try_get("principal")?,
        resource: row.try_get("resource")?,
        digest: row.try_get("digest")?,
        environment: some("environment")?,
        platform: some("platform")?,
        verdict: id("verdict")?,
        outcome: row.try_get("outcome")?,
        allowed: row.try_get("allowed")?,
        log_size: from_sql(row.try_get("log_size")?),
        count: from_sql(row.try_get("count")?),
        first: time_from(row.try_get("first_us")?),
        last: time_from(row.try_get("last_us")?),
    })
}

/// Only the conditions that the choice has, so that each finds its index.
fn select(tenant: &str, chosen: &Chosen, after: Option<Cursor>, limit: u32) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(
        "select id, instance, principal, resource, digest, environment, platform, verdict, outcome, allowed, log_size,
                count, first_us, last_us from decision where tenant = ",
    );
    query.push_bind(tenant.to_owned());
    let texts = [
        (" and digest = ", chosen.digest.map(|digest| digest.to_string())),
        (" and resource = ", chosen.resource.clone()),
        (" and principal = ", chosen.principal.clone()),
        (" and environment = ", chosen.environment.clone()),
    ];
    for (condition, text) in texts {
        // A NUL is in no column, and Postgres does not take one.
        if let Some(text) = text {
            query.push(condition).push_bind(text.replace('\0', "\u{fffd}"));
        }
    }
    if let Some(allowed) = chosen.allowed {
        query.push(" and allowed = ").push_bind(allowed);
    }
    if let Some(since) = chosen.since {
        query.push(" and first_us >= ").push_bind(since.as_microsecond());
    }
    if let Some(until) = chosen.until {
        query.push(" and first_us < ").push_bind(until.as_microsecond());
    }
    if let Some((time, id)) = after {
        query.push(" and (first_us, id) < (").push_bind(time).push(", ").push_bind(id.0.to_vec()).push(")");
    }
    query.push(" order by first_us desc, id desc limit ").push_bind(i64::from(limit));
    query
}
