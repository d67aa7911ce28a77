//! The Merkle tree of RFC 6962, the short way: recursion over the leaves, with the nodes that are complete kept aside.

use sha2::{Digest, Sha256};

/// A node's hash.
pub type Hash = [u8; 32];

/// The hash of a leaf.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

/// Grows at its right edge.
#[derive(Debug, Default)]
pub struct Tree {
    /// Roots of complete subtrees: of one leaf, of two, of four.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// How many leaves it has.
    pub fn size(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut complete = leaf;
        for level in &mut self.levels {
            level.push(complete);
            match level.as_slice() {
                [.., left, right] if level.len() % 2 == 0 => complete = node(left, right),
                _ => return,
            }
        }
        self.levels.push(vec![complete]);
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        self.over(0, self.size())
    }

    /// The root over `size` leaves from `start` on.
    fn over(&self, start: usize, size: usize) -> Hash {
        if size == 0 {
            return Sha256::digest([]).into();
        }
        if size.is_power_of_two() && start.is_multiple_of(size) {
            return self.levels[size.ilog2() as usize][start / size];
        }
        let left = split(size);
        node(&self.over(start, left), &self.over(start + left, size - left))
    }

    /// The audit path of leaf `index`, nearest sibling first.
    pub fn path(&self, index: usize) -> Vec<Hash> {
        let (mut start, mut size, mut path) = (0, self.size(), Vec::new());
        while size > 1 {
            let left = split(size);
            if index < start + left {
                path.push(self.over(start + left, size - left));
                size = left;
            } else {
                path.push(self.over(start, left));
                (start, size) = (start + left, size - left);
            }
        }
        path.reverse();
        path
    }
}
