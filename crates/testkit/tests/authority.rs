//! The authority against an independent verifier: whatever is untampered verifies, whatever is tampered does not.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use catenary_testkit::{
    Key,
    authority::{
        Authority, BundleBuilder, Claims, Kind, LIFETIME, Leaf, San, Sct, Tamper, TrustedRoot, Tsa, Version,
        Window, promised,
        x509::{self, Extension},
    },
    sha256_hex,
};
use sigstore_verify::{
    PublicKeyVerificationPolicy, VerificationPolicy, Verifier,
    types::{Bundle, DerPublicKey, Sha256Hash},
};

const FILE: &[u8] = b"the image";

fn statement() -> String {
    format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","predicate":{{}},"predicateType":"https://slsa.dev/provenance/v1","subject":[{{"digest":{{"sha256":"{}"}},"name":"image"}}]}}"#,
        sha256_hex(FILE)
    )
}

fn claims() -> Claims {
    Claims::github("acme/app", ".github/workflows/release.yml", "refs/heads/main", &"a1".repeat(20))
}

fn verify(root: &TrustedRoot, bundle: &str) -> Result<(), String> {
    let root =
        sigstore_verify::trust_root::TrustedRoot::from_json(&root.to_json()).map_err(|e| e.to_string())?;
    let bundle = Bundle::from_json(bundle).map_err(|error| format!("parse: {error}"))?;
    let digest = Sha256Hash::from_hex(&sha256_hex(FILE)).map_err(|error| error.to_string())?;
    let policy = VerificationPolicy::any_identity();
    let verifier = Verifier::new(&root).map_err(|error| format!("root: {error}"))?;
    verifier.verify(digest, &bundle, &policy).map(|_| ()).map_err(|error| error.to_string())
}

fn good<'a>(authority: &'a Authority, leaf: &Leaf, kind: Kind) -> BundleBuilder<'a> {
    let builder = authority.attest(leaf, &statement()).entry(kind);
    if kind.is_v2() { builder.timestamp() } else { builder }
}

/// What the independent verifier reads together with an envelope.
fn supported(kind: Kind) -> bool {
    !matches!(kind, Kind::IntotoV1 | Kind::DsseV2 | Kind::HashedRekordV1)
}

#[test]
fn every_untampered_bundle_verifies() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let mut count = 0;
    for version in Version::ALL {
        for kind in Kind::ALL.into_iter().filter(|&kind| supported(kind)) {
            if kind.is_v2() && version == Version::V01 {
                continue; // v0.1 wants a promise, which v2 logs do not make.
            }
            for timestamp in [false, true] {
                for promise in [true, false] {
                    let mut builder = authority.attest(&leaf, &statement()).version(version).entry(kind);
                    if timestamp {
                        builder = builder.timestamp();
                    }
                    if !promise {
                        builder = builder.without_promise();
                    }
                    let timed = timestamp || (promise && !kind.is_v2());
                    let shaped = version != Version::V01 || promise;
                    let result = verify(&authority.trusted_root(), &builder.to_json());
                    assert_eq!(result.is_ok(), timed && shaped, "{builder:?} promise {promise}: {result:?}");
                    count += usize::from(result.is_ok());
                }
            }
        }
        for kind in [Kind::HashedRekordV1, Kind::HashedRekordV2] {
            if kind.is_v2() && version == Version::V01 {
                continue;
            }
            let builder = authority.sign_blob(&leaf, FILE).version(version).entry(kind).timestamp();
            let result = verify(&authority.trusted_root(), &builder.to_json());
            assert_eq!(result, Ok(()), "{builder:?}");
            count += 1;
        }
    }
    assert_eq!(count, 35);
}

/// What the independent verifier lets through, as is known of it: it takes a bundle without a media type for
/// v0.1, asks no proof of v0.1, and does not compare the log of an entry with the log of its checkpoint.
fn known_gap(kind: Kind, tamper: Tamper) -> bool {
    match tamper {
        Tamper::Downgraded | Tamper::NoMediaType => !kind.is_v2(),
        Tamper::WrongLogId => kind.is_v2(),
        Tamper::CheckpointBySibling => true,
        _ => false,
    }
}

#[test]
fn every_tampered_bundle_is_refused() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let root = authority.trusted_root();
    let bases = [
        (Kind::DsseV1, true),
        (Kind::IntotoV2, true),
        (Kind::HashedRekordV2, true),
        (Kind::HashedRekordV1, false),
        (Kind::HashedRekordV2, false),
    ];
    for (kind, has_envelope) in bases {
        let base = || match has_envelope {
            true => good(&authority, &leaf, kind),
            false => authority.sign_blob(&leaf, FILE).entry(kind).timestamp(),
        };
        assert_eq!(verify(&root, &base().to_json()), Ok(()), "{kind:?}");
        for &tamper in Tamper::ALL.iter().filter(|tamper| tamper.applies(kind, has_envelope)) {
            let result = verify(&root, &base().tamper(tamper).to_json());
            eprintln!("{kind:?} {tamper:?}: {result:?}");
            let missed = known_gap(kind, tamper);
            assert_eq!(result.is_ok(), missed, "{kind:?} {tamper:?}: {result:?}");
        }
    }
}

