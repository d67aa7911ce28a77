//! Which service keys the database belongs to: public parts and ids only.

use crate::{Store, StoreError};

/// One generation of one service key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceKeyRow {
    /// `log`, `mac`, `vsa` or `collector`.
    pub purpose: String,
    /// 1, 2, 3 …; the highest is the current one.
    pub generation: u32,
    /// Id of the key.
    pub key_id: String,
    /// Its public part; empty for the MAC key, which has none.
    pub public: String,
}

impl Store {
    /// Every recorded key, oldest generation first.
    pub async fn service_keys(&self) -> Result<Vec<ServiceKeyRow>, StoreError> {
        Err(StoreError::Unavailable("not yet written".into()))
    }

    /// Records new generations and compares the known ones: an instance whose keys are others, or which
    /// lacks a recorded one, is refused with [`StoreError::WrongKeys`].
    pub async fn bind_service_keys(&self, at_hand: &[ServiceKeyRow]) -> Result<(), StoreError> {
        let _ = at_hand;
        Err(StoreError::Unavailable("not yet written".into()))
    }
}
