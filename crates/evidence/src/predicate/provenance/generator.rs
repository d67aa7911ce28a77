//! slsa-github-generator: the generators and builders that wrap a job, container-based builds, and delegators ("bring
//! your own builder").

use serde_json::Value;

use super::{
    Projection, Provenance, Wanted, github, parameters::Known, source::Shape, text, wire::Descriptor,
};
use crate::{predicate::Role, statement::WireDigests};

/// The build types of v0.2.
pub const V02: [&str; 7] = [
    "https://github.com/slsa-framework/slsa-github-generator/generic@v1",
    "https://github.com/slsa-framework/slsa-github-generator/container@v1",
    "https://github.com/slsa-framework/slsa-github-generator/go@v1",
    // The names before the generator had several builders.
    "https://github.com/slsa-framework/slsa-github-generator@v1",
    "https://github.com/slsa-framework/slsa-github-generator-go@v1",
    DELEGATOR,
    DELEGATOR_LOW,
];

/// The build types of v1.
pub const V1: [&str; 3] = [DELEGATOR, DELEGATOR_LOW, CONTAINER_BASED];

/// A delegator: the build is done by a tool's workflow, which `builder.id` names.
const DELEGATOR: &str = "https://github.com/slsa-framework/slsa-github-generator/delegator-generic@v0";

/// The same with fewer permissions.
const DELEGATOR_LOW: &str =
    "https://github.com/slsa-framework/slsa-github-generator/delegator-lowperms-generic@v0";

/// A command in a builder image.
const CONTAINER_BASED: &str = "https://slsa.dev/container-based-build/v0.1?draft";

/// The generator is itself among the dependencies of a container-based build.
pub(super) fn shape(descriptor: &Descriptor, build_type: &str) -> Shape {
    let uri = descriptor.uri.as_deref().unwrap_or_default();
    let itself = uri.starts_with("git+https://github.com/slsa-framework/slsa-github-generator@");
    let role = match build_type == CONTAINER_BASED && itself {
        true => Role::Tool,
        false if descriptor.name.as_deref() == Some(BUILDER_IMAGE) => Role::BuilderImage,
        false => Role::Generic,
    };
    Shape { role, is_git: false }
}

/// The name that the builder image gets among the dependencies.
const BUILDER_IMAGE: &str = "builderImage";

/// A container-based build names its builder image among the parameters only.
pub(super) fn builder_image(provenance: &Provenance) -> Option<Descriptor> {
    if provenance.build_type != CONTAINER_BASED {
        return None;
    }
    let uri = text(&provenance.external, "/builderImage/uri")?;
    let digests = provenance.external.pointer("/builderImage/digest").and_then(Value::as_object);
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    let digest: WireDigests = digests.into_iter().flatten().filter_map(text).collect();
    Some(Descriptor { name: Some(BUILDER_IMAGE.to_owned()), uri: Some(uri), digest: Some(digest) })
}

/// What the generators say.
pub(super) fn project(provenance: &mut Provenance) -> Projection {
    let (external, internal) = (&provenance.external, &provenance.internal);
    let is_v1 = provenance.pointers[0].starts_with("/buildDefinition");
    let (mut source, known) = match (is_v1, provenance.build_type == CONTAINER_BASED) {
        (true, true) => (
            Wanted {
                uri: text(external, "/source/uri"),
                commit: text(external, "/source/digest/sha1")
                    .or_else(|| text(external, "/source/digest/gitCommit")),
                ..Wanted::default()
            },
            Known {
                exact: &["source.uri", "builderImage.uri", "configPath"],
                prefixes: &["source.digest.", "builderImage.digest.", "buildConfig."],
            },
        ),
        // The run's own repository: external parameters are the inputs of the tool's workflow alone.
        (true, false) => (
            Wanted {
                uri: github::repository(internal),
                reference: github::context(internal, "ref"),
                ..Wanted::default()
            },
            Known { exact: &[], prefixes: &["inputs.", "vars."] },
        ),
        (false, _) => (
            std::mem::take(&mut provenance.config),
            Known { exact: &["entryPoint"], prefixes: &["event_inputs.", "inputs.", "vars."] },
        ),
    };
    let internal = &provenance.internal;
    source.repository_id = github::context(internal, "repository_id");
    Projection {
        source,
        trigger: github::context(internal, "event_name"),
        runner: text(internal, "/runner_environment")
            .or_else(|| github::context(internal, "runner_environment")),
        known,
    }
}
