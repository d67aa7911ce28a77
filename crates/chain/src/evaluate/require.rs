//! R6: what the policy wants to be known of the image beside how it was made.
//!
//! A rule is asked of each part of the image: of the image itself, or of each runnable platform of an index, of which
//! the statements about the index speak too (trust flows down) unless the platform needs its own. Of each signer the
//! latest statement decides, so that a failure takes the pass before it back.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::{
    digest::{Digest, GitOid, Node, Sha256},
    predicate::{Claim, Finding, Scan, Severity},
};
use jiff::Timestamp;

use crate::{
    expr,
    policy::{
        Matcher, Spec,
        property::{About, Grade, Honour, Kind, Require, Vulnerabilities},
    },
    reason::{Code, Reason},
    verdict::{Link, Status},
};

use super::{
    artifact::Artifact,
    assert, later,
    vex::{self, Image},
    voice,
    world::{Statement, World},
};

/// The member of a finding that asks VEX statements.
const VEX_NOT_AFFECTED: &str = "vexNotAffected";

/// Most findings that one reason names.
const NAMED: usize = 20;

/// The result of R6.
#[derive(Default)]
pub struct Required {
    pub reasons: Vec<Reason>,
    pub links: Vec<Link>,
}

/// Judges every rule of `require`. `commits` are those that trusted builds of the artifact name.
pub fn judge(
    world: &mut World<'_>,
    artifact: &Artifact,
    resource: &str,
    spec: &Spec,
    commits: &BTreeSet<GitOid>,
) -> Required {
    let mut required = Required::default();
    for rule in &spec.require {
        let mut asked = Asked { rule, spec, artifact, resource, evidence: BTreeSet::new() };
        let mut reasons = asked.judge(world, commits);
        for reason in &mut reasons {
            reason.stage = "property".to_owned();
            *reason = reason.clone().under(rule.mode);
        }
        // What only warns is told in its reason: a link of a chain that holds is the same whatever strangers say.
        let summary = match (reasons.iter().find(|reason| reason.is_error()), reasons.is_empty()) {
            (Some(reason), _) => format!("{}: {}: {}", rule.id, reason.code, reason.message),
            (None, false) => format!("{}: not kept", rule.id),
            (None, true) => format!("{}: {} statement(s)", rule.id, asked.evidence.len()),
        };
        let status = match reasons.iter().find(|reason| reason.is_error()) {
            None => Status::Pass,
            Some(reason) if reason.code.is_indeterminate() => Status::Unknown,
            Some(_) => Status::Fail,
        };
        required.links.push(Link {
            stage: "property".to_owned(),
            status,
            node: artifact.digest.to_string(),
            summary,
            evidence: asked.evidence.into_iter().collect(),
            links: Vec::new(),
        });
        required.reasons.append(&mut reasons);
    }
    required
}

/// One rule, asked of one artifact.
struct Asked<'r> {
    rule: &'r Require,
    spec: &'r Spec,
    artifact: &'r Artifact,
    resource: &'r str,
    /// What the answer rests on.
    evidence: BTreeSet<Sha256>,
}

/// What the latest statement of one signer comes to. A later one is worse.
enum Stands {
    Well,
    Stale(Reason),
    Badly(Reason),
}

