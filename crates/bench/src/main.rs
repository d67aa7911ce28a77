//! Benchmarks of the pure crates, each as a ratio to a ceiling measured in the same run:
//! `cargo run --release -p bench`. The service's own (ingest, verdict, overload) come with the speed work.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use catenary_evidence::{PublicKey, Trust, attestation, dsse};
use catenary_testkit::{Key, World};
use serde_json::json;

/// How long each side of a ratio runs.
const WINDOW: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let cases = [verify()?, append()?];
    println!("{:#}", json!({"cases": cases}));
    Ok(())
}

/// Ingest's own work per envelope, against the bare signature check that it cannot do without.
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

    let rate = per_second(|| black_box(attestation::verify(black_box(&envelope), &ring)).is_ok());
    let ceiling = per_second(|| black_box(public.verify(black_box(&message), signature)));
    Ok(case("verify one DSSE envelope, P-256", rate, ceiling, "the bare signature check"))
}

/// Appending a leaf to the right edge, against hashing the leaf and one inner node (the amortised cost).
fn append() -> Result<serde_json::Value> {
    let leaf = [7_u8; 300];
    let mut frontier = catenary_tlog::Frontier::new();
    let rate = per_second(|| frontier.push(catenary_tlog::leaf_hash(black_box(&leaf))) < u64::MAX);
    let one = catenary_tlog::leaf_hash(&leaf);
    let ceiling =
        per_second(|| catenary_tlog::node_hash(catenary_tlog::leaf_hash(black_box(&leaf)), one) != one);
    Ok(case("append one leaf", rate, ceiling, "one leaf hash and one node hash"))
}

/// Runs `work` for one window; every call must succeed.
fn per_second(mut work: impl FnMut() -> bool) -> f64 {
    let start = Instant::now();
    let mut done = 0_u64;
    while start.elapsed() < WINDOW {
        for _ in 0..64 {
            assert!(work(), "a benchmark's work failed");
        }
        done += 64;
    }
    f64::from(u32::try_from(done).unwrap_or(u32::MAX)) / start.elapsed().as_secs_f64()
}

fn case(name: &str, rate: f64, ceiling: f64, what: &str) -> serde_json::Value {
    json!({"case": name, "rate": rate.round(), "ceiling": what, "ceiling_rate": ceiling.round(), "ratio": (rate / ceiling * 100.0).round() / 100.0})
}
