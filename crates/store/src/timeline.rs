//! What happened around something within a window, in order. Each source is one bounded query along an index; a new source is one more
//! query and one more [`Source`].

use std::collections::BTreeSet;

use catenary_evidence::digest::{Digest, Node};
use catenary_tlog::leaf::kind;
use jiff::Timestamp;
use sqlx::{Postgres, QueryBuilder, Row as _};

use crate::{
    AttestationRow, EntryRow, ObjectRow, Store, StoreError,
    decisions::{DecisionRow, decision},
    entry::to_sql,
    facts::time_from,
    log::entry_row,
    pool::retry,
};

/// Digests and commits that one timeline is about.
pub const MAX_NODES: usize = 200;

/// Where an item is from; within one moment items stand in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Policies, trust, revocations.
    Control,
    /// Git objects, manifests.
    Object,
    /// Signed statements, registry events among them.
    Statement,
    /// What was answered.
    Decision,
    /// What began to run.
    Started,
    /// What ended.
    Ended,
}

/// A place in a timeline: time in microseconds, source, and what tells items of one source and moment apart.
pub type Place = (i64, Source, Vec<u8>);

/// What a timeline is about.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Digests and commits.
    pub nodes: BTreeSet<Node>,
    /// `registry/repository`, or a canonical git URI.
    pub repository: Option<String>,
    /// Registered keys and certificate identities, as the index has them; `None` when no signer is asked for.
    pub signers: Option<Vec<String>>,
    /// Of this application: deployments.
    pub application: Option<String>,
    /// For this environment: decisions and deployments.
    pub environment: Option<String>,
}

/// From one moment on, before another, and behind a place.
#[derive(Debug, Clone)]
pub struct Window {
    /// The first moment.
    pub from: Timestamp,
    /// The first one after.
    pub to: Timestamp,
    /// Behind which item.
    pub after: Option<Place>,
    /// At most so many of each source.
    pub limit: u32,
}

/// A deployment that began or ended.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its id.
    pub id: Vec<u8>,
    /// When it began or ended.
    pub time: Timestamp,
    /// When that was told.
    pub recorded: Timestamp,
    /// Where.
    pub environment: String,
    /// Of what.
    pub application: String,
    /// Which part of it.
    pub workload: String,
    /// `registry/repository@digest`
    pub image: String,
    /// Who told.
    pub reporter: String,
    /// Whether it was allowed when it was told.
    pub allowed: bool,
}

impl Window {
    /// The range of microseconds that a source may still give, and behind which key in its first one.
    fn range(&self, source: Source) -> (i64, i64, Option<&[u8]>) {
        let (from, to) = (self.from.as_microsecond(), self.to.as_microsecond());
        match &self.after {
            None => (from, to, None),
            Some((time, at, key)) if *at == source => (from.max(*time), to, (*time >= from).then_some(key)),
            Some((time, at, _)) if *at > source => (from.max(time.saturating_add(1)), to, None),
            Some((time, ..)) => (from.max(*time), to, None),
        }
    }
}

impl Store {
    /// The entries of a window, as a range of indexes among the first `size`.
    async fn entries_within(
        &self,
        tenant: &str,
        size: u64,
        window: &Window,
        source: Source,
    ) -> Result<(u64, u64), StoreError> {
        let (from, to, key) = window.range(source);
        // Entries not younger than the moment before.
        let first = self.size_at(tenant, size, time_from(from - 1)).await?;
        let last = self.size_at(tenant, size, time_from(to - 1)).await?;
        let behind = key.and_then(|key| Some(u64::from_be_bytes(key.try_into().ok()?) + 1));
        Ok((first.max(behind.unwrap_or(0)), last))
    }

    /// Entries of policies, trust and revocations.
    pub async fn timeline_control(
        &self,
        tenant: &str,
        size: u64,
        window: &Window,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let (from, to) = self.entries_within(tenant, size, window, Source::Control).await?;
        let hidden: Vec<String> =
            [kind::LOG_ORIGIN, kind::TOKEN_CREATED, kind::TOKEN_REVOKED, kind::TENANT_CREATED]
                .map(str::to_owned)
                .into();
        let rows = retry(|| {
            sqlx::query!(
                "select log_index, id, kind, leaf from log_entry
                 where tenant = $1 and log_index >= $2 and log_index < $3 and kind not in ('attestation', 'object')
                   and kind <> all($4)
                 order by log_index limit $5",
                tenant,
                to_sql(from),
                to_sql(to),
                &hidden,
                i64::from(window.limit)
            )
            .fetch_all(self.reads())
        })
        .await?;
        rows.into_iter().map(|row| entry_row(row.log_index, &row.id, row.kind, row.leaf)).collect()
    }

