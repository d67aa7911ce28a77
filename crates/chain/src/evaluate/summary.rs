//! R5: a trusted verification summary stands for build, source and inputs. Never one of our own.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::{
    digest::{Digest, Node, Sha256},
    predicate::{self, Claim},
    reference::ImageReference,
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    policy::{
        Spec,
        delegate::{Summary as Rules, VerifierRule, Via},
        glob,
    },
    reason::{Code, Reason},
    verdict::{Link, Status},
};

use super::{
    later, voice,
    world::{Statement, World},
};

/// What a summary must say.
struct Wanted {
    levels: BTreeMap<String, u8>,
    max_age: Option<SignedDuration>,
    /// The member of the policy that asks.
    place: &'static str,
}

/// A summary that serves.
pub struct Accepted {
    pub id: Sha256,
    /// By track, for example `SLSA_BUILD`.
    pub levels: BTreeMap<String, u8>,
    pub verifier: String,
}

impl Accepted {
    pub fn link(&self, node: Digest) -> Link {
        Link {
            stage: "summary".to_owned(),
            status: Status::Pass,
            node: node.to_string(),
            summary: format!("verified by {}", self.verifier),
            evidence: vec![self.id],
            links: Vec::new(),
        }
    }
}

/// The link of a summary that does not serve.
pub fn broken(node: Digest, reason: &Reason) -> Link {
    Link {
        stage: "summary".to_owned(),
        status: Status::Fail,
        node: node.to_string(),
        summary: format!("{}: {}", reason.code, reason.message),
        evidence: reason.evidence.clone(),
        links: Vec::new(),
    }
}

/// Whether a summary stands for the chain of `digest` in `resource`, `hop` hops from the question.
pub fn judge(
    world: &mut World<'_>,
    digest: Digest,
    resource: &str,
    spec: &Spec,
    rules: &Rules,
    hop: u32,
) -> Result<Accepted, Box<Reason>> {
    let named = |rule: &&VerifierRule| rules.from.as_ref().is_none_or(|ids| ids.contains(&rule.id));
    let verifiers: Vec<&VerifierRule> = spec.trust.verifiers.iter().filter(named).collect();
    // What the policy asks of a build, it asks of a summary of one.
    let mut levels = rules.levels.clone();
    let own = [
        ("SLSA_BUILD", spec.build.as_ref().map_or(0, |build| build.min_level)),
        ("SLSA_SOURCE", spec.source.as_ref().map_or(0, |source| source.min_level)),
    ];
    for (track, level) in own.into_iter().filter(|(_, level)| *level > 0) {
        let wanted = levels.entry(track.to_owned()).or_insert(level);
        *wanted = level.max(*wanted);
    }
    let wanted = Wanted { levels, max_age: rules.max_age, place: "summary" };
    let accepted = find(world, digest, resource, &verifiers, &wanted)?;
    if hop >= rules.depth {
        let message = format!("the summary would stand in {} hop(s) from the question", hop + 1);
        let reason = Reason::error(Code::VsaDepth, digest, "summary.depth", message);
        return Err(Box::new(reason.because(rules.depth, hop + 1).with_evidence([accepted.id])));
    }
    Ok(accepted)
}

/// Whether a summary stands for the chain of an input.
pub fn of_input(
    world: &mut World<'_>,
    digest: Digest,
    resource: &str,
    spec: &Spec,
    via: &Via,
) -> Result<Accepted, Box<Reason>> {
    let verifiers: Vec<&VerifierRule> = spec.trust.verifiers.iter().filter(|r| r.id == via.vsa).collect();
    let wanted = Wanted { levels: via.levels.clone(), max_age: via.max_age, place: "inputs.via" };
    find(world, digest, resource, &verifiers, &wanted).map_err(|mut reason| {
        reason.stage = "input".to_owned();
        reason
    })
}

/// How far a summary got. A later one is closer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Got {
    Signer,
    Revoked,
    Own,
    Verifier,
    Resource,
    Policy,
    Result,
    Level,
    Age,
}

/// A statement under a rule whose signer it is by.
struct Candidate<'a> {
    statement: &'a Statement,
    claim: &'a predicate::Summary,
    at: Timestamp,
}

