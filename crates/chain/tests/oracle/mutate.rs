//! Mutations: each breaks (or only decorates) one thing of a world.

use super::{
    generator::{
        APP, ARM, BASE, CI, CI2, COMMIT, DAY, HOUR, INDEX, ISSUER, K_CI, K_CI2, K_COLLECTOR, K_PERSON,
        K_STRANGER, K_VCS, K_VCS2, M_AMD, M_ARM, NOW, OS, REPO, STAGING, T0, TOOL, TOOL_IMAGE, VERIFIER,
        about, builder_rule, dep, input, say,
    },
    generator_more,
    rng::Rng,
    world::{
        Body, Build, Certificate, Child, Claim, Commit, Event, Holder, Node, Object, Policy, Signer, Since,
        SourceRule, Statement, Summary, World,
    },
    world_more::Speaker,
};

pub type Mutation = (&'static str, fn(&mut World, &mut Rng) -> Option<()>);

/// Mutations that fit few worlds, and are tried more often.
const RARE: &[&str] = &[
    "no source",
    "an input is not pinned",
    "the certificate contradicts the provenance",
    "another repository of the same name",
    "a copy with another certificate",
    "a review by oneself",
    "a review of another revision",
    "the commit is not signed",
    "the summary is of another verifier",
    "the summary failed",
    "the summary lacks a property",
    "built before the commit was pushed",
    "pushed before it was built",
    "claims to be from the future",
    "too deep",
    "the base is unknown",
    "another build of another commit",
    "the layers are of another base",
    "another issuer vouches for the name",
    "the builder's rule takes no runner of one's own",
];

/// Applies one mutation that fits.
pub fn mutate(world: &mut World, rng: &mut Rng) {
    for _ in 0..12 {
        let (mut name, mut apply) = rng.pick(MUTATIONS);
        // What only some worlds have is broken more often in those.
        let more = &world.policies[0].more;
        let delegates = world.policies.iter().any(|p| !p.more.verifiers.is_empty());
        let has_more = delegates || !more.require.is_empty() || more.failed_tests.is_some();
        if has_more && rng.chance(if delegates { 60 } else { 45 }) {
            (name, apply) = rng.pick(generator_more::MUTATIONS);
        } else if rng.chance(22) {
            let rare = rng.pick(RARE);
            (name, apply) =
                *MUTATIONS.iter().find(|(n, _)| *n == rare).expect("each rare mutation is in the list");
        }
        let mut tried = world.clone();
        if apply(&mut tried, rng).is_some() && can_be(&tried) {
            *world = tried;
            world.story.push(name);
            return;
        }
    }
}

fn can_be(w: &World) -> bool {
    let named = |p: &Policy| w.policies.iter().filter(|o| o.name == p.name).count();
    w.policies.iter().all(|p| named(p) == 1 && can_be_saved(p))
}

/// Mutations may meet: what the reader of policies would refuse is not a world.
fn can_be_saved(p: &Policy) -> bool {
    fn unique<'a>(ids: impl Iterator<Item = &'a String>) -> bool {
        let ids: Vec<_> = ids.collect();
        (1..ids.len()).all(|n| !ids[..n].contains(&ids[n]))
    }
    let asked = |of: &Option<Vec<String>>, id: &String| of.as_ref().is_none_or(|of| of.contains(id));
    let enough = p.build.as_ref().is_none_or(|b| {
        let mut domains: Vec<&String> = p
            .builders
            .iter()
            .filter(|r| asked(&b.of, &r.id))
            .map(|r| r.domain.as_ref().unwrap_or(&r.id))
            .collect();
        domains.sort();
        domains.dedup();
        b.at_least as usize <= domains.len()
    });
    let sources = p.source.as_ref().is_none_or(|s| {
        !p.sources.is_empty() || (s.review.is_none() && s.min_level == 0 && s.properties.is_none())
    });
    let platforms = p.platforms.as_ref().is_none_or(|list| !list.is_empty());
    let asks = p.build.is_some()
        || p.more.require.iter().all(|r| !r.source)
            && (p.registry.is_some() || p.more.summary.is_some() || !p.more.require.is_empty());
    let spoken = |s: &Speaker| match s {
        Speaker::AnyOf(ids) => ids.iter().all(|id| p.builders.iter().any(|r| r.id == *id)),
        Speaker::Signer(_) => true,
    };
    let speakers = p.more.require.iter().map(|r| &r.signer).chain(&p.more.failed_tests);
    platforms
        && asks
        && speakers.into_iter().all(spoken)
        && unique(p.builders.iter().map(|r| &r.id))
        && unique(p.sources.iter().map(|r| &r.id))
        && enough
        && sources
}

fn prod(w: &mut World) -> Option<&mut Policy> {
    w.policies.iter_mut().find(|p| p.name == "prod")
}

/// One of the build statements about the question (not about a base).
fn a_build<'w>(w: &'w mut World, rng: &mut Rng) -> Option<&'w mut Statement> {
    let ours = |s: &Statement| {
        let image = |n: &Node| matches!(n, Node::Content(INDEX | M_AMD | M_ARM));
        matches!(s.claim, Claim::Build(_)) && s.subjects.iter().flatten().any(image)
    };
    let places: Vec<usize> = (0..w.statements.len()).filter(|i| ours(&w.statements[*i])).collect();
    if places.is_empty() {
        return None;
    }
    let at = rng.pick(&places);
    Some(&mut w.statements[at])
}

/// A build statement about the question that is signed with a certificate.
fn a_keyless_build<'w>(w: &'w mut World, rng: &mut Rng) -> Option<&'w mut Statement> {
    a_build(w, rng).filter(|s| !s.certificates.is_empty())
}

fn a_certificate<'w>(w: &'w mut World, rng: &mut Rng) -> Option<&'w mut Certificate> {
    a_keyless_build(w, rng)?.certificates.first_mut()
}

fn build_of(s: &mut Statement) -> Option<&mut Build> {
    match &mut s.claim {
        Claim::Build(b) => Some(b),
        _ => None,
    }
}

fn every_build(w: &mut World, change: impl Fn(&mut Build)) {
    for s in &mut w.statements {
        let base = s.subjects.iter().flatten().any(|n| matches!(n, Node::Content(OS | TOOL_IMAGE)));
        if let Claim::Build(b) = &mut s.claim
            && !base
        {
            change(b);
        }
    }
}

fn a_commit(w: &mut World) -> Option<&mut Commit> {
    w.statements.iter_mut().find_map(|s| match &mut s.claim {
        Claim::Commit(c) => Some(c),
        _ => None,
    })
}

/// The commit statement, with a good review that the policy asks for.
fn a_reviewed_commit(w: &mut World) -> Option<&mut Commit> {
    has(!w.policies[0].sources.is_empty())?;
    prod(w)?.source.as_mut()?.review.get_or_insert(1);
    let c = a_commit(w)?;
    let person = |n: &str| (n.to_owned(), Some(format!("id-{n}")));
    c.review.get_or_insert_with(|| (COMMIT, vec![person("bob"), person("cat")]));
    Some(c)
}

