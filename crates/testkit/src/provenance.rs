//! SLSA provenance: one set of facts, written as generic v1, GitHub workflow v1 or slsa-github-generator v0.2.

use serde_json::{Map, Value, json};

use crate::{
    statement::{Statement, Subject},
    time::rfc3339,
};

/// Predicate type of provenance v1.
pub const V1: &str = "https://slsa.dev/provenance/v1";
/// Predicate type of provenance v0.2.
pub const V0_2: &str = "https://slsa.dev/provenance/v0.2";
/// Catenary's generic build type.
pub const GENERIC: &str = "urn:catenary:buildtype:generic:v1";
/// The GitHub workflow build type that real attestations carry.
pub const GITHUB_WORKFLOW: &str = "https://actions.github.io/buildtypes/workflow/v1";
/// slsa-github-generator, generic.
pub const SLSA_GITHUB_GENERATOR: &str = "https://github.com/slsa-framework/slsa-github-generator/generic@v1";

/// Which text a build is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Provenance v1, generic build type.
    #[default]
    Generic,
    /// Provenance v1, GitHub workflow.
    GithubWorkflow,
    /// Provenance v0.2, slsa-github-generator.
    SlsaGithubGenerator,
}

/// A base image that a build names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// `registry/repository`.
    pub uri: String,
    /// `sha256:<hex>`; `None` leaves it unpinned.
    pub digest: Option<String>,
}

/// A build statement that is being made.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// Which text it is written as.
    pub form: Form,
    /// The statement's subjects.
    pub subjects: Vec<Subject>,
    /// `builder.id`.
    pub builder_id: String,
    /// `buildType`; the form's own when `None`.
    pub build_type: Option<String>,
    /// The repository's URI, `git+https://…`.
    pub source_uri: String,
    /// The source ref.
    pub source_ref: String,
    /// The commit, hex; `None` leaves the source unpinned.
    pub source_commit: Option<String>,
    /// The forge's numeric repository id (GitHub forms).
    pub repository_id: String,
    /// The forge's numeric owner id (GitHub forms).
    pub owner_id: String,
    /// The base image.
    pub base: Option<Base>,
    /// More `resolvedDependencies` (or `materials`), as written.
    pub extra_dependencies: Vec<Value>,
    /// `externalParameters.target` (generic).
    pub target: Option<String>,
    /// `externalParameters.params` (generic).
    pub params: Map<String, Value>,
    /// External parameters that the build type does not define.
    pub extra_params: Map<String, Value>,
    /// The event.
    pub trigger: Option<String>,
    /// `github-hosted`, …
    pub runner: Option<String>,
    /// `invocationId`.
    pub invocation: String,
    /// Unix seconds.
    pub started_on: Option<i64>,
    /// Unix seconds.
    pub finished_on: Option<i64>,
}

impl Provenance {
    /// A generic build of `commit` with nothing but what is needed.
    pub fn generic(builder_id: &str, source_uri: &str, source_ref: &str, commit: &str) -> Self {
        Self {
            form: Form::Generic,
            subjects: Vec::new(),
            builder_id: builder_id.into(),
            build_type: None,
            source_uri: source_uri.into(),
            source_ref: source_ref.into(),
            source_commit: Some(commit.into()),
            repository_id: "4242".into(),
            owner_id: "99".into(),
            base: None,
            extra_dependencies: Vec::new(),
            target: None,
            params: Map::new(),
            extra_params: Map::new(),
            trigger: Some("push".into()),
            runner: None,
            invocation: format!("{builder_id}/runs/1"),
            started_on: None,
            finished_on: None,
        }
    }

    /// The source dependency's URI.
    pub fn source_dependency_uri(&self) -> String {
        format!("{}@{}", self.source_uri, self.source_ref)
    }

    /// The predicate, in the build's form.
    pub fn predicate(&self) -> Value {
        match self.form {
            Form::Generic => self.generic_v1(),
            Form::GithubWorkflow => self.github_v1(),
            Form::SlsaGithubGenerator => self.generator_v0_2(),
        }
    }

    /// The statement: v1 for provenance v1, v0.1 for v0.2.
    pub fn statement(&self) -> Statement {
        let kind = if self.form == Form::SlsaGithubGenerator { V0_2 } else { V1 };
        let statement = Statement::new(kind, self.predicate()).with_subjects(self.subjects.clone());
        if self.form == Form::SlsaGithubGenerator { statement.v0_1() } else { statement }
    }

    fn build_type_or(&self, usual: &str) -> String {
        self.build_type.clone().unwrap_or_else(|| usual.into())
    }

