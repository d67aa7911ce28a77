//! Artifacts: what is known of a digest.

use std::collections::{BTreeMap, BTreeSet};

use axum::{extract::State, response::Response};
use catenary_evidence::{
    digest::{Digest, Node},
    object::{Body, Descriptor, Object, Platform},
    predicate::Claim,
};
use catenary_store::{Filter, ObjectRow, follow::Snapshot};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{attestations::Summary, objects};
use crate::{
    App,
    auth::Principal,
    export,
    extract::{ApiPath, ApiQuery, ContextQuery},
    page,
    problem::Fault,
    routes::tokens::NoQuery,
    verdict,
    when::When,
};

/// The most nodes of a graph.
const MAX_NODES: usize = 500;

/// An artifact.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    digest: String,
    /// When its bytes are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    /// `index`, `manifest`, `config`; absent when its bytes are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Repositories in which registry events saw it.
    resources: BTreeSet<String>,
    /// `registry/repository:tag` that pointed to it.
    tags: BTreeSet<String>,
    /// Objects that name it.
    parents: Vec<String>,
    /// What it names.
    children: Vec<Child>,
    /// BuildKit's attestation manifests about it, or, of an index, about its platforms. They never count.
    attestation_manifests: Vec<AttestationManifest>,
    /// The newest 200.
    attestations: Vec<Summary>,
    /// Time of the oldest entry shown here.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seen: Option<String>,
}

/// Something that an index or manifest names.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Child {
    digest: String,
    media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    /// The child that this entry is an attestation manifest about.
    #[serde(skip_serializing_if = "Option::is_none")]
    attests: Option<String>,
}

/// An entry of an index that holds statements about another entry. The link is an annotation, and nothing signs the
/// statements; one counts only when a signed envelope says the same, which is then an attestation of its own.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AttestationManifest {
    digest: String,
    /// The index that links the two.
    index: String,
    /// What it says that it is about.
    about: String,
    /// The platform that the index gives that child; absent when the index has no such child.
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    /// Its layers, when its bytes are known.
    statements: Vec<BareStatement>,
    /// Always `false`.
    trusted: bool,
}

/// A statement in a layer, as the manifest describes it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BareStatement {
    digest: String,
    media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicate_type: Option<String>,
}

/// What was known, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct KnownAtQuery {
    /// As of when (RFC 3339): nothing here depends on it; taken so that one address pins everything.
    #[serde(rename = "asOf")]
    as_of: Option<String>,
    /// What is read of the log: so many entries, or those up to a moment (RFC 3339); all when absent.
    #[serde(rename = "knownAt")]
    known_at: Option<String>,
}

impl KnownAtQuery {
    fn read(&self) -> Result<When, Fault> {
        When::read(self.as_of.as_deref(), self.known_at.as_deref())
    }
}

/// What is known of a digest
#[utoipa::path(get, path = "/v1/artifacts/{digest}", tag = "artifacts", params(("digest" = String, Path, description = "`sha256:…`"), KnownAtQuery),
    responses((status = 200, description = "Names, parents, children, evidence", body = Artifact)))]
pub(crate) async fn get(
    State(app): State<App>,
    who: Principal,
    ApiPath(digest): ApiPath<String>,
    ApiQuery(query): ApiQuery<KnownAtQuery>,
) -> Result<Response, Fault> {
    let digest: Digest = digest.parse()?;
    let (node, store) = (Node::from(digest), &app.backend.store);
    let snapshot = query.read()?.snapshot(&app, &who.tenant).await?;
    let object = store.object(&who.tenant, node, snapshot.size).await?;
    let parents = store.parents(&who.tenant, node, snapshot.size, page::MAX_LIMIT).await?;
    let filter = Filter { subject: Some(node), ..Filter::default() };
    let attestations = store.list_attestations(&who.tenant, &filter, snapshot.size, page::MAX_LIMIT).await?;
    if object.is_none() && parents.is_empty() && attestations.is_empty() {
        return Err(Fault::NotFound { what: "artifact" });
    }
    let (mut resources, mut tags) = (BTreeSet::new(), BTreeSet::new());
    for row in &attestations {
        if let Claim::Registry(event) = &row.facts.claim
            && row
                .facts
                .signers()
                .any(|signer| signer.key().is_some_and(|key| snapshot.control.trusts(&key, row.time)))
        {
            resources.insert(event.resource.clone());
            tags.extend(event.tag.as_ref().map(|tag| format!("{}:{tag}", event.resource)));
        }
    }
    let times = attestations
        .iter()
        .map(|a| a.time)
        .chain(parents.iter().map(|p| p.time))
        .chain(object.iter().map(|o| o.time));
    let first_seen = times.min().map(|time| time.to_string());
    let indexes = object.iter().chain(&parents);
    let attestation_manifests = attestation_manifests(&app, &who, &snapshot, indexes, digest).await?;
    let artifact = Artifact {
        digest: digest.to_string(),
        media_type: object.as_ref().map(|o| o.media_type.clone()),
        kind: object.as_ref().map(|o| objects::kind(&o.facts)),
        resources,
        tags,
        parents: parents.iter().map(|p| p.facts.node.to_string()).collect(),
        children: object.iter().flat_map(|o| children(&o.facts)).collect(),
        attestation_manifests,
        attestations: attestations.into_iter().map(Summary::from).collect(),
        first_seen,
    };
    Ok(super::json(&artifact))
}

