//! Envelopes as they come in: who signed, and what is refused. Tests are named after the attacks that they stop.

use crate::common::{Signer, anonymous, bytes, envelope, envelope_with, pae, provenance, ring};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_evidence::{
    Node, PublicKey, Refusal, Scheme, Sha256, Trust,
    attestation::{detect, verify},
    predicate::Claim,
};
use serde_json::{Value, json};

/// The golden envelope verifies beside each refusal, in the same process.
fn golden() -> (Signer, Trust, Vec<u8>) {
    let signer = Signer::p256();
    let keys = ring(&[&signer]);
    let item = envelope(&bytes(&provenance()), &signer);
    assert!(verify(&item, &keys).unwrap().is_verified(), "the untouched twin verifies");
    (signer, keys, item)
}

#[test]
fn k14_every_key_type_signs_the_golden_statement() {
    let payload = bytes(&provenance());
    for signer in [
        Signer::ed25519(),
        Signer::p256(),
        Signer::p384(),
        Signer::p521(),
        Signer::rsa_pkcs1(),
        Signer::rsa_pss(),
    ] {
        let keys = ring(&[&Signer::ed25519(), &signer, &Signer::p256()]);
        for item in [envelope(&payload, &signer), anonymous(&payload, &signer)] {
            let attestation = verify(&item, &keys).unwrap();
            assert_eq!(attestation.keys(), [signer.public().id()]);
            let Claim::Build(build) = attestation.claim else { panic!("not a build") };
            assert_eq!(build.builder_id, "https://ci.acme.test");
        }
    }
}

#[test]
fn rsa_pss_signatures_verify_with_a_salt_of_the_digests_or_the_greatest_length() {
    let (signer, payload) = (Signer::rsa_pss(), bytes(&provenance()));
    let keys = ring(&[&signer]);
    let pkcs1 = PublicKey::from_spki(&signer.spki(), Some(Scheme::RsaPkcs1Sha256)).unwrap();
    let pkcs1 = Trust::from_iter([pkcs1]);
    let message = pae(&payload);
    let longest = signer.0.sign_with_longest_salt(&message);
    for keyid in [None, Some(signer.keyid())] {
        let item = envelope_with(&payload, &[(keyid.as_deref(), &longest)]);
        assert_eq!(verify(&item, &keys).unwrap().keys(), [signer.public().id()]);
    }
    let unnamed = |signature: &[u8], keys: &Trust| {
        verify(&envelope_with(&payload, &[(None, signature)]), keys).unwrap().is_verified()
    };
    assert!(!unnamed(&longest, &pkcs1), "another padding");
    assert!(!unnamed(&signer.0.sign_with_odd_salt(&message), &keys), "another length");
    assert!(!unnamed(&signer.0.sign_with_longest_salt(b"else"), &keys), "another message");
    for at in 0..longest.len() {
        let mut flipped = longest.clone();
        flipped[at] ^= 1;
        assert!(!unnamed(&flipped, &keys), "byte {at}");
    }
    let other = Signer::rsa_pkcs1();
    let other = PublicKey::from_spki(&other.spki(), Some(Scheme::RsaPssSha256)).unwrap();
    assert!(!unnamed(&longest, &Trust::from_iter([other])), "another key");
}

#[test]
fn e01_a_payload_bit_flip_after_signing_is_refused_when_it_names_its_key() {
    let (signer, keys, _) = golden();
    let payload = bytes(&provenance());
    let sig = signer.sign(&pae(&payload));
    let mut flipped = payload;
    let at = flipped.windows(5).position(|w| w == b"run-1").unwrap();
    flipped[at + 4] ^= 2;
    let named = envelope_with(&flipped, &[(Some(&signer.keyid()), &sig)]);
    assert!(matches!(verify(&named, &keys), Err(Refusal::SignatureInvalid { position: 0, .. })));
    let unnamed = envelope_with(&flipped, &[(None, &sig)]);
    assert!(!verify(&unnamed, &keys).unwrap().is_verified());
}

