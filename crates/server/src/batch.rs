//! Many questions at one log position: those of a group share their round trips, and each gets the answer that it would get alone.
//!
//! A group runs on a thread for blocking work, so that neither reading facts nor evaluating holds up the async threads. What the log
//! holds about a node is fetched once for the group; every question is then told only about the nodes that it asked for, as
//! [`crate::verdict::compute`] would have been. Where sharing could tell a question more (a limit that counts by node was reached), or the
//! evidence is damaged, the question is answered alone.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use catenary_chain::{
    Control, Evidence, Gather, Question, Verdict,
    evaluate::{self, Step},
    gather::{ReadSet, Want, Wanted},
    verdict::LogView,
};
use catenary_evidence::{
    KeyId,
    digest::{Node, Sha256},
};
use catenary_store::{
    Reading, StoreError,
    follow::Snapshot,
    gather::{MAX_PER_NODE, NEAR_MISSES, Picked},
    reading,
};
use jiff::Timestamp;
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::{App, problem::Fault};

/// Questions that are gathered together: their evidence is in memory at once.
pub const GROUP: usize = 128;
/// Groups of one caller at a time.
const LANES: usize = 2;
/// Groups of all callers at a time: what is in memory at once is bounded.
pub const ALL_LANES: usize = 4;
/// Nodes that a group fetches together; what its questions want beyond, each fetches alone.
const MAX_SHARED: usize = 20_000;
/// Nodes that a group leaves to the next: more are forgotten, as their evidence is in memory.
const KEPT: usize = 2_000;

/// A question's answer.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// The answer.
    pub verdict: Verdict,
    /// What it rests on.
    pub reads: ReadSet,
    /// When time alone may change it.
    pub ends: Option<Timestamp>,
}

/// What a batch is evaluated against.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The part of the log that is read.
    pub snapshot: Arc<Snapshot>,
    /// Each question is evaluated once under each of these.
    pub controls: Vec<Arc<Control>>,
    /// The time of the evaluations.
    pub now: Timestamp,
    /// When whatever is not evaluated yet is left out.
    pub deadline: Option<Instant>,
    /// For whom it is read.
    pub reading: Reading,
}

impl Bench {
    /// What is known and trusted at a snapshot.
    pub fn at(snapshot: &Arc<Snapshot>, now: Timestamp) -> Self {
        let controls = vec![snapshot.control.clone()];
        Self { snapshot: snapshot.clone(), controls, now, deadline: None, reading: Reading::Browse }
    }
}

/// The answers, in order: one for each control state. A question that the deadline overtook has none.
pub async fn evaluate(
    app: &App,
    bench: &Bench,
    questions: Vec<Question>,
) -> Result<Vec<Option<Vec<Evaluated>>>, Fault> {
    evaluate_into(app, bench, questions, |_, evaluated| evaluated).await
}

/// The same, each made into what the caller wants of it where it was evaluated.
pub async fn evaluate_into<T: Send + 'static>(
    app: &App,
    bench: &Bench,
    questions: Vec<Question>,
    into: impl Fn(&Question, Evaluated) -> T + Clone + Send + 'static,
) -> Result<Vec<Option<Vec<T>>>, Fault> {
    let bench = Arc::new(bench.clone());
    let mut answers: Vec<Option<Vec<T>>> = questions.iter().map(|_| None).collect();
    let groups = groups(questions);
    let lanes = LANES.min(groups.len());
    let groups = Arc::new(Mutex::new(groups.into_iter()));
    let mut working = JoinSet::new();
    for _ in 0..lanes {
        let lane = Lane { app: app.clone(), bench: bench.clone(), groups: groups.clone() };
        working.spawn(lane.run(into.clone()));
    }
    while let Some(ended) = working.join_next().await {
        for (at, group) in ended.map_err(|_| Fault::Internal)?? {
            for (place, answer) in answers.iter_mut().skip(at).zip(group) {
                *place = answer;
            }
        }
    }
    Ok(answers)
}

