//! `log verify` against somebody with the database's password: every table, every column.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::Path, sync::Arc};

use catenary_chain::{
    Evidence, Question, Verdict,
    control::{Control, Entry, Token, TrustedKey},
    evaluate,
    verdict::LogView,
};
use catenary_evidence::{PublicKey, Trust, attestation, digest::Sha256, object};
use catenary_store::{
    New, Store, StoreOptions,
    audit::{EVIDENCE, Fault, NO_EVIDENCE, Pass, Report, log_verify},
    checkpoints::CheckpointStore,
    decisions::{After, Chain, Decision, NewBatch, Record},
    keys::ServiceKeys,
    ladder::PrivateCluster,
};
use catenary_testkit::{Key, Statement, Subject, oci, sha256_hex};
use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;

const TENANT: &str = "acme";
const NOBODY: Sha256 = Sha256([0; 32]);

static CLUSTER: OnceCell<Arc<PrivateCluster>> = OnceCell::const_new();

/// A database with two tenants, each with evidence of every kind.
struct Ground {
    store: Store,
    keys: Arc<ServiceKeys>,
    intruder: PgConnection,
    dir: tempfile::TempDir,
}

impl Ground {
    async fn new(name: &str) -> Self {
        let start = async || {
            let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("audit-tests");
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
        let few = StoreOptions { readers: 2, writers: 2, ..StoreOptions::default() };
        let store = Store::open(connect.clone(), keys.seal_keys(), &few).await.unwrap();
        store.bind_service_keys(&keys.rows()).await.unwrap();
        let intruder = PgConnection::connect_with(&connect).await.unwrap();
        let ground = Self { store, keys, intruder, dir };
        for tenant in [TENANT, "twin"] {
            ground.fill(tenant).await;
        }
        ground
    }

    async fn fill(&self, tenant: &str) {
        self.store.create_tenant(tenant, &format!("catenary.test/{tenant}")).await.unwrap();
        let ci = Key::ed25519("ci");
        let key = PublicKey::from_pem(&ci.public_pem(), None).unwrap();
        let ring: Trust = [key.clone()].into_iter().collect();
        let trusted = TrustedKey {
            id: key.id(),
            name: "ci".to_owned(),
            pem: ci.public_pem(),
            scheme: key.scheme(),
            service: None,
            valid_from: None,
            valid_until: None,
        };
        let image = oci::Image::new("linux/amd64", vec![oci::layer(&[("a", b"b")])]);
        let index = oci::Index::new(vec![image.clone(), image.extend(oci::layer(&[("c", b"d")]))]);
        let mut news = vec![
            control(Entry::TrustAdded(trusted.into())),
            control(Entry::TrustEffective(key.id().into())),
            listed(&ci, &ring),
            attested("one", &ci, &ring),
            attested("two", &ci, &ring),
            attested("three", &Key::ed25519("unknown"), &ring),
        ];
        for blob in [index.document(), image.manifest(), image.config()] {
            let mut facts = Box::new(object::read(&blob.media_type, &blob.bytes, &ring, None).unwrap());
            // One row is of a version that did not compute it.
            facts.sha384 = facts.sha384.filter(|_| blob.media_type != image.config().media_type);
            let (bytes, media_type) = (blob.bytes, blob.media_type);
            news.push(New::Object { bytes, media_type, facts, submitter: NOBODY, keys_at: u64::MAX });
        }
        for answer in self.store.append_all(tenant, news).await {
            answer.unwrap();
        }
        for instance in ["one", "two"] {
            self.decide(tenant, instance).await;
        }
    }

    /// Two batches of decisions, of two verdicts.
    async fn decide(&self, tenant: &str, instance: &str) {
        let now = "2026-11-20T10:00:30Z".parse().unwrap();
        let mut chain = Chain::new(tenant, instance, now);
        for environment in ["prod", "test"] {
            let verdict = verdict(environment);
            let bytes = verdict.to_json_bytes();
            let decision = Record::Decision(Box::new(Decision {
                principal: "deploy".into(),
                verdict: verdict.id,
                resource: verdict.subject.resource.clone(),
                digest: verdict.subject.digest.to_string(),
                environment: Some(environment.into()),
                platform: Some("linux/amd64".into()),
                outcome: "FAILED".into(),
                allowed: false,
                size: 1,
                kept: true,
                minute: "2026-11-20T10:00:00Z".parse().unwrap(),
                count: 3,
                first: now,
                last: now,
            }));
            let records = vec![Record::Start { time: now, after: After::New }, decision];
            let verdicts = vec![(verdict.id, 1, bytes.into())];
            let new = NewBatch::new(&chain, now, records, verdicts, true);
            chain = new.end().clone();
            self.store.record_decisions(Arc::new(vec![new])).await.unwrap();
        }
    }

    fn outside(&self) -> CheckpointStore {
        CheckpointStore::open(&self.dir.path().join("checkpoints")).unwrap()
    }

    async fn verify(&self) -> Report {
        log_verify(&self.store, None, &self.keys, Some(&self.outside())).await.unwrap()
    }

    /// The same, slice by slice.
    async fn pass(&self) -> Report {
        let mut pass = Pass::new(self.store.clone(), self.keys.clone(), Some(self.outside()));
        while pass.next().await.unwrap().is_some() {}
        pass.report().clone()
    }

    async fn sql(&mut self, text: &str) -> Result<u64, sqlx::Error> {
        let text = sqlx::AssertSqlSafe(text.to_owned());
        Ok(sqlx::raw_sql(text).execute(&mut self.intruder).await?.rows_affected())
    }

    async fn texts(&mut self, text: &str) -> Vec<String> {
        let text = sqlx::AssertSqlSafe(text.to_owned());
        sqlx::query_scalar(text).fetch_all(&mut self.intruder).await.unwrap()
    }

    async fn tables(&mut self) -> Vec<String> {
        self.texts(
            "select table_name::text from information_schema.tables where table_schema = 'public' order by table_name",
        )
        .await
    }

    async fn columns(&mut self, table: &str) -> Vec<(String, String)> {
        let columns = self
            .texts(&format!(
                "select column_name || ' ' || data_type from information_schema.columns
                 where table_schema = 'public' and table_name = '{table}' order by ordinal_position"
            ))
            .await;
        columns
            .iter()
            .map(|c| c.split_once(' ').map(|(n, t)| (n.to_owned(), t.to_owned())).unwrap())
            .collect()
    }

    async fn primary_key(&mut self, table: &str) -> Vec<String> {
        self.texts(&format!(
            "select column_name::text from information_schema.key_column_usage
             where table_schema = 'public' and table_name = '{table}' and constraint_name = '{table}_pkey'"
        ))
        .await
    }

    /// Runs what an intruder runs, and says whether `log verify` names the table. Everything is put back.
    async fn named(&mut self, table: &str, sql: &str) -> bool {
        match self.sql(sql).await {
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("23")) => {
                // The database itself refuses it.
                return true;
            }
            changed => assert!(changed.unwrap() > 0, "{sql} changes nothing"),
        }
        let report = self.verify().await;
        // What runs all the time finds what the command finds.
        let pass = self.pass().await;
        let names = |report: &Report| report.differences.iter().any(|d| d.table == table);
        assert!(
            !names(&report) || names(&pass),
            "only the command finds it: {sql}: {:?}",
            report.differences
        );
        self.sql(&format!("truncate {table}; insert into {table} select * from kept.{table}")).await.unwrap();
        report.differences.iter().any(|difference| difference.table == table)
    }
}

