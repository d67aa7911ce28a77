//! Why bytes were refused: one variant a fact that the sender can act on.

use crate::{
    json::{JsonError, JsonFault},
    key::KeyId,
    keyless,
};

/// A refusal. [`Refusal::code`] is the stable API code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Nothing was sent.
    #[error("there is nothing in the submission")]
    Empty,
    /// What was sent is not strict JSON, or not the JSON that the form asks for.
    #[error("{0}")]
    Json(JsonError),
    /// The signed payload is not strict JSON, or not an in-toto statement.
    #[error("in the signed payload: {0}")]
    Payload(JsonError),
    /// More bytes than the limit.
    #[error("{what} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// More members than the limit.
    #[error("{count} {what}, the limit is {limit}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// An evidence form that this release does not read.
    #[error("this form is not supported: {form}")]
    UnsupportedForm {
        /// The form, in words.
        form: &'static str,
    },
    /// Not canonical base64.
    #[error("{pointer} is not canonical base64: {why}")]
    Encoding {
        /// Where.
        pointer: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The payload type of the envelope is not in-toto.
    #[error("the payload type `{found}` is not in-toto")]
    PayloadType {
        /// The payload type.
        found: String,
    },
    /// A statement, or an envelope, without any signature.
    #[error("nothing signs this statement")]
    Unsigned,
    /// A Sigstore bundle carries exactly one signature.
    #[error("a bundle carries exactly one signature, this one has {count}")]
    SignatureCount {
        /// How many it has.
        count: usize,
    },
    /// A signature names a registered key and does not verify under it.
    #[error("signature {position} names the registered key {key} and does not verify under it")]
    SignatureInvalid {
        /// Which signature, from 0.
        position: usize,
        /// The key that it names.
        key: KeyId,
    },
    /// A certificate signature that a trust domain which knows its authority finds broken.
    #[error("signature {position}: {fault}")]
    Certificate {
        /// Which signature, from 0.
        position: usize,
        /// What is wrong.
        fault: keyless::Fault,
    },
    /// The statement's `_type` is none that is known.
    #[error("`{found}` is not a statement type")]
    StatementType {
        /// The `_type`.
        found: String,
    },
    /// A statement about nothing.
    #[error("the statement has no subject")]
    NoSubject,
    /// A subject without any digest.
    #[error("subject {position} has no digest")]
    SubjectNoDigest {
        /// Which subject, from 0.
        position: usize,
    },
    /// A digest that is not in its only form.
    #[error("{pointer}: {why}")]
    DigestMalformed {
        /// Where.
        pointer: String,
        /// What is wrong with it.
        why: String,
    },
    /// The predicate is not what its type says.
    #[error("the predicate is not `{predicate_type}`: {why}")]
    Predicate {
        /// The predicate type.
        predicate_type: String,
        /// Where in the payload.
        pointer: String,
        /// What is wrong with it.
        why: String,
    },
    /// The bytes do not hash to the digest that they were sent as.
    #[error("the bytes are {computed}, not {claimed}")]
    DigestMismatch {
        /// What the sender said.
        claimed: String,
        /// What the bytes hash to.
        computed: String,
    },
    /// The media type is none that an object can have.
    #[error("`{found}` is not a media type of an object that Catenary reads")]
    MediaType {
        /// The media type.
        found: String,
    },
    /// An object that is not what its media type says.
    #[error("not a {kind}: {why}")]
    Object {
        /// What it should be.
        kind: &'static str,
        /// Where, when it is JSON.
        pointer: Option<String>,
        /// What is wrong with it.
        why: String,
    },
    /// An object that two readers could take for two different things (CVE-2021-41190).
    #[error("the document can be read in two ways: {why}")]
    Ambiguous {
        /// Which two.
        why: String,
    },
    /// A git signature made in the name of a registered key does not verify.
    #[error("the signature carries the registered key {key} and does not verify under it")]
    ObjectSignature {
        /// The key.
        key: KeyId,
    },
}

