//! One batch, one transaction (design section 6).

mod ceiling;
mod facts;
mod rows;
mod written;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use catenary_chain::control::{Added, Change, Effective, Entry, Target};
use catenary_evidence::{
    attestation::Attestation,
    digest::{Digest, Sha256},
    object::Object,
};
use catenary_tlog::{
    Frontier, Hash, Leaf,
    leaf::{Body, kind},
    leaf_hash,
};
use jiff::Timestamp;
use sqlx::PgConnection;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    Appended, New, SealKeys, StoreError,
    entry::{from_sql, id_of, to_sql},
    error::{is_disconnect, is_retryable},
    facts::{id_from, time_from},
    failpoint::{Injected, hit},
    follow::object_nodes,
    pool::Lender,
};

pub(crate) use facts::{FactRows, insert_subjects};
pub(crate) use written::Written;

/// How far the database's clock may stand from the last entry and from ours.
const MAX_SKEW: jiff::SignedDuration = jiff::SignedDuration::from_secs(30);
/// How long a batch may take. Longer than a statement may, so that the server's own limit comes first where it can.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often a transaction that lost a race is run again.
const ATTEMPTS: u32 = 8;

/// An item, checked and on its way into the log.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) id: Sha256,
    pub(crate) bytes: Vec<u8>,
    kind: &'static str,
    submitter: Sha256,
    facts: Facts,
    guard: Guard,
}

