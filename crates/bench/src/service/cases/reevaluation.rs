//! Answers that are watched, evaluated again because trust or policy changed: on a copy of the data, as a revocation is for good.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use acceptance::{Answer, cluster};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::{sync::oneshot, task::JoinHandle};

use super::Bench;
use crate::service::{
    ceiling::{Ceiling, pages::BATCH},
    client::{Drive, Sample, Wire, drive, get, post},
    report::{Case, Figures},
    stage::{self, Stage},
    usage,
};

/// Images that run.
const RUNNING: usize = 100_000;
/// Deployments of one request.
const TOLD: usize = 100;
/// Within which the first event must leave after the change was acknowledged.
const FIRST: Duration = Duration::from_secs(1);
const MEGABYTES: u64 = 400;
/// The longest that everything may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A stricter policy, the old one again, and a stolen key: each changes every answer.
pub async fn run(bench: &mut Bench) -> Result<Vec<Case>> {
    bench.ceiling.process.stop();
    let copy = bench.large.copied().await?;
    let ceiling = Ceiling::start(&copy.url, &copy.folder, &bench.ceiling.files).await?;
    let ran = both(&copy, &ceiling).await;
    drop(ceiling);
    copy.remove().await;
    bench.large.restart().await?;
    bench.ceiling = Ceiling::start(&bench.large.url, &bench.large.folder, &bench.ceiling.files).await?;
    ran
}

async fn both(copy: &Stage, ceiling: &Ceiling) -> Result<Vec<Case>> {
    let images = copy.images.len().min(RUNNING);
    tell(copy, images).await?;
    let mut wire = Wire::open(ceiling.port).await?;
    let (status, body) = wire.ask(&post("/watched", None, images.to_string().as_bytes())).await?;
    ensure!(status == 200, "{}", String::from_utf8_lossy(body));
    let (admin, world) = (copy.app.admin(), stage::world());
    let mut read = vec![read(ceiling).await?];
    let policy = world.policy();
    let stricter = policy.replace("atLeast: 2}", "atLeast: 3}");
    ensure!(stricter != policy, "the policy asks for no two reviews");
    // A document that was before comes back by its number alone.
    let again = policy.replace("owner: sec}", "owner: security}");
    let activated = change(copy, images, async || admin.apply("prod", &stricter).await).await?;
    change(copy, images, async || admin.apply("prod", &again).await).await?;
    let key = world.k_ci.id();
    let revoked = change(copy, images, async || admin.revoke_key(&key, "stolen").await).await?;
    read.push(self::read(ceiling).await?);
    let read = Figures::of(&Sample::together(read));
    Ok(vec![
        case("re-evaluation after a revocation", images, revoked, &read),
        case("re-evaluation after a policy", images, activated, &read),
    ])
}

/// Tells that every image runs.
async fn tell(copy: &Stage, images: usize) -> Result<()> {
    let said = |n: usize| {
        json!({"environment": "prod", "application": format!("app-{}", n / 100), "workload": format!("workload-{n}"),
               "image": copy.images[n].0})
    };
    let all: Vec<usize> = (0..images).collect();
    let posts: Vec<Vec<u8>> = all
        .chunks(TOLD)
        .map(|some| {
            let said: Vec<_> = some.iter().map(|n| said(*n)).collect();
            post("/v1/deployments", Some(&copy.token), json!(said).to_string().as_bytes())
        })
        .collect();
    let how = Drive { port: copy.port(), connections: 8, window: PATIENCE, expected: &[200, 201] };
    let sample = drive(how, Arc::new(move |n| posts.get(n as usize).cloned())).await?;
    ensure!(sample.odd.0 == 0, "{:?}", sample.odd);
    rest(copy).await
}

