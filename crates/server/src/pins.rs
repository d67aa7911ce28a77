//! Repositories are pinned to their numeric ids by the first certificate that a policy takes (`pin: firstUse`).
//!
//! The pin is in the log before the evidence is, so that no answer rests on the one without the other.

use catenary_chain::{
    control::{Control, Entry},
    pin::Pin,
    policy::{Policy, glob::Matcher},
};
use catenary_evidence::{Identity, attestation::Attestation};
use catenary_store::{Filter, events::NewEvent};
use serde_json::json;

use crate::{App, auth::Principal, problem::Fault};

/// The most attestations of a repository in which its first use is looked for.
const LOOKED_AT: u32 = 1000;

/// Pins what is used for the first time, and tells of what another repository of the same name signed.
pub(crate) async fn before(
    app: &App,
    who: &Principal,
    control: &Control,
    facts: &[&Attestation],
) -> Result<(), Fault> {
    let identities = || facts.iter().flat_map(|facts| identities_of(facts));
    for identity in identities() {
        if let Some(pin) = control.first_use(identity, None) {
            write(app, who, pin).await?;
        }
    }
    let strange = identities()
        .find(|identity| !control.keeps_its_ids(identity) && control.is_pinned_on_first_use(identity, None));
    match strange {
        Some(identity) => alert(app, who, control, identity).await,
        None => Ok(()),
    }
}

/// Pins what a policy that is to become active names, by the oldest evidence that is here.
pub(crate) async fn of_policy(app: &App, who: &Principal, policy: &Policy) -> Result<(), Fault> {
    let snapshot = app.backend.snapshot(&who.tenant).await?;
    let rules = policy.identities().filter(|rule| rule.pin.is_some());
    let mut repositories: Vec<&str> = rules
        .filter_map(|rule| match rule.ext.get("sourceRepositoryUri") {
            Some(Matcher::Exact(uri)) => Some(uri.as_str()),
            _ => None,
        })
        .collect();
    repositories.sort_unstable();
    repositories.dedup();
    for repository in repositories {
        let filter = Filter {
            source_repository: Some(format!("git+{repository}")),
            verified: Some(true),
            ..Filter::default()
        };
        let rows =
            app.backend.store.list_attestations(&who.tenant, &filter, snapshot.size, LOOKED_AT).await?;
        let oldest_first = rows.iter().rev();
        let mut first = oldest_first
            .flat_map(|row| identities_of(&row.facts))
            .filter_map(|identity| snapshot.control.first_use(identity, Some(policy)));
        if let Some(pin) = first.next() {
            write(app, who, pin).await?;
        }
    }
    Ok(())
}

fn identities_of(facts: &Attestation) -> impl Iterator<Item = &Identity> {
    facts.signatures.iter().filter_map(|signature| signature.signer.identity())
}

async fn write(app: &App, who: &Principal, pin: Pin) -> Result<(), Fault> {
    let wanted = pin.clone();
    let appended = app.backend.append_control(&who.tenant, who.submitter(), move |control| {
        let new = control.pin(&wanted.repository).is_none();
        Ok(new.then(|| Entry::TrustPinned(wanted.clone())))
    });
    if appended.await?.is_some() {
        let Pin { repository, repository_id, owner_id } = pin;
        tracing::info!(target: "audit", tenant = who.tenant, repository, repository_id, owner_id, "pinned a repository on first use");
    }
    Ok(())
}

/// A certificate that has the name and not the ids of a pinned repository: somebody took the name over, or moved it.
async fn alert(app: &App, who: &Principal, control: &Control, identity: &Identity) -> Result<(), Fault> {
    let claims = &identity.claims;
    let repository = claims.source_repository_uri.clone().unwrap_or_default();
    tracing::warn!(target: "audit", tenant = who.tenant, repository, "a certificate has other ids than its repository is pinned to");
    let size = app.backend.snapshot(&who.tenant).await?.size;
    let event = NewEvent {
        kind: "trust.mismatch".into(),
        subject: repository.clone(),
        log_size: size,
        data: json!({
            "pinned": control.pin(&repository),
            "found": { "repositoryId": claims.source_repository_id, "ownerId": claims.source_repository_owner_id },
            "signer": identity.to_string(),
        }),
    };
    Ok(app.backend.store.tell(&who.tenant, event).await?)
}
