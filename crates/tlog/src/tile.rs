//! Tiles and entry bundles (C2SP tlog-tiles): 256 hashes or entries wide, eight tree levels high.
//!
//! A tile at level L holds tree hashes of level 8 L. Only full tiles are stored, once; the hashes of
//! a partial one are leaf hashes (level 0) or the roots of full tiles one level below.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::{
    merkle::{Hash, node_hash},
    proof::Node,
};

/// Hashes in a full tile, entries in a full bundle.
pub const WIDTH: u16 = 256;
/// Tree levels that a tile spans.
const HEIGHT: u8 = 8;
/// The highest tile level that tlog-tiles allows in a path.
const MAX_LEVEL: u8 = 63;

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

/// Which entry bundle: `tile/entries/<index>[.p/<width>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleId {
    /// The bundle starts with entry `index * 256`.
    pub index: u64,
    /// Entries in it: 1 to 256.
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
    if bytes.len() != usize::from(width) * 32 {
        return Err(TileError::Length { width, found: bytes.len() });
    }
    Ok(bytes.as_chunks::<32>().0.iter().copied().map(Hash).collect())
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
        if hashes.len() != usize::from(id.width) * 32 {
            return Err(TileError::Length { width: id.width, found: hashes.len() });
        }
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

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.level)?;
        write_index(f, self.index, self.width)
    }
}

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tile/entries/")?;
        write_index(f, self.index, self.width)
    }
}

impl FromStr for TileId {
    type Err = TileError;
    fn from_str(path: &str) -> Result<Self, TileError> {
        parse_tile(path).ok_or_else(|| TileError::Path(path.to_owned()))
    }
}

impl FromStr for BundleId {
    type Err = TileError;
    fn from_str(path: &str) -> Result<Self, TileError> {
        path.strip_prefix("tile/entries/")
            .and_then(parse_index)
            .map(|(index, width)| Self { index, width })
            .ok_or_else(|| TileError::Path(path.to_owned()))
    }
}

fn parse_tile(path: &str) -> Option<TileId> {
    let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let level = u8::try_from(parse_decimal(level)?).ok().filter(|level| *level <= MAX_LEVEL)?;
    let (index, width) = parse_index(rest)?;
    Some(TileId { level, index, width })
}

/// Writes 1234067 as `x001/x234/067`, and the width of a partial tile.
fn write_index(f: &mut fmt::Formatter<'_>, index: u64, width: u16) -> fmt::Result {
    let mut text = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1000);
        rest /= 1000;
    }
    f.write_str(&text)?;
    if width == WIDTH { Ok(()) } else { write!(f, ".p/{width}") }
}

/// Reads what [`write_index`] writes, and nothing else.
fn parse_index(text: &str) -> Option<(u64, u16)> {
    let (number, width) = match text.split_once(".p/") {
        Some((number, width)) => {
            let width = u16::try_from(parse_decimal(width)?).ok()?;
            (number, Some(width).filter(|width| (1..WIDTH).contains(width))?)
        }
        None => (text, WIDTH),
    };
    let mut groups = number.split('/').collect::<Vec<_>>();
    let last = groups.pop()?;
    let mut index = 0u64;
    for group in groups.iter().map(|group| group.strip_prefix('x')).chain([Some(last)]) {
        let group = group.filter(|g| g.len() == 3 && g.bytes().all(|b| b.is_ascii_digit()))?;
        index = index.checked_mul(1000)?.checked_add(group.parse().ok()?)?;
    }
    // A leading `x000` would give one tile two paths.
    if groups.first() == Some(&"x000") { None } else { Some((index, width)) }
}

/// A decimal number without sign or leading zeros.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn paths_are_those_of_the_specification() {
        for (tile, path) in [
            (TileId { level: 0, index: 0, width: 256 }, "tile/0/000"),
            (TileId { level: 0, index: 1_234_067, width: 256 }, "tile/0/x001/x234/067"),
            (TileId { level: 1, index: 0, width: 1 }, "tile/1/000.p/1"),
            (TileId { level: 0, index: 273, width: 112 }, "tile/0/273.p/112"),
            (TileId { level: 7, index: 1000, width: 255 }, "tile/7/x001/000.p/255"),
        ] {
            assert_eq!(tile.to_string(), path);
            assert_eq!(path.parse::<TileId>().unwrap(), tile);
        }
        let bundle = BundleId { index: 1_000_000, width: 7 };
        assert_eq!(bundle.to_string(), "tile/entries/x001/x000/000.p/7");
        assert_eq!(bundle.to_string().parse::<BundleId>().unwrap(), bundle);
    }

    #[test]
    fn a_tile_has_one_path_only() {
        for bad in [
            "tile/0/0",
            "tile/0/0000",
            "tile/0/x000/000",
            "tile/0/x000/x001/000",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/+1/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000.p",
            "tile/0/001/000",
            "tile/0/x001",
            "tile/0/x001/x000",
            "tile/0/",
            "tile/0",
            "/tile/0/000",
            "tile/0/000/",
            "tile/0/00a",
            "tile/0/+01",
            "tile/8/0/023/1",
            "tile/entries/000",
            "tile/0/000.p/1.p/1",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "tile/0/٠٠٠",
            "",
        ] {
            assert_eq!(bad.parse::<TileId>(), Err(TileError::Path(bad.to_owned())), "{bad}");
        }
        let largest = TileId { level: 0, index: u64::MAX, width: 256 };
        assert_eq!(largest.to_string().parse::<TileId>().unwrap(), largest);
        assert!("tile/0/000".parse::<BundleId>().is_err());
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

        #[test]
        fn paths_come_back(level in 0u8..=63, index in any::<u64>(), width in 1u16..=256) {
            let tile = TileId { level, index, width };
            prop_assert_eq!(tile.to_string().parse::<TileId>().unwrap(), tile);
        }

        #[test]
        fn no_text_parses_to_a_tile_that_prints_otherwise(text in "tile/[0-9]{1,2}/(x?[0-9]{3}/){0,3}[0-9]{3}(\\.p/[0-9]{1,3})?") {
            if let Ok(tile) = text.parse::<TileId>() {
                prop_assert_eq!(tile.to_string(), text);
            }
        }
    }
}
