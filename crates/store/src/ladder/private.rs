//! A private cluster: a Postgres server of our own, started from installed binaries, reachable only
//! through a unix socket in a folder that nobody else can enter.
//!
//! It never outlives us: dropping stops it, a start that fails half-way stops it, and when we are killed
//! the kernel tells it (`setpriv --pdeathsig`). Where that is missing, the next start finds
//! `postmaster.pid` and stops the old server before it starts its own. A second process on the same
//! folder (say `log verify` beside `serve`) is a guest: it connects and stops nothing.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::signal::{Signal, kill},
    unistd::{Pid, chown},
};
use sqlx::{
    ConnectOptions, Connection,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::{
    LadderError,
    binaries::{self, Binaries},
    place::{self, Account},
};

const USER: &str = "catenary";
/// Made by every `initdb`; ours holds nothing else.
const DATABASE: &str = "postgres";
/// Recovery after an unclean stop is part of a start, and can take a while on a slow disk.
const START_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A running private cluster.
#[derive(Debug)]
pub struct PrivateCluster {
    base: PathBuf,
    sockets: PathBuf,
    keeper: Option<Keeper>,
}

/// Our side of the thread that started the server.
#[derive(Debug)]
struct Keeper {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
    /// How the server ended, when it ended by itself.
    ended: Arc<OnceLock<ExitStatus>>,
    pid: u32,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl PrivateCluster {
    /// Starts the cluster of `data_dir`, creating it first if need be, and waits until it accepts.
    pub async fn start(data_dir: &Path) -> Result<Self, LadderError> {
        let account = place::account()?;
        let base = place::base(data_dir, account)?;
        place::own(&base, account)?;
        let sockets = place::socket_folder(&base, account)?;
        let Some(lock) = lock(&base)? else {
            return Self::guest(base, sockets).await;
        };
        let (started, answer) = tokio::sync::oneshot::channel();
        let (stop, stopped) = channel();
        let ended = Arc::new(OnceLock::new());
        let work = Work { base: base.clone(), sockets: sockets.clone(), account, lock };
        let tell = ended.clone();
        // PDEATHSIG is sent when the *thread* that forked ends, so the server gets a thread of its own.
        let thread = thread::Builder::new()
            .name("database".to_owned())
            .spawn(move || work.run(started, &stopped, &tell))
            .map_err(LadderError::io(&base))?;
        let mut keeper = Keeper { stop, thread: Some(thread), ended, pid: 0 };
        keeper.pid = match answer.await {
            Ok(result) => result?,
            Err(_) => {
                return Err(LadderError::Exited { status: "unknown".to_owned(), tail: log_tail(&base) });
            }
        };
        let cluster = Self { base, sockets, keeper: Some(keeper) };
        cluster.wait_until_accepting(START_LIMIT).await?;
        Ok(cluster)
    }

    /// How to connect.
    pub fn connect_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host(&self.sockets.to_string_lossy())
            .port(5432)
            .username(USER)
            .database(DATABASE)
            .ssl_mode(PgSslMode::Disable)
    }

    /// The folder with data, log and (mostly) socket.
    pub fn directory(&self) -> &Path {
        &self.base
    }

    /// The server's process id; `None` when another process of ours started it.
    pub fn pid(&self) -> Option<u32> {
        self.keeper.as_ref().map(|keeper| keeper.pid)
    }

    async fn guest(base: PathBuf, sockets: PathBuf) -> Result<Self, LadderError> {
        let cluster = Self { base, sockets, keeper: None };
        match cluster.wait_until_accepting(Duration::from_secs(10)).await {
            Err(LadderError::Timeout { .. }) => Err(LadderError::InUse { path: cluster.base.clone() }),
            Err(other) => Err(other),
            Ok(()) => Ok(cluster),
        }
    }

    async fn wait_until_accepting(&self, limit: Duration) -> Result<(), LadderError> {
        let begin = Instant::now();
        let options = self.connect_options().disable_statement_logging();
        while begin.elapsed() < limit {
            if let Some(status) = self.keeper.as_ref().and_then(|keeper| keeper.ended.get()) {
                return Err(LadderError::Exited { status: status.to_string(), tail: log_tail(&self.base) });
            }
            if let Ok(Ok(connection)) = tokio::time::timeout(Duration::from_secs(5), options.connect()).await
            {
                let _ = connection.close().await;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(LadderError::Timeout { seconds: limit.as_secs(), tail: log_tail(&self.base) })
    }
}

/// What the database thread needs. Holding the lock is what makes us the server's owner.
struct Work {
    base: PathBuf,
    sockets: PathBuf,
    account: Option<Account>,
    lock: Flock<File>,
}

impl Work {
    fn run(
        self,
        started: tokio::sync::oneshot::Sender<Result<u32, LadderError>>,
        stop: &Receiver<()>,
        ended: &OnceLock<ExitStatus>,
    ) {
        let mut child = match self.launch() {
            Ok(child) => child,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let _ = started.send(Ok(child.id()));
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(Duration::from_millis(10)) {
            if let Ok(Some(status)) = child.try_wait() {
                tracing::error!(%status, "the private database server ended");
                let _ = ended.set(status);
                // Keep the lock: a guest must not become the owner while we still believe to be it.
                let _ = stop.recv();
                return;
            }
        }
        end(&mut child);
        if self.sockets != self.base {
            let _ = fs::remove_dir(&self.sockets);
        }
        drop(self.lock);
    }

    fn launch(&self) -> Result<Child, LadderError> {
        let data = self.base.join("data");
        stop_leftover(&data)?;
        let installed = binaries::find();
        let version = fs::read_to_string(data.join("PG_VERSION")).ok().map(|text| text.trim().to_owned());
        let binaries = match &version {
            None => installed.first().ok_or(LadderError::NoDatabase)?,
            Some(version) => installed
                .iter()
                .find(|b| b.major == *version)
                .ok_or_else(|| LadderError::Version { path: data.clone(), version: version.clone() })?,
        };
        if version.is_none() {
            self.create(binaries, &data)?;
        }
        self.serve(binaries, &data)
    }

    /// `initdb` beside the final place and a rename, so that being killed half-way leaves no half cluster.
    fn create(&self, binaries: &Binaries, data: &Path) -> Result<(), LadderError> {
        let unfinished = self.base.join("data.unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(LadderError::io(&unfinished))?;
        }
        let log = self.log_file()?;
        let mut child = self
            .command(&binaries.initdb())
            .args(["--username", USER, "--encoding", "UTF8", "--locale", "C", "--auth", "trust"])
            .args(["--data-checksums", "--no-instructions", "--pgdata"])
            .arg(&unfinished)
            .stdout(log.try_clone().map_err(LadderError::io(&self.base))?)
            .stderr(log)
            .spawn()
            .map_err(LadderError::io(&binaries.initdb()))?;
        let status = child.wait().map_err(LadderError::io(&self.base))?;
        if !status.success() {
            return Err(LadderError::Initdb { tail: log_tail(&self.base) });
        }
        fs::rename(&unfinished, data).map_err(LadderError::io(data))?;
        sync_folder(&self.base)
    }

    fn serve(&self, binaries: &Binaries, data: &Path) -> Result<Child, LadderError> {
        let log = self.log_file()?;
        let sockets = self.sockets.to_string_lossy().replace('"', "\"\"");
        self.command(&binaries.postgres())
            .arg("-D")
            .arg(data)
            .args(["-c", "listen_addresses="])
            .args(["-c", &format!("unix_socket_directories=\"{sockets}\"")])
            .args(["-c", "unix_socket_permissions=0700"])
            .args(["-c", "port=5432", "-c", "max_connections=100", "-c", "timezone=UTC"])
            .args(["-c", "log_destination=stderr", "-c", "logging_collector=off"])
            .stdout(log.try_clone().map_err(LadderError::io(&self.base))?)
            .stderr(log)
            .spawn()
            .map_err(LadderError::io(&binaries.postgres()))
    }

    /// `program` as the right user, told by the kernel when we die, and out of our process group:
    /// Ctrl-C is for us to handle, Postgres must stay until the last write is done.
    fn command(&self, program: &Path) -> Command {
        let mut command = match setpriv() {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "INT", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.stdin(Stdio::null()).current_dir("/").process_group(0);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        if let Some(account) = self.account {
            // As root, `uid` also gives up every supplementary group.
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw()).env("HOME", "/");
        }
        command
    }

    fn log_file(&self) -> Result<File, LadderError> {
        let path = self.base.join("log");
        let large = fs::metadata(&path).is_ok_and(|found| found.len() > 4 << 20);
        let mut options = OpenOptions::new();
        options.create(true).mode(0o600);
        let options = if large { options.write(true).truncate(true) } else { options.append(true) };
        let file = options.open(&path).map_err(LadderError::io(&path))?;
        if let Some(account) = self.account {
            chown(&path, Some(account.uid), Some(account.gid))
                .map_err(|e| LadderError::io(&path)(e.into()))?;
        }
        Ok(file)
    }
}

/// `None`: another process of ours has the cluster.
pub(super) fn lock(base: &Path) -> Result<Option<Flock<File>>, LadderError> {
    let path = base.join("owner.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(LadderError::io(&path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(LadderError::io(&path)(errno.into())),
    }
}

/// We hold the lock, so a server that still runs on `data` lost its owner: stop it.
fn stop_leftover(data: &Path) -> Result<(), LadderError> {
    let path = data.join("postmaster.pid");
    let begin = Instant::now();
    loop {
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let Some(pid) = text.lines().next().and_then(|line| line.trim().parse().ok()).filter(|pid| *pid > 1)
        else {
            return Ok(());
        };
        // The number may belong to anybody by now (a restart of the machine): never signal a stranger.
        // Postgres itself removes such a stale file.
        if !serves(pid, data) {
            return Ok(());
        }
        let waited = begin.elapsed();
        let signal = if waited < STOP_LIMIT { Signal::SIGINT } else { Signal::SIGQUIT };
        let _ = kill(Pid::from_raw(pid), signal);
        if waited > STOP_LIMIT * 2 {
            return Err(LadderError::InUse { path: data.to_owned() });
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether process `pid` is a Postgres server on `data`.
fn serves(pid: i32, data: &Path) -> bool {
    match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(line) => line.split(|byte| *byte == 0).any(|word| word == data.as_os_str().as_encoded_bytes()),
        // Without /proc, a live process with that id and the lock file's word for it must do.
        Err(_) => !Path::new("/proc/self").exists() && kill(Pid::from_raw(pid), None).is_ok(),
    }
}

/// Fast shutdown; if that takes too long, an immediate one (recovery will follow); then the end.
fn end(child: &mut Child) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    for (signal, limit) in
        [(Signal::SIGINT, STOP_LIMIT), (Signal::SIGQUIT, STOP_LIMIT / 4), (Signal::SIGKILL, STOP_LIMIT / 4)]
    {
        let begin = Instant::now();
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        let _ = kill(Pid::from_raw(pid), signal);
        while begin.elapsed() < limit {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// `setpriv` of util-linux; without it (macOS, BusyBox) an orphan is stopped by the next start instead.
fn setpriv() -> Option<PathBuf> {
    ["/usr/bin/setpriv", "/bin/setpriv"].map(PathBuf::from).into_iter().find(|path| {
        path.is_file()
            && Command::new(path)
                .args(["--pdeathsig", "INT", "--", "true"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    })
}

fn log_tail(base: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(base.join("log"))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(1500)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).trim().to_owned())
    };
    read().unwrap_or_default()
}

fn sync_folder(path: &Path) -> Result<(), LadderError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(LadderError::io(path))
}
