//! Someone with the database's password changes rows. Nothing they do makes a yes.

use catenary_evidence::digest::Sha256;
use catenary_store::{New, StoreError};
use catenary_testkit::{Key, oci};
use sqlx::{Connection, PgConnection};

use crate::common::{Ground, TENANT, facts, key_id, node, token_revoked};

fn hex(id: Sha256) -> String {
    id.to_hex()
}

/// A golden attestation beside the one that is attacked, so that a test cannot pass by seeing nothing.
async fn twins(name: &str) -> (Ground, Sha256, Sha256) {
    let ground = Ground::new(name).await;
    let golden = ground.store.append(TENANT, ground.attested("golden")).await.unwrap().id;
    let attacked = ground.store.append(TENANT, ground.attested("attacked")).await.unwrap().id;
    let evidence = ground.gather(&[node("golden"), node("attacked")]).await;
    assert_eq!(evidence.attestations.len(), 2);
    assert!(evidence.damaged.is_empty());
    (ground, golden, attacked)
}

#[tokio::test]
async fn a_changed_row_of_facts_is_derived_anew() {
    let (ground, golden, attacked) = twins("changed").await;
    let before = ground.gather(&[node("attacked")]).await.attestations[&attacked].clone();
    let changes = [
        "facts = convert_to(replace(convert_from(facts, 'UTF8'), 'predicate', 'predikate'), 'UTF8')",
        "facts = 'x'",
        "time_us = time_us - 3600000000",
        "log_index = 1",
        "verified = not verified",
        "mac = sha256('x')",
        "mac_key = 99",
        "builder = 'https://trusted.example/builder'",
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let sql = format!("update attestation set {change} where id = '\\x{}'", hex(attacked));
        assert_eq!(ground.sql(&sql).await, 1);
        let evidence = ground.gather(&[node("golden"), node("attacked")]).await;
        assert_eq!(evidence.attestations[&attacked], before, "{change}");
        assert!(evidence.attestations.contains_key(&golden) && evidence.damaged.is_empty());
        assert_eq!(ground.store.alarms(), n as u64 + 1, "{change}");
        // The row was repaired: reading again alarms nobody.
        ground.gather(&[node("attacked")]).await;
        assert_eq!(ground.store.alarms(), n as u64 + 1, "{change}");
    }
}

#[tokio::test]
async fn an_index_row_that_leads_to_a_wrong_place_is_mended() {
    let (ground, _, attacked) = twins("place").await;
    ground
        .sql(&format!("update attestation_subject set log_index = 1 where id = '\\x{}'", hex(attacked)))
        .await;
    let read = || async { ground.gather(&[node("attacked")]).await };
    assert!(read().await.attestations.contains_key(&attacked) && read().await.damaged.is_empty());
    assert_eq!(ground.store.alarms(), 1);
    let wrong = format!(
        "select count(*) from attestation_subject where log_index = 1 and id = '\\x{}'",
        hex(attacked)
    );
    assert_eq!(ground.count(&wrong).await, 0);
}

#[tokio::test]
async fn a_signer_cannot_be_written_into_a_row() {
    let ground = Ground::new("signer").await;
    let mallory = Key::ed25519("mallory");
    let appended = ground.store.append(TENANT, ground.vouched_by(&mallory, "evil")).await.unwrap();
    assert!(ground.gather(&[node("evil")]).await.attestations[&appended.id].fact.keys().is_empty());
    let ci = key_id(&ground.ci);
    ground
        .sql(&format!(
            "update attestation set verified = true,
               facts = convert_to(replace(convert_from(facts, 'UTF8'), '\"signatures\":[]', '\"signatures\":[{{\"signer\":{{\"key\":\"{ci}\"}}}}]'), 'UTF8');
             update attestation_subject set signer = '{ci}'"
        ))
        .await;
    let evidence = ground.gather(&[node("evil")]).await;
    assert!(evidence.attestations[&appended.id].fact.keys().is_empty());
    assert_eq!(ground.store.alarms(), 1);
    assert_eq!(ground.count("select count(*) from attestation_subject where signer <> ''").await, 0);
}

