//! Folding entries: the tree, the control state and the keys after the first N entries.
//!
//! Nothing here reads a database: entries and bodies come in, and each is checked before it counts.

use std::sync::Arc;

use catenary_chain::control::{Added, Control, Entry};
use catenary_evidence::{PublicKey, Trust, digest::Sha256, trust_root::Domain};
use catenary_tlog::{Frontier, Leaf, Tail, leaf::kind, leaf_hash};
use jiff::Timestamp;

use super::Broken;
use crate::EntryRow;

/// The state after the first `frontier.size()` entries.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    /// Name of the log, from entry 0.
    pub origin: String,
    /// The tree's right edge.
    pub frontier: Frontier,
    /// The newest leaves.
    pub tail: Arc<Tail>,
    /// Time of the last entry.
    pub time: Option<Timestamp>,
    /// What the tenant trusts.
    pub control: Arc<Control>,
    /// Every key that was ever registered.
    pub trust: Trust,
    /// The control entries: what the state was after fewer entries.
    pub history: Arc<Vec<ControlEntry>>,
}

/// A control entry that was folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlEntry {
    /// Its index.
    pub index: u64,
    /// SHA-256 of its body.
    pub id: Sha256,
    /// What the body says.
    pub entry: Arc<Entry>,
}

/// What an entry is, as far as following it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folded {
    /// Entry 0.
    Origin,
    /// New evidence.
    Evidence,
    /// A body was erased: what it said counts as absent from now on.
    Erased,
    /// The control state changed.
    Control(Arc<Entry>),
}

/// Whether the entry's body must be at hand to fold it.
pub fn needs_body(kind_name: &str) -> bool {
    !matches!(kind_name, kind::LOG_ORIGIN | kind::ATTESTATION | kind::OBJECT | kind::EVIDENCE_ERASED)
}

impl Fold {
    /// With the log's name and nothing else.
    pub fn begun(origin: &str) -> Self {
        let control = Arc::new(Control { origin: origin.to_owned(), ..Control::default() });
        Self { origin: origin.to_owned(), control, ..Self::default() }
    }

    /// Takes a control entry whose place in the log is known.
    pub fn take(&mut self, known: ControlEntry, verifies: Verifies) {
        Arc::make_mut(&mut self.control).apply(known.index, &known.entry);
        verifies.join(&mut self.trust);
        Arc::make_mut(&mut self.history).push(known);
    }

    /// Takes the next entry. After an error the fold is not to be used.
    pub fn push(&mut self, row: &EntryRow, body: Option<&[u8]>) -> Result<Folded, Broken> {
        let index = self.frontier.size();
        let bad = |what: String| Broken::Entry { index, what };
        if row.index != index {
            return Err(bad(format!("the next entry read is {}", row.index)));
        }
        let leaf = row.decode().map_err(|error| bad(error.to_string()))?;
        // The columns repeat the leaf so that entries can be looked up by them; only the leaf is in the tree.
        if leaf.id.0 != row.id.0 || leaf.kind != row.kind {
            return Err(bad("its columns and its leaf name different things".to_owned()));
        }
        if self.time.is_some_and(|last| leaf.time < last) {
            return Err(bad("it is older than the entry before it".to_owned()));
        }
        let folded = self.fold(index, &leaf, body)?;
        let hash = leaf_hash(&row.leaf);
        self.frontier.push(hash);
        Arc::make_mut(&mut self.tail).push(hash);
        self.time = Some(leaf.time);
        Ok(folded)
    }

