//! DSSE envelopes (secure-systems-lab/dsse, `envelope.md` and `protocol.md`): form and PAE.
//!
//! Which signature was made by whom is decided in [`crate::attestation::verify`].

use base64::{
    Engine as _,
    alphabet::{Alphabet, STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;

use crate::{
    json,
    limits::{MAX_KEYID, MAX_SIGNATURE, MAX_SIGNATURES},
    refusal::Refusal,
};

/// The payload type of in-toto statements.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Pre-authentication encoding: what is signed.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

/// An envelope whose form was checked, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What the payload is.
    pub payload_type: String,
    /// The decoded payload: the exact bytes that were signed.
    pub payload: Vec<u8>,
    /// At least one.
    pub signatures: Vec<Signature>,
}

/// One signature of an envelope, unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// `keyid`: a hint of the sender; empty is none.
    pub keyid: Option<String>,
    /// The decoded signature.
    pub bytes: Vec<u8>,
}

/// The envelope on the wire. Members that the specification does not know are refused: a sender who
/// writes `"verified": true` must not believe that it said something.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wire {
    pub(crate) payload: String,
    #[serde(rename = "payloadType")]
    pub(crate) payload_type: String,
    pub(crate) signatures: Vec<WireSignature>,
}

/// A signature on the wire. Here other members are ignored, as the specification asks: Docker adds `extension`, witness
/// `certificate` and `timestamps`, and a key's signature is as good with them.
#[derive(Debug, Deserialize)]
pub(crate) struct WireSignature {
    #[serde(default)]
    pub(crate) keyid: Option<String>,
    pub(crate) sig: String,
}

impl Envelope {
    /// Reads one envelope from strict JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let text = json::check(bytes).map_err(Refusal::Json)?;
        Self::from_wire(json::read(text).map_err(Refusal::Json)?, "")
    }

    /// Checks an envelope that lies at `pointer` of the submission.
    pub(crate) fn from_wire(wire: Wire, pointer: &str) -> Result<Self, Refusal> {
        if wire.signatures.is_empty() {
            return Err(Refusal::Unsigned);
        }
        within("signatures", wire.signatures.len(), MAX_SIGNATURES)?;
        let payload = decode(&wire.payload, || format!("{pointer}/payload"))?;
        let mut signatures = Vec::with_capacity(wire.signatures.len());
        for (position, signature) in wire.signatures.into_iter().enumerate() {
            let bytes = decode(&signature.sig, || format!("{pointer}/signatures/{position}/sig"))?;
            if bytes.is_empty() {
                return Err(Refusal::Unsigned);
            }
            if bytes.len() > MAX_SIGNATURE {
                return Err(Refusal::TooLarge {
                    what: "a signature",
                    size: bytes.len(),
                    limit: MAX_SIGNATURE,
                });
            }
            let keyid = signature.keyid.filter(|keyid| !keyid.is_empty());
            if let Some(size) = keyid.as_ref().map(String::len).filter(|size| *size > MAX_KEYID) {
                return Err(Refusal::TooLarge { what: "a keyid", size, limit: MAX_KEYID });
            }
            signatures.push(Signature { keyid, bytes });
        }
        Ok(Self { payload_type: wire.payload_type, payload, signatures })
    }

    /// What the signatures sign.
    pub fn message(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }
}

pub(crate) fn within(what: &'static str, count: usize, limit: usize) -> Result<(), Refusal> {
    if count > limit { Err(Refusal::TooMany { what, count, limit }) } else { Ok(()) }
}

/// `application/vnd.in-toto+json` or `application/vnd.in-toto.<predicate>+json` (statement specification v1.2).
/// The predicate type is read from the statement, never from here.
pub fn is_in_toto(payload_type: &str) -> bool {
    let Some(middle) =
        payload_type.strip_prefix("application/vnd.in-toto").and_then(|rest| rest.strip_suffix("+json"))
    else {
        return false;
    };
    let Some(name) = middle.strip_prefix('.') else { return middle.is_empty() };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    !name.is_empty() && name.len() <= 127 && name.bytes().all(plain)
}

