//! R5: what others verified, and what must not pass for it.

use std::collections::BTreeMap;

use catenary_evidence::{
    digest::Sha256,
    predicate::{Claim, Summary},
};

use super::scene::*;
use crate::{
    policy::Policy,
    reason::Code,
    verdict::{Outcome, Verdict},
};

const BASE: &str = "registry.acme.test/base/debian";
const POLICY: &str = "sha256:be5ebe5ebe5ebe5ebe5ebe5ebe5ebe5ebe5ebe5ebe5ebe5ebe5ebe5ebe5ebe5e";

fn verifiers() -> String {
    format!(
        "    verifiers: [{{id: base-team, signer: {{key: \"{}\"}}, verifierId: {{exact: \"https://acme.test/base\"}}, policies: [\"{POLICY}\", \"https://acme.test/policy\"], resources: [\"registry.acme.test/**\"], maxLevel: 3}}]\n    registries:",
        key("base")
    )
}

/// A policy that trusts the verifier, with these lines in `spec`.
fn trusting(name: &str, resource: &str, extra: &str) -> String {
    policy_named(name, resource, extra).replace("    registries:", &verifiers())
}

/// An image of which nothing but a push is known, under a policy with `summary`.
fn scene(extra: &str) -> Scene {
    let mut scene = Scene::empty();
    scene.trust("base", None, None);
    scene.policy("prod", &trusting("prod", APP, extra));
    scene.manifest("app", "amd64", &["l1", "l2"]);
    scene.push("app", APP);
    scene
}

const WANTED: &str = "  summary: {levels: {SLSA_BUILD: 3}}\n";

fn summary(change: impl FnOnce(&mut Summary)) -> Claim {
    let mut claim = Summary {
        verifier_id: "https://acme.test/base".into(),
        resource_uri: APP.into(),
        policy_uri: Some("https://acme.test/p".into()),
        policy_digest: Some(POLICY.parse().unwrap()),
        passed: true,
        levels: BTreeMap::from([("BUILD".into(), 3), ("SOURCE".into(), 2)]),
        repeated: Vec::new(),
        properties: Vec::new(),
        time_verified: Some(at(21)),
    };
    change(&mut claim);
    Claim::Summary(claim)
}

fn with(scene: &Scene, by: &str, change: impl FnOnce(&mut Summary)) -> Verdict {
    let mut scene = scene.clone();
    scene.attest(22, &[by], vec![subject("app")], summary(change));
    scene.ask("app")
}

fn told_of_summary(verdict: &Verdict) -> Option<Code> {
    verdict
        .errors()
        .find(|reason| reason.stage == "summary" || reason.rule.starts_with("summary"))
        .map(|r| r.code)
}

/// Only trusted negatives take a yes away; whoever builds the same bytes again is later by nature.
#[test]
fn a_late_rebuild_takes_nothing_from_a_summary() {
    let mut scene = scene(WANTED);
    scene.commit("c1", |_| {});
    let late = |scene: &mut Scene| {
        let id = scene
            .build_by(&["ci"], &["app"], |b| (b.started_on, b.finished_on) = (Some(at(25)), Some(at(26))));
        scene.statement(id).received_at = at(27);
    };
    let mut alone = scene.clone();
    late(&mut alone);
    check("no summary", &alone.ask("app"), &[Code::TimPushBeforeBuild, Code::VsaMissing]);
    scene.attest(22, &["base"], vec![subject("app")], summary(|_| {}));
    check("before", &scene.ask("app"), &[]);
    late(&mut scene);
    check("after", &scene.ask("app"), &[]);
}

#[test]
fn a_trusted_summary_stands_for_the_build() {
    let scene = scene(WANTED);
    let verdict = scene.ask("app");
    check("nothing", &verdict, &[Code::BldNoProvenance, Code::VsaMissing]);
    let verdict = with(&scene, "base", |_| {});
    check("verified", &verdict, &[]);
    assert_eq!(verdict.levels, BTreeMap::from([("SLSA_BUILD".into(), 3), ("SLSA_SOURCE".into(), 2)]));
    assert!(verdict.links.iter().any(|link| link.stage == "summary" && link.evidence.len() == 1));
    assert!(verdict.links.iter().all(|link| link.stage != "build"));
    check(
        "by its policy's uri",
        &with(&scene, "base", |s| {
            s.policy_digest = None;
            s.policy_uri = Some("https://acme.test/policy".into());
        }),
        &[],
    );
    for uri in [format!("oci://{APP}"), format!("{APP}@{}", content("app"))] {
        check("another spelling", &with(&scene, "base", |s| s.resource_uri = uri), &[]);
    }
}

