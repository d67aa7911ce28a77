//! `catenary log export`: the whole log with what was decided on it, into a folder.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::Client,
    exit::Exit,
    output::{GOOD, Output, paint},
};

/// Files of an export, in the order in which they are replayed.
pub const HEAD: &str = "export.json";
/// The signed checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// Entries, one a line.
pub const ENTRIES: &str = "entries.jsonl";
/// Chains and batches of decisions, one a line.
pub const DECISIONS: &str = "decisions.jsonl";
/// Verdicts, one a line, by log size.
pub const VERDICTS: &str = "verdicts.jsonl";

/// How long an export may take.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// Export the log.
#[derive(Args)]
pub struct Export {
    /// A folder, new or empty.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

impl Export {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        std::fs::create_dir_all(&self.to).with_context(|| self.to.display().to_string())?;
        let is_empty = std::fs::read_dir(&self.to)?.next().is_none();
        ensure!(is_empty, "{} is not empty", self.to.display());
        let request = client.request(Method::GET, "/v1/export").timeout(PATIENCE);
        let mut response = client.send(request).await?;
        let mut files = Files::new(&self.to)?;
        let mut rest: Vec<u8> = Vec::new();
        while let Some(chunk) = response.chunk().await.context("the export was cut off")? {
            rest.extend_from_slice(&chunk);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                files.take(&line)?;
            }
        }
        let counts = files.finish()?;
        output.show(&counts, |counts| {
            format!(
                "{} {} entries, {} batches of decisions, {} verdicts in {}",
                paint(GOOD, "exported"),
                counts["entries"],
                counts["batches"],
                counts["verdicts"],
                self.to.display()
            )
        });
        Ok(Exit::Allowed)
    }
}

struct Files {
    folder: PathBuf,
    entries: BufWriter<File>,
    decisions: BufWriter<File>,
    verdicts: BufWriter<File>,
    end: Option<Value>,
}

impl Files {
    fn new(folder: &Path) -> Result<Self> {
        let open = |name: &str| Ok::<_, std::io::Error>(BufWriter::new(File::create(folder.join(name))?));
        Ok(Self {
            folder: folder.to_owned(),
            entries: open(ENTRIES)?,
            decisions: open(DECISIONS)?,
            verdicts: open(VERDICTS)?,
            end: None,
        })
    }

    fn take(&mut self, line: &[u8]) -> Result<()> {
        let value: Value = serde_json::from_slice(line).context("a line of the export is not JSON")?;
        ensure!(self.end.is_none(), "the export goes on behind its end");
        match value["type"].as_str() {
            Some("export") => std::fs::write(self.folder.join(HEAD), format!("{value:#}\n"))?,
            Some("checkpoint") => {
                let text = value["text"].as_str().context("a checkpoint without text")?;
                std::fs::write(self.folder.join(CHECKPOINT), text)?;
            }
            Some("entry") => self.entries.write_all(line)?,
            Some("chain" | "batch") => self.decisions.write_all(line)?,
            Some("verdict") => self.verdicts.write_all(line)?,
            Some("end") => self.end = Some(value),
            other => bail!("this version knows no line of type {other:?}"),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Value> {
        self.entries.flush()?;
        self.decisions.flush()?;
        self.verdicts.flush()?;
        let end = self.end.context("the export was cut off before its end: run it again")?;
        Ok(
            json!({ "folder": self.folder, "entries": end["entries"], "batches": end["batches"], "verdicts": end["verdicts"] }),
        )
    }
}
