//! What no schema says: rules that could never hold, always hold, or name nothing.

use std::collections::BTreeSet;

use catenary_evidence::reference::RepositoryUri;

use crate::expr::{Assert, Site};

use super::{
    builds::Timestamping,
    document::{Build, BuilderRule, Document, Input, Mode, Pinned, Registry, Signer, Source, Spec},
    glob::Glob,
    identity::IdentityRule,
    place::{self, Step},
};

/// A path and what is wrong there.
pub(super) type Fault = (Vec<Step>, String);

fn fault<T>(path: Vec<Step>, message: impl Into<String>) -> Result<T, Fault> {
    Err((path, message.into()))
}

macro_rules! path {
    ($($step:expr),*) => { vec![$(Step::from($step)),*] };
}

mod property;

/// The highest level of any SLSA track.
const MAX_LEVEL: u8 = 4;

/// Checks everything, in the order of the document.
pub fn check(document: &Document) -> Result<(), Fault> {
    if document.api_version != "catenary/v1" {
        return fault(path!["apiVersion"], "this engine reads `catenary/v1`");
    }
    if document.kind != "ChainPolicy" {
        return fault(path!["kind"], "the kind of a policy is `ChainPolicy`");
    }
    name(&document.metadata.name)?;
    let spec = &document.spec;
    selects(spec)?;
    subject(spec)?;
    trust(spec)?;
    sections(spec)?;
    if let Some(section) = &spec.build {
        build(spec, section)?;
    }
    if let Some(section) = &spec.source {
        source(spec, section)?;
    }
    for (index, input) in spec.inputs.iter().enumerate() {
        inputs(index, input)?;
        property::via(spec, index, input)?;
    }
    if let Some(section) = &spec.registry {
        registry(spec, section)?;
    }
    property::summary(spec)?;
    property::require(spec)?;
    property::negatives(spec)?;
    deny(spec)?;
    life(document)
}

/// The most approvals that can be asked for: more are a way to lock oneself out.
const MAX_APPROVALS: u32 = 16;

/// What is said about the policy itself.
fn life(document: &Document) -> Result<(), Fault> {
    if document.metadata.approvals > MAX_APPROVALS {
        return fault(path!["metadata", "approvals"], format!("at most {MAX_APPROVALS} can be asked for"));
    }
    let spec = &document.spec;
    if let Some(rules) = &spec.exceptions {
        super::exceptions::check(rules)
            .map_err(|(member, message)| (path!["spec", "exceptions", member], message))?;
    }
    super::trial::check(spec)
        .map_err(|(index, member, message)| (path!["spec", "tests", index, member], message))
}

/// Checks what a document that is saved now must not have. Documents that are in a log already are read without.
pub fn check_new(spec: &Spec) -> Result<(), Fault> {
    super::anchor::anchored(spec)?;
    let Some(build) = &spec.build else { return Ok(()) };
    one_domain_each(spec, build)?;
    let most = spec.builders().map(|rule| rule.max_level).max().unwrap_or(0);
    if build.min_level > most {
        let message =
            format!("level {} is asked for, and no builder reaches more than {most}", build.min_level);
        return fault(path!["spec", "build", "minLevel"], message);
    }
    Ok(())
}

/// Whoever signs for two domains would be two independent builders alone (chain-model 1.7, thresholds).
fn one_domain_each(spec: &Spec, build: &Build) -> Result<(), Fault> {
    if build.builders.at_least < 2 {
        return Ok(());
    }
    let counted: BTreeSet<&str> = spec.builders().map(|rule| rule.id.as_str()).collect();
    let rules = spec.trust.builders.iter().enumerate();
    let rules: Vec<_> = rules.filter(|(_, rule)| counted.contains(rule.id.as_str())).collect();
    for (position, (index, rule)) in rules.iter().enumerate() {
        let other = |(_, other): &&(usize, &BuilderRule)| {
            other.domain() != rule.domain() && share(&other.signer, &rule.signer)
        };
        if let Some((_, other)) = rules[..position].iter().find(other) {
            let why = format!(
                "the signer is also that of `{}`, of another domain: alone it would be two of the {} builders that are asked for",
                other.id, build.builders.at_least
            );
            return fault(path!["spec", "trust", "builders", *index, "signer"], why);
        }
    }
    Ok(())
}

