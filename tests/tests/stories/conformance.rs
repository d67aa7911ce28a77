//! `catenary verify-bundle` as the official conformance suite calls it: each case with the artifact's path and with its digest,
//! under an authority of our own, so that cases which the suite has and we do not see are among them.

use std::path::Path;

use acceptance::App;
use catenary_testkit::{
    Key,
    authority::{
        Authority, BundleBuilder, Claims, Kind, LIFETIME, Leaf, MEDIA_TYPE, Sct, Signer, Tamper, TrustedRoot,
        Tsa, Version, Window, x509::Issuer,
    },
    sha256_hex,
};
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.acme.test";
const WHO: &str = "ann@acme.test";
const FILE: &[u8] = b"DO NOT MODIFY ME!\n";

struct Suite<'a> {
    app: &'a App,
    folder: tempfile::TempDir,
    authority: Authority,
    leaf: Leaf,
    root: String,
    wrong: Vec<String>,
    asked: usize,
}

fn statement(file: &[u8]) -> String {
    json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://acme.test/note/v1", "predicate": {},
        "subject": [
            {"name": "other", "digest": {"sha256": sha256_hex(b"another file")}},
            {"name": "a.txt", "digest": {"sha256": sha256_hex(file)}},
        ],
    })
    .to_string()
}

impl<'a> Suite<'a> {
    fn new(app: &'a App) -> Self {
        let authority = Authority::new("suite");
        let leaf = authority.leaf(&Claims::email(WHO, ISSUER)).issue();
        let folder = tempfile::tempdir().unwrap();
        let mut suite =
            Self { app, folder, root: String::new(), leaf, authority, wrong: Vec::new(), asked: 0 };
        suite.root = suite.write("root.json", suite.authority.trusted_root_json().as_bytes());
        suite.write("a.txt", FILE);
        suite.write("b.txt", b"something else");
        suite
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Calls the client once.
    fn call(&mut self, name: &str, good: bool, arguments: &[&str]) {
        let run = self.app.run(&[&["verify-bundle"], arguments].concat());
        self.asked += 1;
        if run.status.success() != good {
            let said = String::from_utf8_lossy(&run.stdout).into_owned();
            self.wrong.push(format!("{name}, {}: {said}", arguments.last().unwrap_or(&"")));
        }
    }

    /// Both forms of one case.
    fn case_with(&mut self, name: &str, good: bool, bundle: &str, arguments: &[&str]) {
        let bundle = self.write("bundle.json", bundle.as_bytes());
        for artifact in [self.path("a.txt"), format!("sha256:{}", sha256_hex(FILE))] {
            let all = [&["--bundle", &bundle], arguments, &[&artifact]].concat();
            self.call(name, good, &all);
        }
    }

    fn case(&mut self, name: &str, good: bool, bundle: &str) {
        let root = self.root.clone();
        self.case_under(name, good, bundle, &root);
    }

    fn case_under(&mut self, name: &str, good: bool, bundle: &str, root: &str) {
        let by = ["--certificate-identity", WHO, "--certificate-oidc-issuer", ISSUER, "--trusted-root", root];
        self.case_with(name, good, bundle, &by);
    }

    fn with_root(&mut self, name: &str, good: bool, bundle: &str, root: &TrustedRoot) {
        let root = self.write("other-root.json", root.to_json().as_bytes());
        self.case_under(name, good, bundle, &root);
    }

    /// A good bundle of either content.
    fn bundle(&self, kind: Kind, dsse: bool) -> BundleBuilder<'_> {
        signed(&self.authority, &self.leaf, kind, dsse)
    }

    fn done(self) {
        assert!(self.wrong.is_empty(), "{} of {}: {:#?}", self.wrong.len(), self.asked, self.wrong);
    }
}

