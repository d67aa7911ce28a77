//! What a scenario counted, and what did not hold.

use std::{collections::BTreeMap, fmt};

/// Counts and failures of one run.
#[derive(Debug, Default)]
pub struct Report {
    counts: BTreeMap<&'static str, u64>,
    failures: Vec<String>,
}

impl Report {
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
        for failure in &self.failures {
            write!(f, "\n  BROKEN: {failure}")?;
        }
        Ok(())
    }
}
