//! R1: enough trusted builds from distinct domains cover the artifact.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::{
    Identity, Signature,
    digest::{Digest, GitOid, Node, Sha256},
    predicate::{self, Claim},
};

use crate::{
    expr,
    policy::{
        Mode, Spec,
        document::{AgreeOn, Build as Rules, BuilderRule, Tolerance},
        identity::Miss,
    },
    reason::{Code, Reason},
    verdict::{Link, Status},
};

use super::{
    artifact::Artifact,
    assert, certificate, conduct, ids, inputs, rebuild, source,
    threshold::{Operator, Voices, independent},
    time,
    world::{Statement, World},
};

/// The result of R1, R2 and R3.
pub struct Built<'a> {
    /// Whether enough domains cover the artifact.
    pub covered: bool,
    /// Statements that are good for the artifact, or for one of its platforms.
    pub good: Vec<&'a Statement>,
    pub reasons: Vec<Reason>,
    /// Source, build and input links.
    pub links: Vec<Link>,
    pub levels: BTreeMap<String, u8>,
    /// Properties that the builds have.
    pub properties: BTreeSet<String>,
}

/// Builders of two trust domains made the same artifact (SLSA 1.2).
const REPRODUCED: &str = "SLSA_BUILD_REPRODUCED";

impl Built<'_> {
    /// What is left when a verification summary stands for it: contradictions of trusted builds and revocations speak
    /// against the image whoever verified it, and what could not be decided still cannot.
    pub fn discharged(mut self) -> Self {
        let negative = [
            Code::SrcAmbiguous,
            Code::BldConflict,
            Code::BldRebuildMismatch,
            Code::SrcRevoked,
            Code::ArtDenied,
        ];
        let stays = |code: Code| negative.contains(&code) || code.is_indeterminate();
        self.reasons.retain(|reason| stays(reason.code));
        self.links.clear();
        self.levels.clear();
        self.properties.clear();
        self.good.clear();
        self.covered = false;
        self
    }

    /// The commits that the good builds name.
    pub fn commits(&self) -> BTreeSet<GitOid> {
        let commit = |statement: &&Statement| match &statement.fact.claim {
            Claim::Build(build) => build.source.as_ref().and_then(|source| source.commit),
            _ => None,
        };
        self.good.iter().filter_map(commit).collect()
    }
}

/// What is found about one statement, whichever rule and node it is examined for: R2, R3, R7 and parameters.
struct Findings {
    reasons: Vec<Reason>,
    /// Reasons of input chains, which come along and are not counted.
    leaves: Vec<Reason>,
    inputs: Vec<Link>,
    source: Option<source::Sourced>,
}

/// One statement under one rule, for one node.
struct Exam<'a, 's> {
    statement: &'a Statement,
    build: &'a predicate::Build,
    /// Index into `xs`.
    x: usize,
    /// Index into the rules.
    rule: usize,
    domain: &'s str,
    /// Whoever signed it, as far as the rule names them.
    operators: Vec<Operator<'s>>,
    /// Whether the rule lets the signer speak for the builder.
    paired: bool,
    level: u8,
    /// What says how its run ended.
    runs: Vec<Sha256>,
    /// Errors of this exam only; those of [`Findings`] are added.
    reasons: Vec<Reason>,
    errors: usize,
}

impl Exam<'_, '_> {
    fn is_good(&self) -> bool {
        self.errors == 0
    }
}

