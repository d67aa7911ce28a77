//! R2, what the commit graph and the tags say: into which refs the commit went, who signed the tag, which controls were on.

use std::collections::BTreeSet;

use catenary_evidence::{
    Signature,
    digest::{GitOid, Node, Sha256},
    object::Body,
    predicate::{Build, Claim, SourceProvenance},
    reference::RepositoryUri,
};

use crate::{
    policy::{
        Spec,
        document::{Continuity, Sha1, Source as Rules, TagSignature},
        glob::{self, Glob},
    },
    reason::{Code, Reason},
};

use super::{
    source, voice,
    world::{Statement, World},
};

/// Most commits between the one that was built and one that a ref is known to have pointed to.
const MAX_GENERATIONS: usize = 64;
/// Most commits that are looked at for one build.
const MAX_COMMITS: usize = 1_000;

/// What is wrong, and the evidence that the rest rests on. `tied` says that the build names the repository id that is wanted.
pub(super) fn judge(
    world: &mut World<'_>,
    build: &Build,
    (commit, tied): (GitOid, bool),
    spec: &Spec,
    rules: &Rules,
) -> (Vec<Reason>, Vec<Sha256>) {
    let (mut reasons, mut ids) = (Vec::new(), Vec::new());
    let mut take = |result: Result<Vec<Sha256>, Box<Reason>>| match result {
        Ok(found) => ids.extend(found),
        Err(reason) => reasons.push(*reason),
    };
    if let Some(refs) = &rules.reachable_from {
        take(reached(world, (commit, tied), refs, spec, rules));
    }
    if let Some(continuity) = &rules.continuity {
        take(unbroken(world, (commit, tied), continuity, spec, rules));
    }
    let reference = build.source.as_ref().and_then(|source| source.reference.as_deref());
    let tag = reference.and_then(|reference| reference.strip_prefix("refs/tags/"));
    if let (Some(asked), Some(name)) = (&rules.signatures.tag, tag) {
        if asked.required {
            take(signed(world, commit, name, asked));
        }
        reasons.extend(moved(world, commit, name, spec, rules));
    }
    if let (GitOid::Sha1(_), Sha1::Warn | Sha1::Deny) = (commit, rules.sha1) {
        let message = format!("{commit} is known by its SHA-1 only");
        let mode =
            if rules.sha1 == Sha1::Deny { crate::policy::Mode::Enforce } else { crate::policy::Mode::Warn };
        reasons.push(Reason::error(Code::SrcSha1Only, commit, "source.sha1", message).under(mode));
    }
    (reasons, ids)
}

/// Whether a signer that the policy trusts for sources says it.
fn counts(world: &World<'_>, statement: &Statement, spec: &Spec) -> bool {
    let rules = spec.trust.sources.iter();
    rules.clone().any(|rule| world.counts(statement, &rule.signer, rule.valid_from, rule.valid_until))
}

/// Walks from the commit to those that come after it, until a trusted statement says that one of the refs pointed there.
/// Each step is proved by the bytes of the commit that names its parent.
fn reached(
    world: &mut World<'_>,
    (commit, tied): (GitOid, bool),
    refs: &[Glob],
    spec: &Spec,
    rules: &Rules,
) -> Result<Vec<Sha256>, Box<Reason>> {
    let fail = |code: Code, message: String| {
        Box::new(
            Reason::error(code, commit, "source.reachableFrom", message).because(glob::texts(refs), "none"),
        )
    };
    let mut seen = BTreeSet::from([commit]);
    let mut frontier = vec![commit];
    for _ in 0..=MAX_GENERATIONS {
        for at in &frontier {
            if let Some(id) = tip(world, *at, tied.then_some(commit), refs, spec, rules) {
                return Ok(vec![id]);
            }
        }
        let mut next = Vec::new();
        for at in frontier {
            for (heir, object) in world.heirs(at) {
                if matches!(object.fact.body, Body::Commit(_)) && seen.insert(heir) {
                    next.push(heir);
                }
            }
        }
        if next.is_empty() {
            let message = format!("no trusted statement says that {commit} went into such a ref");
            return Err(fail(Code::SrcNotReachable, message));
        }
        if seen.len() > MAX_COMMITS {
            break;
        }
        frontier = next;
    }
    let message = format!("more commits come after {commit} than are looked at");
    Err(fail(Code::SysLimitExceeded, message))
}