fn a_summary(w: &mut World) -> Option<&mut Summary> {
    has(!w.policies[0].sources.is_empty())?;
    w.statements.iter_mut().find_map(|s| match &mut s.claim {
        Claim::Summary(summary) => Some(summary),
        _ => None,
    })
}

/// The same, when nothing else speaks of the commit.
fn the_only_summary(w: &mut World) -> Option<&mut Summary> {
    a_summary(w)?;
    w.statements.retain(|s| !matches!(s.claim, Claim::Commit(_)));
    a_summary(w)
}

fn put(w: &mut World, node: Node, body: Body) {
    w.objects.retain(|o| o.node != node);
    w.objects.push(Object { node, received: T0, body });
}

fn an_event<'w>(w: &'w mut World, rng: &mut Rng) -> Option<&'w mut Statement> {
    let places: Vec<usize> =
        (0..w.statements.len()).filter(|i| matches!(w.statements[*i].claim, Claim::Event(_))).collect();
    if places.is_empty() {
        return None;
    }
    let at = rng.pick(&places);
    Some(&mut w.statements[at])
}

fn event_of(s: &mut Statement) -> Option<&mut Event> {
    match &mut s.claim {
        Claim::Event(e) => Some(e),
        _ => None,
    }
}

fn has(condition: bool) -> Option<()> {
    condition.then_some(())
}

fn copy(w: &mut World, s: &Statement) -> usize {
    let at = say(w, s.received, s.subjects.clone(), 0, s.claim.clone());
    w.statements[at].signers.clone_from(&s.signers);
    w.statements[at].certificates.clone_from(&s.certificates);
    at
}

fn is_asked(w: &World, node: Node) -> bool {
    node == Node::Content(w.ask.digest)
}

