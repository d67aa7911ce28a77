//! Attestations that GitHub keeps for a repository.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use super::Sink;

/// The most pages that are read.
const MAX_PAGES: usize = 100;
/// The most bytes of one page.
const MAX_PAGE: usize = 64 * 1024 * 1024;

/// GitHub's attestations.
#[derive(Args)]
pub struct Github {
    /// What the API answered, or `gh attestation download` wrote.
    #[arg(conflicts_with = "repository", required_unless_present = "repository")]
    file: Option<PathBuf>,
    /// `owner/name`: asks the API. A private repository's needs a token in GITHUB_TOKEN.
    #[arg(long, value_name = "OWNER/NAME", requires = "digest")]
    repository: Option<String>,
    /// The artifact, `sha256:…`
    #[arg(long)]
    digest: Option<String>,
    /// The API.
    #[arg(long, default_value = "https://api.github.com")]
    api: String,
    #[arg(long, env = "GITHUB_TOKEN", hide_env_values = true, hide = true)]
    github_token: Option<String>,
}

impl Github {
    /// Sends every bundle.
    pub async fn run(self, sink: &mut Sink<'_>) -> Result<()> {
        if let Some(file) = &self.file {
            let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
            return page(sink, &file.display().to_string(), bytes).await;
        }
        let (Some(repository), Some(digest)) = (&self.repository, &self.digest) else {
            bail!("give a file, or --repository with --digest");
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':');
        let is_name = repository.split('/').count() == 2;
        ensure!(
            is_name && repository.chars().chain(digest.chars()).all(plain),
            "not OWNER/NAME and sha256:…"
        );
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("catenary/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let api = self.api.trim_end_matches('/');
        let mut next = Some(format!("{api}/repos/{repository}/attestations/{digest}?per_page=100"));
        for _ in 0..MAX_PAGES {
            let Some(url) = next.take() else { return Ok(()) };
            let mut request = http.get(&url).header("accept", "application/vnd.github+json");
            if let Some(token) = &self.github_token {
                request = request.bearer_auth(token);
            }
            let mut response = request.send().await.with_context(|| url.clone())?;
            ensure!(response.status().is_success(), "{url} answers {}", response.status());
            // A page never leads to another server.
            let links = response.headers().get("link").and_then(|link| link.to_str().ok());
            next = links.and_then(next_page).filter(|url| url.starts_with(&format!("{api}/")));
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                ensure!(bytes.len() + chunk.len() <= MAX_PAGE, "{url} has more than {MAX_PAGE} bytes");
                bytes.extend_from_slice(&chunk);
            }
            page(sink, &url, bytes).await?;
        }
        bail!("more than {MAX_PAGES} pages");
    }
}

/// `<url>; rel="next"`.
fn next_page(links: &str) -> Option<String> {
    let is_next = |link: &&str| link.split(';').skip(1).any(|part| part.trim() == "rel=\"next\"");
    let link = links.split(',').find(is_next)?;
    Some(link.split(';').next()?.trim().trim_start_matches('<').trim_end_matches('>').to_owned())
}

/// Sends the bundles of one answer; each by itself, as an answer may be larger than a request.
async fn page(sink: &mut Sink<'_>, source: &str, bytes: Vec<u8>) -> Result<()> {
    let Ok(answer) = serde_json::from_slice::<Value>(&bytes) else {
        // JSON Lines, as `gh attestation download` writes them.
        return sink.evidence(source, bytes).await;
    };
    let Some(attestations) = answer["attestations"].as_array() else {
        return sink.evidence(source, bytes).await;
    };
    for (position, attestation) in attestations.iter().enumerate() {
        let source = format!("{source}#{position}");
        match &attestation["bundle"] {
            Value::Null => sink.skip(
                &source,
                "its bundle is elsewhere (bundle_url): download it with `gh attestation download`",
            ),
            bundle => sink.evidence(&source, bundle.to_string().into_bytes()).await?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::next_page;

    #[test]
    fn the_next_page_is_the_one_that_says_so() {
        let links = r#"<https://a.test/x?before=1>; rel="prev", <https://a.test/x?after=2>; rel="next""#;
        assert_eq!(next_page(links).as_deref(), Some("https://a.test/x?after=2"));
        assert_eq!(next_page(r#"<https://a.test/x>; rel="last""#), None);
    }
}