/// Decodes base64 as the DSSE specification asks: either alphabet, padded or not. Nothing else is accepted, so
/// that two decoders cannot see two payloads: mixed alphabets, white space, half padding, stray bits (E11).
pub fn decode(text: &str, pointer: impl Fn() -> String) -> Result<Vec<u8>, Refusal> {
    let refuse = |why| Refusal::Encoding { pointer: pointer(), why };
    let (mut standard, mut url_safe, mut padded) = (false, false, false);
    for byte in text.bytes() {
        standard |= matches!(byte, b'+' | b'/');
        url_safe |= matches!(byte, b'-' | b'_');
        padded |= byte == b'=';
    }
    if standard && url_safe {
        return Err(refuse("it mixes the standard and the URL-safe alphabet"));
    }
    if padded && !text.len().is_multiple_of(4) {
        return Err(refuse("it is padded by half"));
    }
    let engine = if url_safe { &URL_SAFE_ENGINE } else { &STANDARD_ENGINE };
    engine.decode(text).map_err(|_| refuse("a character, the length or the last bits are wrong"))
}

static STANDARD_ENGINE: GeneralPurpose = engine(&STANDARD);
static URL_SAFE_ENGINE: GeneralPurpose = engine(&URL_SAFE);

const fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(false);
    GeneralPurpose::new(alphabet, config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(payload: &str, sig: &str) -> Result<Envelope, Refusal> {
        let text = format!(
            r#"{{"payloadType":"{PAYLOAD_TYPE}","payload":"{payload}","signatures":[{{"sig":"{sig}"}}]}}"#
        );
        Envelope::parse(text.as_bytes())
    }

    #[test]
    fn pae_is_what_the_specification_prints() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    }

    #[test]
    fn both_alphabets_are_read_padded_or_not() {
        for payload in ["-_-_", "+/+/"] {
            assert_eq!(envelope(payload, "AAAA").unwrap().payload, [0xfb, 0xff, 0xbf]);
        }
        for payload in ["YQ==", "YQ"] {
            assert_eq!(envelope(payload, "AAAA").unwrap().payload, b"a");
        }
    }

    #[test]
    fn e11_mixed_alphabets_white_space_and_stray_bits_are_refused() {
        for payload in ["+_+_", "YW\\nJj", "YW Jj", "YQ=", "YR==", "YR", "Y", "YQ==YQ==", "====", "=YQ="] {
            let refusal = envelope(payload, "AAAA").unwrap_err();
            assert_eq!(refusal.code(), "ATT_MALFORMED", "{payload}");
            assert_eq!(refusal.pointer(), Some("/payload"), "{payload}");
        }
        assert_eq!(envelope("YWJj", "AA A").unwrap_err().pointer(), Some("/signatures/0/sig"));
    }

    #[test]
    fn e02_only_in_toto_payload_types_are_read() {
        for good in [PAYLOAD_TYPE, "application/vnd.in-toto.provenance+json"] {
            assert!(is_in_toto(good), "{good}");
        }
        for bad in [
            "application/json",
            "application/vnd.in-toto",
            "application/vnd.in-toto.+json",
            "application/vnd.in-toto-evil+json",
            "application/vnd.in-toto+json ",
            "Application/vnd.in-toto+json",
            "application/vnd.in-toto.a b+json",
        ] {
            assert!(!is_in_toto(bad), "{bad}");
        }
    }

    #[test]
    fn e04_an_empty_signature_list_is_refused() {
        let text = format!(r#"{{"payloadType":"{PAYLOAD_TYPE}","payload":"e30=","signatures":[]}}"#);
        assert_eq!(Envelope::parse(text.as_bytes()).unwrap_err(), Refusal::Unsigned);
        assert_eq!(envelope("e30=", "").unwrap_err(), Refusal::Unsigned);
    }

    #[test]
    fn signatures_are_limited_at_32_and_one_over_is_refused() {
        let with = |n: usize| {
            let list = vec![r#"{"sig":"AAAA"}"#; n].join(",");
            Envelope::parse(
                format!(r#"{{"payloadType":"{PAYLOAD_TYPE}","payload":"e30=","signatures":[{list}]}}"#)
                    .as_bytes(),
            )
        };
        assert!(with(MAX_SIGNATURES).is_ok());
        assert!(matches!(with(MAX_SIGNATURES + 1), Err(Refusal::TooMany { count: 33, .. })));
    }

    #[test]
    fn h47_trust_fields_in_an_envelope_are_refused() {
        for extra in [r#""verified":true"#, r#""trust_level":"high""#, r#""tenant_id":"other""#] {
            let text = format!(
                r#"{{"payloadType":"{PAYLOAD_TYPE}","payload":"e30=","signatures":[{{"sig":"AAAA"}}],{extra}}}"#
            );
            assert_eq!(Envelope::parse(text.as_bytes()).unwrap_err().code(), "ATT_MALFORMED", "{extra}");
        }
    }
}
