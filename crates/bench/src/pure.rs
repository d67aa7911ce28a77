//! The pure crates alone: `cargo run --release -p bench -- pure`.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use catenary_evidence::{
    PublicKey, Trust, attestation, dsse,
    trust_root::{Domain, Rules},
};
use catenary_testkit::{Key, World};
use serde_json::json;

use crate::evaluate;

#[path = "../../evidence/tests/evidence/hostile.rs"]
mod hostile;

/// How often the two sides of a ratio take turns, and for how long each time: whatever else runs on the machine slows both.
const TURNS: usize = 20;
const TURN: Duration = Duration::from_millis(100);

/// Runs every case and prints it.
pub fn run() -> Result<()> {
    let cases = [verify()?, keyless()?, append()?, evaluate::ordinary()?, slowest()];
    println!("{:#}", json!({"cases": cases}));
    Ok(())
}

/// Ingest's own work per envelope, against the signature check and one parse that it cannot do without.
fn verify() -> Result<serde_json::Value> {
    let world = World::golden(1, catenary_testkit::time::NOON);
    let envelope = world.build_envelope().to_bytes();
    let key: &Key = &world.k_ci;
    let public = PublicKey::from_pem(&key.public_pem(), None)?;
    let mut ring = Trust::default();
    ring.insert_key(public.clone());
    ensure!(attestation::verify(&envelope, &ring)?.is_verified(), "the golden envelope does not verify");
    let parsed = dsse::Envelope::parse(&envelope)?;
    let message = parsed.message();
    let signature = &parsed.signatures[0].bytes;

    let own = || black_box(attestation::verify(black_box(&envelope), &ring)).is_ok();
    let ceiling = || {
        // One parse of what was sent: the envelope, and the statement inside it.
        let read = [&envelope, &parsed.payload]
            .map(|text| serde_json::from_slice::<serde_json::Value>(black_box(text)).is_ok());
        read == [true, true] && black_box(public.verify(black_box(&message), signature))
    };
    let rates = in_turn(own, ceiling);
    Ok(case(
        "verify one DSSE envelope, P-256",
        rates,
        "the bare signature check, and one parse of envelope and statement",
    ))
}

/// A keyless bundle (v0.3, Rekor v1) from bytes to facts, against the library's verification of the parsed bundle.
fn keyless() -> Result<serde_json::Value> {
    use catenary_testkit::authority::{Authority, Claims};
    use sigstore_verify::{VerificationPolicy, Verifier, trust_root::TrustedRoot, types};
    let authority = Authority::new("bench");
    let claims =
        Claims::github("acme/app", ".github/workflows/release.yml", "refs/heads/main", &"a".repeat(40));
    let leaf = authority.leaf(&claims).issue();
    let digest = catenary_testkit::sha256_hex(b"the image");
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://acme.test/note/v1", "predicate": {},
        "subject": [{"name": "image", "digest": {"sha256": digest}}]
    });
    let bundle = authority.attest(&leaf, &statement.to_string()).to_json();
    let root = authority.trusted_root().to_json();
    let mut trust = Trust::none();
    trust.insert_domain(Arc::new(Domain::read("bench", root.as_bytes(), Rules::default())?));
    ensure!(attestation::verify(bundle.as_bytes(), &trust)?.is_verified(), "the bundle does not verify");
    let verifier = Verifier::new(&TrustedRoot::from_json(&root)?)?;
    let parsed = types::Bundle::from_json(&bundle)?;
    let artifact = types::Sha256Hash::from_hex(&digest)?;
    let policy = VerificationPolicy::any_identity();
    let own = || black_box(attestation::verify(black_box(bundle.as_bytes()), &trust)).is_ok();
    let ceiling = || black_box(verifier.verify(artifact, black_box(&parsed), &policy)).is_ok();
    let rates = in_turn(own, ceiling);
    Ok(case("verify one keyless bundle, v0.3", rates, "the library's verification of the parsed bundle"))
}

/// The input that takes longest of those that are made to take long, against what one input may take.
fn slowest() -> serde_json::Value {
    const WANTED: Duration = Duration::from_millis(50);
    let trust = Trust::none();
    let took = |input: &hostile::Hostile| {
        let start = Instant::now();
        match input.object {
            Some(kind) => drop(black_box(catenary_evidence::object::read(kind, &input.bytes, &trust, None))),
            None => {
                for item in attestation::detect(&input.bytes).unwrap_or_default() {
                    drop(black_box(attestation::verify(item, &trust)));
                }
            }
        }
        start.elapsed()
    };
    // The best of three: what else runs on the machine is not the input's doing.
    let best = |input: &hostile::Hostile| (0..3).map(|_| took(input)).min().unwrap_or_default();
    let mut all: Vec<(Duration, &str)> =
        hostile::inputs().iter().map(|input| (best(input), input.name)).collect();
    all.sort();
    let (slowest, name) = all.last().copied().unwrap_or_default();
    let over: Vec<&str> = all.iter().filter(|(time, _)| *time > WANTED).map(|(_, name)| *name).collect();
    json!({
        "case": "the slowest of the hostile inputs", "input": name, "milliseconds": slowest.as_millis(),
        "wanted_milliseconds": WANTED.as_millis(), "over": over,
    })
}

/// Appending a leaf to the right edge, against hashing the leaf and one inner node (the amortised cost).
fn append() -> Result<serde_json::Value> {
    let leaf = [7_u8; 300];
    let mut frontier = catenary_tlog::Frontier::new();
    let one = catenary_tlog::leaf_hash(&leaf);
    let own = || frontier.push(catenary_tlog::leaf_hash(black_box(&leaf))) < u64::MAX;
    let ceiling = || catenary_tlog::node_hash(catenary_tlog::leaf_hash(black_box(&leaf)), one) != one;
    Ok(case("append one leaf", in_turn(own, ceiling), "one leaf hash and one node hash"))
}

/// The rates a second of the work and of its ceiling, one after the other again and again: the medians. Every call must succeed.
pub fn in_turn(mut own: impl FnMut() -> bool, mut ceiling: impl FnMut() -> bool) -> (f64, f64) {
    let (mut rates, mut against) = ([0.0; TURNS], [0.0; TURNS]);
    for (rate, its_rate) in rates.iter_mut().zip(&mut against) {
        (*rate, *its_rate) = (per_second(&mut own), per_second(&mut ceiling));
    }
    let median = |mut all: [f64; TURNS]| {
        all.sort_by(f64::total_cmp);
        all[TURNS / 2]
    };
    (median(rates), median(against))
}

/// Of one turn.
fn per_second(mut work: impl FnMut() -> bool) -> f64 {
    let start = Instant::now();
    let mut done = 0_u64;
    while start.elapsed() < TURN {
        for _ in 0..16 {
            assert!(work(), "a benchmark's work failed");
        }
        done += 16;
    }
    f64::from(u32::try_from(done).unwrap_or(u32::MAX)) / start.elapsed().as_secs_f64()
}

pub fn case(name: &str, (rate, ceiling): (f64, f64), what: &str) -> serde_json::Value {
    json!({"case": name, "rate": rate.round(), "ceiling": what, "ceiling_rate": ceiling.round(), "ratio": (rate / ceiling * 100.0).round() / 100.0})
}
