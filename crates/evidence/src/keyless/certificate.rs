//! The signing certificate: its one holder, its key, its path to an authority of the domain.

use std::time::Duration;

use aws_lc_rs::{
    digest as hash,
    signature::{ECDSA_P384_SHA256_ASN1, ParsedPublicKey},
};
use const_oid::{
    ObjectIdentifier,
    db::{
        rfc5280::{ID_CE_BASIC_CONSTRAINTS, ID_CE_KEY_USAGE},
        rfc5912::ID_KP_CODE_SIGNING,
        rfc6962::CT_PRECERT_SCTS,
    },
};
use der::{
    Decode as _, Encode as _, Reader as _, SliceReader, Tag, TagNumber, Tagged as _,
    asn1::{AnyRef, Utf8StringRef},
};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use sigstore_crypto::{SigningScheme, VerificationKey, WEBPKI_VERIFICATION_ALGS};
use sigstore_types::{DerPublicKey, SignatureBytes};
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::ext::pkix::{self, BasicConstraints, SubjectAltName, name::GeneralName};

use super::{Fault, Signed};
use crate::{
    digest::Digest,
    form::Content,
    key::{PublicKey, Scheme},
    signer::{AuthorityKind, Claims, Identity, SanKind, Voucher},
    trust_root::Domain,
};

/// The most bytes of one certificate.
const MAX_CERTIFICATE: usize = 32 * 1024;
/// The most certificates that a bundle brings.
const MAX_CHAIN: usize = 10;
/// The most bytes of the name and the issuer: they are looked up by.
const MAX_NAME: usize = 1024;

/// `[3]` of a certificate's signed part (RFC 5280 section 4.1).
const EXTENSIONS: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber::N3 };

const FULCIO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1");
const ISSUER_V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
const ISSUER_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
const OTHER_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");

/// A parsed signing certificate. Nothing in it is trusted before [`Certificate::path`].
pub struct Certificate {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
    spki: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A path that holds.
pub(super) struct Path {
    pub voucher: Voucher,
    /// SubjectPublicKeyInfo of whoever signed the leaf.
    pub issuer_spki: Vec<u8>,
}

impl Certificate {
    /// Reads a certificate strictly: DER, and no extension twice.
    pub fn read(der: &[u8]) -> Result<Self, Fault> {
        let malformed = |why: String| Fault::CertificateMalformed(why);
        if der.len() > MAX_CERTIFICATE {
            return Err(malformed(format!("it has {} bytes, the limit is {MAX_CERTIFICATE}", der.len())));
        }
        let parsed = x509_cert::Certificate::from_der(der).map_err(|e| malformed(e.to_string()))?;
        let tbs = &parsed.tbs_certificate;
        let extensions = tbs.extensions.as_deref().unwrap_or_default();
        for (position, extension) in extensions.iter().enumerate() {
            if extensions[..position].iter().any(|earlier| earlier.extn_id == extension.extn_id) {
                return Err(malformed(format!("the extension {} is there twice", extension.extn_id)));
            }
        }
        let constraints = extensions.iter().find(|e| e.extn_id == ID_CE_BASIC_CONSTRAINTS);
        if let Some(constraints) = constraints {
            let read = BasicConstraints::from_der(constraints.extn_value.as_bytes());
            if read.map_err(|e| malformed(e.to_string()))?.ca {
                return Err(malformed("an authority's certificate signs no evidence".into()));
            }
        }
        // Path building leaves the key usage to others (RFC 5280 section 4.2.1.3).
        if let Some(usage) = extensions.iter().find(|e| e.extn_id == ID_CE_KEY_USAGE) {
            let read = pkix::KeyUsage::from_der(usage.extn_value.as_bytes());
            if !read.map_err(|e| malformed(e.to_string()))?.digital_signature() {
                return Err(malformed("its key is not for digital signatures".into()));
            }
        }
        let spki = tbs.subject_public_key_info.to_der().map_err(|e| malformed(e.to_string()))?;
        let time = |time: x509_cert::time::Time| {
            let seconds = time.to_unix_duration().as_secs();
            i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok())
        };
        let out_of_range = || malformed("its validity is out of range".into());
        let not_before = time(tbs.validity.not_before).ok_or_else(out_of_range)?;
        let not_after = time(tbs.validity.not_after).ok_or_else(out_of_range)?;
        Ok(Self { der: der.to_vec(), spki, not_before, not_after, parsed })
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// notBefore.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// notAfter.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The list of certificate timestamps, as its extension holds it.
    pub(super) fn timestamps(&self) -> Option<&[u8]> {
        self.extension(CT_PRECERT_SCTS)
    }

