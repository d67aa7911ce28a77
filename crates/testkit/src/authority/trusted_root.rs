//! `trusted_root.json`: what a verifier is told to believe, and the ways in which it can be wrong.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Authority, Window, ct_log::CtLog, rekor::Rekor, tsa::Tsa};
use crate::{
    key::{Key, Scheme},
    time::rfc3339,
};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot+json;version=0.1";

/// A trusted root that is being made. The lists are those of the file.
#[derive(Debug, Clone)]
pub struct TrustedRoot {
    /// `certificateAuthorities`: chains (nearest first) and windows.
    pub certificate_authorities: Vec<(Vec<Vec<u8>>, Window)>,
    /// `ctlogs`.
    pub ct_logs: Vec<(CtLog, Window)>,
    /// `tlogs`.
    pub logs: Vec<Rekor>,
    /// `timestampAuthorities`: chains (signer first) and windows.
    pub timestamp_authorities: Vec<(Vec<Vec<u8>>, Window)>,
}

impl TrustedRoot {
    /// Everything that an authority has.
    pub fn of(authority: &Authority) -> Self {
        let Authority { root, intermediate, window, ct, rekor, rekor_v2, tsa, .. } = authority;
        let chain = vec![intermediate.certificate.clone(), root.certificate.clone()];
        Self {
            certificate_authorities: vec![(chain, *window)],
            ct_logs: vec![(ct.clone(), *window)],
            logs: vec![rekor.clone(), rekor_v2.clone()],
            timestamp_authorities: vec![timestamp_authority(tsa)],
        }
    }

    /// Adds everything of another root.
    pub fn and(mut self, other: Self) -> Self {
        self.certificate_authorities.extend(other.certificate_authorities);
        self.ct_logs.extend(other.ct_logs);
        self.logs.extend(other.logs);
        self.timestamp_authorities.extend(other.timestamp_authorities);
        self
    }

    /// Adds a timestamp authority.
    pub fn and_tsa(mut self, tsa: &Tsa) -> Self {
        self.timestamp_authorities.push(timestamp_authority(tsa));
        self
    }

    /// Every certificate authority has this window.
    pub fn ca_window(mut self, window: Window) -> Self {
        self.certificate_authorities.iter_mut().for_each(|(_, own)| *own = window);
        self
    }

    /// Every certificate transparency log has this window.
    pub fn ct_window(mut self, window: Window) -> Self {
        self.ct_logs.iter_mut().for_each(|(_, own)| *own = window);
        self
    }

    /// Every log of signatures has this window.
    pub fn log_window(mut self, window: Window) -> Self {
        self.logs.iter_mut().for_each(|log| log.window = window);
        self
    }

    /// Every timestamp authority has this window.
    pub fn tsa_window(mut self, window: Window) -> Self {
        self.timestamp_authorities.iter_mut().for_each(|(_, own)| *own = window);
        self
    }

    /// Only the last certificate of each certificate authority: intermediates come with the bundle.
    pub fn only_roots(mut self) -> Self {
        for (chain, _) in &mut self.certificate_authorities {
            chain.drain(..chain.len() - 1);
        }
        self
    }

    /// No certificate authorities.
    pub fn without_authorities(mut self) -> Self {
        self.certificate_authorities.clear();
        self
    }

    /// No certificate transparency logs.
    pub fn without_ct_logs(mut self) -> Self {
        self.ct_logs.clear();
        self
    }

    /// No logs of signatures.
    pub fn without_logs(mut self) -> Self {
        self.logs.clear();
        self
    }

    /// No timestamp authorities.
    pub fn without_tsa(mut self) -> Self {
        self.timestamp_authorities.clear();
        self
    }

    /// A timestamp authority without certificates and with a window as wide as can be (attack T20).
    pub fn with_empty_tsa_chain(mut self) -> Self {
        self.timestamp_authorities.push((Vec::new(), Window { start: 0, end: None }));
        self
    }

    /// The file's value.
    pub fn to_value(&self) -> Value {
        let certificates = |chain: &[Vec<u8>]| {
            let all: Vec<Value> = chain.iter().map(|der| json!({"rawBytes": STANDARD.encode(der)})).collect();
            json!({"certificates": all})
        };
        let authority = |uri: &str, (chain, window): &(Vec<Vec<u8>>, Window)| {
            json!({
                "subject": {"organization": "testkit", "commonName": "testkit"},
                "uri": uri,
                "certChain": certificates(chain),
                "validFor": window.to_value(),
            })
        };
        json!({
            "mediaType": MEDIA_TYPE,
            "tlogs": self.logs.iter().map(|log| instance(&log.host, &log.key, &log.id(), log.window)).collect::<Vec<_>>(),
            "certificateAuthorities":
                self.certificate_authorities.iter().map(|ca| authority("https://fulcio.test", ca)).collect::<Vec<_>>(),
            "ctlogs":
                self.ct_logs.iter().map(|(log, window)| instance("ctfe.test", &log.key, &log.id(), *window)).collect::<Vec<_>>(),
            "timestampAuthorities":
                self.timestamp_authorities.iter().map(|tsa| authority("https://tsa.test", tsa)).collect::<Vec<_>>(),
        })
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }
}

fn timestamp_authority(tsa: &Tsa) -> (Vec<Vec<u8>>, Window) {
    (vec![tsa.leaf.certificate.clone(), tsa.root.certificate.clone()], tsa.window)
}

fn instance(host: &str, key: &Key, id: &[u8], window: Window) -> Value {
    json!({
        "baseUrl": format!("https://{host}"),
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": STANDARD.encode(key.spki_der()),
            "keyDetails": key_details(key),
            "validFor": window.to_value(),
        },
        "logId": {"keyId": STANDARD.encode(id)},
    })
}

/// The name that Sigstore's formats give to a kind of key.
pub fn key_details(key: &Key) -> &'static str {
    match key.scheme() {
        Scheme::Ed25519 => "PKIX_ED25519",
        Scheme::P256 => "PKIX_ECDSA_P256_SHA_256",
        Scheme::P384 => "PKIX_ECDSA_P384_SHA_384",
        Scheme::P521 => "PKIX_ECDSA_P521_SHA_512",
        Scheme::RsaPkcs1 => "PKIX_RSA_PKCS1V15_2048_SHA256",
        Scheme::RsaPss => "PKIX_RSA_PSS_2048_SHA256",
    }
}

impl Window {
    fn to_value(self) -> Value {
        match self.end {
            Some(end) => json!({"start": rfc3339(self.start), "end": rfc3339(end)}),
            None => json!({"start": rfc3339(self.start)}),
        }
    }
}
