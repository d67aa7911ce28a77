//! Chains with a link that is missing, spliced or bent.

use std::time::Instant;

use acceptance::{Stage, honest, http::escape, mutant, stage::furnish};
use catenary_testkit::{
    Subject, World,
    oci::{Blob, Image, Index, OCI_INDEX, OCI_MANIFEST, layer},
    provenance::{Base, Provenance},
    sha512_hex,
    world::{BASE_RESOURCE, BUILDER, MAIN, REPOSITORY, RESOURCE, subjects},
};
use serde_json::json;

#[tokio::test]
async fn g01_missing_source_step() {
    let _twin = honest().await;
    let stage = Stage::empty().await;
    stage.post_objects(&stage.world).await;
    stage.post_envelopes(&[stage.world.build_envelope(), stage.world.push_envelope()]).await;
    stage.judge().await.answers("G01");
    // It is the missing step and nothing else: with it, the chain is whole.
    stage.post_envelopes(&[stage.world.source_envelope()]).await;
    stage.judge().await.passes();
}

#[tokio::test]
async fn g03_cross_repository_splice() {
    let stage = mutant(|world| world.source.repository = "git+https://git.acme.test/acme/lib".into()).await;
    stage.judge().await.answers("G03");
}

#[tokio::test]
async fn g04_commit_splice() {
    let stage = mutant(|world| world.build.source_commit = Some("c2".repeat(20))).await;
    stage.judge().await.answers("G04");
}

#[tokio::test]
async fn g10_index_with_one_unattested_child() {
    let stage = mutant(|world| {
        world.build.subjects = vec![Subject::image(RESOURCE, &world.index.images[0].digest())];
    })
    .await;
    stage.judge().await.answers("G10");
}

#[tokio::test]
async fn g11_manifest_bytes_do_not_hash_to_the_digest() {
    let stage = honest().await;
    let index = stage.world.index.document();
    let mut evil = index.bytes.clone();
    evil.push(b' ');
    let path = format!("/v1/objects?digest={}", index.digest());
    stage.post_bytes(&path, &index.media_type, evil).await.answers("G11");
    stage.judge().await.passes();
}

#[tokio::test]
async fn g12_ambiguous_oci_document() {
    let stage = honest().await;
    let both = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [],
        "config": stage.world.index.images[0].config().descriptor(),
        "layers": [],
    });
    for media_type in [OCI_INDEX, OCI_MANIFEST] {
        stage.push_object(&Blob::new(media_type, both.to_string().into_bytes())).await.answers("G12");
    }
    stage.judge().await.passes();
}

#[tokio::test]
async fn g14_a_referrer_in_the_registry_is_not_trusted() {
    let stage = mutant(|world| {
        // The build is of another digest; what the registry attaches to the image says nothing.
        world.build.subjects = vec![Subject::new(RESOURCE, "sha256", &"e".repeat(64))];
        let mut referrer = Image::new("linux/amd64", vec![layer(&[("x", b"x")])]);
        referrer.extra.insert("subject".into(), world.index.document().descriptor());
        let config = referrer.config();
        world.extra_objects.extend([config, referrer.manifest()]);
    })
    .await;
    stage.judge().await.answers("G14");
}

#[tokio::test]
async fn g15_verdict_by_tag_is_refused_with_the_digest_it_pointed_to() {
    let stage = honest().await;
    for tag in ["1.0.0", "latest"] {
        let answer = stage.verdict(&format!("{RESOURCE}:{tag}")).await;
        answer.answers("G15");
        let resolved = answer.json()["resolved"].clone();
        let expected = if tag == "1.0.0" { json!(stage.world.index.digest()) } else { json!(null) };
        assert!(
            resolved == expected || resolved == json!(stage.world.image()) && tag == "1.0.0",
            "{}",
            answer.show()
        );
    }
    stage.verdict(RESOURCE).await.is(400);
}

#[tokio::test]
async fn g16_base_image_replaced() {
    let stage = mutant(|world| {
        world.build.base =
            Some(Base { uri: BASE_RESOURCE.into(), digest: Some(format!("sha256:{}", "b".repeat(64))) });
    })
    .await;
    stage.judge().await.answers("G16");
    let stage = mutant(|world| {
        world.build.base.as_mut().unwrap().uri = "registry.evil.test/base/debian".into();
    })
    .await;
    stage.judge().await.answers("G16");
}

