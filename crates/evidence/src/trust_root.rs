//! Trust roots: the certificate authorities, logs and timestamp authorities of one trust domain, as one document.

mod log;

use std::{collections::BTreeMap, fmt, sync::OnceLock};

use der::{Decode as _, Encode as _};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use serde::{Deserialize, Serialize};
use sigstore_trust_root::{SigstoreInstance, TrustedRoot};
use sigstore_types::{DerCertificate, TimeRange, TsaAuthority};

use crate::{
    digest::Sha256,
    signer::AuthorityKind,
    witness::{PolicyError, Witnesses},
};

use log::LogKey;
pub(crate) use log::{CtLog, Log};

/// What a domain demands of a bundle besides certificate and signature. Set when the root is added, never by a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rules {
    /// A transparency log entry, and a trusted time.
    pub log: bool,
    /// A signed certificate timestamp.
    pub sct: bool,
    /// From how many distinct logs, when there must be an entry.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub logs: u8,
}

impl Rules {
    /// Nothing at all.
    pub const NONE: Self = Self { log: false, sct: false, logs: 1 };
}

impl Default for Rules {
    fn default() -> Self {
        Self { log: true, sct: true, logs: 1 }
    }
}

fn one() -> u8 {
    1
}

fn is_one(logs: &u8) -> bool {
    *logs == 1
}

/// Why a document is not a trust root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustRootError {
    /// Larger than [`MAX_ROOT`].
    #[error("a trusted root has at most {MAX_ROOT} bytes")]
    TooLarge,
    /// Not a document of the media type `application/vnd.dev.sigstore.trustedroot+json`.
    #[error("not a trusted root: {0}")]
    Malformed(String),
    /// An authority that cannot be used.
    #[error("{pointer}: {why}")]
    Authority {
        /// JSON pointer.
        pointer: String,
        /// What is wrong with it.
        why: String,
    },
    /// A root that names nobody vouches for nothing. One of logs alone is a root: it proves when a key signed.
    #[error("it names no certificate authority, no log and no timestamp authority")]
    Empty,
    /// The policy of its witnesses cannot be read.
    #[error("the witness policy, {0}")]
    Witnesses(#[from] PolicyError),
    /// A log cannot watch itself.
    #[error("a witness has the key of one of the domain's logs, {log}")]
    WitnessIsLog {
        /// SHA-256 of the key.
        log: Sha256,
    },
    /// The policy is about logs that the root does not name.
    #[error("the witness policy is about a log that the root does not name, {log}")]
    ForeignLog {
        /// SHA-256 of the key.
        log: Sha256,
    },
}

/// Largest trusted root.
pub const MAX_ROOT: usize = 1024 * 1024;

/// The public good instance of Sigstore.
pub const SIGSTORE: &str = "sigstore";
/// GitHub's own instance, for private repositories: timestamps, and no public logs.
pub const GITHUB: &str = "github";

/// One trust domain: a name, its rules, and the newest version of its root, ready to verify with.
pub struct Domain {
    name: String,
    digest: Sha256,
    rules: Rules,
    anchors: Vec<Anchor>,
    logs: Vec<Log>,
    ct_logs: Vec<CtLog>,
    timestamp_authorities: Vec<Tsa>,
    witnesses: Option<Witnesses>,
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Domain({} {})", self.name, self.digest)
    }
}

/// A certificate that paths may end at. Intermediates are anchors too: a root lists them as trusted.
struct Anchor {
    anchor: TrustAnchor<'static>,
    id: Sha256,
    /// The subject in DER.
    subject: Vec<u8>,
    window: Window,
}

/// A timestamp authority with its own chain and window.
pub(crate) struct Tsa {
    pub(crate) id: Sha256,
    pub(crate) authority: TsaAuthority,
}

