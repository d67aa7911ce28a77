//! Certificates, logs and timestamps that say something wrong. Each attack stands beside the untouched twin, which passes.

use acceptance::{Stage, http::Answer};
use catenary_testkit::{
    Key,
    authority::{Authority, BundleBuilder, Claims, Kind, Leaf, San, Tamper, Version, x509},
    sha256_hex,
};
use serde_json::{Value, json};

const SHA: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
const RESOURCE: &str = "registry.keyless.test/acme/app";

fn claims() -> Claims {
    Claims::github("acme/app", ".github/workflows/release.yml", "refs/heads/main", SHA)
}

/// An image, an authority that is trusted, and a policy for one workflow.
struct World {
    stage: Stage,
    authority: Authority,
    manifest: Vec<u8>,
    image: String,
}

impl World {
    async fn new() -> Self {
        Self::with(&format!("{{exact: \"{}\"}}", claims().san())).await
    }

    /// The same under a root that knows intermediates only from the bundles.
    async fn with_bare_root() -> Self {
        let san = format!("{{exact: \"{}\"}}", claims().san());
        Self::under(&san, |authority| authority.trusted_root().only_roots().to_json()).await
    }

    /// A policy with this matcher for the certificate's name.
    async fn with(san: &str) -> Self {
        Self::under(san, Authority::trusted_root_json).await
    }

    async fn under(san: &str, root: impl Fn(&Authority) -> String) -> Self {
        Self::demanding(1, san, root).await
    }

    /// Under a root that demands entries of so many logs.
    async fn demanding(logs: u8, san: &str, root: impl Fn(&Authority) -> String) -> Self {
        let (stage, authority) = (Stage::empty().await, Authority::new("acme"));
        let root = json!({"domain": "acme", "document": root(&authority), "logs": logs});
        stage.post("/v1/trust", &root).await.is(201);
        let policy = format!(
            r#"apiVersion: catenary/v1
kind: ChainPolicy
metadata: {{name: keyless}}
spec:
  match: {{resources: ["registry.keyless.test/**"]}}
  trust:
    builders:
      - id: gha
        maxLevel: 3
        signer: {{issuer: "https://token.actions.githubusercontent.com", san: {san}, root: acme}}
        builderId: {{equals: signer.san}}
        buildTypes: [github-workflow]
  build: {{minLevel: 2, triggers: [push], params: {{unknown: deny}}}}
"#
        );
        stage.admin.apply("keyless", &policy).await.is(201);
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
        let config = config.to_string();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(),
                       "digest": format!("sha256:{}", sha256_hex(config.as_bytes()))},
            "layers": [], "annotations": {"n": acceptance::unique().to_string()}
        });
        let manifest = manifest.to_string().into_bytes();
        for (kind, bytes) in [("manifest", &manifest), ("config", &config.into_bytes())] {
            let media_type = format!("application/vnd.oci.image.{kind}.v1+json");
            stage.admin.post_bytes("/v1/objects", &media_type, bytes.clone()).await.is(201);
        }
        let image = format!("{RESOURCE}@sha256:{}", sha256_hex(&manifest));
        Self { stage, authority, manifest, image }
    }

    /// Provenance as GitHub's action writes it.
    fn provenance(&self, builder: &str) -> String {
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": RESOURCE, "digest": {"sha256": sha256_hex(&self.manifest)}}],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": "https://actions.github.io/buildtypes/workflow/v1",
                    "externalParameters": {"workflow": {
                        "ref": "refs/heads/main", "repository": "https://github.com/acme/app",
                        "path": ".github/workflows/release.yml"}},
                    "internalParameters": {"github": {"runner_environment": "github-hosted"}},
                    "resolvedDependencies": [{
                        "uri": "git+https://github.com/acme/app@refs/heads/main", "digest": {"gitCommit": SHA}}]
                },
                "runDetails": {"builder": {"id": builder}, "metadata": {}}
            }
        })
        .to_string()
    }

    fn good(&self, kind: Kind) -> BundleBuilder<'_> {
        let leaf = self.authority.leaf(&claims()).issue();
        let bundle = self.authority.attest(&leaf, &self.provenance(claims().san())).entry(kind);
        bundle.timestamp()
    }

    fn by(&self, leaf: &Leaf) -> String {
        self.authority.attest(leaf, &self.provenance(claims().san())).timestamp().to_json()
    }

    /// In a bundle that carries the intermediates, as those before v0.3 do.
    fn chained(&self, leaf: &Leaf) -> String {
        let bundle = self.authority.attest(leaf, &self.provenance(claims().san()));
        bundle.version(Version::V02).timestamp().to_json()
    }

    /// Sends an attack: refused with one of the codes, or kept and worth nothing because of one of them.
    async fn denies(&self, bundle: String, codes: &[&str]) {
        let answer = self.stage.submit(bundle).await;
        let verdict = self.stage.verdict(&self.image).await;
        assert_ne!(verdict.json()["allowed"], json!(true), "{}", verdict.show());
        let mut found = verdict.codes();
        found.extend(why(&answer));
        let named = found.iter().any(|code| codes.contains(&code.as_str()));
        assert!(named || codes.is_empty(), "{found:?} and not {codes:?}: {}", answer.show());
    }

    /// The untouched twin.
    async fn passes(&self) {
        let kept = self.stage.submit(self.good(Kind::DsseV1).to_json()).await.is(201);
        assert_eq!(kept.text("status"), "verified", "{}", kept.0);
        self.stage.verdict(&self.image).await.passes();
    }

    async fn tampered(&self, tamper: Tamper, codes: &[&str]) {
        for kind in [Kind::DsseV1, Kind::DsseV2] {
            if tamper.applies(kind, true) {
                self.denies(self.good(kind).tamper(tamper).to_json(), codes).await;
            }
        }
    }
}

