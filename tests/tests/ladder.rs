//! Ten stories that run on every step of the database ladder: `ladder_on_a_url`, `ladder_on_a_private_cluster`,
//! `ladder_on_the_embedded_database`. What needs two connections is skipped on the last, by name.

#![expect(clippy::unwrap_used, reason = "this is test code")]

use acceptance::{App, Builder, Cluster, Stage, checker, skip};
use catenary_testkit::{Statement, Subject};
use serde_json::json;

/// The steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    Url,
    Private,
    Embedded,
}

async fn start(rung: Rung) -> App {
    let builder = match rung {
        Rung::Url => Builder::default()
            .database(&Cluster::shared().await.database().await)
            .env("CATENARY_LADDER", "url"),
        Rung::Private => Builder::default().env("CATENARY_LADDER", "private"),
        Rung::Embedded => Builder::default().env("CATENARY_LADDER", "embedded"),
    };
    builder.start().await
}

/// All stories, one after the other, on one service: the embedded database takes seconds to start.
async fn stories(rung: Rung) {
    let app = start(rung).await;
    let stage = golden_chain_passes(&app).await;
    raw_bytes_come_back(&stage).await;
    a_repost_is_the_same_entry(&stage).await;
    a_batch_keeps_the_good(&stage).await;
    an_unknown_signer_is_kept_unverified(&stage).await;
    a_key_added_later_vouches_for_what_is_there(&stage).await;
    a_read_waits_for_its_own_write(&stage).await;
    the_log_is_proved_from_outside(&stage).await;
    a_revoked_key_breaks_the_chain(&app).await;
    let app = everything_is_there_after_kill_nine(app, &stage).await;
    the_log_verifies(&app, rung);
    if rung == Rung::Embedded {
        skip("two_instances_share_the_database", "the embedded database takes one connection");
    } else if rung == Rung::Url {
        two_instances_share_the_database(&app, &stage).await;
    }
}

async fn golden_chain_passes(app: &App) -> Stage {
    Stage::in_app(app).await.play_honest().await
}

fn note(stage: &Stage) -> String {
    let statement = Statement::new("https://acme.test/note/v1", json!({"n": acceptance::unique()}));
    statement.subject(Subject::new("x", "sha256", &"1".repeat(64))).signed_by(&stage.world.k_vcs).to_json()
}

async fn raw_bytes_come_back(stage: &Stage) {
    let text = note(stage);
    let answer = stage.submit(text.clone()).await.is(201);
    let raw = stage.get(&format!("/v1/attestations/{}/raw", answer.text("id"))).await;
    assert_eq!(raw.body, text.as_bytes());
}

async fn a_repost_is_the_same_entry(stage: &Stage) {
    let text = note(stage);
    let (first, second) = (stage.submit(text.clone()).await, stage.submit(text).await);
    first.is(201);
    second.is(200);
    assert_eq!(checker::acknowledged(&first), checker::acknowledged(&second));
}

async fn a_batch_keeps_the_good(stage: &Stage) {
    let items = stage
        .submit(format!("[{},{{\"payload\":1}},{}]", note(stage), note(stage)))
        .await
        .is(200)
        .list("items");
    let statuses: Vec<u64> = items.iter().map(|i| i["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 422, 201], "{items:?}");
}

async fn an_unknown_signer_is_kept_unverified(stage: &Stage) {
    let envelope = stage.world.build.statement().signed_by(&stage.world.k_mallory);
    assert_eq!(stage.submit(envelope.to_bytes()).await.is(201).text("status"), "unverified");
    stage.judge().await.passes();
}

async fn a_key_added_later_vouches_for_what_is_there(stage: &Stage) {
    let key = catenary_testkit::Key::ed25519(&format!("late-{}", stage.tenant));
    let statement = Statement::new("https://acme.test/note/v1", json!({"late": true})).subject(Subject::new(
        "x",
        "sha256",
        &"2".repeat(64),
    ));
    let before = stage.submit(statement.signed_by(&key).to_bytes()).await.is(201);
    assert_eq!(before.text("status"), "unverified");
    stage.add_key("late", &key.public_pem(), None).await.is(201);
    let after = stage.get(&format!("/v1/attestations/{}", before.text("id"))).await.is(200);
    assert_eq!(after.text("status"), "verified");
}

async fn a_read_waits_for_its_own_write(stage: &Stage) {
    let (_, index) = checker::acknowledged(&stage.submit(note(stage)).await);
    let path = format!("/v1/verdict?image={}&environment=prod&minIndex={index}&wait=5s", stage.world.image());
    let answer = stage.get(&path).await;
    answer.passes();
    assert!(answer.header("catenary-log-size").parse::<u64>().unwrap() > index, "{:?}", answer.headers);
}

async fn the_log_is_proved_from_outside(stage: &Stage) {
    let before = checker::checkpoint(stage, &stage.tenant).await;
    let answer = stage.submit(note(stage)).await;
    let (id, index) = checker::acknowledged(&answer);
    let checked = checker::check(stage, &stage.tenant).await;
    checked.proves(index, &answer.json()["inclusion"]);
    checked.includes(stage, &id, index).await;
    checked.extends(stage, &stage.tenant, &before).await;
}

async fn a_revoked_key_breaks_the_chain(app: &App) {
    let stage = Stage::in_app(app).await.play_honest().await;
    stage.revoke_key(&stage.world.k_ci.id(), "stolen").await.is(200);
    stage.judge().await.denies("ATT_REVOKED_SIGNER");
}

async fn everything_is_there_after_kill_nine(app: App, stage: &Stage) -> App {
    let acknowledged = checker::acknowledged(&stage.submit(note(stage)).await);
    let app = app.kill().start().await;
    stage.judge().await.passes();
    checker::check(stage, &stage.tenant).await.includes(stage, &acknowledged.0, acknowledged.1).await;
    app
}

fn the_log_verifies(app: &App, rung: Rung) {
    // The private cluster and the embedded database belong to the service that runs.
    if rung == Rung::Url {
        app.log_is_clean();
    } else {
        skip("the_log_verifies", "the database is the running service's own");
    }
}

async fn two_instances_share_the_database(app: &App, stage: &Stage) {
    let two = app.builder.clone().beside(app).start().await;
    let (id, index) = checker::acknowledged(&stage.submit(note(stage)).await);
    let other = stage.at(&two.url);
    other.get(&format!("/v1/attestations/{id}?minIndex={index}&wait=5")).await.is(200);
    other.verdict(&stage.world.image()).await.passes();
}

#[tokio::test(flavor = "multi_thread")]
async fn ladder_on_a_url() {
    stories(Rung::Url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ladder_on_a_private_cluster() {
    stories(Rung::Private).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg(feature = "embedded")]
async fn ladder_on_the_embedded_database() {
    stories(Rung::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg(not(feature = "embedded"))]
async fn ladder_on_the_embedded_database() {
    skip("ladder_on_the_embedded_database", "built without feature `embedded`");
    let _ = Rung::Embedded;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_one_line_says_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = std::process::Command::new(acceptance::app::program())
        .arg("serve")
        .env_clear()
        .env("PATH", folder.path())
        .env("CATENARY_DATA", folder.path().join("data"))
        .env("CATENARY_LADDER", "url")
        .output()
        .unwrap();
    assert!(!run.status.success());
    let text = String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout);
    assert!(text.contains("CATENARY_DATABASE_URL"), "{text}");
}
