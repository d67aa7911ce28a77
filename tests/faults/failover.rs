//! R11 and R12: the primary dies and a replica takes its place; a replica stands still.

use std::time::{Duration, Instant};

use acceptance::{
    App, Builder, Cluster, Stage,
    load::Writers,
    standby::{Lead, Standby, Wire},
};

use crate::{
    Plan,
    report::Report,
    several::{is_ready, lost, moved, nothing_is_lost, says_yes, write},
};

/// A primary with a replica that follows it over a wire, and a service that reaches the database over another.
struct Pair {
    primary: Cluster,
    standby: Standby,
    replication: Wire,
    database: Wire,
    app: App,
    stage: Stage,
}

impl Pair {
    async fn start(replica_serves: bool) -> Self {
        let primary = Cluster::private(&[]).await;
        let own = primary.database().await;
        let name = own.rsplit('/').next().unwrap_or_default().to_owned();
        let (database, replication) = (Wire::to(&[primary.port()]).await, Wire::to(&[primary.port()]).await);
        let standby = Standby::of(&primary, replication.port, "standby").await;
        let url = format!("postgres://postgres@127.0.0.1:{}/{name}", database.port);
        let mut builder = Builder::default().database(&url);
        if replica_serves {
            builder = builder.env("CATENARY_REPLICA_URL", &standby.url(&name));
        }
        let app = builder.start().await;
        let stage = Stage::in_app(&app).await.play_honest().await;
        standby.catches_up(&primary).await;
        Self { primary, standby, replication, database, app, stage }
    }

    /// The primary dies, the replica takes its place, and the service is led to it.
    async fn fail_over(&self) {
        self.primary.kill();
        self.standby.promote().await;
        self.database.lead(Lead::To(vec![self.standby.port()]));
    }
}

/// R11: both kinds of replica.
pub async fn failover(plan: Plan) -> Report {
    let mut report = Report::default();
    synchronous(plan, &mut report).await;
    asynchronous(plan, &mut report).await;
    report
}

/// Nothing is acknowledged that the replica does not have: nothing is lost, and the service goes on by itself.
async fn synchronous(plan: Plan, report: &mut Report) {
    let pair = Pair::start(false).await;
    pair.primary.execute("postgres", "alter system set synchronous_standby_names = '*'").await;
    pair.primary.execute("postgres", "select pg_reload_conf()").await;
    let writers = Writers::start(&pair.stage, 8);
    write(report, &[&writers], if plan.short { 200 } else { 2_000 }, "with a synchronous replica").await;
    pair.fail_over().await;
    let begun = Instant::now();
    write(report, &[&writers], 50, "after a synchronous failover").await;
    report.count("ms to the first writes after a synchronous failover", millis(begun));
    nothing_is_lost(report, &pair.stage, &writers.stop().await).await;
    pair.stage.judge().await.passes();
    report.expect(is_ready(&pair.app.anonymous()).await, || "not ready after a synchronous failover".into());
    pair.app.log_is_clean();
}

/// What only the dead primary had is lost. That must be noticed, and no yes given until somebody accepts it.
async fn asynchronous(plan: Plan, report: &mut Report) {
    let pair = Pair::start(false).await;
    let image = pair.stage.world.image();
    let writers = Writers::start(&pair.stage, 8);
    let some = if plan.short { 50 } else { 500 };
    write(report, &[&writers], some, "with an asynchronous replica").await;
    pair.replication.lead(Lead::Cut);
    write(report, &[&writers], some, "that the replica does not have").await;
    // The checkpoint outside is advanced at least once a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let acknowledged = writers.stop().await;
    pair.fail_over().await;

    let begun = Instant::now();
    let mut asked = 0;
    let mut noticed = None;
    while begun.elapsed() < Duration::from_secs(5) {
        let yes = says_yes(&pair.stage, &image).await;
        // An answer from memory holds for a lease of one second after the last look at the dead primary.
        report.expect(!yes || begun.elapsed() < Duration::from_secs(2), || {
            "a yes on a log that lost entries".into()
        });
        asked += 1;
        let broken = pair.app.log().contains("the log is not believed any more");
        noticed = noticed.or_else(|| broken.then(|| millis(begun)));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    report.count("verdicts asked for on a log that lost entries", asked);
    report.expect(noticed.is_some(), || "the running service did not notice".into());
    report.count("ms until it was noticed", noticed.unwrap_or_default());
    report.expect(!is_ready(&pair.app.anonymous()).await, || "ready on a log that lost entries".into());

    // A restart changes nothing: the checkpoint outside remembers.
    let stage = pair.stage;
    let app = pair.app.stop().launch();
    tokio::time::sleep(Duration::from_secs(4)).await;
    report.expect(!is_ready(&app.anonymous()).await, || "ready after a restart".into());
    report.expect(!says_yes(&stage.afresh(&app.url), &image).await, || "a yes after a restart".into());
    report.expect(app.log().contains("checkpoint kept outside"), || "the log does not say why".into());

    // An operator accepts.
    let builder = app.stop();
    let accepted =
        builder.command(&["log", "accept", "--entries-are-lost"]).output().expect("the program runs");
    report.expect(accepted.status.success(), || String::from_utf8_lossy(&accepted.stderr).into_owned());
    let app = builder.start().await;
    let stage = moved(stage, &app);
    stage.judge().await.passes();
    let lost = lost(&stage, &acknowledged).await;
    report.count("acknowledged, asynchronous", acknowledged.len() as u64);
    report.count("lost and detected, asynchronous", lost);
    report.expect(lost > 0, || "nothing was lost: the scenario shows nothing".into());
    app.log_is_clean();
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// R12: a replica stands still while evidence is revoked under load.
pub async fn stale_replica(plan: Plan) -> Report {
    let mut report = Report::default();
    let rounds = if plan.short { 1 } else { 5 };
    let pair = Pair::start(true).await;
    let writers = Writers::start(&pair.stage, 4);
    for _ in 0..rounds {
        let stage = Stage::in_app(&pair.app).await.play_honest().await;
        let image = stage.world.image();
        pair.standby.replay(false).await;
        stage.revoke_key(&stage.world.k_ci.id(), "stolen").await.is(200);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            // A client that does not say what it has seen.
            report.expect(!says_yes(&stage.afresh(&pair.app.url), &image).await, || {
                "a yes on revoked evidence".into()
            });
            report.count("verdicts after the revocation", 1);
        }
        pair.standby.replay(true).await;
        report.count("revocations while the replica stood still", 1);
    }
    nothing_is_lost(&mut report, &pair.stage, &writers.stop().await).await;
    for _ in 0..50 {
        if reads(&pair.app, "served").await > 0 {
            break;
        }
        pair.standby.catches_up(&pair.primary).await;
        Stage::in_app(&pair.app).await.play_honest().await;
    }
    let (served, passed_on) = (reads(&pair.app, "served").await, reads(&pair.app, "passed_on").await);
    report.count("reads served by the replica", served);
    report.count("reads passed on", passed_on);
    report.expect(served > 0 && passed_on > 0, || {
        "the replica served nothing, or nothing was passed on".into()
    });
    pair.app.log_is_clean();
    report
}

async fn reads(app: &App, answer: &str) -> u64 {
    let metrics = app.anonymous().get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let start = format!("catenary_replica_reads_total{{answer=\"{answer}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or_default()
}
