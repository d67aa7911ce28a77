//! The questions whose answers are kept up to date, and how far the log was followed for them.
//!
//! Every write of a watcher compares and raises `watcher.version` in its own transaction: of two instances that work on one
//! tenant, one commits and the other reads again. So a change is told once, and a crash between two transactions loses nothing.
//!
//! Who adds a question holds the `watcher` row shared while it does, so that the log cannot be followed past what the question was
//! evaluated at without the question being seen.

use std::collections::BTreeSet;

use catenary_evidence::digest::Sha256;
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::{
    EntryRow, Store, StoreError,
    entry::{from_sql, to_sql},
    events::{self, NewEvent},
    facts::{id_from, time_from},
    limit::in_time,
    log::entry_row,
    pool::retry,
};

/// What a question was answered with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Standing {
    /// `PASSED`, `FAILED`, `INDETERMINATE`.
    pub outcome: String,
    /// Whether it may run.
    pub allowed: bool,
    /// The first error's code, or empty.
    pub reason: String,
    /// The verdict's id.
    pub verdict: Sha256,
}

/// A question with its answer, to be watched.
#[derive(Debug, Clone)]
pub struct NewWatched {
    /// The question's key.
    pub key: [u8; 32],
    /// `registry/repository@digest`.
    pub image: String,
    /// Of the question.
    pub environment: Option<String>,
    /// Of the question, `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// Of the question, as JSON.
    pub context: String,
    /// The answer.
    pub standing: Standing,
    /// The nodes that it read.
    pub nodes: BTreeSet<String>,
    /// Size of the log that it was computed at.
    pub log_size: u64,
    /// When time alone may change it.
    pub due: Timestamp,
}

/// A watched question that is to be evaluated again.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The question's key.
    pub key: [u8; 32],
    /// `registry/repository@digest`.
    pub image: String,
    /// Of the question.
    pub environment: Option<String>,
    /// Of the question.
    pub platform: Option<String>,
    /// Of the question, as JSON.
    pub context: String,
    /// The answer so far.
    pub standing: Standing,
    /// Digest of the nodes that it read.
    pub nodes: Sha256,
    /// Size of the log that it was computed at.
    pub log_size: u64,
    /// Whether its time came, and no entry.
    pub by_time: bool,
    /// The entry that touched it.
    pub cause: Option<u64>,
}

/// A watched question, evaluated again.
#[derive(Debug, Clone)]
pub struct Renewed {
    /// The question's key.
    pub key: [u8; 32],
    /// The answer now.
    pub standing: Standing,
    /// The nodes that it reads now, when they are others than before.
    pub nodes: Option<BTreeSet<String>>,
    /// Size of the log that it was computed at.
    pub log_size: u64,
    /// When time alone may change it.
    pub due: Timestamp,
}

/// How far one tenant's log was followed for the watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    /// The tenant.
    pub tenant: String,
    /// Entries below were looked at.
    pub log_size: u64,
    /// What was evaluated before the log had this size is to be evaluated again.
    pub all_at: u64,
    /// Raised with every write.
    pub version: i64,
    /// Who worked on it last.
    pub holder: String,
    /// Until when nobody else begins.
    pub lease: Timestamp,
    /// The earliest time at which something is due.
    pub due: Option<Timestamp>,
    /// The smallest size that something was evaluated at.
    pub oldest: Option<u64>,
}

impl Watcher {
    /// Whether questions wait to be evaluated again.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.due.is_some_and(|due| due <= now) || self.oldest.is_some_and(|size| size < self.all_at)
    }
}

/// Who writes, and how long others leave the tenant to it.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Names the instance.
    pub name: String,
    /// The end of its lease.
    pub until: Timestamp,
}

/// The digest under which a set of nodes is compared.
pub fn nodes_digest(nodes: &BTreeSet<String>) -> Sha256 {
    let lines: String = nodes.iter().flat_map(|node| [node.as_str(), "\n"]).collect();
    Sha256::of(lines.as_bytes())
}

