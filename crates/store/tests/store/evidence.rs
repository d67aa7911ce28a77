//! Evidence goes in, and comes out as it was, found by what it is about.

use catenary_chain::{
    gather::{Evidence, Want},
    policy::{IdentityRule, glob::Matcher},
};
use catenary_evidence::{
    Identity, KeyId, Signature, Signer,
    digest::{Node, Sha256},
    signer::{Claims, SanKind},
};
use catenary_store::{Filter, New, Prefix};
use catenary_testkit::{Envelope, Key, Statement, Subject, World, oci};

use crate::common::{Ground, TENANT, facts, key_id, node, ring, statement, token_revoked};

#[tokio::test]
async fn d20_bytes_come_back_as_they_were_sent() {
    let ground = Ground::new("d20").await;
    let honest = statement("image").signed_by(&ground.ci).to_json();
    // Spaces, another order of members, numbers in another spelling: other bytes, another id, kept apart.
    let spaced = honest.replace(',', " ,\n ").replace(':', " : ");
    let payload =
        statement("image").to_json().replace("\"predicate\":{", "\"predicate\":{\"n\":1.0,  \"m\":1,");
    let odd = Envelope::statement(payload).signed_by(&ground.ci).to_json();
    for text in [honest, spaced, odd] {
        let new = ground.verified(text.clone().into_bytes());
        let appended = ground.store.append(TENANT, new).await.unwrap();
        assert_eq!(appended.id, Sha256::of(text.as_bytes()));
        let bodies = ground.store.bodies(TENANT, &[appended.id]).await.unwrap();
        assert_eq!(bodies[&appended.id], text.as_bytes());
        let again = ground.verified(bodies[&appended.id].clone());
        assert_eq!(facts(&again).keys(), [key_id(&ground.ci)]);
        let row = ground.store.attestation(TENANT, appended.id, u64::MAX).await.unwrap().unwrap();
        assert_eq!(&row.facts, facts(&again), "facts survive the row");
    }
}

#[tokio::test]
async fn the_golden_world_is_found_frontier_by_frontier() {
    let mut ground = Ground::new("world").await;
    let world = World::golden(1, 1_763_000_000);
    ground.ring = ring(&[&world.k_vcs, &world.k_ci, &world.k_reg, &world.k_dev]);
    let mut sent = 0;
    for blob in world.objects() {
        ground.store.append(TENANT, ground.git_object(&blob.media_type, &blob.bytes)).await.unwrap();
        sent += 1;
    }
    for envelope in world.envelopes() {
        ground.store.append(TENANT, ground.verified(envelope.to_bytes())).await.unwrap();
        sent += 1;
    }
    assert_eq!(ground.prefix().await.size, sent + 1);
    let want = Want {
        nodes: vec![
            world.index.digest().parse().unwrap(),
            format!("gitCommit:{}", world.commit.oid()).parse().unwrap(),
        ],
        by: catenary_chain::gather::Wanted {
            signers: vec![key_id(&world.k_vcs), key_id(&world.k_ci), key_id(&world.k_reg)].into(),
            identities: Vec::new().into(),
        },
    };
    let mut evidence = Evidence::default();
    ground.store.gather(TENANT, &want, &ground.prefix().await, &mut evidence).await.unwrap();
    assert_eq!(evidence.objects.len(), 2);
    assert!(evidence.attestations.len() >= 3, "{:?}", evidence.attestations.keys());
    assert!(evidence.damaged.is_empty() && evidence.truncated.is_empty());
    let filter = |filter| {
        let store = ground.store.clone();
        async move { store.list_attestations(TENANT, &filter, u64::MAX, 50).await.unwrap().len() }
    };
    let build = world.build.body.builder_id.clone();
    assert_eq!(filter(Filter { builder: Some(build), ..Filter::default() }).await, 1);
    assert_eq!(filter(Filter { resource: Some(world.resource.clone()), ..Filter::default() }).await, 1);
    assert_eq!(filter(Filter { source_commit: Some(want.nodes[1]), ..Filter::default() }).await, 2);
}

