//! What was meant and what was acknowledged: append-only, on disk before it counts.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::mpsc,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
pub enum Record {
    /// An attestation is about to be sent.
    Intent {
        /// Where to.
        tenant: String,
        /// SHA-256 of its bytes, hex.
        id: String,
    },
    /// It was acknowledged.
    Acknowledged {
        /// Where.
        tenant: String,
        /// SHA-256 of its bytes, hex.
        id: String,
        /// Its index in the log.
        index: u64,
        /// 201, or 200 because it was known.
        created: bool,
    },
    /// Something that must be refused is about to be sent.
    Refused {
        /// Where to.
        tenant: String,
        /// SHA-256 of its bytes, hex.
        id: String,
    },
    /// A control entry was acknowledged.
    Control {
        /// Where.
        tenant: String,
        /// Its kind in the log.
        entry: String,
        /// The by-kind member of the leaf that names it, and its value.
        named: (String, String),
    },
    /// A recorded decision was answered.
    Decision {
        /// Where.
        tenant: String,
        /// The verdict's id.
        verdict: String,
    },
    /// A checkpoint was seen.
    Checkpoint {
        /// Of which log.
        tenant: String,
        /// The signed note.
        note: String,
    },
    /// An answer named a root.
    Root {
        /// Of which log.
        tenant: String,
        /// Its size.
        size: u64,
        /// Hex.
        root: String,
    },
}

/// The journal of one run.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    lines: mpsc::Sender<(String, Option<oneshot::Sender<()>>)>,
}

impl Journal {
    /// A new one.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::options().create_new(true).append(true).open(path)?;
        let (lines, incoming) = mpsc::channel();
        std::thread::spawn(move || write(file, &incoming));
        Ok(Self { path: path.to_owned(), lines })
    }

    /// Writes a line some time soon.
    pub fn note(&self, record: &Record) {
        let _ = self.lines.send((line(record), None));
    }

    /// Writes a line; it is on disk when this returns.
    pub async fn keep(&self, record: &Record) -> Result<()> {
        let (done, kept) = oneshot::channel();
        self.lines.send((line(record), Some(done))).context("the journal ended")?;
        kept.await.context("the journal could not be written")
    }

    /// Reads it back.
    pub async fn read(&self) -> Result<Vec<Record>> {
        let (done, kept) = oneshot::channel();
        self.lines.send((String::new(), Some(done))).context("the journal ended")?;
        kept.await.context("the journal could not be written")?;
        let lines = BufReader::new(File::open(&self.path)?).lines();
        lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
    }
}

fn line(record: &Record) -> String {
    format!("{}\n", serde_json::to_string(record).unwrap_or_default())
}

/// One fsync for all that came meanwhile. A write that fails drops the senders of whoever waits.
fn write(mut file: File, incoming: &mpsc::Receiver<(String, Option<oneshot::Sender<()>>)>) {
    while let Ok(first) = incoming.recv() {
        let mut waiting = Vec::new();
        let mut text = String::new();
        for (line, done) in std::iter::once(first).chain(incoming.try_iter().take(4096)) {
            text.push_str(&line);
            waiting.extend(done);
        }
        if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_data()) {
            eprintln!("the journal cannot be written: {error}");
            return;
        }
        waiting.into_iter().for_each(|done| {
            let _ = done.send(());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_kept_is_read_back_in_order() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let journal = Journal::create(&folder.path().join("journal"))?;
        let intent = Record::Intent { tenant: "a".into(), id: "00".into() };
        let kept = Record::Acknowledged { tenant: "a".into(), id: "00".into(), index: 4, created: true };
        journal.note(&intent);
        journal.keep(&kept).await?;
        assert_eq!(journal.read().await?, [intent, kept]);
        Ok(())
    }
}
