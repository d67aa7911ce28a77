//! The members of a policy document, in its own order. Unknown members are refused everywhere.

use std::collections::BTreeMap;

use catenary_evidence::{
    KeyId,
    digest::{Digest, Sha256},
    object::Platform,
    predicate::Role,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::expr::{Assert, OnError, Program};

use super::{
    builds::{BuildType, SigningEvidence},
    delegate::{Summary, VerifierRule, Via},
    exceptions::Exceptions,
    glob::{Glob, Matcher},
    identity::{BuilderId, Extensions, IdentityRule, Pinning, RootPin, SigningTime},
    property::{Negatives, Require, VexRule},
    trial::Trial,
};

/// The whole document.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// `catenary/v1`.
    pub api_version: String,
    /// `ChainPolicy`.
    pub kind: String,
    /// Name, owner, expiry.
    pub metadata: Metadata,
    /// The rules.
    pub spec: Spec,
}

/// Who and until when.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// `[a-z0-9][a-z0-9.-]{0,62}`.
    pub name: String,
    /// For people.
    pub owner: Option<String>,
    /// The policy decides nothing good from here on.
    pub expires: Option<Timestamp>,
    /// How many others must approve before something else takes the place of this revision.
    #[serde(default)]
    pub approvals: u32,
}

/// The rules.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// What a broken chain means.
    #[serde(default)]
    pub mode: Mode,
    /// What an undecided chain means.
    #[serde(default)]
    pub on_indeterminate: OnIndeterminate,
    /// What the policy is for.
    #[serde(rename = "match")]
    pub selects: Match,
    /// What kind of artifact.
    #[serde(default)]
    pub subject: Subject,
    /// Who may speak.
    #[serde(default)]
    pub trust: Trust,
    /// R1.
    pub build: Option<Build>,
    /// R2.
    pub source: Option<Source>,
    /// R3.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// R4.
    pub registry: Option<Registry>,
    /// in-toto layouts that must end in the image.
    #[serde(default)]
    pub layouts: Vec<LayoutRule>,
    /// R5.
    pub summary: Option<Summary>,
    /// R6.
    #[serde(default)]
    pub require: Vec<Require>,
    /// R8.
    #[serde(default)]
    pub negatives: Negatives,
    /// R7.
    #[serde(default)]
    pub time: Time,
    /// What is refused whatever the chain says.
    #[serde(default)]
    pub deny: Vec<Deny>,
    /// Whether and how a broken chain may be allowed for a while; never when absent.
    pub exceptions: Option<Exceptions>,
    /// What the policy must say about kept evidence before it is activated.
    #[serde(default)]
    pub tests: Vec<Trial>,
}

impl Spec {
    /// The builder rules that R1 examines: those of `build.builders.of`, or all.
    pub fn builders(&self) -> impl Iterator<Item = &BuilderRule> {
        let of = self.build.as_ref().and_then(|build| build.builders.of.as_ref());
        self.trust.builders.iter().filter(move |rule| of.is_none_or(|ids| ids.contains(&rule.id)))
    }

    /// The registry rules that R4 examines: those of `registry.promotedBy`, or all.
    pub fn registries(&self) -> impl Iterator<Item = &RegistryRule> {
        let by = self.registry.as_ref().and_then(|registry| registry.promoted_by.as_ref());
        self.trust.registries.iter().filter(move |rule| by.is_none_or(|ids| ids.contains(&rule.id)))
    }
}

/// `match.when`: an expression, or one with what its errors mean.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Over the context of the question.
    pub expr: Program,
    /// What an error means.
    pub on_error: OnError,
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Whole {
            expr: String,
            #[serde(default)]
            on_error: OnError,
        }
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "an expression, or `{expr, onError}`")]
        enum Wire {
            Expr(String),
            Whole(Whole),
        }
        let (source, on_error) = match Wire::deserialize(deserializer)? {
            Wire::Expr(source) => (source, OnError::default()),
            Wire::Whole(whole) => (whole.expr, whole.on_error),
        };
        Program::parse(&source).map(|expr| Self { expr, on_error }).map_err(D::Error::custom)
    }
}

