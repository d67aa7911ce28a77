//! The comparison of `log verify` in slices, for a service that runs: no slice holds a snapshot of the database for long,
//! and nothing but the leaf hashes and the control state of one tenant is kept between two of them.
//!
//! Each slice first reads the entries that were appended since the last one, in its own snapshot. So what it compares rows
//! with is what the log said when those rows were read, and a log that grows is never a difference.

use std::sync::Arc;

use super::{
    Audit, Difference, Fault, Log, Part, Report,
    facts::{self, Index},
    snapshot,
};
use crate::{
    Store, StoreError,
    checkpoints::CheckpointStore,
    entry::to_sql,
    facts::{ObjectRecord, children, subject_rows},
    keys::ServiceKeys,
    mention,
};

/// Index rows read at once.
const PAGE: i64 = 1_000;

/// One comparison of everything, underway.
#[derive(Debug)]
pub struct Pass {
    store: Store,
    keys: Arc<ServiceKeys>,
    outside: Option<CheckpointStore>,
    /// Tenants that are still to come, the next one last.
    tenants: Vec<String>,
    log: Log,
    step: Step,
    report: Report,
    /// How many differences were handed out.
    told: usize,
}

/// What the next slice compares.
#[derive(Debug)]
enum Step {
    /// Tables and service keys; then the tenants are known.
    Installation,
    /// Entries with their bodies.
    Entries,
    /// Facts of the entries from this one on, and the index rows that they give.
    Facts(u64),
    /// Rows behind this one that say which attestations are about a node.
    Subjects(String, String, i64),
    /// Rows behind this one that say which objects name a node.
    Children(String, String),
    /// What only all entries together decide, and decisions.
    Whole,
    /// Nothing.
    Over,
}

/// What one slice did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Rows that were read, about.
    pub rows: u64,
    /// What differs, as far as it was not handed out before.
    pub differences: Vec<Difference>,
}

impl Pass {
    /// At the beginning of everything.
    pub fn new(store: Store, keys: Arc<ServiceKeys>, outside: Option<CheckpointStore>) -> Self {
        let (log, report) = (Log::default(), Report::default());
        Self { store, keys, outside, tenants: Vec::new(), log, step: Step::Installation, report, told: 0 }
    }

    /// Everything that was found so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Compares the next slice; `None` when there is none. After an error the same slice can be asked for again. Must not be
    /// cancelled half-way: run it in a task of its own.
    pub async fn next(&mut self) -> Result<Option<Slice>, StoreError> {
        if matches!(self.step, Step::Over) {
            return Ok(None);
        }
        let mut audit = Audit {
            part: Part::Everything,
            db: snapshot(&self.store).await?,
            store: self.store.clone(),
            keys: self.keys.clone(),
            outside: self.outside.clone(),
            report: std::mem::take(&mut self.report),
        };
        let done = self.slice(&mut audit).await;
        self.report = std::mem::take(&mut audit.report);
        audit.db.rollback().await?;
        let (rows, step) = done?;
        self.step = step;
        let differences = self.report.differences.get(self.told..).unwrap_or_default().to_vec();
        self.told = self.report.differences.len();
        for d in &differences {
            self.store.alarm(&d.tenant, d.table, &d.key, &d.what);
        }
        Ok(Some(Slice { rows, differences }))
    }

    /// The rows that were read, and what comes next.
    async fn slice(&mut self, audit: &mut Audit) -> Result<(u64, Step), StoreError> {
        let mut rows = 0;
        if !matches!(self.step, Step::Installation | Step::Entries) {
            loop {
                match audit.entries(&mut self.log).await? {
                    0 => break,
                    read => rows += read,
                }
            }
        }
        let (differences, logs) = (audit.report.differences.len(), audit.report.logs.len());
        match self.compare(audit).await {
            Ok((read, step)) => Ok((rows + read, step)),
            Err(error) => {
                // It will be compared again, and must not be named twice.
                audit.report.differences.truncate(differences);
                audit.report.logs.truncate(logs);
                Err(error)
            }
        }
    }

    async fn compare(&mut self, audit: &mut Audit) -> Result<(u64, Step), StoreError> {
        match &self.step {
            Step::Installation => {
                audit.tables().await?;
                audit.service_keys().await?;
                // A newer instance beside this one may have made tables and keys.
                audit.report.differences.retain(|difference| difference.fault != Fault::Unexpected);
                let mut tenants = audit.tenants().await?;
                tenants.reverse();
                self.tenants = tenants;
                Ok((0, self.next_tenant()))
            }
            Step::Entries => {
                let read = audit.entries(&mut self.log).await?;
                Ok((read, if read == 0 { Step::Facts(0) } else { Step::Entries }))
            }
            Step::Facts(from) => audit.facts_slice(&self.log, *from).await,
            Step::Subjects(node, signer, index) => {
                audit.subjects_slice(&self.log.tenant, (node, signer, *index)).await
            }
            Step::Children(child, parent) => audit.children_slice(&self.log.tenant, (child, parent)).await,
            Step::Whole => {
                let tenant = self.log.tenant.clone();
                audit.whole_log(&self.log).await?;
                audit.strange_facts(&self.log).await?;
                let beyond = mention::first_position(self.log.leaves.len() as u64);
                audit.mention_rows(&tenant, beyond..i64::MAX, Index::new()).await?;
                audit.decisions(&tenant).await?;
                Ok((0, self.next_tenant()))
            }
            Step::Over => Ok((0, Step::Over)),
        }
    }

