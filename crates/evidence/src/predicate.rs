//! Predicates, projected to the normal forms that the chain reads.
//!
//! Unknown members of foreign predicates are ignored (in-toto's monotonic principle), except external
//! parameters, which are *reported* as unknown (SLSA: SHOULD fail). Our own predicates refuse them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    digest::{Digest, GitOid, Node},
    json,
    key::KeyId,
    layout::{Layout, Link},
    limits::MAX_TEXT,
    mention::Mention,
    refusal::Refusal,
    statement::{DigestSet, Statement},
    tagged::tagged,
};

mod ci_run;
mod commit;
mod judged;
pub mod provenance;
mod registry_event;
mod results;
mod sbom;
mod scan;
mod source_tool;
mod vex;
mod vsa;

pub use judged::{Finding, Findings, Severity, VexProduct, VexStatement, VexStatements, VexStatus};

/// SLSA provenance v1.
pub const PROVENANCE_V1: &str = "https://slsa.dev/provenance/v1";
/// SLSA provenance v0.2.
pub const PROVENANCE_V02: &str = "https://slsa.dev/provenance/v0.2";
/// SLSA provenance v0.1.
pub const PROVENANCE_V01: &str = "https://slsa.dev/provenance/v0.1";
/// What the SLSA source tool says of a commit.
pub const SOURCE_PROVENANCE: &str =
    "https://github.com/slsa-framework/slsa-source-poc/source-provenance/v1-draft";
/// The same in its first weeks, when levels stood where controls do now.
pub const SOURCE_PROVENANCE_FIRST: &str =
    "https://github.com/slsa-framework/slsa-source-poc/source-provenance/v1";
/// What the SLSA source tool says of a tag.
pub const TAG_PROVENANCE: &str = "https://github.com/slsa-framework/slsa-source-poc/tag-provenance/v1-draft";
/// SLSA verification summary v1.
pub const SUMMARY_V1: &str = "https://slsa.dev/verification_summary/v1";
/// Our commit predicate.
pub const COMMIT_V1: &str = "urn:catenary:predicate:commit:v1";
/// Our registry-event predicate.
pub const REGISTRY_EVENT_V1: &str = "urn:catenary:predicate:registry-event:v1";
/// Our ci-run predicate.
pub const CI_RUN_V1: &str = "urn:catenary:predicate:ci-run:v1";

/// SPDX documents, of any version.
pub const SPDX: &str = "https://spdx.dev/Document";
/// CycloneDX documents, of any version.
pub const CYCLONEDX: &str = "https://cyclonedx.org/bom";
/// cosign's vulnerability scans.
pub const COSIGN_VULN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";
/// OpenVEX documents, of any version.
pub const OPENVEX: &str = "https://openvex.dev/ns";
/// Witness's collections, under its two names.
const COLLECTIONS: [&str; 2] =
    ["https://witness.testifysec.com/attestation-collection", "https://witness.dev/attestation-collection"];
/// in-toto's own predicates.
const IN_TOTO: &str = "https://in-toto.io/attestation/";

