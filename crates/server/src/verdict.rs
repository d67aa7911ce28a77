//! From a question to a ready answer: cache, else gather and evaluate.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use catenary_chain::{
    Control, Evidence, Gather, Outcome, Question,
    context::{self, Context},
    evaluate::{self, Step},
    verdict::LogView,
};
use catenary_evidence::{
    digest::{Digest, Sha256},
    object::Platform,
    reference::ImageReference,
};
use catenary_store::{Reading, follow::Snapshot};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    App,
    batch::{self, Bench, Evaluated},
    cache::{self, Key, Ready},
    misses,
    problem::Fault,
    when::When,
};

/// The longest that one answer may take.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// An answer, and through which log position it is known to hold.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The answer.
    pub ready: Arc<Ready>,
    /// The followed size.
    pub log_size: u64,
}

/// Answers one question.
pub async fn ask(app: &App, tenant: &str, question: &Question) -> Result<Answer, Fault> {
    let started = Instant::now();
    let answer = match tokio::time::timeout(DEADLINE, cached_or_computed(app, tenant, question)).await {
        Ok(answer) => answer,
        Err(_) => Err(Fault::Timeout { limit: DEADLINE }),
    };
    let outcome = answer.as_ref().map_or("none", |a| outcome_label(a.ready.verdict.outcome));
    app.metrics.verdict(outcome, started.elapsed());
    answer
}

/// Answers one question about the past. Nothing of it is kept.
pub async fn ask_when(app: &App, tenant: &str, question: &Question, when: When) -> Result<Answer, Fault> {
    if when.is_now() {
        return ask(app, tenant, question).await;
    }
    let past = async {
        let snapshot = when.snapshot(app, tenant).await?;
        let (evaluated, _) = compute(app, tenant, &snapshot, question, when.now()).await?;
        Ok(Answer { ready: Arc::new(evaluated.into()), log_size: snapshot.size })
    };
    let answer = tokio::time::timeout(DEADLINE, past).await;
    answer.unwrap_or(Err(Fault::Timeout { limit: DEADLINE }))
}

/// Answers several questions: from the cache, and those that are not there together. In order; one that the deadline overtook has
/// no answer.
pub async fn ask_many(
    app: &App,
    tenant: &str,
    questions: &[Question],
    when: When,
    deadline: Instant,
) -> Result<Vec<Option<Answer>>, Fault> {
    let started = Instant::now();
    let mut answers: Vec<Option<Answer>> = Vec::with_capacity(questions.len());
    for question in questions {
        answers.push(if when.is_now() { cached(app, tenant, of(tenant, question), anybody) } else { None });
    }
    if when.is_now() {
        answers.iter().for_each(|answer| app.metrics.cache(answer.is_some()));
    }
    let missing: Vec<usize> = (0..questions.len()).filter(|at| answers[*at].is_none()).collect();
    if !missing.is_empty() {
        let snapshot = when.snapshot(app, tenant).await?;
        let mut bench = Bench::at(&snapshot, when.now());
        bench.deadline = Some(deadline);
        // Somebody waits: not behind what is evaluated while nobody does.
        bench.reading = Reading::Verdict;
        app.answers.start(tenant, snapshot.size);
        let asked = missing.iter().map(|at| questions[*at].clone()).collect();
        let (of, at) = (app.clone(), snapshot.clone());
        let ready = move |question: &Question, evaluated: Evaluated| match when.is_now() {
            true => keep(&of, &at, question, evaluated),
            false => Arc::new(evaluated.into()),
        };
        let evaluated = batch::evaluate_into(app, &bench, asked, ready).await?;
        for (at, evaluated) in missing.into_iter().zip(evaluated) {
            let Some(ready) = evaluated.and_then(|under| under.into_iter().next()) else { continue };
            answers[at] = Some(Answer { ready, log_size: snapshot.size });
        }
    }
    let each = started.elapsed() / u32::try_from(questions.len()).unwrap_or(u32::MAX).max(1);
    for answer in &answers {
        let outcome = answer.as_ref().map_or("none", |a| outcome_label(a.ready.verdict.outcome));
        app.metrics.verdict(outcome, each);
    }
    Ok(answers)
}

fn outcome_label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Indeterminate => "indeterminate",
    }
}

async fn cached_or_computed(app: &App, tenant: &str, question: &Question) -> Result<Answer, Fault> {
    if let Some(answer) = cached(app, tenant, of(tenant, question), anybody) {
        app.metrics.cache(true);
        return Ok(answer);
    }
    app.metrics.cache(false);
    misses::answer(app, tenant, question).await
}

/// Answers a question for itself, at the newest snapshot.
pub(crate) async fn alone(app: &App, tenant: &str, question: &Question) -> Result<Answer, Fault> {
    let snapshot = app.backend.snapshot(tenant).await?;
    app.answers.start(tenant, snapshot.size);
    let (evaluated, _) = compute(app, tenant, &snapshot, question, Timestamp::now()).await?;
    Ok(Answer { ready: keep(app, &snapshot, question, evaluated), log_size: snapshot.size })
}

