//! What scenarios do to the machine: pin to a core, fill it, take memory and CPU away.

use std::{fs, path::PathBuf, process::Command};

use acceptance::process::{Process, Spec};

/// Whether the service, and its database, can have a core of their own.
pub fn has_two_cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|n| n.get() >= 2) && acceptance::installed("taskset")
}

/// Pins a process with all its threads; children that it makes later are pinned, too.
pub fn pin(pid: u32, core: u32) {
    let pinned =
        Command::new("taskset").args(["-a", "-p", "-c", &core.to_string(), &pid.to_string()]).output();
    assert!(pinned.is_ok_and(|output| output.status.success()), "taskset of {pid}");
}

/// Lets a process run anywhere again.
pub fn unpin(pid: u32) {
    let all = format!("0-{}", std::thread::available_parallelism().map_or(1, usize::from).max(2) - 1);
    let _ = Command::new("taskset").args(["-a", "-p", "-c", &all, &pid.to_string()]).output();
}

/// Processes that do nothing but count, until they are dropped.
pub fn spin(n: usize, core: u32) -> Vec<Process> {
    let core = core.to_string();
    let one = |_| {
        let command = ["taskset", "-c", &core, "sh", "-c", "while :; do :; done"];
        Process::start(&Spec {
            command: command.map(str::to_owned).to_vec(),
            env: Vec::new(),
            log: std::path::Path::new("/dev/null"),
            signal: "KILL",
            cleanup: None,
            user: None,
        })
    };
    (0..n).map(one).collect()
}

/// A control group of one controller (cgroup v1), removed at the end.
pub struct Group {
    folder: PathBuf,
}

impl Group {
    /// Makes one with one setting; `None` where this machine has no such controller, or we may not.
    pub fn new(controller: &str, setting: &str, value: &str) -> Option<Self> {
        let name = format!("catenary-{}-{}", std::process::id(), acceptance::unique());
        let group = Self { folder: PathBuf::from("/sys/fs/cgroup").join(controller).join(name) };
        fs::create_dir(&group.folder).ok()?;
        fs::write(group.folder.join(setting), value).ok()?;
        Some(group)
    }

    /// Puts a process with all its threads into it.
    pub fn take(&self, pid: u32) {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string()).expect("a process is put into a group");
    }

    /// Starts a program in it.
    pub fn wrapper(&self) -> [String; 4] {
        let enter = format!("echo $$ > {} && exec \"$@\"", self.folder.join("cgroup.procs").display());
        ["sh".into(), "-c".into(), enter, "sh".into()]
    }

    /// A number that the controller tells.
    pub fn read(&self, name: &str) -> u64 {
        let text = fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever is still in it goes back to where it came from.
        let pids = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        let above = self.folder.parent().map(|p| p.join("cgroup.procs"));
        for pid in pids.lines() {
            let _ = above.as_ref().map(|above| fs::write(above, pid));
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Open file descriptors of a process.
pub fn descriptors(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |all| all.count() as u64)
}
