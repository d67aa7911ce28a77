//! What is hit: the attestations that a key, an identity, a builder, a commit, a repository, a base image, a package or a
//! vulnerability reaches.

use std::collections::BTreeMap;

use catenary_evidence::digest::{Node, Sha256};
use jiff::Timestamp;
use sqlx::{Postgres, QueryBuilder, Row as _, postgres::PgRow};

use crate::{
    Store, StoreError,
    browse::AttestationRow,
    entry::{from_sql, to_sql},
    facts::id_from,
    mention::STRIDE,
    pool::retry,
};

/// What reaches an attestation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Who signed it: texts under which signers are found (`Signer::index_key`).
    Signers(Vec<String>),
    /// Provenance of this builder, byte for byte.
    Builder(String),
    /// Of a source in this canonical repository.
    Repository(String),
    /// Of this commit, or about it.
    Commit(Node),
    /// Provenance of what was built with one of these, as base image or otherwise.
    Input(Vec<Node>),
    /// It speaks of this package: `pkg:type/namespace/name`.
    Package(String),
    /// It speaks of a package of this name.
    PackageName(String),
    /// It says that this vulnerability is there.
    Vulnerability(String),
    /// It is about one of these.
    About(Vec<Node>),
}

/// An attestation that is hit.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The attestation.
    pub row: AttestationRow,
    /// Of a package: the versions that it speaks of.
    pub versions: Vec<String>,
    /// Of a vulnerability: what it says of it.
    pub states: Vec<String>,
}

/// Some of what is hit. Rows whose seal is broken are left out.
#[derive(Debug, Clone)]
pub struct Page {
    /// Newest first.
    pub hits: Vec<Hit>,
    /// The cursor of the next page; nothing on the last.
    pub next: Option<u64>,
}

impl Store {
    /// The texts under which certificate signers are found, in the first `before` entries.
    pub async fn certificate_signers(&self, tenant: &str, before: u64) -> Result<Vec<String>, StoreError> {
        retry(|| {
            sqlx::query_scalar!(
                "select distinct signer from attestation_subject
                 where tenant = $1 and signer >= '[' and signer < '\\' and log_index < $2",
                tenant,
                to_sql(before)
            )
            .fetch_all(self.reads())
        })
        .await
    }

    /// What is hit below entry `before` (the cursor: the index of the last one seen; the size at first), newest first.
    pub async fn hits(
        &self,
        tenant: &str,
        cause: &Cause,
        before: u64,
        limit: u32,
    ) -> Result<Page, StoreError> {
        let rows = self.hit_rows(tenant, cause, before, limit).await?;
        let last = rows.last().map(|row| -> Result<_, sqlx::Error> {
            Ok((row.try_get::<i64, _>("log_index")?, row.try_get::<i64, _>("read")?))
        });
        let whole = |read: &i64| rows.len() >= limit as usize || *read >= i64::from(limit);
        let next = last.transpose()?.filter(|(_, read)| whole(read)).map(|(index, _)| from_sql(index));
        let mut found: BTreeMap<Sha256, (Vec<String>, Vec<String>)> = BTreeMap::new();
        for row in rows {
            let Some(id) = id_from(&row.try_get::<Vec<u8>, _>("id")?) else { continue };
            let entry = (row.try_get("versions")?, row.try_get("states")?);
            found.insert(id, entry);
        }
        let ids: Vec<Sha256> = found.keys().copied().collect();
        let mut hits: Vec<Hit> = self
            .attestations(tenant, &ids, before)
            .await?
            .into_iter()
            .filter_map(|row| {
                let (versions, states) = found.remove(&row.facts.id)?;
                Some(Hit { row, versions, states })
            })
            .collect();
        hits.sort_by_key(|hit| std::cmp::Reverse(hit.row.index));
        Ok(Page { hits, next })
    }

    async fn hit_rows(
        &self,
        tenant: &str,
        cause: &Cause,
        before: u64,
        limit: u32,
    ) -> Result<Vec<PgRow>, StoreError> {
        retry(|| async { select(tenant, cause, before, limit).build().fetch_all(self.reads()).await }).await
    }

    /// The statements of [`Store::hits`] and of [`Store::asked_about`] about `nodes`, without what is made of their rows: the
    /// ceiling of benchmarks. How many rows there were.
    #[doc(hidden)]
    pub async fn fetch_hits(
        &self,
        tenant: &str,
        cause: &Cause,
        before: u64,
        limit: u32,
        nodes: &[Vec<Node>],
    ) -> Result<usize, StoreError> {
        let rows = self.hit_rows(tenant, cause, before, limit).await?;
        let ids = rows.iter().map(|row| row.try_get("id")).collect::<Result<Vec<Vec<u8>>, _>>()?;
        let mut count = rows.len() + self.load_attestations(tenant, &ids, before).await?.len();
        for some in nodes {
            count += self.asked_rows(tenant, some, SHOWN, None).await?.len();
        }
        Ok(count)
    }
}