type Change = Box<dyn FnOnce(&mut Summary)>;

#[test]
fn what_is_wrong_with_a_summary_is_told() {
    let scene = scene(WANTED);
    let cases: Vec<(&str, &str, Change, Code)> = vec![
        ("a stranger's", "other", Box::new(|_| {}), Code::VsaMissing),
        (
            "of another verifier",
            "base",
            Box::new(|s| s.verifier_id = "https://evil.test".into()),
            Code::VsaSignerVerifierPair,
        ),
        (
            "of another repository",
            "base",
            Box::new(|s| s.resource_uri = BASE.into()),
            Code::VsaResourceMismatch,
        ),
        (
            "of another image here",
            "base",
            Box::new(|s| s.resource_uri = format!("{APP}@{}", content("m9"))),
            Code::VsaResourceMismatch,
        ),
        (
            "of a tag here",
            "base",
            Box::new(|s| s.resource_uri = format!("{APP}:latest")),
            Code::VsaResourceMismatch,
        ),
        ("by another policy", "base", Box::new(|s| s.policy_digest = None), Code::VsaPolicyNotAllowed),
        ("failed, with levels", "base", Box::new(|s| s.passed = false), Code::VsaFailed),
        (
            "too low",
            "base",
            Box::new(|s| s.levels = BTreeMap::from([("BUILD".into(), 2)])),
            Code::VsaLevelTooLow,
        ),
        ("of no level", "base", Box::new(|s| s.levels.clear()), Code::VsaLevelTooLow),
        ("of two levels", "base", Box::new(|s| s.repeated = vec!["BUILD".into()]), Code::VsaLevelTooLow),
    ];
    for (story, by, change, code) in cases {
        let verdict = with(&scene, by, change);
        assert_eq!(told_of_summary(&verdict), Some(code), "{story}: {:#?}", verdict.reasons);
        assert_eq!(verdict.outcome, Outcome::Failed, "{story}");
    }
    // The rule's maxLevel caps what the summary says.
    let four = "  build: {minLevel: 4}\n  summary: {}\n".to_owned();
    let capped = self::scene(&four);
    let verdict = with(&capped, "base", |s| s.levels = BTreeMap::from([("BUILD".into(), 4)]));
    assert_eq!(told_of_summary(&verdict), Some(Code::VsaLevelTooLow));
}

#[test]
fn a_revoked_verifier_stands_for_nothing() {
    let mut scene = scene(WANTED);
    scene.attest(22, &["base"], vec![subject("app")], summary(|_| {}));
    check("before", &scene.ask("app"), &[]);
    scene.revoke("base");
    check("after", &scene.ask("app"), &[Code::AttRevokedSigner, Code::BldNoProvenance]);
}

#[test]
fn a_failed_summary_takes_the_one_before_it_back() {
    let mut scene = scene(WANTED);
    scene.attest(22, &["base"], vec![subject("app")], summary(|_| {}));
    scene.attest(
        23,
        &["base"],
        vec![subject("app")],
        summary(|s| {
            (s.passed, s.time_verified) = (false, Some(at(23)));
        }),
    );
    let verdict = scene.ask("app");
    assert_eq!(told_of_summary(&verdict), Some(Code::VsaFailed), "{:#?}", verdict.reasons);
    scene.attest(24, &["base"], vec![subject("app")], summary(|s| s.time_verified = Some(at(24))));
    check("verified again", &scene.ask("app"), &[]);
}

#[test]
fn a_summary_grows_stale() {
    let scene = scene("  summary: {levels: {SLSA_BUILD: 3}, maxAge: 15m}\n");
    let verdict = with(&scene, "base", |_| {});
    check("fresh", &verdict, &[]);
    assert_eq!(verdict.valid_until, at(36));
    let mut scene = scene;
    scene.attest(22, &["base"], vec![subject("app")], summary(|_| {}));
    let verdict = scene.ask_at("app", APP, at(37));
    assert_eq!(told_of_summary(&verdict), Some(Code::VsaStale));
    // A time after it was received is no time.
    scene.attest(22, &["base"], vec![subject("app")], summary(|s| s.time_verified = Some(at(5000))));
    assert_eq!(told_of_summary(&scene.ask_at("app", APP, at(38))), Some(Code::VsaStale));
}

