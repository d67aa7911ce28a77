//! Strict JSON: one meaning or none.
//!
//! `serde_json` keeps the last of two equal keys without a word, so two readers of one signed payload
//! could see two statements. [`check`] therefore reads every document once before anything else does, and
//! refuses what could be read in two ways: equal keys (also when one is written with escapes), trailing
//! data, invalid UTF-8, lone surrogates, and NUL, which Postgres cannot store. It also bounds the depth.

mod meter;

use std::{borrow::Cow, collections::BTreeSet, fmt};

use serde::{
    Deserialize,
    de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
};

/// How deep arrays and objects may nest. SLSA provenance needs about ten; `serde_json` itself stops at 128.
pub const MAX_DEPTH: usize = 64;

/// How many values a document may hold, on all levels. 20,000 packages of an SBOM that is as long as it may be have fewer; a document
/// that has more is made to take long.
pub const MAX_VALUES: usize = 400_000;

/// How many members one object may have: each is looked for among the others. Nothing that is read has a thousandth of it.
pub const MAX_MEMBERS: usize = 50_000;

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonFault {
    /// Invalid UTF-8.
    NotUtf8,
    /// Not JSON: the parser's words.
    Syntax(String),
    /// An object names a member twice.
    DuplicateKey {
        /// The member's name, unescaped.
        key: String,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// A string holds NUL or a lone surrogate.
    BadString,
    /// JSON, but not of the form that is asked for: a missing member, another type.
    Shape(String),
    /// More elements than are read: they would take too much memory or time.
    TooMany,
}

/// A fault with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// What is wrong.
    pub fault: JsonFault,
    /// JSON pointer (RFC 6901) to the innermost value that was being read.
    pub pointer: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            JsonFault::NotUtf8 => write!(f, "not UTF-8")?,
            JsonFault::Syntax(why) => write!(f, "not JSON: {why}")?,
            JsonFault::DuplicateKey { key } => write!(f, "the member `{}` is named twice", shorten(key))?,
            JsonFault::TooDeep => write!(f, "nested deeper than {MAX_DEPTH} levels")?,
            JsonFault::BadString => write!(f, "a string holds NUL or a lone surrogate")?,
            JsonFault::Shape(why) => write!(f, "{}", shorten(why))?,
            JsonFault::TooMany => write!(f, "{}", meter::SPENT)?,
        }
        let place = if self.pointer.is_empty() { "the document" } else { self.pointer.as_str() };
        write!(f, " (line {}, column {}, in {})", self.line, self.column, shorten(place))
    }
}

impl std::error::Error for JsonError {}

/// Checks that `bytes` are exactly one strict JSON document and returns it as text.
pub fn check(bytes: &[u8]) -> Result<&str, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let (line, column) = line_and_column(bytes, e.valid_up_to());
        JsonError { fault: JsonFault::NotUtf8, pointer: String::new(), line, column }
    })?;
    let mut walk = Walk::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let result = Strict { walk: &mut walk }.deserialize(&mut reader).and_then(|()| {
        walk.path.clear();
        reader.end()
    });
    match result {
        Ok(()) => Ok(text),
        Err(e) => Err(walk.explain(text, &e)),
    }
}

/// Checks `bytes`, then reads them as a `T`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    read(check(bytes)?)
}

/// Reads a `T` from text that [`check`] has passed; borrows from it.
pub fn read<'de, T: Deserialize<'de>>(checked: &'de str) -> Result<T, JsonError> {
    meter::read(checked).map_err(|e| shape(checked, checked, "", &e))
}

/// Reads a `T` from any JSON text, within the same bound of memory; nothing says where it is wrong.
pub(crate) fn loose<'de, T: Deserialize<'de>>(text: &'de str) -> serde_json::Result<T> {
    meter::read(text)
}

/// Reads a `T` from `part`, a slice of the checked `document` that lies at `pointer` in it.
pub fn read_part<'de, T: Deserialize<'de>>(
    document: &str,
    part: &'de str,
    pointer: &str,
) -> Result<T, JsonError> {
    meter::read(part).map_err(|e| shape(document, part, pointer, &e))
}

/// Longest text of a hostile document that a message repeats.
const SHOWN: usize = 200;

/// Cuts hostile text for a message.
pub(crate) fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

fn line_and_column(bytes: &[u8], offset: usize) -> (usize, usize) {
    let before = &bytes[..offset.min(bytes.len())];
    let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
    let column = 1 + before.iter().rev().take_while(|&&b| b != b'\n').count();
    (line, column)
}

