//! The newest signed checkpoint of each tenant, kept outside the database.
//!
//! Whoever can roll the database back cannot roll this folder back with it, so a log that is shorter than
//! its checkpoint, or does not extend it, is noticed. One file per tenant, replaced as a whole by
//! compare-and-swap; a checkpoint never goes back. Put the folder on another machine's volume.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use catenary_tlog::{Checkpoint, CheckpointError};
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use crate::failpoint::hit;

/// A folder of checkpoints.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    folder: PathBuf,
}

/// Why a checkpoint could not be read or kept.
#[derive(Debug, Error)]
pub enum CheckpointsError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is kept is not what the caller had read: read it again.
    #[error("the kept checkpoint of {tenant} is another one by now")]
    Moved {
        /// The tenant.
        tenant: String,
    },
    /// The new checkpoint is shorter, or of the same size with another root, or of another log.
    #[error("the kept checkpoint of {tenant} has {kept} entries; one of {offered} does not follow it")]
    Backwards {
        /// The tenant.
        tenant: String,
        /// Size of the one that is kept.
        kept: u64,
        /// Size of the one that was offered.
        offered: u64,
    },
    /// Not the text of a checkpoint.
    #[error("the checkpoint of {tenant} cannot be read: {source}")]
    Malformed {
        /// The tenant.
        tenant: String,
        /// Why.
        source: CheckpointError,
    },
    /// A tenant's name would leave the folder.
    #[error("{0:?} is not a tenant")]
    Name(String),
}

impl CheckpointStore {
    /// Uses `folder`, creating it if need be.
    pub fn open(folder: &Path) -> Result<Self, CheckpointsError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_at(folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The tenants that have a checkpoint here.
    pub fn tenants(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_suffix(".checkpoint").map(str::to_owned)).collect()
    }

    /// The signed checkpoint that is kept for `tenant`.
    pub fn load(&self, tenant: &str) -> Result<Option<Vec<u8>>, CheckpointsError> {
        let path = self.path(tenant, "checkpoint")?;
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_at(&path)(error)),
        }
    }

    /// Keeps `new` if what is kept is still `old`, and `new` follows it.
    pub fn advance(&self, tenant: &str, old: Option<&[u8]>, new: &[u8]) -> Result<(), CheckpointsError> {
        let _lock = self.lock(tenant)?;
        let kept = self.load(tenant)?;
        if kept.as_deref() != old {
            return Err(CheckpointsError::Moved { tenant: tenant.to_owned() });
        }
        let offered = unverified_text(tenant, new)?;
        if let Some(kept) = kept {
            let kept = unverified_text(tenant, &kept)?;
            let same_size = kept.size == offered.size;
            if kept.origin != offered.origin
                || offered.size < kept.size
                || (same_size && offered.root != kept.root)
            {
                return Err(CheckpointsError::Backwards {
                    tenant: tenant.to_owned(),
                    kept: kept.size,
                    offered: offered.size,
                });
            }
        }
        hit("checkpoint.before_write").map_err(|injected| io_at(&self.folder)(injected.into()))?;
        let (path, unfinished) = (self.path(tenant, "checkpoint")?, self.path(tenant, "unfinished")?);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(io_at(&unfinished))?;
        file.write_all(new).and_then(|()| file.sync_all()).map_err(io_at(&unfinished))?;
        hit("checkpoint.before_rename").map_err(|injected| io_at(&path)(injected.into()))?;
        fs::rename(&unfinished, &path).map_err(io_at(&path))?;
        hit("checkpoint.after_rename").map_err(|injected| io_at(&path)(injected.into()))?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(io_at(&self.folder))
    }

    /// Puts the kept checkpoint aside, for good: an operator accepts that the log is another one now.
    /// Returns it; the file stays, under a name that says its size.
    pub fn accept(&self, tenant: &str) -> Result<Option<Vec<u8>>, CheckpointsError> {
        let _lock = self.lock(tenant)?;
        let Some(kept) = self.load(tenant)? else { return Ok(None) };
        let size = unverified_text(tenant, &kept).map(|checkpoint| checkpoint.size).unwrap_or_default();
        let (from, to) = (self.path(tenant, "checkpoint")?, self.path(tenant, &format!("accepted-{size}"))?);
        fs::rename(&from, &to).map_err(io_at(&to))?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(io_at(&self.folder))?;
        Ok(Some(kept))
    }

    fn lock(&self, tenant: &str) -> Result<Flock<File>, CheckpointsError> {
        let path = self.path(tenant, "lock")?;
        let mut options = OpenOptions::new();
        let file =
            options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(io_at(&path))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io_at(&path)(errno.into()))
    }

    fn path(&self, tenant: &str, ending: &str) -> Result<PathBuf, CheckpointsError> {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if tenant.is_empty() || tenant.len() > 64 || !tenant.bytes().all(good) {
            return Err(CheckpointsError::Name(tenant.to_owned()));
        }
        Ok(self.folder.join(format!("{tenant}.{ending}")))
    }
}