fn verdict(environment: &str) -> Verdict {
    let question = Question {
        image: format!("registry.test/app@sha256:{}", "1".repeat(64)).parse().unwrap(),
        environment: Some(environment.to_owned()),
        platform: None,
        context: Default::default(),
    };
    let log = LogView { size: 1, root: Sha256([0; 32]) };
    evaluate(
        &question,
        &Control::default(),
        &Evidence::default(),
        log,
        "2026-11-20T10:00:00Z".parse().unwrap(),
    )
}

fn control(entry: Entry) -> New {
    New::Control { entry: Box::new(entry), submitter: NOBODY }
}

/// An SBOM of two packages with everything that a row has, and a finding.
fn listed(key: &Key, trust: &Trust) -> New {
    let component = |n: u8| {
        serde_json::json!({"name": format!("p{n}"), "purl": format!("pkg:npm/p{n}@1"), "licenses": [{"expression": "MIT"}],
            "hashes": [{"alg": "SHA-256", "content": "ab"}]})
    };
    let predicate = serde_json::json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [component(1), component(2)],
        "vulnerabilities": [{"id": "CVE-2026-1", "ratings": [{"severity": "low"}]}]});
    let statement = Statement::new("https://cyclonedx.org/bom", predicate);
    kept(statement.subject(Subject::new("x", "sha256", &"1".repeat(64))).signed_by(key).to_bytes(), trust)
}

fn attested(text: &str, key: &Key, ring: &Trust) -> New {
    let bytes = Statement::new("https://example.com/check/v1", serde_json::json!({}))
        .subject(Subject::new("image", "sha256", &sha256_hex(text.as_bytes())))
        .signed_by(key)
        .to_bytes();
    kept(bytes, ring)
}

