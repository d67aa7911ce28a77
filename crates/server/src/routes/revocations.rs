//! Revocations: what is no longer trusted, and since when.

use axum::{extract::State, response::Response};
use catenary_chain::control::{Control, Entry, Revocation, Target};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    App,
    auth::Principal,
    extract::{ApiJson, ApiQuery},
    problem::Fault,
    routes::tokens::{self, NoQuery},
};

/// A revocation to make, for the contract: exactly one of the first seven members.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "what is read is the entry itself")]
pub(crate) struct NewRevocation {
    /// A registered key's id.
    key: Option<String>,
    /// Certificates: `{issuer?, san: {exact|prefix|glob|regex}, root?}`.
    identity: Option<serde_json::Value>,
    /// A builder id, byte for byte.
    builder: Option<String>,
    /// An attestation's id.
    attestation: Option<String>,
    /// An image's digest.
    artifact: Option<String>,
    /// A commit: `gitCommit:` and 40 or 64 hexadecimal digits.
    commit: Option<String>,
    /// An authority of a trust root, by the id under which `GET /v1/trust` lists it.
    authority: Option<String>,
    /// Only what may have been made at this moment or later; all when absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    from: Option<String>,
    /// 1 to 1,024 characters.
    #[schema(min_length = 1, max_length = 1024)]
    reason: String,
}

/// A revocation that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Made {
    /// As in the log.
    #[serde(flatten)]
    #[schema(value_type = NewRevocation)]
    revocation: Revocation,
    /// Index of its entry.
    index: u64,
}

/// Revocations.
#[derive(Debug, Serialize, ToSchema)]
struct RevocationList {
    items: Vec<Made>,
}

/// Withdraw trust
///
/// From a key, an identity, a builder, an attestation, an image, a commit or an authority; from everything, or from what may
/// have been made at `from` or later. Answers when no answer begun from now on, on any instance, can miss it.
#[utoipa::path(post, path = "/v1/revocations", tag = "revocations", request_body = NewRevocation,
    responses((status = 200, description = "Revoked as strictly already", body = Made), (status = 201, description = "Revoked", body = Made)))]
pub(crate) async fn add(
    State(app): State<App>,
    who: Principal,
    ApiJson(body): ApiJson<Revocation>,
) -> Result<Response, Fault> {
    let revocation = checked(&app, &who, body).await?;
    let new = revocation.clone();
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        known(control, &new)?;
        Ok((!control.revocations.has(&new)).then(|| Entry::Revocation(new.clone())))
    });
    let appended = appended.await?;
    let target = &revocation.target;
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, kind = target.kind(), %target, "revoked");
    let index = match &appended {
        Some(appended) => appended.index,
        None => in_force(&app.backend.snapshot(&who.tenant).await?.control, &revocation),
    };
    Ok(super::kept(appended.is_some(), &Made { revocation, index }))
}

/// The revocations
#[utoipa::path(get, path = "/v1/revocations", tag = "revocations",
    responses((status = 200, description = "Oldest first", body = RevocationList)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let made =
        |(index, revocation): &(u64, Revocation)| Made { revocation: revocation.clone(), index: *index };
    Ok(super::json(&RevocationList { items: snapshot.control.revocations.all().iter().map(made).collect() }))
}

/// A revocation with what is known of its target: another signature over the same statement must not bring it back.
pub(crate) async fn checked(app: &App, who: &Principal, body: Revocation) -> Result<Revocation, Fault> {
    let reason = tokens::text("/reason", body.reason, 1024)?;
    let mut target = body.target;
    match &mut target {
        Target::Attestation { id, payload } => {
            let store = &app.backend.store;
            // As it is committed: what another instance acknowledged just now can be revoked, however far this one follows.
            let size = store.head(&who.tenant).await?.map_or(0, |head| head.size);
            let row = store.attestation(&who.tenant, *id, size).await?;
            *payload = Some(row.ok_or(Fault::NotFound { what: "attestation" })?.facts.payload);
        }
        Target::Builder(builder) => *builder = tokens::text("/builder", std::mem::take(builder), 2048)?,
        _ => {}
    }
    Ok(Revocation { target, from: body.from, reason })
}

/// A key or authority that nobody trusts cannot be meant; what else is unknown may come later.
fn known(control: &Control, revocation: &Revocation) -> Result<(), Fault> {
    match &revocation.target {
        Target::Key(key) if !control.keys.contains_key(key) => Err(Fault::NotFound { what: "key" }),
        _ => Ok(()),
    }
}

/// The entry that revokes as strictly already.
fn in_force(control: &Control, revocation: &Revocation) -> u64 {
    let same = |(_, known): &&(u64, Revocation)| {
        known.target.kind() == revocation.target.kind()
            && known.target.to_string() == revocation.target.to_string()
    };
    control.revocations.all().iter().rev().find(same).map_or(0, |(index, _)| *index)
}
