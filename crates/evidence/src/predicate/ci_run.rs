//! `urn:catenary:predicate:ci-run:v1`: how a CI run ended.

use jiff::Timestamp;
use serde::Deserialize;

use super::{CiRun, Reader};
use crate::refusal::Refusal;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wire {
    invocation: String,
    conclusion: String,
    finished_on: Option<Timestamp>,
}

/// Reads the predicate.
pub(super) fn read(reader: &Reader<'_>) -> Result<CiRun, Refusal> {
    let Wire { invocation, conclusion, finished_on } = reader.parse()?;
    reader.text("/invocation", &invocation)?;
    reader.text("/conclusion", &conclusion)?;
    Ok(CiRun { invocation, conclusion, finished_on })
}
