//! What a submitter's credential may speak about. A scope limits spam; it never gives trust.

use catenary_chain::policy::glob::Glob;
use catenary_evidence::{attestation::Attestation, predicate::Claim, reference::RepositoryUri};

/// The scope of a submitter. Empty lists restrict nothing.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    repositories: Vec<Glob>,
    predicate_types: Vec<String>,
}

/// Why evidence is out of scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// None of the repositories that the evidence names is covered.
    #[error("the evidence is about {}, which this credential does not cover", if named.is_empty() { "no repository".to_owned() } else { named.join(", ") })]
    Repository {
        /// What the evidence names.
        named: Vec<String>,
    },
    /// The predicate type is not covered.
    #[error("this credential does not cover the predicate type `{0}`")]
    PredicateType(String),
}

impl Scope {
    /// Reads the globs; one that cannot be read admits nothing.
    pub fn new(repositories: &[String], predicate_types: &[String]) -> Result<Self, String> {
        let repositories = repositories.iter().map(|glob| Glob::new(glob)).collect::<Result<_, _>>()?;
        Ok(Self { repositories, predicate_types: predicate_types.to_vec() })
    }

    /// Whether the credential may submit this.
    ///
    /// A statement that names a repository in its predicate (the source of a build or commit, the resource of a
    /// registry event) is judged by that alone; only where there is none, by the names of its subjects, of
    /// which every one must be covered.
    pub fn admits(&self, attestation: &Attestation) -> Result<(), ScopeError> {
        if !self.predicate_types.is_empty() && !self.predicate_types.contains(&attestation.predicate_type) {
            return Err(ScopeError::PredicateType(attestation.predicate_type.clone()));
        }
        if self.repositories.is_empty() {
            return Ok(());
        }
        let named = named(attestation);
        if !named.is_empty() && named.iter().all(|name| self.covers(name)) {
            return Ok(());
        }
        Err(ScopeError::Repository { named: named.into_iter().take(8).collect() })
    }

    /// Whether the credential may tell that something of this `registry/repository` runs.
    pub fn admits_resource(&self, resource: &str) -> Result<(), ScopeError> {
        match self.repositories.is_empty() || self.covers(resource) {
            true => Ok(()),
            false => Err(ScopeError::Repository { named: vec![resource.to_owned()] }),
        }
    }

    fn covers(&self, name: &str) -> bool {
        self.repositories.iter().any(|glob| glob.matches(name))
    }
}

/// The repositories that an attestation is about.
fn named(attestation: &Attestation) -> Vec<String> {
    let claimed = match &attestation.claim {
        Claim::Build(build) => build.source.as_ref().map(|source| source.repository.clone()),
        Claim::Commit(commit) => Some(commit.repository.clone()),
        Claim::Registry(event) => Some(event.resource.clone()),
        Claim::SourceProvenance(source) => source.repository.clone(),
        Claim::TagProvenance(tag) => tag.repository.clone(),
        // A source summary is about commits alone, whose subjects have no name that a scope could cover.
        Claim::Summary(summary) if attestation.subjects.iter().all(|s| s.digests.content.is_empty()) => {
            summary.resource_uri.parse::<RepositoryUri>().ok().map(|repository| repository.to_string())
        }
        _ => None,
    };
    if let Some(repository) = claimed {
        return vec![repository];
    }
    let mut names: Vec<String> =
        attestation.subjects.iter().map(|s| without_tag(&s.name).to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// `registry/repository` of an image name with tag or digest.
fn without_tag(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use catenary_evidence::{
        digest::{Digest, Sha256},
        predicate::{Build, Complete, RegistryAction, RegistryEvent, Source},
        statement::{DigestSet, Subject},
    };

    use super::*;

    fn about(claim: Claim, subject: &str) -> Attestation {
        let digests = DigestSet { content: vec![Digest::sha256(b"image")], ..DigestSet::default() };
        Attestation {
            id: Sha256::of(b"a"),
            payload: Sha256::of(b"p"),
            predicate_type: "https://slsa.dev/provenance/v1".into(),
            subjects: vec![Subject { name: subject.into(), digests, ..Subject::default() }],
            signatures: Vec::new(),
            doubt: None,
            mentions: Vec::new(),
            claim,
        }
    }

    fn build(repository: &str) -> Claim {
        Claim::Build(Build {
            builder_id: "https://ci.test".into(),
            build_type: "t".into(),
            adapter: None,
            source: Some(Source {
                repository: repository.into(),
                repository_id: None,
                commit: None,
                reference: None,
            }),
            params: Default::default(),
            unknown_params: Vec::new(),
            trigger: None,
            runner: None,
            dependencies: Vec::new(),
            invocation: None,
            started_on: None,
            finished_on: None,
            hermetic: None,
            reproducible: None,
            complete: Complete::default(),
        })
    }

    fn push(resource: &str) -> Claim {
        Claim::Registry(RegistryEvent {
            event: RegistryAction::Push,
            resource: resource.into(),
            tag: None,
            previous: None,
            occurred_at: jiff::Timestamp::UNIX_EPOCH,
            actor: None,
            promotion: None,
        })
    }

    #[test]
    fn h24_a_submitter_speaks_about_its_own_repositories_only() {
        let scope =
            Scope::new(&["git+https://git.test/acme/lib".into(), "r.test/acme/*".into()], &[]).unwrap();
        assert_eq!(scope.admits(&about(build("git+https://git.test/acme/lib"), "x")), Ok(()));
        assert!(scope.admits(&about(build("git+https://git.test/acme/app"), "x")).is_err());
        // The subject's name is the sender's choice: it does not help where the predicate names a repository.
        assert!(scope.admits(&about(build("git+https://git.test/acme/app"), "r.test/acme/app")).is_err());
        assert_eq!(scope.admits(&about(push("r.test/acme/app"), "x")), Ok(()));
        assert!(scope.admits(&about(push("r.test/globex/app"), "r.test/acme/app")).is_err());
        assert_eq!(scope.admits(&about(Claim::Other, "r.test/acme/app:v1")), Ok(()));
        assert!(scope.admits(&about(Claim::Other, "r.test/globex/app")).is_err());
        assert!(scope.admits(&about(Claim::Other, "")).is_err());
    }

    #[test]
    fn a_scope_names_predicate_types() {
        let scope = Scope::new(&[], &["https://slsa.dev/provenance/v1".into()]).unwrap();
        let mut attestation = about(Claim::Other, "");
        assert_eq!(scope.admits(&attestation), Ok(()));
        attestation.predicate_type = "https://slsa.dev/provenance/v1x".into();
        assert!(scope.admits(&attestation).is_err());
    }
}
