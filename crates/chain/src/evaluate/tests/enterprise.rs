//! The strict policy of an enterprise (chain-model 3.3) with one good chain, and the same chain with one thing wrong.
//!
//! Its builders sign with keys here; certificates have their own tests. It names no repository id, because no source summary
//! does, and the policy asks for properties that only summaries have.

use std::collections::BTreeMap;

use catenary_evidence::{
    Signature,
    object::{Body, GitCommit, GitSignature, GitTag},
    predicate::*,
    statement::{DigestSet, Subject},
};
use jiff::SignedDuration;

use super::{
    properties::{Says, finding, sbom, scan_of, test},
    scene::*,
};
use crate::{
    policy::Policy,
    reason::Code::{self, *},
    verdict::{Outcome, Verdict},
};

const STAGING: &str = "registry.acme.test/staging/app";
const BASE: &str = "registry.acme.test/base/debian";
const TAG: &str = "refs/tags/v1";
const RUN: &str = "https://ci.acme.test/runs/7";

fn document() -> String {
    let id = |name: &str| key(name).to_string();
    let denied = content("denied");
    let since = at(-60);
    let base_policy = content("base policy");
    format!(
        r#"
apiVersion: catenary/v1
kind: ChainPolicy
metadata: {{name: payments-prod, owner: sec-platform, expires: 2027-06-30T00:00:00Z}}
spec:
  mode: enforce
  onIndeterminate: deny
  match: {{resources: ["registry.acme.test/acme/*"], environments: [prod], priority: 100}}
  subject: {{kinds: [image-index, image-manifest], platforms: [linux/amd64, linux/arm64], extraPlatforms: deny}}
  trust:
    groups: {{release-managers: {{keys: ["{rm}"]}}}}
    builders:
      - {{id: hardened, domain: github, maxLevel: 3, signer: {{key: "{ci}"}}, builderId: {{exact: "https://ci.acme.test"}}, buildTypes: [generic], validFrom: 2026-01-01T00:00:00Z}}
      - {{id: rebuilder-onprem, domain: onprem, maxLevel: 3, signer: {{key: "{ci2}"}}, builderId: {{exact: "https://ci2.acme.test"}}, buildTypes: [generic]}}
    sources: [{{id: scs, maxLevel: 4, signer: {{key: "{vcs}"}}, verifierId: {{exact: "https://scs.acme.test"}}}}]
    registries: [{{id: harbor, signer: {{service: collector}}, repositories: ["registry.acme.test/**"]}}]
    runs: [{{id: hook, signer: {{key: "{hook}"}}}}]
    verifiers: [{{id: base-team, signer: {{key: "{base}"}}, verifierId: {{exact: "https://acme.test/base"}}, policies: ["{base_policy}"]}}]
  build:
    minLevel: 3
    builders: {{atLeast: 2, of: [hardened, rebuilder-onprem], distinct: domain, agreeOn: [source.commit]}}
    triggers: [push, release]
    run: {{conclusion: [success]}}
    hermetic: true
    complete: {{dependencies: true, parameters: true}}
    params:
      unknown: deny
      allow: {{"workflow.path": [release.yml]}}
      assert: [{{id: no-debug, expr: "!build.params.exists(k, k.startsWith('args.DEBUG'))", message: no debug builds}}]
  source:
    repository: {{uri: "{REPO}"}}
    refs: ["refs/heads/main", "refs/tags/v*"]
    reachableFrom: ["refs/heads/main"]
    minLevel: 3
    properties: [SLSA_SOURCE_TWO_PARTY_REVIEWED, ORG_SOURCE_STATIC_ANALYSIS]
    continuity: {{control: SLSA_SOURCE_SCS_CONTINUITY, since: "{since}"}}
    unique: true
    signatures: {{commit: {{required: false}}, tag: {{required: true, principals: release-managers, atLeast: 1}}}}
  inputs:
    - {{role: baseImage, allow: ["registry.acme.test/base/*"], via: {{vsa: base-team, levels: {{SLSA_BUILD: 3}}, maxAge: 30d}}, undeclared: deny}}
    - {{role: builderImage, allow: ["registry.acme.test/ci/*"]}}
    - {{role: generic, tolerate: true, pinned: required}}
  registry: {{path: ["registry.acme.test/staging/*", "registry.acme.test/acme/*"], promotedBy: [harbor], hops: same-digest}}
  require:
    - {{id: sbom, predicate: [spdx, cyclonedx], perPlatform: true, signer: {{anyOf: [hardened]}}}}
    - id: vulns
      predicate: [vulns]
      signer: {{key: "{scan}"}}
      maxAge: 24h
      assert: [{{id: no-critical, expr: "!att.claim.findings.list.exists(f, f.severity == 'critical')", message: critical vulnerabilities}}]
    - {{id: e2e, predicate: [test-result], subject: source, result: [PASSED], signer: {{key: "{scan}"}}}}
    - {{id: approval, predicate: ["https://acme.test/approval/v1"], atLeast: 1, signer: {{group: release-managers}}, maxAge: 72h}}
  time: {{maxArtifactAge: 90d, skew: 120s, order: [source<build, build<push]}}
  deny:
    - {{id: freeze, when: "ctx.environment == 'prod' && ctx.freeze && !ctx.breakGlass", message: change freeze}}
    - {{id: bad, digests: ["{denied}"]}}
"#,
        rm = id("rm"),
        ci = id("ci"),
        ci2 = id("ci2"),
        vcs = id("vcs"),
        hook = id("hook"),
        base = id("base"),
        scan = id("scan"),
    )
}

