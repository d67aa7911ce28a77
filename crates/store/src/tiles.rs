//! Tiles that were read: one of a given width never changes.

use std::sync::Arc;

use catenary_tlog::TileId;
use quick_cache::{Weighter, sync::Cache};

/// Bytes of tiles.
const BYTES: u64 = 24 * 1024 * 1024;
/// Most tiles are full.
const TILE: u64 = 8 * 1024;

type Key = (String, TileId);

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Key, Arc<[u8]>> for ByBytes {
    fn weight(&self, (tenant, _): &Key, bytes: &Arc<[u8]>) -> u64 {
        (tenant.len() + bytes.len() + 128) as u64
    }
}

/// Tiles of every tenant's log, bounded in bytes.
#[derive(Debug)]
pub(crate) struct Tiles(Cache<Key, Arc<[u8]>, ByBytes>);

impl Default for Tiles {
    fn default() -> Self {
        Self(Cache::with_weighter((BYTES / TILE) as usize, BYTES, ByBytes))
    }
}

impl Tiles {
    pub(crate) fn get(&self, tenant: &str, tile: TileId) -> Option<Vec<u8>> {
        Some(self.0.get(&(tenant.to_owned(), tile))?.to_vec())
    }

    pub(crate) fn keep(&self, tenant: &str, tile: TileId, bytes: &[u8]) {
        self.0.insert((tenant.to_owned(), tile), bytes.into());
    }
}
