//! What a policy can say beyond names and digests, and what people see of it.

use acceptance::{App, Stage, http::escape};
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
