//! What happened in the thirty minutes before and after.

use acceptance::{App, Stage, http::escape};
use catenary_testkit::registry::RegistryEvidence;
use serde_json::{Value, json};

/// Every item, page by page, and whether they are in order.
async fn timeline(stage: &Stage, query: &str, limit: u32) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::<Value>::new(), String::new());
    loop {
        let page = stage.get(&format!("/v1/timeline?limit={limit}&{query}{cursor}")).await.is(200);
        found.extend(page.list("items"));
        match page.0["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
        assert!(found.len() < 2_000, "the pages do not end");
    }
    let time = |item: &Value| item["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(found.windows(2).all(|pair| time(&pair[0]) <= time(&pair[1])), "out of order");
    let mut ids: Vec<String> = found.iter().map(|item| format!("{} {}", item["kind"], item["id"])).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), found.len(), "an item is there twice");
    found
}

fn kinds(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["kind"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_about_an_image_in_order_in_one_call() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let image = stage.world.image();
    let digest = image.split_once('@').unwrap().1.to_owned();
    stage.get(&format!("/v1/gate?image={}&environment=prod", escape(&image))).await.is(200);
    let deployment =
        json!({"environment": "prod", "application": "shop", "workload": "deployment/api", "image": image});
    let answer = stage.post("/v1/deployments", &deployment).await;
    assert!(answer.status < 300, "{}", answer.show());
    stage.revoke_key(&stage.world.k_ci.id(), "stolen").await.is(200);
    let elsewhere = format!("/v1/gate?image={}&environment=prod", escape(&image));
    stage.get(&elsewhere).await.is_problem(403, "GATE_DENIED");

    let all = timeline(&stage, &format!("digest={digest}"), 200).await;
    let seen = kinds(&all);
    for kind in [
        "trust.added",
        "policy.applied",
        "object",
        "build",
        "commit",
        "registry.push",
        "decision",
        "deployment.started",
        "revocation",
    ] {
        assert!(seen.contains(&kind), "{kind} is not among {seen:?}");
    }
    let place = |kind: &str| seen.iter().position(|k| *k == kind).unwrap();
    let last = seen.iter().rposition(|kind| *kind == "decision").unwrap();
    assert!(place("build") < place("decision") && place("revocation") < last, "{seen:?}");
    assert!(all[last]["summary"].as_str().unwrap().starts_with("denied"), "{}", all[last]);
    let revoked = &all[place("revocation")];
    assert!(revoked["summary"].as_str().unwrap().contains("stolen"), "{revoked}");
    assert!(revoked["logIndex"].is_u64(), "{revoked}");
    // Both times, where they differ.
    let push = &all[place("registry.push")];
    assert!(push["claimed"].is_string() && push["claimed"] != push["time"], "{push}");
    // The links lead somewhere.
    for item in &all {
        for link in item["links"].as_object().unwrap().values() {
            stage.get(link.as_str().unwrap()).await.is(200);
        }
    }
    // The same in small pages, and by a window.
    for limit in [1, 2, 3, 7] {
        assert_eq!(timeline(&stage, &format!("digest={digest}"), limit).await, all, "in pages of {limit}");
    }
    let from = revoked["time"].as_str().unwrap();
    let after = timeline(&stage, &format!("digest={digest}&from={from}"), 5).await;
    assert_eq!(after, all[place("revocation")..].to_vec());
    let before = timeline(&stage, &format!("digest={digest}&around={from}&before=30m&after=0s"), 5).await;
    assert_eq!(before, all[..place("revocation")].to_vec());
    assert!(timeline(&stage, &format!("digest={digest}&around=2020-01-01T00:00:00Z"), 5).await.is_empty());

    // By everything else that it can be asked by.
    let commit = all.iter().find(|item| item["kind"] == "commit").unwrap();
    let about = stage.get(&format!("/v1/timeline?digest={digest}")).await.is(200).list("about");
    let oid = about.iter().find_map(|node| node.as_str()?.strip_prefix("gitCommit:")).unwrap().to_owned();
    let of_commit = timeline(&stage, &format!("commit={oid}"), 50).await;
    assert!(of_commit.contains(commit), "{of_commit:?}");
    assert!(kinds(&of_commit).contains(&"build") && kinds(&of_commit).contains(&"decision"));
    let by = timeline(&stage, &format!("signer={}", stage.world.k_ci.id()), 50).await;
    assert!(kinds(&by).contains(&"build") && !kinds(&by).contains(&"registry.push"), "{:?}", kinds(&by));
    for query in ["application=shop", "environment=prod", "application=shop&environment=prod"] {
        let of = timeline(&stage, query, 50).await;
        assert!(kinds(&of).contains(&"deployment.started") && kinds(&of).contains(&"decision"), "{query}");
    }
    let resource = image.split_once('@').unwrap().0.to_owned();
    let of = timeline(&stage, &format!("repository={resource}"), 50).await;
    assert!(kinds(&of).contains(&"registry.push") && kinds(&of).contains(&"decision"), "{:?}", kinds(&of));

    // Who asked is for auditors.
    let made = stage.token(&json!({"name": "x", "role": "reader", "expiresIn": "1h"})).await.is(201);
    let reader = stage.with(made.text("token"));
    let page = reader.get(&format!("/v1/timeline?digest={digest}&limit=200")).await.is(200);
    assert!(!page.0.to_string().contains("asked by"));
    assert!(all[last]["summary"].as_str().unwrap().contains("asked by"));
    for bad in [
        "",
        "around=now",
        "digest=x",
        "commit=zz",
        "issuer=https://x.test",
        &format!("digest={digest}&before=1w"),
        &format!("digest={digest}&from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z"),
        &format!("digest={digest}&to=2026-01-01T00:00:00Z"),
        &format!("digest={digest}&cursor=AAAA"),
        &format!("digest={digest}&limit=0"),
    ] {
        let answer = stage.get(&format!("/v1/timeline?{bad}")).await;
        assert!([400, 422].contains(&answer.status), "{bad}: {}", answer.show());
    }

    // And as a command.
    let run = app
        .builder
        .command(&["timeline", &image, "--window", "30m"])
        .env("CATENARY_SERVER", &app.url)
        .env("CATENARY_TOKEN", stage.token.as_ref().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success() && text.lines().count() == all.len(), "{text}");
    assert!(text.contains("deployment.started") && text.contains("stolen"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_images_story_has_the_push_by_which_its_tag_moved_away() {
    let stage = Stage::empty().await;
    stage.post_world().await;
    let image = stage.world.image();
    let (resource, digest) = image.split_once('@').unwrap();
    let mut push = RegistryEvidence::push(resource, &format!("sha256:{}", "ab".repeat(32)), stage.world.now);
    push.tag = Some("1.0".into());
    push.previous_digest = Some(digest.to_owned());
    stage.post_envelopes(&[push.statement().signed_by(&stage.world.k_reg)]).await;
    let moves = |items: &[Value]| {
        items.iter().filter(|item| item["summary"].as_str().unwrap().contains("tag moved from")).count()
    };
    for limit in [1, 50] {
        let all = timeline(&stage, &format!("digest={digest}"), limit).await;
        assert_eq!(moves(&all), 1, "in pages of {limit}: {:?}", kinds(&all));
    }
    assert_eq!(moves(&timeline(&stage, &format!("repository={resource}"), 50).await), 1);
    // A repository and a commit are found in whichever way they are written.
    for repository in ["https://git.acme.test/acme/app", "git+https://git.acme.test/acme/app.git"] {
        let of = timeline(&stage, &format!("repository={}", escape(repository)), 50).await;
        assert!(
            kinds(&of).contains(&"build") && kinds(&of).contains(&"commit"),
            "{repository}: {:?}",
            kinds(&of)
        );
    }
    let oid = stage.world.commit.oid();
    let of = timeline(&stage, &format!("commit=gitCommit:{oid}"), 50).await;
    assert!(kinds(&of).contains(&"build") && moves(&of) == 1, "{:?}", kinds(&of));
    let bad = stage.get("/v1/impact?repository=acme/app").await.is_problem(400, "REQ_QUERY").0.to_string();
    assert!(bad.contains("git URI"), "{bad}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hits_an_index_hits_its_platforms_whichever_is_asked_about() {
    let stage = Stage::empty().await.play_honest().await;
    let image = stage.world.image();
    let index = image.split_once('@').unwrap().1;
    let platform = stage.world.index.images[0].digest();
    stage.verdict(&stage.world.image_of(&platform)).await.passes();
    let items = stage.get(&format!("/v1/impact?artifact={platform}")).await.is(200).list("items");
    let of_index = items.iter().find(|item| item["artifact"] == index);
    assert!(of_index.is_some(), "{items:?}");
}
