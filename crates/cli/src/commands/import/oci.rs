//! An image and the evidence that a registry keeps with it.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use reqwest::{Response, StatusCode, Url, header};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Sink;
use crate::{check::layout::wrap, client::query};

/// The most bytes of a manifest.
const MAX_MANIFEST: u64 = 4 * 1024 * 1024;
/// The most bytes of a layer that holds evidence.
pub(super) const MAX_BLOB: u64 = 8 * 1024 * 1024;
/// The most pieces of evidence of one image, platforms included.
const MAX_PIECES: usize = 2_000;
/// The most pages of referrers.
const MAX_PAGES: usize = 50;

const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Whether documents of this media type are objects.
pub(super) fn is_object(media_type: &str) -> bool {
    MANIFESTS.contains(&media_type)
}

/// An image in a registry.
#[derive(Args)]
pub struct Oci {
    /// `registry/repository:tag` or `registry/repository@sha256:…`
    reference: String,
    /// Where the registry is, when not at https under its own name.
    #[arg(long)]
    registry_url: Option<String>,
    /// Account.
    #[arg(long, env = "CATENARY_REGISTRY_USERNAME")]
    username: Option<String>,
    /// Its password or token.
    #[arg(long, env = "CATENARY_REGISTRY_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Allow http to another machine.
    #[arg(long)]
    plain_http: bool,
}

impl Oci {
    /// Sends the image's objects, and the evidence about it and each of its platforms.
    pub async fn run(self, sink: &mut Sink<'_>) -> Result<()> {
        let (host, rest) =
            self.reference.split_once('/').context("expected registry/repository:tag or @sha256:…")?;
        let (repository, wanted) = match (rest.split_once('@'), rest.rsplit_once(':')) {
            (Some((repository, digest)), _) => (repository.split(':').next().unwrap_or(repository), digest),
            (None, Some((repository, tag))) => (repository, tag),
            (None, None) => (rest, "latest"),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':');
        ensure!(repository.chars().chain(wanted.chars()).all(plain), "{} is no image", self.reference);
        let registry = Registry::open(&self, host, repository)?;
        let (bytes, media_type) =
            registry.manifest(wanted).await?.context("the registry has no such image")?;
        let digest = digest_of(&bytes);
        ensure!(
            !wanted.starts_with("sha256:") || wanted == digest,
            "the registry sent {digest} for {wanted}"
        );
        let mut task = Task { registry, sink, seen: BTreeSet::new() };
        task.image(&digest, bytes, &media_type).await
    }
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

struct Task<'t, 's> {
    registry: Registry,
    sink: &'t mut Sink<'s>,
    /// Blobs that were sent.
    seen: BTreeSet<String>,
}

impl Task<'_, '_> {
    async fn image(&mut self, digest: &str, bytes: Vec<u8>, media_type: &str) -> Result<()> {
        let document: Value = serde_json::from_slice(&bytes).context("the manifest is not JSON")?;
        self.sink.object(digest, media_type, bytes).await?;
        self.evidence(digest).await?;
        for child in list(&document["manifests"]) {
            let Some(digest) = child["digest"].as_str() else { continue };
            let Some((bytes, media_type)) = self.registry.manifest(digest).await? else {
                self.sink.skip(digest, "the registry does not have this platform");
                continue;
            };
            ensure!(digest_of(&bytes) == digest, "the registry sent other bytes for {digest}");
            let manifest: Value = serde_json::from_slice(&bytes).context("a manifest is not JSON")?;
            self.sink.object(digest, &media_type, bytes).await?;
            if child["annotations"]["vnd.docker.reference.type"] == "attestation-manifest" {
                self.buildkit(child, &manifest);
                continue;
            }
            self.config(&manifest).await?;
            self.evidence(digest).await?;
        }
        self.config(&document).await
    }

    /// The statements of a BuildKit attestation manifest. Nobody signed them.
    fn buildkit(&mut self, child: &Value, manifest: &Value) {
        let about = child["annotations"]["vnd.docker.reference.digest"].as_str().unwrap_or("nothing");
        for layer in list(&manifest["layers"]) {
            let kind = layer["annotations"]["in-toto.io/predicate-type"].as_str().unwrap_or("a statement");
            let source = format!("{} {kind}", layer["digest"].as_str().unwrap_or_default());
            self.sink.skip(&source, &format!("unsigned, about {about}: shown with the image, never counted"));
        }
    }

    async fn config(&mut self, manifest: &Value) -> Result<()> {
        let config = &manifest["config"];
        let media_type = config["mediaType"].as_str().unwrap_or_default();
        let is_config =
            ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
        if let Some(digest) = config["digest"].as_str().filter(|_| is_config.contains(&media_type))
            && let Some(bytes) = self.registry.blob(digest).await?
        {
            self.sink.object(digest, media_type, bytes).await?;
        }
        Ok(())
    }

