//! The oracle for R5, R6 and R8: everything is compared with everything, nothing is found by order.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    decide::{Codes, Oracle, any_glob, is_listed, is_revoked, matches, within},
    world::{Claim, Node, Policy, Statement},
    world_more::{Require, Speaker, VerifierRule, Vsa},
};

/// What R5 comes to.
pub enum Delegated {
    /// Not asked.
    No,
    Stands,
    Not(&'static str),
}

impl Oracle<'_> {
    /// Nodes that are one with the image: itself and the indexes that hold it.
    fn whole(&self, a: u32) -> Vec<u32> {
        [vec![a], self.parents(a)].concat()
    }

    fn about(&self, nodes: &[Node]) -> Vec<&Statement> {
        self.present().filter(|s| nodes.iter().any(|n| self.names(s, *n))).collect()
    }

    fn own_time(s: &Statement) -> i64 {
        let own = match &s.claim {
            Claim::Sbom(created) | Claim::Svr(_, created) => *created,
            Claim::Vsa(vsa) => vsa.verified,
            _ => None,
        };
        own.into_iter().chain([Self::existed(s)]).min().unwrap_or_default()
    }

    /// Who stands behind a statement, each operator once.
    fn speakers(&self, s: &Statement, speaker: &Speaker, policy: &Policy) -> BTreeSet<String> {
        let key_name = |k: u32| match &self.world.keys[k as usize].service {
            Some(service) => format!("service {service}"),
            None => format!("key {k}"),
        };
        let mut found = BTreeSet::new();
        let counted = |k: u32, signer, from, until| {
            self.named(signer).contains(&k)
                && self.key_counts(k, s.received)
                && self.first_copy(s, k)
                && within(from, until, s.received)
        };
        match speaker {
            Speaker::Signer(signer) => {
                found.extend(
                    s.signers.iter().filter(|k| counted(**k, signer, None, None)).map(|k| key_name(*k)),
                );
                found.extend(self.certificates(s, signer, None, None).iter().map(|c| c.holder.san.clone()));
            }
            Speaker::AnyOf(ids) => {
                let rules: Vec<_> = policy.builders.iter().filter(|r| ids.contains(&r.id)).collect();
                let domain =
                    |r: &&&super::world::BuilderRule| r.domain.clone().unwrap_or_else(|| r.id.clone());
                for k in &s.signers {
                    let by = rules.iter().find(|r| counted(*k, &r.signer, r.from, r.until));
                    found.extend(by.as_ref().map(domain));
                }
                for c in &s.certificates {
                    let counts = |r: &&&super::world::BuilderRule| {
                        let counting = self.certificates(s, &r.signer, r.from, r.until);
                        counting.iter().any(|o| o.holder == c.holder)
                    };
                    found.extend(rules.iter().find(counts).as_ref().map(domain));
                }
            }
        }
        found
    }

    fn by_revoked(&self, s: &Statement, speaker: &Speaker, policy: &Policy) -> bool {
        let named = match speaker {
            Speaker::Signer(signer) => self.named(signer),
            Speaker::AnyOf(ids) => {
                let rules = policy.builders.iter().filter(|r| ids.contains(&r.id));
                rules.flat_map(|r| self.named(&r.signer)).collect()
            }
        };
        s.signers.iter().any(|k| named.contains(k) && is_revoked(&self.world.keys[*k as usize], s.received))
    }

    fn is_own(&self, s: &Statement) -> bool {
        let ours = |k: &u32| self.world.keys[*k as usize].service.as_deref() == Some("vsa");
        matches!(s.claim, Claim::Vsa(_) | Claim::Summary(_)) && s.signers.iter().any(ours)
    }

    // ---- R6 and R8 ----

    /// Codes of `require` and `negatives`. `commits`: those that good builds name.
    pub fn properties(&self, a: u32, resource: &str, policy: &Policy, commits: &BTreeSet<u32>) -> Codes {
        let mut codes = Codes::new();
        for rule in policy.more.require.iter().filter(|r| r.mode == "enforce") {
            codes.extend(self.required(a, policy, rule, commits));
        }
        let children: Vec<u32> = self.runnable(a).into_iter().map(|(c, _)| c).collect();
        let nodes: Vec<Node> = [self.whole(a), children].concat().into_iter().map(Node::Content).collect();
        if let Some(speaker) = &policy.more.failed_tests {
            let all: Vec<Node> = nodes.iter().copied().chain(commits.iter().map(|c| Node::Git(*c))).collect();
            let about = self.about(&all);
            let tests = about.iter().filter(|s| matches!(s.claim, Claim::Test(_)));
            let by_whom: Vec<(&&Statement, String)> = tests
                .flat_map(|s| self.speakers(s, speaker, policy).into_iter().map(move |who| (s, who)))
                .collect();
            let failed = |s: &Statement| matches!(s.claim, Claim::Test("FAILED"));
            let later = |s: &Statement, who: &String| {
                by_whom.iter().any(|(o, by)| by == who && Self::own_time(o) > Self::own_time(s))
            };
            if by_whom.iter().any(|(s, who)| failed(s) && !later(s, who)) {
                codes.insert("PRP_FAILED");
            }
        }
        if let Some(from) = &policy.more.failed_summaries {
            for rule in
                policy.more.verifiers.iter().filter(|r| from.as_ref().is_none_or(|f| f.contains(&r.id)))
            {
                let about = self.about(&nodes);
                let of_rule: Vec<(&Statement, &Vsa)> = about
                    .into_iter()
                    .filter_map(|s| Some((s, vsa(s)?)))
                    .filter(|(s, v)| self.step(a, s, v, rule, resource).is_none())
                    .collect();
                let passed_later = |t: i64| of_rule.iter().any(|(s, v)| v.passed && Self::own_time(s) > t);
                if of_rule.iter().any(|(s, v)| !v.passed && !passed_later(Self::own_time(s))) {
                    codes.insert("VSA_FAILED");
                }
            }
        }
        codes
    }

