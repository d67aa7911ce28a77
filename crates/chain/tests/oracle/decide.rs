//! The oracle: docs/rules.md by brute force.
//!
//! No search, no memo, no order: the recursion into inputs is a table of every reachable (digest,
//! resource, depth), false at first, filled by judging all of it again and again until nothing changes.
//! That table *is* the least fixed point. Reasons are collected afterwards along the path.

use std::collections::{BTreeMap, BTreeSet};

use super::decide_more::Delegated;
use super::world::{
    Body, Build, BuilderRule, Certificate, Claim, Commit, Event, Identity, Key, Node, Person, Policy, Signer,
    Since, SourceRule, SourceSection, Statement, Summary, World,
};

/// Codes of reasons.
pub type Codes = BTreeSet<&'static str>;

/// What the oracle says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub outcome: &'static str,
    pub allowed: bool,
    /// Codes of the errors.
    pub errors: Codes,
}

/// `*` stays in a segment, `**` does not; by trying everything.
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=text.len()).any(|n| glob(rest, &text[n..])),
        [b'*', rest @ ..] => {
            (0..=text.len()).take_while(|n| !text[..*n].contains(&b'/')).any(|n| glob(rest, &text[n..]))
        }
        [c, rest @ ..] => text.first() == Some(c) && glob(rest, &text[1..]),
    }
}

pub fn any_glob(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|p| glob(p.as_bytes(), text.as_bytes()))
}

fn same_platform(wanted: &str, actual: &str) -> bool {
    let wanted: Vec<&str> = wanted.split('/').collect();
    let actual: Vec<&str> = actual.split('/').collect();
    wanted.iter().enumerate().all(|(i, part)| actual.get(i) == Some(part))
}

/// How an input's own chain went: held, or the code of the input and the codes from deeper down.
type Sub = Result<(), (&'static str, Codes)>;

/// Asks for the chain of an input: digest, resource, hop number, the most hops that the rule follows.
type Resolve<'r> = dyn FnMut(u32, &str, u32, u32) -> Sub + 'r;

type Place = (u32, String, u32);

/// How one (artifact, resource) was judged.
#[derive(Default)]
struct Judged {
    errors: Codes,
    /// A node was needed whose statements were cut.
    limit: bool,
}

/// What is wrong with one statement: reasons of its own, which are counted, and those of its inputs' chains.
#[derive(Default)]
struct Broken {
    own: Vec<&'static str>,
    leaves: Codes,
}

/// A statement, good for a node, under a rule of a domain.
struct Good<'a> {
    statement: &'a Statement,
    build: &'a Build,
    of: u32,
    domain: String,
    operators: Vec<Operator>,
}

/// Whoever signed: the domains that name the signer, in whichever rules.
type Operator = BTreeSet<String>;

fn domain_of(rule: &BuilderRule) -> String {
    rule.domain.clone().unwrap_or_else(|| rule.id.clone())
}

/// The good statements, and whether they are enough.
type Built<'a> = Result<Vec<Good<'a>>, Vec<Good<'a>>>;

pub struct Oracle<'a> {
    pub world: &'a World,
}

