//! Predicates in their normal form, and what of them is refused.

use catenary_evidence::{
    Refusal,
    attestation::{Attestation, verify},
    limits::MAX_JUDGED,
    object::{Body, read},
    predicate::{Adapter, Build, Claim, Finding, RegistryAction, Role, Severity, VexProduct, VexStatus},
};
use catenary_testkit::{
    provenance::Form,
    time::NOON,
    world::{Signed, World},
};
use serde_json::{Value, json};

use crate::common::{COMMIT, IMAGE, Signer, bytes, envelope, provenance, public, ring, statement};

fn accept(statement: &Value) -> Result<Attestation, Refusal> {
    let signer = Signer::ed25519();
    verify(&envelope(&bytes(statement), &signer), &ring(&[&signer]))
}

fn build(statement: &Value) -> Build {
    match accept(statement).unwrap().claim {
        Claim::Build(build) => build,
        other => panic!("not a build: {other:?}"),
    }
}

#[test]
fn k01_the_golden_world_is_verified_evidence() {
    let world = World::golden_with_base_chain(1, NOON);
    let keys = [&world.k_vcs, &world.k_ci, &world.k_reg, &world.k_dev].into_iter().map(public).collect();
    for envelope in world.envelopes() {
        let attestation = verify(&envelope.to_bytes(), &keys).unwrap();
        assert_eq!(attestation.keys().len(), 1);
        assert_ne!(attestation.claim, Claim::Other);
    }
    for blob in world.objects() {
        let object = read(&blob.media_type, &blob.bytes, &keys, None).unwrap();
        if let Body::Commit(commit) = object.body {
            assert_eq!(commit.signature.unwrap().key().unwrap().to_string(), world.k_dev.id());
        }
    }
    let Claim::Build(build) = verify(&world.build_envelope().to_bytes(), &keys).unwrap().claim else {
        panic!()
    };
    assert_eq!((build.adapter, build.trigger.as_deref()), (Some(Adapter::Generic), Some("push")));
    assert_eq!(build.source.unwrap().commit.unwrap().to_hex(), world.commit.oid());
    assert_eq!(build.unknown_params, [""; 0]);
    assert_eq!(build.dependencies.len(), 1, "the source is no dependency");
    assert_eq!(build.dependencies[0].role, Role::BaseImage);
    assert_eq!(build.dependencies[0].nodes[0].to_string(), world.base.digest());
    assert!(build.dependencies[0].resource.is_some());
}

#[test]
fn three_build_types_have_one_normal_form() {
    for (form, adapter) in [
        (Form::Generic, Adapter::Generic),
        (Form::GithubWorkflow, Adapter::GithubWorkflow),
        (Form::SlsaGithubGenerator, Adapter::SlsaGithubGenerator),
    ] {
        let world = World::golden(1, NOON);
        let Signed { mut body, signer } = world.build;
        body.form = form;
        let keys = [public(&signer)].into_iter().collect();
        let item = body.statement().signed_by(&signer).to_bytes();
        let Claim::Build(build) = verify(&item, &keys).unwrap().claim else { panic!() };
        assert_eq!(build.adapter, Some(adapter));
        assert_eq!(build.unknown_params, [""; 0], "{form:?}");
        assert_eq!(build.trigger.as_deref(), Some("push"), "{form:?}");
        let source = build.source.unwrap();
        assert_eq!(source.commit.unwrap().to_hex(), world.commit.oid(), "{form:?}");
        assert_eq!(source.reference.as_deref(), Some("refs/heads/main"), "{form:?}");
        assert_eq!(source.repository, body.source_uri, "{form:?}");
        assert!(build.started_on.is_some() && build.finished_on.is_some(), "{form:?}");
    }
}

#[test]
fn every_github_workflow_uri_has_the_adapter() {
    for uri in [
        "https://actions.github.io/buildtypes/workflow/v1",
        "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1",
        "https://github.com/actions/buildtypes/workflow/v1",
    ] {
        let build = build(&statement(
            "https://slsa.dev/provenance/v1",
            json!({
                "buildDefinition": {
                    "buildType": uri,
                    "externalParameters": {
                        "workflow": {"ref": "refs/heads/main", "repository": "https://github.com/Acme/app", "path": ".github/workflows/x.yml"},
                        "inputs": {"debug": true}},
                    "internalParameters": {"github": {"event_name": "push", "repository_id": "763287532", "runner_environment": "github-hosted"}},
                    "resolvedDependencies": [{"uri": "git+https://github.com/acme/app@refs/heads/main", "digest": {"gitCommit": COMMIT}}]},
                "runDetails": {"builder": {"id": "https://github.com/actions/runner"}}}),
        ));
        let source = build.source.unwrap();
        assert_eq!(source.repository, "git+https://github.com/acme/app");
        assert_eq!(source.repository_id.as_deref(), Some("763287532"));
        assert_eq!(source.commit.unwrap().to_hex(), COMMIT);
        assert_eq!(build.runner.as_deref(), Some("github-hosted"));
        assert_eq!(build.params["inputs.debug"], "true");
        assert_eq!(build.unknown_params, [""; 0]);
    }
}

