//! Evidence that lies elsewhere: a registry, git notes, a folder, what GitHub's API answered.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use acceptance::{
    Stage, app, installed,
    listener::{Listener, Reply},
    registry::Registry,
    skip,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_testkit::{
    Statement, Subject, World,
    dsse::{Envelope, IN_TOTO},
    oci::{Blob, Index, OCI_MANIFEST},
    provenance,
    world::{RESOURCE, subjects},
};
use serde_json::{Value, json};

const DSSE_LAYER: &str = "application/vnd.dsse.envelope.v1+json";
const BUNDLE_LAYER: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Runs `catenary import …` for a tenant: the exit code and the report.
fn import(stage: &Stage, arguments: &[&str]) -> (i32, Value) {
    let run = Command::new(app::program())
        .args(["--output", "json", "--server", &stage.url, "import"])
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("CATENARY_TOKEN", stage.token.as_deref().unwrap_or_default())
        .output()
        .unwrap();
    let report = serde_json::from_slice(&run.stdout).unwrap_or_else(|_| {
        panic!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr))
    });
    (run.status.code().unwrap(), report)
}

/// The same; nothing was refused.
#[track_caller]
fn imported(stage: &Stage, arguments: &[&str]) -> Value {
    let (exit, report) = import(stage, arguments);
    assert_eq!((exit, &report["summary"]["refused"]), (0, &json!(0)), "{report:#}");
    report
}

/// Kept and known already.
fn counts(report: &Value) -> (u64, u64) {
    let count = |name: &str| report["summary"][name].as_u64().unwrap();
    (count("kept"), count("duplicate"))
}

fn found<'a>(report: &'a Value, result: &str) -> Vec<&'a Value> {
    report["items"].as_array().unwrap().iter().filter(|item| item["result"] == result).collect()
}

async fn registry() -> Registry {
    // Nobody listens to what it reports.
    Registry::start(None, "http://127.0.0.1:9/", "-").await
}

/// The golden world with BuildKit's attestation manifests in its index.
fn with_buildkit(world: &mut World) {
    world.index.buildkit_attestations = true;
    world.build.subjects = subjects(RESOURCE, &world.index);
    world.push.digest = world.index.digest();
}

fn tag_of(digest: &str) -> String {
    digest.replace(':', "-")
}

/// What `cosign attest --key` leaves under the tag `sha256-<hex>.att`.
fn attachment(envelope: &Envelope) -> (Blob, Value) {
    let annotations =
        json!({"dev.cosignproject.cosign/signature": "", "predicateType": "https://slsa.dev/provenance/v1"});
    (Blob::new(DSSE_LAYER, envelope.to_bytes()), annotations)
}

fn bundle(envelope: &Envelope) -> Value {
    json!({
        "mediaType": BUNDLE_LAYER,
        "verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []},
        "dsseEnvelope": envelope.to_value(),
    })
}

/// A git repository with the world's commit, and lines as a note on it.
fn notes(folder: &Path, world: &World, name: &str, text: &str) {
    git(folder, &["init", "--quiet"], b"");
    git(folder, &["config", "user.name", "ci"], b"");
    git(folder, &["config", "user.email", "ci@acme.test"], b"");
    git(folder, &["hash-object", "-w", "-t", "commit", "--literally", "--stdin"], &world.commit.bytes());
    git(folder, &["notes", "--ref", name, "add", "-F", "-", &world.commit.oid()], text.as_bytes());
}

