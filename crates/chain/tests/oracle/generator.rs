//! Seeded worlds: a good one, then a few mutations.

use super::{
    generator_more, mutate,
    rng::Rng,
    world::{
        Ask, Body, Build, BuildSection, BuilderRule, Certificate, Child, Claim, Commit, Dependency, Event,
        Holder, Identity, InputRule, Key, Node, Object, Policy, RegistryRule, RegistrySection, Signer,
        Source, SourceRule, SourceSection, Statement, Summary, World,
    },
    world_more::More,
};

pub const APP: &str = "registry.acme.test/acme/app";
pub const BASE: &str = "registry.acme.test/base/os";
pub const TOOL: &str = "registry.acme.test/base/tool";
pub const STAGING: &str = "registry.acme.test/staging/app";
pub const REPO: &str = "git+https://git.acme.test/acme/app";
pub const CI: &str = "https://ci.acme.test/main";
pub const CI2: &str = "https://rebuild.other.test/main";
pub const ISSUER: &str = "https://issuer.acme.test";
pub const AMD: &str = "linux/amd64";
pub const ARM: &str = "linux/arm64/v8";

/// 2026-06-01T00:00:00Z.
pub const T0: i64 = 1_780_272_000;
pub const HOUR: i64 = 3600;
pub const DAY: i64 = 24 * HOUR;
pub const NOW: i64 = T0 + 10 * DAY;

// Keys.
pub const K_CI: u32 = 0;
pub const K_CI2: u32 = 1;
pub const K_VCS: u32 = 2;
pub const K_COLLECTOR: u32 = 3;
pub const K_STRANGER: u32 = 4;
pub const K_PERSON: u32 = 5;
pub const K_VCS2: u32 = 6;
pub const K_TEST: u32 = 7;
pub const K_VERIFIER: u32 = 8;

// Documents.
pub const INDEX: u32 = 1;
pub const M_AMD: u32 = 2;
pub const M_ARM: u32 = 3;
pub const C_AMD: u32 = 4;
pub const C_ARM: u32 = 5;
pub const M_ATTESTS: u32 = 6;
pub const OS: u32 = 10;
pub const OS_CONFIG: u32 = 11;
pub const TOOL_IMAGE: u32 = 12;

pub const COMMIT: u32 = 1;

/// The world of `seed`.
pub fn world(seed: u64) -> World {
    let mut rng = Rng::new(seed);
    let mut world = good(seed, &mut rng);
    let count = rng.pick(&[0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 3]);
    for _ in 0..count {
        mutate::mutate(&mut world, &mut rng);
    }
    part_payloads(&mut world);
    world
}

/// Copies that a later mutation changed are no copies any more.
fn part_payloads(world: &mut World) {
    for i in 0..world.statements.len() {
        let said = |s: &Statement| format!("{:?}{:?}", s.subjects, s.claim);
        let s = &world.statements[i];
        let other = |o: &Statement| o.payload == s.payload && said(o) != said(s);
        if world.statements[..i].iter().any(other) {
            world.statements[i].payload = 1_000 + i as u32;
        }
    }
}

fn key(service: Option<&str>) -> Key {
    Key { effective: true, revoked: None, service: service.map(str::to_owned), from: None, until: None }
}

fn policy(name: &str, resources: &str) -> Policy {
    Policy {
        name: name.into(),
        readable: true,
        expires: None,
        mode: "enforce",
        allow_indeterminate: false,
        resources: vec![resources.into()],
        environments: None,
        priority: 0,
        kinds: None,
        platforms: None,
        extra_allowed: false,
        builders: vec![builder_rule("ci", K_CI, CI)],
        sources: Vec::new(),
        registries: Vec::new(),
        build: Some(BuildSection {
            min_level: 0,
            at_least: 1,
            of: None,
            agree: false,
            triggers: None,
            unknown_allowed: false,
            params: Vec::new(),
        }),
        source: None,
        inputs: Vec::new(),
        registry: None,
        max_age: None,
        skew: None,
        order: None,
        more: More::default(),
    }
}

