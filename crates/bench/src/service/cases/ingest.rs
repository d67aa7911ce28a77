//! Ingest over HTTP: durable and in the log when it is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, available_parallelism},
    time::{Duration, Instant},
};

use acceptance::cluster;
use anyhow::{Result, ensure};
use catenary_evidence::{Trust, attestation, digest::Sha256};
use catenary_store::{New, Store, StoreOptions, keys::ServiceKeys};
use catenary_testkit::{
    Statement, Subject,
    authority::{Authority, Claims},
    world::{RESOURCE, Signers},
};
use serde_json::json;

use super::Bench;
use crate::service::{
    client::{Drive, Requests, Sample, drive, post},
    data,
    report::{Case, Figures},
    stage::{AUTHORITY, Stage},
    usage,
};

/// As many as the service lets in at a time: fewer leave a processor idle now and then, which the ceiling never does.
const CONNECTIONS: usize = 128;
/// Items of a list, and connections that send lists.
const LIST: usize = 16;
const LISTS: usize = 16;
const WINDOW: Duration = Duration::from_secs(6);
/// Envelopes that are signed beforehand.
const SIGNED: u64 = 24_000;

/// Numbers of releases that no data set has, and that no other call gave out.
fn unused(n: u64) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let run = acceptance::now().unsigned_abs() << 24;
    run + NEXT.fetch_add(n, Ordering::Relaxed)
}

/// Provenance of releases that nobody has seen.
fn provenance(n: u64) -> Vec<Vec<u8>> {
    let (signers, first, now) = (Signers::of(0), unused(n), acceptance::now());
    in_parallel(n, |k| data::release(&signers, first + k, now).envelopes[0].to_bytes())
}

/// `work` for each number below `n`, on every core, in order.
fn in_parallel<T: Send>(n: u64, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let cores = available_parallelism().map_or(1, |cores| cores.get() as u64);
    let share = n.div_ceil(cores);
    thread::scope(|scope| {
        let work = &work;
        let part =
            |core: u64| scope.spawn(move || (core * share..((core + 1) * share).min(n)).map(work).collect());
        let parts: Vec<thread::ScopedJoinHandle<'_, Vec<T>>> = (0..cores).map(part).collect();
        parts.into_iter().flat_map(|part| part.join().expect("no panic")).collect()
    })
}

/// How many a second every core together verifies.
fn verify_rate(items: &[Vec<u8>], trust: &Trust) -> f64 {
    let begun = Instant::now();
    let verified = in_parallel(items.len() as u64, |k| {
        attestation::verify(&items[k as usize], trust).is_ok_and(|facts| facts.is_verified())
    });
    assert!(verified.into_iter().all(|verified| verified), "an envelope does not verify");
    items.len() as f64 / begun.elapsed().as_secs_f64()
}

fn requests(token: &str, bodies: impl Iterator<Item = Vec<u8>>) -> Requests {
    let posts: Vec<Vec<u8>> = bodies.map(|bytes| post("/v1/attestations", Some(token), &bytes)).collect();
    Arc::new(move |n| posts.get(n as usize).cloned())
}

/// One item a request.
async fn ingest(stage: &Stage, items: Vec<Vec<u8>>) -> Result<Figures> {
    let how = Drive { port: stage.port(), connections: CONNECTIONS, window: WINDOW, expected: &[201] };
    Ok(send(stage, how, requests(&stage.token, items.into_iter()), 1).await?.0)
}

/// JSON Lines, as a job sends all that a build left at once.
async fn ingest_lists(stage: &Stage, items: Vec<Vec<u8>>) -> Result<Figures> {
    let how = Drive { port: stage.port(), connections: LISTS, window: WINDOW, expected: &[200] };
    let since = newest(stage).await;
    let bodies = items.chunks_exact(LIST).map(|list| list.join(&b'\n'));
    let (figures, answered) = send(stage, how, requests(&stage.token, bodies), LIST).await?;
    // A list is answered 200 whatever became of its items.
    let entries = written(stage, since).await.0;
    ensure!(entries as usize == answered, "{entries} of {answered} items are in the log");
    Ok(figures)
}

/// Drives requests of `list` items each. Rates and costs are of items; how many were answered.
async fn send(stage: &Stage, how: Drive, requests: Requests, list: usize) -> Result<(Figures, usize)> {
    let cpu = || usage::cpu(&[&[stage.app.process.pid][..], &stage.backends()].concat());
    let before = cpu();
    let sample: Sample = drive(how, requests).await?;
    ensure!(sample.odd.0 == 0, "{} answers of status {:?}", sample.odd.0, sample.odd.1);
    let mut figures = Figures::of(&sample);
    figures.rate *= list as f64;
    figures.cpu = Some(cpu().saturating_sub(before) as f64 / (sample.answers() * list) as f64);
    figures.rss = Some(stage.app.process.resident());
    Ok((figures, sample.answers() * list))
}

/// Plain DSSE, against verifying and inserting alone, one after the other.
pub async fn plain(bench: &Bench) -> Result<Vec<Case>> {
    let stage = &bench.large;
    let (mark, trust) = (0.5, data::trust(&Signers::of(0))?);
    let since = newest(stage).await;
    let own = ingest(stage, provenance(SIGNED)).await?;
    let (entries, batches) = written(stage, since).await;
    let batch = (entries / batches.max(1)).max(1) as usize;
    let items = provenance(4_000);
    let verify = verify_rate(&items, &trust);
    let insert = insert_rate(stage, &items, &trust, batch).await?;
    let ceiling = 1.0 / (1.0 / verify + 1.0 / insert);
    let case = Case::rate(
        "ingest plain DSSE",
        own,
        "1/(1/verify + 1/insert of the same rows)",
        Figures::rate(ceiling),
        mark,
    );
    let parts = format!("verify {verify:.0}/s on every core, insert {insert:.0}/s in batches of {batch}");
    Ok(vec![case.also(parts, true)])
}

