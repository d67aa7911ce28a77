//! Receivers of events: told in order, signed, again when they fail, and never inside our own network.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use acceptance::{App, Stage, http::Client};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// One request as it came.
#[derive(Debug, Clone)]
struct Got {
    head: String,
    body: String,
}

impl Got {
    fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap_or_default()
    }
}

/// A receiver that answers as it is told and keeps what came.
struct Receiver {
    url: String,
    status: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (status, got) = (Arc::new(AtomicU16::new(204)), Arc::new(Mutex::new(Vec::new())));
        let (answers, keeps) = (Arc::clone(&status), Arc::clone(&got));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answers, keeps) = (Arc::clone(&answers), Arc::clone(&keeps));
                tokio::spawn(async move {
                    let (mut bytes, mut buffer) = (Vec::new(), [0; 8192]);
                    loop {
                        let read = stream.read(&mut buffer).await.unwrap_or_default();
                        bytes.extend_from_slice(&buffer[..read]);
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        let Some((head, body)) = text.split_once("\r\n\r\n") else {
                            if read == 0 {
                                return;
                            }
                            continue;
                        };
                        let got = Got { head: head.to_owned(), body: body.to_owned() };
                        let length: usize = got.header("content-length").parse().unwrap_or_default();
                        if got.body.len() < length && read > 0 {
                            continue;
                        }
                        let status = answers.load(Ordering::SeqCst);
                        if status < 300 {
                            keeps.lock().unwrap().push(got);
                        }
                        let away = "location: http://127.0.0.1:1/\r\n";
                        let answer = format!(
                            "HTTP/1.1 {status} x\r\n{away}content-length: 0\r\nconnection: close\r\n\r\n"
                        );
                        let _ = stream.write_all(answer.as_bytes()).await;
                        return;
                    }
                });
            }
        });
        Self { url, status, got }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    async fn until(&self, what: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let begun = Instant::now();
        loop {
            let got = self.got();
            if what(&got) {
                return got;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{got:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> String {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    hex::encode(Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize())
}

/// Fails the test unless the secret signed it, just now.
#[track_caller]
fn is_signed(got: &Got, secret: &str) {
    let signature = got.header("catenary-signature");
    let (time, tag) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    // A secret is longer than a block, so its digest is the key.
    let key = if secret.len() > 64 { Sha256::digest(secret).to_vec() } else { secret.as_bytes().to_vec() };
    assert_eq!(tag, hmac_sha256(&key, format!("{time}.{}", got.body).as_bytes()));
    assert!((acceptance::now() - time.parse::<i64>().unwrap()).abs() < 60, "{time}");
}

/// How many signatures a request has, and whether one is of this secret.
fn signatures(got: &Got, secret: &str) -> (usize, bool) {
    let parts: Vec<&str> = got.header("catenary-signature").split(',').collect();
    let time = parts[0].strip_prefix("t=").unwrap();
    let key = if secret.len() > 64 { Sha256::digest(secret).to_vec() } else { secret.as_bytes().to_vec() };
    let wanted = format!("v1={}", hmac_sha256(&key, format!("{time}.{}", got.body).as_bytes()));
    (parts.len() - 1, parts.contains(&wanted.as_str()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_changed_in_place_and_both_sign_for_a_while() {
    let (_app, stage) = service().await;
    let receiver = Receiver::start().await;
    let body = json!({"url": receiver.url, "types": ["deployment.started"]});
    let made = stage.post("/v1/webhooks", &body).await.is(201);
    let (id, first) = (made.text("id").to_owned(), made.text("secret").to_owned());
    let rotate = async |overlap: &str| {
        let path = format!("/v1/webhooks/{id}/rotate");
        stage.post(&path, &json!({"overlap": overlap})).await.is(200)
    };
    let told = async |workload: &str| {
        stage.post("/v1/deployments", &deployment(&stage, workload)).await.is(201);
        let is = |got: &Got| got.event()["data"]["workload"] == workload;
        receiver.until(|got| got.iter().any(is)).await.into_iter().find(is).unwrap()
    };
    let second = rotate("1h").await;
    assert!(!second.0["oldSecretUntil"].is_null() && second.text("secret") != first);
    let both = told("during").await;
    assert_eq!(signatures(&both, &first), (2, true));
    assert_eq!(signatures(&both, second.text("secret")), (2, true));
    assert!(state(&stage, &id).await["secret"].is_null());
    let third = rotate("0s").await;
    let one = told("after").await;
    assert_eq!(signatures(&one, third.text("secret")), (1, true));
    for old in [&first, second.text("secret")] {
        assert_eq!(signatures(&one, old), (1, false), "a secret of before");
    }
    let path = format!("/v1/webhooks/{id}/rotate");
    stage.post(&path, &json!({"overlap": "31d"})).await.is_problem(400, "REQ_MEMBER");
    stage.post("/v1/webhooks/wh-none/rotate", &json!({})).await.is_problem(404, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_while_a_secret_changed_is_signed_when_it_is_sent() {
    let (app, stage) = service().await;
    let receiver = Receiver::start().await;
    let body = json!({"url": receiver.url, "types": ["deployment.started"]});
    let made = stage.post("/v1/webhooks", &body).await.is(201);
    let (id, first) = (made.text("id").to_owned(), made.text("secret").to_owned());
    receiver.answers(503);
    stage.post("/v1/deployments", &deployment(&stage, "waiting")).await.is(201);
    let begun = Instant::now();
    while state(&stage, &id).await["dead"] != 1 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", state(&stage, &id).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let path = format!("/v1/webhooks/{id}/rotate");
    for (overlap, code) in [("soon", "REQ_MEMBER"), ("-1h", "REQ_MEMBER")] {
        stage.post(&path, &json!({"overlap": overlap})).await.is_problem(400, code);
    }
    for role in ["reader", "auditor", "submitter"] {
        let other = stage.as_role(role).await;
        other.post(&path, &json!({})).await.is_problem(403, "AUTH_ROLE");
    }
    let second = stage.post(&path, &json!({"overlap": "1h"})).await.is(200).text("secret").to_owned();
    // What is sent now is signed with both, also after a restart, which keeps neither of them.
    let app = app.kill().start().await;
    let admin = stage.admin.afresh(&app.url);
    receiver.answers(204);
    let again = admin.post(&format!("/v1/webhooks/{id}/deliveries/1/redeliver"), &json!({})).await.is(200);
    assert_eq!(again.0["delivered"], true, "{}", again.0);
    let got = receiver.until(|got| !got.is_empty()).await;
    assert_eq!(signatures(&got[0], &first), (2, true));
    assert_eq!(signatures(&got[0], &second), (2, true));
    // Of three secrets only the two newest sign.
    let third = admin.post(&path, &json!({"overlap": "1h"})).await.is(200).text("secret").to_owned();
    admin.post("/v1/deployments", &deployment(&stage, "later")).await.is(201);
    let got = receiver.until(|got| got.len() == 2).await;
    assert_eq!(signatures(&got[1], &third), (2, true));
    assert_eq!(signatures(&got[1], &second), (2, true));
    assert_eq!(signatures(&got[1], &first), (2, false), "two changes ago");
}

async fn service() -> (App, Stage) {
    let builder = App::builder().await;
    let builder = builder.env("CATENARY_WEBHOOK_ALLOW", "127.0.0.1/32").env("CATENARY_WEBHOOK_ATTEMPTS", "2");
    let app = builder.start().await;
    let stage = Stage::in_default(&app).await.play_honest().await;
    (app, stage)
}

async fn state(client: &Client, id: &str) -> Value {
    let hooks = client.get("/v1/webhooks").await.is(200).list("items");
    hooks.into_iter().find(|hook| hook["id"] == *id).unwrap()
}

fn deployment(stage: &Stage, workload: &str) -> Value {
    json!({"environment": "prod", "application": "shop", "workload": workload, "image": stage.world.image()})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_told_that_a_verdict_changed() {
    let (app, stage) = service().await;
    let receiver = Receiver::start().await;
    let body = json!({"url": receiver.url, "types": ["verdict.changed", "revocation", "deployment.*"]});
    let made = stage.post("/v1/webhooks", &body).await.is(201);
    let (id, secret) = (made.text("id").to_owned(), made.text("secret").to_owned());
    stage.post("/v1/deployments", &deployment(&stage, "api")).await.is(201);
    stage.revoke_key(&stage.world.k_ci.id(), "leaked").await.is(200);
    let changed = |got: &[Got]| got.iter().any(|got| got.event()["type"] == "verdict.changed");
    let got = receiver.until(changed).await;
    let types: Vec<Value> = got.iter().map(|got| got.event()["type"].clone()).collect();
    assert_eq!(types, ["deployment.started", "revocation", "verdict.changed"]);
    for got in &got {
        is_signed(got, &secret);
        assert_eq!(got.header("content-type"), "application/cloudevents+json; charset=utf-8");
        assert_eq!(got.header("catenary-webhook"), id);
        assert_eq!(got.event()["id"], *got.header("catenary-event"));
        assert_eq!(got.event()["specversion"], "1.0");
    }
    let data = got[2].event()["data"].clone();
    assert_eq!((&data["cause"]["type"], &data["new"]["allowed"]), (&json!("revocation"), &json!(false)));
    // The secret is told once, and not kept.
    let known = state(&stage, &id).await;
    assert!(known["secret"].is_null() && known["delivered"].as_u64() >= Some(2), "{known}");
    for table in ["webhook", "event", "dead_letter"] {
        let sql = format!("select coalesce(string_agg(t::text, ' '), '') from {table} t");
        let rows = rows(app.database(), &sql).await;
        assert!(!rows.contains(&secret) && !rows.contains(&secret["whs_".len()..]), "{table}");
    }
    assert!(!app.log().contains(&secret[4..]));
    // After a restart it is told what is new, and nothing again.
    let app = app.kill().start().await;
    let admin = stage.admin.afresh(&app.url);
    admin.post("/v1/deployments", &deployment(&stage, "worker")).await.is(201);
    let got = receiver.until(|got| got.iter().any(|got| got.event()["data"]["workload"] == "worker")).await;
    let mut ids: Vec<String> = got.iter().map(|got| got.event()["id"].to_string()).collect();
    is_signed(got.last().unwrap(), &secret);
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), count), (4, 4), "{ids:?}");
    let request = admin.request(reqwest::Method::DELETE, &format!("/v1/webhooks/{id}"));
    admin.send(request).await.is(200);
    assert!(admin.get("/v1/webhooks").await.is(200).list("items").is_empty());
}

async fn rows(database: &str, sql: &str) -> String {
    let pool = sqlx::PgPool::connect(database).await.unwrap();
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_does_not_take_is_kept_and_sent_once_more() {
    let (app, stage) = service().await;
    let receiver = Receiver::start().await;
    let body = json!({"url": receiver.url, "types": ["deployment.started"]});
    let id = stage.post("/v1/webhooks", &body).await.is(201).text("id").to_owned();
    // A redirect is not followed, and no answer of ours.
    receiver.answers(302);
    stage.post("/v1/deployments", &deployment(&stage, "first")).await.is(201);
    let begun = Instant::now();
    while state(&stage, &id).await["dead"] != 1 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", state(&stage, &id).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let path = format!("/v1/webhooks/{id}/deliveries");
    let dead = stage.get(&format!("{path}?state=dead")).await.is(200).list("items");
    assert_eq!(
        (dead.len(), &dead[0]["attempts"], &dead[0]["type"]),
        (1, &json!(2), &json!("deployment.started"))
    );
    assert!(dead[0]["error"].as_str().unwrap().contains("302"), "{}", dead[0]);
    let again = stage.post(&format!("{path}/1/redeliver"), &json!({})).await.is(200);
    assert_eq!(again.0["delivered"], false, "{}", again.0);
    // What came after it was not held up for ever, and the dead one is delivered when the receiver is back.
    receiver.answers(204);
    stage.post("/v1/deployments", &deployment(&stage, "second")).await.is(201);
    receiver.until(|got| got.len() == 1).await;
    let again = stage.post(&format!("{path}/1/redeliver"), &json!({})).await.is(200);
    assert_eq!(again.0["delivered"], true, "{}", again.0);
    let got = receiver.got();
    let workloads: Vec<Value> = got.iter().map(|got| got.event()["data"]["workload"].clone()).collect();
    assert_eq!(workloads, ["second", "first"]);
    assert!(stage.get(&path).await.is(200).list("items").is_empty());
    stage.post(&format!("{path}/1/redeliver"), &json!({})).await.is_problem(404, "NOT_FOUND");
    let metrics = String::from_utf8(app.anonymous().get("/metrics").await.body.to_vec()).unwrap();
    for name in ["catenary_webhook_deliveries_total", "catenary_webhook_dead_letters", "catenary_watcher_lag"]
    {
        assert!(metrics.contains(name), "{name} is not among the metrics:\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_not_sent_into_our_own_network() {
    let stage = acceptance::honest().await;
    for url in [
        "https://169.254.169.254/latest/meta-data/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::1]:8440/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "http://1.1.1.1/",
        "https://user:secret@1.1.1.1/",
        "file:///etc/passwd",
        "nonsense",
    ] {
        let refused = stage.post("/v1/webhooks", &json!({"url": url})).await;
        refused.is_problem(422, "WEBHOOK_TARGET");
        assert!(!refused.show().contains("secret@"), "{}", refused.show());
    }
    for body in [
        json!({"url": "https://1.1.1.1/", "secret": "mine"}),
        json!({"url": "https://1.1.1.1/", "types": ["*"]}),
        json!({"url": "https://1.1.1.1/", "types": ["verdict.change"]}),
    ] {
        stage.post("/v1/webhooks", &body).await.is_problem(400, "REQ_MEMBER");
    }
    for role in ["reader", "auditor", "submitter"] {
        let other = stage.as_role(role).await;
        other.get("/v1/webhooks").await.is_problem(403, "AUTH_ROLE");
        other.post("/v1/webhooks", &json!({"url": "https://1.1.1.1/"})).await.is_problem(403, "AUTH_ROLE");
    }
    // Another tenant's receiver is not there.
    let id =
        stage.post("/v1/webhooks", &json!({"url": "https://1.1.1.1/"})).await.is(201).text("id").to_owned();
    let other = Stage::empty().await;
    assert!(other.get("/v1/webhooks").await.is(200).list("items").is_empty());
    other.get(&format!("/v1/webhooks/{id}/deliveries")).await.is_problem(404, "NOT_FOUND");
    let remove = |client: &Client| client.request(reqwest::Method::DELETE, &format!("/v1/webhooks/{id}"));
    other.send(remove(&other)).await.is_problem(404, "NOT_FOUND");
    stage.send(remove(&stage)).await.is(200);
}
