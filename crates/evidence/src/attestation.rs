//! An attestation: an envelope whose form, statement and signatures were checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    digest::{Digest, Node, Sha256},
    dsse,
    form::{self, Artifact, Content, Opened, Over, Unverified},
    json,
    key::{KeyId, KeyRing, PublicKey},
    keyless, layout,
    limits::{MAX_ITEM, MAX_TEXT},
    mention::Mention,
    predicate::{self, Claim},
    refusal::Refusal,
    signer::{Signature, Signer},
    statement::{DigestSet, Statement, Subject},
    trust::Trust,
};

pub use crate::form::detect;

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
    /// Why nothing vouches for it, when more is known than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
    /// What it says about packages and vulnerabilities. No fact that a verdict reads: there when the bytes were just verified,
    /// kept in rows of their own.
    #[serde(skip)]
    pub mentions: Vec<Mention>,
}

/// The predicate type of a signature over an artifact itself, without a statement.
pub const ARTIFACT_SIGNATURE: &str = "urn:catenary:predicate:artifact-signature:v1";

/// Signed documents that are no statements: kept and browsable, about no subject.
const DOCUMENTS: [&str; 2] =
    ["https://witness.testifysec.com/policy/v0.1", "https://witness.dev/policy/v0.1"];

/// What an unverified attestation lacks. Trust that is added later may make up for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Stable code, see [`keyless::Fault::code`].
    pub code: String,
    /// In words.
    pub message: String,
}

impl From<keyless::Fault> for Doubt {
    fn from(fault: keyless::Fault) -> Self {
        Self { code: fault.code().to_owned(), message: fault.to_string() }
    }
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
    verified(item, open(item)?, trust)
}

/// The same with an artifact at hand: some signatures are over its bytes and not over a digest (Ed25519), and a message
/// signature need not say what it signs. What has a statement, or is about another artifact, is as without.
pub fn verify_with(item: &[u8], artifact: &Artifact, trust: &Trust) -> Result<Attestation, Refusal> {
    verified(item, open(item)?.with(artifact), trust)
}

fn open(item: &[u8]) -> Result<Opened, Refusal> {
    if item.len() > MAX_ITEM {
        return Err(Refusal::TooLarge { what: "an attestation", size: item.len(), limit: MAX_ITEM });
    }
    let text = json::check(item).map_err(Refusal::Json)?;
    form::open(text)
}

fn verified(item: &[u8], opened: Opened, trust: &Trust) -> Result<Attestation, Refusal> {
    let about = About::read(&opened.content)?;
    let (signatures, doubt) = signatures(&opened, trust)?;
    Ok(Attestation {
        id: Sha256::of(item),
        payload: about.payload,
        predicate_type: about.predicate_type,
        subjects: about.subjects,
        signatures,
        claim: about.claim,
        doubt,
        mentions: about.mentions,
    })
}

/// The exact signed payload of an item that was verified before: what the log shows and the web pages draw. A
/// signature over an artifact has none.
pub fn payload(item: &[u8]) -> Result<Vec<u8>, Refusal> {
    let text = json::check(item).map_err(Refusal::Json)?;
    match form::open(text)?.content {
        Content::Payload { bytes, .. } => Ok(bytes),
        Content::Digest(_) | Content::Unnamed | Content::Artifact { .. } => Ok(Vec::new()),
    }
}

/// What the content says.
struct About {
    payload: Sha256,
    predicate_type: String,
    subjects: Vec<Subject>,
    claim: Claim,
    mentions: Vec<Mention>,
}

