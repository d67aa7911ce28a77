//! The statements of the transaction, in its order. Each moves a whole batch with `unnest`.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::digest::Sha256;
use catenary_tlog::{
    Frontier, Hash, new_tiles,
    tile::{WIDTH, encode_tile, tile_root},
};
use jiff::Timestamp;
use sqlx::PgConnection;

use super::{
    Appended, Facts, Failure, Guard, Known, Locked, NewEntry, Pending, StoreError, from_sql, id_from,
    leaf_hash, time_from, to_sql,
};

/// Bodies, ordered by id so that two writers meet in one order. Damaged bytes that are sent again are whole again.
pub(super) async fn insert_bodies(
    db: &mut PgConnection,
    tenant: &str,
    batch: &[Pending],
) -> Result<(), sqlx::Error> {
    let bodies: BTreeMap<Sha256, &[u8]> = batch.iter().map(|item| (item.id, item.bytes.as_slice())).collect();
    let ids: Vec<Vec<u8>> = bodies.keys().map(|id| id.0.to_vec()).collect();
    let bytes: Vec<Vec<u8>> = bodies.values().map(|bytes| bytes.to_vec()).collect();
    sqlx::query!(
        "insert into body (tenant, id, bytes)
         select $1, i.id, i.bytes from unnest($2::bytea[], $3::bytea[]) as i(id, bytes) order by i.id
         on conflict (tenant, id) do update set bytes = excluded.bytes where body.bytes <> excluded.bytes",
        tenant,
        &ids,
        &bytes
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Locks the tenant's log: from here on nobody else gives out indexes.
pub(super) async fn lock_head(db: &mut PgConnection, tenant: &str) -> Result<Locked, Failure> {
    let row = sqlx::query!(
        r#"select size, frontier, root, time_us,
                  (extract(epoch from clock_timestamp()) * 1000000)::bigint as "clock_us!"
           from log_head where tenant = $1 for update"#,
        tenant
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Err(StoreError::NoTenant(tenant.to_owned()).into()) };
    let damaged = |what: String| StoreError::Integrity { table: "log_head", key: tenant.to_owned(), what };
    let frontier = Frontier::from_bytes(&row.frontier).map_err(|error| damaged(error.to_string()))?;
    if frontier.size() != from_sql(row.size) || frontier.root().0[..] != row.root[..] {
        return Err(damaged("the right edge does not give the root".into()).into());
    }
    let (time, database_clock) = (time_from(row.time_us), time_from(row.clock_us));
    Ok(Locked { size: from_sql(row.size), frontier, time, database_clock })
}

/// Entries that items of the batch have already.
pub(super) async fn known(
    db: &mut PgConnection,
    tenant: &str,
    batch: &[Pending],
) -> Result<BTreeMap<Sha256, Known>, Failure> {
    let ids: Vec<Vec<u8>> = batch.iter().map(|item| item.id.0.to_vec()).collect();
    let rows = sqlx::query!(
        "select log_index, kind, leaf from log_entry where tenant = $1 and id = any($2)",
        tenant,
        &ids
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(|row| Ok(Known::read(row.log_index, row.kind, row.leaf)?)).collect()
}

/// Index of the newest `trust.added` and of the newest control entry, as far as a guard could mind it.
pub(super) async fn newest_control(
    db: &mut PgConnection,
    tenant: &str,
    batch: &[Pending],
    size: u64,
) -> Result<(Option<u64>, Option<u64>), sqlx::Error> {
    let guards = batch.iter().filter_map(|item| match item.guard {
        Guard::None => None,
        Guard::KeysAt(at) | Guard::ControlAt(at) => Some(at),
    });
    let Some(from) = guards.min().filter(|from| *from < size) else { return Ok((None, None)) };
    let row = sqlx::query!(
        "select max(log_index) filter (where kind = 'trust.added') as trust, max(log_index) as control
         from log_entry
         where tenant = $1 and log_index >= $2 and kind not in ('attestation', 'object')",
        tenant,
        to_sql(from)
    )
    .fetch_one(db)
    .await?;
    Ok((row.trust.map(from_sql), row.control.map(from_sql)))
}

/// Nodes of the batch's objects that some object proves already.
pub(super) async fn taken_nodes(
    db: &mut PgConnection,
    tenant: &str,
    batch: &[Pending],
) -> Result<BTreeMap<String, Sha256>, sqlx::Error> {
    let nodes: BTreeSet<String> = batch
        .iter()
        .filter_map(|item| match &item.facts {
            Facts::Object { facts, .. } => Some(facts.node.to_string()),
            Facts::Attestation(_) | Facts::Control(_) => None,
        })
        .collect();
    if nodes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let nodes: Vec<String> = nodes.into_iter().collect();
    let rows =
        sqlx::query!("select node, id from object where tenant = $1 and node = any($2)", tenant, &nodes)
            .fetch_all(db)
            .await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.node, id_from(&row.id)?))).collect())
}

