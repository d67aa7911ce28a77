//! Why the store did not do what it was asked.

use std::time::Duration;

use jiff::Timestamp;

/// One fact that a caller can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, did not answer in time, or the outcome of a commit is unknown.
    /// Asking again is safe: writes are idempotent.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// More is waiting to be written than the queue takes.
    #[error("too much is waiting to be written; ask again later")]
    Busy,
    /// The database's clock stands behind the log, or away from this machine's.
    #[error("the database clock says {database}, the last entry {last}, this machine {instance}")]
    ClockSkew {
        /// The database's clock.
        database: Timestamp,
        /// Time of the last entry.
        last: Timestamp,
        /// This machine's clock.
        instance: Timestamp,
    },
    /// The control state moved on since the caller read it: read again, decide again.
    #[error("the log took a control entry at {at}, after the {expected} entries that were read")]
    Conflict {
        /// Size of the log that the caller had read.
        expected: u64,
        /// Index of the newest control entry.
        at: u64,
    },
    /// A key was registered after the caller's key ring was made: verify again with the newer ring.
    #[error("a key was registered at {at}, after the {verified_at} entries whose keys were used")]
    KeysMoved {
        /// Size of the log whose keys were used.
        verified_at: u64,
        /// Index of the `trust.added`.
        at: u64,
    },
    /// The same bytes are in the log as something else.
    #[error("these bytes are already entry {index}, of kind `{kind}`")]
    OtherKind {
        /// Index of that entry.
        index: u64,
        /// Its kind.
        kind: String,
    },
    /// Another object proves the same node: a hash collision.
    #[error("another object already proves {node}")]
    NodeTaken {
        /// The node.
        node: String,
    },
    /// The item cannot be written as a leaf, or its id is not the SHA-256 of its bytes.
    #[error("the item cannot be logged: {0}")]
    Unloggable(String),
    /// No such tenant.
    #[error("there is no tenant `{0}`")]
    NoTenant(String),
    /// The tenant exists with another origin: an origin never changes.
    #[error("the log of `{tenant}` has the origin `{found}`, not `{expected}`")]
    OtherOrigin {
        /// The tenant.
        tenant: String,
        /// Configured.
        expected: String,
        /// In the database.
        found: String,
    },
    /// A position that the log does not have (yet).
    #[error("the log has {size} entries; {asked} is beyond it")]
    BeyondHead {
        /// What was asked for.
        asked: u64,
        /// What there is.
        size: u64,
    },
    /// What is stored does not agree with itself.
    #[error("{table} {key}: {what}")]
    Integrity {
        /// The table.
        table: &'static str,
        /// The row.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// The database belongs to an installation with other service keys.
    #[error("the database was written with {purpose} key {expected}, this instance has {found}")]
    WrongKeys {
        /// `log`, `mac`, `vsa` or `collector`, with its generation.
        purpose: String,
        /// Id in the database.
        expected: String,
        /// Id of the key at hand, or `none`.
        found: String,
    },
    /// The migrations could not be applied.
    #[error("the database could not be prepared: {0}")]
    Migration(String),
    /// What lies between us and the database answers with other statements' rows.
    #[error(
        "a pooler before the database mixes up prepared statements ({0}): let it pool sessions (`pool_mode = session`), let it know \
         prepared statements (PgBouncer 1.21 or newer with `max_prepared_statements`), or connect without it"
    )]
    Pooler(String),
    /// A defect: the database refused a statement.
    #[error("the database refused a statement: {0}")]
    Refused(String),
}

impl StoreError {
    /// Whether asking again later can help, and after how long.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(_) | Self::Busy | Self::ClockSkew { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

/// `serialization_failure`, `deadlock_detected`: the same transaction can succeed when run again.
const RETRY: [&str; 2] = ["40001", "40P01"];

/// Out of connections, shutting down, starting up, out of disk or memory, cancelled by a time limit, a disk that does not read.
const UNAVAILABLE: [&str; 13] = [
    "53000", "53100", "53200", "53300", "53400", "55P03", "57014", "57P01", "57P02", "57P03", "25P03",
    "25006", "58030",
];

/// `data_corrupted`, `index_corrupted`: a page whose checksum does not hold.
const DAMAGED: [&str; 2] = ["XX001", "XX002"];

/// The SQLSTATE, when the server sent one.
fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned())
}

/// Whether the transaction should simply be run again.
pub(crate) fn is_retryable(error: &sqlx::Error) -> bool {
    sqlstate(error).is_some_and(|code| RETRY.contains(&code.as_str()))
}

/// Whether the connection is gone, so that another one may do better.
pub(crate) fn is_disconnect(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_))
        || sqlstate(error).is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let waits =
            matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed);
        let code = sqlstate(&error);
        let damaged = code.as_deref().is_some_and(|code| DAMAGED.contains(&code));
        if damaged {
            tracing::error!(%error, "what the database stores is damaged");
        }
        let transient = code.is_some_and(|code| {
            UNAVAILABLE.contains(&code.as_str()) || RETRY.contains(&code.as_str()) || code.starts_with("08")
        });
        if waits || damaged || transient || is_disconnect(&error) {
            Self::Unavailable(error.to_string())
        } else {
            Self::Refused(error.to_string())
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        match error {
            sqlx::migrate::MigrateError::Execute(error) => error.into(),
            error => Self::Migration(error.to_string()),
        }
    }
}
