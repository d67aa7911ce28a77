//! `exceptions`: whether a broken chain may be allowed for a while, for one digest, and who says so.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::control::Control;

/// `exceptions`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Wire")]
pub struct Exceptions {
    /// Who may approve.
    pub approvers: Approvers,
    /// How many of them, other than whoever asked.
    pub at_least: u32,
    /// The longest that one holds from when it was asked for.
    pub max_duration: SignedDuration,
    /// What one is for: always a digest.
    pub scope: Option<Vec<Scope>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    approvers: ApproversWire,
    at_least: Option<u32>,
    #[serde(deserialize_with = "longest")]
    max_duration: SignedDuration,
    scope: Option<Vec<Scope>>,
}

/// `atLeast` may stand beside those whom it counts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ApproversWire {
    roles: Option<BTreeSet<Role>>,
    principals: Option<BTreeSet<String>>,
    group: Option<String>,
    at_least: Option<u32>,
}

impl TryFrom<Wire> for Exceptions {
    type Error = &'static str;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        let Wire {
            approvers: ApproversWire { roles, principals, group, at_least }, max_duration, scope, ..
        } = wire;
        let at_least = match (wire.at_least, at_least) {
            (Some(at_least), None) | (None, Some(at_least)) => at_least,
            (None, None) => return Err("the member `atLeast` is missing"),
            (Some(_), Some(_)) => return Err("`atLeast` is given twice"),
        };
        let approvers = match (roles, principals, group) {
            (Some(roles), None, None) if !roles.is_empty() => Approvers::Roles(roles),
            (None, Some(all), None) if !all.is_empty() && !all.contains("") => Approvers::Principals(all),
            (None, None, Some(group)) if !group.is_empty() => Approvers::Group(group),
            _ => {
                return Err(
                    "approvers are exactly one of `roles: [admin, auditor]`, `principals: [token:…]` and `group: name`, and it is not empty",
                );
            }
        };
        Ok(Self { approvers, at_least, max_duration, scope })
    }
}

/// `exceptions.approvers`: exactly one of `roles`, `principals` and `group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approvers {
    /// Whoever has one of these roles.
    Roles(BTreeSet<Role>),
    /// These principals, for example `token:4fGh2kQz81`.
    Principals(BTreeSet<String>),
    /// The principals of a group of the tenant.
    Group(String),
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
    pub fn include(&self, principal: &str, role: &str, control: &Control) -> bool {
        match self {
            Self::Roles(roles) => roles.iter().any(|known| known.as_str() == role),
            Self::Principals(principals) => principals.contains(principal),
            Self::Group(name) => {
                control.groups.get(name).is_some_and(|group| group.principals.iter().any(|p| p == principal))
            }
        }
    }

    /// For people.
    pub fn describe(&self) -> String {
        match self {
            Self::Roles(roles) => roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" or "),
            Self::Principals(all) => all.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
            Self::Group(name) => format!("the group `{name}`"),
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
