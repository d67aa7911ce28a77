//! Deliberate faults of the evaluator: the oracle must find each.

use catenary_chain::faults::{self, Fault};

use super::{compare, generator};

/// How many worlds may be needed to find a fault.
const PATIENCE: u64 = 20_000;

#[test]
fn each_deliberate_fault_is_found() {
    for fault in Fault::ALL {
        let differs = |seed: &u64| {
            let world = generator::world(*seed);
            faults::set(Some(fault));
            let result = compare(&world);
            faults::set(None);
            result.is_err()
        };
        let found = (0..PATIENCE).find(differs);
        println!("{fault:?}: found in world {found:?}");
        let seed = found.unwrap_or_else(|| panic!("{fault:?} is not found in {PATIENCE} worlds"));
        assert!(compare(&generator::world(seed)).is_ok(), "world {seed} differs without {fault:?} too");
    }
}
