//! Where in the text a member stands.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A member.
    Member(String),
    /// An element.
    Element(usize),
}

impl From<&str> for Step {
    fn from(value: &str) -> Self {
        Self::Member(value.to_owned())
    }
}

impl From<usize> for Step {
    fn from(value: usize) -> Self {
        Self::Element(value)
    }
}

/// `spec.trust.builders[0].id`.
pub fn join(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Member(name) if text.is_empty() => text.push_str(name),
            Step::Member(name) => {
                text.push('.');
                text.push_str(name);
            }
            Step::Element(index) => text.push_str(&format!("[{index}]")),
        }
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

/// A document with the place of every value, whatever it means.
enum Tree {
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
    List(Vec<Spanned<Tree>>),
    Leaf,
    /// Nothing stands there.
    Null,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key()? {
                    entries.push((key, map.next_value()?));
                }
                Ok(Tree::Map(entries))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Tree, D::Error> {
                IgnoredAny::deserialize(d).map(|_| Tree::Leaf)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The document with places, when it is well-formed.
fn tree(document: &str) -> Option<Spanned<Tree>> {
    let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::FirstWins };
    serde_saphyr::from_str_with_options(document, options).ok()
}

/// The place of the value at `path`, or of the deepest ancestor that exists. (0, 0) when nothing does.
pub fn of_path(document: &str, path: &[Step]) -> (u64, u64) {
    let Some(root) = tree(document) else { return (0, 0) };
    let mut here = &root;
    for step in path {
        let next = match (step, &here.value) {
            (Step::Member(name), Tree::Map(entries)) => {
                entries.iter().find(|(key, _)| key.value == *name).map(|(_, value)| value)
            }
            (Step::Element(index), Tree::List(items)) => items.get(*index),
            _ => None,
        };
        match next {
            Some(value) => here = value,
            None => break,
        }
    }
    (here.referenced.line(), here.referenced.column())
}

/// The place of the member that a joined path names, where its name stands; of the deepest ancestor that exists when there is
/// none. A name with a dot in it is not found by its path.
pub fn of_text(document: &str, path: &str) -> (u64, u64) {
    let Some(root) = tree(document) else { return (0, 0) };
    let mut here = &root;
    let mut place = (here.referenced.line(), here.referenced.column());
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        let next = match &here.value {
            Tree::Map(entries) => entries.iter().find(|(key, _)| key.value == step).map(|(key, value)| {
                place = (key.referenced.line(), key.referenced.column());
                value
            }),
            Tree::List(items) => {
                let index = step.strip_suffix(']').and_then(|index| index.parse::<usize>().ok());
                index.and_then(|index| items.get(index)).inspect(|item| {
                    place = (item.referenced.line(), item.referenced.column());
                })
            }
            Tree::Leaf | Tree::Null => None,
        };
        match next {
            Some(value) => here = value,
            None => break,
        }
    }
    place
}

/// The path of the member that stands at a place, or that the place lies in.
pub fn at(document: &str, line: u64, column: u64) -> String {
    fn walk(node: &Tree, path: &mut Vec<Step>, place: (u64, u64), best: &mut Vec<Step>) {
        match node {
            Tree::Map(entries) => {
                for (key, value) in entries {
                    if (key.referenced.line(), key.referenced.column()) <= place {
                        path.push(Step::Member(key.value.clone()));
                        best.clone_from(path);
                        walk(&value.value, path, place, best);
                        path.pop();
                    }
                }
            }
            Tree::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    if (item.referenced.line(), item.referenced.column()) <= place {
                        path.push(Step::Element(index));
                        best.clone_from(path);
                        walk(&item.value, path, place, best);
                        path.pop();
                    }
                }
            }
            Tree::Leaf | Tree::Null => {}
        }
    }
    let mut best = Vec::new();
    if let Some(root) = tree(document) {
        walk(&root.value, &mut Vec::new(), (line, column), &mut best);
    }
    join(&best)
}

/// The path of the first member or element that has no value.
pub fn empty(document: &str) -> Option<Vec<Step>> {
    fn walk(node: &Tree, path: &mut Vec<Step>) -> bool {
        let mut inside = |step: Step, value: &Tree| {
            path.push(step);
            let found = walk(value, path);
            if !found {
                path.pop();
            }
            found
        };
        match node {
            Tree::Null => true,
            Tree::Leaf => false,
            Tree::Map(entries) => {
                entries.iter().any(|(key, value)| inside(Step::Member(key.value.clone()), &value.value))
            }
            Tree::List(items) => {
                items.iter().enumerate().any(|(index, item)| inside(Step::Element(index), &item.value))
            }
        }
    }
    let mut path = Vec::new();
    walk(&tree(document)?.value, &mut path).then_some(path)
}

/// The known member that looks most like `field`, when one looks like it at all.
pub fn closest(field: &str, known: &[&str]) -> Option<String> {
    if field.len() > 64 {
        return None;
    }
    let distance = |name: &&&str| edits(field, name);
    let best = known.iter().min_by_key(distance)?;
    (edits(field, best) <= 2.max(best.len() / 3)).then(|| (*best).to_owned())
}

/// Optimal string alignment distance: a swap of neighbours is one edit.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}
