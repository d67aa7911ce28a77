//! One frontier in one statement: objects, their relatives, and the attestations about them.
//!
//! Of few nodes each is looked up by what is wanted of it, however much there is about it. Of many, everything about each is read, up to a
//! few rows: that takes a tenth of the work, and a node about which there is more is looked up as one of few.

use std::{future::poll_fn, pin::Pin};

use futures_core::Stream;

use crate::{
    Store, StoreError,
    entry::to_sql,
    facts::{AttestationRecord, ObjectRecord},
    load::Loaded,
    pool::retry,
};

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) nodes: &'a [String],
    /// Whose attestations are wanted.
    pub(crate) signers: &'a [String],
    /// Attestations that are there already.
    pub(crate) known: &'a [Vec<u8>],
    /// Only entries below this one.
    pub(crate) before: u64,
    /// What is read about one node by those who are wanted, and of git objects that name it.
    pub(crate) most: i64,
    /// What is read about one node besides: enough to show what was nearly there.
    pub(crate) few: i64,
}

/// An index row that leads from a node to an attestation.
#[derive(Debug)]
pub(crate) struct Pick {
    pub(crate) node: String,
    pub(crate) id: Vec<u8>,
    pub(crate) log_index: i64,
    pub(crate) wanted: bool,
}

/// What was found, nothing of it believed yet.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) objects: Vec<Loaded<ObjectRecord>>,
    /// By log index.
    pub(crate) picks: Vec<Pick>,
    pub(crate) attestations: Vec<Loaded<AttestationRecord>>,
    /// Nodes about which there is more than was read of each of many.
    crowded: Vec<String>,
}

/// One row of either statement.
struct Row {
    kind: i32,
    node: String,
    id: Vec<u8>,
    log_index: i64,
    flag: bool,
    time_us: Option<i64>,
    text: Option<String>,
    builder: Option<String>,
    source_repository: Option<String>,
    source_commit: Option<String>,
    resource: Option<String>,
    facts: Option<Vec<u8>>,
    mac_key: Option<i32>,
    mac: Option<Vec<u8>>,
    intact: bool,
}

const OBJECT: i32 = 0;
const PICK: i32 = 1;
const ATTESTATION: i32 = 2;
const CROWDED: i32 = 3;

/// So many nodes are many.
const MANY: usize = 32;

/// The rows that a statement gives.
type Rows<'a> = Pin<Box<dyn Stream<Item = Result<Row, sqlx::Error>> + Send + 'a>>;

impl Found {
    /// What a statement gives, each row taken as it comes: together they are large.
    async fn of(mut rows: Rows<'_>) -> Result<Self, sqlx::Error> {
        let mut found = Self::default();
        while let Some(row) = poll_fn(|context| rows.as_mut().poll_next(context)).await {
            found.add(row?);
        }
        Ok(found)
    }

    fn add(&mut self, row: Row) {
        let (id, log_index) = (row.id, row.log_index);
        // The columns are not null in their tables; one that is fails its seal.
        let time_us = row.time_us.unwrap_or_default();
        let (facts, mac_key) = (row.facts.unwrap_or_default(), row.mac_key.unwrap_or_default());
        let (text, mac) = (row.text.unwrap_or_default(), row.mac.unwrap_or_default());
        match row.kind {
            PICK => self.picks.push(Pick { node: row.node, id, log_index, wanted: row.flag }),
            OBJECT => {
                let node = row.node;
                let record =
                    ObjectRecord { node, id, log_index, time_us, media_type: text, facts, mac_key, mac };
                self.objects.push(Loaded { record, intact: row.intact });
            }
            ATTESTATION => {
                let record = AttestationRecord {
                    id,
                    log_index,
                    time_us,
                    verified: row.flag,
                    predicate_type: text,
                    builder: row.builder,
                    source_repository: row.source_repository,
                    source_commit: row.source_commit,
                    resource: row.resource,
                    facts,
                    mac_key,
                    mac,
                };
                self.attestations.push(Loaded { record, intact: row.intact });
            }
            CROWDED => self.crowded.push(row.node),
            _ => {}
        }
    }

    fn extend(&mut self, more: Self) {
        self.objects.extend(more.objects);
        self.picks.extend(more.picks);
        self.attestations.extend(more.attestations);
    }
}

/// The rows of both statements, from what each calls `related` and `pick`. A row is believed only where its body is what its id says.
///
/// Attestations are looked up by their place in the log: what is said about one image lies close together there, where ids are anywhere.
/// `is true` keeps the planner from the index by id. A row whose place is not what the index row says is missed, and then derived anew.
macro_rules! select {
    ($with:literal, $more:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            Row,
            $with
                + r#"
                   select 0 as "kind!", o.node as "node!", o.id as "id!", o.log_index as "log_index!", true as "flag!",
                          o.time_us, o.media_type as "text", null as builder, null as source_repository,
                          null as source_commit, null as resource, o.facts, o.mac_key, o.mac,
                          coalesce(sha256(b.bytes) = o.id, false) as "intact!"
                   from related r
                   join object o on o.tenant = $1 and o.node = r.node
                   left join body b on b.tenant = o.tenant and b.id = o.id
                   where o.log_index < $3
                   union all
                   select 1, p.node, p.id, p.log_index, p.wanted, null, null, null, null, null, null, null, null, null, false
                   from pick p
                   union all
                   select 2, '', a.id, a.log_index, a.verified, a.time_us, a.predicate_type, a.builder, a.source_repository,
                          a.source_commit, a.resource, a.facts, a.mac_key, a.mac,
                          coalesce(sha256(b.bytes) = a.id, false)
                   from (select distinct log_index, id from pick where id <> all($5::bytea[]) order by log_index) as p
                   join attestation a on a.tenant = $1 and a.log_index = p.log_index and (a.id = p.id) is true
                   left join body b on b.tenant = a.tenant and b.id = a.id
                   where a.log_index < $3"#
                + $more,
            $($argument),*
        )
    };
}

