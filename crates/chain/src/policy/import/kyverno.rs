//! `verifyImages` rules of Kyverno's `ClusterPolicy` and `Policy`.
//!
//! There, every set of attestors must hold, and of a set `count` entries, all when it is left out. Of a text of several keys each is
//! an entry. Images that no rule matches are not verified at all.

use jiff::Timestamp;

use super::{
    super::{Matcher, Mode, PolicyError},
    Imported, NOWHERE,
    cip::any_of,
    draft::{Draft, SIGNATURE},
    node::At,
    pattern::{self, Images},
    signers,
    want::{By, Want},
};

/// How deep sets of attestors lie in each other.
const MAX_NESTED: usize = 8;

/// Reads one: a policy for each entry of `verifyImages`.
pub fn import(out: &mut Imported, at: &At<'_>, name: &str, now: Timestamp) -> Result<(), PolicyError> {
    let Some(spec) = at.get("spec")? else { return Err(at.wrong("the member `spec` is missing")) };
    let mut found = false;
    for rule in spec.list("rules")? {
        let entries = rule.list("verifyImages")?;
        if entries.is_empty() {
            out.say(&rule, "the rule verifies no image", "leave it to Kyverno");
        }
        for entry in entries {
            found = true;
            let mut draft = Draft::new(out, name, format!("Kyverno policy {name}"));
            draft
                .remarks
                .push("Kyverno asks all rules that match an image; Catenary lets one policy decide.".into());
            draft.others(at, &["apiVersion", "kind", "metadata", "spec", "status"])?;
            if at.text_of("kind")? == Some("Policy") {
                let what = "the policy is for one namespace: it is asked of all of them";
                draft.out.say(at, what, "say for which environments or contexts the policy is (`match`)");
            }
            whole(&mut draft, &spec, &entry)?;
            scope(&mut draft, &rule)?;
            verify(&mut draft, &entry)?;
            draft.finish(now)?;
        }
    }
    if found { Ok(()) } else { Err(spec.wrong("no rule has `verifyImages`")) }
}

/// What the policy says of all its rules.
fn whole(draft: &mut Draft<'_>, spec: &At<'_>, entry: &At<'_>) -> Result<(), PolicyError> {
    const KNOWN: [&str; 12] = [
        "rules",
        "validationFailureAction",
        "validationFailureActionOverrides",
        "background",
        "admission",
        "webhookTimeoutSeconds",
        "webhookConfiguration",
        "schemaValidation",
        "failurePolicy",
        "applyRules",
        "emitWarning",
        "generateExisting",
    ];
    draft.others(spec, &KNOWN)?;
    let action = match entry.text_of("failureAction")? {
        Some(action) => Some(action),
        None => spec.text_of("validationFailureAction")?,
    };
    draft.mode = mode(spec, action)?;
    for entry in spec.list("validationFailureActionOverrides")? {
        draft.out.say(
            &entry,
            "another action for some namespaces: the stricter is taken",
            "write a policy for each environment",
        );
        draft.mode = draft.mode.min(mode(&entry, entry.text_of("action")?)?);
    }
    for (member, usual) in [("failurePolicy", "Fail"), ("applyRules", "All")] {
        if let Some(value) = spec.text_of(member)?.filter(|value| *value != usual) {
            let what = format!("`{value}` is laxer than what is written here");
            let at = spec.get(member)?.unwrap_or_else(|| spec.clone());
            draft.out.say(&at, what, "see `onIndeterminate`, and the webhook that asks Catenary");
        }
    }
    Ok(())
}

/// Kyverno's default is to let images run and to report.
fn mode(at: &At<'_>, action: Option<&str>) -> Result<Mode, PolicyError> {
    match action.map(str::to_ascii_lowercase).as_deref() {
        None | Some("audit") => Ok(Mode::Warn),
        Some("enforce") => Ok(Mode::Enforce),
        Some(_) => Err(at.wrong("the action is `Enforce` or `Audit`")),
    }
}

