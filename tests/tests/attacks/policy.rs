//! Attacks on how policies and exceptions come to decide.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use acceptance::{Client, Stage, honest};
use serde_json::{Value, json};

fn of(revision: u64, what: &str) -> String {
    format!("/v1/policies/prod/revisions/{revision}/{what}")
}

async fn say(client: &Client, revision: u64, what: &str) -> acceptance::http::Answer {
    client.post(&of(revision, what), &json!({})).await
}

#[tokio::test]
async fn p08_a_replayed_old_document_does_not_come_back_unnoticed() {
    let stage = honest().await;
    let (ann, bob) = (stage.as_role("admin").await, stage.as_role("admin").await);
    let old = stage.world.policy();
    let guarded = old.replace("owner: sec", "owner: sec, approvals: 1");
    stage.apply("prod", &guarded).await.is(201);
    stage.apply("prod", &old).await.answers("P08");
    ann.post("/v1/policies/prod/drafts", &json!({ "document": old })).await.answers("P08");
    // Going back is an act of its own, by its number, and takes somebody else as every change does.
    say(&ann, 1, "activate").await.is_problem(403, "POL_UNSIGNED");
    say(&ann, 1, "approve").await.is(201);
    say(&ann, 1, "activate").await.is_problem(403, "POL_UNSIGNED");
    assert_eq!(stage.judge().await.passes().0["policy"]["revision"], 2);
    say(&bob, 1, "activate").await.is(201);
    assert_eq!(stage.judge().await.passes().0["policy"]["revision"], 1);
}

#[tokio::test]
async fn o15_nobody_changes_a_guarded_policy_alone() {
    let stage = honest().await;
    let (ann, bob) = (stage.as_role("admin").await, stage.as_role("admin").await);
    let guarded = stage.world.policy().replace("owner: sec", "owner: sec, approvals: 1");
    stage.apply("prod", &guarded).await.is(201);
    let lax = guarded.replace("mode: enforce", "mode: warn");
    assert_ne!(lax, guarded);

    // At once, as a draft, by a second token, by another policy in front: each takes somebody else.
    ann.apply("prod", &lax).await.is_problem(403, "POL_UNSIGNED");
    ann.post("/v1/policies/prod/drafts", &json!({ "document": lax })).await.is(201);
    say(&ann, 3, "activate").await.is_problem(403, "POL_UNSIGNED");
    say(&ann, 3, "approve").await.is_problem(403, "APPROVAL_SELF");
    let second = ann.as_role("admin").await;
    say(&second, 3, "approve").await.is_problem(403, "APPROVAL_SELF");
    say(&second, 3, "activate").await.is_problem(403, "POL_UNSIGNED");
    let in_front = lax
        .replace("name: prod", "name: in-front")
        .replace("approvals: 1", "approvals: 0")
        .replace("match: {", "match: {priority: 7, ");
    ann.apply("in-front", &in_front).await.is_problem(403, "POL_UNSIGNED");
    for role in ["reader", "auditor"] {
        let other = stage.as_role(role).await;
        say(&other, 3, "approve").await.is_problem(403, "AUTH_ROLE");
    }
    assert_eq!(stage.judge().await.passes().0["policy"]["revision"], 2);

    say(&bob, 3, "approve").await.is(201);
    say(&ann, 3, "activate").await.is(201);
    assert_eq!(stage.judge().await.passes().0["mode"], "warn");
}

#[tokio::test]
async fn p16_a_verdict_names_the_revision_that_it_was_computed_with() {
    let stage = honest().await;
    let good = stage.get("/v1/policies/prod").await.is(200).text("digest").to_owned();
    let strict = stage.world.policy().replace("refs/heads/main", "refs/heads/release");
    let drafted = stage.post("/v1/policies/prod/drafts", &json!({ "document": strict })).await.is(201);
    let bad = drafted.text("digest").to_owned();

    let done = Arc::new(AtomicBool::new(false));
    let image = stage.world.image();
    let askers: Vec<_> = (0..4)
        .map(|_| {
            let (client, image, done) = (stage.admin.clone(), image.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut seen: Vec<(String, u64, String)> = Vec::new();
                while !done.load(Ordering::SeqCst) {
                    let verdict = client.verdict(&image).await.is(200).0;
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let revision = verdict["policy"]["revision"].as_u64().unwrap_or(0);
                    seen.push((text(&verdict["policy"]["digest"]), revision, text(&verdict["outcome"])));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                seen
            })
        })
        .collect();
    for revision in [2, 1, 2, 1] {
        say(&stage, revision, "activate").await.is(201);
        // After the acknowledgement there is no other revision.
        let verdict = stage.judge().await.is(200).0;
        assert_eq!(verdict["policy"]["revision"], revision);
    }
    done.store(true, Ordering::SeqCst);
    let mut both = [0, 0];
    for asker in askers {
        for (digest, revision, outcome) in asker.await.unwrap() {
            let expected = if digest == good { (1, "PASSED") } else { (2, "FAILED") };
            assert!(digest == good || digest == bad, "{digest}");
            assert_eq!((revision, outcome.as_str()), expected);
            both[usize::from(digest == good)] += 1;
        }
    }
    assert!(both[0] > 0 && both[1] > 0, "{both:?}");
}

#[tokio::test]
async fn p13_exceptions_are_not_for_everybody_not_by_oneself_and_do_not_add_up() {
    let _twin = honest().await;
    let stage = Stage::empty().await;
    let rules = "  exceptions: {approvers: {roles: [admin]}, atLeast: 2, maxDuration: 14d}\n";
    stage.apply("prod", &(stage.world.policy() + rules)).await.is(201);
    let denied = || async {
        let verdict = stage.judge().await;
        assert_ne!(verdict.json()["allowed"], true, "{}", verdict.show());
    };
    let image = stage.world.image();
    let expires = catenary_testkit::time::rfc3339(acceptance::now() + 3600);
    let body = |reason: &str| json!({"image": image, "owner": "o", "reason": reason, "expires": expires});
    for role in ["submitter", "reader", "auditor"] {
        stage.as_role(role).await.post("/v1/exceptions", &body("mine")).await.answers("P13");
    }
    let (ann, bob) = (stage.as_role("admin").await, stage.as_role("admin").await);
    let one = ann.post("/v1/exceptions", &body("one")).await.is(201).text("id").to_owned();
    let two = bob.post("/v1/exceptions", &body("two")).await.is(201).text("id").to_owned();
    assert_ne!(one, two);
    let approve = |client: Client, id: String| async move {
        client.post(&format!("/v1/exceptions/{id}/approve"), &json!({})).await
    };
    // By oneself, by a token that one made, by a role that the policy does not name.
    approve(ann.clone(), one.clone()).await.is_problem(403, "APPROVAL_SELF");
    let second = ann.as_role("admin").await;
    approve(second, one.clone()).await.is_problem(403, "APPROVAL_SELF");
    approve(stage.as_role("auditor").await, one.clone()).await.is_problem(403, "APPROVAL_ROLE");
    denied().await;
    // One approval each, of two that are asked for.
    approve(bob.clone(), one.clone()).await.is(201);
    approve(ann.clone(), two.clone()).await.is(201);
    denied().await;
    // A token that the first approver made is no second approver.
    approve(bob.as_role("admin").await, one.clone()).await.is(201);
    denied().await;
    approve(stage.as_role("admin").await, one).await.is(201);
    let verdict = stage.judge().await.is(200).0;
    assert_eq!((&verdict["outcome"], &verdict["allowed"]), (&json!("FAILED"), &json!(true)), "{verdict:#}");
}
