//! About the service: health, metrics, published keys, documentation.

use std::sync::LazyLock;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use catenary_chain::Code;
use catenary_store::keys::Purpose;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    App,
    extract::ApiPath,
    problem::{CODES, Fault, success},
    scrub::Scrubbed,
    trust,
};

/// The published keys.
#[derive(Debug, Serialize, ToSchema)]
struct Keys {
    keys: Vec<Key>,
}

/// A public key of the service.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Key {
    /// `vsa`, `log`, `collector`
    purpose: String,
    generation: u32,
    id: String,
    pem: String,
    /// For log keys: one verifier key a log (C2SP signed-note).
    #[serde(skip_serializing_if = "Option::is_none")]
    vkey: Option<String>,
    /// Whether it signs now; the others verify what was signed before.
    current: bool,
}

/// Public keys of the service
#[utoipa::path(get, path = "/.well-known/catenary/keys.json", tag = "service", responses((status = 200, description = "Every generation", body = Keys)))]
pub(crate) async fn keys(State(app): State<App>) -> Result<Response, Fault> {
    let parts = app.backend.keys.public_parts();
    let verifiers =
        app.backend.keys.log_verifiers(&app.backend.origin_of("default")).map_err(|_| Fault::Internal)?;
    let mut verifiers = verifiers.into_iter();
    let mut keys = Vec::new();
    for part in parts.iter().filter(|part| part.purpose != Purpose::Mac) {
        let vkey = if part.purpose == Purpose::Log { verifiers.next().map(|v| v.to_string()) } else { None };
        keys.push(Key {
            purpose: part.purpose.to_string(),
            generation: part.generation,
            id: part.key_id.to_string(),
            pem: part.pem(),
            vkey,
            current: part.current,
        });
    }
    Ok(super::json(&Keys { keys }))
}

/// The key that signs verdicts
#[utoipa::path(get, path = "/.well-known/catenary/vsa.pem", tag = "service", responses((status = 200, description = "PEM", body = String, content_type = "application/x-pem-file")))]
pub(crate) async fn vsa_pem(State(app): State<App>) -> Response {
    super::bytes(app.backend.keys.current(Purpose::Vsa).pem().into(), "application/x-pem-file")
}

/// The process lives
#[utoipa::path(get, path = "/healthz", tag = "service", responses((status = 200, description = "It does", body = String, content_type = "text/plain")))]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether answers can be given.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Readiness {
    ready: bool,
    /// `ok`, or what is wrong.
    database: String,
    /// Tenants whose log is not believed, with the reason.
    broken: Vec<String>,
    /// Tenants that are not followed in time.
    behind: usize,
    /// Tenants to whose log nothing can be added at the moment: what is sent is refused with 503, answers are given.
    stalled: usize,
    /// `on` or `off`: whether a rolled back database would be noticed after a restart.
    rollback_detection: &'static str,
    /// Rows found changed behind our back.
    integrity_alarms: u64,
    /// What the pass over everything stored has found.
    scrub: Scrubbed,
    trust: TrustReadiness,
}

/// Trust over all tenants. None of it keeps answers from being given.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrustReadiness {
    /// Trust domains whose root names nobody who could vouch for something that is signed now: refresh them.
    pub(crate) stale: usize,
    /// Keys and roots under which stored evidence is being verified.
    pub(crate) pending: usize,
}

impl TrustReadiness {
    pub(crate) fn of(app: &App) -> Self {
        let follower = &app.backend.follower;
        let mut sum = Self::default();
        for snapshot in follower.tenants().iter().filter_map(|tenant| follower.snapshot(tenant).ok()) {
            sum.stale += super::trust::stale(&snapshot.control);
            sum.pending += trust::pending(&snapshot.control).len();
        }
        sum
    }
}

/// Answers can be given
#[utoipa::path(get, path = "/readyz", tag = "service", responses((status = 200, description = "Ready", body = Readiness), (status = 503, description = "Not ready", body = Readiness)))]
pub(crate) async fn readyz(State(app): State<App>) -> Response {
    let database = tokio::time::timeout(std::time::Duration::from_secs(2), app.backend.store.ping()).await;
    let database = match database {
        Ok(Ok(())) => "ok".to_owned(),
        Ok(Err(_)) => "not available".to_owned(),
        Err(_) => "slow".to_owned(),
    };
    let follower = &app.backend.follower;
    let tenants = follower.tenants();
    let broken: Vec<String> =
        tenants.iter().filter_map(|t| follower.broken(t).map(|why| format!("{t}: {why}"))).collect();
    let behind = tenants.iter().filter(|t| follower.broken(t).is_none() && !follower.lease_valid(t)).count();
    let readiness = Readiness {
        ready: database == "ok" && broken.is_empty() && behind == 0 && !tenants.is_empty(),
        database,
        broken,
        behind,
        stalled: app.backend.store.stalled(),
        rollback_detection: if follower.detects_rollback() { "on" } else { "off" },
        integrity_alarms: app.backend.store.alarms(),
        scrub: app.scrub.show(),
        trust: TrustReadiness::of(&app),
    };
    let body = super::json(&readiness);
    if readiness.ready { body } else { success::not_ready(body).into_response() }
}

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "service", responses((status = 200, description = "Text format", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    super::bytes(app.metrics.render(&app).into(), "text/plain; version=0.0.4")
}

/// This contract
#[utoipa::path(get, path = "/openapi.json", tag = "service", responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)))]
pub(crate) async fn openapi() -> Response {
    // Anybody may ask, and writing it costs more than anything else that anybody may ask for.
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| crate::openapi::document().into());
    super::bytes(DOCUMENT.clone(), "application/json")
}

/// What a code means
#[utoipa::path(get, path = "/docs/reasons/{code}", tag = "service", params(("code" = String, Path, description = "For example REG_NOT_OBSERVED")),
    responses((status = 200, description = "Plain text", body = String, content_type = "text/plain")))]
pub(crate) async fn reason(ApiPath(code): ApiPath<String>) -> Result<Response, Fault> {
    let of_verdicts = Code::all().iter().find(|known| known.as_str() == code);
    let text = match (of_verdicts, CODES.iter().find(|(known, _)| *known == code)) {
        (Some(known), _) => format!("{known}\n\n{}\n\n{}\n", known.meaning(), known.hint()),
        (None, Some((known, meaning))) => format!("{known}\n\n{meaning}\n"),
        (None, None) => return Err(Fault::NotFound { what: "reason code" }),
    };
    let mut response = super::bytes(text.into(), "text/plain; charset=utf-8");
    response.headers_mut().remove(header::VARY);
    Ok(response)
}
