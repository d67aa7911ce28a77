//! Content-addressed objects: bytes that prove themselves by their hash.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    digest::{Digest, GitOid, Node, Sha256},
    key::KeyId,
    limits::MAX_OBJECT,
    refusal::Refusal,
    signer::Signature,
    tagged::tagged,
    trust::Trust,
};

mod git;
mod oci;
mod ssh;
mod x509;

pub(crate) use ssh::verify as verify_ssh;

/// The raw content of a git commit object, as `git cat-file commit` prints it.
pub const GIT_COMMIT: &str = "application/x-git-commit";

/// The raw content of an annotated tag object, as `git cat-file tag` prints it.
pub const GIT_TAG: &str = "application/x-git-tag";

/// Reads the bytes of one object and proves them by their hash.
///
/// 1. The size.
/// 2. The form that `media_type` says, strictly, and only that form: a document that could be read in two ways is
///    refused (G12).
/// 3. For git objects, an SSH signature by a registered key.
/// 4. The hash against `claimed`, what the sender says that it is (G11).
///
/// A media type that says nothing (empty, `application/json`, `application/octet-stream`) leaves it to the document's own
/// `mediaType`, or to its members.
pub fn read(media_type: &str, bytes: &[u8], trust: &Trust, claimed: Option<Node>) -> Result<Object, Refusal> {
    if bytes.len() > MAX_OBJECT {
        return Err(Refusal::TooLarge { what: "an object", size: bytes.len(), limit: MAX_OBJECT });
    }
    // Parameters such as `; charset=utf-8` say nothing here.
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let id = Sha256::of(bytes);
    let (node, body) = match media_type {
        GIT_COMMIT => {
            git::commit(bytes, trust).map(|(oid, commit)| (Node::Git(oid), Body::Commit(commit)))?
        }
        GIT_TAG => git::tag(bytes, trust).map(|(oid, tag)| (Node::Git(oid), Body::Tag(tag)))?,
        _ => (Node::Content(id.into()), oci::read(media_type, bytes)?),
    };
    if let Some(claimed) = claimed {
        let computed = match (claimed, node) {
            (Node::Content(claimed), Node::Content(_)) => Node::Content(claimed.recompute(bytes)),
            _ => node,
        };
        if claimed != computed {
            return Err(Refusal::DigestMismatch {
                claimed: claimed.to_string(),
                computed: computed.to_string(),
            });
        }
    }
    let sha384 = Some(Digest::Sha384([0; 48]).recompute(bytes));
    let sha512 = Digest::Sha512([0; 64]).recompute(bytes);
    Ok(Object { id, node, sha384, sha512, size: bytes.len() as u64, body })
}

/// The SSH key that a commit's or tag's signature carries, registered or not: whom to ask for.
pub fn carried_ssh_key(bytes: &[u8]) -> Option<crate::key::PublicKey> {
    git::carried_ssh_key(bytes)
}

/// The facts of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// SHA-256 of the exact bytes.
    pub id: Sha256,
    /// The node that the bytes prove: the SHA-256 content digest of OCI documents, the oid of git objects.
    pub node: Node,
    /// SHA-384 of the bytes. Facts that were kept before it was computed have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha384: Option<Digest>,
    /// SHA-512 of the bytes: a digest set that names several must agree (chain-model 1.1).
    pub sha512: Digest,
    /// Length in bytes.
    pub size: u64,
    /// What it is.
    pub body: Body,
}

impl Object {
    /// Whether the bytes have this digest, as far as the facts say.
    pub fn has(&self, digest: &Digest) -> bool {
        match digest {
            Digest::Sha256(bytes) => *bytes == self.id.0,
            Digest::Sha384(_) => self.sha384.is_none_or(|own| own == *digest),
            Digest::Sha512(_) => *digest == self.sha512,
        }
    }

    /// The signature inside a git object, when something vouches for it.
    pub fn signature(&self) -> Option<&Signature> {
        let signature = match &self.body {
            Body::Commit(commit) => commit.signature.as_ref(),
            Body::Tag(tag) => tag.signature.as_ref(),
            Body::Index(_) | Body::Manifest(_) | Body::Config(_) => None,
        };
        signature?.verified.as_ref()
    }
}

