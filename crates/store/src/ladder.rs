//! Where the database comes from: a URL, else a private cluster started from installed Postgres
//! binaries, else (feature `embedded`) the bundled pglite. The same migrations run on all three.
//!
//! This module only hands out a place to connect to and stops what it started. Pools, migrations and
//! every statement belong to the store.

mod binaries;
#[cfg(feature = "embedded")]
mod embedded;
mod place;
mod private;
mod scratch;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use sqlx::postgres::PgConnectOptions;
use thiserror::Error;

#[cfg(feature = "embedded")]
pub use embedded::Embedded;
pub use private::PrivateCluster;
pub use scratch::Scratch;

/// A database to connect to, and the server behind it when we started one.
#[cfg_attr(not(feature = "embedded"), expect(clippy::large_enum_variant, reason = "one per process"))]
pub enum Database {
    /// Someone else's server.
    Url(PgConnectOptions),
    /// A server that we started from installed binaries, and stop.
    Private(PrivateCluster),
    /// The bundled pglite, in this process.
    #[cfg(feature = "embedded")]
    Embedded(Embedded),
}

/// The rungs that [`Database::climb`] may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rungs {
    /// A server named by URL.
    pub url: bool,
    /// A private cluster.
    pub private: bool,
    /// The bundled pglite.
    pub embedded: bool,
}

impl Rungs {
    /// Every rung.
    pub const ALL: Self = Self { url: true, private: true, embedded: true };

    /// Every rung, or the one that `CATENARY_LADDER` names.
    pub fn from_env() -> Result<Self, LadderError> {
        std::env::var("CATENARY_LADDER").map_or(Ok(Self::ALL), |name| name.parse())
    }
}

impl FromStr for Rungs {
    type Err = LadderError;

    fn from_str(name: &str) -> Result<Self, LadderError> {
        let none = Self { url: false, private: false, embedded: false };
        match name {
            "" => Ok(Self::ALL),
            "url" => Ok(Self { url: true, ..none }),
            "private" => Ok(Self { private: true, ..none }),
            "embedded" => Ok(Self { embedded: true, ..none }),
            other => Err(LadderError::UnknownRung { name: other.to_owned() }),
        }
    }
}

/// Why there is no database.
#[derive(Debug, Error)]
pub enum LadderError {
    /// No rung holds.
    #[error(
        "no database: set CATENARY_DATABASE_URL, or install PostgreSQL (its initdb and postgres), or build with --features embedded"
    )]
    NoDatabase,
    /// `CATENARY_LADDER` names something else.
    #[error("CATENARY_LADDER is {name:?}; it can be url, private or embedded")]
    UnknownRung {
        /// What it says.
        name: String,
    },
    /// The URL does not parse. The URL itself may hold a password and is not repeated.
    #[error("CATENARY_DATABASE_URL is not a Postgres URL: {0}")]
    Url(#[source] sqlx::Error),
    /// The URL is of something else.
    #[error("CATENARY_DATABASE_URL does not start with postgres:// or postgresql://")]
    Scheme,
    /// A file or directory could not be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory that the database would lie in belongs to somebody else.
    #[error("{} belongs to user {owner}, not to {expected}: refusing to keep a database there", path.display())]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its user id.
        owner: u32,
        /// The user id that Postgres runs under.
        expected: u32,
    },
    /// The data were made by a version of Postgres that is not installed.
    #[error("{} was made by PostgreSQL {version}, which is not installed", path.display())]
    Version {
        /// The cluster.
        path: PathBuf,
        /// Its major version.
        version: String,
    },
    /// Another process holds the data directory and its server does not answer.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// `initdb` failed.
    #[error("initdb failed: {tail}")]
    Initdb {
        /// The end of what it said.
        tail: String,
    },
    /// The server ended while it started.
    #[error("postgres ended while it started ({status}): {tail}")]
    Exited {
        /// Its exit status.
        status: String,
        /// The end of its log.
        tail: String,
    },
    /// The server runs but accepts no connection.
    #[error("postgres accepts no connection after {seconds} s: {tail}")]
    Timeout {
        /// How long we waited.
        seconds: u64,
        /// The end of its log.
        tail: String,
    },
    /// The server that the URL names lets us make no database.
    #[error("cannot make a database of its own on the server of CATENARY_DATABASE_URL: {0}")]
    Scratch(#[source] sqlx::Error),
    /// The bundled pglite did not start.
    #[error("the embedded database did not start: {0}")]
    Embedded(String),
}

impl LadderError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

impl Database {
    /// Climbs the ladder: the first allowed rung that exists. `data_dir` is where a server of our own
    /// keeps its files.
    pub async fn climb(url: Option<&str>, data_dir: &Path, allow: Rungs) -> Result<Self, LadderError> {
        if let (true, Some(url)) = (allow.url, url) {
            // sqlx takes any scheme, so a typing error could become a database on localhost.
            if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
                return Err(LadderError::Scheme);
            }
            return Ok(Self::Url(url.parse().map_err(LadderError::Url)?));
        }
        if allow.private && !binaries::find().is_empty() {
            return Ok(Self::Private(PrivateCluster::start(data_dir).await?));
        }
        #[cfg(feature = "embedded")]
        if allow.embedded {
            return Ok(Self::Embedded(Embedded::start(data_dir).await?));
        }
        Err(LadderError::NoDatabase)
    }

    /// How to connect.
    pub fn connect_options(&self) -> PgConnectOptions {
        match self {
            Self::Url(options) => options.clone(),
            Self::Private(cluster) => cluster.connect_options(),
            #[cfg(feature = "embedded")]
            Self::Embedded(server) => server.connect_options(),
        }
    }

    /// The largest pool: pglite serves one connection, and a second one waits for ever.
    pub fn max_connections(&self) -> u32 {
        match self {
            Self::Url(_) | Self::Private(_) => 16,
            #[cfg(feature = "embedded")]
            Self::Embedded(_) => 1,
        }
    }

    /// One line for people, without secrets.
    pub fn describe(&self) -> String {
        match self {
            Self::Url(options) => format!(
                "PostgreSQL at {}:{}, database {}",
                options.get_host(),
                options.get_port(),
                options.get_database().unwrap_or("(default)")
            ),
            Self::Private(cluster) => {
                format!("private PostgreSQL cluster in {}", cluster.directory().display())
            }
            #[cfg(feature = "embedded")]
            Self::Embedded(server) => format!("embedded pglite in {}", server.directory().display()),
        }
    }

    /// Stops what we started and waits for it. Close every pool first. Dropping does the same.
    pub async fn shutdown(self) {
        // Stopping blocks for as long as Postgres takes to write its last checkpoint.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

/// The options of a URL would print its password.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({})", self.describe())
    }
}
