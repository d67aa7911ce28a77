//! `catenary attest registry`: an image as a registry has it.

use anyhow::{Context, Result, bail};
use catenary_evidence::{Digest, reference::ImageReference};
use clap::Args;
use serde_json::{Value, json};

use super::{Signing, digest_set, statement};
use crate::output::Output;

/// Manifest media types that a registry may answer with.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// An image as a registry has it.
#[derive(Args)]
pub struct Registry {
    /// `registry/repository@sha256:…`; it is fetched by digest and hashed.
    #[arg(long)]
    image: String,
    /// The tag that it was pushed under.
    #[arg(long)]
    tag: Option<String>,
    /// What the tag named before, when it was moved.
    #[arg(long, value_name = "DIGEST", requires = "tag")]
    previous_digest: Option<Digest>,
    /// The repository that it was promoted from, where it has the same digest.
    #[arg(long, value_name = "REGISTRY/REPOSITORY")]
    promoted_from: Option<String>,
    /// Talk HTTP to the registry (a local one).
    #[arg(long)]
    plain_http: bool,
    /// When it was pushed (RFC 3339). Default: now.
    #[arg(long)]
    occurred_at: Option<String>,
    /// Who pushed.
    #[arg(long)]
    actor: Option<String>,
    #[command(flatten)]
    signing: Signing,
}

impl Registry {
    /// Fetches, hashes, writes the statement.
    pub async fn run(self, output: &Output) -> Result<()> {
        let image: ImageReference = self.image.parse()?;
        let (host, repository) = image.resource.split_once('/').context("the image names no registry")?;
        let scheme = if self.plain_http { "http" } else { "https" };
        let url = format!("{scheme}://{host}/v2/{repository}/manifests/{}", image.digest);
        let response = reqwest::Client::new()
            .get(&url)
            .header("accept", MANIFESTS)
            .send()
            .await
            .with_context(|| format!("cannot read {url}"))?;
        if !response.status().is_success() {
            bail!("{url} answered {}", response.status());
        }
        let media_type = response
            .headers()
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let bytes = response.bytes().await?;
        let found: Digest = image.digest.recompute(&bytes);
        if found != image.digest {
            bail!("{host} answered with bytes of {found}, not {}", image.digest);
        }
        let now = jiff::Timestamp::now().to_string();
        let event = Event {
            image,
            media_type,
            occurred: self.occurred_at.clone().unwrap_or_else(|| now.clone()),
            observed: now,
            tag: self.tag.clone(),
            previous: self.previous_digest,
            actor: self.actor.clone(),
            promoted_from: self.promoted_from.clone(),
        };
        self.signing.finish(&event.statement()?, output)
    }
}

/// What a registry says about a manifest that was fetched and hashed.
pub struct Event {
    /// Where it is.
    pub image: ImageReference,
    /// Its media type.
    pub media_type: String,
    /// When it was pushed (RFC 3339).
    pub occurred: String,
    /// When it was looked at.
    pub observed: String,
    /// The tag.
    pub tag: Option<String>,
    /// What the tag named before.
    pub previous: Option<Digest>,
    /// Who pushed.
    pub actor: Option<String>,
    /// Where it was promoted from, under the same digest.
    pub promoted_from: Option<String>,
}

impl Event {
    /// The in-toto statement.
    pub fn statement(&self) -> Result<Value> {
        let (host, repository) =
            self.image.resource.split_once('/').context("the image names no registry")?;
        let digest = self.image.digest.to_string();
        let mut predicate = json!({
            "event": if self.promoted_from.is_some() { "promote" } else { "push" },
            "registry": host,
            "repository": repository,
            "mediaType": self.media_type,
            "occurredAt": self.occurred,
            "observedAt": self.observed,
            "source": {"kind": "catenary-cli", "eventId": digest},
            "verified": {"manifestFetched": true, "digestMatches": true},
        });
        if let Some(tag) = &self.tag {
            predicate["tag"] = json!(tag);
        }
        if let Some(previous) = &self.previous {
            predicate["previousDigest"] = json!(previous.to_string());
        }
        if let Some(actor) = &self.actor {
            predicate["actor"] = json!({"name": actor});
        }
        if let Some(from) = &self.promoted_from {
            predicate["promotion"] = json!({"from": from, "fromDigest": digest});
        }
        let subject = json!({"name": self.image.resource, "digest": digest_set(&self.image.digest)});
        Ok(statement(vec![subject], "urn:catenary:predicate:registry-event:v1", predicate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_tag_is_said_with_what_it_named_before() {
        let (old, new) = (Digest::sha256(b"old"), Digest::sha256(b"new"));
        let event = Event {
            image: format!("registry.acme.test/acme/app@{new}").parse().unwrap(),
            media_type: "application/vnd.oci.image.index.v1+json".into(),
            occurred: "2026-11-20T12:00:00Z".into(),
            observed: "2026-11-20T12:00:01Z".into(),
            tag: Some("1.0.0".into()),
            previous: Some(old),
            actor: None,
            promoted_from: None,
        };
        let statement = event.statement().unwrap();
        assert_eq!(statement["predicate"]["tag"], "1.0.0");
        assert_eq!(statement["predicate"]["previousDigest"], old.to_string());
    }
}
