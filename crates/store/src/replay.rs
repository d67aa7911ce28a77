//! A log in memory, for replaying verdicts without a database: entries go in one by one, each checked, and verdicts
//! are evaluated at the sizes that they were computed at.
//!
//! What is gathered for a question is what [`Store::gather`](crate::Store::gather) gathers, within the same limits. Evidence is verified from
//! its bytes under all trust that was added before the size that is asked about, as the service does: what is
//! stored is verified again whenever trust is added, before that trust is effective.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use catenary_chain::{
    Control, Evidence, Gather, Question, Verdict, evaluate,
    gather::{Logged, Want},
    verdict::LogView,
};
use catenary_evidence::{
    Signature, Trust,
    attestation::{self, Attestation},
    digest::{Node, Sha256},
    object::{self, Object},
};
use catenary_tlog::{Hash, Leaf, leaf::kind};
use jiff::Timestamp;
use thiserror::Error;

use crate::{
    EntryRow,
    facts::children,
    follow::fold::{Fold, Folded},
    gather::{MAX_PER_NODE, NEAR_MISSES, note_heirs, note_parents},
};

/// Why an entry is not believed.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The log does not hold together there.
    #[error("{0}")]
    Broken(String),
    /// The body is not the one that the leaf names.
    #[error("entry {index}: the body is not the one that was logged")]
    Body {
        /// The entry.
        index: u64,
    },
    /// Evidence that no service can have taken in.
    #[error("entry {index}: {why}")]
    Evidence {
        /// The entry.
        index: u64,
        /// Why.
        why: String,
    },
}

/// An attestation with its bytes.
struct Statement {
    index: u64,
    time: Timestamp,
    bytes: Vec<u8>,
    fact: Attestation,
    /// The facts before trust was added that is not effective yet.
    before: Option<Box<Attestation>>,
}

/// An object with its bytes.
struct Thing {
    index: u64,
    time: Timestamp,
    bytes: Vec<u8>,
    media_type: String,
    fact: Object,
}

/// The first entries of a log.
#[derive(Default)]
pub struct Replay {
    fold: Fold,
    statements: Vec<Statement>,
    objects: BTreeMap<Node, Thing>,
    /// Statements about a node, in the order of the log.
    about: HashMap<Node, Vec<usize>>,
    /// Objects that name a node, in the order of the log.
    parents: HashMap<String, Vec<Node>>,
    /// Entries that added trust, and how many of them the facts know.
    added: u64,
    verified: u64,
}

impl Replay {
    /// Takes the next entry with its body.
    pub fn push(&mut self, index: u64, leaf_bytes: &[u8], body: &[u8]) -> Result<(), ReplayError> {
        let broken = |why: String| ReplayError::Broken(why);
        let leaf = Leaf::decode(leaf_bytes).map_err(|error| broken(format!("entry {index}: {error}")))?;
        if leaf.body.sha256 != Hash::of(body) || leaf.body.size != body.len() as u64 {
            return Err(ReplayError::Body { index });
        }
        let (id, kind_name) = (Sha256(leaf.id.0), leaf.kind.clone());
        let row = EntryRow { index, id, kind: kind_name, leaf: leaf_bytes.to_vec() };
        let folded = self.fold.push(&row, Some(body)).map_err(|error| broken(error.to_string()))?;
        match folded {
            Folded::Evidence if leaf.kind == kind::ATTESTATION => self.add_statement(index, &leaf, body),
            Folded::Evidence => self.add_object(index, &leaf, body),
            Folded::Control(_) if leaf.kind == kind::TRUST_ADDED => {
                self.added += 1;
                Ok(())
            }
            Folded::Control(_) | Folded::Origin | Folded::Erased => Ok(()),
        }
    }

    fn add_statement(&mut self, index: u64, leaf: &Leaf, body: &[u8]) -> Result<(), ReplayError> {
        self.refresh();
        let fact = attestation::verify(body, &self.fold.trust);
        let fact = fact.map_err(|why| ReplayError::Evidence { index, why: why.to_string() })?;
        for node in fact.subject_nodes() {
            self.about.entry(node).or_default().push(self.statements.len());
        }
        let bytes = body.to_vec();
        self.statements.push(Statement { index, time: leaf.time, bytes, fact, before: None });
        Ok(())
    }

