//! The question and its answer (chain-model 2.1).

use std::collections::BTreeMap;

use catenary_evidence::{digest::Sha256, object::Platform, reference::ImageReference};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{exception::Applied, policy::Spec, reason::Reason};

/// "May this digest run here?"
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// `registry/repository@algorithm:hex`.
    pub image: ImageReference,
    /// For example `prod`.
    pub environment: Option<String>,
    /// Ask about one platform of an index.
    pub platform: Option<Platform>,
    /// What the asker says besides (see [`crate::context`]).
    pub context: crate::context::Context,
}

/// The pure result of an evaluation, spelled as in the SLSA VSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// The chain is unbroken.
    Passed,
    /// It cannot be decided now.
    Indeterminate,
    /// A link is broken or missing.
    Failed,
}

/// The answer. Field order is the wire's order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Always `v1`.
    pub api_version: String,
    /// Always `Verdict`.
    pub kind: String,
    /// SHA-256 of the verdict's JSON without this member; all zeros, and absent in JSON, until [`Verdict::seal`].
    #[serde(default = "unsealed", skip_serializing_if = "is_unsealed")]
    pub id: Sha256,
    /// The pure outcome.
    pub outcome: Outcome,
    /// After mode and exceptions. Absent in answers about a bare digest.
    pub allowed: bool,
    /// The policy's mode: `enforce`, `warn`, `shadow`; `enforce` when no policy decides.
    pub mode: String,
    /// What was asked about.
    pub subject: SubjectView,
    /// In what context.
    pub context: BTreeMap<String, String>,
    /// The policy that decided.
    pub policy: Option<PolicyView>,
    /// The trust epoch of the control state.
    pub trust_epoch: u64,
    /// Log position that the verdict was computed at.
    pub log: LogView,
    /// Version of verifier and evaluator.
    pub engine: String,
    /// When it was computed.
    pub evaluated_at: Timestamp,
    /// The `now` of the evaluation.
    pub as_of: Timestamp,
    /// Until when the answer holds, if no evidence arrives.
    pub valid_until: Timestamp,
    /// Levels reached, for example `SLSA_BUILD` → 3.
    pub levels: BTreeMap<String, u8>,
    /// Properties beside the levels, for example `SLSA_BUILD_REPRODUCED`; absent when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<String>,
    /// The links of the chain, in the order source, build, inputs, registry, time.
    pub links: Vec<Link>,
    /// Everything that is wrong, most specific first.
    pub reasons: Vec<Reason>,
    /// Exceptions by which a broken chain is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Applied>,
    /// Evidence that exists and does not count, at most 20.
    pub near_misses: Vec<NearMiss>,
    /// Whether more near misses exist than are shown.
    pub truncated: bool,
    /// One line, at most 256 characters.
    pub summary: String,
}

/// The id of a verdict that is not sealed yet.
pub(crate) fn unsealed() -> Sha256 {
    Sha256([0; 32])
}

fn is_unsealed(id: &Sha256) -> bool {
    *id == unsealed()
}

impl Verdict {
    /// Computes `id`. Whoever changes a member afterwards seals again.
    pub fn seal(mut self) -> Self {
        self.id = unsealed();
        self.id = Sha256::of(&self.to_json_bytes());
        self
    }

    /// The verdict as JSON: always the same bytes for the same verdict, members in the order of the type.
    pub fn to_json_bytes(&self) -> Vec<u8> {
        // Serialising plain structs, strings and numbers into memory has no way to fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The errors, in order.
    pub fn errors(&self) -> impl Iterator<Item = &Reason> {
        self.reasons.iter().filter(|reason| reason.is_error())
    }

    /// What the policy that decided asks for and nobody could look at, because a link before it is broken: whoever mends the errors
    /// may meet more there. Stages as in [`Link::stage`], in the order of the chain.
    pub fn not_reached(&self, spec: &Spec) -> Vec<&'static str> {
        if self.outcome == Outcome::Passed {
            return Vec::new();
        }
        let reached = |stage: &str| self.links.iter().any(|link| link.is_about(stage));
        let builds = spec.build.is_some();
        // Sources and inputs are those that a build names.
        let built = self.links.iter().any(|link| link.stage == "build" && !link.evidence.is_empty());
        let missed = [
            ("source", builds && spec.source.is_some() && !built),
            ("build", builds && !reached("build")),
            ("input", builds && !spec.inputs.is_empty() && !built),
            ("registry", spec.registry.is_some() && !reached("registry")),
            ("layout", !spec.layouts.is_empty() && !reached("layout")),
            ("property", !spec.require.is_empty() && !reached("property")),
            ("time", !reached("time")),
        ];
        missed.iter().filter(|(_, missed)| *missed).map(|(stage, _)| *stage).collect()
    }

