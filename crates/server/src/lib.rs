//! The only crate with axum: routes, authentication, collectors.
//!
//! Handlers are three moves: extract, ask, answer. What evidence is true is decided by `catenary-evidence`, what it
//! is worth by `catenary-chain`, what is kept by `catenary-store`; only [`problem`] knows status codes and only
//! [`auth`] knows who may do what.

pub mod auth;
mod backend;
mod batch;
mod bootstrap;
mod cache;
mod collector;
pub mod config;
mod edge;
mod export;
mod extract;
mod feed;
mod freshness;
mod hot;
mod ingest;
mod listen;
mod load;
mod metrics;
mod misses;
pub mod openapi;
mod page;
mod pins;
pub mod problem;
mod record;
mod routes;
mod scrub;
mod tags;
mod trust;
mod verdict;
mod vsa;
mod watch;
mod webhook;
mod whatif;
mod when;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use catenary_store::{
    Reading, Store, StoreError, StoreOptions, audit,
    checkpoints::{CheckpointStore, CheckpointsError},
    follow::Follower,
    keys::{KeysError, ServiceKeys},
    ladder::{Database, LadderError, Rungs},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use config::{Config, ConfigError};
pub use extract::MAX_BODY;
pub use freshness::MAX_WAIT;
pub use listen::tls::TlsError;
pub use page::MAX_LIMIT;
pub use routes::MAX_QUESTIONS;

/// The longest that a request takes, waiting included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Streams of events at a time.
const STREAMS: usize = 256;

/// What every handler shares. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

impl std::ops::Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The parts of [`App`].
pub(crate) struct Parts {
    pub(crate) backend: backend::Backend,
    pub(crate) issuers: auth::oidc::Issuers,
    pub(crate) collector: Arc<collector::Collector>,
    pub(crate) answers: Arc<cache::Answers>,
    /// Questions that it does not answer.
    pub(crate) misses: misses::Misses,
    pub(crate) workers: ingest::Workers,
    pub(crate) body_room: extract::BodyRoom,
    pub(crate) metrics: Arc<metrics::Metrics>,
    pub(crate) hot: Arc<hot::Known>,
    pub(crate) recorder: record::Recorder,
    /// Who is let in.
    pub(crate) load: Arc<load::Load>,
    /// Questions that were asked, on their way to being watched.
    pub(crate) asked: watch::Asked,
    /// How many of them are watched, beside what runs.
    pub(crate) watch_questions: u32,
    /// Events, and how far they are.
    pub(crate) feed: feed::Feed,
    /// How events are sent to receivers.
    pub(crate) webhooks: webhook::Settings,
    /// Places for streams of events.
    pub(crate) streams: Arc<tokio::sync::Semaphore>,
    /// Places for groups of questions that are evaluated together.
    pub(crate) lanes: Arc<tokio::sync::Semaphore>,
    /// What the pass over everything stored has found.
    pub(crate) scrub: Arc<scrub::Scrub>,
    /// Work that outlives its request.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the service stops.
    pub(crate) stop: CancellationToken,
}

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no database.
    #[error(transparent)]
    Ladder(#[from] LadderError),
    /// The database is refused, or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The service keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The outside checkpoints cannot be used.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointsError),
    /// The first tenants, keys or tokens could not be made.
    #[error("first start: {0}")]
    Bootstrap(String),
    /// Certificate or key cannot be used.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A running service.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub secure: bool,
    /// An administrator of tenant `default`, when this was the first start or the file is still there.
    pub admin_token: Option<String>,
    /// The platform administrator, likewise.
    pub platform_token: Option<String>,
    /// Where the database is, for people.
    pub database: String,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    app: App,
    owned: Option<Database>,
}

impl Server {
    /// Climbs the ladder to a database and starts.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        // Known before a database is started for nothing.
        config.tls.as_ref().map(listen::tls::Certificate::open).transpose()?;
        let url = config.database_url.as_ref().map(config::Secret::expose);
        std::fs::create_dir_all(&config.data)
            .map_err(|source| ConfigError::Read { path: config.data.clone(), source })?;
        let database = Database::climb(url, &config.data, Rungs::from_env()?).await?;
        Self::start_on(config, database).await
    }

