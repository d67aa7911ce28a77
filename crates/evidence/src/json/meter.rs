//! Reading JSON within a bound of memory.
//!
//! What a text becomes can be hundreds of times as long as the text: `{}` in a list may stand for a structure of many members. So
//! each element is paid for by its size before it is read, of a budget that no honest document comes near.

use std::cell::Cell;

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected, Visitor},
};

/// Bytes that the elements of one document may take, their texts apart: those are no longer than the document. 20,000 packages
/// of an SBOM take a third of it.
pub(super) const BUDGET: usize = 20 * 1024 * 1024;

/// How an error begins that is about the budget.
pub(super) const SPENT: &str = "it holds too many elements";

/// What a list takes for each element: vectors grow by doubling.
const GROWTH: usize = 2;

/// What a map takes for its first member: a node of a B-tree has room for eleven.
const NODE: usize = 11;

/// Reads a `T` from one JSON text.
pub(super) fn read<'de, T: Deserialize<'de>>(text: &'de str) -> serde_json::Result<T> {
    let left = Cell::new(BUDGET);
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(Metered { inner: &mut reader, left: &left })?;
    reader.end()?;
    Ok(value)
}

fn pay<E: serde::de::Error>(left: &Cell<usize>, bytes: usize) -> Result<(), E> {
    let rest = left.get().checked_sub(bytes).ok_or_else(|| E::custom(SPENT))?;
    left.set(rest);
    Ok(())
}

/// Anything of serde's, with the budget beside it.
struct Metered<'m, I> {
    inner: I,
    left: &'m Cell<usize>,
}

/// A visitor; of a map only when its members are not those of a structure, which was paid for as a whole.
struct Watching<'m, V> {
    inner: V,
    left: &'m Cell<usize>,
    map: bool,
}

