//! Sending, reading and waiting.

use acceptance::{App, Stage, checker, honest, http::escape};
use catenary_testkit::{Statement, Subject, provenance, world::RESOURCE};
use reqwest::Method;
use serde_json::json;

fn note(stage: &Stage) -> String {
    let statement = Statement::new("https://acme.test/note/v1", json!({"n": acceptance::unique()}));
    statement.subject(Subject::new("x", "sha256", &"1".repeat(64))).signed_by(&stage.world.k_vcs).to_json()
}

#[tokio::test]
async fn a_batch_with_one_bad_item_keeps_the_others() {
    let stage = honest().await;
    let (one, two) = (note(&stage), note(&stage));
    let items = stage
        .submit(format!("[{one},{{\"payloadType\":\"x\",\"payload\":\"\",\"signatures\":[]}},{two}]"))
        .await
        .is(200)
        .list("items");
    assert_eq!(items.len(), 3);
    assert_eq!(
        (items[0]["status"].as_u64(), items[2]["status"].as_u64()),
        (Some(201), Some(201)),
        "{items:?}"
    );
    assert_eq!(items[1]["status"], 422, "{items:?}");
    assert!(items[1]["code"].is_string() || items[1]["problem"]["code"].is_string(), "{items:?}");
    stage.get(&format!("/v1/attestations/{}", items[2]["id"].as_str().unwrap())).await.is(200);
}

