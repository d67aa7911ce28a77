//! Control state: what the tenant trusts, folded from the control entries of the log.
//!
//! Rows that can turn a yes into a no are never believed by presence (design 8): every instance folds
//! them from the gapless entries. [`Control::apply`] is that fold.

use std::{collections::BTreeMap, sync::Arc};

use catenary_evidence::{
    KeyId, Signature, Signer,
    digest::{Node, Sha256},
    trust_root,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::policy::Policy;

/// The body of one control entry: canonical JSON, kept beside the log by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
pub enum Entry {
    /// A key was registered; it counts only after its [`Entry::TrustEffective`].
    #[serde(rename = "trust.added")]
    TrustAdded(TrustedKey),
    /// All stored evidence was verified under the key.
    #[serde(rename = "trust.effective")]
    TrustEffective {
        /// The key.
        key: KeyId,
    },
    /// A policy revision became active.
    #[serde(rename = "policy.applied")]
    PolicyApplied {
        /// `metadata.name`.
        name: String,
        /// 1, 2, 3 … per name.
        revision: u64,
        /// The document exactly as it was sent (YAML or JSON text).
        document: String,
    },
    /// Something is no longer trusted.
    #[serde(rename = "revocation")]
    Revocation(Revocation),
    /// An API token was made. Only its hash is here.
    #[serde(rename = "token.created")]
    TokenCreated(Token),
    /// An API token was revoked.
    #[serde(rename = "token.revoked")]
    TokenRevoked {
        /// The token's public id.
        id: String,
        /// Why.
        reason: String,
    },
    /// A tenant was made (only in the log of the platform tenant).
    #[serde(rename = "tenant.created")]
    TenantCreated {
        /// The tenant's name.
        name: String,
        /// Whether its log is readable without a credential.
        public_log: bool,
    },
}

/// A registered key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedKey {
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub id: KeyId,
    /// A name for people.
    pub name: String,
    /// SubjectPublicKeyInfo as PEM.
    pub pem: String,
    /// The signature scheme (see `catenary_evidence::Scheme`).
    pub scheme: catenary_evidence::Scheme,
    /// Our own collector's key, named so that policies can say `service: collector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Signatures are good from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Timestamp>,
    /// Signatures are good until here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
}

/// A revocation (chain-model T5). In this release always of a key, and of all its signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Revocation {
    /// The key.
    pub key: KeyId,
    /// Why.
    pub reason: String,
}

/// An API token as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Token {
    /// Public id, part of the token's text.
    pub id: String,
    /// SHA-256 of the whole token text.
    pub hash: Sha256,
    /// `submitter`, `reader`, `auditor`, `admin`, `platform-admin`.
    pub role: String,
    /// For people.
    pub name: String,
    /// When it stops working.
    pub expires: Timestamp,
    /// Repositories (globs over `registry/repository` and canonical git URIs) that a submitter may speak about; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
    /// Predicate types that a submitter may post; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predicate_types: Vec<String>,
}

/// The state after the first N entries of a tenant's log.
#[derive(Debug, Clone, Default)]
pub struct Control {
    /// Every key ever registered.
    pub keys: BTreeMap<KeyId, KeyState>,
    /// The active revision per policy name.
    pub policies: BTreeMap<String, ActivePolicy>,
    /// Tokens by public id.
    pub tokens: BTreeMap<String, TokenState>,
    /// Tenants (platform tenant only): name to whether its log is public.
    pub tenants: BTreeMap<String, bool>,
    /// Raised by every entry whose reach is not a list of nodes (trust, policy, revocation).
    pub epoch: u64,
}

/// A key and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// As registered.
    pub key: TrustedKey,
    /// Index of its `trust.added`.
    pub added_at: u64,
    /// Index of its `trust.effective`; until then it is not used.
    pub effective_at: Option<u64>,
    /// The reason, once revoked.
    pub revoked: Option<String>,
}

/// The active revision of a policy.
#[derive(Debug, Clone)]
pub struct ActivePolicy {
    /// Revision number.
    pub revision: u64,
    /// SHA-256 of the document's bytes.
    pub digest: Sha256,
    /// The parsed document; `Err` when this engine cannot read what an older one accepted (POL_INVALID).
    pub policy: Result<Arc<Policy>, String>,
    /// The document, exactly as it was sent.
    pub document: Arc<str>,
    /// Documents that were active before: digest to revision. Their bytes do not come back by themselves.
    pub older: BTreeMap<Sha256, u64>,
}

/// A token and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenState {
    /// As created.
    pub token: Token,
    /// Whether it was revoked.
    pub revoked: bool,
}

impl Control {
    /// Folds the control entry at `index`.
    pub fn apply(&mut self, index: u64, entry: &Entry) {
        match entry {
            Entry::TrustAdded(key) => {
                let state = KeyState { key: key.clone(), added_at: index, effective_at: None, revoked: None };
                self.keys.entry(key.id).or_insert(state);
            }
            Entry::TrustEffective { key } => {
                if let Some(state) = self.keys.get_mut(key) {
                    state.effective_at.get_or_insert(index);
                    self.epoch += 1;
                }
            }
            Entry::PolicyApplied { name, revision, document } => {
                let policy = Policy::parse(document).map(Arc::new).map_err(|e| e.to_string());
                let digest = Sha256::of(document.as_bytes());
                let before = self.policies.remove(name);
                let older = before.map_or_else(BTreeMap::new, |before| {
                    let mut older = before.older;
                    older.insert(before.digest, before.revision);
                    older
                });
                let document = Arc::from(document.as_str());
                let active = ActivePolicy { revision: *revision, digest, policy, document, older };
                self.policies.insert(name.clone(), active);
                self.epoch += 1;
            }
            Entry::Revocation(revocation) => {
                if let Some(state) = self.keys.get_mut(&revocation.key) {
                    state.revoked.get_or_insert_with(|| revocation.reason.clone());
                }
                self.epoch += 1;
            }
            Entry::TokenCreated(token) => {
                let state = TokenState { token: token.clone(), revoked: false };
                self.tokens.entry(token.id.clone()).or_insert(state);
            }
            Entry::TokenRevoked { id, .. } => {
                if let Some(state) = self.tokens.get_mut(id) {
                    state.revoked = true;
                }
            }
            Entry::TenantCreated { name, public_log } => {
                self.tenants.entry(name.clone()).or_insert(*public_log);
            }
        }
    }

    /// Whether whoever vouched for a certificate signature is trusted: its domain, and each authority at the moment that
    /// it was needed for. A registered key vouches for itself, see [`Self::trusts`].
    pub fn vouches(&self, signature: &Signature) -> bool {
        match &signature.signer {
            Signer::Key(key) => self.trusts(key),
            Signer::Certificate(identity) => {
                let Some(authorities) = trust_root::builtin_authorities(&identity.domain) else {
                    return false;
                };
                !signature.vouchers.is_empty()
                    && signature.vouchers.iter().all(|voucher| {
                        let windows = authorities.get(&(voucher.kind, voucher.authority));
                        windows.is_some_and(|windows| windows.iter().any(|w| w.contains(voucher.at)))
                    })
            }
        }
    }

    /// Keys that count: effective and not revoked.
    pub fn trusts(&self, key: &KeyId) -> bool {
        self.keys.get(key).is_some_and(|k| k.effective_at.is_some() && k.revoked.is_none())
    }
}

/// What one log entry can change: it is compared with a verdict's read set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteSet {
    /// Answers that read any of these nodes.
    Nodes(Vec<Node>),
    /// Every answer of the tenant (trust, policy, revocation).
    All,
    /// No verdict (tokens, tenants, the log's origin).
    None,
}
