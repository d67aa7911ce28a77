//! What scenarios with more than one machine ask: who is ready, who says yes, what is written, what is lost.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use acceptance::{
    App, Client, Stage, checker,
    load::{self, Acknowledged, Writers},
};
use reqwest::Method;
use serde_json::json;

use crate::report::Report;

/// How long a goal of writers is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether the answer is a yes; no answer is none.
pub async fn says_yes(client: &Client, image: &str) -> bool {
    let path = format!("/v1/verdict?image={image}&environment=prod");
    let answer = client.try_send(client.request(Method::GET, &path)).await;
    answer.is_ok_and(|a| a.status == 200 && a.json()["allowed"] == json!(true))
}

/// Whether it says so itself.
pub async fn is_ready(client: &Client) -> bool {
    client.try_send(client.request(Method::GET, "/readyz")).await.is_ok_and(|a| a.status == 200)
}

/// Waits until it says so.
pub async fn becomes_ready(client: &Client) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if is_ready(client).await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

/// The stage, asked of a service at another place.
pub fn moved(stage: Stage, app: &App) -> Stage {
    Stage { admin: stage.afresh(&app.url), ..stage }
}

/// Each of the writers has so much more acknowledged.
pub async fn write(report: &mut Report, all: &[&Writers], more: usize, when: &str) {
    for writers in all {
        let enough = writers.progress(more, PATIENCE).await;
        report.expect(enough, || format!("too little is acknowledged {when}"));
    }
}

/// Counts what was acknowledged, and that nothing of it is lost.
pub async fn nothing_is_lost(report: &mut Report, stage: &Stage, acknowledged: &[Acknowledged]) {
    let newest = acknowledged.iter().map(|a| a.index).max().unwrap_or_default();
    let begun = Instant::now();
    // What another instance wrote is followed within a moment.
    while checker::checkpoint(stage, &stage.tenant).await.size <= newest
        && begun.elapsed() < Duration::from_secs(10)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = checker::check(stage, &stage.tenant).await;
    let lost = load::lost(&log, acknowledged);
    if lost == 0 {
        report.count("read back", load::kept(stage, &log, acknowledged, 50).await);
    }
    report.count("acknowledged", acknowledged.len() as u64);
    report.count("lost", lost);
    report.expect(lost == 0, || format!("{lost} acknowledged attestations are lost"));
    let places: BTreeSet<u64> = acknowledged.iter().map(|a| a.index).collect();
    report.expect(places.len() == acknowledged.len(), || "two entries share an index".into());
}

/// How many of these the log does not hold.
pub async fn lost(stage: &Stage, acknowledged: &[Acknowledged]) -> u64 {
    load::lost(&checker::check(stage, &stage.tenant).await, acknowledged)
}
