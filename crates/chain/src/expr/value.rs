//! Values of expressions.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};

/// A value. Copies are cheap.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer that is not negative.
    Uint(u64),
    /// A number with a fraction.
    Double(f64),
    /// A text.
    Text(Arc<str>),
    /// A moment.
    Time(Timestamp),
    /// A span of time.
    Duration(SignedDuration),
    /// Several, in order.
    List(Arc<Vec<Value>>),
    /// Several, by name.
    Map(Arc<BTreeMap<String, Value>>),
}

impl Value {
    /// A text.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Text(text.as_ref().into())
    }

    /// A list.
    pub fn list(items: impl IntoIterator<Item = Value>) -> Self {
        Self::List(Arc::new(items.into_iter().collect()))
    }

    /// A map of the members that are there.
    pub fn members<'a>(members: impl IntoIterator<Item = (&'a str, Option<Value>)>) -> Self {
        let here = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Self::Map(Arc::new(here.collect()))
    }

    /// What JSON says. A number that is no integer of 64 bits and not finite is its text, so that
    /// nothing is rounded in silence.
    pub fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(integer), _, _) => Self::Int(integer),
                (None, Some(large), _) => Self::Uint(large),
                (None, None, Some(double)) if double.is_finite() => Self::Double(double),
                _ => Self::text(number.to_string()),
            },
            Json::String(text) => Self::text(text),
            Json::Array(items) => Self::list(items.iter().map(Self::from_json)),
            Json::Object(members) => {
                let members = members.iter().map(|(name, value)| (name.clone(), Self::from_json(value)));
                Self::Map(Arc::new(members.collect()))
            }
        }
    }

    /// What kind it is, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Uint(_) => "a uint",
            Self::Double(_) => "a double",
            Self::Text(_) => "a text",
            Self::Time(_) => "a timestamp",
            Self::Duration(_) => "a duration",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// Takes what it costs to look at all of it from `left`; whether that was enough. A value that holds another many times is
    /// not walked to its end.
    pub fn weigh(&self, left: &mut u64) -> bool {
        let own = if let Self::Text(text) = self { 1 + text.len() as u64 / 64 } else { 1 };
        let Some(rest) = left.checked_sub(own) else { return false };
        *left = rest;
        match self {
            Self::List(items) => items.iter().all(|item| item.weigh(left)),
            Self::Map(members) => members.values().all(|item| item.weigh(left)),
            _ => true,
        }
    }

    /// The order of two values, if they are of kinds that can be compared.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        if let (Some(a), Some(b)) = (self.integer(), other.integer()) {
            return Some(a.cmp(&b));
        }
        match (self, other) {
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (a, Self::Double(b)) => integer_and_double(a.integer()?, *b),
            (Self::Double(a), b) => integer_and_double(b.integer()?, *a).map(Ordering::reverse),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// An int or a uint, on the line that both are on.
    fn integer(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some((*value).into()),
            Self::Uint(value) => Some((*value).into()),
            _ => None,
        }
    }

    /// Whether two values are equal, if they are of one kind: all numbers are. Anything can be asked whether it is null.
    pub fn equals(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Null, Self::Null) => Some(true),
            (Self::Null, _) | (_, Self::Null) => Some(false),
            (Self::List(a), Self::List(b)) => {
                let pairs = a.iter().zip(b.iter()).map(|(a, b)| a.equals(b)).collect::<Option<Vec<_>>>()?;
                Some(a.len() == b.len() && pairs.into_iter().all(|equal| equal))
            }
            (Self::Map(a), Self::Map(b)) => {
                let pairs = a.iter().map(|(name, value)| match b.get(name) {
                    Some(other) => value.equals(other),
                    None => Some(false),
                });
                let pairs = pairs.collect::<Option<Vec<_>>>()?;
                Some(a.len() == b.len() && pairs.into_iter().all(|equal| equal))
            }
            _ => self.compare(other).map(|order| order == Ordering::Equal),
        }
    }
}

/// Exact: an integer is not rounded to a double first.
fn integer_and_double(a: i128, b: f64) -> Option<Ordering> {
    let floor = b.floor();
    // 2^64 is exact as a double, and beyond every integer here.
    let edge = 18_446_744_073_709_551_616.0;
    if b.is_nan() {
        return None;
    }
    if floor >= edge {
        return Some(Ordering::Less);
    }
    if floor < -edge {
        return Some(Ordering::Greater);
    }
    #[expect(clippy::cast_possible_truncation, reason = "a whole number within the range, just checked")]
    let whole = floor as i128;
    Some(a.cmp(&whole).then(if b > floor { Ordering::Less } else { Ordering::Equal }))
}
