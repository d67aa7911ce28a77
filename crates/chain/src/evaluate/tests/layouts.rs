//! in-toto layouts that must end in the image.

use catenary_evidence::{
    KeyId,
    digest::{Digest, Sha256},
    layout::{Artifacts, Kind, Layout, Link, Rule, Side, Step},
    predicate::Claim,
    statement::DigestSet,
};

use super::scene::*;
use crate::{policy::Policy, reason::Code::*, verdict::Verdict};

/// A policy that asks for the layout only.
fn document(more: &str) -> String {
    let (owner, ann, bob, carl) = (key("other"), key("ci"), key("ci2"), key("vcs"));
    format!(
        r#"
apiVersion: catenary/v1
kind: ChainPolicy
metadata: {{name: prod}}
spec:
  match: {{resources: ["{APP}"]}}
  layouts:
    - layout: {}
      signer: {{key: "{owner}"}}
      functionaries: {{keys: ["{ann}", "{bob}", "{carl}"]}}
{more}"#,
        content("layout")
    )
}

fn artifacts(paths: &[(&str, &str)]) -> Artifacts {
    let set = |name: &str| DigestSet { content: vec![content(name)], ..DigestSet::default() };
    paths.iter().map(|(path, name)| ((*path).to_owned(), set(name))).collect()
}

fn step(name: &str, functionaries: &[&str], threshold: u32, materials: Vec<Rule>) -> Step {
    let functionaries: Vec<KeyId> = functionaries.iter().map(|name| key(name)).collect();
    Step { name: name.into(), threshold, functionaries, unread: Vec::new(), materials, products: Vec::new() }
}

fn from(step: &str) -> Vec<Rule> {
    vec![
        Rule::Match {
            pattern: "*".into(),
            within: None,
            with: Side::Products,
            folder: None,
            step: step.into(),
        },
        Rule::Simple(Kind::Disallow, "*".into()),
    ]
}

/// `write` by ann, `review` of it by two of bob and carl, `build` by bob from what was written.
fn layout() -> Layout {
    Layout {
        expires: at(1000),
        steps: vec![
            step("write", &["ci"], 1, Vec::new()),
            step("review", &["ci2", "vcs"], 2, from("write")),
            step("build", &["ci2"], 1, from("write")),
        ],
        inspections: vec!["untar".into()],
        ends: std::collections::BTreeMap::new(),
    }
}

#[derive(Clone)]
struct World(Scene);

impl World {
    /// The honest world.
    fn new(change: impl FnOnce(&mut Layout)) -> Self {
        let mut world = Self::bare(change);
        world.link("ci", "write", &[], &[("app.c", "source")]);
        world.link("ci2", "review", &[("app.c", "source")], &[]);
        world.link("vcs", "review", &[("app.c", "source")], &[]);
        world.link("ci2", "build", &[("app.c", "source")], &[("image", "app")]);
        world
    }

    /// The layout, and nobody has done anything.
    fn bare(change: impl FnOnce(&mut Layout)) -> Self {
        let mut scene = Scene::empty();
        scene.policy("prod", &document(""));
        scene.manifest("app", "amd64", &["l1"]);
        let mut layout = layout();
        change(&mut layout);
        let mut world = Self(scene);
        world.layout("layout", &["other"], layout);
        world
    }

    fn layout(&mut self, name: &str, signers: &[&str], layout: Layout) {
        let id = self.0.attest(6, signers, vec![subject(name)], Claim::Layout(layout));
        let Digest::Sha256(payload) = content(name) else { unreachable!("it is SHA-256") };
        self.0.statement(id).fact.payload = Sha256(payload);
    }

    fn link(
        &mut self,
        by: &str,
        name: &str,
        materials: &[(&str, &str)],
        products: &[(&str, &str)],
    ) -> Sha256 {
        let link = Link { name: name.into(), materials: artifacts(materials), products: artifacts(products) };
        let about = if products.is_empty() { materials } else { products };
        let subjects = about.iter().map(|(_, name)| subject(name)).collect();
        self.0.attest(7, &[by], subjects, Claim::Link(link))
    }

    fn ask(&self) -> Verdict {
        self.0.ask("app")
    }
}

#[test]
fn a_layout_that_ends_in_the_image_holds() {
    let world = World::new(|_| {});
    let verdict = world.ask();
    check("honest", &verdict, &[]);
    assert!(verdict.valid_until <= at(1000));
    let link = verdict.links.iter().find(|link| link.stage == "layout").expect("it is shown");
    assert_eq!(link.evidence.len(), 5, "the layout and its four links");
    check("another image", &world.0.ask("l1"), &[ArtUnknown]);
}

