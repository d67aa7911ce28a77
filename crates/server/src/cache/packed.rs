//! An answer as it is kept while nobody asks for it: compressed, with what it read.

use std::{cell::RefCell, sync::Arc};

use catenary_chain::{ReadSet, Verdict};
use flate2::{Compress, CompressError, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use jiff::Timestamp;

use super::{Evaluated, Ready};

/// A verdict's JSON is a tenth of its size when its hashes are written once, what all have in common is left out, and a node that it names
/// costs nothing more.
#[derive(Debug)]
pub(super) struct Packed {
    deflated: Box<[u8]>,
    sample: Arc<Sample>,
    /// Length of the JSON; the nodes follow, one a line.
    json: usize,
    /// Length of both.
    text: usize,
    /// How many nodes it read.
    pub(super) nodes: usize,
    pub(super) valid_until: Timestamp,
    ends: Option<Timestamp>,
}

thread_local! {
    /// Its tables are a hundred times as large as a verdict: made once a thread. The level below knows no other code for the digits of
    /// hashes, which are most of what is left, than for any text.
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(2), false));
}

/// As much of a text as helps others to be short.
const SHARED: usize = 16 * 1024;

/// What answers have in common: the text of one of them, which the others need not repeat.
#[derive(Debug, Default)]
pub(super) struct Sample(Box<[u8]>);

impl Sample {
    pub(super) fn of(ready: &Ready) -> Self {
        Self(ready.bytes.iter().copied().take(SHARED).collect())
    }

    /// Whether another would help more; seldom, as answers keep the one that they were packed with.
    pub(super) fn is_outgrown_by(&self, ready: &Ready) -> bool {
        ready.bytes.len().min(SHARED) > self.0.len() + self.0.len() / 2
    }
}

fn deflate(text: &[u8], sample: &Sample) -> Result<Box<[u8]>, CompressError> {
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        compress.set_dictionary(&sample.0)?;
        // What does not shrink grows by a few bytes in a thousand.
        let mut deflated = Vec::with_capacity(text.len() + text.len() / 64 + 64);
        loop {
            let read = usize::try_from(compress.total_in()).unwrap_or(usize::MAX).min(text.len());
            if compress.compress_vec(&text[read..], &mut deflated, FlushCompress::Finish)?
                == Status::StreamEnd
            {
                return Ok(deflated.into_boxed_slice());
            }
            deflated.reserve(text.len() + 64);
        }
    })
}

/// `None` for what was not deflated with this sample, or is longer than `room`.
fn inflate(deflated: &[u8], sample: &Sample, room: usize) -> Option<Vec<u8>> {
    let mut inflate = Decompress::new(false);
    inflate.set_dictionary(&sample.0).ok()?;
    let mut text = Vec::with_capacity(room);
    let status = inflate.decompress_vec(deflated, &mut text, FlushDecompress::Finish).ok()?;
    (status == Status::StreamEnd).then_some(text)
}

impl Packed {
    pub(super) fn new(ready: &Ready, sample: Arc<Sample>) -> Result<Self, CompressError> {
        let nodes: Vec<String> = ready.read_set.nodes.iter().map(ToString::to_string).collect();
        let text = [&ready.bytes, nodes.join("\n").as_bytes()].concat();
        let deflated = deflate(&text, &sample)?;
        let (json, text) = (ready.bytes.len(), text.len());
        let (valid_until, ends) = (ready.valid_until, ready.ends);
        Ok(Self { deflated, sample, json, text, nodes: nodes.len(), valid_until, ends })
    }

    /// The answer as it was. `None` would mean damaged memory: then it is computed anew.
    pub(super) fn unpack(&self) -> Option<Ready> {
        let mut text = inflate(&self.deflated, &self.sample, self.text)?;
        let nodes = std::str::from_utf8(text.get(self.json..)?).ok()?;
        let nodes = nodes.lines().map(|node| node.parse().ok()).collect::<Option<_>>()?;
        text.truncate(self.json);
        let verdict: Verdict = serde_json::from_slice(&text).ok()?;
        Some(Ready::of(Evaluated { verdict, reads: ReadSet { nodes }, ends: self.ends }, text))
    }

    pub(super) fn bytes(&self) -> usize {
        self.deflated.len()
    }
}
