//! One link broken at a time, each named after its attack.

use catenary_evidence::{
    digest::{Digest, Node, Sha256},
    object::Body,
    predicate::*,
    reference::ImageReference,
    statement::Subject,
};

use super::scene::*;
use crate::{
    policy::Policy,
    reason::Code::*,
    verdict::{LogView, Outcome, Question, Status},
};

#[test]
fn k01_the_golden_chain_passes() {
    let verdict = Scene::golden().ask("app");
    check("image <- push <- ci <- commit", &verdict, &[]);
    assert!(verdict.links.iter().all(|link| link.status == Status::Pass), "{:#?}", verdict.links);
    assert_eq!(verdict.levels["SLSA_BUILD"], 3);
    assert_eq!(verdict.evidence().len(), 3);
    assert_eq!(verdict.clone().seal(), verdict);
    assert!(verdict.near_misses.is_empty());
    assert_eq!(verdict.valid_until, at(40));
    let vsa = crate::vsa::statement(&verdict, "https://catenary.test");
    assert_eq!(vsa["predicate"]["verificationResult"], "PASSED");
    assert_eq!(vsa["predicate"]["resourceUri"], APP);
    assert_eq!(vsa["predicate"]["verifiedLevels"][0], "SLSA_BUILD_LEVEL_3");
    assert_eq!(vsa["predicate"]["inputAttestations"].as_array().unwrap().len(), 3);
}

#[test]
fn k02_the_third_subject_matches() {
    let mut scene = Scene::empty();
    scene.policy("prod", &policy(""));
    scene.commit("c1", |_| {});
    scene.build(&["a", "b", "app", "c", "d"], |_| {});
    scene.push("app", APP);
    check("third of five", &scene.ask("app"), &[]);
}

#[test]
fn k04_a_signature_before_the_key_was_rotated_counts() {
    let mut scene = Scene::golden();
    scene.trust("ci", None, Some(at(11)));
    check("received inside the window", &scene.ask("app"), &[]);
    scene.trust("ci", None, Some(at(10)));
    check("received at its end", &scene.ask("app"), &[BldSignerNotTrusted]);
}

#[test]
fn k08_an_index_whose_platforms_are_all_attested_passes() {
    let mut scene = two_platforms();
    scene.build(&["m1"], |_| {});
    scene.build(&["m2"], |_| {});
    check("both", &scene.ask("idx"), &[]);
}

fn two_platforms() -> Scene {
    let mut scene = Scene::empty();
    scene.policy("prod", &policy("  subject: {platforms: [linux/amd64, linux/arm64]}\n"));
    scene.manifest("m1", "amd64", &["l1"]);
    scene.manifest("m2", "arm64", &["l2"]);
    scene.index("idx", &[("m1", "amd64"), ("m2", "arm64")]);
    scene.commit("c1", |_| {});
    scene.push("idx", APP);
    scene
}

#[test]
fn k09_hostile_evidence_by_others_changes_nothing() {
    let mut scene = Scene::golden();
    let before = scene.ask("app");
    let evil = |b: &mut Build| b.source.as_mut().unwrap().commit = Some(commit_id("evil"));
    let id = scene.build_by(&["other"], &["app"], evil);
    scene.build_by(&[], &["app"], evil);
    let after = scene.ask("app");
    check("noise", &after, &[]);
    assert_eq!((after.links, after.valid_until), (before.links, before.valid_until));
    assert_eq!(after.near_misses.len(), 2);
    assert!(after.near_misses.iter().any(|m| m.attestation == id && m.why == BldSignerNotTrusted));
    assert!(after.near_misses.iter().any(|m| m.why == AttSignerUnknown));
}

#[test]
fn g01_a_missing_source_step_breaks_the_chain() {
    let mut scene = Scene::empty();
    scene.policy("prod", &policy(""));
    scene.build(&["app"], |_| {});
    scene.push("app", APP);
    check("no commit", &scene.ask("app"), &[SrcCommitUnknown]);
    scene.commit_by("other", "c1", |_| {});
    check("by others", &scene.ask("app"), &[SrcSignerNotTrusted]);
}