#[test]
fn s15_a_v1_predicate_type_with_a_v02_body_is_refused_and_the_reverse() {
    let v02 = json!({"builder": {"id": "https://ci.acme.test"}, "buildType": "x", "materials": []});
    let refusal = accept(&statement("https://slsa.dev/provenance/v1", v02.clone())).unwrap_err();
    assert_eq!((refusal.code(), refusal.pointer()), ("PREDICATE_INVALID", Some("/predicate")));
    assert!(accept(&statement("https://slsa.dev/provenance/v0.2", v02)).is_ok());
    let v1 = provenance()["predicate"].clone();
    assert_eq!(
        accept(&statement("https://slsa.dev/provenance/v0.2", v1)).unwrap_err().code(),
        "PREDICATE_INVALID"
    );
}

#[test]
fn s03_a_predicate_of_the_wrong_shape_is_refused_with_its_place() {
    for (pointer, value) in [
        ("/predicate/runDetails/builder/id", json!(7)),
        ("/predicate/runDetails/builder/id", json!("")),
        ("/predicate/buildDefinition/externalParameters", json!([])),
        ("/predicate/runDetails/metadata/startedOn", json!("yesterday")),
        ("/predicate/buildDefinition/resolvedDependencies/0/digest/gitCommit", json!("abc")),
    ] {
        let mut statement = provenance();
        *statement.pointer_mut(pointer).unwrap() = value;
        let refusal = accept(&statement).unwrap_err();
        assert_eq!(refusal.pointer(), Some(pointer), "{refusal}");
    }
    let mut absent = provenance();
    absent.as_object_mut().unwrap().remove("predicate");
    assert_eq!(accept(&absent).unwrap_err().code(), "PREDICATE_INVALID");
}

#[test]
fn s17_parameters_that_the_build_type_does_not_define_are_named() {
    let mut statement = provenance();
    let external = statement.pointer_mut("/predicate/buildDefinition/externalParameters").unwrap();
    external["script"] = json!("curl | sh");
    external["a.b"] = json!({"c": [1, {"d": null}], "e": {}});
    external["source"]["depth"] = json!(1);
    let build = build(&statement);
    assert_eq!(build.unknown_params, ["a\\.b.c.0", "a\\.b.c.1.d", "a\\.b.e", "script", "source.depth"]);
    assert_eq!(build.params["script"], "curl | sh");
    assert_eq!(build.params["a\\.b.e"], "{}");
    assert_eq!(build.params["target"], "release");
}

#[test]
fn s19_a_build_without_its_source_among_the_resolved_dependencies_has_no_commit() {
    let dependencies = "/predicate/buildDefinition/resolvedDependencies";
    let source = |change: &dyn Fn(&mut Value)| {
        let mut statement = provenance();
        change(&mut statement);
        build(&statement).source.unwrap()
    };
    assert_eq!(source(&|_| {}).commit.unwrap().to_hex(), COMMIT);
    let removed = source(&|s| {
        s.pointer_mut(dependencies).unwrap().as_array_mut().unwrap().remove(0);
        s.pointer_mut("/predicate/buildDefinition/externalParameters/source").unwrap()["commit"] =
            json!(COMMIT);
    });
    assert_eq!(removed.commit, None, "a request is not what was built");
    let disagrees = source(&|s| {
        s.pointer_mut("/predicate/buildDefinition/externalParameters/source").unwrap()["commit"] =
            json!("ab".repeat(20));
    });
    assert_eq!(disagrees.commit, None);
    let twice = source(&|s| {
        s.pointer_mut(dependencies).unwrap().as_array_mut().unwrap().push(
            json!({"uri": "git+https://git.acme.test/acme/app@refs/heads/main", "digest": {"gitCommit": "ab".repeat(20)}}),
        );
    });
    assert_eq!(twice.commit, None, "two commits of one repository are no answer");
    let other_ref = source(&|s| {
        s.pointer_mut(dependencies).unwrap()[0]["uri"] =
            json!("git+https://git.acme.test/acme/app@refs/heads/evil");
    });
    assert_eq!(other_ref.commit, None);
}

