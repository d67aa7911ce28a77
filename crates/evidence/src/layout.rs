//! in-toto classic: layouts and links (in-toto specification 1.0).
//!
//! A *link* says what one step of a supply chain took in and gave out; a *layout* says which steps there are, who may do each,
//! and which artifacts may go where. Both come as a metablock, signed over their canonical JSON, or in a DSSE envelope.
//! Inspections, which are commands, are read by name and never run.

mod canonical;
mod functionary;
mod pattern;
mod rule;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::IgnoredAny};

pub(crate) use canonical::readable;
pub use canonical::{CanonicalError, canonical};
#[cfg(feature = "gpg")]
pub(crate) use functionary::mpi;
pub use rule::{Artifacts, Breach, Kind, Rule, Side, apply};

use crate::{
    digest::{Digest, Sha256},
    dsse::within,
    json,
    key::{KeyId, PublicKey},
    limits::{MAX_STEPS, MAX_SUBJECTS, MAX_TEXT},
    predicate::Claim,
    refusal::Refusal,
    statement::{DigestSet, Subject, WireDigests},
};

/// The predicate type under which layouts are kept: they are documents of their own, not predicates.
pub const LAYOUT: &str = "urn:catenary:predicate:in-toto-layout:v1";
/// The predicate type under which links are kept.
pub const LINK: &str = "urn:catenary:predicate:in-toto-link:v1";

/// Who may do what, and what may go where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layout {
    /// It says nothing from here on.
    pub expires: Timestamp,
    /// In order.
    pub steps: Vec<Step>,
    /// Names of the inspections, which are never run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inspections: Vec<String>,
    /// From when on a functionary's key does nothing more: OpenPGP keys say so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ends: BTreeMap<KeyId, Timestamp>,
}

/// One step of a layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its name, which its links repeat.
    pub name: String,
    /// How many functionaries must have done it, with the same result.
    pub threshold: u32,
    /// Who may do it.
    pub functionaries: Vec<KeyId>,
    /// Who else may, in words: functionaries whom Catenary cannot know again. They can do nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
    /// What may go in.
    pub materials: Vec<Rule>,
    /// What may come out.
    pub products: Vec<Rule>,
}

/// What one step took in and gave out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// The step.
    pub name: String,
    /// What went in.
    pub materials: Artifacts,
    /// What came out.
    pub products: Artifacts,
}

/// A layout or a link, with what it is about.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) predicate_type: &'static str,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) claim: Claim,
}

#[derive(Deserialize)]
struct WireLayout {
    expires: String,
    #[serde(default)]
    keys: BTreeMap<String, functionary::WireKey>,
    steps: Vec<WireStep>,
    #[serde(default)]
    inspect: Vec<WireInspection>,
}

#[derive(Deserialize)]
struct WireStep {
    name: String,
    #[serde(default = "one")]
    threshold: u32,
    #[serde(default)]
    pubkeys: Vec<String>,
    /// Whose certificates may do it (ITE-7). A link has no time that anybody vouches for at which a certificate could be valid.
    #[serde(default)]
    cert_constraints: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    expected_materials: Vec<Vec<String>>,
    #[serde(default)]
    expected_products: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct WireInspection {
    name: String,
}

#[derive(Deserialize)]
struct WireLink {
    name: String,
    #[serde(default)]
    materials: BTreeMap<String, WireDigests>,
    #[serde(default)]
    products: BTreeMap<String, WireDigests>,
}

fn one() -> u32 {
    1
}

/// The `_type` of in-toto metadata, if the text is any.
pub(crate) fn kind(text: &str) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Shape {
        #[serde(rename = "_type")]
        kind: Option<String>,
        signed: Option<serde::de::IgnoredAny>,
    }
    // Most payloads are statements: looking for a word costs less than reading them once more.
    if !["\"layout\"", "\"link\""].iter().any(|word| text.contains(word)) {
        return None;
    }
    let shape: Shape = json::loose(text).ok()?;
    match shape.kind.as_deref() {
        Some("layout") if shape.signed.is_none() => Some("layout"),
        Some("link") if shape.signed.is_none() => Some("link"),
        _ => None,
    }
}

/// Reads a layout or a link; `bytes` are what is signed.
pub(crate) fn read(kind: &str, text: &str, bytes: &[u8]) -> Result<Metadata, Refusal> {
    if kind == "layout" {
        let wire: WireLayout = json::read(text).map_err(Refusal::Payload)?;
        let layout = read_layout(wire)?;
        // A layout is found by its own digest, which policies name.
        let digests =
            DigestSet { content: vec![Digest::Sha256(Sha256::of(bytes).0)], ..DigestSet::default() };
        let subject = Subject { name: "layout".into(), digests, ..Subject::default() };
        return Ok(Metadata {
            predicate_type: LAYOUT,
            subjects: vec![subject],
            claim: Claim::Layout(layout),
        });
    }
    let wire: WireLink = json::read(text).map_err(Refusal::Payload)?;
    named("/name", &wire.name)?;
    let link = Link {
        name: wire.name,
        materials: read_artifacts("materials", &wire.materials)?,
        products: read_artifacts("products", &wire.products)?,
    };
    // A step that makes nothing, such as a test, is about what it looked at.
    let about = if link.products.is_empty() { &link.materials } else { &link.products };
    let subject = |(name, digests): (&String, &DigestSet)| Subject {
        name: name.clone(),
        digests: digests.clone(),
        ..Subject::default()
    };
    let subjects = about.iter().map(subject).collect();
    Ok(Metadata { predicate_type: LINK, subjects, claim: Claim::Link(link) })
}

