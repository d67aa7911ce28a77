//! Read replicas: they spare the primary work, and never give a yes that the primary would not.

use acceptance::standby::Standby;

use super::*;

/// A primary, a replica, and a service that reads from both.
async fn replicated() -> (Cluster, Standby, App, Stage) {
    let cluster = Cluster::private(&[]).await;
    let url = cluster.database().await;
    let standby = Standby::of(&cluster, cluster.port(), "replica").await;
    let replica = standby.url(url.rsplit('/').next().unwrap());
    let builder = Builder::default().database(&url).env("CATENARY_REPLICA_URL", &replica);
    let app = builder.start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    (cluster, standby, app, stage)
}

/// How many reads a replica served, and how many were passed on.
async fn reads(app: &App) -> (u64, u64) {
    let count = async |answer| {
        let series = format!("catenary_replica_reads_total{{answer=\"{answer}\"}}");
        app.metric(&series).await.unwrap_or_else(|| panic!("{series} is not counted"))
    };
    (count("served").await, count("passed_on").await)
}

/// Something new about the image, so that the next verdict is not one from memory.
async fn touch(stage: &Stage) {
    let digest = stage.world.image();
    let digest = digest.rsplit(':').next().unwrap();
    let statement = Statement::new("https://acme.test/note/v1", json!({"n": acceptance::unique()}));
    let envelope = statement.subject(Subject::new("x", "sha256", digest)).signed_by(&stage.world.k_ci);
    stage.submit(envelope.to_bytes()).await.is(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn d10_a_stale_replica_gives_no_yes_on_revoked_evidence() {
    let (cluster, standby, app, stage) = replicated().await;
    standby.catches_up(&cluster).await;
    for _ in 0..20 {
        if reads(&app).await.0 > 0 {
            break;
        }
        touch(&stage).await;
        standby.catches_up(&cluster).await;
        stage.judge().await.passes();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    assert!(reads(&app).await.0 > 0, "no read went to a replica that is up to date");

    standby.replay(false).await;
    let (served, passed_on) = reads(&app).await;
    touch(&stage).await;
    stage.judge().await.passes();
    let now = reads(&app).await;
    assert!(now.1 > passed_on, "a question was passed on: {now:?}");
    assert_eq!(now.0, served, "a replica that stands still served");

    stage.revoke_key(&stage.world.k_ci.id(), "stolen").await.is(200);
    for _ in 0..10 {
        let verdict = stage.judge().await;
        assert_eq!(verdict.outcome(), "FAILED", "{}", verdict.show());
        touch(&stage).await;
    }
    assert_eq!(reads(&app).await.0, served, "a replica that stands still served");

    // Another service that has just started knows of no answer of before.
    let other = app.builder.clone().beside(&app).start().await;
    assert_eq!(stage.at(&other.url).verdict(&stage.world.image()).await.outcome(), "FAILED");
    standby.replay(true).await;
    standby.catches_up(&cluster).await;
    assert_eq!(stage.judge().await.outcome(), "FAILED");
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_gone_or_was_promoted_serves_nothing_and_stops_nothing() {
    let (cluster, standby, app, stage) = replicated().await;
    standby.catches_up(&cluster).await;
    standby.promote().await;
    let (served, _) = reads(&app).await;
    for _ in 0..3 {
        touch(&stage).await;
        stage.judge().await.passes();
    }
    assert_eq!(reads(&app).await.0, served, "a server that goes its own way served");
    drop(standby);
    touch(&stage).await;
    stage.judge().await.passes();
    // Nor does it keep anybody from starting.
    let app = app.stop().start().await;
    stage.judge().await.passes();
    assert_eq!(reads(&app).await.0, 0);
}
