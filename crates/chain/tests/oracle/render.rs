//! A world as the evaluator sees it: policy documents, control entries, facts. And as a store would serve it.

use std::collections::BTreeSet;

use catenary_chain::{
    Control, Evidence, Gather, Question, Verdict,
    control::{Entry, Revocation, TrustedKey},
    evaluate,
    gather::{ReadSet, Want},
    verdict::LogView,
};
use catenary_evidence::{
    Digest, GitOid, Identity, KeyId, Scheme, Sha256, Signature,
    attestation::Attestation,
    digest,
    object::{self, BaseHint, Descriptor, GitCommit, GitSignature, Platform},
    predicate::{self as facts, Adapter, Promotion, RegistryAction, Review, Role},
    reference::ImageReference,
    signer::{AuthorityKind, Claims, Logged, SanKind, Signer as SignedBy, Voucher},
    statement::{DigestSet, Subject},
    trust_root,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::world_more::{Require, Speaker, VerifierRule};

use super::world::{Body, Certificate, Claim, Node, Object, Policy, Signer, Since, Statement, World};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn hash(kind: &str, n: u32) -> Sha256 {
    Sha256::of(format!("{kind} {n}").as_bytes())
}

fn content(n: u32) -> Digest {
    Digest::Sha256(hash("document", n).0)
}

fn middle(n: u32) -> Digest {
    let (a, b) = (hash("middle", n).0, hash("and more", n).0);
    let mut bytes = [0; 48];
    bytes[..32].copy_from_slice(&a);
    bytes[32..].copy_from_slice(&b[..16]);
    Digest::Sha384(bytes)
}

fn wide(n: u32) -> Digest {
    let (a, b) = (hash("wide", n).0, hash("wider", n).0);
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&a);
    bytes[32..].copy_from_slice(&b);
    Digest::Sha512(bytes)
}

fn git(n: u32) -> GitOid {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&hash("commit", n).0[..20]);
    GitOid::Sha1(bytes)
}

pub fn key_id(n: u32) -> KeyId {
    KeyId(hash("key", n))
}

/// The order of ids is the order of numbers.
pub fn statement_id(n: u32) -> Sha256 {
    let mut bytes = hash("statement", n).0;
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    Sha256(bytes)
}

pub fn node(n: Node) -> digest::Node {
    match n {
        Node::Content(n) => content(n).into(),
        Node::Middle(n) => middle(n).into(),
        Node::Wide(n) => wide(n).into(),
        Node::Git(n) => git(n).into(),
    }
}

fn platform(text: &str) -> Platform {
    let mut parts = text.split('/').map(str::to_owned);
    Platform { os: parts.next().unwrap(), architecture: parts.next().unwrap(), variant: parts.next() }
}

/// What is asked.
pub fn question(world: &World) -> Question {
    let ask = &world.ask;
    Question {
        image: ImageReference { resource: ask.resource.clone(), digest: content(ask.digest) },
        environment: ask.environment.clone(),
        platform: ask.platform.as_deref().map(platform),
        context: Default::default(),
    }
}

/// Keys and policies, folded from entries.
pub fn control(world: &World) -> Control {
    let mut control = Control::default();
    let mut entries = Vec::new();
    for (n, key) in world.keys.iter().enumerate() {
        let id = key_id(n as u32);
        entries.push(Entry::TrustAdded(catenary_chain::control::Added::Key(TrustedKey {
            id,
            name: format!("key {n}"),
            pem: String::new(),
            scheme: Scheme::Ed25519,
            service: key.service.clone(),
            valid_from: key.from.map(at),
            valid_until: key.until.map(at),
        })));
        if key.effective {
            entries.push(Entry::TrustEffective(id.into()));
        }
        if let Some(since) = key.revoked {
            let from = match since {
                Since::Ever => None,
                Since::Minute(minute) => Some(at(minute)),
            };
            entries.push(Entry::Revocation(Revocation { from, ..Revocation::of_key(id, "lost") }));
        }
    }
    for policy in &world.policies {
        let document = if policy.readable { document(policy).to_string() } else { "spec: [".to_owned() };
        entries.push(Entry::PolicyApplied { name: policy.name.clone(), revision: 1, document });
    }
    for (index, entry) in entries.iter().enumerate() {
        control.apply(index as u64, entry);
    }
    for policy in &world.policies {
        let parsed = &control.policies[&policy.name].policy;
        assert_eq!(parsed.is_ok(), policy.readable, "{parsed:?}\n{:#}", document(policy));
    }
    control
}