/// For which objects the rule is. What it does not match would run unverified: to ask it of every image asks for more.
fn scope(draft: &mut Draft<'_>, rule: &At<'_>) -> Result<(), PolicyError> {
    draft.others(
        rule,
        &[
            "name",
            "match",
            "exclude",
            "context",
            "preconditions",
            "celPreconditions",
            "verifyImages",
            "skipBackgroundRequests",
        ],
    )?;
    for member in ["match", "exclude", "preconditions", "celPreconditions", "context"] {
        let Some(at) = rule.get(member)? else { continue };
        if member == "match" && every_pod(&at)? {
            continue;
        }
        let what = "the rule is for some objects only: it is asked of all of them";
        draft.out.say(&at, what, "say for which environments or contexts the policy is (`match`)");
    }
    Ok(())
}

/// Whether a `match` names kinds only.
fn every_pod(at: &At<'_>) -> Result<bool, PolicyError> {
    let mut resources: Vec<At<'_>> = at.get("resources")?.into_iter().collect();
    for list in ["any", "all"] {
        for filter in at.list(list)? {
            if filter.members()?.iter().any(|(name, _)| *name != "resources") {
                return Ok(false);
            }
            resources.extend(filter.get("resources")?);
        }
    }
    let known = at.members()?.iter().all(|(name, _)| ["resources", "any", "all"].contains(name));
    let mut kinds_only = true;
    for resource in &resources {
        kinds_only &= resource.members()?.iter().all(|(name, _)| *name == "kinds");
    }
    Ok(known && kinds_only)
}

fn verify(draft: &mut Draft<'_>, at: &At<'_>) -> Result<(), PolicyError> {
    const KNOWN: [&str; 14] = [
        "type",
        "imageReferences",
        "skipImageReferences",
        "failureAction",
        "attestors",
        "attestations",
        "repository",
        "mutateDigest",
        "verifyDigest",
        "required",
        "useCache",
        "cosignOCI11",
        "imageRegistryCredentials",
        "name",
    ];
    draft.others(at, &KNOWN)?;
    images(draft, at)?;
    digests(draft, at)?;
    let (sets, attestations) = (at.list("attestors")?, at.list("attestations")?);
    let notary = at.text_of("type")? == Some("Notary");
    if notary {
        draft.out.say(at, "signatures of Notary are not verified here", "sign with cosign too");
    }
    if notary || sets.is_empty() && attestations.is_empty() {
        draft.ask(at, Want::Never);
        return Ok(());
    }
    for set in &sets {
        let want = attestors(draft, set, "signature", &SIGNATURE, 0)?;
        draft.ask(set, want);
    }
    for attestation in &attestations {
        self::attestation(draft, attestation)?;
    }
    Ok(())
}

fn images(draft: &mut Draft<'_>, at: &At<'_>) -> Result<(), PolicyError> {
    for image in at.list("imageReferences")? {
        match pattern::kyverno_images(image.text()?) {
            Ok(Images { globs, tag }) => {
                let new: Vec<String> =
                    globs.into_iter().filter(|glob| !draft.resources.contains(glob)).collect();
                draft.resources.extend(new);
                if tag.is_some() {
                    let what =
                        "the rule is for some tags or digests: it is asked of every image of the repository";
                    draft.out.say(&image, what, "give other images a repository of their own");
                }
            }
            Err(why) => {
                let what = format!("this pattern is not carried over: {why}");
                draft.out.say(
                    &image,
                    what,
                    "add the repositories to `match.resources`: no policy is for them now",
                );
            }
        }
    }
    for image in at.list("skipImageReferences")? {
        let what = "images that need no verification: they do here";
        draft.out.say(&image, what, "write a policy for them with a higher `match.priority`");
    }
    if draft.resources.is_empty() {
        match at.list("imageReferences")?.is_empty() {
            true => return Err(at.wrong("`imageReferences` names no image")),
            false => draft.resources.push(NOWHERE.to_owned()),
        }
    }
    Ok(())
}

