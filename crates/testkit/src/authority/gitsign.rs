//! Commits and tags signed as gitsign signs them: a detached CMS message in PEM, with or without the log entry.

use std::fmt;

use super::{
    Authority,
    cms::SignedData,
    entry::{Kind, Signed},
    leaf::Leaf,
    rekor::Entry,
};
use crate::der;

const DATA: &str = "1.2.840.113549.1.7.1";
const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";
const TIMESTAMP_TOKEN: &str = "1.2.840.113549.1.9.16.2.14";

/// The unsigned attribute that holds a log entry in protobuf.
pub const LOG_ENTRY: &str = "1.3.6.1.4.1.57264.3.1";

/// The PEM label.
pub const LABEL: &str = "SIGNED MESSAGE";

type Hook<'a, T> = Box<dyn Fn(&mut T) + 'a>;

/// A signature over a git object that is being made.
pub struct Gitsign<'a> {
    authority: &'a Authority,
    leaf: Leaf,
    payload: Vec<u8>,
    time: i64,
    offline: bool,
    timestamp: bool,
    message: Vec<Hook<'a, SignedData>>,
    entry: Vec<Hook<'a, Entry>>,
}

impl fmt::Debug for Gitsign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gitsign({:?}, offline {})", self.leaf.claims.san(), self.offline)
    }
}

impl Authority {
    /// A signature over an object's content (`Commit::unsigned`), with the log entry inside.
    pub fn gitsign(&self, leaf: &Leaf, payload: &[u8]) -> Gitsign<'_> {
        Gitsign {
            authority: self,
            time: leaf.not_before + 5,
            leaf: leaf.clone(),
            payload: payload.to_vec(),
            offline: true,
            timestamp: false,
            message: Vec::new(),
            entry: Vec::new(),
        }
    }
}

impl<'a> Gitsign<'a> {
    /// When the log takes the entry in.
    pub fn at(mut self, time: i64) -> Self {
        self.time = time;
        self
    }

    /// Leaves the log entry out, as gitsign does by default.
    pub fn online(mut self) -> Self {
        self.offline = false;
        self
    }

    /// Adds a timestamp over the signature, bare as CMS wants it.
    pub fn timestamp(mut self) -> Self {
        self.timestamp = true;
        self
    }

    /// Changes the message before it is signed and logged.
    pub fn edit_message(mut self, edit: impl Fn(&mut SignedData) + 'a) -> Self {
        self.message.push(Box::new(edit));
        self
    }

    /// Changes the log entry before it is attached.
    pub fn edit_entry(mut self, edit: impl Fn(&mut Entry) + 'a) -> Self {
        self.entry.push(Box::new(edit));
        self
    }

    /// The message.
    pub fn to_der(&self) -> Vec<u8> {
        let mut message = SignedData::new(DATA, &self.payload, &self.leaf.issuer);
        message.detached = true;
        message.version = 1;
        message.signed = vec![(SIGNING_TIME.into(), der::time(self.time))];
        self.message.iter().for_each(|edit| edit(&mut message));
        // What is logged is the signed attributes, for they are what is signed.
        let attributes = message.attributes();
        let signature = message.key.sign(&attributes);
        if self.offline {
            let signed = Signed {
                message: attributes,
                signature: signature.clone(),
                envelope: None,
                certificate: Some(self.leaf.der().to_vec()),
                key: message.key.clone(),
            };
            let body = signed.body(Kind::HashedRekordV1).to_string();
            let mut entry = self.authority.rekor.log("hashedrekord", "0.0.1", body.as_bytes(), self.time);
            // Verifiers make the body anew.
            entry.body.clear();
            self.entry.iter().for_each(|edit| edit(&mut entry));
            message.unsigned.push((LOG_ENTRY.into(), der::octets(&entry.to_protobuf())));
        }
        if self.timestamp {
            let mut token = self.authority.tsa.token(&signature, self.time);
            token.bare = true;
            message.unsigned.push((TIMESTAMP_TOKEN.into(), token.to_der()));
        }
        message.to_der_with(&signature)
    }