#[test]
fn g03_a_commit_of_another_repository_is_no_source() {
    let mut scene = Scene::empty();
    scene.policy("prod", &policy(""));
    scene.build(&["app"], |_| {});
    scene.push("app", APP);
    scene.commit("c1", |c| c.repository = "git+https://git.acme.test/acme/lib".into());
    check("splice", &scene.ask("app"), &[SrcRepoMismatch]);
    scene.commit("c1", |c| c.repository_id = Some("1".into()));
    check("re-created", &scene.ask("app"), &[SrcRepoIdMismatch]);
    scene.commit("c1", |c| c.reference = "refs/heads/evil".into());
    check("other branch", &scene.ask("app"), &[SrcRefNotAllowed]);
    scene.commit("c1", |_| {});
    check("and the right one", &scene.ask("app"), &[]);
}

#[test]
fn g04_a_commit_that_nobody_attests_is_no_source() {
    let mut scene = Scene::empty();
    scene.policy("prod", &policy(""));
    scene.commit("c1", |_| {});
    scene.push("app", APP);
    scene.build(&["app"], |b| b.source.as_mut().unwrap().commit = Some(commit_id("c2")));
    check("splice", &scene.ask("app"), &[SrcCommitUnknown]);
}

#[test]
fn g10_an_index_with_one_unattested_platform_is_not_covered() {
    let mut scene = two_platforms();
    scene.build(&["m1"], |_| {});
    check("arm64 is bare", &scene.ask("idx"), &[ArtPlatformUncovered]);
    check("trust does not flow up", &scene.ask("m2"), &[BldNoProvenance]);
    scene.build(&["idx"], |_| {});
    check("the index is attested", &scene.ask("idx"), &[]);
    check("trust flows down", &scene.ask("m2"), &[]);
}

#[test]
fn an_extra_platform_in_the_index_is_refused() {
    let mut scene = two_platforms();
    scene.manifest("m3", "s390x", &["l3"]);
    scene.index("wide", &[("m1", "amd64"), ("m2", "arm64"), ("m3", "s390x")]);
    scene.index("narrow", &[("m1", "amd64")]);
    for name in ["wide", "narrow"] {
        scene.build(&[name], |_| {});
        scene.push(name, APP);
    }
    check("extra", &scene.ask("wide"), &[ArtExtraPlatform]);
    check("missing", &scene.ask("narrow"), &[ArtPlatformMissing]);
}

fn with_base(of: &str) -> Scene {
    let mut scene = Scene::empty();
    scene.policy("prod", &policy("  inputs: [{role: baseImage, allow: [\"registry.acme.test/base/*\"], chain: true, undeclared: deny}]\n"));
    scene.policy("base", &policy_named("base", "registry.acme.test/base/*", ""));
    scene.manifest("os", "amd64", &["l1"]);
    scene.manifest("app", "amd64", &["l1", "l2"]);
    scene.commit("c1", |_| {});
    scene.build(&["os"], |_| {});
    scene.push("os", "registry.acme.test/base/os");
    scene.push("app", APP);
    let of = base(of, "registry.acme.test/base/os");
    scene.build(&["app"], move |b| b.dependencies.push(of));
    scene
}

#[test]
fn g16_a_replaced_base_image_breaks_the_chain() {
    check("the good base", &with_base("os").ask("app"), &[]);
    check("an unknown base", &with_base("evil").ask("app"), &[DepBaseUnknown]);
    let mut scene = with_base("evil");
    scene.manifest("evil", "amd64", &["l1"]);
    scene.push("evil", "registry.acme.test/base/os");
    check("a base without build", &scene.ask("app"), &[BldNoProvenance, DepBaseUntrusted]);
    let mut scene = with_base("os");
    scene.manifest("app2", "amd64", &["x1", "l2"]);
    scene.push("app2", APP);
    let of = base("os", "registry.acme.test/base/os");
    scene.build(&["app2"], |b| b.dependencies.push(of));
    check("layers of another base", &scene.ask("app2"), &[DepUndeclaredBase]);
}

