//! Positive controls: what must be allowed, so that nobody passes these tests by refusing everything.

use std::time::Duration;

use acceptance::{App, Stage, honest, installed, skip};
use catenary_testkit::{
    Key, Subject, World,
    world::{REPOSITORY, REPOSITORY_ID, RESOURCE},
};
use serde_json::json;

#[tokio::test]
async fn k01_golden_chain() {
    let stage = honest().await;
    let body = stage.judge().await.passes();
    assert_eq!(body.text("kind"), "Verdict");
    assert!(body.list("reasons").iter().all(|r| r["severity"] != "error"));
    let stages: Vec<String> =
        body.list("links").iter().filter_map(|l| l["stage"].as_str().map(str::to_owned)).collect();
    for stage in ["source", "build", "registry"] {
        assert!(stages.iter().any(|s| s == stage), "{stage} is not among {stages:?}");
    }
    // Every child is allowed too: the index's bytes commit to it.
    for image in &stage.world.index.images {
        stage.verdict(&stage.world.image_of(&image.digest())).await.passes();
    }
}

#[tokio::test]
async fn k02_the_third_subject_matches() {
    let mut stage = Stage::empty().await;
    let other = |n: char| Subject::new("other", "sha256", &n.to_string().repeat(64));
    let image = Subject::image(RESOURCE, &stage.world.index.digest());
    stage.world.build.subjects = vec![other('1'), other('2'), image, other('4'), other('5')];
    stage.play_honest().await;
}

#[tokio::test]
async fn k04_a_signature_before_key_rotation() {
    let mut stage = Stage::empty().await;
    let until = acceptance::now() + 8;
    let old = Key::p256(&format!("old-{}", stage.tenant));
    let body =
        json!({"name": "old", "pem": old.public_pem(), "validUntil": catenary_testkit::time::rfc3339(until)});
    stage.post("/v1/keys", &body).await.is(201);
    let policy = stage.world.policy().replace(&stage.world.k_ci.id(), &old.id());
    stage.apply("prod", &policy).await.is(201);
    stage.world.build.signer = old.clone();
    stage.post_world().await;
    assert!(acceptance::now() < until, "this machine is too slow for this test");
    stage.judge().await.passes();
    tokio::time::sleep(Duration::from_secs(u64::try_from(until - acceptance::now() + 1).unwrap_or(1))).await;
    // The key's window is over; what was received inside it is still good. The environment makes it a new question.
    stage.get(&format!("/v1/verdict?image={}&environment=later", stage.world.image())).await.passes();
}

#[tokio::test]
async fn o01_a_signature_with_a_rotated_out_key_is_kept_and_never_counts() {
    let _twin = honest().await;
    let mut stage = Stage::empty().await;
    let old = Key::p256(&format!("old-{}", stage.tenant));
    let end = catenary_testkit::time::rfc3339(acceptance::now() - 60);
    let body = json!({"name": "old", "pem": old.public_pem(), "validUntil": end});
    stage.post("/v1/keys", &body).await.is(201);
    let policy = stage.world.policy().replace(&stage.world.k_ci.id(), &old.id());
    stage.apply("prod", &policy).await.is(201);
    stage.world.build.signer = old;
    stage.submit(stage.world.build_envelope().to_bytes()).await.is(201);
    stage.post_world().await;
    stage.judge().await.answers("O01");
}

#[tokio::test]
async fn k06_a_renamed_repository_with_the_same_id() {
    let stage = Stage::empty().await;
    let policy = stage.world.policy();
    let apply = async |repository: &str| {
        let section = format!("repository: {{uri: \"{REPOSITORY}\", id: \"{REPOSITORY_ID}\"}}");
        assert!(policy.contains(&section));
        let answer =
            stage.apply("prod", &policy.replace(&section, &format!("repository: {{{repository}}}"))).await;
        assert!([200, 201].contains(&answer.status), "{}", answer.show());
    };
    // The evidence has the old name: without a word about it, that is another repository.
    stage.post_world().await;
    let new = format!("uri: \"{REPOSITORY}-renamed\"");
    apply(&format!("{new}, id: \"{REPOSITORY_ID}\"")).await;
    stage.judge().await.denies("SRC_REPO_MISMATCH");
    apply(&format!("{new}, id: \"{REPOSITORY_ID}\", formerly: [\"{REPOSITORY}\"]")).await;
    stage.judge().await.answers("K06");
    // Somebody else's, who took the old name: another id.
    apply(&format!("{new}, id: \"4243\", formerly: [\"{REPOSITORY}\"]")).await;
    stage.judge().await.denies("SRC_REPO_ID_MISMATCH");
    // The new name is as good as before.
    let after = honest_as(|world| {
        world.build.source_uri = format!("{REPOSITORY}-renamed");
        world.source.repository = format!("{REPOSITORY}-renamed");
    });
    let stage = after.await;
    let policy = stage
        .world
        .policy()
        .replace(&format!("uri: \"{REPOSITORY}\""), &format!("{new}, formerly: [\"{REPOSITORY}\"]"));
    stage.apply("prod", &policy).await.is(201);
    stage.judge().await.answers("K06");
}