enum Selected<'a> {
    Policy(&'a Policy),
    No(&'static str),
}

impl<'a> Oracle<'a> {
    pub fn new(world: &'a World) -> Self {
        Self { world }
    }

    /// The verdict.
    pub fn answer(&self) -> Answer {
        let ask = &self.world.ask;
        let alone = |outcome, code| Answer { outcome, allowed: false, errors: Codes::from([code]) };
        if self.world.policies.iter().any(|p| !p.readable) {
            return alone("INDETERMINATE", "POL_INVALID");
        }
        let policy = match self.select(&ask.resource, ask.environment.as_deref()) {
            Selected::Policy(policy) => policy,
            Selected::No(code) => return alone("FAILED", code),
        };
        let (table, limit) = self.fixed_point();
        let path = vec![(ask.digest, ask.resource.clone())];
        let mut errors = self.explain(&table, ask.digest, &ask.resource, 0, &path).errors;
        let outcome = match (limit, errors.is_empty()) {
            (true, _) => "INDETERMINATE",
            (false, true) => "PASSED",
            (false, false) => "FAILED",
        };
        if limit {
            errors.insert("SYS_LIMIT_EXCEEDED");
        }
        if outcome != "PASSED" && self.world.statements.iter().any(|s| s.damaged) {
            errors.insert("SYS_INTEGRITY_VIOLATION");
        }
        let allowed = outcome == "PASSED"
            || policy.mode != "enforce"
            || (outcome == "INDETERMINATE" && policy.allow_indeterminate);
        Answer { outcome, allowed, errors }
    }

    fn select(&self, resource: &str, environment: Option<&str>) -> Selected<'a> {
        let matching: Vec<&Policy> = self
            .world
            .policies
            .iter()
            .filter(|p| any_glob(&p.resources, resource))
            .filter(|p| match &p.environments {
                None => true,
                Some(list) => list.iter().any(|e| Some(e.as_str()) == environment),
            })
            .collect();
        let Some(top) = matching.iter().map(|p| p.priority).max() else {
            return Selected::No("POL_NO_MATCH");
        };
        let best: Vec<&&Policy> = matching.iter().filter(|p| p.priority == top).collect();
        if best.len() == 1 { Selected::Policy(best[0]) } else { Selected::No("POL_AMBIGUOUS") }
    }

    // ---- the least fixed point ----

    /// The table, and whether anything in it needed a node whose statements were cut.
    fn fixed_point(&self) -> (BTreeMap<Place, bool>, bool) {
        let ask = &self.world.ask;
        let mut table = BTreeMap::from([((ask.digest, ask.resource.clone(), 0), false)]);
        loop {
            let mut next = table.clone();
            let mut limit = false;
            for place in table.keys() {
                let (digest, resource, depth) = place;
                let mut resolve = |d: u32, r: &str, hop: u32, most: u32| {
                    if hop > most {
                        return Err(("DEP_DEPTH", Codes::new()));
                    }
                    let key = (d, r.to_owned(), hop);
                    next.entry(key.clone()).or_insert(false);
                    if table.get(&key) == Some(&true) {
                        Ok(())
                    } else {
                        Err(("DEP_BASE_UNTRUSTED", Codes::new()))
                    }
                };
                let judged = self.judge(*digest, resource, *depth, &mut resolve);
                limit |= judged.limit;
                next.insert(place.clone(), judged.errors.is_empty());
            }
            if next == table {
                return (table, limit);
            }
            table = next;
        }
    }

    fn explain(
        &self,
        table: &BTreeMap<Place, bool>,
        digest: u32,
        resource: &str,
        depth: u32,
        path: &[(u32, String)],
    ) -> Judged {
        let mut resolve = |d: u32, r: &str, hop: u32, most: u32| {
            let here = (d, r.to_owned());
            if hop <= most && table.get(&(d, r.to_owned(), hop)) == Some(&true) {
                return Ok(());
            }
            if path.contains(&here) {
                return Err(("DEP_CYCLE", Codes::new()));
            }
            if hop > most {
                return Err(("DEP_DEPTH", Codes::new()));
            }
            let mut longer = path.to_vec();
            longer.push(here);
            Err(("DEP_BASE_UNTRUSTED", self.explain(table, d, r, hop, &longer).errors))
        };
        self.judge(digest, resource, depth, &mut resolve)
    }

    // ---- one artifact in one resource ----

    fn judge(&self, a: u32, resource: &str, depth: u32, resolve: &mut Resolve<'_>) -> Judged {
        let mut out = Judged::default();
        let policy = match self.select(resource, self.world.ask.environment.as_deref()) {
            Selected::Policy(policy) => policy,
            Selected::No(code) => {
                out.errors.insert(code);
                return out;
            }
        };
        if policy.expires.is_some_and(|e| e <= self.world.now) {
            out.errors.insert("POL_EXPIRED");
        }
        self.touch(Node::Content(a), &mut out);
        if !self.known(a) {
            out.errors.insert("ART_UNKNOWN");
            return out;
        }
        let platform = self.world.ask.platform.as_deref().filter(|_| depth == 0);
        self.artifact(a, policy, platform, &mut out);
        for parent in self.all_parents(a) {
            self.touch(Node::Content(parent), &mut out);
        }
        for (child, _) in self.runnable(a) {
            self.touch(Node::Content(child), &mut out);
        }
        // None: R1 is not asked. Some(Err): not covered.
        let mut chained = Judged::default();
        let mut built = policy.build.as_ref().map(|_| self.build(a, policy, depth, &mut chained, resolve));
        out.limit |= chained.limit;
        // What was made again after the push does not hold, and takes nothing from a summary.
        let mut ordered = Judged::default();
        if policy.registry.is_some() {
            self.registry(a, resource, policy, built.as_ref(), &mut ordered);
        }
        let in_order = !ordered.errors.contains("TIM_PUSH_BEFORE_BUILD")
            && !self.was_here_before(a, policy, built.as_ref());
        let enough = built.is_some() && chained.errors.is_empty() && in_order;
        match self.delegated(a, resource, policy, depth, enough) {
            Delegated::No => {}
            Delegated::Stands => {
                chained.errors.retain(|code| ["SRC_AMBIGUOUS", "BLD_CONFLICT"].contains(code));
                built = built.map(|_| Err(Vec::new()));
                if policy.max_age.is_some() {
                    out.errors.insert("TIM_TOO_OLD");
                }
            }
            Delegated::Not(code) => drop(chained.errors.insert(code)),
        }
        out.errors.extend(chained.errors);
        let good = built.as_ref().map(|b| b.as_ref().unwrap_or_else(|good| good));
        // Good statements of platforms name their commit, whether or not they are enough.
        let commits = good.map(|good| good.iter().filter_map(|g| g.build.source.as_ref()?.commit).collect());
        let commits: BTreeSet<u32> = commits.unwrap_or_default();
        if !policy.more.require.is_empty() || policy.more.failed_tests.is_some() {
            let asked = policy.more.failed_tests.is_some() || policy.more.require.iter().any(|r| r.source);
            for commit in &commits {
                if asked {
                    self.touch(Node::Git(*commit), &mut out);
                }
            }
        }
        out.errors.extend(self.properties(a, resource, policy, &commits));
        if policy.registry.is_some() {
            self.registry(a, resource, policy, built.as_ref(), &mut out);
        }
        if let (Some(age), Some(Ok(covering))) = (policy.max_age, &built) {
            let ended =
                |g: &Good<'_>| g.build.finished.or(g.build.started).unwrap_or(Self::existed(g.statement));
            if covering.iter().map(ended).max().is_some_and(|t| self.world.now > t + age) {
                out.errors.insert("TIM_TOO_OLD");
            }
        }
        if self.was_here_before(a, policy, built.as_ref()) {
            out.errors.insert("TIM_ARTIFACT_BEFORE_BUILD");
        }
        out
    }

    fn was_here_before(&self, a: u32, policy: &Policy, built: Option<&Built<'_>>) -> bool {
        let asked = policy.order.as_ref().is_some_and(|o| o.contains(&"build<artifact"));
        let seen = self.world.object(Node::Content(a)).map(|o| o.received);
        let (true, Some(Ok(covering)), Some(seen)) = (asked, built, seen) else { return false };
        let latest = seen + policy.skew.unwrap_or(120);
        covering.iter().all(|g| g.build.started.is_some_and(|t| latest < t))
    }

    fn touch(&self, node: Node, out: &mut Judged) {
        out.limit |= self.world.truncated.contains(&node);
    }

    fn known(&self, a: u32) -> bool {
        self.world.object(Node::Content(a)).is_some()
            || !self.all_parents(a).is_empty()
            || self.present().any(|s| self.names(s, Node::Content(a)))
    }

    pub fn present(&self) -> impl Iterator<Item = &'a Statement> {
        self.world.statements.iter().filter(|s| !s.damaged)
    }

    /// Runnable children of an index with their platforms.
    pub fn runnable(&self, a: u32) -> Vec<(u32, Option<String>)> {
        match self.world.document(a) {
            Some(Body::Index { children, .. }) => {
                children.iter().filter(|c| c.runs()).map(|c| (c.digest, c.platform.clone())).collect()
            }
            _ => Vec::new(),
        }
    }

    fn all_parents(&self, a: u32) -> Vec<u32> {
        let contains = |body: &Body| matches!(body, Body::Index { children, .. } if children.iter().any(|c| c.digest == a));
        self.world
            .objects
            .iter()
            .filter(|o| contains(&o.body))
            .filter_map(|o| match o.node {
                Node::Content(n) => Some(n),
                _ => None,
            })
            .collect()
    }

    /// Indexes that have `a` as a runnable child.
    pub fn parents(&self, a: u32) -> Vec<u32> {
        self.all_parents(a).into_iter().filter(|p| self.runnable(*p).iter().any(|(c, _)| *c == a)).collect()
    }

    fn config_of(&self, manifest: u32) -> Option<(&'a str, &'a [u32])> {
        let Some(Body::Manifest { config, .. }) = self.world.document(manifest) else { return None };
        match self.world.document(*config) {
            Some(Body::Config { platform, layers }) => Some((platform, layers)),
            _ => None,
        }
    }

    fn artifact(&self, a: u32, policy: &Policy, platform: Option<&str>, out: &mut Judged) {
        let listed = |kind: &str| policy.kinds.as_ref().is_none_or(|k| k.contains(&kind));
        match self.world.document(a) {
            None => {
                let one_kind = policy.kinds.as_ref().is_some_and(|k| k.len() == 1);
                if policy.platforms.is_some()
                    || !policy.inputs.is_empty()
                    || one_kind
                    || platform.is_some()
                    || Self::needs_bytes(policy)
                {
                    out.errors.insert("ART_MANIFEST_MISSING");
                }
            }
            Some(Body::Config { .. } | Body::Commit { .. }) => {
                out.errors.insert("ART_KIND_UNSUPPORTED");
            }
            Some(Body::Manifest { image, .. }) => {
                if !image || !listed("image-manifest") {
                    out.errors.insert("ART_KIND_UNSUPPORTED");
                }
                if let Some((actual, _)) = self.config_of(a) {
                    if platform.is_some_and(|wanted| !same_platform(wanted, actual)) {
                        out.errors.insert("ART_PLATFORM_MISSING");
                    }
                    if !policy.extra_allowed
                        && policy
                            .platforms
                            .as_ref()
                            .is_some_and(|l| !l.iter().any(|p| same_platform(p, actual)))
                    {
                        out.errors.insert("ART_EXTRA_PLATFORM");
                    }
                }
            }
            Some(Body::Index { .. }) => {
                if !listed("image-index") {
                    out.errors.insert("ART_KIND_UNSUPPORTED");
                }
                let children = self.runnable(a);
                let has = |wanted: &str| {
                    children.iter().any(|(_, p)| p.as_ref().is_some_and(|p| same_platform(wanted, p)))
                };
                if children.is_empty() || platform.is_some_and(|p| !has(p)) {
                    out.errors.insert("ART_PLATFORM_MISSING");
                }
                if let Some(list) = &policy.platforms {
                    if list.iter().any(|p| !has(p)) {
                        out.errors.insert("ART_PLATFORM_MISSING");
                    }
                    let extra = children.iter().any(|(_, p)| !is_listed(list, p.as_deref()));
                    if extra && !policy.extra_allowed {
                        out.errors.insert("ART_EXTRA_PLATFORM");
                    }
                }
            }
        }
    }

    // ---- who counts ----

    pub fn named(&self, signer: &Signer) -> Vec<u32> {
        match signer {
            Signer::Keys(keys) => keys.clone(),
            Signer::Service(name) => (0..self.world.keys.len() as u32)
                .filter(|k| self.world.keys[*k as usize].service.as_ref() == Some(name))
                .collect(),
            Signer::Identity(_) => Vec::new(),
        }
    }

    pub fn key_counts(&self, key: u32, at: i64) -> bool {
        let key = &self.world.keys[key as usize];
        key.effective && !is_revoked(key, at) && within(key.from, key.until, at)
    }

    pub fn counts(&self, s: &Statement, signer: &Signer, from: Option<i64>, until: Option<i64>) -> bool {
        let named = self.named(signer);
        !self.certificates(s, signer, from, until).is_empty()
            || within(from, until, s.received)
                && s.signers
                    .iter()
                    .any(|k| named.contains(k) && self.key_counts(*k, s.received) && self.first_copy(s, *k))
    }

    /// The certificates of a statement that count for a rule.
    pub fn certificates<'s>(
        &self,
        s: &'s Statement,
        signer: &Signer,
        from: Option<i64>,
        until: Option<i64>,
    ) -> Vec<&'s Certificate> {
        let Signer::Identity(rule) = signer else { return Vec::new() };
        let counts = |c: &&Certificate| {
            names_holder(rule, c)
                && believed(s, c)
                && self.best_copy(s, c)
                && signing_time(rule, c, s.received).is_some_and(|t| within(from, until, t))
        };
        s.certificates.iter().filter(counts).collect()
    }

    /// Whether no believed copy of the same payload by the same holder has a better time.
    fn best_copy(&self, s: &Statement, c: &Certificate) -> bool {
        let rank = |s: &Statement, c: &Certificate| match c.proven {
            Some(t) => (0, t.min(s.received), s.id),
            None => (1, s.received, s.id),
        };
        !self.present().filter(|o| o.payload == s.payload).any(|o| {
            let same = |d: &&Certificate| d.holder == c.holder && believed(o, d);
            o.certificates.iter().filter(same).any(|d| rank(o, d) < rank(s, c))
        })
    }

    /// When a statement is proven to have existed.
    pub fn existed(s: &Statement) -> i64 {
        let proven = s.certificates.iter().filter(|c| believed(s, c)).filter_map(|c| c.proven);
        proven.chain([s.received]).min().unwrap_or(s.received)
    }

    /// Whether no earlier attestation carries the same payload by the same signer.
    pub fn first_copy(&self, s: &Statement, signer: u32) -> bool {
        !self.present().any(|o| {
            o.payload == s.payload && o.signers.contains(&signer) && (o.received, o.id) < (s.received, s.id)
        })
    }

    /// Whether a subject names the node, and none that does is in conflict: a `sha384` or `sha512` beside the digest of
    /// known bytes, and not theirs.
    pub fn names(&self, s: &Statement, node: Node) -> bool {
        let naming: Vec<&Vec<Node>> = s.subjects.iter().filter(|set| set.contains(&node)).collect();
        let conflict = |set: &Vec<Node>| {
            set.iter().any(|n| match n {
                Node::Content(d) if self.world.object(*n).is_some() => {
                    set.iter().any(|o| matches!(o, Node::Middle(w) | Node::Wide(w) if w != d))
                }
                _ => false,
            })
        };
        !naming.is_empty() && !naming.into_iter().any(conflict)
    }

    // ---- R1 ----

    fn build(
        &self,
        a: u32,
        policy: &Policy,
        depth: u32,
        out: &mut Judged,
        resolve: &mut Resolve<'_>,
    ) -> Built<'a> {
        let section = policy.build.as_ref().expect("asked only with a build section");
        let rules: Vec<&BuilderRule> = policy
            .builders
            .iter()
            .filter(|r| section.of.as_ref().is_none_or(|of| of.contains(&r.id)))
            .collect();
        // Whom a statement may speak about, and which nodes it then names.
        let mut whom = vec![(a, [vec![a], self.parents(a)].concat())];
        whom.extend(self.runnable(a).into_iter().map(|(c, _)| (c, vec![c])));

        let mut good = Vec::new();
        let mut closest: Option<((usize, u32, usize, usize), Codes)> = None;
        let (mut exists, mut by_revoked, mut missed) = (false, false, None::<&str>);
        let mut commits = BTreeSet::new();
        for s in self.present() {
            let Claim::Build(b) = &s.claim else { continue };
            for (at, (x, nodes)) in whom.iter().enumerate() {
                if !nodes.iter().any(|n| self.names(s, Node::Content(*n))) {
                    continue;
                }
                exists = true;
                for (order, rule) in rules.iter().enumerate() {
                    by_revoked |= self.was_taken_from(s, &rule.signer);
                    if !self.counts(s, &rule.signer, rule.from, rule.until) {
                        // BLD_ISSUER_MISMATCH comes before BLD_SELF_HOSTED.
                        missed = [missed, near_identity(s, &rule.signer)].into_iter().flatten().min();
                        continue;
                    }
                    let mut broken = Broken::default();
                    let certificates = self.certificates(s, &rule.signer, rule.from, rule.until);
                    let speaks_for = |r: &BuilderRule| match r.builder_id.0 {
                        "equals" => certificates.iter().any(|c| is_own_builder(c, &b.builder)),
                        _ => matches(&r.builder_id, &b.builder),
                    };
                    if speaks_for(rule) {
                        commits.extend(b.source.as_ref().and_then(|s| s.commit));
                    } else if policy.builders.iter().any(speaks_for) {
                        broken.own.push("BLD_BUILDER_SIGNER_PAIR");
                    } else {
                        broken.own.push("BLD_BUILDER_NOT_TRUSTED");
                    }
                    self.expectations(b, rule, policy, &certificates, &mut broken.own);
                    contradictions(b, policy, &certificates, &mut broken.own);
                    self.source((s, b), policy, &mut broken.own, out);
                    self.inputs(*x, b, policy, depth + 1, &mut broken, out, resolve);
                    let latest = Self::existed(s) + policy.skew.unwrap_or(120);
                    if b.started.max(b.finished).is_some_and(|t| t > latest) {
                        broken.own.push("TIM_FUTURE");
                    }
                    if broken.own.is_empty() {
                        let domain = domain_of(rule);
                        let operators = self.operators(s, rule, &certificates, &rules);
                        good.push(Good { statement: s, build: b, of: *x, domain, operators });
                        continue;
                    }
                    let rank = (broken.own.len(), s.id, order, at);
                    if closest.as_ref().is_none_or(|(best, _)| rank < *best) {
                        closest = Some((rank, broken.own.into_iter().chain(broken.leaves).collect()));
                    }
                }
            }
        }

        let mut wrong = Codes::new();
        let uncovered = self.uncovered(a, policy, section.at_least as usize, &good);
        if let Some(code) = uncovered {
            match (code, closest) {
                (Some(code), _) => drop(wrong.insert(code)),
                (None, Some((_, codes))) => wrong.extend(codes),
                (None, None) if exists && by_revoked => drop(wrong.insert("ATT_REVOKED_SIGNER")),
                (None, None) if exists => drop(wrong.insert(missed.unwrap_or("BLD_SIGNER_NOT_TRUSTED"))),
                (None, None) => drop(wrong.insert("BLD_NO_PROVENANCE")),
            }
        }
        if commits.len() > 1 && policy.source.as_ref().is_some_and(|s| s.unique) {
            wrong.insert("SRC_AMBIGUOUS");
        }
        if commits.len() > 1 && section.agree {
            wrong.insert("BLD_CONFLICT");
        }
        out.errors.extend(wrong);
        if uncovered.is_some() { Err(good) } else { Ok(good) }
    }

    /// Whoever signed a statement that counts for a rule.
    fn operators(
        &self,
        s: &Statement,
        rule: &BuilderRule,
        certificates: &[&Certificate],
        rules: &[&BuilderRule],
    ) -> Vec<Operator> {
        let by = |names: &dyn Fn(&Signer) -> bool| -> Operator {
            rules.iter().filter(|rule| names(&rule.signer)).map(|rule| domain_of(rule)).collect()
        };
        let mine = self.named(&rule.signer);
        let keys = s.signers.iter().filter(|k| {
            let in_time = within(rule.from, rule.until, s.received);
            in_time && mine.contains(k) && self.key_counts(**k, s.received) && self.first_copy(s, **k)
        });
        let of_key = |key: &u32| by(&|signer| self.named(signer).contains(key));
        let of_certificate = |certificate: &&Certificate| {
            by(&|signer| matches!(signer, Signer::Identity(rule) if names_holder(rule, certificate)))
        };
        keys.map(of_key).chain(certificates.iter().map(of_certificate)).collect()
    }

    /// `None`: covered. `Some(None)`: nothing is good. Else the code.
    fn uncovered(
        &self,
        a: u32,
        policy: &Policy,
        k: usize,
        good: &[Good<'_>],
    ) -> Option<Option<&'static str>> {
        let votes = |nodes: &[u32]| -> Vec<Vote<'_>> {
            let mut votes = Vec::new();
            for g in good.iter().filter(|g| nodes.contains(&g.of)) {
                votes.extend(g.operators.iter().map(|by| (g.domain.as_str(), g.statement.id, by)));
            }
            votes
        };
        let names: BTreeSet<&str> = good.iter().map(|g| g.domain.as_str()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let wanted = |platform: &Option<String>| match &policy.platforms {
            Some(list) if policy.extra_allowed => is_listed(list, platform.as_deref()),
            _ => true,
        };
        let each: Vec<Vec<Vote<'_>>> =
            self.runnable(a).iter().filter(|(_, p)| wanted(p)).map(|(c, _)| votes(&[*c, a])).collect();
        // Every set of k domains is tried, every way of giving each of them a statement and an operator of its own.
        let sets = (0_u32..1 << names.len()).filter(|set| set.count_ones() as usize == k);
        let mut sets = sets.map(|set| {
            names.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, d)| *d).collect::<Vec<_>>()
        });
        if sets.any(|set| {
            spoken_for(&set, &votes(&[a])) || !each.is_empty() && each.iter().all(|v| spoken_for(&set, v))
        }) {
            return None;
        }
        Some(match (good.is_empty(), each.iter().any(Vec::is_empty)) {
            (true, _) => None,
            (false, true) => Some("ART_PLATFORM_UNCOVERED"),
            (false, false) => Some("BLD_THRESHOLD"),
        })
    }

    fn expectations(
        &self,
        b: &Build,
        rule: &BuilderRule,
        policy: &Policy,
        certificates: &[&Certificate],
        broken: &mut Vec<&'static str>,
    ) {
        let section = policy.build.as_ref().expect("asked only with a build section");
        match b.adapter {
            None => broken.push("BLD_UNKNOWN_BUILDTYPE"),
            Some(adapter) if rule.types.as_ref().is_some_and(|t| !t.contains(&adapter)) => {
                broken.push("BLD_TYPE_NOT_ALLOWED");
            }
            Some(_) => {}
        }
        let certified = certificates.iter().find_map(|c| c.holder.runner.as_ref());
        let hosted = certified.or(b.runner.as_ref()).is_none_or(|r| r == "github-hosted");
        let level = if hosted { rule.max_level } else { rule.max_level.min(rule.self_hosted_max) };
        if level < section.min_level {
            broken.push("BLD_LEVEL_TOO_LOW");
        }
        let certified = certificates.iter().find_map(|c| c.holder.trigger.as_ref());
        let trigger = certified.or(b.trigger.as_ref());
        if section.triggers.as_ref().is_some_and(|t| !trigger.is_some_and(|b| t.contains(b))) {
            broken.push("BLD_TRIGGER_NOT_ALLOWED");
        }
        for path in &b.unknown {
            if !section.unknown_allowed && !section.params.iter().any(|(p, _)| p == path) {
                broken.push("BLD_PARAM_UNEXPECTED");
            }
        }
        for (path, values) in &section.params {
            if b.params.iter().any(|(p, v)| p == path && !values.contains(v)) {
                broken.push("BLD_PARAM_VALUE");
            }
        }
    }

    // ---- R2 ----

    fn source(
        &self,
        (s, b): (&Statement, &Build),
        policy: &Policy,
        broken: &mut Vec<&'static str>,
        out: &mut Judged,
    ) {
        let Some(section) = &policy.source else { return };
        let Some((source, commit)) = b.source.as_ref().and_then(|s| s.commit.map(|c| (s, c))) else {
            broken.push("SRC_MISSING");
            return;
        };
        if source.repository != section.uri {
            broken.push("SRC_REPO_MISMATCH");
        }
        if let (Some(wanted), Some(actual)) = (&section.id, &source.id)
            && wanted != actual
        {
            broken.push("SRC_REPO_ID_MISMATCH");
        }
        if let Some(refs) = &section.refs
            && !source.reference.as_ref().is_some_and(|r| any_glob(refs, r))
        {
            broken.push("SRC_REF_NOT_ALLOWED");
        }
        if !policy.sources.is_empty() {
            self.touch(Node::Git(commit), out);
            self.commit_evidence((s, b), commit, policy, broken);
        }
        if section.signed {
            self.touch(Node::Git(commit), out);
            self.commit_signature(commit, section.signed_by.as_deref(), broken);
        }
    }

    /// Whether somebody whom the rule names signed, and was revoked for it.
    fn was_taken_from(&self, s: &Statement, signer: &Signer) -> bool {
        let named = self.named(signer);
        let revoked = |k: &u32| is_revoked(&self.world.keys[*k as usize], s.received);
        s.signers.iter().any(|k| named.contains(k) && revoked(k))
    }

    fn commit_evidence(
        &self,
        (of, b): (&Statement, &Build),
        commit: u32,
        policy: &Policy,
        broken: &mut Vec<&'static str>,
    ) {
        let section = policy.source.as_ref().expect("asked only with a source section");
        let mut trusted: Vec<(Option<&Commit>, u8)> = Vec::new();
        let mut properties: Vec<&String> = Vec::new();
        let (mut any, mut by_revoked, mut wrong) = (false, false, Codes::new());
        let tied = self.is_tied((of, b), commit, policy, section);
        for s in self.present().filter(|s| self.names(s, Node::Git(commit))) {
            if !matches!(s.claim, Claim::Commit(_) | Claim::Summary(_)) {
                continue;
            }
            any = true;
            by_revoked |= policy.sources.iter().any(|rule| self.was_taken_from(s, &rule.signer));
            for rule in policy.sources.iter().filter(|r| self.counts(s, &r.signer, r.from, r.until)) {
                match &s.claim {
                    Claim::Commit(c) if c.repository != section.uri => {
                        wrong.insert("SRC_REPO_MISMATCH");
                    }
                    Claim::Commit(c) if section.id.is_some() && c.id != section.id => {
                        wrong.insert("SRC_REPO_ID_MISMATCH");
                    }
                    Claim::Commit(c)
                        if section.refs.as_ref().is_some_and(|refs| !any_glob(refs, &c.reference)) =>
                    {
                        wrong.insert("SRC_REF_NOT_ALLOWED");
                    }
                    Claim::Commit(c) => trusted.push((Some(c), rule.max_level)),
                    Claim::Summary(s) => match summary_fault(s, rule, b, section, tied) {
                        Some(code) => {
                            wrong.insert(code);
                        }
                        None => {
                            trusted.push((None, rule.max_level.min(s.level.unwrap_or(0))));
                            properties.extend(&s.properties);
                        }
                    },
                    _ => {}
                }
            }
        }
        if trusted.is_empty() {
            // The closest got furthest through the checks.
            let furthest = [
                "VSA_FAILED",
                "SRC_REF_NOT_ALLOWED",
                "SRC_REPO_ID_MISMATCH",
                "SRC_REPO_MISMATCH",
                "VSA_SIGNER_VERIFIER_PAIR",
            ];
            let closest = furthest.into_iter().find(|code| wrong.contains(code));
            broken.push(closest.unwrap_or(match (any, by_revoked) {
                (true, true) => "ATT_REVOKED_SIGNER",
                (true, false) => "SRC_SIGNER_NOT_TRUSTED",
                (false, _) => "SRC_COMMIT_UNKNOWN",
            }));
            return;
        }
        let commits: Vec<&Commit> = trusted.iter().filter_map(|(c, _)| *c).collect();
        if let Some(n) = section.review {
            let found: Vec<Option<(u8, &str)>> =
                commits.iter().map(|c| review(c, commit, n as usize)).collect();
            match found.into_iter().collect::<Option<Vec<_>>>() {
                // Summaries review nothing.
                Some(all) if all.is_empty() => broken.push("SRC_UNREVIEWED"),
                Some(all) => broken.extend(all.into_iter().min().map(|(_, code)| code)),
                None => {}
            }
        }
        if trusted.iter().map(|(_, level)| *level).max() < Some(section.min_level) {
            broken.push("SRC_LEVEL_TOO_LOW");
        }
        for wanted in section.properties.iter().flatten() {
            if !properties.contains(&wanted) {
                broken.push("SRC_PROPERTY_MISSING");
            }
        }
        let asked = policy.order.as_ref().is_none_or(|o| o.contains(&"source<build"));
        if let (true, Some(started)) = (asked, b.started) {
            let latest = started + policy.skew.unwrap_or(120);
            if trusted.iter().all(|(c, _)| c.is_some_and(|c| c.updated > latest)) {
                broken.push("TIM_BUILD_BEFORE_SOURCE");
            }
        }
    }

    /// Whether the build, or a trusted commit statement, says that the commit is of the repository with the policy's id.
    fn is_tied(
        &self,
        (of, b): (&Statement, &Build),
        commit: u32,
        policy: &Policy,
        section: &SourceSection,
    ) -> bool {
        let Some(wanted) = &section.id else { return false };
        let asked = policy.build.as_ref().and_then(|build| build.of.as_ref());
        let rules = policy.builders.iter().filter(|rule| asked.is_none_or(|ids| ids.contains(&rule.id)));
        let certified = rules.flat_map(|rule| self.certificates(of, &rule.signer, rule.from, rule.until));
        let mut ids: Vec<&String> = certified.filter_map(|c| c.holder.id.as_ref()).collect();
        ids.extend(b.source.as_ref().and_then(|source| source.id.as_ref()));
        if !ids.is_empty() && ids.iter().all(|id| *id == wanted) {
            return true;
        }
        self.present().filter(|s| self.names(s, Node::Git(commit))).any(|s| {
            let counts = |rule: &SourceRule| self.counts(s, &rule.signer, rule.from, rule.until);
            matches!(&s.claim, Claim::Commit(c) if c.repository == section.uri && c.id.as_ref() == Some(wanted))
                && policy.sources.iter().any(counts)
        })
    }

    fn commit_signature(&self, commit: u32, keys: Option<&[u32]>, broken: &mut Vec<&'static str>) {
        let Some(object) = self.world.object(Node::Git(commit)) else {
            broken.push("SRC_COMMIT_UNKNOWN");
            return;
        };
        let Body::Commit { signature } = &object.body else {
            broken.push("SRC_COMMIT_UNKNOWN");
            return;
        };
        match signature {
            None => broken.push("SRC_UNSIGNED_COMMIT"),
            Some(Some(key))
                if self.key_counts(*key, object.received) && keys.is_none_or(|k| k.contains(key)) => {}
            Some(_) => broken.push("SRC_SIGNER_NOT_TRUSTED"),
        }
    }

    // ---- R3 ----

    #[expect(clippy::too_many_arguments, reason = "the rule has that many inputs")]
    fn inputs(
        &self,
        x: u32,
        b: &Build,
        policy: &Policy,
        hop: u32,
        broken: &mut Broken,
        out: &mut Judged,
        resolve: &mut Resolve<'_>,
    ) {
        for rule in &policy.inputs {
            for d in b.deps.iter().filter(|d| d.role == rule.role) {
                let images = matches!(rule.role, "baseImage" | "builderImage");
                let must = rule.pinned.unwrap_or(images || rule.chain || !rule.digests.is_empty());
                let Some(digest) = d.digest else {
                    if must {
                        broken.own.push("DEP_UNPINNED");
                    }
                    continue;
                };
                if rule.tolerate {
                    continue;
                }
                if d.wide.is_some_and(|w| w != digest) && self.world.document(digest).is_some() {
                    broken.own.push("ATT_DIGEST_CONFLICT");
                    continue;
                }
                let of = |code| if rule.role == "submodule" { "SRC_SUBMODULE_UNTRUSTED" } else { code };
                let elsewhere =
                    rule.allow.as_ref().is_some_and(|g| !d.resource.as_ref().is_some_and(|r| any_glob(g, r)));
                let unlisted = !rule.digests.is_empty() && !rule.digests.contains(&digest);
                broken.own.extend(
                    [elsewhere, unlisted].iter().filter(|bad| **bad).map(|_| of("DEP_BASE_NOT_ALLOWED")),
                );
                if !rule.chain || elsewhere || unlisted {
                    continue;
                }
                self.touch(Node::Content(digest), out);
                let (true, resource) = (self.known(digest), d.resource.as_deref()) else {
                    broken.own.push(of("DEP_BASE_UNKNOWN"));
                    continue;
                };
                let Some(resource) = resource else {
                    broken.own.push(of("DEP_BASE_UNTRUSTED"));
                    continue;
                };
                if let Err((code, leaves)) = resolve(digest, resource, hop, rule.depth.unwrap_or(8)) {
                    broken.own.push(if code == "DEP_BASE_UNTRUSTED" { of(code) } else { code });
                    broken.leaves.extend(leaves);
                }
            }
            if rule.role == "baseImage" && rule.undeclared_denied {
                let found = self.undeclared(x, b);
                broken.own.extend(std::iter::repeat_n("DEP_UNDECLARED_BASE", found));
            }
        }
    }

    /// How many signs there are of a base image that the build does not declare.
    fn undeclared(&self, x: u32, b: &Build) -> usize {
        let declared: Vec<u32> = b.deps.iter().filter_map(|d| d.digest).collect();
        let bases: Vec<u32> =
            b.deps.iter().filter(|d| d.role == "baseImage").filter_map(|d| d.digest).collect();
        let mut documents: Vec<u32> = self.runnable(x).into_iter().map(|(c, _)| c).collect();
        documents.push(x);
        let related = |hint: u32| {
            declared.iter().any(|d| {
                *d == hint || self.all_parents(hint).contains(d) || self.all_parents(*d).contains(&hint)
            })
        };
        let hinted = documents.iter().filter(|m| match self.world.document(**m) {
            Some(Body::Index { base, .. } | Body::Manifest { base, .. }) => base.is_some_and(|h| !related(h)),
            _ => false,
        });
        let layered =
            bases.iter().map(|base| documents.iter().filter(|m| self.other_layers(**m, *base)).count());
        hinted.count() + layered.sum::<usize>()
    }

    /// Whether both configs are known and the base's layers are not the first ones of `m`.
    fn other_layers(&self, m: u32, base: u32) -> bool {
        let Some((platform, layers)) = self.config_of(m) else { return false };
        let machine = |p: &str| p.splitn(3, '/').take(2).map(str::to_owned).collect::<Vec<_>>();
        let mut candidates = vec![base];
        candidates.extend(self.runnable(base).into_iter().map(|(c, _)| c));
        let comparable: Vec<&[u32]> = candidates
            .into_iter()
            .filter_map(|c| self.config_of(c))
            .filter(|(p, _)| machine(p) == machine(platform))
            .map(|(_, below)| below)
            .collect();
        !comparable.is_empty() && !comparable.iter().any(|below| layers.starts_with(below))
    }

    // ---- R4 ----

    fn registry(&self, a: u32, resource: &str, policy: &Policy, built: Option<&Built<'_>>, out: &mut Judged) {
        let section = policy.registry.as_ref().expect("asked only with a registry section");
        let mut nodes = vec![a];
        nodes.extend(self.all_parents(a));
        let path = section.path.clone().unwrap_or_else(|| vec![resource.to_owned()]);
        if !path.last().is_some_and(|g| glob(g.as_bytes(), resource.as_bytes())) {
            out.errors.insert("REG_WRONG_REPOSITORY");
            return;
        }
        let (mut counting, mut elsewhere, mut others, mut by_revoked) = (Vec::new(), false, false, false);
        for s in self.present() {
            let Claim::Event(e) = &s.claim else { continue };
            let named: Vec<u32> =
                nodes.iter().copied().filter(|n| self.names(s, Node::Content(*n))).collect();
            if named.is_empty() {
                continue;
            }
            let asked = |id: &String| section.promoted_by.as_ref().is_none_or(|by| by.contains(id));
            let by_rule = policy.registries.iter().filter(|r| asked(&r.id)).any(|r| {
                self.counts(s, &r.signer, r.from, r.until)
                    && r.repositories.as_ref().is_none_or(|g| any_glob(g, &e.resource))
            });
            if by_rule {
                counting.push((e, named));
                elsewhere |= e.resource != resource;
            } else {
                others = true;
                let mut rules = policy.registries.iter().filter(|r| asked(&r.id));
                by_revoked |= rules.any(|rule| self.was_taken_from(s, &rule.signer));
            }
        }
        if !counting.iter().any(|(e, _)| e.resource == resource) {
            out.errors.insert(if elsewhere {
                "REG_WRONG_REPOSITORY"
            } else if others && by_revoked {
                "ATT_REVOKED_SIGNER"
            } else if others {
                "REG_PUSHER_NOT_TRUSTED"
            } else {
                "REG_NOT_OBSERVED"
            });
            return;
        }
        let first = first_hops(a, resource, &path, &counting);
        if first.is_empty() {
            out.errors.insert("REG_PROMOTION_GAP");
            return;
        }
        let Some(Ok(covering)) = built else { return };
        let asked = policy.order.as_ref().is_none_or(|o| o.contains(&"build<push"));
        let skew = policy.skew.unwrap_or(120);
        let before =
            |e: &Event| covering.iter().all(|g| g.build.started.is_some_and(|t| e.occurred + skew < t));
        if asked && first.iter().all(|e| before(e)) {
            out.errors.insert("TIM_PUSH_BEFORE_BUILD");
        }
    }
}