/// A microsecond that no entry is later than.
async fn newest(stage: &Stage) -> i64 {
    cluster::count(&stage.url, "select max(time_us) from attestation").await
}

/// Attestations since, and the transactions that wrote them: each has a time of its own.
async fn written(stage: &Stage, since: i64) -> (i64, i64) {
    let of = |what: &str| format!("select {what} from attestation where time_us > {since}");
    let entries = cluster::count(&stage.url, &of("count(*)")).await;
    (entries, cluster::count(&stage.url, &of("count(distinct time_us)")).await)
}

/// How many a second are inserted when every row is ready.
async fn insert_rate(stage: &Stage, items: &[Vec<u8>], trust: &Trust, batch: usize) -> Result<f64> {
    let keys = ServiceKeys::open_or_create(&stage.app.data.join("keys"))?;
    let store = Store::open(stage.url.parse()?, keys.seal_keys(), &StoreOptions::default()).await?;
    let keys_at = store.head("default").await?.map_or(0, |head| head.size);
    let new = |bytes: &Vec<u8>| -> Result<New> {
        let facts = Box::new(attestation::verify(bytes, trust)?);
        Ok(New::Attestation { bytes: bytes.clone(), facts, submitter: Sha256::of(b"bench"), keys_at })
    };
    let items = items.iter().map(new).collect::<Result<Vec<_>>>()?;
    let prepared = store.prepare_rows("default", items, batch).await?;
    let begun = Instant::now();
    let inserted = store.insert_rows(&prepared).await?;
    let rate = inserted as f64 / begun.elapsed().as_secs_f64();
    store.close().await;
    Ok(rate)
}

/// The first of several runs, at the rate and the cost of all.
fn mean(runs: Vec<Figures>) -> Figures {
    let of = |figure: fn(&Figures) -> f64| runs.iter().map(figure).sum::<f64>() / runs.len().max(1) as f64;
    let (rate, cpu) = (of(|run| run.rate), of(|run| run.cpu.unwrap_or_default()));
    Figures { rate, cpu: Some(cpu), ..runs.into_iter().next().unwrap_or_default() }
}

/// How the cost grows with the data.
pub async fn growth(bench: &Bench) -> Result<Vec<Case>> {
    const ROUNDS: usize = 3;
    let mut runs: [Vec<Figures>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (stage, runs) in bench.by_size().into_iter().zip(&mut runs) {
            runs.push(ingest(stage, provenance(SIGNED / 4)).await?);
        }
    }
    Ok(vec![Case::grown("ingest growth", bench, runs.map(mean), 1.5)])
}

/// Keyless bundles, against the library's verification alone on every core.
pub async fn keyless(bench: &Bench) -> Result<Vec<Case>> {
    use sigstore_verify::{VerificationPolicy, Verifier, trust_root::TrustedRoot, types};
    const ROUNDS: usize = 3;
    // As many as a window of seconds takes: a shorter run measures how it begins and ends.
    const BUNDLES: u64 = 48_000;
    const SAMPLE: usize = 2_000;
    let stage = &bench.large;
    let authority = Authority::new(AUTHORITY);
    let root = authority.trusted_root().to_json();
    let claims =
        Claims::github("acme/app", ".github/workflows/release.yml", "refs/heads/main", &"a".repeat(40));
    let first = unused(BUNDLES);
    let made = in_parallel(BUNDLES, |k| {
        let digest = Sha256::of(&(first + k).to_be_bytes()).to_hex();
        let statement = Statement::new("https://acme.test/note/v1", json!({"n": first + k}))
            .subject(Subject::image(RESOURCE, &format!("sha256:{digest}")));
        let bundle = authority.attest(&authority.leaf(&claims).issue(), &statement.to_json()).to_json();
        (digest, bundle)
    });
    let verifier = Verifier::new(&TrustedRoot::from_json(&root)?)?;
    let policy = VerificationPolicy::any_identity();
    let library = |sample: &[(String, String)]| {
        let begun = Instant::now();
        let verified = in_parallel(sample.len() as u64, |k| {
            let (digest, bundle) = &sample[k as usize];
            let Ok(parsed) = types::Bundle::from_json(bundle) else { return false };
            let Ok(artifact) = types::Sha256Hash::from_hex(digest) else { return false };
            verifier.verify(artifact, &parsed, &policy).is_ok()
        });
        ensure!(verified.into_iter().all(|verified| verified), "the library refuses a bundle");
        Ok(sample.len() as f64 / begun.elapsed().as_secs_f64())
    };
    // In turns: what else runs on the machine slows all.
    let (mut runs, mut lists, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for part in made.chunks(made.len() / ROUNDS) {
        let sample = &part[..SAMPLE.min(part.len())];
        let mut items: Vec<_> = part.iter().map(|(_, bundle)| bundle.clone().into_bytes()).collect();
        let listed = items.split_off(items.len() / 2);
        rates.push(library(sample)?);
        runs.push(ingest(stage, items).await?);
        rates.push(library(sample)?);
        lists.push(ingest_lists(stage, listed).await?);
        rates.push(library(sample)?);
    }
    let library = rates.iter().sum::<f64>() / rates.len() as f64;
    let case = |name, runs| {
        let against = Figures::rate(library);
        Case::rate(name, mean(runs), "the library's verification on every core", against, 0.65)
    };
    Ok(vec![case("ingest keyless v0.3", runs), case("ingest keyless v0.3, 16 a request", lists)])
}
