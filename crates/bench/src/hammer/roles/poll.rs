//! Deploy tools: they ask all the time, about everybody who entered.

use std::sync::{Arc, atomic::Ordering};

use acceptance::{Answer, http::escape};
use reqwest::Method;
use serde_json::{Value, json};

use crate::hammer::{
    call::{Body, short},
    cast::{Actor, Part},
    journal::Record,
    play::{Play, question},
};

/// Asks until the end.
pub async fn poll(play: Arc<Play>) {
    while play.goes_on() {
        let Some(actor) = play.anybody() else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        match fastrand::u8(..10) {
            0 => gate(&play, &actor).await,
            1 => many(&play, actor.tenant).await,
            _ => one(&play, &actor).await,
        }
        tokio::time::sleep(std::time::Duration::from_millis(fastrand::u64(..20))).await;
    }
}

/// What was known when the question was begun.
struct Before {
    /// A revocation had been acknowledged.
    revoked: bool,
    /// Log size by which all evidence had been acknowledged.
    complete: u64,
}

fn before(actor: &Actor) -> Before {
    Before { revoked: actor.revoked.load(Ordering::SeqCst), complete: actor.complete.load(Ordering::SeqCst) }
}

async fn one(play: &Play, actor: &Actor) {
    let known = before(actor);
    let required = fastrand::u8(..8) == 0;
    let path = format!("{}{}", question(&actor.image), if required { "&record=required" } else { "" });
    let admin = &play.tenants[actor.tenant].admin;
    let Some(answer) = admin.get(&path).await.filter(|answer| answer.status == 200) else { return };
    let verdict = answer.json();
    judge(play, actor, &known, &verdict);
    if required && let Some(id) = verdict["id"].as_str() {
        let record = Record::Decision { tenant: admin.tenant.clone(), verdict: id.to_owned() };
        let _ = play.journal.keep(&record).await;
    }
}

async fn many(play: &Play, tenant: usize) {
    let actors: Vec<Arc<Actor>> =
        (0..20).filter_map(|_| play.anybody()).filter(|actor| actor.tenant == tenant).collect();
    let known: Vec<Before> = actors.iter().map(|actor| before(actor)).collect();
    let questions: Vec<Value> =
        actors.iter().map(|actor| json!({"image": actor.image, "environment": "prod"})).collect();
    if questions.is_empty() {
        return;
    }
    let Some(answer) =
        play.tenants[tenant].admin.post("/v1/verdicts", &json!({"questions": questions})).await
    else {
        return;
    };
    let verdicts = answer.json();
    for ((actor, known), verdict) in
        actors.iter().zip(&known).zip(verdicts["verdicts"].as_array().into_iter().flatten())
    {
        if verdict["kind"] == "Verdict" {
            judge(play, actor, known, verdict);
        }
    }
}

async fn gate(play: &Play, actor: &Actor) {
    let known = before(actor);
    let path = format!("/v1/gate?image={}&environment=prod", escape(&actor.image));
    let answer =
        play.tenants[actor.tenant].admin.ask(fastrand::usize(..64), Method::GET, &path, Body::None).await;
    let Some(answer) = answer else { return };
    let why = |answer: &Answer| format!("the gate let {} in: {}", actor.image, short(&answer.show()));
    if actor.is_hostile() {
        play.findings.check("I5", answer.status != 200, || why(&answer));
    }
    if known.revoked {
        play.findings.check("I6", answer.status != 200, || why(&answer));
    }
}

/// Holds one verdict against what was known before it was asked for.
fn judge(play: &Play, actor: &Actor, known: &Before, verdict: &Value) {
    let size = verdict["log"]["size"].as_u64().unwrap_or(0);
    if let Some(root) = verdict["log"]["root"].as_str() {
        let tenant = play.tenants[actor.tenant].name.clone();
        play.journal.note(&Record::Root {
            tenant,
            size,
            root: root.trim_start_matches("sha256:").to_owned(),
        });
    }
    let yes = verdict["allowed"] == true || verdict["outcome"] == "PASSED";
    let show = || format!("{} ({:?}): {}", actor.image, actor.part, short(&verdict.to_string()));
    if actor.is_hostile() {
        play.findings.check("I5", !yes, show);
        return;
    }
    if known.revoked {
        play.findings.check("I6", !yes, show);
        return;
    }
    let doubtful = actor.doubtful.load(Ordering::SeqCst);
    if matches!(actor.part, Part::Honest) && !doubtful && size >= known.complete {
        // What is said of an honest image while others write, and policies change, is yes, or nothing that is known now.
        play.findings.check("I7", yes || undecided(verdict), show);
    }
}

/// Whether the verdict says that it could not be decided in time: a slow no, which no evidence moved.
fn undecided(verdict: &Value) -> bool {
    let reasons = verdict["reasons"].as_array().cloned().unwrap_or_default();
    verdict["outcome"] == "INDETERMINATE" && reasons.iter().any(|reason| reason["code"] == "SYS_TIMEOUT")
}
