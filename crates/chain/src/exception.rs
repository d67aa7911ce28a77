//! Exceptions: one digest in one repository may run in spite of a broken chain, for a while, because somebody said so.
//!
//! An exception changes what is allowed, never what is true: the outcome stays FAILED, and both are said. Whether it holds is
//! decided at each evaluation by the policy that is active then.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::digest::Digest;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    control::Control,
    policy::exceptions::Exceptions as Rules,
    reason::{Code, Reason},
    verdict::Question,
};

/// Most exceptions of a tenant that are open at once.
pub const MAX_OPEN: usize = 1_000;

/// How long a lapsed exception is still told about.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24 * 30);

/// `exception.requested`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exception {
    /// `exc-1`, `exc-2`, … per tenant.
    pub id: String,
    /// The policy's `metadata.name`.
    pub policy: String,
    /// The image, exactly: neither a platform of it nor an index that holds it.
    pub digest: Digest,
    /// `registry/repository`.
    pub resource: String,
    /// The environment; any that the policy decides for when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// When it was asked for.
    pub requested: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// The principal that asked.
    pub by: String,
}

/// `exception.approved`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExceptionApproved {
    /// The exception.
    pub id: String,
    /// Its digest: whose answers can change.
    pub digest: Digest,
    /// The principal.
    pub by: String,
    /// Its role.
    pub role: String,
    /// When.
    pub at: Timestamp,
}

/// `exception.withdrawn`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExceptionWithdrawn {
    /// The exception.
    pub id: String,
    /// Its digest: whose answers can change.
    pub digest: Digest,
    /// Why.
    pub reason: String,
    /// The principal.
    pub by: String,
}

/// Every exception of a tenant that is not long over.
#[derive(Debug, Clone, Default)]
pub struct Exceptions {
    /// How many were ever asked for.
    pub count: u64,
    /// By number.
    pub all: BTreeMap<u64, ExceptionState>,
}

/// An exception and what became of it.
#[derive(Debug, Clone)]
pub struct ExceptionState {
    /// As it was asked for.
    pub exception: Exception,
    /// Index of its entry.
    pub index: u64,
    /// Who approved it, the first time.
    pub approvals: BTreeMap<String, Approval>,
    /// Why it was withdrawn.
    pub withdrawn: Option<String>,
}

/// One approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The approver's role then.
    pub role: String,
    /// When.
    pub at: Timestamp,
}

/// What stands between an exception and its effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Holds,
    /// It was withdrawn.
    Withdrawn,
    /// It has ended.
    Lapsed,
    /// It was approved by fewer than the policy asks for.
    Unapproved {
        /// By how many.
        have: u32,
        /// Of how many.
        need: u32,
    },
    /// It is longer than the policy allows, or the policy allows none.
    Forbidden,
}

/// The id of the `n`th exception.
pub fn id(n: u64) -> String {
    format!("exc-{n}")
}

/// The number in an id.
fn number(id: &str) -> Option<u64> {
    id.strip_prefix("exc-")?.parse().ok()
}

impl Exceptions {
    /// Finds one by its id.
    pub fn get(&self, wanted: &str) -> Option<&ExceptionState> {
        self.all.get(&number(wanted)?).filter(|state| state.exception.id == wanted)
    }

    /// How many are neither withdrawn nor over at `now`.
    pub fn open(&self, now: Timestamp) -> usize {
        self.all.values().filter(|state| state.withdrawn.is_none() && state.exception.expires > now).count()
    }

    /// Folds `exception.requested`, and forgets what was over long before.
    pub(crate) fn request(&mut self, index: u64, exception: &Exception) {
        let over = exception.requested.checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
        self.all.retain(|_, state| state.exception.expires > over);
        self.count += 1;
        let Some(number) = number(&exception.id) else { return };
        let state = ExceptionState {
            exception: exception.clone(),
            index,
            approvals: BTreeMap::new(),
            withdrawn: None,
        };
        self.all.entry(number).or_insert(state);
    }

