//! Signed notes (C2SP signed-note) with Ed25519.
//!
//! A note is a text that ends in a newline, an empty line, and signature lines
//! `— <name> <base64(key id || signature)>`. Keys come from the caller; none is made here.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

/// The signature type byte of Ed25519 (signed-note).
const ED25519_TYPE: u8 = 0x01;
/// The most bytes of a note, as in the Go implementation of the format.
pub const MAX_NOTE: usize = 1_000_000;
/// The most signature lines of a note, as in the Go implementation of the format.
pub const MAX_SIGNATURES: usize = 100;
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Why a key or a note is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A key name is not empty and holds no space and no plus sign.
    #[error("`{0}` is not a key name: it must hold neither spaces nor `+`")]
    KeyName(String),
    /// Not a private key that we can use.
    #[error("the private key is not Ed25519")]
    PrivateKey,
    /// Not `<name>+<key id>+<base64 of type and key>` for Ed25519.
    #[error("this is not an Ed25519 verifier key")]
    VerifierKey,
    /// The key id in a verifier key is not the one of its name and key.
    #[error("the verifier key says key id {claimed}, its name and key give {computed}")]
    KeyId {
        /// The key id as written.
        claimed: String,
        /// The key id as computed.
        computed: String,
    },
    /// A note text ends in a newline and has no other control characters.
    #[error("a note's text ends in a newline and holds no control characters")]
    Text,
    /// The note is larger than [`MAX_NOTE`] or has more than [`MAX_SIGNATURES`] signature lines.
    #[error("the note is too large")]
    TooLarge,
    /// Text, empty line and signature lines are not laid out as signed-note says.
    #[error("the note is malformed")]
    Malformed,
    /// A key that we know made no such signature.
    #[error("the signature of {0} does not verify")]
    BadSignature(String),
    /// One key, two lines.
    #[error("the note carries two signatures of {0}")]
    Duplicate(String),
    /// No line is of a key that we know.
    #[error("no known key signed the note")]
    NoKnownSignature,
}

/// A private key and the name under which it signs.
pub struct Signer {
    name: String,
    key: Ed25519KeyPair,
}

/// A public key and its name.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: [u8; 32],
}

/// A note of which at least one signature verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The signed text, with its final newline.
    pub text: String,
    /// The keys whose signatures verified.
    pub signers: Vec<Verifier>,
}

impl Signer {
    /// A signer from a PKCS#8 document (version 1 or 2).
    pub fn from_pkcs8(name: &str, pkcs8: &[u8]) -> Result<Self, NoteError> {
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| NoteError::PrivateKey)?;
        Ok(Self { name: key_name(name)?, key })
    }

    /// A signer from the 32 secret bytes of RFC 8032.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::PrivateKey)?;
        Ok(Self { name: key_name(name)?, key })
    }

    /// The name under which it signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public part.
    pub fn verifier(&self) -> Verifier {
        let mut key = [0; 32];
        key.copy_from_slice(self.key.public_key().as_ref());
        Verifier { name: self.name.clone(), key }
    }

    /// The note of `text`: text, empty line, one signature line.
    pub fn sign(&self, text: &str) -> Result<String, NoteError> {
        check_text(text)?;
        let mut signature = self.verifier().key_id().to_vec();
        signature.extend_from_slice(self.key.sign(text.as_bytes()).as_ref());
        Ok(format!("{text}\n{SIGNATURE_PREFIX}{} {}\n", self.name, STANDARD.encode(signature)))
    }
}

impl Verifier {
    /// A verifier from a raw Ed25519 public key.
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, NoteError> {
        Ok(Self { name: key_name(name)?, key })
    }

    /// The name under which the key signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The raw Ed25519 public key.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The first four bytes of SHA-256(name || "\n" || 0x01 || key).
    pub fn key_id(&self) -> [u8; 4] {
        let [a, b, c, d, ..]: [u8; 32] = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519_TYPE])
            .chain_update(self.key)
            .finalize()
            .into();
        [a, b, c, d]
    }

    fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.key).verify(text.as_bytes(), signature).is_ok()
    }
}