/// Whether two rules name one signer, as far as the document says.
fn share(one: &Signer, other: &Signer) -> bool {
    let keys = |signer: &Signer| match signer {
        Signer::Keys(keys) => keys.clone(),
        Signer::Any(group) => group.keys.clone(),
        Signer::Service(_) | Signer::Identity(_) | Signer::Group(_) => Vec::new(),
    };
    let (mine, theirs) = (keys(one), keys(other));
    let identity = |a: &IdentityRule| {
        let same =
            |b: &IdentityRule| (&a.issuer, &a.san, &a.root, &a.ext) == (&b.issuer, &b.san, &b.root, &b.ext);
        other.identities().iter().any(same)
    };
    let by_name = match (one, other) {
        (Signer::Service(a), Signer::Service(b)) | (Signer::Group(a), Signer::Group(b)) => a == b,
        _ => false,
    };
    by_name || mine.iter().any(|key| theirs.contains(key)) || one.identities().iter().any(identity)
}

fn name(name: &str) -> Result<(), Fault> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(good);
    if !starts || name.len() > 63 || !bytes.all(|b| good(b) || b == b'.' || b == b'-') {
        return fault(path!["metadata", "name"], "a name is [a-z0-9][a-z0-9.-]{0,62}");
    }
    Ok(())
}

/// An id that no rule has, and which was probably meant.
fn no_id(id: &str, of: &str, known: &BTreeSet<&str>) -> String {
    let known: Vec<&str> = known.iter().copied().collect();
    let mend = match place::closest(id, &known) {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None if known.is_empty() => "; there are none".to_owned(),
        None => format!("; known are: {}", known.join(", ")),
    };
    format!("`{id}` is not an id of `{of}`{mend}")
}

/// A list that restricts must not be empty: an empty one reads as "nothing" to some and "anything" to others.
fn listed<T>(list: &Option<Vec<T>>, path: Vec<Step>) -> Result<(), Fault> {
    match list {
        Some(items) if items.is_empty() => fault(path, "an empty list allows nothing; leave the member out"),
        _ => Ok(()),
    }
}

/// The same for texts, none of which may be empty.
fn texts(list: &Option<Vec<String>>, path: Vec<Step>) -> Result<(), Fault> {
    listed(list, path.clone())?;
    match list {
        Some(items) if items.iter().any(String::is_empty) => fault(path, "an empty text"),
        _ => Ok(()),
    }
}

fn text(text: &str, path: Vec<Step>) -> Result<(), Fault> {
    if text.is_empty() { fault(path, "an empty text") } else { Ok(()) }
}

fn level(level: u8, path: Vec<Step>) -> Result<(), Fault> {
    if level > MAX_LEVEL { fault(path, format!("a level is 0 to {MAX_LEVEL}")) } else { Ok(()) }
}

fn selects(spec: &Spec) -> Result<(), Fault> {
    if spec.selects.resources.is_empty() {
        return fault(path!["spec", "match", "resources"], "a policy is for at least one resource");
    }
    texts(&spec.selects.environments, path!["spec", "match", "environments"])?;
    let when = spec.selects.when.as_ref().map(|when| when.expr.check(Site::Match));
    when.unwrap_or(Ok(())).or_else(|why| fault(path!["spec", "match", "when"], why))
}

fn subject(spec: &Spec) -> Result<(), Fault> {
    listed(&spec.subject.kinds, path!["spec", "subject", "kinds"])?;
    listed(&spec.subject.platforms, path!["spec", "subject", "platforms"])
}

