//! Exceptions: one image, for a while, in spite of a broken chain.

use axum::{extract::State, response::Response};
use catenary_chain::{
    Control, Policy,
    control::{Entry, Exception, ExceptionApproved, ExceptionWithdrawn},
    exception::{self, ExceptionState, MAX_OPEN, Standing},
    policy::exceptions::Exceptions as Rules,
};
use catenary_evidence::reference::ImageReference;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    App,
    auth::Principal,
    extract::{ApiJson, ApiPath, ApiQuery},
    problem::Fault,
    routes::{
        keys::Why,
        revisions::Nothing,
        tokens::{self, NoQuery},
    },
    verdict,
};

/// An exception to ask for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Wanted {
    /// `registry/repository@sha256:…`: the exception is for this digest in this repository alone.
    image: String,
    /// The policy; the one of the highest priority that matches, when absent.
    policy: Option<String>,
    /// The environment; all that the policy decides for, when absent.
    environment: Option<String>,
    /// Who answers for it; 1 to 128 characters.
    #[schema(min_length = 1, max_length = 128)]
    owner: String,
    /// Why; 1 to 1,024 characters.
    #[schema(min_length = 1, max_length = 1024)]
    reason: String,
    /// When it ends.
    #[schema(format = DateTime)]
    expires: String,
}

/// An exception and what became of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    policy: String,
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    owner: String,
    reason: String,
    requested: String,
    requested_by: String,
    expires: String,
    /// `open`, `approved`, `lapsed`, `withdrawn`, or `forbidden` when the policy allows it no more.
    state: &'static str,
    approved_by: Vec<String>,
    /// How many approvals it takes.
    approvals_needed: u32,
    /// Why it was withdrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawn: Option<String>,
    /// Index of its entry.
    index: u64,
}

/// Exceptions.
#[derive(Debug, Serialize, ToSchema)]
struct ExceptionList {
    items: Vec<Shown>,
}

fn policy<'a>(control: &'a Control, name: &str) -> Option<&'a Policy> {
    control.policies.get(name)?.policy.as_deref().ok()
}

fn rules<'a>(control: &'a Control, name: &str) -> Option<&'a Rules> {
    policy(control, name)?.spec().exceptions.as_ref()
}

fn show(control: &Control, state: &ExceptionState, now: Timestamp) -> Shown {
    let asked = &state.exception;
    let rules = rules(control, &asked.policy);
    Shown {
        id: asked.id.clone(),
        policy: asked.policy.clone(),
        image: format!("{}@{}", asked.resource, asked.digest),
        environment: asked.environment.clone(),
        owner: asked.owner.clone(),
        reason: asked.reason.clone(),
        requested: asked.requested.to_string(),
        requested_by: asked.by.clone(),
        expires: asked.expires.to_string(),
        state: match state.standing(rules, control, now) {
            _ if state.withdrawn.is_some() => "withdrawn",
            Standing::Holds => "approved",
            _ if asked.expires <= now => "lapsed",
            Standing::Unapproved { .. } => "open",
            _ => "forbidden",
        },
        approved_by: state.approvals.keys().cloned().collect(),
        approvals_needed: rules.map_or(0, |rules| rules.at_least),
        withdrawn: state.withdrawn.clone(),
        index: state.index,
    }
}

impl Wanted {
    fn read(self) -> Result<Asked, Fault> {
        let question = verdict::question(&self.image, self.environment.as_deref(), None)?;
        let expires = self.expires.parse::<Timestamp>();
        Ok(Asked {
            image: question.image,
            environment: question.environment,
            policy: self.policy,
            owner: tokens::text("/owner", self.owner, 128)?,
            reason: tokens::text("/reason", self.reason, 1024)?,
            expires: expires.map_err(|_| Fault::Member {
                pointer: "/expires".into(),
                why: "is an RFC 3339 time".into(),
            })?,
        })
    }
}

/// What is asked for, read.
#[derive(Debug, Clone)]
struct Asked {
    image: ImageReference,
    environment: Option<String>,
    policy: Option<String>,
    owner: String,
    reason: String,
    expires: Timestamp,
}