/// Every event that can begin a connected path ending in `resource`: all paths are tried.
fn first_hops<'e>(
    a: u32,
    resource: &str,
    path: &[String],
    events: &[(&'e Event, Vec<u32>)],
) -> Vec<&'e Event> {
    let here = events.iter().filter(|(e, _)| e.resource == resource);
    let [before @ .., _] = path else { return Vec::new() };
    let Some(last) = before.last() else { return here.map(|(e, _)| *e).collect() };
    here.filter_map(|(e, named)| Some((e.promotion.as_ref()?, named)))
        .filter(|((from, digest), named)| {
            (*digest == a || named.contains(digest)) && glob(last.as_bytes(), from.as_bytes())
        })
        .flat_map(|((from, _), _)| first_hops(a, from, before, events))
        .collect()
}

fn names_holder(rule: &Identity, c: &Certificate) -> bool {
    let said = |name: &str| match name {
        "sourceRepositoryId" => c.holder.id.as_ref(),
        "runnerEnvironment" => c.holder.runner.as_ref(),
        other => panic!("the generator knows no extension {other}"),
    };
    c.holder.issuer.as_ref() == Some(&rule.issuer)
        && matches(&rule.san, &c.holder.san)
        && rule.ext.iter().all(|(name, text)| said(name) == Some(text))
}

