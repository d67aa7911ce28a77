//! What exceptions allow, and what they do not.

use catenary_evidence::Sha256;

use super::scene::*;
use crate::{
    control::{Entry, Exception, ExceptionApproved, ExceptionWithdrawn, Target},
    reason::Code::{self, *},
    verdict::{Outcome, Verdict},
    vsa,
};

const RULES: &str =
    "  exceptions: {approvers: {roles: [admin]}, atLeast: 2, maxDuration: 14d, scope: [digest]}\n";

/// The golden chain with its build taken away, and an exception for the image, asked for at minute 25 until minute 60.
fn broken() -> Scene {
    let mut scene = Scene::empty();
    scene.policy("prod", &policy(RULES));
    scene.manifest("app", "amd64", &["l1", "l2"]);
    scene.commit("c1", |_| {});
    scene.push("app", APP);
    scene
}

fn asked() -> Exception {
    Exception {
        id: "exc-1".into(),
        policy: "prod".into(),
        digest: content("app"),
        resource: APP.into(),
        environment: Some("prod".into()),
        owner: "payments".into(),
        reason: "the builder is down".into(),
        requested: at(25),
        expires: at(60),
        by: "token:ann".into(),
    }
}

fn excepted(exception: Exception, approvers: &[&str]) -> Scene {
    let mut scene = broken();
    approve(&mut scene, exception, approvers);
    scene
}

fn approve(scene: &mut Scene, exception: Exception, approvers: &[&str]) {
    let (id, digest) = (exception.id.clone(), exception.digest);
    scene.apply(&Entry::ExceptionRequested(exception));
    for by in approvers {
        let (by, role) = (format!("token:{by}"), "admin".to_owned());
        let approved = ExceptionApproved { id: id.clone(), digest, by, role, at: at(26) };
        scene.apply(&Entry::ExceptionApproved(approved));
    }
}

fn has(verdict: &Verdict, code: Code) -> bool {
    verdict.reasons.iter().any(|reason| reason.code == code)
}

#[track_caller]
fn denied(story: &str, verdict: &Verdict) {
    assert!(!verdict.allowed && verdict.exceptions.is_empty(), "{story}: {}", verdict.summary);
    assert!(!has(verdict, ExcApplied), "{story}");
}

#[test]
fn an_approved_exception_allows_what_stays_failed() {
    let verdict = excepted(asked(), &["bob", "cy"]).ask("app");
    assert_eq!((verdict.outcome, verdict.allowed), (Outcome::Failed, true), "{}", verdict.summary);
    assert_eq!(told(&verdict).1, [BldNoProvenance]);
    assert!(has(&verdict, ExcApplied));
    let [applied] = &verdict.exceptions[..] else { panic!("{:?}", verdict.exceptions) };
    assert_eq!((applied.id.as_str(), applied.owner.as_str(), applied.expires), ("exc-1", "payments", at(60)));
    assert!(
        verdict.summary.starts_with("FAILED but allowed by exception exc-1 until "),
        "{}",
        verdict.summary
    );
    assert!(verdict.levels.is_empty());
    // What is signed of it is no pass.
    let statement = vsa::statement(&verdict, "https://verifier.test");
    assert_eq!(statement["predicate"]["verificationResult"], "FAILED");
    assert_eq!(statement["predicate"]["verifiedLevels"], serde_json::json!(["FAILED"]));
}

#[test]
fn an_exception_ends_and_says_so() {
    let scene = excepted(asked(), &["bob", "cy"]);
    let soon = scene.ask_at("app", APP, at(60) - jiff::SignedDuration::from_secs(2));
    assert!(soon.allowed && soon.valid_until == at(60), "{}", soon.valid_until);
    let late = scene.ask_at("app", APP, at(60));
    denied("at its end", &late);
    assert!(has(&late, ExcExpired));
    denied("before it was asked for", &scene.ask_at("app", APP, at(24)));
    denied("before it was approved", &scene.ask_at("app", APP, at(25)));
}

#[test]
fn p13_an_exception_is_for_its_digest_repository_environment_and_policy() {
    let change = |change: &dyn Fn(&mut Exception)| {
        let mut exception = asked();
        change(&mut exception);
        excepted(exception, &["bob", "cy"]).ask("app")
    };
    assert!(change(&|_| {}).allowed);
    assert!(change(&|e| e.environment = None).allowed);
    denied("another digest", &change(&|e| e.digest = content("other")));
    denied("another repository", &change(&|e| e.resource = "registry.acme.test/acme/other".into()));
    denied("another environment", &change(&|e| e.environment = Some("dev".into())));
    denied("another policy", &change(&|e| e.policy = "other".into()));
    denied("too long", &change(&|e| e.expires = at(25 + 15 * 24 * 60)));
}

