//! What runs where: told by deploy tools, listed with what the verdict was when it started and what it is now.

use axum::{extract::State, response::Response};
use catenary_evidence::digest::Digest;
use catenary_store::{
    deployments::{Deployment, Recorded, Report, Selection},
    watched::Standing,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::{
    App,
    auth::Principal,
    extract::{ApiJson, ApiQuery},
    page,
    problem::Fault,
    record::Mode,
    verdict, watch,
};

/// The most deployments of one request.
const MAX_REPORTS: usize = 500;
/// How far a deploy tool's clock may be ahead of ours.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A deployment, as a deploy tool tells it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDeployment {
    /// For example `prod`.
    environment: String,
    /// For example `shop`; 1 to 253 characters.
    #[schema(min_length = 1, max_length = 253)]
    application: String,
    /// For example `deployment/api`; 1 to 253 characters.
    #[schema(min_length = 1, max_length = 253)]
    workload: String,
    /// `registry/repository@sha256:…`
    image: String,
    /// When it started. Without it: what runs already goes on, else now.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Whether it takes the place of whatever else the workload ran.
    #[serde(default)]
    replaces: bool,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
struct Kept {
    id: String,
    /// Whether it was not known before.
    created: bool,
    /// Whether anything is other than before.
    changed: bool,
    /// The verdict now.
    verdict: View,
}

/// What a verdict says, in short.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct View {
    outcome: String,
    allowed: bool,
    /// The first error's code.
    reason: Option<String>,
    /// The verdict's id.
    verdict: String,
}

impl From<&Standing> for View {
    fn from(standing: &Standing) -> Self {
        Self {
            outcome: standing.outcome.clone(),
            allowed: standing.allowed,
            reason: Some(standing.reason.clone()).filter(|code| !code.is_empty()),
            verdict: standing.verdict.to_string(),
        }
    }
}

/// Tell what runs
///
/// One deployment, or a list of up to 500, all or none. Telling the same again changes nothing.
#[utoipa::path(post, path = "/v1/deployments", tag = "deployments", request_body = NewDeployment,
    responses((status = 200, description = "Known, each with its verdict now", body = Kept),
        (status = 201, description = "New", body = Kept)))]
pub(crate) async fn add(
    State(app): State<App>,
    who: Principal,
    ApiJson(body): ApiJson<Value>,
) -> Result<Response, Fault> {
    let (all, single) = match body {
        Value::Array(all) => (all, false),
        one => (vec![one], true),
    };
    if all.is_empty() || all.len() > MAX_REPORTS {
        return Err(Fault::Member { pointer: "".into(), why: format!("has 1 to {MAX_REPORTS} elements") });
    }
    let mut reports = Vec::with_capacity(all.len());
    for (at, one) in all.into_iter().enumerate() {
        // One that stands alone is the body itself.
        let at = if single { String::new() } else { format!("/{at}") };
        let one: NewDeployment = serde_json::from_value(one)
            .map_err(|error| Fault::Member { pointer: at.clone().into(), why: error.to_string() })?;
        reports.push(report(&app, &who, &at, one).await?);
    }
    let standings: Vec<View> = reports.iter().map(|report| View::from(&report.question.standing)).collect();
    let log_size = reports.iter().map(|report| report.question.log_size).max().unwrap_or(0);
    let count = reports.len();
    let recorded = app.backend.store.record_deployments(&who.tenant, reports, log_size).await?;
    let created = recorded.iter().any(|one| one.created);
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, count, created, "told what runs");
    let kept = |(Recorded { id, created, changed }, verdict): (Recorded, View)| Kept {
        id: id.to_string(),
        created,
        changed,
        verdict,
    };
    let mut kept: Vec<Kept> = recorded.into_iter().zip(standings).map(kept).collect();
    Ok(match kept.pop() {
        Some(one) if single => super::kept(created, &one),
        last => {
            kept.extend(last);
            super::kept(created, &json!({ "items": kept }))
        }
    })
}

