//! What a scenario counted, and what did not hold.

use std::{collections::BTreeMap, fmt, time::Duration};

/// Counts and failures of one run.
#[derive(Debug, Default)]
pub struct Report {
    counts: BTreeMap<&'static str, u64>,
    failures: Vec<String>,
    /// By name, why this machine cannot run it.
    skipped: Vec<String>,
}

impl Report {
    /// A scenario that this machine cannot run, and why.
    pub fn skipped(why: &str) -> Self {
        let mut report = Self::default();
        report.skip("all of it", why);
        report
    }

    /// A part that this machine cannot run, and why.
    pub fn skip(&mut self, part: &str, why: &str) {
        self.skipped.push(format!("{part}: {why}"));
    }

    /// Counts the longest of some times.
    pub fn longest(&mut self, what: &'static str, took: Duration) {
        let most = self.counts.entry(what).or_default();
        *most = (*most).max(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }

    /// Counts something.
    pub fn count(&mut self, what: &'static str, n: u64) {
        *self.counts.entry(what).or_default() += n;
    }

    /// Records what must hold; `why` says what was seen instead.
    pub fn expect(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(why());
        }
    }

    /// Whether nothing failed.
    pub fn holds(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self.counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
        write!(f, "{}", counts.join(", "))?;
        for skipped in &self.skipped {
            write!(f, "\n  SKIPPED {skipped}")?;
        }
        for failure in &self.failures {
            write!(f, "\n  BROKEN: {failure}")?;
        }
        Ok(())
    }
}
