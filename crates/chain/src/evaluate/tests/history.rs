//! Commit graph, tags and controls: what is around the commit that was built.

use catenary_evidence::{
    Signature,
    digest::{Digest, GitOid},
    layout::Link,
    object::{Body, GitCommit, GitSignature, GitTag},
    predicate::{Build, Claim, Control, SourceProvenance, TagProvenance},
    statement::{DigestSet, Subject},
};

use super::scene::*;
use crate::{policy::Policy, reason::Code::*, verdict::Verdict};

/// The golden policy with more members of `source`.
fn asking(more: &str) -> String {
    let rest = "repository: {uri: \"git+https://git.acme.test/acme/app\", id: \"4242\"}";
    policy(&format!("  source: {{{rest}, {more}}}\n"))
}

/// Commit `c1` was built from `reference`, and is known on it.
fn scene(document: &str, reference: &str) -> Scene {
    let mut scene = Scene::empty();
    scene.policy("prod", document);
    scene.manifest("app", "amd64", &["l1"]);
    scene.commit("c1", |commit| commit.reference = reference.into());
    scene.build(&["app"], |build| build.source.as_mut().unwrap().reference = Some(reference.into()));
    scene.push("app", APP);
    scene
}

impl Scene {
    /// A commit object.
    fn after(&mut self, name: &str, parents: &[&str]) {
        let commit = GitCommit {
            tree: commit_id("tree"),
            parents: parents.iter().map(|parent| commit_id(parent)).collect(),
            author: String::new(),
            committer: String::new(),
            committed_at: None,
            signature: None,
        };
        self.object(name, Body::Commit(commit));
    }

    /// A tag object.
    fn tag(&mut self, id: &str, name: &str, of: &str, signer: Option<&str>) {
        let verified = |signer| Some(Signature::by_key(key(signer)));
        let signature =
            signer.map(|signer| GitSignature { method: "ssh".into(), verified: verified(signer) });
        let (target, target_kind) = (commit_id(of), "commit".into());
        self.object(
            id,
            Body::Tag(GitTag { name: name.into(), target, target_kind, tagger: None, signature }),
        );
    }

    fn about_commit(&mut self, by: &str, name: &str, claim: Claim) {
        let digests = DigestSet { git: vec![commit_id(name)], ..DigestSet::default() };
        self.attest(3, &[by], vec![Subject { digests, ..Subject::default() }], claim);
    }
}

const MAIN: &str = "reachableFrom: [refs/heads/main]";

#[test]
fn g05_a_commit_that_never_went_into_the_protected_ref_is_an_imposter() {
    let fork = "refs/heads/fork";
    let mut imposter = scene(&asking(MAIN), fork);
    check("in no history", &imposter.ask("app"), &[SrcNotReachable]);
    check("the ref itself", &scene(&asking(MAIN), "refs/heads/main").ask("app"), &[]);
    // Two commits later it is on main, and each step is proved by bytes.
    imposter.after("c2", &["c1"]);
    imposter.after("merge", &["c0", "c2"]);
    check("nobody says where main is", &imposter.ask("app"), &[SrcNotReachable]);
    imposter.commit_by("other", "merge", |_| {});
    check("nobody trusted says it", &imposter.ask("app"), &[SrcNotReachable]);
    let merged = imposter.commit("merge", |_| {});
    check("merged", &imposter.ask("app"), &[]);
    assert!(imposter.ask("app").evidence().contains(&merged), "what it rests on is named");
    // The other direction proves nothing: an ancestor of the commit is on main.
    let mut child = scene(&asking(MAIN), fork);
    child.after("c1", &["c0"]);
    child.commit("c0", |_| {});
    check("its parent is on main", &child.ask("app"), &[SrcNotReachable]);
    // Main of another repository.
    let mut elsewhere = scene(&asking(MAIN), fork);
    elsewhere.after("c2", &["c1"]);
    elsewhere.commit("c2", |commit| commit.repository = "git+https://git.acme.test/evil/app".into());
    elsewhere.commit("c2", |commit| commit.repository_id = Some("666".into()));
    check("another repository", &elsewhere.ask("app"), &[SrcNotReachable]);
}

#[test]
fn the_walk_over_commits_is_bounded() {
    let mut long = scene(&asking(MAIN), "refs/heads/fork");
    let mut before = "c1".to_owned();
    for n in 0..80 {
        let name = format!("d{n}");
        long.after(&name, &[&before]);
        before = name;
    }
    long.commit(&before, |_| {});
    check("too far", &long.ask("app"), &[SysLimitExceeded]);
    long.commit("d60", |_| {});
    check("near enough", &long.ask("app"), &[]);
    // A circle cannot be made of hashes, but a walk must end even so.
    let mut circle = scene(&asking(MAIN), "refs/heads/fork");
    circle.after("c2", &["c1", "c3"]);
    circle.after("c3", &["c2"]);
    check("a circle", &circle.ask("app"), &[SrcNotReachable]);
}

/// The golden policy, which asks for signed tags.
fn tags(more: &str) -> String {
    asking(&format!("signatures: {{tag: {{required: true{more}}}}}"))
}