fn kept(bytes: Vec<u8>, ring: &Trust) -> New {
    let facts = Box::new(attestation::verify(&bytes, ring).unwrap());
    New::Attestation { bytes, facts, submitter: NOBODY, keys_at: u64::MAX }
}

/// Another value of the same type.
fn altered(column: &str, data_type: &str) -> String {
    match data_type {
        "bytea" => format!(
            "set_byte({column}, length({column}) - 1, 255 - get_byte({column}, length({column}) - 1))"
        ),
        "text" => format!("coalesce({column}, '') || 'x'"),
        "boolean" => format!("not {column}"),
        _ => format!("{column} + 1"),
    }
}

#[tokio::test]
async fn an_untouched_database_is_clean() {
    let ground = Ground::new("clean").await;
    let report = ground.verify().await;
    assert!(report.is_clean(), "{:#?}", report.differences);
    let pass = ground.pass().await;
    assert!(pass.is_clean(), "{:#?}", pass.differences);
    assert_eq!(pass.logs, report.logs);
    assert_eq!(report.logs.iter().map(|log| log.entries).collect::<Vec<_>>(), [10, 10]);
    let head = ground.store.head(TENANT).await.unwrap().unwrap();
    assert_eq!(report.logs[0].root, Some(head.root));
    let one = log_verify(&ground.store, Some("twin"), &ground.keys, None).await.unwrap();
    assert!(one.is_clean() && one.logs.len() == 1);
}

/// For every table of the catalogue: a row altered (in each of its columns), deleted, swapped with another.
#[tokio::test]
async fn every_table_is_compared_or_holds_no_evidence() {
    let mut ground = Ground::new("every_table").await;
    let mut unnamed = Vec::new();
    let mut seen = Vec::new();
    ground.sql("create schema kept").await.unwrap();
    for table in ground.tables().await {
        if NO_EVIDENCE.contains(&table.as_str()) {
            continue;
        }
        seen.push(table.clone());
        // Tiles need a longer log; see below.
        if table == "log_tile" {
            continue;
        }
        ground.sql(&format!("create table kept.{table} as table {table}")).await.unwrap();
        let row = |offset: usize| format!("(select ctid from {table} order by ctid offset {offset} limit 1)");
        let mut cases = vec![format!("delete from {table} where ctid = {}", row(1))];
        let columns = ground.columns(&table).await;
        for (column, data_type) in &columns {
            let value = altered(column, data_type);
            cases.push(format!("update {table} set {column} = {value} where ctid = {}", row(0)));
        }
        cases.extend(swaps(&table, &columns, &ground.primary_key(&table).await));
        for case in cases {
            if !ground.named(&table, &case).await {
                unnamed.push(case);
            }
        }
    }
    assert_eq!(seen, EVIDENCE, "a new table is compared, or listed as holding no evidence");
    assert_eq!(unnamed, Vec::<String>::new());
    assert!(ground.verify().await.is_clean(), "and everything was put back");
}

/// All that is not the key exchanged between two rows; and where a row is nothing but its key, half of it.
fn swaps(table: &str, columns: &[(String, String)], key: &[String]) -> Vec<String> {
    let rest: Vec<&String> =
        columns.iter().map(|(name, _)| name).filter(|name| !key.contains(name)).collect();
    let (a, b) = match table {
        // Two that differ in more than the tenant.
        "service_key" => ("0", "2"),
        _ => ("0", "1"),
    };
    let set: Vec<String> = rest.iter().map(|name| format!("{name} = other.{name}")).collect();
    let pick = |n: &str| format!("(select ctid from {table} order by ctid offset {n} limit 1)");
    vec![format!(
        "update {table} set {} from {table} other
         where ({table}.ctid = {} and other.ctid = {}) or ({table}.ctid = {} and other.ctid = {})",
        set.join(", "),
        pick(a),
        pick(b),
        pick(b),
        pick(a)
    )]
}