    /// Objects that prove one of the nodes.
    pub async fn timeline_objects(
        &self,
        tenant: &str,
        size: u64,
        about: &About,
        window: &Window,
    ) -> Result<Vec<ObjectRow>, StoreError> {
        let (from, to) = self.entries_within(tenant, size, window, Source::Object).await?;
        let nodes: Vec<Node> = about.nodes.iter().copied().collect();
        let mut found = self.objects(tenant, &nodes, to).await?;
        found.retain(|row| row.index >= from);
        found.sort_by_key(|row| row.index);
        found.truncate(window.limit as usize);
        Ok(found)
    }

    /// Statements about a node, of a repository, or by a signer.
    pub async fn timeline_statements(
        &self,
        tenant: &str,
        size: u64,
        about: &About,
        window: &Window,
    ) -> Result<Vec<AttestationRow>, StoreError> {
        let (from, to) = self.entries_within(tenant, size, window, Source::Statement).await?;
        let ids = retry(|| async {
            let Some(mut query) = statements(tenant, about, (from, to), window.limit) else {
                return Ok(Vec::new());
            };
            query.build().fetch_all(self.reads()).await
        })
        .await?;
        let mut loaded = Vec::new();
        for row in ids {
            loaded.extend(crate::facts::id_from(&row.try_get::<Vec<u8>, _>("id")?));
        }
        let mut rows = self.attestations(tenant, &loaded, to).await?;
        rows.sort_by_key(|row| row.index);
        Ok(rows)
    }

    /// Decisions about a digest, in a repository, for an environment.
    pub async fn timeline_decisions(
        &self,
        tenant: &str,
        about: &About,
        window: &Window,
    ) -> Result<Vec<DecisionRow>, StoreError> {
        let rows = retry(|| async {
            let Some(mut query) = decisions(tenant, about, window) else { return Ok(Vec::new()) };
            query.build().fetch_all(self.reads()).await
        })
        .await?;
        rows.iter().map(|row| Ok(decision(row)?)).collect()
    }

    /// Deployments that began, or ended.
    pub async fn timeline_runs(
        &self,
        tenant: &str,
        about: &About,
        window: &Window,
        source: Source,
    ) -> Result<Vec<Run>, StoreError> {
        let rows = retry(|| async {
            let Some(mut query) = runs(tenant, about, window, source) else { return Ok(Vec::new()) };
            query.build().fetch_all(self.reads()).await
        })
        .await?;
        let run = |row: &sqlx::postgres::PgRow| {
            Ok::<_, sqlx::Error>(Run {
                id: row.try_get("id")?,
                time: time_from(row.try_get("at_us")?),
                recorded: time_from(row.try_get("recorded_us")?),
                environment: row.try_get("environment")?,
                application: row.try_get("application")?,
                workload: row.try_get("workload")?,
                image: row.try_get("image")?,
                reporter: row.try_get("reporter")?,
                allowed: row.try_get("allowed")?,
            })
        };
        rows.iter().map(|row| Ok(run(row)?)).collect()
    }

    /// The digests that an application has, or that run in an environment.
    pub async fn deployed(
        &self,
        tenant: &str,
        application: Option<&str>,
        environment: Option<&str>,
    ) -> Result<Vec<Node>, StoreError> {
        let rows = retry(|| async {
            let mut query =
                QueryBuilder::<Postgres>::new("select distinct digest from deployment where tenant = ");
            query.push_bind(tenant.to_owned());
            match application {
                Some(application) => {
                    query.push(" and application = ").push_bind(application.to_owned());
                }
                None => {
                    query.push(" and until_us is null");
                }
            }
            if let Some(environment) = environment {
                query.push(" and environment = ").push_bind(environment.to_owned());
            }
            query.push(" limit ").push_bind(MAX_NODES as i64);
            query.build_query_scalar::<String>().fetch_all(self.reads()).await
        })
        .await?;
        Ok(rows.iter().filter_map(|text| text.parse::<Digest>().ok()).map(Node::from).collect())
    }
}

fn texts(nodes: &BTreeSet<Node>) -> Vec<String> {
    nodes.iter().map(ToString::to_string).collect()
}

