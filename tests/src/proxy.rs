//! A bad wire: a TCP proxy whose faults a test switches on and off while connections go through it.
//!
//! Each direction has a [`Wire`]: late, uneven, narrow, stalled after so many bytes, or a black hole that swallows what is
//! sent without saying so. Connections can be reset or half-closed, and new ones refused. What a wire holds back goes on
//! when the fault is lifted, as packets that are sent again would.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};

/// What one direction does with bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wire {
    /// How late everything is.
    pub latency: Duration,
    /// How much earlier or later than that, at most; nothing overtakes.
    pub jitter: Duration,
    /// Bytes a second, of each connection; 0 = no limit.
    pub rate: u64,
    /// Nothing goes on after so many bytes of a connection; 0 = no limit.
    pub stall_after: u64,
    /// Nothing goes on at all, and nobody is told.
    pub black_hole: bool,
}

impl Wire {
    /// Everything is late by this.
    pub fn late(latency: Duration) -> Self {
        Self { latency, ..Self::default() }
    }

    /// Nothing goes on.
    pub fn black_hole() -> Self {
        Self { black_hole: true, ..Self::default() }
    }

    /// How many bytes may go on now, of a connection that `passed` so many.
    fn room(&self, passed: u64) -> u64 {
        match (self.black_hole, self.stall_after) {
            (true, _) => 0,
            (false, 0) => u64::MAX,
            (false, limit) => limit.saturating_sub(passed),
        }
    }

    /// When a chunk that is here now goes on.
    fn due(&self) -> Instant {
        let around = u64::try_from(self.jitter.as_micros()).unwrap_or(0) * 2;
        let shift = Duration::from_micros(fastrand::u64(0..=around));
        Instant::now() + (self.latency + shift).saturating_sub(self.jitter)
    }
}

/// One of the two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From whoever connected.
    Up,
    /// Back to them.
    Down,
}

/// What a test says, and every connection hears.
#[derive(Debug)]
struct Control {
    up: watch::Sender<Wire>,
    down: watch::Sender<Wire>,
    /// Counts how often each direction was half-closed.
    closed_up: watch::Sender<u64>,
    closed_down: watch::Sender<u64>,
    /// Counts how often everything was reset.
    resets: watch::Sender<u64>,
    refuse: AtomicBool,
    open: AtomicUsize,
}

/// A proxy on a port of its own.
#[derive(Debug)]
pub struct Proxy {
    /// The port.
    pub port: u16,
    control: Arc<Control>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Forwards to a port of this machine; what comes back is late by `delay`.
    pub async fn start(to: u16, delay: Duration) -> Self {
        let proxy = Self::open(to).await;
        proxy.set(Direction::Down, Wire::late(delay));
        proxy
    }

    /// Forwards to a port of this machine, with no fault yet.
    pub async fn open(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let control = Arc::new(Control {
            up: watch::Sender::default(),
            down: watch::Sender::default(),
            closed_up: watch::Sender::default(),
            closed_down: watch::Sender::default(),
            resets: watch::Sender::default(),
            refuse: AtomicBool::new(false),
            open: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, to, control.clone()));
        Self { port, control, task }
    }

    /// Changes one direction, of connections that are open, too.
    pub fn set(&self, direction: Direction, wire: Wire) {
        self.control.wire(direction).send_replace(wire);
    }

    /// Changes both directions.
    pub fn both(&self, wire: Wire) {
        self.set(Direction::Up, wire);
        self.set(Direction::Down, wire);
    }

    /// Lifts every fault. Connections that were reset or half-closed stay so.
    pub fn heal(&self) {
        self.both(Wire::default());
        self.refuse(false);
    }

    /// Resets every open connection (RST to both ends).
    pub fn reset(&self) {
        self.control.resets.send_modify(|n| *n += 1);
    }

    /// Ends one direction of every open connection (FIN); the other goes on.
    pub fn half_close(&self, direction: Direction) {
        self.control.closed(direction).send_modify(|n| *n += 1);
    }

    /// Whether new connections are reset at once.
    pub fn refuse(&self, refuse: bool) {
        self.control.refuse.store(refuse, Ordering::SeqCst);
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.control.open.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.reset();
    }
}