/// Examines every build statement about the artifact, its parents and its runnable children.
pub fn judge<'a, 's>(
    world: &mut World<'a>,
    artifact: &Artifact,
    resource: &str,
    spec: &'s Spec,
    rules: &'s Rules,
    hop: u32,
) -> Built<'a> {
    let builders: Vec<&BuilderRule> = spec.builders().collect();
    let xs: Vec<Digest> = std::iter::once(artifact.digest).chain(artifact.children.iter().copied()).collect();
    let mut nodes: Vec<Node> = xs.iter().copied().map(Node::Content).collect();
    if rules.run.is_some() {
        nodes.extend(world.parents(artifact.digest).into_iter().map(Node::Content));
    }
    let around = match rules.builders.at_least >= 2 {
        true => rebuild::around(world, artifact),
        false => rebuild::Around::default(),
    };
    let mut findings: BTreeMap<Sha256, Findings> = BTreeMap::new();
    let mut exams: Vec<Exam<'a, 's>> = Vec::new();
    let mut others: Vec<&'a Statement> = Vec::new();

    for (x, digest) in xs.iter().enumerate() {
        let twins = if x == 0 { &around.twins[..] } else { &[] };
        for statement in about(world, *digest, x == 0, twins) {
            let Claim::Build(build) = &statement.fact.claim else { continue };
            let mut counted = false;
            for (index, rule) in builders.iter().enumerate() {
                if !world.counts(statement, &rule.signer, rule.valid_from, rule.valid_until) {
                    continue;
                }
                counted = true;
                let identities =
                    world.identities_of(statement, &rule.signer, rule.valid_from, rule.valid_until);
                findings
                    .entry(statement.fact.id)
                    .or_insert_with(|| find(world, statement, build, artifact.digest, spec, rules, hop));
                let signatures =
                    world.signatures_of(statement, &rule.signer, rule.valid_from, rule.valid_until);
                let (mut reasons, paired) = pair(build, rule, &spec.trust.builders, *digest, &identities);
                let (low, level) = level(build, rule, rules, *digest, &identities, &signatures);
                reasons.extend(low);
                reasons.extend(triggers(build, rules, *digest, &identities));
                reasons.extend(certificate::agrees(build, &identities, spec.source.as_ref(), *digest));
                reasons.extend(asserts(world, build, rules, artifact.digest, resource, &identities));
                reasons.extend(conduct::claims(build, rule, rules, *digest));
                if rule.evidence.is_asked() {
                    let copies = world.copies_of(statement, &signatures);
                    reasons.extend(conduct::signing(world.control, rule, &copies, *digest));
                }
                reasons.extend(conduct::stale_root(world, spec, &signatures, *digest));
                let mut runs = Vec::new();
                if let Some(asked) = &rules.run {
                    match conduct::run(world, build, rule, spec, asked, &nodes, &identities) {
                        Ok(found) => runs = found,
                        Err(reason) => reasons.push(*reason),
                    }
                }
                let under = |reason: Reason| {
                    let mode = if reason.stage == "source" { source_mode(spec) } else { rules.mode };
                    reason.under(mode).with_evidence([statement.fact.id])
                };
                let reasons: Vec<Reason> = reasons.into_iter().map(under).collect();
                let domain = domain(rule);
                exams.push(Exam {
                    statement,
                    build,
                    x,
                    rule: index,
                    domain,
                    operators: operators(world, &builders, &signatures),
                    paired,
                    level,
                    runs,
                    reasons,
                    errors: 0,
                });
            }
            if !counted {
                others.push(statement);
            }
        }
    }
    for exam in &mut exams {
        exam.reasons.extend(inputs::undeclared(world, exam.statement, exam.build, xs[exam.x], spec));
        let shared = findings.get(&exam.statement.fact.id).map_or(0, |f| errors(&f.reasons));
        exam.errors = errors(&exam.reasons) + shared;
    }
    let mut built = conclude(world, artifact, spec, rules, &builders, &xs, &exams, &findings, &others);
    let good = || exams.iter().filter(|exam| exam.is_good());
    let domains = good().map(|exam| exam.domain).collect();
    let commits = good().filter_map(|exam| exam.build.source.as_ref()?.commit).collect();
    let mismatch = rebuild::mismatch(world, artifact, &around, &builders, &domains, &commits);
    // Where enough others agree it is told, and breaks nothing.
    let mode = if built.covered { rules.mode.max(Mode::Warn) } else { rules.mode };
    built.reasons.extend(mismatch.map(|reason| reason.under(mode)));
    built
}

