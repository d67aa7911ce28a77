//! Who signed, when, and who vouches for that: what a signature that verified says.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{digest::Sha256, key::KeyId, witness::Cosignature};

/// A verified signer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signer {
    /// A registered key.
    Key(KeyId),
    /// The identity in a certificate that chains to a trust root.
    Certificate(Box<Identity>),
}

impl Signer {
    /// The registered key, when it is one.
    pub fn key(&self) -> Option<KeyId> {
        match self {
            Self::Key(key) => Some(*key),
            Self::Certificate(_) => None,
        }
    }

    /// The certificate identity, when it is one.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Key(_) => None,
            Self::Certificate(identity) => Some(identity),
        }
    }

    /// The text under which evidence of this signer is looked up: a key's id, or [`Identity::index_key`].
    pub fn index_key(&self) -> String {
        match self {
            Self::Key(key) => key.to_string(),
            Self::Certificate(identity) => identity.index_key(),
        }
    }
}

/// For people: the key's id, or `<subject alternative name> (<issuer>)`.
impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Certificate(identity) => identity.fmt(f),
        }
    }
}

impl From<KeyId> for Signer {
    fn from(key: KeyId) -> Self {
        Self::Key(key)
    }
}

/// Kinds of subject alternative name that a signing certificate has (RFC 5280 section 4.2.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SanKind {
    /// `uniformResourceIdentifier`: a workload, for example a workflow file at a ref.
    Uri,
    /// `rfc822Name`: a person or a service account.
    Email,
    /// `dNSName`.
    Dns,
    /// Fulcio's `otherName` user name (1.3.6.1.4.1.57264.1.7).
    Other,
}

/// What a certificate says of its holder: the one subject alternative name, the OIDC issuer that Fulcio asked, and
/// Fulcio's extensions (1.3.6.1.4.1.57264.1.*). Everything here is covered by the CA's signature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The trust domain whose root vouches for the certificate.
    pub domain: String,
    /// Kind of the subject alternative name.
    pub san_kind: SanKind,
    /// The subject alternative name, byte for byte.
    pub san: String,
    /// OIDC issuer (1.8, else 1.1; equal when both are there).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Fulcio's claims about a CI run.
    #[serde(default)]
    pub claims: Claims,
}

impl Identity {
    /// The text under which evidence of this identity is looked up: domain, issuer, name and source repository, without
    /// what differs from run to run. Unambiguous: a JSON array of strings.
    pub fn index_key(&self) -> String {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let parts = [
            self.domain.clone(),
            part(&self.issuer),
            self.san.clone(),
            part(&self.claims.source_repository_uri),
            part(&self.claims.source_repository_id),
        ];
        // Strings always serialise.
        serde_json::to_string(&parts).unwrap_or_default()
    }
}

impl Identity {
    /// The workflow that ran and signed: the build signer URI, or the name when it is a URI.
    fn workflow(&self) -> Option<&str> {
        let name = (self.san_kind == SanKind::Uri).then_some(self.san.as_str());
        self.claims.build_signer_uri.as_deref().or(name)
    }

    /// Whether what signed belongs to whoever asked for the build: the workflow that was started itself, or another one of the
    /// repository that was built. Such provenance is the tenant's own word (chain-model 1.5).
    pub fn is_own_workflow(&self) -> bool {
        let Some(workflow) = self.workflow() else { return false };
        let started = self.claims.build_config_uri.as_deref() == Some(workflow);
        let beside = self.claims.source_repository_uri.as_deref().is_some_and(|repository| {
            let (repository, workflow) = (repository.to_ascii_lowercase(), workflow.to_ascii_lowercase());
            workflow.strip_prefix(&repository).is_some_and(|rest| rest.starts_with('/'))
        });
        started || beside
    }

    /// Whether the workflow that signed was taken from a ref that moves: a branch, or a pull request.
    pub fn takes_a_moving_ref(&self) -> bool {
        let at = self.workflow().and_then(|workflow| workflow.rsplit_once('@'));
        at.is_some_and(|(_, at)| at.starts_with("refs/") && !at.starts_with("refs/tags/"))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.issuer {
            Some(issuer) => write!(f, "{} ({issuer})", self.san),
            None => f.write_str(&self.san),
        }
    }
}

/// Fulcio's extensions 1.3.6.1.4.1.57264.1.9 to .23, each a DER UTF8String; `None` where the certificate has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Claims {
    /// .9: the workflow that ran and signed, with its ref.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_signer_uri: Option<String>,
    /// .10
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_signer_digest: Option<String>,
    /// .11: `github-hosted`, `self-hosted`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner_environment: Option<String>,
    /// .12
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_repository_uri: Option<String>,
    /// .13: the commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_repository_digest: Option<String>,
    /// .14: the ref.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_repository_ref: Option<String>,
    /// .15: immutable numeric id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_repository_id: Option<String>,
    /// .16
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_repository_owner_uri: Option<String>,
    /// .17
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_repository_owner_id: Option<String>,
    /// .18: the workflow that was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_config_uri: Option<String>,
    /// .19
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_config_digest: Option<String>,
    /// .20: `push`, `workflow_dispatch`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_trigger: Option<String>,
    /// .21
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_invocation_uri: Option<String>,
    /// .22: `public`, `private`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_repository_visibility: Option<String>,
    /// .23
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_environment: Option<String>,
}

/// A signature that verified over the payload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signature {
    /// Who made it.
    pub signer: Signer,
    /// It was not made before (the certificate's notBefore); nothing for bare keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_after: Option<Timestamp>,
    /// It existed at: the earliest time that a trusted authority other than our own log proves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_before: Option<Timestamp>,
    /// The certificate's notAfter; of an in-toto document the end of the OpenPGP key that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// How much of a transparency log's proof is there.
    #[serde(default)]
    pub logged: Logged,
    /// The authorities on which it rests: withdrawing any of them withdraws it. Empty for registered keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vouchers: Vec<Voucher>,
    /// Which witnesses saw the checkpoints of its log entries. It does not rest on them, unless they are vouchers, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cosigned: Vec<Cosignature>,
}

impl Signature {
    /// A signature by a registered key.
    pub fn by_key(key: KeyId) -> Self {
        Self {
            signer: Signer::Key(key),
            signed_after: None,
            signed_before: None,
            expires: None,
            logged: Logged::No,
            vouchers: Vec::new(),
            cosigned: Vec::new(),
        }
    }
}

/// What proves that a signature is in a transparency log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Logged {
    /// Nothing.
    #[default]
    No,
    /// The log's signed promise (Rekor v1 signed entry timestamp).
    Promise,
    /// An inclusion proof to a signed checkpoint.
    Proof,
}

/// A trusted authority, and the moment for which it was needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Voucher {
    /// What it does.
    pub kind: AuthorityKind,
    /// SHA-256 of its certificate (CA, timestamp authority) or of its SPKI (logs, witnesses).
    pub authority: Sha256,
    /// The moment at which it had to be valid.
    pub at: Timestamp,
}

/// What an authority of a trust root does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthorityKind {
    /// Signs certificates.
    CertificateAuthority,
    /// Signs certificate timestamps (SCT).
    CtLog,
    /// Transparency log (Rekor v1, v2).
    Log,
    /// RFC 3161 timestamp authority.
    TimestampAuthority,
    /// Cosigns checkpoints of transparency logs.
    Witness,
}