#[tokio::test]
async fn tiles_are_compared_with_the_entries() {
    let mut ground = Ground::new("tiles").await;
    let token = |n: usize| {
        control(Entry::TokenCreated(Token {
            id: format!("t{n}"),
            hash: Sha256([1; 32]),
            role: "reader".to_owned(),
            name: String::new(),
            expires: "2030-01-01T00:00:00Z".parse().unwrap(),
            repositories: Vec::new(),
            predicate_types: Vec::new(),
            by: None,
        }))
    };
    for start in [0, 200, 400] {
        let news = (start..start + 200).map(token).collect();
        for answer in ground.store.append_all(TENANT, news).await {
            answer.unwrap();
        }
    }
    let clean = ground.verify().await;
    assert!(clean.is_clean(), "{:#?}", clean.differences);
    ground.sql("create schema kept; create table kept.log_tile as table log_tile").await.unwrap();
    let columns = ground.columns("log_tile").await;
    let key = ground.primary_key("log_tile").await;
    let mut cases = vec!["delete from log_tile where tile_index = 1".to_owned()];
    for (column, data_type) in &columns {
        cases.push(format!(
            "update log_tile set {column} = {} where tile_index = 0",
            altered(column, data_type)
        ));
    }
    cases.extend(swaps("log_tile", &columns, &key));
    for case in cases {
        assert!(ground.named("log_tile", &case).await, "{case}");
    }
    assert!(ground.verify().await.is_clean());
    // Where an entry is gone, a tile must still agree with itself, and other leaves with it.
    ground.sql("delete from log_entry where tenant = 'acme' and log_index = 7").await.unwrap();
    for column in ["hashes", "root"] {
        let value = altered(column, "bytea");
        let case = format!(
            "update log_tile set {column} = {value} where tenant = 'acme' and level = 0 and tile_index = 0"
        );
        assert!(ground.named("log_tile", &case).await, "{case}");
    }
    let other = "update log_entry set leaf = convert_to(regexp_replace(convert_from(leaf, 'UTF8'), '0{20}', repeat('1', 20)), 'UTF8')
                 where tenant = 'acme' and log_index = 9";
    ground.sql(other).await.unwrap();
    let report = ground.verify().await;
    let leaf = report.differences.iter().find(|d| d.table == "log_entry" && d.key == "9");
    assert_eq!(leaf.unwrap().what, "its leaf is not the one that its tile has");
}

#[tokio::test]
async fn a_row_too_many_a_strange_table_and_a_strange_tenant_are_named() {
    let mut ground = Ground::new("too_many").await;
    for (sql, table, fault) in [
        ("insert into body values ('acme', sha256('x'), 'x')", "body", Fault::Unexpected),
        ("create table verdict (tenant text)", "(table)", Fault::Unexpected),
        ("insert into object_child values ('stranger', 'a', 'b', 0)", "log_head", Fault::Missing),
    ] {
        ground.sql(sql).await.unwrap();
        let report = ground.verify().await;
        let named = report.differences.iter().any(|d| d.table == table && d.fault == fault);
        assert!(named, "{sql}: {:#?}", report.differences);
    }
}

#[tokio::test]
async fn a_whole_log_rewritten_is_named_by_the_checkpoint_outside() {
    let mut ground = Ground::new("rewritten").await;
    let head = ground.store.head(TENANT).await.unwrap().unwrap();
    let checkpoint = catenary_tlog::Checkpoint::new(&head.origin, head.size, head.root);
    let note = checkpoint.sign(&ground.keys.log_signer(&head.origin).unwrap()).unwrap();
    ground.outside().advance(TENANT, None, note.as_bytes()).unwrap();
    assert!(ground.verify().await.is_clean());
    // The last entry, all that came of it, and a head that agrees with what is left.
    let mut frontier = catenary_tlog::Frontier::new();
    for entry in ground.store.entries(TENANT, 0, 9).await.unwrap() {
        frontier.push(catenary_tlog::leaf_hash(&entry.leaf));
    }
    let (edge, root) = (hex::encode(frontier.to_bytes()), frontier.root());
    let sql = format!(
        "delete from object where tenant = 'acme' and log_index = 9;
         delete from object_child where tenant = 'acme' and log_index = 9;
         delete from body where tenant = 'acme' and id = (select id from log_entry where tenant = 'acme' and log_index = 9);
         delete from log_entry where tenant = 'acme' and log_index = 9;
         update log_head set size = 9, frontier = '\\x{edge}', root = '\\x{root}' where tenant = 'acme'"
    );
    ground.sql(&sql).await.unwrap();
    let without = log_verify(&ground.store, Some(TENANT), &ground.keys, None).await.unwrap();
    assert!(without.is_clean(), "the database agrees with itself: {:#?}", without.differences);
    let report = ground.verify().await;
    let [difference] = &report.differences[..] else { panic!("{:#?}", report.differences) };
    assert_eq!(
        (difference.table, difference.key.as_str(), difference.fault),
        ("log_entry", "9..10", Fault::Missing)
    );
}

#[tokio::test]
async fn differences_say_which_row() {
    let mut ground = Ground::new("which_row").await;
    ground
        .sql("update attestation set verified = true where not verified and tenant = 'acme'")
        .await
        .unwrap();
    let report = ground.verify().await;
    let [difference] = &report.differences[..] else { panic!("{:#?}", report.differences) };
    let text = difference.to_string();
    assert!(text.starts_with("acme attestation sha256:") && text.contains("altered"), "{text}");
    assert!(text.contains("verified") && text.contains("seal"), "{text}");
}
