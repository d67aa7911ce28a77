//! What was answered to whom: recorded, found again, and not to be changed.

use std::time::{Duration, Instant};

use acceptance::{
    App, Stage,
    cluster::{execute, texts},
    http::escape,
};
use serde_json::{Value, json};

/// Everything of one list, page by page.
async fn decisions(stage: &Stage, query: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = stage.get(&format!("/v1/decisions?limit=7{query}{cursor}")).await.is(200);
        found.extend(page.list("items"));
        match page.0["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

fn gate(image: &str, environment: &str) -> String {
    format!("/v1/gate?image={}&environment={environment}", escape(image))
}

fn records(app: &App, tenant: &str) -> impl Future<Output = Vec<String>> {
    let sql = format!(
        "SELECT convert_from(records, 'UTF8') FROM decision_batch WHERE tenant = '{tenant}' ORDER BY instance, number"
    );
    let url = app.database().to_owned();
    async move {
        let batches = texts(&url, &sql).await;
        batches.iter().flat_map(|b| b.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gates_decision_is_durable_when_it_is_answered() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let image = stage.world.image();
    stage.get(&gate(&image, "prod")).await.is(200);
    let sql = format!(
        "SELECT allowed::text FROM decision WHERE tenant = '{}' AND environment = 'prod'",
        stage.tenant
    );
    assert!(texts(app.database(), &sql).await.contains(&"true".to_owned()));
    // Denied is a decision, too.
    let elsewhere = format!("registry.evil.test/app@{}", image.split_once('@').unwrap().1);
    stage.get(&gate(&elsewhere, "prod")).await.is_problem(403, "GATE_DENIED");
    let denied = decisions(&stage, &format!("&allowed=false&image={}", escape(&elsewhere))).await;
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(denied[0]["outcome"], "FAILED");
    // A hundred at once share commits.
    let begun = Instant::now();
    let asks: Vec<_> = (0..100)
        .map(|n| {
            let (client, path) = (stage.admin.clone(), gate(&image, &format!("env-{n}")));
            tokio::spawn(async move { client.get(&path).await.is(200) })
        })
        .collect();
    for ask in asks {
        ask.await.unwrap();
    }
    println!("100 gates in {:?}", begun.elapsed());
    let recorded = decisions(&stage, &format!("&image={}", escape(&image))).await;
    assert!(
        recorded.iter().filter(|d| d["environment"].as_str().unwrap_or("").starts_with("env-")).count()
            == 100
    );
    for bad in ["none", "", "Required"] {
        let path = format!("{}&record={bad}", gate(&image, "prod"));
        stage.get(&path).await.is_problem(400, "REQ_QUERY");
    }
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_answers_are_one_row_a_minute_and_the_verdict_can_be_read_again() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let image = stage.world.image();
    let first = stage.verdict(&image).await;
    for _ in 0..20 {
        stage.verdict(&image).await.passes();
    }
    let answers = json!({"questions": [{"image": image, "environment": "prod"}, {"image": image, "environment": "test"}]});
    stage.post("/v1/verdicts?record=required", &answers).await.is(200);
    let about = decisions(&stage, &format!("&image={}&environment=prod&allowed=true", escape(&image))).await;
    // The honest play asked, too; a minute may have turned, and a verdict may have run out.
    let count: u64 = about.iter().map(|d| d["count"].as_u64().unwrap()).sum();
    assert!(count >= 22, "{about:?}");
    assert!(about.len() <= 4, "{about:?}");
    for decision in &about {
        assert!(decision["first"].as_str() <= decision["last"].as_str(), "{decision}");
    }
    let id = first.json()["id"].as_str().unwrap().to_owned();
    assert!(about.iter().any(|d| d["verdict"] == id.as_str()), "{about:?}");
    let again = stage.get(&format!("/v1/verdicts/{id}")).await;
    again.is(200);
    assert_eq!(again.body, first.body, "not the bytes that were answered");
    stage.get(&format!("/v1/verdicts/sha256:{}", "1".repeat(64))).await.is_problem(404, "NOT_FOUND");
    // By whom: the principal is the token's public id.
    let made = stage.token(&json!({"name": "x", "role": "reader", "expiresIn": "1h"})).await.is(201);
    let reader = stage.with(made.text("token"));
    reader.get(&format!("/v1/verdict?image={}&record=required", escape(&image))).await.is(200);
    let by = decisions(&stage, &format!("&principal={}", made.text("id"))).await;
    assert_eq!(by.len(), 1, "{by:?}");
    // Who asks does not see who asked.
    reader.get("/v1/decisions").await.is_problem(403, "AUTH_ROLE");
    reader.get(&format!("/v1/verdicts/{id}")).await.is(200);
    // Another tenant sees nothing of it.
    let other = Stage::in_app(&app).await;
    other.get(&format!("/v1/verdicts/{id}")).await.is_problem(404, "NOT_FOUND");
    assert!(decisions(&other, "").await.is_empty());
    for bad in ["cursor=AAAA", "limit=0", "since=yesterday", "image=x", "allowed=perhaps", "who=me"] {
        let answer = stage.get(&format!("/v1/decisions?{bad}")).await;
        assert!([400, 422].contains(&answer.status), "{bad}: {}", answer.show());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_loses_at_most_a_second_and_the_record_says_so() {
    let mut app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let image = stage.world.image();
    // Long before the end, and recorded.
    for n in 0..50 {
        stage.get(&format!("/v1/verdict?image={}&environment=old-{n}", escape(&image))).await.is(200);
    }
    let before = Instant::now();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    stage.get(&gate(&image, "required")).await.is(200);
    for n in 0..50 {
        stage.get(&format!("/v1/verdict?image={}&environment=new-{n}", escape(&image))).await.is(200);
    }
    let asked = jiff::Timestamp::now();
    app = app.kill().start().await;
    println!("killed after {:?}", before.elapsed());
    let found = decisions(&stage, "").await;
    let of = |prefix: &str| {
        found.iter().filter(|d| d["environment"].as_str().unwrap_or("").starts_with(prefix)).count()
    };
    assert_eq!((of("old-"), of("required")), (50, 1), "more than the last second is lost");
    println!("{} of 50 answers of the last moment are recorded", of("new-"));
    let records = records(&app, &stage.tenant).await;
    let gaps: Vec<Value> = records
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|record: &Value| record["kind"] == "gap")
        .collect();
    assert_eq!(gaps.len(), 1, "{records:?}");
    assert_eq!(gaps[0]["why"], "crash");
    let time = |name: &str| gaps[0][name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time("from") <= asked && asked <= time("to"), "{} {asked}", gaps[0]);
    let lost = asked.duration_since(time("from"));
    assert!(lost < jiff::SignedDuration::from_millis(2_500), "the gap is {lost:?} before the kill");
    // A stop in order leaves no gap and loses nothing.
    for n in 0..50 {
        stage.get(&format!("/v1/verdict?image={}&environment=last-{n}", escape(&image))).await.is(200);
    }
    app = app.stop().start().await;
    let found = decisions(&stage, "").await;
    let last = found.iter().filter(|d| d["environment"].as_str().unwrap_or("").starts_with("last-"));
    assert_eq!(last.count(), 50);
    let records = self::records(&app, &stage.tenant).await;
    assert_eq!(records.iter().filter(|r| r.contains(r#""kind":"gap""#)).count(), 1, "{records:?}");
    assert_eq!(records.iter().filter(|r| r.contains(r#""kind":"stop""#)).count(), 1, "{records:?}");
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_removed_or_added_decision_is_found() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let image = stage.world.image();
    for n in 0..3 {
        stage.get(&gate(&image, &format!("env-{n}"))).await.is(200);
    }
    let verify = || {
        let run = app.run(&["decisions", "verify", "--output", "json"]);
        let report: Value = serde_json::from_slice(&run.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&run.stderr)));
        let differences = report["differences"].as_array().unwrap().clone();
        assert_eq!(run.status.success(), differences.is_empty());
        differences
    };
    assert_eq!(verify(), Vec::<Value>::new());
    let tenant = &stage.tenant;
    let pick = format!("tenant = '{tenant}' AND environment = 'env-1'");
    let batch = format!("tenant = '{tenant}' AND convert_from(records, 'UTF8') LIKE '%env-1%'");
    for (table, change, undo) in [
        (
            "decision",
            format!("UPDATE decision SET allowed = NOT allowed WHERE {pick}"),
            format!("UPDATE decision SET allowed = NOT allowed WHERE {pick}"),
        ),
        (
            "decision",
            format!("UPDATE decision SET count = count + 1 WHERE {pick}"),
            format!("UPDATE decision SET count = count - 1 WHERE {pick}"),
        ),
        (
            "verdict_body",
            format!("UPDATE verdict_body SET bytes = bytes || ' ' WHERE tenant = '{tenant}'"),
            format!(
                "UPDATE verdict_body SET bytes = substr(bytes, 1, length(bytes) - 1) WHERE tenant = '{tenant}'"
            ),
        ),
        // A whole record taken out, with every row that it made.
        (
            "decision_batch",
            format!(
                "CREATE TABLE public_copy AS SELECT * FROM decision_batch WHERE {batch}; DELETE FROM decision_batch WHERE {batch}"
            ),
            "INSERT INTO decision_batch SELECT * FROM public_copy; DROP TABLE public_copy".into(),
        ),
        (
            "decision_batch",
            format!(
                "UPDATE decision_batch SET records = convert_to(replace(convert_from(records, 'UTF8'), 'env-1', 'env-7'), 'UTF8') WHERE {batch}"
            ),
            format!(
                "UPDATE decision_batch SET records = convert_to(replace(convert_from(records, 'UTF8'), 'env-7', 'env-1'), 'UTF8') WHERE tenant = '{tenant}'"
            ),
        ),
    ] {
        execute(app.database(), &change).await;
        let found = verify();
        assert!(found.iter().any(|d| d["table"] == table), "{change}: {found:?}");
        execute(app.database(), &undo).await;
        assert_eq!(verify(), Vec::<Value>::new(), "{undo}");
    }
    // The end cut off while the service runs: it goes on in another chain, which says so.
    let cut = format!("UPDATE decision_chain SET number = number - 1 WHERE tenant = '{tenant}'");
    execute(app.database(), &cut).await;
    stage.get(&gate(&image, "env-9")).await.is(200);
    let records = records(&app, tenant).await;
    assert!(records.iter().any(|r| r.contains(r#""why":"changed""#)), "{records:?}");
    assert!(!verify().is_empty());
}