impl Refusal {
    /// The stable code of the API.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Json(e) | Self::Payload(e) => match e.fault {
                JsonFault::DuplicateKey { .. } => "JSON_DUPLICATE_KEY",
                JsonFault::TooDeep => "JSON_TOO_DEEP",
                JsonFault::NotUtf8 | JsonFault::BadString | JsonFault::Syntax(_) => "JSON_INVALID",
                JsonFault::Shape(_) => "ATT_MALFORMED",
                JsonFault::TooMany => "ATT_TOO_LARGE",
            },
            Self::Empty | Self::Encoding { .. } | Self::SignatureCount { .. } => "ATT_MALFORMED",
            Self::UnsupportedForm { .. } => "ATT_FORM_UNSUPPORTED",
            Self::TooLarge { .. } | Self::TooMany { .. } => "ATT_TOO_LARGE",
            Self::PayloadType { .. } => "ATT_PAYLOAD_TYPE",
            Self::Unsigned => "ATT_UNSIGNED",
            Self::SignatureInvalid { .. } | Self::ObjectSignature { .. } => "ATT_SIGNATURE_INVALID",
            Self::Certificate { fault, .. } => fault.code(),
            Self::StatementType { .. } => "ATT_STATEMENT_TYPE",
            Self::NoSubject | Self::SubjectNoDigest { .. } => "ATT_SUBJECT_NO_DIGEST",
            Self::DigestMalformed { .. } => "DIGEST_MALFORMED",
            Self::Predicate { .. } => "PREDICATE_INVALID",
            Self::DigestMismatch { .. } => "DIGEST_MISMATCH",
            Self::MediaType { .. } => "OBJECT_MEDIA_TYPE",
            Self::Object { .. } => "OBJECT_MALFORMED",
            Self::Ambiguous { .. } => "OBJECT_AMBIGUOUS",
        }
    }

    /// JSON pointer to the place, in what was sent or (for [`Refusal::Payload`], digests and predicates) in
    /// the signed payload.
    pub fn pointer(&self) -> Option<&str> {
        match self {
            Self::Json(e) | Self::Payload(e) => Some(&e.pointer),
            Self::Encoding { pointer, .. }
            | Self::DigestMalformed { pointer, .. }
            | Self::Predicate { pointer, .. } => Some(pointer),
            Self::Object { pointer, .. } => pointer.as_deref(),
            Self::PayloadType { .. } => Some("/payloadType"),
            Self::Unsigned => Some("/signatures"),
            Self::StatementType { .. } => Some("/_type"),
            Self::NoSubject => Some("/subject"),
            _ => None,
        }
    }

    /// Line and column of the place, for JSON.
    pub fn position(&self) -> Option<(usize, usize)> {
        match self {
            Self::Json(e) | Self::Payload(e) => Some((e.line, e.column)),
            _ => None,
        }
    }

    /// What the sender can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Empty => "send a DSSE envelope, an array of envelopes, or JSON Lines".into(),
            Self::Json(e) | Self::Payload(e) => match e.fault {
                JsonFault::DuplicateKey { .. } => "name each member once: two readers may take different ones".into(),
                JsonFault::TooDeep => format!("nest at most {} levels", crate::json::MAX_DEPTH),
                JsonFault::BadString => "strings hold neither NUL nor lone surrogates".into(),
                JsonFault::NotUtf8 => "encode it as UTF-8".into(),
                JsonFault::Syntax(_) => "send one valid JSON document".into(),
                JsonFault::TooMany => "send several attestations, each with fewer elements".into(),
                JsonFault::Shape(_) => "compare it with the DSSE or in-toto specification".into(),
            },
            Self::TooLarge { limit, .. } | Self::TooMany { limit, .. } => {
                format!("stay within {limit}, or send several attestations")
            }
            Self::UnsupportedForm { .. } => "docs/forms.md lists the forms; a DSSE envelope or a Sigstore bundle v0.3 is the usual one".into(),
            Self::Encoding { .. } => "encode with one base64 alphabet, without white space".into(),
            Self::PayloadType { .. } => "sign an in-toto statement: `application/vnd.in-toto+json`".into(),
            Self::Unsigned => "sign the statement and send the DSSE envelope".into(),
            Self::SignatureCount { .. } => "send the DSSE envelope itself when it has several signatures".into(),
            Self::SignatureInvalid { .. } => "sign again; check that nothing re-encoded the payload and that `keyid` names the key that signed".into(),
            Self::Certificate { .. } => "send the bundle exactly as the signer made it; if it is, sign again".into(),
            Self::StatementType { .. } => "use `https://in-toto.io/Statement/v1`".into(),
            Self::NoSubject => "name at least one subject".into(),
            Self::SubjectNoDigest { .. } => "give each subject a `sha256` or `gitCommit` digest".into(),
            Self::DigestMalformed { .. } => "write digests as lower-case hex of the exact length".into(),
            Self::Predicate { .. } => "compare the predicate with the schema of its type".into(),
            Self::DigestMismatch { .. } => "send the exact bytes that the registry or git serves".into(),
            Self::MediaType { .. } => "send an OCI or Docker index, manifest or config, or `application/x-git-commit`, `application/x-git-tag`".into(),
            Self::Object { .. } => "send the exact bytes that the registry or git serves".into(),
            Self::Ambiguous { .. } => "send the document as its producer wrote it, so that every reader takes it for the same".into(),
            Self::ObjectSignature { .. } => "sign the commit or tag again".into(),
        }
    }

    /// Whether what was sent is not even JSON (400), rather than JSON that says something wrong (422).
    pub fn is_syntax(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Json(e) => matches!(e.fault, JsonFault::NotUtf8 | JsonFault::Syntax(_)),
            _ => false,
        }
    }

    /// Whether the answer is 413 rather than 422.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
    }
}