/// The trusted statement by which one of the refs pointed to the commit.
fn tip(
    world: &mut World<'_>,
    commit: GitOid,
    built: Option<GitOid>,
    refs: &[Glob],
    spec: &Spec,
    rules: &Rules,
) -> Option<Sha256> {
    let statements = world.naming(Node::Git(commit));
    let world = &*world;
    let tied = built == Some(commit) || source::is_tied(world, &statements, spec, rules);
    let of_id = |statement: &Statement| source::is_of_id(world, statement, spec, rules, tied);
    let here = |repository: &str| {
        let canonical = repository.parse::<RepositoryUri>().map(|uri| uri.to_string());
        canonical.as_deref().unwrap_or(repository) == rules.repository.uri
    };
    let says = |statement: &Statement| match &statement.fact.claim {
        Claim::Commit(claim) => {
            let same_id = rules.repository.id.is_none() || claim.repository_id == rules.repository.id;
            let here = here(&claim.repository)
                || rules.repository.is(&claim.repository, claim.repository_id.as_deref());
            here && same_id && glob::any(refs, &claim.reference)
        }
        Claim::SourceProvenance(claim) => {
            let reference = claim.reference.as_deref().map(full);
            of_id(statement)
                && claim.repository.as_deref().is_some_and(here)
                && reference.is_some_and(|reference| glob::any(refs, &reference))
        }
        Claim::Summary(summary) => {
            let about = statement.fact.subjects.iter().filter(|s| s.digests.git.contains(&commit));
            let speaks = spec.trust.sources.iter().any(|rule| {
                source::speaks_for(rule, summary)
                    && world.counts(statement, &rule.signer, rule.valid_from, rule.valid_until)
            });
            of_id(statement)
                && summary.passed
                && speaks
                && here(&summary.resource_uri)
                && about.flat_map(|subject| &subject.source_refs).any(|r| glob::any(refs, r))
        }
        _ => false,
    };
    statements.into_iter().find(|s| says(s) && counts(world, s, spec)).map(|s| s.fact.id)
}

/// Source provenance names branches without `refs/heads/`.
fn full(reference: &str) -> String {
    match reference.starts_with("refs/") {
        true => reference.to_owned(),
        false => format!("refs/heads/{reference}"),
    }
}

/// Some trusted source provenance of the commit says that the control was on since then.
fn unbroken(
    world: &mut World<'_>,
    (commit, tied): (GitOid, bool),
    asked: &Continuity,
    spec: &Spec,
    rules: &Rules,
) -> Result<Vec<Sha256>, Box<Reason>> {
    let mut latest = None;
    let statements = world.naming(Node::Git(commit));
    let tied = tied || source::is_tied(world, &statements, spec, rules);
    for statement in statements {
        let (repository, controls) = match &statement.fact.claim {
            Claim::SourceProvenance(SourceProvenance { repository, controls, .. }) => (repository, controls),
            Claim::TagProvenance(tag) => (&tag.repository, &tag.controls),
            _ => continue,
        };
        if repository.as_ref() != Some(&rules.repository.uri)
            || !counts(world, statement, spec)
            || !source::is_of_id(world, statement, spec, rules, tied)
        {
            continue;
        }
        let since =
            controls.iter().filter(|control| control.name == asked.control).filter_map(|c| c.since).min();
        if since.is_some_and(|since| since <= asked.since) {
            return Ok(vec![statement.fact.id]);
        }
        latest = latest.max(since);
    }
    let message = match latest {
        Some(since) => format!("`{}` is on since {since} only", asked.control),
        None => format!("no trusted source provenance says that `{}` was on", asked.control),
    };
    let reason = Reason::error(Code::SrcContinuityGap, commit, "source.continuity", message);
    let found = latest.map(|since| since.to_string());
    Err(Box::new(reason.because(format!("since {}", asked.since), found)))
}

