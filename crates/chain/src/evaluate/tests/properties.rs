//! R6 and R8: SBOMs, scans, VEX, tests and approvals, and what speaks against an image.

use std::collections::BTreeMap;

use catenary_evidence::{
    digest::Sha256,
    predicate::{
        Claim, Finding, Findings, Sbom, Scan, Severity, TestResult, VerificationResult, Vex, VexProduct,
        VexStatement, VexStatements, VexStatus,
    },
    statement::{DigestSet, Subject},
};
use jiff::Timestamp;

use super::scene::*;
use crate::{policy::Policy, reason::Code, verdict::Verdict};

pub const BASH: &str = "pkg:deb/debian/bash@5.2-1";

fn signer(name: &str) -> String {
    format!("signer: {{key: \"{}\"}}", key(name))
}

/// The golden chain with these lines in `spec`; `trust` gets the VEX speakers psirt and vendor.
pub fn scene(extra: &str) -> Scene {
    let mut scene = Scene::golden();
    for name in ["scan", "scan2", "psirt", "vendor"] {
        scene.trust(name, None, None);
    }
    scene.policy("prod", &with_vex(&policy(extra)));
    scene
}

fn with_vex(document: &str) -> String {
    let vex = format!(
        "    vex: [{{id: psirt, {}}}, {{id: vendor, {}}}]\n    registries:",
        signer("psirt"),
        signer("vendor")
    );
    document.replace("    registries:", &vex)
}

pub fn finding(id: &str, severity: Severity, package: &str) -> Finding {
    Finding { id: id.into(), aliases: Vec::new(), severity, package: package.into() }
}

pub fn scan_of(finished: Option<Timestamp>, list: Vec<Finding>) -> Claim {
    Claim::Scan(Scan {
        scanner: "pkg:generic/scanner".into(),
        version: None,
        database_updated: None,
        finished,
        severities: Some(BTreeMap::new()),
        findings: Findings { list, more: false },
    })
}

pub fn test(result: &str) -> Claim {
    Claim::Test(TestResult { result: result.into(), url: None, passed: 1, warned: 0, failed: 0 })
}

pub fn sbom() -> Claim {
    let format = "cyclonedx-1.6".into();
    Claim::Sbom(Sbom { format, name: None, created: None, components: 3 })
}

pub fn said(names: &[&str], status: VexStatus) -> VexStatement {
    let justified = status == VexStatus::NotAffected;
    VexStatement {
        names: names.iter().map(|name| (*name).into()).collect(),
        status,
        justification: justified.then(|| "vulnerable_code_not_in_execute_path".into()),
        products: Vec::new(),
        issued: None,
    }
}

pub fn vex_of(list: Vec<VexStatement>) -> Claim {
    let statements = VexStatements { list, more: false };
    Claim::Vex(Vex { author: "acme".into(), issued: None, statuses: BTreeMap::new(), statements })
}

pub trait Says {
    fn says(&mut self, minute: i64, by: &[&str], of: &str, claim: Claim) -> Sha256;
}

impl Says for Scene {
    fn says(&mut self, minute: i64, by: &[&str], of: &str, mut claim: Claim) -> Sha256 {
        // The same words again are the same statement, and as old as they were.
        if let Claim::Test(test) = &mut claim {
            test.url = Some(format!("https://ci.acme.test/run/{minute}"));
        }
        let id = self.attest(minute, by, vec![subject(of)], claim);
        let fact = &mut self.statement(id).fact;
        fact.predicate_type = match &fact.claim {
            Claim::Sbom(_) => "https://cyclonedx.org/bom/v1.6".into(),
            Claim::Other => "https://acme.test/approval/v1".into(),
            _ => fact.predicate_type.clone(),
        };
        id
    }
}

pub fn require(rest: &str) -> String {
    format!("  require: [{{id: it, {}, {rest}}}]\n", signer("scan"))
}

