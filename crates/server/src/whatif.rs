//! What would change: every watched question under the trust and policies of now, and under those of a change that is only
//! thought of.

use std::sync::Arc;

use catenary_chain::{
    Control, Question, Verdict,
    control::{Entry, Revocation},
    policy::Policy,
};
use catenary_store::{follow::Snapshot, impact::Asked};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::{
    App,
    batch::{self, Bench},
    problem::Fault,
    verdict, watch,
};

/// A change that is only thought of.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Change {
    /// A revocation, as `POST /v1/revocations` takes it.
    pub revocation: Option<Revocation>,
    /// A policy, as text.
    pub policy: Option<String>,
}

impl Change {
    /// The control state with it.
    pub fn apply(&self, snapshot: &Snapshot) -> Result<Control, Fault> {
        let mut control = (*snapshot.control).clone();
        let entry = match (&self.revocation, &self.policy) {
            (Some(revocation), None) => Entry::Revocation(revocation.clone()),
            (None, Some(document)) => {
                let name = Policy::parse(document).map_err(Fault::Policy)?.name().to_owned();
                let revision = control.policies.get(&name).map_or(0, |active| active.revision) + 1;
                Entry::PolicyApplied { name, revision, document: document.clone() }
            }
            _ => return Err(Fault::Query("give exactly one of `revocation` and `policy`".into())),
        };
        control.apply(snapshot.size, &entry);
        Ok(control)
    }
}

/// The verdict on one question, if this policy alone decided: no other is asked, and none of the tenant's exceptions is for it.
pub async fn alone(
    app: &App,
    snapshot: &Arc<Snapshot>,
    document: &str,
    question: Question,
) -> Result<Verdict, Fault> {
    let name = Policy::parse(document).map_err(Fault::Policy)?.name().to_owned();
    let mut control = (*snapshot.control).clone();
    control.policies.clear();
    control.exceptions = Default::default();
    control.apply(snapshot.size, &Entry::PolicyApplied { name, revision: 1, document: document.to_owned() });
    let mut bench = Bench::at(snapshot, Timestamp::now());
    bench.controls = vec![Arc::new(control)];
    bench.deadline = Some(Instant::now() + verdict::DEADLINE);
    let answer = batch::evaluate(app, &bench, vec![question]).await?.pop().flatten();
    let answer = answer.and_then(|under| under.into_iter().next());
    Ok(answer.ok_or(Fault::Timeout { limit: verdict::DEADLINE })?.verdict)
}

/// What a verdict says, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Said {
    /// `PASSED`, `FAILED`, `INDETERMINATE`.
    outcome: String,
    /// After mode and exceptions.
    allowed: bool,
    /// Codes of its errors.
    codes: Vec<String>,
}

impl Said {
    fn of(verdict: &Verdict) -> Self {
        let mut codes: Vec<String> = verdict.errors().map(|reason| reason.code.to_string()).collect();
        codes.dedup();
        let outcome = watch::outcome_text(verdict.outcome).to_owned();
        Self { outcome, allowed: verdict.allowed, codes }
    }
}

/// What mends one reason.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Mend {
    /// The reason's code.
    code: String,
    /// The policy member that asks for it.
    rule: String,
    /// What to do.
    hint: String,
    /// What the policy wants.
    expected: serde_json::Value,
    /// What was found.
    actual: serde_json::Value,
}

/// An answer that would change.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Flip {
    /// `registry/repository@digest`.
    image: String,
    /// In which environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    /// `os/architecture[/variant]`
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    /// Where it runs: `environment/application/workload`.
    running: Vec<String>,
    /// Now.
    old: Said,
    /// With the change.
    new: Said,
    /// What would mend it: of the ways that are known, the one with the fewest steps.
    mends: Vec<Mend>,
    /// Stages that the policy asks for and that were not looked at, because what comes before them is broken: more may be
    /// wrong there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_reached: Vec<&'static str>,
}

/// Part of the answers.
pub struct Part {
    /// Those that would change.
    pub flips: Vec<Flip>,
    /// How many were looked at.
    pub examined: usize,
    /// How many of these would not be allowed any more.
    pub denied: usize,
    /// How many would be allowed.
    pub allowed: usize,
    /// Where the next part begins; nothing after the last.
    pub next: Option<[u8; 32]>,
}

/// Looks at up to `limit` watched questions after `after`, in the order of their keys.
pub async fn part(
    app: &App,
    snapshot: &Arc<Snapshot>,
    changed: &Arc<Control>,
    running_only: bool,
    after: Option<[u8; 32]>,
    limit: u32,
) -> Result<Part, Fault> {
    let rows = app.backend.store.asked(&snapshot.tenant, running_only, after, limit).await?;
    let next = rows.last().filter(|_| rows.len() >= limit as usize).map(|last| last.key);
    let examined = rows.len();
    let questions = rows.iter().map(question).collect::<Result<Vec<_>, _>>()?;
    let mut bench = Bench::at(snapshot, Timestamp::now());
    bench.controls.push(changed.clone());
    let answers = batch::evaluate(app, &bench, questions).await?;
    let mut part = Part { flips: Vec::new(), examined, denied: 0, allowed: 0, next };
    for (row, answers) in rows.into_iter().zip(answers) {
        let Some([old, new]) = answers.as_deref() else { return Err(Fault::Internal) };
        let (old, new) = (&old.verdict, &new.verdict);
        if (old.outcome, old.allowed) == (new.outcome, new.allowed) {
            continue;
        }
        part.denied += usize::from(old.allowed && !new.allowed);
        part.allowed += usize::from(!old.allowed && new.allowed);
        part.flips.push(flip(row, old, new, changed));
    }
    Ok(part)
}

pub(crate) fn question(row: &Asked) -> Result<Question, Fault> {
    let question = verdict::question(&row.image, row.environment.as_deref(), row.platform.as_deref())?;
    verdict::in_context(question, serde_json::from_str(&row.context).map_err(|_| Fault::Internal)?)
}

fn flip(row: Asked, old: &Verdict, new: &Verdict, changed: &Control) -> Flip {
    let mut mends: Vec<Mend> = Vec::new();
    for reason in new.errors() {
        let mend = Mend {
            code: reason.code.to_string(),
            rule: reason.rule.clone(),
            hint: reason.remediation.hint.clone(),
            expected: reason.expected.clone(),
            actual: reason.actual.clone(),
        };
        if !mends.contains(&mend) {
            mends.push(mend);
        }
    }
    Flip {
        mends,
        not_reached: not_reached(new, changed),
        image: row.image,
        environment: row.environment,
        platform: row.platform,
        running: row.running,
        old: Said::of(old),
        new: Said::of(new),
    }
}

/// What the policy that would decide asks for and nobody looked at.
fn not_reached(verdict: &Verdict, control: &Control) -> Vec<&'static str> {
    let active = verdict.policy.as_ref().and_then(|decides| control.policies.get(&decides.name));
    let policy = active.and_then(|active| active.policy.as_ref().ok());
    policy.map(|policy| verdict.not_reached(policy.spec())).unwrap_or_default()
}