    /// Starts on a database, which the service stops with itself.
    pub async fn start_on(config: Config, database: Database) -> Result<Self, StartError> {
        let keys = Arc::new(ServiceKeys::open_or_create(&config.keys())?);
        let single_connection = database.max_connections() == 1;
        let replicas = config.replicas()?;
        let options = StoreOptions { single_connection, replicas, ..StoreOptions::default() };
        let store = Store::open(database.connect_options(), keys.seal_keys(), &options).await?;
        store.bind_service_keys(&keys.rows()).await?;
        let outside = config.checkpoints().map(|folder| CheckpointStore::open(&folder)).transpose()?;
        patiently(async || bootstrap::make_logs(&store, &config.origin).await).await?;
        let follow = async || Follower::start(store.clone(), keys.clone(), outside.clone()).await;
        let follower = patiently(follow).await?;
        let backend = backend::Backend { store, follower, keys, origin: config.origin.clone() };
        let tokens = bootstrap::first_start(&backend, &config).await?;
        // A gate waits until its answer is recorded: that must not wait for those who browse.
        let records = backend.store.always(Reading::Ingest);
        let recorder = record::Recorder::start(records, backend.follower.clone(), &config.data).await?;
        let app = App::new(backend, recorder, &config)?;
        let certificate = config.tls.as_ref().map(listen::tls::Certificate::open).transpose()?;
        let listener = tokio::net::TcpListener::bind(&config.listen).await;
        let listener =
            listener.map_err(|source| StartError::Listen { address: config.listen.clone(), source })?;
        let address = listener
            .local_addr()
            .map_err(|source| StartError::Listen { address: config.listen.clone(), source })?;
        let stop = app.stop.clone();
        let router = edge::router(app.clone());
        app.tasks.spawn(trust::resume(app.clone(), stop.clone()));
        app.tasks.spawn(watch::run(app.clone(), stop.clone()));
        app.tasks.spawn(app.recorder.clone().run());
        app.tasks.spawn(webhook::run(app.clone(), stop.clone()));
        if let Some(kept) = config.event_retention()? {
            app.tasks.spawn(feed::forget(app.clone(), kept, stop.clone()));
        }
        app.tasks.spawn(metrics::upkeep(app.metrics.clone(), stop.clone()));
        app.tasks.spawn(scrub::run(app.clone(), outside, stop.clone()));
        let (metrics, load) = (app.metrics.clone(), app.load.clone());
        if let Some(certificate) = certificate.clone() {
            app.tasks.spawn(certificate.follow(metrics.clone(), stop.clone()));
        }
        let secure = certificate.is_some();
        let listening = listen::Listening {
            app: app.clone(),
            router,
            load,
            connections: config.connections,
            certificate,
            metrics,
            stop: stop.clone(),
        };
        let serving = tokio::spawn(listen::serve(listener, listening));
        tracing::info!(%address, database = database.describe(), "serving");
        Ok(Self {
            address,
            secure,
            admin_token: tokens.admin,
            platform_token: tokens.platform,
            database: database.describe(),
            stop,
            serving,
            app,
            owned: Some(database),
        })
    }

    /// `http://address`, or `https://` of it.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.address)
    }

    /// Takes no new requests, lets the running ones end, and stops what was started.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let _ = (&mut self.serving).await;
        self.app.recorder.stop().await;
        self.app.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(10), self.app.tasks.wait()).await;
        self.app.backend.follower.save().await;
        self.app.backend.follower.stop();
        self.app.backend.store.close().await;
        if let Some(database) = self.owned.take() {
            database.shutdown().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.app.recorder.abandon();
    }
}

