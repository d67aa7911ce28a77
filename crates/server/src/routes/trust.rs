//! Trust roots: which certificate authorities, logs and timestamp authorities can vouch.

use std::collections::BTreeSet;

use axum::{extract::State, response::Response};
use catenary_chain::control::{Change, Control, DomainState, EffectiveRoot, Entry, RootVersion};
use catenary_evidence::{
    digest::Sha256,
    signer::AuthorityKind,
    trust_root::{self, Authorities, Domain, Rules},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    keys::Why,
    tokens::{self, NoQuery},
};
use crate::{
    App,
    auth::Principal,
    extract::{ApiJson, ApiPath, ApiQuery, Patience},
    problem::Fault,
    trust,
};

/// A version of a trust root.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NewRoot {
    /// The trust domain: 1 to 128 characters. `sigstore` and `github` are built in; a root under their names takes the place
    /// of the built-in one.
    #[schema(min_length = 1, max_length = 128)]
    domain: String,
    /// The text of a `trusted_root.json`. Only a domain of witnesses alone has none.
    #[serde(default)]
    document: String,
    /// The witnesses of checkpoints and their quorum: the text of a C2SP tlog-policy. Policies ask for it by the domain's
    /// name (`evidence.tlog.quorum`).
    #[schema(max_length = 65536)]
    witnesses: Option<String>,
    /// Whether bundles must have a transparency log entry. Default: true when the root names a log.
    log: Option<bool>,
    /// From how many distinct logs, when there must be an entry: 1 to 8. Default: 1.
    #[schema(minimum = 1, maximum = 8)]
    logs: Option<u8>,
    /// Whether certificates must have a signed certificate timestamp. Default: true when the root names such a log.
    sct: Option<bool>,
}

/// A trust domain.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TrustDomain {
    domain: String,
    /// 0 is the version that is built in.
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// Index of its `trust.added`.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    /// Index of its `trust.effective`, from which it is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_index: Option<u64>,
    /// How many more people must approve this version before it is used.
    #[serde(skip_serializing_if = "super::keys::is_none")]
    approvals_missing: u32,
    /// Why it was withdrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawn: Option<String>,
    /// Whether of some kind of authority that it names, none is trusted now.
    stale: bool,
    authorities: Vec<Authority>,
}

/// An authority of a domain.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Authority {
    /// `certificate-authority`, `log`, `ct-log`, `timestamp-authority` or `witness`.
    kind: String,
    /// SHA-256 of its certificate, of its key for logs.
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<String>,
}

/// Trust domains.
#[derive(Debug, Serialize, ToSchema)]
struct TrustList {
    items: Vec<TrustDomain>,
}

fn authorities(all: &Authorities) -> Vec<Authority> {
    let name = |kind| json!(kind).as_str().unwrap_or_default().to_owned();
    all.iter()
        .flat_map(|((kind, id), windows)| windows.iter().map(move |window| (kind, id, window)))
        .map(|(kind, id, window)| Authority {
            kind: name(kind),
            id: id.to_string(),
            valid_from: window.from.map(|t| t.to_string()),
            valid_until: window.until.map(|t| t.to_string()),
        })
        .collect()
}

/// Whether of some kind of authority that the root names, none is trusted at `now`: what is signed now has nobody to vouch
/// for it, so that a newer version of the root is missed.
fn is_stale(all: &Authorities, now: Timestamp) -> bool {
    let kinds: BTreeSet<AuthorityKind> = all.keys().map(|(kind, _)| *kind).collect();
    let trusted = |wanted: &AuthorityKind| {
        all.iter().any(|((kind, _), windows)| kind == wanted && windows.iter().any(|w| w.contains(now)))
    };
    !kinds.iter().all(trusted)
}

/// The domains of a tenant that are trusted and stale.
pub(crate) fn stale(control: &Control) -> usize {
    domains(control).iter().filter(|domain| domain.stale && domain.withdrawn.is_none()).count()
}

/// The domains of a tenant: built in, and added.
fn domains(control: &Control) -> Vec<TrustDomain> {
    let now = Timestamp::now();
    let mut names: Vec<&str> = vec![trust_root::SIGSTORE, trust_root::GITHUB];
    names.extend(control.domains.keys().map(String::as_str));
    names.sort_unstable();
    names.dedup();
    let empty = Authorities::new();
    let describe = |name: &str| {
        let state: Option<&DomainState> = control.domains.get(name);
        let newest = state.and_then(|state| state.versions.last());
        let all = match newest {
            Some(version) => &*version.authorities,
            None => trust_root::builtin_authorities(name).unwrap_or(&empty),
        };
        TrustDomain {
            domain: name.to_owned(),
            version: newest.map_or(0, |known| known.root.version),
            digest: newest.map(|known| known.root.digest.to_string()),
            index: newest.map(|known| known.added_at),
            effective_index: newest.and_then(|known| known.effective_at),
            approvals_missing: newest.filter(|known| known.effective_at.is_none()).map_or(0, |known| {
                let (domain, version) = (name.to_owned(), known.root.version);
                control.missing(&Change::Root(EffectiveRoot { domain, version }))
            }),
            withdrawn: state.and_then(|state| state.withdrawn.clone()),
            stale: is_stale(all, now),
            authorities: authorities(all),
        }
    };
    names.into_iter().map(describe).collect()
}

