//! Inclusion and consistency proofs (RFC 6962 section 2.1, verified as RFC 9162 section 2.1 says).
//!
//! Making a proof takes two steps, so that a caller can fetch in one query: `needed_*` names the
//! complete subtrees that the proof is made of as (level, index), `prove_*` folds their hashes.
//! Subtree (L, i) covers the leaves `i * 2^L .. (i + 1) * 2^L`.

use std::ops::Range;

use crate::merkle::{Hash, MAX_SIZE, node_hash};

/// A complete subtree: its level, and its index within that level.
pub type Node = (u8, u64);

/// Why a proof cannot be made or does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf is not in a tree of that size.
    #[error("a log of {size} entries has no entry {index}")]
    IndexBeyondSize {
        /// The index asked for.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// A tree does not shrink.
    #[error("a log of {old_size} entries cannot become one of {new_size}")]
    Shrinks {
        /// The size of the older tree.
        old_size: u64,
        /// The size of the newer tree.
        new_size: u64,
    },
    /// More leaves than any log here can have.
    #[error("a log of {0} entries is beyond the limit")]
    TooLarge(u64),
    /// The source of hashes does not know this subtree.
    #[error("the hash of subtree {index} at level {level} is not at hand")]
    MissingNode {
        /// The subtree's level.
        level: u8,
        /// Its index within the level.
        index: u64,
    },
    /// The proof has too few or too many hashes for these sizes.
    #[error("the proof has {found} hashes, these sizes take {expected}")]
    WrongLength {
        /// Hashes that a proof between these sizes has.
        expected: usize,
        /// Hashes given.
        found: usize,
    },
    /// The proof leads to another root.
    #[error("the proof leads to the root {computed}, not to {expected}")]
    RootMismatch {
        /// The root that was to be shown.
        expected: Hash,
        /// The root that the proof gives.
        computed: Hash,
    },
}

/// The subtrees from which the root at `size` is folded.
pub fn needed_root(size: u64) -> Result<Vec<Node>, ProofError> {
    check_size(size)?;
    Ok(complete_subtrees(0..size).collect())
}

/// The root at `size`, which may lie in the past.
pub fn root_at(size: u64, node: impl Fn(u8, u64) -> Option<Hash>) -> Result<Hash, ProofError> {
    check_size(size)?;
    range_hash(0..size, &node)
}

/// The subtrees from which [`prove_inclusion`] makes its proof.
pub fn needed_inclusion(index: u64, size: u64) -> Result<Vec<Node>, ProofError> {
    Ok(inclusion_ranges(index, size)?.into_iter().flat_map(complete_subtrees).collect())
}

/// The proof that the leaf at `index` is in the tree of `size` leaves, nearest sibling first.
pub fn prove_inclusion(
    index: u64,
    size: u64,
    node: impl Fn(u8, u64) -> Option<Hash>,
) -> Result<Vec<Hash>, ProofError> {
    inclusion_ranges(index, size)?.into_iter().map(|range| range_hash(range, &node)).collect()
}

/// The subtrees from which [`prove_consistency`] makes its proof.
pub fn needed_consistency(old_size: u64, new_size: u64) -> Result<Vec<Node>, ProofError> {
    Ok(consistency_ranges(old_size, new_size)?.into_iter().flat_map(complete_subtrees).collect())
}

/// The proof that the tree of `new_size` leaves extends the one of `old_size`.
///
/// It is empty for equal sizes, and for an older tree without leaves, which everything extends.
pub fn prove_consistency(
    old_size: u64,
    new_size: u64,
    node: impl Fn(u8, u64) -> Option<Hash>,
) -> Result<Vec<Hash>, ProofError> {
    consistency_ranges(old_size, new_size)?.into_iter().map(|range| range_hash(range, &node)).collect()
}

