//! Objects as they come in: proved by their hash, read in one way only.

use crate::common::{COMMIT, IMAGE, Signer, bytes, ring};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_evidence::{
    Digest, GitOid, Node, PublicKey, Refusal, Trust,
    object::{Body, GIT_COMMIT, GIT_TAG, Object, read},
};
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

fn descriptor(media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{IMAGE}"), "size": 7})
}

fn index() -> Value {
    let mut child = descriptor(MANIFEST);
    child["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
    let mut attestation = descriptor(MANIFEST);
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": format!("sha256:{IMAGE}")});
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child, attestation],
        "annotations": {"org.opencontainers.image.base.name": "alpine:3", "org.opencontainers.image.base.digest": format!("sha256:{IMAGE}")}})
}

fn manifest() -> Value {
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG), "layers": [descriptor("application/vnd.oci.image.layer.v1.tar")]})
}

fn open(media_type: &str, document: &Value) -> Result<Object, Refusal> {
    read(media_type, &bytes(document), &Trust::none(), None)
}

#[test]
fn an_index_names_its_children_and_which_of_them_can_run() {
    let object = open(INDEX, &index()).unwrap();
    assert_eq!(object.node, Node::Content(Digest::sha256(&bytes(&index()))));
    let Body::Index(index) = object.body else { panic!("not an index") };
    assert_eq!(index.children.iter().map(|c| c.is_runnable()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(index.base.unwrap().name.as_deref(), Some("alpine:3"));
}

#[test]
fn a_manifest_and_a_config_are_read() {
    let Body::Manifest(image) = open(MANIFEST, &manifest()).unwrap().body else { panic!("not a manifest") };
    assert_eq!((image.artifact_type, image.layers.len()), (None, 1));
    let mut artifact = manifest();
    artifact["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json");
    let Body::Manifest(artifact) = open(MANIFEST, &artifact).unwrap().body else { panic!("not a manifest") };
    assert_eq!(artifact.artifact_type.as_deref(), Some("application/vnd.oci.empty.v1+json"));
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Env": []},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{IMAGE}")]}});
    let Body::Config(config) = open(CONFIG, &config).unwrap().body else { panic!("not a config") };
    assert_eq!((config.platform.os.as_str(), config.diff_ids.len()), ("linux", 1));
}

#[test]
fn a_document_sent_without_a_type_says_itself_what_it_is() {
    let mut bare = manifest();
    bare.as_object_mut().unwrap().remove("mediaType");
    for media_type in ["", "application/json", "application/octet-stream"] {
        assert!(matches!(open(media_type, &manifest()).unwrap().body, Body::Manifest(_)));
        assert!(matches!(open(media_type, &bare).unwrap().body, Body::Manifest(_)));
        assert!(matches!(open(media_type, &index()).unwrap().body, Body::Index(_)));
    }
    assert_eq!(open("text/html", &manifest()).unwrap_err().code(), "OBJECT_MEDIA_TYPE");
    assert_eq!(open("", &json!({"a": 1})).unwrap_err().code(), "OBJECT_MEDIA_TYPE");
}

#[test]
fn g11_bytes_that_do_not_hash_to_the_digest_are_refused() {
    let document = bytes(&index());
    let right = Node::Content(Digest::sha256(&document));
    assert!(read(INDEX, &document, &Trust::none(), Some(right)).is_ok());
    let sha512 = Node::Content(Digest::Sha512([0; 64]).recompute(&document));
    assert!(read(INDEX, &document, &Trust::none(), Some(sha512)).is_ok());
    for wrong in [
        format!("sha256:{IMAGE}"),
        format!("gitCommit:{COMMIT}"),
        format!("gitCommit:{}", right.to_string().replace("sha256:", "")),
    ] {
        let claimed = wrong.parse().unwrap();
        let refusal = read(INDEX, &document, &Trust::none(), Some(claimed)).unwrap_err();
        assert_eq!(refusal.code(), "DIGEST_MISMATCH", "{wrong}");
    }
}