/// A verdict is about a digest, always, and an image without evidence is never allowed.
fn digests(draft: &mut Draft<'_>, at: &At<'_>) -> Result<(), PolicyError> {
    if at.bool_of("required")? == Some(false) {
        draft.out.say(
            at,
            "`required: false`: here every image must be verified",
            "set `mode: warn` until all are signed",
        );
    }
    if at.bool_of("mutateDigest")? == Some(true) {
        draft.out.say(
            at,
            "`mutateDigest`: no policy here puts digests in the place of tags",
            "keep it in Kyverno, or deploy by digest",
        );
    }
    for member in ["repository", "imageRegistryCredentials"] {
        if let Some(at) = at.get(member)? {
            let mend = "send them to the service, for example by `catenary import oci`";
            draft.out.say(&at, "where signatures lie is no matter of a policy", mend);
        }
    }
    Ok(())
}

fn attestation(draft: &mut Draft<'_>, at: &At<'_>) -> Result<(), PolicyError> {
    draft.others(at, &["name", "type", "predicateType", "attestors", "conditions"])?;
    if let Some(conditions) = at.get("conditions")? {
        let what = "conditions over the predicate are not carried over";
        draft.refuse(&conditions, what, "say them by `assert` in the rule of `require`");
    }
    let kind = match at.text_of("type")? {
        Some(kind) => Some(kind),
        None => at.text_of("predicateType")?,
    };
    let Some(kind) = kind.filter(|kind| kind.contains(':')) else {
        return Err(at.wrong("`type` is not a predicate type (a URI)"));
    };
    let sets = at.list("attestors")?;
    if sets.is_empty() {
        draft.out.say(at, "anybody may make this attestation", "say who, in a rule of `require`");
        draft.ask(at, Want::Never);
    }
    let label = at.text_of("name")?.unwrap_or("attestation").to_owned();
    for set in &sets {
        let want = attestors(draft, set, &label, &[kind], 0)?;
        draft.ask(set, want);
    }
    Ok(())
}

/// A set of attestors.
fn attestors(
    draft: &mut Draft<'_>,
    at: &At<'_>,
    label: &str,
    kinds: &[&str],
    depth: usize,
) -> Result<Want, PolicyError> {
    draft.others(at, &["count", "entries"])?;
    if depth > MAX_NESTED {
        return Err(at.wrong("sets of attestors lie too deep in each other"));
    }
    let mut of = Vec::new();
    for entry in at.list("entries")? {
        of.extend(self::entry(draft, &entry, label, kinds, depth)?);
    }
    let count = at.count_of("count")?.filter(|count| *count > 0).unwrap_or(of.len().max(1));
    if count > of.len() {
        let what = format!("{count} attestors are asked for, of {}", of.len());
        draft.out.say(at, what, "lower the count, or name more");
    }
    Ok(Want::Of(count, of))
}

/// One entry: as many wants as it has keys.
fn entry(
    draft: &mut Draft<'_>,
    at: &At<'_>,
    label: &str,
    kinds: &[&str],
    depth: usize,
) -> Result<Vec<Want>, PolicyError> {
    draft.others(at, &["keys", "keyless", "certificates", "attestor", "annotations", "repository"])?;
    signers::annotations(draft, at)?;
    if let Some(at) = at.get("repository")? {
        let mend = "send them to the service, for example by `catenary import oci`";
        draft.out.say(&at, "where signatures lie is no matter of a policy", mend);
    }
    if let Some(nested) = at.get("attestor")? {
        return Ok(vec![attestors(draft, &nested, label, kinds, depth + 1)?]);
    }
    let by = match (at.get("keys")?, at.get("keyless")?, at.get("certificates")?) {
        (Some(keys), None, None) => self::keys(draft, &keys)?,
        (None, Some(keyless), None) => vec![self::keyless(draft, &keyless)?],
        (None, None, Some(certificates)) => {
            let what = "a certificate by itself is no signer here";
            draft.out.say(
                &certificates,
                what,
                "add its authority by `catenary trust add --ca`, and name the identity",
            );
            vec![None]
        }
        _ => return Err(at.wrong("an entry has one of `keys`, `keyless`, `certificates`, `attestor`")),
    };
    Ok(by.into_iter().map(|by| any_of(label, kinds, &[by])).collect())
}

