//! Proofs, tiles and entry bundles, made from full tiles and the entries of the right edge.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use catenary_tlog::{
    BundleId, Hash, ProofError, Tile, TileId, TileSet, leaf_hash, needed_consistency, needed_inclusion,
    needed_root, proof::Node, prove_consistency, prove_inclusion, root_at, tile, tiles_needed,
};

use crate::{
    Store, StoreError,
    entry::{from_sql, to_sql},
    follow::Snapshot,
    log::hash_from,
    pool::retry,
};

impl Store {
    /// The proof that entry `index` is in the tree of `size` entries.
    pub async fn inclusion(&self, tenant: &str, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        let mut proofs = self.inclusions(tenant, &[index], size).await?;
        Ok(proofs.pop().unwrap_or_default())
    }

    /// The same in a tree no larger than what was followed: its right edge takes no tiles.
    pub async fn inclusion_in(
        &self,
        snapshot: &Snapshot,
        index: u64,
        size: u64,
    ) -> Result<Vec<Hash>, StoreError> {
        let known = |level, index| snapshot.node(level, index);
        let mut proofs = self.inclusions_beside(&snapshot.tenant, &[index], size, known).await?;
        Ok(proofs.pop().unwrap_or_default())
    }

    /// Proofs for several entries in the same tree, in the order asked for.
    pub async fn inclusions(
        &self,
        tenant: &str,
        indexes: &[u64],
        size: u64,
    ) -> Result<Vec<Vec<Hash>>, StoreError> {
        self.inclusions_beside(tenant, indexes, size, |_, _| None).await
    }

    /// The same, with subtrees that are known without a tile.
    async fn inclusions_beside(
        &self,
        tenant: &str,
        indexes: &[u64],
        size: u64,
        known: impl Fn(u8, u64) -> Option<Hash>,
    ) -> Result<Vec<Vec<Hash>>, StoreError> {
        let mut nodes = Vec::new();
        for index in indexes {
            nodes.extend(needed_inclusion(*index, size).map_err(beyond)?);
        }
        nodes.retain(|(level, index)| known(*level, *index).is_none());
        let tiles = self.tiles_for(tenant, &nodes, size).await?;
        let node = |level, index| known(level, index).or_else(|| tiles.node(level, index));
        indexes.iter().map(|index| prove_inclusion(*index, size, node).map_err(beyond)).collect()
    }

    /// The proof that the tree of `new` entries extends the one of `old`.
    pub async fn consistency(&self, tenant: &str, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        let nodes = needed_consistency(old, new).map_err(beyond)?;
        let tiles = self.tiles_for(tenant, &nodes, new).await?;
        prove_consistency(old, new, |level, index| tiles.node(level, index)).map_err(beyond)
    }

    /// The root of the first `size` entries, from the tiles of today.
    pub async fn root_at(&self, tenant: &str, size: u64) -> Result<Hash, StoreError> {
        let nodes = needed_root(size).map_err(beyond)?;
        let tiles = self.tiles_for(tenant, &nodes, size).await?;
        root_at(size, |level, index| tiles.node(level, index)).map_err(beyond)
    }

    /// The bytes of a tile; `None` when the log has not grown that far.
    pub async fn tile(&self, tenant: &str, tile: TileId) -> Result<Option<Bytes>, StoreError> {
        Ok(self.tiles(tenant, vec![tile]).await?.remove(&tile).map(|tile| tile.bytes().clone()))
    }

    /// The same, if it was read lately.
    pub fn tile_at_hand(&self, tenant: &str, tile: TileId) -> Option<Bytes> {
        Some(self.read_tiles().get(tenant, tile)?.bytes().clone())
    }

    /// These tiles, as far as the log has grown that far.
    async fn tiles(
        &self,
        tenant: &str,
        tiles: Vec<TileId>,
    ) -> Result<BTreeMap<TileId, Arc<Tile>>, StoreError> {
        let mut found = BTreeMap::new();
        let mut missing = Vec::new();
        for tile in tiles {
            match self.read_tiles().get(tenant, tile) {
                Some(kept) => drop(found.insert(tile, kept)),
                None => missing.push(tile),
            }
        }
        let (full, partial): (Vec<TileId>, Vec<TileId>) = missing.into_iter().partition(TileId::is_full);
        let mut read = self.full_tiles(tenant, &full).await?;
        // Bytes of another length are no tile: as if it were not there.
        let mut keep = |id, bytes: Vec<u8>| {
            let tile = Tile::decode(id, bytes.into()).ok();
            found.extend(tile.map(|tile| (id, self.read_tiles().keep(tenant, id, tile))));
        };
        for tile in full {
            if let Some(bytes) = read.remove(&(tile.level, tile.index)) {
                keep(tile, bytes);
            }
        }
        for tile in partial {
            let hashes = self.row_hashes(tenant, tile).await?;
            if hashes.len() == usize::from(tile.width) {
                keep(tile, tile::encode_tile(&hashes));
            }
        }
        Ok(found)
    }