#[test]
fn inputs_are_pinned_and_from_where_the_policy_says() {
    let mut scene = with_base("os");
    scene.evidence.attestations.retain(|_, a| {
        !a.fact.subject_nodes().contains(&content("app").into()) || !matches!(a.fact.claim, Claim::Build(_))
    });
    let unpinned = scene.clone();
    let mut pinless = base("os", "registry.acme.test/base/os");
    pinless.nodes.clear();
    let mut unpinned_scene = unpinned;
    unpinned_scene.build(&["app"], |b| b.dependencies.push(pinless));
    check("no digest", &unpinned_scene.ask("app"), &[DepUnpinned]);
    let elsewhere = base("os", "registry.evil.test/base/os");
    scene.build(&["app"], |b| b.dependencies.push(elsewhere));
    check("elsewhere", &scene.ask("app"), &[DepBaseNotAllowed]);
}

/// x0 <- x1 <- … each the base of the one before, all under one policy.
fn tower(n: usize, depth: u32, last: Option<usize>) -> Scene {
    let mut scene = Scene::empty();
    let extra = format!(
        "  source: {{repository: {{uri: \"{REPO}\"}}}}\n  inputs: [{{role: baseImage, chain: true, depth: {depth}}}]\n"
    );
    scene.policy("prod", &policy_named("prod", "**", &extra));
    scene.commit("c1", |_| {});
    for i in 0..n {
        let name = format!("x{i}");
        scene.manifest(&name, "amd64", &[]);
        scene.push(&name, APP);
        let next = if i + 1 < n { Some(i + 1) } else { last };
        scene.build(&[&name], |b| b.dependencies.extend(next.map(|j| base(&format!("x{j}"), APP))));
    }
    scene
}

#[test]
fn g18_a_cycle_proves_nothing() {
    check("itself", &tower(1, 8, Some(0)).ask("x0"), &[DepCycle]);
    check("A from B from A", &tower(2, 8, Some(0)).ask("x0"), &[DepCycle, DepBaseUntrusted]);
}

#[test]
fn g20_a_chain_ten_thousand_deep_ends_without_a_yes() {
    check("eight hops", &tower(9, 8, None).ask("x0"), &[]);
    check("nine hops", &tower(10, 8, None).ask("x0"), &[DepDepth, DepBaseUntrusted]);
    check("32 hops", &tower(33, 100_000, None).ask("x0"), &[]);
    for n in [34, 10_000] {
        let verdict = tower(n, 100_000, None).ask("x0");
        assert_eq!(verdict.outcome, Outcome::Indeterminate);
        assert_eq!(verdict.reasons[0].code, SysLimitExceeded);
        assert!(!verdict.allowed);
    }
}

#[test]
fn g20_what_lies_beyond_the_depth_is_never_read() {
    let read = |n: usize, depth: u32| {
        let question = Question {
            image: ImageReference { resource: APP.into(), digest: content("x0") },
            environment: Some("prod".into()),
            platform: None,
            context: Default::default(),
        };
        let log = LogView { size: 100, root: Sha256([7; 32]) };
        let gathered = tower(n, depth, None).gather(&question, log, at(30));
        assert!(!gathered.verdict.allowed);
        gathered.frontiers
    };
    let ten = read(10, 8);
    assert!(ten.len() <= 10 && ten.iter().sum::<usize>() <= 11, "a round trip for each image: {ten:?}");
    assert_eq!(read(2_000, 8), ten, "as much as for the first image that is too deep");
}

