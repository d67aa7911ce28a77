//! What must survive: two instances, floods, a stop in order. The scenarios R01 to R24 are in `faults/`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use acceptance::{App, Stage, checker, load::fresh};
use catenary_testkit::Key;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_on_one_database_keep_one_log() {
    let long = std::env::var_os("CATENARY_LONG").is_some();
    let (seconds, least) = if long { (60, 20_000) } else { (10, 500) };
    let one = App::start().await;
    let stage = Stage::in_app(&one).await.play_honest().await;
    let mut two = one.builder.clone().beside(&one).start().await;
    let key = Key::ed25519("faults");
    let (stop, entries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = Vec::new();
    for n in 0..8 {
        let (here, there) = if n % 2 == 0 { (&one.url, &two.url) } else { (&two.url, &one.url) };
        let (here, there) = (stage.at(here), stage.at(there));
        let (key, stop, entries) = (key.clone(), Arc::clone(&stop), Arc::clone(&entries));
        writers.push(tokio::spawn(async move {
            let mut last: Option<(String, u64)> = None;
            let mut all = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let batch: Vec<String> = (0..50).map(|_| fresh(&key)).collect();
                let request = here
                    .request(reqwest::Method::POST, "/v1/attestations")
                    .header("content-type", "application/x-ndjson")
                    .body(batch.join("\n"));
                let Ok(answer) = here.try_send(request).await else {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                if answer.status != 200 {
                    assert_eq!(answer.status, 503, "{}", answer.show());
                    continue;
                }
                for item in answer.json()["items"].as_array().unwrap() {
                    if item["status"] == 201 {
                        let place =
                            (item["id"].as_str().unwrap().to_owned(), item["index"].as_u64().unwrap());
                        entries.fetch_add(1, Ordering::Relaxed);
                        last = Some(place.clone());
                        all.push(place);
                    }
                }
                // The other instance has it, when asked for this index.
                if let Some((id, index)) = &last {
                    let path =
                        format!("/v1/attestations/{}?minIndex={index}&wait=10", acceptance::http::escape(id));
                    let Ok(seen) = there.try_send(there.request(reqwest::Method::GET, &path)).await else {
                        continue;
                    };
                    assert!(
                        [200, 503].contains(&seen.status),
                        "the other instance misses entry {index}: {}",
                        seen.show()
                    );
                }
            }
            all
        }));
    }
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds / 2)).await;
    two = two.kill().start().await;
    while begun.elapsed() < Duration::from_secs(seconds)
        || (long
            && entries.load(Ordering::Relaxed) < least
            && begun.elapsed() < Duration::from_secs(seconds * 3))
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    println!("{} entries in {:?}", entries.load(Ordering::Relaxed), begun.elapsed());
    assert!(entries.load(Ordering::Relaxed) >= least, "{} entries", entries.load(Ordering::Relaxed));
    let here = checker::check(&stage, &stage.tenant).await;
    let there = checker::check(&stage.at(&two.url), &stage.tenant).await;
    assert_eq!((here.checkpoint.size, here.checkpoint.root), (there.checkpoint.size, there.checkpoint.root));
    for (id, index) in &acknowledged {
        assert_eq!(
            here.index_of.get(id.trim_start_matches("sha256:")),
            Some(index),
            "an acknowledged entry is lost"
        );
    }
    one.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_revoked_through_one_instance_is_honoured_by_the_other() {
    let one = App::start().await;
    let two = one.builder.clone().beside(&one).start().await;
    for _ in 0..3 {
        let stage = Stage::in_app(&one).await.play_honest().await;
        let (other, image) = (stage.at(&two.url), stage.world.image());
        other.get(&format!("/v1/verdict?image={image}&environment=prod&wait=5&minIndex=1")).await;
        let begun = Instant::now();
        while other.verdict(&image).await.json()["outcome"] != "PASSED" {
            assert!(begun.elapsed() < Duration::from_secs(5), "the other instance does not follow");
        }
        // The other is asked all the time, so that it has the answer ready.
        let (stop, revoked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let askers: Vec<_> = (0..4)
            .map(|_| {
                let (other, image, stop, revoked) =
                    (other.clone(), image.clone(), Arc::clone(&stop), Arc::clone(&revoked));
                tokio::spawn(async move {
                    let mut after = 0;
                    while !stop.load(Ordering::SeqCst) {
                        let begun_after = revoked.load(Ordering::SeqCst);
                        let answer = other.verdict(&image).await;
                        if begun_after {
                            after += 1;
                            assert_ne!(
                                answer.json()["outcome"],
                                "PASSED",
                                "an answer begun after the acknowledgement counts a revoked key"
                            );
                        }
                    }
                    after
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.revoke_key(&stage.world.k_ci.id(), "stolen").await.is(200);
        revoked.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.store(true, Ordering::SeqCst);
        let mut after = 0;
        for asker in askers {
            after += asker.await.unwrap();
        }
        assert!(after > 10, "only {after} answers were begun after the acknowledgement");
        other.verdict(&image).await.denies("ATT_REVOKED_SIGNER");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h31_twenty_chunked_bodies_of_two_hundred_megabytes() {
    const BODIES: usize = 20;
    const MEGABYTES: usize = 200;
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let address = app.url.trim_start_matches("http://").to_owned();
    let before = app.process.resident();
    assert!(before > 0);
    let token = stage.token.clone().unwrap();
    let uploads: Vec<_> = (0..BODIES)
        .map(|_| {
            let (address, token) = (address.clone(), token.clone());
            tokio::spawn(async move {
                let stream = TcpStream::connect(&address).await.unwrap();
                let (mut read, mut write) = stream.into_split();
                let head = format!(
                    "POST /v1/attestations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
                );
                write.write_all(head.as_bytes()).await.unwrap();
                let sender = tokio::spawn(async move {
                    let chunk = [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
                    for _ in 0..MEGABYTES {
                        if write.write_all(&chunk).await.is_err() {
                            return;
                        }
                    }
                    let _ = write.write_all(b"0\r\n\r\n").await;
                });
                let mut answer = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(Ok(n @ 1..)) = tokio::time::timeout(Duration::from_secs(30), read.read(&mut buffer)).await {
                    answer.extend_from_slice(&buffer[..n]);
                    if answer.windows(4).any(|w| w == b"\r\n\r\n") {
                        break;
                    }
                }
                drop(read);
                sender.abort();
                String::from_utf8_lossy(&answer).into_owned()
            })
        })
        .collect();
    let mut refused = 0;
    for upload in uploads {
        let answer = upload.await.unwrap();
        // 503 where too many large bodies wait; silence is no answer.
        assert!(answer.starts_with("HTTP/1.1 413") || answer.starts_with("HTTP/1.1 503"), "{answer}");
        refused += usize::from(answer.starts_with("HTTP/1.1 413"));
    }
    let peak = app.process.peak();
    println!("{refused} of {BODIES} saw 413; resident {before} before, {peak} at most");
    assert!(refused > 0);
    assert!(peak.saturating_sub(before) < 64 * 1024 * 1024, "resident memory rose from {before} to {peak}");
    stage.judge().await.passes();
    // A body that says its size is refused before it is sent.
    let big = vec![b' '; 9 * 1024 * 1024];
    let answer = stage
        .try_send(
            stage
                .request(reqwest::Method::POST, "/v1/attestations")
                .header("content-type", "application/json")
                .body(big),
        )
        .await;
    if let Ok(answer) = answer {
        answer.answers("H31");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_order_answers_what_was_begun() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let key = Key::ed25519("faults");
    let posts: Vec<_> = (0..32)
        .map(|_| {
            let (client, body) = (stage.admin.clone(), fresh(&key));
            tokio::spawn(async move {
                let request = client
                    .request(reqwest::Method::POST, "/v1/attestations")
                    .header("content-type", "application/json")
                    .body(body);
                client.try_send(request).await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let begun = Instant::now();
    let builder = app.stop();
    assert!(begun.elapsed() < Duration::from_secs(10), "the stop took {:?}", begun.elapsed());
    let mut acknowledged = Vec::new();
    for post in posts {
        if let Ok(answer) = post.await.unwrap()
            && answer.status == 201
        {
            acknowledged.push(checker::acknowledged(&answer));
        }
    }
    let app = builder.start().await;
    let checked = checker::check(&stage, &stage.tenant).await;
    for (id, index) in acknowledged {
        checked.includes(&stage, &id, index).await;
    }
    app.log_is_clean();
}

/// R06: the disk under the log is full. Each line is lost, and no answer with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_stops_no_answer() {
    let wrapper = ["sh", "-c", "exec \"$@\" 2>/dev/full", "quiet"];
    let app = App::builder().await.wrapper(&wrapper).start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    stage.judge().await.passes();
    assert!(!app.log().contains("\"level\""), "standard error goes elsewhere");
}
