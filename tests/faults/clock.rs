//! R18: clocks jump, of the service and of the database.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use acceptance::{
    Builder, Cluster, Stage, checker,
    cluster::{connect, texts},
    load::{Askers, Writers},
};
use catenary_tlog::{
    leaf::Leaf,
    tile::{BundleId, decode_bundle},
};

use crate::{
    Plan,
    ground::{self, RECOVERY},
    report::Report,
};

/// Beyond this, entries are refused; below, the database's clock counts.
const SKEW: Duration = Duration::from_secs(30);

/// R18: the clock of the service jumps by two hours there and back, then backwards by ten seconds each second; then the same
/// with the clock of the database. No entry is of the future, and times never run backwards.
pub async fn jumps(plan: Plan) -> Report {
    let Some(library) = library() else {
        return Report::skipped("libfaketime is not installed (apt-get install faketime)");
    };
    let (long, steps) = if plan.short { (Duration::from_secs(2), 6) } else { (Duration::from_secs(10), 60) };
    let mut report = Report::default();
    let folder = tempfile::tempdir().unwrap();
    open_to_all(folder.path());
    let (service, database) = (Clock::new(folder.path(), "service"), Clock::new(folder.path(), "database"));
    let cluster = Cluster::private(&["fsync=on"]).await;
    for (name, value) in database.variables(&library) {
        cluster.env(name, &value);
    }
    cluster.end("INT");
    cluster.start().await;
    let url = cluster.database().await;
    let mut builder = Builder::default().database(&url);
    for (name, value) in service.variables(&library) {
        builder = builder.env(name, &value);
    }
    let app = builder.start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    if !is_followed(&url, &database).await {
        return Report::skipped("libfaketime does not change the clock of Postgres here");
    }
    let image = stage.world.image();
    let writers = Writers::start(&stage, 4);
    let begun = acceptance::now();
    for clock in [&service, &database] {
        for seconds in [7_200_i64, -7_200] {
            let went_on = writers.progress(5, Duration::from_secs(10)).await;
            report.expect(went_on, || "nothing was acknowledged before a jump".to_owned());
            clock.set(seconds);
            tokio::time::sleep(Duration::from_millis(500)).await;
            let before = writers.acknowledged();
            let asked = Askers::start(&stage, &image, 2);
            tokio::time::sleep(long).await;
            let written = writers.acknowledged() - before;
            report.expect(written == 0, || format!("{written} entries under a clock {seconds} s off"));
            ground::were_told(&mut report, &asked.stop().await, &[200, 503], Duration::from_secs(8));
            clock.set(0);
            ground::recovers(&mut report, &writers, Instant::now(), RECOVERY).await;
            report.count("jumps", 1);
        }
        // Small steps: within the skew that is allowed entries go on, beyond it they wait.
        for step in 1..=steps {
            clock.set(-10 * step);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        clock.set(0);
        ground::recovers(&mut report, &writers, Instant::now(), RECOVERY).await;
        report.count("jumps", steps.unsigned_abs());
    }
    ground::answered(&mut report, &writers, &[201, 503]);
    ground::settle(&mut report, &app, &stage, writers).await;
    let future = future_entries(&stage, begun).await;
    report.count("entries of the future", future);
    report.expect(future == 0, || format!("{future} entries are of the future"));
    report
}

/// Entries that say a time that has not been, or one before the scenario began. (That times never run backwards is what the
/// checker holds every log to.)
async fn future_entries(stage: &Stage, begun: i64) -> u64 {
    let checkpoint = checker::checkpoint(stage, &stage.tenant).await;
    let now = acceptance::now();
    let (mut odd, mut bundle) = (0, 0);
    let slack = i64::try_from(SKEW.as_secs()).unwrap_or(0);
    while let Some(id) = BundleId::at(bundle, checkpoint.size) {
        let answer = stage.get(&format!("/v1/log/{}/{id}", stage.tenant)).await;
        for bytes in decode_bundle(&answer.body).unwrap() {
            let time = Leaf::decode(bytes).unwrap().time.as_second();
            odd += u64::from(time > now + slack || time < begun - 3_600);
        }
        bundle += 1;
    }
    odd
}

/// Whether new connections see the clock that we set.
async fn is_followed(url: &str, clock: &Clock) -> bool {
    clock.set(7_200);
    let mut connection = connect(url).await;
    let ahead: Result<bool, _> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "select clock_timestamp() > to_timestamp({}) ",
        acceptance::now() + 3_600
    )))
    .fetch_one(&mut connection)
    .await;
    clock.set(0);
    let _ = texts(url, "select 'x'").await;
    ahead.unwrap_or(false)
}

/// A clock that a test sets: seconds ahead of the true one, in a file.
struct Clock(PathBuf);

impl Clock {
    fn new(folder: &Path, name: &str) -> Self {
        let clock = Self(folder.join(name));
        clock.set(0);
        clock
    }

    fn set(&self, seconds: i64) {
        // In one step: a half-written file would be another time.
        let next = self.0.with_extension("next");
        fs::write(&next, format!("{seconds:+}\n")).unwrap();
        open_to_all(&next);
        fs::rename(&next, &self.0).unwrap();
    }

    fn variables(&self, library: &Path) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            // Leases and time-outs go by a clock that nobody can set.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o755));
}

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path().join("faketime"));
    let mut found = folders.map(|folder| folder.join("libfaketimeMT.so.1")).filter(|file| file.is_file());
    found.next()
}
