//! What every rule reads through: evidence by node, trust in signers, budgets, the memo.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use catenary_evidence::{
    Identity, KeyId, Signature, Signer as SignedBy,
    attestation::Attestation,
    digest::{Digest, GitOid, Node, Sha256},
    object::{Body, Config, Object},
    predicate::Claim,
};
use jiff::Timestamp;

use crate::{
    control::{Control, Revoked},
    gather::{Evidence, Logged},
    policy::{IdentityRule, Signer, identity::Miss},
    reason::Code,
    verdict::Question,
};

use super::{Chain, MAX_NODES, MAX_STATEMENTS};

/// An attestation in the log.
pub(crate) type Statement = Logged<Attestation>;

/// The inputs of the evaluation, and its state.
pub(crate) struct World<'a> {
    pub control: &'a Control,
    pub evidence: &'a Evidence,
    pub environment: Option<&'a str>,
    /// What is asked; nothing when only a digest is looked up.
    pub question: Option<&'a Question>,
    pub now: Timestamp,
    /// What expressions may still spend.
    pub steps: crate::expr::Budget,
    /// Every node that was asked for.
    pub touched: BTreeSet<Node>,
    /// Whether a budget is spent.
    pub overflow: bool,
    /// Chains worked out so far.
    pub chains: usize,
    /// Chains being worked out, outermost first.
    pub open: Vec<(Digest, String)>,
    /// Outermost open chain that was met since the innermost began; `usize::MAX` is none.
    pub met: usize,
    /// Finished chains by digest, resource and hop.
    pub memo: BTreeMap<(Digest, String, u32), Rc<Chain>>,
    /// Moments at which the answer may change by itself.
    pub horizons: Vec<Timestamp>,
    by_node: BTreeMap<Node, Vec<&'a Statement>>,
    /// For each payload and signer the copy that counts.
    first: BTreeMap<(Sha256, &'a SignedBy), Copy>,
}

/// A copy of a payload by one signer, ordered: a proven time before one that only we saw, the tightest first, then by id.
type Copy = (bool, Timestamp, Sha256);

fn copy(statement: &Statement, signature: &Signature) -> Copy {
    let proven = signature.signed_before.filter(|_| signature.signer.identity().is_some());
    let time = proven.map_or(statement.received_at, |proven| proven.min(statement.received_at));
    (proven.is_none(), time, statement.fact.id)
}

/// Whether what vouches for a signature is trusted. Of a copy for which nobody is, nothing may follow: anybody can make
/// one of somebody else's signature, and it must not stand in the way of a good one.
fn vouched(control: &Control, statement: &Statement, signature: &Signature) -> bool {
    if signature.signer.identity().is_none() {
        return true;
    }
    #[cfg(feature = "faults")]
    if crate::faults::on(crate::faults::Fault::IgnoreVouchers) {
        return true;
    }
    // Who proves a time after we received it is not to be believed about time.
    let latest = super::later(statement.received_at, super::time::SKEW);
    control.vouches(signature, statement.received_at)
        && signature.signed_before.is_none_or(|proven| proven <= latest)
}

/// A window of a key or rule: `from <= t < until`.
fn within(t: Timestamp, from: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    #[cfg(feature = "faults")]
    if crate::faults::on(crate::faults::Fault::IgnoreWindows) {
        return true;
    }
    from.is_none_or(|from| from <= t) && until.is_none_or(|until| t < until)
}

impl<'a> World<'a> {
    pub fn new(
        control: &'a Control,
        evidence: &'a Evidence,
        environment: Option<&'a str>,
        now: Timestamp,
    ) -> Self {
        let mut by_node: BTreeMap<Node, Vec<&Statement>> = BTreeMap::new();
        let mut first: BTreeMap<(Sha256, &SignedBy), Copy> = BTreeMap::new();
        for (id, statement) in &evidence.attestations {
            if evidence.damaged.contains(id) {
                continue;
            }
            for node in statement.fact.subject_nodes() {
                by_node.entry(node).or_default().push(statement);
            }
            for signature in statement.fact.signatures.iter().filter(|s| vouched(control, statement, s)) {
                let this = copy(statement, signature);
                let best = first.entry((statement.fact.payload, &signature.signer)).or_insert(this);
                *best = (*best).min(this);
            }
        }
        Self {
            control,
            evidence,
            environment,
            question: None,
            now,
            steps: crate::expr::Budget::default(),
            touched: BTreeSet::new(),
            overflow: false,
            chains: 0,
            open: Vec::new(),
            met: usize::MAX,
            memo: BTreeMap::new(),
            horizons: Vec::new(),
            by_node,
            first,
        }
    }