fn git(folder: &Path, arguments: &[&str], input: &[u8]) {
    use std::io::Write;
    let mut child = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    assert!(child.wait().unwrap().success(), "git {arguments:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_lies_in_a_registry_and_in_git_notes_is_imported() {
    if !installed("docker-registry") || !installed("git") {
        return skip(
            "a_chain_that_lies_in_a_registry_and_in_git_notes_is_imported",
            "docker-registry is not installed",
        );
    }
    let mut stage = Stage::empty().await;
    with_buildkit(&mut stage.world);
    let (world, registry) = (&stage.world, registry().await);
    registry.push("base/debian", &world.base, "12").await;
    registry.push("acme/app", &world.index, "1.0.0").await;
    // The build as cosign's attachment, the push as a bundle under the fallback tag, and a signature.
    let tag = tag_of(&world.index.digest());
    let att = format!("{tag}.att");
    registry.attach("acme/app", Some(&att), &[attachment(&world.build_envelope())]).await;
    let push = Blob::new(BUNDLE_LAYER, bundle(&world.push_envelope()).to_string().into_bytes());
    let referrer = registry.attach("acme/app", None, &[(push, json!({}))]).await;
    registry.put_index("acme/app", &tag, &[referrer]).await;
    let payload = json!({"critical": {
        "identity": {"docker-reference": RESOURCE},
        "image": {"docker-manifest-digest": world.index.digest()},
        "type": "cosign container image signature"}, "optional": null});
    let payload = payload.to_string().into_bytes();
    let signature = json!({"dev.cosignproject.cosign/signature": STANDARD.encode(world.k_ci.sign(&payload))});
    let layer = Blob::new(SIMPLE_SIGNING, payload);
    registry.attach("acme/app", Some(&format!("{tag}.sig")), &[(layer, signature)]).await;

    let base = format!("{}/base/debian:12", registry.host);
    let app = format!("{}/acme/app:1.0.0", registry.host);
    imported(&stage, &["oci", &base]);
    let first = imported(&stage, &["oci", &app]);
    assert!(counts(&first).0 >= 3, "{first:#}");
    stage.judge().await.denies("SRC_COMMIT_UNKNOWN");

    let folder = tempfile::tempdir().unwrap();
    let lines = format!("{}\n{}\n", world.source_envelope().to_json(), world.source_envelope().to_json());
    notes(folder.path(), world, "refs/notes/attestations", &lines);
    let path = folder.path().display().to_string();
    let noted = imported(&stage, &["git-notes", "--repository", &path, "--commits"]);
    assert!(counts(&noted).0 >= 2, "{noted:#}");
    stage.judge().await.passes();

    // Once more changes nothing.
    let again = imported(&stage, &["oci", &app]);
    let digest = format!("{}/acme/app@{}", registry.host, world.index.digest());
    assert_eq!(counts(&again), (0, counts(&first).0), "{again:#}");
    assert_eq!(counts(&imported(&stage, &["oci", &digest])).0, 0);
    assert_eq!(counts(&imported(&stage, &["git-notes", "--repository", &path, "--commits"])).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn buildkit_statements_are_shown_beside_their_platform_and_never_count() {
    if !installed("docker-registry") {
        return skip(
            "buildkit_statements_are_shown_beside_their_platform_and_never_count",
            "docker-registry is not installed",
        );
    }
    let mut stage = Stage::empty().await;
    with_buildkit(&mut stage.world);
    let (world, registry) = (&stage.world, registry().await);
    registry.push("base/debian", &world.base, "12").await;
    registry.push("acme/app", &world.index, "1.0.0").await;
    imported(&stage, &["oci", &format!("{}/base/debian:12", registry.host)]);
    let report = imported(&stage, &["oci", &format!("{}/acme/app:1.0.0", registry.host)]);
    let bare = found(&report, "unsigned");
    assert_eq!(bare.len(), 2, "{report:#}");
    let amd64 = world.index.images[0].digest();
    assert_eq!((&bare[0]["platform"], &bare[0]["about"]), (&json!("linux/amd64"), &json!(amd64)));
    assert_eq!(bare[0]["predicateType"], provenance::V1);

    // Everything else of the chain is there, and the statement by itself is refused.
    stage.push_object(&world.objects()[0]).await.is(201);
    stage.post_envelopes(&[world.source_envelope(), world.push_envelope()]).await;
    stage.judge().await.denies("BLD_NO_PROVENANCE");
    let [statement, _, manifest] = Index::buildkit_attestation(&world.index.images[0]);
    let sent = stage.post_bytes("/v1/attestations", "application/json", statement.bytes.clone()).await;
    sent.is_problem(422, "ATT_UNSIGNED");

    // The index's page and the platform's page show it; neither calls it evidence.
    for (digest, shown) in [(world.index.digest(), 2), (amd64.clone(), 1)] {
        let page = stage.get(&format!("/v1/artifacts/{digest}")).await.is(200).0;
        let linked = page["attestationManifests"].as_array().unwrap();
        assert_eq!(linked.len(), shown, "{page:#}");
        assert_eq!(linked[0]["digest"], manifest.digest());
        assert_eq!((&linked[0]["about"], &linked[0]["platform"]), (&json!(amd64), &json!("linux/amd64")));
        assert_eq!(linked[0]["trusted"], false);
        assert_eq!(linked[0]["statements"][0]["predicateType"], provenance::V1);
        assert!(
            page["attestations"].as_array().unwrap().iter().all(|it| it["predicateType"] != provenance::V1)
        );
    }

    // It is no platform of the index: signed provenance of both real ones covers it.
    let mut build = world.build.clone();
    build.subjects.remove(0);
    stage.post_envelopes(&[build.statement().signed_by(&world.k_ci)]).await;
    stage.judge().await.passes();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_envelope_in_an_attestation_manifest_is_evidence_like_any_other() {
    if !installed("docker-registry") {
        return skip(
            "a_signed_envelope_in_an_attestation_manifest_is_evidence_like_any_other",
            "docker-registry is not installed",
        );
    }
    for media_type in ["application/vnd.in-toto.provenance+dsse", "application/vnd.in-toto+json"] {
        let mut stage = Stage::empty().await;
        let registry = registry().await;
        // The envelope lies inside the index, so it is about the platforms and not about the index.
        stage.world.build.subjects.remove(0);
        let envelope = Blob::new(media_type, stage.world.build_envelope().to_bytes());
        let mut entry = registry.attach("acme/app", None, &[(envelope, json!({}))]).await;
        entry["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        entry["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": stage.world.index.images[0].digest(),
        });
        stage.world.index.extra_children.push(entry);
        stage.world.push.digest = stage.world.index.digest();
        let world = &stage.world;
        registry.push("base/debian", &world.base, "12").await;
        registry.push("acme/app", &world.index, "1.0.0").await;
        stage.push_object(&world.objects()[0]).await.is(201);
        stage.post_envelopes(&[world.source_envelope(), world.push_envelope()]).await;
        imported(&stage, &["oci", &format!("{}/base/debian:12", registry.host)]);
        stage.judge().await.denies("BLD_NO_PROVENANCE");
        imported(&stage, &["oci", &format!("{}/acme/app:1.0.0", registry.host)]);
        stage.judge().await.passes();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g14_an_attachment_about_another_image_does_not_count() {
    if !installed("docker-registry") {
        return skip(
            "g14_an_attachment_about_another_image_does_not_count",
            "docker-registry is not installed",
        );
    }
    let stage = Stage::empty().await;
    let (world, registry) = (&stage.world, registry().await);
    stage.post_objects(world).await;
    stage.post_envelopes(&[world.source_envelope(), world.push_envelope()]).await;
    registry.push("acme/app", &world.index, "1.0.0").await;
    let mut other = world.build.clone();
    other.subjects = vec![Subject::new(RESOURCE, "sha256", &"e".repeat(64))];
    let other = other.statement().signed_by(&world.k_ci);
    let tag = tag_of(&world.index.digest());
    registry.attach("acme/app", Some(&format!("{tag}.att")), &[attachment(&other)]).await;
    let referrer = registry.attach("acme/app", None, &[attachment(&other)]).await;
    registry.put_index("acme/app", &tag, &[referrer]).await;
    let report = imported(&stage, &["oci", &format!("{}/acme/app:1.0.0", registry.host)]);
    assert_eq!(found(&report, "kept").len(), 1, "{report:#}");
    stage.judge().await.denies("BLD_NO_PROVENANCE");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_that_was_altered_is_refused_and_the_others_are_kept() {
    if !installed("docker-registry") {
        return skip(
            "an_attachment_that_was_altered_is_refused_and_the_others_are_kept",
            "docker-registry is not installed",
        );
    }
    let stage = Stage::empty().await;
    let (world, registry) = (&stage.world, registry().await);
    registry.push("acme/app", &world.index, "1.0.0").await;
    let forged = world.build_envelope().flip_signature_bit(0, 7);
    let att = format!("{}.att", tag_of(&world.index.digest()));
    registry
        .attach("acme/app", Some(&att), &[attachment(&forged), attachment(&world.build_envelope())])
        .await;
    let reference = format!("{}/acme/app:1.0.0", registry.host);
    let (exit, report) = import(&stage, &["oci", &reference]);
    assert_eq!((exit, found(&report, "refused").len()), (1, 1), "{report:#}");
    assert_eq!(found(&report, "refused")[0]["code"], "ATT_SIGNATURE_INVALID");
    assert_eq!(import(&stage, &["oci", &reference, "--keep-going"]).0, 0);
    let (exit, answer) = import(&stage, &["oci", &reference, "--allow-registry", "registry.acme.test"]);
    assert_eq!(exit, 3, "{answer}");
}

#[tokio::test]
async fn a_folder_is_imported_whole() {
    let stage = Stage::empty().await;
    let world = &stage.world;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let file = |name: &str| folder.path().join(name);
    world.index.write_layout(&file("app"), "1.0.0").unwrap();
    world.base.write_layout(&file("base"), "12").unwrap();
    fs::write(file("commit"), world.commit.bytes()).unwrap();
    // What cosign attached lies among the blobs of the layout.
    let blobs = file("app").join("blobs/sha256");
    let (layer, annotations) = attachment(&world.build_envelope());
    let mut descriptor = layer.descriptor();
    descriptor["annotations"] = annotations;
    let empty = Blob::new("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": empty.descriptor(), "layers": [descriptor]});
    for blob in [layer, Blob::new(OCI_MANIFEST, manifest.to_string().into_bytes())] {
        fs::write(blobs.join(blob.digest().trim_start_matches("sha256:")), &blob.bytes).unwrap();
    }
    let lines = format!("{}\n{}\n", world.source_envelope().to_json(), world.push_envelope().to_json());
    fs::write(file("others.jsonl"), lines).unwrap();
    fs::write(file("README.md"), "# Evidence").unwrap();
    let bare = Statement::new(provenance::V1, json!({})).subject(Subject::image("x", &world.index.digest()));
    fs::write(file("bare.json"), bare.to_json()).unwrap();
    let first = imported(&stage, &["dir", &path]);
    assert_eq!(found(&first, "unsigned").len(), 1, "{first:#}");
    assert!(
        found(&first, "skipped").iter().any(|item| item["file"].as_str().unwrap().ends_with("README.md"))
    );
    stage.judge().await.passes();
    let again = imported(&stage, &["dir", &path]);
    assert_eq!(counts(&again), (0, counts(&first).0), "{again:#}");

    // One broken file does not keep the others out, and is told.
    fs::write(file("broken.json"), "{\"payload\": ").unwrap();
    let new = Statement::new("https://acme.test/note/v1", json!({}))
        .subject(Subject::image("x", &world.index.digest()));
    fs::write(file("new.json"), new.signed_by(&world.k_ci).to_json()).unwrap();
    let (exit, report) = import(&stage, &["dir", &path]);
    assert_eq!((exit, counts(&report).0, found(&report, "refused").len()), (1, 1, 1), "{report:#}");
    assert_eq!(import(&stage, &["dir", "--keep-going", &path]).0, 0);
}

#[tokio::test]
async fn notes_that_are_no_evidence_are_passed_over() {
    if !installed("git") {
        return skip("notes_that_are_no_evidence_are_passed_over", "git is not installed");
    }
    let stage = Stage::empty().await;
    let folder = tempfile::tempdir().unwrap();
    notes(folder.path(), &stage.world, "refs/notes/review", "Reviewed-by: Dev Eloper\n");
    let path = folder.path().display().to_string();
    let report = imported(&stage, &["git-notes", "--repository", &path, "--ref", "refs/notes/review"]);
    assert_eq!((counts(&report), found(&report, "skipped").len()), ((0, 0), 1), "{report:#}");
    let missing = ["git-notes", "--repository", &path, "--ref", "refs/notes/none"];
    assert_eq!(import(&stage, &missing).0, 3);
    let outside = ["git-notes", "--repository", &path, "--ref", "refs/heads/main"];
    assert_eq!(import(&stage, &outside).0, 3);
    let nowhere = tempfile::tempdir().unwrap();
    let none = ["git-notes", "--repository", nowhere.path().to_str().unwrap()];
    assert_eq!(import(&stage, &none).0, 3, "a folder that is no repository has not merely no notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn githubs_answer_is_imported_from_a_file_and_from_the_api() {
    let stage = Stage::empty().await;
    let world = &stage.world;
    let answer = |bundles: &[Value]| {
        let entry = |bundle: &Value| json!({"bundle": bundle, "bundle_url": "https://blobs.acme.test/1.sn", "repository_id": 1});
        json!({"attestations": bundles.iter().map(entry).collect::<Vec<_>>()}).to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("attestations.json");
    fs::write(&file, answer(&[bundle(&world.build_envelope()), Value::Null])).unwrap();
    let report = imported(&stage, &["github", &file.display().to_string()]);
    assert_eq!((counts(&report), found(&report, "skipped").len()), ((1, 0), 1), "{report:#}");

    let api =
        Listener::start(Reply::Body("application/json", answer(&[bundle(&world.push_envelope())]).into()))
            .await;
    let digest = world.index.digest();
    let arguments = ["github", "--owner", "acme", "--repo", "app", "--digest", &digest, "--api", &api.url];
    assert_eq!(counts(&imported(&stage, &arguments)), (1, 0));
    assert_eq!(counts(&imported(&stage, &arguments)), (0, 1));
    assert_eq!(api.calls(), 2);
    stage.post_objects(world).await;
    stage.post_envelopes(&[world.source_envelope()]).await;
    stage.judge().await.passes();
    let clear = ["github", "--owner", "acme", "--digest", &digest, "--api", "http://api.acme.test"];
    assert_eq!(import(&stage, &clear).0, 3);
}

#[tokio::test]
async fn a_bare_statement_is_refused_however_it_is_sent() {
    let stage = Stage::empty().await;
    let [layer, _, _] = Index::buildkit_attestation(&stage.world.index.images[0]);
    assert_eq!(layer.media_type, IN_TOTO);
    let text = String::from_utf8(layer.bytes).unwrap();
    stage.submit(text.clone()).await.is_problem(422, "ATT_UNSIGNED");
    let items = stage.submit(format!("[{text},{text}]")).await.is(200).list("items");
    assert!(items.iter().all(|item| item["code"] == "ATT_UNSIGNED"), "{items:?}");
    let empty = json!({"payloadType": IN_TOTO, "payload": STANDARD.encode(&text), "signatures": []});
    assert_eq!(stage.submit(empty.to_string()).await.status, 422);
}
