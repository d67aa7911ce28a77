//! A document as YAML that reads the same whoever reads it: block style, and every text that could be something else in quotes.

use serde_json::{Map, Value};

/// The order in which members are written; others follow by name.
const ORDER: [&str; 36] = [
    "apiVersion",
    "kind",
    "metadata",
    "extends",
    "spec",
    "id",
    "name",
    "owner",
    "domain",
    "mode",
    "onIndeterminate",
    "match",
    "resources",
    "environments",
    "priority",
    "subject",
    "trust",
    "builders",
    "sources",
    "registries",
    "maxLevel",
    "signer",
    "issuer",
    "root",
    "san",
    "ext",
    "timestamp",
    "builderId",
    "buildTypes",
    "build",
    "source",
    "repository",
    "refs",
    "inputs",
    "registry",
    "time",
];

/// The value as YAML, with a line end.
pub fn write(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => map(members, 0, false, &mut text),
        Value::Array(items) if !items.is_empty() => list(items, 0, &mut text),
        other => {
            text.push_str(&flow(other));
            text.push('\n');
        }
    }
    text
}

/// Members in block style. `begun`: the first stands on a line that is begun already.
fn map(members: &Map<String, Value>, indent: usize, begun: bool, text: &mut String) {
    let mut names: Vec<&String> = members.keys().collect();
    names.sort_by_key(|name| (ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()), *name));
    for (position, name) in names.into_iter().enumerate() {
        if position > 0 || !begun {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str(&scalar(name));
        text.push(':');
        match &members[name] {
            Value::Object(inner) if !inner.is_empty() && !is_short(&members[name]) => {
                text.push('\n');
                map(inner, indent + 2, false, text);
            }
            Value::Array(items) if !items.is_empty() && !is_short(&members[name]) => {
                text.push('\n');
                list(items, indent + 2, text);
            }
            other => {
                text.push(' ');
                text.push_str(&flow(other));
                text.push('\n');
            }
        }
    }
}

fn list(items: &[Value], indent: usize, text: &mut String) {
    for item in items {
        text.push_str(&" ".repeat(indent));
        text.push_str("- ");
        match item {
            Value::Object(members) if !members.is_empty() && !is_short(item) => {
                map(members, indent + 2, true, text)
            }
            other => {
                text.push_str(&flow(other));
                text.push('\n');
            }
        }
    }
}

/// Whether it fits one line: scalars, and collections of few scalars.
fn is_short(value: &Value) -> bool {
    let nested = |value: &Value| value.is_object() || value.is_array();
    let flat = match value {
        Value::Object(members) => !members.values().any(nested),
        Value::Array(items) => !items.iter().any(nested),
        _ => true,
    };
    flat && flow(value).len() <= 90
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{}: {}", scalar(name), flow(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A text as it is when nobody could take it for anything else, otherwise as a JSON string, which is YAML too.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf"];
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(plain);
    match is_word && !WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        true => text.to_owned(),
        false => Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let value = json!({
            "kind": "x", "a": [{"id": "1", "deep": {"b": [1, 2], "c": {"d": ["**", "", "a: b", "- x", "no", "é\n\"", "2026-01-01"]}}}, "t"],
            "empty": {}, "none": [], "null": null, "yes": true, "n": -5, "1": "1", "a.b": "x y",
            "long": ["https://example.test/a/very/long/text/that/does/not/fit", "https://example.test/another/very/long/text"],
            "lists": [["a"], ["b", {"c": "d"}]],
        });
        let text = write(&value);
        let again: Value = crate::policy::value(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(again, value, "{text}");
        assert!(text.starts_with("kind: x\n"), "{text}");
    }
}
