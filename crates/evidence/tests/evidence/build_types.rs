//! Each build type in the normal form, with the drifts of its producers, and what takes the source away.

use catenary_evidence::{
    attestation::verify,
    predicate::{Adapter, Build, Claim, Complete, Role},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{COMMIT, IMAGE, Signer, bytes, envelope, ring, statement};

const V1: &str = "https://slsa.dev/provenance/v1";
const V02: &str = "https://slsa.dev/provenance/v0.2";
const V01: &str = "https://slsa.dev/provenance/v0.1";
const OTHER: &str = "0123456789abcdef0123456789abcdef01234567";

fn read(predicate_type: &str, predicate: Value) -> Result<Build, String> {
    let signer = Signer::ed25519();
    let item = envelope(&bytes(&statement(predicate_type, predicate)), &signer);
    match verify(&item, &ring(&[&signer])).map(|attestation| attestation.claim) {
        Ok(Claim::Build(build)) => Ok(build),
        Ok(other) => panic!("not a build: {other:?}"),
        Err(refusal) => Err(format!("{} {}", refusal.code(), refusal.pointer().unwrap_or_default())),
    }
}

fn build(predicate_type: &str, predicate: Value) -> Build {
    read(predicate_type, predicate).unwrap()
}

/// Repository, id, commit, ref.
fn source(build: &Build) -> (&str, Option<&str>, Option<String>, Option<&str>) {
    let source = build.source.as_ref().unwrap();
    let commit = source.commit.map(|commit| commit.to_hex());
    (&source.repository, source.repository_id.as_deref(), commit, source.reference.as_deref())
}

fn commit() -> Option<String> {
    Some(COMMIT.to_owned())
}

fn roles(build: &Build) -> Vec<(Role, Option<&str>)> {
    build.dependencies.iter().map(|d| (d.role, d.resource.as_deref())).collect()
}

/// The document with the value at a pointer set, or taken away by null.
fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap();
    let member = member.replace("~1", "/");
    match parent {
        Value::Array(elements) => elements[member.parse::<usize>().unwrap()] = value,
        Value::Object(members) if value.is_null() => drop(members.remove(&member)),
        Value::Object(members) => drop(members.insert(member, value)),
        _ => panic!("nothing is at {pointer}"),
    }
    document
}

// ---- BuildKit ----

fn buildkit_v1() -> Value {
    json!({
        "buildDefinition": {
            "buildType": "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md",
            "externalParameters": {
                "configSource": {
                    "uri": "https://github.com/acme/app.git#refs/heads/main:images/app",
                    "digest": {"sha1": COMMIT}, "path": "Dockerfile"},
                "request": {"frontend": "gateway.v0", "args": {"build-arg:A.B": "1", "target": "release"},
                    "secrets": [{"id": "GIT_AUTH_TOKEN", "optional": true}], "locals": []}},
            "internalParameters": {"builderPlatform": "linux/amd64", "github_event_name": "push",
                "github_runner_environment": "github-hosted", "github_repository": "acme/app",
                "github_repository_id": "4242", "github_ref": "refs/heads/next", "github_workflow_sha": COMMIT},
            "resolvedDependencies": [
                {"uri": "pkg:docker/docker/buildkit-syft-scanner@stable-1", "digest": {"sha256": IMAGE}},
                {"uri": "pkg:docker/alpine@3.20?platform=linux%2Famd64", "digest": {"sha256": IMAGE}},
                {"uri": "https://github.com/acme/app.git#refs/heads/main", "digest": {"sha1": COMMIT}},
                {"uri": "https://example.test/tool.tgz", "digest": {"sha256": IMAGE}}]},
        "runDetails": {"builder": {"id": ""}, "metadata": {
            "invocationID": "b1", "startedOn": "2026-11-20T10:00:00Z", "finishedOn": "2026-11-20T10:05:00Z",
            "buildkit_hermetic": true, "buildkit_reproducible": false,
            "buildkit_completeness": {"request": true, "resolvedDependencies": false},
            "buildkit_metadata": {"vcs": {"source": "https://github.com/evil/app", "revision": OTHER}}}}})
}

fn buildkit_v02() -> Value {
    json!({
        "builder": {"id": "https://github.com/acme/app/actions/runs/1"},
        "buildType": "https://mobyproject.org/buildkit@v1",
        "invocation": {
            "configSource": {"uri": "https://github.com/acme/app.git#refs/tags/v1", "digest": {"sha1": COMMIT}, "entryPoint": "Dockerfile"},
            "parameters": {"frontend": "dockerfile.v0", "args": {"label:x": "y"}, "locals": [{"name": "context"}]},
            "environment": {"platform": "linux/amd64"}},
        "materials": [
            {"uri": "pkg:docker/golang@1.23", "digest": {"sha256": IMAGE}},
            {"uri": "https://github.com/acme/app.git#refs/tags/v1", "digest": {"sha1": COMMIT}}],
        "metadata": {"buildInvocationID": "b2", "reproducible": true,
            "completeness": {"parameters": true, "environment": true, "materials": false},
            "https://mobyproject.org/buildkit@v1#hermetic": true,
            "https://mobyproject.org/buildkit@v1#metadata": {"vcs": {"source": "git@github.com:evil/app.git", "revision": OTHER}}}})
}