/// Reads the predicate of a statement by its type; a type that no reader knows is kept as [`Claim::Other`]. `payload` is the
/// checked text that the statement was read from.
pub fn read(payload: &str, statement: &Statement<'_>) -> Result<(Claim, Vec<Mention>), Refusal> {
    let reader = Reader { payload, statement };
    let predicate_type = statement.predicate_type.as_str();
    if is_a(predicate_type, SPDX) || is_a(predicate_type, CYCLONEDX) {
        if let Some(unread) = sbom::unread(&reader) {
            return Ok((Claim::Unread(unread), Vec::new()));
        }
        let (sbom, mentions) = sbom::read(&reader)?;
        return Ok((Claim::Sbom(sbom), mentions));
    }
    if COLLECTIONS.iter().any(|base| is_a(predicate_type, base)) {
        return Ok((Claim::Collection(results::read_collection(&reader)?), Vec::new()));
    }
    if is_a(predicate_type, OPENVEX) {
        let (vex, mentions) = vex::read(&reader)?;
        return Ok((Claim::Vex(vex), mentions));
    }
    let in_toto = predicate_type.strip_prefix(IN_TOTO);
    if in_toto.is_some_and(|name| matches!(name, "vulns/v0.1" | "vulns/v0.2"))
        || predicate_type == COSIGN_VULN
    {
        let (scan, mentions) = scan::read(&reader)?;
        return Ok((Claim::Scan(scan), mentions));
    }
    let claim = match in_toto {
        Some("test-result/v0.1") => Claim::Test(results::read_test(&reader)?),
        Some("scai/v0.3" | "scai/attribute-report/v0.2" | "scai/attribute-report/v0.3") => {
            Claim::Attributes(results::read_scai(&reader)?)
        }
        Some("release/v0.1") => Claim::Release(results::read_release(&reader)?),
        Some("runtime-trace/v0.1") => Claim::Trace(results::read_trace(&reader)?),
        Some("svr/v0.1" | "svr/v0.2") => Claim::Verification(results::read_svr(&reader)?),
        _ => read_exact(&reader)?,
    };
    let mentions = match &claim {
        Claim::Build(build) => inputs(build),
        _ => Vec::new(),
    };
    Ok((claim, mentions))
}

/// The most inputs of one build that are found again.
const MAX_INPUTS: usize = 4_096;

/// What went into a build, by digest: which images were built on this one.
fn inputs(build: &Build) -> Vec<Mention> {
    let named = build.dependencies.iter().flat_map(|input| input.nodes.iter().map(move |node| (input, node)));
    let mut rows: Vec<Mention> = named
        .take(MAX_INPUTS)
        .map(|(input, node)| Mention::input(&input.uri, node, input.role.as_str()))
        .collect();
    rows.sort();
    rows.dedup();
    rows
}

/// Whether a type is `base`, maybe with a version behind it.
fn is_a(predicate_type: &str, base: &str) -> bool {
    predicate_type.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The predicates that the chain rests on, each by its type byte for byte.
fn read_exact(reader: &Reader<'_>) -> Result<Claim, Refusal> {
    Ok(match reader.statement.predicate_type.as_str() {
        PROVENANCE_V1 => Claim::Build(provenance::read_v1(reader)?),
        PROVENANCE_V02 => Claim::Build(provenance::read_v02(reader)?),
        PROVENANCE_V01 => Claim::Build(provenance::read_v01(reader)?),
        SOURCE_PROVENANCE | SOURCE_PROVENANCE_FIRST => {
            Claim::SourceProvenance(source_tool::read_source(reader)?)
        }
        TAG_PROVENANCE => Claim::TagProvenance(source_tool::read_tag(reader)?),
        SUMMARY_V1 => Claim::Summary(vsa::read(reader)?),
        COMMIT_V1 => Claim::Commit(commit::read(reader)?),
        REGISTRY_EVENT_V1 => Claim::Registry(registry_event::read(reader)?),
        CI_RUN_V1 => Claim::Run(ci_run::read(reader)?),
        _ => Claim::Other,
    })
}

/// A predicate that is being read, and how it is refused.
struct Reader<'a> {
    payload: &'a str,
    statement: &'a Statement<'a>,
}

