//! The life of a policy: drafted, tested, approved by others, activated; every revision immutable.
//!
//! `metadata.approvals` of what is active says how many others must agree before something else takes its place. "Others" is
//! judged by principals: who made somebody's token could have used it, so the two count as one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use catenary_evidence::digest::Sha256;
use serde::{Deserialize, Serialize};

use crate::{
    control::{ActivePolicy, Control},
    policy::{self, Policy},
};

/// Most revisions of one name whose documents are kept in memory: open drafts, and those to go back to.
pub const MAX_REVISIONS: usize = 32;

/// The longest line of makers that is followed; tokens that make tokens hundreds deep are nobody's practice.
const MAX_MAKERS: usize = 1_000;

/// `policy.drafted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Drafted {
    /// `metadata.name`.
    pub name: String,
    /// The next of the name.
    pub revision: u64,
    /// The document exactly as it was sent.
    pub document: String,
    /// The principal.
    pub by: String,
}

/// `policy.tested`: the document's own tests were run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tested {
    /// `metadata.name`.
    pub name: String,
    /// The revision.
    pub revision: u64,
    /// 1, 2, 3 … per revision: the same result twice is two entries.
    pub run: u64,
    /// How many tests passed.
    pub passed: u64,
    /// How many did not.
    pub failed: u64,
    /// SHA-256 of each fixture that was sent.
    pub fixtures: BTreeMap<String, Sha256>,
    /// The principal.
    pub by: String,
}

/// `policy.approved`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approved {
    /// `metadata.name`.
    pub name: String,
    /// The revision.
    pub revision: u64,
    /// How often the name had been activated: an approval is of taking the place of what was active then, and lapses with it.
    pub round: u64,
    /// The principal.
    pub by: String,
}

/// `policy.activated`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Activated {
    /// `metadata.name`.
    pub name: String,
    /// The revision.
    pub revision: u64,
    /// How often the name had been activated before.
    pub round: u64,
    /// The principal.
    pub by: String,
}

/// What became of one policy name.
#[derive(Debug, Clone, Default)]
pub struct Life {
    /// The highest revision number so far.
    pub last: u64,
    /// How often a revision was activated.
    pub round: u64,
    /// The newest revisions, with their documents.
    pub revisions: BTreeMap<u64, Revision>,
}

/// A revision and what became of it.
#[derive(Debug, Clone)]
pub struct Revision {
    /// SHA-256 of the document's bytes.
    pub digest: Sha256,
    /// The document, exactly as it was sent.
    pub document: Arc<str>,
    /// Index of the entry that brought it.
    pub index: u64,
    /// Who drafted it; nobody is known of what was applied at once.
    pub by: Option<String>,
    /// Whether it was ever active.
    pub was_active: bool,
    /// The newest run of its tests.
    pub tested: Option<Tested>,
    /// Who approved that it takes the place of what is active now.
    pub approvals: BTreeSet<String>,
}

impl Life {
    fn keep(&mut self, number: u64, revision: Revision, active: Option<u64>) {
        self.last = self.last.max(number);
        self.revisions.entry(number).or_insert(revision);
        while self.revisions.len() > MAX_REVISIONS {
            let Some(oldest) = self.revisions.keys().copied().find(|known| Some(*known) != active) else {
                return;
            };
            self.revisions.remove(&oldest);
        }
    }

    /// A revision took the place of another: what was approved before was approved over that one.
    fn begin_round(&mut self) {
        self.round += 1;
        for revision in self.revisions.values_mut() {
            revision.approvals.clear();
        }
    }
}

impl Control {
    /// Folds `policy.applied`. What takes approvals is not applied at once: an entry that says so has no effect.
    pub(crate) fn policy_applied(&mut self, index: u64, name: &str, number: u64, document: &str) {
        if self.asked_for(name, document) > 0 {
            return;
        }
        let digest = Sha256::of(document.as_bytes());
        let document: Arc<str> = Arc::from(document);
        let life = self.lives.entry(name.to_owned()).or_default();
        let revision = Revision {
            digest,
            document: Arc::clone(&document),
            index,
            by: None,
            was_active: true,
            tested: None,
            approvals: BTreeSet::new(),
        };
        life.keep(number, revision, Some(number));
        life.begin_round();
        self.activate(name, number, digest, document);
    }

    /// Folds `policy.drafted`.
    pub(crate) fn policy_drafted(&mut self, index: u64, drafted: &Drafted) {
        let revision = Revision {
            digest: Sha256::of(drafted.document.as_bytes()),
            document: Arc::from(drafted.document.as_str()),
            index,
            by: Some(drafted.by.clone()),
            was_active: false,
            tested: None,
            approvals: BTreeSet::new(),
        };
        let active = self.policies.get(&drafted.name).map(|active| active.revision);
        self.lives.entry(drafted.name.clone()).or_default().keep(drafted.revision, revision, active);
    }

