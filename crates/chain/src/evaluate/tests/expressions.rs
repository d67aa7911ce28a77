//! Expressions of the policy at their four sites.

use catenary_evidence::predicate::{Build, Claim};

use super::scene::*;
use crate::{
    policy::Policy,
    reason::Code::{self, *},
    verdict::{Outcome, Verdict},
};

fn golden(document: &str, context: &[(&str, &str)]) -> Scene {
    let mut scene = Scene::golden();
    scene.policy("prod", document);
    scene.context = context.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    scene
}

fn ask(extra: &str, context: &[(&str, &str)]) -> Verdict {
    golden(&policy(extra), context).ask("app")
}

const FREEZE: &str = r#"  deny:
    - {id: freeze, when: "ctx.environment == 'prod' && ctx.freeze && !ctx.breakGlass", message: change freeze}
"#;

/// A policy that asserts of the build.
fn asserts(expr: &str, more: &str) -> String {
    policy(&format!("  build: {{params: {{assert: [{{id: a, expr: \"{expr}\"{more}}}]}}}}\n"))
}

fn told(verdict: &Verdict) -> (Outcome, Vec<Code>, bool) {
    (verdict.outcome, verdict.errors().map(|reason| reason.code).collect(), verdict.allowed)
}

#[test]
fn a_freeze_denies_what_the_chain_allows() {
    check("no freeze", &ask(FREEZE, &[("freeze", "false")]), &[]);
    let frozen = ask(FREEZE, &[("freeze", "true"), ("breakGlass", "false")]);
    check("freeze", &frozen, &[PolDenied]);
    assert_eq!(frozen.errors().next().unwrap().message, "change freeze");
    assert_eq!(frozen.links[0].stage, "policy");
    assert_eq!(frozen.context["freeze"], "true");
    check("broken glass", &ask(FREEZE, &[("freeze", "true"), ("breakGlass", "true")]), &[]);
}

#[test]
fn p14_a_deny_rule_without_an_answer_does_not_allow() {
    for context in [&[][..], &[("freeze", "true")], &[("freeze", "yes"), ("breakGlass", "false")]] {
        let verdict = ask(FREEZE, context);
        assert_eq!(told(&verdict), (Outcome::Indeterminate, vec![PolEvalError], false), "{context:?}");
    }
    let fail = FREEZE.replace("message: change", "onError: fail, message: change");
    let verdict = ask(&fail, &[]);
    assert_eq!(told(&verdict), (Outcome::Failed, vec![PolDenied], false));
    assert!(verdict.reasons.iter().any(|r| r.code == PolEvalError && !r.is_error()), "the error is said too");
}

#[test]
fn p14_an_error_is_never_let_through_and_hides_nothing() {
    let tolerant =
        |expr: &str| asserts(expr, "").replacen("  match:", "  onIndeterminate: allow\n  match:", 1);
    let verdict = golden(&tolerant("params.missing == 'x'"), &[]).ask("app");
    assert_eq!(told(&verdict), (Outcome::Indeterminate, vec![PolEvalError], false));
    // The same build, whose ref is not allowed either.
    let mut scene = Scene::golden();
    scene.policy("prod", &tolerant("params.missing == 'x'"));
    scene.evidence.attestations.retain(|_, a| !matches!(a.fact.claim, Claim::Build(_)));
    scene.build(&["app"], |b| b.source.as_mut().unwrap().reference = Some("refs/heads/evil".into()));
    assert_eq!(told(&scene.ask("app")), (Outcome::Failed, vec![PolEvalError, SrcRefNotAllowed], false));
}

