//! Decisions: chains without a hole, rows that the records add up to, verdicts that hash to their ids.

use std::collections::{BTreeMap, BTreeSet};

use catenary_chain::verdict;
use catenary_evidence::digest::Sha256;

use super::{Audit, Fault};
use crate::{
    StoreError,
    decisions::{Batch, Chain, Record, START},
    entry::from_sql,
    facts::{id_from, time_from},
};

/// Rows read at once.
const PAGE: i64 = 500;

/// What the records of all chains of a tenant say.
#[derive(Default)]
struct Told {
    rows: BTreeMap<Sha256, crate::decisions::Row>,
    kept: BTreeSet<Sha256>,
}

impl Audit {
    /// Compares what is recorded of a tenant's decisions.
    pub(super) async fn decisions(&mut self, tenant: &str) -> Result<(), StoreError> {
        let mut told = Told::default();
        let mut ends = self.chain_ends(tenant).await?;
        for instance in self.chain_names(tenant, &ends).await? {
            let last = self.batches(tenant, &instance, &mut told).await?;
            let end = ends.remove(&instance);
            self.chain_end(tenant, &instance, end, last);
        }
        self.rows(tenant, &mut told).await?;
        self.verdicts(tenant, told.kept).await
    }

    async fn chain_ends(&mut self, tenant: &str) -> Result<BTreeMap<String, Chain>, StoreError> {
        let rows = sqlx::query!(
            "select instance, number, hash, alive_us, is_open, mac_key, mac from decision_chain where tenant = $1",
            tenant
        )
        .fetch_all(&mut *self.db)
        .await?;
        let mut ends = BTreeMap::new();
        for row in rows {
            let chain = Chain {
                tenant: tenant.to_owned(),
                instance: row.instance.clone(),
                number: from_sql(row.number),
                hash: id_from(&row.hash).unwrap_or(START),
                alive: time_from(row.alive_us),
                is_open: row.is_open,
            };
            if !chain.is_sealed(self.store.seal(), row.mac_key, &row.mac) {
                self.report.add(
                    tenant,
                    "decision_chain",
                    &row.instance,
                    Fault::Altered,
                    "its seal is broken",
                );
            }
            ends.insert(row.instance, chain);
        }
        Ok(ends)
    }

    async fn chain_names(
        &mut self,
        tenant: &str,
        ends: &BTreeMap<String, Chain>,
    ) -> Result<BTreeSet<String>, StoreError> {
        let names =
            sqlx::query_scalar!("select distinct instance from decision_batch where tenant = $1", tenant)
                .fetch_all(&mut *self.db)
                .await?;
        Ok(names.into_iter().chain(ends.keys().cloned()).collect())
    }

    /// The end that the batches give.
    async fn batches(
        &mut self,
        tenant: &str,
        instance: &str,
        told: &mut Told,
    ) -> Result<(u64, Sha256), StoreError> {
        let mut end = (0, START);
        loop {
            let rows = sqlx::query!(
                "select number, previous, hash, time_us, records, mac_key, mac from decision_batch
                 where tenant = $1 and instance = $2 and number > $3 order by number limit $4",
                tenant,
                instance,
                crate::entry::to_sql(end.0),
                PAGE
            )
            .fetch_all(&mut *self.db)
            .await?;
            if rows.is_empty() {
                return Ok(end);
            }
            for row in rows {
                let batch = Batch {
                    tenant: tenant.to_owned(),
                    instance: instance.to_owned(),
                    number: from_sql(row.number),
                    previous: id_from(&row.previous).unwrap_or(START),
                    time: time_from(row.time_us),
                    records: row.records,
                };
                let (hash, key) = (batch.hash(), format!("{instance} {}", batch.number));
                let mut differs =
                    |fault, what: &str| self.report.add(tenant, "decision_batch", &key, fault, what);
                if batch.number != end.0 + 1 {
                    differs(Fault::Missing, "the batch in front is gone");
                } else if batch.previous != end.1 {
                    differs(Fault::Altered, "it does not follow the batch in front");
                }
                if hash.0[..] != row.hash[..] {
                    differs(Fault::Altered, "it does not hash to what it says");
                } else if !batch.is_sealed(self.store.seal(), row.mac_key, &row.mac) {
                    self.report.add(tenant, "decision_batch", &key, Fault::Altered, "its seal is broken");
                }
                end = (batch.number, hash);
                self.records(tenant, &batch, told);
            }
        }
    }

