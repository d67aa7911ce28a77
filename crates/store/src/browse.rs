//! Reading what is known: lists, single rows, the family of an artifact.

use catenary_evidence::{
    attestation::Attestation,
    digest::{Node, Sha256},
    key::KeyId,
    object::Object,
};
use jiff::Timestamp;
use sqlx::{Postgres, QueryBuilder};

use crate::{
    Store, StoreError,
    entry::{from_sql, to_sql},
    facts::{AttestationRecord, ObjectRecord, children, time_from},
    pool::retry,
};

/// Which attestations a list shows. Empty: all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// About this node.
    pub subject: Option<Node>,
    /// With this predicate type, byte for byte.
    pub predicate_type: Option<String>,
    /// Vouched for by this key.
    pub signer: Option<KeyId>,
    /// Provenance of this builder, byte for byte.
    pub builder: Option<String>,
    /// About a source in this canonical repository.
    pub source_repository: Option<String>,
    /// About this commit (`gitCommit:<hex>`).
    pub source_commit: Option<Node>,
    /// A registry event about this `registry/repository`, or a summary of this resource URI.
    pub resource: Option<String>,
    /// Verified or not.
    pub verified: Option<bool>,
    /// Logged at or after.
    pub since: Option<Timestamp>,
    /// Logged before.
    pub until: Option<Timestamp>,
}

/// An attestation as it is known.
#[derive(Debug, Clone)]
pub struct AttestationRow {
    /// Index of its entry.
    pub index: u64,
    /// Time of its entry.
    pub time: Timestamp,
    /// The facts.
    pub facts: Attestation,
}

/// An object as it is known.
#[derive(Debug, Clone)]
pub struct ObjectRow {
    /// Index of its entry.
    pub index: u64,
    /// Time of its entry.
    pub time: Timestamp,
    /// As it was sent.
    pub media_type: String,
    /// The facts.
    pub facts: Object,
}

