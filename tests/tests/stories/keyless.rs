//! Evidence signed with certificates: roots are added and withdrawn, and public evidence makes a chain.

use std::path::Path;

use acceptance::{
    App, Stage,
    http::{Client, escape},
};
use catenary_cli::check::layout;
use catenary_testkit::{
    authority::{Authority, Claims, Kind, Witness},
    sha256_hex,
};
use serde_json::{Value, json};

const SHA: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
const RESOURCE: &str = "registry.keyless.test/acme/app";

fn claims() -> Claims {
    Claims::github("acme/app", ".github/workflows/release.yml", "refs/heads/main", SHA)
}

/// Provenance as GitHub's action writes it, about a manifest of these bytes.
fn provenance(manifest: &[u8]) -> String {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": RESOURCE, "digest": {"sha256": sha256_hex(manifest)}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://actions.github.io/buildtypes/workflow/v1",
                "externalParameters": {"workflow": {
                    "ref": "refs/heads/main", "repository": "https://github.com/acme/app",
                    "path": ".github/workflows/release.yml"}},
                "internalParameters": {"github": {"event_name": "push", "runner_environment": "github-hosted"}},
                "resolvedDependencies": [{
                    "uri": "git+https://github.com/acme/app@refs/heads/main", "digest": {"gitCommit": SHA}}]
            },
            "runDetails": {"builder": {"id": claims().san()}, "metadata": {}}
        }
    })
    .to_string()
}

fn policy() -> String {
    format!(
        r#"apiVersion: catenary/v1
kind: ChainPolicy
metadata: {{name: keyless}}
spec:
  match: {{resources: ["registry.keyless.test/**"]}}
  trust:
    builders:
      - id: gha
        maxLevel: 3
        signer: {{issuer: "https://token.actions.githubusercontent.com", san: {{exact: "{}"}}, root: acme}}
        builderId: {{equals: signer.san}}
        buildTypes: [github-workflow]
  build: {{minLevel: 2, triggers: [push], params: {{unknown: deny}}}}
"#,
        claims().san()
    )
}

/// A manifest of an image for one platform, and its config.
fn image() -> (Vec<u8>, Vec<u8>) {
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}})
            .to_string();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(),
                   "digest": format!("sha256:{}", sha256_hex(config.as_bytes()))},
        "layers": [], "annotations": {"n": acceptance::unique().to_string()}
    });
    (manifest.to_string().into_bytes(), config.into_bytes())
}

async fn post_image(admin: &Client, manifest: &[u8], config: &[u8]) -> String {
    let of = |kind: &str| format!("application/vnd.oci.image.{kind}.v1+json");
    admin.post_bytes("/v1/objects", &of("manifest"), manifest.to_vec()).await.is(201);
    let answer = admin.post_bytes("/v1/objects", &of("config"), config.to_vec()).await;
    assert!([200, 201].contains(&answer.status), "{}", answer.show());
    format!("{RESOURCE}@sha256:{}", sha256_hex(manifest))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyless_build_counts_from_when_its_root_is_trusted_until_it_is_withdrawn() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await;
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let (manifest, config) = image();
    stage.admin.apply("keyless", &policy()).await.is(201);
    let image = post_image(&stage.admin, &manifest, &config).await;
    let bundle = authority.attest(&leaf, &provenance(&manifest)).timestamp().to_json();

    let kept = stage.submit(bundle.clone()).await.is(201);
    assert_eq!(kept.text("status"), "unverified", "{}", kept.0);
    stage.verdict(&image).await.denies("BLD_SIGNER_NOT_TRUSTED");

    let root = json!({"domain": "acme", "document": authority.trusted_root().to_json()});
    let added = stage.post("/v1/trust", &root).await.is(201);
    assert_eq!(added.number("version"), 1);
    stage.verdict(&image).await.passes();
    assert_eq!(stage.submit(bundle).await.is(200).text("status"), "verified", "what was sent again");
    stage.post("/v1/trust", &root).await.is(200);
    app.log_is_clean();

    // What the workflow signed, by its name.
    let signed = async |query: &str| {
        let items = stage.get(&format!("/v1/timeline?{query}")).await.is(200).list("items");
        items.iter().filter(|item| item["kind"] == "build").count()
    };
    let san = claims().san().to_owned();
    let name = san.split_once("/.github").unwrap().0.to_owned();
    assert_eq!(signed(&format!("signer={}", escape(&san))).await, 1);
    assert_eq!(signed(&format!("signer={}", escape(&format!("{name}/**")))).await, 1);
    let issuer = escape("https://token.actions.githubusercontent.com");
    assert_eq!(signed(&format!("signer={}&issuer={issuer}", escape(&san))).await, 1);
    assert_eq!(signed(&format!("signer={}&issuer=other", escape(&san))).await, 0);
    assert_eq!(signed(&format!("signer={}", escape(&name))).await, 0, "names are matched whole");
    assert!((400..500).contains(&stage.get("/v1/timeline?signer=sha256:00").await.status));

    let why = json!({"reason": "the authority's key leaked"});
    stage.post("/v1/trust/acme/withdraw", &why).await.is(200);
    stage.verdict(&image).await.denies("BLD_SIGNER_NOT_TRUSTED");
    stage.post("/v1/trust", &root).await.is(409);
    app.log_is_clean();
}

