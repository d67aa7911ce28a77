//! Signed things as they come, whatever form carried them: the signed bytes, and each signature with its material.
//!
//! A form reader only takes apart; nothing here is trusted before a signature verified.

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
    Digest(crate::digest::Digest),
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
    /// A certificate and what proves when it was used.
    pub material: Option<Material>,
}

/// How the signed message is made of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// DSSE pre-authentication encoding of payload type and payload.
    Pae,
    /// The payload's bytes as they are (cosign simple signing, regional Cloud Build keys).
    Raw,
    /// The prehashed content ([`Content::Digest`]).
    Digest,
    /// SSHSIG armour in `bytes`, over the pre-authentication encoding (gittuf).
    Ssh,
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
