//! What else is hit, and what a change would do before it is made.

use std::collections::BTreeSet;

use acceptance::{App, Stage, http::escape};
use catenary_testkit::{Key, Statement, Subject, world::RESOURCE};
use serde_json::{Value, json};

/// The index and its platforms, all deployed.
async fn deployed(stage: &Stage) -> Vec<String> {
    let mut images = vec![stage.world.image()];
    images.extend(stage.world.index.images.iter().map(|image| stage.world.image_of(&image.digest())));
    for (n, image) in images.iter().enumerate() {
        let body = json!({"environment": "prod", "application": "shop", "workload": format!("deployment/{n}"), "image": image});
        let answer = stage.post("/v1/deployments", &body).await;
        assert!([200, 201].contains(&answer.status), "{}", answer.show());
        stage.verdict(image).await.passes();
    }
    images
}

async fn outcomes(stage: &Stage, images: &[String]) -> Vec<String> {
    let mut all = Vec::new();
    for image in images {
        all.push(stage.verdict(image).await.outcome());
    }
    all
}

fn flipped(items: &[Value]) -> BTreeSet<String> {
    items.iter().map(|item| item["image"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_nobody_applied_answers_one_question_alone() {
    let app = App::start().await;
    let stage = Stage::in_default(&app).await.play_honest().await;
    let question = json!({"image": stage.world.image(), "environment": "prod"});
    let tried = async |policy: &str| {
        let body = json!({"policy": policy, "question": question});
        stage.post("/v1/what-if", &body).await.is(200).0["verdict"].clone()
    };
    // Alone: the policy that is active and selects the same image does not come in its way.
    let same = tried(&stage.world.policy().replace("name: prod", "name: other")).await;
    assert_eq!((&same["outcome"], &same["policy"]["name"]), (&json!("PASSED"), &json!("other")), "{same}");
    let strict =
        stage.world.policy().replace("kinds: [image-index, image-manifest]", "kinds: [image-manifest]");
    assert_eq!(tried(&strict).await["outcome"], "FAILED");
    let none = stage.post("/v1/what-if", &json!({"question": question})).await;
    none.is_problem(400, "REQ_MEMBER");
    // From the command line, with a policy of one line. It is about another registry than this image's.
    for (forge, project) in [("--github", "acme/app"), ("--gitlab", "acme/app")] {
        let arguments = ["verdict", &stage.world.image(), forge, project, "--output", "json"];
        let run = tokio::task::block_in_place(|| app.run(&arguments));
        let verdict: Value = serde_json::from_slice(&run.stdout).unwrap();
        assert_eq!(run.status.code(), Some(1), "{verdict}");
        assert_eq!(verdict["reasons"][0]["code"], "POL_NO_MATCH", "{verdict}");
    }
    let policies = stage.get("/v1/policies").await.is(200).list("items");
    assert_eq!(policies.len(), 1, "nothing was written");
    stage.judge().await.passes();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stricter_policy_is_tried_over_what_runs_and_breaks_exactly_what_was_said() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let images = deployed(&stage).await;
    let stricter =
        stage.world.policy().replace("kinds: [image-index, image-manifest]", "kinds: [image-index]");
    let report = stage.post("/v1/what-if", &json!({"policy": stricter, "scope": "deployed"})).await.is(200);
    assert_eq!(
        (report.0["examined"].as_u64(), report.0["denied"].as_u64()),
        (Some(3), Some(2)),
        "{}",
        report.0
    );
    let items = report.list("items");
    assert_eq!(flipped(&items), images[1..].iter().cloned().collect());
    for item in &items {
        assert_eq!((&item["old"]["outcome"], &item["new"]["outcome"]), (&json!("PASSED"), &json!("FAILED")));
        assert_eq!(item["new"]["codes"], json!(["ART_KIND_UNSUPPORTED"]));
        assert!(
            item["mends"][0]["hint"].as_str().is_some_and(|hint| hint.contains("subject.kinds")),
            "{item}"
        );
        assert!(item["running"][0].as_str().unwrap().starts_with("prod/shop/deployment/"));
    }
    // Nothing was written, and the same comes as a stream, and page by page.
    assert_eq!(outcomes(&stage, &images).await, ["PASSED"; 3]);
    let streamed = stage.post("/v1/what-if", &json!({"policy": stricter, "format": "ndjson"})).await;
    let lines: Vec<Value> = String::from_utf8(streamed.body.to_vec())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.iter().filter(|line| line["type"] == "flip").count(), 2);
    assert_eq!(
        lines.last().map(|line| (line["type"].clone(), line["denied"].clone())),
        Some((json!("end"), json!(2)))
    );
    let (mut cursor, mut paged) = (Value::Null, Vec::new());
    for _ in 0..5 {
        let page = stage
            .post("/v1/what-if", &json!({"policy": stricter, "limit": 1, "cursor": cursor}))
            .await
            .is(200);
        paged.extend(page.list("items"));
        cursor = page.0["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(flipped(&paged), flipped(&items));
    // A document that cannot be read is refused with its place, not tried.
    let bad = stage.post("/v1/what-if", &json!({"policy": "spec: {buidl: {}}"})).await;
    assert!((400..500).contains(&bad.status), "{}", bad.show());

    stage.apply("prod", &stricter).await.is(201);
    assert_eq!(outcomes(&stage, &images).await, ["PASSED", "FAILED", "FAILED"]);
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_key_is_tried_before_it_is_revoked() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await;
    let before = jiff::Timestamp::now().to_string();
    let stage = stage.play_honest().await;
    let images = deployed(&stage).await;
    let key = stage.world.k_ci.id();
    let late = json!({"key": key, "from": jiff::Timestamp::now().to_string(), "reason": "leaked"});
    let nothing = stage.post("/v1/what-if", &json!({"revocation": late})).await.is(200);
    assert_eq!(nothing.0["denied"], 0);
    let leaked = json!({"key": key, "from": before, "reason": "leaked"});
    let report = stage.post("/v1/what-if", &json!({"revocation": leaked})).await.is(200);
    assert_eq!(flipped(&report.list("items")), images.iter().cloned().collect());

    // What it signed, and where that runs.
    let hit = stage.get(&format!("/v1/impact?key={}", escape(&key))).await.is(200).list("items");
    let digest = stage.world.index.digest();
    let image =
        hit.iter().find(|item| item["artifact"] == digest.as_str()).unwrap_or_else(|| panic!("{hit:?}"));
    let running = |item: &Value| {
        item["verdicts"].as_array().unwrap().iter().any(|v| v["running"][0] == "prod/shop/deployment/0")
    };
    assert!(running(image), "{image}");
    assert!(image["signers"].as_array().unwrap().contains(&json!(key)));

    stage.post("/v1/revocations", &leaked).await.is(201);
    assert_eq!(outcomes(&stage, &images).await, ["FAILED"; 3]);
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn impact_is_found_by_whatever_an_image_rests_on() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let key = Key::p256("scanner");
    stage.add_key("scanner", &key.public_pem(), None).await.is(201);
    let image = stage.world.index.digest();
    let hex = image.trim_start_matches("sha256:");
    let about = |predicate_type: &str, predicate: Value| {
        Statement::new(predicate_type, predicate)
            .subject(Subject::new(RESOURCE, "sha256", hex))
            .signed_by(&key)
            .to_json()
    };
    let sbom = json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [
        {"type": "library", "name": "openssl", "version": "3.0.11", "purl": "pkg:generic/openssl@3.0.11"}]});
    stage.submit(about("https://cyclonedx.org/bom", sbom)).await.is(201);
    let vex = json!({"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://acme.test/vex/1", "author": "acme",
        "timestamp": "2026-11-20T10:00:00Z", "version": 1, "statements": [{"vulnerability": {"name": "CVE-2026-1"},
        "products": [{"@id": "pkg:oci/app"}], "status": "affected", "action_statement": "update"}]});
    stage.submit(about("https://openvex.dev/ns/v0.2.0", vex)).await.is(201);

    let hits = async |query: &str| -> BTreeSet<String> {
        let items = stage.get(&format!("/v1/impact?{query}")).await.is(200).list("items");
        items.iter().map(|item| item["artifact"].as_str().unwrap().to_owned()).collect()
    };
    let world = &stage.world;
    let commit = world.build.source_commit.clone().unwrap();
    for query in [
        format!("builder={}", escape(&world.build.builder_id)),
        format!("commit={commit}"),
        format!("repository={}", escape(&world.source.repository)),
        format!("base={}", escape(&world.base.digest())),
        format!("artifact={}", escape(&image)),
        "purl=pkg:generic/openssl".to_owned(),
        "purl=pkg:generic/openssl%403.0.11".to_owned(),
        format!("purl=pkg:generic/openssl&versions={}", escape(">=3.0, <3.0.12")),
        "package=openssl".to_owned(),
        "vulnerability=CVE-2026-1".to_owned(),
    ] {
        assert!(hits(&query).await.contains(&image), "{query}");
    }
    for query in [
        "builder=https%3A%2F%2Fother.test".to_owned(),
        format!("base=sha256:{}", "7".repeat(64)),
        "purl=pkg:generic/openssl%403.0.12".to_owned(),
        format!("package=openssl&versions={}", escape(">=3.0.12")),
        "vulnerability=CVE-2026-2".to_owned(),
        "identity=https%3A%2F%2Fgithub.com%2F**".to_owned(),
    ] {
        assert!(hits(&query).await.is_empty(), "{query}");
    }
    for bad in ["", "key=x", "builder=a&commit=b", "versions=1", "package=a&versions=1", "purl=x", "issuer=a"]
    {
        assert_eq!(stage.get(&format!("/v1/impact?{bad}")).await.status, 400, "{bad}");
    }
    let stream = stage.get(&format!("/v1/impact?key={}&format=ndjson", escape(&world.k_ci.id()))).await;
    let last = String::from_utf8(stream.body.to_vec()).unwrap().lines().last().map(str::to_owned).unwrap();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!((&last["type"], &last["complete"]), (&json!("end"), &json!(true)));
}
