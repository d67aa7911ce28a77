//! OCI and Docker documents: image index, image manifest, image config.
//!
//! Two readers of one document must see one thing. Go's JSON matches member names in any case, and old registries
//! take an index for a manifest when it has `layers`; both are refused here as ambiguous (CVE-2021-41190).

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{BaseHint, Body, Config, Descriptor, Index, Manifest, Platform};
use crate::{
    digest::Digest,
    dsse::within,
    json,
    limits::{MAX_DESCRIPTORS, MAX_TEXT},
    refusal::Refusal,
};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a document is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Index,
    Manifest,
    Config,
}

impl Kind {
    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            OCI_INDEX | DOCKER_LIST => Some(Self::Index),
            OCI_MANIFEST | DOCKER_MANIFEST => Some(Self::Manifest),
            OCI_CONFIG | DOCKER_CONFIG => Some(Self::Config),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Index => "image index",
            Self::Manifest => "image manifest",
            Self::Config => "image config",
        }
    }

    /// Members that would make another kind of it.
    fn foreign(self) -> &'static [&'static str] {
        match self {
            Self::Index => &["config", "layers", "fsLayers", "rootfs"],
            Self::Manifest => &["manifests", "fsLayers", "rootfs"],
            Self::Config => &["manifests", "layers", "fsLayers"],
        }
    }
}

/// Members of a document and of a descriptor that readers act on.
const MEMBERS: [&str; 13] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "manifests",
    "config",
    "layers",
    "fsLayers",
    "subject",
    "annotations",
    "architecture",
    "os",
    "variant",
    "rootfs",
];
const DESCRIPTOR_MEMBERS: [&str; 6] =
    ["mediaType", "digest", "size", "platform", "annotations", "artifactType"];

/// Reads a document as what `media_type` says; when that says nothing, as what the document says.
pub(super) fn read(media_type: &str, bytes: &[u8]) -> Result<Body, Refusal> {
    let text = json::check(bytes).map_err(Refusal::Json)?;
    let silent = matches!(media_type, "" | "application/json" | "application/octet-stream");
    if !silent && Kind::of(media_type).is_none() {
        return Err(Refusal::MediaType { found: json::shorten(media_type).into_owned() });
    }
    let members: Map<String, Value> = json::read(text).map_err(Refusal::Json)?;
    one_spelling(&members, &MEMBERS)?;
    let own = members.get("mediaType").and_then(Value::as_str);
    let kind = match Kind::of(if silent { own.unwrap_or_default() } else { media_type }) {
        Some(kind) => kind,
        None => by_members(&members, own)?,
    };
    if let Some(member) = kind.foreign().iter().find(|member| members.contains_key(**member)) {
        return Err(Refusal::Ambiguous { why: format!("an {} with `{member}`", kind.name()) });
    }
    // An OCI document may leave its media type out; when it is there, it must be the one that was sent.
    if let Some(own) = own
        && kind != Kind::Config
        && (Kind::of(own) != Some(kind) || (!silent && own != media_type))
    {
        return Err(Refusal::Ambiguous {
            why: format!("sent as `{media_type}`, `mediaType` is `{}`", json::shorten(own)),
        });
    }
    match kind {
        Kind::Index => index(text, &members, media_type),
        Kind::Manifest => manifest(text, &members, media_type),
        Kind::Config => config(text, &members),
    }
}

/// What a document without any media type is.
fn by_members(members: &Map<String, Value>, own: Option<&str>) -> Result<Kind, Refusal> {
    let has = |member| members.contains_key(member);
    match own {
        Some(own) => Err(Refusal::MediaType { found: json::shorten(own).into_owned() }),
        None if has("manifests") => Ok(Kind::Index),
        None if has("layers") => Ok(Kind::Manifest),
        None if has("rootfs") => Ok(Kind::Config),
        None => Err(Refusal::MediaType { found: String::new() }),
    }
}