#[test]
fn g12_a_document_that_two_readers_could_read_in_two_ways_is_refused() {
    let with = |mut document: Value, member: &str, value: Value| {
        document[member] = value;
        document
    };
    for (media_type, document) in [
        (INDEX, with(index(), "layers", json!([]))),
        (INDEX, with(index(), "config", descriptor(CONFIG))),
        (MANIFEST, with(manifest(), "manifests", json!([]))),
        (MANIFEST, with(manifest(), "fsLayers", json!([]))),
        (MANIFEST, index()),
        (INDEX, manifest()),
        (LIST, index()),
        ("", with(index(), "mediaType", json!(MANIFEST))),
        (MANIFEST, with(manifest(), "Layers", json!([]))),
        (MANIFEST, with(manifest(), "layer\u{17f}", json!([]))),
        (INDEX, with(index(), "MANIFESTS", json!([]))),
    ] {
        assert_eq!(open(media_type, &document).unwrap_err().code(), "OBJECT_AMBIGUOUS", "{document}");
    }
    let mut twin = index();
    twin["manifests"][0]["Digest"] = json!(format!("sha256:{COMMIT}"));
    assert_eq!(open(INDEX, &twin).unwrap_err().code(), "OBJECT_AMBIGUOUS");
    // The layers by which a base image is recognised.
    for member in ["Diff_IDs", "DIFF_IDS", "diff_id\u{17f}", "Type"] {
        let rootfs = json!({"type": "layers", "diff_ids": [format!("sha256:{}", "1".repeat(64))]});
        let mut twin = json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs});
        assert!(open(CONFIG, &twin).is_ok());
        twin["rootfs"][member] = json!([]);
        assert_eq!(open(CONFIG, &twin).unwrap_err().code(), "OBJECT_AMBIGUOUS", "{member}");
    }
    let text = String::from_utf8(bytes(&index())).unwrap().replacen('{', r#"{"manifests":[],"#, 1);
    assert_eq!(read(INDEX, text.as_bytes(), &Trust::none(), None).unwrap_err().code(), "JSON_DUPLICATE_KEY");
}

#[test]
fn malformed_documents_are_refused_with_their_place() {
    let mut wrong = index();
    wrong["manifests"][1]["digest"] = json!("sha256:*");
    let refusal = open(INDEX, &wrong).unwrap_err();
    assert_eq!((refusal.code(), refusal.pointer()), ("OBJECT_MALFORMED", Some("/manifests/1/digest")));
    for (member, value) in [("schemaVersion", json!(1)), ("manifests", json!({}))] {
        let mut wrong = index();
        wrong[member] = value;
        assert_eq!(open(INDEX, &wrong).unwrap_err().code(), "OBJECT_MALFORMED", "{member}");
    }
    let mut negative = manifest();
    negative["layers"][0]["size"] = json!(-1);
    assert_eq!(open(MANIFEST, &negative).unwrap_err().code(), "OBJECT_MALFORMED");
}

#[test]
fn the_size_of_an_object_is_limited_at_4_mib_and_one_over_is_refused() {
    use catenary_evidence::limits::MAX_OBJECT;
    let document = bytes(&index());
    let padded = |n: usize| [document.as_slice(), &vec![b' '; n - document.len()]].concat();
    assert!(read(INDEX, &padded(MAX_OBJECT), &Trust::none(), None).is_ok());
    assert!(read(INDEX, &padded(MAX_OBJECT + 1), &Trust::none(), None).unwrap_err().is_too_large());
}

const TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// A commit with the given extra headers.
fn commit(headers: &str) -> Vec<u8> {
    format!(
        "tree {TREE}\nparent {COMMIT}\nauthor A U Thor <a@acme.test> 1763632800 +0100\ncommitter C O Mitter <c@acme.test> 1763632801 +0000\n{headers}\nA message\n"
    )
    .into_bytes()
}

fn signed_commit(signer: &Signer, namespace: &str) -> Vec<u8> {
    let armour = signer.0.sshsig(namespace, "sha512", &commit(""));
    commit(&format!("gpgsig {}\n", armour.replace('\n', "\n ")))
}

fn signer_of(object: &Object) -> Option<String> {
    let Body::Commit(commit) = &object.body else { panic!("not a commit") };
    commit.signature.as_ref().and_then(|s| s.key()).map(|id| id.to_string())
}

