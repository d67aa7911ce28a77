//! Listed attacks on bundles: each makes exactly one thing wrong.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    BundleBuilder, Kind, Window,
    bundle::{Content, Signer},
    leaf::LIFETIME,
    rekor::{Entry, Generation, Proof, Rekor},
    trusted_root::TrustedRoot,
    tsa::Tsa,
    x509::oid,
};
use crate::{der, key::Key};

/// What is wrong with a bundle. See `attacks.json`'s ids in the comments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tamper {
    /// E01: one bit of the payload.
    PayloadBit,
    /// E02: another payload type.
    PayloadType,
    /// E04: no signatures.
    NoSignatures,
    /// E06: a good signature and a second one that is none.
    SecondSignature,
    /// E06 the other way round.
    SecondSignatureFirst,
    /// E15: `r` and `s` are zero; logged and stamped as such.
    ZeroSignature,
    /// E17: a byte after the signature's DER; logged and stamped as such.
    TrailingSignatureByte,
    /// E17: the signature's length in the long form; logged and stamped as such.
    LongFormSignature,
    /// E21: a public key where the certificate should be.
    KeyAsCertificate,
    /// T01: neither log entry nor timestamp.
    NoEntriesNoTimestamps,
    /// T02: a good entry of another signer's other statement.
    EntryOfAnother,
    /// T03: a good entry of the same certificate with another signature.
    EntryOfAnotherSignature,
    /// T06: an hour earlier than promised.
    BackdatedIntegratedTime,
    /// C05: promised for the second after the certificate's end.
    IntegratedAfterCertificate,
    /// Promised for the second before the certificate's start.
    IntegratedBeforeCertificate,
    /// Promised for a time that has not come.
    IntegratedInFuture,
    /// The promise is over another body.
    PromiseOverAnotherBody,
    /// The promise is another log's.
    PromiseByAnotherLog,
    /// The promise is cut short.
    PromiseTruncated,
    /// T08: v0.3 rewritten to v0.1, with the proof dropped.
    Downgraded,
    /// The media type is missing.
    NoMediaType,
    /// T09: a media type of the future.
    UnknownMediaType,
    /// T10: a good proof and checkpoint of another root.
    ProofOfAnotherRoot,
    /// The proof's root is not the checkpoint's.
    RootNotInCheckpoint,
    /// The checkpoint is another log's, over the right tree.
    CheckpointByAnotherLog,
    /// The checkpoint names the right log and key and is signed by another key.
    CheckpointForged,
    /// The checkpoint is over the right tree, by the other log of the trusted root.
    CheckpointBySibling,
    /// The checkpoint's signature has another key hint.
    WrongKeyHint,
    /// The checkpoint is signed for another size.
    CheckpointBit,
    /// T12: a negative index.
    NegativeIndex,
    /// T12: an index that is no tree's.
    IndexBeyondTree,
    /// T12: 2^63.
    HugeIndex,
    /// T12: not an integer.
    IndexText,
    /// T12: an empty tree.
    EmptyTree,
    /// T14: one hash too few.
    ProofTruncated,
    /// T14: one hash too many.
    ProofExtended,
    /// One bit of a hash.
    ProofBit,
    /// T17: a token over another signature.
    TokenOverAnotherSignature,
    /// T18: signed by a certificate without the usage; the good one is in the bag.
    TokenByWrongSigner,
    /// A token of an authority that nobody knows.
    TokenByUnknown,
    /// The token's signature is another key's.
    TokenForged,
    /// The token is signed over other content than it shows.
    TokenContentChanged,
    /// The token says that it was rejected.
    TokenRejected,
    /// A token from after the certificate's end.
    TokenAfterCertificate,
    /// T21: a good token and one from after the certificate's end.
    OneTokenOutside,
    /// T26: the entry is said to be of another kind.
    KindMismatch,
    /// T26: a kind that nobody knows.
    UnknownKind,
    /// The body is about another payload.
    BodyOfAnotherPayload,
    /// The body has another certificate.
    BodyOfAnotherCertificate,
    /// The body has another signature.
    BodyOfAnotherSignature,
    /// T27: the entry is a log's that the trusted root does not have.
    UnknownLog,
    /// The entry names a log that did not make it.
    WrongLogId,
}