/// Watched questions that are shown about one node.
pub const SHOWN: u32 = 100;

/// A question that is watched: about what runs, or asked lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its key: the cursor.
    pub key: [u8; 32],
    /// `registry/repository@digest`.
    pub image: String,
    /// In which environment.
    pub environment: Option<String>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// What else was said (JSON).
    pub context: String,
    /// The answer, as far as the log was followed.
    pub outcome: String,
    /// Whether that allows it.
    pub allowed: bool,
    /// The first error's code; may be empty.
    pub reason: String,
    /// Where it runs: `environment/application/workload`, at most 100.
    pub running: Vec<String>,
}

/// The columns of [`Asked`]; what runs is what runs now, or ran at a moment.
fn push_asked(query: &mut QueryBuilder<Postgres>, at: Option<Timestamp>) {
    query.push(
        "w.key, w.image, w.environment, w.platform, w.context, w.outcome, w.allowed, w.reason,
         array(select d.environment || '/' || d.application || '/' || d.workload from deployment d
               where d.tenant = w.tenant and d.question = w.key and ",
    );
    match at.map(Timestamp::as_microsecond) {
        None => query.push("d.until_us is null"),
        Some(at) => query
            .push("d.since_us <= ")
            .push_bind(at)
            .push(" and (d.until_us is null or d.until_us > ")
            .push_bind(at)
            .push(")"),
    };
    query.push(" order by 1 limit 100) as running");
}

impl Store {
    /// The watched questions after `after`, in the order of their keys.
    pub async fn asked(
        &self,
        tenant: &str,
        running_only: bool,
        after: Option<[u8; 32]>,
        limit: u32,
    ) -> Result<Vec<Asked>, StoreError> {
        let rows = retry(|| async {
            let mut query = QueryBuilder::new("select ");
            push_asked(&mut query, None);
            query.push(" from watched w where w.tenant = ");
            query.push_bind(tenant.to_owned());
            if let Some(after) = after {
                query.push(" and w.key > ").push_bind(after.to_vec());
            }
            if running_only {
                query.push(
                    " and exists (select 1 from deployment d
                       where d.tenant = w.tenant and d.question = w.key and d.until_us is null)",
                );
            }
            query.push(" order by w.key limit ").push_bind(i64::from(limit));
            query.build().fetch_all(self.reads()).await
        })
        .await?;
        Ok(rows.iter().map(read_asked).collect::<Result<_, _>>()?)
    }

    /// For each of the nodes, the watched questions whose answers read it, at most `limit`, and where they run, or ran `at` a moment.
    pub async fn asked_about(
        &self,
        tenant: &str,
        nodes: &[Node],
        limit: u32,
        at: Option<Timestamp>,
    ) -> Result<BTreeMap<Node, Vec<Asked>>, StoreError> {
        if nodes.is_empty() {
            return Ok(BTreeMap::new());
        }
        let rows = self.asked_rows(tenant, nodes, limit, at).await?;
        let mut about: BTreeMap<Node, Vec<Asked>> = BTreeMap::new();
        for row in &rows {
            if let Ok(node) = row.try_get::<String, _>("node")?.parse() {
                about.entry(node).or_default().push(read_asked(row)?);
            }
        }
        for questions in about.values_mut() {
            questions.sort_by_key(|question| (question.allowed, question.key));
        }
        Ok(about)
    }

    async fn asked_rows(
        &self,
        tenant: &str,
        nodes: &[Node],
        limit: u32,
        at: Option<Timestamp>,
    ) -> Result<Vec<PgRow>, StoreError> {
        retry(|| async {
            let mut query = QueryBuilder::new("select n.node, a.* from unnest(");
            query.push_bind(names(nodes)).push("::text[]) as n (node) cross join lateral (select ");
            push_asked(&mut query, at);
            query.push(" from watched w where w.tenant = ").push_bind(tenant.to_owned());
            query.push(" and w.key in (select r.key from watched_node r where r.tenant = ");
            query.push_bind(tenant.to_owned()).push(" and r.node = n.node)");
            query.push(" order by w.allowed, w.key limit ").push_bind(i64::from(limit)).push(") as a");
            query.build().fetch_all(self.reads()).await
        })
        .await
    }
}

fn read_asked(row: &PgRow) -> Result<Asked, sqlx::Error> {
    Ok(Asked {
        key: id_from(&row.try_get::<Vec<u8>, _>("key")?).unwrap_or(Sha256([0; 32])).0,
        image: row.try_get("image")?,
        environment: row.try_get("environment")?,
        platform: row.try_get("platform")?,
        context: row.try_get("context")?,
        outcome: row.try_get("outcome")?,
        allowed: row.try_get("allowed")?,
        reason: row.try_get("reason")?,
        running: row.try_get("running")?,
    })
}