#[test]
fn a_required_sbom_is_there_by_the_right_signer() {
    let mut scene = scene(&require("predicate: [spdx, cyclonedx]"));
    check("none", &scene.ask("app"), &[Code::PrpSbomMissing]);
    scene.says(21, &["other"], "app", sbom());
    check("by somebody else", &scene.ask("app"), &[Code::PrpSignerNotTrusted]);
    scene.says(21, &[], "app", sbom());
    scene.says(22, &["scan"], "app config", sbom());
    check("of another thing", &scene.ask("app"), &[Code::PrpSignerNotTrusted]);
    let id = scene.says(22, &["scan"], "app", sbom());
    let verdict = scene.ask("app");
    check("by the right one", &verdict, &[]);
    let link = verdict.links.iter().find(|link| link.stage == "property").unwrap();
    assert_eq!(link.evidence, [id]);
    scene.revoke("scan");
    check("revoked since", &scene.ask("app"), &[Code::AttRevokedSigner]);
}

#[test]
fn a_predicate_type_is_named_in_full_and_a_statement_of_another_is_none() {
    let mut scene = scene(&require("predicate: [\"https://acme.test/approval/v1\"]"));
    scene.says(21, &["scan"], "app", sbom());
    check("another type", &scene.ask("app"), &[Code::PrpMissing]);
    scene.says(21, &["scan"], "app", Claim::Other);
    check("this type", &scene.ask("app"), &[]);
}

#[test]
fn s26_a_failed_result_newer_than_a_passed_one_supersedes_it() {
    let mut scene = scene(&require("predicate: [test-result]"));
    scene.says(21, &["scan"], "app", test("PASSED"));
    check("passed", &scene.ask("app"), &[]);
    let failed = scene.says(22, &["scan"], "app", test("FAILED"));
    let verdict = scene.ask("app");
    check("failed since", &verdict, &[Code::PrpFailed]);
    assert_eq!(verdict.errors().next().unwrap().evidence, [failed]);
    scene.says(23, &["other"], "app", test("PASSED"));
    check("a stranger's pass mends nothing", &scene.ask("app"), &[Code::PrpFailed]);
    scene.says(24, &["scan"], "app", test("PASSED"));
    check("mended", &scene.ask("app"), &[]);
    scene.says(25, &["scan"], "app", test("WARNED"));
    check("a warning is no pass", &scene.ask("app"), &[Code::PrpFailed]);
    scene.policy("prod", &with_vex(&policy(&require("predicate: [test-result], result: [PASSED, WARNED]"))));
    check("unless it is", &scene.ask("app"), &[]);
}

#[test]
fn of_two_results_at_one_moment_the_worse_counts() {
    let mut scene = scene(&require("predicate: [test-result]"));
    scene.says(21, &["scan"], "app", test("PASSED"));
    scene.says(21, &["scan"], "app", test("FAILED"));
    check("both", &scene.ask("app"), &[Code::PrpFailed]);
}

#[test]
fn a_scan_grows_stale_and_the_answer_says_when() {
    let mut scene = scene(&require("predicate: [vulns], maxAge: 15m"));
    scene.says(21, &["scan"], "app", scan_of(Some(at(20)), Vec::new()));
    let verdict = scene.ask_at("app", APP, at(30));
    check("fresh", &verdict, &[]);
    assert_eq!(verdict.valid_until, at(35));
    check("to the last second", &scene.ask_at("app", APP, at(35)), &[]);
    check("stale", &scene.ask_at("app", APP, at(36)), &[Code::PrpStale]);
    // Who claims to have finished tomorrow is fresh only from when it was received.
    scene.says(34, &["scan"], "app", scan_of(Some(at(5000)), Vec::new()));
    check("not from the future", &scene.ask_at("app", APP, at(50)), &[Code::PrpStale]);
    scene.says(51, &["other"], "app", scan_of(Some(at(51)), Vec::new()));
    check("a fresh scan by another scanner", &scene.ask_at("app", APP, at(52)), &[Code::PrpStale]);
}

