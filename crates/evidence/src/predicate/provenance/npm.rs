//! The npm client's own provenance v0.2, on GitHub Actions and GitLab CI. Later clients write the GitHub workflow type.

use super::{Projection, Provenance, Wanted, github, gitlab, parameters::Known};

/// The build types: GitHub, GitHub before that, GitLab (in both spellings that occur).
pub const BUILD_TYPES: [&str; 4] = [
    "https://github.com/npm/cli/gha/v2",
    "https://github.com/npm/cli/gha@v1",
    "https://github.com/npm/cli/gitlab/v0alpha1",
    "https://github.com/npm/CLI/gitlab/v0alpha1",
];

pub(super) fn project(provenance: &mut Provenance) -> Projection {
    let config = std::mem::take(&mut provenance.config);
    if provenance.build_type.contains("/gitlab/") {
        let variables = &provenance.external;
        let said = gitlab::source(variables);
        // Both name the commit. When they disagree, the empty text stands for both: no commit equals it.
        let commit = match (config.commit, said.commit) {
            (Some(config), Some(said)) if config != said => Some(String::new()),
            (config, said) => config.or(said),
        };
        return Projection {
            source: Wanted { uri: config.uri, commit, ..said },
            trigger: gitlab::variable(variables, "CI_PIPELINE_SOURCE"),
            runner: None,
            known: Known { exact: &["CI", "entryPoint"], prefixes: &["CI_", "GITLAB_"] },
        };
    }
    let environment = &provenance.internal;
    Projection {
        source: Wanted { repository_id: github::context(environment, "repository_id"), ..config },
        trigger: github::context(environment, "event_name"),
        runner: github::runner(&provenance.builder_id),
        known: Known { exact: &["entryPoint"], prefixes: &[] },
    }
}
