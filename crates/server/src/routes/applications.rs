//! Applications: everything that one runs, weakest link first.

use std::cmp::Reverse;

use axum::{extract::State, response::Response};
use catenary_chain::{
    Outcome, Verdict,
    verdict::{Link, Status},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use crate::{
    App,
    auth::Principal,
    extract::{ApiPath, ApiQuery},
    page,
    problem::Fault,
    routes::tokens::NoQuery,
    verdict, watch,
    when::When,
};

/// The most images of an application that are shown.
const MAX_IMAGES: u32 = 1000;

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ApplicationQuery {
    /// `next` of the page before: a name.
    after: Option<String>,
    /// 1 to 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// An application.
#[derive(Debug, Serialize, ToSchema)]
struct Application {
    name: String,
    /// Distinct images, each in its environment.
    images: u64,
    /// Deployments that run.
    running: u64,
    /// Of those, not allowed now.
    denied: u64,
    /// Of those, allowed when they were told.
    lapsed: u64,
}

/// One page.
#[derive(Debug, Serialize, ToSchema)]
struct ApplicationList {
    items: Vec<Application>,
    next: Option<String>,
}

/// Applications with something that runs, by name
#[utoipa::path(get, path = "/v1/applications", tag = "deployments", params(ApplicationQuery),
    responses((status = 200, description = "One page", body = ApplicationList)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    ApiQuery(query): ApiQuery<ApplicationQuery>,
) -> Result<Response, Fault> {
    let limit = page::limit(query.limit)?;
    let after = query.after.unwrap_or_default().replace('\0', "\u{fffd}");
    let mut rows = app.backend.store.list_applications(&who.tenant, &after, limit + 1).await?;
    let more = page::cut(&mut rows, limit);
    let next = rows.last().filter(|_| more).map(|last| last.name.clone());
    let items = rows.into_iter().map(|row| Application {
        name: row.name,
        images: row.images,
        running: row.running,
        denied: row.denied,
        lapsed: row.lapsed,
    });
    Ok(super::json(&ApplicationList { items: items.collect(), next }))
}

/// One image of an application.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Image {
    image: String,
    environment: String,
    outcome: String,
    allowed: bool,
    /// How many errors its verdict has.
    errors: usize,
    /// The first link that does not hold.
    #[schema(value_type = Option<Object>)]
    broken_link: Option<Value>,
    /// The first error, with what mends it.
    #[schema(value_type = Option<Object>)]
    reason: Option<Value>,
    /// The verdict's id.
    verdict: String,
}

/// Everything that an application runs.
#[derive(Debug, Serialize, ToSchema)]
struct ApplicationView {
    name: String,
    /// The worst of all.
    outcome: String,
    /// Whether all of them are allowed.
    allowed: bool,
    /// Weakest first.
    images: Vec<Image>,
    /// Whether there are more images than are shown.
    truncated: bool,
}

/// Everything that an application runs, weakest link first
#[utoipa::path(get, path = "/v1/applications/{name}", tag = "deployments", params(("name" = String, Path)),
    responses((status = 200, description = "Each image with its broken link and what mends it", body = ApplicationView)))]
pub(crate) async fn get(
    State(app): State<App>,
    who: Principal,
    ApiPath(name): ApiPath<String>,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let wanted = name.replace('\0', "\u{fffd}");
    let mut rows = app.backend.store.images_of(&who.tenant, &wanted, MAX_IMAGES + 1).await?;
    if rows.is_empty() {
        return Err(Fault::NotFound { what: "application" });
    }
    let truncated = page::cut(&mut rows, MAX_IMAGES);
    let limit = crate::REQUEST_TIMEOUT / 2;
    let questions = rows.iter().map(|(image, environment)| verdict::question(image, Some(environment), None));
    let questions = questions.collect::<Result<Vec<_>, _>>()?;
    let answers =
        verdict::ask_many(&app, &who.tenant, &questions, When::default(), Instant::now() + limit).await?;
    let mut images: Vec<(Reverse<Outcome>, Reverse<usize>, Image)> = Vec::with_capacity(rows.len());
    for ((image, environment), answer) in rows.into_iter().zip(answers) {
        let answer = answer.ok_or(Fault::Timeout { limit })?;
        let view = view(image, environment, &answer.ready.verdict);
        images.push((Reverse(answer.ready.verdict.outcome), Reverse(view.errors), view));
    }
    images.sort_by(|a, b| (a.0, a.1, &a.2.image).cmp(&(b.0, b.1, &b.2.image)));
    // What is not shown could be worse.
    let worst = images.first().map_or(Outcome::Failed, |(Reverse(worst), ..)| *worst);
    let worst = if truncated { worst.max(Outcome::Indeterminate) } else { worst };
    let images: Vec<Image> = images.into_iter().map(|(.., image)| image).collect();
    Ok(super::json(&ApplicationView {
        name,
        outcome: watch::outcome_text(worst).to_owned(),
        allowed: !truncated && images.iter().all(|image| image.allowed),
        images,
        truncated,
    }))
}

fn view(image: String, environment: String, verdict: &Verdict) -> Image {
    let first = verdict.errors().next();
    let broken = first.and_then(|reason| verdict.links.iter().find_map(|link| broken(link, &reason.stage)));
    let broken = broken.or_else(|| verdict.links.iter().find(|link| link.status != Status::Pass));
    Image {
        image,
        environment,
        outcome: watch::outcome_text(verdict.outcome).to_owned(),
        allowed: verdict.allowed,
        errors: verdict.errors().count(),
        broken_link: broken.map(|link| {
            serde_json::json!({ "stage": link.stage, "status": link.status, "node": link.node, "summary": link.summary })
        }),
        reason: first.and_then(|reason| serde_json::to_value(reason).ok()),
        verdict: verdict.id.to_string(),
    }
}

/// The innermost link of a stage that does not hold.
fn broken<'a>(link: &'a Link, stage: &str) -> Option<&'a Link> {
    let below = link.links.iter().find_map(|below| broken(below, stage));
    below.or_else(|| (link.stage == stage && link.status != Status::Pass).then_some(link))
}
