//! The whole log with what was decided on it, as JSON Lines: what an auditor needs to replay every verdict with no service.

use axum::{extract::State, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use catenary_evidence::digest::Sha256;
use catenary_store::{
    decisions::{Chain, START},
    follow::Snapshot,
};
use catenary_tlog::{Checkpoint, Hash};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{App, auth::Principal, extract::ApiQuery, problem::Fault, record::Mode, routes::tokens::NoQuery};

/// Entries, batches or verdicts read at once.
const PAGE: u32 = 100;

/// The whole log, and what was decided on it
///
/// JSON Lines: `export`, `checkpoint`, an `entry` each with leaf and body, for each instance its signed `chain` and its `batch`es of decisions, each
/// `verdict` that was answered, and `end` with how many there were: without it the export was cut off.
#[utoipa::path(get, path = "/v1/export", tag = "log",
    responses((status = 200, description = "JSON Lines", body = String, content_type = "application/x-ndjson")))]
pub(crate) async fn export(
    State(app): State<App>,
    who: Principal,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    // What was answered a moment ago belongs to it.
    app.recorder.settle(Mode::Required).await?;
    let chains = app.backend.store.all_decision_chains(&who.tenant).await?;
    // Read after the chains: every verdict that they name lies below.
    let snapshot = app.backend.follower.refreshed(&who.tenant).await?;
    let head = head(&app, &snapshot)?;
    let (lines, body) = mpsc::channel(64);
    let export = Export { app: app.clone(), snapshot, chains, lines };
    app.tasks.spawn(export.run(head));
    Ok(super::streamed(body, "application/x-ndjson"))
}

/// Who the log is, with which keys it signs, and how far the export goes.
fn head(app: &App, snapshot: &Snapshot) -> Result<Vec<Value>, Fault> {
    let keys = app.backend.keys.log_verifiers(&snapshot.origin).map_err(|_| Fault::Internal)?;
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let checkpoint = app.backend.follower.checkpoint(snapshot)?;
    Ok(vec![
        json!({ "type": "export", "v": 1, "tenant": snapshot.tenant, "origin": snapshot.origin, "size": snapshot.size,
            "keys": keys, "engine": catenary_chain::ENGINE }),
        json!({ "type": "checkpoint", "text": checkpoint }),
    ])
}

struct Export {
    app: App,
    snapshot: std::sync::Arc<Snapshot>,
    chains: Vec<Chain>,
    lines: mpsc::Sender<Bytes>,
}

/// Why an export ends early: the reader went away, or the store failed. Either way its end is missing.
enum Cut {
    Reader,
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for Cut {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

impl Export {
    async fn run(self, head: Vec<Value>) {
        match self.write(head).await {
            Ok(()) | Err(Cut::Reader) => {}
            Err(Cut::Fault(fault)) => tracing::error!(%fault, "an export ends early"),
        }
    }

    async fn write(&self, head: Vec<Value>) -> Result<(), Cut> {
        for line in &head {
            self.line(line).await?;
        }
        self.entries().await?;
        let mut batches = 0;
        for chain in &self.chains {
            batches += self.chain(chain).await?;
        }
        let verdicts = self.verdicts().await?;
        let entries = self.snapshot.size;
        self.line(&json!({ "type": "end", "entries": entries, "batches": batches, "verdicts": verdicts }))
            .await
    }

    async fn line(&self, line: &Value) -> Result<(), Cut> {
        let mut bytes = serde_json::to_vec(line).map_err(|_| Fault::Internal)?;
        bytes.push(b'\n');
        self.lines.send(bytes.into()).await.map_err(|_| Cut::Reader)
    }

    async fn entries(&self) -> Result<(), Cut> {
        let (store, tenant) = (&self.app.backend.store, &self.snapshot.tenant);
        let mut from = 0;
        while from < self.snapshot.size {
            let to = self.snapshot.size.min(from + u64::from(PAGE));
            let rows = store.entries(tenant, from, to).await?;
            let ids: Vec<Sha256> = rows.iter().map(|row| row.id).collect();
            let bodies = store.bodies(tenant, &ids).await?;
            for row in rows {
                let body = bodies.get(&row.id).map(|body| STANDARD.encode(body));
                let leaf = STANDARD.encode(&row.leaf);
                self.line(&json!({ "type": "entry", "index": row.index, "leaf": leaf, "body": body }))
                    .await?;
            }
            from = to;
        }
        Ok(())
    }

    /// A chain of decisions, its end signed like a checkpoint.
    async fn chain(&self, chain: &Chain) -> Result<u64, Cut> {
        let origin = format!("{}/decisions/{}", self.snapshot.origin, chain.instance);
        let signer = self.app.backend.keys.log_signer(&self.snapshot.origin).map_err(|_| Fault::Internal)?;
        let end = Checkpoint::new(&origin, chain.number, Hash(chain.hash.0));
        let note = end.sign(&signer).map_err(|_| Fault::Internal)?;
        self.line(&json!({ "type": "chain", "instance": chain.instance, "note": note })).await?;
        let mut after = 0;
        while after < chain.number {
            let store = &self.app.backend.store;
            let batches = store.decision_batches(&chain.tenant, &chain.instance, after, PAGE).await?;
            for batch in batches.iter().take_while(|batch| batch.number <= chain.number) {
                let records = String::from_utf8_lossy(&batch.records);
                let line = json!({ "type": "batch", "instance": batch.instance, "number": batch.number,
                    "previous": batch.previous, "time": format!("{:.6}", batch.time), "records": records });
                self.line(&line).await?;
            }
            match batches.last() {
                Some(last) => after = last.number,
                // The reader sees that the chain's end is not there.
                None => break,
            }
        }
        Ok(chain.number)
    }

    async fn verdicts(&self) -> Result<u64, Cut> {
        let (mut after, mut count) = ((0, START), 0);
        loop {
            let page = self.app.backend.store.verdict_bodies(&self.snapshot.tenant, after, PAGE).await?;
            for kept in page.iter().filter(|kept| kept.log_size <= self.snapshot.size) {
                let text = String::from_utf8_lossy(&kept.bytes);
                self.line(&json!({ "type": "verdict", "size": kept.log_size, "text": text })).await?;
                count += 1;
            }
            match page.last() {
                Some(last) => after = (last.log_size, last.id),
                None => return Ok(count),
            }
        }
    }
}
