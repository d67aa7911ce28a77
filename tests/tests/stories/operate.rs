//! What an operator sees.

use acceptance::{
    App, Builder, Stage,
    jwt::{GITHUB, GITLAB, Issuer, config},
};
use serde_json::json;

/// O14: bearer tokens, JWTs, database URLs and private keys never appear in logs, at the most talkative level.
pub async fn no_secrets_in_logs(builder: Builder) {
    let folder = tempfile::tempdir().unwrap();
    let (github, gitlab) = (Issuer::new(GITHUB), Issuer::new(GITLAB));
    let app = builder
        .config(&config(folder.path(), &github, &gitlab))
        .env("RUST_LOG", "trace")
        .env("PGPASSWORD", "hunter2-of-the-database")
        .start()
        .await;
    let stage = Stage::in_default(&app).await.play_honest().await;
    let jwt = github.token(&github.github_claims());
    stage.with(&jwt).submit(stage.world.build_envelope().to_bytes()).await;
    let forged = format!("{jwt}x");
    stage.with(&forged).submit("{}").await;
    let made = stage
        .token(&json!({"name": "x", "role": "reader", "expiresIn": "1h"}))
        .await
        .is(201)
        .text("token")
        .to_owned();
    stage.with(&made).get("/v1/keys").await;
    let wrong = made.replace("ctn_default", "ctn_defau1t");
    stage.with(&wrong).get("/v1/keys").await;
    stage.get(&format!("/v1/keys?access_token={made}")).await;
    let private = stage.world.k_ci.private_pkcs8_pem();
    let answer = stage.add_key("oops", &private, None).await;
    assert!([400, 422].contains(&answer.status), "{}", answer.show());
    let log = app.log();
    assert!(log.lines().count() > 20, "nothing is logged");
    let (admin, platform) = (stage.token.clone().unwrap(), app.platform().token.unwrap());
    let key_line = private.lines().nth(1).unwrap().to_owned();
    for (what, secret) in [
        ("JWT", &jwt),
        ("token", &made),
        ("wrong token", &wrong),
        ("admin token", &admin),
        ("platform token", &platform),
        ("private key", &key_line),
    ] {
        // The secret part is enough to fail: the public id may be there.
        let part = secret.split(['_', '.']).rfind(|p| p.len() >= 20).unwrap_or(secret);
        assert!(!log.contains(secret.as_str()) && !log.contains(part), "{what} is in the log");
    }
    let database = app.database();
    assert!(!log.contains(database), "the database URL is in the log");
    assert!(!log.contains("hunter2-of-the-database"));
}

#[tokio::test]
async fn the_log_is_json_lines_with_request_ids() {
    let app = App::start().await;
    // What only reads and succeeds leaves no line: it is in the metrics.
    let answer = app.admin().post("/v1/policies:lint", &serde_json::json!({})).await;
    let id = answer.header("x-request-id");
    assert!(!id.is_empty(), "{:?}", answer.headers);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let log = app.log();
    let line = log.lines().find(|line| line.contains(&id)).unwrap_or_else(|| panic!("{id} is not in {log}"));
    let _: serde_json::Value = serde_json::from_str(line).unwrap();
}

#[tokio::test]
async fn health_readiness_and_metrics_need_no_credential() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let nobody = app.anonymous();
    nobody.get("/healthz").await.is(200);
    let ready = nobody.get("/readyz").await.is(200);
    assert_eq!(ready.0["rollbackDetection"], "on", "{}", ready.0);
    let metrics = String::from_utf8(nobody.get("/metrics").await.body.to_vec()).unwrap();
    for name in [
        "catenary_requests",
        "catenary_ingest",
        "catenary_verdict",
        "catenary_log_entries",
        "catenary_lease_age",
        "catenary_integrity_alarms_total",
    ] {
        assert!(metrics.contains(name), "{name} is not among the metrics:\n{metrics}");
    }
    let spec = nobody.get("/openapi.json").await.is(200);
    assert!(spec.text("openapi").starts_with("3.1"), "{}", spec.0["openapi"]);
    assert!(!stage.tenant.is_empty());
}

#[tokio::test]
async fn unknown_settings_are_refused() {
    let app = App::start().await;
    let run = app.builder.clone().env("CATENARY_CHECKPOINT", "/tmp").command(&["serve"]).output().unwrap();
    assert!(!run.status.success());
    assert!(
        String::from_utf8_lossy(&run.stderr).contains("CATENARY_CHECKPOINTS"),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    std::fs::write(&file, "lissten = \"127.0.0.1:1\"\n").unwrap();
    let run = app.builder.command(&["serve", "--config", &file.display().to_string()]).output().unwrap();
    assert!(!run.status.success());
    assert!(
        String::from_utf8_lossy(&run.stderr).contains("lissten"),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_service_keys_keep_what_they_signed() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let before = acceptance::checker::checkpoint(&stage, &stage.tenant).await;
    let vsa = stage
        .get(&format!("/v1/verdict?image={}&environment=prod&format=vsa", stage.world.image()))
        .await
        .is(200)
        .0;
    let builder = app.stop();
    for purpose in ["log", "mac", "vsa", "collector"] {
        let run = builder.command(&["key", "rotate", purpose]).output().unwrap();
        assert!(run.status.success(), "{purpose}: {}", String::from_utf8_lossy(&run.stderr));
    }
    let app = builder.start().await;
    stage.judge().await.passes();
    let keys = app.anonymous().get("/.well-known/catenary/keys.json").await.is(200).list("keys");
    for purpose in ["log", "vsa", "collector"] {
        assert_eq!(keys.iter().filter(|k| k["purpose"] == purpose).count(), 2, "{purpose}: {keys:?}");
    }
    // The old verdict still verifies, with one of the published keys; the log goes on.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vsa.json");
    std::fs::write(&file, vsa.to_string()).unwrap();
    let verifies = keys.iter().filter(|k| k["purpose"] == "vsa").any(|key| {
        let pem = folder.path().join("key.pem");
        std::fs::write(&pem, key["pem"].as_str().unwrap()).unwrap();
        app.run(&["verify-vsa", &file.display().to_string(), "--key", &pem.display().to_string()])
            .status
            .success()
    });
    assert!(verifies, "the old verdict does not verify any more");
    let checked = acceptance::checker::check(&stage, &stage.tenant).await;
    checked.extends(&stage, &stage.tenant, &before).await;
    app.log_is_clean();
}