/// Opens a note: every line of a key among `known` must verify, and there must be one; others are ignored.
pub fn open(note: &str, known: &[Verifier]) -> Result<Opened, NoteError> {
    if note.len() > MAX_NOTE {
        return Err(NoteError::TooLarge);
    }
    // The last empty line ends the text: the text itself may hold empty lines.
    let middle = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
    let (text, signatures) = (&note[..=middle], &note[middle + 2..]);
    check_text(text)?;
    let lines = signatures.strip_suffix('\n').ok_or(NoteError::Malformed)?;
    let mut signers: Vec<Verifier> = Vec::new();
    for (count, line) in lines.split('\n').enumerate() {
        if count == MAX_SIGNATURES {
            return Err(NoteError::TooLarge);
        }
        let (name, key_id, signature) = signature_line(line)?;
        let Some(verifier) = known.iter().find(|key| key.name == name && key.key_id() == key_id) else {
            continue;
        };
        // A second line of one key could hide a bad signature behind a good one.
        if signers.contains(verifier) {
            return Err(NoteError::Duplicate(verifier.name.clone()));
        }
        if !verifier.verifies(text, &signature) {
            return Err(NoteError::BadSignature(verifier.name.clone()));
        }
        signers.push(verifier.clone());
    }
    if signers.is_empty() {
        return Err(NoteError::NoKnownSignature);
    }
    Ok(Opened { text: text.to_owned(), signers })
}

/// Name, key id and signature of one signature line.
fn signature_line(line: &str) -> Result<(&str, [u8; 4], Vec<u8>), NoteError> {
    let (name, base64) = line
        .strip_prefix(SIGNATURE_PREFIX)
        .and_then(|rest| rest.split_once(' '))
        .ok_or(NoteError::Malformed)?;
    key_name(name).map_err(|_| NoteError::Malformed)?;
    let bytes = STANDARD.decode(base64).map_err(|_| NoteError::Malformed)?;
    match bytes.split_first_chunk::<4>() {
        Some((key_id, signature)) if !signature.is_empty() => Ok((name, *key_id, signature.to_vec())),
        _ => Err(NoteError::Malformed),
    }
}

fn key_name(name: &str) -> Result<String, NoteError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.contains(bad) {
        return Err(NoteError::KeyName(name.to_owned()));
    }
    Ok(name.to_owned())
}

fn check_text(text: &str) -> Result<(), NoteError> {
    let control = text.bytes().any(|b| b < 0x20 && b != b'\n');
    if control || !text.ends_with('\n') || text.len() > MAX_NOTE { Err(NoteError::Text) } else { Ok(()) }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = vec![ED25519_TYPE];
        typed.extend(self.key);
        write!(f, "{}+{}+{}", self.name, hex::encode(self.key_id()), STANDARD.encode(typed))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier())
    }
}

