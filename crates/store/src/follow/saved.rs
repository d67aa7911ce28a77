//! The sealed snapshot of a fold: it spares a start from reading the whole log.
//!
//! An instance that has folded a log says so under the service key: size, right edge, and the index and id of every control
//! entry. A start believes it only when
//!
//! 1. its seal is right for this tenant and this size, so that one of our instances wrote it as it is;
//! 2. the end of the log before it is in the tree that it names, entry by entry;
//! 3. the body of every control entry that it names is there and is what its id says: the state is folded anew from them;
//! 4. the entries after it, read and hashed as ever, give the root of the head, and the checkpoint outside is a prefix.
//!
//! Anything else is an alarm, and the whole log is read. A log that is shorter than a snapshot under a right seal, or another one,
//! is not believed at all. An older snapshot that somebody puts back costs time and nothing else.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use catenary_evidence::digest::Sha256;
use catenary_tlog::{Frontier, Hash, leaf_hash, verify_inclusion};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    FollowError, Follower, Shared, Snapshot,
    fold::{ControlEntry, Fold, read_control},
    tenant::Tenant,
};
use crate::{
    SealKeys, Store, StoreError,
    entry::{from_sql, to_sql},
    pool::retry,
    seal::Sealed,
};

/// Entries after which it is written again: as many are read at a start at most, after a crash.
const EVERY: u64 = 4_096;
/// Fewer are not worth a write when the service stops.
const FEW: u64 = 256;
/// Entries before it that are read again: whatever cuts the end off a log takes the last of them away.
const TAIL: u64 = 256;
/// Bodies of control entries read at once.
const BODIES: usize = 1_000;
/// How long writing them may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Changes with the meaning of `State`: another version's snapshot is not read.
const VERSION: u32 = 1;
const TABLE: &str = "log_fold";

/// What is sealed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    origin: String,
    frontier: String,
    time: Timestamp,
    /// Index and id of every control entry, in the order of the log.
    control: Vec<(u64, Sha256)>,
}

/// The part of it that every version can read.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// A row of `log_fold`.
pub(crate) struct SavedFold {
    pub(crate) size: u64,
    pub(crate) state: Vec<u8>,
    pub(crate) mac_key: i32,
    pub(crate) mac: Vec<u8>,
}

/// Where a log must come by: so many entries, this root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waypoint {
    pub size: u64,
    pub root: Hash,
}

/// A fold that goes on from a snapshot.
pub(super) struct Resumed {
    pub fold: Fold,
    pub waypoint: Waypoint,
}

/// What a snapshot under a right seal says.
pub(crate) struct Opened {
    pub(crate) frontier: Frontier,
    pub(crate) origin: String,
    pub(crate) control: Vec<(u64, Sha256)>,
    time: Timestamp,
}

impl SavedFold {
    fn new(keys: &SealKeys, snapshot: &Snapshot) -> Result<Self, StoreError> {
        let state = State {
            version: VERSION,
            origin: snapshot.origin.clone(),
            frontier: hex::encode(snapshot.frontier.to_bytes()),
            time: snapshot.time,
            control: snapshot.history.iter().map(|known| (known.index, known.id)).collect(),
        };
        let state = serde_json::to_vec(&state).map_err(|error| StoreError::Unloggable(error.to_string()))?;
        let (mac_key, mac) = keys.seal(&sealed(&snapshot.tenant, snapshot.size, &state));
        Ok(Self { size: snapshot.size, state, mac_key: i32::try_from(mac_key).unwrap_or(i32::MAX), mac })
    }

