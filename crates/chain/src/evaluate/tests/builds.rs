//! How a build was done, who may say so, and rules that are only tried.

use catenary_evidence::predicate::{Build, CiRun, Claim};

use super::scene::*;
use crate::{policy::Policy, reason::Code::*, verdict::Verdict};

const RUN: &str = "https://ci.acme.test/runs/7";

/// The golden chain under another policy, with another build.
fn scene(document: &str, change: impl FnOnce(&mut Build)) -> Scene {
    let mut scene = Scene::empty();
    scene.policy("prod", document);
    scene.manifest("app", "amd64", &["l1"]);
    scene.commit("c1", |_| {});
    scene.build(&["app"], change);
    scene.push("app", APP);
    scene
}

fn ask(document: &str, change: impl FnOnce(&mut Build)) -> Verdict {
    scene(document, change).ask("app")
}

impl Scene {
    fn run(&mut self, by: &str, of: &str, invocation: &str, conclusion: &str) {
        let claim =
            CiRun { invocation: invocation.into(), conclusion: conclusion.into(), finished_on: Some(at(12)) };
        self.attest(12, &[by], vec![subject(of)], Claim::Run(claim));
    }
}

/// The golden policy, whose builds must have succeeded.
fn succeeded(trust: &str) -> String {
    let document = policy("  build: {run: {conclusion: [success, neutral]}}\n");
    document.replacen("  trust:\n", &format!("  trust:\n{trust}"), 1)
}

#[test]
fn a_build_of_a_run_that_failed_is_not_taken() {
    let with_run = |build: &mut Build| build.invocation = Some(RUN.into());
    let told = |by: &str, of: &str, invocation: &str, conclusion: &str| {
        let mut scene = scene(&succeeded(""), with_run);
        scene.run(by, of, invocation, conclusion);
        scene.ask("app")
    };
    check("success", &told("ci", "app", RUN, "success"), &[]);
    check("nothing told", &ask(&succeeded(""), with_run), &[BldRunUnknown]);
    check("no run", &ask(&succeeded(""), |_| {}), &[BldRunUnknown]);
    check("failure", &told("ci", "app", RUN, "failure"), &[BldRunFailed]);
    check("case", &told("ci", "app", RUN, "Success"), &[BldRunFailed]);
    check("another run", &told("ci", "app", "https://ci.acme.test/runs/71", "success"), &[BldRunUnknown]);
    check("another image", &told("ci", "other", RUN, "success"), &[BldRunUnknown]);
    let verdict = told("other", "app", RUN, "success");
    check("another signer", &verdict, &[BldRunUnknown]);
    assert_eq!(verdict.near_misses.len(), 1);
    assert!(verdict.errors().all(|reason| reason.retryable));
    // Both were told: the worse one counts.
    let mut both = scene(&succeeded(""), with_run);
    both.run("ci", "app", RUN, "success");
    assert!(both.ask("app").evidence().len() > 3, "the run is evidence too");
    both.run("ci", "app", RUN, "failure");
    check("both", &both.ask("app"), &[BldRunFailed]);
}

#[test]
fn who_may_tell_of_runs_can_be_named() {
    let named = succeeded(&format!("    runs: [{{id: hook, signer: {{key: \"{}\"}}}}]\n", key("vcs")));
    let with_run = |build: &mut Build| build.invocation = Some(RUN.into());
    let told = |by: &str, conclusion: &str| {
        let mut scene = scene(&named, with_run);
        scene.run(by, "app", RUN, conclusion);
        scene.ask("app")
    };
    check("the hook", &told("vcs", "success"), &[]);
    check("the builder of itself", &told("ci", "success"), &[BldRunUnknown]);
    check("a failure that nobody may tell", &told("ci", "failure"), &[BldRunUnknown]);
}

