//! The two-person rule for trust: what one administrator adds counts once others have approved it.
//!
//! The rule is an entry of the log, and so is each approval. Whether there are enough is decided in the fold, at the entry that
//! would make the addition count: one that somebody wrote without them has no effect. Taking trust away needs nobody else.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::KeyId;
use serde::{Deserialize, Serialize};

use crate::control::{Control, EffectiveRoot, GroupSet};

/// The most approvals that can be asked for: more are a way to lock oneself out.
pub const MAX_APPROVALS: u32 = 16;

/// Most group changes that wait at once; the oldest is forgotten.
const MAX_WAITING: usize = 64;

/// `trust.rules`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustRules {
    /// How many others must approve what one adds.
    pub approvals: u32,
    /// How often the rule had been changed before.
    pub round: u64,
    /// The principal.
    pub by: String,
}

/// `trust.approved`: whoever adds something approves it, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustApproved {
    /// What.
    pub change: Change,
    /// The principal.
    pub by: String,
}

/// What can be approved. Each names bytes of the log that do not change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// A key that was added.
    Key(KeyId),
    /// A version of a root that was added.
    Root(EffectiveRoot),
    /// Members of a group, by the index of their entry.
    Group(u64),
    /// A weaker rule than the present one.
    Rules {
        /// How many approvals it asks for.
        approvals: u32,
        /// How often the rule had been changed before.
        round: u64,
    },
}

/// The rule, and what waits for approvals.
#[derive(Debug, Clone, Default)]
pub struct Consent {
    /// How many others must approve; 0 is the rule of one.
    pub approvals: u32,
    /// How often the rule was changed.
    pub round: u64,
    /// Who stands behind a change that does not count yet.
    pub given: BTreeMap<Change, BTreeSet<String>>,
    /// Members of groups that wait, by the index of their entry.
    pub groups: BTreeMap<u64, GroupSet>,
}

impl Control {
    /// Whether enough people stand behind a change: one, and as many others as the rule asks for. Revoked tokens do not count, and
    /// of a principal and a token that it made, one does.
    pub fn is_agreed(&self, change: &Change) -> bool {
        self.missing(change) == 0
    }

    /// How many are missing.
    pub fn missing(&self, change: &Change) -> u32 {
        self.missing_with(change, None)
    }

    /// How many would be missing if somebody stood behind it, too.
    pub fn missing_with(&self, change: &Change, by: Option<&String>) -> u32 {
        match self.consent.approvals {
            0 => 0,
            others => {
                let given: BTreeSet<&String> =
                    self.consent.given.get(change).into_iter().flatten().chain(by).collect();
                (others + 1).saturating_sub(self.others(given, &[]))
            }
        }
    }

    /// Folds `trust.rules`. A stricter rule counts at once; a weaker one is a change like any other.
    pub(crate) fn trust_rules(&mut self, rules: &TrustRules) {
        let TrustRules { approvals, round, .. } = *rules;
        let stricter = approvals >= self.consent.approvals;
        let current = round == self.consent.round && approvals <= MAX_APPROVALS;
        if current && (stricter || self.is_agreed(&Change::Rules { approvals, round })) {
            self.consent.approvals = approvals;
            self.consent.round += 1;
            self.consent.given.retain(|change, _| !matches!(change, Change::Rules { .. }));
        }
    }

    /// Folds `trust.approved`.
    pub(crate) fn trust_approved(&mut self, approved: &TrustApproved) {
        self.consent.given.entry(approved.change.clone()).or_default().insert(approved.by.clone());
        if let Change::Group(index) = approved.change {
            self.settle_group(index);
        }
    }

    /// Folds `group.set`.
    pub(crate) fn group_set(&mut self, index: u64, group: &GroupSet) {
        self.consent.groups.insert(index, group.clone());
        self.consent.given.entry(Change::Group(index)).or_default().insert(group.by.clone());
        while self.consent.groups.len() > MAX_WAITING {
            let Some((oldest, _)) = self.consent.groups.pop_first() else { break };
            self.consent.given.remove(&Change::Group(oldest));
        }
        self.settle_group(index);
    }