#[tokio::test]
async fn only_the_prefix_is_read() {
    let ground = Ground::new("prefix").await;
    ground.store.append(TENANT, ground.attested("image")).await.unwrap();
    let early = ground.prefix().await;
    let late = ground.verified(
        Statement::new("https://example.com/late", serde_json::json!({}))
            .subject(Subject::new("x", "sha256", &node("image").to_string()[7..]))
            .signed_by(&ground.ci)
            .to_bytes(),
    );
    ground.store.append(TENANT, late).await.unwrap();
    let want = Want {
        nodes: vec![node("image")],
        by: catenary_chain::gather::Wanted {
            signers: vec![key_id(&ground.ci)].into(),
            identities: Vec::new().into(),
        },
    };
    let mut evidence = Evidence::default();
    ground.store.gather(TENANT, &want, &early, &mut evidence).await.unwrap();
    assert_eq!(evidence.attestations.len(), 1);
    assert_eq!(ground.gather(&[node("image")]).await.attestations.len(), 2);
}

fn about(subject: &str, n: usize, key: &Key) -> Vec<u8> {
    let predicate = serde_json::json!({ "n": n });
    Statement::new("https://example.com/many", predicate)
        .subject(Subject::new("x", "sha256", &node(subject).to_string()[7..]))
        .signed_by(key)
        .to_bytes()
}

#[tokio::test]
async fn noise_never_pushes_an_answer_out() {
    let ground = Ground::new("noise").await;
    let mallory = Key::ed25519("mallory");
    let noise: Vec<New> = (0..300).map(|n| ground.verified(about("image", n, &mallory))).collect();
    assert!(ground.store.append_all(TENANT, noise).await.iter().all(Result::is_ok));
    let real = ground.store.append(TENANT, ground.attested("image")).await.unwrap();
    let evidence = ground.gather(&[node("image")]).await;
    assert!(evidence.attestations.contains_key(&real.id));
    assert_eq!(evidence.attestations.len(), 21, "and twenty near misses, the first ones");
    assert!(evidence.truncated.is_empty());
}

#[tokio::test]
async fn what_is_read_of_one_among_many_nodes_is_what_is_read_of_it_alone() {
    let ground = Ground::new("many").await;
    let mallory = Key::ed25519("mallory");
    let mut new: Vec<New> = (0..30).map(|n| ground.verified(about("crowded", n, &mallory))).collect();
    new.push(ground.attested("crowded"));
    new.push(ground.attested("calm"));
    new.extend((0..20).map(|n| ground.verified(about("full", n, &mallory))));
    new.push(ground.verified(about("calm", 0, &mallory)));
    let image = |n: u8| oci::Image::new("linux/amd64", vec![vec![n]]);
    let (popular, plain) = (image(0), image(1));
    new.extend([&popular, &plain].map(|image| ground.object(&image.manifest())));
    let indexes: Vec<_> = (2..27).map(|n| oci::Index::new(vec![popular.clone(), image(n)])).collect();
    new.extend(indexes.iter().map(|index| ground.object(&index.document())));
    let both = oci::Index::new(vec![popular.clone(), plain.clone()]);
    new.push(ground.object(&both.document()));
    // A parent that somebody who counts speaks about is read however many others there are.
    let last = indexes.last().unwrap().digest();
    let said = Statement::new("https://example.com/index", serde_json::json!({}))
        .subject(Subject::new("x", "sha256", &last[7..]))
        .signed_by(&ground.ci);
    new.push(ground.verified(said.to_bytes()));
    assert!(ground.store.append_all(TENANT, new).await.iter().all(Result::is_ok));

    let of = |digest: String| digest.parse::<Node>().unwrap();
    let nodes = [
        node("crowded"),
        node("calm"),
        node("full"),
        of(popular.digest()),
        of(plain.digest()),
        of(both.digest()),
        of(last),
        node("unknown"),
    ];
    let padding: Vec<Node> = (0..40).map(|n| node(&format!("nothing {n}"))).collect();
    for some in 1_usize..1 << nodes.len() {
        let asked: Vec<Node> =
            nodes.iter().enumerate().filter(|(n, _)| some >> n & 1 == 1).map(|(_, n)| *n).collect();
        let few = ground.gather(&asked).await;
        let many = ground.gather(&[&asked[..], &padding].concat()).await;
        assert_eq!(format!("{few:?}"), format!("{many:?}"), "{asked:?}");
    }
    let crowded = ground.gather(&nodes).await;
    assert_eq!((crowded.attestations.len(), crowded.parents.len()), (21 + 2 + 20 + 1, 2));
}

