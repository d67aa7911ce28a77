//! Configuration: a TOML file and the environment, which wins. Unknown names are refused in both.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use catenary_store::ReplicaAddress;
use figment::{
    Figment,
    providers::{Env, Format as _, Toml},
};
use jsonwebtoken::Algorithm;
use serde::Deserialize;

use crate::webhook;

/// Everything that an operator decides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port; port 0 takes a free one.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// Private database, keys, checkpoints, first tokens.
    #[serde(default = "default_data")]
    pub data: PathBuf,
    /// Postgres; without it, the ladder.
    #[serde(default)]
    pub database_url: Option<Secret>,
    /// Replicas of it that may serve verdicts, with commas between them.
    #[serde(default)]
    pub replica_url: Option<Secret>,
    /// Folder of the service keys; `data/keys` without it.
    #[serde(default)]
    pub keys: Option<PathBuf>,
    /// Folder of the outside checkpoints, or `off`; `data/checkpoints` without it.
    #[serde(default)]
    pub checkpoints: Option<String>,
    /// Name of the logs: origin = name + `/` + tenant.
    #[serde(default = "default_origin")]
    pub origin: String,
    /// Registries that the collector may talk to.
    #[serde(default)]
    pub registry: Vec<Registry>,
    /// Issuers of CI tokens.
    #[serde(default)]
    pub oidc: Vec<Issuer>,
    /// Bytes of verdicts kept ready.
    #[serde(default = "default_cache_bytes")]
    pub cache_bytes: u64,
    /// Questions whose answers are watched, of those asked last, per tenant; what runs is always watched.
    #[serde(default = "default_watch_questions")]
    pub watch_questions: u32,
    /// Hosts and networks that webhooks may lead to, besides public addresses; for those, without encryption, too. With commas.
    #[serde(default)]
    pub webhook_allow: String,
    /// How often one event is tried before it is a dead letter.
    #[serde(default = "default_webhook_attempts")]
    pub webhook_attempts: u32,
    /// How long events beside the log are kept, `90d` for example, or `off`: for ever.
    #[serde(default = "default_event_retention")]
    pub event_retention: String,
    /// How long a pass over everything stored may take, `24h` for example, or `off`.
    #[serde(default = "default_scrub")]
    pub scrub: String,
    /// Connections at a time.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// How often one credential may ask.
    #[serde(default)]
    pub rates: Rates,
    /// Serves over TLS; without it, in the clear.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// Requests a second of one credential, with two seconds' worth at once; 0 for as many as it likes. Verdicts have no rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// Evidence that is sent.
    pub ingest: u32,
    /// What is looked at.
    pub browse: u32,
}

/// The files of TLS, in PEM. They may be replaced while the service runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and what leads from it to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of client certificates; without them, none is asked for.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// What is asked of clients then.
    #[serde(default)]
    pub client: ClientCertificates,
}

/// Whether a client must have a certificate. It opens the connection; who asks, the token says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// No connection without one.
    #[default]
    Required,
    /// One that is sent must be good.
    Optional,
}

/// A registry whose pushes are collected.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// The host as image names have it.
    pub name: String,
    /// Where it is reached.
    pub url: String,
    /// Whose evidence it gives.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// The static bearer of its notifications.
    pub notification_token: Secret,
    /// For basic authentication.
    #[serde(default)]
    pub username: Option<String>,
    /// For basic authentication.
    #[serde(default)]
    pub password: Option<Secret>,
}

/// An issuer of CI tokens. Nothing of it is discovered from a token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// `iss`, byte for byte.
    pub issuer: String,
    /// The one `aud` that a token for this deployment has.
    pub audience: String,
    /// Pinned address of its keys.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// Or a file with them.
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// The tenant that its tokens write to.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Signature algorithms; never taken from a token.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// The most seconds between `iat` and `exp`.
    #[serde(default = "default_lifetime")]
    pub max_lifetime: u64,
    /// Who may submit what. The first rule that fits decides; none fits: 403.
    #[serde(default)]
    pub rule: Vec<ClaimRule>,
}

/// Claims that a token must have, and what its bearer may then submit.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRule {
    /// Claim name to exact text or glob. All must fit. `sub` is refused.
    pub claims: BTreeMap<String, String>,
    /// Repositories that may be spoken about; empty = all.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// Predicate types that may be posted; empty = all.
    #[serde(default)]
    pub predicate_types: Vec<String>,
}

