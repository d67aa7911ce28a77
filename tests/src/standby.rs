//! Streaming replicas of a cluster, and wires that are led elsewhere, cut, or swallow everything.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    cluster::{Cluster, binaries, connect, count, execute, free_port, unprivileged},
    process::{Process, Spec},
};

/// A streaming replica.
#[derive(Debug)]
pub struct Standby {
    folder: tempfile::TempDir,
    port: u16,
    process: Process,
}

impl Standby {
    /// A copy of `primary` that follows it over `port`, the primary's own or a wire's.
    pub async fn of(primary: &Cluster, port: u16, name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("catenary-standby-").tempdir().unwrap();
        if let Some((uid, gid)) = unprivileged() {
            std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let data = folder.path().join("data");
        // The checkpoint that a copy begins with may otherwise take its time.
        primary.execute("postgres", "checkpoint").await;
        let mut copy = as_postgres("pg_basebackup");
        copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--host=127.0.0.1"])
            .args(["--username=postgres", "--no-sync"])
            .arg(format!("--port={port}"))
            .arg("--pgdata")
            .arg(&data);
        let copied = tokio::task::spawn_blocking(move || copy.output()).await.unwrap().unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let own = free_port();
        let process = launch(folder.path(), own, name);
        let standby = Self { folder, port: own, process };
        standby.answers().await;
        standby
    }

    async fn answers(&self) {
        let begun = Instant::now();
        while PgConnection::connect(&self.url("postgres")).await.is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("postgres.log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(60), "the standby does not answer: {}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Stops or goes on applying what it receives.
    pub async fn replay(&self, goes_on: bool) {
        let function = if goes_on { "pg_wal_replay_resume" } else { "pg_wal_replay_pause" };
        execute(&self.url("postgres"), &format!("select {function}()")).await;
        let wanted = if goes_on { "not paused" } else { "paused" };
        let state = format!(
            "select count(*) from (select 1) as one where pg_get_wal_replay_pause_state() = '{wanted}'"
        );
        self.until(&state).await;
    }

    /// Makes it a primary.
    pub async fn promote(&self) {
        execute(&self.url("postgres"), "select pg_promote(true, 60)").await;
        self.until("select count(*) from (select 1) as one where not pg_is_in_recovery()").await;
    }

    /// Waits until it has applied what the primary has written until now.
    pub async fn catches_up(&self, primary: &Cluster) {
        let mut connection = connect(&primary.url("postgres")).await;
        let now: String =
            sqlx::query_scalar("select pg_current_wal_lsn()::text").fetch_one(&mut connection).await.unwrap();
        self.until(&format!(
            "select count(*) from (select 1) as one where pg_last_wal_replay_lsn() >= '{now}'::pg_lsn"
        ))
        .await;
    }

    async fn until(&self, sql: &str) {
        let begun = Instant::now();
        while count(&self.url("postgres"), sql).await == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "not within a minute: {sql}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.process.stop();
    }
}

fn launch(folder: &Path, port: u16, name: &str) -> Process {
    let mut command = vec![binaries().join("postgres").display().to_string(), "-D".into()];
    command.push(folder.join("data").display().to_string());
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        format!("unix_socket_directories={}", folder.display()),
        "fsync=off".to_owned(),
        "shared_buffers=32MB".to_owned(),
        "wal_retrieve_retry_interval=200ms".to_owned(),
        format!("cluster_name={name}"),
    ] {
        command.extend(["-c".into(), setting]);
    }
    Process::start(&Spec {
        command,
        env: Vec::new(),
        log: &folder.join("postgres.log"),
        signal: "INT",
        cleanup: None,
        user: unprivileged(),
    })
}

fn as_postgres(program: &str) -> Command {
    let mut command = Command::new(binaries().join(program));
    command.current_dir("/").stdout(Stdio::null());
    if let Some((uid, gid)) = unprivileged() {
        std::os::unix::process::CommandExt::uid(&mut command, uid);
        std::os::unix::process::CommandExt::gid(&mut command, gid);
    }
    command
}

/// A backup of a database, put into another that is empty.
pub fn copy_database(from: &str, to: &str) {
    let dump = tempfile::NamedTempFile::new().unwrap();
    let path: PathBuf = dump.path().to_owned();
    let run = |mut command: Command| {
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let mut save = Command::new(binaries().join("pg_dump"));
    save.args(["--format=custom", "--file"]).arg(&path).arg(from);
    run(save);
    let mut load = Command::new(binaries().join("pg_restore"));
    load.arg("--dbname").arg(to).arg(&path);
    run(load);
}

/// Where a wire leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lead {
    /// To these ports, in turn; one that does not listen is passed over.
    To(Vec<u16>),
    /// Nowhere: connections are closed.
    Cut,
    /// Nowhere, and nobody is told: what is sent is swallowed.
    Hole,
}

/// A port that leads where the test says. What is connected when that changes is closed, but for a hole.
#[derive(Debug)]
pub struct Wire {
    /// The port.
    pub port: u16,
    lead: watch::Sender<Arc<Lead>>,
    task: tokio::task::JoinHandle<()>,
}

impl Wire {
    /// To these ports of this machine.
    pub async fn to(ports: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (lead, mut changes) = watch::channel(Arc::new(Lead::To(ports.to_vec())));
        let task = tokio::spawn(async move {
            let mut turn = 0;
            while let Ok((near, _)) = listener.accept().await {
                turn += 1;
                let now = changes.borrow_and_update().clone();
                tokio::spawn(carry(near, now, changes.clone(), turn));
            }
        });
        Self { port, lead, task }
    }

    /// Leads it elsewhere.
    pub fn lead(&self, to: Lead) {
        self.lead.send_replace(Arc::new(to));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut near: TcpStream, lead: Arc<Lead>, mut changes: watch::Receiver<Arc<Lead>>, turn: usize) {
    let mut far = None;
    if let Lead::To(ports) = &*lead {
        for n in 0..ports.len() {
            far = TcpStream::connect(("127.0.0.1", ports[(turn + n) % ports.len()])).await.ok();
            if far.is_some() {
                break;
            }
        }
    }
    if let Some(far) = &mut far {
        tokio::select! {
            _ = copy_bidirectional(&mut near, far) => return,
            _ = changes.changed() => {}
        }
    }
    // Whoever is in a hole stays there until it is filled.
    while **changes.borrow_and_update() == Lead::Hole {
        if changes.changed().await.is_err() {
            return;
        }
    }
}