#[test]
fn a_build_must_have_had_no_network() {
    let hermetic = policy("  build: {hermetic: true}\n");
    check("nothing said", &ask(&hermetic, |_| {}), &[BldNotHermetic]);
    check("said", &ask(&hermetic, |build| build.hermetic = Some(true)), &[]);
    check("denied", &ask(&hermetic, |build| build.hermetic = Some(false)), &[BldNotHermetic]);
    let of_builder = hermetic.replace("{id: ci, ", "{id: ci, hermetic: true, ");
    check("the builder never has one", &ask(&of_builder, |_| {}), &[]);
    let denied = ask(&of_builder, |build| build.hermetic = Some(false));
    check("this once it had", &denied, &[BldNotHermetic]);
}

#[test]
fn provenance_must_leave_nothing_out() {
    let complete = policy("  build: {complete: {dependencies: true, parameters: true}}\n");
    let with = |dependencies: Option<bool>, params: Option<bool>| {
        ask(&complete, |build| (build.complete.dependencies, build.complete.params) = (dependencies, params))
    };
    check("all", &with(Some(true), Some(true)), &[]);
    check("nothing said", &with(None, None), &[BldIncompleteDeps, BldIncompleteParams]);
    check("parameters", &with(Some(true), Some(false)), &[BldIncompleteParams]);
    check("dependencies", &with(None, Some(true)), &[BldIncompleteDeps]);
}

#[test]
fn a_key_cannot_be_asked_for_a_time_or_a_log() {
    for evidence in ["timestamp: required", "tlog: required"] {
        let document = policy("").replace("{id: ci, ", &format!("{{id: ci, evidence: {{{evidence}}}, "));
        assert_eq!(Policy::parse(&document).unwrap_err().path, "spec.trust.builders[0].evidence");
    }
    let document = policy("").replace("{id: ci, ", "{id: ci, evidence: {timestamp: receivedAt}, ");
    check("our own log is enough", &ask(&document, |_| {}), &[]);
    // Of a group with identities one can be asked, and then its keys do not serve.
    let group = format!(
        "  trust:\n    groups: {{ci: {{keys: [\"{}\"], identities: [{{issuer: i, san: {{exact: s}}}}]}}}}\n",
        key("ci")
    );
    let document = policy("").replacen("  trust:\n", &group, 1);
    let document = document.replace(&format!("{{key: \"{}\"}}", key("ci")), "{group: ci}");
    check("a group", &ask(&document, |_| {}), &[]);
    let asked = |what: &str| document.replace("{id: ci, ", &format!("{{id: ci, evidence: {{{what}}}, "));
    check("no time", &ask(&asked("timestamp: required"), |_| {}), &[AttTimestampMissing]);
    check("no log", &ask(&asked("tlog: required"), |_| {}), &[AttTlogMissing]);
}

#[test]
fn signers_can_be_named_once_and_used_everywhere() {
    let (ci, vcs) = (key("ci"), key("vcs"));
    let groups =
        format!("  trust:\n    groups: {{ci: {{keys: [\"{ci}\"]}}, people: {{keys: [\"{vcs}\"]}}}}\n");
    let document = policy("").replacen("  trust:\n", &groups, 1);
    let document = document
        .replace(&format!("{{key: \"{ci}\"}}"), "{group: ci}")
        .replace(&format!("{{key: \"{vcs}\"}}"), "{group: people}");
    check("groups", &ask(&document, |_| {}), &[]);
    let mut other = scene(&document, |_| {});
    other.revoke("ci");
    check("a revoked member", &other.ask("app"), &[AttRevokedSigner]);
    for (from, to, path) in [
        ("{group: ci}", "{group: nobody}", "spec.trust.builders[0].signer.group"),
        ("{group: people}", "{group: poeple}", "spec.trust.sources[0].signer.group"),
        ("ci: {keys: [", "ci: {}, cj: {keys: [", "spec.trust.groups.ci"),
    ] {
        let error = Policy::parse(&document.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.path, path, "{error}");
    }
    let both = document.replacen("{group: ci}", &format!("{{group: ci, key: \"{ci}\"}}"), 1);
    assert!(Policy::parse(&both).is_err());
}