    fn required(&self, a: u32, policy: &Policy, rule: &Require, commits: &BTreeSet<u32>) -> Codes {
        let missing = if rule.kinds == ["cyclonedx"] {
            "PRP_SBOM_MISSING"
        } else if rule.at_least.is_some() {
            "PRP_APPROVAL_MISSING"
        } else {
            "PRP_MISSING"
        };
        if rule.source {
            if commits.is_empty() {
                return Codes::from([missing]);
            }
            let of = |c: &u32| self.of_part(&self.about(&[Node::Git(*c)]), policy, rule, missing);
            return commits.iter().flat_map(of).collect();
        }
        let wanted = |platform: &Option<String>| match &policy.platforms {
            Some(list) if policy.extra_allowed => is_listed(list, platform.as_deref()),
            _ => true,
        };
        let mut parts: Vec<u32> =
            self.runnable(a).into_iter().filter(|(_, p)| wanted(p)).map(|(c, _)| c).collect();
        if parts.is_empty() {
            parts.push(a);
        }
        let shared = if rule.per_platform { Vec::new() } else { self.whole(a) };
        let of = |part: &u32| {
            let nodes: Vec<Node> = shared.iter().chain([part]).map(|n| Node::Content(*n)).collect();
            self.of_part(&self.about(&nodes), policy, rule, missing)
        };
        parts.iter().flat_map(of).collect()
    }

    fn of_part(&self, about: &[&Statement], policy: &Policy, rule: &Require, missing: &'static str) -> Codes {
        let kind = |s: &Statement| match s.claim {
            Claim::Test(_) => "test-result",
            Claim::Svr(..) => "svr",
            Claim::Sbom(_) => "cyclonedx",
            Claim::Vsa(_) | Claim::Summary(_) => "vsa",
            _ => "",
        };
        let asked: Vec<&&Statement> =
            about.iter().filter(|s| rule.kinds.contains(&kind(s)) && !self.is_own(s)).collect();
        let mut by_whom: BTreeMap<String, Vec<&Statement>> = BTreeMap::new();
        for s in &asked {
            for who in self.speakers(s, &rule.signer, policy) {
                by_whom.entry(who).or_default().push(s);
            }
        }
        if by_whom.is_empty() {
            let revoked = asked.iter().any(|s| self.by_revoked(s, &rule.signer, policy));
            return Codes::from([match (asked.is_empty(), revoked) {
                (true, _) => missing,
                (false, true) => "ATT_REVOKED_SIGNER",
                (false, false) => "PRP_SIGNER_NOT_TRUSTED",
            }]);
        }
        let (mut well, mut wrong) = (0, Codes::new());
        for said in by_whom.values() {
            let newest = |s: &&&Statement| {
                !said.iter().any(|o| kind(o) == kind(s) && Self::own_time(o) > Self::own_time(s))
            };
            let judged: Vec<Option<&str>> = said.iter().filter(newest).map(|s| self.grade(s, rule)).collect();
            let bad = judged.iter().flatten().any(|c| *c != "PRP_STALE");
            if !bad && judged.contains(&None) {
                well += 1;
            } else {
                wrong.extend(judged.into_iter().flatten().filter(|c| !bad || *c != "PRP_STALE"));
            }
        }
        match (well >= rule.at_least.unwrap_or(1) as usize, wrong.is_empty()) {
            (true, _) => Codes::new(),
            (false, true) => Codes::from(["PRP_APPROVAL_MISSING"]),
            (false, false) => wrong,
        }
    }

