//! BuildKit, v0.2 and v1, also as docker/github-builder signs it.
//!
//! The source is the git context that BuildKit itself fetched (`configSource`). The `vcs` hints are what a client said
//! about a local directory, and nothing here reads them. BuildKit does not say which of its images the result starts
//! from, so each is taken for a base image, except its own frontend and scanner. It leaves `builder.id` empty when
//! nobody set it.

use super::{
    Projection, Provenance, Wanted, github,
    parameters::Known,
    resource,
    source::{Location, Shape},
    text,
    wire::Descriptor,
};
use crate::{
    predicate::{Role, Source},
    reference::RepositoryUri,
};

/// The build types: v1, v0.2.
pub const BUILD_TYPES: [&str; 2] = [
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md",
    "https://mobyproject.org/buildkit@v1",
];

/// Images that take part in every build and in no result.
const TOOLS: [&str; 3] = [
    "docker.io/docker/buildkit-syft-scanner",
    "docker.io/docker/dockerfile",
    "docker.io/docker/dockerfile-upstream",
];

pub(super) fn shape(descriptor: &Descriptor) -> Shape {
    let uri = descriptor.uri.as_deref().unwrap_or_default();
    let is_image = ["pkg:docker/", "pkg:oci/", "docker-image://"].iter().any(|p| uri.starts_with(p));
    let role = match is_image.then(|| resource::of(uri, Role::BaseImage)) {
        None => Role::Generic,
        Some(Some(resource)) if TOOLS.contains(&resource.as_str()) => Role::Tool,
        Some(_) => Role::BaseImage,
    };
    Shape { role, is_git: false }
}

pub(super) fn project(provenance: &mut Provenance) -> Projection {
    let is_v1 = provenance.build_type == BUILD_TYPES[0];
    let external = &provenance.external;
    let mut source = match is_v1 {
        true => Wanted {
            uri: text(external, "/configSource/uri"),
            commit: text(external, "/configSource/digest/sha1")
                .or_else(|| text(external, "/configSource/digest/gitCommit")),
            ..Wanted::default()
        },
        false => std::mem::take(&mut provenance.config),
    };
    // A tarball, or a directory of the client, is no git source.
    source.uri = source.uri.filter(|uri| RepositoryUri::is_git_shaped(uri));
    let internal = &provenance.internal;
    source.repository_id = github::context(internal, "repository_id")
        .filter(|_| is_of_the_run(internal, source.uri.as_deref().unwrap_or_default()));
    Projection {
        source,
        trigger: github::context(internal, "event_name"),
        runner: github::context(internal, "runner_environment"),
        known: match is_v1 {
            true => Known {
                exact: &["configSource.uri", "configSource.path", "request.frontend"],
                prefixes: &[
                    "configSource.digest.",
                    "request.args.",
                    "request.secrets.",
                    "request.ssh.",
                    "request.locals.",
                    "request.inputs.",
                ],
            },
            false => Known {
                exact: &["entryPoint", "frontend"],
                prefixes: &["args.", "secrets.", "ssh.", "locals.", "inputs."],
            },
        },
    }
}

fn is_of_the_run(internal: &serde_json::Value, uri: &str) -> bool {
    let run = github::repository(internal).map(|uri| Location::of(&uri));
    let source = Location::of(uri);
    run.is_some_and(|run| run.is_canonical && run.repository == source.repository)
}

/// Only a full ref can be told from a tag or branch of the same short name. Where the context names a commit instead,
/// the ref is that of the run, when the run is of the same repository and commit.
pub(super) fn full_ref(source: &mut Source, internal: &serde_json::Value, uri: &str) {
    source.reference = source.reference.take().filter(|reference| reference.starts_with("refs/"));
    if source.reference.is_some() || Location::of(uri).commit.is_none() || !is_of_the_run(internal, uri) {
        return;
    }
    let run = github::context(internal, "sha").or_else(|| github::context(internal, "workflow_sha"));
    if run.is_some() && run == source.commit.map(|commit| commit.to_hex()) {
        source.reference = github::context(internal, "ref").filter(|r| r.starts_with("refs/"));
    }
}
