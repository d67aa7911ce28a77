//! in-toto layouts. A policy names a layout by the digest of what its owner signed: its steps, thresholds, artifact rules and expiry
//! are read from the layout itself, and none is written twice.

use std::collections::BTreeSet;

use catenary_evidence::{
    KeyId, Trust, attestation,
    digest::Sha256,
    layout::{self, Layout, Step},
    predicate::Claim,
    refusal::Refusal,
};
use jiff::Timestamp;
use serde_json::json;

use super::{super::PolicyError, Imported, NOWHERE, draft::Draft, node::At};

/// Reads one: a metablock, or a DSSE envelope.
pub fn import(
    out: &mut Imported,
    at: &At<'_>,
    item: &[u8],
    images: &[String],
    now: Timestamp,
) -> Result<(), PolicyError> {
    let read = attestation::verify(item, &Trust::default()).map_err(|refusal| bad(at, &refusal))?;
    let Claim::Layout(layout) = &read.claim else { return Err(at.wrong("this is signed, and is no layout")) };
    let signed = attestation::payload(item).map_err(|refusal| bad(at, &refusal))?;
    // A name of its own: a policy of the same name would take another layout's place.
    let name = format!("layout-{}", hex::encode(&read.payload.0[..6]));
    let mut draft = Draft::new(out, &name, format!("the in-toto layout {}", read.payload));
    draft.remarks.push("Send the layout itself to the service, too: `catenary push FILE`.".into());
    owner(&mut draft, at);
    resources(&mut draft, at, images);
    let functionaries = keys(&mut draft, at, layout, &signed)?;
    steps(&mut draft, at, layout, now)?;
    rule(&mut draft, at, read.payload, &functionaries);
    draft.finish(now)
}

fn bad(at: &At<'_>, refusal: &Refusal) -> PolicyError {
    match refusal {
        Refusal::Json(error) => {
            let (line, column) = (error.line as u64, error.column as u64);
            PolicyError { line, column, ..PolicyError::new(error.to_string()) }
        }
        other => at.wrong(other.to_string()),
    }
}

/// A layout does not hold its owner's key, and the number that stands beside a signature is no proof of one.
fn owner(draft: &mut Draft<'_>, at: &At<'_>) {
    let group = format!("{}-owners", draft.name);
    let what = "the layout does not say who its owner is";
    let mend =
        format!("register the owner's key, and put it into the group: `catenary group set {group} --key ID`");
    draft.out.say(at, what, mend);
}

fn resources(draft: &mut Draft<'_>, at: &At<'_>, images: &[String]) {
    draft.resources = images.to_vec();
    if images.is_empty() {
        draft.out.say(
            at,
            "a layout does not say into which repository its image goes",
            "import again with `--image`",
        );
        draft.resources.push(NOWHERE.to_owned());
    }
}

/// The functionaries, each of whom is to be registered.
fn keys(
    draft: &mut Draft<'_>,
    at: &At<'_>,
    layout: &Layout,
    signed: &[u8],
) -> Result<BTreeSet<KeyId>, PolicyError> {
    let all: BTreeSet<KeyId> =
        layout.steps.iter().flat_map(|step| step.functionaries.iter().copied()).collect();
    let here = layout::functionaries(signed).map_err(|refusal| bad(at, &refusal))?;
    for key in here.iter().filter(|key| all.contains(&key.id())) {
        draft.out.key("functionary", key);
    }
    for id in all.iter().filter(|id| !here.iter().any(|key| key.id() == **id)) {
        let what = format!("of the OpenPGP key {id} the layout has its numbers only");
        draft.out.say(at, what, "export it by `gpg --armor --export`, and register it by `catenary key add`");
    }
    Ok(all)
}

fn steps(draft: &mut Draft<'_>, at: &At<'_>, layout: &Layout, now: Timestamp) -> Result<(), PolicyError> {
    // An envelope's payload has no places.
    let signed = at.get("signed")?.unwrap_or_else(|| at.clone());
    if layout.expires <= now {
        let what = format!("the layout expired at {}: nothing passes by it", layout.expires);
        let at = signed.get("expires")?.unwrap_or_else(|| signed.clone());
        draft.out.say(&at, what, "ask its owner for a new one");
    }
    let (places, inspections) = (signed.list("steps")?, signed.list("inspect")?);
    for (position, step) in layout.steps.iter().enumerate() {
        self::step(draft, places.get(position).unwrap_or(&signed), step);
    }
    for (position, name) in layout.inspections.iter().enumerate() {
        let what = format!("the inspection `{name}` runs a command, and is never run here");
        let mend = "let its result be attested, and ask for that by a rule of `require`";
        draft.refuse(inspections.get(position).unwrap_or(&signed), what, mend);
    }
    Ok(())
}

fn step(draft: &mut Draft<'_>, at: &At<'_>, step: &Step) {
    for who in &step.unread {
        let what =
            format!("step `{}` may also be done by somebody who cannot be known again: {who}", step.name);
        draft.out.say(at, what, "give the step a functionary with a key");
    }
    if step.functionaries.len() < step.threshold as usize {
        let (most, name) = (step.functionaries.len(), &step.name);
        let what = format!("step `{name}` wants {} functionaries, of {most}", step.threshold);
        draft.out.say(at, what, "ask the layout's owner for one that can be kept");
    }
}

fn rule(draft: &mut Draft<'_>, at: &At<'_>, layout: Sha256, functionaries: &BTreeSet<KeyId>) {
    if functionaries.is_empty() {
        draft.refuse(
            at,
            "the layout names no functionary whom a key tells",
            "ask its owner for one that does",
        );
        return;
    }
    let keys: Vec<String> = functionaries.iter().map(ToString::to_string).collect();
    draft.layouts.push(json!({
        "layout": layout.to_string(),
        "signer": { "group": format!("{}-owners", draft.name) },
        "functionaries": { "keys": keys },
    }));
}
