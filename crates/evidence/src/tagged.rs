//! Documents of ours that say first what they are: `{"kind": "…", …}`.
//!
//! The code that serde derives for such an enum keeps every member aside until the tag was seen, wherever it is. Ours is always the first
//! member, and what a verdict reads should be read once.

use std::fmt;

use serde::de::{Error, MapAccess};

/// The tag, which must be the first member.
pub(crate) fn kind<'de, A: MapAccess<'de>>(map: &mut A) -> Result<std::borrow::Cow<'de, str>, A::Error> {
    match map.next_key()? {
        Some(Member::Kind) => map.next_value(),
        Some(Member::Other) => Err(A::Error::custom("the first member must be `kind`")),
        None => Err(A::Error::missing_field("kind")),
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Kind,
    #[serde(other)]
    Other,
}

/// For a visitor's `expecting`.
pub(crate) fn expecting(formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    formatter.write_str("an object that begins with its `kind`")
}

/// `Deserialize` for an enum whose `Serialize` is derived with `tag = "kind"`.
macro_rules! tagged {
    ($name:ident { $($kind:literal => $variant:ident,)* } $(or { $($empty:literal => $unit:ident,)* })?) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $name;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        $crate::tagged::expecting(formatter)
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let kind = $crate::tagged::kind(&mut map)?;
                        let rest = serde::de::value::MapAccessDeserializer::new(map);
                        match &*kind {
                            $($kind => serde::Deserialize::deserialize(rest).map($name::$variant),)*
                            $($($empty => {
                                let serde::de::IgnoredAny = serde::Deserialize::deserialize(rest)?;
                                Ok($name::$unit)
                            })*)?
                            other => Err(serde::de::Error::unknown_variant(other, &[$($kind),* $($(, $empty)*)?])),
                        }
                    }
                }
                deserializer.deserialize_map(Visitor)
            }
        }
    };
}

pub(crate) use tagged;

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Shape {
        sides: u8,
    }

    #[derive(Debug, PartialEq, Serialize)]
    #[serde(tag = "kind", rename_all = "kebab-case")]
    enum Thing {
        FlatShape(Shape),
        Nothing,
    }

    tagged!(Thing { "flat-shape" => FlatShape, } or { "nothing" => Nothing, });

    #[test]
    fn what_was_written_is_read() {
        for thing in [Thing::FlatShape(Shape { sides: 3 }), Thing::Nothing] {
            let text = serde_json::to_string(&thing).unwrap();
            assert_eq!(serde_json::from_str::<Thing>(&text).unwrap(), thing);
        }
    }

    #[test]
    fn another_kind_or_none_or_a_late_one_is_an_error() {
        for text in [
            r#"{"kind":"round","sides":3}"#,
            r#"{"sides":3}"#,
            r#"{"sides":3,"kind":"flat-shape"}"#,
            r#"{"kind":"flat-shape"}"#,
            "{}",
            "3",
        ] {
            serde_json::from_str::<Thing>(text).unwrap_err();
        }
    }
}
