//! Rows of facts: each derived anew from its bytes and compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use catenary_chain::control::DomainState;
use catenary_evidence::{
    Signature, Trust,
    attestation::{self, Attestation},
    digest::{Node, Sha256},
    mention::Mention,
    object::{self, Body, Object},
};
use catenary_tlog::{Leaf, leaf::kind};

use super::{Audit, Fault, Log};
use crate::{
    EntryRow, StoreError,
    derive::blocking,
    entry::from_sql,
    facts::{AttestationRecord, ObjectRecord, children, id_from, subject_rows},
    mention,
    reverify::{Vouches, object_signature},
};

/// Entries whose evidence is verified at once.
pub(super) const PAGE: i64 = 200;

/// Rows that only index facts, by everything that they say, with the entry they come from.
pub(super) type Index = BTreeMap<Vec<String>, u64>;

impl Audit {
    /// Compares every row of facts with what the bytes of its entry give.
    pub(super) async fn facts(&mut self, log: &Log) -> Result<(), StoreError> {
        let (mut subjects, mut child_rows, mut mentions) = (Index::new(), Index::new(), Index::new());
        let mut from = 0;
        loop {
            let entries = self.page(&log.tenant, from, PAGE).await?;
            let Some(last) = entries.last() else { break };
            from = last.index + 1;
            self.attestations(log, &entries, &mut subjects, &mut mentions).await?;
            self.objects(log, &entries, &mut child_rows).await?;
        }
        self.strange_facts(log).await?;
        self.subject_rows(&log.tenant, subjects).await?;
        self.child_rows(&log.tenant, child_rows).await?;
        self.mention_rows(&log.tenant, 0..i64::MAX, mentions).await
    }