fn signer(signer: &Signer) -> Value {
    match signer {
        Signer::Keys(keys) if keys.len() == 1 => json!({"key": key_id(keys[0])}),
        Signer::Keys(keys) => json!({"keys": keys.iter().map(|k| key_id(*k)).collect::<Vec<_>>()}),
        Signer::Service(name) => json!({"service": name}),
        Signer::Identity(i) => {
            let ext: Map<String, Value> =
                i.ext.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
            members(vec![
                ("issuer", json!(i.issuer)),
                ("san", json!({i.san.0: i.san.1})),
                ("ext", flag(!ext.is_empty(), Value::Object(ext))),
                ("timestamp", flag(i.time != "required", json!(i.time))),
            ])
        }
    }
}

/// Leaves out what is absent.
fn members(pairs: Vec<(&str, Value)>) -> Value {
    Value::Object(
        pairs
            .into_iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| (k.to_owned(), v))
            .collect::<Map<_, _>>(),
    )
}

fn time(t: Option<i64>) -> Value {
    t.map_or(Value::Null, |t| json!(at(t).to_string()))
}

fn seconds(s: Option<i64>) -> Value {
    s.map_or(Value::Null, |s| json!(format!("{s}s")))
}

fn flag(on: bool, value: Value) -> Value {
    if on { value } else { Value::Null }
}

