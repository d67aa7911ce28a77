//! Packages and vulnerabilities: which images contain this one, which are hit by that one.

use axum::{extract::State, response::Response};
use catenary_evidence::{digest::Node, mention::Mention, purl::Purl};
use catenary_store::{
    Store,
    mention::{MentionRow, Selection},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{App, auth::Principal, extract::ApiQuery, page, problem::Fault};

/// A package in an artifact, or a vulnerability of one.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Item {
    /// `pkg:type/namespace/name`, when the document gives a package URL.
    #[serde(skip_serializing_if = "String::is_empty")]
    package: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    /// Id of the vulnerability.
    #[serde(skip_serializing_if = "String::is_empty")]
    vulnerability: String,
    /// Severity by a scan, status by a VEX document, role in a build (`baseImage`, …).
    #[serde(skip_serializing_if = "String::is_empty")]
    state: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licences: Vec<String>,
    /// `algorithm:hex`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<String>,
    /// What the statement is about: digests of images.
    artifacts: Vec<String>,
    /// The statement.
    attestation: String,
    index: u64,
    time: String,
    /// `verified` or `unverified`
    status: &'static str,
    signers: Vec<String>,
}

/// One page.
#[derive(Debug, Serialize, ToSchema)]
struct Items {
    items: Vec<Item>,
    /// Pass it as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which packages or vulnerabilities.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct MentionQuery {
    /// A package URL; with a version, that version only. Qualifiers are not looked at.
    purl: Option<String>,
    /// The package's name, whatever its type: also finds packages that have no package URL. An input of a build is named by its
    /// digest: `sha256:…`.
    name: Option<String>,
    /// Exactly this version.
    version: Option<String>,
    /// Id of the vulnerability.
    vulnerability: Option<String>,
    /// Of this artifact, `sha256:…`
    digest: Option<String>,
    /// `verified` or `unverified`: what the statement is.
    status: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

impl MentionQuery {
    fn selection(&self, findings: bool) -> Result<Selection, Fault> {
        let purl = self.purl.as_deref().map(Purl::parse).transpose();
        let purl = purl.map_err(|e| Fault::Query(format!("`purl` is {e}")))?;
        let verified = match self.status.as_deref() {
            None => None,
            Some("verified") => Some(true),
            Some("unverified") => Some(false),
            Some(_) => return Err(Fault::Query("`status` is verified or unverified".into())),
        };
        if !findings && self.vulnerability.is_some() {
            return Err(Fault::Query("components have no `vulnerability`: ask /v1/findings".into()));
        }
        let selection = Selection {
            findings,
            version: purl.as_ref().and_then(Purl::version).map(str::to_owned).or(self.version.clone()),
            package: purl.as_ref().map(Purl::package),
            name: self.name.clone(),
            vulnerability: self.vulnerability.clone(),
            subject: self.digest.as_deref().map(str::parse::<Node>).transpose()?,
            verified,
        };
        let named = selection.package.is_some() || selection.name.is_some();
        if !named && selection.vulnerability.is_none() && selection.subject.is_none() {
            let wanted = if findings {
                "`vulnerability`, `purl`, `name` or `digest`"
            } else {
                "`purl`, `name` or `digest`"
            };
            return Err(Fault::Query(format!("give {wanted}")));
        }
        Ok(selection)
    }
}

/// Packages by SBOMs and inputs by provenance, newest statement first
///
/// Which images contain a package: also those without a package manager. Which were built on an image.
#[utoipa::path(get, path = "/v1/components", tag = "components", params(MentionQuery),
    responses((status = 200, description = "One page", body = Items)))]
pub(crate) async fn components(
    State(app): State<App>,
    who: Principal,
    ApiQuery(query): ApiQuery<MentionQuery>,
) -> Result<Response, Fault> {
    list(&app, &who, &query, false).await
}

/// Vulnerabilities by scans, VEX documents and SBOMs, newest statement first
#[utoipa::path(get, path = "/v1/findings", tag = "components", params(MentionQuery),
    responses((status = 200, description = "One page", body = Items)))]
pub(crate) async fn findings(
    State(app): State<App>,
    who: Principal,
    ApiQuery(query): ApiQuery<MentionQuery>,
) -> Result<Response, Fault> {
    list(&app, &who, &query, true).await
}

async fn list(app: &App, who: &Principal, query: &MentionQuery, findings: bool) -> Result<Response, Fault> {
    let limit = page::limit(query.limit)?;
    let selection = query.selection(findings)?;
    let shape = format!("mentions {selection:?}");
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let all = Store::mentions_of(snapshot.size);
    let before = match &query.cursor {
        Some(cursor) => page::open(app, &who.tenant, &shape, cursor)?.min(all),
        None => all,
    };
    let mut rows = app.backend.store.list_mentions(&who.tenant, &selection, before, limit + 1).await?;
    let more = page::cut(&mut rows, limit);
    let next = rows.last().filter(|_| more).map(|last| page::seal(app, &who.tenant, &shape, last.position));
    Ok(super::json(&Items { items: rows.into_iter().map(Item::from).collect(), next }))
}

impl From<MentionRow> for Item {
    fn from(row: MentionRow) -> Self {
        let Mention { package, name, version, vulnerability, state, licences, hashes } = row.mention;
        let facts = row.attestation.facts;
        Self {
            package,
            name,
            version,
            vulnerability,
            state,
            licences,
            hashes,
            artifacts: facts.subject_nodes().iter().map(ToString::to_string).collect(),
            attestation: facts.id.to_string(),
            index: row.attestation.index,
            time: row.attestation.time.to_string(),
            status: if facts.is_verified() { "verified" } else { "unverified" },
            signers: facts.signers().map(ToString::to_string).collect(),
        }
    }
}
