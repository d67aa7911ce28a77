//! Commits signed by OpenPGP keys. The keys and signatures beside this file were made with GnuPG 2.2.

use catenary_evidence::{
    PublicKey, Refusal, Scheme, Trust,
    key::KeyError,
    object::{Body, GIT_COMMIT, GIT_TAG, GitSignature, read},
};

const PAYLOAD: &str = include_str!("openpgp/payload");
const RSA: &str = include_str!("openpgp/rsa.asc");
const RSA_SIG: &str = include_str!("openpgp/rsa.sig");
const SUB: &str = include_str!("openpgp/sub.asc");
const SUB_SIG: &str = include_str!("openpgp/sub.sig");

/// The commit with the signature in its header.
fn commit(signature: &str) -> String {
    let folded = signature.trim_end().replace('\n', "\n ");
    PAYLOAD.replacen("\n\n", &format!("\ngpgsig {folded}\n\n"), 1)
}

fn key(text: &str) -> PublicKey {
    PublicKey::from_text(text, None).unwrap()
}

fn trust(keys: &[&str]) -> Trust {
    keys.iter().map(|text| key(text)).collect()
}

fn signature(commit: &str, trust: &Trust) -> Result<GitSignature, Refusal> {
    let object = read(GIT_COMMIT, commit.as_bytes(), trust, None)?;
    let Body::Commit(commit) = object.body else { panic!("a commit") };
    Ok(commit.signature.unwrap())
}

#[test]
fn a_registered_primary_key_or_signing_subkey_signs() {
    let both = trust(&[RSA, SUB]);
    for (armour, text) in [(RSA_SIG, RSA), (SUB_SIG, SUB)] {
        let signature = signature(&commit(armour), &both).unwrap();
        assert_eq!((signature.method.as_str(), signature.key()), ("openpgp", Some(key(text).id())));
    }
}

#[test]
fn a_key_that_nobody_registered_vouches_for_nothing() {
    assert_eq!(signature(&commit(RSA_SIG), &trust(&[SUB])).unwrap().key(), None);
    assert_eq!(signature(&commit(RSA_SIG), &Trust::none()).unwrap().key(), None);
}

#[test]
fn a_commit_that_was_changed_after_signing_is_refused() {
    let changed = commit(RSA_SIG).replace("Signed by", "Signed  by");
    let refusal = signature(&changed, &trust(&[RSA])).unwrap_err();
    assert_eq!(refusal, Refusal::ObjectSignature { key: key(RSA).id() });
}

#[test]
fn a_sha1_signature_proves_nothing() {
    for (armour, text) in
        [(include_str!("openpgp/rsa-sha1.sig"), RSA), (include_str!("openpgp/sub-sha1.sig"), SUB)]
    {
        assert_eq!(signature(&commit(armour), &trust(&[text])).unwrap().key(), None);
    }
}

#[test]
fn a_signature_made_after_the_key_expired_is_refused() {
    let shortened = include_str!("openpgp/shortened.asc");
    assert_eq!(key(shortened).id(), key(SUB).id(), "the same key, with an earlier end");
    assert!(signature(&commit(SUB_SIG), &trust(&[shortened])).is_err());
}

#[test]
fn a_revoked_key_and_a_key_for_something_else_cannot_be_registered() {
    let before = include_str!("openpgp/before-revocation.asc");
    assert!(
        signature(&commit(include_str!("openpgp/revoked.sig")), &trust(&[before])).unwrap().key().is_some()
    );
    for text in [include_str!("openpgp/revoked.asc"), include_str!("openpgp/enc.asc")] {
        assert_eq!(PublicKey::from_text(text, None).unwrap_err(), KeyError::CannotSign);
    }
}

#[test]
fn a_key_is_one_whole_block() {
    let two = format!("{RSA}\n{SUB}");
    assert_eq!(PublicKey::from_text(&two, None).unwrap_err(), KeyError::NotOneKey { found: 2 });
    let all = PublicKey::all_from_text(&two, None).unwrap();
    assert_eq!(all.iter().map(PublicKey::id).collect::<Vec<_>>(), [key(RSA).id(), key(SUB).id()]);
    let mut cut = RSA.to_owned();
    cut.replace_range(300..330, "");
    assert!(matches!(PublicKey::from_text(&cut, None), Err(KeyError::Malformed(_) | KeyError::CannotSign)));
    let private = RSA.replace("PUBLIC KEY BLOCK", "PRIVATE KEY BLOCK");
    assert_eq!(PublicKey::from_text(&private, None).unwrap_err(), KeyError::PrivateKey);
}

#[test]
fn what_is_stored_is_read_again_as_the_same_key() {
    let stored = key(SUB).to_pem();
    assert_eq!(PublicKey::from_pem(&stored, Some(Scheme::Openpgp)).unwrap().id(), key(SUB).id());
    assert!(PublicKey::from_pem(&stored, Some(Scheme::Ed25519)).is_err());
    assert_eq!(key(RSA).openpgp_fingerprint(), Some("50dc1b175ec11fec19f5b659ade9814e186ab48b"));
}

#[test]
fn a_tag_signed_by_openpgp_says_its_method() {
    let tag = format!(
        "object {}\ntype commit\ntag v1\ntagger A <a@acme.test> 1735700000 +0000\n\nv1\n{RSA_SIG}",
        "a".repeat(40)
    );
    // Signed over other bytes: the registered key that it names did not sign this tag.
    assert!(read(GIT_TAG, tag.as_bytes(), &trust(&[RSA]), None).is_err());
    let Body::Tag(read) = read(GIT_TAG, tag.as_bytes(), &Trust::none(), None).unwrap().body else {
        panic!("a tag")
    };
    assert_eq!(read.signature.unwrap().method, "openpgp");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
    #[test]
    fn a_damaged_signature_never_vouches_and_never_panics(at in 0usize..500, byte: u8) {
        let mut damaged = RSA_SIG.as_bytes().to_vec();
        let at = at % damaged.len();
        damaged[at] = byte & 0x7f;
        let text = String::from_utf8(damaged).unwrap();
        if let Ok(found) = signature(&commit(&text.replace('\0', "x")), &trust(&[RSA, SUB])) {
            // Armour is malleable around the packet; the packet is not.
            let same = found.key() == Some(key(RSA).id());
            proptest::prop_assert!(found.key().is_none() || same);
        }
    }
}
