//! The predicates of the SLSA source tool. Their members were snake_case first and camelCase later; both are read, one
//! spelling at a time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::{Control, Reader, SourceProvenance, TagProvenance, TagSummary};
use crate::{
    digest::GitOid,
    dsse::within,
    limits::{MAX_LEVELS, MAX_SUBJECTS},
    reference::RepositoryUri,
    refusal::Refusal,
};

#[derive(Deserialize)]
struct WireSource {
    #[serde(alias = "repoUri")]
    repo_uri: Option<String>,
    #[serde(alias = "activityType")]
    activity_type: Option<String>,
    actor: Option<String>,
    branch: Option<String>,
    #[serde(alias = "prevCommit")]
    prev_commit: Option<String>,
    #[serde(alias = "createdOn")]
    created_on: Option<Timestamp>,
    controls: Option<Vec<WireControl>>,
    /// The first form: levels, each with its time.
    properties: Option<BTreeMap<String, WireSince>>,
}

#[derive(Deserialize)]
struct WireTag {
    #[serde(alias = "repoUri")]
    repo_uri: Option<String>,
    tag: String,
    actor: Option<String>,
    #[serde(alias = "createdOn")]
    created_on: Option<Timestamp>,
    controls: Option<Vec<WireControl>>,
    #[serde(alias = "vsaSummaries")]
    vsa_summaries: Option<Vec<WireSummary>>,
}

#[derive(Deserialize)]
struct WireControl {
    name: String,
    since: Option<Timestamp>,
}

#[derive(Deserialize)]
struct WireSince {
    #[serde(alias = "Since")]
    since: Option<Timestamp>,
}

#[derive(Deserialize)]
struct WireSummary {
    #[serde(alias = "sourceRefs", default)]
    source_refs: Option<Vec<String>>,
    #[serde(alias = "verifiedLevels", default)]
    verified_levels: Option<Vec<String>>,
}

/// Reads source provenance. Its subject is the commit.
pub(super) fn read_source(reader: &Reader<'_>) -> Result<SourceProvenance, Refusal> {
    let wire: WireSource = reader.parse()?;
    commit(reader)?;
    let mut controls = controls(reader, wire.controls)?;
    let properties = wire.properties.unwrap_or_default();
    within("controls", controls.len() + properties.len(), MAX_LEVELS)?;
    for (name, WireSince { since }) in properties {
        reader.text("/properties", &name)?;
        controls.push(Control { name, since });
    }
    for (pointer, text) in
        [("/activity_type", &wire.activity_type), ("/actor", &wire.actor), ("/branch", &wire.branch)]
    {
        short(reader, pointer, text.as_deref())?;
    }
    Ok(SourceProvenance {
        repository: repository(reader, wire.repo_uri)?,
        activity: wire.activity_type,
        actor: wire.actor,
        reference: wire.branch,
        previous: previous(reader, wire.prev_commit.as_deref())?,
        created_on: wire.created_on,
        controls,
    })
}

/// Reads tag provenance. Its subject is the commit that the tag names.
pub(super) fn read_tag(reader: &Reader<'_>) -> Result<TagProvenance, Refusal> {
    let wire: WireTag = reader.parse()?;
    commit(reader)?;
    reader.text("/tag", &wire.tag)?;
    short(reader, "/actor", wire.actor.as_deref())?;
    let summaries = wire.vsa_summaries.unwrap_or_default();
    within("summaries", summaries.len(), MAX_LEVELS)?;
    let mut read = Vec::with_capacity(summaries.len());
    for summary in summaries {
        let source_refs = summary.source_refs.unwrap_or_default();
        let verified_levels = summary.verified_levels.unwrap_or_default();
        within("source refs", source_refs.len(), MAX_SUBJECTS)?;
        within("verified levels", verified_levels.len(), MAX_LEVELS)?;
        read.push(TagSummary { source_refs, verified_levels });
    }
    Ok(TagProvenance {
        repository: repository(reader, wire.repo_uri)?,
        tag: wire.tag,
        actor: wire.actor,
        created_on: wire.created_on,
        controls: controls(reader, wire.controls)?,
        summaries: read,
    })
}

fn commit(reader: &Reader<'_>) -> Result<(), Refusal> {
    reader.subject_needs("a `gitCommit` digest", |digests| !digests.git.is_empty())
}

fn controls(reader: &Reader<'_>, wire: Option<Vec<WireControl>>) -> Result<Vec<Control>, Refusal> {
    let wire = wire.unwrap_or_default();
    within("controls", wire.len(), MAX_LEVELS)?;
    let mut controls = Vec::with_capacity(wire.len());
    for (position, WireControl { name, since }) in wire.into_iter().enumerate() {
        reader.text(&format!("/controls/{position}/name"), &name)?;
        controls.push(Control { name, since });
    }
    Ok(controls)
}

/// A text that may be missing or empty, but not too long.
fn short(reader: &Reader<'_>, pointer: &str, text: Option<&str>) -> Result<(), Refusal> {
    match text {
        Some(text) if !text.is_empty() => reader.text(pointer, text),
        _ => Ok(()),
    }
}

fn repository(reader: &Reader<'_>, uri: Option<String>) -> Result<Option<String>, Refusal> {
    short(reader, "/repo_uri", uri.as_deref())?;
    let canonical = |uri: String| uri.parse::<RepositoryUri>().map_or(uri, |canonical| canonical.to_string());
    Ok(uri.filter(|uri| !uri.is_empty()).map(canonical))
}

/// The first commit of a ref has none before it: nothing, or git's zeros.
fn previous(reader: &Reader<'_>, text: Option<&str>) -> Result<Option<GitOid>, Refusal> {
    match text {
        Some(text) if text.bytes().any(|b| b != b'0') => {
            reader.check("/prev_commit", GitOid::from_hex(text)).map(Some)
        }
        _ => Ok(None),
    }
}