#[test]
fn g34_a_source_uri_trick_stays_what_it_is() {
    for uri in [
        "git+https://git.acme.test/acme/app/../evil",
        "git+https://git.acme.test/acme%2Fapp",
        "git+https://user@git.acme.test/acme/app",
        "git+https://git.acme.test:443/acme/app",
        "git+https://git.acme.test/acme/app.git.git",
    ] {
        let mut statement = provenance();
        let source =
            statement.pointer_mut("/predicate/buildDefinition/externalParameters/source/uri").unwrap();
        *source = json!(uri);
        assert_eq!(build(&statement).source.unwrap().repository, uri);
    }
}

#[test]
fn a_build_type_without_adapter_has_no_source_and_only_unknown_parameters() {
    let mut statement = provenance();
    *statement.pointer_mut("/predicate/buildDefinition/buildType").unwrap() =
        json!("https://example.com/mine");
    let build = build(&statement);
    assert_eq!((build.adapter, build.source, build.trigger), (None, None, None));
    assert_eq!(build.unknown_params.len(), build.params.len());
    assert_eq!(build.dependencies.len(), 2);
}

#[test]
fn sha1_is_a_commit_only_where_the_uri_is_a_git_repository() {
    let mut statement = provenance();
    *statement.pointer_mut("/predicate/buildDefinition/resolvedDependencies").unwrap() = json!([
        {"uri": "git+https://git.acme.test/acme/app@refs/heads/main", "digest": {"sha1": COMMIT}},
        {"uri": "git+https://git.acme.test/acme/lib", "name": "submodule", "digest": {"sha1": COMMIT}},
        {"uri": "https://example.com/x.tgz", "digest": {"sha1": COMMIT}}]);
    let build = build(&statement);
    assert_eq!(build.source.unwrap().commit.unwrap().to_hex(), COMMIT);
    let nodes: Vec<_> = build.dependencies.iter().map(|d| (d.role, d.nodes.len())).collect();
    assert_eq!(nodes, [(Role::Submodule, 1), (Role::Generic, 0)]);
}

#[test]
fn dependencies_are_limited_at_4096_and_parameters_at_1024() {
    use catenary_evidence::limits::{MAX_DEPENDENCIES, MAX_PARAMS};
    let with = |dependencies: usize, params: usize| {
        let mut statement = provenance();
        let one = json!({"uri": "x"});
        *statement.pointer_mut("/predicate/buildDefinition/resolvedDependencies").unwrap() =
            vec![one; dependencies].into();
        let params: serde_json::Map<_, _> = (0..params).map(|i| (format!("p{i}"), json!(i))).collect();
        *statement.pointer_mut("/predicate/buildDefinition/externalParameters").unwrap() = params.into();
        accept(&statement).map(|_| ())
    };
    assert_eq!(with(MAX_DEPENDENCIES, MAX_PARAMS), Ok(()));
    assert!(matches!(with(MAX_DEPENDENCIES + 1, 0), Err(Refusal::TooMany { .. })));
    assert!(matches!(with(0, MAX_PARAMS + 1), Err(Refusal::TooMany { .. })));
}

fn commit_statement() -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"gitCommit": COMMIT}}],
        "predicateType": "urn:catenary:predicate:commit:v1",
        "predicate": {
            "repository": {"uri": "https://git.acme.test/acme/app.git", "id": "4242"},
            "ref": "refs/heads/main", "previous": COMMIT, "updatedAt": "2026-11-20T09:00:00Z",
            "actor": {"name": "dev", "id": "1"},
            "review": {"approvedRevision": COMMIT, "approvers": [{"name": "ann", "id": 2}, {"name": "bob"}]},
            "signature": {"method": "ssh", "principal": "dev@acme.test", "keyId": format!("sha256:{IMAGE}")}}})
}

#[test]
fn a_commit_statement_says_who_moved_which_ref() {
    let Claim::Commit(commit) = accept(&commit_statement()).unwrap().claim else { panic!() };
    assert_eq!(commit.repository, "git+https://git.acme.test/acme/app");
    assert_eq!(commit.repository_id.as_deref(), Some("4242"));
    assert_eq!(commit.review.unwrap().approvers[0].id.as_deref(), Some("2"));
    let facts = accept(&commit_statement()).unwrap();
    let stored = serde_json::to_string(&facts).unwrap();
    assert_eq!(
        serde_json::from_str::<Attestation>(&stored).unwrap(),
        facts,
        "the store reads back what was verified"
    );
}

