//! Tenants: for the platform administrator, who sees nothing in them.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    App,
    auth::{PLATFORM, Principal, token},
    bootstrap,
    extract::{ApiJson, ApiQuery},
    problem::Fault,
    routes::tokens::NoQuery,
};

/// A tenant to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NewTenant {
    /// `[a-z][a-z0-9-]{0,31}`
    #[schema(pattern = "^[a-z][a-z0-9-]{0,31}$")]
    name: String,
    /// Whether its log is readable without a credential.
    #[serde(default)]
    public_log: bool,
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Tenant {
    name: String,
    public_log: bool,
    /// Its first administrator's token; shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_token: Option<String>,
}

/// Every tenant.
#[derive(Debug, Serialize, ToSchema)]
struct TenantList {
    items: Vec<Tenant>,
}

/// Make a tenant
#[utoipa::path(post, path = "/v1/tenants", tag = "tenants", request_body = NewTenant,
    responses((status = 201, description = "With its first administrator's token", body = Tenant), (status = 409, description = "It exists", body = crate::problem::Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(app): State<App>,
    who: Principal,
    ApiJson(body): ApiJson<NewTenant>,
) -> Result<Response, Fault> {
    if !token::is_tenant(&body.name) {
        return Err(Fault::Member { pointer: "/name".into(), why: "is [a-z][a-z0-9-]{0,31}".into() });
    }
    let admin_token = bootstrap::make_tenant(&app, &body.name, body.public_log, who.submitter()).await?;
    tracing::info!(target: "audit", tenant = PLATFORM, by = who.name, name = body.name, "made a tenant");
    let tenant = Tenant { name: body.name, public_log: body.public_log, admin_token: Some(admin_token) };
    Ok(super::kept(true, &tenant))
}

/// The tenants
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", responses((status = 200, description = "By name", body = TenantList)))]
pub(crate) async fn list(
    State(app): State<App>,
    _: Principal,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(PLATFORM).await?;
    let tenants = snapshot.control.tenants.iter();
    let items = tenants.map(|(name, public_log)| Tenant {
        name: name.clone(),
        public_log: *public_log,
        admin_token: None,
    });
    Ok(super::json(&TenantList { items: items.collect() }))
}