#[test]
fn every_link_is_needed() {
    let world = World::new(|_| {});
    for id in world.0.evidence.attestations.keys() {
        let verdict = world.0.without(*id).ask("app");
        assert!(!verdict.allowed, "without {id}: {}", verdict.summary);
    }
    check("nobody did anything", &World::bare(|_| {}).ask(), &[LayStepMissing]);
}

#[test]
fn p07_an_expired_layout_asks_for_nothing_and_gives_nothing() {
    check("expired", &World::new(|layout| layout.expires = at(29)).ask(), &[LayExpired]);
    check("at its end", &World::new(|layout| layout.expires = at(30)).ask(), &[LayExpired]);
    check("before", &World::new(|layout| layout.expires = at(31)).ask(), &[]);
}

#[test]
fn a_functionarys_key_that_ended_does_nothing_more() {
    let ending = |minute| World::new(|layout| layout.ends.extend([(key("ci"), at(minute))])).ask();
    check("ended", &ending(30), &[LayFunctionary]);
    let verdict = ending(31);
    check("not yet", &verdict, &[]);
    assert!(verdict.valid_until <= at(31));
    // The layout says nothing of the end; the key's own signature does. Received after it, it may be backdated.
    let expiring = |minute| {
        let mut world = World::new(|_| {});
        let links: Vec<Sha256> = world.0.evidence.attestations.keys().copied().collect();
        for id in links {
            let fact = &mut world.0.statement(id).fact;
            if matches!(&fact.claim, Claim::Link(link) if link.name == "write") {
                fact.signatures[0].expires = Some(at(minute));
            }
        }
        world.ask()
    };
    check("received at its end", &expiring(7), &[LayStepMissing]);
    check("received before", &expiring(8), &[]);
    let mut world = World::bare(|_| {});
    let layouts: Vec<Sha256> = world.0.evidence.attestations.keys().copied().collect();
    world.0.statement(layouts[0]).fact.signatures[0].expires = Some(at(6));
    check("the owner's", &world.ask(), &[LaySignerNotTrusted]);
}

#[test]
fn a_functionary_who_cannot_be_known_again_is_named() {
    let unread = |layout: &mut Layout| {
        layout.steps[0].functionaries.clear();
        layout.steps[0].unread = vec!["holders of certificates (cert_constraints)".to_owned()];
    };
    let verdict = World::new(unread).ask();
    check("certificates only", &verdict, &[LayFunctionaryUnknown]);
    assert!(verdict.reasons[0].message.contains("cert_constraints"), "{}", verdict.reasons[0].message);
    let beside = |layout: &mut Layout| layout.steps[0].unread = vec!["a subkey".to_owned()];
    check("a key beside them", &World::new(beside).ask(), &[]);
    check("the key did nothing", &World::bare(beside).ask(), &[LayFunctionaryUnknown]);
}

#[test]
fn g25_a_functionary_does_only_the_steps_that_are_his() {
    // bob builds; carl may review, and his build is nobody's.
    let mut world = World::bare(|_| {});
    world.link("ci", "write", &[], &[("app.c", "source")]);
    world.link("ci2", "review", &[("app.c", "source")], &[]);
    world.link("vcs", "review", &[("app.c", "source")], &[]);
    world.link("vcs", "build", &[("app.c", "source")], &[("image", "app")]);
    check("another functionary", &world.ask(), &[LayFunctionary]);
    // A key that the layout names, and the policy does not.
    let mut world = World::new(|layout| layout.steps[0].functionaries.push(key("reg")));
    let written = world
        .0
        .evidence
        .attestations
        .values()
        .find(|logged| matches!(&logged.fact.claim, Claim::Link(link) if link.name == "write"));
    let id = written.expect("it was added").fact.id;
    world.0 = world.0.without(id);
    world.link("reg", "write", &[], &[("app.c", "source")]);
    check("a stranger to the policy", &world.ask(), &[LayStepMissing]);
}

#[test]
fn e07_a_threshold_counts_keys_and_not_signatures() {
    let mut world = World::bare(|_| {});
    world.link("ci", "write", &[], &[("app.c", "source")]);
    world.link("ci2", "review", &[("app.c", "source")], &[]);
    let again = Link {
        name: "review".into(),
        materials: artifacts(&[("app.c", "source")]),
        products: Artifacts::new(),
    };
    world.0.attest(9, &["ci2", "ci2"], vec![subject("source"), subject("again")], Claim::Link(again));
    world.link("ci2", "build", &[("app.c", "source")], &[("image", "app")]);
    check("one reviewer twice", &world.ask(), &[LayThreshold]);
    // Two who saw different things do not agree.
    world.link("vcs", "review", &[("app.c", "source"), ("b.c", "l1")], &[]);
    check("two views", &world.ask(), &[LayThreshold]);
    world.link("vcs", "review", &[("app.c", "source")], &[]);
    check("both", &world.ask(), &[]);
}