    fn next_tenant(&mut self) -> Step {
        match self.tenants.pop() {
            Some(tenant) => {
                self.log = Log { tenant, ..Log::default() };
                Step::Entries
            }
            None => Step::Over,
        }
    }
}

impl Audit {
    /// Facts of the next entries, each derived anew from its bytes, with all index rows that are theirs.
    async fn facts_slice(&mut self, log: &Log, from: u64) -> Result<(u64, Step), StoreError> {
        let tenant = log.tenant.as_str();
        let entries = self.page(tenant, from, facts::PAGE).await?;
        let Some(last) = entries.last() else {
            return Ok((0, Step::Subjects(String::new(), String::new(), -1)));
        };
        let to = last.index + 1;
        let (mut subjects, mut child_rows, mut mentions) = (Index::new(), Index::new(), Index::new());
        self.attestations(log, &entries, &mut subjects, &mut mentions).await?;
        self.objects(log, &entries, &mut child_rows).await?;
        let rows = sqlx::query!(
            "select node, signer, log_index, id from attestation_subject
             where tenant = $1 and log_index >= $2 and log_index < $3",
            tenant,
            to_sql(from),
            to_sql(to)
        )
        .fetch_all(&mut *self.db)
        .await?;
        for row in rows {
            let id = format!("sha256:{}", hex::encode(&row.id));
            let row = vec![row.node, row.signer, row.log_index.to_string(), id];
            self.index_row(tenant, "attestation_subject", &mut subjects, row);
        }
        self.index_rest(tenant, "attestation_subject", subjects);
        let names = |at: usize| child_rows.keys().filter_map(|row| row.get(at).cloned()).collect::<Vec<_>>();
        let rows = sqlx::query!(
            r#"select c.child, c.parent, c.log_index from unnest($2::text[], $3::text[]) as wanted (child, parent)
               join object_child c on c.tenant = $1 and c.child = wanted.child and c.parent = wanted.parent"#,
            tenant,
            &names(0),
            &names(1)
        )
        .fetch_all(&mut *self.db)
        .await?;
        for row in rows {
            let row = vec![row.child, row.parent, row.log_index.to_string()];
            self.index_row(tenant, "object_child", &mut child_rows, row);
        }
        self.index_rest(tenant, "object_child", child_rows);
        let positions = mention::first_position(from)..mention::first_position(to);
        self.mention_rows(tenant, positions, mentions).await?;
        Ok((entries.len() as u64, Step::Facts(to)))
    }

    /// Rows that nothing accounts for: those that should be there were looked for with the facts that give them.
    async fn subjects_slice(
        &mut self,
        tenant: &str,
        after: (&str, &str, i64),
    ) -> Result<(u64, Step), StoreError> {
        let rows = sqlx::query!(
            "select node, signer, log_index, id from attestation_subject
             where tenant = $1 and (node, signer, log_index) > ($2, $3, $4)
             order by node, signer, log_index limit $5",
            tenant,
            after.0,
            after.1,
            after.2,
            PAGE
        )
        .fetch_all(&mut *self.db)
        .await?;
        let Some(last) = rows.last() else { return Ok((0, Step::Children(String::new(), String::new()))) };
        let next = Step::Subjects(last.node.clone(), last.signer.clone(), last.log_index);
        let ids: Vec<Vec<u8>> = rows.iter().map(|row| row.id.clone()).collect();
        let records = self.attestation_rows(tenant, &ids).await?;
        for row in &rows {
            let facts =
                records.get(&row.id).map(|record| (record.log_index, record.open(tenant, self.store.seal())));
            let accounted = match facts {
                None => false,
                // The row of facts is named already.
                Some((_, None)) => true,
                Some((index, Some(facts))) => {
                    let own = (row.node.clone(), row.signer.clone());
                    index == row.log_index && subject_rows(&facts).contains(&own)
                }
            };
            if !accounted {
                let key = format!("{} {} {}", row.node, row.signer, row.log_index);
                self.report.add(tenant, "attestation_subject", key, Fault::Unexpected, "no facts say so");
            }
        }
        Ok((rows.len() as u64, next))
    }

    /// The same of the rows that say which objects name a node.
    async fn children_slice(&mut self, tenant: &str, after: (&str, &str)) -> Result<(u64, Step), StoreError> {
        let rows = sqlx::query!(
            "select child, parent, log_index from object_child
             where tenant = $1 and (child, parent) > ($2, $3) order by child, parent limit $4",
            tenant,
            after.0,
            after.1,
            PAGE
        )
        .fetch_all(&mut *self.db)
        .await?;
        let Some(last) = rows.last() else { return Ok((0, Step::Whole)) };
        let next = Step::Children(last.child.clone(), last.parent.clone());
        let nodes: Vec<String> = rows.iter().map(|row| row.parent.clone()).collect();
        let records = sqlx::query_as!(
            ObjectRecord,
            "select node, id, log_index, time_us, media_type, facts, mac_key, mac
             from object where tenant = $1 and node = any($2)",
            tenant,
            &nodes
        )
        .fetch_all(&mut *self.db)
        .await?;
        for row in &rows {
            let record = records.iter().find(|record| record.node == row.parent);
            let facts = record.map(|record| (record.log_index, record.open(tenant, self.store.seal())));
            let accounted = match facts {
                None => false,
                Some((_, None)) => true,
                Some((index, Some(facts))) => index == row.log_index && children(&facts).contains(&row.child),
            };
            if !accounted {
                let key = format!("{} {}", row.child, row.parent);
                self.report.add(tenant, "object_child", key, Fault::Unexpected, "no facts say so");
            }
        }
        Ok((rows.len() as u64, next))
    }
}