#[test]
fn our_own_predicates_refuse_what_they_do_not_define() {
    for (member, value) in [
        ("/predicate/verified", json!(true)),
        ("/predicate/repository/trust", json!(true)),
        ("/predicate/actor/admin", json!(true)),
        ("/predicate/review/stale", json!(false)),
        ("/predicate/signature/valid", json!(true)),
    ] {
        let mut statement = commit_statement();
        let (parent, name) = member.rsplit_once('/').unwrap();
        statement.pointer_mut(parent).unwrap()[name] = value;
        let refusal = accept(&statement).unwrap_err();
        assert_eq!((refusal.code(), refusal.pointer()), ("PREDICATE_INVALID", Some(member)));
    }
    for (pointer, value) in [
        ("/predicate/repository/uri", json!("https://git.acme.test/acme/../evil")),
        ("/predicate/ref", json!("main")),
        ("/predicate/updatedAt", json!("now")),
        ("/predicate/previous", json!("0".repeat(40))),
        ("/predicate/review/approvedRevision", json!("HEAD")),
    ] {
        let mut statement = commit_statement();
        *statement.pointer_mut(pointer).unwrap() = value;
        assert_eq!(accept(&statement).unwrap_err().pointer(), Some(pointer));
    }
    let mut image = commit_statement();
    image["subject"][0]["digest"] = json!({"sha256": IMAGE});
    assert_eq!(accept(&image).unwrap_err().pointer(), Some("/subject/0/digest"));
}

#[test]
fn a_registry_event_is_a_push_or_a_promotion_with_its_origin() {
    let event = |change: Value| {
        let mut predicate = json!({
            "event": "push", "registry": "r.acme.test:5000", "repository": "acme/app", "tag": "1.4.2",
            "occurredAt": "2026-11-20T10:00:00Z", "actor": {"name": "ci"},
            "verified": {"manifestFetched": true, "digestMatches": true}});
        for (name, value) in change.as_object().unwrap() {
            predicate[name] = value.clone();
        }
        accept(&statement("urn:catenary:predicate:registry-event:v1", predicate))
    };
    let Claim::Registry(push) = event(json!({})).unwrap().claim else { panic!() };
    assert_eq!((push.event, push.resource.as_str()), (RegistryAction::Push, "r.acme.test:5000/acme/app"));
    let promotion = json!({"from": "r.acme.test/staging/app", "fromDigest": format!("sha256:{IMAGE}")});
    assert!(event(json!({"event": "promote", "promotion": promotion})).is_ok());
    // What is gone cannot be fetched any more.
    assert!(event(json!({"event": "delete", "verified": null, "tag": null})).is_ok());
    for (bad, pointer) in [
        (json!({"event": "promote"}), "/predicate/promotion"),
        (json!({"promotion": promotion}), "/predicate/promotion"),
        (json!({"repository": "acme/../app"}), "/predicate/repository"),
        (json!({"repository": "Acme/app"}), "/predicate/repository"),
        (json!({"event": "deleted"}), "/predicate/event"),
        (json!({"verified": {"manifestFetched": true, "digestMatches": false}}), "/predicate/verified"),
        (json!({"trusted": true}), "/predicate/trusted"),
    ] {
        assert_eq!(event(bad).unwrap_err().pointer(), Some(pointer));
    }
}

#[test]
fn a_ci_run_says_how_it_ended() {
    let predicate =
        json!({"invocation": "run-1", "conclusion": "success", "finishedOn": "2026-11-20T10:00:00Z"});
    let Claim::Run(run) = accept(&statement("urn:catenary:predicate:ci-run:v1", predicate)).unwrap().claim
    else {
        panic!()
    };
    assert_eq!(run.conclusion, "success");
    let missing = json!({"invocation": "run-1"});
    assert!(accept(&statement("urn:catenary:predicate:ci-run:v1", missing)).is_err());
}

