//! Sigstore bundles v0.1 to v0.3 (protobuf-specs `sigstore_bundle.proto`, as JSON).
//!
//! Read as protobuf's JSON mapping says: members in `camelCase` or as the `.proto` file has them, `null` for what is not
//! there, enumerations by name or number, base64 of either alphabet. One member in both spellings is there twice.

use serde::Deserialize;

use super::{Content, InclusionProof, LogEntry, Material, Opened, Over, Unverified, decode_bytes};
use crate::{
    digest::Digest,
    dsse::{self, Envelope, within},
    json,
    refusal::Refusal,
};

/// The most log entries, timestamps and certificates of one bundle.
const MAX_PROOFS: usize = 16;

/// How every bundle's media type begins.
pub(super) const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";

/// The versions, by both spellings of the media type.
fn version(media_type: &str) -> Option<Version> {
    Some(match media_type {
        "application/vnd.dev.sigstore.bundle+json;version=0.1" => Version::V01,
        "application/vnd.dev.sigstore.bundle+json;version=0.2" => Version::V02,
        "application/vnd.dev.sigstore.bundle+json;version=0.3"
        | "application/vnd.dev.sigstore.bundle.v0.3+json"
        | "application/vnd.dev.sigstore.bundle.v0.3.1+json"
        | "application/vnd.dev.sigstore.bundle.v0.3.2+json" => Version::V03,
        _ => return None,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    V01,
    V02,
    V03,
}

impl Version {
    fn form(self) -> &'static str {
        match self {
            Self::V01 => "sigstore-bundle-v0.1",
            Self::V02 => "sigstore-bundle-v0.2",
            Self::V03 => "sigstore-bundle-v0.3",
        }
    }
}

/// Members that nobody knows are passed over, as protobuf asks: what is read is verified, and nothing else counts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(alias = "media_type")]
    media_type: String,
    #[serde(alias = "verification_material")]
    verification_material: WireMaterial,
    #[serde(alias = "dsse_envelope")]
    dsse_envelope: Option<dsse::Wire>,
    #[serde(alias = "message_signature")]
    message_signature: Option<MessageSignature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMaterial {
    #[serde(alias = "public_key")]
    public_key: Option<Hint>,
    certificate: Option<RawBytes>,
    #[serde(alias = "x509_certificate_chain")]
    x509_certificate_chain: Option<Chain>,
    #[serde(default, alias = "tlog_entries")]
    tlog_entries: Option<Vec<Entry>>,
    #[serde(alias = "timestamp_verification_data")]
    timestamp_verification_data: Option<Timestamps>,
}

#[derive(Deserialize)]
struct Hint {
    hint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBytes {
    #[serde(alias = "raw_bytes")]
    raw_bytes: String,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<RawBytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Timestamps {
    #[serde(default, alias = "rfc3161_timestamps")]
    rfc3161_timestamps: Option<Vec<Token>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    #[serde(alias = "signed_timestamp")]
    signed_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    #[serde(alias = "message_digest")]
    message_digest: Option<MessageDigest>,
    signature: String,
}

#[derive(Deserialize)]
struct MessageDigest {
    algorithm: Algorithm,
    digest: String,
}

/// `HashAlgorithm` of `sigstore_common.proto`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Algorithm {
    Name(String),
    Number(i32),
}

/// A transparency log entry of protobuf-specs; other forms use it too.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    #[serde(alias = "log_index")]
    log_index: Option<Int64>,
    #[serde(alias = "log_id")]
    log_id: LogId,
    #[serde(alias = "kind_version")]
    kind_version: Option<KindVersion>,
    #[serde(alias = "integrated_time")]
    integrated_time: Option<Int64>,
    #[serde(alias = "inclusion_promise")]
    inclusion_promise: Option<Promise>,
    #[serde(alias = "inclusion_proof")]
    inclusion_proof: Option<Proof>,
    #[serde(alias = "canonicalized_body")]
    canonicalized_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    #[serde(alias = "key_id")]
    key_id: String,
}

#[derive(Deserialize)]
struct KindVersion {
    kind: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    #[serde(alias = "signed_entry_timestamp")]
    signed_entry_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Proof {
    #[serde(alias = "log_index")]
    log_index: Option<Int64>,
    #[serde(alias = "root_hash")]
    root_hash: Option<String>,
    #[serde(alias = "tree_size")]
    tree_size: Option<Int64>,
    hashes: Option<Vec<String>>,
    checkpoint: Option<Checkpoint>,
}

#[derive(Deserialize)]
struct Checkpoint {
    envelope: String,
}

/// An `int64` of protobuf's JSON: a string of digits, or an integer; never a fraction or an exponent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Int64(i64);

impl<'de> Deserialize<'de> for Int64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Int64;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a 64-bit integer, as a number or as a string of digits")
            }
            fn visit_i64<E>(self, n: i64) -> Result<Int64, E> {
                Ok(Int64(n))
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Int64, E> {
                n.try_into().map(Int64).map_err(|_| E::custom("the integer has more than 63 bits"))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Int64, E> {
                let plain = text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit());
                let number = if plain { text.parse().ok() } else { None };
                number.map(Int64).ok_or_else(|| E::custom("not a string of digits of at most 63 bits"))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Entry {
    /// The entry, with everything decoded.
    pub(super) fn open(self, pointer: &str) -> Result<LogEntry, Refusal> {
        let proof = match self.inclusion_proof {
            None => None,
            Some(proof) => {
                let at = |member: &str| format!("{pointer}/inclusionProof/{member}");
                let hash = |(i, hash): (usize, &String)| decode_bytes(hash, || at(&format!("hashes/{i}")));
                Some(InclusionProof {
                    log_index: proof.log_index.unwrap_or_default().0,
                    tree_size: proof.tree_size.unwrap_or_default().0,
                    root: decode_bytes(&proof.root_hash.unwrap_or_default(), || at("rootHash"))?,
                    hashes: proof.hashes.iter().flatten().enumerate().map(hash).collect::<Result<_, _>>()?,
                    checkpoint: proof.checkpoint.map(|checkpoint| checkpoint.envelope),
                })
            }
        };
        let at = |member: &str| format!("{pointer}/{member}");
        let promise = self.inclusion_promise.map(|promise| {
            decode_bytes(&promise.signed_entry_timestamp, || at("inclusionPromise/signedEntryTimestamp"))
        });
        Ok(LogEntry {
            canonicalized_body: decode_bytes(&self.canonicalized_body, || at("canonicalizedBody"))?,
            log_id: decode_bytes(&self.log_id.key_id, || at("logId/keyId"))?,
            log_index: self.log_index.unwrap_or_default().0,
            // Protobuf writes an absent number as 0, and nothing was logged in 1970.
            integrated_time: self.integrated_time.map(|time| time.0).filter(|time| *time != 0),
            promise: promise.transpose()?,
            proof,
            kind_version: self.kind_version.map(|kv| (kv.kind, kv.version)),
        })
    }
}

/// Takes a bundle apart.
pub(super) fn open(text: &str) -> Result<Opened, Refusal> {
    let wire: Wire = json::read(text).map_err(Refusal::Json)?;
    let Some(version) = version(&wire.media_type) else {
        return Err(Refusal::UnsupportedForm { form: "a bundle of an unknown version" });
    };
    let (hint, material) = material(wire.verification_material, version)?;
    let (content, bytes, over, keyid, envelope) = match (wire.dsse_envelope, wire.message_signature) {
        (Some(wire), None) => {
            let mut envelope = Envelope::from_wire(wire, "/dsseEnvelope")?;
            // Two signatures under one certificate would leave open which one it is about (E06).
            let count = envelope.signatures.len();
            let Some(signature) = envelope.signatures.pop().filter(|_| count == 1) else {
                return Err(Refusal::SignatureCount { count });
            };
            let content = Content::Payload { payload_type: envelope.payload_type, bytes: envelope.payload };
            let raw = super::envelope_slice(text, "dsseEnvelope");
            (content, signature.bytes, Over::Pae, signature.keyid, raw)
        }
        (None, Some(message)) => {
            // It identifies the artifact and may be left out.
            let content = match message.message_digest {
                Some(digest) => Content::Digest(message_digest(digest)?),
                None => Content::Unnamed,
            };
            let bytes = decode_bytes(&message.signature, || "/messageSignature/signature".into())?;
            (content, bytes, Over::Digest, None, None)
        }
        _ => return Err(Refusal::UnsupportedForm { form: "a bundle with not exactly one signed content" }),
    };
    let keyid = keyid.or(hint);
    let signature = Unverified { bytes, over, keyid, material: Some(material), envelope };
    Ok(Opened { form: version.form(), content, signatures: vec![signature] })
}

/// Verification material of v0.3 by itself, as gittuf carries it.
pub(super) fn material_v03(text: &str) -> Result<Material, Refusal> {
    let wire: WireMaterial = json::read(text).map_err(Refusal::Json)?;
    Ok(material(wire, Version::V03)?.1)
}

/// The signature out of a message signature in JSON.
pub(super) fn message_signature(text: &str) -> Result<Vec<u8>, Refusal> {
    let wire: MessageSignature = json::read(text).map_err(Refusal::Json)?;
    decode_bytes(&wire.signature, || "/signature".into())
}

/// The hint of a key, and the material.
fn material(wire: WireMaterial, version: Version) -> Result<(Option<String>, Material), Refusal> {
    let unsupported = |form| Err(Refusal::UnsupportedForm { form });
    let place = "/verificationMaterial";
    let mut material = Material::default();
    let mut hint = None;
    match (wire.certificate, wire.x509_certificate_chain, wire.public_key) {
        (Some(certificate), None, None) => {
            if version < Version::V03 {
                return unsupported("a bundle before v0.3 with `certificate` instead of a chain");
            }
            let at = || format!("{place}/certificate/rawBytes");
            material.certificates.push(decode_bytes(&certificate.raw_bytes, at)?);
        }
        (None, Some(chain), None) => {
            // From v0.3 on the chain comes from the trust root only.
            if version >= Version::V03 {
                return unsupported("a bundle v0.3 with a certificate chain");
            }
            within("certificates", chain.certificates.len(), MAX_PROOFS)?;
            for (i, certificate) in chain.certificates.iter().enumerate() {
                let at = || format!("{place}/x509CertificateChain/certificates/{i}/rawBytes");
                material.certificates.push(decode_bytes(&certificate.raw_bytes, at)?);
            }
            if !is_ordered(&material.certificates) {
                return unsupported("a bundle whose certificate chain is not in order");
            }
        }
        (None, None, Some(key)) => hint = key.hint.filter(|hint| !hint.is_empty()),
        _ => {
            return unsupported(
                "a bundle with not exactly one of `certificate`, `x509CertificateChain`, `publicKey`",
            );
        }
    }
    let entries = wire.tlog_entries.unwrap_or_default();
    within("log entries", entries.len(), MAX_PROOFS)?;
    for (i, entry) in entries.into_iter().enumerate() {
        let entry = entry.open(&format!("{place}/tlogEntries/{i}"))?;
        // v0.1 may rest on the log's promise; later versions carry the proof, and cannot be relabelled to go without (T08).
        let proven = entry.proof.as_ref().is_some_and(|proof| proof.checkpoint.is_some());
        if version >= Version::V02 && !proven {
            return unsupported("a bundle from v0.2 on without an inclusion proof to a checkpoint");
        }
        if version == Version::V01 && entry.promise.is_none() {
            return unsupported("a bundle v0.1 without an inclusion promise");
        }
        material.entries.push(entry);
    }
    let tokens =
        wire.timestamp_verification_data.and_then(|data| data.rfc3161_timestamps).unwrap_or_default();
    within("timestamps", tokens.len(), MAX_PROOFS)?;
    for (i, token) in tokens.iter().enumerate() {
        let at = || format!("{place}/timestampVerificationData/rfc3161Timestamps/{i}/signedTimestamp");
        material.timestamps.push(decode_bytes(&token.signed_timestamp, at)?);
    }
    Ok((hint, material))
}

/// Whether each certificate names the next as its issuer, as protobuf-specs asks. One that is none is for the verifier to see.
fn is_ordered(chain: &[Vec<u8>]) -> bool {
    use der::{Decode as _, Encode as _};
    let read: Option<Vec<_>> = chain.iter().map(|der| x509_cert::Certificate::from_der(der).ok()).collect();
    read.is_none_or(|chain| {
        chain.windows(2).all(|pair| {
            pair[0].tbs_certificate.issuer.to_der().ok() == pair[1].tbs_certificate.subject.to_der().ok()
        })
    })
}

fn message_digest(MessageDigest { algorithm, digest }: MessageDigest) -> Result<Digest, Refusal> {
    let place = "/messageSignature/messageDigest";
    let bytes = decode_bytes(&digest, || format!("{place}/digest"))?;
    let name = match &algorithm {
        Algorithm::Name(name) => name.as_str(),
        Algorithm::Number(1) => "SHA2_256",
        Algorithm::Number(2) => "SHA2_384",
        Algorithm::Number(3) => "SHA2_512",
        Algorithm::Number(_) => "",
    };
    let name = match name {
        "SHA2_256" => "sha256",
        "SHA2_384" => "sha384",
        "SHA2_512" => "sha512",
        _ => "",
    };
    let digest = Digest::from_set(name, &hex::encode(bytes));
    let why = || "SHA2_256, SHA2_384 or SHA2_512 of the exact length".to_owned();
    digest
        .and_then(Result::ok)
        .ok_or_else(|| Refusal::DigestMalformed { pointer: place.to_owned(), why: why() })
}
