//! A keyless signing world of its own: certificate authority, certificate transparency log, two transparency
//! logs and a timestamp authority, each with chosen validity windows.
//!
//! Everything it writes verifies under its [`Authority::trusted_root`]; a test then makes one thing wrong.
//!
//! ```
//! use catenary_testkit::authority::{Authority, Claims, Kind, Sct, Tamper, Version};
//!
//! let authority = Authority::new("acme");
//! let root = authority.trusted_root().to_json();
//!
//! // A run of GitHub Actions signs a statement, at `authority.now`.
//! let claims = Claims::github("acme/app", ".github/workflows/release.yml", "refs/heads/main", &"a".repeat(40));
//! let leaf = authority.leaf(&claims).issue();
//! let good = authority.attest(&leaf, r#"{"_type":"https://in-toto.io/Statement/v1"}"#);
//! let bundle: String = good.to_json();
//!
//! // Other shapes: formats, kinds of entry, timestamps.
//! let old = authority.attest(&leaf, "{}").version(Version::V01).entry(Kind::IntotoV2).to_json();
//! let new = authority.attest(&leaf, "{}").entry(Kind::HashedRekordV2).timestamp().to_json();
//!
//! // One thing wrong: a listed attack, a stage's hook, or a leaf that should not be.
//! let t06 = authority.attest(&leaf, "{}").tamper(Tamper::BackdatedIntegratedTime).to_json();
//! let other = authority.attest(&leaf, "{}").edit_entry(|entry| entry.log_index += 1).to_json();
//! let c27 = authority.attest(&authority.leaf(&claims).sct(Sct::Missing).issue(), "{}").to_json();
//! # assert!([root, bundle, old, new, t06, other, c27].iter().all(|text| text.starts_with('{')));
//! ```
//!
//! Keys follow from names, so the same name is the same authority; ECDSA signatures differ from run to run.
//! Its time is [`Authority::now`], noon on 2026-06-01 unless [`Authority::at`] says otherwise; its own
//! certificates and windows begin a year before.

//!
//! # Where each attack is
//!
//! | attack | how |
//! |---|---|
//! | E01 E02 E04 E06 E15 E17 E21 | [`Tamper`] |
//! | E09 E11 E12 | [`BundleBuilder::edit_envelope`] (key ids, alphabet), or the text of [`BundleBuilder::to_json`] |
//! | E14 | [`BundleBuilder::mirrored_signature`] |
//! | E18 | [`LeafBuilder::key`] with another scheme, [`BundleBuilder::signature`] |
//! | E23 | [`Authority::sign_blob`] |
//! | E27 | [`Token::certificates`] or [`SignedData::certificates`] emptied |
//! | C01 C02 C05 | [`LeafBuilder::self_signed`], [`LeafBuilder::issued_by_leaf`], [`LeafBuilder::valid`] or [`BundleBuilder::at`] |
//! | C04 C07 | [`Authority::other_intermediate`] with [`LeafBuilder::issued_by`] and [`TrustedRoot::only_roots`], or as [`Authority::intermediate`] |
//! | C09 C11 C13 C14 C15 C19 C21 C22 C24 C26 | [`Claims`] |
//! | C18 | [`LeafBuilder::raw_claim`], [`LeafBuilder::extension`] |
//! | C27 | [`Sct`] |
//! | T01 T02 T03 T06 T08 T09 T10 T12 T14 T17 T18 T26 T27 | [`Tamper`] |
//! | T15 | [`BundleBuilder::entries`] with two kinds |
//! | T20 | [`TrustedRoot::with_empty_tsa_chain`] |
//! | T21 | [`BundleBuilder::timestamp_by`] twice, with [`TrustedRoot::and_tsa`] |
//! | T24 | [`Authority::attest_with_key`] with [`BundleBuilder::timestamp_at`] |
//!
//! Older and other shapes: [`BundleBuilder::to_attachment`] (cosign's annotations), [`cosign::simple_signing`],
//! [`Authority::gitsign`]. Windows: [`TrustedRoot::ca_window`] and its siblings, [`TrustedRoot::wrong_for`].
//!
//! `tests/authority.rs` shows what an independent verifier makes of each, and what it lets through.

mod bundle;
mod claims;
mod cms;
pub mod cosign;
mod ct_log;
mod entry;
pub mod gitsign;
mod leaf;
pub mod merkle;
mod rekor;
mod tamper;
mod trusted_root;
mod tsa;
mod witness;
pub mod x509;

