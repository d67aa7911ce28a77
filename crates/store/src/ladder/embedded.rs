//! The bundled pglite: Postgres compiled to WebAssembly, inside this process, one connection.
//!
//! Always over a unix socket: over TCP it answers some 20 statements a second (docs/adr/0006).

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use pglite_oxide::PgliteServer;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{LadderError, place};

/// A running pglite.
pub struct Embedded {
    directory: PathBuf,
    sockets: PathBuf,
    server: Option<PgliteServer>,
    _lock: nix::fcntl::Flock<fs::File>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens or creates the database in `data_dir`.
    pub async fn start(data_dir: &Path) -> Result<Self, LadderError> {
        let data_dir = data_dir.to_owned();
        tokio::task::spawn_blocking(move || Self::open(&data_dir))
            .await
            .map_err(|error| LadderError::Embedded(error.to_string()))?
    }

    fn open(data_dir: &Path) -> Result<Self, LadderError> {
        let data_dir = std::path::absolute(data_dir).map_err(LadderError::io(data_dir))?;
        let directory = data_dir.join("pglite");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(LadderError::io(&directory))?;
        place::own(&directory, None)?;
        // Two processes on one directory would corrupt it, and nothing else prevents that.
        let Some(lock) = super::private::lock(&directory)? else {
            return Err(LadderError::InUse { path: directory });
        };
        let sockets = place::socket_folder(&directory, None)?;
        let socket = sockets.join(".s.PGSQL.5432");
        let _ = fs::remove_file(&socket);
        let server = PgliteServer::builder()
            .path(directory.join("data"))
            .unix(&socket)
            .start()
            .map_err(|error| LadderError::Embedded(format!("{error:#}")))?;
        Ok(Self { directory, sockets, server: Some(server), _lock: lock })
    }

    /// How to connect.
    pub fn connect_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host(&self.sockets.to_string_lossy())
            .port(5432)
            .username("postgres")
            .database("template1")
            .ssl_mode(PgSslMode::Disable)
    }

    /// The folder with its data.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.server.take().map(PgliteServer::shutdown) {
            tracing::error!("the embedded database did not stop cleanly: {error:#}");
        }
    }
}
