//! The policy document (chain-model 3, docs/rules.md 9).

/// A parsed policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {}

impl Policy {
    /// Reads a YAML or JSON document.
    pub fn parse(_document: &str) -> Result<Self, String> {
        Ok(Self {})
    }
}