/// The golden policy with a mode in one section.
fn tried(section: &str, mode: &str) -> String {
    let golden = policy("  time: {maxArtifactAge: 90d}\n  inputs: [{role: baseImage, allow: [x]}]\n");
    let from = match section {
        "inputs" => "inputs: [{".to_owned(),
        section => format!("{section}: {{"),
    };
    golden.replacen(&from, &format!("{from}mode: {mode}, "), 1)
}

#[test]
fn a_rule_that_is_only_tried_breaks_nothing_and_is_said() {
    type Break = fn(&mut Build);
    let breaks: [(&str, Break, crate::Code); 5] = [
        ("build", |b| b.builder_id = "https://evil.test".into(), BldBuilderNotTrusted),
        ("build", |b| b.unknown_params.push("x".into()), BldParamUnexpected),
        ("source", |b| b.source.as_mut().unwrap().reference = None, SrcRefNotAllowed),
        ("inputs", |b| b.dependencies.push(base("base", "evil.test/base")), DepBaseNotAllowed),
        ("time", |b| b.started_on = Some(at(20)), TimFuture),
    ];
    for (section, change, code) in breaks {
        check(section, &ask(&tried(section, "enforce"), change), &[code]);
        for (mode, severity) in [("warn", "warning"), ("shadow", "info")] {
            let verdict = ask(&tried(section, mode), change);
            check(section, &verdict, &[]);
            let said = verdict.reasons.iter().find(|r| r.code == code).expect(section);
            assert_eq!(serde_json::to_value(said.severity).unwrap(), severity);
        }
        // Only its own section is tried.
        for other in ["build", "source", "inputs", "registry", "time"].iter().filter(|s| **s != section) {
            check(other, &ask(&tried(other, "shadow"), change), &[code]);
        }
    }
    let mut unseen = scene(&tried("registry", "warn"), |_| {});
    unseen.evidence.attestations.retain(|_, a| !matches!(a.fact.claim, Claim::Registry(_)));
    check("registry", &unseen.ask("app"), &[]);
    unseen.policy("prod", &tried("registry", "enforce"));
    check("registry", &unseen.ask("app"), &[RegNotObserved]);
}

#[test]
fn a_build_that_is_missing_proves_nothing_about_an_enforced_source() {
    let mut bare = Scene::empty();
    bare.policy("prod", &policy("  build: {mode: warn}\n"));
    bare.manifest("app", "amd64", &["l1"]);
    bare.push("app", APP);
    check("source is enforced", &bare.ask("app"), &[BldNoProvenance]);
    bare.build_by(&["other"], &["app"], |_| {});
    check("by others only", &bare.ask("app"), &[BldSignerNotTrusted]);
    let both = policy(
        "  build: {mode: warn}\n  source: {mode: shadow, repository: {uri: \"git+https://git.acme.test/acme/app\"}}\n",
    );
    bare.policy("prod", &both);
    let verdict = bare.ask("app");
    check("both are only tried", &verdict, &[]);
    assert!(verdict.levels.is_empty(), "what is not enforced has no level");
    assert_eq!(verdict.reasons[0].code, BldSignerNotTrusted);
}

#[test]
fn what_was_revoked_stays_revoked_under_a_rule_that_is_only_tried() {
    let mut scene = scene(&tried("source", "shadow"), |_| {});
    scene.withdraw(crate::control::Target::Commit(commit_id("c1")), None);
    check("the commit", &scene.ask("app"), &[SrcRevoked]);
}

/// The golden policy, which wants two builders that agree.
fn twice() -> String {
    policy("  build: {builders: {atLeast: 2, agreeOn: [source.commit]}}\n")
}

