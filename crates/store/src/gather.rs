//! The evidence of one frontier, believed only under its seal and only with intact bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use catenary_chain::gather::{Evidence, Logged, Want};
use catenary_evidence::{
    Trust,
    attestation::Attestation,
    digest::{Digest, Node, Sha256},
    object::{Body, Object},
};
use catenary_tlog::Hash;

use crate::{
    Store, StoreError,
    entry::{from_sql, to_sql},
    facts::{AttestationRecord, ObjectRecord, id_from, time_from},
    frontier::{Asked, Found, Pick},
    load::Loaded,
    pool::retry,
};

/// Attestations of wanted signers that are read about one node, and its parents that they speak about.
pub const MAX_PER_NODE: usize = 1000;
/// Other attestations about a node, and other parents: enough to show what was nearly there.
pub const NEAR_MISSES: usize = 20;

/// The attestations that are read about each node.
pub type Picked = BTreeMap<Node, BTreeSet<Sha256>>;

/// Attestations that a statement is told to leave out, because they are there already.
const KNOWN: usize = 128;

/// The part of a log that the caller has followed: what it may believe.
#[derive(Debug, Clone)]
pub struct Prefix {
    /// Number of entries.
    pub size: u64,
    /// Root of the tree of that size, as the caller computed it.
    pub root: Hash,
    /// Every key that was registered by then: with them a changed row is derived anew.
    pub trust: Trust,
    /// Whether trust was added since: rows may say more than was known.
    pub past: bool,
}

impl Store {
    /// Adds to `into` what the first `at.size` entries hold about the wanted nodes, from the one database that this store reads.
    /// [`crate::replay`] gathers the same from a log in memory: what changes here changes there.
    ///
    /// A row whose seal is broken is derived anew from its body, when the leaf proves the body and the tree
    /// proves the leaf; else it is named as damaged, and absent. One round trip, one more when a policy names
    /// certificate identities.
    pub(crate) async fn gather_here(
        &self,
        tenant: &str,
        want: &Want,
        at: &Prefix,
        into: &mut Evidence,
    ) -> Result<Picked, StoreError> {
        let mut known: Vec<Vec<u8>> =
            into.attestations.keys().chain(&into.damaged).map(|id| id.0.to_vec()).collect();
        // Leaving out many costs more than reading some twice.
        known.truncate(KNOWN);
        let found = self.frontier(tenant, want, &known, at.size).await?;
        self.gather_objects(tenant, want, found.objects, at, into).await?;
        let picked = pick(found.picks, into);
        self.gather_attestations(tenant, &picked, found.attestations, at, into).await?;
        Ok(picked)
    }

    /// The statements of [`Store::gather`] without what is made of their rows: the ceiling of benchmarks. How many
    /// rows there were.
    #[doc(hidden)]
    pub async fn fetch(&self, tenant: &str, want: &Want, before: u64) -> Result<usize, StoreError> {
        let found = self.frontier(tenant, want, &[], before).await?;
        Ok(found.objects.len() + found.attestations.len())
    }

    /// One primary-key read: the other ceiling of benchmarks.
    #[doc(hidden)]
    pub async fn facts_by_key(&self, tenant: &str, id: &[u8]) -> Result<Vec<u8>, StoreError> {
        let facts = retry(|| {
            sqlx::query_scalar!("select facts from attestation where tenant = $1 and id = $2", tenant, id)
                .fetch_one(self.reads())
        });
        facts.await
    }

    async fn frontier(
        &self,
        tenant: &str,
        want: &Want,
        known: &[Vec<u8>],
        before: u64,
    ) -> Result<Found, StoreError> {
        let nodes: Vec<String> = want.nodes.iter().map(ToString::to_string).collect();
        let mut signers: Vec<String> = want.by.signers.iter().map(ToString::to_string).collect();
        signers.extend(self.identities(tenant, want, &nodes, before).await?);
        let asked = Asked {
            nodes: &nodes,
            signers: &signers,
            known,
            before,
            most: MAX_PER_NODE as i64 + 1,
            few: NEAR_MISSES as i64,
        };
        self.find(tenant, &asked).await
    }