impl<'a> Reader<'a> {
    /// Reads the predicate as a `T`.
    fn parse<T: Deserialize<'a>>(&self) -> Result<T, Refusal> {
        let Some(predicate) = self.statement.predicate else {
            return Err(self.refuse("", "the predicate is missing"));
        };
        json::read_part(self.payload, predicate.get(), "/predicate").map_err(|e| Refusal::Predicate {
            predicate_type: self.statement.predicate_type.clone(),
            pointer: e.pointer.clone(),
            why: e.to_string(),
        })
    }

    /// Refuses the member at `pointer` of the predicate.
    fn refuse(&self, pointer: &str, why: impl Into<String>) -> Refusal {
        Refusal::Predicate {
            predicate_type: self.statement.predicate_type.clone(),
            pointer: format!("/predicate{pointer}"),
            why: why.into(),
        }
    }

    /// Turns an error about the member at `pointer` into a refusal.
    fn check<T, E: std::fmt::Display>(&self, pointer: &str, result: Result<T, E>) -> Result<T, Refusal> {
        result.map_err(|e| self.refuse(pointer, e.to_string()))
    }

    /// A text that must say something, and not too much.
    fn text(&self, pointer: &str, text: &str) -> Result<(), Refusal> {
        match text.len() {
            0 => Err(self.refuse(pointer, "it is empty")),
            n if n > MAX_TEXT => {
                Err(self.refuse(pointer, format!("it has {n} bytes, the limit is {MAX_TEXT}")))
            }
            _ => Ok(()),
        }
    }

    /// Every subject must be of the kind that the predicate is about.
    fn subject_needs(&self, what: &str, has: impl Fn(&DigestSet) -> bool) -> Result<(), Refusal> {
        match self.statement.subjects.iter().position(|s| !has(&s.digests)) {
            Some(position) => Err(Refusal::Predicate {
                predicate_type: self.statement.predicate_type.clone(),
                pointer: format!("/subject/{position}/digest"),
                why: format!("each subject needs {what}"),
            }),
            None => Ok(()),
        }
    }
}

/// What a verified statement claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Claim {
    /// SLSA provenance v1, v0.2 or v0.1.
    Build(Build),
    /// `urn:catenary:predicate:commit:v1`.
    Commit(Commit),
    /// `urn:catenary:predicate:registry-event:v1`.
    Registry(RegistryEvent),
    /// `urn:catenary:predicate:ci-run:v1`.
    Run(CiRun),
    /// SLSA verification summary v1.
    Summary(Summary),
    /// What the SLSA source tool says of a commit.
    SourceProvenance(SourceProvenance),
    /// What the SLSA source tool says of a tag.
    TagProvenance(TagProvenance),
    /// An SBOM; its components are [`Mention`]s.
    Sbom(Sbom),
    /// A vulnerability scan; its findings are [`Mention`]s.
    Scan(Scan),
    /// An OpenVEX document; its statements are [`Mention`]s.
    Vex(Vex),
    /// A collection of Witness.
    Collection(Collection),
    /// in-toto test result.
    Test(TestResult),
    /// SCAI attribute report.
    Attributes(AttributeReport),
    /// in-toto release.
    Release(Release),
    /// in-toto runtime trace.
    Trace(RuntimeTrace),
    /// in-toto simple verification result.
    Verification(VerificationResult),
    /// An in-toto layout.
    Layout(Layout),
    /// An in-toto link.
    Link(Link),
    /// A document in a form that is not read.
    Unread(Unread),
    /// Kept and browsable, read by no rule yet.
    Other,
}

tagged!(Claim {
    "build" => Build,
    "commit" => Commit,
    "registry" => Registry,
    "run" => Run,
    "summary" => Summary,
    "source-provenance" => SourceProvenance,
    "tag-provenance" => TagProvenance,
    "sbom" => Sbom,
    "scan" => Scan,
    "vex" => Vex,
    "collection" => Collection,
    "test" => Test,
    "attributes" => Attributes,
    "release" => Release,
    "trace" => Trace,
    "verification" => Verification,
    "layout" => Layout,
    "link" => Link,
    "unread" => Unread,
} or {
    "other" => Other,
});

/// A document that is kept as it is: nothing that it lists is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// `spdx-tag-value`, `cyclonedx-xml`, …
    pub format: String,
    /// What was not read, in words.
    pub note: String,
}

impl Unread {
    /// A bill of materials whose components are not in the index.
    fn components(format: &str) -> Self {
        let note = "its components were not read: they are read of JSON documents in statements only";
        Self { format: format.to_owned(), note: note.to_owned() }
    }
}

/// Payload types of bills of materials that are signed as they are, without a statement that says what they are about.
const BARE_SBOMS: [(&str, &str); 5] = [
    ("text/spdx", "spdx-tag-value"),
    ("application/spdx+json", "spdx-json"),
    ("application/spdx+xml", "spdx-xml"),
    ("application/vnd.cyclonedx+json", "cyclonedx-json"),
    ("application/vnd.cyclonedx+xml", "cyclonedx-xml"),
];

