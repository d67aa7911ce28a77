//! R4: the artifact was seen pushed, or promoted hop by hop, into the repository.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::{
    digest::{Digest, Node, Sha256},
    predicate::{Claim, RegistryAction, RegistryEvent},
};
use jiff::Timestamp;

use crate::{
    policy::{
        Mode, Spec,
        document::{Registry as Rules, RegistryRule, Sha1},
        glob::{self, Glob},
    },
    reason::{Code, Reason},
    verdict::{Link, Status},
};

use super::world::{Statement, World};

/// The result of R4.
pub struct Registered {
    pub reasons: Vec<Reason>,
    pub link: Link,
    /// When the artifact was first pushed, by each statement that begins a complete path.
    pub pushed: Vec<Timestamp>,
}

/// A registry statement that counts, and the digests among artifact and parents that it is about.
struct Seen<'a> {
    id: Sha256,
    event: &'a RegistryEvent,
    about: Vec<Digest>,
}

/// Whether the statement counts for the rule, and the rule may speak about the repository.
pub fn speaks(world: &World<'_>, statement: &Statement, rule: &RegistryRule, event: &RegistryEvent) -> bool {
    rule.repositories.as_ref().is_none_or(|repositories| glob::any(repositories, &event.resource))
        && world.counts(statement, &rule.signer, rule.valid_from, rule.valid_until)
}

/// Statements that do not count.
#[derive(Clone, Copy, Default)]
struct Others {
    count: usize,
    /// What was taken back of one that a rule names the signer of.
    revoked: Option<Code>,
}

/// Judges where the artifact was seen.
pub fn judge(
    world: &mut World<'_>,
    digest: Digest,
    resource: &str,
    spec: &Spec,
    rules: &Rules,
) -> Registered {
    let mut nodes = vec![digest];
    nodes.extend(world.parents(digest));
    let mut seen: BTreeMap<Sha256, Seen<'_>> = BTreeMap::new();
    let mut others = Others::default();
    for node in nodes {
        for statement in world.naming(Node::Content(node)) {
            let Claim::Registry(event) = &statement.fact.claim else { continue };
            if spec.registries().any(|rule| speaks(world, statement, rule, event)) {
                let id = statement.fact.id;
                seen.entry(id).or_insert(Seen { id, event, about: Vec::new() }).about.push(node);
            } else {
                let revoked = || spec.registries().find_map(|rule| world.revocation(statement, &rule.signer));
                others.count += 1;
                others.revoked = others.revoked.or_else(revoked);
            }
        }
    }
    let (gone, seen): (Vec<Seen<'_>>, Vec<Seen<'_>>) =
        seen.into_values().partition(|seen| seen.event.event == RegistryAction::Delete);
    let walked = walk(digest, resource, rules, &seen, others).and_then(|walked| {
        deleted(digest, resource, &seen, &gone).map_or(Ok(walked), |gone| Err(Box::new(gone)))
    });
    match walked {
        Ok((first, evidence)) => Registered {
            pushed: first.iter().map(|seen| seen.event.occurred_at).collect(),
            link: link(digest, Status::Pass, format!("observed in {resource}"), evidence),
            reasons: moved(digest, resource, rules, &seen)
                .into_iter()
                .map(|reason| reason.under(rules.mode))
                .collect(),
        },
        Err(reason) => Registered {
            pushed: Vec::new(),
            link: link(
                digest,
                if rules.mode == Mode::Enforce { Status::Fail } else { Status::Unknown },
                format!("{}: {}", reason.code, reason.message),
                reason.evidence.clone(),
            ),
            reasons: vec![reason.under(rules.mode)],
        },
    }
}

fn link(digest: Digest, status: Status, summary: String, evidence: Vec<Sha256>) -> Link {
    Link {
        stage: "registry".to_owned(),
        status,
        node: digest.to_string(),
        summary,
        evidence,
        links: Vec::new(),
    }
}

/// The newest that is known of the image in the repository is that it was deleted there.
fn deleted(digest: Digest, resource: &str, seen: &[Seen<'_>], gone: &[Seen<'_>]) -> Option<Reason> {
    let here = |seen: &&Seen<'_>| seen.event.resource == resource;
    let pushed = seen.iter().filter(here).map(|seen| seen.event.occurred_at).max()?;
    let gone = gone.iter().filter(here).max_by_key(|gone| (gone.event.occurred_at, gone.id))?;
    let at = gone.event.occurred_at;
    (at >= pushed).then(|| {
        let message = format!("deleted from {resource} at {at}");
        let reason = Reason::error(Code::RegDeleted, digest, "registry", message);
        reason.because(format!("pushed after {at}"), pushed.to_string()).with_evidence([gone.id])
    })
}

