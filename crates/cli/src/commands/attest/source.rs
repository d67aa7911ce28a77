//! `catenary attest source`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::{Signing, git, repository_uri, statement};
use crate::output::Output;

/// A commit of a real git repository, and the ref that holds it.
#[derive(Args)]
pub struct Source {
    /// The repository on this machine.
    #[arg(long, default_value = ".")]
    repo: PathBuf,
    /// The commit.
    #[arg(long, default_value = "HEAD")]
    commit: String,
    /// The repository's URI. Default: its `origin`.
    #[arg(long)]
    source: Option<String>,
    /// The forge's numeric id of the repository.
    #[arg(long)]
    id: Option<String>,
    /// The ref that was moved to the commit. Default: the current branch.
    #[arg(long = "ref")]
    reference: Option<String>,
    /// Who moved it: NAME or NAME:ID.
    #[arg(long)]
    actor: Option<String>,
    /// Who approved this revision: NAME or NAME:ID.
    #[arg(long = "approved-by")]
    approvers: Vec<String>,
    /// When the ref was moved (RFC 3339). Default: the committer date.
    #[arg(long)]
    updated_at: Option<String>,
    /// Also write the raw commit object, for `catenary push --object application/x-git-commit`.
    #[arg(long, value_name = "FILE")]
    object_out: Option<PathBuf>,
    #[command(flatten)]
    signing: Signing,
}

impl Source {
    /// Reads the commit, writes the statement.
    pub fn run(self, output: &Output) -> Result<()> {
        let commit = git(&self.repo, &["rev-parse", "--verify", &format!("{}^{{commit}}", self.commit)])?;
        let reference = match &self.reference {
            Some(reference) => reference.clone(),
            None => git(&self.repo, &["symbolic-ref", "HEAD"])
                .context("HEAD is detached; name the ref with --ref")?,
        };
        let date = git(&self.repo, &["show", "-s", "--format=%cI", &commit])?;
        let updated: jiff::Timestamp = self.updated_at.as_deref().unwrap_or(&date).parse()?;
        let people: Vec<Value> = self.approvers.iter().map(|a| person(a)).collect();
        if let Some(file) = &self.object_out {
            let raw = std::process::Command::new("git")
                .arg("-C")
                .arg(&self.repo)
                .args(["cat-file", "commit", &commit])
                .output()?;
            std::fs::write(file, raw.stdout).with_context(|| file.display().to_string())?;
        }
        let evidence = Evidence {
            repository: repository_uri(self.source.as_deref(), &self.repo)?,
            id: self.id.clone(),
            reference,
            previous: git(&self.repo, &["rev-parse", "--verify", "--quiet", &format!("{commit}^1")]).ok(),
            commit,
            updated: updated.to_string(),
            actor: self.actor.as_deref().map(person),
            approvers: people,
        };
        self.signing.finish(&evidence.statement(), output)
    }
}

/// What version control says about a commit.
pub struct Evidence {
    /// Canonical repository URI.
    pub repository: String,
    /// The forge's id of it.
    pub id: Option<String>,
    /// The ref that was moved.
    pub reference: String,
    /// What it pointed to before.
    pub previous: Option<String>,
    /// The commit.
    pub commit: String,
    /// When the ref was moved (RFC 3339).
    pub updated: String,
    /// Who moved it.
    pub actor: Option<Value>,
    /// Who approved this revision.
    pub approvers: Vec<Value>,
}

impl Evidence {
    /// The in-toto statement.
    pub fn statement(&self) -> Value {
        let mut repository = json!({"uri": self.repository});
        if let Some(id) = &self.id {
            repository["id"] = json!(id);
        }
        let mut predicate =
            json!({"repository": repository, "ref": self.reference, "updatedAt": self.updated});
        if let Some(previous) = &self.previous {
            predicate["previous"] = json!(previous);
        }
        if let Some(actor) = &self.actor {
            predicate["actor"] = actor.clone();
        }
        if !self.approvers.is_empty() {
            predicate["review"] = json!({"approvedRevision": self.commit, "approvers": self.approvers});
        }
        let subject = json!({"name": self.repository, "digest": {"gitCommit": self.commit}});
        statement(vec![subject], "urn:catenary:predicate:commit:v1", predicate)
    }
}

/// `NAME` or `NAME:ID`.
pub fn person(text: &str) -> Value {
    match text.split_once(':') {
        Some((name, id)) => json!({"name": name, "id": id}),
        None => json!({"name": text}),
    }
}
