//! Reasons that tell a stranger what to mend, each from a chain in which one thing is wrong.

use catenary_evidence::{Identity, Signature, predicate::*, trust_root};
use jiff::Timestamp;

use super::{identities, scene::*};
use crate::{
    control::Entry,
    pin::Pin,
    reason::{Code, Code::*},
    verdict::{Outcome, Verdict},
};

const ISSUER: &str = "https://token.actions.githubusercontent.com";
const SHARED: &str = "https://github.com/acme/workflows/.github/workflows/oci.yml";

/// The golden chain, built by a reusable workflow at `at` for a rule with these members.
fn called(at: &str, san: &str, members: &str, level: u8, change: impl FnOnce(&mut Identity)) -> Scene {
    let signer = format!(r#"{{issuer: "{ISSUER}", san: {{prefix: "{san}"}}{members}}}"#);
    let rule =
        format!("      - {{id: gha, maxLevel: 3, signer: {signer}, builderId: {{equals: signer.san}}}}\n");
    let document = policy(&format!("  build: {{minLevel: {level}}}\n"));
    let mut scene = Scene::empty();
    scene.policy("prod", &document.replacen("    builders:\n", &format!("    builders:\n{rule}"), 1));
    scene.manifest("app", "amd64", &["l1", "l2"]);
    scene.commit("c1", |_| {});
    scene.push("app", APP);
    let name = format!("{SHARED}@{at}");
    let id = scene.build_by(&[], &["app"], |build| build.builder_id.clone_from(&name));
    let mut identity = identities::identity();
    identity.san = name;
    change(&mut identity);
    scene.statement(id).fact.signatures = vec![identities::signature(identity)];
    scene
}

fn asked(at: &str, san: &str, members: &str, level: u8, change: impl FnOnce(&mut Identity)) -> Verdict {
    called(at, san, members, level, change).ask("app")
}

#[test]
fn a_reusable_workflow_at_a_tag_reaches_level_3_and_at_a_branch_level_2() {
    check("at a tag", &asked("refs/tags/v1", SHARED, "", 3, |_| {}), &[]);
    check("at a commit", &asked(&"ab".repeat(20), SHARED, "", 3, |_| {}), &[]);
    let moving = asked("refs/heads/main", SHARED, "", 3, |_| {});
    check("at a branch", &moving, &[BldLevelTooLow, BldBuilderRefMutable]);
    check("a branch, where level 2 will do", &asked("refs/heads/main", SHARED, "", 2, |_| {}), &[]);
}

#[test]
fn a_repositorys_own_workflow_is_the_tenants_word() {
    let own = asked("refs/tags/v1", SHARED, "", 3, |identity| {
        identity.claims.source_repository_uri = Some("https://github.com/Acme/workflows".into());
    });
    assert!(own.errors().any(|r| r.code == BldLevelTooLow && r.message.contains("own workflow")), "{own:?}");
    let started = asked("refs/tags/v1", SHARED, "", 3, |identity| {
        identity.claims.build_config_uri = Some(identity.san.clone());
    });
    check("the workflow that was started itself", &started, &[BldLevelTooLow]);
    let beside = asked("refs/tags/v1", SHARED, "", 3, |identity| {
        identity.claims.source_repository_uri = Some("https://github.com/acme/work".into());
    });
    assert!(!beside.errors().any(|r| r.code == BldLevelTooLow), "a name that begins alike is another");
}

#[test]
fn c13_the_one_thing_that_keeps_a_signer_out_is_named() {
    let tags = format!("{SHARED}@refs/tags/v");
    check("the issuer", &asked("refs/tags/v1", &tags, "", 2, |i| i.issuer = None), &[BldIssuerMismatch]);
    let hosted = ", ext: {runnerEnvironment: github-hosted}";
    let own = |i: &mut Identity| i.claims.runner_environment = Some("self-hosted".into());
    check("the runner", &asked("refs/tags/v1", &tags, hosted, 2, own), &[BldSelfHosted]);
    check("the branch", &asked("refs/heads/v1", &tags, "", 2, |_| {}), &[BldBuilderRefMutable]);
    check("two things", &asked("refs/heads/v1", &tags, hosted, 2, own), &[BldSignerNotTrusted]);
    let near = asked("refs/heads/v1", &tags, "", 2, |_| {}).near_misses;
    assert_eq!(near.iter().map(|near| near.why).collect::<Vec<_>>(), [BldBuilderRefMutable]);
}

#[test]
fn a_repository_that_took_a_name_over_is_another() {
    let of = |id: &str| {
        let mut scene = called("refs/tags/v1", SHARED, ", pin: firstUse", 2, |identity| {
            identity.claims.source_repository_owner_id = Some("7".into());
        });
        scene.apply(&Entry::TrustPinned(Pin {
            repository: "https://git.acme.test/Acme/App".into(),
            repository_id: id.into(),
            owner_id: "7".into(),
        }));
        // The first stays.
        scene.apply(&Entry::TrustPinned(Pin {
            repository: "https://git.acme.test/acme/app".into(),
            repository_id: "4242".into(),
            owner_id: "7".into(),
        }));
        scene.ask("app")
    };
    check("its own", &of("4242"), &[]);
    check("somebody else's", &of("6666"), &[SrcRepoIdMismatch]);
    check("nobody's yet", &called("refs/tags/v1", SHARED, ", pin: firstUse", 2, |_| {}).ask("app"), &[]);
}

#[test]
fn a_root_that_nobody_renewed_decides_nothing() {
    let asked = |added: Option<Timestamp>, age: &str| {
        let mut scene = called("refs/tags/v1", SHARED, "", 2, |_| {});
        let document = scene.control.policies["prod"].document.replacen(
            "  trust:\n",
            &format!("  trust:\n    maxRootAge: {age}\n"),
            1,
        );
        scene.control.policies.clear();
        scene.policy("prod", &document);
        let authorities = trust_root::builtin_authorities(trust_root::SIGSTORE).unwrap().clone();
        scene.domain(trust_root::SIGSTORE, 1, authorities, added);
        scene.ask("app")
    };
    let fresh = asked(Some(at(0)), "1h");
    check("added an hour ago", &fresh, &[]);
    assert_eq!(fresh.valid_until, at(40), "what ends sooner ends it");
    check("added too long ago", &asked(Some(at(0)), "20m"), &[AttTrustrootStale]);
    check("nobody knows when", &asked(None, "20m"), &[AttTrustrootStale]);
}

#[test]
fn what_was_deleted_does_not_run_until_it_is_pushed_again() {
    let told = |minutes: &[(RegistryAction, i64)]| {
        let mut scene = Scene::golden();
        for (event, minute) in minutes {
            let claim = RegistryEvent {
                event: *event,
                resource: APP.into(),
                tag: None,
                previous: None,
                occurred_at: at(*minute),
                actor: None,
                promotion: None,
            };
            scene.attest(25, &["reg"], vec![subject("app")], Claim::Registry(claim));
        }
        scene.ask("app")
    };
    use RegistryAction::{Delete, Push};
    check("deleted", &told(&[(Delete, 22)]), &[RegDeleted]);
    check("deleted at the moment of its push", &told(&[(Delete, 20)]), &[RegDeleted]);
    check("pushed again", &told(&[(Delete, 22), (Push, 23)]), &[]);
    check("before it was pushed", &told(&[(Delete, 19)]), &[]);
}

#[test]
fn a_tag_that_moved_may_be_refused() {
    let told = |rule: &str| {
        let mut scene = Scene::golden();
        scene.policy("prod", &policy(&format!("  registry: {{movedTags: {rule}}}\n")));
        let claim = RegistryEvent {
            event: RegistryAction::Push,
            resource: APP.into(),
            tag: Some("v1".into()),
            previous: Some(content("older")),
            occurred_at: at(21),
            actor: None,
            promotion: None,
        };
        scene.attest(25, &["reg"], vec![subject("app")], Claim::Registry(claim));
        scene.ask("app")
    };
    check("allowed", &told("allow"), &[]);
    check("warned", &told("warn"), &[]);
    assert!(told("warn").reasons.iter().any(|reason| reason.code == RegTagMoved));
    check("refused", &told("deny"), &[RegTagMoved]);
}

#[test]
fn a_submodule_is_of_an_allowed_repository() {
    let told = |rule: &str| {
        let mut scene = Scene::empty();
        scene.policy("prod", &policy(&format!("  inputs: [{{role: submodule, {rule}}}]\n")));
        scene.manifest("app", "amd64", &["l1"]);
        scene.commit("c1", |_| {});
        scene.push("app", APP);
        scene.build(&["app"], |build| {
            build.dependencies.push(Dependency {
                role: Role::Submodule,
                uri: "git+https://git.acme.test/acme/lib".into(),
                nodes: vec![commit_id("lib").into()],
                resource: None,
            });
        });
        scene.ask("app")
    };
    check("allowed", &told("allow: [\"git+https://git.acme.test/acme/*\"]"), &[]);
    let refused = told("allow: [\"git+https://git.acme.test/other/*\"]");
    check("of another owner", &refused, &[SrcSubmoduleUntrusted]);
    assert!(refused.errors().all(|reason| reason.stage == "input"));
    check("no chain", &told("chain: true"), &[SrcSubmoduleUntrusted]);
}

#[test]
fn an_inputs_chain_may_have_to_be_of_a_level() {
    let told = |levels: &str| {
        let mut scene = Scene::empty();
        let inputs = format!("  inputs: [{{role: baseImage, chain: true{levels}}}]\n");
        scene.policy("prod", &policy(&inputs));
        scene.policy("base", &policy_named("base", "registry.acme.test/base/os", ""));
        for name in ["app", "os"] {
            scene.manifest(name, "amd64", &["l1"]);
        }
        scene.commit("c1", |_| {});
        scene.push("app", APP);
        scene.push("os", "registry.acme.test/base/os");
        scene.build(&["os"], |_| {});
        scene.build(&["app"], |b| b.dependencies.push(base("os", "registry.acme.test/base/os")));
        scene.ask("app")
    };
    check("any", &told(""), &[]);
    check("enough", &told(", levels: {SLSA_BUILD: 3}"), &[]);
    check("a track that nobody speaks of", &told(", levels: {SLSA_SOURCE: 2}"), &[DepLevelTooLow]);
    let document = policy("  inputs: [{role: baseImage, levels: {SLSA_BUILD: 3}}]\n");
    let refused = crate::policy::Policy::parse(&document).expect_err("no chain to have a level");
    assert_eq!(refused.path, "spec.inputs[0].levels");
}

#[test]
fn an_image_is_not_older_than_its_build() {
    let told = |order: &str| {
        let mut scene = Scene::golden();
        scene.policy("prod", &policy(order));
        scene.ask("app")
    };
    let says = |verdict: &Verdict| verdict.reasons.iter().any(|r| r.code == TimArtifactBeforeBuild);
    // Its bytes came at minute 5, and the build says that it began at minute 8.
    check("by itself a warning", &told(""), &[]);
    assert!(says(&told("")));
    check("asked for", &told("  time: {order: [build<artifact]}\n"), &[TimArtifactBeforeBuild]);
    check("within the skew", &told("  time: {skew: 180s, order: [build<artifact]}\n"), &[]);
    assert!(!says(&told("  time: {order: [source<build]}\n")));
}

#[test]
fn what_is_attested_beside_the_image_is_a_near_miss() {
    let near = |attested: &str| -> Vec<Code> {
        let mut scene = Scene::empty();
        scene.policy("prod", &policy(""));
        scene.manifest("app", "amd64", &["l1", "l2"]);
        scene.push("app", APP);
        scene.build(&[attested], |_| {});
        let verdict = scene.ask("app");
        assert_eq!(verdict.outcome, Outcome::Failed);
        assert!(verdict.errors().any(|reason| reason.code == BldNoProvenance));
        verdict.near_misses.iter().map(|near| near.why).collect()
    };
    assert_eq!(near("l2"), [AttSubjectMismatch], "a layer");
    assert_eq!(near("app config"), [AttSubjectMismatch], "the config");
    assert!(near("something else").is_empty());
}

#[test]
fn that_nothing_is_attested_is_said_with_what_is_asked_for() {
    let mut scene = Scene::empty();
    scene.policy("prod", &policy(""));
    scene.manifest("app", "amd64", &["l1"]);
    let verdict = scene.ask("app");
    let none = verdict.reasons.iter().find(|reason| reason.code == AttNone).unwrap();
    assert!(none.expected.to_string().contains("https://slsa.dev/provenance/v1"), "{none:?}");
    assert!(!none.is_error());
    let one = Signature::by_key(key("other"));
    let id = scene.build(&["app"], |_| {});
    scene.statement(id).fact.signatures = vec![one];
    assert!(!scene.ask("app").reasons.iter().any(|reason| reason.code == AttNone));
}