/// A signature of a reusable workflow at `tag` that `repository` called.
fn workflow(tag: usize, repository: &str) -> Signature {
    let claims = Claims { source_repository_uri: Some(repository.into()), ..Claims::default() };
    let san = format!("https://github.com/acme/workflows/.github/workflows/build.yml@refs/tags/v{tag}");
    let issuer = Some("https://token.actions.githubusercontent.com".into());
    let domain = "sigstore".into();
    let identity = Identity { domain, san_kind: SanKind::Uri, san, issuer, claims };
    let signer = Signer::Certificate(Box::new(identity));
    Signature { signer, ..Signature::by_key(KeyId(Sha256([0; 32]))) }
}

#[tokio::test]
async fn no_crowd_of_other_identities_pushes_an_answer_out() {
    let ground = Ground::new("identities").await;
    let signed = |n: usize, signature: Signature| match ground.verified(about("image", n, &ground.ci)) {
        New::Attestation { bytes, mut facts, submitter, keys_at } => {
            facts.signatures = vec![signature];
            New::Attestation { bytes, facts, submitter, keys_at }
        }
        other => other,
    };
    // The very workflow, called by others; and a thousand workflows, called by us.
    let mut noise: Vec<New> =
        (0..1000).map(|n| signed(n, workflow(1, &format!("https://github.com/evil/r{n}")))).collect();
    noise.extend((0..1000).map(|n| signed(1000 + n, workflow(n + 2, "https://github.com/acme/app"))));
    assert!(ground.store.append_all(TENANT, noise).await.iter().all(Result::is_ok));
    let real = signed(2000, workflow(1, "https://github.com/acme/app"));
    let real = ground.store.append(TENANT, real).await.unwrap();

    let rule = serde_json::json!({
        "issuer": "https://token.actions.githubusercontent.com",
        "san": {"prefix": "https://github.com/acme/workflows/.github/workflows/build.yml@refs/tags/v1"},
        "ext": {"sourceRepositoryUri": {"exact": "https://github.com/acme/app"}},
    });
    // Of the tags, `v1` begins many.
    let mut rule: IdentityRule = serde_json::from_value(rule).unwrap();
    let mut evidence = Evidence::default();
    let want = Want {
        nodes: vec![node("image")],
        by: catenary_chain::gather::Wanted { signers: vec![].into(), identities: vec![rule.clone()].into() },
    };
    ground.store.gather(TENANT, &want, &ground.prefix().await, &mut evidence).await.unwrap();
    assert!(evidence.attestations.contains_key(&real.id));
    assert!(evidence.truncated.is_empty());

    rule.san = Matcher::Exact(workflow(1, "").signer.identity().unwrap().san.clone());
    let mut evidence = Evidence::default();
    let want = Want {
        nodes: vec![node("image")],
        by: catenary_chain::gather::Wanted { signers: vec![].into(), identities: vec![rule].into() },
    };
    ground.store.gather(TENANT, &want, &ground.prefix().await, &mut evidence).await.unwrap();
    assert!(evidence.attestations.contains_key(&real.id));
    assert_eq!(evidence.attestations.len(), 21, "and twenty near misses, the first ones");
}

#[tokio::test]
async fn more_than_a_thousand_of_trusted_signers_is_told() {
    let ground = Ground::new("thousand").await;
    let many = |range: std::ops::Range<usize>| -> Vec<New> {
        range.map(|n| ground.verified(about("image", n, &ground.ci))).collect()
    };
    assert!(ground.store.append_all(TENANT, many(0..1000)).await.iter().all(Result::is_ok));
    let evidence = ground.gather(&[node("image")]).await;
    assert_eq!((evidence.attestations.len(), evidence.truncated.len()), (1000, 0));
    assert!(ground.store.append_all(TENANT, many(1000..1001)).await.iter().all(Result::is_ok));
    let evidence = ground.gather(&[node("image"), node("other")]).await;
    assert_eq!(evidence.truncated.into_iter().collect::<Vec<_>>(), [node("image")]);
    assert_eq!(evidence.attestations.len(), 1000);
}

