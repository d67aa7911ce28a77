//! `catenary serve`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::exit::Exit;

/// Run the service.
#[derive(Args)]
pub struct Serve {
    /// Where to listen.
    #[arg(long, env = "CATENARY_LISTEN")]
    listen: Option<String>,
    /// Data folder: private database, keys, checkpoints, first tokens.
    #[arg(long, env = "CATENARY_DATA")]
    data: Option<PathBuf>,
    /// Configuration file (TOML).
    #[arg(long, env = "CATENARY_CONFIG")]
    config: Option<PathBuf>,
}

impl Serve {
    /// Serves until a signal ends it.
    pub async fn run(self) -> Result<Exit> {
        catenary_server::init_logging();
        let mut config = catenary_server::Config::load(self.config.as_deref())?;
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if let Some(data) = self.data {
            config.data = data;
        }
        catenary_server::run(config).await?;
        Ok(Exit::Allowed)
    }
}