/// What is derived from the bytes.
#[derive(Debug)]
enum Facts {
    Attestation(Box<Attestation>),
    Object { media_type: String, facts: Box<Object> },
    Control(Vec<(&'static str, String)>),
}

/// What must still hold when the entry gets its index.
#[derive(Debug, Clone, Copy)]
enum Guard {
    /// Nothing.
    None,
    /// No key was registered at or after this size.
    KeysAt(u64),
    /// No control entry was logged at or after this size.
    ControlAt(u64),
}

impl Pending {
    /// Checks that an item is what its facts say. `expected_size` guards a control entry.
    pub(crate) fn new(new: New, expected_size: Option<u64>) -> Result<Self, StoreError> {
        let control = expected_size.map_or(Guard::None, Guard::ControlAt);
        let pending = match new {
            New::Attestation { bytes, facts, submitter, keys_at } => {
                let id = same_id(&bytes, facts.id)?;
                let guard = expected_size.map_or(Guard::KeysAt(keys_at), Guard::ControlAt);
                let facts = Facts::Attestation(facts);
                Self { id, bytes, kind: kind::ATTESTATION, submitter, facts, guard }
            }
            New::Object { bytes, media_type, facts, submitter, keys_at } => {
                let id = same_id(&bytes, facts.id)?;
                let guard = expected_size.map_or(Guard::KeysAt(keys_at), Guard::ControlAt);
                if media_type.contains('\0') {
                    return Err(StoreError::Unloggable("a NUL in the media type".into()));
                }
                Self {
                    id,
                    bytes,
                    kind: kind::OBJECT,
                    submitter,
                    facts: Facts::Object { media_type, facts },
                    guard,
                }
            }
            New::Control { entry, submitter } => {
                let bytes =
                    serde_json::to_vec(&entry).map_err(|error| StoreError::Unloggable(error.to_string()))?;
                let (kind, members) = control_members(&entry);
                let id = Sha256::of(&bytes);
                Self { id, bytes, kind, submitter, facts: Facts::Control(members), guard: control }
            }
        };
        // What cannot be a leaf is known before it waits for others.
        pending.leaf(Timestamp::UNIX_EPOCH)?;
        Ok(pending)
    }

    /// The leaf, with its bytes.
    fn leaf(&self, time: Timestamp) -> Result<(Leaf, Vec<u8>), StoreError> {
        let body = Body { sha256: Hash(self.id.0), size: self.bytes.len() as u64 };
        let mut leaf = Leaf::about(self.kind, time, body, Hash(self.submitter.0));
        match &self.facts {
            Facts::Attestation(facts) => {
                leaf = leaf.with("payload", &facts.payload.to_string());
                let full = leaf.clone().with("predicateType", &facts.predicate_type);
                // A predicate type in a script that escapes badly may be too long; it only helps to filter.
                if let Ok(bytes) = full.encode() {
                    return Ok((full, bytes));
                }
            }
            Facts::Object { media_type, facts } => {
                leaf = leaf.with("node", &facts.node.to_string()).with("mediaType", media_type);
            }
            Facts::Control(members) => {
                for (name, value) in members {
                    leaf = leaf.with(name, value);
                }
            }
        }
        let bytes = leaf.encode().map_err(|error| StoreError::Unloggable(error.to_string()))?;
        Ok((leaf, bytes))
    }
}

fn same_id(bytes: &[u8], expected: Sha256) -> Result<Sha256, StoreError> {
    let id = Sha256::of(bytes);
    if id == expected {
        Ok(id)
    } else {
        Err(StoreError::Unloggable(format!("the facts are about {expected}, the bytes are {id}")))
    }
}

/// A leaf has room for names, not for patterns; the body says all.
fn short(target: &Target) -> String {
    target.to_string().chars().take(256).collect()
}

/// Kind and by-kind members of a control entry's leaf.
fn control_members(entry: &Entry) -> (&'static str, Vec<(&'static str, String)>) {
    match entry {
        Entry::TrustAdded(Added::Key(key)) => (kind::TRUST_ADDED, vec![("key", key.id.to_string())]),
        Entry::TrustAdded(Added::Root(root)) => {
            (kind::TRUST_ADDED, vec![("domain", root.domain.clone()), ("version", root.version.to_string())])
        }
        Entry::TrustEffective(Effective::Key(effective)) => {
            (kind::TRUST_EFFECTIVE, vec![("key", effective.key.to_string())])
        }
        Entry::TrustEffective(Effective::Root(root)) => (
            kind::TRUST_EFFECTIVE,
            vec![("domain", root.domain.clone()), ("version", root.version.to_string())],
        ),
        Entry::TrustWithdrawn { domain, .. } => (kind::TRUST_WITHDRAWN, vec![("domain", domain.clone())]),
        Entry::PolicyApplied { name, revision, .. } => {
            (kind::POLICY_APPLIED, vec![("name", name.clone()), ("revision", revision.to_string())])
        }
        Entry::PolicyDrafted(d) => (kind::POLICY_DRAFTED, of_revision(&d.name, d.revision)),
        Entry::PolicyTested(t) => (kind::POLICY_TESTED, of_revision(&t.name, t.revision)),
        Entry::PolicyApproved(a) => (kind::POLICY_APPROVED, of_revision(&a.name, a.revision)),
        Entry::PolicyActivated(a) => (kind::POLICY_ACTIVATED, of_revision(&a.name, a.revision)),
        Entry::ExceptionRequested(e) => (kind::EXCEPTION_REQUESTED, of_exception(&e.id, e.digest)),
        Entry::ExceptionApproved(e) => (kind::EXCEPTION_APPROVED, of_exception(&e.id, e.digest)),
        Entry::ExceptionWithdrawn(e) => (kind::EXCEPTION_WITHDRAWN, of_exception(&e.id, e.digest)),
        Entry::TrustRules(rules) => (kind::TRUST_RULES, vec![("approvals", rules.approvals.to_string())]),
        Entry::TrustApproved(approved) => (kind::TRUST_APPROVED, of_change(&approved.change)),
        Entry::TrustPinned(pin) => (kind::TRUST_PINNED, vec![("repository", pin.repository.clone())]),
        Entry::GroupSet(group) => (kind::GROUP_SET, vec![("name", group.name.clone())]),
        Entry::Revocation(revocation) => {
            (kind::REVOCATION, vec![(revocation.target.kind(), short(&revocation.target))])
        }
        Entry::TokenCreated(token) => (kind::TOKEN_CREATED, vec![("token", token.id.clone())]),
        Entry::TokenRevoked { id, .. } => (kind::TOKEN_REVOKED, vec![("token", id.clone())]),
        Entry::TenantCreated { name, .. } => (kind::TENANT_CREATED, vec![("name", name.clone())]),
    }
}

fn of_change(change: &Change) -> Vec<(&'static str, String)> {
    match change {
        Change::Key(key) => vec![("key", key.to_string())],
        Change::Root(root) => vec![("domain", root.domain.clone()), ("version", root.version.to_string())],
        Change::Group(index) => vec![("group", index.to_string())],
        Change::Rules { approvals, .. } => vec![("approvals", approvals.to_string())],
    }
}

fn of_revision(name: &str, revision: u64) -> Vec<(&'static str, String)> {
    vec![("name", name.to_owned()), ("revision", revision.to_string())]
}

fn of_exception(id: &str, digest: Digest) -> Vec<(&'static str, String)> {
    vec![("exception", id.to_owned()), ("digest", digest.to_string())]
}

/// What writes batches.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) pool: Lender,
    pub(crate) seal: Arc<SealKeys>,
    pub(crate) written: Arc<Written>,
}