pub fn builder_rule(id: &str, key: u32, builder: &str) -> BuilderRule {
    BuilderRule {
        id: id.into(),
        domain: None,
        max_level: 3,
        self_hosted_max: 1,
        signer: Signer::Keys(vec![key]),
        builder_id: ("exact", builder.into()),
        types: None,
        from: None,
        until: None,
    }
}

/// Adds a statement; ids and payloads are counted up.
pub fn say(world: &mut World, received: i64, subjects: Vec<Vec<Node>>, signer: u32, claim: Claim) -> usize {
    let id = world.statements.iter().map(|s| s.id + 1).max().unwrap_or(1);
    let statement = Statement {
        id,
        payload: id,
        received,
        subjects,
        signers: vec![signer],
        certificates: Vec::new(),
        claim,
        damaged: false,
    };
    world.statements.push(statement);
    world.statements.len() - 1
}

pub fn about(digests: &[u32]) -> Vec<Vec<Node>> {
    digests.iter().map(|d| vec![Node::Content(*d)]).collect()
}

fn plain_build(builder: &str) -> Build {
    Build {
        builder: builder.into(),
        adapter: Some("generic"),
        source: None,
        params: Vec::new(),
        unknown: Vec::new(),
        trigger: Some("push".into()),
        runner: None,
        deps: Vec::new(),
        started: Some(T0 + HOUR),
        finished: Some(T0 + HOUR + 600),
    }
}

pub fn dep(role: &'static str, digest: u32, resource: &str) -> Dependency {
    Dependency { role, digest: Some(digest), wide: None, resource: Some(resource.into()) }
}

pub fn input(role: &'static str) -> InputRule {
    InputRule {
        role,
        allow: None,
        digests: Vec::new(),
        chain: false,
        depth: None,
        pinned: None,
        undeclared_denied: false,
        tolerate: false,
    }
}

fn object(world: &mut World, node: Node, body: Body) {
    world.objects.push(Object { node, received: T0 + HOUR, body });
}

fn good(seed: u64, rng: &mut Rng) -> World {
    let ask = Ask { digest: INDEX, resource: APP.into(), environment: Some("prod".into()), platform: None };
    let mut world = World {
        seed,
        now: NOW,
        keys: vec![
            key(None),
            key(None),
            key(None),
            key(Some("collector")),
            key(None),
            key(None),
            key(None),
            key(None),
            key(None),
        ],
        policies: Vec::new(),
        statements: Vec::new(),
        objects: Vec::new(),
        truncated: Vec::new(),
        ask,
        story: Vec::new(),
    };
    let mut prod = policy("prod", "registry.acme.test/acme/*");
    let index = rng.chance(55);
    images(&mut world, rng, index);
    subject(&mut world, &mut prod, rng, index);

    let mut build = plain_build(CI);
    if rng.chance(70) {
        expectations(&mut prod, &mut build, rng);
    }
    if rng.chance(65) {
        source(&mut world, &mut prod, &mut build, rng);
    }
    if rng.chance(50) {
        inputs(&mut world, &mut prod, &mut build, rng);
    }
    speak(&mut world, &mut prod, &build, rng, index);
    if rng.chance(30) {
        keyless(&mut world, &mut prod, rng);
    }
    if rng.chance(55) {
        registry(&mut world, &mut prod, rng);
    }
    times(&mut prod, rng);
    world.policies.insert(0, prod);
    generator_more::add(&mut world, rng);
    if rng.chance(15) {
        // A policy of lower priority that could never hold.
        let mut fallback = policy("fallback", "**");
        fallback.priority = -10;
        fallback.builders = vec![builder_rule("nobody", K_STRANGER, "https://nobody.test")];
        world.policies.push(fallback);
    }
    world
}

