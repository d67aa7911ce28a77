//! Policies: what a tenant asks of its images.

use axum::{extract::State, response::Response};
use catenary_chain::{
    Policy,
    control::Entry,
    policy::{lint::lint as findings, short},
};
use catenary_evidence::digest::Sha256;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::{
    App,
    auth::Principal,
    extract::{ApiPath, ApiQuery, Payload},
    problem::Fault,
    routes::tokens::NoQuery,
};

/// A policy revision.
#[derive(Debug, Serialize, ToSchema)]
struct Active {
    name: String,
    revision: u64,
    /// SHA-256 of the document.
    digest: String,
    /// Index of its entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    /// Whether this engine can read it.
    valid: bool,
    /// Exactly as it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<String>,
    /// Short forms and presets written out, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    expanded: Option<String>,
}

/// The active policies.
#[derive(Debug, Serialize, ToSchema)]
struct PolicyList {
    items: Vec<Active>,
}

/// The document of a body.
fn document(payload: &Payload) -> Result<String, Fault> {
    let good = [
        "application/yaml",
        "application/x-yaml",
        "text/yaml",
        "text/x-yaml",
        "application/json",
        "text/plain",
        "application/octet-stream",
    ];
    if let Some(found) = payload.media_type.as_deref().filter(|found| !good.contains(found)) {
        return Err(Fault::MediaType {
            found: found.to_owned(),
            expected: "application/yaml or application/json",
        });
    }
    let text = String::from_utf8(payload.bytes.to_vec())
        .map_err(|_| Fault::Member { pointer: "", why: "the document is not UTF-8".into() })?;
    match text.contains('\0') {
        true => Err(Fault::Member { pointer: "", why: "the document holds NUL".into() }),
        false => Ok(text),
    }
}

/// Make a policy revision active
///
/// The same bytes as the active revision answer 200; those of an older one are refused.
#[utoipa::path(put, path = "/v1/policies/{name}", tag = "policies", params(("name" = String, Path)),
    request_body(content((String = "application/yaml"), (serde_json::Value = "application/json"))),
    responses((status = 200, description = "Active already", body = Active), (status = 201, description = "Active now", body = Active)))]
pub(crate) async fn apply(
    State(app): State<App>,
    who: Principal,
    ApiPath(name): ApiPath<String>,
    payload: Payload,
) -> Result<Response, Fault> {
    let text = document(&payload)?;
    let policy = Policy::publish(&text, Timestamp::now()).map_err(Fault::Policy)?;
    if policy.name() != name {
        return Err(Fault::PolicyName { expected: name, found: policy.name().to_owned() });
    }
    let digest = Sha256::of(text.as_bytes());
    let wanted = name.clone();
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        let (name, active) = (wanted.clone(), control.policies.get(&wanted));
        let revision = active.map_or(0, |a| a.revision);
        if active.is_some_and(|a| a.digest == digest) {
            return Ok(None);
        }
        if let Some(old) = active.and_then(|a| a.older.get(&digest)) {
            return Err(Fault::PolicyRollback { name, old: *old, active: revision });
        }
        Ok(Some(Entry::PolicyApplied { name, revision: revision + 1, document: text.clone() }))
    });
    let appended = appended.await?;
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let revision = snapshot.control.policies.get(&name).map_or(0, |active| active.revision);
    let body = Active {
        name: name.clone(),
        revision,
        digest: digest.to_string(),
        index: appended.as_ref().map(|a| a.index),
        valid: true,
        document: None,
        expanded: None,
    };
    if appended.is_some() {
        tracing::info!(target: "audit", tenant = who.tenant, by = who.name, policy = name, revision, "applied a policy");
    }
    Ok(super::kept(appended.is_some(), &body))
}

/// Check a document without applying it
#[utoipa::path(post, path = "/v1/policies:lint", tag = "policies",
    request_body(content((String = "application/yaml"), (serde_json::Value = "application/json"))),
    responses((status = 200, description = "It could be applied", body = serde_json::Value)))]
pub(crate) async fn lint(_: Principal, payload: Payload) -> Result<Response, Fault> {
    let text = document(&payload)?;
    let now = Timestamp::now();
    let policy = Policy::publish(&text, now).map_err(Fault::Policy)?;
    Ok(super::json(&json!({ "ok": true, "name": policy.name(), "warnings": findings(&text, now) })))
}

/// The active policies
#[utoipa::path(get, path = "/v1/policies", tag = "policies",
    responses((status = 200, description = "By name", body = PolicyList)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let items = snapshot.control.policies.iter().map(|(name, active)| Active {
        name: name.clone(),
        revision: active.revision,
        digest: active.digest.to_string(),
        index: None,
        valid: active.policy.is_ok(),
        document: None,
        expanded: None,
    });
    Ok(super::json(&PolicyList { items: items.collect() }))
}

/// What is asked for of one policy.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Shown {
    /// Write short forms and presets out.
    expanded: Option<bool>,
}

/// The active revision of one policy
#[utoipa::path(get, path = "/v1/policies/{name}", tag = "policies", params(("name" = String, Path), Shown),
    responses((status = 200, description = "With its document", body = Active)))]
pub(crate) async fn get(
    State(app): State<App>,
    who: Principal,
    ApiPath(name): ApiPath<String>,
    ApiQuery(shown): ApiQuery<Shown>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let active = snapshot.control.policies.get(&name).ok_or(Fault::NotFound { what: "policy" })?;
    let body = Active {
        name,
        revision: active.revision,
        digest: active.digest.to_string(),
        index: None,
        valid: active.policy.is_ok(),
        document: Some(active.document.to_string()),
        expanded: shown.expanded.unwrap_or(false).then(|| expanded(&active.document)).flatten(),
    };
    Ok(super::json(&body))
}

/// The document written out; nothing when this engine cannot read it.
fn expanded(document: &str) -> Option<String> {
    short::expand(document).ok().map(|long| long.unwrap_or_else(|| document.to_owned()))
}
