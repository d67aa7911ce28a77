//! Writers that never stop, and what was acknowledged to them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use catenary_testkit::{Key, Statement, Subject};
use reqwest::Method;
use serde_json::json;

use crate::{
    checker::{self, Checked},
    http::Client,
};

/// One acknowledged attestation.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// `sha256:…`
    pub id: String,
    /// Its log index.
    pub index: u64,
    /// What was sent.
    pub bytes: String,
}

/// Writers of one tenant.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    journal: Arc<Journal>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Journal {
    acknowledged: Mutex<Vec<Acknowledged>>,
    statuses: Mutex<BTreeMap<u16, u64>>,
    unanswered: Mutex<u64>,
}

/// A signed note that nobody has seen.
pub fn fresh(key: &Key) -> String {
    let statement = Statement::new("https://acme.test/note/v1", json!({"n": crate::unique()}));
    statement.subject(Subject::new("x", "sha256", &"1".repeat(64))).signed_by(key).to_json()
}

impl Writers {
    /// Starts `n` of them; they go on until [`Writers::stop`], whatever they are answered.
    pub fn start(client: &Client, n: usize) -> Self {
        Self::signing(client, n, &Key::ed25519("load"))
    }

    /// The same with a key of the caller's.
    pub fn signing(client: &Client, n: usize, key: &Key) -> Self {
        let (stop, journal) = (Arc::new(AtomicBool::new(false)), Arc::new(Journal::default()));
        let task = |_| tokio::spawn(write(client.clone(), key.clone(), stop.clone(), journal.clone()));
        Self { tasks: (0..n).map(task).collect(), stop, journal }
    }

    /// How many were acknowledged until now.
    pub fn acknowledged(&self) -> usize {
        self.journal.acknowledged.lock().unwrap().len()
    }

    /// How often each status was answered until now; 0 stands for no answer at all.
    pub fn statuses(&self) -> BTreeMap<u16, u64> {
        let mut statuses = self.journal.statuses.lock().unwrap().clone();
        statuses.insert(0, *self.journal.unanswered.lock().unwrap());
        statuses
    }

    /// Waits until `more` were acknowledged besides; whether they were within `limit`.
    pub async fn progress(&self, more: usize, limit: Duration) -> bool {
        let goal = self.acknowledged() + more;
        let waits = async {
            while self.acknowledged() < goal {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(limit, waits).await.is_ok()
    }

    /// Ends them, and returns what was acknowledged.
    pub async fn stop(self) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let mut acknowledged = self.journal.acknowledged.lock().unwrap();
        std::mem::take(&mut *acknowledged)
    }
}

async fn write(client: Client, key: Key, stop: Arc<AtomicBool>, journal: Arc<Journal>) {
    while !stop.load(Ordering::Relaxed) {
        let bytes = fresh(&key);
        let request = client
            .request(Method::POST, "/v1/attestations")
            .header("content-type", "application/json")
            .body(bytes.clone());
        let Ok(answer) = client.try_send(request).await else {
            *journal.unanswered.lock().unwrap() += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        *journal.statuses.lock().unwrap().entry(answer.status).or_default() += 1;
        if answer.status == 201 {
            let (id, index) = checker::acknowledged(&answer);
            journal.acknowledged.lock().unwrap().push(Acknowledged { id, index, bytes });
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// How many of the acknowledged ones a log lacks, or has elsewhere.
pub fn lost(log: &Checked, acknowledged: &[Acknowledged]) -> u64 {
    let kept = |a: &&Acknowledged| log.index_of.get(a.id.trim_start_matches("sha256:")) == Some(&a.index);
    (acknowledged.len() - acknowledged.iter().filter(kept).count()) as u64
}
