//! An attestation: an envelope whose form, statement and signatures were checked.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{
    digest::{Node, Sha256},
    dsse::{self, Envelope, within},
    json,
    key::{KeyId, KeyRing},
    limits::{MAX_ITEM, MAX_ITEMS},
    predicate::{self, Claim},
    refusal::Refusal,
    signer::{Signature, Signer},
    statement::{Statement, Subject},
    trust::Trust,
};

/// The facts of one envelope. Only [`verify`] makes one, and only the store reads one back
/// (under its seal), so holding one means that every check of this module was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// SHA-256 of the item's exact bytes.
    pub id: Sha256,
    /// SHA-256 of the signed payload.
    pub payload: Sha256,
    /// `predicateType`, byte for byte.
    pub predicate_type: String,
    /// What the statement is about.
    pub subjects: Vec<Subject>,
    /// The signatures that verified, one a signer, sorted; none means *unverified*.
    pub signatures: Vec<Signature>,
    /// The predicate in its normal form.
    pub claim: Claim,
}

impl Attestation {
    /// Whether a registered key or a trust root vouches for it.
    pub fn is_verified(&self) -> bool {
        !self.signatures.is_empty()
    }

    /// Who signed it.
    pub fn signers(&self) -> impl Iterator<Item = &Signer> {
        self.signatures.iter().map(|signature| &signature.signer)
    }

    /// The registered keys that signed it.
    pub fn keys(&self) -> Vec<KeyId> {
        self.signers().filter_map(Signer::key).collect()
    }

    /// Whether this registered key signed it.
    pub fn is_signed_by(&self, key: &KeyId) -> bool {
        self.signers().any(|signer| signer.key().as_ref() == Some(key))
    }

    /// Every node that a subject names, sorted, each once.
    pub fn subject_nodes(&self) -> Vec<Node> {
        let mut nodes: Vec<Node> = self.subjects.iter().flat_map(|s| s.digests.nodes()).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }
}

/// Splits a submission into items, each the exact bytes that [`verify`] takes and that the id is made of.
///
/// One document (an envelope or a bundle) is one item, as posted. The elements of a JSON array and the lines of
/// JSON Lines are items: their byte slice without the white space around them. An item may still be
/// malformed: that is [`verify`]'s to say, so that the batch around it goes in.
pub fn detect(bytes: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    let trimmed = bytes.trim_ascii();
    if trimmed.is_empty() {
        return Err(Refusal::Empty);
    }
    let items = if trimmed.starts_with(b"[") {
        elements(bytes)?
    } else if is_json(bytes) {
        vec![bytes]
    } else {
        lines(bytes)
    };
    if items.is_empty() {
        return Err(Refusal::Empty);
    }
    within("items of one submission", items.len(), MAX_ITEMS)?;
    Ok(items)
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// The elements of an array. Each is looked at for syntax only: equal keys and depth are found one by one.
fn elements(bytes: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    match serde_json::from_slice::<Vec<&RawValue>>(bytes) {
        Ok(elements) => Ok(elements.into_iter().map(|e| e.get().as_bytes()).collect()),
        // The strict reader finds the same fault and names its place.
        Err(e) => Err(Refusal::Json(json::check(bytes).err().unwrap_or_else(|| json::JsonError {
            fault: json::JsonFault::Syntax(e.to_string()),
            pointer: String::new(),
            line: e.line(),
            column: e.column(),
        }))),
    }
}

/// The lines of JSON Lines; the whole when no line is a JSON object by itself, so that the fault of a broken
/// document is told at its place.
fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let lines: Vec<&[u8]> =
        bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect();
    if lines.len() > 1 && lines.iter().any(|line| line.starts_with(b"{") && is_json(line)) {
        lines
    } else {
        vec![bytes]
    }
}

/// Verifies one item against every registered key and trust root, with no policy in sight.
///
/// 1. The size.
/// 2. Strict JSON.
/// 3. The form: a DSSE envelope, or a bundle with a key hint, of an in-toto payload type.
/// 4. The signatures, each over the PAE of the exact payload bytes.
/// 5. The payload as strict JSON.
/// 6. The statement and its subjects.
/// 7. The predicate.
///
/// Signers are the registered keys under which a signature verified, each once, sorted. No signer means
/// *unverified*: well-formed, but nobody known vouches for it. A signature that names a registered key and does
/// not verify under it refuses the item; such a name never gives trust.
pub fn verify(item: &[u8], trust: &Trust) -> Result<Attestation, Refusal> {
    if item.len() > MAX_ITEM {
        return Err(Refusal::TooLarge { what: "an attestation", size: item.len(), limit: MAX_ITEM });
    }
    let text = json::check(item).map_err(Refusal::Json)?;
    let envelope = open(text)?;
    let signers = signers(&envelope, trust.keys())?;
    let payload = json::check(&envelope.payload).map_err(Refusal::Payload)?;
    let statement = Statement::read(payload)?;
    let claim = predicate::read(payload, &statement)?;
    Ok(Attestation {
        id: Sha256::of(item),
        payload: Sha256::of(&envelope.payload),
        predicate_type: statement.predicate_type,
        subjects: statement.subjects,
        signatures: signers.into_iter().map(Signature::by_key).collect(),
        claim,
    })
}

