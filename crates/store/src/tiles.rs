//! Tiles that were read: one of a given width never changes.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use catenary_tlog::{Tile, TileError, TileId};
use quick_cache::{Equivalent, Weighter, sync::Cache};

/// Bytes of tiles.
const BYTES: u64 = 24 * 1024 * 1024;
/// Most tiles are full, and some have the subtrees computed.
const TILE: u64 = 16 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key(String, TileId);

/// The same, not yet owned.
#[derive(PartialEq, Eq, Hash)]
struct Asked<'a>(&'a str, TileId);

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.0 == *key.0 && self.1 == key.1
    }
}

/// A tile as it is served, and as proofs read it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) bytes: Bytes,
    tree: OnceLock<Arc<Tile>>,
}

impl Kept {
    pub(crate) fn tree(&self, id: TileId) -> Result<Arc<Tile>, TileError> {
        if let Some(tree) = self.tree.get() {
            return Ok(tree.clone());
        }
        let tree = Arc::new(Tile::decode(id, &self.bytes)?);
        Ok(self.tree.get_or_init(|| tree).clone())
    }
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Key, Arc<Kept>> for ByBytes {
    fn weight(&self, Key(tenant, _): &Key, kept: &Arc<Kept>) -> u64 {
        // As if the subtrees were there: they come later.
        (tenant.len() + 3 * kept.bytes.len() + 256) as u64
    }
}

/// Tiles of every tenant's log, bounded in bytes.
#[derive(Debug)]
pub(crate) struct Tiles(Cache<Key, Arc<Kept>, ByBytes>);

impl Default for Tiles {
    fn default() -> Self {
        Self(Cache::with_weighter((BYTES / TILE) as usize, BYTES, ByBytes))
    }
}

impl Tiles {
    pub(crate) fn get(&self, tenant: &str, tile: TileId) -> Option<Arc<Kept>> {
        self.0.get(&Asked(tenant, tile))
    }

    pub(crate) fn keep(&self, tenant: &str, tile: TileId, bytes: Vec<u8>) -> Arc<Kept> {
        let kept = Arc::new(Kept { bytes: bytes.into(), tree: OnceLock::new() });
        self.0.insert(Key(tenant.to_owned(), tile), kept.clone());
        kept
    }
}