    fn add_object(&mut self, index: u64, leaf: &Leaf, body: &[u8]) -> Result<(), ReplayError> {
        self.refresh();
        let refused = |why: String| ReplayError::Evidence { index, why };
        let member = |name: &str| leaf.extra.get(name).cloned().unwrap_or_default();
        let media_type = member("mediaType");
        let node: Node = member("node").parse().map_err(|_| refused("it names no node".into()))?;
        let fact = object::read(&media_type, body, &self.fold.trust, Some(node))
            .map_err(|why| refused(why.to_string()))?;
        for child in children(&fact) {
            self.parents.entry(child).or_default().push(fact.node);
        }
        let thing = Thing { index, time: leaf.time, bytes: body.to_vec(), media_type, fact };
        self.objects.entry(node).or_insert(thing);
        Ok(())
    }

    /// Verifies everything again under the trust that was added since.
    fn refresh(&mut self) {
        if self.verified == self.added {
            return;
        }
        self.verified = self.added;
        for statement in &mut self.statements {
            statement.before = None;
            if let Some(fact) = verified_again(statement, &self.fold.trust) {
                statement.before = Some(Box::new(std::mem::replace(&mut statement.fact, fact)));
            }
        }
        for thing in self.objects.values_mut().filter(|thing| matches!(thing.fact.node, Node::Git(_))) {
            let node = Some(thing.fact.node);
            if let Ok(fact) = object::read(&thing.media_type, &thing.bytes, &self.fold.trust, node) {
                thing.fact = fact;
            }
        }
    }

    /// Entries so far.
    pub fn size(&self) -> u64 {
        self.fold.frontier.size()
    }

    /// The root over them.
    pub fn root(&self) -> Hash {
        self.fold.frontier.root()
    }

    /// Name of the log.
    pub fn origin(&self) -> &str {
        &self.fold.origin
    }

    /// What the tenant trusts.
    pub fn control(&self) -> &Control {
        &self.fold.control
    }

    /// Prepares for [`Replay::verdicts`] at this size.
    pub fn settle(&mut self) {
        self.refresh();
    }

    /// The verdict on a question at this size. Between `trust.added` and `trust.effective` the service may have read stored
    /// facts as they were before: then there are two, which differ in near misses at most.
    pub fn verdicts(&self, question: &Question, now: Timestamp) -> Vec<Verdict> {
        let mut verdicts = vec![self.evaluate(question, now, false)];
        if self.is_trust_pending() {
            verdicts.push(self.evaluate(question, now, true));
        }
        verdicts
    }

    fn is_trust_pending(&self) -> bool {
        let control = &self.fold.control;
        control.keys.values().any(|key| key.effective_at.is_none())
            || control.domains.values().flat_map(|d| &d.versions).any(|root| root.effective_at.is_none())
    }

    fn evaluate(&self, question: &Question, now: Timestamp, before: bool) -> Verdict {
        let control = &self.fold.control;
        let mut evidence = Evidence::default();
        let mut gather = Gather::new(question, control);
        while let Some(want) = gather.next(&evidence) {
            self.gather(&want, before, &mut evidence);
        }
        let log = LogView { size: self.size(), root: Sha256(self.root().0) };
        evaluate(question, control, &evidence, log, now)
    }

    /// What the store answers for a frontier.
    fn gather(&self, want: &Want, before: bool, into: &mut Evidence) {
        let mut signers: BTreeSet<String> = want.by.signers.iter().map(ToString::to_string).collect();
        signers.extend(self.identities(want));
        let wanted: BTreeSet<Node> = want.nodes.iter().copied().collect();
        for node in self.family(want, &signers) {
            let Some(thing) = self.objects.get(&node) else { continue };
            note_parents(&wanted, &thing.fact, &mut into.parents);
            note_heirs(&wanted, &thing.fact, into);
            if wanted.contains(&node) {
                let logged = Logged { index: thing.index, received_at: thing.time, fact: thing.fact.clone() };
                into.objects.insert(node, Arc::new(logged));
            }
        }
        for node in &wanted {
            let Node::Content(digest) = node else { continue };
            if into.parents.get(digest).is_some_and(|parents| parents.len() > MAX_PER_NODE) {
                into.truncated.insert(*node);
            }
        }
        for node in &want.nodes {
            self.pick(*node, &signers, before, into);
        }
    }