#[test]
fn our_own_verdict_proves_nothing_to_us() {
    let mut own = scene(WANTED);
    own.control.origin = "log.acme.test/default".into();
    let verdict = with(&own, "base", |s| s.verifier_id = "https://log.acme.test/catenary".into());
    assert_eq!(told_of_summary(&verdict), Some(Code::VsaSelfIssued), "{:#?}", verdict.reasons);
    // Nor when our key was registered and named: whoever else signs beside it.
    let mut keyed = scene(WANTED);
    let state = keyed.control.keys.get_mut(&key("other")).unwrap();
    state.key.service = Some(crate::vsa::SERVICE.into());
    keyed.attest(22, &["base", "other"], vec![subject("app")], summary(|_| {}));
    assert_eq!(told_of_summary(&keyed.ask("app")), Some(Code::VsaSelfIssued));
}

#[test]
fn a_summary_of_an_index_is_one_of_its_platforms_and_not_the_other_way_round() {
    let mut scene = scene(WANTED);
    scene.manifest("m1", "amd64", &["l1"]);
    scene.index("idx", &[("m1", "amd64")]);
    scene.push("idx", APP);
    let mut up = scene.clone();
    scene.attest(22, &["base"], vec![subject("idx")], summary(|_| {}));
    check("down", &scene.ask("m1"), &[]);
    check("itself", &scene.ask("idx"), &[]);
    up.attest(22, &["base"], vec![subject("m1")], summary(|_| {}));
    check("up", &up.ask("idx"), &[Code::BldNoProvenance, Code::VsaMissing]);
}

#[test]
fn what_a_summary_cannot_say_is_still_missing() {
    let aged = scene("  summary: {}\n  time: {maxArtifactAge: 90d}\n");
    check("its age", &with(&aged, "base", |_| {}), &[Code::TimTooOld]);
    let mut torn = scene(WANTED);
    torn.commit("c1", |_| {});
    torn.build(&["app"], |_| {});
    torn.build(&["app"], |b| b.source.as_mut().unwrap().commit = Some(commit_id("c2")));
    check("which of two commits", &with(&torn, "base", |_| {}), &[Code::SrcAmbiguous]);
}

#[test]
fn a_summary_is_not_asked_for_when_the_build_is_proved() {
    let mut scene = scene(WANTED);
    scene.commit("c1", |_| {});
    scene.build(&["app"], |_| {});
    check("proved", &scene.ask("app"), &[]);
    check("and a failed summary is for negatives", &with(&scene, "base", |s| s.passed = false), &[]);
    let extra = "  negatives: {summaries: {from: [base-team]}}\n";
    scene.policy("prod", &trusting("prod", APP, extra));
    check("nothing said", &scene.ask("app"), &[]);
    check("failed", &with(&scene, "base", |s| s.passed = false), &[Code::VsaFailed]);
    check("a stranger's", &with(&scene, "other", |s| s.passed = false), &[]);
    check(
        "elsewhere",
        &with(&scene, "base", |s| {
            (s.passed, s.resource_uri) = (false, BASE.into());
        }),
        &[],
    );
    let mut mended = scene.clone();
    mended.attest(
        21,
        &["base"],
        vec![subject("app")],
        summary(|s| (s.passed, s.time_verified) = (false, None)),
    );
    mended.attest(22, &["base"], vec![subject("app")], summary(|s| s.time_verified = None));
    check("mended", &mended.ask("app"), &[]);
}

/// The golden chain on a base image whose verifier is trusted.
fn on_base(rule: &str) -> (Scene, Sha256) {
    let mut scene = Scene::empty();
    scene.trust("base", None, None);
    scene.policy("prod", &trusting("prod", APP, &format!("  inputs: [{{role: baseImage, {rule}}}]\n")));
    scene.manifest("app", "amd64", &["l1", "l2"]);
    scene.manifest("debian", "amd64", &["l1"]);
    scene.commit("c1", |_| {});
    scene.build(&["app"], |b| b.dependencies.push(base("debian", BASE)));
    scene.push("app", APP);
    let mut with = |change: &dyn Fn(&mut Summary)| {
        scene.attest(
            22,
            &["base"],
            vec![subject("debian")],
            summary(|s| {
                s.resource_uri = BASE.into();
                change(s);
            }),
        )
    };
    let id = with(&|_| {});
    (scene, id)
}

