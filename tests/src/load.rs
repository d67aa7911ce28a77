//! Writers that never stop and what was acknowledged to them; askers that never stop and what they were told.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
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
    /// Answers that say "later" and not when.
    rude: AtomicU64,
    took: Mutex<Vec<Duration>>,
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

    /// How many answers were 503 without `Retry-After`.
    pub fn rude(&self) -> u64 {
        self.journal.rude.load(Ordering::Relaxed)
    }

    /// How long answers took, the fastest first.
    pub fn took(&self) -> Vec<Duration> {
        let mut took = self.journal.took.lock().unwrap().clone();
        took.sort();
        took
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
        let asked = Instant::now();
        let sent = client.try_send(request).await;
        journal.took.lock().unwrap().push(asked.elapsed());
        let Ok(answer) = sent else {
            *journal.unanswered.lock().unwrap() += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        *journal.statuses.lock().unwrap().entry(answer.status).or_default() += 1;
        if answer.status == 503 && answer.header("retry-after").is_empty() {
            journal.rude.fetch_add(1, Ordering::Relaxed);
        }
        if answer.status == 201 {
            let (id, index) = checker::acknowledged(&answer);
            journal.acknowledged.lock().unwrap().push(Acknowledged { id, index, bytes });
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One answer about an image.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// When it was asked for.
    pub asked: Instant,
    /// How long it took.
    pub took: Duration,
    /// HTTP status; 0 for no answer at all.
    pub status: u16,
    /// Whether it says yes.
    pub allowed: bool,
}

/// Askers of one image.
#[derive(Debug)]
pub struct Askers {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Vec<Told>>>,
}

impl Askers {
    /// Starts `n` of them, each asking again a little after it was answered.
    pub fn start(client: &Client, image: &str, n: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let path = format!("/v1/verdict?image={}&environment=prod", crate::http::escape(image));
        let task = |_| tokio::spawn(ask(client.clone(), path.clone(), stop.clone()));
        Self { tasks: (0..n).map(task).collect(), stop }
    }

    /// Ends them, and returns every answer.
    pub async fn stop(self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        let mut told = Vec::new();
        for task in self.tasks {
            told.extend(task.await.unwrap());
        }
        told
    }
}

async fn ask(client: Client, path: String, stop: Arc<AtomicBool>) -> Vec<Told> {
    let mut told = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let answer = client.try_send(client.request(Method::GET, &path)).await;
        let allowed = answer.as_ref().is_ok_and(|a| a.status == 200 && a.json()["allowed"] == true);
        let status = answer.map_or(0, |answer| answer.status);
        told.push(Told { asked, took: asked.elapsed(), status, allowed });
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    told
}

/// The value below which this share of the sorted ones lies.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len().saturating_sub(1)) as f64 * share;
    sorted.get(at.round() as usize).copied().unwrap_or_default()
}

/// Looks up so many of what was acknowledged, spread over all of it: a proof to the checkpoint, and the bytes that were sent.
pub async fn kept(client: &Client, log: &Checked, acknowledged: &[Acknowledged], most: usize) -> u64 {
    let mut looked_up = 0;
    for one in acknowledged.iter().step_by(acknowledged.len() / most + 1) {
        log.includes(client, &one.id, one.index).await;
        let raw = client.get(&format!("/v1/attestations/{}/raw", one.id)).await;
        raw.is(200);
        assert!(one.bytes.is_empty() || raw.body == one.bytes.as_bytes(), "{} has other bytes", one.id);
        looked_up += 1;
    }
    looked_up
}

/// How many of the acknowledged ones a log lacks, or has elsewhere.
pub fn lost(log: &Checked, acknowledged: &[Acknowledged]) -> u64 {
    let kept = |a: &&Acknowledged| log.index_of.get(a.id.trim_start_matches("sha256:")) == Some(&a.index);
    (acknowledged.len() - acknowledged.iter().filter(kept).count()) as u64
}
