//! Releases of an organisation: realistic chains from a seed, verified and appended as the service would.

use std::{fs, path::Path, thread};

use anyhow::{Context as _, Result, ensure};
use catenary_evidence::{PublicKey, Trust, attestation, digest::Sha256, object};
use catenary_store::{New, Store, StoreOptions, keys::ServiceKeys};
use catenary_testkit::{
    Statement, Subject, World,
    dsse::Envelope,
    oci::Blob,
    registry::RegistryEvidence,
    world::{GIT_COMMIT, RESOURCE, Signers},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Attestations of one release: source, build, push, SBOM, test result.
pub const PER_RELEASE: u64 = 5;
/// Base images.
const BASES: u64 = 100;
/// Releases that are appended together.
const CHUNK: u64 = 200;
/// Packages in each SBOM.
const PACKAGES: u64 = 5;

/// One release.
pub struct Release {
    /// `registry/repository@sha256:…`
    pub image: String,
    /// Commit, configs, manifests, index.
    pub objects: Vec<Blob>,
    /// The build's provenance first.
    pub envelopes: Vec<Envelope>,
}

/// Release `n`: every fifth is for two platforms, the others are one manifest.
pub fn release(signers: &Signers, n: u64, now: i64) -> Release {
    let two = n.is_multiple_of(5);
    let platforms: &[&str] = if two { &["linux/amd64", "linux/arm64"] } else { &["linux/amd64"] };
    let mut world = World::release(signers.clone(), n, n % BASES, platforms, now);
    let digest = if two { world.index.digest() } else { world.index.images[0].digest() };
    if !two {
        world.build.subjects = vec![Subject::image(RESOURCE, &digest)];
        world.push.body = RegistryEvidence::push(RESOURCE, &digest, now - 420);
    }
    let mut objects = vec![Blob::new(GIT_COMMIT, world.commit.bytes())];
    let mut indexes = vec![(&world.index, two)];
    if n < BASES {
        indexes.push((&world.base, true));
    }
    for (index, whole) in indexes {
        objects.extend(index.images.iter().flat_map(|image| [image.config(), image.manifest()]));
        if whole {
            objects.push(index.document());
        }
    }
    let said = |kind: &str, predicate: Value| {
        Statement::new(kind, predicate).subject(Subject::image(RESOURCE, &digest)).signed_by(&signers.k_ci)
    };
    let envelopes = vec![
        world.build_envelope(),
        world.source_envelope(),
        world.push_envelope(),
        said("https://cyclonedx.org/bom", sbom(n)),
        said("https://in-toto.io/attestation/test-result/v0.1", tests(n)),
    ];
    Release { image: format!("{RESOURCE}@{digest}"), objects, envelopes }
}

fn sbom(n: u64) -> Value {
    let component = |k: u64| {
        // Some packages are everywhere, most are rare.
        let package = if k == 0 { 0 } else { (n * 31 + k * 7919) % 5000 };
        let version = format!("1.{}.{k}", n % 40);
        json!({"type": "library", "name": format!("package-{package}"), "version": version,
               "purl": format!("pkg:npm/package-{package}@{version}"), "licenses": [{"license": {"id": "MIT"}}]})
    };
    let components: Vec<Value> = (0..PACKAGES).map(component).collect();
    json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components})
}

fn tests(n: u64) -> Value {
    json!({"result": "PASSED", "configuration": [{"name": "suite", "digest": {"sha256": Sha256::of(&n.to_be_bytes()).to_hex()}}],
           "passedTests": ["unit", "integration"]})
}

/// The keys that the tenant registers, as trust.
pub fn trust(signers: &Signers) -> Result<Trust> {
    let mut trust = Trust::default();
    for key in [&signers.k_vcs, &signers.k_ci, &signers.k_reg, &signers.k_dev] {
        trust.insert_key(PublicKey::from_pem(&key.public_pem(), None)?);
    }
    Ok(trust)
}

/// Verified items on their way into the log, and the images they are about.
type Chunk = Result<(Vec<New>, Vec<String>)>;

/// Fills the tenant's log with `releases` releases; returns a line for each: image, and the id of its provenance.
pub async fn fill(url: &str, keys: &Path, tenant: &str, releases: u64, now: i64) -> Result<Vec<String>> {
    let keys = ServiceKeys::open_or_create(keys)?;
    let store = Store::open(url.parse()?, keys.seal_keys(), &StoreOptions::default()).await?;
    let keys_at = store.head(tenant).await?.context("the tenant has no log")?.size;
    let (sender, mut chunks) = mpsc::channel::<Chunk>(4);
    let workers = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    for worker in 0..workers {
        let sender = sender.clone();
        thread::spawn(move || {
            let signers = Signers::of(0);
            let firsts =
                (0..releases).step_by(CHUNK as usize).skip(worker as usize).step_by(workers as usize);
            for first in firsts {
                let made = make(&signers, first..(first + CHUNK).min(releases), now, keys_at);
                let failed = made.is_err();
                if sender.blocking_send(made).is_err() || failed {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut lines = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        let (items, images) = chunk?;
        for answer in store.append_all(tenant, items).await {
            answer?;
        }
        lines.extend(images);
        if lines.len().is_multiple_of(20_000) {
            eprintln!("{} of {releases} releases", lines.len());
        }
    }
    ensure!(lines.len() as u64 == releases, "only {} releases were made", lines.len());
    store.close().await;
    Ok(lines)
}

fn make(signers: &Signers, numbers: std::ops::Range<u64>, now: i64, keys_at: u64) -> Chunk {
    let trust = trust(signers)?;
    let submitter = Sha256::of(b"bench");
    let (mut items, mut lines) = (Vec::new(), Vec::new());
    for n in numbers {
        let release = release(signers, n, now);
        for blob in release.objects {
            let facts = Box::new(object::read(&blob.media_type, &blob.bytes, &trust, None)?);
            items.push(New::Object {
                bytes: blob.bytes,
                media_type: blob.media_type,
                facts,
                submitter,
                keys_at,
            });
        }
        for (position, envelope) in release.envelopes.iter().enumerate() {
            let bytes = envelope.to_bytes();
            let facts = Box::new(attestation::verify(&bytes, &trust)?);
            ensure!(facts.is_verified(), "release {n} does not verify");
            if position == 0 {
                lines.push(format!("{} {}", release.image, facts.id.to_hex()));
            }
            items.push(New::Attestation { bytes, facts, submitter, keys_at });
        }
    }
    Ok((items, lines))
}

/// Reads what [`fill`] returned.
pub fn read_lines(path: &Path) -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(path)?;
    let pair = |line: &str| line.split_once(' ').map(|(image, id)| (image.to_owned(), id.to_owned()));
    text.lines().map(|line| pair(line).context("a line without an id")).collect()
}
