//! What Postgres holds of one tenant, by plain SQL, past the service.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use sqlx::{FromRow, PgConnection};

use super::tree::Hash;

/// An entry of the log.
#[derive(Debug, FromRow)]
pub struct Entry {
    /// Its place.
    #[sqlx(rename = "log_index")]
    pub index: i64,
    /// Its id.
    pub id: Vec<u8>,
    /// Its kind.
    pub kind: String,
    /// The leaf's bytes.
    pub leaf: Vec<u8>,
}

/// The head of the log.
#[derive(Debug, FromRow)]
pub struct Head {
    /// Entries.
    pub size: i64,
    /// Its root.
    pub root: Vec<u8>,
}

/// A batch of decisions.
#[derive(Debug, FromRow)]
pub struct Batch {
    /// Whose chain.
    pub instance: String,
    /// 1, 2, 3 …
    pub number: i64,
    /// Hash of the one in front.
    pub previous: Vec<u8>,
    /// Its own.
    pub hash: Vec<u8>,
    /// When it was closed.
    pub time_us: i64,
    /// The records.
    pub records: Vec<u8>,
}

/// Everything of one tenant.
#[derive(Debug)]
pub struct Rows {
    /// In order of their indexes.
    pub entries: Vec<Entry>,
    /// The head.
    pub head: Head,
    /// Id and index of rows of attestations and objects.
    pub evidence: BTreeMap<Vec<u8>, i64>,
    /// How many rows of evidence there are.
    pub evidence_rows: usize,
    /// SHA-256 of the bytes of each body, by id, as computed here.
    pub bodies: BTreeMap<Vec<u8>, Hash>,
    /// Full tiles: level, index, hashes.
    pub tiles: Vec<(i16, i64, Vec<u8>)>,
    /// Batches in order.
    pub batches: Vec<Batch>,
    /// Instance, number and hash of each chain's end.
    pub ends: Vec<(String, i64, Vec<u8>)>,
    /// Verdicts that are kept.
    pub verdicts: BTreeSet<Vec<u8>>,
}

impl Rows {
    /// Reads all of it.
    pub async fn read(db: &mut PgConnection, tenant: &str) -> Result<Self> {
        let entries = sqlx::query_as(
            "select log_index, id, kind, leaf from log_entry where tenant = $1 order by log_index",
        )
        .bind(tenant)
        .fetch_all(&mut *db)
        .await?;
        let head = sqlx::query_as("select size, root from log_head where tenant = $1")
            .bind(tenant)
            .fetch_one(&mut *db)
            .await?;
        let evidence: Vec<(Vec<u8>, i64)> = sqlx::query_as(
            "select id, log_index from attestation where tenant = $1
             union all select id, log_index from object where tenant = $1",
        )
        .bind(tenant)
        .fetch_all(&mut *db)
        .await?;
        let bodies: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as("select id, bytes from body where tenant = $1")
            .bind(tenant)
            .fetch_all(&mut *db)
            .await?;
        let tiles = sqlx::query_as(
            "select level, tile_index, hashes from log_tile where tenant = $1 order by level, tile_index",
        )
        .bind(tenant)
        .fetch_all(&mut *db)
        .await?;
        let batches = sqlx::query_as(
            "select instance, number, previous, hash, time_us, records from decision_batch
             where tenant = $1 order by instance, number",
        )
        .bind(tenant)
        .fetch_all(&mut *db)
        .await?;
        let ends = sqlx::query_as("select instance, number, hash from decision_chain where tenant = $1")
            .bind(tenant)
            .fetch_all(&mut *db)
            .await?;
        let verdicts: Vec<(Vec<u8>,)> = sqlx::query_as("select id from verdict_body where tenant = $1")
            .bind(tenant)
            .fetch_all(&mut *db)
            .await?;
        Ok(Self {
            entries,
            head,
            evidence_rows: evidence.len(),
            evidence: evidence.into_iter().collect(),
            bodies: bodies.into_iter().map(|(id, bytes)| (id, super::tree::sha256(&[&bytes]))).collect(),
            tiles,
            batches,
            ends,
            verdicts: verdicts.into_iter().map(|(id,)| id).collect(),
        })
    }
}

/// The bytes of some bodies.
pub async fn bodies(db: &mut PgConnection, tenant: &str, ids: &[Vec<u8>]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let found = sqlx::query_as("select id, bytes from body where tenant = $1 and id = any($2)")
        .bind(tenant)
        .bind(ids)
        .fetch_all(db)
        .await?;
    Ok(found)
}