/// Adds questions in the caller's transaction; for those that are watched already, only notes that they were asked again.
pub(crate) async fn add(db: &mut PgConnection, tenant: &str, new: &[NewWatched]) -> Result<(), sqlx::Error> {
    let Some(oldest) = new.iter().map(|question| question.log_size).min() else { return Ok(()) };
    sqlx::query!(
        "insert into watcher (tenant, log_size, all_at, version, holder, lease_us) values ($1, $2, 0, 0, '', 0)
         on conflict (tenant) do nothing",
        tenant,
        to_sql(oldest)
    )
    .execute(&mut *db)
    .await?;
    let followed = sqlx::query_scalar!("select log_size from watcher where tenant = $1 for share", tenant)
        .fetch_one(&mut *db)
        .await?;
    let now = Timestamp::now().as_microsecond();
    let mut rows: Vec<&NewWatched> = new.iter().collect();
    rows.sort_by_key(|row| row.key);
    rows.dedup_by_key(|row| row.key);
    let keys: Vec<Vec<u8>> = rows.iter().map(|row| row.key.to_vec()).collect();
    let known = sqlx::query_scalar!(
        "update watched set asked_us = $3 where tenant = $1 and key = any($2) returning key",
        tenant,
        &keys,
        now
    )
    .fetch_all(&mut *db)
    .await?;
    let known: BTreeSet<Vec<u8>> = known.into_iter().collect();
    rows.retain(|row| !known.contains(&row.key[..]));
    if rows.is_empty() {
        return Ok(());
    }
    // What was followed past the question's own size may have touched it unseen.
    let due = |row: &NewWatched| if to_sql(row.log_size) < followed { 0 } else { due_us(row.due) };
    let standings: Vec<&Standing> = rows.iter().map(|row| &row.standing).collect();
    sqlx::query!(
        "insert into watched (tenant, key, image, environment, platform, context, outcome, allowed, reason, verdict,
                              nodes, log_size, due_us, asked_us)
         select $1, i.*, $14 from unnest($2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                              $8::boolean[], $9::text[], $10::bytea[], $11::bytea[], $12::bigint[], $13::bigint[]) as i
         on conflict (tenant, key) do nothing",
        tenant,
        &rows.iter().map(|row| row.key.to_vec()).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.image.clone()).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.environment.clone()).collect::<Vec<_>>() as &[Option<String>],
        &rows.iter().map(|row| row.platform.clone()).collect::<Vec<_>>() as &[Option<String>],
        &rows.iter().map(|row| row.context.replace('\0', "\u{fffd}")).collect::<Vec<_>>(),
        &standings.iter().map(|s| s.outcome.clone()).collect::<Vec<_>>(),
        &standings.iter().map(|s| s.allowed).collect::<Vec<_>>(),
        &standings.iter().map(|s| s.reason.clone()).collect::<Vec<_>>(),
        &standings.iter().map(|s| s.verdict.0.to_vec()).collect::<Vec<_>>(),
        &rows.iter().map(|row| nodes_digest(&row.nodes).0.to_vec()).collect::<Vec<_>>(),
        &rows.iter().map(|row| to_sql(row.log_size)).collect::<Vec<_>>(),
        &rows.iter().map(|row| due(row)).collect::<Vec<_>>(),
        now,
    )
    .execute(&mut *db)
    .await?;
    let links = rows.iter().flat_map(|row| row.nodes.iter().map(|node| (node.clone(), row.key.to_vec())));
    insert_nodes(db, tenant, links.collect()).await
}

