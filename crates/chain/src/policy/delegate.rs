//! Whose verification summaries may stand for a chain (chain-model R5).

use std::collections::BTreeMap;

use catenary_evidence::predicate::Summary as Claim;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{
    document::{Signer, duration, eight},
    glob::{Glob, Matcher},
};

/// One of `trust.verifiers`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifierRule {
    /// The rule's id.
    pub id: String,
    /// Who operates it, for people.
    pub domain: Option<String>,
    /// Whose signature.
    pub signer: Signer,
    /// Which verifiers that signer may speak for.
    pub verifier_id: Matcher,
    /// Policies that it must have verified by: `sha256:…` of one, or its URI.
    pub policies: Vec<String>,
    /// The most that it may give; what it says when absent.
    pub max_level: Option<u8>,
    /// Repositories that it may speak about; all when absent.
    pub resources: Option<Vec<Glob>>,
    /// Statements received from here on.
    pub valid_from: Option<Timestamp>,
    /// Statements received before.
    pub valid_until: Option<Timestamp>,
}

impl VerifierRule {
    /// Whether the summary was made by a policy that the rule lists.
    pub fn allows_policy(&self, summary: &Claim) -> bool {
        let digest = summary.policy_digest.map(|digest| digest.to_string());
        let found = [digest.as_ref(), summary.policy_uri.as_ref()];
        self.policies.iter().any(|policy| found.contains(&Some(policy)))
    }

    /// The level that the rule lets the summary give in a track.
    pub fn level(&self, summary: &Claim, track: &str) -> Option<u8> {
        let stated = *summary.levels.get(track)?;
        Some(self.max_level.map_or(stated, |most| most.min(stated)))
    }
}

/// `summary`: a trusted verification summary stands for `build`, `source` and `inputs`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Summary {
    /// Ids of `trust.verifiers`; all when absent.
    pub from: Option<Vec<String>>,
    /// The lowest level by track, for example `SLSA_BUILD: 3`.
    #[serde(default)]
    pub levels: BTreeMap<String, u8>,
    /// How old the summary may be.
    #[serde(default, deserialize_with = "duration")]
    pub max_age: Option<SignedDuration>,
    /// How far from the question: 1 is the image itself, 2 an input of it.
    #[serde(default = "eight")]
    pub depth: u32,
}

/// `inputs[].via`: a trusted verification summary stands for the input's chain.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Via {
    /// An id of `trust.verifiers`.
    pub vsa: String,
    /// The lowest level by track.
    #[serde(default)]
    pub levels: BTreeMap<String, u8>,
    /// How old the summary may be.
    #[serde(default, deserialize_with = "duration")]
    pub max_age: Option<SignedDuration>,
}
