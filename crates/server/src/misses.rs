//! Questions that no cache answers: those that are asked while others are worked on wait, and are answered together.
//!
//! As with a group commit, nobody waits while there is a free turn: a question that comes alone is answered alone. Under load the
//! waiting ones share their round trips ([`batch::each`]), which costs the database a fraction of what they cost one by one, and a
//! question that is asked twice is evaluated once. Each is answered from a snapshot that is taken after it was asked.
//!
//! A turn that takes long is no longer counted, so that a slow question holds up nobody; whoever gets no answer from its group, or not
//! soon, is answered alone. So waiting can make an answer later, never another. How many are answered together follows what that
//! takes: a database that must fetch each page from a slow disk does so for one group after the other, but for single questions at
//! once.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZero,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use catenary_chain::Question;
use catenary_store::{Reading, follow::Snapshot};
use jiff::Timestamp;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    App,
    batch::{self, Bench},
    cache::{self, Key},
    problem::Fault,
    verdict::{self, Answer},
};

/// Turns of one tenant at a time: one a processor, and never one alone, as the database works on one while another is evaluated.
static TURNS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, NonZero::get).max(2));
/// A turn that has taken so long is not counted any more, and the next groups are smaller.
const SLOW: Duration = Duration::from_millis(100);
/// The longest that a question waits for its group, and a group for its evidence.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many are answered together before it is known how long that takes.
const FIRST: usize = 16;

/// The questions of each tenant that wait.
#[derive(Debug)]
pub struct Misses {
    lines: Mutex<HashMap<String, Line>>,
    /// How many are answered together at most.
    limit: AtomicUsize,
}

impl Default for Misses {
    fn default() -> Self {
        Self { lines: Mutex::default(), limit: AtomicUsize::new(FIRST) }
    }
}

/// Of one tenant; there is none while nobody works for it.
#[derive(Debug, Default)]
struct Line {
    turns: usize,
    /// In the order in which they were asked.
    waiting: VecDeque<Waiting>,
    places: HashMap<Key, usize>,
    /// How many were taken from the front, ever: a place less this is an index.
    taken: usize,
}

/// A question, and who asked it.
#[derive(Debug)]
struct Waiting {
    key: Key,
    question: Question,
    askers: Vec<oneshot::Sender<Answer>>,
}

/// What somebody who asks has to do.
enum Place {
    Work(Turn),
    Wait(oneshot::Receiver<Answer>),
}

/// The right to work for a tenant; whoever waits has the next.
struct Turn {
    app: App,
    tenant: String,
}

impl Misses {
    fn lines(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, app: &App, tenant: &str, question: &Question) -> Place {
        let mut lines = self.lines();
        let line = lines.entry(tenant.to_owned()).or_default();
        if line.turns < *TURNS {
            line.turns += 1;
            return Place::Work(Turn { app: app.clone(), tenant: tenant.to_owned() });
        }
        Place::Wait(line.join(tenant, question))
    }

    /// The questions of the next turn. Without any, the turn is over.
    fn next(&self, tenant: &str) -> Option<Vec<Waiting>> {
        let mut lines = self.lines();
        let line = lines.get_mut(tenant)?;
        let group = line.take(self.limit.load(Relaxed));
        if group.is_empty() {
            line.turns -= 1;
            if line.turns == 0 {
                lines.remove(tenant);
            }
            return None;
        }
        Some(group)
    }

    /// Takes into account how long a group took.
    fn took(&self, questions: usize, time: Duration) {
        let limit = self.limit.load(Relaxed);
        if time > SLOW {
            self.limit.store((questions / 2).max(1), Relaxed);
        } else if questions >= limit {
            self.limit.store((limit * 2).min(batch::GROUP), Relaxed);
        }
    }
}

impl Line {
    fn join(&mut self, tenant: &str, question: &Question) -> oneshot::Receiver<Answer> {
        let (asker, answer) = oneshot::channel();
        // Of one tenant, at whatever snapshot comes next.
        let key = cache::key(tenant, 0, question);
        let same = self.places.get(&key).and_then(|place| self.waiting.get_mut(place - self.taken));
        match same {
            Some(same) => same.askers.push(asker),
            None => {
                self.places.insert(key, self.taken + self.waiting.len());
                self.waiting.push_back(Waiting { key, question: question.clone(), askers: vec![asker] });
            }
        }
        answer
    }

