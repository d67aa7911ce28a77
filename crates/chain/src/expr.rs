//! Expressions of a policy: a subset of CEL, at four typed sites only (docs/expressions.md).
//!
//! An expression is compiled when its policy is parsed: its length, nesting, names and types are checked then, and what is
//! left can be evaluated in a bounded number of counted steps. Evaluation is pure. It is stricter than CEL where CEL would
//! guess: values of different types are not comparable, and an error is an error also beside `true ||` on its right. Why the
//! interpreter is our own: docs/adr/0010-own-expressions.md.

mod bindings;
mod check;
mod evaluate;
mod functions;
mod parse;
mod pattern;
mod token;
mod value;

use std::sync::Arc;

use serde::{Deserialize, Deserializer, de::Error as _};

pub use bindings::{Bindings, Site, attestation, build, context, params, source, subject};
pub use evaluate::{Budget, Fault};
pub use value::Value;

/// Longest source, in bytes.
pub const MAX_SOURCE: usize = 4 * 1024;
/// Deepest nesting, of brackets and of operators.
pub const MAX_DEPTH: usize = 32;

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Program {
    source: Arc<str>,
    root: Arc<parse::Node>,
}

/// What an expression that cannot be evaluated means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// That the policy is not met.
    Fail,
    /// That nobody can say.
    #[default]
    Indeterminate,
}

/// `{id, expr, message, onError}`: something that must be true.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assert {
    /// The rule's id.
    pub id: String,
    /// What must be true.
    pub expr: Program,
    /// What to say when it is not.
    pub message: Option<String>,
    /// What an error means.
    #[serde(default)]
    pub on_error: OnError,
}

impl Program {
    /// Reads the source. Names are checked by [`Self::check`], once the site is known.
    pub fn parse(source: &str) -> Result<Self, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!("an expression has at most {MAX_SOURCE} bytes, this one {}", source.len()));
        }
        let tokens = token::split(source)?;
        let root = parse::parse(&tokens)?;
        Ok(Self { source: source.into(), root: Arc::new(root) })
    }

    /// Whether every name exists at the site, and the result can be a bool.
    pub fn check(&self, site: Site) -> Result<(), String> {
        check::check(&self.root, site)
    }

    /// The value, which must be a bool. `budget` is spent.
    pub fn evaluate(&self, bindings: &Bindings, budget: &mut Budget) -> Result<bool, Fault> {
        evaluate::evaluate(&self.root, bindings, budget)
    }

    /// As written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it may read a member of that name.
    pub fn reads(&self, member: &str) -> bool {
        self.root.reads(member)
    }

    /// Whether the answer depends on the moment.
    pub fn uses_now(&self) -> bool {
        self.root.names("now")
    }
}

impl<'de> Deserialize<'de> for Program {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
