//! Answers that are kept up to date: what runs, and the last questions asked. When one changes, an event says so.
//!
//! Each round looks at the log from where the last one ended, marks the questions whose read set an entry's write set meets, and
//! evaluates what is due in bounded batches: marked, touched by an entry that reaches every answer, or come to a moment at which time
//! alone can change it. Row, event and progress are one transaction (`catenary_store::watched`), so that nothing is lost or told twice,
//! whatever stops in between and however many instances there are.

mod tell;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use catenary_chain::{Question, Verdict, control::WriteSet, evaluate::platform_text, gather::ReadSet};
use catenary_store::{
    events::NewEvent,
    follow::Snapshot,
    watched::{Holder, NewWatched, Renewed, Standing, Watched, Watcher, nodes_digest},
};
use jiff::{SignedDuration, Timestamp};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    App,
    batch::{self, Bench, Evaluated},
    cache,
    problem::Fault,
    verdict,
};

/// How often is looked.
const TICK: Duration = Duration::from_millis(250);
/// The longest that one piece of work takes. What is left of it, or was cut off, is done in the next: a version guards each write.
const ROUND: Duration = Duration::from_secs(120);
/// How often what was asked longest ago is forgotten.
const TRIM: Duration = Duration::from_secs(60);
/// Entries that are marked for in one transaction.
const ENTRIES: u64 = 1000;
/// Questions that are evaluated for one transaction.
const BATCH: u32 = 256;
/// Transactions before a tenant's state is read anew.
const STEPS: usize = 64;
/// How long other instances leave a tenant alone that one works on.
const LEASE: SignedDuration = SignedDuration::from_secs(10);
/// However long an answer holds, it is looked at once a day: stored bytes can be damaged and mended without an entry.
const LATEST: SignedDuration = SignedDuration::from_hours(24);
/// Questions that wait to be written down; beyond that they are not watched.
const WAITING: usize = 2048;
/// Questions of one round that are a flood: while it lasts only so many are written down, as that costs as much as answering.
const FLOOD: usize = 32;
/// Questions that are written down in a round otherwise.
const WRITTEN: usize = 1024;

/// A tenant and its question.
type Noted = (String, NewWatched);

/// Questions on their way to being watched.
#[derive(Clone)]
pub struct Asked {
    sender: mpsc::Sender<Noted>,
    /// For the one who watches.
    receiver: Arc<Mutex<Option<mpsc::Receiver<Noted>>>>,
}

impl Default for Asked {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { sender, receiver: Arc::new(Mutex::new(Some(receiver))) }
    }
}

impl Asked {
    /// Notes a question with its answer. Never waits: an answer is worth more than being watched.
    pub fn note(&self, tenant: &str, question: &Question, answer: &cache::Ready) {
        if let Ok(place) = self.sender.try_reserve() {
            place.send((tenant.to_owned(), watched(tenant, question, answer)));
        }
    }
}

/// When an answer is looked at again, however little happens: when time alone may change it.
fn due(ends: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let latest = now.checked_add(LATEST).unwrap_or(Timestamp::MAX);
    ends.map_or(latest, |ends| ends.min(latest))
}

/// A question with its answer, as it is kept.
pub fn watched(tenant: &str, question: &Question, answer: &cache::Ready) -> NewWatched {
    let verdict = &answer.verdict;
    NewWatched {
        key: cache::key(tenant, 0, question),
        image: question.image.to_string(),
        environment: question.environment.clone(),
        platform: question.platform.as_ref().map(platform_text),
        context: serde_json::to_string(&question.context).unwrap_or_default(),
        standing: standing(verdict),
        nodes: names(&answer.read_set),
        log_size: verdict.log.size,
        due: due(answer.ends, Timestamp::now()),
    }
}

fn names(reads: &ReadSet) -> BTreeSet<String> {
    reads.nodes.iter().map(ToString::to_string).collect()
}

/// What of a verdict is kept.
pub fn standing(verdict: &Verdict) -> Standing {
    Standing {
        outcome: outcome_text(verdict.outcome).to_owned(),
        allowed: verdict.allowed,
        reason: verdict.errors().next().map(|reason| reason.code.to_string()).unwrap_or_default(),
        verdict: verdict.id,
    }
}

/// As in a verdict's JSON.
pub fn outcome_text(outcome: catenary_chain::Outcome) -> &'static str {
    match outcome {
        catenary_chain::Outcome::Passed => "PASSED",
        catenary_chain::Outcome::Failed => "FAILED",
        catenary_chain::Outcome::Indeterminate => "INDETERMINATE",
    }
}

