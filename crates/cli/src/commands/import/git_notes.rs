//! Notes of a git repository: the SLSA source tool and others keep attestations of commits there.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::Sink;

/// Git notes.
#[derive(Args)]
pub struct GitNotes {
    /// The repository.
    #[arg(long, default_value = ".")]
    repository: PathBuf,
    /// Refs with notes.
    #[arg(long = "ref", default_values = ["refs/notes/commits", "refs/notes/attestations"])]
    refs: Vec<String>,
    /// Leave the commits themselves out.
    #[arg(long)]
    no_commits: bool,
}

impl GitNotes {
    /// Sends every note, and the commit that it is about.
    pub async fn run(self, sink: &mut Sink<'_>) -> Result<()> {
        for reference in &self.refs {
            ensure!(reference.starts_with("refs/"), "{reference} is not a full ref: refs/notes/…");
            if self.git(&["show-ref", "--verify", "--quiet", reference]).is_err() {
                sink.skip(reference, "there is no such ref");
                continue;
            }
            let list = self.git(&["notes", "--ref", reference, "list"])?;
            for line in String::from_utf8_lossy(&list).lines() {
                let (note, object) = line.split_once(' ').context("git lists a note and an object a line")?;
                let source = format!("{reference}/{object}");
                sink.evidence(&source, self.git(&["cat-file", "blob", note])?).await?;
                if !self.no_commits && self.git(&["cat-file", "-t", object])? == b"commit\n" {
                    let commit = self.git(&["cat-file", "commit", object])?;
                    sink.object(&format!("commit {object}"), "application/x-git-commit", commit).await?;
                }
            }
        }
        Ok(())
    }

    fn git(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let output = Command::new("git").arg("-C").arg(&self.repository).args(arguments).output();
        let output = output.context("git cannot be run")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "git {}: {}", arguments.join(" "), said.trim());
        Ok(output.stdout)
    }
}