    /// Members that enough people stand behind are the group's from here on; what waited for it before lapses.
    fn settle_group(&mut self, index: u64) {
        let Some(group) = self.consent.groups.get(&index).filter(|_| self.is_agreed(&Change::Group(index)))
        else {
            return;
        };
        let group = group.clone();
        self.consent.groups.retain(|known, waiting| *known > index || waiting.name != group.name);
        let waiting = &self.consent.groups;
        self.consent
            .given
            .retain(|change, _| !matches!(change, Change::Group(known) if !waiting.contains_key(known)));
        match group.keys.is_empty() && group.principals.is_empty() {
            true => self.groups.remove(&group.name),
            false => self.groups.insert(group.name.clone(), group),
        };
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests {
    use catenary_evidence::Sha256;

    use super::*;
    use crate::control::{Entry, Token, TrustedKey};

    struct Log(Control, u64);

    impl Log {
        /// People with tokens of their own, and a token that ann made.
        fn asking_for(approvals: u32) -> Self {
            let mut log = Self(Control::default(), 0);
            for (id, by) in [("ann", "root"), ("bob", "root"), ("cy", "root"), ("ann2", "ann")] {
                log.push(Entry::TokenCreated(Token {
                    id: id.into(),
                    hash: Sha256::of(id.as_bytes()),
                    role: "admin".into(),
                    name: id.into(),
                    expires: "2027-01-01T00:00:00Z".parse().unwrap(),
                    repositories: Vec::new(),
                    predicate_types: Vec::new(),
                    by: Some(format!("token:{by}")),
                }));
            }
            log.rules(approvals, "ann");
            log
        }

        fn push(&mut self, entry: Entry) -> u64 {
            let text = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry, "{text}");
            self.1 += 1;
            self.0.apply(self.1, &entry);
            self.1
        }

        fn rules(&mut self, approvals: u32, by: &str) -> u32 {
            let round = self.0.consent.round;
            self.push(Entry::TrustRules(TrustRules { approvals, round, by: format!("token:{by}") }));
            self.0.consent.approvals
        }

        fn approve(&mut self, change: &Change, by: &str) {
            let (change, by) = (change.clone(), format!("token:{by}"));
            self.push(Entry::TrustApproved(TrustApproved { change, by }));
        }

        fn add_key(&mut self) {
            self.push(Entry::TrustAdded(
                TrustedKey {
                    id: key(),
                    name: "k".into(),
                    pem: String::new(),
                    scheme: catenary_evidence::Scheme::Ed25519,
                    service: None,
                    valid_from: None,
                    valid_until: None,
                }
                .into(),
            ));
        }

        /// Whether an entry that says that the key is effective makes it so.
        fn is_effective(&mut self) -> bool {
            self.push(Entry::TrustEffective(key().into()));
            self.0.keys[&key()].effective_at.is_some()
        }

        fn group(&mut self, members: &[&str], by: &str) -> u64 {
            let principals = members.iter().map(|m| format!("token:{m}")).collect();
            self.push(Entry::GroupSet(GroupSet {
                name: "security".into(),
                keys: Vec::new(),
                principals,
                by: format!("token:{by}"),
            }))
        }

        fn members(&self) -> Vec<String> {
            self.0.groups.get("security").map(|group| group.principals.clone()).unwrap_or_default()
        }
    }

    fn key() -> KeyId {
        KeyId(Sha256::of(b"key"))
    }

    #[test]
    fn o15_a_key_that_nobody_else_approved_has_no_effect_whatever_the_log_says() {
        let mut log = Log::asking_for(1);
        let change = Change::Key(key());
        log.add_key();
        assert!(!log.is_effective(), "nobody stands behind it");
        log.approve(&change, "ann");
        assert!(!log.is_effective(), "one administrator");
        log.approve(&change, "ann");
        log.approve(&change, "ann2");
        assert!(!log.is_effective(), "and a token that they made");
        assert_eq!(log.0.missing(&change), 1);
        log.approve(&change, "bob");
        log.push(Entry::TokenRevoked { id: "bob".into(), reason: "lost".into() });
        assert!(!log.is_effective(), "a revoked token");
        log.approve(&change, "cy");
        assert!(log.is_effective(), "two people");
    }

    #[test]
    fn o15_a_version_of_a_root_waits_for_another_administrator() {
        use catenary_evidence::trust_root::Rules;

        use crate::control::{Added, Effective, RootVersion};
        let mut log = Log::asking_for(1);
        let root = EffectiveRoot { domain: "acme".into(), version: 1 };
        let (domain, document) = (root.domain.clone(), String::new());
        let digest = Sha256::of(b"");
        let added = RootVersion {
            domain,
            version: 1,
            digest,
            rules: Rules::default(),
            added_on: None,
            document,
            witnesses: None,
        };
        log.push(Entry::TrustAdded(Added::Root(added)));
        let effective = |log: &mut Log| {
            log.push(Entry::TrustEffective(Effective::Root(root.clone())));
            log.0.domains["acme"].versions[0].effective_at.is_some()
        };
        let change = Change::Root(root.clone());
        log.approve(&change, "ann");
        assert!(!effective(&mut log));
        log.approve(&Change::Root(EffectiveRoot { version: 2, ..root.clone() }), "bob");
        assert!(!effective(&mut log), "another version");
        log.approve(&change, "bob");
        assert!(effective(&mut log));
    }

    #[test]
    fn one_is_enough_where_nobody_asks_for_more() {
        let mut log = Log::asking_for(0);
        log.add_key();
        assert!(log.is_effective());
        log.group(&["bob"], "ann");
        assert_eq!(log.members(), ["token:bob"]);
    }

    #[test]
    fn members_of_a_group_wait_and_lapse_with_what_takes_their_place() {
        let mut log = Log::asking_for(1);
        let first = log.group(&["ann2"], "ann");
        assert!(log.members().is_empty());
        let second = log.group(&["cy"], "bob");
        log.approve(&Change::Group(second), "ann");
        assert_eq!(log.members(), ["token:cy"]);
        log.approve(&Change::Group(first), "bob");
        assert_eq!(log.members(), ["token:cy"], "what is older does not come back");
        let gone = log.group(&[], "cy");
        assert_eq!(log.members(), ["token:cy"]);
        log.approve(&Change::Group(gone), "bob");
        assert!(log.0.groups.is_empty() && log.0.consent.groups.is_empty() && log.0.consent.given.is_empty());
    }

    #[test]
    fn o15_the_rule_itself_is_not_weakened_by_one() {
        let mut log = Log::asking_for(1);
        assert_eq!(log.rules(0, "ann"), 1);
        let weaker = Change::Rules { approvals: 0, round: log.0.consent.round };
        log.approve(&weaker, "ann");
        log.approve(&weaker, "ann2");
        assert_eq!(log.rules(0, "ann"), 1);
        assert_eq!(log.rules(2, "ann"), 2, "a stricter one is");
        log.approve(&weaker, "bob");
        assert_eq!(log.rules(0, "ann"), 2, "what was approved of another rule");
        let weaker = Change::Rules { approvals: 0, round: log.0.consent.round };
        for by in ["ann", "bob", "cy"] {
            log.approve(&weaker, by);
        }
        assert_eq!(log.rules(0, "ann"), 0);
        assert_eq!(log.rules(MAX_APPROVALS + 1, "ann"), 0, "nobody has so many people");
    }
}
