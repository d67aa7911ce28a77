//! Verdicts: repeated, for the first time, in batches.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Bench, Side, Tally, in_turn, round_robin};
use crate::service::{
    client::{Drive, Requests, Wire, drive, get, post},
    report::{Case, Figures},
    stage::Stage,
};

const CONNECTIONS: usize = 32;
/// Images that are asked about again and again.
const REPEATED: usize = 100;

/// The question about an image.
pub fn path(image: &str) -> String {
    format!("/v1/verdict?image={}", image.replace('@', "%40").replace(':', "%3A"))
}

/// Keeps one verdict's bytes for the ceiling.
pub async fn save(stage: &Stage, files: &Path) -> Result<()> {
    let mut wire = Wire::open(stage.port()).await?;
    let (status, body) = wire.ask(&get(&path(&stage.images[0].0), Some(&stage.token))).await?;
    let verdict: Value = serde_json::from_slice(body)?;
    ensure!(status == 200 && verdict["outcome"] == "PASSED", "the first image is not PASSED: {verdict:#}");
    std::fs::write(files.join("verdict"), body)?;
    Ok(())
}

/// From memory, against ready bytes behind the same stack.
pub async fn repeated(bench: &Bench) -> Result<Vec<Case>> {
    let (stage, ceiling) = (&bench.large, &bench.ceiling);
    let how = |port, seconds| Drive {
        port,
        connections: CONNECTIONS,
        window: Duration::from_secs(seconds),
        expected: &[200],
    };
    let paths: Vec<String> = stage.images.iter().take(REPEATED).map(|(image, _)| path(image)).collect();
    let own = Side {
        drive: how(stage.port(), 3),
        requests: round_robin(paths, Some(&stage.token)),
        pids: vec![stage.app.process.pid],
        database: None,
        stage: Some(stage),
    };
    let other = Side {
        drive: how(ceiling.port, 3),
        requests: round_robin(vec!["/file/verdict".into()], Some(&stage.token)),
        pids: vec![ceiling.process.pid],
        database: None,
        stage: None,
    };
    crate::service::client::drive(
        Drive { window: Duration::from_secs(1), ..own.drive },
        own.requests.clone(),
    )
    .await?;
    let (figures, against) = in_turn(own, other, 3).await?;
    Ok(vec![Case::rate("verdict repeated", figures, "an axum handler with the same bytes", against, 0.75)])
}

/// Images of a data set in an order that says nothing about when they were written.
fn shuffled(stage: &Stage, from: usize, n: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..stage.images.len()).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut all);
    all.into_iter().cycle().skip(from).take(n).collect()
}

/// Questions that no cache has: each says something besides that no policy reads.
fn cold(stage: &Stage, numbers: &[usize], series: &'static str) -> Requests {
    let paths: Vec<String> = numbers.iter().map(|n| path(&stage.images[*n].0)).collect();
    let token = stage.token.clone();
    let next = AtomicU64::new(0);
    // Another run of the same requests goes on counting.
    Arc::new(move |_| {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let path = &paths[n as usize % paths.len()];
        Some(get(&format!("{path}&ctx.series={series}&ctx.n={n}"), Some(&token)))
    })
}