fn images(world: &mut World, rng: &mut Rng, index: bool) {
    let both = rng.chance(70);
    if index {
        let mut children = vec![Child { digest: M_AMD, platform: Some(AMD.into()), attests: false }];
        if both {
            children.push(Child { digest: M_ARM, platform: Some(ARM.into()), attests: false });
        }
        if rng.chance(30) {
            children.push(Child {
                digest: M_ATTESTS,
                platform: Some("unknown/unknown".into()),
                attests: true,
            });
        }
        object(world, Node::Content(INDEX), Body::Index { children, base: None });
    } else {
        world.ask.digest = M_AMD;
    }
    if !index || rng.chance(60) {
        object(world, Node::Content(M_AMD), Body::Manifest { image: true, config: C_AMD, base: None });
        if rng.chance(60) {
            object(world, Node::Content(C_AMD), Body::Config { platform: AMD.into(), layers: vec![1, 2, 3] });
        }
    }
    if index && both && rng.chance(60) {
        object(world, Node::Content(M_ARM), Body::Manifest { image: true, config: C_ARM, base: None });
        object(world, Node::Content(C_ARM), Body::Config { platform: ARM.into(), layers: vec![1, 2, 4] });
    }
}

fn subject(world: &mut World, prod: &mut Policy, rng: &mut Rng, index: bool) {
    if rng.chance(20) {
        prod.kinds = Some(vec![if index { "image-index" } else { "image-manifest" }]);
    }
    if rng.chance(30) {
        let mut platforms = vec![AMD.to_owned()];
        let both = matches!(world.document(INDEX), Some(Body::Index { children, .. }) if children.iter().any(|c| c.digest == M_ARM));
        if both {
            platforms.push(rng.pick(&["linux/arm64", ARM]).to_owned());
        }
        prod.platforms = Some(platforms);
        prod.extra_allowed = rng.chance(30);
    }
    if rng.chance(20) {
        world.ask.platform = Some(AMD.into());
    }
    if rng.chance(20) {
        prod.environments = Some(vec!["prod".into(), "stage".into()]);
    }
    prod.mode = rng.pick(&["enforce", "enforce", "enforce", "warn", "shadow"]);
    prod.allow_indeterminate = rng.chance(20);
    if rng.chance(20) {
        prod.expires = Some(NOW + rng.pick(&[1, DAY]));
    }
}

fn expectations(prod: &mut Policy, build: &mut Build, rng: &mut Rng) {
    let section = prod.build.as_mut().expect("made with one");
    if rng.chance(40) {
        section.min_level = 2;
        prod.builders[0].max_level = rng.pick(&[2, 3]);
    }
    build.runner = rng.pick(&[None, Some("github-hosted".to_owned())]);
    if rng.chance(15) {
        build.runner = Some("self-hosted".into());
        prod.builders[0].self_hosted_max = 2;
    }
    if rng.chance(40) {
        section.triggers = Some(vec!["push".into(), "release".into()]);
    }
    if rng.chance(40) {
        section.params = vec![("target".into(), vec!["release".into(), "lto".into()])];
        if rng.chance(70) {
            build.params.push(("target".into(), rng.pick(&["release", "lto"]).into()));
            build.unknown.push("target".into());
        }
    } else if rng.chance(20) {
        section.unknown_allowed = true;
        build.unknown.push("whatever".into());
    }
    if rng.chance(40) {
        prod.builders[0].types = Some(vec!["generic", "github-workflow"]);
    }
    match rng.below(4) {
        0 => prod.builders[0].builder_id = ("prefix", "https://ci.acme.test/".into()),
        1 => prod.builders[0].builder_id = ("glob", "https://ci.acme.test/*".into()),
        _ => {}
    }
    if rng.chance(20) {
        prod.builders[0].from = Some(T0);
        prod.builders[0].until = Some(T0 + 3 * DAY);
    }
}

