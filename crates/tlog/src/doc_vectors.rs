//! Reads docs/log-format.md.
