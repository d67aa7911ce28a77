//! What dies, and what must hold nevertheless: `cargo run --release -p acceptance --bin faults -- R03 --seed 7`.
//!
//! Each scenario prints one line with its seed and its counts, and the command exits 1 when one does not hold.
//! `short` runs those that fit into the gate; `list` names all.

#![expect(clippy::unwrap_used, reason = "a panic is a scenario that did not hold")]
mod clock;
mod database;
mod disk;
mod failover;
mod failpoints;
mod ground;
mod instances;
mod kill;
mod machine;
mod network;
mod outage;
mod overload;
mod report;
mod rot;
mod several;
mod slow;
mod wire;

use std::{path::Path, pin::Pin, process::ExitCode, time::Instant};

use crate::report::Report;

/// How one run is set up.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Everything random comes from here.
    pub seed: u64,
    /// In the gate: seconds instead of minutes.
    pub short: bool,
    /// An older version of the program, for R22.
    pub before: Option<&'static Path>,
}

/// One scenario.
struct Scenario {
    /// `R01` …
    id: &'static str,
    /// One line.
    what: &'static str,
    /// Whether it also runs in the gate.
    in_gate: bool,
    run: fn(Plan) -> Pin<Box<dyn Future<Output = Report>>>,
}

/// One line of the table.
macro_rules! scenario {
    ($id:literal, $what:literal, $in_gate:literal, $run:path) => {
        Scenario { id: $id, what: $what, in_gate: $in_gate, run: |plan| Box::pin($run(plan)) }
    };
}

/// Every scenario, in order.
const SCENARIOS: &[Scenario] = &[
    scenario!("R01", "kill -9 of the service under 16 writers", true, kill::service),
    scenario!(
        "R02",
        "kill -9 at every failpoint, five times each (--features failpoints)",
        false,
        failpoints::every
    ),
    scenario!("R03", "kill -9, immediate stop and fast restart of Postgres", true, database::dies),
    scenario!("R04", "fsync errors of Postgres", false, database::fsync_fails),
    scenario!("R05", "a slow disk, then one that stands still", false, disk::is_slow),
    scenario!("R06", "a full disk: data, write-ahead log, the service's own", false, disk::is_full),
    scenario!("R07", "no connections left, then a forgotten lock", false, database::connections_run_out),
    scenario!("R08", "clients that hang up while the database is far away", true, network::clients_hang_up),
    scenario!("R09", "a late, narrow, stalled, reset, half-open wire", false, network::is_bad),
    scenario!("R10", "the service cut off from its database", false, network::is_cut),
    scenario!("R11", "failover to a synchronous and to an asynchronous replica", false, failover::failover),
    scenario!("R12", "a replica that stands still while evidence is revoked", false, failover::stale_replica),
    scenario!("R13", "corrupted rows, leaves and indexes", false, rot::rots),
    scenario!("R14", "an old backup, and two instances", false, instances::backup_and_second_instance),
    scenario!("R15", "ten times more than can be served", false, overload::ten_times),
    scenario!("R16", "slow heads, silence, slow bodies, slow readers", false, slow::clients),
    scenario!("R17", "huge, compressed and endless bodies, huge heads", true, slow::bodies),
    scenario!("R18", "clocks that jump", false, clock::jumps),
    scenario!("R19", "issuer and registry down, mute, hostile", false, outage::dependencies),
    scenario!("R20", "a tenth of a core that eight others want", false, overload::starved),
    scenario!("R21", "overload with 256 MiB", false, overload::little_memory),
    scenario!("R22", "a rolling upgrade with migrations under load", false, instances::rolling_upgrade),
    scenario!("M01", "three instances: one dies, one is cut off", false, instances::three_instances),
];

fn main() -> ExitCode {
    if let Some(code) = acceptance::app::be_the_program() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seed = match seed(&arguments) {
        Ok(seed) => seed,
        Err(why) => return usage(&why),
    };
    let before = option(&arguments, "--before").map(|path| &*Path::new(path).to_owned().leak());
    if let Some(missing) = before.filter(|path| !path.is_file()) {
        return usage(&format!("--before {}: no such program", missing.display()));
    }
    let Some(which) = arguments.first() else { return usage("name a scenario") };
    let short = which == "short" || arguments.iter().any(|a| a == "--short");
    let chosen: Vec<&Scenario> = match which.as_str() {
        "list" => {
            SCENARIOS.iter().for_each(|s| println!("{}  {}", s.id, s.what));
            return ExitCode::SUCCESS;
        }
        "short" => SCENARIOS.iter().filter(|s| s.in_gate).collect(),
        "all" => SCENARIOS.iter().collect(),
        id => SCENARIOS.iter().filter(|s| s.id.eq_ignore_ascii_case(id)).collect(),
    };
    if chosen.is_empty() {
        return match which.to_ascii_uppercase().as_str() {
            "R23" => usage("R23 is the hammer's: cargo run --release -p bench -- hammer --max-runtime 600"),
            "R24" => usage("R24 is the hammer's: cargo run --release -p bench -- hammer --goal 2500"),
            _ => usage(&format!("there is no scenario {which}")),
        };
    }
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let mut held = true;
    for scenario in chosen {
        let begun = Instant::now();
        let report = runtime.block_on((scenario.run)(Plan { seed, short, before }));
        println!("{} seed {seed}: {report} ({} s)", scenario.id, begun.elapsed().as_secs());
        held &= report.holds();
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn seed(arguments: &[String]) -> Result<u64, String> {
    let value = option(arguments, "--seed").unwrap_or("1");
    value.parse().map_err(|_| format!("--seed {value} is not a number"))
}

/// What follows an option; nothing when that is not there.
fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|argument| argument == name)?;
    Some(arguments.get(at + 1).map_or("", String::as_str))
}

fn usage(why: &str) -> ExitCode {
    eprintln!(
        "{why}\nusage: faults (R01 … R22, M01 | short | all | list) [--seed N] [--short] [--before OLDER-CATENARY]"
    );
    ExitCode::from(3)
}
