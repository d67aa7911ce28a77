//! What each fuzz target feeds, and what must hold: no panic, nothing that verifies but what our own authority signed, and where
//! there is a second way to say the same, the same answer.

mod parts;
pub mod seeds;

use std::{cell::OnceCell, collections::BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_chain::{
    expr::{Bindings, Budget, Program, Site},
    policy::{Policy, glob::Glob, lint},
};
use catenary_evidence::{
    Digest, GitOid, Node, PublicKey, Trust, allowed_signers,
    attestation::{self, Attestation},
    dsse, layout,
    object::{self, GIT_COMMIT, GIT_TAG},
    predicate,
    purl::Purl,
    reference::{ImageReference, RepositoryUri, ResourceName},
    statement::Statement,
    trust_root::{Domain, Rules},
    version,
};
use catenary_tlog::{Checkpoint, Hash, Leaf, note, proof, tile};
use jiff::Timestamp;
use serde_json::Value;

pub use parts::{bundle_parts, splice};

thread_local! {
    static TRUST: OnceCell<Trust> = const { OnceCell::new() };
    static SIGNED: OnceCell<BTreeSet<[u8; 32]>> = const { OnceCell::new() };
}

/// Verifies under the authority that signed the seeds. What verifies must say what a seed says.
fn verified(bytes: &[u8]) -> Option<Attestation> {
    let fact = TRUST.with(|trust| attestation::verify(bytes, trust.get_or_init(seeds::trust))).ok()?;
    if fact.is_verified() {
        let known = SIGNED.with(|signed| signed.get_or_init(seeds::payloads).contains(&fact.payload.0));
        assert!(known, "a statement that nobody signed verifies: {}", String::from_utf8_lossy(bytes));
    }
    Some(fact)
}

/// Envelopes: what is read, is read the same when written again.
pub fn dsse(data: &[u8]) {
    verified(data);
    let Ok(envelope) = dsse::Envelope::parse(data) else { return };
    let again = serde_json::json!({
        "payloadType": envelope.payload_type,
        "payload": STANDARD.encode(&envelope.payload),
        "signatures": envelope.signatures.iter().map(|s| serde_json::json!({"sig": STANDARD.encode(&s.bytes)})).collect::<Vec<_>>(),
    });
    let again = dsse::Envelope::parse(again.to_string().as_bytes()).expect("what was read can be read");
    assert_eq!(again.message(), envelope.message());
}

/// Whatever may be submitted.
pub fn bundle(data: &[u8]) {
    for item in attestation::detect(data).unwrap_or_default() {
        verified(item);
    }
}

/// Statements: the subjects that are read do not depend on white space around the text.
pub fn statement(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(statement) = Statement::read(text) {
        let _ = predicate::read(text, &statement);
    }
}

/// Predicates of builds, the first byte choosing the type.
pub fn provenance(data: &[u8]) {
    const TYPES: [&str; 6] = [
        "https://slsa.dev/provenance/v1",
        "https://slsa.dev/provenance/v0.2",
        "https://slsa.dev/verification_summary/v1",
        "https://in-toto.io/attestation/test-result/v0.1",
        "https://in-toto.io/attestation/vulns/v0.2",
        "https://openvex.dev/ns/v0.2.0",
    ];
    of_type(data, &TYPES);
}

/// Bills of materials, the first byte choosing the type.
pub fn sbom(data: &[u8]) {
    of_type(
        data,
        &[
            "https://spdx.dev/Document",
            "https://spdx.dev/Document/v2.3",
            "https://cyclonedx.org/bom",
            "https://cyclonedx.org/bom/v1.6",
        ],
    );
}

fn of_type(data: &[u8], types: &[&str]) {
    let Some((first, rest)) = data.split_first() else { return };
    let Ok(document) = std::str::from_utf8(rest) else { return };
    let kind = types[usize::from(*first) % types.len()];
    let digest = "1".repeat(64);
    let text = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"x","digest":{{"sha256":"{digest}"}}}}],"predicateType":"{kind}","predicate":{document}}}"#
    );
    statement(text.as_bytes());
}

/// Layouts and links.
pub fn layout_link(data: &[u8]) {
    verified(data);
    let _ = layout::functionaries(data);
    if let Ok(value) = serde_json::from_slice::<Value>(data)
        && let Ok(canonical) = layout::canonical(&value)
    {
        // The canonical form of in-toto is not JSON where a text holds control characters; where it is, it is its own.
        if let Ok(again) = serde_json::from_slice::<Value>(&canonical) {
            assert_eq!(layout::canonical(&again).ok().as_ref(), Some(&canonical));
        }
    }
}

/// Trust roots.
pub fn trusted_root(data: &[u8]) {
    let _ = Domain::read("fuzz", data, Rules::default());
}

/// Keys of every form, OpenPGP certificates and lists of allowed signers.
pub fn keys(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        let _ = PublicKey::from_spki(data, None);
        return;
    };
    if let Ok(key) = PublicKey::from_text(text, None) {
        assert!(!key.verify(b"nothing that was signed", b"no signature"));
    }
    let _ = PublicKey::all_from_text(text, None);
    let _ = PublicKey::from_openpgp(text);
    let _ = allowed_signers::read(text);
}

/// Commits and tags, with their signatures.
pub fn git_object(data: &[u8]) {
    for kind in [GIT_COMMIT, GIT_TAG] {
        let read = TRUST.with(|trust| object::read(kind, data, trust.get_or_init(seeds::trust), None));
        if let Ok(read) = read {
            let name = if kind == GIT_COMMIT { "commit" } else { "tag" };
            // A repository in SHA-256 format names its objects by that.
            let ids = [GitOid::sha1(name, data), GitOid::sha256(name, data)];
            assert!(matches!(read.node, Node::Git(oid) if ids.contains(&oid)));
        }
    }
}

