//! Verdicts: may this digest run here?

use std::time::Duration;

use axum::{
    Extension,
    extract::{RawQuery, State},
    http::HeaderMap,
    response::Response,
};
use catenary_chain::{Outcome, Question, context::Context, control::WriteSet, verdict::Verdict};
use catenary_evidence::digest::{Digest, Sha256};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use utoipa::{IntoParams, ToSchema};

use crate::{
    App,
    auth::Principal,
    cache::Ready,
    extract::{ApiJson, ApiQuery, ContextQuery},
    freshness::Freshness,
    problem::{Fault, Problem},
    record::Mode,
    tags,
    verdict::{self, Answer},
    vsa,
    when::When,
};

/// The most questions of one request.
pub const MAX_QUESTIONS: usize = 1000;
/// How long the questions of one request may take together: with the longest wait before it, less than a request may.
const MANY: Duration = Duration::from_secs(25);
/// The most repositories that a bare digest is answered for.
const MAX_RESOURCES: usize = 100;

/// What is asked.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct VerdictQuery {
    /// `registry/repository@sha256:…`
    image: Option<String>,
    /// Instead of `image`: a bare digest, answered for every repository that it is known in, without `allowed`.
    digest: Option<String>,
    /// For example `prod`.
    #[serde(alias = "env")]
    environment: Option<String>,
    /// `os/architecture[/variant]`: one platform of an index.
    platform: Option<String>,
    /// `json` or `vsa`.
    format: Option<String>,
    /// The time of the evaluation (RFC 3339); now when absent.
    #[serde(rename = "asOf")]
    as_of: Option<String>,
    /// What is read of the log: so many entries, or those up to a moment (RFC 3339); all when absent.
    #[serde(rename = "knownAt")]
    known_at: Option<String>,
    /// `optional` (default: the record follows within a second) or `required` (answers when it is durable).
    record: Option<String>,
}

/// What the gate is asked.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GateQuery {
    /// `registry/repository@sha256:…`
    image: Option<String>,
    /// Refused: a decision needs the repository.
    digest: Option<String>,
    /// For example `prod`.
    #[serde(alias = "env")]
    environment: Option<String>,
    /// `os/architecture[/variant]`
    platform: Option<String>,
    /// `required` (default: answers when the decision is durably recorded) or `optional` (the record follows within a second).
    record: Option<String>,
}

/// How the answers are recorded.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RecordQuery {
    /// `optional` (default: the record follows within a second) or `required` (answers when it is durable).
    record: Option<String>,
}

/// One question.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// `registry/repository@sha256:…`
    image: String,
    /// For example `prod`.
    #[serde(alias = "env")]
    environment: Option<String>,
    /// `os/architecture[/variant]`
    platform: Option<String>,
    /// What the asker says besides: names to texts, at most 16.
    #[serde(default)]
    context: Context,
}

/// Several questions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Questions {
    /// 1 to 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    questions: Vec<Asked>,
    /// The time of the evaluations (RFC 3339); now when absent.
    #[serde(rename = "asOf")]
    as_of: Option<String>,
    /// What is read of the log: so many entries, or those up to a moment (RFC 3339); all when absent.
    #[serde(rename = "knownAt", default, deserialize_with = "crate::when::place")]
    known_at: Option<String>,
}

impl Asked {
    /// Reads it; a tag is refused.
    pub(super) async fn read(&self, app: &App, who: &Principal) -> Result<Question, Fault> {
        let question = read(app, who, &self.image, self.environment.as_deref(), self.platform.as_deref());
        verdict::in_context(question.await?, self.context.clone())
    }
}

/// Reads a question; a tag is refused with the digest that it last pointed to.
async fn read(
    app: &App,
    who: &Principal,
    image: &str,
    environment: Option<&str>,
    platform: Option<&str>,
) -> Result<Question, Fault> {
    match verdict::question(image, environment, platform) {
        Err(Fault::Tag { resource, tag, .. }) => {
            let resolved = tags::last(app, &who.tenant, &resource, &tag).await?;
            Err(Fault::Tag { resource, tag, resolved })
        }
        other => other,
    }
}

