//! Puts the members of `trust.groups` where their names stand.

use std::{collections::BTreeMap, sync::Arc};

use catenary_evidence::KeyId;

use super::{
    builds::Timestamping,
    document::{Group, Signer, Spec},
    identity::{IdentityRule, RootPin, SigningTime},
    place::Step,
    property::Speaker,
    validate::Fault,
};

/// Every `group: name` becomes its members; of a document that defines no group, the name is that of one of the tenant's. What
/// `require` leaves out and the sections say is put in, too.
pub fn resolve(spec: &mut Spec) -> Result<(), Fault> {
    let groups = std::mem::take(&mut spec.trust.groups);
    for (name, group) in &groups {
        if name.is_empty() || group.keys.is_empty() && group.identities.is_empty() {
            let at = ["spec", "trust", "groups", name].map(Step::from).to_vec();
            return Err((at, "a group has a name, and at least one of `keys` and `identities`".to_owned()));
        }
    }
    let trust = |list: &str, index: usize| vec![list.into(), Step::from(index), "signer".into()];
    let mut signers: Vec<(Vec<Step>, &mut Signer)> = Vec::new();
    let rules = &mut spec.trust;
    let builders = rules.builders.iter_mut().map(|rule| &mut rule.signer).enumerate();
    signers.extend(builders.map(|(index, signer)| (trust("builders", index), signer)));
    let sources = rules.sources.iter_mut().map(|rule| &mut rule.signer).enumerate();
    signers.extend(sources.map(|(index, signer)| (trust("sources", index), signer)));
    let registries = rules.registries.iter_mut().map(|rule| &mut rule.signer).enumerate();
    signers.extend(registries.map(|(index, signer)| (trust("registries", index), signer)));
    let runs = rules.runs.iter_mut().map(|rule| &mut rule.signer).enumerate();
    signers.extend(runs.map(|(index, signer)| (trust("runs", index), signer)));
    let verifiers = rules.verifiers.iter_mut().map(|rule| &mut rule.signer).enumerate();
    signers.extend(verifiers.map(|(index, signer)| (trust("verifiers", index), signer)));
    let vex = rules.vex.iter_mut().map(|rule| &mut rule.signer).enumerate();
    signers.extend(vex.map(|(index, signer)| (trust("vex", index), signer)));
    for (path, signer) in signers {
        let place = [Step::from("spec"), Step::from("trust")].into_iter().chain(path).collect();
        put(&groups, place, signer)?;
    }
    for (index, rule) in spec.layouts.iter_mut().enumerate() {
        for (member, signer) in [("signer", &mut rule.signer), ("functionaries", &mut rule.functionaries)] {
            let place = vec!["spec".into(), "layouts".into(), index.into(), member.into()];
            put(&groups, place, signer)?;
        }
    }
    let required = spec.require.iter_mut().enumerate().map(|(index, rule)| {
        (vec!["spec".into(), "require".into(), index.into(), "signer".into()], &mut rule.signer)
    });
    let tests = spec.negatives.tests.iter_mut();
    let tests = tests
        .map(|rule| (["spec", "negatives", "tests", "signer"].map(Step::from).to_vec(), &mut rule.signer));
    for (place, speaker) in required.chain(tests) {
        if let Speaker::Signer(signer) = speaker {
            put(&groups, place, signer)?;
        }
    }
    if let Some(source) = &mut spec.source {
        let commit = &mut source.signatures.commit;
        let lists = (&mut commit.principals, &mut commit.keys, &mut commit.identities);
        principals(&groups, "commit", lists)?;
        if let Some(tag) = &mut source.signatures.tag {
            principals(&groups, "tag", (&mut tag.principals, &mut tag.keys, &mut tag.identities))?;
        }
    }
    for rule in spec.trust.builders.iter_mut() {
        if rule.evidence.timestamp == Some(Timestamping::ReceivedAt) {
            received(&mut rule.signer);
        }
    }
    spec.trust.groups = groups;
    speak_up(spec)?;
    pin(spec);
    Ok(())
}

