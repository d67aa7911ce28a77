//! Our own extractors, so that no refusal but a problem document ever leaves the service.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Request, rejection::PathRejection},
    http::{HeaderMap, header, request::Parts},
};
use bytes::Bytes;
use catenary_chain::context::Context;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{App, auth::Principal, load::Ticket, problem::Fault};

/// The most bytes of a body.
pub const MAX_BODY: usize = 8 * 1024 * 1024;
/// Bodies up to this are read at once; larger ones wait for room, so that memory stays bounded.
const SMALL_BODY: usize = 64 * 1024;
/// Room for large bodies, in KiB: three of the largest, or a hundred lists of what a build leaves.
const LARGE_BODIES_KIB: usize = 3 * MAX_BODY / 1024;
/// From the first to the last byte of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a large body waits for its room.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

/// Room for large bodies.
#[derive(Debug, Clone)]
pub struct BodyRoom(Arc<Semaphore>);

impl Default for BodyRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_BODIES_KIB)))
    }
}

impl BodyRoom {
    /// Room for `bytes`; those who ask for much and those who ask for little get it in the order in which they came.
    async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Fault> {
        let kib = u32::try_from(bytes.div_ceil(1024)).map_err(|_| Fault::Busy)?;
        let waiting = tokio::time::timeout(ROOM_TIMEOUT, self.0.clone().acquire_many_owned(kib));
        waiting.await.map_err(|_| Fault::Busy)?.map_err(|_| Fault::Busy)
    }
}

/// A whole body. A large one keeps its room until this is dropped.
#[derive(Debug)]
pub struct Payload {
    /// Exactly as sent.
    pub bytes: Bytes,
    /// `Content-Type` without parameters, lower case.
    pub media_type: Option<String>,
    _room: Option<OwnedSemaphorePermit>,
}

impl FromRequest<App> for Payload {
    type Rejection = Fault;

    async fn from_request(request: Request, app: &App) -> Result<Self, Fault> {
        let media_type = media_type(request.headers())?;
        refuse_encoded(request.headers())?;
        let ticket = request.extensions().get::<Ticket>().cloned();
        let (bytes, room) = match tokio::time::timeout(BODY_TIMEOUT, read(request, &app.body_room)).await {
            Ok(result) => result?,
            Err(_) => return Err(Fault::BodySlow { limit: BODY_TIMEOUT }),
        };
        if let Some(ticket) = ticket {
            ticket.take().await?;
        }
        Ok(Self { bytes, media_type, _room: room })
    }
}

/// Reads a body, cut at the limit whatever its announced length.
async fn read(request: Request, room: &BodyRoom) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Fault> {
    let too_large = Fault::BodyTooLarge { limit: MAX_BODY };
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let mut body: Body = request.into_body();
    // The rest of a refused body is dropped by the connection, which lingers until the answer is read.
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(too_large);
    }
    // What says no length may be of any.
    let whole = announced.map_or(MAX_BODY, |length| length as usize);
    let mut buffer = Vec::new();
    let mut taken = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Fault::BodyCut)?;
        let Ok(data) = frame.into_data() else { continue };
        let length = buffer.len() + data.len();
        if length > MAX_BODY {
            return Err(too_large);
        }
        if length > SMALL_BODY && taken.is_none() {
            taken = Some(room.take(whole).await?);
            // For the rest at once: growing step by step would hold two copies.
            buffer.reserve_exact(whole.saturating_sub(buffer.len()));
        }
        buffer.extend_from_slice(&data);
    }
    if taken.is_some() {
        buffer.shrink_to_fit();
    }
    Ok((buffer.into(), taken))
}

fn media_type(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Fault::Header("content-type"))?;
    Ok(Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()))
}

fn refuse_encoded(headers: &HeaderMap) -> Result<(), Fault> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(value) if !value.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(Fault::Encoding { found: String::from_utf8_lossy(value.as_bytes()).into_owned() })
        }
        _ => Ok(()),
    }
}

/// A strict JSON body. Unknown members are refused by the type.
#[derive(Debug)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for ApiJson<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, app: &App) -> Result<Self, Fault> {
        let payload = Payload::from_request(request, app).await?;
        match payload.media_type.as_deref() {
            Some("application/json") => {}
            found => {
                return Err(Fault::MediaType {
                    found: found.unwrap_or_default().into(),
                    expected: "application/json",
                });
            }
        }
        Ok(Self(catenary_evidence::json::parse(&payload.bytes)?))
    }
}

