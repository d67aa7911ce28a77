//! Events beside the log: what happened, written in the transaction that made it happen.
//!
//! Entries of the log are events by themselves and are read from there. The rows here are numbered without a gap, in the order of
//! their commits, because whoever numbers holds the tenant's `event_head` until its transaction ends.

use serde_json::Value;
use sqlx::PgConnection;

use crate::{
    Store, StoreError,
    entry::{from_sql, to_sql},
    facts::time_from,
    limit::{in_time, own_task},
    pool::retry,
};

/// An event to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// For example `verdict.changed`.
    pub kind: String,
    /// What it is about, for example an image.
    pub subject: String,
    /// How many entries of the log it takes into account.
    pub log_size: u64,
    /// The rest.
    pub data: Value,
}

/// An event as it was told.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// 1, 2, 3 … per tenant.
    pub seq: u64,
    /// When it was written.
    pub time: jiff::Timestamp,
    /// As [`NewEvent::kind`].
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// How many entries of the log it takes into account.
    pub log_size: u64,
    /// The rest.
    pub data: Value,
}

/// Writes events in the caller's transaction, as the last thing that it does: nobody else of the tenant can write one until it ends.
/// Gives the number of the first.
pub(crate) async fn append(
    db: &mut PgConnection,
    tenant: &str,
    events: &[NewEvent],
) -> Result<u64, sqlx::Error> {
    let count = to_sql(events.len() as u64);
    if count == 0 {
        return Ok(0);
    }
    let last = sqlx::query_scalar!(
        "insert into event_head (tenant, seq) values ($1, $2)
         on conflict (tenant) do update set seq = event_head.seq + excluded.seq
         returning seq",
        tenant,
        count
    )
    .fetch_one(&mut *db)
    .await?;
    let first = last - count + 1;
    let text = |of: fn(&NewEvent) -> String| events.iter().map(of).collect::<Vec<String>>();
    sqlx::query!(
        "insert into event (tenant, seq, time_us, type, subject, log_size, data)
         select $1, $2 + i.n - 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint,
                i.type, i.subject, i.log_size, i.data
         from unnest($3::text[], $4::text[], $5::bigint[], $6::text[])
              with ordinality as i(type, subject, log_size, data, n)",
        tenant,
        first,
        &text(|event| event.kind.clone()),
        &text(|event| event.subject.replace('\0', "\u{fffd}")),
        &events.iter().map(|event| to_sql(event.log_size)).collect::<Vec<_>>(),
        &text(|event| event.data.to_string()),
    )
    .execute(db)
    .await?;
    Ok(from_sql(first))
}

impl Store {
    /// The number of each tenant's newest event; tenants without one are not there.
    pub async fn event_heads(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let rows =
            retry(|| sqlx::query!("select tenant, seq from event_head").fetch_all(self.reads())).await?;
        Ok(rows.into_iter().map(|row| (row.tenant, from_sql(row.seq))).collect())
    }

    /// The number of the tenant's newest event, 0 before the first.
    pub async fn event_head(&self, tenant: &str) -> Result<u64, StoreError> {
        let seq = retry(|| {
            sqlx::query_scalar!("select seq from event_head where tenant = $1", tenant)
                .fetch_optional(self.reads())
        })
        .await?;
        Ok(seq.map_or(0, from_sql))
    }

    /// Writes one event that nothing else goes with.
    pub async fn tell(&self, tenant: &str, event: NewEvent) -> Result<(), StoreError> {
        let (pool, tenant) = (self.writes().clone(), tenant.to_owned());
        own_task(in_time(async move {
            let mut transaction = pool.begin().await?;
            append(&mut transaction, &tenant, &[event]).await?;
            Ok(transaction.commit().await?)
        }))
        .await
    }

    /// How many of the tenant's first events were removed.
    pub async fn events_removed(&self, tenant: &str) -> Result<u64, StoreError> {
        let removed = retry(|| {
            sqlx::query_scalar!("select removed from event_head where tenant = $1", tenant)
                .fetch_optional(self.reads())
        })
        .await?;
        Ok(removed.map_or(0, from_sql))
    }

    /// Removes the tenant's first events that were told before `before`, at most `most`. Gives how many were.
    pub async fn remove_events(
        &self,
        tenant: &str,
        before: jiff::Timestamp,
        most: u32,
    ) -> Result<u64, StoreError> {
        let (pool, tenant) = (self.writes().clone(), tenant.to_owned());
        own_task(in_time(async move {
            let first = sqlx::query!(
                "select seq, time_us from event where tenant = $1 order by seq limit $2",
                tenant,
                i64::from(most)
            )
            .fetch_all(&pool)
            .await?;
            let before = before.as_microsecond();
            // Only from the beginning on: what is left has no gap, also where the database's clock was set back.
            let old: Vec<i64> =
                first.iter().take_while(|row| row.time_us < before).map(|row| row.seq).collect();
            let Some(last) = old.last().copied() else { return Ok(0) };
            let mut transaction = pool.begin().await?;
            sqlx::query!("delete from event where tenant = $1 and seq <= $2", tenant, last)
                .execute(&mut *transaction)
                .await?;
            sqlx::query!(
                "update event_head set removed = greatest(removed, $2) where tenant = $1",
                tenant,
                last
            )
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(old.len() as u64)
        }))
        .await
    }

    /// Events after number `after`, oldest first.
    pub async fn events(&self, tenant: &str, after: u64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                r#"select seq, time_us, type as kind, subject, log_size, data from event
                   where tenant = $1 and seq > $2 order by seq limit $3"#,
                tenant,
                to_sql(after),
                i64::from(limit)
            )
            .fetch_all(self.reads())
        })
        .await?;
        let read = |text: &str| serde_json::from_str(text).unwrap_or_default();
        let rows = rows.into_iter().map(|row| EventRow {
            seq: from_sql(row.seq),
            time: time_from(row.time_us),
            kind: row.kind,
            subject: row.subject,
            log_size: from_sql(row.log_size),
            data: read(&row.data),
        });
        Ok(rows.collect())
    }

    /// The nodes that attestations are about, at most `each` of one, by the index of the entry.
    pub async fn subjects(
        &self,
        tenant: &str,
        from: u64,
        to: u64,
        ids: &[Vec<u8>],
        each: usize,
    ) -> Result<std::collections::BTreeMap<u64, Vec<String>>, StoreError> {
        let mut subjects = std::collections::BTreeMap::<u64, Vec<String>>::new();
        if ids.is_empty() {
            return Ok(subjects);
        }
        let rows = retry(|| {
            sqlx::query!(
                "select distinct log_index, node from attestation_subject
                 where tenant = $1 and id = any($2) and log_index >= $3 and log_index < $4
                 order by log_index, node limit 10000",
                tenant,
                ids,
                to_sql(from),
                to_sql(to)
            )
            .fetch_all(self.reads())
        })
        .await?;
        for row in rows {
            let nodes = subjects.entry(from_sql(row.log_index)).or_default();
            if nodes.len() < each {
                nodes.push(row.node);
            }
        }
        Ok(subjects)
    }
}