fn errors(reasons: &[Reason]) -> usize {
    reasons.iter().filter(|reason| reason.is_error()).count()
}

fn source_mode(spec: &Spec) -> Mode {
    spec.source.as_ref().map_or(Mode::Enforce, |source| source.mode)
}

fn domain(rule: &BuilderRule) -> &str {
    #[cfg(feature = "faults")]
    if crate::faults::on(crate::faults::Fault::CountRulesNotDomains) {
        return &rule.id;
    }
    rule.domain()
}

/// Whoever made the signatures. Where there is one domain, nobody asks.
fn operators<'s>(
    world: &World<'_>,
    builders: &[&'s BuilderRule],
    signatures: &[&Signature],
) -> Vec<Operator<'s>> {
    if builders.windows(2).all(|pair| domain(pair[0]) == domain(pair[1])) {
        return vec![Operator::new()];
    }
    let of = |signature: &&Signature| -> Operator<'s> {
        let named = builders.iter().filter(|rule| world.names(&rule.signer, signature));
        let domains: BTreeSet<&str> = named.map(|rule| domain(rule)).collect();
        domains.into_iter().collect()
    };
    signatures.iter().map(of).collect()
}

/// Statements about `digest`, and, for the artifact itself, about the indexes that hold it as a runnable child.
fn about<'a>(
    world: &mut World<'a>,
    digest: Digest,
    with_parents: bool,
    twins: &[Digest],
) -> Vec<&'a Statement> {
    let mut found: BTreeMap<Sha256, &Statement> = BTreeMap::new();
    let mut nodes = vec![Node::Content(digest)];
    nodes.extend(twins.iter().copied().map(Node::Content));
    if with_parents {
        for parent in world.parents(digest) {
            let revoked = world.denied(parent).is_some_and(|(image, _)| image == parent);
            if !revoked && world.runnable(parent).contains(&digest) {
                nodes.push(parent.into());
            }
        }
    }
    for node in nodes {
        found.extend(world.naming(node).into_iter().map(|statement| (statement.fact.id, statement)));
    }
    found.into_values().collect()
}

/// Steps 2 and 3: is the builder the signer's to speak for, is the build type read and allowed.
fn pair(
    build: &predicate::Build,
    rule: &BuilderRule,
    all: &[BuilderRule],
    node: Digest,
    identities: &[&Identity],
) -> (Vec<Reason>, bool) {
    let mut reasons = Vec::new();
    let paired = rule.builder_id.matches(&build.builder_id, identities.iter().copied());
    #[cfg(feature = "faults")]
    let paired = paired || crate::faults::on(crate::faults::Fault::IgnoreBuilderPair);
    if !paired {
        let names = || identities.iter().copied();
        let known = all.iter().any(|other| other.builder_id.matches(&build.builder_id, names()));
        let (code, message) = match known {
            true => (
                Code::BldBuilderSignerPair,
                format!("the signer may not speak for builder {}", build.builder_id),
            ),
            false => (Code::BldBuilderNotTrusted, format!("builder {} is not trusted", build.builder_id)),
        };
        let reason = Reason::error(code, node, "trust.builders.builderId", message);
        reasons.push(reason.because(rule.builder_id.describe(), build.builder_id.clone()));
    }
    match build.adapter {
        None => {
            let message = format!("no adapter reads build type {}", build.build_type);
            let reason = Reason::error(Code::BldUnknownBuildtype, node, "trust.builders.buildTypes", message);
            reasons.push(reason.because("a build type with an adapter", build.build_type.clone()));
        }
        Some(adapter) => {
            if let Some(allowed) =
                rule.build_types.as_ref().filter(|allowed| !allowed.iter().any(|t| t.is_of(adapter, build)))
            {
                let message = format!("build type {} is not allowed for `{}`", build.build_type, rule.id);
                let reason =
                    Reason::error(Code::BldTypeNotAllowed, node, "trust.builders.buildTypes", message);
                let allowed: Vec<String> = allowed.iter().map(|a| format!("{a:?}")).collect();
                reasons.push(reason.because(allowed, format!("{adapter:?}")));
            }
        }
    }
    (reasons, paired)
}