    /// The world of a question.
    pub fn asked(
        control: &'a Control,
        evidence: &'a Evidence,
        question: &'a Question,
        now: Timestamp,
    ) -> Self {
        let environment = question.environment.as_deref();
        Self { question: Some(question), ..Self::new(control, evidence, environment, now) }
    }

    /// Notes that `node` is asked for, and spends the budgets.
    pub fn touch(&mut self, node: Node) {
        if !self.touched.insert(node) {
            return;
        }
        let crowded =
            self.by_node.get(&node).is_some_and(|all| all.len() > MAX_STATEMENTS && self.is_crowd(all));
        if self.touched.len() > MAX_NODES || crowded || self.evidence.truncated.contains(&node) {
            self.overflow = true;
        }
    }

    /// Whether more statements than the budget are by somebody whom any policy trusts.
    fn is_crowd(&self, statements: &[&Statement]) -> bool {
        let signers = super::signers(self.control);
        let identities: Vec<&IdentityRule> = super::identities(self.control).collect();
        let trusted = |statement: &&&Statement| {
            statement.fact.signatures.iter().any(|signature| match &signature.signer {
                SignedBy::Key(key) => signers.contains(key),
                SignedBy::Certificate(identity) => identities.iter().any(|rule| rule.names(identity)),
            })
        };
        statements.iter().filter(trusted).count() > MAX_STATEMENTS
    }

