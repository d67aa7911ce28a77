//! The evaluator.

/// Evaluates.
pub fn evaluate() {}
