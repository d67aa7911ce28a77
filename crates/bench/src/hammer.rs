//! The hammer: writers, hostile writers, readers, pollers, a revoker and an administrator at work while faults strike; then a
//! checker that shares no code with the service proves the invariants. `cargo run --release -p bench -- hammer`.

mod call;
mod cast;
mod check;
mod findings;
mod journal;
mod options;
mod play;
mod roles;
mod site;
mod strike;
mod wire;

use std::{
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::json;

use self::{
    options::Options,
    play::Play,
    roles::{control, poll, read, refused, sample, stage, write},
    strike::Struck,
};

/// Clients that write at a time, ask at a time, and read at a time.
const WRITERS: usize = 12;
const POLLERS: usize = 4;
const READERS: usize = 2;
/// Images that enter at a time.
const STAGES: usize = 3;
/// The longest calm between two faults.
const PACE: Duration = Duration::from_secs(5);

/// Runs the hammer with these arguments; exit code 0 when every invariant was checked and held, and the goal was reached.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let options = Options::read(arguments)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(hammer(options))
}

async fn hammer(options: Options) -> Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("catenary-hammer-").tempdir()?;
    eprintln!("hammer: seed {}, journal in {}", options.seed, folder.path().display());
    let play = Arc::new(Play::prepare(options.clone(), folder.path()).await?);
    let begun = Instant::now();
    let struck = perform(&play).await?;
    let took = begun.elapsed();
    // What the checker reads is at rest, and every instance alive.
    play.stop.store(false, Ordering::SeqCst);
    for instance in 0..play.site.urls.len() {
        play.site.ready(instance, Duration::from_secs(60)).await?;
    }
    write::settle(&play).await;
    check::everything(&play).await?;
    play.site.end();
    Ok(report(&play, &struck, took))
}

/// The roles play until the goal or the time is reached; then they leave, and what died lives.
async fn perform(play: &Arc<Play>) -> Result<Struck> {
    let mut roles = Vec::new();
    for _ in 0..WRITERS {
        roles.push(tokio::spawn(write::write(play.clone())));
    }
    for _ in 0..POLLERS {
        roles.push(tokio::spawn(poll::poll(play.clone())));
    }
    for _ in 0..READERS {
        roles.push(tokio::spawn(read::read(play.clone())));
    }
    for _ in 0..STAGES {
        roles.push(tokio::spawn(stage::enter(play.clone())));
    }
    roles.push(tokio::spawn(refused::send(play.clone())));
    roles.push(tokio::spawn(control::revoke(play.clone())));
    roles.push(tokio::spawn(control::administer(play.clone())));
    roles.push(tokio::spawn(sample::sample(play.clone())));
    let faults = tokio::spawn(strike::until_stopped(
        play.site.clone(),
        play.options.faults.iter().copied().collect(),
        play.options.seed,
        PACE,
        (play.stop.clone(), play.acknowledged.clone()),
        play.findings.clone(),
    ));
    let begun = Instant::now();
    while begun.elapsed() < play.options.max_runtime && !reached(play) && !faults_failed(&faults, play) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    play.stop.store(true, Ordering::SeqCst);
    let struck = faults.await??;
    for role in roles {
        role.await?;
    }
    Ok(struck)
}

/// A striker that ended while faults were asked for has an error to tell.
fn faults_failed(faults: &tokio::task::JoinHandle<Result<Struck>>, play: &Play) -> bool {
    faults.is_finished() && !play.options.faults.is_empty()
}

/// The goal is reached when so much was acknowledged, and every role had its turn.
fn reached(play: &Play) -> bool {
    let enough = play.options.goal.is_some_and(|goal| play.acknowledged.load(Ordering::Relaxed) >= goal);
    enough && play.findings.looked(&["I5", "I6", "I7", "I8", "I13"])
}

fn report(play: &Play, struck: &Struck, took: Duration) -> ExitCode {
    let acknowledged = play.acknowledged.load(Ordering::Relaxed);
    let short = play.options.goal.filter(|goal| acknowledged < *goal);
    let held = play.findings.hold() && short.is_none();
    if play.options.json {
        let report = json!({
            "seed": play.options.seed, "held": held, "seconds": took.as_secs(), "acknowledged": acknowledged,
            "goal": play.options.goal, "faults": struck.counts, "slowestRecoveryMs": u64::try_from(struck.slowest.as_millis()).unwrap_or(u64::MAX),
            "statuses": play.judge.statuses(), "invariants": play.findings.json(),
        });
        println!("{report:#}");
    } else {
        let faults: Vec<String> = struck.counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
        println!(
            "seed {}: {acknowledged} new leaves acknowledged in {} s",
            play.options.seed,
            took.as_secs()
        );
        println!("faults: {}; slowest recovery {:?}", faults.join(", "), struck.slowest);
        println!("statuses: {:?} (0: no answer)", play.judge.statuses());
        play.findings.lines().iter().for_each(|line| println!("{line}"));
        if let Some(goal) = short {
            println!("the goal of {goal} was not reached");
        }
        println!("{}", if held { "every invariant held" } else { "NOT EVERY INVARIANT HELD" });
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