/// A stage on which a changed world was posted.
async fn honest_as(change: impl FnOnce(&mut World)) -> Stage {
    let mut stage = Stage::empty().await;
    change(&mut stage.world);
    stage.post_world().await;
    stage
}

#[tokio::test]
async fn k08_an_index_with_every_child_attested() {
    let mut stage = Stage::empty().await;
    let images = stage.world.index.images.iter();
    stage.world.build.subjects = images.map(|image| Subject::image(RESOURCE, &image.digest())).collect();
    stage.play_honest().await;
}

#[tokio::test]
async fn k09_hostile_unrelated_evidence_does_not_flip_allow() {
    let stage = honest().await;
    let mallory = stage.world.k_mallory.clone();
    let mut evil = stage.world.build.clone();
    evil.source_commit = Some("e".repeat(40));
    evil.builder_id = "https://evil.test".into();
    let mut source = stage.world.source.clone();
    source.repository = "git+https://evil.test/acme/app".into();
    for statement in [evil.statement(), source.statement()] {
        let answer = stage.submit(statement.signed_by(&mallory).to_bytes()).await.is(201);
        assert_eq!(answer.text("status"), "unverified");
    }
    let verdict = stage.judge().await;
    verdict.passes();
    assert!(verdict.near_misses().contains(&"ATT_SIGNER_UNKNOWN".to_owned()), "{}", verdict.show());
}

#[tokio::test]
async fn k12_all_outbound_network_blocked() {
    let unshared =
        std::process::Command::new("unshare").args(["-rn", "true"]).status().is_ok_and(|s| s.success());
    if !unshared || !installed("ip") && !installed("ifconfig") {
        return skip("k12_all_outbound_network_blocked", "no network namespace can be made here");
    }
    // The namespace has a loopback and nothing else; so service, database and client are all in it.
    let data = tempfile::Builder::new().prefix("catenary-k12-").tempdir().unwrap();
    let script = format!(
        "ip link set lo up || exit 9; export CATENARY_DATA={data} CATENARY_LISTEN=127.0.0.1:8440; exec {program} demo --exit --output json",
        data = data.path().display(),
        program = acceptance::app::program().display(),
    );
    let run =
        tokio::process::Command::new("unshare").args(["-n", "sh", "-c", &script]).output().await.unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let error = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{text}{error}");
    let value: serde_json::Value =
        serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{e}: {text}{error}"));
    assert_eq!(value["verdicts"][0]["outcome"], "PASSED", "{value:#}");
}

#[tokio::test]
async fn k14_every_kind_of_key_signs_the_golden_statement() {
    let stage = honest().await;
    let name = &stage.tenant;
    let keys = [
        Key::ed25519(&format!("k14-{name}")),
        Key::p256(&format!("k14-{name}")),
        Key::p384(&format!("k14-{name}")),
        Key::p521(&format!("k14-{name}")),
        Key::rsa_pkcs1("k14"),
        Key::rsa_pss("k14"),
    ];
    for key in keys {
        let scheme = key.scheme().name();
        stage.add_key(scheme, &key.public_pem(), Some(scheme)).await.is(201);
        let answer = stage.submit(stage.world.build.statement().signed_by(&key).to_bytes()).await.is(201);
        assert_eq!(answer.text("status"), "verified", "{scheme}");
    }
    stage.judge().await.passes();
}

#[tokio::test]
async fn k01_the_signed_verdict_is_about_the_image() {
    let stage = honest().await;
    let app = App::shared().await;
    let answer =
        stage.get(&format!("/v1/verdict?image={}&environment=prod&format=vsa", stage.world.image())).await;
    let envelope = answer.is(200).0;
    let folder = tempfile::tempdir().unwrap();
    let (file, pem) = (folder.path().join("vsa.json"), folder.path().join("vsa.pem"));
    std::fs::write(&file, envelope.to_string()).unwrap();
    std::fs::write(&pem, app.anonymous().get("/.well-known/catenary/vsa.pem").await.body).unwrap();
    let verify = |file: &std::path::Path, image: &str| {
        app.run(&[
            "verify-vsa",
            &file.display().to_string(),
            "--key",
            &pem.display().to_string(),
            "--image",
            image,
        ])
    };
    let image = stage.world.image();
    let run = verify(&file, &image);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    // Another image, or one bit of the payload: no.
    assert_eq!(
        verify(&file, &stage.world.image_of(&format!("sha256:{}", "0123456789abcdef".repeat(4))))
            .status
            .code(),
        Some(1)
    );
    let mut tampered = envelope.clone();
    let payload = tampered["payload"].as_str().unwrap().to_owned();
    let swapped = if payload.ends_with('0') { '1' } else { '0' };
    tampered["payload"] = format!("{swapped}{}", &payload[1..]).into();
    std::fs::write(&file, tampered.to_string()).unwrap();
    assert!(!verify(&file, &image).status.success());
}