/// The parser's message without its own position, which [`JsonError`] carries.
fn words(e: &serde_json::Error) -> String {
    let text = e.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Makes an error about the form of a document that is known to be strict JSON.
fn shape(document: &str, part: &str, pointer: &str, e: &serde_json::Error) -> JsonError {
    let end = offset_of(part, e.line(), e.column());
    let base = (part.as_ptr() as usize).checked_sub(document.as_ptr() as usize);
    let start = base.filter(|start| start + part.len() <= document.len()).unwrap_or(0);
    let (line, column) = line_and_column(document.as_bytes(), start + end.saturating_sub(1));
    let pointer = format!("{pointer}{}", pointer_at(part, end));
    let why = words(e);
    let fault = if why.starts_with(meter::SPENT) { JsonFault::TooMany } else { JsonFault::Shape(why) };
    JsonError { fault, pointer, line, column }
}

/// Offset just after the character at `line` and `column`, both from 1 (column 0 is the line's start).
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column).min(text.len())
}

/// Pointer to the innermost value of the strict JSON `text` that was being read at `end`.
fn pointer_at(text: &str, end: usize) -> String {
    // Reading all but the last byte of what was read stops the walk inside that value, with its path still open. An
    // unknown member is refused when its name was read: then the walk stops before its value.
    let after_name = text.get(end..).is_some_and(|rest| rest.trim_start().starts_with(':'));
    let mut end = if after_name { end } else { end.saturating_sub(1) };
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut walk = Walk::default();
    let mut reader = serde_json::Deserializer::from_str(&text[..end]);
    let _ = Strict { walk: &mut walk }.deserialize(&mut reader);
    walk.pointer()
}

/// One step from a container to a member.
#[derive(Clone, Copy)]
enum Step {
    /// The place of its name in [`Walk::names`].
    Member(usize),
    Element(usize),
}

/// Where the pre-pass is, and what it found.
#[derive(Default)]
struct Walk<'de> {
    path: Vec<Step>,
    /// The names of the members so far of the objects on the path: one list for all, as most objects are small.
    names: Vec<Cow<'de, str>>,
    /// Values so far.
    values: usize,
    fault: Option<JsonFault>,
}

impl Walk<'_> {
    fn count<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.values += 1;
        if self.values > MAX_VALUES { Err(self.fail(JsonFault::TooMany)) } else { Ok(()) }
    }

    fn pointer(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            text.push('/');
            match step {
                Step::Member(place) => {
                    let name = self.names.get(*place).map(|name| shorten(name)).unwrap_or_default();
                    text.push_str(&name.replace('~', "~0").replace('/', "~1"));
                }
                Step::Element(index) => text.push_str(&index.to_string()),
            }
        }
        text
    }

    fn explain(mut self, text: &str, e: &serde_json::Error) -> JsonError {
        let fault = self.fault.take().unwrap_or_else(|| {
            let why = words(e);
            if why.contains("surrogate") || why.contains("unexpected end of hex escape") {
                JsonFault::BadString
            } else {
                JsonFault::Syntax(why)
            }
        });
        let offset = offset_of(text, e.line(), e.column()).saturating_sub(1);
        let (line, column) = line_and_column(text.as_bytes(), offset);
        JsonError { fault, pointer: self.pointer(), line, column }
    }

    fn fail<E: serde::de::Error>(&mut self, fault: JsonFault) -> E {
        self.fault = Some(fault);
        E::custom("refused")
    }

    fn text<E: serde::de::Error>(&mut self, text: &str) -> Result<(), E> {
        if text.contains('\0') { Err(self.fail(JsonFault::BadString)) } else { Ok(()) }
    }
}

/// Reads any value and keeps nothing of it but the path. The path is left open on an error.
struct Strict<'w, 'de> {
    walk: &'w mut Walk<'de>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.walk.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.walk.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let walk = self.walk;
        if walk.path.len() >= MAX_DEPTH {
            return Err(walk.fail(JsonFault::TooDeep));
        }
        for index in 0.. {
            walk.path.push(Step::Element(index));
            let more = elements.next_element_seed(Strict { walk: &mut *walk })?;
            walk.path.pop();
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let walk = self.walk;
        if walk.path.len() >= MAX_DEPTH {
            return Err(walk.fail(JsonFault::TooDeep));
        }
        let mut seen = Seen { first: walk.names.len(), many: BTreeSet::new() };
        while let Some(Key(name)) = members.next_key::<Key<'de>>()? {
            walk.text(&name)?;
            let place = walk.names.len();
            walk.path.push(Step::Member(place));
            walk.names.push(name);
            if place - seen.first >= MAX_MEMBERS {
                return Err(walk.fail(JsonFault::TooMany));
            }
            if !seen.insert(&walk.names) {
                let key = walk.names[place].clone().into_owned();
                return Err(walk.fail(JsonFault::DuplicateKey { key }));
            }
            members.next_value_seed(Strict { walk: &mut *walk })?;
            walk.path.pop();
        }
        walk.names.truncate(seen.first);
        Ok(())
    }
}

/// Objects with more members than this are looked up in an ordered set.
const FEW: usize = 16;

