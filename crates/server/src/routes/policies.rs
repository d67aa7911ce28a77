//! Policies: what a tenant asks of its images.

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use catenary_chain::{
    Control, Policy,
    control::Entry,
    policy::{
        lint::lint as findings,
        short,
        trial::{self, Ran},
    },
};
use catenary_evidence::digest::Sha256;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::{
    App,
    auth::Principal,
    extract::{ApiPath, ApiQuery, Payload},
    problem::Fault,
    routes::{revisions, tokens::NoQuery},
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
        .map_err(|_| Fault::Member { pointer: "".into(), why: "the document is not UTF-8".into() })?;
    match text.contains('\0') {
        true => Err(Fault::Member { pointer: "".into(), why: "the document holds NUL".into() }),
        false => Ok(text),
    }
}

/// A document, and the fixtures of its tests.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sent {
    /// YAML or JSON text.
    pub document: String,
    /// JSON Lines by the names that the tests give them.
    #[serde(default)]
    pub fixtures: BTreeMap<String, String>,
}

/// The body as it is, or `{document, fixtures}` in JSON.
pub(super) fn sent(payload: &Payload) -> Result<Sent, Fault> {
    #[derive(Deserialize)]
    struct Shape {
        document: Option<IgnoredAny>,
    }
    let text = document(payload)?;
    let wraps = payload.media_type.as_deref() == Some("application/json")
        && serde_json::from_str::<Shape>(&text).is_ok_and(|shape| shape.document.is_some());
    match wraps {
        true => Ok(catenary_evidence::json::parse(text.as_bytes())?),
        false => Ok(Sent { document: text, fixtures: BTreeMap::new() }),
    }
}

/// Reads a document that is to be saved under `name`.
pub(super) fn publish(name: &str, document: &str) -> Result<Policy, Fault> {
    let policy = Policy::publish(document, Timestamp::now()).map_err(Fault::Policy)?;
    match policy.name() == name {
        true => Ok(policy),
        false => Err(Fault::PolicyName { expected: name.to_owned(), found: policy.name().to_owned() }),
    }
}

/// Runs the tests of a document where it may take a while.
pub(super) async fn run(app: &App, policy: &Policy, sent: &Sent) -> Result<Vec<Ran>, Fault> {
    if policy.spec().tests.is_empty() {
        return Ok(Vec::new());
    }
    let (policy, document, fixtures) = (policy.clone(), sent.document.clone(), sent.fixtures.clone());
    app.workers.run(move || trial::run(&policy, &document, &fixtures)).await
}

/// Make a policy revision active
///
/// The same bytes as the active revision answer 200; those of an older one are refused. The document's tests must pass with the
/// fixtures that are sent along (`{document, fixtures}`). Not while what is active asks for approvals: then a draft is made.
#[utoipa::path(put, path = "/v1/policies/{name}", tag = "policies", params(("name" = String, Path)),
    request_body(content((String = "application/yaml"), (serde_json::Value = "application/json"))),
    responses((status = 200, description = "Active already", body = Active), (status = 201, description = "Active now", body = Active)))]
pub(crate) async fn apply(
    State(app): State<App>,
    who: Principal,
    ApiPath(name): ApiPath<String>,
    payload: Payload,
) -> Result<Response, Fault> {
    let sent = sent(&payload)?;
    let policy = publish(&name, &sent.document)?;
    let digest = Sha256::of(sent.document.as_bytes());
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    if snapshot.control.policies.get(&name).is_none_or(|active| active.digest != digest) {
        let ran = run(&app, &policy, &sent).await?;
        if let Some(first) = ran.iter().find(|ran| !ran.passed) {
            let failed = ran.iter().filter(|ran| !ran.passed).count();
            return Err(Fault::PolicyTest { first: Box::new(first.clone()), failed });
        }
        crate::pins::of_policy(&app, &who, &policy).await?;
    }
    let (wanted, text) = (name.clone(), sent.document);
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        let (name, active) = (wanted.clone(), control.policies.get(&wanted));
        if active.is_some_and(|a| a.digest == digest) {
            return Ok(None);
        }
        refuse_rollback(control, &name, digest)?;
        match control.approvals_needed(&policy) {
            0 => {
                let revision = revisions::next(control, &name);
                Ok(Some(Entry::PolicyApplied { name, revision, document: text.clone() }))
            }
            need => Err(Fault::PolicyUnsigned { name, have: 0, need }),
        }
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

/// The bytes of a revision that was active before do not come back by themselves.
pub(super) fn refuse_rollback(control: &Control, name: &str, digest: Sha256) -> Result<(), Fault> {
    let Some(active) = control.policies.get(name) else { return Ok(()) };
    match active.older.get(&digest) {
        Some(old) => Err(Fault::PolicyRollback { name: name.to_owned(), old: *old, active: active.revision }),
        None => Ok(()),
    }
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
