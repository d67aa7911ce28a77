//! R1, how the build was done: its run ended well, it had no network, and its provenance leaves nothing out.

use std::collections::BTreeSet;

use catenary_evidence::{
    Identity, Signature,
    digest::{Digest, Node, Sha256},
    predicate::{Build, Claim},
    signer::{AuthorityKind, Logged},
};

use crate::{
    control::{Control, Quorum},
    policy::{
        Signer, Spec,
        builds::{Timestamping, Tlog},
        document::{Build as Rules, BuilderRule, Run},
    },
    reason::{Code, Reason},
};

use super::{
    later,
    world::{Statement, World},
};

/// What must prove the signatures' times and publicity.
pub(super) fn signing(
    control: &Control,
    rule: &BuilderRule,
    signatures: &[&Signature],
    node: Digest,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let timed = signatures.iter().any(|signature| signature.signed_before.is_some());
    if rule.evidence.timestamp == Some(Timestamping::Required) && !timed {
        let message = "no trusted authority says when the build statement was signed";
        let at = "trust.builders.evidence.timestamp";
        reasons.push(Reason::error(Code::AttTimestampMissing, node, at, message));
    }
    let logged = signatures.iter().any(|signature| signature.logged != Logged::No);
    let at = "trust.builders.evidence.tlog";
    let quorum = match &rule.evidence.tlog {
        None => return reasons,
        Some(_) if !logged => {
            let message = "the build statement is in no transparency log";
            reasons.push(Reason::error(Code::AttTlogMissing, node, at, message));
            return reasons;
        }
        Some(Tlog::Required) => return reasons,
        Some(Tlog::Logs(wanted)) => Quorum {
            wanted: usize::from(*wanted),
            logs: logs(signatures),
            witnesses: None,
            cosigned: Vec::new(),
        },
        Some(Tlog::Quorum(domain)) => control.quorum(domain, signatures),
    };
    reasons.extend(short_of(quorum, node, at));
    reasons
}

/// The quorum is not reached.
fn short_of(quorum: Quorum, node: Digest, at: &str) -> Option<Reason> {
    let Quorum { wanted, logs, witnesses, cosigned } = quorum;
    if logs >= wanted {
        return None;
    }
    let code = Code::AttWitnessQuorum;
    let Some(witnesses) = witnesses else {
        let message = format!("{logs} log(s) of the quorum hold the build statement, {wanted} must");
        return Some(Reason::error(code, node, at, message).because(wanted, logs));
    };
    let message = format!(
        "the checkpoints of {logs} log(s) that hold the build statement were cosigned by {witnesses}, of {wanted} must be"
    );
    let found = if cosigned.is_empty() { "none".to_owned() } else { cosigned.join(", ") };
    Some(Reason::error(code, node, at, message).because(witnesses, found))
}

/// The roots that vouch for the signatures were added too long ago, for each of them: whoever has not looked for so long does not
/// know what was withdrawn since.
pub(super) fn stale_root(
    world: &mut World<'_>,
    spec: &Spec,
    signatures: &[&Signature],
    node: Digest,
) -> Option<Reason> {
    let max = spec.trust.max_root_age?;
    let mut domains = BTreeSet::new();
    for signature in signatures {
        // A key needs no root.
        domains.insert(&signature.signer.identity()?.domain);
    }
    let ends = |domain: &String| Some(later(world.control.root_added_on(domain)?, max));
    let newest = domains.iter().filter_map(|domain| ends(domain)).max();
    world.horizons.extend(newest);
    if newest.is_some_and(|ends| world.now <= ends) {
        return None;
    }
    let names: Vec<&str> = domains.iter().map(|domain| domain.as_str()).collect();
    let message = match newest {
        Some(ends) => format!("the root of {} was to be renewed until {ends}", names.join(", ")),
        None => format!("nobody says when the root of {} was added", names.join(", ")),
    };
    let reason = Reason::error(Code::AttTrustrootStale, node, "trust.maxRootAge", message);
    Some(reason.because(format!("added within {}s", max.as_secs()), newest.map(|ends| ends.to_string())))
}

