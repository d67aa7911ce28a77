//! Following logs on a real database: what is seen, what is refused, and when.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "follow/saved.rs"]
mod saved;

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use catenary_chain::control::{Entry, Revocation, Token, TrustedKey, WriteSet};
use catenary_evidence::{
    KeyId, PublicKey, Trust, attestation,
    digest::{Node, Sha256},
};
use catenary_store::{
    New, Store, StoreError, StoreOptions,
    checkpoints::CheckpointStore,
    follow::{AppendError, Broken, FollowError, Follower, LEASE, POLL, Snapshot},
    keys::ServiceKeys,
    ladder::PrivateCluster,
};
use catenary_testkit::{Key, Statement, Subject, sha256_hex};
use jiff::Timestamp;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

const TENANT: &str = "acme";
const ORIGIN: &str = "catenary.test/acme";
const NOBODY: Sha256 = Sha256([0; 32]);

static CLUSTER: OnceCell<Arc<PrivateCluster>> = OnceCell::const_new();

/// A database of its own, the keys and the folder for checkpoints.
struct Ground {
    connect: PgConnectOptions,
    store: Store,
    keys: Arc<ServiceKeys>,
    dir: tempfile::TempDir,
}

impl Ground {
    async fn new(name: &str) -> Self {
        let start = async || {
            let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("follow-tests");
            std::fs::create_dir_all(&dir).unwrap();
            Arc::new(PrivateCluster::start(&dir).await.unwrap())
        };
        let options = CLUSTER.get_or_init(start).await.connect_options();
        let mut connection = PgConnection::connect_with(&options).await.unwrap();
        for sql in [format!("drop database if exists {name} with (force)"), format!("create database {name}")]
        {
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
        let connect = options.database(name);
        let dir = tempfile::tempdir().unwrap();
        let keys = Arc::new(ServiceKeys::open_or_create(&dir.path().join("keys")).unwrap());
        let store = open(&connect, &keys).await;
        store.create_tenant(TENANT, ORIGIN).await.unwrap();
        Self { connect, store, keys, dir }
    }

    fn outside(&self) -> CheckpointStore {
        CheckpointStore::open(&self.dir.path().join("checkpoints")).unwrap()
    }

    async fn follower(&self) -> Follower {
        Follower::start(self.store.clone(), self.keys.clone(), Some(self.outside())).await.unwrap()
    }

    /// Another instance: connections of its own, the same keys and folder.
    async fn another(&self) -> Follower {
        let store = open(&self.connect, &self.keys).await;
        Follower::start(store, self.keys.clone(), Some(self.outside())).await.unwrap()
    }

    async fn attest(&self, text: &str) -> u64 {
        self.store.append(TENANT, attested(text)).await.unwrap().index
    }

    async fn sql(&self, text: &str) {
        let mut connection = PgConnection::connect_with(&self.connect).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(text.to_owned())).execute(&mut connection).await.unwrap();
    }
}

async fn open(connect: &PgConnectOptions, keys: &ServiceKeys) -> Store {
    let options = StoreOptions { readers: 3, writers: 2, ..StoreOptions::default() };
    Store::open(connect.clone(), keys.seal_keys(), &options).await.unwrap()
}

fn attested(text: &str) -> New {
    let bytes = Statement::new("https://example.com/check/v1", serde_json::json!({}))
        .subject(Subject::new("image", "sha256", &sha256_hex(text.as_bytes())))
        .signed_by(&Key::ed25519("ci"))
        .to_bytes();
    let facts = Box::new(attestation::verify(&bytes, &Trust::none()).unwrap());
    New::Attestation { bytes, facts, submitter: NOBODY, keys_at: u64::MAX }
}

fn node(text: &str) -> Node {
    Node::Content(Sha256::of(text.as_bytes()).into())
}

fn trusted(name: &str) -> TrustedKey {
    let pem = Key::ed25519(name).public_pem();
    let public = PublicKey::from_pem(&pem, None).unwrap();
    TrustedKey {
        id: public.id(),
        name: name.to_owned(),
        pem,
        scheme: public.scheme(),
        service: None,
        valid_from: None,
        valid_until: None,
    }
}

fn a_token(n: usize) -> Token {
    Token {
        id: format!("t{n}"),
        hash: Sha256([1; 32]),
        role: "reader".to_owned(),
        name: String::new(),
        expires: jiff::Timestamp::MAX,
        repositories: Vec::new(),
        predicate_types: Vec::new(),
        by: None,
    }
}

async fn append(follower: &Follower, entry: Entry) -> u64 {
    let decide = |_: &_| Ok::<_, std::convert::Infallible>(entry.clone());
    follower.append_control(TENANT, NOBODY, decide).await.unwrap().0.index
}

