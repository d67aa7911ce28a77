//! The log as auditors and clients read it.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;

use super::{Bench, Side, in_turn, round_robin};
use crate::service::{
    client::{Drive, Wire, get},
    report::Case,
    stage::Stage,
};

const TILE: &str = "/v1/log/default/tile/0/000";
const CHECKPOINT: &str = "/v1/log/default/checkpoint";
const AGAINST: &str = "an axum handler with the same bytes";

/// Keeps the bytes of a tile and a checkpoint for the ceiling.
pub async fn save(stage: &Stage, files: &Path) -> Result<()> {
    let mut wire = Wire::open(stage.port()).await?;
    for (name, path) in [("tile", TILE), ("checkpoint", CHECKPOINT)] {
        let (status, body) = wire.ask(&get(path, Some(&stage.token))).await?;
        ensure!(status == 200, "{path}: {status} {}", String::from_utf8_lossy(body));
        std::fs::write(files.join(name), body)?;
    }
    Ok(())
}

/// Tile, checkpoint, inclusion proof.
pub async fn reads(bench: &Bench) -> Result<Vec<Case>> {
    let (stage, ceiling) = (&bench.large, &bench.ceiling);
    stage.settle().await;
    let side = |port, paths: Vec<String>, pid, database| Side {
        drive: Drive { port, connections: 32, window: Duration::from_secs(2), expected: &[200] },
        requests: round_robin(paths, Some(&stage.token)),
        pids: vec![pid],
        database,
        stage: None,
    };
    let own = |paths| side(stage.port(), paths, stage.app.process.pid, Some(stage));
    let other = |path: String| side(ceiling.port, vec![path], ceiling.process.pid, None);
    let (tile, bytes) = in_turn(own(vec![TILE.into()]), other("/file/tile".into()), 2).await?;
    let tile = Case::rate("log tile", tile, AGAINST, bytes, 0.5);
    let (checkpoint, bytes) =
        in_turn(own(vec![CHECKPOINT.into()]), other("/file/checkpoint".into()), 2).await?;
    let checkpoint = Case::rate("log checkpoint", checkpoint, AGAINST, bytes, 0.5);

    let mut random = Rng::with_seed(11);
    let text = std::fs::read_to_string(ceiling.files.join("checkpoint"))?;
    let size: u64 = text.lines().nth(1).context("a checkpoint without a size")?.parse()?;
    let proofs = (0..4_000)
        .map(|_| format!("/v1/log/default/proof/inclusion?index={}&size={size}", random.u64(0..size)))
        .collect();
    let rows = (0..4_000).map(|_| format!("/row/{}", random.usize(0..stage.images.len()))).collect();
    let rows = side(ceiling.port, rows, ceiling.process.pid, Some(stage));
    let (proof, row) = in_turn(own(proofs), rows, 2).await?;
    let proof = Case::rate("log inclusion proof", proof, "one primary-key read over HTTP", row, 0.5);
    Ok(vec![tile, checkpoint, proof])
}