pub use bundle::{BundleBuilder, Content, Parts, Signer, Version};
pub use claims::{Claims, GITHUB_ISSUER, San};
pub use cms::SignedData;
pub use ct_log::{CtLog, Sct};
pub use entry::{Kind, Signed};
pub use leaf::{LIFETIME, Leaf, LeafBuilder};
pub use rekor::{Entry, Generation, Proof, Rekor, promised};
pub use tamper::{Tamper, mirrored};
pub use trusted_root::{MEDIA_TYPE, TrustedRoot, key_details};
pub use tsa::{Token, Tsa};
pub use witness::Witness;

use self::x509::{Issuer, name};
use crate::{key::Key, time::NOON};

const YEAR: i64 = 365 * 86_400;

/// When a key or chain may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First second.
    pub start: i64,
    /// Last second, if any.
    pub end: Option<i64>,
}

impl Window {
    /// From a second on.
    pub fn from(start: i64) -> Self {
        Self { start, end: None }
    }

    /// Between two seconds.
    pub fn between(start: i64, end: i64) -> Self {
        Self { start, end: Some(end) }
    }

    fn end_or_ten_years(self) -> i64 {
        self.end.unwrap_or(self.start + 10 * YEAR)
    }
}

/// The authority. Its parts are open, so that a test can exchange one.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Its name.
    pub name: String,
    /// When leaves are issued and things are signed, unless a test says otherwise.
    pub now: i64,
    /// The window of everything, at first.
    pub window: Window,
    /// The root certificate authority, P-384.
    pub root: Issuer,
    /// The one that issues leaves, P-384.
    pub intermediate: Issuer,
    /// The certificate transparency log.
    pub ct: CtLog,
    /// The v1 log of signatures.
    pub rekor: Rekor,
    /// The v2 log of signatures.
    pub rekor_v2: Rekor,
    /// The timestamp authority.
    pub tsa: Tsa,
}

impl Authority {
    /// The authority of that name, at noon on 2026-06-01.
    pub fn new(label: &str) -> Self {
        Self::at(label, NOON)
    }

    /// The authority of that name at another time.
    pub fn at(label: &str, now: i64) -> Self {
        let window = Window::from(now - YEAR);
        let end = window.end_or_ten_years();
        let root = Issuer::root(
            Key::p384(&format!("ca root {label}")),
            name(&format!("{label}.test"), "root"),
            window.start,
            end,
        );
        let intermediate = root.intermediate(
            &Key::p384(&format!("ca intermediate {label}")),
            name(&format!("{label}.test"), "intermediate"),
            window.start,
            end,
            Vec::new(),
        );
        Self {
            name: label.into(),
            now,
            window,
            root,
            intermediate,
            ct: CtLog::new(label),
            rekor: Rekor::v1(label, window),
            rekor_v2: Rekor::v2(label, window),
            tsa: Tsa::new(label, window),
        }
    }

    /// An intermediate of the same name and key with other extensions or another end, such as name
    /// constraints (attack C07) or an end before the signing time (attack C04).
    pub fn other_intermediate(&self, not_after: i64, more: Vec<x509::Extension>) -> Issuer {
        let Issuer { key, subject, .. } = &self.intermediate;
        self.root.intermediate(key, subject.clone(), self.window.start, not_after, more)
    }

    /// What a verifier is told to believe.
    pub fn trusted_root(&self) -> TrustedRoot {
        TrustedRoot::of(self)
    }

    /// The text of [`Authority::trusted_root`].
    pub fn trusted_root_json(&self) -> String {
        self.trusted_root().to_json()
    }

    /// A leaf certificate for these claims.
    pub fn leaf(&self, claims: &Claims) -> LeafBuilder<'_> {
        LeafBuilder::new(self, claims.clone(), self.now)
    }

    /// A bundle of a statement that a leaf signs.
    pub fn attest(&self, leaf: &Leaf, statement: &str) -> BundleBuilder<'_> {
        self.bundle(Signer::Leaf(Box::new(leaf.clone())), bundle::statement(statement))
    }

    /// A bundle of a statement that a managed key signs; the hint is the key's id.
    pub fn attest_with_key(&self, key: &Key, statement: &str) -> BundleBuilder<'_> {
        self.bundle(Signer::Key(key.clone(), key.id()), bundle::statement(statement))
    }

    /// A bundle of a file's signature.
    pub fn sign_blob(&self, leaf: &Leaf, file: &[u8]) -> BundleBuilder<'_> {
        self.bundle(Signer::Leaf(Box::new(leaf.clone())), Content::Message(file.to_vec()))
    }

    /// A bundle of anything by anybody.
    pub fn bundle(&self, signer: Signer, content: Content) -> BundleBuilder<'_> {
        BundleBuilder::new(self, signer, content)
    }
}
