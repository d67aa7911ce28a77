//! The laws of the chain (design 4, docs/rules.md 8), on the worlds of the oracle.

use catenary_chain::{Outcome, Verdict, control::WriteSet};

use super::{
    generator::{self, K_STRANGER, NOW},
    render,
    rng::Rng,
    world::{Claim, Node, Statement, World},
};

const SEEDS: std::ops::Range<u64> = 100_000..101_500;

/// The verdict on everything.
fn judge(world: &World) -> Verdict {
    let question = render::question(world);
    render::verdict(&question, &render::control(world), &render::evidence(world), world.now)
}

/// What no untrusted item may change.
fn essence(v: &Verdict) -> (Outcome, bool, String, String, jiff::Timestamp) {
    let links =
        if v.outcome == Outcome::Passed { serde_json::to_string(&v.links).unwrap() } else { String::new() };
    (v.outcome, v.allowed, v.mode.clone(), links, v.valid_until)
}

/// Codes of trusted statements that speak against the image: removing what causes them may mend a chain.
const AMBIGUITY: &[&str] =
    &["SRC_AMBIGUOUS", "BLD_CONFLICT", "PRP_FAILED", "VSA_FAILED", "VSA_LEVEL_TOO_LOW"];

fn untrusted(s: &Statement) -> bool {
    // No policy of these worlds that decides names the stranger, but for rules added by a mutation.
    s.signers.is_empty() && s.certificates.is_empty()
}

/// Changes `world`, shown when the law does not hold.
fn same(world: &World, changed: &World, law: &str) {
    let (before, after) = (judge(world), judge(changed));
    assert_eq!(essence(&before), essence(&after), "{law}: seed {} {:?}", world.seed, world.story);
}

#[test]
fn removing_an_untrusted_item_changes_nothing() {
    let mut removed = 0;
    for seed in SEEDS {
        let world = generator::world(seed);
        for (at, _) in world.statements.iter().enumerate().filter(|(_, s)| untrusted(s) && !s.damaged) {
            let mut without = world.clone();
            without.statements.remove(at);
            same(&world, &without, "an unverified statement was removed");
            removed += 1;
        }
    }
    assert!(removed > 40, "only {removed} were removed");
}

#[test]
fn adding_untrusted_evidence_changes_only_near_misses() {
    for seed in SEEDS {
        let world = generator::world(seed);
        let stranger_is_named =
            world.story.iter().any(|s| s.contains("two builders") || s.contains("more builder"));
        let mut rng = Rng::new(seed ^ 0xADD);
        let mut noisy = world.clone();
        for _ in 0..rng.pick(&[1, 2, 22]) {
            if world.statements.is_empty() {
                continue;
            }
            let mut noise = world.statements[rng.below(world.statements.len())].clone();
            noise.id = noisy.statements.iter().map(|s| s.id + 1).max().unwrap_or(1);
            noise.payload = 5_000 + noise.id;
            noise.damaged = false;
            noise.signers = if stranger_is_named || rng.chance(50) { vec![] } else { vec![K_STRANGER] };
            match &mut noise.claim {
                // The stranger says the worst and the best that can be said.
                Claim::Build(b) if rng.chance(50) => {
                    if let Some(source) = &mut b.source {
                        source.commit = Some(9);
                    }
                }
                Claim::Event(e) if rng.chance(50) => e.resource.clone_from(&world.ask.resource),
                _ => {}
            }
            // Certificates for which nobody trusted vouches, sometimes on a copy of a good statement.
            if rng.chance(50) {
                noise.certificates.clear();
            }
            for certificate in &mut noise.certificates {
                certificate.vouched = false;
                certificate.proven =
                    rng.pick(&[None, Some(certificate.after - 60), Some(noise.received + 1)]);
            }
            let said = |s: &Statement| format!("{:?}{:?}", s.subjects, s.claim);
            let copied = world.statements.iter().find(|s| said(s) == said(&noise));
            if let Some(original) = copied.filter(|_| noise.signers.is_empty()) {
                noise.payload = original.payload;
            }
            noisy.statements.push(noise);
        }
        let names_stranger = |id: &str| world.policies.iter().any(|p| p.builders.iter().any(|r| r.id == id));
        if names_stranger("third") {
            continue;
        }
        same(&world, &noisy, "untrusted statements were added");
    }
}

