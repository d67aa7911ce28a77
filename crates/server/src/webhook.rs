//! Webhooks: events are sent to receivers, each in order and at least once.
//!
//! A receiver's place among the events is a cursor that moves on when it has taken one. What it does not take is tried again, later and
//! later, and after a bounded number of attempts kept as a dead letter. The secret that signs is derived from the service keys and the
//! receiver's id: the database does not hold it.

pub mod guard;

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use catenary_store::{
    keys::ServiceKeys,
    webhooks::{DeadLetter, Reached, Webhook},
};
use jiff::{SignedDuration, Timestamp};
use reqwest::header;
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::guard::{Allowed, Target};
use crate::{
    App,
    feed::{self, Cursor, Told, Types},
    problem::Fault,
};

/// How often is looked for something to send.
const TICK: Duration = Duration::from_millis(250);
/// From connecting to the answer's head.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long other instances leave a receiver alone that one sends to.
const LEASE: SignedDuration = SignedDuration::from_secs(60);
/// Receivers that are sent to at a time.
const AT_ONCE: usize = 16;
/// Events that are read for a receiver at once.
const EVENTS: usize = 50;
/// The longest between two attempts.
const LONGEST: Duration = Duration::from_secs(300);

/// How events are sent, as the operator says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to, besides public addresses.
    pub allowed: Arc<Allowed>,
    /// How often one event is tried.
    pub attempts: u32,
}

/// The secret of a receiver; `None` when the key that it is derived from is gone.
pub fn secret(keys: &ServiceKeys, hook: &Webhook) -> Option<String> {
    derived(keys, hook, hook.mac_key, hook.generation)
}

/// The secrets that sign at `now`: the receiver's, and for a while after a change the one before.
fn secrets(keys: &ServiceKeys, hook: &Webhook, now: Timestamp) -> Option<Vec<String>> {
    let mut all = vec![secret(keys, hook)?];
    if hook.generation > 0 && now < hook.old_until {
        // One whose key is gone signs nothing any more.
        all.extend(derived(keys, hook, hook.old_mac_key, hook.generation - 1));
    }
    Some(all)
}

fn derived(keys: &ServiceKeys, hook: &Webhook, mac_key: u32, generation: u32) -> Option<String> {
    let all = std::iter::once(keys.mac_current()).chain(keys.mac_retired());
    let (_, bytes) = all.into_iter().find(|(known, _)| *known == mac_key)?;
    // A label keeps secrets apart from the seals of rows and from cursors, which have the same key.
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &bytes), b"catenary webhook v1");
    let mut message = (hook.tenant.len() as u64).to_be_bytes().to_vec();
    message.extend_from_slice(hook.tenant.as_bytes());
    message.extend_from_slice(hook.id.as_bytes());
    // Ids have one length, so that nothing else ends like this. The first secret is that of the releases that knew only one.
    if generation > 0 {
        message.extend_from_slice(&generation.to_be_bytes());
    }
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()), &message);
    Some(format!("whs_{}", hex::encode(tag)))
}

/// `t=<unix>,v1=<hex of HMAC-SHA256 over "t.body">`, keyed with the secret's text; one `v1` for each secret.
fn signature(secrets: &[String], time: i64, body: &str) -> String {
    let mut text = format!("t={time}");
    for secret in secrets {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, format!("{time}.{body}").as_bytes());
        text += &format!(",v1={}", hex::encode(tag));
    }
    text
}

/// Sends one event. The error is for people; nothing of the answer but its status is looked at.
pub async fn send(app: &App, hook: &Webhook, event: &str, body: &str) -> Result<(), String> {
    let target =
        guard::resolve(&hook.url, &app.webhooks.allowed).await.map_err(|refused| refused.to_string())?;
    let client = client(&target).map_err(|error| error.without_url().to_string())?;
    let now = Timestamp::now();
    let secrets =
        secrets(&app.backend.keys, hook, now).ok_or("the key that its secret comes from is gone")?;
    let request = client
        .post(target.url)
        .header(header::CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
        .header("catenary-signature", signature(&secrets, now.as_second(), body))
        .header("catenary-webhook", &hook.id)
        .header("catenary-event", event)
        .body(body.to_owned());
    let result = match request.send().await {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(format!("it answered {}", response.status().as_u16())),
        Err(error) if error.is_timeout() => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        Err(error) if error.is_connect() => Err("it cannot be connected to".to_owned()),
        Err(error) => Err(error.without_url().to_string()),
    };
    app.metrics.delivery(result.is_ok());
    result
}

/// A client that connects to the addresses that were looked at, and nowhere else.
fn client(target: &Target) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(TIMEOUT)
        .user_agent(concat!("catenary/", env!("CARGO_PKG_VERSION")));
    if let Some((host, addresses)) = &target.resolved {
        builder = builder.resolve_to_addrs(host, addresses);
    }
    builder.build()
}

/// Sends until `stop`.
pub async fn run(app: App, stop: CancellationToken) {
    let holder = crate::watch::instance_name();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut working: HashMap<(String, String), JoinHandle<()>> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
        let hooks = match app.backend.store.webhooks(None).await {
            Ok(hooks) => hooks,
            Err(error) => {
                tracing::warn!(%error, "cannot read the webhooks");
                continue;
            }
        };
        app.metrics.dead_letters(hooks.iter().map(|hook| hook.dead).sum());
        working.retain(|_, task| !task.is_finished());
        let now = Timestamp::now();
        for hook in hooks {
            let key = (hook.tenant.clone(), hook.id.clone());
            let others = hook.lease > now && hook.holder != holder;
            let at = Cursor { log: hook.log_size, seq: hook.seq };
            if hook.next > now
                || others
                || working.contains_key(&key)
                || !feed::is_behind(&app, &hook.tenant, at)
            {
                continue;
            }
            let Ok(place) = places.clone().try_acquire_owned() else { break };
            let (app, holder, stop) = (app.clone(), holder.clone(), stop.clone());
            let tasks = app.tasks.clone();
            let task = tasks.spawn(async move {
                let _place = place;
                let (tenant, id) = (hook.tenant.clone(), hook.id.clone());
                if let Err(fault) = deliver(&app, hook, &holder, &stop).await {
                    tracing::warn!(tenant, webhook = id, %fault, "events are not delivered now");
                }
            });
            working.insert(key, task);
        }
    }
}