fn find(
    world: &mut World<'_>,
    digest: Digest,
    resource: &str,
    verifiers: &[&VerifierRule],
    wanted: &Wanted,
) -> Result<Accepted, Box<Reason>> {
    let holders = voice::holders(world, digest);
    let nodes: Vec<Digest> = std::iter::once(digest).chain(holders).collect();
    let about = voice::about(world, nodes.iter().copied().map(Node::Content));
    let mut closest: Option<(Got, Reason)> = None;
    let mut keep = |got: Got, reason: Reason| {
        if closest.as_ref().is_none_or(|(best, _)| got > *best) {
            closest = Some((got, reason));
        }
    };
    let mut summaries = 0;
    for rule in verifiers {
        let mut candidates: Vec<Candidate<'_>> = Vec::new();
        for statement in about.values() {
            let Claim::Summary(claim) = &statement.fact.claim else { continue };
            summaries += 1;
            match names(world, statement, claim, rule, resource, &nodes) {
                Ok(()) => {
                    candidates.push(Candidate { statement, claim, at: voice::stated_at(world, statement) });
                }
                Err((got, code, message)) => {
                    let reason = Reason::error(code, digest, wanted.place, message);
                    keep(got, reason.with_evidence([statement.fact.id]));
                }
            }
        }
        // The verifier's latest word; of several at one moment each must do.
        let Some(at) = candidates.iter().map(|c| c.at).max() else { continue };
        let (mut accepted, mut stands) = (None, true);
        for latest in candidates.iter().filter(|c| c.at == at) {
            match says(world, latest, rule, digest, wanted) {
                Ok(found) => accepted = Some(found),
                Err((got, reason)) => {
                    stands = false;
                    keep(got, reason.with_evidence([latest.statement.fact.id]));
                }
            }
        }
        if let Some(accepted) = accepted.filter(|_| stands) {
            return Ok(accepted);
        }
    }
    let reason = match closest {
        Some((got, reason)) if got > Got::Signer => reason,
        _ => {
            let ids: Vec<String> = verifiers.iter().map(|rule| rule.id.clone()).collect();
            let message = format!("no summary by a trusted verifier is about {digest}");
            Reason::error(Code::VsaMissing, digest, wanted.place, message).because(ids, summaries)
        }
    };
    Err(Box::new(reason))
}

type Not = (Got, Code, String);

/// Whether the summary is by the verifier of the rule, about this repository, by a listed policy.
fn names(
    world: &World<'_>,
    statement: &Statement,
    claim: &predicate::Summary,
    rule: &VerifierRule,
    resource: &str,
    nodes: &[Digest],
) -> Result<(), Not> {
    let not = |got, code, message: String| Err((got, code, message));
    if !world.counts(statement, &rule.signer, rule.valid_from, rule.valid_until) {
        let revoked = world.revocation(statement, &rule.signer);
        let got = if revoked.is_some() { Got::Revoked } else { Got::Signer };
        let code = revoked.unwrap_or(Code::VsaMissing);
        return not(got, code, "the summary is by a signer that does not count".to_owned());
    }
    if world.is_own_verdict(statement) {
        let message = format!("{} is this service itself", claim.verifier_id);
        return not(Got::Own, Code::VsaSelfIssued, message);
    }
    if !rule.verifier_id.matches(&claim.verifier_id) {
        let message = format!("the signer may not speak for verifier {}", claim.verifier_id);
        return not(Got::Verifier, Code::VsaSignerVerifierPair, message);
    }
    let spoken = rule.resources.as_ref().is_none_or(|globs| glob::any(globs, resource));
    let about = is_about(&claim.resource_uri, resource, nodes);
    #[cfg(feature = "faults")]
    let about = about || crate::faults::on(crate::faults::Fault::AnyResource);
    if !spoken || !about {
        let message = format!("the summary is about {}", claim.resource_uri);
        return not(Got::Resource, Code::VsaResourceMismatch, message);
    }
    if !rule.allows_policy(claim) {
        let found = claim.policy_uri.clone().unwrap_or_else(|| "no policy".to_owned());
        let message = format!("the summary was made by {found}, which `{}` does not list", rule.id);
        return not(Got::Policy, Code::VsaPolicyNotAllowed, message);
    }
    Ok(())
}

