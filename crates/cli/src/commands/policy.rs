//! `catenary policy`: write, check, explain, compare, apply and show what is trusted.

mod import;
mod init;
mod read;

use std::path::PathBuf;

use anyhow::Result;
use catenary_chain::policy::{diff, preset};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::Client,
    draw::{items, string},
    exit::Exit,
    output::{BAD, DIM, GOOD, Output, WARN, paint},
};
use import::Import;
use init::Init;
use read::{from, read};

/// Policies.
#[derive(Subcommand)]
pub enum Policy {
    /// Write a policy that lints, to start from.
    Init(Box<Init>),
    /// Carry a policy of another tool over, as far as it can be said: sigstore's ClusterImagePolicy, Kyverno's verifyImages and
    /// ImageValidatingPolicy, in-toto layouts. Exit code 1 when something was not.
    Import(Import),
    /// Check a policy document on this machine: what is wrong, what is wide, and where.
    Lint {
        /// YAML or JSON.
        file: PathBuf,
    },
    /// Write a document out: short forms and presets as the sections that they stand for.
    Explain {
        /// A file, or the name of a policy of the service (`name@revision` for one of its revisions).
        policy: String,
    },
    /// What the second document asks differently.
    Diff {
        /// A file, or `name` or `name@revision` of the service.
        old: String,
        /// The same.
        new: String,
    },
    /// List the presets that a document can extend, with their digests.
    Presets,
    /// Run the tests inside a document on this machine, with the fixtures beside it.
    Test {
        /// YAML or JSON.
        file: PathBuf,
    },
    /// Make a policy document the active revision, when nobody has to approve that.
    Apply {
        /// YAML or JSON.
        file: PathBuf,
    },
    /// Propose a document, and run its tests; it decides nothing yet.
    Draft {
        /// YAML or JSON.
        file: PathBuf,
    },
    /// Approve that somebody else's revision takes the place of the active one.
    Approve(OfRevision),
    /// Make an approved draft the active revision, or go back to an older one.
    Activate(OfRevision),
    /// List the newest revisions of a policy.
    Revisions {
        /// Its name.
        name: String,
    },
    /// List the active policies, or print one.
    Show {
        /// Its name.
        name: Option<String>,
    },
}

/// Which revision.
#[derive(Args)]
pub struct OfRevision {
    /// The policy's name.
    name: String,
    /// The revision's number.
    #[arg(long)]
    revision: u64,
}

impl Policy {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::Init(init) => init.run(output)?,
            Self::Import(import) => return import.run(output),
            Self::Lint { file } => return lint(&file, output),
            Self::Explain { policy } => {
                let long = read::explain(&from(client, &policy).await?)?;
                output.show(&json!({ "expanded": long }), |_| long.clone());
            }
            Self::Diff { old, new } => {
                let (old, new) = (from(client, &old).await?, from(client, &new).await?);
                let changes = diff::diff(&old.text, &new.text).map_err(|error| new.wrong(&error))?;
                let changes = serde_json::to_value(&changes)?;
                output.show(&json!({ "changes": changes }), |_| draw_changes(&changes));
            }
            Self::Presets => presets(output),
            Self::Test { file } => return test(&file, output),
            Self::Apply { file } => {
                let document = read(&file)?;
                let name = document.name()?;
                let request = client.request(Method::PUT, &format!("/v1/policies/{name}"));
                let answer: Value = client.send(document.with_fixtures(request)?).await?.json().await?;
                output.show(&answer, |a| {
                    format!(
                        "{} {name} revision {}, {}",
                        paint(GOOD, "active"),
                        a["revision"],
                        string(&a["digest"])
                    )
                });
            }
            Self::Draft { file } => return draft(client, &file, output).await,
            Self::Approve(of) => of.say(client, "approve", output).await?,
            Self::Activate(of) => of.say(client, "activate", output).await?,
            Self::Revisions { name } => {
                let answer = client.get(&format!("/v1/policies/{name}/revisions")).await?;
                output
                    .show(&answer, |a| items(&a["items"]).iter().map(|r| draw_revision(r) + "\n").collect());
            }
            Self::Show { name: None } => {
                let answer = client.get("/v1/policies").await?;
                output.show(&answer, |a| {
                    let line = |p: &Value| {
                        format!(
                            "{} revision {} {}\n",
                            string(&p["name"]),
                            p["revision"],
                            string(&p["digest"])
                        )
                    };
                    items(&a["items"]).iter().map(line).collect()
                });
            }
            Self::Show { name: Some(name) } => {
                let answer = client.get(&format!("/v1/policies/{name}")).await?;
                output.show(&answer, |a| string(&a["document"]).to_owned());
            }
        }
        Ok(Exit::Allowed)
    }
}

impl OfRevision {
    async fn say(&self, client: &Client, what: &str, output: &Output) -> Result<()> {
        let path = format!("/v1/policies/{}/revisions/{}/{what}", self.name, self.revision);
        let answer = client.post(&path, &json!({})).await?;
        output.show(&answer, draw_revision);
        Ok(())
    }
}

