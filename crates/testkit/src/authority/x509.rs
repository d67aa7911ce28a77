//! X.509 certificates, written field by field so that any of them can be wrong.

use crate::{
    der,
    key::{Key, Scheme},
    sha256_hex,
};

/// Extended key usages and extensions that tests name.
pub mod oid {
    /// `id-kp-codeSigning`.
    pub const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
    /// `id-kp-timeStamping`.
    pub const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";
    /// `id-kp-serverAuth`: a usage that signs no code.
    pub const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
    /// `id-kp-clientAuth`.
    pub const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
    /// `subjectAltName`.
    pub const SUBJECT_ALT_NAME: &str = "2.5.29.17";
    /// The embedded list of signed certificate timestamps.
    pub const SCT_LIST: &str = "1.3.6.1.4.1.11129.2.4.2";
    /// Fulcio's arc; claims are `.1` to `.24` below it.
    pub const FULCIO: &str = "1.3.6.1.4.1.57264.1";
}

/// One certificate extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Dotted identifier.
    pub oid: String,
    /// `critical`.
    pub critical: bool,
    /// What the octet string holds.
    pub value: Vec<u8>,
}

impl Extension {
    /// An extension that is not critical.
    pub fn new(oid: &str, value: impl Into<Vec<u8>>) -> Self {
        Self { oid: oid.into(), critical: false, value: value.into() }
    }

    /// A critical extension.
    pub fn critical(oid: &str, value: impl Into<Vec<u8>>) -> Self {
        Self { oid: oid.into(), critical: true, value: value.into() }
    }

    /// `extKeyUsage` with these purposes.
    pub fn extended_key_usage(critical: bool, purposes: &[&str]) -> Self {
        let purposes: Vec<u8> = purposes.iter().flat_map(|purpose| der::oid(purpose)).collect();
        Self { oid: "2.5.29.37".into(), critical, value: der::tlv(0x30, &purposes) }
    }

    /// `basicConstraints`.
    pub fn basic_constraints(ca: bool, path_len: Option<u8>) -> Self {
        let mut inside = Vec::new();
        if ca {
            inside.extend([0x01, 0x01, 0xff]);
        }
        if let Some(len) = path_len {
            inside.extend(der::integer(&[len]));
        }
        Self::critical("2.5.29.19", der::tlv(0x30, &inside))
    }

    /// `subjectAltName` of hosts: names and IPv4 addresses.
    pub fn hosts(hosts: &[&str]) -> Self {
        let names = hosts.iter().flat_map(|host| match host.parse::<std::net::Ipv4Addr>() {
            Ok(address) => der::tlv(0x87, &address.octets()),
            Err(_) => der::tlv(0x82, host.as_bytes()),
        });
        Self::new(oid::SUBJECT_ALT_NAME, der::tlv(0x30, &names.collect::<Vec<u8>>()))
    }

    /// `keyUsage`: `digitalSignature`, or `keyCertSign` and `cRLSign`.
    pub fn key_usage(ca: bool) -> Self {
        let bits: &[u8] = if ca { &[1, 0x06] } else { &[7, 0x80] };
        Self::critical("2.5.29.15", der::tlv(0x03, bits))
    }

    /// `nameConstraints` that permit only URIs below these hosts.
    pub fn permitted_uri_hosts(hosts: &[&str]) -> Self {
        let trees: Vec<u8> =
            hosts.iter().flat_map(|host| der::sequence(&[&der::tlv(0x86, host.as_bytes())])).collect();
        Self::critical("2.5.29.30", der::sequence(&[&der::tlv(0xa0, &trees)]))
    }

    fn to_der(&self) -> Vec<u8> {
        let critical: &[u8] = if self.critical { &[0x01, 0x01, 0xff] } else { &[] };
        der::sequence(&[&der::oid(&self.oid), critical, &der::octets(&self.value)])
    }
}

/// A distinguished name: organisation and common name, or nothing at all.
pub fn name(organisation: &str, common_name: &str) -> Vec<u8> {
    let part = |oid: &str, text: &str| {
        if text.is_empty() {
            return Vec::new();
        }
        der::set_of(0x31, vec![der::sequence(&[&der::oid(oid), &der::utf8(text)])])
    };
    der::sequence(&[&part("2.5.4.10", organisation), &part("2.5.4.3", common_name)])
}

/// A certificate before it is signed.
#[derive(Debug, Clone)]
pub struct CertificateSpec {
    /// Serial number, big-endian; empty: made from the rest.
    pub serial: Vec<u8>,
    /// Subject, in DER.
    pub subject: Vec<u8>,
    /// SubjectPublicKeyInfo; anything at all, if a test wants.
    pub spki: Vec<u8>,
    /// First second of validity.
    pub not_before: i64,
    /// Last second of validity.
    pub not_after: i64,
    /// Extensions in order; duplicates are written as they stand.
    pub extensions: Vec<Extension>,
}

impl CertificateSpec {
    /// The part that is signed.
    pub fn tbs(&self, issuer: &Issuer) -> Vec<u8> {
        let validity = der::sequence(&[&der::time(self.not_before), &der::time(self.not_after)]);
        let extensions: Vec<u8> = self.extensions.iter().flat_map(Extension::to_der).collect();
        der::sequence(&[
            &[0xa0, 3, 2, 1, 2],
            &der::integer(&self.serial_number()),
            &signature_algorithm(issuer.key.scheme()),
            &issuer.subject,
            &validity,
            &self.subject,
            &self.spki,
            &der::tlv(0xa3, &der::tlv(0x30, &extensions)),
        ])
    }

