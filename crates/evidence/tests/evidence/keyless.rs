//! Keyless bundles of an authority of our own: what is untouched verifies, and each attack breaks one thing.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_evidence::{
    Attestation, Digest, PublicKey, Refusal, Trust,
    attestation::verify,
    object::{Body, GIT_COMMIT, read},
    signer::{AuthorityKind, Logged},
    trust_root::{Domain, Rules},
};
use catenary_testkit::{
    Key,
    authority::{
        Authority, BundleBuilder, Claims, Kind, LIFETIME, Leaf, San, Sct, Tamper, TrustedRoot, Tsa, Version,
        x509::Extension,
    },
    sha256_hex,
};
use serde_json::json;

const SHA: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";

fn statement() -> String {
    json!({
        "_type": "https://in-toto.io/Statement/v1", "predicate": {},
        "predicateType": "https://acme.test/note/v1",
        "subject": [{"name": "image", "digest": {"sha256": sha256_hex(b"the image")}}]
    })
    .to_string()
}

fn claims() -> Claims {
    Claims::github("acme/app", ".github/workflows/release.yml", "refs/heads/main", SHA)
}

fn trust_with(root: &TrustedRoot, rules: Rules) -> Trust {
    let mut trust = Trust::none();
    trust.insert_domain(Arc::new(Domain::read("acme", root.to_json().as_bytes(), rules).unwrap()));
    trust
}

fn trust(authority: &Authority) -> Trust {
    trust_with(&authority.trusted_root(), Rules::default())
}

fn good<'a>(authority: &'a Authority, leaf: &Leaf, kind: Kind) -> BundleBuilder<'a> {
    let builder = authority.attest(leaf, &statement()).entry(kind);
    if kind.is_v2() { builder.timestamp() } else { builder }
}

fn check(bundle: &str, trust: &Trust) -> Result<Attestation, Refusal> {
    verify(bundle.as_bytes(), trust)
}

/// The code under which a bundle does not count: of its refusal, or of what an unverified one lacks.
fn code(bundle: &str, trust: &Trust) -> String {
    match check(bundle, trust) {
        Err(refusal) => refusal.code().to_owned(),
        Ok(facts) if facts.is_verified() => "verified".into(),
        Ok(facts) => facts.doubt.map_or_else(|| "unverified".into(), |doubt| doubt.code),
    }
}

#[test]
fn every_untampered_bundle_verifies() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let trust = trust(&authority);
    for version in Version::ALL {
        for kind in Kind::ALL {
            // v0.1 wants a promise, which v2 logs do not make.
            if kind.is_v2() && version == Version::V01 {
                continue;
            }
            for stamped in [false, true] {
                let mut builder = good(&authority, &leaf, kind).version(version);
                if stamped && !kind.is_v2() {
                    builder = builder.timestamp();
                }
                let facts =
                    check(&builder.to_json(), &trust).unwrap_or_else(|e| panic!("{version:?} {kind:?}: {e}"));
                let [signature] = facts.signatures.as_slice() else {
                    panic!("{version:?} {kind:?}: {:?}", facts.doubt)
                };
                assert_eq!(signature.logged, Logged::Proof);
                assert!(signature.signed_before.is_some());
            }
        }
    }
}

#[test]
fn the_facts_name_the_holder_the_time_and_who_vouches() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let facts =
        check(&good(&authority, &leaf, Kind::DsseV1).timestamp().to_json(), &trust(&authority)).unwrap();
    let signature = &facts.signatures[0];
    let identity = signature.signer.identity().unwrap();
    assert_eq!(identity.san, claims().san());
    assert_eq!(identity.issuer.as_deref(), Some("https://token.actions.githubusercontent.com"));
    assert_eq!(identity.claims.source_repository_digest.as_deref(), Some(SHA));
    assert_eq!(identity.claims.build_signer_uri.as_deref(), Some(identity.san.as_str()));
    let kinds: std::collections::BTreeSet<AuthorityKind> =
        signature.vouchers.iter().map(|v| v.kind).collect();
    assert_eq!(kinds.len(), 4, "{:?}", signature.vouchers);
    let known =
        Domain::read("acme", authority.trusted_root().to_json().as_bytes(), Rules::default()).unwrap();
    for voucher in &signature.vouchers {
        let windows = &known.authorities()[&(voucher.kind, voucher.authority)];
        assert!(windows.iter().any(|window| window.contains(voucher.at)), "{voucher:?}");
    }
}

