//! The functions that expressions may call: a small fixed set, all pure, all linear in their arguments.

use std::{cmp::Ordering, sync::Arc};

use catenary_evidence::purl::Purl;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{check::Type, value::Value};

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
    /// `int(x)`: of a text (decimal), a uint, a double (cut off), a timestamp (seconds since 1970).
    Int,
    /// `uint(x)`: of a text (decimal), an int, a double (cut off).
    Uint,
    /// `double(x)`: of a text, an int or a uint.
    Double,
    /// `string(x)`: of anything that is no list and no map.
    Str,
    /// `semverCompare(a, b)`: -1, 0 or 1.
    SemverCompare,
    /// `purl(text)`: `{package, name, version}`.
    Purl,
    /// `duration('1h30m')`
    Duration,
    /// `timestamp('2026-11-20T00:00:00Z')`, `timestamp(1763596800)`
    Timestamp,
    /// `time.getFullYear()` and its like: in UTC.
    Get(Part),
}

/// A part of a moment, as CEL counts them; the last three are of durations, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The year.
    FullYear,
    /// The month, from 0.
    Month,
    /// The day of the month, from 1.
    Date,
    /// The day of the month, from 0.
    DayOfMonth,
    /// The day of the year, from 0.
    DayOfYear,
    /// The day of the week: 0 is Sunday.
    DayOfWeek,
    /// Hours; of a duration all of them.
    Hours,
    /// Minutes; of a duration all of them.
    Minutes,
    /// Seconds; of a duration all of them.
    Seconds,
}

impl Function {
    /// Every function.
    pub const ALL: [Self; 22] = [
        Self::Size,
        Self::StartsWith,
        Self::EndsWith,
        Self::Contains,
        Self::LowerAscii,
        Self::Int,
        Self::Uint,
        Self::Double,
        Self::Str,
        Self::SemverCompare,
        Self::Purl,
        Self::Duration,
        Self::Timestamp,
        Self::Get(Part::FullYear),
        Self::Get(Part::Month),
        Self::Get(Part::Date),
        Self::Get(Part::DayOfMonth),
        Self::Get(Part::DayOfYear),
        Self::Get(Part::DayOfWeek),
        Self::Get(Part::Hours),
        Self::Get(Part::Minutes),
        Self::Get(Part::Seconds),
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
            Self::Uint => "uint",
            Self::Double => "double",
            Self::Str => "string",
            Self::Get(part) => part.name(),
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
            Self::Size
            | Self::Int
            | Self::Uint
            | Self::Double
            | Self::Str
            | Self::Timestamp
            | Self::Get(_) => &[Type::Any],
            Self::StartsWith | Self::EndsWith | Self::Contains | Self::SemverCompare => {
                &[Type::Text, Type::Text]
            }
            Self::LowerAscii | Self::Purl | Self::Duration => &[Type::Text],
        }
    }

    /// The type of what it gives.
    pub fn gives(self) -> Type {
        match self {
            Self::Size | Self::Int | Self::SemverCompare | Self::Get(_) => Type::Int,
            Self::Uint => Type::Uint,
            Self::Double => Type::Double,
            Self::StartsWith | Self::EndsWith | Self::Contains => Type::Bool,
            Self::LowerAscii | Self::Str => Type::Text,
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
            (Self::Int, [value @ Value::Int(_)]) => Ok(value.clone()),
            (Self::Int, [Value::Uint(value)]) => {
                i64::try_from(*value).map(Value::Int).map_err(|_| RANGE.to_owned())
            }
            (Self::Int, [Value::Double(value)]) => whole(*value),
            (Self::Int, [Value::Time(time)]) => Ok(Value::Int(time.as_second())),
            (Self::Uint, [value @ Value::Uint(_)]) => Ok(value.clone()),
            (Self::Uint, [Value::Int(value)]) => {
                u64::try_from(*value).map(Value::Uint).map_err(|_| RANGE.to_owned())
            }
            (Self::Uint, [Value::Double(value)]) => unsigned(*value),
            (Self::Uint, [Value::Text(text)]) => {
                text.parse().map(Value::Uint).map_err(|_| format!("`{}` is no uint", short(text)))
            }
            (Self::Double, [value @ Value::Double(_)]) => Ok(value.clone()),
            #[expect(clippy::cast_precision_loss, reason = "CEL rounds")]
            (Self::Double, [Value::Uint(value)]) => Ok(Value::Double(*value as f64)),
            #[expect(clippy::cast_precision_loss, reason = "CEL rounds")]
            (Self::Double, [Value::Int(value)]) => Ok(Value::Double(*value as f64)),
            (Self::Double, [Value::Text(text)]) => {
                let number = text.parse().ok().filter(|number: &f64| number.is_finite());
                number.map(Value::Double).ok_or_else(|| format!("`{}` is no double", short(text)))
            }
            (Self::Str, [value]) => written(value).map(Value::text).ok_or_else(wrong),
            (Self::Get(part), [Value::Time(time)]) => Ok(Value::Int(part.of_time(*time))),
            (Self::Get(part), [Value::Duration(span)]) => {
                part.of_duration(*span).map(Value::Int).ok_or_else(wrong)
            }
            (Self::Timestamp, [value @ Value::Time(_)]) => Ok(value.clone()),
            (Self::Timestamp, [Value::Int(seconds)]) => {
                Timestamp::from_second(*seconds).map(Value::Time).map_err(|_| RANGE.to_owned())
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
            (Self::Duration, [Value::Text(text)]) => read_duration(text).map(Value::Duration),
            (Self::Timestamp, [Value::Text(text)]) => {
                text.parse().map(Value::Time).map_err(|_| format!("`{}` is no timestamp", short(text)))
            }
            _ => Err(wrong()),
        }
    }
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::FullYear => "getFullYear",
            Self::Month => "getMonth",
            Self::Date => "getDate",
            Self::DayOfMonth => "getDayOfMonth",
            Self::DayOfYear => "getDayOfYear",
            Self::DayOfWeek => "getDayOfWeek",
            Self::Hours => "getHours",
            Self::Minutes => "getMinutes",
            Self::Seconds => "getSeconds",
        }
    }

    fn of_time(self, time: Timestamp) -> i64 {
        let time = time.to_zoned(TimeZone::UTC);
        match self {
            Self::FullYear => time.year().into(),
            Self::Month => i64::from(time.month()) - 1,
            Self::Date => time.day().into(),
            Self::DayOfMonth => i64::from(time.day()) - 1,
            Self::DayOfYear => i64::from(time.day_of_year()) - 1,
            Self::DayOfWeek => time.weekday().to_sunday_zero_offset().into(),
            Self::Hours => time.hour().into(),
            Self::Minutes => time.minute().into(),
            Self::Seconds => time.second().into(),
        }
    }

    fn of_duration(self, span: SignedDuration) -> Option<i64> {
        match self {
            Self::Hours => Some(span.as_hours()),
            Self::Minutes => Some(span.as_mins()),
            Self::Seconds => Some(span.as_secs()),
            _ => None,
        }
    }
}

