//! `GET /v1/events`: what happens, as it happens (Server-Sent Events) or page by page.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::Response,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};
use utoipa::{IntoParams, ToSchema};

use crate::{
    App,
    auth::{self, Principal},
    extract::ApiQuery,
    feed::{self, Cursor, Types},
    page,
    problem::Fault,
};

/// How often a silent stream says that it lives, and asks whether its credential has expired meanwhile.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events that wait for a slow reader; then nothing more is read for it.
const BUFFERED: usize = 16;
/// Events that are read for a stream at once.
const AT_ONCE: usize = 100;

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// `sse` (a stream) or `json` (a page). Without it, what `Accept` prefers, and a stream.
    format: Option<String>,
    /// Go on after this cursor: `id` of an event of the stream, `next` of a page, or 0 for the beginning. A stream without it begins now, a page at
    /// the beginning.
    after: Option<String>,
    /// Only these, with commas: `verdict.changed`, `deployment.*`
    types: Option<String>,
    /// Of a page, 1 to 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// One page.
#[derive(Debug, Serialize, ToSchema)]
struct EventList {
    /// CloudEvents 1.0, oldest first.
    #[schema(value_type = Vec<Object>)]
    items: Vec<Value>,
    /// Go on after this.
    next: String,
    /// Whether there is more already.
    more: bool,
}

/// What happens
///
/// Server-Sent Events with `Last-Event-ID`, or pages with `format=json`. Each event is a CloudEvent.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "As `after`")),
    responses((status = 200, description = "A page, or a stream", content(
        (EventList = "application/json"), (String = "text/event-stream")))))]
pub(crate) async fn events(
    State(app): State<App>,
    who: Principal,
    ApiQuery(query): ApiQuery<EventQuery>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let types = Types::asked(query.types.as_deref().unwrap_or_default())?;
    let after = match (headers.get("last-event-id"), &query.after) {
        // A reader that comes back knows better than the address that it came with.
        (Some(id), _) => Some(id.to_str().map_err(|_| Fault::Header("last-event-id"))?),
        (None, after) => after.as_deref(),
    };
    let after = after.map(str::parse::<Cursor>).transpose();
    let after = after.map_err(|()| Fault::Pagination("the cursor is not one of events".into()))?;
    if !is_page(&query, &headers)? {
        return stream(app, who, headers, types, after).await;
    }
    let limit = page::limit(query.limit)?;
    let page = feed::page(&app, &who.tenant, after.unwrap_or_default(), &types, limit as usize).await?;
    Ok(super::json(&EventList {
        items: page.items.into_iter().map(|told| told.event).collect(),
        next: page.next.to_string(),
        more: page.more,
    }))
}

fn is_page(query: &EventQuery, headers: &HeaderMap) -> Result<bool, Fault> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match query.format.as_deref() {
        Some("json") => Ok(true),
        Some("sse") => Ok(false),
        Some(_) => Err(Fault::Query("`format` is sse or json".into())),
        None => Ok(accept.contains("application/json") && !accept.contains("text/event-stream")),
    }
}

async fn stream(
    app: App,
    who: Principal,
    headers: HeaderMap,
    types: Types,
    after: Option<Cursor>,
) -> Result<Response, Fault> {
    if let Some(at) = after {
        feed::kept_from(&app, &who.tenant, at).await?;
    }
    let place = app.streams.clone().try_acquire_owned().map_err(|_| Fault::Busy)?;
    let at = match after {
        Some(at) => at,
        None => feed::now(&app, &who.tenant).await?,
    };
    let (sender, receiver) = mpsc::channel(BUFFERED);
    let tasks = app.tasks.clone();
    tasks.spawn(send(app, who.tenant, headers, types, at, sender, place));
    Ok(super::streamed(receiver, "text/event-stream"))
}

/// Sends until the reader goes, its credential ends, or the service stops.
async fn send(
    app: App,
    tenant: String,
    headers: HeaderMap,
    types: Types,
    mut at: Cursor,
    sender: mpsc::Sender<Bytes>,
    _place: OwnedSemaphorePermit,
) {
    let stop = app.stop.clone();
    let mut beats = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // A stream begins with its cursor. Later it goes along with each sign of life, so that a reader of rare events need not look
    // through all others again.
    let alive = |at: Cursor| Bytes::from(format!("id: {at}\n: alive\n\n"));
    if sender.send(alive(at)).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sender.closed() => return,
            _ = beats.tick() => {
                let admitted = auth::authenticate(&app, &headers).await.is_ok();
                if !admitted || sender.send(alive(at)).await.is_err() {
                    return;
                }
            }
            () = feed::wait(&app, &tenant, at) => {
                // What revokes a credential is an entry of the log, for which every stream of the tenant wakes up.
                if auth::authenticate(&app, &headers).await.is_err() {
                    return;
                }
                let Ok(page) = feed::page(&app, &tenant, at, &types, AT_ONCE).await else { return };
                // Known of, but not to be told yet.
                if page.next == at {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                for told in page.items {
                    let text = format!("id: {}\nevent: {}\ndata: {}\n\n", told.cursor, told.kind, told.event);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        sent = sender.send(text.into()) => if sent.is_err() { return },
                    }
                }
                at = page.next;
            }
        }
    }
}
