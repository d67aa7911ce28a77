//! The log as it is written to and read: tenants, appends, heads, entries, bodies.

use std::{collections::BTreeMap, time::Duration};

use catenary_evidence::digest::Sha256;
use catenary_tlog::{Frontier, Hash, Leaf, leaf_hash};
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::{
    Appended, EntryRow, Head, New, Store, StoreError,
    append::{Pending, check_clock},
    entry::{from_sql, id_of, to_sql},
    facts::{id_from, time_from},
    limit::own_task,
    pool::{GLANCE, Lender, retry, retry_within},
    sequencer::Answer,
};

/// The longest that a writer waits to hear that its item is durable. It may become so later: sending it again tells.
pub(crate) const WRITE_PATIENCE: Duration = Duration::from_secs(5);

impl Store {
    /// Makes the tenant's log with entry 0, which fixes its origin. Once made, it only compares the origin.
    pub async fn create_tenant(&self, tenant: &str, origin: &str) -> Result<Head, StoreError> {
        if self.head(tenant).await?.is_none() {
            let (pool, name, text) = (self.writes().clone(), tenant.to_owned(), origin.to_owned());
            own_task(async move { make_log(&pool, &name, &text).await }).await?;
        }
        let head = self.head(tenant).await?.ok_or_else(|| StoreError::NoTenant(tenant.to_owned()))?;
        if head.origin == origin {
            return Ok(head);
        }
        let (tenant, expected) = (tenant.to_owned(), origin.to_owned());
        Err(StoreError::OtherOrigin { tenant, expected, found: head.origin })
    }

    /// Appends one item. Acknowledged when it is durable; a caller that goes away does not undo it.
    pub async fn append(&self, tenant: &str, new: New) -> Result<Appended, StoreError> {
        self.push(tenant, Pending::new(new, None)?).await
    }

    /// Appends many, each with its own result, in the order given.
    pub async fn append_all(&self, tenant: &str, new: Vec<New>) -> Vec<Result<Appended, StoreError>> {
        let waiting: Vec<_> =
            new.into_iter().map(|new| self.sequencer().push(tenant, Pending::new(new, None)?)).collect();
        let mut answers = Vec::with_capacity(waiting.len());
        let mut patience = WRITE_PATIENCE;
        for answer in waiting {
            answers.push(match answer {
                Ok(answer) => {
                    let answer = written(answer, patience).await;
                    // Where one came too late, the others have waited as long.
                    if answer.as_ref().is_err_and(|error| *error == too_late()) {
                        patience = Duration::ZERO;
                    }
                    answer
                }
                Err(error) => Err(error),
            });
        }
        answers
    }

    /// Appends if no *control* entry was logged at or after `expected_size`; else [`StoreError::Conflict`].
    /// Evidence that arrives meanwhile does not matter: it cannot change what the caller read.
    pub async fn append_if(
        &self,
        tenant: &str,
        expected_size: u64,
        new: New,
    ) -> Result<Appended, StoreError> {
        self.push(tenant, Pending::new(new, Some(expected_size))?).await
    }

    async fn push(&self, tenant: &str, pending: Pending) -> Result<Appended, StoreError> {
        written(self.sequencer().push(tenant, pending)?, WRITE_PATIENCE).await
    }

    /// How many items wait to be written.
    pub fn waiting(&self) -> usize {
        self.sequencer().waiting()
    }

    /// The head, read back after commit; `None` when there is no such tenant.
    pub async fn head(&self, tenant: &str) -> Result<Option<Head>, StoreError> {
        Ok(self.heads(&[tenant.to_owned()]).await?.pop().map(|(_, head)| head))
    }

    /// The heads of several tenants in one query.
    pub async fn heads(&self, tenants: &[String]) -> Result<Vec<(String, Head)>, StoreError> {
        let rows = retry_within(GLANCE, || {
            sqlx::query!(
                "select tenant, origin, size, root, time_us from log_head where tenant = any($1) order by tenant",
                tenants
            )
            .fetch_all(self.reads())
        })
        .await?;
        rows.into_iter()
            .map(|row| {
                let root = hash_from(&row.root).ok_or_else(|| StoreError::Integrity {
                    table: "log_head",
                    key: row.tenant.clone(),
                    what: "the root is not 32 bytes".into(),
                })?;
                let (size, time) = (from_sql(row.size), time_from(row.time_us));
                Ok((row.tenant, Head { origin: row.origin, size, root, time }))
            })
            .collect()
    }

    /// Every tenant that has a log, by name.
    pub async fn tenants(&self) -> Result<Vec<String>, StoreError> {
        retry(|| sqlx::query_scalar!("select tenant from log_head order by tenant").fetch_all(self.reads()))
            .await
    }

