//! Registering a key: two entries, and between them all stored evidence is verified under it.

use catenary_chain::control::{Entry, TrustedKey};
use catenary_evidence::digest::Sha256;

use crate::{App, backend::Backend, problem::Fault};

/// Registers a key; `false` when it was registered and effective before. Safe to repeat: a crash between the two
/// entries is mended by asking again.
pub async fn register(app: &App, tenant: &str, submitter: Sha256, key: TrustedKey) -> Result<bool, Fault> {
    register_with(&app.backend, tenant, submitter, key).await
}

/// The same before there is an [`App`].
pub async fn register_with(
    backend: &Backend,
    tenant: &str,
    submitter: Sha256,
    key: TrustedKey,
) -> Result<bool, Fault> {
    let id = key.id;
    let added = backend.append_control(tenant, submitter, move |control| match control.keys.get(&id) {
        None => Ok(Some(Entry::TrustAdded(key.clone()))),
        Some(state) if is_same(&state.key, &key) => Ok(None),
        Some(_) => Err(Fault::Conflict("the key is registered with another name, scheme or window".into())),
    });
    added.await?;
    let snapshot = backend.follower.refreshed(tenant).await?;
    if snapshot.control.keys.get(&id).is_some_and(|state| state.effective_at.is_some()) {
        return Ok(false);
    }
    backend.store.reverify(tenant, &snapshot.trust, id).await?;
    let effective = backend.append_control(tenant, submitter, move |control| {
        let open = control.keys.get(&id).is_some_and(|state| state.effective_at.is_none());
        Ok(open.then_some(Entry::TrustEffective { key: id }))
    });
    effective.await?;
    Ok(true)
}

fn is_same(a: &TrustedKey, b: &TrustedKey) -> bool {
    (a.scheme, &a.service, a.valid_from, a.valid_until) == (b.scheme, &b.service, b.valid_from, b.valid_until)
}