fn git(name: &str, refs: &[&str]) -> Vec<Subject> {
    let digests = DigestSet { git: vec![commit_id(name)], ..DigestSet::default() };
    let source_refs = refs.iter().map(|r| (*r).to_owned()).collect();
    vec![Subject { digests, source_refs, ..Subject::default() }]
}

/// The chain, with what `wrong` names gone wrong. Nothing is when it is empty.
fn scene(wrong: &str) -> Scene {
    let is = |name: &str| wrong == name;
    let mut scene = Scene::empty();
    for name in ["rm", "hook", "base", "scan"] {
        scene.trust(name, None, None);
    }
    scene.policy("payments-prod", &document());
    scene.context = [("freeze", "false"), ("breakGlass", "false")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    artifact(&mut scene, &is);
    source(&mut scene, &is);
    builds(&mut scene, &is);
    properties(&mut scene, &is);
    match wrong {
        "freeze" => {
            scene.context = [("freeze".into(), "true".into()), ("breakGlass".into(), "false".into())].into()
        }
        "context not given" => scene.context.clear(),
        "builder key revoked" => scene.revoke("ci2"),
        _ => {}
    }
    scene
}

fn artifact(scene: &mut Scene, is: &dyn Fn(&str) -> bool) {
    scene.manifest("m1", "amd64", &["l1"]);
    scene.manifest("m2", "arm64", &["l2"]);
    let mut images = vec![("m1", "amd64"), ("m2", "arm64")];
    if is("a platform more") {
        scene.manifest("m3", "s390x", &["l3"]);
        images.push(("m3", "s390x"));
    }
    if is("a platform less") {
        images.pop();
    }
    scene.index("app", &images);
    if !is("not in staging") {
        scene.event(if is("a stranger's registry") { "other" } else { "reg" }, "app", STAGING, None);
    }
    if !is("not promoted") {
        scene.event("reg", "app", APP, Some(STAGING));
    }
    let mut summary = Summary {
        verifier_id: "https://acme.test/base".into(),
        resource_uri: BASE.into(),
        policy_uri: None,
        policy_digest: Some(content("base policy")),
        passed: true,
        levels: BTreeMap::from([("BUILD".into(), if is("base of a low level") { 2 } else { 3 })]),
        repeated: Vec::new(),
        properties: Vec::new(),
        time_verified: Some(if is("base verified long ago") { at(-60 * 24 * 31) } else { at(1) }),
    };
    summary.passed = !is("base failed");
    scene.attest(3, &["base"], vec![subject("base")], Claim::Summary(summary));
}

fn source(scene: &mut Scene, is: &dyn Fn(&str) -> bool) {
    scene.commit("c1", |commit| {
        commit.reference = TAG.into();
        commit.previous = is("the tag moved").then(|| commit_id("c0"));
    });
    if !is("an imposter commit") {
        let merged = GitCommit {
            tree: commit_id("tree"),
            parents: vec![commit_id("c1")],
            author: String::new(),
            committer: String::new(),
            committed_at: None,
            signature: None,
        };
        scene.object("merge", Body::Commit(merged));
        scene.commit("merge", |_| {});
    }
    let properties = ["SLSA_SOURCE_TWO_PARTY_REVIEWED", "ORG_SOURCE_STATIC_ANALYSIS"];
    let properties = properties.iter().skip(usize::from(is("not reviewed"))).map(|p| (*p).to_owned());
    let summary = Summary {
        verifier_id: "https://scs.acme.test".into(),
        resource_uri: REPO.into(),
        policy_uri: None,
        policy_digest: None,
        passed: true,
        levels: BTreeMap::from([("SOURCE".into(), 3)]),
        repeated: Vec::new(),
        properties: properties.collect(),
        time_verified: None,
    };
    scene.attest(3, &["vcs"], git("c1", &[TAG]), Claim::Summary(summary));
    let since = if is("a gap in the controls") { at(-30) } else { at(-90) };
    let provenance = SourceProvenance {
        repository: Some(REPO.into()),
        activity: None,
        actor: None,
        reference: None,
        previous: None,
        created_on: None,
        controls: vec![Control { name: "SLSA_SOURCE_SCS_CONTINUITY".into(), since: Some(since) }],
    };
    scene.attest(3, &["vcs"], git("c1", &[]), Claim::SourceProvenance(provenance));
    let signer = if is("tag signed by a stranger") { "other" } else { "rm" };
    let verified = Some(Signature::by_key(key(signer)));
    let signature =
        (!is("tag not signed")).then(|| GitSignature { method: "ssh".into(), verified: verified.clone() });
    let tag = GitTag {
        name: "v1".into(),
        target: commit_id("c1"),
        target_kind: "commit".into(),
        tagger: None,
        signature,
    };
    scene.object("t1", Body::Tag(tag));
    let e2e = test(if is("tests failed") { "FAILED" } else { "PASSED" });
    scene.attest(21, &["scan"], git("c1", &[]), e2e);
}

fn builds(scene: &mut Scene, is: &dyn Fn(&str) -> bool) {
    let change = |build: &mut Build| {
        build.invocation = Some(RUN.into());
        build.hermetic = Some(!is("with a network"));
        build.complete = Complete {
            params: Some(!is("parameters left out")),
            dependencies: (!is("dependencies left out")).then_some(true),
        };
        let source = build.source.as_mut().unwrap();
        source.reference = Some(if is("from another branch") { "refs/heads/dev" } else { TAG }.into());
        if is("from a fork") {
            source.repository = "git+https://git.acme.test/evil/app".into();
        }
        build.params.insert(
            "workflow.path".into(),
            if is("another workflow") { "x.yml" } else { "release.yml" }.into(),
        );
        if is("a debug build") {
            build.params.insert("args.DEBUG".into(), "1".into());
        }
        if is("an unknown parameter") {
            build.unknown_params.push("evil".into());
        }
        if is("a pull request") {
            build.trigger = Some("pull_request".into());
        }
        if is("on somebody's own machine") {
            build.runner = Some("self-hosted".into());
        }
        if is("finished after it was told") {
            build.finished_on = Some(at(20));
        }
        if is("built long ago") {
            let long = SignedDuration::from_hours(24 * 100);
            (build.started_on, build.finished_on) = (Some(at(8) - long), Some(at(9) - long));
        }
        build.dependencies.push(base("base", if is("another base") { "evil.test/base" } else { BASE }));
        if is("an unpinned input") {
            let uri = "https://example.test/x.tar".into();
            let loose = Dependency { role: Role::Generic, uri, nodes: Vec::new(), resource: None };
            build.dependencies.push(loose);
        }
    };
    let by = if is("a stranger's build") { "other" } else { "ci" };
    scene.build_by(&[by], &["app"], change);
    if !is("one builder only") {
        scene.build_by(&["ci2"], &["app"], |build| {
            change(build);
            build.builder_id = if is("a builder of another signer") {
                "https://ci.acme.test"
            } else {
                "https://ci2.acme.test"
            }
            .into();
            if is("two commits") {
                build.source.as_mut().unwrap().commit = Some(commit_id("c2"));
            }
        });
    }
    if !is("run not told") {
        let conclusion = if is("run failed") { "failure" } else { "success" }.to_owned();
        let run = CiRun { invocation: RUN.into(), conclusion, finished_on: None };
        scene.attest(12, &["hook"], vec![subject("app")], Claim::Run(run));
    }
}

fn properties(scene: &mut Scene, is: &dyn Fn(&str) -> bool) {
    scene.says(20, &["ci"], "m1", sbom());
    if !is("a platform without SBOM") {
        let mut other = sbom();
        if let Claim::Sbom(sbom) = &mut other {
            sbom.components = 4;
        }
        scene.says(20, &["ci"], "m2", other);
    }
    let finished = if is("scanned yesterday") { at(-60 * 25) } else { at(21) };
    let severity = if is("a critical finding") { Severity::Critical } else { Severity::Low };
    let scan = scan_of(Some(finished), vec![finding("CVE-1", severity, "pkg:deb/debian/bash")]);
    scene.says(22, &["scan"], "app", scan);
    let by = if is("approved by a stranger") { "other" } else { "rm" };
    scene.says(23, &[by], "app", Claim::Other);
}

fn ask(wrong: &str) -> Verdict {
    scene(wrong).ask("app")
}

/// What goes wrong, and what must be said of it.
const WRONG: [(&str, Code); 42] = [
    ("a platform more", ArtExtraPlatform),
    ("a platform less", ArtPlatformMissing),
    ("not in staging", RegPromotionGap),
    ("a stranger's registry", RegPromotionGap),
    ("not promoted", RegWrongRepository),
    ("base of a low level", VsaLevelTooLow),
    ("base verified long ago", VsaStale),
    ("base failed", VsaFailed),
    ("another base", DepBaseNotAllowed),
    ("an unpinned input", DepUnpinned),
    ("the tag moved", SrcTagMoved),
    ("tag not signed", SrcTagUnsigned),
    ("tag signed by a stranger", SrcSignerNotTrusted),
    ("an imposter commit", SrcNotReachable),
    ("not reviewed", SrcPropertyMissing),
    ("a gap in the controls", SrcContinuityGap),
    ("from another branch", SrcRefNotAllowed),
    ("from a fork", SrcRepoMismatch),
    ("two commits", BldConflict),
    ("one builder only", BldThreshold),
    ("a stranger's build", BldThreshold),
    ("a builder of another signer", BldThreshold),
    ("builder key revoked", BldThreshold),
    ("run failed", BldRunFailed),
    ("run not told", BldRunUnknown),
    ("with a network", BldNotHermetic),
    ("dependencies left out", BldIncompleteDeps),
    ("parameters left out", BldIncompleteParams),
    ("another workflow", BldParamValue),
    ("a debug build", BldParamValue),
    ("an unknown parameter", BldParamUnexpected),
    ("a pull request", BldTriggerNotAllowed),
    ("on somebody's own machine", BldLevelTooLow),
    ("built long ago", TimTooOld),
    ("finished after it was told", TimFuture),
    ("a platform without SBOM", PrpSbomMissing),
    ("scanned yesterday", PrpStale),
    ("a critical finding", PrpFailed),
    ("tests failed", PrpFailed),
    ("approved by a stranger", PrpSignerNotTrusted),
    ("freeze", PolDenied),
    ("context not given", PolEvalError),
];

#[test]
fn the_strict_policy_of_an_enterprise_passes_its_good_chain() {
    let verdict = ask("");
    check("good", &verdict, &[]);
    assert_eq!(verdict.levels, BTreeMap::from([("SLSA_BUILD".into(), 3), ("SLSA_SOURCE".into(), 4)]));
    assert_eq!(verdict.properties, ["SLSA_BUILD_REPRODUCED"]);
}

#[test]
fn each_single_thing_that_is_wrong_fails_it_with_its_code() {
    let mut unexpected = Vec::new();
    for (wrong, code) in WRONG {
        let verdict = ask(wrong);
        let (outcome, codes) = told(&verdict);
        let failed = if code.is_indeterminate() { Outcome::Indeterminate } else { Outcome::Failed };
        if outcome != failed || verdict.allowed || !codes.contains(&code) {
            unexpected.push(format!("{wrong}: {outcome:?} with {codes:?}, not {code}"));
        }
    }
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}

#[test]
fn the_strict_policy_is_never_met_by_less() {
    let scene = scene("");
    for (id, statement) in &scene.evidence.attestations {
        // The source summary says of the tagged commit what the forge says, too.
        let twice = matches!(&statement.fact.claim, Claim::Commit(commit) if commit.reference == TAG);
        let passed = scene.without(*id).ask("app").outcome == Outcome::Passed;
        assert_eq!(passed, twice, "without {:?}", statement.fact.claim);
    }
    assert!(Policy::parse(&document()).is_ok());
}