    /// The entries `from..to` in order; a gap is an [`StoreError::Integrity`].
    pub async fn entries(&self, tenant: &str, from: u64, to: u64) -> Result<Vec<EntryRow>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                "select log_index, id, kind, leaf from log_entry
                 where tenant = $1 and log_index >= $2 and log_index < $3 order by log_index",
                tenant,
                to_sql(from),
                to_sql(to)
            )
            .fetch_all(self.reads())
        })
        .await?;
        let entries = rows
            .into_iter()
            .map(|row| entry_row(row.log_index, &row.id, row.kind, row.leaf))
            .collect::<Result<Vec<_>, _>>()?;
        let mut expected = from..to;
        let gap = entries.iter().find_map(|entry| expected.next().filter(|index| *index != entry.index));
        match gap.or_else(|| expected.next()) {
            None => Ok(entries),
            Some(index) => Err(StoreError::Integrity {
                table: "log_entry",
                key: index.to_string(),
                what: "the entry is missing".into(),
            }),
        }
    }

    /// How many of the first `size` entries are not younger than `moment`. Entries are in the order of their times.
    pub async fn size_at(&self, tenant: &str, size: u64, moment: Timestamp) -> Result<u64, StoreError> {
        let (mut low, mut high) = (0, size);
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.entries(tenant, middle, middle + 1).await?.pop();
            let leaf = row.and_then(|row| row.decode().ok()).ok_or_else(|| StoreError::Integrity {
                table: "log_entry",
                key: middle.to_string(),
                what: "the leaf cannot be read".into(),
            })?;
            if leaf.time <= moment { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// The entry of an item.
    pub async fn entry_of(&self, tenant: &str, id: Sha256) -> Result<Option<EntryRow>, StoreError> {
        let row = retry(|| {
            sqlx::query!(
                "select log_index, id, kind, leaf from log_entry where tenant = $1 and id = $2",
                tenant,
                &id.0[..]
            )
            .fetch_optional(self.reads())
        })
        .await?;
        row.map(|row| entry_row(row.log_index, &row.id, row.kind, row.leaf)).transpose()
    }

    /// The id of the body with this gitoid (SHA-256 blob).
    pub async fn by_gitoid(&self, tenant: &str, gitoid: Sha256) -> Result<Option<Sha256>, StoreError> {
        let id = retry(|| {
            sqlx::query_scalar!(
                r"select id from body
                  where tenant = $1
                    and sha256(decode('blob ' || length(bytes)::text || '\000', 'escape') || bytes) = $2",
                tenant,
                &gitoid.0[..]
            )
            .fetch_optional(self.reads())
        })
        .await?;
        Ok(id.and_then(|id| Some(Sha256(id.try_into().ok()?))))
    }

    /// Bodies by id, exactly as sent. Those whose bytes are gone or do not hash to their id are left out.
    pub async fn bodies(
        &self,
        tenant: &str,
        ids: &[Sha256],
    ) -> Result<BTreeMap<Sha256, Vec<u8>>, StoreError> {
        let ids: Vec<Vec<u8>> = ids.iter().map(|id| id.0.to_vec()).collect();
        let rows = retry(|| {
            sqlx::query!("select id, bytes from body where tenant = $1 and id = any($2)", tenant, &ids)
                .fetch_all(self.reads())
        })
        .await?;
        let mut bodies = BTreeMap::new();
        for row in rows {
            let id = Sha256::of(&row.bytes);
            if id.0[..] == row.id[..] {
                bodies.insert(id, row.bytes);
            } else {
                self.alarm(tenant, "body", &hex::encode(&row.id), "the bytes are changed");
            }
        }
        Ok(bodies)
    }
}

/// Entry 0 and the head, in one transaction. Of two that try, one makes the log.
async fn make_log(pool: &Lender, tenant: &str, origin: &str) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    let clock = sqlx::query_scalar!(
        r#"select (extract(epoch from clock_timestamp()) * 1000000)::bigint as "clock!""#
    )
    .fetch_one(&mut *transaction)
    .await?;
    let time = time_from(clock);
    check_clock(time, time)?;
    let leaf = Leaf::origin(origin, time);
    let bytes = leaf.encode().map_err(|error| StoreError::Unloggable(error.to_string()))?;
    let mut frontier = Frontier::new();
    frontier.push(leaf_hash(&bytes));
    let made = sqlx::query!(
        "insert into log_head (tenant, origin, size, frontier, root, time_us) values ($1, $2, 1, $3, $4, $5)
         on conflict (tenant) do nothing",
        tenant,
        origin,
        frontier.to_bytes(),
        &frontier.root().0[..],
        clock
    )
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    if made == 0 {
        transaction.rollback().await?;
        return Ok(());
    }
    let id = id_of(leaf.id);
    sqlx::query!(
        "insert into log_entry (tenant, log_index, id, kind, leaf) values ($1, 0, $2, $3, $4)",
        tenant,
        &id.0[..],
        leaf.kind,
        bytes
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "insert into body (tenant, id, bytes) values ($1, $2, $3)",
        tenant,
        &id.0[..],
        origin.as_bytes()
    )
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}

pub(crate) fn entry_row(
    log_index: i64,
    id: &[u8],
    kind: String,
    leaf: Vec<u8>,
) -> Result<EntryRow, StoreError> {
    let index = from_sql(log_index);
    let id = id_from(id).ok_or_else(|| StoreError::Integrity {
        table: "log_entry",
        key: index.to_string(),
        what: "the id is not 32 bytes".into(),
    })?;
    Ok(EntryRow { index, id, kind, leaf })
}

/// A tree hash from a column.
pub(crate) fn hash_from(bytes: &[u8]) -> Option<Hash> {
    bytes.try_into().ok().map(Hash)
}

/// The writer's answer, or that it came too late.
async fn written(answer: oneshot::Receiver<Answer>, patience: Duration) -> Answer {
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => answer.unwrap_or_else(|_| Err(writer_gone())),
        Err(_) => Err(too_late()),
    }
}

fn too_late() -> StoreError {
    StoreError::Unavailable(format!("the outcome of a write is unknown after {WRITE_PATIENCE:?}"))
}

fn writer_gone() -> StoreError {
    StoreError::Unavailable("the writer ended before it answered".into())
}
