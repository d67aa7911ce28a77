//! `catenary import oci`: an image of a registry, and what is attached to it.
//!
//! Evidence is looked for where tools leave it: the referrers API, the fallback tag `sha256-<hex>` of registries
//! without it, cosign's tags `.sig`, `.att` and `.sbom`, and BuildKit's attestation manifests inside an index. That a
//! registry lists something as belonging to an image proves nothing (G14): what is signed says what it is about.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use catenary_evidence::{
    Digest, Trust,
    object::{self, Body, Descriptor, Index},
};
use clap::Args;
use serde_json::{Value, json};

use super::{
    Manner,
    intake::{Intake, Kind},
};
use crate::{
    check::layout,
    oci::{self, Credential, Document, Reference, Repository},
    remote::RemoteError,
};

/// Manifests of one index that are fetched.
const MAX_CHILDREN: usize = 256;
/// How deep indexes nest.
const MAX_DEPTH: usize = 3;
/// Manifests attached to one digest.
const MAX_ATTACHED: usize = 1000;
/// The type of a statement, which nothing signs as a rule.
const STATEMENT: &str = "application/vnd.in-toto+json";

/// An image of a registry.
#[derive(Args)]
pub struct Oci {
    /// `registry/repository[:tag|@digest]`
    reference: Reference,
    /// The registries that may be asked; without it, whichever the reference names.
    #[arg(long, value_name = "HOST", env = "CATENARY_IMPORT_REGISTRIES", value_delimiter = ',')]
    allow_registry: Vec<String>,
    /// The user; without it, what `docker login` left for the registry.
    #[arg(long, env = "CATENARY_REGISTRY_USERNAME", requires = "registry_password")]
    registry_username: Option<String>,
    /// The password, or an access token.
    #[arg(long, env = "CATENARY_REGISTRY_PASSWORD", hide_env_values = true, requires = "registry_username")]
    registry_password: Option<String>,
    /// Ask in the clear. A registry on this machine always is.
    #[arg(long)]
    plain_http: bool,
    #[command(flatten)]
    manner: Manner,
}

impl Oci {
    pub(super) async fn run(self, intake: &mut Intake<'_>) -> Result<Manner> {
        let registry = &self.reference.registry;
        if !self.allow_registry.is_empty() && !self.allow_registry.contains(registry) {
            bail!("{registry} is none of the registries that may be asked (--allow-registry)");
        }
        let given = self.registry_username.clone().zip(self.registry_password.clone());
        let credential = given
            .map(|(username, password)| Credential { username, password })
            .or_else(|| oci::stored_credential(registry));
        let repository = Repository::new(&self.reference, self.plain_http, credential)?;
        let mut import =
            Import { repository, name: resource(&self.reference), seen: BTreeSet::new(), intake };
        import.image(&self.reference.image).await?;
        Ok(self.manner)
    }
}

fn resource(reference: &Reference) -> String {
    format!("{}/{}", reference.registry, reference.repository)
}

struct Import<'a, 'b> {
    repository: Repository,
    name: String,
    /// Manifests that were read.
    seen: BTreeSet<String>,
    intake: &'a mut Intake<'b>,
}

impl Import<'_, '_> {
    async fn image(&mut self, image: &str) -> Result<()> {
        let Some(document) = self.repository.manifest(image).await? else {
            bail!("{} has no {image}", self.name);
        };
        let mut digests = vec![document.digest];
        self.keep(document, MAX_DEPTH, &mut digests).await?;
        for digest in digests {
            self.attached(&digest).await?;
        }
        Ok(())
    }

    /// Sends a manifest or index and what it names, the parts before the whole. `digests` are what evidence may be about.
    async fn keep(&mut self, document: Document, depth: usize, digests: &mut Vec<Digest>) -> Result<()> {
        let source = format!("{}@{}", self.name, document.digest);
        let claimed = Some(document.digest.into());
        let read = object::read(&document.media_type, &document.bytes, &Trust::none(), claimed);
        match read.map(|object| object.body) {
            Ok(Body::Index(index)) if depth > 0 => {
                if index.children.len() > MAX_CHILDREN {
                    self.intake
                        .skipped(&source, &format!("only its first {MAX_CHILDREN} manifests are read"));
                }
                for child in index.children.iter().take(MAX_CHILDREN) {
                    self.child(&index, child, depth, digests).await?;
                }
            }
            Ok(Body::Manifest(manifest)) if is_image_config(&manifest.config.media_type) => {
                let config = &manifest.config;
                let source = format!("{}@{}", self.name, config.digest);
                if let Some(bytes) = self.blob(&source, &config.digest).await? {
                    self.intake.object(&source, &config.media_type, bytes).await?;
                }
            }
            Ok(_) => {}
            Err(refusal) => {
                self.intake.refused(&source, refusal.code(), &refusal.to_string());
                return Ok(());
            }
        }
        self.intake.object(&source, &document.media_type, document.bytes).await
    }

    async fn child(
        &mut self,
        index: &Index,
        child: &Descriptor,
        depth: usize,
        digests: &mut Vec<Digest>,
    ) -> Result<()> {
        let source = format!("{}@{}", self.name, child.digest);
        let Some(document) = self.manifest(&source, &child.digest.to_string()).await? else {
            // A sparse index is fine: what is missing is missing in the verdict.
            self.intake.skipped(&source, "the registry does not have it");
            return Ok(());
        };
        if let Some(about) = &child.attests {
            self.layers(&document, Some(&platform(index, about))).await?;
        }
        digests.push(child.digest);
        Box::pin(self.keep(document, depth - 1, digests)).await
    }