fn children(object: &Object) -> Vec<Child> {
    let descriptors: Vec<_> = match &object.body {
        Body::Index(index) => index.children.iter().collect(),
        Body::Manifest(manifest) => std::iter::once(&manifest.config).chain(&manifest.layers).collect(),
        Body::Config(_) | Body::Commit(_) | Body::Tag(_) => Vec::new(),
    };
    let child = |d: &Descriptor| Child {
        digest: d.digest.to_string(),
        media_type: d.media_type.clone(),
        platform: d.platform.as_ref().map(platform),
        attests: d.attests.map(|about| about.to_string()),
    };
    descriptors.into_iter().map(child).collect()
}

fn platform(platform: &Platform) -> String {
    match &platform.variant {
        Some(variant) => format!("{}/{}/{variant}", platform.os, platform.architecture),
        None => format!("{}/{}", platform.os, platform.architecture),
    }
}

/// The attestation manifests of `digest` when it is an index, and those that indexes around it link to it.
async fn attestation_manifests(
    app: &App,
    who: &Principal,
    snapshot: &Snapshot,
    indexes: impl Iterator<Item = &ObjectRow>,
    digest: Digest,
) -> Result<Vec<AttestationManifest>, Fault> {
    let mut found = Vec::new();
    for row in indexes {
        let Body::Index(index) = &row.facts.body else { continue };
        let is_asked = row.facts.node == Node::from(digest);
        for entry in &index.children {
            let Some(about) = entry.attests.filter(|about| is_asked || *about == digest) else { continue };
            if found.len() >= MAX_NODES {
                return Ok(found);
            }
            let linked = index.children.iter().find(|child| child.digest == about && child.is_runnable());
            let known = app.backend.store.object(&who.tenant, entry.digest.into(), snapshot.size).await?;
            found.push(AttestationManifest {
                digest: entry.digest.to_string(),
                index: row.facts.node.to_string(),
                about: about.to_string(),
                platform: linked.and_then(|child| child.platform.as_ref()).map(platform),
                statements: known.iter().flat_map(|row| statements(&row.facts)).collect(),
                trusted: false,
            });
        }
    }
    Ok(found)
}

fn statements(object: &Object) -> Vec<BareStatement> {
    let Body::Manifest(manifest) = &object.body else { return Vec::new() };
    let statement = |layer: &Descriptor| BareStatement {
        digest: layer.digest.to_string(),
        media_type: layer.media_type.clone(),
        predicate_type: layer.predicate_type.clone(),
    };
    manifest.layers.iter().map(statement).collect()
}

/// A piece of the evidence graph.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Graph {
    nodes: Vec<GraphNode>,
    edges: Vec<Edge>,
    /// Whether the graph goes on beyond what is shown.
    truncated: bool,
}

/// A node.
#[derive(Debug, Serialize, ToSchema)]
struct GraphNode {
    /// `sha256:…` or `gitCommit:…`
    id: String,
    /// `index`, `manifest`, `config`, `commit`, `attestation`, or `unknown`.
    kind: String,
}

/// An edge.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
struct Edge {
    from: String,
    to: String,
    /// `contains`, `about`, `builtFrom`, `dependsOn`; `attests` from an attestation manifest, which never counts
    kind: &'static str,
}

/// The graph around a digest
#[utoipa::path(get, path = "/v1/artifacts/{digest}/graph", tag = "artifacts", params(("digest" = String, Path, description = "`sha256:…`")),
    responses((status = 200, description = "Nodes and edges", body = Graph)))]
