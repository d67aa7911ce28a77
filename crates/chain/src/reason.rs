//! Reason codes: stable API (chain-model 2.2).
//!
//! One table holds everything that is fixed about a code: what it means and what mends it. The code's
//! name is API; messages are not. `api/reasons.json` is this table, written out.

use std::fmt;

use catenary_evidence::Sha256;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::policy::Mode;

/// One thing that is wrong (or worth a warning), with what mends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// The stable code.
    pub code: Code,
    /// `error`, `warning`, `info`.
    pub severity: Severity,
    /// The link it belongs to.
    pub stage: String,
    /// The node it is about.
    pub node: String,
    /// The policy member that asked for it, for example `source.refs`.
    pub rule: String,
    /// For people; not stable.
    pub message: String,
    /// What the policy wants.
    pub expected: Value,
    /// What was found.
    pub actual: Value,
    /// Ids of the evidence concerned.
    pub evidence: Vec<Sha256>,
    /// Whether waiting may help.
    pub retryable: bool,
    /// How to mend it.
    pub remediation: Remediation,
}

impl Reason {
    /// An error with the fixed members of `code`; the rest is filled in with the methods below.
    pub fn error(code: Code, node: impl fmt::Display, rule: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            stage: code.stage().to_owned(),
            node: node.to_string(),
            rule: rule.to_owned(),
            message: message.into(),
            expected: Value::Null,
            actual: Value::Null,
            evidence: Vec::new(),
            retryable: code.retryable(),
            remediation: Remediation { hint: code.hint().to_owned(), doc: format!("/docs/reasons/{code}") },
        }
    }

    /// The same, as a warning.
    pub fn warning(code: Code, node: impl fmt::Display, rule: &str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, node, rule, message) }
    }

    /// Says what was wanted and what was found.
    pub fn because(mut self, expected: impl Into<Value>, actual: impl Into<Value>) -> Self {
        self.expected = expected.into();
        self.actual = actual.into();
        self
    }

    /// Names the evidence concerned.
    pub fn with_evidence(mut self, evidence: impl IntoIterator<Item = Sha256>) -> Self {
        self.evidence.extend(evidence);
        self.evidence.sort();
        self.evidence.dedup();
        self
    }

    /// The same fact by a code that says more.
    pub fn recoded(self, code: Code) -> Self {
        let fixed = Self::error(code, "", "", "");
        Self { code, stage: fixed.stage, retryable: fixed.retryable, remediation: fixed.remediation, ..self }
    }

    /// The same under a rule of this mode: what is not enforced breaks nothing.
    pub fn under(mut self, mode: Mode) -> Self {
        self.severity = match (self.severity, mode) {
            (Severity::Error, Mode::Warn) => Severity::Warning,
            (Severity::Error, Mode::Shadow) => Severity::Info,
            (severity, _) => severity,
        };
        self
    }

    /// Whether it breaks the chain.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// How to mend a broken link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remediation {
    /// One sentence.
    pub hint: String,
    /// Where to read more: `/docs/reasons/<CODE>`.
    pub doc: String,
}

/// How bad a reason is. Only errors break a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Breaks the chain.
    Error,
    /// Worth a look.
    Warning,
    /// For information.
    Info,
}

/// Makes [`Code`] and its fixed properties from one table.
macro_rules! codes {
    ($($variant:ident $name:literal $meaning:literal, $hint:literal;)*) => {
        /// Stable reason codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $meaning] #[serde(rename = $name)] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the chain.
            pub fn all() -> &'static [Self] {
                &[$(Self::$variant),*]
            }

            /// The code as it is written on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What it means, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }

            /// What mends it, in one sentence.
            pub fn hint(self) -> &'static str {
                match self { $(Self::$variant => $hint),* }
            }
        }
    };
}

