//! The JSON Schemas of our own predicates say what the reader does: the same members, the same ones required.

use catenary_evidence::attestation::verify;
use serde_json::{Value, json};

use crate::common::{COMMIT, IMAGE, Signer, bytes, envelope, ring};

fn accepted(subject: &Value, predicate_type: &Value, predicate: &Value) -> bool {
    let signer = Signer::ed25519();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": subject}],
        "predicateType": predicate_type,
        "predicate": predicate,
    });
    verify(&envelope(&bytes(&statement), &signer), &ring(&[&signer])).is_ok()
}

/// The schema of a value, behind references and "or null".
fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        return resolve(root, root.pointer(pointer).expect("the reference leads somewhere"));
    }
    match schema["anyOf"].get(0) {
        Some(first) => resolve(root, first),
        None => schema,
    }
}

/// Walks an example with every member, and takes away each member in turn.
fn agree(schema: &str, subject: Value, example: &Value) {
    let root: Value = serde_json::from_str(schema).unwrap();
    let kind = &root["$id"];
    assert!(accepted(&subject, kind, example), "the full example is read");
    let mut objects = vec![(String::new(), &root)];
    while let Some((pointer, schema)) = objects.pop() {
        let members = example.pointer(&pointer).unwrap().as_object().unwrap();
        let properties = schema["properties"].as_object().unwrap();
        assert!(
            members.keys().eq(properties.keys()),
            "the example has every member of `{pointer}`: {members:?}"
        );
        assert_eq!(schema["additionalProperties"], json!(false), "{pointer}");
        let mut more = example.clone();
        more.pointer_mut(&pointer).unwrap()["unknown"] = json!(1);
        assert!(!accepted(&subject, kind, &more), "`{pointer}` takes no other member");
        for (name, property) in properties {
            let mut less = example.clone();
            less.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().remove(name);
            let by_condition = pointer.is_empty() && root["then"]["required"] == json!([name]);
            let required = by_condition || schema["required"].as_array().unwrap().contains(&json!(name));
            assert_eq!(!accepted(&subject, kind, &less), required, "is `{pointer}/{name}` required?");
            let property = resolve(&root, property);
            if property["properties"].is_object() {
                objects.push((format!("{pointer}/{name}"), property));
            }
        }
    }
}

#[test]
fn the_commit_schema_is_what_is_read() {
    let example = json!({
        "repository": {"uri": "git+https://git.acme.test/acme/app", "id": "4242"},
        "ref": "refs/heads/main", "previous": COMMIT, "updatedAt": "2026-11-20T09:00:00Z",
        "actor": {"name": "dev", "id": "1"},
        "review": {"approvedRevision": COMMIT, "approvers": [{"name": "ann", "id": "2"}]},
        "signature": {"method": "ssh", "principal": "dev@acme.test", "keyId": format!("sha256:{IMAGE}")}});
    agree(
        include_str!("../../../../api/predicates/commit-v1.schema.json"),
        json!({"gitCommit": COMMIT}),
        &example,
    );
}

#[test]
fn the_registry_event_schema_is_what_is_read() {
    let digest = format!("sha256:{IMAGE}");
    let example = json!({
        "event": "promote", "registry": "r.acme.test", "repository": "acme/app", "tag": "1.4.2",
        "previousDigest": digest, "mediaType": "application/vnd.oci.image.index.v1+json",
        "actor": {"name": "ci", "authn": "registry-reported"},
        "client": {"useragent": "buildkit/v0.32", "addr": "10.0.0.7"},
        "occurredAt": "2026-11-20T10:00:00Z", "observedAt": "2026-11-20T10:00:01Z",
        "source": {"kind": "distribution-notification", "eventId": "320678d8"},
        "verified": {"manifestFetched": true, "digestMatches": true},
        "promotion": {"from": "r.acme.test/staging/app", "fromDigest": digest}});
    agree(
        include_str!("../../../../api/predicates/registry-event-v1.schema.json"),
        json!({"sha256": IMAGE}),
        &example,
    );
}

#[test]
fn the_ci_run_schema_is_what_is_read() {
    let example =
        json!({"invocation": "run-1", "conclusion": "success", "finishedOn": "2026-11-20T10:00:00Z"});
    agree(
        include_str!("../../../../api/predicates/ci-run-v1.schema.json"),
        json!({"sha256": IMAGE}),
        &example,
    );
}