    fn records(&mut self, tenant: &str, batch: &Batch, told: &mut Told) {
        match batch.read() {
            Ok(records) => {
                let kept = records.iter().filter_map(|record| match record {
                    Record::Decision(decision) if decision.kept => Some(decision.verdict),
                    _ => None,
                });
                told.kept.extend(kept);
                crate::decisions::add_rows(&mut told.rows, &batch.instance, records);
            }
            Err(error) => {
                let key = format!("{} {}", batch.instance, batch.number);
                self.report.add(tenant, "decision_batch", key, Fault::Altered, error);
            }
        }
    }

    fn chain_end(&mut self, tenant: &str, instance: &str, end: Option<Chain>, last: (u64, Sha256)) {
        match end {
            None => {
                self.report.add(
                    tenant,
                    "decision_chain",
                    instance,
                    Fault::Missing,
                    "there are batches without it",
                );
            }
            Some(end) if end.number > last.0 => {
                let key = format!("{instance} {}..{}", last.0 + 1, end.number);
                self.report.add(
                    tenant,
                    "decision_batch",
                    key,
                    Fault::Missing,
                    "the end of the chain is gone",
                );
            }
            Some(end) if (end.number, end.hash) != last => {
                self.report.add(
                    tenant,
                    "decision_chain",
                    instance,
                    Fault::Altered,
                    "it is not the last batch",
                );
            }
            Some(_) => {}
        }
    }

    async fn rows(&mut self, tenant: &str, told: &mut Told) -> Result<(), StoreError> {
        let mut after: Vec<u8> = Vec::new();
        loop {
            let rows = sqlx::query!(
                "select id, instance, principal, resource, digest, environment, platform, verdict, outcome, allowed, log_size,
                        count, first_us, last_us
                 from decision where tenant = $1 and id > $2 order by id limit $3",
                tenant,
                after,
                PAGE
            )
            .fetch_all(&mut *self.db)
            .await?;
            let Some(last) = rows.last() else { break };
            after = last.id.clone();
            for row in rows {
                let id = id_from(&row.id).unwrap_or(START);
                let Some(expected) = told.rows.remove(&id) else {
                    self.report.add(tenant, "decision", id, Fault::Unexpected, "no record counts for it");
                    continue;
                };
                let d = expected.decision;
                let some = |text: &Option<String>| text.clone().unwrap_or_default();
                let same = row.instance == expected.instance
                    && row.principal == d.principal
                    && row.resource == d.resource
                    && row.digest == d.digest
                    && row.environment == some(&d.environment)
                    && row.platform == some(&d.platform)
                    && row.verdict[..] == d.verdict.0[..]
                    && row.outcome == d.outcome
                    && row.allowed == d.allowed
                    && from_sql(row.log_size) == d.size
                    && from_sql(row.count) == d.count
                    && row.first_us == d.first.as_microsecond()
                    && row.last_us == d.last.as_microsecond();
                if !same {
                    self.report.add(tenant, "decision", id, Fault::Altered, "its records say otherwise");
                }
            }
        }
        for id in std::mem::take(&mut told.rows).into_keys() {
            self.report.add(tenant, "decision", id, Fault::Missing, "records count for it");
        }
        Ok(())
    }

    async fn verdicts(&mut self, tenant: &str, mut kept: BTreeSet<Sha256>) -> Result<(), StoreError> {
        let mut after: Vec<u8> = Vec::new();
        loop {
            let rows = sqlx::query!(
                "select id, log_size, bytes from verdict_body where tenant = $1 and id > $2 order by id limit $3",
                tenant,
                after,
                PAGE
            )
            .fetch_all(&mut *self.db)
            .await?;
            let Some(last) = rows.last() else { break };
            after = last.id.clone();
            for row in rows {
                let id = id_from(&row.id).unwrap_or(START);
                if !kept.remove(&id) {
                    self.report.add(tenant, "verdict_body", id, Fault::Unexpected, "no record names it");
                } else if !is_verdict(id, from_sql(row.log_size), &row.bytes) {
                    self.report.add(
                        tenant,
                        "verdict_body",
                        id,
                        Fault::Altered,
                        "it is not what was answered",
                    );
                }
            }
        }
        for id in kept {
            self.report.add(tenant, "verdict_body", id, Fault::Missing, "a record names it");
        }
        Ok(())
    }
}

/// Whether these are the bytes of the verdict with this id: an id covers every other member.
fn is_verdict(id: Sha256, log_size: u64, bytes: &[u8]) -> bool {
    let size = |value: serde_json::Value| value["log"]["size"].as_u64();
    verdict::id_of(bytes) == Some(id) && serde_json::from_slice(bytes).ok().and_then(size) == Some(log_size)
}
