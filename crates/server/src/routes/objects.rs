//! Objects: content-addressed bytes that prove themselves by their hash.

use axum::{extract::State, http::HeaderMap, response::Response};
use catenary_evidence::digest::Node;
use catenary_store::ObjectRow;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::{
    App,
    auth::Principal,
    extract::{ApiPath, ApiQuery, Payload},
    ingest,
    problem::Fault,
};

/// What the sender says that the bytes are.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SubmitQuery {
    /// `sha256:…` or `gitCommit:…`: other bytes are refused.
    digest: Option<String>,
}

/// An object that is in the log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KnownObject {
    id: String,
    /// The node that the bytes prove.
    node: String,
    index: u64,
    time: String,
    /// `index`, `manifest`, `config`, `commit`, `tag`
    kind: String,
    media_type: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    facts: Option<Value>,
}

/// Send an object
///
/// The body is the exact bytes, the content type their media type.
#[utoipa::path(post, path = "/v1/objects", tag = "objects", params(SubmitQuery),
    request_body(content((String = "application/vnd.oci.image.index.v1+json"), (String = "application/vnd.oci.image.manifest.v1+json"),
        (String = "application/vnd.oci.image.config.v1+json"), (String = "application/x-git-commit"), (String = "application/x-git-tag"))),
    responses((status = 200, description = "KnownObject already", body = KnownObject), (status = 201, description = "In the log", body = KnownObject)))]
pub(crate) async fn submit(
    State(app): State<App>,
    who: Principal,
    ApiQuery(query): ApiQuery<SubmitQuery>,
    payload: Payload,
) -> Result<Response, Fault> {
    let claimed = query.digest.as_deref().map(str::parse::<Node>).transpose()?;
    let media_type = payload.media_type.clone().unwrap_or_default();
    let (entry, facts) = ingest::object(&app, &who, &media_type, claimed, payload.bytes.clone()).await?;
    let known = KnownObject {
        id: entry.id.to_string(),
        node: facts.node.to_string(),
        index: entry.index,
        time: entry.time.to_string(),
        kind: kind(&facts),
        media_type,
        size: facts.size,
        facts: None,
    };
    Ok(super::kept(entry.created, &known))
}

/// `index`, `manifest`, …
pub(crate) fn kind(object: &catenary_evidence::object::Object) -> String {
    use catenary_evidence::object::Body;
    match object.body {
        Body::Index(_) => "index",
        Body::Manifest(_) => "manifest",
        Body::Config(_) => "config",
        Body::Commit(_) => "commit",
        Body::Tag(_) => "tag",
    }
    .to_owned()
}

async fn find(app: &App, who: &Principal, node: &str) -> Result<ObjectRow, Fault> {
    let node: Node = node.parse()?;
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let row = app.backend.store.object(&who.tenant, node, snapshot.size).await?;
    row.ok_or(Fault::NotFound { what: "object" })
}

/// Its exact bytes
#[utoipa::path(get, path = "/v1/objects/{node}", tag = "objects",
    params(("node" = String, Path, description = "`sha256:…` or `gitCommit:…`")),
    responses((status = 200, description = "As they were sent", body = Vec<u8>, content_type = "application/octet-stream"), (status = 304, description = "Unchanged")))]
pub(crate) async fn raw(
    State(app): State<App>,
    who: Principal,
    ApiPath(node): ApiPath<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let id = find(&app, &who, &node).await?.facts.id;
    let mut bodies = app.backend.store.bodies(&who.tenant, &[id]).await?;
    let body = bodies.remove(&id).ok_or(Fault::NotFound { what: "body" })?;
    // The stored media type is what somebody sent: it does not decide how a browser reads the bytes.
    Ok(super::tagged(&headers, &format!("\"{}\"", id.to_hex()), body.into(), "application/octet-stream"))
}

/// Its facts
#[utoipa::path(get, path = "/v1/objects/{node}/facts", tag = "objects",
    params(("node" = String, Path, description = "`sha256:…` or `gitCommit:…`")),
    responses((status = 200, description = "What was read from the bytes", body = KnownObject)))]
pub(crate) async fn facts(
    State(app): State<App>,
    who: Principal,
    ApiPath(node): ApiPath<String>,
) -> Result<Response, Fault> {
    let row = find(&app, &who, &node).await?;
    Ok(super::json(&KnownObject::with_facts(row)))
}

impl KnownObject {
    /// With what was read from its bytes.
    pub(crate) fn with_facts(row: ObjectRow) -> Self {
        Self {
            id: row.facts.id.to_string(),
            node: row.facts.node.to_string(),
            index: row.index,
            time: row.time.to_string(),
            kind: kind(&row.facts),
            media_type: row.media_type,
            size: row.facts.size,
            facts: serde_json::to_value(&row.facts.body).ok(),
        }
    }
}
