//! What a log entry is about: it must be exactly this signature, by this verifier, over this content (CVE-2022-36056).
//!
//! A log entry lends its time to the signature, so an entry of somebody else's signature would lend a wrong one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use der::{Decode as _, Encode as _};
use serde::{Deserialize, de::IgnoredAny};

use super::{Fault, Signed};
use crate::{
    digest::{Digest, Sha256},
    form::{Content, LogEntry},
    json,
};

/// The most bytes of an entry's body.
const MAX_BODY: usize = 1024 * 1024;

/// Who verifies the signature, as a log entry names it.
pub(super) enum Key<'a> {
    /// A certificate.
    Certificate { der: &'a [u8], spki: &'a [u8] },
    /// A bare key.
    Bare { spki: &'a [u8] },
}

impl Key<'_> {
    /// Whether DER is this very certificate or key.
    fn is_der(&self, der: &[u8]) -> bool {
        match self {
            Self::Certificate { der: own, .. } => *own == der,
            Self::Bare { spki } => *spki == der,
        }
    }

    /// Whether base64 of PEM holds this key, in whichever certificate: a key certified twice signs in both names, and the
    /// oldest kinds of entry were made with either.
    fn is_key_of(&self, base64: &str) -> bool {
        let Ok(pem) = STANDARD.decode(base64) else { return false };
        let Ok((_, der)) = std::str::from_utf8(&pem).map_err(|_| ()).and_then(unarmour) else { return false };
        let Self::Certificate { spki, .. } = self else { return self.is_der(&der) };
        let certified = x509_cert::Certificate::from_der(&der).ok();
        let certified = certified.and_then(|c| c.tbs_certificate.subject_public_key_info.to_der().ok());
        certified.is_some_and(|own| own == *spki) || der == *spki
    }

    /// Whether base64 of PEM holds this certificate or key. A log may name a certificate's holder by the bare key.
    fn is_pem(&self, base64: &str) -> bool {
        let Ok(pem) = STANDARD.decode(base64) else { return false };
        let Ok((label, der)) = std::str::from_utf8(&pem).map_err(|_| ()).and_then(unarmour) else {
            return false;
        };
        match (label.as_str(), self) {
            ("PUBLIC KEY", Self::Certificate { spki, .. } | Self::Bare { spki }) => *spki == der,
            ("CERTIFICATE", _) => self.is_der(&der),
            _ => false,
        }
    }
}

/// Label and contents of one PEM block, with lines of any length: logs keep what clients sent.
fn unarmour(pem: &str) -> Result<(String, Vec<u8>), ()> {
    let (label, rest) =
        pem.trim().strip_prefix("-----BEGIN ").and_then(|t| t.split_once("-----")).ok_or(())?;
    let text = rest.strip_suffix(&format!("-----END {label}-----")).ok_or(())?;
    let text: String = text.split_ascii_whitespace().collect();
    Ok((label.to_owned(), STANDARD.decode(text).map_err(|_| ())?))
}

/// `kind` and `apiVersion` decide how the rest is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    kind: String,
    api_version: String,
    #[serde(rename = "spec")]
    _spec: IgnoredAny,
}

/// Whether the body is of Rekor v2, which signs no times and no proof members but the checkpoint.
pub(super) fn is_v2(body: &[u8]) -> bool {
    serde_json::from_slice::<Head>(body).is_ok_and(|head| {
        head.api_version == "0.0.2" && matches!(head.kind.as_str(), "hashedrekord" | "dsse")
    })
}

/// Checks that the entry is about this signature.
pub(super) fn verify(
    position: usize,
    entry: &LogEntry,
    signed: &Signed<'_>,
    key: &Key<'_>,
) -> Result<(), Fault> {
    let malformed = |why: String| Fault::EntryMalformed { position, why };
    let mismatch = |what| Fault::EntryMismatch { position, what };
    let body = &entry.canonicalized_body;
    if body.len() > MAX_BODY {
        return Err(malformed(format!("its body has {} bytes, the limit is {MAX_BODY}", body.len())));
    }
    let text = json::check(body).map_err(|e| malformed(e.to_string()))?;
    let head: Head = json::read(text).map_err(|e| malformed(e.to_string()))?;
    // The form repeats kind and version outside of what the log signed.
    if let Some((kind, version)) = &entry.kind_version
        && (*kind != head.kind || *version != head.api_version)
    {
        return Err(malformed(format!(
            "it is called {kind} {version} and is {} {}",
            head.kind, head.api_version
        )));
    }
    let about = match (head.kind.as_str(), head.api_version.as_str()) {
        ("hashedrekord", "0.0.1") => hashedrekord_v1(text, signed, key),
        ("hashedrekord", "0.0.2") => hashedrekord_v2(text, signed, key),
        ("dsse", "0.0.1") => dsse_v1(text, signed, key),
        ("dsse", "0.0.2") => dsse_v2(text, signed, key),
        ("intoto", "0.0.1") => intoto_v1(text, signed, key),
        ("intoto", "0.0.2") => intoto_v2(text, signed, key),
        (kind, version) => return Err(malformed(format!("{kind} {version} is no kind that is read"))),
    };
    match about {
        Ok(()) => Ok(()),
        Err(Other::Malformed(why)) => Err(malformed(why)),
        Err(Other::About(what)) => Err(mismatch(what)),
    }
}