/// Checks that a leaf is in a tree (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(
    leaf_hash: Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: Hash,
) -> Result<(), ProofError> {
    // The length is checked first, so that the fold below needs no early exit.
    check_length(proof, inclusion_ranges(index, size)?.len())?;
    let (mut fnode, mut snode) = (index, size - 1);
    let mut computed = leaf_hash;
    for &sibling in proof {
        if fnode & 1 == 1 || fnode == snode {
            computed = node_hash(sibling, computed);
            skip_to_right_child(&mut fnode, &mut snode);
        } else {
            computed = node_hash(computed, sibling);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    check_root(root, computed)
}

/// Checks that the newer tree extends the older one (RFC 9162 section 2.1.4.2).
pub fn verify_consistency(
    old_size: u64,
    old_root: Hash,
    new_size: u64,
    new_root: Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    check_length(proof, consistency_ranges(old_size, new_size)?.len())?;
    if old_size == new_size {
        return check_root(old_root, new_root);
    }
    if old_size == 0 {
        return check_root(old_root, Hash::EMPTY_ROOT);
    }
    let mut hashes = proof.iter().copied();
    // An older tree that is one complete subtree is its own first node.
    let first = if old_size.is_power_of_two() { Some(old_root) } else { hashes.next() };
    let Some(first) = first else {
        return Err(ProofError::WrongLength { expected: 1, found: 0 });
    };
    let (mut fnode, mut snode) = (old_size - 1, new_size - 1);
    let shift = fnode.trailing_ones();
    fnode >>= shift;
    snode >>= shift;
    let (mut old_computed, mut new_computed) = (first, first);
    for sibling in hashes {
        if fnode & 1 == 1 || fnode == snode {
            old_computed = node_hash(sibling, old_computed);
            new_computed = node_hash(sibling, new_computed);
            skip_to_right_child(&mut fnode, &mut snode);
        } else {
            new_computed = node_hash(new_computed, sibling);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    check_root(old_root, old_computed)?;
    check_root(new_root, new_computed)
}

/// Climbs past the levels at which the right edge has no sibling.
fn skip_to_right_child(fnode: &mut u64, snode: &mut u64) {
    if *fnode != 0 {
        let shift = fnode.trailing_zeros();
        *fnode >>= shift;
        *snode >>= shift;
    }
}

fn check_size(size: u64) -> Result<(), ProofError> {
    if size > MAX_SIZE { Err(ProofError::TooLarge(size)) } else { Ok(()) }
}

fn check_length(proof: &[Hash], expected: usize) -> Result<(), ProofError> {
    if proof.len() == expected {
        Ok(())
    } else {
        Err(ProofError::WrongLength { expected, found: proof.len() })
    }
}

fn check_root(expected: Hash, computed: Hash) -> Result<(), ProofError> {
    if expected == computed { Ok(()) } else { Err(ProofError::RootMismatch { expected, computed }) }
}

/// PATH of RFC 6962 section 2.1.1: the leaves under each sibling, nearest first.
fn inclusion_ranges(index: u64, size: u64) -> Result<Vec<Range<u64>>, ProofError> {
    check_size(size)?;
    if index >= size {
        return Err(ProofError::IndexBeyondSize { index, size });
    }
    let mut siblings = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            siblings.push(middle..end);
            end = middle;
        } else {
            siblings.push(start..middle);
            start = middle;
        }
    }
    siblings.reverse();
    Ok(siblings)
}

/// SUBPROOF of RFC 6962 section 2.1.2: the leaves under each hash of the proof, in order.
fn consistency_ranges(old_size: u64, new_size: u64) -> Result<Vec<Range<u64>>, ProofError> {
    check_size(new_size)?;
    if old_size > new_size {
        return Err(ProofError::Shrinks { old_size, new_size });
    }
    let mut hashes = Vec::new();
    if old_size == 0 {
        return Ok(hashes);
    }
    let (mut start, mut end) = (0, new_size);
    while end != old_size {
        let middle = start + split(end - start);
        if old_size <= middle {
            hashes.push(middle..end);
            end = middle;
        } else {
            hashes.push(start..middle);
            start = middle;
        }
    }
    // A verifier knows the older root; any other subtree it must be told.
    if start != 0 {
        hashes.push(start..end);
    }
    hashes.reverse();
    Ok(hashes)
}

/// The largest power of two smaller than `leaves`, which is at least 2.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// The complete subtrees of a range whose start is aligned, largest first.
fn complete_subtrees(range: Range<u64>) -> impl Iterator<Item = Node> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let level = (range.end - start).checked_ilog2()?;
        let node = (level as u8, start >> level);
        start += 1 << level;
        Some(node)
    })
}

