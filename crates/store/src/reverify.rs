//! Verifying what is stored under a newly registered key.

use catenary_evidence::{KeyId, KeyRing};

use crate::{Store, StoreError};

impl Store {
    /// Verifies every stored attestation and git object with `ring`, which holds `key`, and adds `key` to
    /// the signers of those that it vouches for. Returns how many rows changed; a second run changes none.
    pub async fn reverify(&self, tenant: &str, ring: &KeyRing, key: KeyId) -> Result<u64, StoreError> {
        let _ = (tenant, ring, key);
        Err(StoreError::Unavailable("not yet written".into()))
    }
}
