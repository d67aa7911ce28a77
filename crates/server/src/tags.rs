//! What a tag last pointed to, as trusted registry events say. A hint for people, never an answer.

use catenary_evidence::{
    digest::Digest,
    predicate::{self, Claim},
};
use catenary_store::Filter;

use crate::{App, problem::Fault};

/// How many of the newest registry events are looked at.
const LOOK_BACK: u32 = 1000;

/// The digest that `resource:tag` pointed to in the newest event by a key that counts.
pub async fn last(app: &App, tenant: &str, resource: &str, tag: &str) -> Result<Option<Digest>, Fault> {
    let snapshot = app.backend.snapshot(tenant).await?;
    let filter = Filter {
        predicate_type: Some(predicate::REGISTRY_EVENT_V1.to_owned()),
        resource: Some(resource.to_owned()),
        verified: Some(true),
        ..Filter::default()
    };
    let rows = app.backend.store.list_attestations(tenant, &filter, snapshot.size, LOOK_BACK).await?;
    let event = rows.into_iter().find(|row| {
        let about = matches!(&row.facts.claim, Claim::Registry(e) if e.resource == resource && e.tag.as_deref() == Some(tag));
        about && row.facts.signers().any(|signer| signer.key().is_some_and(|key| snapshot.control.trusts(&key, row.time)))
    });
    Ok(event.and_then(|row| row.facts.subjects.first().and_then(|s| s.digests.content.first().copied())))
}
