//! SBOMs, scans, VEX documents and results of tools: what is read, and what of it is found again.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use catenary_evidence::{Refusal, Trust, attestation::verify, limits, mention::Mention, predicate::Claim};

use proptest::prelude::*;
use serde_json::{Value, json};

fn read(predicate_type: &str, predicate: &Value) -> Result<(Claim, Vec<Mention>), Refusal> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": predicate_type, "predicate": predicate,
        "subject": [{"name": "app", "digest": {"sha256": "ab".repeat(32)}}],
    });
    let envelope = json!({
        "payloadType": "application/vnd.in-toto+json", "payload": STANDARD.encode(statement.to_string()),
        "signatures": [{"keyid": "", "sig": STANDARD.encode([7; 64])}],
    });
    let facts = verify(envelope.to_string().as_bytes(), &Trust::none())?;
    // What a verdict loads holds no list of packages.
    let stored: Value = serde_json::to_value(&facts).unwrap();
    assert_eq!(stored.get("mentions"), None);
    Ok((facts.claim, facts.mentions))
}

fn code(predicate_type: &str, predicate: &Value) -> String {
    read(predicate_type, predicate).unwrap_err().code().to_owned()
}

fn bash() -> Mention {
    Mention {
        package: "pkg:deb/debian/bash".into(),
        name: "bash".into(),
        version: "5.2-1".into(),
        ..Mention::default()
    }
}

const PURL: &str = "pkg:deb/debian/bash@5.2-1?arch=amd64";
const SPDX: &str = "https://spdx.dev/Document";
const CYCLONEDX: &str = "https://cyclonedx.org/bom";