/// One of `deny`: an expression, or digests.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deny {
    /// The rule's id.
    pub id: String,
    /// Refused when this is true.
    pub when: Option<Program>,
    /// Refused digests.
    pub digests: Option<Vec<Digest>>,
    /// What to say.
    pub message: Option<String>,
    /// What an error means.
    #[serde(default)]
    pub on_error: OnError,
    /// What a match means.
    #[serde(default)]
    pub mode: Mode,
}

/// `mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A broken chain is not allowed.
    #[default]
    Enforce,
    /// A broken chain is allowed, and said.
    Warn,
    /// The policy is only tried.
    Shadow,
}

impl Mode {
    /// As in the document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Warn => "warn",
            Self::Shadow => "shadow",
        }
    }
}

/// `onIndeterminate`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnIndeterminate {
    /// Not allowed.
    #[default]
    Deny,
    /// Allowed.
    Allow,
}

/// `match`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// Repositories.
    pub resources: Vec<Glob>,
    /// Environments; any when absent.
    pub environments: Option<Vec<String>>,
    /// The highest decides.
    #[serde(default)]
    pub priority: i32,
    /// What the question must say besides.
    pub when: Option<Condition>,
}

/// `subject`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// Kinds; both when absent.
    pub kinds: Option<Vec<Kind>>,
    /// Platforms that must be there.
    #[serde(default, deserialize_with = "platforms")]
    pub platforms: Option<Vec<Platform>>,
    /// Whether others may be there too.
    #[serde(default)]
    pub extra_platforms: Tolerance,
}

/// Kinds of artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An index.
    ImageIndex,
    /// A manifest.
    ImageManifest,
}

/// `deny` or `allow`, deny by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tolerance {
    /// Refuse.
    #[default]
    Deny,
    /// Tolerate.
    Allow,
}

/// `trust`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trust {
    /// Which trust roots may vouch for certificates; all of the tenant's when absent.
    pub roots: Option<Vec<RootPin>>,
    /// How long ago the newest version of a root may have been added.
    #[serde(default, deserialize_with = "duration")]
    pub max_root_age: Option<SignedDuration>,
    /// Who may speak about builds.
    #[serde(default)]
    pub builders: Vec<BuilderRule>,
    /// Who may speak about commits.
    #[serde(default)]
    pub sources: Vec<SourceRule>,
    /// Who may speak about registries.
    #[serde(default)]
    pub registries: Vec<RegistryRule>,
    /// Who may say how CI runs ended; of each build its own signer when there is none.
    #[serde(default)]
    pub runs: Vec<RunRule>,
    /// Signers by name, for `signer: {group: name}` and `principals: name`. A document that has none means the tenant's groups.
    #[serde(default)]
    pub groups: BTreeMap<String, Group>,
    /// Whose verification summaries may stand for a chain.
    #[serde(default)]
    pub verifiers: Vec<VerifierRule>,
    /// Who may say what a vulnerability means for an image.
    #[serde(default)]
    pub vex: Vec<VexRule>,
}

/// One of `trust.builders`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuilderRule {
    /// The rule's id.
    pub id: String,
    /// Who operates it: builders of one domain count once. Defaults to the id.
    pub domain: Option<String>,
    /// The level that its builds have.
    #[serde(default = "two")]
    pub max_level: u8,
    /// The level that its builds have on a runner that is not GitHub-hosted.
    #[serde(default = "two")]
    pub self_hosted_max: u8,
    /// Whose signature.
    pub signer: Signer,
    /// Which builder ids that signer may speak for.
    pub builder_id: BuilderId,
    /// Build types; all that have an adapter when absent.
    pub build_types: Option<Vec<BuildType>>,
    /// Its builds have no network, whether or not the provenance says so.
    #[serde(default)]
    pub hermetic: bool,
    /// What must prove its signatures' times and publicity.
    #[serde(default)]
    pub evidence: SigningEvidence,
    /// Statements received from here on.
    pub valid_from: Option<Timestamp>,
    /// Statements received before.
    pub valid_until: Option<Timestamp>,
}