/// What kinds of object the chain reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Body {
    /// OCI image index or Docker manifest list.
    Index(Index),
    /// OCI or Docker image manifest.
    Manifest(Manifest),
    /// OCI or Docker image config.
    Config(Config),
    /// A git commit.
    Commit(GitCommit),
    /// An annotated git tag.
    Tag(GitTag),
}

tagged!(Body {
    "index" => Index,
    "manifest" => Manifest,
    "config" => Config,
    "commit" => Commit,
    "tag" => Tag,
});

impl Body {
    /// The git objects that this one names: the parents of a commit, the target of a tag.
    pub fn git_names(&self) -> impl Iterator<Item = GitOid> {
        let named = match self {
            Self::Commit(commit) => &commit.parents[..],
            Self::Tag(tag) => std::slice::from_ref(&tag.target),
            Self::Index(_) | Self::Manifest(_) | Self::Config(_) => &[],
        };
        named.iter().copied()
    }
}

/// An image index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// `mediaType`, or the OCI default when the document has none.
    pub media_type: String,
    /// `artifactType`.
    pub artifact_type: Option<String>,
    /// The manifests, in order.
    pub children: Vec<Descriptor>,
    /// `org.opencontainers.image.base.*`: a hint, tenant-controlled.
    pub base: Option<BaseHint>,
}

/// An image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// `mediaType`, or the OCI default.
    pub media_type: String,
    /// `artifactType`, or a config media type that is not an image config: not runnable.
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers, base first.
    pub layers: Vec<Descriptor>,
    /// `org.opencontainers.image.base.*`.
    pub base: Option<BaseHint>,
}

/// A content descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// `mediaType`.
    pub media_type: String,
    /// `digest`.
    pub digest: Digest,
    /// `size` in bytes.
    pub size: u64,
    /// `platform`, of an index entry.
    pub platform: Option<Platform>,
    /// BuildKit's `vnd.docker.reference.digest`: the entry is an attestation manifest about that child.
    pub attests: Option<Digest>,
    /// BuildKit's `in-toto.io/predicate-type`, of a layer of an attestation manifest: what a bare statement says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicate_type: Option<String>,
}

impl Descriptor {
    /// Whether a container runtime could run this index entry: not an attestation manifest and not
    /// `unknown/unknown` (chain-model 1.2, all-platforms rule).
    ///
    /// Annotations and media types are unsigned hints of whoever wrote the index, so a descriptor counts
    /// as an attestation manifest only when *both* marks are there: `unknown/unknown` and the annotation.
    pub fn is_runnable(&self) -> bool {
        let unknown =
            self.platform.as_ref().is_some_and(|p| p.os == "unknown" && p.architecture == "unknown");
        !(unknown && self.attests.is_some())
    }
}

/// `os/architecture[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// For example `linux`.
    pub os: String,
    /// For example `amd64`.
    pub architecture: String,
    /// For example `v8`.
    pub variant: Option<String>,
}

/// Annotations that name the base image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseHint {
    /// `org.opencontainers.image.base.name`.
    pub name: Option<String>,
    /// `org.opencontainers.image.base.digest`.
    pub digest: Option<Digest>,
}

/// An image config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The platform.
    pub platform: Platform,
    /// `rootfs.diff_ids`, base first.
    pub diff_ids: Vec<Digest>,
}

/// A git commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitCommit {
    /// The tree.
    pub tree: GitOid,
    /// The parents, first parent first.
    pub parents: Vec<GitOid>,
    /// `name <email>`: a claim.
    pub author: String,
    /// `name <email>`: a claim.
    pub committer: String,
    /// The committer date: a claim.
    pub committed_at: Option<Timestamp>,
    /// The signature, when there is one.
    pub signature: Option<GitSignature>,
}

/// An annotated tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitTag {
    /// The tag's name.
    pub name: String,
    /// What it points to.
    pub target: GitOid,
    /// The type of the target: `commit`, `tree`, …
    pub target_kind: String,
    /// `name <email>`: a claim.
    pub tagger: Option<String>,
    /// The signature, when there is one.
    pub signature: Option<GitSignature>,
}

/// A signature on a git object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitSignature {
    /// The armour says which: `ssh`, `openpgp`, `x509`.
    pub method: String,
    /// What it proves, when a registered key or a trust root vouches for it.
    pub verified: Option<Signature>,
}

impl GitSignature {
    /// The registered key that verified it.
    pub fn key(&self) -> Option<KeyId> {
        self.verified.as_ref()?.signer.key()
    }
}