async fn insert_nodes(
    db: &mut PgConnection,
    tenant: &str,
    links: Vec<(String, Vec<u8>)>,
) -> Result<(), sqlx::Error> {
    let (nodes, keys): (Vec<String>, Vec<Vec<u8>>) = links.into_iter().unzip();
    sqlx::query!(
        "insert into watched_node (tenant, node, key)
         select $1, i.node, i.key from unnest($2::text[], $3::bytea[]) as i(node, key) order by i.node, i.key
         on conflict (tenant, node, key) do nothing",
        tenant,
        &nodes,
        &keys
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Rounded up, so that what is due at a moment is never evaluated just before it.
fn due_us(due: Timestamp) -> i64 {
    due.as_microsecond().saturating_add(1)
}

impl Store {
    /// Watches questions that were asked.
    pub async fn watch(&self, tenant: &str, new: &[NewWatched]) -> Result<(), StoreError> {
        in_time(async {
            let mut transaction = self.writes().begin().await?;
            add(&mut transaction, tenant, new).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// How far every tenant with something to watch was followed.
    pub async fn watchers(&self) -> Result<Vec<Watcher>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                "select w.tenant, w.log_size, w.all_at, w.version, w.holder, w.lease_us,
                        (select min(d.due_us) from watched d where d.tenant = w.tenant) as due,
                        (select min(d.log_size) from watched d where d.tenant = w.tenant) as oldest
                 from watcher w"
            )
            .fetch_all(self.reads())
        })
        .await?;
        let rows = rows.into_iter().map(|row| Watcher {
            tenant: row.tenant,
            log_size: from_sql(row.log_size),
            all_at: from_sql(row.all_at),
            version: row.version,
            holder: row.holder,
            lease: time_from(row.lease_us),
            due: row.due.map(time_from),
            oldest: row.oldest.map(from_sql),
        });
        Ok(rows.collect())
    }

    /// Marks the questions that read one of `touched` (a node, and the entry that wrote it), and goes on to `to`. `false`: somebody
    /// else has written meanwhile.
    pub async fn watch_entries(
        &self,
        watcher: &Watcher,
        holder: &Holder,
        to: u64,
        all_at: u64,
        touched: &[(String, u64)],
    ) -> Result<bool, StoreError> {
        in_time(async {
            let mut transaction = self.writes().begin().await?;
            if !raise(&mut transaction, watcher, holder, to, all_at).await? {
                return Ok(false);
            }
            // A statement of its own, after the row is ours: it sees every question that was added before.
            if !touched.is_empty() {
                sqlx::query!(
                    "update watched w set due_us = 0, cause = m.cause
                 from (select n.key, max(i.log_index) as cause
                       from unnest($2::text[], $3::bigint[]) as i(node, log_index)
                       join watched_node n on n.tenant = $1 and n.node = i.node
                       group by n.key) as m
                 where w.tenant = $1 and w.key = m.key and w.log_size <= m.cause",
                    watcher.tenant,
                    &touched.iter().map(|(node, _)| node.clone()).collect::<Vec<_>>(),
                    &touched.iter().map(|(_, index)| to_sql(*index)).collect::<Vec<_>>()
                )
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Questions that are to be evaluated again, those that wait longest first.
    pub async fn due_watched(
        &self,
        watcher: &Watcher,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Watched>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                r#"select w.key, w.image, w.environment, w.platform, w.context, w.outcome, w.allowed, w.reason, w.verdict, w.nodes,
                          w.log_size, w.due_us, w.cause
                   from watched w
                   where w.tenant = $1 and w.key in (
                       (select d.key from watched d where d.tenant = $1 and d.due_us <= $2 order by d.due_us limit $4)
                       union
                       (select d.key from watched d where d.tenant = $1 and d.log_size < $3 order by d.log_size limit $4))
                   order by w.key limit $4"#,
                watcher.tenant,
                now.as_microsecond(),
                to_sql(watcher.all_at),
                i64::from(limit)
            )
            .fetch_all(self.reads())
        })
        .await?;
        let read = |bytes: &[u8]| id_from(bytes).unwrap_or(Sha256([0; 32]));
        let rows = rows.into_iter().map(|row| {
            let log_size = from_sql(row.log_size);
            Watched {
                key: read(&row.key).0,
                image: row.image,
                environment: row.environment,
                platform: row.platform,
                context: row.context,
                standing: Standing {
                    outcome: row.outcome,
                    allowed: row.allowed,
                    reason: row.reason,
                    verdict: read(&row.verdict),
                },
                nodes: read(&row.nodes),
                log_size,
                by_time: row.due_us > 0 && log_size >= watcher.all_at,
                cause: row.cause.map(from_sql),
            }
        });
        Ok(rows.collect())
    }

    /// Writes what evaluating again gave, with its events. `false`: somebody else has written meanwhile, and nothing of it counts.
    pub async fn renew_watched(
        &self,
        watcher: &Watcher,
        holder: &Holder,
        renewed: &[Renewed],
        told: &[NewEvent],
    ) -> Result<bool, StoreError> {
        in_time(async {
        let mut transaction = self.writes().begin().await?;
        if !raise(&mut transaction, watcher, holder, watcher.log_size, watcher.all_at).await? {
            return Ok(false);
        }
        let standings: Vec<&Standing> = renewed.iter().map(|row| &row.standing).collect();
        let nodes = |row: &Renewed| row.nodes.as_ref().map(|nodes| nodes_digest(nodes).0.to_vec());
        sqlx::query!(
            "update watched w set outcome = i.outcome, allowed = i.allowed, reason = i.reason, verdict = i.verdict,
                    nodes = coalesce(i.nodes, w.nodes), log_size = i.log_size, due_us = i.due_us, cause = null
             from unnest($2::bytea[], $3::text[], $4::boolean[], $5::text[], $6::bytea[], $7::bytea[], $8::bigint[],
                         $9::bigint[]) as i(key, outcome, allowed, reason, verdict, nodes, log_size, due_us)
             where w.tenant = $1 and w.key = i.key",
            watcher.tenant,
            &renewed.iter().map(|row| row.key.to_vec()).collect::<Vec<_>>(),
            &standings.iter().map(|s| s.outcome.clone()).collect::<Vec<_>>(),
            &standings.iter().map(|s| s.allowed).collect::<Vec<_>>(),
            &standings.iter().map(|s| s.reason.clone()).collect::<Vec<_>>(),
            &standings.iter().map(|s| s.verdict.0.to_vec()).collect::<Vec<_>>(),
            &renewed.iter().map(nodes).collect::<Vec<_>>() as &[Option<Vec<u8>>],
            &renewed.iter().map(|row| to_sql(row.log_size)).collect::<Vec<_>>(),
            &renewed.iter().map(|row| due_us(row.due)).collect::<Vec<_>>(),
        )
        .execute(&mut *transaction)
        .await?;
        replace_nodes(&mut transaction, &watcher.tenant, renewed).await?;
        events::append(&mut transaction, &watcher.tenant, told).await?;
        transaction.commit().await?;
        Ok(true)
        })
        .await
    }

    /// Control entries in `from..to`, newest first, at most `limit`: what could have changed every answer.
    pub async fn control_entries(
        &self,
        tenant: &str,
        from: u64,
        to: u64,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                "select log_index, id, kind, leaf from log_entry
                 where tenant = $1 and log_index >= $2 and log_index < $3 and kind not in ('attestation', 'object')
                 order by log_index desc limit $4",
                tenant,
                to_sql(from),
                to_sql(to),
                i64::from(limit)
            )
            .fetch_all(self.reads())
        })
        .await?;
        rows.into_iter().map(|row| entry_row(row.log_index, &row.id, row.kind, row.leaf)).collect()
    }

    /// Forgets the questions that were asked longest ago, beyond `keep` and a bounded number at a time. What runs stays.
    pub async fn trim_watched(&self, tenant: &str, keep: u32) -> Result<u64, StoreError> {
        in_time(async {
        let mut transaction = self.writes().begin().await?;
        let keys = sqlx::query_scalar!(
            "delete from watched where tenant = $1 and key in (
                 select w.key from watched w
                 where w.tenant = $1 and not exists (
                     select 1 from deployment d where d.tenant = $1 and d.question = w.key and d.until_us is null)
                 order by w.asked_us desc offset $2 limit 1000)
             returning key",
            tenant,
            i64::from(keep)
        )
        .fetch_all(&mut *transaction)
        .await?;
        sqlx::query!("delete from watched_node where tenant = $1 and key = any($2)", tenant, &keys)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(keys.len() as u64)
        })
        .await
    }
}

