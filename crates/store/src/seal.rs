//! The seal on rows of facts: a MAC under a key that the database does not hold.
//!
//! It covers tenant, table, primary key, log index, every column and the key's id, so a row cannot be
//! changed, moved to another place, or made by someone who only has the database.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};

/// The MAC keys of the installation: the current one seals, retired ones still open.
#[derive(Clone)]
pub struct SealKeys {
    /// Generation and bytes of the key that seals.
    pub current: (u32, [u8; 32]),
    /// Generations and bytes of keys that sealed before.
    pub retired: Vec<(u32, [u8; 32])>,
}

impl std::fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let retired: Vec<u32> = self.retired.iter().map(|(id, _)| *id).collect();
        f.debug_struct("SealKeys").field("current", &self.current.0).field("retired", &retired).finish()
    }
}

/// What is sealed, in the order in which it is hashed.
pub struct Sealed<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The table.
    pub table: &'static str,
    /// The primary key within the tenant.
    pub key: &'a [u8],
    /// The index of the entry that the row is derived from.
    pub index: u64,
    /// Every other column.
    pub columns: Vec<Option<&'a [u8]>>,
}

impl SealKeys {
    /// The MAC of a row, and the id of the key that made it.
    pub fn seal(&self, row: &Sealed<'_>) -> (u32, Vec<u8>) {
        let (id, bytes) = &self.current;
        (*id, mac(bytes, row, *id).as_ref().to_vec())
    }

    /// Whether `claimed` is this row's seal under the key `id`.
    pub fn opens(&self, row: &Sealed<'_>, id: u32, claimed: &[u8]) -> bool {
        let keys = std::iter::once(&self.current).chain(&self.retired);
        keys.filter(|(known, _)| *known == id)
            .any(|(_, bytes)| verify_slices_are_equal(mac(bytes, row, id).as_ref(), claimed).is_ok())
    }
}

/// Over every part after its length, so that no two rows look alike.
fn mac(key: &[u8; 32], row: &Sealed<'_>, key_id: u32) -> hmac::Tag {
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    mac.update(b"catenary row v1");
    let mut part = |part: &[u8]| {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    };
    part(row.tenant.as_bytes());
    part(row.table.as_bytes());
    part(row.key);
    part(&row.index.to_be_bytes());
    part(&key_id.to_be_bytes());
    for column in &row.columns {
        match column {
            Some(value) => {
                part(&[1]);
                part(value);
            }
            None => part(&[0]),
        }
    }
    mac.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> SealKeys {
        SealKeys { current: (2, [2; 32]), retired: vec![(1, [1; 32])] }
    }

    fn row<'a>(tenant: &'a str, columns: Vec<Option<&'a [u8]>>) -> Sealed<'a> {
        Sealed { tenant, table: "attestation", key: b"id", index: 7, columns }
    }

    #[test]
    fn a_seal_opens_for_its_row_only() {
        let (id, mac) = keys().seal(&row("acme", vec![Some(b"ab"), None]));
        assert!(keys().opens(&row("acme", vec![Some(b"ab"), None]), id, &mac));
        assert!(!keys().opens(&row("acmf", vec![Some(b"ab"), None]), id, &mac));
        assert!(!keys().opens(&row("acme", vec![Some(b"a"), Some(b"b")]), id, &mac));
        assert!(!keys().opens(&row("acme", vec![Some(b"ab"), Some(b"")]), id, &mac));
        assert!(!keys().opens(&row("acme", vec![Some(b"ab")]), id, &mac));
        assert!(!keys().opens(&Sealed { index: 8, ..row("acme", vec![Some(b"ab"), None]) }, id, &mac));
        assert!(!keys().opens(&Sealed { table: "object", ..row("acme", vec![Some(b"ab"), None]) }, id, &mac));
    }

    #[test]
    fn a_retired_key_opens_and_an_unknown_one_does_not() {
        let old = SealKeys { current: (1, [1; 32]), retired: vec![] };
        let (id, mac) = old.seal(&row("acme", vec![]));
        assert!(keys().opens(&row("acme", vec![]), id, &mac));
        assert!(!keys().opens(&row("acme", vec![]), 2, &mac));
        assert!(!keys().opens(&row("acme", vec![]), 3, &mac));
    }

    #[test]
    fn keys_do_not_print() {
        assert!(!format!("{:?}", keys()).contains("2, 2"));
    }
}
