//! The strict enterprise policy, word for word (`strict.yaml`; digests that are shortened there are filled in), with one good
//! chain, and the same chain with one thing wrong. What `enterprise` shows with keys is shown here with certificates, pinned
//! roots, a quorum, groups of the tenant and a repository id that source summaries do not carry.

use std::{collections::BTreeMap, sync::Arc};

use catenary_evidence::{
    Identity, Signature, Signer,
    digest::Sha256,
    object::{Body, GitSignature, GitTag},
    predicate::*,
    signer::{AuthorityKind, Claims, Logged, SanKind, Voucher},
    statement::{DigestSet, Subject},
    trust_root,
    witness::Cosignature,
};
use jiff::Timestamp;

use super::{
    identities::signature,
    properties::{Says, finding, said, sbom, scan_of, test},
    scene::*,
};
use crate::{
    control::{Entry, GroupSet, Quorum, TrustedKey},
    policy::Policy,
    reason::Code::{self, *},
    verdict::{Outcome, Verdict},
};

const IMAGE: &str = "registry.acme.io/payments/api";
const STAGING: &str = "registry.acme.io/staging/payments/api";
const BASE: &str = "registry.acme.io/base/debian";
const REPOSITORY: &str = "git+https://github.com/acme/payments";
const BUILDER: &str = "https://github.com/acme/build-workflows/.github/workflows/oci.yml@refs/tags/v3";
const SOURCE: &str = "https://github.com/slsa-framework/source-actions";
const BUILDKIT: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const RUN: &str = "https://github.com/acme/payments/actions/runs/7/attempts/1";
const TAG: &str = "refs/tags/v1.4.2";

/// As printed, with whole digests.
fn document() -> String {
    let digest = |text: &str| format!("\"sha256:{}\"", text.repeat(32));
    let fill = [
        ("\"sha256:4f0c...\"", format!("\"{}\"", key("ci2"))),
        ("\"sha256:aa11...\"", format!("\"{}\"", key("base"))),
        ("\"sha256:5ca0...\"", format!("\"{}\"", key("scan"))),
        ("\"sha256:be5e...\"", format!("\"{}\"", content("base policy"))),
        ("\"sha256:11..\"", digest("11")),
        ("\"sha256:22..\"", digest("22")),
    ];
    fill.into_iter().fold(include_str!("strict.yaml").to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, &to)
    })
}

/// The first log of the public root that is trusted at minute 9.
fn log() -> Voucher {
    let all = trust_root::builtin_authorities(trust_root::SIGSTORE).unwrap();
    let usable = |(kind, _): &(AuthorityKind, Sha256)| *kind == AuthorityKind::Log;
    let found = all.iter().find(|(id, windows)| usable(id) && windows.iter().any(|w| w.contains(at(9))));
    Voucher { kind: AuthorityKind::Log, authority: found.unwrap().0.1, at: at(9) }
}

fn by(san: &str, claims: Claims) -> Signature {
    let mut signature = signature(Identity {
        domain: trust_root::SIGSTORE.into(),
        san_kind: SanKind::Uri,
        san: san.into(),
        issuer: Some("https://token.actions.githubusercontent.com".into()),
        claims,
    });
    signature.vouchers.push(log());
    signature
}

fn builder() -> Signature {
    by(
        BUILDER,
        Claims {
            runner_environment: Some("github-hosted".into()),
            source_repository_owner_id: Some("123456".into()),
            source_repository_uri: Some("https://github.com/acme/payments".into()),
            source_repository_id: Some("987654".into()),
            source_repository_digest: Some(commit_id("c1").to_hex()),
            source_repository_ref: Some(TAG.into()),
            build_trigger: Some("push".into()),
            run_invocation_uri: Some(RUN.into()),
            ..Claims::default()
        },
    )
}

fn verifier() -> Signature {
    by(&format!("{SOURCE}/.github/workflows/compute_slsa_source.yml@refs/heads/main"), Claims::default())
}

struct Story<'w>(Scene, &'w str);

