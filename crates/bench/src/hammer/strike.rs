//! Faults at random moments, one after another, each undone before the next.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use fastrand::Rng;

use super::{
    findings::Findings,
    options::Kind,
    site::{RECOVERY, Site, postgres_is_gone},
    wire::Mode,
};

/// What struck.
#[derive(Debug, Default)]
pub struct Struck {
    /// How often each fault.
    pub counts: BTreeMap<&'static str, u64>,
    /// The slowest start and the slowest recovery.
    pub slowest: Duration,
}

/// Strikes until told to stop; what dies is alive again when this returns.
pub async fn until_stopped(
    site: Arc<Site>,
    kinds: Vec<Kind>,
    seed: u64,
    pace: Duration,
    (stop, acknowledged): (Arc<AtomicBool>, Arc<AtomicU64>),
    findings: Arc<Findings>,
) -> Result<Struck> {
    let mut random = Rng::with_seed(seed);
    let mut struck = Struck::default();
    while !stop.load(Ordering::Relaxed) && !kinds.is_empty() {
        let calm = Duration::from_millis(random.u64(300..u64::try_from(pace.as_millis())?.max(301)));
        tokio::time::sleep(calm).await;
        let took = match kinds[random.usize(..kinds.len())] {
            Kind::Kill => kill(&site, &mut random, &mut struck).await?,
            Kind::Postgres => postgres(&site, &mut random, &mut struck).await?,
            Kind::Network => network(&site, &mut random, &mut struck).await?,
        };
        struck.slowest = struck.slowest.max(took);
        let last = struck.counts.iter().map(|(what, n)| format!("{what} {n}")).collect::<Vec<_>>().join(", ");
        findings.check("I14", took <= RECOVERY, || format!("ready only after {took:?} ({last})"));
        // Ready is a word; an acknowledgement is the thing.
        let moved = progress(&acknowledged, &stop, RECOVERY).await;
        findings.check("I14", moved, || format!("nothing was acknowledged for {RECOVERY:?} ({last})"));
    }
    Ok(struck)
}

async fn progress(acknowledged: &AtomicU64, stop: &AtomicBool, limit: Duration) -> bool {
    let (before, begun) = (acknowledged.load(Ordering::Relaxed), Instant::now());
    while acknowledged.load(Ordering::Relaxed) == before {
        if stop.load(Ordering::Relaxed) {
            return true;
        }
        if begun.elapsed() > limit {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

async fn kill(site: &Site, random: &mut Rng, struck: &mut Struck) -> Result<Duration> {
    let instance = random.usize(..site.urls.len());
    *struck.counts.entry("kill -9 of an instance").or_default() += 1;
    let builder = site.kill(instance)?;
    tokio::time::sleep(Duration::from_millis(random.u64(..1000))).await;
    site.revive(instance, builder).await
}

async fn postgres(site: &Site, random: &mut Rng, struck: &mut Struck) -> Result<Duration> {
    let data = site.cluster.folder().join("data");
    match random.u8(..3) {
        0 => {
            *struck.counts.entry("kill -9 of Postgres").or_default() += 1;
            site.cluster.kill();
        }
        1 => {
            *struck.counts.entry("immediate stop of Postgres").or_default() += 1;
            quit(&data);
            postgres_is_gone(&data, Duration::from_secs(5)).await;
            site.cluster.kill();
        }
        _ => {
            *struck.counts.entry("restart of Postgres").or_default() += 1;
            site.cluster.stop();
        }
    }
    postgres_is_gone(&data, Duration::from_secs(10)).await;
    tokio::time::sleep(Duration::from_millis(random.u64(..2000))).await;
    site.cluster.start().await;
    all_ready(site).await
}

/// `pg_ctl stop -m immediate`.
fn quit(data: &std::path::Path) {
    let file = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    if let Some(pid) = file.lines().next().filter(|pid| pid.parse::<u32>().is_ok()) {
        let _ = std::process::Command::new("kill").args(["-QUIT", pid]).status();
    }
}

async fn network(site: &Site, random: &mut Rng, struck: &mut Struck) -> Result<Duration> {
    let wire = &site.wires[random.usize(..site.wires.len())];
    let (what, mode) = match random.u8(..5) {
        0 => ("latency", Mode::Late(random.u64(50..400))),
        1 => ("stall", Mode::Stalled),
        2 => ("blackhole", Mode::Blackhole),
        3 => ("cut", Mode::Cut),
        _ => ("forgotten connections", Mode::Clear),
    };
    *struck.counts.entry(what).or_default() += 1;
    wire.set(mode);
    if mode == Mode::Clear {
        // Postgres ends what nobody drives any more; the instance is never told.
        site.end_sessions(&wire.forget()).await?;
    }
    tokio::time::sleep(Duration::from_millis(random.u64(200..6000))).await;
    wire.set(Mode::Clear);
    all_ready(site).await
}

/// How long that took. An instance that does not come back by itself is late for ever, and is started again.
async fn all_ready(site: &Site) -> Result<Duration> {
    let begun = Instant::now();
    let mut took = Duration::ZERO;
    for instance in 0..site.urls.len() {
        let ready = site.ready(instance, RECOVERY * 3).await;
        took = begun.elapsed();
        if let Err(error) = ready {
            eprintln!("{error:#}");
            let builder = site.kill(instance)?;
            site.revive(instance, builder).await?;
        }
    }
    Ok(took)
}