impl FromStr for Verifier {
    type Err = NoteError;
    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(claimed), Some(base64)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::VerifierKey);
        };
        let typed = STANDARD.decode(base64).map_err(|_| NoteError::VerifierKey)?;
        let Some((&ED25519_TYPE, key)) = typed.split_first() else {
            return Err(NoteError::VerifierKey);
        };
        let verifier = Self::new(name, key.try_into().map_err(|_| NoteError::VerifierKey)?)?;
        let computed = hex::encode(verifier.key_id());
        if claimed == computed {
            Ok(verifier)
        } else {
            Err(NoteError::KeyId { claimed: claimed.to_owned(), computed })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example key and note of the signed-note format.
    const NEUMANN: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NEUMANN_SEED: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const SIGNATURE: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn signer(name: &str, byte: u8) -> Signer {
        Signer::from_seed(name, &[byte; 32]).unwrap()
    }

    #[test]
    fn the_published_example_verifies_and_is_reproduced() {
        let verifier: Verifier = NEUMANN.parse().unwrap();
        assert_eq!(verifier.to_string(), NEUMANN);
        let note = format!("{TEXT}\n{SIGNATURE}");
        assert_eq!(open(&note, std::slice::from_ref(&verifier)).unwrap().text, TEXT);

        let typed_seed = STANDARD.decode(NEUMANN_SEED).unwrap();
        let signer = Signer::from_seed("PeterNeumann", typed_seed[1..].try_into().unwrap()).unwrap();
        assert_eq!(signer.verifier(), verifier);
        assert_eq!(signer.sign(TEXT).unwrap(), note);
    }

    #[test]
    fn a_pkcs8_key_signs_as_its_seed_does() {
        // RFC 8410 section 7: the version 1 document is a fixed prefix and the seed.
        let mut pkcs8 = hex::decode("302e020100300506032b657004220420").unwrap();
        pkcs8.extend([9; 32]);
        let from_pkcs8 = Signer::from_pkcs8("log", &pkcs8).unwrap();
        assert_eq!(from_pkcs8.verifier(), signer("log", 9).verifier());
        assert_eq!(Signer::from_pkcs8("log", &pkcs8[1..]).err(), Some(NoteError::PrivateKey));
    }

    #[test]
    fn unknown_signatures_are_ignored_but_never_enough() {
        let (ours, other) = (signer("log.example/a", 1), signer("witness", 2));
        let note = ours.sign("hello\n").unwrap();
        let witness_line = other.sign("hello\n").unwrap().lines().last().unwrap().to_owned();
        let cosigned = format!("{note}{witness_line}\n");
        assert_eq!(open(&cosigned, &[ours.verifier()]).unwrap().signers, [ours.verifier()]);
        assert_eq!(open(&cosigned, &[ours.verifier(), other.verifier()]).unwrap().signers.len(), 2);
        assert_eq!(open(&cosigned, &[signer("third", 3).verifier()]), Err(NoteError::NoKnownSignature));
        assert_eq!(open(&note, &[]), Err(NoteError::NoKnownSignature));
        // The same name with another key is another signer.
        assert_eq!(open(&note, &[signer("log.example/a", 5).verifier()]), Err(NoteError::NoKnownSignature));
    }

    #[test]
    fn a_changed_text_or_signature_of_a_known_key_is_refused() {
        let ours = signer("log", 1);
        let note = ours.sign("size 5\n").unwrap();
        let known = [ours.verifier()];
        assert!(open(&note, &known).is_ok());
        let bad = Err(NoteError::BadSignature("log".to_owned()));
        assert_eq!(open(&note.replace("size 5", "size 6"), &known), bad);
        // A bad line of a known key is not excused by a good one of another.
        let other = signer("other", 2);
        let bad_line = other.sign("size 6\n").unwrap().lines().last().unwrap().to_owned();
        let both = [ours.verifier(), other.verifier()];
        assert_eq!(
            open(&format!("{note}{bad_line}\n"), &both),
            Err(NoteError::BadSignature("other".to_owned()))
        );
    }

    #[test]
    fn a_second_line_of_one_key_is_refused() {
        let ours = signer("log", 1);
        let note = ours.sign("a\n").unwrap();
        let line = note.lines().last().unwrap();
        let twice = format!("{note}{line}\n");
        assert_eq!(open(&twice, &[ours.verifier()]), Err(NoteError::Duplicate("log".to_owned())));
    }

    #[test]
    fn malformed_notes_are_refused() {
        let ours = signer("log", 1);
        let known = [ours.verifier()];
        let note = ours.sign("a\n").unwrap();
        let line = note.lines().last().unwrap();
        for bad in [
            String::new(),
            "a\n".to_owned(),
            "a\n\n".to_owned(),
            note.trim_end().to_owned(),
            format!("{note}\n"),
            format!("{note}junk\n"),
            note.replace('\u{2014}', "-"),
            note.replace("\u{2014} log ", "\u{2014} l+g "),
            note.replace("\u{2014} log ", "\u{2014} log  "),
            note.replace("\u{2014} log ", "\u{2014}  "),
            format!("a\n\n{line}="),
            "a\n\n\u{2014} log AAAAAA==\n".to_owned(),
            format!("a\r\n\n{line}\n"),
        ] {
            let found = open(&bad, &known);
            assert!(matches!(found, Err(NoteError::Malformed | NoteError::Text)), "{bad:?} gives {found:?}");
        }
    }

    #[test]
    fn notes_have_limits() {
        let ours = signer("log", 1);
        let known = [ours.verifier()];
        let note = ours.sign("a\n").unwrap();
        let other = signer("x", 2).sign("a\n").unwrap();
        let line = format!("{}\n", other.lines().last().unwrap());
        assert!(open(&format!("{note}{}", line.repeat(MAX_SIGNATURES - 1)), &known).is_ok());
        assert_eq!(open(&format!("{note}{}", line.repeat(MAX_SIGNATURES)), &known), Err(NoteError::TooLarge));
        assert_eq!(open(&"a".repeat(MAX_NOTE + 1), &known), Err(NoteError::TooLarge));
    }

    #[test]
    fn names_and_verifier_keys_are_exact() {
        for name in ["", "a b", "a+b", "a\nb", "a\u{a0}b", "a\tb"] {
            assert_eq!(Verifier::new(name, [0; 32]), Err(NoteError::KeyName(name.to_owned())));
        }
        let text = signer("log", 1).verifier().to_string();
        assert!(text.parse::<Verifier>().is_ok());
        assert!(matches!(text.replacen("log", "lag", 1).parse::<Verifier>(), Err(NoteError::KeyId { .. })));
        for bad in ["log", "log+00000000", "log+00000000+", "log+00000000+AA==", "log+00000000+AgAA"] {
            assert_eq!(bad.parse::<Verifier>(), Err(NoteError::VerifierKey), "{bad}");
        }
        assert!(ours_text_is_checked("no newline"));
        assert!(ours_text_is_checked("tab\there\n"));
    }

    fn ours_text_is_checked(text: &str) -> bool {
        signer("log", 1).sign(text) == Err(NoteError::Text)
    }
}