/// A text that no log and no error shows.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why the configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A name that nobody knows, or a value of the wrong form.
    #[error("configuration: {0}")]
    Form(Box<figment::Error>),
    /// A variable `CATENARY_…` that nobody reads: most likely a typing error, and a setting that is not in force.
    #[error("environment: {name} is not known{}", suggestion.as_ref().map(|s| format!("; did you mean {s}?")).unwrap_or_default())]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The known one that looks most like it.
        suggestion: Option<String>,
    },
    /// A value that cannot work.
    #[error("configuration: {name}: {why}")]
    Value {
        /// The setting.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Settings that the environment may give.
const SETTINGS: [&str; 18] = [
    "listen",
    "data",
    "database_url",
    "replica_url",
    "keys",
    "checkpoints",
    "origin",
    "webhook_allow",
    "webhook_attempts",
    "event_retention",
    "connections",
    "rates_ingest",
    "rates_browse",
    "tls_certificate",
    "tls_key",
    "tls_client_ca",
    "tls_client",
    "scrub",
];

/// Variables that other parts of the program read: the file itself, the ladder, the command line.
const OTHERS: &[&str] = match cfg!(feature = "failpoints") {
    true => &["config", "ladder", "server", "token", "ca", "client_certificate", "failpoints"],
    false => &["config", "ladder", "server", "token", "ca", "client_certificate"],
};

const PREFIX: &str = "CATENARY_";

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: default_listen(),
            data: default_data(),
            database_url: None,
            replica_url: None,
            keys: None,
            checkpoints: None,
            origin: default_origin(),
            registry: Vec::new(),
            oidc: Vec::new(),
            cache_bytes: default_cache_bytes(),
            watch_questions: default_watch_questions(),
            webhook_allow: String::new(),
            webhook_attempts: default_webhook_attempts(),
            event_retention: default_event_retention(),
            scrub: default_scrub(),
            connections: default_connections(),
            rates: Rates::default(),
            tls: None,
        }
    }
}

