//! `catenary key`: keys to sign with, keys to trust.

use std::path::PathBuf;

use anyhow::{Context, Result};
use catenary_evidence::{allowed_signers, attestation, layout};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::{
    client::Client,
    draw::{items, string},
    exit::Exit,
    output::{BAD, GOOD, Output, paint},
};

/// Keys.
#[derive(Subcommand)]
pub enum Key {
    /// Make a signing key: NAME.key (private, mode 0600) and NAME.pub.
    Generate {
        /// File name without suffix.
        name: PathBuf,
        /// The algorithm.
        #[arg(long, value_enum, default_value_t = Algorithm::Ed25519)]
        algorithm: Algorithm,
    },
    /// Trust a public key: PEM, or for signed commits an OpenSSH public key or an armoured OpenPGP key.
    Add {
        /// A name for people.
        name: String,
        /// The file with the public key.
        file: PathBuf,
        /// For RSA keys: rsa-pkcs1-sha256 or rsa-pss-sha256.
        #[arg(long)]
        scheme: Option<String>,
        /// Signatures count from here on (RFC 3339).
        #[arg(long)]
        valid_from: Option<String>,
        /// Signatures count until here.
        #[arg(long)]
        valid_until: Option<String>,
    },
    /// Trust the keys of an OpenSSH allowed_signers file, each from `valid-after` until `valid-before`.
    AllowedSigners {
        /// The file.
        file: PathBuf,
    },
    /// Trust the keys of the functionaries whom an in-toto layout names. Read the layout first: it is not verified here.
    Layout {
        /// The file.
        file: PathBuf,
    },
    /// List trusted keys.
    List,
    /// Withdraw trust from a key and every signature it ever made, at once.
    Revoke {
        /// The key's id, `sha256:…`.
        id: String,
        /// Why: shown in every verdict it changes.
        #[arg(long)]
        reason: String,
    },
    /// Replace one of the service's own keys; the old public part is kept. Run it where the service's keys lie.
    Rotate {
        /// Which.
        #[arg(value_enum)]
        purpose: Purpose,
        /// The service's data folder.
        #[arg(long, env = "CATENARY_DATA")]
        data: Option<PathBuf>,
    },
}

/// Algorithms that `generate` makes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Algorithm {
    /// Ed25519.
    Ed25519,
    /// ECDSA P-256 with SHA-256.
    P256,
    /// ECDSA P-384 with SHA-384.
    P384,
}

/// The service's own keys.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Purpose {
    /// Signs checkpoints.
    Log,
    /// Seals rows.
    Mac,
    /// Signs verdicts.
    Vsa,
    /// Signs registry events.
    Collector,
}

impl Key {
    /// Runs it.
    pub async fn run(self, client: &Client, output: &Output) -> Result<Exit> {
        match self {
            Self::Generate { name, algorithm } => generate(&name, algorithm, output)?,
            Self::Add { name, file, scheme, valid_from, valid_until } => {
                let pem = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                let mut body = json!({"name": name, "pem": pem});
                for (member, value) in
                    [("scheme", scheme), ("validFrom", valid_from), ("validUntil", valid_until)]
                {
                    if let Some(value) = value {
                        body[member] = json!(value);
                    }
                }
                let answer = client.post("/v1/keys", &body).await?;
                output
                    .show(&answer, |a| format!("{} {} as {name}", paint(GOOD, "trusted"), string(&a["id"])));
            }
            Self::AllowedSigners { file } => {
                let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                let signers = allowed_signers::read(&text).with_context(|| file.display().to_string())?;
                for signer in signers {
                    let mut body = json!({"name": signer.principals, "pem": signer.key.to_pem()});
                    for (member, time) in
                        [("validFrom", signer.valid_from), ("validUntil", signer.valid_until)]
                    {
                        if let Some(time) = time {
                            body[member] = json!(time);
                        }
                    }
                    let answer = client.post("/v1/keys", &body).await?;
                    let name = signer.principals;
                    output.show(&answer, |a| {
                        format!("{} {} as {name}", paint(GOOD, "trusted"), string(&a["id"]))
                    });
                }
            }
            Self::Layout { file } => {
                let bytes = std::fs::read(&file).with_context(|| file.display().to_string())?;
                let signed = attestation::payload(&bytes)?;
                let keys = layout::functionaries(&signed).with_context(|| file.display().to_string())?;
                anyhow::ensure!(!keys.is_empty(), "{}: it names no key that Catenary reads", file.display());
                for (position, key) in keys.into_iter().enumerate() {
                    let name = format!("functionary {} of {}", position + 1, file.display());
                    let body = json!({"name": name, "pem": key.to_pem(), "scheme": key.scheme().to_string()});
                    let answer = client.post("/v1/keys", &body).await?;
                    output.show(&answer, |a| {
                        format!("{} {} as {name}", paint(GOOD, "trusted"), string(&a["id"]))
                    });
                }
            }
            Self::List => {
                let answer = client.get("/v1/keys").await?;
                output.show(&answer, |a| items(&a["items"]).iter().map(line).collect());
            }
            Self::Revoke { id, reason } => {
                let answer =
                    client.post(&format!("/v1/keys/{id}/revoke"), &json!({"reason": reason})).await?;
                output.show(&answer, |_| {
                    format!("{} {id}: no answer begun from now on counts it", paint(BAD, "revoked"))
                });
            }
            Self::Rotate { purpose, data } => rotate(purpose, data, output)?,
        }
        Ok(Exit::Allowed)
    }
}

fn line(key: &Value) -> String {
    let state = match key["revoked"].as_str() {
        Some(reason) => paint(BAD, format!("revoked: {reason}")),
        None => paint(GOOD, "trusted"),
    };
    format!("{}  {:<18} {:<20} {state}\n", string(&key["id"]), string(&key["scheme"]), string(&key["name"]))
}

fn generate(name: &std::path::Path, algorithm: Algorithm, output: &Output) -> Result<()> {
    let key = crate::sign::PrivateKey::generate(algorithm)?;
    let private = name.with_extension("key");
    let public = name.with_extension("pub");
    crate::sign::write_private(&private, &key.to_pem())?;
    std::fs::write(&public, key.public()?.to_pem()).with_context(|| public.display().to_string())?;
    let id = key.public()?.id();
    output.show(&json!({"id": id, "private": private, "public": public}), |_| {
        format!("{} {} (keep it), {}\nid {id}", paint(GOOD, "wrote"), private.display(), public.display())
    });
    Ok(())
}

fn rotate(purpose: Purpose, data: Option<PathBuf>, output: &Output) -> Result<()> {
    let data = data.unwrap_or_else(catenary_server::config::default_data);
    let folder = std::env::var_os("CATENARY_KEYS").map_or_else(|| data.join("keys"), PathBuf::from);
    let mut keys = catenary_store::keys::ServiceKeys::open_or_create(&folder)?;
    let purpose = match purpose {
        Purpose::Log => catenary_store::keys::Purpose::Log,
        Purpose::Mac => catenary_store::keys::Purpose::Mac,
        Purpose::Vsa => catenary_store::keys::Purpose::Vsa,
        Purpose::Collector => catenary_store::keys::Purpose::Collector,
    };
    let made = keys.rotate(purpose)?;
    let shown = json!({"purpose": purpose.as_str(), "generation": made.generation, "id": made.key_id});
    output.show(&shown, |_| {
        format!(
            "{} {} key, generation {}; restart the service to use it",
            paint(GOOD, "new"),
            purpose.as_str(),
            made.generation
        )
    });
    Ok(())
}