    /// The signed part without the timestamps: what a log saw of it (RFC 6962 section 3.2). The bytes are those of the
    /// certificate, as what is written anew may differ from what was signed.
    pub(super) fn logged(&self) -> Result<Vec<u8>, der::Error> {
        let mut logged = Vec::with_capacity(self.der.len());
        let mut members = SliceReader::new(contents(contents(&self.der)?)?)?;
        while !members.is_finished() {
            let member = members.tlv_bytes()?;
            if AnyRef::from_der(member)?.tag() != EXTENSIONS {
                logged.extend_from_slice(member);
                continue;
            }
            let mut extensions = SliceReader::new(contents(contents(member)?)?)?;
            let mut kept = Vec::with_capacity(member.len());
            while !extensions.is_finished() {
                let extension = extensions.tlv_bytes()?;
                if SliceReader::new(contents(extension)?)?.decode::<ObjectIdentifier>()? != CT_PRECERT_SCTS {
                    kept.extend_from_slice(extension);
                }
            }
            logged.extend(wrap(EXTENSIONS, &wrap(Tag::Sequence, &kept)?)?);
        }
        wrap(Tag::Sequence, &logged)
    }

    /// Whether it was valid at `at`; both ends are inclusive (RFC 5280 section 4.1.2.5).
    pub(super) fn valid_at(&self, at: Timestamp) -> Result<(), Fault> {
        if self.not_before <= at && at <= self.not_after {
            return Ok(());
        }
        Err(Fault::CertificateTime { from: self.not_before, until: self.not_after, at })
    }

    /// Whether the names lead to an authority of the domain at all, so that a broken chain is told from a foreign one.
    pub(super) fn is_issued_in(&self, intermediates: &[Vec<u8>], domain: &Domain) -> Result<(), Fault> {
        let unknown = || Fault::UnknownAuthority { domain: domain.name().to_owned() };
        if intermediates.len() > MAX_CHAIN {
            return Err(Fault::CertificateMalformed(format!("it comes with more than {MAX_CHAIN} others")));
        }
        let mut issuer = self.parsed.tbs_certificate.issuer.to_der().unwrap_or_default();
        let mut chain: Vec<x509_cert::Certificate> =
            intermediates.iter().filter_map(|der| x509_cert::Certificate::from_der(der).ok()).collect();
        loop {
            if domain.authorities_named(&issuer).next().is_some() {
                return Ok(());
            }
            let next = chain.iter().position(|certificate| {
                certificate.tbs_certificate.subject.to_der().is_ok_and(|subject| subject == issuer)
            });
            // Each step takes one away, so this ends.
            let next = chain.swap_remove(next.ok_or_else(unknown)?);
            issuer = next.tbs_certificate.issuer.to_der().unwrap_or_default();
        }
    }

    /// The path to an authority that the domain trusted at `at`, for signing code.
    pub(super) fn path(
        &self,
        intermediates: &[Vec<u8>],
        domain: &Domain,
        at: Timestamp,
    ) -> Result<Path, Fault> {
        let chain = |why: String| Fault::Chain(why);
        let anchors: Vec<_> = domain.anchors_at(at).map(|(anchor, _)| anchor.clone()).collect();
        if anchors.is_empty() {
            return Err(chain(format!("no authority of `{}` was trusted at {at}", domain.name())));
        }
        let intermediates: Vec<_> =
            intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let der = CertificateDer::from(self.der.as_slice());
        let leaf = EndEntityCert::try_from(&der).map_err(|e| chain(e.to_string()))?;
        let seconds = u64::try_from(at.as_second()).map_err(|_| chain("it was signed before 1970".into()))?;
        let path = leaf
            .verify_for_usage(
                WEBPKI_VERIFICATION_ALGS,
                &anchors,
                &intermediates,
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                KeyUsage::required(ID_KP_CODE_SIGNING.as_bytes()),
                None,
                None,
            )
            .map_err(|e| chain(e.to_string()))?;
        // An anchor carries the inside of its SPKI only.
        let anchor_spki = wrap(Tag::Sequence, path.anchor().subject_public_key_info.as_ref());
        let anchor_spki = anchor_spki.map_err(|e| chain(e.to_string()))?;
        let issuer_spki = match path.intermediate_certificates().next() {
            Some(issuer) => issuer.subject_public_key_info().as_ref().to_vec(),
            None => anchor_spki.clone(),
        };
        let authority = domain
            .anchors_at(at)
            .find(|(anchor, _)| {
                anchor.subject == path.anchor().subject
                    && anchor.subject_public_key_info == path.anchor().subject_public_key_info
            })
            .map(|(_, id)| id)
            .ok_or_else(|| chain("the path ends nowhere".into()))?;
        let voucher = Voucher { kind: AuthorityKind::CertificateAuthority, authority, at };
        Ok(Path { voucher, issuer_spki })
    }