#[tokio::test]
async fn a_newer_root_without_an_authority_ends_its_trust_at_once() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await;
    let authority = Authority::new("acme");
    let leaf = authority.leaf(&claims()).issue();
    let (manifest, config) = image();
    stage.admin.apply("keyless", &policy()).await.is(201);
    let image = post_image(&stage.admin, &manifest, &config).await;
    let root =
        |authority: &Authority| json!({"domain": "acme", "document": authority.trusted_root().to_json()});
    stage.post("/v1/trust", &root(&authority)).await.is(201);
    stage.submit(authority.attest(&leaf, &provenance(&manifest)).to_json()).await.is(201);
    stage.verdict(&image).await.passes();
    let version = stage.post("/v1/trust", &root(&Authority::new("another"))).await.is(201).number("version");
    assert_eq!(version, 2);
    stage.verdict(&image).await.denies("BLD_SIGNER_NOT_TRUSTED");
    app.log_is_clean();
}

/// Two of three witnesses must have seen the checkpoint; the domain is one of witnesses alone.
#[tokio::test]
async fn a_policy_demands_a_quorum_of_witnesses_by_name() {
    let app = App::start().await;
    let stage = Stage::in_app(&app).await;
    let authority = Authority::new("acme");
    let witnesses = ["w1.test", "w2.test", "w3.test"].map(Witness::new);
    let lines: String = witnesses.iter().map(|w| format!("witness {} {}\n", w.name, w.vkey())).collect();
    let quorum = format!("{lines}group ours 2 w1.test w2.test w3.test\nquorum ours\n");
    let root = json!({"domain": "acme", "document": authority.trusted_root().to_json()});
    stage.post("/v1/trust", &root).await.is(201);
    let tlog = "evidence: {tlog: {quorum: acme-witnesses}}\n        buildTypes";
    stage.admin.apply("keyless", &policy().replace("buildTypes", tlog)).await.is(201);
    let (manifest, config) = image();
    let image = post_image(&stage.admin, &manifest, &config).await;
    let leaf = authority.leaf(&claims()).issue();
    let bundle = |by: &[&Witness]| {
        let bundle = authority.attest(&leaf, &provenance(&manifest)).entry(Kind::DsseV2).timestamp();
        by.iter().fold(bundle, |bundle, witness| bundle.cosigned_by(witness, authority.now + 9))
    };
    let [w1, w2, w3] = &witnesses;
    stage.submit(bundle(&[w1, w3]).to_json()).await.is(201);
    stage.verdict(&image).await.denies("ATT_WITNESS_QUORUM");

    // Stored evidence is cosigned as soon as its witnesses are known.
    let broken = json!({"domain": "acme-witnesses", "witnesses": lines});
    stage.post("/v1/trust", &broken).await.is_problem(422, "TRUST_ROOT_INVALID");
    let added = json!({"domain": "acme-witnesses", "witnesses": quorum});
    let added = stage.post("/v1/trust", &added).await.is(201);
    let kinds = added.list("authorities");
    assert!(kinds.len() == 3 && kinds.iter().all(|one| one["kind"] == "witness"), "{kinds:?}");
    stage.verdict(&image).await.passes();

    let (manifest, config) = self::image();
    let image = post_image(&stage.admin, &manifest, &config).await;
    let bundle = |by: &[&Witness]| {
        let bundle = authority.attest(&leaf, &provenance(&manifest)).entry(Kind::DsseV2).timestamp();
        by.iter().fold(bundle, |bundle, witness| bundle.cosigned_by(witness, authority.now + 9))
    };
    stage.submit(bundle(&[w2]).to_json()).await.is(201);
    let verdict = stage.verdict(&image).await.denies("ATT_WITNESS_QUORUM");
    let reasons = verdict.list("reasons");
    let reason = reasons.iter().find(|reason| reason["code"] == "ATT_WITNESS_QUORUM").unwrap();
    assert_eq!(
        (&reason["expected"], &reason["actual"]),
        (&json!("2 of (w1.test, w2.test, w3.test)"), &json!("w2.test"))
    );
    assert!(reason["remediation"]["hint"].as_str().is_some_and(|mend| mend.contains("cosigned")), "{reason}");
    let forged = bundle(&[w2]).edit_checkpoint(|checkpoint| {
        let line = w3.line(&checkpoint.replace("log", "lag"), authority.now + 9);
        checkpoint.push_str(&line);
    });
    stage.submit(forged.to_json()).await.is_problem(422, "ATT_TLOG_CHECKPOINT");
    stage.submit(bundle(&[w2, w1]).to_json()).await.is(201);
    stage.verdict(&image).await.passes();
    app.log_is_clean();
}

