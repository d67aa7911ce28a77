//! What is known of an image beside how it was made: its packages, its scans, what its makers say of vulnerabilities, and
//! what others verified.

use acceptance::{App, Client, Stage};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_testkit::{
    Key, Statement, World,
    oci::{Image, Index, layer},
    registry::RegistryEvidence,
    world::subjects,
};
use serde_json::{Value, json};

const ZLIB: &str = "pkg:generic/zlib@1.3.1";
const CYCLONEDX: &str = "https://cyclonedx.org/bom";
const VULNS: &str = "https://in-toto.io/attestation/vulns/v0.1";
const OPENVEX: &str = "https://openvex.dev/ns/v0.2.0";

/// One program and nothing else: no package manager could say what is in it.
fn from_scratch(world: &mut World) {
    let image = |platform: &str| {
        let binary = format!("static program {} {platform}", world.now);
        Image::new(platform, vec![layer(&[("app", binary.as_bytes())])])
    };
    world.index = Index::new(vec![image("linux/amd64"), image("linux/arm64")]);
    world.build.body.base = None;
    world.build.body.subjects = subjects(&world.resource, &world.index);
    let pushed = world.now - 420;
    world.push.body = RegistryEvidence::push(&world.resource, &world.index.digest(), pushed);
}

/// Signs a predicate about the whole image and posts it.
async fn says(stage: &Stage, by: &Key, predicate_type: &str, predicate: Value) {
    let statement = Statement::new(predicate_type, predicate);
    let about = subjects(&stage.world.resource, &stage.world.index);
    stage.submit(statement.with_subjects(about).signed_by(by).to_json()).await.is(201);
}

fn scan(minutes_ago: i64, findings: &[(&str, &str)]) -> Value {
    let finished = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes_ago);
    let found: Vec<Value> = findings
        .iter()
        .map(|(id, severity)| json!({"id": id, "severity": severity, "package": {"purl": ZLIB}}))
        .collect();
    json!({"scanner": {"uri": "pkg:generic/scanner", "result": found},
           "metadata": {"scanFinishedOn": finished.to_string()}})
}

fn vex(seconds_ago: i64, vulnerability: &str, status: &str, justification: Option<&str>) -> Value {
    let issued = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds_ago);
    json!({"@context": OPENVEX, "author": "psirt", "timestamp": issued.to_string(), "version": 1, "statements": [
        {"vulnerability": {"name": vulnerability}, "status": status, "justification": justification}]})
}

/// The world's policy with members of `trust` and of `spec` added.
async fn apply(stage: &Stage, trust: &str, spec: &str) {
    let document = stage.world.policy().replace("    registries:\n", &format!("{trust}    registries:\n"));
    stage.apply("prod", &format!("{document}{spec}")).await.is(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_from_scratch_image_is_judged_by_what_is_known_of_it() {
    let app = App::start().await;
    let mut stage = Stage::in_app(&app).await;
    from_scratch(&mut stage.world);
    let (ci, scanner, psirt) = (stage.world.k_ci.clone(), Key::p256("scanner"), Key::ed25519("psirt"));
    let stranger = Key::p256("a stranger's scanner");
    for (name, key) in [("scanner", &scanner), ("psirt", &psirt), ("stranger", &stranger)] {
        stage.add_key(name, &key.public_pem(), None).await.is(201);
    }
    let trust = format!("    vex: [{{id: psirt, signer: {{key: \"{}\"}}}}]\n", psirt.id());
    let spec = format!(
        r#"  require:
    - {{id: sbom, predicate: [spdx, cyclonedx], perPlatform: true, signer: {{anyOf: [ci]}}}}
    - {{id: vulns, predicate: [vulns], signer: {{key: "{}"}}, maxAge: 24h, vulnerabilities: {{max: {{critical: 0}}, vex: honour}}}}
  negatives: {{vex: {{from: [psirt]}}}}
"#,
        scanner.id()
    );
    apply(&stage, &trust, &spec).await;
    stage.post_world().await;

    // A good build alone is not enough now.
    let verdict = stage.judge().await;
    verdict.denies("PRP_SBOM_MISSING");
    verdict.denies("PRP_MISSING");
    let library = json!({"type": "library", "name": "zlib", "version": "1.3.1", "purl": ZLIB});
    let sbom = json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [library]});
    says(&stage, &ci, CYCLONEDX, sbom).await;
    let digest = stage.world.index.digest();
    let found = stage.get(&format!("/v1/components?purl=pkg:generic/zlib&digest={digest}")).await.is(200);
    assert_eq!(found.list("items")[0]["version"], "1.3.1");
    says(&stage, &stranger, VULNS, scan(1, &[])).await;
    let verdict = stage.judge().await;
    assert_eq!(verdict.codes(), ["PRP_SIGNER_NOT_TRUSTED"; 1], "{}", verdict.show());
    assert!(verdict.near_misses().contains(&"PRP_SIGNER_NOT_TRUSTED".into()));
    says(&stage, &scanner, VULNS, scan(60, &[("CVE-2026-1", "low")])).await;
    let passed = stage.judge().await.passes();
    let stages: Vec<&str> =
        passed.0["links"].as_array().unwrap().iter().filter_map(|l| l["stage"].as_str()).collect();
    assert_eq!(stages.iter().filter(|stage| **stage == "property").count(), 3, "{stages:?}");

    // A newer scan finds something; who made the image says why it is nothing.
    says(&stage, &scanner, VULNS, scan(50, &[("CVE-2026-2", "critical")])).await;
    stage.judge().await.denies("PRP_VULN_THRESHOLD");
    says(&stage, &stranger, OPENVEX, vex(40, "CVE-2026-2", "not_affected", Some("component_not_present")))
        .await;
    says(&stage, &psirt, OPENVEX, vex(35, "CVE-2026-2", "not_affected", None)).await;
    stage.judge().await.denies("PRP_VULN_THRESHOLD");
    let reason = Some("vulnerable_code_not_in_execute_path");
    says(&stage, &psirt, OPENVEX, vex(30, "CVE-2026-2", "not_affected", reason)).await;
    stage.judge().await.passes();

    // Nothing was scanned again, and yet the answer changes: those who know say that it is affected.
    says(&stage, &psirt, OPENVEX, vex(20, "CVE-2026-1", "affected", None)).await;
    let verdict = stage.judge().await;
    assert_eq!((verdict.outcome().as_str(), verdict.codes()), ("FAILED", vec!["PRP_VEX_AFFECTED".into()]));
    says(&stage, &psirt, OPENVEX, vex(10, "CVE-2026-1", "fixed", None)).await;
    stage.judge().await.passes();
    app.log_is_clean();
}