#[test]
fn e02_a_swapped_payload_type_is_refused() {
    let (_, keys, item) = golden();
    let text = String::from_utf8(item).unwrap();
    let other = text.replace("application/vnd.in-toto+json", "application/json");
    assert_eq!(verify(other.as_bytes(), &keys).unwrap_err().code(), "ATT_PAYLOAD_TYPE");
    let also_in_toto = text.replace("vnd.in-toto+json", "vnd.in-toto.x+json");
    assert_eq!(verify(also_in_toto.as_bytes(), &keys).unwrap_err().code(), "ATT_SIGNATURE_INVALID");
}

#[test]
fn e04_an_empty_signature_list_and_a_bare_statement_are_refused() {
    let (_, keys, _) = golden();
    let payload = bytes(&provenance());
    assert_eq!(verify(&envelope_with(&payload, &[]), &keys), Err(Refusal::Unsigned));
    assert_eq!(verify(&envelope_with(&payload, &[(None, b"")]), &keys), Err(Refusal::Unsigned));
    assert_eq!(verify(&payload, &keys), Err(Refusal::Unsigned));
}

#[test]
fn e06_a_bundle_with_two_signatures_is_refused() {
    let (signer, keys, item) = golden();
    let mut envelope: Value = serde_json::from_slice(&item).unwrap();
    let bundle = |envelope: &Value, hint: &str| {
        bytes(&json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
            "dsseEnvelope": envelope}))
    };
    assert!(verify(&bundle(&envelope, &signer.keyid()), &keys).unwrap().is_verified());
    let other = json!({"sig": STANDARD.encode([7; 70])});
    envelope["signatures"].as_array_mut().unwrap().insert(0, other);
    for hint in [String::new(), signer.keyid()] {
        assert_eq!(verify(&bundle(&envelope, &hint), &keys), Err(Refusal::SignatureCount { count: 2 }));
        envelope["signatures"].as_array_mut().unwrap().reverse();
        assert_eq!(verify(&bundle(&envelope, &hint), &keys), Err(Refusal::SignatureCount { count: 2 }));
    }
}

#[test]
fn e21_a_bare_key_where_a_certificate_belongs_is_refused() {
    let (signer, keys, item) = golden();
    let envelope: Value = serde_json::from_slice(&item).unwrap();
    let bundle = bytes(&json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"certificate": {"rawBytes": STANDARD.encode(signer.public().spki())}, "tlogEntries": []},
        "dsseEnvelope": envelope}));
    assert_eq!(verify(&bundle, &keys).unwrap_err().code(), "ATT_MALFORMED");
}

#[test]
fn e23_a_message_signature_is_about_its_digest_and_states_nothing() {
    let (signer, keys, _) = golden();
    let bundle = |digest: Value, signature: &[u8]| {
        bytes(&json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "messageSignature": {"messageDigest": digest, "signature": STANDARD.encode(signature)}}))
    };
    let digest = Sha256::of(b"an artifact");
    let named = json!({"algorithm": "SHA2_256", "digest": STANDARD.encode(digest.0)});
    let facts = verify(&bundle(named.clone(), &signer.sign(b"an artifact")), &keys).unwrap();
    assert_eq!(facts.keys(), [signer.public().id()]);
    assert_eq!(facts.subject_nodes(), [Node::Content(digest.into())]);
    assert_eq!(facts.claim, Claim::Other, "it is no provenance of anything");
    assert!(!verify(&bundle(named, &signer.sign(b"another")), &keys).unwrap().is_verified());
    // Without the digest nobody knows what it is about.
    assert_eq!(verify(&bundle(json!({}), b"AAAA"), &keys).unwrap_err().code(), "ATT_MALFORMED");
}

#[test]
fn e07_two_signatures_by_one_key_count_once() {
    let (signer, keys, _) = golden();
    let payload = bytes(&provenance());
    let (first, second) = (signer.sign(&pae(&payload)), signer.sign(&pae(&payload)));
    assert_ne!(first, second, "ECDSA is randomised");
    let item = envelope_with(&payload, &[(Some(&signer.keyid()), &first), (Some("other"), &second)]);
    assert_eq!(verify(&item, &keys).unwrap().keys(), [signer.public().id()]);
}