fn source(world: &mut World, prod: &mut Policy, build: &mut Build, rng: &mut Rng) {
    let id = rng.chance(40).then(|| "4242".to_owned());
    let refs =
        rng.chance(60).then(|| vec![rng.pick(&["refs/heads/main", "refs/heads/*", "refs/**"]).to_owned()]);
    let mut section = SourceSection {
        uri: REPO.into(),
        id: id.clone(),
        refs,
        min_level: 0,
        unique: rng.chance(85),
        review: None,
        properties: None,
        signed: false,
        signed_by: None,
    };
    build.source = Some(Source {
        repository: REPO.into(),
        id: id.clone().filter(|_| rng.chance(50)),
        commit: Some(COMMIT),
        reference: Some("refs/heads/main".into()),
    });
    if rng.chance(75) {
        prod.sources = vec![SourceRule {
            id: "vcs".into(),
            max_level: 3,
            signer: Signer::Keys(vec![K_VCS]),
            verifier: None,
            from: None,
            until: None,
        }];
        if rng.chance(30) {
            summarised(world, prod, build, &mut section, rng);
            if rng.chance(60) {
                prod.source = Some(section);
                return;
            }
        }
        section.min_level = rng.pick(&[0, 0, 1, 3]);
        section.review = rng.chance(40).then(|| rng.pick(&[1, 2]));
        let person = |n: &str| (n.to_owned(), Some(format!("id-{n}")));
        let commit = Commit {
            repository: REPO.into(),
            id,
            reference: "refs/heads/main".into(),
            updated: T0 + HOUR / 2,
            actor: Some(person("ann")),
            review: section.review.map(|_| (COMMIT, vec![person("bob"), person("cat")])),
        };
        say(world, T0 + HOUR, vec![vec![Node::Git(COMMIT)]], K_VCS, Claim::Commit(commit));
    }
    if rng.chance(35) {
        section.signed = true;
        section.signed_by = rng.chance(50).then(|| vec![K_PERSON]);
        object(world, Node::Git(COMMIT), Body::Commit { signature: Some(Some(K_PERSON)) });
    } else if rng.chance(20) {
        object(world, Node::Git(COMMIT), Body::Commit { signature: None });
    }
    prod.source = Some(section);
}

pub const VERIFIER: &str = "https://verify.acme.test/source";

/// A source summary by the source's own signer, beside a commit statement or in its place.
fn summarised(
    world: &mut World,
    prod: &mut Policy,
    build: &mut Build,
    section: &mut SourceSection,
    rng: &mut Rng,
) {
    // A summary names no id.
    section.id = None;
    if let Some(source) = &mut build.source {
        source.id = None;
    }
    let rule = &mut prod.sources[0];
    rule.max_level = rng.pick(&[2, 3, 4]);
    rule.verifier = rng.pick(&[
        None,
        Some(("exact", VERIFIER.to_owned())),
        Some(("prefix", "https://verify.acme.test/".to_owned())),
    ]);
    let level = rng.pick(&[2, 3]);
    section.min_level = rng.pick(&[0, 1, 2]);
    section.properties = rng.chance(50).then(|| vec!["TAG_HYGIENE".to_owned()]);
    let mut refs = vec!["refs/heads/main".to_owned()];
    if rng.chance(30) {
        refs.push("refs/heads/next".into());
    }
    let summary = Summary {
        verifier: VERIFIER.into(),
        repository: REPO.into(),
        passed: true,
        level: Some(level),
        properties: vec!["TAG_HYGIENE".into(), "ORG_SOURCE_TESTED".into()],
        refs,
    };
    say(world, T0 + HOUR, vec![vec![Node::Git(COMMIT)]], K_VCS, Claim::Summary(summary));
}

