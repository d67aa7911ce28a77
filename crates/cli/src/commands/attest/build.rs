//! `catenary attest build`: SLSA provenance v1 of the generic build type.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use catenary_evidence::reference::ImageReference;
use clap::Args;
use serde_json::{Map, Value, json};

use super::{Signing, digest_set, git, repository_uri, statement};
use crate::output::Output;

/// A build: what was made from which commit and which inputs, by whom.
#[derive(Args)]
pub struct Build {
    /// What was built: `registry/repository@sha256:…`. More than once for an index and its manifests.
    #[arg(long = "image", required = true)]
    images: Vec<String>,
    /// The image that it starts from: `registry/repository@sha256:…`.
    #[arg(long = "base")]
    bases: Vec<String>,
    /// Take source, commit, ref, trigger, run and times from the CI's environment (GitHub Actions or GitLab).
    #[arg(long)]
    from_env: bool,
    /// The repository on this machine that was built from.
    #[arg(long, default_value = ".")]
    repo: PathBuf,
    /// The repository's URI. Default: its `origin`.
    #[arg(long)]
    source: Option<String>,
    /// The commit. Default: HEAD of --repo.
    #[arg(long)]
    commit: Option<String>,
    /// The ref. Default: the current branch of --repo.
    #[arg(long = "ref")]
    reference: Option<String>,
    /// The builder's id, which the policy pairs with the signing key.
    #[arg(long, default_value = "https://localhost/catenary-cli")]
    builder: String,
    /// The event that started the build.
    #[arg(long)]
    trigger: Option<String>,
    /// A build parameter, NAME=VALUE.
    #[arg(long = "param")]
    params: Vec<String>,
    /// When the build began (RFC 3339). Default: now.
    #[arg(long)]
    started: Option<String>,
    /// When it ended. Default: now.
    #[arg(long)]
    finished: Option<String>,
    /// The id of the run.
    #[arg(long)]
    invocation: Option<String>,
    #[command(flatten)]
    signing: Signing,
}

impl Build {
    /// Writes the provenance.
    pub fn run(mut self, output: &Output) -> Result<()> {
        let mut runner = None;
        if self.from_env {
            let env = Environment::read()?;
            self.source.get_or_insert(env.source);
            self.commit.get_or_insert(env.commit);
            self.reference.get_or_insert(env.reference);
            self.trigger = self.trigger.or(env.trigger);
            self.invocation = self.invocation.or(env.invocation);
            runner = env.runner;
        }
        let source = repository_uri(self.source.as_deref(), &self.repo)?;
        let commit = match &self.commit {
            Some(commit) => commit.clone(),
            None => git(&self.repo, &["rev-parse", "HEAD"])?,
        };
        let reference = match &self.reference {
            Some(reference) => reference.clone(),
            None => git(&self.repo, &["symbolic-ref", "HEAD"])
                .context("HEAD is detached; name the ref with --ref")?,
        };
        let now = jiff::Timestamp::now().to_string();
        let provenance = Provenance {
            images: references(&self.images)?,
            bases: references(&self.bases)?,
            source,
            reference,
            commit,
            builder: self.builder.clone(),
            trigger: self.trigger.clone(),
            runner,
            params: self.parameters()?,
            started: self.started.clone().unwrap_or_else(|| now.clone()),
            finished: self.finished.clone().unwrap_or(now),
            invocation: self.invocation.clone(),
        };
        self.signing.finish(&provenance.statement(), output)
    }

    fn parameters(&self) -> Result<Map<String, Value>> {
        let mut map = Map::new();
        for param in &self.params {
            let (name, value) =
                param.split_once('=').with_context(|| format!("--param {param}: write NAME=VALUE"))?;
            map.insert(name.to_owned(), json!(value));
        }
        Ok(map)
    }
}

fn references(images: &[String]) -> Result<Vec<ImageReference>> {
    images.iter().map(|image| Ok(image.parse()?)).collect()
}

