//! `catenary impact` and `catenary what-if`: what is hit, and what a change would do.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use crate::{
    client::{Client, query},
    draw::{items, string},
    exit::Exit,
    output::{BAD, DIM, GOOD, Output, paint},
};

/// What is hit by one of these.
#[derive(Args)]
#[group(skip)]
#[command(group = ArgGroup::new("what").required(true))]
pub struct Impact {
    /// What this registered key signed.
    #[arg(long, group = "what")]
    key: Option<String>,
    /// What certificates with this subject alternative name signed: `*` within a segment, `**` across.
    #[arg(long, group = "what")]
    identity: Option<String>,
    /// Beside --identity: only of this OIDC issuer.
    #[arg(long, requires = "identity")]
    issuer: Option<String>,
    /// What this builder built.
    #[arg(long, group = "what")]
    builder: Option<String>,
    /// What was built from this commit.
    #[arg(long, group = "what")]
    commit: Option<String>,
    /// What was built from this git repository, for example `https://github.com/acme/shop`.
    #[arg(long, group = "what")]
    repository: Option<String>,
    /// What was built on this image, `sha256:…`.
    #[arg(long, group = "what")]
    base: Option<String>,
    /// This image, `sha256:…`, with the indexes that hold it and the platforms that it holds.
    #[arg(long, group = "what")]
    artifact: Option<String>,
    /// What contains this package (package URL).
    #[arg(long, group = "what")]
    purl: Option<String>,
    /// What contains a package of this name.
    #[arg(long, group = "what")]
    package: Option<String>,
    /// Beside --purl or --package: only these versions, for example `>=1.2, <1.4.7`.
    #[arg(long)]
    versions: Option<String>,
    /// What has this vulnerability.
    #[arg(long, group = "what")]
    vulnerability: Option<String>,
    /// The verdicts, and what ran, at that time (RFC 3339).
    #[arg(long)]
    as_of: Option<String>,
    /// What was known then: so many entries of the log, or those up to that time.
    #[arg(long)]
    known_at: Option<String>,
}

impl Impact {
    /// Runs it. Prints one image a line, and where it runs.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        let parts = [
            ("key", self.key),
            ("identity", self.identity),
            ("issuer", self.issuer),
            ("builder", self.builder),
            ("commit", self.commit),
            ("repository", self.repository),
            ("base", self.base),
            ("artifact", self.artifact),
            ("purl", self.purl),
            ("package", self.package),
            ("versions", self.versions),
            ("vulnerability", self.vulnerability),
            ("asOf", self.as_of),
            ("knownAt", self.known_at),
        ];
        let given = parts.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", query(&value?))));
        let asked = given.collect::<Vec<_>>().join("&");
        let (mut cursor, mut found) = (String::new(), 0);
        loop {
            let answer = client.get(&format!("/v1/impact?{asked}&limit=200{cursor}")).await?;
            for item in items(&answer["items"]) {
                output.line(item, hit);
                found += 1;
            }
            match answer["next"].as_str() {
                Some(next) => cursor = format!("&cursor={}", query(next)),
                None => break,
            }
        }
        output.say(paint(DIM, format!("{found} artifact(s)")));
        Ok(Exit::Allowed)
    }
}

fn hit(item: &Value) -> String {
    let mut text = format!("{} {}", string(&item["artifact"]), paint(DIM, string(&item["time"])));
    for verdict in items(&item["verdicts"]) {
        let style = if verdict["allowed"] == true { GOOD } else { BAD };
        let running: Vec<&str> = items(&verdict["running"]).iter().map(string).collect();
        let running =
            if running.is_empty() { String::new() } else { format!(" runs as {}", running.join(", ")) };
        text += &format!(
            "\n  {} {} {}{running}",
            paint(style, string(&verdict["outcome"])),
            string(&verdict["image"]),
            string(&verdict["environment"])
        );
    }
    text
}

/// What a policy would change, before it is applied.
#[derive(Args)]
pub struct WhatIf {
    /// The policy document (YAML or JSON).
    policy: PathBuf,
    /// Only over what runs; without it, over the questions asked lately, too.
    #[arg(long)]
    deployed: bool,
}

impl WhatIf {
    /// Runs it. 1 when something would not be allowed any more.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        let policy =
            std::fs::read_to_string(&self.policy).with_context(|| self.policy.display().to_string())?;
        let scope = if self.deployed { "deployed" } else { "watched" };
        let denied = report(json!({ "policy": policy, "scope": scope }), client, output).await?;
        Ok(if denied == 0 { Exit::Allowed } else { Exit::Denied })
    }
}

/// Prints every answer that a change would flip, and how many there are. Returns how many would not be allowed any more.
pub async fn report(mut body: Value, client: &Client, output: &Output) -> Result<u64> {
    body["limit"] = json!(200);
    let (mut examined, mut denied, mut allowed) = (0, 0, 0);
    loop {
        let answer = client.post("/v1/what-if", &body).await?;
        for item in items(&answer["items"]) {
            output.line(item, flip);
        }
        let count = |name: &str| answer[name].as_u64().unwrap_or(0);
        (examined, denied, allowed) =
            (examined + count("examined"), denied + count("denied"), allowed + count("allowed"));
        match answer.get("next").filter(|next| next.is_string()) {
            Some(next) => body["cursor"] = next.clone(),
            None => break,
        }
    }
    output.say(format!("{examined} question(s): {denied} would not be allowed any more, {allowed} would be"));
    Ok(denied)
}

fn flip(item: &Value) -> String {
    let style = if item["new"]["allowed"] == true { GOOD } else { BAD };
    let mut text = format!(
        "{} → {} {} {}",
        string(&item["old"]["outcome"]),
        paint(style, string(&item["new"]["outcome"])),
        string(&item["image"]),
        string(&item["environment"])
    );
    for mend in items(&item["mends"]) {
        text +=
            &format!("\n  {} ({}): {}", string(&mend["code"]), string(&mend["rule"]), string(&mend["hint"]));
    }
    let not_reached: Vec<&str> = items(&item["notReached"]).iter().map(string).collect();
    if !not_reached.is_empty() {
        text += &format!("\n  not looked at before that is mended: {}", not_reached.join(", "));
    }
    for place in items(&item["running"]) {
        text += &format!("\n  runs as {}", string(place));
    }
    text
}