fn inputs(world: &mut World, prod: &mut Policy, build: &mut Build, rng: &mut Rng) {
    match rng.below(5) {
        0 => {
            let mut rule = input("baseImage");
            rule.allow = Some(vec!["registry.acme.test/base/*".into()]);
            rule.undeclared_denied = rng.chance(60);
            build.deps.push(dep("baseImage", OS, BASE));
            if rng.chance(60) {
                object(
                    world,
                    Node::Content(OS),
                    Body::Manifest { image: true, config: OS_CONFIG, base: None },
                );
                object(
                    world,
                    Node::Content(OS_CONFIG),
                    Body::Config { platform: AMD.into(), layers: vec![1, 2] },
                );
            }
            if rule.undeclared_denied && rng.chance(50) {
                for o in &mut world.objects {
                    if let (
                        Node::Content(INDEX | M_AMD),
                        Body::Index { base, .. } | Body::Manifest { base, .. },
                    ) = (o.node, &mut o.body)
                    {
                        *base = Some(OS);
                    }
                }
            }
            prod.inputs.push(rule);
        }
        1 => {
            let mut rule = input("builderImage");
            rule.digests = vec![TOOL_IMAGE, 99];
            build.deps.push(dep("builderImage", TOOL_IMAGE, TOOL));
            prod.inputs.push(rule);
        }
        2 => {
            // The base has a chain of its own, and maybe a base below.
            world.story.push("chained base");
            let mut rule = input("baseImage");
            rule.chain = true;
            rule.depth = rng.pick(&[None, Some(1), Some(2)]);
            let mut below = policy("base", "registry.acme.test/base/*");
            let mut os = plain_build(CI);
            os.started = Some(T0 - DAY);
            os.finished = Some(T0 - DAY + 60);
            if rng.chance(50) {
                let mut deeper = input("builderImage");
                deeper.chain = true;
                deeper.depth = rng.pick(&[None, None, Some(2), Some(2), Some(2), Some(1)]);
                os.deps.push(dep("builderImage", TOOL_IMAGE, TOOL));
                below.inputs.push(deeper);
                object(
                    world,
                    Node::Content(OS),
                    Body::Manifest { image: true, config: OS_CONFIG, base: None },
                );
                object(
                    world,
                    Node::Content(TOOL_IMAGE),
                    Body::Manifest { image: true, config: 13, base: None },
                );
                say(world, T0 - DAY, about(&[TOOL_IMAGE]), K_CI, Claim::Build(plain_past()));
            }
            say(world, T0 - DAY + 100, about(&[OS]), K_CI, Claim::Build(os));
            build.deps.push(dep("baseImage", OS, BASE));
            prod.inputs.push(rule);
            world.policies.push(below);
        }
        3 => knot(world, prod, build, rng),
        _ => {
            let mut rule = input(rng.pick(&["tool", "generic"]));
            rule.tolerate = rng.chance(50);
            build.deps.push(Dependency {
                role: rule.role,
                digest: rng.chance(50).then_some(TOOL_IMAGE),
                wide: None,
                resource: None,
            });
            prod.inputs.push(rule);
        }
    }
}

fn plain_past() -> Build {
    Build { started: Some(T0 - DAY - 100), finished: Some(T0 - DAY - 50), ..plain_build(CI) }
}

/// Two bases that name each other; each may also have a statement that needs nobody. Both are asked for,
/// so a result kept from within the knot shows.
fn knot(world: &mut World, prod: &mut Policy, build: &mut Build, rng: &mut Rng) {
    world.story.push("knot");
    let mut below = policy("base", "registry.acme.test/base/*");
    for role in ["baseImage", "builderImage"] {
        let rule = InputRule { chain: true, ..input(role) };
        below.inputs.push(rule.clone());
        prod.inputs.push(rule);
    }
    for digest in [OS, TOOL_IMAGE] {
        object(world, Node::Content(digest), Body::Manifest { image: true, config: digest + 50, base: None });
    }
    let free = rng.pick(&[OS, TOOL_IMAGE]);
    let mut said =
        vec![(OS, dep("builderImage", TOOL_IMAGE, TOOL)), (TOOL_IMAGE, dep("baseImage", OS, BASE))];
    if rng.chance(15) {
        said = vec![(OS, dep("baseImage", OS, BASE)), (TOOL_IMAGE, dep("baseImage", OS, BASE))];
    }
    for (digest, needs) in said {
        say(
            world,
            T0 - DAY,
            about(&[digest]),
            K_CI,
            Claim::Build(Build { deps: vec![needs], ..plain_past() }),
        );
    }
    if rng.chance(75) {
        let at = if rng.chance(50) { T0 - DAY } else { T0 - DAY + 9 };
        say(world, at, about(&[free]), K_CI, Claim::Build(plain_past()));
    }
    let mut deps = vec![dep("baseImage", OS, BASE), dep("builderImage", TOOL_IMAGE, TOOL)];
    if rng.chance(50) {
        deps.reverse();
    }
    if rng.chance(15) {
        deps.pop();
    }
    build.deps.extend(deps);
    world.policies.push(below);
}

