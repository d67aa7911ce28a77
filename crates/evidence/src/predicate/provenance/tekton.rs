//! Tekton Chains, v0.2 (formats `in-toto` and `slsa/v1`) and v1 (`slsa/v2alpha…`).
//!
//! Tekton knows no source: it reports what tasks hint at as their inputs. The source is the git repository among
//! them, when there is exactly one beside the repository that the pipeline itself was read from.

use super::{
    Projection, Provenance, Wanted,
    parameters::Known,
    source::{Location, Read, Shape, only_repository},
    wire::Descriptor,
};
use crate::{predicate::Role, reference::RepositoryUri};

/// The build types of v1.
pub const V1: [&str; 2] = ["https://tekton.dev/chains/v2/slsa", "https://tekton.dev/chains/v2/slsa-tekton"];

/// The build types of v0.2.
pub const V02: [&str; 6] = [
    "tekton.dev/v1beta1/TaskRun",
    "tekton.dev/v1beta1/PipelineRun",
    "tekton.dev/v1/TaskRun",
    "tekton.dev/v1/PipelineRun",
    "https://tekton.dev/attestations/chains@v2",
    "https://tekton.dev/attestations/chains/pipelinerun@v2",
];

/// The names of what tasks hint at, as the documentation and the code write it.
const INPUTS: [&str; 4] = ["inputs/result", "inputs/results", "input/result", "input/results"];

/// Steps and sidecars run in the images that have no name.
pub(super) fn shape(descriptor: &Descriptor) -> Shape {
    let uri = descriptor.uri.as_deref().unwrap_or_default();
    let has = |algorithm: &str| descriptor.digest.as_ref().is_some_and(|d| d.contains_key(algorithm));
    let role = match descriptor.name.as_deref() {
        Some(name) if INPUTS.contains(&name) => Role::Generic,
        Some(name) if ["pipeline", "task", "pipelineTask"].contains(&name.trim_start_matches("config/")) => {
            Role::Tool
        }
        None | Some("") if has("sha256") && !RepositoryUri::is_git_shaped(uri) => Role::BuilderImage,
        _ => Role::Generic,
    };
    Shape { role, is_git: false }
}

pub(super) fn project(provenance: &Provenance, dependencies: &[Read]) -> Projection {
    // v0.2 has the pipeline's own repository among the materials; v1 names it.
    let config = provenance.config.uri.as_deref().map(Location::of);
    let is_config = |d: &Read| config.as_ref().is_some_and(|c| c.repository == d.location.repository);
    let beside = dependencies.iter().any(|d| !d.commits.is_empty() && !is_config(d));
    let uri = only_repository(dependencies, |d| !beside || !is_config(d));
    let known = match V1.contains(&provenance.build_type.as_str()) {
        true => Known { exact: &[], prefixes: &["runSpec.", "buildConfigSource."] },
        // The parameters of the run, whatever they are called.
        false => Known { exact: &[], prefixes: &[""] },
    };
    Projection { source: Wanted { uri, ..Wanted::default() }, trigger: None, runner: None, known }
}