impl Asked<'_> {
    fn judge(&mut self, world: &mut World<'_>, commits: &BTreeSet<GitOid>) -> Vec<Reason> {
        if self.rule.subject == About::Source {
            if commits.is_empty() {
                return vec![self.missing("no trusted build names a commit")];
            }
            let asked = commits.iter().flat_map(|commit| {
                let about = voice::about(world, [Node::Git(*commit)]);
                self.one(world, &commit.to_string(), self.artifact.digest, about)
            });
            return asked.collect();
        }
        let whole = self.artifact.digest;
        let shared: Vec<Digest> = match self.rule.per_platform {
            true => Vec::new(),
            false => std::iter::once(whole).chain(voice::holders(world, whole)).collect(),
        };
        let mut reasons = Vec::new();
        for part in voice::parts(self.artifact) {
            let nodes = shared.iter().copied().chain([part]).map(Node::Content);
            let about = voice::about(world, nodes);
            // What is said of the image as a whole is missing of it as a whole.
            let node = if self.rule.per_platform { part } else { whole };
            let found = self.one(world, &node.to_string(), part, about);
            reasons.extend(found.into_iter().filter(|reason| !reasons.contains(reason)).collect::<Vec<_>>());
        }
        reasons
    }

    /// The rule for one node, with the statements about it.
    fn one(
        &mut self,
        world: &mut World<'_>,
        node: &str,
        part: Digest,
        about: BTreeMap<Sha256, &Statement>,
    ) -> Vec<Reason> {
        let (rule, spec) = (self.rule, self.spec);
        // For each signer and kind the statements of the latest moment.
        let mut latest: BTreeMap<String, BTreeMap<usize, (Timestamp, Vec<&Statement>)>> = BTreeMap::new();
        let mut others = Vec::new();
        let mut foreign = None;
        let mut signed: Vec<(&Statement, BTreeSet<String>)> = Vec::new();
        for statement in about.values() {
            let Some(kind) = kind_of(rule, statement) else { continue };
            if world.is_own_verdict(statement) {
                continue;
            }
            if !rule.takes_verifier(&statement.fact.claim) {
                foreign = foreign.or(Some(*statement));
                continue;
            }
            let voices = voice::voices(world, statement, &rule.signer, spec);
            if voices.is_empty() {
                others.push(*statement);
            }
            let at = voice::stated_at(world, statement);
            for who in &voices {
                let of_kind = latest.entry(who.clone()).or_default();
                let best = of_kind.entry(kind).or_insert((at, Vec::new()));
                let newer = at > best.0;
                #[cfg(feature = "faults")]
                let newer = match crate::faults::on(crate::faults::Fault::OldestResult) {
                    true => at < best.0,
                    false => newer,
                };
                if newer {
                    *best = (at, Vec::new());
                }
                if at == best.0 {
                    best.1.push(*statement);
                }
            }
            signed.push((*statement, voices));
        }
        if latest.is_empty() {
            if let Some(statement) = foreign.filter(|_| others.is_empty()) {
                return vec![self.foreign(node, statement)];
            }
            return vec![self.nobody(world, node, &others)];
        }
        let image = self.image(world, part);
        let excuses = Excuses { part, about: &about, signed: &signed, image: &image };
        let (mut well, mut reasons) = (0, Vec::new());
        for kinds in latest.into_values() {
            let statements = kinds.into_values().flat_map(|(at, all)| all.into_iter().map(move |s| (at, s)));
            let judged: Vec<Stands> =
                statements.map(|(at, statement)| self.stands(world, node, statement, at, &excuses)).collect();
            // A result that is bad speaks against what else the signer says; one that is old does not.
            let bad = judged.iter().any(|stands| matches!(stands, Stands::Badly(_)));
            let good = judged.iter().any(|stands| matches!(stands, Stands::Well));
            if good && !bad {
                well += 1;
                continue;
            }
            reasons.extend(judged.into_iter().filter_map(|stands| match stands {
                Stands::Well => None,
                Stands::Stale(reason) => (!bad).then_some(reason),
                Stands::Badly(reason) => Some(reason),
            }));
        }
        if well >= rule.signers() {
            return Vec::new();
        }
        if reasons.is_empty() {
            let message =
                format!("{well} distinct signer(s) stand behind it, the policy wants {}", rule.signers());
            let reason = self.error(Code::PrpApprovalMissing, node, "require.atLeast", message);
            reasons.push(reason.because(rule.signers(), well));
        }
        reasons
    }

    /// One statement of a trusted signer.
    fn stands(
        &mut self,
        world: &mut World<'_>,
        node: &str,
        statement: &Statement,
        at: Timestamp,
        excuses: &Excuses<'_, '_>,
    ) -> Stands {
        let id = statement.fact.id;
        self.evidence.insert(id);
        let failed = self
            .result(node, &statement.fact.claim)
            .or_else(|| self.properties(node, &statement.fact.claim))
            .or_else(|| self.findings(world, node, &statement.fact.claim, excuses))
            .or_else(|| self.asserts(world, node, statement, excuses));
        if let Some(reason) = failed.or_else(|| self.affected(world, node, statement, excuses)) {
            return Stands::Badly(reason.with_evidence([id]));
        }
        if let Some(max) = self.rule.max_age {
            let ends = later(at, max);
            world.horizons.push(ends);
            if world.now > ends {
                let message = format!("`{}` is of {at}", self.rule.id);
                let reason = self.error(Code::PrpStale, node, "require.maxAge", message);
                let reason = reason.because(format!("until {ends}"), world.now.to_string());
                return Stands::Stale(reason.with_evidence([id]));
            }
        }
        Stands::Well
    }

    fn result(&self, node: &str, claim: &Claim) -> Option<Reason> {
        let found = match claim {
            Claim::Test(test) => Some(test.result.as_str()),
            Claim::Summary(summary) => Some(if summary.passed { "PASSED" } else { "FAILED" }),
            // A statement without a result has none that is accepted.
            _ if self.rule.result.is_some() => None,
            _ => return None,
        };
        let accepted = self.rule.result.as_deref().unwrap_or(&[Grade::Passed]);
        if accepted.iter().any(|grade| Some(grade.as_str()) == found) {
            return None;
        }
        let message = format!("`{}` is {}", self.rule.id, found.unwrap_or("without a result"));
        let accepted: Vec<&str> = accepted.iter().map(|grade| grade.as_str()).collect();
        Some(self.error(Code::PrpFailed, node, "require.result", message).because(accepted, found))
    }

    fn properties(&self, node: &str, claim: &Claim) -> Option<Reason> {
        let wanted = self.rule.properties.as_ref()?;
        let found: &[String] = match claim {
            Claim::Verification(result) => &result.properties,
            Claim::Attributes(report) => &report.attributes,
            Claim::Summary(summary) => &summary.properties,
            _ => &[],
        };
        let absent: Vec<&str> = wanted.iter().filter(|p| !found.contains(p)).map(String::as_str).collect();
        if absent.is_empty() {
            return None;
        }
        let message = format!("`{}` does not say {}", self.rule.id, absent.join(", "));
        let reason = self.error(Code::PrpFailed, node, "require.properties", message);
        Some(reason.because(wanted.clone(), found.to_vec()))
    }

    /// The first expression that does not hold, or has no answer.
    fn asserts(
        &mut self,
        world: &mut World<'_>,
        node: &str,
        statement: &Statement,
        excuses: &Excuses<'_, '_>,
    ) -> Option<Reason> {
        if self.rule.assert.is_empty() {
            return None;
        }
        let asks = self.rule.assert.iter().any(|assert| assert.expr.reads(VEX_NOT_AFFECTED));
        let heard = asks.then(|| {
            let rules: Vec<_> = self.spec.trust.vex.iter().collect();
            vex::hear(world, excuses.about.values().copied(), &rules, excuses.image)
        });
        // A document that was cut might take an excuse back: of it nobody can say.
        let excused = |finding: &Finding| {
            let heard = heard.as_ref().filter(|heard| !heard.more)?;
            Some(heard.excuses(finding, excuses.image))
        };
        let attestation = expr::attestation(&statement.fact, statement.received_at, &excused);
        self.evidence.extend(heard.into_iter().flat_map(|heard| heard.documents));
        let bindings = assert::bindings(world, excuses.part, self.resource).with("att", attestation);
        let (rule, code) = ("require.assert", Code::PrpFailed);
        let asked = assert::Asked { node, rule, stage: "property", code };
        assert::asserts(world, &self.rule.assert, &bindings, &asked).into_iter().next()
    }

    /// Whether a scan keeps the limits.
    fn findings(
        &mut self,
        world: &mut World<'_>,
        node: &str,
        claim: &Claim,
        excuses: &Excuses<'_, '_>,
    ) -> Option<Reason> {
        let limits = self.rule.vulnerabilities.as_ref()?;
        let Claim::Scan(scan) = claim else {
            let message = format!("`{}` is no scan whose findings can be counted", self.rule.id);
            return Some(self.error(Code::PrpFailed, node, "require.vulnerabilities", message));
        };
        if scan.severities.is_none() {
            let message = format!("the result of {} is of a kind that is not read", scan.scanner);
            return Some(self.error(Code::PrpFailed, node, "require.vulnerabilities", message));
        }
        let heard = (limits.vex == Honour::Honour).then(|| {
            let rules: Vec<_> = self.spec.trust.vex.iter().collect();
            vex::hear(world, excuses.about.values().copied(), &rules, excuses.image)
        });
        let excused =
            |finding: &Finding| heard.as_ref().is_some_and(|heard| heard.excuses(finding, excuses.image));
        let over = exceeded(limits, scan, excused);
        let unsaid = heard.as_ref().is_some_and(|heard| heard.more);
        if let Some(heard) = heard {
            self.evidence.extend(heard.documents);
        }
        if let Some((severity, found)) = over {
            let max = limits.max.get(&severity).copied().unwrap_or(0);
            let message =
                format!("{} finding(s) count as {}, at most {max} may", found.len(), severity.as_str());
            let named: Vec<String> = found
                .iter()
                .take(NAMED)
                .map(|f| format!("{} {} ({})", f.id, f.package, f.severity.as_str()))
                .collect();
            let reason = self.error(Code::PrpVulnThreshold, node, "require.vulnerabilities.max", message);
            return Some(reason.because(max, named));
        }
        // What was left out might exceed a limit, or take an excuse back.
        if scan.findings.more || unsaid && exceeded(limits, scan, |_| false).is_some() {
            let message = format!("`{}` has more findings or VEX statements than are judged", self.rule.id);
            return Some(self.error(Code::SysLimitExceeded, node, "require.vulnerabilities", message));
        }
        None
    }

    /// Whether a VEX document that is required says that the image is affected.
    fn affected(
        &self,
        world: &World<'_>,
        node: &str,
        statement: &Statement,
        excuses: &Excuses<'_, '_>,
    ) -> Option<Reason> {
        let Claim::Vex(vex) = &statement.fact.claim else { return None };
        if vex.statements.more {
            let message = format!("`{}` has more VEX statements than are judged", self.rule.id);
            return Some(self.error(Code::SysLimitExceeded, node, "require.predicate", message));
        }
        let documents = excuses.signed.iter().map(|(statement, voices)| (*statement, voices.clone()));
        let affects = vex::listen(world, documents, excuses.image).affected(excuses.image);
        let names: Vec<String> = affects.iter().take(NAMED).map(|a| a.vulnerability.clone()).collect();
        let first = names.first()?;
        let message = format!("{first} affects the image, says `{}`", self.rule.id);
        let reason = self.error(Code::PrpVexAffected, node, "require.predicate", message);
        Some(reason.because("not affected", names).with_evidence(affects.iter().map(|a| a.document)))
    }

    fn image(&self, world: &mut World<'_>, part: Digest) -> Image {
        let whole = self.artifact.digest;
        let holders = voice::holders(world, whole);
        Image::new(holders.into_iter().chain([whole, part]), &self.artifact.children, self.resource)
    }

    /// What there is is of another verifier.
    fn foreign(&self, node: &str, statement: &Statement) -> Reason {
        let wanted = self.rule.verifier_id.as_ref().map(Matcher::describe);
        let found = match &statement.fact.claim {
            Claim::Verification(result) => result.verifier_id.as_str(),
            Claim::Summary(summary) => summary.verifier_id.as_str(),
            _ => "none",
        };
        let message = format!("`{}`: what is known is of verifier {found}", self.rule.id);
        let reason = self.error(Code::VsaSignerVerifierPair, node, "require.verifierId", message);
        reason.because(wanted, found).with_evidence([statement.fact.id])
    }

    /// Why no statement serves when none is by a trusted signer.
    fn nobody(&self, world: &World<'_>, node: &str, others: &[&Statement]) -> Reason {
        if others.is_empty() {
            return Reason { node: node.to_owned(), ..self.missing("none is known") };
        }
        let (rule, spec) = (self.rule, self.spec);
        let revoked = others.iter().find_map(|s| voice::revocation(world, s, &rule.signer, spec));
        let code = revoked.unwrap_or(Code::PrpSignerNotTrusted);
        let message = format!("`{}`: statements exist, none by a signer that counts", rule.id);
        self.error(code, node, "require.signer", message).because(rule.id.clone(), "others")
    }

    fn missing(&self, why: &str) -> Reason {
        let code = match self.rule {
            rule if rule.is_of_sbom() => Code::PrpSbomMissing,
            rule if rule.at_least.is_some() => Code::PrpApprovalMissing,
            _ => Code::PrpMissing,
        };
        let kinds: Vec<&str> = self.rule.predicate.iter().map(Kind::as_str).collect();
        let message = format!("`{}` wants a statement of kind {}: {why}", self.rule.id, kinds.join(" or "));
        self.error(code, &self.artifact.digest.to_string(), "require", message).because(kinds, "none")
    }

    fn error(&self, code: Code, node: &str, rule: &str, message: String) -> Reason {
        Reason::error(code, node, rule, message)
    }
}