/// A verification summary of the image by `verifier`.
fn summary(stage: &Stage, verifier: &str, result: &str) -> Value {
    json!({"verifier": {"id": verifier}, "timeVerified": jiff::Timestamp::now().to_string(),
           "resourceUri": stage.world.resource, "policy": {"uri": "https://acme.test/policy"},
           "verificationResult": result, "verifiedLevels": ["SLSA_BUILD_LEVEL_3"], "slsaVersion": "1.2"})
}

/// A policy under which a summary by the key stands for the build.
async fn delegate(stage: &Stage, key: &str, verifier: &str) {
    let trust = format!(
        "    verifiers: [{{id: other, signer: {{key: \"{key}\"}}, verifierId: {verifier}, policies: [\"https://acme.test/policy\"]}}]\n"
    );
    apply(stage, &trust, "  summary: {levels: {SLSA_BUILD: 3}, maxAge: 30d}\n").await;
}

async fn vsa_of(client: &Client, image: &str) -> String {
    let body = json!({"image": image, "environment": "prod"});
    let answer = client.post("/v1/verdict/vsa", &body).await;
    answer.is(200);
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// Who an envelope says verified.
fn verifier_of(envelope: &str) -> String {
    let envelope: Value = serde_json::from_str(envelope).unwrap();
    let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    statement["predicate"]["verifier"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_verifier_stands_for_a_build_and_this_service_never_for_itself() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await;
    let verifier = Key::p256("another verifier");
    stage.add_key("verifier", &verifier.public_pem(), None).await.is(201);
    let vsa = "https://slsa.dev/verification_summary/v1";
    let name = "https://verify.other.test";
    // Nothing is known of the build here, only that the image was pushed.
    stage.post_objects(&stage.world).await;
    stage.post_envelopes(&[stage.world.push_envelope()]).await;
    delegate(&stage, &verifier.id(), &format!("{{exact: \"{name}\"}}")).await;
    stage.judge().await.denies("VSA_MISSING");
    says(&stage, &verifier, vsa, summary(&stage, "https://evil.test", "PASSED")).await;
    stage.judge().await.denies("VSA_SIGNER_VERIFIER_PAIR");
    says(&stage, &verifier, vsa, summary(&stage, name, "PASSED")).await;
    let passed = stage.judge().await.passes();
    assert_eq!(passed.0["levels"]["SLSA_BUILD"], 3);
    // What we say of it ourselves, with a key that somebody registers as any other, goes round in a circle.
    let own = vsa_of(&stage, &stage.world.image()).await;
    says(&stage, &verifier, vsa, summary(&stage, name, "FAILED")).await;
    stage.judge().await.denies("VSA_FAILED");
    let pem = String::from_utf8(stage.get("/.well-known/catenary/vsa.pem").await.body.to_vec()).unwrap();
    let registered = stage.add_key("looks like another", &pem, None).await.is(201);
    let id = registered.text("id").to_owned();
    let us = verifier_of(&own);
    stage.submit(own).await.is(201);
    delegate(&stage, &id, &format!("{{exact: \"{us}\"}}")).await;
    stage.judge().await.denies("VSA_SELF_ISSUED");
    app.log_is_clean();
}
