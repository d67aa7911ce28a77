//! Looking for rows that are not as they were written: everything that `log verify` compares, slice by slice, spread over a day.
//!
//! Each instance does so for itself: it only reads, so there is nobody to elect and nothing to agree on. A difference is an alarm
//! (an error line, a metric, `/readyz`) and drops what is cached of its tenant, so that the next answer reads the rows. An entry of the
//! log that is not what was followed stops every yes of its tenant.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use catenary_store::{
    audit::{Difference, Fault, Pass},
    checkpoints::CheckpointStore,
};
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::App;

/// The longest pause between two slices, and before the first.
const LONGEST: Duration = Duration::from_secs(60);
/// After an error of the database.
const AGAIN: Duration = Duration::from_secs(5);
/// Each entry is read about so often in a pass: as an entry, for its facts, and by two indexes.
const READINGS: u64 = 4;
/// Differences that are shown; the log has them all.
const SHOWN: usize = 20;

/// The passes of one service.
pub(crate) struct Scrub {
    period: Option<Duration>,
    state: Mutex<Scrubbed>,
}

/// What the pass over everything stored has found.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Scrubbed {
    /// Whether passes are made.
    on: bool,
    /// Whole passes since the start.
    pub(crate) passes: u64,
    /// Rows that were read since the start.
    pub(crate) rows: u64,
    /// The last whole pass.
    pub(crate) last: Option<LastPass>,
    /// What differs by the pass underway or, while it has found nothing, by the last one; at most 20.
    findings: Vec<String>,
}

/// A whole pass.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LastPass {
    #[schema(value_type = String, format = DateTime)]
    began: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) ended: Timestamp,
    /// Rows that differ.
    pub(crate) differences: u64,
}

impl Scrub {
    /// One pass takes about `period`; without it, there is none.
    pub(crate) fn new(period: Option<Duration>) -> Self {
        let state = Scrubbed { on: period.is_some(), ..Scrubbed::default() };
        Self { period, state: Mutex::new(state) }
    }

    /// What was found.
    pub(crate) fn show(&self) -> Scrubbed {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Scrubbed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes pass after pass until the service stops. A slice is never cancelled half-way.
pub(crate) async fn run(app: App, outside: Option<CheckpointStore>, stop: CancellationToken) {
    let Some(period) = app.scrub.period else { return };
    let mut pause = LONGEST.min(period / 4);
    loop {
        if stopped(&stop, pause).await {
            return;
        }
        let (began, started) = (Timestamp::now(), Instant::now());
        let Some(differences) = pass(&app, outside.clone(), period, &stop).await else { return };
        let mut state = app.scrub.lock();
        state.passes += 1;
        state.last = Some(LastPass { began, ended: Timestamp::now(), differences });
        if differences == 0 {
            state.findings.clear();
        }
        pause = period.saturating_sub(started.elapsed());
    }
}

/// One pass; how much differs. `None` when the service stops.
async fn pass(
    app: &App,
    outside: Option<CheckpointStore>,
    period: Duration,
    stop: &CancellationToken,
) -> Option<u64> {
    let mut pass = Pass::new(app.backend.store.clone(), app.backend.keys.clone(), outside);
    let mut differences = 0;
    loop {
        let started = Instant::now();
        let pause = match pass.next().await {
            Ok(None) => return Some(differences),
            Ok(Some(slice)) => {
                found(app, &slice.differences, differences == 0);
                differences += slice.differences.len() as u64;
                app.scrub.lock().rows += slice.rows;
                pace(period, slice.rows, expected(app)).saturating_sub(started.elapsed())
            }
            Err(error) => {
                tracing::warn!(%error, "a slice of what is stored could not be compared");
                AGAIN
            }
        };
        if stopped(stop, pause).await {
            return None;
        }
    }
}

/// Shows differences, and takes back what rests on such rows.
fn found(app: &App, differences: &[Difference], first: bool) {
    for difference in differences {
        app.answers.forget(&difference.tenant);
        if difference.table == "log_entry" && difference.fault != Fault::Unexpected {
            let index = difference.key.split("..").next().and_then(|index| index.parse().ok());
            app.backend.follower.distrust(&difference.tenant, index.unwrap_or(0), &difference.what);
        }
    }
    let mut state = app.scrub.lock();
    if first && !differences.is_empty() {
        state.findings.clear();
    }
    let room = SHOWN.saturating_sub(state.findings.len());
    state.findings.extend(differences.iter().take(room).map(ToString::to_string));
}

/// How many rows a pass reads, about.
fn expected(app: &App) -> u64 {
    let follower = &app.backend.follower;
    let sizes = follower.tenants().into_iter().filter_map(|tenant| follower.snapshot(&tenant).ok());
    READINGS * sizes.map(|snapshot| snapshot.size).sum::<u64>().max(1)
}

/// How long so many rows may take.
fn pace(period: Duration, rows: u64, expected: u64) -> Duration {
    let share = rows as f64 / expected as f64;
    LONGEST.min(period.mul_f64(share.min(1.0)))
}

async fn stopped(stop: &CancellationToken, pause: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => true,
        () = tokio::time::sleep(pause) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_spread_over_its_period() {
        let day = Duration::from_secs(86_400);
        assert_eq!(pace(day, 200, 4_000_000), Duration::from_millis(4_320));
        assert_eq!(pace(day, 0, 4), Duration::ZERO);
        assert_eq!(pace(day, 4, 4), LONGEST);
        assert_eq!(pace(Duration::from_secs(2), 100, 4), Duration::from_secs(2));
    }
}
