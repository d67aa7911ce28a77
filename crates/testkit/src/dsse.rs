//! DSSE envelopes with every part in reach, so that a test can damage any of them.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::key::Key;

/// The payload type of in-toto statements.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Which base64 an envelope is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Alphabet {
    /// RFC 4648 section 4, padded.
    #[default]
    Standard,
    /// RFC 4648 section 4, unpadded.
    StandardNoPad,
    /// RFC 4648 section 5, padded.
    UrlSafe,
    /// RFC 4648 section 5, unpadded.
    UrlSafeNoPad,
}

impl Alphabet {
    /// Bytes to text.
    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Standard => STANDARD.encode(bytes),
            Self::StandardNoPad => STANDARD_NO_PAD.encode(bytes),
            Self::UrlSafe => URL_SAFE.encode(bytes),
            Self::UrlSafeNoPad => URL_SAFE_NO_PAD.encode(bytes),
        }
    }
}

/// One entry of `signatures`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The hint: honest, absent or lying.
    pub keyid: Option<String>,
    /// The signature's bytes.
    pub sig: Vec<u8>,
}

/// An envelope that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// `payloadType`.
    pub payload_type: String,
    /// The payload's bytes.
    pub payload: Vec<u8>,
    /// `signatures`, in order.
    pub signatures: Vec<Signature>,
    /// How bytes are spelled.
    pub alphabet: Alphabet,
}

/// An envelope with one signature and an honest `keyid`, as JSON.
pub fn envelope(key: &Key, payload_type: &str, payload: impl AsRef<[u8]>) -> String {
    Envelope::new(payload_type, payload).signed_by(key).to_json()
}

/// The pre-authentication encoding: what is signed.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

impl Envelope {
    /// An envelope without signatures.
    pub fn new(payload_type: &str, payload: impl AsRef<[u8]>) -> Self {
        Self {
            payload_type: payload_type.into(),
            payload: payload.as_ref().to_vec(),
            signatures: Vec::new(),
            alphabet: Alphabet::Standard,
        }
    }

    /// An envelope around an in-toto statement's text, without signatures.
    pub fn statement(text: impl AsRef<[u8]>) -> Self {
        Self::new(IN_TOTO, text)
    }

    /// What a signer signs.
    pub fn pae(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }

    fn signed(mut self, key: &Key, keyid: Option<String>) -> Self {
        let sig = key.sign(&self.pae());
        self.signatures.push(Signature { keyid, sig });
        self
    }

    /// Adds a signature with the key's true id.
    pub fn signed_by(self, key: &Key) -> Self {
        let id = key.id();
        self.signed(key, Some(id))
    }

    /// Adds a signature without `keyid`.
    pub fn signed_without_keyid(self, key: &Key) -> Self {
        self.signed(key, None)
    }

    /// Adds a good signature under any `keyid`, a lie for example.
    pub fn signed_as(self, key: &Key, keyid: &str) -> Self {
        self.signed(key, Some(keyid.into()))
    }

    /// Adds bytes that nobody signed.
    pub fn with_signature(mut self, keyid: Option<&str>, sig: impl AsRef<[u8]>) -> Self {
        self.signatures.push(Signature { keyid: keyid.map(Into::into), sig: sig.as_ref().to_vec() });
        self
    }

    /// Chooses the alphabet.
    pub fn alphabet(mut self, alphabet: Alphabet) -> Self {
        self.alphabet = alphabet;
        self
    }

    /// Flips one bit of the payload, after signing.
    pub fn flip_payload_bit(mut self, bit: usize) -> Self {
        self.payload[bit / 8] ^= 1 << (bit % 8);
        self
    }

    /// Flips one bit of a signature.
    pub fn flip_signature_bit(mut self, signature: usize, bit: usize) -> Self {
        self.signatures[signature].sig[bit / 8] ^= 1 << (bit % 8);
        self
    }

    /// The envelope as a JSON value.
    pub fn to_value(&self) -> Value {
        let signatures: Vec<Value> = self
            .signatures
            .iter()
            .map(|signature| {
                let sig = self.alphabet.encode(&signature.sig);
                match &signature.keyid {
                    Some(keyid) => json!({"keyid": keyid, "sig": sig}),
                    None => json!({"sig": sig}),
                }
            })
            .collect();
        json!({"payloadType": self.payload_type, "payload": self.alphabet.encode(&self.payload), "signatures": signatures})
    }

    /// The envelope's text.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    /// The envelope's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_json().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pae_is_the_vector_of_the_dsse_specification() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn an_envelope_holds_what_it_was_given() {
        let key = Key::ed25519("a");
        let value = Envelope::statement("{}")
            .signed_by(&key)
            .signed_without_keyid(&key)
            .signed_as(&key, "lie")
            .to_value();
        assert_eq!(value["payload"], "e30=");
        assert_eq!(value["signatures"][0]["keyid"], key.id());
        assert!(value["signatures"][1].get("keyid").is_none());
        assert_eq!(value["signatures"][2]["keyid"], "lie");
        assert_eq!(value["signatures"][0]["sig"], value["signatures"][2]["sig"]);
    }
}
