//! The leaf: one canonical JSON record per entry, of at most 4 KiB.
//!
//! A leaf points to its body by digest; bodies lie beside the log. There is one way to write a leaf,
//! and [`Leaf::decode`] refuses every other, so a leaf and its hash say the same. What a kind means
//! is for the reader of the log: unknown kinds decode.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::{Timestamp, Unit, tz::TimeZone};
use serde_json::{Map, Value};

use crate::merkle::Hash;

/// The most bytes of an encoded leaf. A C2SP entry could have 65,535; ours only point.
pub const MAX_LEAF: usize = 4096;
/// The most that a body size may be: the largest integer that every JSON reader keeps exact.
const MAX_BODY_SIZE: u64 = (1 << 53) - 1;
/// The format version that this crate writes and reads.
pub const VERSION: u8 = 1;
/// Members that every leaf has; by-kind members have other names.
const COMMON: [&str; 6] = ["body", "id", "kind", "submitter", "time", "v"];

/// The kinds of this release.
pub mod kind {
    macro_rules! kinds {
        ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
            $($(#[$doc])* pub const $name: &str = $text;)*

            /// All of them.
            pub const ALL: &[&str] = &[$($name),*];
        };
    }

    kinds! {
        /// Entry 0: fixes the log's origin.
        LOG_ORIGIN = "log.origin",
        /// An envelope or bundle.
        ATTESTATION = "attestation",
        /// Content-addressed bytes.
        OBJECT = "object",
        /// A key or trust root was registered.
        TRUST_ADDED = "trust.added",
        /// All stored evidence was verified under it.
        TRUST_EFFECTIVE = "trust.effective",
        /// A trust domain was withdrawn.
        TRUST_WITHDRAWN = "trust.withdrawn",
        /// A policy revision became active.
        POLICY_APPLIED = "policy.applied",
        /// A policy revision was proposed.
        POLICY_DRAFTED = "policy.drafted",
        /// The tests inside a policy revision were run.
        POLICY_TESTED = "policy.tested",
        /// A policy revision was approved.
        POLICY_APPROVED = "policy.approved",
        /// A policy revision that was there became active.
        POLICY_ACTIVATED = "policy.activated",
        /// An exception was asked for.
        EXCEPTION_REQUESTED = "exception.requested",
        /// An exception was approved.
        EXCEPTION_APPROVED = "exception.approved",
        /// An exception was withdrawn.
        EXCEPTION_WITHDRAWN = "exception.withdrawn",
        /// How many must stand behind what is added to trust.
        TRUST_RULES = "trust.rules",
        /// Somebody stands behind what was added to trust.
        TRUST_APPROVED = "trust.approved",
        /// The ids of a repository were pinned on first use.
        TRUST_PINNED = "trust.pinned",
        /// The members of a group were set.
        GROUP_SET = "group.set",
        /// Something is no longer trusted.
        REVOCATION = "revocation",
        /// An API token was made.
        TOKEN_CREATED = "token.created",
        /// An API token was revoked.
        TOKEN_REVOKED = "token.revoked",
        /// A tenant was made.
        TENANT_CREATED = "tenant.created",
        /// A body was erased, with its reason.
        EVIDENCE_ERASED = "evidence.erased",
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The format version: 1.
    pub v: u8,
    /// What the entry records; see [`kind`].
    pub kind: String,
    /// When the log took it in, to the microsecond.
    pub time: Timestamp,
    /// The bytes it is about.
    pub body: Body,
    /// SHA-256 of the item's exact bytes: the id under which it is known.
    pub id: Hash,
    /// SHA-256 of the submitting credential's public id; all zeros where the service itself wrote.
    pub submitter: Hash,
    /// Members by kind, such as `payload`, `predicateType`, `node`, `mediaType`, `key`, `origin`.
    pub extra: BTreeMap<String, String>,
}

/// The bytes that lie beside the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    /// Their SHA-256.
    pub sha256: Hash,
    /// Their length.
    pub size: u64,
}

/// Why a leaf cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// The encoded leaf is longer than [`MAX_LEAF`].
    #[error("a leaf of {0} bytes is over the limit of {MAX_LEAF}")]
    TooLong(usize),
    /// Not a version that this crate knows.
    #[error("leaf version {0} is not known")]
    Version(u8),
    /// A kind is 1 to 64 of `a-z`, `0-9`, `.`, `-`.
    #[error("`{0}` is not a kind")]
    Kind(String),
    /// Not a whole number of microseconds, or outside the years 0 to 9999.
    #[error("{0} is not a leaf time (whole microseconds, years 0 to 9999)")]
    Time(Timestamp),
    /// More than 2^53 - 1 bytes.
    #[error("a body of {0} bytes is over the limit")]
    BodySize(u64),
    /// A by-kind member takes a name of 1 to 64 letters and digits that no common member has.
    #[error("`{0}` cannot name a by-kind member")]
    MemberName(String),
    /// Not JSON.
    #[error("the leaf is not JSON: {0}")]
    NotJson(String),
    /// A member is missing or of another type.
    #[error("the leaf's member `{0}` is missing or malformed")]
    Member(String),
    /// The same record in another spelling: spaces, order, escapes, a member twice.
    #[error("the leaf is not written in its canonical form")]
    NotCanonical,
}

