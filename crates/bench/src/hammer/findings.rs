//! What was checked of each invariant, and what did not hold.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

/// The invariants, and what is counted for each.
pub const INVARIANTS: [(&str, &str, &str); 14] = [
    ("I1", "lost", "acknowledged attestations, each with its bytes, signature and leaf"),
    ("I2", "without its counterpart", "rows, leaves, and refusals that leave none"),
    ("I3", "wrong", "leaves in order, tiles, and roots and checkpoints that were ever seen"),
    ("I4", "other than expected", "verdicts on played worlds at the end, on every instance"),
    ("I5", "allowed", "answers about hostile digests"),
    ("I6", "allowed", "answers begun after a revocation was acknowledged"),
    ("I7", "moved", "answers about honest images beside untrusted evidence and policy changes"),
    ("I8", "counted twice", "repeated submissions"),
    ("I9", "with another tenant's marker", "answers"),
    ("I10", "over a cap", "samples of memory, files and connections"),
    ("I11", "undocumented", "answers, and lines of the service's log"),
    ("I12", "missing or broken", "decisions and control entries in the record"),
    ("I13", "that do not verify", "signed verdicts"),
    ("I14", "late", "starts and recoveries"),
];

#[derive(Debug, Default, Clone)]
struct Tally {
    checked: u64,
    broken: u64,
    examples: Vec<String>,
}

/// Tallies of all invariants.
#[derive(Debug, Default)]
pub struct Findings(Mutex<BTreeMap<&'static str, Tally>>);

/// Examples that are kept of one invariant.
const EXAMPLES: usize = 5;

impl Findings {
    /// Counts one check; `why` says what was seen when it does not hold.
    pub fn check(&self, invariant: &'static str, holds: bool, why: impl FnOnce() -> String) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = all.entry(invariant).or_default();
        tally.checked += 1;
        if !holds {
            tally.broken += 1;
            if tally.examples.len() < EXAMPLES {
                tally.examples.push(why());
            }
        }
    }

    /// Whether every invariant was checked at all and held.
    pub fn hold(&self) -> bool {
        INVARIANTS.iter().all(|(name, ..)| {
            let tally = self.tally(name);
            tally.checked > 0 && tally.broken == 0
        })
    }

    /// Whether each of these was checked at least once.
    pub fn looked(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.tally(name).checked > 0)
    }

    fn tally(&self, name: &str) -> Tally {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned().unwrap_or_default()
    }

    /// One line an invariant, and the examples of what is broken.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, what, of) in INVARIANTS {
            let tally = self.tally(name);
            let mark = match tally {
                Tally { checked: 0, .. } => "  NOT CHECKED",
                Tally { broken: 0, .. } => "",
                _ => "  BROKEN",
            };
            lines.push(format!("{name:<4}{} {what} of {} {of}{mark}", tally.broken, tally.checked));
            lines.extend(tally.examples.iter().map(|example| format!("      {example}")));
        }
        lines
    }

    /// The same for machines.
    pub fn json(&self) -> Value {
        let one = |(name, what, of): (&str, &str, &str)| {
            let Tally { checked, broken, examples } = self.tally(name);
            json!({"invariant": name, "broken": broken, "checked": checked, "what": format!("{what} of {of}"), "examples": examples})
        };
        INVARIANTS.map(one).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_checked_does_not_hold() {
        let findings = Findings::default();
        for (name, ..) in &INVARIANTS[1..] {
            findings.check(name, true, String::new);
        }
        assert!(!findings.hold());
        findings.check("I1", true, String::new);
        assert!(findings.hold());
        findings.check("I1", false, || "entry 7 is gone".into());
        assert!(!findings.hold());
        assert!(findings.lines()[0].starts_with("I1  1 lost of 2 "), "{:?}", findings.lines());
    }
}