fn lease() -> Timestamp {
    Timestamp::now().checked_add(LEASE).unwrap_or(Timestamp::MAX)
}

/// Sends to one receiver what it has not been told, until it fails or nothing is left.
async fn deliver(app: &App, mut hook: Webhook, holder: &str, stop: &CancellationToken) -> Result<(), Fault> {
    let store = &app.backend.store;
    if !store.take_webhook(&hook, holder, lease()).await? {
        return Ok(());
    }
    let types = Types::read(&hook.types)?;
    let mut at = Cursor { log: hook.log_size, seq: hook.seq };
    loop {
        let page = match feed::page(app, &hook.tenant, at, &types, EVENTS).await {
            Err(Fault::EventsRemoved { next }) => return skip(app, &hook, holder, at, &next).await,
            page => page?,
        };
        for told in page.items {
            if stop.is_cancelled() {
                return Ok(store.release_webhook(&hook, holder).await?);
            }
            let body = told.event.to_string();
            if let Err(error) = send(app, &hook, told.event["id"].as_str().unwrap_or_default(), &body).await {
                return failed(app, &hook, holder, &told, body, error).await;
            }
            hook.attempts = 0;
            if !store.webhook_reached(&hook, holder, lease(), reached(told.cursor), 1).await? {
                return Ok(());
            }
        }
        if page.next == at || stop.is_cancelled() {
            return Ok(store.release_webhook(&hook, holder).await?);
        }
        // Past what it does not want, too.
        if !store.webhook_reached(&hook, holder, lease(), reached(page.next), 0).await? {
            return Ok(());
        }
        at = page.next;
    }
}

fn reached(cursor: Cursor) -> Reached {
    Reached { log_size: cursor.log, seq: cursor.seq }
}

/// Goes past events that were removed before the receiver took them, and says so among its dead letters.
async fn skip(app: &App, hook: &Webhook, holder: &str, at: Cursor, next: &str) -> Result<(), Fault> {
    let behind: Cursor = next.parse().map_err(|()| Fault::Internal)?;
    let error =
        format!("events {} to {} were removed before they could be delivered", at.seq + 1, behind.seq);
    tracing::warn!(tenant = hook.tenant, webhook = hook.id, error, "events are lost for a receiver");
    let body = serde_json::json!({ "from": at.seq + 1, "to": behind.seq }).to_string();
    let (event, kind, time) =
        (format!("removed-{}", behind.seq), "events.removed".to_owned(), Timestamp::now());
    let letter = DeadLetter { number: 0, event, kind, body, attempts: hook.attempts, error, time };
    app.backend.store.bury(hook, holder, reached(behind), &letter).await?;
    Ok(())
}

/// Tries again later, or gives the event up.
async fn failed(
    app: &App,
    hook: &Webhook,
    holder: &str,
    told: &Told,
    body: String,
    error: String,
) -> Result<(), Fault> {
    let attempts = hook.attempts + 1;
    let (store, now) = (&app.backend.store, Timestamp::now());
    if attempts < app.webhooks.attempts {
        let next = now.checked_add(pause(attempts)).unwrap_or(Timestamp::MAX);
        return Ok(store.webhook_failed(hook, holder, attempts, &error, next).await?);
    }
    let event = told.event["id"].as_str().unwrap_or_default().to_owned();
    tracing::warn!(tenant = hook.tenant, webhook = hook.id, event, error, "an event is given up");
    let letter = DeadLetter { number: 0, event, kind: told.kind.clone(), body, attempts, error, time: now };
    store.bury(hook, holder, reached(told.cursor), &letter).await?;
    Ok(())
}

/// One second, doubled with each attempt, at most five minutes; between half and one and a half of it, so that receivers which failed
/// together do not come back together.
fn pause(attempts: u32) -> Duration {
    let whole = Duration::from_secs(1).saturating_mul(1 << (attempts.clamp(1, 16) - 1)).min(LONGEST);
    let mut random = [128];
    // Without randomness they do.
    let _ = aws_lc_rs::rand::fill(&mut random);
    whole / 2 + whole * u32::from(random[0]) / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_over_time_and_body() {
        let one = signature(&["whs_00".to_owned()], 1_700_000_000, "{}");
        assert_eq!(one, "t=1700000000,v1=39ddabd900e68e15036a0736f524fbed2808290de08283ea9674d414d48b3b2b");
        let two = signature(&["whs_00".to_owned(), "whs_01".to_owned()], 1_700_000_000, "{}");
        assert!(two.starts_with(&one) && two.matches(",v1=").count() == 2, "{two}");
    }

    #[test]
    fn attempts_are_further_and_further_apart() {
        for attempts in 1..40 {
            let whole = (1_u64 << (attempts.min(16) - 1)).min(300) * 1000;
            let pause = pause(attempts).as_millis() as u64;
            assert!(pause >= whole / 2 && pause < whole * 3 / 2 + 1, "{attempts}: {pause}");
        }
    }
}
