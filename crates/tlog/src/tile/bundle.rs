//! Entry bundles (C2SP tlog-tiles): the leaves themselves, 256 at most.

use super::{TileError, TileId, WIDTH};

/// Which entry bundle: `tile/entries/<index>[.p/<width>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleId {
    /// The bundle starts with entry `index * 256`.
    pub index: u64,
    /// Entries in it: 1 to 256.
    pub width: u16,
}

impl BundleId {
    /// The bundle `index` as a log of `size` entries has it; `None` if it holds nothing yet.
    pub fn at(index: u64, size: u64) -> Option<Self> {
        TileId::at(0, index, size).map(|tile| Self { index, width: tile.width })
    }

    /// The indexes of its entries.
    pub fn entries(&self) -> std::ops::Range<u64> {
        TileId { level: 0, index: self.index, width: self.width }.row()
    }
}

/// The bytes of an entry bundle: each entry after its length as a big-endian `u16`.
pub fn encode_bundle<B: AsRef<[u8]>>(entries: &[B]) -> Result<Vec<u8>, TileError> {
    if entries.is_empty() || entries.len() > usize::from(WIDTH) {
        return Err(TileError::EntryCount(entries.len()));
    }
    let mut bytes = Vec::new();
    for entry in entries.iter().map(AsRef::as_ref) {
        let length = u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLong(entry.len()))?;
        bytes.extend(length.to_be_bytes());
        bytes.extend(entry);
    }
    Ok(bytes)
}

/// The entries of a bundle.
pub fn decode_bundle(mut bytes: &[u8]) -> Result<Vec<&[u8]>, TileError> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let cut = TileError::BundleCut(entries.len());
        let (length, rest) = bytes.split_first_chunk::<2>().ok_or(cut.clone())?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(cut)?;
        entries.push(entry);
        bytes = rest;
        if entries.len() > usize::from(WIDTH) {
            return Err(TileError::EntryCount(entries.len()));
        }
    }
    if entries.is_empty() { Err(TileError::EntryCount(0)) } else { Ok(entries) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bundles_hold_1_to_256_entries_of_at_most_65535_bytes() {
        assert_eq!(encode_bundle(&[&b"ab"[..], b""]).unwrap(), [0, 2, b'a', b'b', 0, 0]);
        assert!(encode_bundle(&[vec![0; 65_535]]).is_ok());
        assert_eq!(encode_bundle(&[vec![0; 65_536]]), Err(TileError::EntryTooLong(65_536)));
        assert!(encode_bundle(&vec![b"x"; 256]).is_ok());
        assert_eq!(encode_bundle(&vec![b"x"; 257]), Err(TileError::EntryCount(257)));
        assert_eq!(encode_bundle::<&[u8]>(&[]), Err(TileError::EntryCount(0)));
        assert_eq!(decode_bundle(&[0, 1, 7, 0]), Err(TileError::BundleCut(1)));
        assert_eq!(decode_bundle(&[0, 2, 7]), Err(TileError::BundleCut(0)));
        assert_eq!(decode_bundle(&[0; 514]), Err(TileError::EntryCount(257)));
        assert_eq!(decode_bundle(&[]), Err(TileError::EntryCount(0)));
    }

    proptest! {
        #[test]
        fn bundles_come_back(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..=256)) {
            let bytes = encode_bundle(&entries).unwrap();
            prop_assert_eq!(decode_bundle(&bytes).unwrap(), entries);
        }
    }
}
