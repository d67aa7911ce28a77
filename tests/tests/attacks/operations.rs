//! Attacks on how the service is operated.

use std::time::{Duration, Instant};

use acceptance::{App, Stage, cluster, honest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_testkit::{Statement, Subject, sha256_hex, world::RESOURCE};
use serde_json::{Value, json};
use sqlx::Connection as _;

#[tokio::test]
async fn o12_a_start_without_trust_roots_or_policies() {
    let app = App::start().await;
    let (admin, world) =
        (app.admin(), catenary_testkit::World::golden(acceptance::unique(), acceptance::now()));
    for blob in world.objects() {
        admin.push_object(&blob).await.is(201);
    }
    for envelope in world.envelopes() {
        let kept = admin.submit(envelope.to_bytes()).await.is(201);
        assert_eq!(kept.text("status"), "unverified", "nobody vouches for anything");
    }
    let image = world.image();
    let closed = async |why: &str| {
        let verdict = admin.verdict(&image).await.denies(why);
        assert_eq!(verdict.0["allowed"], false);
        let gate = admin.get(&format!("/v1/gate?image={image}&environment=prod")).await;
        assert_eq!(gate.status, 403, "{}", gate.show());
    };
    // Without a policy nobody has said what is good, and nothing is.
    closed("POL_NO_MATCH").await;
    // With keys and no policy, still not; with a policy and the keys, the same evidence counts.
    for (name, pem, scheme) in world.keys() {
        admin.add_key(&name, &pem, Some(&scheme)).await.is(201);
    }
    closed("POL_NO_MATCH").await;
    admin.apply("prod", &world.policy()).await.is(201);
    admin.verdict(&image).await.passes();
}

#[tokio::test(flavor = "multi_thread")]
async fn o09_a_signed_verdict_is_altered() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let path = format!("/v1/verdict?image={}&environment=prod&format=vsa", stage.world.image());
    let envelope = stage.get(&path).await.is(200).0;
    let pem = stage.anonymous().get("/.well-known/catenary/vsa.pem").await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("vsa.pem");
    std::fs::write(&key, &pem.body).unwrap();
    let verifies = |envelope: &Value| {
        let file = folder.path().join("vsa.json");
        std::fs::write(&file, envelope.to_string()).unwrap();
        let image = stage.world.image();
        let arguments =
            ["verify-vsa", file.to_str().unwrap(), "--key", key.to_str().unwrap(), "--image", &image];
        tokio::task::block_in_place(|| app.run(&arguments)).status.success()
    };
    assert!(verifies(&envelope), "the twin");
    let payload = String::from_utf8(STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap()).unwrap();
    let statement: Value = serde_json::from_str(&payload).unwrap();
    let digest = stage.world.index.digest();
    let other = "0".repeat(64);
    let policy = statement["predicate"]["policy"]["uri"].as_str().unwrap().to_owned();
    let verified_at = statement["predicate"]["timeVerified"].as_str().unwrap().to_owned();
    let later = verified_at.replacen("20", "21", 1);
    for (what, from, to) in [
        ("digest", digest.trim_start_matches("sha256:"), other.as_str()),
        ("result", "PASSED", "FAILED"),
        ("policy", policy.as_str(), "https://evil.test/policy"),
        ("time", &verified_at, &later),
        ("space", "{", "{ "),
    ] {
        assert!(payload.contains(from), "{what}");
        let mut forged = envelope.clone();
        forged["payload"] = STANDARD.encode(payload.replacen(from, to, 1)).into();
        assert!(!verifies(&forged), "{what}");
    }
    let mut unsigned = envelope.clone();
    unsigned["signatures"] = json!([]);
    assert!(!verifies(&unsigned), "no signature");
}

#[tokio::test(flavor = "multi_thread")]
async fn o11_without_its_signing_key_the_service_does_not_start() {
    let app = App::start().await;
    let keys = app.data.join("keys");
    let builder = app.stop();
    let mut removed = 0;
    for entry in std::fs::read_dir(&keys).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("vsa") {
            std::fs::remove_file(&path).unwrap();
            removed += 1;
        }
    }
    assert!(removed > 0, "no key of that name in {}", keys.display());
    let app = builder.launch();
    let begun = Instant::now();
    while app.process.is_running() {
        let client = app.anonymous();
        let ready = client.try_send(client.request(reqwest::Method::GET, "/readyz")).await;
        assert!(!ready.is_ok_and(|answer| answer.status == 200), "it is ready with another key");
        assert!(begun.elapsed() < Duration::from_secs(20), "it runs with another key");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o17_what_cannot_be_put_into_the_log_is_not_acknowledged() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    // Somebody holds the head of the log.
    let mut holder = cluster::connect(app.database()).await;
    let mut held = holder.begin().await.unwrap();
    sqlx::query("select size from log_head where tenant = $1 for update")
        .bind(&stage.tenant)
        .execute(&mut *held)
        .await
        .unwrap();
    let statement = Statement::new("https://example.test/note/v1", json!({"n": 1}));
    let statement = statement.subject(Subject::new(RESOURCE, "sha256", &"a".repeat(64)));
    let envelope = statement.signed_by(&stage.world.k_ci).to_bytes();
    let id = format!("sha256:{}", sha256_hex(&envelope));
    let answer = stage.submit(envelope.clone()).await;
    assert_eq!(answer.status, 503, "{}", answer.show());
    // Whoever watches sees it. Answers go on: they read what is in the log.
    let stalled = async || app.anonymous().get("/readyz").await.is(200).0["stalled"].clone();
    assert_eq!(stalled().await, 1);
    stage.judge().await.passes();
    held.rollback().await.unwrap();
    let begun = Instant::now();
    loop {
        let again = stage.submit(envelope.clone()).await;
        if [200, 201].contains(&again.status) {
            assert_eq!(again.is(again.status).text("id"), id);
            assert_eq!(stalled().await, 0);
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", again.show());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    app.log_is_clean();
}

#[tokio::test]
async fn k11_a_subject_with_sha512_alone() {
    let _twin = honest().await;
    let mut stage = Stage::empty().await;
    let hex = catenary_testkit::sha512_hex(b"an image that is only known by its SHA-512");
    stage.world.build.subjects = vec![Subject::new(RESOURCE, "sha512", &hex)];
    let policy = stage.world.policy();
    let lines = policy.lines().filter(|line| {
        let line = line.trim_start();
        // The bytes are kept under SHA-256: what asks about them cannot be answered.
        !line.starts_with("subject:") && !line.starts_with("inputs:") && !line.starts_with("registry:")
    });
    stage.apply("prod", &lines.collect::<Vec<_>>().join("\n")).await.is(201);
    stage.post_objects(&stage.world).await;
    stage.post_envelopes(&[stage.world.source_envelope(), stage.world.build_envelope()]).await;
    stage.verdict(&format!("{RESOURCE}@sha512:{hex}")).await.passes();
    let other = "f".repeat(128);
    let stranger = stage.verdict(&format!("{RESOURCE}@sha512:{other}")).await;
    assert_eq!(stranger.outcome(), "FAILED", "{}", stranger.show());
}