/// Why a transaction ended without a commit that is known.
enum Failure {
    /// The database said no, or went away.
    Sql(sqlx::Error),
    /// Whether the commit happened is not known.
    Commit(sqlx::Error),
    /// We stopped.
    Store(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Injected> for Failure {
    fn from(injected: Injected) -> Self {
        Self::Store(injected.into())
    }
}

type Answers = Vec<Result<Appended, StoreError>>;

/// Who holds it writes; the others gather.
type Turn = Option<OwnedSemaphorePermit>;

impl Writer {
    /// Writes a batch; one answer for each item, in order. The turn is over when the first transaction is about to commit.
    pub(crate) async fn write(&self, tenant: &str, batch: &[Pending], turn: OwnedSemaphorePermit) -> Answers {
        match self.attempt(tenant, batch, Some(turn)).await {
            Ok(answers) => answers,
            // One item that the database cannot take must not refuse the others.
            Err(StoreError::Refused(why)) if batch.len() > 1 => {
                tracing::warn!(tenant, why, "writing a batch item by item");
                let mut answers = Vec::with_capacity(batch.len());
                for item in batch {
                    let one = self.attempt(tenant, std::slice::from_ref(item), None).await;
                    answers.push(one.and_then(|mut one| {
                        one.pop().unwrap_or_else(|| Err(StoreError::Refused("no answer".into())))
                    }));
                }
                answers
            }
            Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// The same within a limit: a transaction on a connection that leads nowhere must not hold up the next batch.
    async fn attempt(&self, tenant: &str, batch: &[Pending], turn: Turn) -> Result<Answers, StoreError> {
        let written = tokio::time::timeout(PATIENCE, self.tries(tenant, batch, turn)).await;
        written.unwrap_or_else(|_| {
            Err(StoreError::Unavailable(format!("the outcome of a write is unknown after {PATIENCE:?}")))
        })
    }

    /// Runs the transaction, again where that can help.
    async fn tries(&self, tenant: &str, batch: &[Pending], mut turn: Turn) -> Result<Answers, StoreError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.transact(tenant, batch, &mut turn).await {
                Ok(answers) => return Ok(answers),
                Err(Failure::Store(error)) => return Err(error),
                Err(Failure::Commit(error)) if !is_retryable(&error) => {
                    return Err(StoreError::Unavailable(format!(
                        "the outcome of a commit is unknown: {error}"
                    )));
                }
                Err(Failure::Commit(error) | Failure::Sql(error)) => error,
            };
            if attempt >= ATTEMPTS || !(is_retryable(&error) || is_disconnect(&error)) {
                return Err(error.into());
            }
            tokio::time::sleep(Duration::from_millis(2 << attempt)).await;
        }
    }

    async fn transact(&self, tenant: &str, batch: &[Pending], turn: &mut Turn) -> Result<Answers, Failure> {
        let mut transaction = self.pool.begin_planned().await?;
        let answers = self.apply(&mut transaction, tenant, batch).await?;
        // The next batch brings in its bodies meanwhile, and waits for the head's lock.
        *turn = None;
        hit("append.before_commit")?;
        transaction.commit().await.map_err(Failure::Commit)?;
        hit("append.after_commit")?;
        Ok(answers)
    }

    /// 1. bodies; 2. the head's lock; 3. what is known already; 4. indexes, leaves, the right edge; 5. facts;
    /// 6. entries and full tiles; 7. the head.
    async fn apply(
        &self,
        db: &mut PgConnection,
        tenant: &str,
        batch: &[Pending],
    ) -> Result<Answers, Failure> {
        hit("bodies.before_insert")?;
        rows::insert_bodies(db, tenant, batch).await?;
        hit("bodies.after_insert")?;
        let head = rows::lock_head(db, tenant).await?;
        let time = entry_time(&head)?;
        let mut plan = Plan::new(rows::known(db, tenant, batch).await?, &head, time);
        plan.control = rows::newest_control(db, tenant, batch, head.size).await?;
        plan.nodes = rows::taken_nodes(db, tenant, batch).await?;
        let answers: Answers = batch.iter().map(|item| plan.place(item)).collect();
        rows::forget_refused(db, tenant, batch, &answers).await?;
        if plan.entries.is_empty() {
            return Ok(answers);
        }
        plan.facts(tenant, batch, &self.seal).insert(db, tenant).await?;
        hit("entries.before_insert")?;
        rows::insert_entries(db, tenant, &plan.entries).await?;
        hit("entries.after_insert")?;
        rows::insert_tiles(db, tenant, head.size, &plan.frontier, &plan.entries).await?;
        rows::advance_head(db, tenant, head.size, &plan.frontier, time).await?;
        plan.note(batch, &self.written);
        let size_after = plan.frontier.size();
        Ok(answers.into_iter().map(|answer| answer.map(|known| Appended { size_after, ..known })).collect())
    }
}

/// The locked head.
struct Locked {
    size: u64,
    frontier: Frontier,
    time: Timestamp,
    database_clock: Timestamp,
}

/// The later of the last entry's time and the database clock, unless that clock cannot be right.
fn entry_time(head: &Locked) -> Result<Timestamp, StoreError> {
    check_clock(head.database_clock, head.time)?;
    Ok(head.time.max(head.database_clock))
}

/// Refuses when the database's clock stands behind the log, or away from ours.
pub(crate) fn check_clock(database: Timestamp, last: Timestamp) -> Result<(), StoreError> {
    let instance = Timestamp::now();
    let behind = last.duration_since(database) > MAX_SKEW;
    let away = database.duration_since(instance).abs() > MAX_SKEW;
    if behind || away { Err(StoreError::ClockSkew { database, last, instance }) } else { Ok(()) }
}

/// An entry that this batch makes.
struct NewEntry {
    /// Which item of the batch.
    item: usize,
    index: u64,
    id: Sha256,
    kind: &'static str,
    leaf: Vec<u8>,
    hash: Hash,
}

/// An entry that an item turned out to have.
struct Known {
    index: u64,
    kind: String,
    time: Timestamp,
    leaf: Vec<u8>,
}

/// Who gets which index.
struct Plan {
    known: BTreeMap<Sha256, Known>,
    /// Newest `trust.added` and newest control entry that a guard of the batch could mind.
    control: (Option<u64>, Option<u64>),
    /// Nodes that an object proves, and its id.
    nodes: BTreeMap<String, Sha256>,
    frontier: Frontier,
    time: Timestamp,
    entries: Vec<NewEntry>,
    items: usize,
    size_before: u64,
}

impl Plan {
    /// The rows that its items become.
    fn facts(&self, tenant: &str, batch: &[Pending], seal: &SealKeys) -> FactRows {
        let mut rows = FactRows::default();
        for entry in &self.entries {
            match batch.get(entry.item).map(|item| &item.facts) {
                Some(Facts::Attestation(facts)) => {
                    rows.attestation(tenant, facts, entry.index, self.time, seal);
                }
                Some(Facts::Object { media_type, facts }) => {
                    rows.object(tenant, facts, media_type, entry.index, self.time, seal);
                }
                Some(Facts::Control(_)) | None => {}
            }
        }
        rows
    }

    /// Remembers what its entries are about.
    fn note(&self, batch: &[Pending], written: &Written) {
        for entry in &self.entries {
            let nodes = match batch.get(entry.item).map(|item| &item.facts) {
                Some(Facts::Attestation(facts)) => facts.subject_nodes(),
                Some(Facts::Object { facts, .. }) => object_nodes(facts),
                Some(Facts::Control(_)) | None => continue,
            };
            written.note(entry.index, entry.id, nodes);
        }
    }

    fn new(known: BTreeMap<Sha256, Known>, head: &Locked, time: Timestamp) -> Self {
        Self {
            known,
            control: (None, None),
            nodes: BTreeMap::new(),
            frontier: head.frontier.clone(),
            time,
            entries: Vec::new(),
            items: 0,
            size_before: head.size,
        }
    }

    /// Gives the item an index, or says what it has or why not.
    fn place(&mut self, item: &Pending) -> Result<Appended, StoreError> {
        let position = self.items;
        self.items += 1;
        if let Some(known) = self.known.get(&item.id) {
            if known.kind != item.kind {
                return Err(StoreError::OtherKind { index: known.index, kind: known.kind.clone() });
            }
            let (index, time, leaf) = (known.index, known.time, known.leaf.clone());
            return Ok(Appended {
                id: item.id,
                index,
                time,
                created: false,
                size_after: self.size_before,
                leaf,
            });
        }
        self.check(item)?;
        let (leaf, bytes) = item.leaf(self.time)?;
        let hash = leaf_hash(&bytes);
        let index = self.frontier.push(hash);
        match &item.facts {
            Facts::Control(_) if item.kind == kind::TRUST_ADDED => self.control = (Some(index), Some(index)),
            Facts::Control(_) => self.control.1 = Some(index),
            Facts::Object { facts, .. } => {
                self.nodes.insert(facts.node.to_string(), item.id);
            }
            Facts::Attestation(_) => {}
        }
        let known = Known { index, kind: item.kind.to_owned(), time: leaf.time, leaf: bytes.clone() };
        self.known.insert(item.id, known);
        self.entries.push(NewEntry {
            item: position,
            index,
            id: item.id,
            kind: item.kind,
            leaf: bytes.clone(),
            hash,
        });
        Ok(Appended {
            id: item.id,
            index,
            time: leaf.time,
            created: true,
            size_after: index + 1,
            leaf: bytes,
        })
    }

    fn check(&self, item: &Pending) -> Result<(), StoreError> {
        match (item.guard, self.control) {
            (Guard::KeysAt(verified_at), (Some(at), _)) if at >= verified_at => {
                return Err(StoreError::KeysMoved { verified_at, at });
            }
            (Guard::ControlAt(expected), (_, Some(at))) if at >= expected => {
                return Err(StoreError::Conflict { expected, at });
            }
            _ => {}
        }
        if let Facts::Object { facts, .. } = &item.facts {
            let node = facts.node.to_string();
            if self.nodes.get(&node).is_some_and(|id| *id != item.id) {
                return Err(StoreError::NodeTaken { node });
            }
        }
        Ok(())
    }
}

impl Known {
    /// From a stored entry; its leaf is the truth about its time.
    fn read(log_index: i64, kind: String, leaf: Vec<u8>) -> Result<(Sha256, Self), StoreError> {
        let index = from_sql(log_index);
        let decoded = Leaf::decode(&leaf).map_err(|error| StoreError::Integrity {
            table: "log_entry",
            key: index.to_string(),
            what: error.to_string(),
        })?;
        Ok((id_of(decoded.id), Self { index, kind, time: decoded.time, leaf }))
    }
}
