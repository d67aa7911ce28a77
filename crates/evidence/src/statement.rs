//! in-toto statements: `_type`, subjects and the predicate, which [`crate::predicate`] reads.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, GitOid, Node};

/// One subject of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The producer's name for it: shown, never decided on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it is.
    pub digests: DigestSet,
}

/// An in-toto DigestSet, sorted into the spaces of chain-model 1.1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestSet {
    /// `sha256`, `sha384`, `sha512`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<Digest>,
    /// `gitCommit` (and `sha1` of a git-shaped dependency).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub git: Vec<GitOid>,
    /// Names of algorithms that no rule accepts (`sha1`, `md5`, …).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

impl DigestSet {
    /// Every node that the set names.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        let content = self.content.iter().copied().map(Node::Content);
        content.chain(self.git.iter().copied().map(Node::Git))
    }
}
