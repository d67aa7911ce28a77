//! What was answered to whom, and the verdicts that were answered.

use axum::{extract::State, http::HeaderMap, response::Response};
use catenary_evidence::{
    digest::{Digest, Sha256},
    reference::ImageReference,
};
use catenary_store::decisions::{Chosen, Cursor, DecisionRow};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    App,
    auth::Principal,
    extract::{ApiPath, ApiQuery},
    page,
    problem::Fault,
    routes::tokens::NoQuery,
};

/// Equal answers to one principal within one minute.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Item {
    id: String,
    /// Public id of the token that asked.
    principal: String,
    /// `registry/repository@sha256:…`
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    /// Id of the verdict; its bytes are at `/v1/verdicts/{id}`.
    verdict: String,
    /// `PASSED`, `FAILED`, `INDETERMINATE`
    outcome: String,
    allowed: bool,
    /// Size of the log that the verdict was computed at.
    log_size: u64,
    /// How many answers.
    count: u64,
    first: String,
    last: String,
    /// Which instance of the service answered.
    instance: String,
}

impl From<DecisionRow> for Item {
    fn from(row: DecisionRow) -> Self {
        Self {
            id: row.id.to_string(),
            principal: row.principal,
            image: format!("{}@{}", row.resource, row.digest),
            environment: row.environment,
            platform: row.platform,
            verdict: row.verdict.to_string(),
            outcome: row.outcome,
            allowed: row.allowed,
            log_size: row.log_size,
            count: row.count,
            first: row.first.to_string(),
            last: row.last.to_string(),
            instance: row.instance,
        }
    }
}

/// One page.
#[derive(Debug, Serialize, ToSchema)]
struct Items {
    items: Vec<Item>,
    /// Pass it as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which decisions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// `registry/repository@sha256:…`, or a bare `sha256:…`.
    image: Option<String>,
    /// Public id of a token.
    principal: Option<String>,
    /// For example `prod`.
    #[serde(alias = "env")]
    environment: Option<String>,
    /// First answered at or after (RFC 3339).
    since: Option<String>,
    /// First answered before (RFC 3339).
    until: Option<String>,
    /// Whether it was allowed.
    allowed: Option<bool>,
    /// 1 to 200, default 50.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Decisions, newest first
///
/// Each answer of `/v1/verdict`, `/v1/verdicts` and `/v1/gate`, once for each principal, question, verdict and minute.
#[utoipa::path(get, path = "/v1/decisions", tag = "verdicts", params(ListQuery),
    responses((status = 200, description = "One page", body = Items)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Response, Fault> {
    let limit = page::limit(query.limit)?;
    let (chosen, shape) = (query.chosen()?, query.shape());
    let after = match &query.cursor {
        Some(cursor) => Some(place(&page::open_place(&app, &who.tenant, &shape, cursor)?)?),
        None => None,
    };
    let mut rows = app.backend.store.list_decisions(&who.tenant, &chosen, after, limit + 1).await?;
    let more = page::cut(&mut rows, limit);
    let last = rows.last().filter(|_| more).map(DecisionRow::cursor);
    let next = last.map(|cursor| page::seal_place(&app, &who.tenant, &shape, &bytes(cursor)));
    Ok(super::json(&Items { items: rows.into_iter().map(Item::from).collect(), next }))
}

impl ListQuery {
    /// What the cursor is for: the same list of the same tenant only.
    fn shape(&self) -> String {
        let chosen =
            (&self.image, &self.principal, &self.environment, &self.since, &self.until, self.allowed);
        format!("decisions {chosen:?}")
    }

    fn chosen(&self) -> Result<Chosen, Fault> {
        let time = |text: &Option<String>, name: &str| {
            let parse = |t: &String| {
                t.parse::<Timestamp>().map_err(|_| Fault::Query(format!("`{name}` is an RFC 3339 time")))
            };
            text.as_ref().map(parse).transpose()
        };
        let (digest, resource) = match self.image.as_deref() {
            None => (None, None),
            Some(image) if image.contains('@') => {
                let image: ImageReference = image.parse()?;
                (Some(image.digest), Some(image.resource))
            }
            Some(digest) => (Some(digest.parse::<Digest>()?), None),
        };
        for text in [&self.principal, &self.environment].into_iter().flatten() {
            if text.len() > 1024 || text.contains('\0') {
                return Err(Fault::Query("a filter is at most 1024 bytes without NUL".into()));
            }
        }
        Ok(Chosen {
            digest,
            resource,
            principal: self.principal.clone(),
            environment: self.environment.clone(),
            allowed: self.allowed,
            since: time(&self.since, "since")?,
            until: time(&self.until, "until")?,
        })
    }
}

fn bytes((time, id): Cursor) -> Vec<u8> {
    [&time.to_be_bytes()[..], &id.0[..]].concat()
}

fn place(bytes: &[u8]) -> Result<Cursor, Fault> {
    let strange = || Fault::Pagination("the cursor is not one of this list".into());
    let (time, id) = bytes.split_first_chunk::<8>().ok_or_else(strange)?;
    let id: [u8; 32] = id.try_into().map_err(|_| strange())?;
    Ok((i64::from_be_bytes(*time), Sha256(id)))
}

/// A verdict that was answered
///
/// Exactly the bytes of the answer. Its id is the SHA-256 of these without the member `id`.
#[utoipa::path(get, path = "/v1/verdicts/{id}", tag = "verdicts", params(("id" = String, Path, description = "`sha256:…`")),
    responses((status = 200, description = "The verdict", body = Value), (status = 304, description = "Unchanged")))]
pub(crate) async fn verdict(
    State(app): State<App>,
    who: Principal,
    ApiPath(id): ApiPath<String>,
    _: ApiQuery<NoQuery>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let id: Sha256 = id.parse()?;
    let bytes = app.backend.store.verdict_body(&who.tenant, id).await?;
    let bytes = bytes.ok_or(Fault::NotFound { what: "verdict" })?;
    let etag = format!("\"{}\"", &Sha256::of(&bytes).to_hex()[..32]);
    Ok(super::tagged(&headers, &etag, bytes.into(), "application/json"))
}
