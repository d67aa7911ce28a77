//! Webhooks: who is told what happens, and what could not be told.

use axum::{extract::State, response::Response};
use catenary_chain::policy::document;
use catenary_store::webhooks::{DeadLetter, Webhook};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::{
    App,
    auth::Principal,
    extract::{ApiJson, ApiPath, ApiQuery},
    feed::{self, Types},
    page,
    problem::Fault,
    routes::tokens::NoQuery,
    webhook::{self, guard},
};

/// The most receivers of a tenant.
const MAX_WEBHOOKS: u32 = 100;

/// A receiver to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWebhook {
    /// Where events are sent: https, and a public address.
    #[schema(max_length = 2048)]
    url: String,
    /// Only these types, for example `verdict.changed` or `deployment.*`; all without it.
    #[serde(default)]
    types: Vec<String>,
}

/// A receiver.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WebhookView {
    id: String,
    url: String,
    /// Empty: all.
    types: Vec<String>,
    creator: String,
    created: String,
    /// After the last event that it was told: where `/v1/events` would go on.
    cursor: String,
    /// How many events were delivered.
    delivered: u64,
    /// How many were given up.
    dead: u64,
    /// How often the next event was tried in vain.
    attempts: u32,
    /// What went wrong last, until something goes well.
    error: Option<String>,
    /// When it is tried again.
    next_attempt: Option<String>,
    /// Until when what is sent is signed with the secret before, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_secret_until: Option<String>,
    /// Signs what is sent; shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// The receivers of a tenant.
#[derive(Debug, Serialize, ToSchema)]
struct WebhookList {
    items: Vec<WebhookView>,
}

fn view(hook: &Webhook, secret: Option<String>) -> WebhookView {
    let waits = hook.attempts > 0;
    WebhookView {
        id: hook.id.clone(),
        url: hook.url.clone(),
        types: hook.types.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        creator: hook.creator.clone(),
        created: hook.created.to_string(),
        cursor: feed::Cursor { log: hook.log_size, seq: hook.seq }.to_string(),
        delivered: hook.delivered,
        dead: hook.dead,
        attempts: hook.attempts,
        error: Some(hook.error.clone()).filter(|error| !error.is_empty()),
        next_attempt: waits.then(|| hook.next.to_string()),
        old_secret_until: (hook.old_until > Timestamp::now()).then(|| hook.old_until.to_string()),
        secret,
    }
}

/// Tell a receiver from now on
///
/// The answer has the secret that signs what is sent, this once.
#[utoipa::path(post, path = "/v1/webhooks", tag = "events", request_body = NewWebhook,
    responses((status = 201, description = "With its secret", body = WebhookView)))]
pub(crate) async fn add(
    State(app): State<App>,
    who: Principal,
    ApiJson(new): ApiJson<NewWebhook>,
) -> Result<Response, Fault> {
    let types = Types::asked(&new.types.join(","));
    let types = types.map_err(|fault| Fault::Member { pointer: "/types".into(), why: fault.to_string() })?;
    guard::resolve(&new.url, &app.webhooks.allowed).await?;
    let at = feed::now(&app, &who.tenant).await?;
    let mut random = [0; 9];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Fault::Internal)?;
    let (mac_key, _) = app.backend.keys.mac_current();
    let hook = Webhook {
        tenant: who.tenant.clone(),
        id: format!("wh-{}", hex::encode(random)),
        url: new.url,
        types: types.to_string(),
        mac_key,
        generation: 0,
        old_mac_key: 0,
        old_until: Timestamp::UNIX_EPOCH,
        creator: who.name.clone(),
        created: Timestamp::now(),
        log_size: at.log,
        seq: at.seq,
        attempts: 0,
        error: String::new(),
        next: Timestamp::UNIX_EPOCH,
        holder: String::new(),
        lease: Timestamp::UNIX_EPOCH,
        delivered: 0,
        dead: 0,
    };
    let secret = webhook::secret(&app.backend.keys, &hook).ok_or(Fault::Internal)?;
    if !app.backend.store.add_webhook(&hook, MAX_WEBHOOKS).await? {
        return Err(Fault::Conflict(format!("a tenant has at most {MAX_WEBHOOKS} webhooks")));
    }
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, webhook = hook.id, "added a webhook");
    Ok(super::kept(true, &view(&hook, Some(secret))))
}

/// Who is told
#[utoipa::path(get, path = "/v1/webhooks", tag = "events",
    responses((status = 200, description = "Without their secrets", body = WebhookList)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let hooks = app.backend.store.webhooks(Some(&who.tenant)).await?;
    Ok(super::json(&WebhookList { items: hooks.iter().map(|hook| view(hook, None)).collect() }))
}

/// How a secret is changed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    /// How long what is sent is signed with both secrets, for example `24h`, which is the default; at most `30d`, `0s` not at all.
    #[serde(default)]
    overlap: Option<String>,
}

/// Longest overlap of two secrets.
const LONGEST_OVERLAP: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Change the secret of a receiver
///
/// The answer has the new one, this once. Until `overlap` has passed, each request carries two signatures, so that a receiver
/// that knows either takes it.
#[utoipa::path(post, path = "/v1/webhooks/{id}/rotate", tag = "events", request_body = Rotation, params(("id" = String, Path)),
    responses((status = 200, description = "With its new secret", body = WebhookView)))]
