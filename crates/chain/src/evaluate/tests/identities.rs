//! Chains signed with certificates: who may be named, when it must have signed, and what the certificate outranks.

use catenary_evidence::{
    Identity, Signature, Signer,
    predicate::{Adapter, Build, Claim},
    signer::{AuthorityKind, Claims, Logged, SanKind, Voucher},
    trust_root,
};
use jiff::Timestamp;

use super::scene::*;
use crate::{policy::Policy, reason::Code::*, verdict::Verdict};

const ISSUER: &str = "https://token.actions.githubusercontent.com";
const SAN: &str = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main";

/// The policy whose builder is a workflow; `signer` are more members of its signer.
fn document(signer: &str) -> String {
    let signer = format!(r#"{{issuer: "{ISSUER}", san: {{exact: "{SAN}"}}{signer}}}"#);
    let builder = format!(
        "      - {{id: gha, domain: github, maxLevel: 3, signer: {signer}, builderId: {{equals: signer.san}}}}\n"
    );
    policy("").replacen("    builders:\n", &format!("    builders:\n{builder}"), 1)
}

pub fn identity() -> Identity {
    Identity {
        domain: trust_root::SIGSTORE.into(),
        san_kind: SanKind::Uri,
        san: SAN.into(),
        issuer: Some(ISSUER.into()),
        claims: Claims {
            runner_environment: Some("github-hosted".into()),
            source_repository_uri: Some("https://git.acme.test/acme/app".into()),
            source_repository_id: Some("4242".into()),
            source_repository_digest: Some(commit_id("c1").to_hex()),
            source_repository_ref: Some("refs/heads/main".into()),
            build_trigger: Some("push".into()),
            ..Claims::default()
        },
    }
}

/// A signature at minute 9, vouched for by an authority of the public root.
pub fn signature(identity: Identity) -> Signature {
    let authorities = trust_root::builtin_authorities(trust_root::SIGSTORE).unwrap();
    let usable = authorities.iter().find(|((kind, _), windows)| {
        *kind == AuthorityKind::CertificateAuthority && windows.iter().any(|w| w.contains(at(9)))
    });
    let ((kind, authority), _) = usable.expect("an authority of that time");
    Signature {
        signer: Signer::Certificate(Box::new(identity)),
        signed_after: Some(at(8)),
        signed_before: Some(at(9)),
        expires: Some(at(18)),
        logged: Logged::Proof,
        vouchers: vec![Voucher { kind: *kind, authority: *authority, at: at(9) }],
        cosigned: Vec::new(),
    }
}

/// The golden chain with its build signed by `signature`.
fn ask(signer: &str, signature: Signature, change: impl FnOnce(&mut Build)) -> Verdict {
    signed_by(signer, signature, change).ask("app")
}

/// The same, after something happened.
pub fn ask_after(signer: &str, signature: Signature, happens: impl FnOnce(&mut Scene)) -> Verdict {
    let mut scene = signed_by(signer, signature, |_| {});
    happens(&mut scene);
    scene.ask("app")
}

fn signed_by(signer: &str, signature: Signature, change: impl FnOnce(&mut Build)) -> Scene {
    let mut scene = Scene::empty();
    scene.policy("prod", &document(signer));
    scene.manifest("app", "amd64", &["l1", "l2"]);
    scene.commit("c1", |_| {});
    scene.push("app", APP);
    let id = scene.build_by(&[], &["app"], |build| {
        build.builder_id = SAN.into();
        build.adapter = Some(Adapter::GithubWorkflow);
        change(build);
    });
    let logged = scene.statement(id);
    logged.fact.signatures = vec![signature];
    assert!(matches!(logged.fact.claim, Claim::Build(_)));
    scene
}

fn with(change: impl FnOnce(&mut Identity)) -> Signature {
    let mut identity = identity();
    change(&mut identity);
    signature(identity)
}

#[test]
fn a_workflow_that_the_policy_names_builds() {
    check("golden", &ask("", signature(identity()), |_| {}), &[]);
    check(
        "matchers",
        &ask(", root: sigstore, ext: {sourceRepositoryId: \"4242\"}", signature(identity()), |_| {}),
        &[],
    );
}

/// Two patterns of two domains that name one workflow, at whatever ref and in however many runs.
#[test]
fn one_workflow_is_one_builder_under_whatever_domains() {
    let wide = format!(
        "      - {{id: any, domain: elsewhere, maxLevel: 3, signer: {{issuer: \"{ISSUER}\", san: {{glob: \"https://github.com/acme/app/.github/workflows/*@**\"}}}}, builderId: {{equals: signer.san}}}}\n      - {{id: gha, "
    );
    let near =
        document("").replacen("san: {exact: ", "san: {glob: ", 1).replacen("@refs/heads/main", "@refs/**", 1);
    let both = near.replacen("      - {id: gha, ", &wide, 1);
    let both = both.replacen("minLevel: 2", "minLevel: 2, builders: {atLeast: 2, of: [gha, any]}", 1);
    let mut scene = signed_by("", signature(identity()), |_| {});
    scene.policy("prod", &both);
    check("one run", &scene.ask("app"), &[BldThreshold]);
    let other = SAN.replace("main", "next");
    for (minute, san) in [(1, SAN), (2, other.as_str())] {
        let id = scene.build_by(&[], &["app"], |build| {
            build.builder_id = san.into();
            build.adapter = Some(Adapter::GithubWorkflow);
            build.invocation = Some(format!("run {minute}"));
        });
        let signature = with(|identity| identity.san = san.into());
        scene.statement(id).fact.signatures = vec![signature];
        check(san, &scene.ask("app"), &[BldThreshold]);
    }
    let id = scene.build_by(&[], &["app"], |build| build.builder_id = SAN.replace("release", "rebuild"));
    let signature = with(|identity| identity.san = SAN.replace("release", "rebuild"));
    scene.statement(id).fact.signatures = vec![signature];
    check("a workflow that one of them names", &scene.ask("app"), &[]);
}

#[test]
fn a_workflow_may_have_to_be_in_a_transparency_log() {
    let document =
        document("").replacen("{id: gha, ", "{id: gha, evidence: {timestamp: required, tlog: required}, ", 1);
    check("with a proof", &ask_copies(&document, &[signature(identity())], |_| {}), &[]);
    let mut unlogged = signature(identity());
    unlogged.logged = Logged::No;
    check("with a timestamp only", &ask_copies(&document, &[unlogged], |_| {}), &[AttTlogMissing]);
}

#[test]
fn c13_right_san_and_wrong_issuer() {
    for issuer in [Some("https://gitlab.evil.test".to_owned()), None] {
        check("issuer", &ask("", with(|i| i.issuer = issuer.clone()), |_| {}), &[BldIssuerMismatch]);
    }
}

#[test]
fn c09_c11_c26_a_name_is_matched_from_end_to_end() {
    for (matcher, san) in [
        ("{regex: \"https://github.com/acme/app/.*\"}", "https://evil.test/?u=https://github.com/acme/app/x"),
        ("{regex: \"https://github\\\\.com/acme/app/.*\"}", "https://githubXcom/acme/app/x"),
        ("{glob: \"spiffe://acme.test/*\"}", "spiffe://acme.test.evil.test/ci"),
    ] {
        let signer = format!(r#"{{issuer: "{ISSUER}", san: {matcher}}}"#);
        let document =
            document("").replace(&format!(r#"{{issuer: "{ISSUER}", san: {{exact: "{SAN}"}}}}"#), &signer);
        let policy = Policy::parse(&document).unwrap();
        let rule = policy.identities().next().unwrap();
        let mut identity = identity();
        identity.san = san.into();
        assert!(!rule.names(&identity), "{matcher} {san}");
    }
}

#[test]
fn c15_an_extension_that_the_policy_asks_for_must_be_there_and_match() {
    let asks = ", ext: {sourceRepositoryId: \"4242\"}";
    for id in [Some("6666".to_owned()), None] {
        check(
            "id",
            &ask(asks, with(|i| i.claims.source_repository_id = id.clone()), |_| {}),
            &[BldSignerNotTrusted],
        );
    }
    let unknown = document(", ext: {repositoryId: \"4242\"}");
    assert!(Policy::parse(&unknown).unwrap_err().to_string().contains("repositoryId"));
}

#[test]
fn c21_a_reusable_workflow_for_a_foreign_caller() {
    let foreign = with(|i| {
        i.claims.source_repository_uri = Some("https://git.acme.test/globex/evil".into());
        i.claims.source_repository_id = Some("6666".into());
    });
    check("foreign", &ask("", foreign, |_| {}), &[BldCertPredicateMismatch]);
}

#[test]
fn the_certificate_and_the_provenance_must_agree() {
    let changes: [fn(&mut Identity); 5] = [
        |i| i.claims.source_repository_digest = Some("f".repeat(40)),
        |i| i.claims.source_repository_ref = Some("refs/heads/evil".into()),
        |i| i.claims.build_trigger = Some("pull_request_target".into()),
        |i| i.claims.source_repository_id = Some("6666".into()),
        |i| i.claims.source_repository_uri = Some("https://git.acme.test/acme/other".into()),
    ];
    for change in changes {
        check("differs", &ask("", with(change), |_| {}), &[BldCertPredicateMismatch]);
    }
}

#[test]
fn c24_a_self_hosted_runner_is_capped_whatever_the_provenance_says() {
    let hosted = with(|i| i.claims.runner_environment = Some("self-hosted".into()));
    let verdict = ask("", hosted.clone(), |_| {});
    assert_eq!(verdict.levels["SLSA_BUILD"], 2);
    let lie = ask("", hosted, |build| build.runner = Some("github-hosted".into()));
    check("a lie", &lie, &[BldCertPredicateMismatch]);
}

#[test]
fn s16_a_workflow_speaks_for_itself_only() {
    let verdict = ask("", signature(identity()), |build| build.builder_id = "https://ci.acme.test".into());
    check("another builder", &verdict, &[BldBuilderSignerPair]);
    let old = ask("", signature(identity()), |build| {
        build.builder_id = "https://github.com/actions/runner/github-hosted".into();
    });
    check("GitHub's first attestations", &old, &[]);
}

#[test]
fn a_certificate_without_a_trusted_time_counts_only_where_the_policy_says_so() {
    let mut untimed = signature(identity());
    untimed.signed_before = None;
    check("required", &ask("", untimed.clone(), |_| {}), &[BldSignerNotTrusted]);
    check("received while it was valid", &ask(", timestamp: received", untimed.clone(), |_| {}), &[]);
    untimed.expires = Some(at(9));
    check("received after", &ask(", timestamp: received", untimed.clone(), |_| {}), &[BldSignerNotTrusted]);
    check("optional", &ask(", timestamp: optional", untimed, |_| {}), &[]);
}

#[test]
fn a_time_that_is_later_than_its_receipt_is_not_believed() {
    let mut future = signature(identity());
    future.signed_before = Some(at(30));
    check("future", &ask("", future, |_| {}), &[BldSignerNotTrusted]);
}

#[test]
fn a_signature_counts_only_under_authorities_that_are_trusted_for_its_time() {
    let changes: [fn(&mut Signature); 3] = [
        |s| s.vouchers.clear(),
        |s| s.vouchers[0].authority = catenary_evidence::Sha256([7; 32]),
        |s| s.vouchers[0].at = Timestamp::UNIX_EPOCH,
    ];
    for change in changes {
        let mut changed = signature(identity());
        change(&mut changed);
        check("authority", &ask("", changed, |_| {}), &[BldSignerNotTrusted]);
    }
    let foreign = with(|i| i.domain = "globex".into());
    check("a domain that nobody added", &ask("", foreign, |_| {}), &[BldSignerNotTrusted]);
    check(
        "another root than asked for",
        &ask(", root: github", signature(identity()), |_| {}),
        &[BldSignerNotTrusted],
    );
}

/// The golden chain with its build signed by each of `copies`, all of one payload; more members of the policy.
fn ask_copies(policy: &str, copies: &[Signature], change: impl Fn(&mut Build)) -> Verdict {
    let mut scene = Scene::empty();
    scene.policy("prod", policy);
    scene.manifest("app", "amd64", &["l1", "l2"]);
    scene.commit("c1", |_| {});
    scene.push("app", APP);
    for (n, signature) in copies.iter().enumerate() {
        let id = scene.build_by(&[], &["app"], |build| {
            build.builder_id = SAN.into();
            build.adapter = Some(Adapter::GithubWorkflow);
            change(build);
        });
        let logged = scene.statement(id);
        logged.fact.id = catenary_evidence::Sha256([n as u8; 32]);
        logged.fact.signatures = vec![signature.clone()];
        if signature.signed_before.is_none() {
            logged.received_at = at(8);
        }
        let copy = scene.evidence.attestations.remove(&id).expect("it was added");
        scene.evidence.attestations.insert(copy.fact.id, copy);
    }
    scene.ask("app")
}

#[test]
fn a_copy_that_does_not_count_cannot_push_out_a_good_one() {
    let good = signature(identity());
    let changes: [fn(&mut Signature); 4] = [
        // An earlier time by an authority that nobody trusts.
        |s| {
            s.signed_before = Some(at(8));
            s.vouchers[0].authority = catenary_evidence::Sha256([7; 32]);
        },
        |s| s.vouchers.clear(),
        |s| s.signed_before = Some(at(30)),
        // Sent before the good one was stamped.
        |s| s.signed_before = None,
    ];
    for change in changes {
        let mut bad = good.clone();
        change(&mut bad);
        for copies in [[bad.clone(), good.clone()], [good.clone(), bad.clone()]] {
            check("a copy", &ask_copies(&document(""), &copies, |_| {}), &[]);
        }
    }
    let mut other = identity();
    other.claims.runner_environment = Some("self-hosted".into());
    let mut other = signature(other);
    other.signed_before = Some(at(8));
    let asks = document(", ext: {runnerEnvironment: github-hosted}");
    check("another run", &ask_copies(&asks, &[other, good], |_| {}), &[]);
}

#[test]
fn a_repository_id_that_only_the_certificate_names_is_compared_with_the_policy() {
    let unsaid = |build: &mut Build| build.source.as_mut().unwrap().repository_id = None;
    check("the same", &ask("", signature(identity()), unsaid), &[]);
    let taken_over = with(|i| i.claims.source_repository_id = Some("6666".into()));
    check("another", &ask("", taken_over, unsaid), &[SrcRepoIdMismatch]);
}

#[test]
fn c30_provenance_that_was_sent_late_is_as_old_as_its_signature() {
    let mut old = signature(identity());
    old.signed_before = Some(at(1));
    let undated = |build: &mut Build| (build.started_on, build.finished_on) = (None, None);
    let document = format!("{}  time: {{maxArtifactAge: 25m}}\n", document(""));
    let verdict = ask_copies(&document, &[old], undated);
    assert!(verdict.errors().any(|reason| reason.code == TimTooOld), "{:?}", told(&verdict));
}

#[test]
fn a_build_cannot_have_finished_after_its_signature_was_seen() {
    let verdict = ask("", signature(identity()), |build| build.finished_on = Some(at(12)));
    check("later than the stamp", &verdict, &[TimFuture]);
}

#[test]
fn what_started_the_build_may_be_known_from_the_certificate_only() {
    let triggers = document("").replacen("build: {minLevel: 2}", "build: {minLevel: 2, triggers: [push]}", 1);
    let unsaid = |build: &mut Build| build.trigger = None;
    check("push", &ask_copies(&triggers, &[signature(identity())], unsaid), &[]);
    let other = with(|i| i.claims.build_trigger = Some("pull_request_target".into()));
    check("a pull request", &ask_copies(&triggers, &[other], unsaid), &[BldTriggerNotAllowed]);
}

#[test]
fn a_name_that_is_not_the_workflow_speaks_for_nobody() {
    let other =
        with(|i| i.claims.build_signer_uri = Some("https://github.com/evil/x@refs/heads/main".into()));
    check("two names", &ask("", other, |_| {}), &[BldBuilderNotTrusted]);
}

#[test]
fn an_empty_list_of_identities_is_refused() {
    for identities in ["[]", "[{issuer: \"\", san: {exact: x}}]"] {
        let signatures = format!("signatures: {{commit: {{required: true, identities: {identities}}}}}, ");
        let document = document("").replacen("source: {", &format!("source: {{{signatures}"), 1);
        assert!(
            Policy::parse(&document)
                .unwrap_err()
                .path
                .starts_with("spec.source.signatures.commit.identities")
        );
    }
}