fn document(p: &Policy) -> Value {
    let builders: Vec<Value> = p
        .builders
        .iter()
        .map(|r| {
            members(vec![
                ("id", json!(r.id)),
                ("domain", json!(r.domain)),
                ("maxLevel", json!(r.max_level)),
                ("selfHostedMax", json!(r.self_hosted_max)),
                ("signer", signer(&r.signer)),
                ("builderId", json!({r.builder_id.0: r.builder_id.1})),
                ("buildTypes", json!(r.types)),
                ("validFrom", time(r.from)),
                ("validUntil", time(r.until)),
            ])
        })
        .collect();
    let sources: Vec<Value> = p
        .sources
        .iter()
        .map(|r| {
            members(vec![
                ("id", json!(r.id)),
                ("maxLevel", json!(r.max_level)),
                ("signer", signer(&r.signer)),
                ("verifierId", r.verifier.as_ref().map_or(Value::Null, |(how, text)| json!({*how: text}))),
                ("validFrom", time(r.from)),
                ("validUntil", time(r.until)),
            ])
        })
        .collect();
    let registries: Vec<Value> = p
        .registries
        .iter()
        .map(|r| {
            members(vec![
                ("id", json!(r.id)),
                ("signer", signer(&r.signer)),
                ("repositories", json!(r.repositories)),
                ("validFrom", time(r.from)),
                ("validUntil", time(r.until)),
            ])
        })
        .collect();
    let build = p.build.as_ref().map(|b| {
        let params: Map<String, Value> = b.params.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        members(vec![
            ("minLevel", json!(b.min_level)),
            (
                "builders",
                members(vec![
                    ("atLeast", json!(b.at_least)),
                    ("of", json!(b.of)),
                    ("agreeOn", flag(b.agree, json!(["source.commit"]))),
                ]),
            ),
            ("triggers", json!(b.triggers)),
            (
                "params",
                members(vec![
                    ("unknown", flag(b.unknown_allowed, json!("allow"))),
                    ("allow", Value::Object(params)),
                ]),
            ),
        ])
    });
    let source = p.source.as_ref().map(|s| {
        let keys = s.signed_by.as_ref().map(|k| k.iter().map(|k| key_id(*k)).collect::<Vec<_>>());
        let signed = members(vec![("required", json!(true)), ("keys", json!(keys))]);
        members(vec![
            ("repository", members(vec![("uri", json!(s.uri)), ("id", json!(s.id))])),
            ("refs", json!(s.refs)),
            ("minLevel", json!(s.min_level)),
            ("properties", json!(s.properties)),
            ("unique", json!(s.unique)),
            ("review", s.review.map_or(Value::Null, |n| json!({"atLeast": n}))),
            ("signatures", flag(s.signed, json!({"commit": signed}))),
        ])
    });
    let inputs: Vec<Value> = p
        .inputs
        .iter()
        .map(|i| {
            let digests: Vec<Digest> = i.digests.iter().map(|d| content(*d)).collect();
            members(vec![
                ("role", json!(i.role)),
                ("allow", json!(i.allow)),
                ("digests", flag(!digests.is_empty(), json!(digests))),
                ("chain", json!(i.chain)),
                ("depth", json!(i.depth)),
                ("pinned", i.pinned.map_or(Value::Null, |p| json!(if p { "required" } else { "optional" }))),
                ("undeclared", flag(i.undeclared_denied, json!("deny"))),
                ("tolerate", json!(i.tolerate)),
            ])
        })
        .collect();
    let registry = p
        .registry
        .as_ref()
        .map(|r| members(vec![("path", json!(r.path)), ("promotedBy", json!(r.promoted_by))]));
    members(vec![
        ("apiVersion", json!("catenary/v1")),
        ("kind", json!("ChainPolicy")),
        ("metadata", members(vec![("name", json!(p.name)), ("expires", time(p.expires))])),
        (
            "spec",
            members(vec![
                ("mode", json!(p.mode)),
                ("onIndeterminate", json!(if p.allow_indeterminate { "allow" } else { "deny" })),
                (
                    "match",
                    members(vec![
                        ("resources", json!(p.resources)),
                        ("environments", json!(p.environments)),
                        ("priority", json!(p.priority)),
                    ]),
                ),
                (
                    "subject",
                    members(vec![
                        ("kinds", json!(p.kinds)),
                        ("platforms", json!(p.platforms)),
                        ("extraPlatforms", flag(p.extra_allowed, json!("allow"))),
                    ]),
                ),
                (
                    "trust",
                    json!({"builders": builders, "sources": sources, "registries": registries, "verifiers": verifiers(p)}),
                ),
                ("summary", summary(p)),
                ("require", json!(p.more.require.iter().map(require).collect::<Vec<_>>())),
                ("negatives", negatives(p)),
                ("build", json!(build)),
                ("source", json!(source)),
                ("inputs", json!(inputs)),
                ("registry", json!(registry)),
                (
                    "time",
                    members(vec![
                        ("maxArtifactAge", seconds(p.max_age)),
                        ("skew", seconds(p.skew)),
                        ("order", json!(p.order)),
                    ]),
                ),
            ]),
        ),
    ])
}

fn verifiers(p: &Policy) -> Vec<Value> {
    let one = |r: &VerifierRule| {
        members(vec![
            ("id", json!(r.id)),
            ("signer", signer(&r.signer)),
            ("verifierId", json!({r.verifier.0: r.verifier.1})),
            ("policies", json!(r.policies)),
            ("maxLevel", json!(r.max_level)),
            ("resources", json!(r.resources)),
            ("validFrom", time(r.from)),
            ("validUntil", time(r.until)),
        ])
    };
    p.more.verifiers.iter().map(one).collect()
}

fn summary(p: &Policy) -> Value {
    p.more.summary.as_ref().map_or(Value::Null, |s| {
        members(vec![
            ("from", json!(s.from)),
            ("levels", s.build.map_or(Value::Null, |level| json!({"SLSA_BUILD": level}))),
            ("maxAge", seconds(s.max_age)),
            ("depth", json!(s.depth)),
        ])
    })
}

fn speaker(s: &Speaker) -> Value {
    match s {
        Speaker::Signer(s) => signer(s),
        Speaker::AnyOf(ids) => json!({"anyOf": ids}),
    }
}

fn require(r: &Require) -> Value {
    members(vec![
        ("id", json!(r.id)),
        ("predicate", json!(r.kinds)),
        ("signer", speaker(&r.signer)),
        ("subject", flag(r.source, json!("source"))),
        ("perPlatform", flag(r.per_platform, json!(true))),
        ("atLeast", json!(r.at_least)),
        ("maxAge", seconds(r.max_age)),
        ("result", json!(r.result)),
        ("properties", json!(r.properties)),
        ("mode", json!(r.mode)),
    ])
}