#[test]
fn trust_flows_down_from_an_index_and_up_only_from_every_platform() {
    for per_platform in [false, true] {
        let mut scene = scene(&require(&format!("predicate: [cyclonedx], perPlatform: {per_platform}")));
        scene.manifest("m1", "amd64", &["l1"]);
        scene.manifest("m2", "arm64", &["l2"]);
        scene.index("idx", &[("m1", "amd64"), ("m2", "arm64")]);
        scene.build(&["idx"], |_| {});
        scene.push("idx", APP);
        check("nothing", &scene.ask("idx"), &[Code::PrpSbomMissing]);
        let mut whole = scene.clone();
        whole.says(21, &["scan"], "idx", sbom());
        let codes: &[Code] = if per_platform { &[Code::PrpSbomMissing] } else { &[] };
        check("of the index", &whole.ask("idx"), codes);
        check("a platform of it", &whole.ask("m1"), codes);
        scene.says(21, &["scan"], "m1", sbom());
        check("of one platform", &scene.ask("idx"), &[Code::PrpSbomMissing]);
        check("that platform", &scene.ask("m1"), &[]);
        scene.says(21, &["scan"], "m2", sbom());
        check("of every platform", &scene.ask("idx"), &[]);
    }
}

#[test]
fn a_failure_of_one_platform_is_a_failure_of_the_index() {
    let mut scene = scene(&require("predicate: [test-result]"));
    scene.manifest("m1", "amd64", &["l1"]);
    scene.manifest("m2", "arm64", &["l2"]);
    scene.index("idx", &[("m1", "amd64"), ("m2", "arm64")]);
    scene.build(&["idx"], |_| {});
    scene.push("idx", APP);
    scene.says(21, &["scan"], "idx", test("PASSED"));
    check("all", &scene.ask("idx"), &[]);
    scene.says(22, &["scan"], "m2", test("FAILED"));
    check("but one", &scene.ask("idx"), &[Code::PrpFailed]);
    check("the other", &scene.ask("m1"), &[]);
}

#[test]
fn tests_may_be_of_the_commit_that_was_built() {
    let mut scene = scene(&require("predicate: [test-result], subject: source"));
    check("untested", &scene.ask("app"), &[Code::PrpMissing]);
    scene.says(21, &["scan"], "app", test("PASSED"));
    check("the image is not the source", &scene.ask("app"), &[Code::PrpMissing]);
    let of = |name: &str| {
        let digests = DigestSet { git: vec![commit_id(name)], ..DigestSet::default() };
        vec![Subject { digests, ..Subject::default() }]
    };
    scene.attest(21, &["scan"], of("c2"), test("PASSED"));
    check("another commit", &scene.ask("app"), &[Code::PrpMissing]);
    scene.attest(21, &["scan"], of("c1"), test("PASSED"));
    check("this commit", &scene.ask("app"), &[]);
}

#[test]
fn signers_count_once_each() {
    let keys = format!("signer: {{keys: [\"{}\", \"{}\"]}}", key("scan"), key("scan2"));
    let rule = format!(
        "  require: [{{id: it, {keys}, predicate: [\"https://acme.test/approval/v1\"], atLeast: 2}}]\n"
    );
    let mut both = scene(&rule);
    check("none", &both.ask("app"), &[Code::PrpApprovalMissing]);
    both.says(21, &["scan"], "app", Claim::Other);
    both.says(22, &["scan"], "app", Claim::Other);
    check("one twice", &both.ask("app"), &[Code::PrpApprovalMissing]);
    both.says(22, &["other"], "app", Claim::Other);
    check("and a stranger", &both.ask("app"), &[Code::PrpApprovalMissing]);
    both.says(23, &["scan2"], "app", Claim::Other);
    check("two", &both.ask("app"), &[]);

    // People may be named as a group, too.
    let group = format!("    groups: {{two: {{keys: [\"{}\", \"{}\"]}}}}\n", key("scan"), key("scan2"));
    let named = rule.replace(&keys, "signer: {group: two}");
    both.policy("prod", &with_vex(&policy(&named)).replace("    vex:", &format!("{group}    vex:")));
    check("two of a group", &both.ask("app"), &[]);

    // Two builders of one operator are one.
    let same = "  require: [{id: it, signer: {anyOf: [ci, ci2]}, predicate: [cyclonedx], atLeast: 2}]\n";
    let document = policy(same).replace("domain: other", "domain: acme");
    let error = Policy::parse(&document).unwrap_err();
    assert_eq!(error.path, "spec.require[0].atLeast");
    let mut any = scene(same);
    any.says(21, &["ci"], "app", sbom());
    check("one domain", &any.ask("app"), &[Code::PrpApprovalMissing]);
    any.says(21, &["ci2"], "app", sbom());
    check("two domains", &any.ask("app"), &[]);
}