#[test]
fn a_release_tag_must_be_signed_by_whom_the_policy_names() {
    let of = |document: &str, signer: Option<Option<&str>>, name: &str| {
        let mut scene = scene(document, "refs/tags/v1");
        if let Some(signer) = signer {
            scene.tag("t1", name, "c1", signer);
        }
        scene.ask("app")
    };
    let named = tags(&format!(", keys: [\"{}\"]", key("vcs")));
    check("signed", &of(&named, Some(Some("vcs")), "v1"), &[]);
    check("any key that counts", &of(&tags(""), Some(Some("other")), "v1"), &[]);
    check("another key", &of(&named, Some(Some("other")), "v1"), &[SrcSignerNotTrusted]);
    check("not signed", &of(&named, Some(None), "v1"), &[SrcTagUnsigned]);
    check("no tag object", &of(&named, None, "v1"), &[SrcTagUnsigned]);
    check("another tag", &of(&named, Some(Some("vcs")), "v10"), &[SrcTagUnsigned]);
    check("a branch has no tag", &scene(&named, "refs/heads/main").ask("app"), &[]);
    let mut elsewhere = scene(&named, "refs/tags/v1");
    elsewhere.tag("t1", "v1", "c2", Some("vcs"));
    check("a tag of another commit", &elsewhere.ask("app"), &[SrcTagUnsigned]);
    let mut revoked = scene(&named, "refs/tags/v1");
    revoked.tag("t1", "v1", "c1", Some("vcs"));
    revoked.revoke("vcs");
    assert!(revoked.ask("app").errors().any(|reason| reason.code == SrcSignerNotTrusted));
}

#[test]
fn a_tag_may_need_two_release_managers() {
    let groups = format!("  trust:\n    groups: {{rm: {{keys: [\"{}\", \"{}\"]}}}}\n", key("ci"), key("ci2"));
    let document = tags(", principals: rm, atLeast: 2").replacen("  trust:\n", &groups, 1);
    let mut scene = scene(&document, "refs/tags/v1");
    scene.tag("t1", "v1", "c1", Some("ci"));
    check("one", &scene.ask("app"), &[SrcSignerNotTrusted]);
    scene.tag("t2", "v1", "c1", Some("ci"));
    check("the same twice", &scene.ask("app"), &[SrcSignerNotTrusted]);
    scene.tag("t3", "v1", "c1", Some("other"));
    check("a stranger", &scene.ask("app"), &[SrcSignerNotTrusted]);
    scene.tag("t4", "v1", "c1", Some("ci2"));
    check("two", &scene.ask("app"), &[]);
    for name in ["ci", "ci2"] {
        scene.control.keys.get_mut(&key(name)).unwrap().key.service = Some("robot".into());
    }
    check("two keys of one service", &scene.ask("app"), &[SrcSignerNotTrusted]);
    for (more, path) in [
        (", principals: nobody", "spec.source.signatures.tag.principals"),
        (", principals: rm, atLeast: 3", "spec.source.signatures.tag.atLeast"),
        (", atLeast: 0", "spec.source.signatures.tag.atLeast"),
    ] {
        let error = Policy::parse(&tags(more).replacen("  trust:\n", &groups, 1)).unwrap_err();
        assert_eq!(error.path, path, "{error}");
    }
}

#[test]
fn a_tag_that_was_moved_is_refused() {
    let document = asking("signatures: {tag: {required: false}}");
    let moved = |by: &str, previous: Option<GitOid>| {
        let mut scene = scene(&document, "refs/tags/v1");
        scene.commit_by(by, "c1", |commit| {
            commit.reference = "refs/tags/v1".into();
            commit.previous = previous;
            commit.updated_at = at(0);
        });
        scene.tag("t1", "v1", "c1", None);
        scene.ask("app")
    };
    check("new", &moved("vcs", None), &[]);
    check("from another commit", &moved("vcs", Some(commit_id("c0"))), &[SrcTagMoved]);
    check("to itself, annotated", &moved("vcs", Some(commit_id("t1"))), &[]);
    check("a stranger says so", &moved("other", Some(commit_id("c0"))), &[]);
}

fn control(name: &str, since: i64) -> Control {
    Control { name: name.into(), since: Some(at(since)) }
}

fn provenance(controls: Vec<Control>) -> Claim {
    Claim::SourceProvenance(SourceProvenance {
        repository: Some(REPO.into()),
        activity: None,
        actor: None,
        reference: Some("main".into()),
        previous: None,
        created_on: None,
        controls,
    })
}

