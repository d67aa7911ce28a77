//! A service with its database and its data, kept in a folder so that another run need not build them again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use acceptance::{App, Builder, Cluster, cluster, stage};
use anyhow::{Result, bail, ensure};
use catenary_testkit::{World, authority::Authority, world::Signers};
use serde_json::json;

use super::data;

/// What docs/scaling.md asks for: most of what is written first after a checkpoint are whole pages.
const SETTINGS: [&str; 6] = [
    "fsync=on",
    "max_wal_size=8GB",
    "wal_compression=lz4",
    "max_connections=100",
    "checkpoint_timeout=15min",
    "max_parallel_workers_per_gather=0",
];

/// Reads everything once: a database that has run for a while has in memory what it is asked for, as far as there is room.
const WARM: &str = "do $$ begin
        if exists (select 1 from pg_available_extensions where name = 'pg_prewarm') then
            create extension if not exists pg_prewarm;
            perform sum(pg_prewarm(c.oid)) from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where c.relkind in ('r', 'i', 't') and n.nspname in ('public', 'pg_toast');
        end if;
    end $$";

/// Half of the machine's memory for the database's buffers, in MB.
fn buffers_mb() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    (total.unwrap_or(0) / 2 / 1024).max(256)
}

/// The keyless authority that the tenant trusts.
pub const AUTHORITY: &str = "bench";

/// A running service.
pub struct Stage {
    /// The database server.
    pub cluster: Arc<Cluster>,
    /// The service.
    pub app: App,
    /// Its administrator's token.
    pub token: String,
    /// Every image, and the id of its provenance.
    pub images: Vec<(String, String)>,
    /// Of the database.
    pub url: String,
    /// With the list of images, and the service's own folder.
    pub folder: PathBuf,
}

impl Stage {
    /// Opens the folder, and fills it with `attestations` first where that was not done.
    pub async fn open(folder: &Path, attestations: u64) -> Result<Self> {
        let (pg, service) = (folder.join("pg"), folder.join("service"));
        let list = folder.join("images.txt");
        if !list.is_file() {
            // Half a data set is no data set.
            let _ = fs::remove_dir_all(folder);
        }
        fs::create_dir_all(&pg)?;
        let buffers = format!("shared_buffers={}MB", buffers_mb());
        let settings: Vec<&str> = SETTINGS.into_iter().chain([buffers.as_str()]).collect();
        let cluster = Cluster::private_in(pg, &settings).await.kept();
        let url = cluster.url("catenary");
        if !list.is_file() {
            cluster.execute("postgres", "create database catenary").await;
            let app = start(&url, &service).await;
            stage::furnish(&app.admin(), &world()).await;
            let root = Authority::new(AUTHORITY).trusted_root_json();
            app.admin().post("/v1/trust", &json!({"domain": AUTHORITY, "document": root})).await.is(201);
            drop(app);
            let begun = Instant::now();
            let releases = attestations / data::PER_RELEASE;
            let lines =
                data::fill(&url, &service.join("keys"), "default", releases, acceptance::now()).await?;
            cluster::execute(&url, "vacuum analyze").await;
            cluster::execute(&url, "checkpoint").await;
            let seconds = begun.elapsed().as_secs_f64();
            eprintln!("{attestations} attestations in {seconds:.0} s");
            fs::write(&list, lines.join("\n") + "\n")?;
        }
        let images = data::read_lines(&list)?;
        cluster::execute(&url, WARM).await;
        let app = start(&url, &service).await;
        let token = app.admin().token.unwrap_or_default();
        Ok(Self { cluster: Arc::new(cluster), app, token, images, url, folder: folder.to_owned() })
    }

    /// Stops, and starts on a copy of everything: for what cannot be taken back. Nobody else may use the database.
    pub async fn copied(&mut self) -> Result<Self> {
        self.app.process.stop();
        let folder = self.folder.join("copy");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        for part in ["service", "images.txt"] {
            let done = Command::new("cp").arg("-a").arg(self.folder.join(part)).arg(&folder).status()?;
            ensure!(done.success(), "{part} cannot be copied");
        }
        self.cluster.execute("postgres", "drop database if exists copy").await;
        self.cluster.execute("postgres", "create database copy template catenary strategy file_copy").await;
        let url = self.cluster.url("copy");
        cluster::execute(&url, WARM).await;
        let app = start(&url, &folder.join("service")).await;
        let (cluster, images, token) = (self.cluster.clone(), self.images.clone(), self.token.clone());
        Ok(Self { cluster, app, token, images, url, folder })
    }

    /// Removes a copy.
    pub async fn remove(mut self) {
        self.app.process.stop();
        self.cluster.execute("postgres", "drop database copy with (force)").await;
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// Has the database write down what is only in its memory: else the next case pays for what the one before it wrote.
    pub async fn settle(&self) {
        cluster::execute(&self.url, "checkpoint").await;
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.app.url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default()
    }

    /// How many attestations it was filled with.
    pub fn size(&self) -> u64 {
        self.images.len() as u64 * data::PER_RELEASE
    }

    /// Ends the service and starts it again, with nothing in memory; how long it took until it was ready.
    pub async fn restart(&mut self) -> Result<Duration> {
        let builder = self.app.builder.clone();
        self.app.process.stop();
        let begun = Instant::now();
        self.app = builder.launch();
        wait_ready(&self.app).await?;
        Ok(begun.elapsed())
    }

    /// Processes of the database.
    pub fn backends(&self) -> Vec<u32> {
        fs::read_to_string(self.cluster.folder().join("data/postmaster.pid"))
            .ok()
            .and_then(|text| text.lines().next()?.parse().ok())
            .map(super::usage::family)
            .unwrap_or_default()
    }
}

/// The world whose signers and policy the tenant has.
pub fn world() -> World {
    World::release(Signers::of(0), 0, 0, &["linux/amd64", "linux/arm64"], acceptance::now())
}

async fn start(url: &str, folder: &Path) -> App {
    Builder::default().database(url).data(folder).start().await
}

/// Waits until the service says that it is ready.
pub async fn wait_ready(app: &App) -> Result<()> {
    let client = app.anonymous();
    for _ in 0..60_000 {
        let ready = client.try_send(client.request(reqwest::Method::GET, "/readyz")).await;
        if ready.is_ok_and(|answer| answer.status == 200) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bail!("the service is not ready: {}", app.log())
}
