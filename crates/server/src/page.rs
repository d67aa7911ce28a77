//! Pages: limits, and cursors that only we can make.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{App, problem::Fault};

/// The most items of a page.
pub const MAX_LIMIT: u32 = 200;
const DEFAULT_LIMIT: u32 = 50;
const TAG: usize = 16;
const FOREIGN: &str = "the cursor is not one of this list";

/// The size of a page.
pub fn limit(asked: Option<u32>) -> Result<u32, Fault> {
    match asked {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(other) => Err(Fault::Pagination(format!("limit {other} is not 1 to {MAX_LIMIT}"))),
    }
}

/// Cuts a list that was read with one item more than the page takes. Whether there are more.
pub fn cut<T>(rows: &mut Vec<T>, limit: u32) -> bool {
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    more
}

/// A cursor for what lies below `index` in the list `shape` of a tenant.
pub fn seal(app: &App, tenant: &str, shape: &str, index: u64) -> String {
    seal_place(app, tenant, shape, &index.to_be_bytes())
}

/// Reads a cursor; one of another tenant or list, or one that we did not make, is refused.
pub fn open(app: &App, tenant: &str, shape: &str, cursor: &str) -> Result<u64, Fault> {
    let place = open_place(app, tenant, shape, cursor)?;
    let index = place.try_into().map_err(|_| Fault::Pagination(FOREIGN.into()))?;
    Ok(u64::from_be_bytes(index))
}

/// A cursor for a place that is no index.
pub fn seal_place(app: &App, tenant: &str, shape: &str, place: &[u8]) -> String {
    write(&key(app), tenant, shape, place)
}

/// Reads such a cursor.
pub fn open_place(app: &App, tenant: &str, shape: &str, cursor: &str) -> Result<Vec<u8>, Fault> {
    read(&key(app), tenant, shape, cursor).ok_or_else(|| Fault::Pagination(FOREIGN.into()))
}

fn key(app: &App) -> hmac::Key {
    // A label keeps cursors apart from the seals of rows, which have the same key.
    let (_, mac) = app.backend.keys.mac_current();
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &mac), b"catenary cursor v1");
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
}

fn tag(key: &hmac::Key, tenant: &str, shape: &str, place: &[u8]) -> hmac::Tag {
    let mut message = b"place".to_vec();
    for part in [tenant.as_bytes(), shape.as_bytes(), place] {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part);
    }
    hmac::sign(key, &message)
}

fn write(key: &hmac::Key, tenant: &str, shape: &str, place: &[u8]) -> String {
    let mut bytes = tag(key, tenant, shape, place).as_ref()[..TAG].to_vec();
    bytes.extend_from_slice(place);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read(key: &hmac::Key, tenant: &str, shape: &str, cursor: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().filter(|bytes| bytes.len() <= 1024)?;
    let (given, place) = bytes.split_at_checked(TAG)?;
    let expected = tag(key, tenant, shape, place);
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
        let cursor = write(&key, "acme", "all", b"a place");
        assert_eq!(read(&key, "acme", "all", &cursor), Some(b"a place".to_vec()));
        assert_eq!(read(&key, "globex", "all", &cursor), None);
        assert_eq!(read(&key, "acme", "unverified", &cursor), None);
        assert_eq!(read(&hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]), "acme", "all", &cursor), None);
        for forged in ["", "AAAA", "!", &cursor[1..], &format!("{cursor}AA")] {
            assert_eq!(read(&key, "acme", "all", forged), None, "{forged}");
        }
    }

    #[test]
    fn a_page_that_is_full_says_whether_there_is_more() {
        let page = |read: usize| {
            let mut rows = vec![(); read];
            (cut(&mut rows, 2), rows.len())
        };
        assert_eq!([page(1), page(2), page(3)], [(false, 1), (false, 2), (true, 2)]);
    }
}