/// Refuses a member that another reader would take for a known one: another case, or a letter that folds to it.
fn one_spelling(members: &Map<String, Value>, known: &[&str]) -> Result<(), Refusal> {
    let fold = |text: &str| text.to_uppercase().to_lowercase();
    let twin = members
        .keys()
        .find(|name| !known.contains(&name.as_str()) && known.iter().any(|known| fold(known) == fold(name)));
    match twin {
        Some(name) => {
            Err(Refusal::Ambiguous { why: format!("`{}` is spelt in another case", json::shorten(name)) })
        }
        None => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireIndex {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    manifests: Vec<WireDescriptor>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireManifest {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: WireDescriptor,
    layers: Vec<WireDescriptor>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDescriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct WireConfig {
    #[serde(flatten)]
    platform: Platform,
    rootfs: WireRootfs,
}

#[derive(Deserialize)]
struct WireRootfs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

fn typed<T: DeserializeOwned>(kind: Kind, text: &str) -> Result<T, Refusal> {
    json::read(text).map_err(|e| Refusal::Object {
        kind: kind.name(),
        pointer: Some(e.pointer.clone()),
        why: e.to_string(),
    })
}

fn version_two(kind: Kind, version: u64) -> Result<(), Refusal> {
    if version == 2 {
        return Ok(());
    }
    let pointer = Some("/schemaVersion".to_owned());
    Err(Refusal::Object {
        kind: kind.name(),
        pointer,
        why: format!("the schema version is {version}, not 2"),
    })
}

fn index(text: &str, members: &Map<String, Value>, media_type: &str) -> Result<Body, Refusal> {
    let wire: WireIndex = typed(Kind::Index, text)?;
    version_two(Kind::Index, wire.schema_version)?;
    within("manifests of an index", wire.manifests.len(), MAX_DESCRIPTORS)?;
    descriptors_have_one_spelling(members.get("manifests"))?;
    Ok(Body::Index(Index {
        media_type: media_type_of(wire.media_type, media_type, OCI_INDEX),
        artifact_type: wire.artifact_type.filter(|t| !t.is_empty()),
        children: wire.manifests.into_iter().map(descriptor).collect(),
        base: base(wire.annotations.as_ref()),
    }))
}

fn manifest(text: &str, members: &Map<String, Value>, media_type: &str) -> Result<Body, Refusal> {
    let wire: WireManifest = typed(Kind::Manifest, text)?;
    version_two(Kind::Manifest, wire.schema_version)?;
    within("layers of a manifest", wire.layers.len(), MAX_DESCRIPTORS)?;
    descriptors_have_one_spelling(members.get("layers"))?;
    if let Some(config) = members.get("config").and_then(Value::as_object) {
        one_spelling(config, &DESCRIPTOR_MEMBERS)?;
    }
    let config = descriptor(wire.config);
    let no_image = !matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG);
    let artifact_type =
        wire.artifact_type.filter(|t| !t.is_empty()).or_else(|| no_image.then(|| config.media_type.clone()));
    Ok(Body::Manifest(Manifest {
        media_type: media_type_of(wire.media_type, media_type, OCI_MANIFEST),
        artifact_type,
        config,
        layers: wire.layers.into_iter().map(descriptor).collect(),
        base: base(wire.annotations.as_ref()),
    }))
}

fn config(text: &str, members: &Map<String, Value>) -> Result<Body, Refusal> {
    let wire: WireConfig = typed(Kind::Config, text)?;
    // By these a base image is recognised: a runtime must not read others.
    if let Some(rootfs) = members.get("rootfs").and_then(Value::as_object) {
        one_spelling(rootfs, &["type", "diff_ids"])?;
    }
    if wire.rootfs.kind != "layers" {
        let pointer = Some("/rootfs/type".to_owned());
        return Err(Refusal::Object { kind: "image config", pointer, why: "expected `layers`".into() });
    }
    let diff_ids = wire.rootfs.diff_ids.unwrap_or_default();
    within("diff ids of a config", diff_ids.len(), MAX_DESCRIPTORS)?;
    Ok(Body::Config(Config { platform: normal(wire.platform), diff_ids }))
}

fn media_type_of(own: Option<String>, sent: &str, default: &str) -> String {
    own.unwrap_or_else(|| if Kind::of(sent).is_some() { sent.to_owned() } else { default.to_owned() })
}

fn descriptors_have_one_spelling(list: Option<&Value>) -> Result<(), Refusal> {
    let descriptors = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for descriptor in descriptors.iter().filter_map(Value::as_object) {
        one_spelling(descriptor, &DESCRIPTOR_MEMBERS)?;
        if let Some(platform) = descriptor.get("platform").and_then(Value::as_object) {
            one_spelling(platform, &["os", "architecture", "variant"])?;
        }
    }
    Ok(())
}

fn descriptor(wire: WireDescriptor) -> Descriptor {
    let annotation = |name| wire.annotations.as_ref().and_then(|a| a.get(name)).map(String::as_str);
    // A digest that is not one attests nothing: the entry then counts as runnable, which asks for more, not less.
    let attests = (annotation("vnd.docker.reference.type") == Some("attestation-manifest"))
        .then(|| annotation("vnd.docker.reference.digest")?.parse().ok())
        .flatten();
    let predicate_type = annotation("in-toto.io/predicate-type").filter(|text| text.len() <= MAX_TEXT);
    let predicate_type = predicate_type.map(str::to_owned);
    let platform = wire.platform.map(normal);
    Descriptor {
        media_type: wire.media_type,
        digest: wire.digest,
        size: wire.size,
        platform,
        attests,
        predicate_type,
    }
}

fn normal(mut platform: Platform) -> Platform {
    platform.variant = platform.variant.filter(|v| !v.is_empty());
    platform
}

fn base(annotations: Option<&BTreeMap<String, String>>) -> Option<BaseHint> {
    let annotations = annotations?;
    let name = annotations.get("org.opencontainers.image.base.name").cloned();
    let digest = annotations.get("org.opencontainers.image.base.digest").and_then(|d| d.parse().ok());
    (name.is_some() || digest.is_some()).then_some(BaseHint { name, digest })
}
