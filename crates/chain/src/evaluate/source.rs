//! R2: the commit is of the expected repository and ref, with the controls that the policy wants.

use catenary_evidence::{
    Identity,
    digest::{Digest, GitOid, Node, Sha256},
    object::Body,
    predicate::{Actor, Build, Claim, Commit, Review, Summary},
    reference::RepositoryUri,
};

use crate::{
    policy::{
        Spec,
        document::{Source as Rules, SourceRule},
        glob,
    },
    reason::{Code, Reason},
};

use super::{
    history, ids,
    world::{Statement, World},
};

/// The result of R2 for one build statement.
pub struct Sourced {
    pub reasons: Vec<Reason>,
    /// When each trusted commit statement of step 4 says that the ref was updated; empty beside a source summary.
    pub evidence: Vec<jiff::Timestamp>,
    /// The commit.
    pub node: String,
    /// Evidence that it rests on.
    pub ids: Vec<Sha256>,
    /// The source level, when commit evidence was found.
    pub level: Option<u8>,
    pub summary: String,
}

fn ref_is_allowed(rules: &Rules, reference: Option<&str>) -> bool {
    #[cfg(feature = "faults")]
    if crate::faults::on(crate::faults::Fault::SkipRefs) {
        return true;
    }
    match &rules.refs {
        None => true,
        Some(refs) => reference.is_some_and(|reference| glob::any(refs, reference)),
    }
}

/// Judges the source of `build`.
pub fn judge(
    world: &mut World<'_>,
    statement: &Statement,
    build: &Build,
    node: Digest,
    spec: &Spec,
    rules: &Rules,
) -> Sourced {
    let mut result = Sourced {
        reasons: Vec::new(),
        evidence: Vec::new(),
        node: node.to_string(),
        ids: vec![statement.fact.id],
        level: None,
        summary: "no commit".to_owned(),
    };
    // 1. A commit.
    let Some((source, commit)) = build.source.as_ref().and_then(|s| Some((s, s.commit?))) else {
        let reason = Reason::error(Code::SrcMissing, node, "source", "the provenance names no git commit");
        result.reasons.push(reason.because("a git commit", "none"));
        return result;
    };
    result.node = commit.to_string();
    result.summary =
        format!("{} at {}", source.repository, source.reference.as_deref().unwrap_or("an unnamed ref"));
    // 2. Of the repository.
    let repository = &rules.repository;
    if !repository.has_name(&source.repository) {
        let message = format!("the build is of {}", source.repository);
        let reason = Reason::error(Code::SrcRepoMismatch, commit, "source.repository.uri", message);
        result.reasons.push(reason.because(repository.uri.clone(), source.repository.clone()));
    }
    // Where the build names no id, step 4 asks it of the commit's own evidence; a former name is nothing without.
    let former = source.repository != repository.uri && repository.has_name(&source.repository);
    let unsaid = former && spec.trust.sources.is_empty();
    let other = match (&repository.id, &source.repository_id) {
        (Some(wanted), Some(found)) if wanted != found => Some(found.as_str()),
        (Some(_), None) if unsaid => Some("no id"),
        _ => None,
    };
    if let Some(found) = other {
        let message = format!("the build is of repository id {found}");
        let reason = Reason::error(Code::SrcRepoIdMismatch, commit, "source.repository.id", message);
        result.reasons.push(reason.because(repository.id.clone(), found));
    }
    // 3. From an allowed ref.
    if !ref_is_allowed(rules, source.reference.as_deref()) {
        let found = source.reference.as_deref().unwrap_or("no ref");
        let message = format!("the build is from {found}");
        let reason = Reason::error(Code::SrcRefNotAllowed, commit, "source.refs", message);
        let wanted = rules.refs.as_deref().map(glob::texts).unwrap_or_default();
        result.reasons.push(reason.because(wanted, source.reference.clone()));
    }
    // 4. Version control says so too.
    let tied = names_id(world, statement, source.repository_id.as_deref(), spec, rules);
    if !spec.trust.sources.is_empty() {
        match trusted(world, (commit, tied), source.reference.as_deref(), spec, rules) {
            Err(reason) => result.reasons.push(*reason),
            Ok(trusted) => {
                result.ids.extend(ids(trusted.iter().map(|t| t.statement)));
                // A summary does not say when the ref moved: beside one, nothing is out of order.
                let updates: Option<Vec<_>> = trusted.iter().map(|t| Some(t.claim?.updated_at)).collect();
                result.evidence = updates.unwrap_or_default();
                // 5. Others reviewed it.
                if let Some(wanted) = &rules.review {
                    result.reasons.extend(review(&trusted, commit, wanted.at_least as usize));
                }
                // 7. Its level.
                let level = trusted.iter().map(|t| t.level).max().unwrap_or(0);
                result.level = Some(level);
                if level < rules.min_level {
                    let message =
                        format!("the commit is source level {level}, the policy wants {}", rules.min_level);
                    let reason = Reason::error(Code::SrcLevelTooLow, commit, "source.minLevel", message);
                    let evidence = ids(trusted.iter().map(|t| t.statement));
                    result.reasons.push(reason.because(rules.min_level, level).with_evidence(evidence));
                }
                // 8. Its properties.
                for property in rules.properties.iter().flatten() {
                    if !trusted.iter().any(|t| t.properties.contains(property)) {
                        let message = format!("no source summary gives the commit `{property}`");
                        let reason =
                            Reason::error(Code::SrcPropertyMissing, commit, "source.properties", message);
                        let found: Vec<String> =
                            trusted.iter().flat_map(|t| t.properties.iter().cloned()).collect();
                        result.reasons.push(reason.because(property.clone(), found));
                    }
                }
            }
        }
    }
    // 6. The commit object is signed.
    if rules.signatures.commit.required {
        match signature(world, commit, rules) {
            Ok(object) => result.ids.push(object),
            Err(reason) => result.reasons.push(*reason),
        }
    }
    // 9. What the commit graph and the tags say.
    let (reasons, ids) = history::judge(world, build, (commit, tied), spec, rules);
    result.reasons.extend(reasons);
    result.ids.extend(ids);
    result
}