impl Body {
    /// The body that has these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: Hash::of(bytes), size: bytes.len() as u64 }
    }
}

impl Leaf {
    /// A leaf about `bytes`, which are both item and body, without by-kind members.
    pub fn new(kind: &str, time: Timestamp, bytes: &[u8], submitter: Hash) -> Self {
        Self::about(kind, time, Body::of(bytes), submitter)
    }

    /// The same about bytes that were hashed before.
    pub fn about(kind: &str, time: Timestamp, body: Body, submitter: Hash) -> Self {
        Self {
            v: VERSION,
            kind: kind.to_owned(),
            time: to_microseconds(time),
            body,
            id: body.sha256,
            submitter,
            extra: BTreeMap::new(),
        }
    }

    /// Entry 0 of the log `name`. Its body is the name itself.
    pub fn origin(name: &str, time: Timestamp) -> Self {
        Self::new(kind::LOG_ORIGIN, time, name.as_bytes(), Hash([0; 32])).with("origin", name)
    }

    /// The leaf with one by-kind member more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.extra.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The canonical bytes: keys sorted, no spaces, ASCII.
    pub fn encode(&self) -> Result<Vec<u8>, LeafError> {
        self.check()?;
        let mut members = BTreeMap::from([
            ("body", format!(r#"{{"sha256":"{}","size":{}}}"#, self.body.sha256, self.body.size)),
            ("id", format!(r#""sha256:{}""#, self.id)),
            ("kind", quoted(&self.kind)),
            ("submitter", format!(r#""sha256:{}""#, self.submitter)),
            ("time", quoted(&time_text(self.time))),
            ("v", self.v.to_string()),
        ]);
        members.extend(self.extra.iter().map(|(name, value)| (name.as_str(), quoted(value))));
        let members: Vec<String> =
            members.into_iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
        let bytes = format!("{{{}}}", members.join(",")).into_bytes();
        if bytes.len() > MAX_LEAF { Err(LeafError::TooLong(bytes.len())) } else { Ok(bytes) }
    }

    /// Reads a leaf; whatever does not encode to the same bytes again is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, LeafError> {
        if bytes.len() > MAX_LEAF {
            return Err(LeafError::TooLong(bytes.len()));
        }
        let mut members: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|error| LeafError::NotJson(error.to_string()))?;
        let v = number(&mut members, "v")?;
        let v = u8::try_from(v).map_err(|_| LeafError::Member("v".into()))?;
        let Some(Value::Object(mut body)) = members.remove("body") else {
            return Err(LeafError::Member("body".into()));
        };
        let leaf = Self {
            v,
            kind: text(&mut members, "kind")?,
            time: parsed(&mut members, "time", |text| text.parse().ok())?,
            body: Body {
                sha256: parsed(&mut body, "sha256", |text| text.parse().ok())?,
                size: number(&mut body, "size")?,
            },
            id: parsed(&mut members, "id", digest)?,
            submitter: parsed(&mut members, "submitter", digest)?,
            extra: members
                .into_iter()
                .map(|(name, value)| match value {
                    Value::String(value) => Ok((name, value)),
                    _ => Err(LeafError::Member(name)),
                })
                .collect::<Result<_, _>>()?,
        };
        if leaf.encode()? == bytes { Ok(leaf) } else { Err(LeafError::NotCanonical) }
    }

    fn check(&self) -> Result<(), LeafError> {
        if self.v != VERSION {
            return Err(LeafError::Version(self.v));
        }
        let kind_char = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
        if !(1..=64).contains(&self.kind.len()) || !self.kind.bytes().all(kind_char) {
            return Err(LeafError::Kind(self.kind.clone()));
        }
        let year = self.time.to_zoned(TimeZone::UTC).year();
        if self.time != to_microseconds(self.time) || !(0..=9999).contains(&year) {
            return Err(LeafError::Time(self.time));
        }
        if self.body.size > MAX_BODY_SIZE {
            return Err(LeafError::BodySize(self.body.size));
        }
        let bad_name = |name: &&String| {
            !(1..=64).contains(&name.len())
                || !name.bytes().all(|b| b.is_ascii_alphanumeric())
                || COMMON.contains(&name.as_str())
        };
        match self.extra.keys().find(bad_name) {
            Some(name) => Err(LeafError::MemberName(name.clone())),
            None => Ok(()),
        }
    }
}

/// The whole microsecond at or before `time`: the precision of a leaf, and of Postgres.
pub fn to_microseconds(time: Timestamp) -> Timestamp {
    let floor = jiff::TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Floor);
    time.round(floor).unwrap_or(time)
}

/// `2026-11-20T10:00:00.000000Z`.
fn time_text(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// A JSON string in ASCII: short escapes where JSON has them, else `\u` and lower-case hex.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='\u{7f}' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

fn digest(text: &str) -> Option<Hash> {
    text.strip_prefix("sha256:")?.parse().ok()
}

fn number(members: &mut Map<String, Value>, name: &str) -> Result<u64, LeafError> {
    members.remove(name).as_ref().and_then(Value::as_u64).ok_or_else(|| LeafError::Member(name.to_owned()))
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<String, LeafError> {
    parsed(members, name, |text| Some(text.to_owned()))
}

fn parsed<T>(
    members: &mut Map<String, Value>,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, LeafError> {
    members
        .remove(name)
        .as_ref()
        .and_then(Value::as_str)
        .and_then(parse)
        .ok_or_else(|| LeafError::Member(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time() -> Timestamp {
        "2026-11-20T10:00:00.000001Z".parse().unwrap()
    }

    fn leaf() -> Leaf {
        Leaf::new(kind::ATTESTATION, time(), b"{}", Hash([5; 32]))
            .with("predicateType", "https://slsa.dev/provenance/v1")
    }

    #[test]
    fn a_leaf_is_sorted_ascii_json() {
        let text = String::from_utf8(Leaf::origin("log.example/acme", time()).encode().unwrap()).unwrap();
        let hash = Hash::of(b"log.example/acme");
        assert_eq!(
            text,
            format!(
                r#"{{"body":{{"sha256":"{hash}","size":16}},"id":"sha256:{hash}","kind":"log.origin","origin":"log.example/acme","submitter":"sha256:{}","time":"2026-11-20T10:00:00.000001Z","v":1}}"#,
                "0".repeat(64)
            )
        );
    }

    #[test]
    fn strings_are_escaped_to_ascii() {
        let leaf = leaf().with("name", "a\"\\\n\t\u{1}\u{7f}é😀/");
        let text = String::from_utf8(leaf.encode().unwrap()).unwrap();
        assert!(text.contains("\"name\":\"a\\\"\\\\\\n\\t\\u0001\u{7f}\\u00e9\\ud83d\\ude00/\""), "{text}");
        assert!(text.is_ascii());
        assert_eq!(Leaf::decode(text.as_bytes()).unwrap(), leaf);
    }

    #[test]
    fn times_have_six_digits_always() {
        for (given, written) in [
            ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00.000000Z"),
            ("2026-11-20T10:00:00.5Z", "2026-11-20T10:00:00.500000Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000Z"),
            ("9999-12-30T22:00:00.999999Z", "9999-12-30T22:00:00.999999Z"),
            ("2026-11-20T10:00:00.1234567Z", "2026-11-20T10:00:00.123456Z"),
            ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
        ] {
            let leaf = Leaf::new(kind::OBJECT, given.parse().unwrap(), b"", Hash([0; 32]));
            let text = String::from_utf8(leaf.encode().unwrap()).unwrap();
            assert!(text.contains(&format!("\"time\":\"{written}\"")), "{text}");
        }
        let mut fine = leaf();
        fine.time = "2026-11-20T10:00:00.000000001Z".parse().unwrap();
        assert_eq!(fine.encode(), Err(LeafError::Time(fine.time)));
        fine.time = "-000001-12-31T00:00:00Z".parse().unwrap();
        assert_eq!(fine.encode(), Err(LeafError::Time(fine.time)));
    }

    #[test]
    fn unknown_kinds_decode() {
        let mut future = leaf();
        future.kind = "witness.cosigned".into();
        assert_eq!(Leaf::decode(&future.encode().unwrap()).unwrap(), future);
    }

    #[test]
    fn another_spelling_of_the_same_record_is_refused() {
        let good = String::from_utf8(leaf().encode().unwrap()).unwrap();
        assert!(Leaf::decode(good.as_bytes()).is_ok());
        let reordered = format!("{{\"v\":1,{}}}", &good[1..good.len() - 7]);
        assert!(serde_json::from_str::<Value>(&reordered).is_ok());
        for bad in [
            good.replacen(":", ": ", 1),
            format!("{good}\n"),
            good.replace("\"kind\"", "\"\\u006bind\""),
            good.replace("000001Z", "000001+00:00"),
            good.replace(".000001Z", ".0000010Z"),
            good.replace("2026-11-20T", "2026-11-20t"),
            good.replace("\"size\":2", "\"size\":2,\"size\":2"),
            good.replace("\"size\":2", "\"other\":1,\"size\":2"),
            good.replace("https:/", "https:\\/"),
            good.replace("\"v\":1", "\"v\":1,\"v\":1"),
            reordered,
        ] {
            assert_ne!(bad, good);
            assert_eq!(Leaf::decode(bad.as_bytes()), Err(LeafError::NotCanonical), "{bad}");
        }
    }

    #[test]
    fn malformed_leaves_are_refused() {
        let good = String::from_utf8(leaf().encode().unwrap()).unwrap();
        for (from, to, member) in [
            ("\"v\":1", "\"v\":\"1\"", "v"),
            ("\"v\":1", "\"v\":256", "v"),
            ("\"size\":2", "\"size\":-2", "size"),
            ("\"size\":2", "\"size\":2.0", "size"),
            ("\"id\":\"sha256:", "\"id\":\"sha512:", "id"),
            ("\"id\":\"sha256:4", "\"id\":\"sha256:", "id"),
            ("\"submitter\"", "\"submitted\"", "submitter"),
            ("2026-11-20T", "2026-13-20T", "time"),
            ("\"https://slsa.dev/provenance/v1\"", "7", "predicateType"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert_eq!(Leaf::decode(bad.as_bytes()), Err(LeafError::Member(member.into())), "{bad}");
        }
        assert_eq!(Leaf::decode(good.replace("\"v\":1", "\"v\":2").as_bytes()), Err(LeafError::Version(2)));
        for bad in [&b""[..], b"[]", b"{", b"\xff", b"{}{}", &good.as_bytes()[..good.len() - 1]] {
            assert!(matches!(Leaf::decode(bad), Err(LeafError::NotJson(_))));
        }
    }

    #[test]
    fn a_by_kind_member_cannot_shadow_a_common_one() {
        for name in ["time", "v", "id", "body", "kind", "submitter", "", "a b", "é", "a.b"] {
            assert_eq!(leaf().with(name, "x").encode(), Err(LeafError::MemberName(name.into())));
        }
        for kind in ["", "Attestation", "a b", &"a".repeat(65)] {
            let mut leaf = leaf();
            leaf.kind = kind.into();
            assert_eq!(leaf.encode(), Err(LeafError::Kind(kind.into())));
        }
        let mut large = leaf();
        large.body.size = 1 << 53;
        assert_eq!(large.encode(), Err(LeafError::BodySize(1 << 53)));
    }

    #[test]
    fn a_leaf_has_4096_bytes_at_most() {
        let room = MAX_LEAF - leaf().with("pad", "").encode().unwrap().len();
        let at = leaf().with("pad", &"x".repeat(room));
        assert_eq!(at.encode().unwrap().len(), MAX_LEAF);
        assert!(Leaf::decode(&at.encode().unwrap()).is_ok());
        assert_eq!(leaf().with("pad", &"x".repeat(room + 1)).encode(), Err(LeafError::TooLong(MAX_LEAF + 1)));
        assert_eq!(Leaf::decode(&[b' '; MAX_LEAF + 1]), Err(LeafError::TooLong(MAX_LEAF + 1)));
    }

    proptest! {
        #[test]
        fn every_leaf_comes_back(micros in -62_000_000_000_000_000i64..253_000_000_000_000_000, id in any::<[u8; 32]>(),
                                 size in 0..=MAX_BODY_SIZE, extra in prop::collection::btree_map("[a-zA-Z0-9]{7,12}", ".{0,40}", 0..4)) {
            let mut leaf = leaf();
            leaf.time = Timestamp::from_microsecond(micros).unwrap();
            leaf.id = Hash(id);
            leaf.body.size = size;
            leaf.extra = extra.into_iter().filter(|(name, _)| name != "submitter").collect();
            let bytes = leaf.encode().unwrap();
            prop_assert_eq!(Leaf::decode(&bytes).unwrap(), leaf);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Leaf::decode(&bytes).is_err());
        }
    }
}
