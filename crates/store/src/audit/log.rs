//! Entries, head, tiles and bodies.

use std::collections::BTreeMap;

use catenary_evidence::digest::Sha256;
use catenary_tlog::{
    Frontier, Hash, Leaf,
    leaf::kind,
    leaf_hash, new_tiles,
    tile::{WIDTH, encode_tile, tile_root},
};

use super::{Audit, Audited, Fault, Log};
use crate::{
    EntryRow, StoreError,
    entry::{from_sql, to_sql},
    follow::{
        fold::{needs_body, read_control},
        saved::SavedFold,
    },
};

/// Entries read at once.
const PAGE: i64 = 500;
/// The most entries that are missing one after the other; what follows a longer gap is out of place itself.
const MAX_GAP: u64 = 100_000;

impl Audit {
    /// Reads every entry and compares what the leaves alone decide.
    pub(super) async fn log(&mut self, tenant: &str) -> Result<Log, StoreError> {
        let mut log = Log { tenant: tenant.to_owned(), ..Log::default() };
        while self.entries(&mut log).await? > 0 {}
        self.whole_log(&log).await?;
        Ok(log)
    }

    /// Reads the next entries and compares each with its leaf and its body; how many there were. An error of the database
    /// leaves `log` as it was.
    pub(super) async fn entries(&mut self, log: &mut Log) -> Result<u64, StoreError> {
        let tenant = log.tenant.clone();
        let rows = self.page(&tenant, log.read_to, PAGE).await?;
        let ids: Vec<Vec<u8>> = rows.iter().map(|row| row.id.0.to_vec()).collect();
        let bodies = self.unchecked_bodies(&tenant, &ids).await?;
        for row in &rows {
            self.entry(log, row, bodies.get(&row.id.0[..]).map(Vec::as_slice));
            log.read_to = row.index + 1;
        }
        Ok(rows.len() as u64)
    }

    /// Compares what all entries together decide: head, tiles, and which bodies there are.
    pub(super) async fn whole_log(&mut self, log: &Log) -> Result<(), StoreError> {
        self.head(log).await?;
        self.tiles(log).await?;
        self.fold(log).await?;
        self.strange_bodies(&log.tenant).await
    }

    fn entry(&mut self, log: &mut Log, row: &EntryRow, body: Option<&[u8]>) {
        let tenant = log.tenant.clone();
        let next = log.leaves.len() as u64;
        let gap = row.index.saturating_sub(next);
        if gap > MAX_GAP {
            // Somebody may have written any number there: no memory is given for what it claims to be behind.
            let what = format!("it is {gap} entries behind the one before");
            return self.report.add(&tenant, "log_entry", row.index, Fault::Unexpected, what);
        }
        for index in next..row.index {
            self.report.add(&tenant, "log_entry", index, Fault::Missing, "an entry never goes");
            log.leaves.push(None);
        }
        log.leaves.push(Some(leaf_hash(&row.leaf)));
        let mut altered =
            |what: String| self.report.add(&tenant, "log_entry", row.index, Fault::Altered, what);
        let leaf = match Leaf::decode(&row.leaf) {
            Ok(leaf) => leaf,
            Err(error) => return altered(error.to_string()),
        };
        if leaf.id.0 != row.id.0 {
            altered(format!("its column says id sha256:{}, its leaf sha256:{}", row.id.to_hex(), leaf.id));
        }
        if leaf.kind != row.kind {
            altered(format!("its column says `{}`, its leaf `{}`", row.kind, leaf.kind));
        }
        if leaf.time.as_microsecond() < log.time_us {
            altered("it is older than the entry before it".to_owned());
        }
        if (row.index == 0) != (leaf.kind == kind::LOG_ORIGIN) {
            altered(format!("a `{}` has no place there", leaf.kind));
        }
        log.time_us = log.time_us.max(leaf.time.as_microsecond());
        if row.index == 0 {
            log.origin = leaf.extra.get("origin").cloned();
            log.control.origin = log.origin.clone().unwrap_or_default();
        }
        self.body(log, row, &leaf, body);
    }

    fn body(&mut self, log: &mut Log, row: &EntryRow, leaf: &Leaf, body: Option<&[u8]>) {
        let (tenant, id) = (log.tenant.clone(), row.id.to_string());
        let Some(bytes) = body else {
            return self.report.add(
                &tenant,
                "body",
                id,
                Fault::Missing,
                format!("the bytes of entry {}", row.index),
            );
        };
        if Sha256::of(bytes).0 != leaf.body.sha256.0 || bytes.len() as u64 != leaf.body.size {
            let what = format!("its bytes are not those of entry {}", row.index);
            return self.report.add(&tenant, "body", id, Fault::Altered, what);
        }
        if !needs_body(&leaf.kind) {
            return;
        }
        match read_control(bytes) {
            Ok((entry, verifies)) => {
                log.control.apply(row.index, &entry);
                verifies.join(&mut log.trust);
            }
            Err(error) => {
                let what = format!("this version cannot read a `{}`: {error}", leaf.kind);
                self.report.add(&tenant, "log_entry", row.index, Fault::Altered, what);
            }
        }
    }

