//! The evaluator: facts and policies to a verdict.
//!
//! Reading order is the order of the rules (docs/rules.md): [`select`] R0, [`artifact`], [`build`] R1,
//! [`source`] R2, [`inputs`] R3, [`registry`] R4, [`layout`], [`summary`] R5, [`require`] R6, [`time`] R7,
//! [`negative`] R8. [`World`] is what they all read through;
//! it notes every node that they ask for.

mod artifact;
pub(crate) mod assert;
mod build;
mod certificate;
mod conduct;
mod history;
mod inputs;
mod layout;
mod near;
mod negative;
mod rebuild;
mod registry;
mod require;
mod select;
mod source;
mod summary;
mod threshold;
mod time;
mod vex;
mod voice;
mod world;

use std::{collections::BTreeMap, collections::BTreeSet, rc::Rc};

use catenary_evidence::{
    KeyId,
    digest::{Digest, Node, Sha256},
    object::Platform,
    predicate::Claim,
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    control::Control,
    exception::{self, Applied},
    gather::{Evidence, Gather, Want},
    policy::{IdentityRule, Mode, OnIndeterminate, Policy, Spec},
    reason::{Code, Reason, Severity},
    verdict::{
        Link, LogView, NearMiss, Outcome, PolicyView, Question, Status, SubjectView, Verdict, unsealed,
    },
};
pub(crate) use time::SKEW;
use world::World;

/// Verifier and evaluator, as a verdict names them.
pub const ENGINE: &str = concat!("catenary/", env!("CARGO_PKG_VERSION"));

/// Most nodes that one evaluation reads.
pub const MAX_NODES: usize = 10_000;

/// Most chains of inputs that one evaluation follows.
const MAX_CHAINS: usize = 10_000;

/// Most hops from the question to an input.
const MAX_HOPS: u32 = 32;

/// Most statements by trusted signers about one node.
const MAX_STATEMENTS: usize = 1_000;

/// How long a yes holds when nothing else ends it.
const HOLDS: SignedDuration = SignedDuration::from_secs(600);

/// How long anything else holds: evidence may be on its way.
const HOLDS_NOT: SignedDuration = SignedDuration::from_secs(5);

/// "Is the chain of this digest in this repository unbroken and trusted?", from `log[0..N)` at `now`.
pub fn evaluate(
    question: &Question,
    control: &Control,
    evidence: &Evidence,
    log: LogView,
    now: Timestamp,
) -> Verdict {
    evaluate_until(question, control, evidence, log, now).0
}

/// The same, and the next moment at which time alone can change the answer. (`validUntil` is earlier: it bounds how long an answer is
/// kept by whoever does not follow the log.)
pub fn evaluate_until(
    question: &Question,
    control: &Control,
    evidence: &Evidence,
    log: LogView,
    now: Timestamp,
) -> (Verdict, Option<Timestamp>) {
    conclude(look(question, control, evidence, now), question, log)
}

/// What to do with the evidence that is there.
#[derive(Debug)]
pub enum Step {
    /// More is needed.
    Want(Want),
    /// It is all that the answer rests on; and the next moment at which time alone can change it.
    Verdict(Box<Verdict>, Option<Timestamp>),
}

/// Evaluates what is there: the verdict, unless the evaluation asked for something that was not fetched yet.
///
/// The same as [`Gather::next`] until it wants nothing and [`evaluate`] after it, with one evaluation less.
pub fn step(
    question: &Question,
    control: &Control,
    evidence: &Evidence,
    log: LogView,
    now: Timestamp,
    gather: &mut Gather<'_>,
) -> Step {
    let looked = look(question, control, evidence, now);
    match gather.after(&looked.world.touched, evidence) {
        Some(want) => Step::Want(want),
        None => {
            let (verdict, ends) = conclude(looked, question, log);
            Step::Verdict(Box::new(verdict), ends)
        }
    }
}

/// An evaluation, before it is put into words.
struct Looked<'a> {
    world: World<'a>,
    chain: Rc<Chain>,
    overflow: bool,
    near: (Vec<NearMiss>, bool),
}

