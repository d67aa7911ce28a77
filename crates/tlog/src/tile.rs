//! Tiles (C2SP tlog-tiles): 256 hashes wide, eight tree levels high.
//!
//! A tile at level L holds tree hashes of level 8 L. Only full tiles are stored, once; the hashes of
//! a partial one are leaf hashes (level 0) or the roots of full tiles one level below.

mod bundle;
mod path;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::{
    merkle::{Hash, node_hash},
    proof::Node,
};

pub use bundle::{BundleId, decode_bundle, encode_bundle};
pub(crate) use path::parse_decimal;

/// Hashes in a full tile, entries in a full bundle.
pub const WIDTH: u16 = 256;
/// Tree levels that a tile spans.
const HEIGHT: u8 = 8;

/// Which tile: `tile/<level>/<index>[.p/<width>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// Tile level: 0 holds leaf hashes.
    pub level: u8,
    /// Index within the level.
    pub index: u64,
    /// Hashes in it: 1 to 256; less than 256 is a partial tile.
    pub width: u16,
}

/// Why a path or bytes are not a tile or bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Not a path that tlog-tiles defines.
    #[error("`{0}` is not a tile path")]
    Path(String),
    /// The bytes are not `width` hashes.
    #[error("a tile of {width} hashes takes {expected} bytes, not {found}", expected = *width as usize * 32)]
    Length {
        /// Width of the tile.
        width: u16,
        /// Bytes given.
        found: usize,
    },
    /// An entry is longer than its two length bytes can say.
    #[error("an entry of {0} bytes does not fit a bundle (65535 at most)")]
    EntryTooLong(usize),
    /// A bundle takes 1 to 256 entries.
    #[error("a bundle does not take {0} entries")]
    EntryCount(usize),
    /// The bundle ends inside an entry.
    #[error("the bundle ends inside entry {0}")]
    BundleCut(usize),
}

impl TileId {
    /// Whether the tile is complete and so will never change.
    pub fn is_full(&self) -> bool {
        self.width == WIDTH
    }

    /// The tile at `level` and `index` as a tree of `size` leaves has it; `None` if it holds nothing yet.
    pub fn at(level: u8, index: u64, size: u64) -> Option<Self> {
        let row = size.checked_shr(u32::from(level) * u32::from(HEIGHT)).unwrap_or(0);
        let width = row.saturating_sub(index.checked_mul(u64::from(WIDTH))?).min(u64::from(WIDTH)) as u16;
        (width > 0).then_some(Self { level, index, width })
    }

    /// The range of indexes, within the row of hashes at this tile level, that the tile holds.
    ///
    /// At level 0 they are leaf indexes; above, indexes of full tiles one level below, whose roots they are.
    pub fn row(&self) -> std::ops::Range<u64> {
        let start = self.index.saturating_mul(u64::from(WIDTH));
        start..start.saturating_add(u64::from(self.width))
    }
}

/// The full tiles, at all levels, that growing from `old_size` to `new_size` completes; lower levels first.
pub fn new_tiles(old_size: u64, new_size: u64) -> Vec<TileId> {
    let mut tiles = Vec::new();
    for level in 0..HEIGHT {
        let shift = u32::from(level + 1) * u32::from(HEIGHT);
        let full = |size: u64| size.checked_shr(shift).unwrap_or(0);
        if full(new_size) == 0 {
            break;
        }
        tiles.extend((full(old_size)..full(new_size)).map(|index| TileId { level, index, width: WIDTH }));
    }
    tiles
}

/// A tile's bytes: its hashes, one after the other.
pub fn encode_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a tile of `width`.
pub fn decode_tile(width: u16, bytes: &[u8]) -> Result<Vec<Hash>, TileError> {
    Ok(hashes_of(width, bytes)?.iter().copied().map(Hash).collect())
}

fn hashes_of(width: u16, bytes: &[u8]) -> Result<&[[u8; 32]], TileError> {
    match bytes.as_chunks::<32>() {
        (hashes, []) if hashes.len() == usize::from(width) => Ok(hashes),
        _ => Err(TileError::Length { width, found: bytes.len() }),
    }
}

/// The hash that a full tile contributes to the row of the next tile level.
pub fn tile_root(bytes: &[u8]) -> Result<Hash, TileError> {
    let hashes = decode_tile(WIDTH, bytes)?;
    Ok(complete_root(hashes))
}

