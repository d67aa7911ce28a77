//! A folder of evidence files, in any form; OCI image layouts with their blobs.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use super::{
    Sink,
    oci::{MAX_BLOB, is_object},
};
use crate::check::layout;

/// The most files that are read.
const MAX_FILES: usize = 100_000;

/// A folder.
#[derive(Args)]
pub struct Dir {
    /// The folder.
    folder: PathBuf,
}

impl Dir {
    /// Sends every file that is evidence.
    pub async fn run(self, sink: &mut Sink<'_>) -> Result<()> {
        let mut files = Vec::new();
        let mut open = vec![self.folder.clone()];
        while let Some(folder) = open.pop() {
            if folder.join("oci-layout").is_file()
                || (folder.join("index.json").is_file() && folder.join("blobs").is_dir())
            {
                image_layout(sink, &folder).await?;
                continue;
            }
            let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
            for entry in entries {
                let entry = entry?;
                // Links are not followed: they lead out of the folder, or in circles.
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    open.push(entry.path());
                } else if kind.is_file() {
                    files.push(entry.path());
                }
            }
            ensure!(files.len() <= MAX_FILES, "more than {MAX_FILES} files");
        }
        ensure!(self.folder.is_dir(), "{} is no folder", self.folder.display());
        files.sort();
        for file in files {
            one(sink, &file).await?;
        }
        Ok(())
    }
}

async fn one(sink: &mut Sink<'_>, file: &Path) -> Result<()> {
    let name = file.display().to_string();
    if file.metadata()?.len() > MAX_BLOB {
        sink.skip(&name, "it is larger than any evidence");
        return Ok(());
    }
    let bytes = std::fs::read(file).with_context(|| name.clone())?;
    match &bytes[..] {
        [b't', b'r', b'e', b'e', b' ', ..] => sink.object(&name, "application/x-git-commit", bytes).await,
        [b'o', b'b', b'j', b'e', b'c', b't', b' ', ..] => {
            sink.object(&name, "application/x-git-tag", bytes).await
        }
        _ => match serde_json::from_slice::<Value>(&bytes) {
            Ok(document) => match document["mediaType"].as_str().filter(|kind| is_object(kind)) {
                Some(media_type) => sink.object(&name, media_type, bytes).await,
                None => sink.evidence(&name, bytes).await,
            },
            Err(_) if is_lines(&bytes) => sink.evidence(&name, bytes).await,
            Err(_) => {
                sink.skip(&name, "it is neither JSON nor a git object");
                Ok(())
            }
        },
    }
}

/// Whether the first line is JSON.
fn is_lines(bytes: &[u8]) -> bool {
    let first = bytes.split(|b| *b == b'\n').find(|line| !line.is_empty()).unwrap_or_default();
    serde_json::from_slice::<Value>(first).is_ok_and(|line| line.is_object())
}

/// Manifests and configs, then what cosign attached.
async fn image_layout(sink: &mut Sink<'_>, folder: &Path) -> Result<()> {
    let blobs = folder.join("blobs/sha256");
    let mut names: Vec<PathBuf> = match std::fs::read_dir(&blobs) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?,
        Err(error) => bail!("{}: {error}", blobs.display()),
    };
    names.sort();
    for file in names.iter().filter(|file| file.metadata().is_ok_and(|m| m.is_file() && m.len() <= MAX_BLOB))
    {
        let bytes = std::fs::read(file)?;
        let Ok(document) = serde_json::from_slice::<Value>(&bytes) else { continue };
        // Docker's and OCI's configs have no media type of their own.
        let config =
            document["rootfs"]["diff_ids"].is_array().then_some("application/vnd.oci.image.config.v1+json");
        let media_type = document["mediaType"].as_str().filter(|kind| is_object(kind)).or(config);
        if let Some(media_type) = media_type.map(str::to_owned) {
            sink.object(&file.display().to_string(), &media_type, bytes).await?;
        }
    }
    for (position, item) in layout::attachments(folder)?.unwrap_or_default().into_iter().enumerate() {
        sink.evidence(&format!("{} attachment {position}", folder.display()), item).await?;
    }
    Ok(())
}
