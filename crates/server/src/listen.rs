//! Our own accept loop: TLS, a limit on connections, on how slowly a request may begin, on silence, and on answers
//! that nobody takes.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod activity;
mod linger;
pub(crate) mod tls;
mod wire;

use activity::{Activity, End};
use linger::Lingering;
use wire::{Stream, Wire};

use crate::{
    App, hot,
    load::{self, Load},
    metrics::Metrics,
};

/// A connection that never sends a byte is not seen by the limit on heads.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// The longest that a connection lives; clients open another.
const CONNECTION: Duration = Duration::from_secs(600);
/// How long running requests may take after a stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How often a connection is judged.
const JUDGED: Duration = Duration::from_secs(1);
/// The most bytes of a request's headers.
const HEADER_BYTES: usize = 16 * 1024;
/// Requests at a time on one connection of HTTP/2.
const STREAMS: u32 = 64;
/// Bytes that a peer may send ahead of our reading, on one stream and on one connection of HTTP/2.
const WINDOWS: (u32, u32) = (128 * 1024, 256 * 1024);
/// Bytes that wait for a peer on one stream of HTTP/2.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a peer reset before we looked at them; more end the connection (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Streams that we reset because of what the peer did wrong; more end the connection.
const LOCAL_RESETS: usize = 128;

/// What the accept loop needs besides its socket.
pub(crate) struct Listening {
    pub(crate) app: App,
    pub(crate) router: Router,
    pub(crate) load: Arc<Load>,
    /// How many connections there may be.
    pub(crate) connections: usize,
    /// The certificate, when it speaks TLS.
    pub(crate) certificate: Option<tls::Certificate>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stop: CancellationToken,
}

/// Serves until told to stop, then drains.
pub(crate) async fn serve(listener: TcpListener, listening: Listening) {
    let Listening { app, router, load, connections, certificate, metrics, stop } = listening;
    let rooms = Rooms::new(connections);
    let open = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors: wait for some to be closed instead of spinning.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // This one waits for its room; those behind it wait in the kernel's queue.
        let room = tokio::select! {
            room = rooms.room(&metrics) => room,
            () = stop.cancelled() => break,
        };
        let Some(room) = room else { break };
        let connection = Connection {
            app: app.clone(),
            router: router.clone(),
            load: load.clone(),
            certificate: certificate.clone(),
            metrics: metrics.clone(),
            stop: stop.clone(),
        };
        open.spawn(connection.serve(stream, room));
    }
    drop(listener);
    open.close();
    if tokio::time::timeout(DRAIN, open.wait()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
}

/// Rooms for connections. When there is none left, whoever rests makes room.
struct Rooms {
    places: Arc<Semaphore>,
    open: Arc<Mutex<HashMap<u64, Arc<Activity>>>>,
    next: AtomicU64,
}

/// One connection's room, until it is dropped.
struct Room {
    activity: Arc<Activity>,
    number: u64,
    open: Arc<Mutex<HashMap<u64, Arc<Activity>>>>,
    _place: OwnedSemaphorePermit,
}

impl Rooms {
    fn new(connections: usize) -> Self {
        let places = Arc::new(Semaphore::new(connections));
        Self { places, open: Arc::default(), next: AtomicU64::new(0) }
    }

    async fn room(&self, metrics: &Metrics) -> Option<Room> {
        let place = loop {
            match self.places.clone().try_acquire_owned() {
                Ok(place) => break place,
                Err(TryAcquireError::Closed) => return None,
                Err(TryAcquireError::NoPermits) => {}
            }
            if self.evict() {
                metrics.connection_ended("evicted");
            }
            let waiting = self.places.clone().acquire_owned();
            // All are busy, or the one that was told is slow: look again whom to tell.
            if let Ok(place) = tokio::time::timeout(Duration::from_millis(100), waiting).await {
                break place.ok()?;
            }
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let activity = Activity::new();
        lock(&self.open).insert(number, activity.clone());
        Some(Room { activity, number, open: self.open.clone(), _place: place })
    }

    fn evict(&self) -> bool {
        let open = lock(&self.open);
        let least = open.values().filter_map(|a| Some((a.worth()?, a))).min_by_key(|(worth, _)| *worth);
        least.inspect(|(_, activity)| activity.evict()).is_some()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        lock(&self.open).remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one connection's task needs.
struct Connection {
    app: App,
    router: Router,
    load: Arc<Load>,
    certificate: Option<tls::Certificate>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream, room: Room) {
        let _ = stream.set_nodelay(true);
        let activity = room.activity.clone();
        self.metrics.connections(1.0);
        let opened = tokio::select! {
            opened = self.open(stream) => opened,
            () = activity.evicted() => None,
            () = self.stop.cancelled() => None,
        };
        if let Some(stream) = opened {
            self.answer(Wire::new(stream, activity.clone()), &activity).await;
        }
        self.metrics.connections(-1.0);
    }

    /// Waits for the first byte, and for the handshake.
    async fn open(&self, stream: TcpStream) -> Option<Stream> {
        let mut first = [0];
        // A peek and not `readable`, which may say yes when nothing is there.
        let spoke = tokio::time::timeout(FIRST_BYTE, stream.peek(&mut first)).await;
        if !matches!(spoke, Ok(Ok(1))) {
            if spoke.is_err() {
                self.metrics.connection_ended("silent");
            }
            return None;
        }
        let stream = Lingering::new(stream);
        let Some(certificate) = &self.certificate else { return Some(Stream::Plain(stream)) };
        let shaken = certificate.accept(stream).await;
        if shaken.is_none() {
            self.metrics.connection_ended("handshake");
        }
        shaken.map(|stream| Stream::Tls(Box::new(stream)))
    }

    async fn answer(&self, wire: Wire, activity: &Arc<Activity>) {
        let (router, load, own) = (self.router.clone(), self.load.clone(), activity.clone());
        let app = self.app.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let running = own.begin(request.version());
            let response = hot::answer(&app, &request).ok_or_else(|| (router.clone(), load.clone(), request));
            async move {
                let response = match response {
                    Ok(response) => response,
                    Err((router, load, request)) => {
                        load::answer(&load, router, request.map(Body::new)).await?
                    }
                };
                Ok::<_, Infallible>(response.map(|body| running.answer(body)))
            }
        });
        let builder = builder();
        let mut serving = pin!(builder.serve_connection(TokioIo::new(wire), service));
        let mut judged = tokio::time::interval(JUDGED);
        let mut lifetime = pin!(tokio::time::sleep(CONNECTION));
        let end = loop {
            tokio::select! {
                _ = serving.as_mut() => return,
                () = self.stop.cancelled() => break None,
                () = lifetime.as_mut() => break Some(End::Soon("lifetime")),
                () = activity.evicted() => break None,
                _ = judged.tick() => {}
            }
            if let Some(end) = activity.judge() {
                break Some(end);
            }
        };
        match end {
            Some(End::Now(why)) => {
                self.metrics.connection_ended(why);
                return;
            }
            Some(End::Soon(why)) => self.metrics.connection_ended(why),
            None => {}
        }
        serving.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(DRAIN, serving).await;
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The time for a head is counted by the watchdog.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES as u32)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS);
    builder
}
