//! The laws of design section 4, on scenes with pieces at random.

use catenary_evidence::predicate::{Actor, Build, Review, Severity, VexStatus};
use proptest::prelude::*;

use super::scene::*;
use crate::verdict::Outcome;

/// A scene out of pieces: each bit adds something, trusted or not, good or bad.
fn scene(bits: u32) -> Scene {
    let mut scene = Scene::empty();
    let has = |bit: u32| bits & (1 << bit) != 0;
    let extra = match (has(0), has(1)) {
        (false, false) => "",
        (true, false) => "  build: {builders: {atLeast: 2}}\n",
        (false, true) => "  inputs: [{role: baseImage, chain: true, pinned: required}]\n",
        (true, true) => {
            "  source: {repository: {uri: \"git+https://git.acme.test/acme/app\"}, review: {atLeast: 1}}\n"
        }
    };
    scene.policy("prod", &policy_named("prod", "**", extra));
    scene.manifest("m1", "amd64", &["l1"]);
    scene.manifest("m2", "arm64", &["l2"]);
    scene.index("idx", &[("m1", "amd64"), ("m2", "arm64")]);
    let base = |b: &mut Build| {
        if has(2) {
            b.dependencies.push(base(if has(3) { "m1" } else { "idx" }, APP));
        }
    };
    let second = |b: &mut Build| b.builder_id = "https://ci2.acme.test".into();
    if has(4) {
        scene.commit("c1", |c| {
            c.review = has(5).then(|| Review {
                approved_revision: commit_id("c1"),
                approvers: vec![Actor { name: "bob".into(), id: None }],
            });
        });
    }
    for (bit, of) in [(6, "idx"), (7, "m1"), (8, "m2")] {
        if has(bit) {
            scene.build(&[of], base);
        }
    }
    for (bit, of) in [(9, "idx"), (10, "m1"), (11, "m2")] {
        if has(bit) {
            scene.build_by(&["ci2"], &[of], second);
        }
    }
    for (bit, of) in [(12, "idx"), (13, "m1")] {
        if has(bit) {
            scene.push(of, APP);
        }
    }
    scene
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn removing_evidence_never_turns_a_no_into_a_yes(bits in 0u32..1 << 14, which in any::<prop::sample::Index>()) {
        let scene = scene(bits);
        let ids: Vec<_> = scene.evidence.attestations.keys().copied().collect();
        prop_assume!(!ids.is_empty());
        let fewer = scene.without(ids[which.index(ids.len())]);
        for name in ["idx", "m1"] {
            if fewer.ask(name).outcome == Outcome::Passed {
                prop_assert_eq!(scene.ask(name).outcome, Outcome::Passed);
            }
        }
    }

    #[test]
    fn untrusted_evidence_changes_no_answer(bits in 0u32..1 << 14, noise in 0usize..3) {
        let before = scene(bits);
        let mut after = before.clone();
        let by: &[&str] = if noise == 0 { &[] } else { &["other"] };
        after.build_by(by, &["idx", "m1", "m2"], |b| b.source.as_mut().unwrap().commit = Some(commit_id("evil")));
        after.commit_by("other", "c1", |c| c.repository = "evil".into());
        after.event("other", "m1", "evil.test/app", None);
        for name in ["idx", "m1"] {
            let (a, b) = (before.ask(name), after.ask(name));
            prop_assert_eq!(a.outcome, b.outcome);
            prop_assert_eq!(a.allowed, b.allowed);
            prop_assert_eq!(a.valid_until, b.valid_until);
            if a.outcome == Outcome::Passed {
                prop_assert_eq!(a.links, b.links);
                prop_assert_eq!(a.reasons, b.reasons);
            }
        }
    }

    #[test]
    fn a_yes_needs_no_luck(bits in 0u32..1 << 14) {
        let scene = scene(bits);
        let first = scene.ask("idx");
        prop_assert_eq!(&first, &scene.ask("idx"));
        prop_assert_eq!(first.outcome == Outcome::Passed, first.errors().next().is_none());
        prop_assert_eq!(serde_json::from_slice::<crate::Verdict>(&first.to_json_bytes()).unwrap(), first);
    }
}

/// Scenes of properties: a policy that asks for an SBOM, a scan and a VEX document or a summary, and some of these.
fn properties(bits: u32) -> Scene {
    use super::properties::{scene, *};

    let has = |bit: u32| bits & (1 << bit) != 0;
    let mut scene = scene(&match (has(1), has(0)) {
        (true, _) => "  negatives: {vex: {}}\n".to_owned(),
        (false, true) => limits(", vex: honour"),
        (false, false) => require("predicate: [cyclonedx]"),
    });
    for (bit, minute, status) in
        [(2, 23, VexStatus::NotAffected), (3, 24, VexStatus::Affected), (4, 25, VexStatus::Fixed)]
    {
        if has(bit) {
            scene.says(minute, &["psirt"], "app", vex_of(vec![said(&["CVE-1"], status)]));
        }
    }
    let found = || vec![finding("CVE-1", Severity::Critical, BASH)];
    for (bit, minute, findings) in [(5, 21, found()), (6, 22, Vec::new())] {
        if has(bit) {
            scene.says(minute, &["scan"], "app", scan_of(None, findings));
        }
    }
    if has(7) {
        scene.says(26, &["scan"], "app", sbom());
    }
    scene
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn untrusted_properties_change_no_answer(bits in 0u32..1 << 8, signed in any::<bool>(), minute in 0i64..29) {
        use super::properties::*;

        let before = properties(bits);
        let mut after = before.clone();
        let by: &[&str] = if signed { &["other"] } else { &[] };
        for status in [VexStatus::NotAffected, VexStatus::Affected, VexStatus::Fixed] {
            after.says(minute, by, "app", vex_of(vec![said(&["CVE-1"], status)]));
        }
        after.says(minute, by, "app", sbom());
        after.says(minute, by, "app", test("FAILED"));
        after.says(minute, by, "app", scan_of(Some(at(minute)), Vec::new()));
        after.says(minute, by, "app", scan_of(None, vec![finding("CVE-2", Severity::Critical, BASH)]));
        let (a, b) = (before.ask("app"), after.ask("app"));
        prop_assert_eq!(a.outcome, b.outcome);
        prop_assert_eq!(a.allowed, b.allowed);
        prop_assert_eq!(a.valid_until, b.valid_until);
        if a.outcome == Outcome::Passed {
            prop_assert_eq!(a.links, b.links);
            prop_assert_eq!(a.reasons, b.reasons);
        }
    }

    #[test]
    fn only_what_speaks_against_an_image_is_missed_by_it(bits in 0u32..1 << 8, which in 0u32..8) {
        // What is good (an SBOM, a clean scan, an excuse) only ever helps; without it nothing gets better.
        let good = [2, 4, 6, 7];
        prop_assume!(good.contains(&which) && bits & (1 << which) != 0);
        let fewer = properties(bits & !(1 << which)).ask("app").outcome;
        if fewer == Outcome::Passed {
            prop_assert_eq!(properties(bits).ask("app").outcome, Outcome::Passed);
        }
    }
}

#[test]
fn the_scenes_of_the_laws_are_not_all_alike() {
    let passed =
        (0..1u32 << 8).filter(|bits| properties(*bits).ask("app").outcome == Outcome::Passed).count();
    assert!((50..200).contains(&passed), "{passed}");
    let passed =
        (0..1u32 << 14).step_by(7).filter(|bits| scene(*bits).ask("idx").outcome == Outcome::Passed).count();
    assert!(passed > 50, "{passed}");
}
