//! Adding trust, a key or a root: two entries, and between them all stored evidence is verified under it.

use std::time::Duration;

use catenary_chain::{
    control::{
        Added, Change, Control, Effective, EffectiveRoot, Entry, RootState, RootVersion, TrustApproved,
        TrustedKey,
    },
    vsa,
};
use catenary_evidence::digest::Sha256;
use catenary_store::{
    Vouches,
    keys::{PublicPart, Purpose},
};
use tokio_util::sync::CancellationToken;

use crate::{App, backend::Backend, bootstrap::SERVICE, problem::Fault};

/// How long an answer waits until stored evidence is verified; longer work goes on behind it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often work is taken up that a stopped instance left behind.
const ROUND: Duration = Duration::from_secs(20);

/// How far something added is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It was effective before.
    Known,
    /// It is effective now.
    Effective,
    /// Stored evidence is being verified, or approvals are missing.
    Working,
}

/// Registers a key. Safe to repeat.
pub async fn register(
    app: &App,
    tenant: &str,
    who: (Sha256, &str),
    key: TrustedKey,
    patience: Option<Duration>,
) -> Result<Progress, Fault> {
    let what = Effective::from(key.id);
    add_key(&app.backend, tenant, who.0, key).await?;
    approve(app, tenant, who, what, patience).await
}

/// The same before there is an [`App`]: answers when the key is effective.
pub async fn register_with(
    backend: &Backend,
    tenant: &str,
    submitter: Sha256,
    key: TrustedKey,
) -> Result<(), Fault> {
    let what = Effective::from(key.id);
    add_key(backend, tenant, submitter, key).await?;
    settle(backend, tenant, submitter, &what).await
}

async fn add_key(
    backend: &Backend,
    tenant: &str,
    submitter: Sha256,
    mut key: TrustedKey,
) -> Result<(), Fault> {
    // Whoever registers the key of our own verdicts gets their authenticity, not evidence (chain-model R5).
    let own = |part: &PublicPart| part.purpose == Purpose::Vsa && part.key_id == key.id;
    if backend.keys.public_parts().iter().any(own) {
        key.service = Some(vsa::SERVICE.to_owned());
    }
    let added = backend.append_control(tenant, submitter, move |control| match control.keys.get(&key.id) {
        None => Ok(Some(Entry::TrustAdded(key.clone().into()))),
        Some(state) if is_same(&state.key, &key) => Ok(None),
        Some(_) => Err(Fault::Conflict("the key is registered with another name, scheme or window".into())),
    });
    added.await.map(|_| ())
}

fn is_same(a: &TrustedKey, b: &TrustedKey) -> bool {
    (a.scheme, &a.service, a.valid_from, a.valid_until) == (b.scheme, &b.service, b.valid_from, b.valid_until)
}

/// Adds a version of a trust root, unless the newest version of its domain is the same. Safe to repeat.
/// `root.version` is not looked at: versions are counted here.
pub async fn add_root(
    app: &App,
    tenant: &str,
    who: (Sha256, &str),
    root: RootVersion,
    patience: Option<Duration>,
) -> Result<(Progress, u64), Fault> {
    let wanted = root.clone();
    let added = app.backend.append_control(tenant, who.0, move |control| {
        if control.domains.get(&wanted.domain).is_some_and(|state| state.withdrawn.is_some()) {
            return Err(Fault::Conflict("the domain was withdrawn; add the root under another name".into()));
        }
        let (version, new) = version_of(control, &wanted);
        let versions = control.domains.get(&wanted.domain).map(|state| &state.versions);
        let same = |known: &&RootState| is_same_root(&known.root, &wanted);
        let newest = control.domains.get(&wanted.domain).and_then(|state| state.versions.last());
        let renewed = newest.is_some_and(|newest| same(&newest));
        if let Some(old) = versions.into_iter().flatten().find(same).filter(|_| new && !renewed) {
            let old = old.root.version;
            return Err(Fault::Conflict(format!(
                "this was version {old} of the domain, and a newer one took its place: add it under another name"
            )));
        }
        Ok(new.then(|| Entry::TrustAdded(Added::Root(RootVersion { version, ..wanted.clone() }))))
    });
    added.await?;
    let snapshot = app.backend.follower.refreshed(tenant).await?;
    let (version, _) = version_of(&snapshot.control, &root);
    let what = Effective::Root(EffectiveRoot { domain: root.domain, version });
    Ok((approve(app, tenant, who, what, patience).await?, version))
}

fn is_same_root(a: &RootVersion, b: &RootVersion) -> bool {
    (a.digest, a.rules, &a.witnesses) == (b.digest, b.rules, &b.witnesses)
}

/// How long the same document is the same version.
const RENEWED_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// The version that the root has or gets, and whether it is new.
fn version_of(control: &Control, root: &RootVersion) -> (u64, bool) {
    match control.domains.get(&root.domain).and_then(|state| state.versions.last()) {
        Some(newest) if is_same_root(&newest.root, root) => {
            // Who adds the same again after a day has looked again: that is a version of its own.
            let since = newest.root.added_on.zip(root.added_on).map(|(then, now)| now.duration_since(then));
            match since.is_some_and(|since| since > RENEWED_AFTER) {
                true => (newest.root.version + 1, true),
                false => (newest.root.version, false),
            }
        }
        newest => (newest.map_or(0, |known| known.root.version) + 1, true),
    }
}

