//! External parameters as one flat map.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{limits::MAX_PARAMS, refusal::Refusal};

/// Flattens an object to `a.b.c` paths; array elements are numbered. A value is its JSON text, strings unquoted; an
/// empty object or array is a value, so that nothing disappears. A dot or backslash inside a name is escaped with a
/// backslash: `{"a.b": 1}` is `a\.b` and cannot pose as `{"a": {"b": 1}}`.
pub(super) fn flatten(value: &Value) -> Result<BTreeMap<String, String>, Refusal> {
    let mut params = BTreeMap::new();
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (name, value) in members {
                walk(escape(name), value, &mut params)?;
            }
        }
        other => walk("*".to_owned(), other, &mut params)?,
    }
    Ok(params)
}

fn walk(path: String, value: &Value, params: &mut BTreeMap<String, String>) -> Result<(), Refusal> {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                walk(format!("{path}.{}", escape(name)), value, params)?;
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for (index, value) in elements.iter().enumerate() {
                walk(format!("{path}.{index}"), value, params)?;
            }
        }
        Value::String(text) => add(path, text.clone(), params)?,
        other => add(path, other.to_string(), params)?,
    }
    Ok(())
}

fn add(path: String, text: String, params: &mut BTreeMap<String, String>) -> Result<(), Refusal> {
    params.insert(path, text);
    crate::dsse::within("external parameters", params.len(), MAX_PARAMS)
}

fn escape(name: &str) -> String {
    name.replace('\\', "\\\\").replace('.', "\\.")
}
