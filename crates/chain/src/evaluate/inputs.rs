//! R3: what went into the build is pinned, allowed, or has a chain of its own.

use catenary_evidence::{
    digest::{Digest, Node},
    object::{Body, Config},
    predicate::{Build, Claim, Dependency, Role},
    reference::RepositoryUri,
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    policy::{
        Spec,
        document::{Input, Tolerance},
        glob,
    },
    reason::{Code, Reason},
    verdict::{Link, Status},
};

use super::{
    MAX_HOPS, ids, later, summary, time, voice,
    world::{Statement, World},
};

/// Most reasons of input chains that come along with one statement.
const MAX_LEAVES: usize = 100;

/// The result of R3 for one build statement.
#[derive(Default)]
pub struct Found {
    pub reasons: Vec<Reason>,
    /// Reasons of the inputs' own chains.
    pub leaves: Vec<Reason>,
    pub links: Vec<Link>,
}

/// The digest that an input is known by: SHA-256 first, since objects are kept under it.
fn digest_of(dependency: &Dependency) -> Option<Digest> {
    let content = |node: &Node| match node {
        Node::Content(digest) => Some(*digest),
        Node::Git(_) => None,
    };
    let is_sha256 = |digest: &Digest| matches!(digest, Digest::Sha256(_));
    let digests = || dependency.nodes.iter().filter_map(content);
    digests().filter(is_sha256).min().or_else(|| digests().min())
}

/// The node of an input for people, or its URI.
fn name_of(dependency: &Dependency) -> String {
    let node = digest_of(dependency).map(Node::Content).or_else(|| dependency.nodes.iter().min().copied());
    node.map_or_else(|| dependency.uri.clone(), |node| node.to_string())
}

/// Where an input is from: a repository of images, or, of a submodule, one of git.
fn place_of(dependency: &Dependency) -> Option<String> {
    let git = || RepositoryUri::split(&dependency.uri).ok().map(|(uri, _)| uri.as_str().to_owned());
    dependency.resource.clone().or_else(|| if dependency.role == Role::Submodule { git() } else { None })
}

/// Judges every dependency against every rule of its role.
pub fn judge(world: &mut World<'_>, statement: &Statement, build: &Build, spec: &Spec, hop: u32) -> Found {
    let mut found = Found::default();
    for dependency in &build.dependencies {
        found.reasons.extend(denied(world, statement, dependency));
        for rule in spec.inputs.iter().filter(|rule| rule.role == dependency.role) {
            let (before, leaves) = (found.reasons.len(), found.leaves.len());
            let nested = one(world, dependency, rule, spec, hop, &mut found);
            for reason in found.reasons[before..].iter_mut().chain(&mut found.leaves[leaves..]) {
                *reason = reason.clone().under(rule.mode);
            }
            // A submodule is source: whatever is wrong with it, the source is not what the policy thinks.
            let untrusted = [Code::DepBaseNotAllowed, Code::DepBaseUnknown, Code::DepBaseUntrusted];
            for reason in &mut found.reasons[before..] {
                if dependency.role == Role::Submodule && untrusted.contains(&reason.code) {
                    *reason = reason.clone().recoded(Code::SrcSubmoduleUntrusted);
                }
                "input".clone_into(&mut reason.stage);
            }
            let broken = found.reasons[before..].iter().find(|reason| reason.is_error());
            found.links.push(Link {
                stage: "input".to_owned(),
                status: if broken.is_some() { Status::Fail } else { Status::Pass },
                node: name_of(dependency),
                summary: match broken {
                    Some(reason) => format!("{}: {}", reason.code, reason.message),
                    None => dependency.uri.clone(),
                },
                evidence: ids([statement]),
                links: nested,
            });
        }
    }
    found
}

/// What is revoked is no input, whatever the rules say of its role.
fn denied(world: &mut World<'_>, statement: &Statement, dependency: &Dependency) -> Option<Reason> {
    let existed = world.existed_at(statement);
    dependency.nodes.iter().find_map(|node| {
        let (image, why) = match node {
            Node::Content(digest) => {
                world.denied(*digest).map(|(image, revoked)| (image.to_string(), revoked))?
            }
            Node::Git(commit) => {
                let revoked = world.control.revocations.commit(commit);
                (commit.to_string(), revoked.filter(|revoked| revoked.covers(existed))?)
            }
        };
        let message = format!("{image}, an input of the build, was revoked: {}", why.reason);
        let mut reason = Reason::error(Code::ArtDenied, image, "revocation", message);
        reason.stage = "input".to_owned();
        Some(reason)
    })
}

