//! A revoker, and an administrator who changes policies and tokens and has verdicts signed.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use acceptance::Answer;
use reqwest::Method;
use serde_json::{Value, json};

use super::stage;
use crate::hammer::{
    call::{Body, short},
    cast::{Actor, Part},
    check::{dsse::Ring, tree::hex_id},
    journal::Record,
    play::{Play, question},
};

/// Lets an honest image enter, sees it pass, revokes it, and nobody may see it pass again. Until the end.
pub async fn revoke(play: Arc<Play>) {
    while play.goes_on() {
        let tenant = fastrand::usize(..play.tenants.len());
        let Some(actor) = stage::perform(&play, tenant, Part::Honest).await else { continue };
        if passes(&play, &actor).await {
            withdraw(&play, &actor).await;
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(200..2000))).await;
    }
}

/// Whether it is said to pass soon.
async fn passes(play: &Play, actor: &Actor) -> bool {
    let begun = Instant::now();
    while play.goes_on() && begun.elapsed() < Duration::from_secs(30) {
        let answer = play.tenants[actor.tenant].admin.get(&question(&actor.image)).await;
        if answer.is_some_and(|answer| answer.json()["outcome"] == "PASSED") {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

/// Revokes the image, or its build's attestation, until that is acknowledged.
async fn withdraw(play: &Play, actor: &Actor) {
    let digest = actor.image.split_once('@').map_or("", |(_, digest)| digest);
    let build = actor.envelopes.first().map(|envelope| hex_id(envelope.to_json().as_bytes()));
    let (member, value) = match build.filter(|_| fastrand::bool()) {
        Some(id) => ("attestation", format!("sha256:{id}")),
        None => ("artifact", digest.to_owned()),
    };
    actor.doubtful.store(true, Ordering::SeqCst);
    let body = json!({member: value, "reason": "hammered"});
    let Some(_) = until_done(
        play,
        actor.tenant,
        Method::POST,
        "/v1/revocations",
        "application/json",
        &body.to_string(),
    )
    .await
    else {
        return;
    };
    let tenant = play.tenants[actor.tenant].name.clone();
    let record = Record::Control { tenant, entry: "revocation".into(), named: (member.into(), value) };
    // An answer that was begun before is not held against the acknowledgement, one begun from here on is.
    if play.journal.keep(&record).await.is_ok() {
        actor.revoked.store(true, Ordering::SeqCst);
    }
}

/// Sends until it is answered with 200 or 201.
async fn until_done(
    play: &Play,
    tenant: usize,
    method: Method,
    path: &str,
    media_type: &'static str,
    body: &str,
) -> Option<Answer> {
    while play.goes_on() {
        let sent = Body::Of(media_type, body.to_owned().into());
        let answer = play.tenants[tenant].admin.ask(fastrand::usize(..64), method.clone(), path, sent).await;
        match answer {
            Some(answer) if [200, 201].contains(&answer.status) => return Some(answer),
            Some(answer) if answer.status < 500 => {
                play.findings.check("I4", false, || format!("{method} {path}: {}", short(&answer.show())));
                return None;
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    None
}

/// Changes the policy without changing what it says, makes and revokes tokens, asks for signed verdicts. Until the end.
pub async fn administer(play: Arc<Play>) {
    let mut revision = 0;
    while play.goes_on() {
        let tenant = fastrand::usize(..play.tenants.len());
        revision += 1;
        match fastrand::u8(..4) {
            0 => policy(&play, tenant, revision).await,
            1 => token(&play, tenant).await,
            _ => signed(&play).await,
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..1000))).await;
    }
}

async fn policy(play: &Play, tenant: usize, revision: u64) {
    let document =
        play.tenants[tenant].world.policy().replace("owner: sec", &format!("owner: sec-{revision}"));
    let done =
        until_done(play, tenant, Method::PUT, "/v1/policies/prod", "application/yaml", &document).await;
    let Some(number) = done.and_then(|answer| answer.json()["revision"].as_u64()) else { return };
    let tenant = play.tenants[tenant].name.clone();
    let named = ("revision".to_owned(), number.to_string());
    let _ = play.journal.keep(&Record::Control { tenant, entry: "policy.applied".into(), named }).await;
}

/// A token works when it is acknowledged, and does not once its revocation is.
async fn token(play: &Play, tenant: usize) {
    let stage = &play.tenants[tenant];
    let body = json!({"name": "hammer", "role": "reader", "expiresIn": "1h"}).to_string();
    let Some(made) = until_done(play, tenant, Method::POST, "/v1/tokens", "application/json", &body).await
    else {
        return;
    };
    let made = made.json();
    let (Some(id), Some(text)) = (made["id"].as_str(), made["token"].as_str()) else { return };
    let record = |entry: &str| Record::Control {
        tenant: stage.name.clone(),
        entry: entry.to_owned(),
        named: ("token".into(), id.to_owned()),
    };
    let _ = play.journal.keep(&record("token.created")).await;
    let bearer = stage.admin.with(text);
    let path = format!("/v1/tokens/{id}/revoke");
    let reason = json!({"reason": "hammered"}).to_string();
    let done = until_done(play, tenant, Method::POST, &path, "application/json", &reason).await;
    if done.is_none() || play.journal.keep(&record("token.revoked")).await.is_err() {
        return;
    }
    for instance in 0..bearer.instances() {
        let Some(answer) = bearer.ask(instance, Method::GET, "/v1/policies", Body::None).await else {
            continue;
        };
        let refused = [401, 503].contains(&answer.status);
        play.findings.check("I6", refused, || format!("a revoked token: {}", short(&answer.show())));
    }
}

/// A signed verdict verifies with nothing but the published key, and names what it rests on (I13).
async fn signed(play: &Play) {
    let Some(actor) = play.anybody() else { return };
    let admin = &play.tenants[actor.tenant].admin;
    let Some(keys) = admin.get("/.well-known/catenary/keys.json").await.filter(|a| a.status == 200) else {
        return;
    };
    let mut ring = Ring::default();
    for key in keys.json()["keys"].as_array().into_iter().flatten().filter(|key| key["purpose"] == "vsa") {
        ring.add_pem(key["id"].as_str().unwrap_or_default(), key["pem"].as_str().unwrap_or_default());
    }
    let asked = json!({"image": actor.image, "environment": "prod"});
    let Some(answer) = admin.post("/v1/verdict/vsa", &asked).await.filter(|a| a.status == 200) else {
        return;
    };
    let statement: Value =
        ring.open(&answer.body).and_then(|p| serde_json::from_slice(&p).ok()).unwrap_or_default();
    let digest = statement["subject"][0]["digest"]["sha256"].as_str().unwrap_or_default();
    let predicate = &statement["predicate"];
    let passed = predicate["verificationResult"] == "PASSED";
    let named = !passed
        || (predicate["policy"]["digest"]["sha256"].is_string()
            && predicate["inputAttestations"].as_array().is_some_and(|all| !all.is_empty()));
    let about = !digest.is_empty() && actor.image.ends_with(digest);
    play.findings.check("I13", about && named, || format!("{}: {}", actor.image, short(&answer.show())));
    if actor.is_hostile() {
        play.findings.check("I5", !passed, || format!("a pass was signed for {}", actor.image));
    }
}
