//! A verdict as an in-toto statement with a SLSA verification summary (VSA v1).
//!
//! Signing is the caller's business. `resourceUri` is the repository that was asked about, so that the
//! summary cannot be replayed for another one (SLSA threat G).

use serde_json::{Value, json};

use crate::verdict::{Outcome, Verdict};

/// The predicate type of a VSA.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/verification_summary/v1";

/// The name under which a registered key of this service's own verdicts is known.
pub const SERVICE: &str = "vsa";

/// The id under which the service of this name issues summaries.
pub fn verifier_id(name: &str) -> String {
    format!("https://{name}/catenary")
}

/// The same, from the origin of a tenant's log, which is the name and the tenant.
pub fn verifier_of(origin: &str) -> Option<String> {
    origin.rsplit_once('/').map(|(name, _)| verifier_id(name))
}

/// The statement. An INDETERMINATE verdict is not a pass, so it is `FAILED`.
pub fn statement(verdict: &Verdict, verifier_id: &str) -> Value {
    let passed = verdict.outcome == Outcome::Passed;
    let digest = verdict.subject.digest.to_string();
    let (algorithm, hex) = digest.split_once(':').unwrap_or_default();
    let policy = match &verdict.policy {
        Some(policy) => json!({
            "uri": format!("urn:catenary:policy:{}:{}", policy.name, policy.revision),
            "digest": { "sha256": policy.digest.to_hex() },
        }),
        None => json!({ "uri": "urn:catenary:policy:none" }),
    };
    let inputs: Vec<Value> = verdict
        .evidence()
        .iter()
        .map(
            |id| json!({ "uri": format!("urn:catenary:evidence:{id}"), "digest": { "sha256": id.to_hex() } }),
        )
        .collect();
    // SLSA: at most one level a track, and only `FAILED` when the verification failed.
    let levels: Vec<String> = match passed {
        true => {
            let levels = verdict.levels.iter().map(|(track, level)| format!("{track}_LEVEL_{level}"));
            levels.chain(verdict.properties.iter().cloned()).collect()
        }
        false => vec!["FAILED".to_owned()],
    };
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": verdict.subject.resource, "digest": { algorithm: hex } }],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "verifier": { "id": verifier_id, "version": { "catenary": verdict.engine } },
            "timeVerified": verdict.as_of.to_string(),
            "resourceUri": verdict.subject.resource,
            "policy": policy,
            "inputAttestations": inputs,
            "verificationResult": if passed { "PASSED" } else { "FAILED" },
            "verifiedLevels": levels,
            "slsaVersion": "1.2",
        },
    })
}
