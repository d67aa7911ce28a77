//! The rules about properties, negatives and verification summaries.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        delegate::VerifierRule,
        document::{Input, Signer, Spec},
        glob::Matcher,
        identity::IdentityRule,
        property::{About, Honour, Kind, Negatives, Require, Speaker},
    },
    Fault, MAX_LEVEL, asserts, fault, level, listed, text, texts, unique,
};
use crate::{expr::Site, policy::place::Step};

/// `trust.verifiers` and `trust.vex`.
pub fn trust(spec: &Spec) -> Result<(), Fault> {
    let trust = &spec.trust;
    unique("verifiers", trust.verifiers.iter().map(|r| r.id.as_str()))?;
    unique("vex", trust.vex.iter().map(|r| r.id.as_str()))?;
    for (index, rule) in trust.verifiers.iter().enumerate() {
        let at = |member: &str| path!["spec", "trust", "verifiers", index, member];
        if rule.policies.is_empty() {
            return fault(at("policies"), "list the policies, by digest or URI, that the verifier may use");
        }
        texts(&Some(rule.policies.clone()), at("policies"))?;
        level(rule.max_level.unwrap_or(0), at("maxLevel"))?;
        listed(&rule.resources, at("resources"))?;
    }
    Ok(())
}

/// `summary`.
pub fn summary(spec: &Spec) -> Result<(), Fault> {
    let Some(summary) = &spec.summary else { return Ok(()) };
    if spec.trust.verifiers.is_empty() {
        return fault(path!["spec", "summary"], "`summary` needs a rule in `trust.verifiers`");
    }
    from(&summary.from, verifiers(spec), "trust.verifiers", path!["spec", "summary", "from"])?;
    levels(&summary.levels, path!["spec", "summary", "levels"])?;
    if summary.depth == 0 {
        return fault(path!["spec", "summary", "depth"], "a depth of 0 forbids what `summary` asks for");
    }
    Ok(())
}

/// `inputs[].via`.
pub fn via(spec: &Spec, index: usize, input: &Input) -> Result<(), Fault> {
    let Some(via) = &input.via else { return Ok(()) };
    let at = |member: &str| path!["spec", "inputs", index, "via", member];
    let known = verifiers(spec);
    if !known.contains(via.vsa.as_str()) {
        return fault(at("vsa"), super::no_id(&via.vsa, "trust.verifiers", &known));
    }
    levels(&via.levels, at("levels"))
}

fn verifiers(spec: &Spec) -> BTreeSet<&str> {
    spec.trust.verifiers.iter().map(|rule: &VerifierRule| rule.id.as_str()).collect()
}

pub fn levels(levels: &BTreeMap<String, u8>, at: Vec<Step>) -> Result<(), Fault> {
    for (track, wanted) in levels {
        let mut here = at.clone();
        here.push(Step::from(track.as_str()));
        let name = track.strip_prefix("SLSA_").unwrap_or_default();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
            return fault(here, "a track is `SLSA_` and its name, for example `SLSA_BUILD`");
        }
        if *wanted > MAX_LEVEL {
            return level(*wanted, here);
        }
    }
    Ok(())
}

fn from(list: &Option<Vec<String>>, known: BTreeSet<&str>, of: &str, at: Vec<Step>) -> Result<(), Fault> {
    listed(list, at.clone())?;
    for (index, id) in list.iter().flatten().enumerate() {
        if !known.contains(id.as_str()) {
            let mut here = at.clone();
            here.push(Step::from(index));
            return fault(here, super::no_id(id, of, &known));
        }
    }
    Ok(())
}

/// `require`.
pub fn require(spec: &Spec) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for (index, rule) in spec.require.iter().enumerate() {
        let at = |member: &str| path!["spec", "require", index, member];
        text(&rule.id, at("id"))?;
        if !seen.insert(rule.id.as_str()) {
            return fault(at("id"), format!("the id `{}` is used twice", rule.id));
        }
        one(spec, rule, &at)?;
    }
    Ok(())
}

