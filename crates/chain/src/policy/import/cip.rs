//! `ClusterImagePolicy` of sigstore's policy-controller (policy.sigstore.dev).
//!
//! There, any one of a policy's authorities is enough; of an authority with attestations, each attestation must be there, by every one
//! of its keys.

use catenary_evidence::trust_root::SIGSTORE;
use jiff::Timestamp;

use super::{
    super::{Mode, PolicyError},
    Imported,
    draft::{Draft, SIGNATURE},
    node::At,
    pattern::{self, Images},
    signers,
    want::{By, Want},
};

/// Reads one.
pub fn import(out: &mut Imported, at: &At<'_>, name: &str, now: Timestamp) -> Result<(), PolicyError> {
    let mut draft = Draft::new(out, name, format!("ClusterImagePolicy {name}"));
    draft
        .remarks
        .push("policy-controller asks all policies that match an image; Catenary lets one decide.".into());
    draft.others(at, &["apiVersion", "kind", "metadata", "spec", "status"])?;
    let Some(spec) = at.get("spec")? else { return Err(at.wrong("the member `spec` is missing")) };
    draft.others(&spec, &["images", "authorities", "policy", "mode", "match"])?;
    draft.mode = match spec.text_of("mode")? {
        None | Some("enforce") => Mode::Enforce,
        Some("warn") => Mode::Warn,
        Some(_) => return Err(spec.wrong("`mode` is `enforce` or `warn`")),
    };
    images(&mut draft, &spec)?;
    for resource in spec.list("match")? {
        let what = "the policy is for some Kubernetes objects only";
        draft.refuse(&resource, what, "say for which images, environments or contexts it is (`match`)");
    }
    if let Some(policy) = spec.get("policy")? {
        program(&mut draft, &policy)?;
    }
    authorities(&mut draft, &spec)?;
    draft.finish(now)
}

fn images(draft: &mut Draft<'_>, spec: &At<'_>) -> Result<(), PolicyError> {
    for image in spec.list("images")? {
        draft.others(&image, &["glob"])?;
        let Some(glob) = image.text_of("glob")? else {
            return Err(image.wrong("the member `glob` is missing"));
        };
        let Images { globs, tag } = pattern::cip_images(glob);
        draft
            .resources
            .extend(globs.into_iter().filter(|glob| !draft.resources.contains(glob)).collect::<Vec<_>>());
        if tag.is_some() {
            let what = "the policy is for some tags or digests; a policy here is for a repository";
            draft.refuse(
                &image,
                what,
                "let tags be checked where they are given, or list digests by a rule of `deny`",
            );
        }
    }
    match draft.resources.is_empty() {
        true => Err(spec.wrong("`images` names no image")),
        false => Ok(()),
    }
}

fn authorities(draft: &mut Draft<'_>, spec: &At<'_>) -> Result<(), PolicyError> {
    let authorities = spec.list("authorities")?;
    let mut messages = Vec::new();
    let mut any = Vec::new();
    for authority in &authorities {
        match fails(authority)? {
            Some(message) => messages.push(message),
            None => any.push(self::authority(draft, authority)?),
        }
    }
    if any.is_empty()
        && let Some(message) = messages.first()
    {
        // Every image is refused, which is what is asked.
        draft.deny(message);
        return Ok(());
    }
    let at = spec.get("authorities")?.unwrap_or_else(|| spec.clone());
    draft.ask(&at, Want::Of(1, any));
    Ok(())
}

/// What a `static` authority says that lets nothing pass.
fn fails(authority: &At<'_>) -> Result<Option<String>, PolicyError> {
    let Some(fixed) = authority.get("static")? else { return Ok(None) };
    match fixed.text_of("action")? {
        Some("fail") => {
            Ok(Some(fixed.text_of("message")?.unwrap_or("refused by a static policy").to_owned()))
        }
        Some("pass") => Ok(None),
        _ => Err(fixed.wrong("`action` is `pass` or `fail`")),
    }
}

