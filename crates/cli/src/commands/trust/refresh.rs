//! Fetching the newest trusted root of a trust domain with The Update Framework. The service itself never fetches.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use sigstore_tuf::{
    Error, FileStore, Updater,
    transport::{FetchFuture, Repository},
};

/// Where a trust domain is published.
#[derive(Debug, Args)]
pub struct Source {
    /// The repository with the metadata; known for `sigstore` and `github`.
    #[arg(long)]
    url: Option<String>,
    /// The root metadata to begin with, from a place that you trust; known for `sigstore` and `github`.
    #[arg(long, value_name = "ROOT.json")]
    root: Option<PathBuf>,
    /// The target to fetch.
    #[arg(long, default_value = "trusted_root.json")]
    target: String,
    /// Where metadata is kept, so that an older repository is noticed.
    #[arg(long)]
    cache: Option<PathBuf>,
}

const PUBLIC: [(&str, &str, &[u8]); 2] = [
    ("sigstore", "https://tuf-repo-cdn.sigstore.dev", include_bytes!("../../../roots/sigstore.json")),
    ("github", "https://tuf-repo.github.com", include_bytes!("../../../roots/github.json")),
];

impl Source {
    /// The target's bytes: signed by enough keys, fresh at `now`, not older than what was seen before.
    pub async fn fetch(&self, domain: &str, now: jiff::Timestamp) -> Result<Vec<u8>> {
        let public = PUBLIC.iter().find(|(name, _, _)| *name == domain);
        let url = self.url.as_deref().or(public.map(|(_, url, _)| *url));
        let url =
            url.with_context(|| format!("it is not known where `{domain}` is published: give --url"))?;
        let pinned = match (&self.root, public) {
            (Some(file), _) => fs::read(file).with_context(|| file.display().to_string())?,
            // Another repository under a public name has another root.
            (None, Some((_, _, root))) if self.url.is_none() => root.to_vec(),
            (None, _) => anyhow::bail!("the repository has no known root metadata: give --root"),
        };
        let cache = match &self.cache {
            Some(cache) => cache.clone(),
            None => default_cache(domain, url),
        };
        fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
        let mut updater = Updater::new(Http::new(url)?, &pinned)
            .context("root metadata")?
            .with_store(FileStore::new(&cache));
        updater.refresh(now).await.with_context(|| format!("{url} is refused"))?;
        let target = updater.get_target(&self.target, now).await;
        target.with_context(|| format!("{} of {url} is refused", self.target))
    }
}

fn default_cache(domain: &str, url: &str) -> PathBuf {
    let name: String = url.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    catenary_server::config::default_data()
        .join("tuf")
        .join(Path::new(domain).file_name().unwrap_or_default())
        .join(name)
}

/// A repository over HTTP: metadata beside `targets/`.
struct Http {
    base: String,
    client: reqwest::Client,
}

impl Http {
    fn new(base: &str) -> Result<Self> {
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(15))
            .timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), client })
    }

    /// `None` when there is no such file.
    async fn get(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let url = format!("{}/{path}", self.base);
        let failed = |e: reqwest::Error| Error::transport_with_source(url.clone(), e);
        let mut response = self.client.get(&url).send().await.map_err(failed)?;
        // Object stores say 403 for what is not there.
        match response.status().as_u16() {
            200 => {}
            403 | 404 => return Ok(None),
            status => return Err(Error::transport(format!("{url} answers {status}"))),
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() as u64 + chunk.len() as u64 > most {
                return Err(Error::transport(format!("{url} has more than {most} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes))
    }
}

impl Repository for Http {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(self.get(name, max_length))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { self.get(&format!("targets/{path}"), max_length).await })
    }
}
