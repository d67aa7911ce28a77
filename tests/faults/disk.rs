//! R05, R06: a disk that is slow, that stands still, that is full.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use acceptance::{
    Cluster,
    load::{Askers, Writers, percentile},
};

use crate::{
    Plan,
    ground::{self, Ground, RECOVERY, Strace},
    report::Report,
};

/// What waits for the disk is told so after five seconds; and what a machine under `strace` adds.
const DEADLINE: Duration = Duration::from_millis(5_500);

/// R05: each commit takes 300 ms longer, then none ends for ten seconds. Verdicts do not care.
pub async fn is_slow(plan: Plan) -> Report {
    if !Strace::works() {
        return Report::skipped("strace is not installed, or may not trace");
    }
    let slow = Duration::from_secs(if plan.short { 5 } else { 60 });
    let mut report = Report::default();
    let ground = Ground::new(&[]).await;
    let image = ground.stage.world.image();
    let writers = Writers::start(&ground.stage, 8);
    writers.progress(20, Duration::from_secs(10)).await;
    let asked = Askers::start(&ground.stage, &image, 2);
    let fast = writers.took().len();
    let strace = Strace::attach(&everybody(&ground).await, true, "fdatasync:delay_enter=300000");
    tokio::time::sleep(slow).await;
    drop(strace);
    let mut slow = writers.took().len() - fast;
    report.count("ingests on the slow disk", slow as u64);
    report.expect(slow > 0, || "nothing was written on the slow disk".to_owned());
    report.longest("ms of an ingest at p99", percentile(&writers.took(), 0.99));
    report.expect(writers.statuses().keys().all(|s| [0, 201].contains(s)), || {
        format!("a disk that is only slow refuses: {:?}", writers.statuses())
    });
    slow = writers.acknowledged();
    let refused = |writers: &Writers| writers.statuses().get(&503).copied().unwrap_or(0);
    let before = refused(&writers);
    let strace = Strace::attach(&everybody(&ground).await, true, "fdatasync:delay_enter=10000000");
    tokio::time::sleep(Duration::from_secs(9)).await;
    let connections = ground::connections(&ground).await;
    drop(strace);
    report.count("connections while it stands still", connections);
    report.expect(connections <= ground::CONNECTIONS, || format!("{connections} connections"));
    report.expect(refused(&writers) > before, || "nobody was told that the disk stands still".to_owned());
    let freed = Instant::now();
    report.expect(writers.acknowledged() < slow + 40, || "the disk did not stand still".to_owned());
    // What sleeps in the disk wakes first.
    ground::recovers(&mut report, &writers, freed, RECOVERY + Duration::from_secs(5)).await;
    let told = asked.stop().await;
    ground::were_told(&mut report, &told, &[200], Duration::from_secs(1));
    let mut took: Vec<Duration> = told.iter().map(|t| t.took).collect();
    took.sort();
    let p99 = percentile(&took, 0.99);
    report.expect(p99 < Duration::from_millis(250), || format!("verdicts took {p99:?} at p99"));
    let slowest = writers.took().last().copied().unwrap_or_default();
    report.longest("ms of an ingest at most", slowest);
    report.expect(slowest < Duration::from_secs(8), || format!("an ingest took {slowest:?}"));
    let p99 = percentile(&writers.took(), 0.99);
    report.expect(p99 <= DEADLINE, || format!("ingests took {p99:?} at p99"));
    ground.settle(&mut report, writers).await;
    report
}

/// The postmaster and whoever writes for it.
async fn everybody(ground: &Ground) -> Vec<String> {
    let mut pids = vec![ground.cluster.pid().to_string()];
    pids.extend(ground.children("client backend").await);
    pids.extend(ground.children("walwriter").await);
    pids
}

/// R06: the disk is full under the data, under the write-ahead log, and under the service's own folder.
pub async fn is_full(plan: Plan) -> Report {
    let mut report = Report::default();
    let rounds = if plan.short { 1 } else { 3 };
    for _ in 0..rounds {
        for place in [Place::Data, Place::Wal, Place::Service] {
            if let Err(why) = fills(place, &mut report).await {
                report.skip("R06", &why);
                return report;
            }
        }
    }
    report
}

/// Which disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Data,
    Wal,
    Service,
}