/// One dependency under one rule. Returns the links of its own chain.
fn one(
    world: &mut World<'_>,
    dependency: &Dependency,
    rule: &Input,
    spec: &Spec,
    hop: u32,
    found: &mut Found,
) -> Vec<Link> {
    let node = name_of(dependency);
    let reason = |code: Code, rule: &str, message: String| Reason::error(code, &node, rule, message);
    // 1. Pinned.
    if dependency.nodes.is_empty() {
        if rule.must_be_pinned() {
            let message = format!("{} is not pinned by digest", dependency.uri);
            found
                .reasons
                .push(reason(Code::DepUnpinned, "inputs.pinned", message).because("a digest", "none"));
        }
        return Vec::new();
    }
    // 5. Tolerated.
    if rule.tolerate {
        return Vec::new();
    }
    let digests: Vec<Digest> = dependency
        .nodes
        .iter()
        .filter_map(|node| match node {
            Node::Content(digest) => Some(*digest),
            Node::Git(_) => None,
        })
        .collect();
    if world.set_conflicts(&digests) {
        let message = "the digests of the input are of different bytes".to_owned();
        let mut reason = reason(Code::AttDigestConflict, "inputs", message);
        reason.stage = "input".to_owned();
        found.reasons.push(reason);
        return Vec::new();
    }
    let before = found.reasons.len();
    // 2. From an allowed repository.
    if let Some(allow) = &rule.allow
        && !place_of(dependency).is_some_and(|place| glob::any(allow, &place))
    {
        let message = format!("{} is not an allowed {:?}", dependency.uri, rule.role);
        let reason = reason(Code::DepBaseNotAllowed, "inputs.allow", message);
        found.reasons.push(reason.because(glob::texts(allow), place_of(dependency)));
    }
    // 3. Of an allowed digest.
    let digest = digest_of(dependency);
    if let Some(allowed) = &rule.digests
        && !digest.is_some_and(|digest| allowed.contains(&digest))
    {
        let message = format!("the digest of {} is not listed", dependency.uri);
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        let reason = reason(Code::DepBaseNotAllowed, "inputs.digests", message);
        found.reasons.push(reason.because(allowed, node.clone()));
    }
    let asked = rule.chain || rule.via.is_some() || rule.max_age.is_some();
    if !asked || found.reasons.len() > before {
        return Vec::new();
    }
    // 4. Proved, and built not too long ago.
    let Some(digest) = digest.filter(|digest| world.is_known(*digest)) else {
        let message = format!("nothing is known about {}", dependency.uri);
        found.reasons.push(
            reason(Code::DepBaseUnknown, "inputs.chain", message).because("a chain of its own", "none"),
        );
        return Vec::new();
    };
    let (links, newest) = proved(world, dependency, digest, rule, spec, hop, found);
    if let Some(max) = rule.max_age {
        let newest = newest.max(newest_build(world, digest, spec));
        found.reasons.extend(stale(world, &node, newest, max));
    }
    links
}

/// Whether a verification summary or a chain of its own stands behind an input: the links, and when its newest build
/// was made if a chain says so.
fn proved(
    world: &mut World<'_>,
    dependency: &Dependency,
    digest: Digest,
    rule: &Input,
    spec: &Spec,
    hop: u32,
    found: &mut Found,
) -> (Vec<Link>, Option<Timestamp>) {
    if !rule.chain && rule.via.is_none() {
        return (Vec::new(), None);
    }
    let node = name_of(dependency);
    let Some(resource) = &dependency.resource else {
        let message = format!("{} names no repository, so no policy can decide about it", dependency.uri);
        found.reasons.push(Reason::error(Code::DepBaseUntrusted, &node, "inputs.chain", message));
        return (Vec::new(), None);
    };
    let Some(via) = &rule.via else { return followed(world, digest, resource, &node, rule, hop, found) };
    match summary::of_input(world, digest, resource, spec, via) {
        Ok(accepted) => (vec![accepted.link(digest)], None),
        Err(reason) if !rule.chain => {
            let link = summary::broken(digest, &reason);
            found.reasons.push(*reason);
            (vec![link], None)
        }
        Err(reason) => {
            let before = found.reasons.len();
            let followed = followed(world, digest, resource, &node, rule, hop, found);
            // Either would do, so that both are told when neither does.
            if found.reasons[before..].iter().any(Reason::is_error) {
                found.reasons.push(*reason);
            }
            followed
        }
    }
}