/// The build statements for the question.
fn speak(world: &mut World, prod: &mut Policy, build: &Build, rng: &mut Rng, index: bool) {
    let children: Vec<u32> = match world.document(INDEX) {
        Some(Body::Index { children, .. }) => {
            children.iter().filter(|c| !c.attests).map(|c| c.digest).collect()
        }
        _ => Vec::new(),
    };
    let two = rng.chance(25);
    let mut voices = vec![(K_CI, CI)];
    if two {
        let mut second = builder_rule("rebuild", K_CI2, CI2);
        second.max_level = prod.builders[0].max_level;
        second.self_hosted_max = prod.builders[0].self_hosted_max;
        second.domain = rng.chance(50).then(|| "elsewhere".to_owned());
        prod.builders[0].domain = rng.chance(50).then(|| "home".to_owned());
        prod.builders.push(second);
        let section = prod.build.as_mut().expect("made with one");
        section.at_least = 2;
        section.of = rng.chance(30).then(|| vec!["ci".into(), "rebuild".into()]);
        section.agree = rng.chance(40) && !world.story.contains(&"knot");
        voices.push((K_CI2, CI2));
    } else if rng.chance(20) {
        // A second rule that nobody uses.
        prod.builders.push(builder_rule("spare", K_CI2, CI2));
    }
    let shape = if index { rng.below(4) } else { 0 };
    for (key, builder) in voices {
        let build = Build { builder: builder.to_owned(), ..build.clone() };
        let received = T0 + 2 * HOUR;
        match shape {
            // Each platform by its own statement.
            1 => {
                world.story.push("per platform");
                for child in &children {
                    say(world, received, about(&[*child]), key, Claim::Build(build.clone()));
                }
            }
            // All platforms in one.
            2 => {
                say(world, received, about(&children), key, Claim::Build(build));
            }
            // The index, and a child is asked.
            3 => {
                world.story.push("asked for a child");
                world.ask.digest = M_AMD;
                prod.kinds = None;
                say(world, received, about(&[INDEX]), key, Claim::Build(build));
                if world.document(M_AMD).is_none() {
                    object(
                        world,
                        Node::Content(M_AMD),
                        Body::Manifest { image: true, config: C_AMD, base: None },
                    );
                }
            }
            _ => {
                let mut subjects = about(&[world.ask.digest]);
                if rng.chance(20) {
                    subjects[0].push(Node::Wide(world.ask.digest));
                }
                say(world, received, subjects, key, Claim::Build(build));
            }
        }
    }
}

fn matcher(rng: &mut Rng) -> (&'static str, String) {
    let (kind, text) =
        rng.pick(&[("exact", CI), ("prefix", "https://ci.acme.test/"), ("glob", "https://ci.acme.test/*")]);
    (kind, text.to_owned())
}