/// The level that provenance has at most when whoever asked for the build could have written it (chain-model 1.5).
const OWN_WORD: u8 = 2;

/// Step 4: what level the build is.
fn level(
    build: &predicate::Build,
    rule: &BuilderRule,
    rules: &Rules,
    node: Digest,
    identities: &[&Identity],
    signatures: &[&Signature],
) -> (Vec<Reason>, u8) {
    // Whoever runs the machine can change the build: only runners known to be hosted keep the rule's level.
    let foreign = certificate::runner(build, identities).is_some_and(|runner| runner != "github-hosted");
    // One signature that is not so keeps the level; a key has no workflow.
    let all = |is: fn(&Identity) -> bool| {
        !signatures.is_empty() && signatures.iter().all(|s| s.signer.identity().is_some_and(is))
    };
    let (own, moving) = (all(Identity::is_own_workflow), all(Identity::takes_a_moving_ref));
    let caps = [
        (foreign, rule.self_hosted_max, "selfHostedMax"),
        (own, OWN_WORD, "the repository's own workflow signed it"),
        (moving, OWN_WORD, "the workflow that signed was taken from a branch"),
    ];
    let caps: Vec<(u8, &str)> =
        caps.into_iter().filter(|(holds, ..)| *holds).map(|(_, cap, why)| (cap, why)).collect();
    let level = caps.iter().map(|(cap, _)| *cap).fold(rule.max_level, u8::min);
    if level >= rules.min_level {
        return (Vec::new(), level);
    }
    let hit: Vec<&str> = caps.iter().filter(|(cap, _)| *cap < rule.max_level).map(|(_, why)| *why).collect();
    let cap = if hit.is_empty() { String::new() } else { format!(" (capped: {})", hit.join(", ")) };
    let message = format!("the build is level {level}{cap}, the policy wants {}", rules.min_level);
    let reason = Reason::error(Code::BldLevelTooLow, node, "build.minLevel", message);
    let mut reasons = vec![reason.because(rules.min_level, level)];
    if moving && !own && rule.max_level >= rules.min_level {
        let message = "the reusable workflow that signed was taken from a branch, which moves";
        let reason = Reason::error(Code::BldBuilderRefMutable, node, "build.minLevel", message);
        let names: Vec<String> = identities.iter().map(|identity| identity.san.clone()).collect();
        reasons.push(reason.because("a tag or a commit", names));
    }
    (reasons, level)
}

/// Why nobody counts who signed: the closest of what alone keeps a rule from naming one of them.
fn stranger(world: &World<'_>, others: &[&Statement], builders: &[&BuilderRule]) -> Code {
    let misses = others.iter().flat_map(|s| builders.iter().filter_map(|rule| world.misses(s, &rule.signer)));
    misses.min().map_or(Code::BldSignerNotTrusted, missed)
}

/// The code of what keeps a rule from naming a builder's identity.
pub(super) fn missed(miss: Miss) -> Code {
    match miss {
        Miss::Repository => Code::SrcRepoIdMismatch,
        Miss::Issuer => Code::BldIssuerMismatch,
        Miss::Runner => Code::BldSelfHosted,
        Miss::Ref => Code::BldBuilderRefMutable,
    }
}