#[test]
fn no_tampered_bundle_verifies() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let trust = trust(&authority);
    let mut codes = std::collections::BTreeMap::new();
    for kind in Kind::ALL {
        for tamper in Tamper::ALL.iter().copied() {
            if !tamper.applies(kind, true) {
                continue;
            }
            let bundle = good(&authority, &leaf, kind).tamper(tamper).to_json();
            let code = code(&bundle, &trust);
            // A time that has not come is not for this crate to see: the chain compares it with the log's clock.
            // A stranger's timestamp beside a good time is as good as none.
            let harmless = matches!(tamper, Tamper::IntegratedInFuture | Tamper::TokenByUnknown);
            if !harmless {
                assert_ne!(code, "verified", "{kind:?} {tamper:?}");
            }
            codes.entry(code).or_insert_with(Vec::new).push((kind, tamper));
        }
    }
    assert!(codes.len() > 8, "refusals say what was wrong: {codes:?}");
}

/// One attack and the codes under which it may be refused.
fn attacked(tamper: Tamper, expected: &[&str]) {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let trust = trust(&authority);
    let twin = good(&authority, &leaf, Kind::DsseV1).timestamp();
    assert_eq!(code(&twin.to_json(), &trust), "verified", "the untouched twin");
    let found = code(&good(&authority, &leaf, Kind::DsseV1).tamper(tamper).to_json(), &trust);
    assert!(expected.contains(&found.as_str()), "{tamper:?}: {found}");
}

#[test]
fn e01_e02_a_changed_payload_or_payload_type() {
    attacked(
        Tamper::PayloadBit,
        &["ATT_TLOG_BODY_MISMATCH", "ATT_SIGNATURE_INVALID", "JSON_INVALID", "ATT_MALFORMED"],
    );
    attacked(Tamper::PayloadType, &["ATT_TLOG_BODY_MISMATCH", "ATT_SIGNATURE_INVALID", "ATT_PAYLOAD_TYPE"]);
}

#[test]
fn t01_no_log_entry_and_no_timestamp() {
    attacked(Tamper::NoEntriesNoTimestamps, &["ATT_TLOG_MISSING"]);
}

#[test]
fn t02_a_log_entry_of_another_artifact() {
    attacked(Tamper::EntryOfAnother, &["ATT_TLOG_BODY_MISMATCH"]);
}

#[test]
fn t03_a_log_entry_of_another_signature_by_the_same_certificate() {
    attacked(Tamper::EntryOfAnotherSignature, &["ATT_TLOG_BODY_MISMATCH"]);
}

#[test]
fn t06_a_backdated_integrated_time() {
    attacked(Tamper::BackdatedIntegratedTime, &["ATT_TLOG_INVALID"]);
}

#[test]
fn t08_a_bundle_that_says_it_is_older() {
    attacked(Tamper::Downgraded, &["ATT_FORM_UNSUPPORTED"]);
    attacked(Tamper::NoMediaType, &["ATT_FORM_UNSUPPORTED"]);
}

#[test]
fn t09_a_bundle_of_an_unknown_version() {
    attacked(Tamper::UnknownMediaType, &["ATT_FORM_UNSUPPORTED"]);
}

#[test]
fn t10_a_proof_of_another_root() {
    attacked(Tamper::ProofOfAnotherRoot, &["ATT_TLOG_INVALID", "ATT_TLOG_CHECKPOINT"]);
    attacked(Tamper::RootNotInCheckpoint, &["ATT_TLOG_CHECKPOINT"]);
    for tamper in [
        Tamper::CheckpointByAnotherLog,
        Tamper::CheckpointForged,
        Tamper::CheckpointBySibling,
        Tamper::WrongKeyHint,
        Tamper::CheckpointBit,
    ] {
        attacked(tamper, &["ATT_TLOG_CHECKPOINT"]);
    }
}

#[test]
fn t12_an_index_that_is_no_trees() {
    attacked(Tamper::NegativeIndex, &["ATT_TLOG_INVALID", "ATT_TLOG_INVALID", "ATT_MALFORMED"]);
}

