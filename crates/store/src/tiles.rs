//! Tiles that were read: one of a given width never changes.

use std::sync::Arc;

use catenary_tlog::{Tile, TileId};
use quick_cache::{Equivalent, Weighter, sync::Cache};

/// Bytes of tiles, with the subtrees in them: of half a million entries.
const BYTES: u64 = 32 * 1024 * 1024;
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

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Key, Arc<Tile>> for ByBytes {
    fn weight(&self, Key(tenant, _): &Key, tile: &Arc<Tile>) -> u64 {
        // As if the subtrees were there: they come later.
        (tenant.len() + 2 * tile.bytes().len() + 256) as u64
    }
}

/// Tiles of every tenant's log, bounded in bytes.
#[derive(Debug)]
pub(crate) struct Tiles(Cache<Key, Arc<Tile>, ByBytes>);

impl Default for Tiles {
    fn default() -> Self {
        Self(Cache::with_weighter((BYTES / TILE) as usize, BYTES, ByBytes))
    }
}

impl Tiles {
    pub(crate) fn get(&self, tenant: &str, tile: TileId) -> Option<Arc<Tile>> {
        self.0.get(&Asked(tenant, tile))
    }

    pub(crate) fn keep(&self, tenant: &str, id: TileId, tile: Tile) -> Arc<Tile> {
        let kept = Arc::new(tile);
        self.0.insert(Key(tenant.to_owned(), id), kept.clone());
        kept
    }
}
