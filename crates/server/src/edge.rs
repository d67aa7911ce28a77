//! The layers around every route, outermost first: request id, log line, panic, time, authorization, freshness.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt as _;
use tower_http::{catch_panic::CatchPanicLayer, sensitive_headers::SetSensitiveRequestHeadersLayer};
use tracing::Instrument as _;

use crate::{
    App, auth, freshness,
    problem::{Fault, PROBLEM_JSON},
    routes,
};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The service as one router.
pub(crate) fn router(app: App) -> Router {
    let (routes, _) = routes::all().split_for_parts();
    let inner = routes
        .route_layer(middleware::from_fn_with_state(app.clone(), freshness::freshness))
        .route_layer(middleware::from_fn_with_state(app.clone(), auth::authorize))
        .fallback(|| async { Fault::NotFound { what: "route" } })
        .method_not_allowed_fallback(|path: Option<MatchedPath>| async move {
            Fault::Method { allow: path.map(|p| auth::allowed(p.as_str())).unwrap_or_default() }
        })
        .with_state(app.clone());
    inner
        .layer(middleware::from_fn(bounded))
        .layer(CatchPanicLayer::custom(|_| Fault::Internal.into_response()))
        .layer(middleware::from_fn_with_state(app, outermost))
        .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION]))
}

/// Bounds how long a request takes. How many run is bounded before they come here, by [`crate::load`].
async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(crate::REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Fault::Timeout { limit: crate::REQUEST_TIMEOUT }.into_response(),
    }
}

/// Gives the request an id, tells the log and the metrics how it went.
async fn outermost(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    request.headers_mut().remove(&REQUEST_ID);
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    // A layer sees the route only after routing; the template is asked for by the same rules.
    let mut response = next.run(request).instrument(span.clone()).await;
    response = with_id(response, &id).await;
    let took = started.elapsed();
    let status = response.status().as_u16();
    let route = response.extensions().get::<auth::Route>().map_or_else(|| template(&path), |route| route.0);
    app.metrics.request(&method, route, status, took);
    // What only reads and succeeds is in the metrics and in the record of decisions; a line each would cost as much as the answer.
    let quiet = (method == Method::GET || method == Method::HEAD) && status < 400;
    span.in_scope(|| match quiet {
        true => tracing::debug!(%method, path, status, ms = millis(took), "answered"),
        false => tracing::info!(%method, path, status, ms = millis(took), "answered"),
    });
    response
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// Unlike every other. An id that a client sends is not used: it could be anybody's.
pub(crate) fn request_id() -> HeaderValue {
    static START: OnceLock<[u8; 8]> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let start = START.get_or_init(|| {
        let mut bytes = [0; 8];
        // Without randomness ids are unlike within one process only; no request depends on them.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        bytes
    });
    let mut text = [0; 32];
    let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    // 16 bytes are 32 digits.
    let _ = hex::encode_to_slice([*start, number].as_flattened(), &mut text);
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("none"))
}

/// Puts the id into the header, and into the document of a problem.
async fn with_id(response: Response, id: &HeaderValue) -> Response {
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == PROBLEM_JSON);
    let (mut parts, body) = response.into_parts();
    parts.headers.insert(REQUEST_ID, id.clone());
    if !is_problem {
        return Response::from_parts(parts, body);
    }
    // Problems are ours, whole and small.
    let bytes = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let bytes = match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes) {
        Ok(mut document) => {
            document.insert("requestId".into(), id.to_str().unwrap_or_default().into());
            Bytes::from(serde_json::to_vec(&document).unwrap_or_default())
        }
        Err(_) => bytes,
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(bytes))
}

/// The route's template by the path, `other` for what is not served: labels must stay few.
fn template(path: &str) -> &'static str {
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let own: Vec<&str> = template.split('/').collect();
        own.len() == parts.len()
            && own.iter().zip(&parts).all(|(t, p)| t == p || (t.starts_with('{') && !p.is_empty()))
    };
    auth::TABLE.iter().map(|(_, template, _)| *template).find(|template| fits(template)).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h49_paths_do_not_become_labels() {
        assert_eq!(template("/v1/attestations/sha256:aa/raw"), "/v1/attestations/{id}/raw");
        assert_eq!(template("/v1/verdict"), "/v1/verdict");
        for n in 0..1000 {
            assert_eq!(template(&format!("/v1/x{n}")), "other");
        }
    }
}