#[test]
fn a_diamond_is_worked_out_once_and_holds() {
    let mut scene = tower(5, 8, None);
    let both = [base("x3", APP), base("x4", APP)];
    scene.manifest("top", "amd64", &[]);
    scene.push("top", APP);
    scene.build(&["top"], |b| b.dependencies.extend(both));
    check("diamond", &scene.ask("top"), &[]);
}

#[test]
fn a_tower_of_diamonds_is_not_drawn_twice_as_large_on_every_floor() {
    let mut scene = tower(0, 32, None);
    for i in 0..20 {
        for side in ["l", "r"] {
            let name = format!("{side}{i}");
            scene.manifest(&name, "amd64", &[]);
            scene.push(&name, APP);
            let below = [base(&format!("l{}", i + 1), APP), base(&format!("r{}", i + 1), APP)];
            scene.build(&[&name], |b| b.dependencies.extend(below.into_iter().filter(|_| i < 19)));
        }
    }
    let verdict = scene.ask("l0");
    check("diamonds", &verdict, &[]);
    assert!(verdict.to_json_bytes().len() < 200_000);
}

#[test]
fn a_web_of_cycles_ends() {
    let mut scene = tower(0, 32, None);
    for i in 0..14 {
        let name = format!("w{i}");
        scene.manifest(&name, "amd64", &[]);
        scene.push(&name, APP);
        scene.build(&[&name], |b| b.dependencies.extend((0..14).map(|j| base(&format!("w{j}"), APP))));
    }
    assert_eq!(scene.ask("w0").outcome, Outcome::Indeterminate);
}

#[test]
fn g24_two_commits_for_one_digest_are_ambiguous() {
    let mut scene = Scene::golden();
    scene.commit("c2", |_| {});
    scene.build(&["app"], |b| b.source.as_mut().unwrap().commit = Some(commit_id("c2")));
    check("equivocation", &scene.ask("app"), &[SrcAmbiguous]);
}

#[test]
fn g32_no_common_digest_algorithm_is_no_link() {
    let mut scene = Scene::empty();
    scene.policy("prod", &policy(""));
    scene.commit("c1", |_| {});
    scene.push("app", APP);
    let mut other = subject("app");
    other.digests.content = vec![Digest::Sha512([0; 64]).recompute(b"app")];
    let golden = Scene::golden();
    let build =
        golden.evidence.attestations.values().find(|a| matches!(a.fact.claim, Claim::Build(_))).unwrap();
    scene.attest(10, &["ci"], vec![other], build.fact.claim.clone());
    check("sha512 only", &scene.ask("app"), &[BldNoProvenance]);
}

#[test]
fn a_true_sha256_with_a_forged_longer_digest_does_not_count() {
    let golden = Scene::golden();
    let build =
        golden.evidence.attestations.values().find(|a| matches!(a.fact.claim, Claim::Build(_))).unwrap();
    for longer in [Digest::Sha384([0; 48]), Digest::Sha512([0; 64])] {
        let with = |bytes: &[u8]| -> Vec<Subject> {
            let mut forged = subject("app");
            forged.digests.content.push(longer.recompute(bytes));
            vec![forged]
        };
        let mut scene = golden.without(build.fact.id);
        scene.attest(10, &["ci"], with(b"evil"), build.fact.claim.clone());
        let verdict = scene.ask("app");
        check("conflict", &verdict, &[BldNoProvenance]);
        assert_eq!(verdict.near_misses[0].why, AttDigestConflict);
        let mut scene = golden.without(build.fact.id);
        scene.attest(10, &["ci"], with(b"app"), build.fact.claim.clone());
        check("both true", &scene.ask("app"), &[]);
    }
}

#[track_caller]
fn broken_build(story: &str, extra: &str, change: impl FnOnce(&mut Build), codes: &[crate::Code]) {
    let mut scene = Scene::empty();
    scene.policy("prod", &policy(extra));
    scene.commit("c1", |_| {});
    scene.push("app", APP);
    scene.build(&["app"], change);
    check(story, &scene.ask("app"), codes);
}

