//! Proofs, tiles and entry bundles, made from full tiles and the entries of the right edge.

use catenary_tlog::{BundleId, Hash, TileId};

use crate::{Store, StoreError};

impl Store {
    /// The proof that entry `index` is in the tree of `size` entries.
    pub async fn inclusion(&self, tenant: &str, index: u64, size: u64) -> Result<Vec<Hash>, StoreError> {
        let _ = (tenant, index, size);
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// Proofs for several entries in the same tree, in the order asked for.
    pub async fn inclusions(
        &self,
        tenant: &str,
        indexes: &[u64],
        size: u64,
    ) -> Result<Vec<Vec<Hash>>, StoreError> {
        let _ = (tenant, indexes, size);
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// The proof that the tree of `new` entries extends the one of `old`.
    pub async fn consistency(&self, tenant: &str, old: u64, new: u64) -> Result<Vec<Hash>, StoreError> {
        let _ = (tenant, old, new);
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// The root of the first `size` entries, from the tiles of today.
    pub async fn root_at(&self, tenant: &str, size: u64) -> Result<Hash, StoreError> {
        let _ = (tenant, size);
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// The bytes of a tile; `None` when the log has not grown that far.
    pub async fn tile(&self, tenant: &str, tile: TileId) -> Result<Option<Vec<u8>>, StoreError> {
        let _ = (tenant, tile);
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// The bytes of an entry bundle; `None` when the log has not grown that far.
    pub async fn entry_bundle(&self, tenant: &str, bundle: BundleId) -> Result<Option<Vec<u8>>, StoreError> {
        let _ = (tenant, bundle);
        Err(StoreError::Unavailable("not yet written".into()))
    }
}
