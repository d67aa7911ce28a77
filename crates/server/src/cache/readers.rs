//! Which answers read a node, in a few bytes for each.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
};

use catenary_evidence::digest::Node;

use super::Key;

/// Nodes are told apart by 64 bits of a keyed hash: where two are alike, an answer is dropped once too often.
#[derive(Default)]
pub(super) struct Readers {
    hasher: RandomState,
    /// The keys of answers by their number.
    keys: Vec<Key>,
    /// Most nodes are read by one answer only.
    first: HashMap<u64, u32>,
    more: HashMap<u64, Vec<u32>>,
    links: usize,
}

impl Readers {
    /// Notes what an answer read.
    pub(super) fn add<'a>(&mut self, key: Key, nodes: impl Iterator<Item = &'a Node>) {
        let Ok(number) = u32::try_from(self.keys.len()) else { return };
        self.keys.push(key);
        for node in nodes {
            self.link(self.hasher.hash_one(node), number);
        }
    }

    fn link(&mut self, node: u64, number: u32) {
        self.links += 1;
        match self.first.entry(node) {
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(number);
            }
            std::collections::hash_map::Entry::Occupied(_) => {
                self.more.entry(node).or_default().push(number);
            }
        }
    }

    /// The answers that read a node; they are forgotten here.
    pub(super) fn take(&mut self, node: &Node) -> Vec<Key> {
        let node = self.hasher.hash_one(node);
        let numbers = self.first.remove(&node).into_iter().chain(self.more.remove(&node).unwrap_or_default());
        let keys: Vec<Key> =
            numbers.filter_map(|number| self.keys.get(usize::try_from(number).ok()?).copied()).collect();
        self.links = self.links.saturating_sub(keys.len());
        keys
    }

    /// Every answer; they are forgotten here.
    pub(super) fn take_all(&mut self) -> Vec<Key> {
        self.first.clear();
        self.more.clear();
        self.links = 0;
        std::mem::take(&mut self.keys)
    }

    /// How many nodes of how many answers, with each.
    pub(super) fn links(&self) -> usize {
        self.links
    }

    /// Whether there is no number left for another answer.
    pub(super) fn is_full(&self) -> bool {
        self.keys.len() >= u32::MAX as usize
    }

    /// Keeps what is linked to answers that are still there, the newest of each.
    pub(super) fn tidy(&mut self, kept: impl Fn(&Key) -> bool) {
        let old = std::mem::take(&mut self.keys);
        let mut seen = HashSet::new();
        let mut renumbered: Vec<Option<u32>> = vec![None; old.len()];
        for (number, key) in old.iter().enumerate().rev() {
            if kept(key) && seen.insert(*key) {
                renumbered[number] = u32::try_from(self.keys.len()).ok();
                self.keys.push(*key);
            }
        }
        let renumber = |number: u32| renumbered.get(usize::try_from(number).ok()?).copied().flatten();
        let (first, more) = (std::mem::take(&mut self.first), std::mem::take(&mut self.more));
        self.links = 0;
        for (node, number) in first
            .into_iter()
            .chain(more.into_iter().flat_map(|(n, all)| all.into_iter().map(move |k| (n, k))))
        {
            if let Some(number) = renumber(number) {
                self.link(node, number);
            }
        }
    }
}
