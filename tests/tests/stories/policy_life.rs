//! How a policy comes to decide: written in one line, tried, approved, activated.

use acceptance::{App, Stage};

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
