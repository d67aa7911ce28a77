//! `catenary import`: bring in evidence that lies elsewhere.
//!
//! What is found is sent as it is; the service verifies it. Where it was found says nothing about what it is worth.
//! Sending again is harmless: what the service has, it has once.

mod dir;
mod git_notes;
mod github;
mod intake;
mod oci;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{client::Client, exit::Exit, output::Output};

/// Importers.
#[derive(Subcommand)]
pub enum Import {
    /// Every file of a folder; OCI image layouts with their attachments.
    Dir(dir::Dir),
    /// An image of a registry: its index, manifests, configs, and what is attached to them.
    Oci(oci::Oci),
    /// Git notes, one envelope or bundle a line.
    GitNotes(git_notes::GitNotes),
    /// What GitHub's attestations API answers, from a file or from the API.
    Github(github::Github),
}

/// What every importer takes.
#[derive(Args)]
pub struct Manner {
    /// Exit with 0 though something was refused.
    #[arg(long)]
    keep_going: bool,
}

impl Import {
    /// Exit code 0 when nothing was refused, else 1.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        let mut intake = intake::Intake::new(client);
        let manner = match self {
            Self::Dir(dir) => dir.run(&mut intake).await?,
            Self::Oci(oci) => oci.run(&mut intake).await?,
            Self::GitNotes(notes) => notes.run(&mut intake).await?,
            Self::Github(github) => github.run(&mut intake).await?,
        };
        Ok(intake.report(output, manner.keep_going))
    }
}