#[test]
fn removing_evidence_never_turns_failed_into_passed() {
    let mut failed = 0;
    for seed in SEEDS {
        let world = generator::world(seed);
        let before = judge(&world);
        let ambiguous = render::errors(&before).iter().any(|code| AMBIGUITY.contains(code));
        if before.outcome == Outcome::Passed || ambiguous {
            continue;
        }
        failed += 1;
        for at in 0..world.statements.len() {
            let mut without = world.clone();
            // An earlier copy of a payload decides when it was signed; the copies go together.
            let payload = without.statements[at].payload;
            without.statements.retain(|s| s.payload != payload);
            let after = judge(&without);
            assert_ne!(
                after.outcome,
                Outcome::Passed,
                "seed {seed} {:?}: PASSED without statement {}",
                world.story,
                world.statements[at].id
            );
        }
    }
    assert!(failed > 100, "only {failed} worlds failed");
}

#[test]
fn gathering_finds_all_that_an_evaluation_needs() {
    for seed in SEEDS {
        let world = generator::world(seed);
        let (question, control) = (render::question(&world), render::control(&world));
        let all = render::evidence(&world);
        let (gathered, _) = render::gather(&question, &control, &all);
        let full = render::verdict(&question, &control, &all, world.now);
        let mut part = render::verdict(&question, &control, &gathered, world.now);
        let strip = |v: &mut Verdict| v.reasons.retain(|r| r.code.as_str() != "SYS_INTEGRITY_VIOLATION");
        let mut full = full;
        if world.statements.iter().any(|s| s.damaged) {
            // A store names only the damaged rows that it was asked for.
            strip(&mut full);
            strip(&mut part);
            assert_eq!(
                super::render::errors(&full),
                super::render::errors(&part),
                "seed {seed} {:?}",
                world.story
            );
            assert_eq!(essence(&full), essence(&part), "seed {seed} {:?}", world.story);
            continue;
        }
        if all.attestations.len() > 20 {
            // Of many near misses the store serves the first ones of each node.
            assert_eq!(essence(&full), essence(&part), "seed {seed} {:?}", world.story);
            // How many strangers there are is told in a message, and nowhere else.
            let told = |v: &Verdict| -> Vec<_> {
                v.reasons.iter().map(|r| (r.code, r.severity, r.node.clone(), r.expected.clone())).collect()
            };
            assert_eq!(told(&full), told(&part), "seed {seed} {:?}", world.story);
            continue;
        }
        assert_eq!(full, part, "seed {seed} {:?}", world.story);
    }
}

#[test]
fn what_does_not_meet_the_read_set_does_not_change_the_verdict() {
    let mut unmet = 0;
    for seed in SEEDS {
        let world = generator::world(seed);
        let (question, control) = (render::question(&world), render::control(&world));
        let (_, read) = render::gather(&question, &control, &render::evidence(&world));
        let before = judge(&world);
        // Every statement and object of another world is a later entry of this one.
        let other = generator::world(seed + 7_000_000);
        for (at, statement) in other.statements.iter().enumerate() {
            let mut s = statement.clone();
            s.id = 9_000 + at as u32;
            s.payload = 9_000 + at as u32;
            s.received = NOW - 1;
            s.damaged = false;
            let nodes: Vec<_> = s.subjects.iter().flatten().map(|n| render::node(*n)).collect();
            if read.intersects(&WriteSet::Nodes(nodes)) {
                continue;
            }
            let mut later = world.clone();
            later.statements.push(s);
            assert_eq!(
                before,
                judge(&later),
                "seed {seed} {:?}: statement of seed {}",
                world.story,
                other.seed
            );
            unmet += 1;
        }
        for o in &other.objects {
            let mut nodes = vec![render::node(o.node)];
            if let super::world::Body::Index { children, .. } = &o.body {
                nodes.extend(children.iter().map(|c| render::node(Node::Content(c.digest))));
            }
            if world.object(o.node).is_some() || read.intersects(&WriteSet::Nodes(nodes)) {
                continue;
            }
            let mut later = world.clone();
            later.objects.push(o.clone());
            assert_eq!(before, judge(&later), "seed {seed} {:?}: object of seed {}", world.story, other.seed);
            unmet += 1;
        }
    }
    assert!(unmet > 500, "only {unmet} entries did not meet a read set");
}
