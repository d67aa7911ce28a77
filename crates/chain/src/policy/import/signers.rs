//! Keys and certificate identities, as policy-controller and Kyverno write them.

use catenary_evidence::{
    key::{PublicKey, Scheme},
    trust_root::SIGSTORE,
};

use super::{
    super::{Matcher, PolicyError, anchor::unanchored},
    draft::{Draft, spelled},
    node::At,
    pattern,
    want::{By, Name},
};

/// The public instances, for which the trust domain that is built in stands.
const PUBLIC_CA: &str = "fulcio.sigstore.dev";
const PUBLIC_LOG: &str = "rekor.sigstore.dev";

/// The log that is asked when a policy names none.
pub const REKOR: &str = "https://rekor.sigstore.dev";

/// Keys that lie elsewhere: nobody here can tell who they are.
pub fn elsewhere(draft: &mut Draft<'_>, at: &At<'_>, members: [(&str, &str); 2]) -> Result<(), PolicyError> {
    for (member, what) in members {
        if let Some(at) = at.get(member)? {
            draft.out.say(&at, format!("the key lies in {what}"), REGISTER);
        }
    }
    Ok(())
}

/// What to do about a key that is not in the document.
const REGISTER: &str = "register its public part by `catenary key add`, and add its id to the signers";

/// The trust domain of Kyverno's `roots`: authorities of its own, or the public one.
pub fn roots(draft: &mut Draft<'_>, at: &At<'_>) -> Result<String, PolicyError> {
    let name = format!("{}-ca", draft.name);
    Ok(match at.get("roots")? {
        Some(roots) => root(draft, &roots, &name),
        None => SIGSTORE.to_owned(),
    })
}

/// Kyverno's `annotations` of a signature.
pub fn annotations(draft: &mut Draft<'_>, at: &At<'_>) -> Result<(), PolicyError> {
    if let Some(annotations) = at.get("annotations")? {
        let what = "annotations of the signature are not looked at here";
        draft.refuse(&annotations, what, "say what they mean by an attestation");
    }
    Ok(())
}

/// Every key of a text of PEM blocks: alternatives. One that cannot be used is nobody, and told of.
pub fn keys(
    draft: &mut Draft<'_>,
    at: &At<'_>,
    text: &str,
    hash: Option<&str>,
    name: &str,
) -> Vec<Option<By>> {
    const END: &str = "-----END PUBLIC KEY-----";
    if !text.contains("-----BEGIN ") {
        let what = "the key is not here: it is named by a variable, a secret or a key service";
        draft.out.say(at, what, REGISTER);
        return vec![None];
    }
    let blocks: Vec<&str> = text.split_inclusive(END).filter(|block| !block.trim().is_empty()).collect();
    let mut found = Vec::new();
    for block in blocks {
        found.push(match PublicKey::from_pem(block.trim(), None) {
            Ok(key) if hashes(key.scheme(), hash.unwrap_or("sha256")) => {
                Some(By::Key(draft.out.key(name, &key)))
            }
            Ok(key) => {
                let what = format!(
                    "{} signs with another hash here than {}",
                    key.scheme(),
                    hash.unwrap_or("sha256")
                );
                draft.out.say(at, what, "sign with a key whose hash is as long as its curve");
                None
            }
            Err(error) => {
                draft.out.say(
                    at,
                    format!("this is no key that verifies here: {error}"),
                    "sign with another key",
                );
                None
            }
        });
    }
    found
}

/// Whether keys of this scheme sign with that hash.
fn hashes(scheme: Scheme, hash: &str) -> bool {
    let ours = match scheme {
        // The scheme has a hash of its own; Ed25519 over a digest is another scheme.
        Scheme::Ed25519 | Scheme::Openpgp => return hash == "sha256" || hash == "sha512",
        Scheme::EcdsaP256Sha256 | Scheme::RsaPkcs1Sha256 | Scheme::RsaPssSha256 => "sha256",
        Scheme::EcdsaP384Sha384 => "sha384",
        Scheme::EcdsaP521Sha512 => "sha512",
    };
    hash.eq_ignore_ascii_case(ours)
}

/// An identity of policy-controller, and of Kyverno's newer policies: `issuer` and `subject` are exact.
pub fn identity(draft: &mut Draft<'_>, at: &At<'_>, root: &str) -> Result<Option<By>, PolicyError> {
    draft.others(at, &["issuer", "issuerRegExp", "subject", "subjectRegExp"])?;
    let exact = |text: &str| Ok(Matcher::Exact(text.to_owned()));
    let issuer = one_of(draft, at, "issuer", exact)?;
    let subject = one_of(draft, at, "subject", exact)?;
    Ok(named(draft, at, issuer, subject, root))
}

