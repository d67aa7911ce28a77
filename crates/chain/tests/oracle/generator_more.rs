//! Worlds in which properties are wanted and others verify: good ones, and what breaks them.

use super::{
    generator::{
        APP, BASE, COMMIT, DAY, HOUR, INDEX, K_CI, K_CI2, K_COLLECTOR, K_STRANGER, K_TEST, K_VERIFIER, M_AMD,
        M_ARM, NOW, OS, T0, about, say,
    },
    mutate::Mutation,
    rng::Rng,
    world::{Body, Claim, Node, Policy, Signer, World},
    world_more::{Require, Speaker, SummarySection, VerifierRule, Vsa},
};

const OTHER: &str = "https://verify.other.test";

/// Adds rules to the first policy, and what keeps them.
pub fn add(world: &mut World, rng: &mut Rng) {
    if rng.chance(30) {
        world.story.push("properties");
        for n in 0..rng.pick(&[1, 1, 2]) {
            property(world, rng, n);
        }
    }
    if rng.chance(12) {
        world.story.push("tests speak against it");
        let by = speaker(world, rng);
        world.policies[0].more.failed_tests = Some(by);
        if rng.chance(50) {
            let asked = world.ask.digest;
            say(world, NOW - DAY, about(&[asked]), K_TEST, Claim::Test("FAILED"));
            say(world, NOW - HOUR, about(&[asked]), K_TEST, Claim::Test("PASSED"));
        }
    }
    if rng.chance(20) {
        delegation(world, rng);
    }
    if world.policies.iter().any(|p| p.name == "base") && rng.chance(35) {
        base(world, rng);
    }
}

/// The base image's own policy takes a summary by another verifier.
fn base(world: &mut World, rng: &mut Rng) {
    world.story.push("the base is delegated");
    let depth = rng.pick(&[None, None, Some(2), Some(3)]);
    for policy in world.policies.iter_mut().filter(|p| p.name == "base") {
        policy.more.verifiers = vec![verifier(rng)];
        policy.more.summary = Some(SummarySection { from: None, build: None, max_age: None, depth });
    }
    if rng.chance(70) {
        let of_base = |n: &Node| *n == Node::Content(OS);
        world
            .statements
            .retain(|s| !(matches!(s.claim, Claim::Build(_)) && s.subjects.iter().flatten().any(of_base)));
    }
    let vsa = Claim::Vsa(Vsa { resource: BASE.into(), ..summary() });
    say(world, NOW - 90, about(&[OS]), K_VERIFIER, vsa);
}

fn summary() -> Vsa {
    Vsa {
        verifier: OTHER.into(),
        resource: APP.into(),
        policy: "urn:policy".into(),
        passed: true,
        build: Some(3),
        source: Some(3),
        twice: false,
        verified: None,
    }
}

fn verifier(rng: &mut Rng) -> VerifierRule {
    VerifierRule {
        id: "other".into(),
        signer: Signer::Keys(vec![K_VERIFIER]),
        verifier: rng.pick(&[("exact", OTHER.to_owned()), ("prefix", OTHER.to_owned())]),
        policies: vec!["urn:policy".into(), "urn:other".into()],
        max_level: rng.pick(&[None, Some(3)]),
        resources: rng.chance(40).then(|| vec!["registry.acme.test/**".to_owned()]),
        from: None,
        until: rng.pick(&[None, Some(NOW)]),
    }
}

fn speaker(world: &World, rng: &mut Rng) -> Speaker {
    let keyless = matches!(world.policies[0].builders[0].signer, Signer::Identity(_));
    match rng.below(5) {
        0 if !keyless => Speaker::AnyOf(vec!["ci".into()]),
        1 => Speaker::Signer(Signer::Keys(vec![K_TEST, K_PERSON_TOO])),
        _ => Speaker::Signer(Signer::Keys(vec![K_TEST])),
    }
}

/// Another key of the same people.
const K_PERSON_TOO: u32 = K_COLLECTOR;

fn key_of(speaker: &Speaker) -> u32 {
    match speaker {
        Speaker::Signer(Signer::Keys(keys)) => keys[0],
        Speaker::Signer(_) => K_TEST,
        Speaker::AnyOf(_) => K_CI,
    }
}

/// The digests of runnable children, else the one that is asked.
fn parts(world: &World) -> Vec<u32> {
    match world.document(world.ask.digest) {
        Some(Body::Index { children, .. }) => {
            children.iter().filter(|c| c.runs()).map(|c| c.digest).collect()
        }
        _ => vec![world.ask.digest],
    }
}

