//! An answer as it is kept while nobody asks for it: compressed, with what it read.

use std::{cell::RefCell, io::Read as _};

use catenary_chain::{ReadSet, Verdict};
use flate2::{Compress, CompressError, Compression, FlushCompress, Status, read::DeflateDecoder};
use jiff::Timestamp;

use super::Ready;

/// A verdict's JSON is a third of its size when its hashes are written once, and a node that it names costs nothing more.
#[derive(Debug)]
pub(super) struct Packed {
    deflated: Box<[u8]>,
    /// Length of the JSON; the nodes follow, one a line.
    json: usize,
    /// How many nodes it read.
    pub(super) nodes: usize,
    pub(super) valid_until: Timestamp,
}

thread_local! {
    /// Its tables are a hundred times as large as a verdict: made once a thread.
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
}

fn deflate(text: &[u8]) -> Result<Box<[u8]>, CompressError> {
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
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

impl Packed {
    pub(super) fn new(ready: &Ready) -> Result<Self, CompressError> {
        let nodes: Vec<String> = ready.read_set.nodes.iter().map(ToString::to_string).collect();
        let deflated = deflate(&[&ready.bytes, nodes.join("\n").as_bytes()].concat())?;
        Ok(Self { deflated, json: ready.bytes.len(), nodes: nodes.len(), valid_until: ready.valid_until })
    }

    /// The answer as it was. `None` would mean damaged memory: then it is computed anew.
    pub(super) fn unpack(&self) -> Option<Ready> {
        let mut text = Vec::with_capacity(self.json + 80 * self.nodes);
        DeflateDecoder::new(&*self.deflated).read_to_end(&mut text).ok()?;
        let nodes = std::str::from_utf8(text.get(self.json..)?).ok()?;
        let nodes = nodes.lines().map(|node| node.parse().ok()).collect::<Option<_>>()?;
        text.truncate(self.json);
        let verdict: Verdict = serde_json::from_slice(&text).ok()?;
        Some(Ready::of(verdict, text, ReadSet { nodes }))
    }

    pub(super) fn bytes(&self) -> usize {
        self.deflated.len()
    }
}