#[test]
fn a_control_must_have_been_on_without_a_gap() {
    let document = asking(&format!("continuity: {{control: CONTINUITY, since: \"{}\"}}", at(-60)));
    let told = |by: &str, claim: Option<Claim>| {
        let mut scene = scene(&document, "refs/heads/main");
        if let Some(claim) = claim {
            scene.about_commit(by, "c1", claim);
        }
        scene.ask("app")
    };
    check("since long", &told("vcs", Some(provenance(vec![control("CONTINUITY", -90)]))), &[]);
    check("exactly", &told("vcs", Some(provenance(vec![control("CONTINUITY", -60)]))), &[]);
    check("a gap", &told("vcs", Some(provenance(vec![control("CONTINUITY", -30)]))), &[SrcContinuityGap]);
    check(
        "another control",
        &told("vcs", Some(provenance(vec![control("REVIEW", -90)]))),
        &[SrcContinuityGap],
    );
    check(
        "no time",
        &told("vcs", Some(provenance(vec![Control { name: "CONTINUITY".into(), since: None }]))),
        &[SrcContinuityGap],
    );
    check(
        "a stranger",
        &told("other", Some(provenance(vec![control("CONTINUITY", -90)]))),
        &[SrcContinuityGap],
    );
    check("nothing", &told("vcs", None), &[SrcContinuityGap]);
    let tag = TagProvenance {
        repository: Some(REPO.into()),
        tag: "refs/tags/v1".into(),
        actor: None,
        created_on: None,
        controls: vec![control("CONTINUITY", -90)],
        summaries: Vec::new(),
    };
    check("of a tag", &told("vcs", Some(Claim::TagProvenance(tag))), &[]);
}

#[test]
fn g07_a_commit_that_only_sha1_names_can_be_refused() {
    let told = |sha1: &str| scene(&asking(&format!("sha1: {sha1}")), "refs/heads/main").ask("app");
    check("allowed", &told("allow"), &[]);
    let says = |sha1: &str| told(sha1).reasons.iter().any(|reason| reason.code == SrcSha1Only);
    assert!(!says("allow"));
    check("warned", &told("warn"), &[]);
    assert!(says("warn"));
    check("denied", &told("deny"), &[SrcSha1Only]);
}

#[test]
fn g21_an_old_build_is_not_taken_again() {
    let old = |age: &str| {
        let mut scene = Scene::golden();
        scene.policy("prod", &policy(&format!("  time: {{maxArtifactAge: {age}}}\n")));
        scene.ask("app")
    };
    check("young enough", &old("30m"), &[]);
    check("replayed", &old("20m"), &[TimTooOld]);
}

#[test]
fn g23_a_pull_request_builds_the_same_bytes_in_vain() {
    let document = policy("  build: {triggers: [push, release]}\n");
    let built = |triggers: &[&str]| -> Verdict {
        let mut scene = Scene::empty();
        scene.policy("prod", &document);
        scene.manifest("app", "amd64", &["l1"]);
        scene.commit("c1", |_| {});
        scene.push("app", APP);
        for trigger in triggers {
            scene.build(&["app"], |build: &mut Build| build.trigger = Some((*trigger).into()));
        }
        scene.ask("app")
    };
    check("by a pull request", &built(&["pull_request"]), &[BldTriggerNotAllowed]);
    check("by a release", &built(&["release"]), &[]);
    check("by both: the release counts", &built(&["pull_request", "release"]), &[]);
}

/// A layout with the one step `build`, by key ci.
fn one_step(scene: &mut Scene, link: Link) -> Verdict {
    use catenary_evidence::layout::{Layout, Step};
    let (owner, ann) = (key("other"), key("ci"));
    let document = format!(
        "apiVersion: catenary/v1\nkind: ChainPolicy\nmetadata: {{name: prod}}\nspec:\n  match: {{resources: [\"{APP}\"]}}\n  layouts: [{{layout: \"{}\", signer: {{key: \"{owner}\"}}, functionaries: {{key: \"{ann}\"}}}}]\n",
        content("layout")
    );
    scene.policy("prod", &document);
    let step = Step {
        name: "build".into(),
        threshold: 1,
        functionaries: vec![ann],
        unread: Vec::new(),
        materials: Vec::new(),
        products: Vec::new(),
    };
    let layout =
        Layout { expires: at(1000), steps: vec![step], inspections: Vec::new(), ends: Default::default() };
    let id = scene.attest(1, &["other"], vec![subject("layout")], Claim::Layout(layout));
    let Digest::Sha256(payload) = content("layout") else { unreachable!("content is SHA-256") };
    scene.statement(id).fact.payload = catenary_evidence::Sha256(payload);
    scene.attest(2, &["ci"], vec![subject("app")], Claim::Link(link));
    scene.manifest("app", "amd64", &["l1"]);
    scene.ask("app")
}

fn link(name: &str, products: &[(&str, &str)]) -> Link {
    let set = |name: &str| DigestSet { content: vec![content(name)], ..DigestSet::default() };
    Link {
        name: name.into(),
        materials: Default::default(),
        products: products.iter().map(|(path, name)| ((*path).to_owned(), set(name))).collect(),
    }
}

#[test]
fn g27_a_step_is_named_exactly() {
    let told = |name: &str| one_step(&mut Scene::empty(), link(name, &[("image", "app")]));
    check("itself", &told("build"), &[]);
    for other in ["build-evil", "Build", "build ", "buil", ""] {
        check(other, &told(other), &[LayStepMissing]);
    }
}

#[test]
fn g31_a_step_that_took_and_gave_nothing_proves_nothing() {
    check("empty", &one_step(&mut Scene::empty(), link("build", &[])), &[LayOtherProduct]);
}