impl Config {
    /// Reads the file (that of `CATENARY_CONFIG` when none is given) and the environment.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        refuse_unknown_variables(std::env::vars_os().map(|(name, _)| name))?;
        let named = std::env::var_os("CATENARY_CONFIG").filter(|f| !f.is_empty()).map(PathBuf::from);
        let text = match file.map(Path::to_owned).or(named) {
            Some(path) => {
                std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path, source })?
            }
            None => String::new(),
        };
        let environment = Env::prefixed(PREFIX).only(&SETTINGS).map(|name| {
            let name = name.as_str().to_lowercase();
            // Members of the tables [tls] and [rates].
            let table = ["tls_", "rates_"].into_iter().find(|table| name.starts_with(table));
            table.map_or(name.clone(), |table| name.replacen(table, &table.replace('_', "."), 1)).into()
        });
        Self::read(Figment::new().merge(Toml::string(&text)).merge(environment))
    }

    /// Reads one TOML text.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::read(Figment::new().merge(Toml::string(text)))
    }

    fn read(figment: Figment) -> Result<Self, ConfigError> {
        let config: Self = figment.extract().map_err(|e| ConfigError::Form(Box::new(e)))?;
        config.check()?;
        Ok(config)
    }

    /// How events are sent to receivers.
    pub(crate) fn webhooks(&self) -> Result<webhook::Settings, ConfigError> {
        let allowed = webhook::guard::Allowed::read(&self.webhook_allow);
        let wrong = |why| ConfigError::Value { name: "webhook_allow".to_owned(), why };
        let attempts = self.webhook_attempts.clamp(1, 1000);
        Ok(webhook::Settings { allowed: std::sync::Arc::new(allowed.map_err(wrong)?), attempts })
    }

    /// How long events beside the log are kept; `None` is for ever.
    pub(crate) fn event_retention(&self) -> Result<Option<Duration>, ConfigError> {
        if self.event_retention == "off" {
            return Ok(None);
        }
        let kept = crate::routes::duration(&self.event_retention).map(|kept| kept.unsigned_abs());
        let kept = kept.filter(|kept| !kept.is_zero());
        let why = "is for example 90d, or off".to_owned();
        kept.map(Some).ok_or(ConfigError::Value { name: "event_retention".to_owned(), why })
    }

    /// How long a pass over everything stored may take; `None` when there is none.
    pub(crate) fn scrub(&self) -> Result<Option<Duration>, ConfigError> {
        if self.scrub == "off" {
            return Ok(None);
        }
        let period = crate::routes::duration(&self.scrub).map(|period| period.unsigned_abs());
        let why = "is for example 24h, or off".to_owned();
        period.map(Some).ok_or(ConfigError::Value { name: "scrub".to_owned(), why })
    }

    /// Replicas that may serve verdicts.
    pub(crate) fn replicas(&self) -> Result<Vec<ReplicaAddress>, ConfigError> {
        let text = self.replica_url.as_ref().map_or("", Secret::expose);
        let wrong = |why: &str| ConfigError::Value { name: "replica_url".to_owned(), why: why.to_owned() };
        ReplicaAddress::read_all(text).map_err(wrong)
    }

    /// The folder of the service keys.
    pub fn keys(&self) -> PathBuf {
        self.keys.clone().unwrap_or_else(|| self.data.join("keys"))
    }

    /// The folder of the outside checkpoints; `None` when rollback detection is off.
    pub fn checkpoints(&self) -> Option<PathBuf> {
        match self.checkpoints.as_deref() {
            Some("off") => None,
            Some(folder) => Some(PathBuf::from(folder)),
            None => Some(self.data.join("checkpoints")),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |name: &str, why: &str| ConfigError::Value { name: name.to_owned(), why: why.to_owned() };
        if self.origin.is_empty() || self.origin.contains([' ', '+', '\n']) {
            return Err(wrong("origin", "a name without spaces and `+`"));
        }
        for registry in &self.registry {
            if !registry.url.starts_with("http://") && !registry.url.starts_with("https://") {
                return Err(wrong("registry.url", "starts with http:// or https://"));
            }
            if registry.notification_token.expose().len() < 8 {
                return Err(wrong("registry.notification_token", "has at least 8 characters"));
            }
        }
        for issuer in &self.oidc {
            issuer.check()?;
        }
        if self.connections == 0 {
            return Err(wrong("connections", "at least 1"));
        }
        if self
            .tls
            .as_ref()
            .is_some_and(|t| t.client_ca.is_none() && t.client != ClientCertificates::default())
        {
            return Err(wrong("tls.client", "client certificates need tls.client_ca"));
        }
        self.scrub()?;
        self.event_retention()?;
        self.replicas()?;
        self.webhooks().map(|_| ())
    }
}

impl Issuer {
    fn check(&self) -> Result<(), ConfigError> {
        let wrong =
            |name: &str, why: &str| ConfigError::Value { name: format!("oidc.{name}"), why: why.to_owned() };
        if self.issuer.is_empty() || self.audience.is_empty() {
            return Err(wrong("issuer", "issuer and audience are not empty"));
        }
        if self.jwks_url.is_some() == self.jwks_file.is_some() {
            return Err(wrong("jwks_url", "give exactly one of jwks_url and jwks_file"));
        }
        let loopback = |url: &str| {
            ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"].iter().any(|p| url.starts_with(p))
        };
        if self.jwks_url.as_deref().is_some_and(|url| !url.starts_with("https://") && !loopback(url)) {
            return Err(wrong("jwks_url", "starts with https://"));
        }
        // A shared secret would let whoever verifies also sign.
        let symmetric = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        if self.algorithms.is_empty() || self.algorithms.iter().any(|a| symmetric.contains(a)) {
            return Err(wrong("algorithms", "lists signature algorithms with public keys"));
        }
        for rule in &self.rule {
            if rule.claims.is_empty() {
                return Err(wrong("rule.claims", "a rule without claims would admit everybody"));
            }
            // Its shape changed more than once, and a name in it may be taken over by somebody else.
            if rule.claims.contains_key("sub") {
                return Err(wrong(
                    "rule.claims",
                    "never decide on `sub`; use numeric ids such as repository_id or project_id",
                ));
            }
        }
        Ok(())
    }
}

