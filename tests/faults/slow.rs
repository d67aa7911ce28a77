//! R16, R17: clients that do not get on, and clients that send too much.

use std::time::{Duration, Instant};

use acceptance::{App, Stage, http::escape};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::{
    Plan, machine,
    report::Report,
    wire::{self, Wire, quantile},
};

const MIB: u64 = 1024 * 1024;
/// Questions of which a hundredth tells how long others wait.
const ASKED: usize = 1_000;
/// Milliseconds below which a machine with two cores and many processes is not told from another.
const NOISE: u64 = 10;
/// What the service may have open at a time.
const DESCRIPTORS: u64 = 4096;

/// Slow heads, silence, slow bodies and slow readers, more of them than there is room for: others notice nothing, and
/// each of them is closed.
pub async fn clients(plan: Plan) -> Report {
    let mut report = Report::default();
    let n = if plan.short { 100 } else { 1000 };
    let nofile = format!("--nofile={DESCRIPTORS}");
    let builder = App::builder().await.env("RUST_LOG", "warn");
    let app = builder.wrapper(&["prlimit", &nofile]).start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let mut calm = ask(&stage, ASKED).await;
    let kinds = [("slow heads", n), ("silent", n), ("slow bodies", n / 2), ("slow readers", n / 2)];
    let mut slow = Vec::new();
    for (kind, number) in kinds {
        report.count(kind, number as u64);
        for _ in 0..number {
            let address = stage.url.trim_start_matches("http://").to_owned();
            let token = stage.token.clone().unwrap_or_default();
            slow.push((kind, tokio::spawn(drag(kind, address, token))));
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Newcomers, each on a connection of its own, and one that has one.
    let mut busy = ask(&stage, ASKED).await;
    let mut descriptors = machine::descriptors(app.process.pid);
    for _ in 0..20 {
        busy.extend(newcomer(&stage).await);
        descriptors = descriptors.max(machine::descriptors(app.process.pid));
    }
    let (usual, now) = (quantile(&mut calm, 0.99), quantile(&mut busy, 0.99));
    report.count("ms to 99 % before", usual);
    report.count("ms to 99 % meanwhile", now);
    report.count("descriptors at most", descriptors);
    report.expect(now <= 2 * usual.max(NOISE), || format!("others waited {now} ms instead of {usual} ms"));
    report.expect(descriptors < DESCRIPTORS, || format!("{descriptors} descriptors"));
    // Bodies have 30 s, readers 30 s after their buffers are full; in the gate nobody waits for those.
    for (kind, task) in slow {
        let waits = matches!(kind, "slow bodies" | "slow readers");
        if plan.short && waits {
            task.abort();
            continue;
        }
        let limit = if waits { 60 } else { 30 };
        match tokio::time::timeout(Duration::from_secs(90), task).await {
            Ok(Ok(open)) => {
                report.expect(open.as_secs() < limit, || format!("{kind}: open for {open:?}"));
            }
            _ => report.expect(false, || format!("{kind}: never closed")),
        }
    }
    stage.judge().await.passes();
    report.count("MiB resident at most", app.process.peak() / MIB);
    app.log_is_clean();
    report
}

/// Behaves badly until it is closed; how long that took.
async fn drag(kind: &str, address: String, token: String) -> Duration {
    let begun = Instant::now();
    let body = format!(
        "POST /v1/attestations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n"
    );
    let asks = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(40);
    let first = match kind {
        "slow bodies" => body,
        "slow readers" => asks,
        _ => String::new(),
    };
    let Ok(socket) = TcpSocket::new_v4() else { return begun.elapsed() };
    let _ = socket.set_recv_buffer_size(4096);
    let Ok(to) = address.parse() else { return begun.elapsed() };
    let Ok(mut stream) = socket.connect(to).await else { return begun.elapsed() };
    let mut open = stream.write_all(first.as_bytes()).await.is_ok();
    let mut buffer = [0; 512];
    while open && begun.elapsed() < Duration::from_secs(85) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        open = match kind {
            "slow heads" => stream.write_all(b"G").await.is_ok() && is_open(&mut stream, &mut buffer).await,
            "slow bodies" => stream.write_all(b" ").await.is_ok() && is_open(&mut stream, &mut buffer).await,
            // Takes a byte now and then, and asks for no more.
            "slow readers" => !matches!(stream.read(&mut buffer[..1]).await, Ok(0) | Err(_)),
            _ => is_open(&mut stream, &mut buffer).await,
        };
    }
    begun.elapsed()
}

/// Whether the service has said nothing and not hung up.
async fn is_open(stream: &mut TcpStream, buffer: &mut [u8]) -> bool {
    tokio::time::timeout(Duration::from_millis(1), stream.read(buffer)).await.is_err()
}

async fn ask(stage: &Stage, times: usize) -> Vec<Duration> {
    let image = escape(&stage.world.image());
    let request = wire::get(stage, &format!("/v1/verdict?image={image}&environment=prod"));
    let mut wire = Wire::to(stage);
    let mut took = Vec::new();
    for _ in 0..times {
        took.push(answered(&mut wire, &request).await);
    }
    took
}

async fn newcomer(stage: &Stage) -> Vec<Duration> {
    ask(stage, 1).await
}

async fn answered(wire: &mut Wire, request: &[u8]) -> Duration {
    match wire.ask(request).await {
        Ok(seen) if seen.status == 200 => seen.took,
        _ => wire::PATIENCE,
    }
}

/// Bodies without an end, bodies that grow when they are unpacked, heads of a megabyte: refused, and not kept.
pub async fn bodies(plan: Plan) -> Report {
    let mut report = Report::default();
    let (at_once, mebibytes) = if plan.short { (10, 32) } else { (20, 2048) };
    let app = App::builder().await.env("RUST_LOG", "warn").start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let before = app.process.resident();
    let address = stage.url.trim_start_matches("http://").to_owned();
    let token = stage.token.clone().unwrap_or_default();
    let head = |more: &str| {
        format!(
            "POST /v1/attestations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{more}\r\n"
        )
    };
    let chunk = [format!("{MIB:x}\r\n").into_bytes(), vec![b' '; MIB as usize], b"\r\n".to_vec()].concat();
    let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0; 1000]].concat();
    let big = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-big: {}\r\n\r\n", "a".repeat(1 << 20));
    let encoded = head(&format!("content-encoding: gzip\r\ncontent-length: {}\r\n", gzip.len()));
    let attack = |kind, head: String, part: Vec<u8>, parts, expected: &'static [u16]| Attack {
        kind,
        head: head.into_bytes(),
        part,
        parts,
        expected,
    };
    let spaces = vec![b' '; MIB as usize];
    let attacks = [
        attack("chunked", head("transfer-encoding: chunked\r\n"), chunk, mebibytes, &[413, 503]),
        attack("announced", head("content-length: 4294967296\r\n"), spaces, 16, &[413, 503]),
        attack("gzip", encoded, gzip, 1, &[415]),
        attack("megabyte heads", big, Vec::new(), 0, &[431]),
    ];
    for attack in attacks {
        let all: Vec<_> = (0..at_once).map(|_| tokio::spawn(pour(address.clone(), attack.clone()))).collect();
        let mut for_good = 0;
        for one in all {
            let status = one.await.ok().flatten();
            report.count(attack.kind, 1);
            let as_expected = status.is_some_and(|s| attack.expected.contains(&s));
            report.expect(as_expected, || format!("{}: {status:?}", attack.kind));
            for_good += u64::from(status.is_some_and(|s| s != 503));
        }
        report.expect(for_good > 0, || format!("{}: nothing but 503", attack.kind));
    }
    let grown = app.process.peak().saturating_sub(before);
    report.count("MiB more than before", grown / MIB);
    report.expect(grown < 64 * MIB, || format!("{} MiB more than before", grown / MIB));
    stage.judge().await.passes();
    app.log_is_clean();
    report
}

/// What one connection pours out, and what it must be answered.
#[derive(Clone)]
struct Attack {
    kind: &'static str,
    head: Vec<u8>,
    part: Vec<u8>,
    parts: usize,
    expected: &'static [u16],
}

/// Sends a head and parts of a body while it listens; the status that comes back.
async fn pour(address: String, attack: Attack) -> Option<u16> {
    let Attack { head, part, parts, .. } = attack;
    let stream = TcpStream::connect(&address).await.ok()?;
    let (mut read, mut write) = stream.into_split();
    let sender = tokio::spawn(async move {
        let _ = write.write_all(&head).await;
        for _ in 0..parts {
            if write.write_all(&part).await.is_err() {
                break;
            }
        }
        write
    });
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(Ok(n @ 1..)) = tokio::time::timeout(Duration::from_secs(60), read.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..n]);
        if answer.windows(4).any(|w| w == b"\r\n\r\n") {
            break;
        }
    }
    drop(read);
    sender.abort();
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}