fn spdx2(version: &str) -> Value {
    json!({
        "spdxVersion": version, "name": "app", "creationInfo": {"created": "2026-01-01T00:00:00Z"},
        "packages": [
            {"name": "bash", "SPDXID": "x", "versionInfo": "5.2", "licenseConcluded": "NOASSERTION",
             "licenseDeclared": "GPL-3.0-or-later", "checksums": [{"algorithm": "SHA256", "checksumValue": "AB"}],
             "externalRefs": [
                {"referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": "cpe:2.3:a"},
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": PURL}]},
            {"name": "nameless", "SPDXID": "y"},
        ]
    })
}

#[test]
fn spdx_2_lists_packages() {
    for (predicate_type, version) in
        [(SPDX, "SPDX-2.2"), (SPDX, "SPDX-2.3"), ("https://spdx.dev/Document/v2.3", "SPDX-2.3")]
    {
        let (claim, mentions) = read(predicate_type, &spdx2(version)).unwrap();
        let Claim::Sbom(sbom) = claim else { panic!("{claim:?}") };
        assert_eq!((sbom.format, sbom.components), (version.to_lowercase(), 2));
        assert_eq!(sbom.created.unwrap().to_string(), "2026-01-01T00:00:00Z");
        let bash =
            Mention { licences: vec!["GPL-3.0-or-later".into()], hashes: vec!["sha256:ab".into()], ..bash() };
        let nameless = Mention { name: "nameless".into(), ..Mention::default() };
        assert_eq!(mentions, [nameless, bash]);
    }
}

#[test]
fn a_document_inside_a_text_is_read_as_the_older_cosign_wrote_it() {
    let text = spdx2("SPDX-2.3").to_string();
    let inside = json!({"Data": spdx2("SPDX-2.3"), "Timestamp": ""});
    for predicate in [json!(text), json!({"Data": text, "Timestamp": ""}), inside] {
        assert_eq!(read(SPDX, &predicate).unwrap().1.len(), 2);
    }
    assert_eq!(code(SPDX, &json!("{\"spdxVersion\":1,")), "PREDICATE_INVALID");
    // S11: a member twice in the inner document, too.
    let twice = "{\"spdxVersion\":\"SPDX-2.3\",\"packages\":[],\"packages\":[]}";
    assert_eq!(code(SPDX, &json!(twice)), "PREDICATE_INVALID");
}

#[test]
fn spdx_3_is_a_graph() {
    let document = json!({
        "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
        "@graph": [
            {"type": "CreationInfo", "@id": "_:c", "specVersion": "3.0.1", "created": "2026-01-01T00:00:00Z"},
            {"type": "SpdxDocument", "spdxId": "urn:d", "name": "app"},
            {"type": "software_Package", "spdxId": "urn:p", "name": "bash", "software_packageVersion": "5.2",
             "externalIdentifier": [{"externalIdentifierType": "packageUrl", "identifier": PURL}],
             "verifiedUsing": [{"type": "Hash", "algorithm": "sha256", "hashValue": "ab"}]},
            {"type": "simplelicensing_LicenseExpression", "spdxId": "urn:l", "simplelicensing_licenseExpression": "MIT"},
            {"type": "Relationship", "relationshipType": "hasDeclaredLicense", "from": "urn:p", "to": ["urn:l"]},
        ]
    });
    let (claim, mentions) = read("https://spdx.dev/Document/v3", &document).unwrap();
    let Claim::Sbom(sbom) = claim else { panic!("{claim:?}") };
    assert_eq!((sbom.format.as_str(), sbom.name.as_deref(), sbom.components), ("spdx-3.0.1", Some("app"), 1));
    assert_eq!(
        mentions,
        [Mention { licences: vec!["MIT".into()], hashes: vec!["sha256:ab".into()], ..bash() }]
    );
}

#[test]
fn a_package_is_found_under_each_of_its_names_whatever_else_the_document_leaves_elsewhere() {
    let other = "pkg:generic/bash@5.2-1";
    let reference = |locator: &str| json!({"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator});
    let two = json!({
        "spdxVersion": "SPDX-2.3", "name": "app",
        "packages": [{"name": "bash", "externalRefs": [reference(PURL), reference(other)]}]
    });
    let identifier = |text: &str| json!({"externalIdentifierType": "packageUrl", "identifier": text});
    let three = json!({"@graph": [
        {"type": "CreationInfo", "@id": "_:c", "specVersion": "3.0.1"},
        {"type": "software_Package", "spdxId": "urn:p", "name": "bash", "software_packageUrl": PURL,
         "externalIdentifier": ["_:i", identifier(other)], "verifiedUsing": ["_:hash"]},
        {"type": "ai_AIPackage", "spdxId": "urn:m", "name": "model"},
        {"type": "Annotation", "spdxId": "urn:a", "from": {"type": "Person"}, "to": [{"type": "Hash"}]},
    ]});
    let packages = |predicate_type: &str, document| {
        let (claim, mentions) = read(predicate_type, document).unwrap();
        let Claim::Sbom(sbom) = claim else { panic!("{claim:?}") };
        let found: Vec<String> = mentions.into_iter().map(|m| format!("{} {}", m.package, m.name)).collect();
        (sbom.components, found)
    };
    let both = ["pkg:deb/debian/bash bash", "pkg:generic/bash bash"].map(str::to_owned);
    assert_eq!(packages(SPDX, &two), (1, both.to_vec()));
    let (count, found) = packages("https://spdx.dev/Document/v3", &three);
    assert_eq!((count, &found[1..]), (2, &both[..]), "{found:?}");
}

#[test]
fn cyclonedx_1_3_to_1_7_lists_components_in_each_other() {
    for minor in 3..=7 {
        let document = json!({
            "bomFormat": "CycloneDX", "specVersion": format!("1.{minor}"), "version": 1,
            "metadata": {"timestamp": "2026-01-01T00:00:00Z", "component": {"type": "container", "name": "app"}},
            "components": [{
                "type": "library", "name": "outer", "components": [
                    {"type": "library", "bom-ref": "b", "name": "bash", "purl": PURL,
                     "licenses": [{"license": {"id": "GPL-3.0-or-later"}}], "hashes": [{"alg": "SHA-256", "content": "AB"}]}]
            }],
            "vulnerabilities": [
                {"id": "CVE-2026-1", "ratings": [{"severity": "high"}], "affects": [{"ref": "b"}]},
                {"id": "CVE-2026-2", "analysis": {"state": "not_affected"}}],
        });
        let (claim, mentions) = read("https://cyclonedx.org/bom/v1.5", &document).unwrap();
        let Claim::Sbom(sbom) = claim else { panic!("{claim:?}") };
        assert_eq!((sbom.format, sbom.components), (format!("cyclonedx-1.{minor}"), 2));
        let component =
            Mention { licences: vec!["GPL-3.0-or-later".into()], hashes: vec!["sha256:ab".into()], ..bash() };
        let found = Mention { vulnerability: "CVE-2026-1".into(), state: "high".into(), ..bash() };
        assert!(mentions.contains(&component) && mentions.contains(&found), "{mentions:?}");
        assert_eq!(mentions.len(), 4);
    }
}

#[test]
fn scans_of_three_kinds_have_findings() {
    let finding = |id: &str, state: &str, package: Mention| Mention {
        vulnerability: id.into(),
        state: state.into(),
        ..package
    };
    let listed = json!({
        "scanner": {"uri": "pkg:generic/trivy", "version": "0.50", "db": {"lastUpdate": "2026-01-01T00:00:00Z"}, "result": [
            {"id": "CVE-2026-1", "severity": [{"method": "nvd", "score": "medium"}, {"method": "x", "score": "high"}]},
            {"vulnerability": {"id": "CVE-2026-2", "severity": "LOW"}, "component": PURL}]},
        "metadata": {"scanStartedOn": "2026-01-02T00:00:00Z", "scanFinishedOn": "2026-01-02T00:01:00Z"},
    });
    for version in ["v0.1", "v0.2"] {
        let (claim, mentions) =
            read(&format!("https://in-toto.io/attestation/vulns/{version}"), &listed).unwrap();
        let Claim::Scan(scan) = claim else { panic!("{claim:?}") };
        assert_eq!(scan.severities, Some([("high".to_owned(), 1), ("low".to_owned(), 1)].into()));
        assert_eq!(scan.finished.unwrap().to_string(), "2026-01-02T00:01:00Z");
        let wanted =
            [finding("CVE-2026-1", "high", Mention::default()), finding("CVE-2026-2", "low", bash())];
        assert_eq!(mentions, wanted);
    }
    let trivy = json!({"Results": [{"Target": "x"}, {"Vulnerabilities": [
        {"VulnerabilityID": "CVE-2026-1", "PkgName": "bash", "InstalledVersion": "5.2-1", "Severity": "HIGH",
         "PkgIdentifier": {"PURL": PURL}}]}]});
    let grype = json!({"matches": [{"vulnerability": {"id": "CVE-2026-1", "severity": "High"},
        "artifact": {"name": "bash", "version": "5.2-1", "purl": PURL}}]});
    for result in [trivy, grype] {
        let predicate = json!({"scanner": {"uri": "x", "result": result}, "metadata": {}});
        let (_, mentions) = read("https://cosign.sigstore.dev/attestation/vuln/v1", &predicate).unwrap();
        assert_eq!(mentions, [finding("CVE-2026-1", "high", bash())]);
    }
    let nameless = json!({"scanner": {"result": [{"severity": []}]}});
    assert_eq!(code("https://in-toto.io/attestation/vulns/v0.2", &nameless), "PREDICATE_INVALID");
}

#[test]
fn openvex_says_what_touches_what() {
    let document = json!({
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "x", "author": "acme", "version": 1,
        "timestamp": "2026-01-01T00:00:00Z",
        "statements": [
            {"vulnerability": {"name": "CVE-2026-1", "aliases": ["GHSA-x"]}, "status": "not_affected",
             "justification": "component_not_present",
             "products": [{"@id": "pkg:oci/app", "subcomponents": [{"@id": PURL}]}]},
            {"vulnerability": "CVE-2026-2", "status": "affected"}],
    });
    for predicate_type in ["https://openvex.dev/ns", "https://openvex.dev/ns/v0.2.0"] {
        let (claim, mentions) = read(predicate_type, &document).unwrap();
        let Claim::Vex(vex) = claim else { panic!("{claim:?}") };
        assert_eq!(vex.statuses, [("affected".to_owned(), 1), ("not_affected".to_owned(), 1)].into());
        let state = "not_affected: component_not_present";
        let about = |id: &str| Mention { vulnerability: id.into(), state: state.into(), ..bash() };
        assert!(
            mentions.contains(&about("CVE-2026-1")) && mentions.contains(&about("GHSA-x")),
            "{mentions:?}"
        );
        assert_eq!(mentions.len(), 3);
    }
    let odd = json!({"statements": [{"vulnerability": "CVE-2026-1", "status": "Affected"}]});
    assert_eq!(code("https://openvex.dev/ns", &odd), "PREDICATE_INVALID");
}

#[test]
fn results_of_tools_are_typed() {
    let at = |name: &str| format!("https://in-toto.io/attestation/{name}");
    let test = json!({"result": "PASSED", "configuration": [], "passedTests": ["a", "b"], "failedTests": []});
    let Claim::Test(test) = read(&at("test-result/v0.1"), &test).unwrap().0 else { panic!("no test") };
    assert_eq!((test.result.as_str(), test.passed, test.failed), ("PASSED", 2, 0));
    for odd in [json!({"result": "passed"}), json!({"result": "PASSED", "failedTests": ["a"]})] {
        assert_eq!(code(&at("test-result/v0.1"), &odd), "PREDICATE_INVALID");
    }
    let scai =
        json!({"attributes": [{"attribute": "STACK_PROTECTION", "evidence": {}}], "producer": {"uri": "x"}});
    let Claim::Attributes(scai) = read(&at("scai/v0.3"), &scai).unwrap().0 else { panic!("no report") };
    assert_eq!(scai.attributes, ["STACK_PROTECTION"]);
    let release = json!({"purl": "pkg:npm/a@1.0.0", "releaseId": "7"});
    let Claim::Release(release) = read(&at("release/v0.1"), &release).unwrap().0 else {
        panic!("no release")
    };
    assert_eq!((release.purl.as_str(), release.release_id.as_deref()), ("pkg:npm/a@1.0.0", Some("7")));
    assert_eq!(code(&at("release/v0.1"), &json!({"purl": "a@1"})), "PREDICATE_INVALID");
    let trace = json!({"monitor": {"type": "tetragon"}, "monitoredProcess": {}, "monitorLog": {"process": [{}, {}], "network": []}});
    let Claim::Trace(trace) = read(&at("runtime-trace/v0.1"), &trace).unwrap().0 else { panic!("no trace") };
    assert_eq!((trace.processes, trace.connections, trace.files), (Some(2), Some(0), None));
    let svr = json!({"verifier": {"id": "https://v.test"}, "timeCreated": "2026-01-01T00:00:00Z", "properties": ["ACME_OK"]});
    for version in ["svr/v0.1", "svr/v0.2"] {
        let Claim::Verification(svr) = read(&at(version), &svr).unwrap().0 else { panic!("no result") };
        assert_eq!(svr.properties, ["ACME_OK"]);
    }
}

#[test]
fn a_collection_of_witness_names_what_is_in_it() {
    let collection = json!({"name": "build", "attestations": [
        {"type": "https://witness.dev/attestations/git/v0.1", "attestation": {"commithash": "x"},
         "starttime": "2026-01-01T00:00:01-06:00", "endtime": "2026-01-01T00:00:02-06:00"},
        {"type": "https://witness.dev/attestations/command-run/v0.1", "attestation": {}}]});
    for base in ["https://witness.testifysec.com", "https://witness.dev"] {
        let read = read(&format!("{base}/attestation-collection/v0.1"), &collection).unwrap();
        let Claim::Collection(read) = read.0 else { panic!("no collection") };
        assert_eq!((read.name.as_str(), read.attestations.len()), ("build", 2));
        assert_eq!(read.started.unwrap().to_string(), "2026-01-01T06:00:01Z");
    }
    let nameless = json!({"name": "build", "attestations": [{"type": ""}]});
    assert_eq!(code("https://witness.dev/attestation-collection/v0.1", &nameless), "PREDICATE_INVALID");
}

#[test]
fn what_nobody_reads_is_kept() {
    for predicate_type in [
        "https://in-toto.io/attestation/reference/v0.1",
        "https://spdx.dev/Documents",
        "https://cyclonedx.org/bomb",
    ] {
        let (claim, mentions) = read(predicate_type, &json!({"anything": [1.5]})).unwrap();
        assert_eq!((claim, mentions.len()), (Claim::Other, 0), "{predicate_type}");
    }
}

#[test]
fn s03_a_document_of_another_kind_is_refused() {
    for predicate in [
        json!({}),
        json!([]),
        json!(7),
        json!({"bomFormat": "CDX", "specVersion": "1.4"}),
        json!({"spdxVersion": "SPDX-9"}),
        json!({"@graph": {}}),
    ] {
        assert_eq!(code(SPDX, &predicate), "PREDICATE_INVALID", "{predicate}");
    }
}

#[test]
fn packages_are_limited_at_20000_and_one_over_is_refused() {
    let with = |n: usize| {
        let list: Vec<Value> = (0..n).map(|i| json!({"name": format!("p{i}")})).collect();
        read(CYCLONEDX, &json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": list}))
    };
    assert_eq!(with(limits::MAX_MENTIONS).unwrap().1.len(), limits::MAX_MENTIONS);
    assert_eq!(with(limits::MAX_MENTIONS + 1).unwrap_err().code(), "ATT_TOO_LARGE");
}

#[test]
fn what_no_index_could_hold_is_left_out_and_nothing_else() {
    let long = "x".repeat(limits::MAX_TEXT + 1);
    let list = json!([{"name": long}, {"name": ""}, {"name": "bash", "purl": "not a purl", "licenses": [
        {"license": {"name": "Line\nother"}}, {"license": {"name": long}}]}]);
    let document = json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": list});
    let (claim, mentions) = read(CYCLONEDX, &document).unwrap();
    let Claim::Sbom(sbom) = claim else { panic!("{claim:?}") };
    assert_eq!(sbom.components, 3);
    // A licence that cannot be kept does not hide its package.
    let bash = Mention { name: "bash".into(), licences: vec!["Line other".into()], ..Mention::default() };
    assert_eq!(mentions, [bash]);
}

#[test]
fn an_unread_scan_is_not_a_clean_one() {
    let scan = |result: Value| {
        let predicate = json!({"scanner": {"uri": "x", "result": result}, "metadata": {}});
        let read = read("https://cosign.sigstore.dev/attestation/vuln/v1", &predicate).unwrap();
        let Claim::Scan(scan) = read.0 else { panic!("no scan") };
        scan.severities
    };
    for unread in [json!(null), json!({"runs": [{"results": []}]}), json!("text")] {
        assert_eq!(scan(unread), None);
    }
    assert_eq!(scan(json!({"matches": []})), Some([].into()));
}

#[test]
fn s15_a_document_that_is_not_what_its_type_says_is_refused() {
    let cyclonedx = json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": null});
    assert!(read(CYCLONEDX, &cyclonedx).is_ok(), "null is an empty list");
    for (predicate_type, document) in [
        (SPDX, cyclonedx),
        (CYCLONEDX, spdx2("SPDX-2.3")),
        ("https://spdx.dev/Document/v3", spdx2("SPDX-2.3")),
        ("https://spdx.dev/Document/v2.3", json!({"@graph": []})),
    ] {
        assert_eq!(code(predicate_type, &document), "PREDICATE_INVALID", "{predicate_type}");
    }
}

#[test]
fn an_sbom_that_is_no_json_is_kept_and_says_that_its_components_were_not_read() {
    let tags = "SPDXVersion: SPDX-2.3\nPackageName: bash\n";
    let commented = "\u{feff}# by a tool\n\n  SPDXVersion: SPDX-2.2\n";
    let xml = r#"<?xml version="1.0"?><bom xmlns="http://cyclonedx.org/schema/bom/1.5"><components/></bom>"#;
    let rdf = r#"<rdf:RDF xmlns="http://spdx.org/rdf/terms#"></rdf:RDF>"#;
    for (predicate_type, text, format) in [
        (SPDX, tags, "spdx-tag-value"),
        (SPDX, commented, "spdx-tag-value"),
        (SPDX, rdf, "spdx-rdf-xml"),
        (CYCLONEDX, xml, "cyclonedx-xml"),
    ] {
        for predicate in [json!(text), json!({"Data": text})] {
            let (claim, mentions) = read(predicate_type, &predicate).unwrap();
            let Claim::Unread(unread) = claim else { panic!("{claim:?}") };
            assert_eq!(unread.format, format);
            assert!(unread.note.contains("components were not read"), "{}", unread.note);
            assert!(mentions.is_empty());
        }
    }
    for (predicate_type, text) in
        [(CYCLONEDX, tags), (SPDX, xml), (SPDX, "<html/>"), (SPDX, "# SPDXVersion: x"), (SPDX, "")]
    {
        assert_eq!(code(predicate_type, &json!(text)), "PREDICATE_INVALID", "{text}");
    }
}

#[test]
fn an_sbom_that_is_signed_without_a_statement_is_kept_about_no_subject() {
    use catenary_evidence::attestation::{payload, verify};
    let (key, text) = (crate::common::Signer::p256(), "SPDXVersion: SPDX-2.3\n");
    let keys = crate::common::ring(&[&key]);
    let signed = |kind: &str, text: &str| catenary_testkit::dsse::envelope(&key.0, kind, text).into_bytes();
    for (kind, format) in [
        ("text/spdx", "spdx-tag-value"),
        ("text/spdx; charset=utf-8", "spdx-tag-value"),
        ("application/vnd.cyclonedx+xml", "cyclonedx-xml"),
        ("application/vnd.cyclonedx+xml; version=1.5", "cyclonedx-xml"),
    ] {
        let item = signed(kind, text);
        let facts = verify(&item, &keys).unwrap();
        assert!(facts.is_verified() && facts.subjects.is_empty());
        let Claim::Unread(unread) = facts.claim else { panic!("{:?}", facts.claim) };
        assert_eq!((facts.predicate_type.as_str(), unread.format.as_str()), (kind, format));
        assert_eq!(payload(&item).unwrap(), text.as_bytes(), "what was signed is shown");
    }
    let json = verify(&signed("application/vnd.cyclonedx+json", "{}"), &keys).unwrap();
    assert!(matches!(json.claim, Claim::Unread(_)), "nothing says what it is about");
    assert_eq!(verify(&signed("application/spdx+json", "{"), &keys).unwrap_err().code(), "JSON_INVALID");
    assert_eq!(verify(&signed("text/html", text), &keys).unwrap_err().code(), "ATT_PAYLOAD_TYPE");
}

#[test]
fn a_short_document_does_not_become_a_long_one() {
    // One long name that thousands repeat: all of them together are bounded.
    let long = "n".repeat(limits::MAX_TEXT);
    let affects: Vec<Value> = (0..15_000).map(|_| json!({"ref": "a"})).collect();
    let cyclonedx = json!({"bomFormat": "CycloneDX", "specVersion": "1.6",
        "components": [{"bom-ref": "a", "name": long, "version": long}],
        "vulnerabilities": [{"id": long, "affects": affects}]});
    assert_eq!(code(CYCLONEDX, &cyclonedx), "ATT_TOO_LARGE");
    let mut graph: Vec<Value> =
        (0..15_000).map(|_| json!({"type": "software_Package", "spdxId": "p", "name": "n"})).collect();
    for n in 10..42 {
        let licence = format!("{n}{}", &long[2..]);
        graph.push(
            json!({"type": "x", "spdxId": format!("l{n}"), "simplelicensing_licenseExpression": licence}),
        );
        let to = [format!("l{n}")];
        graph.push(
            json!({"type": "Relationship", "relationshipType": "hasDeclaredLicense", "from": "p", "to": to}),
        );
    }
    assert_eq!(code(SPDX, &json!({"@graph": graph})), "ATT_TOO_LARGE");
    let products: Vec<Value> = (0..15_000).map(|n| json!(format!("pkg:npm/p{n}"))).collect();
    let vex = json!({"statements": [{"vulnerability": "v".repeat(1000), "status": "not_affected",
        "justification": "j".repeat(500), "products": products}]});
    assert_eq!(code("https://openvex.dev/ns", &vex), "ATT_TOO_LARGE");
    // Far too long to be kept at all: then nothing is.
    let vex = json!({"statements": [{"vulnerability": "CVE-2026-1", "status": "affected",
        "justification": "h".repeat(50_000), "products": ["pkg:npm/a"]}]});
    assert_eq!(read("https://openvex.dev/ns", &vex).unwrap().1[0].state, "affected");
}

/// Any JSON, with the names that the readers look for.
fn anything() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "spdxVersion",
        "bomFormat",
        "specVersion",
        "@graph",
        "packages",
        "components",
        "vulnerabilities",
        "statements",
        "scanner",
        "result",
        "Results",
        "matches",
        "name",
        "purl",
        "type",
        "Data",
        "status",
        "vulnerability",
        "id",
    ]);
    let texts = prop::sample::select(vec![
        "SPDX-2.3",
        "CycloneDX",
        "1.6",
        PURL,
        "",
        "affected",
        "%",
        "software_Package",
    ]);
    let leaf =
        prop_oneof![texts.prop_map(Value::from), any::<i32>().prop_map(Value::from), Just(Value::Null)];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone(), inner, 0..5)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_document_makes_a_reader_panic(predicate in anything()) {
        for predicate_type in [SPDX, CYCLONEDX, "https://openvex.dev/ns", "https://in-toto.io/attestation/vulns/v0.2", "https://in-toto.io/attestation/svr/v0.2"] {
            let _ = read(predicate_type, &predicate);
        }
    }
}