#[test]
fn t21_one_backdated_timestamp_among_several() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let other = Tsa::new("other", authority.window);
    let root = authority.trusted_root().and_tsa(&other);
    let trust = trust_with(&root, Rules::default());
    let good = authority.attest(&leaf, &statement()).timestamp_by(&other, authority.now + 5);
    assert_eq!(code(&good.to_json(), &trust), "verified");
    let late = authority.now + LIFETIME + 60;
    let one = authority.attest(&leaf, &statement()).timestamp().timestamp_by(&other, late);
    assert_eq!(code(&one.to_json(), &trust), "ATT_CERT_EXPIRED_AT_SIGNING");
}

#[test]
fn t27_a_log_that_the_root_does_not_name() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let root = authority.trusted_root().without_logs();
    let found = code(&good(&authority, &leaf, Kind::DsseV1).to_json(), &trust_with(&root, Rules::default()));
    assert_eq!(found, "ATT_TLOG_INVALID");
}

#[test]
fn a_certified_rsa_key_signs_with_either_padding() {
    let authority = Authority::new("acme");
    let trust = trust(&authority);
    for key in [Key::rsa_pkcs1("leaf"), Key::rsa_pss("leaf")] {
        let leaf = authority.leaf(&claims()).key(&key).issue();
        for kind in [Kind::DsseV1, Kind::HashedRekordV2] {
            let bundle = good(&authority, &leaf, kind).timestamp().to_json();
            assert!(check(&bundle, &trust).unwrap().is_verified(), "{} {kind:?}", key.scheme().name());
        }
        let file = authority.sign_blob(&leaf, b"file").entry(Kind::HashedRekordV1).to_json();
        assert!(check(&file, &trust).unwrap().is_verified(), "{} over a digest", key.scheme().name());
        let other = good(&authority, &leaf, Kind::DsseV1).signature(&key.sign(b"another message"));
        assert_eq!(code(&other.to_json(), &trust), "ATT_SIGNATURE_INVALID");
    }
}

#[test]
fn a_log_without_a_clock_counts_while_its_key_is_trusted() {
    use catenary_testkit::authority::Window;
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let (start, stamp) = (authority.window.start, authority.now + 5);
    for kind in [Kind::HashedRekordV2, Kind::DsseV2] {
        let bundle = good(&authority, &leaf, kind).to_json();
        for (window, expected) in [
            (Window::between(start, stamp), "verified"),
            (Window::between(start, stamp - 1), "ATT_TLOG_CHECKPOINT"),
            (Window::from(stamp), "verified"),
            (Window::from(stamp + 1), "ATT_TLOG_CHECKPOINT"),
        ] {
            let root = authority.trusted_root().log_window(window);
            assert_eq!(code(&bundle, &trust_with(&root, Rules::default())), expected, "{kind:?} {window:?}");
        }
    }
}

/// A bundle by a certificate that should not sign.
fn certified(leaf: &Leaf, authority: &Authority) -> String {
    code(&good(authority, leaf, Kind::DsseV1).to_json(), &trust(authority))
}

#[test]
fn c01_a_self_signed_leaf_with_a_perfect_name() {
    let authority = Authority::new("acme");
    let found = certified(&authority.leaf(&claims()).self_signed().issue(), &authority);
    assert!(["ATT_CERT_CHAIN_UNTRUSTED", "ATT_CERT_CHAIN_UNTRUSTED"].contains(&found.as_str()), "{found}");
}

#[test]
fn c02_a_leaf_issued_by_a_leaf() {
    let authority = Authority::new("acme");
    let issuer = authority.leaf(&claims()).issue();
    let found = certified(&authority.leaf(&claims()).issued_by_leaf(&issuer).issue(), &authority);
    assert!(["ATT_CERT_CHAIN_UNTRUSTED", "ATT_CERT_CHAIN_UNTRUSTED"].contains(&found.as_str()), "{found}");
}

#[test]
fn c05_a_leaf_outside_its_validity_at_the_trusted_time() {
    attacked(Tamper::IntegratedAfterCertificate, &["ATT_CERT_EXPIRED_AT_SIGNING"]);
    attacked(Tamper::IntegratedBeforeCertificate, &["ATT_CERT_EXPIRED_AT_SIGNING"]);
}

#[test]
fn a_chain_is_in_order_and_may_end_in_its_root() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let trust = trust(&authority);
    let root = json!({"rawBytes": STANDARD.encode(&authority.root.certificate)});
    for version in [Version::V01, Version::V02] {
        let at = |position: usize| {
            let bundle = good(&authority, &leaf, Kind::DsseV1).version(version).edit_json(|bundle| {
                let chain = &mut bundle["verificationMaterial"]["x509CertificateChain"]["certificates"];
                chain.as_array_mut().unwrap().insert(position, root.clone());
            });
            code(&bundle.to_json(), &trust)
        };
        assert_eq!((at(1).as_str(), at(2).as_str()), ("ATT_FORM_UNSUPPORTED", "verified"), "{version:?}");
    }
}

