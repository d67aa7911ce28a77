//! A tenant with keys, a policy and evidence, made of facts.

use std::{collections::BTreeMap, sync::Arc};

use catenary_evidence::{
    KeyId, Scheme, Signature,
    attestation::Attestation,
    digest::{Digest, GitOid, Node, Sha256},
    object::{Body, Config, Descriptor, GitCommit, GitSignature, Index, Manifest, Object, Platform},
    predicate::*,
    reference::ImageReference,
    statement::{DigestSet, Subject},
    trust_root::{Authorities, Rules},
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    control::{Control, DomainState, Entry, Revocation, RootState, RootVersion, Target, Token, TrustedKey},
    evaluate::{Step, evaluate, step},
    gather::{Evidence, Gather, Logged},
    reason::Code,
    verdict::{LogView, Outcome, Question, Verdict},
};

pub const APP: &str = "registry.acme.test/acme/app";
pub const REPO: &str = "git+https://git.acme.test/acme/app";

pub fn at(minute: i64) -> Timestamp {
    "2026-11-20T10:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minute)
}

pub fn content(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

pub fn commit_id(name: &str) -> GitOid {
    GitOid::sha1("commit", name.as_bytes())
}

pub fn key(name: &str) -> KeyId {
    KeyId(Sha256::of(format!("key {name}").as_bytes()))
}

pub fn platform(architecture: &str) -> Platform {
    Platform { os: "linux".into(), architecture: architecture.into(), variant: None }
}

#[derive(Clone, Default)]
pub struct Scene {
    pub control: Control,
    pub evidence: Evidence,
    /// What questions say besides.
    pub context: crate::context::Context,
    next: u64,
}

impl Scene {
    /// Keys ci, vcs, reg, other; no policy, no evidence.
    pub fn empty() -> Self {
        let mut scene = Self::default();
        for name in ["ci", "ci2", "vcs", "reg", "other"] {
            scene.trust(name, None, None);
        }
        scene
    }

    /// The golden chain: commit c1, built at minute 10, pushed at minute 20, under [`policy`].
    pub fn golden() -> Self {
        let mut scene = Self::empty();
        scene.policy("prod", &policy(""));
        scene.manifest("app", "amd64", &["l1", "l2"]);
        scene.commit("c1", |_| {});
        scene.build(&["app"], |_| {});
        scene.push("app", APP);
        scene
    }

    pub fn trust(&mut self, name: &str, from: Option<Timestamp>, until: Option<Timestamp>) {
        let id = key(name);
        let entry = TrustedKey {
            id,
            name: name.into(),
            pem: String::new(),
            scheme: Scheme::Ed25519,
            service: (name == "reg").then(|| "collector".to_owned()),
            valid_from: from,
            valid_until: until,
        };
        self.control.keys.remove(&id);
        self.apply(&Entry::TrustAdded(entry.into()));
        self.apply(&Entry::TrustEffective(id.into()));
    }

    pub fn revoke(&mut self, name: &str) {
        self.withdraw(Target::Key(key(name)), None);
    }

    pub fn withdraw(&mut self, target: Target, from: Option<Timestamp>) {
        self.apply(&Entry::Revocation(Revocation { target, from, reason: "lost".into() }));
    }

    pub fn token(&mut self, id: &str, by: Option<&str>) {
        let by = by.map(|by| format!("token:{by}"));
        self.apply(&Entry::TokenCreated(Token {
            id: id.into(),
            hash: Sha256::of(id.as_bytes()),
            role: "admin".into(),
            name: id.into(),
            expires: at(1_000_000),
            repositories: Vec::new(),
            predicate_types: Vec::new(),
            by,
        }));
    }

    pub fn policy(&mut self, name: &str, document: &str) {
        crate::policy::Policy::parse(document).unwrap_or_else(|e| panic!("{e}\n{document}"));
        self.raw_policy(name, document);
    }

    pub fn raw_policy(&mut self, name: &str, document: &str) {
        self.apply(&Entry::PolicyApplied { name: name.into(), revision: 1, document: document.into() });
    }

    /// A domain with these authorities, effective in version `version`.
    pub fn domain(
        &mut self,
        name: &str,
        version: u64,
        authorities: Authorities,
        added_on: Option<Timestamp>,
    ) {
        let root = RootVersion {
            domain: name.into(),
            version,
            digest: Sha256::of(b""),
            rules: Rules::default(),
            added_on,
            document: String::new(),
            witnesses: None,
        };
        let state = RootState {
            root,
            authorities: Arc::new(authorities),
            witnesses: None,
            added_at: 1,
            effective_at: Some(1),
        };
        self.control.domains.insert(name.into(), DomainState { versions: vec![state], withdrawn: None });
    }

    pub fn apply(&mut self, entry: &Entry) {
        self.next += 1;
        self.control.apply(self.next, entry);
    }

    pub fn object(&mut self, name: &str, body: Body) {
        let node = match &body {
            Body::Commit(_) | Body::Tag(_) => Node::Git(commit_id(name)),
            _ => Node::Content(content(name)),
        };
        let sha384 = Some(Digest::Sha384([0; 48]).recompute(name.as_bytes()));
        let sha512 = content_512(name);
        self.next += 1;
        let object = Object { id: Sha256::of(name.as_bytes()), node, sha384, sha512, size: 1, body };
        self.evidence.add_object(self.next, at(5), object);
    }

    /// A manifest and its config.
    pub fn manifest(&mut self, name: &str, architecture: &str, layers: &[&str]) {
        let config = format!("{name} config");
        let manifest = Manifest {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            artifact_type: None,
            config: descriptor(&config, None),
            layers: layers.iter().map(|l| descriptor(l, None)).collect(),
            base: None,
        };
        self.object(name, Body::Manifest(manifest));
        let diff_ids = layers.iter().map(|l| content(l)).collect();
        self.object(&config, Body::Config(Config { platform: platform(architecture), diff_ids }));
    }

    pub fn index(&mut self, name: &str, children: &[(&str, &str)]) {
        let children = children.iter().map(|(n, a)| descriptor(n, Some(platform(a)))).collect();
        let media_type = "application/vnd.oci.image.index.v1+json".into();
        self.object(name, Body::Index(Index { media_type, artifact_type: None, children, base: None }));
    }

    pub fn signed_commit(&mut self, name: &str, signer: Option<KeyId>) {
        let signature =
            signer.map(|key| GitSignature { method: "ssh".into(), verified: Some(Signature::by_key(key)) });
        let commit = GitCommit {
            tree: commit_id("tree"),
            parents: Vec::new(),
            author: String::new(),
            committer: String::new(),
            committed_at: None,
            signature,
        };
        self.object(name, Body::Commit(commit));
    }

    /// Adds a statement; its id is that of its content, so that the order of adding does not matter.
    pub fn attest(&mut self, minute: i64, signers: &[&str], subjects: Vec<Subject>, claim: Claim) -> Sha256 {
        let payload = Sha256::of(format!("{subjects:?} {claim:?}").as_bytes());
        let id = Sha256::of(format!("{minute} {signers:?} {payload}").as_bytes());
        let signatures = signers.iter().map(|name| Signature::by_key(key(name))).collect();
        let predicate_type = "https://example.test/predicate".into();
        self.next += 1;
        let attestation = Attestation {
            id,
            payload,
            predicate_type,
            subjects,
            signatures,
            claim,
            doubt: None,
            mentions: Vec::new(),
        };
        self.evidence.add_attestation(self.next, at(minute), attestation);
        id
    }

    pub fn commit(&mut self, name: &str, change: impl FnOnce(&mut Commit)) -> Sha256 {
        self.commit_by("vcs", name, change)
    }

    pub fn commit_by(&mut self, by: &str, name: &str, change: impl FnOnce(&mut Commit)) -> Sha256 {
        let mut claim = Commit {
            repository: REPO.into(),
            repository_id: Some("4242".into()),
            reference: "refs/heads/main".into(),
            previous: None,
            updated_at: at(1),
            actor: Some(Actor { name: "ann".into(), id: Some("1".into()) }),
            review: None,
            signature: None,
        };
        change(&mut claim);
        let set = DigestSet { git: vec![commit_id(name)], ..DigestSet::default() };
        self.attest(2, &[by], vec![Subject { digests: set, ..Subject::default() }], Claim::Commit(claim))
    }

    pub fn build(&mut self, of: &[&str], change: impl FnOnce(&mut Build)) -> Sha256 {
        self.build_by(&["ci"], of, change)
    }

    pub fn build_by(&mut self, by: &[&str], of: &[&str], change: impl FnOnce(&mut Build)) -> Sha256 {
        let mut claim = Build {
            builder_id: "https://ci.acme.test".into(),
            build_type: "urn:catenary:buildtype:generic:v1".into(),
            adapter: Some(Adapter::Generic),
            source: Some(Source {
                repository: REPO.into(),
                repository_id: Some("4242".into()),
                commit: Some(commit_id("c1")),
                reference: Some("refs/heads/main".into()),
            }),
            params: BTreeMap::new(),
            unknown_params: Vec::new(),
            trigger: Some("push".into()),
            runner: None,
            dependencies: Vec::new(),
            invocation: None,
            started_on: Some(at(8)),
            finished_on: Some(at(9)),
            hermetic: None,
            reproducible: None,
            complete: Complete::default(),
        };
        change(&mut claim);
        self.attest(10, by, of.iter().map(|name| subject(name)).collect(), Claim::Build(claim))
    }

    pub fn push(&mut self, name: &str, resource: &str) -> Sha256 {
        self.event("reg", name, resource, None)
    }

    pub fn event(&mut self, by: &str, name: &str, resource: &str, from: Option<&str>) -> Sha256 {
        let promotion = from.map(|from| Promotion { from: from.into(), digest: content(name) });
        let claim = RegistryEvent {
            event: if from.is_some() { RegistryAction::Promote } else { RegistryAction::Push },
            resource: resource.into(),
            tag: None,
            previous: None,
            occurred_at: at(20),
            actor: None,
            promotion,
        };
        self.attest(20, &[by], vec![subject(name)], Claim::Registry(claim))
    }

    /// A statement that was added, to be changed.
    pub fn statement(&mut self, id: Sha256) -> &mut Logged<Attestation> {
        Arc::make_mut(self.evidence.attestations.get_mut(&id).unwrap())
    }

    /// Takes the evidence with this id away.
    pub fn without(&self, id: Sha256) -> Self {
        let mut scene = self.clone();
        scene.evidence.attestations.remove(&id);
        scene
    }

    pub fn ask(&self, name: &str) -> Verdict {
        self.ask_in(name, APP)
    }

    pub fn ask_in(&self, name: &str, resource: &str) -> Verdict {
        self.ask_at(name, resource, at(30))
    }

    /// Asks, and checks on the way that what [`Gather`] wants is enough for the same verdict.
    pub fn ask_at(&self, name: &str, resource: &str, now: Timestamp) -> Verdict {
        let image = ImageReference { resource: resource.into(), digest: content(name) };
        let question = Question {
            image,
            environment: Some("prod".into()),
            platform: None,
            context: self.context.clone(),
        };
        let log = LogView { size: 100, root: Sha256([7; 32]) };
        let verdict = evaluate(&question, &self.control, &self.evidence, log, now);

        let Gathered { evidence: mut gathered, verdict: stepped, .. } = self.gather(&question, log, now);
        gathered.damaged.clone_from(&self.evidence.damaged);
        assert_eq!(evaluate(&question, &self.control, &gathered, log, now), verdict, "gathering is complete");
        if self.evidence.damaged.is_empty() {
            assert_eq!(stepped, verdict, "step by step it is the same");
        }
        verdict
    }

    /// Frontier by frontier, as the service asks its store.
    pub fn gather(&self, question: &Question, log: LogView, now: Timestamp) -> Gathered {
        let mut gathered = Evidence::default();
        let mut gather = Gather::new(question, &self.control);
        let mut frontiers = Vec::new();
        let verdict = loop {
            let want = match step(question, &self.control, &gathered, log, now, &mut gather) {
                Step::Want(want) => want,
                Step::Verdict(verdict, _) => break *verdict,
            };
            frontiers.push(want.nodes.len());
            for node in want.nodes {
                let about =
                    self.evidence.attestations.values().filter(|a| a.fact.subject_nodes().contains(&node));
                for a in about {
                    gathered.add_attestation(a.index, a.received_at, a.fact.clone());
                }
                if let Some(o) = self.evidence.objects.get(&node) {
                    gathered.add_object(o.index, o.received_at, o.fact.clone());
                }
                if let Node::Content(child) = node {
                    for parent in self.evidence.parents.get(&child).into_iter().flatten() {
                        gathered.add_parent(child, *parent);
                    }
                }
                if let Node::Git(named) = node {
                    for heir in self.evidence.heirs.get(&named).into_iter().flatten() {
                        gathered.add_heir(named, *heir);
                    }
                }
                if self.evidence.truncated.contains(&node) {
                    gathered.truncated.insert(node);
                }
            }
        };
        Gathered { evidence: gathered, verdict, frontiers }
    }
}

/// What was gathered for a question.
pub struct Gathered {
    pub evidence: Evidence,
    pub verdict: Verdict,
    /// How many nodes each round trip asked for.
    pub frontiers: Vec<usize>,
}

fn content_512(name: &str) -> Digest {
    Digest::Sha512([0; 64]).recompute(name.as_bytes())
}

pub fn descriptor(name: &str, platform: Option<Platform>) -> Descriptor {
    Descriptor {
        media_type: String::new(),
        digest: content(name),
        size: 1,
        platform,
        attests: None,
        predicate_type: None,
    }
}

pub fn subject(name: &str) -> Subject {
    let digests = DigestSet { content: vec![content(name)], ..DigestSet::default() };
    Subject { name: name.into(), digests, ..Subject::default() }
}

pub fn base(name: &str, resource: &str) -> Dependency {
    Dependency {
        role: Role::BaseImage,
        uri: format!("oci://{resource}@{}", content(name)),
        nodes: vec![content(name).into()],
        resource: Some(resource.into()),
    }
}

/// The golden policy, with `extra` lines in `spec`.
pub fn policy(extra: &str) -> String {
    policy_named("prod", APP, extra)
}

pub fn policy_named(name: &str, resource: &str, extra: &str) -> String {
    let (ci, ci2, vcs) = (key("ci"), key("ci2"), key("vcs"));
    let mut document = format!(
        r#"
apiVersion: catenary/v1
kind: ChainPolicy
metadata: {{name: {name}}}
spec:
  match: {{resources: ["{resource}"]}}
  trust:
    builders:
      - {{id: ci, domain: acme, maxLevel: 3, signer: {{key: "{ci}"}}, builderId: {{exact: "https://ci.acme.test"}}}}
      - {{id: ci2, domain: other, maxLevel: 3, signer: {{key: "{ci2}"}}, builderId: {{exact: "https://ci2.acme.test"}}}}
    sources: [{{id: vcs, signer: {{key: "{vcs}"}}}}]
    registries: [{{id: reg, signer: {{service: collector}}}}]
"#
    );
    for (section, default) in [
        ("build", "{minLevel: 2}"),
        (
            "source",
            "{repository: {uri: \"git+https://git.acme.test/acme/app\", id: \"4242\"}, refs: [\"refs/heads/main\"]}",
        ),
        ("registry", "{}"),
    ] {
        if !extra.lines().any(|line| line.trim_start().starts_with(&format!("{section}:"))) {
            document.push_str(&format!("  {section}: {default}\n"));
        }
    }
    document.push_str(extra);
    document
}

/// The outcome and the codes of the errors, each once.
pub fn told(verdict: &Verdict) -> (Outcome, Vec<Code>) {
    let mut codes: Vec<Code> = verdict.errors().map(|r| r.code).collect();
    codes.sort();
    codes.dedup();
    (verdict.outcome, codes)
}

#[track_caller]
pub fn check(story: &str, verdict: &Verdict, codes: &[Code]) {
    let outcome = match codes {
        [] => Outcome::Passed,
        codes if codes.iter().any(|c| c.is_indeterminate()) => Outcome::Indeterminate,
        _ => Outcome::Failed,
    };
    let mut codes = codes.to_vec();
    codes.sort();
    assert_eq!(told(verdict), (outcome, codes), "{story}: {}\n{:#?}", verdict.summary, verdict.reasons);
    assert_eq!(verdict.allowed, outcome == Outcome::Passed, "{story}");
    assert!(verdict.summary.chars().count() <= 256);
    for reason in &verdict.reasons {
        assert!(!reason.remediation.hint.is_empty() && !reason.message.is_empty());
    }
}
