//! How bundles may be written, and signatures over an artifact that they do not hold.

use std::sync::Arc;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use catenary_evidence::{
    Attestation, Digest, Node, PublicKey, Refusal, Trust,
    attestation::{detect, verify, verify_with},
    form::Artifact,
    trust_root::{Domain, Rules},
};
use catenary_testkit::{
    Key,
    authority::{Authority, Claims, Content, Entry, Kind, Leaf, Signer, Version},
    sha256_hex,
};
use serde_json::{Map, Value, json};

const FILE: &[u8] = b"the file";
const SHA: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";

fn leaf(authority: &Authority) -> Leaf {
    let claims = Claims::github("acme/app", ".github/workflows/release.yml", "refs/heads/main", SHA);
    authority.leaf(&claims).issue()
}

fn trust(authority: &Authority) -> Trust {
    let root = authority.trusted_root_json();
    let mut trust = Trust::none();
    trust.insert_domain(Arc::new(Domain::read("acme", root.as_bytes(), Rules::default()).unwrap()));
    trust
}

fn statement() -> String {
    json!({
        "_type": "https://in-toto.io/Statement/v1", "predicate": {},
        "predicateType": "https://acme.test/note/v1",
        "subject": [{"name": "file", "digest": {"sha256": sha256_hex(FILE)}}]
    })
    .to_string()
}

fn about_file() -> Node {
    Node::Content(Digest::sha256(FILE))
}

/// Each member of each object, renamed and changed.
fn map(value: &Value, change: &impl Fn(&str, Value) -> (String, Value)) -> Value {
    let mapped = |(name, inner): (&String, &Value)| change(name, map(inner, change));
    match value {
        Value::Object(members) => Value::Object(members.iter().map(mapped).collect::<Map<_, _>>()),
        Value::Array(items) => items.iter().map(|item| map(item, change)).collect(),
        _ => value.clone(),
    }
}

/// A member's name as the `.proto` files have it.
fn proto(name: &str) -> String {
    match name {
        // The one message whose members are written otherwise there.
        "payloadType" => name.to_owned(),
        "x509CertificateChain" => "x509_certificate_chain".to_owned(),
        "rfc3161Timestamps" => "rfc3161_timestamps".to_owned(),
        _ => name.chars().fold(String::new(), |text, c| match c {
            'A'..='Z' => text + "_" + &c.to_ascii_lowercase().to_string(),
            _ => text + &c.to_string(),
        }),
    }
}

/// A way to write the same bundle otherwise.
type Writing = fn(&str, Value) -> (String, Value);

/// Base64 in another spelling; texts that are none stay as they are.
fn respelt(value: Value, spell: &dyn Fn(Vec<u8>) -> String) -> Value {
    let hashes = |items: Vec<Value>| items.into_iter().map(|item| respelt(item, spell)).collect();
    match value {
        Value::String(text) => STANDARD.decode(&text).map_or(Value::String(text), |b| spell(b).into()),
        Value::Array(items) if items.iter().all(Value::is_string) => Value::Array(hashes(items)),
        other => other,
    }
}

fn is_bytes(name: &str) -> bool {
    let plain = ["mediaType", "payloadType", "envelope", "algorithm", "hint", "keyid", "kind", "version"];
    !plain.contains(&name) && !["logIndex", "treeSize", "integratedTime"].contains(&name)
}

const WRITINGS: [(&str, Writing); 6] = [
    ("members as in the .proto file", |name, value| (proto(name), value)),
    ("URL-safe", |name, value| match is_bytes(name) {
        true => (name.to_owned(), respelt(value, &|bytes| URL_SAFE.encode(bytes))),
        false => (name.to_owned(), value),
    }),
    ("URL-safe and unpadded", |name, value| match is_bytes(name) {
        true => (name.to_owned(), respelt(value, &|bytes| URL_SAFE_NO_PAD.encode(bytes))),
        false => (name.to_owned(), value),
    }),
    ("unpadded", |name, value| match is_bytes(name) {
        true => (name.to_owned(), respelt(value, &|bytes| STANDARD_NO_PAD.encode(bytes))),
        false => (name.to_owned(), value),
    }),
    ("enumerations by number", |name, value| match name {
        "algorithm" => (name.to_owned(), json!(1)),
        _ => (name.to_owned(), value),
    }),
    ("numbers as numbers", |name, value| match value.as_str().and_then(|text| text.parse::<i64>().ok()) {
        Some(number) if !is_bytes(name) => (name.to_owned(), json!(number)),
        _ => (name.to_owned(), value),
    }),
];

