//! What two documents ask differently: member by member of what they mean, not line by line of what they say.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Policy, PolicyError, short};

/// What happened to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has another value.
    Changed,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// What happened.
    pub kind: Kind,
    /// The member; an element of a list of rules is named by its id.
    pub path: String,
    /// What it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Members that mean the same when they are left out.
const DEFAULTS: [(&str, &str); 14] = [
    ("metadata.approvals", "0"),
    ("spec.mode", "\"enforce\""),
    ("spec.onIndeterminate", "\"deny\""),
    ("spec.match.priority", "0"),
    ("spec.subject", "{}"),
    ("spec.subject.extraPlatforms", "\"deny\""),
    ("spec.trust", "{}"),
    ("spec.build.minLevel", "0"),
    ("spec.build.builders.atLeast", "1"),
    ("spec.build.params", "{}"),
    ("spec.build.params.unknown", "\"deny\""),
    ("spec.source.minLevel", "0"),
    ("spec.source.unique", "true"),
    ("spec.time", "{}"),
];

/// The differences from `old` to `new`, both written out, in the order of their paths.
pub fn diff(old: &str, new: &str) -> Result<Vec<Change>, PolicyError> {
    let mut changes = Vec::new();
    compare("", Some(&meaning(old)?), Some(&meaning(new)?), &mut changes);
    Ok(changes)
}

/// A document as a value, written out.
fn meaning(document: &str) -> Result<Value, PolicyError> {
    Policy::parse(document)?;
    let text = short::expand(document)?;
    super::value(text.as_deref().unwrap_or(document)).map_err(|error| PolicyError::new(error.to_string()))
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, changes: &mut Vec<Change>) {
    let (old, new) = (old.filter(|v| !says_nothing(path, v)), new.filter(|v| !says_nothing(path, v)));
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            members(path, old, new, changes);
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => lists(path, old, new, changes),
        (Some(old), Some(new)) if old == new => {}
        (None, None) => {}
        // A section that came or went is told member by member where it has members: each is worth a line.
        (None, Some(Value::Object(new))) if path.is_empty() || path == "spec" => {
            members(path, &Map::new(), new, changes);
        }
        (old, new) => changes.push(change(path, old, new)),
    }
}

fn change(path: &str, before: Option<&Value>, after: Option<&Value>) -> Change {
    let kind = match (before, after) {
        (None, _) => Kind::Added,
        (_, None) => Kind::Removed,
        _ => Kind::Changed,
    };
    Change { kind, path: path.to_owned(), before: before.cloned(), after: after.cloned() }
}

/// Whether a value is the one that a missing member has.
fn says_nothing(path: &str, value: &Value) -> bool {
    let default = DEFAULTS.iter().find(|(known, _)| *known == path);
    value.is_null()
        || default.is_some_and(|(_, text)| {
            serde_json::from_str::<Value>(text).is_ok_and(|default| default == *value)
        })
}

fn members(path: &str, old: &Map<String, Value>, new: &Map<String, Value>, changes: &mut Vec<Change>) {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        compare(&inner, old.get(name), new.get(name), changes);
    }
}

/// Rules are compared by id, whatever their order; texts and numbers as sets; anything else as a whole.
fn lists(path: &str, old: &[Value], new: &[Value], changes: &mut Vec<Change>) {
    let named = |list: &[Value]| list.iter().all(|item| id(item).is_some());
    let scalar = |list: &[Value]| list.iter().all(|item| !item.is_object() && !item.is_array());
    if named(old) && named(new) {
        let ids: BTreeSet<&str> = old.iter().chain(new).filter_map(id).collect();
        let of = |list: &'_ [Value], wanted: &str| list.iter().find(|item| id(item) == Some(wanted)).cloned();
        for wanted in ids {
            let (before, after) = (of(old, wanted), of(new, wanted));
            compare(&format!("{path}[{wanted}]"), before.as_ref(), after.as_ref(), changes);
        }
    } else if scalar(old) && scalar(new) {
        changes
            .extend(old.iter().filter(|item| !new.contains(item)).map(|item| change(path, Some(item), None)));
        changes
            .extend(new.iter().filter(|item| !old.contains(item)).map(|item| change(path, None, Some(item))));
    } else if old != new {
        changes.push(change(path, Some(&old.into()), Some(&new.into())));
    }
}

fn id(item: &Value) -> Option<&str> {
    item.get("id").or_else(|| item.get("name"))?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "apiVersion: catenary/v1\nkind: ChainPolicy\nspec: {github: acme/shop}\n";

    fn told(old: &str, new: &str) -> Vec<String> {
        let one = |c: Change| format!("{:?} {} {:?} {:?}", c.kind, c.path, c.before, c.after);
        diff(old, new).unwrap().into_iter().map(one).collect()
    }

    #[test]
    fn documents_that_mean_the_same_do_not_differ() {
        let long = short::expand(OLD).unwrap().unwrap();
        assert_eq!(told(OLD, &long), [] as [String; 0]);
        let reordered = long.replace("mode: enforce\n", "").replace("  onIndeterminate: deny\n", "");
        assert_ne!(long, reordered);
        assert_eq!(told(&long, &reordered.replace("spec:\n  ", "spec:\n")).len(), 0);
    }

    #[test]
    fn a_change_has_its_path_and_both_values() {
        let new = OLD
            .replace("github: acme/shop", "github: {repo: acme/shop, minLevel: 3, refs: [refs/heads/main]}");
        assert_eq!(
            told(OLD, &new),
            [
                "Changed spec.build.minLevel Some(Number(2)) Some(Number(3))",
                "Removed spec.source.refs Some(String(\"refs/tags/*\")) None",
            ]
        );
        let new = OLD.replace("acme/shop}", "acme/shop, mode: warn, time: {maxArtifactAge: 90d}}");
        assert_eq!(
            told(OLD, &new),
            [
                "Added spec.mode None Some(String(\"warn\"))",
                "Added spec.time None Some(Object {\"maxArtifactAge\": String(\"90d\")})"
            ]
        );
        let new = OLD.replace("acme/shop}", "{repo: acme/shop, workflow: r.yml}}");
        assert!(
            told(OLD, &new).iter().any(|c| c.contains("spec.trust.builders[workflow].signer.san.prefix"))
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_compared() {
        assert!(diff(OLD, "{}").is_err());
        assert!(diff("{}", OLD).is_err());
    }
}