impl Store {
    /// Attestations below entry `before` (the cursor: the index of the last one seen; the size at first),
    /// newest first. Rows whose seal is broken are left out and counted as alarms.
    pub async fn list_attestations(
        &self,
        tenant: &str,
        filter: &Filter,
        before: u64,
        limit: u32,
    ) -> Result<Vec<AttestationRow>, StoreError> {
        let ids = retry(|| async {
            let mut query = select_ids(tenant, filter, before, limit);
            query.build_query_scalar::<Vec<u8>>().fetch_all(self.reads()).await
        })
        .await?;
        let loaded = self.load_attestations(tenant, &ids, before).await?;
        let mut rows: Vec<AttestationRow> =
            loaded.into_iter().filter_map(|loaded| self.shown_attestation(tenant, loaded.record)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.index));
        Ok(rows)
    }

    /// One attestation among the first `before` entries.
    pub async fn attestation(
        &self,
        tenant: &str,
        id: Sha256,
        before: u64,
    ) -> Result<Option<AttestationRow>, StoreError> {
        let loaded = self.load_attestations(tenant, &[id.0.to_vec()], before).await?;
        Ok(loaded.into_iter().find_map(|loaded| self.shown_attestation(tenant, loaded.record)))
    }

    /// Those of these attestations that are among the first `before` entries.
    pub async fn attestations(
        &self,
        tenant: &str,
        ids: &[Sha256],
        before: u64,
    ) -> Result<Vec<AttestationRow>, StoreError> {
        let ids: Vec<Vec<u8>> = ids.iter().map(|id| id.0.to_vec()).collect();
        let loaded = self.load_attestations(tenant, &ids, before).await?;
        Ok(loaded.into_iter().filter_map(|loaded| self.shown_attestation(tenant, loaded.record)).collect())
    }

    /// The object that proves `node`, among the first `before` entries.
    pub async fn object(
        &self,
        tenant: &str,
        node: Node,
        before: u64,
    ) -> Result<Option<ObjectRow>, StoreError> {
        Ok(self.objects(tenant, &[node], before).await?.pop())
    }

    /// The objects that prove `nodes`, those that are known.
    pub async fn objects(
        &self,
        tenant: &str,
        nodes: &[Node],
        before: u64,
    ) -> Result<Vec<ObjectRow>, StoreError> {
        let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        let loaded = self.load_objects(tenant, &nodes, before).await?;
        Ok(loaded.into_iter().filter_map(|loaded| self.shown_object(tenant, loaded.record)).collect())
    }

    /// Objects that name `child` (indexes a manifest, manifests a config), oldest first, at most `limit`.
    pub async fn parents(
        &self,
        tenant: &str,
        child: Node,
        before: u64,
        limit: u32,
    ) -> Result<Vec<ObjectRow>, StoreError> {
        let name = child.to_string();
        let loaded = self.load_family(tenant, std::slice::from_ref(&name), before, limit.into()).await?;
        Ok(loaded
            .into_iter()
            .filter_map(|loaded| self.shown_object(tenant, loaded.record))
            .filter(|row| children(&row.facts).contains(&name))
            .collect())
    }

    fn shown_attestation(&self, tenant: &str, record: AttestationRecord) -> Option<AttestationRow> {
        let Some(facts) = record.open(tenant, self.seal()) else {
            self.alarm(tenant, "attestation", &hex::encode(&record.id), "the seal is broken");
            return None;
        };
        Some(AttestationRow { index: from_sql(record.log_index), time: time_from(record.time_us), facts })
    }

    fn shown_object(&self, tenant: &str, record: ObjectRecord) -> Option<ObjectRow> {
        let Some(facts) = record.open(tenant, self.seal()) else {
            self.alarm(tenant, "object", &record.node, "the seal is broken");
            return None;
        };
        let (index, time) = (from_sql(record.log_index), time_from(record.time_us));
        Some(ObjectRow { index, time, media_type: record.media_type, facts })
    }
}

/// Only the conditions that the filter has, so that each combination finds its index.
fn select_ids(tenant: &str, filter: &Filter, before: u64, limit: u32) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("select a.id from attestation a where a.tenant = ");
    query.push_bind(tenant.to_owned());
    query.push(" and a.log_index < ").push_bind(to_sql(before));
    if filter.subject.is_some() || filter.signer.is_some() {
        query.push(" and a.log_index in (select s.log_index from attestation_subject s where s.tenant = ");
        query.push_bind(tenant.to_owned());
        query.push(" and s.log_index < ").push_bind(to_sql(before));
        if let Some(node) = &filter.subject {
            query.push(" and s.node = ").push_bind(node.to_string());
        }
        if let Some(signer) = &filter.signer {
            query.push(" and s.signer = ").push_bind(signer.to_string());
        }
        query.push(")");
    }
    let texts = [
        (" and a.predicate_type = ", filter.predicate_type.clone()),
        (" and a.builder = ", filter.builder.clone()),
        (" and a.source_repository = ", filter.source_repository.clone()),
        (" and a.source_commit = ", filter.source_commit.map(|commit| commit.to_string())),
        (" and a.resource = ", filter.resource.clone()),
    ];
    for (condition, text) in texts {
        // A NUL is in no column, and Postgres does not take one.
        if let Some(text) = text {
            query.push(condition).push_bind(text.replace('\0', "\u{fffd}"));
        }
    }
    if let Some(verified) = filter.verified {
        query.push(" and a.verified = ").push_bind(verified);
    }
    if let Some(since) = filter.since {
        query.push(" and a.time_us >= ").push_bind(since.as_microsecond());
    }
    if let Some(until) = filter.until {
        query.push(" and a.time_us < ").push_bind(until.as_microsecond());
    }
    query.push(" order by a.log_index desc limit ").push_bind(i64::from(limit));
    query
}