impl BuilderRule {
    /// The trust domain.
    pub fn domain(&self) -> &str {
        self.domain.as_deref().unwrap_or(&self.id)
    }
}

/// One of `trust.sources`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceRule {
    /// The rule's id.
    pub id: String,
    /// The level that its commits have; of a source summary, the most that it may give.
    #[serde(default = "one")]
    pub max_level: u8,
    /// Whose signature.
    pub signer: Signer,
    /// Which verifiers that signer may speak for in source summaries; any when absent.
    pub verifier_id: Option<Matcher>,
    /// Statements received from here on.
    pub valid_from: Option<Timestamp>,
    /// Statements received before.
    pub valid_until: Option<Timestamp>,
}

/// One of `trust.runs`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunRule {
    /// The rule's id.
    pub id: String,
    /// Whose signature.
    pub signer: Signer,
    /// Statements received from here on.
    pub valid_from: Option<Timestamp>,
    /// Statements received before.
    pub valid_until: Option<Timestamp>,
}

/// One of `trust.groups`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Registered keys.
    #[serde(default)]
    pub keys: Vec<KeyId>,
    /// Certificate identities.
    #[serde(default)]
    pub identities: Vec<IdentityRule>,
}

/// One of `trust.registries`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryRule {
    /// The rule's id.
    pub id: String,
    /// Whose signature.
    pub signer: Signer,
    /// Repositories that it may speak about; all when absent.
    pub repositories: Option<Vec<Glob>>,
    /// Statements received from here on.
    pub valid_from: Option<Timestamp>,
    /// Statements received before.
    pub valid_until: Option<Timestamp>,
}

/// Exactly one of `key`, `keys`, `service`, `group`, or an identity (`issuer` and `san`).
#[derive(Debug, Clone)]
pub enum Signer {
    /// Any of these registered keys.
    Keys(Vec<KeyId>),
    /// Any key registered for this service of ours.
    Service(String),
    /// Certificates of this identity.
    Identity(Box<IdentityRule>),
    /// Whoever is in a group of the tenant. In the place of a group of `trust.groups` a parsed policy has [`Signer::Any`].
    Group(String),
    /// Any of these.
    Any(Group),
}

/// The members of a [`Signer`], and `anyOf` where a rule may name others by their ids.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SignerWire {
    key: Option<KeyId>,
    keys: Option<Vec<KeyId>>,
    service: Option<String>,
    group: Option<String>,
    issuer: Option<String>,
    san: Option<Matcher>,
    root: Option<String>,
    ext: Option<Extensions>,
    pin: Option<Pinning>,
    timestamp: Option<SigningTime>,
    pub(super) any_of: Option<Vec<String>>,
}

impl SignerWire {
    /// Whether nothing is given.
    pub(super) fn is_empty(&self) -> bool {
        let Self { key, keys, service, group, issuer, san, root, ext, pin, timestamp, any_of } = self;
        key.is_none()
            && keys.is_none()
            && service.is_none()
            && group.is_none()
            && issuer.is_none()
            && san.is_none()
            && root.is_none()
            && ext.is_none()
            && pin.is_none()
            && timestamp.is_none()
            && any_of.is_none()
    }