pub(crate) async fn graph(
    State(app): State<App>,
    who: Principal,
    ApiPath(digest): ApiPath<String>,
    _: ApiQuery<NoQuery>,
) -> Result<Response, Fault> {
    let digest: Digest = digest.parse()?;
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let graph = walk(&app, &who.tenant, &snapshot, digest.into()).await?;
    if graph.edges.is_empty() && graph.nodes.iter().all(|node| node.kind == "unknown") {
        return Err(Fault::NotFound { what: "artifact" });
    }
    Ok(super::json(&graph))
}

async fn walk(app: &App, tenant: &str, snapshot: &Snapshot, start: Node) -> Result<Graph, Fault> {
    let store = &app.backend.store;
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    let mut edges: BTreeSet<Edge> = BTreeSet::new();
    let mut open = vec![start];
    let mut seen = BTreeSet::from([start]);
    let mut truncated = false;
    let edge = |from: &dyn ToString, to: &dyn ToString, kind| Edge {
        from: from.to_string(),
        to: to.to_string(),
        kind,
    };
    while let Some(node) = open.pop() {
        let mut next: Vec<Node> = Vec::new();
        let object = store.object(tenant, node, snapshot.size).await?;
        let kind = object.as_ref().map_or("unknown".to_owned(), |o| objects::kind(&o.facts));
        kinds.insert(node.to_string(), kind);
        if let Some(object) = &object
            && let Body::Index(index) = &object.facts.body
        {
            for child in &index.children {
                edges.insert(edge(&node, &child.digest, "contains"));
                next.push(child.digest.into());
                if let Some(about) = &child.attests {
                    edges.insert(edge(&child.digest, about, "attests"));
                    next.push((*about).into());
                }
            }
        }
        for parent in store.parents(tenant, node, snapshot.size, page::MAX_LIMIT).await? {
            edges.insert(edge(&parent.facts.node, &node, "contains"));
            next.push(parent.facts.node);
        }
        let filter = Filter { subject: Some(node), ..Filter::default() };
        for row in store.list_attestations(tenant, &filter, snapshot.size, page::MAX_LIMIT).await? {
            kinds.insert(row.facts.id.to_string(), "attestation".into());
            edges.insert(edge(&row.facts.id, &node, "about"));
            if let Claim::Build(build) = &row.facts.claim {
                if let Some(commit) = build.source.as_ref().and_then(|s| s.commit) {
                    edges.insert(edge(&node, &commit, "builtFrom"));
                    next.push(commit.into());
                }
                for dependency in build.dependencies.iter().flat_map(|d| d.nodes.first()) {
                    edges.insert(edge(&node, dependency, "dependsOn"));
                    next.push(*dependency);
                }
            }
        }
        for node in next {
            if seen.len() >= MAX_NODES {
                truncated = true;
            } else if seen.insert(node) {
                open.push(node);
            }
        }
    }
    let nodes = kinds.into_iter().map(|(id, kind)| GraphNode { id, kind }).collect();
    Ok(Graph { nodes, edges: edges.into_iter().collect(), truncated })
}

/// Which verdict the evidence is for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EvidenceQuery {
    /// `registry/repository@sha256:…` with the digest of the path.
    image: String,
    /// For example `prod`.
    #[serde(alias = "env")]
    environment: Option<String>,
    /// `os/architecture[/variant]`
    platform: Option<String>,
    /// The time of the evaluation (RFC 3339); now when absent.
    #[serde(rename = "asOf")]
    as_of: Option<String>,
    /// What is read of the log: so many entries, or those up to a moment (RFC 3339); all when absent.
    #[serde(rename = "knownAt")]
    known_at: Option<String>,
}

/// Everything that a verdict used
///
/// JSON Lines: the question, a checkpoint, all control entries and evidence with bodies and proofs, the verdict.
#[utoipa::path(get, path = "/v1/artifacts/{digest}/evidence", tag = "artifacts",
    params(("digest" = String, Path, description = "`sha256:…`"), EvidenceQuery),
    responses((status = 200, description = "JSON Lines", body = String, content_type = "application/x-ndjson")))]
pub(crate) async fn evidence(
    State(app): State<App>,
    who: Principal,
    ApiPath(digest): ApiPath<String>,
    ContextQuery(query, context): ContextQuery<EvidenceQuery>,
) -> Result<Response, Fault> {
    let digest: Digest = digest.parse()?;
    let question = verdict::question(&query.image, query.environment.as_deref(), query.platform.as_deref())?;
    let question = verdict::in_context(question, context)?;
    if question.image.digest != digest {
        return Err(Fault::Query("the digests of path and image differ".into()));
    }
    let when = When::read(query.as_of.as_deref(), query.known_at.as_deref())?;
    let lines = export::evidence(&app, &who.tenant, &question, when).await?;
    Ok(super::bytes(lines.into(), "application/x-ndjson"))
}
