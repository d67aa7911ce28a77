//! `catenary import`: evidence that lies elsewhere already: in registries, git notes, GitHub, folders.

mod dir;
mod git_notes;
mod github;
mod oci;
mod sink;

use anyhow::Result;
use clap::{Args, Subcommand};

use self::sink::Sink;
use crate::{client::Client, exit::Exit, output::Output};

/// Evidence from elsewhere. What is known already is not sent to the log twice.
#[derive(Args)]
pub struct Import {
    #[command(subcommand)]
    from: From,
    /// Exit with 0 although something was refused.
    #[arg(long, global = true)]
    keep_going: bool,
}

#[derive(Subcommand)]
enum From {
    /// An image with its referrers, fallback tags and cosign's `.sig` and `.att` tags.
    Oci(oci::Oci),
    /// Notes of a git repository, with the commits that they are about.
    GitNotes(git_notes::GitNotes),
    /// Attestations that GitHub keeps: its API's answer in a file, or the API.
    Github(github::Github),
    /// Every file of a folder; OCI image layouts in it with their blobs.
    Dir(dir::Dir),
}

impl Import {
    /// Runs it; 1 when something was refused.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        let mut sink = Sink::new(client);
        let done = match self.from {
            From::Oci(from) => from.run(&mut sink).await,
            From::GitNotes(from) => from.run(&mut sink).await,
            From::Github(from) => from.run(&mut sink).await,
            From::Dir(from) => from.run(&mut sink).await,
        };
        // What was sent before something failed is sent.
        let refused = sink.show(output);
        done?;
        Ok(if refused && !self.keep_going { Exit::Denied } else { Exit::Allowed })
    }
}