/// The newest build of an input by a builder whom the policy trusts.
fn newest_build(world: &mut World<'_>, digest: Digest, spec: &Spec) -> Option<Timestamp> {
    let holders = voice::holders(world, digest);
    let nodes = std::iter::once(digest).chain(holders).map(Node::Content);
    let about: Vec<&Statement> = voice::about(world, nodes).into_values().collect();
    let trusted = |statement: &&Statement| {
        let Claim::Build(build) = &statement.fact.claim else { return false };
        spec.trust.builders.iter().any(|rule| {
            let by = world.identities_of(statement, &rule.signer, rule.valid_from, rule.valid_until);
            world.counts(statement, &rule.signer, rule.valid_from, rule.valid_until)
                && rule.builder_id.matches(&build.builder_id, by.into_iter())
        })
    };
    // Nobody asks these builds whether they claim to be of the future.
    let made = |s: &Statement| time::newest(world, &[s]).map(|made| made.min(world.existed_at(s)));
    about.into_iter().filter(trusted).filter_map(made).max()
}

fn stale(
    world: &mut World<'_>,
    node: &str,
    newest: Option<Timestamp>,
    max: SignedDuration,
) -> Option<Reason> {
    let reason = |message: String| Reason::error(Code::DepBaseStale, node, "inputs.maxAge", message);
    let Some(newest) = newest else {
        return Some(reason("no trusted build of the input is known".to_owned()).because("a build", "none"));
    };
    let ends = later(newest, max);
    world.horizons.push(ends);
    (world.now > ends).then(|| {
        reason(format!("the newest build of the input is of {newest}"))
            .because(format!("until {ends}"), world.now.to_string())
    })
}

/// The input's own chain.
fn followed(
    world: &mut World<'_>,
    digest: Digest,
    resource: &str,
    node: &str,
    rule: &Input,
    hop: u32,
    found: &mut Found,
) -> (Vec<Link>, Option<Timestamp>) {
    let reason = |code: Code, rule: &str, message: String| Reason::error(code, node, rule, message);
    if let Some(position) = world.open.iter().position(|open| open.0 == digest && open.1 == resource) {
        world.met = world.met.min(position);
        #[cfg(feature = "faults")]
        if crate::faults::on(crate::faults::Fault::CycleProves) {
            return (Vec::new(), None);
        }
        let message = format!("the chain of {resource} leads back to itself");
        found.reasons.push(reason(Code::DepCycle, "inputs.chain", message));
        return (Vec::new(), None);
    }
    let hop = hop + 1;
    if hop > MAX_HOPS {
        world.overflow = true;
    }
    if hop > rule.depth || hop > MAX_HOPS {
        let message = format!("{resource} is input number {hop} in a row");
        found.reasons.push(reason(Code::DepDepth, "inputs.depth", message).because(rule.depth, hop));
        return (Vec::new(), None);
    }
    let worked_out = world.chains;
    let chain = world.chain(digest, resource, None, hop);
    let is_new = world.chains > worked_out;
    if !chain.holds() {
        let mut codes: Vec<String> =
            chain.reasons.iter().filter(|r| r.is_error()).map(|r| r.code.to_string()).collect();
        codes.dedup();
        let message = format!("the chain of {resource} is broken: {}", codes.join(", "));
        for leaf in chain.reasons.iter().filter(|r| r.is_error()) {
            if found.leaves.len() < MAX_LEAVES && !found.leaves.contains(leaf) {
                found.leaves.push(leaf.clone());
            }
        }
        found.reasons.push(reason(Code::DepBaseUntrusted, "inputs.chain", message).because("PASSED", codes));
    }
    for (track, wanted) in rule.levels.iter().filter(|_| chain.holds()) {
        let level = chain.levels.get(track).copied();
        if level.unwrap_or(0) < *wanted {
            let message = format!("{resource} is {track} level {}", level.unwrap_or(0));
            found
                .reasons
                .push(reason(Code::DepLevelTooLow, "inputs.levels", message).because(*wanted, level));
        }
    }
    // A chain that many inputs share is drawn in full once: drawn each time, a tower of diamonds would
    // double with every floor.
    let links = match is_new {
        true => chain.links.clone(),
        false => chain.links.iter().map(|link| Link { links: Vec::new(), ..link.clone() }).collect(),
    };
    (links, chain.newest.filter(|_| chain.holds()))
}