/// What may excuse findings of one part of the image.
struct Excuses<'b, 'a> {
    /// The part.
    part: Digest,
    /// Every statement about it.
    about: &'b BTreeMap<Sha256, &'a Statement>,
    /// Those of the rule's kinds, with the trusted signers of each.
    signed: &'b [(&'a Statement, BTreeSet<String>)],
    image: &'b Image,
}

/// The first limit that is exceeded, the worst first, with the findings that count against it.
fn exceeded<'a>(
    limits: &Vulnerabilities,
    scan: &'a Scan,
    excused: impl Fn(&Finding) -> bool,
) -> Option<(Severity, Vec<&'a Finding>)> {
    let mut counted: BTreeMap<Severity, Vec<&Finding>> = BTreeMap::new();
    for finding in &scan.findings.list {
        if let Some(limit) = limits.limit(finding.severity)
            && !excused(finding)
        {
            counted.entry(limit).or_default().push(finding);
        }
    }
    let over = |(severity, found): &(Severity, Vec<&Finding>)| {
        found.len() > limits.max.get(severity).copied().unwrap_or(0) as usize
    };
    counted.into_iter().rev().find(over)
}

/// Which of the rule's kinds a statement is of; the two formats of an SBOM are one kind.
fn kind_of(rule: &Require, statement: &Statement) -> Option<usize> {
    let fact = &statement.fact;
    let index = rule.predicate.iter().position(|kind| kind.is_of(&fact.predicate_type, &fact.claim))?;
    let is_sbom = |kind: &Kind| matches!(kind, Kind::Spdx | Kind::Cyclonedx);
    match is_sbom(&rule.predicate[index]) {
        true => rule.predicate.iter().position(is_sbom),
        false => Some(index),
    }
}

/// Whether any signer of a statement counts for a rule that asks for one like it, or why none does any more; nothing when
/// no rule asks.
pub fn near(world: &World<'_>, statement: &Statement, spec: &Spec) -> Option<(bool, Option<Code>)> {
    let mut asked = false;
    let (mut counts, mut revoked) = (false, None);
    for rule in spec.require.iter().filter(|rule| kind_of(rule, statement).is_some()) {
        asked = true;
        counts |= voice::counts(world, statement, &rule.signer, spec);
        revoked = revoked.or_else(|| voice::revocation(world, statement, &rule.signer, spec));
    }
    if matches!(statement.fact.claim, Claim::Vex(_)) {
        for rule in &spec.trust.vex {
            asked = true;
            counts |= world.counts(statement, &rule.signer, rule.valid_from, rule.valid_until);
            revoked = revoked.or_else(|| world.revocation(statement, &rule.signer));
        }
    }
    asked.then_some((counts, revoked))
}