/// The form of a bill of materials that is no JSON: `spdx-tag-value`, `cyclonedx-xml` or `spdx-rdf-xml`.
pub fn foreign(text: &str) -> Option<&'static str> {
    sbom::foreign(text).map(|(form, _)| form)
}

/// A signed bill of materials that is no statement, by its payload type.
pub(crate) fn bare_sbom(payload_type: &str) -> Option<Unread> {
    // Parameters (`; version=1.6`) say more than is asked.
    let kind = payload_type.split(';').next().unwrap_or_default().trim_end();
    let found = BARE_SBOMS.iter().find(|(known, _)| *known == kind)?;
    Some(Unread::components(found.1))
}

/// A software bill of materials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sbom {
    /// `spdx-2.3`, `spdx-3.0.1`, `cyclonedx-1.6`, …
    pub format: String,
    /// What the document calls its subject.
    pub name: Option<String>,
    /// When it says that it was made.
    pub created: Option<Timestamp>,
    /// How many packages it lists.
    pub components: u64,
}

/// A vulnerability scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// The scanner's URI.
    pub scanner: String,
    /// Its version.
    pub version: Option<String>,
    /// How old its database is.
    pub database_updated: Option<Timestamp>,
    /// When the scan ended.
    pub finished: Option<Timestamp>,
    /// Findings by severity, in lower case; nothing when the scanner's own report is of a kind that is not read.
    pub severities: Option<BTreeMap<String, u64>>,
    /// The findings one by one. Facts of before it was read have none and are derived anew: there is no default.
    pub findings: Findings,
}

/// A VEX document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vex {
    /// Who says so.
    pub author: String,
    /// Since when.
    pub issued: Option<Timestamp>,
    /// Statements by status.
    pub statuses: BTreeMap<String, u64>,
    /// The statements one by one. As in [`Scan`], there is no default.
    pub statements: VexStatements,
}

/// What Witness recorded around one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// The step.
    pub name: String,
    /// Types of the attestations in it, in order.
    pub attestations: Vec<String>,
    /// When the first began.
    pub started: Option<Timestamp>,
    /// When the last ended.
    pub finished: Option<Timestamp>,
}

/// A test result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestResult {
    /// `PASSED`, `WARNED` or `FAILED`.
    pub result: String,
    /// Where the run is.
    pub url: Option<String>,
    /// Tests that passed.
    pub passed: u64,
    /// Tests that warned.
    pub warned: u64,
    /// Tests that failed.
    pub failed: u64,
}

/// A SCAI attribute report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeReport {
    /// What is asserted.
    pub attributes: Vec<String>,
    /// By whom.
    pub producer: Option<String>,
}

/// A release of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The package with its version.
    pub purl: String,
    /// The package registry's id of the release.
    pub release_id: Option<String>,
}

/// A trace of a build as it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeTrace {
    /// Which monitor.
    pub monitor: String,
    /// Processes seen; nothing when it did not look.
    pub processes: Option<u64>,
    /// Connections seen.
    pub connections: Option<u64>,
    /// Files seen.
    pub files: Option<u64>,
}

/// What a verifier found to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationResult {
    /// `verifier.id`.
    pub verifier_id: String,
    /// `timeCreated`.
    pub created: Option<Timestamp>,
    /// What holds.
    pub properties: Vec<String>,
}