    /// The certificate identities that a policy trusts among those that speak about the nodes or their parents. All of them
    /// are looked through, so that no crowd of others can push one out.
    async fn identities(
        &self,
        tenant: &str,
        want: &Want,
        nodes: &[String],
        before: u64,
    ) -> Result<Vec<String>, StoreError> {
        if want.by.identities.is_empty() {
            return Ok(Vec::new());
        }
        let rows = retry(|| {
            sqlx::query_scalar!(
                r#"select distinct s.signer from attestation_subject s
                   where s.tenant = $1 and s.signer like '[%' and s.log_index < $3
                     and (s.node = any($2) or s.node in (
                         select c.parent from object_child c
                         where c.tenant = $1 and c.child = any($2) and c.log_index < $3))"#,
                tenant,
                nodes,
                to_sql(before)
            )
            .fetch_all(self.gathers())
        })
        .await?;
        let trusted = |signer: &String| want.by.identities.iter().any(|rule| rule.may_name(signer));
        Ok(rows.into_iter().filter(trusted).collect())
    }

    async fn gather_objects(
        &self,
        tenant: &str,
        want: &Want,
        found: Vec<Loaded<ObjectRecord>>,
        at: &Prefix,
        into: &mut Evidence,
    ) -> Result<(), StoreError> {
        let wanted: BTreeSet<Node> = want.nodes.iter().copied().collect();
        for loaded in found {
            let id = id_from(&loaded.record.id);
            let Some(object) = self.believe_object(tenant, loaded, at).await? else {
                into.damaged.extend(id);
                continue;
            };
            note_parents(&wanted, &object.fact, &mut into.parents);
            note_heirs(&wanted, &object.fact, into);
            if wanted.contains(&object.fact.node) {
                into.objects.insert(object.fact.node, Arc::new(object));
            }
        }
        for node in &wanted {
            let Node::Content(digest) = node else { continue };
            if into.parents.get(digest).is_some_and(|parents| parents.len() > MAX_PER_NODE) {
                into.truncated.insert(*node);
            }
        }
        Ok(())
    }

    async fn gather_attestations(
        &self,
        tenant: &str,
        picked: &Picked,
        found: Vec<Loaded<AttestationRecord>>,
        at: &Prefix,
        into: &mut Evidence,
    ) -> Result<(), StoreError> {
        // What an earlier frontier brought is not fetched again.
        let known = |id: &Sha256| into.attestations.contains_key(id) || into.damaged.contains(id);
        let mut missing: BTreeSet<Sha256> =
            picked.values().flatten().filter(|id| !known(id)).copied().collect();
        for loaded in found {
            let Some(id) = id_from(&loaded.record.id) else { continue };
            // What is beyond a node's budget may have come along.
            if !missing.remove(&id) {
                continue;
            }
            keep(id, self.believe_attestation(tenant, loaded, at).await?, into);
        }
        self.note_missing(tenant, &missing, at, into).await
    }

    /// An index row without facts at its place in the log: one of the two says a wrong place, the facts were deleted, or the index row
    /// was made up.
    async fn note_missing(
        &self,
        tenant: &str,
        missing: &BTreeSet<Sha256>,
        at: &Prefix,
        into: &mut Evidence,
    ) -> Result<(), StoreError> {
        for id in missing {
            let entry = self.entry_of(tenant, *id).await?;
            if entry.is_none_or(|entry| entry.index >= at.size || entry.kind != "attestation") {
                self.alarm(tenant, "attestation_subject", &id.to_string(), "not in the log");
                continue;
            }
            let misplaced = self.has_facts(tenant, *id).await?;
            let what = if misplaced { "the row is not at its place" } else { "the row is gone" };
            self.alarm(tenant, "attestation", &id.to_string(), what);
            let derived = if misplaced { self.derive_attestation(tenant, *id, at).await? } else { None };
            keep(*id, derived, into);
        }
        Ok(())
    }

    async fn has_facts(&self, tenant: &str, id: Sha256) -> Result<bool, StoreError> {
        let has = retry(|| {
            sqlx::query_scalar!(
                r#"select exists (select 1 from attestation where tenant = $1 and id = $2) as "is!""#,
                tenant,
                &id.0[..]
            )
            .fetch_one(self.reads())
        });
        has.await
    }

