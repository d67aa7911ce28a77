//! The collector: a registry reports a push, we fetch what was pushed, hash it, keep it, and sign what we saw.
//!
//! It talks to configured registries only, and to nothing that an event names. Lost, doubled and reordered events
//! are harmless: there is one statement for a digest, a repository and a tag, and one more when the tag comes back to it.

mod fetch;
mod tags;

use axum::http::HeaderMap;
use bytes::Bytes;
use catenary_evidence::{
    KeyId,
    digest::{Digest, Node},
    object::{Body, Object},
    predicate::{Claim, REGISTRY_EVENT_V1, RegistryAction, RegistryEvent},
    reference::ResourceName,
};
use catenary_store::{Filter, keys::Purpose};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Mutex;

use self::{
    fetch::Registry,
    tags::{Pointed, Tags},
};
use crate::{
    App,
    auth::{Principal, Role, bearer, scope::Scope},
    config::{self, ConfigError},
    ingest,
    problem::Fault,
    vsa,
};

/// The most manifests of one index that are fetched.
const MAX_CHILDREN: usize = 256;
/// How deep indexes nest.
const MAX_DEPTH: usize = 3;

/// A push or a deletion, as a registry tells it.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    /// In the registry.
    pub(crate) repository: String,
    /// What was pushed.
    pub(crate) digest: Digest,
    /// Whether it was deleted instead.
    pub(crate) deleted: bool,
    /// Under which tag.
    pub(crate) tag: Option<String>,
    /// When, as the registry says.
    pub(crate) occurred_at: Timestamp,
    /// By whom, as the registry says.
    pub(crate) actor: Option<String>,
    /// `distribution` or `reconcile`.
    pub(crate) source: &'static str,
}

/// The configured registries.
pub(crate) struct Collector {
    registries: Vec<Registry>,
    /// One statement at a time, so that doubled events find each other's. What tags pointed to is read before each.
    stating: Mutex<Tags>,
}

impl Collector {
    /// Makes a client for each registry.
    pub(crate) fn new(registries: &[config::Registry]) -> Result<Self, ConfigError> {
        let registries = registries.iter().map(Registry::new).collect::<Result<_, _>>()?;
        Ok(Self { registries, stating: Mutex::default() })
    }