fn trust(spec: &Spec) -> Result<(), Fault> {
    let trust = &spec.trust;
    listed(&trust.roots, path!["spec", "trust", "roots"])?;
    unique("builders", trust.builders.iter().map(|r| r.id.as_str()))?;
    unique("sources", trust.sources.iter().map(|r| r.id.as_str()))?;
    unique("registries", trust.registries.iter().map(|r| r.id.as_str()))?;
    for (index, rule) in trust.builders.iter().enumerate() {
        let at = |member: &str| path!["spec", "trust", "builders", index, member];
        level(rule.max_level, at("maxLevel"))?;
        level(rule.self_hosted_max, at("selfHostedMax"))?;
        listed(&rule.build_types, at("buildTypes"))?;
        text(rule.domain(), at("domain"))?;
        let needs_time = rule.evidence.timestamp == Some(Timestamping::Required);
        if (needs_time || rule.evidence.tlog.is_some()) && rule.signer.identities().is_empty() {
            let why = "a key's signature proves no time and is in no log: this could never hold";
            return fault(at("evidence"), why);
        }
    }
    unique("runs", trust.runs.iter().map(|r| r.id.as_str()))?;
    for (index, rule) in trust.sources.iter().enumerate() {
        level(rule.max_level, path!["spec", "trust", "sources", index, "maxLevel"])?;
    }
    for (index, rule) in trust.registries.iter().enumerate() {
        listed(&rule.repositories, path!["spec", "trust", "registries", index, "repositories"])?;
    }
    property::trust(spec)
}

fn unique<'a>(list: &str, ids: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for (index, id) in ids.enumerate() {
        let at = || path!["spec", "trust", list, index, "id"];
        text(id, at())?;
        if !seen.insert(id) {
            return fault(at(), format!("the id `{id}` is used twice"));
        }
    }
    Ok(())
}

fn sections(spec: &Spec) -> Result<(), Fault> {
    let enforced = |mode: Mode| mode == Mode::Enforce;
    let asks = spec.build.as_ref().is_some_and(|build| enforced(build.mode))
        || spec.source.as_ref().is_some_and(|source| enforced(source.mode))
        || spec.registry.as_ref().is_some_and(|registry| enforced(registry.mode))
        || spec.layouts.iter().any(|layout| enforced(layout.mode))
        || spec.require.iter().any(|rule| enforced(rule.mode));
    if !asks && spec.summary.is_none() {
        return fault(
            path!["spec"],
            "an empty policy proves nothing: give, and enforce, `build`, `source`, `registry`, `layouts`, `summary` or `require`",
        );
    }
    if spec.build.is_none() {
        if spec.source.is_some() {
            return fault(path!["spec", "source"], "`source` needs `build`: the build names the commit");
        }
        if !spec.inputs.is_empty() {
            return fault(path!["spec", "inputs"], "`inputs` needs `build`: the build names the inputs");
        }
        if spec.time.max_artifact_age.is_some() {
            return fault(path!["spec", "time", "maxArtifactAge"], "`maxArtifactAge` needs `build`");
        }
    }
    for (index, rule) in spec.layouts.iter().enumerate() {
        let by_keys = match &rule.functionaries {
            Signer::Keys(_) => true,
            Signer::Any(group) => group.identities.is_empty(),
            Signer::Identity(_) | Signer::Service(_) | Signer::Group(_) => false,
        };
        if !by_keys {
            let at = path!["spec", "layouts", index, "functionaries"];
            return fault(at, "layouts name functionaries by their keys: give `key` or `keys`");
        }
    }
    Ok(())
}

