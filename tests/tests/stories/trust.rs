//! Where trust comes from: PEM files, published roots, and work that goes on behind the answer.

use std::{collections::BTreeMap, path::Path};

use acceptance::{
    App,
    listener::{Listener, Reply},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_testkit::{
    Key,
    authority::{Authority, Claims},
    sha256_hex,
};
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.acme.test";

/// A signed statement about nothing in particular.
fn bundle(authority: &Authority) -> String {
    let leaf = authority.leaf(&Claims::email("ann@acme.test", ISSUER)).issue();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "x", "digest": {"sha256": "3".repeat(64)}}],
        "predicateType": "https://acme.test/note/v1",
        "predicate": {"n": acceptance::unique()},
    });
    authority.attest(&leaf, &statement.to_string()).timestamp().to_json()
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_made_of_pem_files_vouches() {
    let app = App::start().await;
    let admin = app.admin();
    let (authority, folder) = (Authority::new("acme"), tempfile::tempdir().unwrap());
    let sent = bundle(&authority);
    assert_eq!(admin.submit(sent.clone()).await.is(201).text("status"), "unverified");
    let write = |name: &str, text: String| write(folder.path(), name, text);
    let chain = |all: [&[u8]; 2]| all.map(|der| pem("CERTIFICATE", der)).concat();
    let ca = chain([&authority.intermediate.certificate, &authority.root.certificate]);
    let tsa = chain([&authority.tsa.leaf.certificate, &authority.tsa.root.certificate]);
    let (ca, tsa) = (write("ca.pem", ca), write("tsa.pem", tsa));
    let log = write("log.pem", authority.rekor.key.public_pem());
    let v2 = format!("{}={}", authority.rekor_v2.host, write("v2.pem", authority.rekor_v2.key.public_pem()));
    let ct = write("ct.pem", authority.ct.key.public_pem());
    let add = ["trust", "add", "--domain", "acme"];
    let parts = ["--ca", &ca, "--tsa", &tsa, "--log", &log, "--log", &v2, "--ct-log", &ct];
    let added = app.run(&[&add[..], &parts[..]].concat());
    assert!(added.status.success(), "{added:?}");
    assert_eq!(admin.submit(sent).await.is(200).text("status"), "verified");
    let domain = admin.get("/v1/trust/acme").await.is(200);
    assert_eq!(domain.list("authorities").len(), 6, "{}", domain.0);

    // Logs and timestamp authorities say when keys signed.
    for (domain, arguments) in [("stamps", ["--tsa", &tsa]), ("logs", ["--log", &log])] {
        let added = app.run(&[&["trust", "add", "--domain", domain], &arguments[..]].concat());
        assert!(added.status.success(), "{added:?}");
        assert_eq!(admin.get(&format!("/v1/trust/{domain}")).await.is(200).list("authorities").len(), 1);
    }
    // Nobody but a certificate log, a file of another kind, both ways at once.
    for arguments in [vec!["--ct-log", &ct], vec!["--ca", &log], vec!["--ca", &ca, &ca]] {
        let refused = app.run(&[&["trust", "add", "--domain", "other"], &arguments[..]].concat());
        assert!(!refused.status.success(), "{arguments:?}");
    }
    admin.get("/v1/trust/other").await.is_problem(404, "NOT_FOUND");
    // A single key, with its window.
    let key = write("key.pem", Key::p384("single").public_pem());
    let window = ["--valid-until", "2030-01-01T00:00:00Z"];
    let added = app.run(&[&["trust", "add", "--name", "release", &key], &window[..]].concat());
    assert!(added.status.success(), "{added:?}");
    let keys = admin.get("/v1/keys").await.is(200).list("items");
    let found = keys.iter().find(|known| known["name"] == "release").unwrap();
    assert_eq!(found["validUntil"], "2030-01-01T00:00:00Z");
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_wait_is_told_that_the_work_goes_on() {
    let app = App::start().await;
    let admin = app.admin();
    let authority = Authority::new("acme");
    let sent = bundle(&authority);
    admin.submit(sent.clone()).await.is(201);
    let root = json!({"domain": "acme", "document": authority.trusted_root_json()});
    let request = admin.request(reqwest::Method::POST, "/v1/trust").header("prefer", "respond-async");
    let answer = admin.send(request.json(&root)).await;
    assert!([201, 202].contains(&answer.status), "{}", answer.show());
    let app = app.kill().start().await;
    let admin = app.admin();
    for round in 0.. {
        let domain = admin.get("/v1/trust/acme").await.is(200);
        if domain.0["effectiveIndex"].is_u64() {
            break;
        }
        assert!(round < 300, "the work was not taken up after a crash: {}", domain.0);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(admin.submit(sent).await.is(200).text("status"), "verified");
    let ready = admin.get("/readyz").await.is(200);
    assert_eq!(ready.0["trust"], json!({"stale": 0, "pending": 0}));
    app.log_is_clean();
}

/// A repository of The Update Framework with one target.
fn repository(key: &Key, version: u64, target: &str, expires: &str) -> (Vec<u8>, BTreeMap<String, Vec<u8>>) {
    signed_repository(key, 1, version, target, expires)
}

/// The same, where each role wants so many signatures, and has as many: all by one key.
fn signed_repository(
    key: &Key,
    threshold: usize,
    version: u64,
    target: &str,
    expires: &str,
) -> (Vec<u8>, BTreeMap<String, Vec<u8>>) {
    let public = json!({
        "keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": hex::encode(key.public_raw())}
    });
    let canonical = |value: &Value| sigstore_tuf::canonical_json::to_canonical_bytes(value).unwrap();
    let id = sha256_hex(&canonical(&public));
    let sign = |mut signed: Value| {
        signed["spec_version"] = json!("1.0.31");
        signed["version"] = json!(version);
        signed["expires"] = json!(expires);
        let signature = hex::encode(key.sign(&canonical(&signed)));
        let signatures = vec![json!({"keyid": id, "sig": signature}); threshold];
        json!({"signed": signed, "signatures": signatures}).to_string().into_bytes()
    };
    let listed = |bytes: &[u8]| json!({"length": bytes.len(), "hashes": {"sha256": sha256_hex(bytes)}});
    let meta = |name: &str, bytes: &[u8]| {
        let mut entry = listed(bytes);
        entry["version"] = json!(version);
        json!({name: entry})
    };
    let role = json!({"keyids": [id], "threshold": threshold});
    // The root stays at its first version.
    let mut root = json!({
        "_type": "root", "spec_version": "1.0.31", "version": 1, "expires": "2999-01-01T00:00:00Z",
        "consistent_snapshot": false, "keys": {},
        "roles": {"root": role, "timestamp": role, "snapshot": role, "targets": role},
    });
    root["keys"][&id] = public.clone();
    let signature = hex::encode(key.sign(&canonical(&root)));
    let signatures = vec![json!({"keyid": id, "sig": signature}); threshold];
    let root = json!({"signed": root, "signatures": signatures}).to_string();
    let targets =
        sign(json!({"_type": "targets", "targets": {"trusted_root.json": listed(target.as_bytes())}}));
    let snapshot = sign(json!({"_type": "snapshot", "meta": meta("targets.json", &targets)}));
    let timestamp = sign(json!({"_type": "timestamp", "meta": meta("snapshot.json", &snapshot)}));
    let files = [
        ("/timestamp.json", timestamp),
        ("/snapshot.json", snapshot),
        ("/targets.json", targets),
        ("/targets/trusted_root.json", target.as_bytes().to_vec()),
    ];
    (root.into_bytes(), files.map(|(path, bytes)| (path.to_owned(), bytes)).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_root_is_refreshed_and_an_older_or_altered_repository_is_refused() {
    const LATER: &str = "2999-01-01T00:00:00Z";
    let app = App::start().await;
    let admin = app.admin();
    let folder = tempfile::tempdir().unwrap();
    let (authority, key) = (Authority::new("acme"), Key::ed25519("tuf"));
    let first = authority.trusted_root_json();
    let second = authority.trusted_root().without_tsa().to_json();
    let (root, _) = repository(&key, 1, &first, LATER);
    let root = write(folder.path(), "root.json", root);
    let cache = folder.path().join("cache").to_str().unwrap().to_owned();
    let refresh = async |files| {
        let mirror = Listener::start(Reply::Files(files)).await;
        let source = ["--url", &mirror.url, "--root", &root, "--cache", &cache];
        let arguments = [&["trust", "refresh", "--domain", "acme"], &source[..]].concat();
        let output = tokio::task::block_in_place(|| app.run(&arguments));
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let version = async || admin.get("/v1/trust/acme").await.json()["version"].as_u64();

    assert!(refresh(repository(&key, 1, &first, LATER).1).await.0);
    assert_eq!(version().await, Some(1));
    assert!(refresh(repository(&key, 1, &first, LATER).1).await.0, "nothing new");
    assert_eq!(version().await, Some(1));
    assert!(refresh(repository(&key, 2, &second, LATER).1).await.0);
    assert_eq!(version().await, Some(2));

    let mut altered = repository(&key, 3, &first, LATER).1;
    altered.insert("/targets/trusted_root.json".into(), second.replace("sigstore", "sigstorf").into_bytes());
    for (what, files) in [
        ("a rolled back repository", repository(&key, 1, &first, LATER).1),
        ("a repository that nobody keeps up", repository(&key, 3, &first, "2020-01-01T00:00:00Z").1),
        ("somebody else's repository", repository(&Key::ed25519("mallory"), 3, &first, LATER).1),
        ("an altered target", altered),
        ("a repository that is not there", BTreeMap::new()),
    ] {
        let (taken, said) = refresh(files).await;
        assert!(!taken, "{what}: {said}");
        assert_eq!(version().await, Some(2), "{what}");
    }
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn o07_one_key_that_signs_twice_is_no_threshold_of_two() {
    let app = App::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (authority, key) = (Authority::new("acme"), Key::ed25519("tuf"));
    let document = authority.trusted_root_json();
    for (threshold, taken) in [(1, true), (2, false)] {
        let (root, files) = signed_repository(&key, threshold, 1, &document, "2999-01-01T00:00:00Z");
        let root = write(folder.path(), "root.json", root);
        let cache = folder.path().join(format!("cache-{threshold}")).to_str().unwrap().to_owned();
        let mirror = Listener::start(Reply::Files(files)).await;
        let domain = format!("acme-{threshold}");
        let arguments = [
            "trust",
            "refresh",
            "--domain",
            &domain,
            "--url",
            &mirror.url,
            "--root",
            &root,
            "--cache",
            &cache,
        ];
        let output = tokio::task::block_in_place(|| app.run(&arguments));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), taken, "threshold {threshold}: {said}");
        let known = app.admin().get(&format!("/v1/trust/{domain}")).await;
        assert_eq!(known.status == 200, taken, "{}", known.show());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o04_an_older_root_does_not_come_back() {
    let app = App::start().await;
    let admin = app.admin();
    let authority = Authority::new("acme");
    let first = json!({"domain": "acme", "document": authority.trusted_root_json()});
    let second = json!({"domain": "acme", "document": authority.trusted_root().without_tsa().to_json()});
    admin.post("/v1/trust", &first).await.is(201);
    admin.post("/v1/trust", &second).await.is(201);
    let again = admin.post("/v1/trust", &first).await;
    assert_eq!(again.status, 409, "{}", again.show());
    assert_eq!(admin.get("/v1/trust/acme").await.json()["version"], 2);
    admin.post("/v1/trust", &second).await.is(200);
}
