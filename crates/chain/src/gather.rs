//! What a verdict reads, and how it is fetched frontier by frontier.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use catenary_evidence::{
    KeyId,
    attestation::Attestation,
    digest::{Digest, GitOid, Node, Sha256},
    object::{Body, Object},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    control::{Control, WriteSet},
    policy::IdentityRule,
    verdict::Question,
};

/// A fact and its place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logged<T> {
    /// Index of its entry.
    pub index: u64,
    /// Time of its entry: our upper bound for when it was signed.
    pub received_at: Timestamp,
    /// The fact.
    pub fact: T,
}

/// The evidence in `log[0..N)` that can matter to one question. Filled by the caller; [`crate::evaluate()`] only reads.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Attestations by id. Must hold, for every wanted node, all attestations about it that a wanted signer
    /// vouches for, and may hold others (near misses).
    pub attestations: BTreeMap<Sha256, Arc<Logged<Attestation>>>,
    /// Objects by the node that they prove.
    pub objects: BTreeMap<Node, Arc<Logged<Object>>>,
    /// Known indexes that contain a manifest: child digest to index digests.
    pub parents: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Known git objects that name another: commits that come after it, tags of it.
    pub heirs: BTreeMap<GitOid, BTreeSet<GitOid>>,
    /// Nodes whose attestations were cut at the store's limit: whatever needs them is INDETERMINATE.
    pub truncated: BTreeSet<Node>,
    /// Evidence whose stored bytes no longer match their hash: it counts as absent and is named (SYS_INTEGRITY_VIOLATION).
    pub damaged: BTreeSet<Sha256>,
}

impl Evidence {
    /// Adds an attestation; the second time is harmless.
    pub fn add_attestation(&mut self, index: u64, received_at: Timestamp, fact: Attestation) {
        self.attestations.entry(fact.id).or_insert_with(|| Arc::new(Logged { index, received_at, fact }));
    }

    /// Adds an object, and for an index that it contains its children.
    pub fn add_object(&mut self, index: u64, received_at: Timestamp, fact: Object) {
        if let (Node::Content(parent), Body::Index(body)) = (fact.node, &fact.body) {
            for child in &body.children {
                self.add_parent(child.digest, parent);
            }
        }
        if let Node::Git(heir) = fact.node {
            for named in fact.body.git_names() {
                self.add_heir(named, heir);
            }
        }
        self.objects.entry(fact.node).or_insert_with(|| Arc::new(Logged { index, received_at, fact }));
    }

    /// Adds that the git object `heir` names `named`.
    pub fn add_heir(&mut self, named: GitOid, heir: GitOid) {
        self.heirs.entry(named).or_default().insert(heir);
    }

    /// Adds that the index `parent` contains `child`.
    pub fn add_parent(&mut self, child: Digest, parent: Digest) {
        self.parents.entry(child).or_default().insert(parent);
    }

    /// Adds everything of `other`.
    pub fn merge(&mut self, other: Self) {
        for (id, logged) in other.attestations {
            self.attestations.entry(id).or_insert(logged);
        }
        for (node, logged) in other.objects {
            self.objects.entry(node).or_insert(logged);
        }
        for (child, parents) in other.parents {
            self.parents.entry(child).or_default().extend(parents);
        }
        for (named, heirs) in other.heirs {
            self.heirs.entry(named).or_default().extend(heirs);
        }
        self.truncated.extend(other.truncated);
        self.damaged.extend(other.damaged);
    }
}

/// One frontier: what the store is asked for in one round trip.
#[derive(Debug, Clone, Default)]
pub struct Want {
    /// For each node: its object, its parent indexes, the attestations with it as a subject.
    pub nodes: Vec<Node>,
    /// Whose attestations.
    pub by: Wanted,
}

/// Whom some policy trusts for some role: their attestations are loaded up to the budget (1,000 a node); of all others the first 20
/// by log index are loaded for near misses.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Keys.
    pub signers: Arc<[KeyId]>,
    /// Who may be named by a certificate.
    pub identities: Arc<[IdentityRule]>,
}

