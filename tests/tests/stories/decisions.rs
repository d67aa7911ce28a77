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

/// Asks many questions, each for another environment, and each several times.
async fn ask_many(stage: &Stage, round: usize) {
    let (questions, times) = if std::env::var_os("CATENARY_LONG").is_some() { (1_000, 1) } else { (100, 10) };
    let all: Vec<Value> = (0..questions)
        .map(|n| json!({"image": stage.world.image(), "environment": format!("e{round}-{n}")}))
        .collect();
    for _ in 0..times {
        for some in all.chunks(100) {
            let asked = json!({"questions": some});
            let answers = stage.post("/v1/verdicts?record=required", &asked).await.is(200).list("verdicts");
            let problem = answers.iter().find(|answer| answer["kind"] != "Verdict");
            assert!(problem.is_none(), "{problem:?}");
        }
    }
}

fn replay(app: &App, folder: &std::path::Path) -> (bool, Value) {
    let run = app
        .builder
        .command(&["log", "replay", &folder.display().to_string(), "--output", "json"])
        .output()
        .unwrap();
    let report = serde_json::from_slice(&run.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&run.stderr)));
    (run.status.success(), report)
}

fn export(app: &App, token: &str, folder: &std::path::Path) {
    let run = app
        .builder
        .command(&["log", "export", "--to", &folder.display().to_string()])
        .env("CATENARY_SERVER", &app.url)
        .env("CATENARY_TOKEN", token)
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_replays_ten_thousand_decisions_without_the_service() {
    let mut app = App::start().await;
    let mut stage = Stage::in_app(&app).await;
    // Asked before there is evidence, while it comes in, and after trust and policy changed.
    ask_many(&stage, 0).await;
    stage = stage.play_honest().await;
    let begun = Instant::now();
    for round in 1..8 {
        ask_many(&stage, round).await;
        let key = catenary_testkit::Key::ed25519(&format!("other-{round}"));
        let noise = catenary_testkit::Statement::new("https://acme.test/note/v1", json!({"n": round}));
        let digest = stage.world.image().split_once("@sha256:").unwrap().1.to_owned();
        let noise = noise.subject(catenary_testkit::Subject::new("x", "sha256", &digest)).signed_by(&key);
        stage.submit(noise.to_json()).await.is(201);
        // Trust that comes later vouches for what was unverified before.
        stage.add_key(&format!("other-{round}"), &key.public_pem(), None).await.is(201);
    }
    stage.revoke_key(&stage.world.k_ci.id(), "stolen").await.is(200);
    for round in 8..11 {
        ask_many(&stage, round).await;
    }
    println!("decided in {:?}", begun.elapsed());
    app = app.kill().start().await;
    let auditor = stage.token(&json!({"name": "audit", "role": "auditor", "expiresIn": "1h"})).await.is(201);
    let reader = stage.token(&json!({"name": "read", "role": "reader", "expiresIn": "1h"})).await.is(201);
    stage.with(reader.text("token")).get("/v1/export").await.is_problem(403, "AUTH_ROLE");
    let folder = tempfile::tempdir().unwrap();
    let exported = folder.path().join("export");
    export(&app, auditor.text("token"), &exported);
    let builder = app.stop();
    // Nothing but the folder: the service is gone.
    let app = builder.launch();
    drop(std::mem::replace(&mut stage.admin, app.anonymous()));
    let begun = Instant::now();
    let (good, report) = replay(&app, &exported);
    println!("replayed in {:?}: {}", begun.elapsed(), report["replayed"]);
    assert!(good, "{report}");
    assert!(report["answers"].as_u64().unwrap() >= 10_000, "{report}");
    assert!(report["replayed"].as_u64().unwrap() >= 1_000, "{report}");
    assert_eq!(report["same"], report["replayed"], "{report}");
    assert_eq!((report["different"].as_u64(), report["otherEngine"].as_u64()), (Some(0), Some(0)));
    assert_eq!(report["gaps"].as_array().map(Vec::len), Some(1), "the kill is not told: {report}");
    tampered(&app, &exported);
}

/// Each file changed in one place: refused, or reported as a difference.
fn tampered(app: &App, exported: &std::path::Path) {
    let copy = |change: &dyn Fn(&std::path::Path)| {
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(exported).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        change(folder.path());
        let run = app
            .builder
            .command(&["log", "replay", &folder.path().display().to_string(), "--output", "json"])
            .output()
            .unwrap();
        assert!(!run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        String::from_utf8_lossy(&run.stdout).into_owned()
    };
    let edit = |name: &'static str, from: &'static str, to: &'static str| {
        copy(&move |folder| {
            let path = folder.join(name);
            let text = std::fs::read_to_string(&path).unwrap();
            let changed = text.replacen(from, to, 1);
            assert_ne!(text, changed, "{from} is not in {name}");
            std::fs::write(path, changed).unwrap();
        })
    };
    let without_line = |name: &'static str, at: usize| {
        copy(&move |folder| {
            let path = folder.join(name);
            let text = std::fs::read_to_string(&path).unwrap();
            let mut lines: Vec<&str> = text.lines().collect();
            lines.remove(at.min(lines.len() - 1));
            std::fs::write(path, lines.join("\n") + "\n").unwrap();
        })
    };
    let text = edit("verdicts.jsonl", r#"\"outcome\":\"FAILED\""#, r#"\"outcome\":\"PASSED\""#);
    assert!(text.contains("not what its id says"), "{text}");
    let text = edit("decisions.jsonl", r#"\"allowed\":false"#, r#"\"allowed\":true"#);
    assert!(text.contains("removed or changed"), "{text}");
    let text = without_line("verdicts.jsonl", 17);
    assert!(text.contains("a decision names it"), "{text}");
    let text = without_line("decisions.jsonl", usize::MAX);
    assert!(text.contains("removed or changed"), "{text}");
    let text = without_line("entries.jsonl", 5);
    assert!(text.contains("stands where"), "{text}");
    let text = without_line("entries.jsonl", usize::MAX);
    assert!(text.contains("is missing"), "{text}");
    let text = edit("entries.jsonl", r#""body":"e"#, r#""body":"f"#);
    assert!(text.contains("body"), "{text}");
    let text = edit("checkpoint", "\n\n", "\nmore\n\n");
    assert!(text.contains("checkpoint"), "{text}");
}
