//! How a policy comes to decide: written in one line, tried, approved, activated.

use acceptance::{App, Client, Stage, http::escape};
use serde_json::{Value, json};

const ONE_LINE: &str = "{apiVersion: catenary/v1, kind: ChainPolicy, spec: {github: acme/shop}}\n";

#[tokio::test]
async fn a_newcomer_protects_an_image_by_one_line_and_sees_what_it_stands_for() {
    let stage = Stage::empty().await;
    let applied = stage.apply("github-acme-shop", ONE_LINE).await.is(201);
    assert_eq!(applied.number("revision"), 1);

    // The log keeps the line; the evaluator reads what it stands for, and so can everybody.
    let shown = stage.get("/v1/policies/github-acme-shop?expanded=true").await.is(200);
    assert_eq!(shown.text("document"), ONE_LINE);
    let long = shown.text("expanded");
    for part in [
        "resources: [ghcr.io/acme/shop, \"ghcr.io/acme/shop/*\"]",
        "issuer: \"https://token.actions.githubusercontent.com\"",
        "san: {prefix: \"https://github.com/acme/shop/.github/workflows/\"}",
        "builderId: {equals: signer.san}",
        "uri: \"git+https://github.com/acme/shop\"",
        "minLevel: 2",
    ] {
        assert!(long.contains(part), "{part} is not in\n{long}");
    }
    let plain = stage.get("/v1/policies/github-acme-shop").await.is(200);
    assert!(plain.0["expanded"].is_null());

    // It decides for the image, and for nothing else.
    let digest = format!("sha256:{}", "12".repeat(32));
    let asked = format!("ghcr.io/acme/shop@{digest}");
    let verdict = stage.verdict(&asked).await.denies("ART_UNKNOWN");
    assert_eq!(verdict.0["policy"]["name"], "github-acme-shop");
    stage.verdict(&format!("ghcr.io/acme/shopping@{digest}")).await.denies("POL_NO_MATCH");

    // The same on the command line, with no service.
    let app = App::shared().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, ONE_LINE).unwrap();
    let run = app.run(&["policy", "explain", &file.display().to_string()]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(String::from_utf8_lossy(&run.stdout).trim(), long.trim());
}

#[tokio::test]
async fn p04_a_document_that_cannot_be_meant_is_refused_with_the_place_and_the_mend() {
    let stage = Stage::empty().await;
    let good = stage.world.policy();
    let old = stage.get("/v1/policies/prod").await.is(200);
    for (from, to, path, code) in [
        ("minLevel: 2", "minLevle: 2", "/spec/build/minLevle", "POL_INVALID"),
        ("atLeast: 1", "atLeast: 7", "/spec/build/builders/atLeast", "POL_INVALID"),
        ("minLevel: 2", "minLevel: 4", "/spec/build/minLevel", "POL_INVALID"),
        ("{exact: \"", "{regex: \".*", "/spec/trust/builders[0]/builderId", "POL_INVALID"),
        ("owner: sec", "owner: sec, expires: 2020-01-01T00:00:00Z", "/metadata/expires", "POL_EXPIRED"),
    ] {
        let document = good.replacen(from, to, 1);
        assert_ne!(document, good, "{from} is not in the policy");
        let problem = stage.apply("prod", &document).await.is_problem(422, code);
        assert_eq!(problem.text("pointer"), path);
        assert!(problem.number("line") > 0 && problem.number("column") > 0, "{}", problem.0);
    }
    let now = stage.get("/v1/policies/prod").await.is(200);
    assert_eq!((old.number("revision"), old.text("digest")), (now.number("revision"), now.text("digest")));
}

/// The honest world's evidence, as the service exports it, is a fixture.
async fn fixture(stage: &Stage) -> String {
    let image = stage.world.image();
    let (_, digest) = image.split_once('@').unwrap();
    let path = format!("/v1/artifacts/{digest}/evidence?image={}&environment=prod", escape(&image));
    let exported = stage.get(&path).await;
    exported.is(200);
    String::from_utf8(exported.body.to_vec()).unwrap()
}

/// The world's policy with a test that the honest image passes.
fn tested(stage: &Stage) -> String {
    let image = stage.world.image();
    let test = format!(
        "  tests:\n    - {{name: honest, fixture: fixtures/honest.jsonl, image: \"{image}\", environment: prod, expect: {{outcome: PASSED, allowed: true}}}}\n"
    );
    stage.world.policy() + &test
}

async fn put(client: &Client, document: &str, fixtures: &Value) -> acceptance::http::Answer {
    let body = json!({ "document": document, "fixtures": fixtures });
    let request = client.request(reqwest::Method::PUT, "/v1/policies/prod").json(&body);
    client.send(request).await
}