/// One verdict
///
/// A FAILED verdict is an answer: 200 with a body.
#[utoipa::path(get, path = "/v1/verdict", tag = "verdicts", params(VerdictQuery),
    responses((status = 200, description = "The verdict, a list of them for a bare digest, or a signed summary", body = Value),
        (status = 304, description = "Unchanged")))]
pub(crate) async fn get(
    State(app): State<App>,
    who: Principal,
    Extension(fresh): Extension<Freshness>,
    RawQuery(words): RawQuery,
    ContextQuery(query, context): ContextQuery<VerdictQuery>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let signed = match query.format.as_deref() {
        None | Some("json") => false,
        Some("vsa") => true,
        Some(_) => return Err(Fault::Query("`format` is json or vsa".into())),
    };
    let when = When::read(query.as_of.as_deref(), query.known_at.as_deref())?;
    let mode = Mode::read(query.record.as_deref(), Mode::Optional)?;
    let (environment, platform) = (query.environment.as_deref(), query.platform.as_deref());
    let image = match (&query.image, &query.digest) {
        (Some(image), None) => image,
        (None, Some(digest)) if !signed => {
            return for_digest(&app, &who, digest.parse()?, &query, when, &context, mode).await;
        }
        (None, Some(_)) => return Err(Fault::ResourceRequired),
        _ => return Err(Fault::Query("give exactly one of `image` and `digest`".into())),
    };
    let question = verdict::in_context(read(&app, &who, image, environment, platform).await?, context)?;
    let answer = match when.is_now() {
        true => ask_and_wait(&app, &who.tenant, &question, fresh).await?,
        // A summary says nothing of when it was true: it is about now, or there is none.
        false if signed => {
            return Err(Fault::Query("a signed verdict is about now: leave out `asOf` and `knownAt`".into()));
        }
        false => verdict::ask_when(&app, &who.tenant, &question, when).await?,
    };
    app.recorder.note(&who.tenant, &who.name, &answer.ready, mode).await?;
    if signed {
        return sign(&app, &answer).await;
    }
    if when.is_now() && mode == Mode::Optional && fresh == Freshness::default() {
        app.hot.learn(&headers, words.as_deref().unwrap_or_default(), &who, &question);
    }
    let ready = &answer.ready;
    let response = super::tagged(&headers, &ready.etag, ready.bytes.clone(), "application/json");
    Ok(with_log_size(response, answer.log_size))
}

/// Asks; when the answer is no and the asker would wait, asks again whenever evidence arrives that the answer read.
async fn ask_and_wait(
    app: &App,
    tenant: &str,
    question: &Question,
    fresh: Freshness,
) -> Result<Answer, Fault> {
    let deadline = Instant::now() + fresh.wait;
    let mut changes = app.backend.follower.subscribe();
    loop {
        let answer = verdict::ask(app, tenant, question).await?;
        let waits = !fresh.wait.is_zero() && answer.ready.verdict.outcome != Outcome::Passed;
        if !waits || Instant::now() >= deadline {
            return Ok(answer);
        }
        loop {
            match timeout_at(deadline, changes.recv()).await {
                Err(_) => return Ok(answer),
                Ok(Ok(change)) if change.tenant != tenant => {}
                Ok(Ok(change)) if !change.writes.iter().any(|w| answer.ready.read_set.intersects(w)) => {}
                Ok(_) => break,
            }
        }
    }
}

fn with_log_size(mut response: Response, size: u64) -> Response {
    response.headers_mut().insert("catenary-log-size", size.into());
    response
}