#[test]
fn a_bundle_is_read_in_every_spelling_of_protobufs_json() {
    let authority = Authority::new("acme");
    let (leaf, trust) = (leaf(&authority), trust(&authority));
    for version in [Version::V01, Version::V02, Version::V03] {
        for bundle in [authority.attest(&leaf, &statement()), authority.sign_blob(&leaf, FILE)] {
            let value = bundle.version(version).timestamp().to_value();
            for (name, change) in WRITINGS {
                let written = map(&value, &change);
                let facts = verify(written.to_string().as_bytes(), &trust);
                let facts = facts.unwrap_or_else(|e| panic!("{version:?} {name}: {e}"));
                assert!(facts.is_verified(), "{version:?} {name}");
                assert_eq!(facts.subject_nodes(), [about_file()], "{version:?} {name}");
            }
        }
    }
}

#[test]
fn a_member_in_both_spellings_is_there_twice() {
    let authority = Authority::new("acme");
    let (leaf, trust) = (leaf(&authority), trust(&authority));
    let value = authority.attest(&leaf, &statement()).timestamp().to_value();
    for (place, member) in [
        ("", "mediaType"),
        ("", "verificationMaterial"),
        ("", "dsseEnvelope"),
        ("/verificationMaterial", "tlogEntries"),
        ("/verificationMaterial", "timestampVerificationData"),
        ("/verificationMaterial/certificate", "rawBytes"),
        ("/verificationMaterial/tlogEntries/0", "inclusionProof"),
        ("/verificationMaterial/tlogEntries/0", "canonicalizedBody"),
        ("/verificationMaterial/tlogEntries/0/inclusionProof", "rootHash"),
    ] {
        let mut both = value.clone();
        let object = both.pointer_mut(place).unwrap();
        object[proto(member)] = object[member].clone();
        let refusal = verify(both.to_string().as_bytes(), &trust).unwrap_err();
        assert_eq!(refusal.code(), "ATT_MALFORMED", "{place}/{member}");
    }
}

#[test]
fn null_is_a_member_that_is_not_there() {
    let authority = Authority::new("acme");
    let (leaf, trust) = (leaf(&authority), trust(&authority));
    let mut value = authority.attest(&leaf, &statement()).timestamp().to_value();
    for (place, member) in [
        ("", "messageSignature"),
        ("/verificationMaterial", "publicKey"),
        ("/verificationMaterial", "x509CertificateChain"),
        ("/verificationMaterial/tlogEntries/0", "kindVersion"),
    ] {
        value.pointer_mut(place).unwrap()[member] = Value::Null;
    }
    assert!(verify(value.to_string().as_bytes(), &trust).unwrap().is_verified());
    value["verificationMaterial"]["tlogEntries"] = Value::Null;
    assert!(!verify(value.to_string().as_bytes(), &trust).unwrap().is_verified());
}

#[test]
fn a_proof_of_v01_without_a_checkpoint_must_lead_to_its_own_root() {
    let authority = Authority::new("acme");
    let (leaf, trust) = (leaf(&authority), trust(&authority));
    let with = |edit: fn(&mut Entry)| {
        let bundle = authority.attest(&leaf, &statement()).version(Version::V01).edit_entry(edit);
        bundle.edit_json(|bundle| {
            let proof = &mut bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"];
            proof.as_object_mut().unwrap().remove("checkpoint");
        })
    };
    let code = |edit: fn(&mut Entry)| match verify(with(edit).to_json().as_bytes(), &trust) {
        Ok(facts) => facts.is_verified().to_string(),
        Err(refusal) => refusal.code().to_owned(),
    };
    assert_eq!(code(|_| {}), "true");
    assert_eq!(code(|entry| entry.proof.as_mut().unwrap().root[3] ^= 1), "ATT_TLOG_INVALID");
    assert_eq!(code(|entry| entry.proof.as_mut().unwrap().hashes.push([7; 32])), "ATT_TLOG_INVALID");
    assert_eq!(code(|entry| entry.proof.as_mut().unwrap().size += 1), "ATT_TLOG_INVALID");
}