    /// The bytes of an entry bundle; `None` when the log has not grown that far.
    pub async fn entry_bundle(&self, tenant: &str, bundle: BundleId) -> Result<Option<Vec<u8>>, StoreError> {
        let entries = bundle.entries();
        let size = self.head(tenant).await?.map_or(0, |head| head.size);
        if entries.end > size {
            return Ok(None);
        }
        let rows = self.entries(tenant, entries.start, entries.end).await?;
        let leaves: Vec<Vec<u8>> = rows.into_iter().map(|row| row.leaf).collect();
        let bytes = tile::encode_bundle(&leaves).map_err(|error| StoreError::Integrity {
            table: "log_entry",
            key: bundle.to_string(),
            what: error.to_string(),
        })?;
        Ok(Some(bytes))
    }

    /// Every tile that these subtrees lie in, as a tree of `size` entries has them.
    async fn tiles_for(&self, tenant: &str, nodes: &[Node], size: u64) -> Result<TileSet, StoreError> {
        let needed = tiles_needed(nodes, size);
        let mut found = self.tiles(tenant, needed.to_vec()).await?;
        let mut set = TileSet::new();
        for tile in needed {
            let Some(found) = found.remove(&tile) else {
                return Err(self.missing(tenant, tile, size).await?);
            };
            set.insert(found);
        }
        Ok(set)
    }

    async fn full_tiles(
        &self,
        tenant: &str,
        tiles: &[TileId],
    ) -> Result<BTreeMap<(u8, u64), Vec<u8>>, StoreError> {
        if tiles.is_empty() {
            return Ok(BTreeMap::new());
        }
        let levels: Vec<i16> = tiles.iter().map(|tile| i16::from(tile.level)).collect();
        let indexes: Vec<i64> = tiles.iter().map(|tile| to_sql(tile.index)).collect();
        let rows = retry(|| {
            sqlx::query!(
                "select t.level, t.tile_index, t.hashes
                 from unnest($2::smallint[], $3::bigint[]) as w (level, tile_index)
                 join log_tile t on t.tenant = $1 and t.level = w.level and t.tile_index = w.tile_index",
                tenant,
                &levels,
                &indexes
            )
            .fetch_all(self.reads())
        })
        .await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| Some(((u8::try_from(row.level).ok()?, from_sql(row.tile_index)), row.hashes)))
            .collect())
    }

    /// The hashes of a partial tile: of leaves, or roots of the tiles one level below. As far as they are there.
    async fn row_hashes(&self, tenant: &str, tile: TileId) -> Result<Vec<Hash>, StoreError> {
        let row = tile.row();
        if tile.level == 0 {
            let leaves = retry(|| {
                sqlx::query_scalar!(
                    "select leaf from log_entry
                     where tenant = $1 and log_index >= $2 and log_index < $3 order by log_index",
                    tenant,
                    to_sql(row.start),
                    to_sql(row.end)
                )
                .fetch_all(self.reads())
            })
            .await?;
            return Ok(leaves.iter().map(|leaf| leaf_hash(leaf)).collect());
        }
        let roots = retry(|| {
            sqlx::query_scalar!(
                "select root from log_tile
                 where tenant = $1 and level = $2 and tile_index >= $3 and tile_index < $4 order by tile_index",
                tenant,
                i16::from(tile.level) - 1,
                to_sql(row.start),
                to_sql(row.end)
            )
            .fetch_all(self.reads())
        })
        .await?;
        Ok(roots.iter().filter_map(|root| hash_from(root)).collect())
    }

    /// Why a tile that a tree of `size` must have is not there.
    async fn missing(&self, tenant: &str, tile: TileId, size: u64) -> Result<StoreError, StoreError> {
        let head = self.head(tenant).await?.ok_or_else(|| StoreError::NoTenant(tenant.to_owned()))?;
        if size > head.size {
            return Ok(StoreError::BeyondHead { asked: size, size: head.size });
        }
        let what = "the tile, or what it is made of, is missing".to_owned();
        Ok(StoreError::Integrity { table: "log_tile", key: tile.to_string(), what })
    }
}

/// Sizes that make no proof.
fn beyond(error: ProofError) -> StoreError {
    match error {
        ProofError::IndexBeyondSize { index: asked, size }
        | ProofError::Shrinks { old_size: asked, new_size: size } => StoreError::BeyondHead { asked, size },
        other => StoreError::Integrity { table: "log_tile", key: String::new(), what: other.to_string() },
    }
}
