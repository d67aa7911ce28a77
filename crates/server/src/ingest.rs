//! From posted bytes to log entries: verify on a bounded pool, check the scope, append.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
};

use bytes::Bytes;
use catenary_evidence::{
    Node, Refusal, Trust, attestation, attestation::Attestation, object, object::Object,
};
use catenary_store::{Appended, New, StoreError};
use tokio::sync::oneshot;

use crate::{App, auth::Principal, problem::Fault};

/// The most submissions that wait for a processor; more are turned away at once.
const QUEUE: usize = 256;

/// Items that one submission verifies before it is another one's turn.
const PART: usize = 16;

/// How long an acknowledgement waits for its entry to be followed.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);
/// How often a submission is verified anew because a key was registered meanwhile.
const ATTEMPTS: usize = 4;

/// Processors for verifying: of three or more, one is left to verdicts and reads.
///
/// A thread that has work goes on to the next piece of it by itself: handing each piece to a thread that was woken for it
/// cost a tenth of the service's time for keyless bundles.
#[derive(Clone, Default)]
pub struct Workers(Arc<Mutex<Line>>);

/// What waits for a processor.
struct Line {
    jobs: VecDeque<Job>,
    /// Threads that work.
    busy: usize,
    /// And how many may.
    own: usize,
}

impl Default for Line {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        Self { jobs: VecDeque::new(), busy: 0, own: if cores > 2 { cores - 1 } else { cores } }
    }
}

type Job = Box<dyn FnOnce() + Send>;

impl Workers {
    /// Runs `work` on a thread that may block. Nothing is done for a caller that went away before its turn came.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let (done, answer) = oneshot::channel();
        let job = move || {
            if !done.is_closed() {
                // A panic is this one caller's.
                let _ = done.send(catch_unwind(AssertUnwindSafe(work)).ok());
            }
        };
        if self.queue(Box::new(job))? {
            let line = self.0.clone();
            tokio::task::spawn_blocking(move || drain(&line));
        }
        answer.await.ok().flatten().ok_or(Fault::Internal)
    }

    /// Whether another thread is needed for it.
    fn queue(&self, job: Job) -> Result<bool, Fault> {
        let mut line = lock(&self.0);
        if line.jobs.len() >= QUEUE {
            return Err(Fault::Busy);
        }
        line.jobs.push_back(job);
        let more = line.busy < line.own;
        line.busy += usize::from(more);
        Ok(more)
    }

    /// How many wait for a processor.
    pub fn waiting(&self) -> usize {
        lock(&self.0).jobs.len()
    }
}

/// Works until nothing waits.
fn drain(line: &Mutex<Line>) {
    loop {
        let next = {
            let mut line = lock(line);
            let next = line.jobs.pop_front();
            line.busy -= usize::from(next.is_none());
            next
        };
        let Some(job) = next else { return };
        job();
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An attestation that is in the log.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Where.
    pub entry: Appended,
    /// Its facts as they were when it was sent now.
    pub facts: Attestation,
}

/// Takes in attestations; each has its own result.
pub async fn attestations(app: &App, who: &Principal, items: Vec<Bytes>) -> Vec<Result<Kept, Fault>> {
    let mut results: Vec<Option<Result<Kept, Fault>>> = vec![None; items.len()];
    for _ in 0..ATTEMPTS {
        let open: Vec<usize> = (0..items.len()).filter(|i| results[*i].is_none()).collect();
        if open.is_empty() {
            break;
        }
        let batch = open.iter().map(|i| items[*i].clone()).collect();
        match attempt(app, who, batch).await {
            Err(fault) => open.into_iter().for_each(|i| results[i] = Some(Err(fault.clone()))),
            // `None`: verify again, a key was registered meanwhile.
            Ok(answers) => open.into_iter().zip(answers).for_each(|(i, answer)| results[i] = answer),
        }
    }
    let results: Vec<_> = results.into_iter().map(|r| r.unwrap_or(Err(Fault::Busy))).collect();
    for result in &results {
        app.metrics.ingest(result);
    }
    results
}

async fn attempt(
    app: &App,
    who: &Principal,
    items: Vec<Bytes>,
) -> Result<Vec<Option<Result<Kept, Fault>>>, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let trust = snapshot.trust.clone();
    let verified = verify_all(app, items.clone(), trust).await?;
    let mut answers: Vec<Option<Result<Kept, Fault>>> = Vec::with_capacity(items.len());
    let mut new = Vec::new();
    let mut sent = Vec::new();
    for (position, (bytes, result)) in items.into_iter().zip(verified).enumerate() {
        let judged = result.map_err(Fault::from).and_then(|facts| {
            who.scope.admits(&facts)?;
            Ok(facts)
        });
        match judged {
            Err(fault) => answers.push(Some(Err(fault))),
            Ok(facts) => {
                answers.push(None);
                new.push(New::Attestation {
                    bytes: bytes.into(),
                    facts: Box::new(facts.clone()),
                    submitter: who.submitter(),
                    keys_at: snapshot.size,
                });
                sent.push((position, facts));
            }
        }
    }
    let facts: Vec<&Attestation> = sent.iter().map(|(_, facts)| facts).collect();
    crate::pins::before(app, who, &snapshot.control, &facts).await?;
    let appended = app.backend.store.append_all(&who.tenant, new).await;
    let newest = appended.iter().flatten().filter(|entry| entry.created).map(|entry| entry.index).max();
    show(app, &who.tenant, newest).await;
    for ((position, facts), result) in sent.into_iter().zip(appended) {
        answers[position] = match result {
            Ok(entry) => Some(Ok(Kept { entry, facts })),
            Err(StoreError::KeysMoved { at, .. }) => {
                app.backend.wait_for(&who.tenant, at, crate::freshness::MAX_WAIT).await?;
                None
            }
            Err(error) => Some(Err(error.into())),
        };
    }
    Ok(answers)
}

