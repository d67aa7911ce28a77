//! A builder's key leaks: what is revoked, since when, on every instance, and what was true before.

use std::time::{Duration, Instant};

use acceptance::{Answer, App, Client, Stage, load};
use serde_json::json;

fn question(stage: &Stage) -> String {
    format!("/v1/verdict?image={}&environment=prod", stage.world.image())
}

/// A verdict about the past: nothing is waited for.
async fn back_then(client: &Client, question: &str, as_of: &str, known_at: Option<&str>) -> Answer {
    let known_at = known_at.map(|known_at| format!("&knownAt={known_at}")).unwrap_or_default();
    client.get(&format!("{question}&asOf={as_of}{known_at}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_key_is_revoked_from_a_moment_on_and_what_was_answered_before_stays_known() {
    let one = App::start().await;
    let two = one.builder.clone().beside(&one).start().await;
    let stage = Stage::in_app(&one).await;
    let before_all = jiff::Timestamp::now().to_string();
    let stage = stage.play_honest().await;
    let question = question(&stage);
    let then = stage.judge().await;
    let then_body = then.passes();
    let (as_of, size) = (then_body.text("asOf").to_owned(), then_body.0["log"]["size"].to_string());
    let other = stage.at(&two.url);

    // Later than all that was received: nothing changes.
    let key = stage.world.k_ci.id();
    let after_all = jiff::Timestamp::now().to_string();
    let body = json!({"key": key, "from": after_all, "reason": "a laptop was stolen"});
    let made = stage.post("/v1/revocations", &body).await.is(201);
    assert_eq!(made.text("from"), after_all);
    stage.judge().await.passes();
    stage.post("/v1/revocations", &body).await.is(200);

    // From before: the answers flip on both instances, from the acknowledgement on.
    let body = json!({"key": key, "from": before_all, "reason": "leaked on Tuesday"});
    stage.post("/v1/revocations", &body).await.is(201);
    for client in [&stage.admin, &other] {
        let verdict = client.verdict(&stage.world.image()).await;
        assert_eq!(
            (verdict.outcome().as_str(), verdict.codes()),
            ("FAILED", vec!["ATT_REVOKED_SIGNER".into()])
        );
    }

    // What was answered is found again byte for byte: on either instance, as of then and with what was known then.
    for client in [&stage.admin, &other] {
        let again = back_then(client, &question, &as_of, Some(&size)).await;
        assert_eq!(again.body, then.body, "{}", again.show());
        assert_eq!(again.header("catenary-log-size"), size);
    }
    // With what is known today it was never good.
    let today = back_then(&stage, &question, &as_of, None).await;
    assert_eq!(today.codes(), ["ATT_REVOKED_SIGNER"]);
    assert_eq!(today.json()["asOf"], as_of);
    // By the moment at which it was answered, too.
    let known_at_a_moment = back_then(&stage, &question, &as_of, Some(&after_all)).await;
    assert_eq!(known_at_a_moment.outcome(), "PASSED", "{}", known_at_a_moment.show());
    let list = stage.get("/v1/revocations").await.is(200).list("items");
    assert_eq!(list.len(), 2);
    assert_eq!(list[1]["reason"], "leaked on Tuesday");
    // A decision is about now.
    let gate = format!("/v1/gate?image={}&environment=prod&asOf={as_of}", stage.world.image());
    assert_eq!(stage.get(&gate).await.status, 400);
    assert_eq!(back_then(&stage, &question, &as_of, Some("999999")).await.status, 503, "not yet");
    one.log_is_clean();
}

#[tokio::test]
async fn trust_that_came_later_is_not_seen_in_the_past() {
    let stage = Stage::empty().await;
    stage.post_objects(&stage.world).await;
    // A stranger's statement: kept, unverified, a near miss.
    let stranger = stage.world.k_mallory.clone();
    stage.submit(stage.world.build.statement().signed_by(&stranger).to_bytes()).await.is(201);
    let question = question(&stage);
    let then = stage.get(&question).await;
    assert_eq!(then.outcome(), "FAILED");
    let size = then.json()["log"]["size"].to_string();
    let as_of = then.json()["asOf"].as_str().unwrap().to_owned();
    stage.add_key("stranger", &stranger.public_pem(), None).await.is(201);
    let now = stage.get(&question).await;
    assert_ne!(now.json()["nearMisses"], then.json()["nearMisses"], "somebody vouches for it now");
    let again = back_then(&stage, &question, &as_of, Some(&size)).await;
    assert_eq!(again.body, then.body, "{}\n{}", again.show(), then.show());
    assert_eq!(
        stage.get(&question).await.json()["nearMisses"],
        now.json()["nearMisses"],
        "nothing was rewritten"
    );
}

#[tokio::test]
async fn every_kind_of_target_takes_its_evidence_away() {
    let codes = [
        ("builder", "ATT_REVOKED"),
        ("attestation", "ATT_REVOKED"),
        ("artifact", "ART_DENIED"),
        ("commit", "SRC_REVOKED"),
    ];
    for (kind, code) in codes {
        let stage = Stage::empty().await.play_honest().await;
        let verdict = stage.judge().await.json();
        let links = verdict["links"].as_array().unwrap();
        let build = links.iter().find(|link| link["stage"] == "build").unwrap();
        let target = match kind {
            "builder" => stage.world.build.builder_id.clone(),
            "attestation" => build["evidence"][0].as_str().unwrap().to_owned(),
            "artifact" => stage.world.index.digest(),
            _ => format!("gitCommit:{}", stage.world.build.source_commit.clone().unwrap()),
        };
        let body = json!({kind: target, "reason": "an incident"});
        stage.post("/v1/revocations", &body).await.is(201);
        let verdict = stage.judge().await;
        assert_eq!(verdict.codes(), [code], "{kind}: {}", verdict.show());
        stage.post("/v1/revocations", &body).await.is(200);
    }
}

#[tokio::test]
async fn a_revocation_that_means_nothing_or_too_much_is_refused_with_its_place() {
    let stage = Stage::empty().await;
    let unknown = format!("sha256:{}", "5".repeat(64));
    assert_eq!(stage.post("/v1/revocations", &json!({"key": unknown, "reason": "x"})).await.status, 404);
    assert_eq!(
        stage.post("/v1/revocations", &json!({"attestation": unknown, "reason": "x"})).await.status,
        404
    );
    let two = json!({"builder": "a", "artifact": unknown, "reason": "x"});
    let answer = stage.post("/v1/revocations", &two).await;
    assert!(
        (400..500).contains(&answer.status) && answer.show().contains("exactly one"),
        "{}",
        answer.show()
    );
    for bad in [
        json!({"builder": "a"}),
        json!({"builder": "a", "reason": ""}),
        json!({"builder": "a", "reason": "x", "from": "Tuesday"}),
        json!({"identity": {"san": {"regex": "a)|(b"}}, "reason": "x"}),
        json!({"identity": {"issuer": "https://issuer.test"}, "reason": "x"}),
    ] {
        let answer = stage.post("/v1/revocations", &bad).await;
        assert!((400..500).contains(&answer.status), "{bad}: {}", answer.show());
    }
    assert!(stage.get("/v1/revocations").await.is(200).list("items").is_empty());
    let reader = stage.as_role("reader").await;
    assert_eq!(reader.post("/v1/revocations", &json!({"builder": "a", "reason": "x"})).await.status, 403);
}

/// Found by the hammer: an instance died before it answered, and the next one, asked again, answered at once that the token was revoked
/// already, while the lease of a third one had not run out.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_already_is_acknowledged_when_no_lease_can_miss_it() {
    const LEASES: Duration = Duration::from_millis(1_250);
    let app = App::start().await;
    let second = app.builder.clone().beside(&app).start().await;
    let stage = Stage::in_default(&app).await;
    let other = stage.admin.afresh(&second.url);
    let body = json!({"name": "leaked", "role": "reader", "expiresIn": "1h"});
    let id = stage.post("/v1/tokens", &body).await.is(201).text("id").to_owned();
    let (revoke, why) = (format!("/v1/tokens/{id}/revoke"), json!({"reason": "leaked"}));
    let begun = Instant::now();
    // Nobody hears the first answer.
    let first = tokio::time::timeout(Duration::from_millis(300), stage.post(&revoke, &why)).await;
    assert!(first.is_err(), "acknowledged while other instances may not know");
    other.post(&revoke, &why).await.is(200);
    assert!(begun.elapsed() >= LEASES, "acknowledged after {:?}", begun.elapsed());
}

/// Found by the hammer: an instance that followed the log a little later knew nothing of what another one had acknowledged, and
/// answered its revocation with 404.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_instance_acknowledged_is_revoked_on_another_at_once() {
    let app = App::start().await;
    let second = app.builder.clone().beside(&app).start().await;
    let stage = Stage::in_default(&app).await.play_honest().await;
    let other = stage.admin.afresh(&second.url);
    for _ in 0..20 {
        let kept = stage.submit(load::fresh(&stage.world.k_ci)).await.is(201);
        let body = json!({"attestation": kept.text("id"), "reason": "sent by mistake"});
        other.post("/v1/revocations", &body).await.is(201);
    }
}
