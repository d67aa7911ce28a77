//! Signed things as they come, whatever form carried them: the signed bytes, and each signature with its material.
//!
//! A form reader only takes apart; nothing here is trusted before a signature verified. `docs/forms.md` lists the forms.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{digest::Digest, dsse, json, refusal::Refusal};

mod attachment;
mod bundle;
mod cloud_build;
mod container;
mod envelope;
mod metablock;
mod published;
mod tekton;

pub use attachment::SIMPLE_SIGNING;
pub use container::detect;
pub(crate) use envelope::GITTUF;
pub(crate) use metablock::METABLOCK;

/// What was taken out of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What the form is called, for people: `dsse`, `sigstore-bundle-v0.3`, `cosign-attachment`, …
    pub form: &'static str,
    /// What was signed.
    pub content: Content,
    /// The signatures, in order.
    pub signatures: Vec<Unverified>,
}

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A payload of a type, signed as the DSSE pre-authentication encoding or as it is.
    Payload {
        /// `payloadType`, byte for byte.
        payload_type: String,
        /// The exact payload.
        bytes: Vec<u8>,
    },
    /// Bytes that are not here, by their digest (`messageSignature`).
    Digest(Digest),
    /// Bytes that are not here and that nothing in the item names: only with the artifact at hand it says something.
    Unnamed,
    /// The signed bytes, which whoever verifies has.
    Artifact {
        /// What they are called.
        digest: Digest,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// The artifact that a signature without a statement is looked at for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Artifact {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// Its digest, when the bytes are not at hand.
    Digest(Digest),
}

impl Opened {
    /// The same with the artifact at hand. What is about another artifact stays as it is.
    pub(crate) fn with(self, artifact: &Artifact) -> Self {
        let content = match (self.content, artifact) {
            (Content::Digest(digest), Artifact::Bytes(bytes)) if digest.recompute(bytes) == digest => {
                Content::Artifact { digest, bytes: bytes.clone() }
            }
            (Content::Unnamed, Artifact::Bytes(bytes)) => {
                Content::Artifact { digest: Digest::sha256(bytes), bytes: bytes.clone() }
            }
            (Content::Unnamed, Artifact::Digest(digest)) => Content::Digest(*digest),
            (content, _) => content,
        };
        Self { content, ..self }
    }
}

/// A signature before it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    /// The signature.
    pub bytes: Vec<u8>,
    /// How the signed message is made of the content.
    pub over: Over,
    /// `keyid` or hint: says which key to try first, never gives trust.
    pub keyid: Option<String>,
    /// A certificate, or nothing but what proves when a bare key was used.
    pub material: Option<Material>,
    /// The envelope's own bytes: the oldest log entries name a signature by their hash.
    pub envelope: Option<Vec<u8>>,
}

/// How the signed message is made of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// DSSE pre-authentication encoding of payload type and payload.
    Pae,
    /// The payload's bytes as they are (cosign simple signing, regional Cloud Build keys).
    Raw,
    /// The prehashed content ([`Content::Digest`]), or the artifact itself.
    Digest,
    /// Either, for signers that do now the one and now the other (Cloud Build).
    PaeOrRaw,
    /// SSHSIG armour in `bytes`, over the pre-authentication encoding (gittuf).
    Ssh,
    /// An OpenPGP signature packet in `bytes`, over the payload's bytes (in-toto).
    Openpgp,
}

/// What came with a certificate signature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Material {
    /// Certificates in DER, leaf first. What follows the leaf are hints for building the path.
    pub certificates: Vec<Vec<u8>>,
    /// Transparency log entries.
    pub entries: Vec<LogEntry>,
    /// RFC 3161 time stamp responses or tokens, DER.
    pub timestamps: Vec<Vec<u8>>,
}

/// A transparency log entry as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogEntry {
    /// `kind/version`, for example `dsse/0.0.1`, as the *canonicalized body* says; forms that repeat it must agree.
    pub canonicalized_body: Vec<u8>,
    /// The log's id.
    pub log_id: Vec<u8>,
    /// Global index, as the signed promise covers it.
    pub log_index: i64,
    /// Unix seconds; nothing for Rekor v2.
    pub integrated_time: Option<i64>,
    /// The signed entry timestamp.
    pub promise: Option<Vec<u8>>,
    /// The inclusion proof.
    pub proof: Option<InclusionProof>,
    /// What the form itself says of `kind` and `version`.
    pub kind_version: Option<(String, String)>,
}

/// An inclusion proof as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InclusionProof {
    /// Index in this tree.
    pub log_index: i64,
    /// Size of this tree.
    pub tree_size: i64,
    /// Its root.
    pub root: Vec<u8>,
    /// The path.
    pub hashes: Vec<Vec<u8>>,
    /// The signed checkpoint.
    pub checkpoint: Option<String>,
}