fn property(world: &mut World, rng: &mut Rng, n: usize) {
    let signer = speaker(world, rng);
    let key = key_of(&signer);
    let kind = rng.pick(&["test-result", "test-result", "svr", "cyclonedx"]);
    let has_source = world.policies[0].source.is_some();
    let source = kind == "test-result" && has_source && rng.chance(30);
    let two = matches!(&signer, Speaker::Signer(Signer::Keys(keys)) if keys.len() == 2);
    let rule = Require {
        id: format!("r{n}"),
        kinds: if kind == "cyclonedx" && rng.chance(30) { vec!["cyclonedx", "svr"] } else { vec![kind] },
        signer,
        source,
        per_platform: !source && world.document(world.ask.digest).is_some() && rng.chance(30),
        at_least: rng.pick(&[None, None, Some(if two { 2 } else { 1 })]),
        max_age: rng.pick(&[None, Some(2 * DAY)]),
        result: (kind == "test-result" && rng.chance(30)).then(|| vec!["PASSED", "WARNED"]),
        properties: (kind == "svr" && rng.chance(50)).then(|| vec!["TESTED".to_owned()]),
        mode: rng.pick(&["enforce", "enforce", "enforce", "enforce", "warn", "shadow"]),
    };
    let asked = world.ask.digest;
    let subjects = match rule.source {
        true => vec![vec![Node::Git(COMMIT)]],
        false if rule.per_platform || rng.chance(25) => about(&parts(world)),
        false if asked == M_AMD && world.document(INDEX).is_some() && rng.chance(50) => about(&[INDEX]),
        false => about(&[asked]),
    };
    let mut keys = vec![key];
    if rule.at_least == Some(2) {
        keys.push(K_PERSON_TOO);
    }
    for key in keys {
        let received = NOW - rng.pick(&[HOUR, DAY]);
        // An older one that did not pass, or was about less.
        if kind == "test-result" && rng.chance(25) {
            say(world, received - HOUR, subjects.clone(), key, Claim::Test("FAILED"));
        }
        let claim = match kind {
            "test-result" if rule.result.is_some() => Claim::Test(rng.pick(&["PASSED", "WARNED"])),
            "test-result" => Claim::Test("PASSED"),
            "svr" => {
                let properties = vec!["BUILT".to_owned(), "TESTED".to_owned()];
                Claim::Svr(properties, rng.pick(&[None, Some(received - 60), Some(NOW + DAY)]))
            }
            _ => Claim::Sbom(rng.pick(&[None, Some(received - 60)])),
        };
        say(world, received, subjects.clone(), key, claim);
    }
    world.policies[0].more.require.push(rule);
}

fn delegation(world: &mut World, rng: &mut Rng) {
    world.story.push("delegated");
    let prod = &mut world.policies[0];
    prod.more.verifiers.push(verifier(rng));
    prod.more.summary = rng.chance(85).then(|| SummarySection {
        from: rng.chance(40).then(|| vec!["other".to_owned()]),
        build: rng.pick(&[None, Some(2), Some(3)]),
        max_age: rng.pick(&[None, Some(3 * DAY)]),
        depth: rng.pick(&[None, Some(1)]),
    });
    if prod.more.summary.is_none() || rng.chance(30) {
        prod.more.failed_summaries = Some(rng.chance(50).then(|| vec!["other".to_owned()]));
    }
    let alone = prod.more.summary.is_some() && rng.chance(75);
    if alone {
        // Nobody here saw the build.
        let image = |n: &Node| matches!(n, Node::Content(INDEX | M_AMD | M_ARM));
        world
            .statements
            .retain(|s| !(matches!(s.claim, Claim::Build(_)) && s.subjects.iter().flatten().any(image)));
        prod.max_age = None;
        prod.more.require.retain(|r| !r.source);
    }
    let asked = world.ask.digest;
    let subject =
        if asked == M_AMD && world.document(INDEX).is_some() && rng.chance(50) { INDEX } else { asked };
    let summary = Vsa { verified: rng.pick(&[None, Some(NOW - DAY)]), ..summary() };
    if rng.chance(20) {
        let failed = Vsa { passed: false, verified: Some(T0 + 4 * HOUR), ..summary.clone() };
        say(world, T0 + 5 * HOUR, about(&[subject]), K_VERIFIER, Claim::Vsa(failed));
    }
    say(world, NOW - HOUR, about(&[subject]), K_VERIFIER, Claim::Vsa(summary));
}

// ---- what breaks them ----

