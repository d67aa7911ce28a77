//! `catenary check` and `catenary verify-bundle`: verifying files without a server.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use catenary_evidence::{
    form::{self, Opened},
    signer::Logged,
    trust_root::TrustRootError,
};
use clap::Args;

use crate::{
    check::{Against, Checked, Outcome, node},
    exit::Exit,
    output::{BAD, GOOD, Output, paint},
};

/// Verify evidence files offline: envelopes, bundles, attachments, git objects.
#[derive(Args)]
pub struct Check {
    /// The files; an OCI image layout is a folder or its `index.json`, `-` is the standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A `trusted_root.json`, instead of the built-in public instances; may be given several times.
    #[arg(long, value_name = "FILE")]
    trust_root: Vec<PathBuf>,
    /// Public keys: PEM, DER, OpenSSH, OpenPGP; may be given several times.
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// The certificate's subject alternative name, exactly.
    #[arg(long)]
    identity: Option<String>,
    /// The certificate's OIDC issuer, exactly.
    #[arg(long)]
    issuer: Option<String>,
    /// The file that it must be about.
    #[arg(long, conflicts_with = "digest")]
    artifact: Option<PathBuf>,
    /// The digest that it must be about: `sha256:…`, `sha512:…`, `gitCommit:…`.
    #[arg(long)]
    digest: Option<String>,
}

impl Check {
    /// 0 when every file is verified, 1 when one is not, 3 when one cannot be read.
    pub fn run(self, output: &Output) -> Result<Exit> {
        let mut against = Against::new();
        if self.trust_root.is_empty() {
            against.builtin_roots();
        }
        for file in &self.trust_root {
            let document = std::fs::read(file).with_context(|| file.display().to_string())?;
            let read = against.root(&file.display().to_string(), &document);
            read.with_context(|| file.display().to_string())?;
        }
        for file in &self.key {
            let key = std::fs::read(file).with_context(|| file.display().to_string())?;
            against.keys(&key).with_context(|| file.display().to_string())?;
        }
        against.identity(self.identity.as_deref(), self.issuer.as_deref());
        if let Some(file) = &self.artifact {
            against.artifact(file)?;
        }
        if let Some(digest) = &self.digest {
            against.digest(node(digest)?);
        }
        let mut exit = Exit::Allowed;
        for file in &self.files {
            let checked = match against.check(file) {
                Ok(checked) => checked,
                // The others are checked all the same.
                Err(error) => {
                    exit = Exit::Usage;
                    Checked::unreadable(file, &error)
                }
            };
            if checked.result != Outcome::Verified && exit == Exit::Allowed {
                exit = Exit::Denied;
            }
            output.line(&serde_json::to_value(&checked)?, |_| line(&checked));
        }
        Ok(exit)
    }
}

fn line(checked: &Checked) -> String {
    let colour = if checked.result == Outcome::Verified { GOOD } else { BAD };
    let result = paint(colour, format!("{:?}", checked.result).to_lowercase());
    let mut text = format!("{result}  {}  {}", checked.file, checked.form);
    for signer in &checked.signers {
        let name = signer["san"].as_str().or(signer["key"].as_str()).unwrap_or_default();
        text += &format!("\n  by {name}");
    }
    if let (Some(code), Some(message)) = (&checked.code, &checked.message) {
        text += &format!("\n  {code}: {message}");
    }
    text
}

/// Verify one Sigstore bundle, with the arguments of the official conformance suite's client.
#[derive(Args)]
pub struct VerifyBundle {
    /// Use the staging instance; needs `--trusted-root`.
    #[arg(long)]
    staging: bool,
    /// The bundle.
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// The certificate's subject alternative name.
    #[arg(long, requires = "certificate_oidc_issuer", conflicts_with = "key")]
    certificate_identity: Option<String>,
    /// The certificate's OIDC issuer.
    #[arg(long, requires = "certificate_identity", conflicts_with = "key")]
    certificate_oidc_issuer: Option<String>,
    /// The public key that signed.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The trust root, instead of the public good instance.
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    /// The artifact, or its digest as `sha256:…`.
    #[arg(value_name = "FILE_OR_DIGEST")]
    artifact: String,
}

impl VerifyBundle {
    /// 0 when it verifies, 1 when it does not.
    pub fn run(self, output: &Output) -> Result<Exit> {
        let mut against = Against::new();
        match &self.trusted_root {
            Some(file) => {
                let document = std::fs::read(file).with_context(|| file.display().to_string())?;
                match against.strict_root("given", &document) {
                    // A key needs nobody else's word; a certificate does.
                    Err(TrustRootError::Empty) if self.key.is_some() => {}
                    read => read?,
                }
            }
            None if self.staging => bail!("--staging needs --trusted-root: only public roots are built in"),
            None => against.public_good(),
        }
        match (&self.key, &self.certificate_identity) {
            (Some(file), None) => against.keys(&std::fs::read(file)?)?,
            (None, Some(_)) => {
                let (identity, issuer) = (&self.certificate_identity, &self.certificate_oidc_issuer);
                against.identity(identity.as_deref(), issuer.as_deref());
            }
            _ => bail!("give --certificate-identity with --certificate-oidc-issuer, or --key"),
        }
        let path = Path::new(&self.artifact);
        match self.artifact.starts_with("sha256:") && !path.exists() {
            true => against.digest(node(&self.artifact)?),
            false => against.artifact(path)?,
        }
        let bytes = std::fs::read(&self.bundle).with_context(|| self.bundle.display().to_string())?;
        let mut checked = against.bytes(&bytes);
        checked.file = self.bundle.display().to_string();
        // The suite's clients take one bundle and nothing else.
        let bundle = bundle(&bytes);
        // A registered key stands for itself elsewhere; these clients want the log's word for it, too, unless the root names
        // no log that could give it and the bundle claims none.
        let mut claims = bundle.iter().flat_map(|b| &b.signatures).filter_map(|s| s.material.as_ref());
        let asks = against.names_logs() || claims.any(|material| !material.entries.is_empty());
        let mut signatures = checked.facts.iter().flat_map(|facts| &facts.signatures);
        let logged = !asks || signatures.all(|s| s.logged != Logged::No);
        let good = checked.result == Outcome::Verified && bundle.is_some() && logged;
        output.line(&serde_json::to_value(&checked)?, |_| line(&checked));
        Ok(if good { Exit::Allowed } else { Exit::Denied })
    }
}

/// The one bundle of a file.
fn bundle(bytes: &[u8]) -> Option<Opened> {
    let opened = std::str::from_utf8(bytes).ok().and_then(|text| form::open(text).ok());
    opened.filter(|opened| opened.form.starts_with("sigstore-bundle"))
}
