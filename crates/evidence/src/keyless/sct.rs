//! The signed certificate timestamp inside a certificate (RFC 6962 section 3).

use der::{Decode as _, asn1::OctetStringRef};
use jiff::Timestamp;
use sigstore_crypto::SigningScheme;

use super::{Certificate, Fault};
use crate::{
    digest::Sha256,
    signer::{AuthorityKind, Voucher},
    trust_root::Domain,
};

/// Verifies the one timestamp; `None` when the certificate has none. One by a log that the domain does not know, or that
/// is about another certificate, is refused.
pub(super) fn verify(
    certificate: &Certificate,
    issuer_spki: &[u8],
    domain: &Domain,
) -> Result<Option<Voucher>, Fault> {
    let bad = |why: &str| Fault::Sct(why.to_owned());
    let Some(list) = certificate.timestamps() else { return Ok(None) };
    if domain.ct_logs().is_empty() && !domain.rules().sct {
        return Ok(None);
    }
    let list = OctetStringRef::from_der(list).map_err(|_| bad("the list is not an octet string"))?;
    let sct = Sct::only(list.as_bytes()).ok_or_else(|| bad("there is not exactly one, well-formed"))?;
    let log = domain.ct_log(&sct.log_id).ok_or_else(|| bad("by a log that the domain does not know"))?;
    let at = i64::try_from(sct.timestamp).ok().and_then(|t| Timestamp::from_millisecond(t).ok());
    let at = at.ok_or_else(|| bad("its time is out of range"))?;
    if !log.window.contains(at) {
        return Err(bad("the log's key was not trusted then"));
    }
    let logged = certificate.logged().map_err(|_| bad("the certificate cannot be taken apart"))?;
    let message = sct.message(issuer_spki, &logged).ok_or_else(|| bad("the certificate is too long"))?;
    let scheme = sct.scheme().ok_or_else(|| bad("an unknown signature algorithm"))?;
    let signed = log.signed(scheme, &message, sct.signature);
    if !signed.ok_or_else(|| bad("not the algorithm of the log's key"))? {
        return Err(bad("the log signed another certificate"));
    }
    Ok(Some(Voucher { kind: AuthorityKind::CtLog, authority: log.authority, at }))
}

/// A signed certificate timestamp, version 1.
struct Sct<'a> {
    log_id: [u8; 32],
    timestamp: u64,
    extensions: &'a [u8],
    algorithm: [u8; 2],
    signature: &'a [u8],
}

impl<'a> Sct<'a> {
    /// The only one of a list.
    fn only(list: &'a [u8]) -> Option<Self> {
        let (list, rest) = vector(list)?;
        let (sct, more) = vector(list)?;
        if !rest.is_empty() || !more.is_empty() {
            return None;
        }
        let (version, sct) = sct.split_first()?;
        let (log_id, sct) = sct.split_first_chunk::<32>()?;
        let (timestamp, sct) = sct.split_first_chunk::<8>()?;
        let (extensions, sct) = vector(sct)?;
        let (algorithm, sct) = sct.split_first_chunk::<2>()?;
        let (signature, sct) = vector(sct)?;
        let timestamp = u64::from_be_bytes(*timestamp);
        (*version == 0 && sct.is_empty()).then_some(Self {
            log_id: *log_id,
            timestamp,
            extensions,
            algorithm: *algorithm,
            signature,
        })
    }

    /// `hash`, `signature` of RFC 5246 section 7.4.1.4.1.
    fn scheme(&self) -> Option<SigningScheme> {
        Some(match self.algorithm {
            [4, 3] => SigningScheme::EcdsaP256Sha256,
            [5, 3] => SigningScheme::EcdsaP384Sha384,
            [4, 1] => SigningScheme::RsaPkcs1Sha256,
            [5, 1] => SigningScheme::RsaPkcs1Sha384,
            [6, 1] => SigningScheme::RsaPkcs1Sha512,
            _ => return None,
        })
    }

    /// The `digitally-signed` struct of RFC 6962 section 3.2 for a precertificate.
    fn message(&self, issuer_spki: &[u8], tbs: &[u8]) -> Option<Vec<u8>> {
        let length = u32::try_from(tbs.len()).ok().filter(|length| *length < 1 << 24)?.to_be_bytes();
        let extensions = u16::try_from(self.extensions.len()).ok()?.to_be_bytes();
        let mut message = vec![0, 0];
        message.extend_from_slice(&self.timestamp.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message.extend_from_slice(&Sha256::of(issuer_spki).0);
        message.extend_from_slice(&length[1..]);
        message.extend_from_slice(tbs);
        message.extend_from_slice(&extensions);
        message.extend_from_slice(self.extensions);
        Some(message)
    }
}

/// A TLS vector with a length of two bytes, and what follows.
fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