fn look<'a>(
    question: &'a Question,
    control: &'a Control,
    evidence: &'a Evidence,
    now: Timestamp,
) -> Looked<'a> {
    let mut world = World::asked(control, evidence, question, now);
    let chain = answer(&mut world, question);
    // Near misses never decide: what they read spends no budget.
    let overflow = world.overflow;
    let near = near::misses(&mut world, question.image.digest, &question.image.resource, &chain);
    Looked { world, chain, overflow, near }
}

fn conclude(looked: Looked<'_>, question: &Question, log: LogView) -> (Verdict, Option<Timestamp>) {
    let Looked { mut world, chain, overflow, near: (near_misses, truncated) } = looked;
    let (control, evidence, now) = (world.control, world.evidence, world.now);
    // Nobody asks for it any more: what it holds goes into the verdict as it is.
    world.memo.clear();
    let mut chain = Rc::unwrap_or_clone(chain);
    let mut reasons = std::mem::take(&mut chain.reasons);
    let broken = reasons.iter().any(Reason::is_error);
    if overflow {
        reasons.retain(|reason| reason.code != Code::SysLimitExceeded);
        let message = "the chain is larger than the evaluator's limits";
        reasons.insert(0, Reason::error(Code::SysLimitExceeded, question.image.digest, "", message));
    }
    // Who can make an expression fail to evaluate must not hide behind it what is plainly wrong.
    let plainly = |r: &Reason| r.is_error() && !r.code.is_indeterminate();
    let by_error = reasons.iter().any(|r| r.is_error() && r.code == Code::PolEvalError);
    let soft = [Code::PolEvalError, Code::AttTrustrootStale];
    let limited = |r: &Reason| r.is_error() && r.code.is_indeterminate() && !soft.contains(&r.code);
    let softly = reasons.iter().any(|r| r.is_error() && soft.contains(&r.code));
    let undecided = reasons.iter().any(limited) || softly && !reasons.iter().any(plainly);
    let outcome = match (undecided, broken) {
        (true, _) => Outcome::Indeterminate,
        (false, true) => Outcome::Failed,
        (false, false) => Outcome::Passed,
    };
    if !evidence.damaged.is_empty() && chain.policy.is_some() {
        let message =
            format!("{} item(s) of stored evidence no longer match their hash", evidence.damaged.len());
        let mut reason = Reason::error(Code::SysIntegrityViolation, question.image.digest, "", message)
            .with_evidence(evidence.damaged.iter().copied());
        if outcome == Outcome::Passed {
            reason.severity = Severity::Warning;
        }
        reasons.push(reason);
    }

    let spec = chain.policy.as_ref().map(|decides| decides.policy.spec());
    let mode = spec.map_or(Mode::Enforce, |spec| spec.mode);
    let undecided_is_fine = spec.is_some_and(|spec| spec.on_indeterminate == OnIndeterminate::Allow);
    let allowed = outcome == Outcome::Passed
        || mode != Mode::Enforce
        || (outcome == Outcome::Indeterminate && undecided_is_fine && !by_error);
    let excused = match &chain.policy {
        Some(decides) if !allowed && outcome == Outcome::Failed && exception::may_allow(&reasons) => {
            exception::judge(
                question,
                &decides.view.name,
                decides.policy.spec().exceptions.as_ref(),
                control,
                now,
            )
        }
        _ => exception::Judged::default(),
    };
    let allowed = allowed || !excused.applied.is_empty();
    world.horizons.extend(excused.applied.iter().map(|applied| applied.expires));
    reasons.extend(excused.reasons);
    reasons.sort_by_key(|reason| reason.severity);

    let holds = if outcome == Outcome::Passed { HOLDS } else { HOLDS_NOT };
    let horizon = later(now, holds);
    let ends = world.horizons.iter().copied().filter(|moment| *moment > now).min();
    let valid_until = ends.map_or(horizon, |ends| ends.min(horizon));

    let verdict = Verdict {
        api_version: "v1".to_owned(),
        kind: "Verdict".to_owned(),
        id: unsealed(),
        outcome,
        allowed,
        mode: mode.as_str().to_owned(),
        subject: SubjectView {
            digest: question.image.digest,
            media_type: chain.media_type,
            resource: question.image.resource.clone(),
            platform: question.platform.as_ref().map(platform_text),
        },
        context: said(question),
        policy: chain.policy.as_ref().map(|decides| decides.view.clone()),
        trust_epoch: control.epoch,
        log,
        engine: ENGINE.to_owned(),
        evaluated_at: now,
        as_of: now,
        valid_until,
        levels: if outcome == Outcome::Passed { chain.levels } else { BTreeMap::new() },
        properties: match outcome {
            Outcome::Passed => chain.properties.into_iter().collect(),
            _ => Vec::new(),
        },
        summary: summary(question, outcome, &reasons, &excused.applied),
        exceptions: excused.applied,
        links: chain.links,
        reasons,
        near_misses,
        truncated,
    };
    (verdict.seal(), ends)
}

