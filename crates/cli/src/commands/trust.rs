//! `catenary trust`: trust roots.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::{
    client::Client,
    draw::{items, string},
    exit::Exit,
    output::{BAD, GOOD, Output, paint},
};

/// Trust roots.
#[derive(Subcommand)]
pub enum Trust {
    /// Add a version of a trust root: certificate authorities, logs, timestamp authorities.
    Add {
        /// The trust domain. `sigstore` and `github` are built in, and can be replaced.
        #[arg(long)]
        domain: String,
        /// Bundles need no transparency log entry.
        #[arg(long)]
        no_log: bool,
        /// Certificates need no signed certificate timestamp.
        #[arg(long)]
        no_sct: bool,
        /// A `trusted_root.json`.
        file: PathBuf,
    },
    /// List trust domains.
    List,
    /// Show a trust domain with its authorities.
    Show {
        /// Its name.
        domain: String,
    },
    /// Withdraw a trust domain and everything that it vouches for, at once.
    Withdraw {
        /// Its name.
        domain: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

impl Trust {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::Add { domain, no_log, no_sct, file } => {
                let document = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                let mut body = json!({"domain": domain, "document": document});
                for (member, relaxed) in [("log", no_log), ("sct", no_sct)] {
                    if relaxed {
                        body[member] = json!(false);
                    }
                }
                let answer = client.post("/v1/trust", &body).await?;
                output.show(&answer, |a| {
                    format!("{} {domain} version {}", paint(GOOD, "trusted"), a["version"])
                });
            }
            Self::List => {
                let answer = client.get("/v1/trust").await?;
                output.show(&answer, |a| items(&a["items"]).iter().map(line).collect());
            }
            Self::Show { domain } => {
                let answer = client.get(&format!("/v1/trust/{domain}")).await?;
                output.show(&answer, |a| {
                    line(a) + &items(&a["authorities"]).iter().map(authority).collect::<String>()
                });
            }
            Self::Withdraw { domain, reason } => {
                let path = format!("/v1/trust/{domain}/withdraw");
                let answer = client.post(&path, &json!({"reason": reason})).await?;
                output.show(&answer, |_| {
                    format!("{} {domain}: no answer begun from now on counts it", paint(BAD, "withdrawn"))
                });
            }
        }
        Ok(Exit::Allowed)
    }
}

fn line(domain: &Value) -> String {
    let state = match domain["withdrawn"].as_str() {
        Some(reason) => paint(BAD, format!("withdrawn: {reason}")),
        None if domain["stale"] == true => paint(BAD, "stale".to_owned()),
        None => paint(GOOD, "trusted"),
    };
    let authorities = items(&domain["authorities"]).len();
    format!(
        "{:<20} version {:<4} {authorities} authorities  {state}\n",
        string(&domain["domain"]),
        domain["version"]
    )
}

fn authority(authority: &Value) -> String {
    let (from, until) = (string(&authority["validFrom"]), string(&authority["validUntil"]));
    format!("  {:<22} {} {from} … {until}\n", string(&authority["kind"]), string(&authority["id"]))
}
