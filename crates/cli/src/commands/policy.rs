//! `catenary policy`: write, check, explain, compare, apply and show what is trusted.

mod init;
mod read;

use std::path::PathBuf;

use anyhow::Result;
use catenary_chain::policy::{diff, preset};
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::Client,
    draw::{items, string},
    exit::Exit,
    output::{BAD, DIM, GOOD, Output, WARN, paint},
};
use init::Init;
use read::{from, read};

/// Policies.
#[derive(Subcommand)]
pub enum Policy {
    /// Write a policy that lints, to start from.
    Init(Box<Init>),
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
    /// Make a policy document the active revision.
    Apply {
        /// YAML or JSON.
        file: PathBuf,
    },
    /// List the active policies, or print one.
    Show {
        /// Its name.
        name: Option<String>,
    },
}

impl Policy {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::Init(init) => init.run(output)?,
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
            Self::Apply { file } => {
                let document = read(&file)?;
                let name = document.name()?;
                let path = format!("/v1/policies/{name}");
                let request = client
                    .request(Method::PUT, &path)
                    .header("content-type", "application/yaml")
                    .body(document.text);
                let answer: Value = client.send(request).await?.json().await?;
                output.show(&answer, |a| {
                    format!(
                        "{} {name} revision {}, {}",
                        paint(GOOD, "active"),
                        a["revision"],
                        string(&a["digest"])
                    )
                });
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
