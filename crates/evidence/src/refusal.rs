//! Why bytes were refused: one variant a fact that the sender can act on.

/// A refusal. [`Refusal::code`] is the stable API code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {}