impl Control {
    fn wire(&self, direction: Direction) -> &watch::Sender<Wire> {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    fn closed(&self, direction: Direction) -> &watch::Sender<u64> {
        match direction {
            Direction::Up => &self.closed_up,
            Direction::Down => &self.closed_down,
        }
    }
}

async fn accept(listener: TcpListener, to: u16, control: Arc<Control>) {
    while let Ok((near, _)) = listener.accept().await {
        if control.refuse.load(Ordering::SeqCst) {
            let _ = near.set_zero_linger();
            continue;
        }
        let control = control.clone();
        tokio::spawn(async move {
            control.open.fetch_add(1, Ordering::SeqCst);
            connection(near, to, &control).await;
            control.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// One connection, until both directions ended or it is reset.
async fn connection(near: TcpStream, to: u16, control: &Control) {
    let mut resets = control.resets.subscribe();
    let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, mut near_write) = near.into_split();
    let (far_read, mut far_write) = far.into_split();
    let reset = {
        let up = forward(near_read, &mut far_write, control, Direction::Up);
        let down = forward(far_read, &mut near_write, control, Direction::Down);
        tokio::select! {
            _ = resets.changed() => true,
            _ = async { tokio::join!(up, down) } => false,
        }
    };
    if reset {
        let (near, far): (&TcpStream, &TcpStream) = (near_write.as_ref(), far_write.as_ref());
        let (_, _) = (near.set_zero_linger(), far.set_zero_linger());
        // The halves would say FIN when they are dropped, before the socket is closed.
        near_write.forget();
        far_write.forget();
    }
}

/// One direction: what is read goes into a short queue, each chunk with the moment at which it goes on.
async fn forward(mut from: OwnedReadHalf, to: &mut OwnedWriteHalf, control: &Control, direction: Direction) {
    let (queue, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let wire = control.wire(direction);
    let read = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let due = wire.borrow().due();
            if queue.send((due, buffer[..n].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let mut closed = control.closed(direction).subscribe();
    let write = async {
        let mut passed = 0;
        while let Some((due, bytes)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            if pass(&bytes, to, wire, &mut passed).await.is_err() {
                return;
            }
        }
        // A black hole swallows the end, too.
        let mut watched = wire.subscribe();
        let _ = watched.wait_for(|wire| wire.room(passed) > 0).await;
    };
    tokio::select! {
        _ = closed.changed() => {}
        _ = async { tokio::join!(read, write) } => {}
    }
    let _ = to.shutdown().await;
}

/// Sends a chunk, as fast and as far as the wire lets it.
async fn pass(
    mut bytes: &[u8],
    to: &mut OwnedWriteHalf,
    wire: &watch::Sender<Wire>,
    passed: &mut u64,
) -> std::io::Result<()> {
    let mut watched = wire.subscribe();
    while !bytes.is_empty() {
        let Ok(now) = watched.wait_for(|wire| wire.room(*passed) > 0).await.map(|wire| *wire) else {
            return Ok(());
        };
        let room = usize::try_from(now.room(*passed)).unwrap_or(usize::MAX);
        // Small pieces, so that a narrow wire is slow evenly and hears of a change soon.
        let most = if now.rate == 0 { usize::MAX } else { 1024 };
        let (piece, rest) = bytes.split_at(bytes.len().min(room).min(most));
        if now.rate > 0 {
            tokio::time::sleep(Duration::from_secs_f64(piece.len() as f64 / now.rate as f64)).await;
        }
        to.write_all(piece).await?;
        *passed += piece.len() as u64;
        bytes = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets, and a connection to it through a proxy.
    async fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let proxy = Proxy::open(port).await;
        let stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        (proxy, stream)
    }

    async fn says(stream: &mut TcpStream, bytes: &[u8]) {
        stream.write_all(bytes).await.unwrap();
        hears(stream, bytes).await;
    }

    async fn hears(stream: &mut TcpStream, bytes: &[u8]) {
        let mut heard = vec![0; bytes.len()];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, bytes);
    }

    /// Nothing comes for a while.
    async fn is_silent(stream: &mut TcpStream) {
        let mut byte = [0];
        let heard = tokio::time::timeout(Duration::from_millis(150), stream.read(&mut byte)).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    #[tokio::test]
    async fn a_clean_wire_changes_nothing() {
        let (proxy, mut stream) = echo().await;
        let long: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let (mut read, mut write) = stream.split();
        let mut heard = vec![0; long.len()];
        let (sent, got) = tokio::join!(write.write_all(&long), read.read_exact(&mut heard));
        sent.unwrap();
        got.unwrap();
        assert_eq!(heard, long);
        assert_eq!(proxy.connections(), 1);
    }

    #[tokio::test]
    async fn late_and_narrow_wires_take_their_time() {
        let (proxy, mut stream) = echo().await;
        proxy.set(
            Direction::Down,
            Wire { jitter: Duration::from_millis(20), ..Wire::late(Duration::from_millis(120)) },
        );
        let begun = Instant::now();
        says(&mut stream, b"late").await;
        assert!(begun.elapsed() >= Duration::from_millis(100));
        proxy.both(Wire { rate: 20_000, ..Wire::default() });
        let begun = Instant::now();
        says(&mut stream, &[7; 2000]).await;
        assert!(begun.elapsed() >= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn a_stall_and_a_black_hole_hold_back_until_they_are_lifted() {
        let (proxy, mut stream) = echo().await;
        proxy.set(Direction::Up, Wire { stall_after: 3, ..Wire::default() });
        stream.write_all(b"abcdef").await.unwrap();
        hears(&mut stream, b"abc").await;
        is_silent(&mut stream).await;
        proxy.heal();
        hears(&mut stream, b"def").await;
        proxy.both(Wire::black_hole());
        stream.write_all(b"lost?").await.unwrap();
        is_silent(&mut stream).await;
        proxy.heal();
        hears(&mut stream, b"lost?").await;
    }

    #[tokio::test]
    async fn a_reset_is_no_end_in_order() {
        let (proxy, mut stream) = echo().await;
        says(&mut stream, b"x").await;
        proxy.reset();
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        proxy.refuse(true);
        let mut refused = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        let _ = refused.write_all(b"x").await;
        assert!(refused.read(&mut [0]).await.is_err());
        proxy.heal();
        let mut fresh = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        says(&mut fresh, b"y").await;
    }

    #[tokio::test]
    async fn a_half_close_ends_one_direction() {
        let (proxy, mut stream) = echo().await;
        says(&mut stream, b"x").await;
        proxy.half_close(Direction::Down);
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        // The other direction takes what is sent.
        stream.write_all(b"y").await.unwrap();
    }
}