fn negatives(p: &Policy) -> Value {
    let summaries = p.more.failed_summaries.as_ref();
    let summaries = summaries.map_or(Value::Null, |from| members(vec![("from", json!(from))]));
    let tests = p.more.failed_tests.as_ref().map_or(Value::Null, |s| json!({"signer": speaker(s)}));
    members(vec![("tests", tests), ("summaries", summaries)])
}

fn digests(nodes: &[Node]) -> DigestSet {
    let mut set = DigestSet::default();
    for n in nodes {
        match node(*n) {
            digest::Node::Content(d) => set.content.push(d),
            digest::Node::Git(oid) => set.git.push(oid),
        }
    }
    set.content.sort();
    set
}

fn role(role: &str) -> Role {
    match role {
        "baseImage" => Role::BaseImage,
        "builderImage" => Role::BuilderImage,
        "submodule" => Role::Submodule,
        "tool" => Role::Tool,
        _ => Role::Generic,
    }
}

fn person((name, id): &(String, Option<String>)) -> facts::Actor {
    facts::Actor { name: name.clone(), id: id.clone() }
}

fn claim(claim: &Claim) -> facts::Claim {
    match claim {
        Claim::Other => facts::Claim::Other,
        Claim::Build(b) => facts::Claim::Build(facts::Build {
            builder_id: b.builder.clone(),
            build_type: "urn:test".into(),
            adapter: b.adapter.map(|a| match a {
                "generic" => Adapter::Generic,
                "github-workflow" => Adapter::GithubWorkflow,
                _ => Adapter::SlsaGithubGenerator,
            }),
            source: b.source.as_ref().map(|s| facts::Source {
                repository: s.repository.clone(),
                repository_id: s.id.clone(),
                commit: s.commit.map(git),
                reference: s.reference.clone(),
            }),
            params: b.params.iter().cloned().collect(),
            unknown_params: b.unknown.clone(),
            trigger: b.trigger.clone(),
            runner: b.runner.clone(),
            dependencies: b
                .deps
                .iter()
                .map(|d| facts::Dependency {
                    role: role(d.role),
                    uri: format!("pkg:test/{:?}", d.digest),
                    nodes: d
                        .digest
                        .map(content)
                        .into_iter()
                        .chain(d.wide.map(wide))
                        .map(digest::Node::Content)
                        .collect(),
                    resource: d.resource.clone(),
                })
                .collect(),
            invocation: None,
            started_on: b.started.map(at),
            finished_on: b.finished.map(at),
            hermetic: None,
            reproducible: None,
            complete: facts::Complete::default(),
        }),
        Claim::Commit(c) => facts::Claim::Commit(facts::Commit {
            repository: c.repository.clone(),
            repository_id: c.id.clone(),
            reference: c.reference.clone(),
            previous: None,
            updated_at: at(c.updated),
            actor: c.actor.as_ref().map(person),
            review: c.review.as_ref().map(|(revision, approvers)| Review {
                approved_revision: git(*revision),
                approvers: approvers.iter().map(person).collect(),
            }),
            signature: None,
        }),
        Claim::Summary(s) => facts::Claim::Summary(facts::Summary {
            verifier_id: s.verifier.clone(),
            resource_uri: s.repository.clone(),
            policy_uri: None,
            policy_digest: None,
            passed: s.passed,
            levels: s.level.map(|level| ("SOURCE".to_owned(), level)).into_iter().collect(),
            repeated: Vec::new(),
            properties: s.properties.clone(),
            time_verified: None,
        }),
        Claim::Vsa(v) => facts::Claim::Summary(facts::Summary {
            verifier_id: v.verifier.clone(),
            resource_uri: v.resource.clone(),
            policy_uri: Some(v.policy.clone()),
            policy_digest: None,
            passed: v.passed,
            levels: (v.build.map(|level| ("BUILD".to_owned(), level)))
                .into_iter()
                .chain(v.source.map(|level| ("SOURCE".to_owned(), level)))
                .collect(),
            repeated: v.twice.then(|| "BUILD".to_owned()).into_iter().collect(),
            properties: Vec::new(),
            time_verified: v.verified.map(at),
        }),
        Claim::Test(result) => facts::Claim::Test(facts::TestResult {
            result: (*result).to_owned(),
            url: None,
            passed: 1,
            warned: 0,
            failed: 0,
        }),
        Claim::Svr(properties, created) => facts::Claim::Verification(facts::VerificationResult {
            verifier_id: "https://svr.acme.test".into(),
            created: created.map(at),
            properties: properties.clone(),
        }),
        Claim::Sbom(created) => facts::Claim::Sbom(facts::Sbom {
            format: "cyclonedx-1.6".into(),
            name: None,
            created: created.map(at),
            components: 1,
        }),
        Claim::Event(e) => facts::Claim::Registry(facts::RegistryEvent {
            event: if e.promotion.is_some() { RegistryAction::Promote } else { RegistryAction::Push },
            resource: e.resource.clone(),
            tag: None,
            previous: None,
            occurred_at: at(e.occurred),
            actor: None,
            promotion: e
                .promotion
                .as_ref()
                .map(|(from, d)| Promotion { from: from.clone(), digest: content(*d) }),
        }),
    }
}

