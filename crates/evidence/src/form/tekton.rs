//! Runs of Tekton with what Tekton Chains annotated them with: an envelope in base64.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{Opened, decode_strict, envelope};
use crate::{json, refusal::Refusal};

const SIGNATURE: &str = "chains.tekton.dev/signature-";

#[derive(Deserialize)]
struct Run {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Whether a document with these members is a run.
pub(super) fn is_run(api_version: &str, kind: &str) -> bool {
    api_version.starts_with("tekton.dev/") && matches!(kind, "TaskRun" | "PipelineRun")
}

/// Takes the envelope out of a run. The run's own text is signed by nobody and is not looked at.
pub(super) fn open(text: &str) -> Result<Opened, Refusal> {
    let run: Run = json::read(text).map_err(Refusal::Json)?;
    let mut signatures = run.metadata.annotations.iter().filter(|(name, _)| name.starts_with(SIGNATURE));
    let (Some((name, value)), more) = (signatures.next(), signatures.next()) else {
        return Err(Refusal::Unsigned);
    };
    if more.is_some() {
        return Err(Refusal::UnsupportedForm {
            form: "a run with several signatures: send each envelope by itself",
        });
    }
    let pointer = || format!("/metadata/annotations/{}", name.replace('/', "~1"));
    let bytes = decode_strict(value, pointer)?;
    let inner = json::check(&bytes).map_err(Refusal::Json)?;
    // A bare signature with its payload beside it is the form before envelopes.
    if !inner.trim_start().starts_with('{') {
        return Err(Refusal::UnsupportedForm { form: "a run signed without an envelope" });
    }
    // Chains writes the payload once more; where it is, it is the envelope's.
    let beside = name.replace("/signature-", "/payload-");
    let opened = envelope::open(inner)?;
    if let (Some(payload), super::Content::Payload { bytes, .. }) =
        (run.metadata.annotations.get(&beside), &opened.content)
        && STANDARD.decode(payload).is_ok_and(|payload| payload != *bytes)
    {
        return Err(Refusal::Ambiguous { why: "the payload beside the envelope is another one".into() });
    }
    Ok(Opened { form: "tekton-chains", ..opened })
}
