//! The honest world: who is trusted, what was committed, built and pushed, and how the service is asked about it.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use catenary_evidence::reference::ImageReference;
use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value, json};

use super::{
    git::{self, Repository},
    image::Index,
    registry::Place,
    ssh::Developer,
};
use crate::{
    client::{Client, query},
    commands::{
        attest::{
            build::Provenance,
            registry::Event,
            source::{self, person},
        },
        key::Algorithm,
    },
    draw::{items, string},
    sign::PrivateKey,
};

/// The release builder, and the one for experiments; each has its own key.
pub const BUILDER: &str = "https://ci.demo.test/release";
const SANDBOX: &str = "https://ci.demo.test/sandbox";
/// The application's source.
pub const APP_SOURCE: &str = "git+https://git.demo.test/shop/app";
const BASE_SOURCE: &str = "git+https://git.demo.test/shop/base";
const OTHER_SOURCE: &str = "git+https://git.demo.test/shop/other";
/// The branch that is released.
pub const MAIN: &str = "refs/heads/main";
/// The application's repository in the registry.
pub const APP: &str = "shop/app";
/// Another team's.
pub const OTHER: &str = "shop/other";
/// The base image's.
pub const BASE: &str = "base/tiny";
/// How long a push may take to be observed.
const PATIENCE: Duration = Duration::from_secs(20);

const APP_FILES: &[(&str, &str)] = &[
    ("Containerfile", "FROM base/tiny\nCOPY app.sh /app/\nCMD [\"/bin/sh\", \"/app/app.sh\"]\n"),
    ("README.md", "# Shop\n\nSays hello.\n"),
    ("app.sh", "#!/bin/sh\necho 'an unbroken chain hangs in a catenary'\n"),
];
const BASE_FILES: &[(&str, &str)] = &[("os-release", "ID=tiny\nVERSION_ID=1\n")];

/// Private keys of everyone who signs.
pub struct Keys {
    /// The release builder.
    pub ci: PrivateKey,
    /// The builder for experiments: trusted, but only for its own builder id.
    pub sandbox: PrivateKey,
    /// Version control.
    vcs: PrivateKey,
    /// Whoever attests pushes when there is no registry to observe.
    registry: PrivateKey,
    /// The developer.
    dev: Developer,
}

/// The world.
pub struct World<'a> {
    client: &'a Client,
    place: &'a Place,
    /// Who signs.
    pub keys: Keys,
    /// The application's source.
    pub source: Repository,
    base_source: Repository,
    /// The base image.
    pub base: Index,
    /// Highest log index that was acknowledged: every question is answered with it taken into account.
    seen: u64,
}

impl<'a> World<'a> {
    /// Makes two repositories, their commits and the base image; nothing is sent yet.
    pub fn make(client: &'a Client, place: &'a Place, folder: &Path) -> Result<Self> {
        let dev = Developer::new(*b"catenary demo: one developer key")?;
        let source = git::make(&folder.join("git/app"), &dev, APP_FILES, "Say hello")?;
        let base_source = git::make(&folder.join("git/base"), &dev, BASE_FILES, "Lay the base")?;
        let release = checkout(&base_source, BASE_FILES)?
            .into_iter()
            .map(|(name, bytes)| (format!("etc/{name}"), bytes));
        let base = Index::base(&release.collect::<Vec<_>>(), &base_source.commit);
        let keys = Keys {
            ci: PrivateKey::generate(Algorithm::P256)?,
            sandbox: PrivateKey::generate(Algorithm::P256)?,
            vcs: PrivateKey::generate(Algorithm::Ed25519)?,
            registry: PrivateKey::generate(Algorithm::P384)?,
            dev,
        };
        Ok(Self { client, place, keys, source, base_source, base, seen: 0 })
    }

    /// Registers the keys and applies the three policies.
    pub async fn trust(&mut self) -> Result<()> {
        let mut texts = vec![("developer", self.keys.dev.public_line())];
        for (name, key) in [
            ("release-builder", &self.keys.ci),
            ("sandbox-builder", &self.keys.sandbox),
            ("vcs", &self.keys.vcs),
            ("registry", &self.keys.registry),
        ] {
            texts.push((name, key.public()?.to_pem()));
        }
        let keys = texts.into_iter().map(|(name, pem)| {
            (
                format!("key {name}"),
                self.client.request(Method::POST, "/v1/keys").json(&json!({"name": name, "pem": pem})),
            )
        });
        let mut requests: Vec<(String, RequestBuilder)> = keys.collect();
        for (name, repository, source, with_base) in [
            ("demo-app", APP, APP_SOURCE, true),
            ("demo-other", OTHER, OTHER_SOURCE, true),
            ("demo-base", BASE, BASE_SOURCE, false),
        ] {
            let document = self.policy(name, repository, source, with_base, &self.builders()?)?;
            requests.push((format!("policy {name}"), self.put_policy(name, document)));
        }
        // All at once: each is acknowledged only when every instance honours it, which takes a second.
        let mut answers = tokio::task::JoinSet::new();
        for (what, request) in requests {
            let client = self.client.clone();
            answers.spawn(async move { client.send(request).await.context(what) });
        }
        while let Some(answer) = answers.join_next().await {
            let answer: Value = answer??.json().await?;
            self.note(&answer);
        }
        Ok(())
    }