#[test]
fn a_rule_may_only_warn() {
    for (mode, shown) in [("warn", "warning"), ("shadow", "info")] {
        let scene = scene(&require(&format!("predicate: [cyclonedx], mode: {mode}")));
        let verdict = scene.ask("app");
        check(mode, &verdict, &[]);
        let reason = verdict.reasons.iter().find(|r| r.code == Code::PrpSbomMissing).unwrap();
        assert_eq!(serde_json::to_value(reason.severity).unwrap(), shown);
    }
}

#[test]
fn a_verification_result_says_what_was_verified() {
    let mut scene = scene(&require("predicate: [svr], properties: [ACME_TESTED]"));
    let svr = |properties: &[&str]| {
        let properties = properties.iter().map(|p| (*p).to_owned()).collect();
        let verifier_id = "https://acme.test/verifier".into();
        Claim::Verification(VerificationResult { verifier_id, created: None, properties })
    };
    scene.says(21, &["scan"], "app", svr(&["ACME_BUILT"]));
    check("something else", &scene.ask("app"), &[Code::PrpFailed]);
    scene.says(22, &["scan"], "app", svr(&["ACME_BUILT", "ACME_TESTED"]));
    check("this", &scene.ask("app"), &[]);
    // A signer may speak for some verifiers and not for others; what is of another one does not take the pass back either.
    let of = |matcher: &str| {
        policy(&require(&format!("predicate: [svr], properties: [ACME_TESTED], verifierId: {matcher}")))
    };
    scene.policy("prod", &of("{exact: \"https://acme.test/other\"}"));
    check("of another verifier", &scene.ask("app"), &[Code::VsaSignerVerifierPair]);
    scene.policy("prod", &of("{prefix: \"https://acme.test/\"}"));
    check("of this one", &scene.ask("app"), &[]);
    for (matcher, path) in [("{regex: \".*\"}", "verifierId"), ("{glob: \"**\"}", "verifierId")] {
        let error = Policy::publish(&of(matcher), at(30)).unwrap_err();
        assert!(error.path.ends_with(path), "{error}");
    }
    let scan = policy(&require("predicate: [vulns], verifierId: {exact: a}"));
    assert!(Policy::parse(&scan).unwrap_err().path.ends_with("verifierId"));
}

pub fn limits(rest: &str) -> String {
    require(&format!("predicate: [vulns], vulnerabilities: {{max: {{critical: 0, high: 1}}{rest}}}"))
}

#[test]
fn findings_count_against_limits() {
    let mut golden = scene(&limits(""));
    golden.says(21, &["scan"], "app", scan_of(None, vec![finding("CVE-1", Severity::High, BASH)]));
    check("one high", &golden.ask("app"), &[]);
    let cases: &[(&str, Vec<Finding>, bool)] = &[
        ("medium has no limit", vec![finding("CVE-1", Severity::Medium, BASH); 9], true),
        ("critical", vec![finding("CVE-1", Severity::Critical, BASH)], false),
        (
            "two high",
            vec![finding("CVE-1", Severity::High, BASH), finding("CVE-2", Severity::High, BASH)],
            false,
        ),
        ("nobody knows how bad", vec![finding("CVE-1", Severity::Unknown, BASH)], false),
    ];
    for (story, findings, passes) in cases {
        let mut scene = golden.clone();
        scene.says(22, &["scan"], "app", scan_of(None, findings.clone()));
        let codes: &[Code] = if *passes { &[] } else { &[Code::PrpVulnThreshold] };
        check(story, &scene.ask("app"), codes);
    }
    let only_high = require("predicate: [vulns], vulnerabilities: {max: {high: 0, unknown: 3}}");
    let mut scene = scene(&only_high);
    scene.says(21, &["scan"], "app", scan_of(None, vec![finding("CVE-1", Severity::Unknown, BASH)]));
    check("a limit of its own", &scene.ask("app"), &[]);
    scene.says(22, &["scan"], "app", scan_of(None, vec![finding("CVE-1", Severity::Critical, BASH)]));
    check("critical is more than high", &scene.ask("app"), &[Code::PrpVulnThreshold]);
}