/// The checkpoint in a note whose signature is not checked here: this only keeps the order.
fn unverified_text(tenant: &str, note: &[u8]) -> Result<Checkpoint, CheckpointsError> {
    let malformed = |source| CheckpointsError::Malformed { tenant: tenant.to_owned(), source };
    let text = std::str::from_utf8(note).map_err(|_| malformed(CheckpointError::Lines))?;
    let (text, _) = text.split_once("\n\n").ok_or_else(|| malformed(CheckpointError::Lines))?;
    Checkpoint::parse(&format!("{text}\n")).map_err(malformed)
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> CheckpointsError {
    let path = path.to_owned();
    move |source| CheckpointsError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use catenary_tlog::{Hash, Signer};

    use super::*;

    fn note(size: u64, root: u8) -> Vec<u8> {
        let signer = Signer::from_seed("o.example/log", &[7; 32]).unwrap();
        let root = if size == 0 { Hash::EMPTY_ROOT } else { Hash([root; 32]) };
        Checkpoint::new("o.example/log", size, root).sign(&signer).unwrap().into_bytes()
    }

    #[test]
    fn checkpoints_only_go_forward() {
        let dir = tempfile::tempdir().unwrap();
        let store = CheckpointStore::open(&dir.path().join("checkpoints")).unwrap();
        assert_eq!(store.load("acme").unwrap(), None);
        store.advance("acme", None, &note(5, 1)).unwrap();
        assert!(matches!(store.advance("acme", None, &note(6, 1)), Err(CheckpointsError::Moved { .. })));
        let kept = store.load("acme").unwrap();
        for bad in [note(4, 1), note(5, 2)] {
            let error = store.advance("acme", kept.as_deref(), &bad).unwrap_err();
            assert!(matches!(error, CheckpointsError::Backwards { kept: 5, .. }), "{error}");
        }
        store.advance("acme", kept.as_deref(), &note(6, 2)).unwrap();
        assert_eq!(store.load("acme").unwrap(), Some(note(6, 2)));
        assert_eq!(store.load("other").unwrap(), None);
    }

    #[test]
    fn of_many_who_swap_at_once_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let store = CheckpointStore::open(dir.path()).unwrap();
        let wins: Vec<bool> = std::thread::scope(|scope| {
            let racers: Vec<_> = (1..=8u8)
                .map(|n| {
                    let store = &store;
                    scope.spawn(move || store.advance("acme", None, &note(u64::from(n), n)).is_ok())
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(wins.iter().filter(|won| **won).count(), 1);
    }

    #[test]
    fn accepting_puts_the_checkpoint_aside() {
        let dir = tempfile::tempdir().unwrap();
        let store = CheckpointStore::open(dir.path()).unwrap();
        assert_eq!(store.accept("acme").unwrap(), None);
        store.advance("acme", None, &note(5, 1)).unwrap();
        assert_eq!(store.accept("acme").unwrap(), Some(note(5, 1)));
        assert_eq!(store.load("acme").unwrap(), None);
        assert!(dir.path().join("acme.accepted-5").exists());
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let store = CheckpointStore::open(dir.path()).unwrap();
        for bad in ["", "../x", "a/b", "A", "."] {
            assert!(matches!(store.load(bad), Err(CheckpointsError::Name(_))), "{bad}");
        }
    }
}