/// Proposes a document and has its tests run, so that it can be activated.
async fn draft(client: &Client, file: &std::path::Path, output: &Output) -> Result<Exit> {
    let document = read(file)?;
    let name = document.name()?;
    let request = client.request(Method::POST, &format!("/v1/policies/{name}/drafts"));
    let request = request.header("content-type", "application/yaml").body(document.text.clone());
    let mut answer: Value = client.send(request).await?.json().await?;
    let tests = answer["tests"]["count"].as_u64().unwrap_or(0);
    if tests > 0 {
        let path = format!("/v1/policies/{name}/revisions/{}/test", answer["revision"]);
        answer["report"] = client.post(&path, &json!({ "fixtures": document.fixtures()? })).await?;
    }
    output
        .show(&answer, |a| draw_revision(a) + "\n" + &draw_results(&document.place, &a["report"]["results"]));
    Ok(if answer["report"]["failed"].as_u64().unwrap_or(0) > 0 { Exit::Denied } else { Exit::Allowed })
}

fn test(file: &std::path::Path, output: &Output) -> Result<Exit> {
    let document = read(file)?;
    let ran = document.test()?;
    let failed = ran.iter().filter(|ran| !ran.passed).count();
    let answer = json!({ "passed": ran.len() - failed, "failed": failed, "results": ran });
    output.show(&answer, |a| {
        let results = draw_results(&document.place, &a["results"]);
        format!("{results}{} passed, {} failed", a["passed"], a["failed"])
    });
    Ok(if failed > 0 { Exit::Denied } else { Exit::Allowed })
}

fn draw_results(place: &str, results: &Value) -> String {
    let line = |ran: &Value| {
        let name = string(&ran["name"]);
        match ran["passed"] == true {
            true => format!("{} {name}\n", paint(GOOD, "ok")),
            false => {
                let at = format!("{place}:{}:{}", ran["line"], ran["column"]);
                format!("{} {name}\n  {at}: {}\n", paint(BAD, "failed"), string(&ran["message"]))
            }
        }
    };
    items(results).iter().map(line).collect()
}

fn draw_revision(revision: &Value) -> String {
    let approvals = match revision["approvalsNeeded"].as_u64() {
        Some(0) | None => String::new(),
        Some(need) => format!(", {} of {need} approval(s)", revision["approvals"]),
    };
    format!(
        "{} {} revision {}{approvals} {}",
        paint(GOOD, string(&revision["state"])),
        string(&revision["name"]),
        revision["revision"],
        paint(DIM, string(&revision["digest"]))
    )
}

/// One line a finding, as compilers write them.
fn lint(file: &std::path::Path, output: &Output) -> Result<Exit> {
    let document = read(file)?;
    let findings = serde_json::to_value(document.lint())?;
    let wrong = items(&findings).iter().any(|finding| finding["severity"] == "error");
    let name = if wrong { None } else { Some(document.name()?) };
    output.show(&json!({ "ok": !wrong, "name": name, "findings": findings }), |_| {
        let mut text: String = items(&findings)
            .iter()
            .map(|finding| format!("{}\n", draw_finding(&document.place, finding)))
            .collect();
        if let Some(name) = &name {
            text += &format!("{} {name}", paint(GOOD, "ok"));
        }
        text
    });
    Ok(if wrong { Exit::Usage } else { Exit::Allowed })
}

fn draw_finding(place: &str, finding: &Value) -> String {
    let error = finding["severity"] == "error";
    let severity = if error { paint(BAD, "error") } else { paint(WARN, "warning") };
    let meant = match string(&finding["suggestion"]) {
        "" => String::new(),
        suggestion if string(&finding["message"]).contains(suggestion) => String::new(),
        suggestion => format!("\n  write `{suggestion}`"),
    };
    format!(
        "{place}:{}:{}: {severity}: {}: {}{meant}",
        finding["line"],
        finding["column"],
        string(&finding["path"]),
        string(&finding["message"])
    )
}

fn draw_changes(changes: &Value) -> String {
    let line = |change: &Value| {
        let path = string(&change["path"]);
        match (&change["before"], &change["after"]) {
            (Value::Null, after) => format!("{} {path}: {after}\n", paint(GOOD, "+")),
            (before, Value::Null) => format!("{} {path}: {before}\n", paint(BAD, "-")),
            (before, after) => format!("{} {path}: {before} → {after}\n", paint(WARN, "~")),
        }
    };
    let text: String = items(changes).iter().map(line).collect();
    if text.is_empty() { paint(DIM, "they ask the same") } else { text }
}

fn presets(output: &Output) {
    let pins: Vec<Value> =
        preset::ALL.iter().map(|p| json!({ "extends": p.pin(), "document": p.text })).collect();
    output.show(&json!({ "items": pins }), |_| {
        preset::ALL
            .iter()
            .map(|preset| format!("extends: {}\n{}\n", preset.pin(), paint(DIM, preset.text)))
            .collect()
    });
}
