//! The checkpoint kept outside the database: the log must extend it, and it must follow the log.

use std::sync::{Arc, PoisonError};

use catenary_tlog::{Checkpoint, verify_consistency};

use super::{
    Broken, FollowError, Shared, Snapshot,
    fold::Fold,
    tenant::{Tenant, Work},
};
use crate::{
    StoreError,
    checkpoints::{CheckpointStore, CheckpointsError},
};

impl Shared {
    /// Before the first reading: what the log must extend. Later ones are compared when ours is to follow.
    pub(super) async fn load_outside(&self, tenant: &Tenant, work: &mut Work) -> Result<(), FollowError> {
        let Some(store) = self.outside.clone() else { return Ok(()) };
        if work.outside.is_some() || work.fold.frontier.size() > 0 {
            return Ok(());
        }
        let name = tenant.name().to_owned();
        let kept = blocking(move || store.load(&name)).await?;
        work.outside = match kept {
            None => None,
            Some(bytes) => Some(self.open_outside(tenant, bytes)?),
        };
        Ok(())
    }

    /// Opens what is kept: one of our log keys must have signed it.
    fn open_outside(&self, tenant: &Tenant, bytes: Vec<u8>) -> Result<(Vec<u8>, Checkpoint), FollowError> {
        let bad = |what: String| tenant.unbelieved(Broken::BadCheckpoint { what });
        let text = std::str::from_utf8(&bytes).map_err(|error| bad(error.to_string()))?;
        let origin = text.lines().next().unwrap_or_default();
        let known = self.keys.log_verifiers(origin).map_err(|error| bad(error.to_string()))?;
        let checkpoint = Checkpoint::open(text, origin, &known).map_err(|error| bad(error.to_string()))?;
        Ok((bytes, checkpoint))
    }

    /// Whether `fold`, of which the first `had` entries were not read now, extends the checkpoint outside.
    pub(super) async fn check_outside(
        &self,
        tenant: &Tenant,
        work: &mut Work,
        fold: &Fold,
        had: u64,
    ) -> Result<(), FollowError> {
        let Some((_, kept)) = work.outside.clone().filter(|_| !work.outside_passed) else { return Ok(()) };
        let size = fold.frontier.size();
        if kept.origin != fold.origin {
            let reason = Broken::OtherOrigin { expected: kept.origin, found: fold.origin.clone() };
            return Err(tenant.unbelieved(reason));
        }
        if size < kept.size {
            // The head may have been read before another instance put the checkpoint there: ask again.
            let found = self.store.head(tenant.name()).await?.map_or(0, |head| head.size);
            if found < kept.size {
                return Err(tenant.unbelieved(Broken::ShorterThanCheckpoint { kept: kept.size, found }));
            }
            return Err(StoreError::Unavailable("the log grew while it was read".to_owned()).into());
        }
        // Within what was just read, the root was compared on the way.
        if kept.size <= had {
            self.extends(tenant, &kept, size, fold.frontier.root()).await?;
        }
        work.outside_passed = true;
        Ok(())
    }

    async fn extends(
        &self,
        tenant: &Tenant,
        kept: &Checkpoint,
        size: u64,
        root: catenary_tlog::Hash,
    ) -> Result<(), FollowError> {
        let not = || tenant.unbelieved(Broken::NotAnExtension { kept: kept.size });
        let proof = match self.store.consistency(tenant.name(), kept.size, size).await {
            Ok(proof) => proof,
            Err(StoreError::Integrity { .. }) => return Err(not()),
            Err(other) => return Err(other.into()),
        };
        verify_consistency(kept.size, kept.root, size, root, &proof).map_err(|_| not())
    }

    /// Puts every log's newest checkpoint outside.
    pub(super) async fn advance_checkpoints(&self) {
        let Some(store) = &self.outside else { return };
        let all: Vec<Arc<Tenant>> =
            self.tenants.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for tenant in all {
            let advanced = self.advance_checkpoint(store, &tenant).await.map_err(|error| tenant.stuck(error));
            if let Err(error) = advanced
                && !matches!(error, FollowError::Broken { .. })
            {
                tracing::warn!(tenant = tenant.name(), %error, "cannot keep the checkpoint outside");
            }
        }
    }

    async fn advance_checkpoint(
        &self,
        store: &CheckpointStore,
        tenant: &Arc<Tenant>,
    ) -> Result<(), FollowError> {
        let mut work = tenant.work.lock().await;
        let snapshot = tenant.snapshot()?;
        if work.outside.as_ref().is_some_and(|(_, kept)| kept.size >= snapshot.size) {
            return Ok(());
        }
        let (name, folder) = (tenant.name().to_owned(), store.clone());
        let kept = blocking(move || folder.load(&name)).await?;
        let seen = work.outside.as_ref().map(|(bytes, _)| bytes);
        if kept.as_ref() != seen {
            // Another instance was here, or somebody who should not have been.
            let Some(bytes) = kept.clone() else {
                return Err(tenant.unbelieved(Broken::BadCheckpoint { what: "it was removed".to_owned() }));
            };
            let (bytes, other) = self.open_outside(tenant, bytes)?;
            if other.origin != snapshot.origin {
                let reason = Broken::OtherOrigin { expected: other.origin, found: snapshot.origin.clone() };
                return Err(tenant.unbelieved(reason));
            }
            if other.size > snapshot.size {
                // It is ahead of us. The database must be, too: asked after the checkpoint was read.
                let head = self.store.head(tenant.name()).await?;
                let found = head.map_or(0, |head| head.size);
                if found < other.size {
                    let reason = Broken::ShorterThanCheckpoint { kept: other.size, found };
                    return Err(tenant.unbelieved(reason));
                }
                work.outside = Some((bytes, other));
                work.outside_passed = false;
                return Ok(());
            }
            self.extends(tenant, &other, snapshot.size, snapshot.root).await?;
        }
        self.put_outside(store, tenant, &mut work, kept, &snapshot).await
    }

    async fn put_outside(
        &self,
        store: &CheckpointStore,
        tenant: &Tenant,
        work: &mut Work,
        kept: Option<Vec<u8>>,
        snapshot: &Snapshot,
    ) -> Result<(), FollowError> {
        let note = self.sign(snapshot)?.into_bytes();
        let (name, folder, new) = (tenant.name().to_owned(), store.clone(), note.clone());
        let swapped = tokio::task::spawn_blocking(move || folder.advance(&name, kept.as_deref(), &new)).await;
        match swapped {
            Ok(Ok(())) => {
                let checkpoint = Checkpoint::new(&snapshot.origin, snapshot.size, snapshot.root);
                work.outside = Some((note, checkpoint));
                work.outside_passed = true;
                Ok(())
            }
            // Another instance was quicker; the next round looks at what it wrote.
            Ok(Err(CheckpointsError::Moved { .. })) => Ok(()),
            Ok(Err(error)) => Err(unavailable(&error)),
            Err(error) => Err(StoreError::Unavailable(error.to_string()).into()),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CheckpointsError> + Send + 'static,
) -> Result<T, FollowError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| unavailable(&error)),
        Err(error) => Err(StoreError::Unavailable(error.to_string()).into()),
    }
}

fn unavailable(error: &CheckpointsError) -> FollowError {
    FollowError::Store(StoreError::Unavailable(error.to_string()))
}
