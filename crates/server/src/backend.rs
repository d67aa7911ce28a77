//! The store, the follower and the service keys, as the routes use them.

use std::{sync::Arc, time::Duration};

use catenary_chain::control::{Control, Entry};
use catenary_evidence::digest::Sha256;
use catenary_store::{
    Appended, Head, Store,
    follow::{AppendError, FollowError, Follower, Snapshot},
    keys::ServiceKeys,
};
use catenary_tlog::Checkpoint;

use crate::{auth::PLATFORM, problem::Fault};

/// Everything behind the routes. Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    /// Evidence and logs.
    pub store: Store,
    /// What is known of each log, and how fresh that is.
    pub follower: Follower,
    /// The installation's own keys.
    pub keys: Arc<ServiceKeys>,
    /// Name of the logs.
    pub origin: String,
}

/// Why [`Backend::append_control`] appended nothing.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("nothing to do")]
    Nothing,
    #[error("{0}")]
    Fault(Fault),
}

impl Backend {
    /// The state of a tenant under a valid lease: from memory, or after asking the database.
    pub async fn snapshot(&self, tenant: &str) -> Result<Arc<Snapshot>, Fault> {
        Ok(self.follower.fresh(tenant).await?)
    }

    /// The same; `None` when there is no such tenant.
    pub async fn snapshot_if_known(&self, tenant: &str) -> Result<Option<Arc<Snapshot>>, Fault> {
        match self.follower.fresh(tenant).await {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(FollowError::NoTenant(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a tenant's log is readable without a credential.
    pub async fn is_public(&self, tenant: &str) -> Result<bool, Fault> {
        Ok(self.snapshot(PLATFORM).await?.control.tenants.get(tenant) == Some(&true))
    }

    /// The same without waiting: no while that is not known.
    pub fn is_public_now(&self, tenant: &str) -> bool {
        let platform = self.follower.snapshot(PLATFORM).ok().filter(|_| self.follower.lease_valid(PLATFORM));
        platform.is_some_and(|platform| platform.control.tenants.get(tenant) == Some(&true))
    }

    /// Waits until the entry is followed.
    pub async fn wait_for(&self, tenant: &str, index: u64, wait: Duration) -> Result<Arc<Snapshot>, Fault> {
        Ok(self.follower.wait_for(tenant, index, wait).await?)
    }

    /// Appends a control entry that `decide` makes from the newest control state; acknowledged only when no
    /// answer begun from now on, on any instance, can miss it. `None`: it is so already, and nothing can miss that either.
    ///
    /// In its own task: a client that hangs up cannot stop it half-way.
    pub async fn append_control(
        &self,
        tenant: &str,
        submitter: Sha256,
        decide: impl Fn(&Control) -> Result<Option<Entry>, Fault> + Send + Sync + 'static,
    ) -> Result<Option<Appended>, Fault> {
        let (follower, tenant) = (self.follower.clone(), tenant.to_owned());
        let task = tokio::spawn(async move {
            let decide = |snapshot: &Snapshot| match decide(&snapshot.control) {
                Ok(Some(entry)) => Ok(entry),
                Ok(None) => Err(Stop::Nothing),
                Err(fault) => Err(Stop::Fault(fault)),
            };
            let done = follower.append_control(&tenant, submitter, decide).await;
            if matches!(done, Err(AppendError::Refused(Stop::Nothing))) {
                follower.settled(&tenant).await?;
            }
            done
        });
        match task.await.map_err(|_| Fault::Internal)? {
            Ok((appended, _)) => Ok(Some(appended)),
            Err(AppendError::Refused(Stop::Nothing)) => Ok(None),
            Err(AppendError::Refused(Stop::Fault(fault))) => Err(fault),
            Err(AppendError::Follow(error)) => Err(error.into()),
        }
    }

    /// The signed checkpoint of a head that was read back after its commit.
    pub fn checkpoint(&self, head: &Head) -> Result<String, Fault> {
        let failed = |why: String| {
            tracing::error!(why, "a checkpoint cannot be signed");
            Fault::Internal
        };
        let signer = self.keys.log_signer(&head.origin).map_err(|e| failed(e.to_string()))?;
        Checkpoint::new(&head.origin, head.size, head.root).sign(&signer).map_err(|e| failed(e.to_string()))
    }

    /// The name of a tenant's log.
    pub fn origin_of(&self, tenant: &str) -> String {
        format!("{}/{tenant}", self.origin)
    }
}
