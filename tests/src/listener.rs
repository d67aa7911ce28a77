//! A small HTTP server that counts who comes and answers as it is told.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A listener on a port of its own.
#[derive(Debug)]
pub struct Listener {
    /// `http://127.0.0.1:port`.
    pub url: String,
    calls: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

/// What it answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A body with a media type.
    Body(&'static str, Vec<u8>),
    /// A redirect.
    Redirect(String),
    /// Files by path, `/` first; nothing else is there.
    Files(BTreeMap<String, Vec<u8>>),
    /// Nothing, for a long time.
    Stall,
}

impl Listener {
    /// Starts it.
    pub async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&calls);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                seen.fetch_add(1, Ordering::SeqCst);
                let reply = reply.clone();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let read = stream.read(&mut request).await.unwrap_or_default();
                    let path = String::from_utf8_lossy(&request[..read]);
                    let path = path.split(' ').nth(1).unwrap_or_default().to_owned();
                    let found = match &reply {
                        Reply::Files(files) => {
                            files.get(&path).map(|body| ("application/octet-stream", body))
                        }
                        Reply::Body(media_type, body) => Some((*media_type, body)),
                        _ => None,
                    };
                    let head = match &reply {
                        Reply::Body(..) | Reply::Files(_) => match found {
                            Some((media_type, body)) => format!(
                                "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                                body.len()
                            ),
                            None => {
                                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                                    .to_owned()
                            }
                        },
                        Reply::Redirect(to) => {
                            format!(
                                "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                            )
                        }
                        Reply::Stall => {
                            tokio::time::sleep(std::time::Duration::from_secs(30)).await;
                            return;
                        }
                    };
                    let _ = stream.write_all(head.as_bytes()).await;
                    if let Some((_, body)) = found {
                        let _ = stream.write_all(body).await;
                    }
                });
            }
        });
        Self { url, calls, task }
    }

    /// How many connections were made.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}