impl Asked {
    /// The policy that it is an exception from.
    fn policy_name(&self, control: &Control) -> Result<String, Fault> {
        let (resource, environment) = (&self.image.resource, self.environment.as_deref());
        let refuse = |why: String| Err(Fault::Exception(why));
        if let Some(name) = &self.policy {
            let Some(policy) = policy(control, name) else {
                return refuse(format!("there is no policy `{name}`"));
            };
            return match policy.matches(resource, environment) {
                true => Ok(name.clone()),
                false => refuse(format!("`{name}` does not decide about {resource} there")),
            };
        }
        let matching = control.policies.iter().filter_map(|(name, active)| {
            let policy =
                active.policy.as_ref().ok().filter(|policy| policy.matches(resource, environment))?;
            Some((policy.spec().selects.priority, name))
        });
        let matching: Vec<(i32, &String)> = matching.collect();
        let highest = matching.iter().map(|(priority, _)| *priority).max();
        let names: Vec<&String> = matching
            .iter()
            .filter(|(priority, _)| Some(*priority) == highest)
            .map(|(_, name)| *name)
            .collect();
        match names[..] {
            [name] => Ok(name.clone()),
            [] => refuse(format!("no policy decides about {resource} there")),
            _ => refuse("several policies decide: name one with `policy`".into()),
        }
    }

    /// The entry, if the policy allows it.
    fn entry(&self, control: &Control, by: &str, now: Timestamp) -> Result<Option<Entry>, Fault> {
        let policy = self.policy_name(control)?;
        if self.find(control, &policy, by).is_some() {
            return Ok(None);
        }
        let refuse = |why: String| Err(Fault::Exception(why));
        let Some(rules) = rules(control, &policy) else {
            return refuse(format!("`{policy}` allows no exceptions: it has no section `exceptions`"));
        };
        if self.expires <= now {
            return refuse("an exception ends in the future".into());
        }
        if self.expires.duration_since(now) > rules.max_duration {
            let latest = now.checked_add(rules.max_duration).unwrap_or(now);
            return refuse(format!("`{policy}` allows exceptions until {latest} at the latest"));
        }
        if control.exceptions.open(now) >= MAX_OPEN {
            return Err(Fault::Conflict(format!("{MAX_OPEN} exceptions are open: withdraw some")));
        }
        Ok(Some(Entry::ExceptionRequested(Exception {
            id: exception::id(control.exceptions.count + 1),
            policy,
            digest: self.image.digest,
            resource: self.image.resource.clone(),
            environment: self.environment.clone(),
            owner: self.owner.clone(),
            reason: self.reason.clone(),
            requested: now,
            expires: self.expires,
            by: by.to_owned(),
        })))
    }

    /// The same, asked for before.
    fn find<'a>(&self, control: &'a Control, policy: &str, by: &str) -> Option<&'a ExceptionState> {
        control.exceptions.all.values().rev().find(|state| {
            let asked = &state.exception;
            state.withdrawn.is_none()
                && (asked.policy.as_str(), asked.by.as_str()) == (policy, by)
                && (asked.digest, &asked.resource) == (self.image.digest, &self.image.resource)
                && (&asked.environment, asked.expires) == (&self.environment, self.expires)
                && (&asked.owner, &asked.reason) == (&self.owner, &self.reason)
        })
    }
}

/// Ask for an exception
///
/// It allows nothing until others approved it. The same again answers 200.
#[utoipa::path(post, path = "/v1/exceptions", tag = "exceptions", request_body = Wanted,
    responses((status = 200, description = "Asked for already", body = Shown), (status = 201, description = "Asked for", body = Shown)))]
pub(crate) async fn request(
    State(app): State<App>,
    who: Principal,
    ApiJson(wanted): ApiJson<Wanted>,
) -> Result<Response, Fault> {
    let asked = wanted.read()?;
    let (again, by) = (asked.clone(), who.identity.clone());
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        again.entry(control, &by, Timestamp::now())
    });
    let created = appended.await?.is_some();
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let control = &snapshot.control;
    let name = asked.policy_name(control)?;
    let state = asked.find(control, &name, &who.identity).ok_or(Fault::NotFound { what: "exception" })?;
    let id = &state.exception.id;
    if created {
        tracing::info!(target: "audit", tenant = who.tenant, by = who.name, exception = id, "asked for an exception");
    }
    Ok(super::kept(created, &show(control, state, Timestamp::now())))
}

