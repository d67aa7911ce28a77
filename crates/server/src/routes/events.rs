//! What registries tell us.

use std::time::Duration;

use axum::{
    extract::{FromRequest as _, Request, State},
    response::Response,
};
use catenary_evidence::digest::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    App,
    auth::Principal,
    collector::{self, Found, Push},
    extract::Payload,
    problem::{Fault, success},
};

/// The most events of one notification.
const MAX_EVENTS: usize = 1000;
/// The most pushes that wait to be collected; then the registry is asked to send again.
const MAX_WAITING: usize = 256;
/// How often one push is tried.
const ATTEMPTS: u32 = 4;

/// A notification of the distribution registry. Members that we do not read are its own business.
#[derive(Debug, Deserialize, ToSchema)]
struct Notification {
    events: Vec<Event>,
}

/// One event.
#[derive(Debug, Deserialize, ToSchema)]
struct Event {
    /// `push` and `delete` are collected.
    action: String,
    /// When it happened.
    #[schema(value_type = Option<String>, format = DateTime)]
    timestamp: Option<Timestamp>,
    target: Target,
    actor: Option<Actor>,
}

/// What it is about.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Target {
    media_type: Option<String>,
    digest: Option<String>,
    repository: Option<String>,
    tag: Option<String>,
}

/// Who did it.
#[derive(Debug, Deserialize, ToSchema)]
struct Actor {
    name: Option<String>,
}

impl Event {
    /// The push of a manifest, if that is what it is.
    fn push(self) -> Result<Option<Push>, Fault> {
        let media_type = self.target.media_type.unwrap_or_default();
        let is_manifest = media_type.contains(".manifest.") || media_type.contains(".image.index.");
        // Whoever reports a deletion names the digest and the repository only.
        let deleted = self.action == "delete" && (is_manifest || media_type.is_empty());
        let (Some(digest), Some(repository)) = (self.target.digest, self.target.repository) else {
            return Ok(None);
        };
        if !deleted && (self.action != "push" || !is_manifest) {
            return Ok(None);
        }
        Ok(Some(Push {
            repository,
            deleted,
            digest: digest.parse::<Digest>()?,
            tag: self.target.tag.filter(|tag| !tag.is_empty()),
            occurred_at: self.timestamp.unwrap_or_else(Timestamp::now),
            actor: self.actor.and_then(|actor| actor.name),
            source: "distribution",
        }))
    }
}

/// Notifications of a Docker distribution registry
///
/// Authenticated with the registry's static bearer. What was pushed is fetched and hashed before anything is stated.
#[utoipa::path(post, path = "/v1/events/distribution", tag = "registry",
    request_body(content = Notification, content_type = "application/vnd.docker.distribution.events.v1+json"),
    responses((status = 202, description = "Will be collected", body = serde_json::Value)))]
pub(crate) async fn distribution(State(app): State<App>, request: Request) -> Result<Response, Fault> {
    let name = app.collector.authenticate(request.headers())?.config.name.clone();
    // The body is read only for those who may send one.
    let payload = Payload::from_request(request, &app).await?;
    match payload.media_type.as_deref() {
        Some(
            "application/vnd.docker.distribution.events.v1+json"
            | "application/vnd.docker.distribution.events.v2+json"
            | "application/json",
        ) => {}
        found => {
            let expected = "application/vnd.docker.distribution.events.v1+json";
            return Err(Fault::MediaType { found: found.unwrap_or_default().into(), expected });
        }
    }
    let notification: Notification = catenary_evidence::json::parse(&payload.bytes)?;
    if notification.events.len() > MAX_EVENTS {
        return Err(Fault::Member {
            pointer: "/events".into(),
            why: format!("has at most {MAX_EVENTS} elements"),
        });
    }
    let mut pushes = Vec::new();
    for event in notification.events {
        pushes.extend(event.push()?);
    }
    if app.tasks.len() + pushes.len() > MAX_WAITING {
        return Err(Fault::Busy);
    }
    let accepted = pushes.len();
    if accepted > 0 {
        let (worker, tasks) = (app.clone(), app.tasks.clone());
        tasks.spawn(async move {
            for push in pushes {
                collect(&worker, &name, &push).await;
            }
        });
    }
    Ok(success::accepted(super::json(&json!({ "accepted": accepted }))))
}

/// Tries a few times; what still fails is caught up by reconciling.
async fn collect(app: &App, registry: &str, push: &Push) {
    let Some(registry) = app.collector.named(registry) else { return };
    for attempt in 0..ATTEMPTS {
        match app.collector.collect(app, registry, push).await {
            Ok(_) => return,
            Err(fault) if fault.status() < 500 && attempt > 0 => {
                tracing::warn!(repository = push.repository, digest = %push.digest, %fault, "a push was not collected");
                return;
            }
            Err(fault) => {
                tracing::info!(repository = push.repository, digest = %push.digest, %fault, attempt, "a push will be tried again");
                tokio::time::sleep(Duration::from_millis(250 << attempt)).await;
            }
        }
    }
    tracing::warn!(repository = push.repository, digest = %push.digest, "a push was given up; reconcile to catch up");
}

/// What reconciling found.
#[derive(Debug, Serialize, ToSchema)]
struct Reconciled {
    registries: Vec<Found>,
}

/// Look at every tag and collect what no notification told
#[utoipa::path(post, path = "/v1/registry/reconcile", tag = "registry",
    responses((status = 200, description = "What was found", body = Reconciled)))]
pub(crate) async fn reconcile(State(app): State<App>, who: Principal) -> Result<Response, Fault> {
    let worker = app.clone();
    // In its own task: it goes on when the client does not wait.
    let task = app.tasks.spawn(async move { collector::reconcile(&worker, &who.tenant).await });
    let registries = task.await.map_err(|_| Fault::Internal)??;
    Ok(super::json(&Reconciled { registries }))
}
