//! Real evidence from other people's tools, when a copy of it is at hand: `CATENARY_TEST_DATA`
//! names a folder with one sub-folder a repository, files at their paths in it. Without it these tests say so and pass.

use std::path::{Path, PathBuf};

use catenary_evidence::{
    PublicKey, Trust,
    attestation::{detect, verify},
    object::{Body, GIT_COMMIT, read},
    predicate::{Adapter, Claim},
};

#[expect(
    clippy::disallowed_methods,
    reason = "a test finds its data by the environment; the crate itself does not"
)]
pub fn data() -> Option<PathBuf> {
    let folder = std::env::var("CATENARY_TEST_DATA").ok().map(PathBuf::from).filter(|folder| folder.is_dir());
    if folder.is_none() {
        eprintln!("skipped: CATENARY_TEST_DATA names no folder");
    }
    folder
}

#[expect(clippy::disallowed_methods, reason = "a test reads its data from disk; the crate itself does not")]
pub fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every file below `folder` whose name ends in one of `endings`.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => folders.push(path),
                false if endings.iter().any(|e| path.to_string_lossy().ends_with(e)) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

#[test]
fn real_commits_signed_with_ssh_verify_under_the_key_that_they_carry() {
    let Some(data) = data() else { return };
    let mut signed = 0;
    for path in files(&data.join("git-commits"), &[".commit"]) {
        let commit = bytes(&path);
        let object = read(GIT_COMMIT, &commit, &Trust::none(), None).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy();
        assert_eq!(object.node.to_string(), format!("gitCommit:{name}"), "the file is named after its oid");
        let Body::Commit(facts) = object.body else { panic!("{name} is no commit") };
        let signature = facts.signature.map(|s| s.method);
        if signature.as_deref() != Some("ssh") {
            continue;
        }
        let text = String::from_utf8_lossy(&commit);
        let start = text.find("-----BEGIN SSH").unwrap();
        let armour = text[start..].split("\n\n").next().unwrap().replace("\n ", "\n");
        let carried = ssh_key(&armour);
        let keys: Trust = std::iter::once(carried.clone()).collect();
        let object = read(GIT_COMMIT, &commit, &keys, None).unwrap();
        let Body::Commit(facts) = object.body else { panic!("{name} is no commit") };
        assert_eq!(facts.signature.unwrap().key(), Some(carried.id()), "{name}");
        let mut bent = commit.clone();
        *bent.last_mut().unwrap() ^= 1;
        assert_eq!(
            read(GIT_COMMIT, &bent, &keys, None).unwrap_err().code(),
            "ATT_SIGNATURE_INVALID",
            "{name}"
        );
        signed += 1;
    }
    assert!(signed >= 8, "{signed} commits were signed with SSH");
}

/// The public key inside an armoured SSH signature: bytes 14.. of the blob are a string with the key.
fn ssh_key(armour: &str) -> PublicKey {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let body: String = armour.lines().filter(|l| !l.starts_with("-----")).collect();
    let blob = STANDARD.decode(body.trim()).unwrap();
    let length = u32::from_be_bytes(blob[10..14].try_into().unwrap()) as usize;
    let key = &blob[14..14 + length];
    let kind = u32::from_be_bytes(key[..4].try_into().unwrap()) as usize;
    let kind = std::str::from_utf8(&key[4..4 + kind]).unwrap();
    PublicKey::from_openssh(&format!("{kind} {}", STANDARD.encode(key))).unwrap()
}

#[test]
fn real_envelopes_signed_with_a_key_verify_under_it() {
    let Some(data) = data() else { return };
    for (item, key) in [
        ("docker-attest/test/testdata/example_attestation.json", "docker-attest/docker-test-key.pem"),
        ("rekor/cmd/rekor-cli/app/tests/intoto_dsse.json", "rekor/cmd/rekor-cli/app/tests/intoto_dsse.pem"),
    ] {
        let pem = String::from_utf8(bytes(&data.join(key))).unwrap();
        let key = PublicKey::from_pem(&pem, None).unwrap();
        let item = bytes(&data.join(item));
        let known = verify(&item, &std::iter::once(key.clone()).collect());
        assert_eq!(known.unwrap().keys(), [key.id()]);
        assert!(!verify(&item, &Trust::none()).unwrap().is_verified());
    }
}

#[test]
fn a_real_npm_bundle_verifies_under_the_registrys_key_and_a_bundle_of_another_key_does_not() {
    let Some(data) = data() else { return };
    let list: serde_json::Value =
        serde_json::from_slice(&bytes(&data.join("trust-roots/npm-keys/keys.json"))).unwrap();
    let keys: Trust = list["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| {
            let raw = key["publicKey"]["rawBytes"].as_str().unwrap();
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{raw}\n-----END PUBLIC KEY-----\n");
            PublicKey::from_pem(&pem, None).unwrap()
        })
        .collect();
    let bundle = bytes(&data.join("sigstore-go/examples/bundle-publish.json"));
    assert!(verify(&bundle, &keys).unwrap().is_verified());
    let blob = bytes(&data.join("sigstore-go/pkg/testing/data/bundles/public-key-validity.sigstore.json"));
    assert!(!verify(&blob, &keys).unwrap().is_verified());
}

#[test]
fn real_provenance_has_a_normal_form() {
    let Some(data) = data() else { return };
    let (mut read_as, mut refused) = (std::collections::BTreeMap::new(), Vec::new());
    for folder in ["slsa-verifier", "gh-cli", "sigstore-conformance", "witness", "buildkit", "chainloop"] {
        for path in files(&data.join(folder), &[".jsonl", ".sigstore", ".json", ".slsa"]) {
            let submission = bytes(&path);
            for item in detect(&submission).unwrap_or_default() {
                // The envelopes are keyless: taken out of their bundles, their form is still read here.
                let Ok(value) = serde_json::from_slice::<serde_json::Value>(item) else { continue };
                let envelope = value.get("dsseEnvelope").unwrap_or(&value);
                if envelope.get("payloadType").is_none() || envelope.get("signatures").is_none() {
                    continue;
                }
                match verify(envelope.to_string().as_bytes(), &Trust::none()) {
                    Ok(attestation) => {
                        let Claim::Build(build) = attestation.claim else { continue };
                        if let Some(Adapter::GithubWorkflow | Adapter::SlsaGithubGenerator) = build.adapter {
                            let source =
                                build.source.as_ref().unwrap_or_else(|| panic!("{}", path.display()));
                            assert!(
                                source.repository.starts_with("git+https://github.com/"),
                                "{}",
                                path.display()
                            );
                            let damaged = path.to_string_lossy().contains("invalid");
                            assert!(damaged || source.commit.is_some(), "{}: {source:?}", path.display());
                            assert_eq!(build.unknown_params, [""; 0], "{}", path.display());
                        }
                        *read_as.entry(format!("{:?}", build.adapter)).or_insert(0) += 1;
                    }
                    Err(e) => refused.push(format!("{}: {e}", path.display())),
                }
            }
        }
    }
    assert!(read_as.values().sum::<i32>() >= 25, "{read_as:?}\nrefused:\n{}", refused.join("\n"));
}
