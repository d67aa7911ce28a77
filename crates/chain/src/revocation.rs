//! Revocations: what is no longer trusted, and since when (chain-model T5).
//!
//! A signature is revoked when all of its signer's are, or when the latest moment at which it may have been made is not
//! before the moment that the revocation names. That moment is the earliest that a trusted authority or our own log proves:
//! a claim inside the statement proves nothing, as whoever stole a key can write it.

use std::{collections::BTreeMap, fmt};

use catenary_evidence::{
    Identity, KeyId,
    digest::{Digest, GitOid, Sha256},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::policy::Matcher;

/// The body of a revocation entry: exactly one target, `from` when only what was made since then is meant, a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Revocation {
    /// What.
    pub target: Target,
    /// Only what may have been made at this moment or later; all when absent.
    pub from: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A registered key.
    Key(KeyId),
    /// Certificates of an identity.
    Identity(IdentityPattern),
    /// Whatever names this builder, byte for byte, whoever signed it.
    Builder(String),
    /// One statement: by the id of an item, and by its payload, so that another signature over the same bytes does not
    /// bring it back.
    Attestation {
        /// The item.
        id: Sha256,
        /// SHA-256 of what it signs, when the item was known.
        payload: Option<Sha256>,
    },
    /// An image, wherever it is.
    Artifact(Digest),
    /// A commit: nothing that was built from it is good.
    Commit(GitOid),
    /// An authority of a trust root: SHA-256 of its certificate (CA, timestamp authority) or key (logs).
    Authority(Sha256),
}

/// Which certificates: all that are given must match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityPattern {
    /// The OIDC issuer, exactly; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The certificate's subject alternative name.
    pub san: Matcher,
    /// The trust domain; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

impl IdentityPattern {
    /// Whether it means this identity.
    pub fn names(&self, identity: &Identity) -> bool {
        self.san.matches(&identity.san)
            && self.issuer.as_ref().is_none_or(|issuer| Some(issuer) == identity.issuer.as_ref())
            && self.root.as_ref().is_none_or(|root| *root == identity.domain)
    }

    /// Whether evidence under this [`Identity::index_key`] may be of an identity that the pattern means.
    pub fn may_name(&self, index_key: &str) -> bool {
        let Ok([domain, issuer, san, ..]) = serde_json::from_str::<[String; 5]>(index_key) else {
            return false;
        };
        self.san.matches(&san)
            && self.issuer.as_ref().is_none_or(|wanted| *wanted == issuer)
            && self.root.as_ref().is_none_or(|root| *root == domain)
    }
}

/// A revocation as its entry's JSON has it.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<KeyId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<IdentityPattern>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    builder: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attestation: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "commit")]
    commit: Option<GitOid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authority: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    reason: String,
}

/// As git shows it, or with the name of its space.
fn commit<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<GitOid>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let hex = text.strip_prefix("gitCommit:").unwrap_or(&text);
    let commit = GitOid::from_hex(hex);
    commit.map(Some).map_err(|_| serde::de::Error::custom("a commit is 40 or 64 lower-case hex digits"))
}

impl Revocation {
    /// Of all signatures of a key.
    pub fn of_key(key: KeyId, reason: &str) -> Self {
        Self { target: Target::Key(key), from: None, reason: reason.to_owned() }
    }
}

impl TryFrom<Wire> for Revocation {
    type Error = &'static str;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        let payload = wire.payload;
        let targets = [
            wire.key.map(Target::Key),
            wire.identity.map(Target::Identity),
            wire.builder.map(Target::Builder),
            wire.attestation.map(|id| Target::Attestation { id, payload }),
            wire.artifact.map(Target::Artifact),
            wire.commit.map(Target::Commit),
            wire.authority.map(Target::Authority),
        ];
        let mut targets = targets.into_iter().flatten();
        let (Some(target), None) = (targets.next(), targets.next()) else {
            return Err(
                "a revocation has exactly one of `key`, `identity`, `builder`, `attestation`, `artifact`, `commit`, `authority`",
            );
        };
        if payload.is_some() && !matches!(target, Target::Attestation { .. }) {
            return Err("`payload` stands beside `attestation` only");
        }
        Ok(Self { target, from: wire.from, reason: wire.reason })
    }
}