async fn for_digest(
    app: &App,
    who: &Principal,
    digest: Digest,
    query: &VerdictQuery,
    when: When,
    context: &Context,
    mode: Mode,
) -> Result<Response, Fault> {
    let (environment, platform) = (query.environment.as_deref(), query.platform.as_deref());
    let resources = verdict::resources(app, &who.tenant, digest, when).await?;
    let mut verdicts = Vec::new();
    let mut worst = Outcome::Passed;
    let mut log_size = None::<u64>;
    for resource in resources.iter().take(MAX_RESOURCES) {
        let question = verdict::question(&format!("{resource}@{digest}"), environment, platform)?;
        let question = verdict::in_context(question, context.clone())?;
        let answer = verdict::ask_when(app, &who.tenant, &question, when).await?;
        app.recorder.count(&who.tenant, &who.name, &answer.ready, mode)?;
        worst = worst.max(answer.ready.verdict.outcome);
        log_size = Some(log_size.map_or(answer.log_size, |size| size.min(answer.log_size)));
        verdicts.push(without_allowed(&answer.ready));
    }
    app.recorder.settle(mode).await?;
    // Nothing known is no pass, and an answer for some of the repositories is not one for all.
    if verdicts.is_empty() {
        worst = Outcome::Failed;
    } else if resources.len() > MAX_RESOURCES {
        worst = worst.max(Outcome::Indeterminate);
    }
    let body = json!({ "apiVersion": "v1", "kind": "VerdictList", "digest": digest, "outcome": worst, "verdicts": verdicts });
    let response = super::json(&body);
    Ok(match log_size {
        Some(size) => with_log_size(response, size),
        None => response,
    })
}

/// A verdict that is not a decision.
fn without_allowed(ready: &Ready) -> Value {
    let mut value = serde_json::to_value(&ready.verdict).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.remove("allowed");
    }
    value
}

/// Up to 1,000 verdicts
#[utoipa::path(post, path = "/v1/verdicts", tag = "verdicts", params(RecordQuery), request_body = Questions,
    responses((status = 200, description = "A verdict or a problem for each question, in order", body = Value)))]
pub(crate) async fn many(
    State(app): State<App>,
    who: Principal,
    Extension(fresh): Extension<Freshness>,
    ApiQuery(query): ApiQuery<RecordQuery>,
    ApiJson(body): ApiJson<Questions>,
) -> Result<Response, Fault> {
    let mode = Mode::read(query.record.as_deref(), Mode::Optional)?;
    if body.questions.is_empty() || body.questions.len() > MAX_QUESTIONS {
        return Err(Fault::Member {
            pointer: "/questions".into(),
            why: format!("has 1 to {MAX_QUESTIONS} elements"),
        });
    }
    let when = When::read(body.as_of.as_deref(), body.known_at.as_deref())?;
    let (mut questions, mut faults) = (Vec::with_capacity(body.questions.len()), Vec::new());
    for asked in &body.questions {
        let question = asked.read(&app, &who).await;
        faults.push(question.map(|question| questions.push(question)).err());
    }
    let wait = Instant::now() + if when.is_now() { fresh.wait } else { Duration::ZERO };
    let mut answers = ask_many_and_wait(&app, &who.tenant, &questions, when, wait).await?.into_iter();
    let mut verdicts = Vec::with_capacity(faults.len());
    for fault in faults {
        let answer = match fault {
            Some(fault) => Err(fault),
            None => answers.next().flatten().ok_or(Fault::Timeout { limit: MANY }),
        };
        if let Ok(answer) = &answer {
            app.recorder.count(&who.tenant, &who.name, &answer.ready, mode)?;
        }
        verdicts.push(answer.map_err(|fault| fault.problem()));
    }
    app.recorder.settle(mode).await?;
    Ok(super::bytes(list(&verdicts).into(), "application/json"))
}

/// Asks; while some answer is no and the asker would wait, asks again whenever evidence arrives that such an answer read.
async fn ask_many_and_wait(
    app: &App,
    tenant: &str,
    questions: &[Question],
    when: When,
    wait: Instant,
) -> Result<Vec<Option<Answer>>, Fault> {
    let mut changes = app.backend.follower.subscribe();
    loop {
        let answers = verdict::ask_many(app, tenant, questions, when, Instant::now() + MANY).await?;
        let no = |a: &&Answer| a.ready.verdict.outcome != Outcome::Passed;
        let open: Vec<&Answer> = answers.iter().flatten().filter(no).collect();
        if open.is_empty() || Instant::now() >= wait {
            return Ok(answers);
        }
        let touches = |w: &WriteSet| open.iter().any(|answer| answer.ready.read_set.intersects(w));
        loop {
            match timeout_at(wait, changes.recv()).await {
                Err(_) => return Ok(answers),
                Ok(Ok(change)) if change.tenant != tenant || !change.writes.iter().any(touches) => {}
                Ok(_) => break,
            }
        }
    }
}

