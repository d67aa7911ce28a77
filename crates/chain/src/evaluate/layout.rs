//! in-toto layouts: every step was done by its functionaries, what each took in was given out before it, and the last
//! gave out this image.
//!
//! Links are found from the image backwards: those that made it, those that made what went into them, and so on.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use catenary_evidence::{
    KeyId,
    digest::{Digest, Node, Sha256},
    layout::{Artifacts, Layout, Link as StepLink, Side, Step, apply},
    predicate::Claim,
};

use crate::{
    policy::{Signer, Spec, document::LayoutRule},
    reason::{Code, Reason},
    verdict::{Link, Status},
};

use super::world::{Statement, World};

/// Most artifacts that the links of one layout are looked for by.
const MAX_ARTIFACTS: usize = 4_096;
/// Most ways to choose one result for each step that are tried.
const MAX_CHOICES: usize = 4_096;
/// Most layouts in each other.
const MAX_DEPTH: usize = 8;

/// Judges every layout that the policy asks for.
pub fn judge(world: &mut World<'_>, digest: Digest, spec: &Spec) -> (Vec<Reason>, Vec<Link>) {
    let (mut reasons, mut links) = (Vec::new(), Vec::new());
    for rule in &spec.layouts {
        let mut task = Task { world, rule, digest, evidence: BTreeSet::new() };
        let result = task.judge().map_err(|reason| reason.under(rule.mode));
        let evidence: Vec<Sha256> = task.evidence.into_iter().collect();
        let (status, summary) = match &result {
            Ok(()) => (Status::Pass, format!("layout {} ends in the image", rule.layout)),
            Err(reason) if !reason.is_error() => (Status::Unknown, reason.message.clone()),
            Err(reason) => (Status::Fail, reason.message.clone()),
        };
        links.push(Link {
            stage: "layout".to_owned(),
            status,
            node: digest.to_string(),
            summary,
            evidence: evidence.clone(),
            links: Vec::new(),
        });
        reasons.extend(result.err().map(|reason| reason.with_evidence(evidence)));
    }
    (reasons, links)
}

/// One layout, and one image that it should end in.
struct Task<'w, 'a> {
    world: &'w mut World<'a>,
    rule: &'w LayoutRule,
    digest: Digest,
    /// What the result rests on.
    evidence: BTreeSet<Sha256>,
}

/// One result of a step, and who vouches for it.
struct Done<'a> {
    link: Cow<'a, StepLink>,
    ids: Vec<Sha256>,
    keys: BTreeSet<KeyId>,
}

/// Links that count for the rule, each with the keys by which it does.
type Pool<'a> = BTreeMap<Sha256, (&'a StepLink, BTreeSet<KeyId>)>;