/// For the first time, against the same statements alone.
pub async fn first(bench: &Bench) -> Result<Vec<Case>> {
    const ASKED: usize = 4_000;
    let how =
        |port| Drive { port, connections: CONNECTIONS, window: Duration::from_secs(4), expected: &[200] };
    let numbers = shuffled(&bench.large, 0, ASKED);
    let lines: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let mut wire = Wire::open(bench.ceiling.port).await?;
    let (status, body) = wire.ask(&post("/prepare", None, lines.join("\n").as_bytes())).await?;
    ensure!(status == 200, "{}", String::from_utf8_lossy(body));
    let round_trips = String::from_utf8_lossy(body).parse::<f64>()? / ASKED as f64;
    let side = |series: &'static str| Side {
        drive: how(bench.large.port()),
        requests: cold(&bench.large, &numbers, series),
        pids: vec![bench.large.app.process.pid],
        database: Some(&bench.large),
        stage: None,
    };
    let statements = Side {
        drive: how(bench.ceiling.port),
        requests: round_robin(numbers.iter().map(|n| format!("/replay/{n}")).collect(), None),
        pids: vec![bench.ceiling.process.pid],
        database: Some(&bench.large),
        stage: None,
    };
    let (own, against) = in_turn(side("first"), statements, 3).await?;
    let row = Side {
        drive: how(bench.ceiling.port),
        requests: round_robin(numbers.iter().map(|n| format!("/row/{n}")).collect(), None),
        pids: vec![],
        database: None,
        stage: None,
    };
    let (again, row) = in_turn(side("row"), row, 1).await?;
    let (p99, its_p99) = (own.p99, against.p99);
    let ratio = again.rate / row.rate;
    let first = Case::rate("verdict first", own, "its statements without evaluation", against, 0.7)
        .also(format!("{round_trips:.2} round trips, at most 5"), round_trips <= 5.0)
        .also(format!("p99 {p99} µs under 10 × {its_p99} µs"), p99 < 10 * its_p99)
        .also(format!("{ratio:.2} of one primary-key read (reported only)"), true);
    Ok(vec![first])
}

/// How the cost of a first verdict grows with the data.
pub async fn growth(bench: &Bench) -> Result<Vec<Case>> {
    const ROUNDS: usize = 9;
    let mut tallies: [Tally; 3] = Default::default();
    let sides = bench.by_size().map(|stage| Side {
        drive: Drive {
            port: stage.port(),
            connections: CONNECTIONS,
            window: Duration::from_secs(1),
            expected: &[200],
        },
        requests: cold(stage, &shuffled(stage, 0, 4_000), "growth"),
        pids: vec![stage.app.process.pid],
        database: Some(stage),
        stage: None,
    });
    for _ in 0..ROUNDS {
        for (side, tally) in sides.iter().zip(&mut tallies) {
            tally.add(side).await?;
        }
    }
    Ok(vec![Case::grown("verdict growth", bench, tallies.map(Tally::figures), 1.3)])
}

/// A thousand questions at once, against a thousand requests, none of them asked before.
pub async fn batch(bench: &Bench) -> Result<Vec<Case>> {
    const QUESTIONS: usize = 1_000;
    const BATCHES: usize = 8;
    let stage = &bench.large;
    let numbers = shuffled(stage, 10_000, QUESTIONS * BATCHES);
    let batches: Vec<Vec<u8>> = numbers
        .chunks(QUESTIONS)
        .map(|part| {
            let said = |n: &usize| json!({"image": stage.images[*n].0, "context": {"series": "batch"}});
            let questions: Vec<Value> = part.iter().map(said).collect();
            post("/v1/verdicts", Some(&stage.token), json!({"questions": questions}).to_string().as_bytes())
        })
        .collect();
    let how = |connections| Drive {
        port: stage.port(),
        connections,
        window: Duration::from_secs(60),
        expected: &[200],
    };
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    for (n, request) in batches.into_iter().enumerate() {
        let part = &numbers[n * QUESTIONS..(n + 1) * QUESTIONS];
        let once = cold(stage, part, "single");
        let all: Requests = Arc::new(move |k| (k < QUESTIONS as u64).then(|| once(k)).flatten());
        // One after the other, as somebody asks who has no batches.
        alone.push(drive(how(1), all).await?.rate);
        let one: Requests = Arc::new(move |k| (k == 0).then(|| request.clone()));
        together.push(drive(how(1), one).await?.rate * QUESTIONS as f64);
    }
    let mean = |rates: &[f64]| Figures::rate(rates.iter().sum::<f64>() / rates.len() as f64);
    let against = "single questions, one after the other";
    Ok(vec![Case::rate("verdict batch of 1,000", mean(&together), against, mean(&alone), 5.0)])
}
