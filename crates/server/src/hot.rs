//! The hot routes: what is answered without waiting for anything. Here a verdict that is asked again in the same words by the
//! same credential; checkpoints and tiles in [`log`].
//!
//! What was read from a request once (whose token, which question) is remembered under the request's exact bytes.
//! Nothing that can change is: the lease, the token's state, the answer and its record are looked up each time, in
//! the same order as everywhere else. Whatever is not exactly as before goes the usual way.

mod log;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{
    http::{HeaderMap, Method, Request, header},
    response::Response,
};
use catenary_chain::Question;
use catenary_evidence::digest::Sha256;
use quick_cache::{Equivalent, Weighter, sync::Cache};

use crate::{
    App,
    auth::{self, Principal},
    cache::{self, Key},
    edge,
    record::Mode,
    routes,
    verdict::{self, Answer},
};

/// Bytes of remembered requests.
const BYTES: u64 = 16 * 1024 * 1024;
const ROUTE: &str = "/v1/verdict";

/// A request as it was sent: credential and query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Words(Box<[u8]>, Box<[u8]>);

/// The same, not yet owned.
#[derive(PartialEq, Eq, Hash)]
struct Asked<'a>(&'a [u8], &'a [u8]);

impl Equivalent<Words> for Asked<'_> {
    fn equivalent(&self, words: &Words) -> bool {
        *self.0 == *words.0 && *self.1 == *words.1
    }
}

/// What a request says, whatever time it is.
#[derive(Debug)]
struct Meaning {
    tenant: String,
    /// The token's public id: the principal's name.
    token: String,
    /// What the token's text hashes to.
    hash: Sha256,
    question: Question,
    /// The answer's key in the cache, under the trust epoch of the last time.
    key: Mutex<Option<(u64, Key)>>,
}

impl Meaning {
    fn key(&self, epoch: u64) -> Key {
        let mut kept = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        match *kept {
            Some((of, key)) if of == epoch => key,
            _ => kept.insert((epoch, cache::key(&self.tenant, epoch, &self.question))).1,
        }
    }
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Words, Arc<Meaning>> for ByBytes {
    fn weight(&self, words: &Words, _: &Arc<Meaning>) -> u64 {
        // The question has about the length of the query.
        (words.0.len() + 2 * words.1.len() + 512) as u64
    }
}

/// Requests that were answered before, bounded in bytes.
pub(crate) struct Known(Cache<Words, Arc<Meaning>, ByBytes>);

impl Default for Known {
    fn default() -> Self {
        Self(Cache::with_weighter(16 * 1024, BYTES, ByBytes))
    }
}

impl Known {
    /// Remembers a request that was answered with the verdict of now, asked by an API token.
    pub(crate) fn learn(&self, headers: &HeaderMap, query: &str, who: &Principal, question: &Question) {
        let (Some(hash), Some(credential)) = (who.token, credential(headers)) else { return };
        let words = Words(credential.into(), query.as_bytes().into());
        let (tenant, token, question) = (who.tenant.clone(), who.name.clone(), question.clone());
        let meaning = Meaning { tenant, token, hash, question, key: Mutex::default() };
        self.0.insert(words, Arc::new(meaning));
    }
}

/// The one credential of a request.
fn credential(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let first = all.next()?;
    all.next().is_none().then(|| first.as_bytes())
}

/// The answer to what is known; `None` goes the usual way.
pub(crate) fn answer<B>(app: &App, request: &Request<B>) -> Option<Response> {
    match request.uri().path() {
        _ if request.method() != Method::GET => None,
        ROUTE => verdict(app, request),
        _ => log::answer(app, request),
    }
}

fn verdict<B>(app: &App, request: &Request<B>) -> Option<Response> {
    let started = Instant::now();
    let asked = Asked(credential(request.headers())?, request.uri().query()?.as_bytes());
    let known = app.hot.0.get(&asked)?;
    let Meaning { tenant, token, hash, .. } = &*known;
    let Answer { ready, log_size } = verdict::cached(
        app,
        tenant,
        |epoch| known.key(epoch),
        |control, now| auth::may_read_verdicts(control, token, *hash, now),
    )?;
    app.recorder.count(tenant, token, &ready, Mode::Optional).ok()?;
    let mut response =
        routes::tagged(request.headers(), &ready.etag, ready.bytes.clone(), "application/json");
    let headers = response.headers_mut();
    headers.insert("catenary-log-size", log_size.into());
    headers.insert(edge::REQUEST_ID, edge::request_id());
    app.metrics.hot(ready.verdict.outcome, response.status(), started.elapsed());
    Some(response)
}
