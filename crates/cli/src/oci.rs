//! One repository of a registry that the operator named (OCI distribution API), read only.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_evidence::{
    Digest,
    limits::{MAX_ITEM, MAX_OBJECT},
    reference::{ImageReference, ReferenceError},
};
use reqwest::{RequestBuilder, Response, StatusCode, Url, header};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    check::layout::list,
    remote::{self, RemoteError},
};

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// Pages of one list of referrers.
const MAX_PAGES: usize = 100;
/// Bytes of a token service's answer.
const MAX_TOKEN: usize = 64 * 1024;

/// `registry/repository`, and which image of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `registry.acme.test`, with a port where it has one.
    pub registry: String,
    /// `shop/api`.
    pub repository: String,
    /// A tag, or a digest.
    pub image: String,
}

impl std::str::FromStr for Reference {
    type Err = ReferenceError;

    /// Reads `registry/repository[:tag|@digest]`; a digest outweighs a tag, and the default tag is `latest`.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (resource, image) = match text.parse::<ImageReference>() {
            Ok(reference) => (reference.resource, reference.digest.to_string()),
            Err(ReferenceError::TagNotDigest { resource, tag }) => (resource, tag),
            Err(ReferenceError::NoDigest { resource }) => (resource, "latest".to_owned()),
            Err(error) => return Err(error),
        };
        let (registry, repository) = resource.split_once('/').unwrap_or_default();
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), image })
    }
}

/// User and password.
#[derive(Clone)]
pub struct Credential {
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
}

/// A manifest or index as the registry has it.
#[derive(Debug, Clone)]
pub struct Document {
    /// As the registry says.
    pub media_type: String,
    /// Of the bytes.
    pub digest: Digest,
    /// The exact bytes.
    pub bytes: Vec<u8>,
}

/// A repository, and what was learned about how to ask for it.
pub struct Repository {
    base: Url,
    name: String,
    http: reqwest::Client,
    credential: Option<Credential>,
    proof: Proof,
}

/// What requests carry. Nothing before the registry asks.
enum Proof {
    Nothing,
    Basic,
    Bearer(String),
}

impl Repository {
    /// A client; nothing is sent yet.
    pub fn new(
        reference: &Reference,
        plain_http: bool,
        credential: Option<Credential>,
    ) -> Result<Self, RemoteError> {
        let plain = remote::address(&format!("http://{}", reference.registry), plain_http);
        let base = match plain {
            Ok(url) => url,
            Err(_) => remote::address(&format!("https://{}", reference.registry), false)?,
        };
        let http = remote::client(&base)?;
        Ok(Self { base, name: reference.repository.clone(), http, credential, proof: Proof::Nothing })
    }

    /// A manifest or index by digest or tag; a digest is checked. `None`: there is none.
    pub async fn manifest(&mut self, image: &str) -> Result<Option<Document>, RemoteError> {
        let path = format!("/v2/{}/manifests/{image}", self.name);
        let Some(response) = self.get(self.url(&path)?, ACCEPT).await? else { return Ok(None) };
        let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let media_type = media_type.unwrap_or_default().split(';').next().unwrap_or_default();
        let media_type = media_type.trim().to_owned();
        let bytes = remote::body(response, MAX_OBJECT).await?;
        let digest = match image.parse::<Digest>() {
            Ok(digest) => same(&path, digest, &bytes)?,
            Err(_) => Digest::sha256(&bytes),
        };
        Ok(Some(Document { media_type, digest, bytes }))
    }

