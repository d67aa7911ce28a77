//! Google Cloud Build, v0.1 (recipes) and v1.

use serde_json::Value;

use super::{
    Projection, Provenance, Wanted,
    parameters::Known,
    source::{Location, Read, Shape, only_repository},
    text,
    wire::Descriptor,
};
use crate::{digest::GitOid, predicate::Role, reference::RepositoryUri};

/// The build type of v1.
pub const V1: &str = "https://cloud.google.com/build/gcb-buildtypes/google-worker/v1";

/// The recipes of v0.1. The oldest one is called like the builder.
pub const V01: [&str; 3] = [
    "https://cloudbuild.googleapis.com/CloudBuildYaml@v0.1",
    "https://cloudbuild.googleapis.com/CloudBuildSteps@v0.1",
    "https://cloudbuild.googleapis.com/GoogleHostedWorker@v0.2",
];

/// A material of v0.1 with nothing but a `sha1` is a repository, written as people visit it. The images of v1 are
/// those that the steps ran in.
pub(super) fn shape(descriptor: &Descriptor) -> Shape {
    let uri = descriptor.uri.as_deref().unwrap_or_default();
    let mut algorithms = descriptor.digest.iter().flatten().map(|(algorithm, _)| algorithm.as_str());
    let is_git = uri.starts_with("https://")
        && RepositoryUri::split(uri).is_ok()
        && (algorithms.next(), algorithms.next()) == (Some("sha1"), None);
    let is_image = uri.contains("@sha256:") && !uri.contains("://");
    Shape { role: if is_image { Role::BuilderImage } else { Role::Generic }, is_git }
}

/// v1: what was built is `sourceToBuild`, and the place of the configuration when that is not said.
pub(super) fn v1(provenance: &Provenance) -> Projection {
    let external = &provenance.external;
    let at = match external.get("sourceToBuild") {
        Some(Value::Object(_)) => "sourceToBuild",
        _ => "buildConfigSource",
    };
    Projection {
        source: Wanted {
            uri: text(external, &format!("/{at}/repository")),
            reference: text(external, &format!("/{at}/ref")),
            // What the substitution says too.
            commit: text(&provenance.internal, "/systemSubstitutions/COMMIT_SHA")
                .filter(|_| at == "buildConfigSource"),
            ..Wanted::default()
        },
        trigger: None,
        runner: None,
        known: Known {
            exact: &[],
            prefixes: &["buildConfig.", "buildConfigSource.", "sourceToBuild.", "substitutions."],
        },
    }
}

/// v0.1: the one repository among the materials.
pub(super) fn v01(provenance: &Provenance, dependencies: &mut [Read]) -> Projection {
    for material in dependencies.iter_mut() {
        visited(material);
    }
    let substitution = |name: &str| text(&provenance.external, &format!("/substitutions/{name}"));
    let branch = substitution("BRANCH_NAME").map(|name| format!("refs/heads/{name}"));
    let tag = substitution("TAG_NAME").map(|name| format!("refs/tags/{name}"));
    Projection {
        source: Wanted {
            uri: only_repository(dependencies, |_| true),
            reference: match (branch, tag) {
                (Some(_), Some(_)) => None,
                (branch, tag) => branch.or(tag),
            },
            repository_id: None,
            commit: substitution("COMMIT_SHA"),
        },
        trigger: None,
        runner: None,
        // The build as Cloud Build's interface describes it.
        known: Known {
            exact: &["@type", "entryPoint", "id", "name", "steps", "sourceProvenance", "timeout"],
            prefixes: &["options.", "substitutions.", "images.", "tags.", "artifacts."],
        },
    }
}

/// The first workers wrote the page of a commit, without a digest: what is signed is the id in the address.
fn visited(material: &mut Read) {
    let Some((repository, commit)) = material.dependency.uri.rsplit_once("/commit/") else { return };
    let location = Location::of(repository);
    if let Ok(commit) = GitOid::from_hex(commit)
        && location.is_canonical
        && location.repository.starts_with("git+https://")
        && material.dependency.nodes.is_empty()
    {
        material.location = location;
        material.commits.push(commit);
    }
}