/// Watches every tenant until `stop`.
pub async fn run(app: App, stop: CancellationToken) {
    let receiver = app.asked.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut receiver) = receiver else { return };
    let name = instance_name();
    let mut working: HashMap<String, JoinHandle<()>> = HashMap::new();
    let mut trimmed = Instant::now();
    let mut left = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
        let noted = receiver.len().saturating_sub(left);
        let most = if noted > FLOOD { FLOOD } else { WRITTEN };
        if tokio::time::timeout(ROUND, write_down(&app, &mut receiver, most)).await.is_err() {
            tracing::warn!("questions are not watched: the database does not answer");
        }
        left = receiver.len();
        if let Err(error) = app.feed.refresh(&app.backend.store).await {
            tracing::warn!(%error, "cannot read how far the events are");
        }
        let watchers = match app.backend.store.watchers().await {
            Ok(watchers) => watchers,
            Err(error) => {
                tracing::warn!(%error, "cannot read what is watched");
                continue;
            }
        };
        app.metrics.watched(watchers.iter().map(|watcher| lag(&app, watcher)).max().unwrap_or(0));
        working.retain(|_, task| !task.is_finished());
        for watcher in &watchers {
            let now = Timestamp::now();
            let idle = lag(&app, watcher) == 0 && !watcher.is_due(now);
            let others = watcher.lease > now && watcher.holder != name;
            if idle || others || working.contains_key(&watcher.tenant) {
                continue;
            }
            let task = tend(app.clone(), watcher.clone(), name.clone(), stop.clone());
            let task = async { tokio::time::timeout(ROUND, task).await.unwrap_or_default() };
            working.insert(watcher.tenant.clone(), app.tasks.spawn(task));
        }
        if trimmed.elapsed() > TRIM {
            trimmed = Instant::now();
            for watcher in &watchers {
                if let Ok(Err(error)) = tokio::time::timeout(ROUND, trim(&app, &watcher.tenant)).await {
                    tracing::warn!(tenant = watcher.tenant, %error, "cannot forget old questions");
                }
            }
        }
    }
}

/// Names this instance among others.
pub fn instance_name() -> String {
    let mut bytes = [0; 12];
    // Without randomness two instances may take one lease; the version still keeps them apart.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    hex::encode(bytes)
}

/// Entries that were followed and not looked at yet.
fn lag(app: &App, watcher: &Watcher) -> u64 {
    let size = app.backend.follower.snapshot(&watcher.tenant).map_or(0, |snapshot| snapshot.size);
    size.saturating_sub(watcher.log_size)
}

async fn trim(app: &App, tenant: &str) -> Result<(), Fault> {
    while app.backend.store.trim_watched(tenant, app.watch_questions).await? == 1000 {}
    Ok(())
}

/// Keeps what was asked since the last round.
async fn write_down(app: &App, receiver: &mut mpsc::Receiver<Noted>, most: usize) {
    let mut asked: BTreeMap<String, BTreeMap<[u8; 32], NewWatched>> = BTreeMap::new();
    for _ in 0..most {
        let Ok((tenant, question)) = receiver.try_recv() else { break };
        asked.entry(tenant).or_default().insert(question.key, question);
    }
    for (tenant, questions) in asked {
        let questions: Vec<NewWatched> = questions.into_values().collect();
        for some in questions.chunks(BATCH as usize) {
            if let Err(error) = app.backend.store.watch(&tenant, some).await {
                tracing::warn!(tenant, %error, "questions are not watched");
            }
        }
    }
}

/// Works on one tenant until nothing is due, or somebody else does.
async fn tend(app: App, mut watcher: Watcher, name: String, stop: CancellationToken) {
    let mut ready = None;
    for _ in 0..STEPS {
        let until = Timestamp::now().checked_add(LEASE).unwrap_or(Timestamp::MAX);
        let holder = Holder { name: name.clone(), until };
        match step(&app, &mut watcher, &holder, &mut ready).await {
            Ok(true) if !stop.is_cancelled() => {}
            // What is ready and not written is still due.
            Ok(_) => return,
            Err(fault) => {
                tracing::warn!(tenant = watcher.tenant, %fault, "the watched answers are not up to date");
                return;
            }
        }
    }
}

/// Answers that were evaluated again, not written yet.
struct Ready {
    renewed: Vec<Renewed>,
    told: Vec<NewEvent>,
}

