//! One image runs for a while in spite of a broken chain: who may say so, and what is said.

use std::time::Duration;

use acceptance::{App, Client, Stage, http::escape};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// A world whose build was never attested, under a policy that allows exceptions.
async fn broken() -> Stage {
    let stage = Stage::empty().await;
    let rules = "  exceptions: {approvers: {roles: [admin, auditor]}, atLeast: 2, maxDuration: 14d, scope: [digest]}\n";
    stage.apply("prod", &(stage.world.policy() + rules)).await.is(201);
    stage.post_objects(&stage.world).await;
    let build = stage.world.build_envelope();
    let others: Vec<_> =
        stage.world.envelopes().into_iter().filter(|envelope| envelope.payload != build.payload).collect();
    stage.post_envelopes(&others).await;
    stage.judge().await.denies("BLD_NO_PROVENANCE");
    stage
}

fn wanted(image: &str, lasts: i64) -> Value {
    let expires = catenary_testkit::time::rfc3339(acceptance::now() + lasts);
    json!({"image": image, "environment": "prod", "owner": "payments", "reason": "the builder is down", "expires": expires})
}

async fn approve(client: &Client, id: &str) -> acceptance::http::Answer {
    client.post(&format!("/v1/exceptions/{id}/approve"), &json!({})).await
}

#[tokio::test]
async fn an_exception_allows_one_image_for_a_while_and_both_are_said() {
    let stage = broken().await;
    let image = stage.world.image();
    let (ann, bob, auditor) =
        (stage.as_role("admin").await, stage.as_role("admin").await, stage.as_role("auditor").await);

    let body = wanted(&image, 3600);
    let asked = ann.post("/v1/exceptions", &body).await.is(201);
    let id = asked.text("id").to_owned();
    assert_eq!((asked.text("state"), asked.number("approvalsNeeded")), ("open", 2));
    assert_eq!(ann.post("/v1/exceptions", &body).await.is(200).text("id"), id);
    approve(&bob, &id).await.is(201);
    stage.judge().await.denies("BLD_NO_PROVENANCE");
    let approved = approve(&auditor, &id).await.is(201);
    assert_eq!(approved.text("state"), "approved");
    approve(&auditor, &id).await.is(200);

    // The outcome stays FAILED, and it is allowed.
    let verdict = stage.judge().await.is(200).0;
    assert_eq!((&verdict["outcome"], &verdict["allowed"]), (&json!("FAILED"), &json!(true)), "{verdict:#}");
    let exception = &verdict["exceptions"][0];
    assert_eq!((&exception["id"], &exception["owner"]), (&json!(id), &json!("payments")));
    let codes: Vec<&Value> = verdict["reasons"].as_array().unwrap().iter().map(|r| &r["code"]).collect();
    assert!(
        codes.contains(&&json!("BLD_NO_PROVENANCE")) && codes.contains(&&json!("EXC_APPLIED")),
        "{codes:?}"
    );
    stage.get(&format!("/v1/gate?image={}&environment=prod", escape(&image))).await.is(200);

    // A signed summary of it is no pass.
    let vsa =
        stage.get(&format!("/v1/verdict?image={}&environment=prod&format=vsa", escape(&image))).await.is(200);
    let payload: Value = serde_json::from_slice(&STANDARD.decode(vsa.text("payload")).unwrap()).unwrap();
    assert_eq!(payload["predicate"]["verificationResult"], "FAILED");

    // Not in another environment, not another digest.
    let staging = format!("/v1/verdict?image={}&environment=staging", escape(&image));
    stage.get(&staging).await.denies("BLD_NO_PROVENANCE");
    let child = stage.world.index.images[0].digest();
    stage.verdict(&stage.world.image_of(&child)).await.denies("BLD_NO_PROVENANCE");

    // Withdrawn: the next answer is no.
    let path = format!("/v1/exceptions/{id}/withdraw");
    let withdrawn = bob.post(&path, &json!({"reason": "the builder is back"})).await.is(200);
    assert_eq!(withdrawn.text("state"), "withdrawn");
    stage.judge().await.denies("BLD_NO_PROVENANCE");
    approve(&bob, &id).await.is_problem(409, "CONFLICT");
    let listed = stage.get("/v1/exceptions").await.is(200).list("items");
    assert_eq!((listed.len(), &listed[0]["state"]), (1, &json!("withdrawn")));
}

#[tokio::test]
async fn an_exception_ends_by_itself_and_says_so() {
    let stage = broken().await;
    let image = stage.world.image();
    let (ann, bob, auditor) =
        (stage.as_role("admin").await, stage.as_role("admin").await, stage.as_role("auditor").await);
    let ends = acceptance::now() + 6;
    let asked = ann.post("/v1/exceptions", &wanted(&image, 6)).await.is(201);
    let id = asked.text("id").to_owned();
    approve(&bob, &id).await.is(201);
    approve(&auditor, &id).await.is(201);
    let verdict = stage.judge().await.is(200).0;
    assert_eq!(verdict["allowed"], true, "{verdict:#}");
    let wait = u64::try_from(ends - acceptance::now() + 1).unwrap_or(0);
    tokio::time::sleep(Duration::from_secs(wait)).await;
    let verdict = stage.judge().await;
    verdict.denies("BLD_NO_PROVENANCE");
    assert!(verdict.show().contains("EXC_EXPIRED"), "{}", verdict.show());
}

#[tokio::test]
async fn what_the_policy_does_not_allow_is_refused_with_the_reason() {
    let stage = broken().await;
    let image = stage.world.image();
    let refused = |body: Value| {
        let stage = &stage;
        async move { stage.post("/v1/exceptions", &body).await.is_problem(422, "EXCEPTION_REFUSED") }
    };
    let long = refused(wanted(&image, 15 * 86_400)).await;
    assert!(long.text("detail").contains("at the latest"), "{}", long.0);
    refused(wanted(&image, -5)).await;
    refused(wanted(&image.replace("registry.acme.test", "registry.other.test"), 60)).await;
    let mut other = wanted(&image, 60);
    other["policy"] = "other".into();
    refused(other).await;

    // A policy without the section allows none.
    let plain = stage.world.policy().replace("owner: sec", "owner: security");
    stage.apply("prod", &plain).await.is(201);
    let none = refused(wanted(&image, 60)).await;
    assert!(none.text("detail").contains("`exceptions`"), "{}", none.0);

    // On the command line.
    let run = App::shared().await.run(&[
        "exception",
        "request",
        &image,
        "--owner",
        "o",
        "--reason",
        "r",
        "--for",
        "1x",
    ]);
    assert_eq!(run.status.code(), Some(3));
}
