//! Attestations: send, get, list.

use axum::{extract::State, http::HeaderMap, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_evidence::{
    attestation,
    digest::{Node, Sha256},
    key::KeyId,
};
use catenary_store::{AttestationRow, Filter, StoreError, failpoint::hit};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::{
    App,
    auth::Principal,
    extract::{ApiPath, ApiQuery, Payload},
    ingest::{self, Kept},
    page,
    problem::{Fault, success},
};

/// Where an entry is in the log, with a proof that the checkpoint commits to it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Inclusion {
    /// Index of the entry.
    pub(crate) index: u64,
    /// Size of the tree.
    pub(crate) size: u64,
    /// Its root, hex.
    pub(crate) root: String,
    /// The path, hex, from the leaf up.
    pub(crate) hashes: Vec<String>,
    /// The signed checkpoint of that tree.
    pub(crate) checkpoint: String,
    /// The leaf that is hashed into the tree, base64.
    pub(crate) leaf: String,
}

/// An attestation that was taken in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    id: String,
    index: u64,
    /// `verified` when a registered key or a trust root vouches for it, else `unverified`: kept, shown, never counted.
    status: &'static str,
    /// What an unverified one lacks: `{code, message}`.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<Value>,
    /// What is worth knowing: `{code, message}` each.
    #[schema(value_type = Vec<Object>)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<Value>,
    predicate_type: String,
    time: String,
    inclusion: Inclusion,
}

/// An attestation as lists show it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    id: String,
    index: u64,
    time: String,
    status: &'static str,
    predicate_type: String,
    /// Digest of the signed payload.
    payload: String,
    #[schema(value_type = Vec<Object>)]
    subjects: Vec<Value>,
    /// Who signed, for people.
    signers: Vec<String>,
    /// The signatures that verified: signer (a key, or a certificate's identity), time, and who vouches.
    #[schema(value_type = Vec<Object>)]
    pub(crate) signatures: Vec<Value>,
    /// Why nothing vouches for it, when more is known than that: `{code, message}`.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<Value>,
    /// The predicate in its normal form.
    #[schema(value_type = Object)]
    claim: Value,
}

/// One page.
#[derive(Debug, Serialize, ToSchema)]
struct Page {
    items: Vec<Summary>,
    /// Pass it as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What a list shows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// `sha256:…` or `gitCommit:…`
    subject: Option<String>,
    /// Byte for byte.
    predicate_type: Option<String>,
    /// Id of a registered key.
    signer: Option<String>,
    /// `builder.id`, byte for byte.
    builder: Option<String>,
    /// Canonical git URI.
    source_repository: Option<String>,
    /// `gitCommit:…`
    source_commit: Option<String>,
    /// `registry/repository` of registry events.
    resource: Option<String>,
    /// `verified` or `unverified`
    status: Option<String>,
    /// Logged at or after (RFC 3339).
    since: Option<String>,
    /// Logged before (RFC 3339).
    until: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// Media types of envelopes, bundles and lists of them.
const MEDIA_TYPES: &str = "application/json or application/x-ndjson";

/// Send attestations
///
/// One DSSE envelope or bundle, a JSON array of them, or JSON Lines. One document answers 201 (200 when it was
/// known); a list answers 200 with one result an item.
#[utoipa::path(post, path = "/v1/attestations", tag = "attestations",
    request_body(content((Value = "application/json"), (String = "application/x-ndjson"))),
    responses(
        (status = 200, description = "Known already, or results of a list", body = Value),
        (status = 201, description = "In the log", body = Receipt)))]
pub(crate) async fn submit(
    State(app): State<App>,
    who: Principal,
    payload: Payload,
) -> Result<Response, Fault> {
    match payload.media_type.as_deref() {
        None
        | Some(
            "application/json"
            | "application/x-ndjson"
            | "application/jsonl"
            | "application/octet-stream"
            | "text/plain",
        ) => {}
        Some(other) if other.starts_with("application/vnd.") && other.ends_with("+json") => {}
        Some(other) => return Err(Fault::MediaType { found: other.to_owned(), expected: MEDIA_TYPES }),
    }
    let found = attestation::detect(&payload.bytes)?;
    let is_one = matches!(found[..], [only] if only.len() == payload.bytes.len());
    let items = found.into_iter().map(|item| payload.bytes.slice_ref(item)).collect();
    let mut results = ingest::attestations(&app, &who, items).await;
    if !is_one {
        let items: Vec<Value> = results.into_iter().map(batch_item).collect();
        return Ok(super::json(&json!({ "items": items })));
    }
    let Kept { entry, facts } = results.pop().unwrap_or(Err(Fault::Internal))?;
    let inclusion = inclusion(&app, &who.tenant, entry.index, &entry.leaf).await?;
    let receipt = Receipt {
        id: entry.id.to_string(),
        index: entry.index,
        status: status(facts.is_verified()),
        doubt: facts.doubt.as_ref().and_then(|doubt| serde_json::to_value(doubt).ok()),
        notes: notes(entry.created, &facts),
        predicate_type: facts.predicate_type,
        time: entry.time.to_string(),
        inclusion,
    };
    hit("ingest.before_response").map_err(StoreError::from)?;
    Ok(super::kept(entry.created, &receipt))
}

