//! `catenary import dir`: every file of a folder.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use super::{Manner, intake::Intake};
use crate::check::layout;

/// Files of one folder.
const MAX_FILES: usize = 100_000;
/// How deep folders nest.
const MAX_DEPTH: usize = 32;
/// Bytes of one file: larger ones are layers of images, not evidence.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Every file of a folder.
#[derive(Args)]
pub struct Dir {
    /// The folder. Symbolic links in it are not followed.
    folder: PathBuf,
    #[command(flatten)]
    manner: Manner,
}

impl Dir {
    pub(super) async fn run(self, intake: &mut Intake<'_>) -> Result<Manner> {
        let mut files = Vec::new();
        walk(&self.folder, 0, &mut files)?;
        files.sort();
        let mut attached = BTreeSet::new();
        for file in &files {
            for (layer, wrapped) in attachments(file) {
                intake.evidence(&layer.display().to_string(), wrapped).await?;
                attached.insert(layer);
            }
        }
        for file in files.iter().filter(|file| !attached.contains(*file)) {
            self.send(file, intake).await?;
        }
        Ok(self.manner)
    }

    async fn send(&self, file: &Path, intake: &mut Intake<'_>) -> Result<()> {
        let name = file.display().to_string();
        if is_layout(file) {
            // It lists what the folder holds; no registry ever has these bytes.
            intake.skipped(&name, "it is the list of an image layout");
            return Ok(());
        }
        match read(file)? {
            Some(bytes) => intake.take(&name, bytes).await,
            None => {
                intake.skipped(&name, "it is too large to be evidence");
                Ok(())
            }
        }
    }
}

/// Regular files below a folder.
fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    if depth > MAX_DEPTH {
        bail!("{}: folders nest deeper than {MAX_DEPTH}", folder.display());
    }
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), depth + 1, files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
        if files.len() > MAX_FILES {
            bail!("more than {MAX_FILES} files");
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Option<Vec<u8>>> {
    let name = || file.display().to_string();
    if std::fs::metadata(file).with_context(name)?.len() > MAX_FILE {
        return Ok(None);
    }
    std::fs::read(file).with_context(name).map(Some)
}

fn is_layout(file: &Path) -> bool {
    let beside = |name: &str| file.parent().is_some_and(|folder| folder.join(name).is_file());
    (file.ends_with("index.json") && beside("oci-layout")) || file.ends_with("oci-layout")
}

/// What cosign attached, when the file is a manifest among the blobs of an image layout: the file of each layer, and
/// the layer wrapped with its annotations.
fn attachments(file: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Some(folder) = file.ancestors().nth(3).filter(|folder| folder.join("oci-layout").is_file()) else {
        return Vec::new();
    };
    let Ok(Some(bytes)) = read(file) else { return Vec::new() };
    let manifest: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let attached = layout::list(&manifest["layers"]).iter().filter(|layer| layout::is_attachment(layer));
    attached
        .filter_map(|layer| {
            let digest = layer["digest"].as_str()?;
            let bytes = layout::blob(folder, digest)?;
            let file = folder.join("blobs").join(digest.replacen(':', "/", 1));
            Some((file, layout::wrap(layer, &bytes)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_out_of_the_folder_is_not_followed() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret.json"), "{}").unwrap();
        std::fs::create_dir(folder.path().join("deeper")).unwrap();
        std::fs::write(folder.path().join("deeper/a.json"), "{}").unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.json"), folder.path().join("b.json")).unwrap();
        let mut files = Vec::new();
        walk(folder.path(), 0, &mut files).unwrap();
        assert_eq!(files, [folder.path().join("deeper/a.json")]);
    }
}
