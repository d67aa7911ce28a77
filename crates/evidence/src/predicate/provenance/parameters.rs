//! External parameters as one flat map.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{limits::MAX_PARAMS, refusal::Refusal};

/// The parameters that a build type defines.
pub(super) struct Known {
    pub exact: &'static [&'static str],
    /// What paths begin with. One that ends in a dot also stands for the part as a whole, which is a value of its own
    /// when it is empty.
    pub prefixes: &'static [&'static str],
}

impl Known {
    /// A build type that nothing is known of.
    pub const NOTHING: Self = Self { exact: &[], prefixes: &[] };

    /// The paths that it does not define.
    pub fn others(&self, params: &BTreeMap<String, String>) -> Vec<String> {
        let begins =
            |path: &str, prefix: &str| path.starts_with(prefix) || prefix.strip_suffix('.') == Some(path);
        let known = |path: &str| self.exact.contains(&path) || self.prefixes.iter().any(|p| begins(path, p));
        params.keys().filter(|path| !known(path)).cloned().collect()
    }
}

/// Parts of the parameters that are not flattened as they are.
#[derive(Default)]
pub(super) struct Layout {
    /// Whole programs: their text is the value.
    pub whole: &'static [&'static str],
    /// Lists of `{name, value}`, which are named, not numbered, so that a policy can speak of one.
    pub named: &'static [&'static str],
}

/// Flattens an object to `a.b.c` paths; array elements are numbered. A value is its JSON text, strings unquoted; an
/// empty object or array is a value, so that nothing disappears. A dot or backslash inside a name is escaped with a
/// backslash: `{"a.b": 1}` is `a\.b` and cannot pose as `{"a": {"b": 1}}`.
pub(super) fn flatten(value: &Value, layout: &Layout) -> Result<BTreeMap<String, String>, Refusal> {
    let mut params = BTreeMap::new();
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (name, value) in members {
                walk(escape(name), value, layout, &mut params)?;
            }
        }
        other => walk("*".to_owned(), other, layout, &mut params)?,
    }
    Ok(params)
}

fn walk(
    path: String,
    value: &Value,
    layout: &Layout,
    params: &mut BTreeMap<String, String>,
) -> Result<(), Refusal> {
    match value {
        Value::Object(_) | Value::Array(_) if layout.whole.contains(&path.as_str()) => {
            add(path, value.to_string(), params)?;
        }
        Value::Array(elements) if layout.named.contains(&path.as_str()) && are_named(elements) => {
            for element in elements {
                let name = element["name"].as_str().unwrap_or_default();
                walk(format!("{path}.{}", escape(name)), &element["value"], layout, params)?;
            }
        }
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                walk(format!("{path}.{}", escape(name)), value, layout, params)?;
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for (index, value) in elements.iter().enumerate() {
                walk(format!("{path}.{index}"), value, layout, params)?;
            }
        }
        Value::String(text) => add(path, text.clone(), params)?,
        other => add(path, other.to_string(), params)?,
    }
    Ok(())
}

/// Whether every element is a `{name, value}` and nothing more, each name once.
fn are_named(elements: &[Value]) -> bool {
    let mut names: Vec<&str> = Vec::with_capacity(elements.len());
    for element in elements {
        let (Value::Object(members), Some(name)) = (element, element["name"].as_str()) else { return false };
        if members.len() != 2 || !members.contains_key("value") {
            return false;
        }
        names.push(name);
    }
    names.sort_unstable();
    !names.is_empty() && names.windows(2).all(|pair| pair[0] != pair[1])
}

fn add(path: String, text: String, params: &mut BTreeMap<String, String>) -> Result<(), Refusal> {
    params.insert(path, text);
    crate::dsse::within("external parameters", params.len(), MAX_PARAMS)
}

fn escape(name: &str) -> String {
    name.replace('\\', "\\\\").replace('.', "\\.")
}
