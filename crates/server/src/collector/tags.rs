//! What tags pointed to: read from our own statements in the log, and remembered.

use std::collections::BTreeMap;

use catenary_evidence::{
    KeyId,
    digest::Digest,
    predicate::{Claim, REGISTRY_EVENT_V1, RegistryAction},
};
use catenary_store::{AttestationRow, Filter};
use jiff::Timestamp;

use crate::{App, problem::Fault};

/// Statements that are read at once.
const PAGE: u32 = 1000;
/// The most tags that are remembered; beyond, what is needed is read again.
const MAX_TAGS: usize = 200_000;

/// Where a tag pointed to, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pointed {
    /// As the registry says.
    pub at: Timestamp,
    /// To this manifest.
    pub digest: Digest,
    /// Index of the statement.
    index: u64,
}

/// The tags of the repositories about which something was collected, by tenant and repository.
#[derive(Debug, Default)]
pub(super) struct Tags {
    repositories: BTreeMap<(String, String), Repository>,
}

#[derive(Debug, Default)]
struct Repository {
    /// How many entries of the log were read.
    read: u64,
    tags: BTreeMap<String, Pointed>,
}

impl Tags {
    /// What the newest push under the tag pointed it to, among the first `size` entries. Statements are those by `ours`.
    ///
    /// Newest is by the registry's time: events come late and in any order.
    pub async fn last(
        &mut self,
        app: &App,
        ours: &[KeyId],
        (tenant, resource): (&str, &str),
        tag: &str,
        size: u64,
    ) -> Result<Option<Pointed>, Fault> {
        if self.repositories.values().map(|repository| repository.tags.len()).sum::<usize>() > MAX_TAGS {
            self.repositories.clear();
        }
        let repository = self.repositories.entry((tenant.to_owned(), resource.to_owned())).or_default();
        let filter = Filter {
            predicate_type: Some(REGISTRY_EVENT_V1.to_owned()),
            resource: Some(resource.to_owned()),
            verified: Some(true),
            ..Filter::default()
        };
        let mut before = size;
        while before > repository.read {
            let rows = app.backend.store.list_attestations(tenant, &filter, before, PAGE).await?;
            let Some(last) = rows.last() else { break };
            before = last.index;
            let read = repository.read;
            for row in rows.iter().filter(|row| row.index >= read) {
                repository.note(row, ours);
            }
        }
        repository.read = repository.read.max(size);
        Ok(repository.tags.get(tag).copied())
    }
}

impl Repository {
    fn note(&mut self, row: &AttestationRow, ours: &[KeyId]) {
        let Claim::Registry(event) = &row.facts.claim else { return };
        let Some(tag) = &event.tag else { return };
        let is_ours = ours.iter().any(|key| row.facts.is_signed_by(key));
        if !is_ours || event.event != RegistryAction::Push {
            return;
        }
        let subjects = row.facts.subjects.iter();
        let Some(&digest) = subjects.flat_map(|subject| &subject.digests.content).next() else { return };
        let found = Pointed { at: event.occurred_at, digest, index: row.index };
        let known = self.tags.entry(tag.clone()).or_insert(found);
        if (found.at, found.index) > (known.at, known.index) {
            *known = found;
        }
    }
}
