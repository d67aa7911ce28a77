//! Certificate ("keyless") signatures: who held the certificate, when it signed, and what proves both.
//!
//! One trust domain at a time, in this order: trusted times, certificate, certificate timestamp, signature,
//! transparency log and its witnesses. Whatever a bundle brings must verify, asked for or not; what it lacks is forgiven only by the
//! domain's [`Rules`](crate::trust_root::Rules). Nothing here reads a clock: a time in the future is for the chain to
//! see, which knows when the evidence was received.

mod certificate;
mod checkpoint;
mod entry;
mod log;
mod sct;
mod timestamp;

use std::{borrow::Cow, collections::BTreeSet};

use jiff::Timestamp;

use crate::{
    digest::Digest,
    form::{Content, Material, Over, Unverified},
    signer::{AuthorityKind, Logged, Signature, Signer, Voucher},
    trust_root::{Domain, Rules},
    witness::{Cosignature, Witnesses},
};

pub use certificate::Certificate;

/// Why a certificate signature is not verified in a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The domain's authorities did not issue the certificate.
    #[error("no certificate authority of `{domain}` issued the certificate")]
    UnknownAuthority {
        /// The domain.
        domain: String,
    },
    /// A log that the domain does not know.
    #[error("the log {log} is not one of `{domain}`")]
    UnknownLog {
        /// Hex of its id.
        log: String,
        /// The domain.
        domain: String,
    },
    /// The domain demands a log entry.
    #[error("there is no transparency log entry, which `{domain}` demands")]
    NoLogEntry {
        /// The domain.
        domain: String,
    },
    /// The domain demands a certificate timestamp.
    #[error("the certificate has no signed certificate timestamp, which `{domain}` demands")]
    NoSct {
        /// The domain.
        domain: String,
    },
    /// Nothing trusted says when it was signed.
    #[error("nothing that `{domain}` trusts says when it was signed")]
    NoTime {
        /// The domain.
        domain: String,
    },
    /// Entries of fewer logs than the domain demands: several entries of one log are one.
    #[error("the entries are of {found} log(s), trust domain `{domain}` wants {wanted}")]
    FewLogs {
        /// The trust domain.
        domain: String,
        /// How many it wants.
        wanted: u8,
        /// How many there are.
        found: usize,
    },
    /// Not a certificate, or one that says two things.
    #[error("the certificate is malformed: {0}")]
    CertificateMalformed(String),
    /// No path to the domain's authorities holds.
    #[error("the certificate's chain does not hold: {0}")]
    Chain(String),
    /// It was not valid when it signed.
    #[error("the certificate was valid from {from} until {until}, and signed at {at}")]
    CertificateTime {
        /// notBefore.
        from: Timestamp,
        /// notAfter.
        until: Timestamp,
        /// A trusted signing time.
        at: Timestamp,
    },
    /// The certificate timestamp does not hold.
    #[error("the signed certificate timestamp does not hold: {0}")]
    Sct(String),
    /// The signature does not verify under the certificate.
    #[error("the certificate's key did not make this signature")]
    Signature,
    /// The log entry is malformed.
    #[error("log entry {position} is malformed: {why}")]
    EntryMalformed {
        /// Which entry, from 0.
        position: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The log entry is about something else.
    #[error("log entry {position} is about another {what}")]
    EntryMismatch {
        /// Which entry, from 0.
        position: usize,
        /// What differs.
        what: &'static str,
    },
    /// The log's promise does not verify.
    #[error("the signed entry timestamp of log entry {position} does not verify: {why}")]
    Promise {
        /// Which entry, from 0.
        position: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The inclusion proof does not lead to the checkpoint's root.
    #[error("the inclusion proof of log entry {position} does not hold: {why}")]
    Proof {
        /// Which entry, from 0.
        position: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The checkpoint is not signed by the log.
    #[error("the checkpoint of log entry {position} does not hold: {why}")]
    Checkpoint {
        /// Which entry, from 0.
        position: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A timestamp that is not over this signature, or not by the authority that it names.
    #[error("timestamp {position} does not hold: {why}")]
    Timestamp {
        /// Which timestamp, from 0.
        position: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl Fault {
    /// Whether something is missing or unknown, so that another domain, or trust that is added later, may verify it.
    /// Everything else is broken evidence.
    pub fn is_open(&self) -> bool {
        matches!(
            self,
            Self::UnknownAuthority { .. }
                | Self::UnknownLog { .. }
                | Self::NoLogEntry { .. }
                | Self::NoSct { .. }
                | Self::NoTime { .. }
        )
    }

    /// The stable code of the API.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownAuthority { .. } => "ATT_CERT_CHAIN_UNTRUSTED",
            Self::UnknownLog { .. } => "ATT_TLOG_INVALID",
            Self::NoLogEntry { .. } => "ATT_TLOG_MISSING",
            Self::FewLogs { .. } => "ATT_WITNESS_QUORUM",
            Self::NoSct { .. } => "ATT_SCT_MISSING",
            Self::NoTime { .. } => "ATT_TIMESTAMP_MISSING",
            Self::CertificateMalformed(_) => "ATT_MALFORMED",
            Self::Chain(_) => "ATT_CERT_CHAIN_UNTRUSTED",
            Self::CertificateTime { .. } => "ATT_CERT_EXPIRED_AT_SIGNING",
            Self::Sct(_) => "ATT_SCT_INVALID",
            Self::Signature => "ATT_SIGNATURE_INVALID",
            Self::EntryMalformed { .. } => "ATT_TLOG_INVALID",
            Self::EntryMismatch { .. } => "ATT_TLOG_BODY_MISMATCH",
            Self::Promise { .. } => "ATT_TLOG_INVALID",
            Self::Proof { .. } => "ATT_TLOG_INVALID",
            Self::Checkpoint { .. } => "ATT_TLOG_CHECKPOINT",
            Self::Timestamp { .. } => "ATT_TIMESTAMP_INVALID",
        }
    }
}

/// A signature, and what its log entries must be about.
pub(crate) struct Signed<'a> {
    pub content: &'a Content,
    pub signature: &'a Unverified,
    /// The bytes that were signed; nothing when only their digest is known.
    pub message: Option<Cow<'a, [u8]>>,
}

impl<'a> Signed<'a> {
    pub fn new(content: &'a Content, signature: &'a Unverified) -> Self {
        let message = match (content, signature.over) {
            (Content::Payload { payload_type, bytes }, Over::Pae) => {
                Some(Cow::Owned(crate::dsse::pae(payload_type, bytes)))
            }
            (Content::Payload { bytes, .. }, Over::Raw) | (Content::Artifact { bytes, .. }, Over::Digest) => {
                Some(Cow::Borrowed(bytes.as_slice()))
            }
            _ => None,
        };
        Self { content, signature, message }
    }

    /// Whether this is the digest of what was signed.
    pub fn has(&self, digest: &Digest) -> bool {
        match (&self.message, self.content) {
            (Some(message), _) => digest.recompute(message) == *digest,
            (None, Content::Digest(known)) => known == digest,
            (None, _) => false,
        }
    }
}

/// Verifies one certificate signature in one trust domain. Cosignatures are by `witnesses` of any domain.
pub fn verify(
    content: &Content,
    unverified: &Unverified,
    domain: &Domain,
    witnesses: &[&Witnesses],
) -> Result<Signature, Fault> {
    verify_with(content, unverified, domain, domain.rules(), witnesses)
}

/// The same with other demands: a form that never carries a log entry cannot be asked for one.
pub(crate) fn verify_with(
    content: &Content,
    unverified: &Unverified,
    domain: &Domain,
    rules: Rules,
    witnesses: &[&Witnesses],
) -> Result<Signature, Fault> {
    let empty = Material::default();
    let material = unverified.material.as_ref().unwrap_or(&empty);
    let leaf = material.certificates.first().map(Vec::as_slice).unwrap_or_default();
    let certificate = Certificate::read(leaf)?;
    // An authority that nobody knows makes everything else unknown too, and nothing broken.
    certificate.is_issued_in(&material.certificates[1..], domain)?;

    let signed = Signed::new(content, unverified);
    let key = entry::Key::Certificate { der: leaf, spki: certificate.spki() };
    let proven = prove(&signed, material, &key, domain, witnesses)?;

    let mut vouchers = proven.vouchers;
    let moments = if proven.times.is_empty() { vec![certificate.not_before()] } else { proven.times.clone() };
    let mut issuer = None;
    for at in moments {
        certificate.valid_at(at)?;
        let path = certificate.path(&material.certificates[1..], domain, at)?;
        vouchers.push(path.voucher);
        issuer = Some(path.issuer_spki);
    }
    let issuer = issuer.unwrap_or_default();
    match sct::verify(&certificate, &issuer, domain)? {
        Some(voucher) => vouchers.push(voucher),
        None if rules.sct => return Err(Fault::NoSct { domain: domain.name().to_owned() }),
        None => {}
    }
    if !certificate.signed(&signed) {
        return Err(Fault::Signature);
    }
    if rules.log && proven.logged == Logged::No {
        return Err(Fault::NoLogEntry { domain: domain.name().to_owned() });
    }
    let logs: BTreeSet<_> =
        vouchers.iter().filter(|v| v.kind == AuthorityKind::Log).map(|v| v.authority).collect();
    if rules.log && logs.len() < usize::from(rules.logs) {
        let (domain, wanted) = (domain.name().to_owned(), rules.logs);
        return Err(Fault::FewLogs { domain, wanted, found: logs.len() });
    }
    let signed_before = proven.times.iter().min().copied();
    if rules.log && signed_before.is_none() {
        return Err(Fault::NoTime { domain: domain.name().to_owned() });
    }
    vouchers.sort();
    vouchers.dedup();
    Ok(Signature {
        signer: Signer::Certificate(Box::new(certificate.identity(domain.name())?)),
        signed_after: Some(certificate.not_before()),
        signed_before,
        expires: Some(certificate.not_after()),
        logged: proven.logged,
        vouchers,
        cosigned: proven.cosigned,
    })
}

/// What logs and timestamp authorities prove of a signature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proven {
    /// Every trusted time.
    pub times: Vec<Timestamp>,
    /// The best proof of a log.
    pub logged: Logged,
    /// Who says so.
    pub vouchers: Vec<Voucher>,
    /// Which witnesses saw the logs' checkpoints.
    pub cosigned: Vec<Cosignature>,
}

/// Verifies log entries and timestamps of a signature by a bare key, in one trust domain. Entries of logs that the
/// domain does not know prove nothing.
pub fn prove_key(
    content: &Content,
    unverified: &Unverified,
    spki: &[u8],
    domain: &Domain,
    witnesses: &[&Witnesses],
) -> Result<Proven, Fault> {
    let Some(material) = &unverified.material else { return Ok(Proven::default()) };
    let signed = Signed::new(content, unverified);
    prove(&signed, material, &entry::Key::Bare { spki }, domain, witnesses)
}

/// Whether each log entry that comes with a signature by a bare key is about it, whatever its log's word is worth.
pub(crate) fn entries_are_about(
    content: &Content,
    unverified: &Unverified,
    spki: &[u8],
) -> Result<(), Fault> {
    let Some(material) = &unverified.material else { return Ok(()) };
    let (signed, key) = (Signed::new(content, unverified), entry::Key::Bare { spki });
    let mut entries = material.entries.iter().enumerate();
    entries.try_for_each(|(position, found)| entry::verify(position, found, &signed, &key))
}

fn prove(
    signed: &Signed<'_>,
    material: &Material,
    key: &entry::Key<'_>,
    domain: &Domain,
    witnesses: &[&Witnesses],
) -> Result<Proven, Fault> {
    let mut proven = Proven::default();
    let mut witnessed = Vec::new();
    for (position, token) in material.timestamps.iter().enumerate() {
        let found = timestamp::verify(position, token, &signed.signature.bytes, domain)?;
        if let Some((time, voucher)) = found {
            proven.times.push(time);
            proven.vouchers.push(voucher);
        }
    }
    for (position, found) in material.entries.iter().enumerate() {
        entry::verify(position, found, signed, key)?;
        let logged = log::verify(position, found, domain, witnesses)?;
        let of_log = |own: &Witnesses| own.since(&logged.voucher.authority, &logged.cosigned);
        witnessed.extend(domain.witnesses().and_then(of_log));
        proven.cosigned.extend(logged.cosigned);
        proven.logged = proven.logged.max(logged.logged);
        proven.times.extend(logged.time);
        proven.vouchers.push(logged.voucher);
    }
    proven.cosigned.sort();
    proven.cosigned.dedup();
    // Whoever cosigns a checkpoint late says nothing new of an entry that has an earlier time.
    let earliest = proven.times.iter().min();
    let sooner = witnessed.into_iter().min().filter(|(at, _)| earliest.is_none_or(|known| at < known));
    if let Some((at, ids)) = sooner {
        proven.times.push(at);
        let voucher = |authority| Voucher { kind: AuthorityKind::Witness, authority, at };
        proven.vouchers.extend(ids.into_iter().map(voucher));
    }
    // A log key is needed for the moment of signing, which only a trusted time tells.
    let moment = proven.times.iter().min().copied();
    if let Some(at) = moment {
        for (position, entry) in material.entries.iter().enumerate() {
            if domain.log(&entry.log_id).is_some_and(|log| !log.window.contains(at)) {
                let why = format!("the log's key was not trusted at {at}");
                return Err(Fault::Checkpoint { position, why });
            }
        }
    }
    for voucher in &mut proven.vouchers {
        if voucher.at == Timestamp::UNIX_EPOCH {
            voucher.at = moment.unwrap_or(Timestamp::UNIX_EPOCH);
        }
    }
    Ok(proven)
}