#[test]
fn a_commit_is_proved_by_its_oid() {
    // `git hash-object -t commit` of the same bytes gives this id.
    let object = read(GIT_COMMIT, &commit(""), &Trust::none(), None).unwrap();
    assert_eq!(object.node, Node::Git(GitOid::sha1("commit", &commit(""))));
    let Body::Commit(commit) = object.body else { panic!("not a commit") };
    assert_eq!(commit.tree.to_hex(), TREE);
    assert_eq!(commit.parents[0].to_hex(), COMMIT);
    assert_eq!(commit.author, "A U Thor <a@acme.test>");
    assert_eq!(commit.committed_at.unwrap().as_second(), 1_763_632_801);
    assert_eq!(commit.signature, None);
    let sha256 = format!("tree {}\nauthor A <a> 0 +0\ncommitter A <a> 0 +0\n\nx", "ab".repeat(32));
    let object = read(GIT_COMMIT, sha256.as_bytes(), &Trust::none(), None).unwrap();
    assert!(matches!(object.node, Node::Git(GitOid::Sha256(_))));
}

#[test]
fn a_commit_signed_by_a_registered_ssh_key_has_a_signer() {
    for signer in [Signer::ed25519(), Signer::p256(), Signer::p384(), Signer::rsa_pkcs1()] {
        let bytes = signed_commit(&signer, "git");
        let object = read(GIT_COMMIT, &bytes, &ring(&[&signer]), None).unwrap();
        assert_eq!(signer_of(&object), Some(signer.keyid()));
        let stranger = read(GIT_COMMIT, &bytes, &ring(&[&Signer::ed25519()]), None).unwrap();
        assert_eq!(signer_of(&stranger), None, "an unknown key vouches for nothing");
    }
}

#[test]
fn a_commit_signature_of_a_registered_key_that_does_not_verify_is_refused() {
    for signer in [Signer::ed25519(), Signer::p256(), Signer::rsa_pkcs1()] {
        let keys = ring(&[&signer]);
        let good = signed_commit(&signer, "git");
        let text = String::from_utf8(good).unwrap();
        let other_message = text.replace("A message", "Another message");
        let other_namespace = String::from_utf8(signed_commit(&signer, "file")).unwrap();
        for bad in [other_message, other_namespace] {
            let refusal = read(GIT_COMMIT, bad.as_bytes(), &keys, None).unwrap_err();
            assert_eq!(refusal.code(), "ATT_SIGNATURE_INVALID");
        }
    }
}

#[test]
fn a_signature_that_is_no_signature_names_nobody() {
    for armour in [
        "-----BEGIN SSH SIGNATURE-----\n AAAA\n -----END SSH SIGNATURE-----",
        "-----BEGIN PGP SIGNATURE-----\n \n x",
        "nonsense",
    ] {
        let object = read(GIT_COMMIT, &commit(&format!("gpgsig {armour}\n")), &Trust::none(), None).unwrap();
        assert_eq!(signer_of(&object), None);
    }
}

#[test]
fn an_annotated_tag_signed_with_ssh_has_a_signer() {
    let signer = Signer::ed25519();
    let payload =
        format!("object {COMMIT}\ntype commit\ntag v1\ntagger T <t@acme.test> 1763632800 +0000\n\nRelease\n");
    let armour = signer.0.sshsig("git", "sha256", payload.as_bytes());
    let tag = format!("{payload}{armour}\n");
    let object = read(GIT_TAG, tag.as_bytes(), &ring(&[&signer]), None).unwrap();
    assert_eq!(object.node, Node::Git(GitOid::sha1("tag", tag.as_bytes())));
    let Body::Tag(read_tag) = object.body else { panic!("not a tag") };
    assert_eq!((read_tag.name.as_str(), read_tag.target_kind.as_str()), ("v1", "commit"));
    assert_eq!(read_tag.signature.unwrap().key(), Some(signer.public().id()));
    let bent = tag.replace("Release", "Releasf");
    assert_eq!(
        read(GIT_TAG, bent.as_bytes(), &ring(&[&signer]), None).unwrap_err().code(),
        "ATT_SIGNATURE_INVALID"
    );
}