/// Step 6, the expressions.
fn asserts(
    world: &mut World<'_>,
    build: &predicate::Build,
    rules: &Rules,
    node: Digest,
    resource: &str,
    identities: &[&Identity],
) -> Vec<Reason> {
    if rules.params.assert.is_empty() {
        return Vec::new();
    }
    let trigger = certificate::trigger(build, identities);
    let runner = certificate::runner(build, identities);
    let bindings = assert::bindings(world, node, resource)
        .with("build", expr::build(build, trigger, runner))
        .with("source", expr::source(build.source.as_ref()))
        .with("params", expr::params(build));
    let node = node.to_string();
    let (rule, code) = ("build.params.assert", Code::BldParamValue);
    let asked = assert::Asked { node: &node, rule, stage: "build", code };
    assert::asserts(world, &rules.params.assert, &bindings, &asked)
}

/// Step 5: what started the build. The certificate says it where the provenance does not.
fn triggers(
    build: &predicate::Build,
    rules: &Rules,
    node: Digest,
    identities: &[&Identity],
) -> Option<Reason> {
    let allowed = rules.triggers.as_ref()?;
    let found = certificate::trigger(build, identities);
    if found.is_some_and(|trigger| allowed.iter().any(|allowed| allowed == trigger)) {
        return None;
    }
    let message = format!("the build was started by `{}`", found.unwrap_or("unknown"));
    let reason = Reason::error(Code::BldTriggerNotAllowed, node, "build.triggers", message);
    Some(reason.because(allowed.clone(), found))
}

/// Steps 6 to 9, except what depends on the node.
fn find(
    world: &mut World<'_>,
    statement: &Statement,
    build: &predicate::Build,
    node: Digest,
    spec: &Spec,
    rules: &Rules,
    hop: u32,
) -> Findings {
    let mut reasons = Vec::new();
    let params = &rules.params;
    for path in &build.unknown_params {
        if params.unknown == Tolerance::Deny && !params.allow.contains_key(path) {
            let message = format!("external parameter `{path}` is not expected");
            let reason = Reason::error(Code::BldParamUnexpected, node, "build.params", message);
            let known: Vec<String> = params.allow.keys().cloned().collect();
            reasons.push(reason.because(known, path.clone()));
        }
    }
    for (path, allowed) in &params.allow {
        if let Some(value) = build.params.get(path).filter(|value| !allowed.contains(value)) {
            let message = format!("external parameter `{path}` is `{value}`");
            let reason = Reason::error(Code::BldParamValue, node, "build.params.allow", message);
            reasons.push(reason.because(allowed.clone(), value.clone()));
        }
    }
    let mut reasons: Vec<Reason> = reasons.into_iter().map(|reason| reason.under(rules.mode)).collect();
    let commit = build.source.as_ref().and_then(|source| source.commit);
    let revoked = commit.and_then(|commit| world.control.revocations.commit(&commit));
    if let (Some(commit), Some(revoked)) = (commit, revoked)
        && revoked.covers(world.existed_at(statement))
    {
        let message = format!("the commit was revoked: {}", revoked.reason);
        reasons.push(Reason::error(Code::SrcRevoked, commit, "revocation", message));
    }
    let sourced =
        spec.source.as_ref().map(|source| source::judge(world, statement, build, node, spec, source));
    if let Some(sourced) = &sourced {
        reasons.extend(sourced.reasons.iter().map(|reason| reason.clone().under(source_mode(spec))));
    }
    let found = inputs::judge(world, statement, build, spec, hop);
    reasons.extend(found.reasons);
    let evidence = sourced.as_ref().map_or(&[][..], |sourced| &sourced.evidence[..]);
    let timed = time::of_statement(world.existed_at(statement), build, evidence, node, spec);
    reasons.extend(timed.into_iter().map(|reason| reason.under(spec.time.mode)));
    let id = statement.fact.id;
    Findings {
        reasons: reasons.into_iter().map(|reason| reason.with_evidence([id])).collect(),
        leaves: found.leaves,
        inputs: found.links,
        source: sourced,
    }
}