fn revocation(key: KeyId) -> Entry {
    Entry::Revocation(Revocation::of_key(key, "leaked"))
}

#[tokio::test]
async fn entries_are_followed_and_told_before_they_are_visible() {
    let ground = Ground::new("followed").await;
    let follower = ground.follower().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let (seen, early) = (told.clone(), follower.clone());
    follower.observe(Arc::new(move |change| {
        let visible = early.snapshot(TENANT).unwrap().size;
        seen.lock().unwrap().push((visible, change.clone()));
    }));
    let index = ground.attest("one").await;
    let snapshot = follower.wait_for(TENANT, index, Duration::from_secs(5)).await.unwrap();
    let head = ground.store.head(TENANT).await.unwrap().unwrap();
    assert_eq!((snapshot.size, snapshot.root, snapshot.time), (head.size, head.root, head.time));
    let told = told.lock().unwrap();
    let [(visible, change)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((*visible, change.from, change.to), (1, 1, 2));
    assert_eq!(change.writes, [WriteSet::Nodes(vec![node("one")])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shares_a_look_sees_what_was_there_when_it_asked() {
    let ground = Ground::new("shared").await;
    let follower = ground.follower().await;
    let writers = (0..32).map(|n| {
        let (store, follower) = (ground.store.clone(), follower.clone());
        tokio::spawn(async move {
            for round in 0..4 {
                let index = store.append(TENANT, attested(&format!("{n} {round}"))).await.unwrap().index;
                let snapshot = follower.refreshed(TENANT).await.unwrap();
                assert!(snapshot.size > index, "{index} is missing in {}", snapshot.size);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(follower.refreshed(TENANT).await.unwrap().size, 1 + 32 * 4);
}

#[tokio::test]
async fn evidence_whose_facts_cannot_be_believed_may_be_about_anything() {
    let ground = Ground::new("anything").await;
    let told = |follower: Follower, text: &'static str| {
        let ground = &ground;
        async move {
            let mut changes = follower.subscribe();
            follower.stop();
            let index = ground.attest(text).await;
            ground.sql("update attestation set predicate_type = 'other'").await;
            follower.refreshed(TENANT).await.unwrap();
            assert_eq!(follower.snapshot(TENANT).unwrap().size, index + 1);
            changes.recv().await.unwrap().writes.clone()
        }
    };
    assert_eq!(told(ground.another().await, "one").await, [WriteSet::All]);
    // Who wrote it knows what it is about, whatever is stored.
    assert_eq!(told(ground.follower().await, "two").await, [WriteSet::Nodes(vec![node("two")])]);
}

#[tokio::test]
async fn control_entries_are_folded_and_acknowledged_after_every_lease() {
    let ground = Ground::new("control").await;
    let (one, other) = (ground.follower().await, ground.another().await);
    let key = trusted("ci");
    append(&one, Entry::TrustAdded(key.clone().into())).await;
    let snapshot = one.snapshot(TENANT).unwrap();
    assert_eq!(snapshot.trust.keys().len(), 1);
    assert!(!snapshot.control.trusts(&key.id, Timestamp::MAX));
    append(&one, Entry::TrustEffective(key.id.into())).await;
    assert!(one.snapshot(TENANT).unwrap().control.trusts(&key.id, Timestamp::MAX));

    let begin = Instant::now();
    append(&one, revocation(key.id)).await;
    assert!(begin.elapsed() >= LEASE + POLL);
    // Nothing begun now, on any instance, may believe the key.
    assert!(other.lease_valid(TENANT));
    assert!(!other.snapshot(TENANT).unwrap().control.trusts(&key.id, Timestamp::MAX));
}

#[tokio::test]
async fn a_decision_is_taken_again_when_the_state_moved() {
    let ground = Ground::new("again").await;
    let follower = Arc::new(ground.follower().await);
    let racers: Vec<_> = (0..8)
        .map(|racer| {
            let follower = follower.clone();
            tokio::spawn(async move {
                let decide = |s: &Snapshot| {
                    let token = Token { name: format!("racer {racer}"), ..a_token(s.control.tokens.len()) };
                    Ok::<_, std::convert::Infallible>(Entry::TokenCreated(token))
                };
                follower.append_control(TENANT, NOBODY, decide).await.unwrap().0.created
            })
        })
        .collect();
    for racer in racers {
        assert!(racer.await.unwrap(), "each got a number of its own");
    }
    assert_eq!(follower.refreshed(TENANT).await.unwrap().control.tokens.len(), 8);
    let unreadable = Entry::TokenCreated(Token { hash: NOBODY, ..a_token(9) });
    let decide = |_: &_| Ok::<_, std::convert::Infallible>(unreadable.clone());
    let refused = follower.append_control(TENANT, NOBODY, decide).await;
    assert!(matches!(refused, Err(AppendError::Follow(FollowError::Store(StoreError::Unloggable(_))))));
    let refused = follower.append_control(TENANT, NOBODY, |_| Err("no")).await;
    assert!(matches!(refused, Err(AppendError::Refused("no"))));
}

#[tokio::test]
async fn a_lease_runs_out_when_polls_stop_and_a_poll_renews_it() {
    let ground = Ground::new("lease").await;
    let follower = ground.follower().await;
    let lease = follower.lease(TENANT).unwrap();
    assert!(lease.holds() && follower.lease_valid(TENANT));
    follower.stop();
    tokio::time::sleep(LEASE + Duration::from_millis(50)).await;
    assert!(!follower.lease_valid(TENANT) && !lease.holds());
    follower.fresh(TENANT).await.unwrap();
    assert!(follower.lease_valid(TENANT));
    assert!(!lease.holds(), "a lease taken before says nothing about what was looked up before");
}

#[tokio::test]
async fn waiting_for_an_entry_that_does_not_come_ends() {
    let ground = Ground::new("waiting").await;
    let follower = ground.follower().await;
    let late = follower.wait_for(TENANT, 5, Duration::from_millis(300)).await;
    assert!(matches!(late, Err(FollowError::Behind { index: 5, size: 1 })), "{late:?}");
    let none = follower.wait_for("nobody", 0, Duration::from_secs(1)).await;
    assert!(matches!(none, Err(FollowError::NoTenant(_))), "{none:?}");
}

#[tokio::test]
async fn a_tenant_made_by_another_instance_is_found() {
    let ground = Ground::new("tenants").await;
    let follower = ground.follower().await;
    ground.store.create_tenant("late", "catenary.test/late").await.unwrap();
    assert_eq!(follower.fresh("late").await.unwrap().origin, "catenary.test/late");
    assert_eq!(follower.tenants(), [TENANT, "late"]);
}

/// What someone with the database's password may try; each stops every yes of the tenant, and only of it.
#[tokio::test]
async fn a_log_that_was_changed_behind_our_back_is_not_believed() {
    let cases = [
        ("entry_gone", "delete from log_entry where log_index = 2"),
        (
            "entry_swapped",
            "update log_entry set log_index = 3 - log_index + 1000 where log_index in (1, 2);
                           update log_entry set log_index = log_index - 1000 where log_index > 1000",
        ),
        (
            "leaf_changed",
            "update log_entry set leaf = (select leaf from log_entry where log_index = 1) where log_index = 2",
        ),
        ("kind_changed", "update log_entry set kind = 'object' where log_index = 1"),
        ("root_changed", "update log_head set root = sha256('x') where tenant = 'acme'"),
        ("origin_changed", "update log_head set origin = 'other' where tenant = 'acme'"),
        (
            "body_of_control_gone",
            "delete from body where id = (select id from log_entry where kind = 'revocation')",
        ),
        (
            "body_of_control_changed",
            "update body set bytes = '{}' where id = (select id from log_entry where kind = 'revocation')",
        ),
        ("head_gone", "delete from log_head where tenant = 'acme'"),
    ];
    for (name, sql) in cases {
        let ground = Ground::new(&format!("broken_{name}")).await;
        ground.store.create_tenant("twin", "catenary.test/twin").await.unwrap();
        for text in ["one", "two"] {
            ground.attest(text).await;
        }
        let entry = Box::new(revocation(trusted("ci").id));
        ground.store.append(TENANT, New::Control { entry, submitter: NOBODY }).await.unwrap();
        // What was there before is kept outside.
        let before = ground.follower().await;
        kept_outside(&ground, 4).await;
        drop(before);
        ground.sql(sql).await;
        let follower = ground.follower().await;
        assert!(follower.broken(TENANT).is_some(), "{name}");
        assert!(!follower.lease_valid(TENANT), "{name}");
        assert!(matches!(follower.fresh(TENANT).await, Err(FollowError::Broken { .. })), "{name}");
        assert!(follower.broken("twin").is_none() && follower.lease_valid("twin"), "{name}");
    }
}

#[tokio::test]
async fn a_log_that_is_rolled_back_while_we_run_is_not_believed() {
    let ground = Ground::new("running").await;
    ground.attest("one").await;
    let follower = ground.follower().await;
    rolled_back(&ground).await;
    let error = follower.refreshed(TENANT).await.unwrap_err();
    assert!(
        matches!(error, FollowError::Broken { reason: Broken::Shorter { had: 2, found: 1 }, .. }),
        "{error}"
    );
    let mut sizes = Vec::new();
    ground.attest("another").await;
    sizes.push(follower.broken(TENANT));
    assert!(sizes[0].is_some(), "it stays so");
}

#[tokio::test]
async fn a_backup_put_back_while_we_were_down_is_noticed_by_the_checkpoint_outside() {
    let ground = Ground::new("backup").await;
    ground.attest("one").await;
    let follower = ground.follower().await;
    kept_outside(&ground, 2).await;
    drop(follower);
    rolled_back(&ground).await;
    let follower = ground.follower().await;
    assert_eq!(follower.broken(TENANT), Some(Broken::ShorterThanCheckpoint { kept: 2, found: 1 }));

    // Grown again with other entries, it is as long, and still another log.
    ground.attest("another").await;
    let follower = ground.follower().await;
    assert_eq!(follower.broken(TENANT), Some(Broken::NotAnExtension { kept: 2 }));
    ground.attest("and one more").await;
    let follower = ground.follower().await;
    assert_eq!(follower.broken(TENANT), Some(Broken::NotAnExtension { kept: 2 }));
}

#[tokio::test]
async fn a_checkpoint_outside_that_another_key_signed_is_not_believed() {
    let ground = Ground::new("forged").await;
    ground.attest("one").await;
    let other = ServiceKeys::open_or_create(&ground.dir.path().join("other")).unwrap();
    let head = ground.store.head(TENANT).await.unwrap().unwrap();
    let checkpoint = catenary_tlog::Checkpoint::new(ORIGIN, head.size, head.root);
    let note = checkpoint.sign(&other.log_signer(ORIGIN).unwrap()).unwrap();
    ground.outside().advance(TENANT, None, note.as_bytes()).unwrap();
    let follower = ground.follower().await;
    assert!(matches!(follower.broken(TENANT), Some(Broken::BadCheckpoint { .. })));
}

#[tokio::test]
async fn two_instances_put_their_checkpoints_outside_in_turn() {
    let ground = Ground::new("turns").await;
    let (one, other) = (ground.follower().await, ground.another().await);
    for n in 0..6 {
        ground.attest(&n.to_string()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    kept_outside(&ground, 7).await;
    tokio::time::sleep(LEASE).await;
    assert_eq!((one.broken(TENANT), other.broken(TENANT)), (None, None));
    let note = String::from_utf8(ground.outside().load(TENANT).unwrap().unwrap()).unwrap();
    assert_eq!(note, one.checkpoint(&one.snapshot(TENANT).unwrap()).unwrap());
}

#[tokio::test]
async fn without_a_folder_rollback_detection_is_off() {
    let ground = Ground::new("off").await;
    let follower = Follower::start(ground.store.clone(), ground.keys.clone(), None).await.unwrap();
    assert!(!follower.detects_rollback());
    assert!(ground.follower().await.detects_rollback());
}

#[tokio::test]
async fn a_database_that_is_gone_ends_the_lease_but_breaks_nothing() {
    let ground = Ground::new("outage").await;
    let follower = ground.follower().await;
    ground.store.close().await;
    tokio::time::sleep(LEASE + POLL).await;
    assert!(!follower.lease_valid(TENANT));
    assert_eq!(follower.broken(TENANT), None);
    let error = follower.fresh(TENANT).await.unwrap_err();
    assert!(matches!(error, FollowError::Store(StoreError::Unavailable(_))), "{error}");
}

/// The last entry undone, as from a backup.
async fn rolled_back(ground: &Ground) {
    let entries = ground.store.entries(TENANT, 0, 1).await.unwrap();
    let mut frontier = catenary_tlog::Frontier::new();
    frontier.push(catenary_tlog::leaf_hash(&entries[0].leaf));
    let (edge, root) = (hex::encode(frontier.to_bytes()), frontier.root());
    ground
        .sql(&format!(
            "delete from log_entry where log_index >= 1; delete from attestation; delete from attestation_subject;
             delete from body where id not in (select id from log_entry);
             update log_head set size = 1, frontier = '\\x{edge}', root = '\\x{root}'"
        ))
        .await;
}

async fn kept_outside(ground: &Ground, size: u64) {
    let line = format!("\n{size}\n");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(10) {
        let kept = ground.outside().load(TENANT).unwrap().unwrap_or_default();
        if String::from_utf8(kept).unwrap().contains(&line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no checkpoint of {size} entries outside");
}