    fn run_details(&self) -> Value {
        let mut metadata = json!({"invocationId": self.invocation});
        if let Some(started) = self.started_on {
            metadata["startedOn"] = rfc3339(started).into();
        }
        if let Some(finished) = self.finished_on {
            metadata["finishedOn"] = rfc3339(finished).into();
        }
        json!({"builder": {"id": self.builder_id}, "metadata": metadata})
    }

    fn dependencies(&self, git_algorithm: &str, named: bool) -> Vec<Value> {
        let mut source = json!({"uri": self.source_dependency_uri()});
        if named {
            source["name"] = "source".into();
        }
        if let Some(commit) = &self.source_commit {
            source["digest"] = json!({git_algorithm: commit});
        }
        let mut all = vec![source];
        if let Some(base) = &self.base {
            let mut entry = json!({"uri": base.uri});
            if named {
                entry["name"] = "baseImage".into();
            }
            if let Some(digest) = &base.digest {
                let (algorithm, value) = digest.split_once(':').expect("algorithm:hex");
                entry["digest"] = json!({algorithm: value});
            }
            all.push(entry);
        }
        all.extend(self.extra_dependencies.iter().cloned());
        all
    }

    fn with_extra_params(&self, mut external: Value) -> Value {
        for (name, value) in &self.extra_params {
            external[name] = value.clone();
        }
        external
    }

    fn generic_v1(&self) -> Value {
        let mut external =
            json!({"source": {"uri": self.source_uri, "ref": self.source_ref}, "params": self.params});
        if let Some(target) = &self.target {
            external["target"] = target.as_str().into();
        }
        let mut internal = Map::new();
        for (name, value) in [("trigger", &self.trigger), ("runner", &self.runner)] {
            if let Some(value) = value {
                internal.insert(name.into(), value.as_str().into());
            }
        }
        json!({
            "buildDefinition": {
                "buildType": self.build_type_or(GENERIC),
                "externalParameters": self.with_extra_params(external),
                "internalParameters": internal,
                "resolvedDependencies": self.dependencies("gitCommit", true),
            },
            "runDetails": self.run_details(),
        })
    }

    fn github_v1(&self) -> Value {
        let repository = self.source_uri.trim_start_matches("git+");
        let external = json!({
            "workflow": {"ref": self.source_ref, "repository": repository, "path": ".github/workflows/release.yml"},
        });
        let mut github = json!({"repository_id": self.repository_id, "repository_owner_id": self.owner_id});
        if let Some(trigger) = &self.trigger {
            github["event_name"] = trigger.as_str().into();
        }
        if let Some(runner) = &self.runner {
            github["runner_environment"] = runner.as_str().into();
        }
        json!({
            "buildDefinition": {
                "buildType": self.build_type_or(GITHUB_WORKFLOW),
                "externalParameters": self.with_extra_params(external),
                "internalParameters": {"github": github},
                "resolvedDependencies": self.dependencies("gitCommit", false),
            },
            "runDetails": self.run_details(),
        })
    }

    fn generator_v0_2(&self) -> Value {
        let source = self.source_dependency_uri();
        let mut config = json!({"uri": source, "entryPoint": ".github/workflows/release.yml"});
        if let Some(commit) = &self.source_commit {
            config["digest"] = json!({"sha1": commit});
        }
        let mut environment = json!({
            "github_ref": self.source_ref,
            "github_repository_id": self.repository_id,
            "github_repository_owner_id": self.owner_id,
            "github_run_attempt": "1",
            "github_run_id": "1",
        });
        if let Some(commit) = &self.source_commit {
            environment["github_sha1"] = commit.as_str().into();
        }
        if let Some(trigger) = &self.trigger {
            environment["github_event_name"] = trigger.as_str().into();
        }
        let mut metadata = json!({
            "buildInvocationID": self.invocation,
            "completeness": {"parameters": true, "environment": false, "materials": false},
            "reproducible": false,
        });
        if let Some(started) = self.started_on {
            metadata["buildStartedOn"] = rfc3339(started).into();
        }
        if let Some(finished) = self.finished_on {
            metadata["buildFinishedOn"] = rfc3339(finished).into();
        }
        json!({
            "builder": {"id": self.builder_id},
            "buildType": self.build_type_or(SLSA_GITHUB_GENERATOR),
            "invocation": {
                "configSource": config,
                "parameters": self.with_extra_params(json!({})),
                "environment": environment,
            },
            "metadata": metadata,
            "materials": self.dependencies("sha1", false),
        })
    }
}
