//! The service's own keys: a folder of files, never the database.
//!
//! `log` signs checkpoints (Ed25519), `mac` seals rows of facts (32 bytes), `vsa` and `collector` sign
//! summaries and registry evidence (ECDSA P-256). Each has numbered generations, `log-1.key`,
//! `log-2.key` …; the highest is in use. Of a retired key only the public part stays (`log-1.pub`), except
//! for `mac`: rows that it sealed can be opened with nothing else.

use std::{
    fmt, fs,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_evidence::{KeyId, digest::Sha256};
use catenary_tlog::{Signer, Verifier};
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use crate::{SealKeys, ServiceKeyRow};

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Signs checkpoints.
    Log,
    /// Seals rows of facts.
    Mac,
    /// Signs verdicts.
    Vsa,
    /// Signs what the collector saw in a registry.
    Collector,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 4] = [Self::Log, Self::Mac, Self::Vsa, Self::Collector];

    /// As in file names and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Mac => "mac",
            Self::Vsa => "vsa",
            Self::Collector => "collector",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Purpose {
    type Err = KeysError;
    fn from_str(text: &str) -> Result<Self, KeysError> {
        let known = Self::ALL.into_iter().find(|purpose| purpose.as_str() == text);
        known.ok_or_else(|| KeysError::UnknownPurpose { name: text.to_owned() })
    }
}

/// Why the keys cannot be used.
#[derive(Debug, Error)]
pub enum KeysError {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than the owner can reach it.
    #[error("{} has mode {found:03o}; a key must be for its owner only: chmod {wanted:o} it", path.display())]
    Mode {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        found: u32,
        /// The widest that is accepted.
        wanted: u32,
    },
    /// It belongs to somebody else, who could change it.
    #[error("{} belongs to user {owner}", path.display())]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The file holds no key of its kind.
    #[error("{} holds no {purpose} key", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        purpose: Purpose,
    },
    /// There are keys, but one purpose has none: a lost file, not a first start.
    #[error("{} has keys, but none for {purpose}: restore it from a backup", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        purpose: Purpose,
    },
    /// No such purpose.
    #[error("there is no {name:?} key; there are log, mac, vsa and collector")]
    UnknownPurpose {
        /// What was asked for.
        name: String,
    },
    /// The random generator or the signer failed.
    #[error("the cryptographic library failed to make or use a {purpose} key")]
    Crypto {
        /// For what.
        purpose: Purpose,
    },
}

/// The public part of one generation of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicPart {
    /// What it is for.
    pub purpose: Purpose,
    /// 1, 2, 3 …
    pub generation: u32,
    /// SHA-256 of `spki`; for `mac`, of the key under a label.
    pub key_id: KeyId,
    /// SubjectPublicKeyInfo in DER; empty for `mac`.
    pub spki: Vec<u8>,
    /// Whether it is the one in use.
    pub current: bool,
}

impl PublicPart {
    /// SubjectPublicKeyInfo as PEM; empty for `mac`.
    pub fn pem(&self) -> String {
        if self.spki.is_empty() { String::new() } else { pem("PUBLIC KEY", &self.spki) }
    }
}

/// The service's keys, in memory.
pub struct ServiceKeys {
    folder: PathBuf,
    log: Vec<u8>,
    vsa: EcdsaKeyPair,
    collector: EcdsaKeyPair,
    macs: Vec<(u32, [u8; 32])>,
    public: Vec<PublicPart>,
}

