//! A real git repository with one SSH-signed commit, the same commit id on every run.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use sha1::{Digest, Sha1};

use super::ssh::Developer;

/// Who commits.
const WHO: &str = "Dev Eloper <dev@demo.test>";
/// When: 2026-01-05T09:00:00Z, on every run.
pub const WHEN: i64 = 1_767_603_600;

/// A repository on disk and its one commit.
pub struct Repository {
    /// The checkout.
    pub folder: PathBuf,
    /// The commit's id.
    pub commit: String,
    /// The commit object, as `git cat-file commit` prints it.
    pub object: Vec<u8>,
    /// Whether `git` and `ssh-keygen` made it; else this file did.
    pub by_git: bool,
}

/// Makes the repository: with git and ssh-keygen when both are installed, else by writing the objects.
pub fn make(
    folder: &Path,
    developer: &Developer,
    files: &[(&str, &str)],
    message: &str,
) -> Result<Repository> {
    fs::create_dir_all(folder)?;
    for (name, text) in files {
        fs::write(folder.join(name), text)?;
    }
    let expected = written(developer, files, message)?;
    if installed("git") && installed("ssh-keygen") {
        with_git(folder, developer, message)?;
        let object = git(folder, &["cat-file", "commit", "HEAD"])?;
        let commit = String::from_utf8(git(folder, &["rev-parse", "HEAD"])?)?.trim().to_owned();
        return Ok(Repository { folder: folder.to_owned(), commit, object, by_git: true });
    }
    store(folder, &expected)?;
    let Some((_, object)) = expected.last().cloned() else { bail!("no commit") };
    Ok(Repository { folder: folder.to_owned(), commit: oid("commit", &object), object, by_git: false })
}

/// The id of a commit that someone made on a laptop and never pushed.
pub fn unpushed_commit(repository: &Repository) -> String {
    let text = String::from_utf8_lossy(&repository.object);
    let tree = text.lines().next().unwrap_or_default();
    let content = format!(
        "{tree}\nparent {}\nauthor Mallory <m@demo.test> {WHEN} +0000\ncommitter Mallory <m@demo.test> {WHEN} +0000\n\nAdd telemetry\n",
        repository.commit
    );
    oid("commit", content.as_bytes())
}

/// Whether a command can be started.
pub fn installed(command: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(command).is_file())
}

fn with_git(folder: &Path, developer: &Developer, message: &str) -> Result<()> {
    let key = folder.with_extension("ssh");
    if key.exists() {
        fs::remove_file(&key)?;
    }
    crate::sign::write_private(&key, &developer.private_file())?;
    fs::write(folder.with_extension("ssh.pub"), developer.public_line())?;
    git(folder, &["init", "--quiet", "--template=", "--object-format=sha1", "--initial-branch=main"])?;
    git(folder, &["add", "--all"])?;
    let signing = format!("user.signingkey={}", key.display());
    git(
        folder,
        &["-c", "gpg.format=ssh", "-c", &signing, "commit", "--quiet", "--allow-empty", "-S", "-m", message],
    )?;
    Ok(())
}

/// Runs git, with nothing of the machine's configuration and the same person and time on every run.
fn git(folder: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let date = format!("{WHEN} +0000");
    let (name, email) = WHO.trim_end_matches('>').split_once(" <").unwrap_or_default();
    let run = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "core.autocrlf=false", "-c", "core.fileMode=false"])
        .args(arguments)
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")])
        .envs([("GIT_AUTHOR_NAME", name), ("GIT_AUTHOR_EMAIL", email), ("GIT_AUTHOR_DATE", &date)])
        .envs([("GIT_COMMITTER_NAME", name), ("GIT_COMMITTER_EMAIL", email), ("GIT_COMMITTER_DATE", &date)])
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .stdin(Stdio::null())
        .output()
        .context("git does not start")?;
    if !run.status.success() {
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&run.stderr).trim());
    }
    Ok(run.stdout)
}

/// The objects of the repository, the signed commit last.
fn written(
    developer: &Developer,
    files: &[(&str, &str)],
    message: &str,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut objects = Vec::new();
    let mut tree = Vec::new();
    let mut sorted = files.to_vec();
    sorted.sort();
    for (name, text) in sorted {
        tree.extend(format!("100644 {name}\0").bytes());
        tree.extend(Sha1::digest(framed("blob", text.as_bytes())));
        objects.push(("blob", text.as_bytes().to_vec()));
    }
    let head =
        format!("tree {}\nauthor {WHO} {WHEN} +0000\ncommitter {WHO} {WHEN} +0000\n", oid("tree", &tree));
    objects.push(("tree", tree));
    let signature = developer.sign(format!("{head}\n{message}\n").as_bytes())?;
    // Continuation lines of a header begin with one space.
    let signature = signature.trim_end().replace('\n', "\n ");
    objects.push(("commit", format!("{head}gpgsig {signature}\n\n{message}\n").into_bytes()));
    Ok(objects)
}

fn framed(kind: &str, content: &[u8]) -> Vec<u8> {
    [format!("{kind} {}\0", content.len()).as_bytes(), content].concat()
}

fn oid(kind: &str, content: &[u8]) -> String {
    hex::encode(Sha1::digest(framed(kind, content)))
}

/// Writes loose objects and the branch: a repository that git can read.
fn store(folder: &Path, objects: &[(&'static str, Vec<u8>)]) -> Result<()> {
    let git = folder.join(".git");
    for (kind, content) in objects {
        let id = oid(kind, content);
        let place = git.join("objects").join(&id[..2]);
        fs::create_dir_all(&place)?;
        fs::write(place.join(&id[2..]), zlib(&framed(kind, content)))?;
        if *kind == "commit" {
            fs::create_dir_all(git.join("refs/heads"))?;
            fs::write(git.join("refs/heads/main"), format!("{id}\n"))?;
        }
    }
    fs::write(git.join("HEAD"), "ref: refs/heads/main\n")?;
    fs::write(git.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = false\n")?;
    Ok(())
}

/// A zlib stream of stored blocks (RFC 1950, 1951): git asks for zlib, not for small.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let blocks: Vec<&[u8]> = bytes.chunks(0xffff).collect();
    for (at, block) in blocks.iter().enumerate() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(at + 1 == blocks.len()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    let (mut a, mut b) = (1u32, 0u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    let _ = out.write_all(&((b << 16) | a).to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[(&str, &str)] = &[("app.sh", "echo hello\n"), ("Containerfile", "FROM base\n")];

    #[test]
    fn git_and_ssh_keygen_make_the_commit_that_we_write_without_them() {
        if !installed("git") || !installed("ssh-keygen") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let developer = Developer::new([7; 32]).unwrap();
        let made = make(&folder.path().join("a"), &developer, FILES, "Begin").unwrap();
        assert!(made.by_git);
        let objects = written(&developer, FILES, "Begin").unwrap();
        let (_, commit) = objects.last().unwrap();
        assert_eq!(String::from_utf8_lossy(&made.object), String::from_utf8_lossy(commit));
        assert_eq!(made.commit, oid("commit", commit));
    }

    #[test]
    fn git_reads_the_repository_that_we_write() {
        if !installed("git") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let developer = Developer::new([7; 32]).unwrap();
        store(folder.path(), &written(&developer, FILES, "Begin").unwrap()).unwrap();
        git(folder.path(), &["fsck", "--strict"]).unwrap();
        assert_eq!(git(folder.path(), &["show", "HEAD:app.sh"]).unwrap(), b"echo hello\n");
    }
}
