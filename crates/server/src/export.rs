//! Everything that a verdict used, as JSON Lines that verify without any server.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_chain::Question;
use catenary_evidence::digest::Sha256;
use catenary_store::{EntryRow, follow::Snapshot};
use catenary_tlog::leaf::kind;
use serde_json::{Value, json};

use crate::{App, problem::Fault, verdict, when::When};

/// Control entries read at a time.
const BATCH: u32 = 2000;

/// The lines.
pub async fn evidence(app: &App, tenant: &str, question: &Question, when: When) -> Result<Vec<u8>, Fault> {
    let snapshot = when.snapshot(app, tenant).await?;
    let (evaluated, evidence) = verdict::compute(app, tenant, &snapshot, question, when.now()).await?;
    let verdict = evaluated.verdict;
    let mut rows = control_entries(app, tenant, &snapshot).await?;
    let attestations = evidence.attestations.iter().map(|(id, logged)| (logged.index, *id));
    let objects = evidence.objects.values().map(|logged| (logged.index, logged.fact.id));
    let mut media_types = BTreeMap::new();
    for logged in evidence.objects.values() {
        media_types.insert(logged.index, media_type(&logged.fact));
    }
    for (index, id) in attestations.chain(objects) {
        let row = app.backend.store.entry_of(tenant, id).await?.ok_or(Fault::NotFound { what: "entry" })?;
        rows.insert(index, row);
    }
    let mut lines = vec![
        json!({
            "type": "question",
            "image": question.image,
            "environment": question.environment,
            "platform": verdict.subject.platform,
            "context": question.context,
            "now": verdict.as_of,
            "tenant": tenant,
        }),
        json!({ "type": "checkpoint", "text": app.backend.follower.checkpoint(&snapshot)? }),
    ];
    lines.extend(items(app, tenant, &snapshot, rows.into_values().collect(), &media_types).await?);
    lines.push(json!({ "type": "verdict", "verdict": verdict }));
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, &line).map_err(|_| Fault::Internal)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn media_type(object: &catenary_evidence::object::Object) -> String {
    use catenary_evidence::object::{Body, GIT_COMMIT, GIT_TAG};
    match &object.body {
        Body::Index(index) => index.media_type.clone(),
        Body::Manifest(manifest) => manifest.media_type.clone(),
        Body::Config(_) => "application/vnd.oci.image.config.v1+json".to_owned(),
        Body::Commit(_) => GIT_COMMIT.to_owned(),
        Body::Tag(_) => GIT_TAG.to_owned(),
    }
}

/// Every entry that is not evidence: origin and control.
async fn control_entries(
    app: &App,
    tenant: &str,
    snapshot: &Snapshot,
) -> Result<BTreeMap<u64, EntryRow>, Fault> {
    let (mut found, mut to) = (BTreeMap::new(), snapshot.size);
    loop {
        let rows = app.backend.store.control_entries(tenant, 0, to, BATCH).await?;
        let more = rows.len() == BATCH as usize;
        found.extend(rows.into_iter().map(|row| (row.index, row)));
        match found.first_key_value() {
            Some((first, _)) if more => to = *first,
            _ => return Ok(found),
        }
    }
}

async fn items(
    app: &App,
    tenant: &str,
    snapshot: &Snapshot,
    rows: Vec<EntryRow>,
    media_types: &BTreeMap<u64, String>,
) -> Result<Vec<Value>, Fault> {
    let ids: Vec<Sha256> = rows.iter().map(|row| row.id).collect();
    let indexes: Vec<u64> = rows.iter().map(|row| row.index).collect();
    let bodies = app.backend.store.bodies(tenant, &ids).await?;
    let proofs = app.backend.store.inclusions(tenant, &indexes, snapshot.size).await?;
    let item = |(row, proof): (EntryRow, Vec<catenary_tlog::Hash>)| {
        let kind = match row.kind.as_str() {
            kind::ATTESTATION => "attestation",
            kind::OBJECT => "object",
            _ => "control",
        };
        let mut line = json!({
            "type": kind,
            "index": row.index,
            "body": bodies.get(&row.id).map(|body| STANDARD.encode(body)),
            "leaf": STANDARD.encode(&row.leaf),
            "proof": proof.iter().map(|hash| STANDARD.encode(hash.0)).collect::<Vec<_>>(),
        });
        if let Some(media_type) = media_types.get(&row.index) {
            line["mediaType"] = json!(media_type);
        }
        line
    };
    Ok(rows.into_iter().zip(proofs).map(item).collect())
}