#[test]
fn what_was_swapped_between_two_steps_breaks_a_rule() {
    let mut world = World::bare(|_| {});
    world.link("ci", "write", &[], &[("app.c", "source")]);
    world.link("ci2", "review", &[("app.c", "source")], &[]);
    world.link("vcs", "review", &[("app.c", "source")], &[]);
    world.link("ci2", "build", &[("app.c", "source"), ("evil.c", "evil")], &[("image", "app")]);
    check("a file that nobody wrote", &world.ask(), &[LayRule]);
}

#[test]
fn several_runs_of_the_steps_are_told_apart() {
    let mut world = World::new(|_| {});
    // The same source, written twice with different bystanders, and built into another image.
    world.link("ci", "write", &[], &[("app.c", "source"), ("note", "note")]);
    world.link("ci", "write", &[("old", "l1")], &[("app.c", "source")]);
    world.link("ci2", "build", &[("app.c", "source")], &[("image", "other image")]);
    check("three ways to write it", &world.ask(), &[]);
}

#[test]
fn a_layout_counts_by_its_owner_alone() {
    for (signers, code) in [(&["ci"][..], LaySignerNotTrusted), (&[][..], LaySignerNotTrusted)] {
        let mut world = World(Scene::empty());
        world.0.policy("prod", &document(""));
        world.0.manifest("app", "amd64", &["l1"]);
        world.layout("layout", signers, layout());
        check("another's", &world.ask(), &[code]);
    }
    let mut scene = Scene::empty();
    scene.policy("prod", &document(""));
    scene.manifest("app", "amd64", &["l1"]);
    check("none", &scene.ask("app"), &[LayMissing]);
    let mut world = World::new(|_| {});
    world.0.revoke("ci");
    check("a revoked functionary", &world.ask(), &[LayStepMissing]);
}

#[test]
fn the_last_step_gives_out_the_image() {
    let mut world = World::new(|_| {});
    world.0.manifest("twin", "amd64", &["l2"]);
    // An early step that names an image does not make the layout end in it.
    world.link("ci", "write", &[], &[("app.c", "source"), ("image", "twin")]);
    assert!(!world.0.ask("twin").allowed);
    world.link("ci2", "build", &[("image", "twin")], &[("other", "l1")]);
    let verdict = world.0.ask("twin");
    assert!(!verdict.allowed, "{}", verdict.summary);
}

#[test]
fn a_sublayout_stands_for_a_step_when_its_functionaries_signed_it() {
    let sub = |signers: &[&str], change: &dyn Fn(&mut Layout)| {
        let mut scene = Scene::empty();
        scene.policy("prod", &document(&format!("      sublayouts: {{write: \"{}\"}}\n", content("inner"))));
        scene.manifest("app", "amd64", &["l1"]);
        let mut world = World(scene);
        world.layout("layout", &["other"], layout());
        let mut inner = Layout {
            expires: at(500),
            steps: vec![step("draft", &["vcs"], 1, Vec::new()), step("polish", &["ci2"], 1, from("draft"))],
            inspections: Vec::new(),
            ends: std::collections::BTreeMap::new(),
        };
        change(&mut inner);
        world.layout("inner", signers, inner);
        world.link("vcs", "draft", &[], &[("app.c", "rough")]);
        world.link("ci2", "polish", &[("app.c", "rough")], &[("app.c", "source")]);
        world.link("ci2", "review", &[("app.c", "source")], &[]);
        world.link("vcs", "review", &[("app.c", "source")], &[]);
        world.link("ci2", "build", &[("app.c", "source")], &[("image", "app")]);
        world.ask()
    };
    let verdict = sub(&["ci"], &|_| {});
    check("honest", &verdict, &[]);
    assert!(verdict.valid_until <= at(500));
    check("signed by the owner, who may not write", &sub(&["other"], &|_| {}), &[LaySignerNotTrusted]);
    check("expired", &sub(&["ci"], &|inner| inner.expires = at(1)), &[LayExpired]);
    check(
        "a step more",
        &sub(&["ci"], &|inner| inner.steps.push(step("spell", &["ci"], 1, Vec::new()))),
        &[LayStepMissing],
    );
    // Layouts in each other without end.
    let endless = sub(&["ci"], &|inner| inner.steps[0] = step("write", &["ci"], 1, Vec::new()));
    check("endless", &endless, &[SysLimitExceeded]);
}

#[test]
fn functionaries_are_keys() {
    let named = document("").replace("functionaries: {keys:", "functionaries: {service: collector} # {keys:");
    assert!(Policy::parse(&named).unwrap_err().message.contains("keys"), "{named}");
}