/// The CI signs with certificates, and the policy names its identity.
fn keyless(world: &mut World, prod: &mut Policy, rng: &mut Rng) {
    world.story.push("keyless");
    let rule = &mut prod.builders[0];
    let mut identity = Identity {
        issuer: ISSUER.into(),
        san: matcher(rng),
        ext: Vec::new(),
        time: rng.pick(&["required", "required", "received", "optional"]),
    };
    if rng.chance(60) {
        rule.builder_id = ("equals", "signer.san".into());
    }
    let asks_id = rng.chance(30);
    if asks_id {
        identity.ext.push(("sourceRepositoryId", "4242".into()));
    }
    if rng.chance(20) {
        identity.ext.push(("runnerEnvironment", "github-hosted".into()));
    }
    let asks_runner = identity.ext.iter().any(|(name, _)| *name == "runnerEnvironment");
    rule.signer = Signer::Identity(identity.clone());
    let said_id = rng.chance(50);
    let known = rng.chance(70);
    let runner = rng.chance(50);
    let proven = identity.time == "required" || rng.chance(60);
    let silent = rng.chance(20);
    for s in &mut world.statements {
        let Claim::Build(b) = &mut s.claim else { continue };
        let base = s.subjects.iter().flatten().any(|n| matches!(n, Node::Content(OS | TOOL_IMAGE)));
        if base || s.signers != [K_CI] {
            continue;
        }
        if asks_runner && b.runner.as_deref() == Some("self-hosted") {
            b.runner = None;
        }
        if silent {
            (b.started, b.finished) = (None, None);
        }
        let source = b.source.as_ref().filter(|_| known);
        let holder = Holder {
            san: CI.into(),
            issuer: Some(ISSUER.into()),
            runner: match asks_runner {
                true => Some("github-hosted".into()),
                false => b.runner.clone().filter(|_| runner),
            },
            repository: source.map(|s| s.repository.trim_start_matches("git+").to_owned()),
            id: (asks_id || said_id).then(|| "4242".to_owned()),
            commit: source.and_then(|s| s.commit),
            reference: source.and_then(|s| s.reference.clone()),
            trigger: b.trigger.clone().filter(|_| known),
        };
        s.signers.clear();
        s.certificates = vec![Certificate {
            holder,
            vouched: true,
            after: T0 + HOUR + 1200,
            until: T0 + 3 * HOUR,
            proven: proven.then_some(T0 + HOUR + 1260),
        }];
    }
}

fn registry(world: &mut World, prod: &mut Policy, rng: &mut Rng) {
    prod.registries = vec![RegistryRule {
        id: "reg".into(),
        signer: if rng.chance(50) {
            Signer::Service("collector".into())
        } else {
            Signer::Keys(vec![K_COLLECTOR])
        },
        repositories: rng.chance(50).then(|| vec!["registry.acme.test/**".into()]),
        from: None,
        until: None,
    }];
    let asked = world.ask.digest;
    let subject =
        if asked == M_AMD && world.document(INDEX).is_some() && rng.chance(50) { INDEX } else { asked };
    let event =
        |resource: &str, promotion| Event { resource: resource.into(), occurred: T0 + 2 * HOUR, promotion };
    let mut section = RegistrySection { path: None, promoted_by: rng.chance(30).then(|| vec!["reg".into()]) };
    if rng.chance(50) && subject == asked {
        world.story.push("promoted");
        let here = rng.pick(&[APP, "registry.acme.test/acme/*"]);
        section.path = Some(vec![rng.pick(&[STAGING, "registry.acme.test/staging/*"]).into(), here.into()]);
        let push = event(STAGING, None);
        let promotion = event(APP, Some((STAGING.into(), asked)));
        say(world, T0 + 2 * HOUR + 60, about(&[asked]), K_COLLECTOR, Claim::Event(push));
        say(world, T0 + 3 * HOUR, about(&[asked]), K_COLLECTOR, Claim::Event(promotion));
    } else {
        if rng.chance(40) {
            section.path = Some(vec!["registry.acme.test/acme/*".into()]);
        }
        say(world, T0 + 2 * HOUR + 60, about(&[subject]), K_COLLECTOR, Claim::Event(event(APP, None)));
    }
    prod.registry = Some(section);
}

fn times(prod: &mut Policy, rng: &mut Rng) {
    prod.max_age = rng.chance(25).then_some(30 * DAY);
    prod.skew = rng.pick(&[None, None, Some(0), Some(600)]);
    if rng.chance(20) {
        prod.order = Some(rng.pick(&[
            vec!["source<build"],
            vec!["build<push", "build<artifact"],
            vec!["source<build", "build<push"],
        ]));
    }
}
