//! The three versions of SLSA provenance on the wire, each brought into one [`Provenance`] before a build type gives
//! it its meaning.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Provenance, Wanted};
use crate::{predicate::Complete, predicate::Reader, refusal::Refusal, statement::WireDigests};

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

/// A resolved dependency, or a material.
#[derive(Deserialize)]
pub(super) struct Descriptor {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub uri: Option<String>,
    #[serde(default)]
    pub digest: Option<WireDigests>,
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
    // Extension fields, whose form nobody promised: what is not a boolean says nothing.
    #[serde(rename = "buildkit_hermetic")]
    hermetic: Option<Value>,
    #[serde(rename = "buildkit_reproducible")]
    reproducible: Option<Value>,
    #[serde(rename = "buildkit_completeness")]
    completeness: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct V02 {
    builder: Builder,
    // Required, and left out by tools that knew none: such provenance is kept, under no adapter.
    #[serde(default)]
    build_type: String,
    #[serde(default)]
    invocation: Option<Invocation>,
    #[serde(default)]
    metadata: Option<OldMetadata>,
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

/// `metadata` of v0.1 and v0.2.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct OldMetadata {
    #[serde(rename = "buildInvocationID")]
    build_invocation_id: Option<String>,
    #[serde(rename = "buildInvocationId")]
    build_invocation_id_camel: Option<String>,
    build_started_on: Option<Timestamp>,
    build_finished_on: Option<Timestamp>,
    completeness: Option<Value>,
    reproducible: Option<Value>,
    #[serde(rename = "https://mobyproject.org/buildkit@v1#hermetic")]
    hermetic: Option<Value>,
}

#[derive(Deserialize)]
struct V01 {
    builder: Builder,
    #[serde(default)]
    recipe: Option<Recipe>,
    #[serde(default)]
    metadata: Option<OldMetadata>,
    #[serde(default)]
    materials: Option<Vec<Descriptor>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Recipe {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    entry_point: Option<String>,
    #[serde(default)]
    arguments: Option<Value>,
    #[serde(default)]
    environment: Option<Value>,
}

/// Reads v1. A v0.2 body has no `buildDefinition` and is refused (S15).
pub(super) fn v1(reader: &Reader<'_>) -> Result<Provenance, Refusal> {
    let wire: V1 = reader.parse()?;
    let definition = wire.build_definition;
    let metadata = wire.run_details.metadata.unwrap_or_default();
    let complete = |member: &str| metadata.completeness.as_ref()?.get(member)?.as_bool();
    Ok(Provenance {
        pointers: ["/buildDefinition/buildType", "/runDetails/builder/id"],
        dependencies_at: "/predicate/buildDefinition/resolvedDependencies",
        build_type: definition.build_type,
        builder_id: wire.run_details.builder.id,
        external: Value::Object(definition.external_parameters.unwrap_or_default()),
        internal: Value::Object(definition.internal_parameters.unwrap_or_default()),
        config: Wanted::default(),
        entry_point: None,
        descriptors: definition.resolved_dependencies.unwrap_or_default(),
        complete: Complete { params: complete("request"), dependencies: complete("resolvedDependencies") },
        hermetic: said(metadata.hermetic.as_ref()),
        reproducible: said(metadata.reproducible.as_ref()),
        invocation: metadata.invocation_id.or(metadata.invocation_id_buildkit),
        started_on: metadata.started_on,
        finished_on: metadata.finished_on,
    })
}

/// Reads v0.2.
pub(super) fn v02(reader: &Reader<'_>) -> Result<Provenance, Refusal> {
    let wire: V02 = reader.parse()?;
    let invocation = wire.invocation.unwrap_or_default();
    let config = invocation.config_source.unwrap_or_default();
    let commit = config.digest.and_then(|d| d.get("sha1").or(d.get("gitCommit")).cloned());
    Ok(old(Old {
        pointers: ["/buildType", "/builder/id"],
        build_type: wire.build_type,
        builder_id: wire.builder.id,
        external: invocation.parameters.unwrap_or(Value::Null),
        internal: Value::Object(invocation.environment.unwrap_or_default()),
        config: Wanted { uri: config.uri, commit, ..Wanted::default() },
        entry_point: config.entry_point,
        params: "parameters",
        metadata: wire.metadata.unwrap_or_default(),
        materials: wire.materials.unwrap_or_default(),
    }))
}

/// Reads v0.1, whose recipe is what later became build type and parameters.
pub(super) fn v01(reader: &Reader<'_>) -> Result<Provenance, Refusal> {
    let wire: V01 = reader.parse()?;
    let recipe = wire.recipe.unwrap_or_default();
    Ok(old(Old {
        pointers: ["/recipe/type", "/builder/id"],
        build_type: recipe.kind.unwrap_or_default(),
        builder_id: wire.builder.id,
        external: recipe.arguments.unwrap_or(Value::Null),
        internal: recipe.environment.unwrap_or(Value::Null),
        config: Wanted::default(),
        entry_point: recipe.entry_point,
        params: "arguments",
        metadata: wire.metadata.unwrap_or_default(),
        materials: wire.materials.unwrap_or_default(),
    }))
}

/// What v0.1 and v0.2 have in common.
struct Old {
    pointers: [&'static str; 2],
    build_type: String,
    builder_id: String,
    external: Value,
    internal: Value,
    config: Wanted,
    entry_point: Option<String>,
    /// How `completeness` calls the parameters.
    params: &'static str,
    metadata: OldMetadata,
    materials: Vec<Descriptor>,
}

fn old(old: Old) -> Provenance {
    let metadata = old.metadata;
    let complete = |member: &str| metadata.completeness.as_ref()?.get(member)?.as_bool();
    Provenance {
        pointers: old.pointers,
        dependencies_at: "/predicate/materials",
        build_type: old.build_type,
        builder_id: old.builder_id,
        external: old.external,
        internal: old.internal,
        config: old.config,
        entry_point: old.entry_point,
        descriptors: old.materials,
        complete: Complete { params: complete(old.params), dependencies: complete("materials") },
        hermetic: said(metadata.hermetic.as_ref()),
        reproducible: said(metadata.reproducible.as_ref()),
        invocation: metadata.build_invocation_id.or(metadata.build_invocation_id_camel),
        started_on: metadata.build_started_on,
        finished_on: metadata.build_finished_on,
    }
}

fn said(value: Option<&Value>) -> Option<bool> {
    value?.as_bool()
}