impl Store {
    /// One round trip, and one more where there is a crowd about one of many nodes.
    pub(crate) async fn find(&self, tenant: &str, asked: &Asked<'_>) -> Result<Found, StoreError> {
        let mut found = match asked.nodes.len() < MANY {
            true => self.find_few(tenant, asked).await?,
            false => self.find_many(tenant, asked).await?,
        };
        let crowded = std::mem::take(&mut found.crowded);
        if !crowded.is_empty() {
            found.extend(self.find_few(tenant, &Asked { nodes: &crowded, ..*asked }).await?);
        }
        found.picks.sort_by_key(|pick| pick.log_index);
        Ok(found)
    }

    async fn find_many(&self, tenant: &str, asked: &Asked<'_>) -> Result<Found, StoreError> {
        retry(|| {
            let rows = select!(
                r#"with about as materialized (
                       select n.node, s.log_index, s.id, s.signer = any($4) as wanted, count(*) over (partition by n.node) as rows
                       from unnest($2::text[]) as n (node)
                       cross join lateral (
                           select s.log_index, s.id, s.signer from attestation_subject s
                           where s.tenant = $1 and s.node = n.node and s.log_index < $3
                           limit $6::bigint + 1) as s
                   ),
                   family as materialized (
                       select n.node, c.parent, count(*) over (partition by n.node) as rows
                       from unnest($2::text[]) as n (node)
                       cross join lateral (
                           select c.parent from object_child c
                           where c.tenant = $1 and c.child = n.node and c.log_index < $3
                           limit $6::bigint + 1) as c
                   ),
                   crowded (node) as (
                       select a.node from about a where a.rows > $6::bigint union select f.node from family f where f.rows > $6::bigint
                   ),
                   calm (node) as (
                       select n.node from unnest($2::text[]) as n (node) except select c.node from crowded c
                   ),
                   pick as materialized (
                       select distinct a.node, a.log_index, a.id, a.wanted from about a join calm n on n.node = a.node
                   ),
                   related (node) as (
                       select n.node from calm n
                       union
                       select f.parent from family f join calm n on n.node = f.node
                   )"#,
                r#"
                   union all
                   select 3, c.node, ''::bytea, 0, false, null, null, null, null, null, null, null, null, null, false
                   from crowded c"#,
                tenant,
                asked.nodes,
                to_sql(asked.before),
                asked.signers,
                asked.known,
                asked.few,
            )
            .fetch(self.gathers());
            Found::of(rows)
        })
        .await
    }

    async fn find_few(&self, tenant: &str, asked: &Asked<'_>) -> Result<Found, StoreError> {
        retry(|| {
            let rows = select!(
                r#"with pick as materialized (
                       select n.node, p.log_index, p.id, p.wanted
                       from unnest($2::text[]) as n (node)
                       cross join lateral (
                           (select distinct s.log_index, s.id, true as wanted
                            from unnest($4::text[]) as k (signer)
                            cross join lateral (
                                select s.log_index, s.id from attestation_subject s
                                where s.tenant = $1 and s.node = n.node and s.signer = k.signer and s.log_index < $3
                                order by s.log_index limit $9) as s
                            order by s.log_index limit $9)
                           union all
                           (select distinct s.log_index, s.id, false as wanted
                            from attestation_subject s
                            where s.tenant = $1 and s.node = n.node and s.signer <> all($4) and s.log_index < $3
                            order by s.log_index limit $10)
                       ) as p
                   ),
                   related (node) as (
                       select unnest($2::text[])
                       union
                       select p.parent from unnest($2::text[]) as n (node) cross join lateral (
                           select c.parent from object_child c
                           where c.tenant = $1 and c.child = n.node and c.log_index < $3 and $6::bigint > 0
                             and exists (select 1 from attestation_subject s
                                         where s.tenant = $1 and s.node = c.parent and s.signer = any($4)
                                           and s.log_index < $3)
                           order by c.log_index limit $6) as p
                       union
                       select p.parent from unnest($2::text[]) as n (node) cross join lateral (
                           select c.parent from object_child c
                           where c.tenant = $1 and c.child = n.node and c.log_index < $3
                           order by c.log_index limit case when n.node like 'git%' then $8::bigint else $7::bigint end) as p
                   )"#,
                "",
                tenant,
                asked.nodes,
                to_sql(asked.before),
                asked.signers,
                asked.known,
                asked.most,
                asked.few,
                asked.most,
                asked.most,
                asked.few,
            )
            .fetch(self.gathers());
            Found::of(rows)
        })
        .await
    }
}