    async fn head(&mut self, log: &Log) -> Result<(), StoreError> {
        let tenant = log.tenant.as_str();
        let size = log.leaves.len() as u64;
        let tree = frontier(&log.leaves);
        let root = tree.as_ref().map(Frontier::root);
        self.report.logs.push(Audited { tenant: tenant.to_owned(), entries: size, root });
        if let Some(kept) = self.kept_outside(tenant) {
            let kept_leaves = usize::try_from(kept.size).ok().and_then(|size| log.leaves.get(..size));
            if kept_leaves.is_none() {
                let what = format!("the checkpoint kept outside has {} entries", kept.size);
                self.report.add(tenant, "log_entry", format!("{size}..{}", kept.size), Fault::Missing, what);
            } else if kept_leaves.and_then(frontier).is_some_and(|tree| tree.root() != kept.root) {
                let what = "they do not give the root of the checkpoint kept outside";
                self.report.add(tenant, "log_entry", format!("0..{}", kept.size), Fault::Altered, what);
            }
        }
        let row = sqlx::query!(
            "select origin, size, frontier, root, time_us from log_head where tenant = $1",
            tenant
        )
        .fetch_optional(&mut *self.db)
        .await?;
        let Some(row) = row else {
            self.report.add(
                tenant,
                "log_head",
                tenant,
                Fault::Missing,
                "there are entries, or other rows, without it",
            );
            return Ok(());
        };
        let mut altered = |what: String| self.report.add(tenant, "log_head", tenant, Fault::Altered, what);
        if log.origin.as_ref() != Some(&row.origin) {
            altered(format!("it names the log {:?}, entry 0 {:?}", row.origin, log.origin));
        }
        if row.time_us != log.time_us {
            altered("its time is not that of the last entry".to_owned());
        }
        if from_sql(row.size) != size {
            altered(format!("it says {} entries, there are {size}", row.size));
        }
        let edge = Frontier::from_bytes(&row.frontier).ok();
        let coherent =
            edge.as_ref().is_some_and(|e| e.root().0[..] == row.root[..] && e.size() == from_sql(row.size));
        if !coherent {
            altered("its right edge does not give its root".to_owned());
        }
        if let Some(tree) = &tree
            && tree.root().0[..] != row.root[..]
        {
            altered("its root is not the one of the entries".to_owned());
        }
        if tree.is_none_or(|tree| tree.root().0[..] != row.root[..]) {
            // A head that agrees with itself is more likely right than the leaves: say which of them differ.
            for range in edge.filter(|_| coherent).iter().flat_map(|edge| differing(edge, &log.leaves)) {
                let what = "their leaves do not give the head's hash over them";
                self.report.add(
                    tenant,
                    "log_entry",
                    format!("{}..{}", range.start, range.end),
                    Fault::Altered,
                    what,
                );
            }
        }
        // Beyond the head nothing was committed by us; short of it, entries are gone.
        for index in from_sql(row.size)..size {
            self.report.add(tenant, "log_entry", index, Fault::Unexpected, "it lies beyond the head");
        }
        if size < from_sql(row.size) {
            let range = format!("{size}..{}", row.size);
            self.report.add(tenant, "log_entry", range, Fault::Missing, "the head says that they were there");
        }
        Ok(())
    }

    async fn tiles(&mut self, log: &Log) -> Result<(), StoreError> {
        let tenant = log.tenant.as_str();
        let mut expected = expected_tiles(&log.leaves);
        let mut after = (-1_i16, -1_i64);
        loop {
            let rows = sqlx::query!(
                "select level, tile_index, hashes, root from log_tile
                 where tenant = $1 and (level, tile_index) > ($2, $3) order by level, tile_index limit 200",
                tenant,
                after.0,
                after.1
            )
            .fetch_all(&mut *self.db)
            .await?;
            let Some(last) = rows.last() else { break };
            after = (last.level, last.tile_index);
            for row in rows {
                let key = format!("{}/{}", row.level, row.tile_index);
                if row.level == 0 {
                    self.leaves_of_tile(log, row.tile_index, &row.hashes, &row.root);
                }
                match expected.remove(&(row.level, row.tile_index)) {
                    None => self.report.add(
                        tenant,
                        "log_tile",
                        key,
                        Fault::Unexpected,
                        "the log is not that long",
                    ),
                    Some(Some((hashes, root))) if row.hashes != hashes || row.root[..] != root.0[..] => {
                        self.report.add(
                            tenant,
                            "log_tile",
                            key,
                            Fault::Altered,
                            "its hashes are not those of the entries",
                        );
                    }
                    // Where a leaf is missing nothing can be compared with but the tile itself.
                    Some(None) if tile_root(&row.hashes).ok().is_none_or(|own| own.0[..] != row.root[..]) => {
                        let what = "its hashes do not give its root";
                        self.report.add(tenant, "log_tile", key, Fault::Altered, what);
                    }
                    Some(_) => {}
                }
            }
        }
        for (level, index) in expected.into_keys() {
            self.report.add(
                tenant,
                "log_tile",
                format!("{level}/{index}"),
                Fault::Missing,
                "a full tile is kept",
            );
        }
        Ok(())
    }

