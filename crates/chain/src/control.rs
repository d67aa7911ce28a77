//! Control state: what the tenant trusts, folded from the control entries of the log.
//!
//! Rows that can turn a yes into a no are never believed by presence (design 8): every instance folds
//! them from the gapless entries. [`Control::apply`] is that fold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use catenary_evidence::{
    KeyId, Signature, Signer,
    digest::{Node, Sha256},
    signer::{AuthorityKind, Voucher},
    trust_root::{self, Authorities, Domain, Rules},
    witness::Witnesses,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    evaluate::{SKEW, later},
    policy::{Policy, identity::RootPin},
};

pub use crate::{
    consent::{Change, Consent, TrustApproved, TrustRules},
    exception::{Exception, ExceptionApproved, ExceptionWithdrawn, Exceptions},
    life::{Activated, Approved, Drafted, Life, Tested},
    pin::Pin,
    revocation::{Revocation, Revocations, Revoked, Target},
};

/// The body of one control entry: canonical JSON, kept beside the log by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
pub enum Entry {
    /// A key or a version of a trust root was added; it counts only after its [`Entry::TrustEffective`].
    #[serde(rename = "trust.added")]
    TrustAdded(Added),
    /// All stored evidence was verified under it.
    #[serde(rename = "trust.effective")]
    TrustEffective(Effective),
    /// Nothing that a trust domain vouches for counts any more.
    #[serde(rename = "trust.withdrawn")]
    TrustWithdrawn {
        /// The domain.
        domain: String,
        /// Why.
        reason: String,
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
    /// A revision was proposed.
    #[serde(rename = "policy.drafted")]
    PolicyDrafted(Drafted),
    /// The tests inside a revision were run.
    #[serde(rename = "policy.tested")]
    PolicyTested(Tested),
    /// Somebody approved a revision.
    #[serde(rename = "policy.approved")]
    PolicyApproved(Approved),
    /// A revision that was there became active.
    #[serde(rename = "policy.activated")]
    PolicyActivated(Activated),
    /// Somebody asked for an exception.
    #[serde(rename = "exception.requested")]
    ExceptionRequested(Exception),
    /// Somebody approved an exception.
    #[serde(rename = "exception.approved")]
    ExceptionApproved(ExceptionApproved),
    /// An exception does not hold any more.
    #[serde(rename = "exception.withdrawn")]
    ExceptionWithdrawn(ExceptionWithdrawn),
    /// How many must stand behind what is added to trust.
    #[serde(rename = "trust.rules")]
    TrustRules(TrustRules),
    /// Somebody stands behind what was added to trust.
    #[serde(rename = "trust.approved")]
    TrustApproved(TrustApproved),
    /// The ids of a repository, on first use.
    #[serde(rename = "trust.pinned")]
    TrustPinned(Pin),
    /// The members of a group.
    #[serde(rename = "group.set")]
    GroupSet(GroupSet),
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

/// The members of a group from now on: whom policies mean by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupSet {
    /// The group's name.
    pub name: String,
    /// Registered keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyId>,
    /// Principals, for example `token:4fGh2kQz81`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<String>,
    /// The principal that set them.
    pub by: String,
}

/// What was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Added {
    /// A key.
    Key(TrustedKey),
    /// A version of a trust root.
    Root(RootVersion),
}

/// What became effective.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Effective {
    /// A key.
    Key(EffectiveKey),
    /// A version of a trust root.
    Root(EffectiveRoot),
}

/// `{key}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectiveKey {
    /// The key.
    pub key: KeyId,
}

/// `{domain, version}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectiveRoot {
    /// The domain.
    pub domain: String,
    /// Its version.
    pub version: u64,
}

impl From<TrustedKey> for Added {
    fn from(key: TrustedKey) -> Self {
        Self::Key(key)
    }
}

impl From<KeyId> for Effective {
    fn from(key: KeyId) -> Self {
        Self::Key(EffectiveKey { key })
    }
}