impl Tamper {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::PayloadBit,
        Self::PayloadType,
        Self::NoSignatures,
        Self::SecondSignature,
        Self::SecondSignatureFirst,
        Self::ZeroSignature,
        Self::TrailingSignatureByte,
        Self::LongFormSignature,
        Self::KeyAsCertificate,
        Self::NoEntriesNoTimestamps,
        Self::EntryOfAnother,
        Self::EntryOfAnotherSignature,
        Self::BackdatedIntegratedTime,
        Self::IntegratedAfterCertificate,
        Self::IntegratedBeforeCertificate,
        Self::IntegratedInFuture,
        Self::PromiseOverAnotherBody,
        Self::PromiseByAnotherLog,
        Self::PromiseTruncated,
        Self::Downgraded,
        Self::NoMediaType,
        Self::UnknownMediaType,
        Self::ProofOfAnotherRoot,
        Self::RootNotInCheckpoint,
        Self::CheckpointByAnotherLog,
        Self::CheckpointForged,
        Self::CheckpointBySibling,
        Self::WrongKeyHint,
        Self::CheckpointBit,
        Self::NegativeIndex,
        Self::IndexBeyondTree,
        Self::HugeIndex,
        Self::IndexText,
        Self::EmptyTree,
        Self::ProofTruncated,
        Self::ProofExtended,
        Self::ProofBit,
        Self::TokenOverAnotherSignature,
        Self::TokenByWrongSigner,
        Self::TokenByUnknown,
        Self::TokenForged,
        Self::TokenContentChanged,
        Self::TokenRejected,
        Self::TokenAfterCertificate,
        Self::OneTokenOutside,
        Self::KindMismatch,
        Self::UnknownKind,
        Self::BodyOfAnotherPayload,
        Self::BodyOfAnotherCertificate,
        Self::BodyOfAnotherSignature,
        Self::UnknownLog,
        Self::WrongLogId,
    ];
}

impl Tamper {
    /// Whether a bundle with this entry has what the attack is on: an envelope, a promise.
    pub fn applies(self, kind: Kind, has_envelope: bool) -> bool {
        use Tamper::*;
        match self {
            PayloadBit | PayloadType | NoSignatures | SecondSignature | SecondSignatureFirst => has_envelope,
            BackdatedIntegratedTime
            | IntegratedAfterCertificate
            | IntegratedBeforeCertificate
            | IntegratedInFuture
            | PromiseOverAnotherBody
            | PromiseByAnotherLog
            | PromiseTruncated
            | Downgraded => !kind.is_v2(),
            BodyOfAnotherSignature => kind != Kind::IntotoV1,
            _ => true,
        }
    }
}