/// An index that ci built, of which every image is known.
fn indexes() -> Scene {
    let mut scene = Scene::empty();
    scene.policy("prod", &twice());
    scene.manifest("m1", "amd64", &["l1"]);
    scene.manifest("m2", "arm64", &["l2"]);
    scene.manifest("other", "arm64", &["l3"]);
    scene.index("asked", &[("m1", "amd64"), ("m2", "arm64")]);
    scene.commit("c1", |_| {});
    scene.build(&["asked"], |_| {});
    scene.push("asked", APP);
    scene
}

fn rebuilt(scene: &mut Scene, of: &str, change: impl FnOnce(&mut Build)) {
    scene.build_by(&["ci2"], &[of], |build| {
        build.builder_id = "https://ci2.acme.test".into();
        change(build);
    });
}

#[test]
fn chain24_a_rebuild_whose_images_are_the_same_counts() {
    let mut scene = indexes();
    check("one builder", &scene.ask("asked"), &[BldThreshold]);
    // Its index is another one: the images in another order, or what was said of the build beside them.
    scene.index("again", &[("m2", "arm64"), ("m1", "amd64")]);
    check("an index that nobody built", &scene.ask("asked"), &[BldThreshold]);
    rebuilt(&mut scene, "again", |_| {});
    let verdict = scene.ask("asked");
    check("two builders", &verdict, &[]);
    assert_eq!(verdict.properties, ["SLSA_BUILD_REPRODUCED"]);
    // The same operator twice is one.
    let mut same = indexes();
    same.index("again", &[("m2", "arm64"), ("m1", "amd64")]);
    same.build(&["again"], |_| {});
    check("one operator", &same.ask("asked"), &[BldThreshold]);
    assert!(same.ask("asked").properties.is_empty());
    // From another commit it is no rebuild.
    let mut other = indexes();
    other.index("again", &[("m2", "arm64"), ("m1", "amd64")]);
    rebuilt(&mut other, "again", |build| build.source.as_mut().unwrap().commit = Some(commit_id("c2")));
    other.commit("c2", |_| {});
    check("another commit", &other.ask("asked"), &[BldConflict, SrcAmbiguous]);
}

#[test]
fn a_rebuild_that_made_something_else_is_told() {
    let mut scene = indexes();
    scene.index("again", &[("m1", "amd64"), ("other", "arm64")]);
    check("an index that nobody built", &scene.ask("asked"), &[BldThreshold]);
    rebuilt(&mut scene, "again", |_| {});
    check("another image", &scene.ask("asked"), &[BldRebuildMismatch, BldThreshold]);
    let mut stranger = indexes();
    stranger.index("again", &[("m1", "amd64"), ("other", "arm64")]);
    stranger.build_by(&["other"], &["again"], |_| {});
    check("by a stranger", &stranger.ask("asked"), &[BldThreshold]);
    // Fewer platforms are not another result.
    let mut fewer = indexes();
    fewer.index("again", &[("m1", "amd64")]);
    rebuilt(&mut fewer, "again", |_| {});
    check("one platform", &fewer.ask("asked"), &[BldThreshold]);
}

#[test]
fn an_index_around_the_same_images_is_read_only_where_builders_must_agree() {
    let mut scene = indexes();
    scene.policy("prod", &policy(""));
    scene.index("again", &[("m2", "arm64"), ("m1", "amd64")]);
    scene.evidence.attestations.retain(|_, a| !matches!(a.fact.claim, Claim::Build(_)));
    rebuilt(&mut scene, "again", |_| {});
    check("one builder is enough, of this index", &scene.ask("asked"), &[BldNoProvenance]);
}

#[test]
fn a_policy_that_enforces_nothing_is_refused() {
    let document = |mode: &str| {
        policy(&format!(
            "  build: {{mode: {mode}}}\n  registry: {{mode: {mode}}}\n  source: {{mode: {mode}, repository: {{uri: \"https://git.acme.test/acme/app\"}}}}\n"
        ))
    };
    assert_eq!(Policy::parse(&document("warn")).unwrap_err().path, "spec");
    assert!(Policy::parse(&document("enforce")).is_ok());
}