/// The names of an object's members so far.
struct Seen<'de> {
    /// The place of the first.
    first: usize,
    /// Those beyond the first few. Ordered, not hashed: a sender cannot choose keys that collide.
    many: BTreeSet<Cow<'de, str>>,
}

impl<'de> Seen<'de> {
    /// Takes in the last of `names`; `false` when it was there.
    fn insert(&mut self, names: &[Cow<'de, str>]) -> bool {
        let Some((name, before)) = names[self.first..].split_last() else { return true };
        let few = &before[..before.len().min(FEW)];
        !few.contains(name) && (before.len() < FEW || self.many.insert(name.clone()))
    }
}

/// A member's name: borrowed unless it is written with escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> JsonFault {
        check(text.as_bytes()).unwrap_err().fault
    }

    #[test]
    fn e12_s13_a_duplicate_key_is_refused_at_any_level_also_escaped() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
            r#"{"x":{"y":{"a":1,"b":2,"a":3}}}"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            assert_eq!(fault(text), JsonFault::DuplicateKey { key: "a".into() }, "{text}");
        }
        assert!(check(br#"{"a":{"a":{"a":[{"a":1},{"a":2}]}}}"#).is_ok());
    }

    #[test]
    fn a_fault_is_named_with_pointer_line_and_column() {
        let e = check(b"{\n  \"x\": [1, {\"a/b\": 1,\n   \"a/b\": 2}]\n}").unwrap_err();
        assert_eq!((e.pointer.as_str(), e.line), ("/x/1/a~1b", 3));
        #[derive(Debug, Deserialize)]
        struct Doc {
            #[expect(dead_code, reason = "only its type matters")]
            list: Vec<u8>,
        }
        let e = parse::<Doc>(b"{\n \"list\": [1,\n 2, true]}").unwrap_err();
        assert_eq!((e.pointer.as_str(), e.line), ("/list/2", 3));
        assert!(matches!(e.fault, JsonFault::Shape(_)));
    }

    #[test]
    fn e25_depth_is_limited_at_64_and_one_over_is_refused() {
        let nest = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(check(nest(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(fault(&nest(MAX_DEPTH + 1)), JsonFault::TooDeep);
        assert_eq!(fault(&"[".repeat(200_000)), JsonFault::TooDeep);
        assert_eq!(fault(&"{\"a\":".repeat(200_000)), JsonFault::TooDeep);
    }

    #[test]
    fn values_are_counted_on_all_levels_and_one_too_many_is_refused_where_it_stands() {
        let half = |n: usize| vec!["0"; n].join(",");
        let text = |more: usize| {
            format!(r#"{{"a":[{}],"b":[{}]}}"#, half(MAX_VALUES / 2), half(MAX_VALUES / 2 - 3 + more))
        };
        assert!(check(text(0).as_bytes()).is_ok());
        let over = check(text(1).as_bytes()).unwrap_err();
        assert_eq!((over.fault, over.pointer), (JsonFault::TooMany, format!("/b/{}", MAX_VALUES / 2 - 3)));
    }

    #[test]
    fn members_of_one_object_are_counted_and_one_too_many_is_refused() {
        let of = |n: usize| {
            let members: Vec<String> = (0..n).map(|n| format!("\"{n}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(check(of(MAX_MEMBERS).as_bytes()).is_ok());
        assert_eq!(fault(&of(MAX_MEMBERS + 1)), JsonFault::TooMany);
    }

    #[test]
    fn s21_nul_and_lone_surrogates_are_refused() {
        for text in [
            r#"{"name":"\u0000"}"#,
            r#"{"\u0000":1}"#,
            r#"["\ud800"]"#,
            r#"["\udc00"]"#,
            r#"["\ud800\ud800"]"#,
            r#"["\ud800x"]"#,
        ] {
            assert_eq!(fault(text), JsonFault::BadString, "{text}");
        }
        assert!(check(r#"["\ud83d\ude00", "é"]"#.as_bytes()).is_ok());
    }

    #[test]
    fn s23_invalid_utf8_is_refused() {
        assert_eq!(check(b"[\"\xc0\xaf\"]").unwrap_err().fault, JsonFault::NotUtf8);
        assert_eq!(check(b"[\"\xed\xa0\x80\"]").unwrap_err().fault, JsonFault::NotUtf8);
    }

    #[test]
    fn trailing_data_and_everything_that_is_not_json_is_refused() {
        for text in [
            "",
            " ",
            "{} {}",
            "{}x",
            "[1,]",
            "{\"a\":1,}",
            "\u{feff}{}",
            "NaN",
            "1e400",
            "01",
            "'a'",
            "{a:1}",
            "[1",
        ] {
            assert!(matches!(fault(text), JsonFault::Syntax(_)), "{text}");
        }
    }
}