/// The repositories in which trusted registry events saw the digest, or an index that holds it.
///
/// "Trusted": by a key that counts and that some active policy names in `trust.registries`, about a
/// repository that the rule may speak about. Names of subjects are the producer's own and are not used.
pub fn known_resources(digest: Digest, control: &Control, evidence: &Evidence) -> BTreeSet<String> {
    let mut world = World::new(control, evidence, None, Timestamp::MIN);
    let mut nodes = vec![Node::Content(digest)];
    nodes.extend(world.parents(digest).into_iter().map(Node::Content));
    let policies: Vec<_> =
        control.policies.values().filter_map(|active| active.policy.clone().ok()).collect();
    let mut resources = BTreeSet::new();
    for node in nodes {
        for statement in world.naming(node) {
            let Claim::Registry(event) = &statement.fact.claim else { continue };
            let rules = policies.iter().flat_map(|policy| &policy.spec().trust.registries);
            for rule in rules {
                if registry::speaks(&world, statement, rule, event) {
                    resources.insert(event.resource.clone());
                }
            }
        }
    }
    resources
}

/// The nodes that an evaluation with this evidence asks for. Time decides nothing about that.
pub(crate) fn touched(question: &Question, control: &Control, evidence: &Evidence) -> BTreeSet<Node> {
    look(question, control, evidence, Timestamp::MIN).world.touched
}

/// The nodes that [`known_resources`] asks for.
pub(crate) fn touched_by_digest(digest: Digest, control: &Control, evidence: &Evidence) -> BTreeSet<Node> {
    let mut world = World::new(control, evidence, None, Timestamp::MIN);
    world.touch(Node::Content(digest));
    world.parents(digest);
    world.touched
}

/// Every key that any active policy names for any role.
pub fn signers(control: &Control) -> BTreeSet<KeyId> {
    let policies = control.policies.values().filter_map(|active| active.policy.as_ref().ok());
    policies.flat_map(|policy| policy.signers(control)).collect()
}

/// Every certificate identity that any active policy names for any role.
pub(crate) fn identities(control: &Control) -> impl Iterator<Item = &IdentityRule> {
    let policies = control.policies.values().filter_map(|active| active.policy.as_ref().ok());
    policies.flat_map(|policy| policy.identities())
}

fn answer(world: &mut World<'_>, question: &Question) -> Rc<Chain> {
    let (digest, resource) = (question.image.digest, &question.image.resource);
    // A question that no policy decides is answered before any budget counts. The digest is read whatever
    // the policies say, so that an answer always rests on something.
    let decides = select::select(world, resource);
    world.touch(Node::Content(digest));
    let decides = match decides {
        Ok(decides) => decides,
        Err(reason) => {
            world.overflow = false;
            return Rc::new(Chain::refused(*reason, None));
        }
    };
    let chain = world.chain(digest, resource, question.platform.as_ref(), 0);
    match chain.policy {
        Some(_) => chain,
        None => Rc::new(Chain { policy: Some(decides), ..(*chain).clone() }),
    }
}

/// The policy that decides.
#[derive(Debug, Clone)]
pub(crate) struct Decides {
    pub policy: std::sync::Arc<Policy>,
    pub view: PolicyView,
}

/// The result of `chain(artifact, resource)`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain {
    pub policy: Option<Decides>,
    pub reasons: Vec<Reason>,
    pub links: Vec<Link>,
    pub levels: BTreeMap<String, u8>,
    pub properties: BTreeSet<String>,
    pub media_type: Option<String>,
    /// When the newest of the builds that cover it was made.
    pub newest: Option<Timestamp>,
}

impl Chain {
    /// Whether nothing breaks it.
    pub fn holds(&self) -> bool {
        !self.reasons.iter().any(Reason::is_error)
    }

