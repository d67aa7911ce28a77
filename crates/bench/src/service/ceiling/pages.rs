//! What is read page by page, without what is made of it: everything that a key hits, and what is watched.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use axum::{
    body::Bytes,
    extract::{Path as InPath, State},
};
use catenary_chain::Want;
use catenary_evidence::digest::Node;
use catenary_store::{Reading, impact::Cause, reading, watched::Watcher};
use jiff::Timestamp;

use super::{Answer, App, Shared, TENANT, failed, json};

/// Attestations of a page, nodes that are asked about at once: as `GET /v1/impact` has them.
const PAGE: u32 = 200;
const NODES: usize = 256;
/// Questions that are read for one transaction, and those that share their round trips: as the watcher has them.
pub const BATCH: usize = 256;
const GROUP: usize = 64;
/// Batches that are read again and again, each of images from all over the log.
const BATCHES: usize = 40;

/// A page of what a key hits.
pub(super) struct Page {
    cause: Cause,
    before: u64,
    /// Its images, as many at once as are asked about at once.
    nodes: Vec<Vec<Node>>,
}

/// Finds out where the pages of a key begin: how many there are.
pub(super) async fn find(State(app): App, key: String) -> Answer {
    if app.pages.get().is_none() {
        let _ = app.pages.set(find_pages(&app, Cause::Signers(vec![key])).await.map_err(failed)?);
    }
    Ok(json(app.pages.get().map_or(0, Vec::len).to_string().into()))
}

async fn find_pages(app: &Shared, cause: Cause) -> Result<Vec<Page>> {
    let (mut pages, mut seen, mut before) = (Vec::new(), BTreeSet::new(), app.snapshot.size);
    loop {
        let found = app.store.hits(TENANT, &cause, before, PAGE).await?;
        let subjects = found.hits.iter().flat_map(|hit| hit.row.facts.subject_nodes());
        let nodes: Vec<Node> = subjects.filter(|node| seen.insert(*node)).collect();
        let nodes = nodes.chunks(NODES).map(<[Node]>::to_vec).collect();
        pages.push(Page { cause: cause.clone(), before, nodes });
        let Some(next) = found.next else { return Ok(pages) };
        before = next;
    }
}

/// Reads one page.
pub(super) async fn read(State(app): App, InPath(n): InPath<usize>) -> Answer {
    let Some(Page { cause, before, nodes }) = app.pages.get().and_then(|pages| pages.get(n)) else {
        return Err(failed("no such page"));
    };
    let rows = app.store.fetch_hits(TENANT, cause, *before, PAGE, nodes).await.map_err(failed)?;
    Ok(json(rows.to_string().into()))
}

/// What one batch of watched questions reads: for each group its frontiers.
pub(super) type Batch = Vec<Vec<Want>>;

/// Finds out what the first questions read when they are evaluated together: how many batches there are.
pub(super) async fn find_watched(State(app): App, body: String) -> Answer {
    let images: usize = body.trim().parse().map_err(failed)?;
    if app.batches.get().is_none() {
        let _ = app.batches.set(find_batches(&app, images).await.map_err(failed)?);
    }
    Ok(json(app.batches.get().map_or(0, Vec::len).to_string().into()))
}

async fn find_batches(app: &Shared, images: usize) -> Result<Vec<Batch>> {
    ensure!(images > 0, "nothing is watched");
    let stride = (images / BATCH).max(1);
    let mut batches: Vec<Batch> = Vec::new();
    for first in 0..stride.min(BATCHES) {
        let numbers: Vec<usize> = (first..images).step_by(stride).take(BATCH).collect();
        let mut batch = Vec::new();
        for group in numbers.chunks(GROUP) {
            batch.push(together(app, group).await?);
        }
        batches.push(batch);
    }
    Ok(batches)
}

/// The frontiers of a group: what any of its questions wants that was not fetched before.
async fn together(app: &Shared, group: &[usize]) -> Result<Vec<Want>> {
    let (mut frontiers, mut known): (Vec<Want>, BTreeSet<Node>) = Default::default();
    for number in group {
        for (at, want) in super::wants(app, *number).await?.iter().enumerate() {
            if frontiers.len() == at {
                frontiers.push(Want { nodes: Vec::new(), by: want.by.clone() });
            }
            frontiers[at].nodes.extend(want.nodes.iter().filter(|node| known.insert(**node)));
        }
    }
    frontiers.retain(|want| !want.nodes.is_empty());
    Ok(frontiers)
}

/// Reads one batch: the questions, and their evidence.
pub(super) async fn read_watched(State(app): App, InPath(n): InPath<usize>) -> Answer {
    let Some(batch) = app.batches.get().and_then(|batches| batches.get(n % batches.len())) else {
        return Err(failed("no such batch"));
    };
    reading(Reading::Verdict, async {
        let mut rows = app.store.due_watched(&all(), Timestamp::now(), BATCH as u32).await?.len();
        for want in batch.iter().flatten() {
            rows += app.store.fetch(TENANT, want, app.snapshot.size).await?;
        }
        Ok::<_, catenary_store::StoreError>(json(Bytes::from(rows.to_string())))
    })
    .await
    .map_err(failed)
}

/// A watcher to whom everything is due.
fn all() -> Watcher {
    Watcher {
        tenant: TENANT.into(),
        log_size: 0,
        all_at: i64::MAX as u64,
        version: 0,
        holder: String::new(),
        lease: Timestamp::UNIX_EPOCH,
        due: None,
        oldest: None,
    }
}
