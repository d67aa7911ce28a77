//! Revisions of a policy: drafted, tested, approved by others, activated.

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use catenary_chain::{
    Control, Policy,
    control::{Activated, Approved, Drafted, Entry, Tested},
    life::Revision,
    policy::trial::Ran,
};
use catenary_evidence::digest::Sha256;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    App,
    auth::Principal,
    extract::{ApiJson, ApiPath, ApiQuery, Payload},
    problem::Fault,
    routes::{
        policies::{self, Sent},
        tokens::NoQuery,
    },
};

/// A revision and what became of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Shown {
    name: String,
    revision: u64,
    /// SHA-256 of the document.
    digest: String,
    /// `draft`, `active` or `retired`.
    state: &'static str,
    /// Index of the entry that brought it.
    index: u64,
    /// Who drafted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    drafted_by: Option<String>,
    /// Its tests: how many there are, and how the newest run went.
    tests: Tests,
    /// Who approved that it takes the place of what is active.
    approved_by: Vec<String>,
    /// How many approvals of others it has, if whoever asks activates it.
    approvals: u32,
    /// How many it takes.
    approvals_needed: u32,
    /// Exactly as it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Tests {
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    passed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<u64>,
}

/// Revisions.
#[derive(Debug, Serialize, ToSchema)]
struct Revisions {
    items: Vec<Shown>,
}

/// The fixtures of tests.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fixtures {
    /// JSON Lines by the names that the tests give them.
    #[serde(default)]
    fixtures: BTreeMap<String, String>,
}

/// How the tests of a revision went.
#[derive(Debug, Serialize, ToSchema)]
struct Report {
    name: String,
    revision: u64,
    passed: usize,
    failed: usize,
    /// One by one, in the order of the document.
    #[schema(value_type = Vec<serde_json::Value>)]
    results: Vec<Ran>,
}

/// Nothing is said beside the path.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// The number of the next revision.
pub(super) fn next(control: &Control, name: &str) -> u64 {
    control.lives.get(name).map_or(0, |life| life.last) + 1
}

fn find<'a>(control: &'a Control, name: &str, number: u64) -> Result<&'a Revision, Fault> {
    let revision = control.lives.get(name).and_then(|life| life.revisions.get(&number));
    revision.ok_or(Fault::NotFound { what: "revision" })
}

fn is_active(control: &Control, name: &str, number: u64) -> bool {
    control.policies.get(name).is_some_and(|active| active.revision == number)
}

fn show(control: &Control, who: &Principal, name: &str, number: u64, revision: &Revision) -> Shown {
    let policy = Policy::parse(&revision.document).ok();
    let state = match (is_active(control, name, number), revision.was_active) {
        (true, _) => "active",
        (false, true) => "retired",
        (false, false) => "draft",
    };
    Shown {
        name: name.to_owned(),
        revision: number,
        digest: revision.digest.to_string(),
        state,
        index: revision.index,
        drafted_by: revision.by.clone(),
        tests: Tests {
            count: policy.as_ref().map_or(0, |policy| policy.spec().tests.len()),
            passed: revision.tested.as_ref().map(|tested| tested.passed),
            failed: revision.tested.as_ref().map(|tested| tested.failed),
        },
        approved_by: revision.approvals.iter().cloned().collect(),
        approvals: control.approvals(revision, &who.identity),
        approvals_needed: policy.map_or(0, |policy| control.approvals_needed(&policy)),
        document: None,
    }
}

async fn answer(
    app: &App,
    who: &Principal,
    name: &str,
    number: u64,
    created: bool,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let revision = find(&snapshot.control, name, number)?;
    Ok(super::kept(created, &show(&snapshot.control, who, name, number, revision)))
}

/// Propose a revision
///
/// It decides nothing until it is activated. The same bytes as an open draft or the active revision answer 200 with that one;
/// those of an older revision are refused: it is activated by its number.
#[utoipa::path(post, path = "/v1/policies/{name}/drafts", tag = "policies", params(("name" = String, Path)),
    request_body(content((String = "application/yaml"), (serde_json::Value = "application/json"))),
    responses((status = 200, description = "Known already", body = Shown), (status = 201, description = "Drafted", body = Shown)))]