    /// The armour that stands in a commit's `gpgsig` or below a tag.
    pub fn to_armour(&self) -> String {
        der::pem(LABEL, &self.to_der())
    }
}

impl Entry {
    /// `dev.sigstore.rekor.v1.TransparencyLogEntry` in protobuf; an empty body is left out.
    pub fn to_protobuf(&self) -> Vec<u8> {
        let kind = [bytes(1, self.kind.as_bytes()), bytes(2, self.version.as_bytes())].concat();
        let mut out =
            [number(1, self.log_index), bytes(2, &bytes(1, &self.log_id)), bytes(3, &kind)].concat();
        if let Some(time) = self.integrated_time {
            out.extend(number(4, time.cast_unsigned()));
        }
        if let Some(promise) = &self.promise {
            out.extend(bytes(5, &bytes(1, promise)));
        }
        if let Some(proof) = &self.proof {
            let mut inside = [number(1, proof.index), bytes(2, &proof.root), number(3, proof.size)].concat();
            proof.hashes.iter().for_each(|hash| inside.extend(bytes(4, hash)));
            inside.extend(bytes(5, &bytes(1, proof.checkpoint.as_bytes())));
            out.extend(bytes(6, &inside));
        }
        if !self.body.is_empty() {
            out.extend(bytes(7, &self.body));
        }
        out
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A field of type varint; zero is not written, as proto3 has it.
fn number(field: u8, value: u64) -> Vec<u8> {
    if value == 0 {
        return Vec::new();
    }
    [vec![field << 3], varint(value)].concat()
}

fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    [vec![field << 3 | 2], varint(content.len() as u64), content.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Proof;

    #[test]
    fn an_entry_in_protobuf_is_what_protobuf_says() {
        let mut entry = Entry {
            kind: "k".into(),
            version: "v".into(),
            log_index: 300,
            log_id: vec![9],
            integrated_time: Some(1),
            promise: None,
            proof: None,
            body: Vec::new(),
        };
        assert_eq!(hex::encode(entry.to_protobuf()), "08ac0212030a01091a060a016b1201762001");
        entry.proof =
            Some(Proof { index: 0, root: [0; 32], size: 1, hashes: Vec::new(), checkpoint: "c".into() });
        let proof = format!("32291220{}18012a030a0163", "00".repeat(32));
        assert!(hex::encode(entry.to_protobuf()).ends_with(&proof));
    }

    #[test]
    fn what_is_logged_is_the_signed_attributes() {
        let authority = Authority::new("acme");
        let leaf =
            authority.leaf(&crate::authority::Claims::email("a@acme.test", "https://oidc.test")).issue();
        let seen = std::cell::RefCell::new(None);
        let der = authority
            .gitsign(&leaf, b"tree")
            .edit_message(|message| *seen.borrow_mut() = Some(message.attributes()))
            .to_der();
        let attributes = seen.into_inner().expect("the hook was called");
        assert!(hex::encode(&attributes).contains(&crate::sha256_hex(b"tree")));
        // The signature follows the last ecdsa-with-SHA256 of the message.
        let algorithm = super::super::x509::signature_algorithm(leaf.key().scheme());
        let at = der.windows(algorithm.len()).rposition(|window| window == algorithm).unwrap();
        let signature = &der[at + algorithm.len()..];
        let signature = signature[2..2 + usize::from(signature[1])].to_vec();
        let signed = Signed {
            message: attributes,
            signature,
            envelope: None,
            certificate: Some(leaf.der().to_vec()),
            key: leaf.key().clone(),
        };
        // A log of the same name has the same history.
        let log = Authority::new("acme").rekor;
        let index = log.append(signed.body(Kind::HashedRekordV1).to_string().as_bytes());
        assert_eq!(log.prove(index).root, authority.rekor.prove(index).root);
    }
}
