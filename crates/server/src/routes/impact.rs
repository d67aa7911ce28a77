//! What is hit by a key, an identity, a builder, a commit, a repository, an image, a package or a vulnerability; and what a
//! change would do, before it is made.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use axum::{extract::State, response::Response};
use catenary_chain::{Control, policy::Matcher, revocation::IdentityPattern};
use catenary_evidence::{
    KeyId,
    digest::{Digest, GitOid, Node, Sha256},
    purl::Purl,
    reference::RepositoryUri,
    version::Range,
};
use catenary_store::{
    follow::Snapshot,
    impact::{self, Cause, Hit, SHOWN},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::{revocations, verdicts::Asked};
use crate::{
    App,
    auth::Principal,
    extract::{ApiJson, ApiQuery},
    page,
    problem::Fault,
    verdict,
    whatif::{self, Change, Flip, Part},
    when::When,
};

/// How long the answers of another time about one image may take.
const MANY: Duration = Duration::from_secs(25);
/// Questions that are looked at before a stream says how far it is.
const STEP: u32 = 200;
/// Images whose watched questions are read at once.
const AT_ONCE: usize = 256;
/// Images that a stream remembers, so that it names each once.
const MAX_IMAGES: usize = 1_000_000;

/// What hits.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct ImpactQuery {
    /// What this registered key signed.
    key: Option<String>,
    /// What certificates with this subject alternative name signed: a glob, `*` within a segment, `**` across.
    identity: Option<String>,
    /// Beside `identity`: only of this OIDC issuer.
    issuer: Option<String>,
    /// What this builder built, byte for byte.
    builder: Option<String>,
    /// What was built from this commit: 40 or 64 hexadecimal digits.
    commit: Option<String>,
    /// What was built from this repository: a git URI, for example `https://github.com/acme/shop`.
    repository: Option<String>,
    /// What was built with this image, `sha256:…`, as its base or otherwise.
    base: Option<String>,
    /// This image itself, with the indexes that hold it and the platforms that it holds.
    artifact: Option<String>,
    /// What contains this package: a package URL; with a version, that version only.
    purl: Option<String>,
    /// What contains a package of this name.
    package: Option<String>,
    /// Beside `purl` or `package`: only these versions, for example `>=1.2, <1.4.7`.
    versions: Option<String>,
    /// What has this vulnerability, as scans and VEX documents say.
    vulnerability: Option<String>,
    /// The time at which verdicts are evaluated and workloads run (RFC 3339); now when absent.
    as_of: Option<String>,
    /// What is read of the log: so many entries, or those up to a moment (RFC 3339); all when absent.
    known_at: Option<String>,
    /// `json` (a page) or `ndjson` (all of it, with progress).
    format: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// What hits, ready to be looked up.
struct Sought {
    cause: Cause,
    /// Only these versions, of a package of this type.
    versions: Option<(String, Range)>,
}

/// An image that is hit.
#[derive(Debug, Serialize, ToSchema)]
struct Item {
    /// Its digest, or a commit.
    artifact: String,
    /// What says so: the newest.
    attestation: String,
    /// Index of its entry.
    index: u64,
    /// Time of its entry.
    time: String,
    /// The statement's type.
    #[serde(rename = "predicateType")]
    predicate_type: String,
    /// Who vouches for it; empty: nobody.
    signers: Vec<String>,
    /// Of a package: the versions that are hit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<String>,
    /// Of a vulnerability: what is said of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    states: Vec<String>,
    /// The watched questions whose answers rest on it, those that are not allowed first; at most 100.
    verdicts: Vec<Standing>,
}

/// A watched question with its answer.
#[derive(Debug, Serialize, ToSchema)]
struct Standing {
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    outcome: String,
    allowed: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// Where it runs: `environment/application/workload`.
    running: Vec<String>,
}

/// One page.
#[derive(Debug, Serialize, ToSchema)]
struct Items {
    items: Vec<Item>,
    /// Pass it as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl From<impact::Asked> for Standing {
    fn from(asked: impact::Asked) -> Self {
        let impact::Asked { image, environment, platform, outcome, allowed, reason, running, .. } = asked;
        Self { image, environment, platform, outcome, allowed, reason, running }
    }
}

impl ImpactQuery {
    async fn sought(&self, app: &App, snapshot: &Snapshot) -> Result<Sought, Fault> {
        let named = [
            &self.key,
            &self.identity,
            &self.builder,
            &self.commit,
            &self.repository,
            &self.base,
            &self.artifact,
            &self.purl,
            &self.package,
            &self.vulnerability,
        ];
        if named.iter().filter(|text| text.is_some()).count() != 1 {
            return Err(Fault::Query(
                "give exactly one of `key`, `identity`, `builder`, `commit`, `repository`, `base`, `artifact`, `purl`, `package`, `vulnerability`".into(),
            ));
        }
        if self.issuer.is_some() && self.identity.is_none() {
            return Err(Fault::Query("`issuer` stands beside `identity`".into()));
        }
        let mut range = self
            .versions
            .as_deref()
            .map(Range::parse)
            .transpose()
            .map_err(|why| Fault::Query(format!("`versions`: {why}")))?;
        if range.is_some() && self.purl.is_none() && self.package.is_none() {
            return Err(Fault::Query("`versions` stands beside `purl` or `package`".into()));
        }
        let mut kind = String::new();
        let cause = if let Some(key) = &self.key {
            Cause::Signers(vec![key.parse::<KeyId>()?.to_string()])
        } else if let Some(identity) = &self.identity {
            Cause::Signers(signers(app, snapshot, identity, self.issuer.as_deref()).await?)
        } else if let Some(builder) = &self.builder {
            Cause::Builder(builder.clone())
        } else if let Some(commit) = &self.commit {
            Cause::Commit(Node::Git(oid(commit)?))
        } else if let Some(repository) = &self.repository {
            Cause::Repository(git(repository)?)
        } else if let Some(base) = &self.base {
            Cause::Input(family(app, snapshot, base.parse()?).await?)
        } else if let Some(artifact) = &self.artifact {
            Cause::About(family(app, snapshot, artifact.parse()?).await?)
        } else if let Some(purl) = &self.purl {
            let purl = Purl::parse(purl).map_err(|e| Fault::Query(format!("`purl` is {e}")))?;
            let package = purl.package();
            kind = package
                .strip_prefix("pkg:")
                .and_then(|rest| rest.split('/').next())
                .unwrap_or_default()
                .to_owned();
            if let (Some(version), None) = (purl.version(), &range) {
                let exactly = Range::parse(&format!("={version}"));
                range = Some(exactly.map_err(|why| Fault::Query(format!("`purl`: {why}")))?);
            }
            Cause::Package(package)
        } else if let Some(name) = &self.package {
            Cause::PackageName(name.clone())
        } else {
            Cause::Vulnerability(self.vulnerability.clone().unwrap_or_default())
        };
        Ok(Sought { cause, versions: range.map(|range| (kind, range)) })
    }
}

/// A commit, with or without the name of its space.
pub(super) fn oid(text: &str) -> Result<GitOid, Fault> {
    let hex = text.strip_prefix("gitCommit:").unwrap_or(text);
    GitOid::from_hex(hex).map_err(|_| Fault::Query("`commit` is 40 or 64 lower-case hex digits".into()))
}

/// A git repository as provenance is found by it.
pub(super) fn git(text: &str) -> Result<String, Fault> {
    let uri = text.parse::<RepositoryUri>();
    let uri = uri.map_err(|why| {
        Fault::Query(format!("`repository` is a git URI such as https://github.com/acme/shop: {why}"))
    })?;
    Ok(uri.to_string())
}

/// The certificate signers that a glob means.
pub(super) async fn signers(
    app: &App,
    snapshot: &Snapshot,
    glob: &str,
    issuer: Option<&str>,
) -> Result<Vec<String>, Fault> {
    let san = serde_json::from_value::<Matcher>(json!({ "glob": glob }))
        .map_err(|error| Fault::Query(format!("the identity: {error}")))?;
    let pattern = IdentityPattern { issuer: issuer.map(str::to_owned), san, root: None };
    let all = app.backend.store.certificate_signers(&snapshot.tenant, snapshot.size).await?;
    Ok(all.into_iter().filter(|signer| pattern.may_name(signer)).collect())
}

/// An image, the indexes that hold it and the platforms that it holds: provenance may name any of them as its base, or as what it made.
async fn family(app: &App, snapshot: &Snapshot, digest: Digest) -> Result<Vec<Node>, Fault> {
    let (node, store) = (Node::Content(digest), &app.backend.store);
    let mut nodes = vec![node];
    let parents = store.parents(&snapshot.tenant, node, snapshot.size, page::MAX_LIMIT).await?;
    nodes.extend(parents.iter().map(|parent| parent.facts.node));
    if let Some(object) = store.object(&snapshot.tenant, node, snapshot.size).await?
        && let catenary_evidence::object::Body::Index(index) = &object.facts.body
    {
        let runnable = index.children.iter().filter(|child| child.is_runnable());
        nodes.extend(runnable.map(|child| Node::Content(child.digest)));
    }
    Ok(nodes)
}

impl Sought {
    /// Whether a hit is one, and the versions that make it one.
    fn admits(&self, hit: &Hit) -> Option<Vec<String>> {
        let Some((kind, range)) = &self.versions else {
            return Some(match self.cause {
                Cause::Package(_) | Cause::PackageName(_) => hit.versions.clone(),
                _ => Vec::new(),
            });
        };
        let inside = hit.versions.iter().filter(|version| range.contains(kind, version));
        let inside: Vec<String> = inside.cloned().collect();
        (!inside.is_empty()).then_some(inside)
    }

    /// The images of one page of hits that are not in `seen`.
    async fn items(
        &self,
        app: &App,
        tenant: &str,
        when: When,
        hits: Vec<Hit>,
        seen: &mut BTreeSet<Node>,
    ) -> Result<Vec<Item>, Fault> {
        let mut found = Vec::new();
        for hit in &hits {
            let Some(versions) = self.admits(hit) else { continue };
            let new = hit.row.facts.subject_nodes().into_iter().filter(|node| seen.insert(*node));
            found.extend(new.map(|node| (node, hit, versions.clone())));
        }
        let mut items = Vec::with_capacity(found.len());
        for some in found.chunks(AT_ONCE) {
            let nodes: Vec<Node> = some.iter().map(|(node, ..)| *node).collect();
            let at = (!when.is_now()).then(|| when.now());
            let mut asked = app.backend.store.asked_about(tenant, &nodes, SHOWN, at).await?;
            if !when.is_now() {
                then(app, tenant, when, &mut asked).await?;
            }
            for (node, hit, versions) in some {
                let states = hit.states.iter().filter(|state| !state.is_empty());
                items.push(Item {
                    artifact: node.to_string(),
                    attestation: hit.row.facts.id.to_string(),
                    index: hit.row.index,
                    time: hit.row.time.to_string(),
                    predicate_type: hit.row.facts.predicate_type.clone(),
                    signers: hit.row.facts.signers().map(ToString::to_string).collect(),
                    versions: versions.clone(),
                    states: states.cloned().collect(),
                    verdicts: asked
                        .remove(node)
                        .unwrap_or_default()
                        .into_iter()
                        .map(Standing::from)
                        .collect(),
                });
            }
        }
        Ok(items)
    }
}

/// Puts the answers of another time in the place of those that are watched.
async fn then(
    app: &App,
    tenant: &str,
    when: When,
    asked: &mut BTreeMap<Node, Vec<impact::Asked>>,
) -> Result<(), Fault> {
    for questions in asked.values_mut() {
        let read = questions.iter().map(whatif::question).collect::<Result<Vec<_>, _>>()?;
        let deadline = Instant::now() + MANY;
        let answers = verdict::ask_many(app, tenant, &read, when, deadline).await?;
        for (question, answer) in questions.iter_mut().zip(answers) {
            let verdict = &answer.ok_or(Fault::Timeout { limit: MANY })?.ready.verdict;
            question.outcome = serde_json::to_value(verdict.outcome)
                .ok()
                .and_then(|outcome| outcome.as_str().map(str::to_owned))
                .unwrap_or_default();
            question.allowed = verdict.allowed;
            question.reason = verdict.errors().next().map(|r| r.code.to_string()).unwrap_or_default();
        }
        questions.sort_by_key(|question| (question.allowed, question.key));
    }
    Ok(())
}

/// What is hit
///
/// Images (and commits) by what vouches for them, what made them, what is in them; each with the watched questions whose
/// answers rest on it, and where it runs.
#[utoipa::path(get, path = "/v1/impact", tag = "impact", params(ImpactQuery),
    responses((status = 200, description = "One page, or JSON Lines with progress", body = Items)))]
