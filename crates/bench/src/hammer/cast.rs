//! Who plays: images whose verdict is known beforehand, because of how they were made (I4). Nothing here asks the service.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use catenary_testkit::{
    Subject, World,
    dsse::Envelope,
    oci::{Blob, Image, Index, layer},
    provenance::Base,
    registry::RegistryEvidence,
    world::{RESOURCE, subjects},
};
use serde_json::json;

/// What an image is.
#[derive(Clone, Copy)]
pub enum Part {
    /// Its chain is whole.
    Honest,
    /// One thing is wrong.
    Hostile(&'static Mutation),
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Honest => f.write_str("honest"),
            Self::Hostile(mutation) => f.write_str(mutation.id),
        }
    }
}

/// One thing that is wrong, and how it is told.
pub struct Mutation {
    /// The attack case that it is.
    pub id: &'static str,
    /// Bends the world.
    bend: fn(&mut World),
    /// What of it is sent: the build's envelope, the push's.
    sends: [bool; 2],
    /// The error that must be among the verdict's.
    pub code: &'static str,
}

/// A world that is bent, and sent whole.
const fn bent(id: &'static str, code: &'static str, bend: fn(&mut World)) -> Mutation {
    Mutation { id, code, bend, sends: [true, true] }
}

/// An honest world of which a part is not sent.
const fn without(id: &'static str, code: &'static str, sends: [bool; 2]) -> Mutation {
    Mutation { id, code, bend: |_| {}, sends }
}

/// The attack cases that are played.
pub static MUTATIONS: [Mutation; 13] = [
    without("S02 no provenance", "BLD_NO_PROVENANCE", [false, true]),
    without("no push", "REG_NOT_OBSERVED", [true, false]),
    bent("a builder that nobody registered", "BLD_SIGNER_NOT_TRUSTED", |world| {
        world.build.signer = world.k_mallory.clone();
    }),
    bent("another builder id", "BLD_BUILDER_NOT_TRUSTED", |world| {
        world.build.builder_id = "https://ci.evil.test".into();
    }),
    bent("G04 another commit", "SRC_COMMIT_UNKNOWN", |world| {
        world.build.source_commit = Some("c2".repeat(20));
    }),
    bent("S11 another repository", "SRC_REPO_MISMATCH", |world| {
        world.build.source_uri = "git+https://git.acme.test/acme/lib".into();
    }),
    bent("another branch", "SRC_REF_NOT_ALLOWED", |world| {
        world.build.source_ref = "refs/heads/evil".into();
    }),
    bent("G10 one child is not attested", "ART_PLATFORM_UNCOVERED", |world| {
        world.build.subjects = vec![Subject::image(RESOURCE, &world.index.images[0].digest())];
    }),
    bent("G16 another base image", "DEP_BASE_NOT_ALLOWED", |world| {
        let uri = "registry.evil.test/base/debian".to_owned();
        world.build.base = Some(Base { uri, digest: Some(format!("sha256:{}", "b".repeat(64))) });
    }),
    bent("S17 an external parameter", "BLD_PARAM_UNEXPECTED", |world| {
        world.build.extra_params.insert("evil".into(), json!("yes"));
    }),
    bent("a trigger that is not allowed", "BLD_TRIGGER_NOT_ALLOWED", |world| {
        world.build.trigger = Some("pull_request_target".into());
    }),
    bent("pushed elsewhere", "REG_WRONG_REPOSITORY", |world| {
        let at = world.push.occurred_at;
        world.push.body = RegistryEvidence::push("registry.acme.test/acme/lib", &world.index.digest(), at);
    }),
    bent("a push that the builder signed", "REG_PUSHER_NOT_TRUSTED", |world| {
        world.push.signer = world.k_ci.clone();
    }),
];

/// One image in one tenant.
#[derive(Debug)]
pub struct Actor {
    /// Index of the tenant.
    pub tenant: usize,
    /// The question.
    pub image: String,
    /// What it is.
    pub part: Part,
    /// Its documents and envelopes.
    pub objects: Vec<Blob>,
    /// The envelopes to send.
    pub envelopes: Vec<Envelope>,
    /// Size of the log by which all of it was acknowledged; `u64::MAX` until then.
    pub complete: AtomicU64,
    /// A revocation is on its way, or nobody knows.
    pub doubtful: AtomicBool,
    /// A revocation was acknowledged.
    pub revoked: AtomicBool,
}

impl Actor {
    /// A new image of the world's repository, honest or not.
    pub fn new(tenant: usize, world: &World, number: u64, part: Part) -> Self {
        let mut world = another(world, number);
        let mut sends = [true, true];
        if let Part::Hostile(mutation) = part {
            (mutation.bend)(&mut world);
            sends = mutation.sends;
        }
        let envelopes = [sends[0].then(|| world.build_envelope()), sends[1].then(|| world.push_envelope())];
        let mut objects: Vec<Blob> =
            world.index.images.iter().flat_map(|image| [image.config(), image.manifest()]).collect();
        objects.push(world.index.document());
        Self {
            tenant,
            image: world.image(),
            part,
            objects,
            envelopes: envelopes.into_iter().flatten().collect(),
            complete: AtomicU64::new(u64::MAX),
            doubtful: AtomicBool::new(false),
            revoked: AtomicBool::new(false),
        }
    }

    /// Whether a no is the only right answer.
    pub fn is_hostile(&self) -> bool {
        matches!(self.part, Part::Hostile(_))
    }

    /// What must be said at the end, when all of it is there: an outcome, and the code of a no.
    pub fn expectation(&self) -> Option<(&'static str, Option<&'static str>)> {
        if self.complete.load(Ordering::SeqCst) == u64::MAX {
            return None;
        }
        match self.part {
            Part::Hostile(mutation) => Some(("FAILED", Some(mutation.code))),
            Part::Honest if self.revoked.load(Ordering::SeqCst) => Some(("FAILED", None)),
            Part::Honest if self.doubtful.load(Ordering::SeqCst) => None,
            Part::Honest => Some(("PASSED", None)),
        }
    }
}

/// Another image that was built from the same commit, on the same base, pushed to the same place.
fn another(world: &World, number: u64) -> World {
    let mut world = world.clone();
    let extend = |image: &Image| image.extend(layer(&[("usr/bin/hammer", format!("{number}").as_bytes())]));
    world.index = Index::new(world.index.images.iter().map(extend).collect());
    world.build.subjects = subjects(RESOURCE, &world.index);
    world.build.invocation = format!("{}/{number}", world.build.invocation);
    let mut push = RegistryEvidence::push(RESOURCE, &world.index.digest(), world.push.occurred_at);
    push.tag = Some(format!("1.0.{number}"));
    world.push.body = push;
    world
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_actor_is_another_image() {
        let world = World::golden(1, 1_700_000_000);
        let mut images: Vec<String> =
            (0..4).map(|n| Actor::new(0, &world, n, Part::Honest).image).chain([world.image()]).collect();
        images.sort();
        images.dedup();
        assert_eq!(images.len(), 5);
        let hostile = Actor::new(0, &world, 9, Part::Hostile(&MUTATIONS[0]));
        assert!(hostile.is_hostile() && hostile.envelopes.len() == 1);
        assert_eq!(hostile.expectation(), None);
        hostile.complete.store(7, Ordering::SeqCst);
        assert_eq!(hostile.expectation(), Some(("FAILED", Some("BLD_NO_PROVENANCE"))));
    }
}