/// Questions, and the place of the first.
type Numbered = (usize, Vec<Question>);

/// Works on one group after the other. What one found out the next needs not ask again: images share their bases.
struct Lane {
    app: App,
    bench: Arc<Bench>,
    groups: Arc<Mutex<std::vec::IntoIter<Numbered>>>,
}

/// What became of a group, and the place of its first question.
type Done<T> = (usize, Vec<Option<Vec<T>>>);

impl Lane {
    async fn run<T: Send + 'static>(
        self,
        into: impl Fn(&Question, Evaluated) -> T + Clone + Send + 'static,
    ) -> Result<Vec<Done<T>>, Fault> {
        let (mut done, mut shared) = (Vec::new(), Shared::default());
        while let Some((at, questions)) = self.next() {
            let place = self.app.lanes.clone().acquire_owned().await.map_err(|_| Fault::Busy)?;
            if self.bench.is_over() {
                continue;
            }
            let (app, bench, into) = (self.app.clone(), self.bench.clone(), into.clone());
            let work = tokio::task::spawn_blocking(move || {
                let _place = place;
                let group = Group { app: &app, bench: &bench, runtime: &Handle::current() };
                let answers = questions.iter().zip(group.answers(&questions, &mut shared)?);
                let answers = answers.map(|(question, under)| {
                    under.map(|all| all.into_iter().map(|one| into(question, one)).collect())
                });
                Ok::<_, Fault>((answers.collect(), shared.kept()))
            });
            let (answers, kept) = work.await.map_err(|_| Fault::Internal)??;
            done.push((at, answers));
            shared = kept;
        }
        Ok(done)
    }

    fn next(&self) -> Option<Numbered> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

/// Evaluates at most [`GROUP`] questions under the snapshot's control state, and tells each answer as soon as it is there, by the
/// question's place. What cannot share is not told. Blocks: not for an async thread.
pub fn each(
    app: &App,
    bench: &Bench,
    questions: &[Question],
    tell: impl FnMut(usize, Evaluated),
) -> Result<(), Fault> {
    let group = Group { app, bench, runtime: &Handle::current() };
    group.together(questions, &mut Shared::default(), tell).map(|_| ())
}

/// The questions in groups, each with the place of its first.
fn groups(questions: Vec<Question>) -> Vec<Numbered> {
    questions.chunks(GROUP).enumerate().map(|(at, some)| (at * GROUP, some.to_vec())).collect()
}

impl Bench {
    /// Whom questions under a control state want to hear.
    fn wanted(&self, control: &Arc<Control>) -> Wanted {
        if Arc::ptr_eq(control, &self.snapshot.control) {
            self.snapshot.wanted().clone()
        } else {
            Wanted::under(control)
        }
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// Works on a group, on a thread of its own.
struct Group<'a> {
    app: &'a App,
    bench: &'a Bench,
    runtime: &'a Handle,
}

/// One question under one control state.
struct Asking<'a> {
    question: &'a Question,
    control: &'a Control,
    gather: Gather<'a>,
    /// Its own part of what the group knows.
    evidence: Evidence,
    /// What it wants next.
    wanted: Vec<Node>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// It wants more.
    Open,
    /// It had everything.
    Answered,
    /// It cannot share.
    Alone,
}

/// Where a question is after what is known was told to it.
enum Progress {
    Wants(Want),
    Answered(Box<Verdict>, Option<Timestamp>),
    Alone,
}

