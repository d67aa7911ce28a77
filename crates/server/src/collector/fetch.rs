//! Reading from one configured registry (OCI distribution API).

use std::time::Duration;

use bytes::Bytes;
use catenary_evidence::{digest::Digest, limits::MAX_OBJECT};
use reqwest::{StatusCode, header};
use serde::Deserialize;

use crate::{
    config::{self, ConfigError},
    problem::Fault,
};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Of an answer that lists names.
const MAX_LIST: usize = 4 * 1024 * 1024;
/// Of repositories, and of tags of one of them.
const MAX_NAMES: usize = 10_000;
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A registry and its client.
pub(crate) struct Registry {
    pub(crate) config: config::Registry,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Catalog {
    #[serde(default)]
    repositories: Vec<String>,
}

#[derive(Deserialize)]
struct Tags {
    // The distribution registry says null for a repository whose tags are gone.
    tags: Option<Vec<String>>,
}

impl Registry {
    pub(crate) fn new(config: &config::Registry) -> Result<Self, ConfigError> {
        // A blob may lie behind a redirect within the registry; never on another host.
        let same_host = reqwest::redirect::Policy::custom(|attempt| {
            let from = attempt
                .previous()
                .last()
                .map(|url| (url.host_str().map(str::to_owned), url.port_or_known_default()));
            let to = (attempt.url().host_str().map(str::to_owned), attempt.url().port_or_known_default());
            if attempt.previous().len() <= 3 && from.as_ref() == Some(&to) {
                attempt.follow()
            } else {
                attempt.stop()
            }
        });
        let client = reqwest::Client::builder().redirect(same_host).timeout(TIMEOUT).no_proxy().build();
        let client =
            client.map_err(|e| ConfigError::Value { name: "registry".into(), why: e.to_string() })?;
        Ok(Self { config: config.clone(), client })
    }

    /// A manifest by digest or tag, with its media type.
    pub(crate) async fn manifest(&self, repository: &str, reference: &str) -> Result<(String, Bytes), Fault> {
        self.get(&format!("/v2/{repository}/manifests/{reference}"), MAX_OBJECT).await.map(|(t, b, _)| (t, b))
    }

    /// A blob by digest.
    pub(crate) async fn blob(&self, repository: &str, digest: &Digest) -> Result<Bytes, Fault> {
        self.get(&format!("/v2/{repository}/blobs/{digest}"), MAX_OBJECT).await.map(|(_, bytes, _)| bytes)
    }

    /// Every repository.
    pub(crate) async fn repositories(&self) -> Result<Vec<String>, Fault> {
        self.pages("/v2/_catalog?n=1000", |bytes| {
            serde_json::from_slice::<Catalog>(bytes).map(|c| c.repositories)
        })
        .await
    }

    /// Every tag of a repository.
    pub(crate) async fn tags(&self, repository: &str) -> Result<Vec<String>, Fault> {
        let path = format!("/v2/{repository}/tags/list?n=1000");
        let tags = self
            .pages(&path, |bytes| serde_json::from_slice::<Tags>(bytes).map(|t| t.tags.unwrap_or_default()))
            .await;
        match tags {
            // Deleted since it was listed.
            Err(Fault::NotFound { .. }) => Ok(Vec::new()),
            other => other,
        }
    }

    async fn pages(
        &self,
        first: &str,
        read: impl Fn(&[u8]) -> Result<Vec<String>, serde_json::Error>,
    ) -> Result<Vec<String>, Fault> {
        let mut names = Vec::new();
        let mut next = Some(first.to_owned());
        while let Some(path) = next {
            let (_, bytes, link) = self.get(&path, MAX_LIST).await?;
            let page = read(&bytes).map_err(|e| self.failed(e.to_string()))?;
            let came = page.len();
            names.extend(page);
            // A page without names would go on for ever.
            next = link.filter(|_| came > 0 && names.len() < MAX_NAMES);
        }
        Ok(names)
    }

    /// Media type, body, and the path of the next page.
    async fn get(&self, path: &str, limit: usize) -> Result<(String, Bytes, Option<String>), Fault> {
        let url = format!("{}{path}", self.config.url.trim_end_matches('/'));
        let mut request = self.client.get(url).header(header::ACCEPT, ACCEPT);
        if let Some(user) = &self.config.username {
            request = request.basic_auth(user, self.config.password.as_ref().map(config::Secret::expose));
        }
        let mut response = request.send().await.map_err(|e| self.failed(e.without_url().to_string()))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(Fault::NotFound { what: "such thing in the registry" }),
            other => return Err(self.failed(format!("status {other}"))),
        }
        let text = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let media_type = text(header::CONTENT_TYPE).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let link = text(header::LINK).and_then(|link| next_path(&link));
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|e| self.failed(e.without_url().to_string()))?
        {
            if body.len() + chunk.len() > limit {
                return Err(self.failed(format!("more than {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((media_type, body.into(), link))
    }

    fn failed(&self, why: String) -> Fault {
        Fault::Registry { registry: self.config.name.clone(), why }
    }
}

/// The path of `<path>; rel="next"`; an address of another host is not followed.
fn next_path(link: &str) -> Option<String> {
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.contains("rel=\"next\"") || parameters.contains("rel=next");
    (is_next && target.starts_with("/v2/")).then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h38_a_next_page_is_on_the_same_registry() {
        assert_eq!(
            next_path("</v2/_catalog?last=a&n=1>; rel=\"next\""),
            Some("/v2/_catalog?last=a&n=1".into())
        );
        assert_eq!(next_path("<http://169.254.169.254/latest>; rel=\"next\""), None);
        assert_eq!(next_path("<//evil.test/v2/>; rel=\"next\""), None);
    }
}
