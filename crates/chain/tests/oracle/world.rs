//! The oracle's own form of a question, its policies and its evidence: plain numbers and texts.

use super::world_more::{More, Vsa};

/// What a digest names. Numbers stand for digests; the oracle never sees a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// SHA-256 of the bytes of document `n`.
    Content(u32),
    /// SHA-384 of the bytes of document `n`.
    Middle(u32),
    /// SHA-512 of the bytes of document `n`.
    Wide(u32),
    /// Git commit `n`.
    Git(u32),
}

/// A registered key.
/// From when on a revocation reaches.
#[derive(Debug, Clone, Copy)]
pub enum Since {
    Ever,
    Minute(i64),
}

#[derive(Debug, Clone)]
pub struct Key {
    pub effective: bool,
    pub revoked: Option<Since>,
    pub service: Option<String>,
    pub from: Option<i64>,
    pub until: Option<i64>,
}

/// Who a trust rule names.
#[derive(Debug, Clone)]
pub enum Signer {
    Keys(Vec<u32>),
    Service(String),
    Identity(Identity),
}

/// A certificate identity that a rule names.
#[derive(Debug, Clone)]
pub struct Identity {
    pub issuer: String,
    /// `exact`, `prefix` or `glob`, and its text.
    pub san: (&'static str, String),
    /// Exact texts of extensions.
    pub ext: Vec<(&'static str, String)>,
    /// `required`, `received` or `optional`.
    pub time: &'static str,
}

/// What a certificate says of who holds it. Equal ones are one signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub san: String,
    pub issuer: Option<String>,
    pub runner: Option<String>,
    pub repository: Option<String>,
    pub id: Option<String>,
    pub commit: Option<u32>,
    pub reference: Option<String>,
    pub trigger: Option<String>,
}

/// A signature with a certificate.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub holder: Holder,
    /// Whether who vouches for it is trusted for that moment.
    pub vouched: bool,
    pub after: i64,
    pub until: i64,
    /// When a trusted authority saw the signature.
    pub proven: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct BuilderRule {
    pub id: String,
    pub domain: Option<String>,
    pub max_level: u8,
    pub self_hosted_max: u8,
    pub signer: Signer,
    /// `exact`, `prefix` or `glob`, and its text; or `equals`, which is the signer's own name.
    pub builder_id: (&'static str, String),
    pub types: Option<Vec<&'static str>>,
    pub from: Option<i64>,
    pub until: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct SourceRule {
    pub id: String,
    pub max_level: u8,
    pub signer: Signer,
    /// `exact`, `prefix` or `glob`, and its text.
    pub verifier: Option<(&'static str, String)>,
    pub from: Option<i64>,
    pub until: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct RegistryRule {
    pub id: String,
    pub signer: Signer,
    pub repositories: Option<Vec<String>>,
    pub from: Option<i64>,
    pub until: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct BuildSection {
    pub min_level: u8,
    pub at_least: u32,
    pub of: Option<Vec<String>>,
    pub agree: bool,
    pub triggers: Option<Vec<String>>,
    pub unknown_allowed: bool,
    pub params: Vec<(String, Vec<String>)>,
}

#[derive(Debug, Clone)]
pub struct SourceSection {
    pub uri: String,
    pub id: Option<String>,
    pub refs: Option<Vec<String>>,
    pub min_level: u8,
    pub unique: bool,
    pub review: Option<u32>,
    pub properties: Option<Vec<String>>,
    pub signed: bool,
    pub signed_by: Option<Vec<u32>>,
}

#[derive(Debug, Clone)]
pub struct InputRule {
    pub role: &'static str,
    pub allow: Option<Vec<String>>,
    pub digests: Vec<u32>,
    pub chain: bool,
    pub depth: Option<u32>,
    pub pinned: Option<bool>,
    pub undeclared_denied: bool,
    pub tolerate: bool,
}

#[derive(Debug, Clone)]
pub struct RegistrySection {
    pub path: Option<Vec<String>>,
    pub promoted_by: Option<Vec<String>>,
}

#[derive(Debug, Clone)]
pub struct Policy {
    pub name: String,
    pub readable: bool,
    pub expires: Option<i64>,
    pub mode: &'static str,
    pub allow_indeterminate: bool,
    pub resources: Vec<String>,
    pub environments: Option<Vec<String>>,
    pub priority: i64,
    pub kinds: Option<Vec<&'static str>>,
    pub platforms: Option<Vec<String>>,
    pub extra_allowed: bool,
    pub builders: Vec<BuilderRule>,
    pub sources: Vec<SourceRule>,
    pub registries: Vec<RegistryRule>,
    pub build: Option<BuildSection>,
    pub source: Option<SourceSection>,
    pub inputs: Vec<InputRule>,
    pub registry: Option<RegistrySection>,
    pub max_age: Option<i64>,
    pub skew: Option<i64>,
    pub order: Option<Vec<&'static str>>,
    pub more: More,
}

#[derive(Debug, Clone)]
pub struct Source {
    pub repository: String,
    pub id: Option<String>,
    pub commit: Option<u32>,
    pub reference: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Dependency {
    pub role: &'static str,
    pub digest: Option<u32>,
    /// A `sha512` beside it: of which document.
    pub wide: Option<u32>,
    pub resource: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Build {
    pub builder: String,
    pub adapter: Option<&'static str>,
    pub source: Option<Source>,
    pub params: Vec<(String, String)>,
    pub unknown: Vec<String>,
    pub trigger: Option<String>,
    pub runner: Option<String>,
    pub deps: Vec<Dependency>,
    pub started: Option<i64>,
    pub finished: Option<i64>,
}

/// Name and forge id.
pub type Person = (String, Option<String>);

#[derive(Debug, Clone)]
pub struct Commit {
    pub repository: String,
    pub id: Option<String>,
    pub reference: String,
    pub updated: i64,
    pub actor: Option<Person>,
    /// Approved revision and approvers.
    pub review: Option<(u32, Vec<Person>)>,
}

/// A source summary, about every commit that its statement names.
#[derive(Debug, Clone)]
pub struct Summary {
    pub verifier: String,
    pub repository: String,
    pub passed: bool,
    pub level: Option<u8>,
    pub properties: Vec<String>,
    pub refs: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Event {
    pub resource: String,
    pub occurred: i64,
    /// From where, and the digest there.
    pub promotion: Option<(String, u32)>,
}

#[derive(Debug, Clone)]
pub enum Claim {
    Build(Build),
    Commit(Commit),
    Summary(Summary),
    Event(Event),
    /// A summary of an image.
    Vsa(Vsa),
    /// `PASSED`, `WARNED` or `FAILED`.
    Test(&'static str),
    /// What holds, and when that was found.
    Svr(Vec<String>, Option<i64>),
    /// When it was made.
    Sbom(Option<i64>),
    Other,
}

/// One attestation. `id` orders them.
#[derive(Debug, Clone)]
pub struct Statement {
    pub id: u32,
    pub payload: u32,
    pub received: i64,
    /// Each subject is a digest set.
    pub subjects: Vec<Vec<Node>>,
    pub signers: Vec<u32>,
    pub certificates: Vec<Certificate>,
    pub claim: Claim,
    pub damaged: bool,
}

#[derive(Debug, Clone)]
pub struct Child {
    pub digest: u32,
    pub platform: Option<String>,
    /// A BuildKit attestation manifest.
    pub attests: bool,
}

#[derive(Debug, Clone)]
pub enum Body {
    Index {
        children: Vec<Child>,
        base: Option<u32>,
    },
    Manifest {
        image: bool,
        config: u32,
        base: Option<u32>,
    },
    Config {
        platform: String,
        layers: Vec<u32>,
    },
    /// The signature: none, by nobody known, by a key.
    Commit {
        signature: Option<Option<u32>>,
    },
}

#[derive(Debug, Clone)]
pub struct Object {
    pub node: Node,
    pub received: i64,
    pub body: Body,
}

#[derive(Debug, Clone)]
pub struct Ask {
    pub digest: u32,
    pub resource: String,
    pub environment: Option<String>,
    pub platform: Option<String>,
}

/// Everything that one verdict depends on.
#[derive(Debug, Clone)]
pub struct World {
    pub seed: u64,
    pub now: i64,
    pub keys: Vec<Key>,
    pub policies: Vec<Policy>,
    pub statements: Vec<Statement>,
    pub objects: Vec<Object>,
    pub truncated: Vec<Node>,
    pub ask: Ask,
    /// The shape and the mutations, for the reader of a failure.
    pub story: Vec<&'static str>,
}

impl Child {
    /// Annotations are unsigned: only both marks together make an attestation manifest.
    pub fn runs(&self) -> bool {
        !(self.attests && self.platform.as_deref() == Some("unknown/unknown"))
    }
}

impl World {
    /// The object with this node.
    pub fn object(&self, node: Node) -> Option<&Object> {
        self.objects.iter().find(|o| o.node == node)
    }

    /// The body of a content node.
    pub fn document(&self, digest: u32) -> Option<&Body> {
        self.object(Node::Content(digest)).map(|o| &o.body)
    }
}