impl Group<'_> {
    fn answers(
        &self,
        questions: &[Question],
        shared: &mut Shared,
    ) -> Result<Vec<Option<Vec<Evaluated>>>, Fault> {
        let controls = &self.bench.controls;
        let mut evaluated: Vec<Option<Evaluated>> = vec![None; questions.len() * controls.len()];
        let states = self.together(questions, shared, |at, answer| evaluated[at] = Some(answer))?;
        for (at, _) in states.iter().enumerate().filter(|(_, state)| **state == State::Alone) {
            evaluated[at] = self.alone(&questions[at / controls.len()], &controls[at % controls.len()])?;
        }
        let mut evaluated = evaluated.into_iter();
        let mut under = || -> Vec<_> { evaluated.by_ref().take(controls.len()).collect() };
        Ok(questions.iter().map(|_| under().into_iter().collect()).collect())
    }

    /// Tells each answer as soon as it is there: by place, a question's control states one after the other. Where it left them.
    fn together(
        &self,
        questions: &[Question],
        shared: &mut Shared,
        mut tell: impl FnMut(usize, Evaluated),
    ) -> Result<Vec<State>, Fault> {
        let controls = &self.bench.controls;
        let wanted: Vec<Wanted> = controls.iter().map(|control| self.bench.wanted(control)).collect();
        let each = || controls.iter().zip(&wanted);
        let mut askings: Vec<Asking<'_>> = questions
            .iter()
            .flat_map(|question| each().map(move |(control, by)| Asking::new(question, control, by)))
            .collect();
        self.gather(&mut askings, &together(&wanted), shared, &mut tell)?;
        Ok(askings.into_iter().map(|asking| asking.state).collect())
    }

    /// Round by round, until every question has all that it asks for or must be answered alone.
    fn gather(
        &self,
        askings: &mut [Asking<'_>],
        by: &Wanted,
        shared: &mut Shared,
        tell: &mut impl FnMut(usize, Evaluated),
    ) -> Result<(), Fault> {
        loop {
            let mut wanted: Option<Want> = None;
            for (at, asking) in askings.iter_mut().enumerate().filter(|(_, asking)| asking.is_open()) {
                let want = match asking.advance(shared, self.bench) {
                    Progress::Wants(want) => want,
                    Progress::Answered(verdict, ends) => {
                        asking.state = State::Answered;
                        tell(at, asking.evaluated(*verdict, ends));
                        continue;
                    }
                    Progress::Alone => {
                        asking.state = State::Alone;
                        continue;
                    }
                };
                let all = wanted.get_or_insert_with(|| Want { nodes: Vec::new(), by: by.clone() });
                all.nodes.extend(want.nodes.into_iter().filter(|node| !shared.known.contains(node)));
            }
            let Some(mut want) = wanted else { return Ok(()) };
            want.nodes.sort_unstable();
            want.nodes.dedup();
            if shared.known.len() + want.nodes.len() > MAX_SHARED {
                askings.iter_mut().filter(|asking| asking.is_open()).for_each(|one| one.state = State::Alone);
                return Ok(());
            }
            let (store, snapshot) = (&self.app.backend.store, &self.bench.snapshot);
            let at = snapshot.prefix();
            let fetched = store.gather_shared(&snapshot.tenant, &want, &at, &mut shared.evidence);
            let Some(picked) = self.in_time(fetched)? else { return Ok(()) };
            shared.known.extend(want.nodes);
            shared.picked.extend(picked);
        }
    }

    /// Nothing when the deadline comes first.
    fn in_time<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<Option<T>, Fault> {
        let work = reading(self.bench.reading, work);
        let done = self.runtime.block_on(async {
            match self.bench.deadline {
                Some(deadline) => timeout_at(deadline, work).await.ok(),
                None => Some(work.await),
            }
        });
        Ok(done.transpose()?)
    }

    fn alone(&self, question: &Question, control: &Arc<Control>) -> Result<Option<Evaluated>, Fault> {
        let (store, snapshot) = (&self.app.backend.store, &self.bench.snapshot);
        let at = snapshot.prefix();
        let mut asking = Asking::new(question, control, &self.bench.wanted(control));
        loop {
            match asking.step(self.bench) {
                Step::Want(want) => {
                    let fetched = store.gather(&snapshot.tenant, &want, &at, &mut asking.evidence);
                    if self.in_time(fetched)?.is_none() {
                        return Ok(None);
                    }
                }
                Step::Verdict(verdict, ends) => return Ok(Some(asking.evaluated(*verdict, ends))),
            }
        }
    }
}

