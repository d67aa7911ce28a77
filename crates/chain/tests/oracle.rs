//! The evaluator against a brute-force oracle that shares no code with it, on seeded worlds.
//!
//! `ORACLE_SEED=123 cargo test -p catenary-chain --test oracle one_world -- --nocapture` shows one world.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "the seed and the number of worlds come from the environment")]

#[path = "oracle/decide.rs"]
mod decide;
#[path = "oracle/decide_more.rs"]
mod decide_more;
#[path = "oracle/faulty.rs"]
#[cfg(feature = "faults")]
mod faulty;
#[path = "oracle/generator.rs"]
mod generator;
#[path = "oracle/generator_more.rs"]
mod generator_more;
#[path = "oracle/laws.rs"]
mod laws;
#[path = "oracle/mutate.rs"]
mod mutate;
#[path = "oracle/render.rs"]
mod render;
#[path = "oracle/rng.rs"]
mod rng;
#[path = "oracle/world.rs"]
mod world;
#[path = "oracle/world_more.rs"]
mod world_more;

use std::collections::{BTreeMap, BTreeSet};

use catenary_chain::{Code, Verdict, reason::Severity};
use decide::{Answer, Oracle};
use world::World;

/// How many worlds an ordinary run compares.
const WORLDS: u64 = 20_000;

/// Codes that are declared and that no evaluation of a world here can produce, each with its reason.
const UNREACHABLE: &[(&str, &str)] = &[
    ("LAY_MISSING", NO_LAYOUTS),
    ("LAY_SIGNER_NOT_TRUSTED", NO_LAYOUTS),
    ("LAY_EXPIRED", NO_LAYOUTS),
    ("LAY_STEP_MISSING", NO_LAYOUTS),
    ("LAY_FUNCTIONARY", NO_LAYOUTS),
    ("LAY_FUNCTIONARY_UNKNOWN", NO_LAYOUTS),
    ("LAY_THRESHOLD", NO_LAYOUTS),
    ("LAY_RULE", NO_LAYOUTS),
    ("LAY_OTHER_PRODUCT", NO_LAYOUTS),
    ("ATT_SUBJECT_MISMATCH", FEW_LAYERS),
    ("ATT_TRUSTROOT_STALE", NOT_ASKED),
    ("BLD_BUILDER_REF_MUTABLE", NOT_ASKED),
    ("DEP_LEVEL_TOO_LOW", NOT_ASKED),
    ("REG_TAG_MOVED", NOT_ASKED),
    ("REG_DELETED", NOT_ASKED),
    ("ATT_REVOKED", KEYS_ONLY),
    ("ART_DENIED", KEYS_ONLY),
    ("SRC_REVOKED", KEYS_ONLY),
    ("POL_EVAL_ERROR", NO_EXPRESSIONS),
    ("POL_DENIED", NO_EXPRESSIONS),
    ("BLD_RUN_FAILED", NOT_ASKED),
    ("BLD_RUN_UNKNOWN", NOT_ASKED),
    ("BLD_NOT_HERMETIC", NOT_ASKED),
    ("BLD_INCOMPLETE_DEPS", NOT_ASKED),
    ("BLD_INCOMPLETE_PARAMS", NOT_ASKED),
    ("SRC_NOT_REACHABLE", NOT_ASKED),
    ("SRC_CONTINUITY_GAP", NOT_ASKED),
    ("SRC_TAG_UNSIGNED", NOT_ASKED),
    ("SRC_TAG_MOVED", NOT_ASKED),
    ("SRC_SHA1_ONLY", NOT_ASKED),
    ("BLD_REBUILD_MISMATCH", NOT_ASKED),
    ("ATT_TLOG_MISSING", NOT_ASKED),
    ("ATT_WITNESS_QUORUM", NOT_ASKED),
    ("ATT_TIMESTAMP_MISSING", NOT_ASKED),
    ("DEP_BASE_STALE", NO_DELEGATION),
    ("PRP_VULN_THRESHOLD", NO_PROPERTIES),
    ("PRP_VEX_AFFECTED", NO_PROPERTIES),
    ("EXC_APPLIED", NO_EXCEPTIONS),
    ("EXC_EXPIRED", NO_EXCEPTIONS),
];

const NO_EXCEPTIONS: &str =
    "nobody asks for exceptions in these worlds; evaluate/tests/exceptions.rs judges them";

const NO_PROPERTIES: &str = "these worlds have no scans and no VEX; evaluate/tests/properties.rs judges them";

const NO_DELEGATION: &str = "in these worlds inputs have no age; evaluate/tests/summaries.rs judges that";

const KEYS_ONLY: &str =
    "in these worlds only keys are revoked; evaluate/tests/revocations.rs judges the rest";

const NO_EXPRESSIONS: &str = "these policies have no expressions; evaluate/tests/expressions.rs judges them";

const NOT_ASKED: &str =
    "these policies do not ask for it; evaluate/tests/{builds,history,strangers}.rs judge it";

const FEW_LAYERS: &str =
    "hardly anybody attests layers in these worlds; evaluate/tests/strangers.rs judges that";

const NO_LAYOUTS: &str = "these worlds have no in-toto layouts; evaluate/tests/layouts.rs judges them";

fn outcome(verdict: &Verdict) -> String {
    serde_json::to_value(verdict.outcome).unwrap().as_str().unwrap().to_owned()
}