#[test]
fn what_was_left_out_of_a_scan_is_no_clean_scan() {
    let mut scene = scene(&limits(""));
    let cut = |findings: Vec<Finding>, read: bool| {
        let Claim::Scan(mut scan) = scan_of(None, findings) else { unreachable!() };
        scan.findings.more = true;
        scan.severities = read.then(BTreeMap::new);
        Claim::Scan(scan)
    };
    scene.says(21, &["scan"], "app", cut(Vec::new(), true));
    check("more than is judged", &scene.ask("app"), &[Code::SysLimitExceeded]);
    scene.says(22, &["scan"], "app", cut(vec![finding("CVE-1", Severity::Critical, BASH)], true));
    check("enough of it is bad", &scene.ask("app"), &[Code::PrpVulnThreshold]);
    scene.says(23, &["scan"], "app", cut(Vec::new(), false));
    check("a report that nobody reads", &scene.ask("app"), &[Code::PrpFailed]);
}

/// A critical finding, and VEX documents about it.
fn excused(document: &[(i64, &str, VexStatement)]) -> Verdict {
    excused_of(finding("CVE-1", Severity::Critical, BASH), document)
}

fn excused_of(found: Finding, documents: &[(i64, &str, VexStatement)]) -> Verdict {
    let mut scene = scene(&limits(", vex: honour"));
    scene.says(21, &["scan"], "app", scan_of(None, vec![found]));
    for (minute, by, statement) in documents {
        scene.says(*minute, &[by], "app", vex_of(vec![statement.clone()]));
    }
    scene.ask("app")
}

#[test]
fn a_finding_is_excused_by_a_reason_that_a_machine_can_read() {
    let not = || said(&["CVE-1"], VexStatus::NotAffected);
    let no = [Code::PrpVulnThreshold];
    check("nobody says so", &excused(&[]), &no);
    check("somebody trusted", &excused(&[(22, "psirt", not())]), &[]);
    check("somebody else", &excused(&[(22, "other", not())]), &no);
    check("fixed", &excused(&[(22, "psirt", said(&["CVE-1"], VexStatus::Fixed))]), &[]);
    check(
        "under its alias",
        &excused(&[(22, "psirt", said(&["GHSA-1", "CVE-1"], VexStatus::NotAffected))]),
        &[],
    );
    let mut opinion = not();
    opinion.justification = None;
    check("an opinion", &excused(&[(22, "psirt", opinion)]), &no);
    check(
        "being looked at",
        &excused(&[(22, "psirt", said(&["CVE-1"], VexStatus::UnderInvestigation))]),
        &no,
    );
    check("another one", &excused(&[(22, "psirt", said(&["CVE-2"], VexStatus::NotAffected))]), &no);
    let yes = || said(&["CVE-1"], VexStatus::Affected);
    check("taken back", &excused(&[(22, "psirt", not()), (23, "psirt", yes())]), &no);
    check("and given again", &excused(&[(22, "psirt", yes()), (23, "psirt", not())]), &[]);
    check("at one moment", &excused(&[(22, "psirt", yes()), (22, "psirt", not())]), &no);
    check("disputed", &excused(&[(22, "vendor", yes()), (23, "psirt", not())]), &no);
    check("a stranger's dispute", &excused(&[(22, "other", yes()), (23, "psirt", not())]), &[]);
    // Who was told first does not matter, but what was said first.
    let (mut early, mut late) = (not(), yes());
    (early.issued, late.issued) = (Some(at(1)), Some(at(2)));
    check("told in the wrong order", &excused(&[(22, "psirt", late), (23, "psirt", early)]), &no);
}