/// Base images that the statement does not name, found in the bytes of `x` and of the manifests under it.
pub fn undeclared(
    world: &mut World<'_>,
    statement: &Statement,
    build: &Build,
    x: Digest,
    spec: &Spec,
) -> Vec<Reason> {
    let asked = |rule: &&Input| rule.role == Role::BaseImage && rule.undeclared == Tolerance::Deny;
    // Of several rules the strictest says what it means.
    let modes = spec.inputs.iter().filter(asked).map(|rule| rule.mode);
    let Some(mode) = modes.min() else { return Vec::new() };
    let children = world.runnable(x);
    let declared: Vec<Digest> = build
        .dependencies
        .iter()
        .flat_map(|d| &d.nodes)
        .filter_map(|node| if let Node::Content(digest) = node { Some(*digest) } else { None })
        .collect();
    let mut reasons = Vec::new();
    for digest in std::iter::once(x).chain(children) {
        let hint = match world.object(digest.into()).map(|object| &object.body) {
            Some(Body::Index(index)) => index.base.as_ref(),
            Some(Body::Manifest(manifest)) => manifest.base.as_ref(),
            _ => None,
        };
        if let Some(base) = hint.and_then(|hint| hint.digest)
            && !is_declared(world, base, &declared)
        {
            let message =
                format!("the image says that it starts from {base}, which the provenance does not name");
            let reason = Reason::error(Code::DepUndeclaredBase, digest, "inputs.undeclared", message);
            let declared: Vec<String> = declared.iter().map(ToString::to_string).collect();
            let reason = reason.because(declared, base.to_string()).under(mode);
            reasons.push(reason.with_evidence([statement.fact.id]));
        }
        if let Some(config) = world.config_of(digest) {
            for base in build.dependencies.iter().filter(|d| d.role == Role::BaseImage) {
                if let Some(base) = digest_of(base)
                    && !starts_with(world, config, base)
                {
                    let message = format!("the layers do not start with those of {base}");
                    let reason = Reason::error(Code::DepUndeclaredBase, digest, "inputs.undeclared", message);
                    let reason = reason.because(format!("the layers of {base}"), "other layers").under(mode);
                    reasons.push(reason.with_evidence([statement.fact.id]));
                }
            }
        }
    }
    reasons
}

/// Whether `base` is declared: itself, as a child of a declared index, or as the index of a declared child.
fn is_declared(world: &mut World<'_>, base: Digest, declared: &[Digest]) -> bool {
    let holds = |world: &mut World<'_>, index: Digest, child: Digest| {
        let object = world.object(index.into());
        object.is_some_and(
            |o| matches!(&o.body, Body::Index(i) if i.children.iter().any(|c| c.digest == child)),
        )
    };
    declared.contains(&base) || declared.iter().any(|d| holds(world, *d, base) || holds(world, base, *d))
}

/// Whether the layers of `config` start with those of `base`, as far as they are known and for its platform.
fn starts_with(world: &mut World<'_>, config: &Config, base: Digest) -> bool {
    let mut manifests = world.runnable(base);
    if manifests.is_empty() {
        manifests.push(base);
    }
    let mut bases = Vec::new();
    for manifest in manifests {
        bases.extend(world.config_of(manifest));
    }
    let here = |base: &&Config| {
        base.platform.os == config.platform.os && base.platform.architecture == config.platform.architecture
    };
    let mut comparable = bases.into_iter().filter(here).peekable();
    comparable.peek().is_none() || comparable.any(|base| config.diff_ids.starts_with(&base.diff_ids))
}