/// A query. `minIndex` and `wait`, which every read takes, are read by [`crate::freshness`].
#[derive(Debug)]
pub struct ApiQuery<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for ApiQuery<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Fault> {
        let query = parts.uri.query().unwrap_or_default();
        let own: Vec<&str> = query.split('&').filter(|pair| !crate::freshness::is_member(pair)).collect();
        let uri = format!("/?{}", own.join("&")).parse().map_err(|_| Fault::Query("not a query".into()))?;
        let parsed = axum::extract::Query::<T>::try_from_uri(&uri);
        parsed.map(|axum::extract::Query(value)| Self(value)).map_err(|e| {
            let text = e.body_text();
            // Of an unknown member the text names all that are known.
            let paging = [": limit: ", ": cursor: ", "field `limit`", "field `cursor`"];
            if paging.iter().any(|said| text.contains(said)) {
                Fault::Pagination(text)
            } else {
                Fault::Query(text)
            }
        })
    }
}

/// A query that may say more: `ctx.<name>=<value>`, any number of times.
#[derive(Debug)]
pub struct ContextQuery<T>(pub T, pub Context);

impl<T: DeserializeOwned> FromRequestParts<App> for ContextQuery<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Fault> {
        let not_a_query = || Fault::Query("not a query".into());
        let all = parts.uri.query().unwrap_or_default().to_owned();
        let (said, own): (Vec<&str>, Vec<&str>) = all.split('&').partition(|pair| pair.starts_with("ctx."));
        let said = format!("/?{}", said.join("&")).parse().map_err(|_| not_a_query())?;
        let said = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&said);
        let mut context = Context::new();
        for (name, value) in said.map_err(|_| not_a_query())?.0 {
            let name = name.strip_prefix("ctx.").unwrap_or(&name).to_owned();
            if let Some(twice) = context.insert(name.clone(), value) {
                return Err(Fault::Query(format!("`ctx.{name}` is given twice, first as `{twice}`")));
            }
        }
        parts.uri = format!("{}?{}", parts.uri.path(), own.join("&")).parse().map_err(|_| not_a_query())?;
        let ApiQuery(query) = ApiQuery::from_request_parts(parts, app).await?;
        Ok(Self(query, context))
    }
}

/// `Prefer: respond-async` and `Prefer: wait=n` (RFC 7240): how long an answer may wait for work behind it.
#[derive(Debug, Clone, Copy)]
pub struct Patience(pub Option<Duration>);

impl<S: Sync> FromRequestParts<S> for Patience {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        let preference = |text: &str| match text.trim().split_once('=') {
            None if text.trim() == "respond-async" => Some(Duration::ZERO),
            Some(("wait", seconds)) => {
                Some(Duration::from_secs(seconds.parse().ok()?).min(crate::freshness::MAX_WAIT))
            }
            _ => None,
        };
        // `respond-async, wait=5` waits: the longer of the two.
        Ok(Self(values.flat_map(|value| value.split(',')).filter_map(preference).max()))
    }
}

/// Parts of the path.
#[derive(Debug)]
pub struct ApiPath<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for ApiPath<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Fault> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, app).await;
        path.map(|axum::extract::Path(value)| Self(value))
            .map_err(|e: PathRejection| Fault::Path(e.body_text()))
    }
}

impl FromRequestParts<App> for Principal {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Fault> {
        // The authorization layer put it there; a route that it does not know has none.
        parts.extensions.get::<Self>().cloned().ok_or(Fault::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_bodies_share_their_room_by_their_bytes() {
        let room = BodyRoom::default();
        let take = async |bytes: usize| tokio::time::timeout(Duration::ZERO, room.take(bytes)).await.ok();
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(take(MAX_BODY).await.unwrap().unwrap());
        }
        assert!(take(SMALL_BODY + 1).await.is_none(), "as much as three of the largest");
        held.clear();
        for _ in 0..150 {
            held.push(take(160 * 1024).await.unwrap().unwrap());
        }
        assert!(take(MAX_BODY).await.is_none());
        held.clear();
        assert!(take(MAX_BODY).await.is_some());
    }
}
