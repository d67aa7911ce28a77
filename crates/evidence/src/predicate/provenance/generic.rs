//! The generic build type, see [`super`].

use super::{Projection, Provenance, Wanted, parameters::Known, source::Shape, text, wire::Descriptor};
use crate::predicate::Role;

/// The build type of `catenary attest build`.
pub const BUILD_TYPE: &str = "urn:catenary:buildtype:generic:v1";

/// The role that the generic build type gives a descriptor by its name.
pub(super) fn shape(descriptor: &Descriptor) -> Shape {
    let role = match descriptor.name.as_deref() {
        Some("baseImage" | "base-image") => Role::BaseImage,
        Some("builderImage" | "builder-image") => Role::BuilderImage,
        Some("submodule") => Role::Submodule,
        Some("tool") => Role::Tool,
        _ => Role::Generic,
    };
    Shape { role, is_git: false }
}

pub(super) fn project(provenance: &Provenance) -> Projection {
    let (external, internal) = (&provenance.external, &provenance.internal);
    Projection {
        source: Wanted {
            uri: text(external, "/source/uri"),
            reference: text(external, "/source/ref"),
            repository_id: text(internal, "/repositoryId"),
            commit: text(external, "/source/commit"),
        },
        trigger: text(internal, "/trigger"),
        runner: text(internal, "/runner"),
        known: Known {
            exact: &["source.uri", "source.ref", "source.commit", "target", "config"],
            prefixes: &["params."],
        },
    }
}
