//! Real OCI images, the same digests on every run: fixed dates, sorted names, uncompressed layers.

use anyhow::Result;
use catenary_evidence::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// OCI image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image config.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Uncompressed layer: its digest is its diffID.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The platforms that honest images have.
pub const PLATFORMS: [&str; 2] = ["amd64", "arm64"];

/// Bytes and what they are.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Media type.
    pub media_type: &'static str,
    /// The exact bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    fn json(media_type: &'static str, value: &Value) -> Self {
        Self { media_type, bytes: value.to_string().into_bytes() }
    }

    /// `sha256:<hex>`.
    pub fn digest(&self) -> String {
        format!("sha256:{}", hex::encode(Sha256::digest(&self.bytes)))
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

/// An image for one platform.
#[derive(Debug, Clone)]
pub struct Image {
    architecture: String,
    /// Base first.
    pub layers: Vec<Blob>,
    /// The config.
    pub config: Blob,
    /// The manifest.
    pub manifest: Blob,
}

impl Image {
    /// An image of layers; `base` is the digest of the index that it starts from.
    fn new(architecture: &str, layers: Vec<Blob>, revision: &str, base: Option<&str>) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(Blob::digest).collect();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": "2026-01-05T09:00:00Z",
            "config": {"Cmd": ["/bin/sh", "/app/app.sh"], "Labels": {"org.opencontainers.image.revision": revision}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Blob::json(CONFIG, &config);
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        if let Some(base) = base {
            manifest["annotations"] = json!({"org.opencontainers.image.base.digest": base});
        }
        let manifest = Blob::json(MANIFEST, &manifest);
        Self { architecture: architecture.to_owned(), layers, config, manifest }
    }
}

/// A multi-arch image.
#[derive(Debug, Clone)]
pub struct Index {
    /// One a platform.
    pub images: Vec<Image>,
    /// The index document.
    pub document: Blob,
}

impl Index {
    /// The index of some images.
    pub fn of(images: Vec<Image>) -> Self {
        let children: Vec<Value> = images
            .iter()
            .map(|image| {
                let mut child = image.manifest.descriptor();
                child["platform"] = json!({"os": "linux", "architecture": image.architecture});
                child
            })
            .collect();
        let document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children});
        Self { images, document: Blob::json(INDEX, &document) }
    }

    /// A base image: one layer with an operating system's release file.
    pub fn base(files: &[(String, Vec<u8>)], revision: &str) -> Self {
        let layer = Blob { media_type: LAYER, bytes: tar(files) };
        Self::of(PLATFORMS.map(|platform| Image::new(platform, vec![layer.clone()], revision, None)).into())
    }

    /// An application on a base: the base's layers, and one with these files under `/app`.
    pub fn application(base: &Self, files: &[(String, Vec<u8>)], revision: &str) -> Self {
        Self::of(base.images.iter().map(|on| on.application(&base.digest(), files, revision)).collect())
    }

    /// The same index with one more platform.
    pub fn with_extra_platform(&self, architecture: &str, files: &[(String, Vec<u8>)]) -> Self {
        let layer = Blob { media_type: LAYER, bytes: tar(files) };
        let mut images = self.images.clone();
        images.push(Image::new(architecture, vec![layer], "unknown", None));
        Self::of(images)
    }

    /// `sha256:<hex>` of the index.
    pub fn digest(&self) -> String {
        self.document.digest()
    }

    /// The index's and each manifest's digest: what provenance names.
    pub fn digests(&self) -> Result<Vec<Digest>> {
        let manifests = self.images.iter().map(|image| &image.manifest);
        std::iter::once(&self.document).chain(manifests).map(|blob| Ok(blob.digest().parse()?)).collect()
    }
}

impl Image {
    fn application(&self, base: &str, files: &[(String, Vec<u8>)], revision: &str) -> Self {
        let mut all: Vec<(String, Vec<u8>)> =
            files.iter().map(|(name, bytes)| (format!("app/{name}"), bytes.clone())).collect();
        all.push(("app/PLATFORM".into(), format!("linux/{}\n", self.architecture).into_bytes()));
        let mut layers = self.layers.clone();
        layers.push(Blob { media_type: LAYER, bytes: tar(&all) });
        Self::new(&self.architecture, layers, revision, Some(base))
    }
}

/// A ustar archive of regular files: sorted, owner 0, mode 0644, one fixed time.
fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut sorted = files.to_vec();
    sorted.sort();
    let mut out = Vec::new();
    for (name, content) in &sorted {
        let mut header = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &name.as_bytes()[..name.len().min(100)]);
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, format!("{:011o}\0", super::git::WHEN).as_bytes());
        put(148, b"        ");
        put(156, b"0");
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(header);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_image_and_the_base_is_a_prefix() {
        let files = |text: &str| vec![("b".to_owned(), text.as_bytes().to_vec()), ("a".to_owned(), vec![1])];
        let base = Index::base(&files("base"), "c0");
        let (one, two) =
            (Index::application(&base, &files("x"), "c1"), Index::application(&base, &files("x"), "c1"));
        assert_eq!(one.digest(), two.digest());
        assert_ne!(one.digest(), Index::application(&base, &files("y"), "c1").digest());
        assert_eq!(one.images[0].layers[0].digest(), base.images[0].layers[0].digest());
        assert_eq!(one.with_extra_platform("s390x", &files("z")).images.len(), 3);
    }

    #[test]
    fn tar_reads_a_layer() {
        let Ok(folder) = tempfile::tempdir() else { return };
        let file = folder.path().join("layer.tar");
        std::fs::write(&file, tar(&[("app/x".into(), vec![7; 600])])).unwrap();
        let run = std::process::Command::new("tar").arg("-tvf").arg(&file).output().unwrap();
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && text.contains("app/x") && text.contains("2026-01-05"), "{text}");
    }
}