fn one(spec: &Spec, rule: &Require, at: &dyn Fn(&str) -> Vec<Step>) -> Result<(), Fault> {
    if rule.predicate.is_empty() {
        return fault(at("predicate"), "name at least one kind of statement");
    }
    speaker(spec, &rule.signer, at("signer"))?;
    asserts(&rule.assert, Site::Require, at("assert"))?;
    if let Some(wanted) = rule.at_least {
        let most = distinct(spec, &rule.signer);
        if wanted == 0 {
            return fault(at("atLeast"), "a threshold of 0 asks for nothing");
        }
        if most.is_some_and(|most| wanted as usize > most) {
            let most = most.unwrap_or_default();
            return fault(
                at("atLeast"),
                format!("{wanted} signers are asked for, of {most} distinct one(s)"),
            );
        }
    }
    if rule.subject == About::Source {
        if spec.build.is_none() {
            return fault(at("subject"), "`source` needs `build`: the build names the commit");
        }
        if rule.per_platform {
            return fault(at("perPlatform"), "a commit has no platforms");
        }
    }
    let only = |member: &str, kinds: &[Kind], names: &str| match rule
        .predicate
        .iter()
        .find(|kind| !kinds.contains(kind) && !matches!(kind, Kind::Type(_)))
    {
        Some(kind) => {
            let message = format!("a statement of kind `{}` has none; {names} do", kind.as_str());
            fault(at(member), message)
        }
        None => Ok(()),
    };
    listed(&rule.result, at("result"))?;
    if rule.result.is_some() {
        only("result", &[Kind::TestResult, Kind::Vsa], "`test-result` and `vsa`")?;
    }
    if rule.verifier_id.is_some() {
        only("verifierId", &[Kind::Svr, Kind::Vsa], "`svr` and `vsa`")?;
    }
    texts(&rule.properties, at("properties"))?;
    if rule.properties.is_some() {
        only("properties", &[Kind::Svr, Kind::Scai, Kind::Vsa], "`svr`, `scai` and `vsa`")?;
    }
    if let Some(limits) = &rule.vulnerabilities {
        only("vulnerabilities", &[Kind::Vulns], "`vulns`")?;
        if limits.max.is_empty() {
            return fault(at("vulnerabilities"), "`max` needs a limit, for example `critical: 0`");
        }
        if limits.vex == Honour::Honour && spec.trust.vex.is_empty() {
            return fault(at("vulnerabilities"), "`vex: honour` needs a rule in `trust.vex`");
        }
    }
    Ok(())
}

fn speaker(spec: &Spec, speaker: &Speaker, at: Vec<Step>) -> Result<(), Fault> {
    let Speaker::AnyOf(ids) = speaker else { return Ok(()) };
    let known: BTreeSet<&str> = spec.trust.builders.iter().map(|rule| rule.id.as_str()).collect();
    match ids.iter().find(|id| !known.contains(id.as_str())) {
        Some(id) => fault(at, super::no_id(id, "trust.builders", &known)),
        None => Ok(()),
    }
}

/// How many distinct signers there can be, when that is known.
fn distinct(spec: &Spec, speaker: &Speaker) -> Option<usize> {
    match speaker {
        Speaker::AnyOf(ids) => {
            let named = spec.trust.builders.iter().filter(|rule| ids.contains(&rule.id));
            Some(named.map(|rule| rule.domain()).collect::<BTreeSet<_>>().len())
        }
        Speaker::Signer(Signer::Keys(keys)) => Some(keys.iter().collect::<BTreeSet<_>>().len()),
        Speaker::Signer(Signer::Service(_)) => Some(1),
        Speaker::Signer(Signer::Identity(rule)) => one_name(rule),
        Speaker::Signer(Signer::Any(group)) => {
            let names = group.identities.iter().map(one_name).collect::<Option<Vec<usize>>>()?;
            Some(group.keys.iter().collect::<BTreeSet<_>>().len() + names.len())
        }
        // A parsed policy has none.
        Speaker::Signer(Signer::Group(_)) => None,
    }
}

/// Whether an identity is one name.
fn one_name(rule: &IdentityRule) -> Option<usize> {
    matches!(rule.san, Matcher::Exact(_)).then_some(1)
}

/// `negatives`.
pub fn negatives(spec: &Spec) -> Result<(), Fault> {
    let Negatives { vex, tests, summaries } = &spec.negatives;
    let at = |member: &str| path!["spec", "negatives", member];
    let inside = |member: &str| path!["spec", "negatives", member, "from"];
    if let Some(rule) = vex {
        if spec.trust.vex.is_empty() {
            return fault(at("vex"), "`vex` needs a rule in `trust.vex`");
        }
        let known = spec.trust.vex.iter().map(|rule| rule.id.as_str()).collect();
        from(&rule.from, known, "trust.vex", inside("vex"))?;
    }
    if let Some(rule) = summaries {
        if spec.trust.verifiers.is_empty() {
            return fault(at("summaries"), "`summaries` needs a rule in `trust.verifiers`");
        }
        from(&rule.from, verifiers(spec), "trust.verifiers", inside("summaries"))?;
    }
    match tests {
        Some(rule) => speaker(spec, &rule.signer, path!["spec", "negatives", "tests", "signer"]),
        None => Ok(()),
    }
}