    /// The certificate, signed by `issuer`.
    pub fn sign(&self, issuer: &Issuer) -> Vec<u8> {
        let tbs = self.tbs(issuer);
        let signature = issuer.key.sign(&tbs);
        der::sequence(&[&tbs, &signature_algorithm(issuer.key.scheme()), &der::bit_string(&signature)])
    }

    /// Sixteen bytes that follow from subject, key and validity, so that equal certificates get equal serials.
    pub fn serial_number(&self) -> Vec<u8> {
        if !self.serial.is_empty() {
            return self.serial.clone();
        }
        let all =
            [&self.spki[..], &self.subject, &self.not_before.to_be_bytes(), &self.not_after.to_be_bytes()];
        let mut serial = hex::decode(&sha256_hex(&all.concat())[..32]).expect("it is hex");
        serial[0] = serial[0] & 0x7f | 0x40;
        serial
    }
}

/// Who can sign certificates, tokens and messages: a key under a certified name.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The private key.
    pub key: Key,
    /// Subject name, in DER.
    pub subject: Vec<u8>,
    /// Issuer name, in DER.
    pub issued_by: Vec<u8>,
    /// Serial number.
    pub serial: Vec<u8>,
    /// The certificate.
    pub certificate: Vec<u8>,
}

impl Issuer {
    /// A self-signed root.
    pub fn root(key: Key, subject: Vec<u8>, not_before: i64, not_after: i64) -> Self {
        let spec = CertificateSpec {
            serial: Vec::new(),
            subject: subject.clone(),
            spki: key.spki_der().to_vec(),
            not_before,
            not_after,
            extensions: vec![
                Extension::key_usage(true),
                Extension::basic_constraints(true, None),
                subject_key_id(&key),
            ],
        };
        let serial = spec.serial_number();
        let mut root = Self { key, issued_by: subject.clone(), subject, serial, certificate: Vec::new() };
        root.certificate = spec.sign(&root);
        root
    }

    /// Certifies `key` under `subject` with these extensions; identifiers of both keys are added.
    pub fn certify(
        &self,
        key: &Key,
        subject: Vec<u8>,
        not_before: i64,
        not_after: i64,
        extensions: Vec<Extension>,
    ) -> Self {
        let mut spec = CertificateSpec {
            serial: Vec::new(),
            subject,
            spki: key.spki_der().to_vec(),
            not_before,
            not_after,
            extensions,
        };
        spec.extensions.extend([subject_key_id(key), self.authority_key_id()]);
        Self {
            key: key.clone(),
            issued_by: self.subject.clone(),
            serial: spec.serial_number(),
            certificate: spec.sign(self),
            subject: spec.subject,
        }
    }

    /// An intermediate that may issue code signing leaves, with further extensions.
    pub fn intermediate(
        &self,
        key: &Key,
        subject: Vec<u8>,
        not_before: i64,
        not_after: i64,
        more: Vec<Extension>,
    ) -> Self {
        let mut extensions = vec![
            Extension::key_usage(true),
            Extension::extended_key_usage(false, &[oid::CODE_SIGNING]),
            Extension::basic_constraints(true, Some(0)),
        ];
        extensions.extend(more);
        self.certify(key, subject, not_before, not_after, extensions)
    }

    /// The certificate of a server that is reached under these names and addresses.
    pub fn server(&self, key: &Key, hosts: &[&str], not_before: i64, not_after: i64) -> Self {
        let usage = Extension::extended_key_usage(false, &[oid::SERVER_AUTH]);
        let extensions = vec![Extension::key_usage(false), usage, Extension::hosts(hosts)];
        self.certify(key, name("", hosts[0]), not_before, not_after, extensions)
    }

    /// The certificate of a client.
    pub fn client(&self, key: &Key, common_name: &str, not_before: i64, not_after: i64) -> Self {
        let usage = Extension::extended_key_usage(false, &[oid::CLIENT_AUTH]);
        let extensions = vec![Extension::key_usage(false), usage, Extension::hosts(&[common_name])];
        self.certify(key, name("", common_name), not_before, not_after, extensions)
    }

    /// The certificate in PEM.
    pub fn certificate_pem(&self) -> String {
        der::pem("CERTIFICATE", &self.certificate)
    }

    /// `authorityKeyIdentifier` of what this issuer signs.
    pub fn authority_key_id(&self) -> Extension {
        Extension::new("2.5.29.35", der::sequence(&[&der::tlv(0x80, &key_id(&self.key))]))
    }
}

/// `subjectKeyIdentifier`.
pub fn subject_key_id(key: &Key) -> Extension {
    Extension::new("2.5.29.14", der::octets(&key_id(key)))
}

fn key_id(key: &Key) -> Vec<u8> {
    hex::decode(&sha256_hex(key.public_raw())[..40]).expect("it is hex")
}

/// `AlgorithmIdentifier` of a signature.
pub(crate) fn signature_algorithm(scheme: Scheme) -> Vec<u8> {
    match scheme {
        Scheme::P256 => der::sequence(&[&der::oid("1.2.840.10045.4.3.2")]),
        Scheme::P384 => der::sequence(&[&der::oid("1.2.840.10045.4.3.3")]),
        Scheme::P521 => der::sequence(&[&der::oid("1.2.840.10045.4.3.4")]),
        Scheme::Ed25519 => der::sequence(&[&der::oid("1.3.101.112")]),
        Scheme::RsaPkcs1 | Scheme::RsaPss => der::sequence(&[&der::oid("1.2.840.113549.1.1.11"), &[5, 0]]),
    }
}