#[tokio::test]
async fn d13_tampered_evidence_bytes() {
    let (ground, golden, attacked) = twins("d13").await;
    ground.sql(&format!("update body set bytes = bytes || ' ' where id = '\\x{}'", hex(attacked))).await;
    let evidence = ground.gather(&[node("golden"), node("attacked")]).await;
    assert_eq!(evidence.attestations.keys().copied().collect::<Vec<_>>(), [golden]);
    assert!(evidence.damaged.contains(&attacked));
    assert!(ground.store.bodies(TENANT, &[attacked]).await.unwrap().is_empty());
    assert!(ground.store.alarms() > 0);

    // With the seal broken as well, the body cannot bring the facts back.
    ground.sql(&format!("update attestation set facts = 'x' where id = '\\x{}'", hex(attacked))).await;
    let evidence = ground.gather(&[node("attacked")]).await;
    assert!(evidence.attestations.is_empty() && evidence.damaged.contains(&attacked));

    // Sending the same bytes again makes it whole, at its old place.
    let again = ground.store.append(TENANT, ground.attested("attacked")).await.unwrap();
    assert!(!again.created);
    assert!(ground.gather(&[node("attacked")]).await.attestations.contains_key(&attacked));
}

#[tokio::test]
async fn d15_deleted_row() {
    for (table, name) in [("body", "d15_body"), ("attestation", "d15_facts")] {
        let (ground, golden, attacked) = twins(name).await;
        ground.sql(&format!("delete from {table} where id = '\\x{}'", hex(attacked))).await;
        let evidence = ground.gather(&[node("golden"), node("attacked")]).await;
        assert_eq!(evidence.attestations.keys().copied().collect::<Vec<_>>(), [golden], "{table}");
        assert!(evidence.damaged.contains(&attacked), "{table}");
    }
    // Without its index rows it is not found, which can only say no.
    let (ground, golden, attacked) = twins("d15_subject").await;
    ground.sql(&format!("delete from attestation_subject where id = '\\x{}'", hex(attacked))).await;
    let evidence = ground.gather(&[node("golden"), node("attacked")]).await;
    assert_eq!(evidence.attestations.keys().copied().collect::<Vec<_>>(), [golden]);
}

#[tokio::test]
async fn d16_row_without_log_leaf() {
    let (ground, golden, _) = twins("d16").await;
    // Properly verified facts of an envelope that was never submitted, and every row that goes with it.
    let smuggled = ground.attested("smuggled");
    let id = facts(&smuggled).id;
    let donor = Ground::new("d16_donor").await;
    donor.store.append(TENANT, smuggled).await.unwrap();
    let mut from = PgConnection::connect_with(&donor.connect).await.unwrap();
    copy(&mut from, &ground, id).await;
    let evidence = ground.gather(&[node("golden"), node("smuggled")]).await;
    assert_eq!(evidence.attestations.keys().copied().collect::<Vec<_>>(), [golden]);
}

/// Copies body, facts and index row of `id` with a log index that the log does have, but for another entry.
async fn copy(from: &mut PgConnection, ground: &Ground, id: Sha256) {
    let (bytes, facts): (Vec<u8>, Vec<u8>) = sqlx::query_as(
        "select b.bytes, a.facts from body b join attestation a using (tenant, id) where id = $1",
    )
    .bind(&id.0[..])
    .fetch_one(from)
    .await
    .unwrap();
    let signer = key_id(&ground.ci);
    let subject = node("smuggled");
    ground
        .sql(&format!(
            "insert into body values ('acme', '\\x{id}', '\\x{bytes}');
             insert into attestation (tenant, id, log_index, time_us, verified, predicate_type, facts, mac_key, mac)
               select 'acme', '\\x{id}', 2, time_us, true, predicate_type, '\\x{facts}', mac_key, mac
               from attestation where log_index = 2;
             insert into attestation_subject values ('acme', '{subject}', '{signer}', 2, '\\x{id}');",
            id = hex(id),
            bytes = hex_bytes(&bytes),
            facts = hex_bytes(&facts),
        ))
        .await;
}

fn hex_bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test]
async fn d16_with_a_made_up_entry_at_the_end_of_the_log() {
    let (ground, golden, _) = twins("d16_entry").await;
    let smuggled = ground.attested("smuggled");
    let id = facts(&smuggled).id;
    let donor = Ground::new("d16_entry_donor").await;
    donor.store.append(TENANT, token_revoked(1)).await.unwrap();
    donor.store.append(TENANT, smuggled).await.unwrap();
    let mut from = PgConnection::connect_with(&donor.connect).await.unwrap();
    copy(&mut from, &ground, id).await;
    // The leaf of the other log takes the place of the attacked entry, and the tree does not prove it.
    let leaf = donor.store.entries(TENANT, 2, 3).await.unwrap()[0].leaf.clone();
    let prefix = ground.prefix().await;
    ground
        .sql(&format!(
            "update log_entry set id = '\\x{}', leaf = '\\x{}' where log_index = 2",
            hex(id),
            hex_bytes(&leaf)
        ))
        .await;
    let want = catenary_chain::gather::Want {
        nodes: vec![node("golden"), node("smuggled")],
        by: catenary_chain::gather::Wanted {
            signers: vec![key_id(&ground.ci)].into(),
            identities: Vec::new().into(),
        },
    };
    let mut evidence = Default::default();
    ground.store.gather(TENANT, &want, &prefix, &mut evidence).await.unwrap();
    assert_eq!(evidence.attestations.keys().copied().collect::<Vec<_>>(), [golden]);
    assert!(evidence.damaged.contains(&id));
}