/// What is found of a bundle with the artifact at hand.
fn with(bundle: &Value, artifact: &Artifact, trust: &Trust) -> Result<Attestation, Refusal> {
    verify_with(bundle.to_string().as_bytes(), artifact, trust)
}

fn key_trust(key: &Key) -> Trust {
    [PublicKey::from_pem(&key.public_pem(), None).unwrap()].into_iter().collect()
}

/// A message signature by a bare key, with nothing of a log.
fn blob(authority: &Authority, key: &Key) -> Value {
    let signer = Signer::Key(key.clone(), "release".to_owned());
    let mut value = authority.bundle(signer, Content::Message(FILE.to_vec())).to_value();
    value["verificationMaterial"].as_object_mut().unwrap().remove("tlogEntries");
    value
}

#[test]
fn an_ed25519_signature_over_a_file_verifies_with_the_file_at_hand() {
    let authority = Authority::new("acme");
    let key = Key::ed25519("release");
    let (bundle, trust) = (blob(&authority, &key), key_trust(&key));
    // Ed25519 signs the bytes and not their digest.
    assert!(!verify(bundle.to_string().as_bytes(), &trust).unwrap().is_verified());
    let facts = with(&bundle, &Artifact::Bytes(FILE.to_vec()), &trust).unwrap();
    assert!(facts.is_verified());
    assert_eq!(facts.subject_nodes(), [about_file()]);

    let another = Artifact::Bytes(b"another file".to_vec());
    assert!(!with(&bundle, &another, &trust).unwrap().is_verified());
    let stranger = key_trust(&Key::ed25519("stranger"));
    assert!(!with(&bundle, &Artifact::Bytes(FILE.to_vec()), &stranger).unwrap().is_verified());
    let mut forged = bundle.clone();
    forged["messageSignature"]["signature"] = STANDARD.encode([1; 64]).into();
    assert!(!with(&forged, &Artifact::Bytes(FILE.to_vec()), &trust).unwrap().is_verified());
    // A digest of another file beside the signature over this one.
    let mut renamed = bundle;
    let digest = hex::decode(sha256_hex(b"another file")).unwrap();
    renamed["messageSignature"]["messageDigest"]["digest"] = STANDARD.encode(digest).into();
    for artifact in [Artifact::Bytes(FILE.to_vec()), another] {
        assert!(!with(&renamed, &artifact, &trust).unwrap().is_verified());
    }
}

#[test]
fn a_message_signature_need_not_say_what_it_signs_to_whoever_has_it() {
    let authority = Authority::new("acme");
    let (leaf, key) = (leaf(&authority), Key::p256("release"));
    let nameless = |mut bundle: Value| {
        bundle["messageSignature"].as_object_mut().unwrap().remove("messageDigest");
        bundle
    };
    let by_certificate = nameless(authority.sign_blob(&leaf, FILE).to_value());
    let by_key = nameless(blob(&authority, &key));
    for (bundle, trust) in [(by_certificate, trust(&authority)), (by_key, key_trust(&key))] {
        let alone = verify(bundle.to_string().as_bytes(), &trust).unwrap_err();
        assert_eq!(alone.code(), "ATT_FORM_UNSUPPORTED");
        for artifact in [Artifact::Bytes(FILE.to_vec()), Artifact::Digest(Digest::sha256(FILE))] {
            let facts = with(&bundle, &artifact, &trust).unwrap();
            assert!(facts.is_verified(), "{artifact:?}");
            assert_eq!(facts.subject_nodes(), [about_file()]);
        }
        for other in [Artifact::Bytes(b"x".to_vec()), Artifact::Digest(Digest::sha256(b"x"))] {
            assert!(!with(&bundle, &other, &trust).is_ok_and(|facts| facts.is_verified()), "{other:?}");
        }
    }
}