#[test]
fn c18_a_malformed_extension() {
    let authority = Authority::new("acme");
    for (what, leaf) in [
        ("raw", authority.leaf(&claims()).raw_claim(8, b"https://no.der").issue()),
        ("trailing", authority.leaf(&claims()).raw_claim(8, b"\x0c\x01a\x00").issue()),
        ("CA", authority.leaf(&claims()).certificate_authority().issue()),
        ("purpose", authority.leaf(&claims()).purposes(&["1.3.6.1.5.5.7.3.1"]).issue()),
    ] {
        let found = certified(&leaf, &authority);
        assert!(["ATT_MALFORMED", "ATT_CERT_CHAIN_UNTRUSTED"].contains(&found.as_str()), "{what}: {found}");
    }
    let two = claims().legacy_issuer(Some("https://other.test"));
    assert_eq!(certified(&authority.leaf(&two).issue(), &authority), "ATT_MALFORMED");
}

#[test]
fn c19_two_names_in_one_certificate() {
    let authority = Authority::new("acme");
    let san = claims().san().to_owned();
    let both = claims().with_sans(vec![San::Uri("https://evil.test".into()), San::Uri(san)]);
    assert_eq!(certified(&authority.leaf(&both).issue(), &authority), "ATT_MALFORMED");
}

#[test]
fn c27_a_missing_or_foreign_certificate_timestamp() {
    let authority = Authority::new("acme");
    let of = |sct| certified(&authority.leaf(&claims()).sct(sct).issue(), &authority);
    assert_eq!(of(Sct::Good), "verified");
    assert_eq!(of(Sct::Missing), "ATT_SCT_MISSING");
    for sct in [Sct::BadSignature, Sct::UnknownLog, Sct::ForgedLogId, Sct::OtherCertificate] {
        assert_eq!(of(sct), "ATT_SCT_INVALID", "{sct:?}");
    }
}

#[test]
fn c18_a_certificate_whose_key_is_for_something_else() {
    let authority = Authority::new("acme");
    let usage = |extension: Option<Extension>| {
        let leaf = authority.leaf(&claims()).edit(move |spec| {
            spec.extensions.retain(|known| known.oid != "2.5.29.15");
            spec.extensions.extend(extension.clone());
        });
        certified(&leaf.issue(), &authority)
    };
    assert_eq!(usage(Some(Extension::key_usage(false))), "verified");
    assert_eq!(usage(None), "verified", "it need not say");
    assert_eq!(usage(Some(Extension::key_usage(true))), "ATT_MALFORMED", "it signs certificates");
}

#[test]
fn c19_a_name_that_goes_on_after_nul() {
    let authority = Authority::new("acme");
    for san in [San::Uri("https://ci.test\0.evil.test".into()), San::Email("ci@acme.test\0x".into())] {
        let claims = claims().with_sans(vec![san]);
        assert_eq!(certified(&authority.leaf(&claims).issue(), &authority), "ATT_MALFORMED");
    }
}

#[test]
fn t10_what_a_proof_of_rekor_v2_repeats_is_the_same() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let trust = trust(&authority);
    // The second entry, so that no index is 0.
    good(&authority, &leaf, Kind::DsseV2).to_json();
    let with = |member: &'static str, value: Option<serde_json::Value>| {
        let bundle = good(&authority, &leaf, Kind::DsseV2).edit_json(move |bundle| {
            let proof = &mut bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"];
            let proof = proof.as_object_mut().unwrap();
            assert!(proof.remove(member).is_some(), "{member}");
            proof.extend(value.clone().map(|value| (member.to_owned(), value)));
        });
        code(&bundle.to_json(), &trust)
    };
    for (member, other, expected) in [
        ("rootHash", json!(STANDARD.encode([7; 32])), "ATT_TLOG_CHECKPOINT"),
        ("treeSize", json!("999"), "ATT_TLOG_CHECKPOINT"),
        ("treeSize", json!("-1"), "ATT_TLOG_INVALID"),
        ("logIndex", json!("998"), "ATT_TLOG_INVALID"),
    ] {
        assert_eq!(with(member, Some(other.clone())), expected, "{member} {other}");
        assert_eq!(with(member, None), "verified", "{member} need not be repeated");
    }
}