    /// A blob by digest, checked. `None`: there is none.
    pub async fn blob(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, RemoteError> {
        let path = format!("/v2/{}/blobs/{digest}", self.name);
        let Some(response) = self.get(self.url(&path)?, "*/*").await? else { return Ok(None) };
        let bytes = remote::body(response, MAX_ITEM).await?;
        same(&path, *digest, &bytes)?;
        Ok(Some(bytes))
    }

    /// Digests of the manifests that say they are about this one, by the referrers API; none where there is no such API.
    pub async fn referrers(&mut self, digest: &Digest) -> Result<Vec<Digest>, RemoteError> {
        let mut found = Vec::new();
        let mut next = Some(self.url(&format!("/v2/{}/referrers/{digest}", self.name))?);
        for _ in 0..MAX_PAGES {
            let Some(url) = next else { break };
            let response = match self.get(url, ACCEPT).await {
                Ok(Some(response)) => response,
                Ok(None) => break,
                // Older registries know no such path, and say so in different ways.
                Err(RemoteError::Status { status: 400 | 405 | 501, .. }) if found.is_empty() => break,
                Err(error) => return Err(error),
            };
            next = remote::next(&response, &self.base);
            let page = remote::body(response, MAX_OBJECT).await?;
            found.extend(manifests(&page));
        }
        Ok(found)
    }

    fn url(&self, path: &str) -> Result<Url, RemoteError> {
        let why = "it is not an address";
        self.base.join(path).map_err(|_| RemoteError::Address { url: path.to_owned(), why })
    }

    /// Asks, and once more with a credential when the registry wants one. `None`: 404.
    async fn get(&mut self, url: Url, accept: &str) -> Result<Option<Response>, RemoteError> {
        let mut response = self.send(self.http.get(url.clone()), accept).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = response.headers().get(header::WWW_AUTHENTICATE).and_then(|v| v.to_str().ok());
            let challenge = challenge.unwrap_or_default().to_owned();
            self.proof = self.answer(&challenge).await?;
            response = self.send(self.http.get(url.clone()), accept).await?;
        }
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_FOUND => Ok(None),
            other => Err(RemoteError::Status {
                host: self.host(),
                path: url.path().to_owned(),
                status: other.as_u16(),
            }),
        }
    }

    async fn send(&self, request: RequestBuilder, accept: &str) -> Result<Response, RemoteError> {
        let request = request.header(header::ACCEPT, accept);
        let request = match (&self.proof, &self.credential) {
            (Proof::Bearer(token), _) => request.bearer_auth(token),
            (Proof::Basic, Some(it)) => request.basic_auth(&it.username, Some(&it.password)),
            _ => request,
        };
        request.send().await.map_err(|e| remote::unreachable(&self.base, &e))
    }

    /// What the registry asks for: the password itself, or a token of the service that it names.
    async fn answer(&self, challenge: &str) -> Result<Proof, RemoteError> {
        let failed = |why: &str| RemoteError::Challenge { host: self.host(), why: why.to_owned() };
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return match self.credential {
                Some(_) => Ok(Proof::Basic),
                None => Err(failed("give --registry-username and --registry-password")),
            };
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(failed("neither Basic nor Bearer"));
        }
        let realm = parameter(parameters, "realm").ok_or_else(|| failed("it names no token service"))?;
        // A password goes to another host over TLS only.
        let mut realm = remote::address(&realm, false).or_else(|error| {
            let same = Url::parse(&realm).ok().filter(|url| url.origin() == self.base.origin());
            same.ok_or(error)
        })?;
        // Never a wider scope than reading this repository, whatever the registry suggests.
        let scope = format!("repository:{}:pull", self.name);
        realm.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = parameter(parameters, "service") {
            realm.query_pairs_mut().append_pair("service", &service);
        }
        let mut request = self.http.get(realm.clone());
        if let Some(it) = &self.credential {
            request = request.basic_auth(&it.username, Some(&it.password));
        }
        let response = request.send().await.map_err(|e| remote::unreachable(&realm, &e))?;
        if !response.status().is_success() {
            return Err(failed(&format!("its token service answers {}", response.status().as_u16())));
        }
        let answer: Token = serde_json::from_slice(&remote::body(response, MAX_TOKEN).await?)
            .map_err(|_| failed("its token service gives no token"))?;
        let token = answer.token.or(answer.access_token);
        token.map(Proof::Bearer).ok_or_else(|| failed("its token service gives no token"))
    }

    fn host(&self) -> String {
        self.base.host_str().unwrap_or_default().to_owned()
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// Digests of an index's entries; what is none is left out.
pub fn manifests(index: &[u8]) -> Vec<Digest> {
    let index: Value = serde_json::from_slice(index).unwrap_or_default();
    list(&index["manifests"]).iter().filter_map(|entry| entry["digest"].as_str()?.parse().ok()).collect()
}

fn same(path: &str, expected: Digest, bytes: &[u8]) -> Result<Digest, RemoteError> {
    let computed = expected.recompute(bytes);
    if computed == expected {
        return Ok(expected);
    }
    let (expected, computed) = (expected.to_string(), computed.to_string());
    Err(RemoteError::Digest { path: path.to_owned(), expected, computed })
}

/// A quoted parameter of a challenge (RFC 9110, 11.6.1).
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    while let Some((before, after)) = rest.split_once("=\"") {
        let (value, next) = after.split_once('"')?;
        if before.trim_matches([' ', ',']).eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
    None
}

/// What `docker login` left for a registry. Credential helpers are programs and are not run.
pub fn stored_credential(registry: &str) -> Option<Credential> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".docker"))
    })?;
    let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).ok()?).ok()?;
    let auths = config["auths"].as_object()?;
    let name = |key: &str| key.trim_start_matches("https://").trim_end_matches('/') == registry;
    let (_, entry) = auths.iter().find(|(key, _)| name(key))?;
    let pair = String::from_utf8(STANDARD.decode(entry["auth"].as_str()?).ok()?).ok()?;
    let (username, password) = pair.split_once(':')?;
    Some(Credential { username: username.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests;