#[test]
fn a_summary_has_levels_and_properties() {
    let summary = |result: &str| {
        accept(&statement(
            "https://slsa.dev/verification_summary/v1",
            json!({
                "verifier": {"id": "https://verify.acme.test"}, "timeVerified": "2026-11-20T10:00:00Z",
                "resourceUri": "git+https://git.acme.test/acme/app", "policy": {"uri": "p", "digest": {"sha256": IMAGE}},
                "verificationResult": result, "slsaVersion": "1.2",
                "verifiedLevels": ["SLSA_BUILD_LEVEL_2", "SLSA_BUILD_LEVEL_3", "SLSA_SOURCE_LEVEL_1",
                    "SLSA_SOURCE_TWO_PARTY_REVIEWED", "SLSA_BUILD_LEVEL_UNEVALUATED", "SLSA_BUILD_LEVEL_03", "ORG_SOURCE_X"]}),
        ))
    };
    let Claim::Summary(passed) = summary("PASSED").unwrap().claim else { panic!() };
    assert!(passed.passed);
    assert_eq!(
        passed.levels.into_iter().collect::<Vec<_>>(),
        [("BUILD".to_owned(), 3), ("SOURCE".to_owned(), 1)]
    );
    assert_eq!(passed.properties.len(), 4);
    assert_eq!(passed.repeated, ["BUILD"], "SLSA allows one level a track");
    let Claim::Summary(failed) = summary("FAILED").unwrap().claim else { panic!() };
    assert!(!failed.passed);
    assert_eq!(summary("passed").unwrap_err().pointer(), Some("/predicate/verificationResult"));
}

#[test]
fn any_other_predicate_is_kept() {
    let attestation =
        accept(&statement("https://acme.test/anything/v1", json!({"anything": [1, 2.5, null]}))).unwrap();
    assert_eq!(attestation.claim, Claim::Other);
    assert!(attestation.is_verified());
}

/// The findings of a scan with this result, and whether there are more.
fn findings(result: Value) -> (Vec<Finding>, bool) {
    let predicate = json!({"scanner": {"uri": "pkg:generic/scanner", "result": result}, "metadata": {}});
    let claim = accept(&statement("https://in-toto.io/attestation/vulns/v0.1", predicate)).unwrap().claim;
    let Claim::Scan(scan) = claim else { panic!() };
    (scan.findings.list, scan.findings.more)
}

#[test]
fn verdicts_read_the_findings_of_a_scan_one_by_one() {
    let purl = "pkg:deb/debian/bash@5.2-1?arch=amd64";
    let (list, more) = findings(json!([
        {"id": "CVE-1", "severity": [{"method": "nvd", "score": "3.1"}, {"method": "vendor", "score": "9.8"}],
         "package": {"purl": purl}, "aliases": ["GHSA-1", "CVE-1"]},
        {"id": "CVE-2", "package": {"name": "openssl"}},
        {"id": "CVE-2", "package": {"name": "openssl"}}]));
    let bash = Finding {
        id: "CVE-1".into(),
        aliases: vec!["GHSA-1".into()],
        severity: Severity::Critical,
        package: "pkg:deb/debian/bash@5.2-1".into(),
    };
    let openssl = Finding {
        id: "CVE-2".into(),
        aliases: Vec::new(),
        severity: Severity::Unknown,
        package: "openssl".into(),
    };
    assert_eq!((list, more), (vec![bash, openssl], false));
    let (list, _) = findings(json!([
        {"vulnerability": {"id": "CVE-1", "severity": [{"method": "nvd", "score": "low"}, {"method": "cvss", "score": "7.5"}]}},
        {"vulnerability": {"id": "CVE-2", "severity": {"method": "nvd", "score": "medium"}}},
        {"vulnerability": {"id": "CVE-3", "severity": "critical"}},
        {"vulnerability": "CVE-4", "severity": {"method": "cvss", "score": 9.1}}]));
    let found: Vec<_> = list.iter().map(|finding| (finding.id.as_str(), finding.severity)).collect();
    assert_eq!(
        found,
        [
            ("CVE-1", Severity::High),
            ("CVE-2", Severity::Medium),
            ("CVE-3", Severity::Critical),
            ("CVE-4", Severity::Critical)
        ]
    );
    let (list, _) = findings(json!({"matches": [
        {"vulnerability": {"id": "GHSA-1", "severity": "High"}, "relatedVulnerabilities": [{"id": "CVE-1"}],
         "artifact": {"name": "bash", "version": "5", "purl": purl}}]}));
    assert_eq!((list[0].aliases[0].as_str(), list[0].severity), ("CVE-1", Severity::High));
    let (list, _) = findings(json!({"Results": [{"Vulnerabilities": [
        {"VulnerabilityID": "CVE-1", "PkgName": "bash", "InstalledVersion": "5.2", "Severity": "LOW"}]}]}));
    assert_eq!((list[0].package.as_str(), list[0].severity), ("bash", Severity::Low));
}