#[test]
fn a_mirrored_signature_verifies_too() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let bundle = good(&authority, &leaf, Kind::DsseV1).mirrored_signature().to_json();
    assert_eq!(verify(&authority.trusted_root(), &bundle), Ok(()));
}

#[test]
fn two_entries_and_two_timestamps_verify_together() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let second = Tsa::new("second", authority.window);
    let bundle = authority
        .attest(&leaf, &statement())
        .entries(&[Kind::DsseV1, Kind::DsseV1])
        .timestamp()
        .timestamp_by(&second, authority.now + 7)
        .to_json();
    assert_eq!(verify(&authority.trusted_root().and_tsa(&second), &bundle), Ok(()));
    assert!(verify(&authority.trusted_root(), &bundle).is_err());
}

#[test]
fn an_attachment_holds_the_promise_of_its_entry() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let attachment = authority.attest(&leaf, &statement()).entry(Kind::IntotoV1).to_attachment();
    let text = |name: &str| attachment.annotations[name].as_str().unwrap_or_default().to_owned();
    let bundle: serde_json::Value = serde_json::from_str(&text("dev.sigstore.cosign/bundle")).unwrap();
    let bytes = |value: &serde_json::Value| STANDARD.decode(value.as_str().unwrap_or_default()).unwrap();
    let payload = &bundle["Payload"];
    let signed = promised(
        &bytes(&payload["body"]),
        payload["integratedTime"].as_i64().unwrap(),
        payload["logIndex"].as_u64().unwrap(),
        &authority.rekor.id(),
    );
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, authority.rekor.key.spki_der()).unwrap();
    key.verify_sig(signed.as_bytes(), &bytes(&bundle["SignedEntryTimestamp"])).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&bytes(&payload["body"])).unwrap();
    assert_eq!(body["spec"]["content"]["hash"]["value"], sha256_hex(&attachment.layer));
    assert_eq!(text("dev.sigstore.cosign/chain").matches("BEGIN").count(), 2);
}

#[test]
fn every_wrong_trusted_root_is_refused() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let bundle = good(&authority, &leaf, Kind::DsseV1).to_json();
    for (what, root) in TrustedRoot::wrong_for(&authority) {
        let error = verify(&root, &bundle).expect_err(what);
        eprintln!("{what}: {error}");
    }
    let stamped = good(&authority, &leaf, Kind::HashedRekordV2).to_json();
    let over = Window::between(authority.window.start, authority.now - 1);
    let root = || authority.trusted_root();
    for (what, root) in [
        ("timestamp authority's window is over", root().tsa_window(over)),
        ("no timestamp authority", root().without_tsa()),
        ("timestamp authority without certificates", root().without_tsa().with_empty_tsa_chain()),
    ] {
        let error = verify(&root, &stamped).expect_err(what);
        eprintln!("{what}: {error}");
    }
}

#[test]
fn every_wrong_timestamp_signer_is_refused() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let tsa = &authority.tsa;
    let (start, end) = (authority.window.start, authority.now + 86_400);
    let signer = |label: &str, not_after: i64, purposes: &[&str], critical: bool| {
        tsa.clone().with_leaf(Tsa::signer(&tsa.root, label, start, not_after, purposes, critical))
    };
    let other_root = Tsa::new("other root", authority.window);
    let mixed = Tsa { root: tsa.root.clone(), ..other_root };
    let wrong = [
        ("good", signer("good", end, &[x509::oid::TIME_STAMPING], true)),
        ("expired before the token", signer("expired", authority.now - 1, &[x509::oid::TIME_STAMPING], true)),
        ("another usage", signer("usage", end, &[x509::oid::CODE_SIGNING], true)),
        ("no usage", signer("none", end, &[], true)),
        ("another usage too", signer("two", end, &[x509::oid::TIME_STAMPING, x509::oid::CODE_SIGNING], true)),
        ("usage not critical", signer("lax", end, &[x509::oid::TIME_STAMPING], false)),
        ("under another root", mixed),
    ];
    let mut accepted = Vec::new();
    for (what, tsa) in wrong {
        let root = authority.trusted_root().without_tsa().and_tsa(&tsa);
        let bundle = authority.attest(&leaf, &statement()).timestamp_by(&tsa, authority.now + 5).to_json();
        let result = verify(&root, &bundle);
        eprintln!("{what}: {result:?}");
        accepted.extend(result.is_ok().then_some(what));
    }
    // RFC 3161 asks for this usage alone, in a critical extension; the verifier only asks for the usage.
    assert_eq!(accepted, ["good", "another usage too", "usage not critical"]);
}