#[tokio::test]
async fn g18_a_cycle_never_proves_itself() {
    let _twin = honest().await;
    let mut stage = Stage::empty().await;
    // The keys are those of the stage; the base image has a chain of its own here.
    let seed: u64 = stage.tenant.trim_start_matches('t').parse().unwrap();
    let mut world = World::golden_with_base_chain(seed, acceptance::now());
    let inputs = "  inputs: [{role: baseImage, allow: [\"registry.acme.test/**\"], chain: true, depth: 4, pinned: required}]\n";
    let base = world.base_policy().replace("  registry:", &format!("{inputs}  registry:"));
    let policy =
        world.policy().replace("registry.acme.test/base/*\"], chain", "registry.acme.test/**\"], chain");
    let (one, two) = tokio::join!(stage.apply("prod", &policy), stage.apply("base", &base));
    assert!(one.status < 300 && two.status < 300, "{} {}", one.show(), two.show());
    let product = world.index.digest();
    world.base_chain.as_mut().unwrap().build.base =
        Some(Base { uri: RESOURCE.into(), digest: Some(product) });
    stage.world = world;
    stage.post_world().await;
    let begun = Instant::now();
    stage.judge().await.answers("G18");
    println!("a cycle: {:?}", begun.elapsed());
}

#[tokio::test]
async fn k01_a_base_image_with_a_chain_of_its_own() {
    let mut stage = Stage::empty().await;
    let seed: u64 = stage.tenant.trim_start_matches('t').parse().unwrap();
    stage.world = World::golden_with_base_chain(seed, acceptance::now());
    let (policy, base) = (stage.world.policy(), stage.world.base_policy());
    let (one, two) = tokio::join!(stage.apply("prod", &policy), stage.apply("base", &base));
    assert!(one.status < 300 && two.status < 300, "{} {}", one.show(), two.show());
    stage.play_honest().await;
}

#[tokio::test]
async fn g20_a_chain_of_ten_thousand_steps() {
    const LENGTH: usize = 10_000;
    let _twin = honest().await;
    let stage = Stage::empty().await;
    let world = &stage.world;
    let inputs = "  inputs: [{role: baseImage, allow: [\"registry.acme.test/**\"], chain: true, depth: 8, pinned: required}]\n";
    let policy = world.policy();
    let begin = policy.find("  inputs:").unwrap();
    let end = begin + policy[begin..].find('\n').unwrap() + 1;
    let policy = format!("{}{inputs}{}", &policy[..begin], &policy[end..]);
    let policy = policy
        .replace("platforms: [linux/amd64, linux/arm64], extraPlatforms: deny", "platforms: [linux/amd64]");
    stage.apply("prod", &policy).await.is(201);

    // Image n is built on image n + 1. The bytes of the first forty are known; nothing looks further.
    let image = |n: usize| {
        Index::new(vec![Image::new("linux/amd64", vec![layer(&[("n", n.to_string().as_bytes())])])])
    };
    let digest = |n: usize| image(n).digest();
    let build = |n: usize, own: &Index, next: &str| {
        let mut build = Provenance::generic(BUILDER, REPOSITORY, MAIN, &world.commit.oid());
        build.subjects = subjects(RESOURCE, own);
        build.base = Some(Base { uri: RESOURCE.into(), digest: Some(next.into()) });
        build.runner = Some("github-hosted".into());
        build.invocation = format!("{BUILDER}/runs/deep-{n}");
        build.started_on = Some(world.now - 540);
        build.finished_on = Some(world.now - 480);
        build.statement().signed_by(&world.k_ci)
    };
    stage.post_envelopes(&[world.source_envelope()]).await;
    stage.push_object(&Blob::new(catenary_testkit::world::GIT_COMMIT, world.commit.bytes())).await.is(201);
    for n in 0..40 {
        for blob in [image(n).images[0].config(), image(n).images[0].manifest(), image(n).document()] {
            stage.push_object(&blob).await.is(201);
        }
    }
    for from in (0..LENGTH).step_by(1_000) {
        let batch: Vec<_> = (from..from + 1_000).map(|n| build(n, &image(n), &digest(n + 1))).collect();
        stage.post_envelopes(&batch).await;
    }
    let mut push = world.push.clone();
    push.digest = digest(0);
    stage.post_envelopes(&[push.statement().signed_by(&world.k_reg)]).await;
    // One that took longer than an answer may would be no verdict.
    let begun = Instant::now();
    stage.verdict(&world.image_of(&digest(0))).await.answers("G20");
    println!("ten thousand steps: {:?}", begun.elapsed());
}