impl From<Revocation> for Wire {
    fn from(revocation: Revocation) -> Self {
        let mut wire = Self { from: revocation.from, reason: revocation.reason, ..Self::default() };
        match revocation.target {
            Target::Key(key) => wire.key = Some(key),
            Target::Identity(identity) => wire.identity = Some(identity),
            Target::Builder(builder) => wire.builder = Some(builder),
            Target::Attestation { id, payload } => (wire.attestation, wire.payload) = (Some(id), payload),
            Target::Artifact(digest) => wire.artifact = Some(digest),
            Target::Commit(commit) => wire.commit = Some(commit),
            Target::Authority(authority) => wire.authority = Some(authority),
        }
        wire
    }
}

impl Target {
    /// The member that names it, as in the entry.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Identity(_) => "identity",
            Self::Builder(_) => "builder",
            Self::Attestation { .. } => "attestation",
            Self::Artifact(_) => "artifact",
            Self::Commit(_) => "commit",
            Self::Authority(_) => "authority",
        }
    }
}

/// What is meant, for people.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Identity(identity) => f.write_str(&identity.san.describe()),
            Self::Builder(builder) => f.write_str(builder),
            Self::Attestation { id, .. } => id.fmt(f),
            Self::Artifact(digest) => digest.fmt(f),
            Self::Commit(commit) => commit.fmt(f),
            Self::Authority(authority) => authority.fmt(f),
        }
    }
}

/// How far something is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Index of the entry that says so: of the strictest, when there are several.
    pub index: u64,
    /// As in the entry.
    pub from: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

impl Revoked {
    /// Whether it reaches what was made at `latest` or before.
    pub fn covers(&self, latest: Timestamp) -> bool {
        self.from.is_none_or(|from| latest >= from)
    }

    /// Keeps the stricter of two.
    fn tighten(&mut self, other: Self) {
        let stricter = match (self.from, other.from) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(known), Some(new)) => new < known,
        };
        if stricter {
            *self = other;
        }
    }
}

/// Every revocation of a tenant, folded from its log.
#[derive(Debug, Clone, Default)]
pub struct Revocations {
    keys: BTreeMap<KeyId, Revoked>,
    identities: Vec<(IdentityPattern, Revoked)>,
    builders: BTreeMap<String, Revoked>,
    /// By id, and by payload.
    attestations: BTreeMap<Sha256, Revoked>,
    artifacts: BTreeMap<Digest, Revoked>,
    commits: BTreeMap<GitOid, Revoked>,
    authorities: BTreeMap<Sha256, Revoked>,
    log: Vec<(u64, Revocation)>,
}

impl Revocations {
    /// Folds the entry at `index`.
    pub fn apply(&mut self, index: u64, revocation: &Revocation) {
        let revoked = Revoked { index, from: revocation.from, reason: revocation.reason.clone() };
        match &revocation.target {
            Target::Key(key) => add(&mut self.keys, *key, revoked),
            Target::Identity(identity) => self.identities.push((identity.clone(), revoked)),
            Target::Builder(builder) => add(&mut self.builders, builder.clone(), revoked),
            Target::Attestation { id, payload } => {
                for name in payload.iter().chain([id]) {
                    add(&mut self.attestations, *name, revoked.clone());
                }
            }
            Target::Artifact(digest) => add(&mut self.artifacts, *digest, revoked),
            Target::Commit(commit) => add(&mut self.commits, *commit, revoked),
            Target::Authority(authority) => add(&mut self.authorities, *authority, revoked),
        }
        self.log.push((index, revocation.clone()));
    }

    /// All of them, oldest first, with the indexes of their entries.
    pub fn all(&self) -> &[(u64, Revocation)] {
        &self.log
    }

    /// The one whose entry has this index.
    pub fn at(&self, index: u64) -> Option<&Revocation> {
        let found = self.log.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        self.log.get(found).map(|(_, revocation)| revocation)
    }

    /// How far a key is revoked.
    pub fn key(&self, key: &KeyId) -> Option<&Revoked> {
        self.keys.get(key)
    }

