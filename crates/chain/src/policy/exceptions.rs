//! `exceptions`: whether a broken chain may be allowed for a while, for one digest, and who says so.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, de::Error as _};

/// `exceptions`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exceptions {
    /// Who may approve.
    pub approvers: Approvers,
    /// How many of them, other than whoever asked.
    pub at_least: u32,
    /// The longest that one holds from when it was asked for.
    #[serde(deserialize_with = "longest")]
    pub max_duration: SignedDuration,
    /// What one is for: always a digest.
    pub scope: Option<Vec<Scope>>,
}

/// `exceptions.approvers`: exactly one of `roles` and `principals`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approvers {
    /// Whoever has one of these roles.
    Roles(BTreeSet<Role>),
    /// These principals, for example `token:4fGh2kQz81`.
    Principals(BTreeSet<String>),
}

/// A role that may approve at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Administrators.
    Admin,
    /// Auditors.
    Auditor,
}

impl Role {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Auditor => "auditor",
        }
    }
}

/// `exceptions.scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One digest.
    Digest,
}

impl Approvers {
    /// Whether a principal with a role may approve.
    pub fn include(&self, principal: &str, role: &str) -> bool {
        match self {
            Self::Roles(roles) => roles.iter().any(|known| known.as_str() == role),
            Self::Principals(principals) => principals.contains(principal),
        }
    }

    /// For people.
    pub fn describe(&self) -> String {
        match self {
            Self::Roles(roles) => roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" or "),
            Self::Principals(all) => all.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
        }
    }
}

impl<'de> Deserialize<'de> for Approvers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wire {
            roles: Option<BTreeSet<Role>>,
            principals: Option<BTreeSet<String>>,
        }
        match Wire::deserialize(deserializer)? {
            Wire { roles: Some(roles), principals: None } if !roles.is_empty() => Ok(Self::Roles(roles)),
            Wire { roles: None, principals: Some(all) } if !all.is_empty() && !all.contains("") => {
                Ok(Self::Principals(all))
            }
            _ => Err(D::Error::custom(
                "approvers are exactly one of `roles: [admin, auditor]` and `principals: [token:…]`, and it is not empty",
            )),
        }
    }
}

fn longest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SignedDuration, D::Error> {
    let duration = super::document::duration(deserializer)?.unwrap_or_default();
    match duration > SignedDuration::ZERO {
        true => Ok(duration),
        false => Err(D::Error::custom("a duration of nothing forbids what the section allows")),
    }
}

/// What no schema says.
pub(super) fn check(exceptions: &Exceptions) -> Result<(), (&'static str, String)> {
    if exceptions.at_least == 0 {
        return Err(("atLeast", "a threshold of 0 asks for nothing".into()));
    }
    if let Approvers::Principals(all) = &exceptions.approvers
        && exceptions.at_least as usize > all.len()
    {
        return Err((
            "atLeast",
            format!("{} approvals are asked for, of {} principals", exceptions.at_least, all.len()),
        ));
    }
    match &exceptions.scope {
        Some(scope) if scope.is_empty() => {
            Err(("scope", "an empty list allows nothing; leave the member out".into()))
        }
        _ => Ok(()),
    }
}
