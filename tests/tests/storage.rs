//! What a database may do to a service: be slow, full, gone, old, or in the hands of somebody else.

#![expect(clippy::unwrap_used, reason = "this is test code")]

#[path = "storage/replica.rs"]
mod replica;

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant},
};

use acceptance::{
    App, Builder, Client, Cluster, Stage, checker,
    cluster::{connect, count, execute, texts},
    honest,
    jwt::{GITHUB, GITLAB, Issuer, config},
    proxy::{Direction, Proxy, Wire},
    skip,
};
use catenary_testkit::{Key, Statement, Subject, World, dsse::Envelope};
use serde_json::json;

/// An attestation that nobody sent before.
fn fresh(key: &Key) -> Envelope {
    let statement = Statement::new("https://acme.test/note/v1", json!({"n": acceptance::unique()}));
    statement.subject(Subject::new("x", "sha256", &"1".repeat(64))).signed_by(key)
}

#[tokio::test(flavor = "multi_thread")]
async fn d01_a_hundred_parallel_posts_of_one_envelope() {
    let stage = honest().await;
    let bytes = fresh(&stage.world.k_ci).to_bytes();
    let posts: Vec<_> = (0..100)
        .map(|_| {
            let (client, bytes) = (stage.admin.clone(), bytes.clone());
            tokio::spawn(async move { client.submit(bytes).await })
        })
        .collect();
    let (mut created, mut places) = (0, BTreeSet::new());
    for post in posts {
        let answer = post.await.unwrap();
        assert!([200, 201].contains(&answer.status), "{}", answer.show());
        created += usize::from(answer.status == 201);
        places.insert(checker::acknowledged(&answer));
    }
    assert_eq!((created, places.len()), (1, 1), "{places:?}");
    stage.judge().await.passes();
}