/// A certificate that an authority of the public root vouches for, or nobody that is trusted.
fn certificate(c: &Certificate) -> Signature {
    let moment = at(c.after);
    let authorities = trust_root::builtin_authorities(trust_root::SIGSTORE).unwrap();
    let usable = authorities.iter().find(|((kind, _), windows)| {
        *kind == AuthorityKind::CertificateAuthority && windows.iter().any(|w| w.contains(moment))
    });
    let ((kind, authority), _) = usable.expect("an authority of that time");
    let authority = if c.vouched { *authority } else { hash("authority", 0) };
    let holder = c.holder.clone();
    Signature {
        signer: SignedBy::Certificate(Box::new(Identity {
            domain: trust_root::SIGSTORE.into(),
            san_kind: SanKind::Uri,
            san: holder.san,
            issuer: holder.issuer,
            claims: Claims {
                runner_environment: holder.runner,
                source_repository_uri: holder.repository,
                source_repository_id: holder.id,
                source_repository_digest: holder.commit.map(|c| git(c).to_hex()),
                source_repository_ref: holder.reference,
                build_trigger: holder.trigger,
                ..Claims::default()
            },
        })),
        signed_after: Some(moment),
        signed_before: c.proven.map(at),
        expires: Some(at(c.until)),
        logged: Logged::No,
        vouchers: vec![Voucher { kind: *kind, authority, at: moment }],
        cosigned: Vec::new(),
    }
}

fn attestation(s: &Statement) -> Attestation {
    let source_refs = match &s.claim {
        Claim::Summary(summary) => summary.refs.clone(),
        _ => Vec::new(),
    };
    Attestation {
        id: statement_id(s.id),
        payload: hash("payload", s.payload),
        predicate_type: match s.claim {
            Claim::Sbom(_) => facts::CYCLONEDX.into(),
            _ => "urn:test".into(),
        },
        subjects: s
            .subjects
            .iter()
            .map(|set| Subject {
                name: String::new(),
                digests: digests(set),
                source_refs: source_refs.clone(),
            })
            .collect(),
        doubt: None,
        mentions: Vec::new(),
        signatures: (s.signers.iter().map(|k| Signature::by_key(key_id(*k))))
            .chain(s.certificates.iter().map(certificate))
            .collect(),
        claim: claim(&s.claim),
    }
}

fn descriptor(digest: Digest) -> Descriptor {
    Descriptor {
        media_type: "urn:test".into(),
        digest,
        size: 1,
        platform: None,
        attests: None,
        predicate_type: None,
    }
}

fn hint(base: Option<u32>) -> Option<BaseHint> {
    base.map(|b| BaseHint { name: None, digest: Some(content(b)) })
}