impl Story<'_> {
    fn is(&self, wrong: &str) -> bool {
        self.1 == wrong
    }

    fn tell(mut self) -> Scene {
        for name in ["rm", "base", "scan"] {
            self.0.trust(name, None, None);
        }
        self.trust();
        self.0.context = [("freeze", "false"), ("breakGlass", "false")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        self.0.policy("payments-prod", &document());
        self.artifact();
        self.source();
        self.builds();
        self.properties();
        self.0
    }

    fn trust(&mut self) {
        let all = trust_root::builtin_authorities(trust_root::SIGSTORE).unwrap().clone();
        let version = if self.is("another version of the root") { 13 } else { 12 };
        self.0.domain(trust_root::SIGSTORE, version, all.clone(), None);
        let mut witnesses = all;
        if self.is("a log that is no witness") {
            witnesses.retain(|(kind, _), _| *kind != AuthorityKind::Log);
        }
        if !self.is("witnesses that nobody knows") {
            self.0.domain("acme-witnesses", 1, witnesses, None);
        }
        if !self.is("a group without members") {
            self.0.apply(&Entry::GroupSet(GroupSet {
                name: "release-managers".into(),
                keys: vec![key("rm")],
                principals: Vec::new(),
                by: "token:root".into(),
            }));
        }
        let harbor = TrustedKey {
            service: Some("harbor-collector".into()),
            ..self.0.control.keys[&key("reg")].key.clone()
        };
        self.0.control.keys.get_mut(&key("reg")).unwrap().key = harbor;
    }

    fn artifact(&mut self) {
        self.0.manifest("m1", "amd64", &["l1"]);
        self.0.manifest("m2", "arm64", &["l2"]);
        self.0.index("app", &[("m1", "amd64"), ("m2", "arm64")]);
        self.0.event("reg", "app", STAGING, None);
        self.0.event("reg", "app", IMAGE, Some(STAGING));
        let summary = Summary {
            verifier_id: "https://acme.io/base-images/v2".into(),
            resource_uri: BASE.into(),
            policy_uri: None,
            policy_digest: Some(content("base policy")),
            passed: true,
            levels: BTreeMap::from([("BUILD".into(), 3)]),
            repeated: Vec::new(),
            properties: Vec::new(),
            time_verified: Some(at(1)),
        };
        self.0.attest(3, &["base"], vec![subject("base")], Claim::Summary(summary));
        if !self.is("a base of unknown age") {
            self.0.build_by(&["ci2"], &["base"], |build| {
                build.builder_id = "https://rebuild.acme.io/v1".into();
            });
        }
    }

    fn source(&mut self) {
        let subject = |refs: &[&str]| {
            let digests = DigestSet { git: vec![commit_id("c1")], ..DigestSet::default() };
            let source_refs = refs.iter().map(|r| (*r).to_owned()).collect();
            vec![Subject { digests, source_refs, ..Subject::default() }]
        };
        let passed = Summary {
            verifier_id: SOURCE.into(),
            resource_uri: if self.is("another repository's summary") {
                "git+https://github.com/acme/other"
            } else {
                REPOSITORY
            }
            .into(),
            policy_uri: None,
            policy_digest: None,
            passed: true,
            levels: BTreeMap::from([("SOURCE".into(), if self.is("a low source level") { 2 } else { 3 })]),
            repeated: Vec::new(),
            properties: ["SLSA_SOURCE_TWO_PARTY_REVIEWED", "ORG_SOURCE_STATIC_ANALYSIS"]
                .into_iter()
                .skip(usize::from(self.is("not reviewed")))
                .map(str::to_owned)
                .collect(),
            time_verified: None,
        };
        let refs: &[&str] = if self.is("not on main") { &[TAG] } else { &[TAG, "refs/heads/main"] };
        let id = self.0.attest(10, &[], subject(refs), Claim::Summary(passed));
        let mut signed = verifier();
        if self.is("a summary from a repository that took the name over")
            && let Signer::Certificate(identity) = &mut signed.signer
        {
            identity.claims.source_repository_uri = Some("https://github.com/acme/payments".into());
            identity.claims.source_repository_id = Some("666".into());
        }
        self.0.statement(id).fact.signatures = vec![signed];
        let stranger = if self.is("a tag of a stranger") { "other" } else { "rm" };
        let verified = Some(Signature::by_key(key(stranger)));
        let tag = GitTag {
            name: "v1.4.2".into(),
            target: commit_id("c1"),
            target_kind: "commit".into(),
            tagger: None,
            signature: Some(GitSignature { method: "ssh".into(), verified }),
        };
        self.0.object("t1", Body::Tag(tag));
        if !self.is("no test") {
            let result = test(if self.is("a failed test") { "FAILED" } else { "PASSED" });
            let by = if self.is("a stranger's test") { "other" } else { "ci2" };
            self.0.attest(21, &[by], subject(&[]), result);
        }
    }

    fn builds(&mut self) {
        let no_id = self.is("no id at all");
        let change = |build: &mut Build| {
            build.build_type = BUILDKIT.into();
            build.adapter = Some(Adapter::Buildkit);
            build.invocation = Some(RUN.into());
            build.hermetic = Some(true);
            build.complete = Complete { params: Some(true), dependencies: Some(true) };
            build.source = Some(Source {
                repository: REPOSITORY.into(),
                repository_id: (!no_id).then(|| "987654".into()),
                commit: Some(commit_id("c1")),
                reference: Some(TAG.into()),
            });
            build.params.insert("workflow.path".into(), ".github/workflows/release.yml".into());
            build.dependencies.push(base("base", BASE));
        };
        let (old, mut signed) = (self.is("an old buildkit"), builder());
        if let Signer::Certificate(identity) = &mut signed.signer {
            let claims = &mut identity.claims;
            claims.source_repository_id = claims.source_repository_id.take().filter(|_| !no_id);
            if self.is("another owner") {
                claims.source_repository_owner_id = Some("666".into());
            }
        }
        if self.is("no log") {
            signed.logged = Logged::No;
        }
        let id = self.0.build_by(&[], &["app"], |build| {
            change(build);
            build.builder_id = BUILDER.into();
            if old {
                build.build_type = "https://mobyproject.org/buildkit@v1".into();
            }
        });
        self.0.statement(id).fact.signatures = vec![signed];
        self.0.build_by(&["ci2"], &["app"], |build| {
            change(build);
            build.builder_id = "https://rebuild.acme.io/v1".into();
        });
        let run = |at: i64| CiRun {
            invocation: RUN.into(),
            conclusion: "success".into(),
            finished_on: Some(self::at(at)),
        };
        let id = self.0.attest(12, &[], vec![subject("app")], Claim::Run(run(11)));
        self.0.statement(id).fact.signatures = vec![builder()];
        self.0.attest(12, &["ci2"], vec![subject("app")], Claim::Run(run(12)));
    }

    fn properties(&mut self) {
        for (platform, components) in [("m1", 3), ("m2", 4)] {
            let mut document = sbom();
            if let Claim::Sbom(sbom) = &mut document {
                sbom.components = components;
            }
            let id = self.0.says(20, &[], platform, document);
            self.0.statement(id).fact.signatures = vec![builder()];
        }
        let critical = self.is("a critical finding");
        let severity = if critical { Severity::Critical } else { Severity::Low };
        let mut scan = scan_of(Some(at(21)), vec![finding("CVE-1", severity, "pkg:deb/debian/bash")]);
        if let (true, Claim::Scan(scan)) = (self.is("findings left out"), &mut scan) {
            scan.findings.more = true;
        }
        self.0.says(22, &["scan"], "app", scan);
        let id = self.0.says(23, &["rm"], "app", Claim::Other);
        self.0.statement(id).fact.predicate_type = "https://acme.io/attestation/change-approval/v1".into();
    }
}