/// Whether `resourceUri` is the repository: as it is, with a scheme of container images, or with the digest of the image.
pub fn is_about(uri: &str, resource: &str, nodes: &[Digest]) -> bool {
    let name = ["oci://", "docker://"].iter().find_map(|scheme| uri.strip_prefix(scheme)).unwrap_or(uri);
    name == resource
        || name.parse::<ImageReference>().is_ok_and(|image| {
            image.resource == resource && nodes.contains(&image.digest) && !name.contains(char::is_whitespace)
        })
}

/// Whether the summary passed, gives the levels and is fresh.
fn says(
    world: &mut World<'_>,
    candidate: &Candidate<'_>,
    rule: &VerifierRule,
    digest: Digest,
    wanted: &Wanted,
) -> Result<Accepted, (Got, Box<Reason>)> {
    let claim = candidate.claim;
    let not = |code: Code, message: String| Reason::error(code, digest, wanted.place, message);
    if !claim.passed {
        let message = format!("verifier {} says that it failed", claim.verifier_id);
        let reason = not(Code::VsaFailed, message).because("PASSED", "FAILED");
        return Err((Got::Result, Box::new(reason)));
    }
    let track = |name: &str| name.strip_prefix("SLSA_").unwrap_or_default().to_owned();
    for (name, level) in &wanted.levels {
        let repeated = claim.repeated.contains(&track(name));
        let found = rule.level(claim, &track(name)).filter(|_| !repeated);
        if found.is_none_or(|found| found < *level) {
            let message = match repeated {
                true => format!("the summary gives several levels of {name}"),
                false => {
                    format!("the summary gives {name} {}", found.map_or("no level".into(), |f| f.to_string()))
                }
            };
            let reason = not(Code::VsaLevelTooLow, message).because(*level, found);
            return Err((Got::Level, Box::new(reason)));
        }
    }
    if let Some(max) = wanted.max_age {
        let ends = later(candidate.at, max);
        world.horizons.push(ends);
        if world.now > ends {
            let reason = not(Code::VsaStale, format!("the summary is of {}", candidate.at));
            let reason = reason.because(format!("until {ends}"), world.now.to_string());
            return Err((Got::Age, Box::new(reason)));
        }
    }
    let given = claim.levels.keys().filter(|name| !claim.repeated.contains(name));
    let levels = given.filter_map(|name| Some((format!("SLSA_{name}"), rule.level(claim, name)?))).collect();
    Ok(Accepted { id: candidate.statement.fact.id, levels, verifier: claim.verifier_id.clone() })
}

/// Summaries by a rule's verifier that say FAILED and were not followed by a pass.
pub fn failed(
    world: &mut World<'_>,
    rule: &VerifierRule,
    about: &BTreeMap<Sha256, &Statement>,
    resource: &str,
    nodes: &[Digest],
) -> BTreeSet<Sha256> {
    let mut candidates: Vec<Candidate<'_>> = Vec::new();
    for statement in about.values() {
        let Claim::Summary(claim) = &statement.fact.claim else { continue };
        if names(world, statement, claim, rule, resource, nodes).is_ok() {
            candidates.push(Candidate { statement, claim, at: voice::stated_at(world, statement) });
        }
    }
    let newest_pass = candidates.iter().filter(|c| c.claim.passed).map(|c| c.at).max();
    let speaks = |c: &&Candidate<'_>| !c.claim.passed && newest_pass.is_none_or(|pass| c.at >= pass);
    candidates.iter().filter(speaks).map(|c| c.statement.fact.id).collect()
}

/// Whether a summary that is about the image counts for a rule of the policy, or why it does not any more.
pub fn near(world: &World<'_>, statement: &Statement, spec: &Spec) -> (bool, Option<Code>) {
    let Claim::Summary(claim) = &statement.fact.claim else { return (false, None) };
    let rules = &spec.trust.verifiers;
    let counts = |r: &VerifierRule| {
        world.counts(statement, &r.signer, r.valid_from, r.valid_until)
            && r.verifier_id.matches(&claim.verifier_id)
    };
    let revoked = rules.iter().find_map(|rule| world.revocation(statement, &rule.signer));
    (rules.iter().any(counts), revoked)
}
