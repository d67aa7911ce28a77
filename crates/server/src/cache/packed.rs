//! An answer as it is kept while nobody asks for it: compressed, with what it read.

use std::io::{Read as _, Write as _};

use catenary_chain::{ReadSet, Verdict};
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
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

impl Packed {
    pub(super) fn new(ready: &Ready) -> std::io::Result<Self> {
        let nodes: Vec<String> = ready.read_set.nodes.iter().map(ToString::to_string).collect();
        let mut encoder = DeflateEncoder::new(Vec::with_capacity(2048), Compression::fast());
        encoder.write_all(&ready.bytes)?;
        encoder.write_all(nodes.join("\n").as_bytes())?;
        let deflated = encoder.finish()?.into_boxed_slice();
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