/// What tells the forms apart: which members the document has. Their values are read after that.
#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "mediaType", alias = "media_type")]
    media_type: Option<String>,
    #[serde(rename = "dsseEnvelope", alias = "dsse_envelope")]
    dsse_envelope: Option<IgnoredAny>,
    #[serde(rename = "messageSignature", alias = "message_signature")]
    message_signature: Option<IgnoredAny>,
    #[serde(rename = "verificationMaterial")]
    verification_material: Option<IgnoredAny>,
    #[serde(rename = "base64Signature")]
    base64_signature: Option<IgnoredAny>,
    #[serde(rename = "verification_material")]
    published_material: Option<IgnoredAny>,
    envelope: Option<IgnoredAny>,
    payload: Option<IgnoredAny>,
    #[serde(rename = "_type")]
    statement_type: Option<IgnoredAny>,
    #[serde(rename = "predicateType")]
    predicate_type: Option<IgnoredAny>,
    signed: Option<IgnoredAny>,
    #[serde(rename = "apiVersion")]
    api_version: Option<Text>,
    kind: Option<Text>,
}

/// A text; what is none is of no interest.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Else(IgnoredAny),
}

impl Text {
    fn of(text: &Option<Self>) -> &str {
        match text {
            Some(Self::Text(text)) => text,
            Some(Self::Else(_)) | None => "",
        }
    }
}

/// Whether a document with this `mediaType` is of a form that is read here.
pub fn is_media_type(text: &str) -> bool {
    text.starts_with(bundle::MEDIA_TYPE) || text == attachment::MEDIA_TYPE
}

/// Takes one item apart, whichever form it has. The text was checked to be strict JSON.
pub fn open(text: &str) -> Result<Opened, Refusal> {
    let shape: Shape = json::read(text).map_err(Refusal::Json)?;
    let media_type = shape.media_type.as_deref().unwrap_or_default();
    if media_type.starts_with(bundle::MEDIA_TYPE) {
        return bundle::open(text);
    }
    if media_type == attachment::MEDIA_TYPE {
        return attachment::open(text);
    }
    if shape.dsse_envelope.is_some()
        || shape.message_signature.is_some()
        || shape.verification_material.is_some()
    {
        return Err(Refusal::UnsupportedForm { form: "a bundle without its media type" });
    }
    if shape.published_material.is_some() && shape.envelope.is_some() {
        return published::open(text);
    }
    if shape.base64_signature.is_some() {
        return attachment::open_v1(text);
    }
    if shape.payload.is_some() {
        return envelope::open(text);
    }
    if tekton::is_run(Text::of(&shape.api_version), Text::of(&shape.kind)) {
        return tekton::open(text);
    }
    if shape.signed.is_some() {
        return metablock::open(text);
    }
    if shape.statement_type.is_some() || shape.predicate_type.is_some() {
        return Err(Refusal::Unsigned);
    }
    // The strict reader says what an envelope lacks.
    envelope::open(text)
}

/// Decodes `bytes` of protobuf's JSON: writers write padded standard base64, and readers take either alphabet, padded or not.
fn decode_bytes(text: &str, pointer: impl Fn() -> String) -> Result<Vec<u8>, Refusal> {
    STANDARD.decode(text).or_else(|_| dsse::decode(text, pointer))
}

/// Decodes standard base64 with padding, as OCI annotations and publishers' documents have it.
fn decode_strict(text: &str, pointer: impl Fn() -> String) -> Result<Vec<u8>, Refusal> {
    STANDARD
        .decode(text)
        .map_err(|_| Refusal::Encoding { pointer: pointer(), why: "it is not padded standard base64" })
}

/// The certificates of PEM text, in order, and nothing but certificates.
fn certificates(pem: &str, pointer: impl Fn() -> String) -> Result<Vec<Vec<u8>>, Refusal> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let wrong = |why| Refusal::Encoding { pointer: pointer(), why };
    let blocks: Result<Vec<CertificateDer<'_>>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let blocks = blocks.map_err(|_| wrong("it is not PEM"))?;
    if blocks.is_empty() || blocks.len() != pem.matches("-----BEGIN ").count() {
        return Err(wrong("it is not PEM of certificates and nothing else"));
    }
    Ok(blocks.into_iter().map(|block| block.to_vec()).collect())
}

/// The bytes of an object's member, exactly as they came.
fn envelope_slice(text: &str, member: &str) -> Option<Vec<u8>> {
    let object: std::collections::BTreeMap<String, &RawValue> = json::loose(text).ok()?;
    Some(object.get(member)?.get().as_bytes().to_vec())
}