/// Evidence about the commit that counts and says what the policy wants.
struct Trusted<'a> {
    statement: &'a Statement,
    /// The commit statement; nothing when it is a source summary.
    claim: Option<&'a Commit>,
    level: u8,
    /// What a source summary says beside the level.
    properties: &'a [String],
}

/// How far a statement that does not serve got, and what it says instead. A later one is closer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Got {
    Nowhere,
    Verifier,
    Repository,
    Id,
    Ref,
    Result,
}

/// The evidence of step 4: commit statements and source summaries.
fn trusted<'a>(
    world: &mut World<'a>,
    (commit, tied): (GitOid, bool),
    built_from: Option<&str>,
    spec: &Spec,
    rules: &Rules,
) -> Result<Vec<Trusted<'a>>, Box<Reason>> {
    let mut found = Vec::new();
    let (mut others, mut revoked) = (0, None);
    let mut furthest = Got::Nowhere;
    let mut actual = String::new();
    let statements = world.naming(Node::Git(commit));
    let tied = tied || is_tied(world, &statements, spec, rules);
    for statement in statements {
        let counts =
            |rule: &&SourceRule| world.counts(statement, &rule.signer, rule.valid_from, rule.valid_until);
        let counting = || spec.trust.sources.iter().filter(counts);
        let judged = match &statement.fact.claim {
            Claim::Commit(claim) => counting().map(|rule| rule.max_level).max().map(|level| {
                says(claim, rules)?;
                Ok(Trusted { statement, claim: Some(claim), level, properties: &[] })
            }),
            Claim::Summary(summary) if counting().next().is_some() => {
                let speaks = |rule: &&SourceRule| speaks_for(rule, summary);
                let level = counting().filter(speaks).map(|rule| rule.max_level).max();
                Some(match level {
                    None => Err((Got::Verifier, summary.verifier_id.clone())),
                    Some(level) => {
                        let of_id = is_of_id(world, statement, spec, rules, tied);
                        let said = summarises(statement, summary, (commit, of_id), built_from, rules);
                        said.map(|()| {
                            let stated = summary.levels.get("SOURCE").copied().unwrap_or(0);
                            let properties = &summary.properties;
                            Trusted { statement, claim: None, level: level.min(stated), properties }
                        })
                    }
                })
            }
            Claim::Summary(_) => None,
            _ => continue,
        };
        match judged {
            None => {
                let of = |rule: &SourceRule| world.revocation(statement, &rule.signer);
                others += 1;
                revoked = revoked.or_else(|| spec.trust.sources.iter().find_map(of));
            }
            Some(Ok(trusted)) => found.push(trusted),
            Some(Err((got, instead))) if got > furthest => (furthest, actual) = (got, instead),
            Some(Err(_)) => {}
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let reason = |code, rule: &str, message: String| Reason {
        stage: "source".to_owned(),
        ..Reason::error(code, commit, rule, message)
    };
    Err(Box::new(match furthest {
        Got::Verifier => reason(
            Code::VsaSignerVerifierPair,
            "trust.sources.verifierId",
            format!("the signer may not speak for verifier {actual}"),
        )
        .because("a verifier of the rule", actual),
        Got::Repository => {
            reason(Code::SrcRepoMismatch, "source.repository.uri", format!("the commit is known in {actual}"))
                .because(rules.repository.uri.clone(), actual)
        }
        Got::Id => {
            reason(Code::SrcRepoIdMismatch, "source.repository.id", format!("the repository has id {actual}"))
                .because(rules.repository.id.clone(), actual)
        }
        Got::Ref => {
            reason(Code::SrcRefNotAllowed, "source.refs", format!("the commit is known on {actual} only"))
                .because(rules.refs.as_deref().map(glob::texts).unwrap_or_default(), actual)
        }
        Got::Result => {
            reason(Code::VsaFailed, "trust.sources", format!("verifier {actual} says that the commit failed"))
                .because("PASSED", "FAILED")
        }
        Got::Nowhere if others > 0 => {
            let ids: Vec<String> = spec.trust.sources.iter().map(|rule| rule.id.clone()).collect();
            let message =
                format!("{others} statement(s) about the commit exist, none by a signer that counts");
            let code = revoked.unwrap_or(Code::SrcSignerNotTrusted);
            reason(code, "trust.sources", message).because(ids, "others")
        }
        Got::Nowhere => reason(
            Code::SrcCommitUnknown,
            "trust.sources",
            "no version control evidence for the commit".to_owned(),
        )
        .because("a commit statement or a source summary by a trusted source", "none"),
    }))
}

/// Whether the rule lets its signer speak for the summary's verifier.
pub(super) fn speaks_for(rule: &SourceRule, summary: &Summary) -> bool {
    rule.verifier_id.as_ref().is_none_or(|verifier| verifier.matches(&summary.verifier_id))
}

/// Whether a commit statement says what the policy wants.
fn says(claim: &Commit, rules: &Rules) -> Result<(), (Got, String)> {
    if !rules.repository.has_name(&claim.repository) {
        Err((Got::Repository, claim.repository.clone()))
    } else if rules.repository.id.is_some() && claim.repository_id != rules.repository.id {
        Err((Got::Id, claim.repository_id.clone().unwrap_or_else(|| "no id".to_owned())))
    } else if !ref_is_allowed(rules, Some(&claim.reference)) {
        Err((Got::Ref, claim.reference.clone()))
    } else {
        Ok(())
    }
}

/// Whether the build names the repository id that is wanted: it does itself, or the certificates that signed it do.
fn names_id(
    world: &World<'_>,
    statement: &Statement,
    stated: Option<&str>,
    spec: &Spec,
    rules: &Rules,
) -> bool {
    let Some(wanted) = &rules.repository.id else { return false };
    let identities = spec
        .builders()
        .flat_map(|rule| world.identities_of(statement, &rule.signer, rule.valid_from, rule.valid_until));
    let mut named =
        identities.filter_map(|by| by.claims.source_repository_id.as_deref()).chain(stated).peekable();
    named.peek().is_some() && named.all(|id| id == wanted)
}

/// Whether a trusted commit statement among those about a commit says that it is of the repository with the id that is wanted.
pub(super) fn is_tied(world: &World<'_>, statements: &[&Statement], spec: &Spec, rules: &Rules) -> bool {
    let Some(wanted) = &rules.repository.id else { return false };
    statements.iter().any(|statement| {
        let Claim::Commit(claim) = &statement.fact.claim else { return false };
        let counts =
            |rule: &SourceRule| world.counts(statement, &rule.signer, rule.valid_from, rule.valid_until);
        claim.repository_id.as_ref() == Some(wanted)
            && rules.repository.has_name(&claim.repository)
            && spec.trust.sources.iter().any(counts)
    })
}

/// Whether a statement that names its repository by its name alone is about the one with the id that is wanted: the certificate
/// that signed it in that repository names the id, or, when none does, the commit is `tied` to the id by evidence that does.
/// A name that somebody took over is not enough.
pub(super) fn is_of_id(
    world: &World<'_>,
    statement: &Statement,
    spec: &Spec,
    rules: &Rules,
    tied: bool,
) -> bool {
    let Some(wanted) = &rules.repository.id else { return true };
    let identities = spec
        .trust
        .sources
        .iter()
        .flat_map(|rule| world.identities_of(statement, &rule.signer, rule.valid_from, rule.valid_until));
    // Verifiers that run in a repository of their own have its id in their certificates.
    let here = |identity: &&Identity| {
        let uri = identity.claims.source_repository_uri.as_deref().unwrap_or_default();
        RepositoryUri::split(uri)
            .is_ok_and(|(uri, _)| uri.as_str().eq_ignore_ascii_case(&rules.repository.uri))
    };
    let mut named =
        identities.filter(here).filter_map(|by| by.claims.source_repository_id.as_ref()).peekable();
    match named.peek() {
        None => tied,
        Some(_) => named.all(|id| id == wanted),
    }
}

/// Whether a source summary says what the policy wants. It is about the refs that it lists alone, of which the ref that was
/// built must be one.
fn summarises(
    statement: &Statement,
    summary: &Summary,
    (commit, of_id): (GitOid, bool),
    built_from: Option<&str>,
    rules: &Rules,
) -> Result<(), (Got, String)> {
    let resource = &summary.resource_uri;
    let repository = resource.parse::<RepositoryUri>().map_or_else(|_| resource.clone(), |r| r.to_string());
    if repository != rules.repository.uri {
        return Err((Got::Repository, repository));
    }
    if !of_id {
        return Err((Got::Id, "no id that is vouched for".to_owned()));
    }
    let about = statement.fact.subjects.iter().filter(|s| s.digests.git.contains(&commit));
    let mut refs = about.flat_map(|subject| &subject.source_refs);
    let serves = |reference: &String| {
        built_from.is_none_or(|built| built == reference) && ref_is_allowed(rules, Some(reference))
    };
    if (built_from.is_some() || rules.refs.is_some()) && !refs.clone().any(serves) {
        let listed: Vec<&str> = refs.by_ref().map(String::as_str).collect();
        return Err((Got::Ref, if listed.is_empty() { "no ref".to_owned() } else { listed.join(", ") }));
    }
    if !summary.passed {
        return Err((Got::Result, summary.verifier_id.clone()));
    }
    Ok(())
}

/// Whether two names are one person: by id when both have one, else by name.
fn same(a: &Actor, b: &Actor) -> bool {
    match (&a.id, &b.id) {
        (Some(a), Some(b)) => a == b,
        _ => a.name == b.name,
    }
}

/// The best of several: an approval by enough others, or the most telling failure.
fn review(trusted: &[Trusted<'_>], commit: GitOid, wanted: usize) -> Option<Reason> {
    let mut worst = (0, Code::SrcUnreviewed, 0);
    for claim in trusted.iter().filter_map(|t| t.claim) {
        let judged = match &claim.review {
            None => (1, Code::SrcUnreviewed, 0),
            Some(review) if review.approved_revision != commit => (2, Code::SrcReviewStale, 0),
            Some(review) => {
                let (all, others) = approvals(review, claim.actor.as_ref());
                if others >= wanted {
                    return None;
                }
                match all >= wanted {
                    true => (4, Code::SrcSelfApproved, others),
                    false => (3, Code::SrcUnreviewed, others),
                }
            }
        };
        if judged.0 > worst.0 {
            worst = judged;
        }
    }
    let (_, code, found) = worst;
    let message = format!("{found} other(s) approved this revision, the policy wants {wanted}");
    let evidence = ids(trusted.iter().map(|t| t.statement));
    Some(Reason::error(code, commit, "source.review", message).because(wanted, found).with_evidence(evidence))
}

/// How many distinct people approved, and how many of them are not the actor. Of an actor that nobody
/// names, the worst is assumed: that they are one of the approvers.
fn approvals(review: &Review, actor: Option<&Actor>) -> (usize, usize) {
    let mut distinct: Vec<&Actor> = Vec::new();
    for approver in &review.approvers {
        if !distinct.iter().any(|known| same(known, approver)) {
            distinct.push(approver);
        }
    }
    let others = match actor {
        Some(actor) => distinct.iter().filter(|approver| !same(approver, actor)).count(),
        None => distinct.len().saturating_sub(1),
    };
    (distinct.len(), others)
}

/// The id of the commit object, when a key that the policy accepts signed it.
fn signature(world: &mut World<'_>, commit: GitOid, rules: &Rules) -> Result<Sha256, Box<Reason>> {
    let rule = "source.signatures.commit";
    let fail = |code, message: &str| Box::new(Reason::error(code, commit, rule, message));
    let Some(object) = world.logged_object(Node::Git(commit)) else {
        return Err(fail(Code::SrcCommitUnknown, "the commit object is not known"));
    };
    let Body::Commit(body) = &object.fact.body else {
        return Err(fail(Code::SrcCommitUnknown, "the node is not a commit"));
    };
    let Some(signature) = &body.signature else {
        return Err(fail(Code::SrcUnsignedCommit, "the commit is not signed"));
    };
    let wanted = rules.signatures.commit.keys.as_ref();
    let listed = |key| wanted.is_none_or(|keys| keys.contains(key));
    if let (Some(verified), Some(identities)) = (&signature.verified, &rules.signatures.commit.identities)
        && world.identity_counts(verified, object.received_at, identities)
    {
        return Ok(object.fact.id);
    }
    let asked = &rules.signatures.commit;
    let others = asked.identities.is_some() || asked.principals.is_some();
    let in_group = |key| asked.principals.as_ref().is_some_and(|group| world.is_in_group(key, group));
    let listed = |key| listed(key) && (wanted.is_some() || !others) || in_group(key);
    match &signature.verified.as_ref().and_then(|verified| verified.signer.key()) {
        Some(key) if listed(key) && world.key_counts(key, object.received_at) => Ok(object.fact.id),
        other => {
            let found = other.map_or_else(|| "no registered key".to_owned(), |key| key.to_string());
            let wanted: Vec<String> = wanted.into_iter().flatten().map(ToString::to_string).collect();
            let reason = fail(Code::SrcSignerNotTrusted, "the commit is signed by a key that does not count");
            Err(Box::new(reason.because(wanted, found)))
        }
    }
}
