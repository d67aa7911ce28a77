//! OCI and Docker images, written so that the same arguments always give the same digests.

use std::{fs, io, path::Path};

use serde_json::{Map, Value, json};

use crate::{sha256_hex, tar};

/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Uncompressed OCI layer.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker image config.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Uncompressed Docker layer.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Which family of media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// OCI image format.
    #[default]
    Oci,
    /// Docker schema 2.
    Docker,
}

/// Bytes under their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// What it is.
    pub media_type: String,
    /// The exact bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// A blob.
    pub fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self { media_type: media_type.into(), bytes }
    }

    /// `sha256:<hex>`.
    pub fn digest(&self) -> String {
        format!("sha256:{}", sha256_hex(&self.bytes))
    }

    /// `{mediaType, digest, size}`.
    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

/// `os/architecture[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Operating system.
    pub os: String,
    /// Processor.
    pub architecture: String,
    /// Variant.
    pub variant: Option<String>,
}

impl Platform {
    /// From `linux/amd64` or `linux/arm/v7`.
    pub fn new(text: &str) -> Self {
        let mut parts = text.split('/').map(String::from);
        Self {
            os: parts.next().expect("os"),
            architecture: parts.next().expect("architecture"),
            variant: parts.next(),
        }
    }

    fn to_value(&self) -> Value {
        let mut value = json!({"os": self.os, "architecture": self.architecture});
        if let Some(variant) = &self.variant {
            value["variant"] = variant.as_str().into();
        }
        value
    }
}

/// A layer from a few files: an uncompressed, deterministic tar archive.
pub fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    tar::archive(files)
}

/// An image for one platform that is being made.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Media types.
    pub family: Family,
    /// The platform, in the config and in the index.
    pub platform: Platform,
    /// Uncompressed layers, base first.
    pub layers: Vec<Vec<u8>>,
    /// Manifest annotations.
    pub annotations: Map<String, Value>,
    /// More members of the manifest (`artifactType`, `subject`, …).
    pub extra: Map<String, Value>,
}

impl Image {
    /// An image from scratch.
    pub fn new(platform: &str, layers: Vec<Vec<u8>>) -> Self {
        Self {
            family: Family::Oci,
            platform: Platform::new(platform),
            layers,
            annotations: Map::new(),
            extra: Map::new(),
        }
    }

    /// An image of the same platform on top of this one: its layers are a prefix of the new one's.
    pub fn extend(&self, layer: Vec<u8>) -> Self {
        let mut layers = self.layers.clone();
        layers.push(layer);
        Self { layers, annotations: Map::new(), extra: Map::new(), ..self.clone() }
    }

    /// Adds an annotation.
    pub fn annotate(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.into(), value.into());
        self
    }

    /// The layers as blobs.
    pub fn layer_blobs(&self) -> Vec<Blob> {
        let media_type = if self.family == Family::Oci { OCI_LAYER } else { DOCKER_LAYER };
        self.layers.iter().map(|bytes| Blob::new(media_type, bytes.clone())).collect()
    }

    /// The config. Layers are uncompressed, so their digests are the diffIDs.
    pub fn config(&self) -> Blob {
        let diff_ids: Vec<String> = self.layer_blobs().iter().map(Blob::digest).collect();
        let mut config = self.platform.to_value();
        config["config"] = json!({});
        config["rootfs"] = json!({"type": "layers", "diff_ids": diff_ids});
        let media_type = if self.family == Family::Oci { OCI_CONFIG } else { DOCKER_CONFIG };
        Blob::new(media_type, config.to_string().into_bytes())
    }

    /// The manifest.
    pub fn manifest(&self) -> Blob {
        let media_type = if self.family == Family::Oci { OCI_MANIFEST } else { DOCKER_MANIFEST };
        let layers: Vec<Value> = self.layer_blobs().iter().map(Blob::descriptor).collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": self.config().descriptor(),
            "layers": layers,
        });
        if !self.annotations.is_empty() {
            manifest["annotations"] = self.annotations.clone().into();
        }
        for (name, value) in &self.extra {
            manifest[name] = value.clone();
        }
        Blob::new(media_type, manifest.to_string().into_bytes())
    }

    /// The manifest's digest.
    pub fn digest(&self) -> String {
        self.manifest().digest()
    }

    /// Layers, config, manifest.
    pub fn blobs(&self) -> Vec<Blob> {
        let mut blobs = self.layer_blobs();
        blobs.extend([self.config(), self.manifest()]);
        blobs
    }
}

/// An image index that is being made.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// Media types.
    pub family: Family,
    /// The images, in order.
    pub images: Vec<Image>,
    /// Whether each image gets a BuildKit attestation manifest.
    pub buildkit_attestations: bool,
    /// Index annotations.
    pub annotations: Map<String, Value>,
    /// More descriptors, as written.
    pub extra_children: Vec<Value>,
}

