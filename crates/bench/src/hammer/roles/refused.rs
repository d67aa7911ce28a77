//! Senders of what no tenant may take: each must be refused, and nothing of it be kept (I2).

use std::{sync::Arc, time::Duration};

use catenary_testkit::{Subject, World, dsse::Envelope};
use reqwest::Method;

use crate::hammer::{
    call::{Body, short},
    check::tree::hex_id,
    journal::Record,
    play::Play,
};

/// Sends one after another until the end.
pub async fn send(play: Arc<Play>) {
    while play.goes_on() {
        let tenant = &play.tenants[fastrand::usize(..play.tenants.len())];
        for (case, bytes) in cases(&tenant.world, play.number()) {
            let record = Record::Refused { tenant: tenant.name.clone(), id: hex_id(&bytes) };
            play.journal.note(&record);
            let body = Body::Of("application/json", bytes.into());
            let answer =
                tenant.admin.ask(fastrand::usize(..64), Method::POST, "/v1/attestations", body).await;
            let Some(answer) = answer else { continue };
            let refused = (400..500).contains(&answer.status) || answer.status == 503;
            play.findings.check("I2", refused, || format!("{case} was taken: {}", short(&answer.show())));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Statements that are honest but for one thing, each new.
fn cases(world: &World, number: u64) -> Vec<(&'static str, Vec<u8>)> {
    let mut build = world.build.clone();
    build.invocation = format!("{}/refused/{number}", build.invocation);
    let text = build.statement().to_json();
    let signed = |text: String| Envelope::statement(text).signed_by(&world.k_ci).to_bytes();
    let mut empty = build.clone();
    empty.subjects = Vec::new();
    let mut blank = build.clone();
    blank.subjects = vec![Subject::new("x", "sha256", "*")];
    let mut forged = Envelope::statement(&text).signed_by(&world.k_ci);
    forged.payload = text.replace("/refused/", "/forged/").into_bytes();
    vec![
        ("S01 another statement type", signed(text.replacen("Statement/v1", "Statement/v9", 1))),
        ("S04 no subject", empty.statement().signed_by(&world.k_ci).to_bytes()),
        ("S06 any digest", blank.statement().signed_by(&world.k_ci).to_bytes()),
        ("S13 a member twice", signed(text.replacen('{', "{\"predicateType\":\"x\",", 1))),
        ("S23 something behind it", signed(format!("{text}{{}}"))),
        ("a payload that its key did not sign", forged.to_bytes()),
        ("half an envelope", signed(text)[..200].to_vec()),
    ]
}