/// How many different logs vouch for the signatures.
fn logs(signatures: &[&Signature]) -> usize {
    let vouchers = signatures.iter().flat_map(|signature| &signature.vouchers);
    let logs = vouchers.filter(|voucher| voucher.kind == AuthorityKind::Log);
    logs.map(|voucher| voucher.authority).collect::<BTreeSet<_>>().len()
}

/// Hermetic and complete.
pub(super) fn claims(build: &Build, rule: &BuilderRule, rules: &Rules, node: Digest) -> Vec<Reason> {
    let complete = &build.complete;
    let asked = [
        (
            rules.hermetic,
            build.hermetic.or(rule.hermetic.then_some(true)),
            Code::BldNotHermetic,
            "build.hermetic",
            "was hermetic",
        ),
        (
            rules.complete.dependencies,
            complete.dependencies,
            Code::BldIncompleteDeps,
            "build.complete.dependencies",
            "names every dependency",
        ),
        (
            rules.complete.parameters,
            complete.params,
            Code::BldIncompleteParams,
            "build.complete.parameters",
            "names every parameter",
        ),
    ];
    let missing = asked.into_iter().filter(|(asked, said, ..)| *asked && *said != Some(true));
    let reason = |(_, said, code, at, what): (bool, Option<bool>, Code, &str, &str)| {
        let message = match said {
            Some(_) => format!("the provenance says that it is not so that the build {what}"),
            None => format!("nothing says that the build {what}"),
        };
        Reason::error(code, node, at, message).because(true, said)
    };
    missing.map(reason).collect()
}

/// How the run ended, and the statements that say so. Of several that count every one must say what is asked for.
pub(super) fn run(
    world: &mut World<'_>,
    build: &Build,
    rule: &BuilderRule,
    spec: &Spec,
    asked: &Run,
    nodes: &[Node],
    identities: &[&Identity],
) -> Result<Vec<Sha256>, Box<Reason>> {
    let node = nodes.first().map(ToString::to_string).unwrap_or_default();
    let reason = |code: Code, message: String| Reason::error(code, &node, "build.run", message);
    // The CA asked the CI for the certificate's run; the provenance may be the tenant's own.
    let certified = identities.iter().find_map(|identity| identity.claims.run_invocation_uri.as_deref());
    let Some(invocation) = certified.or(build.invocation.as_deref()) else {
        let message = "the build names no run".to_owned();
        return Err(Box::new(reason(Code::BldRunUnknown, message).because("an invocation id", "none")));
    };
    let commit = build.source.as_ref().and_then(|source| source.commit).map(Node::Git);
    let mut ids = Vec::new();
    let mut ended: Vec<String> = Vec::new();
    for node in nodes.iter().copied().chain(commit) {
        for statement in world.naming(node) {
            let Claim::Run(run) = &statement.fact.claim else { continue };
            if run.invocation == invocation && speaks(world, statement, rule, spec) {
                ids.push(statement.fact.id);
                ended.push(run.conclusion.clone());
            }
        }
    }
    ids.sort();
    ids.dedup();
    if ids.is_empty() {
        let message = format!("nothing trusted says how run {invocation} ended");
        return Err(Box::new(
            reason(Code::BldRunUnknown, message).because(asked.conclusion.clone(), "unknown"),
        ));
    }
    match ended.iter().find(|conclusion| !asked.conclusion.contains(conclusion)) {
        None => Ok(ids),
        Some(conclusion) => {
            let message = format!("run {invocation} ended as `{conclusion}`");
            let reason = reason(Code::BldRunFailed, message);
            Err(Box::new(reason.because(asked.conclusion.clone(), conclusion.clone()).with_evidence(ids)))
        }
    }
}

/// Whether the statement counts for `trust.runs`, or, when nobody is named there, for the builder's own rule.
fn speaks(world: &World<'_>, statement: &Statement, rule: &BuilderRule, spec: &Spec) -> bool {
    let counts = |signer: &Signer, from, until| world.counts(statement, signer, from, until);
    match spec.trust.runs.is_empty() {
        true => counts(&rule.signer, rule.valid_from, rule.valid_until),
        false => spec.trust.runs.iter().any(|rule| counts(&rule.signer, rule.valid_from, rule.valid_until)),
    }
}
