//! R1, rebuilds: an index that somebody built again holds the same images under another digest, because it also holds what
//! was said of the build, with its times. So indexes are compared by what they may run.

use std::collections::{BTreeMap, BTreeSet};

use catenary_evidence::{
    digest::{Digest, GitOid, Node},
    object::{Body, Platform},
    predicate::Claim,
};

use crate::{
    policy::document::BuilderRule,
    reason::{Code, Reason},
};

use super::{artifact::Artifact, world::World};

/// Indexes around the one that is asked about.
#[derive(Default)]
pub(super) struct Around {
    /// Those that may run exactly the same images.
    pub twins: Vec<Digest>,
    /// Those that share an image and have another one for some platform.
    others: Vec<Digest>,
}

/// Looks for them. It reads every known index of every image, so that it is asked only where several builders must agree.
pub(super) fn around(world: &mut World<'_>, artifact: &Artifact) -> Around {
    let mut around = Around::default();
    if !artifact.is_index {
        return around;
    }
    let mut known: BTreeSet<Digest> = BTreeSet::new();
    for child in &artifact.children {
        known.extend(world.parents(*child));
    }
    known.remove(&artifact.digest);
    let here = images(world, artifact.digest);
    for index in known {
        if world.denied(index).is_some_and(|(image, _)| image == index) {
            continue;
        }
        let there = images(world, index);
        if there == here {
            around.twins.push(index);
        } else if here.iter().any(|(platform, digests)| there.get(platform).is_some_and(|d| d != digests)) {
            around.others.push(index);
        }
    }
    around
}

/// What an index may run, by platform.
fn images(world: &mut World<'_>, index: Digest) -> BTreeMap<Option<Platform>, BTreeSet<Digest>> {
    let mut images: BTreeMap<Option<Platform>, BTreeSet<Digest>> = BTreeMap::new();
    if let Some(Body::Index(index)) = world.object(index.into()).map(|object| &object.body) {
        for child in index.children.iter().filter(|child| child.is_runnable()) {
            images.entry(child.platform.clone()).or_default().insert(child.digest);
        }
    }
    images
}

/// Another trusted builder made something else of the same commit. Not of one of `domains`, which agree already.
pub(super) fn mismatch(
    world: &mut World<'_>,
    artifact: &Artifact,
    around: &Around,
    builders: &[&BuilderRule],
    domains: &BTreeSet<&str>,
    commits: &BTreeSet<GitOid>,
) -> Option<Reason> {
    for index in &around.others {
        for statement in world.naming(Node::Content(*index)) {
            let Claim::Build(build) = &statement.fact.claim else { continue };
            let same = build.source.as_ref().and_then(|s| s.commit).is_some_and(|c| commits.contains(&c));
            let trusted = builders.iter().find(|rule| {
                let (from, until) = (rule.valid_from, rule.valid_until);
                let names = world.identities_of(statement, &rule.signer, from, until);
                world.counts(statement, &rule.signer, from, until)
                    && rule.builder_id.matches(&build.builder_id, names.into_iter())
                    && !domains.contains(rule.domain())
            });
            if let Some(rule) = trusted.filter(|_| same) {
                let message = format!("`{}` built {index} from the same commit, with other images", rule.id);
                let reason =
                    Reason::error(Code::BldRebuildMismatch, artifact.digest, "build.builders", message);
                let reason = reason.because(artifact.digest.to_string(), index.to_string());
                return Some(reason.with_evidence([statement.fact.id]));
            }
        }
    }
    None
}