    /// A chain that ends before it begins.
    fn refused(reason: Reason, policy: Option<Decides>) -> Self {
        let link = Link {
            stage: reason.stage.clone(),
            status: if reason.code.is_indeterminate() { Status::Unknown } else { Status::Fail },
            node: reason.node.clone(),
            summary: reason.message.clone(),
            evidence: Vec::new(),
            links: Vec::new(),
        };
        Self { policy, reasons: vec![reason], links: vec![link], ..Self::default() }
    }
}

impl World<'_> {
    /// `chain(artifact, resource)`: from the memo, or worked out.
    ///
    /// A result that met a chain still open above it may be worse than the truth, so it is kept only when
    /// it holds: the least fixed point never takes a proof back.
    pub(crate) fn chain(
        &mut self,
        digest: Digest,
        resource: &str,
        platform: Option<&Platform>,
        hop: u32,
    ) -> Rc<Chain> {
        let key = (digest, resource.to_owned(), self.memo_hop(hop));
        if let Some(known) = self.memo.get(&key) {
            return Rc::clone(known);
        }
        self.chains += 1;
        if self.chains > MAX_CHAINS {
            self.overflow = true;
        }
        if self.overflow {
            let message = "the chain is larger than the evaluator's limits";
            return Rc::new(Chain::refused(Reason::error(Code::SysLimitExceeded, digest, "", message), None));
        }
        let depth = self.open.len();
        self.open.push((digest, resource.to_owned()));
        let outer = std::mem::replace(&mut self.met, usize::MAX);
        let chain = Rc::new(self.work_out(digest, resource, platform, hop));
        self.open.pop();
        let met = std::mem::replace(&mut self.met, outer);
        if met < depth {
            self.met = self.met.min(met);
        }
        if chain.holds() || met >= depth || self.keeps_everything() {
            self.memo.insert(key, Rc::clone(&chain));
        }
        chain
    }

    /// The rules, in their order.
    fn work_out(&mut self, digest: Digest, resource: &str, platform: Option<&Platform>, hop: u32) -> Chain {
        // R0
        let decides = match select::select(self, resource) {
            Ok(decides) => decides,
            Err(reason) => return Chain::refused(*reason, None),
        };
        let policy = std::sync::Arc::clone(&decides.policy);
        let spec = policy.spec();
        let expired = select::expired(&policy, self);
        self.horizons.extend(policy.expires());

        // The artifact
        if !self.is_known(digest) {
            let message = format!("nothing is known about {digest}");
            let mut chain =
                Chain::refused(Reason::error(Code::ArtUnknown, digest, "", message), Some(decides));
            chain.reasons.extend(expired);
            return chain;
        }
        let artifact = artifact::judge(self, digest, platform, spec);
        let (denied, denied_link) = assert::denied(self, &artifact, resource, spec);

        let bare = (hop == 0).then(|| near::nothing(self, &artifact, spec)).flatten();

        // R1 with R2, R3 and the statement's own part of R7
        let mut built =
            spec.build.as_ref().map(|rules| build::judge(self, &artifact, resource, spec, rules, hop));
        // R4
        let registered =
            spec.registry.as_ref().map(|rules| registry::judge(self, digest, resource, spec, rules));
        let (layout_reasons, mut layout_links) = layout::judge(self, digest, spec);
        // R7, and R5
        let mut timed = time::judge(self, digest, spec, built.as_ref(), registered.as_ref(), false);
        let own =
            built.as_ref().is_some_and(|b| !b.reasons.iter().any(Reason::is_error)) && timed.is_ordered();
        let delegated = self.delegated(digest, resource, spec, own, hop);
        if matches!(delegated, Some(Ok(_))) {
            built = built.map(build::Built::discharged);
            timed = time::judge(self, digest, spec, built.as_ref(), registered.as_ref(), true);
        }
        // R6 and R8
        let commits = built.as_ref().map(build::Built::commits).unwrap_or_default();
        let mut required = require::judge(self, &artifact, resource, spec, &commits);
        let negatives = negative::judge(self, &artifact, resource, spec, &commits);
        let newest = built.as_ref().filter(|built| built.covered).and_then(|b| time::newest(self, &b.good));

        let mut links: Vec<Link> = denied_link.into_iter().collect();
        links.push(artifact.link());
        let (mut levels, mut properties) = (BTreeMap::new(), BTreeSet::new());
        let mut reasons: Vec<Reason> = expired.into_iter().collect();
        reasons.extend(denied);
        reasons.extend(artifact.reasons);
        reasons.extend(bare);
        let mut time_link = timed.link;
        if let Some(built) = &mut built {
            links.append(&mut built.links);
            reasons.append(&mut built.reasons);
            levels = std::mem::take(&mut built.levels);
            properties = std::mem::take(&mut built.properties);
        }
        if let Some(registered) = registered {
            links.push(registered.link);
            reasons.extend(registered.reasons);
        }
        reasons.extend(layout_reasons);
        links.append(&mut layout_links);
        match delegated {
            Some(Ok(accepted)) => {
                links.push(accepted.link(digest));
                levels.extend(accepted.levels);
            }
            Some(Err(reason)) => {
                links.push(summary::broken(digest, &reason));
                reasons.push(*reason);
            }
            None => {}
        }
        links.append(&mut required.links);
        reasons.append(&mut required.reasons);
        if let Some((mut negatives, link)) = negatives {
            links.push(link);
            reasons.append(&mut negatives);
        }
        reasons.extend(timed.reasons);
        if reasons.iter().any(|r| r.is_error() && r.stage == "time") {
            time_link.status = Status::Fail;
        }
        links.push(time_link);
        let mut unique: Vec<Reason> = Vec::new();
        for reason in reasons {
            if !unique.contains(&reason) {
                unique.push(reason);
            }
        }
        let media_type = artifact.media_type;
        Chain { policy: Some(decides), reasons: unique, links, levels, properties, media_type, newest }
    }

    /// R5, when the policy has it and the chain does not hold by its `own` evidence. A build that was made again after the push
    /// breaks the order, and must not take away what stands without it.
    fn delegated(
        &mut self,
        digest: Digest,
        resource: &str,
        spec: &Spec,
        own: bool,
        hop: u32,
    ) -> Option<Result<summary::Accepted, Box<Reason>>> {
        let rules = spec.summary.as_ref().filter(|_| !own)?;
        Some(summary::judge(self, digest, resource, spec, rules, hop))
    }
}

