//! Trust roots: the certificate authorities, logs and timestamp authorities of one trust domain, as one document.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sigstore_trust_root::TrustedRoot;

use crate::{digest::Sha256, signer::AuthorityKind};

/// What a domain demands of a bundle besides certificate and signature. Set when the root is added, never by a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rules {
    /// A transparency log entry.
    pub log: bool,
    /// A signed certificate timestamp.
    pub sct: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { log: true, sct: true }
    }
}

/// Why a document is not a trust root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustRootError {
    /// Not a document of the media type `application/vnd.dev.sigstore.trustedroot+json`.
    #[error("not a trusted root: {0}")]
    Malformed(String),
}

/// One trust domain: a name, its rules, and the newest version of its root.
#[derive(Debug, Clone)]
pub struct Domain {
    name: String,
    digest: Sha256,
    rules: Rules,
    root: TrustedRoot,
}

impl Domain {
    /// Reads a `trusted_root.json`.
    pub fn read(name: &str, document: &[u8], rules: Rules) -> Result<Self, TrustRootError> {
        let text = std::str::from_utf8(document).map_err(|e| TrustRootError::Malformed(e.to_string()))?;
        let root = TrustedRoot::from_json(text).map_err(|e| TrustRootError::Malformed(e.to_string()))?;
        Ok(Self { name: name.to_owned(), digest: Sha256::of(document), rules, root })
    }

    /// The domain's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the document.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// What it demands.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// The parsed root.
    pub fn root(&self) -> &TrustedRoot {
        &self.root
    }
}

/// The authorities of a root, and when each was trusted: what facts are filtered by.
pub type Authorities = BTreeMap<(AuthorityKind, Sha256), Vec<Window>>;

/// `from <= t <= until`; both ends inclusive, as the Sigstore trusted root says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First moment.
    pub from: Option<Timestamp>,
    /// Last moment.
    pub until: Option<Timestamp>,
}

impl Window {
    /// Whether `t` is inside.
    pub fn contains(&self, t: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= t) && self.until.is_none_or(|until| t <= until)
    }
}