    /// What it says, if its seal is right; `None` when it is another version's. `Err` says what is wrong.
    pub(crate) fn open(&self, keys: &SealKeys, tenant: &str) -> Result<Option<Opened>, String> {
        let key = u32::try_from(self.mac_key).map_err(|_| "the seal is broken".to_owned())?;
        if !keys.opens(&sealed(tenant, self.size, &self.state), key, &self.mac) {
            return Err("the seal is broken".to_owned());
        }
        let version: Version = serde_json::from_slice(&self.state).map_err(|error| error.to_string())?;
        if version.version != VERSION {
            return Ok(None);
        }
        let state: State = serde_json::from_slice(&self.state).map_err(|error| error.to_string())?;
        let edge = hex::decode(&state.frontier).map_err(|error| error.to_string())?;
        let frontier = Frontier::from_bytes(&edge).map_err(|error| error.to_string())?;
        let ordered = state.control.is_sorted_by(|(a, _), (b, _)| a < b);
        if frontier.size() != self.size || self.size == 0 || !ordered {
            return Err("it contradicts itself".to_owned());
        }
        if state.control.last().is_some_and(|(last, _)| *last >= self.size) {
            return Err("it names an entry that it does not cover".to_owned());
        }
        Ok(Some(Opened { frontier, origin: state.origin, control: state.control, time: state.time }))
    }
}

impl Opened {
    /// The fold without its control entries.
    fn begun(&self) -> Fold {
        let (frontier, tail) = (self.frontier.clone(), Arc::new(self.frontier.clone().into()));
        Fold { frontier, tail, time: Some(self.time), ..Fold::begun(&self.origin) }
    }
}

/// Folds the control entries anew from their bodies, each of which hashes to its id.
fn fold_bodies(
    fold: &mut Fold,
    control: &[(u64, Sha256)],
    bodies: &BTreeMap<Sha256, Vec<u8>>,
) -> Result<(), String> {
    for (index, id) in control {
        let body = bodies.get(id).ok_or_else(|| format!("the body of control entry {index} is gone"))?;
        let (entry, verifies) =
            read_control(body).map_err(|error| format!("control entry {index} cannot be read: {error}"))?;
        fold.take(ControlEntry { index: *index, id: *id, entry: Arc::new(entry) }, verifies);
    }
    Ok(())
}

fn sealed<'a>(tenant: &'a str, size: u64, state: &'a [u8]) -> Sealed<'a> {
    Sealed { tenant, table: TABLE, key: b"", index: size, columns: vec![Some(state)] }
}

impl Store {
    /// The snapshot of a tenant's fold as it lies there.
    pub(crate) async fn saved_fold(&self, tenant: &str) -> Result<Option<SavedFold>, StoreError> {
        let row = retry(|| {
            sqlx::query!("select size, state, mac_key, mac from log_fold where tenant = $1", tenant)
                .fetch_optional(self.reads())
        })
        .await?;
        Ok(row.map(|row| SavedFold {
            size: from_sql(row.size),
            state: row.state,
            mac_key: row.mac_key,
            mac: row.mac,
        }))
    }

    async fn save_fold(&self, tenant: &str, saved: &SavedFold) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into log_fold (tenant, size, state, mac_key, mac) values ($1, $2, $3, $4, $5)
             on conflict (tenant) do update set
             size = excluded.size, state = excluded.state, mac_key = excluded.mac_key, mac = excluded.mac",
            tenant,
            to_sql(saved.size),
            saved.state,
            saved.mac_key,
            saved.mac
        )
        .execute(self.writes())
        .await?;
        Ok(())
    }
}

