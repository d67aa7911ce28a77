//! R03, R04, R07: the database dies, its disk lies, it has no connection left.

use std::time::{Duration, Instant};

use acceptance::{
    cluster::connect,
    load::{Askers, Writers, fresh, percentile},
};
use sqlx::{Connection as _, PgConnection};

use crate::{
    Plan,
    ground::{self, Ground, RECOVERY, Strace},
    report::Report,
};

/// R03: kill -9, immediate stop and fast restart of Postgres under eight writers.
pub async fn dies(plan: Plan) -> Report {
    let cycles = if plan.short { 3 } else { 100 };
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut report = Report::default();
    let ground = Ground::new(&[]).await;
    let writers = Writers::start(&ground.stage, 8);
    for cycle in 0..cycles {
        let went_on = writers.progress(1, Duration::from_secs(10)).await;
        report.expect(went_on, || format!("nothing was acknowledged in cycle {cycle}"));
        tokio::time::sleep(Duration::from_millis(random.u64(0..500))).await;
        match cycle % 3 {
            0 => ground.cluster.kill(),
            1 => ground.cluster.end("QUIT"),
            _ => ground.cluster.end("INT"),
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..1500))).await;
        ground.cluster.start().await;
        let ready = Instant::now();
        ground::recovers(&mut report, &writers, ready, RECOVERY).await;
        ground::answers_again(&mut report, &ground.stage, &ground.stage.world.image(), ready, RECOVERY).await;
    }
    report.count("ends of Postgres", cycles);
    ground.settle(&mut report, writers).await;
    report
}