/// What alone keeps a rule from naming a believed holder.
fn near_identity(s: &Statement, signer: &Signer) -> Option<&'static str> {
    let Signer::Identity(rule) = signer else { return None };
    let near = |c: &Certificate| {
        let issuer = c.holder.issuer.as_ref() == Some(&rule.issuer);
        let runs = |name: &str| name == "runnerEnvironment";
        let holds = |(name, text): &&(&str, String)| match *name {
            "sourceRepositoryId" => c.holder.id.as_ref() == Some(text),
            _ => c.holder.runner.as_ref() == Some(text),
        };
        let wrong: Vec<&str> = rule.ext.iter().filter(|e| !holds(e)).map(|(name, _)| *name).collect();
        match wrong.as_slice() {
            _ if !matches(&rule.san, &c.holder.san) => None,
            [] if !issuer => Some("BLD_ISSUER_MISMATCH"),
            [name] if issuer && runs(name) && c.holder.runner.is_some() => Some("BLD_SELF_HOSTED"),
            _ => None,
        }
    };
    s.certificates.iter().filter(|c| believed(s, c)).filter_map(near).min()
}

/// Trusted, and not proven for a time after its receipt.
fn believed(s: &Statement, c: &Certificate) -> bool {
    c.vouched && c.proven.is_none_or(|t| t <= s.received + 120)
}

