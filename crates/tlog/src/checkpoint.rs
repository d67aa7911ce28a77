//! Checkpoints (C2SP tlog-checkpoint): what a log says it is at one size.
//!
//! The text is the origin, the size in decimal, the root in base64, then extension lines; it is
//! signed as a note. When a checkpoint may be signed is the server's matter: only for a head that
//! was read back after its commit.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    merkle::{Hash, MAX_SIZE},
    note::{self, NoteError, Signer, Verifier},
    tile::parse_decimal,
};

/// Origin, size and root of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, fixed by its entry 0.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root over those entries.
    pub root: Hash,
    /// Further lines, which this crate carries and does not read. None of ours.
    pub extensions: Vec<String>,
}

/// Why a text is not a checkpoint of this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it is refused.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Not origin, size, root and extension lines, each on a line of its own.
    #[error("a checkpoint is an origin, a size and a root, each on its line")]
    Lines,
    /// Not a decimal number without leading zeros within the limit.
    #[error("`{0}` is not a log size")]
    Size(String),
    /// Not the base64 of 32 bytes.
    #[error("`{0}` is not a root hash")]
    Root(String),
    /// The empty log has one root only.
    #[error("an empty log has the root of the empty tree")]
    EmptyRoot,
    /// A genuine checkpoint, of another log.
    #[error("the checkpoint is of {found}, not of {expected}")]
    OtherOrigin {
        /// The log that was asked about.
        expected: String,
        /// The log that signed.
        found: String,
    },
}

impl Checkpoint {
    /// A checkpoint without extension lines.
    pub fn new(origin: &str, size: u64, root: Hash) -> Self {
        Self { origin: origin.to_owned(), size, root, extensions: Vec::new() }
    }

    /// The text to sign.
    pub fn encode(&self) -> Result<String, CheckpointError> {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0));
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        // Whatever would not be read back is not written: a newline in the origin, an empty extension.
        match Self::parse(&text) {
            Ok(same) if same == *self => Ok(text),
            Ok(_) => Err(CheckpointError::Lines),
            Err(refusal) => Err(refusal),
        }
    }

    /// Reads the text of an opened note.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let body = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Lines);
        };
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if origin.is_empty()
            || extensions.iter().any(String::is_empty)
            || body.contains(|c: char| c != '\n' && c.is_control())
        {
            return Err(CheckpointError::Lines);
        }
        let size = parse_decimal(size)
            .filter(|size| *size <= MAX_SIZE)
            .ok_or_else(|| CheckpointError::Size(size.to_owned()))?;
        let root = STANDARD
            .decode(root)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Hash)
            .ok_or_else(|| CheckpointError::Root(root.to_owned()))?;
        if size == 0 && root != Hash::EMPTY_ROOT {
            return Err(CheckpointError::EmptyRoot);
        }
        Ok(Self { origin: origin.to_owned(), size, root, extensions })
    }

    /// The checkpoint as a signed note.
    pub fn sign(&self, signer: &Signer) -> Result<String, CheckpointError> {
        Ok(signer.sign(&self.encode()?)?)
    }

    /// Opens a signed checkpoint of the log `origin`: signature first, then text, then origin.
    pub fn open(note: &str, origin: &str, known: &[Verifier]) -> Result<Self, CheckpointError> {
        let opened = note::open(note, known)?;
        let checkpoint = Self::parse(&opened.text)?;
        if checkpoint.origin != origin {
            return Err(CheckpointError::OtherOrigin {
                expected: origin.to_owned(),
                found: checkpoint.origin,
            });
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint::new("log.example/acme", 42, Hash([7; 32]))
    }

    #[test]
    fn a_signed_checkpoint_opens_for_its_own_log() {
        let signer = Signer::from_seed("log.example/acme", &[1; 32]).unwrap();
        let note = checkpoint().sign(&signer).unwrap();
        let known = [signer.verifier()];
        assert_eq!(Checkpoint::open(&note, "log.example/acme", &known).unwrap(), checkpoint());
        assert!(matches!(
            Checkpoint::open(&note, "log.example/other", &known),
            Err(CheckpointError::OtherOrigin { .. })
        ));
        assert!(matches!(
            Checkpoint::open(&note.replace("\n42\n", "\n43\n"), "log.example/acme", &known),
            Err(CheckpointError::Note(NoteError::BadSignature(_)))
        ));
    }

    #[test]
    fn extension_lines_are_carried() {
        let mut with = checkpoint();
        with.extensions = vec!["one".into(), "two 2".into()];
        let text = with.encode().unwrap();
        assert!(text.ends_with("=\none\ntwo 2\n"));
        assert_eq!(Checkpoint::parse(&text).unwrap(), with);
    }

    #[test]
    fn t12_sizes_are_plain_decimal() {
        let text = checkpoint().encode().unwrap();
        for bad in [
            "042",
            "-1",
            "+42",
            "4 2",
            " 42",
            "0x2a",
            "1e3",
            "",
            "18446744073709551616",
            "9223372036854775808",
            "٤٢",
        ] {
            let found = Checkpoint::parse(&text.replace("\n42\n", &format!("\n{bad}\n")));
            assert_eq!(found, Err(CheckpointError::Size(bad.to_owned())));
        }
    }

    #[test]
    fn malformed_checkpoints_are_refused() {
        let text = checkpoint().encode().unwrap();
        let root = text.lines().nth(2).unwrap().to_owned();
        for bad in [&root[1..], &root[..root.len() - 1], "", "AAAA", &root.replace('B', "-")] {
            let found = Checkpoint::parse(&text.replace(&root, bad));
            assert_eq!(found, Err(CheckpointError::Root(bad.to_owned())));
        }
        for bad in [
            "",
            "\n",
            "a\n1\n",
            &text[..text.len() - 1],
            &format!("{text}\n"),
            &text[16..],
            &text.replace("log", "l\rog"),
        ] {
            assert_eq!(Checkpoint::parse(bad), Err(CheckpointError::Lines), "{bad:?}");
        }
        assert_eq!(Checkpoint::new("o", 0, Hash([0; 32])).encode(), Err(CheckpointError::EmptyRoot));
        assert!(Checkpoint::new("o", 0, Hash::EMPTY_ROOT).encode().is_ok());
    }

    #[test]
    fn an_origin_cannot_smuggle_lines() {
        for origin in ["", "a\n9\nAAAA", "a\n"] {
            assert!(Checkpoint::new(origin, 1, Hash([0; 32])).encode().is_err(), "{origin:?}");
        }
    }
}