impl<'a> BundleBuilder<'a> {
    /// Makes this one thing wrong, if it [applies](Tamper::applies). Attacks on timestamps add the timestamp.
    pub fn tamper(self, tamper: Tamper) -> Self {
        let now = self.authority.now;
        let tsa = self.authority.tsa.clone();
        let v2 = self.kinds.first().is_some_and(|kind| kind.is_v2());
        let log = if v2 { &self.authority.rekor_v2 } else { &self.authority.rekor }.clone();
        let (start, end) = match &self.signer {
            Signer::Leaf(leaf) => (leaf.not_before, leaf.not_after),
            Signer::Key(..) => (now, now + LIFETIME),
        };
        let stranger = if v2 { Rekor::v2 } else { Rekor::v1 }("stranger", self.authority.window);
        match tamper {
            Tamper::PayloadBit => self.edit_envelope(|envelope| {
                // The last letter or digit, so that the payload stays JSON.
                let last = envelope.payload.iter().rposition(u8::is_ascii_alphanumeric);
                envelope.payload[last.unwrap_or(0)] ^= 1;
            }),
            Tamper::PayloadType => {
                self.edit_envelope(|envelope| envelope.payload_type = "application/json".into())
            }
            Tamper::NoSignatures => self.edit_envelope(|envelope| envelope.signatures.clear()),
            Tamper::SecondSignature => self.edit_envelope(|envelope| {
                let mut second = envelope.signatures[0].clone();
                second.sig[20] ^= 1;
                envelope.signatures.push(second);
            }),
            Tamper::SecondSignatureFirst => self.edit_envelope(|envelope| {
                let mut second = envelope.signatures[0].clone();
                second.sig[20] ^= 1;
                envelope.signatures.insert(0, second);
            }),
            Tamper::ZeroSignature => self.signature(&[0x30, 6, 2, 1, 0, 2, 1, 0]),
            Tamper::TrailingSignatureByte => {
                let signature = [&self.fresh_signature()[..], &[0]].concat();
                self.signature(&signature)
            }
            Tamper::LongFormSignature => {
                let signature = self.fresh_signature();
                self.signature(&[&[0x30, 0x81], &signature[1..]].concat())
            }
            Tamper::KeyAsCertificate => {
                let raw = json!({"rawBytes": STANDARD.encode(self.signer.key().spki_der())});
                self.edit_json(move |bundle| {
                    let material = &mut bundle["verificationMaterial"];
                    match material.get("certificate").is_some() {
                        true => material["certificate"] = raw.clone(),
                        false => material["x509CertificateChain"]["certificates"][0] = raw.clone(),
                    }
                })
            }
            Tamper::NoEntriesNoTimestamps => self.edit_json(|bundle| {
                bundle["verificationMaterial"]["tlogEntries"] = json!([]);
                bundle["verificationMaterial"]["timestampVerificationData"] = json!({});
            }),
            Tamper::EntryOfAnother => {
                let other = self.sibling(Key::p256("somebody else"), "{}");
                self.edit_entry(move |entry| *entry = other.clone())
            }
            Tamper::EntryOfAnotherSignature => {
                let other = self.again();
                self.edit_entry(move |entry| *entry = other.clone())
            }
            Tamper::BackdatedIntegratedTime => self.edit_entry(|entry| {
                entry.integrated_time = entry.integrated_time.map(|time| time - 3_600);
            }),
            Tamper::IntegratedAfterCertificate => self.at(end + 1),
            Tamper::IntegratedBeforeCertificate => self.at(start - 1),
            Tamper::IntegratedInFuture => self.edit_entry(move |entry| {
                let time = now + 50 * 365 * 86_400;
                entry.integrated_time = Some(time);
                entry.promise = Some(log.promise(&entry.body, time, entry.log_index));
            }),
            Tamper::PromiseOverAnotherBody => self.edit_entry(move |entry| {
                let time = entry.integrated_time.unwrap_or(now);
                entry.promise = Some(log.promise(b"{}", time, entry.log_index));
            }),
            Tamper::PromiseByAnotherLog => self.edit_entry(move |entry| {
                let signed = super::promised(
                    &entry.body,
                    entry.integrated_time.unwrap_or(now),
                    entry.log_index,
                    &entry.log_id,
                );
                entry.promise = Some(stranger.key.sign(signed.as_bytes()));
            }),
            Tamper::PromiseTruncated => self.edit_entry(|entry| {
                if let Some(promise) = &mut entry.promise {
                    promise.pop();
                }
            }),
            Tamper::Downgraded => self.without_proof().edit_json(|bundle| {
                bundle["mediaType"] = super::Version::V01.media_type().into();
            }),
            Tamper::NoMediaType => self.edit_json(|bundle| {
                bundle.as_object_mut().expect("a bundle is an object").remove("mediaType");
            }),
            Tamper::UnknownMediaType => self.edit_json(|bundle| {
                bundle["mediaType"] = "application/vnd.dev.sigstore.bundle.v9+json".into();
            }),
            // Another tree of the same log, with this size: the path leads elsewhere.
            Tamper::ProofOfAnotherRoot => self.edit_proof(move |proof| {
                proof.root[0] ^= 1;
                proof.checkpoint = log.checkpoint(proof.size, &proof.root);
            }),
            Tamper::RootNotInCheckpoint => self.edit_proof(move |proof| {
                let mut other = proof.root;
                other[0] ^= 1;
                proof.checkpoint = log.checkpoint(proof.size, &other);
            }),
            Tamper::CheckpointByAnotherLog => self.edit_proof(move |proof| {
                let text = body_of_note(&proof.checkpoint);
                proof.checkpoint = stranger.note(&text, &stranger.host, &stranger.id()[..4]);
            }),
            Tamper::CheckpointForged => self.edit_proof(move |proof| {
                let text = body_of_note(&proof.checkpoint);
                proof.checkpoint = stranger.note(&text, &log.host, &log.id()[..4]);
            }),
            Tamper::CheckpointBySibling => {
                let sibling = if v2 { &self.authority.rekor } else { &self.authority.rekor_v2 }.clone();
                self.edit_proof(move |proof| proof.checkpoint = sibling.checkpoint(proof.size, &proof.root))
            }
            Tamper::WrongKeyHint => self.edit_proof(move |proof| {
                let text = body_of_note(&proof.checkpoint);
                proof.checkpoint = log.note(&text, &log.host, &[1, 2, 3, 4]);
            }),
            Tamper::CheckpointBit => self.edit_proof(|proof| {
                proof.checkpoint = proof.checkpoint.replacen("rekor", "sekor", 1);
            }),
            Tamper::NegativeIndex => self.edit_index("-1"),
            Tamper::IndexBeyondTree => self.edit_entry(move |entry| {
                if let Some(proof) = &mut entry.proof {
                    proof.index = proof.size;
                    // Of a v2 entry this is the index that counts.
                    if v2 {
                        entry.log_index = proof.size;
                    }
                }
            }),
            Tamper::HugeIndex => self.edit_index("9223372036854775808"),
            Tamper::IndexText => self.edit_index("1e3"),
            Tamper::EmptyTree => self.edit_proof(move |proof| {
                proof.size = 0;
                proof.checkpoint = log.checkpoint(0, &proof.root);
            }),
            Tamper::ProofTruncated => self.edit_proof(|proof| {
                proof.hashes.pop();
            }),
            Tamper::ProofExtended => self.edit_proof(|proof| proof.hashes.push([7; 32])),
            Tamper::ProofBit => self.edit_proof(|proof| proof.hashes[0][31] ^= 1),
            Tamper::TokenOverAnotherSignature => self.timestamp_edited(&tsa, start + 5, |token| {
                token.message = b"another signature".to_vec();
            }),
            Tamper::TokenByWrongSigner => {
                let wrong = Tsa::signer(
                    &tsa.root,
                    "without the usage",
                    tsa.window.start,
                    tsa.window.end_or_ten_years(),
                    &[oid::SERVER_AUTH],
                    false,
                );
                let good = tsa.leaf.certificate.clone();
                self.timestamp_edited(&tsa, start + 5, move |token| {
                    token.signer = wrong.clone();
                    token.key = wrong.key.clone();
                    token.certificates = vec![wrong.certificate.clone(), good.clone()];
                })
            }
            Tamper::TokenByUnknown => {
                let unknown = Tsa::new("unknown", Window::from(tsa.window.start));
                self.timestamp_by(&unknown, start + 5)
            }
            Tamper::TokenForged => {
                self.timestamp_edited(&tsa, start + 5, |token| token.key = Key::p256("forger"))
            }
            Tamper::TokenContentChanged => {
                self.timestamp_edited(&tsa, start + 5, |token| token.message_digest = Some(vec![7; 32]))
            }
            Tamper::TokenRejected => self.timestamp_edited(&tsa, start + 5, |token| token.status = 2),
            Tamper::TokenAfterCertificate => self.timestamp_at(end + 1),
            Tamper::OneTokenOutside => self.timestamp_at(start + 5).timestamp_at(end + 1),
            Tamper::KindMismatch => self.edit_entry(|entry| {
                let other = if entry.kind == "hashedrekord" { "dsse" } else { "hashedrekord" };
                (entry.kind, entry.version) = (other.into(), "0.0.1".into());
            }),
            Tamper::UnknownKind => self.edit_entry(|entry| entry.kind = "mystery".into()),
            Tamper::BodyOfAnotherPayload => self.edit_body(|body| {
                each_text(body, &|name, text| {
                    if matches!(name, "value" | "digest") && text.len() >= 44 {
                        *text = match text.len() {
                            64 => "0".repeat(64),
                            _ => STANDARD.encode([0; 32]),
                        };
                    }
                });
            }),
            Tamper::BodyOfAnotherCertificate => {
                let other =
                    self.authority.leaf(&super::Claims::email("mallory@evil.test", "https://evil.test"));
                let other = other.key(&Key::p256("mallory")).issue();
                self.edit_body(move |body| {
                    each_text(body, &|name, text| match name {
                        "verifier" | "publicKey" => *text = STANDARD.encode(other.pem()),
                        "content" if text.starts_with("LS0t") => *text = STANDARD.encode(other.pem()),
                        "rawBytes" => *text = STANDARD.encode(other.der()),
                        _ => {}
                    });
                })
            }
            Tamper::BodyOfAnotherSignature => {
                let other = self.signer.key().sign(b"something else");
                self.edit_body(move |body| {
                    each_text(body, &|name, text| match name {
                        "signature" => *text = STANDARD.encode(&other),
                        "content" if !text.starts_with("LS0t") => *text = STANDARD.encode(&other),
                        "sig" => *text = STANDARD.encode(STANDARD.encode(&other)),
                        _ => {}
                    });
                })
            }
            Tamper::UnknownLog => self.logged_by(&stranger),
            Tamper::WrongLogId => self.edit_entry(move |entry| entry.log_id = stranger.id()),
        }
    }