codes! {
    PolNoMatch "POL_NO_MATCH" "No policy selects the resource in this environment.",
        "Apply a policy whose match.resources covers the repository.";
    PolAmbiguous "POL_AMBIGUOUS" "Two policies of the same priority select the resource.",
        "Give one of them a higher match.priority.";
    PolInvalid "POL_INVALID" "A policy document cannot be read.",
        "Apply a corrected revision of the policy; `catenary policy lint` shows what is wrong.";
    PolExpired "POL_EXPIRED" "The policy is past metadata.expires.",
        "Review the policy and apply a revision with a later metadata.expires.";
    PolEvalError "POL_EVAL_ERROR" "An expression of the policy cannot be evaluated for this question.",
        "Ask `has(…)` before a member that may be missing, give the context that the expression reads, or set onError: fail.";
    PolDenied "POL_DENIED" "A deny rule of the policy holds.",
        "Read the rule's message; ask again when it no longer holds.";
    ExcApplied "EXC_APPLIED" "The chain is broken, and an exception allows it for now.",
        "Mend the chain before the exception ends.";
    ExcExpired "EXC_EXPIRED" "An exception for the image has ended.",
        "Mend the chain, or have a new exception approved.";
    ArtUnknown "ART_UNKNOWN" "Nothing is known about the digest.",
        "Check that the CI job posts its evidence and that the registry reports pushes, then ask again.";
    ArtManifestMissing "ART_MANIFEST_MISSING" "The bytes of the index or manifest are not known.",
        "Post the manifest bytes as an object, or let the registry report the push.";
    ArtKindUnsupported "ART_KIND_UNSUPPORTED" "The digest is not of a kind that the policy allows.",
        "Ask for an image, or list the kind in subject.kinds.";
    ArtPlatformMissing "ART_PLATFORM_MISSING" "A platform that is wanted is not in the image.",
        "Build the image for the missing platform.";
    ArtPlatformUncovered "ART_PLATFORM_UNCOVERED" "A platform of the index has no trusted build.",
        "Attest the index, or each of its platforms.";
    ArtExtraPlatform "ART_EXTRA_PLATFORM" "The image has a platform that the policy does not list.",
        "Remove the platform from the index, or list it in subject.platforms.";
    AttSignerUnknown "ATT_SIGNER_UNKNOWN" "No registered key vouches for the attestation.",
        "Register the signer's public key, or sign with a registered one.";
    AttRevokedSigner "ATT_REVOKED_SIGNER" "The attestation is signed with a revoked key.",
        "Build and sign again with a key that is not revoked.";
    AttRevoked "ATT_REVOKED" "The attestation, or the builder that it names, was revoked.",
        "Build again on a builder that is not revoked, and attest anew.";
    ArtDenied "ART_DENIED" "The image was revoked.",
        "Deploy another image; GET /v1/revocations says why this one was revoked.";
    SrcRevoked "SRC_REVOKED" "The commit was revoked.",
        "Build from a commit that is not revoked; GET /v1/revocations says why this one was.";
    AttNone "ATT_NONE" "No attestation at all is about the image.",
        "Add a step to the CI job that attests the digest; `expected` lists what the policy asks for.";
    AttSubjectMismatch "ATT_SUBJECT_MISMATCH" "The attestation is about a part of the image, or about what stands beside it in an index, and covers nothing.",
        "Attest the digest that is deployed, or the index that holds it.";
    AttReplayed "ATT_REPLAYED" "The attestation is good, and was made for the image in another repository.",
        "Have the image verified for the repository that it is deployed from.";
    AttTrustrootStale "ATT_TRUSTROOT_STALE" "The trust root that vouches for the signature was added longer ago than trust.maxRootAge.",
        "Add the current trusted root (`catenary trust add`); without a network, bring it along and add it.";
    AttDigestConflict "ATT_DIGEST_CONFLICT" "The digests of one subject do not belong to the same bytes.",
        "Attest again with digests computed over the same bytes.";
    BldNoProvenance "BLD_NO_PROVENANCE" "No build statement covers the artifact.",
        "Add a provenance step to the build that attests this digest or the index that holds it.";
    BldSignerNotTrusted "BLD_SIGNER_NOT_TRUSTED" "Build statements exist, but no trust.builders rule counts their signers.",
        "Build with an approved builder, or add its key to trust.builders.";
    BldIssuerMismatch "BLD_ISSUER_MISMATCH" "The signer has a name that the policy trusts, from another OIDC issuer.",
        "Build where the issuer of the rule vouches for the workflow; treat an unexpected issuer as an incident.";
    BldSelfHosted "BLD_SELF_HOSTED" "The build ran on a runner that the rule of its builder does not take.",
        "Build on a hosted runner, or correct signer.ext.runnerEnvironment.";
    BldBuilderRefMutable "BLD_BUILDER_REF_MUTABLE" "The reusable workflow that signed was taken from a branch, which can be changed afterwards.",
        "Call the reusable workflow at a tag or a commit.";
    BldBuilderNotTrusted "BLD_BUILDER_NOT_TRUSTED" "No trust.builders rule accepts the builder id.",
        "Use an approved builder, or add its id to trust.builders.";
    BldBuilderSignerPair "BLD_BUILDER_SIGNER_PAIR" "The signer may not speak for the builder id.",
        "Sign with the key of the builder that is named, and treat an unexpected pair as an incident.";
    BldCertPredicateMismatch "BLD_CERT_PREDICATE_MISMATCH" "The certificate and the provenance that it signed contradict each other.",
        "Treat it as an incident: somebody signed provenance of another run; build again.";
    BldLevelTooLow "BLD_LEVEL_TOO_LOW" "The build level is below build.minLevel.",
        "Build on a builder with a higher maxLevel; self-hosted runners are capped by selfHostedMax.";
    BldTypeNotAllowed "BLD_TYPE_NOT_ALLOWED" "The build type is not allowed for the builder.",
        "Use an allowed build type, or list it in buildTypes.";
    BldUnknownBuildtype "BLD_UNKNOWN_BUILDTYPE" "No adapter reads the build type, so source and parameters cannot be judged.",
        "Use a build type that Catenary reads.";
    BldParamUnexpected "BLD_PARAM_UNEXPECTED" "The build had an external parameter that nobody expected.",
        "Remove the parameter, or list it in build.params.allow.";
    BldParamValue "BLD_PARAM_VALUE" "An external parameter has a value that is not allowed.",
        "Build with an allowed value, or list it in build.params.allow.";
    BldTriggerNotAllowed "BLD_TRIGGER_NOT_ALLOWED" "The event that started the build is not allowed.",
        "Build from an event that build.triggers lists.";
    BldRunFailed "BLD_RUN_FAILED" "The CI run of the build did not end as build.run asks for.",
        "Find out why the run failed; build again and let the whole run succeed.";
    BldRunUnknown "BLD_RUN_UNKNOWN" "No trusted statement says how the CI run of the build ended.",
        "Let the CI attest the end of each run (predicate ci-run), then ask again.";
    BldNotHermetic "BLD_NOT_HERMETIC" "Neither the provenance nor the builder's rule says that the build was hermetic.",
        "Build without network, or set hermetic: true on a builder that never has one.";
    BldIncompleteDeps "BLD_INCOMPLETE_DEPS" "The provenance does not say that it names every dependency.",
        "Build with a builder that records every dependency (BuildKit: mode=max and a remote context).";
    BldIncompleteParams "BLD_INCOMPLETE_PARAMS" "The provenance does not say that it names every external parameter.",
        "Build with a builder that records every parameter (BuildKit: mode=max).";
    AttTimestampMissing "ATT_TIMESTAMP_MISSING" "No trusted authority other than our own log says when the build statement was signed.",
        "Sign with a timestamp authority or a log that proves a time, or set evidence.timestamp: receivedAt.";
    AttTlogMissing "ATT_TLOG_MISSING" "The build statement is in no transparency log that its trust root vouches for.",
        "Sign with a transparency log, or leave evidence.tlog out.";
    AttWitnessQuorum "ATT_WITNESS_QUORUM" "Fewer transparency logs hold the build statement, or fewer witnesses cosigned their checkpoints, than evidence.tlog.quorum asks for.",
        "Log the statement in more of the logs and keep the cosigned checkpoint with it, or ask for a smaller quorum.";
    BldThreshold "BLD_THRESHOLD" "Fewer independent builders agree than build.builders.atLeast asks for.",
        "Add a build by a builder of another trust domain.";
    BldRebuildMismatch "BLD_REBUILD_MISMATCH" "Another trusted builder made other images of the same commit.",
        "Compare the two builds (diffoscope), and treat a difference that nobody can explain as an incident.";
    BldConflict "BLD_CONFLICT" "Trusted builds of the artifact disagree about its source.",
        "Find out which build is right, and revoke or replace the other.";
    SrcAmbiguous "SRC_AMBIGUOUS" "Trusted build statements name different source commits for the artifact.",
        "Find out which commit is right; build each artifact from one commit.";
    SrcMissing "SRC_MISSING" "The provenance names no git commit.",
        "Build from a git checkout, not from a local folder.";
    SrcRepoMismatch "SRC_REPO_MISMATCH" "The source is another repository.",
        "Build from the repository in source.repository.uri.";
    SrcRepoIdMismatch "SRC_REPO_ID_MISMATCH" "The repository has the name but not the numeric id that the policy expects.",
        "Check whether the repository was re-created under the same name.";
    SrcRefNotAllowed "SRC_REF_NOT_ALLOWED" "The branch or tag is not in source.refs.",
        "Merge first, then build from an allowed ref.";
    SrcCommitUnknown "SRC_COMMIT_UNKNOWN" "There is no version control evidence for the commit.",
        "Attest the commit from the repository's side, or post the commit object, then ask again.";
    SrcLevelTooLow "SRC_LEVEL_TOO_LOW" "The source level is below source.minLevel.",
        "Raise the controls of the repository so that its collector may speak for a higher level.";
    SrcPropertyMissing "SRC_PROPERTY_MISSING" "No trusted source summary gives the commit a property of source.properties.",
        "Turn the control on for the ref, then build a commit that was made after it.";
    SrcUnreviewed "SRC_UNREVIEWED" "Too few people reviewed the change.",
        "Have the change approved before it is merged.";
    SrcReviewStale "SRC_REVIEW_STALE" "The review was of another revision.",
        "Have the final revision approved.";
    SrcSelfApproved "SRC_SELF_APPROVED" "The change is approved only by whoever merged it.",
        "Have someone else approve the change.";
    SrcUnsignedCommit "SRC_UNSIGNED_COMMIT" "The commit is not signed.",
        "Sign commits with a registered key.";
    SrcSignerNotTrusted "SRC_SIGNER_NOT_TRUSTED" "Evidence about the commit is not by a trusted signer.",
        "Add the signer to trust.sources or source.signatures.commit.keys, or sign with a trusted key.";
    SrcNotReachable "SRC_NOT_REACHABLE" "The commit is not known to be in the history of a ref of source.reachableFrom.",
        "Merge the commit, and let the repository's side attest the ref; commits in between must be posted as objects.";
    SrcContinuityGap "SRC_CONTINUITY_GAP" "No trusted source provenance says that the control was on without a gap since then.",
        "Turn the control on and keep it on, then build a commit made after it; or ask for a later moment.";
    SrcTagUnsigned "SRC_TAG_UNSIGNED" "The tag that was built is not known to be signed.",
        "Sign the tag and post the tag object.";
    SrcTagMoved "SRC_TAG_MOVED" "The tag that was built pointed to another commit before.",
        "Find out who moved the tag; release under a new one.";
    SrcSha1Only "SRC_SHA1_ONLY" "The commit is known by its SHA-1 only.",
        "Move the repository to SHA-256, or allow SHA-1 in source.sha1.";
    SrcSubmoduleUntrusted "SRC_SUBMODULE_UNTRUSTED" "A git submodule of the source is of a repository that inputs does not allow, or has no chain that holds.",
        "Take the submodule from an allowed repository, or add its repository to inputs.";
    VsaMissing "VSA_MISSING" "No trusted verification summary is about the image in this repository.",
        "Post the verifier's summary, or list its verifier in trust.verifiers, then ask again.";
    VsaFailed "VSA_FAILED" "A trusted verification summary says that the verification failed.",
        "Read the summary's policy, mend what it found, and have it verified again.";
    VsaSignerVerifierPair "VSA_SIGNER_VERIFIER_PAIR" "The signer of a verification summary may not speak for its verifier.",
        "Let the verifier sign with its own key or identity, or correct the verifierId of the trust rule.";
    VsaSelfIssued "VSA_SELF_ISSUED" "The verification summary is this service's own verdict, which proves nothing to itself.",
        "Let the evidence itself or another verifier's summary speak for the image.";
    VsaResourceMismatch "VSA_RESOURCE_MISMATCH" "The verification summary is about another repository.",
        "Have the image verified for the repository that it is deployed from.";
    VsaPolicyNotAllowed "VSA_POLICY_NOT_ALLOWED" "The verification summary was made by a policy that trust.verifiers does not list.",
        "Have the image verified by a listed policy, or list the policy's digest or URI.";
    VsaLevelTooLow "VSA_LEVEL_TOO_LOW" "The verification summary gives too low a level, none, or several of one track.",
        "Raise the level of the build or source that was verified, and have it verified again.";
    VsaStale "VSA_STALE" "The verification summary is older than maxAge.",
        "Have the image verified again.";
    VsaDepth "VSA_DEPTH" "A verification summary would stand in further from the question than summary.depth.",
        "Raise summary.depth, or give the input a chain of its own.";
    DepBaseUnknown "DEP_BASE_UNKNOWN" "Nothing is known about an input that must have a chain of its own.",
        "Post the evidence of the input, then ask again.";
    DepBaseNotAllowed "DEP_BASE_NOT_ALLOWED" "An input is not on the list of allowed ones.",
        "Build from an allowed input, or add it to inputs.";
    DepBaseUntrusted "DEP_BASE_UNTRUSTED" "The chain of an input is broken.",
        "Mend the chain of the input; its own reasons are listed too.";
    DepUndeclaredBase "DEP_UNDECLARED_BASE" "The image starts from a base that its provenance does not name.",
        "Build with complete provenance; treat an unexpected base as an incident.";
    DepBaseStale "DEP_BASE_STALE" "The newest trusted build of an input is older than inputs.maxAge, or none is known.",
        "Build the input again and build from that; post its provenance if none is known.";
    DepUnpinned "DEP_UNPINNED" "An input is not pinned by digest.",
        "Pin the input by digest.";
    DepCycle "DEP_CYCLE" "The input's chain leads back to the artifact; a cycle proves nothing.",
        "Build the input from something that does not depend on this artifact.";
    DepLevelTooLow "DEP_LEVEL_TOO_LOW" "The chain of an input holds, at a lower level than inputs.levels asks for.",
        "Build the input on a builder of a higher level, or ask for less.";
    DepDepth "DEP_DEPTH" "The chain of inputs is longer than inputs.depth.",
        "Raise inputs.depth, or tolerate the role at this depth.";
    RegNotObserved "REG_NOT_OBSERVED" "The registry has not reported the artifact.",
        "Push the image, or enable the registry's notifications, then ask again.";
    RegWrongRepository "REG_WRONG_REPOSITORY" "The artifact is known in other repositories only.",
        "Promote the image to the repository through the pipeline.";
    RegPusherNotTrusted "REG_PUSHER_NOT_TRUSTED" "Registry statements exist, but no trust.registries rule counts their signers.",
        "Let the trusted collector observe the registry, or add its key to trust.registries.";
    RegTagMoved "REG_TAG_MOVED" "The tag pointed to another image before it was moved to this one.",
        "Find out who moved the tag; release under a new one.";
    RegDeleted "REG_DELETED" "The image was deleted from the repository after it was last pushed there.",
        "Find out why it was deleted; push it again if it is to run.";
    RegPromotionGap "REG_PROMOTION_GAP" "A hop of the promotion path is missing.",
        "Promote the image along registry.path, hop by hop.";
    PrpMissing "PRP_MISSING" "No statement that the policy requires is about the artifact.",
        "Make the statement in CI, sign it, and post it, then ask again.";
    PrpSbomMissing "PRP_SBOM_MISSING" "There is no SBOM of the artifact.",
        "Make an SBOM of the image in CI, sign it, and post it, then ask again.";
    PrpApprovalMissing "PRP_APPROVAL_MISSING" "Fewer distinct signers stand behind the artifact than require.atLeast asks for.",
        "Have another of the required signers sign the statement.";
    PrpSignerNotTrusted "PRP_SIGNER_NOT_TRUSTED" "The required statement exists, but not by a signer whom the policy trusts for it.",
        "Sign the statement with the key or identity that the rule names, or correct require.signer.";
    PrpFailed "PRP_FAILED" "The newest result of a trusted signer is not one that the policy accepts.",
        "Mend what failed, run it again, and post the new result.";
    PrpStale "PRP_STALE" "The required statement is older than require.maxAge.",
        "Run the scan or test again and post the new result.";
    PrpVulnThreshold "PRP_VULN_THRESHOLD" "The scan has more findings than require.vulnerabilities.max allows.",
        "Update the packages, or state in VEX, with a justification, why a finding does not touch the image.";
    PrpVexAffected "PRP_VEX_AFFECTED" "A trusted VEX statement says that a vulnerability affects the image.",
        "Update what is affected; when it is mended, state `fixed` in a newer VEX document.";
    LayMissing "LAY_MISSING" "The in-toto layout that the policy names is not known.",
        "Post the signed layout, then ask again.";
    LaySignerNotTrusted "LAY_SIGNER_NOT_TRUSTED" "The layout is not signed by a signer that the policy trusts for it.",
        "Have the layout signed by its owner, or correct layouts.signer.";
    LayExpired "LAY_EXPIRED" "The layout is past its expiry.",
        "Have its owner sign a layout with a later expiry, and name its digest in the policy.";
    LayStepMissing "LAY_STEP_MISSING" "No link of a step leads to the image.",
        "Record the step with in-toto and post its link, then ask again.";
    LayFunctionary "LAY_FUNCTIONARY" "A step was done by nobody whom the layout lets do it.",
        "Have a functionary of the step do it; treat a link by somebody else as an incident.";
    LayFunctionaryUnknown "LAY_FUNCTIONARY_UNKNOWN" "A step may be done by somebody whom Catenary cannot know again, and nobody else did it.",
        "Name keys in the step's pubkeys: PEM keys, or OpenPGP keys with the time of their creation.";
    LayThreshold "LAY_THRESHOLD" "Fewer functionaries agree on a step than the layout wants.",
        "Have more functionaries do the step, with the same result.";
    LayRule "LAY_RULE" "An artifact rule of the layout does not hold.",
        "Find out where the artifact comes from; do the steps again from clean inputs.";
    LayOtherProduct "LAY_OTHER_PRODUCT" "The last step of the layout gave out something else.",
        "Record the image's digest as a product of the last step.";
    TimBuildBeforeSource "TIM_BUILD_BEFORE_SOURCE" "The build started before its commit was on the ref.",
        "Build after the ref was updated; check the clocks of builder and forge.";
    TimArtifactBeforeBuild "TIM_ARTIFACT_BEFORE_BUILD" "The image's bytes were here before any build of it started.",
        "Check the builder's clock; if another build made the same bytes before, post its provenance.";
    TimPushBeforeBuild "TIM_PUSH_BEFORE_BUILD" "The artifact was pushed before its build started.",
        "Check the clocks of registry and builder; treat a real difference as an incident.";
    TimFuture "TIM_FUTURE" "A claimed time is later than when the claim was received.",
        "Check the builder's clock.";
    TimUnordered "TIM_UNORDERED" "The order of two events cannot be told.",
        "Let the builder report startedOn, and keep clocks in step.";
    TimTooOld "TIM_TOO_OLD" "The newest build is older than time.maxArtifactAge.",
        "Build the artifact again.";
    SysLimitExceeded "SYS_LIMIT_EXCEEDED" "The chain is larger than the evaluator's limits.",
        "Make the chain of inputs smaller, or ask about a smaller part of it.";
    SysIntegrityViolation "SYS_INTEGRITY_VIOLATION" "Stored evidence no longer matches its hash and was not counted.",
        "Run `catenary log verify`, restore the evidence, and treat it as an incident.";
}

