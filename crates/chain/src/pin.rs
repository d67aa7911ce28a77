//! Repositories whose numeric ids were pinned on first use (chain-model 3.4): a name that somebody takes over has another id.

use catenary_evidence::Identity;
use serde::{Deserialize, Serialize};

use crate::{control::Control, policy::Policy};

/// The ids of a repository, as the first certificate that a policy took named them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pin {
    /// The source repository URI of the certificate (extension 12).
    pub repository: String,
    /// Its numeric id (15).
    pub repository_id: String,
    /// The numeric id of its owner (17).
    pub owner_id: String,
}

impl Pin {
    /// What a certificate says, when it says all three.
    pub fn of(identity: &Identity) -> Option<Self> {
        let claims = &identity.claims;
        Some(Self {
            repository: claims.source_repository_uri.clone()?,
            repository_id: claims.source_repository_id.clone()?,
            owner_id: claims.source_repository_owner_id.clone()?,
        })
    }

    /// Forges do not mind the case of a name.
    fn key(repository: &str) -> String {
        repository.to_ascii_lowercase()
    }
}

impl Control {
    /// Folds `trust.pinned`: the first stays.
    pub(crate) fn trust_pinned(&mut self, pin: &Pin) {
        self.pins.entry(Pin::key(&pin.repository)).or_insert_with(|| {
            self.epoch += 1;
            pin.clone()
        });
    }

    /// The pin of a repository.
    pub fn pin(&self, repository: &str) -> Option<&Pin> {
        self.pins.get(&Pin::key(repository))
    }

    /// Whether a certificate names the ids that its repository is pinned to, if it is.
    pub fn keeps_its_ids(&self, identity: &Identity) -> bool {
        let repository = identity.claims.source_repository_uri.as_deref();
        repository.and_then(|repository| self.pin(repository)).is_none_or(|pin| {
            let claims = &identity.claims;
            claims.source_repository_id.as_ref() == Some(&pin.repository_id)
                && claims.source_repository_owner_id.as_ref() == Some(&pin.owner_id)
        })
    }

    /// The pin that a certificate asks for under the active policies, or under one that is to become active.
    pub fn first_use(&self, identity: &Identity, policy: Option<&Policy>) -> Option<Pin> {
        let pin = Pin::of(identity).filter(|pin| self.pin(&pin.repository).is_none())?;
        self.is_pinned_on_first_use(identity, policy).then_some(pin)
    }

    /// Whether a policy names the identity by a rule that pins its repository.
    pub fn is_pinned_on_first_use(&self, identity: &Identity, policy: Option<&Policy>) -> bool {
        let active = self.policies.values().filter_map(|active| active.policy.as_deref().ok());
        let mut rules = active.chain(policy).flat_map(Policy::identities);
        rules.any(|rule| rule.pin.is_some() && rule.names(identity))
    }
}