impl Shared {
    /// The snapshot to go on from; `None` when there is none that can be believed.
    pub(super) async fn resume(&self, tenant: &Tenant) -> Result<Option<Resumed>, FollowError> {
        let Some(saved) = self.store.saved_fold(tenant.name()).await? else { return Ok(None) };
        let opened = match saved.open(self.store.seal(), tenant.name()) {
            Ok(Some(opened)) => opened,
            // While versions are mixed.
            Ok(None) => return Ok(None),
            Err(what) => return Ok(self.unbelievable(tenant, &what)),
        };
        let waypoint = Waypoint { size: saved.size, root: opened.frontier.root() };
        match self.tail_is_there(tenant, waypoint).await {
            Ok(None) => {}
            Ok(Some(what)) | Err(StoreError::Integrity { what, .. }) => {
                return Ok(self.suspicious(tenant, waypoint, &what));
            }
            // The log is shorter: whoever reads it up to its head will say so.
            Err(StoreError::BeyondHead { .. }) => {
                return Ok(self.suspicious(tenant, waypoint, "the log is shorter"));
            }
            Err(other) => return Err(other.into()),
        }
        let mut fold = opened.begun();
        for some in opened.control.chunks(BODIES) {
            let ids: Vec<Sha256> = some.iter().map(|(_, id)| *id).collect();
            let bodies = self.store.bodies(tenant.name(), &ids).await?;
            if let Err(what) = fold_bodies(&mut fold, some, &bodies) {
                return Ok(self.suspicious(tenant, waypoint, &what));
            }
        }
        Ok(Some(Resumed { fold, waypoint }))
    }

    /// Nothing of it is believed.
    fn unbelievable(&self, tenant: &Tenant, what: &str) -> Option<Resumed> {
        self.alarm_of_fold(tenant, what);
        None
    }

    /// One of our instances wrote it, so the log must come by it: but all of it is read.
    fn suspicious(&self, tenant: &Tenant, waypoint: Waypoint, what: &str) -> Option<Resumed> {
        self.alarm_of_fold(tenant, what);
        Some(Resumed { fold: Fold::default(), waypoint })
    }

    pub(super) fn alarm_of_fold(&self, tenant: &Tenant, what: &str) {
        self.store.alarm(
            tenant.name(),
            TABLE,
            tenant.name(),
            &format!("{what}: the whole log is read instead"),
        );
    }

    /// Whether the last entries before the snapshot are in its tree; else what is wrong.
    async fn tail_is_there(&self, tenant: &Tenant, end: Waypoint) -> Result<Option<String>, StoreError> {
        let from = end.size.saturating_sub(TAIL);
        let entries = self.store.entries(tenant.name(), from, end.size).await?;
        let indexes: Vec<u64> = (from..end.size).collect();
        let proofs = self.store.inclusions(tenant.name(), &indexes, end.size).await?;
        let outside = entries.iter().zip(&proofs).find(|(entry, proof)| {
            verify_inclusion(leaf_hash(&entry.leaf), entry.index, end.size, proof, end.root).is_err()
        });
        Ok(outside.map(|(entry, _)| format!("entry {} is not in its tree", entry.index)))
    }

    /// Writes the snapshots of the logs that have grown by `least` entries since theirs.
    pub(super) async fn save_folds(&self, least: u64) {
        let all: Vec<Arc<Tenant>> =
            self.tenants.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for tenant in all {
            // A broken log has no snapshot that anybody should believe.
            let Ok(snapshot) = tenant.snapshot() else { continue };
            if snapshot.size.saturating_sub(tenant.saved.load(Ordering::Relaxed)) < least {
                continue;
            }
            if let Err(error) = self.save_fold(&tenant, &snapshot).await {
                tracing::warn!(tenant = tenant.name(), %error, "cannot keep what was folded");
            }
        }
    }

    async fn save_fold(&self, tenant: &Tenant, snapshot: &Snapshot) -> Result<(), StoreError> {
        let saved = SavedFold::new(self.store.seal(), snapshot)?;
        self.store.save_fold(tenant.name(), &saved).await?;
        tenant.saved.fetch_max(snapshot.size, Ordering::Relaxed);
        Ok(())
    }

    /// The same for those that have grown long, within a time that keeps nothing else from being done.
    pub(super) async fn save_long_folds(&self) {
        if tokio::time::timeout(PATIENCE, self.save_folds(EVERY)).await.is_err() {
            tracing::warn!("cannot keep what was folded in time");
        }
    }
}

impl Follower {
    /// Keeps what was folded for the next start, as the last thing before a stop.
    pub async fn save(&self) {
        if tokio::time::timeout(PATIENCE, self.shared.save_folds(FEW)).await.is_err() {
            tracing::warn!("cannot keep what was folded in time");
        }
    }