impl Index {
    /// An OCI index.
    pub fn new(images: Vec<Image>) -> Self {
        Self {
            family: Family::Oci,
            images,
            buildkit_attestations: false,
            annotations: Map::new(),
            extra_children: Vec::new(),
        }
    }

    /// The attestation manifest that BuildKit adds for an image: layer, config, manifest.
    pub fn buildkit_attestation(image: &Image) -> [Blob; 3] {
        let statement = crate::Statement::new(crate::provenance::V1, json!({"unsigned": true}))
            .subject(crate::Subject::image("_", &image.digest()));
        let layer = Blob::new(crate::dsse::IN_TOTO, statement.to_json().into_bytes());
        let config = json!({
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest()]},
        });
        let config = Blob::new(OCI_CONFIG, config.to_string().into_bytes());
        let mut entry = layer.descriptor();
        entry["annotations"] = json!({"in-toto.io/predicate-type": crate::provenance::V1});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.descriptor(),
            "layers": [entry],
        });
        [layer, config, Blob::new(OCI_MANIFEST, manifest.to_string().into_bytes())]
    }

    /// The index document.
    pub fn document(&self) -> Blob {
        let media_type = if self.family == Family::Oci { OCI_INDEX } else { DOCKER_LIST };
        let mut children: Vec<Value> = self
            .images
            .iter()
            .map(|image| {
                let mut child = image.manifest().descriptor();
                child["platform"] = image.platform.to_value();
                child
            })
            .collect();
        if self.buildkit_attestations {
            for image in &self.images {
                let [_, _, manifest] = Self::buildkit_attestation(image);
                let mut child = manifest.descriptor();
                child["platform"] = json!({"architecture": "unknown", "os": "unknown"});
                child["annotations"] = json!({
                    "vnd.docker.reference.digest": image.digest(),
                    "vnd.docker.reference.type": "attestation-manifest",
                });
                children.push(child);
            }
        }
        children.extend(self.extra_children.iter().cloned());
        let mut index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": children});
        if !self.annotations.is_empty() {
            index["annotations"] = self.annotations.clone().into();
        }
        Blob::new(media_type, index.to_string().into_bytes())
    }

    /// The index's digest.
    pub fn digest(&self) -> String {
        self.document().digest()
    }

    /// Every blob, the index last.
    pub fn blobs(&self) -> Vec<Blob> {
        let mut blobs: Vec<Blob> = self.images.iter().flat_map(Image::blobs).collect();
        if self.buildkit_attestations {
            blobs.extend(self.images.iter().flat_map(Self::buildkit_attestation));
        }
        blobs.push(self.document());
        blobs
    }

    /// Writes an OCI image layout that holds the index under a tag.
    pub fn write_layout(&self, dir: &Path, tag: &str) -> io::Result<()> {
        let folder = dir.join("blobs/sha256");
        fs::create_dir_all(&folder)?;
        for blob in self.blobs() {
            fs::write(folder.join(sha256_hex(&blob.bytes)), &blob.bytes)?;
        }
        let mut entry = self.document().descriptor();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
        fs::write(dir.join("index.json"), index.to_string())?;
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_image_has_the_same_digest_and_the_base_is_a_prefix() {
        let base = Image::new("linux/amd64", vec![layer(&[("etc/os", b"base")])]);
        let app = base.extend(layer(&[("app", b"1")]));
        assert_eq!(app.digest(), base.extend(layer(&[("app", b"1")])).digest());
        let ids = |image: &Image| -> Value {
            serde_json::from_slice::<Value>(&image.config().bytes).unwrap()["rootfs"]["diff_ids"].clone()
        };
        assert_eq!(ids(&app)[0], ids(&base)[0]);
        assert_eq!(ids(&app).as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_buildkit_index_has_an_attestation_child_for_each_image() {
        let mut index = Index::new(vec![Image::new("linux/arm/v7", vec![])]);
        index.buildkit_attestations = true;
        let value: Value = serde_json::from_slice(&index.document().bytes).unwrap();
        assert_eq!(value["manifests"][0]["platform"]["variant"], "v7");
        assert_eq!(
            value["manifests"][1]["annotations"]["vnd.docker.reference.digest"],
            value["manifests"][0]["digest"]
        );
    }

    #[test]
    fn tar_reads_the_layers() {
        let dir = std::env::temp_dir().join(format!("catenary-testkit-tar-{}", std::process::id()));
        std::fs::write(&dir, layer(&[("etc/os", b"base"), ("app", &[7; 600])])).unwrap();
        let out = std::process::Command::new("tar").arg("-tvf").arg(&dir).output().unwrap();
        let _ = std::fs::remove_file(&dir);
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(out.status.success() && text.contains("etc/os") && text.contains("600"), "{text}");
    }
}