impl<'a> Task<'_, 'a> {
    fn judge(&mut self) -> Result<(), Box<Reason>> {
        let ends: BTreeSet<Digest> =
            std::iter::once(self.digest).chain(self.world.parents(self.digest)).collect();
        let rule = self.rule;
        let layout = self.layout(rule.layout, &rule.signer, None);
        let pool = self.pool(&ends)?;
        let layout = self.fresh(layout?)?;
        self.resolve(layout, &pool, Some(&ends), 0).map(|_| ())
    }

    fn reason(&self, code: Code, message: String) -> Box<Reason> {
        Box::new(Reason::error(code, self.digest, "layouts", message))
    }

    /// The layout with this digest, signed by a signer that counts; for a sublayout by enough functionaries of its step.
    fn layout(
        &mut self,
        digest: Sha256,
        signer: &Signer,
        step: Option<&Step>,
    ) -> Result<&'a Layout, Box<Reason>> {
        let node = Node::Content(Digest::Sha256(digest.0));
        let (mut others, mut keys, mut found) = (0, BTreeSet::new(), None);
        for statement in self.world.naming(node) {
            let Claim::Layout(layout) = &statement.fact.claim else { continue };
            if statement.fact.payload != digest {
                continue;
            }
            let counts = match step {
                None => {
                    statement.fact.keys().iter().all(|key| lived(statement, key))
                        && self.world.counts(statement, signer, None, None)
                }
                Some(step) => {
                    let by = self.keys(statement, Some(step));
                    keys.extend(by.iter().copied());
                    !by.is_empty()
                }
            };
            if counts {
                self.evidence.insert(statement.fact.id);
                found = Some(layout);
            } else {
                others += 1;
            }
        }
        let enough = step.is_none_or(|step| keys.len() >= step.threshold as usize);
        match found {
            Some(layout) if enough => Ok(layout),
            Some(_) => Err(self.reason(
                Code::LayThreshold,
                format!("layout {digest} is signed by {} functionaries of its step only", keys.len()),
            )),
            None if others > 0 => {
                let message = format!("layout {digest} is known, but by nobody who may sign it");
                Err(self.reason(Code::LaySignerNotTrusted, message))
            }
            None => Err(self.reason(Code::LayMissing, format!("layout {digest} is not known"))),
        }
    }

    fn fresh(&mut self, layout: &'a Layout) -> Result<&'a Layout, Box<Reason>> {
        self.world.horizons.push(layout.expires);
        if self.world.now >= layout.expires {
            let message = format!("the layout expired at {}", layout.expires);
            let reason = self.reason(Code::LayExpired, message);
            let until = format!("before {}", layout.expires);
            return Err(Box::new(reason.because(until, self.world.now.to_string())));
        }
        Ok(layout)
    }

    /// The functionaries by whose signatures a statement counts; of a step, when one is given.
    fn keys(&self, statement: &Statement, step: Option<&Step>) -> BTreeSet<KeyId> {
        let named = |key: &KeyId| {
            self.rule.functionaries.names(key, self.world.control)
                && step.is_none_or(|step| step.functionaries.contains(key))
                && lived(statement, key)
        };
        let counts = |key: &KeyId| self.world.counts(statement, &Signer::Keys(vec![*key]), None, None);
        statement.fact.keys().into_iter().filter(named).filter(counts).collect()
    }

    /// Every link that counts and that what the image was made of leads to.
    fn pool(&mut self, ends: &BTreeSet<Digest>) -> Result<Pool<'a>, Box<Reason>> {
        let mut pool = Pool::new();
        let mut seen: BTreeSet<Digest> = ends.clone();
        let mut open: Vec<Digest> = ends.iter().copied().collect();
        while let Some(digest) = open.pop() {
            for statement in self.world.naming(Node::Content(digest)) {
                let Claim::Link(link) = &statement.fact.claim else { continue };
                let keys = self.keys(statement, None);
                if keys.is_empty() || pool.insert(statement.fact.id, (link, keys)).is_some() {
                    continue;
                }
                open.extend(contents(&link.materials).filter(|digest| seen.insert(*digest)));
            }
            if seen.len() > MAX_ARTIFACTS {
                let message = format!("the steps before the image have more than {MAX_ARTIFACTS} artifacts");
                return Err(self.reason(Code::SysLimitExceeded, message));
            }
        }
        Ok(pool)
    }

    /// The result of the whole layout as one link: what its first step took in, what its last gave out.
    fn resolve(
        &mut self,
        layout: &'a Layout,
        pool: &Pool<'a>,
        ends: Option<&BTreeSet<Digest>>,
        depth: usize,
    ) -> Result<StepLink, Box<Reason>> {
        let mut results = Vec::new();
        for (position, step) in layout.steps.iter().enumerate() {
            let last = position + 1 == layout.steps.len();
            let mut done = self.step(layout, step, pool, depth)?;
            if let Some(ends) = ends.filter(|_| last) {
                done.retain(|done| contents(&done.link.products).any(|digest| ends.contains(&digest)));
                if done.is_empty() {
                    let message = format!("the last step, `{}`, gave out something else", step.name);
                    return Err(self.reason(Code::LayOtherProduct, message));
                }
            }
            results.push(done);
        }
        let chosen = self.choose(layout, &results)?;
        let all = chosen.iter().zip(&results).map(|(at, done)| &done[*at]);
        let ids: Vec<Sha256> = all.clone().flat_map(|done| done.ids.iter().copied()).collect();
        self.evidence.extend(ids);
        let links: Vec<&StepLink> = all.map(|done| &*done.link).collect();
        Ok(StepLink {
            name: String::new(),
            materials: links.first().map(|link| link.materials.clone()).unwrap_or_default(),
            products: links.last().map(|link| link.products.clone()).unwrap_or_default(),
        })
    }

    /// What enough functionaries say came of the step: one for each result that they agree on.
    fn step(
        &mut self,
        layout: &Layout,
        step: &Step,
        pool: &Pool<'a>,
        depth: usize,
    ) -> Result<Vec<Done<'a>>, Box<Reason>> {
        let functionaries = self.living(layout, step);
        if let Some(digest) = self.rule.sublayouts.get(&step.name) {
            if depth >= MAX_DEPTH {
                let message = format!("more than {MAX_DEPTH} layouts are in each other");
                return Err(self.reason(Code::SysLimitExceeded, message));
            }
            let rule = self.rule;
            let step = &Step { functionaries, ..step.clone() };
            let inner = self.layout(*digest, &rule.functionaries, Some(step))?;
            let inner = self.fresh(inner)?;
            let link = StepLink { name: step.name.clone(), ..self.resolve(inner, pool, None, depth + 1)? };
            let (link, ids, keys) = (Cow::Owned(link), Vec::new(), BTreeSet::new());
            return Ok(vec![Done { link, ids, keys }]);
        }
        let mut done: Vec<Done<'a>> = Vec::new();
        let mut others = 0;
        for (id, (link, keys)) in pool.iter().filter(|(_, (link, _))| link.name == step.name) {
            let by: BTreeSet<KeyId> =
                keys.iter().filter(|key| functionaries.contains(key)).copied().collect();
            if by.is_empty() {
                others += 1;
                continue;
            }
            match done.iter_mut().find(|known| *known.link == **link) {
                Some(known) => {
                    known.keys.extend(by);
                    known.ids.push(*id);
                }
                None => {
                    done.push(Done { link: Cow::Borrowed(*link), ids: vec![*id], keys: by });
                }
            }
        }
        let most = done.iter().map(|done| done.keys.len()).max();
        done.retain(|done| done.keys.len() >= step.threshold as usize);
        if !done.is_empty() {
            return Ok(done);
        }
        let name = &step.name;
        if !step.unread.is_empty() {
            let message = format!(
                "step `{name}` was done by too few of whom Catenary can know again; it may be done by {}, too",
                step.unread.join(", ")
            );
            return Err(self.reason(Code::LayFunctionaryUnknown, message));
        }
        Err(match most {
            Some(most) => {
                let message = format!(
                    "{most} functionary agrees on step `{name}`, the layout wants {}",
                    step.threshold
                );
                Box::new(self.reason(Code::LayThreshold, message).because(step.threshold, most))
            }
            None if others > 0 => {
                let message = format!("step `{name}` was done by nobody who may do it");
                self.reason(Code::LayFunctionary, message)
            }
            None => self.reason(Code::LayStepMissing, format!("no link of step `{name}` leads to the image")),
        })
    }

    /// Who of the step's functionaries has a key that did not end.
    fn living(&mut self, layout: &Layout, step: &Step) -> Vec<KeyId> {
        let (mut living, now) = (step.functionaries.clone(), self.world.now);
        living.retain(|key| layout.ends.get(key).is_none_or(|end| now < *end));
        self.world.horizons.extend(living.iter().filter_map(|key| layout.ends.get(key)));
        living
    }

    /// One result for each step, so that all artifact rules hold.
    fn choose(&self, layout: &Layout, results: &[Vec<Done<'_>>]) -> Result<Vec<usize>, Box<Reason>> {
        let mut chosen = vec![0; results.len()];
        let mut first = None;
        for _ in 0..MAX_CHOICES {
            match breach(layout, &chosen, results) {
                None => return Ok(chosen),
                Some(why) => first.get_or_insert(why),
            };
            // The next choice, as an odometer turns.
            let turns = |at: &usize| chosen[*at] + 1 < results[*at].len();
            let Some(at) = (0..chosen.len()).find(turns) else {
                return Err(self.reason(Code::LayRule, first.unwrap_or_default()));
            };
            chosen[at] += 1;
            chosen[..at].fill(0);
        }
        let message = format!("more than {MAX_CHOICES} ways through the layout were tried");
        Err(self.reason(Code::SysLimitExceeded, message))
    }
}

