//! Real bundles, read by the library of another house as well: what is verified here is verified there, but for what is explained.

use std::{collections::BTreeMap, sync::Arc};

use catenary_evidence::{
    Digest, Node, PublicKey, Trust,
    attestation::{ARTIFACT_SIGNATURE, detect, verify},
    signer::AuthorityKind,
    trust_root::{Domain, Rules},
};
use serde::Deserialize;
use serde_json::Value;
use sigstore_verify::{
    PublicKeyVerificationPolicy, VerificationPolicy, Verifier,
    trust_root::TrustedRoot,
    types::{ArtifactDigest, Bundle, DerPublicKey, HashAlgorithm},
};

use crate::samples::{bytes, data};

#[derive(Deserialize)]
struct Row {
    file: String,
    #[serde(default)]
    roots: Vec<String>,
    #[serde(default)]
    keys: Vec<String>,
}

/// What the library says of bundles that are verified here, and why each is right nevertheless.
const EXPLAINED: [(&str, &str); 2] = [
    (
        "no supported subject digest algorithms",
        "a statement about a commit alone: the library wants an artifact's digest",
    ),
    (
        "inclusion proof has no checkpoint",
        "a bundle v0.1 rests on the log's promise; a proof without a checkpoint is nobody's word and only has to be consistent",
    ),
];

/// The root's rules, as `catenary check` has them: what it can verify is demanded.
fn domain(document: &[u8]) -> Option<Domain> {
    let plain = Domain::read("given", document, Rules::NONE).ok()?;
    let has = |kind| plain.authorities().keys().any(|(known, _)| *known == kind);
    let rules = Rules { log: has(AuthorityKind::Log), sct: has(AuthorityKind::CtLog), logs: 1 };
    Domain::read("given", document, rules).ok()
}

fn artifact(nodes: &[Node]) -> Option<ArtifactDigest> {
    nodes.iter().find_map(|node| match node {
        Node::Content(Digest::Sha256(bytes)) => ArtifactDigest::new(HashAlgorithm::Sha2256, &bytes[..]).ok(),
        Node::Content(Digest::Sha512(bytes)) => ArtifactDigest::new(HashAlgorithm::Sha2512, &bytes[..]).ok(),
        _ => None,
    })
}

/// What the library says of a bundle that one root, or one key beside it, verified here.
fn library(text: &str, nodes: &[Node], root: &str, key: Option<&PublicKey>) -> Result<(), String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let trusted = TrustedRoot::from_json(root).map_err(|e| say(&e))?;
    let verifier = Verifier::new(&trusted).map_err(|e| say(&e))?;
    let bundle = Bundle::from_json(text).map_err(|e| say(&e))?;
    // Where only other digests are, any will do: the library says that it supports none.
    let artifact = artifact(nodes).map_or_else(
        || ArtifactDigest::new(HashAlgorithm::Sha2256, &[0_u8; 32][..]).map_err(|e| say(&e)),
        Ok,
    )?;
    let done = match key {
        Some(key) => {
            let policy = PublicKeyVerificationPolicy::new(DerPublicKey::new(key.spki().to_vec()));
            verifier.verify(artifact, &bundle, &policy)
        }
        None => {
            let root: Value = serde_json::from_str(root).map_err(|e| say(&e))?;
            let none = |member: &str| root[member].as_array().is_none_or(Vec::is_empty);
            let mut policy = VerificationPolicy::any_identity();
            if none("tlogs") {
                policy = policy.skip_tlog_unsafe();
            }
            if none("ctlogs") {
                policy = policy.skip_sct();
            }
            verifier.verify(artifact, &bundle, &policy)
        }
    };
    done.map(|_| ()).map_err(|e| say(&e))
}

#[test]
fn real_bundles_that_are_verified_here_are_verified_by_the_library() {
    let Some(data) = data() else { return };
    let rows: Vec<Row> = serde_json::from_slice(&bytes(&data.join("INDEX.json"))).unwrap();
    let (mut asked, mut explained, mut differing) = (0, BTreeMap::new(), Vec::new());
    for row in rows.iter().filter(|row| data.join(&row.file).is_file()) {
        let keys: Vec<PublicKey> = row
            .keys
            .iter()
            .filter_map(|key| {
                PublicKey::all_from_text(&String::from_utf8_lossy(&bytes(&data.join(key))), None).ok()
            })
            .flatten()
            .collect();
        let file = bytes(&data.join(&row.file));
        for (position, item) in detect(&file).unwrap_or_default().into_iter().enumerate() {
            let text = String::from_utf8_lossy(item);
            if !text.contains("application/vnd.dev.sigstore.bundle") {
                continue;
            }
            for root in &row.roots {
                let document = bytes(&data.join(root));
                let Some(domain) = domain(&document) else { continue };
                let mut trust = Trust::none();
                trust.insert_domain(Arc::new(domain));
                keys.iter().for_each(|key| trust.insert_key(key.clone()));
                let Ok(facts) = verify(item, &trust) else { continue };
                let Some(signature) = facts.signatures.first() else { continue };
                asked += 1;
                let by = signature.signer.key().and_then(|id| keys.iter().find(|key| key.id() == id));
                assert!(!facts.subjects.is_empty() || facts.predicate_type == ARTIFACT_SIGNATURE);
                let root = String::from_utf8_lossy(&document);
                let Err(why) = library(&text, &facts.subject_nodes(), &root, by) else { continue };
                match EXPLAINED.iter().find(|(said, _)| why.contains(said)) {
                    Some((_, because)) => *explained.entry(*because).or_insert(0) += 1,
                    None => differing.push(format!("{}#{position}: {why}", row.file)),
                }
            }
        }
    }
    println!("{asked} verified here; explained: {explained:#?}");
    assert!(asked > 50, "the data set has more bundles than {asked}");
    assert!(differing.is_empty(), "{differing:#?}");
}