    fn fold(&mut self, index: u64, leaf: &Leaf, body: Option<&[u8]>) -> Result<Folded, Broken> {
        let bad = |what: String| Broken::Entry { index, what };
        if (index == 0) != (leaf.kind == kind::LOG_ORIGIN) {
            return Err(bad(format!("a `{}` has no place there", leaf.kind)));
        }
        match leaf.kind.as_str() {
            kind::LOG_ORIGIN => {
                let origin = leaf.extra.get("origin").ok_or_else(|| bad("it names no origin".to_owned()))?;
                self.origin.clone_from(origin);
                Arc::make_mut(&mut self.control).origin.clone_from(origin);
                Ok(Folded::Origin)
            }
            kind::ATTESTATION | kind::OBJECT => Ok(Folded::Evidence),
            kind::EVIDENCE_ERASED => Ok(Folded::Erased),
            // Anything else can turn a yes into a no, so what cannot be read here stops every yes.
            _ => {
                let body = body.ok_or_else(|| bad(format!("the body of this `{}` is gone", leaf.kind)))?;
                if Sha256::of(body).0 != leaf.body.sha256.0 || body.len() as u64 != leaf.body.size {
                    return Err(bad("its body is not the one that the leaf names".to_owned()));
                }
                let (entry, verifies) = read_control(body)
                    .map_err(|error| bad(format!("this version cannot read a `{}`: {error}", leaf.kind)))?;
                if kind_of(&entry) != leaf.kind {
                    return Err(bad(format!("its body is not a `{}`", leaf.kind)));
                }
                let entry = Arc::new(entry);
                self.take(ControlEntry { index, id: Sha256(leaf.id.0), entry: entry.clone() }, verifies);
                Ok(Folded::Control(entry))
            }
        }
    }
}

/// What an entry adds to verify with.
#[derive(Debug)]
pub enum Verifies {
    /// Nothing.
    Nothing,
    /// A key.
    Key(PublicKey),
    /// A version of a trust root.
    Root(Arc<Domain>),
}

impl Verifies {
    /// Adds it.
    pub fn join(self, trust: &mut Trust) {
        match self {
            Self::Nothing => {}
            Self::Key(key) => trust.insert_key(key),
            Self::Root(domain) => trust.insert_domain(domain),
        }
    }
}

/// A control entry from its body, and what it adds to verify with.
pub fn read_control(body: &[u8]) -> Result<(Entry, Verifies), String> {
    let entry: Entry = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let verifies = verifies(&entry)?;
    Ok((entry, verifies))
}

/// What an entry adds to verify with.
fn verifies(entry: &Entry) -> Result<Verifies, String> {
    match entry {
        Entry::TrustAdded(Added::Key(added)) => {
            let key =
                PublicKey::from_pem(&added.pem, Some(added.scheme)).map_err(|error| error.to_string())?;
            if key.id() != added.id {
                return Err(format!("the key is {}, not {}", key.id(), added.id));
            }
            Ok(Verifies::Key(key))
        }
        Entry::TrustAdded(Added::Root(root)) => Ok(Verifies::Root(Arc::new(root.read()?))),
        _ => Ok(Verifies::Nothing),
    }
}

/// The state after the entries of `history` before `size`.
pub fn state_at(history: &[ControlEntry], size: u64) -> Result<(Control, Trust), String> {
    let (mut control, mut trust) = (Control::default(), Trust::default());
    for known in history.iter().take_while(|known| known.index < size) {
        control.apply(known.index, &known.entry);
        verifies(&known.entry)?.join(&mut trust);
    }
    Ok((control, trust))
}

/// Whether the entry could be read back. One that could not would stop every yes of the tenant for good.
pub fn check(entry: &Entry) -> Result<(), String> {
    let body = serde_json::to_vec(entry).map_err(|error| error.to_string())?;
    let (again, _) = read_control(&body)?;
    if again == *entry { Ok(()) } else { Err("it would be read back as something else".to_owned()) }
}

