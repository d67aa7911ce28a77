//! R7: no order of events is violated, and nothing is too old.
//!
//! Times that a statement claims are worth as much as its signer; what bounds them is when an entry was received, or
//! when a trusted authority saw the signature before that.

use catenary_evidence::{
    digest::Digest,
    predicate::{Build, Claim},
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    policy::{Mode, Spec, document::Order},
    reason::{Code, Reason},
    verdict::{Link, Status},
};

use super::{
    build::Built,
    later,
    registry::Registered,
    world::{Statement, World},
};

/// How far clocks may be apart when the policy does not say.
pub(crate) const SKEW: SignedDuration = SignedDuration::from_secs(120);

/// The result of R7 for the chain.
pub struct Timed {
    pub reasons: Vec<Reason>,
    pub link: Link,
}

impl Timed {
    /// Whether no build is later than what came of it.
    pub fn is_ordered(&self) -> bool {
        let late = [Code::TimPushBeforeBuild, Code::TimArtifactBeforeBuild];
        !self.reasons.iter().any(|reason| reason.is_error() && late.contains(&reason.code))
    }
}

fn skew(spec: &Spec) -> SignedDuration {
    spec.time.skew.unwrap_or(SKEW)
}

fn asks(spec: &Spec, order: Order) -> bool {
    spec.time.order.as_ref().is_none_or(|orders| orders.contains(&order))
}

/// What one build statement claims about time. `existed`: when it is proven to have existed; `updates`: when its trusted
/// commit evidence says that the ref moved.
pub fn of_statement(
    existed: Timestamp,
    build: &Build,
    updates: &[Timestamp],
    node: Digest,
    spec: &Spec,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let latest = later(existed, skew(spec));
    // The later of the two says it all.
    let claims = [build.started_on.map(|t| (t, "startedOn")), build.finished_on.map(|t| (t, "finishedOn"))];
    if let Some((claimed, name)) = claims.into_iter().flatten().max().filter(|(claimed, _)| *claimed > latest)
    {
        let message = format!("{name} {claimed} is later than when the statement is known to have existed");
        let reason = Reason::error(Code::TimFuture, node, "time.skew", message);
        reasons.push(reason.because(format!("at most {latest}"), claimed.to_string()));
    }
    let Some(earliest) = updates.iter().min().filter(|_| asks(spec, Order::SourceBeforeBuild)) else {
        return reasons;
    };
    let rule = "time.order source<build";
    match build.started_on {
        None => {
            let message = "the build does not say when it started";
            reasons.push(Reason::warning(Code::TimUnordered, node, rule, message));
        }
        Some(started) if *earliest > later(started, skew(spec)) => {
            let message = format!("the build started at {started}, the ref moved at {earliest}");
            let reason = Reason::error(Code::TimBuildBeforeSource, node, rule, message);
            reasons.push(reason.because(format!("at or after {earliest}"), started.to_string()));
        }
        Some(started) if *earliest > started => {
            let message =
                format!("the build started at {started}, the ref moved at {earliest}, within the skew");
            reasons.push(Reason::warning(Code::TimUnordered, node, rule, message));
        }
        Some(_) => {}
    }
    reasons
}

/// Orders and ages of the whole chain.
pub fn judge(
    world: &mut World<'_>,
    digest: Digest,
    spec: &Spec,
    built: Option<&Built<'_>>,
    registered: Option<&Registered>,
    delegated: bool,
) -> Timed {
    let mut reasons = Vec::new();
    if let Some(built) = built.filter(|built| built.covered) {
        let builds: Vec<(&Statement, &Build)> = built
            .good
            .iter()
            .filter_map(|s| if let Claim::Build(build) = &s.fact.claim { Some((*s, build)) } else { None })
            .collect();
        if let Some(registered) =
            registered.filter(|r| !r.pushed.is_empty() && asks(spec, Order::BuildBeforePush))
        {
            reasons.extend(pushed_before(digest, &builds, &registered.pushed, skew(spec)));
        }
        reasons.extend(seen_before(world, digest, &builds, spec));
        if let Some(max) = spec.time.max_artifact_age
            && let Some(newest) = newest(world, &built.good)
        {
            let ends = later(newest, max);
            world.horizons.push(ends);
            if world.now > ends {
                let message = format!("the newest build is of {newest}");
                let reason = Reason::error(Code::TimTooOld, digest, "time.maxArtifactAge", message);
                reasons.push(reason.because(format!("until {ends}"), world.now.to_string()));
            }
        }
    } else if delegated && spec.time.max_artifact_age.is_some() {
        let message = "a verification summary does not say when the image was built";
        let reason = Reason::error(Code::TimTooOld, digest, "time.maxArtifactAge", message);
        reasons.push(reason.because("a build of known age", "none"));
    }
    let reasons: Vec<Reason> = reasons.into_iter().map(|reason| reason.under(spec.time.mode)).collect();
    let broken = reasons.iter().any(Reason::is_error);
    let link = Link {
        stage: "time".to_owned(),
        status: if broken { Status::Fail } else { Status::Pass },
        node: digest.to_string(),
        summary: if broken { "violated".to_owned() } else { "no order is violated".to_owned() },
        evidence: Vec::new(),
        links: Vec::new(),
    };
    Timed { reasons, link }
}

/// When the newest of the builds was made, as its builder says.
pub fn newest(world: &World<'_>, builds: &[&Statement]) -> Option<Timestamp> {
    let made = |statement: &&Statement| match &statement.fact.claim {
        Claim::Build(build) => {
            build.finished_on.or(build.started_on).or_else(|| Some(world.existed_at(statement)))
        }
        _ => None,
    };
    builds.iter().filter_map(made).max()
}

fn pushed_before(
    digest: Digest,
    builds: &[(&Statement, &Build)],
    pushed: &[Timestamp],
    skew: SignedDuration,
) -> Option<Reason> {
    let latest = pushed.iter().max()?;
    let before =
        |(_, build): &(&Statement, &Build)| build.started_on.is_some_and(|s| later(*latest, skew) < s);
    if builds.is_empty() || !builds.iter().all(before) {
        return None;
    }
    let message = format!("pushed at {latest}, before any build of it started");
    let reason = Reason::error(Code::TimPushBeforeBuild, digest, "time.order build<push", message);
    let started: Vec<String> =
        builds.iter().filter_map(|(_, b)| b.started_on).map(|t| t.to_string()).collect();
    Some(reason.because(started, latest.to_string()))
}

/// The bytes were here before any build of them started. Whoever builds the same bytes again is later by nature, so that it breaks
/// a chain only where the policy asks for the order.
fn seen_before(
    world: &mut World<'_>,
    digest: Digest,
    builds: &[(&Statement, &Build)],
    spec: &Spec,
) -> Option<Reason> {
    if !asks(spec, Order::BuildBeforeArtifact) || builds.is_empty() {
        return None;
    }
    let seen = world.logged_object(digest.into())?.received_at;
    let latest = later(seen, skew(spec));
    if !builds.iter().all(|(_, build)| build.started_on.is_some_and(|started| latest < started)) {
        return None;
    }
    let started: Vec<String> =
        builds.iter().filter_map(|(_, b)| b.started_on).map(|t| t.to_string()).collect();
    let message = format!("the image was here at {seen}, before any build of it started");
    let reason = Reason::error(Code::TimArtifactBeforeBuild, digest, "time.order build<artifact", message);
    let mode = if spec.time.order.is_some() { Mode::Enforce } else { Mode::Warn };
    Some(reason.because(started, seen.to_string()).under(mode))
}