impl fmt::Debug for ServiceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceKeys").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl ServiceKeys {
    /// Reads the keys in `folder`; an empty or absent folder gets new ones.
    pub fn open_or_create(folder: &Path) -> Result<Self, KeysError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_at(folder))?;
        check_mode(folder, 0o700)?;
        // Two processes that start at once must not each make keys.
        let _lock = lock(folder)?;
        let found = list(folder)?;
        if found.is_empty() {
            for purpose in Purpose::ALL {
                create(folder, purpose, 1)?;
            }
        }
        Self::read(folder)
    }

    /// Every generation of every key, oldest first.
    pub fn public_parts(&self) -> &[PublicPart] {
        &self.public
    }

    /// The public part in use for `purpose`.
    pub fn current(&self, purpose: Purpose) -> &PublicPart {
        // `read` made sure that each purpose has one, and lists it last.
        let own = self.public.iter().rev().find(|part| part.purpose == purpose && part.current);
        own.unwrap_or(&self.public[0])
    }

    /// Makes the next generation of a key and uses it. Of the old one the public part stays.
    pub fn rotate(&mut self, purpose: Purpose) -> Result<PublicPart, KeysError> {
        {
            let _lock = lock(&self.folder)?;
            let newest =
                list(&self.folder)?.into_iter().filter(|f| f.purpose == purpose).map(|f| f.generation).max();
            create(&self.folder, purpose, newest.unwrap_or(0) + 1)?;
            *self = Self::read(&self.folder)?;
        }
        Ok(self.current(purpose).clone())
    }

    /// The signer of checkpoints for the log named `origin`.
    pub fn log_signer(&self, origin: &str) -> Result<Signer, KeysError> {
        Signer::from_pkcs8(origin, &self.log).map_err(|_| KeysError::Crypto { purpose: Purpose::Log })
    }

    /// Every key that ever signed checkpoints of the log named `origin`, the current one last.
    pub fn log_verifiers(&self, origin: &str) -> Result<Vec<Verifier>, KeysError> {
        let parts = self.public.iter().filter(|part| part.purpose == Purpose::Log);
        parts
            .map(|part| {
                // An Ed25519 SubjectPublicKeyInfo ends with the 32 bytes of the key (RFC 8410).
                let raw = part.spki.last_chunk::<32>().ok_or(KeysError::Crypto { purpose: Purpose::Log })?;
                Verifier::new(origin, *raw).map_err(|_| KeysError::Crypto { purpose: Purpose::Log })
            })
            .collect()
    }

    /// ECDSA P-256 signature, ASN.1 DER, by the key for verdicts.
    pub fn sign_vsa(&self, message: &[u8]) -> Result<Vec<u8>, KeysError> {
        sign(&self.vsa, message, Purpose::Vsa)
    }

    /// ECDSA P-256 signature, ASN.1 DER, by the collector's key.
    pub fn sign_collector(&self, message: &[u8]) -> Result<Vec<u8>, KeysError> {
        sign(&self.collector, message, Purpose::Collector)
    }

    /// Generation and bytes of the key that seals rows.
    pub fn mac_current(&self) -> (u32, [u8; 32]) {
        // `read` made sure that there is one.
        self.macs.last().copied().unwrap_or_default()
    }

    /// Generations and bytes of the keys that sealed rows before.
    pub fn mac_retired(&self) -> Vec<(u32, [u8; 32])> {
        self.macs.split_last().map(|(_, retired)| retired.to_vec()).unwrap_or_default()
    }

    /// The keys that seal rows of facts.
    pub fn seal_keys(&self) -> SealKeys {
        SealKeys { current: self.mac_current(), retired: self.mac_retired() }
    }

    /// What the database remembers of the keys.
    pub fn rows(&self) -> Vec<ServiceKeyRow> {
        let row = |part: &PublicPart| ServiceKeyRow {
            purpose: part.purpose.to_string(),
            generation: part.generation,
            key_id: part.key_id.to_string(),
            public: part.pem(),
        };
        self.public.iter().map(row).collect()
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn read(folder: &Path) -> Result<Self, KeysError> {
        let mut files = list(folder)?;
        files.sort_by_key(|file| (file.purpose, file.generation, file.private));
        let mut log = None;
        let mut vsa = None;
        let mut collector = None;
        let mut macs = Vec::new();
        let mut public: Vec<PublicPart> = Vec::new();
        for file in &files {
            let malformed = || KeysError::Malformed { path: file.path.clone(), purpose: file.purpose };
            let text = read_private(&file.path)?;
            let der = unpem(&text).ok_or_else(malformed)?;
            let spki = match (file.private, file.purpose) {
                (false, Purpose::Mac) => return Err(malformed()),
                (false, _) => der,
                (true, Purpose::Log) => {
                    let spki = ed25519_spki(&der).ok_or_else(malformed)?;
                    log = Some(der);
                    spki
                }
                (true, Purpose::Mac) => {
                    macs.push((file.generation, <[u8; 32]>::try_from(der).map_err(|_| malformed())?));
                    Vec::new()
                }
                (true, Purpose::Vsa | Purpose::Collector) => {
                    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der)
                        .map_err(|_| malformed())?;
                    let spki = p256_spki(&pair).ok_or_else(malformed)?;
                    *(if file.purpose == Purpose::Vsa { &mut vsa } else { &mut collector }) = Some(pair);
                    spki
                }
            };
            let key_id = match macs.last() {
                Some((_, key)) if file.purpose == Purpose::Mac => KeyId(mac_id(key)),
                _ => KeyId(Sha256::of(&spki)),
            };
            // Being killed while rotating can leave both the private and the public file of a generation.
            public.retain(|p| (p.purpose, p.generation) != (file.purpose, file.generation));
            for other in public.iter_mut().filter(|p| p.purpose == file.purpose) {
                other.current = false;
            }
            let (purpose, generation, current) = (file.purpose, file.generation, file.private);
            public.push(PublicPart { purpose, generation, key_id, spki, current });
        }
        for purpose in Purpose::ALL {
            if !public.iter().any(|part| part.purpose == purpose && part.current) {
                return Err(KeysError::Missing { path: folder.to_owned(), purpose });
            }
        }
        let missing = |purpose| KeysError::Missing { path: folder.to_owned(), purpose };
        Ok(Self {
            log: log.ok_or_else(|| missing(Purpose::Log))?,
            vsa: vsa.ok_or_else(|| missing(Purpose::Vsa))?,
            collector: collector.ok_or_else(|| missing(Purpose::Collector))?,
            folder: folder.to_owned(),
            macs,
            public,
        })
    }
}

