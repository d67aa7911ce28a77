//! Builds on GitHub Actions: the workflow build type, and what other builders say of the run that they are part of.

use serde_json::Value;

use super::{Projection, Provenance, Wanted, parameters::Known, text};

/// The three spellings of the GitHub workflow build type (chain-model 0.10).
pub const WORKFLOW: [&str; 3] = [
    "https://actions.github.io/buildtypes/workflow/v1",
    "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1",
    "https://github.com/actions/buildtypes/workflow/v1",
];

/// The builder ids of the time before builders were named by their workflow say where the job ran.
const RUNNER: &str = "https://github.com/actions/runner/";

/// The GitHub workflow build type.
pub(super) fn workflow(provenance: &Provenance) -> Projection {
    let (external, internal) = (&provenance.external, &provenance.internal);
    Projection {
        source: Wanted {
            uri: text(external, "/workflow/repository"),
            reference: text(external, "/workflow/ref"),
            repository_id: text(internal, "/github/repository_id"),
            commit: None,
        },
        trigger: text(internal, "/github/event_name"),
        runner: text(internal, "/github/runner_environment")
            .or_else(|| text(external, "/runner_environment"))
            .or_else(|| runner(&provenance.builder_id)),
        known: Known {
            exact: &["workflow.ref", "workflow.repository", "workflow.path", "runner_environment"],
            prefixes: &["inputs.", "vars."],
        },
    }
}

/// Where the job ran, by an old builder id.
pub(super) fn runner(builder_id: &str) -> Option<String> {
    let runner = builder_id.strip_prefix(RUNNER)?;
    (!runner.is_empty()).then(|| runner.to_owned())
}

/// A member of the run's context, which some builders write in lower case and some as the variable is called. Two that
/// disagree say nothing.
pub(super) fn context(environment: &Value, name: &str) -> Option<String> {
    let upper = text(environment, &format!("/GITHUB_{}", name.to_ascii_uppercase()));
    match (text(environment, &format!("/github_{name}")), upper) {
        (Some(lower), Some(upper)) if lower != upper => None,
        (lower, upper) => lower.or(upper),
    }
}

/// The repository that the run belongs to, as a URI.
pub(super) fn repository(environment: &Value) -> Option<String> {
    let server = context(environment, "server_url").unwrap_or_else(|| "https://github.com".to_owned());
    Some(format!("git+{}/{}", server.trim_end_matches('/'), context(environment, "repository")?))
}
