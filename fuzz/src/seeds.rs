//! Where each target begins: a few good inputs, made by testkit's own authority.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_evidence::{
    PublicKey, Trust,
    attestation::{detect, verify},
    layout,
    trust_root::{Domain, Rules},
};
use catenary_testkit::{
    Key, Statement, Subject, World,
    authority::{Authority, Claims, Kind, Leaf, Version},
    oci::{Image, Index},
    sha256_hex,
};
use catenary_tlog::{Checkpoint, Hash, Signer, node_hash};
use serde_json::{Value, json};

/// Name of the log whose checkpoints are read.
pub const ORIGIN: &str = "fuzz.test/log";

/// Who signs the checkpoint.
pub fn log_signer() -> Signer {
    Signer::from_seed(ORIGIN, &[7; 32]).expect("the name is good")
}

/// The only one that was signed.
pub fn checkpoint() -> Checkpoint {
    Checkpoint::new(ORIGIN, 33, Hash([9; 32]))
}

/// A node of the tree with these leaves.
pub fn node(level: u8, index: u64, leaf: &impl Fn(u64) -> Hash) -> Hash {
    match level {
        0 => leaf(index),
        _ => node_hash(node(level - 1, 2 * index, leaf), node(level - 1, 2 * index + 1, leaf)),
    }
}

fn authority() -> Authority {
    Authority::new("fuzz")
}

fn key() -> Key {
    Key::p256("fuzz")
}

/// The authority's root and one key.
pub fn trust() -> Trust {
    let mut trust = Trust::none();
    let root = authority().trusted_root_json();
    let domain = Domain::read("fuzz", root.as_bytes(), Rules::default()).expect("the root is good");
    trust.insert_domain(Arc::new(domain));
    trust.insert_key(PublicKey::from_pem(&key().public_pem(), None).expect("the key is good"));
    trust
}

fn statement() -> Statement {
    let subject = Subject::new("image", "sha256", &sha256_hex(b"the image"));
    Statement::new("https://acme.test/note/v1", json!({"n": [1, 2.5, null, "\u{e9}"]})).subject(subject)
}

fn leaf(authority: &Authority) -> Leaf {
    let commit = "a".repeat(40);
    authority
        .leaf(&Claims::github("acme/app", ".github/workflows/release.yml", "refs/heads/main", &commit))
        .issue()
}

/// Bundles of every version and both logs.
pub fn bundles() -> Vec<Value> {
    let authority = authority();
    let leaf = leaf(&authority);
    let text = statement().to_json();
    let bundle =
        |version, kind| authority.attest(&leaf, &text).version(version).entry(kind).timestamp().to_value();
    vec![
        bundle(Version::V01, Kind::DsseV1),
        bundle(Version::V02, Kind::HashedRekordV1),
        bundle(Version::V03, Kind::DsseV1),
        bundle(Version::V03, Kind::DsseV2),
    ]
}

fn metablock(signed: &Value) -> Vec<u8> {
    let canonical = layout::canonical(signed).expect("it has no fractions");
    json!({"signed": signed, "signatures": [{"keyid": "k", "sig": hex::encode(key().sign(&canonical))}]})
        .to_string()
        .into_bytes()
}