fn find<'a>(control: &'a Control, id: &str) -> Result<&'a ExceptionState, Fault> {
    control.exceptions.get(id).ok_or(Fault::NotFound { what: "exception" })
}

async fn answer(app: &App, who: &Principal, id: &str, created: bool) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    Ok(super::kept(created, &show(&snapshot.control, find(&snapshot.control, id)?, Timestamp::now())))
}

/// Approve an exception
///
/// By those whom the policy names, and not by whoever asked for it, nor by a token that they made.
#[utoipa::path(post, path = "/v1/exceptions/{id}/approve", tag = "exceptions", request_body = Nothing, params(("id" = String, Path)),
    responses((status = 200, description = "Approved already", body = Shown), (status = 201, description = "Approved", body = Shown)))]
pub(crate) async fn approve(
    State(app): State<App>,
    who: Principal,
    ApiPath(id): ApiPath<String>,
    ApiJson(Nothing {}): ApiJson<Nothing>,
) -> Result<Response, Fault> {
    let (wanted, by, role) = (id.clone(), who.identity.clone(), who.role.as_str());
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        let state = find(control, &wanted)?;
        let asked = &state.exception;
        let Some(rules) = rules(control, &asked.policy) else {
            return Err(Fault::Exception(format!("`{}` allows no exceptions any more", asked.policy)));
        };
        if control.same_principal(&asked.by, &by) {
            return Err(Fault::ApprovalSelf(asked.id.clone()));
        }
        if !rules.approvers.include(&by, role, control) {
            return Err(Fault::ApprovalRole { approvers: rules.approvers.describe() });
        }
        let at = Timestamp::now();
        if state.withdrawn.is_some() || asked.expires <= at {
            return Err(Fault::Conflict(format!("{} is over", asked.id)));
        }
        if state.approvals.contains_key(&by) {
            return Ok(None);
        }
        let (id, digest) = (asked.id.clone(), asked.digest);
        let approved = ExceptionApproved { id, digest, by: by.clone(), role: role.to_owned(), at };
        Ok(Some(Entry::ExceptionApproved(approved)))
    });
    let created = appended.await?.is_some();
    if created {
        tracing::info!(target: "audit", tenant = who.tenant, by = who.name, exception = id, "approved an exception");
    }
    answer(&app, &who, &id, created).await
}

/// Withdraw an exception
///
/// At once: no answer begun after this one, on any instance, is allowed by it.
#[utoipa::path(post, path = "/v1/exceptions/{id}/withdraw", tag = "exceptions", params(("id" = String, Path)), request_body = Why,
    responses((status = 200, description = "Withdrawn", body = Shown)))]
pub(crate) async fn withdraw(
    State(app): State<App>,
    who: Principal,
    ApiPath(id): ApiPath<String>,
    ApiJson(why): ApiJson<Why>,
) -> Result<Response, Fault> {
    let reason = why.checked()?;
    let (wanted, by) = (id.clone(), who.identity.clone());
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        let state = find(control, &wanted)?;
        let (id, digest) = (wanted.clone(), state.exception.digest);
        let withdrawn = ExceptionWithdrawn { id, digest, reason: reason.clone(), by: by.clone() };
        Ok(state.withdrawn.is_none().then_some(Entry::ExceptionWithdrawn(withdrawn)))
    });
    if appended.await?.is_some() {
        tracing::info!(target: "audit", tenant = who.tenant, by = who.name, exception = id, "withdrew an exception");
    }
    answer(&app, &who, &id, false).await
}

/// The exceptions
#[utoipa::path(get, path = "/v1/exceptions", tag = "exceptions",
    responses((status = 200, description = "Newest first; those that ended more than 30 days ago are in the log only", body = ExceptionList)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let (control, now) = (&snapshot.control, Timestamp::now());
    let items = control.exceptions.all.values().rev().map(|state| show(control, state, now));
    Ok(super::json(&ExceptionList { items: items.collect() }))
}
