//! Proofs, tiles and bundles, checked by what the store does not share: the root of every leaf in order.

use catenary_store::{New, StoreError};
use catenary_tlog::{
    BundleId, Frontier, Hash, TileId, leaf_hash,
    tile::{decode_bundle, encode_tile},
    verify_consistency, verify_inclusion,
};

use crate::common::{Ground, TENANT, token_revoked};

/// Grows the log to `size` and returns leaf hashes and the root at every size.
async fn grown(ground: &Ground, size: u64) -> (Vec<Hash>, Vec<Hash>) {
    let have = ground.store.head(TENANT).await.unwrap().unwrap().size;
    let items: Vec<New> = (have..size).map(token_revoked).collect();
    for answer in ground.store.append_all(TENANT, items).await {
        answer.unwrap();
    }
    let (mut hashes, mut frontier) = (Vec::new(), Frontier::new());
    let mut roots = vec![frontier.root()];
    for entry in ground.store.entries(TENANT, 0, size).await.unwrap() {
        hashes.push(leaf_hash(&entry.leaf));
        frontier.push(leaf_hash(&entry.leaf));
        roots.push(frontier.root());
    }
    assert_eq!(ground.store.head(TENANT).await.unwrap().unwrap().root, frontier.root());
    (hashes, roots)
}

#[tokio::test]
async fn every_proof_holds_around_every_tile_boundary() {
    let ground = Ground::new("proofs").await;
    for size in [2u64, 255, 256, 257, 511, 513, 700] {
        let (hashes, roots) = grown(&ground, size).await;
        let root = roots[size as usize];
        for index in [0, 1, size / 2, size.saturating_sub(257), size - 1] {
            let index = index.min(size - 1);
            let proof = ground.store.inclusion(TENANT, index, size).await.unwrap();
            verify_inclusion(hashes[index as usize], index, size, &proof, root).unwrap();
        }
        for old in [0, 1, size / 3, size - 1, size] {
            let proof = ground.store.consistency(TENANT, old, size).await.unwrap();
            verify_consistency(old, roots[old as usize], size, root, &proof).unwrap();
            assert_eq!(ground.store.root_at(TENANT, old).await.unwrap(), roots[old as usize]);
        }
    }
    // In a tree of the past, from the tiles of today.
    let (hashes, roots) = grown(&ground, 700).await;
    let indexes = [0, 100, 299];
    let proofs = ground.store.inclusions(TENANT, &indexes, 300).await.unwrap();
    for (index, proof) in indexes.into_iter().zip(proofs) {
        verify_inclusion(hashes[index as usize], index, 300, &proof, roots[300]).unwrap();
    }
}

#[tokio::test]
async fn beyond_the_head_is_told() {
    let ground = Ground::new("beyond").await;
    grown(&ground, 300).await;
    for error in [
        ground.store.inclusion(TENANT, 300, 300).await.unwrap_err(),
        ground.store.inclusion(TENANT, 5, 301).await.unwrap_err(),
        ground.store.inclusion(TENANT, 5, 100_000).await.unwrap_err(),
        ground.store.consistency(TENANT, 301, 300).await.unwrap_err(),
        ground.store.consistency(TENANT, 3, 1000).await.unwrap_err(),
        ground.store.inclusion(TENANT, 0, 1 << 40).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::BeyondHead { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn tiles_and_bundles_are_served_as_the_specification_says() {
    let ground = Ground::new("tiles").await;
    let (hashes, _) = grown(&ground, 600).await;
    let tile = |path: &str| path.parse::<TileId>().unwrap();
    for (path, range) in [("tile/0/000", 0..256), ("tile/0/002.p/88", 512..600), ("tile/0/000.p/7", 0..7)] {
        let bytes = ground.store.tile(TENANT, tile(path)).await.unwrap().unwrap();
        assert_eq!(bytes, encode_tile(&hashes[range]), "{path}");
    }
    let upper = ground.store.tile(TENANT, tile("tile/1/000.p/2")).await.unwrap().unwrap();
    assert_eq!(upper.len(), 64);
    for path in ["tile/0/002", "tile/0/002.p/89", "tile/0/003", "tile/1/000", "tile/1/000.p/3", "tile/7/000"]
    {
        assert_eq!(ground.store.tile(TENANT, tile(path)).await.unwrap(), None, "{path}");
    }
    let bundle = |path: &str| path.parse::<BundleId>().unwrap();
    let bytes = ground.store.entry_bundle(TENANT, bundle("tile/entries/002.p/88")).await.unwrap().unwrap();
    let leaves: Vec<Hash> = decode_bundle(&bytes).unwrap().into_iter().map(leaf_hash).collect();
    assert_eq!(leaves, hashes[512..]);
    assert_eq!(ground.store.entry_bundle(TENANT, bundle("tile/entries/002")).await.unwrap(), None);
}

#[tokio::test]
async fn a_tile_of_tiles_is_written_when_it_is_full() {
    let ground = Ground::new("tileoftiles").await;
    // The last entry in front of the boundary is reached by SQL's own means only where nothing depends on it:
    // all leaves go through the sequencer.
    for size in (1000..=66_000).step_by(1000) {
        let have = ground.store.head(TENANT).await.unwrap().unwrap().size;
        let items: Vec<New> = (have..size).map(token_revoked).collect();
        assert!(ground.store.append_all(TENANT, items).await.iter().all(Result::is_ok));
    }
    let (hashes, roots) = grown(&ground, 66_000).await;
    assert_eq!(ground.count("select count(*) from log_tile where level = 1").await, 1);
    for (index, size) in [(0u64, 66_000u64), (65_535, 66_000), (65_999, 66_000), (1, 65_536), (7, 65_535)] {
        let proof = ground.store.inclusion(TENANT, index, size).await.unwrap();
        verify_inclusion(hashes[index as usize], index, size, &proof, roots[size as usize]).unwrap();
    }
    let proof = ground.store.consistency(TENANT, 65_536, 66_000).await.unwrap();
    verify_consistency(65_536, roots[65_536], 66_000, roots[66_000], &proof).unwrap();
}