/// What cosign wrote for a blob before bundles.
fn cosign_v1(authority: &Authority, leaf: &Leaf, content: Content, kind: Kind) -> Value {
    let signer = Signer::Leaf(Box::new(leaf.clone()));
    let parts = authority.bundle(signer, content).entry(kind).parts();
    let signed = &parts.signed;
    let envelope = signed.envelope.as_ref().map(|envelope| envelope.to_value().to_string().into_bytes());
    let entry = parts.entries[0].to_value();
    let number = |member: &str| entry[member].as_str().unwrap().parse::<i64>().unwrap();
    let log_id = STANDARD.decode(entry["logId"]["keyId"].as_str().unwrap()).unwrap();
    json!({
        "base64Signature": STANDARD.encode(envelope.unwrap_or_else(|| signed.signature.clone())),
        "cert": STANDARD.encode(leaf.pem()),
        "rekorBundle": {
            "SignedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
            "Payload": {
                "body": entry["canonicalizedBody"], "integratedTime": number("integratedTime"),
                "logIndex": number("logIndex"), "logID": hex::encode(log_id),
            },
        },
    })
}

#[test]
fn an_envelope_in_a_cosign_bundle_before_sigstores_is_read_as_one() {
    let authority = Authority::new("acme");
    let (leaf, trust) = (leaf(&authority), trust(&authority));
    let envelope = catenary_testkit::dsse::Envelope::new(catenary_testkit::dsse::IN_TOTO, statement());
    let value = cosign_v1(&authority, &leaf, Content::Dsse(envelope), Kind::DsseV1);
    let facts = verify(value.to_string().as_bytes(), &trust).unwrap();
    assert!(facts.is_verified());
    assert_eq!(facts.subject_nodes(), [about_file()]);
    assert_eq!(facts.predicate_type, "https://acme.test/note/v1");

    // A byte of the statement, with everything else as it was.
    let mut forged = value;
    let inner = STANDARD.decode(forged["base64Signature"].as_str().unwrap()).unwrap();
    let mut inner: Value = serde_json::from_slice(&inner).unwrap();
    inner["payload"] = STANDARD.encode(statement().replace("note", "nOte")).into();
    forged["base64Signature"] = STANDARD.encode(inner.to_string()).into();
    assert!(verify(forged.to_string().as_bytes(), &trust).is_err());
}

#[test]
fn a_cosign_bundle_without_a_log_entry_needs_the_artifact() {
    let key = Key::ed25519("release");
    let bundle = json!({"base64Signature": STANDARD.encode(key.sign(FILE)), "cert": ""});
    let trust = key_trust(&key);
    assert_eq!(verify(bundle.to_string().as_bytes(), &trust).unwrap_err().code(), "ATT_FORM_UNSUPPORTED");
    assert!(with(&bundle, &Artifact::Bytes(FILE.to_vec()), &trust).unwrap().is_verified());
    assert!(!with(&bundle, &Artifact::Bytes(b"x".to_vec()), &trust).unwrap().is_verified());
}

#[test]
fn githubs_answer_about_several_digests_is_its_bundles() {
    let authority = Authority::new("acme");
    let (leaf, trust) = (leaf(&authority), trust(&authority));
    let bundle = authority.attest(&leaf, &statement()).timestamp().to_value();
    let listed = json!([{"bundle": bundle, "repository_id": 1, "bundle_url": "https://acme.test/1"}]);
    let elsewhere = json!([{"bundle": null, "bundle_url": "https://acme.test/2"}]);
    let digests = json!({"sha256:a": listed, "sha256:b": null, "sha256:c": elsewhere, "sha256:d": listed});
    for (answer, count) in [
        (digests.clone(), 2),
        (json!([{"sha256:a": listed}, {"sha256:b": listed}, {"sha256:c": null}]), 2),
        (json!([{"sha256:a": listed, "sha256:d": listed}, digests]), 4),
    ] {
        let text =
            json!({"attestations_subject_digests": answer, "page_info": {"has_next": false}}).to_string();
        let items = detect(text.as_bytes()).unwrap();
        assert_eq!(items.len(), count, "{text}");
        for item in items {
            assert!(verify(item, &trust).unwrap().is_verified());
        }
    }
    let nothing = json!({"attestations_subject_digests": {"sha256:a": null}}).to_string();
    assert_eq!(detect(nothing.as_bytes()).unwrap_err(), Refusal::Empty);
    let odd = json!({"attestations_subject_digests": "x"}).to_string();
    assert!(verify(detect(odd.as_bytes()).unwrap()[0], &trust).is_err());
}
