//! The log as it is read: heads, entries, bodies.

use std::collections::BTreeMap;

use catenary_evidence::digest::Sha256;

use crate::{Appended, EntryRow, Head, New, Store, StoreError};

impl Store {
    /// Makes the tenant's log with entry 0, which fixes its origin. Once made, it only compares the origin.
    pub async fn create_tenant(&self, tenant: &str, origin: &str) -> Result<Head, StoreError> {
        let _ = (tenant, origin);
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// Appends one item. Acknowledged when it is durable; a caller that goes away does not undo it.
    pub async fn append(&self, tenant: &str, new: New) -> Result<Appended, StoreError> {
        let _ = (tenant, new);
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// Appends many, each with its own result, in the order given.
    pub async fn append_all(&self, tenant: &str, new: Vec<New>) -> Vec<Result<Appended, StoreError>> {
        let _ = tenant;
        new.iter().map(|_| Err(StoreError::Unavailable("not yet written".into()))).collect()
    }

    /// Appends if no *control* entry was logged at or after `expected_size`; else [`StoreError::Conflict`].
    /// Evidence that arrives meanwhile does not matter: it cannot change what the caller read.
    pub async fn append_if(
        &self,
        tenant: &str,
        expected_size: u64,
        new: New,
    ) -> Result<Appended, StoreError> {
        let _ = (tenant, expected_size, new);
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// The head, read back after commit; `None` when there is no such tenant.
    pub async fn head(&self, tenant: &str) -> Result<Option<Head>, StoreError> {
        let _ = tenant;
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// The heads of several tenants in one query.
    pub async fn heads(&self, tenants: &[String]) -> Result<Vec<(String, Head)>, StoreError> {
        let _ = tenants;
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// Every tenant that has a log, by name.
    pub async fn tenants(&self) -> Result<Vec<String>, StoreError> {
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// The entries `from..to` in order; a gap is an [`StoreError::Integrity`].
    pub async fn entries(&self, tenant: &str, from: u64, to: u64) -> Result<Vec<EntryRow>, StoreError> {
        let _ = (tenant, from, to);
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// The entry of an item.
    pub async fn entry_of(&self, tenant: &str, id: Sha256) -> Result<Option<EntryRow>, StoreError> {
        let _ = (tenant, id);
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// Bodies by id, exactly as sent. Those whose bytes are gone or do not hash to their id are left out.
    pub async fn bodies(
        &self,
        tenant: &str,
        ids: &[Sha256],
    ) -> Result<BTreeMap<Sha256, Vec<u8>>, StoreError> {
        let _ = (tenant, ids);
        Err(StoreError::Unavailable("not yet written".into()))
    }
}
