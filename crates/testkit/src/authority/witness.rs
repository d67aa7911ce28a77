//! Witnesses of checkpoints: Ed25519 cosignatures with a time (C2SP tlog-cosignature), written byte by byte.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{key::Key, sha256_hex};

/// A witness.
#[derive(Debug, Clone)]
pub struct Witness {
    /// Its name on signature lines.
    pub name: String,
    /// Its key, of Ed25519.
    pub key: Key,
}

impl Witness {
    /// The witness of that name, with a key of its own.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), key: Key::ed25519(&format!("witness {name}")) }
    }

    /// `<name>+<key id>+<base64 of type and key>`.
    pub fn vkey(&self) -> String {
        let typed = [&[4], self.key.public_raw()].concat();
        format!("{}+{}+{}", self.name, hex::encode(self.hint()), STANDARD.encode(typed))
    }

    /// A line that cosigns the checkpoint at `time`.
    pub fn line(&self, checkpoint: &str, time: i64) -> String {
        let body = checkpoint.split_once("\n\n").map_or(checkpoint, |(body, _)| body);
        let message = format!("cosignature/v1\ntime {time}\n{body}\n");
        let blob = [&self.hint()[..], &time.to_be_bytes(), &self.key.sign(message.as_bytes())].concat();
        format!("\u{2014} {} {}\n", self.name, STANDARD.encode(blob))
    }

    /// The checkpoint with its line at the end.
    pub fn cosign(&self, checkpoint: &str, time: i64) -> String {
        format!("{checkpoint}{}", self.line(checkpoint, time))
    }

    fn hint(&self) -> Vec<u8> {
        let hashed = [self.name.as_bytes(), b"\n\x04", self.key.public_raw()].concat();
        let id = hex::decode(sha256_hex(&hashed)).expect("it is hex");
        id[..4].to_vec()
    }
}
