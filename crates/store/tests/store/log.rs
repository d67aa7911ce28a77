//! Gapless, without forks or duplicates, whatever happens around it.

use std::{collections::BTreeSet, time::Duration};

use catenary_chain::control::{Entry, Revocation};
use catenary_store::{New, Store, StoreError, StoreOptions};
use catenary_testkit::Key;

use crate::common::{
    Ground, ORIGIN, TENANT, control, database, few, followed, key_id, seal_keys, token_revoked,
};

/// What many writers got, as (index, created), must be exactly the entries of the log.
fn assert_gapless(first: u64, mut indexes: Vec<u64>, size: u64) {
    indexes.sort_unstable();
    assert_eq!(indexes, (first..size).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_leave_no_gap() {
    let ground = Ground::new("sixteen").await;
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let store = ground.store.clone();
            let items: Vec<New> = (0..40).map(|n| ground.attested(&format!("{writer}/{n}"))).collect();
            tokio::spawn(async move {
                let mut indexes = Vec::new();
                for item in items {
                    let appended = store.append(TENANT, item).await.unwrap();
                    assert!(appended.created && appended.size_after > appended.index);
                    indexes.push(appended.index);
                }
                indexes
            })
        })
        .collect();
    let mut indexes = Vec::new();
    for writer in writers {
        indexes.extend(writer.await.unwrap());
    }
    let prefix = ground.prefix().await;
    assert_gapless(1, indexes, prefix.size);
    assert_eq!(prefix.size, 641);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d01_concurrent_duplicate_ingest() {
    let ground = Ground::new("d01").await;
    let item = ground.attested("image");
    let another = ground.another().await;
    let tries: Vec<_> = (0..100)
        .map(|n| {
            let store = if n % 2 == 0 { ground.store.clone() } else { another.clone() };
            let item = item.clone();
            tokio::spawn(async move { store.append(TENANT, item).await.unwrap() })
        })
        .collect();
    let mut created = 0;
    let mut answers = BTreeSet::new();
    for attempt in tries {
        let appended = attempt.await.unwrap();
        created += u32::from(appended.created);
        answers.insert((appended.id, appended.index, appended.time, appended.leaf));
    }
    assert_eq!((created, answers.len()), (1, 1));
    assert_eq!(ground.prefix().await.size, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d18_log_fork_by_two_writers() {
    let ground = Ground::new("d18").await;
    let another = ground.another().await;
    let run = |store: Store, from: u64| {
        tokio::spawn(async move {
            let mut indexes = Vec::new();
            for n in from..from + 300 {
                indexes.push(store.append(TENANT, token_revoked(n)).await.unwrap().index);
            }
            indexes
        })
    };
    let (one, two) = (run(ground.store.clone(), 0), run(another.clone(), 1000));
    let mut indexes = one.await.unwrap();
    indexes.extend(two.await.unwrap());
    let prefix = ground.prefix().await;
    assert_gapless(1, indexes, prefix.size);
    assert_eq!(followed(&another, &ground.ring).await.root, prefix.root);
}

#[tokio::test]
async fn a_restart_goes_on_where_the_log_ended() {
    let ground = Ground::new("restart").await;
    let item = ground.attested("before");
    let before = ground.store.append(TENANT, item.clone()).await.unwrap();
    ground.store.close().await;

    let store = ground.another().await;
    assert_eq!(store.create_tenant(TENANT, ORIGIN).await.unwrap().size, 2);
    let again = store.append(TENANT, item).await.unwrap();
    assert_eq!((again.index, again.time, again.created), (before.index, before.time, false));
    let after = store.append(TENANT, ground.attested("after")).await.unwrap();
    assert_eq!(after.index, 2);
    assert!(after.time >= before.time);
    followed(&store, &ground.ring).await;
}

#[tokio::test]
async fn entry_0_fixes_the_origin() {
    let ground = Ground::new("origin").await;
    let entry = &ground.store.entries(TENANT, 0, 1).await.unwrap()[0];
    let leaf = entry.decode().unwrap();
    assert_eq!((leaf.kind.as_str(), leaf.extra["origin"].as_str()), ("log.origin", ORIGIN));
    let body = ground.store.bodies(TENANT, &[entry.id]).await.unwrap();
    assert_eq!(body[&entry.id], ORIGIN.as_bytes());
    let other = ground.store.create_tenant(TENANT, "elsewhere/acme").await;
    assert!(matches!(other, Err(StoreError::OtherOrigin { .. })), "{other:?}");
}

#[tokio::test]
async fn a_tenant_that_is_not_there_takes_nothing() {
    let ground = Ground::new("notenant").await;
    let refused = ground.store.append("nobody", token_revoked(1)).await;
    assert_eq!(refused, Err(StoreError::NoTenant("nobody".into())));
    assert_eq!(ground.store.head("nobody").await.unwrap(), None);
    assert_eq!(ground.count("select count(*) from body where tenant = 'nobody'").await, 0);
}

#[tokio::test]
async fn tenants_do_not_meet() {
    let ground = Ground::new("tenants").await;
    ground.store.create_tenant("globex", "catenary.test/globex").await.unwrap();
    let item = ground.attested("image");
    let one = ground.store.append(TENANT, item.clone()).await.unwrap();
    assert_eq!(ground.store.entry_of("globex", one.id).await.unwrap(), None);
    assert!(ground.store.bodies("globex", &[one.id]).await.unwrap().is_empty());
    assert!(ground.store.append("globex", item).await.unwrap().created);
    let names: Vec<String> = ["acme", "globex", "nobody"].map(String::from).to_vec();
    let heads = ground.store.heads(&names).await.unwrap();
    assert_eq!(
        heads.iter().map(|(name, head)| (name.as_str(), head.size)).collect::<Vec<_>>(),
        [("acme", 2), ("globex", 2)]
    );
    assert_eq!(ground.store.tenants().await.unwrap(), ["acme", "globex"]);
}

#[tokio::test]
async fn many_items_have_each_their_own_result() {
    let ground = Ground::new("many").await;
    let New::Attestation { facts, submitter, keys_at, .. } = ground.attested("a") else { panic!() };
    let lie = New::Attestation { bytes: b"{}".to_vec(), facts, submitter, keys_at };
    let items = vec![ground.attested("a"), lie, ground.attested("b"), ground.attested("a")];
    let answers = ground.store.append_all(TENANT, items).await;
    let seen: Vec<_> = answers.iter().map(|a| a.as_ref().ok().map(|a| (a.index, a.created))).collect();
    assert_eq!(seen, [Some((1, true)), None, Some((2, true)), Some((1, false))]);
    assert!(matches!(answers[1], Err(StoreError::Unloggable(_))));
    assert_eq!(ground.prefix().await.size, 3);
}

#[tokio::test]
async fn a_control_entry_is_compared_under_the_lock() {
    let ground = Ground::new("control").await;
    let store = &ground.store;
    let read_at = store.head(TENANT).await.unwrap().unwrap().size;
    // Evidence that arrives in between does not matter.
    store.append(TENANT, ground.attested("image")).await.unwrap();
    let policy = |revision| {
        control(Entry::PolicyApplied { name: "p".into(), revision, document: format!("revision {revision}") })
    };
    let first = store.append_if(TENANT, read_at, policy(1)).await.unwrap();
    assert!(first.created);
    let refused = store.append_if(TENANT, read_at, policy(2)).await;
    assert_eq!(refused, Err(StoreError::Conflict { expected: read_at, at: first.index }));
    assert!(store.append_if(TENANT, first.size_after, policy(2)).await.unwrap().created);
    assert_eq!(ground.prefix().await.size, 4);
    assert_eq!(ground.count("select count(*) from body").await, 4, "nothing of the refused one is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_control_entries_from_one_reading_one_wins() {
    let ground = Ground::new("race").await;
    let another = ground.another().await;
    for round in 0..10 {
        let size = ground.store.head(TENANT).await.unwrap().unwrap().size;
        let (one, two) = tokio::join!(
            ground.store.append_if(TENANT, size, token_revoked(round * 2)),
            another.append_if(TENANT, size, token_revoked(round * 2 + 1))
        );
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    }
}

#[tokio::test]
async fn evidence_verified_without_the_newest_key_is_verified_again() {
    let ground = Ground::new("keysmoved").await;
    let read_at = ground.store.head(TENANT).await.unwrap().unwrap().size;
    let New::Attestation { bytes, facts, submitter, .. } = ground.attested("image") else { panic!() };
    let at = |keys_at| New::Attestation { bytes: bytes.clone(), facts: facts.clone(), submitter, keys_at };
    // A revocation does not change which keys there are.
    let revocation = Revocation::of_key(key_id(&Key::ed25519("old")), "lost");
    ground.store.append(TENANT, control(Entry::Revocation(revocation))).await.unwrap();
    let key = catenary_chain::control::TrustedKey {
        id: key_id(&ground.ci),
        name: "ci".into(),
        pem: ground.ci.public_pem(),
        scheme: catenary_evidence::Scheme::Ed25519,
        service: None,
        valid_from: None,
        valid_until: None,
    };
    let added = ground.store.append(TENANT, control(Entry::TrustAdded(key.into()))).await.unwrap();
    let refused = ground.store.append(TENANT, at(read_at)).await;
    assert_eq!(refused, Err(StoreError::KeysMoved { verified_at: read_at, at: added.index }));
    assert!(ground.store.append(TENANT, at(added.size_after)).await.unwrap().created);
}

#[tokio::test]
async fn one_connection_is_enough() {
    let options = StoreOptions { single_connection: true, ..StoreOptions::default() };
    let ground = Ground::with("single", options).await;
    let items: Vec<New> = (0..50).map(|n| ground.attested(&n.to_string())).collect();
    let store = ground.store.clone();
    let reader = tokio::spawn(async move {
        for _ in 0..20 {
            store.head(TENANT).await.unwrap();
        }
    });
    assert!(ground.store.append_all(TENANT, items).await.iter().all(Result::is_ok));
    reader.await.unwrap();
    assert_eq!(ground.prefix().await.size, 51);
    assert_eq!(
        ground
            .count(
                "select count(*) from pg_stat_activity where datname = 'single' and pid <> pg_backend_pid()"
            )
            .await,
        1
    );
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_cancel_its_write() {
    let ground = Ground::new("hangup").await;
    for n in 0..50 {
        let write = ground.store.append(TENANT, token_revoked(n));
        let _ = tokio::time::timeout(Duration::from_micros(n * 100), write).await;
    }
    let last = ground.store.append(TENANT, token_revoked(50)).await.unwrap();
    assert_eq!(ground.prefix().await.size, last.size_after);
    assert_eq!(last.size_after, 52, "all fifty landed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d04_client_disconnect_during_begin() {
    let ground = Ground::new("d04").await;
    let clients: Vec<_> = (0..2000u64)
        .map(|n| {
            let store = ground.store.clone();
            tokio::spawn(async move {
                let write = store.append(TENANT, token_revoked(n));
                let read = store.head(TENANT);
                let _ = tokio::time::timeout(Duration::from_micros(n * 7 % 6000), async {
                    tokio::join!(write, read)
                })
                .await;
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let mut acknowledged = Vec::new();
    for n in 5000..5050 {
        acknowledged.push(ground.store.append(TENANT, token_revoked(n)).await.unwrap());
    }
    let idle =
        "select count(*) from pg_stat_activity where datname = 'd04' and state like 'idle in transaction%'";
    assert_eq!(ground.count(idle).await, 0);
    ground.store.close().await;
    let store = ground.another().await;
    for appended in acknowledged {
        assert_eq!(store.entry_of(TENANT, appended.id).await.unwrap().unwrap().index, appended.index);
    }
    followed(&store, &ground.ring).await;
}

#[tokio::test]
async fn d21_a_clock_behind_the_log_stops_writing() {
    let ground = Ground::new("d21").await;
    ground.sql("update log_head set time_us = time_us + 7200000000").await;
    let refused = ground.store.append(TENANT, token_revoked(1)).await;
    assert!(matches!(refused, Err(StoreError::ClockSkew { .. })), "{refused:?}");
    ground.sql("update log_head set time_us = time_us - 7200000000 + 10000000").await;
    let first = ground.store.append(TENANT, token_revoked(1)).await.unwrap();
    let head = ground.store.head(TENANT).await.unwrap().unwrap();
    assert_eq!(first.time, head.time, "ten seconds ahead: time does not go back");
}

#[tokio::test]
async fn a_head_that_does_not_fit_its_right_edge_takes_nothing() {
    let ground = Ground::new("badhead").await;
    ground.sql("update log_head set root = sha256('x'::bytea)").await;
    let refused = ground.store.append(TENANT, token_revoked(1)).await;
    assert!(matches!(refused, Err(StoreError::Integrity { table: "log_head", .. })), "{refused:?}");
}

#[tokio::test]
async fn a_gap_is_told() {
    let ground = Ground::new("gap").await;
    for n in 0..5 {
        ground.store.append(TENANT, token_revoked(n)).await.unwrap();
    }
    ground.sql("delete from log_entry where log_index = 3").await;
    let missing = ground.store.entries(TENANT, 0, 6).await;
    assert!(matches!(&missing, Err(StoreError::Integrity { key, .. }) if key == "3"), "{missing:?}");
    let beyond = ground.store.entries(TENANT, 4, 9).await;
    assert!(matches!(&beyond, Err(StoreError::Integrity { key, .. }) if key == "6"), "{beyond:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_died_are_replaced() {
    let ground = Ground::new("died").await;
    ground.store.append(TENANT, token_revoked(0)).await.unwrap();
    for round in 1..4 {
        // Several wait in the pool, and all of them die.
        let mut reads = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let store = ground.store.clone();
            reads.spawn(async move { store.head(TENANT).await.unwrap() });
        }
        reads.join_all().await;
        ground
            .sql(
                "select pg_terminate_backend(pid) from pg_stat_activity
                  where datname = 'died' and pid <> pg_backend_pid()",
            )
            .await;
        assert_eq!(ground.store.head(TENANT).await.unwrap().unwrap().size, round + 1);
        ground.store.append(TENANT, token_revoked(round)).await.unwrap();
    }
}

#[tokio::test]
async fn no_database_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = sqlx::postgres::PgConnectOptions::new_without_pgpass().host(&dir.path().to_string_lossy());
    let error = Store::open(nowhere, seal_keys(), &few()).await.err().unwrap();
    assert!(crate::common::is_unavailable(&error), "{error:?}");
    assert!(error.retry_after().is_some());
}

#[tokio::test]
async fn service_keys_bind_a_database_to_its_installation() {
    let connect = database("servicekeys").await;
    let store = Store::open(connect, seal_keys(), &few()).await.unwrap();
    let key = |generation, id: &str| catenary_store::ServiceKeyRow {
        purpose: "log".into(),
        generation,
        key_id: id.into(),
        public: "public".into(),
    };
    store.bind_service_keys(&[key(1, "a")]).await.unwrap();
    store.bind_service_keys(&[key(1, "a"), key(2, "b")]).await.unwrap();
    for wrong in [vec![key(1, "a")], vec![key(1, "x"), key(2, "b")], vec![], vec![key(2, "b"), key(3, "c")]] {
        let refused = store.bind_service_keys(&wrong).await;
        assert!(matches!(refused, Err(StoreError::WrongKeys { .. })), "{wrong:?}");
    }
    assert_eq!(store.service_keys().await.unwrap().len(), 2);
}