fn object(o: &Object) -> object::Object {
    let n = match o.node {
        Node::Content(n) | Node::Middle(n) | Node::Wide(n) | Node::Git(n) => n,
    };
    let body = match &o.body {
        Body::Index { children, base } => object::Body::Index(object::Index {
            media_type: "urn:test".into(),
            artifact_type: None,
            children: children
                .iter()
                .map(|c| Descriptor {
                    platform: c.platform.as_deref().map(platform),
                    attests: c.attests.then(|| content(1)),
                    ..descriptor(content(c.digest))
                })
                .collect(),
            base: hint(*base),
        }),
        Body::Manifest { image, config, base } => object::Body::Manifest(object::Manifest {
            media_type: "urn:test".into(),
            artifact_type: (!image).then(|| "urn:test".into()),
            config: descriptor(content(*config)),
            layers: Vec::new(),
            base: hint(*base),
        }),
        Body::Config { platform: p, layers } => object::Body::Config(object::Config {
            platform: platform(p),
            diff_ids: layers.iter().map(|l| Digest::Sha256(hash("layer", *l).0)).collect(),
        }),
        Body::Commit { signature } => object::Body::Commit(GitCommit {
            tree: git(1_000),
            parents: Vec::new(),
            author: String::new(),
            committer: String::new(),
            committed_at: None,
            signature: signature.map(|s| GitSignature {
                method: "ssh".into(),
                verified: s.map(|k| Signature::by_key(key_id(k))),
            }),
        }),
    };
    object::Object {
        id: hash("object", n),
        node: node(o.node),
        sha384: Some(middle(n)),
        sha512: wide(n),
        size: 1,
        body,
    }
}

/// Everything at once.
pub fn evidence(world: &World) -> Evidence {
    let mut evidence = Evidence::default();
    for s in &world.statements {
        if s.damaged {
            evidence.damaged.insert(statement_id(s.id));
        }
        // A store leaves damaged rows out; the evaluator must not count them either way.
        if !s.damaged || world.seed.is_multiple_of(2) {
            evidence.add_attestation(u64::from(s.id), at(s.received), attestation(s));
        }
    }
    for (i, o) in world.objects.iter().enumerate() {
        evidence.add_object(10_000 + i as u64, at(o.received), object(o));
    }
    evidence.truncated = world.truncated.iter().map(|n| node(*n)).collect();
    evidence
}

/// Answers one frontier as a store does.
pub fn fetch(all: &Evidence, want: &Want) -> Evidence {
    let mut found = Evidence::default();
    for n in &want.nodes {
        if let Some(o) = all.objects.get(n) {
            found.objects.insert(*n, o.clone());
        }
        if let digest::Node::Content(d) = n
            && let Some(parents) = all.parents.get(d)
        {
            found.parents.insert(*d, parents.clone());
        }
        let mut about: Vec<_> =
            all.attestations.values().filter(|a| a.fact.subject_nodes().contains(n)).collect();
        about.sort_by_key(|a| a.index);
        let mut others = 0;
        for a in about {
            let identified = |s: &Signature| {
                let key = s.signer.index_key();
                want.by.identities.iter().any(|rule| rule.may_name(&key))
            };
            let wanted = want.by.signers.iter().any(|key| a.fact.is_signed_by(key))
                || a.fact.signatures.iter().any(identified);
            others += usize::from(!wanted);
            if all.damaged.contains(&a.fact.id) {
                found.damaged.insert(a.fact.id);
            } else if wanted || others <= 20 {
                found.attestations.insert(a.fact.id, a.clone());
            }
        }
        if all.truncated.contains(n) {
            found.truncated.insert(*n);
        }
    }
    found
}

/// Gathers frontier by frontier from `all`.
pub fn gather(question: &Question, control: &Control, all: &Evidence) -> (Evidence, ReadSet) {
    let mut gather = Gather::new(question, control);
    let mut evidence = Evidence::default();
    let mut rounds = 0;
    while let Some(want) = gather.next(&evidence) {
        evidence.merge(fetch(all, &want));
        rounds += 1;
        assert!(rounds < 200, "the gathering does not end");
    }
    (evidence, gather.read_set())
}

/// The evaluator's answer.
pub fn verdict(question: &Question, control: &Control, evidence: &Evidence, now: i64) -> Verdict {
    evaluate(question, control, evidence, LogView { size: 1, root: hash("root", 0) }, at(now))
}

/// Codes of the errors.
pub fn errors(verdict: &Verdict) -> BTreeSet<&'static str> {
    verdict.errors().map(|r| r.code.as_str()).collect()
}