impl Domain {
    /// Reads a `trusted_root.json` and a tlog-policy. A domain of witnesses alone has an empty document: it vouches for
    /// nobody, and policies ask for its quorum.
    pub fn read_with(
        name: &str,
        document: &[u8],
        rules: Rules,
        witnesses: Option<&str>,
    ) -> Result<Self, TrustRootError> {
        let Some(text) = witnesses else { return Self::read(name, document, rules) };
        let witnesses = Witnesses::read(text)?;
        let mut domain = match document {
            [] => Self::empty(name, document, rules),
            _ => Self::read(name, document, rules)?,
        };
        let names = |id: &Sha256| domain.logs.iter().any(|log| log.authority == *id);
        if let Some(log) = witnesses.ids().find(&names) {
            return Err(TrustRootError::WitnessIsLog { log });
        }
        let foreign = witnesses.logs().iter().find(|log| !domain.logs.is_empty() && !names(log));
        if let Some(&log) = foreign {
            return Err(TrustRootError::ForeignLog { log });
        }
        domain.witnesses = Some(witnesses);
        Ok(domain)
    }

    fn empty(name: &str, document: &[u8], rules: Rules) -> Self {
        Self {
            name: name.to_owned(),
            digest: Sha256::of(document),
            rules,
            anchors: Vec::new(),
            logs: Vec::new(),
            ct_logs: Vec::new(),
            timestamp_authorities: Vec::new(),
            witnesses: None,
        }
    }

    /// Reads a `trusted_root.json`.
    pub fn read(name: &str, document: &[u8], rules: Rules) -> Result<Self, TrustRootError> {
        if document.len() > MAX_ROOT {
            return Err(TrustRootError::TooLarge);
        }
        let malformed = |why: String| TrustRootError::Malformed(why);
        let text = crate::json::check(document).map_err(|e| malformed(e.to_string()))?;
        let root = TrustedRoot::from_json(text).map_err(|e| malformed(e.to_string()))?;
        if !root.media_type.starts_with("application/vnd.dev.sigstore.trustedroot") {
            return Err(malformed(format!("its media type is `{}`", root.media_type)));
        }
        let mut domain = Self::empty(name, document, rules);
        for (position, ca) in root.certificate_authorities.iter().enumerate() {
            domain.add_ca(position, &ca.cert_chain.certificates, ca.valid_for)?;
        }
        for (position, log) in root.tlogs.iter().enumerate() {
            let place = Place::new("tlogs", position);
            let window = place.window(log.public_key.valid_for)?;
            let id = place.id(log.log_id.key_id.as_bytes())?;
            let key = LogKey::read(&log.public_key.raw_bytes).map_err(|e| place.bad(e))?;
            if domain.logs.iter().any(|known| known.id == id) {
                return Err(place.bad("another log has its id"));
            }
            let authority = Sha256::of(log.public_key.raw_bytes.as_bytes());
            domain.logs.push(Log { id, authority, key, window });
        }
        for (position, log) in root.ctlogs.iter().enumerate() {
            let place = Place::new("ctlogs", position);
            let window = place.window(log.public_key.valid_for)?;
            let id = place.id(log.log_id.key_id.as_bytes())?;
            let log = CtLog::read(id, &log.public_key.raw_bytes, window).map_err(|e| place.bad(e))?;
            if domain.ct_logs.iter().any(|known| known.id == id) {
                return Err(place.bad("another log has its id"));
            }
            domain.ct_logs.push(log);
        }
        for (position, tsa) in root.timestamp_authorities.iter().enumerate() {
            let place = Place::new("timestampAuthorities", position);
            place.window(tsa.valid_for)?;
            let chain: Vec<&DerCertificate> =
                tsa.cert_chain.certificates.iter().map(|c| &c.raw_bytes).collect();
            for certificate in &chain {
                anchor(certificate.as_bytes()).map_err(|e| place.bad(e))?;
            }
            let (leaf, intermediates, last) = match chain.as_slice() {
                [] => return Err(place.bad("its certificate chain is empty")),
                [only] => (*only, Vec::new(), *only),
                [leaf, between @ .., root] => (*leaf, between.iter().map(|c| (*c).clone()).collect(), *root),
            };
            // A chain of one names the root only; the signer is then that certificate.
            if chain.len() > 1 && !only_stamps_time(leaf.as_bytes()) {
                return Err(place.bad("its certificate is not for timestamps alone"));
            }
            let authority = TsaAuthority::new(leaf.clone(), intermediates, last.clone(), tsa.valid_for);
            domain.timestamp_authorities.push(Tsa { id: Sha256::of(leaf.as_bytes()), authority });
        }
        if domain.anchors.is_empty() && domain.logs.is_empty() && domain.timestamp_authorities.is_empty() {
            return Err(TrustRootError::Empty);
        }
        Ok(domain)
    }

