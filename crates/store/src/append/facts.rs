//! The rows that attestations and objects become: the facts, sealed, and what finds them.

use catenary_evidence::{attestation::Attestation, digest::Sha256, object::Object};
use jiff::Timestamp;
use sqlx::PgConnection;

use super::rows::column;
use crate::{
    SealKeys,
    entry::to_sql,
    facts::{AttestationRecord, ObjectRecord, SubjectRow, children, subject_rows},
    mention,
};

/// One row of `attestation_subject`, with index and id.
pub(crate) type IndexedSubject = (SubjectRow, u64, Sha256);

/// Rows on their way into the database.
#[derive(Default)]
pub(crate) struct FactRows {
    attestations: Vec<AttestationRecord>,
    subjects: Vec<IndexedSubject>,
    mentions: Vec<mention::Row>,
    objects: Vec<ObjectRecord>,
    children: Vec<(String, String, u64)>,
}

impl FactRows {
    pub(crate) fn attestation(
        &mut self,
        tenant: &str,
        facts: &Attestation,
        index: u64,
        time: Timestamp,
        seal: &SealKeys,
    ) {
        self.attestations.push(AttestationRecord::new(tenant, facts, index, time, seal));
        self.subjects.extend(subject_rows(facts).into_iter().map(|row| (row, index, facts.id)));
        self.mentions.extend(mention::rows(facts, index));
    }

    pub(crate) fn object(
        &mut self,
        tenant: &str,
        facts: &Object,
        media_type: &str,
        index: u64,
        time: Timestamp,
        seal: &SealKeys,
    ) {
        let record = ObjectRecord::new(tenant, facts, media_type, index, time, seal);
        self.children.extend(children(facts).into_iter().map(|child| (child, record.node.clone(), index)));
        self.objects.push(record);
    }

    /// How many attestations there are.
    pub(crate) fn attestations(&self) -> u64 {
        self.attestations.len() as u64
    }

    /// How many objects there are.
    pub(crate) fn objects(&self) -> u64 {
        self.objects.len() as u64
    }

    pub(crate) async fn insert(&self, db: &mut PgConnection, tenant: &str) -> Result<(), sqlx::Error> {
        insert_attestations(db, tenant, &self.attestations).await?;
        insert_subjects(db, tenant, &self.subjects).await?;
        mention::insert(db, tenant, &self.mentions).await?;
        insert_objects(db, tenant, &self.objects).await?;
        insert_children(db, tenant, &self.children).await
    }

    /// The same, and nothing else finds these facts afterwards.
    pub(crate) async fn replace(&self, db: &mut PgConnection, tenant: &str) -> Result<(), sqlx::Error> {
        self.forget_attestations(db, tenant).await?;
        self.forget_objects(db, tenant).await?;
        self.insert(db, tenant).await
    }

    async fn forget_attestations(&self, db: &mut PgConnection, tenant: &str) -> Result<(), sqlx::Error> {
        if self.attestations.is_empty() {
            return Ok(());
        }
        let ids = column(&self.attestations, |record| record.id.clone());
        let indexes = column(&self.attestations, |record| record.log_index);
        sqlx::query!(
            "delete from attestation_subject where tenant = $1 and log_index = any($2) and id = any($3)",
            tenant,
            &indexes,
            &ids
        )
        .execute(&mut *db)
        .await?;
        // Those that lead to another place.
        let nodes = column(&self.subjects, |((node, _), _, _)| node.clone());
        sqlx::query!(
            "delete from attestation_subject where tenant = $1 and node = any($2) and id = any($3)",
            tenant,
            &nodes,
            &ids
        )
        .execute(&mut *db)
        .await?;
        sqlx::query!("delete from mention where tenant = $1 and id = any($2)", tenant, &ids)
            .execute(db)
            .await?;
        Ok(())
    }

    async fn forget_objects(&self, db: &mut PgConnection, tenant: &str) -> Result<(), sqlx::Error> {
        if self.objects.is_empty() {
            return Ok(());
        }
        let ids = column(&self.objects, |record| record.id.clone());
        let nodes = column(&self.objects, |record| record.node.clone());
        sqlx::query!("delete from object_child where tenant = $1 and parent = any($2)", tenant, &nodes)
            .execute(&mut *db)
            .await?;
        sqlx::query!("delete from object where tenant = $1 and id = any($2)", tenant, &ids)
            .execute(db)
            .await?;
        Ok(())
    }
}