#[tokio::test]
async fn a_failing_test_inside_the_document_is_refused_and_the_active_one_stays() {
    let stage = acceptance::honest().await;
    let (document, fixtures) = (tested(&stage), json!({"fixtures/honest.jsonl": fixture(&stage).await}));

    // Without the fixture nobody knows what the test says.
    stage.apply("prod", &document).await.is_problem(422, "POL_TEST_FAILED");
    let applied = put(&stage, &document, &fixtures).await.is(201);
    assert_eq!(applied.number("revision"), 2);
    put(&stage, &document, &fixtures).await.is(200);

    // A change that would deny the honest image is refused where the test stands.
    let strict = document.replace("refs/heads/main", "refs/heads/release");
    let problem = put(&stage, &strict, &fixtures).await.is_problem(422, "POL_TEST_FAILED");
    assert!(problem.text("detail").contains("SRC_REF_NOT_ALLOWED"), "{}", problem.0);
    assert_eq!(problem.text("pointer"), "/spec/tests[0]");
    let line = strict.lines().position(|line| line.contains("name: honest")).unwrap() + 1;
    assert_eq!(problem.number("line"), line as u64);
    assert!(!problem.text("hint").is_empty());
    assert_eq!(stage.get("/v1/policies/prod").await.is(200).number("revision"), 2);
    stage.judge().await.passes();

    // The same in the longer life: the draft is kept, its tests fail, it cannot be activated.
    let drafted = stage.post("/v1/policies/prod/drafts", &json!({ "document": strict })).await.is(201);
    assert_eq!((drafted.number("revision"), drafted.text("state")), (3, "draft"));
    let nothing = json!({});
    let activate = || stage.post("/v1/policies/prod/revisions/3/activate", &nothing);
    activate().await.is_problem(409, "POL_UNTESTED");
    let report =
        stage.post("/v1/policies/prod/revisions/3/test", &json!({ "fixtures": fixtures })).await.is(200);
    assert_eq!((report.number("passed"), report.number("failed")), (0, 1));
    activate().await.is_problem(409, "POL_UNTESTED");
    stage.judge().await.passes();

    // On the command line, with the fixture beside the file.
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("fixtures")).unwrap();
    std::fs::write(
        folder.path().join("fixtures/honest.jsonl"),
        fixtures["fixtures/honest.jsonl"].as_str().unwrap(),
    )
    .unwrap();
    for (document, code) in [(&document, 0), (&strict, 1)] {
        let file = folder.path().join("policy.yaml");
        std::fs::write(&file, document).unwrap();
        let run = App::shared().await.run(&["policy", "test", &file.display().to_string()]);
        assert_eq!(run.status.code(), Some(code), "{}", String::from_utf8_lossy(&run.stdout));
    }
}

#[tokio::test]
async fn two_people_change_a_policy_that_asks_for_approval() {
    let stage = acceptance::honest().await;
    let (ann, bob) = (stage.as_role("admin").await, stage.as_role("admin").await);
    let guarded = stage.world.policy().replace("owner: sec", "owner: sec, approvals: 1");
    stage.apply("prod", &guarded).await.is(201);

    let next = guarded.replace("minLevel: 2", "minLevel: 3");
    let drafted = ann.post("/v1/policies/prod/drafts", &json!({ "document": next })).await.is(201);
    assert_eq!((drafted.number("revision"), drafted.number("approvalsNeeded")), (3, 1));
    ann.post("/v1/policies/prod/drafts", &json!({ "document": next })).await.is(200);
    let of = |what: &str| format!("/v1/policies/prod/revisions/3/{what}");
    let refused = ann.post(&of("activate"), &json!({})).await.is_problem(403, "POL_UNSIGNED");
    assert_eq!((refused.number("have"), refused.number("need")), (0, 1));

    let approved = bob.post(&of("approve"), &json!({})).await.is(201);
    assert_eq!(approved.number("approvals"), 1);
    bob.post(&of("approve"), &json!({})).await.is(200);
    let active = ann.post(&of("activate"), &json!({})).await.is(201);
    assert_eq!(active.text("state"), "active");
    ann.post(&of("activate"), &json!({})).await.is(200);

    let verdict = stage.judge().await.passes();
    assert_eq!(verdict.0["policy"]["revision"], 3);
    let revisions = stage.get("/v1/policies/prod/revisions").await.is(200).list("items");
    let states: Vec<&str> = revisions.iter().filter_map(|r| r["state"].as_str()).collect();
    assert_eq!(states, ["active", "retired", "retired"]);
    let shown = stage.get("/v1/policies/prod/revisions/3").await.is(200);
    assert_eq!(shown.text("document"), next);

    // What changed, on the command line.
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let run =
        App::shared().await.run(&["policy", "diff", &file("old.yaml", &guarded), &file("new.yaml", &next)]);
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert_eq!(text.trim(), "~ spec.build.minLevel: 2 → 3");
}