    fn put_policy(&self, name: &str, document: String) -> RequestBuilder {
        let request = self.client.request(Method::PUT, &format!("/v1/policies/{name}"));
        request.header("content-type", "application/yaml").body(document)
    }

    /// Applies one more policy, with builders of its own.
    pub async fn apply(
        &mut self,
        name: &str,
        repository: &str,
        source: &str,
        with_base: bool,
        builders: &str,
    ) -> Result<()> {
        let document = self.policy(name, repository, source, with_base, builders)?;
        let answer = self.client.send(self.put_policy(name, document)).await?.json().await?;
        self.note(&answer);
        Ok(())
    }

    /// Posts a document that must be taken.
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<()> {
        let answer = self.client.post(path, body).await?;
        self.note(&answer);
        Ok(())
    }

    /// The builders that sign with keys.
    fn builders(&self) -> Result<String> {
        let (ci, sandbox) = (self.keys.ci.public()?.id(), self.keys.sandbox.public()?.id());
        Ok(format!(
            r#"      - {{id: release, maxLevel: 3, signer: {{key: "{ci}"}}, builderId: {{exact: "{BUILDER}"}}, buildTypes: [generic]}}
      - {{id: sandbox, maxLevel: 3, signer: {{key: "{sandbox}"}}, builderId: {{exact: "{SANDBOX}"}}, buildTypes: [generic]}}
"#
        ))
    }

    /// What an image in `repository` must have behind it.
    fn policy(
        &self,
        name: &str,
        repository: &str,
        source: &str,
        with_base: bool,
        builders: &str,
    ) -> Result<String> {
        let host = self.place.host();
        let vcs = self.keys.vcs.public()?.id();
        let dev = self.keys.dev.id()?;
        let registry = match self.place {
            Place::Registry(_) => "{service: collector}".to_owned(),
            Place::Layout(_) => format!("{{key: \"{}\"}}", self.keys.registry.public()?.id()),
        };
        let inputs = if with_base {
            format!(
                "  inputs: [{{role: baseImage, allow: [\"{host}/{BASE}\"], chain: true, depth: 4, pinned: required, undeclared: deny}}]\n"
            )
        } else {
            String::new()
        };
        Ok(format!(
            r#"apiVersion: catenary/v1
kind: ChainPolicy
metadata: {{name: {name}, owner: demo}}
spec:
  match: {{resources: ["{host}/{repository}"]}}
  subject: {{platforms: [linux/amd64, linux/arm64], extraPlatforms: deny}}
  trust:
    builders:
{builders}    sources:
      - {{id: vcs, maxLevel: 3, signer: {{key: "{vcs}"}}}}
    registries:
      - {{id: registry, signer: {registry}, repositories: ["{host}/**"]}}
  build: {{minLevel: 2, triggers: [push], params: {{unknown: deny}}}}
  source:
    repository: {{uri: "{source}", id: "4242"}}
    refs: ["{MAIN}"]
    review: {{atLeast: 1}}
    signatures: {{commit: {{required: true, keys: ["{dev}"]}}}}
{inputs}  registry: {{path: ["{host}/{repository}"], promotedBy: [registry]}}
"#
        ))
    }

    /// Sends the evidence of version control: the commit objects, and who merged and approved them.
    pub async fn attest_sources(&mut self) -> Result<()> {
        for (uri, commit, object) in [
            (APP_SOURCE, self.source.commit.clone(), self.source.object.clone()),
            (BASE_SOURCE, self.base_source.commit.clone(), self.base_source.object.clone()),
        ] {
            let evidence = source::Evidence {
                repository: uri.to_owned(),
                id: Some("4242".into()),
                reference: MAIN.into(),
                previous: None,
                commit,
                updated: now(),
                actor: Some(person("dev:1")),
                approvers: vec![person("ann:2")],
            };
            let envelope = self.keys.vcs.envelope(&evidence.statement())?;
            self.object("application/x-git-commit", object).await?;
            self.attest(&envelope).await?;
        }
        Ok(())
    }

    /// Pushes and attests the base image.
    pub async fn release_base(&mut self) -> Result<()> {
        let base = self.base.clone();
        self.push(BASE, "1", &base).await?;
        let mut provenance = self.provenance(BASE, &base)?;
        provenance.bases.clear();
        provenance.source = BASE_SOURCE.into();
        provenance.commit = self.base_source.commit.clone();
        let envelope = self.keys.ci.envelope(&provenance.statement())?;
        self.attest(&envelope).await
    }