    /// The certificate identities that a policy trusts among those that speak about the nodes or their parents.
    fn identities(&self, want: &Want) -> BTreeSet<String> {
        if want.by.identities.is_empty() {
            return BTreeSet::new();
        }
        let parents = want.nodes.iter().flat_map(|node| self.named_by(*node));
        let statements = want.nodes.iter().copied().chain(parents).flat_map(|node| self.about(node));
        let keys = statements.flat_map(|s| s.fact.signers()).filter(|s| s.identity().is_some());
        let keys: BTreeSet<String> = keys.map(|signer| signer.index_key()).collect();
        keys.into_iter().filter(|key| want.by.identities.iter().any(|rule| rule.may_name(key))).collect()
    }

    fn about(&self, node: Node) -> impl Iterator<Item = &Statement> {
        self.about.get(&node).into_iter().flatten().filter_map(|at| self.statements.get(*at))
    }

    fn named_by(&self, node: Node) -> impl Iterator<Item = Node> {
        self.parents.get(&node.to_string()).into_iter().flatten().copied()
    }

    /// The nodes and their parents, each within its limit.
    fn family(&self, want: &Want, signers: &BTreeSet<String>) -> BTreeSet<Node> {
        let mut family: BTreeSet<Node> = want.nodes.iter().copied().collect();
        let spoken_for = |parent: &Node| {
            self.about(*parent).any(|s| rows(&s.fact).iter().any(|row| signers.contains(row)))
        };
        for node in &want.nodes {
            let others = if matches!(node, Node::Git(_)) { MAX_PER_NODE + 1 } else { NEAR_MISSES };
            family.extend(self.named_by(*node).take(others));
            family.extend(self.named_by(*node).filter(spoken_for).take(MAX_PER_NODE + 1));
        }
        family
    }

    /// The statements about a node: all of wanted signers up to the limit, a few of others.
    fn pick(&self, node: Node, signers: &BTreeSet<String>, before: bool, into: &mut Evidence) {
        let (mut wanted, mut others) = (0, 0);
        for statement in self.about(node) {
            let fact = match &statement.before {
                Some(older) if before => older,
                _ => &statement.fact,
            };
            let rows = rows(fact);
            let mut picked = false;
            if rows.iter().any(|row| signers.contains(row)) {
                wanted += 1;
                if wanted <= MAX_PER_NODE {
                    picked = true;
                } else {
                    into.truncated.insert(node);
                }
            }
            if others < NEAR_MISSES && rows.iter().any(|row| !signers.contains(row)) {
                others += 1;
                picked = true;
            }
            if picked {
                into.add_attestation(statement.index, statement.time, fact.clone());
            }
        }
    }
}

/// The signers under which a statement is found.
fn rows(fact: &Attestation) -> Vec<String> {
    let mut signers: Vec<String> = fact.signers().map(|signer| signer.index_key()).collect();
    if signers.is_empty() {
        signers.push(String::new());
    }
    signers
}

/// The facts with what the added trust vouches for, when that changes them; as in `reverify`.
fn verified_again(statement: &Statement, trust: &Trust) -> Option<Attestation> {
    // Evidence that proves wrong under the new trust stays as it is: in the log, and not counting for it.
    let mut fact = attestation::verify(&statement.bytes, trust).ok()?;
    let old = &statement.fact;
    let kept = old.signatures.iter().filter(|s| fact.signers().all(|signer| *signer != s.signer));
    let kept: Vec<Signature> = kept.cloned().collect();
    fact.signatures.extend(kept);
    fact.signatures.sort();
    (fact.signatures != old.signatures).then_some(fact)
}
