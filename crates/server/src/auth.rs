//! Who asks, and may they: one layer over every route. Default is no.

pub mod oidc;
pub mod scope;
pub mod token;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_chain::Control;
use catenary_evidence::digest::Sha256;
use catenary_store::follow::Snapshot;
use jiff::Timestamp;

use self::{scope::Scope, token::TokenError};
use crate::{App, problem::Fault};

/// The tenant that holds tenants and platform administrators.
pub const PLATFORM: &str = "platform";

/// What a credential may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends evidence within its scope.
    Submitter,
    /// Reads evidence and verdicts.
    Reader,
    /// Reads everything of the tenant.
    Auditor,
    /// Does everything in the tenant.
    Admin,
    /// Makes tenants; sees nothing in them.
    PlatformAdmin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] =
        [Self::Submitter, Self::Reader, Self::Auditor, Self::Admin, Self::PlatformAdmin];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitter => "submitter",
            Self::Reader => "reader",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
            Self::PlatformAdmin => "platform-admin",
        }
    }

    /// Reads a role's name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Principal {
    /// Whose evidence: every read and write of the request is in this tenant.
    pub tenant: String,
    /// What it may do.
    pub role: Role,
    /// What it may speak about.
    pub scope: Scope,
    /// Names it in the audit log: a token's public id, or issuer and claims.
    pub name: String,
    /// Who it is, to tell people apart: `token:<id>` or `oidc:<issuer>#<sub>`.
    pub identity: String,
    /// SHA-256 of the API token's text, as the log has it.
    pub token: Option<Sha256>,
}