/// The bytes of each verdict as they are, in one list.
fn list(verdicts: &[Result<Answer, Problem>]) -> Vec<u8> {
    let mut bytes = b"{\"verdicts\":[".to_vec();
    for (at, verdict) in verdicts.iter().enumerate() {
        if at > 0 {
            bytes.push(b',');
        }
        match verdict {
            Ok(answer) => bytes.extend_from_slice(&answer.ready.bytes),
            Err(problem) => bytes.extend(serde_json::to_vec(problem).unwrap_or_default()),
        }
    }
    bytes.extend_from_slice(b"]}");
    bytes
}

/// What an open gate says.
#[derive(Debug, serde::Serialize, ToSchema)]
struct Open {
    /// Always true here.
    allowed: bool,
    /// The verdict's one line.
    message: String,
}

/// The verdict as a status code
///
/// 200 allowed, 403 denied, 503 cannot be decided now.
#[utoipa::path(get, path = "/v1/gate", tag = "verdicts", params(GateQuery),
    responses((status = 200, description = "Allowed", body = Open)))]
pub(crate) async fn gate(
    State(app): State<App>,
    who: Principal,
    Extension(fresh): Extension<Freshness>,
    ContextQuery(query, context): ContextQuery<GateQuery>,
) -> Result<Response, Fault> {
    let image = match (&query.image, &query.digest) {
        (Some(image), None) => image,
        (None, Some(digest)) => {
            return Err(digest.parse::<Digest>().map_or_else(Fault::from, |_| Fault::ResourceRequired));
        }
        _ => return Err(Fault::ResourceRequired),
    };
    let mode = Mode::read(query.record.as_deref(), Mode::Required)?;
    let question = read(&app, &who, image, query.environment.as_deref(), query.platform.as_deref()).await?;
    let question = verdict::in_context(question, context)?;
    let answer = ask_and_wait(&app, &who.tenant, &question, fresh).await?;
    app.recorder.note(&who.tenant, &who.name, &answer.ready, mode).await?;
    let verdict = &answer.ready.verdict;
    if verdict.allowed {
        let body = Open { allowed: true, message: verdict.summary.clone() };
        return Ok(with_log_size(super::json(&body), answer.log_size));
    }
    let (summary, codes) = (verdict.summary.clone(), codes(verdict));
    Err(match verdict.outcome {
        Outcome::Indeterminate => Fault::Undecided { summary, codes },
        _ => Fault::Denied { summary, codes },
    })
}

fn codes(verdict: &Verdict) -> Vec<String> {
    let mut codes: Vec<String> =
        verdict.reasons.iter().filter(|r| r.is_error()).map(|r| r.code.to_string()).collect();
    codes.dedup();
    codes
}

/// A signed verdict
///
/// A SLSA verification summary (VSA v1) in a DSSE envelope; the key is at `/.well-known/catenary/vsa.pem`.
#[utoipa::path(post, path = "/v1/verdict/vsa", tag = "verdicts", request_body = Asked,
    responses((status = 200, description = "DSSE envelope", body = Value)))]
pub(crate) async fn signed(
    State(app): State<App>,
    who: Principal,
    Extension(fresh): Extension<Freshness>,
    ApiJson(asked): ApiJson<Asked>,
) -> Result<Response, Fault> {
    let question = asked.read(&app, &who).await?;
    let answer = ask_and_wait(&app, &who.tenant, &question, fresh).await?;
    app.recorder.note(&who.tenant, &who.name, &answer.ready, Mode::Optional).await?;
    sign(&app, &answer).await
}

async fn sign(app: &App, answer: &Answer) -> Result<Response, Fault> {
    let envelope = vsa::sign_verdict(&app.backend.keys, &app.backend.origin, &answer.ready.verdict)?;
    let body = serde_json::to_vec(&envelope).unwrap_or_default();
    let id = Sha256::of(&body);
    let response = super::bytes(body.into(), "application/json");
    tracing::info!(%id, verdict = %answer.ready.verdict.id, "signed a verdict");
    Ok(with_log_size(response, answer.log_size))
}
