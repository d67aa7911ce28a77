//! Rows of facts by key, each with the answer to "are the bytes behind it still what they were?".

use crate::{
    Store, StoreError,
    entry::to_sql,
    facts::{AttestationRecord, ObjectRecord},
    pool::retry,
};

/// A row, and whether the SHA-256 of its body is still its id.
pub(crate) struct Loaded<R> {
    pub(crate) record: R,
    pub(crate) intact: bool,
}

impl Store {
    /// Attestations by id, those below entry `before`.
    pub(crate) async fn load_attestations(
        &self,
        tenant: &str,
        ids: &[Vec<u8>],
        before: u64,
    ) -> Result<Vec<Loaded<AttestationRecord>>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = retry(|| {
            sqlx::query!(
                r#"select a.id, a.log_index, a.time_us, a.verified, a.predicate_type, a.builder, a.source_repository,
                          a.source_commit, a.resource, a.facts, a.mac_key, a.mac,
                          coalesce(sha256(b.bytes) = a.id, false) as "intact!"
                   from attestation a left join body b on b.tenant = a.tenant and b.id = a.id
                   where a.tenant = $1 and a.id = any($2) and a.log_index < $3
                   order by a.log_index"#,
                tenant,
                ids,
                to_sql(before)
            )
            .fetch_all(self.reads())
        })
        .await?;
        let loaded = rows.into_iter().map(|row| Loaded {
            intact: row.intact,
            record: AttestationRecord {
                id: row.id,
                log_index: row.log_index,
                time_us: row.time_us,
                verified: row.verified,
                predicate_type: row.predicate_type,
                builder: row.builder,
                source_repository: row.source_repository,
                source_commit: row.source_commit,
                resource: row.resource,
                facts: row.facts,
                mac_key: row.mac_key,
                mac: row.mac,
            },
        });
        Ok(loaded.collect())
    }

    /// Objects by node, those below entry `before`.
    pub(crate) async fn load_objects(
        &self,
        tenant: &str,
        nodes: &[String],
        before: u64,
    ) -> Result<Vec<Loaded<ObjectRecord>>, StoreError> {
        self.load_family(tenant, nodes, before, 0).await
    }

    /// Objects by node, and the objects that name those nodes, oldest first: at most `parents` for each.
    pub(crate) async fn load_family(
        &self,
        tenant: &str,
        nodes: &[String],
        before: u64,
        parents: i64,
    ) -> Result<Vec<Loaded<ObjectRecord>>, StoreError> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let rows = retry(|| {
            sqlx::query!(
                r#"with related (node) as (
                       select unnest($2::text[])
                       union
                       select p.parent from unnest($2::text[]) as n (node) cross join lateral (
                           select c.parent from object_child c
                           where c.tenant = $1 and c.child = n.node and c.log_index < $3
                           order by c.log_index limit $4) as p
                   )
                   select o.node, o.id, o.log_index, o.time_us, o.media_type, o.facts, o.mac_key, o.mac,
                          coalesce(sha256(b.bytes) = o.id, false) as "intact!"
                   from related r
                   join object o on o.tenant = $1 and o.node = r.node
                   left join body b on b.tenant = o.tenant and b.id = o.id
                   where o.log_index < $3
                   order by o.log_index"#,
                tenant,
                nodes,
                to_sql(before),
                parents
            )
            .fetch_all(self.reads())
        })
        .await?;
        let loaded = rows.into_iter().map(|row| Loaded {
            intact: row.intact,
            record: ObjectRecord {
                node: row.node,
                id: row.id,
                log_index: row.log_index,
                time_us: row.time_us,
                media_type: row.media_type,
                facts: row.facts,
                mac_key: row.mac_key,
                mac: row.mac,
            },
        });
        Ok(loaded.collect())
    }
}