    pub(super) fn signer(self) -> Result<Signer, &'static str> {
        let identity =
            self.root.is_some() || self.ext.is_some() || self.timestamp.is_some() || self.pin.is_some();
        if let Some(group) = &self.group {
            let alone = Self { group: None, ..self }.is_empty();
            return match alone && !group.is_empty() {
                true => Ok(Signer::Group(group.clone())),
                false => Err("a signer that is a `group` is nothing else"),
            };
        }
        match (self.key, self.keys, self.service, self.issuer, self.san) {
            _ if self.any_of.is_some() => Err("`anyOf` has no place here"),
            (Some(key), None, None, None, None) if !identity => Ok(Signer::Keys(vec![key])),
            (None, Some(keys), None, None, None) if !identity && !keys.is_empty() => Ok(Signer::Keys(keys)),
            (None, None, Some(service), None, None) if !identity && !service.is_empty() => {
                Ok(Signer::Service(service))
            }
            (None, None, None, Some(issuer), Some(san)) if !issuer.is_empty() => {
                Ok(Signer::Identity(Box::new(IdentityRule {
                    issuer,
                    san,
                    root: self.root,
                    ext: self.ext.unwrap_or_default().0,
                    roots: None,
                    pin: self.pin,
                    timestamp: self.timestamp.unwrap_or_default(),
                })))
            }
            _ => Err(
                "a signer has exactly one of `key`, `keys`, `service`, `group`, or `issuer` with `san`, and it is not empty",
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Signer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SignerWire::deserialize(deserializer)?.signer().map_err(D::Error::custom)
    }
}

/// `build`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Build {
    /// The lowest level.
    #[serde(default)]
    pub min_level: u8,
    /// How many of which builders.
    #[serde(default)]
    pub builders: Builders,
    /// Events that may start a build; any when absent.
    pub triggers: Option<Vec<String>>,
    /// External parameters.
    #[serde(default)]
    pub params: Params,
    /// How the CI run must have ended.
    pub run: Option<Run>,
    /// Whether it must have had no network.
    #[serde(default)]
    pub hermetic: bool,
    /// What the provenance must name in full.
    #[serde(default)]
    pub complete: Complete,
    /// What a build that does not serve means.
    #[serde(default)]
    pub mode: Mode,
}

/// `build.run`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Run {
    /// Any of these.
    pub conclusion: Vec<String>,
}

/// `build.complete`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Complete {
    /// Every dependency.
    #[serde(default)]
    pub dependencies: bool,
    /// Every external parameter.
    #[serde(default)]
    pub parameters: bool,
}

/// `build.builders`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Builders {
    /// From how many domains.
    #[serde(default = "one_u32")]
    pub at_least: u32,
    /// Ids of `trust.builders`; all when absent.
    pub of: Option<Vec<String>>,
    /// What must differ: always the domain.
    pub distinct: Option<Distinct>,
    /// What they must agree on.
    #[serde(default)]
    pub agree_on: Vec<AgreeOn>,
}

impl Default for Builders {
    fn default() -> Self {
        Self { at_least: 1, of: None, distinct: None, agree_on: Vec::new() }
    }
}

/// `build.builders.distinct`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Distinct {
    /// The trust domain.
    #[serde(rename = "domain")]
    Domain,
}

/// `build.builders.agreeOn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum AgreeOn {
    /// The commit that was built.
    #[serde(rename = "source.commit")]
    SourceCommit,
}

/// `build.params`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Params {
    /// Parameters that the adapter does not know.
    #[serde(default)]
    pub unknown: Tolerance,
    /// Allowed values by path.
    #[serde(default)]
    pub allow: BTreeMap<String, Vec<String>>,
    /// What must be true of the build.
    #[serde(default)]
    pub assert: Vec<Assert>,
}

/// `source`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// The repository.
    pub repository: Repository,
    /// Allowed refs; any when absent.
    pub refs: Option<Vec<Glob>>,
    /// The lowest level.
    #[serde(default)]
    pub min_level: u8,
    /// What trusted source summaries must say of the commit beside its level.
    pub properties: Option<Vec<String>>,
    /// Refs into which the commit must have gone.
    pub reachable_from: Option<Vec<Glob>>,
    /// A control that must have been on without a gap.
    pub continuity: Option<Continuity>,
    /// What a commit means that is known by SHA-1 only.
    #[serde(default)]
    pub sha1: Sha1,
    /// Whether all trusted builds must name one commit.
    #[serde(default = "yes")]
    pub unique: bool,
    /// Review by others.
    pub review: Option<Review>,
    /// Signatures on the git objects.
    #[serde(default)]
    pub signatures: Signatures,
    /// What a source that does not serve means.
    #[serde(default)]
    pub mode: Mode,
}

/// `source.continuity`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Continuity {
    /// As source provenance calls it.
    pub control: String,
    /// On at least since then.
    pub since: Timestamp,
}

