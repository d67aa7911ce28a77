//! The wire between one instance and Postgres: a TCP proxy that can be slow, stall, cut, swallow or be forgotten.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// How the wire behaves now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As if it were not there.
    Clear,
    /// Every answer comes late, by so many milliseconds, half of it by chance.
    Late(u64),
    /// Nothing moves; connections stay open.
    Stalled,
    /// What is sent is swallowed, and new connections are taken and never answered.
    Blackhole,
    /// Every connection is cut, new ones at once.
    Cut,
}

/// A proxy on a port of its own.
#[derive(Debug)]
pub struct Wire {
    /// The port.
    pub port: u16,
    mode: watch::Sender<Mode>,
    /// Connections that were made before the newest of these lead nowhere, for good.
    epoch: watch::Sender<u64>,
    /// The ports from which connections reach Postgres.
    ports: Arc<Mutex<Vec<u16>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Wire {
    /// Forwards to a port of this machine.
    pub async fn start(to: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let ((mode, now), (epoch, newest)) = (watch::channel(Mode::Clear), watch::channel(0));
        let ports = Arc::<Mutex<Vec<u16>>>::default();
        let taken = ports.clone();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let life = Life { now: now.clone(), born: *newest.borrow(), newest: newest.clone() };
                tokio::spawn(carry(near, to, life, taken.clone()));
            }
        });
        Ok(Self { port, mode, epoch, ports, task })
    }

    /// From now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Forgets every connection that there is: both ends stay open, and nothing ever comes, as when a router lost
    /// its table. The ports from which they reach Postgres.
    pub fn forget(&self) -> Vec<u16> {
        self.epoch.send_modify(|epoch| *epoch += 1);
        std::mem::take(&mut *self.ports.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What one connection is told.
#[derive(Clone)]
struct Life {
    now: watch::Receiver<Mode>,
    born: u64,
    newest: watch::Receiver<u64>,
}

/// How long a forgotten connection stays open: longer than anybody waits.
const OBLIVION: Duration = Duration::from_secs(300);

async fn carry(near: TcpStream, to: u16, life: Life, ports: Arc<Mutex<Vec<u16>>>) {
    let mut cut = life.now.clone();
    let whole = async {
        wait_while(life.now.clone(), |mode| matches!(mode, Mode::Stalled | Mode::Blackhole)).await;
        let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
        let port = far.local_addr().map(|address| address.port());
        ports.lock().unwrap_or_else(PoisonError::into_inner).extend(port);
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        // One end that closes closes the other: Postgres must not keep sessions of an instance that is dead.
        tokio::select! {
            () = pump(near_read, far_write, life.clone(), false) => {}
            () = pump(far_read, near_write, life, true) => {}
        }
    };
    tokio::select! {
        () = whole => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn wait_while(mut now: watch::Receiver<Mode>, holds: fn(&Mode) -> bool) {
    let _ = now.wait_for(|mode| !holds(mode)).await;
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, life: Life, answers: bool) {
    let mut buffer = vec![0; 65536];
    let (now, mut newest) = (life.now, life.newest);
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => Some(read),
            _ = newest.wait_for(|newest| *newest > life.born) => None,
        };
        let n = match read {
            Some(Ok(n @ 1..)) => n,
            Some(_) => return,
            None => return tokio::time::sleep(OBLIVION).await,
        };
        let mode = *now.borrow();
        match mode {
            Mode::Blackhole => {
                // What was swallowed is gone: the connection can only end.
                wait_while(now.clone(), |mode| *mode == Mode::Blackhole).await;
                return;
            }
            Mode::Stalled => wait_while(now.clone(), |mode| *mode == Mode::Stalled).await,
            Mode::Late(by) if answers => {
                tokio::time::sleep(Duration::from_millis(by / 2 + fastrand::u64(..=by / 2))).await;
            }
            _ => {}
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        Ok(port)
    }

    #[tokio::test]
    async fn a_wire_carries_stalls_and_cuts() -> Result<()> {
        let wire = Wire::start(echo().await?).await?;
        let mut stream = TcpStream::connect(("127.0.0.1", wire.port)).await?;
        let mut buffer = [0; 2];
        stream.write_all(b"hi").await?;
        stream.read_exact(&mut buffer).await?;
        wire.set(Mode::Stalled);
        stream.write_all(b"ho").await?;
        let waited = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut buffer)).await;
        assert!(waited.is_err(), "a stalled wire carried something");
        wire.set(Mode::Clear);
        stream.read_exact(&mut buffer).await?;
        assert_eq!(&buffer, b"ho");
        assert_eq!(wire.forget().len(), 1);
        stream.write_all(b"he").await?;
        let waited = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut buffer)).await;
        assert!(waited.is_err(), "a forgotten connection carried something, or ended");
        let mut stream = TcpStream::connect(("127.0.0.1", wire.port)).await?;
        stream.write_all(b"ha").await?;
        stream.read_exact(&mut buffer).await?;
        wire.set(Mode::Cut);
        assert!(matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)));
        Ok(())
    }
}