/// Waits until nothing is to be evaluated again for a minute.
async fn rest(copy: &Stage) -> Result<()> {
    let begun = Instant::now();
    let open = "select count(*) from watched w join watcher t on t.tenant = w.tenant
                where w.log_size < t.all_at
                   or w.due_us < (extract(epoch from clock_timestamp()) * 1000000)::bigint + 60000000";
    while cluster::count(&copy.url, open).await > 0 {
        ensure!(begun.elapsed() < PATIENCE, "the watched answers do not come to rest");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // Their events are told a moment later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// What a change led to.
struct Changed {
    /// From the request to the last event.
    took: Duration,
    /// From the acknowledgement to the first event; nothing when it came before.
    first: Duration,
    figures: Figures,
}

/// Makes a change while somebody follows the events, until every answer is told to be another.
async fn change(copy: &Stage, images: usize, make: impl AsyncFnOnce() -> Answer) -> Result<Changed> {
    let (listening, begins) = listen(copy, images).await?;
    begins.await.context("no events are told")?;
    let pids = [vec![copy.app.process.pid], copy.backends()].concat();
    let (before, begun) = (usage::cpu(&pids), Instant::now());
    let answer = make().await;
    ensure!(answer.status < 300, "the change was refused: {}", answer.show());
    let acknowledged = Instant::now();
    let told = tokio::time::timeout(PATIENCE, listening).await.context("not every answer changed")???;
    let (first, last) = (told[0], told[told.len() - 1]);
    let cpu = (usage::cpu(&pids) - before) as f64 / images as f64;
    let since = |at: &Instant| u32::try_from((*at - begun).as_micros()).unwrap_or(u32::MAX);
    let took = last - begun;
    let sample = Sample::of_parts(told.len() as u64, took, told.iter().map(since).collect());
    let rss = Some(copy.app.process.peak());
    let figures = Figures { cpu: Some(cpu), rss, ..Figures::of(&sample) };
    rest(copy).await?;
    Ok(Changed { took, first: first.saturating_duration_since(acknowledged), figures })
}

type Listening = JoinHandle<Result<Vec<Instant>>>;

/// Follows the events as a user would; when each of so many came.
async fn listen(copy: &Stage, images: usize) -> Result<(Listening, oneshot::Receiver<()>)> {
    let wire = Wire::open(copy.port()).await?;
    let request = get("/v1/events?types=verdict.changed&format=sse", Some(&copy.token));
    let (begins, begun) = oneshot::channel();
    let listening = tokio::spawn(async move {
        let (mut told, mut begins) = (Vec::with_capacity(images), Some(begins));
        wire.lines(&request, |line| {
            // The first thing that a stream says is where it begins.
            if let Some(begins) = begins.take() {
                let _ = begins.send(());
            }
            if line == "event: verdict.changed" {
                told.push(Instant::now());
            }
            told.len() < images
        })
        .await?;
        Ok(told)
    });
    Ok((listening, begun))
}

/// How many questions a second are read with their evidence, as many at a time as are evaluated.
async fn read(ceiling: &Ceiling) -> Result<Sample> {
    let how = Drive { port: ceiling.port, connections: 2, window: Duration::from_secs(8), expected: &[200] };
    let mut sample = drive(how, Arc::new(|n| Some(get(&format!("/watched/{n}"), None)))).await?;
    ensure!(sample.odd.0 == 0, "{:?}", sample.odd);
    sample.rate *= BATCH as f64;
    Ok(sample)
}

fn case(name: &'static str, images: usize, changed: Changed, read: &Figures) -> Case {
    let Changed { took, first, figures } = changed;
    let megabytes = figures.rss.unwrap_or_default() / 1_000_000;
    Case::rate(name, figures, "the same rows by the same statements", read.clone(), 0.5)
        .also(
            format!(
                "{images} answers in {:.1} s; latencies are of events, the ceiling's of {BATCH}",
                took.as_secs_f64()
            ),
            true,
        )
        .also(
            format!(
                "first event {} ms after the acknowledgement, under {}",
                first.as_millis(),
                FIRST.as_millis()
            ),
            first < FIRST,
        )
        .also(format!("{megabytes} MB resident at most, at most {MEGABYTES}"), megabytes <= MEGABYTES)
}
