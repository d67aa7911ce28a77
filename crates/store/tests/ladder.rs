//! Databases of our own: made, kept, stopped.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use catenary_store::ladder::{Database, LadderError, Rungs};
use sqlx::{Connection, PgConnection};

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap()
}

async fn climb(dir: &Path) -> Result<Database, LadderError> {
    Database::climb(None, dir, "private".parse()?).await
}

async fn connection(database: &Database) -> PgConnection {
    PgConnection::connect_with(&database.connect_options()).await.unwrap()
}

fn pid(database: &Database) -> u32 {
    let Database::Private(cluster) = database else { panic!("{}", database.describe()) };
    cluster.pid().unwrap()
}

fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn ends(pid: u32) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        if !lives(pid) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[tokio::test]
async fn a_private_cluster_keeps_its_rows_and_is_stopped() {
    let dir = folder();
    let database = climb(dir.path()).await.unwrap();
    let mut c = connection(&database).await;
    sqlx::raw_sql("create table t (n int); insert into t values (7)").execute(&mut c).await.unwrap();
    let checksums: String = sqlx::query_scalar("show data_checksums").fetch_one(&mut c).await.unwrap();
    assert_eq!(checksums, "on");
    c.close().await.unwrap();
    let server = pid(&database);
    database.shutdown().await;
    assert!(!lives(server));

    let database = climb(dir.path()).await.unwrap();
    let n: i32 =
        sqlx::query_scalar("select n from t").fetch_one(&mut connection(&database).await).await.unwrap();
    assert_eq!(n, 7);
    let server = pid(&database);
    drop(database);
    assert!(!lives(server), "dropping stops it too");
}

#[tokio::test]
async fn a_server_that_was_killed_recovers() {
    let dir = folder();
    let database = climb(dir.path()).await.unwrap();
    let mut c = connection(&database).await;
    sqlx::raw_sql("create table t (n int); insert into t values (7)").execute(&mut c).await.unwrap();
    let server = pid(&database);
    Command::new("kill").args(["-9", &server.to_string()]).status().unwrap();
    assert!(ends(server));
    drop(database);

    let database = climb(dir.path()).await.unwrap();
    let n: i32 =
        sqlx::query_scalar("select n from t").fetch_one(&mut connection(&database).await).await.unwrap();
    assert_eq!(n, 7);
}

#[tokio::test]
async fn a_second_process_is_a_guest_and_stops_nothing() {
    let dir = folder();
    let owner = climb(dir.path()).await.unwrap();
    let guest = climb(dir.path()).await.unwrap();
    connection(&guest).await;
    let Database::Private(cluster) = &guest else { panic!() };
    assert_eq!(cluster.pid(), None);
    drop(guest);
    connection(&owner).await;
}

#[tokio::test]
async fn a_start_that_is_abandoned_half_way_leaves_no_server() {
    let dir = folder();
    // Past initdb once, so that the abandoned starts meet every phase of a start.
    climb(dir.path()).await.unwrap().shutdown().await;
    for wait in [0, 5, 10, 20, 40] {
        let _ = tokio::time::timeout(Duration::from_millis(wait), climb(dir.path())).await;
        // The next start gets the lock, and no old server is in its way.
        climb(dir.path()).await.unwrap().shutdown().await;
        assert!(servers_on(dir.path()).is_empty());
    }
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_leaves_no_server() {
    let dir = folder();
    climb(dir.path()).await.unwrap().shutdown().await;
    fs::write(dir.path().join("postgres/data/postgresql.conf"), "no_such_setting = 1\n").unwrap();
    let error = climb(dir.path()).await.unwrap_err().to_string();
    assert!(error.contains("no_such_setting"), "{error}");
    assert!(servers_on(dir.path()).is_empty());
}

#[tokio::test]
async fn a_long_path_gets_its_socket_elsewhere() {
    let dir = folder();
    let long = dir.path().join("a-long-name-".repeat(10));
    let database = climb(&long).await.unwrap();
    connection(&database).await;
    let sockets = PathBuf::from(database.connect_options().get_host());
    assert!(sockets.exists() && !sockets.starts_with(&long));
    database.shutdown().await;
    assert!(!sockets.exists(), "and leaves nothing there");
}

#[tokio::test]
async fn a_data_directory_of_root_alone_works() {
    let dir = tempfile::tempdir().unwrap();
    let database = climb(&dir.path().join("data")).await.unwrap();
    connection(&database).await;
    let Database::Private(cluster) = &database else { panic!() };
    let place: PathBuf = cluster.directory().to_owned();
    database.shutdown().await;
    fs::remove_dir_all(place).unwrap();
}

/// The service is killed with its whole run: nothing of ours is left to stop the server.
#[tokio::test]
async fn a_killed_owner_takes_its_server_along_and_the_next_start_works() {
    let dir = folder();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "the_owner_that_is_killed"])
        .env("LADDER_TEST_DIR", dir.path())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while !dir.path().join("ready").exists() {
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    let [server] = servers_on(dir.path())[..] else { panic!() };
    owner.kill().unwrap();
    owner.wait().unwrap();
    let database = climb(dir.path()).await.unwrap();
    assert_ne!(pid(&database), server);
    assert!(ends(server));
    let n: i32 =
        sqlx::query_scalar("select n from t").fetch_one(&mut connection(&database).await).await.unwrap();
    assert_eq!(n, 7);
}