pub(crate) async fn impact(
    State(app): State<App>,
    who: Principal,
    ApiQuery(query): ApiQuery<ImpactQuery>,
) -> Result<Response, Fault> {
    let when = When::read(query.as_of.as_deref(), query.known_at.as_deref())?;
    let snapshot = when.snapshot(&app, &who.tenant).await?;
    // One moment for all that is evaluated.
    let when = if when.is_now() { when } else { When { as_of: Some(when.now()), ..when } };
    let sought = query.sought(&app, &snapshot).await?;
    match query.format.as_deref() {
        None | Some("json") => {}
        Some("ndjson") => return Ok(stream_impact(app, snapshot, when, sought)),
        Some(_) => return Err(Fault::Query("`format` is json or ndjson".into())),
    }
    let limit = page::limit(query.limit)?;
    let shape = format!("impact {:?} {}", sought.cause, query.versions.as_deref().unwrap_or_default());
    let before = match &query.cursor {
        Some(cursor) => page::open(&app, &who.tenant, &shape, cursor)?.min(snapshot.size),
        None => snapshot.size,
    };
    let found = app.backend.store.hits(&who.tenant, &sought.cause, before, limit).await?;
    let next = found.next.map(|next| page::seal(&app, &who.tenant, &shape, next));
    let items = sought.items(&app, &who.tenant, when, found.hits, &mut BTreeSet::new()).await?;
    Ok(super::json(&Items { items, next }))
}

