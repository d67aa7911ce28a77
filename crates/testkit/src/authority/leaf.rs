//! Leaf certificates as a keyless certificate authority issues them, and as it never would.

use std::fmt;

use super::{
    Authority,
    claims::Claims,
    ct_log::Sct,
    x509::{CertificateSpec, Extension, Issuer, oid, subject_key_id},
};
use crate::{der, key::Key};

/// How long a leaf lives.
pub const LIFETIME: i64 = 600;

/// A certificate with its private key and what was certified.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The certificate, the key and the names.
    pub issuer: Issuer,
    /// What it claims.
    pub claims: Claims,
    /// First second of validity.
    pub not_before: i64,
    /// Last second of validity.
    pub not_after: i64,
    /// The certificates above it, nearest first.
    pub chain: Vec<Vec<u8>>,
}

impl Leaf {
    /// The certificate.
    pub fn der(&self) -> &[u8] {
        &self.issuer.certificate
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> String {
        der::pem("CERTIFICATE", self.der())
    }

    /// The certificates above it as PEM.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|certificate| der::pem("CERTIFICATE", certificate)).collect()
    }

    /// The private key.
    pub fn key(&self) -> &Key {
        &self.issuer.key
    }
}

type Edit<'a> = Box<dyn Fn(&mut CertificateSpec) + 'a>;

/// A leaf that is being made; [`LeafBuilder::issue`] makes it.
pub struct LeafBuilder<'a> {
    authority: &'a Authority,
    claims: Claims,
    key: Key,
    issuer: Issuer,
    chain: Vec<Vec<u8>>,
    not_before: i64,
    not_after: i64,
    purposes: Vec<String>,
    ca: bool,
    sct: Sct,
    edits: Vec<Edit<'a>>,
    late: Vec<Extension>,
}

impl fmt::Debug for LeafBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeafBuilder({:?}, {:?})", self.claims.san(), self.sct)
    }
}

impl<'a> LeafBuilder<'a> {
    pub(super) fn new(authority: &'a Authority, claims: Claims, now: i64) -> Self {
        Self {
            authority,
            key: Key::p256(&format!("leaf of {}", claims.san())),
            claims,
            issuer: authority.intermediate.clone(),
            chain: vec![authority.intermediate.certificate.clone(), authority.root.certificate.clone()],
            not_before: now,
            not_after: now + LIFETIME,
            purposes: vec![oid::CODE_SIGNING.into()],
            ca: false,
            sct: Sct::Good,
            edits: Vec::new(),
            late: Vec::new(),
        }
    }

    /// Certifies this key.
    pub fn key(mut self, key: &Key) -> Self {
        self.key = key.clone();
        self
    }

    /// Issued at this second, for ten minutes.
    pub fn at(self, now: i64) -> Self {
        self.valid(now, now + LIFETIME)
    }

    /// Valid from and to these seconds, both included.
    pub fn valid(mut self, not_before: i64, not_after: i64) -> Self {
        self.not_before = not_before;
        self.not_after = not_after;
        self
    }

    /// How the embedded certificate timestamp is.
    pub fn sct(mut self, sct: Sct) -> Self {
        self.sct = sct;
        self
    }

    /// Other extended key usages; none: no such extension.
    pub fn purposes(mut self, purposes: &[&str]) -> Self {
        self.purposes = purposes.iter().map(|&purpose| purpose.into()).collect();
        self
    }

    /// `CA:TRUE`.
    pub fn certificate_authority(mut self) -> Self {
        self.ca = true;
        self
    }

    /// Issued by somebody else, with the certificates above the leaf, nearest first.
    pub fn issued_by(mut self, issuer: &Issuer, chain: &[&[u8]]) -> Self {
        self.issuer = issuer.clone();
        self.chain = chain.iter().map(|&certificate| certificate.to_vec()).collect();
        self
    }

    /// Issued by another leaf, which is no certificate authority (attack C02).
    pub fn issued_by_leaf(self, leaf: &Leaf) -> Self {
        let chain: Vec<&[u8]> =
            std::iter::once(leaf.der()).chain(leaf.chain.iter().map(Vec::as_slice)).collect();
        self.issued_by(&leaf.issuer, &chain)
    }

    /// Keeps the issuer and shows other certificates above the leaf.
    pub fn chain(mut self, chain: &[&[u8]]) -> Self {
        self.chain = chain.iter().map(|&certificate| certificate.to_vec()).collect();
        self
    }

    /// Signed by its own key, with everything else as it should be (attack C01).
    pub fn self_signed(mut self) -> Self {
        self.issuer = Issuer { key: self.key.clone(), ..self.issuer };
        self
    }

    /// Adds an extension, a duplicate for example; the certificate timestamp covers it.
    pub fn extension(self, extension: Extension) -> Self {
        self.edit(move |spec| spec.extensions.push(extension.clone()))
    }

    /// Writes a claim's raw bytes in place of a good UTF8String, by the last arc (attack C18).
    pub fn raw_claim(self, arc: u8, value: &[u8]) -> Self {
        let (oid, value) = (format!("{}.{arc}", oid::FULCIO), value.to_vec());
        self.edit(move |spec| {
            spec.extensions.retain(|extension| extension.oid != oid);
            spec.extensions.push(Extension::new(&oid, value.clone()));
        })
    }

    /// Changes anything before the timestamp and the certificate are signed.
    pub fn edit(mut self, edit: impl Fn(&mut CertificateSpec) + 'a) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// Adds an extension after the certificate timestamp was signed, so that only the timestamp is wrong.
    pub fn extension_after_sct(mut self, extension: Extension) -> Self {
        self.late.push(extension);
        self
    }

    /// The certificate.
    pub fn issue(self) -> Leaf {
        let mut extensions = vec![Extension::key_usage(false)];
        if !self.purposes.is_empty() {
            let purposes: Vec<&str> = self.purposes.iter().map(String::as_str).collect();
            extensions.push(Extension::extended_key_usage(false, &purposes));
        }
        if self.ca {
            extensions.push(Extension::basic_constraints(true, None));
        }
        extensions.extend([subject_key_id(&self.key), self.issuer.authority_key_id()]);
        extensions.extend(self.claims.extensions());
        let mut spec = CertificateSpec {
            serial: Vec::new(),
            subject: der::sequence(&[]),
            spki: self.key.spki_der().to_vec(),
            not_before: self.not_before,
            not_after: self.not_after,
            extensions,
        };
        for edit in &self.edits {
            edit(&mut spec);
        }
        let sct = self.authority.ct.extension(&spec, &self.issuer, self.sct, self.not_before);
        spec.extensions.extend(sct);
        spec.extensions.extend(self.late);
        Leaf {
            issuer: Issuer {
                issued_by: self.issuer.subject.clone(),
                subject: spec.subject.clone(),
                serial: spec.serial_number(),
                certificate: spec.sign(&self.issuer),
                key: self.key,
            },
            claims: self.claims,
            not_before: spec.not_before,
            not_after: spec.not_after,
            chain: self.chain,
        }
    }
}