    pub(super) async fn attestations(
        &mut self,
        log: &Log,
        entries: &[EntryRow],
        subjects: &mut Index,
        mentions: &mut Index,
    ) -> Result<(), StoreError> {
        let entries: Vec<(&EntryRow, Leaf)> = of_kind(entries, kind::ATTESTATION);
        let ids: Vec<Vec<u8>> = entries.iter().map(|(row, _)| row.id.0.to_vec()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut bodies = self.unchecked_bodies(&log.tenant, &ids).await?;
        let mut rows = self.attestation_rows(&log.tenant, &ids).await?;
        for (entry, leaf) in entries {
            let (tenant, key) = (log.tenant.as_str(), entry.id);
            let row = rows.remove(&entry.id.0[..]);
            if row.is_none() {
                self.report.add(
                    tenant,
                    "attestation",
                    key,
                    Fault::Missing,
                    format!("the facts of entry {}", entry.index),
                );
            }
            let Some(bytes) = bodies.remove(&entry.id.0[..]).filter(|bytes| Sha256::of(bytes) == entry.id)
            else {
                // The body is named already, and says nothing about the row any more; its seal still does.
                self.sealed(
                    tenant,
                    entry,
                    row.as_ref().map(|row| row.open(tenant, self.store.seal()).is_some()),
                );
                continue;
            };
            let stored = row.as_ref().and_then(|row| row.open(tenant, self.store.seal()));
            let (trust, pending) = (log.trust.clone(), pending(log));
            let signatures = stored.as_ref().map(|facts| facts.signatures.clone()).unwrap_or_default();
            let facts = blocking(move || expected(&bytes, &trust, &pending, &signatures)).await?;
            let facts = match facts {
                Ok(facts) => facts,
                Err(what) => {
                    self.report.add(tenant, "attestation", key, Fault::Altered, what);
                    continue;
                }
            };
            for (node, signer) in subject_rows(&facts) {
                let index = entry.index.to_string();
                subjects.insert(vec![node, signer, index, entry.id.to_string()], entry.index);
            }
            for row in mention::rows(&facts, entry.index) {
                mentions.insert(mention_index(row), entry.index);
            }
            let Some(row) = row else { continue };
            let new = AttestationRecord::new(tenant, &facts, entry.index, leaf.time, self.store.seal());
            let same = stored.as_ref().is_some_and(|stored| without_doubt(stored) == without_doubt(&facts));
            let wrong = attestation_columns(&row, &new, same);
            self.columns(tenant, "attestation", key.to_string(), stored.is_some(), &wrong);
        }
        Ok(())
    }

    /// Rows of facts as they lie there, by id.
    pub(super) async fn attestation_rows(
        &mut self,
        tenant: &str,
        ids: &[Vec<u8>],
    ) -> Result<BTreeMap<Vec<u8>, AttestationRecord>, StoreError> {
        let rows = sqlx::query_as!(
            AttestationRecord,
            "select id, log_index, time_us, verified, predicate_type, builder, source_repository, source_commit,
                    resource, facts, mac_key, mac
             from attestation where tenant = $1 and id = any($2)",
            tenant,
            ids
        )
        .fetch_all(&mut *self.db)
        .await?;
        Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
    }

    pub(super) async fn objects(
        &mut self,
        log: &Log,
        entries: &[EntryRow],
        child_rows: &mut Index,
    ) -> Result<(), StoreError> {
        let entries: Vec<(&EntryRow, Leaf)> = of_kind(entries, kind::OBJECT);
        let ids: Vec<Vec<u8>> = entries.iter().map(|(row, _)| row.id.0.to_vec()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut bodies = self.unchecked_bodies(&log.tenant, &ids).await?;
        let rows = sqlx::query_as!(
            ObjectRecord,
            "select node, id, log_index, time_us, media_type, facts, mac_key, mac
             from object where tenant = $1 and id = any($2)",
            &log.tenant,
            &ids
        )
        .fetch_all(&mut *self.db)
        .await?;
        let mut rows: BTreeMap<Vec<u8>, ObjectRecord> =
            rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        for (entry, leaf) in entries {
            let tenant = log.tenant.as_str();
            let key = leaf.extra.get("node").cloned().unwrap_or_default();
            let media_type = leaf.extra.get("mediaType").cloned().unwrap_or_default();
            let row = rows.remove(&entry.id.0[..]);
            if row.is_none() {
                self.report.add(
                    tenant,
                    "object",
                    &key,
                    Fault::Missing,
                    format!("the facts of entry {}", entry.index),
                );
            }
            let Some(bytes) = bodies.remove(&entry.id.0[..]).filter(|bytes| Sha256::of(bytes) == entry.id)
            else {
                self.sealed(
                    tenant,
                    entry,
                    row.as_ref().map(|row| row.open(tenant, self.store.seal()).is_some()),
                );
                continue;
            };
            let stored = row.as_ref().and_then(|row| row.open(tenant, self.store.seal()));
            let (trust, sent, node) = (log.trust.clone(), media_type.clone(), key.parse::<Node>().ok());
            let facts = match blocking(move || object::read(&sent, &bytes, &trust, node)).await? {
                Ok(facts) => facts,
                Err(refusal) => {
                    let what = format!("its bytes are refused: {refusal}");
                    self.report.add(tenant, "object", &key, Fault::Altered, what);
                    continue;
                }
            };
            // A key whose `trust.effective` is not logged yet may not have been tried on this row.
            let signature = object_signature(&facts).cloned();
            let waits = signature.is_some_and(|signature| pending(log).iter().any(|p| p.is_by(&signature)));
            let facts = stored
                .clone()
                .filter(|stored| waits && without_signer(stored) == without_signer(&facts))
                .unwrap_or(facts);
            // Facts of a version that did not compute it are as they were written.
            let early = stored.as_ref().is_some_and(|stored| stored.sha384.is_none());
            let facts = if early { Object { sha384: None, ..facts } } else { facts };
            for child in children(&facts) {
                child_rows.insert(vec![child, facts.node.to_string(), entry.index.to_string()], entry.index);
            }
            let Some(row) = row else { continue };
            let new =
                ObjectRecord::new(tenant, &facts, &media_type, entry.index, leaf.time, self.store.seal());
            let wrong = object_columns(&row, &new, stored.as_ref() == Some(&facts));
            self.columns(tenant, "object", key, stored.is_some(), &wrong);
        }
        Ok(())
    }

    /// A row whose body is gone: the seal is what is left to say whether the row was changed, too.
    fn sealed(&mut self, tenant: &str, entry: &EntryRow, opens: Option<bool>) {
        if opens == Some(false) {
            let table = if entry.kind == kind::OBJECT { "object" } else { "attestation" };
            self.report.add(tenant, table, entry.id, Fault::Altered, "its seal does not hold");
        }
    }

    fn columns(&mut self, tenant: &str, table: &'static str, key: String, sealed: bool, wrong: &[&str]) {
        let mut what = Vec::new();
        if !wrong.is_empty() {
            what.push(format!("not what the bytes give: {}", wrong.join(", ")));
        }
        if !sealed {
            what.push("its seal does not hold".to_owned());
        }
        if !what.is_empty() {
            self.report.add(tenant, table, key, Fault::Altered, what.join("; "));
        }
    }

    /// Facts of no entry.
    pub(super) async fn strange_facts(&mut self, log: &Log) -> Result<(), StoreError> {
        let tenant = log.tenant.as_str();
        let ids = sqlx::query_scalar!(
            "select a.id from attestation a where a.tenant = $1 and not exists
                 (select 1 from log_entry e where e.tenant = a.tenant and e.id = a.id and e.kind = 'attestation')
             order by a.id limit 1000",
            tenant
        )
        .fetch_all(&mut *self.db)
        .await?;
        for id in ids {
            let key = format!("sha256:{}", hex::encode(id));
            self.report.add(tenant, "attestation", key, Fault::Unexpected, "it has no entry");
        }
        let nodes = sqlx::query_scalar!(
            "select o.node from object o where o.tenant = $1 and not exists
                 (select 1 from log_entry e where e.tenant = o.tenant and e.id = o.id and e.kind = 'object')
             order by o.node limit 1000",
            tenant
        )
        .fetch_all(&mut *self.db)
        .await?;
        for node in nodes {
            self.report.add(tenant, "object", node, Fault::Unexpected, "it has no entry");
        }
        Ok(())
    }

    async fn subject_rows(&mut self, tenant: &str, mut expected: Index) -> Result<(), StoreError> {
        let mut after = (String::new(), String::new(), -1_i64);
        loop {
            let rows = sqlx::query!(
                "select node, signer, log_index, id from attestation_subject
                 where tenant = $1 and (node, signer, log_index) > ($2, $3, $4)
                 order by node, signer, log_index limit 1000",
                tenant,
                &after.0,
                &after.1,
                after.2
            )
            .fetch_all(&mut *self.db)
            .await?;
            let Some(last) = rows.last() else { break };
            after = (last.node.clone(), last.signer.clone(), last.log_index);
            for row in rows {
                let id = format!("sha256:{}", hex::encode(&row.id));
                self.index_row(
                    tenant,
                    "attestation_subject",
                    &mut expected,
                    vec![row.node, row.signer, row.log_index.to_string(), id],
                );
            }
        }
        self.index_rest(tenant, "attestation_subject", expected);
        Ok(())
    }

    async fn child_rows(&mut self, tenant: &str, mut expected: Index) -> Result<(), StoreError> {
        let mut after = (String::new(), String::new());
        loop {
            let rows = sqlx::query!(
                "select child, parent, log_index from object_child
                 where tenant = $1 and (child, parent) > ($2, $3) order by child, parent limit 1000",
                tenant,
                &after.0,
                &after.1
            )
            .fetch_all(&mut *self.db)
            .await?;
            let Some(last) = rows.last() else { break };
            after = (last.child.clone(), last.parent.clone());
            for row in rows {
                let row = vec![row.child, row.parent, row.log_index.to_string()];
                self.index_row(tenant, "object_child", &mut expected, row);
            }
        }
        self.index_rest(tenant, "object_child", expected);
        Ok(())
    }

    /// Compares the mentions at these positions.
    pub(super) async fn mention_rows(
        &mut self,
        tenant: &str,
        positions: Range<i64>,
        mut expected: Index,
    ) -> Result<(), StoreError> {
        let mut after = positions.start.saturating_sub(1);
        loop {
            let rows = sqlx::query!(
                "select position, id, package, name, version, vulnerability, state, licences, hashes from mention
                 where tenant = $1 and position > $2 and position < $3 order by position limit 1000",
                tenant,
                after,
                positions.end
            )
            .fetch_all(&mut *self.db)
            .await?;
            let Some(last) = rows.last() else { break };
            after = last.position;
            for row in rows {
                let mention = Mention {
                    package: row.package,
                    name: row.name,
                    version: row.version,
                    vulnerability: row.vulnerability,
                    state: row.state,
                    licences: mention::lines(&row.licences),
                    hashes: mention::lines(&row.hashes),
                };
                let id = id_from(&row.id).unwrap_or(Sha256([0; 32]));
                let row = mention_index(mention::Row { position: row.position, id, mention });
                self.index_row(tenant, "mention", &mut expected, row);
            }
        }
        self.index_rest(tenant, "mention", expected);
        Ok(())
    }

    pub(super) fn index_row(
        &mut self,
        tenant: &str,
        table: &'static str,
        expected: &mut Index,
        row: Vec<String>,
    ) {
        if expected.remove(&row).is_none() {
            self.report.add(tenant, table, row.join(" "), Fault::Unexpected, "no entry's bytes say so");
        }
    }

    pub(super) fn index_rest(&mut self, tenant: &str, table: &'static str, expected: Index) {
        for (row, index) in expected {
            let what = format!("the bytes of entry {index} say so");
            self.report.add(tenant, table, row.join(" "), Fault::Missing, what);
        }
    }
}

pub(super) fn mention_index(row: mention::Row) -> Vec<String> {
    let Mention { package, name, version, vulnerability, state, licences, hashes } = row.mention;
    let texts = [row.position.to_string(), row.id.to_string(), package, name, version, vulnerability, state];
    texts.into_iter().chain([licences.join(" | "), hashes.join(" | ")]).collect()
}

pub(super) fn of_kind<'a>(entries: &'a [EntryRow], wanted: &str) -> Vec<(&'a EntryRow, Leaf)> {
    let leaves = entries.iter().filter_map(|row| Some((row, row.decode().ok()?)));
    leaves.filter(|(_, leaf)| leaf.kind == wanted).collect()
}

/// What was added and stored evidence may not have been verified under yet.
pub(super) fn pending(log: &Log) -> BTreeSet<Vouches> {
    let keys = log.control.keys.iter().filter(|(_, key)| key.effective_at.is_none());
    let waits = |state: &DomainState| state.versions.iter().any(|version| version.effective_at.is_none());
    let domains = log.control.domains.iter().filter(|(_, state)| waits(state));
    keys.map(|(id, _)| Vouches::Key(*id))
        .chain(domains.map(|(name, _)| Vouches::Domain(name.clone())))
        .collect()
}

/// The facts that the bytes give under everything that was ever added.
pub(super) fn expected(
    bytes: &[u8],
    trust: &Trust,
    pending: &BTreeSet<Vouches>,
    stored: &[Signature],
) -> Result<Attestation, String> {
    let verified = attestation::verify(bytes, trust).or_else(|refusal| {
        // It came before a key that it names was registered, and turned out not to be signed with it: it stays
        // as it was. So those keys are tried that are said to vouch for it.
        let keys = stored.iter().filter_map(|signature| trust.keys().get(&signature.signer.key()?));
        let known: Trust = keys.cloned().collect();
        attestation::verify(bytes, &known).map_err(|_| format!("its bytes are refused: {refusal}"))
    });
    let mut facts = verified?;
    let waits = |signature: &Signature| pending.iter().any(|added| added.is_by(signature));
    facts.signatures.retain(|signature| !waits(signature));
    facts.signatures.extend(stored.iter().filter(|signature| waits(signature)).cloned());
    facts.signatures.sort();
    Ok(facts)
}

/// What is lacking changes with the trust, and is no fact of the bytes alone.
fn without_doubt(facts: &Attestation) -> Attestation {
    Attestation { doubt: None, mentions: Vec::new(), ..facts.clone() }
}

fn without_signer(object: &Object) -> Object {
    let mut object = object.clone();
    let signature = match &mut object.body {
        Body::Commit(commit) => commit.signature.as_mut(),
        Body::Tag(tag) => tag.signature.as_mut(),
        Body::Index(_) | Body::Manifest(_) | Body::Config(_) => None,
    };
    if let Some(signature) = signature {
        signature.verified = None;
    }
    object
}

fn attestation_columns(row: &AttestationRecord, new: &AttestationRecord, facts: bool) -> Vec<&'static str> {
    let same = [
        ("log_index", row.log_index == new.log_index),
        ("time_us", row.time_us == new.time_us),
        ("verified", row.verified == new.verified),
        ("predicate_type", row.predicate_type == new.predicate_type),
        ("builder", row.builder == new.builder),
        ("source_repository", row.source_repository == new.source_repository),
        ("source_commit", row.source_commit == new.source_commit),
        ("resource", row.resource == new.resource),
        ("facts", facts),
    ];
    same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

fn object_columns(row: &ObjectRecord, new: &ObjectRecord, facts: bool) -> Vec<&'static str> {
    let same = [
        ("node", row.node == new.node),
        ("log_index", from_sql(row.log_index) == from_sql(new.log_index)),
        ("time_us", row.time_us == new.time_us),
        ("media_type", row.media_type == new.media_type),
        ("facts", facts),
    ];
    same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}
