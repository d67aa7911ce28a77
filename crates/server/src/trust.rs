//! Adding trust, a key or a root: two entries, and between them all stored evidence is verified under it.

use catenary_chain::control::{Added, Control, Effective, EffectiveRoot, Entry, RootVersion, TrustedKey};
use catenary_evidence::digest::Sha256;
use catenary_store::Vouches;

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
        None => Ok(Some(Entry::TrustAdded(key.clone().into()))),
        Some(state) if is_same(&state.key, &key) => Ok(None),
        Some(_) => Err(Fault::Conflict("the key is registered with another name, scheme or window".into())),
    });
    added.await?;
    let snapshot = backend.follower.refreshed(tenant).await?;
    if snapshot.control.keys.get(&id).is_some_and(|state| state.effective_at.is_some()) {
        return Ok(false);
    }
    backend.store.reverify(tenant, &snapshot.trust, &Vouches::Key(id)).await?;
    let effective = backend.append_control(tenant, submitter, move |control| {
        let open = control.keys.get(&id).is_some_and(|state| state.effective_at.is_none());
        Ok(open.then_some(Entry::TrustEffective(id.into())))
    });
    effective.await?;
    Ok(true)
}

fn is_same(a: &TrustedKey, b: &TrustedKey) -> bool {
    (a.scheme, &a.service, a.valid_from, a.valid_until) == (b.scheme, &b.service, b.valid_from, b.valid_until)
}

/// Adds a version of a trust root; `false` when the newest version of the domain is the same and effective. Safe to
/// repeat, as with keys. `root.version` is not looked at: versions are counted here.
pub async fn add_root(
    app: &App,
    tenant: &str,
    submitter: Sha256,
    root: RootVersion,
) -> Result<(bool, u64), Fault> {
    let wanted = root.clone();
    let added = app.backend.append_control(tenant, submitter, move |control| {
        if control.domains.get(&wanted.domain).is_some_and(|state| state.withdrawn.is_some()) {
            return Err(Fault::Conflict("the domain was withdrawn; add the root under another name".into()));
        }
        let (version, new) = version_of(control, &wanted);
        Ok(new.then(|| Entry::TrustAdded(Added::Root(RootVersion { version, ..wanted.clone() }))))
    });
    added.await?;
    let snapshot = app.backend.follower.refreshed(tenant).await?;
    let (version, _) = version_of(&snapshot.control, &root);
    let effective = EffectiveRoot { domain: root.domain, version };
    if !waits(&snapshot.control, &effective) {
        return Ok((false, version));
    }
    let domain = Vouches::Domain(effective.domain.clone());
    app.backend.store.reverify(tenant, &snapshot.trust, &domain).await?;
    let appended = app.backend.append_control(tenant, submitter, move |control| {
        let entry = || Entry::TrustEffective(Effective::Root(effective.clone()));
        Ok(waits(control, &effective).then(entry))
    });
    appended.await?;
    Ok((true, version))
}

/// The version that the root has or gets, and whether it is new.
fn version_of(control: &Control, root: &RootVersion) -> (u64, bool) {
    match control.domains.get(&root.domain).and_then(|state| state.versions.last()) {
        Some(newest) if (newest.root.digest, newest.root.rules) == (root.digest, root.rules) => {
            (newest.root.version, false)
        }
        newest => (newest.map_or(0, |known| known.root.version) + 1, true),
    }
}

/// Whether the version is added and not effective yet.
fn waits(control: &Control, root: &EffectiveRoot) -> bool {
    let versions = control.domains.get(&root.domain).into_iter().flat_map(|state| &state.versions);
    versions.into_iter().any(|known| known.root.version == root.version && known.effective_at.is_none())
}
