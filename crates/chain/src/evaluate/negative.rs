//! R8: trusted statements that speak against the image although nothing is missing.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::{
    digest::{Digest, GitOid, Node, Sha256},
    predicate::Claim,
};
use jiff::Timestamp;

use crate::{
    policy::{
        Spec,
        property::{From, Tests},
    },
    reason::{Code, Reason},
    verdict::{Link, Status},
};

use super::{
    artifact::Artifact,
    summary,
    vex::{self, Image},
    voice,
    world::{Statement, World},
};

/// Most vulnerabilities that one reason names.
const NAMED: usize = 20;

/// The result of R8, nothing when the policy asks for none of it.
pub fn judge(
    world: &mut World<'_>,
    artifact: &Artifact,
    resource: &str,
    spec: &Spec,
    commits: &BTreeSet<GitOid>,
) -> Option<(Vec<Reason>, Link)> {
    let rules = &spec.negatives;
    if rules.is_empty() {
        return None;
    }
    let holders = voice::holders(world, artifact.digest);
    let whole: Vec<Digest> = std::iter::once(artifact.digest).chain(holders).collect();
    let nodes: BTreeSet<Digest> = whole.iter().chain(&artifact.children).copied().collect();
    let about = voice::about(world, nodes.iter().copied().map(Node::Content));
    let mut reasons = Vec::new();
    if let Some(from) = &rules.vex {
        let image = Image::new(whole.iter().copied(), &artifact.children, resource);
        reasons.extend(affected(world, artifact.digest, &about, spec, from, &image));
    }
    if let Some(tests) = &rules.tests {
        let of_source = voice::about(world, commits.iter().copied().map(Node::Git));
        let all = about.iter().chain(&of_source).map(|(id, statement)| (*id, *statement)).collect();
        reasons.extend(failed_tests(world, artifact.digest, &all, spec, tests));
    }
    if let Some(from) = &rules.summaries {
        let verifiers = spec.trust.verifiers.iter().filter(|rule| from.names(&rule.id));
        for rule in verifiers {
            let failed = summary::failed(world, rule, &about, resource, &whole);
            if !failed.is_empty() {
                let message = format!("verifier `{}` says that the image failed", rule.id);
                let reason = Reason::error(Code::VsaFailed, artifact.digest, "negatives.summaries", message);
                reasons.push(reason.because("PASSED", "FAILED").with_evidence(failed));
            }
        }
    }
    for reason in &mut reasons {
        reason.stage = "property".to_owned();
    }
    let link = link(artifact.digest, &reasons);
    Some((reasons, link))
}

fn link(digest: Digest, reasons: &[Reason]) -> Link {
    let broken = reasons.first();
    Link {
        stage: "property".to_owned(),
        status: match broken {
            None => Status::Pass,
            Some(reason) if reason.code.is_indeterminate() => Status::Unknown,
            Some(_) => Status::Fail,
        },
        node: digest.to_string(),
        summary: broken.map_or_else(
            || "nothing trusted speaks against it".to_owned(),
            |reason| format!("{}: {}", reason.code, reason.message),
        ),
        evidence: reasons.iter().flat_map(|reason| reason.evidence.iter().copied()).collect(),
        links: Vec::new(),
    }
}

fn affected(
    world: &World<'_>,
    digest: Digest,
    about: &BTreeMap<Sha256, &Statement>,
    spec: &Spec,
    from: &From,
    image: &Image,
) -> Option<Reason> {
    let rules: Vec<_> = spec.trust.vex.iter().filter(|rule| from.names(&rule.id)).collect();
    let heard = vex::hear(world, about.values().copied(), &rules, image);
    let affects = heard.affected(image);
    let names: Vec<String> = affects.iter().take(NAMED).map(|a| a.vulnerability.clone()).collect();
    let Some(first) = names.first() else {
        let message = "there are more VEX statements than are judged";
        return heard.more.then(|| Reason::error(Code::SysLimitExceeded, digest, "negatives.vex", message));
    };
    let more = if affects.len() > 1 { format!(" (and {} more)", affects.len() - 1) } else { String::new() };
    let message = format!("{first}{more} affects the image");
    let reason = Reason::error(Code::PrpVexAffected, digest, "negatives.vex", message);
    Some(reason.because("not affected", names).with_evidence(affects.iter().map(|a| a.document)))
}

/// The tests whose newest result, by any one signer, is FAILED.
fn failed_tests(
    world: &World<'_>,
    digest: Digest,
    about: &BTreeMap<Sha256, &Statement>,
    spec: &Spec,
    rules: &Tests,
) -> Option<Reason> {
    let mut latest: BTreeMap<String, (Timestamp, BTreeSet<Sha256>)> = BTreeMap::new();
    for statement in about.values() {
        let Claim::Test(test) = &statement.fact.claim else { continue };
        let at = voice::stated_at(world, statement);
        for who in voice::voices(world, statement, &rules.signer, spec) {
            let best = latest.entry(who).or_insert((at, BTreeSet::new()));
            if at > best.0 {
                *best = (at, BTreeSet::new());
            }
            if at == best.0 && test.result == "FAILED" {
                best.1.insert(statement.fact.id);
            }
        }
    }
    let failed: BTreeSet<Sha256> = latest.into_values().flat_map(|(_, failed)| failed).collect();
    if failed.is_empty() {
        return None;
    }
    let message = format!("{} newest test result(s) are FAILED", failed.len());
    let reason = Reason::error(Code::PrpFailed, digest, "negatives.tests", message);
    Some(reason.because("PASSED", "FAILED").with_evidence(failed))
}
