//! The authority's certificates, timestamps and messages against the `openssl` command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use catenary_testkit::{
    authority::{Authority, Claims, Leaf},
    git::Commit,
    time::NOON,
};

struct Scene {
    dir: tempfile::TempDir,
    authority: Authority,
    leaf: Leaf,
}

impl Scene {
    fn new() -> Self {
        let authority = Authority::new("acme");
        let claims = Claims::github("acme/app", "release.yml", "refs/heads/main", &"a1".repeat(20));
        let leaf = authority.leaf(&claims).issue();
        Self { dir: tempfile::tempdir().expect("a folder"), authority, leaf }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    }

    fn certificate(&self, name: &str, der: &[u8]) -> PathBuf {
        let der = self.file(&format!("{name}.der"), der);
        let pem = der.with_extension("pem");
        assert!(openssl(&["x509", "-inform", "DER"], &[("-in", &der), ("-out", &pem)]).0);
        pem
    }
}

/// Runs `openssl`: whether it was content, and what it said.
fn openssl(words: &[&str], files: &[(&str, &Path)]) -> (bool, String) {
    let mut command = Command::new("openssl");
    command.args(words);
    for (option, file) in files {
        if !option.is_empty() {
            command.arg(option);
        }
        command.arg(file);
    }
    let out = command.output().expect("openssl runs");
    (out.status.success(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}

#[test]
fn openssl_builds_the_chain_of_a_leaf() {
    let scene = Scene::new();
    let root = scene.certificate("root", &scene.authority.root.certificate);
    let intermediate = scene.certificate("intermediate", &scene.authority.intermediate.certificate);
    let other = scene.certificate("other", &Authority::new("other").root.certificate);
    let leaf = scene.certificate("leaf", scene.leaf.der());
    let at = |time: i64, root: &Path| {
        let time = time.to_string();
        openssl(
            &["verify", "-x509_strict", "-purpose", "any", "-attime", &time],
            &[("-CAfile", root), ("-untrusted", &intermediate), ("", &leaf)],
        )
    };
    let (ok, said) = at(NOON + 5, &root);
    assert!(ok, "{said}");
    assert!(!at(NOON + 601, &root).0);
    assert!(!at(NOON + 5, &other).0);
    let (_, text) = openssl(&["x509", "-noout", "-text"], &[("-in", &leaf)]);
    for part in [
        "URI:https://github.com/acme/app/release.yml@refs/heads/main",
        "Code Signing",
        "CT Precertificate SCTs",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn openssl_verifies_a_timestamp_and_refuses_another_message() {
    let scene = Scene::new();
    let tsa = &scene.authority.tsa;
    let root = scene.certificate("root", &tsa.root.certificate);
    let response = scene.file("response", tsa.token(b"a signature", NOON).to_der());
    let verify = |response: &Path, message: &[u8]| {
        let data = scene.file("data", message);
        let time = NOON.to_string();
        openssl(
            &["ts", "-verify", "-attime", &time],
            &[("-in", response), ("-data", &data), ("-CAfile", &root)],
        )
    };
    let (ok, said) = verify(&response, b"a signature");
    assert!(ok, "{said}");
    assert!(!verify(&response, b"another").0);
    let mut token = tsa.token(b"a signature", NOON);
    token.key = scene.leaf.key().clone();
    assert!(!verify(&scene.file("forged", token.to_der()), b"a signature").0);
}

#[test]
fn openssl_verifies_a_signed_commit_and_refuses_another() {
    let scene = Scene::new();
    let commit = Commit::new(&"4b".repeat(20), "A <a@acme.test>", NOON, "Say hello\n");
    let root = scene.certificate("root", &scene.authority.root.certificate);
    let intermediate = scene.certificate("intermediate", &scene.authority.intermediate.certificate);
    let both = [fs::read(root).unwrap(), fs::read(intermediate).unwrap()].concat();
    let both = scene.file("both", both);
    let signature = scene.authority.gitsign(&scene.leaf, &commit.unsigned()).timestamp();
    let pem = signature.to_armour();
    assert!(pem.starts_with("-----BEGIN SIGNED MESSAGE-----\n"));
    let message = scene.file("message", signature.to_der());
    let time = (NOON + 5).to_string();
    let verify = |content: &[u8]| {
        let content = scene.file("content", content);
        openssl(
            &["cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-attime", &time],
            &[("-in", &message), ("-content", &content), ("-CAfile", &both)],
        )
    };
    let (ok, said) = verify(&commit.unsigned());
    assert!(ok, "{said}");
    assert!(!verify(b"tree of lies").0);
    let (_, printed) = openssl(&["asn1parse", "-inform", "DER"], &[("-in", &message)]);
    assert!(printed.contains("1.3.6.1.4.1.57264.3.1"), "{printed}");
    let online = scene.file("online", scene.authority.gitsign(&scene.leaf, b"x").online().to_der());
    assert!(!openssl(&["asn1parse", "-inform", "DER"], &[("-in", &online)]).1.contains("57264.3.1"));
}