#[test]
fn g34_another_source_uri_is_another_repository() {
    let other = |b: &mut Build| {
        b.source.as_mut().unwrap().repository = "git+https://git.acme.test/acme/app/../evil".into()
    };
    broken_build("uri trick", "", other, &[SrcRepoMismatch]);
}

#[test]
fn g36_without_evidence_of_our_own_nothing_passes() {
    let mut scene = Scene::empty();
    scene.policy("prod", &policy(""));
    check("nothing here", &scene.ask("app"), &[ArtUnknown]);
}

#[test]
fn a_verdict_says_which_stages_nobody_could_look_at() {
    let extra = "  inputs: [{role: baseImage, allow: [\"registry.acme.test/base/*\"]}]\n";
    let document = policy(extra);
    let parsed = Policy::parse(&document).unwrap();
    let mut scene = Scene::empty();
    scene.policy("prod", &document);
    let not_reached = |scene: &Scene| scene.ask("app").not_reached(parsed.spec());
    assert_eq!(not_reached(&scene), ["source", "build", "input", "registry", "time"], "nothing is known");
    scene.push("app", APP);
    scene.manifest("app", "amd64", &["l1"]);
    assert_eq!(not_reached(&scene), ["source", "input"], "no build names either");
    scene.build(&["app"], |_| {});
    assert_eq!(not_reached(&scene), [""; 0], "the commit is unknown, and the rest was looked at");
    scene.commit("c1", |_| {});
    check("whole", &scene.ask("app"), &[]);
    assert_eq!(not_reached(&scene), [""; 0]);
}

#[test]
fn p07_an_expired_policy_says_no() {
    let mut scene = Scene::golden();
    scene.policy("prod", &policy("").replace("{name: prod}", "{name: prod, expires: 2026-11-20T10:30:00Z}"));
    check("expired now", &scene.ask("app"), &[PolExpired]);
    let before = scene.ask_at("app", APP, at(29));
    check("a minute before", &before, &[]);
    assert_eq!(before.valid_until, at(30));
}

#[test]
fn p10_an_image_that_no_policy_selects_is_refused() {
    let scene = Scene::golden();
    check("replayed elsewhere", &scene.ask_in("app", "registry.acme.test/acme/other"), &[PolNoMatch]);
}

#[test]
fn p11_two_policies_of_one_priority_are_ambiguous() {
    let mut scene = Scene::golden();
    scene.policy("any", &policy_named("any", "**", ""));
    check("tie", &scene.ask("app"), &[PolAmbiguous]);
    scene.policy(
        "any",
        &policy_named("any", "**", "").replace("resources: [\"**\"]", "resources: [\"**\"], priority: -1"),
    );
    check("the strict one is higher", &scene.ask("app"), &[]);
}

#[test]
fn a_policy_that_cannot_be_read_stops_every_yes() {
    let mut scene = Scene::golden();
    scene.raw_policy("odd", "apiVersion: catenary/v9");
    check("unreadable", &scene.ask("app"), &[PolInvalid]);
}

/// The policy's repository under its new name, the evidence under the old one, with these ids in commit and build.
fn renamed(section: &str, commit: Option<&str>, build: Option<&str>) -> crate::Verdict {
    let mut scene = Scene::empty();
    let rules = format!("  source: {{repository: {{{section}}}, refs: [\"refs/heads/main\"]}}");
    scene.policy("prod", &policy(&rules));
    let old = "git+https://git.acme.test/acme/old";
    scene.commit("c1", |c| (c.repository, c.repository_id) = (old.into(), commit.map(str::to_owned)));
    scene.push("app", APP);
    scene.build(&["app"], |b| {
        let source = b.source.as_mut().unwrap();
        (source.repository, source.repository_id) = (old.into(), build.map(str::to_owned));
    });
    scene.ask("app")
}

