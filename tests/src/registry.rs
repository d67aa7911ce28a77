//! A real registry: Debian's `docker-registry`.

use std::{path::Path, time::Duration};

use catenary_testkit::oci::{Blob, Index, OCI_INDEX, OCI_MANIFEST};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    cluster::free_port,
    http::Client,
    process::{Process, Spec},
};

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    /// `127.0.0.1:port`: the name that images have.
    pub host: String,
    client: Client,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Registry {
    /// Starts it; it notifies `endpoint` with a bearer.
    pub async fn start(host: Option<&str>, endpoint: &str, bearer: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("catenary-registry-").tempdir().unwrap();
        let host = host.map_or_else(Self::host, str::to_owned);
        let config = format!(
            r#"version: 0.1
storage: {{filesystem: {{rootdirectory: "{}"}}, delete: {{enabled: true}}}}
http: {{addr: "{host}", secret: devonly}}
notifications:
  endpoints:
    - name: catenary
      url: {endpoint}
      headers: {{Authorization: [Bearer {bearer}]}}
      timeout: 2s
      threshold: 3
      backoff: 1s
"#,
            folder.path().join("storage").display()
        );
        let file = folder.path().join("registry.yml");
        std::fs::write(&file, config).unwrap();
        let process = start(&file, folder.path());
        let client = Client::new(&format!("http://{host}"), None);
        for _ in 0..200 {
            if client.try_send(client.request(Method::GET, "/v2/")).await.is_ok() {
                return Self { host, client, _process: process, _folder: folder };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the registry did not start");
    }

    /// Deletes a manifest.
    pub async fn delete(&self, repository: &str, digest: &str) {
        let path = format!("/v2/{repository}/manifests/{digest}");
        self.client.send(self.client.request(Method::DELETE, &path)).await.is(202);
    }

    /// A name for a registry that is started later.
    pub fn host() -> String {
        format!("127.0.0.1:{}", free_port())
    }

    /// Pushes an index with everything in it, under a tag.
    pub async fn push(&self, repository: &str, index: &Index, tag: &str) {
        for image in &index.images {
            for blob in image.layer_blobs().into_iter().chain([image.config()]) {
                self.put_blob(repository, &blob).await;
            }
            let manifest = image.manifest();
            self.put(repository, &manifest.digest(), &manifest.media_type, manifest.bytes.clone()).await;
            if index.buildkit_attestations {
                let [layer, config, manifest] = Index::buildkit_attestation(image);
                self.put_blob(repository, &layer).await;
                self.put_blob(repository, &config).await;
                self.put(repository, &manifest.digest(), &manifest.media_type, manifest.bytes.clone()).await;
            }
        }
        let document = index.document();
        self.put(repository, tag, &document.media_type, document.bytes.clone()).await;
    }

    /// Pushes an artifact manifest of layers with annotations, by tag or by its digest; gives its descriptor.
    pub async fn attach(&self, repository: &str, tag: Option<&str>, layers: &[(Blob, Value)]) -> Value {
        let config = Blob::new("application/vnd.oci.empty.v1+json", b"{}".to_vec());
        self.put_blob(repository, &config).await;
        let mut descriptors = Vec::new();
        for (blob, annotations) in layers {
            self.put_blob(repository, blob).await;
            let mut descriptor = blob.descriptor();
            descriptor["annotations"] = annotations.clone();
            descriptors.push(descriptor);
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.descriptor(), "layers": descriptors,
        });
        let manifest = Blob::new(OCI_MANIFEST, manifest.to_string().into_bytes());
        let reference = tag.map_or_else(|| manifest.digest(), str::to_owned);
        self.put(repository, &reference, &manifest.media_type, manifest.bytes.clone()).await;
        manifest.descriptor()
    }

    /// Pushes an index of descriptors, as clients do under the fallback tag where there is no referrers API.
    pub async fn put_index(&self, repository: &str, tag: &str, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
        self.put(repository, tag, OCI_INDEX, index.to_string().into_bytes()).await;
    }

    async fn put_blob(&self, repository: &str, blob: &Blob) {
        let upload = self
            .client
            .post_bytes(&format!("/v2/{repository}/blobs/uploads/"), "application/octet-stream", "")
            .await;
        assert_eq!(upload.status, 202, "{}", upload.show());
        let location = upload.header("location");
        let path = location.strip_prefix(&self.client.url).unwrap_or(&location);
        let join = if path.contains('?') { '&' } else { '?' };
        let put = self.client.request(Method::PUT, &format!("{path}{join}digest={}", blob.digest()));
        let body = put.header("content-type", "application/octet-stream").body(blob.bytes.clone());
        let answer = self.client.send(body).await;
        assert_eq!(answer.status, 201, "{}", answer.show());
    }

    async fn put(&self, repository: &str, reference: &str, media_type: &str, bytes: Vec<u8>) {
        let request = self.client.request(Method::PUT, &format!("/v2/{repository}/manifests/{reference}"));
        let answer = self.client.send(request.header("content-type", media_type).body(bytes)).await;
        assert_eq!(answer.status, 201, "{}", answer.show());
    }
}

fn start(file: &Path, folder: &Path) -> Process {
    Process::start(&Spec {
        command: vec!["docker-registry".into(), "serve".into(), file.display().to_string()],
        env: Vec::new(),
        log: &folder.join("registry.log"),
        signal: "TERM",
        cleanup: None,
        user: None,
    })
}
