//! `catenary verify-vsa`: verify a signed verdict with nothing but its public key.

use std::path::PathBuf;

use anyhow::{Context, Result};
use catenary_evidence::{
    Node, PublicKey, Trust, attestation,
    predicate::{Claim, Summary},
    reference::ImageReference,
};
use clap::Args;
use serde_json::json;

use crate::{
    exit::Exit,
    output::{BAD, GOOD, Output, paint},
};

/// Verify a signed verdict.
#[derive(Args)]
pub struct VerifyVsa {
    /// The DSSE envelope.
    file: PathBuf,
    /// The service's VSA key (PEM), from `/.well-known/catenary/vsa.pem`.
    #[arg(long)]
    key: PathBuf,
    /// The image it must be about: `registry/repository@sha256:…`.
    #[arg(long)]
    image: Option<String>,
    /// The verifier that must have said it.
    #[arg(long)]
    verifier: Option<String>,
}

impl VerifyVsa {
    /// 0 when the signature holds and it says PASSED about the image; 1 otherwise.
    pub fn run(self, output: &Output) -> Result<Exit> {
        let pem = std::fs::read_to_string(&self.key).with_context(|| self.key.display().to_string())?;
        let bytes = std::fs::read(&self.file).with_context(|| self.file.display().to_string())?;
        let image = self.image.as_deref().map(str::parse).transpose()?;
        let summary = match verify(&bytes, &pem, image.as_ref(), self.verifier.as_deref())? {
            Ok(summary) => summary,
            Err(why) => return Ok(denied(output, &why)),
        };
        let shown = json!({"verified": true, "resourceUri": summary.resource_uri, "levels": summary.levels, "timeVerified": summary.time_verified});
        output.show(&shown, |_| format!("{} PASSED for {}", paint(GOOD, "verified"), summary.resource_uri));
        Ok(Exit::Allowed)
    }
}

/// The summary, when `pem` signed it and it says PASSED about the image; else why it does not count.
///
/// 1. the signature; 2. the predicate; 3. the resource and the digest; 4. the verifier; 5. the result.
pub fn verify(
    bytes: &[u8],
    pem: &str,
    image: Option<&ImageReference>,
    verifier: Option<&str>,
) -> Result<Result<Summary, String>> {
    let ring: Trust = [PublicKey::from_pem(pem, None)?].into_iter().collect();
    let vsa = match attestation::verify(bytes, &ring) {
        Ok(vsa) if vsa.is_verified() => vsa,
        Ok(_) => return Ok(Err("the signature is not by this key".into())),
        Err(refusal) => return Ok(Err(refusal.to_string())),
    };
    let Claim::Summary(summary) = &vsa.claim else {
        return Ok(Err(format!("it is no verification summary but {}", vsa.predicate_type)));
    };
    if let Some(image) = image {
        if summary.resource_uri != image.resource {
            return Ok(Err(format!("it is about {}, not {}", summary.resource_uri, image.resource)));
        }
        if !vsa.subject_nodes().contains(&Node::Content(image.digest)) {
            return Ok(Err(format!("it is not about {}", image.digest)));
        }
    }
    if verifier.is_some_and(|expected| expected != summary.verifier_id) {
        return Ok(Err(format!("the verifier is {}", summary.verifier_id)));
    }
    if !summary.passed {
        return Ok(Err("the verdict is FAILED".into()));
    }
    Ok(Ok(summary.clone()))
}

fn denied(output: &Output, why: &str) -> Exit {
    output
        .show(&json!({"verified": false, "why": why}), |_| format!("{} {why}", paint(BAD, "not verified:")));
    Exit::Denied
}
