//! `catenary tenant`: logs that know nothing of each other.

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use crate::{
    client::Client,
    draw::{items, string},
    exit::Exit,
    output::{GOOD, Output, paint},
};

/// Tenants.
#[derive(Subcommand)]
pub enum Tenant {
    /// Make a tenant; its first admin token is shown once.
    Create {
        /// Lower-case letters, digits and dashes.
        name: String,
        /// Let anyone read the log (leaves and proofs, not bodies).
        #[arg(long)]
        public_log: bool,
    },
    /// List tenants.
    List,
}

impl Tenant {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::Create { name, public_log } => {
                let answer =
                    client.post("/v1/tenants", &json!({"name": name, "publicLog": public_log})).await?;
                output.show(&answer, |a| {
                    format!("{} {name}\nadmin token {}", paint(GOOD, "created"), string(&a["adminToken"]))
                });
            }
            Self::List => {
                let answer = client.get("/v1/tenants").await?;
                output.show(&answer, |a| {
                    items(&a["items"]).iter().map(|t| format!("{}\n", string(&t["name"]))).collect()
                });
            }
        }
        Ok(Exit::Allowed)
    }
}
