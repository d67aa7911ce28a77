//! A slow wire: a TCP proxy that holds every answer back for a while.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A proxy on a port of its own.
#[derive(Debug)]
pub struct Proxy {
    /// The port.
    pub port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Forwards to a port of this machine; what comes back is late by `delay`.
    pub async fn start(to: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    let (mut near_read, mut near_write) = near.into_split();
                    let (mut far_read, mut far_write) = far.into_split();
                    let back = tokio::spawn(async move {
                        let mut buffer = vec![0; 65536];
                        while let Ok(n @ 1..) = far_read.read(&mut buffer).await {
                            tokio::time::sleep(delay).await;
                            if near_write.write_all(&buffer[..n]).await.is_err() {
                                break;
                            }
                        }
                    });
                    let _ = tokio::io::copy(&mut near_read, &mut far_write).await;
                    drop(far_write);
                    let _ = back.await;
                });
            }
        });
        Self { port, task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