    fn add_ca(
        &mut self,
        position: usize,
        chain: &[sigstore_trust_root::trusted_root::CertificateEntry],
        valid_for: Option<TimeRange>,
    ) -> Result<(), TrustRootError> {
        let place = Place::new("certificateAuthorities", position);
        let window = place.window(valid_for)?;
        if chain.is_empty() {
            return Err(place.bad("its certificate chain is empty"));
        }
        for certificate in chain {
            let der = certificate.raw_bytes.as_bytes();
            let parsed = x509_cert::Certificate::from_der(der).map_err(|e| place.bad(e))?;
            let subject = parsed.tbs_certificate.subject.to_der().map_err(|e| place.bad(e))?;
            let anchor = anchor(der).map_err(|e| place.bad(e))?;
            // Path building takes an anchor without its dates; a certificate does not outlive its own (C04).
            let window = window
                .and(own_window(&parsed.tbs_certificate.validity).ok_or_else(|| place.bad("its validity"))?);
            self.anchors.push(Anchor { anchor, id: Sha256::of(der), subject, window });
        }
        Ok(())
    }

    /// The domains that are compiled in.
    pub fn builtin() -> Vec<Self> {
        let instances = [
            (SIGSTORE, SigstoreInstance::PublicGood, Rules::default()),
            (GITHUB, SigstoreInstance::GitHub, Rules::NONE),
        ];
        // They are constants; a test reads them.
        let read = |(name, instance, rules): (&str, SigstoreInstance, Rules)| {
            Self::read(name, instance.embedded_trusted_root_json().as_bytes(), rules).ok()
        };
        instances.into_iter().filter_map(read).collect()
    }

    /// The domain's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the document.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// What it demands.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Every authority, and when it was trusted.
    pub fn authorities(&self) -> Authorities {
        let mut all = Authorities::new();
        let mut add = |kind, id, window| all.entry((kind, id)).or_default().push(window);
        for anchor in &self.anchors {
            add(AuthorityKind::CertificateAuthority, anchor.id, anchor.window);
        }
        for log in &self.logs {
            add(AuthorityKind::Log, log.authority, log.window);
        }
        for log in &self.ct_logs {
            add(AuthorityKind::CtLog, log.authority, log.window);
        }
        for tsa in &self.timestamp_authorities {
            add(AuthorityKind::TimestampAuthority, tsa.id, Window::of(tsa.authority.valid_for));
        }
        for id in self.witnesses.iter().flat_map(Witnesses::ids) {
            add(AuthorityKind::Witness, id, Window { from: None, until: None });
        }
        all
    }

    /// Its witnesses and their quorum.
    pub fn witnesses(&self) -> Option<&Witnesses> {
        self.witnesses.as_ref()
    }

    pub(crate) fn anchors_at(&self, at: Timestamp) -> impl Iterator<Item = (&TrustAnchor<'static>, Sha256)> {
        self.anchors.iter().filter(move |a| a.window.contains(at)).map(|a| (&a.anchor, a.id))
    }

    /// Authorities whose subject has this DER.
    pub(crate) fn authorities_named(&self, subject: &[u8]) -> impl Iterator<Item = Sha256> {
        self.anchors.iter().filter(move |a| a.subject == subject).map(|a| a.id)
    }

    pub(crate) fn log(&self, id: &[u8]) -> Option<&Log> {
        self.logs.iter().find(|log| log.id[..] == *id)
    }

    pub(crate) fn ct_log(&self, id: &[u8]) -> Option<&CtLog> {
        self.ct_logs.iter().find(|log| log.id[..] == *id)
    }

    pub(crate) fn ct_logs(&self) -> &[CtLog] {
        &self.ct_logs
    }

    pub(crate) fn timestamp_authorities(&self) -> &[Tsa] {
        &self.timestamp_authorities
    }
}

/// The authorities of a domain that is compiled in.
pub fn builtin_authorities(name: &str) -> Option<&'static Authorities> {
    static ALL: OnceLock<BTreeMap<String, Authorities>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        Domain::builtin().into_iter().map(|domain| (domain.name.clone(), domain.authorities())).collect()
    });
    all.get(name)
}

