//! X.509 signatures on git objects, as gitsign makes them: a detached CMS message (RFC 5652) by a Fulcio certificate, and
//! with `rekorMode=offline` the log entry inside.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cms::{content_info::ContentInfo, signed_data::SignedData};
use const_oid::{
    ObjectIdentifier,
    db::{
        rfc5911::{ID_CONTENT_TYPE, ID_DATA, ID_MESSAGE_DIGEST, ID_SIGNED_DATA},
        rfc5912::ID_SHA_256,
    },
};
use der::{Decode as _, Encode as _, asn1::OctetStringRef};

use crate::{
    digest::Sha256,
    form::{Content, InclusionProof, LogEntry, Material, Over, Unverified},
    keyless,
    refusal::Refusal,
    signer::Signature,
    trust::Trust,
    trust_root::Rules,
};

/// The most bytes of an armoured message.
const MAX_MESSAGE: usize = 256 * 1024;
/// The most certificates of a message.
const MAX_CERTIFICATES: usize = 10;

/// The unsigned attribute in which gitsign keeps the log entry, in protobuf.
const LOG_ENTRY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.3.1");
/// `id-aa-timeStampToken` (RFC 3161 appendix A).
const TIMESTAMP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.14");

/// Verifies `armour` over `message` in each trust domain.
///
/// A message that cannot be read, or by a certificate that no domain issued, vouches for nothing: `None`. One by a
/// certificate of a domain must verify in every part that it brings. It need not bring a log entry: then nothing trusted
/// says when it was signed, and the policy decides whether that is enough.
pub(super) fn verify(armour: &str, message: &[u8], trust: &Trust) -> Result<Option<Signature>, Refusal> {
    let Some(signed) = read(armour, message) else { return Ok(None) };
    let mut broken = None;
    let witnesses = trust.witnesses();
    for domain in trust.domains() {
        let rules = Rules { log: false, ..domain.rules() };
        match keyless::verify_with(&signed.content, &signed.signature, domain, rules, &witnesses) {
            Ok(_) if !signed.is_about_message => broken = broken.or(Some(keyless::Fault::Signature)),
            Ok(signature) => return Ok(Some(signature)),
            Err(fault) if fault.is_open() => {}
            Err(fault) => broken = broken.or(Some(fault)),
        }
    }
    match broken {
        Some(fault) => Err(Refusal::Certificate { position: 0, fault }),
        None => Ok(None),
    }
}

/// A message that was read.
struct Signed {
    /// What the key signed: the signed attributes.
    content: Content,
    signature: Unverified,
    /// Whether the attributes name the digest of the git object.
    is_about_message: bool,
}

fn read(armour: &str, message: &[u8]) -> Option<Signed> {
    if armour.len() > MAX_MESSAGE {
        return None;
    }
    let (label, der) = der::pem::decode_vec(armour.trim().as_bytes()).ok()?;
    if label != "SIGNED MESSAGE" {
        return None;
    }
    let info = ContentInfo::from_der(&der).ok()?;
    if info.content_type != ID_SIGNED_DATA {
        return None;
    }
    let data: SignedData = info.content.decode_as().ok()?;
    // Detached: the content is the git object, and nothing inside stands for it.
    if data.encap_content_info.econtent_type != ID_DATA || data.encap_content_info.econtent.is_some() {
        return None;
    }
    let [signer] = data.signer_infos.0.as_slice() else { return None };
    if signer.digest_alg.oid != ID_SHA_256 {
        return None;
    }
    // The attributes are signed as a SET OF, whatever tag they travel under (RFC 5652 section 5.4).
    let attributes = signer.signed_attrs.as_ref()?;
    let only = |oid: ObjectIdentifier| {
        let mut found = attributes.iter().filter(|attribute| attribute.oid == oid);
        let (found, None) = (found.next()?, found.next()) else { return None };
        let [value] = found.values.as_slice() else { return None };
        value.to_der().ok()
    };
    // What kind of content it is stands among what is signed, and must be what it is taken for (RFC 5652 section 5.3).
    if ObjectIdentifier::from_der(&only(ID_CONTENT_TYPE)?).ok()? != ID_DATA {
        return None;
    }
    let value = only(ID_MESSAGE_DIGEST)?;
    let digest = OctetStringRef::from_der(&value).ok()?;
    let is_about_message = digest.as_bytes() == Sha256::of(message).0;
    let content = attributes.to_der().ok()?;

    let bytes = signer.signature.as_bytes().to_vec();
    let certificates = certificates(&data, &signer.sid)?;
    let mut material = Material { certificates, ..Material::default() };
    for attribute in signer.unsigned_attrs.iter().flat_map(|attributes| attributes.iter()) {
        for value in attribute.values.iter() {
            let value = value.to_der().ok()?;
            match attribute.oid {
                LOG_ENTRY => {
                    let entry = OctetStringRef::from_der(&value).ok()?;
                    let leaf = material.certificates.first()?;
                    material.entries.push(log_entry(entry.as_bytes(), &content, &bytes, leaf)?);
                }
                TIMESTAMP => material.timestamps.push(value),
                _ => {}
            }
        }
    }
    let content = Content::Payload { payload_type: String::new(), bytes: content };
    let signature =
        Unverified { bytes, over: Over::Raw, keyid: None, material: Some(material), envelope: None };
    Some(Signed { content, signature, is_about_message })
}

