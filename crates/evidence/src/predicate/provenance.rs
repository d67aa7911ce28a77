//! SLSA provenance v1, v0.2 and v0.1, projected to one normal form by build-type adapters (chain-model 1.6).
//!
//! An adapter knows where a build type writes its source, trigger and runner, and which external parameters
//! exist. A build type without an adapter keeps its builder, parameters (all unknown) and dependencies, but has no
//! source: it can satisfy no rule about where the code came from.
//!
//! The **generic build type**, `urn:catenary:buildtype:generic:v1`, is what `catenary attest build` writes for
//! tools that have no provenance of their own:
//!
//! ```json
//! {"buildDefinition": {
//!    "buildType": "urn:catenary:buildtype:generic:v1",
//!    "externalParameters": {
//!      "source": {"uri": "git+https://git.acme.test/acme/app", "ref": "refs/heads/main", "commit": "<hex>"},
//!      "target": "release", "config": "build.toml", "params": {"NAME": "value"}},
//!    "internalParameters": {"trigger": "push", "runner": "self-hosted", "repositoryId": "4242"},
//!    "resolvedDependencies": [
//!      {"uri": "git+https://git.acme.test/acme/app@refs/heads/main", "digest": {"gitCommit": "<hex>"}},
//!      {"name": "baseImage", "uri": "docker://registry.acme.test/base/alpine", "digest": {"sha256": "<hex>"}}]},
//!  "runDetails": {"builder": {"id": "https://ci.acme.test"}, "metadata": {"invocationId": "…"}}}
//! ```
//!
//! `source.commit` is a request; the commit that was built is the one in `resolvedDependencies`, and the two must
//! agree. A dependency's `name` gives its role: `baseImage`, `builderImage`, `submodule`, `tool`. Parameters other than
//! `source.*`, `target`, `config` and `params.*` are unknown.

mod buildkit;
mod cloud_build;
mod generator;
mod generic;
mod github;
mod gitlab;
mod npm;
mod parameters;
mod resource;
mod source;
mod tekton;
mod wire;

use jiff::Timestamp;
use serde_json::Value;

use self::{
    parameters::{Known, Layout, flatten},
    source::{Shape, Wanted, dependencies},
    wire::Descriptor,
};
use super::{Adapter, Build, Complete, Reader, Role};
use crate::refusal::Refusal;

pub use generator::V02 as SLSA_GITHUB_GENERATOR;
pub use generic::BUILD_TYPE as GENERIC;
pub use github::WORKFLOW as GITHUB_WORKFLOW;

