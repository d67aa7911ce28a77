//! A private Postgres cluster for tests: one shared by a test binary, and others that a test may hurt.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;

use crate::process::{Process, Spec};

/// A cluster, or a server that the environment names.
#[derive(Debug)]
pub struct Cluster {
    base: String,
    folder: Option<PathBuf>,
    settings: Vec<String>,
    env: Mutex<Vec<(String, String)>>,
    port: u16,
    /// Whether the folder goes when the test process ends: a shared cluster is never dropped.
    disposable: bool,
    kept: bool,
    process: Mutex<Option<Process>>,
}

impl Cluster {
    /// The cluster that all tests of this binary share; `CATENARY_TEST_DATABASE_URL` takes its place.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                match std::env::var("CATENARY_TEST_DATABASE_URL") {
                    Ok(url) => Self {
                        base: url.rsplit_once('/').expect("a URL with a database").0.to_owned(),
                        folder: None,
                        settings: Vec::new(),
                        env: Mutex::default(),
                        port: 0,
                        disposable: false,
                        kept: false,
                        process: Mutex::new(None),
                    },
                    Err(_) => {
                        let folder =
                            tempfile::Builder::new().prefix("catenary-pg-").tempdir().unwrap().keep();
                        Self::begin(folder, &["max_connections=400"], true).await
                    }
                }
            })
            .await
    }

    /// A cluster of its own, with settings such as `max_connections=20`.
    pub async fn private(settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("catenary-pg-").tempdir().unwrap().keep();
        Self::private_in(folder, settings).await
    }

    /// The same in a folder that exists, with or without a cluster in it.
    pub async fn private_in(folder: PathBuf, settings: &[&str]) -> Self {
        Self::begin(folder, settings, false).await
    }

    /// Leaves its folder behind when it is dropped.
    pub fn kept(mut self) -> Self {
        self.kept = true;
        self
    }

    async fn begin(folder: PathBuf, settings: &[&str], disposable: bool) -> Self {
        let user = unprivileged();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let data = folder.join("data");
        let exists = data.join("PG_VERSION").is_file();
        let mut initdb = Command::new(binaries().join("initdb"));
        initdb
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"])
            .arg("--pgdata")
            .arg(&data)
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some((uid, gid)) = user {
            std::os::unix::process::CommandExt::uid(&mut initdb, uid);
            std::os::unix::process::CommandExt::gid(&mut initdb, gid);
        }
        assert!(exists || initdb.status().unwrap().success(), "initdb in {}", data.display());
        let port = free_port();
        let cluster = Self {
            base: format!("postgres://postgres@127.0.0.1:{port}"),
            folder: Some(folder),
            settings: settings.iter().map(|s| (*s).to_owned()).collect(),
            env: Mutex::default(),
            port,
            disposable,
            kept: false,
            process: Mutex::new(None),
        };
        cluster.start().await;
        cluster
    }

    /// Starts it, again after [`Cluster::kill`].
    pub async fn start(&self) {
        let folder = self.folder.as_ref().expect("a private cluster");
        let data = folder.join("data");
        let _ = fs::remove_file(data.join("postmaster.pid"));
        let mut command =
            vec![binaries().join("postgres").display().to_string(), "-D".into(), data.display().to_string()];
        let usual = [
            "listen_addresses=127.0.0.1".into(),
            format!("port={}", self.port),
            format!("unix_socket_directories={}", folder.display()),
            "fsync=off".into(),
            "shared_buffers=32MB".into(),
        ];
        for setting in usual.iter().chain(&self.settings) {
            command.extend(["-c".into(), setting.clone()]);
        }
        let launch = || {
            Process::start(&Spec {
                command: command.clone(),
                env: self.env.lock().unwrap().clone(),
                log: &folder.join("postgres.log"),
                signal: "INT",
                cleanup: self.disposable.then_some(folder.as_path()),
                user: unprivileged(),
            })
        };
        *self.process.lock().unwrap() = Some(launch());
        let begun = Instant::now();
        loop {
            if let Ok(connection) = PgConnection::connect(&self.url("postgres")).await {
                let _ = connection.close().await;
                return;
            }
            // A child of a killed one may hold the shared memory for a moment.
            if !self.is_running() {
                *self.process.lock().unwrap() = Some(launch());
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "Postgres did not start: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `kill -9`.
    pub fn kill(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            // The postmaster's children notice and end.
            process.kill();
        }
        std::thread::sleep(Duration::from_millis(300));
    }

    /// Ends it by a signal: `INT` (fast), `QUIT` (immediate: as a crash, with recovery at the next start).
    pub fn end(&self, signal: &str) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            process.signal(signal);
            process.stop();
        }
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> u32 {
        self.process.lock().unwrap().as_ref().expect("it runs").pid
    }

    /// Whether the postmaster runs.
    pub fn is_running(&self) -> bool {
        self.process.lock().unwrap().as_ref().is_some_and(Process::is_running)
    }

    /// Sets an environment variable for the next start.
    pub fn env(&self, name: &str, value: &str) {
        self.env.lock().unwrap().push((name.to_owned(), value.to_owned()));
    }

    /// Ends it in order, as one does before a copy of its folder.
    pub fn stop(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            process.stop();
        }
    }

    /// The folder with `data` in it.
    pub fn folder(&self) -> &Path {
        self.folder.as_deref().expect("a private cluster")
    }

    fn log(&self) -> String {
        self.folder.as_ref().and_then(|f| fs::read_to_string(f.join("postgres.log")).ok()).unwrap_or_default()
    }

    /// The port, for a proxy.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.base)
    }

    /// Makes an empty database and gives its URL.
    pub async fn database(&self) -> String {
        let name = format!("t{}_{}", std::process::id(), crate::unique());
        self.execute("postgres", &format!("CREATE DATABASE {name}")).await;
        self.url(&name)
    }

    /// Runs statements as a superuser.
    pub async fn execute(&self, database: &str, sql: &str) {
        execute(&self.url(database), sql).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.process.lock().unwrap().take());
        if let Some(folder) = self.folder.as_ref().filter(|_| !self.kept) {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// A connection as a superuser: what an attacker with the database's password has.
pub async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

/// Runs statements as a superuser.
pub async fn execute(url: &str, sql: &str) -> u64 {
    let mut connection = connect(url).await;
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    done.rows_affected()
}

/// One number.
pub async fn count(url: &str, sql: &str) -> i64 {
    let mut connection = connect(url).await;
    let n: i64 =
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    n
}

/// One column of text.
pub async fn texts(url: &str, sql: &str) -> Vec<String> {
    let mut connection = connect(url).await;
    let all =
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    all
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where `initdb` and `postgres` are.
pub fn binaries() -> PathBuf {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|all| all.flatten().map(|e| e.path().join("bin")).collect())
        .unwrap_or_default();
    versions.retain(|folder| folder.join("initdb").is_file());
    versions.sort();
    if let Some(newest) = versions.pop() {
        return newest;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|f| f.join("initdb").is_file())
        .expect("Postgres is not installed (apt-get install postgresql)")
}

/// Postgres refuses to run as root: the user that it runs as when we are root.
pub fn unprivileged() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = passwd.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let fields: Vec<&str> = line.split(':').collect();
        Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody"))
}