/// Takes the bodies of refused items out again: nothing of them is kept.
pub(super) async fn forget_refused(
    db: &mut PgConnection,
    tenant: &str,
    batch: &[Pending],
    answers: &[Result<Appended, StoreError>],
) -> Result<(), sqlx::Error> {
    let kept: BTreeSet<Sha256> = answers.iter().flatten().map(|appended| appended.id).collect();
    let refused: Vec<Vec<u8>> =
        batch.iter().filter(|item| !kept.contains(&item.id)).map(|item| item.id.0.to_vec()).collect();
    if refused.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "delete from body b where b.tenant = $1 and b.id = any($2)
         and not exists (select 1 from log_entry e where e.tenant = b.tenant and e.id = b.id)",
        tenant,
        &refused
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn insert_entries(
    db: &mut PgConnection,
    tenant: &str,
    entries: &[NewEntry],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into log_entry (tenant, log_index, id, kind, leaf)
         select $1, i.* from unnest($2::bigint[], $3::bytea[], $4::text[], $5::bytea[]) as i(log_index, id, kind, leaf)
         order by i.log_index",
        tenant,
        &column(entries, |e| to_sql(e.index)),
        &column(entries, |e| e.id.0.to_vec()),
        &column(entries, |e| e.kind.to_owned()),
        &column(entries, |e| e.leaf.clone()),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes the tiles that became full, lower levels first.
pub(super) async fn insert_tiles(
    db: &mut PgConnection,
    tenant: &str,
    old_size: u64,
    frontier: &Frontier,
    entries: &[NewEntry],
) -> Result<(), Failure> {
    let tiles = new_tiles(old_size, frontier.size());
    let Some(first) = tiles.first() else { return Ok(()) };
    let mut row = older_leaf_hashes(db, tenant, first.row().start, old_size).await?;
    row.extend(entries.iter().map(|entry| (entry.index, entry.hash)));
    let mut rows: BTreeMap<u8, BTreeMap<u64, Hash>> = BTreeMap::from([(0, row)]);
    for tile in tiles {
        if let std::collections::btree_map::Entry::Vacant(vacant) = rows.entry(tile.level) {
            vacant.insert(older_roots(db, tenant, tile.level, tile.row().start).await?);
        }
        let hashes: Vec<Hash> = rows
            .get(&tile.level)
            .into_iter()
            .flat_map(|row| row.range(tile.row()))
            .map(|(_, hash)| *hash)
            .collect();
        if hashes.len() != usize::from(WIDTH) {
            let what = format!("{} of its 256 hashes are there", hashes.len());
            return Err(StoreError::Integrity { table: "log_tile", key: tile.to_string(), what }.into());
        }
        let bytes = encode_tile(&hashes);
        let root = tile_root(&bytes).map_err(|error| StoreError::Integrity {
            table: "log_tile",
            key: tile.to_string(),
            what: error.to_string(),
        })?;
        sqlx::query!(
            "insert into log_tile (tenant, level, tile_index, hashes, root) values ($1, $2, $3, $4, $5)",
            tenant,
            i16::from(tile.level),
            to_sql(tile.index),
            bytes,
            &root.0[..]
        )
        .execute(&mut *db)
        .await?;
        // A row that an upper tile needs is loaded when its first tile comes; until then nothing is kept for it.
        if let Some(upper) = rows.get_mut(&(tile.level + 1)) {
            upper.insert(tile.index, root);
        }
    }
    Ok(())
}

/// Hashes of stored leaves from `start` to `end`, both in one tile.
async fn older_leaf_hashes(
    db: &mut PgConnection,
    tenant: &str,
    start: u64,
    end: u64,
) -> Result<BTreeMap<u64, Hash>, sqlx::Error> {
    let rows = sqlx::query!(
        "select log_index, leaf from log_entry where tenant = $1 and log_index >= $2 and log_index < $3",
        tenant,
        to_sql(start),
        to_sql(end)
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (from_sql(row.log_index), leaf_hash(&row.leaf))).collect())
}

/// Roots of the tiles one level below `level`, from index `start` on; those just written among them.
async fn older_roots(
    db: &mut PgConnection,
    tenant: &str,
    level: u8,
    start: u64,
) -> Result<BTreeMap<u64, Hash>, sqlx::Error> {
    let rows = sqlx::query!(
        "select tile_index, root from log_tile where tenant = $1 and level = $2 and tile_index >= $3",
        tenant,
        i16::from(level) - 1,
        to_sql(start)
    )
    .fetch_all(db)
    .await?;
    let hash = |root: Vec<u8>| <[u8; 32]>::try_from(root).ok().map(Hash);
    Ok(rows.into_iter().filter_map(|row| Some((from_sql(row.tile_index), hash(row.root)?))).collect())
}

/// Moves the head. The lock makes the condition true; without the lock nothing moves.
pub(super) async fn advance_head(
    db: &mut PgConnection,
    tenant: &str,
    old_size: u64,
    frontier: &Frontier,
    time: Timestamp,
) -> Result<(), Failure> {
    let moved = sqlx::query!(
        "update log_head set size = $3, frontier = $4, root = $5, time_us = $6 where tenant = $1 and size = $2",
        tenant,
        to_sql(old_size),
        to_sql(frontier.size()),
        frontier.to_bytes(),
        &frontier.root().0[..],
        time.as_microsecond()
    )
    .execute(db)
    .await?
    .rows_affected();
    if moved == 1 {
        Ok(())
    } else {
        let what = "the head moved under its lock".to_owned();
        Err(StoreError::Integrity { table: "log_head", key: tenant.to_owned(), what }.into())
    }
}

pub(super) fn column<R, T>(rows: &[R], f: impl Fn(&R) -> T) -> Vec<T> {
    rows.iter().map(f).collect()
}