    /// Keeps what was folded of one log now, however short it is.
    pub async fn save_now(&self, tenant: &str) -> Result<(), FollowError> {
        let tenant = self.shared.tenant(tenant)?;
        let snapshot = tenant.snapshot()?;
        Ok(self.shared.save_fold(&tenant, &snapshot).await?)
    }
}

#[cfg(test)]
mod tests {
    use catenary_chain::control::{Added, Entry, Revocation, Token, TrustedKey};
    use catenary_evidence::PublicKey;
    use catenary_testkit::Key;
    use catenary_tlog::{Leaf, leaf::kind};

    use super::{super::fold::kind_of, *};
    use crate::EntryRow;

    const TENANT: &str = "acme";

    fn keys() -> SealKeys {
        SealKeys { current: (1, [1; 32]), retired: Vec::new() }
    }

    /// Numbers that a seed decides.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % n
        }
    }

    fn trusted(name: &str) -> TrustedKey {
        let pem = Key::ed25519(name).public_pem();
        let public = PublicKey::from_pem(&pem, None).unwrap();
        let (id, scheme) = (public.id(), public.scheme());
        let name = name.to_owned();
        TrustedKey { id, name, pem, scheme, service: None, valid_from: None, valid_until: None }
    }

    fn token(n: u64) -> Token {
        Token {
            id: format!("t{n}"),
            hash: Sha256([1; 32]),
            role: "reader".to_owned(),
            name: String::new(),
            expires: Timestamp::MAX,
            repositories: Vec::new(),
            predicate_types: Vec::new(),
            by: None,
        }
    }

    fn random_entry(random: &mut Random, n: u64) -> Entry {
        let key = trusted(["one", "two", "three"][random.below(3) as usize]);
        match random.below(8) {
            0 => Entry::TrustAdded(Added::Key(key)),
            1 => Entry::TrustEffective(key.id.into()),
            2 => Entry::Revocation(Revocation::of_key(key.id, &format!("leaked {n}"))),
            3 => Entry::TrustWithdrawn { domain: "sigstore".to_owned(), reason: n.to_string() },
            4 => Entry::TokenRevoked { id: format!("t{}", random.below(n + 1)), reason: String::new() },
            5 => Entry::PolicyApplied {
                name: format!("p{}", random.below(2)),
                revision: n,
                document: format!("not a policy {n}"),
            },
            6 => Entry::TenantCreated { name: format!("tenant-{}", random.below(4)), public_log: false },
            _ => Entry::TokenCreated(token(n)),
        }
    }

    /// A log as its rows and the bodies of its control entries.
    fn random_log(random: &mut Random) -> Vec<(EntryRow, Option<Vec<u8>>)> {
        let time = |index: u64| Timestamp::from_second(1_700_000_000 + index as i64).unwrap();
        let row = |index: u64, leaf: &Leaf| {
            let (id, kind) = (Sha256(leaf.id.0), leaf.kind.clone());
            EntryRow { index, id, kind, leaf: leaf.encode().unwrap() }
        };
        let mut log = vec![(row(0, &Leaf::origin("o.example/acme", time(0))), None)];
        for index in 1..4 + random.below(60) {
            let evidence = [kind::ATTESTATION, kind::OBJECT, kind::EVIDENCE_ERASED];
            let chosen = random.below(6) as usize;
            let (kind, body) = match evidence.get(chosen) {
                Some(kind) => (*kind, format!("evidence {index}").into_bytes()),
                None => {
                    let entry = random_entry(random, index);
                    (kind_of(&entry), serde_json::to_vec(&entry).unwrap())
                }
            };
            let leaf = Leaf::new(kind, time(index), &body, Hash([0; 32]));
            log.push((row(index, &leaf), (chosen >= evidence.len()).then_some(body)));
        }
        log
    }

    fn folded(log: &[(EntryRow, Option<Vec<u8>>)], mut fold: Fold) -> Fold {
        for (row, body) in log {
            fold.push(row, body.as_deref()).unwrap();
        }
        fold
    }

    fn snapshot(fold: &Fold) -> Snapshot {
        Snapshot {
            tenant: TENANT.to_owned(),
            origin: fold.origin.clone(),
            size: fold.frontier.size(),
            root: fold.frontier.root(),
            frontier: fold.frontier.clone(),
            tail: fold.tail.clone(),
            time: fold.time.unwrap(),
            control: fold.control.clone(),
            trust: fold.trust.clone(),
            past: false,
            history: fold.history.clone(),
            signed: std::sync::OnceLock::new(),
            wanted: std::sync::OnceLock::new(),
        }
    }

    #[test]
    fn a_snapshot_and_the_rest_are_the_whole_fold() {
        for seed in 1..=60 {
            let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
            let log = random_log(&mut random);
            let bodies: BTreeMap<Sha256, Vec<u8>> =
                log.iter().filter_map(|(row, body)| Some((row.id, body.clone()?))).collect();
            let whole = folded(&log, Fold::default());
            for cut in 1..=log.len() {
                let part = folded(&log[..cut], Fold::default());
                let saved = SavedFold::new(&keys(), &snapshot(&part)).unwrap();
                let opened = saved.open(&keys(), TENANT).unwrap().unwrap();
                let mut resumed = opened.begun();
                fold_bodies(&mut resumed, &opened.control, &bodies).unwrap();
                let resumed = folded(&log[cut..], resumed);
                assert_eq!(format!("{resumed:?}"), format!("{whole:?}"), "seed {seed}, cut at {cut}");
            }
        }
    }

    #[test]
    fn a_snapshot_is_believed_for_its_tenant_and_size_and_as_it_was_written() {
        let mut random = Random(7);
        let fold = folded(&random_log(&mut random), Fold::default());
        let saved = || SavedFold::new(&keys(), &snapshot(&fold)).unwrap();
        assert!(saved().open(&keys(), TENANT).unwrap().is_some());
        assert!(saved().open(&keys(), "twin").is_err());
        assert!(saved().open(&SealKeys { current: (1, [2; 32]), retired: Vec::new() }, TENANT).is_err());
        let size = saved().size;
        for other in [0, size - 1, size + 1] {
            assert!(SavedFold { size: other, ..saved() }.open(&keys(), TENANT).is_err());
        }
        // Without one control entry: what somebody would like who was revoked.
        let text = String::from_utf8(saved().state).unwrap();
        let first = text.find("[[").unwrap();
        let second = text[first..].find("],[").unwrap() + first;
        let state = format!("{}[{}", &text[..first], &text[second + 2..]).into_bytes();
        assert!(SavedFold { state, ..saved() }.open(&keys(), TENANT).is_err());
    }

    #[test]
    fn a_snapshot_whose_bodies_are_gone_or_unreadable_is_not_used() {
        let mut random = Random(9);
        let log = random_log(&mut random);
        let fold = folded(&log, Fold::default());
        let opened =
            SavedFold::new(&keys(), &snapshot(&fold)).unwrap().open(&keys(), TENANT).unwrap().unwrap();
        let mut bodies: BTreeMap<Sha256, Vec<u8>> =
            log.iter().filter_map(|(row, body)| Some((row.id, body.clone()?))).collect();
        let (_, id) = opened.control[0];
        bodies.insert(id, b"{}".to_vec());
        assert!(fold_bodies(&mut opened.begun(), &opened.control, &bodies).is_err());
        bodies.remove(&id);
        assert!(fold_bodies(&mut opened.begun(), &opened.control, &bodies).is_err());
    }

    #[test]
    fn another_version_is_left_alone() {
        let state = br#"{"version":2,"new":true}"#.to_vec();
        let (mac_key, mac) = keys().seal(&sealed(TENANT, 5, &state));
        let saved = SavedFold { size: 5, state, mac_key: mac_key as i32, mac };
        assert!(saved.open(&keys(), TENANT).unwrap().is_none());
    }
}
