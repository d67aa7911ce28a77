//! Facts: all evidence about a digest with what was read of it, for those who evaluate by themselves (OPA, Conforma).

use axum::{extract::State, response::Response};
use catenary_chain::Control;
use catenary_evidence::{digest::Node, predicate::Claim};
use catenary_store::{AttestationRow, Filter, follow::Snapshot};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use utoipa::{IntoParams, ToSchema};

use super::{attestations::Summary, objects::KnownObject};
use crate::{App, auth::Principal, extract::ApiQuery, page, problem::Fault};

/// The most bytes of evidence in one page. It has one statement at least, which is no larger than what was sent.
pub(crate) const MAX_EVIDENCE: usize = 8 * 1024 * 1024;

/// What is known of a digest.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Facts {
    digest: String,
    /// How many entries of the log were read.
    log_size: u64,
    /// Why it is revoked, as an image or a commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
    /// What its bytes say; on the first page, when they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<KnownObject>,
    /// Objects that name it; on the first page.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parents: Vec<String>,
    /// What was said about it, newest first.
    items: Vec<Statement>,
    /// Pass it as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A statement about it. Each of `signatures` has `trusted`: whether its signer is trusted now, by whatever rule, and not revoked.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(flatten)]
    facts: Summary,
    /// Whether the statement, or the builder that it names, is revoked.
    revoked: bool,
    /// The envelope or bundle, as it was sent; `null` when its bytes are damaged.
    #[schema(value_type = Option<Object>)]
    evidence: Option<Box<RawValue>>,
}

/// Which digest.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FactsQuery {
    /// `sha256:…` or `gitCommit:…`
    digest: String,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// Evidence and facts about a digest
///
/// Every statement that has it as a subject, verified or not, as it was sent and as it was read, with who signed and whether they are
/// trusted now. Policies have no part in it. Other digests that the facts name, such as platforms, commits and inputs, are asked for by themselves.
/// A page ends after `limit` statements, or with the one that makes it exceed 8 MiB of evidence.
#[utoipa::path(get, path = "/v1/facts", tag = "artifacts", params(FactsQuery),
    responses((status = 200, description = "One page", body = Facts)))]
pub(crate) async fn facts(
    State(app): State<App>,
    who: Principal,
    ApiQuery(query): ApiQuery<FactsQuery>,
) -> Result<Response, Fault> {
    let node: Node = query.digest.parse()?;
    let limit = page::limit(query.limit)?;
    let (store, shape) = (&app.backend.store, format!("facts {node}"));
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let before = match &query.cursor {
        Some(cursor) => page::open(&app, &who.tenant, &shape, cursor)?.min(snapshot.size),
        None => snapshot.size,
    };
    let filter = Filter { subject: Some(node), ..Filter::default() };
    let mut rows = store.list_attestations(&who.tenant, &filter, before, limit + 1).await?;
    let more = page::cut(&mut rows, limit);
    let (mut object, mut parents) = (None, Vec::new());
    if query.cursor.is_none() {
        object = store.object(&who.tenant, node, snapshot.size).await?.map(KnownObject::with_facts);
        parents = store.parents(&who.tenant, node, snapshot.size, page::MAX_LIMIT).await?;
        if object.is_none() && parents.is_empty() && rows.is_empty() {
            return Err(Fault::NotFound { what: "digest" });
        }
    }
    let asked = rows.len();
    let (items, last) = statements(&app, &snapshot, rows).await?;
    let more = more || items.len() < asked;
    let facts = Facts {
        digest: node.to_string(),
        log_size: snapshot.size,
        revoked: revoked(&snapshot.control, &node),
        object,
        parents: parents.iter().map(|parent| parent.facts.node.to_string()).collect(),
        items,
        next: last.filter(|_| more).map(|last| page::seal(&app, &who.tenant, &shape, last)),
    };
    Ok(super::json(&facts))
}

/// As many of the rows as a page takes, and the index of the last one. One body is in memory beside the page.
async fn statements(
    app: &App,
    snapshot: &Snapshot,
    rows: Vec<AttestationRow>,
) -> Result<(Vec<Statement>, Option<u64>), Fault> {
    let (mut items, mut last, mut size) = (Vec::new(), None, 0);
    for row in rows {
        if size > MAX_EVIDENCE {
            break;
        }
        let mut bodies = app.backend.store.bodies(&snapshot.tenant, &[row.facts.id]).await?;
        let body = bodies.remove(&row.facts.id).unwrap_or_default();
        size += body.len();
        last = Some(row.index);
        // It was strict JSON when it was taken in; the document is passed on as it is.
        let text = String::from_utf8(body).unwrap_or_default();
        items.push(statement(&snapshot.control, row, RawValue::from_string(text).ok()));
    }
    Ok((items, last))
}

fn statement(control: &Control, row: AttestationRow, evidence: Option<Box<RawValue>>) -> Statement {
    let trusted: Vec<bool> =
        row.facts.signatures.iter().map(|signature| control.counts(signature, row.time)).collect();
    let builder = match &row.facts.claim {
        Claim::Build(build) => control.revocations.builder(&build.builder_id),
        _ => None,
    };
    let named = control.revocations.attestation(row.facts.id, row.facts.payload);
    let revoked = named.chain(builder).any(|revoked| revoked.covers(row.time));
    let mut facts = Summary::from(row);
    for (signature, trusted) in facts.signatures.iter_mut().zip(trusted) {
        signature["trusted"] = Value::Bool(trusted);
    }
    Statement { facts, revoked, evidence }
}

fn revoked(control: &Control, node: &Node) -> Option<String> {
    let revoked = match node {
        Node::Content(digest) => control.revocations.artifact(digest),
        Node::Git(commit) => control.revocations.commit(commit),
    };
    revoked.map(|revoked| revoked.reason.clone())
}
