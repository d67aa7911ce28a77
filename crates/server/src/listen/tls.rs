//! TLS by rustls, from files that may be replaced while the service runs.
//!
//! A new connection gets what the files last held when they made sense together. Files that do not (a key that is not
//! the certificate's, half of a text) change nothing: what was good before stays in use, and the log and a metric say so.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::{VerifierBuilderError, WebPkiClientVerifier},
    },
    server::TlsStream,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{ClientCertificates, Tls},
    metrics::Metrics,
};

/// From the first byte to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file without what it should hold.
    #[error("{}: no {what} in PEM is in it", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// Certificate and key do not go together, or cannot be used.
    #[error("certificate and key: {0}")]
    Pair(rustls::Error),
    /// No client could be verified by this authority.
    #[error("client authority: {0}")]
    Authority(String),
}

impl From<VerifierBuilderError> for TlsError {
    fn from(error: VerifierBuilderError) -> Self {
        Self::Authority(error.to_string())
    }
}

/// The certificate in use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Certificate {
    settings: Tls,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.settings.certificate.display())
    }
}

/// The bytes of the files: what is compared to see a change.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    fn read(settings: &Tls) -> Result<Self, TlsError> {
        let read =
            |path: &Path| fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
        Ok(Self {
            certificate: read(&settings.certificate)?,
            key: read(&settings.key)?,
            client_ca: settings.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn config(&self, settings: &Tls) -> Result<ServerConfig, TlsError> {
        let missing = |path: &Path, what| TlsError::Missing { path: path.to_owned(), what };
        let chain = certificates(&self.certificate);
        let chain = chain.ok_or_else(|| missing(&settings.certificate, "certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key = key.map_err(|_| missing(&settings.key, "private key"))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?;
        let builder = match (&settings.client_ca, &self.client_ca) {
            (Some(path), Some(bytes)) => {
                let mut roots = RootCertStore::empty();
                let authorities = certificates(bytes).ok_or_else(|| missing(path, "certificate"))?;
                let (added, _) = roots.add_parsable_certificates(authorities);
                if added == 0 {
                    return Err(missing(path, "usable certificate"));
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match settings.client {
                    ClientCertificates::Required => verifier,
                    ClientCertificates::Optional => verifier.allow_unauthenticated(),
                };
                builder.with_client_cert_verifier(verifier.build()?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Every certificate of a PEM text; `None` when there is none, or one that is broken.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty())
}

impl Certificate {
    /// Reads the files; at start they must be good.
    pub(crate) fn open(settings: &Tls) -> Result<Self, TlsError> {
        let config = Files::read(settings)?.config(settings)?;
        Ok(Self { settings: settings.clone(), current: Arc::new(RwLock::new(Arc::new(config))) })
    }

    fn current(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The handshake; `None` when it failed or took too long.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Option<TlsStream<S>> {
        let accepting = TlsAcceptor::from(self.current()).accept(stream);
        match timeout(HANDSHAKE, accepting).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a handshake failed");
                None
            }
            Err(_) => None,
        }
    }

    /// Takes up what the files hold whenever they change, until `stop`.
    pub(crate) async fn follow(self, metrics: Arc<Metrics>, stop: CancellationToken) {
        let mut seen = Files::read(&self.settings).ok();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let files = Files::read(&self.settings);
            if files.as_ref().ok() == seen.as_ref() {
                continue;
            }
            let taken = files.as_ref().map_err(ToString::to_string);
            let taken = taken.and_then(|f| f.config(&self.settings).map_err(|e| e.to_string()));
            metrics.certificate(taken.is_ok());
            match taken {
                Ok(config) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                    tracing::info!("new connections get the new certificate");
                }
                Err(why) => tracing::warn!(why, "the new certificate cannot be used; the old one stays"),
            }
            seen = files.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use catenary_testkit::{
        Key,
        authority::x509::{Issuer, name},
    };

    use super::*;

    fn settings(folder: &Path) -> Tls {
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        Tls { certificate, key, client_ca: None, client: ClientCertificates::Required }
    }

    fn write(settings: &Tls, key: &Key, certified: &Key) {
        let issuer = Issuer::root(certified.clone(), name("", "localhost"), 0, 4_000_000_000);
        fs::write(&settings.certificate, issuer.certificate_pem()).unwrap();
        fs::write(&settings.key, key.private_pkcs8_pem()).unwrap();
    }

    #[test]
    fn a_key_that_is_not_the_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let (one, two) = (Key::p256("one"), Key::p256("two"));
        write(&settings, &one, &one);
        assert!(Certificate::open(&settings).is_ok());
        write(&settings, &one, &two);
        assert!(matches!(Certificate::open(&settings), Err(TlsError::Pair(_))));
        fs::write(&settings.certificate, "").unwrap();
        assert!(matches!(Certificate::open(&settings), Err(TlsError::Missing { what: "certificate", .. })));
        fs::remove_file(&settings.key).unwrap();
        assert!(matches!(Certificate::open(&settings), Err(TlsError::Read { .. })));
    }

    #[test]
    fn an_authority_file_without_a_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        let key = Key::p256("one");
        write(&settings, &key, &key);
        let authority = folder.path().join("ca.crt");
        fs::write(&authority, "nothing").unwrap();
        settings.client_ca = Some(authority);
        assert!(matches!(Certificate::open(&settings), Err(TlsError::Missing { .. })));
    }
}