/// Takes the tenant, if it still is as it was read.
async fn raise(
    db: &mut PgConnection,
    watcher: &Watcher,
    holder: &Holder,
    log_size: u64,
    all_at: u64,
) -> Result<bool, sqlx::Error> {
    let raised = sqlx::query!(
        "update watcher set version = version + 1, log_size = $3, all_at = $4, holder = $5, lease_us = $6
         where tenant = $1 and version = $2",
        watcher.tenant,
        watcher.version,
        to_sql(log_size),
        to_sql(all_at),
        holder.name,
        holder.until.as_microsecond()
    )
    .execute(db)
    .await?;
    Ok(raised.rows_affected() == 1)
}

async fn replace_nodes(db: &mut PgConnection, tenant: &str, renewed: &[Renewed]) -> Result<(), sqlx::Error> {
    let others: Vec<(&Renewed, &BTreeSet<String>)> =
        renewed.iter().filter_map(|row| Some((row, row.nodes.as_ref()?))).collect();
    if others.is_empty() {
        return Ok(());
    }
    let keys: Vec<Vec<u8>> = others.iter().map(|(row, _)| row.key.to_vec()).collect();
    sqlx::query!("delete from watched_node where tenant = $1 and key = any($2)", tenant, &keys)
        .execute(&mut *db)
        .await?;
    let links =
        others.iter().flat_map(|(row, nodes)| nodes.iter().map(|node| (node.clone(), row.key.to_vec())));
    insert_nodes(db, tenant, links.collect()).await
}