    /// The next group; empty only when nobody waits.
    fn take(&mut self, limit: usize) -> Vec<Waiting> {
        let mut group = Vec::new();
        while group.len() < limit
            && let Some(waiting) = self.waiting.pop_front()
        {
            self.taken += 1;
            self.places.remove(&waiting.key);
            // Who hung up needs no answer.
            if waiting.askers.iter().any(|asker| !asker.is_closed()) {
                group.push(waiting);
            }
        }
        group
    }
}

/// Answers a question that the cache does not answer.
pub async fn answer(app: &App, tenant: &str, question: &Question) -> Result<Answer, Fault> {
    match app.misses.place(app, tenant, question) {
        Place::Work(turn) => counted(turn, verdict::alone(app, tenant, question)).await,
        Place::Wait(answer) => match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => verdict::alone(app, tenant, question).await,
        },
    }
}

/// Works, and gives the turn back when that is done or takes too long.
async fn counted<T>(turn: Turn, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    match timeout(SLOW, &mut work).await {
        Ok(done) => done,
        Err(_) => {
            drop(turn);
            work.await
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Without a runtime the service has ended, and nobody waits.
        let (Some(group), Ok(_)) = (self.app.misses.next(&self.tenant), Handle::try_current()) else {
            return;
        };
        let turn = Self { app: self.app.clone(), tenant: std::mem::take(&mut self.tenant) };
        self.app.tasks.spawn(async move {
            let (app, tenant) = (turn.app.clone(), turn.tenant.clone());
            counted(turn, together(app, tenant, group)).await;
        });
    }
}

/// Answers a group. Whom it does not answer asks alone, and learns then what is wrong.
async fn together(app: App, tenant: String, group: Vec<Waiting>) {
    let Ok(snapshot) = app.backend.snapshot(&tenant).await else { return };
    app.answers.start(&tenant, snapshot.size);
    let (questions, started) = (group.len(), Instant::now());
    let each = app.clone();
    let done = tokio::task::spawn_blocking(move || answer_each(&each, &snapshot, group)).await;
    app.misses.took(questions, started.elapsed());
    if let Ok(Err(error)) = done {
        tracing::debug!(%error, "a group of questions is answered one by one");
    }
}

fn answer_each(app: &App, snapshot: &Arc<Snapshot>, mut group: Vec<Waiting>) -> Result<(), Fault> {
    let questions: Vec<Question> = group.iter().map(|waiting| waiting.question.clone()).collect();
    let mut bench = Bench::at(snapshot, Timestamp::now());
    bench.deadline = Some(Instant::now() + PATIENCE);
    bench.reading = Reading::Verdict;
    batch::each(app, &bench, &questions, |at, evaluated| {
        let ready = verdict::keep(app, snapshot, &questions[at], evaluated);
        app.metrics.shared();
        for asker in group[at].askers.drain(..) {
            // Who hung up is not told.
            let _ = asker.send(Answer { ready: ready.clone(), log_size: snapshot.size });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(questions: usize) -> (Line, Vec<oneshot::Receiver<Answer>>) {
        let mut line = Line::default();
        let ask = |n: usize| {
            let image = format!("r.test/app@sha256:{n:064x}");
            line.join("acme", &verdict::question(&image, None, None).unwrap())
        };
        let askers = (1..=questions).map(ask).collect();
        (line, askers)
    }

    #[test]
    fn a_question_that_waits_already_is_not_asked_twice() {
        let (mut line, _askers) = line(3);
        let again = line.join("acme", &line.waiting[2].question.clone());
        assert_eq!((line.take(2).len(), line.waiting.len()), (2, 1));
        let once_more = line.join("acme", &line.waiting[0].question.clone());
        let last = line.take(8);
        assert_eq!((last.len(), last[0].askers.len()), (1, 3));
        drop((again, once_more));
        assert!(line.places.is_empty() && line.take(8).is_empty());
    }

    #[test]
    fn who_hung_up_is_passed_over() {
        let (mut line, mut askers) = line(4);
        askers.truncate(1);
        assert_eq!(line.take(8).len(), 1);
    }

    #[test]
    fn groups_are_as_large_as_is_quick() {
        let misses = Misses::default();
        let limit = || misses.limit.load(Relaxed);
        misses.took(FIRST - 1, Duration::from_millis(5));
        assert_eq!(limit(), FIRST, "nobody knows what a full group takes");
        (0..9).for_each(|_| misses.took(limit(), Duration::from_millis(5)));
        assert_eq!(limit(), batch::GROUP);
        (0..9).for_each(|_| misses.took(limit(), Duration::from_secs(1)));
        assert_eq!(limit(), 1);
    }
}