    /// Whether the certificate's key made the signature.
    pub(super) fn signed(&self, signed: &Signed<'_>) -> bool {
        let key = DerPublicKey::new(self.spki.clone());
        let Ok(key) = VerificationKey::from_spki(&key) else { return false };
        let bytes = signed.signature.bytes.as_slice();
        let signature = SignatureBytes::new(bytes.to_vec());
        // Some clients sign with SHA-256 under P-384 keys.
        let wide = (key.scheme() == SigningScheme::EcdsaP384Sha384)
            .then(|| ParsedPublicKey::new(&ECDSA_P384_SHA256_ASN1, &self.spki).ok())
            .flatten();
        // Witness signs with RSA-PSS; the certificate of an RSA key leaves the padding open.
        let pss = || PublicKey::from_spki(&self.spki, Some(Scheme::RsaPssSha256)).ok();
        match (&signed.message, signed.content) {
            (Some(message), _) => {
                key.verify(message, &signature).is_ok()
                    || wide.is_some_and(|key| key.verify_sig(message, bytes).is_ok())
                    || pss().is_some_and(|key| key.verify(message, bytes))
            }
            (None, Content::Digest(Digest::Sha256(digest))) if wide.is_some() => {
                let digest = hash::Digest::import_less_safe(digest, &hash::SHA256);
                wide.zip(digest.ok())
                    .is_some_and(|(key, digest)| key.verify_digest_sig(&digest, bytes).is_ok())
            }
            (None, Content::Digest(of)) => {
                let digest: &[u8] = match of {
                    Digest::Sha256(bytes) => bytes,
                    Digest::Sha384(bytes) => bytes,
                    Digest::Sha512(bytes) => bytes,
                };
                key.verify_prehashed(digest, &signature).is_ok()
                    || pss().is_some_and(|key| key.verify_prehashed(of, bytes))
            }
            _ => false,
        }
    }

    /// What the certificate says of its holder.
    pub(super) fn identity(&self, domain: &str) -> Result<Identity, Fault> {
        let malformed = |why: String| Fault::CertificateMalformed(why);
        let names = self.parsed.tbs_certificate.get::<SubjectAltName>();
        let names = names.map_err(|e| malformed(format!("subject alternative name: {e}")))?;
        let (san_kind, san) = match names.as_ref().map(|(_, names)| names.0.as_slice()) {
            Some([GeneralName::UniformResourceIdentifier(uri)]) => (SanKind::Uri, uri.to_string()),
            Some([GeneralName::Rfc822Name(email)]) => (SanKind::Email, email.to_string()),
            Some([GeneralName::DnsName(name)]) => (SanKind::Dns, name.to_string()),
            Some([GeneralName::OtherName(name)]) if name.type_id == OTHER_NAME => {
                let value = name.value.to_der().unwrap_or_default();
                let text = Utf8StringRef::from_der(&value).map_err(|e| malformed(e.to_string()))?;
                (SanKind::Other, text.to_string())
            }
            // Two names would leave open which of them signed.
            Some(names) => return Err(malformed(format!("it has {} usable names, not one", names.len()))),
            None => return Err(malformed("it names nobody (no subject alternative name)".into())),
        };
        let issuer = match (self.raw(ISSUER_V1)?, self.text(ISSUER_V2)?) {
            (Some(old), Some(new)) if old != new => {
                return Err(malformed(format!("two issuers: `{old}` and `{new}`")));
            }
            (old, new) => new.or(old),
        };
        if san.is_empty() || san.len() + issuer.as_ref().map_or(0, String::len) > MAX_NAME {
            return Err(malformed(format!("its name is empty, or longer than {MAX_NAME} bytes")));
        }
        // Programs that end a text at NUL read another name.
        if san.contains('\0') {
            return Err(malformed("its name holds NUL".into()));
        }
        Ok(Identity { domain: domain.to_owned(), san_kind, san, issuer, claims: self.claims()? })
    }