/// SLSA provenance in one normal form, whatever its version and build type (chain-model 1.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// `builder.id`, byte for byte.
    pub builder_id: String,
    /// `buildType`, byte for byte.
    pub build_type: String,
    /// Which adapter read it; `None` when no adapter knows the build type.
    pub adapter: Option<Adapter>,
    /// The git source that the build started from.
    pub source: Option<Source>,
    /// External parameters, flattened to `a.b.c` paths; each value is its JSON text, strings unquoted.
    pub params: BTreeMap<String, String>,
    /// Paths of external parameters that the adapter does not know.
    pub unknown_params: Vec<String>,
    /// The event that started the build.
    pub trigger: Option<String>,
    /// `github-hosted`, `self-hosted`, …
    pub runner: Option<String>,
    /// Everything else that went in.
    pub dependencies: Vec<Dependency>,
    /// `invocationId`.
    pub invocation: Option<String>,
    /// `metadata.startedOn`: a claim, worth as much as the signer.
    pub started_on: Option<Timestamp>,
    /// `metadata.finishedOn`.
    pub finished_on: Option<Timestamp>,
    /// Whether the build had no network, where the format says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hermetic: Option<bool>,
    /// Whether the result is meant to be reproducible byte by byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reproducible: Option<bool>,
    /// What the builder says that it left out.
    #[serde(default, skip_serializing_if = "Complete::is_unsaid")]
    pub complete: Complete,
}

/// What a provenance says that it names in full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    /// Every external parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<bool>,
    /// Every dependency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<bool>,
}

impl Complete {
    fn is_unsaid(&self) -> bool {
        *self == Self::default()
    }
}

/// Build types that have an adapter, under the names that policies use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adapter {
    /// The three GitHub workflow URIs.
    GithubWorkflow,
    /// slsa-github-generator (generic, container, go, container-based, delegators).
    SlsaGithubGenerator,
    /// `urn:catenary:buildtype:generic:v1`: what `catenary attest build` writes.
    Generic,
    /// BuildKit v0.2 and v1, also from docker/github-builder.
    Buildkit,
    /// GitLab CI.
    Gitlab,
    /// Tekton Chains v0.2 and v1.
    TektonChains,
    /// Google Cloud Build v0.1 and v1.
    GoogleCloudBuild,
    /// The npm client on GitHub Actions or GitLab CI.
    Npm,
}

impl Adapter {
    /// Every adapter.
    pub const ALL: [Self; 8] = [
        Self::GithubWorkflow,
        Self::SlsaGithubGenerator,
        Self::Generic,
        Self::Buildkit,
        Self::Gitlab,
        Self::TektonChains,
        Self::GoogleCloudBuild,
        Self::Npm,
    ];
}

/// A git source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Canonical repository URI (see [`crate::reference::RepositoryUri`]).
    pub repository: String,
    /// Numeric repository id, where the provenance names one.
    pub repository_id: Option<String>,
    /// The commit.
    pub commit: Option<GitOid>,
    /// Fully qualified ref, for example `refs/heads/main`.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
}

/// A resolved dependency (material) other than the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// What it was used as.
    pub role: Role,
    /// Its URI, byte for byte.
    pub uri: String,
    /// Its digests; empty when it is not pinned.
    pub nodes: Vec<Node>,
    /// For images: `registry/repository` read from the URI.
    pub resource: Option<String>,
}

/// Roles of a dependency (chain-model R3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// The image that the built image starts from.
    BaseImage,
    /// An image that the build ran in.
    BuilderImage,
    /// Another git repository at a pinned commit.
    Submodule,
    /// A tool.
    Tool,
    /// Anything else.
    Generic,
}

impl Role {
    /// As policies write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BaseImage => "baseImage",
            Self::BuilderImage => "builderImage",
            Self::Submodule => "submodule",
            Self::Tool => "tool",
            Self::Generic => "generic",
        }
    }
}

/// `urn:catenary:predicate:commit:v1`: who moved which ref to this commit, and what was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Canonical repository URI.
    pub repository: String,
    /// The forge's numeric id of the repository.
    pub repository_id: Option<String>,
    /// The ref that was moved to the commit.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What the ref pointed to before.
    pub previous: Option<GitOid>,
    /// When the ref was moved.
    pub updated_at: Timestamp,
    /// Who moved it: name and forge id.
    pub actor: Option<Actor>,
    /// The review of the change, when there was one.
    pub review: Option<Review>,
    /// The commit's own signature as the collector verified it.
    pub signature: Option<CommitSignature>,
}