const MUTATIONS: &[Mutation] = &[
    // ---- policy ----
    ("no policy for the resource", |w, rng| {
        w.policies.retain(|p| p.name != "fallback");
        if rng.chance(50) {
            w.ask.resource = "registry.acme.test/acme/sub/app".into();
        } else {
            prod(w)?.resources =
                vec!["registry.acme.test/acme".into(), "registry.acme.test/acme/app*/x".into()];
        }
        Some(())
    }),
    ("asked in another environment", |w, rng| {
        has(w.policies[0].environments.is_some())?;
        w.ask.environment = rng.pick(&[None, Some("dev".to_owned())]);
        Some(())
    }),
    ("two policies of one priority", |w, _| {
        let mut twin = w.policies[0].clone();
        twin.name = "twin".into();
        w.policies.push(twin);
        Some(())
    }),
    ("a stronger policy that cannot hold", |w, _| {
        let mut strong = w.policies[0].clone();
        strong.name = "strong".into();
        strong.priority = 10;
        strong.builders[0].builder_id = ("exact", "https://other.test".into());
        w.policies.push(strong);
        Some(())
    }),
    ("an unreadable policy", |w, _| {
        let mut broken = w.policies[0].clone();
        broken.name = "broken".into();
        broken.readable = false;
        broken.resources = vec!["elsewhere/**".into()];
        w.policies.push(broken);
        Some(())
    }),
    ("the policy is expired", |w, rng| {
        prod(w)?.expires = Some(NOW - rng.pick(&[0, 1, DAY]));
        Some(())
    }),
    ("a policy for a deeper path", |w, _| {
        prod(w)?.resources = vec!["registry.acme.test/*/app".into(), "nowhere/**".into()];
        Some(())
    }),
    // ---- artifact ----
    ("nothing is known", |w, _| {
        w.ask.digest = 77;
        Some(())
    }),
    ("the object is gone", |w, _| {
        let asked = Node::Content(w.ask.digest);
        w.objects.retain(|o| o.node != asked);
        Some(())
    }),
    ("the index is gone", |w, _| {
        has(w.document(INDEX).is_some())?;
        w.objects.retain(|o| o.node != Node::Content(INDEX));
        Some(())
    }),
    ("the object is gone and wanted", |w, _| {
        let asked = Node::Content(w.ask.digest);
        w.objects.retain(|o| o.node != asked);
        w.ask.platform = Some("linux/amd64".into());
        Some(())
    }),
    ("not an image", |w, _| {
        let asked = w.ask.digest;
        let o = w.objects.iter_mut().find(|o| o.node == Node::Content(asked))?;
        match &mut o.body {
            Body::Manifest { image, .. } => *image = false,
            _ => o.body = Body::Config { platform: "linux/amd64".into(), layers: vec![1] },
        }
        Some(())
    }),
    ("another kind is asked for", |w, _| {
        let index = matches!(w.document(w.ask.digest), Some(Body::Index { .. }));
        prod(w)?.kinds = Some(vec![if index { "image-manifest" } else { "image-index" }]);
        Some(())
    }),
    ("asked for a platform that is not there", |w, rng| {
        w.ask.platform = Some(rng.pick(&["windows/amd64", "linux/arm64/v7", "linux/s390x"]).into());
        Some(())
    }),
    ("the policy wants another platform", |w, _| {
        prod(w)?.platforms.as_mut()?.push("linux/riscv64".into());
        Some(())
    }),
    ("a platform slipped into the index", |w, rng| {
        let platform = rng.pick(&[Some("linux/ppc64le".to_owned()), None]);
        let o = w.objects.iter_mut().find(|o| o.node == Node::Content(INDEX))?;
        let Body::Index { children, .. } = &mut o.body else { return None };
        children.push(Child { digest: 30, platform, attests: false });
        Some(())
    }),
    ("a platform slipped into a strict index", |w, _| {
        has(is_asked(w, Node::Content(INDEX)))?;
        let o = w.objects.iter_mut().find(|o| o.node == Node::Content(INDEX))?;
        let Body::Index { children, .. } = &mut o.body else { return None };
        let platforms = children.iter().filter(|c| !c.attests).filter_map(|c| c.platform.clone()).collect();
        children.push(Child { digest: 30, platform: Some("linux/386".into()), attests: false });
        prod(w)?.platforms = Some(platforms);
        prod(w)?.extra_allowed = false;
        Some(())
    }),
    ("half a mark of an attestation manifest", |w, rng| {
        let o = w.objects.iter_mut().find(|o| o.node == Node::Content(INDEX))?;
        let Body::Index { children, .. } = &mut o.body else { return None };
        children.push(Child {
            digest: 31,
            platform: Some("unknown/unknown".into()),
            attests: rng.chance(50),
        });
        Some(())
    }),
    ("an index without platforms", |w, _| {
        let o = w.objects.iter_mut().find(|o| o.node == Node::Content(INDEX))?;
        let Body::Index { children, .. } = &mut o.body else { return None };
        children.retain(|c| c.attests);
        Some(())
    }),
    ("extra platforms are allowed", |w, _| {
        has(w.policies[0].platforms.is_some())?;
        prod(w)?.extra_allowed = true;
        let o = w.objects.iter_mut().find(|o| o.node == Node::Content(INDEX))?;
        let Body::Index { children, .. } = &mut o.body else { return None };
        children.push(Child { digest: 30, platform: Some("linux/386".into()), attests: false });
        Some(())
    }),
    ("another issuer vouches for the name", |w, rng| {
        let issuer = rng.pick(&[Some("https://issuer.evil.test".to_owned()), None]);
        for c in w.statements.iter_mut().flat_map(|s| &mut s.certificates) {
            c.holder.issuer.clone_from(&issuer);
        }
        Some(())
    }),
    ("the builder's rule takes no runner of one's own", |w, _| {
        let Signer::Identity(rule) = &mut prod(w)?.builders[0].signer else { return None };
        rule.ext.retain(|(name, _)| *name != "runnerEnvironment");
        rule.ext.push(("runnerEnvironment", "github-hosted".into()));
        for c in w.statements.iter_mut().flat_map(|s| &mut s.certificates) {
            c.holder.runner = Some("self-hosted".into());
        }
        every_build(w, |b| b.runner = None);
        Some(())
    }),
    ("a submodule that nobody allows", |w, rng| {
        let known = rng.pick(&[OS, 56]);
        every_build(w, |b| b.deps.push(dep("submodule", known, "x.test/y")));
        let mut rule = input("submodule");
        match rng.below(3) {
            0 => rule.digests = vec![OS],
            1 => rule.allow = Some(vec!["x.test/*".into()]),
            _ => rule.chain = true,
        }
        prod(w)?.inputs.push(rule);
        Some(())
    }),
    ("the attestation manifest is asked for", |w, _| {
        let Some(Body::Index { children, .. }) = w.document(INDEX) else { return None };
        w.ask.digest = children.iter().find(|c| c.attests)?.digest;
        Some(())
    }),
    ("the index is asked for", |w, _| {
        has(w.document(INDEX).is_some() && w.ask.digest != INDEX)?;
        w.ask.digest = INDEX;
        Some(())
    }),
    ("another child is asked for", |w, _| {
        has(
            matches!(w.document(INDEX), Some(Body::Index { children, .. }) if children.iter().any(|c| c.digest == M_ARM)),
        )?;
        w.ask.digest = M_ARM;
        w.ask.platform = None;
        Some(())
    }),
    // ---- certificates ----
    ("the certificate contradicts the provenance", |w, rng| {
        let h = &mut a_certificate(w, rng)?.holder;
        match rng.below(6) {
            0 => h.repository = Some("https://git.acme.test/globex/evil".into()),
            1 => h.id = Some("6666".into()),
            2 => h.commit = Some(9),
            3 => h.reference = Some("refs/heads/evil".into()),
            4 => h.runner = Some("self-hosted".into()),
            _ => h.trigger = Some("pull_request_target".into()),
        }
        Some(())
    }),
    ("the provenance leaves out what the certificate says", |w, rng| {
        has(w.statements.iter().any(|s| !s.certificates.is_empty()))?;
        let field = rng.below(3);
        every_build(w, |b| match (field, &mut b.source) {
            (0, _) => b.trigger = None,
            (1, _) => b.runner = None,
            (_, Some(source)) => source.id = None,
            _ => {}
        });
        Some(())
    }),
    ("another repository of the same name", |w, rng| {
        prod(w)?.source.as_mut()?.id = Some("4242".into());
        a_certificate(w, rng)?.holder.id = Some(rng.pick(&["4242", "6666"]).into());
        every_build(w, |b| {
            if let Some(source) = &mut b.source {
                source.id = None;
            }
        });
        Some(())
    }),
    ("the certificate is of another name", |w, rng| {
        let san = rng.pick(&[
            "https://ci.acme.test/main.evil",
            "https://evil.test/?https://ci.acme.test/main",
            "https://ci.acme.test/main/../x",
        ]);
        a_certificate(w, rng)?.holder.san = san.into();
        Some(())
    }),
    ("the certificate is of another issuer", |w, rng| {
        let issuer =
            rng.pick(&[None, Some("https://issuer.evil.test".to_owned()), Some(format!("{ISSUER}/"))]);
        a_certificate(w, rng)?.holder.issuer = issuer;
        Some(())
    }),
    ("nobody trusted vouches for the certificate", |w, rng| {
        a_certificate(w, rng)?.vouched = false;
        Some(())
    }),
    ("nobody proves when the certificate signed", |w, rng| {
        let c = a_certificate(w, rng)?;
        c.proven = None;
        c.until = rng.pick(&[c.until, T0 + HOUR + 1800]);
        Some(())
    }),
    ("proven for a time after its receipt", |w, rng| {
        let late = rng.pick(&[120, 121, DAY]);
        let s = a_keyless_build(w, rng)?;
        let received = s.received;
        s.certificates[0].proven = Some(received + late);
        Some(())
    }),
    ("proven before the build says it ended", |w, rng| {
        let finished = T0 + HOUR + 600;
        let early = rng.pick(&[119, 121, 599, 601, DAY]);
        let c = a_certificate(w, rng)?;
        c.proven = Some(finished - early);
        Some(())
    }),
    ("the rule's window is about the signing time", |w, rng| {
        let (from, until) = rng.pick(&[
            (None, Some(T0 + HOUR + 1500)),
            (Some(T0 + HOUR + 1500), None),
            (Some(T0 + HOUR + 1260), Some(T0 + HOUR + 1261)),
        ]);
        has(w.statements.iter().any(|s| !s.certificates.is_empty()))?;
        let rule = prod(w)?.builders.first_mut()?;
        (rule.from, rule.until) = (from, until);
        Some(())
    }),
    ("old provenance without times", |w, rng| {
        let old = rng.pick(&[DAY, 40 * DAY]);
        a_certificate(w, rng)?.proven = Some(T0 - old);
        every_build(w, |b| (b.started, b.finished) = (None, None));
        prod(w)?.max_age = Some(30 * DAY);
        Some(())
    }),
    ("a copy with another certificate", |w, rng| {
        let original = a_keyless_build(w, rng)?.clone();
        let at = copy(w, &original);
        let copied = &mut w.statements[at];
        copied.payload = original.payload;
        copied.received += rng.pick(&[-600, 0, 600]);
        let c = &mut copied.certificates[0];
        match rng.below(5) {
            0 => (c.vouched, c.proven) = (false, Some(T0 + HOUR)),
            1 => c.proven = None,
            2 => c.proven = c.proven.map(|t| t - 600),
            3 => c.proven = Some(copied.received + DAY),
            _ => c.holder.runner = Some("self-hosted".into()),
        }
        Some(())
    }),
    ("a stranger's certificate beside the key", |w, rng| {
        let s = a_build(w, rng)?;
        let holder = Holder {
            san: "https://stranger.test".into(),
            issuer: Some(ISSUER.into()),
            runner: None,
            repository: None,
            id: None,
            commit: None,
            reference: None,
            trigger: None,
        };
        let (after, until) = (s.received - 60, s.received + 540);
        s.certificates.push(Certificate { holder, vouched: true, after, until, proven: Some(after) });
        Some(())
    }),
    ("the builder of GitHub's first attestations", |w, rng| {
        has(w.statements.iter().any(|s| !s.certificates.is_empty()))?;
        a_certificate(w, rng)?;
        every_build(w, |b| b.builder = "https://github.com/actions/runner/github-hosted".into());
        Some(())
    }),
    // ---- signers ----
    ("a statement is removed", |w, rng| {
        let at = rng.below(w.statements.len());
        has(!w.statements.is_empty())?;
        w.statements.remove(at);
        Some(())
    }),
    ("an object is removed", |w, rng| {
        has(!w.objects.is_empty())?;
        let at = rng.below(w.objects.len());
        w.objects.remove(at);
        Some(())
    }),
    ("signed by a stranger", |w, rng| {
        let s = a_build(w, rng)?;
        s.signers = vec![K_STRANGER];
        s.certificates.clear();
        Some(())
    }),
    ("everything built is signed by a stranger", |w, _| {
        for s in &mut w.statements {
            if matches!(s.claim, Claim::Build(_)) {
                s.signers = vec![K_STRANGER];
                s.certificates.clear();
            }
        }
        Some(())
    }),
    ("unverified", |w, rng| {
        has(!w.statements.is_empty())?;
        let at = rng.below(w.statements.len());
        w.statements[at].signers.clear();
        w.statements[at].certificates.clear();
        Some(())
    }),
    ("no statement of a build", |w, _| {
        w.statements.retain(|s| !matches!(s.claim, Claim::Build(_)));
        Some(())
    }),
    ("a key is revoked", |w, rng| {
        let key = rng.pick(&[K_CI, K_CI, K_CI2, K_VCS, K_COLLECTOR, K_PERSON]);
        w.keys[key as usize].revoked = Some(Since::Ever);
        Some(())
    }),
    ("a key is revoked from a moment on", |w, rng| {
        let key = rng.pick(&[K_CI, K_CI, K_CI2, K_VCS, K_COLLECTOR, K_PERSON]);
        let mut moments: Vec<i64> = w.statements.iter().map(|s| s.received).collect();
        moments.push(0);
        w.keys[key as usize].revoked = Some(Since::Minute(rng.pick(&moments) + rng.pick(&[-1, 0, 1])));
        Some(())
    }),
    ("a key is not effective yet", |w, rng| {
        let key = rng.pick(&[K_CI, K_CI2, K_VCS, K_COLLECTOR, K_PERSON]);
        w.keys[key as usize].effective = false;
        Some(())
    }),
    ("a key has a window", |w, rng| {
        let key = &mut w.keys[rng.pick(&[K_CI, K_CI2, K_VCS, K_COLLECTOR, K_PERSON]) as usize];
        match rng.below(4) {
            0 => key.from = Some(T0 + 2 * HOUR + rng.pick(&[0, 1, 60, 61])),
            1 => key.until = Some(T0 + 2 * HOUR + rng.pick(&[0, 1, 60, 61])),
            2 => key.until = Some(T0 + DAY),
            _ => key.from = Some(NOW),
        }
        Some(())
    }),
    ("a rule has a window", |w, rng| {
        let at = T0 + rng.pick(&[1, 2, 2]) * HOUR + rng.pick(&[0, 1, 60, 61]);
        let from = rng.chance(50);
        let p = prod(w)?;
        let (f, u) = match rng.below(3) {
            0 => p.builders.first_mut().map(|r| (&mut r.from, &mut r.until))?,
            1 => p.sources.first_mut().map(|r| (&mut r.from, &mut r.until))?,
            _ => p.registries.first_mut().map(|r| (&mut r.from, &mut r.until))?,
        };
        *(if from { f } else { u }) = Some(at);
        Some(())
    }),
    ("signed by two", |w, rng| {
        let extra = rng.pick(&[K_STRANGER, K_CI2, K_CI]);
        let s = a_build(w, rng)?;
        s.signers.push(extra);
        s.signers.sort_unstable();
        s.signers.dedup();
        Some(())
    }),
    ("a digest set in conflict", |w, rng| {
        let at = rng.below(w.statements.len());
        let s = w.statements.get_mut(at)?;
        let set = rng.below(s.subjects.len());
        let Some(Node::Content(_)) = s.subjects[set].first() else { return None };
        let longer = rng.pick(&[Node::Middle as fn(u32) -> Node, Node::Wide]);
        s.subjects[set].retain(|n| !matches!(n, Node::Middle(_) | Node::Wide(_)));
        s.subjects[set].push(longer(rng.pick(&[90, 91])));
        Some(())
    }),
    ("a digest set that agrees", |w, rng| {
        let at = rng.below(w.statements.len());
        let s = w.statements.get_mut(at)?;
        let set = rng.below(s.subjects.len());
        let Some(Node::Content(n)) = s.subjects[set].first().copied() else { return None };
        s.subjects[set].push(rng.pick(&[Node::Middle(n), Node::Wide(n)]));
        Some(())
    }),
    ("sent twice", |w, rng| {
        has(!w.statements.is_empty())?;
        let s = w.statements[rng.below(w.statements.len())].clone();
        let at = copy(w, &s);
        w.statements[at].payload = s.payload;
        w.statements[at].received += rng.pick(&[1, 5]);
        Some(())
    }),
    ("noise by strangers", |w, rng| {
        has(!w.statements.is_empty())?;
        for _ in 0..rng.pick(&[1, 2, 25]) {
            let s = w.statements[rng.below(w.statements.len())].clone();
            let at = copy(w, &s);
            w.statements[at].signers = rng.pick(&[vec![], vec![K_STRANGER]]);
            w.statements[at].certificates.clear();
        }
        Some(())
    }),
    ("another predicate", |w, _| {
        let asked = w.ask.digest;
        say(w, T0 + HOUR, about(&[asked]), K_CI, Claim::Other);
        Some(())
    }),
    ("a statement is about something else", |w, rng| {
        let at = rng.below(w.statements.len());
        let s = w.statements.get_mut(at)?;
        s.subjects = about(&[70]);
        Some(())
    }),
    ("only one platform is built", |w, _| {
        has(is_asked(w, Node::Content(INDEX)))?;
        for s in &mut w.statements {
            if matches!(s.claim, Claim::Build(_))
                && s.subjects.iter().flatten().any(|n| matches!(n, Node::Content(INDEX | M_ARM)))
            {
                s.subjects = about(&[M_AMD]);
            }
        }
        Some(())
    }),
    // ---- builders ----
    ("a builder that no rule knows", |w, rng| {
        build_of(a_build(w, rng)?)?.builder = "https://evil.test".into();
        Some(())
    }),
    ("a builder of another signer", |w, rng| {
        prod(w)?.builders.push(builder_rule("third", K_STRANGER, "https://third.test/x"));
        every_build(w, |b| b.builder = "https://third.test/x".into());
        if rng.chance(30) {
            prod(w)?.build.as_mut()?.of = Some(vec!["ci".into()]);
            prod(w)?.build.as_mut()?.at_least = 1;
        }
        Some(())
    }),
    ("one signer speaks for another builder", |w, rng| {
        has(w.policies[0].builders.len() > 1)?;
        let b = build_of(a_build(w, rng)?)?;
        b.builder = if b.builder == CI { CI2.into() } else { CI.into() };
        Some(())
    }),
    ("a builder beside the glob", |w, rng| {
        build_of(a_build(w, rng)?)?.builder = rng
            .pick(&["https://ci.acme.test/a/b", "https://ci.acme.testmain", "https://ci.acme.test/other"])
            .into();
        Some(())
    }),
    ("an unknown build type", |w, _| {
        every_build(w, |b| b.adapter = None);
        Some(())
    }),
    ("a build type that is not allowed", |w, _| {
        every_build(w, |b| b.adapter = Some("slsa-github-generator"));
        prod(w)?.builders.iter_mut().for_each(|r| r.types = Some(vec!["generic"]));
        Some(())
    }),
    ("the level is too low", |w, rng| {
        prod(w)?.build.as_mut()?.min_level = rng.pick(&[3, 4]);
        Some(())
    }),
    ("on one's own runner", |w, rng| {
        build_of(a_build(w, rng)?)?.runner = Some("self-hosted".into());
        prod(w)?.build.as_mut()?.min_level = rng.pick(&[1, 2]);
        Some(())
    }),
    ("another trigger", |w, rng| {
        build_of(a_build(w, rng)?)?.trigger = rng.pick(&[None, Some("pull_request".to_owned())]);
        if rng.chance(70) {
            prod(w)?.build.as_mut()?.triggers = Some(vec!["push".into()]);
        }
        Some(())
    }),
    ("an unknown parameter", |w, rng| {
        let b = build_of(a_build(w, rng)?)?;
        b.unknown.push("extra.flag".into());
        b.params.push(("extra.flag".into(), "1".into()));
        if rng.chance(20) {
            prod(w)?.build.as_mut()?.unknown_allowed = true;
        }
        Some(())
    }),
    ("another value of a parameter", |w, rng| {
        let b = build_of(a_build(w, rng)?)?;
        b.params.retain(|(p, _)| p != "target");
        b.params.push(("target".into(), "debug".into()));
        let section = prod(w)?.build.as_mut()?;
        if section.params.is_empty() {
            section.params.push(("target".into(), vec!["release".into()]));
        }
        Some(())
    }),
    ("one more builder is wanted", |w, _| {
        prod(w)?.builders.push(builder_rule("third", K_STRANGER, "https://third.test"));
        let section = prod(w)?.build.as_mut()?;
        section.of = None;
        section.at_least = 2;
        Some(())
    }),
    ("two builders of one domain", |w, _| {
        has(w.policies[0].build.as_ref()?.at_least == 2)?;
        let p = prod(w)?;
        p.builders.push(builder_rule("third", K_STRANGER, "https://third.test"));
        p.build.as_mut()?.of = None;
        p.builders[0].domain = Some("one".into());
        p.builders[1].domain = Some("one".into());
        Some(())
    }),
    ("two rules for one builder", |w, _| {
        let p = prod(w)?;
        let mut again = p.builders[0].clone();
        again.id = "again".into();
        again.domain = Some(p.builders[0].domain.clone().unwrap_or_else(|| p.builders[0].id.clone()));
        p.builders.push(again);
        p.builders.push(builder_rule("third", K_STRANGER, "https://third.test"));
        p.build.as_mut()?.of = None;
        p.build.as_mut()?.at_least = 2;
        Some(())
    }),
    ("rules of two domains name one signer", |w, rng| {
        let s = a_build(w, rng)?.clone();
        let mut again = w.policies[0].builders[0].clone();
        again.id = "again".into();
        again.domain = Some("other".into());
        match &mut again.signer {
            Signer::Keys(keys) => {
                w.keys[*keys.first()? as usize].service = Some("forge".into());
                again.signer = Signer::Service("forge".into());
            }
            Signer::Identity(rule) => {
                rule.san = ("glob", "https://ci.*.test/*".into());
            }
            Signer::Service(_) => return None,
        }
        let p = prod(w)?;
        p.builders.push(again);
        p.build.as_mut()?.of = None;
        p.build.as_mut()?.at_least = 2;
        if rng.chance(60) {
            copy(w, &s);
        }
        Some(())
    }),
    ("another build of another commit", |w, rng| {
        let s = a_build(w, rng)?.clone();
        let at = copy(w, &s);
        build_of(&mut w.statements[at])?.source.as_mut()?.commit = Some(2);
        if rng.chance(50) {
            let evidence = w.statements.iter().find(|s| matches!(s.claim, Claim::Commit(_)))?.clone();
            let at = copy(w, &evidence);
            w.statements[at].subjects = vec![vec![Node::Git(2)]];
        }
        Some(())
    }),
    ("builders do not agree", |w, rng| {
        let s = a_build(w, rng)?.clone();
        let at = copy(w, &s);
        let p = prod(w)?;
        let source = p.source.as_mut()?;
        source.unique = false;
        source.signed = false;
        source.review = None;
        p.build.as_mut()?.agree = true;
        build_of(&mut w.statements[at])?.source.as_mut()?.commit = Some(2);
        if let Some(evidence) = w.statements.iter().find(|s| matches!(s.claim, Claim::Commit(_))).cloned() {
            let at = copy(w, &evidence);
            w.statements[at].subjects = vec![vec![Node::Git(2)]];
        }
        Some(())
    }),
    // ---- source ----
    ("no source", |w, rng| {
        has(w.policies[0].source.is_some())?;
        let b = build_of(a_build(w, rng)?)?;
        match &mut b.source {
            Some(source) if rng.chance(50) => source.commit = None,
            source => *source = None,
        }
        Some(())
    }),
    ("built from another repository", |w, rng| {
        has(w.policies[0].source.is_some())?;
        build_of(a_build(w, rng)?)?.source.as_mut()?.repository = format!("{REPO}-fork");
        Some(())
    }),
    ("built from a repository of another id", |w, rng| {
        has(w.policies[0].source.as_ref()?.id.is_some())?;
        build_of(a_build(w, rng)?)?.source.as_mut()?.id = Some("666".into());
        Some(())
    }),
    ("built from another ref", |w, rng| {
        prod(w)?.source.as_mut()?.refs.get_or_insert_with(|| vec!["refs/heads/main".into()]);
        build_of(a_build(w, rng)?)?.source.as_mut()?.reference = rng.pick(&[
            None,
            Some("refs/heads/a/b".to_owned()),
            Some("refs/tags/main".to_owned()),
            Some("xrefs/heads/main".to_owned()),
        ]);
        Some(())
    }),
    ("the commit is of another repository", |w, _| {
        a_commit(w)?.repository = format!("{REPO}-fork");
        Some(())
    }),
    ("the commit's repository has another id", |w, rng| {
        prod(w)?.source.as_mut()?.id = Some("4242".into());
        a_commit(w)?.id = rng.pick(&[None, Some("666".to_owned())]);
        Some(())
    }),
    ("the commit is on another ref", |w, _| {
        a_commit(w)?.reference = "refs/pull/1/head".into();
        prod(w)?.source.as_mut()?.refs = Some(vec!["refs/heads/*".into()]);
        Some(())
    }),
    ("the commit is vouched for by a stranger", |w, rng| {
        let key = rng.pick(&[vec![K_STRANGER], vec![K_CI], vec![]]);
        let s = w.statements.iter_mut().find(|s| matches!(s.claim, Claim::Commit(_)))?;
        s.signers = key;
        Some(())
    }),
    ("the commit is unknown", |w, _| {
        a_commit(w)?;
        w.statements.retain(|s| !matches!(s.claim, Claim::Commit(_)));
        Some(())
    }),
    ("a second word on the commit", |w, rng| {
        let s = w.statements.iter().find(|s| matches!(s.claim, Claim::Commit(_)))?.clone();
        let at = copy(w, &s);
        w.statements[at].signers = vec![K_VCS2];
        if let Claim::Commit(c) = &mut w.statements[at].claim {
            match rng.below(4) {
                0 => c.reference = "refs/heads/next".into(),
                1 => c.repository = format!("{REPO}-fork"),
                2 => c.updated = T0 + DAY,
                _ => c.review = None,
            }
        }
        let mut rule: SourceRule = w.policies[0].sources.first()?.clone();
        rule.id = "vcs2".into();
        rule.signer = Signer::Keys(vec![K_VCS2]);
        rule.max_level = rng.pick(&[0, 1, 4]);
        prod(w)?.sources.push(rule);
        Some(())
    }),
    ("the summary is of another verifier", |w, rng| {
        the_only_summary(w)?.verifier =
            rng.pick(&["https://verify.acme.test", "https://verify.evil.test/source"]).to_owned();
        let rule = prod(w)?.sources.first_mut()?;
        if rng.chance(70) {
            rule.verifier = Some(rng.pick(&[
                ("exact", VERIFIER.to_owned()),
                ("prefix", "https://verify.acme.test/".to_owned()),
                ("glob", "https://verify.acme.test/*".to_owned()),
            ]));
        }
        Some(())
    }),
    ("the summary is of another repository", |w, rng| {
        let only = rng.chance(70);
        let summary = if only { the_only_summary(w)? } else { a_summary(w)? };
        summary.repository = rng.pick(&[format!("{REPO}-fork"), "registry.acme.test/acme/app".to_owned()]);
        Some(())
    }),
    ("the summary is of other refs", |w, rng| {
        the_only_summary(w)?.refs =
            rng.pick(&[vec![], vec!["refs/heads/next".to_owned()], vec!["refs/tags/main".to_owned()]]);
        if rng.chance(20) {
            let b = build_of(a_build(w, rng)?)?;
            b.source.as_mut()?.reference = None;
        }
        Some(())
    }),
    ("the summary names no id", |w, _| {
        the_only_summary(w)?;
        prod(w)?.source.as_mut()?.id = Some("4242".into());
        Some(())
    }),
    ("the summary failed", |w, rng| {
        let only = rng.chance(80);
        let summary = if only { the_only_summary(w)? } else { a_summary(w)? };
        summary.passed = false;
        if rng.chance(50) {
            summary.level = None;
        }
        Some(())
    }),
    ("the summary gives a lower level", |w, rng| {
        let only = rng.chance(50);
        let summary = if only { the_only_summary(w)? } else { a_summary(w)? };
        summary.level = rng.pick(&[None, Some(0), Some(1)]);
        prod(w)?.source.as_mut()?.min_level = rng.pick(&[1, 2]);
        Some(())
    }),
    ("the rule gives the summary less than it says", |w, rng| {
        the_only_summary(w)?.level = Some(4);
        let level = rng.pick(&[0, 1, 2]);
        prod(w)?.sources.first_mut()?.max_level = level;
        prod(w)?.source.as_mut()?.min_level = level + 1;
        Some(())
    }),
    ("the summary lacks a property", |w, rng| {
        a_summary(w)?.properties = rng.pick(&[vec![], vec!["TAG_HYGIENE_NOT".to_owned()]]);
        prod(w)?.source.as_mut()?.properties = Some(vec!["TAG_HYGIENE".into()]);
        Some(())
    }),
    ("only a commit statement where a property is wanted", |w, _| {
        a_commit(w)?;
        w.statements.retain(|s| !matches!(s.claim, Claim::Summary(_)));
        prod(w)?.source.as_mut()?.properties = Some(vec!["TAG_HYGIENE".into()]);
        Some(())
    }),
    ("a summary reviews nothing", |w, _| {
        the_only_summary(w)?;
        prod(w)?.source.as_mut()?.review = Some(1);
        Some(())
    }),
    ("the summary is by a stranger", |w, rng| {
        the_only_summary(w)?;
        let key = rng.pick(&[vec![K_STRANGER], vec![]]);
        let s = w.statements.iter_mut().find(|s| matches!(s.claim, Claim::Summary(_)))?;
        s.signers = key;
        Some(())
    }),
    ("a second summary", |w, rng| {
        a_summary(w)?;
        let s = w.statements.iter().find(|s| matches!(s.claim, Claim::Summary(_)))?.clone();
        let at = copy(w, &s);
        w.statements[at].signers = vec![K_VCS2];
        if let Claim::Summary(second) = &mut w.statements[at].claim {
            match rng.below(4) {
                0 => second.passed = false,
                1 => second.level = Some(4),
                2 => second.properties = vec!["EXTRA".into()],
                _ => second.refs = vec!["refs/heads/next".into()],
            }
        }
        let mut rule: SourceRule = w.policies[0].sources.first()?.clone();
        rule.id = "vcs2".into();
        rule.signer = Signer::Keys(vec![K_VCS2]);
        rule.max_level = rng.pick(&[0, 1, 4]);
        rule.verifier = rng.pick(&[None, Some(("exact", "https://verify.evil.test".to_owned()))]);
        prod(w)?.sources.push(rule);
        Some(())
    }),
    ("no review", |w, rng| {
        let c = a_reviewed_commit(w)?;
        match &mut c.review {
            Some((_, approvers)) if rng.chance(50) => approvers.clear(),
            review => *review = None,
        }
        Some(())
    }),
    ("a review of another revision", |w, _| {
        let c = a_reviewed_commit(w)?;
        c.review.as_mut()?.0 = 3;
        Some(())
    }),
    ("a review by oneself", |w, rng| {
        prod(w)?.source.as_mut()?.review = Some(2);
        let c = a_reviewed_commit(w)?;
        let ann = (rng.pick(&["ann", "Ann Renamed"]).to_owned(), Some("id-ann".to_owned()));
        let (_, approvers) = c.review.as_mut()?;
        *approvers.first_mut()? = ann;
        if rng.chance(30) {
            approvers.push(("bob".into(), Some("id-bob".into())));
        }
        Some(())
    }),
    ("one approver twice", |w, _| {
        let (_, approvers) = a_reviewed_commit(w)?.review.as_mut()?;
        *approvers = vec![("bob".into(), Some("id-bob".into())), ("Robert".into(), Some("id-bob".into()))];
        Some(())
    }),
    ("the commit is not signed", |w, rng| {
        let signature = rng.pick(&[None, Some(None), Some(Some(K_STRANGER))]);
        prod(w)?.source.as_mut()?.signed = true;
        put(w, Node::Git(COMMIT), Body::Commit { signature });
        Some(())
    }),
    ("the commit object is unknown", |w, _| {
        has(w.policies[0].source.as_ref()?.signed)?;
        w.objects.retain(|o| o.node != Node::Git(COMMIT));
        Some(())
    }),
    ("the source level is too low", |w, _| {
        has(!w.policies[0].sources.is_empty())?;
        prod(w)?.sources[0].max_level = 1;
        prod(w)?.source.as_mut()?.min_level = 2;
        Some(())
    }),
    // ---- inputs ----
    ("an input is not pinned", |w, rng| {
        has(!w.policies[0].inputs.is_empty())?;
        let b = build_of(a_build(w, rng)?)?;
        let d = b.deps.first_mut()?;
        (d.digest, d.wide) = (None, None);
        Some(())
    }),
    ("an input from elsewhere", |w, rng| {
        let b = build_of(a_build(w, rng)?)?;
        b.deps.first_mut()?.resource = rng.pick(&[
            Some("docker.io/library/evil".to_owned()),
            Some("registry.acme.test/base/a/b".to_owned()),
        ]);
        Some(())
    }),
    ("an input's digests disagree", |w, rng| {
        let d = build_of(a_build(w, rng)?)?.deps.first_mut()?;
        d.wide = Some(rng.pick(&[92, d.digest?]));
        Some(())
    }),
    ("another input", |w, rng| {
        let b = build_of(a_build(w, rng)?)?;
        b.deps.first_mut()?.digest = Some(55);
        Some(())
    }),
    ("an input of a role nobody asks about", |w, rng| {
        build_of(a_build(w, rng)?)?.deps.push(dep("submodule", 56, "x.test/y"));
        Some(())
    }),
    ("an input that must be listed", |w, rng| {
        let role = build_of(a_build(w, rng)?)?.deps.first()?.role;
        let mut rule = input(role);
        rule.digests = vec![rng.pick(&[OS, 55])];
        prod(w)?.inputs.push(rule);
        Some(())
    }),
    ("the base's own chain is broken", |w, rng| {
        let at = w
            .statements
            .iter()
            .position(|s| s.subjects == about(&[OS]) && matches!(s.claim, Claim::Build(_)))?;
        match rng.below(4) {
            0 => drop(w.statements.remove(at)),
            1 => w.statements[at].signers = vec![K_STRANGER],
            2 => build_of(&mut w.statements[at])?.builder = "https://evil.test".into(),
            _ => build_of(&mut w.statements[at])?.adapter = None,
        }
        Some(())
    }),
    ("the base below is broken", |w, rng| {
        let at = w
            .statements
            .iter()
            .position(|s| s.subjects == about(&[TOOL_IMAGE]) && matches!(s.claim, Claim::Build(_)))?;
        match rng.below(3) {
            0 => drop(w.statements.remove(at)),
            1 => w.statements[at].signers = vec![K_STRANGER],
            _ => build_of(&mut w.statements[at])?.builder = "https://evil.test".into(),
        }
        Some(())
    }),
    ("bases in a circle", |w, rng| {
        let below = w.policies.iter_mut().find(|p| p.name == "base")?;
        for role in ["baseImage", "builderImage"] {
            if !below.inputs.iter().any(|i| i.role == role) {
                below.inputs.push(super::world::InputRule { chain: true, ..input(role) });
            }
        }
        let targets = if rng.chance(50) { vec![TOOL_IMAGE] } else { vec![OS, TOOL_IMAGE] };
        for s in &mut w.statements {
            if targets.iter().any(|t| s.subjects == about(&[*t])) {
                build_of(s)?.deps = vec![dep("baseImage", OS, BASE)];
            }
        }
        for digest in [OS, TOOL_IMAGE] {
            if w.document(digest).is_none() {
                let body = Body::Manifest { image: true, config: digest + 50, base: None };
                w.objects.push(Object { node: Node::Content(digest), received: T0, body });
            }
        }
        Some(())
    }),
    ("a base that rests on the image itself", |w, _| {
        let asked = w.ask.digest;
        let s = w
            .statements
            .iter_mut()
            .find(|s| s.subjects == about(&[OS]) && matches!(s.claim, Claim::Build(_)))?;
        build_of(s)?.deps = vec![dep("baseImage", asked, APP)];
        let below = w.policies.iter_mut().find(|p| p.name == "base")?;
        below.inputs = vec![super::world::InputRule { chain: true, ..input("baseImage") }];
        if w.document(OS).is_none() {
            let body = Body::Manifest { image: true, config: 60, base: None };
            w.objects.push(Object { node: Node::Content(OS), received: T0, body });
        }
        Some(())
    }),
    ("too deep", |w, rng| {
        has(w.story.contains(&"chained base"))?;
        let below = w.policies.iter_mut().find(|p| p.name == "base")?;
        let mut deeper = super::world::InputRule { chain: true, ..input("builderImage") };
        deeper.depth = Some(rng.pick(&[1, 1, 1, 2]));
        below.inputs = vec![deeper];
        let s = w
            .statements
            .iter_mut()
            .find(|s| s.subjects == about(&[OS]) && matches!(s.claim, Claim::Build(_)))?;
        let b = build_of(s)?;
        b.deps = vec![dep("builderImage", TOOL_IMAGE, TOOL)];
        let free = Build { deps: Vec::new(), ..b.clone() };
        say(w, T0, about(&[TOOL_IMAGE]), K_CI, Claim::Build(free));
        for digest in [OS, TOOL_IMAGE] {
            put(w, Node::Content(digest), Body::Manifest { image: true, config: digest + 50, base: None });
        }
        Some(())
    }),
    ("the base is unknown", |w, _| {
        let chained = |s: &Statement| matches!(&s.claim, Claim::Build(b) if b.deps.iter().any(|d| d.digest == Some(OS)));
        has(w.policies[0].inputs.iter().any(|i| i.chain))?;
        has(w.statements.iter().any(chained))?;
        every_build(w, |b| {
            if let Some(d) = b.deps.first_mut() {
                d.digest = Some(57);
            }
        });
        Some(())
    }),
    ("the annotation names another base", |w, rng| {
        let denied = rng.chance(80);
        let p = prod(w)?;
        match p.inputs.iter_mut().find(|i| i.role == "baseImage") {
            Some(rule) => rule.undeclared_denied = denied,
            None => {
                p.inputs.push(super::world::InputRule { undeclared_denied: denied, ..input("baseImage") })
            }
        }
        let mut named = false;
        for o in &mut w.objects {
            if let (Node::Content(INDEX | M_AMD), Body::Index { base, .. } | Body::Manifest { base, .. }) =
                (o.node, &mut o.body)
            {
                *base = Some(58);
                named = true;
            }
        }
        has(named)
    }),
    ("the layers are of another base", |w, rng| {
        let p = prod(w)?;
        if !p.inputs.iter().any(|i| i.role == "baseImage") {
            p.inputs.push(input("baseImage"));
            every_build(w, |b| b.deps.push(dep("baseImage", OS, BASE)));
        }
        let rule = prod(w)?.inputs.iter_mut().find(|i| i.role == "baseImage")?;
        rule.undeclared_denied = true;
        let config = super::generator::OS_CONFIG;
        let platform = rng.pick(&["linux/amd64", "linux/amd64", "windows/amd64"]).to_owned();
        put(w, Node::Content(OS), Body::Manifest { image: true, config, base: None });
        put(w, Node::Content(config), Body::Config { platform, layers: vec![1, 9] });
        let (m, c) = (M_AMD, super::generator::C_AMD);
        put(w, Node::Content(m), Body::Manifest { image: true, config: c, base: None });
        put(
            w,
            Node::Content(c),
            Body::Config { platform: "linux/amd64".into(), layers: vec![1, rng.pick(&[2, 9]), 3] },
        );
        Some(())
    }),
    // ---- registry ----
    ("not pushed", |w, rng| {
        an_event(w, rng)?;
        w.statements.retain(|s| !matches!(s.claim, Claim::Event(_)));
        Some(())
    }),
    ("pushed elsewhere", |w, rng| {
        let e = event_of(an_event(w, rng)?)?;
        e.resource = "registry.acme.test/acme/other".into();
        Some(())
    }),
    ("reported by a stranger", |w, rng| {
        let key = rng.pick(&[vec![K_STRANGER], vec![K_CI], vec![]]);
        an_event(w, rng)?.signers = key;
        Some(())
    }),
    ("reported for a repository beyond the rule", |w, _| {
        let rule = prod(w)?.registries.first_mut()?;
        rule.repositories = Some(vec!["registry.acme.test/staging/**".into()]);
        Some(())
    }),
    ("the first push is missing", |w, _| {
        has(w.story.contains(&"promoted"))?;
        w.statements.retain(|s| !matches!(&s.claim, Claim::Event(e) if e.resource == STAGING));
        Some(())
    }),
    ("promoted from another digest or place", |w, rng| {
        for s in &mut w.statements {
            if let Claim::Event(Event { promotion: Some((from, digest)), .. }) = &mut s.claim {
                if rng.chance(50) { *digest = 59 } else { *from = TOOL.into() }
            }
        }
        has(w.story.contains(&"promoted"))
    }),
    ("pushed here instead of promoted", |w, _| {
        has(w.story.contains(&"promoted"))?;
        for s in &mut w.statements {
            if let Claim::Event(e) = &mut s.claim {
                e.promotion = None;
            }
        }
        Some(())
    }),
    ("the path ends elsewhere", |w, _| {
        prod(w)?.registry.as_mut()?.path = Some(vec!["registry.acme.test/live/*".into()]);
        Some(())
    }),
    ("the path is longer", |w, _| {
        prod(w)?.registry.as_mut()?.path =
            Some(vec!["registry.acme.test/lab/*".into(), "registry.acme.test/staging/*".into(), APP.into()]);
        Some(())
    }),
    // ---- time ----
    ("built before the commit was pushed", |w, rng| {
        a_commit(w)?.updated = T0 + HOUR + rng.pick(&[60, 119, 120, 121, 601, 4 * HOUR]);
        Some(())
    }),
    ("pushed before it was built", |w, rng| {
        let at = T0 + HOUR - rng.pick(&[60, 119, 120, 121, 601, 4 * HOUR]);
        an_event(w, rng)?;
        for s in &mut w.statements {
            if let Claim::Event(e) = &mut s.claim {
                e.occurred = at;
            }
        }
        Some(())
    }),
    ("claims to be from the future", |w, rng| {
        let s = a_build(w, rng)?;
        let at = s.received + rng.pick(&[60, 119, 120, 121, 601, DAY]);
        let b = build_of(s)?;
        if rng.chance(50) {
            b.finished = Some(at)
        } else {
            b.started = Some(at)
        }
        Some(())
    }),
    ("no time is claimed", |w, _| {
        every_build(w, |b| {
            b.started = None;
        });
        Some(())
    }),
    ("no time at all is claimed", |w, rng| {
        let b = build_of(a_build(w, rng)?)?;
        b.started = None;
        b.finished = None;
        Some(())
    }),
    ("too old", |w, rng| {
        prod(w)?.max_age = Some(rng.pick(&[DAY, 9 * DAY, 10 * DAY]));
        Some(())
    }),
    // ---- system ----
    ("cut at the store's limit", |w, rng| {
        let node = rng.pick(&[
            Node::Content(w.ask.digest),
            Node::Content(w.ask.digest),
            Node::Content(INDEX),
            Node::Content(OS),
            Node::Git(COMMIT),
            Node::Content(88),
        ]);
        // Which objects of a base image are read besides its chain is not part of the answer.
        has(node != Node::Content(OS) || w.policies[0].inputs.iter().any(|i| i.chain))?;
        w.truncated.push(node);
        Some(())
    }),
    ("a damaged row", |w, rng| {
        has(!w.statements.is_empty())?;
        let at = rng.below(w.statements.len());
        w.statements[at].damaged = true;
        Some(())
    }),
    ("a damaged row beside", |w, rng| {
        has(!w.statements.is_empty())?;
        let s = w.statements[rng.below(w.statements.len())].clone();
        let at = copy(w, &s);
        w.statements[at].damaged = true;
        Some(())
    }),
    ("an index that knows the image too", |w, rng| {
        let asked = w.ask.digest;
        has(asked != INDEX)?;
        let children = vec![
            Child { digest: asked, platform: Some("linux/amd64".into()), attests: rng.chance(20) },
            Child { digest: 33, platform: Some(ARM.into()), attests: false },
        ];
        w.objects.push(Object {
            node: Node::Content(34),
            received: T0,
            body: Body::Index { children, base: None },
        });
        if rng.chance(70) {
            let s = a_build(w, rng)?.clone();
            let at = copy(w, &s);
            w.statements[at].subjects = about(&[34]);
            if rng.chance(70) {
                w.statements.retain(|o| o.id != s.id);
            }
        }
        Some(())
    }),
];