    fn grade(&self, s: &Statement, rule: &Require) -> Option<&'static str> {
        let result = match &s.claim {
            Claim::Test(result) => Some(*result),
            Claim::Vsa(v) => Some(if v.passed { "PASSED" } else { "FAILED" }),
            Claim::Summary(v) => Some(if v.passed { "PASSED" } else { "FAILED" }),
            _ => None,
        };
        let accepted = rule.result.clone().unwrap_or(vec!["PASSED"]);
        let said = result.is_some_and(|r| accepted.contains(&r)) || result.is_none() && rule.result.is_none();
        let has: &[String] = match &s.claim {
            Claim::Svr(properties, _) => properties,
            Claim::Summary(v) => &v.properties,
            _ => &[],
        };
        let holds = rule.properties.iter().flatten().all(|p| has.contains(p));
        if !said || !holds {
            return Some("PRP_FAILED");
        }
        let stale = rule.max_age.is_some_and(|age| self.world.now > Self::own_time(s) + age);
        stale.then_some("PRP_STALE")
    }

    // ---- R5 ----

    /// The first of the steps before the verdict itself that a summary fails, by number, and its code.
    fn step(
        &self,
        a: u32,
        s: &Statement,
        v: &Vsa,
        rule: &VerifierRule,
        resource: &str,
    ) -> Option<(u8, &'static str)> {
        let named = self.named(&rule.signer);
        let revoked = s
            .signers
            .iter()
            .any(|k| named.contains(k) && is_revoked(&self.world.keys[*k as usize], s.received));
        let spoken = rule.resources.as_ref().is_none_or(|r| any_glob(r, resource));
        let of_image = self.whole(a).iter().any(|n| self.names(s, Node::Content(*n)));
        match () {
            () if !of_image => Some((0, "VSA_MISSING")),
            () if !self.counts(s, &rule.signer, rule.from, rule.until) => {
                Some(if revoked { (1, "ATT_REVOKED_SIGNER") } else { (0, "VSA_MISSING") })
            }
            () if self.is_own(s) => Some((2, "VSA_SELF_ISSUED")),
            () if !matches(&rule.verifier, &v.verifier) => Some((3, "VSA_SIGNER_VERIFIER_PAIR")),
            () if !spoken || v.resource != resource => Some((4, "VSA_RESOURCE_MISMATCH")),
            () if !rule.policies.contains(&v.policy) => Some((5, "VSA_POLICY_NOT_ALLOWED")),
            () => None,
        }
    }

    /// R5, when the evidence of the build does not suffice.
    pub fn delegated(&self, a: u32, resource: &str, policy: &Policy, depth: u32, enough: bool) -> Delegated {
        let Some(section) = policy.more.summary.as_ref().filter(|_| !enough) else { return Delegated::No };
        let mut worst = (0, "VSA_MISSING");
        let asked = |r: &&VerifierRule| section.from.as_ref().is_none_or(|f| f.contains(&r.id));
        for rule in policy.more.verifiers.iter().filter(asked) {
            let mut candidates: Vec<(i64, &Vsa)> = Vec::new();
            for s in self.present() {
                let Some(v) = vsa(s) else { continue };
                match self.step(a, s, v, rule, resource) {
                    Some(step) => worst = worst.max(step),
                    None => candidates.push((Self::own_time(s), v)),
                }
            }
            let Some(at) = candidates.iter().map(|(at, _)| *at).max() else { continue };
            // Of several at the same moment each must do.
            let same = candidates.iter().filter(|(t, _)| *t == at);
            match same.filter_map(|(at, v)| self.says(v, *at, rule, policy)).max() {
                Some(step) => worst = worst.max(step),
                None if depth >= section.depth.unwrap_or(8) => worst = worst.max((9, "VSA_DEPTH")),
                None => return Delegated::Stands,
            }
        }
        Delegated::Not(worst.1)
    }

    fn says(&self, v: &Vsa, at: i64, rule: &VerifierRule, policy: &Policy) -> Option<(u8, &'static str)> {
        let section = policy.more.summary.as_ref()?;
        let capped = |level: Option<u8>| level.map(|l| l.min(rule.max_level.unwrap_or(4)));
        let own = policy.build.as_ref().map_or(0, |b| b.min_level);
        // A level that the section asks for must be stated, be it 0.
        let build = section.build.map(|wanted| wanted.max(own)).or((own > 0).then_some(own));
        let source = policy.source.as_ref().map(|s| s.min_level).filter(|l| *l > 0);
        let enough = |wanted: Option<u8>, found: Option<u8>| wanted.is_none_or(|w| found >= Some(w));
        if !v.passed {
            Some((6, "VSA_FAILED"))
        } else if !enough(build, capped(v.build).filter(|_| !v.twice)) || !enough(source, capped(v.source)) {
            Some((7, "VSA_LEVEL_TOO_LOW"))
        } else if section.max_age.is_some_and(|age| self.world.now > at + age) {
            Some((8, "VSA_STALE"))
        } else {
            None
        }
    }

    /// Whether what is asked can only be answered with the bytes of the image.
    pub fn needs_bytes(policy: &Policy) -> bool {
        policy.more.has_negatives() || policy.more.require.iter().any(|r| r.per_platform)
    }
}

fn vsa(s: &Statement) -> Option<&Vsa> {
    match &s.claim {
        Claim::Vsa(v) => Some(v),
        _ => None,
    }
}
