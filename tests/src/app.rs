//! The real command, serving in a process of its own.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output},
    sync::OnceLock,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{
    cluster::{Cluster, free_port},
    http::Client,
    process::{Process, Spec},
};

/// A running service.
#[derive(Debug)]
pub struct App {
    /// `http://127.0.0.1:port`.
    pub url: String,
    /// The database, when the tests chose it.
    pub database: Option<String>,
    /// Its data folder.
    pub data: PathBuf,
    /// How it was started, to start it again.
    pub builder: Builder,
    /// The process.
    pub process: Process,
    _folder: Option<std::sync::Arc<TempDir>>,
}

/// How to start a service.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    database: Option<String>,
    data: Option<PathBuf>,
    folder: Option<std::sync::Arc<TempDir>>,
    config: String,
    env: Vec<(String, String)>,
    wrapper: Vec<String>,
    program: Option<PathBuf>,
    port: Option<u16>,
    disposable: bool,
}

/// The name of the program under test.
const PROGRAM: &str = "catenary-under-test";

/// Where [`be_the_program`] put this process's own executable under that name.
static OWN: OnceLock<PathBuf> = OnceLock::new();

/// The program under test: the binary that cargo built for the tests, or this executable itself.
pub fn program() -> PathBuf {
    if let Some(own) = OWN.get() {
        return own.clone();
    }
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join(PROGRAM);
    assert!(program.is_file(), "{} is not built", program.display());
    program
}

/// For binaries of their own, which cargo builds alone: called under the program's name they are the program, and
/// services are started from the same executable, so that none is ever an older build.
pub fn be_the_program() -> Option<ExitCode> {
    let called = std::env::args_os().next().map(PathBuf::from)?;
    if called.file_name().is_some_and(|name| name == PROGRAM) {
        return Some(catenary_cli::main());
    }
    let executable = std::env::current_exe().unwrap();
    let folder = executable.with_extension("program");
    std::fs::create_dir_all(&folder).unwrap();
    let own = folder.join(PROGRAM);
    if std::fs::read_link(&own).ok().as_ref() != Some(&executable) {
        let _ = std::fs::remove_file(&own);
        std::os::unix::fs::symlink(&executable, &own).unwrap();
    }
    let _ = OWN.set(own);
    None
}

impl App {
    /// A service on a database of its own in the shared cluster.
    pub async fn start() -> Self {
        Self::builder().await.start().await
    }

    /// The service that the tests of this binary share; each takes a tenant of its own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<App> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                let mut builder = Self::builder().await;
                // Never dropped: its folder goes with its process.
                builder.disposable = true;
                builder.start().await
            })
            .await
    }

    /// How to start a service on a database of its own in the shared cluster.
    pub async fn builder() -> Builder {
        Builder::default().database(&Cluster::shared().await.database().await)
    }

    /// An administrator of tenant `default`.
    pub fn admin(&self) -> Client {
        Client::new(&self.url, Some(&self.token("admin-token")))
    }

    /// The platform's administrator.
    pub fn platform(&self) -> Client {
        Client::new(&self.url, Some(&self.token("platform-token")))
    }

    /// Nobody.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.url, None)
    }

    /// A metric, by its name with labels as it is written; none while nothing was counted.
    pub async fn metric(&self, series: &str) -> Option<u64> {
        let metrics = String::from_utf8(self.anonymous().get("/metrics").await.body.to_vec()).unwrap();
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        metrics.lines().find_map(value)
    }

    fn token(&self, file: &str) -> String {
        std::fs::read_to_string(self.data.join(file)).unwrap().trim().to_owned()
    }

    /// The URL of the database.
    pub fn database(&self) -> &str {
        self.database.as_deref().expect("the tests chose no database")
    }

    /// Everything that it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("service.log")).unwrap_or_default()
    }

    /// Kills it (`kill -9`) and gives what is needed to start it again.
    pub fn kill(mut self) -> Builder {
        let builder = self.builder.clone();
        self.process.kill();
        builder
    }

    /// Ends it in order and gives what is needed to start it again.
    pub fn stop(mut self) -> Builder {
        let builder = self.builder.clone();
        self.process.stop();
        builder
    }

    /// Runs another command of the program with this service's settings.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.builder.command(arguments).env("CATENARY_SERVER", &self.url).output().unwrap()
    }

    /// Runs `log verify` and fails the test unless it is clean.
    #[track_caller]
    pub fn log_is_clean(&self) {
        let run = self.run(&["log", "verify", "--output", "json"]);
        assert!(run.status.success(), "log verify: {}{}", text(&run.stdout), text(&run.stderr));
    }

    /// Runs `log verify` and gives what differs; empty when it is clean.
    pub fn log_differences(&self) -> Vec<String> {
        let run = self.run(&["log", "verify", "--output", "json"]);
        let value: serde_json::Value = serde_json::from_slice(&run.stdout)
            .unwrap_or_else(|_| panic!("log verify: {}{}", text(&run.stdout), text(&run.stderr)));
        let found = value["differences"].as_array().cloned().unwrap_or_default();
        assert_eq!(run.status.success(), found.is_empty(), "{value}");
        found.iter().map(ToString::to_string).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl App {
    /// Fails the test if the service ever panicked.
    #[track_caller]
    pub fn never_panicked(&self) {
        let log = self.log();
        assert!(!log.contains("panicked at"), "the service panicked:\n{log}");
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.never_panicked();
        }
    }
}