/// One file in the folder.
struct KeyFile {
    path: PathBuf,
    purpose: Purpose,
    generation: u32,
    /// `.key`; else `.pub`.
    private: bool,
}

fn list(folder: &Path) -> Result<Vec<KeyFile>, KeysError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_at(folder))? {
        let path = entry.map_err(io_at(folder))?.path();
        let Some((stem, ending)) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.rsplit_once('.'))
        else {
            continue;
        };
        let Some((purpose, generation)) = stem.split_once('-') else { continue };
        let (Ok(purpose), Ok(generation)) = (purpose.parse(), generation.parse()) else { continue };
        let private = match ending {
            "key" => true,
            "pub" => false,
            _ => continue,
        };
        files.push(KeyFile { path: path.clone(), purpose, generation, private });
    }
    Ok(files)
}

/// Writes generation `generation`, then retires what was in use before.
fn create(folder: &Path, purpose: Purpose, generation: u32) -> Result<(), KeysError> {
    let crypto = |_| KeysError::Crypto { purpose };
    let (label, der) = match purpose {
        Purpose::Log => {
            let pair = Ed25519KeyPair::generate().map_err(crypto)?;
            ("PRIVATE KEY", pair.to_pkcs8v1().map_err(crypto)?.as_ref().to_vec())
        }
        Purpose::Mac => {
            let mut key = [0; 32];
            aws_lc_rs::rand::fill(&mut key).map_err(crypto)?;
            ("CATENARY MAC KEY", key.to_vec())
        }
        Purpose::Vsa | Purpose::Collector => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(crypto)?;
            ("PRIVATE KEY", pair.to_pkcs8v1().map_err(crypto)?.as_ref().to_vec())
        }
    };
    let path = folder.join(format!("{purpose}-{generation}.key"));
    write_new(folder, &path, &pem(label, &der))?;
    if purpose == Purpose::Mac {
        return Ok(());
    }
    for old in
        list(folder)?.into_iter().filter(|f| f.private && f.purpose == purpose && f.generation < generation)
    {
        let malformed = || KeysError::Malformed { path: old.path.clone(), purpose };
        let der = unpem(&read_private(&old.path)?).ok_or_else(malformed)?;
        let spki = match purpose {
            Purpose::Log => ed25519_spki(&der),
            _ => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der)
                .ok()
                .and_then(|p| p256_spki(&p)),
        };
        let kept = folder.join(format!("{purpose}-{}.pub", old.generation));
        write_new(folder, &kept, &pem("PUBLIC KEY", &spki.ok_or_else(malformed)?))?;
        fs::remove_file(&old.path).map_err(io_at(&old.path))?;
    }
    Ok(())
}

/// All or nothing: a reader sees the whole file or none, also after a power cut.
fn write_new(folder: &Path, path: &Path, text: &str) -> Result<(), KeysError> {
    let unfinished = path.with_extension("unfinished");
    let _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(io_at(&unfinished))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io_at(&unfinished))?;
    fs::rename(&unfinished, path).map_err(io_at(path))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_at(folder))
}

fn read_private(path: &Path) -> Result<String, KeysError> {
    check_mode(path, 0o600)?;
    fs::read_to_string(path).map_err(io_at(path))
}

fn check_mode(path: &Path, wanted: u32) -> Result<(), KeysError> {
    let found = fs::metadata(path).map_err(io_at(path))?;
    let mode = found.permissions().mode() & 0o777;
    if mode & !wanted != 0 {
        return Err(KeysError::Mode { path: path.to_owned(), found: mode, wanted });
    }
    // Root may own mounted secrets; anybody else could have put a key of theirs there.
    let me = nix::unistd::geteuid();
    if found.uid() != me.as_raw() && found.uid() != 0 && !me.is_root() {
        return Err(KeysError::Owner { path: path.to_owned(), owner: found.uid() });
    }
    Ok(())
}

