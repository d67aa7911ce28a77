//! What a build certificate says, against what the provenance that it signed says (chain-model 1.5).
//!
//! The CA asked the CI for the certificate's claims; the provenance may be written by the tenant's own code. So the
//! certificate outranks the predicate, and where both speak they must agree.

use catenary_evidence::{Identity, digest::Digest, predicate::Build, reference::RepositoryUri};

use crate::{
    policy::document::Build as Rules,
    reason::{Code, Reason},
};

/// The runner that the certificate names, else the one that the predicate names.
pub(super) fn runner<'a>(build: &'a Build, identities: &[&'a Identity]) -> Option<&'a str> {
    let certified = identities.iter().find_map(|identity| identity.claims.runner_environment.as_deref());
    certified.or(build.runner.as_deref())
}

/// What disagrees, and a trigger that only the certificate names.
pub(super) fn agrees(build: &Build, identities: &[&Identity], rules: &Rules, node: Digest) -> Vec<Reason> {
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
        if let (Some(triggers), Some(trigger), None) =
            (&rules.triggers, &claims.build_trigger, &build.trigger)
            && !triggers.contains(trigger)
        {
            let message = format!("the build was started by `{trigger}`");
            let reason = Reason::error(Code::BldTriggerNotAllowed, node, "build.triggers", message);
            reasons.push(reason.because(triggers.clone(), trigger.clone()));
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
