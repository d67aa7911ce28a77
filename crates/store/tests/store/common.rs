//! A database of our own for each test, and evidence to put into it.

use std::{path::Path, sync::Arc};

use catenary_chain::{
    control::Entry,
    gather::{Evidence, Want},
};
use catenary_evidence::{
    KeyId, PublicKey, Trust,
    attestation::{self, Attestation},
    digest::{Node, Sha256},
    object,
};
use catenary_store::{New, Prefix, SealKeys, Store, StoreError, StoreOptions, ladder::PrivateCluster};
use catenary_testkit::{Key, Statement, Subject, oci::Blob, sha256_hex};
use catenary_tlog::{Frontier, leaf_hash};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

pub const TENANT: &str = "acme";
pub const ORIGIN: &str = "catenary.test/acme";

static CLUSTER: OnceCell<Arc<PrivateCluster>> = OnceCell::const_new();

/// One server for this test binary; it ends with the process.
async fn cluster() -> Arc<PrivateCluster> {
    let start = async || {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("store-tests");
        std::fs::create_dir_all(&dir).unwrap();
        Arc::new(PrivateCluster::start(&dir).await.unwrap())
    };
    CLUSTER.get_or_init(start).await.clone()
}

/// A fresh database with one tenant.
pub struct Ground {
    pub connect: PgConnectOptions,
    pub store: Store,
    pub ci: Key,
    pub ring: Trust,
}

pub fn seal_keys() -> SealKeys {
    SealKeys { current: (1, [7; 32]), retired: Vec::new() }
}

pub async fn database(name: &str) -> PgConnectOptions {
    let cluster = cluster().await;
    let options = cluster.connect_options();
    // Many tests at once can fill the socket's queue.
    let mut attempts = 0;
    let mut connection = loop {
        match PgConnection::connect_with(&options).await {
            Ok(connection) => break connection,
            Err(error) if attempts == 50 => panic!("{error}"),
            Err(_) => attempts += 1,
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    for sql in [format!("drop database if exists {name} with (force)"), format!("create database {name}")] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    options.database(name)
}

pub fn few() -> StoreOptions {
    StoreOptions { readers: 3, writers: 2, ..StoreOptions::default() }
}

impl Ground {
    pub async fn new(name: &str) -> Self {
        Self::with(name, few()).await
    }

    pub async fn with(name: &str, options: StoreOptions) -> Self {
        let connect = database(name).await;
        let store = Store::open(connect.clone(), seal_keys(), &options).await.unwrap();
        store.create_tenant(TENANT, ORIGIN).await.unwrap();
        let ci = Key::ed25519("ci");
        Self { connect, store, ring: ring(&[&ci]), ci }
    }

    /// Another instance on the same database.
    pub async fn another(&self) -> Store {
        Store::open(self.connect.clone(), seal_keys(), &few()).await.unwrap()
    }

    /// What someone with the database's password does.
    pub async fn sql(&self, text: &str) -> u64 {
        let mut connection = PgConnection::connect_with(&self.connect).await.unwrap();
        let text = sqlx::AssertSqlSafe(text.to_owned());
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap().rows_affected()
    }

    pub async fn count(&self, text: &str) -> i64 {
        let mut connection = PgConnection::connect_with(&self.connect).await.unwrap();
        sqlx::query_scalar(sqlx::AssertSqlSafe(text.to_owned())).fetch_one(&mut connection).await.unwrap()
    }

    /// An attestation about `subject` by the CI's key, ready to be logged.
    pub fn attested(&self, subject: &str) -> New {
        self.vouched_by(&self.ci, subject)
    }

    pub fn vouched_by(&self, key: &Key, subject: &str) -> New {
        let bytes = statement(subject).signed_by(key).to_bytes();
        self.verified(bytes)
    }

    pub fn verified(&self, bytes: Vec<u8>) -> New {
        let facts = Box::new(attestation::verify(&bytes, &self.ring).unwrap());
        New::Attestation { bytes, facts, submitter: Sha256([0; 32]), keys_at: u64::MAX }
    }

    pub fn object(&self, blob: &Blob) -> New {
        self.git_object(&blob.media_type, &blob.bytes)
    }

    pub fn git_object(&self, media_type: &str, bytes: &[u8]) -> New {
        let facts = Box::new(object::read(media_type, bytes, &self.ring, None).unwrap());
        New::Object {
            bytes: bytes.to_vec(),
            media_type: media_type.to_owned(),
            facts,
            submitter: Sha256([0; 32]),
            keys_at: u64::MAX,
        }
    }

    /// The log as a follower reads it: every leaf, in order, hashed.
    pub async fn prefix(&self) -> Prefix {
        followed(&self.store, &self.ring).await
    }

    /// Everything about `nodes` that the CI's key, or nobody, vouches for.
    pub async fn gather(&self, nodes: &[Node]) -> Evidence {
        let want = Want {
            nodes: nodes.to_vec(),
            by: catenary_chain::gather::Wanted {
                signers: vec![key_id(&self.ci)].into(),
                identities: Vec::new().into(),
            },
        };
        let mut evidence = Evidence::default();
        self.store.gather(TENANT, &want, &self.prefix().await, &mut evidence).await.unwrap();
        evidence
    }
}

/// Reads the whole log and recomputes its root; it must be the head's.
pub async fn followed(store: &Store, keys: &Trust) -> Prefix {
    let head = store.head(TENANT).await.unwrap().unwrap();
    let mut frontier = Frontier::new();
    for entry in store.entries(TENANT, 0, head.size).await.unwrap() {
        assert_eq!(entry.decode().unwrap().id.0, entry.id.0);
        frontier.push(leaf_hash(&entry.leaf));
    }
    assert_eq!(frontier.root(), head.root);
    Prefix { size: head.size, root: head.root, trust: keys.clone(), past: false }
}

pub fn statement(subject: &str) -> Statement {
    let predicate = serde_json::json!({ "about": subject });
    Statement::new("https://example.com/predicate/v1", predicate).subject(Subject::new(
        "artifact",
        "sha256",
        &sha256_hex(subject.as_bytes()),
    ))
}

pub fn node(subject: &str) -> Node {
    format!("sha256:{}", sha256_hex(subject.as_bytes())).parse().unwrap()
}

pub fn ring(keys: &[&Key]) -> Trust {
    let mut ring = Trust::none();
    for key in keys {
        ring.insert_key(PublicKey::from_pem(&key.public_pem(), None).unwrap());
    }
    ring
}

pub fn key_id(key: &Key) -> KeyId {
    PublicKey::from_pem(&key.public_pem(), None).unwrap().id()
}

/// A cheap control entry.
pub fn token_revoked(n: u64) -> New {
    control(Entry::TokenRevoked { id: format!("token{n}"), reason: "test".into() })
}

pub fn control(entry: Entry) -> New {
    New::Control { entry: Box::new(entry), submitter: Sha256([0; 32]) }
}

pub fn facts(new: &New) -> &Attestation {
    match new {
        New::Attestation { facts, .. } => facts,
        other => panic!("not an attestation: {other:?}"),
    }
}

pub fn is_unavailable(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_))
}