impl About {
    fn read(content: &Content) -> Result<Self, Refusal> {
        match content {
            Content::Payload { payload_type, bytes } if dsse::is_in_toto(payload_type) => {
                Self::statement(bytes)
            }
            Content::Payload { payload_type, bytes } if payload_type == form::METABLOCK => {
                let text = layout::readable(bytes);
                match layout::kind(&text) {
                    Some(kind) => Self::metadata(kind, &text, bytes),
                    None => Err(Refusal::PayloadType { found: "in-toto metadata of another type".into() }),
                }
            }
            Content::Payload { payload_type, bytes } if payload_type == form::GITTUF => Self::gittuf(bytes),
            Content::Payload { payload_type, bytes } if payload_type == form::SIMPLE_SIGNING => {
                Self::simple_signing(bytes)
            }
            Content::Payload { payload_type, bytes } if DOCUMENTS.contains(&payload_type.as_str()) => {
                json::check(bytes).map_err(Refusal::Payload)?;
                Ok(Self {
                    payload: Sha256::of(bytes),
                    predicate_type: payload_type.clone(),
                    subjects: Vec::new(),
                    claim: Claim::Other,
                    mentions: Vec::new(),
                })
            }
            Content::Payload { payload_type, bytes } => match predicate::bare_sbom(payload_type) {
                Some(unread) => Self::document(payload_type, bytes, unread),
                None => Err(Refusal::PayloadType { found: json::shorten(payload_type).into_owned() }),
            },
            Content::Digest(digest) | Content::Artifact { digest, .. } => {
                Ok(Self::artifact(*digest, Sha256::of(digest.to_string().as_bytes())))
            }
            Content::Unnamed => {
                Err(Refusal::UnsupportedForm { form: "a message signature that does not say what it signs" })
            }
        }
    }

    fn statement(bytes: &[u8]) -> Result<Self, Refusal> {
        let payload = json::check(bytes).map_err(Refusal::Payload)?;
        let statement = match Statement::read(payload) {
            Ok(statement) => statement,
            // A layout or a link, perhaps.
            Err(refusal) => {
                let kind = layout::kind(payload).ok_or(refusal)?;
                return Self::metadata(kind, payload, bytes);
            }
        };
        let (claim, mentions) = predicate::read(payload, &statement)?;
        let Statement { predicate_type, subjects, .. } = statement;
        Ok(Self { payload: Sha256::of(bytes), predicate_type, subjects, claim, mentions })
    }

    /// A layout or a link, in an envelope or a metablock.
    fn metadata(kind: &str, text: &str, bytes: &[u8]) -> Result<Self, Refusal> {
        let layout::Metadata { predicate_type, subjects, claim } = layout::read(kind, text, bytes)?;
        let (payload, predicate_type) = (Sha256::of(bytes), predicate_type.to_owned());
        Ok(Self { payload, predicate_type, subjects, claim, mentions: Vec::new() })
    }

    /// gittuf's statements (members `type`, `predicate_type`) and its metadata, which is about no subject.
    fn gittuf(bytes: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Payload {
            predicate_type: Option<String>,
            #[serde(rename = "type")]
            kind: Option<String>,
            #[serde(default)]
            subject: Vec<WireSubject>,
        }
        #[derive(Deserialize)]
        struct WireSubject {
            #[serde(default)]
            digest: BTreeMap<String, String>,
        }
        let text = json::check(bytes).map_err(Refusal::Payload)?;
        let payload: Payload = json::read(text).map_err(Refusal::Payload)?;
        let mut subjects = Vec::new();
        for (position, subject) in payload.subject.into_iter().enumerate() {
            let digests = DigestSet::read(&subject.digest, false, &format!("/subject/{position}/digest"))?;
            subjects.push(Subject { digests, ..Subject::default() });
        }
        let kind = payload.predicate_type.or(payload.kind).unwrap_or_else(|| form::GITTUF.to_owned());
        Ok(Self {
            payload: Sha256::of(bytes),
            predicate_type: json::shorten(&kind).into_owned(),
            subjects,
            claim: Claim::Other,
            mentions: Vec::new(),
        })
    }