#[test]
fn two_keys_that_sign_are_two_signers() {
    let (a, b) = (Signer::ed25519(), Signer::p384());
    let payload = bytes(&provenance());
    let message = pae(&payload);
    let item = envelope_with(&payload, &[(None, &a.sign(&message)), (None, &b.sign(&message))]);
    let mut both = [a.public().id(), b.public().id()];
    both.sort();
    assert_eq!(verify(&item, &ring(&[&a, &b])).unwrap().keys(), both);
    assert_eq!(verify(&item, &ring(&[&b])).unwrap().keys(), [b.public().id()], "the unknown one is ignored");
}

#[test]
fn e09_a_keyid_that_lies_is_refused() {
    let (trusted, keys, _) = golden();
    let payload = bytes(&provenance());
    let other = Signer::p256();
    for keys in [&keys, &ring(&[&trusted, &other])] {
        let item = envelope_with(&payload, &[(Some(&trusted.keyid()), &other.sign(&pae(&payload)))]);
        assert!(matches!(verify(&item, keys), Err(Refusal::SignatureInvalid { .. })));
    }
}

#[test]
fn a_keyid_may_be_spelt_as_tools_spell_it() {
    let (signer, keys, _) = golden();
    let payload = bytes(&provenance());
    let wrong = Signer::p256().sign(&pae(&payload));
    let key = signer.public();
    let hex = key.id().to_string().replace("sha256:", "");
    let base64 = STANDARD.encode(hex::decode(&hex).unwrap());
    for hint in [&key.id().to_string(), &hex, &base64, &key.ssh_fingerprint().unwrap()] {
        let item = envelope_with(&payload, &[(Some(hint), &wrong)]);
        assert!(
            matches!(verify(&item, &keys), Err(Refusal::SignatureInvalid { .. })),
            "{hint} names the key"
        );
    }
    for hint in ["", "main", "sha256:", &hex[1..]] {
        let item = envelope_with(&payload, &[(Some(hint), &wrong)]);
        assert!(!verify(&item, &keys).unwrap().is_verified(), "{hint} names nobody");
    }
}

#[test]
fn e12_duplicate_envelope_members_are_refused() {
    let (signer, keys, _) = golden();
    let payload = bytes(&provenance());
    let sig = STANDARD.encode(signer.sign(&pae(&payload)));
    let (good, evil) = (STANDARD.encode(&payload), STANDARD.encode("{}"));
    for (first, last) in [(&good, &evil), (&evil, &good)] {
        let item = format!(
            r#"{{"payload":"{first}","payload":"{last}","payloadType":"application/vnd.in-toto+json","signatures":[{{"sig":"{sig}"}}]}}"#
        );
        assert_eq!(verify(item.as_bytes(), &keys).unwrap_err().code(), "JSON_DUPLICATE_KEY");
    }
}

#[test]
fn e14_a_malleated_ecdsa_signature_is_one_more_variant_by_the_same_signer() {
    let (signer, keys, item) = golden();
    let payload = bytes(&provenance());
    let sig = signer.sign(&pae(&payload));
    let twin = malleate(&sig);
    assert_ne!(sig, twin);
    let original = verify(&item, &keys).unwrap();
    let copy = verify(&envelope_with(&payload, &[(None, &twin)]), &keys).unwrap();
    assert_eq!((copy.payload, copy.keys()), (original.payload, original.keys()));
}

/// (r, s) → (r, n - s) for a P-256 signature in DER.
fn malleate(der: &[u8]) -> Vec<u8> {
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let r_end = 4 + usize::from(der[3]);
    let r = &der[2..r_end];
    let s = &der[r_end + 2..];
    let mut wide = [0u8; 32];
    let s: Vec<u8> = s.iter().copied().skip_while(|b| *b == 0).collect();
    wide[32 - s.len()..].copy_from_slice(&s);
    let mut out = [0u8; 32];
    let mut borrow = 0i16;
    for i in (0..32).rev() {
        let d = i16::from(N[i]) - i16::from(wide[i]) - borrow;
        borrow = i16::from(d < 0);
        out[i] = d.rem_euclid(256) as u8;
    }
    let mut value: Vec<u8> = out.iter().copied().skip_while(|b| *b == 0).collect();
    if value[0] & 0x80 != 0 {
        value.insert(0, 0);
    }
    let body = [r, &[2, value.len() as u8], &value].concat();
    [&[0x30, body.len() as u8], body.as_slice()].concat()
}