#[test]
fn k06_a_renamed_repository_is_known_by_its_id() {
    let new = "uri: \"git+https://git.acme.test/acme/app\", id: \"4242\"";
    let both = format!("{new}, formerly: [\"https://git.acme.test/acme/old.git\"]");
    let (same, other) = (Some("4242"), Some("666"));
    check("the same id", &renamed(&both, same, same), &[]);
    // A build that names no id is of the commit that version control knows by its id.
    check("no id in the build", &renamed(&both, same, None), &[]);
    // Somebody else has the old name now, or nobody says whose it is.
    check("another id", &renamed(&both, other, other), &[SrcRepoIdMismatch]);
    check("another's build", &renamed(&both, same, other), &[SrcRepoIdMismatch]);
    check("another's commit", &renamed(&both, other, same), &[SrcRepoIdMismatch]);
    check("no id", &renamed(&both, None, None), &[SrcRepoIdMismatch]);
    // A policy that does not name the old name does not take it.
    check("another name", &renamed(new, same, same), &[SrcRepoMismatch]);
}

#[test]
fn a_former_name_without_an_id_is_refused() {
    let section =
        "  source: {repository: {uri: \"git+https://a.test/b\", formerly: [\"git+https://a.test/c\"]}}";
    let refused = crate::policy::Policy::parse(&policy(section)).unwrap_err();
    assert_eq!(refused.path, "spec.source.repository.formerly");
    assert!(refused.message.contains("`id`"), "{}", refused.message);
}

#[test]
fn s02_an_attestation_of_another_type_is_no_provenance() {
    let mut scene = Scene::empty();
    scene.policy("prod", &policy(""));
    scene.push("app", APP);
    scene.attest(10, &["ci"], vec![subject("app")], Claim::Other);
    check("a scan", &scene.ask("app"), &[BldNoProvenance]);
}

#[test]
fn s11_a_subject_stuffed_into_another_build_has_the_wrong_source() {
    let stuffed = |b: &mut Build| {
        b.source.as_mut().unwrap().repository = "git+https://git.acme.test/acme/devtool".into()
    };
    broken_build("dev tool", "", stuffed, &[SrcRepoMismatch]);
}

#[test]
fn s16_a_signer_speaks_only_for_its_builder() {
    broken_build("ci as ci2", "", |b| b.builder_id = "https://ci2.acme.test".into(), &[BldBuilderSignerPair]);
    broken_build("nobody", "", |b| b.builder_id = "https://x.test".into(), &[BldBuilderNotTrusted]);
}

#[test]
fn s17_an_unexpected_external_parameter_is_refused() {
    broken_build("script", "", |b| b.unknown_params.push("script".into()), &[BldParamUnexpected]);
    let allow = "  build: {params: {allow: {target: [release]}}}\n";
    broken_build(
        "debug",
        allow,
        |b| drop(b.params.insert("target".into(), "debug".into())),
        &[BldParamValue],
    );
    broken_build("release", allow, |b| drop(b.params.insert("target".into(), "release".into())), &[]);
}

#[test]
fn s19_a_build_without_source_is_refused() {
    broken_build("no source", "", |b| b.source = None, &[SrcMissing]);
}

#[test]
fn what_the_policy_wants_of_a_build_is_asked() {
    broken_build("type", "", |b| b.adapter = None, &[BldUnknownBuildtype]);
    broken_build(
        "level",
        "  build: {minLevel: 3}\n",
        |b| b.runner = Some("self-hosted".into()),
        &[BldLevelTooLow],
    );
    broken_build(
        "trigger",
        "  build: {triggers: [push]}\n",
        |b| b.trigger = Some("pull_request".into()),
        &[BldTriggerNotAllowed],
    );
    broken_build("future", "", |b| b.started_on = Some(at(13)), &[TimFuture]);
    broken_build("before", "", |b| b.started_on = Some(at(-2)), &[TimBuildBeforeSource]);
    broken_build("stale", "  time: {maxArtifactAge: 20m}\n", |_| {}, &[TimTooOld]);
    broken_build("fresh", "  time: {maxArtifactAge: 21m}\n", |_| {}, &[]);
}

