//! Names of tiles and bundles: `tile/<level>/<index>[.p/<width>]`, `tile/entries/<index>[.p/<width>]`.

use std::{fmt, str::FromStr};

use super::{BundleId, TileError, TileId, WIDTH};

/// The highest tile level that tlog-tiles allows in a path.
const MAX_LEVEL: u8 = 63;

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

    proptest! {
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
