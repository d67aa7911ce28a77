//! `catenary check`: files are verified offline, one object a file.

use std::collections::BTreeSet;

use acceptance::App;
use catenary_testkit::{
    Key,
    authority::{Authority, Claims, Kind},
    dsse::Envelope,
    sha256_hex,
};
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.acme.test";
const WHO: &str = "ann@acme.test";

fn statement(file: &[u8]) -> String {
    json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://acme.test/note/v1", "predicate": {},
        "subject": [{"name": "app", "digest": {"sha256": sha256_hex(file)}}],
    })
    .to_string()
}

/// Runs it and reads one object a line.
fn check(app: &App, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let run = app.run(&[&["check", "--output", "json"], arguments].concat());
    let lines = String::from_utf8(run.stdout).unwrap();
    (run.status.code(), lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_has_one_object_with_the_same_members() {
    let app = App::shared().await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (authority, key) = (Authority::new("check"), Key::p256("check"));
    let leaf = authority.leaf(&Claims::email(WHO, ISSUER)).issue();
    let root = write("root.json", authority.trusted_root_json().as_bytes());
    let pem = write("key.pub", key.public_pem().as_bytes());
    let bundle = authority.attest(&leaf, &statement(b"app")).entry(Kind::DsseV1);
    let good = write("bundle.json", bundle.to_json().as_bytes());
    let bad = authority.attest(&leaf, &statement(b"app")).entry(Kind::DsseV1).edit_json(|bundle| {
        bundle["dsseEnvelope"]["payloadType"] = "application/vnd.in-toto".into();
    });
    let bad = write("bad.json", bad.to_json().as_bytes());
    let envelope = Envelope::statement(statement(b"app"));
    let signature = key.sign(&envelope.pae());
    let signed = envelope.with_signature(None, &signature).to_bytes();
    let keyed = write("keyed.json", &signed);
    let unsigned = write("statement.json", statement(b"app").as_bytes());
    let missing = folder.path().join("missing.json").to_str().unwrap().to_owned();
    let files = [&good, &bad, &missing, &keyed, &unsigned].map(String::as_str);
    let (code, all) = check(app, &[&["--trust-root", &root, "--identity", WHO][..], &files].concat());
    let promised: BTreeSet<&str> =
        ["file", "form", "result", "code", "signers", "signedBetween", "subjects", "predicateType"].into();
    let told = |object: &Value| {
        assert_eq!(object.as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>(), promised);
        let (result, code) = (object["result"].as_str().unwrap(), object["code"].as_str());
        assert_eq!(code.is_none(), result == "verified", "{object}");
        format!("{result} {}", code.unwrap_or_default())
    };
    let results: Vec<String> = all.iter().map(told).collect();
    assert_eq!(
        results,
        [
            "verified ",
            "refused ATT_PAYLOAD_TYPE",
            "refused FILE_UNREADABLE",
            "unverified ATT_UNVERIFIED",
            "unverified ATT_UNSIGNED",
        ]
    );
    assert_eq!(all.iter().map(|object| object["file"].as_str().unwrap()).collect::<Vec<_>>(), files);
    assert_eq!(code, Some(3), "one cannot be read, and the others were checked all the same");
    let subject = format!("sha256:{}", sha256_hex(b"app"));
    assert_eq!(all[0]["subjects"], json!([subject]));
    assert_eq!(all[0]["predicateType"], "https://acme.test/note/v1");
    assert_eq!(
        (&all[0]["signers"][0]["san"], &all[0]["signers"][0]["issuer"]),
        (&json!(WHO), &json!(ISSUER))
    );
    assert!(all[0]["signedBetween"][0].is_string() && all[0]["signedBetween"][1].is_string());

    let (other, short) = (format!("sha256:{}", sha256_hex(b"other")), ["--trust-root", &root]);
    let app_file = write("app", b"app");
    for (arguments, result, exit) in [
        (vec!["--digest", &subject], "verified ", 0),
        (vec!["--artifact", &app_file], "verified ", 0),
        (vec!["--identity", WHO, "--issuer", ISSUER], "verified ", 0),
        (vec!["--digest", &other], "refused ARTIFACT_MISMATCH", 1),
        (vec!["--artifact", &pem], "refused ARTIFACT_MISMATCH", 1),
        (vec!["--identity", "bob@acme.test"], "refused IDENTITY_MISMATCH", 1),
        (vec!["--issuer", "https://issuer.acme"], "refused IDENTITY_MISMATCH", 1),
    ] {
        let (code, all) = check(app, &[&short[..], &arguments, &[&good]].concat());
        assert_eq!((told(&all[0]).as_str(), code), (result, Some(exit)), "{arguments:?}");
    }
    // What nothing vouches for adds nothing to what is verified beside it.
    let other = Envelope::statement(statement(b"another"));
    let other = other.clone().with_signature(None, key.sign(&other.pae())).to_bytes();
    let lines = [std::fs::read(&good).unwrap(), b"\r\n\r\n".to_vec(), other].concat();
    let lines = write("lines.jsonl", &lines);
    let (code, all) = check(app, &[&short[..], &[&lines]].concat());
    assert_eq!((told(&all[0]).as_str(), code), ("verified ", Some(0)));
    assert_eq!((&all[0]["subjects"], all[0]["signers"].as_array().unwrap().len()), (&json!([subject]), 1));
    let (_, all) = check(app, &[&short[..], &["--key", &pem, &lines]].concat());
    assert_eq!(all[0]["subjects"].as_array().unwrap().len(), 1, "with a key and no identity, the key's only");
    let (code, all) = check(app, &["--key", &pem, &keyed]);
    assert_eq!((told(&all[0]).as_str(), code), ("verified ", Some(0)));
    assert_eq!(all[0]["signedBetween"], json!([null, null]), "a key says no time");
    let (code, all) = check(app, &["--key", &pem, &good]);
    assert_eq!((told(&all[0]).as_str(), code), ("unverified ATT_CERT_CHAIN_UNTRUSTED", Some(1)));
}
