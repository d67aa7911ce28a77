//! Who is served when not everybody can be.
//!
//! Every request has a class, and every class has places of its own: a flood of evidence takes no place from a verdict.
//! Whoever finds no place waits a moment in a bounded queue and is then told to come back: at once, because a slow no is
//! worse than a quick one. 503 says that we are over our limits, 429 that this client is over its own.
//!
//! A request with a body takes its place when the body is there ([`Ticket`]), so that slow senders hold none.

use std::{
    collections::HashMap,
    convert::Infallible,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::Request,
    http::{HeaderMap, Method, header, response::Parts},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use catenary_store::Reading;
use http_body_util::BodyExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tower::ServiceExt as _;

use crate::{edge, problem::Fault};

/// Requests whose bodies are still coming in.
const BODIES: usize = 1024;
/// A body up to this is read before a request is turned away, so that its connection can go on.
const DRAINED: u64 = 64 * 1024;
const DRAIN: Duration = Duration::from_millis(50);
/// What part of a queue is left after somebody queued in vain, until there is a free place again: no more than get one in time. Each
/// of the others would be turned away late, and cost as much of what is scarce as one that is served.
const FLOODED: usize = 16;
/// Credentials whose rates are counted at a time.
const COUNTED: usize = 10_000;

/// What a request is, to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Somebody waits with a deployment.
    Verdict,
    /// Evidence that is sent.
    Ingest,
    /// A change of what is trusted: a revocation must get through a flood of anything else.
    Control,
    /// Everything that people look at.
    Browse,
    /// Waits for evidence (`wait=`), and does nothing meanwhile.
    Waiting,
}

/// Places, queue and patience of a class.
const GATES: [(Class, &str, usize, usize, Duration); 5] = [
    (Class::Verdict, "verdict", 256, 1024, Duration::from_millis(200)),
    (Class::Ingest, "ingest", 128, 256, Duration::from_millis(50)),
    (Class::Control, "control", 256, 256, Duration::from_millis(200)),
    (Class::Browse, "browse", 128, 256, Duration::from_millis(200)),
    (Class::Waiting, "waiting", 512, 0, Duration::ZERO),
];

impl Class {
    /// The class of a request; `None` for a probe: whoever watches us must see in, however busy we are.
    fn of(method: &Method, path: &str, query: Option<&str>) -> Option<Self> {
        let waits = || query.is_some_and(|q| q.split('&').any(|pair| pair.starts_with("wait=")));
        let reads = matches!(*method, Method::GET | Method::HEAD);
        Some(match path {
            "/healthz" | "/readyz" | "/metrics" => return None,
            _ if reads && waits() => Self::Waiting,
            "/v1/verdict" | "/v1/verdicts" | "/v1/gate" | "/v1/verdict/vsa" | "/v1/k8s/admit" => {
                Self::Verdict
            }
            "/v1/deployments" if !reads => Self::Verdict,
            "/v1/attestations" | "/v1/objects" | "/upload" | "/v1/events/distribution" if !reads => {
                Self::Ingest
            }
            "/v1/what-if" | "/v1/policies:lint" => Self::Browse,
            path if reads || path.ends_with("/test") => Self::Browse,
            _ => Self::Control,
        })
    }
}

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// We are over our limits.
    Busy,
    /// The credential is over its quota.
    Quota,
}

/// An answer that is written once: under overload it is given more often than any other.
struct Ready {
    parts: Parts,
    body: Bytes,
}

impl TurnedAway {
    fn answer(self) -> Response {
        static BUSY: LazyLock<Ready> = LazyLock::new(|| Ready::write(Fault::Busy));
        static QUOTA: LazyLock<Ready> = LazyLock::new(|| Ready::write(Fault::TooMany));
        let ready = match self {
            Self::Busy => &*BUSY,
            Self::Quota => &*QUOTA,
        };
        let mut response = Response::from_parts(ready.parts.clone(), Body::from(ready.body.clone()));
        response.headers_mut().insert(edge::REQUEST_ID, edge::request_id());
        response
    }
}

impl Ready {
    fn write(fault: Fault) -> Self {
        let body = serde_json::to_vec(&fault.problem()).unwrap_or_default().into();
        let (mut parts, _) = fault.into_response().into_parts();
        parts.extensions.clear();
        Self { parts, body }
    }
}

/// Every class's gate, and the rates of credentials.
#[derive(Debug)]
pub(crate) struct Load {
    gates: [Gate; 5],
    bodies: Arc<Semaphore>,
    rates: Rates,
}

