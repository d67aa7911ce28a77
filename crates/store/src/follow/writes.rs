//! Which nodes new evidence is about: what a cached answer must not have read.

use std::collections::BTreeMap;

use catenary_chain::control::WriteSet;
use catenary_evidence::{
    digest::{Node, Sha256},
    object::{Body, Object},
};
use catenary_tlog::leaf::kind;

use super::{
    FollowError, Follower,
    fold::{needs_body, read_control},
    tenant::reach,
};
use crate::{EntryRow, Store, StoreError, entry::from_sql};

impl Follower {
    /// What the entries `from..to` can change, read anew: for whoever goes on where an instance stopped. All of them must have been
    /// followed.
    pub async fn write_sets(&self, tenant: &str, from: u64, to: u64) -> Result<Vec<WriteSet>, FollowError> {
        let store = &self.shared.store;
        let entries = store.entries(tenant, from, to).await?;
        let control: Vec<Sha256> =
            entries.iter().filter(|row| needs_body(&row.kind)).map(|row| row.id).collect();
        let bodies =
            if control.is_empty() { BTreeMap::new() } else { store.bodies(tenant, &control).await? };
        let mut touched = store.touched(tenant, &entries, to).await?;
        let reached = |row: &EntryRow| match row.kind.as_str() {
            kind::LOG_ORIGIN => WriteSet::None,
            kind::ATTESTATION | kind::OBJECT => {
                touched.remove(&row.index).map_or(WriteSet::All, WriteSet::Nodes)
            }
            _ => {
                let read = bodies.get(&row.id).and_then(|body| read_control(body).ok());
                read.map_or(WriteSet::All, |(entry, _)| reach(&entry))
            }
        };
        Ok(entries.iter().map(reached).collect())
    }
}

impl Store {
    /// For each evidence entry below `to`, the nodes that it is about. An entry that is missing here has no
    /// facts under a seal that holds, and may be about anything.
    pub(crate) async fn touched(
        &self,
        tenant: &str,
        entries: &[EntryRow],
        to: u64,
    ) -> Result<BTreeMap<u64, Vec<Node>>, StoreError> {
        let mut touched = BTreeMap::new();
        let mut others = Vec::new();
        for row in entries {
            match self.written().take(row.index, row.id) {
                Some(nodes) => {
                    touched.insert(row.index, nodes);
                }
                None => others.push(row),
            }
        }
        let of = |wanted: &'static str| others.iter().filter(move |row| row.kind == wanted);
        let ids: Vec<Vec<u8>> = of(kind::ATTESTATION).map(|row| row.id.0.to_vec()).collect();
        for row in self.load_attestations(tenant, &ids, to).await? {
            if let Some(facts) = row.record.open(tenant, self.seal()) {
                touched.insert(from_sql(row.record.log_index), facts.subject_nodes());
            }
        }
        let node = |row: &&EntryRow| row.decode().ok()?.extra.get("node").cloned();
        let nodes: Vec<String> = of(kind::OBJECT).filter_map(node).collect();
        for row in self.load_objects(tenant, &nodes, to).await? {
            if let Some(facts) = row.record.open(tenant, self.seal()) {
                touched.insert(from_sql(row.record.log_index), object_nodes(&facts));
            }
        }
        Ok(touched)
    }
}

/// The object's own node and those of what it names: a parent can change what is said about a child.
pub(crate) fn object_nodes(object: &Object) -> Vec<Node> {
    let mut nodes = vec![object.node, Node::Content(object.id.into())];
    match &object.body {
        Body::Index(index) => nodes.extend(index.children.iter().map(|child| Node::Content(child.digest))),
        Body::Manifest(manifest) => {
            nodes.push(Node::Content(manifest.config.digest));
            nodes.extend(manifest.layers.iter().map(|layer| Node::Content(layer.digest)));
        }
        Body::Config(_) => {}
        Body::Commit(commit) => nodes.extend(commit.parents.iter().copied().map(Node::Git)),
        Body::Tag(tag) => nodes.push(Node::Git(tag.target)),
    }
    nodes.sort();
    nodes.dedup();
    nodes
}