#[test]
fn what_is_too_much_to_judge_is_said_to_be_missing() {
    let many = |count: usize| -> Value {
        (0..count).map(|n| json!({"id": format!("CVE-{n}"), "severity": "low"})).collect()
    };
    let (list, more) = findings(many(MAX_JUDGED));
    assert_eq!((list.len(), more), (MAX_JUDGED, false));
    let (list, more) = findings(many(MAX_JUDGED + 1));
    assert_eq!((list.len(), more), (MAX_JUDGED, true));
    let long: Vec<Value> =
        (0..1000).map(|n| json!({"id": format!("{n:01000}"), "severity": "low"})).collect();
    let (list, more) = findings(Value::from(long));
    assert!(more && list.len() < 600, "{}", list.len());
    let aliases: Vec<String> = (0..17).map(|n| format!("CVE-{n}")).collect();
    assert!(
        findings(json!([{"id": "X", "aliases": aliases}])).1,
        "an alias that is lost is an excuse gained"
    );
    // A name that cannot be kept is nothing that can be excused.
    let (list, more) = findings(json!([{"id": "x".repeat(1025), "severity": "critical"}]));
    assert_eq!((list[0].id.as_str(), list[0].severity, more), ("", Severity::Critical, false));
}

#[test]
fn verdicts_read_the_statements_of_a_vex_document_one_by_one() {
    let predicate = json!({"@context": "https://openvex.dev/ns/v0.2.0", "author": "acme",
        "timestamp": "2026-11-20T10:00:00Z", "statements": [
        {"vulnerability": {"name": "CVE-1", "aliases": ["GHSA-1"]}, "status": "not_affected",
         "justification": "component_not_present", "timestamp": "2026-11-19T10:00:00Z",
         "products": [{"@id": "pkg:oci/app@sha256%3Aab", "hashes": {"SHA-256": "AB"},
                       "subcomponents": [{"@id": "pkg:deb/debian/bash@5.2-1"}]}, "pkg:oci/other"]},
        {"vulnerability": "CVE-2", "status": "not_affected", "justification": "we looked and it is fine"},
        {"vulnerability": "CVE-3", "status": "under_investigation", "products": [],
         "subcomponents": ["pkg:deb/debian/dash"]}]});
    let read = |predicate: &Value| {
        let claim = accept(&statement("https://openvex.dev/ns/v0.2.0", predicate.clone())).unwrap().claim;
        let Claim::Vex(vex) = claim else { panic!() };
        vex.statements
    };
    let statements = read(&predicate);
    let [first, second, third] = &statements.list[..] else { panic!() };
    assert_eq!(first.names, ["CVE-1", "GHSA-1"]);
    assert_eq!(first.issued.unwrap().to_string(), "2026-11-19T10:00:00Z");
    assert_eq!(first.justification.as_deref(), Some("component_not_present"));
    let image = VexProduct {
        names: vec!["pkg:oci/app@sha256%3Aab".into(), "sha256:ab".into()],
        parts: Some(vec!["pkg:deb/debian/bash@5.2-1".into()]),
    };
    assert_eq!(first.products[0], image);
    assert_eq!(first.products[1].parts, None);
    assert_eq!((second.status, second.justification.as_ref()), (VexStatus::NotAffected, None));
    assert_eq!(second.issued.unwrap().to_string(), "2026-11-20T10:00:00Z");
    // Parts without a product are parts of something: never the image as a whole.
    assert_eq!(third.products[0].parts.as_ref().unwrap(), &["pkg:deb/debian/dash"]);
    assert!(!statements.more);

    let many: Value =
        (0..=MAX_JUDGED).map(|n| json!({"vulnerability": format!("CVE-{n}"), "status": "fixed"})).collect();
    let statements = read(&json!({"statements": many}));
    assert_eq!((statements.list.len(), statements.more), (MAX_JUDGED, true));
}

#[test]
fn facts_of_before_findings_were_read_are_none() {
    let scan = accept(&statement(
        "https://in-toto.io/attestation/vulns/v0.1",
        json!({"scanner": {"uri": "x", "result": []}, "metadata": {}}),
    ));
    let facts = serde_json::to_string(&scan.unwrap()).unwrap();
    assert!(serde_json::from_str::<Attestation>(&facts).is_ok());
    let old = facts.replacen("\"findings\":", "\"unknown\":", 1);
    assert!(
        old != facts && serde_json::from_str::<Attestation>(&old).is_err(),
        "so that the store derives them anew"
    );
}