macro_rules! hand_on {
    ($($method:ident),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(Watching { inner: visitor, left: self.left, map: true })
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Metered<'_, D> {
    type Error = D::Error;

    hand_on!(
        deserialize_any,
        deserialize_bool,
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_i128,
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64,
        deserialize_u128,
        deserialize_f32,
        deserialize_f64,
        deserialize_char,
        deserialize_str,
        deserialize_string,
        deserialize_bytes,
        deserialize_byte_buf,
        deserialize_option,
        deserialize_unit,
        deserialize_seq,
        deserialize_map,
        deserialize_identifier,
    );

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        // `RawValue` asks for the text as it is by a name of its own.
        if name.starts_with("$serde_json::") {
            return self.inner.deserialize_newtype_struct(name, visitor);
        }
        self.inner.deserialize_newtype_struct(name, Watching { inner: visitor, left: self.left, map: true })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple(len, Watching { inner: visitor, left: self.left, map: true })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Watching { inner: visitor, left: self.left, map: true };
        self.inner.deserialize_tuple_struct(name, len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Watching { inner: visitor, left: self.left, map: false };
        self.inner.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        // Nothing is kept of it.
        self.inner.deserialize_ignored_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! tell {
    ($($method:ident: $kind:ty),* $(,)?) => {$(
        fn $method<E: serde::de::Error>(self, value: $kind) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Watching<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.expecting(f)
    }

    tell!(
        visit_bool: bool, visit_i64: i64, visit_i128: i128, visit_u64: u64, visit_u128: u128, visit_f64: f64,
        visit_str: &str, visit_borrowed_str: &'de str, visit_string: String, visit_bytes: &[u8],
        visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    );

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Metered { inner, left: self.left })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Metered { inner, left: self.left })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        // serde takes an array for the members of a structure in their order; nobody else who reads the document does.
        if !self.map {
            return Err(A::Error::invalid_type(Unexpected::Seq, &"an object"));
        }
        self.inner.visit_seq(Metered { inner, left: self.left })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let (left, key) = (self.left, self.map.then_some(0));
        self.inner.visit_map(Members { inner, left, key, first: true })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(inner)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Metered<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Metered { inner, left: self.left })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Metered<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, inner: T) -> Result<Option<T::Value>, A::Error> {
        pay(self.left, GROWTH * size_of::<T::Value>())?;
        self.inner.next_element_seed(Metered { inner, left: self.left })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

/// The members of a map or a structure.
struct Members<'m, A> {
    inner: A,
    left: &'m Cell<usize>,
    /// The size of the last key; nothing for a structure.
    key: Option<usize>,
    first: bool,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, inner: K) -> Result<Option<K::Value>, A::Error> {
        self.key = self.key.map(|_| size_of::<K::Value>());
        self.inner.next_key_seed(Metered { inner, left: self.left })
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, inner: T) -> Result<T::Value, A::Error> {
        if let Some(key) = self.key {
            let member = key + size_of::<T::Value>();
            pay(self.left, member * if self.first { NODE } else { GROWTH })?;
            self.first = false;
        }
        self.inner.next_value_seed(Metered { inner, left: self.left })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::de::IgnoredAny;
    use serde_json::{Value, value::RawValue};

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Word {
        One,
        Two,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        List(Vec<String>),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct All {
        words: Vec<Word>,
        either: Vec<Either>,
        map: BTreeMap<String, Option<i64>>,
        value: Value,
        pair: (u8, f64),
        missing: Option<bool>,
        #[serde(default)]
        list: Vec<()>,
    }

    const TEXT: &str = r#"{"words":["one","two"],"either":["a",["b","c"]],"map":{"x":1,"y":null},"value":{"a":[1,-2,3.5,"\u00e9",null,true]},"pair":[1,2]}"#;

    #[test]
    fn what_is_metered_is_read_as_ever() {
        assert_eq!(read::<All>(TEXT).unwrap(), serde_json::from_str::<All>(TEXT).unwrap());
        assert_eq!(read::<Value>(TEXT).unwrap(), serde_json::from_str::<Value>(TEXT).unwrap());
        let raw: BTreeMap<&str, &RawValue> = read(TEXT).unwrap();
        assert_eq!(raw["pair"].get(), "[1,2]");
        for wrong in ["{", "{} {}", r#"{"words":["three"]}"#, r#"{"words":1}"#] {
            let (ours, theirs) =
                (read::<All>(wrong).unwrap_err(), serde_json::from_str::<All>(wrong).unwrap_err());
            assert_eq!(ours.to_string(), theirs.to_string(), "{wrong}");
        }
    }

    #[test]
    fn an_array_is_no_structure() {
        #[derive(Debug, Deserialize)]
        struct Two {
            #[expect(dead_code, reason = "only whether it is read")]
            one: u8,
            #[expect(dead_code, reason = "only whether it is read")]
            two: u8,
        }
        for (text, good) in [(r#"[{"one":1,"two":2}]"#, true), ("[[1,2]]", false)] {
            assert_eq!(read::<Vec<Two>>(text).is_ok(), good, "{text}");
            assert!(serde_json::from_str::<Vec<Two>>(text).is_ok(), "serde takes both");
        }
        let error = read::<Two>("[1,2]").unwrap_err().to_string();
        assert!(error.contains("expected an object"), "{error}");
    }

    #[test]
    fn elements_are_paid_for_by_their_size() {
        let list = |n: usize| format!("[{}0]", "0,".repeat(n - 1));
        assert!(read::<Vec<IgnoredAny>>(&list(2_000_000)).is_ok(), "nothing is kept");
        // The end of the list is paid for, too.
        assert!(read::<Vec<u8>>(&list(BUDGET / GROWTH - 1)).is_ok());
        let spent = read::<Vec<u8>>(&list(BUDGET / GROWTH)).unwrap_err();
        assert!(spent.to_string().starts_with(SPENT), "{spent}");
        let spent = read::<Value>(&list(BUDGET / size_of::<Value>())).unwrap_err();
        assert!(spent.to_string().starts_with(SPENT), "{spent}");
        let members = r#"{"":0},"#.repeat(50_000);
        assert!(read::<Value>(&format!("[{members}0]")).is_err(), "a map is a node at least");
    }
}