#[tokio::test]
async fn t20_a_root_that_cannot_be_used_is_refused() {
    let stage = Stage::empty().await;
    let authority = Authority::new("acme");
    for document in ["{}".to_owned(), authority.trusted_root().with_empty_tsa_chain().to_json()] {
        let answer = stage.post("/v1/trust", &json!({"domain": "acme", "document": document})).await;
        answer.is_problem(422, "TRUST_ROOT_INVALID");
    }
    let list = stage.get("/v1/trust").await.is(200).list("items");
    let names: Vec<&str> = list.iter().map(|item| item["domain"].as_str().unwrap()).collect();
    assert_eq!(names, ["github", "sigstore"], "nothing was half-written");
}

/// Public evidence, where a folder of it is given.
fn public() -> Option<String> {
    let folder = std::env::var("CATENARY_TEST_DATA").ok();
    if folder.is_none() {
        acceptance::skip("public evidence", "CATENARY_TEST_DATA names no folder");
    }
    folder
}

#[tokio::test]
async fn public_evidence_makes_a_chain_under_the_public_roots() {
    let Some(folder) = public() else { return };
    let stage = Stage::empty().await;
    let keys =
        std::fs::read_to_string(format!("{folder}/trust-roots/github-web-flow/github-web-flow.asc")).unwrap();
    for (n, key) in keys.split_inclusive("-----END PGP PUBLIC KEY BLOCK-----").enumerate() {
        if key.contains("-----BEGIN") {
            stage.add_key(&format!("web-flow {n}"), key.trim(), None).await.is(201);
        }
    }
    for (version, expected) in [
        ("v1.8.0", None),
        ("v1.9.0", None),
        // No one signed these commits.
        ("v1.4.0", Some("SRC_UNSIGNED_COMMIT")),
        ("v1.6.0", Some("SRC_UNSIGNED_COMMIT")),
    ] {
        let image = post_public(&stage, &folder, version).await;
        let answer = stage.verdict(&image).await;
        match expected {
            None => drop(answer.passes()),
            Some(code) => drop(answer.denies(code)),
        }
    }
}

/// Posts image, provenance, commit and a policy; the image's reference.
async fn post_public(stage: &Stage, folder: &str, version: &str) -> String {
    let path = format!(
        "{folder}/slsa-verifier/cli/slsa-verifier/testdata/gha_generic_container/{version}/container_workflow_dispatch"
    );
    let path = Path::new(&path);
    for item in layout::attachments(path).unwrap().unwrap() {
        let kept = stage.submit(item).await.is(201);
        assert_eq!(kept.text("status"), "verified", "{}", kept.0);
    }
    let blob = |digest: &str| std::fs::read(path.join("blobs").join(digest.replace(':', "/"))).ok();
    let index: Value = serde_json::from_slice(&std::fs::read(path.join("index.json")).unwrap()).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    let image =
        entries.iter().find(|e| !e["annotations"]["kind"].as_str().unwrap_or("").ends_with("/atts")).unwrap();
    let mut open = vec![image.clone()];
    while let Some(descriptor) = open.pop() {
        let Some(bytes) = blob(descriptor["digest"].as_str().unwrap()) else { continue };
        let media_type = descriptor["mediaType"].as_str().unwrap();
        let answer = stage.post_bytes("/v1/objects", media_type, bytes.clone()).await;
        assert!([200, 201].contains(&answer.status), "{}", answer.show());
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        open.extend(document["manifests"].as_array().cloned().unwrap_or_default());
        open.extend(document.get("config").filter(|config| config["digest"].is_string()).cloned());
    }
    let commits = std::fs::read_dir(format!("{folder}/example-package-commits/{version}")).unwrap();
    for commit in commits {
        let bytes = std::fs::read(commit.unwrap().path()).unwrap();
        stage.post_bytes("/v1/objects", "application/x-git-commit", bytes).await.is(201);
    }
    let name = format!("public-{}", version.replace('.', "-"));
    let policy = format!(
        r#"apiVersion: catenary/v1
kind: ChainPolicy
metadata: {{name: {name}}}
spec:
  match: {{resources: ["registry.public.test/{name}"]}}
  trust:
    builders:
      - id: generator
        maxLevel: 3
        signer:
          issuer: "https://token.actions.githubusercontent.com"
          san: {{exact: "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml@refs/tags/{version}"}}
          root: sigstore
          ext: {{sourceRepositoryUri: "https://github.com/slsa-framework/example-package"}}
        builderId: {{equals: signer.san}}
        buildTypes: [slsa-github-generator]
  build: {{minLevel: 3}}
  source:
    repository: {{uri: "git+https://github.com/slsa-framework/example-package"}}
    refs: ["refs/heads/main", "refs/tags/*"]
    signatures: {{commit: {{required: true}}}}
"#
    );
    stage.admin.apply(&name, &policy).await.is(201);
    format!("registry.public.test/{name}@{}", image["digest"].as_str().unwrap())
}