#[test]
fn e15_zero_in_an_ecdsa_signature_never_verifies() {
    let (signer, keys, _) = golden();
    let payload = bytes(&provenance());
    for sig in [
        &[0x30, 6, 2, 1, 0, 2, 1, 0][..],
        &[0x30, 6, 2, 1, 1, 2, 1, 0],
        &[0x30, 6, 2, 1, 0, 2, 1, 1],
        &[0; 64],
    ] {
        let named = envelope_with(&payload, &[(Some(&signer.keyid()), sig)]);
        assert!(matches!(verify(&named, &keys), Err(Refusal::SignatureInvalid { .. })), "{sig:?}");
        assert!(!verify(&envelope_with(&payload, &[(None, sig)]), &keys).unwrap().is_verified());
    }
}

#[test]
fn e17_der_with_trailing_bytes_or_long_lengths_never_verifies() {
    let (signer, keys, _) = golden();
    let payload = bytes(&provenance());
    let sig = signer.sign(&pae(&payload));
    let trailing = [sig.as_slice(), &[0]].concat();
    let long_length = [&[0x30, 0x81, sig[1]], &sig[2..]].concat();
    let padded_r = [&[0x30, sig[1] + 1, 2, sig[3] + 1, 0], &sig[4..]].concat();
    for sig in [trailing, long_length, padded_r] {
        let named = envelope_with(&payload, &[(Some(&signer.keyid()), &sig)]);
        assert!(matches!(verify(&named, &keys), Err(Refusal::SignatureInvalid { .. })));
    }
}

#[test]
fn e18_an_hmac_made_with_the_public_key_never_verifies() {
    let (signer, keys, _) = golden();
    let payload = bytes(&provenance());
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, signer.public().to_pem().as_bytes());
    let mac = aws_lc_rs::hmac::sign(&key, &pae(&payload));
    let item = envelope_with(&payload, &[(Some(&signer.keyid()), mac.as_ref())]);
    assert!(matches!(verify(&item, &keys), Err(Refusal::SignatureInvalid { .. })));
    // Nor is a key what its label says it is.
    let others = [Scheme::Ed25519, Scheme::EcdsaP384Sha384, Scheme::RsaPssSha256, Scheme::RsaPkcs1Sha256];
    for scheme in others {
        assert!(PublicKey::from_spki(&signer.spki(), Some(scheme)).is_err(), "{scheme:?}");
    }
}

#[test]
fn e25_deep_nesting_is_refused_outside_and_inside() {
    let (signer, keys, _) = golden();
    let deep = "[".repeat(200_000);
    assert!(detect(deep.as_bytes()).unwrap_err().code().starts_with("JSON_"));
    assert_eq!(
        detect("{\"a\":".repeat(200_000).as_bytes()).unwrap().len(),
        1,
        "it is split without recursion"
    );
    assert_eq!(verify(deep.as_bytes(), &keys).unwrap_err().code(), "JSON_TOO_DEEP");
    let refusal = verify(&envelope(deep.as_bytes(), &signer), &keys).unwrap_err();
    assert_eq!((refusal.code(), refusal.is_syntax()), ("JSON_TOO_DEEP", false));
}

