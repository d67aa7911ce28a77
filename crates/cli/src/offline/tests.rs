//! The golden world as an evidence file; each tampering beside it.

use catenary_chain::control::TrustedKey;
use catenary_testkit::{
    oci::Blob,
    time::NOON,
    world::{RESOURCE, World},
};
use catenary_tlog::{node_hash, prove_inclusion, root_at};
use serde_json::json;

use super::*;

/// A log that is being written.
#[derive(Default)]
struct Log {
    leaves: Vec<Vec<u8>>,
    lines: Vec<Value>,
}

impl Log {
    fn add(&mut self, line: &str, kind: &str, media_type: Option<&str>, body: &[u8]) {
        let time = Timestamp::from_second(NOON).unwrap();
        let leaf = Leaf::new(kind, time, body, Hash([0; 32])).encode().unwrap();
        let mut item = json!({
            "type": line, "index": self.leaves.len(),
            "body": STANDARD.encode(body), "leaf": STANDARD.encode(&leaf),
        });
        if let Some(media_type) = media_type {
            item["mediaType"] = json!(media_type);
        }
        self.leaves.push(leaf);
        self.lines.push(item);
    }

    fn control(&mut self, entry: &Entry) {
        let value = serde_json::to_value(entry).unwrap();
        self.add("control", value["kind"].as_str().unwrap(), None, &serde_json::to_vec(&value).unwrap());
    }

    fn node(&self, level: u8, index: u64) -> Option<Hash> {
        if level == 0 {
            return Some(leaf_hash(self.leaves.get(usize::try_from(index).ok()?)?));
        }
        Some(node_hash(self.node(level - 1, 2 * index)?, self.node(level - 1, 2 * index + 1)?))
    }

    /// The lines of the file, without its verdict.
    fn file(&self, image: &str) -> Vec<Value> {
        let size = self.leaves.len() as u64;
        let root = root_at(size, |level, index| self.node(level, index)).unwrap();
        let signer = signer();
        let checkpoint = Checkpoint::new("log.test/acme", size, root).sign(&signer).unwrap();
        let mut lines = vec![
            json!({"type": "question", "image": image, "environment": null, "platform": null, "now": Timestamp::from_second(NOON).unwrap()}),
            json!({"type": "checkpoint", "text": checkpoint}),
        ];
        for (index, line) in self.lines.iter().enumerate() {
            let proof = prove_inclusion(index as u64, size, |level, index| self.node(level, index)).unwrap();
            let mut line = line.clone();
            line["proof"] = proof.iter().map(|hash| STANDARD.encode(hash.0)).collect();
            lines.push(line);
        }
        lines
    }
}

fn signer() -> catenary_tlog::Signer {
    catenary_tlog::Signer::from_seed("log.test/acme", &[9; 32]).unwrap()
}

/// A policy that asks for source and build, so that a short log is enough.
fn golden(revoked: bool) -> (String, String, Vec<Value>) {
    let world = World::golden(1, NOON);
    let mut log = Log::default();
    for (name, pem, _) in world.keys() {
        let key = PublicKey::from_pem(&pem, None).unwrap();
        let trusted = TrustedKey {
            id: key.id(),
            name,
            pem,
            scheme: key.scheme(),
            service: None,
            valid_from: None,
            valid_until: None,
        };
        log.control(&Entry::TrustAdded(trusted.into()));
        log.control(&Entry::TrustEffective(key.id().into()));
    }
    log.control(&Entry::PolicyApplied { name: "prod".into(), revision: 1, document: world.policy() });
    for Blob { media_type, bytes } in world.objects() {
        log.add("object", kind::OBJECT, Some(&media_type), &bytes);
    }
    for envelope in world.envelopes() {
        log.add("attestation", kind::ATTESTATION, None, &envelope.to_bytes());
    }
    if revoked {
        let key = world.k_ci.id().parse().unwrap();
        log.control(&Entry::Revocation(catenary_chain::control::Revocation::of_key(key, "lost")));
    }
    let mut lines = log.file(&world.image());
    // What the service would have said: the same evaluation.
    lines.push(json!({"type": "verdict", "verdict": {"policy": {"name": "prod", "revision": 1, "digest": "sha256:0"}}}));
    let verdict = decide(&lines, &world.policy()).unwrap();
    *lines.last_mut().unwrap() = json!({"type": "verdict", "verdict": verdict});
    (world.image(), world.policy(), lines)
}

fn decide(lines: &[Value], policy: &str) -> Result<Verdict> {
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    Export::read(&text.join("\n"))?.evaluate(policy, Some(&signer().verifier()))
}

/// Why the changed file is refused.
fn refused(change: impl FnOnce(&mut Vec<Value>)) -> String {
    let (_, policy, mut lines) = golden(false);
    change(&mut lines);
    format!("{:#}", decide(&lines, &policy).unwrap_err())
}

fn at(lines: &[Value], kind: &str) -> usize {
    lines.iter().rposition(|line| line["type"] == kind).unwrap()
}

#[test]
fn k01_the_exported_chain_passes_without_a_server() {
    let (image, policy, lines) = golden(false);
    let verdict = decide(&lines, &policy).unwrap();
    assert_eq!(format!("{:?}", verdict.outcome), "Passed", "{:#?}", verdict.reasons);
    assert!(verdict.allowed && image.starts_with(RESOURCE));
}

#[test]
fn a_revocation_in_the_file_is_honoured_and_cannot_be_cut_out() {
    let (_, policy, mut lines) = golden(true);
    assert_eq!(format!("{:?}", decide(&lines, &policy).unwrap().outcome), "Failed");
    let revocation = at(&lines, "control");
    lines.remove(revocation);
    assert!(decide(&lines, &policy).unwrap_err().to_string().contains("not complete"));
}

#[test]
fn a_body_that_was_changed_is_refused() {
    let why = refused(|lines| {
        let at = at(lines, "attestation");
        lines[at]["body"] = json!(STANDARD.encode(b"{}"));
    });
    assert!(why.contains("not the one that was logged"), "{why}");
}

#[test]
fn a_leaf_that_was_changed_is_refused() {
    let why = refused(|lines| {
        let at = at(lines, "attestation");
        let other = lines[at - 1]["leaf"].clone();
        lines[at]["leaf"] = other;
    });
    assert!(why.starts_with("entry "), "{why}");
}

#[test]
fn a_checkpoint_by_another_key_is_refused() {
    let (_, policy, lines) = golden(false);
    let other = catenary_tlog::Signer::from_seed("log.test/acme", &[8; 32]).unwrap();
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    let file = Export::read(&text.join("\n")).unwrap();
    assert!(file.evaluate(&policy, Some(&other.verifier())).is_err());
}

#[test]
fn a_file_that_ends_early_is_refused() {
    let why = refused(|lines| {
        lines.pop();
    });
    assert!(why.contains("ends before its verdict"), "{why}");
}

#[test]
fn left_out_evidence_is_noticed() {
    let why = refused(|lines| {
        let at = at(lines, "attestation");
        lines.remove(at);
    });
    assert!(why.contains("not complete"), "{why}");
}

#[test]
fn an_attestation_cannot_pose_as_a_control_entry() {
    let why = refused(|lines| {
        let at = at(lines, "attestation");
        lines[at]["type"] = json!("control");
    });
    assert!(why.starts_with("entry "), "{why}");
}