fn metablocks() -> Vec<Vec<u8>> {
    let link = json!({"_type": "link", "name": "build", "command": [], "byproducts": {}, "environment": {},
        "materials": {"a": {"sha256": "1".repeat(64)}}, "products": {"b": {"sha256": "2".repeat(64)}}});
    let plan = json!({"_type": "layout", "expires": "2999-01-01T00:00:00Z", "inspect": [], "readme": "a\nb", "keys": {
        "k": {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": key().public_pem()}}},
        "steps": [{"name": "build", "threshold": 1, "pubkeys": ["k"],
            "expected_materials": [["MATCH", "*", "IN", "x", "WITH", "PRODUCTS", "FROM", "build"]],
            "expected_products": [["DISALLOW", "*"]]}]});
    vec![metablock(&link), metablock(&plan)]
}

fn submissions() -> Vec<Vec<u8>> {
    let envelope = statement().signed_by(&key()).to_json();
    let bundles: Vec<String> = bundles().iter().map(Value::to_string).collect();
    let authority = authority();
    let attachment = authority.attest(&leaf(&authority), &statement().to_json()).to_attachment();
    let attachment = json!({
        "mediaType": "application/vnd.catenary.cosign-layer.v1+json", "blob": STANDARD.encode(&attachment.layer),
        "layer": {"mediaType": attachment.media_type, "size": 1, "annotations": attachment.annotations,
                  "digest": format!("sha256:{}", sha256_hex(&attachment.layer))},
    });
    let mut all = vec![
        envelope.clone().into_bytes(),
        attachment.to_string().into_bytes(),
        format!("[{envelope},{}]", bundles[2]).into_bytes(),
        format!("{{\"attestations\":[{{\"bundle\":{}}}]}}", bundles[2]).into_bytes(),
    ];
    all.extend(bundles.into_iter().map(String::into_bytes));
    all.extend(metablocks());
    all
}

/// SHA-256 of every payload that was signed.
pub fn payloads() -> BTreeSet<[u8; 32]> {
    let trust = trust();
    let mut all = BTreeSet::new();
    for bytes in submissions() {
        for item in detect(&bytes).expect("a seed is a submission") {
            let fact = verify(item, &trust).expect("a seed is evidence");
            assert!(fact.is_verified(), "a seed verifies: {}", String::from_utf8_lossy(item));
            all.insert(fact.payload.0);
        }
    }
    all
}

fn commits() -> Vec<Vec<u8>> {
    let authority = authority();
    let commit = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@acme.test> 1780000000 +0000\ncommitter A <a@acme.test> 1780000000 +0000\n\nSigned\n";
    let armour = authority.gitsign(&leaf(&authority), commit.as_bytes()).to_armour();
    let folded = armour.trim_end().replace('\n', "\n ");
    let tag = format!(
        "object {}\ntype commit\ntag v1\ntagger A <a@acme.test> 1780000000 +0000\n\nv1\n",
        "a".repeat(40)
    );
    let signed = commit.replacen("\n\n", &format!("\ngpgsig {folded}\n\n"), 1);
    let world = World::golden(1, 1_780_000_000);
    vec![commit.into(), signed.into_bytes(), tag.into_bytes(), world.commit.bytes()]
}

fn images() -> Vec<Vec<u8>> {
    let image = Image::new("linux/amd64", vec![b"layer".to_vec()]);
    let mut index = Index::new(vec![image.clone()]);
    index.buildkit_attestations = true;
    vec![index.document().bytes, image.manifest().bytes, image.config().bytes]
}

fn predicates() -> Vec<Vec<u8>> {
    let world = World::golden(1, 1_780_000_000);
    let slsa = world.build.body.predicate().to_string();
    let vulns = json!({"scanner": {"uri": "https://scan.test", "result": [{"id": "CVE-2026-1", "severity": [{"method": "cvss", "score": "9.8"}]}]},
        "metadata": {"scanStartedOn": "2026-01-01T00:00:00Z", "scanFinishedOn": "2026-01-01T00:00:01Z"}});
    let vex = json!({"@context": "https://openvex.dev/ns/v0.2.0", "@id": "x", "author": "a", "timestamp": "2026-01-01T00:00:00Z", "version": 1,
        "statements": [{"vulnerability": {"name": "CVE-2026-1"}, "products": [{"@id": "pkg:npm/a@1"}], "status": "not_affected", "justification": "component_not_present"}]});
    let vsa = json!({"verifier": {"id": "https://v.test"}, "timeVerified": "2026-01-01T00:00:00Z", "resourceUri": "r.test/a",
        "policy": {"uri": "p"}, "verificationResult": "PASSED", "verifiedLevels": ["SLSA_BUILD_LEVEL_3"]});
    let test = json!({"result": "PASSED", "configuration": [{"name": "c"}], "passedTests": ["a"]});
    vec![
        of(0, &slsa),
        of(2, &vsa.to_string()),
        of(3, &test.to_string()),
        of(4, &vulns.to_string()),
        of(5, &vex.to_string()),
    ]
}

fn sboms() -> Vec<Vec<u8>> {
    let spdx = json!({"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": "x", "packages": [{"SPDXID": "SPDXRef-a", "name": "a",
        "versionInfo": "1", "licenseConcluded": "MIT", "checksums": [{"algorithm": "SHA256", "checksumValue": "1".repeat(64)}],
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": "pkg:npm/a@1"}]}]});
    let cyclone = json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "library", "name": "a", "version": "1",
        "purl": "pkg:npm/a@1", "licenses": [{"license": {"id": "MIT"}}], "components": [{"type": "library", "name": "b", "version": "2"}]}]});
    vec![of(1, &spdx.to_string()), of(3, &cyclone.to_string())]
}

fn of(kind: u8, document: &str) -> Vec<u8> {
    [&[kind], document.as_bytes()].concat()
}

fn names() -> Vec<Vec<u8>> {
    let digest = "1".repeat(64);
    [
        format!("ghcr.io/acme/shop@sha256:{digest}"),
        format!("sha256:{digest}"),
        "localhost:5000/a/b".into(),
        "git+https://github.com/acme/shop.git@refs/heads/main".into(),
        format!("gitCommit:{}", "a".repeat(40)),
    ]
    .map(String::into_bytes)
    .to_vec()
}

fn policies() -> Vec<Vec<u8>> {
    let world = World::golden(1, 1_780_000_000);
    let short = "apiVersion: catenary/v1\nkind: Policy\nmetadata: {name: shop}\nspec: {github: acme/shop}\n";
    vec![world.policy().into_bytes(), short.into()]
}

fn notes() -> Vec<Vec<u8>> {
    let note = checkpoint().sign(&log_signer()).expect("it can be signed");
    let text = checkpoint().encode().expect("it can be written");
    vec![note.into_bytes(), text.into_bytes()]
}

fn proofs() -> Vec<Vec<u8>> {
    let leaf = |n: u64| catenary_tlog::leaf_hash(&n.to_be_bytes());
    let node = |level: u8, n: u64| Some(node(level, n, &leaf));
    let bytes = |size: u8, index: u8, kind: u8, proof: Vec<Hash>| {
        let hashes = proof.into_iter().flat_map(|hash| hash.0);
        [size, index, kind].into_iter().chain(hashes).collect()
    };
    let inclusion = catenary_tlog::prove_inclusion(5, 23, node).expect("5 is in it");
    let consistency = catenary_tlog::prove_consistency(6, 23, node).expect("6 is before 23");
    vec![bytes(23, 5, 0, inclusion), bytes(23, 6, 1, consistency)]
}

fn wire() -> Vec<Vec<u8>> {
    let hashes: Vec<u8> = (0..4_u8).flat_map(|n| [n; 32]).collect();
    let entries = catenary_tlog::tile::encode_bundle(&[b"a".as_slice(), b"bc"]).expect("they are short");
    vec![hashes, entries]
}

/// The first inputs of every target.
pub fn all() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let text = |lines: &[&str]| lines.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>();
    let statements = World::golden(1, 1_780_000_000).build.body.statement().to_json();
    let pem = [key().public_pem(), Key::ed25519("b").public_pem()].concat();
    let ssh = "a@acme.test namespaces=\"git\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAx";
    vec![
        ("dsse", vec![statement().signed_by(&key()).to_json().into_bytes()]),
        ("bundle", submissions()),
        ("bundle_parts", (0..8).map(|part| vec![2, part, b'0', 3]).collect()),
        ("splice", (0..4).map(|n| vec![n, 3 - n, 3, 3, 1, 0, 3, 1, 2]).collect()),
        ("statement", vec![statements.into_bytes(), statement().to_json().into_bytes()]),
        ("provenance", predicates()),
        ("sbom", sboms()),
        ("layout_link", metablocks()),
        ("trusted_root", vec![authority().trusted_root_json().into_bytes()]),
        ("keys", vec![pem.into_bytes(), ssh.into()]),
        ("git_object", commits()),
        ("oci_object", images()),
        ("digest_and_reference", names()),
        ("checkpoint_note", notes()),
        ("tlog_proof", proofs()),
        ("tlog_wire", wire()),
        ("policy_document", policies()),
        (
            "expression",
            text(&[
                "att.claim.findings.list.all(f, f.score < 7) && build.params.x == \"y\"",
                "size(context) in [1, 2]",
            ]),
        ),
        ("glob", text(&["git+https://git.acme.test/*/**\ngit+https://git.acme.test/a/b/c", "a*b\nab"])),
        (
            "purl_and_version",
            text(&["pkg:npm/%40acme/a@1.2.3-rc.1?x=y#z", ">=1.2, <2\n1:2.0~rc1-3", "1.0.0-alpha\n1.0.0"]),
        ),
    ]
}