/// Compares the two; `Err` says how they differ.
fn compare(world: &World) -> Result<Verdict, String> {
    let expected = Oracle::new(world).answer();
    let (question, control) = (render::question(world), render::control(world));
    let verdict = render::verdict(&question, &control, &render::evidence(world), world.now);
    let actual = (outcome(&verdict), verdict.allowed, render::errors(&verdict));
    let Answer { outcome, allowed, errors } = expected;
    // Once a budget is spent, how much else was looked at is not part of the answer.
    let spent = "SYS_LIMIT_EXCEEDED";
    let only_spent = errors.contains(spent) && actual.2.contains(spent);
    if only_spent && (actual.0.as_str(), actual.1) == (outcome, allowed) {
        return Ok(verdict);
    }
    if actual == (outcome.to_owned(), allowed, errors.clone()) {
        return Ok(verdict);
    }
    let (missing, extra): (Vec<_>, Vec<_>) =
        (errors.difference(&actual.2).collect(), actual.2.difference(&errors).collect());
    Err(format!(
        "seed {} {:?}\n  oracle    {outcome} allowed={allowed} {errors:?}\n  evaluator {} allowed={} {:?}\n  only the oracle: {missing:?}; only the evaluator: {extra:?}",
        world.seed, world.story, actual.0, actual.1, actual.2,
    ))
}

/// Counts codes of all reasons and near misses, once a world.
#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<String, u64>,
    codes: BTreeMap<&'static str, u64>,
    disagreements: Vec<String>,
}

impl Tally {
    fn run(seeds: impl Iterator<Item = u64>) -> Self {
        let mut tally = Self::default();
        for seed in seeds {
            let world = generator::world(seed);
            match compare(&world) {
                Ok(verdict) => tally.add(&verdict),
                Err(difference) => tally.disagreements.push(difference),
            }
        }
        tally
    }

    fn add(&mut self, verdict: &Verdict) {
        *self.outcomes.entry(outcome(verdict)).or_default() += 1;
        let reasons = verdict.reasons.iter().map(|r| r.code);
        let codes: BTreeSet<Code> = reasons.chain(verdict.near_misses.iter().map(|n| n.why)).collect();
        for code in codes {
            *self.codes.entry(code.as_str()).or_default() += 1;
        }
    }

    fn merge(&mut self, other: Self) {
        for (k, n) in other.outcomes {
            *self.outcomes.entry(k).or_default() += n;
        }
        for (k, n) in other.codes {
            *self.codes.entry(k).or_default() += n;
        }
        self.disagreements.extend(other.disagreements);
    }
}

/// Runs `of` worlds on both cores.
fn tally(of: u64) -> Tally {
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            (0..2).map(|part| scope.spawn(move || Tally::run((part..of).step_by(2)))).collect();
        for part in parts {
            tally.merge(part.join().expect("a part panicked"));
        }
    });
    tally
}

#[test]
fn the_evaluator_and_the_oracle_agree_on_every_world() {
    let worlds = std::env::var("ORACLE_WORLDS").ok().and_then(|n| n.parse().ok()).unwrap_or(WORLDS);
    let tally = tally(worlds);
    println!("{:?} of {worlds} worlds", tally.outcomes);
    for code in Code::all() {
        println!("{:28} {}", code.as_str(), tally.codes.get(code.as_str()).unwrap_or(&0));
    }
    let shown: Vec<&str> = tally.disagreements.iter().take(20).map(String::as_str).collect();
    assert!(shown.is_empty(), "{} disagreements:\n{}", tally.disagreements.len(), shown.join("\n"));
    let passed = tally.outcomes.get("PASSED").copied().unwrap_or(0) * 100 / worlds;
    assert!((30..=70).contains(&passed), "{passed} % PASSED");
    for code in Code::all().iter().map(|c| c.as_str()) {
        let reached = tally.codes.get(code).copied().unwrap_or(0);
        let excused = UNREACHABLE.iter().any(|(c, _)| *c == code);
        assert_eq!(reached < 50, excused, "{code} was reached {reached} times");
    }
}

/// What the oracle alone says of the worlds: for work on the generator.
#[test]
#[ignore = "prints statistics only"]
fn the_oracle_alone() {
    let (mut outcomes, mut codes): (BTreeMap<_, u64>, BTreeMap<_, u64>) = Default::default();
    let mut stories: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for seed in 0..4_000 {
        let world = generator::world(seed);
        let _ = (render::question(&world), render::control(&world), render::evidence(&world));
        let answer = Oracle::new(&world).answer();
        *outcomes.entry(answer.outcome).or_default() += 1;
        for code in answer.errors {
            *codes.entry(code).or_default() += 1;
        }
        for part in &world.story {
            let (all, passed) = stories.entry(*part).or_default();
            *all += 1;
            *passed += u64::from(answer.outcome == "PASSED");
        }
    }
    println!("{outcomes:?}\n{codes:#?}\n{stories:#?}");
}

#[test]
fn one_world() {
    let Some(seed) = std::env::var("ORACLE_SEED").ok().and_then(|s| s.parse().ok()) else { return };
    let world = generator::world(seed);
    println!("{world:#?}");
    let question = render::question(&world);
    let verdict = render::verdict(&question, &render::control(&world), &render::evidence(&world), world.now);
    for reason in &verdict.reasons {
        let mark = if reason.severity == Severity::Error { "error" } else { "warning" };
        println!("{mark} {} {}: {}", reason.code, reason.node, reason.message);
    }
    if let Err(difference) = compare(&world) {
        panic!("{difference}");
    }
}
