//! Polls that several wait for.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::FollowError;

/// The number of a poll, and what came of it.
type Done = Option<(u64, Result<(), FollowError>)>;

/// Polls of one tenant, numbered in the order in which they began.
#[derive(Debug, Default)]
pub struct Polls {
    /// The number of the last one that began: those with a larger one begin later.
    begun: AtomicU64,
    /// Who holds it polls.
    last: Mutex<Done>,
}

impl Polls {
    /// What came of a poll that begins after this call, shared by all who wait for one: at most one is under way, and one is next.
    pub async fn after_now(
        &self,
        poll: impl Future<Output = Result<(), FollowError>>,
    ) -> Result<(), FollowError> {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((number, result)) = &*last
            && *number > asked
        {
            return result.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let result = poll.await;
        *last = Some((number, result.clone()));
        result
    }
}