fn ask(wrong: &str) -> Verdict {
    Story(Scene::empty(), wrong).tell().ask_in("app", IMAGE)
}

#[test]
fn the_strict_policy_is_taken_word_for_word() {
    let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
    let policy = Policy::publish(&document(), now).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(policy.name(), "payments-prod");
    let spec = policy.spec();
    assert_eq!(spec.trust.roots.as_ref().map(Vec::len), Some(3));
    assert_eq!(spec.exceptions.as_ref().map(|rules| rules.at_least), Some(2));
    assert_eq!(spec.tests.len(), 2);
    assert_eq!(policy.identities().filter(|rule| rule.roots.is_some()).count(), 2);
}

#[test]
fn the_strict_policy_passes_its_good_chain() {
    let verdict = ask("");
    check("good", &verdict, &[]);
    assert_eq!(verdict.levels, BTreeMap::from([("SLSA_BUILD".into(), 3), ("SLSA_SOURCE".into(), 3)]));
    assert!(verdict.properties.iter().any(|property| property == "SLSA_BUILD_REPRODUCED"));
}

/// What goes wrong, and what must be said of it.
const WRONG: [(&str, Code); 19] = [
    ("another version of the root", SrcSignerNotTrusted),
    ("witnesses that nobody knows", BldThreshold),
    ("a log that is no witness", BldThreshold),
    ("no log", BldThreshold),
    ("an old buildkit", BldThreshold),
    ("another owner", BldThreshold),
    ("a base of unknown age", DepBaseStale),
    ("another repository's summary", SrcRepoMismatch),
    ("a low source level", SrcLevelTooLow),
    ("not reviewed", SrcPropertyMissing),
    ("not on main", SrcNotReachable),
    ("a summary from a repository that took the name over", SrcRepoIdMismatch),
    ("no id at all", SrcRepoIdMismatch),
    ("a tag of a stranger", SrcSignerNotTrusted),
    ("a group without members", SrcSignerNotTrusted),
    ("no test", PrpMissing),
    ("a failed test", PrpFailed),
    ("a stranger's test", PrpSignerNotTrusted),
    ("a critical finding", PrpFailed),
];