/// Add a version of a trust root
///
/// Answers when all stored evidence was verified under it, or after ten seconds (`Prefer: wait=n`, `respond-async`) with 202:
/// it counts from its `effectiveIndex` on. 202 also while `approvalsMissing` is there: others approve it by `POST /v1/approvals`.
#[utoipa::path(post, path = "/v1/trust", tag = "trust", request_body = NewRoot,
    responses((status = 200, description = "Added already", body = TrustDomain), (status = 201, description = "Added", body = TrustDomain),
        (status = 202, description = "Added; stored evidence is being verified", body = TrustDomain)))]
pub(crate) async fn add(
    State(app): State<App>,
    who: Principal,
    Patience(patience): Patience,
    ApiJson(body): ApiJson<NewRoot>,
) -> Result<Response, Fault> {
    let domain = tokens::text("/domain", body.domain, 128)?;
    let bare = Rules::NONE;
    let witnesses = body.witnesses.as_deref();
    let names = Domain::read_with(&domain, body.document.as_bytes(), bare, witnesses)?.authorities();
    let has = |kind| names.keys().any(|(known, _)| *known == kind);
    let rules = Rules {
        log: body.log.unwrap_or_else(|| has(AuthorityKind::Log)),
        sct: body.sct.unwrap_or_else(|| has(AuthorityKind::CtLog)),
        logs: body.logs.unwrap_or(1),
    };
    if !(1..=8).contains(&rules.logs) || (rules.logs > 1 && !rules.log && witnesses.is_none()) {
        let why = "is 1 to 8, and more than 1 only where there must be an entry".into();
        return Err(Fault::Member { pointer: "/logs".into(), why });
    }
    let digest = Sha256::of(body.document.as_bytes());
    let root = RootVersion {
        domain: domain.clone(),
        version: 0,
        digest,
        rules,
        added_on: Some(jiff::Timestamp::now()),
        document: body.document,
        witnesses: body.witnesses,
    };
    let (progress, version) =
        trust::add_root(&app, &who.tenant, (who.submitter(), &who.identity), root, patience).await?;
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, domain, version, "added a trust root");
    Ok(super::added(progress, &find(&app, &who, &domain).await?))
}

async fn find(app: &App, who: &Principal, domain: &str) -> Result<TrustDomain, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let found = domains(&snapshot.control).into_iter().find(|known| known.domain == domain);
    found.ok_or(Fault::NotFound { what: "trust domain" })
}

/// The trust domains
#[utoipa::path(get, path = "/v1/trust", tag = "trust", responses((status = 200, description = "By name", body = TrustList)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    Ok(super::json(&TrustList { items: domains(&snapshot.control) }))
}

/// One trust domain
#[utoipa::path(get, path = "/v1/trust/{domain}", tag = "trust", params(("domain" = String, Path, description = "Its name")),
    responses((status = 200, description = "The domain", body = TrustDomain)))]
pub(crate) async fn get(
    State(app): State<App>,
    who: Principal,
    ApiPath(domain): ApiPath<String>,
) -> Result<Response, Fault> {
    Ok(super::json(&find(&app, &who, &domain).await?))
}

/// Withdraw a trust domain
///
/// At once: no answer begun after this one, on any instance, counts what it vouches for.
#[utoipa::path(post, path = "/v1/trust/{domain}/withdraw", tag = "trust", params(("domain" = String, Path, description = "Its name")),
    request_body = Why, responses((status = 200, description = "Withdrawn", body = serde_json::Value)))]
pub(crate) async fn withdraw(
    State(app): State<App>,
    who: Principal,
    ApiPath(domain): ApiPath<String>,
    ApiJson(why): ApiJson<Why>,
) -> Result<Response, Fault> {
    let reason = why.checked()?;
    find(&app, &who, &domain).await?;
    let name = domain.clone();
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        let before = control.domains.get(&name).and_then(|state| state.withdrawn.as_ref());
        let entry = || Entry::TrustWithdrawn { domain: name.clone(), reason: reason.clone() };
        Ok(before.is_none().then(entry))
    });
    let index = appended.await?.map(|appended| appended.index);
    tracing::info!(target: "audit", tenant = who.tenant, by = who.name, domain, "withdrew a trust domain");
    Ok(super::json(&json!({ "domain": domain, "withdrawn": true, "index": index })))
}