impl Builder {
    /// On this database.
    pub fn database(mut self, url: &str) -> Self {
        self.database = Some(url.to_owned());
        self
    }

    /// On whatever the ladder finds.
    pub fn without_database(mut self) -> Self {
        self.database = None;
        self
    }

    /// With this data folder.
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// With a data folder of its own, but the same database.
    pub fn elsewhere(mut self) -> Self {
        self.data = None;
        self.folder = None;
        self.port = None;
        self
    }

    /// Adds to the configuration file.
    pub fn config(mut self, toml: &str) -> Self {
        self.config += toml;
        self
    }

    /// Without what was added to the configuration file.
    pub fn without_config(mut self) -> Self {
        self.config.clear();
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it through another program.
    pub fn wrapper(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(|part| (*part).to_owned()).collect();
        self
    }

    /// As another version of the program, whose `serve` it runs; `None` is the program under test again.
    pub fn version(mut self, program: Option<&Path>) -> Self {
        self.program = program.map(Path::to_owned);
        self
    }

    /// The same keys and checkpoints as a service that runs: what a second instance needs.
    pub fn beside(self, other: &App) -> Self {
        let keys = other.data.join("keys").display().to_string();
        let checkpoints = other.data.join("checkpoints").display().to_string();
        self.elsewhere().env("CATENARY_KEYS", &keys).env("CATENARY_CHECKPOINTS", &checkpoints)
    }

    fn prepare(&mut self) {
        if self.data.is_none() {
            let folder = tempfile::Builder::new().prefix("catenary-data-").tempdir().unwrap();
            self.data = Some(folder.path().to_owned());
            self.folder = Some(std::sync::Arc::new(folder));
        }
        let data = self.data.clone().unwrap();
        std::fs::create_dir_all(&data).unwrap();
        if !self.config.is_empty() {
            std::fs::write(data.join("catenary.toml"), &self.config).unwrap();
        }
        self.port.get_or_insert_with(free_port);
    }

    fn variables(&self) -> Vec<(String, String)> {
        let data = self.data.as_ref().expect("prepared");
        let mut env = vec![
            ("CATENARY_DATA".to_owned(), data.display().to_string()),
            ("CATENARY_LISTEN".to_owned(), format!("127.0.0.1:{}", self.port.unwrap_or(0))),
        ];
        if let Some(url) = &self.database {
            env.push(("CATENARY_DATABASE_URL".into(), url.clone()));
        }
        if !self.config.is_empty() {
            env.push(("CATENARY_CONFIG".into(), data.join("catenary.toml").display().to_string()));
        }
        env.extend(self.env.iter().cloned());
        env
    }

    fn executable(&self) -> PathBuf {
        self.program.clone().unwrap_or_else(program)
    }

    /// The program with arguments and these settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.executable());
        command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables().into_iter().filter(|(name, _)| name != "CATENARY_LISTEN"));
        command
    }

    /// Starts it without waiting until it is ready.
    pub fn launch(mut self) -> App {
        self.prepare();
        let data = self.data.clone().unwrap();
        let mut command = self.wrapper.clone();
        command.extend([self.executable().display().to_string(), "serve".into()]);
        let process = Process::start(&Spec {
            command,
            env: self.variables(),
            log: &data.join("service.log"),
            signal: "TERM",
            cleanup: self.disposable.then_some(data.as_path()),
            user: None,
        });
        App {
            url: format!("http://127.0.0.1:{}", self.port.unwrap()),
            database: self.database.clone(),
            data,
            process,
            _folder: self.folder.clone(),
            builder: self,
        }
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> App {
        let app = self.launch();
        let begun = Instant::now();
        let client = app.anonymous();
        loop {
            let ready = client.try_send(client.request(reqwest::Method::GET, "/readyz")).await;
            if ready.as_ref().is_ok_and(|answer| answer.status == 200) {
                return app;
            }
            let late = begun.elapsed() > Duration::from_secs(60);
            assert!(app.process.is_running() && !late, "the service is not ready: {ready:?}\n{}", app.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