#[test]
fn p13_nobody_approves_an_exception_of_their_own_and_two_do_not_add_up() {
    denied("nobody", &excepted(asked(), &[]).ask("app"));
    denied("one", &excepted(asked(), &["bob"]).ask("app"));
    denied("one twice", &excepted(asked(), &["bob", "bob"]).ask("app"));
    denied("whoever asked", &excepted(asked(), &["bob", "ann"]).ask("app"));
    let mut two = excepted(asked(), &["bob"]);
    approve(&mut two, Exception { id: "exc-2".into(), by: "token:cy".into(), ..asked() }, &["dan"]);
    denied("one each of two exceptions", &two.ask("app"));
}

#[test]
fn p13_an_exception_by_others_than_the_policy_names_does_not_count() {
    let mut scene = broken();
    approve(&mut scene, asked(), &["bob", "cy"]);
    let named = "  exceptions: {approvers: {principals: [\"token:bob\", \"token:dan\"]}, atLeast: 2, maxDuration: 14d}\n";
    scene.policy("prod", &policy(named));
    denied("cy is not named", &scene.ask("app"));
    scene.policy(
        "prod",
        &policy("  exceptions: {approvers: {roles: [auditor]}, atLeast: 1, maxDuration: 14d}\n"),
    );
    denied("no auditor approved", &scene.ask("app"));
    scene.policy("prod", &policy(""));
    denied("the policy allows none any more", &scene.ask("app"));
    scene.policy("prod", &policy(RULES));
    assert!(scene.ask("app").allowed);
}

#[test]
fn a_withdrawn_exception_and_one_that_a_revoked_token_approved_do_not_hold() {
    let mut scene = excepted(asked(), &["bob", "cy"]);
    scene.apply(&Entry::ExceptionWithdrawn(ExceptionWithdrawn {
        id: "exc-1".into(),
        digest: content("app"),
        reason: "mended".into(),
        by: "token:ann".into(),
    }));
    denied("withdrawn", &scene.ask("app"));
    let mut scene = excepted(asked(), &["bob", "cy"]);
    scene.token("bob", None);
    assert!(scene.ask("app").allowed);
    scene.apply(&Entry::TokenRevoked { id: "bob".into(), reason: "lost".into() });
    denied("revoked", &scene.ask("app"));
}

#[test]
fn p13_no_exception_from_damage_overflow_revocation_or_an_expired_policy() {
    let mut scene = excepted(asked(), &["bob", "cy"]);
    scene.evidence.damaged.insert(Sha256([9; 32]));
    denied("damaged evidence", &scene.ask("app"));

    let mut scene = excepted(asked(), &["bob", "cy"]);
    scene.evidence.truncated.insert(content("app").into());
    let verdict = scene.ask("app");
    assert_eq!(verdict.outcome, Outcome::Indeterminate);
    denied("a spent budget", &verdict);

    let mut scene = excepted(asked(), &["bob", "cy"]);
    scene.build(&["app"], |_| {});
    assert!(scene.ask("app").allowed && scene.ask("app").outcome == Outcome::Passed);
    scene.revoke("ci");
    denied("a revoked key", &scene.ask("app"));

    let mut scene = excepted(asked(), &["bob", "cy"]);
    scene.withdraw(Target::Artifact(content("app")), None);
    denied("a revoked image", &scene.ask("app"));

    let mut scene = excepted(asked(), &["bob", "cy"]);
    let expired = policy(RULES).replace("{name: prod}", "{name: prod, expires: 2026-11-20T10:20:00Z}");
    scene.policy("prod", &expired);
    denied("an expired policy", &scene.ask("app"));
}

#[test]
fn p13_an_exception_for_an_input_is_none_for_what_is_built_on_it() {
    let mut scene = Scene::golden();
    let inputs = format!("  inputs: [{{role: baseImage, chain: true, undeclared: deny}}]\n{RULES}");
    scene.policy("prod", &policy(&inputs));
    let resource = "registry.acme.test/base/os";
    scene.policy("base", &policy_named("base", resource, RULES));
    scene.manifest("os", "amd64", &["l1"]);
    scene
        .evidence
        .attestations
        .retain(|_, a| !matches!(a.fact.claim, catenary_evidence::predicate::Claim::Build(_)));
    scene.build(&["app"], |build| build.dependencies = vec![base("os", resource)]);
    let exception =
        Exception { digest: content("os"), resource: resource.into(), policy: "base".into(), ..asked() };
    approve(&mut scene, exception, &["bob", "cy"]);
    assert!(scene.ask_in("os", resource).allowed);
    denied("what is built on it", &scene.ask("app"));
}