/// Counts domains, compares commits, and says what is missing.
#[expect(clippy::too_many_arguments, reason = "one call, of one function cut in two for the eye")]
fn conclude<'a>(
    world: &World<'a>,
    artifact: &Artifact,
    spec: &Spec,
    rules: &Rules,
    builders: &[&BuilderRule],
    xs: &[Digest],
    exams: &[Exam<'a, '_>],
    findings: &BTreeMap<Sha256, Findings>,
    others: &[&'a Statement],
) -> Built<'a> {
    let k = rules.builders.at_least as usize;
    let voices = |digests: &[Digest]| -> Voices<'_> {
        let mut voices = Voices::new();
        for exam in exams.iter().filter(|e| e.is_good() && digests.contains(&xs[e.x])) {
            let id = exam.statement.fact.id;
            let said = exam.operators.iter().map(|operator| (id, operator.clone()));
            voices.entry(exam.domain).or_default().extend(said);
        }
        voices
    };
    let direct = voices(&[artifact.digest]);
    let scope = artifact.scope.iter();
    let by_child: Vec<(Digest, Voices<'_>)> =
        scope.map(|child| (*child, voices(&[*child, artifact.digest]))).collect();
    let agree = independent(&[&direct]);
    let each: Vec<&Voices<'_>> = by_child.iter().map(|(_, voices)| voices).collect();
    let agreed = if each.is_empty() { agree } else { agree.max(independent(&each)) };
    let covered = agreed >= k;
    #[cfg(feature = "faults")]
    let covered = covered
        || crate::faults::on(crate::faults::Fault::AnyPlatform)
            && by_child.iter().any(|(_, domains)| domains.len() >= k);
    let bare: Vec<Digest> = by_child.iter().filter(|(_, d)| d.is_empty()).map(|(child, _)| *child).collect();
    let good: Vec<&Exam<'a, '_>> = exams.iter().filter(|exam| exam.is_good()).collect();

    let closest = exams.iter().min_by_key(|e| (e.errors, e.statement.fact.id, e.rule, e.x));
    let mut reasons = Vec::new();
    let mut leaves = Vec::new();
    let node = artifact.digest;
    // Nothing but a build says which commit and inputs it had: while those are asked for, there must be one.
    let asks_more = spec.source.as_ref().is_some_and(|source| source.mode == Mode::Enforce)
        || spec.inputs.iter().any(|input| input.mode == Mode::Enforce)
        || spec.time.max_artifact_age.is_some() && spec.time.mode == Mode::Enforce;
    let missing = if asks_more { Mode::Enforce } else { rules.mode };
    if covered {
        // Nothing is missing.
    } else if !good.is_empty() && !bare.is_empty() {
        for child in &bare {
            let message = format!("platform {child} of the index has no trusted build");
            let reason = Reason::error(Code::ArtPlatformUncovered, child, "build", message);
            let reason = reason.because("a trusted build of the index or of each platform", "none");
            reasons.push(reason.under(missing));
        }
    } else if !good.is_empty() {
        let message = format!("{agreed} independent builder(s) agree, the policy wants {k}");
        let reason = Reason::error(Code::BldThreshold, node, "build.builders.atLeast", message);
        let evidence = good.iter().map(|exam| exam.statement.fact.id);
        let reason = reason.because(rules.builders.at_least, agreed).with_evidence(evidence);
        // How old the builds are is asked only when there are enough.
        let aged = spec.time.max_artifact_age.is_some() && spec.time.mode == Mode::Enforce;
        reasons.push(reason.under(if aged { Mode::Enforce } else { rules.mode }));
    } else if let Some(exam) = closest {
        reasons.extend(exam.reasons.iter().cloned());
        if let Some(found) = findings.get(&exam.statement.fact.id) {
            reasons.extend(found.reasons.iter().cloned());
            leaves.extend(found.leaves.iter().cloned());
        }
    } else if others.is_empty() {
        let message = format!("no build statement covers {node}");
        let reason = Reason::error(Code::BldNoProvenance, node, "build", message);
        let reason = reason.because("a build statement about it or an index that holds it", "none");
        reasons.push(reason.under(missing));
    } else {
        let revoked =
            others.iter().find_map(|s| builders.iter().find_map(|rule| world.revocation(s, &rule.signer)));
        let code = revoked.unwrap_or_else(|| stranger(world, others, builders));
        let message = format!("{} build statement(s) exist, none by a signer that counts", others.len());
        let mut signers: Vec<String> =
            others.iter().flat_map(|s| s.fact.signers().map(ToString::to_string)).collect();
        signers.sort();
        signers.dedup();
        let ids: Vec<String> = builders.iter().map(|rule| rule.id.clone()).collect();
        let reason = Reason::error(code, node, "trust.builders", message).because(ids, signers);
        reasons.push(reason.under(missing));
    }
    reasons.extend(disagreement(exams, spec, rules, node));

    // Warnings of what is good; those of the closest are among its reasons already.
    for exam in &good {
        reasons.extend(exam.reasons.iter().filter(|r| !r.is_error()).cloned());
        if let Some(found) = findings.get(&exam.statement.fact.id) {
            reasons.extend(found.reasons.iter().filter(|r| !r.is_error()).cloned());
        }
    }
    let shown = if good.is_empty() { closest } else { good.first().copied() };
    let sourced =
        shown.and_then(|exam| findings.get(&exam.statement.fact.id)).and_then(|f| f.source.as_ref());
    let good_statements: Vec<&'a Statement> = {
        let mut seen = BTreeSet::new();
        good.iter().map(|exam| exam.statement).filter(|s| seen.insert(s.fact.id)).collect()
    };
    let mut links = Vec::new();
    if spec.source.is_some() {
        links.push(source_link(sourced, &reasons));
    }
    links.push(build_link(artifact, &reasons, &good_statements, closest, &by_child, &good, xs));
    let shown_inputs = shown.and_then(|exam| findings.get(&exam.statement.fact.id));
    links.extend(shown_inputs.iter().flat_map(|f| f.inputs.iter().cloned()));

    let mut levels = BTreeMap::new();
    if covered && rules.mode == Mode::Enforce {
        let best = |x: Digest| good.iter().filter(|e| xs[e.x] == x).map(|e| e.level).max();
        let level = match agree >= k {
            true => best(node),
            false => artifact.scope.iter().map(|child| best(*child).max(best(node)).unwrap_or(0)).min(),
        };
        levels.insert("SLSA_BUILD".to_owned(), level.unwrap_or(0));
        let of_source =
            good.iter().filter_map(|e| findings.get(&e.statement.fact.id)?.source.as_ref()?.level);
        if let Some(level) = of_source.min().filter(|_| source_mode(spec) == Mode::Enforce) {
            levels.insert("SLSA_SOURCE".to_owned(), level);
        }
    }
    leaves.extend(reasons);
    let disagree = leaves.iter().any(|reason| matches!(reason.code, Code::SrcAmbiguous | Code::BldConflict));
    let reproduced = covered && agreed >= 2 && !disagree && rules.mode == Mode::Enforce;
    let properties = reproduced.then(|| REPRODUCED.to_owned()).into_iter().collect();
    Built { covered, good: good_statements, reasons: leaves, links, levels, properties }
}