pub(crate) async fn draft(
    State(app): State<App>,
    who: Principal,
    ApiPath(name): ApiPath<String>,
    payload: Payload,
) -> Result<Response, Fault> {
    let Sent { document, .. } = policies::sent(&payload)?;
    policies::publish(&name, &document)?;
    let digest = Sha256::of(document.as_bytes());
    let (wanted, by) = (name.clone(), who.identity.clone());
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        if known(control, &wanted, digest).is_some() {
            return Ok(None);
        }
        policies::refuse_rollback(control, &wanted, digest)?;
        let (name, revision) = (wanted.clone(), next(control, &wanted));
        Ok(Some(Entry::PolicyDrafted(Drafted { name, revision, document: document.clone(), by: by.clone() })))
    });
    let created = appended.await?.is_some();
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let revision = known(&snapshot.control, &name, digest).ok_or(Fault::NotFound { what: "revision" })?;
    if created {
        tracing::info!(target: "audit", tenant = who.tenant, by = who.name, policy = name, revision, "drafted a policy");
    }
    answer(&app, &who, &name, revision, created).await
}

/// The open draft or active revision with these bytes.
fn known(control: &Control, name: &str, digest: Sha256) -> Option<u64> {
    let life = control.lives.get(name)?;
    let is_open = |number: u64, revision: &Revision| !revision.was_active || is_active(control, name, number);
    let same =
        |(number, revision): &(&u64, &Revision)| revision.digest == digest && is_open(**number, revision);
    life.revisions.iter().rev().find(same).map(|(number, _)| *number)
}

/// The newest revisions of a policy
#[utoipa::path(get, path = "/v1/policies/{name}/revisions", tag = "policies", params(("name" = String, Path)),
    responses((status = 200, description = "Newest first, at most 32", body = Revisions)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    ApiPath(name): ApiPath<String>,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let control = &snapshot.control;
    let life = control.lives.get(&name).ok_or(Fault::NotFound { what: "policy" })?;
    let items = life.revisions.iter().rev().map(|(number, r)| show(control, &who, &name, *number, r));
    Ok(super::json(&Revisions { items: items.collect() }))
}

/// One revision, with its document
#[utoipa::path(get, path = "/v1/policies/{name}/revisions/{revision}", tag = "policies",
    params(("name" = String, Path), ("revision" = u64, Path)),
    responses((status = 200, description = "The revision", body = Shown)))]
pub(crate) async fn get(
    State(app): State<App>,
    who: Principal,
    ApiPath((name, number)): ApiPath<(String, u64)>,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let revision = find(&snapshot.control, &name, number)?;
    let shown = show(&snapshot.control, &who, &name, number, revision);
    Ok(super::json(&Shown { document: Some(revision.document.to_string()), ..shown }))
}

/// Run the tests inside a revision
///
/// With the fixtures that are sent along. The result is kept in the log: a revision with tests is activated only after all of them passed.
#[utoipa::path(post, path = "/v1/policies/{name}/revisions/{revision}/test", tag = "policies", request_body = Fixtures,
    params(("name" = String, Path), ("revision" = u64, Path)),
    responses((status = 200, description = "How they went", body = Report)))]
pub(crate) async fn test(
    State(app): State<App>,
    who: Principal,
    ApiPath((name, number)): ApiPath<(String, u64)>,
    ApiJson(body): ApiJson<Fixtures>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let document = find(&snapshot.control, &name, number)?.document.to_string();
    let policy = Policy::parse(&document).map_err(Fault::Policy)?;
    let hashes = |(name, text): (&String, &String)| (name.clone(), Sha256::of(text.as_bytes()));
    let fixtures: BTreeMap<String, Sha256> = body.fixtures.iter().map(hashes).collect();
    let results = policies::run(&app, &policy, &Sent { document, fixtures: body.fixtures }).await?;
    let passed = results.iter().filter(|ran| ran.passed).count();
    let failed = results.len() - passed;
    let (wanted, by) = (name.clone(), who.identity.clone());
    let append = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        let before = find(control, &wanted, number)?.tested.as_ref();
        let tested = Tested {
            name: wanted.clone(),
            revision: number,
            run: before.map_or(0, |before| before.run) + 1,
            passed: passed as u64,
            failed: failed as u64,
            fixtures: fixtures.clone(),
            by: by.clone(),
        };
        let same = before.is_some_and(|before| {
            (before.passed, before.failed, &before.fixtures)
                == (tested.passed, tested.failed, &tested.fixtures)
        });
        Ok((!same && passed + failed > 0).then_some(Entry::PolicyTested(tested)))
    });
    append.await?;
    Ok(super::json(&Report { name, revision: number, passed, failed, results }))
}

