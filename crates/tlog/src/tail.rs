//! The newest leaves of a tree, and what must be known of the older ones to prove things about them.

use std::{collections::VecDeque, fmt};

use crate::merkle::{Frontier, Hash, node_hash};

/// Leaves that are kept at least, once there were so many; at most twice as many.
const KEPT: usize = 512;

/// A tree whose newest leaves are at hand: proofs about those need no tile.
#[derive(Clone, Default)]
pub struct Tail {
    /// The tree before the leaves that are kept.
    before: Frontier,
    /// By level: the complete subtrees that lie among the leaves that are kept.
    levels: Vec<VecDeque<Hash>>,
}

/// How many leaves are kept says nothing about the tree.
impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the newest of {} leaves", self.size())
    }
}

impl From<Frontier> for Tail {
    fn from(before: Frontier) -> Self {
        Self { before, levels: Vec::new() }
    }
}

impl Tail {
    /// Number of leaves of the tree.
    pub fn size(&self) -> u64 {
        self.start() + self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Index of the first leaf that is kept.
    fn start(&self) -> u64 {
        self.before.size()
    }

    /// Index, within its level, of the first subtree that lies among the leaves that are kept.
    fn first(&self, level: usize) -> u64 {
        self.start().div_ceil(1 << level)
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf_hash: Hash) {
        let (mut index, mut carried, mut level) = (self.size(), leaf_hash, 0);
        loop {
            if self.levels.len() == level {
                self.levels.push(VecDeque::new());
            }
            self.levels[level].push_back(carried);
            // A right child completes a parent, when the left one is among what is kept.
            if index.is_multiple_of(2) || index == self.first(level) {
                break;
            }
            let Some(left) = self.levels[level].iter().rev().nth(1) else { break };
            (carried, index, level) = (node_hash(*left, carried), index / 2, level + 1);
        }
        if self.levels[0].len() >= 2 * KEPT {
            self.forget(KEPT);
        }
    }

    fn forget(&mut self, leaves: usize) {
        let firsts: Vec<u64> = (0..self.levels.len()).map(|level| self.first(level)).collect();
        for leaf in self.levels[0].iter().take(leaves) {
            self.before.push(*leaf);
        }
        for (level, was) in firsts.into_iter().enumerate() {
            let gone = (self.first(level) - was) as usize;
            let kept = &mut self.levels[level];
            kept.drain(..gone.min(kept.len()));
        }
    }

    /// The root of a complete subtree (level, index), if it can be told from what is kept.
    pub fn node(&self, level: u8, index: u64) -> Option<Hash> {
        let row = usize::from(level);
        if let Some(at) = index.checked_sub(self.first(row)) {
            return self.levels.get(row)?.get(usize::try_from(at).ok()?).copied();
        }
        let end = (index + 1).checked_shl(level.into())?;
        if end <= self.start() {
            return self.before.node(level, index);
        }
        // It began before and ended after: the left half may be the tree's old edge.
        let below = level.checked_sub(1)?;
        Some(node_hash(self.node(below, 2 * index)?, self.node(below, 2 * index + 1)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{oracle, proof::prove_inclusion};

    fn prove(tail: &Tail, index: u64, size: u64) -> Option<Vec<Hash>> {
        prove_inclusion(index, size, |level, index| tail.node(level, index)).ok()
    }

    fn frontier(leaves: &[Hash]) -> Frontier {
        let mut frontier = Frontier::new();
        for leaf in leaves {
            frontier.push(*leaf);
        }
        frontier
    }

    #[test]
    fn every_kept_leaf_of_small_trees_is_proven_in_every_tree_that_has_it() {
        let leaves = oracle::leaf_hashes(70);
        for start in 0..40 {
            let mut tail = Tail::from(frontier(&leaves[..start]));
            for (at, leaf) in leaves.iter().enumerate().skip(start) {
                tail.push(*leaf);
                assert_eq!(tail.size(), at as u64 + 1);
            }
            for size in start + 1..=70 {
                for index in start..size {
                    let proof = prove(&tail, index as u64, size as u64);
                    assert_eq!(proof, Some(oracle::path(index, &leaves[..size])), "{start} {index} {size}");
                }
            }
            assert_eq!(prove(&tail, 69, 71), None);
        }
    }

    #[test]
    fn what_is_forgotten_is_not_guessed() {
        let leaves = oracle::leaf_hashes(3 * KEPT);
        let mut tail = Tail::default();
        leaves.iter().for_each(|leaf| tail.push(*leaf));
        assert!(tail.levels[0].len() < 2 * KEPT);
        assert_eq!(prove(&tail, 5, 3 * KEPT as u64), None);
    }

    proptest! {
        #[test]
        fn long_trees_are_proven_as_the_recursive_definition_says(
            start in 0usize..1500, more in 1usize..1800, pick in any::<prop::sample::Index>(),
        ) {
            let leaves = oracle::leaf_hashes(start + more);
            let mut tail = Tail::from(frontier(&leaves[..start]));
            leaves[start..].iter().for_each(|leaf| tail.push(*leaf));
            let kept = leaves.len() - more.min(KEPT)..leaves.len();
            let index = kept.start + pick.index(kept.len());
            prop_assert_eq!(prove(&tail, index as u64, leaves.len() as u64), Some(oracle::path(index, &leaves)));
            // Whatever is told of any subtree is true.
            for level in 0..12u8 {
                let width = 1usize << level;
                for (at, chunk) in leaves.chunks_exact(width).enumerate().rev().take(3) {
                    if let Some(hash) = tail.node(level, at as u64) {
                        prop_assert_eq!(hash, oracle::root(chunk));
                    }
                }
            }
        }
    }
}