/// `source.sha1`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sha1 {
    /// As most repositories are.
    #[default]
    Allow,
    /// Said.
    Warn,
    /// Refused.
    Deny,
}

/// `source.repository`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repository {
    /// Canonical URI.
    pub uri: String,
    /// Numeric id.
    pub id: Option<String>,
    /// Names that it had before. Evidence under one of them is about this repository when it carries the id.
    #[serde(default)]
    pub formerly: Vec<String>,
}

impl Repository {
    /// Whether it has or had this name.
    pub fn has_name(&self, name: &str) -> bool {
        name == self.uri || self.formerly.iter().any(|former| former == name)
    }

    /// Whether evidence that gives a repository this name and this id is about this one. A name that was given up may be somebody
    /// else's by now: it means nothing without the id.
    pub fn is(&self, name: &str, id: Option<&str>) -> bool {
        let same = || self.id.is_some() && self.id.as_deref() == id;
        name == self.uri || (self.has_name(name) && same())
    }
}

/// `source.review`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Review {
    /// How many approvers other than the actor.
    pub at_least: u32,
}

/// `source.signatures`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signatures {
    /// On the commit.
    #[serde(default)]
    pub commit: CommitSignature,
    /// On the tag that was built.
    pub tag: Option<TagSignature>,
}

/// `source.signatures.tag`: asked of builds from a tag.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TagSignature {
    /// Whether there must be one.
    #[serde(default)]
    pub required: bool,
    /// By which keys; any that counts when no signers are named.
    pub keys: Option<Vec<KeyId>>,
    /// By which certificate identities.
    pub identities: Option<Vec<IdentityRule>>,
    /// By whom in a group: of the tenant, once a group of `trust.groups` was put into the two above.
    pub principals: Option<String>,
    /// By how many of them.
    #[serde(default = "one_u32")]
    pub at_least: u32,
}

/// `source.signatures.commit`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommitSignature {
    /// Whether there must be one.
    #[serde(default)]
    pub required: bool,
    /// By which keys; any that counts when neither `keys` nor `identities` is there.
    pub keys: Option<Vec<KeyId>>,
    /// By which certificate identities (gitsign).
    pub identities: Option<Vec<IdentityRule>>,
    /// By whom in a group: of the tenant, once a group of `trust.groups` was put into the two above.
    pub principals: Option<String>,
}

/// One of `inputs`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    /// Which dependencies.
    pub role: Role,
    /// Allowed repositories.
    pub allow: Option<Vec<Glob>>,
    /// Allowed digests.
    #[serde(default, deserialize_with = "digests")]
    pub digests: Option<Vec<Digest>>,
    /// Whether the input must have a chain of its own.
    #[serde(default)]
    pub chain: bool,
    /// A verification summary that stands for the input's chain.
    pub via: Option<Via>,
    /// The lowest level of the input's own chain, by track.
    #[serde(default)]
    pub levels: BTreeMap<String, u8>,
    /// How old the newest trusted build of the input may be.
    #[serde(default, deserialize_with = "duration")]
    pub max_age: Option<SignedDuration>,
    /// How many hops from the question a chain may go.
    #[serde(default = "eight")]
    pub depth: u32,
    /// Whether it must be pinned by digest.
    pub pinned: Option<Pinned>,
    /// What a base image that is not declared means.
    #[serde(default = "tolerated")]
    pub undeclared: Tolerance,
    /// Only `pinned` is checked.
    #[serde(default)]
    pub tolerate: bool,
    /// What an input that does not serve means.
    #[serde(default)]
    pub mode: Mode,
}

impl Input {
    /// Whether the rule asks for something that only a digest can answer.
    pub fn rests_on_digest(&self) -> bool {
        self.chain || self.digests.is_some() || self.via.is_some() || self.max_age.is_some()
    }

    /// Whether a dependency of this role must be pinned.
    pub fn must_be_pinned(&self) -> bool {
        match self.pinned {
            Some(pinned) => pinned == Pinned::Required,
            None => matches!(self.role, Role::BaseImage | Role::BuilderImage) || self.rests_on_digest(),
        }
    }
}

