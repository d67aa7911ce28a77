//! Polls that several wait for.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, MutexGuard};

use super::FollowError;

/// The number of a poll, and what came of it.
type Done = Option<(u64, Result<(), FollowError>)>;

/// Polls of one tenant, numbered in the order in which they began.
#[derive(Debug, Default)]
pub struct Polls {
    begun: AtomicU64,
    last: Mutex<Done>,
}

impl Polls {
    /// The number of the last poll that began: those with a larger one begin later.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Begins one; only who has the turn does.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Waits for the turn, and tells how the last poll ended.
    pub async fn turn(&self) -> MutexGuard<'_, Done> {
        self.last.lock().await
    }
}