/// Enough of the named signers signed a tag object of that name for the commit.
fn signed(
    world: &mut World<'_>,
    commit: GitOid,
    name: &str,
    asked: &TagSignature,
) -> Result<Vec<Sha256>, Box<Reason>> {
    let fail =
        |code: Code, message: String| Box::new(Reason::error(code, commit, "source.signatures.tag", message));
    let (mut ids, mut signers, mut signatures) = (Vec::new(), BTreeSet::new(), 0);
    for (_, object) in world.heirs(commit) {
        let Body::Tag(tag) = &object.fact.body else { continue };
        let Some(signature) = tag.signature.as_ref().filter(|_| tag.name == name && tag.target == commit)
        else {
            continue;
        };
        signatures += 1;
        let verified = signature.verified.as_ref().filter(|v| accepts(world, v, object.received_at, asked));
        if let Some(verified) = verified {
            ids.push(object.fact.id);
            signers.insert(voice::name_of(world, &verified.signer));
        }
    }
    if signatures == 0 {
        let message = format!("no signed tag object `{name}` of the commit is known");
        return Err(fail(Code::SrcTagUnsigned, message));
    }
    if signers.len() < asked.at_least as usize {
        let message = format!(
            "{} trusted signer(s) signed tag `{name}`, the policy wants {}",
            signers.len(),
            asked.at_least
        );
        let reason = fail(Code::SrcSignerNotTrusted, message);
        return Err(Box::new(reason.because(asked.at_least, signers.len())));
    }
    Ok(ids)
}

/// Whether the signature is by somebody whom the policy names; by any key that counts when it names nobody.
fn accepts(
    world: &World<'_>,
    signature: &Signature,
    received: jiff::Timestamp,
    asked: &TagSignature,
) -> bool {
    match signature.signer.key() {
        Some(key) => {
            let nobody = asked.keys.is_none() && asked.identities.is_none() && asked.principals.is_none();
            let named = asked.keys.as_ref().is_some_and(|keys| keys.contains(&key))
                || asked.principals.as_ref().is_some_and(|group| world.is_in_group(&key, group));
            (nobody || named) && world.key_counts(&key, received)
        }
        None => {
            let identities = asked.identities.as_deref().unwrap_or_default();
            world.identity_counts(signature, received, identities)
        }
    }
}

/// A trusted statement says that the tag pointed elsewhere before.
fn moved(world: &mut World<'_>, commit: GitOid, name: &str, spec: &Spec, rules: &Rules) -> Option<Reason> {
    let reference = format!("refs/tags/{name}");
    for statement in world.naming(Node::Git(commit)) {
        let Claim::Commit(claim) = &statement.fact.claim else { continue };
        let about = rules.repository.is(&claim.repository, claim.repository_id.as_deref())
            && claim.reference == reference;
        let before = claim.previous.filter(|before| about && *before != commit);
        // The ref of an annotated tag points to its tag object: one that is of this commit is no move.
        let same = |world: &mut World<'_>, before: GitOid| {
            let object = world.object(Node::Git(before)).map(|object| &object.body);
            matches!(object, Some(Body::Tag(tag)) if tag.target == commit)
        };
        if let Some(before) = before
            && counts(world, statement, spec)
            && !same(world, before)
        {
            let message = format!("tag `{name}` pointed to {before} before");
            let reason = Reason::error(Code::SrcTagMoved, commit, "source.signatures.tag", message);
            let reason = reason.because(before.to_string(), commit.to_string());
            return Some(reason.with_evidence([statement.fact.id]));
        }
    }
    None
}