/// The first rule that does not hold.
fn breach(layout: &Layout, chosen: &[usize], results: &[Vec<Done<'_>>]) -> Option<String> {
    let links: BTreeMap<&str, &StepLink> = (layout.steps.iter().zip(chosen).zip(results))
        .map(|((step, at), done)| (step.name.as_str(), &*done[*at].link))
        .collect();
    layout.steps.iter().find_map(|step| {
        let link = links.get(step.name.as_str())?;
        let sides =
            [(Side::Materials, &step.materials, "materials"), (Side::Products, &step.products, "products")];
        sides.into_iter().find_map(|(side, rules, word)| {
            let breach = apply(rules, link, side, &links).err()?;
            Some(format!("{word} of step `{}`: {breach}", step.name))
        })
    })
}

/// Whether our log received the statement while the key that made this signature was not expired: the time in an OpenPGP
/// signature is its maker's word.
fn lived(statement: &Statement, key: &KeyId) -> bool {
    let mut by = statement.fact.signatures.iter().filter(|s| s.signer.key() == Some(*key));
    by.all(|signature| signature.expires.is_none_or(|until| statement.received_at < until))
}

fn contents(artifacts: &Artifacts) -> impl Iterator<Item = Digest> {
    artifacts.values().flat_map(|set| set.content.iter().copied())
}
