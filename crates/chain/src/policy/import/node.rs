//! A foreign document, member by member, each with its place. What is not of the type that its format gives it is bad input: to
//! take it for missing would drop what it asks.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

use super::{
    super::{MAX_DOCUMENT, PolicyError, options},
    draft::plain,
};

/// A value of any type.
#[derive(Debug)]
pub enum Tree {
    /// Members in the order of the document.
    Map(Vec<(String, Spanned<Tree>)>),
    /// Elements.
    List(Vec<Spanned<Tree>>),
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// A bool.
    Bool(bool),
    /// Nothing.
    Null,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Tree;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
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
    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Tree, E> {
        i64::try_from(value).map(Tree::Number).map_err(E::custom)
    }
    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_string()))
    }
    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }
    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }
    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Tree, D::Error> {
        Tree::deserialize(d)
    }
}

/// Reads one or several YAML documents, within the limits of a policy document.
pub fn read(text: &str) -> Result<Vec<Spanned<Tree>>, PolicyError> {
    if text.len() > MAX_DOCUMENT {
        return Err(PolicyError::new(format!("the document is longer than {MAX_DOCUMENT} bytes")));
    }
    serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| {
        let error = error.without_snippet();
        let (line, column) = error.location().map_or((0, 0), |l| (l.line(), l.column()));
        PolicyError { line, column, ..PolicyError::new(error.to_string()) }
    })
}

/// A value, and where it stands.
#[derive(Debug, Clone)]
pub struct At<'d> {
    node: &'d Spanned<Tree>,
    /// Which document of the file, from 0.
    pub document: usize,
    /// For example `spec.images[0].glob`.
    pub path: String,
}

impl<'d> At<'d> {
    /// A whole document.
    pub fn root(node: &'d Spanned<Tree>, document: usize) -> Self {
        Self { node, document, path: String::new() }
    }

    /// From 1.
    pub fn line(&self) -> u64 {
        self.node.referenced.line()
    }

    /// What is wrong here.
    pub fn wrong(&self, message: impl Into<String>) -> PolicyError {
        let path = if self.path.is_empty() { ".".to_owned() } else { plain(&self.path) };
        let column = self.node.referenced.column();
        PolicyError { line: self.line(), column, path, ..PolicyError::new(message) }
    }

    fn inside(&self, node: &'d Spanned<Tree>, name: &str) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self { node, document: self.document, path }
    }

    /// The members; `null` has none.
    pub fn members(&self) -> Result<Vec<(&'d str, At<'d>)>, PolicyError> {
        match &self.node.value {
            Tree::Map(entries) => {
                let entry =
                    |(name, node): &'d (String, Spanned<Tree>)| (name.as_str(), self.inside(node, name));
                Ok(entries.iter().map(entry).collect())
            }
            Tree::Null => Ok(Vec::new()),
            _ => Err(self.wrong("members are expected here")),
        }
    }

    /// A member that is there and is not `null`.
    pub fn get(&self, name: &str) -> Result<Option<At<'d>>, PolicyError> {
        let found = self.members()?.into_iter().find(|(known, _)| *known == name);
        Ok(found.map(|(_, at)| at).filter(|at| !matches!(at.node.value, Tree::Null)))
    }

    /// The elements of a member; none when it is not there.
    pub fn list(&self, name: &str) -> Result<Vec<At<'d>>, PolicyError> {
        let Some(at) = self.get(name)? else { return Ok(Vec::new()) };
        let Tree::List(items) = &at.node.value else { return Err(at.wrong("a list is expected here")) };
        let item = |(index, node): (usize, &'d Spanned<Tree>)| Self {
            node,
            document: at.document,
            path: format!("{}[{index}]", at.path),
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// The text that this is.
    pub fn text(&self) -> Result<&'d str, PolicyError> {
        match &self.node.value {
            Tree::Text(text) => Ok(text),
            _ => Err(self.wrong("a text is expected here: put it in quotes")),
        }
    }

    /// The text of a member, when it is there and not empty.
    pub fn text_of(&self, name: &str) -> Result<Option<&'d str>, PolicyError> {
        match self.get(name)? {
            Some(at) => Ok(Some(at.text()?).filter(|text| !text.is_empty())),
            None => Ok(None),
        }
    }

    /// The bool of a member.
    pub fn bool_of(&self, name: &str) -> Result<Option<bool>, PolicyError> {
        let Some(at) = self.get(name)? else { return Ok(None) };
        match at.node.value {
            Tree::Bool(value) => Ok(Some(value)),
            _ => Err(at.wrong("true or false is expected here")),
        }
    }

    /// The number of a member.
    pub fn count_of(&self, name: &str) -> Result<Option<usize>, PolicyError> {
        let Some(at) = self.get(name)? else { return Ok(None) };
        match at.node.value {
            Tree::Number(value) => {
                usize::try_from(value).map(Some).map_err(|_| at.wrong("a number below zero counts nothing"))
            }
            _ => Err(at.wrong("a whole number is expected here")),
        }
    }
}
