//! `catenary import github`: what GitHub's attestations API answers.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use catenary_evidence::Digest;
use clap::Args;
use reqwest::{Url, header};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Manner, intake::Intake};
use crate::remote::{self, RemoteError};

/// Bytes of one page: 100 bundles.
const MAX_PAGE: usize = 64 * 1024 * 1024;
/// Pages of one answer.
const MAX_PAGES: usize = 100;

/// What the API answers, from a file or from the API.
#[derive(Args)]
pub struct Github {
    /// The answer in a file, or what `gh attestation download` wrote.
    #[arg(required_unless_present = "digest", conflicts_with = "digest")]
    file: Option<PathBuf>,
    /// The repository's owner.
    #[arg(long, requires = "digest")]
    owner: Option<String>,
    /// The repository; without it, all of the owner's.
    #[arg(long, requires = "owner")]
    repo: Option<String>,
    /// Which artifact: `sha256:…`
    #[arg(long, requires = "owner")]
    digest: Option<Digest>,
    /// The API's address. A token is taken from GH_TOKEN or GITHUB_TOKEN.
    #[arg(long, env = "GITHUB_API_URL", default_value = "https://api.github.com")]
    api: String,
    #[command(flatten)]
    manner: Manner,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    attestations: Vec<Attestation<'a>>,
}

#[derive(Deserialize)]
struct Attestation<'a> {
    #[serde(borrow)]
    bundle: Option<&'a RawValue>,
    bundle_url: Option<String>,
}

impl Github {
    pub(super) async fn run(self, intake: &mut Intake<'_>) -> Result<Manner> {
        match (&self.file, &self.owner, &self.digest) {
            (Some(file), _, _) => {
                let name = file.display().to_string();
                let bytes = std::fs::read(file).with_context(|| name.clone())?;
                take(intake, &name, bytes).await?;
            }
            (None, Some(owner), Some(digest)) => {
                let path = path(owner, self.repo.as_deref(), digest)?;
                self.fetch(intake, &path).await?;
            }
            _ => bail!("give a file, or --owner and --digest"),
        }
        Ok(self.manner)
    }

    async fn fetch(&self, intake: &mut Intake<'_>, path: &str) -> Result<()> {
        let base = remote::address(&self.api, false)?;
        let client = remote::client(&base)?;
        let token = ["GH_TOKEN", "GITHUB_TOKEN"].into_iter().find_map(|name| std::env::var(name).ok());
        let first = format!("{}{path}?per_page=100", self.api.trim_end_matches('/'));
        let mut next = Some(Url::parse(&first)?);
        for page in 1..=MAX_PAGES {
            let Some(url) = next else { return Ok(()) };
            let mut request = client
                .get(url.clone())
                .header(header::ACCEPT, "application/vnd.github+json")
                .header(header::USER_AGENT, "catenary");
            if let Some(token) = &token {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.map_err(|e| remote::unreachable(&url, &e))?;
            let status = response.status().as_u16();
            if status != 200 {
                let host = url.host_str().unwrap_or_default().to_owned();
                bail!(RemoteError::Status { host, path: url.path().to_owned(), status });
            }
            next = remote::next(&response, &base);
            let bytes = remote::body(response, MAX_PAGE).await?;
            take(intake, &format!("{path} page {page}"), bytes).await?;
        }
        bail!("more than {MAX_PAGES} pages")
    }
}

/// Sends each bundle of an answer by itself, so that one which lies elsewhere does not spoil the others.
async fn take(intake: &mut Intake<'_>, source: &str, bytes: Vec<u8>) -> Result<()> {
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(&bytes) else {
        return intake.take(source, bytes).await;
    };
    for (position, attestation) in answer.attestations.iter().enumerate() {
        let source = format!("{source} [{position}]");
        match (attestation.bundle, &attestation.bundle_url) {
            (Some(bundle), _) => intake.evidence(&source, bundle.get().as_bytes().to_vec()).await?,
            (None, Some(_)) => {
                intake.skipped(&source, "its bundle lies behind `bundle_url` and is not fetched")
            }
            (None, None) => intake.refused(&source, "ATT_MALFORMED", "there is no bundle"),
        }
    }
    Ok(())
}

fn path(owner: &str, repo: Option<&str>, digest: &Digest) -> Result<String> {
    let plain = |name: &str| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !name.is_empty() && name.bytes().all(letter) && !name.starts_with('.')
    };
    match repo {
        _ if !plain(owner) => bail!("`{owner}` is no owner"),
        None => Ok(format!("/orgs/{owner}/attestations/{digest}")),
        Some(repo) if plain(repo) => Ok(format!("/repos/{owner}/{repo}/attestations/{digest}")),
        Some(repo) => bail!("`{repo}` is no repository"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_lead_to_other_paths() {
        let digest = Digest::sha256(b"");
        assert_eq!(
            path("acme", Some("app"), &digest).unwrap(),
            format!("/repos/acme/app/attestations/{digest}")
        );
        assert!(path("acme", Some("../../user"), &digest).is_err());
        assert!(path("acme?x=", None, &digest).is_err());
    }
}
