//! A timestamp authority (RFC 3161) with its own chain.

use super::{
    Window,
    cms::SignedData,
    x509::{Extension, Issuer, name, oid},
};
use crate::{der, key::Key, sha256_hex};

const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";
const SIGNING_CERTIFICATE_V2: &str = "1.2.840.113549.1.9.16.2.47";

/// A timestamp authority.
#[derive(Debug, Clone)]
pub struct Tsa {
    /// The root of its chain.
    pub root: Issuer,
    /// Who signs tokens: a leaf with a critical `timeStamping` usage.
    pub leaf: Issuer,
    /// When the trusted root says that it may be believed.
    pub window: Window,
}

/// A token before it is signed.
#[derive(Debug, Clone)]
pub struct Token {
    /// The bytes whose SHA-256 is the message imprint: normally a signature.
    pub message: Vec<u8>,
    /// The imprint itself, where the message is not known.
    pub imprint: Option<Vec<u8>>,
    /// `genTime`.
    pub time: i64,
    /// Who signs and which certificates are in the bag.
    pub signer: Issuer,
    /// The certificates in the bag.
    pub certificates: Vec<Vec<u8>>,
    /// The key that really signs.
    pub key: Key,
    /// Signed over another content than the one shown.
    pub message_digest: Option<Vec<u8>>,
    /// A `ContentInfo` without the response around it.
    pub bare: bool,
    /// `PKIStatus`: 0 is granted.
    pub status: u8,
}

impl Token {
    /// The token, in a response unless it is bare.
    pub fn to_der(&self) -> Vec<u8> {
        let sha256 = der::sequence(&[&der::oid("2.16.840.1.101.3.4.2.1")]);
        let hashed = || hex::decode(sha256_hex(&self.message)).expect("it is hex");
        let imprint = self.imprint.clone().unwrap_or_else(hashed);
        let info = der::sequence(&[
            &der::integer(&[1]),
            &der::oid("1.3.6.1.4.1.57264.2"),
            &der::sequence(&[&sha256, &der::octets(&imprint)]),
            &der::integer(&imprint[..8]),
            &der::generalized_time(self.time),
        ]);
        let certificate = hex::decode(sha256_hex(&self.signer.certificate)).expect("it is hex");
        let mut data = SignedData::new(TST_INFO, &info, &self.signer);
        data.key = self.key.clone();
        data.certificates = self.certificates.clone();
        data.message_digest = self.message_digest.clone();
        data.signed = vec![(
            SIGNING_CERTIFICATE_V2.into(),
            der::sequence(&[&der::sequence(&[&der::sequence(&[&der::octets(&certificate)])])]),
        )];
        let token = data.to_der();
        match self.bare {
            true => token,
            false => der::sequence(&[&der::sequence(&[&der::integer(&[self.status])]), &token]),
        }
    }
}

impl Tsa {
    /// An authority whose certificates hold for the window (ten years, if it has no end).
    pub fn new(label: &str, window: Window) -> Self {
        let end = window.end_or_ten_years();
        let root = Issuer::root(
            Key::p256(&format!("tsa root {label}")),
            name(label, "timestamp root"),
            window.start,
            end,
        );
        let leaf = Self::signer(&root, label, window.start, end, &[oid::TIME_STAMPING], true);
        Self { root, leaf, window }
    }

    /// Another signer under a root: with other usages, or without them being critical.
    pub fn signer(
        root: &Issuer,
        label: &str,
        not_before: i64,
        not_after: i64,
        purposes: &[&str],
        critical: bool,
    ) -> Issuer {
        let mut extensions = vec![Extension::key_usage(false), Extension::basic_constraints(false, None)];
        if !purposes.is_empty() {
            extensions.push(Extension::extended_key_usage(critical, purposes));
        }
        let key = Key::p256(&format!("tsa signer {label}"));
        root.certify(&key, name(label, "timestamp signer"), not_before, not_after, extensions)
    }

    /// The same authority with another signer.
    pub fn with_leaf(mut self, leaf: Issuer) -> Self {
        self.leaf = leaf;
        self
    }

    /// The same authority with another window in the trusted root.
    pub fn with_window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// A good token, to be changed before [`Token::to_der`].
    pub fn token(&self, message: &[u8], time: i64) -> Token {
        Token {
            message: message.to_vec(),
            imprint: None,
            time,
            signer: self.leaf.clone(),
            certificates: vec![self.leaf.certificate.clone()],
            key: self.leaf.key.clone(),
            message_digest: None,
            bare: false,
            status: 0,
        }
    }
}
