//! What no longer counts, and since when (chain-model T5).

use catenary_evidence::{Signature, predicate::Claim, signer::AuthorityKind};

use super::{identities, scene::*};
use crate::{control::Target, reason::Code::*, revocation::IdentityPattern};

/// The golden chain; its build was received at minute 10.
fn revoked(target: Target, from: Option<i64>) -> crate::Verdict {
    let mut scene = Scene::golden();
    scene.withdraw(target, from.map(at));
    scene.ask("app")
}

#[test]
fn o02_of_a_leaked_key_what_we_received_before_stays_good() {
    let ci = || Target::Key(key("ci"));
    check("all", &revoked(ci(), None), &[AttRevokedSigner]);
    check("received after", &revoked(ci(), Some(9)), &[AttRevokedSigner]);
    check("at the very moment", &revoked(ci(), Some(10)), &[AttRevokedSigner]);
    check("received before", &revoked(ci(), Some(11)), &[]);
    check("another key", &revoked(Target::Key(key("ci2")), None), &[]);
}

#[test]
fn o02_a_claim_of_an_earlier_time_does_not_help() {
    let mut scene = Scene::golden();
    let build = scene.build(&["app"], |build| {
        build.started_on = Some(at(1));
        build.finished_on = Some(at(2));
        build.invocation = Some("backdated".into());
    });
    scene.evidence.attestations.retain(|id, a| *id == build || !matches!(a.fact.claim, Claim::Build(_)));
    scene.withdraw(Target::Key(key("ci")), Some(at(5)));
    check("received at 10", &scene.ask("app"), &[AttRevokedSigner]);
}

#[test]
fn a_revoked_builder_speaks_no_more_whoever_signs() {
    let builder = || Target::Builder("https://ci.acme.test".to_owned());
    check("all", &revoked(builder(), None), &[AttRevoked]);
    check("later ones only", &revoked(builder(), Some(11)), &[]);
    check("another", &revoked(Target::Builder("https://ci.acme.test/".to_owned()), None), &[]);
}

#[test]
fn a_revoked_statement_does_not_come_back_under_another_signature() {
    let mut scene = Scene::golden();
    let build = scene.build(&["app"], |_| {});
    let payload = scene.evidence.attestations[&build].fact.payload;
    let mut copy = (*scene.evidence.attestations[&build]).clone();
    copy.fact.id = catenary_evidence::Sha256([3; 32]);
    scene.evidence.attestations.insert(copy.fact.id, copy.into());
    scene.withdraw(Target::Attestation { id: build, payload: Some(payload) }, None);
    check("both copies", &scene.ask("app"), &[AttRevoked]);
}

#[test]
fn a_revoked_image_is_denied_as_itself_as_a_platform_and_as_an_input() {
    check("itself", &revoked(Target::Artifact(content("app")), None), &[ArtDenied]);
    check("its bytes were here before", &revoked(Target::Artifact(content("app")), Some(6)), &[]);
    check("they were not", &revoked(Target::Artifact(content("app")), Some(5)), &[ArtDenied]);

    let mut scene = Scene::golden();
    scene.manifest("other", "arm64", &["l1"]);
    scene.index("all", &[("app", "amd64"), ("other", "arm64")]);
    scene.build(&["all"], |_| {});
    scene.push("all", APP);
    check("before", &scene.ask("all"), &[]);
    let mut platform = scene.clone();
    platform.withdraw(Target::Artifact(content("other")), None);
    check("an index with a revoked platform", &platform.ask("all"), &[ArtDenied]);
    let mut index = scene.clone();
    index.withdraw(Target::Artifact(content("all")), None);
    index.push("other", APP);
    check("a platform that only the revoked index vouches for", &index.ask("other"), &[BldNoProvenance]);

    let mut scene = Scene::golden();
    scene.evidence.attestations.retain(|_, a| !matches!(a.fact.claim, Claim::Build(_)));
    scene.build(&["app"], |build| build.dependencies = vec![base("base", "registry.acme.test/base")]);
    check("before", &scene.ask("app"), &[]);
    scene.withdraw(Target::Artifact(content("base")), None);
    check("a base image that no rule is about", &scene.ask("app"), &[ArtDenied]);
}

#[test]
fn nothing_is_built_from_a_revoked_commit() {
    check("all", &revoked(Target::Commit(commit_id("c1")), None), &[SrcRevoked]);
    check("builds since then", &revoked(Target::Commit(commit_id("c1")), Some(10)), &[SrcRevoked]);
    check("builds before", &revoked(Target::Commit(commit_id("c1")), Some(11)), &[]);
    check("another", &revoked(Target::Commit(commit_id("c2")), None), &[]);
}

#[test]
fn a_revoked_identity_counts_for_what_it_provably_signed_before() {
    let pattern =
        |san: &str| IdentityPattern { issuer: None, san: serde_json::from_str(san).unwrap(), root: None };
    let workflow = || Target::Identity(pattern(r#"{"prefix": "https://github.com/acme/app/"}"#));
    // Signed at minute 9 as a timestamp authority says, received at 10.
    let ask = |target: Target, from: Option<i64>, change: fn(&mut Signature)| {
        let mut signature = identities::signature(identities::identity());
        change(&mut signature);
        identities::ask_after("", signature, |scene| scene.withdraw(target, from.map(at)))
    };
    check("all", &ask(workflow(), None, |_| {}), &[AttRevokedSigner]);
    check("at that moment", &ask(workflow(), Some(9), |_| {}), &[AttRevokedSigner]);
    check("before", &ask(workflow(), Some(10), |_| {}), &[]);
    let other = Target::Identity(pattern(r#"{"exact": "https://github.com/acme/app"}"#));
    check("another", &ask(other, None, |_| {}), &[]);
}

#[test]
fn a_revoked_authority_vouches_for_nothing_that_it_may_have_made_up() {
    let signature = identities::signature(identities::identity());
    let authority = signature.vouchers[0].authority;
    let ask = |kind: AuthorityKind, from: Option<i64>| {
        let mut signature = signature.clone();
        signature.vouchers[0].kind = kind;
        identities::ask_after("", signature, |scene| {
            scene.withdraw(Target::Authority(authority), from.map(at));
        })
    };
    let ca = AuthorityKind::CertificateAuthority;
    check("all", &ask(ca, None), &[AttRevokedSigner]);
    check("proven to be older", &ask(ca, Some(10)), &[]);
    check("not older", &ask(ca, Some(9)), &[AttRevokedSigner]);
}

#[test]
fn o02_a_trusted_authority_proves_that_a_key_signed_before_it_leaked() {
    let mut scene = Scene::golden();
    let stamped = identities::signature(identities::identity());
    let build = scene.build(&["app"], |_| {});
    let logged = scene.statement(build);
    // Received at minute 10; an authority of the public root says that it existed at minute 9.
    logged.fact.signatures[0].signed_before = Some(at(9));
    logged.fact.signatures[0].vouchers.clone_from(&stamped.vouchers);
    let from = |minute: i64| {
        let mut scene = scene.clone();
        scene.withdraw(Target::Key(key("ci")), Some(at(minute)));
        scene.ask("app")
    };
    check("leaked after", &from(10), &[]);
    check("leaked before", &from(9), &[AttRevokedSigner]);
    // An authority that nobody trusts proves nothing.
    let logged = scene.statement(build);
    logged.fact.signatures[0].vouchers[0].authority = catenary_evidence::Sha256([9; 32]);
    scene.withdraw(Target::Key(key("ci")), Some(at(10)));
    check("a stranger's word", &scene.ask("app"), &[AttRevokedSigner]);
}