fn lock(folder: &Path) -> Result<Option<Flock<File>>, KeysError> {
    let path = folder.join("lock");
    let file = match OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path) {
        Ok(file) => file,
        // Mounted secrets are read-only; then nobody makes keys here.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(io_at(&path)(error)),
    };
    Flock::lock(file, FlockArg::LockExclusive).map(Some).map_err(|(_, errno)| io_at(&path)(errno.into()))
}

fn sign(pair: &EcdsaKeyPair, message: &[u8], purpose: Purpose) -> Result<Vec<u8>, KeysError> {
    let signature = pair.sign(&SystemRandom::new(), message).map_err(|_| KeysError::Crypto { purpose })?;
    Ok(signature.as_ref().to_vec())
}

fn ed25519_spki(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()?;
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
    Some(der.as_ref().to_vec())
}

fn p256_spki(pair: &EcdsaKeyPair) -> Option<Vec<u8>> {
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
    Some(der.as_ref().to_vec())
}

/// The id says which key it is and nothing about it: the label keeps it apart from every other use.
fn mac_id(key: &[u8; 32]) -> Sha256 {
    Sha256::of(&[b"catenary mac key id\0".as_slice(), key].concat())
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|i| &text[i..(i + 64).min(text.len())]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn unpem(text: &str) -> Option<Vec<u8>> {
    let body = text.trim().strip_prefix("-----BEGIN ")?.split_once("-----\n")?.1;
    let body = body.split_once("\n-----END ")?.0;
    STANDARD.decode(body.replace(['\n', '\r'], "")).ok()
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> KeysError {
    let path = path.to_owned();
    move |source| KeysError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn keys_are_made_once_and_read_again() {
        let dir = folder();
        let keys = ServiceKeys::open_or_create(&dir.path().join("keys")).unwrap();
        let again = ServiceKeys::open_or_create(&dir.path().join("keys")).unwrap();
        assert_eq!(keys.public_parts(), again.public_parts());
        assert_eq!(keys.mac_current(), again.mac_current());
        assert_eq!(keys.public_parts().len(), 4);
        for file in fs::read_dir(dir.path().join("keys")).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused_by_name() {
        let dir = folder();
        let keys = dir.path().join("keys");
        ServiceKeys::open_or_create(&keys).unwrap();
        let file = keys.join("vsa-1.key");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let error = ServiceKeys::open_or_create(&keys).unwrap_err().to_string();
        assert!(error.contains("vsa-1.key") && error.contains("640"), "{error}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(ServiceKeys::open_or_create(&keys), Err(KeysError::Mode { .. })));
    }

    #[test]
    fn a_lost_key_is_not_replaced_silently() {
        let dir = folder();
        let keys = dir.path().join("keys");
        ServiceKeys::open_or_create(&keys).unwrap();
        fs::remove_file(keys.join("mac-1.key")).unwrap();
        let error = ServiceKeys::open_or_create(&keys).unwrap_err();
        assert!(matches!(error, KeysError::Missing { purpose: Purpose::Mac, .. }), "{error}");
    }

    #[test]
    fn rotating_keeps_what_is_needed_to_read_the_past() {
        let dir = folder();
        let path = dir.path().join("keys");
        let mut keys = ServiceKeys::open_or_create(&path).unwrap();
        let (mac, vsa) = (keys.mac_current(), keys.current(Purpose::Vsa).clone());
        let note = keys.log_signer("o.example/log").unwrap().sign("text\n").unwrap();
        for purpose in Purpose::ALL {
            assert_eq!(keys.rotate(purpose).unwrap().generation, 2);
        }
        let keys = ServiceKeys::open_or_create(&path).unwrap();
        assert_eq!(keys.mac_retired(), vec![mac]);
        assert_eq!(keys.mac_current().0, 2);
        assert!(!path.join("vsa-1.key").exists() && path.join("vsa-1.pub").exists());
        let old = keys.public_parts().iter().find(|p| p.key_id == vsa.key_id).unwrap();
        assert!(!old.current && old.spki == vsa.spki);
        let known = keys.log_verifiers("o.example/log").unwrap();
        assert!(catenary_tlog::note::open(&note, &known).is_ok());
        assert!(catenary_tlog::note::open(&note, &known[1..]).is_err());
    }

    #[test]
    fn signatures_verify_under_the_public_part() {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
        let dir = folder();
        let keys = ServiceKeys::open_or_create(&dir.path().join("keys")).unwrap();
        for (purpose, signature) in [
            (Purpose::Vsa, keys.sign_vsa(b"message").unwrap()),
            (Purpose::Collector, keys.sign_collector(b"message").unwrap()),
        ] {
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &keys.current(purpose).spki);
            assert!(public.verify(b"message", &signature).is_ok());
            assert!(public.verify(b"massage", &signature).is_err());
        }
    }
}