    /// Everything that the registry has attached to a digest.
    async fn attached(&mut self, digest: &Digest) -> Result<()> {
        let tag = digest.to_string().replacen(':', "-", 1);
        let mut found: Vec<String> =
            self.repository.referrers(digest).await?.iter().map(Digest::to_string).collect();
        let source = format!("{}:{tag}", self.name);
        // Asked always: some registries answer the referrers API with an empty list.
        if let Some(index) = self.manifest(&source, &tag).await? {
            found.extend(oci::manifests(&index.bytes).iter().map(Digest::to_string));
        }
        found.extend(["sig", "att", "sbom"].map(|suffix| format!("{tag}.{suffix}")));
        if found.len() > MAX_ATTACHED {
            self.intake
                .skipped(&source, &format!("only the first {MAX_ATTACHED} of {} are read", found.len()));
        }
        for image in found.iter().take(MAX_ATTACHED) {
            if !self.seen.insert(image.clone()) {
                continue;
            }
            let source = format!("{}@{image}", self.name);
            if let Some(document) = self.manifest(&source, image).await? {
                self.layers(&document, None).await?;
            }
        }
        Ok(())
    }

    /// Sends the evidence among a manifest's layers. `about`: what BuildKit's statements in it are linked to.
    async fn layers(&mut self, document: &Document, about: Option<&Value>) -> Result<()> {
        let manifest: Value = serde_json::from_slice(&document.bytes).unwrap_or_default();
        for layer in layout::list(&manifest["layers"]).iter().take(MAX_ATTACHED) {
            let media_type = layer["mediaType"].as_str().unwrap_or_default();
            let named = layer["digest"].as_str().and_then(|digest| digest.parse::<Digest>().ok());
            let source = format!("{}@{}", self.name, named.unwrap_or(document.digest));
            let (true, Some(digest)) = (is_evidence(media_type), named) else {
                self.intake.skipped(&source, &format!("`{media_type}` is no evidence that is read"));
                continue;
            };
            let Some(bytes) = self.blob(&source, &digest).await? else { continue };
            // Some tools keep envelopes under the statement's media type.
            if media_type == STATEMENT && !matches!(Kind::of(&bytes), Kind::Evidence) {
                self.intake.unsigned(&source, statement(&bytes, about));
            } else if layout::is_attachment(layer) {
                self.intake.evidence(&source, layout::wrap(layer, &bytes)).await?;
            } else {
                self.intake.evidence(&source, bytes).await?;
            }
        }
        Ok(())
    }

    /// A manifest; one that is not as it should be is named, and the import goes on.
    async fn manifest(&mut self, source: &str, image: &str) -> Result<Option<Document>> {
        let read = self.repository.manifest(image).await;
        self.named(source, read)
    }

    async fn blob(&mut self, source: &str, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let read = self.repository.blob(digest).await;
        self.named(source, read)
    }

    fn named<T>(&mut self, source: &str, read: Result<Option<T>, RemoteError>) -> Result<Option<T>> {
        match read {
            Err(error @ RemoteError::Digest { .. }) => {
                self.intake.refused(source, "DIGEST_MISMATCH", &error.to_string());
                Ok(None)
            }
            Err(error @ RemoteError::TooLarge { .. }) => {
                self.intake.refused(source, "ATT_TOO_LARGE", &error.to_string());
                Ok(None)
            }
            other => Ok(other?),
        }
    }
}

fn is_image_config(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
    )
}

/// Layers that are fetched: envelopes, bundles, cosign's payloads, and bare statements.
fn is_evidence(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.dev.sigstore.bundle")
        || media_type.ends_with("+dsse")
        || matches!(
            media_type,
            STATEMENT
                | "application/vnd.dsse.envelope.v1+json"
                | "application/vnd.dev.cosign.simplesigning.v1+json"
        )
}

/// What an attestation manifest's entry says that it is about, and the platform that the index gives that child.
fn platform(index: &Index, about: &Digest) -> Value {
    let child = index.children.iter().find(|child| child.digest == *about && child.is_runnable());
    let platform = child.and_then(|child| child.platform.as_ref());
    let platform = platform.map(|it| [Some(&it.os), Some(&it.architecture), it.variant.as_ref()]);
    let platform = platform.map(|parts| parts.into_iter().flatten().cloned().collect::<Vec<_>>().join("/"));
    json!({"about": about, "platform": platform})
}

/// What a bare statement says, for people. BuildKit takes `builder.id` from whoever calls it.
fn statement(bytes: &[u8], about: Option<&Value>) -> Value {
    let statement: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let predicate = &statement["predicate"];
    let builder = [&predicate["runDetails"]["builder"]["id"], &predicate["builder"]["id"]];
    let mut shown = about.cloned().unwrap_or_else(|| json!({}));
    shown["predicateType"] = statement["predicateType"].clone();
    shown["builder"] = builder.into_iter().find(|id| id.is_string()).cloned().unwrap_or_default();
    shown
}