    /// The registry whose bearer this is. All are compared, each in constant time.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<&Registry, Fault> {
        let text = bearer(headers)?.as_bytes();
        let same = |registry: &&Registry| {
            let expected = registry.config.notification_token.expose().as_bytes();
            aws_lc_rs::constant_time::verify_slices_are_equal(expected, text).is_ok()
        };
        let found = self.registries.iter().rfind(same);
        found.ok_or_else(|| crate::auth::token::TokenError::Unknown.into())
    }

    /// The registry of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Registry> {
        self.registries.iter().find(|registry| registry.config.name == name)
    }

    /// The registries of a tenant.
    pub(crate) fn of_tenant(&self, tenant: &str) -> impl Iterator<Item = &Registry> {
        self.registries.iter().filter(move |registry| registry.config.tenant == tenant)
    }

    /// Fetches, hashes, keeps and states one push. `false`: it was stated before.
    pub(crate) async fn collect(&self, app: &App, registry: &Registry, push: &Push) -> Result<bool, Fault> {
        let resource = format!("{}/{}", registry.config.name, push.repository);
        resource.parse::<ResourceName>()?;
        if let Some(tag) = &push.tag {
            // The same grammar that references have.
            let named = format!("{resource}:{tag}@{}", push.digest);
            named.parse::<catenary_evidence::reference::ImageReference>()?;
        }
        let who = Principal {
            tenant: registry.config.tenant.clone(),
            role: Role::Submitter,
            scope: Scope::default(),
            name: format!("collector {}", registry.config.name),
            identity: "service:collector".into(),
            token: None,
        };
        let known = known(app, &who, &resource, push, &mut *self.stating.lock().await).await?;
        if known.is_stated {
            return Ok(false);
        }
        let manifest = match push.deleted {
            // A registry that still has it deleted a tag, or tells a tale.
            true => match registry.manifest(&push.repository, &push.digest.to_string()).await {
                Err(Fault::NotFound { .. }) => None,
                Ok(_) => return Ok(false),
                Err(fault) => return Err(fault),
            },
            false => Some(self.keep(app, &who, registry, push, MAX_DEPTH).await?),
        };
        let mut one = self.stating.lock().await;
        let known = self::known(app, &who, &resource, push, &mut one).await?;
        if known.is_stated {
            return Ok(false);
        }
        let item = state(app, registry, push, manifest.as_ref(), known.previous)?;
        let result = ingest::attestations(app, &who, vec![item]).await.pop();
        let kept = result.unwrap_or(Err(Fault::Internal))?;
        tracing::info!(resource, digest = %push.digest, tag = push.tag, deleted = push.deleted, id = %kept.entry.id, "collected an event");
        Ok(true)
    }

    /// Keeps the manifest and what it names: children and configs, first the parts and then the whole.
    async fn keep(
        &self,
        app: &App,
        who: &Principal,
        registry: &Registry,
        push: &Push,
        depth: usize,
    ) -> Result<Object, Fault> {
        let (media_type, bytes) = registry.manifest(&push.repository, &push.digest.to_string()).await?;
        let facts = read(&media_type, &bytes, push.digest)?;
        match &facts.body {
            Body::Index(index) if depth > 0 => {
                for child in index.children.iter().take(MAX_CHILDREN) {
                    let child = Push { digest: child.digest, tag: None, ..push.clone() };
                    // A sparse index is fine: what is missing is missing in the verdict.
                    if let Err(fault) = Box::pin(self.keep(app, who, registry, &child, depth - 1)).await {
                        tracing::info!(digest = %child.digest, %fault, "a part of an index was not collected");
                    }
                }
            }
            Body::Manifest(manifest) if is_image_config(&manifest.config.media_type) => {
                match registry.blob(&push.repository, &manifest.config.digest).await {
                    Ok(bytes) => {
                        let claimed = Some(Node::from(manifest.config.digest));
                        ingest::object(app, who, &manifest.config.media_type, claimed, bytes).await?;
                    }
                    Err(fault) => {
                        tracing::info!(digest = %manifest.config.digest, %fault, "a config was not collected")
                    }
                }
            }
            _ => {}
        }
        let (_, facts) = ingest::object(app, who, &media_type, Some(push.digest.into()), bytes).await?;
        Ok(facts)
    }
}

/// Reads a manifest to find its parts; it is proved again when it is kept.
fn read(media_type: &str, bytes: &Bytes, digest: Digest) -> Result<Object, Fault> {
    let trust = catenary_evidence::Trust::none();
    Ok(catenary_evidence::object::read(media_type, bytes, &trust, Some(digest.into()))?)
}

fn is_image_config(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
    )
}

/// What our collector stated before.
struct Known {
    /// This digest in this repository under this tag.
    is_stated: bool,
    /// The other image to which the tag pointed.
    previous: Option<Digest>,
}

async fn known(
    app: &App,
    who: &Principal,
    resource: &str,
    push: &Push,
    tags: &mut Tags,
) -> Result<Known, Fault> {
    let head = app.backend.store.head(&who.tenant).await?.ok_or(Fault::NotFound { what: "tenant" })?;
    let filter = Filter {
        subject: Some(push.digest.into()),
        predicate_type: Some(REGISTRY_EVENT_V1.to_owned()),
        verified: Some(true),
        ..Filter::default()
    };
    let ours: Vec<KeyId> = (app.backend.keys.public_parts().iter())
        .filter(|part| part.purpose == Purpose::Collector)
        .map(|part| part.key_id)
        .collect();
    let rows = app.backend.store.list_attestations(&who.tenant, &filter, head.size, 1000).await?;
    let events = rows.iter().filter(|row| ours.iter().any(|key| row.facts.is_signed_by(key)));
    let here: Vec<&RegistryEvent> = events
        .filter_map(|row| if let Claim::Registry(event) = &row.facts.claim { Some(event) } else { None })
        .filter(|event| event.resource == resource)
        .collect();
    let is_deletion = |event: &&&RegistryEvent| event.event == RegistryAction::Delete;
    let deleted = here.iter().filter(is_deletion).map(|event| event.occurred_at).max();
    let pushed = here.iter().filter(|event| !is_deletion(event)).map(|event| event.occurred_at).max();
    let last = match &push.tag {
        Some(tag) => tags.last(app, &ours, (&who.tenant, resource), tag, head.size).await?,
        None => None,
    };
    // What the registry says of an earlier moment says nothing of where the tag pointed before it.
    let moved = last.filter(|last| last.digest != push.digest && last.at <= push.occurred_at);
    let is_current = |event: &RegistryEvent| moved.is_none_or(|Pointed { at, .. }| event.occurred_at >= at);
    let is_stated = match push.deleted {
        // Nothing that was never here is deleted, and what was is deleted once.
        true => pushed.is_none_or(|pushed| deleted.is_some_and(|deleted| deleted >= pushed)),
        false => here.iter().any(|event| {
            event.event == RegistryAction::Push
                && event.tag == push.tag
                && is_current(event)
                && deleted.is_none_or(|deleted| deleted < event.occurred_at)
        }),
    };
    Ok(Known { is_stated, previous: moved.map(|moved| moved.digest) })
}

