//! What signatures are verified against: the registered keys, and the trust domains with their roots.

use std::sync::{Arc, OnceLock};

use crate::{
    key::{KeyRing, PublicKey},
    signer::{Signature, Signer},
    trust_root::Domain,
    witness::Witnesses,
};

/// Everything that can vouch for a signature. Cheap to clone.
///
/// Each version of a trust domain is verified by itself with its own rules; roots are never merged, and what a bundle lacks is
/// forgiven by the domain's rules, never by the bundle.
#[derive(Debug, Clone)]
pub struct Trust {
    keys: KeyRing,
    domains: Arc<Vec<Arc<Domain>>>,
}

impl Trust {
    /// Nothing at all.
    pub fn none() -> Self {
        Self { keys: KeyRing::new(), domains: Arc::default() }
    }

    /// The domains that are compiled in, and no keys.
    pub fn builtin() -> Self {
        static DOMAINS: OnceLock<Arc<Vec<Arc<Domain>>>> = OnceLock::new();
        let domains = DOMAINS.get_or_init(|| Arc::new(Domain::builtin().into_iter().map(Arc::new).collect()));
        Self { keys: KeyRing::new(), domains: domains.clone() }
    }

    /// The registered keys.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The trust domains.
    pub fn domains(&self) -> &[Arc<Domain>] {
        &self.domains
    }

    /// The witnesses of every domain: whose cosignature a checkpoint has is a fact, whatever domain asks for it.
    pub fn witnesses(&self) -> Vec<&Witnesses> {
        self.domains.iter().filter_map(|domain| domain.witnesses()).collect()
    }

    /// Whether what vouches for a signature is here: facts that were verified under more trust may name others.
    pub fn knows(&self, signature: &Signature) -> bool {
        match &signature.signer {
            Signer::Key(key) => self.keys.get(key).is_some(),
            Signer::Certificate(identity) => {
                let named = self.domains.iter().filter(|domain| domain.name() == identity.domain);
                named.map(|domain| domain.authorities()).any(|authorities| {
                    signature.vouchers.iter().all(|v| authorities.contains_key(&(v.kind, v.authority)))
                })
            }
        }
    }

    /// Adds a key; a key of the same id is replaced.
    pub fn insert_key(&mut self, key: PublicKey) {
        self.keys.insert(key);
    }

    /// Adds a version of a trust domain. It is tried before the older ones, which stay: what they vouched for is found
    /// again from the bytes, and counts as long as the newest version still names the authorities.
    pub fn insert_domain(&mut self, domain: Arc<Domain>) {
        let domains = Arc::make_mut(&mut self.domains);
        let at = domains.iter().position(|known| known.name() == domain.name()).unwrap_or(domains.len());
        domains.insert(at, domain);
    }
}

/// What every tenant begins with: [`Trust::builtin`].
impl Default for Trust {
    fn default() -> Self {
        Self::builtin()
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
