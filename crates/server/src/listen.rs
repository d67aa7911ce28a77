//! Our own accept loop: a limit on connections, on how slowly a request may begin, and on silence.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

mod linger;

use linger::Lingering;

/// From the first byte of a connection, or the end of the request before, to the end of the next headers.
const HEADERS: Duration = Duration::from_secs(10);
/// A connection that never sends a byte is not seen by the header limit.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// The longest that a connection lives; clients open another.
const CONNECTION: Duration = Duration::from_secs(600);
/// How long running requests may take after a stop.
const DRAIN: Duration = Duration::from_secs(10);
/// The most bytes of a request's headers.
const HEADER_BYTES: usize = 16 * 1024;

/// Serves until `stop`, then drains.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    connections: usize,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(connections));
    let open = TaskTracker::new();
    loop {
        // The place comes first: at the limit, new connections wait in the kernel's queue.
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = stop.cancelled() => break,
        };
        let Ok(place) = place else { break };
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
        let (router, stop) = (router.clone(), stop.clone());
        open.spawn(async move {
            let _place = place;
            connection(stream, router, stop).await;
        });
    }
    drop(listener);
    open.close();
    if tokio::time::timeout(DRAIN, open.wait()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    let spoke = tokio::select! {
        // A peek and not `readable`, which may say yes when nothing is there.
        spoke = tokio::time::timeout(FIRST_BYTE, stream.peek(&mut first)) => matches!(spoke, Ok(Ok(1))),
        () = stop.cancelled() => false,
    };
    if !spoke {
        return;
    }
    let service = router.map_request(|request: Request<Incoming>| request.map(Body::new));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEADER_BYTES.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(HEADERS)
        .max_concurrent_streams(64)
        .max_header_list_size(HEADER_BYTES as u32);
    let stream = TokioIo::new(Lingering::new(stream));
    let serving = builder.serve_connection(stream, TowerToHyperService::new(service));
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        _ = serving.as_mut() => true,
        () = stop.cancelled() => false,
        () = tokio::time::sleep(CONNECTION) => false,
    };
    if !ended {
        serving.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(DRAIN, serving).await;
    }
}
