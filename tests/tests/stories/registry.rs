//! The registry stage on a real registry.

use std::time::{Duration, Instant};

use acceptance::{App, Stage, installed, registry::Registry, skip};
use catenary_testkit::{World, world::GIT_COMMIT};
use serde_json::json;

const BEARER: &str = "a-static-bearer-of-the-tests";

/// A service that collects from a registry, with everything but what the registry says.
async fn service(host: &str) -> (App, Stage) {
    let config = format!(
        "[[registry]]\nname = \"{host}\"\nurl = \"http://{host}\"\ntenant = \"default\"\nnotification_token = \"{BEARER}\"\n"
    );
    let app = App::builder().await.config(&config).start().await;
    let admin = app.admin();
    let mut world = World::golden(acceptance::unique(), acceptance::now());
    let resource = format!("{host}/acme/app");
    world.resource = resource.clone();
    for subject in &mut world.build.subjects {
        subject.name = Some(resource.clone());
    }
    let policy = world
        .policy()
        .replace(
            &format!("signer: {{key: \"{}\"}}, repositories: [\"registry.acme.test/**\"]", world.k_reg.id()),
            &format!("signer: {{service: collector}}, repositories: [\"{host}/**\"]"),
        )
        .replace("registry.acme.test/acme/*", &format!("{host}/acme/*"));
    assert!(policy.contains("service: collector"), "{policy}");
    for (name, pem, scheme) in world.keys() {
        admin.add_key(&name, &pem, Some(&scheme)).await.is(201);
    }
    admin.apply("prod", &policy).await.is(201);
    let stage = Stage { tenant: "default".into(), admin, world };
    stage
        .push_object(&catenary_testkit::oci::Blob::new(GIT_COMMIT, stage.world.commit.bytes()))
        .await
        .is(201);
    stage.post_envelopes(&[stage.world.source_envelope(), stage.world.build_envelope()]).await;
    (app, stage)
}

