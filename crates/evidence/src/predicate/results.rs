//! Results of tools, each in few words: tests, SCAI attribute reports, releases, runtime traces, simple verification results.

use serde::{Deserialize, de::IgnoredAny};

use super::{AttributeReport, Collection, Reader, Release, RuntimeTrace, TestResult, VerificationResult};
use crate::{dsse::within, limits::MAX_LEVELS, refusal::Refusal};

/// Witness attestation-collection.
pub(super) fn read_collection(reader: &Reader<'_>) -> Result<Collection, Refusal> {
    #[derive(Deserialize)]
    struct Wire {
        name: String,
        #[serde(default)]
        attestations: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(rename = "type")]
        kind: String,
        starttime: Option<String>,
        endtime: Option<String>,
    }
    let wire: Wire = reader.parse()?;
    within("attestations of a collection", wire.attestations.len(), MAX_LEVELS)?;
    for (position, entry) in wire.attestations.iter().enumerate() {
        reader.text(&format!("/attestations/{position}/type"), &entry.kind)?;
    }
    let time = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    Ok(Collection {
        name: wire.name,
        started: wire.attestations.iter().filter_map(|entry| time(&entry.starttime)).min(),
        finished: wire.attestations.iter().filter_map(|entry| time(&entry.endtime)).max(),
        attestations: wire.attestations.into_iter().map(|entry| entry.kind).collect(),
    })
}

/// in-toto test-result v0.1.
pub(super) fn read_test(reader: &Reader<'_>) -> Result<TestResult, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        result: String,
        url: Option<String>,
        #[serde(default)]
        passed_tests: Vec<IgnoredAny>,
        #[serde(default)]
        warned_tests: Vec<IgnoredAny>,
        #[serde(default)]
        failed_tests: Vec<String>,
    }
    let wire: Wire = reader.parse()?;
    if !["PASSED", "WARNED", "FAILED"].contains(&wire.result.as_str()) {
        return Err(reader.refuse("/result", "expected PASSED, WARNED or FAILED"));
    }
    if wire.result == "PASSED" && !wire.failed_tests.is_empty() {
        return Err(reader.refuse("/failedTests", "tests failed, and the result is PASSED"));
    }
    Ok(TestResult {
        result: wire.result,
        url: wire.url,
        passed: wire.passed_tests.len() as u64,
        warned: wire.warned_tests.len() as u64,
        failed: wire.failed_tests.len() as u64,
    })
}

/// in-toto SCAI v0.2 and v0.3.
pub(super) fn read_scai(reader: &Reader<'_>) -> Result<AttributeReport, Refusal> {
    #[derive(Deserialize)]
    struct Wire {
        attributes: Vec<Attribute>,
        producer: Option<Producer>,
    }
    #[derive(Deserialize)]
    struct Attribute {
        attribute: String,
    }
    #[derive(Deserialize)]
    struct Producer {
        uri: Option<String>,
        name: Option<String>,
    }
    let wire: Wire = reader.parse()?;
    within("attributes", wire.attributes.len(), MAX_LEVELS)?;
    for (position, attribute) in wire.attributes.iter().enumerate() {
        reader.text(&format!("/attributes/{position}/attribute"), &attribute.attribute)?;
    }
    Ok(AttributeReport {
        attributes: wire.attributes.into_iter().map(|attribute| attribute.attribute).collect(),
        producer: wire.producer.and_then(|producer| producer.uri.or(producer.name)),
    })
}

/// in-toto release v0.1.
pub(super) fn read_release(reader: &Reader<'_>) -> Result<Release, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        purl: String,
        release_id: Option<String>,
    }
    let wire: Wire = reader.parse()?;
    let purl = reader.check("/purl", crate::purl::Purl::parse(&wire.purl))?;
    Ok(Release { purl: purl.to_string(), release_id: wire.release_id })
}

/// in-toto runtime-trace v0.1.
pub(super) fn read_trace(reader: &Reader<'_>) -> Result<RuntimeTrace, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        monitor: Monitor,
        monitor_log: Log,
    }
    #[derive(Deserialize)]
    struct Monitor {
        #[serde(rename = "type")]
        kind: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Log {
        process: Option<Vec<IgnoredAny>>,
        network: Option<Vec<IgnoredAny>>,
        file_access: Option<Vec<IgnoredAny>>,
    }
    // Not looked for is not none.
    let seen = |list: Option<Vec<IgnoredAny>>| list.map(|list| list.len() as u64);
    let wire: Wire = reader.parse()?;
    reader.text("/monitor/type", &wire.monitor.kind)?;
    Ok(RuntimeTrace {
        monitor: wire.monitor.kind,
        processes: seen(wire.monitor_log.process),
        connections: seen(wire.monitor_log.network),
        files: seen(wire.monitor_log.file_access),
    })
}

/// in-toto simple verification result v0.1 and v0.2: what was verified, passing properties only.
pub(super) fn read_svr(reader: &Reader<'_>) -> Result<VerificationResult, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        verifier: Verifier,
        time_created: Option<jiff::Timestamp>,
        properties: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Verifier {
        id: String,
    }
    let wire: Wire = reader.parse()?;
    reader.text("/verifier/id", &wire.verifier.id)?;
    within("properties", wire.properties.len(), MAX_LEVELS)?;
    Ok(VerificationResult {
        verifier_id: wire.verifier.id,
        created: wire.time_created,
        properties: wire.properties,
    })
}
