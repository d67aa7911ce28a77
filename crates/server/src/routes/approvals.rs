//! Approvals: how many people must stand behind what is added to trust, and who does.

use axum::{extract::State, response::Response};
use catenary_chain::{
    consent::MAX_APPROVALS,
    control::{Change, Control, Effective, EffectiveRoot, Entry, GroupSet, TrustApproved, TrustRules},
};
use catenary_evidence::KeyId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    App,
    auth::Principal,
    extract::{ApiJson, ApiQuery, Patience},
    problem::{Fault, success},
    routes::tokens::NoQuery,
    trust::{self, Progress},
};

/// The rule.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// How many others must approve what one administrator adds: 0 to 16.
    #[schema(maximum = 16)]
    approvals: u32,
}

/// What to approve: exactly one member.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// A key's id.
    #[schema(value_type = Option<String>)]
    key: Option<KeyId>,
    /// `{domain, version}` of a trust root.
    #[schema(value_type = Option<Object>)]
    root: Option<EffectiveRoot>,
    /// Members of a group, by the index under which they wait.
    group: Option<u64>,
}

/// The rule and what waits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Approvals {
    /// How many others must approve what one administrator adds.
    approvals: u32,
    waiting: Vec<Waiting>,
}

/// What waits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    /// As it is approved.
    #[schema(value_type = Object)]
    change: Change,
    /// Members that a group would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    group: Option<GroupSet>,
    /// Who stands behind it.
    approved_by: Vec<String>,
    /// How many more people must.
    missing: u32,
}

fn shown(control: &Control) -> Approvals {
    let consent = &control.consent;
    let added = trust::added(control).into_iter().map(|what| (trust::change(&what), None));
    let groups = consent.groups.iter().map(|(index, group)| (Change::Group(*index), Some(group.clone())));
    let rules = consent.given.keys().filter(|change| matches!(change, Change::Rules { .. }));
    let all = added.chain(groups).chain(rules.map(|change| (change.clone(), None)));
    let waiting = all.map(|(change, group)| Waiting {
        approved_by: consent.given.get(&change).into_iter().flatten().cloned().collect(),
        missing: control.missing(&change),
        change,
        group,
    });
    let waiting = waiting.filter(|waiting| waiting.missing > 0).collect();
    Approvals { approvals: consent.approvals, waiting }
}

/// The rule for what is added to trust, and what waits for approvals
#[utoipa::path(get, path = "/v1/approvals", tag = "trust", responses((status = 200, description = "Oldest first", body = Approvals)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    Ok(super::json(&shown(&app.backend.snapshot(&who.tenant).await?.control)))
}

/// Approve what somebody else added to trust
///
/// A key, a version of a root, the members of a group. Whoever added it stands behind it already; a token and whoever made it
/// are one: 403 for who adds nobody. What has enough approvals is made effective, as when it is added without this rule. 202 while more are missing.
#[utoipa::path(post, path = "/v1/approvals", tag = "trust", request_body = Wanted,
    responses((status = 200, description = "Effective before", body = Approvals), (status = 201, description = "Effective now", body = Approvals),
        (status = 202, description = "More approvals are missing, or stored evidence is being verified", body = Approvals)))]
pub(crate) async fn approve(
    State(app): State<App>,
    who: Principal,
    Patience(patience): Patience,
    ApiJson(wanted): ApiJson<Wanted>,
) -> Result<Response, Fault> {
    let what = match (wanted.key, wanted.root, wanted.group) {
        (Some(key), None, None) => Effective::from(key),
        (None, Some(root), None) => Effective::Root(root),
        (None, None, Some(index)) => return group(&app, &who, index).await,
        _ => {
            return Err(Fault::Member {
                pointer: "".into(),
                why: "has exactly one of key, root and group".into(),
            });
        }
    };
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let control = &snapshot.control;
    let known = match &what {
        Effective::Key(key) => control.keys.contains_key(&key.key),
        Effective::Root(root) => {
            let state = control.domains.get(&root.domain);
            state.is_some_and(|state| state.versions.iter().any(|known| known.root.version == root.version))
        }
    };
    if !known {
        return Err(Fault::NotFound { what: "key or version of a root" });
    }
    if trust::added(control).contains(&what) {
        another(control, &trust::change(&what), &who.identity)?;
    }
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, ?what, "approved trust");
    let progress =
        trust::approve(&app, &who.tenant, (who.submitter(), &who.identity), what, patience).await?;
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    Ok(super::added(progress, &shown(&snapshot.control)))
}

/// Refuses who stands behind it already, alone or by a token that is theirs: that is no second person.
fn another(control: &Control, change: &Change, by: &String) -> Result<(), Fault> {
    let (missing, need) = (control.missing(change), control.consent.approvals + 1);
    match missing > 0 && control.missing_with(change, Some(by)) >= missing {
        true => Err(Fault::ApprovalRequired { name: "this change".into(), have: need - missing, need }),
        false => Ok(()),
    }
}

async fn group(app: &App, who: &Principal, index: u64) -> Result<Response, Fault> {
    let (change, by) = (Change::Group(index), who.identity.clone());
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        if !control.consent.groups.contains_key(&index) {
            return Err(Fault::NotFound { what: "group that waits" });
        }
        another(control, &change, &by)?;
        Ok(Some(Entry::TrustApproved(TrustApproved { change: change.clone(), by: by.clone() })))
    });
    let approved = appended.await?.is_some();
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, group = index, "approved a group");
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let waits = snapshot.control.consent.groups.contains_key(&index);
    let progress = match (waits, approved) {
        (true, _) => Progress::Working,
        (false, true) => Progress::Effective,
        (false, false) => Progress::Known,
    };
    Ok(super::added(progress, &shown(&snapshot.control)))
}

/// Set how many others must approve what one administrator adds to trust
///
/// Keys, roots and groups; what counts already goes on counting. A stricter rule holds at once. A weaker one holds when as many
/// administrators have asked for it as the present rule wants: 202 until then.
#[utoipa::path(put, path = "/v1/approvals", tag = "trust", request_body = Rule,
    responses((status = 200, description = "So already", body = Approvals), (status = 201, description = "From now on", body = Approvals),
        (status = 202, description = "More administrators must ask for it", body = Approvals)))]
pub(crate) async fn rule(
    State(app): State<App>,
    who: Principal,
    ApiJson(Rule { approvals }): ApiJson<Rule>,
) -> Result<Response, Fault> {
    if approvals > MAX_APPROVALS {
        return Err(Fault::Member { pointer: "/approvals".into(), why: format!("is 0 to {MAX_APPROVALS}") });
    }
    let by = who.identity.clone();
    let asked = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        let change = Change::Rules { approvals, round: control.consent.round };
        if approvals >= control.consent.approvals {
            return Ok(None);
        }
        if control.consent.given.contains_key(&change) {
            another(control, &change, &by)?;
        }
        Ok(Some(Entry::TrustApproved(TrustApproved { change: change.clone(), by: by.clone() })))
    });
    asked.await?;
    let by = who.identity.clone();
    let set = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        let (now, round) = (control.consent.approvals, control.consent.round);
        let may = approvals > now || control.is_agreed(&Change::Rules { approvals, round });
        let entry = || Entry::TrustRules(TrustRules { approvals, round, by: by.clone() });
        Ok((approvals != now && may).then(entry))
    });
    let set = set.await?.is_some();
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, approvals, set, "asked for a rule of approvals");
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let shown = shown(&snapshot.control);
    Ok(match shown.approvals == approvals {
        true => super::kept(set, &shown),
        false => success::accepted(super::json(&shown)),
    })
}
