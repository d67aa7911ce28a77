//! What the service is measured against, behind the same HTTP stack, in a process of its own: ready bytes, one
//! primary-key read, and the statements of a verdict without its evaluation.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, OnceLock},
};

use acceptance::{
    cluster::free_port,
    process::{Process, Spec},
};
use anyhow::{Context as _, Result, ensure};
use axum::{
    Router,
    body::Bytes,
    extract::{Path as InPath, State},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use catenary_chain::{Evidence, Gather, Question, Want, context::Context};
use catenary_store::{
    Prefix, Reading, Store, StoreOptions,
    follow::{Follower, Snapshot},
    keys::ServiceKeys,
    reading,
};

use super::data;

pub mod pages;

const TENANT: &str = "default";

/// The process.
pub struct Ceiling {
    /// Where it listens.
    pub port: u16,
    /// The process.
    pub process: Process,
    /// What it serves as it is.
    pub files: PathBuf,
}

impl Ceiling {
    /// Starts it on a service's database and folder; `files` are served as they are.
    pub async fn start(url: &str, folder: &Path, files: &Path) -> Result<Self> {
        let port = free_port();
        let program = std::env::current_exe()?.display().to_string();
        let text = |path: &Path| path.display().to_string();
        let process = Process::start(&Spec {
            command: vec![program, "ceiling".into(), port.to_string(), url.into(), text(folder), text(files)],
            env: Vec::new(),
            log: &files.join("ceiling.log"),
            signal: "TERM",
            cleanup: None,
            user: None,
        });
        for _ in 0..600 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(Self { port, process, files: files.to_owned() });
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        anyhow::bail!("the ceiling does not start: {}", std::fs::read_to_string(files.join("ceiling.log"))?)
    }
}

struct Shared {
    store: Store,
    snapshot: Arc<Snapshot>,
    images: Vec<(String, String)>,
    wants: Vec<OnceLock<Vec<Want>>>,
    files: HashMap<String, Bytes>,
    pages: OnceLock<Vec<pages::Page>>,
    batches: OnceLock<Vec<pages::Batch>>,
}

/// `ceiling PORT URL FOLDER FILES`
pub fn serve(arguments: &[String]) -> Result<ExitCode> {
    let [port, url, folder, files] = arguments else { anyhow::bail!("ceiling PORT URL FOLDER FILES") };
    tokio::runtime::Runtime::new()?.block_on(listen(
        port.parse()?,
        url,
        &PathBuf::from(folder),
        &PathBuf::from(files),
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn listen(port: u16, url: &str, folder: &Path, files: &Path) -> Result<()> {
    let keys = Arc::new(ServiceKeys::open_or_create(&folder.join("service/keys"))?);
    let store = Store::open(url.parse()?, keys.seal_keys(), &StoreOptions::default()).await?;
    let follower = Follower::start(store.clone(), keys, None).await?;
    let snapshot = follower.snapshot(TENANT)?;
    // What the service takes in later is not for the ceiling to read.
    follower.stop();
    let images = data::read_lines(&folder.join("images.txt"))?;
    let wants = images.iter().map(|_| OnceLock::new()).collect();
    let mut bytes = HashMap::new();
    for entry in std::fs::read_dir(files)? {
        let entry = entry?;
        bytes.insert(entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?.into());
    }
    let shared = Arc::new(Shared {
        store,
        snapshot,
        images,
        wants,
        files: bytes,
        pages: OnceLock::new(),
        batches: OnceLock::new(),
    });
    let router = Router::new()
        .route("/file/{name}", get(file))
        .route("/row/{n}", get(row))
        .route("/prepare", post(prepare))
        .route("/replay/{n}", get(replay))
        .route("/impact", post(pages::find))
        .route("/impact/{n}", get(pages::read))
        .route("/watched", post(pages::find_watched))
        .route("/watched/{n}", get(pages::read_watched))
        .with_state(shared);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, router).await?;
    Ok(())
}

type App = State<Arc<Shared>>;
type Answer = Result<axum::response::Response, (StatusCode, String)>;

fn failed(error: impl std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

fn json(bytes: Bytes) -> axum::response::Response {
    ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

/// Bytes that are ready.
async fn file(State(app): App, InPath(name): InPath<String>) -> Answer {
    Ok(json(app.files.get(&name).cloned().ok_or((StatusCode::NOT_FOUND, name))?))
}

/// One row by its primary key.
async fn row(State(app): App, InPath(n): InPath<usize>) -> Answer {
    let (_, id) = app.images.get(n).ok_or((StatusCode::NOT_FOUND, String::new()))?;
    let key = hex::decode(id).map_err(failed)?;
    let facts = reading(Reading::Verdict, app.store.facts_by_key(TENANT, &key)).await.map_err(failed)?;
    Ok(json(facts.into()))
}

/// Finds out what the verdicts about these images read: lines of numbers.
async fn prepare(State(app): App, body: String) -> Answer {
    let mut all = 0;
    for line in body.lines() {
        let n: usize = line.parse().map_err(failed)?;
        let wants = wants(&app, n).await.map_err(failed)?;
        all += wants.len();
    }
    Ok(json(all.to_string().into()))
}

async fn wants(app: &Shared, n: usize) -> Result<&[Want]> {
    let place = app.wants.get(n).context("no such image")?;
    if let Some(known) = place.get() {
        return Ok(known);
    }
    let image = app.images[n].0.parse()?;
    let question = Question { image, environment: None, platform: None, context: Context::new() };
    let snapshot = &app.snapshot;
    let at: Prefix = snapshot.prefix();
    let (mut evidence, mut wants) = (Evidence::default(), Vec::new());
    let mut gather = Gather::new(&question, &snapshot.control);
    while let Some(want) = gather.next(&evidence) {
        app.store.gather(TENANT, &want, &at, &mut evidence).await?;
        wants.push(want);
    }
    ensure!(!evidence.attestations.is_empty(), "nothing is known of image {n}");
    Ok(place.get_or_init(|| wants))
}

/// The statements of a verdict, and the verdict's bytes.
async fn replay(State(app): App, InPath(n): InPath<usize>) -> Answer {
    for want in wants(&app, n).await.map_err(failed)? {
        reading(Reading::Verdict, app.store.fetch(TENANT, want, app.snapshot.size)).await.map_err(failed)?;
    }
    Ok(json(app.files.get("verdict").cloned().unwrap_or_default()))
}
