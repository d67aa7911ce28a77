//! The process as a whole: how soon it is ready, how much memory it takes.

use std::{sync::Arc, time::Duration};

use acceptance::Builder;
use anyhow::{Result, ensure};

use super::{Bench, verdicts};
use crate::service::{
    client::{Drive, Requests, drive, get},
    report::{Bound, Case, Figures},
    stage,
};

/// Start to ready with all the data, against an empty database.
pub async fn start(bench: &mut Bench) -> Result<Vec<Case>> {
    let (mut full, mut empty) = (Vec::new(), Vec::new());
    let url = bench.large.cluster.database().await;
    // The first start of all migrates and makes keys; it is the second that counts.
    let mut app = Builder::default().database(&url).start().await;
    for _ in 0..5 {
        let builder = app.builder.clone();
        app.process.stop();
        let begun = std::time::Instant::now();
        app = builder.launch();
        stage::wait_ready(&app).await?;
        empty.push(begun.elapsed());
        full.push(bench.large.restart().await?);
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    };
    let (full, empty) = (median(full), median(empty));
    let times = format!("{:.0} ms against {:.0} ms", full * 1e3, empty * 1e3);
    let (own, other) = (Figures::rate(1.0 / full), Figures::rate(1.0 / empty));
    Ok(vec![Case::growth("start to ready", own, "an empty database", other, 2.0).also(times, true)])
}

/// Bytes of a cached verdict, and of the whole process.
pub async fn memory(bench: &mut Bench) -> Result<Vec<Case>> {
    const VERDICTS: u64 = 100_000;
    const MARK: f64 = 2_500.0;
    bench.large.restart().await?;
    let stage = &bench.large;
    let images: Vec<String> = stage.images.iter().map(|(image, _)| verdicts::path(image)).collect();
    let token = stage.token.clone();
    let requests = |from: u64, n: u64| -> Requests {
        let (images, token) = (images.clone(), token.clone());
        Arc::new(move |k| {
            let at = (from + k) as usize;
            // Where there are fewer images than verdicts, a question says something besides.
            let round = at / images.len();
            let path = format!("{}&ctx.round={round}", images[at % images.len()]);
            (k < n).then(|| get(&path, Some(&token)))
        })
    };
    let how =
        Drive { port: stage.port(), connections: 32, window: Duration::from_secs(600), expected: &[200] };
    // What connections, pools and code need is there before.
    drive(how, requests(0, 2_000)).await?;
    settle().await;
    let before = stage.app.process.resident();
    let sample = drive(how, requests(2_000, VERDICTS)).await?;
    ensure!(sample.odd.0 == 0, "{:?}", sample.odd);
    settle().await;
    let after = stage.app.process.resident();
    let each = after.saturating_sub(before) as f64 / VERDICTS as f64;
    let hits = cached(stage, requests(2_000, 1_000)).await?;
    let own = Figures { rate: each, rss: Some(after), ..Figures::default() };
    let ceiling = Figures::rate(MARK);
    let case = Case {
        name: "memory of a cached verdict",
        ratio: each / MARK,
        mark: 1.0,
        bound: Bound::AtMost,
        ceiling_name: "2,500 bytes",
        own,
        ceiling,
        also: Vec::new(),
        curve: Vec::new(),
    };
    let megabytes = after / 1_000_000;
    Ok(vec![
        case.also(format!("{megabytes} MB resident, at most 400"), megabytes <= 400)
            .also(format!("{hits} of 1,000 of the oldest verdicts are still ready"), hits >= 990),
    ])
}

/// The record of decisions is written within a second, and its buffers given back.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(4)).await;
}

/// How many of these answers came from memory, as the service's own counter says.
async fn cached(stage: &stage::Stage, requests: Requests) -> Result<u64> {
    let hits = async || {
        let text = stage.app.anonymous().get("/metrics").await.body;
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|l| l.starts_with("catenary_verdict_cache_total") && l.contains("hit"));
        line.and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_default() as u64
    };
    let before = hits().await;
    let how = Drive { port: stage.port(), connections: 8, window: Duration::from_secs(60), expected: &[200] };
    drive(how, requests).await?;
    Ok(hits().await - before)
}
