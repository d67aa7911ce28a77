//! Sigstore bundles, built in stages that a test can step into.
//!
//! Signature, entry body, log entry, timestamp and JSON come in this order, and each hook sees one stage: a
//! changed body is logged, promised and proven as it is; a changed entry goes into the bundle as it is.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Authority,
    entry::{Kind, Signed},
    leaf::Leaf,
    rekor::{Entry, Rekor},
    tsa::{Token, Tsa},
    witness::Witness,
};
use crate::{
    dsse::{self, Envelope},
    key::Key,
    sha256_hex,
};

/// The bundle format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A certificate chain and a promise.
    V01,
    /// A certificate chain and a proof.
    V02,
    /// One certificate and a proof.
    V03,
    /// As v0.3, with the media type spelled like the older ones.
    V03Parameter,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::V01, Self::V02, Self::V03, Self::V03Parameter];

    /// `mediaType`.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::V01 => "application/vnd.dev.sigstore.bundle+json;version=0.1",
            Self::V02 => "application/vnd.dev.sigstore.bundle+json;version=0.2",
            Self::V03 => "application/vnd.dev.sigstore.bundle.v0.3+json",
            Self::V03Parameter => "application/vnd.dev.sigstore.bundle+json;version=0.3",
        }
    }

    fn has_chain(self) -> bool {
        matches!(self, Self::V01 | Self::V02)
    }
}

/// What is signed.
#[derive(Debug, Clone)]
pub enum Content {
    /// A statement in an envelope; the signatures are made when the bundle is.
    Dsse(Envelope),
    /// A file.
    Message(Vec<u8>),
}

/// Who signs.
#[derive(Debug, Clone)]
pub enum Signer {
    /// The key of a certificate.
    Leaf(Box<Leaf>),
    /// A managed key under a hint.
    Key(Key, String),
}

impl Signer {
    /// The private key.
    pub fn key(&self) -> &Key {
        match self {
            Self::Leaf(leaf) => leaf.key(),
            Self::Key(key, _) => key,
        }
    }
}

type Hook<'a, T> = Box<dyn Fn(&mut T) + 'a>;

/// A timestamp that the bundle shall have.
struct Stamp<'a> {
    tsa: Tsa,
    time: i64,
    edit: Hook<'a, Token>,
}

/// A bundle that is being made.
pub struct BundleBuilder<'a> {
    pub(super) authority: &'a Authority,
    pub(super) signer: Signer,
    pub(super) content: Content,
    version: Version,
    pub(super) kinds: Vec<Kind>,
    logs: (Rekor, Rekor),
    pub(super) time: i64,
    promise: bool,
    proof: bool,
    stamps: Vec<Stamp<'a>>,
    signature: Option<Vec<u8>>,
    body: Vec<Hook<'a, Value>>,
    entry: Vec<Hook<'a, Entry>>,
    envelope: Vec<Hook<'a, Envelope>>,
    json: Vec<Hook<'a, Value>>,
}

impl fmt::Debug for BundleBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BundleBuilder({:?}, {:?}, {} timestamps)", self.version, self.kinds, self.stamps.len())
    }
}

impl<'a> BundleBuilder<'a> {
    pub(super) fn new(authority: &'a Authority, signer: Signer, content: Content) -> Self {
        let time = match &signer {
            Signer::Leaf(leaf) => leaf.not_before + 5,
            Signer::Key(..) => authority.now + 5,
        };
        let kind = match content {
            Content::Dsse(_) => Kind::DsseV1,
            Content::Message(_) => Kind::HashedRekordV1,
        };
        Self {
            authority,
            signer,
            content,
            version: Version::V03,
            kinds: vec![kind],
            logs: (authority.rekor.clone(), authority.rekor_v2.clone()),
            time,
            promise: true,
            proof: true,
            stamps: Vec::new(),
            signature: None,
            body: Vec::new(),
            entry: Vec::new(),
            envelope: Vec::new(),
            json: Vec::new(),
        }
    }

