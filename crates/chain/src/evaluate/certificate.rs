//! What a build certificate says, against what the provenance that it signed says (chain-model 1.5).
//!
//! The CA asked the CI for the certificate's claims; the provenance may be written by the tenant's own code. So the
//! certificate outranks the predicate, and where both speak they must agree.

use catenary_evidence::{Identity, digest::Digest, predicate::Build, reference::RepositoryUri};

use crate::{
    policy::document::Source as SourceRules,
    reason::{Code, Reason},
};

/// The runner that the certificate names, else the one that the predicate names.
pub(super) fn runner<'a>(build: &'a Build, identities: &[&'a Identity]) -> Option<&'a str> {
    let certified = identities.iter().find_map(|identity| identity.claims.runner_environment.as_deref());
    certified.or(build.runner.as_deref())
}

/// What started the run: the certificate's claim, else the provenance's.
pub(super) fn trigger<'a>(build: &'a Build, identities: &[&'a Identity]) -> Option<&'a str> {
    let certified = identities.iter().find_map(|identity| identity.claims.build_trigger.as_deref());
    certified.or(build.trigger.as_deref())
}

/// What disagrees, and a repository id that only the certificate names and the policy does not.
pub(super) fn agrees(
    build: &Build,
    identities: &[&Identity],
    rules: Option<&SourceRules>,
    node: Digest,
) -> Vec<Reason> {
    #[cfg(feature = "faults")]
    if crate::faults::on(crate::faults::Fault::IgnoreCertificate) {
        return Vec::new();
    }
    let mut reasons = Vec::new();
    for identity in identities {
        let claims = &identity.claims;
        let source = build.source.as_ref();
        let commit = source.and_then(|source| source.commit).map(|commit| commit.to_hex());
        let pairs = [
            (
                "source repository",
                claims.source_repository_uri.as_deref().map(repository),
                source.map(|source| repository(&source.repository)),
            ),
            (
                "source repository id",
                claims.source_repository_id.clone(),
                source.and_then(|source| source.repository_id.clone()),
            ),
            ("source commit", claims.source_repository_digest.clone(), commit),
            (
                "source ref",
                claims.source_repository_ref.clone(),
                source.and_then(|source| source.reference.clone()),
            ),
            // Some producers number their runs instead of naming them.
            (
                "run",
                claims.run_invocation_uri.clone(),
                build.invocation.clone().filter(|run| run.starts_with("https://")),
            ),
            ("runner", claims.runner_environment.clone(), build.runner.clone()),
            ("trigger", claims.build_trigger.clone(), build.trigger.clone()),
        ];
        for (what, certified, stated) in pairs {
            if let (Some(certified), Some(stated)) = (certified, stated)
                && certified != stated
            {
                let message = format!("the certificate and the provenance name different {what}s");
                let reason =
                    Reason::error(Code::BldCertPredicateMismatch, node, "trust.builders.signer", message);
                reasons.push(reason.because(certified, stated));
            }
        }
        // A name that somebody took over has another id; provenance that leaves the id out does not hide that.
        let unsaid = source.is_some_and(|source| source.commit.is_some() && source.repository_id.is_none());
        if let (Some(wanted), Some(found)) =
            (rules.and_then(|rules| rules.repository.id.as_ref()), &claims.source_repository_id)
            && unsaid
            && wanted != found
        {
            let message = format!("the certificate is of repository id {found}");
            let reason = Reason::error(Code::SrcRepoIdMismatch, node, "source.repository.id", message);
            reasons.push(reason.because(wanted.clone(), found.clone()));
        }
    }
    reasons
}

/// One spelling of a repository: canonical, and in lower case where the forge does not mind case.
fn repository(uri: &str) -> String {
    let canonical =
        RepositoryUri::split(uri).map_or_else(|_| uri.to_owned(), |(uri, _)| uri.as_str().to_owned());
    match canonical.starts_with("git+https://github.com/") {
        true => canonical.to_ascii_lowercase(),
        false => canonical,
    }
}
