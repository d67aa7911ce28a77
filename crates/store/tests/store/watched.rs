//! What is watched, and what is told: nothing is lost and nothing is told twice.

use std::collections::BTreeSet;

use catenary_evidence::digest::{Digest, Sha256};
use catenary_store::{
    Store, StoreOptions,
    deployments::{Report, Selection},
    events::NewEvent,
    watched::{Holder, NewWatched, Renewed, Standing, Watcher},
};
use jiff::Timestamp;
use serde_json::json;

use crate::common::{Ground, TENANT, few};

const IMAGE: &str = "r.test/app@sha256:1111111111111111111111111111111111111111111111111111111111111111";

fn standing(allowed: bool) -> Standing {
    let outcome = if allowed { "PASSED" } else { "FAILED" };
    Standing { outcome: outcome.into(), allowed, reason: String::new(), verdict: Sha256([3; 32]) }
}

fn question(key: u8, log_size: u64, nodes: &[&str]) -> NewWatched {
    NewWatched {
        key: [key; 32],
        image: IMAGE.into(),
        environment: Some("prod".into()),
        platform: None,
        context: "{}".into(),
        standing: standing(true),
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        log_size,
        due: Timestamp::MAX,
    }
}

fn holder() -> Holder {
    Holder { name: "me".into(), until: Timestamp::now() }
}

async fn watcher(store: &Store) -> Watcher {
    store.watchers().await.unwrap().pop().unwrap()
}

async fn due(store: &Store) -> Vec<u8> {
    let watcher = watcher(store).await;
    let rows = store.due_watched(&watcher, Timestamp::now(), 100).await.unwrap();
    rows.iter().map(|row| row.key[0]).collect()
}

fn changed() -> NewEvent {
    NewEvent { kind: "verdict.changed".into(), subject: IMAGE.into(), log_size: 5, data: json!({"n": 1}) }
}

#[tokio::test]
async fn only_what_reads_a_written_node_is_due() {
    let store = Ground::new("watched_nodes").await.store;
    store
        .watch(TENANT, &[question(1, 5, &["a", "b"]), question(2, 5, &["b"]), question(3, 5, &["c"])])
        .await
        .unwrap();
    assert!(due(&store).await.is_empty());
    let touched = [("b".to_owned(), 5), ("z".to_owned(), 6)];
    assert!(store.watch_entries(&watcher(&store).await, &holder(), 7, 0, &touched).await.unwrap());
    assert_eq!(due(&store).await, [1, 2]);
    // An entry that reaches all makes due what was evaluated before it.
    assert!(store.watch_entries(&watcher(&store).await, &holder(), 8, 8, &[]).await.unwrap());
    assert_eq!(due(&store).await, [1, 2, 3]);
    let renewed: Vec<Renewed> = [1, 2, 3]
        .map(|key| Renewed {
            key: [key; 32],
            standing: standing(key != 3),
            nodes: (key == 2).then(|| BTreeSet::from(["c".to_owned()])),
            log_size: 8,
            due: Timestamp::MAX,
        })
        .to_vec();
    assert!(store.renew_watched(&watcher(&store).await, &holder(), &renewed, &[changed()]).await.unwrap());
    assert!(due(&store).await.is_empty());
    // What is read now is what counts.
    for (node, expected) in [("b", vec![1]), ("c", vec![1, 2, 3])] {
        let next = watcher(&store).await.log_size + 1;
        let touched = [(node.to_owned(), next - 1)];
        assert!(store.watch_entries(&watcher(&store).await, &holder(), next, 8, &touched).await.unwrap());
        assert_eq!(due(&store).await, expected);
    }
}

#[tokio::test]
async fn a_question_that_the_log_went_past_is_looked_at_at_once() {
    let store = Ground::new("watched_late").await.store;
    store.watch(TENANT, &[question(1, 5, &["a"])]).await.unwrap();
    assert!(store.watch_entries(&watcher(&store).await, &holder(), 9, 0, &[]).await.unwrap());
    store.watch(TENANT, &[question(2, 7, &["a"]), question(3, 9, &["a"])]).await.unwrap();
    assert_eq!(due(&store).await, [2]);
}