#[derive(Debug)]
struct Gate {
    places: Arc<Semaphore>,
    of: usize,
    waiting: AtomicUsize,
    queue: usize,
    patience: Duration,
    turned_away: AtomicU64,
    /// Somebody queued in vain, and no place was free since.
    flooded: AtomicBool,
}

/// How a class is doing, for the metrics.
pub(crate) struct Doing {
    pub(crate) class: &'static str,
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    pub(crate) turned_away: u64,
}

/// What lets a request in, until it is answered.
#[derive(Debug)]
pub(crate) enum Admission {
    /// A probe.
    Free,
    /// It has its place.
    Placed { class: Class, _place: OwnedSemaphorePermit },
    /// It takes one when its body is there.
    Later { ticket: Ticket, _body: OwnedSemaphorePermit },
}

impl Admission {
    /// Which connections of the store it reads by.
    fn reading(&self) -> Option<Reading> {
        let class = match self {
            Self::Free => return None,
            Self::Placed { class, .. } => class,
            Self::Later { ticket, .. } => &ticket.class,
        };
        Some(match class {
            Class::Verdict => Reading::Verdict,
            Class::Ingest => Reading::Ingest,
            Class::Control | Class::Browse | Class::Waiting => Reading::Browse,
        })
    }
}

/// The right to a place of a class, and the place once it is taken.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    load: Arc<Load>,
    class: Class,
    place: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Ticket {
    /// Takes the place; nothing when it is taken.
    pub(crate) async fn take(&self) -> Result<(), Fault> {
        if lock(&self.place).is_none() {
            let place = self.load.gate(self.class).enter().await.map_err(|_| Fault::Busy)?;
            *lock(&self.place) = Some(place);
        }
        Ok(())
    }
}

impl Load {
    /// Requests a second of one credential, by class; 0 leaves them uncounted.
    pub(crate) fn new(ingest: u32, browse: u32) -> Self {
        let gate = |(_, _, places, queue, patience): (Class, &str, usize, usize, Duration)| Gate {
            places: Arc::new(Semaphore::new(places)),
            of: places,
            waiting: AtomicUsize::new(0),
            queue,
            patience,
            turned_away: AtomicU64::new(0),
            flooded: AtomicBool::new(false),
        };
        Self {
            gates: GATES.map(gate),
            bodies: Arc::new(Semaphore::new(BODIES)),
            rates: Rates::new(ingest, browse),
        }
    }

    fn gate(&self, class: Class) -> &Gate {
        &self.gates[class as usize]
    }

    /// Lets a request in, or says why not.
    pub(crate) async fn admit(self: &Arc<Self>, request: &mut Request) -> Result<Admission, TurnedAway> {
        let uri = request.uri();
        let Some(class) = Class::of(request.method(), uri.path(), uri.query()) else {
            return Ok(Admission::Free);
        };
        let gate = self.gate(class);
        if !self.rates.allow(class, request.headers()) {
            gate.turned_away.fetch_add(1, Relaxed);
            return Err(TurnedAway::Quota);
        }
        if request.body().is_end_stream() {
            return Ok(Admission::Placed { class, _place: gate.enter().await? });
        }
        let body = self.bodies.clone().try_acquire_owned().ok().filter(|_| !gate.is_full());
        let Some(body) = body else {
            gate.turned_away.fetch_add(1, Relaxed);
            return Err(TurnedAway::Busy);
        };
        let ticket = Ticket { load: self.clone(), class, place: Arc::default() };
        request.extensions_mut().insert(ticket.clone());
        Ok(Admission::Later { ticket, _body: body })
    }

    /// How each class is doing.
    pub(crate) fn doing(&self) -> impl Iterator<Item = Doing> {
        self.gates.iter().zip(GATES).map(|(gate, (_, class, ..))| Doing {
            class,
            running: gate.of - gate.places.available_permits(),
            waiting: gate.waiting.load(Relaxed),
            turned_away: gate.turned_away.load(Relaxed),
        })
    }
}

