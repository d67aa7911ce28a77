//! Archivista's routes, so that Tekton Chains and Witness can be pointed here unchanged.
//!
//! Those clients have no bearer token to send: put one into the address, `https://token:<token>@host`, which they send as basic
//! authentication.

use axum::{extract::State, response::Response};
use bytes::Bytes;
use catenary_evidence::digest::Sha256;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    App,
    auth::Principal,
    extract::{ApiPath, Payload},
    ingest,
    problem::Fault,
};

/// What was kept.
#[derive(Debug, Serialize, ToSchema)]
struct Uploaded {
    /// SHA-256 of the document as a git blob.
    gitoid: String,
}

/// Keep one envelope, as Archivista does
#[utoipa::path(post, path = "/upload", tag = "archivista", request_body(content = serde_json::Value, content_type = "application/json"),
    responses((status = 200, description = "Kept, now or before", body = Uploaded)))]
pub(crate) async fn upload(
    State(app): State<App>,
    who: Principal,
    payload: Payload,
) -> Result<Response, Fault> {
    let gitoid = gitoid(&payload.bytes);
    let items: Vec<Bytes> = vec![payload.bytes.clone()];
    let mut results = ingest::attestations(&app, &who, items).await;
    results.pop().unwrap_or(Err(Fault::Internal))?;
    Ok(super::json(&Uploaded { gitoid: gitoid.to_hex() }))
}

/// The exact bytes of an envelope, by its gitoid
#[utoipa::path(get, path = "/download/{gitoid}", tag = "archivista",
    params(("gitoid" = String, Path, description = "64 hex digits, with or without `gitoid:blob:sha256:`")),
    responses((status = 200, description = "As it was sent", body = serde_json::Value)))]
pub(crate) async fn download(
    State(app): State<App>,
    who: Principal,
    ApiPath(gitoid): ApiPath<String>,
) -> Result<Response, Fault> {
    let hex = gitoid.strip_prefix("gitoid:blob:sha256:").unwrap_or(&gitoid);
    let wanted: Sha256 = format!("sha256:{hex}").parse()?;
    let absent = || Fault::NotFound { what: "document" };
    let id = app.backend.store.by_gitoid(&who.tenant, wanted).await?.ok_or_else(absent)?;
    // Control entries lie beside evidence and are nobody's to download.
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    app.backend.store.attestation(&who.tenant, id, snapshot.size).await?.ok_or_else(absent)?;
    let mut bodies = app.backend.store.bodies(&who.tenant, &[id]).await?;
    let body = bodies.remove(&id).ok_or_else(absent)?;
    Ok(super::bytes(body.into(), "application/json"))
}

/// SHA-256 as git hashes a blob.
fn gitoid(bytes: &[u8]) -> Sha256 {
    let mut blob = format!("blob {}\0", bytes.len()).into_bytes();
    blob.extend_from_slice(bytes);
    Sha256::of(&blob)
}
