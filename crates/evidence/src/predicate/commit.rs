//! `urn:catenary:predicate:commit:v1`: who moved which ref to a commit.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de};

use super::{Actor, Commit, CommitSignature, Reader, Review};
use crate::{
    digest::GitOid, dsse::within, limits::MAX_APPROVERS, reference::RepositoryUri, refusal::Refusal,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wire {
    repository: WireRepository,
    #[serde(rename = "ref")]
    reference: String,
    #[serde(default, deserialize_with = "optional_oid")]
    previous: Option<GitOid>,
    updated_at: Timestamp,
    actor: Option<Actor>,
    review: Option<Review>,
    signature: Option<CommitSignature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRepository {
    uri: String,
    #[serde(default, deserialize_with = "optional_id")]
    id: Option<String>,
}

/// Reads the predicate. Its subject is the commit, by `gitCommit`.
pub(super) fn read(reader: &Reader<'_>) -> Result<Commit, Refusal> {
    let wire: Wire = reader.parse()?;
    reader.subject_needs("a `gitCommit` digest", |digests| !digests.git.is_empty())?;
    let repository = reader.check("/repository/uri", wire.repository.uri.parse::<RepositoryUri>())?;
    reader.text("/ref", &wire.reference)?;
    if !wire.reference.starts_with("refs/") {
        return Err(reader.refuse("/ref", "a ref is written in full, for example `refs/heads/main`"));
    }
    if let Some(review) = &wire.review {
        within("approvers", review.approvers.len(), MAX_APPROVERS)?;
    }
    Ok(Commit {
        repository: repository.to_string(),
        repository_id: wire.repository.id,
        reference: wire.reference,
        previous: wire.previous,
        updated_at: wire.updated_at,
        actor: wire.actor,
        review: wire.review,
        signature: wire.signature,
    })
}

/// An oid as git prints it, or as `gitCommit:<hex>`.
pub(super) fn oid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GitOid, D::Error> {
    let text = String::deserialize(deserializer)?;
    GitOid::from_hex(text.strip_prefix("gitCommit:").unwrap_or(&text)).map_err(de::Error::custom)
}

fn optional_oid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<GitOid>, D::Error> {
    #[derive(Deserialize)]
    struct Oid(#[serde(deserialize_with = "oid")] GitOid);
    Ok(Option::<Oid>::deserialize(deserializer)?.map(|Oid(oid)| oid))
}

/// A forge's id: text, or the number that forges send.
pub(super) fn optional_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an id is a non-empty text of at most 64 bytes, or a number")]
    enum Id {
        Text(String),
        Number(u64),
    }
    match Option::<Id>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Id::Number(number)) => Ok(Some(number.to_string())),
        Some(Id::Text(text)) if !text.is_empty() && text.len() <= 64 => Ok(Some(text)),
        Some(Id::Text(_)) => {
            Err(de::Error::custom("an id is a non-empty text of at most 64 bytes, or a number"))
        }
    }
}