#[test]
fn t02_t17_a_key_is_no_excuse_for_a_lying_entry_or_timestamp() {
    let authority = Authority::new("acme");
    let key = Key::p256("ci");
    let bundle = || authority.attest_with_key(&key, &statement());
    let known = |mut trust: Trust| {
        trust.insert_key(PublicKey::from_pem(&key.public_pem(), None).unwrap());
        trust
    };
    let (alone, with_root) = (known(Trust::none()), known(trust(&authority)));
    let stamped = || bundle().timestamp();
    for trust in [&alone, &with_root] {
        assert_eq!(code(&stamped().to_json(), trust), "verified");
        for tamper in [Tamper::EntryOfAnother, Tamper::EntryOfAnotherSignature, Tamper::BodyOfAnotherPayload]
        {
            assert_eq!(
                code(&bundle().tamper(tamper).to_json(), trust),
                "ATT_TLOG_BODY_MISMATCH",
                "{tamper:?}"
            );
        }
    }
    for kinds in [&[][..], &[Kind::DsseV1]] {
        for tamper in [Tamper::TokenOverAnotherSignature, Tamper::TokenForged, Tamper::TokenByWrongSigner] {
            let found = code(&bundle().entries(kinds).tamper(tamper).to_json(), &with_root);
            assert_eq!(found, "ATT_TIMESTAMP_INVALID", "{tamper:?} {kinds:?}");
        }
        // A stranger's is as good as none.
        let stranger = bundle().entries(kinds).tamper(Tamper::TokenByUnknown).to_json();
        assert_eq!(code(&stranger, &with_root), "verified");
    }
}

#[test]
fn a_file_signed_with_a_longer_hash_is_logged_under_it() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).key(&Key::p384("long")).issue();
    let trust = trust(&authority);
    let digest =
        |bytes: &[u8]| Digest::Sha384([0; 48]).recompute(bytes).to_string()["sha384:".len()..].to_owned();
    let base64 = |hex: &str| STANDARD.encode(hex::decode(hex).unwrap());
    let blob = |kind: Kind, logged: &'static [u8]| {
        let (of_file, in_log) = (base64(&digest(b"file")), digest(logged));
        let bundle =
            authority.sign_blob(&leaf, b"file").entry(kind).timestamp().edit_body(move |body| match kind {
                Kind::HashedRekordV1 => {
                    body["spec"]["data"]["hash"] = json!({"algorithm": "sha384", "value": in_log});
                }
                _ => {
                    body["spec"]["hashedRekordV002"]["data"] =
                        json!({"algorithm": "SHA2_384", "digest": base64(&in_log)});
                }
            });
        let bundle = bundle.edit_json(move |bundle| {
            bundle["messageSignature"]["messageDigest"] = json!({"algorithm": "SHA2_384", "digest": of_file});
        });
        code(&bundle.to_json(), &trust)
    };
    for kind in [Kind::HashedRekordV1, Kind::HashedRekordV2] {
        assert_eq!(blob(kind, b"file"), "verified", "{kind:?}");
        assert_eq!(blob(kind, b"another"), "ATT_TLOG_BODY_MISMATCH", "{kind:?}");
    }
}

#[test]
fn what_a_domain_demands_is_its_own_to_say() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).sct(Sct::Missing).issue();
    let bundle = authority.attest(&leaf, &statement()).tamper(Tamper::NoEntriesNoTimestamps).to_json();
    let relaxed = trust_with(&authority.trusted_root(), Rules::NONE);
    let facts = check(&bundle, &relaxed).unwrap();
    assert_eq!(facts.signatures[0].signed_before, None, "nothing says when");
    assert_eq!(code(&bundle, &trust(&authority)), "ATT_SCT_MISSING");
    // A domain that asks for nothing still believes nothing that is broken.
    let broken = good(&authority, &leaf, Kind::DsseV1).tamper(Tamper::BackdatedIntegratedTime).to_json();
    assert_eq!(code(&broken, &relaxed), "ATT_TLOG_INVALID");
}