#[tokio::test]
#[ignore = "the other process of a_killed_owner_takes_its_server_along_and_the_next_start_works"]
async fn the_owner_that_is_killed() {
    let Some(dir) = std::env::var_os("LADDER_TEST_DIR") else { return };
    let database = climb(Path::new(&dir)).await.unwrap();
    let mut c = connection(&database).await;
    sqlx::raw_sql("create table t (n int); insert into t values (7)").execute(&mut c).await.unwrap();
    fs::write(Path::new(&dir).join("ready"), "").unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn no_rung_is_one_line_that_says_what_to_do() {
    let dir = folder();
    let none = Rungs { url: false, private: false, embedded: false };
    let error = Database::climb(Some("postgres://x"), dir.path(), none).await.unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1);
    for word in ["CATENARY_DATABASE_URL", "install PostgreSQL", "--features embedded"] {
        assert!(error.contains(word), "{error}");
    }
    assert!(matches!("sqlite".parse::<Rungs>(), Err(LadderError::UnknownRung { .. })));
}

#[tokio::test]
async fn a_url_comes_first_and_its_password_is_never_shown() {
    let dir = folder();
    let database =
        Database::climb(Some("postgres://u:secret@localhost:5/db"), dir.path(), Rungs::ALL).await.unwrap();
    assert!(matches!(database, Database::Url(_)));
    assert!(database.describe().contains("localhost") && !database.describe().contains("secret"));
    let error = Database::climb(Some("nonsense:secret"), dir.path(), Rungs::ALL).await.unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[cfg(feature = "embedded")]
#[tokio::test]
async fn pglite_keeps_its_rows() {
    let dir = folder();
    for create in [true, false] {
        let database = Database::climb(None, dir.path(), "embedded".parse().unwrap()).await.unwrap();
        assert_eq!(database.max_connections(), 1);
        let mut c = connection(&database).await;
        if create {
            sqlx::raw_sql("create table t (n int); insert into t values (7)").execute(&mut c).await.unwrap();
        }
        let n: i32 = sqlx::query_scalar("select n from t").fetch_one(&mut c).await.unwrap();
        assert_eq!(n, 7);
        c.close().await.unwrap();
        database.shutdown().await;
    }
}

/// Postmasters whose command line names a folder under `dir`.
fn servers_on(dir: &Path) -> Vec<u32> {
    let needle = dir.to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(needle) && line.contains("postgres -D") {
            found.push(pid);
        }
    }
    found
}

/// The whole store on one connection: migrations, an append, following, and the audit.
#[cfg(feature = "embedded")]
#[tokio::test]
async fn pglite_carries_a_log() {
    use std::sync::Arc;

    use catenary_evidence::{Trust, attestation, digest::Sha256};
    use catenary_store::{New, Store, StoreOptions, audit::log_verify, follow::Follower, keys::ServiceKeys};
    use catenary_testkit::{Key, Statement, Subject, sha256_hex};

    let dir = folder();
    let database = Database::climb(None, dir.path(), "embedded".parse().unwrap()).await.unwrap();
    let keys = Arc::new(ServiceKeys::open_or_create(&dir.path().join("keys")).unwrap());
    let options =
        StoreOptions { single_connection: database.max_connections() == 1, ..StoreOptions::default() };
    let store = Store::open(database.connect_options(), keys.seal_keys(), &options).await.unwrap();
    store.bind_service_keys(&keys.rows()).await.unwrap();
    store.create_tenant("acme", "catenary.test/acme").await.unwrap();
    let follower = Follower::start(store.clone(), keys.clone(), None).await.unwrap();
    let bytes = Statement::new("https://example.com/check/v1", serde_json::json!({}))
        .subject(Subject::new("image", "sha256", &sha256_hex(b"image")))
        .signed_by(&Key::ed25519("ci"))
        .to_bytes();
    let facts = Box::new(attestation::verify(&bytes, &Trust::none()).unwrap());
    let new = New::Attestation { bytes, facts, submitter: Sha256([0; 32]), keys_at: u64::MAX };
    let index = store.append("acme", new).await.unwrap().index;
    follower.wait_for("acme", index, Duration::from_secs(5)).await.unwrap();
    let report = log_verify(&store, None, &keys, None).await.unwrap();
    assert!(report.is_clean() && report.logs[0].entries == 2, "{report:#?}");
    follower.stop();
    store.close().await;
    database.shutdown().await;
}
