//! API tokens: who may come in.

use axum::{extract::State, response::Response};
use catenary_chain::control::{Entry, Token};
use catenary_evidence::digest::Sha256;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    App,
    auth::{PLATFORM, Principal, Role, scope::Scope, token},
    extract::{ApiJson, ApiPath, ApiQuery},
    problem::Fault,
    routes::keys::Why,
};

/// The longest that a token lives.
pub const MAX_DAYS: i64 = 366;
const DEFAULT_DAYS: i64 = 90;

/// A route without parameters: unknown ones are refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoQuery {}

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NewToken {
    /// For people; 1 to 128 characters.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// `submitter`, `reader`, `auditor`, `admin`
    role: String,
    /// For example `30d` or `12h`; at most 366 days, 90 days without it.
    expires_in: Option<String>,
    /// Globs over `registry/repository` and canonical git URIs; for submitters.
    #[serde(default)]
    repositories: Vec<String>,
    /// For submitters.
    #[serde(default)]
    predicate_types: Vec<String>,
}

/// A token as it is known: without its text.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct KnownToken {
    id: String,
    name: String,
    role: String,
    expires: String,
    revoked: bool,
    repositories: Vec<String>,
    predicate_types: Vec<String>,
    /// The principal that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// The whole text; shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// The tokens of a tenant.
#[derive(Debug, Serialize, ToSchema)]
struct TokenList {
    items: Vec<KnownToken>,
}

fn known(token: &Token, revoked: bool, text: Option<String>) -> KnownToken {
    KnownToken {
        id: token.id.clone(),
        name: token.name.clone(),
        role: token.role.clone(),
        expires: token.expires.to_string(),
        revoked,
        repositories: token.repositories.clone(),
        predicate_types: token.predicate_types.clone(),
        by: token.by.clone(),
        token: text,
    }
}

/// A text for people: not empty, not long, without control characters.
pub(crate) fn text(pointer: &'static str, text: String, most: usize) -> Result<String, Fault> {
    let count = text.chars().count();
    if count == 0 || count > most || text.chars().any(char::is_control) {
        return Err(Fault::Member {
            pointer: pointer.into(),
            why: format!("has 1 to {most} characters without control characters"),
        });
    }
    Ok(text)
}

/// `30d`, `12h`, `15m`, `90s`.
pub(crate) fn duration(text: &str) -> Option<SignedDuration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: i64 =
        Some(number).filter(|n| n.len() <= 9 && n.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    let seconds = number
        * match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
    (seconds > 0 && seconds <= MAX_DAYS * 86_400).then_some(SignedDuration::from_secs(seconds))
}

/// A new token's entry and text.
pub(crate) fn make(
    tenant: &str,
    name: String,
    role: Role,
    lives: SignedDuration,
    repositories: Vec<String>,
    predicate_types: Vec<String>,
) -> Result<(Token, String), Fault> {
    let (text, id) = token::mint(tenant).map_err(|_| Fault::Internal)?;
    let expires = Timestamp::now().checked_add(lives).map_err(|_| Fault::Internal)?;
    let hash = Sha256::of(text.as_bytes());
    let role = role.as_str().into();
    Ok((Token { id, hash, role, name, expires, repositories, predicate_types, by: None }, text))
}

/// Make a token
///
/// Its text is in this answer only.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = NewToken,
    responses((status = 201, description = "With its text", body = KnownToken)))]
pub(crate) async fn create(
    State(app): State<App>,
    who: Principal,
    ApiJson(body): ApiJson<NewToken>,
) -> Result<Response, Fault> {
    let role =
        Role::from_name(&body.role).filter(|role| (*role == Role::PlatformAdmin) == (who.tenant == PLATFORM));
    let role = role.ok_or(Fault::Member {
        pointer: "/role".into(),
        why: "is submitter, reader, auditor or admin".into(),
    })?;
    let lives = match body.expires_in.as_deref() {
        None => Some(SignedDuration::from_hours(24 * DEFAULT_DAYS)),
        Some(text) => duration(text),
    };
    let lives = lives.ok_or(Fault::Member {
        pointer: "/expiresIn".into(),
        why: format!("is for example 30d, at most {MAX_DAYS}d"),
    })?;
    if body.repositories.len() > 100 || body.predicate_types.len() > 100 {
        return Err(Fault::Member {
            pointer: "/repositories".into(),
            why: "has at most 100 elements".into(),
        });
    }
    if role != Role::Submitter && !(body.repositories.is_empty() && body.predicate_types.is_empty()) {
        return Err(Fault::Member {
            pointer: "/repositories".into(),
            why: "is for submitters only: other roles have no scope".into(),
        });
    }
    Scope::new(&body.repositories, &body.predicate_types)
        .map_err(|why| Fault::Member { pointer: "/repositories".into(), why })?;
    let name = text("/name", body.name, 128)?;
    let (token, secret) = make(&who.tenant, name, role, lives, body.repositories, body.predicate_types)?;
    let token = Token { by: Some(who.identity.clone()), ..token };
    let entry = Entry::TokenCreated(token.clone());
    app.backend.append_control(&who.tenant, who.submitter(), move |_| Ok(Some(entry.clone()))).await?;
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, token = token.id, role = token.role, "made a token");
    Ok(super::kept(true, &known(&token, false, Some(secret))))
}

/// The tokens
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", responses((status = 200, description = "Without their texts", body = TokenList)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let items =
        snapshot.control.tokens.values().map(|state| known(&state.token, state.revoked, None)).collect();
    Ok(super::json(&TokenList { items }))
}

/// Revoke a token
#[utoipa::path(post, path = "/v1/tokens/{id}/revoke", tag = "tokens", params(("id" = String, Path)), request_body = Why,
    responses((status = 200, description = "Revoked", body = serde_json::Value)))]
pub(crate) async fn revoke(
    State(app): State<App>,
    who: Principal,
    ApiPath(id): ApiPath<String>,
    ApiJson(why): ApiJson<Why>,
) -> Result<Response, Fault> {
    let reason = why.checked()?;
    let wanted = id.clone();
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        let state = control.tokens.get(&wanted).ok_or(Fault::NotFound { what: "token" })?;
        let new = Entry::TokenRevoked { id: wanted.clone(), reason: reason.clone() };
        Ok((!state.revoked).then_some(new))
    });
    let index = appended.await?.map(|a| a.index);
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, token = id, "revoked a token");
    Ok(super::json(&json!({ "id": id, "revoked": true, "index": index })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_at_most_a_year() {
        assert_eq!(duration("30d"), Some(SignedDuration::from_hours(720)));
        for bad in ["", "d", "0s", "-1d", "367d", "1y", "99999999999d", "1.5h", "é"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