#[tokio::test]
async fn a_changed_object_is_derived_anew_and_a_damaged_one_is_absent() {
    let ground = Ground::new("objects").await;
    let image = oci::Image::new("linux/amd64", vec![b"layer".to_vec()]);
    let index = oci::Index::new(vec![image.clone()]);
    for blob in [image.config(), image.manifest(), index.document()] {
        ground.store.append(TENANT, ground.object(&blob)).await.unwrap();
    }
    let (manifest, parent) = (image.digest().parse().unwrap(), index.digest().parse().unwrap());
    let before = ground.gather(&[manifest]).await;
    assert!(before.objects.contains_key(&manifest));
    let parents: Vec<_> = before.parents.values().flatten().map(ToString::to_string).collect();
    assert_eq!(parents, [index.digest()]);

    ground.sql("update object set facts = 'x', media_type = 'text/plain'").await;
    let evidence = ground.gather(&[manifest]).await;
    assert_eq!(evidence.objects, before.objects);
    assert_eq!(evidence.parents, before.parents);
    assert_eq!(ground.store.alarms(), 2);

    // A made-up parent is not believed: parents are read from the index's own bytes.
    ground
        .sql(&format!(
            "insert into object_child values ('acme', '{}', '{}', 1)",
            image.config().digest(),
            index.digest()
        ))
        .await;
    let config = image.config().digest().parse().unwrap();
    assert!(ground.gather(&[config]).await.parents.is_empty());

    ground.sql("update body set bytes = '{}' where id in (select id from object)").await;
    let evidence = ground.gather(&[manifest, parent]).await;
    assert!(evidence.objects.is_empty() && evidence.parents.is_empty());
    assert_eq!(evidence.damaged.len(), 2);
}

#[tokio::test]
async fn an_object_kept_before_its_sha384_was_a_fact_gets_it_from_its_bytes() {
    let ground = Ground::new("early_objects").await;
    let image = oci::Image::new("linux/amd64", vec![b"layer".to_vec()]);
    let mut early = ground.object(&image.manifest());
    let New::Object { facts, .. } = &mut early else { panic!("an object") };
    let now = (**facts).clone();
    facts.sha384 = None;
    ground.store.append(TENANT, early).await.unwrap();
    let manifest = image.digest().parse().unwrap();
    assert!(now.sha384.is_some());
    assert_eq!(ground.gather(&[manifest]).await.objects[&manifest].fact, now);
    // Nobody touched the row.
    assert_eq!(ground.store.alarms(), 0);
}

#[tokio::test]
async fn rows_of_another_tenant_do_not_open_here() {
    let (ground, golden, attacked) = twins("moved").await;
    ground.store.create_tenant("globex", "catenary.test/globex").await.unwrap();
    ground
        .sql(
            "insert into body select 'globex', id, bytes from body where tenant = 'acme' on conflict do nothing;
             insert into attestation select 'globex', id, log_index, time_us, verified, predicate_type, builder,
               source_repository, source_commit, resource, facts, mac_key, mac from attestation;
             insert into attestation_subject select 'globex', node, signer, log_index, id from attestation_subject",
        )
        .await;
    let at = catenary_store::Prefix { size: 100, ..ground.prefix().await };
    let want = catenary_chain::gather::Want {
        nodes: vec![node("golden"), node("attacked")],
        by: catenary_chain::gather::Wanted {
            signers: vec![key_id(&ground.ci)].into(),
            identities: Vec::new().into(),
        },
    };
    let mut evidence = catenary_chain::Evidence::default();
    ground.store.gather("globex", &want, &at, &mut evidence).await.unwrap();
    assert!(evidence.attestations.is_empty());
    assert_eq!(evidence.damaged.len(), 2, "{golden} {attacked}");
}

#[tokio::test]
async fn the_same_bytes_cannot_be_two_things() {
    let ground = Ground::new("twokinds").await;
    let appended = ground.store.append(TENANT, ground.attested("a")).await.unwrap();
    ground.sql("update log_entry set kind = 'object' where log_index = 1").await;
    let refused = ground.store.append(TENANT, ground.attested("a")).await;
    assert_eq!(refused, Err(StoreError::OtherKind { index: appended.index, kind: "object".into() }));
}