#[tokio::test]
async fn of_two_that_work_on_a_tenant_one_counts() {
    let store = Ground::new("watched_two").await.store;
    store.watch(TENANT, &[question(1, 5, &["a"])]).await.unwrap();
    let (first, second) = (watcher(&store).await, watcher(&store).await);
    let renewed =
        Renewed { key: [1; 32], standing: standing(false), nodes: None, log_size: 5, due: Timestamp::MAX };
    let renewed = std::slice::from_ref(&renewed);
    assert!(store.renew_watched(&first, &holder(), renewed, &[changed()]).await.unwrap());
    assert!(!store.renew_watched(&second, &holder(), renewed, &[changed()]).await.unwrap());
    assert!(!store.watch_entries(&second, &holder(), 9, 9, &[]).await.unwrap());
    assert_eq!(store.event_head(TENANT).await.unwrap(), 1);
    assert_eq!(watcher(&store).await.log_size, 5);
}

fn report(workload: &str, key: u8) -> Report {
    Report {
        environment: "prod".into(),
        application: "shop".into(),
        workload: workload.into(),
        image: IMAGE.into(),
        digest: Digest::sha256(b"x"),
        since: None,
        until: None,
        replaces: false,
        reporter: "t".into(),
        question: question(key, 5, &["a"]),
    }
}

#[tokio::test]
async fn events_are_numbered_without_a_gap_by_many_who_write_at_once() {
    let store = Ground::new("events_gapless").await.store;
    let mut tasks = Vec::new();
    for n in 0..20_u8 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let reports = vec![report(&format!("a{n}"), n % 3), report(&format!("b{n}"), n % 5)];
            store.record_deployments(TENANT, reports, 5).await
        }));
    }
    let mut recorded = 0;
    for task in tasks {
        recorded += task.await.unwrap().unwrap().iter().filter(|one| one.created).count() as u64;
    }
    assert_eq!(recorded, 40);
    let events = store.events(TENANT, 0, 100).await.unwrap();
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=recorded).collect::<Vec<u64>>());
    assert_eq!(store.event_head(TENANT).await.unwrap(), recorded);
    let listed = store.list_deployments(TENANT, &Selection::default(), u64::MAX, 100).await.unwrap();
    assert_eq!(listed.len() as u64, recorded);
}

#[tokio::test]
async fn what_runs_is_never_forgotten_and_what_was_asked_longest_ago_is_first() {
    let store = Ground::new("watched_trim").await.store;
    store.record_deployments(TENANT, vec![report("api", 1)], 5).await.unwrap();
    for key in 2..6 {
        store.watch(TENANT, &[question(key, 5, &["a"])]).await.unwrap();
    }
    store.watch(TENANT, &[question(2, 5, &["a"])]).await.unwrap();
    assert_eq!(store.trim_watched(TENANT, 2).await.unwrap(), 2);
    assert!(store.watch_entries(&watcher(&store).await, &holder(), 6, 6, &[]).await.unwrap());
    assert_eq!(due(&store).await, [1, 2, 5]);
}

#[tokio::test]
async fn one_connection_is_enough() {
    let store = Ground::with("watched_single", StoreOptions { single_connection: true, ..few() }).await.store;
    store.record_deployments(TENANT, vec![report("api", 1), report("job", 2)], 5).await.unwrap();
    assert!(store.watch_entries(&watcher(&store).await, &holder(), 7, 7, &[("a".into(), 6)]).await.unwrap());
    assert_eq!(due(&store).await, [1, 2]);
    assert_eq!(store.trim_watched(TENANT, 0).await.unwrap(), 0);
    assert_eq!(store.list_applications(TENANT, "", 10).await.unwrap()[0].running, 2);
}
