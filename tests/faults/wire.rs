//! A client that costs little, so that one core can offer ten times what another can serve.

use std::{
    io,
    time::{Duration, Instant},
};

use acceptance::Client;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// An answer is waited for so long; then it is none.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One connection, opened again whenever it was closed.
pub struct Wire {
    address: String,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// HTTP status.
    pub status: u16,
    /// Whether it says when to come back.
    pub retry_after: bool,
    /// From the first byte sent to the last one read.
    pub took: Duration,
}

impl Wire {
    /// Of a service, not connected yet.
    pub fn to(client: &Client) -> Self {
        let address = client.url.trim_start_matches("http://").to_owned();
        Self { address, stream: None, buffer: Vec::new() }
    }

    /// Asks once; a connection that was closed meanwhile is opened again.
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<Seen> {
        let begun = Instant::now();
        let kept = self.stream.is_some();
        let answer = match timeout(PATIENCE, self.exchange(request)).await {
            Ok(Err(_)) if kept => {
                self.stream = None;
                timeout(PATIENCE, self.exchange(request)).await
            }
            answer => answer,
        };
        match answer {
            Ok(Ok((status, retry_after))) => Ok(Seen { status, retry_after, took: begun.elapsed() }),
            Ok(Err(error)) => {
                self.stream = None;
                Err(error)
            }
            Err(_) => {
                self.stream = None;
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, bool)> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        let Some(stream) = &mut self.stream else { return Err(io::ErrorKind::NotConnected.into()) };
        // The answer may come before the body is sent: a refusal that closes.
        let sent = stream.write_all(request).await;
        self.buffer.clear();
        loop {
            if let Some(answer) = whole(&self.buffer) {
                if answer.closes || sent.is_err() {
                    self.stream = None;
                }
                return Ok((answer.status, answer.retry_after));
            }
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

struct Whole {
    status: u16,
    retry_after: bool,
    closes: bool,
}

/// The answer, once all of it is there. The service always says how long a short answer is.
fn whole(bytes: &[u8]) -> Option<Whole> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let length: usize = header("content-length").map_or(Some(0), |v| v.trim().parse().ok())?;
    (bytes.len() >= end + 4 + length).then(|| Whole {
        status: head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0),
        retry_after: header("retry-after").is_some(),
        closes: header("connection").is_some_and(|v| v.trim() == "close"),
    })
}

/// A `GET` as bytes.
pub fn get(client: &Client, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n{}\r\n", credential(client)).into_bytes()
}

/// A `POST` of JSON as bytes.
pub fn post(client: &Client, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\n{}content-type: application/json\r\ncontent-length: {length}\r\n\r\n",
        credential(client)
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

fn credential(client: &Client) -> String {
    client.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default()
}

/// The value that this part of all are at or below, in milliseconds.
pub fn quantile(times: &mut [Duration], part: f64) -> u64 {
    times.sort();
    let at = ((times.len() as f64 * part).ceil() as usize).clamp(1, times.len().max(1)) - 1;
    times.get(at).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
