//! `catenary registry`: what the notifications missed.

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::{
    client::Client,
    draw::{items, string},
    exit::Exit,
    output::Output,
};

/// Registries.
#[derive(Subcommand)]
pub enum Registry {
    /// Read the configured registries' catalogues and tags, and record what is there and not yet known.
    Reconcile,
}

impl Registry {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        let Self::Reconcile = self;
        let answer = client.post("/v1/registry/reconcile", &json!({})).await?;
        output.show(&answer, |a| items(&a["registries"]).iter().map(line).collect());
        let failed = items(&answer["registries"]).iter().any(|found| found["failed"].as_u64() != Some(0));
        Ok(if failed { Exit::Denied } else { Exit::Allowed })
    }
}

fn line(found: &Value) -> String {
    format!(
        "{}: {} repositories, {} tags, {} collected now, {} failed\n",
        string(&found["registry"]),
        found["repositories"],
        found["tags"],
        found["collected"],
        found["failed"]
    )
}