/// Tags of the image in the repository that pointed to another image before.
fn moved(digest: Digest, resource: &str, rules: &Rules, seen: &[Seen<'_>]) -> Vec<Reason> {
    let mode = match rules.moved_tags {
        Sha1::Allow => return Vec::new(),
        Sha1::Warn => Mode::Warn,
        Sha1::Deny => Mode::Enforce,
    };
    let here = seen.iter().filter(|seen| seen.event.resource == resource);
    let moved = here.filter_map(|seen| {
        let (tag, previous) = (seen.event.tag.as_ref()?, seen.event.previous?);
        (previous != digest && !seen.about.contains(&previous)).then_some((seen, tag, previous))
    });
    let reason = |(seen, tag, previous): (&Seen<'_>, &String, Digest)| {
        let message = format!("tag `{tag}` pointed to {previous} before");
        let reason = Reason::error(Code::RegTagMoved, digest, "registry.movedTags", message);
        reason.because(digest.to_string(), previous.to_string()).with_evidence([seen.id]).under(mode)
    };
    moved.map(reason).collect()
}

type Path<'s, 'a> = (Vec<&'s Seen<'a>>, Vec<Sha256>);

/// Walks `registry.path` backwards from the repository to the build's push.
fn walk<'s, 'a>(
    digest: Digest,
    resource: &str,
    rules: &Rules,
    seen: &'s [Seen<'a>],
    others: Others,
) -> Result<Path<'s, 'a>, Box<Reason>> {
    let fail = |code: Code, rule: &str, message: String| Reason::error(code, digest, rule, message);
    let path: &[Glob] = rules.path.as_deref().unwrap_or_default();
    if let Some(last) = path.last().filter(|last| !last.matches(resource)) {
        let message = format!("{resource} is not where the promotion path ends");
        let reason = fail(Code::RegWrongRepository, "registry.path", message);
        return Err(Box::new(reason.because(last.as_str(), resource)));
    }
    let in_repository =
        |seen: &&Seen<'_>, resources: &BTreeSet<&str>| resources.contains(seen.event.resource.as_str());
    let here = BTreeSet::from([resource]);
    if !seen.iter().any(|s| in_repository(&s, &here)) {
        return Err(Box::new(if !seen.is_empty() {
            let mut elsewhere: Vec<&str> = seen.iter().map(|s| s.event.resource.as_str()).collect();
            elsewhere.sort();
            elsewhere.dedup();
            let message = format!("seen in {} only", elsewhere.join(", "));
            let reason = fail(Code::RegWrongRepository, "registry", message);
            reason.because(resource, elsewhere).with_evidence(seen.iter().map(|s| s.id))
        } else if others.count > 0 {
            let message = format!("{} registry statement(s) exist, none that counts", others.count);
            let code = others.revoked.unwrap_or(Code::RegPusherNotTrusted);
            let reason = fail(code, "trust.registries", message).because(resource, "others");
            Reason { stage: "registry".to_owned(), ..reason }
        } else {
            let message = format!("the registry has not reported it in {resource}");
            fail(Code::RegNotObserved, "registry", message).because(resource, "none")
        }));
    }

    let mut repositories = here;
    let mut evidence: BTreeSet<Sha256> = BTreeSet::new();
    let mut first: Vec<&Seen<'_>> = seen.iter().filter(|s| in_repository(s, &repositories)).collect();
    for (index, earlier) in path.iter().enumerate().rev().skip(1) {
        let promoted = |s: &&Seen<'_>| {
            let promotion = s.event.promotion.as_ref().filter(|_| s.event.event == RegistryAction::Promote);
            promotion.is_some_and(|p| s.about.contains(&p.digest) && earlier.matches(&p.from))
        };
        let hops: Vec<&Seen<'_>> = first.into_iter().filter(promoted).collect();
        repositories =
            hops.iter().filter_map(|s| s.event.promotion.as_ref()).map(|p| p.from.as_str()).collect();
        evidence.extend(hops.iter().map(|s| s.id));
        #[cfg(feature = "faults")]
        if crate::faults::on(crate::faults::Fault::SkipPreviousHop) && !hops.is_empty() {
            return Ok((hops, evidence.into_iter().collect()));
        }
        first = seen.iter().filter(|s| in_repository(s, &repositories)).collect();
        if first.is_empty() {
            let message = format!("no trusted hop from {} to {resource}", earlier.as_str());
            let reason = fail(Code::RegPromotionGap, "registry.path", message);
            let expected = format!("a promotion from path element {}", index + 1);
            return Err(Box::new(reason.because(expected, "none").with_evidence(evidence)));
        }
    }
    evidence.extend(first.iter().map(|s| s.id));
    Ok((first, evidence.into_iter().collect()))
}
