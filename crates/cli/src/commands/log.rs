//! `catenary log`: the tamper-evident log.

mod export;
mod replay;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use catenary_store::{audit::ReindexedLog, checkpoints::CheckpointStore};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use crate::{
    client::Client,
    exit::Exit,
    output::{BAD, GOOD, Output, WARN, paint},
};

/// The log.
#[derive(Subcommand)]
pub enum Log {
    /// Recompute the whole tree and every derived row from the stored bytes, and name each difference. Reads the database.
    Verify(Local),
    /// Write every derived row anew from the signed bytes, for a database that an earlier build filled. Stop the service first; verify
    /// the log afterwards.
    Reindex(Local),
    /// Believe the database after a restore: put aside the outside checkpoint that it is behind of. Stop the service first.
    Accept {
        #[command(flatten)]
        local: Local,
        /// Yes: entries after the restored ones are lost, revocations among them.
        #[arg(long)]
        entries_are_lost: bool,
    },
    /// Write the whole log, the decisions and their verdicts into a folder (auditor).
    Export(export::Export),
    /// Compute every recorded verdict again from an export, with no service, and compare the bytes.
    Replay(replay::Replay),
    /// Print the newest signed checkpoint.
    Checkpoint {
        /// The tenant.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
}

/// Where the database and the keys are; the same settings as `serve`.
#[derive(Args)]
pub struct Local {
    /// Data folder.
    #[arg(long, env = "CATENARY_DATA")]
    data: Option<PathBuf>,
    /// Configuration file.
    #[arg(long, env = "CATENARY_CONFIG")]
    config: Option<PathBuf>,
    /// One tenant; default all.
    #[arg(long)]
    tenant: Option<String>,
}

impl Log {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::Verify(local) => local.verify(output).await,
            Self::Reindex(local) => local.reindex(output).await,
            Self::Export(export) => export.run(client, output).await,
            Self::Replay(replay) => replay.run(output),
            Self::Accept { local, entries_are_lost } => local.accept(entries_are_lost, output),
            Self::Checkpoint { tenant } => {
                let response =
                    client.send(client.request(Method::GET, &format!("/v1/log/{tenant}/checkpoint"))).await?;
                let text = response.text().await?;
                output.show(&json!({"checkpoint": text}), |_| text.clone());
                Ok(Exit::Allowed)
            }
        }
    }
}

impl Local {
    /// The one tenant that was asked for.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The service's own configuration.
    pub fn config(&self) -> Result<catenary_server::Config> {
        let mut config = catenary_server::Config::load(self.config.as_deref())?;
        if let Some(data) = &self.data {
            config.data = data.clone();
        }
        Ok(config)
    }

    fn accept(&self, entries_are_lost: bool, output: &Output) -> Result<Exit> {
        let folder = self.config()?.checkpoints().context("the outside checkpoints are off")?;
        let checkpoints = CheckpointStore::open(&folder)?;
        let tenants = self.tenant.clone().map_or_else(|| checkpoints.tenants(), |tenant| vec![tenant]);
        if !entries_are_lost {
            bail!(
                "a log that is shorter than its checkpoint has lost entries, perhaps revocations; say --entries-are-lost to go on"
            );
        }
        let mut accepted = Vec::new();
        for tenant in tenants {
            if checkpoints.accept(&tenant)?.is_some() {
                accepted.push(tenant);
            }
        }
        output.show(&json!({"accepted": accepted}), |_| {
            format!(
                "{} {}: the old checkpoints are kept aside in {}",
                paint(WARN, "accepted"),
                accepted.join(", "),
                folder.display()
            )
        });
        Ok(Exit::Allowed)
    }

    async fn reindex(self, output: &Output) -> Result<Exit> {
        let config = self.config()?;
        let done = catenary_server::log_reindex(config, self.tenant.as_deref()).await?;
        output.show(&serde_json::to_value(&done)?, |_| {
            let log = |log: &ReindexedLog| {
                let ReindexedLog { tenant, attestations, objects, removed } = log;
                format!(
                    "{} {tenant}: {attestations} attestations, {objects} objects, {removed} rows of no entry removed",
                    paint(GOOD, "written")
                )
            };
            let refused = done.refused.iter().map(|why| format!("{} {why}", paint(BAD, "refused")));
            done.logs.iter().map(log).chain(refused).collect::<Vec<_>>().join("\n")
        });
        Ok(if done.refused.is_empty() { Exit::Allowed } else { Exit::Denied })
    }

    async fn verify(self, output: &Output) -> Result<Exit> {
        let config = self.config()?;
        let report = catenary_server::log_verify(config, self.tenant.as_deref()).await?;
        show_report(&report, output)
    }
}

/// What a check found; denied when something differs.
pub fn show_report(report: &catenary_store::audit::Report, output: &Output) -> Result<Exit> {
    let clean = report.differences.is_empty();
    output.show(&serde_json::to_value(report)?, |_| {
        let lines: Vec<String> =
            report.differences.iter().map(|d| format!("{} {d}", paint(BAD, "differs"))).collect();
        let entries: u64 = report.logs.iter().map(|log| log.entries).sum();
        let sum = format!("{entries} entries in {} logs", report.logs.len());
        match (clean, report.logs.is_empty()) {
            (true, true) => paint(GOOD, "clean"),
            (true, false) => format!("{} {sum}", paint(GOOD, "clean")),
            (false, _) => format!("{}\n{sum}", lines.join("\n")),
        }
    });
    Ok(if clean { Exit::Allowed } else { Exit::Denied })
}