const RANGE: &str = "it is out of range";

/// A double without its fraction, if that is not negative.
fn unsigned(value: f64) -> Result<Value, String> {
    // 2^64 is exact as a double.
    if !(0.0..18_446_744_073_709_551_616.0).contains(&value) {
        return Err(RANGE.to_owned());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the range, just checked"
    )]
    let whole = value as u64;
    Ok(Value::Uint(whole))
}

/// A double without its fraction.
fn whole(value: f64) -> Result<Value, String> {
    // 2^63 is exact as a double.
    let edge = 9_223_372_036_854_775_808.0;
    if !(-edge..edge).contains(&value) {
        return Err(RANGE.to_owned());
    }
    #[expect(clippy::cast_possible_truncation, reason = "within the range, just checked")]
    let whole = value as i64;
    Ok(Value::Int(whole))
}

/// A value as text.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Int(value) => Some(value.to_string()),
        Value::Uint(value) => Some(value.to_string()),
        Value::Double(value) => Some(value.to_string()),
        Value::Time(time) => Some(time.to_string()),
        Value::Duration(span) => Some(format!("{}s", span.as_secs_f64())),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// Units of a duration, in nanoseconds. Longer names first.
const UNITS: [(&str, i128); 7] = [
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Longest duration: a hundred years keeps the arithmetic far from its ends.
const MAX_DURATION: i128 = 100 * 366 * 86_400_000_000_000;

/// Reads a duration as CEL writes it, and days: `36h`, `1h30m`, `-1.5s`, `2d`.
fn read_duration(text: &str) -> Result<SignedDuration, String> {
    let wrong = || format!("`{}` is no duration", text.chars().take(64).collect::<String>());
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut total = 0_i128;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(end);
        let (unit, nanoseconds) = UNITS.iter().find(|(unit, _)| after.starts_with(unit)).ok_or_else(wrong)?;
        let (before, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = before.len() + fraction.len();
        if before.is_empty() || digits > 18 || fraction.contains('.') || number.ends_with('.') {
            return Err(wrong());
        }
        let scale = 10_i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let value: i128 = format!("{before}{fraction}").parse().map_err(|_| wrong())?;
        total += value * nanoseconds / scale;
        if total > MAX_DURATION {
            return Err(format!("{}: at most a hundred years", wrong()));
        }
        rest = &after[unit.len()..];
    }
    i64::try_from(sign * total / 1_000_000_000)
        .ok()
        .zip(i32::try_from(sign * total % 1_000_000_000).ok())
        .map(|(seconds, nanoseconds)| SignedDuration::new(seconds, nanoseconds))
        .ok_or_else(wrong)
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