#[test]
fn the_strict_policy_fails_a_chain_with_one_thing_wrong() {
    let mut others = Vec::new();
    for (wrong, code) in WRONG {
        let verdict = ask(wrong);
        let (outcome, codes) = told(&verdict);
        if outcome != Outcome::Failed || verdict.allowed || !codes.contains(&code) {
            others.push((wrong, outcome, codes));
        }
    }
    assert_eq!(others, []);
    check("findings left out", &ask("findings left out"), &[PolEvalError]);
}

#[test]
fn a_group_of_one_policy_is_not_that_of_another() {
    let own = document().replace(
        "    roots: [",
        &format!("    groups: {{release-managers: {{keys: [\"{}\"]}}, security: {{keys: [\"{}\"]}}}}\n    roots: [", key("other"), key("other")),
    );
    let mut scene = Story(Scene::empty(), "").tell();
    scene.policy("payments-prod", &own);
    let (_, codes) = told(&scene.ask_in("app", IMAGE));
    assert!(codes.contains(&SrcSignerNotTrusted), "the tenant's group is not meant: {codes:?}");
    let misspelt = own.replace("principals: release-managers", "principals: release-manager");
    assert!(Policy::parse(&misspelt).unwrap_err().message.contains("known are"));
}

#[test]
fn a_finding_that_vex_excuses_is_not_critical() {
    let vex = format!("    vex: [{{id: psirt, signer: {{key: \"{}\"}}}}]\n    roots: [", key("other"));
    let document = document().replace("    roots: [", &vex);
    let ask = |status: Option<VexStatus>| {
        let mut scene = Story(Scene::empty(), "a critical finding").tell();
        scene.policy("payments-prod", &document);
        if let Some(status) = status {
            let list = vec![said(&["CVE-1"], status)];
            let claim = Claim::Vex(Vex {
                author: "psirt".into(),
                issued: None,
                statuses: BTreeMap::new(),
                statements: VexStatements { list, more: false },
            });
            scene.says(24, &["other"], "app", claim);
        }
        scene.ask_in("app", IMAGE)
    };
    check("no VEX", &ask(None), &[PrpFailed]);
    check("affected", &ask(Some(VexStatus::Affected)), &[PrpFailed]);
    check("not affected", &ask(Some(VexStatus::NotAffected)), &[]);
}

