//! What signatures are verified against: the registered keys, and the trust domains with their roots.

use std::sync::Arc;

use crate::{
    key::{KeyRing, PublicKey},
    trust_root::Domain,
};

/// Everything that can vouch for a signature. Cheap to clone.
///
/// Each trust domain is verified by itself with its own rules; roots are never merged, and what a bundle lacks is
/// forgiven by the domain's rules, never by the bundle.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: KeyRing,
    domains: Arc<Vec<Arc<Domain>>>,
}

impl Trust {
    /// Nothing at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// The registered keys.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The trust domains.
    pub fn domains(&self) -> &[Arc<Domain>] {
        &self.domains
    }

    /// Adds a key; a key of the same id is replaced.
    pub fn insert_key(&mut self, key: PublicKey) {
        self.keys.insert(key);
    }

    /// Adds a trust domain; the domain of the same name is replaced.
    pub fn insert_domain(&mut self, domain: Arc<Domain>) {
        let domains = Arc::make_mut(&mut self.domains);
        match domains.iter_mut().find(|known| known.name() == domain.name()) {
            Some(known) => *known = domain,
            None => domains.push(domain),
        }
    }

    /// Takes a trust domain away.
    pub fn remove_domain(&mut self, name: &str) {
        Arc::make_mut(&mut self.domains).retain(|domain| domain.name() != name);
    }
}

impl From<KeyRing> for Trust {
    fn from(keys: KeyRing) -> Self {
        Self { keys, domains: Arc::default() }
    }
}

impl FromIterator<PublicKey> for Trust {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        KeyRing::from_iter(keys).into()
    }
}