/// Trusted builds that name different commits: one of them is wrong, and nobody can say which.
fn disagreement(exams: &[Exam<'_, '_>], spec: &Spec, rules: &Rules, node: Digest) -> Vec<Reason> {
    let mut commits: BTreeMap<Node, BTreeSet<Sha256>> = BTreeMap::new();
    for exam in exams.iter().filter(|exam| exam.paired) {
        if let Some(commit) = exam.build.source.as_ref().and_then(|source| source.commit) {
            commits.entry(commit.into()).or_default().insert(exam.statement.fact.id);
        }
    }
    if commits.len() < 2 {
        return Vec::new();
    }
    let names: Vec<String> = commits.keys().map(ToString::to_string).collect();
    let evidence: BTreeSet<Sha256> = commits.into_values().flatten().collect();
    let reason = |code: Code, rule: &str| {
        let message = format!("trusted builds name {} different commits", names.len());
        Reason::error(code, node, rule, message)
            .because("one commit", names.clone())
            .with_evidence(evidence.clone())
    };
    let mut reasons = Vec::new();
    if spec.source.as_ref().is_some_and(|source| source.unique) {
        reasons.push(reason(Code::SrcAmbiguous, "source.unique").under(source_mode(spec)));
    }
    if rules.builders.agree_on.contains(&AgreeOn::SourceCommit) {
        reasons.push(reason(Code::BldConflict, "build.builders.agreeOn").under(rules.mode));
    }
    reasons
}