#[test]
fn an_exception_is_approved_by_the_tenant_group_that_the_policy_names() {
    use crate::control::{Exception, ExceptionApproved};
    let mut scene = Story(Scene::empty(), "a critical finding").tell();
    for name in ["ann", "bob", "cy", "dan"] {
        scene.token(name, None);
    }
    let digest = content("app");
    scene.apply(&Entry::ExceptionRequested(Exception {
        id: "exc-1".into(),
        policy: "payments-prod".into(),
        digest,
        resource: IMAGE.into(),
        environment: None,
        owner: "ann".into(),
        reason: "mended tomorrow".into(),
        requested: at(25),
        expires: at(60),
        by: "token:ann".into(),
    }));
    let approve = |scene: &mut Scene, by: &str| {
        let (id, by, role) = ("exc-1".into(), format!("token:{by}"), "admin".into());
        scene.apply(&Entry::ExceptionApproved(ExceptionApproved { id, digest, by, role, at: at(26) }));
    };
    approve(&mut scene, "bob");
    approve(&mut scene, "dan");
    let group = |principals: &[&str]| {
        Entry::GroupSet(GroupSet {
            name: "security".into(),
            keys: Vec::new(),
            principals: principals.iter().map(|p| format!("token:{p}")).collect(),
            by: "token:root".into(),
        })
    };
    assert!(!scene.ask_in("app", IMAGE).allowed, "a group that is not there");
    scene.apply(&group(&["bob", "cy"]));
    assert!(!scene.ask_in("app", IMAGE).allowed, "one of the group");
    approve(&mut scene, "cy");
    assert!(scene.ask_in("app", IMAGE).allowed, "two of it");
    scene.apply(&group(&["bob"]));
    assert!(!scene.ask_in("app", IMAGE).allowed, "who left it approves nothing");
    scene.apply(&group(&[]));
    assert!(!scene.control.groups.contains_key("security"));
}

/// Three witnesses of `acme-witnesses`, of whom two must have seen a checkpoint. Their ids are known by what reads it.
const WITNESSES: &str = "\
witness w1 w1.test+c5ac7fc1+BBAjFbpOuKrLrTHSQUujb/dQmyYkaICNlyFGxL79ecel
witness w2 w2.test+73f27aee+BBso/+NMwG+41OCurcsdHwGsjH4JZPLApesiZYSLWe1K
witness w3 w3.test+0b26430f+BNGoomGTAFuNaCYEuRDYLGWBX+xbvu2K4I2PadwD2Eqe
group two 2 w1 w2 w3
quorum two
";

/// The good chain under the quorum of witnesses; each cosignature is a witness (from 0), a log and a checkpoint.
fn cosigned(seen: &[(usize, Sha256, u8)], change: impl Fn(&mut Scene, &[Sha256])) -> (Verdict, Quorum) {
    let mut scene = Story(Scene::empty(), "").tell();
    let document = WITNESSES.to_owned();
    let mut root = scene.control.domains["acme-witnesses"].versions[0].root.clone();
    root.document = String::new();
    root.witnesses = Some(document);
    let read = root.read().unwrap();
    let witnesses = read.witnesses().unwrap().clone();
    let ids: Vec<Sha256> = witnesses.ids().collect();
    let state = scene.control.domains.get_mut("acme-witnesses").unwrap();
    let version = &mut state.versions[0];
    version.authorities = Arc::new(read.authorities());
    version.witnesses = Some(Arc::new(witnesses));
    let cosigned = seen.iter().map(|&(witness, log, checkpoint)| Cosignature {
        log,
        checkpoint: Sha256([checkpoint; 32]),
        witness: ids.get(witness).copied().unwrap_or(Sha256([99; 32])),
        at: at(9),
    });
    let cosigned: Vec<Cosignature> = cosigned.collect();
    for statement in scene.evidence.attestations.values_mut() {
        for signature in &mut Arc::make_mut(statement).fact.signatures {
            if signature.signer.identity().is_some_and(|identity| identity.san == BUILDER) {
                signature.cosigned.clone_from(&cosigned);
            }
        }
    }
    change(&mut scene, &ids);
    let signature = Signature { cosigned, ..builder() };
    let quorum = scene.control.quorum("acme-witnesses", &[&signature]);
    (scene.ask_in("app", IMAGE), quorum)
}