impl Wanted {
    /// Under this control state. The same for every question: whoever asks many makes it once.
    pub fn under(control: &Control) -> Self {
        let signers = crate::evaluate::signers(control).into_iter().collect();
        Self { signers, identities: crate::evaluate::identities(control).cloned().collect() }
    }
}

/// The nodes that an answer rests on, misses included. Trust and policy are not among them: entries that
/// change those reach every answer ([`WriteSet::All`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadSet {
    /// Every node that was asked for.
    pub nodes: BTreeSet<Node>,
}

impl ReadSet {
    /// Whether an entry can change the answer.
    pub fn intersects(&self, written: &WriteSet) -> bool {
        match written {
            WriteSet::All => true,
            WriteSet::None => false,
            WriteSet::Nodes(nodes) => nodes.iter().any(|node| self.nodes.contains(node)),
        }
    }
}

/// Says what to fetch next.
///
/// There is no second description of what an evaluation reads: each frontier is what the evaluator asked
/// for, given what was fetched before, and did not have. When it asks for nothing new, everything that it
/// can touch is there, and the read set is what was asked for.
#[derive(Debug)]
pub struct Gather<'a> {
    about: About<'a>,
    control: &'a Control,
    by: Wanted,
    asked: BTreeSet<Node>,
}

#[derive(Debug)]
enum About<'a> {
    Question(&'a Question),
    Digest(Digest),
}

impl<'a> Gather<'a> {
    /// For one question.
    pub fn new(question: &'a Question, control: &'a Control) -> Self {
        Self::by(Wanted::under(control), question, control)
    }

    /// The same, when it is known who is wanted under `control`.
    pub fn by(by: Wanted, question: &'a Question, control: &'a Control) -> Self {
        Self { about: About::Question(question), control, by, asked: BTreeSet::new() }
    }

    /// For [`crate::evaluate::known_resources`] of a bare digest.
    pub fn about(digest: Digest, control: &'a Control) -> Self {
        Self { about: About::Digest(digest), control, by: Wanted::under(control), asked: BTreeSet::new() }
    }

    /// The next frontier, given what was fetched for those before. `None`: everything is there, or the
    /// budget of nodes is spent (then the evaluation says so).
    pub fn next(&mut self, evidence: &Evidence) -> Option<Want> {
        let touched = match self.about {
            About::Question(question) => crate::evaluate::touched(question, self.control, evidence),
            About::Digest(digest) => crate::evaluate::touched_by_digest(digest, self.control, evidence),
        };
        self.after(&touched, evidence)
    }

    /// The next frontier, when an evaluation of `evidence` asked for `touched`.
    pub(crate) fn after(&mut self, touched: &BTreeSet<Node>, evidence: &Evidence) -> Option<Want> {
        let ahead = self.ahead(evidence);
        let nodes: Vec<Node> =
            touched.union(&ahead).filter(|node| !self.asked.contains(node)).copied().collect();
        if touched.is_subset(&self.asked)
            || nodes.is_empty()
            || self.asked.len() >= crate::evaluate::MAX_NODES
        {
            return None;
        }
        self.asked.extend(&nodes);
        Some(Want { nodes, by: self.by.clone() })
    }

    /// What will be asked for next, going by what is there: a manifest's base image, a round trip earlier than the evaluator
    /// comes to it. Only the image's own bytes say so, never what others say about it.
    fn ahead(&self, evidence: &Evidence) -> BTreeSet<Node> {
        let base = |node: &Node| match &evidence.objects.get(node)?.fact.body {
            Body::Manifest(manifest) => manifest.base.as_ref()?.digest,
            _ => None,
        };
        self.asked.iter().filter_map(base).map(Node::Content).collect()
    }

    /// What was asked for.
    pub fn read_set(&self) -> ReadSet {
        ReadSet { nodes: self.asked.clone() }
    }
}