fn signing_time(rule: &Identity, c: &Certificate, received: i64) -> Option<i64> {
    match (c.proven, rule.time) {
        (Some(t), _) => Some(t),
        (None, "optional") => Some(received),
        (None, "received") => Some(received).filter(|t| c.after <= *t && *t <= c.until),
        (None, _) => None,
    }
}

fn is_own_builder(c: &Certificate, builder: &str) -> bool {
    c.holder.san == builder
        || builder == "https://github.com/actions/runner/github-hosted"
            && c.holder.runner.as_deref() == Some("github-hosted")
}

/// Where certificate and provenance both speak and differ; and the repository's id that only the certificate has.
fn contradictions(b: &Build, policy: &Policy, certificates: &[&Certificate], broken: &mut Vec<&'static str>) {
    fn differ<T: PartialEq>(a: Option<T>, b: Option<T>) -> usize {
        usize::from(a.is_some() && b.is_some() && a != b)
    }
    let source = b.source.as_ref();
    for c in certificates {
        let h = &c.holder;
        let count =
            differ(h.repository.as_ref().map(|r| format!("git+{r}")), source.map(|s| s.repository.clone()))
                + differ(h.id.as_ref(), source.and_then(|s| s.id.as_ref()))
                + differ(h.commit, source.and_then(|s| s.commit))
                + differ(h.reference.as_ref(), source.and_then(|s| s.reference.as_ref()))
                + differ(h.runner.as_ref(), b.runner.as_ref())
                + differ(h.trigger.as_ref(), b.trigger.as_ref());
        broken.extend(std::iter::repeat_n("BLD_CERT_PREDICATE_MISMATCH", count));
        let wanted = policy.source.as_ref().and_then(|s| s.id.as_ref());
        if source.is_some_and(|s| s.commit.is_some() && s.id.is_none()) && differ(wanted, h.id.as_ref()) == 1
        {
            broken.push("SRC_REPO_ID_MISMATCH");
        }
    }
}

