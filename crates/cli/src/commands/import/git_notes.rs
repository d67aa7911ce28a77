//! `catenary import git-notes`: evidence that lies in git notes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use catenary_evidence::{
    GitOid,
    limits::MAX_OBJECT,
    object::{GIT_COMMIT, GIT_TAG},
};
use clap::Args;

use super::{
    Manner,
    intake::{Intake, Kind},
};

/// Bytes of one note: a note that grew by a line with each verification stays below.
const MAX_NOTE: usize = 64 * 1024 * 1024;

/// Notes of a repository, read with `git`.
#[derive(Args)]
pub struct GitNotes {
    /// The repository.
    #[arg(long, default_value = ".")]
    repository: PathBuf,
    /// Which notes; one that does not exist is passed over unless it is named here.
    #[arg(long = "ref", value_name = "REF", value_delimiter = ',')]
    refs: Vec<String>,
    /// Send the commits and tags that carry notes, too.
    #[arg(long)]
    commits: bool,
    #[command(flatten)]
    manner: Manner,
}

/// Where tools keep them.
const DEFAULT_REFS: [&str; 2] = ["refs/notes/commits", "refs/notes/attestations"];

impl GitNotes {
    pub(super) async fn run(self, intake: &mut Intake<'_>) -> Result<Manner> {
        git(&self.repository, &["rev-parse", "--git-dir"])
            .with_context(|| format!("{} is no git repository", self.repository.display()))?;
        let named = !self.refs.is_empty();
        let refs = if named { self.refs.clone() } else { DEFAULT_REFS.map(str::to_owned).to_vec() };
        let mut noted = BTreeSet::new();
        for name in &refs {
            if !name.starts_with("refs/notes/") {
                bail!("`{name}` is not below refs/notes/");
            }
            if git(&self.repository, &["rev-parse", "--verify", "--quiet", name]).is_err() {
                if named {
                    bail!("there is no {name} in {}", self.repository.display());
                }
                intake.skipped(name, "there are no such notes");
                continue;
            }
            for (note, object) in list(&self.repository, name)? {
                self.note(intake, name, &note, &object).await?;
                noted.insert(object);
            }
        }
        if self.commits {
            for object in &noted {
                self.object(intake, object).await?;
            }
        }
        Ok(self.manner)
    }

    async fn note(&self, intake: &mut Intake<'_>, name: &str, note: &str, object: &str) -> Result<()> {
        let source = format!("{name} {object}");
        let Some(bytes) = cat(&self.repository, "blob", note, MAX_NOTE)? else {
            intake.skipped(&source, "it is too large to be evidence");
            return Ok(());
        };
        match Kind::of(&bytes) {
            Kind::Evidence => intake.evidence(&source, bytes).await,
            Kind::Unsigned(form) => {
                intake.unsigned(&source, serde_json::json!({ "form": form }));
                Ok(())
            }
            // A note that begins like a commit is somebody's text.
            Kind::Object(_) | Kind::Other => {
                intake.skipped(&source, "there is no evidence in it");
                Ok(())
            }
        }
    }

    async fn object(&self, intake: &mut Intake<'_>, object: &str) -> Result<()> {
        let kind = git(&self.repository, &["cat-file", "-t", object]).unwrap_or_default();
        let kind = String::from_utf8_lossy(&kind).trim().to_owned();
        let media_type = match kind.as_str() {
            "commit" => GIT_COMMIT,
            "tag" => GIT_TAG,
            "" => {
                intake.skipped(object, "it is not in the repository");
                return Ok(());
            }
            other => {
                intake.skipped(object, &format!("a {other} is no evidence"));
                return Ok(());
            }
        };
        match cat(&self.repository, &kind, object, MAX_OBJECT)? {
            Some(bytes) => intake.object(object, media_type, bytes).await,
            None => {
                intake.skipped(object, "it is too large");
                Ok(())
            }
        }
    }
}

/// Each note's blob, and the object that it is about.
fn list(repository: &Path, name: &str) -> Result<Vec<(String, String)>> {
    let listed = String::from_utf8(git(repository, &["notes", "--ref", name, "list"])?)?;
    let pair = |line: &str| {
        let (note, object) = line.split_once(' ').context("git lists notes in another way")?;
        Ok((GitOid::from_hex(note)?.to_hex(), GitOid::from_hex(object)?.to_hex()))
    };
    listed.lines().map(pair).collect()
}

/// The content of an object; `None` when it is larger than the limit.
fn cat(repository: &Path, kind: &str, oid: &str, limit: usize) -> Result<Option<Vec<u8>>> {
    let size = String::from_utf8(git(repository, &["cat-file", "-s", oid])?)?;
    if size.trim().parse::<usize>()? > limit {
        return Ok(None);
    }
    git(repository, &["cat-file", kind, oid]).map(Some)
}

/// What `git` prints, byte for byte. It asks nobody and fetches nothing.
fn git(repository: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let run = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(arguments)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .output()
        .context("git is not installed")?;
    if !run.status.success() {
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&run.stderr).trim());
    }
    Ok(run.stdout)
}