#[test]
fn s03_s13_s21_s23_what_is_signed_must_be_strict_json_too() {
    let (signer, keys, _) = golden();
    let good = String::from_utf8(bytes(&provenance())).unwrap();
    let subject = format!(r#""subject":[{{"name":"x","digest":{{"sha256":"{}"}}}}]"#, crate::common::IMAGE);
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("s03", b"{\"_type\":".to_vec(), "JSON_INVALID"),
        ("s13", good.replacen('{', &format!("{{{subject},"), 1).into_bytes(), "JSON_DUPLICATE_KEY"),
        ("s13 escaped", good.replacen('{', r#"{"\u0073ubject":[],"#, 1).into_bytes(), "JSON_DUPLICATE_KEY"),
        ("s21 nul", good.replace("acme/app\"", "acme/app\\u0000\"").into_bytes(), "JSON_INVALID"),
        ("s21 surrogate", good.replace("acme/app\"", "acme/app\\ud800\"").into_bytes(), "JSON_INVALID"),
        ("s23", good.replace("acme/app\"", "acme/app\u{1}\"").replace('\u{1}', "").into_bytes(), ""),
    ];
    for (name, payload, code) in cases {
        let outcome = verify(&envelope(&payload, &signer), &keys);
        assert_eq!(outcome.as_ref().err().map_or("", |e| e.code()), code, "{name}");
    }
    let mut overlong = good.into_bytes();
    let at = overlong.len() - 1;
    overlong.splice(at..at, *b",\"x\":\"\xc0\xaf\"");
    assert_eq!(verify(&envelope(&overlong, &signer), &keys).unwrap_err().code(), "JSON_INVALID");
}

#[test]
fn the_size_of_an_item_is_limited_at_8_mib_and_one_over_is_refused() {
    use catenary_evidence::limits::MAX_ITEM;
    let (_, keys, item) = golden();
    let padded = |n: usize| [item.as_slice(), &vec![b' '; n - item.len()]].concat();
    assert!(verify(&padded(MAX_ITEM), &keys).is_ok());
    assert!(verify(&padded(MAX_ITEM + 1), &keys).unwrap_err().is_too_large());
}

#[test]
fn a_submission_is_one_document_an_array_or_lines_and_each_item_keeps_its_bytes() {
    let (_, _, item) = golden();
    let text = String::from_utf8(item.clone()).unwrap();
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&text).unwrap()).unwrap();
    let split = |text: &str| {
        detect(text.as_bytes())
            .map(|items| items.iter().map(|i| String::from_utf8_lossy(i).into_owned()).collect::<Vec<_>>())
    };
    assert_eq!(split(&text).unwrap(), std::slice::from_ref(&text));
    assert_eq!(split(&format!("{pretty}\n")).unwrap(), [format!("{pretty}\n")], "posted bytes are kept");
    assert_eq!(split(&format!("[ {text} ,\n{pretty}]")).unwrap(), [text.clone(), pretty.clone()]);
    assert_eq!(split(&format!("{text}\n\n {text} \r\n")).unwrap(), [text.clone(), text.clone()]);
    assert_eq!(
        split(&format!("{text}\nbroken\n{text}\n")).unwrap(),
        [text.clone(), "broken".into(), text.clone()]
    );
    for empty in ["", "  \n", "[]", "[ ]"] {
        assert_eq!(split(empty), Err(Refusal::Empty), "{empty:?}");
    }
    let refusal = split(&format!("[{text},")).unwrap_err();
    assert!(refusal.is_syntax());
    assert_eq!(split(&pretty[..pretty.len() - 5]).unwrap().len(), 1, "a broken document is one item");
}