    /// What `cosign sign` signs: the manifest's digest, and a name that nobody checked.
    fn simple_signing(bytes: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Payload {
            critical: Critical,
        }
        #[derive(Deserialize)]
        struct Critical {
            image: Image,
            #[serde(rename = "type")]
            kind: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Image {
            docker_manifest_digest: Digest,
        }
        let text = json::check(bytes).map_err(Refusal::Payload)?;
        let critical = json::read::<Payload>(text).map_err(Refusal::Payload)?.critical;
        if critical.kind != "cosign container image signature" {
            return Err(Refusal::PayloadType { found: json::shorten(&critical.kind).into_owned() });
        }
        Ok(Self::artifact(critical.image.docker_manifest_digest, Sha256::of(bytes)))
    }

    /// A signed bill of materials by itself: kept, about no subject.
    fn document(payload_type: &str, bytes: &[u8], unread: predicate::Unread) -> Result<Self, Refusal> {
        if payload_type.len() > MAX_TEXT {
            return Err(Refusal::TooLarge {
                what: "a payload type",
                size: payload_type.len(),
                limit: MAX_TEXT,
            });
        }
        if payload_type.contains("+json") {
            json::check(bytes).map_err(Refusal::Payload)?;
        }
        Ok(Self {
            payload: Sha256::of(bytes),
            predicate_type: payload_type.to_owned(),
            subjects: Vec::new(),
            claim: Claim::Unread(unread),
            mentions: Vec::new(),
        })
    }

    fn artifact(digest: Digest, payload: Sha256) -> Self {
        let digests = DigestSet { content: vec![digest], ..DigestSet::default() };
        Self {
            payload,
            predicate_type: ARTIFACT_SIGNATURE.to_owned(),
            subjects: vec![Subject { digests, ..Subject::default() }],
            claim: Claim::Other,
            mentions: Vec::new(),
        }
    }
}

/// The signatures that verified, and what kept others from it.
fn signatures(opened: &Opened, trust: &Trust) -> Result<(Vec<Signature>, Option<Doubt>), Refusal> {
    let mut verified: BTreeMap<Signer, Signature> = BTreeMap::new();
    let mut doubt = None;
    for (position, signature) in opened.signatures.iter().enumerate() {
        let certified = signature.material.as_ref().is_some_and(|material| !material.certificates.is_empty());
        let found = match certified {
            true => by_certificate(position, &opened.content, signature, trust)?,
            false => by_key(position, &opened.content, signature, trust)?,
        };
        match found {
            Ok(signature) => {
                // The tightest time of two signatures by one signer.
                let tighter = |other: &Signature| {
                    signature.signed_before.is_some_and(|t| other.signed_before.is_none_or(|o| t < o))
                };
                if verified.get(&signature.signer).is_none_or(tighter) {
                    verified.insert(signature.signer.clone(), signature);
                }
            }
            Err(why) => doubt = doubt.or(why),
        }
    }
    let doubt = doubt.filter(|_| verified.is_empty());
    Ok((verified.into_values().collect(), doubt))
}

/// Verified, or not verified yet.
type Found = Result<Signature, Option<Doubt>>;

/// Each trust domain by itself. Broken in one and verified in another is verified: two domains may know one authority. What no
/// domain knows is open, and what a domain that knows the authority finds broken is refused.
fn by_certificate(
    position: usize,
    content: &Content,
    signature: &Unverified,
    trust: &Trust,
) -> Result<Found, Refusal> {
    let (mut open, mut broken) = (None, None);
    let witnesses = trust.witnesses();
    for domain in trust.domains() {
        match keyless::verify(content, signature, domain, &witnesses) {
            Ok(signature) => return Ok(Ok(signature)),
            Err(fault @ keyless::Fault::UnknownAuthority { .. }) => open = open.or(Some(fault)),
            // The domain knows the authority: what it misses says more than that others are strangers.
            Err(fault) if fault.is_open() => open = Some(fault),
            Err(fault) => broken = broken.or(Some(fault)),
        }
    }
    match broken {
        Some(fault) => Err(Refusal::Certificate { position, fault }),
        None => {
            if trust.domains().is_empty() {
                let leaf = signature.material.as_ref().and_then(|m| m.certificates.first());
                let read = keyless::Certificate::read(leaf.map(Vec::as_slice).unwrap_or_default());
                read.map_err(|fault| Refusal::Certificate { position, fault })?;
            }
            Ok(Err(open.map(Doubt::from)))
        }
    }
}

/// The registered key that the signature names, else any whose signature it is.
fn by_key(
    position: usize,
    content: &Content,
    signature: &Unverified,
    trust: &Trust,
) -> Result<Found, Refusal> {
    let keys = trust.keys();
    if signature.over == Over::Ssh {
        return Ok(match ssh(content, signature, keys)? {
            Some(key) => Ok(Signature::by_key(key)),
            None => Err(None),
        });
    }
    #[cfg(feature = "gpg")]
    if signature.over == Over::Openpgp {
        return openpgp(position, content, signature, keys);
    }
    let key = match signature.keyid.as_deref().and_then(|keyid| keys.named(keyid)) {
        Some(named) if made(named, content, signature) => Some(named),
        Some(named) => return Err(Refusal::SignatureInvalid { position, key: named.id() }),
        None => keys.iter().find(|key| made(key, content, signature)),
    };
    let Some(key) = key else { return Ok(Err(None)) };
    // An entry of another signature is one whoever knows its log.
    keyless::entries_are_about(content, signature, key.spki())
        .map_err(|fault| Refusal::Certificate { position, fault })?;
    let (mut found, mut broken) = (Signature::by_key(key.id()), None);
    let witnesses = trust.witnesses();
    for domain in trust.domains() {
        match keyless::prove_key(content, signature, key.spki(), domain, &witnesses) {
            Ok(proven) => {
                found.signed_before = proven.times.into_iter().chain(found.signed_before).min();
                found.logged = found.logged.max(proven.logged);
                found.vouchers.extend(proven.vouchers);
                found.cosigned.extend(proven.cosigned);
            }
            // Logs and timestamp authorities that nobody knows add nothing to the key.
            Err(fault) if fault.is_open() => {}
            // Two domains may know one authority, in different windows.
            Err(fault @ keyless::Fault::Timestamp { .. }) => broken = broken.or(Some(fault)),
            Err(fault) => return Err(Refusal::Certificate { position, fault }),
        }
    }
    if let Some(fault) = broken.filter(|_| found.signed_before.is_none()) {
        return Err(Refusal::Certificate { position, fault });
    }
    found.vouchers.sort();
    found.vouchers.dedup();
    found.cosigned.sort();
    found.cosigned.dedup();
    Ok(Ok(found))
}

/// Whether the key made the signature over what its form says is signed.
fn made(key: &PublicKey, content: &Content, signature: &Unverified) -> bool {
    let bytes = &signature.bytes;
    match (content, signature.over) {
        (Content::Payload { payload_type, bytes: payload }, Over::Pae) => {
            key.verify(&dsse::pae(payload_type, payload), bytes)
        }
        (Content::Payload { bytes: payload, .. }, Over::Raw) => key.verify(payload, bytes),
        (Content::Payload { payload_type, bytes: payload }, Over::PaeOrRaw) => {
            key.verify(&dsse::pae(payload_type, payload), bytes) || key.verify(payload, bytes)
        }
        (Content::Digest(digest), Over::Digest) => key.verify_prehashed(digest, bytes),
        (Content::Artifact { bytes: artifact, .. }, Over::Digest) => key.verify(artifact, bytes),
        _ => false,
    }
}

/// in-toto signs canonical JSON with OpenPGP keys, too. The fact says when the key, or the subkey that signed, expires: who
/// steals it later can write any time into the signature.
#[cfg(feature = "gpg")]
fn openpgp(
    position: usize,
    content: &Content,
    signature: &Unverified,
    keys: &KeyRing,
) -> Result<Found, Refusal> {
    let Content::Payload { bytes, .. } = content else { return Ok(Err(None)) };
    let found = crate::openpgp::verify_packet(&signature.bytes, signature.keyid.as_deref(), bytes, keys);
    let Some(made) = found.map_err(|key| Refusal::SignatureInvalid { position, key })? else {
        return Ok(Err(None));
    };
    let mut found = Signature::by_key(made.key);
    found.expires = made.until.and_then(|until| jiff::Timestamp::from_second(until.into()).ok());
    Ok(Ok(found))
}

/// gittuf signs the pre-authentication encoding as git signs commits.
fn ssh(content: &Content, signature: &Unverified, keys: &KeyRing) -> Result<Option<KeyId>, Refusal> {
    let Content::Payload { payload_type, bytes } = content else { return Ok(None) };
    let Ok(armour) = std::str::from_utf8(&signature.bytes) else { return Ok(None) };
    crate::object::verify_ssh(armour, &dsse::pae(payload_type, bytes), keys)
}
