//! Signed verdicts: a SLSA verification summary in a DSSE envelope.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_chain::{Verdict, vsa};
use catenary_store::{
    StoreError,
    failpoint::hit,
    keys::{Purpose, ServiceKeys},
};
use serde_json::{Value, json};

use crate::problem::Fault;

/// The payload type of in-toto statements.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// What signs.
#[derive(Debug, Clone, Copy)]
pub enum By {
    /// The key of verdicts.
    Vsa,
    /// The key of the collector.
    Collector,
}

/// The verdict as a signed summary.
pub fn sign_verdict(keys: &ServiceKeys, origin: &str, verdict: &Verdict) -> Result<Value, Fault> {
    let statement = vsa::statement(verdict, &vsa::verifier_id(origin));
    envelope(keys, By::Vsa, &statement)
}

/// A statement in a DSSE envelope.
pub fn envelope(keys: &ServiceKeys, by: By, statement: &Value) -> Result<Value, Fault> {
    let payload = serde_json::to_vec(statement).map_err(|_| Fault::Internal)?;
    let message = pae(&payload);
    hit("verdict.sign").map_err(StoreError::from)?;
    let (signature, key) = match by {
        By::Vsa => (keys.sign_vsa(&message), keys.current(Purpose::Vsa)),
        By::Collector => (keys.sign_collector(&message), keys.current(Purpose::Collector)),
    };
    let signature = signature.map_err(|error| {
        tracing::error!(%error, "signing failed");
        Fault::Internal
    })?;
    Ok(json!({
        "payloadType": PAYLOAD_TYPE,
        "payload": STANDARD.encode(&payload),
        "signatures": [{ "keyid": key.key_id.to_string(), "sig": STANDARD.encode(signature) }],
    }))
}

/// DSSE's pre-authentication encoding.
fn pae(payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}