/// The environment and whatever else the question says.
fn said(question: &Question) -> BTreeMap<String, String> {
    let environment = question.environment.iter().map(|e| ("environment".to_owned(), e.clone()));
    question.context.clone().into_iter().chain(environment).collect()
}

/// One line for people, at most 256 characters.
fn summary(question: &Question, outcome: Outcome, reasons: &[Reason], excused: &[Applied]) -> String {
    let digest = question.image.digest.to_string();
    let short: String = digest.chars().take(19).collect();
    let name = format!("{}@{short}", question.image.resource);
    let first = reasons.iter().find(|r| r.is_error());
    let rest = match (outcome, first) {
        (Outcome::Passed, _) => "the chain is unbroken".to_owned(),
        (_, Some(reason)) => {
            let more = reasons.iter().filter(|r| r.is_error()).count() - 1;
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            format!("{}{more}: {}", reason.code, reason.message)
        }
        (_, None) => "no reason".to_owned(),
    };
    let outcome = match outcome {
        Outcome::Passed => "PASSED",
        Outcome::Failed => "FAILED",
        Outcome::Indeterminate => "INDETERMINATE",
    };
    let but = excused.first().map(|e| format!(" but allowed by exception {} until {}:", e.id, e.expires));
    let line = format!("{outcome}{} {rest} [{name}]", but.unwrap_or_default());
    match line.char_indices().nth(255) {
        Some((cut, _)) if line.chars().count() > 256 => format!("{}…", &line[..cut]),
        _ => line,
    }
}

/// `os/architecture[/variant]`.
pub fn platform_text(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map(|v| format!("/{v}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

/// `time + span`, at most the end of time.
pub(crate) fn later(time: Timestamp, span: SignedDuration) -> Timestamp {
    time.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// The ids of statements.
pub(crate) fn ids<'a>(statements: impl IntoIterator<Item = &'a world::Statement>) -> Vec<Sha256> {
    let mut ids: Vec<Sha256> = statements.into_iter().map(|s| s.fact.id).collect();
    ids.sort();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests;