#[test]
fn a_finding_with_several_names_needs_each_of_them_excused() {
    let advisory = Finding {
        aliases: vec!["CVE-1".into(), "CVE-2".into()],
        ..finding("ELSA-1", Severity::Critical, BASH)
    };
    let not = |name: &str| said(&[name], VexStatus::NotAffected);
    let no = [Code::PrpVulnThreshold];
    check("one", &excused_of(advisory.clone(), &[(22, "psirt", not("CVE-1"))]), &no);
    let both = [(22, "psirt", not("CVE-1")), (22, "psirt", not("CVE-2"))];
    check("both", &excused_of(advisory.clone(), &both), &[]);
    check("by its id", &excused_of(advisory.clone(), &[(22, "psirt", not("ELSA-1"))]), &[]);
    let but = [(22, "psirt", not("ELSA-1")), (22, "vendor", said(&["CVE-2"], VexStatus::Affected))];
    check("but not this one", &excused_of(advisory, &but), &no);
    let nameless = Finding { id: String::new(), ..finding("", Severity::Critical, BASH) };
    check("without a name", &excused_of(nameless, &[(22, "psirt", not(""))]), &no);
}

#[test]
fn an_excuse_is_about_the_package_of_this_image() {
    let about = |names: &[&str], parts: Option<&[&str]>| {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let product = VexProduct { names: texts(names), parts: parts.map(texts) };
        let statement = said(&["CVE-1"], VexStatus::NotAffected);
        excused(&[(22, "psirt", VexStatement { products: vec![product], ..statement })])
    };
    let image = format!("pkg:oci/app@{}", content("app"));
    let other = format!("pkg:oci/app@{}", content("m9"));
    for (story, names, parts, passes) in [
        ("the image", &[image.as_str()][..], None, true),
        ("the image by its digest", &[&content("app").to_string()], None, true),
        ("the image by its name", &["pkg:oci/app?repository_url=registry.acme.test/acme"], None, true),
        (
            "an image of that name elsewhere",
            &["pkg:oci/app?repository_url=registry.acme.test/shop"],
            None,
            false,
        ),
        ("some of all its versions", &["pkg:deb/debian/bash?distro=debian-11"], None, false),
        ("another image", &[&other], None, false),
        ("an image of another name", &["pkg:oci/shop"], None, false),
        ("the package", &["pkg:deb/debian/bash"], None, true),
        ("this version of it", &["pkg:deb/debian/bash@5.2-1?arch=amd64"], None, true),
        ("another version", &["pkg:deb/debian/bash@5.3"], None, false),
        ("another package", &["pkg:deb/debian/dash"], None, false),
        ("the package in the image", &[&image], Some(&[BASH][..]), true),
        ("another package in the image", &[&image], Some(&["pkg:deb/debian/dash"]), false),
        ("the package in another image", &[&other], Some(&[BASH]), false),
        ("parts that nobody can name", &[&image], Some(&[]), false),
        ("nothing that is understood", &["app"], None, false),
        ("nothing at all", &[], None, false),
    ] {
        let codes: &[Code] = if passes { &[] } else { &[Code::PrpVulnThreshold] };
        check(story, &about(names, parts), codes);
    }
}

#[test]
fn vex_that_was_cut_excuses_nothing_for_certain() {
    let mut scene = scene(&limits(", vex: honour"));
    scene.says(21, &["scan"], "app", scan_of(None, vec![finding("CVE-1", Severity::Critical, BASH)]));
    let Claim::Vex(mut vex) = vex_of(vec![said(&["CVE-1"], VexStatus::NotAffected)]) else { unreachable!() };
    vex.statements.more = true;
    scene.says(22, &["psirt"], "app", Claim::Vex(vex));
    check("cut", &scene.ask("app"), &[Code::SysLimitExceeded]);
}