#[test]
fn a_build_must_be_what_the_policy_asserts() {
    let with = |document: &str, change: fn(&mut Build)| {
        let mut scene = Scene::empty();
        scene.policy("prod", document);
        scene.manifest("app", "amd64", &["l1"]);
        scene.commit("c1", |_| {});
        scene.build(&["app"], change);
        scene.push("app", APP);
        scene.ask("app")
    };
    let debug = asserts("!build.params.exists(k, k.startsWith('args.DEBUG'))", ", message: no debug builds");
    check("plain", &with(&debug, |_| {}), &[]);
    let verdict = with(&debug, |build| {
        build.params.insert("args.DEBUG_X".into(), "1".into());
    });
    check("debug", &verdict, &[BldParamValue]);
    assert_eq!(verdict.errors().next().unwrap().message, "no debug builds");
    for (expr, holds) in [
        ("build.trigger == 'push' && source.ref == 'refs/heads/main'", true),
        ("subject.resource == 'registry.acme.test/acme/app' && subject.digest.startsWith('sha256:')", true),
        ("now - build.finishedOn < duration('30m')", true),
        ("now - build.finishedOn < duration('20m')", false),
        ("source.repositoryId == '1'", false),
    ] {
        check(expr, &with(&asserts(expr, ""), |_| {}), if holds { &[] } else { &[BldParamValue] });
    }
    let failing = with(&asserts("build.runner == 'x'", ", onError: fail"), |_| {});
    check("a missing member, and errors fail", &failing, &[BldParamValue]);
}

#[test]
fn what_depends_on_the_moment_does_not_hold_for_long() {
    let verdict = golden(&asserts("now - build.finishedOn < duration('30m')", ""), &[]).ask("app");
    assert_eq!(verdict.valid_until, at(30) + jiff::SignedDuration::from_secs(5));
    let verdict = golden(&asserts("build.trigger == 'push'", ""), &[]).ask("app");
    assert_eq!(verdict.valid_until, at(40));
}

#[test]
fn the_context_may_choose_the_policy() {
    let canary = |when: &str| {
        let document = policy_named("canary", APP, "");
        document.replacen("match: {", &format!("match: {{priority: 5, when: {when}, "), 1)
    };
    let scene = |when: &str, context: &[(&str, &str)]| {
        let mut scene = golden(&policy(""), context);
        scene.policy("canary", &canary(when));
        scene.ask("app").policy.map(|policy| policy.name)
    };
    let when = "\"has(ctx.canary) && ctx.canary\"";
    assert_eq!(scene(when, &[]).as_deref(), Some("prod"));
    assert_eq!(scene(when, &[("canary", "false")]).as_deref(), Some("prod"));
    assert_eq!(scene(when, &[("canary", "true")]).as_deref(), Some("canary"));
    // Nobody can say which one decides.
    let mut unsure = golden(&policy(""), &[]);
    unsure.policy("canary", &canary("\"ctx.canary\""));
    assert_eq!(told(&unsure.ask("app")), (Outcome::Indeterminate, vec![PolEvalError], false));
    unsure.policy("canary", &canary("{expr: \"ctx.canary\", onError: fail}"));
    assert_eq!(told(&unsure.ask("app")), (Outcome::Failed, vec![PolNoMatch], false));
    // One that would not decide anyway may be as unsure as it likes.
    unsure.policy("canary", &canary("\"ctx.canary\"").replace("priority: 5", "priority: -5"));
    check("a lower priority", &unsure.ask("app"), &[]);
}

#[test]
fn digests_on_the_deny_list_are_denied() {
    let list = |name: &str| format!("  deny: [{{id: bad, digests: [\"{}\"]}}]\n", content(name));
    check("listed", &ask(&list("app"), &[]), &[ArtDenied]);
    check("another", &ask(&list("other"), &[]), &[]);
    let mut scene = Scene::golden();
    scene.policy("prod", &policy(&list("app")));
    scene.index("all", &[("app", "amd64")]);
    scene.build(&["all"], |_| {});
    scene.push("all", APP);
    check("an index that would run it", &scene.ask("all"), &[ArtDenied]);
    scene.evidence.objects.clear();
    check("what it holds is not known", &scene.ask("all"), &[ArtManifestMissing]);
}

#[test]
fn a_deny_rule_can_be_tried_first() {
    for (mode, severity) in [("warn", "warning"), ("shadow", "info")] {
        let rule = FREEZE.replace("id: freeze", &format!("id: freeze, mode: {mode}"));
        let verdict = ask(&rule, &[("freeze", "true"), ("breakGlass", "false")]);
        check(mode, &verdict, &[]);
        let said = verdict.reasons.iter().find(|reason| reason.code == PolDenied).unwrap();
        assert_eq!(serde_json::to_value(said.severity).unwrap(), severity);
    }
}