#[tokio::test]
async fn json_lines_are_many_items() {
    let stage = honest().await;
    let body = format!("{}\n{}\n\n{}\n", note(&stage), note(&stage), "{\"x\":");
    let items =
        stage.post_bytes("/v1/attestations", "application/x-ndjson", body).await.is(200).list("items");
    let statuses: Vec<u64> = items.iter().map(|i| i["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses[..2], [201, 201], "{items:?}");
    assert!([400, 422].contains(&statuses[2]), "{items:?}");
}

#[tokio::test]
async fn what_is_not_json_is_400_and_names_the_place() {
    let stage = honest().await;
    for body in ["", "{", "nonsense", "[1,", "\u{feff}{}"] {
        let answer = stage.submit(body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.show());
    }
    let problem = stage
        .submit("{\"payload\": \"e30=\",\n  \"payload\": \"\"}")
        .await
        .is_problem(422, "JSON_DUPLICATE_KEY");
    assert_eq!(problem.number("line"), 2, "{}", problem.0);
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let answer = stage.submit(format!("{{\"payload\":{deep}}}")).await;
    assert_eq!(answer.status, 422, "{}", answer.show());
    let reason = stage.anonymous().get("/docs/reasons/JSON_DUPLICATE_KEY").await;
    assert_eq!(reason.status, 200, "{}", reason.show());
}

#[tokio::test]
async fn a_repost_is_200_with_the_same_id_and_index() {
    let stage = honest().await;
    let text = note(&stage);
    let (first, second) = (stage.submit(text.clone()).await, stage.submit(text).await);
    first.is(201);
    second.is(200);
    assert_eq!(checker::acknowledged(&first), checker::acknowledged(&second));
    let document = stage.world.index.document();
    assert_eq!(stage.push_object(&document).await.status, 200);
}

#[tokio::test]
async fn every_acknowledgement_carries_a_proof_that_holds() {
    let stage = honest().await;
    let answer = stage.submit(note(&stage)).await;
    let (id, index) = checker::acknowledged(&answer);
    let checked = checker::check(&stage, &stage.tenant).await;
    checked.proves(index, &answer.json()["inclusion"]);
    checked.includes(&stage, &id, index).await;
}

#[tokio::test]
async fn a_read_sees_its_own_write_or_says_when() {
    let stage = honest().await;
    let (_, index) = checker::acknowledged(&stage.submit(note(&stage)).await);
    let image = stage.world.image();
    let answer =
        stage.get(&format!("/v1/verdict?image={image}&environment=prod&minIndex={index}&wait=5")).await;
    answer.passes();
    // The verdict may be older than an entry that does not matter to it; it is known to hold with it.
    assert!(answer.header("catenary-log-size").parse::<u64>().unwrap() > index, "{:?}", answer.headers);
    let begun = std::time::Instant::now();
    let ahead = stage
        .get(&format!("/v1/verdict?image={image}&environment=prod&minIndex={}&wait=1s", index + 1_000))
        .await;
    ahead.is_problem(503, "SYS_INGEST_PENDING");
    assert!(!ahead.header("retry-after").is_empty());
    assert!(begun.elapsed().as_millis() >= 900 && begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn wait_answers_as_soon_as_the_evidence_arrives() {
    let stage = Stage::empty().await;
    stage.post_objects(&stage.world).await;
    stage.post_envelopes(&[stage.world.source_envelope(), stage.world.push_envelope()]).await;
    let log_size = stage.judge().await.is(200).0["log"]["size"].as_u64().unwrap();
    let (client, path) = (
        stage.admin.clone(),
        format!("/v1/verdict?image={}&environment=prod&minIndex={log_size}&wait=20", stage.world.image()),
    );
    let waiting = tokio::spawn(async move { client.get(&path).await });
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    stage.post_envelopes(&[stage.world.build_envelope()]).await;
    waiting.await.unwrap().passes();
}

#[tokio::test]
async fn a_bare_digest_lists_verdicts_and_is_no_decision() {
    let stage = honest().await;
    let digest = stage.world.index.digest();
    let list = stage.get(&format!("/v1/verdict?digest={digest}&environment=prod")).await.is(200);
    assert_eq!((list.text("kind"), list.text("outcome")), ("VerdictList", "PASSED"));
    assert!(list.0.get("allowed").is_none());
    stage
        .get(&format!("/v1/gate?digest={digest}&environment=prod"))
        .await
        .is_problem(400, "REQ_RESOURCE_REQUIRED");
    // Known in a second repository, for which no policy speaks, the worst outcome counts.
    let mut elsewhere = stage.world.push.clone();
    elsewhere.repository = "other/app".into();
    stage.post_envelopes(&[elsewhere.statement().signed_by(&stage.world.k_reg)]).await;
    let list = stage.get(&format!("/v1/verdict?digest={digest}&environment=prod")).await.is(200);
    assert_eq!(list.text("outcome"), "FAILED", "{}", list.0);
    assert_eq!(list.list("verdicts").len(), 2);
}

#[tokio::test]
async fn the_gate_speaks_in_status_codes() {
    let stage = honest().await;
    let gate = |image: String| format!("/v1/gate?image={}&environment=prod", escape(&image));
    let yes = stage.get(&gate(stage.world.image())).await.is(200);
    assert_eq!(yes.0["allowed"], true);
    let no =
        stage.get(&gate(stage.world.image_of(&format!("sha256:{}", "0123456789abcdef".repeat(4))))).await;
    no.is_problem(403, "GATE_DENIED");
    stage.get(&gate(format!("{RESOURCE}:latest"))).await.is_problem(400, "REQ_TAG_NOT_DIGEST");
    stage.get("/v1/gate?image=%2F%2F").await.is(400);
    stage
        .get(&format!("{}&minIndex=100000&wait=0", gate(stage.world.image())))
        .await
        .is_problem(503, "SYS_INGEST_PENDING");
}

#[tokio::test]
async fn an_unchanged_verdict_is_304_and_a_new_entry_makes_it_new() {
    let stage = honest().await;
    let path = format!("/v1/verdict?image={}&environment=prod", stage.world.image());
    let first = stage.get(&path).await;
    first.passes();
    let etag = first.header("etag");
    assert!(!etag.is_empty() && !first.header("catenary-log-size").is_empty());
    let again = |etag: String| {
        let request = stage.request(Method::GET, &path).header("if-none-match", etag);
        stage.send(request)
    };
    let same = again(etag.clone()).await;
    assert_eq!((same.status, same.body.len()), (304, 0), "{}", same.show());
    // Evidence of somebody unknown changes near misses; trusted evidence that conflicts changes the outcome.
    let mut second = stage.world.build.clone();
    second.source_commit = Some("c2".repeat(20));
    stage.post_envelopes(&[second.statement().signed_by(&stage.world.k_ci)]).await;
    let changed = again(etag).await;
    changed.denies("SRC_AMBIGUOUS");
    let attestation = stage.get("/v1/attestations?limit=1").await.is(200).list("items")[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/attestations/{attestation}");
    let etag = stage.get(&path).await.header("etag");
    let cached = stage.send(stage.request(Method::GET, &path).header("if-none-match", etag)).await;
    assert_eq!(cached.status, 304);
}

#[tokio::test]
async fn attestations_are_found_by_what_they_say() {
    let stage = honest().await;
    let world = &stage.world;
    let find = async |query: String| stage_items(&stage.admin, &query).await;
    assert_eq!(find(String::new()).await.len(), 3);
    assert_eq!(find(format!("subject={}", escape(&world.index.digest()))).await.len(), 2);
    assert_eq!(find(format!("subject=gitCommit:{}", world.commit.oid())).await.len(), 1);
    assert_eq!(find(format!("predicateType={}", escape(provenance::V1))).await.len(), 1);
    assert_eq!(find(format!("signer={}", escape(&world.k_ci.id()))).await.len(), 1);
    assert_eq!(find(format!("builder={}", escape(&world.build.builder_id))).await.len(), 1);
    assert_eq!(find(format!("sourceRepository={}", escape(&world.build.source_uri))).await.len(), 2);
    assert_eq!(find(format!("sourceCommit=gitCommit:{}", world.commit.oid())).await.len(), 2);
    assert_eq!(find("status=unverified".into()).await.len(), 0);
    assert_eq!(find("since=2100-01-01T00:00:00Z".into()).await.len(), 0);
    assert_eq!(find("until=2100-01-01T00:00:00Z".into()).await.len(), 3);
}

async fn stage_items(client: &acceptance::Client, query: &str) -> Vec<serde_json::Value> {
    client.get(&format!("/v1/attestations?{query}")).await.is(200).list("items")
}

#[tokio::test]
async fn an_artifact_is_shown_with_its_relatives() {
    let stage = honest().await;
    let digest = stage.world.index.digest();
    let artifact = stage.get(&format!("/v1/artifacts/{digest}")).await.is(200);
    assert_eq!(artifact.text("digest"), digest);
    assert_eq!(artifact.list("children").len(), 2);
    assert!(artifact.list("resources").iter().any(|r| r.to_string().contains(RESOURCE)), "{}", artifact.0);
    assert!(artifact.list("tags").iter().any(|t| t.to_string().contains("1.0.0")), "{}", artifact.0);
    assert_eq!(artifact.list("attestations").len(), 2);
    let child = stage.get(&format!("/v1/artifacts/{}", stage.world.index.images[0].digest())).await.is(200);
    assert_eq!(child.list("parents").len(), 1);
    let graph = stage.get(&format!("/v1/artifacts/{digest}/graph")).await.is(200);
    assert!(graph.list("nodes").len() >= 3 && graph.list("edges").len() >= 2, "{}", graph.0);
}

#[tokio::test]
async fn a_thousand_questions_are_answered_at_once_and_one_more_is_refused() {
    let stage = honest().await;
    let good = json!({"image": stage.world.image(), "environment": "prod"});
    let tag = json!({"image": format!("{RESOURCE}:latest")});
    let mut questions = vec![good.clone(), tag];
    questions.resize(1_000, good.clone());
    let verdicts =
        stage.post("/v1/verdicts", &json!({"questions": questions})).await.is(200).list("verdicts");
    assert_eq!(verdicts.len(), 1_000);
    assert_eq!(verdicts[0]["outcome"], "PASSED");
    assert_eq!(verdicts[1]["code"], "REQ_TAG_NOT_DIGEST", "{}", verdicts[1]);
    questions.push(good);
    let over = stage.post("/v1/verdicts", &json!({"questions": questions})).await;
    assert!([400, 413, 422].contains(&over.status), "{}", over.show());
}

#[tokio::test]
async fn a_policy_is_applied_once_and_never_rolled_back() {
    let stage = honest().await;
    let policy = stage.world.policy();
    let same = stage.apply("prod", &policy).await.is(200);
    assert_eq!(same.number("revision"), 1);
    let second = stage.apply("prod", &format!("# second\n{policy}")).await;
    assert!([200, 201].contains(&second.status), "{}", second.show());
    assert_eq!(second.json()["revision"], 2);
    stage.apply("prod", &policy).await.is_problem(409, "POL_ROLLBACK");
    let bad = stage
        .apply("prod", &policy.replace("atLeast: 1, of", "atLast: 1, of"))
        .await
        .is_problem(422, "POL_INVALID");
    assert!(bad.number("line") > 1, "{}", bad.0);
    stage.post_bytes("/v1/policies:lint", "application/yaml", policy).await.is(200);
    stage.post_bytes("/v1/policies:lint", "application/yaml", "x: y").await.is(422);
    stage.judge().await.passes();
}

#[tokio::test]
async fn a_key_added_later_vouches_for_what_is_already_there() {
    let stage = honest().await;
    let key = catenary_testkit::Key::ed25519(&format!("late-{}", stage.tenant));
    let statement = Statement::new("https://acme.test/note/v1", json!({})).subject(Subject::new(
        "x",
        "sha256",
        &"2".repeat(64),
    ));
    let before = stage.submit(statement.signed_by(&key).to_bytes()).await.is(201);
    assert_eq!(before.text("status"), "unverified");
    let added = stage.add_key("late", &key.public_pem(), None).await.is(201);
    assert!(added.number("effectiveIndex") > added.number("index"));
    assert_eq!(
        stage.get(&format!("/v1/attestations/{}", before.text("id"))).await.is(200).text("status"),
        "verified"
    );
    stage.revoke_key(&key.id(), "test").await.is(200);
}

#[tokio::test]
async fn tenants_know_nothing_of_each_other() {
    let (acme, globex) = (honest().await, honest().await);
    for (mine, other) in [(&acme, &globex), (&globex, &acme)] {
        assert_eq!(stage_items(&mine.admin, "").await.len(), 3);
        mine.get(&format!("/v1/log/{}/checkpoint", other.tenant)).await.is(404);
        assert_eq!(mine.verdict(&other.world.image()).await.outcome(), "FAILED");
    }
    let platform = App::shared().await.platform();
    let names = platform.get("/v1/tenants").await.is(200).list("items");
    assert!(names.iter().any(|t| t["name"] == acme.tenant.as_str()));
    // The platform's administrator makes tenants and reads none.
    platform.get("/v1/attestations").await.is_problem(403, "AUTH_ROLE");
    platform.get(&format!("/v1/log/{}/checkpoint", acme.tenant)).await.is_problem(403, "AUTH_ROLE");
    let again = platform.post("/v1/tenants", &json!({"name": acme.tenant, "publicLog": false})).await;
    assert_eq!(again.status, 409, "{}", again.show());
    for name in ["", "A", "-x", "x y", "../x", &"x".repeat(33)] {
        let answer = platform.post("/v1/tenants", &json!({"name": name, "publicLog": false})).await;
        assert!([400, 422].contains(&answer.status), "{name}: {}", answer.show());
    }
}

#[tokio::test]
async fn a_public_log_is_read_without_a_credential_and_its_bodies_are_not() {
    let app = App::shared().await;
    let name = format!("public{}", acceptance::unique());
    app.platform().post("/v1/tenants", &json!({"name": name, "publicLog": true})).await.is(201);
    checker::check(&app.anonymous(), &name).await;
    app.anonymous().get("/v1/attestations").await.is(401);
}

#[tokio::test]
async fn whoever_evaluates_by_itself_gets_evidence_and_facts_of_a_digest() {
    let (stage, other) = (honest().await, honest().await);
    let image = stage.world.image();
    let digest = image.split_once('@').unwrap().1;
    let path = format!("/v1/facts?digest={digest}");
    let facts = stage.get(&path).await.is(200);
    assert_eq!(facts.text("digest"), digest);
    assert_eq!(facts.0["object"]["kind"], "index", "{}", facts.0);
    assert!(facts.0["object"]["facts"].is_object() && facts.0.get("revoked").is_none(), "{}", facts.0);
    let items = facts.list("items");
    let sent = [stage.world.push_envelope(), stage.world.build_envelope()];
    assert_eq!(items.len(), sent.len(), "{}", facts.0);
    for (item, envelope) in items.iter().zip(&sent) {
        let sent: serde_json::Value = serde_json::from_slice(&envelope.to_bytes()).unwrap();
        assert_eq!(item["evidence"]["payload"], sent["payload"], "newest first");
        let raw = stage.get(&format!("/v1/attestations/{}/raw", item["id"].as_str().unwrap())).await.is(200);
        assert_eq!(item["evidence"], raw.0, "as it was sent");
        assert_eq!(item["status"], "verified");
        assert_eq!((&item["signatures"][0]["trusted"], &item["revoked"]), (&json!(true), &json!(false)));
    }
    let builds: Vec<_> = items.iter().filter(|item| item["claim"].to_string().contains("builder")).collect();
    assert_eq!(builds.len(), 1, "{}", facts.0);
    // The commit that the build names is asked for by itself.
    let commit = format!("gitCommit:{}", stage.world.commit.oid());
    let source = stage.get(&format!("/v1/facts?digest={commit}")).await.is(200);
    assert_eq!(source.0["object"]["kind"], "commit");

    // A stranger's word is there, and is not trusted.
    let about = Subject::new("x", "sha256", digest.trim_start_matches("sha256:"));
    let statement = Statement::new("https://acme.test/note/v1", json!({})).subject(about);
    stage.submit(statement.signed_by(&catenary_testkit::Key::ed25519("nobody")).to_bytes()).await.is(201);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = stage.get(&format!("{path}&limit=1{cursor}")).await.is(200);
        assert_eq!(page.0["object"].is_object(), cursor.is_empty(), "on the first page alone");
        seen.extend(page.list("items"));
        let Some(next) = page.0["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
        let elsewhere = format!("/v1/facts?digest={commit}{cursor}");
        assert!((400..500).contains(&stage.get(&elsewhere).await.status), "a cursor is for one list");
    }
    assert_eq!((seen.len(), &seen[1..]), (3, items.as_slice()));
    assert_eq!((&seen[0]["status"], &seen[0]["signatures"]), (&json!("unverified"), &json!([])));

    stage.revoke_key(&stage.world.k_ci.id(), "it leaked").await.is(200);
    let facts = stage.get(&path).await.is(200);
    let trusted: Vec<_> =
        facts.list("items").iter().map(|item| item["signatures"][0]["trusted"].clone()).collect();
    assert_eq!(trusted, [json!(null), json!(true), json!(false)], "{}", facts.0);
    let why = json!({"artifact": digest, "reason": "malware"});
    stage.post("/v1/revocations", &why).await.is(201);
    assert_eq!(stage.get(&path).await.is(200).text("revoked"), "malware");

    other.get(&path).await.is(404);
    for bad in ["/v1/facts", "/v1/facts?digest=sha256:00", &format!("{path}&limit=0"), &format!("{path}&x=1")]
    {
        let answer = stage.get(bad).await;
        assert!([400, 422].contains(&answer.status), "{bad}: {}", answer.show());
    }
    stage.anonymous().get(&path).await.is(401);
    let token = stage.token(&json!({"name": "ci", "role": "submitter", "expiresIn": "1d"})).await.is(201);
    stage.with(token.text("token")).get(&path).await.is_problem(403, "AUTH_ROLE");
}

#[tokio::test]
async fn tokens_are_listed_without_their_secrets_and_revoked() {
    let stage = honest().await;
    let made = stage.token(&json!({"name": "ci", "role": "submitter", "expiresIn": "30d"})).await.is(201);
    let list = stage.get("/v1/tokens").await;
    list.is(200);
    assert!(!list.show().contains(made.text("token")));
    let secret = made.text("token").split('_').nth(3).unwrap();
    assert!(!list.show().contains(secret));
    stage.post(&format!("/v1/tokens/{}/revoke", made.text("id")), &json!({"reason": "done"})).await.is(200);
    stage.with(made.text("token")).submit(note(&stage)).await.is(401);
    let late = stage.token(&json!({"name": "ci", "role": "submitter", "expiresIn": "400d"})).await;
    assert!([400, 422].contains(&late.status), "{}", late.show());
}