#[test]
fn a_domain_vouches_for_its_own_certificates_only() {
    let (ours, theirs) = (Authority::new("acme"), Authority::new("globex"));
    let bundle = good(&theirs, &theirs.leaf(&claims()).issue(), Kind::DsseV1).to_json();
    assert_eq!(code(&bundle, &trust(&ours)), "ATT_CERT_CHAIN_UNTRUSTED");
    let mut both = trust(&ours);
    let root = theirs.trusted_root().to_json();
    both.insert_domain(Arc::new(Domain::read("globex", root.as_bytes(), Rules::default()).unwrap()));
    let facts = check(&bundle, &both).unwrap();
    assert_eq!(facts.signatures[0].signer.identity().unwrap().domain, "globex");
    assert_eq!(code(&bundle, &Trust::builtin()), "ATT_CERT_CHAIN_UNTRUSTED");
}

#[test]
fn a_statement_about_a_commit_is_verified_like_any_other() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "predicate": {}, "predicateType": "https://acme.test/note/v1",
        "subject": [{"digest": {"gitCommit": SHA}}]
    });
    let bundle = authority.attest(&leaf, &statement.to_string()).to_json();
    assert!(check(&bundle, &trust(&authority)).unwrap().is_verified());
    let forged = authority.attest(&leaf, &statement.to_string()).tamper(Tamper::EntryOfAnother).to_json();
    assert_eq!(code(&forged, &trust(&authority)), "ATT_TLOG_BODY_MISMATCH");
}

#[test]
fn gitsign_commits_verify_with_and_without_their_log_entry() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&Claims::email("dev@acme.test", "https://accounts.acme.test")).issue();
    let unsigned = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@acme.test> 1780000000 +0000\ncommitter A <a@acme.test> 1780000000 +0000\n\nSigned\n";
    let commit = |armour: &str, text: &str| {
        let folded = armour.trim_end().replace('\n', "\n ");
        text.replacen("\n\n", &format!("\ngpgsig {folded}\n\n"), 1)
    };
    let signed = |text: &str, trust: &Trust| {
        let object = read(GIT_COMMIT, text.as_bytes(), trust, None)?;
        let Body::Commit(body) = object.body else { panic!("a commit") };
        Ok::<_, Refusal>(body.signature.unwrap().verified)
    };
    let trust = trust(&authority);
    let offline = commit(&authority.gitsign(&leaf, unsigned.as_bytes()).to_armour(), unsigned);
    let signature = signed(&offline, &trust).unwrap().unwrap();
    assert_eq!((signature.logged, signature.signed_before.is_some()), (Logged::Proof, true));
    assert_eq!(signature.signer.identity().unwrap().san, "dev@acme.test");

    let online = commit(&authority.gitsign(&leaf, unsigned.as_bytes()).online().to_armour(), unsigned);
    let signature = signed(&online, &trust).unwrap().unwrap();
    assert_eq!((signature.logged, signature.signed_before), (Logged::No, None));

    // Signed as a timestamp's content, shown as plain bytes.
    let confused = authority.gitsign(&leaf, unsigned.as_bytes()).edit_message(|message| {
        message.signed_type = Some("1.2.840.113549.1.9.16.1.4".into());
    });
    assert_eq!(signed(&commit(&confused.to_armour(), unsigned), &trust).unwrap(), None);

    for good in [&offline, &online] {
        let refusal = signed(&good.replace("Signed\n", "Changed\n"), &trust).unwrap_err();
        assert_eq!(refusal.code(), "ATT_SIGNATURE_INVALID");
    }
    assert_eq!(signed(&offline, &Trust::none()).unwrap(), None);
}

/// Bundles whose log entry is of kind `intoto`, as of 2021 to 2024.
mod intoto {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde_json::Value;

    use super::*;

    /// What is done to the body before the log takes it in: promise and proof are good for what comes of it.
    type Edit = fn(&mut Value);

    fn logged(kind: Kind, edit: Edit) -> String {
        let authority = Authority::new("acme");
        let leaf = authority.leaf(&claims()).issue();
        let trust = trust(&authority);
        code(&good(&authority, &leaf, kind).edit_body(edit).to_json(), &trust)
    }

    /// A bundle over an entry that was made from the envelope in this spelling.
    fn uploaded(spell: impl Fn(&str, &str) -> String) -> String {
        let authority = Authority::new("acme");
        let leaf = authority.leaf(&claims()).issue();
        let bundle = good(&authority, &leaf, Kind::IntotoV1);
        // Signatures of testkit's keys are made with a nonce: make one, and use it for all.
        let signature = bundle.parts().signed.signature;
        let text = spell(&STANDARD.encode(statement()), &STANDARD.encode(&signature));
        let hash = sha256_hex(text.as_bytes());
        let edit = |body: &mut Value| body["spec"]["content"]["hash"]["value"] = hash.clone().into();
        code(&bundle.signature(&signature).edit_body(edit).to_json(), &trust(&authority))
    }