/// Why an entry is not about the signature.
enum Other {
    Malformed(String),
    About(&'static str),
}

impl From<json::JsonError> for Other {
    fn from(error: json::JsonError) -> Self {
        Self::Malformed(error.to_string())
    }
}

fn demand(holds: bool, what: &'static str) -> Result<(), Other> {
    if holds { Ok(()) } else { Err(Other::About(what)) }
}

fn base64(text: &str) -> Result<Vec<u8>, Other> {
    STANDARD.decode(text).map_err(|e| Other::Malformed(format!("base64: {e}")))
}

#[derive(Deserialize)]
struct Body<S> {
    spec: S,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

impl Hash {
    fn is(&self, digest: &Sha256) -> bool {
        self.algorithm == "sha256" && self.value == hex::encode(digest.0)
    }
}

/// The payload of an envelope and its type.
fn payload<'a>(signed: &Signed<'a>) -> Result<(&'a str, &'a [u8]), Other> {
    match signed.content {
        Content::Payload { payload_type, bytes } => Ok((payload_type, bytes)),
        Content::Digest(_) | Content::Unnamed | Content::Artifact { .. } => {
            Err(Other::About("kind of content"))
        }
    }
}

fn hashedrekord_v1(text: &str, signed: &Signed<'_>, key: &Key<'_>) -> Result<(), Other> {
    #[derive(Deserialize)]
    struct Spec {
        data: Data,
        signature: Sig,
    }
    #[derive(Deserialize)]
    struct Data {
        hash: Hash,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Sig {
        content: String,
        public_key: Pem,
    }
    #[derive(Deserialize)]
    struct Pem {
        content: String,
    }
    let spec = json::read::<Body<Spec>>(text)?.spec;
    let hash = &spec.data.hash;
    let digest = Digest::from_set(&hash.algorithm, &hash.value).and_then(Result::ok);
    demand(digest.is_some_and(|digest| signed.has(&digest)), "content")?;
    demand(base64(&spec.signature.content)? == signed.signature.bytes, "signature")?;
    demand(key.is_pem(&spec.signature.public_key.content), "signer")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verifier {
    x509_certificate: Option<RawBytes>,
    public_key: Option<RawBytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBytes {
    raw_bytes: String,
}

#[derive(Deserialize)]
struct SignatureV2 {
    content: String,
    verifier: Verifier,
}

impl SignatureV2 {
    fn is(&self, signed: &Signed<'_>, key: &Key<'_>) -> Result<(), Other> {
        demand(base64(&self.content)? == signed.signature.bytes, "signature")?;
        let der = match (&self.verifier.x509_certificate, &self.verifier.public_key) {
            (Some(raw), None) | (None, Some(raw)) => base64(&raw.raw_bytes)?,
            _ => return Err(Other::Malformed("it names not exactly one verifier".into())),
        };
        demand(key.is_der(&der), "signer")
    }
}

#[derive(Deserialize)]
struct HashV2 {
    algorithm: String,
    digest: String,
}

impl HashV2 {
    fn is(&self, digest: &Sha256) -> Result<bool, Other> {
        Ok(self.digest()? == Some((*digest).into()))
    }

    /// The digest, when it is of an algorithm that counts.
    fn digest(&self) -> Result<Option<Digest>, Other> {
        let name = match self.algorithm.as_str() {
            "SHA2_256" => "sha256",
            "SHA2_384" => "sha384",
            "SHA2_512" => "sha512",
            _ => return Ok(None),
        };
        Ok(Digest::from_set(name, &hex::encode(base64(&self.digest)?)).and_then(Result::ok))
    }
}

fn hashedrekord_v2(text: &str, signed: &Signed<'_>, key: &Key<'_>) -> Result<(), Other> {
    #[derive(Deserialize)]
    struct Spec {
        #[serde(rename = "hashedRekordV002")]
        inner: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        data: HashV2,
        signature: SignatureV2,
    }
    let spec = json::read::<Body<Spec>>(text)?.spec.inner;
    demand(spec.data.digest()?.is_some_and(|digest| signed.has(&digest)), "content")?;
    spec.signature.is(signed, key)
}

fn dsse_v2(text: &str, signed: &Signed<'_>, key: &Key<'_>) -> Result<(), Other> {
    #[derive(Deserialize)]
    struct Spec {
        #[serde(rename = "dsseV002")]
        inner: Inner,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Inner {
        payload_hash: HashV2,
        signatures: Vec<SignatureV2>,
    }
    let spec = json::read::<Body<Spec>>(text)?.spec.inner;
    demand(spec.payload_hash.is(&Sha256::of(payload(signed)?.1))?, "payload")?;
    let [signature] = spec.signatures.as_slice() else { return Err(Other::About("number of signatures")) };
    signature.is(signed, key)
}

fn dsse_v1(text: &str, signed: &Signed<'_>, key: &Key<'_>) -> Result<(), Other> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        payload_hash: Hash,
        signatures: Vec<Sig>,
    }
    #[derive(Deserialize)]
    struct Sig {
        signature: String,
        verifier: String,
    }
    let spec = json::read::<Body<Spec>>(text)?.spec;
    // The envelope's own hash is of JSON as it was once uploaded, which nobody can write again.
    demand(spec.payload_hash.is(&Sha256::of(payload(signed)?.1)), "payload")?;
    let [signature] = spec.signatures.as_slice() else { return Err(Other::About("number of signatures")) };
    demand(base64(&signature.signature)? == signed.signature.bytes, "signature")?;
    demand(key.is_pem(&signature.verifier), "signer")
}

fn intoto_v1(text: &str, signed: &Signed<'_>, key: &Key<'_>) -> Result<(), Other> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        content: Logged,
        public_key: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Logged {
        hash: Hash,
        payload_hash: Option<Hash>,
    }
    let spec = json::read::<Body<Spec>>(text)?.spec;
    if let Some(hash) = &spec.content.payload_hash {
        demand(hash.is(&Sha256::of(payload(signed)?.1)), "payload")?;
    }
    // This kind names the signature by the hash of the uploaded envelope only.
    demand(is_uploaded(signed, &spec.content.hash), "envelope")?;
    demand(key.is_pem(&spec.public_key), "signer")
}

/// Whether `hash` is of the signed envelope as a client uploaded it.
///
/// An attachment holds the bytes that were uploaded; a bundle holds the envelope in some spelling of its own. The clients wrote
/// it either in the order of the Go structure or in canonical JSON. Each spelling here is made of exactly the verified
/// payload, its type and the signature, so no hash of another envelope can be met by one.
fn is_uploaded(signed: &Signed<'_>, hash: &Hash) -> bool {
    let Some(received) = signed.signature.envelope.as_deref() else { return false };
    hash.is(&Sha256::of(received))
        || spellings(signed, received)
            .is_some_and(|all| all.iter().any(|text| hash.is(&Sha256::of(text.as_bytes()))))
}

/// The envelope in each of the clients' spellings, with the `keyid` that it was received with.
fn spellings(signed: &Signed<'_>, received: &[u8]) -> Option<[String; 3]> {
    let Content::Payload { payload_type, bytes } = signed.content else { return None };
    let wire: crate::dsse::Wire = json::loose(std::str::from_utf8(received).ok()?).ok()?;
    let [signature] = wire.signatures.as_slice() else { return None };
    let quoted = |text: &str| serde_json::to_string(text).ok();
    let keyid = quoted(signature.keyid.as_deref().unwrap_or_default())?;
    let (sig, payload) = (STANDARD.encode(&signed.signature.bytes), STANDARD.encode(bytes));
    let payload_type = quoted(payload_type)?;
    let named = format!(r#"[{{"keyid":{keyid},"sig":"{sig}"}}]"#);
    Some([
        format!(r#"{{"payloadType":{payload_type},"payload":"{payload}","signatures":{named}}}"#),
        format!(r#"{{"payload":"{payload}","payloadType":{payload_type},"signatures":{named}}}"#),
        format!(r#"{{"payload":"{payload}","payloadType":{payload_type},"signatures":[{{"sig":"{sig}"}}]}}"#),
    ])
}

fn intoto_v2(text: &str, signed: &Signed<'_>, key: &Key<'_>) -> Result<(), Other> {
    #[derive(Deserialize)]
    struct Spec {
        content: Logged,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Logged {
        envelope: Envelope,
        payload_hash: Hash,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Envelope {
        payload: Option<String>,
        payload_type: String,
        signatures: Vec<Sig>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Sig {
        sig: String,
        public_key: String,
    }
    let content = json::read::<Body<Spec>>(text)?.spec.content;
    let (payload_type, bytes) = payload(signed)?;
    demand(content.payload_hash.is(&Sha256::of(bytes)), "payload")?;
    demand(content.envelope.payload_type == payload_type, "payload type")?;
    // The log leaves the payload out; where one is, it is encoded once or twice. The envelope's own hash is the client's word,
    // which the log never compared and which clients compute in different ways: payload, type, signature and signer are all of it.
    if let Some(payload) = &content.envelope.payload {
        let once = base64(payload)?;
        let twice = || std::str::from_utf8(&once).ok().and_then(|text| STANDARD.decode(text).ok());
        demand(once == bytes || twice().is_some_and(|twice| twice == bytes), "payload")?;
    }
    let [signature] = content.envelope.signatures.as_slice() else {
        return Err(Other::About("number of signatures"));
    };
    // Rekor writes the base64 of the base64.
    let once = base64(&signature.sig)?;
    let twice = std::str::from_utf8(&once).map_err(|e| Other::Malformed(e.to_string())).and_then(base64)?;
    demand(twice == signed.signature.bytes, "signature")?;
    demand(key.is_key_of(&signature.public_key), "signer")
}