    /// A tile that agrees with itself is more likely right than leaves that it does not have: they are named one by one.
    fn leaves_of_tile(&mut self, log: &Log, tile: i64, hashes: &[u8], root: &[u8]) {
        if tile_root(hashes).is_ok_and(|own| own.0[..] == *root) {
            let leaves = (from_sql(tile) * u64::from(WIDTH)..).zip(hashes.chunks_exact(32));
            for (index, hash) in leaves {
                let leaf = usize::try_from(index).ok().and_then(|at| log.leaves.get(at).copied().flatten());
                if leaf.is_some_and(|leaf| leaf.0[..] != *hash) {
                    let what = "its leaf is not the one that its tile has";
                    self.report.add(&log.tenant, "log_entry", index, Fault::Altered, what);
                }
            }
        }
    }

    /// The sealed snapshot of the fold. It may be missing, and may be older; what it says must be what the leaves say.
    async fn fold(&mut self, log: &Log) -> Result<(), StoreError> {
        let tenant = log.tenant.as_str();
        let row = sqlx::query!("select size, state, mac_key, mac from log_fold where tenant = $1", tenant)
            .fetch_optional(&mut *self.db)
            .await?;
        let Some(row) = row else { return Ok(()) };
        let saved =
            SavedFold { size: from_sql(row.size), state: row.state, mac_key: row.mac_key, mac: row.mac };
        let what = match saved.open(self.store.seal(), tenant) {
            Ok(None) => None,
            Err(what) => Some(what),
            Ok(Some(opened)) => {
                let leaves = usize::try_from(saved.size).ok().and_then(|size| log.leaves.get(..size));
                let tree = leaves.and_then(frontier);
                let same =
                    tree.as_ref() == Some(&opened.frontier) && log.origin.as_ref() == Some(&opened.origin);
                (!same).then(|| format!("the first {} entries do not give it", saved.size))
            }
        };
        if let Some(what) = what {
            self.report.add(tenant, "log_fold", tenant, Fault::Altered, what);
        }
        Ok(())
    }

    /// Bodies that no entry names: never acknowledged, or put there by somebody else.
    async fn strange_bodies(&mut self, tenant: &str) -> Result<(), StoreError> {
        let rows = sqlx::query_scalar!(
            "select b.id from body b where b.tenant = $1
             and not exists (select 1 from log_entry e where e.tenant = b.tenant and e.id = b.id)
             order by b.id limit 1000",
            tenant
        )
        .fetch_all(&mut *self.db)
        .await?;
        for id in rows {
            let key = format!("sha256:{}", hex::encode(id));
            self.report.add(tenant, "body", key, Fault::Unexpected, "no entry names it");
        }
        Ok(())
    }
}

/// The tree over the leaves, if none is missing.
fn frontier(leaves: &[Option<Hash>]) -> Option<Frontier> {
    let mut tree = Frontier::new();
    for leaf in leaves {
        tree.push((*leaf)?);
    }
    Some(tree)
}

/// The complete subtrees of `edge` that the leaves do not give.
fn differing(edge: &Frontier, leaves: &[Option<Hash>]) -> Vec<std::ops::Range<u64>> {
    let mut start = 0;
    let mut ranges = Vec::new();
    for (bit, hash) in (0..64).rev().filter(|bit| edge.size() >> bit & 1 == 1).zip(edge.hashes()) {
        let end = start + (1_u64 << bit);
        let part = leaves.get(to_sql(start) as usize..to_sql(end) as usize).and_then(frontier);
        if part.map(|part| part.root()) != Some(*hash) {
            ranges.push(start..end);
        }
        start = end;
    }
    ranges
}

type Tile = (Vec<u8>, Hash);

/// Every full tile; `None` where a leaf is missing.
fn expected_tiles(leaves: &[Option<Hash>]) -> BTreeMap<(i16, i64), Option<Tile>> {
    let mut tiles: BTreeMap<(i16, i64), Option<Tile>> = BTreeMap::new();
    for tile in new_tiles(0, leaves.len() as u64) {
        let row = tile.row();
        let hashes: Option<Vec<Hash>> = if tile.level == 0 {
            row.map(|index| leaves.get(index as usize).copied().flatten()).collect()
        } else {
            let below = i16::from(tile.level) - 1;
            row.map(|index| Some(tiles.get(&(below, to_sql(index)))?.as_ref()?.1)).collect()
        };
        let tile_of = |hashes: Vec<Hash>| {
            debug_assert_eq!(hashes.len(), usize::from(WIDTH));
            let bytes = encode_tile(&hashes);
            let root = tile_root(&bytes).ok()?;
            Some((bytes, root))
        };
        tiles.insert((i16::from(tile.level), to_sql(tile.index)), hashes.and_then(tile_of));
    }
    tiles
}