#[tokio::test(flavor = "multi_thread")]
async fn d03_kill_between_evidence_insert_and_log_append() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let url = app.database().to_owned();
    let before = checker::check(&stage, &stage.tenant).await;
    // Somebody holds the log's head, so that the service has inserted and waits to append when it dies.
    let mut held = connect(&url).await;
    let lock = format!("BEGIN; SELECT 1 FROM log_head WHERE tenant = '{}' FOR UPDATE", stage.tenant);
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut held).await.unwrap();
    let envelope = fresh(&stage.world.k_ci);
    let (client, bytes) = (stage.admin.clone(), envelope.to_bytes());
    let post = tokio::spawn(async move {
        client
            .try_send(
                client
                    .request(reqwest::Method::POST, "/v1/attestations")
                    .header("content-type", "application/json")
                    .body(bytes),
            )
            .await
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    let (builder, admin) = (app.kill(), stage.admin.clone());
    let answer = post.await.unwrap();
    assert!(!answer.as_ref().is_ok_and(|a| a.status < 300), "acknowledged before it was durable: {answer:?}");
    drop(held);
    let app = builder.start().await;
    assert_eq!(app.url, admin.url);
    let id = catenary_testkit::sha256_hex(&envelope.to_bytes());
    let found = admin.get(&format!("/v1/attestations/sha256:{id}")).await.status;
    let after = checker::check(&admin, &stage.tenant).await;
    assert_eq!(found == 200, after.index_of.contains_key(&id), "evidence and entry are not together");
    assert!(after.checkpoint.size >= before.checkpoint.size);
    // Sent again it is taken, once.
    assert!([200, 201].contains(&admin.submit(envelope.to_bytes()).await.status));
    admin.verdict(&stage.world.image()).await.passes();
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn d04_clients_that_hang_up_while_the_database_is_slow() {
    let cluster = Cluster::shared().await;
    let url = cluster.database().await;
    let Some((_, database)) = url.rsplit_once('/') else { panic!("{url}") };
    if cluster.port() == 0 {
        return skip(
            "d04_clients_that_hang_up_while_the_database_is_slow",
            "the database is not ours to put a proxy before",
        );
    }
    let proxy = Proxy::open(cluster.port()).await;
    let slow = format!("postgres://postgres@127.0.0.1:{}/{database}", proxy.port);
    let app = Builder::default().database(&slow).start().await;
    let stage = Stage::in_app(&app).await;
    proxy.set(Direction::Down, Wire::late(Duration::from_millis(300)));
    let mut attempts = Vec::new();
    for n in 0..2_000 {
        let (client, bytes) = (stage.admin.clone(), fresh(&stage.world.k_ci).to_bytes());
        attempts.push(tokio::spawn(async move {
            let limit = Duration::from_millis(fastrand::u64(0..600));
            let _ = tokio::time::timeout(limit, client.submit(bytes)).await;
        }));
        if n % 50 == 49 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    for attempt in attempts {
        let _ = attempt.await;
    }
    proxy.heal();
    let mut acknowledged = Vec::new();
    for _ in 0..10 {
        let answer = stage.submit(fresh(&stage.world.k_ci).to_bytes()).await;
        answer.is(201);
        acknowledged.push(checker::acknowledged(&answer));
    }
    let checked = checker::check(&stage, &stage.tenant).await;
    for (id, index) in acknowledged {
        checked.includes(&stage, &id, index).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND state LIKE 'idle in transaction%' AND state_change < now() - interval '1 second'"
    );
    assert_eq!(count(&url, &idle).await, 0, "connections are left inside a transaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn d06_the_database_dies_in_the_middle_and_comes_back() {
    let cluster = Cluster::private(&[]).await;
    let app = Builder::default().database(&cluster.database().await).start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (client, key, stop) = (stage.admin.clone(), stage.world.k_ci.clone(), stop.subscribe());
            tokio::spawn(async move {
                let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
                while !*stop.borrow() {
                    let answer = client.submit(fresh(&key).to_bytes()).await;
                    if answer.status == 201 {
                        acknowledged.push(checker::acknowledged(&answer));
                    } else {
                        refused.push((answer.status, answer.header("retry-after"), answer.code()));
                    }
                }
                (acknowledged, refused)
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ready = app.anonymous().get("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.show());
    let verdict = stage.judge().await;
    assert_eq!(verdict.status, 503, "{}", verdict.show());
    assert!(!verdict.header("retry-after").is_empty());
    cluster.start().await;
    let begun = Instant::now();
    while app.anonymous().get("/readyz").await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the service does not come back: {}", app.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send(true).unwrap();
    let _ = stopped.changed().await;
    let checked_writers = futures(writers).await;
    let checked = checker::check(&stage, &stage.tenant).await;
    let (mut total, mut refusals) = (0, 0);
    for (acknowledged, refused) in checked_writers {
        total += acknowledged.len();
        refusals += refused.len();
        for (id, index) in acknowledged {
            assert_eq!(
                checked.index_of.get(id.trim_start_matches("sha256:")),
                Some(&index),
                "an acknowledged write is lost"
            );
        }
        for (status, retry_after, code) in refused {
            assert_eq!(status, 503, "{code}");
            assert!(!retry_after.is_empty());
        }
    }
    assert!(total > 0 && refusals > 0, "{total} acknowledged, {refusals} refused");
    stage.judge().await.passes();
    app.log_is_clean();
}

async fn futures<T>(tasks: Vec<tokio::task::JoinHandle<T>>) -> Vec<T> {
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn d07_the_disk_is_full() {
    let folder = tempfile::Builder::new().prefix("catenary-full-").tempdir().unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=160m,mode=0755", "tmpfs"])
        .arg(folder.path())
        .output();
    if !mount.is_ok_and(|run| run.status.success()) {
        return skip("d07_the_disk_is_full", "no file system can be mounted here");
    }
    let mounted = Mounted(folder.path().to_owned());
    let cluster = Cluster::private_in(
        folder.path().join("pg").tap(|p| std::fs::create_dir(p).unwrap()),
        &["max_wal_size=32MB", "min_wal_size=32MB"],
    )
    .await;
    // The write-ahead log has a disk of its own, which is not full: without it Postgres is down (R06).
    let elsewhere = tempfile::Builder::new().prefix("catenary-wal-").tempdir().unwrap();
    std::fs::set_permissions(elsewhere.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    cluster.stop();
    let (own, wal) = (folder.path().join("pg/data/pg_wal"), elsewhere.path().join("pg_wal"));
    assert!(Command::new("cp").arg("-a").args([&own, &wal]).status().unwrap().success());
    std::fs::remove_dir_all(&own).unwrap();
    std::os::unix::fs::symlink(&wal, &own).unwrap();
    cluster.start().await;
    let app = Builder::default().database(&cluster.database().await).start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    // Somebody else fills the disk.
    let filler = folder.path().join("filler");
    let _ = Command::new("dd")
        .args(["if=/dev/zero", "bs=1M", "count=200"])
        .arg(format!("of={}", filler.display()))
        .output();
    let mut refused = 0;
    for _ in 0..60 {
        let padding = "x".repeat(200_000);
        let statement = Statement::new(
            "https://acme.test/note/v1",
            json!({"n": acceptance::unique(), "padding": padding}),
        );
        let answer = stage
            .submit(
                statement
                    .subject(Subject::new("x", "sha256", &"1".repeat(64)))
                    .signed_by(&stage.world.k_ci)
                    .to_bytes(),
            )
            .await;
        if answer.status != 201 {
            assert!([503, 507].contains(&answer.status), "{}", answer.show());
            refused += 1;
            if refused > 3 {
                break;
            }
        }
    }
    assert!(refused > 0, "the disk did not fill");
    // What is there is read, and answered from: by who asked before, and by who did not.
    stage.judge().await.passes();
    let path = format!(
        "/v1/verdict?image={}&environment=prod&ctx.n=1",
        acceptance::http::escape(&stage.world.image())
    );
    stage.get(&path).await.passes();
    stage.get("/v1/attestations").await.is(200);
    std::fs::remove_file(&filler).unwrap();
    let begun = Instant::now();
    while stage.submit(fresh(&stage.world.k_ci).to_bytes()).await.status != 201 {
        assert!(begun.elapsed() < Duration::from_secs(15), "nothing is taken again");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    app.log_is_clean();
    drop(app);
    drop(cluster);
    drop(mounted);
}

/// A mounted file system, unmounted at the end.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Does something with a value on its way.
trait Tap: Sized {
    fn tap(self, f: impl FnOnce(&Self)) -> Self {
        f(&self);
        self
    }
}

impl Tap for std::path::PathBuf {}

#[tokio::test(flavor = "multi_thread")]
async fn d09_no_connections_are_left() {
    let cluster = Cluster::private(&["max_connections=40", "superuser_reserved_connections=3"]).await;
    let url = cluster.database().await;
    let app = Builder::default().database(&url).start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let mut held = Vec::new();
    while let Ok(connection) = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await {
        held.push(connection);
    }
    let judge = |stage: Client, image: String| {
        tokio::spawn(async move {
            let begun = Instant::now();
            (stage.verdict(&image).await, begun.elapsed())
        })
    };
    let asked: Vec<_> = (0..40).map(|_| judge(stage.admin.clone(), stage.world.image())).collect();
    for (answer, took) in futures(asked).await {
        assert!([200, 503].contains(&answer.status), "{}", answer.show());
        assert!(took < Duration::from_secs(8), "{took:?}");
        if answer.status == 200 {
            answer.passes();
        }
    }
    let begun = Instant::now();
    let write = stage.submit(fresh(&stage.world.k_ci).to_bytes()).await;
    assert!([201, 503].contains(&write.status), "{}", write.show());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    drop(held);
    let begun = Instant::now();
    while stage.judge().await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stage.judge().await.passes();
}

/// A copy of every row of one database in another, taken while nobody writes.
async fn copy_database(from: &str, to: &str) {
    let bin = acceptance::cluster::binaries();
    let dump = Command::new(bin.join("pg_dump")).args(["--format=custom", from]).output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &dump.stdout).unwrap();
    let restore =
        Command::new(bin.join("pg_restore")).arg("--dbname").arg(to).arg(file.path()).output().unwrap();
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn d12_restore_from_an_old_backup_is_detected() {
    let cluster = Cluster::shared().await;
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let (url, old) = (app.database().to_owned(), cluster.database().await);
    copy_database(&url, &old).await;
    // After the backup a key is revoked, and the outside checkpoint moves on.
    stage.revoke_key(&stage.world.k_ci.id(), "stolen").await.is(200);
    assert_eq!(stage.judge().await.outcome(), "FAILED");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let builder = app.stop();

    let app = builder.clone().database(&old).launch();
    let (mut denied, begun) = (0, Instant::now());
    while begun.elapsed() < Duration::from_secs(12) {
        let client = app.anonymous();
        if let Ok(ready) = client.try_send(client.request(reqwest::Method::GET, "/readyz")).await {
            assert_ne!(ready.status, 200, "ready on an old backup: {}", ready.show());
            let verdict = stage.afresh(&app.url).verdict(&stage.world.image()).await;
            let yes = verdict.status == 200 && verdict.json()["allowed"] == json!(true);
            assert!(!yes, "a yes from an old backup: {}", verdict.show());
            let gate = stage
                .afresh(&app.url)
                .get(&format!("/v1/gate?image={}&environment=prod", stage.world.image()))
                .await;
            assert_ne!(gate.status, 200, "{}", gate.show());
            denied += 1;
        } else if !app.process.is_running() {
            // Refusing to start is a way of not being ready.
            denied += 1;
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(denied > 0, "{}", app.log());
    app.stop();
    // The newer database is still good.
    let app = builder.start().await;
    assert_eq!(stage.judge().await.outcome(), "FAILED");
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_its_keys_restores_to_a_clean_log() {
    let cluster = Cluster::shared().await;
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let older = checker::checkpoint(&stage, &stage.tenant).await;
    let restored = cluster.database().await;
    copy_database(app.database(), &restored).await;
    let keys = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(app.data.join("keys"))
        .arg(app.data.join("checkpoints"))
        .arg(keys.path())
        .status();
    assert!(copied.unwrap().success());
    app.stop();
    let folder = |name: &str| keys.path().join(name).display().to_string();
    let app = Builder::default()
        .database(&restored)
        .env("CATENARY_KEYS", &folder("keys"))
        .env("CATENARY_CHECKPOINTS", &folder("checkpoints"))
        .start()
        .await;
    let admin = stage.at(&app.url);
    admin.verdict(&stage.world.image()).await.passes();
    app.log_is_clean();
    admin.submit(fresh(&stage.world.k_ci).to_bytes()).await.is(201);
    checker::check(&admin, &stage.tenant).await.extends(&admin, &stage.tenant, &older).await;
    // Other keys are refused: such an instance does not start.
    let other = Builder::default().database(&restored).launch();
    let begun = Instant::now();
    while other.process.is_running() {
        let client = other.anonymous();
        let ready = client.try_send(client.request(reqwest::Method::GET, "/readyz")).await;
        assert!(!ready.is_ok_and(|r| r.status == 200), "an instance with other keys is ready");
        assert!(begun.elapsed() < Duration::from_secs(15), "an instance with other keys runs");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// An app whose database the test may damage, with an honest chain, restarted so that nothing is cached.
async fn damaged(sql: impl Fn(&Stage) -> String) -> (App, Stage) {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let rows = execute(app.database(), &sql(&stage)).await;
    assert!(rows > 0, "the attack touched no row");
    let app = app.stop().start().await;
    (app, stage)
}

fn build_id(stage: &Stage) -> String {
    // The envelope that was posted is not known again (ECDSA), but its subject and place are.
    format!(
        "(SELECT id FROM attestation WHERE tenant = '{}' AND predicate_type LIKE 'https://slsa.dev/provenance%')",
        stage.tenant
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn d13_tampered_evidence_bytes_never_count() {
    let (app, stage) = damaged(|stage| {
        format!(
            "UPDATE body SET bytes = bytes || ' '::bytea WHERE tenant = '{}' AND id = {}",
            stage.tenant,
            build_id(stage)
        )
    })
    .await;
    let verdict = stage.at(&app.url).verdict(&stage.world.image()).await;
    verdict.answers("D13");
    assert!(!app.log_differences().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn d13_tampered_facts_are_derived_anew_from_the_signed_bytes() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await;
    let mut world = stage.world.clone();
    world.build.source_ref = "refs/heads/evil".into();
    stage.post_objects(&world).await;
    stage.post_envelopes(&world.envelopes()).await;
    stage.judge().await.denies("SRC_REF_NOT_ALLOWED");
    let sql = format!(
        "UPDATE attestation SET facts = convert_to(replace(convert_from(facts, 'UTF8'), 'refs/heads/evil', 'refs/heads/main'), 'UTF8') WHERE tenant = '{}' AND id = {}",
        stage.tenant,
        build_id(&stage)
    );
    assert!(execute(app.database(), &sql).await > 0);
    let app = app.stop().start().await;
    let admin = stage.at(&app.url);
    admin.verdict(&world.image()).await.denies("SRC_REF_NOT_ALLOWED");
    let metrics = String::from_utf8_lossy(&app.anonymous().get("/metrics").await.body).into_owned();
    let alarms = metrics
        .lines()
        .find(|l| l.starts_with("catenary_integrity_alarms_total"))
        .unwrap_or("absent")
        .to_owned();
    assert!(!alarms.ends_with(" 0") && alarms != "absent", "no alarm: {alarms}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_earlier_build_are_written_anew_from_the_signed_bytes() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let tenant = &stage.tenant;
    // Facts in a form that this build does not read, index rows that are not there, and two that nobody accounts for.
    for sql in [
        format!("UPDATE attestation SET facts = '\\x7b7d', builder = 'old' WHERE tenant = '{tenant}'"),
        format!("UPDATE object SET facts = '\\x7b7d' WHERE tenant = '{tenant}'"),
        format!("DELETE FROM attestation_subject WHERE tenant = '{tenant}'"),
        format!("DELETE FROM object_child WHERE tenant = '{tenant}'"),
        format!(
            "INSERT INTO attestation_subject (tenant, node, signer, log_index, id)
             SELECT tenant, 'sha256:cc', '', 1000000, id FROM attestation WHERE tenant = '{tenant}' LIMIT 1"
        ),
        format!(
            "INSERT INTO object_child (tenant, child, parent, log_index) VALUES ('{tenant}', 'sha256:aa', 'sha256:bb', 0)"
        ),
    ] {
        assert!(execute(app.database(), &sql).await > 0, "{sql}");
    }
    assert!(!app.log_differences().is_empty());
    let run = app.run(&["log", "reindex", "--tenant", tenant, "--output", "json"]);
    assert!(run.status.success(), "{run:?}");
    let done: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(done["logs"][0]["attestations"].as_u64() >= Some(3) && done["logs"][0]["removed"] == 2, "{done}");
    app.log_is_clean();
    let app = app.stop().start().await;
    stage.at(&app.url).verdict(&stage.world.image()).await.passes();

    // Nothing is derived from bytes that are not those that the log names.
    let damage =
        format!("UPDATE body SET bytes = '\\x7b7d' WHERE tenant = '{tenant}' AND id = {}", build_id(&stage));
    assert_eq!(execute(app.database(), &damage).await, 1);
    let run = app.run(&["log", "reindex", "--tenant", tenant, "--output", "json"]);
    let done: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(!run.status.success() && done["logs"] == serde_json::json!([]), "{done}");
    assert!(!done["refused"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn d15_a_deleted_row_says_no_and_is_named() {
    for table in ["attestation", "attestation_subject", "body", "object"] {
        let (app, stage) = damaged(|stage| match table {
            "object" => format!(
                "DELETE FROM object WHERE tenant = '{}' AND node = '{}'",
                stage.tenant,
                stage.world.index.digest()
            ),
            _ => {
                format!("DELETE FROM {table} WHERE tenant = '{}' AND id = {}", stage.tenant, build_id(stage))
            }
        })
        .await;
        let verdict = stage.at(&app.url).verdict(&stage.world.image()).await;
        assert_ne!(verdict.outcome(), "PASSED", "{table}: {}", verdict.show());
        let differences = app.log_differences();
        assert!(!differences.is_empty(), "{table}: log verify names nothing");
        let (tenant, of) = (&stage.tenant, if table == "object" { "object" } else { "attestation" });
        let index = match table {
            "attestation" | "object" => format!(
                "SELECT log_index FROM log_entry WHERE tenant = '{tenant}' AND kind = '{of}' AND id NOT IN (SELECT id FROM {of} WHERE tenant = '{tenant}')"
            ),
            _ => format!(
                "SELECT log_index FROM attestation WHERE tenant = '{tenant}' AND id = {}",
                build_id(&stage)
            ),
        };
        let leaf = format!("entry {}", count(app.database(), &index).await);
        assert!(
            differences.iter().any(|d| d.contains(&leaf)),
            "{table}: {leaf} is not named: {differences:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d16_a_row_without_a_log_entry_never_counts() {
    let app = App::start().await;
    // A twin tenant has the whole chain; the build's rows are copied to a tenant that never received it.
    let twin = Stage::in_app(&app).await.play_honest().await;
    let mut stage = Stage::in_app(&app).await;
    stage.world = World { now: twin.world.now, ..twin.world.clone() };
    acceptance::stage::furnish(&stage.admin, &stage.world).await;
    stage.post_objects(&stage.world).await;
    stage.post_envelopes(&[stage.world.source_envelope(), stage.world.push_envelope()]).await;
    stage.judge().await.denies("BLD_NO_PROVENANCE");
    let id = build_id(&twin);
    let mut copied = 0;
    for table in ["body", "attestation", "attestation_subject"] {
        let columns: Vec<String> = texts(
            app.database(),
            &format!("SELECT column_name::text FROM information_schema.columns WHERE table_name = '{table}' AND column_name NOT IN ('tenant', 'log_index') ORDER BY ordinal_position"),
        )
        .await;
        let list = columns.join(", ");
        // At an index that the follower believes in, and that belongs to something else.
        let (index, value) = if table == "body" { ("", "") } else { (", log_index", ", 0") };
        let sql = format!(
            "INSERT INTO {table} (tenant{index}, {list}) SELECT '{}'{value}, {list} FROM {table} WHERE tenant = '{}' AND id = {id}",
            stage.tenant, twin.tenant
        );
        copied += execute(app.database(), &sql).await;
    }
    assert!(copied >= 3, "{copied}");
    let app = app.stop().start().await;
    let admin = stage.at(&app.url);
    let verdict = admin.verdict(&stage.world.image()).await;
    assert_ne!(verdict.outcome(), "PASSED", "{}", verdict.show());
    assert!(!app.log_differences().is_empty());
    twin.at(&app.url).verdict(&twin.world.image()).await.passes();
}

#[tokio::test(flavor = "multi_thread")]
async fn d18_two_writers_make_one_history() {
    let one = App::start().await;
    let stage = Stage::in_app(&one).await.play_honest().await;
    let two = one.builder.clone().beside(&one).start().await;
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let client = stage.at(if n % 2 == 0 { &one.url } else { &two.url });
            let key = stage.world.k_ci.clone();
            tokio::spawn(async move {
                let mut all = Vec::new();
                for _ in 0..25 {
                    let answer = client.submit(fresh(&key).to_bytes()).await;
                    answer.is(201);
                    all.push(checker::acknowledged(&answer));
                }
                all
            })
        })
        .collect();
    let acknowledged: Vec<(String, u64)> = futures(tasks).await.concat();
    let indexes: BTreeSet<u64> = acknowledged.iter().map(|(_, index)| *index).collect();
    assert_eq!(indexes.len(), 200, "two entries share an index");
    // Each instance follows the other's entries within its poll: ask for the newest by its index.
    let newest = indexes.last().copied().unwrap_or_default();
    for url in [&one.url, &two.url] {
        stage.at(url).get(&format!("/v1/policies?minIndex={newest}&wait=5s")).await.is(200);
    }
    let (here, there) = (
        checker::check(&stage, &stage.tenant).await,
        checker::check(&stage.at(&two.url), &stage.tenant).await,
    );
    assert_eq!((here.checkpoint.size, here.checkpoint.root), (there.checkpoint.size, there.checkpoint.root));
    for (id, index) in &acknowledged[..20] {
        here.includes(&stage.at(&two.url), id, *index).await;
    }
    stage.judge().await.passes();
    one.log_is_clean();
}

#[tokio::test]
async fn d20_bytes_come_back_as_they_were_sent() {
    let stage = honest().await;
    let text = format!(
        "{{ \"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[{{\"name\":\"x\",\"digest\":{{\"sha256\":\"{}\"}}}}],  \"predicateType\":\"https://acme.test/note/v1\", \"predicate\":{{\"b\":1.0,\"a\":1,\"c\":1e2,\"d\":\"\\u00e9\",\"e\":[ ]}} }}",
        "1".repeat(64)
    );
    let envelope = Envelope::statement(text).signed_by(&stage.world.k_ci);
    // White space and member order of the envelope are the sender's, too.
    let sent = format!(
        "\n{{ \"signatures\" : {},\t\"payloadType\":\"{}\", \"payload\":{} }} \n",
        envelope.to_value()["signatures"],
        envelope.payload_type,
        envelope.to_value()["payload"]
    );
    let answer = stage.submit(sent.clone()).await.is(201);
    assert_eq!(answer.text("status"), "verified");
    let raw = stage.get(&format!("/v1/attestations/{}/raw", answer.text("id"))).await;
    raw.is(200);
    let trimmed = sent.trim();
    assert!(
        raw.body == sent.as_bytes() || raw.body == trimmed.as_bytes(),
        "{}",
        String::from_utf8_lossy(&raw.body)
    );
    let id = answer.text("id").trim_start_matches("sha256:").to_owned();
    assert_eq!(id, catenary_testkit::sha256_hex(&raw.body));
    // The same in a batch: the id is that of the element's byte slice.
    let again = stage.submit(format!("[ {trimmed} ,{trimmed}]")).await.is(200);
    for item in again.list("items") {
        let item_id = item["id"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
        assert_eq!(item_id, catenary_testkit::sha256_hex(trimmed.as_bytes()));
    }
    let index = stage.world.index.document();
    let object = stage.get(&format!("/v1/objects/{}", acceptance::http::escape(&index.digest()))).await;
    assert_eq!(object.body, index.bytes);
    stage.judge().await.passes();
}

#[tokio::test(flavor = "multi_thread")]
async fn d21_a_database_clock_two_hours_off_stops_writes() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let url = app.database().to_owned();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let fresh_bytes = || fresh(&stage.world.k_ci).to_bytes();
    stage.submit(fresh_bytes()).await.is(201);
    for hours in ["+ interval '2 hours'", "- interval '2 hours'"] {
        // Names that are looked up before pg_catalog's: the clock of whoever owns the database.
        let clock = |function: &str| {
            format!(
                "CREATE OR REPLACE FUNCTION fake.{function}() RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_catalog.{function}() {hours} $$;"
            )
        };
        let functions: String =
            ["now", "clock_timestamp", "statement_timestamp", "transaction_timestamp"].map(clock).concat();
        execute(&url, &format!("CREATE SCHEMA IF NOT EXISTS fake; {functions} ALTER DATABASE {name} SET search_path = fake, pg_catalog, public;")).await;
        let builder = app.builder.clone();
        let skewed = builder.beside(&app).launch();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let client = stage.at(&skewed.url);
        let request = client
            .request(reqwest::Method::POST, "/v1/attestations")
            .header("content-type", "application/json")
            .body(fresh_bytes());
        match client.try_send(request).await {
            Ok(answer) => {
                assert_eq!(answer.status, 503, "an entry was taken under a wrong clock: {}", answer.show())
            }
            Err(error) => assert!(!skewed.process.is_running(), "{error}"),
        }
        execute(&url, &format!("ALTER DATABASE {name} RESET search_path")).await;
    }
    let checked = checker::check(&stage, &stage.tenant).await;
    assert!(checked.checkpoint.size > 0);
    // Expired tokens are refused by the instance's own clock.
    let folder = tempfile::tempdir().unwrap();
    let (github, gitlab) = (Issuer::new(GITHUB), Issuer::new(GITLAB));
    let ci = App::builder().await.config(&config(folder.path(), &github, &gitlab)).start().await;
    let mut claims = github.github_claims();
    claims["iat"] = json!(acceptance::now() - 7_200);
    claims["exp"] = json!(acceptance::now() - 6_900);
    Client::new(&ci.url, Some(&github.token(&claims))).submit("{}").await.is_problem(401, "AUTH_TOKEN_CLAIM");
}

#[tokio::test(flavor = "multi_thread")]
async fn d23_a_truncated_log_is_found_and_stops_every_yes() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let sql = format!(
        "DELETE FROM log_entry WHERE tenant = '{0}' AND log_index > (SELECT max(log_index) - 3 FROM log_entry WHERE tenant = '{0}')",
        stage.tenant
    );
    assert_eq!(execute(app.database(), &sql).await, 3);
    assert!(!app.log_differences().is_empty(), "log verify finds nothing");
    let app = app.stop().launch();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let client = stage.at(&app.url);
    let request = client.request(
        reqwest::Method::GET,
        &format!("/v1/verdict?image={}&environment=prod", stage.world.image()),
    );
    if let Ok(verdict) = client.try_send(request).await {
        assert!(verdict.json()["allowed"] != json!(true), "{}", verdict.show());
        assert_ne!(app.anonymous().get("/readyz").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d23_the_last_decisions_are_deleted() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    for n in 0..4 {
        let path = format!("/v1/gate?image={}&environment=e{n}", stage.world.image());
        stage.get(&path).await;
        let recorded = format!("SELECT count(*) FROM decision WHERE tenant = '{}'", stage.tenant);
        let begun = Instant::now();
        while count(app.database(), &recorded).await <= n {
            assert!(begun.elapsed() < Duration::from_secs(30), "answers are not recorded");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let app = app.stop().start().await;
    app.log_is_clean();
    let last = format!(
        "tenant = '{0}' AND number >= (SELECT max(number) - 1 FROM decision_batch WHERE tenant = '{0}')",
        stage.tenant
    );
    assert!(execute(app.database(), &format!("DELETE FROM decision_batch WHERE {last}")).await >= 2);
    let last = format!(
        "tenant = '{0}' AND first_us >= (SELECT max(first_us) FROM decision WHERE tenant = '{0}')",
        stage.tenant
    );
    assert!(execute(app.database(), &format!("DELETE FROM decision WHERE {last}")).await >= 1);
    let named = app.log_differences();
    assert!(named.iter().any(|d| d.contains("the end of the chain is gone")), "{named:?}");
    assert!(named.iter().any(|d| d.contains("records count for it")), "{named:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_verify_names_an_altered_a_deleted_and_a_swapped_row_of_every_table() {
    // Tables that hold no evidence: the migrations' own record, what runs, what is told to whom.
    const NO_EVIDENCE: &[&str] = &[
        "_sqlx_migrations",
        "dead_letter",
        "deployment",
        "event",
        "event_head",
        "log_fold",
        "watched",
        "watched_node",
        "watcher",
        "webhook",
    ];
    let cluster = Cluster::shared().await;
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    // More than one full tile.
    let lines: Vec<String> = (0..600).map(|_| fresh(&stage.world.k_ci).to_json()).collect();
    stage.submit(lines.join("\n")).await.is(200);
    // Rows of packages and findings.
    let component = |n: u32| {
        json!({"name": format!("p{n}"), "version": "1", "licenses": [{"expression": "MIT"}],
        "hashes": [{"alg": "SHA-256", "content": "ab"}], "purl": format!("pkg:npm/p{n}@1")})
    };
    let sbom = json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [component(1), component(2)],
        "vulnerabilities": [{"id": "CVE-2026-1", "ratings": [{"severity": "low"}]}]});
    let sbom = Statement::new("https://cyclonedx.org/bom", sbom).subject(Subject::new(
        "x",
        "sha256",
        &"1".repeat(64),
    ));
    stage.submit(sbom.signed_by(&stage.world.k_ci).to_json()).await.is(201);
    // Two verdicts, by two decisions.
    for environment in ["one", "two"] {
        stage.get(&format!("/v1/gate?image={}&environment={environment}", stage.world.image())).await.is(200);
    }
    app.log_is_clean();
    let pristine = app.database().to_owned();
    let builder = app.stop();
    let tables =
        texts(&pristine, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
            .await;
    assert!(tables.len() > 5, "{tables:?}");
    let mut unnamed = Vec::new();
    for table in tables.iter().filter(|t| !NO_EVIDENCE.contains(&t.as_str())) {
        for (what, sql) in attacks_on(&pristine, table, &stage.tenant).await {
            let copy = cluster.database().await;
            copy_database(&pristine, &copy).await;
            let rows = execute(&copy, &sql).await;
            assert!(rows > 0, "{what} of {table} touched nothing: {sql}");
            let run = builder
                .clone()
                .database(&copy)
                .command(&["log", "verify", "--output", "json"])
                .output()
                .unwrap();
            let text =
                String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
            if run.status.success() || !text.contains(table.as_str()) {
                unnamed.push(format!(
                    "{what} of {table}: {sql}: {}",
                    text.chars().take(400).collect::<String>()
                ));
            }
            let name = copy.rsplit('/').next().unwrap().to_owned();
            cluster.execute("postgres", &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
    assert!(unnamed.is_empty(), "log verify does not name:\n{}", unnamed.join("\n"));
}

/// An alteration of each column, a deletion, and a swap of two rows' contents.
async fn attacks_on(url: &str, table: &str, tenant: &str) -> Vec<(String, String)> {
    let columns = texts(
        url,
        &format!("SELECT column_name || ' ' || udt_name FROM information_schema.columns WHERE table_name = '{table}' AND table_schema = 'public' ORDER BY ordinal_position"),
    )
    .await;
    let keys = texts(
        url,
        &format!("SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) WHERE i.indrelid = 'public.{table}'::regclass AND i.indisprimary"),
    )
    .await;
    let of_tenant = columns.iter().any(|c| c.starts_with("tenant "));
    let filter = if of_tenant { format!("WHERE tenant = '{tenant}'") } else { String::new() };
    let one = format!("(SELECT ctid FROM {table} {filter} ORDER BY ctid LIMIT 1)");
    let mut all = vec![("deletion".to_owned(), format!("DELETE FROM {table} WHERE ctid = {one}"))];
    let mut swapped = Vec::new();
    for column in &columns {
        let (name, kind) = column.split_once(' ').unwrap();
        if name == "tenant" || keys.iter().any(|k| k == name) {
            continue;
        }
        swapped.push(name.to_owned());
        let changed = match kind {
            "bytea" => format!(
                "set_byte({name}, length({name}) - 1, (get_byte({name}, length({name}) - 1) + 1) % 256)"
            ),
            "int8" | "int4" | "int2" => format!("{name} + 1000"),
            "bool" => format!("NOT {name}"),
            _ => format!("coalesce({name}, '') || 'x'"),
        };
        let row = if kind == "bytea" {
            format!(
                "(SELECT ctid FROM {table} {filter} {} length({name}) > 0 ORDER BY ctid LIMIT 1)",
                if of_tenant { "AND" } else { "WHERE" }
            )
        } else {
            one.clone()
        };
        all.push((
            format!("alteration of {name}"),
            format!("UPDATE {table} SET {name} = {changed} WHERE ctid = {row}"),
        ));
    }
    if let Some(name) =
        swapped.iter().find(|n| ["bytes", "facts", "leaf", "hashes", "public"].contains(&n.as_str()))
    {
        // With the first that says something else: a swap of equals is none.
        let and = if of_tenant { "AND" } else { "WHERE" };
        let first = format!("(SELECT {name} FROM {table} WHERE ctid = {one})");
        let two =
            format!("(SELECT ctid FROM {table} {filter} {and} {name} <> {first} ORDER BY ctid LIMIT 1)");
        all.push((
            "swap".to_owned(),
            format!(
                "UPDATE {table} SET {name} = other.{name} FROM {table} other WHERE ({table}.ctid = {one} AND other.ctid = {two}) OR ({table}.ctid = {two} AND other.ctid = {one})"
            ),
        ));
    }
    all
}
