//! What the digest is, and whether it is what the policy is about (docs/rules.md 2).

use catenary_evidence::{
    digest::Digest,
    object::{Body, Index, Manifest, Platform},
};

use crate::{
    policy::{
        Spec,
        document::{Kind, Tolerance},
    },
    reason::{Code, Reason},
    verdict::{Link, Status},
};

use super::{platform_text, world::World};

/// The artifact that is judged.
pub struct Artifact {
    pub digest: Digest,
    pub media_type: Option<String>,
    /// Whether it is an index.
    pub is_index: bool,
    /// Runnable children of an index, each once, in order.
    pub children: Vec<Digest>,
    /// Those that must be covered.
    pub scope: Vec<Digest>,
    pub reasons: Vec<Reason>,
}

impl Artifact {
    /// The link.
    pub fn link(&self) -> Link {
        let fails = self.reasons.iter().any(Reason::is_error);
        let what = match (&self.media_type, self.is_index) {
            (None, _) => "bytes unknown".to_owned(),
            (Some(_), true) => format!("index of {} runnable platform(s)", self.children.len()),
            (Some(media_type), false) => media_type.clone(),
        };
        Link {
            stage: "artifact".to_owned(),
            status: if fails { Status::Fail } else { Status::Pass },
            node: self.digest.to_string(),
            summary: what,
            evidence: Vec::new(),
            links: Vec::new(),
        }
    }
}

/// Whether `found` is the platform `wanted`; a variant matters when it is wanted.
pub fn is_platform(found: &Platform, wanted: &Platform) -> bool {
    found.os == wanted.os
        && found.architecture == wanted.architecture
        && (wanted.variant.is_none() || wanted.variant == found.variant)
}

/// Judges the bytes behind `digest`.
pub fn judge(world: &mut World<'_>, digest: Digest, platform: Option<&Platform>, spec: &Spec) -> Artifact {
    let mut artifact = Artifact {
        digest,
        media_type: None,
        is_index: false,
        children: Vec::new(),
        scope: Vec::new(),
        reasons: Vec::new(),
    };
    if let Some((image, revoked)) = world.denied(digest) {
        let message = format!("{image} was revoked: {}", revoked.reason);
        artifact.reasons.push(Reason::error(Code::ArtDenied, digest, "revocation", message));
    }
    let Some(object) = world.object(digest.into()) else {
        let one_kind = spec.subject.kinds.as_ref().is_some_and(|kinds| !both(kinds));
        let listed = spec.deny.iter().any(|rule| rule.digests.is_some());
        let needed = listed
            || spec.subject.platforms.is_some()
            || !spec.inputs.is_empty()
            || platform.is_some()
            || one_kind
            // Nobody can tell which platforms there are, or what speaks against them.
            || !spec.negatives.is_empty()
            || spec.require.iter().any(|rule| rule.per_platform);
        let message = format!("the bytes of {digest} are not known");
        artifact.reasons.push(match needed {
            true => Reason::error(Code::ArtManifestMissing, digest, "subject", message),
            false => Reason::warning(Code::ArtManifestMissing, digest, "subject", message),
        });
        return artifact;
    };
    match &object.body {
        Body::Index(index) => {
            artifact.media_type = Some(index.media_type.clone());
            artifact.is_index = true;
            of_kind(&mut artifact, Kind::ImageIndex, index.artifact_type.as_deref(), spec);
            artifact.children = world.runnable(digest);
            platforms_of_index(&mut artifact, index, platform, spec);
        }
        Body::Manifest(manifest) => {
            artifact.media_type = Some(manifest.media_type.clone());
            of_kind(&mut artifact, Kind::ImageManifest, manifest.artifact_type.as_deref(), spec);
            platform_of_manifest(world, &mut artifact, manifest, platform, spec);
        }
        Body::Config(_) => unsupported(&mut artifact, "an image config"),
        Body::Commit(_) | Body::Tag(_) => unsupported(&mut artifact, "a git object"),
    }
    artifact
}

fn both(kinds: &[Kind]) -> bool {
    kinds.contains(&Kind::ImageIndex) && kinds.contains(&Kind::ImageManifest)
}