/// Whoever is trusted for builds speaks for what no rule names a signer for. Never anybody.
fn speak_up(spec: &mut Spec) -> Result<(), Fault> {
    let builders: Vec<String> = spec.builders().map(|rule| rule.id.clone()).collect();
    for (index, rule) in spec.require.iter_mut().enumerate() {
        match &mut rule.signer {
            Speaker::AnyOf(ids) if ids.is_empty() && builders.is_empty() => {
                let place = vec!["spec".into(), "require".into(), index.into()];
                let why = "give a `signer`: there are no `trust.builders` who could speak for it";
                return Err((place, why.to_owned()));
            }
            Speaker::AnyOf(ids) if ids.is_empty() => ids.clone_from(&builders),
            Speaker::AnyOf(_) | Speaker::Signer(_) => {}
        }
    }
    Ok(())
}

/// Says to every certificate identity which roots may vouch for it.
fn pin(spec: &mut Spec) {
    let Some(roots) = spec.trust.roots.clone() else { return };
    let roots: Arc<[RootPin]> = roots.into();
    let pin = |identities: &mut [IdentityRule]| {
        identities.iter_mut().for_each(|rule| rule.roots = Some(Arc::clone(&roots)));
    };
    let trust = &mut spec.trust;
    let signers = (trust.builders.iter_mut().map(|rule| &mut rule.signer))
        .chain(trust.sources.iter_mut().map(|rule| &mut rule.signer))
        .chain(trust.registries.iter_mut().map(|rule| &mut rule.signer))
        .chain(trust.runs.iter_mut().map(|rule| &mut rule.signer))
        .chain(trust.verifiers.iter_mut().map(|rule| &mut rule.signer))
        .chain(trust.vex.iter_mut().map(|rule| &mut rule.signer))
        .chain(spec.layouts.iter_mut().flat_map(|rule| [&mut rule.signer, &mut rule.functionaries]));
    signers.for_each(|signer| pin(signer.identities_mut()));
    let tests = spec.negatives.tests.iter_mut().map(|rule| &mut rule.signer);
    for speaker in spec.require.iter_mut().map(|rule| &mut rule.signer).chain(tests) {
        if let Speaker::Signer(signer) = speaker {
            pin(signer.identities_mut());
        }
    }
    if let Some(source) = &mut spec.source {
        let signatures = &mut source.signatures;
        let tag = signatures.tag.as_mut().and_then(|tag| tag.identities.as_mut());
        signatures.commit.identities.iter_mut().chain(tag).for_each(|all| pin(all));
    }
}

type Lists<'d> = (&'d mut Option<String>, &'d mut Option<Vec<KeyId>>, &'d mut Option<Vec<IdentityRule>>);

/// Adds the members of the group to the keys and identities of a git signature.
fn principals(
    groups: &BTreeMap<String, Group>,
    of: &str,
    (name, keys, identities): Lists<'_>,
) -> Result<(), Fault> {
    let Some(asked) = name.take() else { return Ok(()) };
    let place = ["spec", "source", "signatures", of, "principals"].map(Step::from).to_vec();
    if asked.is_empty() {
        return Err((place, "an empty text".to_owned()));
    }
    let mut signer = Signer::Group(asked.clone());
    put(groups, place, &mut signer).map_err(|(mut place, why)| {
        place.pop();
        (place, why)
    })?;
    let Signer::Any(group) = signer else {
        *name = Some(asked);
        return Ok(());
    };
    if !group.keys.is_empty() {
        keys.get_or_insert_default().extend(group.keys);
    }
    if !group.identities.is_empty() {
        identities.get_or_insert_default().extend(group.identities);
    }
    Ok(())
}

/// Our own log is enough to say when its certificates signed.
fn received(signer: &mut Signer) {
    match signer {
        Signer::Identity(rule) => rule.timestamp = SigningTime::Received,
        Signer::Any(group) => {
            group.identities.iter_mut().for_each(|rule| rule.timestamp = SigningTime::Received);
        }
        Signer::Keys(_) | Signer::Service(_) | Signer::Group(_) => {}
    }
}

/// The members of the group that `signer` names.
pub(super) fn put(
    groups: &BTreeMap<String, Group>,
    mut place: Vec<Step>,
    signer: &mut Signer,
) -> Result<(), Fault> {
    let Signer::Group(name) = signer else { return Ok(()) };
    if groups.is_empty() {
        return Ok(());
    }
    match groups.get(name) {
        Some(group) => *signer = Signer::Any(group.clone()),
        None => {
            place.push("group".into());
            let known: Vec<&str> = groups.keys().map(String::as_str).collect();
            let known = known.join(", ");
            return Err((place, format!("`{name}` is not a group of `trust.groups`; known are: {known}")));
        }
    }
    Ok(())
}