    /// Folds `policy.tested`.
    pub(crate) fn policy_tested(&mut self, tested: &Tested) {
        if let Some(revision) = self.revision_mut(&tested.name, tested.revision) {
            revision.tested = Some(tested.clone());
        }
    }

    /// Folds `policy.approved`.
    pub(crate) fn policy_approved(&mut self, approved: &Approved) {
        let round = self.lives.get(&approved.name).map(|life| life.round);
        if round == Some(approved.round)
            && let Some(revision) = self.revision_mut(&approved.name, approved.revision)
        {
            revision.approvals.insert(approved.by.clone());
        }
    }

    /// Folds `policy.activated`. Without enough approvals it has no effect. A revision that is not known any more stops every yes, as
    /// one that cannot be read does.
    pub(crate) fn policy_activated(&mut self, activated: &Activated) {
        let Activated { name, revision: number, by, .. } = activated;
        let revision = self.lives.get(name).and_then(|life| life.revisions.get(number));
        let document = revision.map(|revision| Arc::clone(&revision.document)).unwrap_or_default();
        let have = revision.map_or(0, |revision| self.approvals(revision, by));
        if have < self.asked_for(name, &document) {
            return;
        }
        let life = self.lives.entry(name.clone()).or_default();
        life.begin_round();
        let found = life.revisions.get_mut(number).map(|revision| {
            revision.was_active = true;
            (revision.digest, Arc::clone(&revision.document))
        });
        let (digest, document) = found.unwrap_or_else(|| (Sha256::of(b""), Arc::from("")));
        self.activate(name, *number, digest, document);
    }

    fn revision_mut(&mut self, name: &str, number: u64) -> Option<&mut Revision> {
        self.lives.get_mut(name)?.revisions.get_mut(&number)
    }

    fn activate(&mut self, name: &str, revision: u64, digest: Sha256, document: Arc<str>) {
        let policy = Policy::parse(&document).map(Arc::new).map_err(|e| e.to_string());
        let mut older = BTreeMap::new();
        if let Some(before) = self.policies.remove(name) {
            older = before.older;
            older.insert(before.digest, before.revision);
        }
        older.remove(&digest);
        let active = ActivePolicy { revision, digest, policy, document, older };
        self.policies.insert(name.to_owned(), active);
        self.epoch += 1;
    }

    /// How many others must approve before `document` becomes active under `name`, whether or not it can be read.
    fn asked_for(&self, name: &str, document: &str) -> u32 {
        let of_name = |active: &ActivePolicy| match &active.policy {
            Ok(policy) => policy.approvals(),
            Err(_) => policy::approvals_of(&active.document),
        };
        let same = self.policies.get(name).map_or(0, of_name);
        if self.policies.values().all(|active| of_name(active) == 0) {
            return 0;
        }
        Policy::parse(document).map_or(same, |policy| self.approvals_needed(&policy).max(same))
    }

    /// How many others must approve before `policy` may take its place: as many as what is active under its name asks for, or
    /// any policy whose questions it would answer from then on. Else a policy of another name were the way around.
    pub fn approvals_needed(&self, policy: &Policy) -> u32 {
        let replaced = |(name, active): &(&String, &ActivePolicy)| {
            name.as_str() == policy.name()
                || active.policy.as_ref().is_ok_and(|active| policy.overrides(active))
        };
        let asks = |(_, active): (&String, &ActivePolicy)| match &active.policy {
            Ok(policy) => policy.approvals(),
            // Another release could read it: what it asks for is not forgotten meanwhile.
            Err(_) => policy::approvals_of(&active.document),
        };
        self.policies.iter().filter(replaced).map(asks).max().unwrap_or(0)
    }

    /// How many approvals of others a revision has, when `activator` activates it.
    pub fn approvals(&self, revision: &Revision, activator: &str) -> u32 {
        // Whoever goes back to an old revision is the one who proposes it now.
        let proposers = revision.by.as_deref().into_iter().chain(revision.was_active.then_some(activator));
        let proposers: Vec<&str> = proposers.collect();
        self.others(&revision.approvals, &proposers)
    }