#[test]
fn buildkit_v1_has_its_git_context_for_source_and_its_images_for_bases() {
    let build = build(V1, buildkit_v1());
    assert_eq!((build.adapter, build.builder_id.as_str()), (Some(Adapter::Buildkit), ""));
    assert_eq!(
        source(&build),
        ("git+https://github.com/acme/app", Some("4242"), commit(), Some("refs/heads/main"))
    );
    assert_eq!((build.trigger.as_deref(), build.runner.as_deref()), (Some("push"), Some("github-hosted")));
    assert_eq!((build.hermetic, build.reproducible), (Some(true), Some(false)));
    assert_eq!(build.complete, Complete { params: Some(true), dependencies: Some(false) });
    assert_eq!(build.invocation.as_deref(), Some("b1"));
    assert_eq!(build.unknown_params, [""; 0]);
    assert_eq!(build.params["request.args.build-arg:A\\.B"], "1");
    assert_eq!(
        roles(&build),
        [
            (Role::Tool, Some("docker.io/docker/buildkit-syft-scanner")),
            (Role::BaseImage, Some("docker.io/library/alpine")),
            (Role::Generic, None)
        ]
    );
}

#[test]
fn buildkit_v02_has_the_same_normal_form() {
    let build = build(V02, buildkit_v02());
    assert_eq!(build.adapter, Some(Adapter::Buildkit));
    assert_eq!(source(&build), ("git+https://github.com/acme/app", None, commit(), Some("refs/tags/v1")));
    assert_eq!((build.hermetic, build.reproducible), (Some(true), Some(true)));
    assert_eq!(build.complete, Complete { params: Some(true), dependencies: Some(false) });
    assert_eq!(
        (build.invocation.as_deref(), build.params["entryPoint"].as_str()),
        (Some("b2"), "Dockerfile")
    );
    assert_eq!(build.unknown_params, [""; 0]);
    assert_eq!(roles(&build), [(Role::BaseImage, Some("docker.io/library/golang"))]);
}

#[test]
fn buildkit_spells_the_invocation_in_two_ways_and_may_leave_the_metadata_out() {
    let metadata = "/runDetails/metadata";
    let documented = with(buildkit_v1(), metadata, json!({"invocationId": "b3"}));
    assert_eq!(build(V1, documented).invocation.as_deref(), Some("b3"));
    let none = build(V1, with(buildkit_v1(), metadata, Value::Null));
    assert_eq!((none.invocation, none.hermetic, none.complete), (None, None, Complete::default()));
    let odd = with(buildkit_v1(), "/runDetails/metadata/buildkit_completeness", json!("yes"));
    assert_eq!(build(V1, odd).complete, Complete::default());
}

#[test]
fn the_vcs_hints_of_buildkit_are_never_a_source() {
    // A local directory: only the client said where it came from.
    let v1 = build(
        V1,
        with(
            buildkit_v1(),
            "/buildDefinition/externalParameters/configSource",
            json!({"path": "Dockerfile"}),
        ),
    );
    assert_eq!(v1.source, None);
    let v02 =
        build(V02, with(buildkit_v02(), "/invocation/configSource", json!({"entryPoint": "Dockerfile"})));
    assert_eq!(v02.source, None);
    let tarball = json!({"uri": "https://example.test/tool.tgz", "digest": {"sha256": IMAGE}});
    let tarball = with(buildkit_v1(), "/buildDefinition/externalParameters/configSource", tarball);
    assert_eq!(build(V1, tarball).source, None);
}

#[test]
fn a_buildkit_context_that_names_a_commit_takes_the_ref_of_a_run_of_that_commit_only() {
    let uri = json!(format!("https://github.com/acme/app.git#{COMMIT}"));
    let pinned = with(buildkit_v1(), "/buildDefinition/externalParameters/configSource/uri", uri.clone());
    let pinned = with(pinned, "/buildDefinition/resolvedDependencies/2/uri", uri);
    assert_eq!(source(&build(V1, pinned.clone())).2, commit());
    assert_eq!(source(&build(V1, pinned.clone())).3, Some("refs/heads/next"));
    let internal = |name: &str| format!("/buildDefinition/internalParameters/{name}");
    let elsewhere = build(V1, with(pinned.clone(), &internal("github_repository"), json!("acme/other")));
    assert_eq!((source(&elsewhere).3, source(&elsewhere).1), (None, None));
    let earlier = build(V1, with(pinned.clone(), &internal("github_workflow_sha"), json!(OTHER)));
    assert_eq!(source(&earlier).3, None);
    let another = with(pinned, "/buildDefinition/resolvedDependencies/2/digest/sha1", json!(OTHER));
    assert_eq!(source(&build(V1, another)).2, None, "the URI names another commit than was there");
}

