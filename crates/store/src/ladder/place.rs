//! Who a private server runs as, and where its files may lie.
//!
//! Postgres refuses to run as root. Started by root, it runs as `postgres`, else `nobody`; that user
//! must be able to reach the folder, so every parent has to be traversable for it.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid, User, chown, geteuid};
use sha2::{Digest, Sha256};

use super::LadderError;

/// A unix socket's address holds 108 bytes with its end (`sockaddr_un`); 104 on macOS and BSD.
const MAX_SOCKET_PATH: usize = 103;

/// The user that Postgres runs as, when it is not ours.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    pub uid: Uid,
    pub gid: Gid,
}

/// `Some` when we are root and must become somebody else.
pub fn account() -> Result<Option<Account>, LadderError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Ok(Some(user)) = User::from_name(name) {
            return Ok(Some(Account { uid: user.uid, gid: user.gid }));
        }
    }
    let none =
        io::Error::other("Postgres does not run as root, and there is neither a user postgres nor nobody");
    Err(LadderError::Io { path: PathBuf::from("/etc/passwd"), source: none })
}

/// The folder for the cluster that belongs to `data_dir`: inside it, or where `account` can reach it.
pub fn base(data_dir: &Path, account: Option<Account>) -> Result<PathBuf, LadderError> {
    let data_dir = absolute(data_dir)?;
    fs::create_dir_all(&data_dir).map_err(LadderError::io(&data_dir))?;
    let Some(account) = account else { return Ok(data_dir.join("postgres")) };
    if data_dir.ancestors().all(|parent| traversable(parent, account)) {
        return Ok(data_dir.join("postgres"));
    }
    // The same data directory finds the same cluster again: its name is made of the path.
    let name = format!("postgres-{}", short_hash(&data_dir));
    let temporary = std::env::temp_dir();
    if data_dir.starts_with(&temporary) {
        return Ok(temporary.join(format!("catenary-{name}")));
    }
    let shared = PathBuf::from("/var/lib/catenary");
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&shared).map_err(LadderError::io(&shared))?;
    Ok(shared.join(name))
}

/// The folder for the socket: `base`, or a short one when the path would be too long.
pub fn socket_folder(base: &Path, account: Option<Account>) -> Result<PathBuf, LadderError> {
    let tail = "/.s.PGSQL.5432.lock".len();
    if base.as_os_str().len() + tail <= MAX_SOCKET_PATH {
        return Ok(base.to_owned());
    }
    let roots = [std::env::temp_dir(), PathBuf::from("/tmp")];
    let root = roots.iter().find(|root| root.as_os_str().len() + 40 <= MAX_SOCKET_PATH).unwrap_or(&roots[1]);
    let folder = root.join(format!("ctn-{}", short_hash(base)));
    own(&folder, account)?;
    Ok(folder)
}

/// Creates `folder` if it is not there, for the server's eyes only. One that somebody else made is
/// refused: in a shared temporary folder its maker could read the database.
pub fn own(folder: &Path, account: Option<Account>) -> Result<(), LadderError> {
    let uid = account.map_or_else(geteuid, |a| a.uid);
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {
            if let Some(account) = account {
                chown(folder, Some(account.uid), Some(account.gid))
                    .map_err(|e| LadderError::io(folder)(e.into()))?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(LadderError::io(folder)(error)),
    }
    let found = fs::symlink_metadata(folder).map_err(LadderError::io(folder))?;
    if found.uid() != uid.as_raw() || !found.is_dir() {
        // Root may have been killed between creating and giving away: finish that.
        if let (true, true, Some(account)) = (found.is_dir(), found.uid() == 0, account) {
            return chown(folder, Some(account.uid), Some(account.gid))
                .map_err(|e| LadderError::io(folder)(e.into()));
        }
        return Err(LadderError::Owner {
            path: folder.to_owned(),
            owner: found.uid(),
            expected: uid.as_raw(),
        });
    }
    if found.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(LadderError::io(folder))?;
    }
    Ok(())
}

fn traversable(folder: &Path, account: Account) -> bool {
    let Ok(found) = fs::metadata(folder) else { return false };
    let bit = if found.uid() == account.uid.as_raw() {
        0o100
    } else if found.gid() == account.gid.as_raw() {
        0o010
    } else {
        0o001
    };
    found.permissions().mode() & bit != 0
}

fn absolute(path: &Path) -> Result<PathBuf, LadderError> {
    std::path::absolute(path).map_err(LadderError::io(path))
}

fn short_hash(path: &Path) -> String {
    hex::encode(&Sha256::digest(path.as_os_str().as_encoded_bytes())[..8])
}
