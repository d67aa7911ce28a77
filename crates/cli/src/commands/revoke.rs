//! `catenary revoke`: trust is withdrawn, from everything or from a moment on.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::impact;
use crate::{
    client::Client,
    draw::{items, string},
    exit::Exit,
    output::{BAD, Output, paint},
};

/// What is revoked.
#[derive(Subcommand)]
pub enum Revoke {
    /// A registered key, by its id.
    Key(One),
    /// Certificates, by their subject alternative name.
    Identity(Identity),
    /// A builder id, byte for byte.
    Builder(One),
    /// One attestation, by its id.
    Attestation(One),
    /// An image, by its digest.
    Artifact(One),
    /// A commit, by its hash.
    Commit(One),
    /// A certificate authority, log or timestamp authority, by the id under which `catenary trust list` shows it.
    Authority(One),
    /// What is revoked already.
    List,
}

/// One thing by its name.
#[derive(Args)]
pub struct One {
    /// Its name.
    name: String,
    #[command(flatten)]
    how: How,
}

/// Certificates.
#[derive(Args)]
pub struct Identity {
    /// The subject alternative name, or a pattern of it.
    name: String,
    /// How the name is compared; always from end to end.
    #[arg(long = "match", value_enum, default_value_t = Match::Exact)]
    compare: Match,
    /// Only of this OIDC issuer.
    #[arg(long)]
    issuer: Option<String>,
    /// Only of this trust domain.
    #[arg(long)]
    root: Option<String>,
    #[command(flatten)]
    how: How,
}

/// How names are compared.
#[derive(Clone, Copy, ValueEnum)]
pub enum Match {
    /// The whole name.
    Exact,
    /// Its beginning.
    Prefix,
    /// `*` within a segment, `**` across.
    Glob,
    /// A regular expression, anchored at both ends.
    Regex,
}

/// Since when, and why.
#[derive(Args)]
pub struct How {
    /// Only what may have been made at this moment or later (RFC 3339); all when absent.
    #[arg(long)]
    from: Option<String>,
    /// Why: shown in every verdict that it changes.
    #[arg(long)]
    reason: String,
    /// Only show what it would change.
    #[arg(long)]
    dry_run: bool,
}

impl Revoke {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        let (kind, one) = match self {
            Self::Key(one) => ("key", one),
            Self::Builder(one) => ("builder", one),
            Self::Attestation(one) => ("attestation", one),
            Self::Artifact(one) => ("artifact", one),
            Self::Commit(one) => ("commit", one),
            Self::Authority(one) => ("authority", one),
            Self::Identity(identity) => {
                let how = match identity.compare {
                    Match::Exact => "exact",
                    Match::Prefix => "prefix",
                    Match::Glob => "glob",
                    Match::Regex => "regex",
                };
                let mut pattern = json!({ "san": { how: identity.name } });
                for (member, value) in [("issuer", identity.issuer), ("root", identity.root)] {
                    if let Some(value) = value {
                        pattern[member] = json!(value);
                    }
                }
                return revoke(json!({ "identity": pattern }), identity.how, client, output).await;
            }
            Self::List => {
                let answer = client.get("/v1/revocations").await?;
                output.show(&answer, |a| items(&a["items"]).iter().map(line).collect());
                return Ok(Exit::Allowed);
            }
        };
        let name = match kind {
            "commit" if !one.name.contains(':') => format!("gitCommit:{}", one.name),
            _ => one.name,
        };
        revoke(json!({ kind: name }), one.how, client, output).await
    }
}

async fn revoke(mut body: Value, how: How, client: &Client, output: &Output) -> Result<Exit> {
    body["reason"] = json!(how.reason);
    if let Some(from) = how.from {
        body["from"] = json!(from);
    }
    if how.dry_run {
        impact::report(json!({ "revocation": body }), client, output).await?;
        return Ok(Exit::Allowed);
    }
    let answer = client.post("/v1/revocations", &body).await?;
    output.show(&answer, |a| format!("{}no answer begun from now on, on any instance, can miss it", line(a)));
    Ok(Exit::Allowed)
}

fn line(revocation: &Value) -> String {
    let known = ["key", "identity", "builder", "attestation", "artifact", "commit", "authority"];
    let named = known.iter().find_map(|kind| revocation.get(*kind).map(|value| (*kind, value)));
    let (kind, name) = match named {
        Some((kind, Value::String(name))) => (kind, name.clone()),
        Some((kind, other)) => (kind, other.to_string()),
        None => ("", String::new()),
    };
    let since = match revocation["from"].as_str() {
        Some(from) => format!("from {from}"),
        None => "all".to_owned(),
    };
    format!("{} {kind} {name} ({since}): {}\n", paint(BAD, "revoked"), string(&revocation["reason"]))
}
