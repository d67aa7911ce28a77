//! Pages: limits, and cursors that only we can make.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{App, problem::Fault};

/// The most items of a page.
pub const MAX_LIMIT: u32 = 200;
const DEFAULT_LIMIT: u32 = 50;
const TAG: usize = 16;

/// The size of a page.
pub fn limit(asked: Option<u32>) -> Result<u32, Fault> {
    match asked {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(other) => Err(Fault::Pagination(format!("limit {other} is not 1 to {MAX_LIMIT}"))),
    }
}

/// A cursor for what lies below `index` in the list `shape` of a tenant.
pub fn seal(app: &App, tenant: &str, shape: &str, index: u64) -> String {
    write(&key(app), tenant, shape, index)
}

/// Reads a cursor; one of another tenant or list, or one that we did not make, is refused.
pub fn open(app: &App, tenant: &str, shape: &str, cursor: &str) -> Result<u64, Fault> {
    read(&key(app), tenant, shape, cursor)
        .ok_or_else(|| Fault::Pagination("the cursor is not one of this list".into()))
}

/// A cursor for a place that is no index.
pub fn seal_place(app: &App, tenant: &str, shape: &str, place: &[u8]) -> String {
    write_place(&key(app), tenant, shape, place)
}

/// Reads such a cursor.
pub fn open_place(app: &App, tenant: &str, shape: &str, cursor: &str) -> Result<Vec<u8>, Fault> {
    read_place(&key(app), tenant, shape, cursor)
        .ok_or_else(|| Fault::Pagination("the cursor is not one of this list".into()))
}

fn key(app: &App) -> hmac::Key {
    // A label keeps cursors apart from the seals of rows, which have the same key.
    let (_, mac) = app.backend.keys.mac_current();
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &mac), b"catenary cursor v1");
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
}

fn tag(key: &hmac::Key, tenant: &str, shape: &str, index: u64) -> hmac::Tag {
    let mut message = (tenant.len() as u64).to_be_bytes().to_vec();
    message.extend_from_slice(tenant.as_bytes());
    message.extend_from_slice(&index.to_be_bytes());
    message.extend_from_slice(shape.as_bytes());
    hmac::sign(key, &message)
}

fn write(key: &hmac::Key, tenant: &str, shape: &str, index: u64) -> String {
    let mut bytes = index.to_be_bytes().to_vec();
    bytes.extend_from_slice(&tag(key, tenant, shape, index).as_ref()[..TAG]);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read(key: &hmac::Key, tenant: &str, shape: &str, cursor: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (index, given) = bytes.split_first_chunk::<8>()?;
    let index = u64::from_be_bytes(*index);
    let expected = tag(key, tenant, shape, index);
    aws_lc_rs::constant_time::verify_slices_are_equal(given, &expected.as_ref()[..TAG]).ok()?;
    Some(index)
}

fn place_tag(key: &hmac::Key, tenant: &str, shape: &str, place: &[u8]) -> hmac::Tag {
    let mut message = b"place".to_vec();
    for part in [tenant.as_bytes(), shape.as_bytes(), place] {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part);
    }
    hmac::sign(key, &message)
}

fn write_place(key: &hmac::Key, tenant: &str, shape: &str, place: &[u8]) -> String {
    let mut bytes = place_tag(key, tenant, shape, place).as_ref()[..TAG].to_vec();
    bytes.extend_from_slice(place);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read_place(key: &hmac::Key, tenant: &str, shape: &str, cursor: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().filter(|bytes| bytes.len() <= 1024)?;
    let (given, place) = bytes.split_at_checked(TAG)?;
    let expected = place_tag(key, tenant, shape, place);
    aws_lc_rs::constant_time::verify_slices_are_equal(given, &expected.as_ref()[..TAG]).ok()?;
    Some(place.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h35_a_page_has_1_to_200_items() {
        assert_eq!(limit(None).ok(), Some(50));
        assert_eq!(limit(Some(200)).ok(), Some(200));
        assert_eq!(limit(Some(0)).unwrap_err().code(), "REQ_PAGINATION");
        assert_eq!(limit(Some(201)).unwrap_err().code(), "REQ_PAGINATION");
    }

    #[test]
    fn h35_a_cursor_is_for_one_list_of_one_tenant() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let cursor = write(&key, "acme", "all", 42);
        assert_eq!(read(&key, "acme", "all", &cursor), Some(42));
        assert_eq!(read(&key, "globex", "all", &cursor), None);
        assert_eq!(read(&key, "acme", "unverified", &cursor), None);
        assert_eq!(read(&hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]), "acme", "all", &cursor), None);
        for forged in ["", "AAAA", "!", &cursor[1..], &format!("{cursor}AA")] {
            assert_eq!(read(&key, "acme", "all", forged), None, "{forged}");
            assert_eq!(read_place(&key, "acme", "all", forged), None, "{forged}");
        }
        let place = write_place(&key, "acme", "all", b"a place");
        assert_eq!(read_place(&key, "acme", "all", &place), Some(b"a place".to_vec()));
        assert_eq!(read_place(&key, "globex", "all", &place), None);
        assert_eq!(read_place(&key, "acme", "other", &place), None);
    }
}