/// Whom any of these want.
fn together(wanted: &[Wanted]) -> Wanted {
    if let [one] = wanted {
        return one.clone();
    }
    let signers: BTreeSet<KeyId> = wanted.iter().flat_map(|one| one.signers.iter()).copied().collect();
    let identities = wanted.iter().flat_map(|one| one.identities.iter()).cloned().collect();
    Wanted { signers: signers.into_iter().collect(), identities }
}

impl<'a> Asking<'a> {
    fn new(question: &'a Question, control: &'a Control, by: &Wanted) -> Self {
        Self {
            question,
            control,
            gather: Gather::by(by.clone(), question, control),
            evidence: Evidence::default(),
            wanted: Vec::new(),
            state: State::Open,
        }
    }

    /// Evaluates what is there.
    fn step(&mut self, bench: &Bench) -> Step {
        let log = LogView { size: bench.snapshot.size, root: Sha256(bench.snapshot.root.0) };
        evaluate::step(self.question, self.control, &self.evidence, log, bench.now, &mut self.gather)
    }

    fn is_open(&self) -> bool {
        self.state == State::Open
    }

    fn evaluated(&self, verdict: Verdict, ends: Option<Timestamp>) -> Evaluated {
        Evaluated { verdict, reads: self.gather.read_set(), ends }
    }

    /// Takes what is known of what it wanted, until it wants what is not known.
    fn advance(&mut self, shared: &Shared, bench: &Bench) -> Progress {
        loop {
            for node in std::mem::take(&mut self.wanted) {
                if !shared.tell(node, &mut self.evidence) {
                    return Progress::Alone;
                }
            }
            let want = match self.step(bench) {
                Step::Want(want) => want,
                Step::Verdict(verdict, ends) => return Progress::Answered(verdict, ends),
            };
            self.wanted.clone_from(&want.nodes);
            if !want.nodes.iter().all(|node| shared.known.contains(node)) {
                return Progress::Wants(want);
            }
        }
    }
}

/// What the groups of a lane know.
#[derive(Default)]
struct Shared {
    /// Nodes about which everything is fetched.
    known: BTreeSet<Node>,
    evidence: Evidence,
    picked: Picked,
}

impl Shared {
    /// What the next group may know of this: nothing when it is much, or when something is damaged.
    fn kept(self) -> Self {
        if self.known.len() > KEPT || !self.evidence.damaged.is_empty() { Self::default() } else { self }
    }

    /// Adds to `into` what the store would have told about this node alone. `false`: that cannot be told from here.
    fn tell(&self, node: Node, into: &mut Evidence) -> bool {
        let all = &self.evidence;
        if !all.damaged.is_empty() || all.truncated.contains(&node) {
            return false;
        }
        if let Some(object) = all.objects.get(&node) {
            into.objects.insert(node, Arc::clone(object));
        }
        // An index that was read for the sake of one child is noted for its others, too: beyond the limits, alone is less.
        match node {
            Node::Content(digest) => {
                let Some(parents) = all.parents.get(&digest) else { return self.tell_of(node, into) };
                if parents.len() > NEAR_MISSES {
                    return false;
                }
                into.parents.insert(digest, parents.clone());
            }
            Node::Git(oid) => {
                let Some(heirs) = all.heirs.get(&oid) else { return self.tell_of(node, into) };
                if heirs.len() > MAX_PER_NODE {
                    return false;
                }
                into.heirs.insert(oid, heirs.clone());
            }
        }
        self.tell_of(node, into)
    }

    /// The attestations about a node.
    fn tell_of(&self, node: Node, into: &mut Evidence) -> bool {
        for id in self.picked.get(&node).into_iter().flatten() {
            if let Some(statement) = self.evidence.attestations.get(id) {
                into.attestations.insert(*id, Arc::clone(statement));
            }
        }
        true
    }
}
