//! Every case that is required has a test, and every case is in the table once.

use std::collections::BTreeSet;

use acceptance::attacks::{REQUIRED, TABLE};

/// The sources of every test of this package.
const SOURCES: &[&str] = &[
    include_str!("chain.rs"),
    include_str!("control.rs"),
    include_str!("http.rs"),
    include_str!("oidc.rs"),
    include_str!("policy.rs"),
    include_str!("statement.rs"),
    include_str!("../storage.rs"),
    include_str!("../storage/replica.rs"),
    include_str!("../faults.rs"),
    include_str!("../stories.rs"),
];

fn test_names() -> Vec<&'static str> {
    let lines = SOURCES.iter().flat_map(|text| text.lines());
    lines
        .filter_map(|line| line.trim().strip_prefix("async fn ").or_else(|| line.trim().strip_prefix("fn ")))
        .collect()
}

#[test]
fn every_required_attack_has_a_test_named_after_it() {
    let names = test_names();
    let missing: Vec<&&str> = REQUIRED
        .iter()
        .filter(|id| !names.iter().any(|name| name.starts_with(&format!("{}_", id.to_lowercase()))))
        .collect();
    assert!(missing.is_empty(), "no test for {missing:?}");
}

#[test]
fn every_required_attack_is_in_the_table_once() {
    let ids: Vec<&str> = TABLE.iter().map(|row| row.0).collect();
    let set: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), set.len());
    assert_eq!(set, REQUIRED.iter().copied().collect());
}