/// Provenance of any version, before a build type gives it its meaning.
struct Provenance {
    /// Where the build type and the builder's id stand, for refusals.
    pointers: [&'static str; 2],
    dependencies_at: &'static str,
    build_type: String,
    builder_id: String,
    /// `externalParameters`, `invocation.parameters`, `recipe.arguments`.
    external: Value,
    /// `internalParameters`, `invocation.environment`, `recipe.environment`.
    internal: Value,
    /// `invocation.configSource` (v0.2).
    config: Wanted,
    /// `invocation.configSource.entryPoint`, `recipe.entryPoint`.
    entry_point: Option<String>,
    descriptors: Vec<Descriptor>,
    complete: Complete,
    hermetic: Option<bool>,
    reproducible: Option<bool>,
    invocation: Option<String>,
    started_on: Option<Timestamp>,
    finished_on: Option<Timestamp>,
}

/// What a build type says of a provenance.
struct Projection {
    source: Wanted,
    trigger: Option<String>,
    runner: Option<String>,
    known: Known,
}

/// Reads provenance v1.
pub(super) fn read_v1(reader: &Reader<'_>) -> Result<Build, Refusal> {
    let provenance = wire::v1(reader)?;
    let adapter = match provenance.build_type.as_str() {
        GENERIC => Some(Adapter::Generic),
        cloud_build::V1 => Some(Adapter::GoogleCloudBuild),
        kind if kind == buildkit::BUILD_TYPES[0] => Some(Adapter::Buildkit),
        kind if GITHUB_WORKFLOW.contains(&kind) => Some(Adapter::GithubWorkflow),
        kind if generator::V1.contains(&kind) => Some(Adapter::SlsaGithubGenerator),
        kind if gitlab::BUILD_TYPES.contains(&kind) => Some(Adapter::Gitlab),
        kind if tekton::V1.contains(&kind) => Some(Adapter::TektonChains),
        _ => None,
    };
    project(reader, provenance, adapter)
}

/// Reads provenance v0.2.
pub(super) fn read_v02(reader: &Reader<'_>) -> Result<Build, Refusal> {
    let provenance = wire::v02(reader)?;
    let adapter = match provenance.build_type.as_str() {
        kind if kind == buildkit::BUILD_TYPES[1] => Some(Adapter::Buildkit),
        kind if generator::V02.contains(&kind) => Some(Adapter::SlsaGithubGenerator),
        kind if npm::BUILD_TYPES.contains(&kind) => Some(Adapter::Npm),
        kind if tekton::V02.contains(&kind) => Some(Adapter::TektonChains),
        _ => None,
    };
    project(reader, provenance, adapter)
}

/// Reads provenance v0.1, which Cloud Build still writes.
pub(super) fn read_v01(reader: &Reader<'_>) -> Result<Build, Refusal> {
    let provenance = wire::v01(reader)?;
    let is_cloud_build = cloud_build::V01.contains(&provenance.build_type.as_str());
    project(reader, provenance, is_cloud_build.then_some(Adapter::GoogleCloudBuild))
}

/// Brings a provenance into the normal form.
fn project(
    reader: &Reader<'_>,
    mut provenance: Provenance,
    adapter: Option<Adapter>,
) -> Result<Build, Refusal> {
    said(reader, &provenance, adapter)?;
    let mut params = flatten(&provenance.external, &layout(adapter))?;
    if let Some(entry_point) = provenance.entry_point.take() {
        // Beside the parameters, because it chooses what runs. Tekton's parameters are the tenant's and lie at the top: one of this
        // name must not stand for what ran.
        let known = params.entry("entryPoint".to_owned()).or_insert_with(|| entry_point.clone());
        if *known != entry_point {
            return Err(reader.refuse("", "a parameter `entryPoint` is not the entry point"));
        }
    }
    let mut descriptors = std::mem::take(&mut provenance.descriptors);
    if adapter == Some(Adapter::SlsaGithubGenerator) {
        descriptors.extend(generator::builder_image(&provenance));
    }
    let shape = |descriptor: &Descriptor| shape(descriptor, adapter, &provenance.build_type);
    let mut dependencies = dependencies(descriptors, provenance.dependencies_at, shape)?;
    let projection = match adapter {
        None => None,
        Some(Adapter::GithubWorkflow) => Some(github::workflow(&provenance)),
        Some(Adapter::SlsaGithubGenerator) => Some(generator::project(&mut provenance)),
        Some(Adapter::Generic) => Some(generic::project(&provenance)),
        Some(Adapter::Buildkit) => Some(buildkit::project(&mut provenance)),
        Some(Adapter::Gitlab) => Some(gitlab::project(&provenance)),
        Some(Adapter::TektonChains) => Some(tekton::project(&provenance, &dependencies)),
        Some(Adapter::GoogleCloudBuild) => Some(match provenance.build_type == cloud_build::V1 {
            true => cloud_build::v1(&provenance),
            false => cloud_build::v01(&provenance, &mut dependencies),
        }),
        Some(Adapter::Npm) => Some(npm::project(&mut provenance)),
    };
    let (wanted, trigger, runner, known) = match projection {
        None => (Wanted::default(), None, None, Known::NOTHING),
        Some(Projection { source, trigger, runner, known }) => (source, trigger, runner, known),
    };
    let uri = wanted.uri.clone().unwrap_or_default();
    let mut source = wanted.resolve(&mut dependencies);
    if let (Some(Adapter::Buildkit), Some(source)) = (adapter, &mut source) {
        buildkit::full_ref(source, &provenance.internal, &uri);
    }
    Ok(Build {
        builder_id: provenance.builder_id,
        build_type: provenance.build_type,
        adapter,
        source,
        unknown_params: known.others(&params),
        params,
        trigger,
        runner,
        dependencies: dependencies.into_iter().map(|d| d.dependency).collect(),
        invocation: provenance.invocation,
        started_on: provenance.started_on,
        finished_on: provenance.finished_on,
        hermetic: provenance.hermetic,
        reproducible: provenance.reproducible,
        complete: provenance.complete,
    })
}

/// Who built, and how, must be said. BuildKit and older tools leave the builder empty when nobody set it; such provenance
/// is kept, and a build rule takes it only when its matcher does.
fn said(reader: &Reader<'_>, provenance: &Provenance, adapter: Option<Adapter>) -> Result<(), Refusal> {
    let [build_type_at, builder_at] = provenance.pointers;
    if !(adapter.is_none() && provenance.build_type.is_empty()) {
        reader.text(build_type_at, &provenance.build_type)?;
    }
    let may_be_empty = matches!(adapter, None | Some(Adapter::Buildkit));
    if may_be_empty && provenance.builder_id.is_empty() {
        return Ok(());
    }
    reader.text(builder_at, &provenance.builder_id)
}

/// What the build type says of one dependency.
fn shape(descriptor: &Descriptor, adapter: Option<Adapter>, build_type: &str) -> Shape {
    match adapter {
        Some(Adapter::Generic) => generic::shape(descriptor),
        Some(Adapter::SlsaGithubGenerator) => generator::shape(descriptor, build_type),
        Some(Adapter::Buildkit) => buildkit::shape(descriptor),
        Some(Adapter::TektonChains) => tekton::shape(descriptor),
        Some(Adapter::GoogleCloudBuild) => cloud_build::shape(descriptor),
        None | Some(Adapter::GithubWorkflow | Adapter::Gitlab | Adapter::Npm) => {
            Shape { role: Role::Generic, is_git: false }
        }
    }
}

/// Programs among the parameters.
fn layout(adapter: Option<Adapter>) -> Layout {
    match adapter {
        Some(Adapter::TektonChains) => Layout {
            whole: &["runSpec.pipelineSpec", "runSpec.taskSpec", "runSpec.workspaces"],
            named: &["runSpec.params"],
        },
        Some(Adapter::GoogleCloudBuild) => {
            Layout { whole: &["steps", "sourceProvenance", "buildConfig"], named: &[] }
        }
        _ => Layout::default(),
    }
}

/// A text, or a number as text, inside a JSON value.
fn text(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