#[test]
fn a_threshold_counts_domains() {
    let mut scene = Scene::golden();
    scene.policy("prod", &policy("  build: {builders: {atLeast: 2}}\n"));
    scene.build_by(&["ci"], &["app"], |b| b.invocation = Some("again".into()));
    check("twice the same", &scene.ask("app"), &[BldThreshold]);
    scene.build_by(&["ci2"], &["app"], |b| b.builder_id = "https://ci2.acme.test".into());
    check("another domain", &scene.ask("app"), &[]);
}

/// Both rules take whatever the first builder signs, under another domain each.
#[test]
fn one_build_is_one_however_many_rules_take_it() {
    let mut scene = Scene::golden();
    let both = policy("  build: {builders: {atLeast: 2}}\n");
    let both = both.replace(&key("ci2").to_string(), &key("ci").to_string());
    let both = both.replace("https://ci2.acme.test", "https://ci.acme.test");
    scene.policy("prod", &both);
    check("one statement", &scene.ask("app"), &[BldThreshold]);
    scene.build_by(&["ci"], &["app"], |b| b.invocation = Some("again".into()));
    check("two statements", &scene.ask("app"), &[BldThreshold]);
}

#[test]
fn a_revoked_key_stops_counting_at_once() {
    for (name, stage) in [("ci", "build"), ("vcs", "source"), ("reg", "registry")] {
        let mut scene = Scene::golden();
        scene.revoke(name);
        let verdict = scene.ask("app");
        check("revoked", &verdict, &[AttRevokedSigner]);
        assert_eq!(verdict.errors().next().unwrap().stage, stage);
        assert!(verdict.near_misses.iter().any(|near| near.why == AttRevokedSigner), "{name}");
    }
}

#[test]
fn a_review_is_of_this_revision_and_by_others() {
    let reviewed =
        "  source: {repository: {uri: \"git+https://git.acme.test/acme/app\"}, review: {atLeast: 1}}\n";
    let person = |name: &str| Actor { name: name.into(), id: None };
    type Approved<'a> = Option<(&'a str, &'a [&'a str])>;
    let cases: [(&str, Approved<'_>, &[crate::Code]); 5] = [
        ("by bob", Some(("c1", &["bob"])), &[]),
        ("none", None, &[SrcUnreviewed]),
        ("empty", Some(("c1", &[])), &[SrcUnreviewed]),
        ("stale", Some(("c0", &["bob"])), &[SrcReviewStale]),
        ("by ann herself", Some(("c1", &["ann", "ann"])), &[SrcSelfApproved]),
    ];
    for (story, review, codes) in cases {
        let mut scene = Scene::empty();
        scene.policy("prod", &policy(reviewed));
        scene.push("app", APP);
        scene.build(&["app"], |_| {});
        scene.commit("c1", |c| {
            c.review = review.map(|(revision, by)| Review {
                approved_revision: commit_id(revision),
                approvers: by.iter().map(|name| person(name)).collect(),
            });
        });
        check(story, &scene.ask("app"), codes);
    }
}

#[test]
fn a_commit_signature_is_by_a_listed_key() {
    let signed = "  source: {repository: {uri: \"git+https://git.acme.test/acme/app\"}, signatures: {commit: {required: true}}}\n";
    let mut scene = Scene::golden();
    scene.policy("prod", &policy(signed));
    check("no object", &scene.ask("app"), &[SrcCommitUnknown]);
    let mut unsigned = scene.clone();
    unsigned.signed_commit("c1", None);
    check("unsigned", &unsigned.ask("app"), &[SrcUnsignedCommit]);
    scene.signed_commit("c1", Some(key("vcs")));
    check("signed", &scene.ask("app"), &[]);
    scene.revoke("other");
    let mut stranger = Scene::golden();
    stranger.policy("prod", &policy(signed));
    stranger.signed_commit("c1", Some(key("stranger")));
    check("stranger", &stranger.ask("app"), &[SrcSignerNotTrusted]);
}