#[test]
fn a_malformed_element_does_not_spoil_the_batch() {
    let (_, keys, item) = golden();
    let text = String::from_utf8(item).unwrap();
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let batch = format!(r#"[{text},{{"a":1,"a":2}},{deep},7,{text}]"#);
    let outcomes: Vec<_> =
        detect(batch.as_bytes()).unwrap().into_iter().map(|item| verify(item, &keys)).collect();
    let codes: Vec<_> = outcomes.iter().map(|o| o.as_ref().map_or_else(|e| e.code(), |_| "ok")).collect();
    assert_eq!(codes, ["ok", "JSON_DUPLICATE_KEY", "JSON_TOO_DEEP", "ATT_MALFORMED", "ok"]);
}

#[test]
fn items_are_limited_at_1000_and_one_over_is_refused() {
    let list = |n: usize| format!("[{}]", vec!["1"; n].join(","));
    assert_eq!(detect(list(1000).as_bytes()).unwrap().len(), 1000);
    assert_eq!(detect(list(1001).as_bytes()).unwrap_err().code(), "ATT_TOO_LARGE");
}

#[test]
fn no_flipped_bit_and_no_truncation_of_the_golden_envelope_verifies_as_something_else() {
    let (_, keys, item) = golden();
    let golden = verify(&item, &keys).unwrap();
    for at in 0..item.len() {
        for bit in 0..8 {
            let mut bent = item.clone();
            bent[at] ^= 1 << bit;
            if let Ok(attestation) = verify(&bent, &keys)
                && attestation.is_verified()
            {
                // Only what is not signed may have changed: the keyid, or the spelling of the base64.
                assert_eq!(
                    (attestation.payload, attestation.keys()),
                    (golden.payload, golden.keys()),
                    "byte {at}"
                );
            }
        }
        assert!(verify(&item[..at], &keys).is_err(), "cut at {at}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_in_the_payload_never_panic(edits in proptest::collection::vec((0usize..2000, proptest::num::u8::ANY), 1..12)) {
        let signer = Signer::ed25519();
        let mut payload = bytes(&provenance());
        let length = payload.len();
        for (at, byte) in edits {
            payload[at % length] = byte;
        }
        // Properly signed, so that it reaches the statement and predicate readers.
        let _ = verify(&envelope(&payload, &signer), &ring(&[&signer]));
    }

    #[test]
    fn random_bytes_never_panic(noise in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        for item in detect(&noise).unwrap_or_default() {
            proptest::prop_assert!(verify(item, &Trust::none()).is_err());
        }
    }
}

#[test]
fn a_run_of_tekton_carries_its_envelope_in_an_annotation() {
    use catenary_testkit::{Key, Statement, Subject};
    let key = Key::p256("chains");
    let trust: Trust = [PublicKey::from_pem(&key.public_pem(), None).unwrap()].into_iter().collect();
    let statement = Statement::new("https://acme.test/note/v1", json!({"n": 1}));
    let envelope = statement.subject(Subject::new("x", "sha256", &"1".repeat(64))).signed_by(&key).to_json();
    let payload = serde_json::from_str::<Value>(&envelope).unwrap()["payload"].as_str().unwrap().to_owned();
    let run = |kind: &str, annotations: Value| {
        json!({"apiVersion": "tekton.dev/v1", "kind": kind, "spec": {"params": []},
               "metadata": {"name": "build", "annotations": annotations}})
        .to_string()
    };
    let signed = STANDARD.encode(&envelope);
    let good = json!({"chains.tekton.dev/signed": "true", "chains.tekton.dev/signature-taskrun-1": signed,
                      "chains.tekton.dev/payload-taskrun-1": payload});
    for kind in ["TaskRun", "PipelineRun"] {
        let facts = verify(run(kind, good.clone()).as_bytes(), &trust).unwrap();
        assert!(facts.is_verified());
        assert_eq!(facts.subjects[0].name, "x");
    }
    let mut altered = STANDARD.decode(&signed).unwrap();
    let at = String::from_utf8_lossy(&altered).find("\"payload\":\"").unwrap() + 40;
    altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
    let code = |annotations: Value| match verify(run("TaskRun", annotations).as_bytes(), &trust) {
        Ok(facts) if facts.is_verified() => "verified".to_owned(),
        Ok(_) => "unverified".to_owned(),
        Err(refusal) => refusal.code().to_owned(),
    };
    let with = |text: &str| json!({"chains.tekton.dev/signature-taskrun-1": text});
    assert_ne!(code(with(&STANDARD.encode(&altered))), "verified");
    assert_eq!(code(json!({})), "ATT_UNSIGNED");
    assert_eq!(code(with("!")), "ATT_MALFORMED");
    assert_eq!(code(with(&STANDARD.encode("7"))), "ATT_FORM_UNSUPPORTED");
    let two = json!({"chains.tekton.dev/signature-a": signed, "chains.tekton.dev/signature-b": signed});
    assert_eq!(code(two), "ATT_FORM_UNSUPPORTED");
    let other = json!({"chains.tekton.dev/signature-a": signed, "chains.tekton.dev/payload-a": STANDARD.encode("{}")});
    assert_eq!(code(other), "OBJECT_AMBIGUOUS");
}