async fn fills(place: Place, report: &mut Report) -> Result<(), String> {
    let folder = tempfile::Builder::new().prefix("catenary-full-").tempdir().map_err(|e| e.to_string())?;
    let size = if place == Place::Service { "8m" } else { "160m" };
    let mounted = Mounted::tmpfs(&folder.path().join("disk"), size)?;
    let room = folder.path().join("room");
    std::fs::create_dir(&room).map_err(|e| e.to_string())?;
    // The folder of Postgres is on the disk, or only its log is.
    let home = if place == Place::Data { mounted.0.join("pg") } else { room.join("pg") };
    std::fs::create_dir_all(&home).map_err(|e| e.to_string())?;
    open_to_all(folder.path());
    let settings = ["fsync=on", "max_wal_size=32MB", "min_wal_size=32MB"];
    let cluster = Cluster::private_in(home.clone(), &settings).await;
    if place != Place::Service {
        // The log lies elsewhere than the data, so that only one of them is full.
        let (wal, other) = (home.join("data/pg_wal"), if place == Place::Data { &room } else { &mounted.0 });
        cluster.stop();
        move_folder(&wal, &other.join("pg_wal"))?;
        cluster.start().await;
    }
    let data = if place == Place::Service { mounted.0.join("service") } else { room.join("service") };
    let ground = Ground::on(cluster, |builder| builder.data(&data)).await;
    let image = ground.stage.world.image();
    let writers = Writers::start(&ground.stage, 4);
    let went_on = writers.progress(20, Duration::from_secs(10)).await;
    report.expect(went_on, || format!("{place:?}: nothing was acknowledged at first"));
    let filler = mounted.0.join("filler");
    fill(&filler);
    let asked = Askers::start(&ground.stage, &image, 2);
    if place != Place::Service {
        make_noise(&ground, &writers).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let told = asked.stop().await;
    // Without its log Postgres is down; else what is read is there.
    let known: &[u16] = if place == Place::Wal { &[200, 503] } else { &[200] };
    ground::were_told(report, &told, known, Duration::from_secs(6));
    if place != Place::Service {
        report.expect(writers.statuses().get(&503).is_some_and(|n| *n > 0), || {
            format!("{place:?}: the disk did not fill: {:?}", writers.statuses())
        });
    }
    std::fs::remove_file(&filler).map_err(|e| e.to_string())?;
    if !ground.cluster.is_running() {
        ground.cluster.start().await;
    }
    let freed = Instant::now();
    ground::recovers(report, &writers, freed, RECOVERY).await;
    ground::answers_again(report, &ground.stage, &image, freed, RECOVERY).await;
    report.count("full disks", 1);
    ground.settle(report, writers).await;
    drop(ground);
    drop(mounted);
    Ok(())
}

/// Large evidence, until the disk says no: small ones fit into what is there already for long.
async fn make_noise(ground: &Ground, writers: &Writers) {
    let begun = Instant::now();
    let refused = |writers: &Writers| writers.statuses().get(&503).copied().unwrap_or(0) > 5;
    while !refused(writers) && begun.elapsed() < Duration::from_secs(30) {
        let random: String = std::iter::repeat_with(fastrand::alphanumeric).take(1_000_000).collect();
        let statement = catenary_testkit::Statement::new(
            "https://acme.test/note/v1",
            serde_json::json!({"n": acceptance::unique(), "padding": random}),
        );
        let subject = catenary_testkit::Subject::new("x", "sha256", &"1".repeat(64));
        let bytes = statement.subject(subject).signed_by(&ground.stage.world.k_ci).to_bytes();
        let request = ground
            .stage
            .request(reqwest::Method::POST, "/v1/attestations")
            .header("content-type", "application/json")
            .body(bytes);
        let _ = ground.stage.try_send(request).await;
    }
}

/// Fills what is left, to the last page.
fn fill(filler: &Path) {
    let _ = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k"])
        .arg(format!("of={}", filler.display()))
        .stderr(std::process::Stdio::null())
        .status();
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755));
}

/// Moves a folder to another file system, and leaves a link.
fn move_folder(from: &Path, to: &Path) -> Result<(), String> {
    let done = Command::new("cp").arg("-a").args([from, to]).status().is_ok_and(|s| s.success());
    if !done {
        return Err(format!("{} cannot be copied", from.display()));
    }
    std::fs::remove_dir_all(from).map_err(|e| e.to_string())?;
    std::os::unix::fs::symlink(to, from).map_err(|e| e.to_string())
}

/// A mounted file system, unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, size: &str) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(|e| e.to_string())?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0755"), "tmpfs"]).arg(at);
        let done = mount.output().is_ok_and(|run| run.status.success());
        if done { Ok(Self(at.to_owned())) } else { Err("no file system can be mounted here".to_owned()) }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