    /// The object that proves `node`.
    pub fn object(&mut self, node: Node) -> Option<&'a Object> {
        self.logged_object(node).map(|logged| &logged.fact)
    }

    /// The same, with its place in the log.
    pub fn logged_object(&mut self, node: Node) -> Option<&'a Logged<Object>> {
        self.touch(node);
        let damaged = |logged: &&Logged<Object>| self.evidence.damaged.contains(&logged.fact.id);
        self.evidence.objects.get(&node).map(AsRef::as_ref).filter(|logged| !damaged(logged))
    }

    /// The config of a manifest, when the bytes of both are known.
    pub fn config_of(&mut self, manifest: Digest) -> Option<&'a Config> {
        let Body::Manifest(manifest) = &self.object(manifest.into())?.body else { return None };
        match &self.object(manifest.config.digest.into())?.body {
            Body::Config(config) => Some(config),
            _ => None,
        }
    }

    /// The runnable children of an index, each once; none of anything else.
    pub fn runnable(&mut self, index: Digest) -> Vec<Digest> {
        let Some(Body::Index(index)) = self.object(index.into()).map(|o| &o.body) else { return Vec::new() };
        let mut children = Vec::new();
        for child in index.children.iter().filter(|child| child.is_runnable()) {
            if !children.contains(&child.digest) {
                children.push(child.digest);
            }
        }
        children
    }

    /// The indexes whose known bytes hold `child`.
    pub fn parents(&mut self, child: Digest) -> Vec<Digest> {
        let evidence = self.evidence;
        let holds =
            |body: &Body| matches!(body, Body::Index(i) if i.children.iter().any(|c| c.digest == child));
        let claimed = evidence.parents.get(&child).into_iter().flatten().copied();
        claimed.filter(|parent| self.object((*parent).into()).is_some_and(|o| holds(&o.body))).collect()
    }

    /// The git objects that are known to name `oid`, each with its bytes.
    pub fn heirs(&mut self, oid: GitOid) -> Vec<(GitOid, &'a Logged<Object>)> {
        let claimed = self.evidence.heirs.get(&oid).into_iter().flatten().copied();
        let known = claimed.filter_map(|heir| Some((heir, self.logged_object(Node::Git(heir))?)));
        known.filter(|(_, object)| object.fact.body.git_names().any(|named| named == oid)).collect()
    }

    /// Whether anything at all is known about `digest`.
    pub fn is_known(&mut self, digest: Digest) -> bool {
        let node = digest.into();
        self.object(node).is_some()
            || self.by_node.get(&node).is_some_and(|list| !list.is_empty())
            || !self.parents(digest).is_empty()
    }

    /// The attestations that name `node` and whose digest sets agree with the bytes that are known.
    pub fn naming(&mut self, node: Node) -> Vec<&'a Statement> {
        let all = self.claiming(node);
        all.into_iter().filter(|statement| !self.conflicts(statement, node)).collect()
    }

    /// The attestations that name `node`, in conflict or not.
    pub fn claiming(&mut self, node: Node) -> Vec<&'a Statement> {
        self.touch(node);
        self.by_node.get(&node).cloned().unwrap_or_default()
    }

    /// Whether a subject of the statement that names `node` has digests of different bytes.
    pub fn conflicts(&mut self, statement: &Statement, node: Node) -> bool {
        let about = statement.fact.subjects.iter().filter(|s| s.digests.nodes().any(|n| n == node));
        let sets: Vec<Vec<Digest>> = about.map(|s| s.digests.content.clone()).collect();
        sets.iter().any(|set| self.set_conflicts(set))
    }

    /// Whether the SHA-256 of a set and its longer digests belong to different bytes, as far as bytes are known.
    pub fn set_conflicts(&mut self, set: &[Digest]) -> bool {
        let is_short = |digest: &&Digest| matches!(digest, Digest::Sha256(_));
        let (short, long): (Vec<&Digest>, Vec<&Digest>) = set.iter().partition(is_short);
        if long.is_empty() {
            return false;
        }
        let mut known = Vec::new();
        for digest in short {
            known.extend(self.object((*digest).into()));
        }
        known.iter().any(|object| !long.iter().all(|digest| object.has(digest)))
    }

    /// Whether the statement counts for a trust rule: a signer that the rule names, that counts, inside
    /// both windows, and for which this is the copy of the payload with the tightest time.
    pub fn counts(
        &self,
        statement: &Statement,
        signer: &Signer,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> bool {
        statement.fact.signatures.iter().any(|s| self.signature_counts(statement, s, signer, from, until))
    }

    fn signature_counts(
        &self,
        statement: &Statement,
        signature: &Signature,
        signer: &Signer,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> bool {
        if self.is_withdrawn(statement) {
            return false;
        }
        let first = self.first.get(&(statement.fact.payload, &signature.signer));
        first == Some(&copy(statement, signature))
            && self.signed_at(statement, signature, signer).is_some_and(|t| within(t, from, until))
    }

    /// When a signer that the rule names signed, if the signature counts.
    fn signed_at(&self, statement: &Statement, signature: &Signature, signer: &Signer) -> Option<Timestamp> {
        let received = statement.received_at;
        match (&signature.signer, signer) {
            (SignedBy::Key(key), _) => {
                let counts = signer.names(key, self.control)
                    && self.key_is_in_use(key, received)
                    && !self.signer_is_revoked(signature, received);
                counts.then_some(received)
            }
            (SignedBy::Certificate(identity), signer) => {
                let pinned = |rule: &&IdentityRule| self.is_pinned(rule, signature);
                let mut rules = signer.identities().iter().filter(|rule| rule.names(identity)).filter(pinned);
                let at = rules.find_map(|rule| rule.signed_at(signature, received))?;
                let counts = vouched(self.control, statement, signature)
                    && !self.signer_is_revoked(signature, received);
                counts.then_some(at)
            }
        }
    }

    /// Whether the rule names whoever made the signature, whenever that was.
    pub fn names(&self, signer: &Signer, signature: &Signature) -> bool {
        match &signature.signer {
            SignedBy::Key(key) => signer.names(key, self.control),
            SignedBy::Certificate(identity) => {
                let pinned = |rule: &&IdentityRule| self.is_pinned(rule, signature);
                signer.identities().iter().filter(pinned).any(|rule| rule.names(identity))
            }
        }
    }

    /// The signatures that count for the rule.
    pub fn signatures_of(
        &self,
        statement: &'a Statement,
        signer: &Signer,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Vec<&'a Signature> {
        let counts = |s: &&Signature| self.signature_counts(statement, s, signer, from, until);
        statement.fact.signatures.iter().filter(counts).collect()
    }

    /// The same signatures in every copy of the payload that is trusted: each proves by itself that the payload was logged or existed at a
    /// time, and nobody gets rid of one by sending another.
    pub fn copies_of(&self, statement: &Statement, signatures: &[&'a Signature]) -> Vec<&'a Signature> {
        let same = |signature: &Signature| signatures.iter().any(|known| known.signer == signature.signer);
        // Copies of a payload are about the same.
        let about = statement.fact.subject_nodes().first().and_then(|node| self.by_node.get(node));
        let mut found = Vec::new();
        for copy in about.into_iter().flatten().copied() {
            if copy.fact.payload == statement.fact.payload && !self.is_withdrawn(copy) {
                let good = |s: &&Signature| same(s) && vouched(self.control, copy, s);
                found.extend(copy.fact.signatures.iter().filter(good));
            }
        }
        found
    }

    /// The certificate identities that signed and count for the rule.
    pub fn identities_of(
        &self,
        statement: &'a Statement,
        signer: &Signer,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Vec<&'a Identity> {
        let counts = |s: &&Signature| self.signature_counts(statement, s, signer, from, until);
        statement.fact.signatures.iter().filter(counts).filter_map(|s| s.signer.identity()).collect()
    }

    /// Whether this service signed the statement as its own verdict, or the statement names it as the verifier: what one
    /// concluded yesterday is no evidence today.
    pub fn is_own_verdict(&self, statement: &Statement) -> bool {
        let Claim::Summary(summary) = &statement.fact.claim else { return false };
        let is_ours = |key: KeyId| {
            let service = self.control.keys.get(&key).and_then(|state| state.key.service.as_deref());
            service == Some(crate::vsa::SERVICE)
        };
        statement.fact.keys().into_iter().any(is_ours)
            || crate::vsa::verifier_of(&self.control.origin).as_ref() == Some(&summary.verifier_id)
    }

    /// The earliest time at which the statement is proven to have existed: when we received it, or before.
    pub fn existed_at(&self, statement: &Statement) -> Timestamp {
        let certified = statement.fact.signatures.iter().filter(|s| s.signer.identity().is_some());
        let proven =
            certified.filter(|s| vouched(self.control, statement, s)).filter_map(|s| s.signed_before);
        proven.min().map_or(statement.received_at, |proven| proven.min(statement.received_at))
    }

    /// Whether a git signature is by an identity of the rules.
    pub fn identity_counts(
        &self,
        signature: &Signature,
        received: Timestamp,
        rules: &[IdentityRule],
    ) -> bool {
        let Some(identity) = signature.signer.identity() else { return false };
        self.control.vouches(signature, received)
            && !self.signer_is_revoked(signature, received)
            && rules.iter().any(|rule| {
                rule.names(identity)
                    && self.is_pinned(rule, signature)
                    && rule
                        .signed_at(signature, received)
                        .is_some_and(|at| at <= super::later(received, super::time::SKEW))
            })
    }

    /// Whether a root that the policy lists vouches for a signature of the rule's identity, and its repository is still the one
    /// of its first use.
    fn is_pinned(&self, rule: &IdentityRule, signature: &Signature) -> bool {
        let identity = signature.signer.identity();
        let keeps = || identity.is_some_and(|identity| self.control.keeps_its_ids(identity));
        rule.roots.as_ref().is_none_or(|roots| self.control.is_pinned(roots, signature))
            && (rule.pin.is_none() || keeps())
    }

    /// Whether the key counts for something received at `t`.
    pub fn key_counts(&self, key: &KeyId, t: Timestamp) -> bool {
        self.key_is_in_use(key, t) && !self.signer_is_revoked(&Signature::by_key(*key), t)
    }

    /// Whether the key is in a group of the tenant.
    pub fn is_in_group(&self, key: &KeyId, group: &str) -> bool {
        self.control.groups.get(group).is_some_and(|group| group.keys.contains(key))
    }

    /// Whether the key is effective, and `t` inside its window.
    fn key_is_in_use(&self, key: &KeyId, t: Timestamp) -> bool {
        self.control.keys.get(key).is_some_and(|state| {
            state.effective_at.is_some() && within(t, state.key.valid_from, state.key.valid_until)
        })
    }

    /// Whether the statement's signer is revoked for it.
    fn signer_is_revoked(&self, signature: &Signature, received: Timestamp) -> bool {
        #[cfg(feature = "faults")]
        if crate::faults::on(crate::faults::Fault::IgnoreRevocation) {
            return false;
        }
        self.control.revoked(signature, received).is_some()
    }

    /// Whether the statement itself, or the builder that it names, is revoked.
    fn is_withdrawn(&self, statement: &Statement) -> bool {
        let existed = self.existed_at(statement);
        let revocations = &self.control.revocations;
        let builder = match &statement.fact.claim {
            Claim::Build(build) => revocations.builder(&build.builder_id),
            _ => None,
        };
        let named = revocations.attestation(statement.fact.id, statement.fact.payload);
        named.chain(builder).any(|revoked| revoked.covers(existed))
    }

    /// Why a statement by a signer that the rule names does not count any more.
    pub fn revocation(&self, statement: &Statement, signer: &Signer) -> Option<Code> {
        let names = |signature: &&Signature| match (&signature.signer, signer) {
            (SignedBy::Key(key), _) => signer.names(key, self.control),
            (SignedBy::Certificate(identity), _) => {
                signer.identities().iter().any(|rule| rule.names(identity))
            }
        };
        let mut named = statement.fact.signatures.iter().filter(names).peekable();
        named.peek()?;
        if self.is_withdrawn(statement) {
            return Some(Code::AttRevoked);
        }
        let received = statement.received_at;
        let revoked = named.any(|signature| {
            let vouchers = signature.vouchers.iter();
            self.control.revoked(signature, received).is_some()
                || vouchers.clone().any(|v| self.control.revocations.authority(&v.authority).is_some())
                    && !self.control.vouches(signature, received)
        });
        revoked.then_some(Code::AttRevokedSigner)
    }

    /// What alone keeps a rule of the signer from naming somebody who signed, for whom a trusted root vouches.
    pub fn misses(&self, statement: &Statement, signer: &Signer) -> Option<Miss> {
        let good = |s: &&Signature| {
            vouched(self.control, statement, s) && !self.signer_is_revoked(s, statement.received_at)
        };
        let signed = statement.fact.signatures.iter().filter(good).filter_map(|s| s.signer.identity());
        let miss = |identity: &Identity, rule: &IdentityRule| {
            let taken_over =
                rule.pin.is_some() && rule.names(identity) && !self.control.keeps_its_ids(identity);
            if taken_over { Some(Miss::Repository) } else { rule.misses(identity) }
        };
        signed
            .flat_map(|identity| signer.identities().iter().filter_map(move |rule| miss(identity, rule)))
            .min()
    }

    /// The revocation of an image: its own, or that of a runnable platform of it. One that is revoked from a moment on is good
    /// when its bytes were here before.
    pub fn denied(&mut self, digest: Digest) -> Option<(Digest, &'a Revoked)> {
        if self.control.revocations.is_empty_of_artifacts() {
            return None;
        }
        let control = self.control;
        let mut images = vec![digest];
        images.extend(self.runnable(digest));
        images.into_iter().find_map(|image| {
            let revoked = control.revocations.artifact(&image)?;
            let since = self.logged_object(image.into()).map(|object| object.received_at);
            revoked.covers(since.unwrap_or(Timestamp::MAX)).then_some((image, revoked))
        })
    }

    /// The hop under which a result is kept.
    pub fn memo_hop(&self, hop: u32) -> u32 {
        if self.keeps_everything() { 0 } else { hop }
    }

    /// The unsound cache, for the oracle to find.
    pub fn keeps_everything(&self) -> bool {
        #[cfg(feature = "faults")]
        if crate::faults::on(crate::faults::Fault::MemoiseInProgress) {
            return true;
        }
        false
    }
}
