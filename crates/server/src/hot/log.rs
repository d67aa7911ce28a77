//! Checkpoints and tiles that are at hand: of a public log, or asked with a token of the log's own tenant.

use std::time::Instant;

use axum::{
    http::{Method, Request},
    response::Response,
};
use catenary_tlog::TileId;
use jiff::Timestamp;

use crate::{
    App, auth, edge,
    routes::{self, OCTETS, TEXT},
};

/// The templates of a path by the number of its segments.
const TILES: [&str; 4] = [
    "/v1/log/{tenant}/tile/{level}/{a}",
    "/v1/log/{tenant}/tile/{level}/{a}/{b}",
    "/v1/log/{tenant}/tile/{level}/{a}/{b}/{c}",
    "/v1/log/{tenant}/tile/{level}/{a}/{b}/{c}/{d}",
];

/// The answer, if nothing must be waited for; `None` goes the usual way.
pub(super) fn answer<B>(app: &App, request: &Request<B>) -> Option<Response> {
    let (tenant, asked) = request.uri().path().strip_prefix("/v1/log/")?.split_once('/')?;
    if request.uri().query().is_some() {
        return None;
    }
    let started = Instant::now();
    let follower = &app.backend.follower;
    let (lease, snapshot) = (follower.lease(tenant)?, follower.snapshot(tenant).ok()?);
    if !auth::may_read_log(app, request.headers(), &snapshot, Timestamp::now()) {
        return None;
    }
    let (route, body, media_type) = if asked == "checkpoint" {
        ("/v1/log/{tenant}/checkpoint", follower.checkpoint(&snapshot).ok()?.into(), TEXT)
    } else {
        let tile: TileId = asked.parse().ok()?;
        if !routes::is_complete(tile, snapshot.size) {
            return None;
        }
        let route = TILES.get(asked.split('/').count().checked_sub(3)?)?;
        (*route, app.backend.store.tile_at_hand(tenant, tile)?, OCTETS)
    };
    let mut response = routes::bytes(body, media_type);
    response.headers_mut().insert(edge::REQUEST_ID, edge::request_id());
    app.metrics.request(&Method::GET, route, response.status().as_u16(), started.elapsed());
    lease.holds().then_some(response)
}