#[test]
fn an_intermediate_in_the_trusted_root_is_not_asked_for_its_dates() {
    let mut authority = Authority::new("acme");
    authority.intermediate = authority.other_intermediate(authority.now - 1, Vec::new());
    let leaf = authority.leaf(&claims()).issue();
    let bundle = authority.attest(&leaf, &statement()).to_json();
    // C04 again: the verifier makes an anchor of each certificate in the root, and anchors have no dates.
    assert_eq!(verify(&authority.trusted_root(), &bundle), Ok(()));
}

#[test]
fn every_wrong_leaf_is_refused() {
    let authority = Authority::new("acme");
    let (now, end) = (authority.now, authority.now + LIFETIME);
    let leaf = || authority.leaf(&claims());
    let leaf_of = |claims: Claims| authority.leaf(&claims).issue();
    let parent = leaf().issue();
    let other = Authority::new("other");
    let expired = authority.other_intermediate(now - 1, Vec::new());
    let constrained =
        authority.other_intermediate(now + 86_400, vec![Extension::permitted_uri_hosts(&["ci.acme.test"])]);
    let wrong = [
        ("c01 self-signed", leaf().self_signed().issue()),
        ("c02 issued by a leaf", leaf().key(&Key::p256("c02")).issued_by_leaf(&parent).issue()),
        (
            "c04 intermediate expired",
            leaf().issued_by(&expired, &[&expired.certificate, &authority.root.certificate]).issue(),
        ),
        ("c05 expired at signing time", leaf().valid(now - 900, now - 1).issue()),
        ("not yet valid at signing time", leaf().valid(now + 60, end).issue()),
        (
            "c07 name constraints",
            leaf().issued_by(&constrained, &[&constrained.certificate, &authority.root.certificate]).issue(),
        ),
        ("wrong usage", leaf().purposes(&[x509::oid::SERVER_AUTH]).issue()),
        ("CA:TRUE", leaf().certificate_authority().issue()),
        (
            "c18 duplicate extension",
            leaf().extension(Extension::new("1.3.6.1.4.1.57264.1.8", *b"\x0c\x01a")).issue(),
        ),
        ("c18 trailing bytes", leaf().raw_claim(8, b"\x0c\x01ab").issue()),
        ("c18 not a UTF8String", leaf().raw_claim(8, b"https://x").issue()),
        ("issuers disagree", leaf_of(claims().legacy_issuer(Some("https://evil.test")))),
        (
            "c19 two names",
            leaf_of(
                claims()
                    .with_sans(vec![San::Uri("https://evil.test/x".into()), San::Uri(claims().san().into())]),
            ),
        ),
        (
            "another root",
            leaf()
                .issued_by(&other.intermediate, &[&other.intermediate.certificate, &other.root.certificate])
                .issue(),
        ),
        ("c27 missing", leaf().sct(Sct::Missing).issue()),
        ("c27 bad signature", leaf().sct(Sct::BadSignature).issue()),
        ("c27 unknown log", leaf().sct(Sct::UnknownLog).issue()),
        ("c27 forged log id", leaf().sct(Sct::ForgedLogId).issue()),
        ("c27 other certificate", leaf().sct(Sct::OtherCertificate).issue()),
        ("c27 other issuer", leaf().sct(Sct::OtherIssuer).issue()),
        (
            "changed after the timestamp",
            leaf().extension_after_sct(Extension::new("1.2.3.4", *b"\x05\x00")).issue(),
        ),
    ];
    // The intermediate comes with the bundle, so that its own dates and constraints are looked at.
    let root = authority.trusted_root().only_roots();
    let bundle =
        |leaf: &Leaf| authority.attest(leaf, &statement()).version(Version::V02).at(now + 5).to_json();
    assert_eq!(verify(&root, &bundle(&parent)), Ok(()));
    let mut accepted = Vec::new();
    for (what, leaf) in wrong {
        let result = verify(&root, &bundle(&leaf));
        eprintln!("{what}: {result:?}");
        accepted.extend(result.is_ok().then_some(what));
    }
    // The verifier reads the first of two extensions, issuers or names.
    assert_eq!(accepted, ["c18 duplicate extension", "issuers disagree", "c19 two names"]);
}

#[test]
fn managed_keys_verify_under_a_hint() {
    let authority = Authority::new("acme");
    let root = sigstore_verify::trust_root::TrustedRoot::from_json(&authority.trusted_root_json()).unwrap();
    let key = Key::p256("managed");
    let policy = |key: &Key| PublicKeyVerificationPolicy::new(DerPublicKey::new(key.spki_der().to_vec()));
    for kind in [Kind::DsseV1, Kind::IntotoV2, Kind::HashedRekordV2] {
        let bundle = authority.attest_with_key(&key, &statement()).entry(kind).timestamp().to_json();
        let bundle = Bundle::from_json(&bundle).unwrap();
        let digest = Sha256Hash::from_hex(&sha256_hex(FILE)).unwrap();
        let verifier = Verifier::new(&root).unwrap();
        verifier.verify(digest, &bundle, &policy(&key)).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert!(verifier.verify(digest, &bundle, &policy(&Key::p256("other"))).is_err());
    }
}
