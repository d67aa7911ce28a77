//! The load generator: keep-alive connections in a closed loop, the same for the service and for its ceiling.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

/// How long a line of a stream is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one run saw.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Answers a second.
    pub rate: f64,
    /// Latencies in microseconds, sorted.
    latencies: Vec<u32>,
    /// Answers with another status than was expected, and one of them.
    pub odd: (u64, Option<u16>),
}

impl Sample {
    /// The latency in microseconds that this share of answers did not exceed.
    pub fn percentile(&self, share: f64) -> u32 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }

    /// Several runs as one: their rates' mean, all their latencies.
    pub fn together(samples: Vec<Self>) -> Self {
        let rate = samples.iter().map(|s| s.rate).sum::<f64>() / samples.len().max(1) as f64;
        let mut latencies: Vec<u32> = samples.into_iter().flat_map(|s| s.latencies).collect();
        latencies.sort_unstable();
        Self { rate, latencies, odd: (0, None) }
    }

    /// Parts of one long answer, with how many things there were in all of them and the microseconds that each part took.
    pub fn of_parts(things: u64, took: Duration, mut latencies: Vec<u32>) -> Self {
        latencies.sort_unstable();
        Self { rate: things as f64 / took.as_secs_f64(), latencies, odd: (0, None) }
    }

    /// How many answers there were.
    pub fn answers(&self) -> usize {
        self.latencies.len()
    }
}

/// The bytes of request number `n`; `None` when there are no more.
pub type Requests = Arc<dyn Fn(u64) -> Option<Vec<u8>> + Send + Sync>;

/// How a run is driven.
#[derive(Debug, Clone, Copy)]
pub struct Drive {
    /// On loopback.
    pub port: u16,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// How long.
    pub window: Duration,
    /// Statuses that are answers.
    pub expected: &'static [u16],
}

/// Sends requests until the window or the requests end.
pub async fn drive(how: Drive, requests: Requests) -> Result<Sample> {
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..how.connections)
        .map(|_| tokio::spawn(connection(how, requests.clone(), next.clone(), begun + how.window)))
        .collect();
    let mut sample = Sample::default();
    let mut ended = begun;
    for task in tasks {
        let (latencies, odd, last) = task.await??;
        sample.latencies.extend(latencies);
        sample.odd = (sample.odd.0 + odd.0, sample.odd.1.or(odd.1));
        ended = ended.max(last);
    }
    ensure!(!sample.latencies.is_empty(), "nothing was answered");
    sample.latencies.sort_unstable();
    sample.rate = sample.latencies.len() as f64 / (ended - begun).as_secs_f64();
    Ok(sample)
}

type Seen = (Vec<u32>, (u64, Option<u16>), Instant);

async fn connection(how: Drive, requests: Requests, next: Arc<AtomicU64>, until: Instant) -> Result<Seen> {
    let mut wire = Wire::open(how.port).await?;
    let (mut latencies, mut odd) = (Vec::new(), (0, None));
    let mut last = Instant::now();
    while last < until {
        let Some(request) = requests(next.fetch_add(1, Ordering::Relaxed)) else { break };
        let sent = Instant::now();
        let status = wire.ask(&request).await?.0;
        last = Instant::now();
        if how.expected.contains(&status) {
            latencies.push(u32::try_from((last - sent).as_micros()).unwrap_or(u32::MAX));
        } else {
            odd = (odd.0 + 1, Some(status));
        }
    }
    Ok((latencies, odd, last))
}

/// One connection.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects to a port of this machine.
    pub async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Sends a request; status and body of the answer.
    pub async fn ask(&mut self, request: &[u8]) -> Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the connection was closed");
            }
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let (status, length) = read_head(&self.buffer[..head])?;
        while self.buffer.len() < head + length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the answer was cut");
            }
        }
        Ok((status, &self.buffer[head..head + length]))
    }

    /// Sends a request whose answer comes in chunks, and shows each of its lines until `on` has seen enough.
    pub async fn lines(mut self, request: &[u8], mut on: impl FnMut(&str) -> bool) -> Result<()> {
        self.stream.write_all(request).await?;
        let mut text = BufReader::new(self.stream);
        let mut line = String::new();
        let status: u16 = read_line(&mut text, &mut line).await?.get(9..12).context("no status")?.parse()?;
        ensure!(status == 200, "{status} instead of a stream");
        while !read_line(&mut text, &mut line).await?.is_empty() {}
        let mut rest = Vec::new();
        loop {
            let size = usize::from_str_radix(read_line(&mut text, &mut line).await?, 16)?;
            let from = rest.len();
            rest.resize(from + size, 0);
            timeout(PATIENCE, text.read_exact(&mut rest[from..])).await??;
            read_line(&mut text, &mut line).await?;
            let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            for line in std::str::from_utf8(&rest[..whole])?.lines() {
                if !on(line) {
                    return Ok(());
                }
            }
            rest.drain(..whole);
            ensure!(size > 0, "the stream ended too soon");
        }
    }
}

async fn read_line<'a>(from: &mut BufReader<TcpStream>, line: &'a mut String) -> Result<&'a str> {
    line.clear();
    let read = timeout(PATIENCE, from.read_line(line)).await.context("the stream stands still")??;
    ensure!(read > 0, "the connection was closed");
    Ok(line.trim_end())
}

fn read_head(head: &[u8]) -> Result<(u16, usize)> {
    let text = std::str::from_utf8(head)?;
    let status = text.get(9..12).context("no status")?.parse()?;
    let length = text.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    // 304 has no body; everything that is measured otherwise says its length.
    ensure!(length.is_some() || status == 304, "an answer without a length: {text}");
    Ok((status, length.unwrap_or(0)))
}

/// A `GET`.
pub fn get(path: &str, token: Option<&str>) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\n{}\r\n", authorization(token)).into_bytes()
}

/// A `POST` of JSON.
pub fn post(path: &str, token: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{}\r\n",
        body.len(),
        authorization(token)
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn authorization(token: Option<&str>) -> String {
    token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default()
}