/// Marks, or else evaluates what is due while what is ready is written. `false`: nothing more to do, or not by us.
async fn step(
    app: &App,
    watcher: &mut Watcher,
    holder: &Holder,
    ready: &mut Option<Ready>,
) -> Result<bool, Fault> {
    let snapshot = app.backend.snapshot(&watcher.tenant).await?;
    let last = ready.take();
    if snapshot.size != watcher.log_size
        && let Some(last) = last
    {
        // First of all: what an entry marks after it was evaluated must stay marked.
        return write(app, watcher, holder, last).await;
    }
    if snapshot.size > watcher.log_size {
        return mark(app, watcher, holder, snapshot.size).await;
    }
    // An instance that is behind would take a newer answer back.
    if snapshot.size < watcher.log_size {
        return Ok(false);
    }
    let as_it_was = watcher.clone();
    let done: BTreeSet<[u8; 32]> =
        last.iter().flat_map(|last| &last.renewed).map(|renewed| renewed.key).collect();
    let due = evaluate_due(app, &snapshot, &as_it_was, &done);
    let Some(last) = last else {
        *ready = due.await?;
        return Ok(ready.is_some());
    };
    let (due, written) = tokio::join!(due, write(app, watcher, holder, last));
    *ready = due?;
    Ok(written? && ready.is_some())
}

/// Evaluates some of what is due, but for what is `done`. Nothing: all is.
async fn evaluate_due(
    app: &App,
    snapshot: &Arc<Snapshot>,
    watcher: &Watcher,
    done: &BTreeSet<[u8; 32]>,
) -> Result<Option<Ready>, Fault> {
    let limit = BATCH + done.len() as u32;
    let mut rows = app.backend.store.due_watched(watcher, Timestamp::now(), limit).await?;
    rows.retain(|row| !done.contains(&row.key));
    rows.truncate(BATCH as usize);
    if rows.is_empty() {
        return Ok(None);
    }
    let evaluated = evaluate(app, snapshot, &rows).await?;
    let told = tell::changes(app, snapshot, &rows, &evaluated).await?;
    let now = Timestamp::now();
    let renewed = rows.iter().zip(evaluated).map(|(row, answer)| {
        let nodes = names(&answer.reads);
        Renewed {
            key: row.key,
            standing: standing(&answer.verdict),
            nodes: (nodes_digest(&nodes) != row.nodes).then_some(nodes),
            log_size: snapshot.size,
            due: due(answer.ends, now),
        }
    });
    Ok(Some(Ready { renewed: renewed.collect(), told }))
}

/// Writes answers with their events. `false`: somebody else has written meanwhile.
async fn write(app: &App, watcher: &mut Watcher, holder: &Holder, ready: Ready) -> Result<bool, Fault> {
    let Ready { renewed, told } = ready;
    let done = app.backend.store.renew_watched(watcher, holder, &renewed, &told).await?;
    watcher.version += 1;
    app.metrics.reevaluated(renewed.len(), told.len());
    Ok(done)
}

/// The answers now, in order.
async fn evaluate(app: &App, snapshot: &Arc<Snapshot>, rows: &[Watched]) -> Result<Vec<Evaluated>, Fault> {
    let questions = rows.iter().map(|row| {
        let context = serde_json::from_str(&row.context).map_err(|_| Fault::Internal)?;
        let question = verdict::question(&row.image, row.environment.as_deref(), row.platform.as_deref())?;
        verdict::in_context(question, context)
    });
    let questions = questions.collect::<Result<Vec<_>, Fault>>()?;
    let answers = batch::evaluate(app, &Bench::at(snapshot, Timestamp::now()), questions).await?;
    let answers: Option<Vec<Vec<Evaluated>>> = answers.into_iter().collect();
    Ok(answers.ok_or(Fault::Internal)?.into_iter().flatten().collect())
}

/// Marks what the next entries touch.
async fn mark(app: &App, watcher: &mut Watcher, holder: &Holder, size: u64) -> Result<bool, Fault> {
    let (from, to) = (watcher.log_size, size.min(watcher.log_size + ENTRIES));
    let writes = match app.answers.writes(&watcher.tenant, from, to) {
        Some(writes) => writes,
        None => app.backend.follower.write_sets(&watcher.tenant, from, to).await?,
    };
    let mut all_at = watcher.all_at;
    let mut touched = BTreeMap::new();
    for (index, written) in (from..).zip(writes) {
        match written {
            WriteSet::None => {}
            WriteSet::All => all_at = index + 1,
            WriteSet::Nodes(nodes) => touched.extend(nodes.iter().map(|node| (node.to_string(), index))),
        }
    }
    let touched: Vec<(String, u64)> = touched.into_iter().collect();
    let done = app.backend.store.watch_entries(watcher, holder, to, all_at, &touched).await?;
    (watcher.log_size, watcher.all_at, watcher.version) = (to, all_at, watcher.version + 1);
    Ok(done)
}
