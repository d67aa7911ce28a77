//! Image references and repository URIs in canonical form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// `registry/repository@algorithm:hex`: the only form that a verdict is given for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    /// `registry/repository`: host with port, lower case; `docker.io/library/` expanded.
    pub resource: String,
    /// The digest.
    pub digest: Digest,
}