/// The certificates of a message, the signer's first.
fn certificates(data: &SignedData, signer: &cms::signed_data::SignerIdentifier) -> Option<Vec<Vec<u8>>> {
    use cms::{cert::CertificateChoices, signed_data::SignerIdentifier};
    let all = data.certificates.as_ref()?.0.as_slice();
    if all.len() > MAX_CERTIFICATES {
        return None;
    }
    let mut found = Vec::new();
    for choice in all {
        let CertificateChoices::Certificate(certificate) = choice else { return None };
        let tbs = &certificate.tbs_certificate;
        let signs = match signer {
            SignerIdentifier::IssuerAndSerialNumber(id) => {
                tbs.issuer == id.issuer && tbs.serial_number == id.serial_number
            }
            SignerIdentifier::SubjectKeyIdentifier(_) => all.len() == 1,
        };
        let at = if signs { 0 } else { found.len() };
        found.insert(at, (signs, certificate.to_der().ok()?));
    }
    let signer_is_there = found.first()?.0;
    signer_is_there.then(|| found.into_iter().map(|(_, der)| der).collect())
}

/// A `TransparencyLogEntry` in protobuf. gitsign leaves the body out: it is made again as the log made it, so that it is
/// about this signature by construction, and only the log's word for it is to be verified.
fn log_entry(protobuf: &[u8], attributes: &[u8], signature: &[u8], leaf: &[u8]) -> Option<LogEntry> {
    let mut entry = LogEntry::default();
    for field in fields(protobuf)? {
        match field {
            Field::Number(1, n) => entry.log_index = i64::try_from(n).ok()?,
            Field::Bytes(2, inner) => entry.log_id = only(inner, 1)?.to_vec(),
            Field::Bytes(3, inner) => {
                let text = |number| std::str::from_utf8(only(inner, number)?).ok().map(str::to_owned);
                entry.kind_version = Some((text(1)?, text(2)?));
            }
            Field::Number(4, n) => entry.integrated_time = Some(i64::try_from(n).ok()?),
            Field::Bytes(5, inner) => entry.promise = Some(only(inner, 1)?.to_vec()),
            Field::Bytes(6, inner) => entry.proof = Some(inclusion_proof(inner)?),
            Field::Bytes(7, body) => entry.canonicalized_body = body.to_vec(),
            _ => {}
        }
    }
    if entry.canonicalized_body.is_empty() {
        let pem = pem("CERTIFICATE", leaf);
        let body = format!(
            r#"{{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{{"data":{{"hash":{{"algorithm":"sha256","value":"{}"}}}},"signature":{{"content":"{}","publicKey":{{"content":"{}"}}}}}}}}"#,
            Sha256::of(attributes).to_hex(),
            STANDARD.encode(signature),
            STANDARD.encode(pem),
        );
        entry.canonicalized_body = body.into_bytes();
    }
    Some(entry)
}

fn inclusion_proof(protobuf: &[u8]) -> Option<InclusionProof> {
    let mut proof = InclusionProof::default();
    for field in fields(protobuf)? {
        match field {
            Field::Number(1, n) => proof.log_index = i64::try_from(n).ok()?,
            Field::Bytes(2, root) => proof.root = root.to_vec(),
            Field::Number(3, n) => proof.tree_size = i64::try_from(n).ok()?,
            Field::Bytes(4, hash) => proof.hashes.push(hash.to_vec()),
            Field::Bytes(5, inner) => {
                proof.checkpoint = Some(std::str::from_utf8(only(inner, 1)?).ok()?.to_owned());
            }
            _ => {}
        }
    }
    Some(proof)
}

/// PEM as Go and OpenSSL write it: 64 columns and a newline at the end.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

/// A field of a protobuf message, with its number.
enum Field<'a> {
    Number(u64, u64),
    Bytes(u64, &'a [u8]),
}

/// The fields of a message; `None` when it is malformed.
fn fields(mut rest: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (key, after) = varint(rest)?;
        let (field, after) = match key & 7 {
            0 => {
                let (value, after) = varint(after)?;
                (Field::Number(key >> 3, value), after)
            }
            2 => {
                let (length, after) = varint(after)?;
                let (bytes, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                (Field::Bytes(key >> 3, bytes), after)
            }
            _ => return None,
        };
        fields.push(field);
        rest = after;
    }
    Some(fields)
}

/// The bytes of the only field with this number.
fn only(message: &[u8], number: u64) -> Option<&[u8]> {
    let mut found = fields(message)?.into_iter().filter_map(|field| match field {
        Field::Bytes(n, bytes) if n == number => Some(bytes),
        _ => None,
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(at).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}