/// The exact signed payload of an item that was verified before: what the log shows and the web pages draw.
pub fn payload(item: &[u8]) -> Result<Vec<u8>, Refusal> {
    let text = json::check(item).map_err(Refusal::Json)?;
    Ok(open(text)?.payload)
}

/// What tells the forms apart: which members the document has. Their values are read after that.
#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "dsseEnvelope")]
    dsse_envelope: Option<IgnoredAny>,
    #[serde(rename = "messageSignature")]
    message_signature: Option<IgnoredAny>,
    payload: Option<IgnoredAny>,
    #[serde(rename = "_type")]
    statement_type: Option<IgnoredAny>,
}

/// Reads the envelope out of whichever form the item has.
fn open(text: &str) -> Result<Envelope, Refusal> {
    let shape: Shape = json::read(text).map_err(Refusal::Json)?;
    if shape.message_signature.is_some() {
        return Err(Refusal::UnsupportedForm { form: "a bundle that signs a blob, not a statement" });
    }
    if shape.dsse_envelope.is_some() {
        return open_bundle(text);
    }
    if shape.statement_type.is_some() && shape.payload.is_none() {
        return Err(Refusal::Unsigned);
    }
    Envelope::from_wire(json::read(text).map_err(Refusal::Json)?, "")
}

/// A Sigstore bundle v0.3 that was signed with a key. Log entries and timestamps in it are not looked at:
/// they cannot add trust to a registered key, only time, which this release takes from its own log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: dsse::Wire,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Material {
    public_key: Option<Hint>,
    certificate: Option<IgnoredAny>,
    x509_certificate_chain: Option<IgnoredAny>,
    #[serde(rename = "tlogEntries")]
    _tlog_entries: Option<IgnoredAny>,
    #[serde(rename = "timestampVerificationData")]
    _timestamps: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hint {
    #[serde(default)]
    hint: String,
}

fn open_bundle(text: &str) -> Result<Envelope, Refusal> {
    let bundle: Bundle = json::read(text).map_err(Refusal::Json)?;
    if !bundle.media_type.starts_with("application/vnd.dev.sigstore.bundle") {
        return Err(Refusal::UnsupportedForm { form: "a bundle of an unknown media type" });
    }
    let material = bundle.verification_material;
    if material.certificate.is_some() || material.x509_certificate_chain.is_some() {
        return Err(Refusal::UnsupportedForm { form: "a keyless bundle, signed with a certificate" });
    }
    let Some(Hint { hint }) = material.public_key else {
        return Err(Refusal::UnsupportedForm { form: "a bundle without `publicKey`" });
    };
    let mut envelope = Envelope::from_wire(bundle.dsse_envelope, "/dsseEnvelope")?;
    // Two signatures under one hint would leave open which one the hint is about (E06).
    let count = envelope.signatures.len();
    let [signature] = envelope.signatures.as_mut_slice() else {
        return Err(Refusal::SignatureCount { count });
    };
    if signature.keyid.is_none() {
        signature.keyid = Some(hint).filter(|hint| !hint.is_empty());
    }
    Ok(envelope)
}

/// The registered keys whose signature over this envelope verifies: the one that it names first, else all.
fn signers(envelope: &Envelope, keys: &KeyRing) -> Result<BTreeSet<KeyId>, Refusal> {
    let message = envelope.message();
    let mut signers = BTreeSet::new();
    for (position, signature) in envelope.signatures.iter().enumerate() {
        match signature.keyid.as_deref().and_then(|keyid| keys.named(keyid)) {
            Some(named) if named.verify(&message, &signature.bytes) => {
                signers.insert(named.id());
            }
            Some(named) => return Err(Refusal::SignatureInvalid { position, key: named.id() }),
            None => {
                let signer = keys.iter().find(|key| key.verify(&message, &signature.bytes));
                signers.extend(signer.map(|key| key.id()));
            }
        }
    }
    Ok(signers)
}
