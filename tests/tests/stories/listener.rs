//! Connections that misbehave on purpose, below HTTP: they end, and nobody else notices.

use std::time::{Duration, Instant};

use acceptance::{App, Stage};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// HTTP/2 by hand: the preface and empty settings.
async fn http2(app: &App) -> TcpStream {
    let mut stream = TcpStream::connect(app.url.trim_start_matches("http://")).await.unwrap();
    let settings = frame(4, 0, 0, &[]);
    stream.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat()).await.unwrap();
    stream
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of `GET /openapi.json`, as HPACK without a table.
fn head() -> Vec<u8> {
    let literal = |index: u8, value: &str| [&[index, value.len() as u8], value.as_bytes()].concat();
    [vec![0x82, 0x86], literal(0x04, "/openapi.json"), literal(0x01, "x")].concat()
}

/// Reads until the service hangs up; how long that took, or `None` when it does not.
async fn hung_up(mut stream: TcpStream, limit: Duration) -> Option<Duration> {
    let begun = Instant::now();
    let mut buffer = vec![0; 65536];
    while begun.elapsed() < limit {
        match tokio::time::timeout(limit, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return Some(begun.elapsed()),
            Ok(Ok(_)) => {}
            Err(_) => return None,
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_resets_ends_its_connection() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let mut stream = http2(&app).await;
    let cancel = 8_u32.to_be_bytes();
    let mut storm = Vec::new();
    for n in 0..5_000 {
        let id = 2 * n + 1;
        storm.extend(frame(1, 0x5, id, &head()));
        storm.extend(frame(3, 0, id, &cancel));
    }
    // The service may hang up before it has read all of it.
    let _ = stream.write_all(&storm).await;
    stage.judge().await.passes();
    assert!(hung_up(stream, Duration::from_secs(30)).await.is_some(), "it goes on");
    stage.judge().await.passes();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_an_end_ends_its_connection() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let before = app.process.resident();
    let mut stream = http2(&app).await;
    // Not indexed, a new name: 7 bytes and a value of 100.
    let field = [&[0x00, 6][..], b"x-many", &[100], &[b'a'; 100]].concat();
    let part = field.repeat(100);
    let mut sent = stream.write_all(&frame(1, 0, 1, &head())).await.is_ok();
    for _ in 0..5_000 {
        sent = sent && stream.write_all(&frame(9, 0, 1, &part)).await.is_ok();
    }
    assert!(hung_up(stream, Duration::from_secs(30)).await.is_some(), "it goes on");
    assert!(app.process.peak() < before + 64 * 1024 * 1024);
    stage.judge().await.passes();
}

#[tokio::test(flavor = "multi_thread")]
async fn h33_a_connection_of_http2_without_a_request_is_closed() {
    let app = App::start().await;
    let quiet = http2(&app).await;
    // Settings and pings are no request.
    let mut pings = http2(&app).await;
    let pinging = tokio::spawn(async move {
        for _ in 0..25 {
            if pings.write_all(&frame(6, 0, 0, &[0; 8])).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        pings
    });
    assert!(hung_up(quiet, Duration::from_secs(40)).await.is_some(), "it stays open");
    let pings = pinging.await.unwrap();
    assert!(hung_up(pings, Duration::from_secs(20)).await.is_some(), "pings keep it open");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_finds_room_among_many_that_say_nothing() {
    let app = App::builder().await.config("connections = 40\n").start().await;
    let address = app.url.trim_start_matches("http://").to_owned();
    let stage = Stage::in_app(&app).await.play_honest().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    for _ in 0..5 {
        // A connection of its own each time.
        stage.admin.afresh(&app.url).verdict(&stage.world.image()).await.passes();
    }
    let metrics = String::from_utf8_lossy(&app.anonymous().get("/metrics").await.body).into_owned();
    let value = |name: &str| {
        metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap_or(0.0)
    };
    assert!(value("catenary_connections_ended_total{why=\"evicted\"}") >= 100.0, "{metrics}");
    assert!(value("catenary_connections") <= 40.0, "the limit does not hold");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_over_its_quota_is_told_when_to_come_back() {
    let app = App::builder().await.config("[rates]\ningest = 5\n").start().await;
    let stage = Stage::in_app(&app).await;
    let mut refused = None;
    for _ in 0..100 {
        let answer = stage.submit("{}").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the quota is not enforced");
    refused.is_problem(429, "REQ_RATE");
    assert!(refused.header("retry-after").parse::<u64>().is_ok());
    assert!(!refused.header("x-request-id").is_empty());
    // Another credential has a quota of its own, and verdicts have none.
    let other = Stage::in_app(&app).await;
    assert_ne!(other.submit("{}").await.status, 429);
    stage.judge().await.is(200);
    assert_eq!(app.anonymous().get("/healthz").await.status, 200);
}