    /// Folds `exception.approved`.
    pub(crate) fn approve(&mut self, approved: &ExceptionApproved) {
        let ExceptionApproved { id, by, role, at, .. } = approved;
        if let Some(state) = number(id).and_then(|number| self.all.get_mut(&number)) {
            state.approvals.entry(by.clone()).or_insert(Approval { role: role.clone(), at: *at });
        }
    }

    /// Folds `exception.withdrawn`.
    pub(crate) fn withdraw(&mut self, withdrawn: &ExceptionWithdrawn) {
        if let Some(state) = number(&withdrawn.id).and_then(|number| self.all.get_mut(&number)) {
            state.withdrawn.get_or_insert_with(|| withdrawn.reason.clone());
        }
    }
}

impl ExceptionState {
    /// What the rules of a policy make of it at `now`. Each exception stands for itself: approvals of two do not add up.
    pub fn standing(&self, rules: Option<&Rules>, control: &Control, now: Timestamp) -> Standing {
        let Exception { requested, expires, by, .. } = &self.exception;
        let Some(rules) = rules else { return Standing::Forbidden };
        if self.withdrawn.is_some() {
            return Standing::Withdrawn;
        }
        if expires.duration_since(*requested) > rules.max_duration {
            return Standing::Forbidden;
        }
        let approvers: BTreeSet<String> = self
            .approvals
            .iter()
            .filter(|(who, approval)| {
                approval.at <= now && rules.approvers.include(who, &approval.role, control)
            })
            .map(|(who, _)| who.clone())
            .collect();
        let have = control.others(&approvers, &[by]);
        match () {
            () if have < rules.at_least || *requested > now => {
                Standing::Unapproved { have, need: rules.at_least }
            }
            () if *expires <= now => Standing::Lapsed,
            () => Standing::Holds,
        }
    }

    /// Whether it is about what is asked.
    fn answers(&self, question: &Question, policy: &str) -> bool {
        let Exception { policy: of, digest, resource, environment, .. } = &self.exception;
        of == policy
            && *digest == question.image.digest
            && *resource == question.image.resource
            && environment.as_ref().is_none_or(|wanted| question.environment.as_ref() == Some(wanted))
    }
}

/// An exception in a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Its id.
    pub id: String,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// What exceptions make of a question.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Those that hold; any one allows.
    pub applied: Vec<Applied>,
    /// What is to be said.
    pub reasons: Vec<Reason>,
}

/// Whether a broken chain with these reasons may be allowed at all. Not when evidence is damaged, when the policy itself is
/// not in order, or when what is trusted was taken back: no answer says allowed on revoked evidence.
pub(crate) fn may_allow(reasons: &[Reason]) -> bool {
    reasons.iter().all(|reason| {
        let code = reason.code.as_str();
        !code.starts_with("SYS_")
            && !code.starts_with("POL_")
            && !code.contains("REVOKED")
            && !code.contains("DENIED")
    })
}

/// The exceptions for a question that its policy answered with FAILED.
pub(crate) fn judge(
    question: &Question,
    policy: &str,
    rules: Option<&Rules>,
    control: &Control,
    now: Timestamp,
) -> Judged {
    let mut judged = Judged::default();
    let node = question.image.digest;
    for state in control.exceptions.all.values().filter(|state| state.answers(question, policy)) {
        let Exception { id, owner, reason, expires, .. } = &state.exception;
        match state.standing(rules, control, now) {
            Standing::Holds => {
                let message = format!("allowed by exception {id} of {owner} until {expires}: {reason}");
                let reason_said = Reason::warning(Code::ExcApplied, node, "exceptions", message);
                judged.reasons.push(reason_said.because(expires.to_string(), now.to_string()));
                judged.applied.push(Applied {
                    id: id.clone(),
                    owner: owner.clone(),
                    reason: reason.clone(),
                    expires: *expires,
                });
            }
            Standing::Lapsed => {
                let message = format!("exception {id} of {owner} ended at {expires}");
                let said = Reason::warning(Code::ExcExpired, node, "exceptions", message);
                judged.reasons.push(said.because(expires.to_string(), now.to_string()));
            }
            Standing::Withdrawn | Standing::Unapproved { .. } | Standing::Forbidden => {}
        }
    }
    judged
}
