//! An end to every write. A connection that leads nowhere, because a router or a firewall forgot it, says nothing for ever, and whoever
//! waited for it would wait as long.

use std::time::Duration;

use crate::StoreError;

/// The longest that a write takes, waiting for a connection included. The server ends each of its statements sooner.
const PATIENCE: Duration = Duration::from_secs(15);

/// The work, or that it took too long. Whether a transaction was committed is not known then: its connection is closed.
pub(crate) async fn in_time<T, E: From<sqlx::Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    within(PATIENCE, work).await
}

/// The work in a task of its own, as every transaction: a caller that goes away does not end it half-way.
pub(crate) async fn own_task<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string()).into()))
}

async fn within<T, E: From<sqlx::Error>>(
    patience: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn what_never_answers_is_unavailable() {
        let patience = Duration::from_millis(10);
        let mute = within(patience, pending::<Result<(), StoreError>>()).await;
        assert!(matches!(mute, Err(StoreError::Unavailable(_))), "{mute:?}");
        assert_eq!(within(patience, ready(Ok::<_, StoreError>(7))).await, Ok(7));
    }
}