/// The leaf's kind for a control entry.
pub fn kind_of(entry: &Entry) -> &'static str {
    match entry {
        Entry::TrustAdded(_) => kind::TRUST_ADDED,
        Entry::TrustEffective(_) => kind::TRUST_EFFECTIVE,
        Entry::TrustWithdrawn { .. } => kind::TRUST_WITHDRAWN,
        Entry::PolicyApplied { .. } => kind::POLICY_APPLIED,
        Entry::PolicyDrafted(_) => kind::POLICY_DRAFTED,
        Entry::PolicyTested(_) => kind::POLICY_TESTED,
        Entry::PolicyApproved(_) => kind::POLICY_APPROVED,
        Entry::PolicyActivated(_) => kind::POLICY_ACTIVATED,
        Entry::ExceptionRequested(_) => kind::EXCEPTION_REQUESTED,
        Entry::ExceptionApproved(_) => kind::EXCEPTION_APPROVED,
        Entry::ExceptionWithdrawn(_) => kind::EXCEPTION_WITHDRAWN,
        Entry::TrustRules(_) => kind::TRUST_RULES,
        Entry::TrustApproved(_) => kind::TRUST_APPROVED,
        Entry::TrustPinned(_) => kind::TRUST_PINNED,
        Entry::GroupSet(_) => kind::GROUP_SET,
        Entry::Revocation(_) => kind::REVOCATION,
        Entry::TokenCreated(_) => kind::TOKEN_CREATED,
        Entry::TokenRevoked { .. } => kind::TOKEN_REVOKED,
        Entry::TenantCreated { .. } => kind::TENANT_CREATED,
    }
}

#[cfg(test)]
mod tests {
    use catenary_tlog::Hash;

    use super::*;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn row(index: u64, leaf: &Leaf) -> EntryRow {
        EntryRow { index, id: Sha256(leaf.id.0), kind: leaf.kind.clone(), leaf: leaf.encode().unwrap() }
    }

    fn tenant_created() -> (Leaf, Vec<u8>) {
        let entry = Entry::TenantCreated { name: "acme".to_owned(), public_log: false };
        let body = serde_json::to_vec(&entry).unwrap();
        (Leaf::new(kind::TENANT_CREATED, time(1), &body, Hash([0; 32])), body)
    }

    fn begun() -> Fold {
        let mut fold = Fold::default();
        fold.push(&row(0, &Leaf::origin("o.example/acme", time(0))), None).unwrap();
        fold
    }

    #[test]
    fn entries_fold_into_state_and_tree() {
        let mut fold = begun();
        assert_eq!(fold.origin, "o.example/acme");
        let (leaf, body) = tenant_created();
        let folded = fold.push(&row(1, &leaf), Some(&body)).unwrap();
        assert!(matches!(folded, Folded::Control(_)));
        assert_eq!(fold.control.tenants.get("acme"), Some(&false));
        assert_eq!((fold.frontier.size(), fold.time), (2, Some(time(1))));
    }

    #[test]
    fn a_control_entry_without_its_exact_body_stops_the_fold() {
        let (leaf, body) = tenant_created();
        for wrong in [None, Some(b"{}".as_slice()), Some(&body[..body.len() - 1])] {
            assert!(begun().push(&row(1, &leaf), wrong).is_err());
        }
    }

    #[test]
    fn a_gap_a_wrong_column_an_older_time_and_an_unknown_kind_stop_the_fold() {
        let (leaf, body) = tenant_created();
        assert!(begun().push(&row(2, &leaf), Some(&body)).is_err());
        let mut other_id = row(1, &leaf);
        other_id.id = Sha256([9; 32]);
        assert!(begun().push(&other_id, Some(&body)).is_err());
        let older = Leaf::new(kind::OBJECT, time(-1), b"x", Hash([0; 32]));
        assert!(begun().push(&row(1, &older), None).is_err());
        let unknown = Leaf::new("exception.granted", time(1), b"{}", Hash([0; 32]));
        assert!(begun().push(&row(1, &unknown), Some(b"{}")).is_err());
        let origin = Leaf::origin("o.example/acme", time(1));
        assert!(begun().push(&row(1, &origin), None).is_err(), "only entry 0 is an origin");
        assert!(Fold::default().push(&row(0, &leaf), Some(&body)).is_err(), "and entry 0 is one");
    }
}