/// One branch for each index; nothing when nothing is asked for.
fn statements(
    tenant: &str,
    about: &About,
    (from, to): (u64, u64),
    limit: u32,
) -> Option<QueryBuilder<Postgres>> {
    let mut query = QueryBuilder::new("select distinct f.log_index, f.id from (");
    let mut branches = 0;
    let mut branch = |table: &str, condition: &str, value: Value| {
        query.push(if branches > 0 { " union all " } else { "" });
        query.push("(select t.log_index, t.id from ").push(table).push(" t where t.tenant = ");
        query.push_bind(tenant.to_owned()).push(" and t.log_index >= ").push_bind(to_sql(from));
        query.push(" and t.log_index < ").push_bind(to_sql(to)).push(" and ").push(condition);
        match value {
            Value::One(text) => query.push_bind(text),
            Value::Any(texts) => query.push("any(").push_bind(texts).push(")"),
        };
        // Rows of one statement can be several, one for each signer.
        query.push(" order by t.log_index limit ").push_bind(i64::from(limit) * 4).push(")");
        branches += 1;
    };
    if !about.nodes.is_empty() {
        branch("attestation_subject", "t.node = ", Value::Any(texts(&about.nodes)));
        let commits = about.nodes.iter().filter(|node| matches!(node, Node::Git(_)));
        let commits: Vec<String> = commits.map(ToString::to_string).collect();
        if !commits.is_empty() {
            branch("attestation", "t.source_commit = ", Value::Any(commits));
        }
    }
    if let Some(signers) = &about.signers {
        branch("attestation_subject", "t.signer = ", Value::Any(signers.clone()));
    }
    if let Some(repository) = &about.repository {
        branch("attestation", "t.source_repository = ", Value::One(repository.clone()));
        branch("attestation", "t.resource = ", Value::One(repository.clone()));
    }
    query.push(") f order by f.log_index limit ").push_bind(i64::from(limit));
    (branches > 0).then_some(query)
}

enum Value {
    One(String),
    Any(Vec<String>),
}

/// Behind the place, in order of time and key.
fn push_window(
    query: &mut QueryBuilder<Postgres>,
    time: &'static str,
    (from, to, key): (i64, i64, Option<&[u8]>),
) {
    match key {
        None => query.push(" and ").push(time).push(" >= ").push_bind(from),
        Some(key) => {
            query.push(" and (").push(time).push(", id) > (").push_bind(from).push(", ");
            query.push_bind(key.to_vec()).push(")")
        }
    };
    query.push(" and ").push(time).push(" < ").push_bind(to);
}

fn decisions(tenant: &str, about: &About, window: &Window) -> Option<QueryBuilder<Postgres>> {
    let mut query = QueryBuilder::new(
        "select id, instance, principal, resource, digest, environment, platform, verdict, outcome, allowed, log_size,
                count, first_us, last_us from decision where tenant = ",
    );
    query.push_bind(tenant.to_owned());
    let digests = digests(about);
    match (digests.is_empty(), &about.repository, &about.environment) {
        (false, _, environment) => {
            query.push(" and digest = any(").push_bind(digests).push(")");
            if let Some(environment) = environment {
                query.push(" and environment = ").push_bind(environment.clone());
            }
        }
        (true, Some(repository), _) => {
            query.push(" and resource = ").push_bind(repository.clone());
        }
        (true, None, Some(environment)) => {
            query.push(" and environment = ").push_bind(environment.clone());
        }
        (true, None, None) => return None,
    }
    push_window(&mut query, "first_us", window.range(Source::Decision));
    query.push(" order by first_us, id limit ").push_bind(i64::from(window.limit));
    Some(query)
}

fn digests(about: &About) -> Vec<String> {
    about.nodes.iter().filter(|node| matches!(node, Node::Content(_))).map(ToString::to_string).collect()
}

fn runs(tenant: &str, about: &About, window: &Window, source: Source) -> Option<QueryBuilder<Postgres>> {
    let time = if source == Source::Started { "since_us" } else { "until_us" };
    let mut query = QueryBuilder::new("select id, ");
    query.push(time).push(
        " as at_us, recorded_us, environment, application, workload, image, reporter, allowed
         from deployment where tenant = ",
    );
    query.push_bind(tenant.to_owned());
    let digests = digests(about);
    if digests.is_empty() && about.application.is_none() && about.environment.is_none() {
        return None;
    }
    if !digests.is_empty() {
        query.push(" and digest = any(").push_bind(digests).push(")");
    }
    if let Some(application) = &about.application {
        query.push(" and application = ").push_bind(application.clone());
    }
    if let Some(environment) = &about.environment {
        query.push(" and environment = ").push_bind(environment.clone());
    }
    push_window(&mut query, time, window.range(source));
    query.push(" order by ").push(time).push(", id limit ").push_bind(i64::from(window.limit));
    Some(query)
}

/// Where an item of the log stands.
pub fn place_of_entry(time: Timestamp, source: Source, index: u64) -> Place {
    (time.as_microsecond(), source, index.to_be_bytes().to_vec())
}

/// The id under which a decision stands.
pub fn place_of_decision(row: &DecisionRow) -> Place {
    (row.first.as_microsecond(), Source::Decision, row.id.0.to_vec())
}

impl Source {
    /// Every source, in order.
    pub const ALL: [Self; 6] =
        [Self::Control, Self::Object, Self::Statement, Self::Decision, Self::Started, Self::Ended];

    /// Its number in a cursor.
    pub fn number(self) -> u8 {
        Self::ALL.iter().position(|source| *source == self).map_or(0, |at| at as u8)
    }
}