#[tokio::test]
async fn lists_are_filtered_and_paged_newest_first() {
    let ground = Ground::new("lists").await;
    let mallory = Key::ed25519("mallory");
    for n in 0..5 {
        ground.store.append(TENANT, ground.attested(&format!("s{n}"))).await.unwrap();
        ground.store.append(TENANT, ground.vouched_by(&mallory, &format!("s{n}"))).await.unwrap();
    }
    ground.store.append(TENANT, token_revoked(1)).await.unwrap();
    let list = |filter: Filter, before, limit| {
        let store = ground.store.clone();
        async move {
            let rows = store.list_attestations(TENANT, &filter, before, limit).await.unwrap();
            rows.iter().map(|row| row.index).collect::<Vec<_>>()
        }
    };
    assert_eq!(list(Filter::default(), u64::MAX, 4).await, [10, 9, 8, 7]);
    assert_eq!(list(Filter::default(), 7, 4).await, [6, 5, 4, 3]);
    assert_eq!(
        list(Filter { verified: Some(true), ..Filter::default() }, u64::MAX, 9).await,
        [9, 7, 5, 3, 1]
    );
    let signer = Some(key_id(&ground.ci));
    assert_eq!(list(Filter { signer, ..Filter::default() }, 8, 2).await, [7, 5]);
    let subject = Some(node("s1"));
    assert_eq!(list(Filter { subject, ..Filter::default() }, u64::MAX, 9).await, [4, 3]);
    assert_eq!(list(Filter { subject, signer, ..Filter::default() }, u64::MAX, 9).await, [3]);
    let predicate_type = Some("https://example.com/predicate/v1".to_owned());
    assert_eq!(list(Filter { predicate_type, ..Filter::default() }, u64::MAX, 99).await.len(), 10);
    let predicate_type = Some("https://example.com/predicate/v2\0".to_owned());
    assert_eq!(list(Filter { predicate_type, ..Filter::default() }, u64::MAX, 99).await, [0u64; 0]);
    let times = ground.store.list_attestations(TENANT, &Filter::default(), u64::MAX, 20).await.unwrap();
    let since = Some(times[3].time);
    assert_eq!(list(Filter { since, ..Filter::default() }, u64::MAX, 99).await, [10, 9, 8, 7]);
    assert_eq!(list(Filter { until: since, ..Filter::default() }, u64::MAX, 99).await, [6, 5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn an_artifact_knows_its_family() {
    let ground = Ground::new("family").await;
    let image = oci::Image::new("linux/amd64", vec![b"layer".to_vec()]);
    let index = oci::Index::new(vec![image.clone()]);
    for blob in [image.config(), image.manifest(), index.document()] {
        let new = ground.object(&blob);
        let appended = ground.store.append(TENANT, new).await.unwrap();
        let node: Node = blob.digest().parse().unwrap();
        let row = ground.store.object(TENANT, node, u64::MAX).await.unwrap().unwrap();
        assert_eq!(
            (row.index, row.media_type, row.facts.node),
            (appended.index, blob.media_type.clone(), node)
        );
    }
    let parents = |digest: String| {
        let store = ground.store.clone();
        async move {
            let rows = store.parents(TENANT, digest.parse().unwrap(), u64::MAX, 10).await.unwrap();
            rows.into_iter().map(|row| row.facts.node.to_string()).collect::<Vec<_>>()
        }
    };
    assert_eq!(parents(image.digest()).await, [index.digest()]);
    assert_eq!(parents(image.config().digest()).await, [image.digest()]);
    assert!(parents(index.digest()).await.is_empty());
}

#[tokio::test]
async fn text_that_postgres_cannot_keep_does_not_stop_the_others() {
    let ground = Ground::new("nul").await;
    let New::Attestation { bytes, mut facts, submitter, keys_at } = ground.attested("nul") else { panic!() };
    facts.predicate_type = "a\0b".repeat(400);
    let odd = New::Attestation { bytes, facts, submitter, keys_at };
    let answers = ground.store.append_all(TENANT, vec![ground.attested("fine"), odd]).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let _: Prefix = ground.prefix().await;
}