impl App {
    fn new(
        backend: backend::Backend,
        recorder: record::Recorder,
        config: &Config,
    ) -> Result<Self, StartError> {
        let answers = Arc::new(cache::Answers::new(config.cache_bytes));
        for tenant in backend.follower.tenants() {
            if let Ok(snapshot) = backend.follower.snapshot(&tenant) {
                answers.start(&tenant, snapshot.size);
            }
        }
        let observed = answers.clone();
        backend
            .follower
            .observe(Arc::new(move |change| observed.follow(&change.tenant, change.from, &change.writes)));
        Ok(Self(Arc::new(Parts {
            backend,
            issuers: auth::oidc::Issuers::new(&config.oidc)?,
            collector: Arc::new(collector::Collector::new(&config.registry)?),
            answers,
            misses: misses::Misses::default(),
            workers: ingest::Workers::default(),
            body_room: extract::BodyRoom::default(),
            metrics: Arc::default(),
            hot: Arc::default(),
            recorder,
            load: Arc::new(load::Load::new(config.rates.ingest, config.rates.browse)),
            asked: watch::Asked::default(),
            watch_questions: config.watch_questions,
            feed: feed::Feed::default(),
            webhooks: config.webhooks()?,
            streams: Arc::new(tokio::sync::Semaphore::new(STREAMS)),
            lanes: Arc::new(tokio::sync::Semaphore::new(batch::ALL_LANES)),
            scrub: Arc::new(scrub::Scrub::new(config.scrub()?)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })))
    }
}

/// Runs work at the start again while the database is too busy to answer in time.
async fn patiently<T>(mut work: impl AsyncFnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    for _ in 0..10 {
        match work().await {
            Err(StoreError::Unavailable(why)) => tracing::warn!(why, "the database does not answer yet"),
            other => return other,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    work().await
}

/// Recomputes one log, or all, from the stored bytes and names each difference. Nothing is written.
///
/// A private cluster that a running service started cannot be started twice: stop that service first, or name the
/// database with `CATENARY_DATABASE_URL`.
pub async fn log_verify(config: Config, tenant: Option<&str>) -> Result<audit::Report, StartError> {
    with_store(config, async |store, keys, outside| {
        audit::log_verify(&store, tenant, &keys, outside.as_ref()).await
    })
    .await
}

/// Writes every row of facts anew from the signed bytes. As with [`log_verify`], a service on a private cluster is stopped first.
pub async fn log_reindex(config: Config, tenant: Option<&str>) -> Result<audit::Reindexed, StartError> {
    with_store(config, async |store, keys, outside| {
        audit::reindex(&store, tenant, &keys, outside.as_ref()).await
    })
    .await
}

/// Compares what is recorded of decisions with itself: chains, rows, verdicts. Nothing is written.
pub async fn decisions_verify(config: Config, tenant: Option<&str>) -> Result<audit::Report, StartError> {
    with_store(config, async |store, keys, _| audit::decisions_verify(&store, tenant, &keys).await).await
}

/// Opens the database that a configuration names, for one piece of work.
async fn with_store<T>(
    config: Config,
    work: impl AsyncFnOnce(Store, Arc<ServiceKeys>, Option<CheckpointStore>) -> Result<T, StoreError>,
) -> Result<T, StartError> {
    let url = config.database_url.as_ref().map(config::Secret::expose);
    let database = Database::climb(url, &config.data, Rungs::from_env()?).await?;
    let keys = Arc::new(ServiceKeys::open_or_create(&config.keys())?);
    let options =
        StoreOptions { single_connection: database.max_connections() == 1, ..StoreOptions::default() };
    let store = Store::open(database.connect_options(), keys.seal_keys(), &options).await?;
    let outside = config.checkpoints().map(|folder| CheckpointStore::open(&folder)).transpose()?;
    let done = work(store.clone(), keys, outside).await;
    store.close().await;
    database.shutdown().await;
    Ok(done?)
}

/// Serves until SIGINT or SIGTERM.
pub async fn run(config: Config) -> Result<(), StartError> {
    let server = Server::start(config).await?;
    ended().await;
    tracing::info!("stopping");
    server.shutdown().await;
    Ok(())
}

/// Waits for SIGINT or SIGTERM.
pub async fn ended() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

/// JSON lines on standard error; `RUST_LOG` says how much.
pub fn init_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new("info,sqlx=warn,sqlx::postgres::notice=error")
    });
    let lines = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr);
    // Where a line cannot be written (a full disk), saying so on the same standard error would panic: R06.
    let lines = lines.log_internal_errors(false);
    // A second call, as in tests, changes nothing.
    let _ = lines.try_init();
}
