//! What is in the images: one question finds a package in all of them.

use acceptance::{App, Stage, http::escape};
use catenary_testkit::{Key, Statement, Subject};
use serde_json::{Value, json};

const BASH: &str = "pkg:deb/debian/bash@5.2-1?arch=amd64&distro=debian-12";

fn digest(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

fn signed(key: &Key, predicate_type: &str, image: &str, predicate: Value) -> String {
    let statement = Statement::new(predicate_type, predicate);
    statement.subject(Subject::new("app", "sha256", image)).signed_by(key).to_json()
}

fn sbom(components: &[Value]) -> Value {
    json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": components})
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_finds_a_package_in_images_without_a_package_manager() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await;
    let (key, stranger) = (Key::p256("sbom"), Key::p256("a stranger's"));
    stage.add_key("scanner", &key.public_pem(), None).await.is(201);
    let bash = json!({"type": "library", "name": "bash", "version": "5.2-1", "purl": BASH,
                      "licenses": [{"license": {"id": "GPL-3.0-or-later"}}]});
    let many: Vec<Value> = (0..300).map(|n| json!({"name": format!("filler-{n}"), "version": "1"})).collect();
    let scratch = sbom(&[vec![bash.clone()], many].concat());
    let spdx = json!({"spdxVersion": "SPDX-2.3", "packages": [
        {"name": "bash", "versionInfo": "4.0", "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": "pkg:deb/Debian/bash@4.0"}]}]});
    let cyclonedx = "https://cyclonedx.org/bom";
    let first = signed(&key, cyclonedx, &digest(1), scratch);
    assert_eq!(stage.submit(first.clone()).await.is(201).text("status"), "verified");
    stage.submit(first).await.is(200);
    stage.submit(signed(&key, "https://spdx.dev/Document/v2.3", &digest(2), spdx)).await.is(201);
    stage.submit(signed(&stranger, cyclonedx, &digest(3), sbom(&[bash]))).await.is(201);

    let images = async |query: &str| -> Vec<String> {
        let items = stage.get(&format!("/v1/components?{query}")).await.is(200).list("items");
        let image =
            |item: &Value| item["artifacts"][0].as_str().unwrap().replace("sha256:", "")[..2].to_owned();
        items.iter().map(image).collect()
    };
    assert_eq!(images("purl=pkg:deb/debian/bash").await, ["03", "02", "01"], "newest first");
    assert_eq!(images(&format!("purl={}", escape(BASH))).await, ["03", "01"]);
    assert_eq!(images("purl=pkg:deb/debian/bash&status=verified").await, ["02", "01"]);
    assert_eq!(images("purl=pkg:deb/debian/bash&status=unverified").await, ["03"]);
    assert_eq!(images("name=bash&version=4.0").await, ["02"]);
    assert_eq!(images("name=filler-7").await, ["01"]);
    assert_eq!(images("purl=pkg:deb/ubuntu/bash").await, [""; 0]);
    let found = stage.get("/v1/components?purl=pkg:deb/debian/bash@5.2-1&status=verified").await.is(200);
    let item = &found.list("items")[0];
    assert_eq!(item["licences"], json!(["GPL-3.0-or-later"]));
    assert_eq!(item["version"], "5.2-1");

    // A whole image, page by page, each package once.
    let (mut names, mut path) = (Vec::new(), format!("/v1/components?digest=sha256:{}&limit=100", digest(1)));
    loop {
        let page = stage.get(&path).await.is(200);
        names.extend(page.list("items").iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        let Some(next) = page.0["next"].as_str() else { break };
        path = format!("/v1/components?digest=sha256:{}&limit=100&cursor={}", digest(1), escape(next));
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 301);

    for query in [
        "",
        "status=verified",
        "purl=bash",
        "name=x&status=maybe",
        "vulnerability=CVE-2026-1",
        "digest=1",
        "name=x&cursor=AAAA",
    ] {
        let answer = stage.get(&format!("/v1/components?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.show());
    }
    // Another tenant knows nothing of it.
    let other = Stage::in_app(&app).await;
    assert_eq!(other.get("/v1/components?name=bash").await.is(200).list("items").len(), 0);
    app.log_is_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_of_scans_and_vex_documents_stand_side_by_side() {
    let app = App::start().await;
    let admin = app.admin();
    let key = Key::ed25519("scanner");
    admin.add_key("scanner", &key.public_pem(), None).await.is(201);
    let scan = json!({"scanner": {"uri": "pkg:generic/trivy", "result": {"Results": [{"Vulnerabilities": [
        {"VulnerabilityID": "CVE-2026-1", "PkgName": "bash", "InstalledVersion": "5.2-1", "Severity": "CRITICAL",
         "PkgIdentifier": {"PURL": BASH}}]}]}}, "metadata": {}});
    let vex = json!({"@context": "https://openvex.dev/ns/v0.2.0", "author": "acme", "statements": [
        {"vulnerability": {"name": "CVE-2026-1"}, "status": "not_affected",
         "justification": "vulnerable_code_not_in_execute_path", "products": [{"@id": BASH}]}]});
    admin
        .submit(signed(&key, "https://cosign.sigstore.dev/attestation/vuln/v1", &digest(1), scan))
        .await
        .is(201);
    admin.submit(signed(&key, "https://openvex.dev/ns/v0.2.0", &digest(1), vex)).await.is(201);
    let states = async |query: &str| -> Vec<String> {
        let items = admin.get(&format!("/v1/findings?{query}")).await.is(200).list("items");
        items.iter().map(|item| item["state"].as_str().unwrap().to_owned()).collect()
    };
    let both = ["not_affected: vulnerable_code_not_in_execute_path", "critical"];
    assert_eq!(states("vulnerability=CVE-2026-1").await, both);
    assert_eq!(states("purl=pkg:deb/debian/bash@5.2-1").await, both);
    assert_eq!(states(&format!("digest=sha256:{}", digest(1))).await, both);
    assert_eq!(admin.get("/v1/components?name=bash").await.is(200).list("items").len(), 0);

    let told = app.run(&["findings", "CVE-2026-1"]);
    let told = String::from_utf8_lossy(&told.stdout);
    assert!(told.contains("critical") && told.contains("pkg:deb/debian/bash@5.2-1"), "{told}");
    let none = app.run(&["components", "pkg:npm/left-pad"]);
    assert!(none.status.success() && String::from_utf8_lossy(&none.stdout).contains("nothing is known"));

    // A row that somebody changed is named, and one that somebody took away.
    let pool = sqlx::PgPool::connect(app.database()).await.unwrap();
    let changed = "update mention set state = 'negligible' where state = 'critical'";
    sqlx::query(changed).execute(&pool).await.unwrap();
    let differences = app.log_differences();
    assert!(differences.iter().any(|line| line.contains("mention")), "{differences:?}");
    sqlx::query("delete from mention").execute(&pool).await.unwrap();
    let differences = app.log_differences();
    assert!(differences.iter().any(|line| line.contains("mention")), "{differences:?}");
}
