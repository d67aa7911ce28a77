//! SLSA verification summary v1, read with tolerance: levels of any track, and properties beside them.
//!
//! slsa-verifier takes every string that starts with `SLSA_` for a level and fails on
//! `SLSA_SOURCE_TWO_PARTY_REVIEWED`; here what is not `SLSA_<TRACK>_LEVEL_<n>` is a property.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::{Reader, Summary};
use crate::{
    digest::Digest,
    dsse::within,
    limits::MAX_LEVELS,
    refusal::Refusal,
    statement::{DigestSet, WireDigests},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    verifier: WireVerifier,
    time_verified: Option<Timestamp>,
    resource_uri: String,
    policy: Option<WirePolicy>,
    verification_result: String,
    #[serde(default)]
    verified_levels: Vec<String>,
}

#[derive(Deserialize)]
struct WireVerifier {
    id: String,
}

#[derive(Deserialize)]
struct WirePolicy {
    uri: Option<String>,
    #[serde(default)]
    digest: WireDigests,
}

/// Reads the predicate.
pub(super) fn read(reader: &Reader<'_>) -> Result<Summary, Refusal> {
    let wire: Wire = reader.parse()?;
    reader.text("/verifier/id", &wire.verifier.id)?;
    reader.text("/resourceUri", &wire.resource_uri)?;
    let passed = match wire.verification_result.as_str() {
        "PASSED" => true,
        "FAILED" => false,
        _ => return Err(reader.refuse("/verificationResult", "expected PASSED or FAILED")),
    };
    within("verified levels", wire.verified_levels.len(), MAX_LEVELS)?;
    let mut levels = BTreeMap::new();
    let mut properties = Vec::new();
    let mut repeated = Vec::new();
    for text in wire.verified_levels {
        match level(&text) {
            // The specification allows one level a track; of several the highest holds, because levels imply the lower.
            Some((track, n)) => {
                let highest = levels.entry(track.to_owned()).or_insert(n);
                if *highest != n {
                    repeated.push(track.to_owned());
                }
                *highest = n.max(*highest);
            }
            None => properties.push(text),
        }
    }
    repeated.sort();
    repeated.dedup();
    let (policy_uri, policy_digest) = match wire.policy {
        None => (None, None),
        Some(policy) => {
            let digests = DigestSet::read(&policy.digest, false, "/predicate/policy/digest")?;
            let sha256 = digests.content.into_iter().find(|d| matches!(d, Digest::Sha256(_)));
            (policy.uri, sha256)
        }
    };
    Ok(Summary {
        verifier_id: wire.verifier.id,
        resource_uri: wire.resource_uri,
        policy_uri,
        policy_digest,
        passed,
        levels,
        repeated,
        properties,
        time_verified: wire.time_verified,
    })
}

/// `SLSA_<TRACK>_LEVEL_<n>`, n a plain number.
fn level(text: &str) -> Option<(&str, u8)> {
    let (track, n) = text.strip_prefix("SLSA_")?.rsplit_once("_LEVEL_")?;
    let plain = n == "0" || (!n.starts_with('0') && n.bytes().all(|b| b.is_ascii_digit()));
    (plain && !track.is_empty()).then(|| n.parse().ok().map(|n| (track, n)))?
}