fn range_hash(range: Range<u64>, node: &impl Fn(u8, u64) -> Option<Hash>) -> Result<Hash, ProofError> {
    let hashes = complete_subtrees(range)
        .map(|(level, index)| node(level, index).ok_or(ProofError::MissingNode { level, index }))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(hashes.into_iter().rev().reduce(|right, left| node_hash(left, right)).unwrap_or(Hash::EMPTY_ROOT))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::oracle;

    const LEAVES: usize = 600;

    /// Every complete subtree of a tree, by the oracle.
    fn subtrees(leaves: &[Hash]) -> HashMap<Node, Hash> {
        let mut map = HashMap::new();
        for level in 0..10u8 {
            for (index, chunk) in leaves.chunks_exact(1 << level).enumerate() {
                map.insert((level, index as u64), oracle::root(chunk));
            }
        }
        map
    }

    /// Roots at every size, by the oracle.
    fn roots(leaves: &[Hash]) -> Vec<Hash> {
        (0..=leaves.len()).map(|size| oracle::root(&leaves[..size])).collect()
    }

    #[test]
    fn every_inclusion_proof_up_to_130_entries_is_the_recursive_one_and_verifies() {
        let leaves = oracle::leaf_hashes(130);
        let (nodes, roots) = (subtrees(&leaves), roots(&leaves));
        for size in 1..=130 {
            for index in 0..size {
                let proof =
                    prove_inclusion(index as u64, size as u64, |l, i| nodes.get(&(l, i)).copied()).unwrap();
                assert_eq!(proof, oracle::path(index, &leaves[..size]), "{index} of {size}");
                verify_inclusion(leaves[index], index as u64, size as u64, &proof, roots[size]).unwrap();
            }
        }
    }

    #[test]
    fn every_consistency_proof_up_to_130_entries_is_the_recursive_one_and_verifies() {
        let leaves = oracle::leaf_hashes(130);
        let (nodes, roots) = (subtrees(&leaves), roots(&leaves));
        for new in 0..=130 {
            for old in 0..=new {
                let proof =
                    prove_consistency(old as u64, new as u64, |l, i| nodes.get(&(l, i)).copied()).unwrap();
                assert_eq!(proof, oracle::consistency(old, &leaves[..new]), "{old} to {new}");
                verify_consistency(old as u64, roots[old], new as u64, roots[new], &proof).unwrap();
            }
        }
    }

    proptest! {
        #[test]
        fn larger_trees_agree_with_the_recursive_definition(size in 1usize..=LEAVES, pick in any::<prop::sample::Index>(),
                                                            flip in any::<prop::sample::Index>()) {
            let leaves = oracle::leaf_hashes(size);
            let nodes = subtrees(&leaves);
            let get = |l, i| nodes.get(&(l, i)).copied();
            let root = oracle::root(&leaves);
            prop_assert_eq!(root_at(size as u64, get).unwrap(), root);

            let index = pick.index(size);
            let proof = prove_inclusion(index as u64, size as u64, get).unwrap();
            prop_assert_eq!(&proof, &oracle::path(index, &leaves));
            prop_assert!(verify_inclusion(leaves[index], index as u64, size as u64, &proof, root).is_ok());
            // What was named as needed is enough, and all of it exists.
            let needed = needed_inclusion(index as u64, size as u64).unwrap();
            prop_assert!(needed.iter().all(|node| nodes.contains_key(node)));
            let only: HashMap<_, _> = needed.into_iter().map(|n| (n, nodes[&n])).collect();
            prop_assert!(prove_inclusion(index as u64, size as u64, |l, i| only.get(&(l, i)).copied()).is_ok());

            let old = pick.index(size + 1);
            let consistency = prove_consistency(old as u64, size as u64, get).unwrap();
            prop_assert_eq!(&consistency, &oracle::consistency(old, &leaves));
            let old_root = oracle::root(&leaves[..old]);
            prop_assert!(verify_consistency(old as u64, old_root, size as u64, root, &consistency).is_ok());
            let needed = needed_consistency(old as u64, size as u64).unwrap();
            let only: HashMap<_, _> = needed.into_iter().map(|n| (n, nodes[&n])).collect();
            prop_assert!(prove_consistency(old as u64, size as u64, |l, i| only.get(&(l, i)).copied()).is_ok());

            // One bit changed anywhere, and nothing holds.
            for (proof, is_inclusion) in [(proof, true), (consistency, false)] {
                let verify = |proof: &[Hash]| if is_inclusion {
                    verify_inclusion(leaves[index], index as u64, size as u64, proof, root)
                } else {
                    verify_consistency(old as u64, old_root, size as u64, root, proof)
                };
                if !proof.is_empty() {
                    let mut tampered = proof.clone();
                    tampered[flip.index(proof.len())].0[flip.index(32)] ^= 1;
                    let refused = matches!(verify(&tampered), Err(ProofError::RootMismatch { .. }));
                    prop_assert!(refused);
                }
            }
            let mut wrong = root;
            wrong.0[flip.index(32)] ^= 0x80;
            prop_assert!(verify_inclusion(leaves[index], index as u64, size as u64,
                                          &oracle::path(index, &leaves), wrong).is_err());
        }
    }

    #[test]
    fn t10_a_proof_of_another_root_is_refused() {
        let leaves = oracle::leaf_hashes(9);
        let proof = oracle::path(3, &leaves);
        verify_inclusion(leaves[3], 3, 9, &proof, oracle::root(&leaves)).unwrap();
        let other = oracle::root(&leaves[..8]);
        assert!(matches!(
            verify_inclusion(leaves[3], 3, 9, &proof, other),
            Err(ProofError::RootMismatch { .. })
        ));
        // Nor does a good proof hold for a neighbour.
        assert!(verify_inclusion(leaves[4], 4, 9, &proof, oracle::root(&leaves)).is_err());
        assert!(verify_inclusion(leaves[3], 2, 9, &proof, oracle::root(&leaves)).is_err());
    }

    #[test]
    fn t12_index_and_size_boundaries() {
        let leaf = oracle::leaf_hashes(1)[0];
        verify_inclusion(leaf, 0, 1, &[], leaf).unwrap();
        for (index, size) in [(0, 0), (1, 1), (2, 1), (u64::MAX, 1), (u64::MAX, 0), (1 << 63, 1 << 62)] {
            let expected = ProofError::IndexBeyondSize { index, size };
            assert_eq!(verify_inclusion(leaf, index, size, &[], leaf), Err(expected.clone()));
            assert_eq!(needed_inclusion(index, size), Err(expected));
        }
        for size in [u64::MAX, 1 << 63, MAX_SIZE + 1] {
            assert_eq!(verify_inclusion(leaf, 0, size, &[leaf; 64], leaf), Err(ProofError::TooLarge(size)));
            assert_eq!(needed_root(size), Err(ProofError::TooLarge(size)));
            assert_eq!(verify_consistency(1, leaf, size, leaf, &[leaf; 64]), Err(ProofError::TooLarge(size)));
        }
        assert_eq!(needed_inclusion(MAX_SIZE - 1, MAX_SIZE).unwrap().len(), 62);
        assert_eq!(
            verify_consistency(2, leaf, 1, leaf, &[]),
            Err(ProofError::Shrinks { old_size: 2, new_size: 1 })
        );
    }

    #[test]
    fn an_empty_log_is_a_prefix_only_as_itself() {
        let leaves = oracle::leaf_hashes(3);
        let root = oracle::root(&leaves);
        verify_consistency(0, Hash::EMPTY_ROOT, 3, root, &[]).unwrap();
        verify_consistency(0, Hash::EMPTY_ROOT, 0, Hash::EMPTY_ROOT, &[]).unwrap();
        assert!(verify_consistency(0, root, 3, root, &[]).is_err());
        assert!(verify_consistency(3, root, 3, leaves[0], &[]).is_err());
    }

    #[test]
    fn t14_extra_or_truncated_audit_path() {
        let leaves = oracle::leaf_hashes(100);
        let root = oracle::root(&leaves);
        for index in 0..100usize {
            let good = oracle::path(index, &leaves);
            let mut extra = good.clone();
            extra.push(root);
            for bad in [&extra[..], &good[1..], &good[..good.len() - 1], &[]] {
                assert!(matches!(
                    verify_inclusion(leaves[index], index as u64, 100, bad, root),
                    Err(ProofError::WrongLength { .. })
                ));
            }
        }
        for old in 1..100usize {
            let good = oracle::consistency(old, &leaves);
            let old_root = oracle::root(&leaves[..old]);
            let mut extra = good.clone();
            extra.push(root);
            for bad in [&extra[..], &good[1..], &good[..good.len() - 1]] {
                assert!(matches!(
                    verify_consistency(old as u64, old_root, 100, root, bad),
                    Err(ProofError::WrongLength { .. })
                ));
            }
        }
    }

    #[test]
    fn a_rewritten_entry_breaks_consistency() {
        let honest = oracle::leaf_hashes(40);
        let mut forked = honest.clone();
        forked[5] = Hash([7; 32]);
        let proof = oracle::consistency(20, &forked);
        let old_root = oracle::root(&honest[..20]);
        assert!(verify_consistency(20, old_root, 40, oracle::root(&forked), &proof).is_err());
    }

    #[test]
    fn a_missing_hash_is_named() {
        assert_eq!(
            prove_inclusion(0, 4, |level, _| (level == 0).then_some(Hash([1; 32]))),
            Err(ProofError::MissingNode { level: 1, index: 1 })
        );
    }
}