/// Indexes, manifests and configs.
pub fn oci_object(data: &[u8]) {
    for kind in [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ] {
        if let Ok(read) = object::read(kind, data, &Trust::none(), None) {
            assert_eq!(read.node, Node::Content(Digest::sha256(data)));
        }
    }
}

/// Names: what is read is written the same, and read again the same.
pub fn digest_and_reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(image) = text.parse::<ImageReference>() {
        assert_eq!(image.to_string().parse::<ImageReference>().ok(), Some(image));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(node) = text.parse::<Node>() {
        assert_eq!(node.to_string().parse::<Node>().ok(), Some(node));
    }
    if let Ok(name) = text.parse::<ResourceName>() {
        assert_eq!(name.to_string().parse::<ResourceName>().ok(), Some(name));
    }
    if let Ok(uri) = text.parse::<RepositoryUri>() {
        assert_eq!(uri.to_string().parse::<RepositoryUri>().ok(), Some(uri), "canonical is canonical");
    }
}

/// Notes and checkpoints: what is read is written the same.
pub fn checkpoint_note(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let known = [seeds::log_signer().verifier()];
    if let Ok(opened) = Checkpoint::open(text, seeds::ORIGIN, &known) {
        assert_eq!(opened, seeds::checkpoint(), "a checkpoint that nobody signed");
    }
    let _ = note::open(text, &known);
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert_eq!(checkpoint.encode().ok().as_deref(), Some(text));
    }
}

/// Proofs against a small tree whose every proof is known: what is accepted is the leaf, and the tree, that are there.
pub fn tlog_proof(data: &[u8]) {
    let [size, index, kind, rest @ ..] = data else { return };
    let size = u64::from(size % 33);
    let index = u64::from(*index % 40);
    let leaf = |n: u64| catenary_tlog::leaf_hash(&n.to_be_bytes());
    let node = |level: u8, n: u64| seeds::node(level, n, &leaf);
    let hashes: Vec<Hash> =
        rest.chunks_exact(32).take(12).filter_map(|some| some.try_into().ok().map(Hash)).collect();
    let Ok(root) = proof::root_at(size, |level, n| Some(node(level, n))) else { return };
    if kind % 2 == 0 {
        let wanted = proof::prove_inclusion(index, size, |level, n| Some(node(level, n)));
        let other = rest.first_chunk().map_or(Hash([7; 32]), |some| Hash(*some));
        assert_eq!(wanted.is_ok(), index < size);
        if let Ok(wanted) = wanted {
            assert!(proof::verify_inclusion(leaf(index), index, size, &wanted, root).is_ok());
            assert!(
                other == leaf(index) || proof::verify_inclusion(other, index, size, &wanted, root).is_err()
            );
            let accepted = proof::verify_inclusion(leaf(index), index, size, &hashes, root).is_ok();
            assert_eq!(accepted, hashes == wanted);
        }
    } else {
        let wanted = proof::prove_consistency(index, size, |level, n| Some(node(level, n)));
        let old = proof::root_at(index, |level, n| Some(node(level, n)));
        if let (Ok(wanted), Ok(old)) = (wanted, old) {
            assert!(proof::verify_consistency(index, old, size, root, &wanted).is_ok());
            let accepted = proof::verify_consistency(index, old, size, root, &hashes).is_ok();
            assert_eq!(accepted, hashes == wanted);
        }
    }
}

/// Leaves, tiles and bundles of entries: what is read is written the same.
pub fn tlog_wire(data: &[u8]) {
    if let Ok(leaf) = Leaf::decode(data) {
        assert_eq!(leaf.encode().ok().as_deref(), Some(data), "one form of a leaf");
    }
    if let Ok(entries) = tile::decode_bundle(data) {
        assert_eq!(tile::encode_bundle(&entries).ok().as_deref(), Some(data));
    }
    let _ = tile::tile_root(data);
    for width in [1, 2, 255, 256] {
        let _ = tile::decode_tile(width, data);
    }
}

/// Policies.
pub fn policy_document(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = Policy::parse(text);
    let findings = lint::lint(text, Timestamp::UNIX_EPOCH);
    assert!(parsed.is_ok() || !findings.is_empty(), "what is refused is explained");
}

/// Expressions.
pub fn expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(expression) = Program::parse(text) else { return };
    for site in [Site::Build, Site::Require, Site::Deny, Site::Match] {
        let _ = expression.check(site);
    }
    let _ = expression.evaluate(&Bindings::default(), &mut Budget::default());
}

/// Patterns match from end to end: a text with something around it is another text.
pub fn glob(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((pattern, subject)) = text.split_once('\n') else { return };
    let Ok(glob) = Glob::new(pattern) else { return };
    let _ = glob.matches(subject);
    if !pattern.contains('*') {
        assert_eq!(glob.matches(subject), subject == pattern);
    }
    if let Ok(other) = Glob::new(subject) {
        let _ = glob.may_meet(&other);
    }
}

/// Package URLs and versions: comparing is an order.
pub fn purl_and_version(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(purl) = Purl::parse(text) {
        let _ = (purl.package(), purl.version().map(str::to_owned));
    }
    let _ = version::Range::parse(text);
    let Some((a, b)) = text.split_once('\n') else { return };
    for kind in ["npm", "deb", "rpm", "maven", "pypi", "cargo", "golang", "apk", ""] {
        assert_eq!(version::compare(kind, a, b), version::compare(kind, b, a).reverse(), "{kind}");
    }
}