/// The tiles, as a tree of `size` leaves has them, from which these complete subtrees can be computed.
///
/// `size` is the tree whose tiles are at hand (the head), which may be larger than the tree of the proof:
/// a tile that is full by now is one look-up.
pub fn tiles_needed(nodes: &[Node], size: u64) -> Vec<TileId> {
    let tiles: BTreeSet<TileId> = nodes
        .iter()
        .filter_map(|&(level, index)| {
            let (tile_level, tile_index, _) = place(level, index)?;
            TileId::at(tile_level, tile_index, size)
        })
        .collect();
    tiles.into_iter().collect()
}

/// A tile, with the root of every complete subtree in it once one is asked for.
#[derive(Debug, Clone)]
pub struct Tile {
    id: TileId,
    hashes: Bytes,
    /// The rows above `hashes`, lowest first.
    upper: OnceLock<Vec<Vec<Hash>>>,
}

impl Tile {
    /// Reads a tile; bytes of another length than its width are refused.
    pub fn decode(id: TileId, hashes: Bytes) -> Result<Self, TileError> {
        hashes_of(id.width, &hashes)?;
        Ok(Self { id, hashes, upper: OnceLock::new() })
    }

    /// Its bytes: what `decode` was given.
    pub fn bytes(&self) -> &Bytes {
        &self.hashes
    }

    /// The root of a complete subtree, if it lies in this tile.
    pub fn node(&self, level: u8, index: u64) -> Option<Hash> {
        let (tile_level, tile_index, under) = place(level, index)?;
        if (tile_level, tile_index) != (self.id.level, self.id.index) {
            return None;
        }
        match usize::from(level % HEIGHT) {
            0 => self.row().get(under.start).copied().map(Hash),
            height => self.upper().get(height - 1)?.get(under.start >> height).copied(),
        }
    }

    fn row(&self) -> &[[u8; 32]] {
        self.hashes.as_chunks::<32>().0
    }

    fn upper(&self) -> &[Vec<Hash>] {
        self.upper.get_or_init(|| {
            let lowest: Vec<Hash> = self.row().iter().copied().map(Hash).collect();
            let rows = std::iter::successors(Some(parents(&lowest)), |row| Some(parents(row)));
            rows.take_while(|row| !row.is_empty()).collect()
        })
    }
}

/// Tiles at hand, as a source of subtree hashes for the functions of [`crate::proof`].
#[derive(Debug, Clone, Default)]
pub struct TileSet {
    tiles: BTreeMap<(u8, u64), Arc<Tile>>,
}

impl TileSet {
    /// No tiles.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tile.
    pub fn insert(&mut self, tile: Arc<Tile>) {
        self.tiles.insert((tile.id.level, tile.id.index), tile);
    }

    /// The hash of a complete subtree, if the tile that holds it is at hand.
    pub fn node(&self, level: u8, index: u64) -> Option<Hash> {
        let (tile_level, tile_index, _) = place(level, index)?;
        self.tiles.get(&(tile_level, tile_index))?.node(level, index)
    }
}

/// Tile level, tile index, and the hashes of the tile that lie under a subtree.
fn place(level: u8, index: u64) -> Option<(u8, u64, std::ops::Range<usize>)> {
    let height = level % HEIGHT;
    let start = index.checked_mul(1 << height)?;
    let offset = (start % u64::from(WIDTH)) as usize;
    Some((level / HEIGHT, start / u64::from(WIDTH), offset..offset + (1 << height)))
}

/// The root over a power of two of hashes.
fn complete_root(mut hashes: Vec<Hash>) -> Hash {
    while hashes.len() > 1 {
        hashes = parents(&hashes);
    }
    hashes.first().copied().unwrap_or(Hash::EMPTY_ROOT)
}