impl Code {
    /// The stage that the code belongs to by its prefix.
    pub fn stage(self) -> &'static str {
        match self.as_str().split('_').next().unwrap_or_default() {
            "POL" | "EXC" => "policy",
            "ART" => "artifact",
            "BLD" | "ATT" => "build",
            "SRC" => "source",
            "VSA" => "summary",
            "DEP" => "input",
            "REG" => "registry",
            "PRP" => "property",
            "LAY" => "layout",
            "TIM" => "time",
            _ => "system",
        }
    }

    /// Whether waiting may help.
    pub fn retryable(self) -> bool {
        use Code::*;
        matches!(
            self,
            ArtUnknown
                | ArtManifestMissing
                | SrcCommitUnknown
                | SrcNotReachable
                | SrcTagUnsigned
                | BldRunUnknown
                | DepBaseUnknown
                | RegNotObserved
                | VsaMissing
                | PrpMissing
                | PrpSbomMissing
                | PrpApprovalMissing
                | LayMissing
                | LayStepMissing
                | AttTrustrootStale
                | SysLimitExceeded
        )
    }

    /// Whether an error of this code makes the outcome INDETERMINATE instead of FAILED.
    ///
    /// Damaged evidence does not: it counts as absent, so that damaging a row never turns FAILED into
    /// something that `onIndeterminate: allow` lets through.
    pub fn is_indeterminate(self) -> bool {
        matches!(
            self,
            Self::SysLimitExceeded | Self::PolInvalid | Self::PolEvalError | Self::AttTrustrootStale
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `api/reasons.json`, as it must be.
    fn document() -> String {
        let codes: Vec<_> = Code::all()
            .iter()
            .map(|code| {
                format!(
                    "  {{\n    \"code\": {:?},\n    \"stage\": {:?},\n    \"meaning\": {},\n    \"hint\": {},\n    \"retryable\": {},\n    \"indeterminate\": {}\n  }}",
                    code.as_str(),
                    code.stage(),
                    Value::from(code.meaning()),
                    Value::from(code.hint()),
                    code.retryable(),
                    code.is_indeterminate()
                )
            })
            .collect();
        format!("[\n{}\n]\n", codes.join(",\n"))
    }

    #[test]
    fn the_committed_list_of_reasons_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/reasons.json");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), document(), "run once with UPDATE_EXPECT=1");
    }

    #[test]
    fn the_schema_of_verdicts_knows_every_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/verdict.schema.json");
        let schema = std::fs::read_to_string(path).unwrap();
        let names: Vec<String> = Code::all().iter().map(|code| format!("        \"{code}\"")).collect();
        let written = format!("\"code\": {{\n      \"enum\": [\n{}\n      ]", names.join(",\n"));
        let from = schema.find("\"code\": {\n      \"enum\": [").unwrap();
        let to = from + schema[from..].find(']').unwrap() + 1;
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, format!("{}{written}{}", &schema[..from], &schema[to..])).unwrap();
        } else {
            assert_eq!(schema[from..to], written, "run once with UPDATE_EXPECT=1");
        }
    }

    #[test]
    fn a_code_is_spelled_the_same_everywhere() {
        for code in Code::all() {
            assert_eq!(serde_json::to_value(code).unwrap(), Value::from(code.as_str()));
            assert_eq!(code.as_str().replace('_', "").to_lowercase(), format!("{code:?}").to_lowercase());
        }
    }
}