/// One that waits, until it is dropped: a client that hangs up waits no more.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Gate {
    fn is_full(&self) -> bool {
        self.places.available_permits() == 0 && self.waiting.load(Relaxed) >= self.room()
    }

    /// How many may queue.
    fn room(&self) -> usize {
        if self.flooded.load(Relaxed) { self.queue / FLOODED } else { self.queue }
    }

    async fn enter(&self) -> Result<OwnedSemaphorePermit, TurnedAway> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            self.flooded.store(false, Relaxed);
            return Ok(place);
        }
        let place = self.wait().await;
        if place.is_none() {
            self.turned_away.fetch_add(1, Relaxed);
        }
        place.ok_or(TurnedAway::Busy)
    }

    async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        let before = self.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.room() {
            return None;
        }
        let place = timeout(self.patience, self.places.clone().acquire_owned()).await;
        if place.is_err() {
            self.flooded.store(true, Relaxed);
        }
        place.ok()?.ok()
    }
}

/// Answers a request that is let in; turns the others away as cheaply as can be.
pub(crate) async fn answer(
    load: &Arc<Load>,
    router: Router,
    mut request: Request,
) -> Result<Response, Infallible> {
    match load.admit(&mut request).await {
        Ok(admission) => {
            let answer = router.oneshot(request);
            match admission.reading() {
                Some(reading) => catenary_store::reading(reading, answer).await,
                None => answer.await,
            }
        }
        Err(turned_away) => {
            drain(request.into_body()).await;
            Ok(turned_away.answer())
        }
    }
}

/// Reads the rest of a small body that nobody wants: a connection that is closed half-way costs both sides another one.
async fn drain(mut body: Body) {
    if body.size_hint().upper().is_none_or(|length| length > DRAINED) {
        return;
    }
    let _ = timeout(DRAIN, async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} }).await;
}

