//! `urn:catenary:predicate:registry-event:v1`: our collector saw a manifest arrive in a repository.

use jiff::Timestamp;
use serde::Deserialize;

use super::{Promotion, Reader, RegistryAction, RegistryEvent};
use crate::{digest::Digest, reference::ResourceName, refusal::Refusal};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wire {
    event: RegistryAction,
    registry: String,
    repository: String,
    tag: Option<String>,
    previous_digest: Option<Digest>,
    #[serde(rename = "mediaType")]
    _media_type: Option<String>,
    actor: Option<WireActor>,
    #[serde(rename = "client")]
    _client: Option<WireClient>,
    occurred_at: Timestamp,
    #[serde(rename = "observedAt")]
    _observed_at: Option<Timestamp>,
    #[serde(rename = "source")]
    _source: Option<WireSource>,
    verified: Option<WireVerified>,
    promotion: Option<WirePromotion>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireActor {
    name: String,
    #[serde(rename = "authn")]
    _authn: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireClient {
    #[serde(rename = "useragent")]
    _useragent: Option<String>,
    #[serde(rename = "addr")]
    _addr: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WireSource {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "eventId")]
    _event_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WireVerified {
    manifest_fetched: bool,
    digest_matches: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WirePromotion {
    from: String,
    from_digest: Digest,
}

/// Reads the predicate. Its subject is the manifest, by content digest.
pub(super) fn read(reader: &Reader<'_>) -> Result<RegistryEvent, Refusal> {
    let wire: Wire = reader.parse()?;
    reader.subject_needs("a content digest", |digests| !digests.content.is_empty())?;
    let resource = format!("{}/{}", wire.registry, wire.repository);
    reader.check("/repository", resource.parse::<ResourceName>())?;
    if wire.verified.is_some_and(|v| !v.manifest_fetched || !v.digest_matches) {
        return Err(
            reader.refuse("/verified", "an event whose manifest was not fetched and hashed proves nothing")
        );
    }
    let promotion = wire.promotion.map(|p| Promotion { from: p.from, digest: p.from_digest });
    if let Some(promotion) = &promotion {
        reader.check("/promotion/from", promotion.from.parse::<ResourceName>())?;
    }
    if (wire.event == RegistryAction::Promote) != promotion.is_some() {
        return Err(reader.refuse("/promotion", "a promotion, and nothing else, says where it came from"));
    }
    Ok(RegistryEvent {
        event: wire.event,
        resource,
        tag: wire.tag,
        previous: wire.previous_digest,
        occurred_at: wire.occurred_at,
        actor: wire.actor.map(|a| a.name),
        promotion,
    })
}