/// What SLSA provenance of the generic build type says.
#[derive(Clone)]
pub struct Provenance {
    /// What was built.
    pub images: Vec<ImageReference>,
    /// What it starts from.
    pub bases: Vec<ImageReference>,
    /// Canonical repository URI.
    pub source: String,
    /// The ref.
    pub reference: String,
    /// The commit.
    pub commit: String,
    /// `builder.id`.
    pub builder: String,
    /// The event that started the build.
    pub trigger: Option<String>,
    /// What it ran on.
    pub runner: Option<String>,
    /// Build parameters.
    pub params: Map<String, Value>,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339.
    pub finished: String,
    /// The id of the run.
    pub invocation: Option<String>,
}

impl Provenance {
    /// The in-toto statement.
    pub fn statement(&self) -> Value {
        let subjects = self
            .images
            .iter()
            .map(|image| json!({"name": image.resource, "digest": digest_set(&image.digest)}))
            .collect();
        let source_uri = format!("{}@{}", self.source, self.reference);
        let mut dependencies =
            vec![json!({"name": "source", "uri": source_uri, "digest": {"gitCommit": self.commit}})];
        for base in &self.bases {
            dependencies
                .push(json!({"name": "baseImage", "uri": base.resource, "digest": digest_set(&base.digest)}));
        }
        let mut external = json!({"source": {"uri": self.source, "ref": self.reference}});
        if !self.params.is_empty() {
            external["params"] = Value::Object(self.params.clone());
        }
        let mut internal = Map::new();
        for (name, value) in [("trigger", &self.trigger), ("runner", &self.runner)] {
            if let Some(value) = value {
                internal.insert(name.into(), json!(value));
            }
        }
        let mut metadata = json!({"startedOn": self.started, "finishedOn": self.finished});
        if let Some(invocation) = &self.invocation {
            metadata["invocationId"] = json!(invocation);
        }
        let predicate = json!({
            "buildDefinition": {
                "buildType": "urn:catenary:buildtype:generic:v1",
                "externalParameters": external,
                "internalParameters": internal,
                "resolvedDependencies": dependencies,
            },
            "runDetails": {"builder": {"id": self.builder}, "metadata": metadata},
        });
        statement(subjects, "https://slsa.dev/provenance/v1", predicate)
    }
}

/// What the CI says about itself: claims, worth as much as the key that signs them.
struct Environment {
    source: String,
    commit: String,
    reference: String,
    trigger: Option<String>,
    invocation: Option<String>,
    runner: Option<String>,
}

impl Environment {
    fn read() -> Result<Self> {
        let get = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let need = |name: &str| get(name).with_context(|| format!("--from-env: {name} is not set"));
        if get("GITHUB_ACTIONS").is_some() {
            let (server, repository) = (need("GITHUB_SERVER_URL")?, need("GITHUB_REPOSITORY")?);
            let run = get("GITHUB_RUN_ID").map(|id| {
                format!(
                    "{server}/{repository}/actions/runs/{id}/attempts/{}",
                    get("GITHUB_RUN_ATTEMPT").unwrap_or_else(|| "1".into())
                )
            });
            return Ok(Self {
                source: format!("git+{server}/{repository}"),
                commit: need("GITHUB_SHA")?,
                reference: need("GITHUB_REF")?,
                trigger: get("GITHUB_EVENT_NAME"),
                invocation: run,
                runner: get("RUNNER_ENVIRONMENT"),
            });
        }
        if get("GITLAB_CI").is_some() {
            let reference = match get("CI_COMMIT_TAG") {
                Some(tag) => format!("refs/tags/{tag}"),
                None => format!("refs/heads/{}", need("CI_COMMIT_BRANCH")?),
            };
            return Ok(Self {
                source: format!("git+{}", need("CI_PROJECT_URL")?),
                commit: need("CI_COMMIT_SHA")?,
                reference,
                trigger: get("CI_PIPELINE_SOURCE"),
                invocation: get("CI_JOB_URL"),
                runner: None,
            });
        }
        bail!("--from-env knows GitHub Actions and GitLab; elsewhere give --source, --commit and --ref")
    }
}
