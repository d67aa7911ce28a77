//! Writers, and writers who say everything twice.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use acceptance::Answer;
use catenary_testkit::{Statement, Subject};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::hammer::{
    call::{Body, short},
    check::tree::{hex_id, proven_leaf},
    journal::Record,
    play::Play,
};

/// Of a hundred submissions, how many are sent again, and how many twice at the same time.
const AGAIN: u8 = 10;
const AT_ONCE: u8 = 3;

/// Writes new leaves until the end.
pub async fn write(play: Arc<Play>) {
    while play.goes_on() {
        // Clients try again what nobody answered.
        if fastrand::bool()
            && let Some((tenant, bytes)) = unanswered(&play)
        {
            send(&play, tenant, &bytes, fastrand::usize(..64)).await;
            continue;
        }
        let tenant = fastrand::usize(..play.tenants.len());
        let bytes = note(&play, tenant);
        let instance = fastrand::usize(..64);
        let chance = fastrand::u8(..100);
        if chance < AT_ONCE {
            let (one, two) = tokio::join!(
                send(&play, tenant, &bytes, instance),
                send(&play, tenant, &bytes, instance + 1)
            );
            same(&play, &bytes, one.as_ref(), two.as_ref());
        } else if let Some(first) = send(&play, tenant, &bytes, instance).await
            && chance < AT_ONCE + AGAIN
        {
            let second = send(&play, tenant, &bytes, instance + 1).await;
            same(&play, &bytes, Some(&first), second.as_ref());
        }
    }
}

fn unanswered(play: &Play) -> Option<(usize, String)> {
    play.unanswered.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

/// A statement that nobody has seen: half of them by a key that the tenant knows, half by a stranger, and some of those about an
/// image that is played (I7).
fn note(play: &Play, tenant: usize) -> String {
    let Some(stage) = play.tenants.get(tenant) else { return String::new() };
    let predicate = json!({"n": play.number(), "run": play.options.seed, "marker": stage.marker});
    let statement = Statement::new("https://acme.test/note/v1", predicate);
    let known = fastrand::bool();
    let about = play.anybody().filter(|_| !known && fastrand::u8(..4) == 0);
    let subject = match about.and_then(|actor| actor.image.split_once('@').map(|(_, d)| d.to_owned())) {
        Some(digest) => Subject::image("image", &digest),
        None => Subject::new("x", "sha256", &hex_id(&fastrand::u64(..).to_be_bytes())),
    };
    let signer = if known { &stage.world.k_vcs } else { &play.stranger };
    statement.subject(subject).signed_by(signer).to_json()
}

/// Sends once. `None` when nothing is known: then it is sent again at the end.
async fn send(play: &Play, tenant: usize, bytes: &str, instance: usize) -> Option<Answer> {
    let admin = &play.tenants.get(tenant)?.admin;
    play.journal.note(&Record::Intent { tenant: admin.tenant.clone(), id: hex_id(bytes.as_bytes()) });
    let body = Body::Of("application/json", bytes.to_owned().into());
    let answer = admin.ask(instance, Method::POST, "/v1/attestations", body).await;
    if let Some(answer) = answer.filter(|answer| [200, 201].contains(&answer.status)) {
        play.acknowledge(tenant, bytes.as_bytes(), &answer).await?;
        receipt(play, tenant, bytes, &answer);
        return Some(answer);
    }
    play.unanswered.lock().unwrap_or_else(PoisonError::into_inner).push((tenant, bytes.to_owned()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    None
}

/// The proof in a receipt proves what was sent.
fn receipt(play: &Play, tenant: usize, bytes: &str, answer: &Answer) {
    let body = answer.json();
    let (index, proof) = (body["index"].as_u64().unwrap_or(u64::MAX), &body["inclusion"]);
    let id = hex_id(bytes.as_bytes());
    let leaf = proven_leaf(proof, index);
    let proves = leaf.as_ref().is_some_and(|leaf| String::from_utf8_lossy(leaf).contains(&id));
    play.findings
        .check("I3", proves, || format!("the receipt of {id} proves nothing: {}", short(&answer.show())));
    let Some(stage) = play.tenants.get(tenant) else { return };
    if let Some(note) = proof["checkpoint"].as_str() {
        play.journal.note(&Record::Checkpoint { tenant: stage.name.clone(), note: note.to_owned() });
    }
}

/// Two answers about the same bytes name one place, and at most one of them says that it is new (I8).
fn same(play: &Play, bytes: &str, one: Option<&Answer>, two: Option<&Answer>) {
    let (Some(one), Some(two)) = (one, two) else { return };
    let same = one.json()["index"] == two.json()["index"] && !(one.status == 201 && two.status == 201);
    play.findings.check("I8", same, || {
        let id = hex_id(bytes.as_bytes());
        format!("{id}: {} at {}, {} at {}", one.status, one.json()["index"], two.status, two.json()["index"])
    });
}

/// Who sends what is left at the end, at a time.
const SENDERS: usize = 12;

/// At the end: what nobody answered is sent again until it is, twice, and both answers agree.
pub async fn settle(play: &Arc<Play>) {
    let mut left = std::mem::take(&mut *play.unanswered.lock().unwrap_or_else(PoisonError::into_inner));
    let mut senders = JoinSet::new();
    let share = left.len().div_ceil(SENDERS);
    while !left.is_empty() {
        let own = left.split_off(left.len().saturating_sub(share));
        let play = play.clone();
        senders.spawn(async move {
            for (tenant, bytes) in own {
                twice(&play, tenant, &bytes).await;
            }
        });
    }
    senders.join_all().await;
}

async fn twice(play: &Play, tenant: usize, bytes: &str) {
    let (mut first, mut second) = (None, None);
    for attempt in 0..20 {
        if first.is_none() {
            first = send(play, tenant, bytes, attempt).await;
        }
        if first.is_some() {
            second = send(play, tenant, bytes, attempt + 1).await;
        }
        if second.is_some() {
            break;
        }
    }
    let id = hex_id(bytes.as_bytes());
    play.findings.check("I1", second.is_some(), || format!("{id} is not taken after the run"));
    same(play, bytes, first.as_ref(), second.as_ref());
}
