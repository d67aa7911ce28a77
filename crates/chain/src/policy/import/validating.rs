//! Kyverno's `ImageValidatingPolicy` (policies.kyverno.io): its attestors and attestations.
//!
//! What must hold of them is said by expressions, which are not carried over: every attestor is asked for, and nothing is allowed
//! until somebody has read the expressions.

use jiff::Timestamp;

use super::{
    super::{Mode, PolicyError},
    Imported,
    cip::{any_of, key},
    draft::{Draft, SIGNATURE},
    node::At,
    pattern, signers,
    want::{By, Want},
};

/// Reads one.
pub fn import(out: &mut Imported, at: &At<'_>, name: &str, now: Timestamp) -> Result<(), PolicyError> {
    let mut draft = Draft::new(out, name, format!("ImageValidatingPolicy {name}"));
    draft.others(at, &["apiVersion", "kind", "metadata", "spec", "status"])?;
    let Some(spec) = at.get("spec")? else { return Err(at.wrong("the member `spec` is missing")) };
    const KNOWN: [&str; 16] = [
        "matchConstraints",
        "failurePolicy",
        "auditAnnotations",
        "validationActions",
        "matchConditions",
        "variables",
        "validationConfigurations",
        "matchImageReferences",
        "credentials",
        "images",
        "attestors",
        "attestations",
        "validations",
        "webhookConfiguration",
        "evaluation",
        "autogen",
    ];
    draft.others(&spec, &KNOWN)?;
    draft.mode = mode(&spec)?;
    images(&mut draft, &spec)?;
    for expression in spec.list("validations")? {
        let what = "an expression says what must hold, and is not carried over";
        draft.refuse(&expression, what, "compare it with the rules of `require`, which ask every attestor");
    }
    for member in ["matchConditions", "matchConstraints"] {
        if let Some(at) = spec.get(member)? {
            let what = "the policy is for some objects only: it is asked of all of them";
            draft.out.say(&at, what, "say for which environments or contexts the policy is (`match`)");
        }
    }
    let mut all = Vec::new();
    for attestor in spec.list("attestors")? {
        all.push(self::attestor(&mut draft, &attestor)?);
    }
    rules(&mut draft, &spec, &all)?;
    draft.finish(now)
}

/// Denying is the default; what only audits or warns lets images run.
fn mode(spec: &At<'_>) -> Result<Mode, PolicyError> {
    let mut mode = None;
    for action in spec.list("validationActions")? {
        let found = match action.text()? {
            "Deny" => Mode::Enforce,
            "Audit" | "Warn" => Mode::Warn,
            _ => return Err(action.wrong("the action is `Deny`, `Audit` or `Warn`")),
        };
        mode = Some(mode.map_or(found, |known: Mode| known.min(found)));
    }
    Ok(mode.unwrap_or(Mode::Enforce))
}

fn images(draft: &mut Draft<'_>, spec: &At<'_>) -> Result<(), PolicyError> {
    for image in spec.list("matchImageReferences")? {
        draft.others(&image, &["glob", "expression"])?;
        let globs = match image.text_of("glob")? {
            Some(glob) => pattern::kyverno_images(glob).map(|images| images.globs),
            None => Err("it is an expression".to_owned()),
        };
        match globs {
            Ok(globs) => draft.resources.extend(globs),
            Err(why) => {
                let what = format!("these images are not carried over: {why}");
                draft.out.say(
                    &image,
                    what,
                    "add the repositories to `match.resources`: no policy is for them now",
                );
            }
        }
    }
    if draft.resources.is_empty() {
        draft.out.say(spec, "no image is named that a policy could be for", "replace `match.resources`");
        draft.resources.push(super::NOWHERE.to_owned());
    }
    Ok(())
}

/// Each attestor signs the image, and one of them each attestation.
fn rules(draft: &mut Draft<'_>, spec: &At<'_>, all: &[(String, Vec<Option<By>>)]) -> Result<(), PolicyError> {
    let each = all.iter().map(|(name, by)| any_of(name, &SIGNATURE, by)).collect();
    let at = spec.get("attestors")?.unwrap_or_else(|| spec.clone());
    draft.ask(&at, Want::Of(all.len().max(1), each));
    for attestation in spec.list("attestations")? {
        draft.others(&attestation, &["name", "intoto", "referrer"])?;
        let kind = attestation.get("intoto")?;
        let kind = kind.as_ref().map(|intoto| intoto.text_of("type")).transpose()?.flatten();
        let Some(kind) = kind.filter(|kind| kind.contains(':')) else {
            let what = "this attestation is not an in-toto statement of a type that is a URI";
            draft.refuse(&attestation, what, "ask for a statement in its place, by a rule of `require`");
            continue;
        };
        let label = attestation.text_of("name")?.unwrap_or("attestation");
        let anybody: Vec<Option<By>> = all.iter().flat_map(|(_, by)| by.clone()).collect();
        draft.ask(&attestation, any_of(label, &[kind], &anybody));
    }
    Ok(())
}

fn attestor(draft: &mut Draft<'_>, at: &At<'_>) -> Result<(String, Vec<Option<By>>), PolicyError> {
    draft.others(at, &["name", "cosign", "notary"])?;
    let name = at.text_of("name")?.unwrap_or("attestor").to_owned();
    let Some(cosign) = at.get("cosign")? else {
        draft.out.say(at, "signatures of Notary are not verified here", "sign with cosign too");
        return Ok((name, Vec::new()));
    };
    draft.others(&cosign, &["key", "keyless", "certificate", "source", "ctlog", "tuf", "annotations"])?;
    signers::annotations(draft, &cosign)?;
    for member in ["certificate", "source", "tuf"] {
        if let Some(at) = cosign.get(member)? {
            let mend = "see `catenary trust add` for authorities, `catenary import oci` for signatures";
            draft.out.say(&at, format!("`{member}` is no matter of a policy"), mend);
        }
    }
    let (by, root) = match (cosign.get("key")?, cosign.get("keyless")?) {
        (Some(at), _) => (key(draft, &at, &name)?, None),
        (None, Some(at)) => {
            let (by, root) = keyless(draft, &at)?;
            (by, Some(root))
        }
        (None, None) => (Vec::new(), None),
    };
    log(draft, &cosign, root.as_deref())?;
    Ok((name, by))
}

fn keyless(draft: &mut Draft<'_>, at: &At<'_>) -> Result<(Vec<Option<By>>, String), PolicyError> {
    draft.others(at, &["identities", "roots"])?;
    let root = signers::roots(draft, at)?;
    let mut by = Vec::new();
    for identity in at.list("identities")? {
        by.push(signers::identity(draft, &identity, &root)?);
    }
    Ok((by, root))
}

/// `ctlog`: the public log, unless it is told otherwise.
fn log(draft: &mut Draft<'_>, cosign: &At<'_>, root: Option<&str>) -> Result<(), PolicyError> {
    let Some(ctlog) = cosign.get("ctlog")? else {
        signers::log(draft, cosign, signers::REKOR, root);
        return Ok(());
    };
    draft.others(&ctlog, &["url", "insecureIgnoreTlog", "insecureIgnoreSCT"])?;
    if ctlog.bool_of("insecureIgnoreTlog")? != Some(true) {
        signers::log(draft, &ctlog, ctlog.text_of("url")?.unwrap_or(signers::REKOR), root);
    }
    Ok(())
}