/// Checks a report and asks whether it may run.
async fn report(app: &App, who: &Principal, at: &str, new: NewDeployment) -> Result<Report, Fault> {
    let wrong =
        |member: &str, why: &str| Fault::Member { pointer: format!("{at}/{member}").into(), why: why.into() };
    let question = verdict::question(&new.image, Some(&new.environment), None)?;
    who.scope.admits_resource(&question.image.resource)?;
    for (member, text) in [("application", &new.application), ("workload", &new.workload)] {
        let count = text.chars().count();
        if count == 0 || count > 253 || text.chars().any(char::is_control) {
            return Err(wrong(member, "has 1 to 253 characters without control characters"));
        }
    }
    let latest = Timestamp::now().checked_add(SKEW).unwrap_or(Timestamp::MAX);
    for (member, moment) in [("since", new.since), ("until", new.until)] {
        if moment.is_some_and(|moment| moment > latest) {
            return Err(wrong(member, "is in the future"));
        }
    }
    if matches!((new.since, new.until), (Some(since), Some(until)) if until < since) {
        return Err(wrong("until", "is before `since`"));
    }
    let answer = verdict::ask(app, &who.tenant, &question).await?;
    let ready = &answer.ready;
    app.recorder.count(&who.tenant, &who.name, ready, Mode::Optional)?;
    Ok(Report {
        environment: new.environment,
        application: new.application,
        workload: new.workload,
        image: question.image.to_string(),
        digest: question.image.digest,
        since: new.since,
        until: new.until,
        replaces: new.replaces,
        reporter: who.name.clone(),
        question: watch::watched(&who.tenant, &question, ready),
    })
}

/// Which deployments.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeploymentQuery {
    /// For example `prod`.
    #[serde(alias = "env")]
    environment: Option<String>,
    /// For example `shop`.
    application: Option<String>,
    /// `sha256:…`
    digest: Option<String>,
    /// What runs, or what has ended.
    running: Option<bool>,
    /// `denied`: runs and is not allowed now. `lapsed`: runs, was allowed when it was told, and is not any more.
    state: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// A deployment.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DeploymentView {
    id: String,
    environment: String,
    application: String,
    workload: String,
    image: String,
    since: String,
    until: Option<String>,
    running: bool,
    /// The credential that told it.
    reporter: String,
    recorded_at: String,
    /// The verdict when it was told.
    at_start: View,
    /// The verdict now.
    now: View,
}

/// One page.
#[derive(Debug, Serialize, ToSchema)]
struct DeploymentList {
    items: Vec<DeploymentView>,
    next: Option<String>,
}

/// What runs where, newest first
///
/// Each with the verdict when it was told, and now.
#[utoipa::path(get, path = "/v1/deployments", tag = "deployments", params(DeploymentQuery),
    responses((status = 200, description = "One page", body = DeploymentList)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    ApiQuery(query): ApiQuery<DeploymentQuery>,
) -> Result<Response, Fault> {
    let limit = page::limit(query.limit)?;
    let (denied, lapsed) = match query.state.as_deref() {
        None => (false, false),
        Some("denied") => (true, false),
        Some("lapsed") => (false, true),
        Some(_) => return Err(Fault::Query("`state` is denied or lapsed".into())),
    };
    let selection = Selection {
        environment: query.environment,
        application: query.application,
        digest: query.digest.as_deref().map(str::parse::<Digest>).transpose()?,
        running: query.running,
        denied,
        lapsed,
    };
    let shape = format!("deployments {selection:?}");
    let before = match &query.cursor {
        Some(cursor) => page::open(&app, &who.tenant, &shape, cursor)?,
        None => u64::MAX,
    };
    let mut rows = app.backend.store.list_deployments(&who.tenant, &selection, before, limit + 1).await?;
    let more = page::cut(&mut rows, limit);
    let next = rows.last().filter(|_| more).map(|last| page::seal(&app, &who.tenant, &shape, last.seq));
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        items.push(view(&app, &who.tenant, row).await?);
    }
    Ok(super::json(&DeploymentList { items, next }))
}

async fn view(app: &App, tenant: &str, row: Deployment) -> Result<DeploymentView, Fault> {
    let now = match &row.now {
        Some(now) => View::from(now),
        // Ended long ago, and watched no more.
        None => {
            let question = verdict::question(&row.image, Some(&row.environment), None)?;
            View::from(&watch::standing(&verdict::ask(app, tenant, &question).await?.ready.verdict))
        }
    };
    Ok(DeploymentView {
        id: row.id.to_string(),
        environment: row.environment,
        application: row.application,
        workload: row.workload,
        image: row.image,
        since: row.since.to_string(),
        running: row.until.is_none(),
        until: row.until.map(|until| until.to_string()),
        reporter: row.reporter,
        recorded_at: row.recorded.to_string(),
        at_start: View::from(&row.start),
        now,
    })
}