#[test]
fn a_short_ref_of_buildkit_could_be_a_branch_or_a_tag_and_is_none() {
    let uri = json!("https://github.com/acme/app.git#main");
    let short = with(buildkit_v1(), "/buildDefinition/externalParameters/configSource/uri", uri.clone());
    let short = with(short, "/buildDefinition/resolvedDependencies/2/uri", uri);
    assert_eq!(source(&build(V1, short)), ("git+https://github.com/acme/app", Some("4242"), commit(), None));
}

#[test]
fn only_buildkit_may_leave_the_builder_empty() {
    assert!(read(V02, with(buildkit_v02(), "/builder/id", json!(""))).is_ok());
    let refused = read(V1, with(gitlab(), "/runDetails/builder/id", json!("")));
    assert_eq!(refused.unwrap_err(), "PREDICATE_INVALID /predicate/runDetails/builder/id");
    let refused = read(V02, with(npm(), "/builder/id", json!("")));
    assert_eq!(refused.unwrap_err(), "PREDICATE_INVALID /predicate/builder/id");
}

// ---- GitLab ----

fn gitlab() -> Value {
    json!({
        "buildDefinition": {
            "buildType": "https://docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1",
            "externalParameters": {"source": "https://gitlab.acme.test/acme/app", "entryPoint": "build",
                "variables": {"CI": "true", "CI_COMMIT_SHA": COMMIT, "CI_COMMIT_BRANCH": "main", "CI_PROJECT_ID": "4242",
                    "CI_PIPELINE_SOURCE": "push", "TOKEN": "[MASKED]"}},
            "internalParameters": {"architecture": "amd64", "executor": "docker+machine", "job": 7, "name": "green-1"},
            "resolvedDependencies": [{"uri": "https://gitlab.acme.test/acme/app", "digest": {"gitCommit": COMMIT}}]},
        "runDetails": {"builder": {"id": "https://gitlab.acme.test/acme/app/-/runners/12"},
            "metadata": {"invocationId": "7", "startedOn": "2026-11-20T10:00:00Z"}}})
}

#[test]
fn gitlab_says_the_rest_of_the_source_in_variables() {
    for uri in [
        "https://docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1",
        "https://docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1/",
        "https://docs.gitlab.com/ci/pipeline_security/slsa/level_3/provenance_v1",
    ] {
        let build = build(V1, with(gitlab(), "/buildDefinition/buildType", json!(uri)));
        assert_eq!(build.adapter, Some(Adapter::Gitlab), "{uri}");
        assert_eq!(
            source(&build),
            ("git+https://gitlab.acme.test/acme/app", Some("4242"), commit(), Some("refs/heads/main"))
        );
        assert_eq!((build.trigger.as_deref(), build.runner), (Some("push"), None));
        assert_eq!((build.invocation.as_deref(), build.unknown_params.len()), (Some("7"), 0));
        assert!(build.dependencies.is_empty());
    }
}

#[test]
fn gitlab_variables_that_disagree_or_are_masked_say_nothing() {
    let variable = |name: &str, value: Value| {
        build(V1, with(gitlab(), &format!("/buildDefinition/externalParameters/variables/{name}"), value))
    };
    assert_eq!(source(&variable("CI_COMMIT_SHA", json!(OTHER))).2, None);
    assert_eq!(source(&variable("CI_COMMIT_TAG", json!("v1"))).3, None, "a branch and a tag at once");
    assert_eq!(source(&variable("CI_COMMIT_BRANCH", json!("[MASKED]"))).3, None);
    assert_eq!(source(&variable("CI_PROJECT_ID", json!("[MASKED]"))).1, None);
    let mut tagged =
        with(gitlab(), "/buildDefinition/externalParameters/variables/CI_COMMIT_BRANCH", Value::Null);
    tagged = with(tagged, "/buildDefinition/externalParameters/variables/CI_COMMIT_TAG", json!("v1"));
    assert_eq!(source(&build(V1, tagged)).3, Some("refs/tags/v1"));
}

// ---- Tekton ----

fn tekton_v1() -> Value {
    json!({
        "buildDefinition": {
            "buildType": "https://tekton.dev/chains/v2/slsa",
            "externalParameters": {
                "runSpec": {
                    "pipelineRef": {"resolver": "git"},
                    "pipelineSpec": {"tasks": [{"name": "build"}]},
                    "params": [{"name": "git-url", "value": "https://git.acme.test/acme/app"}, {"name": "tags", "value": ["a", "b"]}]},
                "buildConfigSource": {"repository": "git+https://git.acme.test/ci/pipelines", "ref": "sha1:0", "path": "p.yaml"}},
            "internalParameters": {"tekton-pipelines-feature-flags": {}},
            "resolvedDependencies": [
                {"name": "pipeline", "uri": "git+https://git.acme.test/ci/pipelines.git", "digest": {"sha1": OTHER}},
                {"name": "pipelineTask", "uri": "git+https://git.acme.test/ci/tasks.git", "digest": {"sha1": OTHER}},
                {"uri": "oci://registry.acme.test/ci/kaniko", "digest": {"sha256": IMAGE}},
                {"name": "inputs/result", "uri": "git+https://git.acme.test/acme/app.git", "digest": {"sha1": COMMIT}}]},
        "runDetails": {"builder": {"id": "https://tekton.acme.test/chains"}, "metadata": {"invocationId": "uid"}}})
}

