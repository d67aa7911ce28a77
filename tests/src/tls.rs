//! A private certificate authority: files for a service over TLS, and clients that trust it.

use std::path::{Path, PathBuf};

use catenary_testkit::{
    Key,
    authority::x509::{Issuer, name},
};
use tempfile::TempDir;

use crate::{app::App, http::Client, now};

/// An authority, and the folder with what it issued.
#[derive(Debug)]
pub struct Authority {
    /// Its certificate.
    pub issuer: Issuer,
    folder: TempDir,
}

impl Authority {
    /// A new one, whose certificate lies in `ca.pem`.
    pub fn new(label: &str) -> Self {
        let (from, to) = validity();
        let issuer = Issuer::root(Key::p256(&format!("tls {label}")), name("Acme", label), from, to);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.certificate_pem()).unwrap();
        Self { issuer, folder }
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `tls.crt` and `tls.key` of a service on this machine, and gives the certificate.
    pub fn serve(&self, key: &str) -> Vec<u8> {
        let (key, (from, to)) = (Key::p256(key), validity());
        let served = self.issuer.server(&key, &["localhost", "127.0.0.1"], from, to);
        replace(&self.file("tls.key"), &key.private_pkcs8_pem());
        replace(&self.file("tls.crt"), &served.certificate_pem());
        served.certificate
    }

    /// Writes the certificate and key of a client into one file.
    pub fn client(&self, label: &str) -> PathBuf {
        let (key, (from, to)) = (Key::p256(label), validity());
        let client = self.issuer.client(&key, label, from, to);
        let file = self.file(&format!("{label}.pem"));
        std::fs::write(&file, format!("{}{}", client.certificate_pem(), key.private_pkcs8_pem())).unwrap();
        file
    }

    /// The settings of a service that uses the files.
    pub fn config(&self, more: &str) -> String {
        let (certificate, key) = (self.file("tls.crt"), self.file("tls.key"));
        format!("[tls]\ncertificate = '{}'\nkey = '{}'\n{more}", certificate.display(), key.display())
    }

    /// Connections that trust this authority and no other.
    pub fn http(&self) -> reqwest::ClientBuilder {
        let authority = reqwest::Certificate::from_der(&self.issuer.certificate).unwrap();
        reqwest::Client::builder()
            .tls_certs_only([authority])
            .tls_info(true)
            .no_proxy()
            .timeout(std::time::Duration::from_secs(20))
    }

    /// An administrator of a service over TLS.
    pub fn admin(&self, app: &App, http: reqwest::ClientBuilder) -> Client {
        let url = app.url.replace("http://", "https://");
        Client::over(http.build().unwrap(), &url, app.admin().token.as_deref())
    }
}

/// At once, so that nobody reads half a file.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

fn validity() -> (i64, i64) {
    (now() - 3600, now() + 86_400)
}