/// Approve a revision
///
/// That it takes the place of what is active now; another activation lets the approval lapse. Not by whoever drafted it, nor by a token that they made.
#[utoipa::path(post, path = "/v1/policies/{name}/revisions/{revision}/approve", tag = "policies", request_body = Nothing,
    params(("name" = String, Path), ("revision" = u64, Path)),
    responses((status = 200, description = "Approved already", body = Shown), (status = 201, description = "Approved", body = Shown)))]
pub(crate) async fn approve(
    State(app): State<App>,
    who: Principal,
    ApiPath((name, number)): ApiPath<(String, u64)>,
    ApiJson(Nothing {}): ApiJson<Nothing>,
) -> Result<Response, Fault> {
    let (wanted, by) = (name.clone(), who.identity.clone());
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        let revision = find(control, &wanted, number)?;
        if revision.by.as_ref().is_some_and(|drafter| control.same_principal(drafter, &by)) {
            return Err(Fault::ApprovalSelf(format!("{wanted} revision {number}")));
        }
        if is_active(control, &wanted, number) || revision.approvals.contains(&by) {
            return Ok(None);
        }
        let (name, round) = (wanted.clone(), control.lives.get(&wanted).map_or(0, |life| life.round));
        Ok(Some(Entry::PolicyApproved(Approved { name, revision: number, round, by: by.clone() })))
    });
    let created = appended.await?.is_some();
    if created {
        tracing::info!(target: "audit", tenant = who.tenant, by = who.name, policy = name, revision = number, "approved a policy");
    }
    answer(&app, &who, &name, number, created).await
}

/// Make a revision active
///
/// A draft, or an older one to go back to. It takes as many approvals of others as what is active asks for, and its tests passed.
/// No answer begun after this one, on any instance, is by the revision before.
#[utoipa::path(post, path = "/v1/policies/{name}/revisions/{revision}/activate", tag = "policies", request_body = Nothing,
    params(("name" = String, Path), ("revision" = u64, Path)),
    responses((status = 200, description = "Active already", body = Shown), (status = 201, description = "Active now", body = Shown)))]
pub(crate) async fn activate(
    State(app): State<App>,
    who: Principal,
    ApiPath((name, number)): ApiPath<(String, u64)>,
    ApiJson(Nothing {}): ApiJson<Nothing>,
) -> Result<Response, Fault> {
    let (wanted, by) = (name.clone(), who.identity.clone());
    let drafted = app.backend.snapshot(&who.tenant).await?;
    if let Ok(policy) = find(&drafted.control, &name, number).map(|found| Policy::parse(&found.document))
        && let Ok(policy) = policy
    {
        crate::pins::of_policy(&app, &who, &policy).await?;
    }
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        let revision = find(control, &wanted, number)?;
        if is_active(control, &wanted, number) {
            return Ok(None);
        }
        may_activate(control, &wanted, number, revision, &by)?;
        let (name, round) = (wanted.clone(), control.lives.get(&wanted).map_or(0, |life| life.round));
        Ok(Some(Entry::PolicyActivated(Activated { name, revision: number, round, by: by.clone() })))
    });
    let created = appended.await?.is_some();
    if created {
        tracing::info!(target: "audit", tenant = who.tenant, by = who.name, policy = name, revision = number, "activated a policy");
    }
    answer(&app, &who, &name, number, created).await
}

/// In force, tested, approved.
fn may_activate(
    control: &Control,
    name: &str,
    number: u64,
    revision: &Revision,
    by: &str,
) -> Result<(), Fault> {
    let policy = Policy::publish(&revision.document, Timestamp::now()).map_err(Fault::Policy)?;
    let tests = policy.spec().tests.len() as u64;
    let passed = revision.tested.as_ref().is_some_and(|run| run.failed == 0 && run.passed == tests);
    if tests > 0 && !passed {
        return Err(Fault::PolicyUntested { name: name.to_owned(), revision: number });
    }
    let (have, need) = (control.approvals(revision, by), control.approvals_needed(&policy));
    match have >= need {
        true => Ok(()),
        false => Err(Fault::PolicyUnsigned { name: format!("{name} revision {number}"), have, need }),
    }
}