#[test]
fn the_registry_saw_it_on_the_way_here() {
    let base = Scene::golden();
    let push = base
        .evidence
        .attestations
        .values()
        .find(|a| matches!(a.fact.claim, Claim::Registry(_)))
        .unwrap()
        .fact
        .id;
    let mut scene = base.without(push);
    check("not seen", &scene.ask("app"), &[RegNotObserved]);
    scene.event("other", "app", APP, None);
    check("by others", &scene.ask("app"), &[RegPusherNotTrusted]);
    scene.push("app", "registry.acme.test/staging/app");
    check("elsewhere", &scene.ask("app"), &[RegWrongRepository]);
    let path = "  registry: {path: [\"registry.acme.test/staging/*\", \"registry.acme.test/acme/*\"]}\n";
    scene.policy("prod", &policy(path));
    check("not promoted", &scene.ask("app"), &[RegWrongRepository]);
    scene.push("app", APP);
    check("pushed past staging", &scene.ask("app"), &[RegPromotionGap]);
    scene.event("reg", "app", APP, Some("registry.acme.test/staging/other"));
    check("from nowhere", &scene.ask("app"), &[RegPromotionGap]);
    scene.event("reg", "app", APP, Some("registry.acme.test/staging/app"));
    check("promoted", &scene.ask("app"), &[]);
    let known = crate::known_resources(content("app"), &scene.control, &scene.evidence);
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [APP, "registry.acme.test/staging/app"]);
}

#[test]
fn a_push_before_the_build_is_out_of_order() {
    broken_build(
        "pushed first",
        "  time: {skew: 0s, order: [\"build<push\"]}\n",
        |b| {
            b.started_on = None;
            b.finished_on = None;
        },
        &[],
    );
    let mut scene = Scene::empty();
    scene.policy("prod", &policy(""));
    scene.commit("c1", |_| {});
    scene.push("app", APP);
    let golden = Scene::golden();
    let build =
        golden.evidence.attestations.values().find(|a| matches!(a.fact.claim, Claim::Build(_))).unwrap();
    let Claim::Build(mut claim) = build.fact.claim.clone() else { unreachable!() };
    (claim.started_on, claim.finished_on) = (Some(at(23)), Some(at(24)));
    scene.attest(25, &["ci"], vec![subject("app")], Claim::Build(claim));
    check("built later", &scene.ask("app"), &[TimPushBeforeBuild]);
}

#[test]
fn a_node_that_was_cut_short_is_undecided() {
    let mut scene = Scene::golden();
    scene.evidence.truncated.insert(Node::Content(content("app")));
    check("truncated", &scene.ask("app"), &[SysLimitExceeded]);
}

#[test]
fn damaged_evidence_counts_as_absent_and_is_named() {
    let mut scene = Scene::golden();
    let id = scene.build_by(&["other"], &["app"], |_| {});
    scene.evidence.damaged.insert(id);
    let verdict = scene.ask("app");
    check("noise is damaged", &verdict, &[]);
    assert!(verdict.reasons.iter().any(|r| r.code == SysIntegrityViolation && !r.is_error()));
    let ids: Vec<_> = scene.evidence.attestations.keys().copied().collect();
    scene.evidence.damaged.extend(ids);
    let verdict = scene.ask("app");
    assert_eq!(verdict.outcome, Outcome::Failed);
    assert!(verdict.errors().any(|r| r.code == SysIntegrityViolation));
}

#[test]
fn a_config_is_not_an_image() {
    let mut scene = Scene::golden();
    scene.push("app config", APP);
    scene.build(&["app config"], |_| {});
    check("config", &scene.ask("app config"), &[ArtKindUnsupported]);
    assert!(matches!(scene.evidence.objects[&content("app config").into()].fact.body, Body::Config(_)));
}