/// `inputs[].pinned`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pinned {
    /// Must be.
    Required,
    /// May be.
    Optional,
}

/// `registry`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// Repositories from the build's push to here; the resource itself when absent.
    pub path: Option<Vec<Glob>>,
    /// Ids of `trust.registries`; all when absent.
    pub promoted_by: Option<Vec<String>>,
    /// What a hop keeps: always the digest.
    pub hops: Option<Hops>,
    /// What a tag that pointed to another image before means.
    #[serde(default)]
    pub moved_tags: Sha1,
    /// What a path that does not lead here means.
    #[serde(default)]
    pub mode: Mode,
}

/// `registry.hops`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Hops {
    /// The digest stays.
    #[serde(rename = "same-digest")]
    SameDigest,
}

/// One of `layouts`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LayoutRule {
    /// SHA-256 of what the layout's owner signed.
    pub layout: Sha256,
    /// The owner.
    pub signer: Signer,
    /// Who may be a functionary at all. The layout says which step each may do.
    pub functionaries: Signer,
    /// Layouts that stand for a step, by its name; enough functionaries of the step must have signed each.
    #[serde(default)]
    pub sublayouts: BTreeMap<String, Sha256>,
    /// What a layout that does not end in the image means.
    #[serde(default)]
    pub mode: Mode,
}

/// `time`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Time {
    /// How old the newest build may be.
    #[serde(default, deserialize_with = "duration")]
    pub max_artifact_age: Option<SignedDuration>,
    /// How far clocks may be apart.
    #[serde(default, deserialize_with = "duration")]
    pub skew: Option<SignedDuration>,
    /// Which orders are asked for; those that can be when absent.
    pub order: Option<Vec<Order>>,
    /// What a violated order or age means.
    #[serde(default)]
    pub mode: Mode,
}

/// `time.order`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Order {
    /// The ref was updated before the build started.
    #[serde(rename = "source<build")]
    SourceBeforeBuild,
    /// The build started before the push.
    #[serde(rename = "build<push")]
    BuildBeforePush,
    /// The build started before the artifact's bytes were here.
    #[serde(rename = "build<artifact")]
    BuildBeforeArtifact,
}

/// Longest duration in a policy: a hundred years keeps time arithmetic far from its ends.
const MAX_DURATION: i64 = 100 * 366 * 86_400;

pub(super) fn duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SignedDuration>, D::Error> {
    span(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

/// Reads an integer and its unit.
pub fn span(text: &str) -> Result<SignedDuration, String> {
    let parsed = text.split_at_checked(text.len().saturating_sub(1)).and_then(|(number, unit)| {
        let unit = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let number: i64 = if digits { number.parse().ok()? } else { return None };
        number.checked_mul(unit).filter(|seconds| *seconds <= MAX_DURATION)
    });
    parsed.map(SignedDuration::from_secs).ok_or_else(|| {
        format!(
            "`{text}` is not a duration: an integer and one of `s`, `m`, `h`, `d`, at most a hundred years"
        )
    })
}

fn platforms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Platform>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parse = |text: &String| {
        parse_platform(text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not `os/architecture[/variant]`")))
    };
    texts.iter().map(parse).collect::<Result<_, _>>().map(Some)
}

/// Reads `os/architecture[/variant]`.
pub fn parse_platform(text: &str) -> Option<Platform> {
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts[..] {
        [os, architecture] => (os, architecture, None),
        [os, architecture, variant] => (os, architecture, Some(variant)),
        _ => return None,
    };
    if parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    Some(Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.map(str::to_owned),
    })
}

/// An empty list is the same as none: the sample document writes `digests: []`.
fn digests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Digest>>, D::Error> {
    let list = Vec::<Digest>::deserialize(deserializer)?;
    Ok((!list.is_empty()).then_some(list))
}

fn one() -> u8 {
    1
}

fn one_u32() -> u32 {
    1
}

fn two() -> u8 {
    2
}

pub(super) fn eight() -> u32 {
    8
}

fn yes() -> bool {
    true
}

fn tolerated() -> Tolerance {
    Tolerance::Allow
}