    /// The bundle format.
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// The one kind of log entry.
    pub fn entry(self, kind: Kind) -> Self {
        self.entries(&[kind])
    }

    /// Several log entries, or none.
    pub fn entries(mut self, kinds: &[Kind]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// When the log takes the entry in (v1), and when timestamps are made.
    pub fn at(mut self, time: i64) -> Self {
        self.time = time;
        self
    }

    /// Logged by another log of the same generation, in place of the authority's.
    pub fn logged_by(mut self, log: &Rekor) -> Self {
        match log.generation {
            super::rekor::Generation::V1 => self.logs.0 = log.clone(),
            super::rekor::Generation::V2 => self.logs.1 = log.clone(),
        }
        self
    }

    /// Leaves the promise out.
    pub fn without_promise(mut self) -> Self {
        self.promise = false;
        self
    }

    /// Leaves the proof out.
    pub fn without_proof(mut self) -> Self {
        self.proof = false;
        self
    }

    /// Every checkpoint is cosigned by this witness.
    pub fn cosigned_by(self, witness: &Witness, time: i64) -> Self {
        let witness = witness.clone();
        self.edit_checkpoint(move |checkpoint| *checkpoint = witness.cosign(checkpoint, time))
    }

    /// Changes every checkpoint after the log signed it.
    pub fn edit_checkpoint(self, edit: impl Fn(&mut String) + 'a) -> Self {
        self.edit_entry(move |entry| entry.proof.iter_mut().for_each(|proof| edit(&mut proof.checkpoint)))
    }

    /// Adds a timestamp by the authority.
    pub fn timestamp(self) -> Self {
        let time = self.time;
        self.timestamp_at(time)
    }

    /// Adds a timestamp of another time.
    pub fn timestamp_at(self, time: i64) -> Self {
        let tsa = self.authority.tsa.clone();
        self.timestamp_by(&tsa, time)
    }

    /// Adds a timestamp by any authority.
    pub fn timestamp_by(self, tsa: &Tsa, time: i64) -> Self {
        self.timestamp_edited(tsa, time, |_| {})
    }

    /// Adds a timestamp that is changed before it is signed.
    pub fn timestamp_edited(mut self, tsa: &Tsa, time: i64, edit: impl Fn(&mut Token) + 'a) -> Self {
        self.stamps.push(Stamp { tsa: tsa.clone(), time, edit: Box::new(edit) });
        self
    }

    /// Uses this signature instead of making one. Everything after it is consistent with it.
    pub fn signature(mut self, signature: &[u8]) -> Self {
        self.signature = Some(signature.to_vec());
        self
    }

    /// Changes the body before it is logged: promise and proof are over the changed one.
    pub fn edit_body(mut self, edit: impl Fn(&mut Value) + 'a) -> Self {
        self.body.push(Box::new(edit));
        self
    }

    /// Changes the log entry before it goes into the bundle.
    pub fn edit_entry(mut self, edit: impl Fn(&mut Entry) + 'a) -> Self {
        self.entry.push(Box::new(edit));
        self
    }

    /// Changes the envelope after signature, log entry and timestamp were made.
    pub fn edit_envelope(mut self, edit: impl Fn(&mut Envelope) + 'a) -> Self {
        self.envelope.push(Box::new(edit));
        self
    }

    /// Changes the finished bundle.
    pub fn edit_json(mut self, edit: impl Fn(&mut Value) + 'a) -> Self {
        self.json.push(Box::new(edit));
        self
    }

    /// Everything that is in the bundle, before JSON.
    pub fn parts(&self) -> Parts {
        let signed = self.sign();
        let entries = self.kinds.iter().map(|&kind| self.log(kind, &signed)).collect();
        let timestamps = self
            .stamps
            .iter()
            .map(|stamp| {
                let mut token = stamp.tsa.token(&signed.signature, stamp.time);
                (stamp.edit)(&mut token);
                token.to_der()
            })
            .collect();
        Parts { signed, entries, timestamps }
    }

    fn sign(&self) -> Signed {
        let key = self.signer.key();
        let message = match &self.content {
            Content::Dsse(envelope) => envelope.pae(),
            Content::Message(bytes) => bytes.clone(),
        };
        let signature = self.signature.clone().unwrap_or_else(|| key.sign(&message));
        let envelope = match &self.content {
            Content::Dsse(envelope) => Some(envelope.clone().with_signature(None, &signature)),
            Content::Message(_) => None,
        };
        let certificate = match &self.signer {
            Signer::Leaf(leaf) => Some(leaf.der().to_vec()),
            Signer::Key(..) => None,
        };
        Signed { message, signature, envelope, certificate, key: key.clone() }
    }

    fn log(&self, kind: Kind, signed: &Signed) -> Entry {
        let mut body = signed.body(kind);
        self.body.iter().for_each(|edit| edit(&mut body));
        let log = if kind.is_v2() { &self.logs.1 } else { &self.logs.0 };
        let (name, version) = kind.names();
        let mut entry = log.log(name, version, body.to_string().as_bytes(), self.time);
        if !self.promise {
            entry.promise = None;
        }
        if !self.proof {
            entry.proof = None;
        }
        self.entry.iter().for_each(|edit| edit(&mut entry));
        entry
    }

    pub(super) fn edited(&self, envelope: &Envelope) -> Envelope {
        let mut envelope = envelope.clone();
        self.envelope.iter().for_each(|edit| edit(&mut envelope));
        envelope
    }

    /// The bundle's value.
    pub fn to_value(&self) -> Value {
        let parts = self.parts();
        let raw = |der: &[u8]| json!({"rawBytes": STANDARD.encode(der)});
        let mut material = json!({
            "tlogEntries": parts.entries.iter().map(Entry::to_value).collect::<Vec<_>>(),
        });
        match &self.signer {
            Signer::Leaf(leaf) if self.version.has_chain() => {
                // The root stays at home, as in the wild.
                let chain = leaf.chain.iter().take(leaf.chain.len().saturating_sub(1));
                let all: Vec<Value> =
                    std::iter::once(leaf.der()).chain(chain.map(Vec::as_slice)).map(raw).collect();
                material["x509CertificateChain"] = json!({"certificates": all});
            }
            Signer::Leaf(leaf) => material["certificate"] = raw(leaf.der()),
            Signer::Key(_, hint) => material["publicKey"] = json!({"hint": hint}),
        }
        if !parts.timestamps.is_empty() {
            let all: Vec<Value> = parts
                .timestamps
                .iter()
                .map(|token| json!({"signedTimestamp": STANDARD.encode(token)}))
                .collect();
            material["timestampVerificationData"] = json!({"rfc3161Timestamps": all});
        }
        let mut bundle = json!({"mediaType": self.version.media_type(), "verificationMaterial": material});
        match &parts.signed.envelope {
            Some(envelope) => {
                bundle["dsseEnvelope"] = self.edited(envelope).to_value();
            }
            None => {
                let digest = hex::decode(sha256_hex(&parts.signed.message)).expect("it is hex");
                bundle["messageSignature"] = json!({
                    "messageDigest": {"algorithm": "SHA2_256", "digest": STANDARD.encode(digest)},
                    "signature": STANDARD.encode(&parts.signed.signature),
                });
            }
        }
        self.json.iter().for_each(|edit| edit(&mut bundle));
        bundle
    }

    /// The bundle's text.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }
}

/// What a bundle is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The signature and what it is over.
    pub signed: Signed,
    /// Log entries.
    pub entries: Vec<Entry>,
    /// Timestamp responses.
    pub timestamps: Vec<Vec<u8>>,
}

/// An unsigned envelope around a statement.
pub(super) fn statement(text: &str) -> Content {
    Content::Dsse(Envelope::new(dsse::IN_TOTO, text))
}