/// What this instance acknowledged, its next answer takes into account: one look at the log head, shared by all
/// that wait for it. The entry is durable already, so a look that fails changes nothing but that.
async fn show(app: &App, tenant: &str, newest: Option<u64>) {
    if let Some(index) = newest
        && let Err(error) = app.backend.wait_for(tenant, index, LOOK).await
    {
        tracing::debug!(%error, tenant, "acknowledged before it is followed");
    }
}

async fn verify_all(
    app: &App,
    items: Vec<Bytes>,
    trust: Trust,
) -> Result<Vec<Result<Attestation, Refusal>>, Fault> {
    let trust = Arc::new(trust);
    let mut verified = Vec::with_capacity(items.len());
    for part in items.chunks(PART) {
        let (part, trust) = (part.to_vec(), trust.clone());
        let verify = move || part.iter().map(|item| attestation::verify(item, &trust)).collect::<Vec<_>>();
        verified.extend(app.workers.run(verify).await?);
    }
    Ok(verified)
}

/// Takes in one object.
pub async fn object(
    app: &App,
    who: &Principal,
    media_type: &str,
    claimed: Option<Node>,
    bytes: Bytes,
) -> Result<(Appended, Object), Fault> {
    for _ in 0..ATTEMPTS {
        let snapshot = app.backend.snapshot(&who.tenant).await?;
        let trust = snapshot.trust.clone();
        let (media, own) = (media_type.to_owned(), bytes.clone());
        let facts = app.workers.run(move || object::read(&media, &own, &trust, claimed)).await??;
        let new = New::Object {
            bytes: bytes.to_vec(),
            media_type: media_type.to_owned(),
            facts: Box::new(facts.clone()),
            submitter: who.submitter(),
            keys_at: snapshot.size,
        };
        match app.backend.store.append(&who.tenant, new).await {
            Ok(entry) => {
                show(app, &who.tenant, Some(entry.index).filter(|_| entry.created)).await;
                return Ok((entry, facts));
            }
            Err(StoreError::KeysMoved { at, .. }) => {
                app.backend.wait_for(&who.tenant, at, crate::freshness::MAX_WAIT).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Fault::Busy)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_piece_of_work_is_done_once_and_a_panic_is_its_callers() {
        let workers = Workers::default();
        let all: Vec<_> = (0..400_u32)
            .map(|n| {
                let workers = workers.clone();
                tokio::spawn(async move {
                    loop {
                        let work = move || if n % 50 == 7 { panic!("as a test wants it") } else { n };
                        match workers.run(work).await {
                            Err(Fault::Busy) => tokio::task::yield_now().await,
                            done => return (n, done),
                        }
                    }
                })
            })
            .collect();
        for task in all {
            let (n, done) = task.await.unwrap();
            match done {
                Ok(done) => assert_eq!(done, n),
                Err(fault) => assert!(n % 50 == 7 && matches!(fault, Fault::Internal), "{n}: {fault:?}"),
            }
        }
        assert_eq!(workers.waiting(), 0);
        // The last thread sees that nothing is left a moment after its last answer.
        while lock(&workers.0).busy > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_finds_the_line_full_is_told_so_and_who_left_it_costs_nothing() {
        let workers = Workers::default();
        let (hold, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let own = lock(&workers.0).own;
        let mut running = Vec::new();
        for _ in 0..own {
            let (workers, held) = (workers.clone(), held.clone());
            let wait = move || held.lock().unwrap().recv().is_ok();
            running.push(tokio::spawn(async move { workers.run(wait).await }));
        }
        while lock(&workers.0).busy < own || workers.waiting() > 0 {
            tokio::task::yield_now().await;
        }
        let mut waiting: Vec<_> =
            (0..QUEUE).map(|_| Box::pin(workers.run(|| panic!("its caller is gone")))).collect();
        for one in &mut waiting {
            assert!(
                std::future::poll_fn(|context| std::task::Poll::Ready(one.as_mut().poll(context)))
                    .await
                    .is_pending()
            );
        }
        assert!(matches!(workers.run(|| ()).await, Err(Fault::Busy)));
        drop(waiting);
        (0..own).for_each(|_| hold.send(()).unwrap());
        for task in running {
            assert!(task.await.unwrap().unwrap());
        }
        assert!(workers.run(|| true).await.unwrap());
    }
}
