//! What is hit by a key: all of it, as somebody reads it whose key is stolen.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use catenary_testkit::world::Signers;
use serde_json::Value;

use super::Bench;
use crate::service::{
    client::{Drive, Sample, Wire, drive, get, post},
    report::{Case, Figures},
    usage,
};

/// Images that are read at least, over all rounds.
const READ: u64 = 20_000;

/// The key that signed one event of every image, against reading the same rows page by page.
pub async fn of_a_key(bench: &Bench) -> Result<Vec<Case>> {
    let (stage, ceiling) = (&bench.large, &bench.ceiling);
    let key = Signers::of(0).k_reg.id();
    let mut wire = Wire::open(ceiling.port).await?;
    let (_, pages) = wire.ask(&post("/impact", None, key.as_bytes())).await?;
    let pages: u64 = std::str::from_utf8(pages)?.parse().context("the ceiling reads no pages")?;
    let pids = [vec![stage.app.process.pid], stage.backends()].concat();
    let (mut own, mut other, mut images, mut all, mut cpu) = (Vec::new(), Vec::new(), 0, 0, 0);
    // The service reads ahead while it writes; the ceiling is one reader, page after page.
    while own.len() < 2 || all < READ {
        let before = usage::cpu(&pids);
        let (seen, sample) = read_all(bench, &key).await?;
        cpu += usage::cpu(&pids) - before;
        images = seen;
        ensure!(images > 0, "nothing is hit");
        all += images;
        own.push(sample);
        let each = std::sync::Arc::new(move |n: u64| (n < pages).then(|| get(&format!("/impact/{n}"), None)));
        let how = Drive {
            port: ceiling.port,
            connections: 1,
            window: std::time::Duration::from_secs(600),
            expected: &[200],
        };
        let mut sample = drive(how, each).await?;
        sample.rate *= images as f64 / pages as f64;
        other.push(sample);
    }
    let mut own = Figures::of(&Sample::together(own));
    own.cpu = Some(cpu as f64 / all as f64);
    own.rss = Some(stage.app.process.resident());
    let other = Figures::of(&Sample::together(other));
    let case = Case::rate("impact of a key", own, "its statements without what is made of them", other, 0.5);
    Ok(vec![case.also(format!("{images} images, {pages} pages; latencies are of a page"), true)])
}

/// All that is hit, as JSON Lines: how many images, and how long each page took.
async fn read_all(bench: &Bench, key: &str) -> Result<(u64, Sample)> {
    let path = format!("/v1/impact?format=ndjson&key={}", key.replace(':', "%3A"));
    let wire = Wire::open(bench.large.port()).await?;
    let begun = Instant::now();
    let (mut page, mut latencies, mut images) = (begun, Vec::new(), 0);
    wire.lines(&get(&path, Some(&bench.large.token)), |line| {
        let Ok(line) = serde_json::from_str::<Value>(line) else { return true };
        match line["type"].as_str() {
            Some("artifact") => images += 1,
            Some("progress") => {
                latencies.push(u32::try_from(page.elapsed().as_micros()).unwrap_or(u32::MAX));
                page = Instant::now();
            }
            _ => {}
        }
        line["type"] != "end"
    })
    .await?;
    Ok((images, Sample::of_parts(images, begun.elapsed(), latencies)))
}
