//! Exit codes (chain-model 2.2): stable API.

use std::process::ExitCode;

use crate::client::ClientError;

/// What the shell learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Allowed, or simply done.
    Allowed = 0,
    /// Denied.
    Denied = 1,
    /// It cannot be decided now.
    Indeterminate = 2,
    /// Wrong usage, configuration or input.
    Usage = 3,
    /// The credential is missing or may not.
    Auth = 4,
    /// The service cannot be reached.
    Unreachable = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The exit code of an error.
pub fn of(error: &anyhow::Error) -> Exit {
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Unreachable { .. }) => Exit::Unreachable,
        Some(ClientError::Problem { status: 401 | 403, .. }) => Exit::Auth,
        Some(ClientError::Problem { status: 429 | 500.., .. }) => Exit::Indeterminate,
        _ => Exit::Usage,
    }
}
