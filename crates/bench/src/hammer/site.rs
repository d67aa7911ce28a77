//! What is hammered: a Postgres that keeps its promises (`fsync=on`), and instances that reach it by wires of their own.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use acceptance::{App, Builder, Cluster};
use anyhow::{Context as _, Result, bail};
use sqlx::{Connection, PgConnection};

use super::{findings::Findings, wire::Wire};

/// Postgres, wires and instances.
#[derive(Debug)]
pub struct Site {
    /// The database server.
    pub cluster: Cluster,
    /// One for each instance.
    pub wires: Vec<Wire>,
    /// Where the instances answer.
    pub urls: Arc<Vec<String>>,
    /// The database's own address, past the wires.
    pub database: String,
    /// Where the instances keep their checkpoints outside of the database.
    pub checkpoints: PathBuf,
    /// The platform administrator's token.
    pub platform_token: String,
    instances: Vec<Mutex<Option<App>>>,
    findings: Arc<Findings>,
}

/// From the start of an instance until it is ready, and from the end of a fault until every instance is (I14, R03).
pub const RECOVERY: Duration = Duration::from_secs(10);

/// What to know of a process.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Resident memory in bytes.
    pub resident: u64,
    /// Open files.
    pub files: usize,
}

impl Site {
    /// Starts everything.
    pub async fn start(instances: usize, findings: &Arc<Findings>) -> Result<Self> {
        let cluster = Cluster::private(&["fsync=on", "max_connections=100"]).await;
        let database = cluster.database().await;
        let (mut wires, mut apps) = (Vec::new(), Vec::<App>::new());
        for _ in 0..instances {
            let wire = Wire::start(cluster.port()).await?;
            let through = database.replace(&format!(":{}/", cluster.port()), &format!(":{}/", wire.port));
            wires.push(wire);
            let builder = match apps.first() {
                None => Builder::default(),
                Some(first) => Builder::default().beside(first),
            };
            let begun = Instant::now();
            apps.push(builder.database(&through).start().await);
            let took = begun.elapsed();
            findings.check("I14", took <= RECOVERY, || format!("the first start took {took:?}"));
        }
        let first = apps.first().context("no instance")?;
        let platform_token = std::fs::read_to_string(first.data.join("platform-token"))?.trim().to_owned();
        let checkpoints = first.data.join("checkpoints");
        let urls = Arc::new(apps.iter().map(|app| app.url.clone()).collect());
        let instances = apps.into_iter().map(|app| Mutex::new(Some(app))).collect();
        Ok(Self {
            cluster,
            wires,
            urls,
            database,
            checkpoints,
            platform_token,
            instances,
            findings: findings.clone(),
        })
    }

    /// kill -9 of one instance; gives what is needed to start it again.
    pub fn kill(&self, instance: usize) -> Result<Builder> {
        let taken = self.instances[instance].lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut app = taken.context("it is dead already")?;
        app.process.kill();
        let builder = app.builder.clone();
        if !self.read_log(&app) {
            // Dropping would panic where this reports.
            std::mem::forget(app);
        }
        Ok(builder)
    }

    /// Starts an instance and waits until it is ready.
    pub async fn revive(&self, instance: usize, builder: Builder) -> Result<Duration> {
        let begun = Instant::now();
        let app = builder.launch();
        *self.instances[instance].lock().unwrap_or_else(PoisonError::into_inner) = Some(app);
        self.ready(instance, Duration::from_secs(60)).await?;
        Ok(begun.elapsed())
    }

    /// Waits until an instance says that it is ready; how long that took.
    pub async fn ready(&self, instance: usize, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        let client = acceptance::Client::new(&self.urls[instance], None);
        loop {
            let request = client.request(reqwest::Method::GET, "/readyz").timeout(Duration::from_secs(5));
            let said = match client.try_send(request).await {
                Ok(answer) if answer.status == 200 => return Ok(begun.elapsed()),
                Ok(answer) => answer.show(),
                Err(error) => error.to_string(),
            };
            if begun.elapsed() > limit {
                bail!("instance {instance} is not ready after {limit:?}: {said}\n{}", self.tail(instance));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Memory and files of a running instance.
    pub fn usage(&self, instance: usize) -> Option<Usage> {
        let held = self.instances[instance].lock().unwrap_or_else(PoisonError::into_inner);
        let process = &held.as_ref()?.process;
        let files = std::fs::read_dir(format!("/proc/{}/fd", process.pid)).ok()?.count();
        Some(Usage { resident: process.resident(), files }).filter(|usage| usage.resident > 0)
    }

    /// Ends the sessions that come from these ports.
    pub async fn end_sessions(&self, ports: &[u16]) -> Result<()> {
        let ports: Vec<i32> = ports.iter().map(|port| i32::from(*port)).collect();
        let mut db = PgConnection::connect(&self.database).await?;
        // A port that was closed meanwhile may be our own now.
        let ends = "select pg_terminate_backend(pid) from pg_stat_activity
                    where client_port = any($1) and pid <> pg_backend_pid()";
        sqlx::query(ends).bind(&ports).execute(&mut db).await?;
        Ok(db.close().await?)
    }

    /// Ends every instance, having read its log.
    pub fn end(&self) {
        for instance in 0..self.instances.len() {
            let _ = self.kill(instance);
        }
    }

    fn tail(&self, instance: usize) -> String {
        let held = self.instances[instance].lock().unwrap_or_else(PoisonError::into_inner);
        let log = held.as_ref().map(App::log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.join("\n")
    }

    /// No panic, and no credential (I11); whether there was no panic.
    fn read_log(&self, app: &App) -> bool {
        let log = app.log();
        let panic = log.lines().find(|line| line.contains("panicked at"));
        self.findings.check("I11", panic.is_none(), || format!("{panic:?}"));
        let secret = log.lines().any(|line| line.contains(&self.platform_token) || line.contains("Bearer "));
        self.findings.check("I11", !secret, || "a credential stands in the log".into());
        panic.is_none()
    }
}

/// Waits until no process works in the cluster's folder any more.
pub async fn postgres_is_gone(data: &Path, limit: Duration) {
    let begun = Instant::now();
    let lives = || {
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        all.into_iter()
            .any(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == data))
    };
    while lives() && begun.elapsed() < limit {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
