//! What runs is watched: when its answer changes, somebody is told.

use std::time::{Duration, Instant};

use acceptance::{App, Stage, cluster, http::Client};
use serde_json::{Value, json};

/// A stream of events, read one by one.
struct Events {
    response: reqwest::Response,
    buffer: String,
    /// The last id that was seen.
    last: Option<String>,
}

impl Events {
    async fn open(client: &Client, query: &str, last: Option<&str>) -> Self {
        let mut request = client.request(reqwest::Method::GET, &format!("/v1/events{query}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut events = Self { response, buffer: String::new(), last: None };
        // It says at once where it begins.
        assert!(events.block().await.unwrap().starts_with("id: "));
        events
    }

    /// The next block, without the heartbeats; `None` when the stream ended.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..at + 2).collect();
                let id = block.lines().find_map(|line| line.strip_prefix("id: "));
                self.last = id.map(str::to_owned).or(self.last.take());
                return Some(block);
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.response.chunk()).await;
            match chunk.expect("no event within 20 s") {
                Ok(Some(bytes)) => self.buffer += std::str::from_utf8(&bytes).unwrap(),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    async fn next(&mut self) -> Value {
        loop {
            let block = self.block().await.expect("the stream ended");
            if let Some(data) = block.lines().find_map(|line| line.strip_prefix("data: ")) {
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}

/// All events after a cursor, page by page, and the cursor after them.
async fn pages(client: &Client, after: &str, types: &str) -> (Vec<Value>, String) {
    let (mut all, mut at) = (Vec::new(), after.to_owned());
    loop {
        let path = format!("/v1/events?format=json&limit=7&after={at}&types={types}");
        let page = client.get(&path).await.is(200);
        all.extend(page.list("items"));
        let next = page.text("next").to_owned();
        if page.0["more"] != true && next == at {
            return (all, next);
        }
        at = next;
    }
}

fn deployment(image: &str) -> Value {
    json!({"environment": "prod", "application": "shop", "workload": "deployment/app", "image": image})
}

async fn listed(client: &Client, query: &str) -> Vec<Value> {
    client.get(&format!("/v1/deployments?{query}")).await.is(200).list("items")
}

async fn soon(client: &Client, query: &str, wanted: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let items = listed(client, query).await;
        if items.len() == wanted {
            return items;
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "{query}: {items:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_heard_of_by_those_who_run_what_it_signed() {
    let app = App::start().await;
    let stage = Stage::in_default(&app).await.play_honest().await;
    let image = stage.world.image();
    let mut events = Events::open(&stage, "?types=verdict.changed,revocation,deployment.*", None).await;

    let told = stage.post("/v1/deployments", &deployment(&image)).await.is(201);
    assert_eq!(told.0["verdict"]["allowed"], true, "{}", told.0);
    let again = stage.post("/v1/deployments", &deployment(&image)).await.is(200);
    assert_eq!((again.text("id"), &again.0["created"]), (told.text("id"), &json!(false)));
    let started = events.next().await;
    assert_eq!((&started["type"], &started["subject"]), (&json!("deployment.started"), &json!(image)));
    assert_eq!(listed(&stage, "running=true").await.len(), 1);
    assert!(listed(&stage, "state=denied").await.is_empty());

    let begun = Instant::now();
    stage.revoke_key(&stage.world.k_ci.id(), "leaked on Tuesday").await.is(200);
    let revoked = events.next().await;
    assert_eq!(revoked["type"], "revocation");
    assert_eq!(revoked["data"]["reason"], "leaked on Tuesday", "{revoked}");
    let changed = events.next().await;
    assert_eq!(changed["type"], "verdict.changed", "{changed}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let data = &changed["data"];
    assert_eq!((&data["image"], &data["environment"]), (&json!(image), &json!("prod")));
    assert_eq!((&data["old"]["allowed"], &data["new"]["allowed"]), (&json!(true), &json!(false)), "{data}");
    assert_eq!(data["new"]["outcome"], "FAILED");
    assert_eq!(data["cause"]["type"], "revocation", "{data}");
    assert_eq!(data["cause"]["index"], revoked["data"]["index"]);
    assert_eq!(data["cause"]["key"], stage.world.k_ci.id());

    for state in ["denied", "lapsed"] {
        let lapsed = soon(&stage, &format!("state={state}"), 1).await;
        assert_eq!(lapsed[0]["atStart"]["allowed"], true);
        assert_eq!(lapsed[0]["now"]["allowed"], false);
        assert_eq!(lapsed[0]["now"]["outcome"], "FAILED");
    }
    // What is told from now on was not allowed when it started: denied, and not lapsed.
    let mut canary = deployment(&image);
    canary["workload"] = "deployment/canary".into();
    stage.post("/v1/deployments", &canary).await.is(201);
    assert_eq!(listed(&stage, "state=denied").await.len(), 2);
    assert_eq!(listed(&stage, "state=lapsed").await.len(), 1);
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_it_ended_after_a_restart() {
    let app = App::start().await;
    let stage = Stage::in_default(&app).await.play_honest().await;
    let image = stage.world.image();
    let mut events = Events::open(&stage, "?after=0", None).await;
    stage.post("/v1/deployments", &deployment(&image)).await.is(201);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|event: &Value| event["type"] != "deployment.started") {
        seen.push(events.next().await);
    }
    let last = events.last.clone().unwrap();
    // Killed in the middle of what it has to tell.
    let revoking = stage.revoke_key(&stage.world.k_ci.id(), "leaked").await;
    revoking.is(200);
    let app = app.kill().start().await;
    let stage = Stage { admin: stage.admin.afresh(&app.url), ..stage };
    let mut events = Events::open(&stage, "", Some(&last)).await;
    let mut rest = Vec::new();
    while rest.last().is_none_or(|event: &Value| event["type"] != "verdict.changed") {
        rest.push(events.next().await);
    }
    let ids = |events: &[Value]| events.iter().map(|e| e["id"].to_string()).collect::<Vec<_>>();
    let (whole, end) = pages(&stage, "0", "").await;
    let mut both = ids(&seen);
    both.extend(ids(&rest));
    assert_eq!(both, ids(&whole), "something was lost or repeated");
    assert_eq!(rest.iter().filter(|e| e["type"] == "verdict.changed").count(), 1);
    assert!(whole.iter().any(|e| e["type"] == "evidence.added" && !e["data"]["subjects"].is_null()));
    assert!(whole.iter().all(|e| e["specversion"] == "1.0" && e["source"] == whole[0]["source"]));
    assert!(!whole.iter().any(|e| e["type"].as_str().unwrap().starts_with("token")), "{whole:?}");
    // Stopping ends the stream instead of leaving it hanging.
    let stopped = tokio::task::spawn_blocking(move || app.stop());
    while events.block().await.is_some() {}
    let app = stopped.await.unwrap().start().await;
    let stage = stage.admin.afresh(&app.url);
    assert!(pages(&stage, &end, "").await.0.is_empty());
    stage.get("/v1/events?format=json&after=x").await.is_problem(400, "REQ_PAGINATION");
    stage.get("/v1/events?format=json&types=A").await.is_problem(400, "REQ_QUERY");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_token_is_revoked_and_not_when_another_is() {
    let stage = Stage::empty().await;
    let made = stage.token(&json!({"name": "ear", "role": "reader", "expiresIn": "1h"})).await.is(201);
    let other = stage.token(&json!({"name": "other", "role": "reader", "expiresIn": "1h"})).await.is(201);
    let reader = stage.with(made.text("token"));
    let revoke = async |id: &str| {
        let why = json!({"reason": "lost"});
        stage.post(&format!("/v1/tokens/{id}/revoke"), &why).await.is(200);
    };
    let mut events = Events::open(&reader, "?types=verdict.changed,policy.applied", None).await;
    revoke(other.text("id")).await;
    stage.apply("prod", &stage.world.policy().replace("owner: sec", "owner: all")).await.is(201);
    assert_eq!(events.next().await["type"], "policy.applied");
    revoke(made.text("id")).await;
    // Nothing that happens from now on is told; the stream ends long before its next sign of life.
    let begun = Instant::now();
    assert_eq!(events.block().await, None);
    assert!(begun.elapsed() < Duration::from_secs(14), "it was left open");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_old_are_removed_and_who_missed_them_is_told() {
    let app = App::builder().await.env("CATENARY_EVENT_RETENTION", "1s").start().await;
    let stage = Stage::in_default(&app).await.play_honest().await;
    stage.post("/v1/deployments", &deployment(&stage.world.image())).await.is(201);
    let page = stage.get("/v1/events?format=json&after=0").await.is(200);
    let log = page.text("next").split_once('.').unwrap().0.to_owned();
    let begun = Instant::now();
    let next = loop {
        let answer = stage.get(&format!("/v1/events?format=json&after={log}.0")).await;
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", answer.show());
        tokio::time::sleep(Duration::from_millis(100)).await;
        if answer.status != 410 {
            continue;
        }
        // The cursor behind the gap goes on, unless the next event is old by now, too.
        let next = answer.is_problem(410, "EVENTS_REMOVED").text("next").to_owned();
        let on = stage.get(&format!("/v1/events?format=json&after={next}")).await;
        if on.status == 200 {
            break on.is(200);
        }
    };
    // The beginning is what is kept, and the log is whole.
    assert!(next.list("items").iter().all(|event| event["type"] != "deployment.started"));
    let (kept, _) = pages(&stage, "0", "").await;
    assert!(kept.iter().any(|event| event["type"] == "policy.applied"));
    assert!(kept.iter().all(|event| event["type"] != "deployment.started"));
    let stream = stage.request(reqwest::Method::GET, &format!("/v1/events?after={log}.0"));
    stage.send(stream).await.is_problem(410, "EVENTS_REMOVED");
    app.log_is_clean();
}

/// Postgres keeps the plan of a statement until it looks at the table again: one that was made for an empty table read all of it for
/// each of the first hundred thousand deployments.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_reads_no_whole_table_although_the_database_knows_it_as_empty() {
    const POSTS: i64 = 40;
    let app = App::start().await;
    let url = app.database();
    cluster::execute(url, "analyze").await;
    let scans = async |how: &str| {
        let tables =
            "'deployment', 'watched', 'attestation', 'attestation_subject', 'object', 'object_child', 'body'";
        let sum = format!(
            "select coalesce(sum({how}), 0)::bigint from pg_stat_user_tables where relname in ({tables})"
        );
        cluster::count(url, &sum).await
    };
    let stage = Stage::in_default(&app).await.play_honest().await;
    let (whole, by_index) = (scans("seq_scan").await, scans("idx_scan").await);
    for n in 1..=POSTS {
        let image = stage.world.image_of(&format!("sha256:{n:064x}"));
        let mut told: Vec<Value> = (0..4).map(|_| deployment(&image)).collect();
        for (k, told) in told.iter_mut().enumerate() {
            told["workload"] = json!(format!("deployment/{n}-{k}"));
        }
        stage.post("/v1/deployments", &json!(told)).await.is(201);
    }
    // A connection tells what it did a moment later.
    let begun = Instant::now();
    while scans("idx_scan").await < by_index + 8 * POSTS && begun.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(scans("idx_scan").await >= by_index + 8 * POSTS);
    let read = scans("seq_scan").await - whole;
    assert!(read < POSTS, "{read} times a whole table");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_tell_a_change_once() {
    let app = App::start().await;
    let second = app.builder.clone().beside(&app).start().await;
    let stage = Stage::in_default(&app).await.play_honest().await;
    let mut images = vec![stage.world.image()];
    images.extend((1..40).map(|n| stage.world.image_of(&format!("sha256:{n:064x}"))));
    let told: Vec<Value> = images.iter().map(|image| deployment(image)).collect();
    stage.post("/v1/deployments", &json!(told)).await.is(201);
    for _ in 0..3 {
        let policy = stage.world.policy();
        stage.apply("prod", &policy.replace("mode: enforce", "mode: warn")).await;
        stage.apply("prod", &format!("{policy}\n# {}\n", acceptance::unique())).await.is(201);
    }
    stage.revoke_key(&stage.world.k_ci.id(), "leaked").await.is(200);
    soon(&stage, "state=lapsed", 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let other = stage.admin.afresh(&second.url);
    let (changes, _) = pages(&other, "0", "verdict.changed").await;
    // Each change begins where the one before of the same image ended.
    for image in &images {
        let own: Vec<&Value> =
            changes.iter().filter(|e| e["data"]["image"] == **image).map(|e| &e["data"]).collect();
        for pair in own.windows(2) {
            // Not the verdict's id: an answer that stays the same is a new verdict each time.
            for member in ["outcome", "allowed"] {
                assert_eq!(pair[0]["new"][member], pair[1]["old"][member], "{own:?}");
            }
        }
        assert!(own.last().is_none_or(|last| last["new"]["allowed"] == false), "{own:?}");
    }
    let seqs: Vec<String> = changes.iter().map(|e| e["id"].to_string()).collect();
    let mut once = seqs.clone();
    once.dedup();
    assert_eq!(seqs, once);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_shows_its_weakest_link_first() {
    let stage = acceptance::honest().await;
    let (good, bad) = (stage.world.image(), stage.world.image_of(&format!("sha256:{}", "1".repeat(64))));
    let both = json!([deployment(&good), deployment(&bad)]);
    let told = stage.post("/v1/deployments", &both).await.is(201);
    assert_eq!(told.list("items").len(), 2);
    let shop = stage.get("/v1/applications/shop").await.is(200);
    let images = shop.list("images");
    assert_eq!((images.len(), &shop.0["outcome"], &shop.0["allowed"]), (2, &json!("FAILED"), &json!(false)));
    assert_eq!((&images[0]["image"], &images[1]["image"]), (&json!(bad), &json!(good)));
    assert_eq!(images[0]["reason"]["code"], "ART_UNKNOWN", "{}", images[0]);
    assert!(images[0]["reason"]["remediation"]["hint"].is_string());
    assert_eq!(images[1]["outcome"], "PASSED");
    let all = stage.get("/v1/applications").await.is(200).list("items");
    assert_eq!(
        (&all[0]["name"], &all[0]["images"], &all[0]["denied"]),
        (&json!("shop"), &json!(2), &json!(1))
    );
    stage.get("/v1/applications/none").await.is_problem(404, "NOT_FOUND");

    // The fixed one takes its place.
    let mut fixed = deployment(&good);
    fixed["replaces"] = true.into();
    assert_eq!(stage.post("/v1/deployments", &fixed).await.is(200).0["changed"], true);
    assert_eq!(stage.get("/v1/applications/shop").await.is(200).0["allowed"], true);
    assert_eq!(listed(&stage, "running=false").await.len(), 1);
    let mut over = deployment(&good);
    over["until"] = jiff::Timestamp::now().to_string().into();
    stage.post("/v1/deployments", &over).await.is(200);
    assert!(listed(&stage, "running=true").await.is_empty());
    stage.get("/v1/applications/shop").await.is_problem(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_told_by_those_who_may_and_in_a_form_that_has_one_meaning() {
    let stage = acceptance::honest().await;
    let image = stage.world.image();
    let submitter = stage.as_role("submitter").await;
    submitter.post("/v1/deployments", &deployment(&image)).await.is(201);
    submitter.get("/v1/deployments").await.is_problem(403, "AUTH_ROLE");
    let reader = stage.as_role("reader").await;
    reader.post("/v1/deployments", &deployment(&image)).await.is_problem(403, "AUTH_ROLE");
    assert_eq!(listed(&reader, "application=shop").await.len(), 1);
    let narrow =
        json!({"name": "x", "role": "submitter", "expiresIn": "1h", "repositories": ["elsewhere.test/**"]});
    let narrow = stage.with(stage.token(&narrow).await.is(201).text("token"));
    narrow.post("/v1/deployments", &deployment(&image)).await.is_problem(403, "AUTH_SCOPE");
    // Another tenant sees nothing of it.
    let other = Stage::empty().await;
    assert!(listed(&other, "").await.is_empty());
    assert!(pages(&other, "0", "deployment.*").await.0.is_empty());
    let with = |name: &str, value: Value| {
        let mut body = deployment(&image);
        body[name] = value;
        body
    };
    let tag = format!("{}:v1", stage.world.resource);
    stage.post("/v1/deployments", &with("image", tag.into())).await.is_problem(400, "REQ_TAG_NOT_DIGEST");
    for (name, value) in [
        ("application", json!("")),
        ("workload", json!("a\nb")),
        ("since", json!("2999-01-01T00:00:00Z")),
        ("sinse", json!("2026-01-01T00:00:00Z")),
    ] {
        stage.post("/v1/deployments", &with(name, value)).await.is_problem(400, "REQ_MEMBER");
    }
    stage.post("/v1/deployments", &json!([])).await.is_problem(400, "REQ_MEMBER");
    // The place is said, of one and of several.
    let future = with("since", json!("7777-01-01T00:00:00Z"));
    let alone = stage.post("/v1/deployments", &future).await.is_problem(400, "REQ_MEMBER");
    assert_eq!(alone.text("pointer"), "/since", "{}", alone.0);
    let second = json!([deployment(&image), future]);
    let listed = stage.post("/v1/deployments", &second).await.is_problem(400, "REQ_MEMBER");
    assert_eq!(listed.text("pointer"), "/1/since", "{}", listed.0);
    // Pages, newest first.
    for n in 0..5 {
        let body = with("workload", format!("job/{n}").into());
        submitter.post("/v1/deployments", &body).await.is(201);
    }
    let first = stage.get("/v1/deployments?limit=4").await.is(200);
    assert_eq!(first.list("items")[0]["workload"], "job/4");
    let rest = stage.get(&format!("/v1/deployments?limit=4&cursor={}", first.text("next"))).await.is(200);
    assert_eq!((rest.list("items").len(), &rest.0["next"]), (2, &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_changes_when_evidence_arrives_and_when_its_time_has_come() {
    let stage = Stage::empty().await;
    let image = stage.world.image();
    let told = stage.post("/v1/deployments", &deployment(&image)).await.is(201);
    assert_eq!(told.0["verdict"]["allowed"], false);
    let mut events = Events::open(&stage, "?types=verdict.changed", None).await;
    stage.post_world().await;
    let gained = events.next().await["data"].clone();
    assert_eq!(
        (&gained["old"]["allowed"], &gained["new"]["allowed"]),
        (&json!(false), &json!(true)),
        "{gained}"
    );
    assert_eq!(gained["cause"]["type"], "evidence.added", "{gained}");
    assert!(gained["cause"]["index"].is_u64());
    // It was not allowed when it started, so it has not lapsed when it is not allowed again.
    let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(6);
    let policy = stage.world.policy().replace("owner: sec", &format!("owner: sec, expires: \"{expires}\""));
    assert!(policy.contains("expires"), "{policy}");
    stage.apply("prod", &policy).await.is(201);
    let lost = events.next().await["data"].clone();
    assert_eq!(
        (&lost["old"]["outcome"], &lost["new"]["allowed"]),
        (&json!("PASSED"), &json!(false)),
        "{lost}"
    );
    assert_eq!(
        (&lost["cause"]["type"], &lost["new"]["reason"]),
        (&json!("time"), &json!("POL_EXPIRED")),
        "{lost}"
    );
    assert_eq!(soon(&stage, "state=denied", 1).await.len(), 1);
    assert!(listed(&stage, "state=lapsed").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_and_what_happens_is_told_and_read_from_the_command_line() {
    let app = App::start().await;
    let stage = Stage::in_default(&app).await.play_honest().await;
    let run = |arguments: &[&str]| {
        let run = app.run(arguments);
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        (run.status.code(), text + &String::from_utf8_lossy(&run.stderr))
    };
    let image = stage.world.image();
    let place = ["--environment", "prod", "--application", "shop", "--workload", "api"];
    let (code, text) = run(&[&["deployment", "add", &image][..], &place].concat());
    assert!(code == Some(0) && text.contains("PASSED"), "{text}");
    let (_, text) = run(&["deployment", "list", "--environment", "prod"]);
    assert!(text.contains(&image) && text.contains("PASSED"), "{text}");
    let (code, text) = run(&["application", "show", "shop"]);
    assert!(code == Some(0) && text.contains(&image), "{text}");
    stage.revoke_key(&stage.world.k_ci.id(), "leaked").await.is(200);
    soon(&stage, "state=lapsed", 1).await;
    let (_, text) = run(&["deployment", "list", "--state", "lapsed"]);
    assert!(text.contains(&image) && text.contains("FAILED"), "{text}");
    let (code, text) = run(&["application", "show", "shop"]);
    assert!(code == Some(1) && text.contains("mend:"), "{text}");
    let (_, text) = run(&["events", "--types", "deployment.*,verdict.changed,revocation"]);
    let all = ["deployment.started", "revocation", "verdict.changed", "PASSED → FAILED", "--after "];
    assert!(all.iter().all(|part| text.contains(part)), "{text}");
    let (_, text) = run(&["events", "--output", "json", "--types", "verdict.changed"]);
    let event: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(event["type"], "verdict.changed", "{text}");
    let (code, text) = run(&["webhook", "add", "https://127.0.0.1/"]);
    assert!(code == Some(3) && text.contains("WEBHOOK_TARGET"), "{code:?} {text}");
    assert_eq!(run(&["webhook", "list"]).0, Some(0));
}