/// Ids and indexes, newest first; of packages and vulnerabilities with what is said of them. `read` says how many rows decided where
/// the page ends, where these are not the hits themselves.
///
/// Every page is read from where it begins, in the order of an index: what is hit by a key is a large part of the log, and a
/// statement that sorts all of it for each page takes the square of that.
fn select<'a>(tenant: &'a str, cause: &'a Cause, before: u64, limit: u32) -> QueryBuilder<Postgres> {
    match cause {
        Cause::Builder(builder) => by_column("builder", tenant, builder, before, limit),
        Cause::Repository(repository) => by_column("source_repository", tenant, repository, before, limit),
        Cause::Commit(commit) => by_column("source_commit", tenant, &commit.to_string(), before, limit),
        Cause::Signers(signers) => by_subject("signer", tenant, signers.clone(), before, limit),
        Cause::About(nodes) => by_subject("node", tenant, names(nodes), before, limit),
        Cause::Input(nodes) => {
            let only = "m.state <> '' and m.vulnerability = ''";
            by_mention("name", tenant, names(nodes), only, before, limit)
        }
        Cause::Package(package) => {
            by_mention("package", tenant, vec![package.clone()], "m.vulnerability = ''", before, limit)
        }
        Cause::PackageName(name) => {
            by_mention("name", tenant, vec![name.clone()], "m.vulnerability = ''", before, limit)
        }
        Cause::Vulnerability(vulnerability) => {
            by_mention("vulnerability", tenant, vec![vulnerability.clone()], "true", before, limit)
        }
    }
}

const NOTHING_SAID: &str = "array[]::text[] as versions, array[]::text[] as states, 0::bigint as read";

fn by_column(column: &str, tenant: &str, text: &str, before: u64, limit: u32) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(format!(
        "select a.id, a.log_index, {NOTHING_SAID} from attestation a where a.{column} = "
    ));
    query.push_bind(text.to_owned()).push(" and a.tenant = ").push_bind(tenant.to_owned());
    query.push(" and a.log_index < ").push_bind(to_sql(before));
    query.push(" order by a.log_index desc limit ").push_bind(i64::from(limit));
    query
}

fn by_subject(
    column: &str,
    tenant: &str,
    texts: Vec<String>,
    before: u64,
    limit: u32,
) -> QueryBuilder<Postgres> {
    let mut query =
        QueryBuilder::new(format!("select distinct h.id, h.log_index, {NOTHING_SAID} from unnest("));
    query.push_bind(texts).push("::text[]) as t (said) cross join lateral (");
    query.push(format!(
        "select s.id, s.log_index from attestation_subject s where s.{column} = t.said and s.tenant = "
    ));
    query.push_bind(tenant.to_owned()).push(" and s.log_index < ").push_bind(to_sql(before));
    query.push(" group by s.log_index, s.id order by s.log_index desc limit ").push_bind(i64::from(limit));
    query.push(") as h order by h.log_index desc limit ").push_bind(i64::from(limit));
    query
}

/// The newest rows, and whatever else their attestations say.
fn by_mention(
    column: &str,
    tenant: &str,
    texts: Vec<String>,
    only: &str,
    before: u64,
    limit: u32,
) -> QueryBuilder<Postgres> {
    let texts: Vec<String> = texts.iter().map(|text| text.replace('\0', "\u{fffd}")).collect();
    let before = to_sql(Store::mentions_of(before));
    let mut query = QueryBuilder::new("with few as materialized (select p.position from unnest(");
    query.push_bind(texts.clone()).push("::text[]) as t (said) cross join lateral (");
    query.push(format!(
        "select m.position from mention m where m.{column} <> '' and m.{column} = t.said and {only} and m.tenant = "
    ));
    query.push_bind(tenant.to_owned()).push(" and m.position < ").push_bind(before);
    query.push(" order by m.position desc limit ").push_bind(i64::from(limit));
    query.push(") as p order by p.position desc limit ").push_bind(i64::from(limit));
    query.push(format!(
        ") select m.id, min(m.position) / {STRIDE} as log_index, array_agg(distinct m.version) as versions,
                  array_agg(distinct m.state) as states, (select count(*) from few) as read
           from mention m
           where m.position >= (select min(position) / {STRIDE} * {STRIDE} from few) and m.position < "
    ));
    query.push_bind(before).push(format!(" and m.{column} <> '' and {only} and m.{column} = any("));
    query.push_bind(texts).push(") and m.tenant = ").push_bind(tenant.to_owned());
    query.push(" group by m.id order by 2 desc");
    query
}

fn names(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(ToString::to_string).collect()
}
