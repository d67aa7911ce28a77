//! The log itself: checkpoint, tiles, proofs (C2SP tlog-tiles).

use axum::{extract::State, response::Response};
use bytes::Bytes;
use catenary_tlog::{BundleId, TileId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    App,
    extract::{ApiPath, ApiQuery},
    problem::Fault,
    routes::tokens::NoQuery,
};

const NO_LOG: Fault = Fault::NotFound { what: "log" };

/// The newest signed checkpoint
#[utoipa::path(get, path = "/v1/log/{tenant}/checkpoint", tag = "log", params(("tenant" = String, Path)),
    responses((status = 200, description = "A signed note", body = String, content_type = "text/plain")))]
pub(crate) async fn checkpoint(
    State(app): State<App>,
    ApiPath(tenant): ApiPath<String>,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&tenant).await.map_err(no_log)?;
    let note = app.backend.follower.checkpoint(&snapshot)?;
    Ok(super::bytes(note.into(), super::TEXT))
}

/// A tenant that is not there is a log that is not there.
fn no_log(fault: Fault) -> Fault {
    match fault {
        Fault::NotFound { .. } => NO_LOG,
        other => other,
    }
}

/// Which entry, in which tree.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct InclusionQuery {
    /// Index of the entry.
    index: u64,
    /// Size of the tree; the newest one without it.
    size: Option<u64>,
}

/// Which two trees.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConsistencyQuery {
    /// Size of the older tree.
    from: u64,
    /// Size of the newer one; the newest without it.
    to: Option<u64>,
}

/// A proof.
#[derive(Debug, Serialize, ToSchema)]
struct Proof {
    /// Size of the (newer) tree.
    size: u64,
    /// Hashes, hex.
    hashes: Vec<String>,
}

/// Proof that an entry is in the log
#[utoipa::path(get, path = "/v1/log/{tenant}/proof/inclusion", tag = "log", params(("tenant" = String, Path), InclusionQuery),
    responses((status = 200, description = "RFC 6962 audit path", body = Proof)))]
pub(crate) async fn inclusion(
    State(app): State<App>,
    ApiPath(tenant): ApiPath<String>,
    ApiQuery(query): ApiQuery<InclusionQuery>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&tenant).await.map_err(no_log)?;
    let size = within(query.size, snapshot.size)?;
    if query.index >= size {
        return Err(Fault::Query(format!("entry {} is not in a tree of {size}", query.index)));
    }
    let hashes = app.backend.store.inclusion_in(&snapshot, query.index, size).await?;
    Ok(super::json(&Proof { size, hashes: hashes.into_iter().map(|h| h.to_hex()).collect() }))
}

/// Proof that one tree extends another
#[utoipa::path(get, path = "/v1/log/{tenant}/proof/consistency", tag = "log", params(("tenant" = String, Path), ConsistencyQuery),
    responses((status = 200, description = "RFC 6962 consistency proof", body = Proof)))]
pub(crate) async fn consistency(
    State(app): State<App>,
    ApiPath(tenant): ApiPath<String>,
    ApiQuery(query): ApiQuery<ConsistencyQuery>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&tenant).await.map_err(no_log)?;
    let size = within(query.to, snapshot.size)?;
    if query.from > size || query.from == 0 {
        return Err(Fault::Query(format!("`from` is 1 to {size}")));
    }
    let hashes = app.backend.store.consistency(&tenant, query.from, size).await?;
    Ok(super::json(&Proof { size, hashes: hashes.into_iter().map(|h| h.to_hex()).collect() }))
}

fn within(asked: Option<u64>, size: u64) -> Result<u64, Fault> {
    match asked {
        None => Ok(size),
        Some(0) => Err(Fault::Query("a tree has at least one entry".into())),
        Some(asked) if asked > size => Err(Fault::IndexAhead { asked: asked - 1, size }),
        Some(asked) => Ok(asked),
    }
}

/// A tile or an entry bundle
///
/// As in C2SP tlog-tiles: `tile/<L>/<N>[.p/<W>]` and `tile/entries/<N>[.p/<W>]`, with `<N>` in groups of three digits.
#[utoipa::path(get, path = "/v1/log/{tenant}/tile/{level}/{a}", tag = "log",
    params(("tenant" = String, Path), ("level" = String, Path, description = "0 to 5, or `entries`"),
        ("a" = String, Path, description = "Three digits; larger indexes and partial tiles have further segments")),
    responses((status = 200, description = "Hashes, or length-prefixed leaves", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(crate) async fn tile(
    State(app): State<App>,
    ApiPath((tenant, level, a)): ApiPath<(String, String, String)>,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    serve_tile(&app, &tenant, &format!("tile/{level}/{a}")).await
}

/// The same with an index or a width in further segments.
pub(crate) async fn deep_tile(
    State(app): State<App>,
    ApiPath(parts): ApiPath<Vec<(String, String)>>,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let [(_, tenant), rest @ ..] = &parts[..] else { return Err(NO_LOG) };
    let rest: Vec<&str> = rest.iter().map(|(_, part)| part.as_str()).collect();
    serve_tile(&app, tenant, &format!("tile/{}", rest.join("/"))).await
}

/// Whether a log of `size` entries has all hashes of the tile.
pub(crate) fn is_complete(tile: TileId, size: u64) -> bool {
    TileId::at(tile.level, tile.index, size).is_some_and(|now| now.width >= tile.width)
}

async fn serve_tile(app: &App, tenant: &str, path: &str) -> Result<Response, Fault> {
    const NO_TILE: Fault = Fault::NotFound { what: "tile" };
    let snapshot = app.backend.snapshot(tenant).await.map_err(no_log)?;
    let found = if path.starts_with("tile/entries/") {
        let bundle: BundleId = path.parse().map_err(|_| NO_TILE)?;
        if bundle.entries().end > snapshot.size {
            return Err(NO_TILE);
        }
        app.backend.store.entry_bundle(tenant, bundle).await?.map(Bytes::from)
    } else {
        let tile: TileId = path.parse().map_err(|_| NO_TILE)?;
        if !is_complete(tile, snapshot.size) {
            return Err(NO_TILE);
        }
        app.backend.store.tile(tenant, tile).await?
    };
    Ok(super::bytes(found.ok_or(NO_TILE)?, super::OCTETS))
}