    #[test]
    fn an_envelope_is_known_in_the_spellings_that_clients_uploaded() {
        let go = |payload: &str, sig: &str| {
            format!(
                r#"{{"payloadType":"application/vnd.in-toto+json","payload":"{payload}","signatures":[{{"keyid":"","sig":"{sig}"}}]}}"#
            )
        };
        assert_eq!(uploaded(go), "verified");
        let canonical = |payload: &str, sig: &str| {
            format!(
                r#"{{"payload":"{payload}","payloadType":"application/vnd.in-toto+json","signatures":[{{"keyid":"","sig":"{sig}"}}]}}"#
            )
        };
        assert_eq!(uploaded(canonical), "verified");
        for (from, to) in [("in-toto+json", "in-toto+jso"), ("\"keyid\":\"\"", "\"keyid\":\"me\"")] {
            assert_eq!(uploaded(|p, s| go(p, s).replace(from, to)), "ATT_TLOG_BODY_MISMATCH", "{to}");
        }
        let other = STANDARD.encode("{}");
        assert_eq!(uploaded(|_, s| go(&other, s)), "ATT_TLOG_BODY_MISMATCH", "another payload");
        assert_eq!(uploaded(|p, _| go(p, &other)), "ATT_TLOG_BODY_MISMATCH", "another signature");
        assert_eq!(
            uploaded(|p, s| go(p, s).replace("}]", "},{}]")),
            "ATT_TLOG_BODY_MISMATCH",
            "a second signature"
        );
    }

    #[test]
    fn an_entry_of_the_first_version_is_about_this_envelope_or_refused() {
        let edits: [(&str, Edit, &str); 7] = [
            ("untouched", |_| {}, "verified"),
            ("before payload hashes", |b| drop(content(b).remove("payloadHash")), "verified"),
            (
                "payload",
                |b| content(b)["payloadHash"]["value"] = "00".repeat(32).into(),
                "ATT_TLOG_BODY_MISMATCH",
            ),
            (
                "algorithm",
                |b| content(b)["payloadHash"]["algorithm"] = "sha512".into(),
                "ATT_TLOG_BODY_MISMATCH",
            ),
            ("envelope", |b| content(b)["hash"]["value"] = "00".repeat(32).into(), "ATT_TLOG_BODY_MISMATCH"),
            ("no envelope", |b| drop(content(b).remove("hash")), "ATT_TLOG_INVALID"),
            (
                "signer",
                |b| b["spec"]["publicKey"] = STANDARD.encode("nobody").into(),
                "ATT_TLOG_BODY_MISMATCH",
            ),
        ];
        for (what, edit, expected) in edits {
            assert_eq!(logged(Kind::IntotoV1, edit), expected, "{what}");
        }
    }

    #[test]
    fn an_entry_of_the_second_version_is_about_this_envelope_or_refused() {
        fn once(b: &mut Value) -> &mut Value {
            &mut b["spec"]["content"]["envelope"]
        }
        let edits: [(&str, Edit, &str); 11] = [
            ("untouched", |_| {}, "verified"),
            (
                "payload",
                |b| content(b)["payloadHash"]["value"] = "00".repeat(32).into(),
                "ATT_TLOG_BODY_MISMATCH",
            ),
            ("no payload", |b| drop(content(b).remove("payloadHash")), "ATT_TLOG_INVALID"),
            ("type", |b| once(b)["payloadType"] = "application/json".into(), "ATT_TLOG_BODY_MISMATCH"),
            (
                "signature",
                |b| once(b)["signatures"][0]["sig"] = STANDARD.encode("AAAA").into(),
                "ATT_TLOG_BODY_MISMATCH",
            ),
            (
                "signature encoded once",
                |b| once(b)["signatures"][0]["sig"] = "AAAA".into(),
                "ATT_TLOG_INVALID",
            ),
            ("signer", |b| once(b)["signatures"][0]["publicKey"] = "AAAA".into(), "ATT_TLOG_BODY_MISMATCH"),
            ("no signature", |b| once(b)["signatures"] = json!([]), "ATT_TLOG_BODY_MISMATCH"),
            (
                "two signatures",
                |b| {
                    let first = once(b)["signatures"][0].clone();
                    once(b)["signatures"] = json!([first, first]);
                },
                "ATT_TLOG_BODY_MISMATCH",
            ),
            ("its payload", |b| once(b)["payload"] = STANDARD.encode(statement()).into(), "verified"),
            (
                "another payload",
                |b| once(b)["payload"] = STANDARD.encode("{}").into(),
                "ATT_TLOG_BODY_MISMATCH",
            ),
        ];
        for (what, edit, expected) in edits {
            assert_eq!(logged(Kind::IntotoV2, edit), expected, "{what}");
        }
    }

