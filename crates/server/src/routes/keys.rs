//! Keys: whose signatures can count.

use axum::{extract::State, response::Response};
use catenary_chain::control::{Change, Control, Entry, KeyState, Revocation, TrustedKey};
use catenary_evidence::{KeyId, PublicKey, Scheme};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    App,
    auth::Principal,
    extract::{ApiJson, ApiPath, ApiQuery, Patience},
    problem::Fault,
    routes::tokens::{self, NoQuery},
    trust,
};

/// A key to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NewKey {
    /// For people; 1 to 128 characters.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// SubjectPublicKeyInfo as PEM, or an OpenSSH public key line.
    pem: String,
    /// Needed for RSA-PSS only.
    scheme: Option<String>,
    /// Signatures received before do not count.
    #[schema(value_type = Option<String>, format = DateTime)]
    valid_from: Option<String>,
    /// Signatures received from here on do not count.
    #[schema(value_type = Option<String>, format = DateTime)]
    valid_until: Option<String>,
}

/// A registered key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Registered {
    id: String,
    name: String,
    scheme: String,
    pem: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<String>,
    /// Index of its `trust.added`.
    index: u64,
    /// Index of its `trust.effective`, from which it is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_index: Option<u64>,
    /// How many more people must approve it before it is used.
    #[serde(skip_serializing_if = "is_none")]
    approvals_missing: u32,
    /// Why it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
    /// What may have been signed at this moment or later does not count; nothing of the key's does when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_from: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
pub(super) fn is_none(count: &u32) -> bool {
    *count == 0
}

/// Registered keys.
#[derive(Debug, Serialize, ToSchema)]
struct KeyList {
    items: Vec<Registered>,
}

/// Why something is withdrawn.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Why {
    /// 1 to 1,024 characters.
    #[schema(min_length = 1, max_length = 1024)]
    pub(crate) reason: String,
}

impl Why {
    pub(crate) fn checked(self) -> Result<String, Fault> {
        tokens::text("/reason", self.reason, 1024)
    }
}

impl Registered {
    fn of(state: &KeyState, control: &Control) -> Self {
        let key = &state.key;
        let revoked = control.revocations.key(&key.id);
        Self {
            id: key.id.to_string(),
            name: key.name.clone(),
            scheme: key.scheme.to_string(),
            pem: key.pem.clone(),
            service: key.service.clone(),
            valid_from: key.valid_from.map(|t| t.to_string()),
            valid_until: key.valid_until.map(|t| t.to_string()),
            index: state.added_at,
            effective_index: state.effective_at,
            approvals_missing: match state.effective_at {
                Some(_) => 0,
                None => control.missing(&Change::Key(key.id)),
            },
            revoked: revoked.map(|revoked| revoked.reason.clone()),
            revoked_from: revoked.and_then(|revoked| revoked.from).map(|t| t.to_string()),
        }
    }
}

impl NewKey {
    fn read(self) -> Result<TrustedKey, Fault> {
        let time = |pointer: &'static str, text: Option<String>| {
            let parse = |t: String| {
                t.parse::<Timestamp>()
                    .map_err(|_| Fault::Member { pointer: pointer.into(), why: "is an RFC 3339 time".into() })
            };
            text.map(parse).transpose()
        };
        let name = tokens::text("/name", self.name, 128)?;
        let scheme = self.scheme.map(|s| s.parse::<Scheme>()).transpose()?;
        let text = self.pem.trim();
        let key = if text.starts_with("ssh-") || text.starts_with("ecdsa-") {
            PublicKey::from_openssh(text)?
        } else {
            PublicKey::from_pem(&self.pem, scheme)?
        };
        let (valid_from, valid_until) =
            (time("/validFrom", self.valid_from)?, time("/validUntil", self.valid_until)?);
        if valid_from.zip(valid_until).is_some_and(|(from, until)| from >= until) {
            return Err(Fault::Member { pointer: "/validUntil".into(), why: "is after validFrom".into() });
        }
        Ok(TrustedKey {
            id: key.id(),
            name,
            pem: key.to_pem(),
            scheme: key.scheme(),
            service: None,
            valid_from,
            valid_until,
        })
    }
}

/// Register a key
///
/// Answers when all stored evidence was verified under it, or after ten seconds (`Prefer: wait=n`, `respond-async`) with 202:
/// it counts from its `effectiveIndex` on. 202 also while `approvalsMissing` is there: others approve it by `POST /v1/approvals`.
#[utoipa::path(post, path = "/v1/keys", tag = "keys", request_body = NewKey,
    responses((status = 200, description = "Registered already", body = Registered), (status = 201, description = "Registered", body = Registered),
        (status = 202, description = "Registered; stored evidence is being verified", body = Registered)))]
pub(crate) async fn add(
    State(app): State<App>,
    who: Principal,
    Patience(patience): Patience,
    ApiJson(body): ApiJson<NewKey>,
) -> Result<Response, Fault> {
    let key = body.read()?;
    let id = key.id;
    let progress =
        trust::register(&app, &who.tenant, (who.submitter(), &who.identity), key, patience).await?;
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, key = %id, "registered a key");
    Ok(super::added(progress, &find(&app, &who, id).await?))
}

async fn find(app: &App, who: &Principal, id: KeyId) -> Result<Registered, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let control = &snapshot.control;
    control.keys.get(&id).map(|state| Registered::of(state, control)).ok_or(Fault::NotFound { what: "key" })
}

/// The registered keys
#[utoipa::path(get, path = "/v1/keys", tag = "keys", responses((status = 200, description = "By id", body = KeyList)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let control = &snapshot.control;
    let items = control.keys.values().map(|state| Registered::of(state, control)).collect();
    Ok(super::json(&KeyList { items }))
}

/// One key
#[utoipa::path(get, path = "/v1/keys/{id}", tag = "keys", params(("id" = String, Path, description = "`sha256:…`")),
    responses((status = 200, description = "The key", body = Registered)))]
pub(crate) async fn get(
    State(app): State<App>,
    who: Principal,
    ApiPath(id): ApiPath<String>,
) -> Result<Response, Fault> {
    Ok(super::json(&find(&app, &who, id.parse()?).await?))
}

/// Withdraw trust from a key
///
/// Of all its signatures, at once: no answer begun after this one, on any instance, counts them.
#[utoipa::path(post, path = "/v1/keys/{id}/revoke", tag = "keys", params(("id" = String, Path, description = "`sha256:…`")),
    request_body = Why, responses((status = 200, description = "Revoked", body = serde_json::Value)))]
pub(crate) async fn revoke(
    State(app): State<App>,
    who: Principal,
    ApiPath(id): ApiPath<String>,
    ApiJson(why): ApiJson<Why>,
) -> Result<Response, Fault> {
    let id: KeyId = id.parse()?;
    let reason = why.checked()?;
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        control.keys.get(&id).ok_or(Fault::NotFound { what: "key" })?;
        let new = Revocation::of_key(id, &reason);
        Ok((!control.revocations.has(&new)).then_some(Entry::Revocation(new)))
    });
    let index = appended.await?.map(|a| a.index);
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, key = %id, "revoked a key");
    Ok(super::json(&json!({ "id": id, "revoked": true, "index": index })))
}