#[test]
fn malformed_git_objects_are_refused() {
    let good = String::from_utf8(commit("")).unwrap();
    for bad in [
        String::new(),
        "tree".into(),
        good.replace("tree ", "TREE "),
        good.replace(TREE, &TREE[1..]),
        good.replace(TREE, &TREE.to_uppercase()),
        good.replace(TREE, &"0".repeat(40)),
        good.replace(COMMIT, &"ab".repeat(32)),
        good.replace("author", "auth"),
        good.replace("A U Thor", "A\0Thor"),
        good.replace("committer ", "tree 1\ncommitter "),
        String::from_utf8(commit(&format!("tree {TREE}\n"))).unwrap(),
        String::from_utf8(commit("gpgsig a\ngpgsig b\n")).unwrap(),
    ] {
        let refusal = read(GIT_COMMIT, bad.as_bytes(), &Trust::none(), None).unwrap_err();
        assert_eq!(refusal.code(), "OBJECT_MALFORMED", "{bad}");
    }
}

#[test]
fn no_flipped_bit_of_a_signed_commit_keeps_its_signer_and_none_panics() {
    let signer = Signer::ed25519();
    let good = signed_commit(&signer, "git");
    let keys = ring(&[&signer]);
    let first = good.windows(6).position(|w| w == b"gpgsig").unwrap();
    for at in 0..good.len() {
        let mut bent = good.clone();
        bent[at] ^= 1;
        if let Ok(object) = read(GIT_COMMIT, &bent, &keys, None)
            && signer_of(&object).is_some()
        {
            assert!(at >= first, "byte {at} is signed");
            assert_ne!(object.node, Node::Git(GitOid::sha1("commit", &good)));
        }
        let _ = read(GIT_COMMIT, &good[..at], &keys, None);
    }
}

#[test]
fn keys_are_one_pem_block_of_a_kind_that_can_verify() {
    use catenary_evidence::{Scheme, key::KeyError};
    let pem = Signer::p256().public().to_pem();
    let again = PublicKey::from_pem(&pem, None).unwrap();
    assert_eq!(again.to_pem(), pem);
    assert_eq!(
        PublicKey::from_pem(&format!("{pem}{pem}"), None).unwrap_err(),
        KeyError::NotOneKey { found: 2 }
    );
    assert_eq!(PublicKey::from_pem("", None).unwrap_err(), KeyError::NotOneKey { found: 0 });
    assert_eq!(
        PublicKey::from_pem(&pem.replace("PUBLIC", "PRIVATE"), None).unwrap_err(),
        KeyError::PrivateKey
    );
    // E18: a P-256 key that is labelled Ed25519.
    assert_eq!(
        PublicKey::from_pem(&pem, Some(Scheme::Ed25519)).unwrap_err(),
        KeyError::SchemeMismatch { scheme: Scheme::Ed25519 }
    );
    let rsa = Signer::rsa_pkcs1();
    assert_eq!(PublicKey::from_spki(&rsa.spki(), None).unwrap().scheme(), Scheme::RsaPkcs1Sha256);
    assert!(PublicKey::from_spki(&rsa.spki(), Some(Scheme::RsaPssSha256)).is_ok());
    let spki = Signer::ed25519().spki();
    for bad in [&spki[1..], &[spki.as_slice(), &[0]].concat(), &spki[..43], b""] {
        assert!(PublicKey::from_spki(bad, None).is_err());
    }
}

#[test]
fn a_key_read_from_openssh_text_is_the_same_key() {
    for signer in [Signer::p256(), Signer::p384(), Signer::p521(), Signer::rsa_pkcs1()] {
        assert_eq!(PublicKey::from_openssh(&signer.0.openssh_public()).unwrap().id(), signer.public().id());
    }
    let signer = Signer::ed25519();
    let line = signer.0.openssh_public();
    assert_eq!(PublicKey::from_openssh(&line).unwrap().id(), signer.public().id());
    let blob = STANDARD.decode(line.split(' ').nth(1).unwrap()).unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &blob);
    let fingerprint = format!("SHA256:{}", STANDARD.encode(hash).trim_end_matches('='));
    assert_eq!(signer.public().ssh_fingerprint().unwrap(), fingerprint);
}

#[test]
fn an_rsa_key_of_1024_bits_is_refused() {
    // Made with `openssl genrsa 1024 | openssl rsa -pubout`.
    let key = PublicKey::from_pem(include_str!("data/rsa1024.pem"), None);
    assert_eq!(key.unwrap_err(), catenary_evidence::key::KeyError::RsaSize { bits: 1024 });
}