/// Token buckets: one for each credential and class.
#[derive(Debug)]
struct Rates {
    ingest: u32,
    browse: u32,
    hasher: RandomState,
    buckets: Mutex<HashMap<(Class, u64), Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rates {
    fn new(ingest: u32, browse: u32) -> Self {
        Self { ingest, browse, hasher: RandomState::new(), buckets: Mutex::default() }
    }

    /// Takes a token. A credential that is not good has a bucket, too, and is refused by others.
    fn allow(&self, class: Class, headers: &HeaderMap) -> bool {
        let rate = match class {
            Class::Ingest => self.ingest,
            Class::Browse => self.browse,
            Class::Verdict | Class::Control | Class::Waiting => 0,
        };
        if rate == 0 {
            return true;
        }
        let credential = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let key = (class, self.hasher.hash_one(credential));
        let (now, rate) = (Instant::now(), f64::from(rate));
        let mut buckets = lock(&self.buckets);
        if buckets.len() >= COUNTED && !buckets.contains_key(&key) {
            // Who has a full bucket is as good as one that was never seen.
            buckets.retain(|_, bucket| now - bucket.at < Duration::from_secs(2));
            if buckets.len() >= COUNTED {
                buckets.clear();
            }
        }
        // Two seconds' worth may come at once.
        let bucket = buckets.entry(key).or_insert(Bucket { tokens: 2.0 * rate, at: now });
        bucket.tokens = (bucket.tokens + (now - bucket.at).as_secs_f64() * rate).min(2.0 * rate);
        bucket.at = now;
        let allowed = bucket.tokens >= 1.0;
        bucket.tokens -= if allowed { 1.0 } else { 0.0 };
        allowed
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TABLE;

    fn request(method: &str, uri: &str, body: Option<&'static str>) -> Request {
        let body = body.map_or_else(Body::empty, Body::from);
        Request::builder().method(method).uri(uri).body(body).unwrap()
    }

    #[test]
    fn every_route_has_its_class() {
        let of = |wanted: Option<Class>| {
            let all = TABLE.iter().filter(|(m, t, _)| {
                Class::of(&m.parse().unwrap(), &t.replace(['{', '}'], ""), None) == wanted
            });
            all.map(|(m, t, _)| format!("{m} {t}")).collect::<Vec<_>>()
        };
        assert_eq!(of(None), ["GET /healthz", "GET /readyz", "GET /metrics"]);
        assert_eq!(
            of(Some(Class::Verdict)),
            [
                "GET /v1/verdict",
                "POST /v1/verdicts",
                "GET /v1/gate",
                "POST /v1/verdict/vsa",
                "POST /v1/deployments",
                "POST /v1/k8s/admit"
            ]
        );
        assert_eq!(
            of(Some(Class::Ingest)),
            ["POST /v1/attestations", "POST /v1/objects", "POST /v1/events/distribution", "POST /upload"]
        );
        assert!(of(Some(Class::Control)).contains(&"POST /v1/revocations".to_owned()));
        assert!(of(Some(Class::Control)).iter().all(|route| !route.starts_with("GET ")));
        let get = |query| Class::of(&Method::GET, "/v1/verdict", Some(query));
        assert_eq!(get("image=x&wait=5"), Some(Class::Waiting));
        assert_eq!(get("image=wait"), Some(Class::Verdict));
    }

    #[test]
    fn the_table_of_gates_is_in_the_order_of_the_classes() {
        for (index, (class, ..)) in GATES.into_iter().enumerate() {
            assert_eq!(class as usize, index);
        }
    }

    #[tokio::test]
    async fn after_one_that_queued_in_vain_few_queue_until_there_is_a_place() {
        let load = Arc::new(Load::new(0, 0));
        let gate = load.gate(Class::Ingest);
        let mut held = Vec::new();
        while let Ok(place) = gate.places.clone().try_acquire_owned() {
            held.push(place);
        }
        let (few, all) = (gate.queue / FLOODED, gate.queue);
        assert_eq!(gate.room(), all);
        assert_eq!(gate.enter().await.err(), Some(TurnedAway::Busy));
        assert_eq!(gate.room(), few);
        gate.waiting.store(few, Relaxed);
        let sent = load.admit(&mut request("POST", "/v1/attestations", Some("{}"))).await;
        assert_eq!(sent.err(), Some(TurnedAway::Busy));
        gate.waiting.store(0, Relaxed);
        held.pop();
        assert!(gate.enter().await.is_ok());
        assert_eq!(gate.room(), all);
    }

    #[tokio::test]
    async fn a_flood_of_one_class_takes_no_place_of_another() {
        let load = Arc::new(Load::new(0, 0));
        let mut held = Vec::new();
        while let Ok(place) = load.gate(Class::Browse).places.clone().try_acquire_owned() {
            held.push(place);
        }
        let late = load.admit(&mut request("GET", "/v1/attestations", None)).await;
        assert_eq!(late.err(), Some(TurnedAway::Busy));
        for other in ["/v1/verdict", "/healthz"] {
            assert!(load.admit(&mut request("GET", other, None)).await.is_ok(), "{other}");
        }
        let doing = load.doing().find(|d| d.class == "browse").unwrap();
        assert_eq!((doing.running, doing.waiting, doing.turned_away), (128, 0, 1));
        drop(held);
        assert!(load.admit(&mut request("GET", "/v1/attestations", None)).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_is_still_coming_holds_no_place() {
        let load = Arc::new(Load::new(0, 0));
        let mut post = request("POST", "/v1/attestations", Some("{}"));
        let admission = load.admit(&mut post).await.unwrap();
        let running = || load.doing().find(|d| d.class == "ingest").unwrap().running;
        assert_eq!(running(), 0);
        let ticket = post.extensions().get::<Ticket>().unwrap().clone();
        ticket.take().await.unwrap();
        ticket.take().await.unwrap();
        assert_eq!(running(), 1);
        drop((post, ticket));
        assert_eq!(running(), 1, "until it is answered");
        drop(admission);
        assert_eq!(running(), 0);
    }

    #[tokio::test]
    async fn a_client_over_its_rate_is_told_so_and_others_are_not() {
        let load = Arc::new(Load::new(2, 0));
        let post = |token: &str| {
            let mut post = request("POST", "/v1/attestations", Some("{}"));
            post.headers_mut().insert(header::AUTHORIZATION, token.parse().unwrap());
            post
        };
        let mut refused = 0;
        for _ in 0..20 {
            refused += u32::from(load.admit(&mut post("one")).await.err() == Some(TurnedAway::Quota));
        }
        assert!(refused >= 10, "{refused}");
        assert!(load.admit(&mut post("two")).await.is_ok());
        assert!(load.admit(&mut request("GET", "/v1/verdict", None)).await.is_ok());
    }

    #[tokio::test]
    async fn who_is_turned_away_is_told_when_to_come_back() {
        for (turned_away, status) in [(TurnedAway::Busy, 503), (TurnedAway::Quota, 429)] {
            let response = turned_away.answer();
            assert_eq!(response.status(), status);
            assert!(response.headers().contains_key(header::RETRY_AFTER));
            assert!(response.headers().contains_key(edge::REQUEST_ID));
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["status"], status);
        }
    }

    #[test]
    fn many_credentials_do_not_fill_the_memory() {
        let rates = Rates::new(1, 1);
        for n in 0..3 * COUNTED {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, format!("Bearer {n}").parse().unwrap());
            rates.allow(Class::Ingest, &headers);
        }
        assert!(lock(&rates.buckets).len() <= COUNTED);
    }
}
