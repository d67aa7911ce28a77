//! The functions that expressions may call: a small fixed set, all pure, all linear in their arguments.

use std::{cmp::Ordering, sync::Arc};

use catenary_evidence::purl::Purl;

use super::{check::Type, value::Value};
use crate::policy::document::span;

/// A function. `glob` is not among them: it is compiled with the expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `size(x)`, `x.size()`: of a text (in characters), list or map.
    Size,
    /// `text.startsWith(text)`
    StartsWith,
    /// `text.endsWith(text)`
    EndsWith,
    /// `text.contains(text)`
    Contains,
    /// `text.lowerAscii()`
    LowerAscii,
    /// `int(text)`: decimal.
    Int,
    /// `semverCompare(a, b)`: -1, 0 or 1.
    SemverCompare,
    /// `purl(text)`: `{package, name, version}`.
    Purl,
    /// `duration('24h')`
    Duration,
    /// `timestamp('2026-11-20T00:00:00Z')`
    Timestamp,
}

impl Function {
    /// Every function.
    pub const ALL: [Self; 10] = [
        Self::Size,
        Self::StartsWith,
        Self::EndsWith,
        Self::Contains,
        Self::LowerAscii,
        Self::Int,
        Self::SemverCompare,
        Self::Purl,
        Self::Duration,
        Self::Timestamp,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Contains => "contains",
            Self::LowerAscii => "lowerAscii",
            Self::Int => "int",
            Self::SemverCompare => "semverCompare",
            Self::Purl => "purl",
            Self::Duration => "duration",
            Self::Timestamp => "timestamp",
        }
    }

    /// The function of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name() == name)
    }

    /// The types of its arguments.
    pub fn parameters(self) -> &'static [Type] {
        match self {
            Self::Size => &[Type::Any],
            Self::StartsWith | Self::EndsWith | Self::Contains | Self::SemverCompare => {
                &[Type::Text, Type::Text]
            }
            Self::LowerAscii | Self::Int | Self::Purl | Self::Duration | Self::Timestamp => &[Type::Text],
        }
    }

    /// The type of what it gives.
    pub fn gives(self) -> Type {
        match self {
            Self::Size | Self::Int | Self::SemverCompare => Type::Int,
            Self::StartsWith | Self::EndsWith | Self::Contains => Type::Bool,
            Self::LowerAscii => Type::Text,
            Self::Purl => {
                Type::Members(&[("package", Type::Text), ("name", Type::Text), ("version", Type::Text)])
            }
            Self::Duration => Type::Duration,
            Self::Timestamp => Type::Time,
        }
    }

    /// Calls it.
    pub fn call(self, arguments: &[Value]) -> Result<Value, String> {
        let wrong = || {
            let kinds: Vec<&str> = arguments.iter().map(Value::kind).collect();
            format!("`{}` does not take {}", self.name(), kinds.join(" and "))
        };
        let length = |length: usize| i64::try_from(length).map(Value::Int).map_err(|_| wrong());
        match (self, arguments) {
            (Self::Size, [Value::Text(text)]) => length(text.chars().count()),
            (Self::Size, [Value::List(items)]) => length(items.len()),
            (Self::Size, [Value::Map(members)]) => length(members.len()),
            (Self::StartsWith, [Value::Text(a), Value::Text(b)]) => Ok(Value::Bool(a.starts_with(&**b))),
            (Self::EndsWith, [Value::Text(a), Value::Text(b)]) => Ok(Value::Bool(a.ends_with(&**b))),
            (Self::Contains, [Value::Text(a), Value::Text(b)]) => Ok(Value::Bool(a.contains(&**b))),
            (Self::LowerAscii, [Value::Text(text)]) => Ok(Value::text(text.to_ascii_lowercase())),
            (Self::Int, [Value::Text(text)]) => {
                text.parse().map(Value::Int).map_err(|_| format!("`{}` is no int", short(text)))
            }
            (Self::SemverCompare, [Value::Text(a), Value::Text(b)]) => {
                Ok(Value::Int(match semver(a)?.cmp(&semver(b)?) {
                    Ordering::Less => -1,
                    Ordering::Equal => 0,
                    Ordering::Greater => 1,
                }))
            }
            (Self::Purl, [Value::Text(text)]) => {
                let purl = Purl::parse(text).map_err(|error| error.to_string())?;
                Ok(Value::members([
                    ("package", Some(Value::text(purl.package()))),
                    ("name", Some(Value::text(purl.name()))),
                    ("version", purl.version().map(Value::text)),
                ]))
            }
            (Self::Duration, [Value::Text(text)]) => span(text).map(Value::Duration),
            (Self::Timestamp, [Value::Text(text)]) => {
                text.parse().map(Value::Time).map_err(|_| format!("`{}` is no timestamp", short(text)))
            }
            _ => Err(wrong()),
        }
    }
}

fn short(text: &Arc<str>) -> String {
    text.chars().take(64).collect()
}

/// A semantic version (semver.org 2.0.0), ordered. Build metadata does not count.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Semver {
    numbers: [u64; 3],
    /// A release comes after its pre-releases.
    released: bool,
    pre: Vec<Identifier>,
}

/// Numbers come before texts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Text(String),
}

fn semver(text: &Arc<str>) -> Result<Semver, String> {
    read_semver(text).ok_or_else(|| format!("`{}` is no semantic version", short(text)))
}

fn read_semver(text: &str) -> Option<Semver> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let text = match text.split_once('+') {
        Some((before, build)) => {
            build.split('.').all(is_identifier).then_some(())?;
            before
        }
        None => text,
    };
    let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
    let mut parts = core.split('.').map(number);
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    if parts.next().is_some() {
        return None;
    }
    let identifier = |part: &str| match part.bytes().all(|b| b.is_ascii_digit()) {
        true => number(part).map(Identifier::Number),
        false => is_identifier(part).then(|| Identifier::Text(part.to_owned())),
    };
    let released = pre.is_none();
    let pre = pre.into_iter().flat_map(|pre| pre.split('.')).map(identifier).collect::<Option<_>>()?;
    Some(Semver { numbers, released, pre })
}

/// A number without leading zeros.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