/// The signed statement.
fn state(
    app: &App,
    registry: &Registry,
    push: &Push,
    manifest: Option<&Object>,
    previous: Option<Digest>,
) -> Result<Bytes, Fault> {
    let digest = push.digest.to_string();
    let (algorithm, hex) = digest.split_once(':').unwrap_or_default();
    let media_type = match manifest.map(|manifest| &manifest.body) {
        Some(Body::Index(index)) => Some(&index.media_type),
        Some(Body::Manifest(manifest)) => Some(&manifest.media_type),
        _ => None,
    };
    let mut predicate = json!({
        "event": if push.deleted { "delete" } else { "push" },
        "registry": registry.config.name,
        "repository": push.repository,
        "occurredAt": push.occurred_at,
        "source": { "kind": push.source },
    });
    if manifest.is_some() {
        predicate["mediaType"] = json!(media_type);
        predicate["verified"] = json!({ "manifestFetched": true, "digestMatches": true });
    }
    if let Some(tag) = &push.tag {
        predicate["tag"] = json!(tag);
    }
    if let Some(previous) = previous.filter(|_| !push.deleted) {
        predicate["previousDigest"] = json!(previous.to_string());
    }
    if let Some(actor) = push.actor.as_ref().filter(|actor| !actor.is_empty() && actor.len() <= 256) {
        predicate["actor"] = json!({ "name": actor });
    }
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": format!("{}/{}", registry.config.name, push.repository), "digest": { algorithm: hex } }],
        "predicateType": REGISTRY_EVENT_V1,
        "predicate": predicate,
    });
    let envelope = vsa::envelope(&app.backend.keys, vsa::By::Collector, &statement)?;
    Ok(serde_json::to_vec(&envelope).map_err(|_| Fault::Internal)?.into())
}

/// What one run over a registry found.
#[derive(Debug, Default, serde::Serialize, utoipa::ToSchema)]
pub(crate) struct Found {
    /// The registry's name.
    registry: String,
    /// Repositories looked at.
    repositories: usize,
    /// Tags looked at.
    tags: usize,
    /// Pushes stated now.
    collected: usize,
    /// Tags that could not be collected.
    failed: usize,
}

/// Looks at every tag of the tenant's registries and collects what no event told.
pub(crate) async fn reconcile(app: &App, tenant: &str) -> Result<Vec<Found>, Fault> {
    let mut all = Vec::new();
    for registry in app.collector.of_tenant(tenant) {
        let mut found = Found { registry: registry.config.name.clone(), ..Found::default() };
        for repository in registry.repositories().await? {
            found.repositories += 1;
            for tag in registry.tags(&repository).await? {
                found.tags += 1;
                match reconcile_tag(app, registry, &repository, &tag).await {
                    Ok(true) => found.collected += 1,
                    Ok(false) => {}
                    Err(fault) => {
                        tracing::warn!(repository, tag, %fault, "a tag was not reconciled");
                        found.failed += 1;
                    }
                }
            }
        }
        all.push(found);
    }
    Ok(all)
}

async fn reconcile_tag(app: &App, registry: &Registry, repository: &str, tag: &str) -> Result<bool, Fault> {
    let (_, bytes) = registry.manifest(repository, tag).await?;
    let push = Push {
        repository: repository.to_owned(),
        digest: Digest::sha256(&bytes),
        deleted: false,
        tag: Some(tag.to_owned()),
        occurred_at: Timestamp::now(),
        actor: None,
        source: "reconcile",
    };
    app.collector.collect(app, registry, &push).await
}