async fn insert_attestations(
    db: &mut PgConnection,
    tenant: &str,
    records: &[AttestationRecord],
) -> Result<(), sqlx::Error> {
    if records.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into attestation (tenant, id, log_index, time_us, verified, predicate_type, builder,
                                  source_repository, source_commit, resource, facts, mac_key, mac)
         select $1, i.* from unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::boolean[], $6::text[], $7::text[],
                                    $8::text[], $9::text[], $10::text[], $11::bytea[], $12::integer[], $13::bytea[])
                as i(id, log_index, time_us, verified, predicate_type, builder,
                     source_repository, source_commit, resource, facts, mac_key, mac)
         order by i.id
         on conflict (tenant, id) do update set
             log_index = excluded.log_index, time_us = excluded.time_us, verified = excluded.verified,
             predicate_type = excluded.predicate_type, builder = excluded.builder,
             source_repository = excluded.source_repository, source_commit = excluded.source_commit,
             resource = excluded.resource, facts = excluded.facts, mac_key = excluded.mac_key, mac = excluded.mac",
        tenant,
        &column(records, |r| r.id.clone()),
        &column(records, |r| r.log_index),
        &column(records, |r| r.time_us),
        &column(records, |r| r.verified),
        &column(records, |r| r.predicate_type.clone()),
        &column(records, |r| r.builder.clone()) as &[Option<String>],
        &column(records, |r| r.source_repository.clone()) as &[Option<String>],
        &column(records, |r| r.source_commit.clone()) as &[Option<String>],
        &column(records, |r| r.resource.clone()) as &[Option<String>],
        &column(records, |r| r.facts.clone()),
        &column(records, |r| r.mac_key),
        &column(records, |r| r.mac.clone()),
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn insert_subjects(
    db: &mut PgConnection,
    tenant: &str,
    rows: &[IndexedSubject],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into attestation_subject (tenant, node, signer, log_index, id)
         select $1, i.* from unnest($2::text[], $3::text[], $4::bigint[], $5::bytea[])
                as i(node, signer, log_index, id)
         order by i.node, i.signer, i.log_index
         on conflict (tenant, node, signer, log_index) do update set id = excluded.id",
        tenant,
        &column(rows, |((node, _), _, _)| node.clone()),
        &column(rows, |((_, signer), _, _)| signer.clone()),
        &column(rows, |(_, index, _)| to_sql(*index)),
        &column(rows, |(_, _, id)| id.0.to_vec()),
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn insert_objects(
    db: &mut PgConnection,
    tenant: &str,
    records: &[ObjectRecord],
) -> Result<(), sqlx::Error> {
    if records.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into object (tenant, node, id, log_index, time_us, media_type, facts, mac_key, mac)
         select $1, i.* from unnest($2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::text[], $7::bytea[],
                                    $8::integer[], $9::bytea[])
                as i(node, id, log_index, time_us, media_type, facts, mac_key, mac)
         order by i.node
         on conflict (tenant, node) do update set
             id = excluded.id, log_index = excluded.log_index, time_us = excluded.time_us,
             media_type = excluded.media_type, facts = excluded.facts, mac_key = excluded.mac_key, mac = excluded.mac",
        tenant,
        &column(records, |r| r.node.clone()),
        &column(records, |r| r.id.clone()),
        &column(records, |r| r.log_index),
        &column(records, |r| r.time_us),
        &column(records, |r| r.media_type.clone()),
        &column(records, |r| r.facts.clone()),
        &column(records, |r| r.mac_key),
        &column(records, |r| r.mac.clone()),
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn insert_children(
    db: &mut PgConnection,
    tenant: &str,
    rows: &[(String, String, u64)],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into object_child (tenant, child, parent, log_index)
         select $1, i.* from unnest($2::text[], $3::text[], $4::bigint[]) as i(child, parent, log_index)
         order by i.child, i.parent
         on conflict (tenant, child, parent) do update set log_index = excluded.log_index",
        tenant,
        &column(rows, |(child, _, _)| child.clone()),
        &column(rows, |(_, parent, _)| parent.clone()),
        &column(rows, |(_, _, index)| to_sql(*index)),
    )
    .execute(db)
    .await?;
    Ok(())
}
