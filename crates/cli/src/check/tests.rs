//! Attacks on `catenary check`: what is verified is by and about what was asked for, and nothing else.

use catenary_testkit::{
    Key,
    authority::{Authority, Claims, Content, Leaf, Signer},
    sha256_hex,
};

use super::*;

const FILE: &[u8] = b"app";

fn leaf(authority: &Authority) -> Leaf {
    authority.leaf(&Claims::email("ann@acme.test", "https://issuer.acme.test")).issue()
}

fn statement(digests: Value) -> String {
    json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://acme.test/note/v1", "predicate": {},
        "subject": [{"name": "app", "digest": digests}],
    })
    .to_string()
}

fn about_file() -> String {
    statement(json!({"sha256": sha256_hex(FILE)}))
}

fn sha512(bytes: &[u8]) -> String {
    let digest = Digest::Sha512([0; 64]).recompute(bytes).to_string();
    digest.replace("sha512:", "")
}

fn found(against: &Against, text: &str) -> String {
    let checked = against.bytes(text.as_bytes());
    format!("{:?} {}", checked.result, checked.code.unwrap_or_default()).trim().to_owned()
}

#[test]
fn t01_a_root_of_timestamps_alone_wants_one() {
    let authority = Authority::new("private");
    let leaf = leaf(&authority);
    let root = authority.trusted_root().without_logs().without_ct_logs();
    let mut against = Against::new();
    against.root("private", root.to_json().as_bytes()).unwrap();
    let bundle = || authority.attest(&leaf, &about_file()).entries(&[]);
    assert_eq!(found(&against, &bundle().timestamp().to_json()), "Verified");
    let stripped = against.bytes(bundle().to_json().as_bytes());
    assert_eq!(stripped.result, Outcome::Unverified);
    assert_eq!(stripped.code.as_deref(), Some("ATT_TIMESTAMP_MISSING"));
    // A root that names nobody who could say a time does not ask for one.
    let mut bare = Against::new();
    bare.root("private", root.without_tsa().to_json().as_bytes()).unwrap();
    assert_eq!(found(&bare, &bundle().to_json()), "Verified");
}

#[test]
fn s07_a_right_digest_does_not_cover_for_a_wrong_one_beside_it() {
    let authority = Authority::new("acme");
    let leaf = leaf(&authority);
    let mut against = Against::new();
    against.root("acme", authority.trusted_root_json().as_bytes()).unwrap();
    let mut by_digest = against.clone();
    by_digest.about(Node::Content(Digest::sha256(FILE)));
    for digest in [Digest::sha256(FILE), Digest::Sha512([0; 64]).recompute(FILE)] {
        against.about(Node::Content(digest));
    }
    let (right, other) = (sha256_hex(FILE), sha256_hex(b"another"));
    let (long, longer) = (sha512(FILE), sha512(b"another"));
    for (digests, by_file, by_short) in [
        (json!({"sha256": right}), true, true),
        (json!({"sha512": long}), true, false),
        (json!({"sha256": right, "sha512": long, "md5": "00"}), true, true),
        // Who has the short digest only cannot see that the long one is another's.
        (json!({"sha256": right, "sha512": longer}), false, true),
        (json!({"sha256": other, "sha512": long}), false, false),
    ] {
        let bundle = authority.attest(&leaf, &statement(digests.clone())).to_json();
        let want = |good: bool| if good { "Verified" } else { "Refused ARTIFACT_MISMATCH" };
        assert_eq!(found(&against, &bundle), want(by_file), "{digests}");
        assert_eq!(found(&by_digest, &bundle), want(by_short), "{digests}");
    }
}

#[test]
fn a_good_bundle_inside_a_forged_one_does_not_speak_for_it() {
    let authority = Authority::new("acme");
    let leaf = leaf(&authority);
    let mut against = Against::new();
    against.root("acme", authority.trusted_root_json().as_bytes()).unwrap();
    let good = authority.attest(&leaf, &about_file());
    let mut forged = good.to_value();
    forged["dsseEnvelope"]["payload"] = STANDARD.encode(statement(json!({"sha256": "1".repeat(64)}))).into();
    let alone = found(&against, &forged.to_string());
    assert!(alone.starts_with("Refused"), "{alone}");
    for (member, inside) in [
        ("bundle", good.to_value()),
        ("sigstore", good.to_value()),
        ("raw", json!({"sigstore": good.to_value()})),
        ("attestations", json!([{"bundle": good.to_value()}])),
        ("attestation_bundles", json!([{"attestations": [good.to_value()]}])),
    ] {
        let mut both = forged.clone();
        both[member] = inside;
        assert_eq!(found(&against, &both.to_string()), alone, "{member}");
        // The other way round: members that nobody knows are passed over.
        let mut beside = good.to_value();
        beside[member] = json!([]);
        assert_eq!(found(&against, &beside.to_string()), "Verified", "{member}");
    }
}

