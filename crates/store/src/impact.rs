//! What is hit: the attestations that a key, an identity, a builder, a commit, a repository, a base image, a package or a
//! vulnerability reaches.

use std::collections::BTreeMap;

use catenary_evidence::digest::{Node, Sha256};
use sqlx::{Postgres, QueryBuilder, Row as _, postgres::PgRow};

use crate::{
    Store, StoreError,
    browse::AttestationRow,
    entry::{from_sql, to_sql},
    facts::id_from,
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
    /// It speaks of a package (`pkg:type/namespace/name`), or by its name when it has no package URL.
    Package {
        /// `pkg:type/namespace/name`.
        package: Option<String>,
        /// The name.
        name: Option<String>,
    },
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
        let rows =
            retry(|| async { select(tenant, cause, before, limit).build().fetch_all(self.reads()).await })
                .await?;
        let last = rows.last().filter(|_| rows.len() >= limit as usize);
        let next = last.map(|row| row.try_get::<i64, _>("log_index")).transpose()?.map(from_sql);
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
}

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

/// The columns of [`Asked`].
const ASKED: &str = "w.key, w.image, w.environment, w.platform, w.context, w.outcome, w.allowed, w.reason,
    array(select d.environment || '/' || d.application || '/' || d.workload from deployment d
          where d.tenant = w.tenant and d.question = w.key and d.until_us is null order by 1 limit 100) as running";

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
            let mut query = QueryBuilder::new(format!("select {ASKED} from watched w where w.tenant = "));
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

    /// For each of the nodes, the watched questions whose answers read it, at most `limit`.
    pub async fn asked_about(
        &self,
        tenant: &str,
        nodes: &[Node],
        limit: u32,
    ) -> Result<BTreeMap<Node, Vec<Asked>>, StoreError> {
        if nodes.is_empty() {
            return Ok(BTreeMap::new());
        }
        let rows = retry(|| async {
            let mut query = QueryBuilder::new("select n.node, a.* from unnest(");
            query.push_bind(names(nodes)).push("::text[]) as n (node) cross join lateral (select ");
            query.push(ASKED).push(" from watched w where w.tenant = ").push_bind(tenant.to_owned());
            query.push(" and w.key in (select r.key from watched_node r where r.tenant = ");
            query.push_bind(tenant.to_owned()).push(" and r.node = n.node)");
            query.push(" order by w.allowed, w.key limit ").push_bind(i64::from(limit)).push(") as a");
            query.build().fetch_all(self.reads()).await
        })
        .await?;
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

/// Ids and indexes, newest first; of packages and vulnerabilities with what is said of them.
fn select<'a>(tenant: &'a str, cause: &'a Cause, before: u64, limit: u32) -> QueryBuilder<Postgres> {
    let none = "array[]::text[] as versions, array[]::text[] as states";
    let mut query = QueryBuilder::new("");
    let mut by_column = |column: &str, value: String| {
        query.push(format!("select a.id, a.log_index, {none} from attestation a where a.tenant = "));
        query.push_bind(tenant.to_owned());
        query.push(format!(" and a.{column} = ")).push_bind(value);
        query.push(" and a.log_index < ").push_bind(to_sql(before));
        query.push(" order by a.log_index desc");
    };
    match cause {
        Cause::Builder(builder) => by_column("builder", builder.clone()),
        Cause::Repository(repository) => by_column("source_repository", repository.clone()),
        Cause::Commit(commit) => by_column("source_commit", commit.to_string()),
        Cause::Signers(signers) => {
            query.push(format!(
                "select s.id, s.log_index, {none} from attestation_subject s where s.tenant = "
            ));
            query.push_bind(tenant.to_owned());
            query.push(" and s.signer = any(").push_bind(signers.clone());
            query.push(") and s.log_index < ").push_bind(to_sql(before));
            query.push(" group by s.id, s.log_index order by s.log_index desc");
        }
        Cause::About(nodes) => {
            query.push(format!(
                "select s.id, s.log_index, {none} from attestation_subject s where s.tenant = "
            ));
            query.push_bind(tenant.to_owned());
            query.push(" and s.node = any(").push_bind(names(nodes));
            query.push(") and s.log_index < ").push_bind(to_sql(before));
            query.push(" group by s.id, s.log_index order by s.log_index desc");
        }
        Cause::Input(nodes) => {
            let only = "m.state <> '' and m.vulnerability = ''";
            mentions(&mut query, tenant, before, &[("name", names(nodes))], only);
        }
        Cause::Package { package, name } => {
            let named = [("package", package), ("name", name)];
            let named: Vec<(&str, Vec<String>)> =
                named.into_iter().filter_map(|(column, text)| Some((column, vec![text.clone()?]))).collect();
            mentions(&mut query, tenant, before, &named, "m.vulnerability = ''");
        }
        Cause::Vulnerability(vulnerability) => {
            mentions(&mut query, tenant, before, &[("vulnerability", vec![vulnerability.clone()])], "true");
        }
    }
    query.push(" limit ").push_bind(i64::from(limit));
    query
}

fn mentions(
    query: &mut QueryBuilder<Postgres>,
    tenant: &str,
    before: u64,
    named: &[(&str, Vec<String>)],
    only: &str,
) {
    query.push(
        "select m.id, min(m.position) / 32768 as log_index, array_agg(distinct m.version) as versions,
                array_agg(distinct m.state) as states
         from mention m where m.tenant = ",
    );
    query.push_bind(tenant.to_owned());
    query.push(" and m.position < ").push_bind(to_sql(Store::mentions_of(before)));
    for (column, texts) in named {
        let texts: Vec<String> = texts.iter().map(|text| text.replace('\0', "\u{fffd}")).collect();
        query.push(format!(" and m.{column} <> '' and m.{column} = any(")).push_bind(texts).push(")");
    }
    query.push(format!(" and {only} group by m.id order by 2 desc"));
}

fn names(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(ToString::to_string).collect()
}
