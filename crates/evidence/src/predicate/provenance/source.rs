//! Finding the source among what was resolved.

use crate::{
    digest::{GitOid, Node},
    dsse::within,
    limits::MAX_DEPENDENCIES,
    predicate::{Dependency, Role, Source},
    reference::RepositoryUri,
    refusal::Refusal,
    statement::DigestSet,
};

use super::{resource, wire::Descriptor};

/// The source that a build was asked to start from.
#[derive(Default)]
pub(super) struct Wanted {
    pub uri: Option<String>,
    pub reference: Option<String>,
    pub repository_id: Option<String>,
    /// Hex.
    pub commit: Option<String>,
}

/// A git location, as a URI writes it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// The canonical repository. A URI without canonical form is kept as it is: it equals no canonical one, so no
    /// policy matches it (G34).
    pub repository: String,
    pub reference: Option<String>,
    /// The commit, where the URI names that in the place of a ref.
    pub commit: Option<GitOid>,
    /// Whether the repository is canonical.
    pub is_canonical: bool,
}

impl Location {
    pub fn of(uri: &str) -> Self {
        let (repository, reference, is_canonical) = match RepositoryUri::split(uri) {
            Ok((repository, reference)) => (repository.to_string(), reference, true),
            Err(_) => (uri.to_owned(), None, false),
        };
        // BuildKit writes `#ref:directory`. No ref holds a colon.
        let reference = reference.map(|text| match uri.contains('#') {
            true => text.split(':').next().unwrap_or_default(),
            false => text,
        });
        let (reference, commit) = named(reference.filter(|text| !text.is_empty()));
        Self { repository, reference, commit, is_canonical }
    }
}

/// What stands in the place of a ref: a ref, or a commit.
fn named(text: Option<&str>) -> (Option<String>, Option<GitOid>) {
    match text.map(|text| (text, GitOid::from_hex(text))) {
        Some((_, Ok(commit))) => (None, Some(commit)),
        Some((text, Err(_))) => (Some(text.to_owned()), None),
        None => (None, None),
    }
}

/// A dependency with the place that it names and the commits.
pub(super) struct Read {
    pub dependency: Dependency,
    pub location: Location,
    pub commits: Vec<GitOid>,
}

/// What a build type says of a descriptor.
pub(super) struct Shape {
    pub role: Role,
    /// Whether `sha1` is the id of a commit, although the URI does not show it.
    pub is_git: bool,
}

/// Reads the dependencies; `shape` gives each its role.
pub(super) fn dependencies(
    wire: Vec<Descriptor>,
    pointer: &str,
    shape: impl Fn(&Descriptor) -> Shape,
) -> Result<Vec<Read>, Refusal> {
    within("resolved dependencies", wire.len(), MAX_DEPENDENCIES)?;
    let mut found = Vec::with_capacity(wire.len());
    for (position, descriptor) in wire.into_iter().enumerate() {
        let Shape { role, is_git } = shape(&descriptor);
        let uri = descriptor.uri.unwrap_or_default();
        let git_shaped = is_git || RepositoryUri::is_git_shaped(&uri);
        let digests = descriptor.digest.unwrap_or_default();
        let digests = DigestSet::read(&digests, git_shaped, &format!("{pointer}/{position}/digest"))?;
        let nodes: Vec<Node> = digests.nodes().collect();
        let location = Location::of(&uri);
        let resource = if git_shaped { None } else { resource::of(&uri, role) };
        let dependency = Dependency { role, uri, nodes, resource };
        found.push(Read { dependency, location, commits: digests.git });
    }
    Ok(found)
}

impl Wanted {
    /// Finds the dependency of the same repository and takes it out of the list.
    ///
    /// The commit is set only when everything that names it agrees: one commit over all entries of the repository, the same
    /// as the request when that has one, the same ref when both have one. Otherwise the source has no commit and proves
    /// nothing.
    pub fn resolve(self, dependencies: &mut Vec<Read>) -> Option<Source> {
        let asked = Location::of(&self.uri?);
        let (reference, pinned) = match self.reference {
            Some(text) => named(Some(&text)),
            None => (asked.reference, asked.commit),
        };
        let is_source = |d: &Read| {
            let same_reference = match (&reference, &d.location.reference) {
                (Some(asked), Some(found)) => asked == found,
                _ => true,
            };
            // A submodule of the same repository, named as such, is not the source.
            d.dependency.role == Role::Generic && d.location.repository == asked.repository && same_reference
        };
        let (sources, others): (Vec<Read>, Vec<Read>) =
            std::mem::take(dependencies).into_iter().partition(is_source);
        *dependencies = others;
        let digests: Vec<GitOid> = sources.iter().flat_map(|d| d.commits.iter().copied()).collect();
        let named = sources.iter().filter_map(|d| d.location.commit).chain(pinned);
        let mut commits: Vec<GitOid> = digests.iter().copied().chain(named).collect();
        commits.sort();
        commits.dedup();
        // A URI alone is a request: at least one digest must say what was there.
        let mut commit = match commits.as_slice() {
            [commit] if !digests.is_empty() => Some(*commit),
            _ => None,
        };
        if let Some(asked) = self.commit {
            commit = commit.filter(|commit| commit.to_hex() == asked);
        }
        let reference = reference.or_else(|| sources.iter().find_map(|d| d.location.reference.clone()));
        Some(Source { repository: asked.repository, repository_id: self.repository_id, commit, reference })
    }
}

/// The one repository that the dependencies name commits of; none when there are several, so that a second one can
/// hide nothing.
pub(super) fn only_repository(dependencies: &[Read], which: impl Fn(&Read) -> bool) -> Option<String> {
    let is_git = |d: &&Read| {
        d.dependency.role == Role::Generic && d.location.is_canonical && !d.commits.is_empty() && which(d)
    };
    let mut found = dependencies.iter().filter(is_git).map(|d| &d.location.repository);
    let first = found.next()?;
    found.all(|other| other == first).then(|| first.clone())
}