    /// Changes the proof of each entry.
    pub fn edit_proof(self, edit: impl Fn(&mut Proof) + 'a) -> Self {
        self.edit_entry(move |entry| {
            if let Some(proof) = &mut entry.proof {
                edit(proof);
            }
        })
    }

    /// Writes any text for the index in the tree of the first entry. Of a v2 entry that is both of its indices.
    pub fn edit_index(self, text: &'a str) -> Self {
        let v2 = self.kinds.first().is_some_and(|kind| kind.is_v2());
        self.edit_json(move |bundle| {
            let entry = &mut bundle["verificationMaterial"]["tlogEntries"][0];
            entry["inclusionProof"]["logIndex"] = text.into();
            if v2 {
                entry["logIndex"] = text.into();
            }
        })
    }

    fn fresh_signature(&self) -> Vec<u8> {
        BundleBuilder::new(self.authority, self.signer.clone(), self.content.clone()).parts().signed.signature
    }

    /// Signs with `(r, n - s)`, which is as good a P-256 signature as `(r, s)` (attack E14).
    pub fn mirrored_signature(self) -> Self {
        let signature = mirrored(&self.fresh_signature());
        self.signature(&signature)
    }

    /// The first entry of a bundle that is like this one but for its statement and key.
    fn sibling(&self, key: Key, text: &str) -> Entry {
        let leaf = self.authority.leaf(&super::Claims::email("else@somebody.test", "https://oidc.test"));
        let content = match &self.content {
            Content::Dsse(_) => super::bundle::statement(text),
            Content::Message(_) => Content::Message(text.into()),
        };
        let signer = Signer::Leaf(Box::new(leaf.key(&key).issue()));
        let mut parts =
            BundleBuilder::new(self.authority, signer, content).entries(&self.kinds).at(self.time).parts();
        parts.entries.remove(0)
    }