fn authority(draft: &mut Draft<'_>, at: &At<'_>) -> Result<Want, PolicyError> {
    const KNOWN: [&str; 9] = [
        "name",
        "key",
        "keyless",
        "static",
        "source",
        "ctlog",
        "attestations",
        "rfc3161timestamp",
        "signatureFormat",
    ];
    draft.others(at, &KNOWN)?;
    if let Some(fixed) = at.get("static")? {
        let what = "this authority lets every image pass, and a policy here asks for something";
        draft.out.say(&fixed, what, "leave these images to a policy of their own, in mode `warn`");
        return Ok(Want::Never);
    }
    for source in at.list("source")? {
        let what = "where signatures lie is no matter of a policy";
        draft.out.say(&source, what, "send them to the service, for example by `catenary import oci`");
    }
    let name = at.text_of("name")?.unwrap_or("authority");
    let (by, root) = speakers(draft, at, name)?;
    transparency(draft, at, root.as_deref())?;
    let attestations = at.list("attestations")?;
    if attestations.is_empty() {
        return Ok(any_of(name, &SIGNATURE, &by));
    }
    // Of several keys any may have signed the image; attestations are wanted of every one.
    let groups: Vec<&[Option<By>]> = match root {
        None => by.chunks(1).collect(),
        Some(_) => vec![&by],
    };
    if groups.len() > 1 {
        let what = "each key must have made one of the attestations: here each of them";
        draft.out.say(at, what, "take the rules out of `require` that are one too many");
    }
    let mut all = Vec::new();
    for attestation in &attestations {
        all.push(self::attestation(draft, attestation, &groups)?);
    }
    Ok(Want::Of(all.len(), all))
}

/// Who may sign, and the trust domain of their certificates.
fn speakers(
    draft: &mut Draft<'_>,
    at: &At<'_>,
    name: &str,
) -> Result<(Vec<Option<By>>, Option<String>), PolicyError> {
    match (at.get("key")?, at.get("keyless")?) {
        (Some(key), None) => Ok((self::key(draft, &key, name)?, None)),
        (None, Some(keyless)) => {
            let (by, root) = self::keyless(draft, &keyless)?;
            Ok((by, Some(root)))
        }
        (Some(_), Some(_)) => Err(at.wrong("an authority has one of `key`, `keyless`, `static`")),
        (None, None) => {
            draft.out.say(at, "the authority names nobody", "say who may sign, in a rule of `require`");
            Ok((Vec::new(), None))
        }
    }
}

/// `key`: alternatives.
pub fn key(draft: &mut Draft<'_>, at: &At<'_>, name: &str) -> Result<Vec<Option<By>>, PolicyError> {
    draft.others(at, &["data", "secretRef", "kms", "hashAlgorithm"])?;
    let hash = at.text_of("hashAlgorithm")?;
    if let Some(data) = at.get("data")? {
        let name = format!("{}-{name}", draft.name);
        return Ok(signers::keys(draft, &data, data.text()?, hash, &name));
    }
    signers::elsewhere(draft, at, [("secretRef", "a Kubernetes secret"), ("kms", "a key service")])?;
    Ok(vec![None])
}

fn keyless(draft: &mut Draft<'_>, at: &At<'_>) -> Result<(Vec<Option<By>>, String), PolicyError> {
    draft.others(at, &["url", "identities", "ca-cert", "trustRootRef", "insecureIgnoreSCT"])?;
    let root = match (at.get("trustRootRef")?, at.get("ca-cert")?, at.get("url")?) {
        (Some(named), _, _) => signers::root(draft, &named, named.text()?),
        (None, Some(ca), _) => {
            let name = format!("{}-ca", draft.name);
            signers::root(draft, &ca, &name)
        }
        (None, None, Some(url)) => signers::root_of_url(draft, &url, url.text()?),
        (None, None, None) => SIGSTORE.to_owned(),
    };
    if at.bool_of("insecureIgnoreSCT")? == Some(true) {
        let what = "whether certificates need an SCT is a rule of their trust domain";
        draft.out.say(at, what, "add a domain of your own with `--no-sct`");
    }
    let mut by = Vec::new();
    for identity in at.list("identities")? {
        by.push(signers::identity(draft, &identity, &root)?);
    }
    if by.is_empty() {
        draft.out.say(at, "the authority takes any identity", "say who may sign, in a rule of `require`");
    }
    Ok((by, root))
}