/// Settles in a task of its own, which a client that hangs up does not stop, and waits for it as long as one may.
async fn settle_behind(
    app: &App,
    tenant: &str,
    submitter: Sha256,
    what: Effective,
    patience: Option<Duration>,
) -> Result<Progress, Fault> {
    let snapshot = app.backend.follower.refreshed(tenant).await?;
    if !pending(&snapshot.control).contains(&what) {
        let waits = added(&snapshot.control).contains(&what);
        return Ok(if waits { Progress::Working } else { Progress::Known });
    }
    let (backend, tenant) = (app.backend.clone(), tenant.to_owned());
    let task = app.tasks.spawn(async move {
        let result = settle(&backend, &tenant, submitter, &what).await;
        if let Err(fault) = &result {
            tracing::warn!(tenant, ?what, %fault, "stored evidence is not verified yet; another round will be made");
        }
        result
    });
    match tokio::time::timeout(patience.unwrap_or(PATIENCE), task).await {
        Err(_) => Ok(Progress::Working),
        Ok(ended) => ended.map_err(|_| Fault::Internal)?.map(|()| Progress::Effective),
    }
}

/// Verifies stored evidence under what was added and makes it effective. Two instances may do it at once: one of them
/// logs the entry.
async fn settle(backend: &Backend, tenant: &str, submitter: Sha256, what: &Effective) -> Result<(), Fault> {
    let snapshot = backend.follower.refreshed(tenant).await?;
    if !pending(&snapshot.control).contains(what) {
        return Ok(());
    }
    let vouches = match what {
        Effective::Key(key) => Vouches::Key(key.key),
        Effective::Root(root) => Vouches::Domain(root.domain.clone()),
    };
    backend.store.reverify(tenant, &snapshot.trust, &vouches).await?;
    let what = what.clone();
    let appended = backend.append_control(tenant, submitter, move |control| {
        let open = pending(control).contains(&what);
        Ok(open.then(|| Entry::TrustEffective(what.clone())))
    });
    appended.await.map(|_| ())
}

/// The change that approvals of it name.
pub fn change(what: &Effective) -> Change {
    match what {
        Effective::Key(key) => Change::Key(key.key),
        Effective::Root(root) => Change::Root(root.clone()),
    }
}

/// Says that `by` stands behind what was added, and makes it effective when enough people do.
pub async fn approve(
    app: &App,
    tenant: &str,
    who: (Sha256, &str),
    what: Effective,
    patience: Option<Duration>,
) -> Result<Progress, Fault> {
    let (submitter, by) = (who.0, who.1.to_owned());
    let asked = change(&what);
    let wanted = what.clone();
    let approved = app.backend.append_control(tenant, submitter, move |control| {
        let open = added(control).contains(&wanted) && control.consent.approvals > 0;
        let known = control.consent.given.get(&asked).is_some_and(|given| given.contains(&by));
        let entry = || Entry::TrustApproved(TrustApproved { change: asked.clone(), by: by.clone() });
        Ok((open && !known).then(entry))
    });
    approved.await?;
    settle_behind(app, tenant, submitter, what, patience).await
}

/// What is added, not effective yet, and has enough approvals.
pub fn pending(control: &Control) -> Vec<Effective> {
    added(control).into_iter().filter(|what| control.is_agreed(&change(what))).collect()
}

/// What is added and not effective yet.
pub fn added(control: &Control) -> Vec<Effective> {
    let keys = control.keys.values().filter(|state| state.effective_at.is_none());
    let domains = control.domains.values().filter(|state| state.withdrawn.is_none());
    let roots = domains.flat_map(|state| &state.versions).filter(|known| known.effective_at.is_none());
    let root = |root: &RootVersion| {
        Effective::Root(EffectiveRoot { domain: root.domain.clone(), version: root.version })
    };
    keys.map(|state| Effective::from(state.key.id)).chain(roots.map(|known| root(&known.root))).collect()
}

/// Takes up what a stopped instance, of this or another process, left pending.
pub async fn resume(app: App, stop: CancellationToken) {
    let mut seen: Vec<(String, Effective)> = Vec::new();
    let mut starting = true;
    loop {
        let mut found = Vec::new();
        for tenant in app.backend.follower.tenants() {
            let Ok(snapshot) = app.backend.follower.snapshot(&tenant) else { continue };
            found.extend(pending(&snapshot.control).into_iter().map(|what| (tenant.clone(), what)));
        }
        // What is new since the last round has somebody who works on it, most likely.
        for (tenant, what) in found.iter().filter(|item| starting || seen.contains(item)) {
            tokio::select! {
                () = stop.cancelled() => return,
                result = settle(&app.backend, tenant, SERVICE, what) => match result {
                    Ok(()) => tracing::info!(tenant, ?what, "took up what was pending"),
                    Err(fault) => tracing::warn!(tenant, ?what, %fault, "cannot take up what is pending"),
                },
            }
        }
        (seen, starting) = (found, false);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}