#[test]
fn an_expression_that_cannot_be_right_is_refused_with_its_place() {
    for (document, path, why) in [
        (
            asserts("build.triger == 'push'", ""),
            "spec.build.params.assert[0].expr",
            "did you mean `trigger`?",
        ),
        (asserts("build.trigger ==", ""), "spec.build.params.assert[0]", "at the end"),
        (asserts("true", ", onErr: fail"), "spec.build.params.assert[0]", "did you mean `onError`?"),
        (
            policy("  deny: [{id: a, when: \"build.trigger == 'x'\"}]\n"),
            "spec.deny[0].when",
            "no variable `build`",
        ),
        (policy("  deny: [{id: a, when: \"true\", digests: []}]\n"), "spec.deny[0].digests", "empty list"),
        (policy("  deny: [{id: a}]\n"), "spec.deny[0]", "exactly one"),
        (
            policy("  deny: [{id: a, when: \"true\"}, {id: a, when: \"true\"}]\n"),
            "spec.deny[1].id",
            "used twice",
        ),
        (
            policy("").replacen("match: {", "match: {when: \"now > now\", ", 1),
            "spec.match.when",
            "no variable `now`",
        ),
    ] {
        let error = Policy::parse(&document).unwrap_err();
        assert!(error.path.starts_with(path) && error.line > 0, "{error}\n{document}");
        assert!(error.message.contains(why), "{error}");
    }
}

#[test]
fn chain28_no_expression_is_taken_that_could_hang_the_evaluator() {
    for source in [
        format!("'{}' == ''", "x".repeat(100 * 1024)),
        format!("{}true{}", "(".repeat(1000), ")".repeat(1000)),
        "build.trigger.matches('a{1000}{1000}')".to_owned(),
        "build.trigger.matches(build.runner)".to_owned(),
    ] {
        let error = Policy::parse(&asserts(&source, "")).unwrap_err();
        assert!(error.path.starts_with("spec.build.params.assert[0]"), "{error}");
    }
    // Each of a thousand elements with each of a thousand: refused by steps, not by the clock.
    let many = asserts("build.params.all(a, build.params.all(b, build.params.all(c, a + b + c != '')))", "");
    let mut scene = Scene::golden();
    scene.policy("prod", &many);
    scene.evidence.attestations.retain(|_, a| !matches!(a.fact.claim, Claim::Build(_)));
    scene.build(&["app"], |build| {
        build.params.extend((0..1000).map(|n| (format!("p{n}"), "x".to_owned())));
    });
    assert_eq!(told(&scene.ask("app")), (Outcome::Indeterminate, vec![PolEvalError], false));
}

#[test]
fn a_required_statement_must_be_what_the_policy_asserts() {
    use super::properties::{Says, finding, scan_of};
    use catenary_evidence::predicate::{Findings, Severity};
    let told = |expr: &str, more: &str, cut: bool| {
        let rule = format!(
            "  require: [{{id: scan, predicate: [vulns], signer: {{key: \"{}\"}}, assert: [{{id: a, expr: \"{expr}\"{more}}}]}}]\n",
            key("vcs")
        );
        let mut scene = golden(&policy(&rule), &[]);
        let mut claim = scan_of(Some(at(20)), vec![finding("CVE-1", Severity::High, "pkg:deb/debian/bash")]);
        if let Claim::Scan(scan) = &mut claim {
            scan.findings = Findings { more: cut, ..scan.findings.clone() };
        }
        scene.says(21, &["vcs"], "app", claim);
        scene.ask("app")
    };
    let none = "!att.claim.findings.list.exists(f, f.severity == 'critical')";
    check("no critical one", &told(none, "", false), &[]);
    check("a high one", &told(&none.replace("critical", "high"), "", false), &[PrpFailed]);
    let cut = told(none, "", true);
    assert_eq!(super::expressions::told(&cut), (Outcome::Indeterminate, vec![PolEvalError], false));
    check("a list that was cut, and errors fail", &told(none, ", onError: fail", true), &[PrpFailed]);
    check("the signer", &told("att.signers.size() == 1 && att.receivedAt < now", "", false), &[]);
    let rule = format!(
        "  require: [{{id: scan, predicate: [vulns], signer: {{key: \"{}\"}}, assert: [{{id: a, expr: \"att.clam == 1\"}}]}}]\n",
        key("vcs")
    );
    let error = Policy::parse(&policy(&rule)).unwrap_err();
    assert!(error.path == "spec.require[0].assert[0].expr" && error.message.contains("`claim`"), "{error}");
}
