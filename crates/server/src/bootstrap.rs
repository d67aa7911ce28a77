//! The first start: tenants `platform` and `default`, the collector's key, one administrator each.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use catenary_chain::control::{Entry, TrustedKey};
use catenary_evidence::{PublicKey, digest::Sha256};
use catenary_store::{Store, StoreError, keys::Purpose};
use jiff::SignedDuration;

use crate::{
    App, Config, StartError,
    auth::{PLATFORM, Role},
    backend::Backend,
    problem::Fault,
    routes::make_token,
    trust,
};

/// The tenant of those who need only one.
const DEFAULT: &str = "default";
/// What the service itself writes has no submitter.
pub(crate) const SERVICE: Sha256 = Sha256([0; 32]);

/// The tokens of the first start, as far as their files are still there.
pub(crate) struct Tokens {
    pub(crate) admin: Option<String>,
    pub(crate) platform: Option<String>,
}

/// The logs that every installation has.
pub(crate) async fn make_logs(store: &Store, origin: &str) -> Result<(), StoreError> {
    for tenant in [PLATFORM, DEFAULT] {
        store.create_tenant(tenant, &format!("{origin}/{tenant}")).await?;
    }
    Ok(())
}

/// Makes what is missing; a start that was interrupted is mended by the next one.
pub(crate) async fn first_start(backend: &Backend, config: &Config) -> Result<Tokens, StartError> {
    let failed = |fault: Fault| StartError::Bootstrap(fault.to_string());
    for tenant in [PLATFORM, DEFAULT] {
        if let Some(reason) = backend.follower.broken(tenant) {
            // Serving without a yes is better than not serving: an operator can see why.
            tracing::error!(tenant, %reason, "the log is not believed");
            return Ok(Tokens { admin: read(&admin_file(config)), platform: read(&platform_file(config)) });
        }
    }
    record_tenant(backend, DEFAULT, false, SERVICE).await.map_err(failed)?;
    for tenant in backend.snapshot(PLATFORM).await.map_err(failed)?.control.tenants.keys() {
        // A broken tenant does not keep the others from being served.
        if let Err(fault) = trust_collector(backend, tenant).await {
            tracing::error!(tenant, %fault, "the collector's key is not registered");
        }
    }
    let admin = first_token(backend, DEFAULT, Role::Admin, &admin_file(config)).await?;
    let platform = first_token(backend, PLATFORM, Role::PlatformAdmin, &platform_file(config)).await?;
    Ok(Tokens { admin, platform })
}

fn admin_file(config: &Config) -> PathBuf {
    config.data.join("admin-token")
}

fn platform_file(config: &Config) -> PathBuf {
    config.data.join("platform-token")
}

/// Makes a tenant and gives its first administrator's token.
pub(crate) async fn make_tenant(
    app: &App,
    name: &str,
    public_log: bool,
    by: Sha256,
) -> Result<String, Fault> {
    let backend = app.backend.clone();
    if name == PLATFORM || backend.snapshot(PLATFORM).await?.control.tenants.contains_key(name) {
        return Err(Fault::Conflict(format!("there is a tenant `{name}`")));
    }
    let name = name.to_owned();
    // In its own task: a client that hangs up leaves no tenant half-made.
    let task = app.tasks.spawn(async move {
        backend.store.create_tenant(&name, &backend.origin_of(&name)).await?;
        backend.follower.follow(&name).await?;
        trust_collector(&backend, &name).await?;
        let token = make_admin(&backend, &name, Role::Admin, by).await?;
        // Last, so that a tenant that is listed is whole.
        record_tenant(&backend, &name, public_log, by).await?;
        Ok(token)
    });
    task.await.map_err(|_| Fault::Internal)?
}

async fn record_tenant(backend: &Backend, name: &str, public_log: bool, by: Sha256) -> Result<(), Fault> {
    // At a start it is there, and nobody waits to be told so.
    if backend.snapshot(PLATFORM).await?.control.tenants.contains_key(name) {
        return Ok(());
    }
    let name = name.to_owned();
    let append = backend.append_control(PLATFORM, by, move |control| {
        let entry = Entry::TenantCreated { name: name.clone(), public_log };
        Ok((!control.tenants.contains_key(&name)).then_some(entry))
    });
    append.await.map(|_| ())
}

/// Registers the current collector key, so that policies can say `service: collector`.
async fn trust_collector(backend: &Backend, tenant: &str) -> Result<(), Fault> {
    let part = backend.keys.current(Purpose::Collector);
    let known = backend
        .snapshot(tenant)
        .await?
        .control
        .keys
        .get(&part.key_id)
        .is_some_and(|k| k.effective_at.is_some());
    if known {
        return Ok(());
    }
    let key = PublicKey::from_pem(&part.pem(), None)?;
    let key = TrustedKey {
        id: key.id(),
        name: format!("collector, generation {}", part.generation),
        pem: key.to_pem(),
        scheme: key.scheme(),
        service: Some("collector".into()),
        valid_from: None,
        valid_until: None,
    };
    trust::register_with(backend, tenant, SERVICE, key).await.map(|_| ())
}

async fn make_admin(backend: &Backend, tenant: &str, role: Role, by: Sha256) -> Result<String, Fault> {
    let lives = SignedDuration::from_hours(24 * 365);
    let (token, text) =
        make_token(tenant, "first administrator".into(), role, lives, Vec::new(), Vec::new())?;
    backend.append_control(tenant, by, move |_| Ok(Some(Entry::TokenCreated(token.clone())))).await?;
    Ok(text)
}

/// The token of the first start: made when the tenant has none of its role, else read from its file.
async fn first_token(
    backend: &Backend,
    tenant: &str,
    role: Role,
    file: &Path,
) -> Result<Option<String>, StartError> {
    let failed = |why: String| StartError::Bootstrap(why);
    let snapshot = backend.snapshot(tenant).await.map_err(|f| failed(f.to_string()))?;
    if snapshot.control.tokens.values().any(|state| state.token.role == role.as_str()) {
        return Ok(read(file));
    }
    let text = make_admin(backend, tenant, role, SERVICE).await.map_err(|f| failed(f.to_string()))?;
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    let written = written.and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()));
    written.map_err(|e| failed(format!("{}: {e}", file.display())))?;
    Ok(Some(text))
}

fn read(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}
