//! SLSA provenance v1 and v0.2, projected to one normal form by build-type adapters (chain-model 1.6).
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

mod parameters;
mod resource;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use self::parameters::flatten;
use super::{Adapter, Build, Dependency, Reader, Role, Source};
use crate::{
    digest::{GitOid, Node},
    dsse::within,
    limits::MAX_DEPENDENCIES,
    reference::RepositoryUri,
    refusal::Refusal,
    statement::{DigestSet, WireDigests},
};

/// The build type of `catenary attest build`.
pub const GENERIC: &str = "urn:catenary:buildtype:generic:v1";

/// The three spellings of the GitHub workflow build type (chain-model 0.10).
pub const GITHUB_WORKFLOW: [&str; 3] = [
    "https://actions.github.io/buildtypes/workflow/v1",
    "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1",
    "https://github.com/actions/buildtypes/workflow/v1",
];

/// slsa-github-generator, which writes provenance v0.2.
pub const SLSA_GITHUB_GENERATOR: [&str; 3] = [
    "https://github.com/slsa-framework/slsa-github-generator/generic@v1",
    "https://github.com/slsa-framework/slsa-github-generator/container@v1",
    "https://github.com/slsa-framework/slsa-github-generator/go@v1",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct V1 {
    build_definition: Definition,
    run_details: RunDetails,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    build_type: String,
    #[serde(default)]
    external_parameters: Option<Map<String, Value>>,
    #[serde(default)]
    internal_parameters: Option<Map<String, Value>>,
    #[serde(default)]
    resolved_dependencies: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
struct Descriptor {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    uri: Option<String>,
    #[serde(default)]
    digest: Option<WireDigests>,
}

#[derive(Deserialize)]
struct RunDetails {
    builder: Builder,
    #[serde(default)]
    metadata: Option<RunMetadata>,
}

#[derive(Deserialize)]
struct Builder {
    id: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RunMetadata {
    // BuildKit's documentation and code differ in the case of the last letter. One member with two names
    // would be a duplicate if both were there, so they are two members.
    invocation_id: Option<String>,
    #[serde(rename = "invocationID")]
    invocation_id_buildkit: Option<String>,
    started_on: Option<Timestamp>,
    finished_on: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct V02 {
    builder: Builder,
    build_type: String,
    #[serde(default)]
    invocation: Option<Invocation>,
    #[serde(default)]
    metadata: Option<V02Metadata>,
    #[serde(default)]
    materials: Option<Vec<Descriptor>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    #[serde(default)]
    config_source: Option<ConfigSource>,
    #[serde(default)]
    parameters: Option<Value>,
    #[serde(default)]
    environment: Option<Map<String, Value>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ConfigSource {
    #[serde(default)]
    uri: Option<String>,
    #[serde(default)]
    digest: Option<WireDigests>,
    #[serde(default)]
    entry_point: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct V02Metadata {
    #[serde(rename = "buildInvocationID")]
    build_invocation_id: Option<String>,
    #[serde(rename = "buildInvocationId")]
    build_invocation_id_camel: Option<String>,
    build_started_on: Option<Timestamp>,
    build_finished_on: Option<Timestamp>,
}

/// Reads provenance v1. A v0.2 body has no `buildDefinition` and is refused (S15).
pub(super) fn read_v1(reader: &Reader<'_>) -> Result<Build, Refusal> {
    let wire: V1 = reader.parse()?;
    let definition = wire.build_definition;
    let adapter = match definition.build_type.as_str() {
        GENERIC => Some(Adapter::Generic),
        kind if GITHUB_WORKFLOW.contains(&kind) => Some(Adapter::GithubWorkflow),
        _ => None,
    };
    said(reader, "/buildDefinition/buildType", &definition.build_type, adapter)?;
    said(reader, "/runDetails/builder/id", &wire.run_details.builder.id, adapter)?;
    let external = Value::Object(definition.external_parameters.unwrap_or_default());
    let internal = Value::Object(definition.internal_parameters.unwrap_or_default());
    let params = flatten(&external)?;
    let mut dependencies = dependencies(
        definition.resolved_dependencies.unwrap_or_default(),
        adapter,
        "/predicate/buildDefinition/resolvedDependencies",
    )?;
    let (source, trigger, runner) = match adapter {
        Some(Adapter::GithubWorkflow) => {
            let workflow = Asked {
                uri: text(&external, "/workflow/repository"),
                reference: text(&external, "/workflow/ref"),
                repository_id: text(&internal, "/github/repository_id"),
                commit: None,
            };
            (
                workflow.resolve(&mut dependencies),
                text(&internal, "/github/event_name"),
                text(&internal, "/github/runner_environment")
                    .or_else(|| text(&external, "/runner_environment")),
            )
        }
        Some(Adapter::Generic) => {
            let source = Asked {
                uri: text(&external, "/source/uri"),
                reference: text(&external, "/source/ref"),
                repository_id: text(&internal, "/repositoryId"),
                commit: text(&external, "/source/commit"),
            };
            (source.resolve(&mut dependencies), text(&internal, "/trigger"), text(&internal, "/runner"))
        }
        _ => (None, None, None),
    };
    let metadata = wire.run_details.metadata.unwrap_or_default();
    Ok(Build {
        builder_id: wire.run_details.builder.id,
        build_type: definition.build_type,
        adapter,
        source,
        unknown_params: unknown(adapter, &params),
        params,
        trigger,
        runner,
        dependencies: dependencies.into_iter().map(|d| d.dependency).collect(),
        invocation: metadata.invocation_id.or(metadata.invocation_id_buildkit),
        started_on: metadata.started_on,
        finished_on: metadata.finished_on,
    })
}

/// Reads provenance v0.2.
pub(super) fn read_v02(reader: &Reader<'_>) -> Result<Build, Refusal> {
    let wire: V02 = reader.parse()?;
    let adapter =
        SLSA_GITHUB_GENERATOR.contains(&wire.build_type.as_str()).then_some(Adapter::SlsaGithubGenerator);
    said(reader, "/buildType", &wire.build_type, adapter)?;
    said(reader, "/builder/id", &wire.builder.id, adapter)?;
    let invocation = wire.invocation.unwrap_or_default();
    let config = invocation.config_source.unwrap_or_default();
    let environment = Value::Object(invocation.environment.unwrap_or_default());
    let mut params = flatten(&invocation.parameters.unwrap_or(Value::Null))?;
    if let Some(entry_point) = config.entry_point {
        // Beside the parameters, because it chooses what runs; `entryPoint` is no GitHub input at the top.
        params.entry("entryPoint".to_owned()).or_insert(entry_point);
    }
    let mut dependencies = dependencies(wire.materials.unwrap_or_default(), adapter, "/predicate/materials")?;
    let source = adapter.and_then(|_| {
        let asked = Asked {
            uri: config.uri,
            reference: None,
            repository_id: text(&environment, "/github_repository_id"),
            commit: config.digest.and_then(|d| d.get("sha1").or(d.get("gitCommit")).cloned()),
        };
        asked.resolve(&mut dependencies)
    });
    let metadata = wire.metadata.unwrap_or_default();
    Ok(Build {
        builder_id: wire.builder.id,
        build_type: wire.build_type,
        adapter,
        source,
        unknown_params: unknown(adapter, &params),
        params,
        trigger: adapter.and_then(|_| text(&environment, "/github_event_name")),
        runner: adapter.and_then(|_| text(&environment, "/runner_environment")),
        dependencies: dependencies.into_iter().map(|d| d.dependency).collect(),
        invocation: metadata.build_invocation_id.or(metadata.build_invocation_id_camel),
        started_on: metadata.build_started_on,
        finished_on: metadata.build_finished_on,
    })
}

/// Who built, and how, must be said. BuildKit and older tools leave it empty when nobody set it; such provenance is kept, but
/// as an empty build type has no adapter, and BuildKit's none yet, no build rule takes it.
fn said(reader: &Reader<'_>, pointer: &str, text: &str, adapter: Option<Adapter>) -> Result<(), Refusal> {
    if adapter.is_none() && text.is_empty() { Ok(()) } else { reader.text(pointer, text) }
}

/// A text, or a number as text, inside a JSON value.
fn text(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The source that a build was asked to start from, before it is found among what was resolved.
struct Asked {
    uri: Option<String>,
    reference: Option<String>,
    repository_id: Option<String>,
    commit: Option<String>,
}

impl Asked {
    /// Finds the dependency of the same repository and takes it out of the list.
    ///
    /// The commit is set only when everything that names it agrees: one commit over all entries of the repository, the same
    /// as the request when that has one, the same ref when both have one. Otherwise the source has no commit and proves
    /// nothing.
    fn resolve(self, dependencies: &mut Vec<Read>) -> Option<Source> {
        let uri = self.uri?;
        let (repository, asked_reference) = locate(&uri);
        let reference = self.reference.or(asked_reference);
        let is_source = |d: &Read| {
            let (found, found_reference) = locate(&d.dependency.uri);
            let same_reference = match (&reference, &found_reference) {
                (Some(asked), Some(found)) => asked == found,
                _ => true,
            };
            // A submodule of the same repository, named as such, is not the source.
            d.dependency.role == Role::Generic && found == repository && same_reference
        };
        let (sources, others): (Vec<Read>, Vec<Read>) =
            std::mem::take(dependencies).into_iter().partition(is_source);
        *dependencies = others;
        let mut commits: Vec<GitOid> = sources.iter().flat_map(|d| d.commits.iter().copied()).collect();
        commits.sort();
        commits.dedup();
        let mut commit = match commits.as_slice() {
            [commit] => Some(*commit),
            _ => None,
        };
        if let Some(asked) = self.commit {
            commit = commit.filter(|commit| commit.to_hex() == asked);
        }
        let reference = reference.or_else(|| sources.iter().find_map(|d| locate(&d.dependency.uri).1));
        Some(Source { repository, repository_id: self.repository_id, commit, reference })
    }
}

/// The canonical repository and the ref of a URI. A URI without canonical form is kept as it is: it equals no canonical
/// one, so no policy matches it (G34).
fn locate(uri: &str) -> (String, Option<String>) {
    match RepositoryUri::split(uri) {
        Ok((repository, reference)) => (repository.to_string(), reference.map(str::to_owned)),
        Err(_) => (uri.to_owned(), None),
    }
}

/// A dependency with the commits that it names.
struct Read {
    dependency: Dependency,
    commits: Vec<GitOid>,
}

fn dependencies(
    wire: Vec<Descriptor>,
    adapter: Option<Adapter>,
    pointer: &str,
) -> Result<Vec<Read>, Refusal> {
    within("resolved dependencies", wire.len(), MAX_DEPENDENCIES)?;
    let mut found = Vec::with_capacity(wire.len());
    for (position, descriptor) in wire.into_iter().enumerate() {
        let uri = descriptor.uri.unwrap_or_default();
        let git_shaped = RepositoryUri::is_git_shaped(&uri);
        let digests = descriptor.digest.unwrap_or_default();
        let digests = DigestSet::read(&digests, git_shaped, &format!("{pointer}/{position}/digest"))?;
        let nodes: Vec<Node> = digests.nodes().collect();
        let role = match adapter {
            Some(Adapter::Generic) => role(descriptor.name.as_deref()),
            _ => Role::Generic,
        };
        let resource = if git_shaped { None } else { resource::of(&uri, role) };
        let dependency = Dependency { role, uri, nodes, resource };
        found.push(Read { dependency, commits: digests.git });
    }
    Ok(found)
}

/// The role that the generic build type gives a descriptor by its name.
fn role(name: Option<&str>) -> Role {
    match name {
        Some("baseImage" | "base-image") => Role::BaseImage,
        Some("builderImage" | "builder-image") => Role::BuilderImage,
        Some("submodule") => Role::Submodule,
        Some("tool") => Role::Tool,
        _ => Role::Generic,
    }
}

/// The parameters that the adapter does not know.
fn unknown(adapter: Option<Adapter>, params: &BTreeMap<String, String>) -> Vec<String> {
    let (exact, prefixes): (&[&str], &[&str]) = match adapter {
        Some(Adapter::GithubWorkflow) => (
            &["workflow.ref", "workflow.repository", "workflow.path", "inputs", "vars", "runner_environment"],
            &["inputs.", "vars."],
        ),
        Some(Adapter::SlsaGithubGenerator) => {
            (&["entryPoint", "event_inputs", "inputs"], &["event_inputs.", "inputs."])
        }
        Some(Adapter::Generic) => {
            (&["source.uri", "source.ref", "source.commit", "target", "config", "params"], &["params."])
        }
        None => (&[], &[]),
    };
    let known = |path: &str| exact.contains(&path) || prefixes.iter().any(|p| path.starts_with(p));
    params.keys().filter(|path| !known(path)).cloned().collect()
}