    /// The application, built from the repository's files; `change` is a file that makes it another image.
    pub fn build(&self, base: &Index, change: Option<(&str, &str)>) -> Result<Index> {
        let mut files = checkout(&self.source, APP_FILES)?;
        files.extend(change.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())));
        Ok(Index::application(base, &files, &self.source.commit))
    }

    /// Pushes an image and sends its objects; without a registry that is observed, the push is attested here.
    pub async fn push(&mut self, repository: &str, tag: &str, index: &Index) -> Result<ImageReference> {
        self.place.push(repository, tag, index).await?;
        for image in &index.images {
            for blob in [&image.config, &image.manifest] {
                self.object(blob.media_type, blob.bytes.clone()).await?;
            }
        }
        self.object(index.document.media_type, index.document.bytes.clone()).await?;
        let image = self.name(repository, index)?;
        if !self.place.is_observed() {
            let event = Event {
                image: image.clone(),
                media_type: index.document.media_type.to_owned(),
                occurred: now(),
                observed: now(),
                tag: Some(tag.to_owned()),
                previous: None,
                actor: Some("ci".into()),
                promoted_from: None,
            };
            let envelope = self.keys.registry.envelope(&event.statement()?)?;
            self.attest(&envelope).await?;
        }
        Ok(image)
    }

    /// What an honest build says about an image: index and manifests, commit, base.
    pub fn provenance(&self, repository: &str, index: &Index) -> Result<Provenance> {
        let resource = format!("{}/{repository}", self.place.host());
        let images =
            index.digests()?.into_iter().map(|digest| ImageReference { resource: resource.clone(), digest });
        Ok(Provenance {
            images: images.collect(),
            bases: vec![self.name(BASE, &self.base)?],
            source: APP_SOURCE.into(),
            reference: MAIN.into(),
            commit: self.source.commit.clone(),
            builder: BUILDER.into(),
            trigger: Some("push".into()),
            runner: None,
            params: Map::new(),
            started: now(),
            finished: now(),
            invocation: Some(format!("{BUILDER}/runs/{}", &index.digest()[7..19])),
        })
    }

    /// `registry/repository@sha256:…`
    pub fn name(&self, repository: &str, index: &Index) -> Result<ImageReference> {
        Ok(format!("{}/{repository}@{}", self.place.host(), index.digest()).parse()?)
    }

    /// Sends an attestation that must be accepted and verified.
    pub async fn attest(&mut self, envelope: &Value) -> Result<()> {
        let (status, answer) = self.send(envelope).await?;
        match string(&answer["status"]) {
            "verified" => Ok(()),
            other => bail!(
                "an honest attestation was not verified: HTTP {status} {other} {}",
                string(&answer["detail"])
            ),
        }
    }

    /// Sends an attestation; any answer is one.
    pub async fn send(&mut self, envelope: &Value) -> Result<(u16, Value)> {
        let request = self.client.request(Method::POST, "/v1/attestations").json(envelope);
        let response = self.client.raw(request).await?;
        let status = response.status().as_u16();
        let answer: Value = response.json().await?;
        self.note(&answer);
        Ok((status, answer))
    }

    async fn object(&mut self, media_type: &str, bytes: Vec<u8>) -> Result<()> {
        let request =
            self.client.request(Method::POST, "/v1/objects").header("content-type", media_type).body(bytes);
        let answer: Value =
            self.client.send(request).await.with_context(|| media_type.to_owned())?.json().await?;
        self.note(&answer);
        Ok(())
    }

    fn note(&mut self, answer: &Value) {
        self.seen = self.seen.max(answer["index"].as_u64().unwrap_or_default());
    }

    /// The verdict, with everything sent so far taken into account and the push observed.
    pub async fn ask(&self, image: &ImageReference) -> Result<Value> {
        let asked = std::time::Instant::now();
        let path = format!("/v1/verdict?image={}&minIndex={}&wait=1s", query(&image.to_string()), self.seen);
        let mut reconciled = false;
        loop {
            let verdict = self.client.get(&path).await?;
            let waits = items(&verdict["reasons"])
                .iter()
                .any(|r| matches!(string(&r["code"]), "REG_NOT_OBSERVED" | "REG_WRONG_REPOSITORY"));
            if !waits || !self.place.is_observed() || asked.elapsed() > PATIENCE {
                return Ok(verdict);
            }
            // A notification can be lost; the registry itself is asked once.
            if !reconciled && asked.elapsed() > PATIENCE / 2 {
                reconciled = true;
                self.client.post("/v1/registry/reconcile", &json!({})).await?;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The committed files, as they lie in the checkout.
fn checkout(repository: &Repository, files: &[(&str, &str)]) -> Result<Vec<(String, Vec<u8>)>> {
    files
        .iter()
        .map(|(name, _)| Ok(((*name).to_owned(), std::fs::read(repository.folder.join(name))?)))
        .collect()
}

/// The time, to the second.
pub fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}