/// `$XDG_DATA_HOME/catenary`, as root `/var/lib/catenary`.
pub fn default_data() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    match std::env::var_os("XDG_DATA_HOME").filter(|d| !d.is_empty()).map(PathBuf::from) {
        Some(data) => data.join("catenary"),
        None if nix::unistd::Uid::effective().is_root() => PathBuf::from("/var/lib/catenary"),
        None => home().unwrap_or_else(|| PathBuf::from(".")).join("catenary"),
    }
}

fn default_listen() -> String {
    "127.0.0.1:8440".to_owned()
}

fn default_origin() -> String {
    "catenary.local".to_owned()
}

fn default_tenant() -> String {
    "default".to_owned()
}

fn default_algorithms() -> Vec<Algorithm> {
    vec![Algorithm::RS256]
}

fn default_lifetime() -> u64 {
    900
}

fn default_cache_bytes() -> u64 {
    192 * 1024 * 1024
}

fn default_webhook_attempts() -> u32 {
    16
}

fn default_watch_questions() -> u32 {
    10_000
}

fn default_event_retention() -> String {
    "off".to_owned()
}

fn default_scrub() -> String {
    "24h".to_owned()
}

fn default_connections() -> usize {
    1024
}

fn refuse_unknown_variables(names: impl Iterator<Item = OsString>) -> Result<(), ConfigError> {
    let known = || SETTINGS.iter().chain(OTHERS).map(|name| format!("{PREFIX}{}", name.to_uppercase()));
    for name in names {
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) || known().any(|k| k == name) {
            continue;
        }
        let suggestion =
            known().map(|k| (distance(&k, &name), k)).min().filter(|(d, _)| *d <= 4).map(|(_, k)| k);
        return Err(ConfigError::UnknownVariable { name, suggestion });
    }
    Ok(())
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_refused() {
        assert!(Config::from_toml("origin = 'log.example'").is_ok());
        let error = Config::from_toml("orgin = 'log.example'").unwrap_err().to_string();
        assert!(error.contains("orgin"), "{error}");
        assert!(
            Config::from_toml("[[oidc]]\nissuer='a'\naudience='b'\njwks_file='c'\naudiences='d'").is_err()
        );
    }

    #[test]
    fn an_unknown_variable_is_refused_with_the_one_that_was_meant() {
        let check = |name: &str| refuse_unknown_variables([OsString::from(name)].into_iter());
        assert!(check("CATENARY_ORIGIN").is_ok());
        assert!(check("PATH").is_ok());
        // A build that is shipped has no failpoints, and says so.
        assert_eq!(check("CATENARY_FAILPOINTS").is_ok(), cfg!(feature = "failpoints"));
        let error = check("CATENARY_CHECKPOINT").unwrap_err().to_string();
        assert!(error.ends_with("did you mean CATENARY_CHECKPOINTS?"), "{error}");
    }

    #[test]
    fn tls_is_whole_or_refused() {
        let read = |text: &str| Config::from_toml(text);
        let tls = read("[tls]\ncertificate='a'\nkey='b'\nclient_ca='c'").unwrap().tls.unwrap();
        assert_eq!(tls.client, ClientCertificates::Required);
        for wrong in [
            "certificate='a'",
            "certificate='a'\nkey='b'\nclient='optional'",
            "certificate='a'\nkey='b'\nca='c'",
        ] {
            assert!(read(&format!("[tls]\n{wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pass_takes_a_time_or_is_off() {
        let scrub = |text: &str| Config::from_toml(&format!("scrub = '{text}'")).map(|c| c.scrub().unwrap());
        assert_eq!(scrub("2h").unwrap(), Some(Duration::from_secs(7200)));
        assert_eq!(scrub("off").unwrap(), None);
        assert!(scrub("daily").is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = Config::from_toml("database_url = 'postgres://u:hunter2@db/x'").unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_rule_on_sub_is_refused() {
        let rule = |claims: &str| {
            format!(
                "[[oidc]]\nissuer='https://i.test'\naudience='a'\njwks_file='k.json'\n[[oidc.rule]]\nclaims={{{claims}}}"
            )
        };
        assert!(Config::from_toml(&rule("repository_id='1'")).is_ok());
        assert!(Config::from_toml(&rule("sub='repo:acme/app:*'")).is_err());
        assert!(Config::from_toml(&rule("")).is_err());
    }
}
