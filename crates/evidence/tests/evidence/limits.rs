//! Every limit that no other test names, at the limit and one over it.

use catenary_evidence::{
    PublicKey, Refusal, Trust,
    attestation::verify,
    key::KeyError,
    limits::{
        MAX_APPROVERS, MAX_DESCRIPTORS, MAX_DIGESTS, MAX_KEY, MAX_KEYID, MAX_LEVELS, MAX_PARENTS,
        MAX_SIGNATURE, MAX_TEXT,
    },
    object::{GIT_COMMIT, read},
};
use serde_json::{Value, json};

use crate::common::{COMMIT, IMAGE, Signer, anonymous, bytes, envelope_with, provenance, statement};

/// Holds at `limit`, and is refused as too much at one over.
fn limited(limit: usize, with: impl Fn(usize) -> Result<(), Refusal>) {
    assert_eq!(with(limit), Ok(()), "at the limit");
    assert_eq!(with(limit + 1).map_err(|e| e.code()), Err("ATT_TOO_LARGE"), "one over");
}

fn accept(statement: &Value) -> Result<(), Refusal> {
    verify(&anonymous(&bytes(statement), &Signer::ed25519()), &Trust::none()).map(|_| ())
}

#[test]
fn signature_and_keyid_lengths_are_limited() {
    let payload = bytes(&provenance());
    let send = |keyid: Option<&str>, sig: &[u8]| {
        verify(&envelope_with(&payload, &[(keyid, sig)]), &Trust::none()).map(|_| ())
    };
    limited(MAX_SIGNATURE, |n| send(None, &vec![1; n]));
    limited(MAX_KEYID, |n| send(Some(&"k".repeat(n)), &[1; 64]));
}

#[test]
fn digests_of_one_set_are_limited() {
    limited(MAX_DIGESTS, |n| {
        let mut statement = provenance();
        let others = (1..n).map(|i| (format!("other{i}"), json!("aa")));
        statement["subject"][0]["digest"] =
            others.chain([("sha256".to_owned(), json!(IMAGE))]).collect::<serde_json::Map<_, _>>().into();
        accept(&statement)
    });
}

#[test]
fn the_predicate_type_is_limited() {
    limited(MAX_TEXT, |n| accept(&statement(&"t".repeat(n), json!({}))));
}

#[test]
fn levels_of_a_summary_are_limited() {
    limited(MAX_LEVELS, |n| {
        accept(&statement(
            "https://slsa.dev/verification_summary/v1",
            json!({"verifier": {"id": "v"}, "resourceUri": "r", "verificationResult": "PASSED",
                "verifiedLevels": vec!["SLSA_BUILD_LEVEL_1"; n]}),
        ))
    });
}

#[test]
fn approvers_of_a_review_are_limited() {
    limited(MAX_APPROVERS, |n| {
        let mut statement = statement(
            "urn:catenary:predicate:commit:v1",
            json!({"repository": {"uri": "git+https://git.acme.test/acme/app"}, "ref": "refs/heads/main",
                "updatedAt": "2026-11-20T09:00:00Z",
                "review": {"approvedRevision": COMMIT, "approvers": vec![json!({"name": "ann"}); n]}}),
        );
        statement["subject"][0]["digest"] = json!({"gitCommit": COMMIT});
        accept(&statement)
    });
}

#[test]
fn descriptors_of_an_oci_document_are_limited() {
    let one = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": format!("sha256:{IMAGE}"), "size": 1});
    for (media_type, list) in [("index", "manifests"), ("manifest", "layers")] {
        limited(MAX_DESCRIPTORS, |n| {
            let mut document = json!({"schemaVersion": 2});
            if list == "layers" {
                document["config"] = one.clone();
            }
            document[list] = vec![one.clone(); n].into();
            let media_type = format!("application/vnd.oci.image.{media_type}.v1+json");
            read(&media_type, &bytes(&document), &Trust::none(), None).map(|_| ())
        });
    }
    limited(MAX_DESCRIPTORS, |n| {
        let config = json!({"os": "linux", "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": vec![format!("sha256:{IMAGE}"); n]}});
        read("application/vnd.oci.image.config.v1+json", &bytes(&config), &Trust::none(), None).map(|_| ())
    });
}

#[test]
fn parents_of_a_commit_are_limited() {
    limited(MAX_PARENTS, |n| {
        let parents = format!("parent {COMMIT}\n").repeat(n);
        let commit = format!("tree {COMMIT}\n{parents}author A <a> 0 +0\ncommitter A <a> 0 +0\n\nx");
        read(GIT_COMMIT, commit.as_bytes(), &Trust::none(), None).map(|_| ())
    });
}

#[test]
fn the_text_of_a_key_is_limited() {
    let pem = Signer::ed25519().public().to_pem();
    let padded = |n: usize| format!("{pem}{}", "\n".repeat(n - pem.len()));
    assert!(PublicKey::from_pem(&padded(MAX_KEY), None).is_ok());
    assert_eq!(PublicKey::from_pem(&padded(MAX_KEY + 1), None).unwrap_err(), KeyError::TooLarge);
}