    /// How many different principals are in `approvers` beside `proposers`. Revoked tokens do not count.
    pub fn others<'a>(&self, approvers: impl IntoIterator<Item = &'a String>, proposers: &[&str]) -> u32 {
        let counts = |approver: &&String| {
            !self.is_revoked(approver)
                && !proposers.iter().any(|proposer| self.same_principal(approver, proposer))
        };
        let counted: Vec<&String> = approvers.into_iter().filter(counts).collect();
        // Of a maker and those it made tokens for, those: they may be different people.
        let made_another = |maker: &&&String| {
            counted.iter().any(|other| other != *maker && self.makers(other).any(|m| m == maker.as_str()))
        };
        let distinct = counted.iter().filter(|approver| !made_another(approver)).count();
        u32::try_from(distinct).unwrap_or(u32::MAX)
    }

    /// Whether two principals may be one: they are, or one made the other's token.
    pub fn same_principal(&self, a: &str, b: &str) -> bool {
        a == b || self.makers(a).any(|maker| maker == b) || self.makers(b).any(|maker| maker == a)
    }

    /// Who made a principal's token, who made theirs, and so on.
    fn makers<'a>(&'a self, principal: &str) -> impl Iterator<Item = &'a str> {
        let maker = |principal: &str| {
            let id = principal.strip_prefix(TOKEN)?;
            self.tokens.get(id)?.token.by.as_deref()
        };
        std::iter::successors(maker(principal), move |made| maker(made)).take(MAX_MAKERS)
    }

    fn is_revoked(&self, principal: &str) -> bool {
        let id = principal.strip_prefix(TOKEN);
        id.and_then(|id| self.tokens.get(id)).is_some_and(|state| state.revoked)
    }
}