fn prod(w: &mut World) -> Option<&mut Policy> {
    w.policies.iter_mut().find(|p| p.name == "prod")
}

fn has(condition: bool) -> Option<()> {
    condition.then_some(())
}

fn is_property(claim: &Claim) -> bool {
    matches!(claim, Claim::Test(_) | Claim::Svr(..) | Claim::Sbom(_))
}

/// The place of a statement of this kind.
fn one(w: &World, rng: &mut Rng, of: fn(&Claim) -> bool) -> Option<usize> {
    let places: Vec<usize> = (0..w.statements.len()).filter(|i| of(&w.statements[*i].claim)).collect();
    has(!places.is_empty())?;
    Some(rng.pick(&places))
}

/// The newest summary of the image.
fn a_vsa(w: &mut World) -> Option<&mut Vsa> {
    w.statements.iter_mut().rev().find_map(|s| match &mut s.claim {
        Claim::Vsa(vsa) => Some(vsa),
        _ => None,
    })
}

/// Mutations of what only these worlds have.
pub const MUTATIONS: &[Mutation] = &[
    ("a property is gone", |w, rng| {
        let at = one(w, rng, is_property)?;
        w.statements.remove(at);
        Some(())
    }),
    ("every property is gone", |w, _| {
        has(!w.policies[0].more.require.is_empty())?;
        w.statements.retain(|s| !is_property(&s.claim));
        Some(())
    }),
    ("a property by a stranger", |w, rng| {
        let at = one(w, rng, is_property)?;
        w.statements[at].signers = rng.pick(&[vec![], vec![K_STRANGER]]);
        Some(())
    }),
    ("a property by another key of the rule", |w, rng| {
        let at = one(w, rng, is_property)?;
        w.statements[at].signers = rng.pick(&[vec![K_COLLECTOR], vec![K_TEST, K_COLLECTOR], vec![K_CI2]]);
        Some(())
    }),
    ("the tests fail again", |w, rng| {
        let at = one(w, rng, |c| matches!(c, Claim::Test(_)))?;
        let old = w.statements[at].clone();
        let result = rng.pick(&["FAILED", "FAILED", "WARNED"]);
        let later = NOW - rng.pick(&[HOUR, 60, 0]);
        let new = say(w, later, old.subjects, K_TEST, Claim::Test(result));
        w.statements[new].signers = if rng.chance(80) { old.signers } else { vec![K_STRANGER] };
        Some(())
    }),
    ("a platform fails", |w, rng| {
        let at = one(w, rng, |c| matches!(c, Claim::Test(_)))?;
        let signers = w.statements[at].signers.clone();
        let new = say(w, NOW - 60, about(&[rng.pick(&[M_AMD, M_ARM])]), K_TEST, Claim::Test("FAILED"));
        w.statements[new].signers = signers;
        Some(())
    }),
    ("a property is old", |w, rng| {
        let at = one(w, rng, is_property)?;
        for rule in &mut w.policies[0].more.require {
            rule.max_age = Some(2 * DAY);
        }
        w.statements[at].received = NOW - 2 * DAY - rng.pick(&[0, 1, HOUR]);
        Some(())
    }),
    ("a property says when it was", |w, rng| {
        let at = one(w, rng, |c| matches!(c, Claim::Svr(..) | Claim::Sbom(_)))?;
        let said = Some(NOW - rng.pick(&[2 * DAY, 2 * DAY + 1, -DAY]));
        for rule in &mut w.policies[0].more.require {
            rule.max_age = Some(2 * DAY);
        }
        match &mut w.statements[at].claim {
            Claim::Svr(_, created) | Claim::Sbom(created) => *created = said,
            _ => return None,
        }
        Some(())
    }),
    ("a result says less", |w, rng| {
        let at = one(w, rng, |c| matches!(c, Claim::Svr(..)))?;
        for rule in w.policies[0].more.require.iter_mut().filter(|r| r.kinds == ["svr"]) {
            rule.properties = Some(vec!["TESTED".into()]);
        }
        w.statements[at].claim = Claim::Svr(vec!["BUILT".into()], None);
        Some(())
    }),
    ("a property of one platform", |w, rng| {
        let at = one(w, rng, is_property)?;
        w.statements[at].subjects = about(&[rng.pick(&[M_AMD, M_ARM])]);
        Some(())
    }),
    ("each platform needs its own", |w, _| {
        for rule in w.policies[0].more.require.iter_mut().filter(|r| !r.source) {
            rule.per_platform = true;
        }
        has(!w.policies[0].more.require.is_empty())
    }),
    ("the tester's key is revoked", |w, _| {
        has(w.statements.iter().any(|s| is_property(&s.claim)))?;
        w.keys[K_TEST as usize].revoked = Some(super::world::Since::Ever);
        Some(())
    }),
    ("the signers are one service", |w, _| {
        has(w.policies[0].more.require.iter().any(|r| r.at_least == Some(2)))?;
        w.keys[K_TEST as usize].service = Some("collector".into());
        Some(())
    }),
    ("nobody verified it", |w, _| {
        has(!w.policies[0].more.verifiers.is_empty())?;
        w.statements.retain(|s| !matches!(s.claim, Claim::Vsa(_)));
        Some(())
    }),
    ("verified by a stranger", |w, rng| {
        let at = one(w, rng, |c| matches!(c, Claim::Vsa(_)))?;
        w.statements[at].signers = rng.pick(&[vec![], vec![K_STRANGER]]);
        Some(())
    }),
    ("the verifier is another", |w, rng| {
        a_vsa(w)?.verifier = rng.pick(&["https://evil.test", "https://verify.other.test.evil.test"]).into();
        Some(())
    }),
    ("verified for another repository", |w, _| {
        a_vsa(w)?.resource = "registry.acme.test/other/app".into();
        Some(())
    }),
    ("the verifier may speak about others", |w, _| {
        prod(w)?.more.verifiers.first_mut()?.resources = Some(vec!["registry.acme.test/base/*".into()]);
        Some(())
    }),
    ("verified by another policy", |w, _| {
        a_vsa(w)?.policy = "urn:dev".into();
        Some(())
    }),
    ("the verification failed", |w, rng| {
        let vsa = a_vsa(w)?.clone();
        let at = one(w, rng, |c| matches!(c, Claim::Vsa(_)))?;
        let old = w.statements[at].clone();
        let verified = rng.pick(&[None, Some(NOW - DAY), Some(NOW - DAY - 1)]);
        let failed = Claim::Vsa(Vsa { passed: false, verified, ..vsa });
        let new = say(w, NOW - 60, old.subjects, K_VERIFIER, failed);
        w.statements[new].signers = old.signers;
        Some(())
    }),
    ("verified at too low a level", |w, rng| {
        let summary = prod(w)?.more.summary.as_mut()?;
        summary.build = Some(3);
        let vsa = a_vsa(w)?;
        match rng.below(4) {
            0 => vsa.build = Some(2),
            1 => vsa.build = None,
            2 => vsa.twice = true,
            _ => vsa.source = None,
        }
        Some(())
    }),
    ("the verifier is capped", |w, _| {
        prod(w)?.more.summary.as_mut()?.build = Some(3);
        prod(w)?.more.verifiers.first_mut()?.max_level = Some(2);
        Some(())
    }),
    ("verified too long ago", |w, rng| {
        prod(w)?.more.summary.as_mut()?.max_age = Some(3 * DAY);
        a_vsa(w)?.verified = Some(NOW - 3 * DAY - rng.pick(&[0, 1, 1, 2, DAY]));
        Some(())
    }),
    ("received too long ago", |w, rng| {
        prod(w)?.more.summary.as_mut()?.max_age = Some(3 * DAY);
        for s in &mut w.statements {
            if let Claim::Vsa(vsa) = &mut s.claim {
                vsa.verified = rng.pick(&[None, Some(NOW)]);
                s.received = NOW - 3 * DAY - rng.pick(&[0, 1, HOUR]);
            }
        }
        has(a_vsa(w).is_some())
    }),
    ("verified by ourselves", |w, _| {
        has(a_vsa(w).is_some())?;
        w.keys[K_VERIFIER as usize].service = Some("vsa".into());
        Some(())
    }),
    ("the verifier's key is revoked", |w, _| {
        has(a_vsa(w).is_some())?;
        w.keys[K_VERIFIER as usize].revoked = Some(super::world::Since::Ever);
        Some(())
    }),
    ("the verifier's rule ended", |w, _| {
        prod(w)?.more.verifiers.first_mut()?.until = Some(NOW - DAY);
        Some(())
    }),
    ("the age of what was verified", |w, _| {
        has(prod(w)?.more.summary.is_some())?;
        prod(w)?.max_age = Some(30 * DAY);
        Some(())
    }),
    ("delegated too far", |w, _| {
        let base = w.policies.iter_mut().find(|p| p.name == "base")?;
        base.more.summary.as_mut()?.depth = Some(1);
        Some(())
    }),
];
