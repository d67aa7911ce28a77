//! Policies of other tools as documents of ours (chain-model 3.2): sigstore's `ClusterImagePolicy`, Kyverno's verifyImages rules and
//! `ImageValidatingPolicy`, in-toto layouts.
//!
//! Best effort, and never weaker than what went in: what cannot be said is told with its place and its mend, and where the rest
//! would ask for less, a deny rule refuses every image until somebody has mended it. What comes out lints.

mod cip;
mod draft;
mod kyverno;
mod layout;
mod node;
mod pattern;
mod signers;
mod validating;
mod want;

use jiff::Timestamp;

pub use draft::{Imported, NamedKey, Unsupported, Written};

use super::{PolicyError, glob::Glob};
use node::At;

/// A repository that nobody has (RFC 2606), where none is known.
const NOWHERE: &str = "registry.invalid/name-the-repository";

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A `ClusterImagePolicy`.
    Cip,
    /// A policy of Kyverno.
    Kyverno,
    /// An in-toto layout.
    Layout,
}

/// Which of the readers a document is for.
enum Kind {
    Cip,
    VerifyImages,
    Validating,
    Layout,
}

/// Reads a file of one or several documents. Of a layout, `images` are the repositories that it is for. `format`, when it is given, is
/// what the file must be.
pub fn import(
    text: &str,
    format: Option<Format>,
    images: &[String],
    now: Timestamp,
) -> Result<Imported, PolicyError> {
    let trees = node::read(text)?;
    let mut out = Imported::default();
    let mut documents = Vec::new();
    for (index, tree) in trees.iter().enumerate() {
        let root = At::root(tree, index);
        match root.text_of("kind")? {
            Some(kind) if kind.ends_with("List") => documents.extend(root.list("items")?),
            _ => documents.push(root),
        }
    }
    let mut begun = Vec::new();
    for document in &documents {
        let before = out.policies.len();
        match kind(document)?.filter(|kind| format.is_none_or(|format| kind.is_of(format))) {
            Some(Kind::Layout) if trees.len() > 1 => {
                return Err(document.wrong("a layout is a file of its own"));
            }
            Some(Kind::Layout) => layout::import(&mut out, document, text.as_bytes(), images, now)?,
            Some(Kind::Cip) => cip::import(&mut out, document, name(document)?, now)?,
            Some(Kind::VerifyImages) => kyverno::import(&mut out, document, name(document)?, now)?,
            Some(Kind::Validating) => validating::import(&mut out, document, name(document)?, now)?,
            None => {
                out.say(
                    document,
                    "this document is no policy that is read here",
                    "leave it out, or give another `--format`",
                );
            }
        }
        begun.extend((before..out.policies.len()).map(|policy| (policy, document)));
    }
    if out.policies.is_empty() {
        let place = documents.first().map(|document| document.wrong(""));
        let why = "no document is a ClusterImagePolicy, a policy of Kyverno that verifies images, or an in-toto layout";
        return Err(PolicyError {
            message: why.to_owned(),
            ..place.unwrap_or_else(|| PolicyError::new(why))
        });
    }
    together(&mut out, &begun);
    Ok(out)
}

impl Kind {
    fn is_of(&self, format: Format) -> bool {
        match self {
            Self::Cip => format == Format::Cip,
            Self::VerifyImages | Self::Validating => format == Format::Kyverno,
            Self::Layout => format == Format::Layout,
        }
    }
}

fn kind(at: &At<'_>) -> Result<Option<Kind>, PolicyError> {
    let group = at.text_of("apiVersion")?.and_then(|version| version.split('/').next()).unwrap_or_default();
    Ok(match (group, at.text_of("kind")?) {
        ("policy.sigstore.dev", Some("ClusterImagePolicy")) => Some(Kind::Cip),
        ("kyverno.io", Some("ClusterPolicy" | "Policy")) => Some(Kind::VerifyImages),
        ("policies.kyverno.io", Some("ImageValidatingPolicy" | "NamespacedImageValidatingPolicy")) => {
            Some(Kind::Validating)
        }
        (_, None) if at.get("signed")?.is_some() || at.get("payload")?.is_some() => Some(Kind::Layout),
        _ => None,
    })
}

fn name<'d>(at: &At<'d>) -> Result<&'d str, PolicyError> {
    let metadata = at.get("metadata")?;
    Ok(metadata
        .as_ref()
        .map(|metadata| metadata.text_of("name"))
        .transpose()?
        .flatten()
        .unwrap_or("imported"))
}

/// Tells of policies that may be for the same image: where they come from all are asked, here exactly one decides.
fn together(out: &mut Imported, begun: &[(usize, &At<'_>)]) {
    let globs: Vec<Vec<Glob>> = out.policies.iter().map(|written| resources(&written.document)).collect();
    for (index, at) in begun {
        let meets = |other: &usize| {
            *other != *index
                && globs[*index].iter().any(|mine| globs[*other].iter().any(|theirs| mine.may_meet(theirs)))
        };
        let others: Vec<&str> =
            (0..globs.len()).filter(meets).map(|other| out.policies[other].name.as_str()).collect();
        if others.is_empty() {
            continue;
        }
        let what = format!(
            "`{}` may be for the same images as `{}`: all of them were asked, and one policy decides here (POL_AMBIGUOUS while they have one priority)",
            out.policies[*index].name,
            others.join("`, `"),
        );
        let mend = "put the rules of all into one policy, or give one the higher `match.priority`";
        out.say(at, what, mend);
    }
}

fn resources(document: &str) -> Vec<Glob> {
    super::Policy::parse(document).map(|policy| policy.spec().selects.resources.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