#[test]
fn a_trusted_vex_statement_speaks_against_the_image_until_it_is_taken_back() {
    let golden = scene("  negatives: {vex: {from: [psirt]}}\n");
    check("nothing said", &golden.ask("app"), &[]);
    let mut scene = golden.clone();
    scene.says(21, &["other"], "app", vex_of(vec![said(&["CVE-1"], VexStatus::Affected)]));
    scene.says(21, &["vendor"], "app", vex_of(vec![said(&["CVE-1"], VexStatus::Affected)]));
    check("by others", &scene.ask("app"), &[]);
    scene.says(22, &["psirt"], "app", vex_of(vec![said(&["CVE-1"], VexStatus::Affected)]));
    check("affected", &scene.ask("app"), &[Code::PrpVexAffected]);
    let mut waits = scene.clone();
    waits.says(23, &["psirt"], "app", vex_of(vec![said(&["CVE-1"], VexStatus::UnderInvestigation)]));
    check("being looked at again", &waits.ask("app"), &[Code::PrpVexAffected]);
    waits.says(23, &["vendor"], "app", vex_of(vec![said(&["CVE-1"], VexStatus::Fixed)]));
    check("taken back by another", &waits.ask("app"), &[Code::PrpVexAffected]);
    waits.says(24, &["psirt"], "app", vex_of(vec![said(&["CVE-2"], VexStatus::Fixed)]));
    check("another is mended", &waits.ask("app"), &[Code::PrpVexAffected]);
    waits.says(25, &["psirt"], "app", vex_of(vec![said(&["CVE-1", "GHSA-1"], VexStatus::Fixed)]));
    check("mended", &waits.ask("app"), &[]);

    let product = |names: &[String]| VexProduct { names: names.to_vec(), parts: None };
    let affects = |names: &[String]| VexStatement {
        products: vec![product(names)],
        ..said(&["CVE-1"], VexStatus::Affected)
    };
    let mut elsewhere = golden.clone();
    let other = format!("pkg:oci/app@{}", content("m9"));
    elsewhere.says(22, &["psirt"], "app", vex_of(vec![affects(&[other])]));
    check("another image", &elsewhere.ask("app"), &[]);
    elsewhere.says(22, &["psirt"], "app", vex_of(vec![affects(&[BASH.to_owned()])]));
    check("a package of it", &elsewhere.ask("app"), &[Code::PrpVexAffected]);
    let one = said(&["CVE-1"], VexStatus::Fixed);
    let dash = VexStatement { products: vec![product(&["pkg:deb/debian/dash".to_owned()])], ..one.clone() };
    elsewhere.says(23, &["psirt"], "app", vex_of(vec![dash]));
    check("another package is mended", &elsewhere.ask("app"), &[Code::PrpVexAffected]);
    elsewhere.says(24, &["psirt"], "app", vex_of(vec![one]));
    check("all of it is", &elsewhere.ask("app"), &[]);
}

#[test]
fn what_affects_a_platform_affects_the_index_and_the_other_way_round() {
    let mut golden = scene("  negatives: {vex: {}}\n");
    golden.manifest("m1", "amd64", &["l1"]);
    golden.manifest("m2", "arm64", &["l2"]);
    golden.index("idx", &[("m1", "amd64"), ("m2", "arm64")]);
    golden.build(&["idx"], |_| {});
    golden.push("idx", APP);
    let affected = || vex_of(vec![said(&["CVE-1"], VexStatus::Affected)]);
    let fixed = || vex_of(vec![said(&["CVE-1"], VexStatus::Fixed)]);
    let mut scene = golden.clone();
    scene.says(21, &["psirt"], "m2", affected());
    check("one platform", &scene.ask("idx"), &[Code::PrpVexAffected]);
    check("that platform", &scene.ask("m2"), &[Code::PrpVexAffected]);
    check("the other", &scene.ask("m1"), &[]);
    scene.says(22, &["psirt"], "m1", fixed());
    check("the other is mended", &scene.ask("idx"), &[Code::PrpVexAffected]);
    scene.says(23, &["psirt"], "m2", fixed());
    check("this one is", &scene.ask("idx"), &[]);
    let mut scene = golden;
    scene.says(21, &["psirt"], "idx", affected());
    check("all of it", &scene.ask("m1"), &[Code::PrpVexAffected]);
    scene.says(22, &["psirt"], "m1", fixed());
    check("a platform is mended", &scene.ask("m1"), &[]);
    check("not all", &scene.ask("idx"), &[Code::PrpVexAffected]);
    // Without the bytes of an index nobody can tell what speaks against its platforms.
    scene.says(23, &["psirt"], "idx", fixed());
    check("all is mended", &scene.ask("idx"), &[]);
    scene.evidence.objects.remove(&content("idx").into());
    scene.evidence.parents.clear();
    check("bytes unknown", &scene.ask("idx"), &[Code::ArtManifestMissing]);
}