fn signed<'a>(authority: &'a Authority, leaf: &Leaf, kind: Kind, dsse: bool) -> BundleBuilder<'a> {
    let builder = match dsse {
        true => authority.attest(leaf, &statement(FILE)),
        false => authority.sign_blob(leaf, FILE),
    };
    let builder = builder.entry(kind);
    if kind.is_v2() { builder.timestamp() } else { builder }
}

/// Content and entry as they occur together.
const SHAPES: [(Kind, bool); 8] = [
    (Kind::HashedRekordV1, false),
    (Kind::HashedRekordV2, false),
    (Kind::HashedRekordV1, true),
    (Kind::HashedRekordV2, true),
    (Kind::DsseV1, true),
    (Kind::DsseV2, true),
    (Kind::IntotoV1, true),
    (Kind::IntotoV2, true),
];

#[tokio::test(flavor = "multi_thread")]
async fn good_bundles_of_every_shape_verify_and_nothing_near_them() {
    let app = App::shared().await;
    let mut suite = Suite::new(app);
    for (kind, dsse) in SHAPES {
        for version in Version::ALL.into_iter().filter(|v| !kind.is_v2() || *v != Version::V01) {
            let bundle = suite.bundle(kind, dsse).version(version).to_json();
            suite.case(&format!("{kind:?} {dsse} {version:?}"), true, &bundle);
        }
        let bundle = suite.bundle(kind, dsse).to_json();
        let root = suite.root.clone();
        for (name, identity, issuer) in [
            ("another identity", "bob@acme.test", ISSUER),
            ("part of an identity", "ann", ISSUER),
            ("an identity in capitals", "Ann@acme.test", ISSUER),
            ("another issuer", WHO, "https://issuer.globex.test"),
            ("part of an issuer", WHO, "https://issuer.acme"),
        ] {
            let by = ["--certificate-identity", identity, "--certificate-oidc-issuer", issuer];
            suite.case_with(name, false, &bundle, &[&by[..], &["--trusted-root", &root]].concat());
        }
        let path = suite.write("bundle.json", bundle.as_bytes());
        let by =
            ["--certificate-identity", WHO, "--certificate-oidc-issuer", ISSUER, "--trusted-root", &root];
        let other = suite.path("b.txt");
        for artifact in [
            other.as_str(),
            &format!("sha256:{}", sha256_hex(b"something else")),
            &format!("sha256:{}", sha256_hex(FILE).to_uppercase()),
            &format!("sha256:{}", &sha256_hex(FILE)[..62]),
            &format!("sha512:{}", sha256_hex(FILE)),
            "sha256:",
            "no such file",
        ] {
            suite.call("another artifact", false, &[&["--bundle", &path], &by[..], &[artifact]].concat());
        }
        // Without a root it is the public instance's; with `--staging` alone nobody's.
        suite.case_with("the public instance", false, &bundle, &by[..4]);
        suite.case_with("staging", false, &bundle, &[&["--staging"], &by[..4]].concat());
        suite.case_with("staging with a root", true, &bundle, &[&["--staging"], &by[..]].concat());
        suite.case_with("nobody is asked for", false, &bundle, &by[4..]);
        suite.case_with("an identity without its issuer", false, &bundle, &[&by[..2], &by[4..]].concat());
    }
    suite.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn tampered_bundles_of_every_shape_are_refused() {
    let app = App::shared().await;
    let mut suite = Suite::new(app);
    for (kind, dsse) in [SHAPES[0], SHAPES[1], SHAPES[4], SHAPES[7]] {
        for tamper in Tamper::ALL.iter().copied().filter(|tamper| tamper.applies(kind, dsse)) {
            // A stranger's timestamp beside a log's time adds nothing and takes nothing; a time that has not come is seen by who
            // knows the time.
            if matches!(tamper, Tamper::TokenByUnknown | Tamper::IntegratedInFuture) {
                continue;
            }
            let bundle = suite.bundle(kind, dsse).tamper(tamper).to_json();
            suite.case(&format!("{kind:?} {tamper:?}"), false, &bundle);
        }
    }
    suite.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_timestamps_and_roots_count_in_their_time_only() {
    let app = App::shared().await;
    let mut suite = Suite::new(app);
    let authority = suite.authority.clone();
    let (start, now) = (authority.window.start, authority.now);
    for (kind, dsse) in [SHAPES[0], SHAPES[3], SHAPES[4]] {
        let bundle = suite.bundle(kind, dsse).to_json();
        for (name, root) in TrustedRoot::wrong_for(&authority) {
            suite.with_root(name, false, &bundle, &root);
        }
        // Both ends of a certificate are inside, the next second is not.
        let leaf = suite.leaf.clone();
        for (second, good) in [(0, true), (-1, false), (LIFETIME, true), (LIFETIME + 1, false)] {
            let time = leaf.not_before + second;
            let builder = match dsse {
                true => authority.attest(&leaf, &statement(FILE)),
                false => authority.sign_blob(&leaf, FILE),
            };
            let builder = builder.entry(kind).at(time);
            let bundle = if kind.is_v2() { builder.timestamp_at(time) } else { builder }.to_json();
            suite.case(&format!("{kind:?} signed at {second} s"), good, &bundle);
        }
    }
    let stamped = suite.bundle(Kind::HashedRekordV2, false).to_json();
    let stamp = now + 5;
    for (name, window, good) in [
        ("ends as it was stamped", Window::between(start, stamp), true),
        ("ended before", Window::between(start, stamp - 1), false),
        ("begins as it was stamped", Window::from(stamp), true),
        ("begins after", Window::from(stamp + 1), false),
    ] {
        suite.with_root(name, good, &stamped, &authority.trusted_root().tsa_window(window));
    }
    suite.with_root("no timestamp authority", false, &stamped, &authority.trusted_root().without_tsa());
    let unstamped = authority.sign_blob(&suite.leaf, FILE).entry(Kind::HashedRekordV2).to_json();
    suite.case("a log without a clock, and no timestamp", false, &unstamped);
    let stranger = Tsa::new("stranger", authority.window);
    let builder = authority.sign_blob(&suite.leaf, FILE).entry(Kind::HashedRekordV2);
    suite.case("only a stranger's timestamp", false, &builder.timestamp_by(&stranger, stamp).to_json());
    for sct in [Sct::Missing, Sct::BadSignature, Sct::UnknownLog, Sct::ForgedLogId, Sct::OtherCertificate] {
        let leaf = authority.leaf(&Claims::email(WHO, ISSUER)).sct(sct).issue();
        let bundle = signed(&authority, &leaf, Kind::HashedRekordV1, false).to_json();
        suite.case(&format!("{sct:?}"), false, &bundle);
    }
    suite.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_the_logs_own() {
    let app = App::shared().await;
    let mut suite = Suite::new(app);
    let authority = suite.authority.clone();
    for (kind, dsse) in [SHAPES[0], SHAPES[1], SHAPES[4]] {
        let log = if kind.is_v2() { authority.rekor_v2.clone() } else { authority.rekor.clone() };
        let hint = log.id()[..4].to_vec();
        let note = |text: &str, name: &str| log.note(text, name, &hint);
        let edited = |edit: &dyn Fn(&str, &mut String)| {
            let builder = signed(&authority, &suite.leaf, kind, dsse);
            builder
                .edit_proof(|proof| {
                    let (text, _) = proof.checkpoint.split_once("\n\n").unwrap();
                    let text = format!("{text}\n");
                    edit(&text, &mut proof.checkpoint);
                })
                .to_json()
        };
        let cases = [
            ("signed again", true, edited(&|text, checkpoint| *checkpoint = note(text, &log.host))),
            (
                "another's signature first",
                true,
                edited(&|text, checkpoint| {
                    let other = Key::ed25519("witness");
                    let line = base64(&[&[1, 2, 3, 4], &other.sign(text.as_bytes())[..]].concat());
                    *checkpoint =
                        checkpoint.replacen("\n\n", &format!("\n\n\u{2014} witness.test {line}\n"), 1);
                }),
            ),
            (
                "only another's signature",
                false,
                edited(&|text, checkpoint| {
                    let other = Key::ed25519("witness");
                    let line = base64(&[&[1, 2, 3, 4], &other.sign(text.as_bytes())[..]].concat());
                    *checkpoint = format!("{text}\n\u{2014} witness.test {line}\n");
                }),
            ),
            ("no signature", false, edited(&|text, checkpoint| *checkpoint = format!("{text}\n"))),
            ("nothing", false, edited(&|_, checkpoint| checkpoint.clear())),
            (
                "no root",
                false,
                edited(&|text, checkpoint| {
                    let lines: Vec<&str> = text.lines().take(2).collect();
                    *checkpoint = note(&format!("{}\n", lines.join("\n")), &log.host);
                }),
            ),
            (
                "another origin after signing",
                false,
                edited(&|_, checkpoint| {
                    *checkpoint = checkpoint.replacen(&log.origin, "rekor.elsewhere.test", 1)
                }),
            ),
        ];
        for (name, good, bundle) in cases {
            suite.case(&format!("{kind:?} checkpoint: {name}"), good, &bundle);
        }
        let without = signed(&authority, &suite.leaf, kind, dsse).without_proof().to_json();
        suite.case(&format!("{kind:?} no proof"), false, &without);
    }
    suite.done();
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_keys_verify_their_own_bundles_only() {
    let app = App::shared().await;
    let mut suite = Suite::new(app);
    let authority = suite.authority.clone();
    let root = suite.root.clone();
    for key in [Key::p256("managed"), Key::p384("managed"), Key::ed25519("managed")] {
        let pem = suite.write("key.pub", key.public_pem().as_bytes());
        let other = suite.write("other.pub", Key::p256("other").public_pem().as_bytes());
        let by = ["--key", pem.as_str(), "--trusted-root", &root];
        for (kind, dsse) in [SHAPES[0], SHAPES[3], SHAPES[4]] {
            // Ed25519 signs files and not their digests; the key of P-384 signs another digest than the bundle names.
            if !dsse && key.scheme().name() != "ecdsa-p256-sha256" {
                continue;
            }
            let build = || {
                let content = match dsse {
                    true => catenary_testkit::authority::Content::Dsse(
                        catenary_testkit::dsse::Envelope::statement(statement(FILE)),
                    ),
                    false => catenary_testkit::authority::Content::Message(FILE.to_vec()),
                };
                let builder = authority.bundle(Signer::Key(key.clone(), key.id()), content).entry(kind);
                if kind.is_v2() { builder.timestamp() } else { builder }
            };
            let name = format!("{} {kind:?}", key.scheme().name());
            let bundle = build().to_json();
            suite.case_with(&name, true, &bundle, &by);
            suite.case_with("another key", false, &bundle, &["--key", &other, "--trusted-root", &root]);
            suite.case("an identity of a key", false, &bundle);
            let certified = suite.bundle(kind, dsse).to_json();
            suite.case_with("a certificate under a key", false, &certified, &by);
            for tamper in [
                Tamper::EntryOfAnother,
                Tamper::BodyOfAnotherSignature,
                Tamper::CheckpointForged,
                Tamper::ProofBit,
                Tamper::WrongLogId,
            ] {
                let bundle = build().tamper(tamper).to_json();
                suite.case_with(&format!("{name} {tamper:?}"), false, &bundle, &by);
            }
            let hintless = build().edit_json(|bundle| {
                bundle["verificationMaterial"]["publicKey"] = json!({});
            });
            suite.case_with(&format!("{name} without a hint"), true, &hintless.to_json(), &by);
        }
    }
    suite.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_that_are_none_are_refused() {
    let app = App::shared().await;
    let mut suite = Suite::new(app);
    let good: Value = suite.bundle(Kind::HashedRekordV1, false).to_value();
    let without = |pointer: &str, member: &str| {
        let mut bundle = good.clone();
        bundle.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(member);
        bundle.to_string()
    };
    let material = "/verificationMaterial";
    for (name, text) in [
        ("no JSON", "{".to_owned()),
        ("nothing", String::new()),
        ("a list of it", format!("[{good},{{}}]")),
        ("no content", without("", "messageSignature")),
        ("no material", without("", "verificationMaterial")),
        ("no certificate", without(material, "certificate")),
        ("no entries", without(material, "tlogEntries")),
        ("no signature", without("/messageSignature", "signature")),
        ("no proof", without("/verificationMaterial/tlogEntries/0", "inclusionProof")),
        ("twice the same member", good.to_string().replacen('{', r#"{"mediaType":"x","#, 1)),
    ] {
        suite.case(name, false, &text);
    }
    let changed = |edit: fn(&mut Value)| {
        let mut bundle = good.clone();
        edit(&mut bundle);
        bundle.to_string()
    };
    for (name, text) in [
        ("another digest", changed(|b| b["messageSignature"]["messageDigest"]["digest"] = "AAAA".into())),
        (
            "another algorithm",
            changed(|b| b["messageSignature"]["messageDigest"]["algorithm"] = "SHA2_512".into()),
        ),
        (
            "two contents",
            changed(|b| b["dsseEnvelope"] = json!({"payload": "", "payloadType": "x", "signatures": []})),
        ),
        ("two materials", changed(|b| b["verificationMaterial"]["publicKey"] = json!({"hint": "x"}))),
        ("another signature", changed(|b| b["messageSignature"]["signature"] = "MEQCIA==".into())),
        (
            "a certificate that is none",
            changed(|b| b["verificationMaterial"]["certificate"]["rawBytes"] = "AAAA".into()),
        ),
    ] {
        suite.case(name, false, &text);
    }
    assert!(Path::new(&suite.path("a.txt")).exists(), "the good artifact is there");
    suite.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_key_asks_a_root_for_its_logs_only() {
    let app = App::shared().await;
    let mut suite = Suite::new(app);
    let authority = suite.authority.clone();
    let key = Key::p256("managed");
    let pem = suite.write("key.pub", key.public_pem().as_bytes());
    let logs = authority.trusted_root().without_ct_logs().without_tsa().without_authorities();
    let logs = suite.write("logs.json", logs.to_json().as_bytes());
    let nobody = suite.write("nobody.json", json!({"mediaType": MEDIA_TYPE}).to_string().as_bytes());
    let under_logs = ["--key", &pem, "--trusted-root", &logs];
    let under_nobody = ["--key", &pem, "--trusted-root", &nobody];
    for kind in [Kind::HashedRekordV1, Kind::HashedRekordV2, Kind::DsseV1, Kind::DsseV2, Kind::IntotoV2] {
        // Nothing but a proof says no time, which a key does not need. The log's body names payloads by their hash.
        let timeless = |bundle: &mut Value| {
            bundle["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = "0".into();
        };
        let logged = |statement: &str| {
            let builder = authority.attest_with_key(&key, statement).entry(kind).without_promise();
            builder.edit_json(timeless).to_json()
        };
        let bundle = logged(&statement(FILE));
        suite.case_with(&format!("{kind:?} under logs alone"), true, &bundle, &under_logs);
        suite.case_with(&format!("{kind:?} of a log that no root names"), false, &bundle, &under_nobody);
        suite.case_with(&format!("{kind:?} in a list"), false, &format!("[{bundle}]"), &under_logs);
        for (name, file) in
            [("of no type", None), ("of another type", Some("https://in-toto.io/Statement/v2"))]
        {
            let mut statement: Value = serde_json::from_str(&statement(FILE)).unwrap();
            let statement = match file {
                None => statement.as_object_mut().unwrap().remove("_type").map(|_| statement.to_string()),
                Some(file) => {
                    statement["_type"] = file.into();
                    Some(statement.to_string())
                }
            };
            let bundle = logged(&statement.unwrap());
            suite.case_with(&format!("{kind:?}, a statement {name}"), false, &bundle, &under_logs);
        }
        for more in [&["--certificate-identity", WHO][..], &["--certificate-oidc-issuer", ISSUER][..]] {
            suite.case_with("a key and an identity", false, &bundle, &[&under_logs[..], more].concat());
        }
    }
    let unlogged = authority.attest_with_key(&key, &statement(FILE)).entries(&[]).to_json();
    suite.case_with("no entry, under a root that names no log", true, &unlogged, &under_nobody);
    suite.case_with("no entry, under logs", false, &unlogged, &under_logs);
    suite.case_with("no entry, under the public instance", false, &unlogged, &under_logs[..2]);
    suite.case_under("no key, under a root that names nobody", false, &unlogged, &nobody);
    suite.case_under("no key, under logs", false, &unlogged, &logs);
    let other = suite.write("other.pub", Key::p256("other").public_pem().as_bytes());
    let by = ["--key", &other, "--trusted-root", &nobody];
    suite.case_with("no entry and another key", false, &unlogged, &by);
    suite.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_are_read_as_they_are_written() {
    let app = App::shared().await;
    let mut suite = Suite::new(app);
    let authority = suite.authority.clone();
    let (start, end) = (authority.window.start, authority.now + 5 * 365 * 86_400);
    // Another instance serves an intermediate of the same name and another key; the certificate names its issuer by the name only.
    let decoy = Issuer::root(Key::p384("decoy root"), authority.root.subject.clone(), start, end);
    let same_name = authority.intermediate.subject.clone();
    let between = decoy.intermediate(&Key::p384("decoy"), same_name, start, end, Vec::new());
    let decoy = (vec![between.certificate, decoy.certificate], authority.window);
    for (kind, dsse) in SHAPES {
        let bundle = suite.bundle(kind, dsse).to_json();
        for position in [0, 1] {
            let mut root = authority.trusted_root();
            root.certificate_authorities.insert(position, decoy.clone());
            suite.with_root(&format!("{kind:?}, a namesake at {position}"), true, &bundle, &root);
        }
        let mut only = authority.trusted_root();
        only.certificate_authorities = vec![decoy.clone()];
        suite.with_root(&format!("{kind:?}, only a namesake"), false, &bundle, &only);
        for valid_for in [json!({}), json!({"end": "2040-01-01T00:00:00Z"}), json!({"start": null})] {
            let mut root = authority.trusted_root().to_value();
            for log in root["tlogs"].as_array_mut().unwrap() {
                log["publicKey"]["validFor"] = valid_for.clone();
            }
            let root = suite.write("other-root.json", root.to_string().as_bytes());
            suite.case_under(&format!("{kind:?}, a log {valid_for}"), false, &bundle, &root);
        }
        for (name, end, good) in [("ends as it promised", 0, true), ("ended before", -1, false)] {
            let promised = authority.now + 5;
            let root = authority.trusted_root().log_window(Window::between(start, promised + end));
            suite.with_root(&format!("{kind:?}, a log {name}"), good, &bundle, &root);
        }
    }
    // Certificates of a timestamp authority that have ended since, and one that had ended before.
    let stamp = authority.now + 5;
    for (ends, good) in [(stamp + 60, true), (stamp, true), (stamp - 1, false)] {
        let tsa = Tsa::new("short", Window::between(start, ends)).with_window(authority.window);
        let root = authority.trusted_root().without_tsa().and_tsa(&tsa);
        let builder = authority.sign_blob(&suite.leaf, FILE).entry(Kind::HashedRekordV2);
        let bundle = builder.timestamp_by(&tsa, stamp).to_json();
        suite.with_root(
            &format!("a timestamp of {stamp} by certificates until {ends}"),
            good,
            &bundle,
            &root,
        );
    }
    suite.done();
}