pub fn is_revoked(key: &Key, received: i64) -> bool {
    match key.revoked {
        None => false,
        Some(Since::Ever) => true,
        Some(Since::Minute(from)) => received >= from,
    }
}

pub fn within(from: Option<i64>, until: Option<i64>, at: i64) -> bool {
    from.is_none_or(|f| f <= at) && until.is_none_or(|u| at < u)
}

pub fn is_listed(list: &[String], platform: Option<&str>) -> bool {
    platform.is_some_and(|p| list.iter().any(|l| same_platform(l, p)))
}

pub fn matches(matcher: &(&str, String), text: &str) -> bool {
    match matcher.0 {
        "exact" => matcher.1 == text,
        "prefix" => text.starts_with(&matcher.1),
        _ => glob(matcher.1.as_bytes(), text.as_bytes()),
    }
}

/// What keeps a source summary, by a signer of the rule, from serving.
fn summary_fault(
    s: &Summary,
    rule: &SourceRule,
    b: &Build,
    section: &SourceSection,
    tied: bool,
) -> Option<&'static str> {
    let built = b.source.as_ref().and_then(|source| source.reference.as_ref());
    let allowed = |r: &String| section.refs.as_ref().is_none_or(|refs| any_glob(refs, r));
    let on_it = |r: &String| allowed(r) && built.is_none_or(|b| b == r);
    let any_ref_will_do = built.is_none() && section.refs.is_none();
    match () {
        () if rule.verifier.as_ref().is_some_and(|v| !matches(v, &s.verifier)) => {
            Some("VSA_SIGNER_VERIFIER_PAIR")
        }
        () if s.repository != section.uri => Some("SRC_REPO_MISMATCH"),
        () if section.id.is_some() && !tied => Some("SRC_REPO_ID_MISMATCH"),
        () if !any_ref_will_do && !s.refs.iter().any(on_it) => Some("SRC_REF_NOT_ALLOWED"),
        () if !s.passed => Some("VSA_FAILED"),
        () => None,
    }
}

