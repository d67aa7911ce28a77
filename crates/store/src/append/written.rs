//! What this instance put into the logs just now: whoever follows them need not read it back.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use catenary_evidence::digest::{Node, Sha256};

/// Entries that are remembered until somebody asks for them; the oldest give way.
const MOST: usize = 8_192;

/// Nodes of one of them; what is about more is read back. A megabyte of names must not become half a gigabyte here.
const MOST_NODES: usize = 16;

/// The nodes that new evidence is about, by entry.
#[derive(Debug, Default)]
pub(crate) struct Written(Mutex<BTreeMap<(u64, Sha256), Vec<Node>>>);

impl Written {
    /// Remembers an entry that is about to be committed. Should it not be, another id gets its index.
    pub(crate) fn note(&self, index: u64, id: Sha256, nodes: Vec<Node>) {
        if nodes.len() > MOST_NODES {
            return;
        }
        let mut entries = self.lock();
        entries.insert((index, id), nodes);
        while entries.len() > MOST {
            entries.pop_first();
        }
    }

    /// What an entry is about, once.
    pub(crate) fn take(&self, index: u64, id: Sha256) -> Option<Vec<Node>> {
        self.lock().remove(&(index, id))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u64, Sha256), Vec<Node>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_told_once_and_the_oldest_gives_way() {
        let (written, id) = (Written::default(), Sha256::of(b"x"));
        let nodes = vec![Node::Content(id.into())];
        written.note(7, id, nodes.clone());
        assert_eq!(written.take(7, Sha256::of(b"y")), None, "another item got the index");
        assert_eq!(written.take(7, id), Some(nodes.clone()));
        assert_eq!(written.take(7, id), None);
        written.note(8, id, nodes.repeat(MOST_NODES + 1));
        assert_eq!(written.take(8, id), None, "too many to remember");
        for index in 0..=MOST as u64 {
            written.note(index, id, nodes.clone());
        }
        assert_eq!(written.take(0, id), None);
        assert_eq!(written.take(MOST as u64, id), Some(nodes));
    }
}
