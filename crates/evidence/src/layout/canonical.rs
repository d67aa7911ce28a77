//! Canonical JSON as in-toto and TUF sign it (OLPC): sorted members, no white space, raw text.

use serde_json::Value;

/// What has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// Two programs may write a fraction in two ways.
    #[error("a number is no integer; canonical JSON has integers only")]
    Fraction,
}

/// The canonical form of what was received, members that nobody knows included.
///
/// Only `\` and `"` are escaped; everything else, line ends too, stands for itself.
pub fn canonical(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend(b"null"),
        Value::Bool(true) => out.extend(b"true"),
        Value::Bool(false) => out.extend(b"false"),
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            out.extend(number.to_string().into_bytes());
        }
        Value::Number(_) => return Err(CanonicalError::Fraction),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            out.push(b'{');
            for (n, (name, value)) in sorted.into_iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write_text(name, out);
                out.push(b':');
                write(value, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// The same as JSON that every reader takes: control characters, which stand in texts only, are escaped.
pub(crate) fn readable(canonical: &[u8]) -> String {
    let mut text = String::with_capacity(canonical.len());
    for c in String::from_utf8_lossy(canonical).chars() {
        match c {
            '\0'..='\x1f' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<String, CanonicalError> {
        let value: Value = serde_json::from_str(text).unwrap();
        canonical(&value).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn members_are_sorted_and_only_quotes_and_backslashes_escaped() {
        assert_eq!(
            of(r#"{ "b": [1, -2, true, null], "a": {} }"#).unwrap(),
            r#"{"a":{},"b":[1,-2,true,null]}"#
        );
        assert_eq!(of(r#""a\"b\\c\nd\u00e9""#).unwrap(), "\"a\\\"b\\\\c\nd\u{e9}\"");
        // By code point, as Python sorts: U+FFFF before U+10000, which UTF-16 would turn round.
        assert_eq!(of("{\"\u{10000}\":1,\"\u{ffff}\":2}").unwrap(), "{\"\u{ffff}\":2,\"\u{10000}\":1}");
        assert_eq!(of("18446744073709551615").unwrap(), "18446744073709551615");
    }

    #[test]
    fn a_fraction_has_no_canonical_form() {
        for text in ["1.0", "1e3", "[{\"a\":0.5}]", "18446744073709551616"] {
            assert_eq!(of(text), Err(CanonicalError::Fraction), "{text}");
        }
    }
}
