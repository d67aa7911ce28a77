//! The routes: one resource a file, each handler three moves: extract, ask, answer.

mod admission;
mod applications;
mod approvals;
mod archivista;
mod artifacts;
mod attestations;
mod components;
mod decisions;
mod deployments;
mod events;
mod exceptions;
mod export;
mod facts;
mod feed;
mod groups;
mod impact;
mod keys;
mod log;
mod meta;
mod objects;
mod policies;
mod revisions;
mod revocations;
mod tenants;
mod timeline;
mod tokens;
mod trust;
mod verdicts;
mod webhooks;

pub(crate) use log::is_complete;
pub(crate) use meta::TrustReadiness;
pub(crate) use tokens::{duration, make as make_token};
pub use verdicts::MAX_QUESTIONS;

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    problem::{Fault, success},
    trust::Progress,
};

/// Every route, documented.
pub(crate) fn all() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(attestations::submit, attestations::list))
        .routes(routes!(attestations::get))
        .routes(routes!(attestations::raw))
        .routes(routes!(attestations::proof))
        .routes(routes!(objects::submit))
        .routes(routes!(objects::raw))
        .routes(routes!(objects::facts))
        .routes(routes!(artifacts::get))
        .routes(routes!(artifacts::graph))
        .routes(routes!(artifacts::evidence))
        .routes(routes!(facts::facts))
        .routes(routes!(verdicts::get))
        .routes(routes!(verdicts::many))
        .routes(routes!(verdicts::gate))
        .routes(routes!(verdicts::signed))
        .routes(routes!(admission::admit))
        .routes(routes!(decisions::verdict))
        .routes(routes!(decisions::list))
        .routes(routes!(export::export))
        .routes(routes!(timeline::timeline))
        .routes(routes!(policies::list))
        .routes(routes!(policies::get, policies::apply))
        .routes(routes!(policies::lint))
        .routes(routes!(revisions::draft))
        .routes(routes!(revisions::list))
        .routes(routes!(revisions::get))
        .routes(routes!(revisions::test))
        .routes(routes!(revisions::approve))
        .routes(routes!(revisions::activate))
        .routes(routes!(exceptions::list, exceptions::request))
        .routes(routes!(exceptions::approve))
        .routes(routes!(exceptions::withdraw))
        .routes(routes!(approvals::list, approvals::approve, approvals::rule))
        .routes(routes!(groups::list))
        .routes(routes!(groups::set))
        .routes(routes!(keys::list, keys::add))
        .routes(routes!(keys::get))
        .routes(routes!(keys::revoke))
        .routes(routes!(impact::impact))
        .routes(routes!(impact::what_if))
        .routes(routes!(revocations::list, revocations::add))
        .routes(routes!(trust::list, trust::add))
        .routes(routes!(trust::get))
        .routes(routes!(trust::withdraw))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(tenants::list, tenants::create))
        .routes(routes!(events::distribution))
        .routes(routes!(events::reconcile))
        .routes(routes!(deployments::add, deployments::list))
        .routes(routes!(applications::list))
        .routes(routes!(applications::get))
        .routes(routes!(feed::events))
        .routes(routes!(webhooks::list, webhooks::add))
        .routes(routes!(webhooks::remove))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::redeliver))
        .routes(routes!(components::components))
        .routes(routes!(components::findings))
        .routes(routes!(archivista::upload))
        .routes(routes!(archivista::download))
        .routes(routes!(log::checkpoint))
        .routes(routes!(log::inclusion))
        .routes(routes!(log::consistency))
        .routes(routes!(log::tile))
        .route("/v1/log/{tenant}/tile/{level}/{a}/{b}", axum::routing::get(log::deep_tile))
        .route("/v1/log/{tenant}/tile/{level}/{a}/{b}/{c}", axum::routing::get(log::deep_tile))
        .route("/v1/log/{tenant}/tile/{level}/{a}/{b}/{c}/{d}", axum::routing::get(log::deep_tile))
        .routes(routes!(meta::keys))
        .routes(routes!(meta::vsa_pem))
        .routes(routes!(meta::healthz))
        .routes(routes!(meta::readyz))
        .routes(routes!(meta::metrics))
        .routes(routes!(meta::openapi))
        .routes(routes!(meta::reason))
}

