//! One line of policy meets the world: a name that is taken over, a builder at a branch, an image that is deleted.

use acceptance::{App, Stage, http::Client};
use catenary_testkit::{
    authority::{Authority, Claims},
    sha256_hex,
};
use serde_json::{Value, json};

const SHA: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
const RESOURCE: &str = "ghcr.io/acme/shop";

fn claims(repository_id: &str, owner_id: &str) -> Claims {
    Claims::github("acme/shop", ".github/workflows/release.yml", "refs/heads/main", SHA)
        .runner_environment("github-hosted")
        .source_repository_id(repository_id)
        .source_repository_owner_id(owner_id)
}

fn provenance(manifest: &[u8], id: &str) -> String {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": RESOURCE, "digest": {"sha256": sha256_hex(manifest)}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://actions.github.io/buildtypes/workflow/v1",
                "externalParameters": {"workflow": {
                    "ref": "refs/heads/main", "repository": "https://github.com/acme/shop",
                    "path": ".github/workflows/release.yml"}},
                "internalParameters": {"github": {
                    "event_name": "push", "runner_environment": "github-hosted", "repository_id": id}},
                "resolvedDependencies": [{
                    "uri": "git+https://github.com/acme/shop@refs/heads/main", "digest": {"gitCommit": SHA}}]
            },
            "runDetails": {"builder": {"id": claims("1", "1").san()}, "metadata": {}}
        }
    })
    .to_string()
}

/// Makes what the line stands for active, under a root of the test's own.
async fn protect(stage: &Stage, line: &str, change: impl Fn(String) -> String) {
    let document = format!("apiVersion: catenary/v1\nkind: ChainPolicy\nspec: {{{line}}}\n");
    let probe = document.replace("kind: ChainPolicy\n", "kind: ChainPolicy\nmetadata: {name: probe}\n");
    let probe = probe.replace("spec: {", "spec: {match: {resources: [probe.test/x]}, ");
    stage.apply("probe", &probe).await.is(201);
    let text = stage.get("/v1/policies/probe?expanded=true").await.is(200).text("expanded").to_owned();
    let text = text.replace("sigstore-public-good", "acme").replace("root: sigstore", "root: acme");
    let text = text.replace("name: probe", "name: github-acme-shop").replace("probe.test/x", RESOURCE);
    assert!(text.contains("pin: firstUse") || text.contains("sourceRepositoryOwnerId"), "{text}");
    stage.apply("github-acme-shop", &change(text)).await.is(201);
}

async fn image(admin: &Client) -> (Vec<u8>, String) {
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
            .to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(),
                   "digest": format!("sha256:{}", sha256_hex(config.as_bytes()))},
        "layers": [], "annotations": {"n": acceptance::unique().to_string()}
    })
    .to_string()
    .into_bytes();
    let of = |kind: &str| format!("application/vnd.oci.image.{kind}.v1+json");
    admin.post_bytes("/v1/objects", &of("manifest"), manifest.clone()).await.is(201);
    let answer = admin.post_bytes("/v1/objects", &of("config"), config).await;
    assert!([200, 201].contains(&answer.status), "{}", answer.show());
    let name = format!("{RESOURCE}@sha256:{}", sha256_hex(&manifest));
    (manifest, name)
}

async fn built(stage: &Stage, authority: &Authority, ids: (&str, &str)) -> String {
    let (manifest, name) = image(&stage.admin).await;
    let leaf = authority.leaf(&claims(ids.0, ids.1)).issue();
    let bundle = authority.attest(&leaf, &provenance(&manifest, ids.0)).timestamp().to_json();
    assert_eq!(stage.submit(bundle).await.is(201).text("status"), "verified");
    name
}

async fn furnished() -> (Stage, Authority) {
    let stage = Stage::empty().await;
    let authority = Authority::new("acme");
    let root = json!({"domain": "acme", "document": authority.trusted_root().to_json()});
    stage.post("/v1/trust", &root).await.is(201);
    (stage, authority)
}

#[tokio::test]
async fn a_repository_is_pinned_by_its_first_use_and_who_takes_its_name_over_gains_nothing() {
    let (stage, authority) = furnished().await;
    protect(&stage, "github: acme/shop", |text| text).await;
    let first = built(&stage, &authority, ("42", "7")).await;
    stage.verdict(&first).await.passes();
    let second = built(&stage, &authority, ("42", "7")).await;
    stage.verdict(&second).await.passes();

    let stolen = built(&stage, &authority, ("43", "7")).await;
    stage.verdict(&stolen).await.denies("SRC_REPO_ID_MISMATCH");
    let renamed = built(&stage, &authority, ("42", "8")).await;
    stage.verdict(&renamed).await.denies("SRC_REPO_ID_MISMATCH");
    stage.verdict(&first).await.passes();

    let events = stage.get("/v1/events?after=0&format=json&types=trust.*").await.is(200).list("items");
    let of = |kind: &str| events.iter().filter(|e| e["type"] == kind).cloned().collect::<Vec<Value>>();
    assert_eq!(of("trust.pinned").len(), 1, "{events:#?}");
    let told = of("trust.mismatch");
    assert_eq!(told.len(), 2, "{events:#?}");
    assert_eq!(told[0]["data"]["pinned"]["repositoryId"], "42");
    assert_eq!(told[0]["data"]["found"]["repositoryId"], "43");

    // Who moved it on purpose says so.
    let moved = "github: {repo: acme/shop, id: \"43\", ownerId: \"7\"}";
    protect(&stage, moved, |text| text).await;
    stage.verdict(&stolen).await.passes();
    stage.verdict(&first).await.is(200);
    assert_eq!(stage.verdict(&first).await.outcome(), "FAILED");
}

