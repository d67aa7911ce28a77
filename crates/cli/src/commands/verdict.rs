//! `catenary verdict` and `catenary explain`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use catenary_evidence::reference::ImageReference;
use clap::Args;
use serde_json::{Value, json};

use crate::{
    client::{Client, query},
    draw,
    exit::Exit,
    output::Output,
};

/// What is about answers of the service's own policies.
const TRIED_ALONE: [&str; 7] = ["wait", "min_index", "as_of", "known_at", "vsa", "evidence", "offline"];

/// May this image run here?
#[derive(Args)]
pub struct Verdict {
    /// `registry/repository@sha256:…`
    image: String,
    /// The environment, for example prod.
    #[arg(long, alias = "env")]
    environment: Option<String>,
    /// One platform of an index, for example linux/amd64.
    #[arg(long)]
    platform: Option<String>,
    /// What else the question says, for policies that read `ctx`; may be given several times.
    #[arg(long = "ctx", value_name = "NAME=VALUE", value_parser = said)]
    ctx: Vec<(String, String)>,
    /// Wait this long for evidence that is still on its way, for example 30s.
    #[arg(long)]
    wait: Option<String>,
    /// Answer only with this log entry taken into account.
    #[arg(long)]
    min_index: Option<u64>,
    /// The time of the evaluation (RFC 3339); now when absent.
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
    /// What is read of the log: so many entries, or those up to a moment (RFC 3339).
    #[arg(long, value_name = "SIZE|TIME")]
    known_at: Option<String>,
    /// Decide as the policy `spec: {github: owner/repo}` would, and no other: for trying Catenary out before a policy is written.
    #[arg(long, value_name = "OWNER/REPO", conflicts_with_all = TRIED_ALONE)]
    github: Option<String>,
    /// The same with `spec: {gitlab: group/project}`.
    #[arg(long, value_name = "GROUP/PROJECT", conflicts_with_all = TRIED_ALONE, conflicts_with = "github")]
    gitlab: Option<String>,
    /// Write a signed verdict (VSA) here.
    #[arg(long, value_name = "FILE")]
    vsa: Option<PathBuf>,
    /// Write everything that the verdict used here, for --offline on another machine.
    #[arg(long, value_name = "FILE", conflicts_with = "offline")]
    evidence: Option<PathBuf>,
    /// Decide from an exported evidence file, with no service.
    #[arg(long, value_name = "EVIDENCE", requires = "policy")]
    offline: Option<PathBuf>,
    /// The policy for --offline.
    #[arg(long, value_name = "FILE", requires = "offline")]
    policy: Option<PathBuf>,
    /// Public key of the log (vkey), to check the file's checkpoint with.
    #[arg(long, value_name = "VKEY", requires = "offline")]
    log_key: Option<String>,
}

/// The same, with the chain drawn.
#[derive(Args)]
pub struct Explain {
    #[command(flatten)]
    verdict: Verdict,
}

impl Verdict {
    /// One line for people.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        let answer = self.ask(client).await?;
        output.show(&answer, |v| format!("{} {}", draw::outcome(v), draw::summary(v)));
        Ok(exit(&answer))
    }

    async fn ask(&self, client: &Client) -> Result<Value> {
        if let (Some(evidence), Some(policy)) = (&self.offline, &self.policy) {
            return crate::offline::verdict(
                evidence,
                policy,
                &self.image,
                self.environment.as_deref(),
                &self.context(),
                self.log_key.as_deref(),
            );
        }
        let short = [("github", &self.github), ("gitlab", &self.gitlab)];
        if let Some((forge, Some(project))) = short.into_iter().find(|(_, project)| project.is_some()) {
            return self.tried(client, forge, project).await;
        }
        let question = self.query();
        if let Some(file) = &self.vsa {
            let envelope = client.get(&format!("/v1/verdict?{question}&format=vsa")).await?;
            std::fs::write(file, serde_json::to_vec(&envelope)?)?;
        }
        if let Some(file) = &self.evidence {
            std::fs::write(file, self.export(client).await?).with_context(|| file.display().to_string())?;
        }
        client.get(&format!("/v1/verdict?{question}")).await
    }

    /// The verdict of a policy of one line, which is not applied.
    async fn tried(&self, client: &Client, forge: &str, project: &str) -> Result<Value> {
        let policy =
            json!({ "apiVersion": "catenary/v1", "kind": "ChainPolicy", "spec": { forge: project } });
        let question = json!({
            "image": self.image,
            "environment": self.environment,
            "platform": self.platform,
            "context": self.context(),
        });
        let body = json!({ "policy": policy.to_string(), "question": question });
        Ok(client.post("/v1/what-if", &body).await?["verdict"].take())
    }

    async fn export(&self, client: &Client) -> Result<Vec<u8>> {
        let image: ImageReference = self.image.parse()?;
        let path = format!("/v1/artifacts/{}/evidence?{}", image.digest, self.query());
        let response = client.send(client.request(reqwest::Method::GET, &path)).await?;
        Ok(response.bytes().await?.to_vec())
    }

    fn query(&self) -> String {
        let mut text = format!("image={}", query(&self.image));
        let min_index = self.min_index.map(|i| i.to_string());
        let parts = [
            ("environment", &self.environment),
            ("platform", &self.platform),
            ("wait", &self.wait),
            ("minIndex", &min_index),
            ("asOf", &self.as_of),
            ("knownAt", &self.known_at),
        ];
        for (name, value) in parts {
            if let Some(value) = value {
                text += &format!("&{name}={}", query(value));
            }
        }
        for (name, value) in self.context() {
            text += &format!("&ctx.{name}={}", query(&value));
        }
        text
    }

    fn context(&self) -> catenary_chain::context::Context {
        self.ctx.iter().cloned().collect()
    }
}

/// Reads `name=value`.
fn said(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give it as name=value")?;
    let pair = (name.to_owned(), value.to_owned());
    catenary_chain::context::check(&[pair.clone()].into())?;
    Ok(pair)
}

impl Explain {
    /// The chain as a tree.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        let answer = self.verdict.ask(client).await?;
        output.show(&answer, draw::verdict);
        Ok(exit(&answer))
    }
}

/// 0 allowed, 1 denied, 2 indeterminate. What is not plainly allowed is not allowed.
fn exit(verdict: &Value) -> Exit {
    match (verdict["allowed"].as_bool(), verdict["outcome"].as_str()) {
        (Some(true), _) => Exit::Allowed,
        (_, Some("INDETERMINATE")) => Exit::Indeterminate,
        _ => Exit::Denied,
    }
}
