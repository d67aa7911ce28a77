//! What most scenarios stand on: a service on a Postgres of its own, with a wire between them that can be cut.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use acceptance::{
    App, Builder, Client, Cluster, Stage, checker, cluster,
    load::{self, Told, Writers, percentile},
    proxy::Proxy,
};

use crate::report::Report;

/// How soon everything works again once the fault is gone.
pub const RECOVERY: Duration = Duration::from_secs(5);

/// Service, wire, database.
pub struct Ground {
    pub cluster: Cluster,
    pub proxy: Proxy,
    /// The database, not by the wire.
    pub url: String,
    pub app: App,
    pub stage: Stage,
}

impl Ground {
    /// With settings of Postgres beside `fsync=on`.
    pub async fn new(settings: &[&str]) -> Self {
        Self::with(settings, |builder| builder).await
    }

    /// The same with a service that is started otherwise.
    pub async fn with(settings: &[&str], configure: impl FnOnce(Builder) -> Builder) -> Self {
        let mut all = vec!["fsync=on"];
        all.extend(settings);
        Self::on(Cluster::private(&all).await, configure).await
    }

    /// On a cluster that was made otherwise.
    pub async fn on(cluster: Cluster, configure: impl FnOnce(Builder) -> Builder) -> Self {
        let url = cluster.database().await;
        let proxy = Proxy::open(cluster.port()).await;
        let name = url.rsplit('/').next().unwrap();
        let through = format!("postgres://postgres@127.0.0.1:{}/{name}", proxy.port);
        let app = configure(Builder::default().database(&through)).start().await;
        let stage = Stage::in_app(&app).await.play_honest().await;
        Self { cluster, proxy, url, app, stage }
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        self.url.rsplit('/').next().unwrap()
    }

    /// Process ids of Postgres children; `like` is a pattern of their kind.
    pub async fn children(&self, like: &str) -> Vec<String> {
        let sql = format!(
            "select pid::text from pg_stat_activity where backend_type like '{like}' and pid <> pg_backend_pid()"
        );
        cluster::texts(&self.url, &sql).await
    }

    /// Ends the writers and holds the log against what was acknowledged to them; only 201 and 503 may have been answered.
    pub async fn settle(&self, report: &mut Report, writers: Writers) {
        answered(report, &writers, &[201, 503]);
        settle(report, &self.app, &self.stage, writers).await;
    }
}

/// Only these statuses, and no 503 that does not say when to come again.
pub fn answered(report: &mut Report, writers: &Writers, known: &[u16]) {
    let statuses = writers.statuses();
    report.count("answers 503", statuses.get(&503).copied().unwrap_or(0));
    let odd: Vec<_> = statuses.iter().filter(|(s, n)| !known.contains(s) && **n > 0).collect();
    report.expect(odd.is_empty(), || format!("statuses {odd:?}"));
    let rude = writers.rude();
    report.expect(rude == 0, || format!("{rude} answers 503 without Retry-After"));
}

/// Ends the writers and holds the log against what was acknowledged to them.
pub async fn settle(report: &mut Report, app: &App, stage: &Stage, writers: Writers) {
    let acknowledged = writers.stop().await;
    let log = checker::check(stage, &stage.tenant).await;
    let lost = load::lost(&log, &acknowledged);
    report.count("acknowledged", acknowledged.len() as u64);
    report.count("lost", lost);
    report.expect(lost == 0, || format!("{lost} acknowledged attestations are lost"));
    report.count("read back", load::kept(stage, &log, &acknowledged, 50).await);
    stage.judge().await.passes();
    let differences = app.log_differences();
    report.expect(differences.is_empty(), || format!("log verify: {differences:?}"));
}

/// Waits until something is acknowledged again; how long that took since `since`.
pub async fn recovers(report: &mut Report, writers: &Writers, since: Instant, limit: Duration) {
    let again = writers.progress(1, Duration::from_secs(30)).await;
    let took = since.elapsed();
    report.longest("ms to recover at most", took);
    report
        .expect(again && took <= limit, || format!("nothing was acknowledged for {took:?} after the fault"));
}

/// Waits until a verdict is given again; how long that took since `since`.
pub async fn answers_again(
    report: &mut Report,
    client: &Client,
    image: &str,
    since: Instant,
    limit: Duration,
) {
    while client.verdict(image).await.status != 200 && since.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = since.elapsed();
    report.longest("ms to verdicts at most", took);
    report.expect(took <= limit, || format!("no verdict for {took:?} after the fault"));
}

/// Verdicts were answered, each within a time and with one of these statuses.
pub fn were_told(report: &mut Report, told: &[Told], known: &[u16], limit: Duration) {
    report.count("verdicts", told.len() as u64);
    let mut odd = std::collections::BTreeMap::<u16, u64>::new();
    for status in told.iter().map(|t| t.status).filter(|s| !known.contains(s)) {
        *odd.entry(status).or_default() += 1;
    }
    report.expect(odd.is_empty(), || format!("verdicts with statuses (and how many) {odd:?}"));
    let mut took: Vec<Duration> = told.iter().map(|t| t.took).collect();
    took.sort();
    report.longest("ms of a verdict at p99", percentile(&took, 0.99));
    let slowest = took.last().copied().unwrap_or_default();
    report.expect(slowest <= limit, || format!("a verdict took {slowest:?}"));
}

/// Connections of one service at most, as `catenary_store::StoreOptions` has them.
pub const CONNECTIONS: u64 = 17;

/// Connections of the service.
pub async fn connections(ground: &Ground) -> u64 {
    let sql = format!(
        "select count(*) from pg_stat_activity where datname = '{}' and pid <> pg_backend_pid() and backend_type = 'client backend'",
        ground.database()
    );
    u64::try_from(cluster::count(&ground.url, &sql).await).unwrap_or(0)
}

/// Connections of the database that lie inside a transaction for longer than so many seconds.
pub async fn idle_in_transaction(ground: &Ground, seconds: u32) -> u64 {
    let sql = format!(
        "select count(*) from pg_stat_activity where datname = '{}' and state like 'idle in transaction%'
         and state_change < clock_timestamp() - interval '{seconds} seconds'",
        ground.database()
    );
    u64::try_from(cluster::count(&ground.url, &sql).await).unwrap_or(0)
}

/// System calls of Postgres that fail or take long, until it is dropped.
pub struct Strace(std::process::Child);

impl Strace {
    /// Attaches to processes; `inject` as `strace` has it: `fdatasync:delay_enter=300000`.
    pub fn attach(pids: &[String], follow: bool, inject: &str) -> Self {
        let call = inject.split(':').next().unwrap_or_default();
        let mut command = Command::new("strace");
        command.args([
            "-q",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={inject}"),
        ]);
        if follow {
            command.arg("-f");
        }
        for pid in pids {
            command.args(["-p", pid]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let strace = Self(child);
        let begun = Instant::now();
        while !pids.iter().all(|pid| is_traced(pid)) && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        strace
    }

    /// Whether this machine lets us do so.
    pub fn works() -> bool {
        acceptance::installed("strace")
            && Command::new("strace")
                .args(["-q", "-o", "/dev/null", "-e", "inject=fdatasync:delay_enter=1", "true"])
                .status()
                .is_ok_and(|status| status.success())
    }
}

fn is_traced(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("TracerPid:")).is_none_or(|tracer| tracer.trim() != "0")
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let begun = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
