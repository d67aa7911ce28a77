//! Certificate identities that a policy trusts (chain-model 1.5).

use std::{collections::BTreeMap, sync::Arc};

use catenary_evidence::{
    signer::{Claims, Identity},
    trust_root::SIGSTORE,
};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::glob::{Glob, Matcher};

/// `{issuer, san, root?, ext?, timestamp?}`: the issuer is exact, the name is matched from end to end.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentityRule {
    /// The OIDC issuer, exactly.
    pub issuer: String,
    /// The certificate's subject alternative name.
    pub san: Matcher,
    /// The trust domain that must vouch for the certificate; any when absent.
    pub root: Option<String>,
    /// Fulcio's extensions by the names of [`Claims`], each a matcher or an exact text. One that the certificate does not
    /// have matches nothing.
    #[serde(default, deserialize_with = "extensions")]
    pub ext: BTreeMap<String, Matcher>,
    /// Whether the repository's numeric ids are pinned by the first certificate that the rule takes.
    pub pin: Option<Pinning>,
    /// What must say when it was signed.
    #[serde(default)]
    pub timestamp: SigningTime,
    /// `trust.roots` of the policy.
    #[serde(skip)]
    pub roots: Option<Arc<[RootPin]>>,
}

/// One of `trust.roots`: `domain`, or `domain@version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootPin {
    /// The trust domain.
    pub domain: String,
    /// The version that its authorities must be in; the newest when absent.
    pub version: Option<u64>,
}

/// What the public good instance is called where it stands beside others.
pub(super) const PUBLIC_GOOD: &str = "sigstore-public-good";

impl<'de> Deserialize<'de> for RootPin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (domain, version) = match text.rsplit_once('@') {
            None => (text.as_str(), None),
            Some((domain, version)) => {
                let digits = version.bytes().all(|b| b.is_ascii_digit());
                let number = version.parse().ok().filter(|_| digits);
                let number =
                    number.ok_or_else(|| D::Error::custom(format!("`{version}` is no version of a root")))?;
                (domain, Some(number))
            }
        };
        match domain {
            "" => Err(D::Error::custom("a root is the name of a trust domain, or `name@version`")),
            PUBLIC_GOOD => Ok(Self { domain: SIGSTORE.to_owned(), version }),
            name => Ok(Self { domain: name.to_owned(), version }),
        }
    }
}

/// When a repository's ids are pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Pinning {
    /// By the first certificate that is taken in.
    #[serde(rename = "firstUse")]
    FirstUse,
}

/// What must say when a certificate signed (chain-model T1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SigningTime {
    /// A trusted authority: a timestamp authority, or a log that promises a time.
    #[default]
    Required,
    /// That, or our own log, which received it while the certificate was valid.
    Received,
    /// Nothing: whoever steals the certificate's key may sign for ever.
    Optional,
}

/// What alone keeps a rule from naming an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miss {
    /// Everything is right but the repository's ids, which are not those of its first use.
    Repository,
    /// Another OIDC issuer vouches for the name.
    Issuer,
    /// The same workflow, on a runner that the rule does not take.
    Runner,
    /// The same workflow, at a branch.
    Ref,
}

impl IdentityRule {
    /// Whether the rule names this identity.
    pub fn names(&self, identity: &Identity) -> bool {
        identity.issuer.as_ref() == Some(&self.issuer)
            && self.matches_san(&identity.san)
            && self.may_be_of(&identity.domain)
            && self.ext.iter().all(|(name, matcher)| {
                claim(&identity.claims, name).is_some_and(|value| matcher.matches(value))
            })
    }