fn build(spec: &Spec, build: &Build) -> Result<(), Fault> {
    level(build.min_level, path!["spec", "build", "minLevel"])?;
    asserts(&build.params.assert, Site::Build, path!["spec", "build", "params", "assert"])?;
    texts(&build.triggers, path!["spec", "build", "triggers"])?;
    if let Some(run) = &build.run {
        let conclusions = Some(run.conclusion.clone());
        texts(&conclusions, path!["spec", "build", "run", "conclusion"])?;
    }
    let rules = &spec.trust.builders;
    if rules.is_empty() {
        return fault(path!["spec", "build"], "`build` needs a rule in `trust.builders`");
    }
    let known: BTreeSet<&str> = rules.iter().map(|r| r.id.as_str()).collect();
    listed(&build.builders.of, path!["spec", "build", "builders", "of"])?;
    for (index, id) in build.builders.of.iter().flatten().enumerate() {
        if !known.contains(id.as_str()) {
            let at = path!["spec", "build", "builders", "of", index];
            return fault(at, no_id(id, "trust.builders", &known));
        }
    }
    let domains: BTreeSet<&str> = spec.builders().map(|r| r.domain()).collect();
    let k = build.builders.at_least;
    let at = path!["spec", "build", "builders", "atLeast"];
    if k == 0 {
        return fault(at, "a threshold of 0 asks for nothing");
    }
    if k as usize > domains.len() {
        return fault(at, format!("{k} builders are asked for, of {} distinct domain(s)", domains.len()));
    }
    Ok(())
}

/// Names that a repository may have had.
const MAX_FORMER_NAMES: usize = 16;

fn source(spec: &Spec, source: &Source) -> Result<(), Fault> {
    let at = |member: &str| path!["spec", "source", member];
    text(&source.repository.uri, path!["spec", "source", "repository", "uri"])?;
    if let Some(id) = &source.repository.id {
        text(id, path!["spec", "source", "repository", "id"])?;
    }
    let formerly = path!["spec", "source", "repository", "formerly"];
    if !source.repository.formerly.is_empty() && source.repository.id.is_none() {
        return fault(formerly, "a name that was given up may be anybody's: `formerly` needs `id`");
    }
    if source.repository.formerly.len() > MAX_FORMER_NAMES {
        return fault(formerly, format!("at most {MAX_FORMER_NAMES} names"));
    }
    listed(&source.refs, at("refs"))?;
    for (member, refs) in [("refs", &source.refs), ("reachableFrom", &source.reachable_from)] {
        let short = |glob: &&Glob| !glob.as_str().starts_with("refs/") && !glob.as_str().starts_with('*');
        let refs = refs.iter().flatten();
        if let Some((index, name)) = refs.enumerate().find(|(_, glob)| short(glob)) {
            let name = name.as_str();
            let why = format!("`{name}` is no full ref: write `refs/heads/{name}` or `refs/tags/{name}`");
            return fault(path!["spec", "source", member, index], why);
        }
    }
    level(source.min_level, at("minLevel"))?;
    if let Some(review) = &source.review {
        if review.at_least == 0 {
            return fault(path!["spec", "source", "review", "atLeast"], "a threshold of 0 asks for nothing");
        }
        if spec.trust.sources.is_empty() {
            return fault(at("review"), "`review` needs a rule in `trust.sources`");
        }
    }
    texts(&source.properties, at("properties"))?;
    if source.properties.is_some() && spec.trust.sources.is_empty() {
        return fault(at("properties"), "`properties` needs a rule in `trust.sources`");
    }
    if source.min_level > 0 && spec.trust.sources.is_empty() {
        return fault(at("minLevel"), "`minLevel` needs a rule in `trust.sources`");
    }
    listed(&source.reachable_from, at("reachableFrom"))?;
    if source.reachable_from.is_some() && spec.trust.sources.is_empty() {
        return fault(at("reachableFrom"), "`reachableFrom` needs a rule in `trust.sources`");
    }
    if let Some(continuity) = &source.continuity {
        text(&continuity.control, path!["spec", "source", "continuity", "control"])?;
        if spec.trust.sources.is_empty() {
            return fault(at("continuity"), "`continuity` needs a rule in `trust.sources`");
        }
    }
    if let Some(tag) = &source.signatures.tag {
        let at = |member: &str| path!["spec", "source", "signatures", "tag", member];
        listed(&tag.keys, at("keys"))?;
        listed(&tag.identities, at("identities"))?;
        if tag.at_least == 0 {
            return fault(at("atLeast"), "a threshold of 0 asks for nothing");
        }
        let keys = tag.keys.as_ref().filter(|_| tag.identities.is_none() && tag.principals.is_none());
        if let Some(keys) = keys.filter(|keys| keys.len() < tag.at_least as usize) {
            let why = format!("{} signers are asked for, of {} key(s)", tag.at_least, keys.len());
            return fault(at("atLeast"), why);
        }
    }
    let commit = &source.signatures.commit;
    let at = |member: &str| path!["spec", "source", "signatures", "commit", member];
    listed(&commit.keys, at("keys"))?;
    listed(&commit.identities, at("identities"))?;
    for (index, rule) in commit.identities.iter().flatten().enumerate() {
        text(&rule.issuer, path!["spec", "source", "signatures", "commit", "identities", index, "issuer"])?;
    }
    Ok(())
}

