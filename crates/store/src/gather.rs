//! The evidence of one frontier, believed only under its seal and only with intact bytes.

use catenary_chain::gather::{Evidence, Want};
use catenary_evidence::KeyRing;
use catenary_tlog::Hash;

use crate::{Store, StoreError};

/// The part of a log that the caller has followed: what it may believe.
#[derive(Debug, Clone)]
pub struct Prefix {
    /// Number of entries.
    pub size: u64,
    /// Root of the tree of that size, as the caller computed it.
    pub root: Hash,
    /// Every key that was ever registered: with them a changed row is derived anew.
    pub keys: KeyRing,
}

impl Store {
    /// Adds to `into` what the first `at.size` entries hold about the wanted nodes.
    ///
    /// A row whose seal is broken is derived anew from its body, when the leaf proves the body and the tree
    /// proves the leaf; else it is named as damaged, and absent. Three round trips.
    pub async fn gather(
        &self,
        tenant: &str,
        want: &Want,
        at: &Prefix,
        into: &mut Evidence,
    ) -> Result<(), StoreError> {
        let _ = (tenant, want, at, into);
        Err(StoreError::Unavailable("not yet written".into()))
    }
}
