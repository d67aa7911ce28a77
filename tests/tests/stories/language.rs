//! What a policy can say beyond names and digests, and what people see of it.

use acceptance::{App, Stage, http::escape};
use catenary_testkit::{
    Key,
    ci_run::CiRun,
    git::{Commit, Tag},
    oci::Blob,
    world::MAIN,
};
use serde_json::json;

const FREEZE: &str = r#"  deny:
    - {id: freeze, when: "ctx.environment == 'prod' && ctx.freeze && !ctx.breakGlass", message: change freeze}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_stops_deployments_until_the_glass_is_broken() {
    let app = App::start().await;
    let stage = Stage::in_default(&app).await;
    stage.post_world().await;
    let image = stage.world.image();
    stage.apply("prod", &format!("{}{FREEZE}", stage.world.policy())).await.is(201);
    let ask = |context: &str| stage.fresh(&format!("/v1/verdict?image={}&env=prod{context}", escape(&image)));

    let open = stage.get(&ask("&ctx.freeze=false")).await;
    assert_eq!(open.passes().0["context"], json!({"environment": "prod", "freeze": "false"}));
    let frozen = stage.get(&ask("&ctx.freeze=true&ctx.breakGlass=false")).await;
    assert_eq!(frozen.denies("POL_DENIED").0["reasons"][0]["message"], "change freeze");
    stage.get(&ask("&ctx.freeze=true&ctx.breakGlass=true")).await.passes();
    // Who says nothing is not let through: the expression has no answer.
    let silent = stage.get(&ask("")).await;
    assert_eq!(
        (silent.outcome().as_str(), silent.codes()),
        ("INDETERMINATE", vec!["POL_EVAL_ERROR".to_owned()])
    );
    // Answers are kept apart by their context.
    stage.get(&ask("&ctx.freeze=false")).await.passes();
    stage.get(&ask("&ctx.freeze=true&ctx.breakGlass=false")).await.denies("POL_DENIED");

    let gate = |context: &str| format!("/v1/gate?image={}&env=prod{context}", escape(&image));
    stage.get(&gate("&ctx.freeze=false")).await.is(200);
    stage.get(&gate("&ctx.freeze=true&ctx.breakGlass=false")).await.is_problem(403, "GATE_DENIED");
    stage.get(&gate("")).await.is_problem(503, "GATE_INDETERMINATE");
    for bad in ["&ctx.environment=dev", "&ctx.a-b=1", "&ctx.=1", "&ctx.freeze=1&ctx.freeze=0", "&context=x"] {
        stage.get(&gate(bad)).await.is_problem(400, "REQ_QUERY");
    }
    let question = |freeze: &str| json!({"image": image, "env": "prod", "context": {"freeze": freeze}});
    let both =
        stage.post("/v1/verdicts", &json!({"questions": [question("false"), question("x")]})).await.is(200);
    let outcomes: Vec<_> = both.list("verdicts").iter().map(|v| v["outcome"].clone()).collect();
    assert_eq!(outcomes, ["PASSED", "INDETERMINATE"]);

    let verdict = |context: &str| app.run(&["verdict", &image, "--env", "prod", "--ctx", context]);
    assert_eq!(verdict("freeze=false").status.code(), Some(0));
    assert_eq!(verdict("freeze=maybe").status.code(), Some(2));
    assert_eq!(verdict("environment=dev").status.code(), Some(3));
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_expression_is_refused_and_the_active_policy_stays() {
    let stage = Stage::empty().await;
    stage.post_world().await;
    let wrong = FREEZE.replace("ctx.environment", "context.environment");
    let refused = stage.apply("prod", &format!("{}{wrong}", stage.world.policy())).await;
    let refused = refused.is_problem(422, "POL_INVALID").0.to_string();
    assert!(refused.contains("no variable `context`") && refused.contains("spec.deny[0].when"), "{refused}");
    stage.judge().await.passes();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_counts_when_its_whole_run_succeeded() {
    let stage = Stage::empty().await;
    stage.post_world().await;
    let world = &stage.world;
    let policy =
        world.policy().replace("build: {minLevel: 2,", "build: {minLevel: 2, run: {conclusion: [success]},");
    let groups = format!("  trust:\n    groups: {{ci: {{keys: [\"{}\"]}}}}\n", world.k_ci.id());
    let named = format!("{groups}    runs: [{{id: ci, signer: {{group: ci}}}}]\n");
    stage.apply("prod", &policy.replacen("  trust:\n", &named, 1)).await.is(201);
    let unknown = stage.judge().await;
    assert_eq!(unknown.denies("BLD_RUN_UNKNOWN").0["reasons"][0]["retryable"], true);

    let ended = |conclusion: &str, key: &Key| {
        CiRun {
            subjects: world.build.body.subjects.clone(),
            invocation: world.build.body.invocation.clone(),
            conclusion: conclusion.into(),
            finished_on: Some(world.now),
        }
        .statement()
        .signed_by(key)
    };
    // Who is not named tells nothing.
    stage.post_envelopes(&[ended("success", &world.k_reg)]).await;
    stage.judge().await.denies("BLD_RUN_UNKNOWN");
    stage.post_envelopes(&[ended("success", &world.k_ci)]).await;
    stage.judge().await.passes();
    // The image was pushed, and then the run failed after all.
    stage.post_envelopes(&[ended("failure", &world.k_ci)]).await;
    stage.judge().await.denies("BLD_RUN_FAILED");
    // Tried only, it is said and breaks nothing.
    let tried = policy.replacen("build: {", "build: {mode: warn, ", 1);
    stage.apply("prod", &tried).await.is(201);
    let verdict = stage.judge().await.passes();
    let warned =
        verdict.list("reasons").iter().any(|r| r["code"] == "BLD_RUN_FAILED" && r["severity"] == "warning");
    assert!(warned, "{:?}", verdict.list("reasons"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_built_from_a_signed_tag_of_a_merged_commit() {
    let mut stage = Stage::empty().await;
    stage.world.build.body.source_ref = "refs/tags/v1".into();
    let fork = &mut stage.world.source.body;
    fork.reference = "refs/tags/v1".into();
    stage.post_world().await;
    let (world, at) = (&stage.world, stage.world.now);
    let manager = &world.k_dev;
    let asks = format!("refs: [\"{MAIN}\", \"refs/tags/v*\"]\n    reachableFrom: [\"{MAIN}\"]");
    let policy = world
        .policy()
        .replace(&format!("refs: [\"{MAIN}\"]"), &asks)
        .replace("signatures: {", "signatures: {tag: {required: true, principals: managers}, ")
        .replacen(
            "  trust:\n",
            &format!("  trust:\n    groups: {{managers: {{keys: [\"{}\"]}}}}\n", manager.id()),
            1,
        );
    stage.apply("prod", &policy).await.is(201);
    let codes = stage.judge().await.codes();
    assert_eq!(codes, ["SRC_NOT_REACHABLE", "SRC_TAG_UNSIGNED"]);

    // Somebody tags it, and then a release manager does.
    let tag = Tag::new(&world.commit.oid(), "v1", "Rel <rel@acme.test>", at);
    for (signer, code) in [(&world.k_mallory, Some("SRC_SIGNER_NOT_TRUSTED")), (manager, None)] {
        let signed = tag.clone().signed_by(signer);
        stage.push_object(&Blob::new("application/x-git-tag", signed.bytes())).await.is(201);
        let codes = stage.judge().await.codes();
        let expected: Vec<&str> = ["SRC_NOT_REACHABLE"].into_iter().chain(code).collect();
        assert_eq!(codes, expected);
    }
    // It was merged two commits ago: the commits in between prove it, and the forge says where main is.
    let next = |parents: &[&str], message: &str| {
        let mut commit = Commit::new(&world.commit.tree, "Dev <dev@acme.test>", at, message);
        commit.parents = parents.iter().map(|parent| (*parent).to_owned()).collect();
        commit
    };
    let between = next(&[&world.commit.oid()], "more\n");
    let merge = next(&[&"1".repeat(40), &between.oid()], "merge\n");
    let mut evidence = world.source.body.clone();
    evidence.commit = merge.oid();
    evidence.reference = MAIN.into();
    evidence.review = None;
    evidence.signature = None;
    stage.post_envelopes(&[evidence.statement().signed_by(&world.k_vcs)]).await;
    assert_eq!(stage.judge().await.codes(), ["SRC_NOT_REACHABLE"]);
    for commit in [&merge, &between] {
        stage.push_object(&Blob::new("application/x-git-commit", commit.bytes())).await.is(201);
    }
    stage.judge().await.passes();
}