    /// The facts of a row, if they can be believed.
    async fn believe_attestation(
        &self,
        tenant: &str,
        loaded: Loaded<AttestationRecord>,
        at: &Prefix,
    ) -> Result<Option<Logged<Attestation>>, StoreError> {
        let Loaded { record, intact } = loaded;
        let Some(id) = id_from(&record.id) else { return Ok(None) };
        if !intact {
            self.alarm(tenant, "body", &id.to_string(), "the bytes are gone or changed");
            return Ok(None);
        }
        if let Some(fact) = record.open(tenant, self.seal()) {
            if at.past && !fact.signatures.iter().all(|signature| at.trust.knows(signature)) {
                // Trust that came later vouches for it now: what was known then is found from the bytes.
                return self.attestation_as_of(tenant, id, at).await;
            }
            return Ok(Some(Logged {
                index: from_sql(record.log_index),
                received_at: time_from(record.time_us),
                fact,
            }));
        }
        self.alarm(tenant, "attestation", &id.to_string(), "the seal is broken");
        self.derive_attestation(tenant, id, at).await
    }

    /// The facts of a row, if they can be believed.
    async fn believe_object(
        &self,
        tenant: &str,
        loaded: Loaded<ObjectRecord>,
        at: &Prefix,
    ) -> Result<Option<Logged<Object>>, StoreError> {
        let Loaded { record, intact } = loaded;
        let Some(id) = id_from(&record.id) else { return Ok(None) };
        if !intact {
            self.alarm(tenant, "body", &id.to_string(), "the bytes are gone or changed");
            return Ok(None);
        }
        if let Some(fact) = record.open(tenant, self.seal()) {
            if at.past && !fact.signature().is_none_or(|signature| at.trust.knows(signature)) {
                return self.object_as_of(tenant, id, at).await;
            }
            if fact.sha384.is_none() && matches!(fact.node, Node::Content(_)) {
                // Facts of a version that did not compute it: an answer must not rest on when they were kept.
                return self.derive_object(tenant, id, at).await;
            }
            return Ok(Some(Logged {
                index: from_sql(record.log_index),
                received_at: time_from(record.time_us),
                fact,
            }));
        }
        self.alarm(tenant, "object", &record.node, "the seal is broken");
        self.derive_object(tenant, id, at).await
    }
}

/// What cannot be believed is damaged.
fn keep(id: Sha256, found: Option<Logged<Attestation>>, into: &mut Evidence) {
    match found {
        Some(attestation) => {
            into.attestations.insert(id, Arc::new(attestation));
        }
        None => {
            into.damaged.insert(id);
        }
    }
}

/// The attestations that index rows lead to, each node's up to its budget.
fn pick(rows: Vec<Pick>, into: &mut Evidence) -> Picked {
    let mut counts: BTreeMap<Node, usize> = BTreeMap::new();
    let mut picked = Picked::new();
    for row in rows {
        let Ok(node) = row.node.parse::<Node>() else { continue };
        if row.wanted {
            let count = counts.entry(node).or_default();
            *count += 1;
            if *count > MAX_PER_NODE {
                into.truncated.insert(node);
                continue;
            }
        }
        picked.entry(node).or_default().extend(id_from(&row.id));
    }
    picked
}

/// Which wanted nodes this index contains: read from its own bytes, not from the rows that led here.
pub(crate) fn note_parents(
    wanted: &BTreeSet<Node>,
    object: &Object,
    parents: &mut BTreeMap<Digest, BTreeSet<Digest>>,
) {
    let (Body::Index(index), Node::Content(parent)) = (&object.body, object.node) else { return };
    for child in &index.children {
        if wanted.contains(&Node::Content(child.digest)) {
            parents.entry(child.digest).or_default().insert(parent);
        }
    }
}

/// The same for git objects: commits that come after a wanted one, tags of it.
pub(crate) fn note_heirs(wanted: &BTreeSet<Node>, object: &Object, into: &mut Evidence) {
    let Node::Git(heir) = object.node else { return };
    for named in object.body.git_names().filter(|named| wanted.contains(&Node::Git(*named))) {
        into.add_heir(named, heir);
    }
}