/// `ctlog` and `rfc3161timestamp`.
fn transparency(draft: &mut Draft<'_>, at: &At<'_>, root: Option<&str>) -> Result<(), PolicyError> {
    if let Some(ctlog) = at.get("ctlog")? {
        draft.others(&ctlog, &["url", "trustRootRef"])?;
        match (ctlog.text_of("trustRootRef")?, ctlog.text_of("url")?) {
            (Some(_), _) if same_root(at, &ctlog)? => {
                signers::log(draft, &ctlog, "", root);
            }
            (None, Some(url)) => signers::log(draft, &ctlog, url, root),
            (None, None) => {}
            (Some(_), _) => {
                let what = "the log is of another trust root than the certificates, which no rule of `require` asks for";
                draft.refuse(&ctlog, what, "decide whether the entry in Catenary's own log is enough");
            }
        }
    }
    if let Some(stamp) = at.get("rfc3161timestamp")? {
        draft.others(&stamp, &["trustRootRef"])?;
        // A certificate's signature needs a time that its own domain vouches for, whatever is asked.
        if root.is_none() || !same_root(at, &stamp)? {
            let what = "no rule of `require` asks for a time by this authority";
            draft.refuse(&stamp, what, "decide whether the time of Catenary's own log is enough");
        }
    }
    Ok(())
}

/// Whether `of` names the trust root that the certificates are of.
fn same_root(authority: &At<'_>, of: &At<'_>) -> Result<bool, PolicyError> {
    let keyless = authority.get("keyless")?;
    let mine = keyless.as_ref().map(|keyless| keyless.text_of("trustRootRef")).transpose()?.flatten();
    Ok(mine.is_some() && mine == of.text_of("trustRootRef")?)
}

/// One attestation, by somebody of each group.
fn attestation(draft: &mut Draft<'_>, at: &At<'_>, groups: &[&[Option<By>]]) -> Result<Want, PolicyError> {
    draft.others(at, &["name", "predicateType", "policy"])?;
    if let Some(policy) = at.get("policy")? {
        program(draft, &policy)?;
    }
    let Some(kind) = at.text_of("predicateType")? else {
        return Err(at.wrong("the member `predicateType` is missing"));
    };
    let Some(kind) = predicate(kind) else {
        draft.out.say(at, "this predicate type is not known here", "write its URI into a rule of `require`");
        return Ok(Want::Never);
    };
    let label = at.text_of("name")?.unwrap_or("attestation");
    let each = groups.iter().map(|by| any_of(label, &[kind], by)).collect();
    Ok(Want::Of(groups.len().max(1), each))
}

/// Any of the signers.
pub fn any_of(label: &str, kinds: &[&str], by: &[Option<By>]) -> Want {
    let kinds: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
    let signed = |by: &Option<By>| match by {
        None => Want::Never,
        Some(by) => Want::Signed { label: label.to_owned(), kinds: kinds.clone(), by: by.clone() },
    };
    Want::Of(1, by.iter().map(signed).collect())
}

/// What cosign's short names stand for.
fn predicate(name: &str) -> Option<&str> {
    Some(match name {
        "custom" => "https://cosign.sigstore.dev/attestation/v1",
        "slsaprovenance" | "slsaprovenance02" => "https://slsa.dev/provenance/v0.2",
        "slsaprovenance1" => "https://slsa.dev/provenance/v1",
        "spdx" | "spdxjson" => "https://spdx.dev/Document",
        "cyclonedx" => "https://cyclonedx.org/bom",
        "link" => "https://in-toto.io/Link/v1",
        "vuln" => "https://cosign.sigstore.dev/attestation/vuln/v1",
        "openvex" => "https://openvex.dev/ns",
        uri if uri.contains(':') => uri,
        _ => return None,
    })
}

/// A program over evidence.
fn program(draft: &mut Draft<'_>, at: &At<'_>) -> Result<(), PolicyError> {
    let language = at.text_of("type")?.unwrap_or("unknown");
    let what = format!("a program ({language}) is asked, which is not run here");
    draft.refuse(at, what, "say what it asks by `assert` in the rule of `require`");
    Ok(())
}
