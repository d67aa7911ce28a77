//! Finding installed `initdb` and `postgres`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A folder that holds both programs, and their major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    /// As in `PG_VERSION`: `15`, `17` …
    pub major: String,
}

impl Binaries {
    pub fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    pub fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    fn at(folder: &Path) -> Option<Self> {
        // Through links: `/usr/local/bin/postgres` may be a link, and its libraries lie beside its target.
        let postgres = folder.join("postgres");
        if !postgres.is_file() || !folder.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(&postgres).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
        let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        let major = version.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { folder: folder.to_owned(), major })
    }
}

/// Every installed pair: on `PATH` first, then Debian's folders with the highest version first,
/// then Homebrew's and the usual prefixes.
pub fn find() -> Vec<Binaries> {
    let mut folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    folders.extend(versioned("/usr/lib/postgresql", "bin"));
    folders.extend(versioned("/usr/pgsql", "bin"));
    folders.extend(versioned("/opt/homebrew/opt", "bin"));
    folders.extend(versioned("/usr/local/opt", "bin"));
    folders.extend(
        ["/usr/local/pgsql/bin", "/usr/lib/postgresql/bin", "/usr/libexec/postgresql"].map(PathBuf::from),
    );
    let mut found: Vec<Binaries> = Vec::new();
    for folder in folders {
        if let Some(binaries) = Binaries::at(&folder)
            && !found.contains(&binaries)
        {
            found.push(binaries);
        }
    }
    found
}

/// `root/<number>/tail` and `root/postgresql@<number>/tail`, highest number first.
fn versioned(root: &str, tail: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut numbered: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix("postgresql@").unwrap_or(&name).parse().ok()?;
            Some((number, entry.path().join(tail)))
        })
        .collect();
    numbered.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    numbered.into_iter().map(|(_, path)| path).collect()
}