#[tokio::test]
async fn g24_conflicting_provenance_from_one_builder() {
    let stage = honest().await;
    let mut second = stage.world.build.clone();
    second.source_commit = Some("c2".repeat(20));
    second.invocation += "/again";
    stage.post_envelopes(&[second.statement().signed_by(&stage.world.k_ci)]).await;
    stage.judge().await.answers("G24");
}

#[tokio::test]
async fn g32_no_common_digest_algorithm_between_steps() {
    let stage = mutant(|world| {
        let all =
            std::iter::once(world.index.document()).chain(world.index.images.iter().map(Image::manifest));
        world.build.subjects =
            all.map(|blob| Subject::new(RESOURCE, "sha512", &sha512_hex(&blob.bytes))).collect();
    })
    .await;
    stage.judge().await.answers("G32");
}

#[tokio::test]
async fn g34_source_uri_normalisation_tricks() {
    let _twin = honest().await;
    let stage = Stage::empty().await;
    let world = &stage.world;
    stage.post_objects(world).await;
    stage.post_envelopes(&[world.source_envelope(), world.push_envelope()]).await;
    let tricks = [
        "git+https://git.acme.test/acme/app/../evil",
        "git+https://git.acme.test/acme/x/../app/../evil",
        "git+https://git.acme.test@evil.test/acme/app",
        "git+https://evil.test/git.acme.test/acme/app",
        "git+https://git.acme.test%2Facme/app",
        "git+https://git.acme.test/acme%2Fapp",
        "git+https://git.acme.test/acme/app%2F..%2Fevil",
        "git+https://git.acme.test.evil.test/acme/app",
        "git+https://git.acme.test:444/acme/app",
        "git+https://git.acme.test/acme/app.git.git",
        "git+https://git.acme.test/acme/app?x=/acme/app",
        "git+https://git.acme.test/acme/app#/acme/app",
        "git+https://git.acme.test\\@evil.test/acme/app",
    ];
    for trick in tricks {
        let mut build = world.build.clone();
        build.source_uri = trick.into();
        let answer = stage.submit(build.statement().signed_by(&world.k_ci).to_bytes()).await;
        assert!([201, 422].contains(&answer.status), "{trick}: {}", answer.show());
        let verdict = stage.judge().await;
        println!("{trick}: {} {:?}", answer.status, verdict.codes());
        assert_eq!(verdict.outcome(), "FAILED", "{trick}: {}", verdict.show());
    }
    stage.judge().await.answers("G34");
}

#[tokio::test]
async fn g36_evidence_that_is_only_in_another_tenant() {
    let globex = honest().await;
    let acme = Stage::empty().await;
    // acme trusts the very same keys and has the very same policy.
    furnish(&acme, &{
        let mut world = globex.world.clone();
        world.resource = RESOURCE.into();
        world
    })
    .await;
    acme.verdict(&globex.world.image()).await.answers("G36");
    globex.judge().await.passes();
}

#[tokio::test]
async fn p11_two_policies_of_the_same_priority_are_ambiguous() {
    let stage = honest().await;
    let wide = stage
        .world
        .policy()
        .replace("name: prod", "name: wide")
        .replace("resources: [\"registry.acme.test/acme/*\"]", "resources: [\"**\"]");
    stage.apply("wide", &wide).await.is(201);
    stage.judge().await.answers("P11");
}

#[tokio::test]
async fn g36_a_bare_digest_answers_for_every_repository_it_is_known_in() {
    let stage = honest().await;
    let answer = stage
        .get(&format!("/v1/verdict?digest={}&environment=prod", escape(&stage.world.index.digest())))
        .await;
    let body = answer.is(200);
    assert_eq!(body.text("kind"), "VerdictList");
    assert_eq!(body.text("outcome"), "PASSED");
    for verdict in body.list("verdicts") {
        assert!(verdict.get("allowed").is_none(), "{verdict}");
    }
}