#[test]
fn a_base_image_is_proved_by_a_summary() {
    let (scene, id) = on_base("via: {vsa: base-team, levels: {SLSA_BUILD: 3}, maxAge: 30m}");
    let verdict = scene.ask("app");
    check("verified", &verdict, &[]);
    assert!(verdict.evidence().contains(&id));
    check("none", &scene.without(id).ask("app"), &[Code::VsaMissing]);
    check("stale", &scene.ask_at("app", APP, at(52)), &[Code::VsaStale]);
    let (mut other, id) = on_base("via: {vsa: base-team}");
    other = other.without(id);
    other.attest(22, &["base"], vec![subject("debian")], summary(|_| {}));
    check("of another repository", &other.ask("app"), &[Code::VsaResourceMismatch]);
}

#[test]
fn either_a_summary_or_a_chain_of_its_own_will_do() {
    let (scene, id) = on_base("chain: true, via: {vsa: base-team}");
    check("summary", &scene.ask("app"), &[]);
    let mut bare = scene.without(id);
    check("neither", &bare.ask("app"), &[Code::DepBaseUntrusted, Code::PolNoMatch, Code::VsaMissing]);
    bare.policy("base", &policy_named("base", BASE, ""));
    bare.build(&["debian"], |_| {});
    bare.push("debian", BASE);
    check("chain", &bare.ask("app"), &[]);
}

#[test]
fn a_base_image_grows_stale() {
    let (mut scene, _) = on_base("via: {vsa: base-team}, maxAge: 60m");
    check("nobody says when it was built", &scene.ask("app"), &[Code::DepBaseStale]);
    scene.build_by(&["other"], &["debian"], |_| {});
    check("nobody trusted", &scene.ask("app"), &[Code::DepBaseStale]);
    scene.build(&["debian"], |_| {});
    let verdict = scene.ask_at("app", APP, at(65));
    check("an hour ago", &verdict, &[]);
    assert_eq!(verdict.valid_until, at(69));
    check("longer ago", &scene.ask_at("app", APP, at(70)), &[Code::DepBaseStale]);
    // A build of the future is not newer than when we heard of it.
    scene.build(&["debian"], |b| b.finished_on = Some(at(5000)));
    check("of the future", &scene.ask_at("app", APP, at(71)), &[Code::DepBaseStale]);
}

#[test]
fn a_summary_stands_in_only_so_far_from_the_question() {
    for (depth, codes) in
        [(1, &[Code::DepBaseUntrusted, Code::BldNoProvenance, Code::VsaDepth][..]), (2, &[][..])]
    {
        let (mut scene, _) = on_base("chain: true");
        let extra = format!("  summary: {{depth: {depth}}}\n");
        scene.policy("base", &trusting("base", BASE, &extra));
        scene.push("debian", BASE);
        check("one hop", &scene.ask("app"), codes);
    }
}

#[test]
fn rules_about_verifiers_that_cannot_be_meant_are_refused() {
    for (extra, path) in [
        ("  summary: {from: [nobody]}\n", "summary.from[0]"),
        ("  summary: {from: []}\n", "summary.from"),
        ("  summary: {depth: 0}\n", "summary.depth"),
        ("  summary: {levels: {BUILD: 3}}\n", "summary.levels.BUILD"),
        ("  summary: {levels: {SLSA_BUILD: 5}}\n", "summary.levels.SLSA_BUILD"),
        ("  inputs: [{role: baseImage, via: {vsa: nobody}}]\n", "inputs[0].via.vsa"),
        ("  inputs: [{role: baseImage, maxAge: 1d, pinned: optional}]\n", "inputs[0].pinned"),
        ("  negatives: {summaries: {from: [nobody]}}\n", "negatives.summaries.from[0]"),
    ] {
        let error = Policy::parse(&trusting("prod", APP, extra)).unwrap_err();
        assert_eq!(error.path, format!("spec.{path}"), "{error}");
    }
    let error = Policy::parse(&policy("  summary: {}\n")).unwrap_err();
    assert_eq!(error.path, "spec.summary");
    let none =
        trusting("prod", APP, WANTED).replace(&format!("\"{POLICY}\", \"https://acme.test/policy\""), "");
    assert_eq!(Policy::parse(&none).unwrap_err().path, "spec.trust.verifiers[0].policies");
}