impl Principal {
    /// SHA-256 of its name, as leaves have it.
    pub fn submitter(&self) -> Sha256 {
        Sha256::of(self.name.as_bytes())
    }
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Anyone,
    /// Anybody whose credential has one of these roles.
    Roles(&'static [Role]),
    /// Auditors and administrators of the tenant in the path; anybody, when its log is public.
    Log,
    /// A registry with the static bearer of its configuration, which the handler compares.
    Collector,
}

const SUBMIT: Access = Access::Roles(&[Role::Submitter, Role::Admin]);
const READ: Access = Access::Roles(&[Role::Reader, Role::Auditor, Role::Admin]);
const AUDIT: Access = Access::Roles(&[Role::Auditor, Role::Admin]);
const ADMIN: Access = Access::Roles(&[Role::Admin]);
const PLATFORM_ADMIN: Access = Access::Roles(&[Role::PlatformAdmin]);

/// Every route with its method: who may use it. What is not here is not served.
pub const TABLE: &[(&str, &str, Access)] = &[
    ("POST", "/v1/attestations", SUBMIT),
    ("GET", "/v1/attestations", READ),
    ("GET", "/v1/attestations/{id}", READ),
    ("GET", "/v1/attestations/{id}/raw", READ),
    ("GET", "/v1/attestations/{id}/proof", READ),
    ("POST", "/v1/objects", SUBMIT),
    ("GET", "/v1/objects/{node}", READ),
    ("GET", "/v1/objects/{node}/facts", READ),
    ("GET", "/v1/components", READ),
    ("GET", "/v1/findings", READ),
    ("GET", "/v1/artifacts/{digest}", READ),
    ("GET", "/v1/artifacts/{digest}/graph", READ),
    ("GET", "/v1/artifacts/{digest}/evidence", AUDIT),
    ("GET", "/v1/facts", READ),
    ("GET", "/v1/verdict", READ),
    ("POST", "/v1/verdicts", READ),
    ("GET", "/v1/gate", READ),
    ("POST", "/v1/verdict/vsa", READ),
    ("POST", "/v1/deployments", SUBMIT),
    ("GET", "/v1/deployments", READ),
    ("GET", "/v1/applications", READ),
    ("GET", "/v1/applications/{name}", READ),
    ("GET", "/v1/events", READ),
    ("POST", "/v1/k8s/admit", READ),
    ("GET", "/v1/verdicts/{id}", READ),
    ("GET", "/v1/decisions", AUDIT),
    ("GET", "/v1/webhooks", ADMIN),
    ("POST", "/v1/webhooks", ADMIN),
    ("DELETE", "/v1/webhooks/{id}", ADMIN),
    ("POST", "/v1/webhooks/{id}/rotate", ADMIN),
    ("GET", "/v1/webhooks/{id}/deliveries", ADMIN),
    ("POST", "/v1/webhooks/{id}/deliveries/{number}/redeliver", ADMIN),
    ("GET", "/v1/timeline", READ),
    ("GET", "/v1/export", AUDIT),
    ("GET", "/v1/policies", READ),
    ("GET", "/v1/policies/{name}", READ),
    ("PUT", "/v1/policies/{name}", ADMIN),
    ("POST", "/v1/policies:lint", READ),
    ("POST", "/v1/policies/{name}/drafts", ADMIN),
    ("GET", "/v1/policies/{name}/revisions", READ),
    ("GET", "/v1/policies/{name}/revisions/{revision}", READ),
    ("POST", "/v1/policies/{name}/revisions/{revision}/test", ADMIN),
    ("POST", "/v1/policies/{name}/revisions/{revision}/approve", ADMIN),
    ("POST", "/v1/policies/{name}/revisions/{revision}/activate", ADMIN),
    ("GET", "/v1/exceptions", READ),
    ("POST", "/v1/exceptions", ADMIN),
    ("POST", "/v1/exceptions/{id}/approve", AUDIT),
    ("POST", "/v1/exceptions/{id}/withdraw", AUDIT),
    ("GET", "/v1/approvals", READ),
    ("POST", "/v1/approvals", ADMIN),
    ("PUT", "/v1/approvals", ADMIN),
    ("GET", "/v1/groups", READ),
    ("PUT", "/v1/groups/{name}", ADMIN),
    ("GET", "/v1/keys", READ),
    ("GET", "/v1/keys/{id}", READ),
    ("POST", "/v1/keys", ADMIN),
    ("POST", "/v1/keys/{id}/revoke", ADMIN),
    ("GET", "/v1/impact", READ),
    ("POST", "/v1/what-if", READ),
    ("GET", "/v1/revocations", READ),
    ("POST", "/v1/revocations", ADMIN),
    ("GET", "/v1/trust", READ),
    ("GET", "/v1/trust/{domain}", READ),
    ("POST", "/v1/trust", ADMIN),
    ("POST", "/v1/trust/{domain}/withdraw", ADMIN),
    ("GET", "/v1/tokens", AUDIT),
    ("POST", "/v1/tokens", ADMIN),
    ("POST", "/v1/tokens/{id}/revoke", ADMIN),
    ("GET", "/v1/tenants", PLATFORM_ADMIN),
    ("POST", "/v1/tenants", PLATFORM_ADMIN),
    ("POST", "/v1/events/distribution", Access::Collector),
    ("POST", "/v1/registry/reconcile", ADMIN),
    ("GET", "/v1/log/{tenant}/checkpoint", Access::Log),
    ("GET", "/v1/log/{tenant}/proof/inclusion", Access::Log),
    ("GET", "/v1/log/{tenant}/proof/consistency", Access::Log),
    ("GET", "/v1/log/{tenant}/tile/{level}/{a}", Access::Log),
    ("GET", "/v1/log/{tenant}/tile/{level}/{a}/{b}", Access::Log),
    ("GET", "/v1/log/{tenant}/tile/{level}/{a}/{b}/{c}", Access::Log),
    ("GET", "/v1/log/{tenant}/tile/{level}/{a}/{b}/{c}/{d}", Access::Log),
    ("POST", "/upload", SUBMIT),
    ("GET", "/download/{gitoid}", READ),
    ("GET", "/.well-known/catenary/keys.json", Access::Anyone),
    ("GET", "/.well-known/catenary/vsa.pem", Access::Anyone),
    ("GET", "/healthz", Access::Anyone),
    ("GET", "/readyz", Access::Anyone),
    ("GET", "/metrics", Access::Anyone),
    ("GET", "/openapi.json", Access::Anyone),
    ("GET", "/docs/reasons/{code}", Access::Anyone),
];

/// The route of an answer, for its metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route(pub(crate) &'static str);

/// The layer: looks the parsed route up, authenticates, and lets through or not.
pub(crate) async fn authorize(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let known = matched.and_then(|m| TABLE.iter().find(|(_, template, _)| *template == m.as_str()));
    let mut response = match admit(&app, &mut request).await {
        Ok(()) => next.run(request).await,
        Err(fault) => {
            let (method, path) = (request.method(), request.uri().path());
            tracing::info!(%method, path, code = %fault.code(), "refused");
            fault.into_response()
        }
    };
    if let Some((_, template, _)) = known {
        response.extensions_mut().insert(Route(template));
    }
    response
}

async fn admit(app: &App, request: &mut Request) -> Result<(), Fault> {
    let template = request.extensions().get::<MatchedPath>().map(|m| m.as_str().to_owned());
    let template = template.ok_or(Fault::NotFound { what: "route" })?;
    match access(request.method(), &template) {
        None => Err(Fault::Method { allow: allowed(&template) }),
        Some(Access::Anyone | Access::Collector) => Ok(()),
        Some(Access::Roles(roles)) => {
            if ARCHIVISTA.contains(&template.as_str()) {
                unwrap_basic(request.headers_mut());
            }
            let principal = authenticate(app, request.headers()).await?;
            if !roles.contains(&principal.role) {
                return Err(Fault::Role { role: principal.role.as_str() });
            }
            request.extensions_mut().insert(principal);
            Ok(())
        }
        Some(Access::Log) => {
            let tenant = request.uri().path().split('/').nth(3).unwrap_or_default();
            let public = app.backend.is_public(tenant).await?;
            if public && !request.headers().contains_key(header::AUTHORIZATION) {
                return Ok(());
            }
            let principal = authenticate(app, request.headers()).await?;
            let Access::Roles(roles) = AUDIT else { return Err(Fault::Internal) };
            if !roles.contains(&principal.role) {
                return Err(Fault::Role { role: principal.role.as_str() });
            }
            // Another tenant's log looks like one that is not there.
            if principal.tenant != tenant && !public {
                return Err(Fault::NotFound { what: "log" });
            }
            Ok(())
        }
    }
}

/// Routes whose clients can send basic authentication only.
const ARCHIVISTA: [&str; 2] = ["/upload", "/download/{gitoid}"];

/// Turns the password of basic authentication into a bearer token.
fn unwrap_basic(headers: &mut HeaderMap) {
    let password = |value: &HeaderValue| {
        let (scheme, text) = value.to_str().ok()?.split_once(' ')?;
        let decoded = STANDARD.decode(text).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        let password = String::from_utf8(decoded).ok()?.split_once(':')?.1.to_owned();
        HeaderValue::from_str(&format!("Bearer {password}")).ok()
    };
    let all: Vec<&HeaderValue> = headers.get_all(header::AUTHORIZATION).iter().collect();
    if let [only] = all.as_slice()
        && let Some(mut bearer) = password(only)
    {
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
}

/// Who may use the route. HEAD is GET without a body.
fn access(method: &Method, template: &str) -> Option<Access> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    TABLE.iter().find(|(m, t, _)| *m == method.as_str() && *t == template).map(|(.., access)| *access)
}

/// The methods of a route, for `Allow`.
pub(crate) fn allowed(template: &str) -> String {
    let methods = TABLE.iter().filter(|(_, t, _)| *t == template).map(|(m, ..)| *m);
    methods.collect::<Vec<_>>().join(", ")
}

/// Reads the one credential of a request and says whose it is.
pub(crate) async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Principal, Fault> {
    let text = bearer(headers)?;
    if oidc::looks_like_one(text) {
        let admitted = app.issuers.admit(text).await?;
        return Ok(Principal {
            tenant: admitted.tenant,
            role: Role::Submitter,
            scope: admitted.scope,
            name: admitted.name,
            identity: admitted.identity,
            token: None,
        });
    }
    let presented = token::parse(text)?;
    let Some(snapshot) = app.backend.snapshot_if_known(presented.tenant).await? else {
        return Err(TokenError::Unknown.into());
    };
    let token = presented.check(&snapshot.control, Timestamp::now())?;
    // A role that this engine does not know may do nothing.
    let role = Role::from_name(&token.role).ok_or(TokenError::Unknown)?;
    if (role == Role::PlatformAdmin) != (presented.tenant == PLATFORM) {
        return Err(TokenError::Unknown.into());
    }
    let scope = Scope::new(&token.repositories, &token.predicate_types).map_err(|_| TokenError::Unknown)?;
    let identity = format!("{}{}", catenary_chain::life::TOKEN, token.id);
    let (tenant, name) = (presented.tenant.to_owned(), token.id.clone());
    Ok(Principal { tenant, role, scope, name, identity, token: Some(token.hash) })
}

/// Whether a token, whose text hashed to this when it was checked, may still ask for verdicts.
pub(crate) fn may_read_verdicts(control: &Control, id: &str, hash: Sha256, now: Timestamp) -> bool {
    let Access::Roles(roles) = READ else { return false };
    control.tokens.get(id).is_some_and(|state| {
        let role = Role::from_name(&state.token.role);
        state.token.hash == hash
            && !state.revoked
            && now < state.token.expires
            && role.is_some_and(|role| roles.contains(&role))
    })
}

/// Whether a log may be read, as far as that can be told at once: anybody may read a public one, an auditor's or
/// administrator's token its own tenant's.
pub(crate) fn may_read_log(app: &App, headers: &HeaderMap, log: &Snapshot, now: Timestamp) -> bool {
    if !headers.contains_key(header::AUTHORIZATION) {
        return app.backend.is_public_now(&log.tenant);
    }
    let Access::Roles(roles) = AUDIT else { return false };
    let presented = bearer(headers).and_then(token::parse).ok().filter(|p| p.tenant == log.tenant);
    let token = presented.and_then(|presented| presented.check(&log.control, now).ok());
    token.and_then(|token| Role::from_name(&token.role)).is_some_and(|role| roles.contains(&role))
}

/// The bearer of exactly one `Authorization` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, TokenError> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (all.next().ok_or(TokenError::Missing)?, all.next());
    if second.is_some() {
        return Err(TokenError::Malformed);
    }
    let text = first.to_str().map_err(|_| TokenError::Malformed)?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() => Ok(token),
        _ => Err(TokenError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h28_each_role_may_do_what_it_is_for_and_no_more() {
        let may = |role: Role| {
            let allowed = TABLE.iter().filter(|(_, t, access)| {
                !t.contains("/log/") && matches!(access, Access::Roles(roles) if roles.contains(&role))
            });
            allowed.map(|(m, t, _)| format!("{m} {t}")).collect::<Vec<_>>()
        };
        let sends = ["POST /v1/attestations", "POST /v1/objects", "POST /v1/deployments", "POST /upload"];
        assert_eq!(may(Role::Submitter), sends);
        assert_eq!(may(Role::PlatformAdmin), ["GET /v1/tenants", "POST /v1/tenants"]);
        let reader = may(Role::Reader);
        let reads = [
            "POST /v1/verdicts",
            "POST /v1/verdict/vsa",
            "POST /v1/k8s/admit",
            "POST /v1/policies:lint",
            "POST /v1/what-if",
        ];
        assert!(reader.iter().all(|r| r.starts_with("GET ") || reads.contains(&r.as_str())), "{reader:?}");
        for secret in
            ["GET /v1/tokens", "GET /v1/tenants", "GET /v1/artifacts/{digest}/evidence", "GET /v1/decisions"]
        {
            assert!(!reader.contains(&secret.to_owned()), "{secret}");
        }
        let more: Vec<_> = may(Role::Auditor).into_iter().filter(|r| !reader.contains(r)).collect();
        assert_eq!(
            more,
            [
                "GET /v1/artifacts/{digest}/evidence",
                "GET /v1/decisions",
                "GET /v1/export",
                "POST /v1/exceptions/{id}/approve",
                "POST /v1/exceptions/{id}/withdraw",
                "GET /v1/tokens"
            ]
        );
        let admin = may(Role::Admin);
        assert!(admin.iter().all(|r| !r.contains("/v1/tenants")));
        assert_eq!(
            admin.len(),
            TABLE.iter().filter(|(_, t, _)| t.starts_with("/v1/") && !t.contains("/log/")).count() - 3
                + ARCHIVISTA.len()
        );
    }

    #[test]
    fn what_is_open_to_anybody_is_listed_here() {
        let open: Vec<_> = TABLE.iter().filter(|(.., a)| *a == Access::Anyone).map(|(_, t, _)| *t).collect();
        assert!(open.iter().all(|t| !t.starts_with("/v1/")), "{open:?}");
        let special: Vec<_> =
            TABLE.iter().filter(|(.., a)| *a == Access::Collector).map(|(_, t, _)| *t).collect();
        assert_eq!(special, ["/v1/events/distribution"]);
    }

    #[test]
    fn h01_no_credential_or_two_of_them() {
        let headers = |values: &[&str]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            map
        };
        assert_eq!(bearer(&headers(&[])), Err(TokenError::Missing));
        assert_eq!(bearer(&headers(&["Bearer a", "Bearer b"])), Err(TokenError::Malformed));
        assert_eq!(bearer(&headers(&["Basic a"])), Err(TokenError::Malformed));
        assert_eq!(bearer(&headers(&["bearer a"])), Ok("a"));
    }
}
