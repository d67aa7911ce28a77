//! GitLab CI.
//!
//! The ref, the project's id and the trigger are read from the job's variables, where GitLab writes them; a masked one
//! says nothing, and a commit that disagrees with the resolved one takes the source's commit away. GitLab does not
//! say whose the runner is: its `builder.id` names the runner, so that a policy can name the runners it trusts.

use serde_json::Value;

use super::{Projection, Provenance, Wanted, parameters::Known, text};

/// The build type, as it was published over time.
pub const BUILD_TYPES: [&str; 4] = [
    "https://docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1",
    "https://docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1/",
    "https://docs.gitlab.com/ci/pipeline_security/slsa/level_3/provenance_v1",
    "https://docs.gitlab.com/ci/pipeline_security/slsa/level_3/provenance_v1/",
];

pub(super) fn project(provenance: &Provenance) -> Projection {
    let external = &provenance.external;
    let nothing = Value::Null;
    let variables = external.get("variables").unwrap_or(&nothing);
    Projection {
        source: Wanted { uri: text(external, "/source"), ..source(variables) },
        trigger: variable(variables, "CI_PIPELINE_SOURCE"),
        runner: None,
        known: Known { exact: &["source", "entryPoint"], prefixes: &["variables."] },
    }
}

/// What the predefined variables say of the source.
pub(super) fn source(variables: &Value) -> Wanted {
    let name = |prefix: &str, variable_name: &str| {
        variable(variables, variable_name).map(|name| format!("{prefix}{name}"))
    };
    // A merge request pipeline has neither branch nor tag.
    let refs = [
        name("refs/heads/", "CI_COMMIT_BRANCH"),
        name("refs/tags/", "CI_COMMIT_TAG"),
        name("", "CI_MERGE_REQUEST_REF_PATH").filter(|reference| reference.starts_with("refs/")),
    ];
    let mut refs = refs.into_iter().flatten();
    let reference = match (refs.next(), refs.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    };
    Wanted {
        uri: None,
        reference,
        repository_id: variable(variables, "CI_PROJECT_ID"),
        commit: variable(variables, "CI_COMMIT_SHA"),
    }
}

/// A variable that is there and not masked.
pub(super) fn variable(variables: &Value, name: &str) -> Option<String> {
    text(variables, &format!("/{name}")).filter(|value| value != "[MASKED]")
}