    /// The one thing that keeps the rule from naming the identity, when there is only one: the issuer, the runner, or the ref at
    /// which the workflow was taken.
    pub fn misses(&self, identity: &Identity) -> Option<Miss> {
        let is_issuer = identity.issuer.as_ref() == Some(&self.issuer);
        let is_named = self.matches_san(&identity.san);
        let mut wrong = self.ext.iter().filter(|(name, matcher)| {
            !claim(&identity.claims, name).is_some_and(|value| matcher.matches(value))
        });
        let wrong = (wrong.next().map(|(name, _)| name.as_str()), wrong.next());
        if !self.may_be_of(&identity.domain) {
            return None;
        }
        match (is_issuer, is_named, wrong) {
            (false, true, (None, _)) => Some(Miss::Issuer),
            (true, true, (Some("runnerEnvironment"), None)) => {
                identity.claims.runner_environment.as_ref().map(|_| Miss::Runner)
            }
            (true, false, (None, _)) => {
                (identity.takes_a_moving_ref() && self.wants_another_ref(&identity.san)).then_some(Miss::Ref)
            }
            _ => None,
        }
    }

    /// Whether the rule names the same workflow at refs that do not move.
    fn wants_another_ref(&self, san: &str) -> bool {
        let Some((workflow, _)) = san.split_once("@refs/") else { return false };
        let text = match &self.san {
            Matcher::Exact(text) | Matcher::Prefix(text) => text.as_str(),
            Matcher::Glob(glob) => glob.as_str(),
            Matcher::Regex(..) => return false,
        };
        let Some((wanted, at)) = text.split_once('@') else { return false };
        !at.starts_with("refs/heads/")
            && match &self.san {
                Matcher::Glob(_) => Glob::new(wanted).is_ok_and(|glob| glob.matches(workflow)),
                _ => wanted == workflow,
            }
    }

    /// Whether a trust domain of that name may vouch for it.
    fn may_be_of(&self, domain: &str) -> bool {
        let listed = |roots: &Arc<[RootPin]>| roots.iter().any(|pin| pin.domain == domain);
        self.root.as_ref().is_none_or(|root| root == domain) && self.roots.as_ref().is_none_or(listed)
    }

    fn matches_san(&self, san: &str) -> bool {
        #[cfg(feature = "faults")]
        if crate::faults::on(crate::faults::Fault::UnanchoredNames)
            && (1..san.len()).any(|end| san.get(..end).is_some_and(|head| self.san.matches(head)))
        {
            return true;
        }
        self.san.matches(san)
    }

    /// Whether evidence under this [`Identity::index_key`] may be of an identity that the rule names.
    pub fn may_name(&self, index_key: &str) -> bool {
        let Ok([domain, issuer, san, uri, id]) = serde_json::from_str::<[String; 5]>(index_key) else {
            return false;
        };
        let claims = [("sourceRepositoryUri", uri), ("sourceRepositoryId", id)];
        issuer == self.issuer
            && self.matches_san(&san)
            && self.may_be_of(&domain)
            && claims.iter().all(|(name, value)| self.ext.get(*name).is_none_or(|m| m.matches(value)))
    }

    /// The signing time that counts, if there is one. `received` is when our log took it in.
    pub fn signed_at(
        &self,
        signature: &catenary_evidence::Signature,
        received: Timestamp,
    ) -> Option<Timestamp> {
        if let Some(proven) = signature.signed_before {
            return Some(proven);
        }
        let valid = signature.signed_after.is_none_or(|from| from <= received)
            && signature.expires.is_none_or(|until| received <= until);
        match self.timestamp {
            SigningTime::Required => None,
            SigningTime::Received => valid.then_some(received),
            SigningTime::Optional => Some(received),
        }
    }
}

/// A claim by its name in policies.
fn claim<'a>(claims: &'a Claims, name: &str) -> Option<&'a str> {
    let value = match name {
        "buildSignerUri" => &claims.build_signer_uri,
        "buildSignerDigest" => &claims.build_signer_digest,
        "runnerEnvironment" => &claims.runner_environment,
        "sourceRepositoryUri" => &claims.source_repository_uri,
        "sourceRepositoryDigest" => &claims.source_repository_digest,
        "sourceRepositoryRef" => &claims.source_repository_ref,
        "sourceRepositoryId" => &claims.source_repository_id,
        "sourceRepositoryOwnerUri" => &claims.source_repository_owner_uri,
        "sourceRepositoryOwnerId" => &claims.source_repository_owner_id,
        "buildConfigUri" => &claims.build_config_uri,
        "buildConfigDigest" => &claims.build_config_digest,
        "buildTrigger" => &claims.build_trigger,
        "runInvocationUri" => &claims.run_invocation_uri,
        "sourceRepositoryVisibility" => &claims.source_repository_visibility,
        "deploymentEnvironment" => &claims.deployment_environment,
        _ => return None,
    };
    value.as_deref()
}