/// What is wrong with the review of one commit statement, and how far it is from a good one.
fn review(c: &Commit, commit: u32, n: usize) -> Option<(u8, &'static str)> {
    let Some((revision, approvers)) = &c.review else { return Some((3, "SRC_UNREVIEWED")) };
    if *revision != commit {
        return Some((2, "SRC_REVIEW_STALE"));
    }
    let mut people: Vec<&Person> = Vec::new();
    for approver in approvers {
        if !people.iter().any(|p| same_person(p, approver)) {
            people.push(approver);
        }
    }
    let others = match &c.actor {
        Some(actor) => people.iter().filter(|p| !same_person(p, actor)).count(),
        None => people.len().saturating_sub(1),
    };
    match (others >= n, people.len() >= n) {
        (true, _) => None,
        (false, true) => Some((0, "SRC_SELF_APPROVED")),
        (false, false) => Some((1, "SRC_UNREVIEWED")),
    }
}

fn same_person(a: &Person, b: &Person) -> bool {
    match (&a.1, &b.1) {
        (Some(a), Some(b)) => a == b,
        _ => a.0 == b.0,
    }
}

/// For a domain: a statement, and whoever signed it.
type Vote<'a> = (&'a str, u32, &'a Operator);

/// Whether each of the domains has a statement that speaks for no other of them, by somebody who does not.
fn spoken_for(domains: &[&str], votes: &[Vote<'_>]) -> bool {
    let Some((domain, rest)) = domains.split_first() else { return true };
    votes.iter().filter(|(of, ..)| of == domain).any(|(_, id, by)| {
        let others: Vec<Vote<'_>> = votes.iter().filter(|v| v.1 != *id && v.2 != *by).copied().collect();
        spoken_for(rest, &others)
    })
}
