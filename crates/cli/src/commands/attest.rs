//! `catenary attest`: write and sign a statement about a commit, a build or a push.

pub mod build;
pub mod registry;
pub mod source;

use std::path::PathBuf;

use anyhow::{Context, Result};
use catenary_evidence::{Digest, reference::RepositoryUri};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    exit::Exit,
    output::{GOOD, Output, paint},
    sign::PrivateKey,
};

/// Statements.
#[derive(Subcommand)]
pub enum Attest {
    /// A commit of a real git repository, and the ref that holds it.
    Source(source::Source),
    /// A build: what was made from which commit and which inputs, by whom.
    Build(build::Build),
    /// An image as a registry has it.
    Registry(registry::Registry),
}

/// How every statement is signed, and where it goes.
#[derive(Args)]
pub struct Signing {
    /// The private key: PKCS#8 PEM, see `catenary key generate`.
    #[arg(long)]
    key: PathBuf,
    /// Write the envelope here instead of to standard output.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Attest {
    /// Runs it.
    pub async fn run(self, output: &Output) -> Result<Exit> {
        match self {
            Self::Source(source) => source.run(output)?,
            Self::Build(build) => build.run(output)?,
            Self::Registry(registry) => registry.run(output).await?,
        }
        Ok(Exit::Allowed)
    }
}

impl Signing {
    /// Signs and writes; standard output gets the envelope and nothing else.
    fn finish(&self, statement: &Value, output: &Output) -> Result<()> {
        let envelope = PrivateKey::read(&self.key)?.envelope(statement)?;
        let text = serde_json::to_string(&envelope)?;
        match &self.out {
            Some(file) => {
                std::fs::write(file, text).with_context(|| file.display().to_string())?;
                output.show(&json!({"file": file, "statement": statement}), |_| {
                    format!(
                        "{} {}; send it with `catenary push {}`",
                        paint(GOOD, "wrote"),
                        file.display(),
                        file.display()
                    )
                });
            }
            None => println!("{text}"),
        }
        Ok(())
    }
}

/// An in-toto statement.
fn statement(subjects: Vec<Value>, predicate_type: &str, predicate: Value) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": predicate_type,
        "predicate": predicate,
    })
}

/// What `git` prints, trimmed.
fn git(repository: &std::path::Path, arguments: &[&str]) -> Result<String> {
    let run = std::process::Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(arguments)
        .output()
        .context("git is not installed")?;
    if !run.status.success() {
        anyhow::bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&run.stderr).trim());
    }
    Ok(String::from_utf8(run.stdout)?.trim().to_owned())
}

/// The canonical URI of a repository: as given, or its `origin`.
fn repository_uri(given: Option<&str>, repository: &std::path::Path) -> Result<String> {
    let uri = match given {
        Some(uri) => uri.to_owned(),
        None => git(repository, &["remote", "get-url", "origin"])
            .context("the repository has no `origin`; name it with --source")?,
    };
    Ok(uri.parse::<RepositoryUri>()?.to_string())
}

/// A subject or dependency's digest, as in-toto writes it.
fn digest_set(digest: &Digest) -> Value {
    let text = digest.to_string();
    let (algorithm, hex) = text.split_once(':').unwrap_or_default();
    json!({ algorithm: hex })
}