fn stream_impact(app: App, snapshot: Arc<Snapshot>, when: When, sought: Sought) -> Response {
    super::lines(app.clone(), move |lines| async move {
        let (mut before, mut seen, mut attestations) = (snapshot.size, BTreeSet::new(), 0_usize);
        let mut images = 0_usize;
        let page = async |before| app.backend.store.hits(&snapshot.tenant, &sought.cause, before, STEP).await;
        let mut found = page(before).await?;
        loop {
            attestations += found.hits.len();
            let more = found.next.filter(|_| seen.len() < MAX_IMAGES);
            // The next page is read while this one is written.
            let ahead = async {
                match more {
                    Some(next) => page(next).await.map(Some),
                    None => Ok(None),
                }
            };
            let (complete, next) = (found.next.is_none(), found.next);
            let written = async {
                let items = sought.items(&app, &snapshot.tenant, when, found.hits, &mut seen).await?;
                for item in &items {
                    lines.send("artifact", item).await?;
                }
                Ok::<_, Fault>(items.len())
            };
            let (written, ahead) = tokio::join!(written, ahead);
            images += written?;
            lines
                .send(
                    "progress",
                    &json!({ "attestations": attestations, "artifacts": images, "before": before }),
                )
                .await?;
            let (Some(next), Some(page)) = (next, ahead?) else {
                let end = json!({ "attestations": attestations, "artifacts": images, "complete": complete, "logSize": snapshot.size });
                return lines.send("end", &end).await;
            };
            (before, found) = (next, page);
        }
    })
}