/// The names that [`claim`] knows.
const NAMES: [&str; 15] = [
    "buildSignerUri",
    "buildSignerDigest",
    "runnerEnvironment",
    "sourceRepositoryUri",
    "sourceRepositoryDigest",
    "sourceRepositoryRef",
    "sourceRepositoryId",
    "sourceRepositoryOwnerUri",
    "sourceRepositoryOwnerId",
    "buildConfigUri",
    "buildConfigDigest",
    "buildTrigger",
    "runInvocationUri",
    "sourceRepositoryVisibility",
    "deploymentEnvironment",
];

/// A claim that nobody knows would be a condition that nobody checks.
fn extensions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Matcher>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Wire {
        Exact(String),
        Matcher(Matcher),
    }
    let wire = BTreeMap::<String, Wire>::deserialize(deserializer)?;
    let mut found = BTreeMap::new();
    for (name, wire) in wire {
        if !NAMES.contains(&name.as_str()) {
            return Err(D::Error::custom(format!(
                "`{name}` is no extension; known are {}",
                NAMES.join(", ")
            )));
        }
        let matcher = match wire {
            Wire::Exact(text) if text.is_empty() => {
                return Err(D::Error::custom(format!("`{name}` is empty")));
            }
            Wire::Exact(text) => Matcher::Exact(text),
            Wire::Matcher(matcher) => matcher,
        };
        found.insert(name, matcher);
    }
    Ok(found)
}

/// `ext` by itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Extensions(pub BTreeMap<String, Matcher>);

impl<'de> Deserialize<'de> for Extensions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        extensions(deserializer).map(Self)
    }
}

/// Which builder ids a signer may speak for: `{equals: signer.san}`, or a matcher.
#[derive(Debug, Clone)]
pub enum BuilderId {
    /// The certificate's own name: GitHub's workflows are their own builders.
    Signer,
    /// Whatever matches.
    Matches(Matcher),
}

/// What GitHub's first attestations named instead of the workflow that signed them.
const GITHUB_RUNNER: &str = "https://github.com/actions/runner/github-hosted";

impl BuilderId {
    /// Whether a signer of these names may speak for `builder`.
    pub fn matches<'a>(&self, builder: &str, mut names: impl Iterator<Item = &'a Identity>) -> bool {
        match self {
            Self::Matches(matcher) => matcher.matches(builder),
            Self::Signer => names.any(|identity| {
                let hosted = identity.claims.runner_environment.as_deref() == Some("github-hosted");
                let workflow = &identity.claims.build_signer_uri;
                let own = identity.san == builder && workflow.as_ref().is_none_or(|uri| uri == builder);
                own || (hosted && builder == GITHUB_RUNNER)
            }),
        }
    }

    /// The rule for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Signer => "the signer's own name".to_owned(),
            Self::Matches(matcher) => matcher.describe(),
        }
    }
}

impl<'de> Deserialize<'de> for BuilderId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Equals(Equals),
            Matcher(Matcher),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Equals {
            equals: String,
        }
        match Wire::deserialize(deserializer) {
            Ok(Wire::Equals(Equals { equals })) if equals == "signer.san" => Ok(Self::Signer),
            Ok(Wire::Matcher(matcher)) => Ok(Self::Matches(matcher)),
            _ => Err(D::Error::custom(
                "a builder id is `{equals: signer.san}`, or has exactly one of `exact`, `prefix`, `glob`, `regex`",
            )),
        }
    }
}