pub(crate) async fn rotate(
    State(app): State<App>,
    who: Principal,
    ApiPath(id): ApiPath<String>,
    ApiJson(Rotation { overlap }): ApiJson<Rotation>,
) -> Result<Response, Fault> {
    let overlap = match overlap {
        None => SignedDuration::from_hours(24),
        Some(text) => {
            let span =
                document::span(&text).map_err(|why| Fault::Member { pointer: "/overlap".into(), why })?;
            let why = || Fault::Member { pointer: "/overlap".into(), why: "is at most 30d".into() };
            Some(span).filter(|span| *span <= LONGEST_OVERLAP).ok_or_else(why)?
        }
    };
    let hook = find(&app, &who, &id).await?;
    let until = Timestamp::now().checked_add(overlap).map_err(|_| Fault::Internal)?;
    let (mac_key, _) = app.backend.keys.mac_current();
    if !app.backend.store.rotate_webhook(&hook, mac_key, until).await? {
        return Err(Fault::Conflict("somebody else changed the secret just now".into()));
    }
    let changed = Webhook {
        generation: hook.generation + 1,
        old_mac_key: hook.mac_key,
        mac_key,
        old_until: until,
        ..hook
    };
    let secret = webhook::secret(&app.backend.keys, &changed).ok_or(Fault::Internal)?;
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, webhook = id, "changed a webhook's secret");
    Ok(super::json(&view(&changed, Some(secret))))
}

/// Tell a receiver no more
///
/// Its dead letters go with it.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", tag = "events", params(("id" = String, Path)),
    responses((status = 200, description = "Removed", body = serde_json::Value)))]
pub(crate) async fn remove(
    State(app): State<App>,
    who: Principal,
    ApiPath(id): ApiPath<String>,
) -> Result<Response, Fault> {
    let id = id.replace('\0', "\u{fffd}");
    if !app.backend.store.remove_webhook(&who.tenant, &id).await? {
        return Err(Fault::NotFound { what: "webhook" });
    }
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, webhook = id, "removed a webhook");
    Ok(super::json(&json!({ "id": id, "removed": true })))
}

async fn find(app: &App, who: &Principal, id: &str) -> Result<Webhook, Fault> {
    let hooks = app.backend.store.webhooks(Some(&who.tenant)).await?;
    hooks.into_iter().find(|hook| hook.id == id).ok_or(Fault::NotFound { what: "webhook" })
}

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryQuery {
    /// `dead`: given up. It is the only state that is kept; a receiver's next delivery is in `/v1/webhooks`.
    state: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// An event that was given up.
#[derive(Debug, Serialize, ToSchema)]
struct Delivery {
    /// For redelivering.
    number: u64,
    state: &'static str,
    /// The event's id.
    event: String,
    #[serde(rename = "type")]
    kind: String,
    attempts: u32,
    /// What went wrong last.
    error: String,
    /// When it was given up.
    time: String,
}

impl From<&DeadLetter> for Delivery {
    fn from(letter: &DeadLetter) -> Self {
        Self {
            number: letter.number,
            state: "dead",
            event: letter.event.clone(),
            kind: letter.kind.clone(),
            attempts: letter.attempts,
            error: letter.error.clone(),
            time: letter.time.to_string(),
        }
    }
}

/// One page.
#[derive(Debug, Serialize, ToSchema)]
struct DeliveryList {
    items: Vec<Delivery>,
    next: Option<String>,
}

/// What could not be delivered, newest first
#[utoipa::path(get, path = "/v1/webhooks/{id}/deliveries", tag = "events", params(("id" = String, Path), DeliveryQuery),
    responses((status = 200, description = "One page", body = DeliveryList)))]
pub(crate) async fn deliveries(
    State(app): State<App>,
    who: Principal,
    ApiPath(id): ApiPath<String>,
    ApiQuery(query): ApiQuery<DeliveryQuery>,
) -> Result<Response, Fault> {
    if query.state.as_deref().is_some_and(|state| state != "dead") {
        return Err(Fault::Query("`state` is dead".into()));
    }
    let limit = page::limit(query.limit)?;
    let hook = find(&app, &who, &id).await?;
    let shape = format!("deliveries {id}");
    let before = match &query.cursor {
        Some(cursor) => page::open(&app, &who.tenant, &shape, cursor)?,
        None => u64::MAX,
    };
    let letters = app.backend.store.dead_letters(&who.tenant, &hook.id, before, limit + 1).await?;
    let items: Vec<Delivery> = letters.iter().take(limit as usize).map(Delivery::from).collect();
    let next = items.last().filter(|_| letters.len() > limit as usize);
    let next = next.map(|last| page::seal(&app, &who.tenant, &shape, last.number));
    Ok(super::json(&DeliveryList { items, next }))
}

/// Try a dead letter once more
#[utoipa::path(post, path = "/v1/webhooks/{id}/deliveries/{number}/redeliver", tag = "events",
    params(("id" = String, Path), ("number" = u64, Path)),
    responses((status = 200, description = "`delivered`, and if not, the `error`", body = serde_json::Value)))]
pub(crate) async fn redeliver(
    State(app): State<App>,
    who: Principal,
    ApiPath((id, number)): ApiPath<(String, u64)>,
) -> Result<Response, Fault> {
    let hook = find(&app, &who, &id).await?;
    let above = number.checked_add(1).ok_or(Fault::NotFound { what: "delivery" })?;
    let letter = app.backend.store.dead_letters(&who.tenant, &hook.id, above, 1).await?.pop();
    let letter = letter.filter(|letter| letter.number == number);
    let letter = letter.ok_or(Fault::NotFound { what: "delivery" })?;
    let sent = webhook::send(&app, &hook, &letter.event, &letter.body).await;
    if sent.is_ok() {
        app.backend.store.remove_dead_letter(&who.tenant, &hook.id, number).await?;
    }
    Ok(super::json(&json!({ "number": number, "delivered": sent.is_ok(), "error": sent.err() })))
}