#[test]
fn a_quorum_of_witnesses_saw_one_checkpoint_of_a_log_that_vouches() {
    let (ours, other) = (log().authority, Sha256([7; 32]));
    let ask = |seen: &[(usize, Sha256, u8)]| cosigned(seen, |_, _| {});
    let (verdict, quorum) = ask(&[(0, ours, 1), (2, ours, 1)]);
    check("two of three", &verdict, &[]);
    assert_eq!((quorum.logs, quorum.wanted), (1, 1));
    assert_eq!(quorum.cosigned, ["w1", "w3"]);
    check("and a stranger", &ask(&[(0, ours, 1), (2, ours, 1), (9, ours, 1)]).0, &[]);
    let short = [
        ("none", ask(&[])),
        ("one too few", ask(&[(0, ours, 1)])),
        ("a stranger is none", ask(&[(0, ours, 1), (9, ours, 1)])),
        ("the same one twice", ask(&[(0, ours, 1), (0, ours, 1)])),
        ("each another checkpoint", ask(&[(0, ours, 1), (1, ours, 2)])),
        ("of a log that vouches for nothing here", ask(&[(0, other, 1), (1, other, 1)])),
    ];
    for (story, (verdict, quorum)) in &short {
        check(story, verdict, &[BldThreshold]);
        assert_eq!(quorum.logs, 0, "{story}");
        assert_eq!(quorum.witnesses.as_deref(), Some("2 of (w1, w2, w3)"), "{story}");
    }
    let (revoked, _) = cosigned(&[(0, ours, 1), (1, ours, 1)], |scene, ids| {
        let target = crate::control::Target::Authority(ids[0]);
        scene.apply(&Entry::Revocation(crate::control::Revocation {
            target,
            from: Some(at(1000)),
            reason: "its key leaked".into(),
        }));
    });
    check("who was revoked once is no witness any more", &revoked, &[BldThreshold]);
    let (withdrawn, _) = cosigned(&[(0, ours, 1), (1, ours, 1)], |scene, _| {
        let (domain, reason) = ("acme-witnesses".into(), "gone".into());
        scene.apply(&Entry::TrustWithdrawn { domain, reason });
    });
    check("withdrawn", &withdrawn, &[BldThreshold]);
}

/// Anybody can take a proof out of somebody's bundle and send it again; which copy has the smaller id is chance.
#[test]
fn a_copy_without_its_proofs_does_not_stand_in_the_way_of_the_whole_one() {
    let ours = log().authority;
    for smaller in [true, false] {
        let (verdict, _) = cosigned(&[(0, ours, 1), (1, ours, 1)], |scene, _| strip(scene, smaller));
        check("a copy without proofs", &verdict, &[]);
    }
    let (verdict, _) = cosigned(&[(0, ours, 1)], |scene, _| strip(scene, true));
    check("copies do not add up to more than there is", &verdict, &[BldThreshold]);
}

/// Adds to each statement of the builder a copy that no log holds.
fn strip(scene: &mut Scene, smaller: bool) {
    let of_builder = |s: &Signature| s.signer.identity().is_some_and(|identity| identity.san == BUILDER);
    let whole: Vec<_> =
        scene.evidence.attestations.values().map(|s| (s.received_at, s.fact.clone())).collect();
    for (n, (received, mut copy)) in (0u8..).zip(whole) {
        if !copy.signatures.iter().any(of_builder) {
            continue;
        }
        copy.id = Sha256([if smaller { n } else { 255 - n }; 32]);
        for signature in &mut copy.signatures {
            signature.cosigned.clear();
            signature.logged = Logged::No;
            signature.vouchers.retain(|voucher| voucher.kind != AuthorityKind::Log);
        }
        scene.evidence.add_attestation(1000 + u64::from(n), received, copy);
    }
}
