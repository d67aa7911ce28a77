//! Cosign's attachments inside an OCI image layout, wrapped so that they can be verified and submitted.

use std::path::{Path, PathBuf};

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// Media types of layers that cosign attaches.
const LAYERS: [&str; 2] =
    ["application/vnd.dsse.envelope.v1+json", "application/vnd.dev.cosign.simplesigning.v1+json"];

/// The wrapped attachments of the layout that `path` is or is the `index.json` of; `None` when it is none.
pub fn attachments(path: &Path) -> Result<Option<Vec<Vec<u8>>>> {
    let folder = match path {
        path if path.is_dir() => path.to_owned(),
        path if path.ends_with("index.json") => path.parent().map(Path::to_owned).unwrap_or_default(),
        _ => return Ok(None),
    };
    if !folder.join("blobs").is_dir() {
        return Ok(None);
    }
    let index: Value = serde_json::from_slice(&std::fs::read(folder.join("index.json"))?)?;
    let mut found = Vec::new();
    for entry in list(&index["manifests"]) {
        let Some(bytes) = entry["digest"].as_str().and_then(|digest| blob(&folder, digest)) else { continue };
        let manifest: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        for layer in list(&manifest["layers"]) {
            if LAYERS.contains(&layer["mediaType"].as_str().unwrap_or_default())
                && let Some(bytes) = layer["digest"].as_str().and_then(|digest| blob(&folder, digest))
            {
                found.push(wrap(layer, &bytes));
            }
        }
    }
    Ok((!found.is_empty()).then_some(found))
}

/// Whether a layer is half of what cosign attached: its annotations say how to verify it.
pub(crate) fn is_attachment(layer: &Value) -> bool {
    let media_type = layer["mediaType"].as_str().unwrap_or_default();
    let cosign = |name: &String| {
        name.starts_with("dev.sigstore.cosign/") || name.starts_with("dev.cosignproject.cosign/")
    };
    let annotated = layer["annotations"].as_object().is_some_and(|all| all.keys().any(cosign));
    LAYERS.contains(&media_type) && (annotated || media_type == LAYERS[1])
}

/// A layer and its descriptor in the form that the service takes (docs/forms.md).
pub fn wrap(layer: &Value, bytes: &[u8]) -> Vec<u8> {
    let wrapper = json!({
        "mediaType": "application/vnd.catenary.cosign-layer.v1+json",
        "layer": layer,
        "blob": STANDARD.encode(bytes),
    });
    wrapper.to_string().into_bytes()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A blob by its digest; what is not there, or named so that it would lead elsewhere, is not read.
pub(crate) fn blob(folder: &Path, digest: &str) -> Option<Vec<u8>> {
    let (algorithm, hex) = digest.split_once(':')?;
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let file: PathBuf = folder.join("blobs").join(algorithm).join(hex);
    (plain(algorithm) && plain(hex)).then(|| std::fs::read(file).ok())?
}