fn anchor(der: &[u8]) -> Result<TrustAnchor<'static>, webpki::Error> {
    webpki::anchor_from_trusted_cert(&CertificateDer::from(der)).map(|anchor| anchor.to_owned())
}

fn own_window(validity: &x509_cert::time::Validity) -> Option<Window> {
    let time = |time: &x509_cert::time::Time| {
        Timestamp::from_second(i64::try_from(time.to_unix_duration().as_secs()).ok()?).ok()
    };
    Some(Window { from: Some(time(&validity.not_before)?), until: Some(time(&validity.not_after)?) })
}

/// A timestamp authority's certificate is for nothing else, and says so critically (RFC 3161 section 2.3).
fn only_stamps_time(der: &[u8]) -> bool {
    use const_oid::db::rfc5280::{ID_CE_EXT_KEY_USAGE, ID_KP_TIME_STAMPING};
    let Ok(parsed) = x509_cert::Certificate::from_der(der) else { return false };
    let extensions = parsed.tbs_certificate.extensions.as_deref().unwrap_or_default();
    let usage = extensions.iter().find(|e| e.extn_id == ID_CE_EXT_KEY_USAGE);
    usage.is_some_and(|usage| {
        let purposes = x509_cert::ext::pkix::ExtendedKeyUsage::from_der(usage.extn_value.as_bytes());
        usage.critical && purposes.is_ok_and(|purposes| purposes.0 == [ID_KP_TIME_STAMPING])
    })
}

/// Where in the document.
struct Place(String);

impl Place {
    fn new(list: &str, position: usize) -> Self {
        Self(format!("/{list}/{position}"))
    }

    fn bad(&self, why: impl fmt::Display) -> TrustRootError {
        TrustRootError::Authority { pointer: self.0.clone(), why: why.to_string() }
    }

    fn window(&self, range: Option<TimeRange>) -> Result<Window, TrustRootError> {
        let window = Window::of(range);
        match window.from.zip(window.until) {
            Some((from, until)) if until < from => Err(self.bad("its validity ends before it begins")),
            _ => Ok(window),
        }
    }

    fn id(&self, bytes: &[u8]) -> Result<[u8; 32], TrustRootError> {
        bytes.try_into().map_err(|_| self.bad("its log id has not 32 bytes"))
    }
}

/// The authorities of a root, and when each was trusted: what facts are filtered by.
pub type Authorities = BTreeMap<(AuthorityKind, Sha256), Vec<Window>>;

/// `from <= t <= until`; both ends inclusive, as the Sigstore trusted root says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First moment.
    pub from: Option<Timestamp>,
    /// Last moment.
    pub until: Option<Timestamp>,
}

impl Window {
    /// Whether `t` is inside.
    pub fn contains(&self, t: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= t) && self.until.is_none_or(|until| t <= until)
    }

    /// What is inside both.
    fn and(self, other: Self) -> Self {
        let until = [self.until, other.until].into_iter().flatten().min();
        Self { from: self.from.max(other.from), until }
    }

    fn of(range: Option<TimeRange>) -> Self {
        Self { from: range.map(|r| r.start), until: range.and_then(|r| r.end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_roots_are_read() {
        let domains = Domain::builtin();
        let names: Vec<&str> = domains.iter().map(Domain::name).collect();
        assert_eq!(names, [SIGSTORE, GITHUB]);
        assert!(domains[0].logs.len() >= 2 && domains[0].ct_logs.len() >= 2);
        assert!(domains[1].logs.is_empty() && domains[1].timestamp_authorities.len() >= 2);
        for domain in &domains {
            assert!(!domain.authorities().is_empty());
        }
    }
    #[test]
    fn a_root_of_nobody_is_none() {
        let media_type = r#""mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1""#;
        for document in [
            format!("{{{media_type}}}"),
            format!(r#"{{{media_type},"certificateAuthorities":[],"ctlogs":[]}}"#),
        ] {
            let read = Domain::read("nobody", document.as_bytes(), Rules::NONE);
            assert_eq!(read.err(), Some(TrustRootError::Empty), "{document}");
        }
    }
}