/// R04: fsync says EIO, once to the checkpointer and once to whoever commits. Postgres panics and recovers.
pub async fn fsync_fails(plan: Plan) -> Report {
    if !Strace::works() {
        return Report::skipped("strace is not installed, or may not trace");
    }
    let cycles = if plan.short { 2 } else { 20 };
    let mut report = Report::default();
    let ground = Ground::new(&["restart_after_crash=on"]).await;
    let writers = Writers::start(&ground.stage, 8);
    for cycle in 0..cycles {
        let went_on = writers.progress(20, Duration::from_secs(10)).await;
        report.expect(went_on, || format!("nothing was acknowledged in cycle {cycle}"));
        let panics = panics(&ground);
        let strace = if cycle % 2 == 0 {
            let pids = ground.children("checkpointer").await;
            let strace = Strace::attach(&pids, false, "fsync:error=EIO:when=1");
            if let Ok(mut admin) = PgConnection::connect(&ground.url).await {
                let _ = sqlx::query("checkpoint").execute(&mut admin).await;
            }
            strace
        } else {
            let mut pids = ground.children("client backend").await;
            pids.extend(ground.children("walwriter").await);
            Strace::attach(&pids, false, "fdatasync:error=EIO:when=1")
        };
        let begun = Instant::now();
        while panics == self::panics(&ground) && begun.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        report.expect(self::panics(&ground) > panics, || format!("fsync did not fail in cycle {cycle}"));
        drop(strace);
        let ready = loop {
            match PgConnection::connect(&ground.url).await {
                Ok(connection) => {
                    let _ = connection.close().await;
                    break Instant::now();
                }
                Err(error) if begun.elapsed() > Duration::from_secs(30) => {
                    report.expect(false, || format!("Postgres did not recover: {error}"));
                    return report;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        ground::recovers(&mut report, &writers, ready, RECOVERY).await;
    }
    report.count("failed fsyncs", cycles);
    ground.settle(&mut report, writers).await;
    report
}

/// How often Postgres gave up.
fn panics(ground: &Ground) -> usize {
    let log = std::fs::read_to_string(ground.cluster.folder().join("postgres.log")).unwrap_or_default();
    log.matches("PANIC:").count()
}

/// Who finds no connection is told so after two seconds; and what a busy machine adds.
const WITHOUT: Duration = Duration::from_millis(2_250);

/// R07: somebody else holds every connection; then somebody holds the lock that every writer needs.
pub async fn connections_run_out(plan: Plan) -> Report {
    let rounds = if plan.short { 1 } else { 5 };
    let mut report = Report::default();
    let settings = ["max_connections=20", "superuser_reserved_connections=0", "autovacuum=off"];
    let ground = Ground::new(&settings).await;
    let image = ground.stage.world.image();
    let writers = Writers::start(&ground.stage, 4);
    let mut admin = connect(&ground.url).await;
    for _ in 0..rounds {
        writers.progress(1, Duration::from_secs(10)).await;
        let mut held = Vec::new();
        take_all(&ground, &mut held).await;
        // What the service has is enough for it.
        let went_on = writers.progress(1, Duration::from_secs(5)).await;
        report.expect(went_on, || "writers stop while others hold the rest".to_owned());
        ground.stage.verdict(&image).await.passes();
        // Now it loses what it has, and finds nothing new.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(1_500) {
            let end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name <> 'holder' and pid <> pg_backend_pid()
                       and backend_type = 'client backend'";
            let _ = sqlx::query(end).execute(&mut admin).await;
            take_all(&ground, &mut held).await;
        }
        let asked = Askers::start(&ground.stage, &image, 4);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let told = asked.stop().await;
        // Two seconds for a connection, and what a busy machine adds. A connection may be free for a moment.
        ground::were_told(&mut report, &told, &[200, 503], Duration::from_secs(3));
        let mut took: Vec<Duration> = told.iter().map(|t| t.took).collect();
        took.sort();
        let p99 = percentile(&took, 0.99);
        report.expect(p99 <= WITHOUT, || format!("verdicts without a connection took {p99:?} at p99"));
        let begun = Instant::now();
        let answer = ground.stage.submit(fresh(&ground.stage.world.k_ci)).await;
        report.longest("ms of an ingest without a connection", begun.elapsed());
        report.expect([201, 503].contains(&answer.status) && begun.elapsed() <= WITHOUT, || {
            format!("an ingest without a connection: {:?}, {}", begun.elapsed(), answer.show())
        });
        let refused = told.iter().filter(|t| t.status == 503).count() as u64;
        report.count("verdicts refused for want of a connection", refused);
        report.expect(refused > 0, || "the connections did not run out".to_owned());
        drop(held);
        let released = Instant::now();
        ground::recovers(&mut report, &writers, released, Duration::from_secs(2)).await;
        ground::answers_again(&mut report, &ground.stage, &image, released, Duration::from_secs(2)).await;
        // A transaction that somebody forgot, on the row that gives out indexes.
        let sql =
            format!("begin; select 1 from log_head where tenant = '{}' for update", ground.stage.tenant);
        let mut forgotten = connect(&ground.url).await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut forgotten).await.unwrap();
        let asked = Askers::start(&ground.stage, &image, 4);
        tokio::time::sleep(Duration::from_secs(3)).await;
        ground::were_told(&mut report, &asked.stop().await, &[200], Duration::from_secs(1));
        forgotten.close().await.unwrap();
        let released = Instant::now();
        ground::recovers(&mut report, &writers, released, Duration::from_secs(2)).await;
    }
    let slowest = writers.took().last().copied().unwrap_or_default();
    report.longest("ms of an ingest at most", slowest);
    // A head to be read (2 s), the write (5 s).
    report.expect(slowest < Duration::from_secs(8), || format!("an ingest took {slowest:?}"));
    report.count("times without connections", rounds);
    ground.settle(&mut report, writers).await;
    report
}

/// Takes connections until there is none.
async fn take_all(ground: &Ground, held: &mut Vec<PgConnection>) {
    let url = format!("{}?application_name=holder", ground.url);
    while let Ok(connection) = PgConnection::connect(&url).await {
        held.push(connection);
    }
}