fn unsupported(artifact: &mut Artifact, what: &str) {
    let message = format!("{} is {what}", artifact.digest);
    let reason = Reason::error(Code::ArtKindUnsupported, artifact.digest, "subject.kinds", message);
    artifact.reasons.push(reason.because("an image index or manifest", what));
}

fn of_kind(artifact: &mut Artifact, kind: Kind, artifact_type: Option<&str>, spec: &Spec) {
    let name = match kind {
        Kind::ImageIndex => "an image index",
        Kind::ImageManifest => "an image manifest",
    };
    if let Some(artifact_type) = artifact_type {
        unsupported(artifact, &format!("an artifact of type {artifact_type}"));
    } else if spec.subject.kinds.as_ref().is_some_and(|kinds| !kinds.contains(&kind)) {
        unsupported(artifact, name);
    }
}

fn platforms_of_index(artifact: &mut Artifact, index: &Index, platform: Option<&Platform>, spec: &Spec) {
    let runnable: Vec<_> = index.children.iter().filter(|child| child.is_runnable()).collect();
    let has = |wanted: &Platform| {
        runnable.iter().any(|child| child.platform.as_ref().is_some_and(|found| is_platform(found, wanted)))
    };
    let here: Vec<String> = runnable
        .iter()
        .map(|c| c.platform.as_ref().map_or_else(|| "unknown".to_owned(), platform_text))
        .collect();
    let mut missing = |wanted: String, rule: &str| {
        let message = format!("the index has no {wanted}");
        let reason = Reason::error(Code::ArtPlatformMissing, artifact.digest, rule, message);
        artifact.reasons.push(reason.because(wanted, here.clone()));
    };
    if runnable.is_empty() {
        missing("runnable platform".to_owned(), "subject");
    }
    if let Some(wanted) = platform.filter(|wanted| !has(wanted)) {
        missing(platform_text(wanted), "platform");
    }
    artifact.scope.clone_from(&artifact.children);
    let Some(listed) = &spec.subject.platforms else { return };
    for wanted in listed.iter().filter(|wanted| !has(wanted)) {
        missing(platform_text(wanted), "subject.platforms");
    }
    let is_listed =
        |found: Option<&Platform>| found.is_some_and(|f| listed.iter().any(|wanted| is_platform(f, wanted)));
    if spec.subject.extra_platforms == Tolerance::Allow {
        let inside = |digest: &Digest| {
            runnable.iter().any(|child| child.digest == *digest && is_listed(child.platform.as_ref()))
        };
        artifact.scope.retain(inside);
        return;
    }
    for child in runnable.iter().filter(|child| !is_listed(child.platform.as_ref())) {
        let found = child.platform.as_ref().map_or_else(|| "unknown".to_owned(), platform_text);
        artifact.reasons.push(extra(child.digest, found, listed));
    }
}

fn platform_of_manifest(
    world: &mut World<'_>,
    artifact: &mut Artifact,
    manifest: &Manifest,
    platform: Option<&Platform>,
    spec: &Spec,
) {
    if platform.is_none() && spec.subject.platforms.is_none() {
        return;
    }
    let Some(Body::Config(config)) = world.object(manifest.config.digest.into()).map(|o| &o.body) else {
        return;
    };
    let found = platform_text(&config.platform);
    if let Some(wanted) = platform.filter(|wanted| !is_platform(&config.platform, wanted)) {
        let message = format!("the manifest is for {found}");
        let reason = Reason::error(Code::ArtPlatformMissing, artifact.digest, "platform", message);
        artifact.reasons.push(reason.because(platform_text(wanted), found.clone()));
    }
    if let Some(listed) = &spec.subject.platforms
        && !listed.iter().any(|wanted| is_platform(&config.platform, wanted))
    {
        artifact.reasons.push(extra(artifact.digest, found, listed));
    }
}

fn extra(digest: Digest, found: String, listed: &[Platform]) -> Reason {
    let listed: Vec<String> = listed.iter().map(platform_text).collect();
    let message = format!("platform {found} is not listed");
    Reason::error(Code::ArtExtraPlatform, digest, "subject.platforms", message).because(listed, found)
}