#[tokio::test]
async fn what_was_here_before_the_policy_pins_too() {
    let (stage, authority) = furnished().await;
    let first = built(&stage, &authority, ("42", "7")).await;
    let later = built(&stage, &authority, ("43", "7")).await;
    protect(&stage, "github: acme/shop", |text| text).await;
    stage.verdict(&first).await.passes();
    stage.verdict(&later).await.denies("SRC_REPO_ID_MISMATCH");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_hit_then_is_the_same_whatever_happened_since() {
    let app = App::start().await;
    let stage = Stage::in_default(&app).await.play_honest().await;
    let (image, digest) = (stage.world.image(), stage.world.index.digest().to_string());
    let deployed = json!({"environment": "prod", "application": "shop", "workload": "api", "image": image});
    stage.post("/v1/deployments", &deployed).await.is(201);
    let verdict = stage.judge().await.passes().0;
    let then = format!(
        "asOf={}&knownAt={}",
        acceptance::http::escape(verdict["evaluatedAt"].as_str().unwrap()),
        verdict["log"]["size"]
    );
    let ci = stage.world.k_ci.id();
    let asked = [
        format!("/v1/impact?key={ci}&{then}"),
        format!("/v1/impact?artifact={digest}&{then}"),
        format!("/v1/artifacts/{digest}?{then}"),
        format!("/v1/verdict?image={}&environment=prod&{then}", acceptance::http::escape(&image)),
    ];
    let mut before = Vec::new();
    for path in &asked {
        let answer = stage.get(path).await;
        answer.is(200);
        before.push(answer.body);
    }
    let hit = stage.get(&asked[1]).await.is(200).list("items");
    assert_eq!(hit[0]["verdicts"][0]["outcome"], "PASSED", "{hit:#?}");

    stage.revoke_key(&ci, "leaked").await.is(200);
    stage.judge().await.denies("ATT_REVOKED_SIGNER");
    for (path, before) in asked.iter().zip(&before) {
        assert_eq!(&stage.get(path).await.body, before, "{path}");
    }
    // The time of then with what is known now.
    let late = then.split('&').next().unwrap();
    let hit = stage.get(&format!("/v1/impact?artifact={digest}&{late}")).await.is(200).list("items");
    let told = &hit[0]["verdicts"][0];
    assert_eq!((&told["outcome"], &told["reason"]), (&json!("FAILED"), &json!("ATT_REVOKED_SIGNER")));
    assert_eq!(told["running"], json!([]), "it was told to run only afterwards: {told}");

    // Before its first entry the log knew nothing, and no waiting changes that.
    for at in ["0", "2001-01-01T00:00:00Z"] {
        stage.get(&format!("/v1/artifacts/{digest}?knownAt={at}")).await.is_problem(400, "REQ_QUERY");
        stage.get(&format!("/v1/impact?key={ci}&knownAt={at}")).await.is_problem(400, "REQ_QUERY");
    }
    stage.get(&format!("/v1/impact?key={ci}&asof=now")).await.is_problem(400, "REQ_QUERY");
    app.log_is_clean();
}

#[tokio::test]
async fn what_is_sent_twice_and_what_is_about_nothing_is_said() {
    let stage = Stage::empty().await;
    let envelope = stage.world.build_envelope().to_bytes();
    assert!(stage.submit(envelope.clone()).await.is(201).0["notes"].is_null());
    let again = stage.submit(envelope).await.is(200);
    assert_eq!(again.0["notes"][0]["code"], "ATT_DUPLICATE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trust_root_has_to_be_renewed_when_the_policy_says_so() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await;
    let authority = Authority::new("acme");
    let root = json!({"domain": "acme", "document": authority.trusted_root().to_json()});
    stage.post("/v1/trust", &root).await.is(201);
    let renewed = |text: String, age: &str| {
        text.replacen("  trust:\n", &format!("  trust:\n    maxRootAge: {age}\n"), 1)
    };
    protect(&stage, "github: acme/shop", |text| renewed(text, "1s")).await;
    let name = built(&stage, &authority, ("42", "7")).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let stale = stage.verdict(&name).await;
    assert_eq!(
        (stale.outcome().as_str(), stale.codes().contains(&"ATT_TRUSTROOT_STALE".to_owned())),
        ("INDETERMINATE", true)
    );
    assert_eq!(stale.is(200).0["allowed"], false);
    let document = stage.get("/v1/policies/github-acme-shop").await.is(200).text("document").to_owned();
    stage.apply("github-acme-shop", &document.replace("maxRootAge: 1s", "maxRootAge: 30d")).await.is(201);
    stage.verdict(&name).await.passes();
    app.log_is_clean();
}