/// A person or robot at a forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Login.
    pub name: String,
    /// Numeric id, as text.
    #[serde(default, deserialize_with = "commit::optional_id", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A review of the revision that was merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Review {
    /// The revision that the approvers saw.
    #[serde(deserialize_with = "commit::oid")]
    pub approved_revision: GitOid,
    /// Who approved.
    pub approvers: Vec<Actor>,
}

/// What the collector found on the commit object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CommitSignature {
    /// `ssh`, `openpgp` or `x509`.
    pub method: String,
    /// The principal that the key belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The key, when it has a SubjectPublicKeyInfo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
}

/// `urn:catenary:predicate:registry-event:v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryEvent {
    /// Push or promotion.
    pub event: RegistryAction,
    /// `registry/repository`, lower case, host with port.
    pub resource: String,
    /// The tag, when the push named one.
    pub tag: Option<String>,
    /// What the tag pointed to before.
    pub previous: Option<Digest>,
    /// When the registry says that it happened.
    pub occurred_at: Timestamp,
    /// Who pushed, as the registry reports it.
    pub actor: Option<String>,
    /// For a promotion: where from.
    pub promotion: Option<Promotion>,
}

/// What happened in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryAction {
    /// The manifest was pushed.
    Push,
    /// The manifest was promoted from another repository.
    Promote,
    /// The manifest was deleted from the repository.
    Delete,
}

/// The earlier end of a promotion hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// `registry/repository` that it came from.
    pub from: String,
    /// The digest there.
    pub digest: Digest,
}

/// `urn:catenary:predicate:ci-run:v1`: how a CI run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CiRun {
    /// The invocation id, as the provenance spells it.
    pub invocation: String,
    /// `success`, `failure`, `cancelled`, …
    pub conclusion: String,
    /// When it ended.
    pub finished_on: Option<Timestamp>,
}

/// SLSA verification summary v1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// `verifier.id`.
    pub verifier_id: String,
    /// `resourceUri`, byte for byte.
    pub resource_uri: String,
    /// `policy.uri`.
    pub policy_uri: Option<String>,
    /// `policy.digest.sha256`.
    pub policy_digest: Option<Digest>,
    /// `verificationResult == "PASSED"`.
    pub passed: bool,
    /// Highest level per track, for example `BUILD` → 3.
    pub levels: BTreeMap<String, u8>,
    /// Tracks with several levels, which SLSA forbids. As in [`Scan`], there is no default.
    pub repeated: Vec<String>,
    /// Verified properties that are not levels.
    pub properties: Vec<String>,
    /// `timeVerified`.
    pub time_verified: Option<Timestamp>,
}

/// What the SLSA source tool says of a commit: which controls were on, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceProvenance {
    /// Canonical repository URI; a text without canonical form as it is.
    pub repository: Option<String>,
    /// `pr_merge`, `direct_push`, …
    pub activity: Option<String>,
    /// Who did it, as the forge calls them.
    pub actor: Option<String>,
    /// The ref that was moved to the commit.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// What the ref pointed to before.
    pub previous: Option<GitOid>,
    /// When this was written.
    pub created_on: Option<Timestamp>,
    /// The controls that were on.
    pub controls: Vec<Control>,
}

/// What the SLSA source tool says of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagProvenance {
    /// Canonical repository URI; a text without canonical form as it is.
    pub repository: Option<String>,
    /// The tag, as a ref.
    pub tag: String,
    /// Who set it.
    pub actor: Option<String>,
    /// When this was written.
    pub created_on: Option<Timestamp>,
    /// The controls that were on.
    pub controls: Vec<Control>,
    /// What summaries said of the commit when it was tagged: a copy, not a summary.
    pub summaries: Vec<TagSummary>,
}

/// A control of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// `SLSA_SOURCE_SCS_CONTINUITY`, `TAG_HYGIENE`, `GH_REQUIRED_CHECK_test`, …
    pub name: String,
    /// Without a gap since then.
    pub since: Option<Timestamp>,
}

/// What a tag's provenance repeats of a summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagSummary {
    /// The refs that it was about.
    pub source_refs: Vec<String>,
    /// The levels that it gave.
    pub verified_levels: Vec<String>,
}