    /// The revocations that mean an identity.
    pub fn identity<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = &'a Revoked> {
        self.identities.iter().filter(|(pattern, _)| pattern.names(identity)).map(|(_, revoked)| revoked)
    }

    /// How far a builder is revoked.
    pub fn builder(&self, builder: &str) -> Option<&Revoked> {
        self.builders.get(builder)
    }

    /// How far a statement is revoked, by its id or its payload.
    pub fn attestation(&self, id: Sha256, payload: Sha256) -> impl Iterator<Item = &Revoked> {
        [id, payload].into_iter().filter_map(|name| self.attestations.get(&name))
    }

    /// How far an image is revoked.
    pub fn artifact(&self, digest: &Digest) -> Option<&Revoked> {
        self.artifacts.get(digest)
    }

    /// Whether no image is.
    pub fn is_empty_of_artifacts(&self) -> bool {
        self.artifacts.is_empty()
    }

    /// How far a commit is revoked.
    pub fn commit(&self, commit: &GitOid) -> Option<&Revoked> {
        self.commits.get(commit)
    }

    /// How far an authority is revoked.
    pub fn authority(&self, authority: &Sha256) -> Option<&Revoked> {
        self.authorities.get(authority)
    }

    /// Whether a new revocation of the same target would change nothing.
    pub fn has(&self, revocation: &Revocation) -> bool {
        let as_strict = |revoked: Option<&Revoked>| {
            revoked.is_some_and(|known| match (known.from, revocation.from) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(known), Some(new)) => known <= new,
            })
        };
        match &revocation.target {
            Target::Key(key) => as_strict(self.keys.get(key)),
            Target::Identity(wanted) => {
                self.identities.iter().any(|(pattern, revoked)| pattern == wanted && as_strict(Some(revoked)))
            }
            Target::Builder(builder) => as_strict(self.builders.get(builder)),
            Target::Attestation { id, payload } => {
                payload.iter().chain([id]).all(|name| as_strict(self.attestations.get(name)))
            }
            Target::Artifact(digest) => as_strict(self.artifacts.get(digest)),
            Target::Commit(commit) => as_strict(self.commits.get(commit)),
            Target::Authority(authority) => as_strict(self.authorities.get(authority)),
        }
    }
}

fn add<K: Ord>(map: &mut BTreeMap<K, Revoked>, key: K, revoked: Revoked) {
    match map.get_mut(&key) {
        Some(known) => known.tighten(revoked),
        None => {
            map.insert(key, revoked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn read(text: &str) -> Result<Revocation, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_entry_has_exactly_one_target() {
        let key = format!(r#"{{"key":"sha256:{}","reason":"lost"}}"#, "11".repeat(32));
        let revocation = read(&key).unwrap();
        assert_eq!(serde_json::to_string(&revocation).unwrap(), key, "read back as it was written");
        assert!(read(r#"{"reason":"lost"}"#).unwrap_err().contains("exactly one"));
        assert!(read(r#"{"builder":"a","commit":"gitCommit:0","reason":"x"}"#).is_err());
        assert!(read(r#"{"builder":"a","payload":"x","reason":"x"}"#).is_err());
        assert!(read(r#"{"builder":"a","reason":"x","scope":"all"}"#).is_err(), "unknown member");
        assert!(read(r#"{"identity":{"san":{"regex":"a)|(b"}},"reason":"x"}"#).is_err());
    }

    #[test]
    fn a_commit_is_named_as_git_shows_it() {
        let hex = "1a".repeat(20);
        let bare = read(&format!(r#"{{"commit":"{hex}","reason":"x"}}"#)).unwrap();
        let full = format!(r#"{{"commit":"gitCommit:{hex}","reason":"x"}}"#);
        assert_eq!(serde_json::to_string(&bare).unwrap(), full);
        assert_eq!(read(&full).unwrap(), bare);
        let error = read(r#"{"commit":"main","reason":"x"}"#).unwrap_err();
        assert!(error.contains("40 or 64"), "{error}");
    }

    #[test]
    fn the_strictest_of_several_holds() {
        let mut all = Revocations::default();
        let revoke = |from: Option<&str>| Revocation {
            target: Target::Builder("https://ci.test".to_owned()),
            from: from.map(time),
            reason: "leaked".to_owned(),
        };
        all.apply(3, &revoke(Some("2026-11-17T00:00:00Z")));
        all.apply(4, &revoke(Some("2026-11-18T00:00:00Z")));
        let revoked = all.builder("https://ci.test").unwrap();
        assert_eq!(revoked.index, 3);
        assert!(revoked.covers(time("2026-11-17T00:00:00Z")), "at the very moment");
        assert!(!revoked.covers(time("2026-11-16T23:59:59Z")));
        assert!(all.has(&revoke(Some("2026-11-19T00:00:00Z"))));
        assert!(!all.has(&revoke(None)));
        all.apply(5, &revoke(None));
        assert!(all.builder("https://ci.test").unwrap().covers(Timestamp::MIN));
    }
}
