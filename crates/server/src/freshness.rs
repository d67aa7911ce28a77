//! `minIndex` and `wait`: read-your-writes on any instance. One layer over every read.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{App, auth::Principal, problem::Fault};

/// The longest that a read waits.
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// Reads that are asked by POST, for the length of the question.
pub const ASKED_BY_POST: [&str; 2] = ["/v1/verdicts", "/v1/verdict/vsa"];

/// What a read asks of its freshness.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freshness {
    /// The entry that the answer must take into account.
    pub min_index: Option<u64>,
    /// How long to wait.
    pub wait: Duration,
}

/// Whether a `name=value` pair of a query is for this layer.
pub fn is_member(pair: &str) -> bool {
    matches!(pair.split('=').next(), Some("minIndex" | "wait"))
}

/// Waits until the followed log holds the entry, then lets the read go on.
pub async fn freshness(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if !is_read(&request) {
        return next.run(request).await;
    }
    let fresh = match Freshness::read(request.uri().query().unwrap_or_default()) {
        Ok(fresh) => fresh,
        Err(fault) => return fault.into_response(),
    };
    let principal = request.extensions().get::<Principal>();
    if let (Some(principal), Some(min_index)) = (principal, fresh.min_index)
        && let Err(fault) = app.backend.wait_for(&principal.tenant, min_index, fresh.wait).await
    {
        return fault.into_response();
    }
    request.extensions_mut().insert(fresh);
    next.run(request).await
}

/// Whether a request only reads.
fn is_read(request: &Request) -> bool {
    match *request.method() {
        Method::GET | Method::HEAD => true,
        Method::POST => ASKED_BY_POST.contains(&request.uri().path()),
        _ => false,
    }
}

impl Freshness {
    fn read(query: &str) -> Result<Self, Fault> {
        let mut fresh = Self::default();
        let mut seen = Vec::new();
        for (name, value) in
            query.split('&').filter(|pair| is_member(pair)).map(|p| p.split_once('=').unwrap_or((p, "")))
        {
            if seen.contains(&name) {
                return Err(Fault::Query(format!("`{name}` is given twice")));
            }
            seen.push(name);
            let digits =
                |text: &str| text.len() <= 15 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if name == "minIndex" {
                let index = Some(value).filter(|v| digits(v)).and_then(|v| v.parse().ok());
                fresh.min_index = Some(index.ok_or_else(|| Fault::Query("`minIndex` is a number".into()))?);
            } else {
                let seconds = Some(value.strip_suffix('s').unwrap_or(value))
                    .filter(|v| digits(v))
                    .and_then(|v| v.parse().ok());
                let wait = seconds.map(Duration::from_secs).filter(|wait| *wait <= MAX_WAIT);
                fresh.wait =
                    wait.ok_or_else(|| Fault::Query("`wait` is at most 30 seconds, for example 5s".into()))?;
            }
        }
        Ok(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_bounded() {
        let read = |query: &str| Freshness::read(query).ok();
        let fresh = |min_index, seconds| Some(Freshness { min_index, wait: Duration::from_secs(seconds) });
        assert_eq!(read("image=x"), fresh(None, 0));
        assert_eq!(read("minIndex=7&wait=5s"), fresh(Some(7), 5));
        assert_eq!(read("wait=30"), fresh(None, 30));
        for bad in
            ["wait=31", "wait=-1", "wait=1e9", "wait=", "minIndex=-1", "minIndex=x", "minIndex=1&minIndex=2"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