fn status(verified: bool) -> &'static str {
    if verified { "verified" } else { "unverified" }
}

/// What the sender should know of what was kept all the same.
fn notes(created: bool, facts: &attestation::Attestation) -> Vec<Value> {
    let note = |code: &str, message: String| json!({ "code": code, "message": message });
    let mut notes = Vec::new();
    if !created {
        notes.push(note("ATT_DUPLICATE", "it was sent before; nothing was added".into()));
    }
    let weak: Vec<&str> =
        facts.subjects.iter().flat_map(|subject| &subject.digests.ignored).map(String::as_str).collect();
    if facts.subject_nodes().is_empty() && !weak.is_empty() {
        let message = format!("it is about nothing: no rule accepts {}; use sha256", weak.join(", "));
        notes.push(note("ATT_DIGEST_ALG_WEAK", message));
    }
    notes
}

fn batch_item(result: Result<Kept, Fault>) -> Value {
    match result {
        Ok(Kept { entry, facts }) => {
            let mut item = json!({
                "status": success::kept_status(entry.created),
                "id": entry.id,
                "index": entry.index,
                "evidence": status(facts.is_verified()),
                "predicateType": facts.predicate_type,
                "time": entry.time,
            });
            let notes = notes(entry.created, &facts);
            if !notes.is_empty() {
                item["notes"] = notes.into();
            }
            item
        }
        Err(fault) => serde_json::to_value(fault.problem()).unwrap_or_default(),
    }
}

/// The proof of one entry: against the log as it was followed, or the newest committed head where that is not so far yet.
pub(crate) async fn inclusion(app: &App, tenant: &str, index: u64, leaf: &[u8]) -> Result<Inclusion, Fault> {
    let follower = &app.backend.follower;
    let followed = follower.snapshot(tenant).ok().filter(|snapshot| index < snapshot.size);
    let (size, root, hashes, checkpoint) = if let Some(snapshot) = followed {
        let hashes = app.backend.store.inclusion_in(&snapshot, index, snapshot.size).await?;
        (snapshot.size, snapshot.root, hashes, follower.checkpoint(&snapshot)?)
    } else {
        let head = app.backend.store.head(tenant).await?.ok_or(Fault::NotFound { what: "log" })?;
        let hashes = app.backend.store.inclusion(tenant, index, head.size).await?;
        (head.size, head.root, hashes, app.backend.checkpoint(&head)?)
    };
    Ok(Inclusion {
        index,
        size,
        root: root.to_hex(),
        hashes: hashes.into_iter().map(|hash| hash.to_hex()).collect(),
        checkpoint,
        leaf: STANDARD.encode(leaf),
    })
}

/// List attestations, newest first
#[utoipa::path(get, path = "/v1/attestations", tag = "attestations", params(ListQuery),
    responses((status = 200, description = "One page", body = Page)))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Response, Fault> {
    let limit = page::limit(query.limit)?;
    let shape = query.shape();
    let filter = query.filter()?;
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let before = match &query.cursor {
        Some(cursor) => page::open(&app, &who.tenant, &shape, cursor)?.min(snapshot.size),
        None => snapshot.size,
    };
    let mut rows = app.backend.store.list_attestations(&who.tenant, &filter, before, limit + 1).await?;
    let more = page::cut(&mut rows, limit);
    let next = rows.last().filter(|_| more).map(|last| page::seal(&app, &who.tenant, &shape, last.index));
    Ok(super::json(&Page { items: rows.into_iter().map(Summary::from).collect(), next }))
}

impl ListQuery {
    /// What the cursor is for: the same list of the same tenant only.
    fn shape(&self) -> String {
        format!(
            "{:?}",
            (
                &self.subject,
                &self.predicate_type,
                &self.signer,
                &self.builder,
                &self.source_repository,
                &self.source_commit,
                &self.resource,
                &self.status,
                &self.since,
                &self.until
            )
        )
    }

