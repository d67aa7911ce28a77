//! `catenary decisions`: what was answered to whom.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::log::{Local, show_report};
use crate::{
    client::{Client, query},
    exit::Exit,
    output::{BAD, GOOD, Output, paint},
};

/// Decisions.
#[derive(Subcommand)]
pub enum Decisions {
    /// List decisions, newest first.
    List(List),
    /// Check every chain of records, and every row and verdict against it. Reads the database.
    Verify(Local),
}

/// Which decisions.
#[derive(Args)]
pub struct List {
    /// `registry/repository@sha256:…`, or a bare digest.
    #[arg(long)]
    image: Option<String>,
    /// Public id of a token.
    #[arg(long)]
    principal: Option<String>,
    /// For example `prod`.
    #[arg(long, alias = "env")]
    environment: Option<String>,
    /// First answered at or after (RFC 3339).
    #[arg(long)]
    since: Option<String>,
    /// First answered before (RFC 3339).
    #[arg(long)]
    until: Option<String>,
    /// Allowed ones only, or denied ones only.
    #[arg(long)]
    allowed: Option<bool>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

impl Decisions {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::List(list) => list.run(client, output).await,
            Self::Verify(local) => {
                let tenant = local.tenant().map(str::to_owned);
                let report = catenary_server::decisions_verify(local.config()?, tenant.as_deref()).await?;
                show_report(&report, output)
            }
        }
    }
}

impl List {
    async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        let choices = [
            ("image", self.image),
            ("principal", self.principal),
            ("environment", self.environment),
            ("since", self.since),
            ("until", self.until),
            ("allowed", self.allowed.map(|allowed| allowed.to_string())),
        ];
        let mut path = format!("/v1/decisions?limit={}", self.limit);
        for (name, value) in choices.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            path += &format!("&{name}={}", query(value));
        }
        let page = client.get(&path).await?;
        output.show(&page, |page| {
            let items = page["items"].as_array().cloned().unwrap_or_default();
            let lines: Vec<String> = items.iter().map(line).collect();
            if lines.is_empty() { "no decision".to_owned() } else { lines.join("\n") }
        });
        Ok(Exit::Allowed)
    }
}

fn line(item: &Value) -> String {
    let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
    let (style, word) = if item["allowed"] == true { (GOOD, "allowed") } else { (BAD, "denied ") };
    format!(
        "{} {} {}× {} {} {} {}",
        text("first"),
        paint(style, word),
        item["count"],
        text("principal"),
        text("image"),
        text("environment"),
        text("verdict")
    )
}
