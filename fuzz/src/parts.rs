//! Damage with structure: one part of a good bundle replaced, or two good bundles mixed.

use std::cell::OnceCell;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{seeds, verified};

thread_local! {
    static GOOD: OnceCell<Vec<Value>> = const { OnceCell::new() };
}

/// Where bytes stand in a bundle.
const PARTS: [&str; 7] = [
    "/verificationMaterial/certificate/rawBytes",
    "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp",
    "/verificationMaterial/tlogEntries/0/canonicalizedBody",
    "/verificationMaterial/tlogEntries/0/inclusionPromise/signedEntryTimestamp",
    "/verificationMaterial/tlogEntries/0/inclusionProof/rootHash",
    "/dsseEnvelope/payload",
    "/dsseEnvelope/signatures/0/sig",
];

/// The first byte says which bundle, the second which part of it the rest stands for; a third mode replaces the checkpoint's text.
pub fn bundle_parts(data: &[u8]) {
    let [bundle, part, rest @ ..] = data else { return };
    GOOD.with(|good| {
        let good = good.get_or_init(seeds::bundles);
        let mut bundle = good[usize::from(*bundle) % good.len()].clone();
        let part = usize::from(*part) % (PARTS.len() + 1);
        let (place, value) = match PARTS.get(part) {
            Some(place) => (*place, json!(STANDARD.encode(rest))),
            None => (
                "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope",
                json!(String::from_utf8_lossy(rest)),
            ),
        };
        if let Some(member) = bundle.pointer_mut(place) {
            *member = value;
            verified(bundle.to_string().as_bytes());
        }
    });
}

/// Two good bundles: each byte takes the next member of the first from the second, leaves it out, or keeps it.
pub fn splice(data: &[u8]) {
    let [one, other, choices @ ..] = data else { return };
    GOOD.with(|good| {
        let good = good.get_or_init(seeds::bundles);
        let mut mixed = good[usize::from(*one) % good.len()].clone();
        let other = &good[usize::from(*other) % good.len()];
        mix(&mut mixed, other, &mut choices.iter().copied());
        verified(mixed.to_string().as_bytes());
    });
}

fn mix(into: &mut Value, from: &Value, choices: &mut impl Iterator<Item = u8>) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            let names: Vec<String> = into.keys().chain(from.keys()).cloned().collect();
            for name in names {
                match (choices.next().unwrap_or(0) % 4, from.get(&name)) {
                    (1, Some(value)) => drop(into.insert(name, value.clone())),
                    (2, _) => drop(into.remove(&name)),
                    (3, Some(value)) => {
                        if let Some(own) = into.get_mut(&name) {
                            mix(own, value, choices);
                        }
                    }
                    _ => {}
                }
            }
        }
        (Value::Array(into), Value::Array(from)) => {
            for (own, value) in into.iter_mut().zip(from) {
                mix(own, value, choices);
            }
            if choices.next().unwrap_or(0) % 4 == 1 {
                into.extend(from.iter().cloned());
            }
        }
        (into, from) => *into = from.clone(),
    }
}