/// The hashes one level above; an odd one at the end has no parent yet.
fn parents(hashes: &[Hash]) -> Vec<Hash> {
    hashes.as_chunks::<2>().0.iter().map(|&[left, right]| node_hash(left, right)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        merkle::Frontier,
        oracle,
        proof::{
            needed_consistency, needed_inclusion, needed_root, prove_inclusion, root_at, verify_inclusion,
        },
    };

    /// A log that keeps what the store keeps: full tiles, and leaf hashes.
    struct Log {
        leaves: Vec<Hash>,
        full: BTreeMap<TileId, Vec<u8>>,
    }

    impl Log {
        fn grown_to(sizes: &[usize]) -> Self {
            let last = sizes.last().copied().unwrap_or(0);
            let mut log = Self { leaves: oracle::leaf_hashes(last), full: BTreeMap::new() };
            let mut old = 0;
            for &size in sizes {
                for tile in new_tiles(old as u64, size as u64) {
                    let bytes = log.load(tile);
                    assert!(log.full.insert(tile, bytes).is_none(), "{tile} is written once");
                }
                old = size;
            }
            log
        }

        /// How a store loads any tile.
        fn load(&self, tile: TileId) -> Vec<u8> {
            if let Some(bytes) = self.full.get(&tile) {
                return bytes.clone();
            }
            let hashes: Vec<Hash> = tile
                .row()
                .map(|index| match tile.level {
                    0 => self.leaves[index as usize],
                    level => {
                        tile_root(&self.full[&TileId { level: level - 1, index, width: WIDTH }]).unwrap()
                    }
                })
                .collect();
            encode_tile(&hashes)
        }

        fn tiles_for(&self, nodes: &[Node]) -> TileSet {
            let mut set = TileSet::new();
            for tile in tiles_needed(nodes, self.leaves.len() as u64) {
                set.insert(Arc::new(Tile::decode(tile, self.load(tile).into()).unwrap()));
            }
            set
        }
    }

    #[test]
    fn tiles_and_right_edge_agree_around_every_boundary() {
        for size in [1usize, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 66_000] {
            let log = Log::grown_to(&[size / 3, size / 2, size]);
            let mut frontier = Frontier::new();
            log.leaves.iter().for_each(|leaf| {
                frontier.push(*leaf);
            });
            let size = size as u64;
            let root = frontier.root();
            let set = log.tiles_for(&needed_root(size).unwrap());
            assert_eq!(root_at(size, |l, i| set.node(l, i)).unwrap(), root, "size {size}");
            for index in [0, 1, size / 2, size.saturating_sub(257), size - 1] {
                let index = index.min(size - 1);
                let needed = needed_inclusion(index, size).unwrap();
                let set = log.tiles_for(&needed);
                let proof = prove_inclusion(index, size, |l, i| set.node(l, i)).unwrap();
                verify_inclusion(log.leaves[index as usize], index, size, &proof, root).unwrap();
            }
        }
    }

    #[test]
    fn a_past_root_comes_from_the_tiles_of_today() {
        let log = Log::grown_to(&[100, 256, 700, 1000]);
        for past in [0u64, 1, 255, 256, 300, 777, 999, 1000] {
            let set = log.tiles_for(&needed_root(past).unwrap());
            let expected = oracle::root(&log.leaves[..past as usize]);
            assert_eq!(root_at(past, |l, i| set.node(l, i)).unwrap(), expected);
            let set = log.tiles_for(&needed_consistency(past, 1000).unwrap());
            let proof = crate::prove_consistency(past, 1000, |l, i| set.node(l, i)).unwrap();
            crate::verify_consistency(past, expected, 1000, oracle::root(&log.leaves), &proof).unwrap();
        }
    }

    #[test]
    fn new_tiles_are_exactly_those_completed() {
        let tile = |level, index| TileId { level, index, width: 256 };
        assert_eq!(new_tiles(0, 255), []);
        assert_eq!(new_tiles(0, 256), [tile(0, 0)]);
        assert_eq!(new_tiles(255, 257), [tile(0, 0)]);
        assert_eq!(new_tiles(256, 511), []);
        assert_eq!(new_tiles(65_535, 65_536), [tile(0, 255), tile(1, 0)]);
        assert_eq!(new_tiles(0, 65_537).len(), 257);
        assert_eq!(new_tiles(5, 5), []);
        assert_eq!(new_tiles(u64::MAX - 1, u64::MAX), []);
    }

    #[test]
    fn hostile_tile_numbers_hold_nothing() {
        assert_eq!(TileId::at(0, u64::MAX, 1000), None);
        assert_eq!(TileId::at(63, 0, u64::MAX), None);
        assert_eq!(TileId::at(0, 4, 1000), None);
        assert_eq!(TileId::at(0, 3, 1000).map(|t| t.width), Some(232));
        assert_eq!(BundleId::at(3, 1000).map(|b| b.entries()), Some(768..1000));
        assert_eq!(tiles_needed(&[(63, u64::MAX), (0, u64::MAX)], 1000), []);
    }

    #[test]
    fn a_subtree_is_not_read_from_another_tile_or_from_cut_bytes() {
        let id = TileId { level: 0, index: 1, width: 3 };
        let bytes = encode_tile(&oracle::leaf_hashes(3));
        let tile = Tile::decode(id, bytes.clone().into()).unwrap();
        assert!(tile.node(0, 258).is_some());
        for (level, index) in [(0, 259), (0, 2), (1, 129), (8, 1)] {
            assert_eq!(tile.node(level, index), None, "{level} {index}");
        }
        assert!(matches!(Tile::decode(id, bytes[1..].to_vec().into()), Err(TileError::Length { .. })));
        assert!(matches!(Tile::decode(id, bytes[32..].to_vec().into()), Err(TileError::Length { .. })));
        assert!(tile_root(&bytes).is_err());
    }
}