    /// Everything that refers to a digest, however it does.
    async fn evidence(&mut self, digest: &str) -> Result<()> {
        let flat = digest.replace(':', "-");
        let mut found = match self.registry.referrers(digest).await? {
            Some(found) => found,
            // Registries without the referrers API: the list lies under a tag.
            None => match self.registry.manifest(&flat).await? {
                Some((bytes, _)) => list(&serde_json::from_slice::<Value>(&bytes)?["manifests"]).to_vec(),
                None => Vec::new(),
            },
        };
        found.retain(|descriptor| descriptor["digest"].is_string());
        for descriptor in found {
            let digest = descriptor["digest"].as_str().unwrap_or_default();
            if let Some((bytes, _)) = self.registry.manifest(digest).await? {
                ensure!(digest_of(&bytes) == digest, "the registry sent other bytes for {digest}");
                self.layers(digest, &bytes).await?;
            }
        }
        for suffix in ["sig", "att", "sbom"] {
            let tag = format!("{flat}.{suffix}");
            if let Some((bytes, _)) = self.registry.manifest(&tag).await? {
                self.layers(&tag, &bytes).await?;
            }
        }
        Ok(())
    }

    /// The evidence in the layers of a manifest.
    async fn layers(&mut self, name: &str, manifest: &[u8]) -> Result<()> {
        let manifest: Value = serde_json::from_slice(manifest).context("a manifest is not JSON")?;
        for layer in list(&manifest["layers"]) {
            let (Some(digest), kind) =
                (layer["digest"].as_str(), layer["mediaType"].as_str().unwrap_or_default())
            else {
                continue;
            };
            let source = format!("{name} {digest}");
            let cosign =
                layer["annotations"].as_object().is_some_and(|all| all.keys().any(|k| k.contains("cosign")));
            let is_bundle = kind.starts_with("application/vnd.dev.sigstore.bundle");
            let is_envelope =
                kind == "application/vnd.dsse.envelope.v1+json" || kind == "application/vnd.in-toto+json";
            let is_signature = kind == "application/vnd.dev.cosign.simplesigning.v1+json";
            if !(is_bundle || is_envelope || is_signature) {
                self.sink.skip(&source, &format!("{kind} is no signed evidence"));
                continue;
            }
            if !self.seen.insert(format!("{digest} {}", layer["annotations"])) {
                continue;
            }
            ensure!(self.seen.len() <= MAX_PIECES, "more than {MAX_PIECES} pieces of evidence");
            let Some(bytes) = self.registry.blob(digest).await? else {
                self.sink.skip(&source, "the registry does not have it");
                continue;
            };
            let bytes = if is_signature || (is_envelope && cosign) { wrap(layer, &bytes) } else { bytes };
            self.sink.evidence(&source, bytes).await?;
        }
        Ok(())
    }
}

/// One repository of a registry (OCI distribution specification 1.1).
struct Registry {
    http: reqwest::Client,
    base: Url,
    repository: String,
    basic: Option<String>,
    bearer: tokio::sync::Mutex<Option<String>>,
    plain_http: bool,
}

impl Registry {
    fn open(options: &Oci, host: &str, repository: &str) -> Result<Self> {
        let name = host.split(':').next().unwrap_or(host);
        let local = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
        let scheme = if local || options.plain_http { "http" } else { "https" };
        let url = options.registry_url.clone().unwrap_or_else(|| format!("{scheme}://{host}"));
        let base = Url::parse(url.trim_end_matches('/')).with_context(|| url.clone())?;
        let here = base.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]"));
        ensure!(
            base.scheme() == "https" || here || options.plain_http,
            "{base} is not https: say --plain-http"
        );
        let basic = match (&options.username, &options.password) {
            (Some(username), Some(password)) => Some(STANDARD.encode(format!("{username}:{password}"))),
            _ => docker_login(host),
        };
        // Layers are often elsewhere; credentials do not go there, and neither does anything without encryption.
        let secure = base.scheme() == "https";
        let redirect = reqwest::redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > 5 || (secure && attempt.url().scheme() != "https") {
                attempt.stop()
            } else {
                attempt.follow()
            }
        });
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(15))
            .timeout(Duration::from_secs(120))
            .redirect(redirect)
            .build()?;
        let (repository, plain_http) = (repository.to_owned(), options.plain_http || here);
        Ok(Self { http, base, repository, basic, bearer: tokio::sync::Mutex::default(), plain_http })
    }

    /// A manifest by tag or digest, with its media type.
    async fn manifest(&self, reference: &str) -> Result<Option<(Vec<u8>, String)>> {
        let path = format!("manifests/{reference}");
        let Some(response) = self.get(&path, &MANIFESTS.join(", ")).await? else { return Ok(None) };
        let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_owned());
        let bytes = read(response, MAX_MANIFEST).await?;
        let own = serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|m| m["mediaType"].as_str().map(str::to_owned));
        let media_type =
            media_type.filter(|kind| is_object(kind)).or(own).context("a manifest without a media type")?;
        Ok(Some((bytes, media_type)))
    }

    /// A blob; its bytes are what its digest says.
    async fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        let Some(response) = self.get(&format!("blobs/{digest}"), "*/*").await? else { return Ok(None) };
        let bytes = read(response, MAX_BLOB).await?;
        ensure!(digest_of(&bytes) == digest, "the registry sent other bytes for {digest}");
        Ok(Some(bytes))
    }

    /// What refers to a digest; `None` when the registry does not say.
    async fn referrers(&self, digest: &str) -> Result<Option<Vec<Value>>> {
        let (mut found, mut path) = (Vec::new(), format!("referrers/{digest}"));
        for _ in 0..MAX_PAGES {
            let Some(response) = self.get(&path, MANIFESTS[0]).await? else { return Ok(None) };
            let link = response.headers().get(header::LINK).and_then(|link| link.to_str().ok());
            let next =
                link.and_then(|link| link.strip_prefix('<')?.split_once('>').map(|(url, _)| url.to_owned()));
            let index: Value = serde_json::from_slice(&read(response, MAX_MANIFEST).await?)?;
            found.extend_from_slice(list(&index["manifests"]));
            match next.as_deref().and_then(|url| url.split_once('?')) {
                Some((_, more)) => path = format!("referrers/{digest}?{more}"),
                None => return Ok(Some(found)),
            }
        }
        bail!("more than {MAX_PAGES} pages of referrers");
    }

    /// `None` when it is not there.
    async fn get(&self, path: &str, accept: &str) -> Result<Option<Response>> {
        let url = format!("{}v2/{}/{path}", self.base, self.repository);
        for attempt in 0..2 {
            let mut request = self.http.get(&url).header(header::ACCEPT, accept);
            let bearer = self.bearer.lock().await.clone();
            if let Some(authorization) = bearer.or(self.basic.as_ref().map(|basic| format!("Basic {basic}")))
            {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let response = request.send().await.with_context(|| url.clone())?;
            match response.status() {
                StatusCode::OK => return Ok(Some(response)),
                StatusCode::NOT_FOUND => return Ok(None),
                StatusCode::UNAUTHORIZED if attempt == 0 => {
                    let challenge = response.headers().get(header::WWW_AUTHENTICATE);
                    let challenge = challenge.and_then(|value| value.to_str().ok()).unwrap_or_default();
                    *self.bearer.lock().await = Some(self.token(challenge).await?);
                }
                status => bail!("{url} answers {status}"),
            }
        }
        bail!("{url} is not allowed")
    }

    /// A token from where the challenge says (docker's token authentication).
    async fn token(&self, challenge: &str) -> Result<String> {
        let parameters =
            challenge.strip_prefix("Bearer ").context("the registry wants another kind of login")?;
        let value = |name: &str| {
            parameters.split(',').find_map(|part| {
                let (key, value) = part.trim().split_once('=')?;
                (key == name).then(|| value.trim_matches('"').to_owned())
            })
        };
        let realm = value("realm").context("a challenge without a realm")?;
        ensure!(
            realm.starts_with("https://") || self.plain_http,
            "the login is at {realm}, which is not https"
        );
        let scope = format!("repository:{}:pull", self.repository);
        let mut url = format!("{realm}?scope={}", query(&scope));
        if let Some(service) = value("service") {
            url += &format!("&service={}", query(&service));
        }
        let mut request = self.http.get(&url);
        if let Some(basic) = &self.basic {
            request = request.header(header::AUTHORIZATION, format!("Basic {basic}"));
        }
        let response = request.send().await.with_context(|| realm.clone())?;
        ensure!(response.status().is_success(), "{realm} answers {}", response.status());
        let answer: Value = serde_json::from_slice(&read(response, MAX_MANIFEST).await?)?;
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        Ok(format!("Bearer {}", token.context("the login gave no token")?))
    }
}

async fn read(mut response: Response, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        ensure!(
            bytes.len() as u64 + chunk.len() as u64 <= most,
            "{} has more than {most} bytes",
            response.url()
        );
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// What `docker login` left for a registry.
fn docker_login(host: &str) -> Option<String> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(std::path::PathBuf::from);
    let folder = folder.or_else(|| Some(std::path::Path::new(&std::env::var_os("HOME")?).join(".docker")))?;
    let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).ok()?).ok()?;
    config["auths"][host]["auth"].as_str().map(str::to_owned)
}