    fn content(body: &mut Value) -> &mut serde_json::Map<String, Value> {
        body["spec"]["content"].as_object_mut().expect("the body of an entry has a content")
    }

    #[test]
    fn t02_an_entry_of_another_envelope() {
        let authority = Authority::new("acme");
        let leaf = authority.leaf(&claims()).issue();
        let trust = trust(&authority);
        for kind in [Kind::IntotoV1, Kind::IntotoV2] {
            for version in [Version::V01, Version::V02, Version::V03] {
                for tamper in [Tamper::EntryOfAnother, Tamper::EntryOfAnotherSignature, Tamper::PayloadBit] {
                    let bundle = good(&authority, &leaf, kind).version(version).tamper(tamper);
                    assert_eq!(
                        code(&bundle.to_json(), &trust),
                        "ATT_TLOG_BODY_MISMATCH",
                        "{kind:?} {version:?} {tamper:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn cosign_attachments_verify_from_layer_and_annotations() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    for kind in [Kind::DsseV1, Kind::IntotoV1, Kind::IntotoV2] {
        let attachment = good(&authority, &leaf, kind).version(Version::V01).to_attachment();
        let digest = format!("sha256:{}", sha256_hex(&attachment.layer));
        let wrapped = |blob: &[u8]| {
            json!({
                "mediaType": "application/vnd.catenary.cosign-layer.v1+json",
                "layer": {"mediaType": attachment.media_type, "digest": digest, "size": 1, "annotations": attachment.annotations},
                "blob": STANDARD.encode(blob)
            })
            .to_string()
        };
        let facts =
            check(&wrapped(&attachment.layer), &trust(&authority)).unwrap_or_else(|e| panic!("{kind:?} {e}"));
        assert!(facts.is_verified(), "{kind:?} {:?}", facts.doubt);
        let mut changed = attachment.layer.clone();
        changed[20] ^= 1;
        assert_eq!(code(&wrapped(&changed), &trust(&authority)), "DIGEST_MISMATCH");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]
    #[test]
    fn a_damaged_bundle_never_panics_and_never_says_more(at in 0usize..20_000, byte: u8) {
        let authority = Authority::new("acme");
        let leaf = authority.leaf(&claims()).issue();
        let trust = trust(&authority);
        let bundle = good(&authority, &leaf, Kind::DsseV1).timestamp().to_json();
        let golden = check(&bundle, &trust).unwrap();
        let mut damaged = bundle.into_bytes();
        let at = at % damaged.len();
        damaged[at] = byte;
        if let Ok(facts) = verify(&damaged, &trust)
            && facts.is_verified()
        {
            proptest::prop_assert_eq!(facts.payload, golden.payload);
            proptest::prop_assert_eq!(&facts.subjects, &golden.subjects);
            let signers = |facts: &Attestation| facts.signatures.iter().map(|s| s.signer.clone()).collect::<Vec<_>>();
            proptest::prop_assert_eq!(facts.signatures.len(), signers(&golden).len());
        }
    }
}

#[test]
fn t15_two_entries_of_one_log_are_no_two_logs() {
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let strict = trust_with(&authority.trusted_root(), Rules { logs: 2, ..Rules::default() });
    let bundle = |kinds: &[Kind]| authority.attest(&leaf, &statement()).entries(kinds).timestamp().to_json();
    assert_eq!(code(&bundle(&[Kind::DsseV1, Kind::HashedRekordV1]), &strict), "ATT_WITNESS_QUORUM");
    assert_eq!(code(&bundle(&[Kind::DsseV1]), &strict), "ATT_WITNESS_QUORUM");
    check(&bundle(&[Kind::DsseV1, Kind::HashedRekordV2]), &strict).unwrap();
    check(&bundle(&[Kind::DsseV1]), &trust(&authority)).unwrap();
}
