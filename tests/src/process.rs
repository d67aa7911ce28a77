//! Child processes that never outlive the tests.
//!
//! A shell stands between: it starts the program and then waits on its standard input, a pipe that only the test
//! process holds. When the test process ends, killed or not, the pipe closes and the shell ends the program.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const GUARD: &str = r#"
log=$1; signal=$2; cleanup=$3; shift 3
"$@" </dev/null >>"$log" 2>&1 &
pid=$!
echo "$pid"
exec >/dev/null
cat >/dev/null
kill -"$signal" "$pid" 2>/dev/null
i=0
while kill -0 "$pid" 2>/dev/null && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
kill -9 "$pid" 2>/dev/null
wait "$pid"
[ -z "$cleanup" ] || rm -rf "$cleanup"
"#;

/// A running program.
#[derive(Debug)]
pub struct Process {
    guard: Child,
    /// Its process id.
    pub pid: u32,
}

/// How to start a program.
#[derive(Debug)]
pub struct Spec<'a> {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables; `PATH` and `HOME` stay, nothing else does.
    pub env: Vec<(String, String)>,
    /// Where its output goes.
    pub log: &'a Path,
    /// How it is asked to end: `TERM`, `INT`, `QUIT`.
    pub signal: &'a str,
    /// A folder to remove at the end.
    pub cleanup: Option<&'a Path>,
    /// User and group to run it as.
    pub user: Option<(u32, u32)>,
}

impl Process {
    /// Starts it.
    pub fn start(spec: &Spec<'_>) -> Self {
        File::options().create(true).append(true).open(spec.log).unwrap();
        let cleanup = spec.cleanup.map(|p| p.display().to_string()).unwrap_or_default();
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARD, "guard"])
            .arg(spec.log)
            .args([spec.signal, &cleanup])
            .args(&spec.command)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", std::env::var_os("HOME").unwrap_or_default())
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // A signal to the terminal's group must not end it before its guard does.
        command.process_group(0);
        if let Some((uid, gid)) = spec.user {
            std::os::unix::fs::chown(spec.log, Some(uid), Some(gid)).unwrap();
            command.uid(uid).gid(gid);
        }
        let mut guard = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(guard.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { guard, pid: line.trim().parse().unwrap() }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let _ = Command::new("kill")
            .args([&format!("-{signal}"), &self.pid.to_string()])
            .stderr(Stdio::null())
            .status();
    }

    /// Kills it as hard as can be and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.end();
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.end();
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        // A zombie waits for its guard; it does not run.
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// Resident memory in bytes, now.
    pub fn resident(&self) -> u64 {
        self.status_kib("VmRSS:") * 1024
    }

    /// The most resident memory that it ever had, in bytes.
    pub fn peak(&self) -> u64 {
        self.status_kib("VmHWM:") * 1024
    }

    fn status_kib(&self, member: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(member));
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    fn end(&mut self) {
        drop(self.guard.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if matches!(self.guard.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.guard.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