/// What principals that are API tokens begin with.
pub const TOKEN: &str = "token:";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Entry, Token};

    fn document(name: &str, approvals: u32, more: &str) -> String {
        format!(
            "{{apiVersion: catenary/v1, kind: ChainPolicy, metadata: {{name: {name}, approvals: {approvals}}}, spec: {{github: acme/shop{more}}}}}"
        )
    }

    struct Log(Control, u64);

    impl Log {
        fn new() -> Self {
            Self(Control::default(), 0)
        }

        fn push(&mut self, entry: Entry) {
            self.1 += 1;
            self.0.apply(self.1, &entry);
        }

        fn token(&mut self, id: &str, by: Option<&str>) {
            let by = by.map(|by| format!("token:{by}"));
            let hash = Sha256::of(id.as_bytes());
            let expires = "2027-01-01T00:00:00Z".parse().unwrap();
            self.push(Entry::TokenCreated(Token {
                id: id.into(),
                hash,
                role: "admin".into(),
                name: id.into(),
                expires,
                repositories: Vec::new(),
                predicate_types: Vec::new(),
                by,
            }));
        }

        fn draft(&mut self, revision: u64, document: String, by: &str) {
            let by = format!("token:{by}");
            self.push(Entry::PolicyDrafted(Drafted { name: "p".into(), revision, document, by }));
        }

        fn approve(&mut self, revision: u64, by: &str) {
            let round = self.0.lives["p"].round;
            let by = format!("token:{by}");
            self.push(Entry::PolicyApproved(Approved { name: "p".into(), revision, round, by }));
        }

        fn activate(&mut self, revision: u64, by: &str) {
            let round = self.0.lives["p"].round;
            let by = format!("token:{by}");
            self.push(Entry::PolicyActivated(Activated { name: "p".into(), revision, round, by }));
        }

        fn approvals(&self, revision: u64, by: &str) -> u32 {
            self.0.approvals(&self.0.lives["p"].revisions[&revision], &format!("token:{by}"))
        }
    }

    fn people() -> Log {
        let mut log = Log::new();
        for (id, by) in [
            ("root", None),
            ("ann", Some("root")),
            ("bob", Some("root")),
            ("ann2", Some("ann")),
            ("cy", Some("root")),
        ] {
            log.token(id, by);
        }
        let document = document("p", 1, "");
        log.push(Entry::PolicyApplied { name: "p".into(), revision: 1, document });
        log
    }

    #[test]
    fn o15_nobody_approves_a_draft_of_their_own() {
        let mut log = people();
        log.draft(2, document("p", 0, ""), "ann");
        assert_eq!(log.approvals(2, "ann"), 0);
        log.approve(2, "ann");
        assert_eq!(log.approvals(2, "ann"), 0, "the drafter");
        log.approve(2, "ann2");
        assert_eq!(log.approvals(2, "ann"), 0, "a token that the drafter made");
        log.approve(2, "root");
        assert_eq!(log.approvals(2, "ann"), 0, "who made the drafter's token has it");
        log.approve(2, "bob");
        assert_eq!(log.approvals(2, "ann"), 1);
        log.approve(2, "cy");
        assert_eq!(log.approvals(2, "ann"), 2);
        log.push(Entry::TokenRevoked { id: "bob".into(), reason: "lost".into() });
        assert_eq!(log.approvals(2, "ann"), 1, "a revoked token approved nothing");
    }

    #[test]
    fn an_approver_and_a_token_of_theirs_are_one() {
        let mut log = people();
        log.draft(2, document("p", 0, ""), "bob");
        log.approve(2, "ann");
        log.approve(2, "ann2");
        assert_eq!(log.approvals(2, "bob"), 1);
        log.approve(2, "cy");
        assert_eq!(log.approvals(2, "bob"), 2);
    }

    #[test]
    fn approvals_lapse_with_what_they_were_given_over() {
        let mut log = people();
        log.draft(2, document("p", 1, ", mode: warn"), "ann");
        log.draft(3, document("p", 1, ", mode: shadow"), "ann");
        log.approve(2, "bob");
        log.approve(3, "bob");
        log.activate(2, "ann");
        assert_eq!(log.0.policies["p"].revision, 2);
        assert_eq!(log.approvals(3, "ann"), 0);
        // An approval that was on its way when the round ended is of the round before.
        log.push(Entry::PolicyApproved(Approved {
            name: "p".into(),
            revision: 3,
            round: 1,
            by: "token:bob".into(),
        }));
        assert_eq!(log.approvals(3, "ann"), 0);
    }

    #[test]
    fn p08_going_back_takes_others_again_beside_the_one_who_goes_back() {
        let mut log = people();
        log.draft(2, document("p", 1, ", mode: warn"), "ann");
        log.approve(2, "bob");
        log.activate(2, "ann");
        let old = log.0.lives["p"].revisions[&1].digest;
        assert_eq!(log.0.policies["p"].older.get(&old), Some(&1));
        log.approve(1, "bob");
        assert_eq!(log.approvals(1, "bob"), 0, "bob alone");
        assert_eq!(log.approvals(1, "cy"), 1);
        log.activate(1, "cy");
        let active = &log.0.policies["p"];
        assert_eq!((active.revision, active.digest), (1, old));
        assert!(!active.older.contains_key(&old) && active.older.len() == 1);
    }

    #[test]
    fn another_name_is_no_way_around_approvals() {
        let log = people();
        let needed = |name: &str, more: &str| {
            log.0.approvals_needed(&Policy::parse(&document(name, 0, more)).unwrap())
        };
        assert_eq!(needed("p", ""), 1);
        assert_eq!(needed("q", ""), 0, "equal priority decides nothing");
        let wide = |resource: &str| format!(", match: {{resources: [\"{resource}\"], priority: 9}}");
        assert_eq!(needed("q", &wide("ghcr.io/acme/shop")), 1);
        assert_eq!(needed("q", &wide("ghcr.io/**")), 1);
        assert_eq!(needed("q", &wide("**")), 1);
        assert_eq!(needed("q", &wide("ghcr.io/other/**")), 0);
    }

    #[test]
    fn o15_an_activation_without_approvals_has_no_effect_whatever_the_log_says() {
        let mut log = people();
        let active = |log: &Log| log.0.policies["p"].revision;
        log.push(Entry::PolicyApplied { name: "p".into(), revision: 2, document: document("p", 0, "") });
        assert_eq!(active(&log), 1, "applied past the approvals");
        log.draft(3, document("p", 0, ", mode: warn"), "ann");
        log.activate(3, "ann");
        assert_eq!(active(&log), 1, "nobody approved");
        log.approve(3, "ann2");
        log.activate(3, "ann");
        assert_eq!(active(&log), 1, "a token of the drafter's own");
        let wide = document("q", 0, ", match: {resources: [\"ghcr.io/**\"], priority: 9}");
        log.push(Entry::PolicyApplied { name: "q".into(), revision: 1, document: wide });
        assert!(!log.0.policies.contains_key("q"), "another name is no way around");
        log.activate(99, "ann");
        assert_eq!(active(&log), 1, "a revision that is not there");
        assert!(log.0.policies["p"].policy.is_ok());
        log.approve(3, "bob");
        log.activate(3, "ann");
        assert_eq!(active(&log), 3);
        log.push(Entry::PolicyApplied { name: "p".into(), revision: 4, document: document("p", 1, "") });
        assert_eq!(active(&log), 4, "what is active now asks for none");
    }

    #[test]
    fn only_so_many_revisions_are_kept() {
        let mut log = people();
        log.draft(2, document("p", 0, ", mode: shadow"), "ann");
        log.approve(2, "bob");
        log.activate(2, "ann");
        for revision in 3..100 {
            log.draft(revision, document("p", 0, &format!(", time: {{skew: {revision}s}}")), "ann");
        }
        let life = &log.0.lives["p"];
        assert_eq!((life.revisions.len(), life.last), (MAX_REVISIONS, 99));
        assert!(life.revisions.contains_key(&2), "what is active stays");
        log.activate(3, "ann");
        assert!(log.0.policies["p"].policy.is_err(), "what is not there any more is no yes");
    }
}