/// An answer that may be kept by the asker's own cache only, and asked about again each time.
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Plain text, and bytes of which nothing is said.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
pub(crate) const OCTETS: &str = "application/octet-stream";

/// JSON that depends on who asks.
pub(crate) fn json(body: &impl Serialize) -> Response {
    bytes(serde_json::to_vec(body).unwrap_or_default().into(), "application/json")
}

/// Bytes that depend on who asks.
pub(crate) fn bytes(body: Bytes, media_type: &str) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    let media_type =
        HeaderValue::from_str(media_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CACHE_CONTROL, PRIVATE);
    headers.insert(header::VARY, HeaderValue::from_static("Authorization"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The same with a strong validator; 304 when the asker has it.
pub(crate) fn tagged(asked: &HeaderMap, etag: &str, body: Bytes, media_type: &str) -> Response {
    let Ok(value) = HeaderValue::from_str(etag) else { return bytes(body, media_type) };
    let has_it = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok()).any(|list| {
        list.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    });
    if has_it {
        let mut response = success::not_modified(header::ETAG, value);
        response.headers_mut().insert(header::CACHE_CONTROL, PRIVATE);
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Authorization"));
        return response;
    }
    let mut response = bytes(body, media_type);
    response.headers_mut().insert(header::ETAG, value);
    response
}

/// 201 or 200 with JSON.
pub(crate) fn kept(created: bool, body: &impl Serialize) -> Response {
    success::kept(created, json(body)).into_response()
}

/// 201 for trust that is effective now, 200 for what was before, 202 for what will be.
pub(crate) fn added(progress: Progress, body: &impl Serialize) -> Response {
    match progress {
        Progress::Known => kept(false, body),
        Progress::Effective => kept(true, body),
        Progress::Working => success::accepted(json(body)),
    }
}

/// An answer that is sent as it comes.
pub(crate) fn streamed(receiver: mpsc::Receiver<Bytes>, media_type: &'static str) -> Response {
    let mut response = Response::new(Body::new(Streamed(receiver)));
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    out.insert(header::VARY, HeaderValue::from_static("Authorization"));
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Proxies that would wait for the end of the answer are told not to.
    out.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A body that is sent as it comes.
struct Streamed(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// What writes JSON Lines as they come.
pub(crate) struct Lines(mpsc::Sender<Bytes>);

impl Lines {
    /// Sends an object with its `type`. An error means that nobody reads any more.
    pub(crate) async fn send(&self, kind: &str, line: &impl Serialize) -> Result<(), Fault> {
        let mut line = serde_json::to_value(line).map_err(|_| Fault::Internal)?;
        line["type"] = kind.into();
        let text = format!("{line}\n");
        self.0.send(text.into()).await.map_err(|_| Fault::Internal)
    }
}

/// An answer of JSON Lines, written by a task. One that fails half-way ends with a line of type `problem`: without a last line
/// of type `end`, it is not whole.
pub(crate) fn lines<F>(app: App, write: impl FnOnce(Lines) -> F) -> Response
where
    F: Future<Output = Result<(), Fault>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(16);
    let writing = write(Lines(sender.clone()));
    let stop = app.stop.clone();
    app.tasks.spawn(async move {
        let ended = tokio::select! {
            () = stop.cancelled() => Err(Fault::Busy),
            ended = writing => ended,
        };
        if let Err(fault) = ended {
            let _ = Lines(sender).send("problem", &fault.problem()).await;
        }
    });
    streamed(receiver, "application/x-ndjson")
}