/// Keeps an answer for who asks next, and watches the question.
pub(crate) fn keep(app: &App, snapshot: &Snapshot, question: &Question, evaluated: Evaluated) -> Arc<Ready> {
    let tenant = &snapshot.tenant;
    let ready = Arc::new(Ready::from(evaluated));
    app.answers.insert(tenant, cache::key(tenant, snapshot.control.epoch, question), &ready);
    app.asked.note(tenant, question, &ready);
    ready
}

/// For [`cached`]: the key of a question.
fn of(tenant: &str, question: &Question) -> impl FnOnce(u64) -> Key {
    move |epoch| cache::key(tenant, epoch, question)
}

/// For [`cached`], where the request was admitted before.
fn anybody(_: &Control, _: Timestamp) -> bool {
    true
}

/// The answer that is ready, for whom `may` admits under the control state of the same moment. The lease is taken before
/// the look-up and asked last, just before answering. `key` is told the trust epoch.
pub(crate) fn cached(
    app: &App,
    tenant: &str,
    key: impl FnOnce(u64) -> Key,
    may: impl FnOnce(&Control, Timestamp) -> bool,
) -> Option<Answer> {
    let follower = &app.backend.follower;
    let (lease, snapshot) = (follower.lease(tenant)?, follower.snapshot(tenant).ok()?);
    let now = Timestamp::now();
    if !may(&snapshot.control, now) {
        return None;
    }
    let key = key(snapshot.control.epoch);
    let ready = app.answers.get(tenant, &key, snapshot.size, now)?;
    lease.holds().then_some(Answer { ready, log_size: snapshot.size })
}

/// Gathers frontier by frontier from the first `snapshot.size` entries, and evaluates.
pub async fn compute(
    app: &App,
    tenant: &str,
    snapshot: &Snapshot,
    question: &Question,
    now: Timestamp,
) -> Result<(Evaluated, Evidence), Fault> {
    let at = snapshot.prefix();
    let mut evidence = Evidence::default();
    let mut gather = Gather::by(snapshot.wanted().clone(), question, &snapshot.control);
    let log = LogView { size: snapshot.size, root: Sha256(snapshot.root.0) };
    loop {
        match evaluate::step(question, &snapshot.control, &evidence, log, now, &mut gather) {
            Step::Want(want) => app.backend.store.gather(tenant, &want, &at, &mut evidence).await?,
            Step::Verdict(verdict, ends) => {
                return Ok((Evaluated { verdict: *verdict, reads: gather.read_set(), ends }, evidence));
            }
        }
    }
}

/// The repositories in which a digest is known.
pub async fn resources(
    app: &App,
    tenant: &str,
    digest: Digest,
    when: When,
) -> Result<BTreeSet<String>, Fault> {
    let snapshot = when.snapshot(app, tenant).await?;
    let at = snapshot.prefix();
    let mut evidence = Evidence::default();
    let mut gather = Gather::about(digest, &snapshot.control);
    while let Some(want) = gather.next(&evidence) {
        app.backend.store.gather(tenant, &want, &at, &mut evidence).await?;
    }
    Ok(evaluate::known_resources(digest, &snapshot.control, &evidence))
}

/// Reads `registry/repository@algorithm:hex`, an environment and `os/architecture[/variant]`.
pub fn question(image: &str, environment: Option<&str>, platform: Option<&str>) -> Result<Question, Fault> {
    let image: ImageReference = image.parse()?;
    let environment = environment.map(environment_name).transpose()?;
    let platform = platform.map(platform_name).transpose()?;
    Ok(Question { image, environment, platform, context: Context::new() })
}

/// The same question, with what the asker says besides.
pub fn in_context(question: Question, context: Context) -> Result<Question, Fault> {
    context::check(&context).map_err(Fault::Query)?;
    Ok(Question { context, ..question })
}

fn environment_name(text: &str) -> Result<String, Fault> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || text.len() > 63 || !text.bytes().all(plain) {
        return Err(Fault::Query("an environment is 1 to 63 letters, digits, `-`, `_`, `.`".into()));
    }
    Ok(text.to_owned())
}

fn platform_name(text: &str) -> Result<Platform, Fault> {
    let malformed = || Fault::Query("a platform is os/architecture or os/architecture/variant".into());
    let plain = |part: &&str| {
        !part.is_empty()
            && part.len() <= 32
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    let parts: Vec<&str> = text.split('/').collect();
    if !parts.iter().all(plain) {
        return Err(malformed());
    }
    let [os, architecture, variant @ ..] = &parts[..] else { return Err(malformed()) };
    let variant = match variant {
        [] => None,
        [one] => Some((*one).to_owned()),
        _ => return Err(malformed()),
    };
    Ok(Platform { os: (*os).to_owned(), architecture: (*architecture).to_owned(), variant })
}