fn tekton_v02() -> Value {
    json!({
        "builder": {"id": "https://tekton.acme.test/chains"},
        "buildType": "tekton.dev/v1beta1/PipelineRun",
        "invocation": {
            "configSource": {"uri": "git+https://git.acme.test/ci/pipelines.git", "digest": {"sha1": OTHER}, "entryPoint": "p.yaml"},
            "parameters": {"git-url": "https://git.acme.test/acme/app"}, "environment": {"labels": {}}},
        "materials": [
            {"uri": "git+https://git.acme.test/ci/pipelines.git", "digest": {"sha1": OTHER}},
            {"uri": "oci://registry.acme.test/ci/kaniko", "digest": {"sha256": IMAGE}},
            {"uri": "git+https://git.acme.test/acme/app.git", "digest": {"sha1": COMMIT}}],
        "metadata": {"buildStartedOn": "2026-11-20T10:00:00Z", "completeness": {"parameters": false, "materials": false}, "reproducible": false}})
}

#[test]
fn tekton_v1_has_its_git_input_for_source_and_its_steps_for_builder_images() {
    for uri in ["https://tekton.dev/chains/v2/slsa", "https://tekton.dev/chains/v2/slsa-tekton"] {
        let build = build(V1, with(tekton_v1(), "/buildDefinition/buildType", json!(uri)));
        assert_eq!(build.adapter, Some(Adapter::TektonChains), "{uri}");
        assert_eq!(source(&build), ("git+https://git.acme.test/acme/app", None, commit(), None));
        assert_eq!(
            roles(&build),
            [
                (Role::Tool, None),
                (Role::Tool, None),
                (Role::BuilderImage, Some("registry.acme.test/ci/kaniko"))
            ]
        );
        assert_eq!(build.unknown_params, [""; 0]);
        assert_eq!(build.params["runSpec.params.git-url"], "https://git.acme.test/acme/app");
        assert_eq!(build.params["runSpec.params.tags.1"], "b");
        assert_eq!(build.params["runSpec.pipelineSpec"], r#"{"tasks":[{"name":"build"}]}"#);
    }
}

#[test]
fn s17_a_parameter_does_not_pose_as_the_entry_point() {
    let named = |name: &str| read(V02, with(tekton_v02(), "/invocation/parameters/entryPoint", json!(name)));
    assert_eq!(named("p.yaml").unwrap().params["entryPoint"], "p.yaml");
    let refusal = named("harmless.yaml").unwrap_err();
    assert!(refusal.starts_with("PREDICATE_INVALID"), "{refusal}");
}

#[test]
fn every_tekton_v02_type_has_the_adapter() {
    for uri in [
        "tekton.dev/v1beta1/TaskRun",
        "tekton.dev/v1beta1/PipelineRun",
        "tekton.dev/v1/TaskRun",
        "tekton.dev/v1/PipelineRun",
        "https://tekton.dev/attestations/chains@v2",
        "https://tekton.dev/attestations/chains/pipelinerun@v2",
    ] {
        let build = build(V02, with(tekton_v02(), "/buildType", json!(uri)));
        assert_eq!(build.adapter, Some(Adapter::TektonChains), "{uri}");
        assert_eq!(source(&build), ("git+https://git.acme.test/acme/app", None, commit(), None));
        assert_eq!(build.dependencies[1].role, Role::BuilderImage);
        assert_eq!(build.complete, Complete { params: Some(false), dependencies: Some(false) });
        assert_eq!(build.unknown_params, [""; 0]);
    }
}

#[test]
fn two_git_inputs_of_tekton_are_no_source() {
    let second = json!({"name": "inputs/result", "uri": "git+https://git.acme.test/evil/app.git", "digest": {"sha1": OTHER}});
    assert_eq!(build(V1, with(tekton_v1(), "/buildDefinition/resolvedDependencies/2", second)).source, None);
    let second = json!({"uri": "git+https://git.acme.test/evil/app.git", "digest": {"sha1": OTHER}});
    assert_eq!(build(V02, with(tekton_v02(), "/materials/1", second)).source, None);
    // A pipeline that lies in the repository that it builds.
    let own = with(
        tekton_v02(),
        "/materials",
        json!([{"uri": "git+https://git.acme.test/ci/pipelines.git", "digest": {"sha1": OTHER}}]),
    );
    assert_eq!(source(&build(V02, own)).0, "git+https://git.acme.test/ci/pipelines");
}

#[test]
fn tekton_parameters_of_one_name_stay_numbered() {
    let twice = json!([{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]);
    let build = build(V1, with(tekton_v1(), "/buildDefinition/externalParameters/runSpec/params", twice));
    assert_eq!(build.params["runSpec.params.1.value"], "2");
    assert!(!build.params.contains_key("runSpec.params.a"));
}

// ---- Google Cloud Build ----

fn cloud_build_v1() -> Value {
    json!({
        "buildDefinition": {
            "buildType": "https://cloud.google.com/build/gcb-buildtypes/google-worker/v1",
            "externalParameters": {"substitutions": {"_X": "y"},
                "buildConfigSource": {"path": "cloudbuild.yaml", "ref": "refs/heads/main", "repository": "git+https://github.com/acme/app"}},
            "internalParameters": {"triggerUri": "projects/1/triggers/2", "systemSubstitutions": {"COMMIT_SHA": COMMIT}},
            "resolvedDependencies": [
                {"uri": "git+https://github.com/acme/app@refs/heads/main", "digest": {"gitCommit": COMMIT}},
                {"uri": format!("gcr.io/cloud-builders/docker@sha256:{IMAGE}@sha256:{IMAGE}"), "digest": {"sha256": IMAGE}}]},
        "runDetails": {"builder": {"id": "https://cloudbuild.googleapis.com/GoogleHostedWorker"},
            "metadata": {"invocationId": "https://cloudbuild.googleapis.com/v1/projects/p/builds/b"}}})
}

fn cloud_build_v01() -> Value {
    json!({
        "builder": {"id": "https://cloudbuild.googleapis.com/GoogleHostedWorker@v0.3"},
        "recipe": {"type": "https://cloudbuild.googleapis.com/CloudBuildYaml@v0.1", "entryPoint": "cloudbuild.yaml",
            "arguments": {"@type": "type.googleapis.com/google.devtools.cloudbuild.v1.Build", "id": "b", "sourceProvenance": {},
                "options": {"pool": {}}, "steps": [{"name": "gcr.io/cloud-builders/docker", "args": ["build"]}],
                "substitutions": {"COMMIT_SHA": COMMIT, "TAG_NAME": "v39"}}},
        "materials": [{"uri": "https://github.com/acme/app", "digest": {"sha1": COMMIT}}],
        "metadata": {"buildInvocationId": "b", "buildStartedOn": "2026-11-20T10:00:00Z", "buildFinishedOn": "2026-11-20T10:05:00Z",
            "completeness": {"arguments": true, "materials": false}}})
}

#[test]
fn cloud_build_v1_builds_the_place_of_its_configuration_or_what_it_names_beside_it() {
    let same = build(V1, cloud_build_v1());
    assert_eq!(same.adapter, Some(Adapter::GoogleCloudBuild));
    assert_eq!(source(&same), ("git+https://github.com/acme/app", None, commit(), Some("refs/heads/main")));
    assert_eq!(roles(&same), [(Role::BuilderImage, Some("gcr.io/cloud-builders/docker"))]);
    assert_eq!((same.params["substitutions._X"].as_str(), same.unknown_params.len()), ("y", 0));
    let other = json!({"repository": "git+https://github.com/acme/lib", "ref": OTHER});
    let mut beside = with(cloud_build_v1(), "/buildDefinition/externalParameters/sourceToBuild", other);
    let dependency = json!({"uri": "git+https://github.com/acme/lib", "digest": {"gitCommit": OTHER}});
    beside = with(beside, "/buildDefinition/resolvedDependencies/1", dependency);
    assert_eq!(
        source(&build(V1, beside)),
        ("git+https://github.com/acme/lib", None, Some(OTHER.to_owned()), None)
    );
}

#[test]
fn cloud_build_v01_is_provenance_too() {
    let build = build(V01, cloud_build_v01());
    assert_eq!(build.adapter, Some(Adapter::GoogleCloudBuild));
    assert_eq!(build.build_type, "https://cloudbuild.googleapis.com/CloudBuildYaml@v0.1");
    assert_eq!(source(&build), ("git+https://github.com/acme/app", None, commit(), Some("refs/tags/v39")));
    assert_eq!((build.invocation.as_deref(), build.started_on.is_some()), (Some("b"), true));
    assert_eq!(build.complete, Complete { params: Some(true), dependencies: Some(false) });
    assert_eq!((build.params["entryPoint"].as_str(), build.unknown_params.len()), ("cloudbuild.yaml", 0));
    assert!(build.params["steps"].starts_with('['), "the steps are one value");
}

#[test]
fn the_first_cloud_build_workers_wrote_the_page_of_the_commit() {
    let first = with(
        cloud_build_v01(),
        "/recipe/type",
        json!("https://cloudbuild.googleapis.com/GoogleHostedWorker@v0.2"),
    );
    let page = |uri: String| with(first.clone(), "/materials", json!([{"uri": uri}]));
    let read = build(V01, page(format!("https://github.com/acme/app/commit/{COMMIT}")));
    assert_eq!(source(&read).0, "git+https://github.com/acme/app");
    assert_eq!(source(&read).2, commit());
    for other in [
        "https://github.com/acme/app/commit/main".to_owned(),
        format!("https://github.com/acme/../app/commit/{COMMIT}"),
        format!("gs://bucket/commit/{COMMIT}"),
    ] {
        assert_eq!(build(V01, page(other.clone())).source, None, "{other}");
    }
}

#[test]
fn cloud_build_from_a_bucket_or_from_two_repositories_has_no_source() {
    let bucket = json!([{"uri": "gs://bucket/source.tgz#1", "digest": {"sha256": IMAGE, "md5": "00"}}]);
    assert_eq!(build(V01, with(cloud_build_v01(), "/materials", bucket)).source, None);
    let two = json!([{"uri": "https://github.com/acme/app", "digest": {"sha1": COMMIT}}, {"uri": "https://github.com/evil/app", "digest": {"sha1": COMMIT}}]);
    assert_eq!(build(V01, with(cloud_build_v01(), "/materials", two)).source, None);
    let commit = with(cloud_build_v01(), "/recipe/arguments/substitutions/COMMIT_SHA", json!(OTHER));
    assert_eq!(source(&build(V01, commit)).2, None);
    let both = with(cloud_build_v01(), "/recipe/arguments/substitutions/BRANCH_NAME", json!("main"));
    assert_eq!(source(&build(V01, both)).3, None);
}

#[test]
fn another_recipe_of_v01_is_kept_without_adapter() {
    let other = build(V01, with(cloud_build_v01(), "/recipe/type", json!("https://example.com/make")));
    assert_eq!((other.adapter, other.source), (None, None));
    assert_eq!(other.unknown_params.len(), other.params.len());
    assert!(read(V01, with(cloud_build_v01(), "/recipe", Value::Null)).is_ok());
}

// ---- npm ----

fn npm() -> Value {
    json!({
        "buildType": "https://github.com/npm/cli/gha/v2",
        "builder": {"id": "https://github.com/actions/runner/self-hosted"},
        "invocation": {
            "configSource": {"uri": "git+https://github.com/acme/app@refs/heads/main", "digest": {"sha1": COMMIT}, "entryPoint": ".github/workflows/release.yml"},
            "parameters": {}, "environment": {"GITHUB_EVENT_NAME": "release", "GITHUB_REPOSITORY_ID": "4242"}},
        "metadata": {"buildInvocationId": "1-1", "completeness": {"parameters": false, "materials": false}, "reproducible": false},
        "materials": [{"uri": "git+https://github.com/acme/app@refs/heads/main", "digest": {"sha1": COMMIT}}]})
}

#[test]
fn npm_on_github_has_its_workflow_for_source() {
    for uri in ["https://github.com/npm/cli/gha/v2", "https://github.com/npm/cli/gha@v1"] {
        let build = build(V02, with(npm(), "/buildType", json!(uri)));
        assert_eq!(build.adapter, Some(Adapter::Npm), "{uri}");
        assert_eq!(
            source(&build),
            ("git+https://github.com/acme/app", Some("4242"), commit(), Some("refs/heads/main"))
        );
        assert_eq!(
            (build.trigger.as_deref(), build.runner.as_deref()),
            (Some("release"), Some("self-hosted"))
        );
        assert_eq!((build.unknown_params.len(), build.reproducible), (0, Some(false)));
    }
    let another = build(V02, with(npm(), "/materials/0/digest/sha1", json!(OTHER)));
    assert_eq!(source(&another).2, None, "what was asked for is not what was there");
}

#[test]
fn npm_on_gitlab_has_the_variables_of_gitlab() {
    let mut document = with(npm(), "/buildType", json!("https://github.com/npm/cli/gitlab/v0alpha1"));
    document = with(document, "/builder/id", json!("https://gitlab.acme.test/acme/app/-/runners/12"));
    let config = json!({"uri": "git+https://gitlab.acme.test/acme/app", "digest": {"sha1": COMMIT}, "entryPoint": "publish"});
    document = with(document, "/invocation/configSource", config);
    let parameters = json!({"CI": "true", "CI_COMMIT_SHA": COMMIT, "CI_COMMIT_TAG": "v1", "CI_PROJECT_ID": "7", "GITLAB_USER_ID": "1", "CI_PIPELINE_SOURCE": "web"});
    document = with(document, "/invocation/parameters", parameters);
    document = with(
        document,
        "/materials",
        json!([{"uri": "git+https://gitlab.acme.test/acme/app", "digest": {"sha1": COMMIT}}]),
    );
    let read = build(V02, document.clone());
    assert_eq!(
        source(&read),
        ("git+https://gitlab.acme.test/acme/app", Some("7"), commit(), Some("refs/tags/v1"))
    );
    assert_eq!((read.trigger.as_deref(), read.unknown_params.len()), (Some("web"), 0));
    let other = build(V02, with(document, "/invocation/parameters/CI_COMMIT_SHA", json!(OTHER)));
    assert_eq!(source(&other).2, None);
}

// ---- slsa-github-generator ----

fn container_based() -> Value {
    json!({
        "buildDefinition": {
            "buildType": "https://slsa.dev/container-based-build/v0.1?draft",
            "externalParameters": {
                "source": {"uri": "git+https://github.com/acme/app@refs/tags/v1", "digest": {"sha1": COMMIT}},
                "builderImage": {"uri": format!("bash@sha256:{IMAGE}"), "digest": {"sha256": IMAGE}},
                "configPath": ".github/build.toml", "buildConfig": {"ArtifactPath": "out", "Command": ["touch", "out"]}},
            "internalParameters": {"GITHUB_EVENT_NAME": "push", "GITHUB_REPOSITORY_ID": "4242"},
            "resolvedDependencies": [
                {"uri": "git+https://github.com/acme/app@refs/tags/v1", "digest": {"sha1": COMMIT}},
                {"uri": "git+https://github.com/slsa-framework/slsa-github-generator@refs/tags/v2.1.0", "digest": {"sha256": IMAGE}}]},
        "runDetails": {"builder": {"id": "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/builder_container-based_slsa3.yml@refs/tags/v2.1.0"}}})
}

fn delegator() -> Value {
    json!({
        "buildDefinition": {
            "buildType": "https://github.com/slsa-framework/slsa-github-generator/delegator-generic@v0",
            "externalParameters": {"inputs": {"jdk-version": 17}, "vars": {}},
            "internalParameters": {"GITHUB_EVENT_NAME": "push", "GITHUB_REPOSITORY": "acme/app", "GITHUB_REPOSITORY_ID": "4242",
                "GITHUB_REF": "refs/tags/v14", "GITHUB_SHA": COMMIT},
            "resolvedDependencies": [{"uri": "git+https://github.com/acme/app@refs/tags/v14", "digest": {"sha1": COMMIT}}]},
        "runDetails": {"builder": {"id": "https://github.com/acme/tool/.github/workflows/build.yml@refs/tags/v1"}}})
}

#[test]
fn a_container_based_build_names_its_builder_image_among_the_parameters() {
    let build = build(V1, container_based());
    assert_eq!(build.adapter, Some(Adapter::SlsaGithubGenerator));
    assert_eq!(
        source(&build),
        ("git+https://github.com/acme/app", Some("4242"), commit(), Some("refs/tags/v1"))
    );
    assert_eq!(
        roles(&build),
        [(Role::Tool, None), (Role::BuilderImage, Some("docker.io/library/bash"))],
        "the generator is a tool"
    );
    assert_eq!(build.dependencies[1].nodes.len(), 1);
    assert_eq!((build.trigger.as_deref(), build.unknown_params.len()), (Some("push"), 0));
}

#[test]
fn a_delegator_builds_the_repository_of_its_run() {
    let read = build(V1, delegator());
    assert_eq!(read.adapter, Some(Adapter::SlsaGithubGenerator));
    assert_eq!(
        source(&read),
        ("git+https://github.com/acme/app", Some("4242"), commit(), Some("refs/tags/v14"))
    );
    assert_eq!((read.params["inputs.jdk-version"].as_str(), read.unknown_params.len()), ("17", 0));
    let dependency = "/buildDefinition/resolvedDependencies/0/uri";
    let elsewhere = with(delegator(), dependency, json!("git+https://github.com/evil/app@refs/tags/v14"));
    assert_eq!(source(&build(V1, elsewhere)).2, None);
    let lower =
        with(delegator(), "/buildDefinition/internalParameters/github_event_name", json!("pull_request"));
    assert_eq!(build(V1, lower).trigger, None, "two that disagree say nothing");
}

#[test]
fn the_earlier_names_of_the_generator_have_the_adapter() {
    for uri in [
        "https://github.com/slsa-framework/slsa-github-generator@v1",
        "https://github.com/slsa-framework/slsa-github-generator-go@v1",
        "https://github.com/slsa-framework/slsa-github-generator/delegator-generic@v0",
        "https://github.com/slsa-framework/slsa-github-generator/delegator-lowperms-generic@v0",
    ] {
        let build = build(V02, with(npm(), "/buildType", json!(uri)));
        assert_eq!(build.adapter, Some(Adapter::SlsaGithubGenerator), "{uri}");
        assert_eq!(source(&build).2, commit());
        assert_eq!(build.trigger.as_deref(), Some("release"), "upper case is read too");
    }
}

// ---- all ----

fn documents() -> [(&'static str, Adapter, Value); 12] {
    let npm_gitlab = with(npm(), "/buildType", json!("https://github.com/npm/cli/gitlab/v0alpha1"));
    [
        (V1, Adapter::Buildkit, buildkit_v1()),
        (V02, Adapter::Buildkit, buildkit_v02()),
        (V1, Adapter::Gitlab, gitlab()),
        (V1, Adapter::TektonChains, tekton_v1()),
        (V02, Adapter::TektonChains, tekton_v02()),
        (V1, Adapter::GoogleCloudBuild, cloud_build_v1()),
        (V01, Adapter::GoogleCloudBuild, cloud_build_v01()),
        (V02, Adapter::Npm, npm()),
        (V02, Adapter::Npm, npm_gitlab),
        (V1, Adapter::SlsaGithubGenerator, container_based()),
        (V1, Adapter::SlsaGithubGenerator, delegator()),
        (V1, Adapter::Generic, crate::common::provenance()["predicate"].clone()),
    ]
}

#[test]
fn s17_every_build_type_names_a_parameter_that_it_does_not_define() {
    for (kind, adapter, document) in documents() {
        // The parameters of a Tekton run are whatever its pipeline asks for.
        if (kind, adapter) == (V02, Adapter::TektonChains) {
            continue;
        }
        let parameters = match kind {
            V1 => "/buildDefinition/externalParameters/script",
            V02 => "/invocation/parameters/script",
            _ => "/recipe/arguments/script",
        };
        let build = build(kind, with(document, parameters, json!("curl | sh")));
        assert_eq!(build.unknown_params, ["script"], "{adapter:?}");
    }
}

#[test]
fn s19_every_build_type_has_no_commit_when_nothing_was_resolved() {
    for (kind, adapter, document) in documents() {
        let dependencies = if kind == V1 { "/buildDefinition/resolvedDependencies" } else { "/materials" };
        for resolved in [json!([]), Value::Null] {
            let build = build(kind, with(document.clone(), dependencies, resolved));
            assert_eq!(build.source.and_then(|source| source.commit), None, "{kind} {adapter:?}");
        }
    }
}

#[test]
fn a_build_type_that_differs_by_a_letter_has_no_adapter() {
    for (kind, adapter, document) in documents() {
        let at = match kind {
            V1 => "/buildDefinition/buildType",
            V02 => "/buildType",
            _ => "/recipe/type",
        };
        let exact = document.pointer(at).unwrap().as_str().unwrap().to_owned();
        assert_eq!(build(kind, document.clone()).adapter, Some(adapter));
        for other in [format!("{exact}x"), exact.to_uppercase(), format!(" {exact}")] {
            let build = build(kind, with(document.clone(), at, json!(other)));
            assert_eq!((build.adapter, build.source), (None, None), "{other}");
        }
    }
}

#[test]
fn facts_from_before_the_new_members_are_read() {
    let build = build(V1, crate::common::provenance()["predicate"].clone());
    let text = serde_json::to_value(&build).unwrap();
    for member in ["hermetic", "reproducible", "complete"] {
        assert!(text.get(member).is_none(), "what is not said is not written: {member}");
    }
    assert_eq!(serde_json::from_value::<Build>(text).unwrap(), build);
    let names: Vec<Value> =
        Adapter::ALL.iter().map(|adapter| serde_json::to_value(adapter).unwrap()).collect();
    assert_eq!(
        names,
        [
            "github-workflow",
            "slsa-github-generator",
            "generic",
            "buildkit",
            "gitlab",
            "tekton-chains",
            "google-cloud-build",
            "npm"
        ]
    );
}

/// Every pointer of a document.
fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            let name = name.replace('~', "~0").replace('/', "~1");
            pointers(value, format!("{at}/{name}"), found);
        }),
        Value::Array(elements) => {
            elements.iter().enumerate().for_each(|(i, value)| pointers(value, format!("{at}/{i}"), found));
        }
        _ => {}
    }
    found.push(at);
}

fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!(-1.5)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"name": "a", "value": {"b": [1]}}])),
        Just(json!({"uri": "git+https://github.com/acme/app@refs/heads/main", "digest": {"sha1": OTHER}})),
        Just(json!(OTHER)),
        "[#@:/.é%a]{0,12}".prop_map(Value::from),
        "(https|git\\+https|git|pkg|oci)(:|://)[a-z@#:/%.]{0,20}".prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is changed in a document, reading it ends, and a commit is one that the dependencies of the changed
    /// document name.
    #[test]
    fn a_changed_document_never_panics_and_never_makes_up_a_commit(
        which in 0..12_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), odd()), 1..4),
    ) {
        let (kind, _, mut document) = documents()[which].clone();
        for (at, value) in changes {
            let mut all = Vec::new();
            pointers(&document, String::new(), &mut all);
            *document.pointer_mut(at.get(&all).as_str()).unwrap() = value;
        }
        let resolved = if kind == V1 { "/buildDefinition/resolvedDependencies" } else { "/materials" };
        let resolved = document.pointer(resolved).map(ToString::to_string).unwrap_or_default();
        if let Ok(build) = read(kind, document)
            && let Some(commit) = build.source.and_then(|source| source.commit)
        {
            prop_assert!(resolved.contains(&commit.to_hex()));
        }
    }
}