    fn claims(&self) -> Result<Claims, Fault> {
        let claim = |arc: u32| FULCIO.push_arc(arc).map_or(Ok(None), |oid| self.text(oid));
        let old = |arc: u32| FULCIO.push_arc(arc).map_or(Ok(None), |oid| self.raw(oid));
        // Certificates before 2023 have GitHub's claims in extensions of their own; where both are, they agree.
        let either = |new: u32, was: u32| match (claim(new)?, old(was)?) {
            (Some(new), Some(old)) if new != old => Err(Fault::CertificateMalformed(format!(
                "extensions {was} and {new} differ: `{old}`, `{new}`"
            ))),
            (new, old) => Ok(new.or(old)),
        };
        let repository = old(5)?.map(|name| format!("https://github.com/{name}"));
        let source_repository_uri = match (claim(12)?, repository) {
            (Some(new), Some(old)) if new != old => {
                return Err(Fault::CertificateMalformed(format!("two repositories: `{old}` and `{new}`")));
            }
            (new, old) => new.or(old),
        };
        Ok(Claims {
            build_signer_uri: claim(9)?,
            build_signer_digest: claim(10)?,
            runner_environment: claim(11)?,
            source_repository_uri,
            source_repository_digest: either(13, 3)?,
            source_repository_ref: either(14, 6)?,
            source_repository_id: claim(15)?,
            source_repository_owner_uri: claim(16)?,
            source_repository_owner_id: claim(17)?,
            build_config_uri: claim(18)?,
            build_config_digest: claim(19)?,
            build_trigger: either(20, 2)?,
            run_invocation_uri: claim(21)?,
            source_repository_visibility: claim(22)?,
            deployment_environment: claim(23)?,
        })
    }

    fn extension(&self, oid: ObjectIdentifier) -> Option<&[u8]> {
        let extensions = self.parsed.tbs_certificate.extensions.as_deref().unwrap_or_default();
        extensions.iter().find(|e| e.extn_id == oid).map(|e| e.extn_value.as_bytes())
    }

    /// Extensions .8 to .23: a DER UTF8String and nothing after it.
    fn text(&self, oid: ObjectIdentifier) -> Result<Option<String>, Fault> {
        let Some(value) = self.extension(oid) else { return Ok(None) };
        let text = Utf8StringRef::from_der(value)
            .map_err(|e| Fault::CertificateMalformed(format!("extension {oid}: {e}")))?;
        self.checked(oid, text.as_str())
    }

    /// Extensions .1 to .6: the text without DER around it.
    fn raw(&self, oid: ObjectIdentifier) -> Result<Option<String>, Fault> {
        let Some(value) = self.extension(oid) else { return Ok(None) };
        let text = std::str::from_utf8(value)
            .map_err(|e| Fault::CertificateMalformed(format!("extension {oid}: {e}")))?;
        self.checked(oid, text)
    }

    fn checked(&self, oid: ObjectIdentifier, text: &str) -> Result<Option<String>, Fault> {
        if text.len() > MAX_NAME || text.contains('\0') {
            return Err(Fault::CertificateMalformed(format!("extension {oid} is too long, or holds NUL")));
        }
        Ok(Some(text.to_owned()))
    }
}

/// The value of one DER object.
fn contents(der: &[u8]) -> Result<&[u8], der::Error> {
    Ok(SliceReader::new(der)?.decode::<AnyRef<'_>>()?.value())
}

/// One DER object of its contents.
fn wrap(tag: Tag, contents: &[u8]) -> Result<Vec<u8>, der::Error> {
    AnyRef::new(tag, contents)?.to_der()
}

#[cfg(test)]
mod tests {
    use catenary_testkit::authority::{Authority, Claims};

    use super::*;

    #[test]
    fn what_a_log_saw_is_the_signed_part_without_its_timestamps_byte_for_byte() {
        let claims = Claims::github("acme/app", ".github/workflows/release.yml", "refs/heads/main", "abc");
        let leaf = Authority::new("logged").leaf(&claims).issue();
        let certificate = Certificate::read(leaf.der()).unwrap();
        assert!(certificate.timestamps().is_some());
        let mut expected = certificate.parsed.tbs_certificate.clone();
        expected.extensions.as_mut().unwrap().retain(|e| e.extn_id != CT_PRECERT_SCTS);
        assert_eq!(certificate.logged().unwrap(), expected.to_der().unwrap());
    }
}