#[test]
fn a_failed_test_speaks_against_the_image_although_none_is_required() {
    let tests = format!("  negatives: {{tests: {{{}}}}}\n", signer("scan"));
    let mut scene = scene(&tests);
    check("untested", &scene.ask("app"), &[]);
    scene.says(21, &["other"], "app", test("FAILED"));
    check("a stranger's failure", &scene.ask("app"), &[]);
    scene.says(21, &["scan"], "app", test("PASSED"));
    scene.says(22, &["scan"], "app", test("FAILED"));
    check("failed", &scene.ask("app"), &[Code::PrpFailed]);
    scene.says(23, &["scan"], "app", test("PASSED"));
    check("passed since", &scene.ask("app"), &[]);
    let digests = DigestSet { git: vec![commit_id("c1")], ..DigestSet::default() };
    scene.attest(24, &["scan"], vec![Subject { digests, ..Subject::default() }], test("FAILED"));
    check("its commit failed", &scene.ask("app"), &[Code::PrpFailed]);
}

#[test]
fn rules_that_cannot_be_meant_are_refused() {
    let long = format!(", {}", signer("scan"));
    for (rule, path) in [
        ("{id: a, predicate: []}", "require[0].predicate"),
        ("{id: \"\", predicate: [vex]}", "require[0].id"),
        ("{id: a, predicate: [vex], atLeast: 0}", "require[0].atLeast"),
        ("{id: a, predicate: [vex], atLeast: 2}", "require[0].atLeast"),
        ("{id: a, predicate: [vex], result: []}", "require[0].result"),
        ("{id: a, predicate: [vex], result: [PASSED]}", "require[0].result"),
        ("{id: a, predicate: [vex], properties: [x]}", "require[0].properties"),
        ("{id: a, predicate: [svr], properties: []}", "require[0].properties"),
        ("{id: a, predicate: [spdx], vulnerabilities: {max: {high: 1}}}", "require[0].vulnerabilities"),
        ("{id: a, predicate: [vulns], vulnerabilities: {max: {}}}", "require[0].vulnerabilities"),
        (
            "{id: a, predicate: [vulns], vulnerabilities: {max: {high: 1}, vex: honour}}",
            "require[0].vulnerabilities",
        ),
        ("{id: a, predicate: [test-result], subject: source, perPlatform: true}", "require[0].perPlatform"),
        ("{id: a, predicate: [vex]}, {id: a, predicate: [vex]}", "require[1].id"),
    ] {
        let rule = rule.replace("}, {", &format!("{long}}}, {{"));
        let (head, _) = rule.rsplit_once('}').unwrap();
        let error = Policy::parse(&policy(&format!("  require: [{head}{long}}}]\n"))).unwrap_err();
        assert_eq!(error.path, format!("spec.{path}"), "{error}");
        assert!(error.line > 0, "{error}");
    }
    for (rule, path) in [
        ("  require: [{id: a, predicate: [vex], signer: {anyOf: [nobody]}}]\n", "require[0].signer"),
        ("  negatives: {vex: {}}\n", "negatives.vex"),
        ("  negatives: {summaries: {}}\n", "negatives.summaries"),
        ("  negatives: {tests: {signer: {anyOf: [nobody]}}}\n", "negatives.tests.signer"),
    ] {
        let error = Policy::parse(&policy(rule)).unwrap_err();
        assert_eq!(error.path, format!("spec.{path}"), "{error}");
    }
    for rule in [
        "  require: [{id: a, predicate: [sbom], signer: {anyOf: [ci]}}]\n",
        "  require: [{id: a, predicate: [vex], signer: {anyOf: [ci], key: x}}]\n",
        "  require: [{id: a, predicate: [vex], signer: {anyOf: []}}]\n",
        "  require: [{id: a, predicate: [vulns], signer: {anyOf: [ci]}, vulnerabilities: {max: {bad: 1}}}]\n",
        "  require: [{id: a, predicate: [vex], signer: {anyOf: [ci]}, maxage: 1d}]\n",
        "  negatives: {vexx: {}}\n",
    ] {
        assert!(Policy::parse(&policy(rule)).is_err(), "{rule}");
    }
    let unknown = with_vex(&policy("  negatives: {vex: {from: [nobody]}}\n"));
    assert_eq!(Policy::parse(&unknown).unwrap_err().path, "spec.negatives.vex.from[0]");
}