async fn passes_soon(stage: &Stage) {
    let begun = Instant::now();
    loop {
        let verdict = stage.judge().await;
        if verdict.json()["outcome"] == "PASSED" {
            verdict.passes();
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", verdict.show());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn registry_events(stage: &Stage) -> usize {
    stage
        .get("/v1/attestations?predicateType=urn:catenary:predicate:registry-event:v1")
        .await
        .is(200)
        .list("items")
        .len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_a_real_registry_closes_the_chain() {
    if !installed("docker-registry") {
        return skip("a_push_to_a_real_registry_closes_the_chain", "docker-registry is not installed");
    }
    let host = Registry::host();
    let (app, stage) = service(&host).await;
    let registry = Registry::start(Some(&host), &format!("{}/v1/events/distribution", app.url), BEARER).await;
    assert_eq!(stage.judge().await.outcome(), "FAILED");
    registry.push("acme/app", &stage.world.index, "1.0.0").await;
    passes_soon(&stage).await;

    // The same once more, by tag and by hand, twice and in the wrong order: harmless.
    registry.push("acme/app", &stage.world.index, "1.0.0").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let events = registry_events(&stage).await;
    let event = |id: &str, digest: &str, action: &str| {
        json!({"events": [{"id": id, "timestamp": "2026-11-20T19:32:58.440174808Z", "action": action,
            "target": {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "repository": "acme/app", "tag": "1.0.0",
                       "url": format!("http://{host}/v2/acme/app/manifests/{digest}")},
            "request": {"host": host, "method": "PUT"}, "actor": {}, "source": {}}]})
    };
    let notify = stage.with(BEARER);
    let digest = stage.world.index.digest();
    let bogus = format!("sha256:{}", "0123456789abcdef".repeat(4));
    for (id, digest, action) in [
        ("b", &digest, "push"),
        ("a", &digest, "push"),
        ("b", &digest, "push"),
        ("c", &bogus, "push"),
        ("d", &digest, "delete"),
        ("e", &digest, "pull"),
    ] {
        let answer = notify.post("/v1/events/distribution", &event(id, digest, action)).await;
        assert!([200, 202].contains(&answer.status), "{}", answer.show());
    }
    stage
        .with("another-bearer-altogether")
        .post("/v1/events/distribution", &event("x", &digest, "push"))
        .await
        .is(401);
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.judge().await.passes();
    let after = registry_events(&stage).await;
    assert!(after <= events + 2, "{events} events became {after}");
    assert_eq!(stage.verdict(&stage.world.image_of(&bogus)).await.outcome(), "FAILED");
    // A tag is refused with the digest that it points to.
    let tag = stage.verdict(&format!("{host}/acme/app:1.0.0")).await;
    tag.is_problem(400, "REQ_TAG_NOT_DIGEST");
    assert!(tag.show().contains(&digest), "{}", tag.show());
    // The registry's own word for an image that nobody built is not enough.
    let unbuilt = World::golden(acceptance::unique(), acceptance::now()).index;
    registry.push("acme/app", &unbuilt, "evil").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.verdict(&stage.world.image_of(&unbuilt.digest())).await.denies("BLD_NO_PROVENANCE");
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_from_a_registry_is_not_deployed_from_it() {
    let name = "what_was_deleted_from_a_registry_is_not_deployed_from_it";
    if !installed("docker-registry") {
        return skip(name, "docker-registry is not installed");
    }
    let host = Registry::host();
    let (app, stage) = service(&host).await;
    let registry = Registry::start(Some(&host), &format!("{}/v1/events/distribution", app.url), BEARER).await;
    registry.push("acme/app", &stage.world.index, "1.0.0").await;
    passes_soon(&stage).await;
    registry.delete("acme/app", &stage.world.index.digest()).await;
    let begun = Instant::now();
    while !stage.judge().await.codes().contains(&"REG_DELETED".to_owned()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", stage.judge().await.show());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stage.judge().await.denies("REG_DELETED");
    // It is good again where it is pushed again.
    registry.push("acme/app", &stage.world.index, "1.0.1").await;
    passes_soon(&stage).await;
    app.log_is_clean();
}

/// What the collector stated of a digest, newest first: the tag, and what it pointed to before.
async fn pushes_of(stage: &Stage, digest: &str) -> Vec<(serde_json::Value, serde_json::Value)> {
    let path = format!("/v1/facts?digest={digest}");
    let items = stage.get(&path).await.is(200).list("items");
    let events =
        items.iter().filter(|item| item["predicateType"].as_str().unwrap().contains("registry-event"));
    events.map(|item| item["claim"].clone()).map(|e| (e["tag"].clone(), e["previous"].clone())).collect()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moved_is_said_of_the_image_that_it_moved_to() {
    let name = "a_tag_that_moved_is_said_of_the_image_that_it_moved_to";
    if !installed("docker-registry") {
        return skip(name, "docker-registry is not installed");
    }
    let host = Registry::host();
    let (app, stage) = service(&host).await;
    let registry = Registry::start(Some(&host), &format!("{}/v1/events/distribution", app.url), BEARER).await;
    let document = stage.get("/v1/policies/prod").await.is(200).text("document").to_owned();
    let strict = document.replacen("  registry: {", "  registry: {movedTags: deny, ", 1);
    assert_ne!(strict, document, "{document}");
    stage.admin.apply("prod", &strict).await.is(201);
    let (ours, other) = (&stage.world.index, World::golden(acceptance::unique(), acceptance::now()).index);
    let (own, foreign) = (json!(ours.digest()), json!(other.digest()));

    registry.push("acme/app", &other, "1.0.0").await;
    until("the first", async || {
        stage.get(&format!("/v1/facts?digest={}", other.digest())).await.status == 200
    })
    .await;
    registry.push("acme/app", ours, "1.0.1").await;
    passes_soon(&stage).await;
    // Another tag of the repository is no tag that moved, and the same push again is no move.
    registry.push("acme/app", ours, "1.0.1").await;
    assert_eq!(pushes_of(&stage, &ours.digest()).await, [(json!("1.0.1"), json!(null))]);

    registry.push("acme/app", ours, "1.0.0").await;
    until("the tag moved", async || stage.judge().await.codes().contains(&"REG_TAG_MOVED".to_owned())).await;
    let pushes = pushes_of(&stage, &ours.digest()).await;
    assert_eq!(pushes, [(json!("1.0.0"), foreign), (json!("1.0.1"), json!(null))]);
    // Back again, which no notification tells: the tag was ours before.
    app.run(&["registry", "reconcile"]);
    let before = pushes_of(&stage, &other.digest()).await;
    assert_eq!(before.len(), 1, "nothing new: {before:?}");
    registry.push("acme/app", &other, "1.0.0").await;
    until("it came back", async || pushes_of(&stage, &other.digest()).await.len() == 2).await;
    assert_eq!(pushes_of(&stage, &other.digest()).await[0], (json!("1.0.0"), own));

    // What happened before says nothing of where the tag pointed.
    let notify = stage.with(BEARER);
    let late = json!({"events": [{"id": "late", "timestamp": "2020-01-01T00:00:00Z", "action": "push",
        "target": {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": ours.digest(), "repository": "acme/app", "tag": "1.0.0"},
        "request": {"host": host}, "actor": {}, "source": {}}]});
    notify.post("/v1/events/distribution", &late).await.is(202);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pushes_of(&stage, &ours.digest()).await.len(), 2);
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_notifications_are_caught_up_by_reconciling() {
    if !installed("docker-registry") {
        return skip("lost_notifications_are_caught_up_by_reconciling", "docker-registry is not installed");
    }
    let host = Registry::host();
    let (app, stage) = service(&host).await;
    // Nobody listens where this registry reports to.
    let registry = Registry::start(Some(&host), "http://127.0.0.1:9/", BEARER).await;
    registry.push("acme/app", &stage.world.index, "1.0.0").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.judge().await.denies("REG_NOT_OBSERVED");
    let run = app.run(&["registry", "reconcile", "--output", "json"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    passes_soon(&stage).await;
    // Once more finds nothing new.
    let events = registry_events(&stage).await;
    stage.post("/v1/registry/reconcile", &json!({})).await.is(200);
    assert_eq!(registry_events(&stage).await, events);
}
