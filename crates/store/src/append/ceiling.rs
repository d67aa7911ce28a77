//! What inserting a batch costs when everything else was done before: the ceiling of ingest in benchmarks.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{FactRows, Failure, Locked, Pending, Plan, rows};
use crate::{New, Store, StoreError};

/// Batches whose rows are ready, in the order of their indexes.
#[doc(hidden)]
pub struct Prepared {
    tenant: String,
    batches: Vec<Ready>,
}

struct Ready {
    items: Vec<Pending>,
    old_size: u64,
    plan: Plan,
    rows: FactRows,
}

impl Store {
    /// Makes every row that `items` become, in batches of `size`, on the log as it ends now.
    #[doc(hidden)]
    pub async fn prepare_rows(
        &self,
        tenant: &str,
        items: Vec<New>,
        size: usize,
    ) -> Result<Prepared, StoreError> {
        let mut pending = Vec::with_capacity(items.len());
        for item in items {
            pending.push(Pending::new(item, None)?);
        }
        let mut transaction = self.writes().begin().await?;
        let locked = rows::lock_head(&mut transaction, tenant).await.map_err(store_error)?;
        transaction.rollback().await?;
        let (mut frontier, time) = (locked.frontier, locked.time.max(Timestamp::now()));
        let mut batches = Vec::new();
        let mut pending = pending.into_iter().peekable();
        while pending.peek().is_some() {
            let items: Vec<Pending> = pending.by_ref().take(size.max(1)).collect();
            let old_size = frontier.size();
            let head = Locked { size: old_size, frontier: frontier.clone(), time, database_clock: time };
            let mut plan = Plan::new(BTreeMap::new(), &head, time);
            for item in &items {
                plan.place(item)?;
            }
            frontier = plan.frontier.clone();
            let rows = plan.facts(tenant, &items, self.seal());
            batches.push(Ready { items, old_size, plan, rows });
        }
        Ok(Prepared { tenant: tenant.to_owned(), batches })
    }

    /// Inserts them, a transaction a batch: bodies, facts, entries, tiles, the head. How many items there were.
    #[doc(hidden)]
    pub async fn insert_rows(&self, prepared: &Prepared) -> Result<usize, StoreError> {
        let tenant = prepared.tenant.as_str();
        let mut inserted = 0;
        for Ready { items, old_size, plan, rows: facts } in &prepared.batches {
            let mut db = self.writes().begin_planned().await?;
            rows::insert_bodies(&mut db, tenant, items).await?;
            rows::lock_head(&mut db, tenant).await.map_err(store_error)?;
            facts.insert(&mut db, tenant).await?;
            rows::insert_entries(&mut db, tenant, &plan.entries).await?;
            let written = rows::insert_tiles(&mut db, tenant, *old_size, &plan.frontier, &plan.entries).await;
            written.map_err(store_error)?;
            let moved = rows::advance_head(&mut db, tenant, *old_size, &plan.frontier, plan.time).await;
            moved.map_err(store_error)?;
            db.commit().await?;
            inserted += items.len();
        }
        Ok(inserted)
    }
}

fn store_error(failure: Failure) -> StoreError {
    match failure {
        Failure::Sql(error) | Failure::Commit(error) => error.into(),
        Failure::Store(error) => error,
    }
}