/// The same of Kyverno's verifyImages rules, with wildcards.
pub fn wild_identity(draft: &mut Draft<'_>, at: &At<'_>, root: &str) -> Result<Option<By>, PolicyError> {
    let issuer = one_of(draft, at, "issuer", pattern::wildcard)?;
    let subject = one_of(draft, at, "subject", pattern::wildcard)?;
    Ok(named(draft, at, issuer, subject, root))
}

/// `name` or `nameRegExp`, as a matcher.
fn one_of(
    draft: &mut Draft<'_>,
    at: &At<'_>,
    name: &str,
    read: impl Fn(&str) -> Result<Matcher, String>,
) -> Result<Option<Matcher>, PolicyError> {
    let pattern = format!("{name}RegExp");
    let (plain, regex) = (at.text_of(name)?, at.text_of(&pattern)?);
    let (member, matcher) = match (plain, regex) {
        (Some(_), Some(_)) => {
            let what = format!("`{name}` and `{pattern}` are both given");
            draft.out.say(at, what, "give one of them");
            return Ok(None);
        }
        (Some(text), None) => (name, read(text)),
        (None, Some(text)) => (pattern.as_str(), pattern::regex(text)),
        (None, None) => {
            let what = format!("the identity takes any {name}");
            draft.out.say(at, what, format!("say which {name} may sign, in an identity of the policy"));
            return Ok(None);
        }
    };
    let at = at.get(member)?.unwrap_or_else(|| at.clone());
    Ok(match matcher {
        Ok(matcher) => Some(matcher),
        Err(why) => {
            let mend = format!("say the {name} by `exact`, `prefix` or `glob` in an identity of the policy");
            draft.out.say(&at, format!("this pattern is not carried over: {why}"), mend);
            None
        }
    })
}

fn named(
    draft: &mut Draft<'_>,
    at: &At<'_>,
    issuer: Option<Matcher>,
    subject: Option<Matcher>,
    root: &str,
) -> Option<By> {
    let (issuer, san) = (issuer?, subject?);
    let Matcher::Exact(issuer) = issuer else {
        draft.out.say(
            at,
            "the issuer is a pattern, and is a whole text here",
            "write an identity for each issuer",
        );
        return None;
    };
    if let Some(why) = unanchored(&san, true) {
        let what = format!("the subject is as good as anybody: {why}");
        draft.out.say(at, what, "say whose names may sign, in an identity of the policy");
        return None;
    }
    Some(By::Name(Name { issuer, san, root: root.to_owned(), ext: Vec::new() }))
}

/// The trust domain for a certificate authority that stands beside the policy. It is empty until an operator fills it, and until
/// then nobody's certificate counts.
pub fn root(draft: &mut Draft<'_>, at: &At<'_>, name: &str) -> String {
    // Ours are taken by name: what another tool calls `sigstore` need not be it.
    let name = spelled(&format!("imported-{name}"));
    let what = format!("the authorities of the trust domain `{name}` are not in a policy");
    draft.out.say(at, what, format!("add them by `catenary trust add --domain {name}`"));
    name
}

/// The trust domain for the address of a certificate authority.
pub fn root_of_url(draft: &mut Draft<'_>, at: &At<'_>, url: &str) -> String {
    match host(url) {
        PUBLIC_CA => SIGSTORE.to_owned(),
        other => root(draft, at, &other.replace(':', "-")),
    }
}

/// A demand for an entry in the log at `url`, of signatures whose certificates `root` vouches for; keys have none. The public
/// domain wants an entry in the public log anyway.
pub fn log(draft: &mut Draft<'_>, at: &At<'_>, url: &str, root: Option<&str>) {
    match root {
        Some(SIGSTORE) if host(url) == PUBLIC_LOG => {}
        Some(SIGSTORE) | None => {
            let what = "no rule of `require` asks for an entry in this log";
            let mend = "decide whether the entry in Catenary's own log is enough";
            draft.refuse(at, what, mend);
        }
        Some(root) => {
            let what = format!("which logs must hold an entry is a rule of the trust domain `{root}`");
            draft.out.say(at, what, "add the domain with its logs, and without `--no-log`");
        }
    }
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}