fn keys(draft: &mut Draft<'_>, at: &At<'_>) -> Result<Vec<Option<By>>, PolicyError> {
    draft.others(at, &["publicKeys", "signatureAlgorithm", "kms", "secret", "rekor", "ctlog"])?;
    rekor(draft, at, None)?;
    if let Some(text) = at.get("publicKeys")? {
        let name = format!("{}-key", draft.name);
        return Ok(signers::keys(draft, &text, text.text()?, at.text_of("signatureAlgorithm")?, &name));
    }
    signers::elsewhere(draft, at, [("secret", "a Kubernetes secret"), ("kms", "a key service")])?;
    Ok(vec![None])
}

fn keyless(draft: &mut Draft<'_>, at: &At<'_>) -> Result<Option<By>, PolicyError> {
    const KNOWN: [&str; 8] = [
        "issuer",
        "issuerRegExp",
        "subject",
        "subjectRegExp",
        "rekor",
        "ctlog",
        "roots",
        "additionalExtensions",
    ];
    draft.others(at, &KNOWN)?;
    let root = signers::roots(draft, at)?;
    rekor(draft, at, Some(&root))?;
    let mut by = signers::wild_identity(draft, at, &root)?;
    if let (Some(By::Name(name)), Some(extensions)) = (&mut by, at.get("additionalExtensions")?) {
        for (extension, value) in extensions.members()? {
            match self::extension(extension, value.text()?) {
                Some(found) => name.ext.push(found),
                None => {
                    draft.refuse(&value, "this extension is not asked for here", "see `ext` of an identity")
                }
            }
        }
    }
    Ok(by)
}

/// Cosign's names of what GitHub's certificates say, as those of the extensions that took their place.
fn extension(name: &str, value: &str) -> Option<(String, Matcher)> {
    let (name, value) = match name {
        "githubWorkflowTrigger" => ("buildTrigger", value.to_owned()),
        "githubWorkflowRef" => ("sourceRepositoryRef", value.to_owned()),
        "githubWorkflowRepository" => ("sourceRepositoryUri", format!("https://github.com/{value}")),
        _ => return None,
    };
    pattern::wildcard(&value).ok().map(|matcher| (name.to_owned(), matcher))
}

/// `rekor`: Kyverno asks the public log, unless it is told not to.
fn rekor(draft: &mut Draft<'_>, at: &At<'_>, root: Option<&str>) -> Result<(), PolicyError> {
    if let Some(ctlog) = at.get("ctlog")? {
        draft.others(&ctlog, &["ignoreSCT", "pubkey", "tsaCertChain"])?;
        for member in ["pubkey", "tsaCertChain"] {
            if let Some(at) = ctlog.get(member)? {
                let what = "keys of logs and timestamp authorities are part of a trust domain";
                draft.refuse(&at, what, "add a domain with them by `catenary trust add`");
            }
        }
    }
    let Some(rekor) = at.get("rekor")? else {
        signers::log(draft, at, signers::REKOR, root);
        return Ok(());
    };
    draft.others(&rekor, &["url", "ignoreTlog", "pubkey"])?;
    if rekor.bool_of("ignoreTlog")? == Some(true) {
        return Ok(());
    }
    let url = match rekor.get("pubkey")? {
        // A key of its own is a log of its own, wherever it lies.
        Some(_) => "",
        None => rekor.text_of("url")?.unwrap_or(signers::REKOR),
    };
    signers::log(draft, &rekor, url, root);
    Ok(())
}
