//! A key that is registered later vouches for what is there already.

use catenary_chain::gather::{Evidence, Want};
use catenary_store::Filter;
use catenary_store::Vouches;
use catenary_testkit::{Key, git};

use crate::common::{Ground, TENANT, key_id, node, ring};

#[tokio::test]
async fn reverify_adds_the_signer_and_does_it_once() {
    let ground = Ground::new("reverify").await;
    let late = Key::p256("late");
    let about: Vec<String> = (0..250).map(|n| format!("by late {n}")).collect();
    for subject in &about {
        ground.store.append(TENANT, ground.vouched_by(&late, subject)).await.unwrap();
    }
    ground.store.append(TENANT, ground.attested("by ci")).await.unwrap();
    let unverified = Filter { verified: Some(false), ..Filter::default() };
    let listed =
        async || ground.store.list_attestations(TENANT, &unverified, u64::MAX, 999).await.unwrap().len();
    assert_eq!(listed().await, 250);

    let keys = ring(&[&ground.ci, &late]);
    let id = key_id(&late);
    assert_eq!(ground.store.reverify(TENANT, &keys, &Vouches::Key(id)).await.unwrap(), 250);
    assert_eq!(ground.store.reverify(TENANT, &keys, &Vouches::Key(id)).await.unwrap(), 0);
    assert_eq!(listed().await, 0);
    let want = Want {
        nodes: vec![node(&about[249])],
        by: catenary_chain::gather::Wanted { signers: vec![id].into(), identities: Vec::new().into() },
    };
    let mut evidence = Evidence::default();
    ground.store.gather(TENANT, &want, &ground.prefix().await, &mut evidence).await.unwrap();
    let signers: Vec<_> = evidence.attestations.values().map(|a| a.fact.keys()).collect();
    assert_eq!(signers, [[id]]);
    assert_eq!(ground.count("select count(*) from attestation_subject where signer = ''").await, 0);
    assert_eq!(ground.store.alarms(), 0, "the new rows are sealed");
}

#[tokio::test]
async fn a_second_signer_joins_the_first() {
    let ground = Ground::new("second").await;
    let late = Key::ed25519("late");
    let envelope = crate::common::statement("both").signed_by(&ground.ci).signed_by(&late);
    let id = ground.store.append(TENANT, ground.verified(envelope.to_bytes())).await.unwrap().id;
    // The ring of this call does not hold the first key, and its signature is not lost for that.
    assert_eq!(
        ground.store.reverify(TENANT, &ring(&[&late]), &Vouches::Key(key_id(&late))).await.unwrap(),
        1
    );
    let row = ground.store.attestation(TENANT, id, u64::MAX).await.unwrap().unwrap();
    let mut both = vec![key_id(&ground.ci), key_id(&late)];
    both.sort();
    assert_eq!(row.facts.keys(), both);
}

#[tokio::test]
async fn git_signatures_are_verified_again_too() {
    let ground = Ground::new("git").await;
    let dev = Key::ed25519("dev");
    let tree = git::blob_oid(git::Hash::Sha1, b"tree");
    let commit = git::Commit::new(&tree, "A <a@example.com>", 1_700_000_000, "hello\n").signed_by(&dev);
    let new = ground.git_object("application/x-git-commit", &commit.bytes());
    ground.store.append(TENANT, new).await.unwrap();
    let node = format!("gitCommit:{}", commit.oid()).parse().unwrap();
    let signer = async || {
        let row = ground.store.object(TENANT, node, u64::MAX).await.unwrap().unwrap();
        let catenary_evidence::object::Body::Commit(commit) = row.facts.body else { panic!() };
        commit.signature.unwrap().key()
    };
    assert_eq!(signer().await, None);
    let keys = ring(&[&ground.ci, &dev]);
    assert_eq!(ground.store.reverify(TENANT, &keys, &Vouches::Key(key_id(&dev))).await.unwrap(), 1);
    assert_eq!(signer().await, Some(key_id(&dev)));
    assert_eq!(ground.store.reverify(TENANT, &keys, &Vouches::Key(key_id(&dev))).await.unwrap(), 0);
}