fn fails(reasons: &[Reason], stages: &[&str]) -> Option<String> {
    let first = reasons.iter().find(|r| r.is_error() && stages.contains(&r.stage.as_str()));
    first.map(|reason| format!("{}: {}", reason.code, reason.message))
}

fn source_link(sourced: Option<&source::Sourced>, reasons: &[Reason]) -> Link {
    let broken = fails(reasons, &["source"]);
    let status = match (&broken, sourced) {
        (Some(_), _) => Status::Fail,
        (None, Some(_)) => Status::Pass,
        (None, None) => Status::Unknown,
    };
    let node = sourced.map(|s| s.node.clone()).unwrap_or_default();
    let found =
        || sourced.map_or_else(|| "no trusted build names a commit".to_owned(), |s| s.summary.clone());
    Link {
        stage: "source".to_owned(),
        status,
        node,
        summary: broken.unwrap_or_else(found),
        evidence: sourced.map(|s| s.ids.clone()).unwrap_or_default(),
        links: Vec::new(),
    }
}

fn build_link(
    artifact: &Artifact,
    reasons: &[Reason],
    good: &[&Statement],
    closest: Option<&Exam<'_, '_>>,
    by_child: &[(Digest, Voices<'_>)],
    exams: &[&Exam<'_, '_>],
    xs: &[Digest],
) -> Link {
    let uncovered = reasons.iter().any(|r| r.is_error() && r.code == Code::ArtPlatformUncovered);
    let broken = fails(reasons, &["build"]).or_else(|| fails(reasons, &["artifact"]));
    let summary = match (&broken, exams.first().or(closest.as_ref())) {
        (Some(text), _) => text.clone(),
        (None, Some(exam)) => format!("built by {}", exam.build.builder_id),
        (None, None) => "no trusted build".to_owned(),
    };
    let evidence =
        if good.is_empty() { ids(closest.map(|exam| exam.statement)) } else { ids(good.iter().copied()) };
    let runs = exams.iter().filter(|_| !good.is_empty()).flat_map(|exam| exam.runs.iter().copied());
    let evidence = evidence.into_iter().chain(runs).collect::<BTreeSet<Sha256>>().into_iter().collect();
    let child_link = |(child, domains): &(Digest, Voices<'_>)| Link {
        stage: "build".to_owned(),
        status: if domains.is_empty() { Status::Fail } else { Status::Pass },
        node: child.to_string(),
        summary: if domains.is_empty() { "not covered".to_owned() } else { "covered".to_owned() },
        evidence: ids(exams.iter().filter(|e| xs[e.x] == *child).map(|e| e.statement)),
        links: Vec::new(),
    };
    Link {
        stage: "build".to_owned(),
        status: if broken.is_some() || uncovered { Status::Fail } else { Status::Pass },
        node: artifact.digest.to_string(),
        summary,
        evidence,
        links: by_child.iter().map(child_link).collect(),
    }
}