fn read_layout(wire: WireLayout) -> Result<Layout, Refusal> {
    let expires = wire.expires.parse::<Timestamp>();
    let expires = expires.map_err(|_| refuse("/expires", "it is not an RFC 3339 time"))?;
    within("steps of a layout", wire.steps.len() + wire.inspect.len(), MAX_STEPS)?;
    within("keys of a layout", wire.keys.len(), MAX_STEPS)?;
    if wire.steps.is_empty() {
        return Err(refuse("/steps", "a layout without steps asks for nothing"));
    }
    let mut ends = BTreeMap::new();
    let mut steps: Vec<Step> = Vec::new();
    for (position, step) in wire.steps.into_iter().enumerate() {
        let at = |member: &str| format!("/steps/{position}/{member}");
        named(&at("name"), &step.name)?;
        if steps.iter().any(|known| known.name == step.name) {
            return Err(refuse(&at("name"), "another step has this name"));
        }
        if step.threshold == 0 {
            return Err(refuse(&at("threshold"), "it is 0: nobody would have to do the step"));
        }
        within("functionaries of a step", step.pubkeys.len(), MAX_STEPS)?;
        let (mut functionaries, mut unread) = (Vec::new(), Vec::new());
        for name in &step.pubkeys {
            match functionary::named(&wire.keys, name) {
                Ok(found) => {
                    functionaries.push(found.key);
                    ends.extend(found.ends.map(|end| (found.key, end)));
                }
                Err(why) => unread.push(format!("{why} ({})", json::shorten(name))),
            }
        }
        if step.cert_constraints.as_ref().is_some_and(|all| !all.is_empty()) {
            unread.push("holders of certificates (cert_constraints)".to_owned());
        }
        // Two names for one key are one functionary (E07).
        functionaries.sort();
        functionaries.dedup();
        let rules = |member: &str, lists: Vec<Vec<String>>| -> Result<Vec<Rule>, Refusal> {
            within("artifact rules of a step", lists.len(), MAX_SUBJECTS)?;
            let rule = |(n, words): (usize, Vec<String>)| {
                Rule::read(&words).map_err(|why| refuse(&format!("{}/{n}", at(member)), why))
            };
            lists.into_iter().enumerate().map(rule).collect()
        };
        steps.push(Step {
            name: step.name,
            threshold: step.threshold,
            functionaries,
            unread,
            materials: rules("expected_materials", step.expected_materials)?,
            products: rules("expected_products", step.expected_products)?,
        });
    }
    let inspections = wire.inspect.into_iter().map(|inspection| inspection.name).collect();
    Ok(Layout { expires, steps, inspections, ends })
}

/// The public keys of a layout's functionaries, for an operator to look at and to register. `signed` are the bytes that its
/// owner signed ([`crate::attestation::payload`]). OpenPGP keys are not among them: a layout shows their numbers only.
pub fn functionaries(signed: &[u8]) -> Result<Vec<PublicKey>, Refusal> {
    // An envelope's payload is JSON as it is; a metablock's canonical form need not be.
    let canonical = readable(signed);
    let text = match json::check(signed) {
        Ok(text) => text,
        Err(_) => json::check(canonical.as_bytes()).map_err(Refusal::Payload)?,
    };
    let wire: WireLayout = json::read(text).map_err(Refusal::Payload)?;
    Ok(wire.keys.values().filter_map(functionary::WireKey::read).collect())
}

fn read_artifacts(member: &'static str, wire: &BTreeMap<String, WireDigests>) -> Result<Artifacts, Refusal> {
    within("artifacts of a link", wire.len(), MAX_SUBJECTS)?;
    let mut artifacts = Artifacts::new();
    for (path, digests) in wire {
        let pointer = format!("/{member}/{}", json::shorten(path).replace('~', "~0").replace('/', "~1"));
        named(&pointer, path)?;
        artifacts.insert(path.clone(), DigestSet::read(digests, false, &pointer)?);
    }
    Ok(artifacts)
}

fn named(pointer: &str, name: &str) -> Result<(), Refusal> {
    match name.len() {
        0 => Err(refuse(pointer, "a name is empty")),
        size if size > MAX_TEXT => Err(Refusal::TooLarge { what: "a name", size, limit: MAX_TEXT }),
        _ => Ok(()),
    }
}

fn refuse(pointer: &str, why: impl Into<String>) -> Refusal {
    Refusal::Predicate { predicate_type: "in-toto".into(), pointer: pointer.to_owned(), why: why.into() }
}