/// One version of the root of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RootVersion {
    /// The trust domain's name.
    pub domain: String,
    /// 1, 2, 3 … per domain; what is compiled in is 0.
    pub version: u64,
    /// SHA-256 of the document.
    pub digest: Sha256,
    /// What the domain demands of a bundle.
    pub rules: Rules,
    /// When it was added; unknown of the first ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_on: Option<Timestamp>,
    /// The `trusted_root.json`, exactly as it was sent; nothing for a domain of witnesses alone.
    pub document: String,
    /// The witnesses and their quorum, as a tlog-policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<String>,
}

impl RootVersion {
    /// The domain, ready to verify with.
    pub fn read(&self) -> Result<Domain, String> {
        let document = self.document.as_bytes();
        let domain = Domain::read_with(&self.domain, document, self.rules, self.witnesses.as_deref());
        let domain = domain.map_err(|error| error.to_string())?;
        if domain.digest() != self.digest {
            return Err(format!("the document is {}, not {}", domain.digest(), self.digest));
        }
        Ok(domain)
    }
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
    /// The principal that made it, which could have kept its text; unknown of the first ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The state after the first N entries of a tenant's log.
#[derive(Debug, Clone, Default)]
pub struct Control {
    /// Every key ever registered.
    pub keys: BTreeMap<KeyId, KeyState>,
    /// The active revision per policy name.
    pub policies: BTreeMap<String, ActivePolicy>,
    /// Drafts, approvals and former revisions per policy name.
    pub lives: BTreeMap<String, Life>,
    /// Exceptions, asked for and approved.
    pub exceptions: Exceptions,
    /// Tokens by public id.
    pub tokens: BTreeMap<String, TokenState>,
    /// Trust domains that entries are about; those compiled in are there without.
    pub domains: BTreeMap<String, DomainState>,
    /// Who must approve what, and what waits for it.
    pub consent: Consent,
    /// Repositories whose ids were pinned on first use, by name in lower case.
    pub pins: BTreeMap<String, Pin>,
    /// Groups that have members.
    pub groups: BTreeMap<String, GroupSet>,
    /// Tenants (platform tenant only): name to whether its log is public.
    pub tenants: BTreeMap<String, bool>,
    /// What is no longer trusted.
    pub revocations: Revocations,
    /// The log's origin, as its first entry names it.
    pub origin: String,
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
}

/// A trust domain and what became of it.
#[derive(Debug, Clone, Default)]
pub struct DomainState {
    /// Its versions, oldest first.
    pub versions: Vec<RootState>,
    /// The reason, once withdrawn. A later version does not bring the domain back.
    pub withdrawn: Option<String>,
}

/// A version of a root and what became of it.
#[derive(Debug, Clone)]
pub struct RootState {
    /// As added.
    pub root: RootVersion,
    /// Its authorities.
    pub authorities: Arc<Authorities>,
    /// Its witnesses and their quorum.
    pub witnesses: Option<Arc<Witnesses>>,
    /// Index of its `trust.added`.
    pub added_at: u64,
    /// Index of its `trust.effective`; until then it is not used.
    pub effective_at: Option<u64>,
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
            Entry::TrustAdded(Added::Root(root)) => {
                let versions = &mut self.domains.entry(root.domain.clone()).or_default().versions;
                // One that cannot be read vouches for nobody.
                let read = root.read().ok();
                let authorities = read.as_ref().map(Domain::authorities).unwrap_or_default();
                let witnesses = read.as_ref().and_then(|domain| domain.witnesses().cloned());
                let state = RootState {
                    root: root.clone(),
                    authorities: Arc::new(authorities),
                    witnesses: witnesses.map(Arc::new),
                    added_at: index,
                    effective_at: None,
                };
                if versions.iter().all(|known| known.root.version != root.version) {
                    versions.push(state);
                }
            }
            Entry::TrustEffective(Effective::Root(root)) if !self.is_agreed(&Change::Root(root.clone())) => {}
            Entry::TrustEffective(Effective::Root(root @ EffectiveRoot { domain, version })) => {
                self.consent.given.remove(&Change::Root(root.clone()));
                let versions = self.domains.get_mut(domain).map(|state| &mut state.versions);
                for known in versions.into_iter().flatten().filter(|known| known.root.version == *version) {
                    known.effective_at.get_or_insert(index);
                }
                self.epoch += 1;
            }
            Entry::TrustWithdrawn { domain, reason } => {
                let state = self.domains.entry(domain.clone()).or_default();
                state.withdrawn.get_or_insert_with(|| reason.clone());
                self.epoch += 1;
            }
            Entry::TrustAdded(Added::Key(key)) => {
                let state = KeyState { key: key.clone(), added_at: index, effective_at: None };
                self.keys.entry(key.id).or_insert(state);
            }
            Entry::TrustEffective(Effective::Key(EffectiveKey { key }))
                if !self.is_agreed(&Change::Key(*key)) => {}
            Entry::TrustEffective(Effective::Key(EffectiveKey { key })) => {
                self.consent.given.remove(&Change::Key(*key));
                if let Some(state) = self.keys.get_mut(key) {
                    state.effective_at.get_or_insert(index);
                    self.epoch += 1;
                }
            }
            Entry::PolicyApplied { name, revision, document } => {
                self.policy_applied(index, name, *revision, document);
            }
            Entry::PolicyDrafted(drafted) => self.policy_drafted(index, drafted),
            Entry::PolicyTested(tested) => self.policy_tested(tested),
            Entry::PolicyApproved(approved) => self.policy_approved(approved),
            Entry::PolicyActivated(activated) => self.policy_activated(activated),
            Entry::ExceptionRequested(exception) => self.exceptions.request(index, exception),
            Entry::ExceptionApproved(approved) => self.exceptions.approve(approved),
            Entry::ExceptionWithdrawn(withdrawn) => self.exceptions.withdraw(withdrawn),
            Entry::TrustRules(rules) => self.trust_rules(rules),
            Entry::TrustApproved(approved) => self.trust_approved(approved),
            Entry::TrustPinned(pin) => self.trust_pinned(pin),
            Entry::GroupSet(group) => self.group_set(index, group),
            Entry::Revocation(revocation) => {
                self.revocations.apply(index, revocation);
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

    /// Whether whoever vouched for a certificate signature that was received at `received` is trusted: its domain, and each
    /// authority at the moment that it was needed for.
    pub fn vouches(&self, signature: &Signature, received: Timestamp) -> bool {
        let Some(identity) = signature.signer.identity() else { return false };
        let Some(authorities) = self.authorities(&identity.domain) else { return false };
        !signature.vouchers.is_empty()
            && signature.vouchers.iter().all(|voucher| {
                is_among(authorities, voucher) && !self.authority_is_revoked(voucher, signature, received)
            })
    }

    /// Whether a signature on what was received at `received` counts for anybody: by a key that is effective, or one that is
    /// vouched for, and not revoked. What a rule makes of it is another matter.
    pub fn counts(&self, signature: &Signature, received: Timestamp) -> bool {
        let known = match &signature.signer {
            Signer::Key(key) => self.keys.get(key).is_some_and(|state| state.effective_at.is_some()),
            Signer::Certificate(_) => {
                let latest = later(received, SKEW);
                self.vouches(signature, received) && signature.signed_before.is_none_or(|at| at <= latest)
            }
        };
        known && self.revoked(signature, received).is_none()
    }

    /// Whether one of the roots that a policy lists vouches for a certificate signature: by the version that it names, if it
    /// names one. Whether the domain is trusted at all is asked beside that.
    pub fn is_pinned(&self, pins: &[RootPin], signature: &Signature) -> bool {
        let Some(identity) = signature.signer.identity() else { return false };
        let holds = |authorities: &Authorities| {
            signature.vouchers.iter().all(|voucher| is_among(authorities, voucher))
        };
        pins.iter().filter(|pin| pin.domain == identity.domain).any(|pin| match pin.version {
            None => true,
            Some(version) => self.version(&pin.domain, version).is_some_and(holds),
        })
    }

    /// The authorities of an effective version of a domain's root.
    fn version(&self, domain: &str, version: u64) -> Option<&Authorities> {
        if version == 0 {
            return trust_root::builtin_authorities(domain);
        }
        let versions = &self.domains.get(domain)?.versions;
        let found = versions.iter().find(|known| known.root.version == version)?;
        found.effective_at.map(|_| &*found.authorities)
    }

    /// What the quorum of a trust domain asks for, and what the signatures have of it: of a domain with witnesses, their
    /// quorum on the checkpoints of so many different logs; of another, proofs of so many of its logs.
    pub fn quorum(&self, domain: &str, signatures: &[&Signature]) -> Quorum {
        let state = self.domains.get(domain);
        let newest = state.and_then(|s| s.versions.iter().rev().find(|known| known.effective_at.is_some()));
        let wanted = newest.map_or(1, |known| usize::from(known.root.rules.logs));
        let mut quorum = Quorum { wanted, logs: 0, witnesses: None, cosigned: Vec::new() };
        let Some(authorities) = self.authorities(domain) else { return quorum };
        let Some(witnesses) = newest.and_then(|known| known.witnesses.as_deref()) else {
            quorum.logs = self.logs(&[authorities], signatures).len();
            return quorum;
        };
        quorum.witnesses = Some(witnesses.to_string());
        let logs = match authorities.keys().any(|(kind, _)| *kind == AuthorityKind::Log) {
            true => self.logs(&[authorities], signatures),
            // A domain of witnesses alone is about the logs that others name.
            false => self.logs(&self.all_authorities(), signatures),
        };
        let mut checkpoints: BTreeMap<(Sha256, Sha256), Vec<Sha256>> = BTreeMap::new();
        for seen in signatures.iter().flat_map(|signature| &signature.cosigned) {
            let revoked = |id| self.revocations.authority(id).is_some();
            if logs.contains(&seen.log) && !revoked(&seen.witness) {
                checkpoints.entry((seen.log, seen.checkpoint)).or_default().push(seen.witness);
            }
        }
        let all: Vec<Sha256> = checkpoints.values().flatten().copied().collect();
        quorum.cosigned = witnesses.names(&all).into_iter().map(str::to_owned).collect();
        let met = checkpoints.iter().filter(|((log, _), ids)| witnesses.is_reached(log, ids));
        quorum.logs = met.map(|((log, _), _)| *log).collect::<BTreeSet<_>>().len();
        quorum
    }

    /// The logs among any of `domains` that vouch for the signatures, in their windows and not revoked.
    fn logs(&self, domains: &[&Authorities], signatures: &[&Signature]) -> BTreeSet<Sha256> {
        let vouchers = signatures.iter().flat_map(|signature| &signature.vouchers);
        let trusted = vouchers.filter(|voucher| {
            let revoked = self.revocations.authority(&voucher.authority).is_some();
            voucher.kind == AuthorityKind::Log
                && !revoked
                && domains.iter().any(|authorities| is_among(authorities, voucher))
        });
        trusted.map(|voucher| voucher.authority).collect()
    }

    /// Whether an authority is revoked for a signature. One that proves times cannot prove that it did so in time: for it,
    /// only our own log can.
    fn authority_is_revoked(&self, voucher: &Voucher, signature: &Signature, received: Timestamp) -> bool {
        let latest = match voucher.kind {
            AuthorityKind::CertificateAuthority => latest(signature, received),
            AuthorityKind::CtLog
            | AuthorityKind::Log
            | AuthorityKind::TimestampAuthority
            | AuthorityKind::Witness => received,
        };
        self.revocations.authority(&voucher.authority).is_some_and(|revoked| revoked.covers(latest))
    }

    /// How far a signature that was received at `received` is revoked by what is said of its signer.
    pub fn revoked<'a>(&'a self, signature: &'a Signature, received: Timestamp) -> Option<&'a Revoked> {
        match &signature.signer {
            Signer::Key(key) => {
                // Most keys are not revoked: what proves a time is looked at for the others only.
                let revoked = self.revocations.key(key)?;
                let latest = self.proven(signature, received).map_or(received, |proven| proven.min(received));
                Some(revoked).filter(|revoked| revoked.covers(latest))
            }
            Signer::Certificate(identity) => {
                let latest = latest(signature, received);
                self.revocations.identity(identity).find(|revoked| revoked.covers(latest))
            }
        }
    }

    /// When a signature by a bare key was made at the latest, if every authority that says so is trusted by some domain.
    fn proven(&self, signature: &Signature, received: Timestamp) -> Option<Timestamp> {
        let domains = self.all_authorities();
        let trusted = |voucher: &Voucher| {
            domains.iter().any(|authorities| is_among(authorities, voucher))
                && !self.authority_is_revoked(voucher, signature, received)
        };
        let all = !signature.vouchers.is_empty() && signature.vouchers.iter().all(trusted);
        signature.signed_before.filter(|_| all)
    }

    /// The authorities of every domain that is not withdrawn.
    fn all_authorities(&self) -> Vec<&Authorities> {
        let builtin = [trust_root::SIGSTORE, trust_root::GITHUB];
        let names = builtin.into_iter().chain(self.domains.keys().map(String::as_str));
        names.filter_map(|domain| self.authorities(domain)).collect()
    }

    /// When the newest effective version of a domain's root was added; unknown of what is compiled in.
    pub fn root_added_on(&self, domain: &str) -> Option<Timestamp> {
        let versions = &self.domains.get(domain)?.versions;
        versions.iter().rev().find(|known| known.effective_at.is_some())?.root.added_on
    }

    /// The authorities of a domain that count: of its newest effective version, else those compiled in.
    pub fn authorities(&self, domain: &str) -> Option<&Authorities> {
        let builtin = trust_root::builtin_authorities(domain);
        let Some(state) = self.domains.get(domain) else { return builtin };
        if state.withdrawn.is_some() {
            return None;
        }
        let newest = state.versions.iter().rev().find(|known| known.effective_at.is_some());
        newest.map(|known| &*known.authorities).or(builtin)
    }

    /// Whether a key counts for what was received at `received`: effective, and not revoked for it.
    pub fn trusts(&self, key: &KeyId, received: Timestamp) -> bool {
        self.keys.get(key).is_some_and(|k| k.effective_at.is_some())
            && !self.revocations.key(key).is_some_and(|revoked| revoked.covers(received))
    }
}

/// Whether an authority was trusted at the moment that it was needed for.
fn is_among(authorities: &Authorities, voucher: &Voucher) -> bool {
    let windows = authorities.get(&(voucher.kind, voucher.authority));
    windows.is_some_and(|windows| windows.iter().any(|w| w.contains(voucher.at)))
}

/// The quorum of a trust domain, and how much of it there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// From how many different logs.
    pub wanted: usize,
    /// From how many there is enough.
    pub logs: usize,
    /// The witnesses that each of their checkpoints must have, for people; none are asked for when absent.
    pub witnesses: Option<String>,
    /// The witnesses of the domain that cosigned any.
    pub cosigned: Vec<String>,
}

/// The latest moment at which a signature was made: proven by an authority, or when we received it.
pub(crate) fn latest(signature: &Signature, received: Timestamp) -> Timestamp {
    signature.signed_before.map_or(received, |proven| proven.min(received))
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