/// The canonical form of `source.repository.uri`: provenance is read into the same form, and the two are
/// compared as texts. `formerly` says which of the former names it is.
pub fn canonical(uri: &str, formerly: Option<usize>) -> Result<String, Fault> {
    let at = || match formerly {
        None => path!["spec", "source", "repository", "uri"],
        Some(index) => path!["spec", "source", "repository", "formerly", index],
    };
    match RepositoryUri::split(uri) {
        Ok((canonical, None)) => Ok(canonical.as_str().to_owned()),
        Ok((_, Some(_))) => fault(at(), "a repository is named without a ref or commit"),
        Err(error) => fault(at(), error.to_string()),
    }
}

/// Checks expressions and ids of a list of assertions.
pub(super) fn asserts(asserts: &[Assert], site: Site, path: Vec<Step>) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for (index, assert) in asserts.iter().enumerate() {
        let at = |member: &str| path.iter().cloned().chain([Step::from(index), Step::from(member)]).collect();
        text(&assert.id, at("id"))?;
        if !seen.insert(&assert.id) {
            return fault(at("id"), format!("the id `{}` is used twice", assert.id));
        }
        assert.expr.check(site).or_else(|why| fault(at("expr"), why))?;
    }
    Ok(())
}

fn deny(spec: &Spec) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for (index, rule) in spec.deny.iter().enumerate() {
        let at = |member: &str| path!["spec", "deny", index, member];
        text(&rule.id, at("id"))?;
        if !seen.insert(&rule.id) {
            return fault(at("id"), format!("the id `{}` is used twice", rule.id));
        }
        listed(&rule.digests, at("digests"))?;
        match (&rule.when, &rule.digests) {
            (Some(when), None) => when.check(Site::Deny).or_else(|why| fault(at("when"), why))?,
            (None, Some(_)) => {}
            _ => return fault(path!["spec", "deny", index], "give exactly one of `when` and `digests`"),
        }
    }
    Ok(())
}

fn inputs(index: usize, input: &Input) -> Result<(), Fault> {
    let at = |member: &str| path!["spec", "inputs", index, member];
    listed(&input.allow, at("allow"))?;
    property::levels(&input.levels, at("levels"))?;
    if !input.levels.is_empty() && !input.chain {
        return fault(at("levels"), "`levels` are those of the input's own chain: add `chain: true`");
    }
    if input.depth == 0 {
        return fault(at("depth"), "a depth of 0 forbids what `chain` asks for");
    }
    if input.pinned == Some(Pinned::Optional) && input.rests_on_digest() && !input.tolerate {
        return fault(at("pinned"), "`chain`, `digests`, `via` and `maxAge` need a pinned input");
    }
    Ok(())
}

fn registry(spec: &Spec, registry: &Registry) -> Result<(), Fault> {
    listed(&registry.path, path!["spec", "registry", "path"])?;
    if spec.trust.registries.is_empty() {
        return fault(path!["spec", "registry"], "`registry` needs a rule in `trust.registries`");
    }
    let known: BTreeSet<&str> = spec.trust.registries.iter().map(|r| r.id.as_str()).collect();
    listed(&registry.promoted_by, path!["spec", "registry", "promotedBy"])?;
    for (index, id) in registry.promoted_by.iter().flatten().enumerate() {
        if !known.contains(id.as_str()) {
            let at = path!["spec", "registry", "promotedBy", index];
            return fault(at, no_id(id, "trust.registries", &known));
        }
    }
    Ok(())
}
