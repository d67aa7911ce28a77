//! Evidence that lies elsewhere already: in a real registry, in git notes, at GitHub, in a folder.

use std::{collections::BTreeMap, path::Path, process::Command};

use acceptance::{
    App,
    http::Client,
    installed,
    listener::{Listener, Reply},
    registry::Registry,
    skip,
};
use catenary_testkit::{
    Key, Statement, Subject,
    authority::{Authority, Claims, cosign::simple_signing},
    oci::{Image, Index, layer},
};
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.acme.test";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn note(about: &str) -> Statement {
    let statement = Statement::new("https://acme.test/note/v1", json!({"n": acceptance::unique()}));
    statement.subject(Subject::new("x", "sha256", about.trim_start_matches("sha256:")))
}

/// Runs `catenary import` and gives its lines: source, result and what it is worth.
fn import(app: &App, arguments: &[&str]) -> (bool, Vec<Value>) {
    let output = app.run(&[&["--output", "json", "import"], arguments].concat());
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.success(), document["items"].as_array().cloned().unwrap())
}

fn worth(lines: &[Value]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for line in lines {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        *found.entry(format!("{} {}", text("result"), text("evidence")).trim().to_owned()).or_default() += 1;
    }
    found
}

/// A manifest that holds evidence as its layers.
async fn attach(
    registry: &Registry,
    repository: &str,
    tag: Option<&str>,
    layers: &[(Value, Vec<u8>)],
) -> Value {
    let config = registry.blob(repository, b"{}".to_vec()).await;
    let mut descriptors = Vec::new();
    for (descriptor, bytes) in layers {
        let mut descriptor = descriptor.clone();
        descriptor["digest"] = json!(registry.blob(repository, bytes.clone()).await);
        descriptor["size"] = json!(bytes.len());
        descriptors.push(descriptor);
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": descriptors,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = format!("sha256:{}", catenary_testkit::sha256_hex(&bytes));
    registry.put(repository, tag.unwrap_or(&digest), MANIFEST, bytes.clone()).await;
    json!({"mediaType": MANIFEST, "digest": digest, "size": bytes.len()})
}

async fn trust(admin: &Client, authority: &Authority, key: &Key) {
    let root = json!({"domain": "acme", "document": authority.trusted_root_json()});
    admin.post("/v1/trust", &root).await.is(201);
    admin.add_key("ci", &key.public_pem(), None).await.is(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_imported_with_all_that_refers_to_it() {
    if !installed("docker-registry") {
        skip("an_image_is_imported_with_all_that_refers_to_it", "docker-registry is not installed");
        return;
    }
    let app = App::start().await;
    let admin = app.admin();
    let (authority, key) = (Authority::new("acme"), Key::p256("ci"));
    trust(&admin, &authority, &key).await;
    let registry = Registry::start(None, "http://127.0.0.1:1/", "unused").await;
    let images = ["linux/amd64", "linux/arm64"].map(|p| Image::new(p, vec![layer(&[(p, b"app")])]));
    let mut index = Index::new(images.to_vec());
    index.buildkit_attestations = true;
    for image in &index.images {
        let [statement, config, manifest] = Index::buildkit_attestation(image);
        registry.blob("acme/app", statement.bytes.clone()).await;
        registry.blob("acme/app", config.bytes.clone()).await;
        registry.put("acme/app", &manifest.digest(), &manifest.media_type, manifest.bytes.clone()).await;
    }
    registry.push("acme/app", &index, "1.0").await;
    let digest = index.digest();
    let flat = digest.replace(':', "-");
    let leaf = authority.leaf(&Claims::email("ann@acme.test", ISSUER)).issue();

    // A bundle by the fallback tag of the referrers API, which this registry does not have.
    let bundle = authority.attest(&leaf, &note(&digest).to_json()).timestamp().to_json();
    let referrer =
        attach(&registry, "acme/app", None, &[(json!({"mediaType": BUNDLE}), bundle.into_bytes())]).await;
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [referrer]}).to_string();
    registry.put("acme/app", &flat, INDEX, list.into_bytes()).await;
    // cosign's tags: a keyless signature, and two attestations of which one is altered.
    let payload = simple_signing("registry.acme.test/acme/app", &digest);
    let signature = authority.sign_blob(&leaf, &payload).to_attachment();
    let mut layers = Vec::new();
    for attachment in [signature, authority.attest(&leaf, &note(&digest).to_json()).to_attachment()] {
        let descriptor = json!({"mediaType": attachment.media_type, "annotations": attachment.annotations});
        layers.push((descriptor, attachment.layer));
    }
    attach(&registry, "acme/app", Some(&format!("{flat}.sig")), &layers[..1]).await;
    let mut altered = layers[1].clone();
    altered.1 = String::from_utf8(altered.1).unwrap().replacen("eyJ", "eyK", 1).into_bytes();
    attach(&registry, "acme/app", Some(&format!("{flat}.att")), &[layers[1].clone(), altered]).await;
    // An envelope signed with a key, about one platform; and an SBOM that nobody signed.
    let arm = index.images[1].digest();
    let envelope = note(&arm).signed_by(&key).to_json().into_bytes();
    let kind = json!({"mediaType": "application/vnd.dsse.envelope.v1+json"});
    attach(&registry, "acme/app", Some(&format!("{}.att", arm.replace(':', "-"))), &[(kind, envelope)]).await;
    let sbom = (json!({"mediaType": "text/spdx+json"}), b"{}".to_vec());
    attach(&registry, "acme/app", Some(&format!("{flat}.sbom")), &[sbom]).await;

    let reference = format!("{}/acme/app:1.0", registry.host);
    let (whole, lines) = import(&app, &["oci", &reference]);
    let found = worth(&lines);
    assert!(!whole, "one is altered: {found:?}");
    // Index, two platforms with configs, two attestation manifests; bundle, signature, attestation, envelope.
    assert_eq!(found.get("kept verified"), Some(&4), "{lines:#?}");
    assert_eq!(found.iter().filter(|(what, _)| what.starts_with("kept")).map(|(_, n)| n).sum::<usize>(), 11);
    assert_eq!(
        found.iter().filter(|(what, _)| what.starts_with("refused")).map(|(_, n)| n).sum::<usize>(),
        1
    );
    assert_eq!(
        found.iter().filter(|(what, _)| what.starts_with("skipped")).map(|(_, n)| n).sum::<usize>(),
        3
    );

    // BuildKit's statements are shown with their platform, and count for nothing.
    let artifact = admin.get(&format!("/v1/artifacts/{digest}")).await.is(200);
    let manifests = artifact.list("attestationManifests");
    assert_eq!(manifests.len(), 2, "{}", artifact.0);
    assert_eq!(manifests[1]["about"], json!(arm));
    assert_eq!(manifests[1]["platform"], "linux/arm64");
    assert_eq!(manifests[1]["statements"][0]["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(manifests[1]["covered"], false);
    let subjects = admin.get(&format!("/v1/attestations?subject={arm}")).await.is(200).list("items");
    assert_eq!(subjects.len(), 1, "the envelope alone");
    let about = manifests[0]["digest"].as_str().unwrap();
    admin.submit(note(about).signed_by(&key).to_json()).await.is(201);
    let artifact = admin.get(&format!("/v1/artifacts/{digest}")).await.is(200);
    assert_eq!(artifact.list("attestationManifests")[0]["covered"], true);

    // A second time nothing is new; by digest it is the same image; and another is not there.
    let by_digest = format!("{}/acme/app@{digest}", registry.host);
    let (_, lines) = import(&app, &["oci", &by_digest, "--keep-going"]);
    assert_eq!(worth(&lines).get("known verified"), Some(&4), "{lines:#?}");
    assert!(!worth(&lines).keys().any(|what| what.starts_with("kept")), "{lines:#?}");
    assert!(!app.run(&["import", "oci", &format!("{}/acme/app:2.0", registry.host)]).status.success());
    app.log_is_clean();
}

fn git(folder: &Path, arguments: &[&str], input: Option<&str>) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(arguments);
    for (name, value) in [("NAME", "Ann"), ("EMAIL", "ann@acme.test")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    if let Some(input) = input {
        std::fs::write(folder.join("note"), input).unwrap();
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_of_a_repository_are_imported_with_their_commits() {
    let app = App::start().await;
    let admin = app.admin();
    let key = Key::ed25519("source tool");
    admin.add_key("source", &key.public_pem(), None).await.is(201);
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "-q"], None);
    git(folder.path(), &["commit", "-q", "--allow-empty", "-m", "one"], None);
    let commit = git(folder.path(), &["rev-parse", "HEAD"], None);
    let about = |n: u32| {
        let statement = Statement::new("https://acme.test/note/v1", json!({"n": n}));
        statement.subject(Subject::new("", "gitCommit", &commit)).signed_by(&key).to_json()
    };
    let note = format!("{}\n{}\n", about(1), about(2));
    git(folder.path(), &["notes", "add", "-F", "note"], Some(&note));
    let path = folder.path().to_str().unwrap();
    // The message is a file beside the notes.
    let (whole, lines) = import(&app, &["git-notes", "--repository", path]);
    assert!(whole, "{lines:#?}");
    assert_eq!(worth(&lines).get("kept verified"), Some(&2), "{lines:#?}");
    let found = admin.get(&format!("/v1/attestations?subject=gitCommit:{commit}")).await.is(200);
    assert_eq!(found.list("items").len(), 2);
    let object = admin.get(&format!("/v1/objects/gitCommit:{commit}/facts")).await;
    object.is(200);
    let (_, lines) = import(&app, &["git-notes", "--repository", path, "--ref", "refs/notes/none"]);
    assert_eq!(lines[0]["result"], "skipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn attestations_at_github_are_imported_from_a_file_and_from_the_api() {
    let app = App::start().await;
    let admin = app.admin();
    let (authority, key) = (Authority::new("acme"), Key::p256("ci"));
    trust(&admin, &authority, &key).await;
    let leaf = authority.leaf(&Claims::email("ann@acme.test", ISSUER)).issue();
    let digest = format!("sha256:{}", "5".repeat(64));
    let bundle = || authority.attest(&leaf, &note(&digest).to_json()).timestamp().to_value();
    let answer = json!({"attestations": [
        {"bundle": bundle(), "repository_id": 1, "bundle_url": "https://elsewhere.test/1"},
        {"bundle": null, "repository_id": 1, "bundle_url": "https://elsewhere.test/2"},
    ]});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answer.json");
    std::fs::write(&file, answer.to_string()).unwrap();
    let (_, lines) = import(&app, &["github", file.to_str().unwrap()]);
    let expected: BTreeMap<String, usize> = [("kept verified".into(), 1), ("skipped".into(), 1)].into();
    assert_eq!(worth(&lines), expected, "{lines:#?}");
    // JSON Lines, as the client writes them.
    std::fs::write(&file, format!("{}\n{}\n", bundle(), bundle())).unwrap();
    let (_, lines) = import(&app, &["github", file.to_str().unwrap()]);
    assert_eq!(worth(&lines).get("kept verified"), Some(&2), "{lines:#?}");

    let page = json!({"attestations": [{"bundle": bundle()}, {"bundle": {"mediaType": "x"}}]});
    let path = format!("/repos/acme/app/attestations/{digest}?per_page=100");
    let api = Listener::start(Reply::Files([(path, page.to_string().into_bytes())].into())).await;
    let asked = ["github", "--repository", "acme/app", "--digest", &digest, "--api", &api.url];
    let (whole, lines) = import(&app, &asked);
    assert!(!whole);
    assert_eq!(worth(&lines).get("kept verified"), Some(&1), "{lines:#?}");
    let (whole, _) = import(&app, &[&asked[..], &["--keep-going"]].concat());
    assert!(whole, "what was refused is said, and does not stop a pipeline that asked so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_imported_whatever_lies_in_it() {
    let app = App::start().await;
    let admin = app.admin();
    let key = Key::p384("folder");
    admin.add_key("folder", &key.public_pem(), None).await.is(201);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(path("deep/er")).unwrap();
    let digest = "6".repeat(64);
    std::fs::write(path("deep/er/one.json"), note(&digest).signed_by(&key).to_json()).unwrap();
    let two =
        format!("{}\n{}\n", note(&digest).signed_by(&key).to_json(), note(&digest).signed_by(&key).to_json());
    std::fs::write(path("two.jsonl"), two).unwrap();
    std::fs::write(path("readme.txt"), "nothing to see").unwrap();
    std::fs::write(path("other.json"), "{\"a\":1}").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", path("link.json")).unwrap();
    let index = Index::new(vec![Image::new("linux/amd64", vec![layer(&[("a", b"b")])])]);
    index.write_layout(&path("layout"), "1").unwrap();
    let (whole, lines) = import(&app, &["dir", folder.path().to_str().unwrap()]);
    let found = worth(&lines);
    assert!(!whole, "one JSON file is no evidence");
    assert_eq!(found.get("kept verified"), Some(&3), "{lines:#?}");
    assert_eq!(found.get("skipped"), Some(&1), "{lines:#?}");
    assert!(!lines.iter().any(|line| line["source"].as_str().unwrap().contains("link.json")), "{lines:#?}");
    let artifact = admin.get(&format!("/v1/artifacts/{}", index.digest())).await.is(200);
    assert_eq!(artifact.text("kind"), "index");
    assert!(!app.run(&["import", "dir", "/nowhere/at/all"]).status.success());
    app.log_is_clean();
}