/// The code of a refusal, or of what an unverified one lacks.
fn why(answer: &Answer) -> Option<String> {
    let document: Value = answer.json();
    let code = document["code"].as_str().or(document["doubt"]["code"].as_str())?;
    Some(code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_listed_attack_on_a_bundle_is_allowed() {
    let world = World::new().await;
    for tamper in Tamper::ALL.iter().copied() {
        // Harmless beside a good time: what a stranger says adds nothing and takes nothing away.
        if !matches!(tamper, Tamper::TokenByUnknown) {
            world.tampered(tamper, &[]).await;
        }
    }
    world.passes().await;
}

#[tokio::test]
async fn t15_two_entries_of_one_log_are_no_two_logs() {
    let san = format!("{{exact: \"{}\"}}", claims().san());
    let world = World::demanding(2, &san, Authority::trusted_root_json).await;
    let none = json!({"domain": "other", "document": world.authority.trusted_root_json(), "logs": 0});
    assert!((400..500).contains(&world.stage.post("/v1/trust", &none).await.status));
    let leaf = world.authority.leaf(&claims()).issue();
    let bundle = |kinds: &[Kind]| {
        let bundle = world.authority.attest(&leaf, &world.provenance(claims().san()));
        bundle.entries(kinds).timestamp().to_json()
    };
    for kinds in [&[Kind::DsseV1, Kind::HashedRekordV1][..], &[Kind::DsseV1]] {
        world.stage.submit(bundle(kinds)).await.is_problem(422, "ATT_WITNESS_QUORUM");
        assert_eq!(world.stage.verdict(&world.image).await.outcome(), "FAILED");
    }
    world.stage.submit(bundle(&[Kind::DsseV1, Kind::HashedRekordV2])).await.is(201);
    world.stage.verdict(&world.image).await.passes();
}

#[tokio::test]
async fn t17_a_timestamp_over_another_signature() {
    let world = World::new().await;
    world.tampered(Tamper::TokenOverAnotherSignature, &["ATT_TIMESTAMP_INVALID"]).await;
    world.passes().await;
}

#[tokio::test]
async fn t18_checks_of_the_wrong_certificate_in_the_bag() {
    let world = World::new().await;
    world.tampered(Tamper::TokenByWrongSigner, &["ATT_TIMESTAMP_INVALID"]).await;
    world.passes().await;
}

#[tokio::test]
async fn t26_an_entry_of_another_kind_than_it_says() {
    let world = World::new().await;
    let codes = ["ATT_TLOG_INVALID", "ATT_TLOG_BODY_MISMATCH", "ATT_MALFORMED", "ATT_TLOG_INVALID"];
    world.tampered(Tamper::KindMismatch, &codes).await;
    world.tampered(Tamper::UnknownKind, &codes).await;
    world.passes().await;
}

#[tokio::test]
async fn t24_a_managed_key_outside_its_window() {
    let world = World::new().await;
    let key = Key::p256("managed");
    let body = json!({"name": "managed", "pem": key.public_pem(), "validUntil": "2026-06-01T00:00:00Z"});
    let id = world.stage.post("/v1/keys", &body).await.is(201).text("id").to_owned();
    let policy = format!(
        r#"apiVersion: catenary/v1
kind: ChainPolicy
metadata: {{name: keyless}}
spec:
  match: {{resources: ["registry.keyless.test/**"]}}
  trust:
    builders: [{{id: ci, maxLevel: 3, signer: {{key: "{id}"}}, builderId: {{exact: "https://ci.test"}}}}]
  build: {{minLevel: 3}}
"#
    );
    world.stage.admin.apply("keyless", &policy).await.is(201);
    // The timestamp is from half a day after the window.
    let bundle = world.authority.attest_with_key(&key, &world.provenance("https://ci.test")).timestamp();
    world.denies(bundle.to_json(), &["BLD_SIGNER_NOT_TRUSTED"]).await;
}

/// The same chain through an intermediate that may.
async fn twin(world: &World) {
    let leaf = world.authority.leaf(&claims()).issue();
    assert_eq!(world.stage.submit(world.chained(&leaf)).await.is(201).text("status"), "verified");
    world.stage.verdict(&world.image).await.passes();
}

#[tokio::test]
async fn c04_an_intermediate_that_had_expired() {
    let world = World::with_bare_root().await;
    let authority = &world.authority;
    let expired = authority.other_intermediate(authority.now - 60, Vec::new());
    let chain = [expired.certificate.as_slice(), &authority.root.certificate];
    let leaf = authority.leaf(&claims()).issued_by(&expired, &chain).issue();
    let codes = ["ATT_CERT_CHAIN_UNTRUSTED", "ATT_CERT_EXPIRED_AT_SIGNING"];
    world.denies(world.chained(&leaf), &codes).await;
    twin(&world).await;
}

#[tokio::test]
async fn c07_a_name_outside_what_the_intermediate_may_certify() {
    let world = World::with_bare_root().await;
    let authority = &world.authority;
    let year = authority.now + 365 * 86_400;
    let only = x509::Extension::permitted_uri_hosts(&["ci.acme.test"]);
    let constrained = authority.other_intermediate(year, vec![only]);
    let chain = [constrained.certificate.as_slice(), &authority.root.certificate];
    let leaf = authority.leaf(&claims()).issued_by(&constrained, &chain).issue();
    world.denies(world.chained(&leaf), &["ATT_CERT_CHAIN_UNTRUSTED"]).await;
    twin(&world).await;
}

#[tokio::test]
async fn c11_a_dot_that_somebody_takes_for_any_letter() {
    let world = World::new().await;
    let twisted = claims().san().replacen("github.com", "githubXcom", 1);
    let leaf = world.authority.leaf(&claims().with_sans(vec![San::Uri(twisted)])).issue();
    world.denies(world.by(&leaf), &["BLD_SIGNER_NOT_TRUSTED"]).await;
    world.passes().await;
}

#[tokio::test]
async fn c14_a_pattern_alone_is_not_ignored() {
    let world = World::with("{regex: \"https://github\\\\.com/globex/.*\"}").await;
    let kept = world.stage.submit(world.good(Kind::DsseV1).to_json()).await.is(201);
    assert_eq!(kept.text("status"), "verified", "the bundle itself is good");
    world.stage.verdict(&world.image).await.denies("BLD_SIGNER_NOT_TRUSTED");
    // A pattern is anchored at both ends.
    let world = World::with("{regex: \"github\\\\.com/acme/app\"}").await;
    world.stage.submit(world.good(Kind::DsseV1).to_json()).await.is(201);
    world.stage.verdict(&world.image).await.denies("BLD_SIGNER_NOT_TRUSTED");
}

#[tokio::test]
async fn c22_a_run_that_a_strangers_pull_request_started() {
    let world = World::new().await;
    let leaf = world
        .authority
        .leaf(&claims().with(2, "pull_request_target").build_trigger("pull_request_target"))
        .issue();
    world.denies(world.by(&leaf), &["BLD_TRIGGER_NOT_ALLOWED"]).await;
    // The very same run, started by a push.
    world.passes().await;
}

#[tokio::test]
async fn c26_a_name_that_only_begins_like_a_trusted_one() {
    let world = World::with("{glob: \"spiffe://acme.test/**\"}").await;
    for name in ["spiffe://acme.test.evil.test/ci", "spiffe://evil.test/acme.test/ci", "spiffe://acme.test"] {
        let leaf = world.authority.leaf(&claims().with_sans(vec![San::Uri(name.into())])).issue();
        let bundle = world.authority.attest(&leaf, &world.provenance(name)).timestamp().to_json();
        world.denies(bundle, &["BLD_SIGNER_NOT_TRUSTED"]).await;
    }
    let name = "spiffe://acme.test/ci";
    let leaf =
        world.authority.leaf(&claims().build_signer_uri(name).with_sans(vec![San::Uri(name.into())])).issue();
    let bundle = world.authority.attest(&leaf, &world.provenance(name)).timestamp().to_json();
    assert_eq!(world.stage.submit(bundle).await.is(201).text("status"), "verified");
    world.stage.verdict(&world.image).await.passes();
}

#[tokio::test]
async fn e24_a_compressed_body_is_not_opened() {
    let world = World::new().await;
    let client = &world.stage.admin;
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let request = client.request(reqwest::Method::POST, "/v1/attestations");
        let request = request.header("content-type", "application/json").header("content-encoding", encoding);
        let answer = client.send(request.body(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0])).await;
        assert_eq!(answer.status, 415, "{encoding}: {}", answer.show());
    }
    world.passes().await;
}