    fn filter(&self) -> Result<Filter, Fault> {
        let time = |text: &Option<String>, name: &str| {
            let parse = |t: &String| {
                t.parse::<Timestamp>().map_err(|_| Fault::Query(format!("`{name}` is an RFC 3339 time")))
            };
            text.as_ref().map(parse).transpose()
        };
        for text in [&self.predicate_type, &self.builder, &self.source_repository, &self.resource]
            .into_iter()
            .flatten()
        {
            if text.len() > 1024 || text.contains('\0') {
                return Err(Fault::Query("a filter is at most 1024 bytes without NUL".into()));
            }
        }
        let verified = match self.status.as_deref() {
            None => None,
            Some("verified") => Some(true),
            Some("unverified") => Some(false),
            Some(_) => return Err(Fault::Query("`status` is verified or unverified".into())),
        };
        Ok(Filter {
            subject: self.subject.as_deref().map(str::parse::<Node>).transpose()?,
            predicate_type: self.predicate_type.clone(),
            signer: self.signer.as_deref().map(str::parse::<KeyId>).transpose()?,
            builder: self.builder.clone(),
            source_repository: self.source_repository.clone(),
            source_commit: self.source_commit.as_deref().map(str::parse::<Node>).transpose()?,
            resource: self.resource.clone(),
            verified,
            since: time(&self.since, "since")?,
            until: time(&self.until, "until")?,
        })
    }
}

impl From<AttestationRow> for Summary {
    fn from(row: AttestationRow) -> Self {
        let facts = row.facts;
        let text = |value: Result<Value, serde_json::Error>| value.unwrap_or_default();
        Self {
            id: facts.id.to_string(),
            index: row.index,
            time: row.time.to_string(),
            status: status(facts.is_verified()),
            payload: facts.payload.to_string(),
            subjects: facts.subjects.iter().map(|s| text(serde_json::to_value(s))).collect(),
            signers: facts.signers().map(ToString::to_string).collect(),
            signatures: facts.signatures.iter().map(|s| text(serde_json::to_value(s))).collect(),
            doubt: facts.doubt.as_ref().map(|doubt| text(serde_json::to_value(doubt))),
            claim: text(serde_json::to_value(&facts.claim)),
            predicate_type: facts.predicate_type,
        }
    }
}

/// Finds one; another tenant's looks like one that is not there.
async fn find(app: &App, who: &Principal, id: &str) -> Result<AttestationRow, Fault> {
    let id: Sha256 = id.parse()?;
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let row = app.backend.store.attestation(&who.tenant, id, snapshot.size).await?;
    row.ok_or(Fault::NotFound { what: "attestation" })
}

/// One attestation
#[utoipa::path(get, path = "/v1/attestations/{id}", tag = "attestations",
    params(("id" = String, Path, description = "`sha256:…` of its exact bytes")),
    responses((status = 200, description = "Its facts", body = Summary), (status = 304, description = "Unchanged")))]
pub(crate) async fn get(
    State(app): State<App>,
    who: Principal,
    ApiPath(id): ApiPath<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let body = serde_json::to_vec(&Summary::from(find(&app, &who, &id).await?)).unwrap_or_default();
    let etag = format!("\"{}\"", &Sha256::of(&body).to_hex()[..32]);
    Ok(super::tagged(&headers, &etag, body.into(), "application/json"))
}

/// Its exact bytes
#[utoipa::path(get, path = "/v1/attestations/{id}/raw", tag = "attestations",
    params(("id" = String, Path, description = "`sha256:…` of its exact bytes")),
    responses((status = 200, description = "As they were sent", body = Value, content_type = "application/json"), (status = 304, description = "Unchanged")))]
pub(crate) async fn raw(
    State(app): State<App>,
    who: Principal,
    ApiPath(id): ApiPath<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let id = find(&app, &who, &id).await?.facts.id;
    let mut bodies = app.backend.store.bodies(&who.tenant, &[id]).await?;
    let body = bodies.remove(&id).ok_or(Fault::NotFound { what: "body" })?;
    Ok(super::tagged(&headers, &format!("\"{}\"", id.to_hex()), body.into(), "application/json"))
}

/// Proof that it is in the log
#[utoipa::path(get, path = "/v1/attestations/{id}/proof", tag = "attestations",
    params(("id" = String, Path, description = "`sha256:…` of its exact bytes")),
    responses((status = 200, description = "Inclusion proof and signed checkpoint", body = Inclusion)))]
pub(crate) async fn proof(
    State(app): State<App>,
    who: Principal,
    ApiPath(id): ApiPath<String>,
) -> Result<Response, Fault> {
    let id = find(&app, &who, &id).await?.facts.id;
    let entry =
        app.backend.store.entry_of(&who.tenant, id).await?.ok_or(Fault::NotFound { what: "entry" })?;
    Ok(super::json(&inclusion(&app, &who.tenant, entry.index, &entry.leaf).await?))
}
