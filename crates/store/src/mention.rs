//! Packages and vulnerabilities that attestations speak of, found again by either.

use std::collections::BTreeMap;

use catenary_evidence::{
    attestation::Attestation,
    digest::{Node, Sha256},
    mention::Mention,
};
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _};

use crate::{
    Store, StoreError,
    browse::AttestationRow,
    entry::{from_sql, to_sql},
    facts::id_from,
    pool::retry,
};

/// Rows of one entry are numbered below this; an attestation has at most 20,000.
pub(crate) const STRIDE: i64 = 32_768;

/// One row of `mention`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) position: i64,
    pub(crate) id: Sha256,
    pub(crate) mention: Mention,
}

/// The first position of an entry's rows.
pub(crate) fn first_position(index: u64) -> i64 {
    to_sql(index).saturating_mul(STRIDE)
}

/// The rows of an attestation whose bytes were just verified.
pub(crate) fn rows(facts: &Attestation, index: u64) -> Vec<Row> {
    let numbered = (first_position(index)..).zip(&facts.mentions);
    numbered.map(|(position, mention)| Row { position, id: facts.id, mention: mention.clone() }).collect()
}

pub(crate) async fn insert(db: &mut PgConnection, tenant: &str, rows: &[Row]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let text =
        |of: fn(&Mention) -> &String| rows.iter().map(|row| of(&row.mention).clone()).collect::<Vec<_>>();
    let list = |of: fn(&Mention) -> &Vec<String>| {
        rows.iter().map(|row| of(&row.mention).join("\n")).collect::<Vec<_>>()
    };
    sqlx::query!(
        "insert into mention (tenant, position, id, package, name, version, vulnerability, state, licences, hashes)
         select $1, i.*
         from unnest($2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::text[], $10::text[])
              as i(position, id, package, name, version, vulnerability, state, licences, hashes)
         on conflict (tenant, position) do update set
             id = excluded.id, package = excluded.package, name = excluded.name, version = excluded.version,
             vulnerability = excluded.vulnerability, state = excluded.state, licences = excluded.licences,
             hashes = excluded.hashes",
        tenant,
        &rows.iter().map(|row| row.position).collect::<Vec<_>>(),
        &rows.iter().map(|row| row.id.0.to_vec()).collect::<Vec<_>>(),
        &text(|m| &m.package),
        &text(|m| &m.name),
        &text(|m| &m.version),
        &text(|m| &m.vulnerability),
        &text(|m| &m.state),
        &list(|m| &m.licences),
        &list(|m| &m.hashes),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Which mentions a list shows.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Findings, or components.
    pub findings: bool,
    /// `pkg:type/namespace/name`.
    pub package: Option<String>,
    /// The package's name, whatever its type.
    pub name: Option<String>,
    /// Exactly this version.
    pub version: Option<String>,
    /// The vulnerability's id.
    pub vulnerability: Option<String>,
    /// By attestations about this node.
    pub subject: Option<Node>,
    /// By attestations that are verified, or not.
    pub verified: Option<bool>,
}

/// A mention with the attestation that makes it.
#[derive(Debug, Clone)]
pub struct MentionRow {
    /// The cursor.
    pub position: u64,
    /// What is said.
    pub mention: Mention,
    /// By whom, about what.
    pub attestation: AttestationRow,
}

impl Store {
    /// The position below which the mentions of the first `entries` lie.
    pub fn mentions_of(entries: u64) -> u64 {
        entries.saturating_mul(from_sql(STRIDE))
    }

    /// Mentions below `before`, newest first. Those of attestations whose seal is broken are left out.
    pub async fn list_mentions(
        &self,
        tenant: &str,
        selection: &Selection,
        before: u64,
        limit: u32,
    ) -> Result<Vec<MentionRow>, StoreError> {
        let rows = retry(|| async {
            select(tenant, selection, before, limit).build().fetch_all(self.reads()).await
        })
        .await?;
        let mut found = Vec::new();
        for row in rows {
            let Some(id) = id_from(&row.try_get::<Vec<u8>, _>("id")?) else { continue };
            let mention = Mention {
                package: row.try_get("package")?,
                name: row.try_get("name")?,
                version: row.try_get("version")?,
                vulnerability: row.try_get("vulnerability")?,
                state: row.try_get("state")?,
                licences: lines(row.try_get("licences")?),
                hashes: lines(row.try_get("hashes")?),
            };
            found.push((from_sql(row.try_get("position")?), id, mention));
        }
        let mut ids: Vec<Sha256> = found.iter().map(|(_, id, _)| *id).collect();
        ids.sort();
        ids.dedup();
        let entries = before.div_ceil(from_sql(STRIDE));
        let attestations = self.attestations(tenant, &ids, entries).await?;
        let by_id: BTreeMap<Sha256, AttestationRow> =
            attestations.into_iter().map(|row| (row.facts.id, row)).collect();
        let whole = |(position, id, mention)| {
            Some(MentionRow { position, mention, attestation: by_id.get(&id)?.clone() })
        };
        Ok(found.into_iter().filter_map(whole).collect())
    }
}

/// A list that was kept one a line.
pub(crate) fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// Only the conditions that the selection has, so that each combination finds its index.
fn select(tenant: &str, selection: &Selection, before: u64, limit: u32) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(
        "select m.position, m.id, m.package, m.name, m.version, m.vulnerability, m.state, m.licences, m.hashes
         from mention m where m.tenant = ",
    );
    query.push_bind(tenant.to_owned());
    query.push(" and m.position < ").push_bind(to_sql(before));
    query.push(if selection.findings { " and m.vulnerability <> ''" } else { " and m.vulnerability = ''" });
    let texts = [
        (" and m.package <> '' and m.package = ", &selection.package),
        (" and m.name <> '' and m.name = ", &selection.name),
        (" and m.version = ", &selection.version),
        (" and m.vulnerability = ", &selection.vulnerability),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            query.push(condition).push_bind(text.replace('\0', "\u{fffd}"));
        }
    }
    if let Some(node) = selection.subject {
        query.push(" and m.id in (select s.id from attestation_subject s where s.tenant = ");
        query.push_bind(tenant.to_owned());
        query.push(" and s.node = ").push_bind(node.to_string()).push(")");
    }
    if let Some(verified) = selection.verified {
        query.push(" and exists (select 1 from attestation a where a.tenant = m.tenant and a.id = m.id and a.verified = ");
        query.push_bind(verified).push(")");
    }
    query.push(" order by m.position desc limit ").push_bind(i64::from(limit));
    query
}