#[tokio::test]
async fn e27_what_makes_a_parser_stumble_is_refused_and_nothing_else_happens() {
    let world = World::new().await;
    let pem = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----");
    let commit = |armour: &str| {
        let folded = armour.replace('\n', "\n ");
        format!(
            "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@acme.test> 1780000000 +0000\ncommitter A <a@acme.test> 1780000000 +0000\ngpgsig {folded}\n\nx\n"
        )
    };
    // CMS without certificates, empty bit strings, lengths of nothing, packets without an end.
    for armour in [
        pem("SIGNED MESSAGE", "MIIBAA=="),
        pem("SIGNED MESSAGE", "MB4GCSqGSIb3DQEHAqARMA8CAQExADAFBgMqAwQxAA=="),
        pem("SIGNED MESSAGE", ""),
        pem("PGP SIGNATURE", "\niQ==\n=AAAA"),
        pem("PGP SIGNATURE", "\n/////w==\n=AAAA"),
        pem("SSH SIGNATURE", "U1NIU0lH"),
        pem("SSH SIGNATURE", "U1NIU0lHAAAAAf////8="),
    ] {
        let answer =
            world.stage.admin.post_bytes("/v1/objects", "application/x-git-commit", commit(&armour)).await;
        assert!((200..500).contains(&answer.status), "{armour}: {}", answer.show());
        if answer.status == 201 {
            assert!(!answer.show().contains("\"verified\":{"), "{}", answer.show());
        }
    }
    let mut bundle = world.good(Kind::DsseV1).to_value();
    for rawest in ["", "AA==", "MAA=", "MIIFAAMCAQA="] {
        bundle["verificationMaterial"]["certificate"]["rawBytes"] = json!(rawest);
        let answer = world.stage.submit(bundle.to_string()).await;
        assert_eq!(answer.status, 422, "{rawest}: {}", answer.show());
    }
    world.passes().await;
}
