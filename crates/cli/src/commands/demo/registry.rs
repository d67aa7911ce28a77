//! Where the demonstration pushes: a real registry when `docker-registry` is installed, else an OCI layout.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use reqwest::StatusCode;
use serde_json::json;

use super::image::{Blob, INDEX, Index};

/// The program; Debian's package has the same name.
const PROGRAM: &str = "docker-registry";

/// Ends the registry when our end of the pipe closes, however this process ends: even when it is killed.
const KEEPER: &str = r#"exec 3<&0; "$0" serve "$1" </dev/null & cat <&3 >/dev/null; kill $!; wait"#;

/// Where images go.
pub enum Place {
    /// A registry that tells the service of each push.
    Registry(Registry),
    /// A folder: one OCI layout a repository. Nobody observes it, so the demonstration attests the pushes.
    Layout(PathBuf),
}

/// A running registry.
pub struct Registry {
    host: String,
    http: reqwest::Client,
    child: tokio::process::Child,
}

/// The name that images have when there is no registry to name them by.
const LAYOUT_HOST: &str = "registry.demo.test";

/// A free port on loopback for a registry that can be started, or nothing when none is installed.
pub fn free_address() -> Result<Option<String>> {
    if !super::git::installed(PROGRAM) {
        return Ok(None);
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?;
    Ok(Some(listener.local_addr()?.to_string()))
}

impl Registry {
    /// Starts it on `host`, with its notifications sent to the service.
    pub async fn start(folder: &Path, host: &str, service: &str, notification_token: &str) -> Result<Self> {
        let config = json!({
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": folder.join("registry")}},
            "http": {"addr": host, "secret": "demo"},
            "notifications": {"endpoints": [{
                "name": "catenary",
                "url": format!("{service}/v1/events/distribution"),
                "headers": {"Authorization": [format!("Bearer {notification_token}")]},
                "timeout": "5s", "threshold": 5, "backoff": "1s",
            }]},
        });
        // Every JSON document is YAML.
        let file = folder.join("registry.yml");
        std::fs::write(&file, config.to_string())?;
        let child = tokio::process::Command::new("sh")
            .args(["-c", KEEPER, PROGRAM])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_remove("OTEL_TRACES_EXPORTER")
            .spawn()
            .with_context(|| format!("{PROGRAM} does not start"))?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        let mut registry = Self { host: host.to_owned(), http, child };
        registry.wait().await?;
        Ok(registry)
    }

    async fn wait(&mut self) -> Result<()> {
        for _ in 0..200 {
            if let Some(status) = self.child.try_wait()? {
                bail!("{PROGRAM} ended at once: {status}");
            }
            if self.http.get(self.url("")).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{PROGRAM} does not answer on {}", self.host)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v2/{path}", self.host)
    }

    async fn push(&self, repository: &str, tag: &str, index: &Index) -> Result<()> {
        for image in &index.images {
            for blob in image.layers.iter().chain([&image.config]) {
                self.put_blob(repository, blob).await?;
            }
            self.put_manifest(repository, &image.manifest.digest(), &image.manifest).await?;
        }
        self.put_manifest(repository, tag, &index.document).await
    }

    async fn put_blob(&self, repository: &str, blob: &Blob) -> Result<()> {
        let digest = blob.digest();
        let there = self.http.head(self.url(&format!("{repository}/blobs/{digest}"))).send().await?;
        if there.status().is_success() {
            return Ok(());
        }
        let begun = self.http.post(self.url(&format!("{repository}/blobs/uploads/"))).send().await?;
        let location = begun
            .headers()
            .get("location")
            .and_then(|v| v.to_str().ok())
            .context("the registry opens no upload")?;
        let mut upload = begun.url().join(location)?;
        upload.query_pairs_mut().append_pair("digest", &digest);
        let put =
            self.http.put(upload).header("content-type", "application/octet-stream").body(blob.bytes.clone());
        expect_created(put.send().await?)
    }

    async fn put_manifest(&self, repository: &str, reference: &str, blob: &Blob) -> Result<()> {
        let url = self.url(&format!("{repository}/manifests/{reference}"));
        let put = self.http.put(url).header("content-type", blob.media_type).body(blob.bytes.clone());
        expect_created(put.send().await?)
    }
}

fn expect_created(answer: reqwest::Response) -> Result<()> {
    match answer.status() {
        StatusCode::CREATED => Ok(()),
        other => bail!("the registry answered {other} to {}", answer.url()),
    }
}

impl Place {
    /// The first part of every image name.
    pub fn host(&self) -> &str {
        match self {
            Self::Registry(registry) => &registry.host,
            Self::Layout(_) => LAYOUT_HOST,
        }
    }

    /// Whether the service's own collector sees pushes.
    pub fn is_observed(&self) -> bool {
        matches!(self, Self::Registry(_))
    }

    /// Pushes an image: layers, configs, manifests, the index under a tag.
    pub async fn push(&self, repository: &str, tag: &str, index: &Index) -> Result<()> {
        match self {
            Self::Registry(registry) => registry.push(repository, tag, index).await,
            Self::Layout(folder) => layout(&folder.join(repository), tag, index),
        }
    }

    /// Ends the registry.
    pub async fn stop(self) {
        if let Self::Registry(mut registry) = self {
            drop(registry.child.stdin.take());
            let _ = registry.child.wait().await;
        }
    }
}

/// Writes an OCI image layout (image-layout.md); the newest push is the one that `index.json` names.
fn layout(folder: &Path, tag: &str, index: &Index) -> Result<()> {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let images =
        index.images.iter().flat_map(|image| image.layers.iter().chain([&image.config, &image.manifest]));
    for blob in images.chain([&index.document]) {
        std::fs::write(blobs.join(blob.digest().trim_start_matches("sha256:")), &blob.bytes)?;
    }
    let entry = json!({
        "mediaType": INDEX,
        "digest": index.digest(),
        "size": index.document.bytes.len(),
        "annotations": {"org.opencontainers.image.ref.name": tag},
    });
    std::fs::write(
        folder.join("index.json"),
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string(),
    )?;
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(())
}
