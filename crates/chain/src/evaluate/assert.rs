//! Expressions of the policy, and what their answers mean. An error is neither answer: it says that nobody can decide, or,
//! with `onError: fail`, that the policy is not met.

use catenary_evidence::digest::Digest;
use jiff::SignedDuration;

use crate::{
    expr::{self, Assert, Bindings, Fault, OnError, Program},
    policy::{Mode, Spec, document::Deny},
    reason::{Code, Reason},
    verdict::{Link, Status},
};

use super::{artifact::Artifact, later, world::World};

/// How long an answer holds that depends on the moment: nobody knows when the expression's own answer changes.
const HOLDS: SignedDuration = SignedDuration::from_secs(5);

/// What an expression is for.
pub(super) struct Asked<'a> {
    /// The node of the reasons.
    pub node: &'a str,
    /// The policy member.
    pub rule: &'a str,
    /// The link.
    pub stage: &'a str,
    /// What it means when the policy is not met.
    pub code: Code,
}

impl Asked<'_> {
    fn reason(&self, code: Code, message: String) -> Reason {
        let mut reason = Reason::error(code, self.node, self.rule, message);
        self.stage.clone_into(&mut reason.stage);
        reason
    }

    /// The reasons of an expression without an answer.
    fn failed(
        &self,
        id: &str,
        source: &str,
        fault: &Fault,
        on_error: OnError,
        message: String,
    ) -> Vec<Reason> {
        let what = format!("`{id}` cannot be evaluated: {fault}");
        let error = self.reason(Code::PolEvalError, what).because(source, fault.to_string());
        match on_error {
            OnError::Indeterminate => vec![error],
            OnError::Fail => {
                let unmet = self.reason(self.code, message).because(source, "an error");
                vec![unmet, error.under(Mode::Warn)]
            }
        }
    }
}

/// Evaluates, with the steps that are left.
fn evaluate(world: &mut World<'_>, program: &Program, bindings: &Bindings) -> Result<bool, Fault> {
    if program.uses_now() {
        world.horizons.push(later(world.now, HOLDS));
    }
    program.evaluate(bindings, &mut world.steps)
}

/// What is wrong with what must be true.
pub(super) fn asserts(
    world: &mut World<'_>,
    asserts: &[Assert],
    bindings: &Bindings,
    asked: &Asked<'_>,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for assert in asserts {
        let message = assert.message.clone().unwrap_or_else(|| format!("`{}` does not hold", assert.id));
        let source = assert.expr.source();
        match evaluate(world, &assert.expr, bindings) {
            Ok(true) => {}
            Ok(false) => reasons.push(asked.reason(asked.code, message).because(source, false)),
            Err(fault) => reasons.extend(asked.failed(&assert.id, source, &fault, assert.on_error, message)),
        }
    }
    reasons
}

/// What every site may read.
pub(super) fn bindings(world: &World<'_>, digest: Digest, resource: &str) -> Bindings {
    Bindings::default()
        .with("ctx", expr::context(world.question))
        .with("subject", expr::subject(&digest, resource))
        .at(world.now)
}

/// The deny rules that hold, or of which nobody knows whether they do.
pub(super) fn denied(
    world: &mut World<'_>,
    artifact: &Artifact,
    resource: &str,
    spec: &Spec,
) -> (Vec<Reason>, Option<Link>) {
    if spec.deny.is_empty() {
        return (Vec::new(), None);
    }
    let bindings = bindings(world, artifact.digest, resource);
    let mut reasons = Vec::new();
    for rule in &spec.deny {
        let found = match (&rule.when, &rule.digests) {
            (Some(when), _) => by_expression(world, rule, when, &bindings, artifact),
            (None, Some(digests)) => by_digest(rule, digests, artifact),
            (None, None) => Vec::new(),
        };
        reasons.extend(found.into_iter().map(|reason| reason.under(rule.mode)));
    }
    let broken = reasons.iter().find(|reason| reason.is_error());
    let link = Link {
        stage: "policy".to_owned(),
        status: match broken {
            Some(reason) if reason.code.is_indeterminate() => Status::Unknown,
            Some(_) => Status::Fail,
            None => Status::Pass,
        },
        node: artifact.digest.to_string(),
        summary: broken.map_or_else(|| "no deny rule holds".to_owned(), |reason| reason.message.clone()),
        evidence: Vec::new(),
        links: Vec::new(),
    };
    (reasons, Some(link))
}

fn by_expression(
    world: &mut World<'_>,
    rule: &Deny,
    when: &Program,
    bindings: &Bindings,
    artifact: &Artifact,
) -> Vec<Reason> {
    let node = artifact.digest.to_string();
    let asked = Asked { node: &node, rule: "deny.when", stage: "policy", code: Code::PolDenied };
    let message = rule.message.clone().unwrap_or_else(|| format!("deny rule `{}` holds", rule.id));
    match evaluate(world, when, bindings) {
        Ok(false) => Vec::new(),
        Ok(true) => vec![asked.reason(Code::PolDenied, message).because(false, when.source())],
        Err(fault) => asked.failed(&rule.id, when.source(), &fault, rule.on_error, message),
    }
}

/// The digest itself, and, of an index, whatever it may run.
fn by_digest(rule: &Deny, digests: &[Digest], artifact: &Artifact) -> Vec<Reason> {
    let here = std::iter::once(artifact.digest).chain(artifact.children.iter().copied());
    let listed = here.filter(|digest| digests.contains(digest));
    let reason = |digest: Digest| {
        let message = rule.message.clone().unwrap_or_else(|| format!("{digest} is on the deny list"));
        Reason::error(Code::ArtDenied, digest, "deny.digests", message).because("not listed", rule.id.clone())
    };
    listed.map(reason).collect()
}