/// A change, and over what to try it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct WhatIf {
    /// A revocation, as `POST /v1/revocations` takes it.
    revocation: Option<catenary_chain::control::Revocation>,
    /// A policy document, as text.
    policy: Option<String>,
    /// Instead of what is watched: one question, answered by the policy alone.
    question: Option<Asked>,
    /// `deployed` or `watched`.
    scope: Option<String>,
    /// `json` (a page) or `ndjson` (all of it, with progress).
    format: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// How many questions a page looks at: 1 to 200.
    limit: Option<u32>,
}

/// A change, and over what to try it, for the contract: exactly one of the first two members.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "what is read is above")]
pub(crate) struct WhatIfBody {
    /// A revocation, as `POST /v1/revocations` takes it.
    revocation: Option<revocations::NewRevocation>,
    /// A policy document, as text.
    policy: Option<String>,
    /// Instead of what is watched: one question, answered as if the policy were the only one. The answer has one member, `verdict`.
    question: Option<Asked>,
    /// `deployed`: what runs. `watched`: that, and the questions asked lately; the default.
    scope: Option<String>,
    /// `json` (a page) or `ndjson` (all of it, with progress).
    format: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// How many questions a page looks at: 1 to 200.
    #[schema(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

/// What would change.
#[derive(Debug, Serialize, ToSchema)]
struct Flips {
    /// The answers that would change.
    items: Vec<Flip>,
    /// How many questions the page looked at.
    examined: usize,
    /// How many of them would not be allowed any more.
    denied: usize,
    /// How many would be allowed.
    allowed: usize,
    /// Pass it as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What would change
///
/// Nothing is written: every question about what runs, and those asked lately, is answered as now and as with the change.
#[utoipa::path(post, path = "/v1/what-if", tag = "impact", request_body = WhatIfBody,
    responses((status = 200, description = "One page, or JSON Lines with progress", body = Flips)))]
