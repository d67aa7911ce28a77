//! Groups: whom policies mean by a name that they do not define themselves.

use std::collections::BTreeSet;

use axum::{extract::State, response::Response};
use catenary_chain::control::{Control, Entry, GroupSet};
use catenary_evidence::KeyId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    App,
    auth::Principal,
    extract::{ApiJson, ApiPath, ApiQuery},
    problem::{Fault, success},
    routes::tokens::{self, NoQuery},
};

/// Most groups of a tenant.
const MAX_GROUPS: usize = 1_000;
/// Most members of a group, of each kind.
const MAX_MEMBERS: usize = 256;

/// The members of a group; with none there is no such group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Members {
    /// Ids of registered keys, at most 256: for signatures.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    keys: BTreeSet<KeyId>,
    /// Principals, for example `token:4fGh2kQz81`, at most 256: for approvals.
    #[serde(default)]
    principals: BTreeSet<String>,
}

/// A group.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    #[schema(value_type = Vec<String>)]
    keys: Vec<KeyId>,
    principals: Vec<String>,
    /// Who set them; nobody when there is no such group.
    #[serde(skip_serializing_if = "Option::is_none")]
    set_by: Option<String>,
}

/// Groups.
#[derive(Debug, Serialize, ToSchema)]
struct GroupList {
    items: Vec<Group>,
}

impl Group {
    fn of(control: &Control, name: &str) -> Self {
        let known = control.groups.get(name);
        Self {
            name: name.to_owned(),
            keys: known.map(|group| group.keys.clone()).unwrap_or_default(),
            principals: known.map(|group| group.principals.clone()).unwrap_or_default(),
            set_by: known.map(|group| group.by.clone()),
        }
    }
}

/// The groups
#[utoipa::path(get, path = "/v1/groups", tag = "groups", responses((status = 200, description = "By name", body = GroupList)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let control = &snapshot.control;
    let items = control.groups.keys().map(|name| Group::of(control, name)).collect();
    Ok(super::json(&GroupList { items }))
}

/// Set the members of a group
///
/// Those that are sent, and no others. A policy that defines no groups of its own means these by `group: name` and
/// `principals: name`. 202 while others must approve it first (`/v1/approvals`). No answer begun after this one, on any instance, counts who is not in it any more.
#[utoipa::path(put, path = "/v1/groups/{name}", tag = "groups", params(("name" = String, Path, description = "1 to 63 of `[a-z0-9.-]`")),
    request_body = Members, responses((status = 200, description = "So already", body = Group), (status = 201, description = "Set", body = Group),
        (status = 202, description = "As it is until others approve", body = Group)))]
pub(crate) async fn set(
    State(app): State<App>,
    who: Principal,
    ApiPath(name): ApiPath<String>,
    ApiJson(Members { keys, principals }): ApiJson<Members>,
) -> Result<Response, Fault> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
        return Err(Fault::Member { pointer: "/name".into(), why: "is 1 to 63 of [a-z0-9.-]".into() });
    }
    for (pointer, count) in [("/keys", keys.len()), ("/principals", principals.len())] {
        if count > MAX_MEMBERS {
            return Err(Fault::Member {
                pointer: pointer.into(),
                why: format!("has at most {MAX_MEMBERS} members"),
            });
        }
    }
    let principals: Vec<String> =
        principals.into_iter().map(|p| tokens::text("/principals", p, 256)).collect::<Result<_, _>>()?;
    let new = GroupSet {
        name: name.clone(),
        keys: keys.into_iter().collect(),
        principals,
        by: who.identity.clone(),
    };
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        if new.keys.iter().any(|key| !control.keys.contains_key(key)) {
            return Err(Fault::NotFound { what: "key" });
        }
        let known = control.groups.get(&new.name);
        if known.is_none() && control.groups.len() >= MAX_GROUPS {
            return Err(Fault::Conflict(format!("there are {MAX_GROUPS} groups already")));
        }
        let same = match known {
            Some(known) => (&known.keys, &known.principals) == (&new.keys, &new.principals),
            None => new.keys.is_empty() && new.principals.is_empty(),
        };
        Ok((!same).then(|| Entry::GroupSet(new.clone())))
    });
    let created = appended.await?.is_some();
    if created {
        tracing::info!(target: "audit", tenant = who.tenant, by = who.name, group = name, "set a group");
    }
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let control = &snapshot.control;
    let waits = control.consent.groups.values().any(|waiting| waiting.name == name);
    let group = Group::of(control, &name);
    Ok(match created && waits {
        true => success::accepted(super::json(&group)),
        false => super::kept(created, &group),
    })
}