    /// The first entry of the same statement signed once more.
    fn again(&self) -> Entry {
        let other = BundleBuilder::new(self.authority, self.signer.clone(), self.content.clone());
        other.entries(&self.kinds).at(self.time).parts().entries.remove(0)
    }
}

impl TrustedRoot {
    /// The roots under which a good bundle of `now` must not verify, with what is wrong.
    pub fn wrong_for(authority: &super::Authority) -> Vec<(&'static str, Self)> {
        let over = Window::between(authority.window.start, authority.now - 86_400);
        let later = Window::from(authority.now + 86_400);
        let root = || authority.trusted_root();
        vec![
            ("certificate authority's window is over", root().ca_window(over)),
            ("certificate authority's window has not begun", root().ca_window(later)),
            ("certificate transparency log's window is over", root().ct_window(over)),
            ("log's window is over", root().log_window(over)),
            ("log's window has not begun", root().log_window(later)),
            ("no certificate transparency log", root().without_ct_logs()),
            ("no log", root().without_logs()),
            ("another authority's", super::Authority::at("another", authority.now).trusted_root()),
        ]
    }

    /// Whether a log of this generation is in the root.
    pub fn knows(&self, generation: Generation) -> bool {
        self.logs.iter().any(|log| log.generation == generation)
    }
}

/// The order of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The other signature that verifies wherever this P-256 signature does: `(r, n - s)`.
pub fn mirrored(signature: &[u8]) -> Vec<u8> {
    let (r, s) = der::two_integers(signature);
    let s = s.strip_prefix(&[0]).unwrap_or(s);
    let mut padded = [0; 32];
    padded[32 - s.len()..].copy_from_slice(s);
    let mut other = [0; 32];
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(ORDER[at]) - i16::from(padded[at]) - borrow;
        borrow = i16::from(difference < 0);
        other[at] = difference.rem_euclid(256) as u8;
    }
    der::sequence(&[&der::integer(r), &der::integer(&other)])
}

fn body_of_note(note: &str) -> String {
    let (text, _) = note.split_once("\n\n").expect("a note has an empty line");
    format!("{text}\n")
}

/// Visits every text of a JSON value with its member name.
fn each_text(value: &mut Value, visit: &dyn Fn(&str, &mut String)) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) => visit(name, text),
                    other => each_text(other, visit),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_text(item, visit)),
        _ => {}
    }
}