    /// The ids of all evidence that the links rest on, sorted, each once.
    pub fn evidence(&self) -> Vec<Sha256> {
        fn walk(links: &[Link], ids: &mut Vec<Sha256>) {
            for link in links {
                ids.extend(&link.evidence);
                walk(&link.links, ids);
            }
        }
        let mut ids = Vec::new();
        walk(&self.links, &mut ids);
        ids.sort();
        ids.dedup();
        ids
    }
}

/// The id that the bytes of a verdict say and deserve, whichever engine wrote them: SHA-256 of the bytes without the
/// member `id`, which comes third. Nothing is read and written again.
pub fn id_of(bytes: &[u8]) -> Option<Sha256> {
    const HEAD: &str = r#"{"apiVersion":"v1","kind":"Verdict","#;
    const TEXT: usize = "sha256:".len() + 64;
    let rest = bytes.strip_prefix(HEAD.as_bytes())?.strip_prefix(br#""id":""#)?;
    let (id, rest) = rest.split_at_checked(TEXT)?;
    let id: Sha256 = std::str::from_utf8(id).ok()?.parse().ok()?;
    let rest = rest.strip_prefix(br#"","#)?;
    (Sha256::of(&[HEAD.as_bytes(), rest].concat()) == id).then_some(id)
}

/// The subject of a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubjectView {
    /// The digest.
    pub digest: catenary_evidence::Digest,
    /// Media type, when the bytes are known.
    pub media_type: Option<String>,
    /// `registry/repository`.
    pub resource: String,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
}

/// The policy of a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// `metadata.name`.
    pub name: String,
    /// Revision number.
    pub revision: u64,
    /// SHA-256 of the document.
    pub digest: Sha256,
}

/// A log position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// Number of entries.
    pub size: u64,
    /// RFC 6962 root.
    pub root: Sha256,
}

/// One link of the chain; `links` are what it rests on (a base image's own chain, the children of an index).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// `policy`, `artifact`, `source`, `build`, `input`, `registry`, `layout`, `summary`, `property`, `time`.
    pub stage: String,
    /// `pass`, `fail`, `unknown`.
    pub status: Status,
    /// The node it is about.
    pub node: String,
    /// One line for people.
    pub summary: String,
    /// Ids of the evidence it rests on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Sha256>,
    /// What it rests on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

impl Link {
    /// Whether it, or what it rests on, is of a stage.
    fn is_about(&self, stage: &str) -> bool {
        self.stage == stage || self.links.iter().any(|link| link.is_about(stage))
    }
}

/// The state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Holds.
    Pass,
    /// Broken.
    Fail,
    /// Cannot be decided.
    Unknown,
}

/// Evidence that exists and does not count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NearMiss {
    /// The attestation.
    pub attestation: Sha256,
    /// Why it does not count.
    pub why: crate::reason::Code,
    /// What was found, for example the signer.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Control, Evidence, evaluate};

    #[test]
    fn an_id_is_checked_on_the_bytes() {
        let image = format!("registry.test/app@sha256:{}", "1".repeat(64)).parse().unwrap();
        let question = Question { image, environment: None, platform: None, context: Default::default() };
        let log = LogView { size: 1, root: Sha256([0; 32]) };
        let verdict =
            evaluate(&question, &Control::default(), &Evidence::default(), log, Timestamp::UNIX_EPOCH);
        let bytes = verdict.to_json_bytes();
        assert_eq!(id_of(&bytes), Some(verdict.id));
        let text = String::from_utf8(bytes.clone()).unwrap();
        for changed in [
            text.replace("FAILED", "PASSED"),
            text.replacen("\"allowed\":false", "\"allowed\":true", 1),
            text.replacen("sha256:", "sha256:0", 1),
            format!("{text} "),
            text.replacen(":", ": ", 1),
            String::new(),
        ] {
            assert_ne!(changed, text);
            assert_eq!(id_of(changed.as_bytes()), None, "{changed}");
        }
    }
}