#[test]
fn t24_a_published_key_counts_in_its_window_only() {
    let authority = Authority::new("npm");
    let key = Key::p256("npm");
    let bundle = authority.attest_with_key(&key, &about_file());
    let at = |seconds: i64| Timestamp::from_second(authority.now + seconds).unwrap().to_string();
    let keys = |usage: &str, start: String, end: String| {
        json!({"keys": [{"keyId": "SHA256:x", "keyUsage": usage, "publicKey": {
            "rawBytes": STANDARD.encode(key.spki_der()), "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": {"start": start, "end": end}}}]})
        .to_string()
    };
    let with = |keys: &str| {
        let mut against = Against::new();
        against.root("npm", authority.trusted_root_json().as_bytes()).unwrap();
        against.keys(keys.as_bytes()).unwrap();
        found(&against, &bundle.to_json())
    };
    assert_eq!(with(&keys("npm:attestations", at(-60), at(60))), "Verified");
    assert_eq!(with(&keys("npm:attestations", at(-60), at(-30))), "Refused KEY_NOT_IN_USE");
    assert_eq!(with(&keys("npm:attestations", at(30), at(60))), "Refused KEY_NOT_IN_USE");
    assert_eq!(with(&keys("npm:signatures", at(-60), at(60))), "Unverified ATT_UNVERIFIED");
}

#[test]
fn a_key_is_read_as_pem_and_as_der() {
    let key = Key::p256("release");
    let signed = Authority::new("acme").attest_with_key(&key, &about_file()).to_json();
    for file in [key.public_pem().as_bytes(), key.spki_der()] {
        let mut against = Against::new();
        against.keys(file).unwrap();
        assert_eq!(found(&against, &signed), "Verified");
    }
    for file in [&b""[..], b"0", b"\xff\xfe", &key.spki_der()[1..], &[key.spki_der(), b"\0"].concat()] {
        assert!(Against::new().keys(file).is_err(), "{file:x?}");
    }
}

#[test]
fn a_signature_over_the_bytes_of_a_file_is_verified_with_the_file() {
    let authority = Authority::new("acme");
    let key = Key::ed25519("release");
    let signer = Signer::Key(key.clone(), "release".to_owned());
    let bundle = authority.bundle(signer, Content::Message(FILE.to_vec())).to_json();
    let folder = tempfile::tempdir().unwrap();
    let (file, another) = (folder.path().join("file"), folder.path().join("another"));
    std::fs::write(&file, FILE).unwrap();
    std::fs::write(&another, b"another").unwrap();
    let mut against = Against::new();
    against.keys(key.public_pem().as_bytes()).unwrap();
    let with = |add: &dyn Fn(&mut Against)| {
        let mut against = against.clone();
        add(&mut against);
        found(&against, &bundle)
    };
    assert_eq!(with(&|a| a.artifact(&file).unwrap()), "Verified");
    assert_eq!(with(&|a| a.artifact(&another).unwrap()), "Unverified ATT_UNVERIFIED");
    assert_eq!(with(&|a| a.digest(Node::Content(Digest::sha256(FILE)))), "Unverified ATT_UNVERIFIED");
    assert_eq!(with(&|_| {}), "Unverified ATT_UNVERIFIED");
}

#[test]
fn a_document_that_nothing_signs_is_unverified_wherever_it_stands() {
    let authority = Authority::new("acme");
    let bundle = authority.attest(&leaf(&authority), &about_file()).to_json();
    let mut against = Against::new();
    against.root("acme", authority.trusted_root_json().as_bytes()).unwrap();
    for (text, form) in [
        ("# by hand\nSPDXVersion: SPDX-2.3\n", "spdx-tag-value"),
        ("<?xml version=\"1.0\"?>\n<bom xmlns=\"http://cyclonedx.org/schema/bom/1.4\"/>", "cyclonedx-xml"),
        (r#"{"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []}"#, "document"),
    ] {
        assert_eq!(found(&against, text), "Unverified ATT_UNSIGNED", "{text}");
        assert_eq!(against.bytes(text.as_bytes()).form, form);
    }
    let broken = r#"{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}"#;
    assert!(found(&against, broken).starts_with("Refused"));
    assert!(found(&against, "SPDX-Version: 1").starts_with("Refused"));
    let plain = r#"{"spdxVersion": "SPDX-2.3", "packages": []}"#;
    for (text, want) in [
        (plain.to_owned(), "Unverified ATT_UNSIGNED"),
        (format!("[{plain}]"), "Unverified ATT_UNSIGNED"),
        (format!("{plain}\n{plain}\n"), "Unverified ATT_UNSIGNED"),
        (format!("[{plain}, {bundle}]"), "Verified"),
        (format!("{plain}\n{}", bundle.replace("dsseEnvelope", "dsse")), "Refused ATT_FORM_UNSUPPORTED"),
    ] {
        assert_eq!(found(&against, &text), want, "{text}");
    }
}
