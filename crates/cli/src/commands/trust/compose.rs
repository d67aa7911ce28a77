//! A trusted root made of PEM files, for an authority that publishes no `trusted_root.json`.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_evidence::{PublicKey, Scheme};
use clap::Args;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The authorities of a trust domain, each a PEM file.
#[derive(Debug, Args)]
pub struct Parts {
    /// Certificates of a certificate authority, the issuing one first.
    #[arg(long = "ca", value_name = "PEM")]
    authorities: Vec<PathBuf>,
    /// Certificates of a timestamp authority, the signing one first.
    #[arg(long = "tsa", value_name = "PEM")]
    timestamp_authorities: Vec<PathBuf>,
    /// Public key of a transparency log; of a Rekor v2 log as `origin=PEM`, with the origin of its checkpoints.
    #[arg(long = "log", value_name = "[ORIGIN=]PEM")]
    logs: Vec<String>,
    /// Public key of a certificate transparency log.
    #[arg(long = "ct-log", value_name = "PEM")]
    ct_logs: Vec<PathBuf>,
    /// What they vouched for counts from here on (RFC 3339).
    #[arg(long)]
    valid_from: Option<jiff::Timestamp>,
    /// What they vouched for counts until here.
    #[arg(long)]
    valid_until: Option<jiff::Timestamp>,
}

impl Parts {
    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty()
            && self.timestamp_authorities.is_empty()
            && self.logs.is_empty()
            && self.ct_logs.is_empty()
    }

    /// When keys and authorities given with this count.
    pub fn window(&self) -> (Option<jiff::Timestamp>, Option<jiff::Timestamp>) {
        (self.valid_from, self.valid_until)
    }

    /// The text of a `trusted_root.json`.
    pub fn compose(&self) -> Result<String> {
        let somebody = [&self.authorities, &self.timestamp_authorities].iter().any(|files| !files.is_empty());
        ensure!(
            somebody || !self.logs.is_empty(),
            "a trust root has a certificate authority, a log or a timestamp authority: give --ca, --log or --tsa"
        );
        let chains =
            |files: &[PathBuf]| files.iter().map(|file| self.chain(file)).collect::<Result<Vec<_>>>();
        let logs = self.logs.iter().map(|log| match log.split_once('=') {
            Some((origin, file)) => self.log(&file.into(), Some(origin)),
            None => self.log(&log.into(), None),
        });
        let ct_logs = self.ct_logs.iter().map(|file| self.log(file, None));
        let root = json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "certificateAuthorities": chains(&self.authorities)?,
            "timestampAuthorities": chains(&self.timestamp_authorities)?,
            "tlogs": logs.collect::<Result<Vec<_>>>()?,
            "ctlogs": ct_logs.collect::<Result<Vec<_>>>()?,
        });
        Ok(root.to_string())
    }

    /// `TimeRange`: without a start it has always been trusted.
    fn valid_for(&self) -> Value {
        let mut range = json!({"start": self.valid_from.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()});
        if let Some(until) = self.valid_until {
            range["end"] = json!(until.to_string());
        }
        range
    }

    fn chain(&self, file: &PathBuf) -> Result<Value> {
        let blocks = read(file, "CERTIFICATE")?;
        let certificates: Vec<Value> =
            blocks.iter().map(|der| json!({"rawBytes": STANDARD.encode(der)})).collect();
        Ok(json!({"uri": "", "certChain": {"certificates": certificates}, "validFor": self.valid_for()}))
    }

    fn log(&self, file: &PathBuf, origin: Option<&str>) -> Result<Value> {
        let blocks = read(file, "PUBLIC KEY")?;
        let [spki] = blocks.as_slice() else { bail!("{}: one public key is expected", file.display()) };
        let pem = fs::read_to_string(file)?;
        let key = PublicKey::from_pem(&pem, None).with_context(|| file.display().to_string())?;
        let (details, algorithm) = match key.scheme() {
            // The signature types of C2SP signed notes.
            Scheme::Ed25519 => ("PKIX_ED25519", 1),
            Scheme::EcdsaP256Sha256 => ("PKIX_ECDSA_P256_SHA_256", 2),
            Scheme::EcdsaP384Sha384 => ("PKIX_ECDSA_P384_SHA_384", 2),
            Scheme::RsaPkcs1Sha256 => ("PKIX_RSA_PKCS1V15_2048_SHA256", 2),
            other => bail!("{}: no log signs with {other}", file.display()),
        };
        let id = match (origin, algorithm) {
            (None, _) | (_, 2) => Sha256::digest(spki),
            // https://c2sp.org/signed-note: the name, a newline, the type, the bare key.
            (Some(origin), algorithm) => {
                let bare = spki.get(spki.len().saturating_sub(32)..).unwrap_or_default();
                Sha256::new_with_prefix(origin).chain_update([b'\n', algorithm]).chain_update(bare).finalize()
            }
        };
        Ok(json!({
            "baseUrl": origin.map_or_else(String::new, |origin| format!("https://{origin}")),
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": STANDARD.encode(spki), "keyDetails": details, "validFor": self.valid_for()
            },
            "logId": {"keyId": STANDARD.encode(id)},
        }))
    }
}

/// The blocks of a PEM file, all of which have this label.
fn read(file: &PathBuf, label: &str) -> Result<Vec<Vec<u8>>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut blocks = Vec::new();
    for block in text.split("-----BEGIN ").skip(1) {
        let body = block
            .strip_prefix(label)
            .and_then(|b| b.strip_prefix("-----"))
            .and_then(|b| b.split_once("-----END "));
        let Some((body, _)) = body else { bail!("{}: a PEM block that is no {label}", file.display()) };
        let base64: String = body.split_whitespace().collect();
        blocks.push(STANDARD.decode(base64).with_context(|| format!("{}: base64", file.display()))?);
    }
    ensure!(!blocks.is_empty(), "{}: there is no {label}", file.display());
    Ok(blocks)
}