pub(crate) async fn what_if(
    State(app): State<App>,
    who: Principal,
    ApiJson(body): ApiJson<WhatIf>,
) -> Result<Response, Fault> {
    if let Some(asked) = &body.question {
        return try_policy(&app, &who, &body, asked).await;
    }
    let running_only = match body.scope.as_deref() {
        None | Some("watched") => false,
        Some("deployed") => true,
        Some(_) => {
            return Err(Fault::Member { pointer: "/scope".into(), why: "is deployed or watched".into() });
        }
    };
    let revocation = match body.revocation {
        Some(revocation) => Some(revocations::checked(&app, &who, revocation).await?),
        None => None,
    };
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let changed = Arc::new(Change { revocation, policy: body.policy }.apply(&snapshot)?);
    match body.format.as_deref() {
        None | Some("json") => {}
        Some("ndjson") => return Ok(stream_what_if(app, snapshot, changed, running_only)),
        Some(_) => return Err(Fault::Member { pointer: "/format".into(), why: "is json or ndjson".into() }),
    }
    let limit = page::limit(body.limit)?;
    let after = body.cursor.as_deref().map(|text| text.parse::<Sha256>().map(|key| key.0));
    let after =
        after.transpose().map_err(|_| Fault::Pagination("the cursor is not one of this list".into()))?;
    let part = whatif::part(&app, &snapshot, &changed, running_only, after, limit).await?;
    let Part { flips, examined, denied, allowed, next } = part;
    let next = next.map(|key| Sha256(key).to_string());
    Ok(super::json(&Flips { items: flips, examined, denied, allowed, next }))
}

/// One question under a policy that nobody applied.
async fn try_policy(app: &App, who: &Principal, body: &WhatIf, asked: &Asked) -> Result<Response, Fault> {
    let (Some(document), None) = (&body.policy, &body.revocation) else {
        return Err(Fault::Member { pointer: "/question".into(), why: "is asked of a `policy`".into() });
    };
    let question = asked.read(app, who).await?;
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let verdict = whatif::alone(app, &snapshot, document, question).await?;
    Ok(super::json(&json!({ "verdict": verdict })))
}

fn stream_what_if(app: App, snapshot: Arc<Snapshot>, changed: Arc<Control>, running_only: bool) -> Response {
    super::lines(app.clone(), move |lines| async move {
        let (mut after, mut examined, mut denied, mut allowed) = (None, 0, 0, 0);
        loop {
            let part = whatif::part(&app, &snapshot, &changed, running_only, after, STEP).await?;
            (examined, denied, allowed) =
                (examined + part.examined, denied + part.denied, allowed + part.allowed);
            for flip in &part.flips {
                lines.send("flip", flip).await?;
            }
            let so_far = json!({ "examined": examined, "denied": denied, "allowed": allowed, "logSize": snapshot.size });
            lines.send(if part.next.is_some() { "progress" } else { "end" }, &so_far).await?;
            match part.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    })
}
