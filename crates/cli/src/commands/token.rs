//! `catenary token`: who may talk to the service.

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use crate::{
    client::Client,
    draw::{items, string},
    exit::Exit,
    output::{BAD, GOOD, Output, paint},
};

/// API tokens.
#[derive(Subcommand)]
pub enum Token {
    /// Make a token; it is shown once.
    Create {
        /// A name for people.
        name: String,
        /// submitter, reader, auditor or admin.
        #[arg(long)]
        role: String,
        /// For example 30d or 12h; at most 366d.
        #[arg(long, default_value = "90d")]
        expires_in: String,
        /// A submitter may speak about these repositories only (globs).
        #[arg(long = "repository")]
        repositories: Vec<String>,
        /// A submitter may post these predicate types only.
        #[arg(long = "predicate-type")]
        predicate_types: Vec<String>,
    },
    /// List tokens (never their secrets).
    List,
    /// Revoke a token, at once.
    Revoke {
        /// The token's public id.
        id: String,
        /// Why.
        #[arg(long, default_value = "revoked by an administrator")]
        reason: String,
    },
}

impl Token {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::Create { name, role, expires_in, repositories, predicate_types } => {
                let body = json!({"name": name, "role": role, "expiresIn": expires_in, "repositories": repositories, "predicateTypes": predicate_types});
                let answer = client.post("/v1/tokens", &body).await?;
                output.show(&answer, |a| {
                    format!(
                        "{}\nid {}, expires {}; it is not shown again",
                        string(&a["token"]),
                        string(&a["id"]),
                        string(&a["expires"])
                    )
                });
            }
            Self::List => {
                let answer = client.get("/v1/tokens").await?;
                output.show(&answer, |a| {
                    let line = |t: &serde_json::Value| {
                        let state = if t["revoked"] == json!(true) {
                            paint(BAD, "revoked")
                        } else {
                            paint(GOOD, "valid")
                        };
                        format!(
                            "{:<12} {:<10} {:<20} until {} {state}\n",
                            string(&t["id"]),
                            string(&t["role"]),
                            string(&t["name"]),
                            string(&t["expires"])
                        )
                    };
                    items(&a["items"]).iter().map(line).collect()
                });
            }
            Self::Revoke { id, reason } => {
                let answer =
                    client.post(&format!("/v1/tokens/{id}/revoke"), &json!({"reason": reason})).await?;
                output.show(&answer, |_| format!("{} {id}", paint(BAD, "revoked")));
            }
        }
        Ok(Exit::Allowed)
    }
}
