//! Which nodes new evidence is about: what a cached answer must not have read.

use std::collections::BTreeMap;

use catenary_evidence::{
    attestation::Attestation,
    digest::Node,
    object::{Body, Object},
};

use crate::{
    Store, StoreError,
    entry::{from_sql, to_sql},
};

impl Store {
    /// For each evidence entry of `from..to`, the nodes that it is about. An entry that is missing here has
    /// no readable facts, and may be about anything.
    pub(crate) async fn touched(
        &self,
        tenant: &str,
        from: u64,
        to: u64,
    ) -> Result<BTreeMap<u64, Vec<Node>>, StoreError> {
        let mut touched = BTreeMap::new();
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "select log_index, facts from attestation where tenant = $1 and log_index >= $2 and log_index < $3",
        )
        .bind(tenant)
        .bind(to_sql(from))
        .bind(to_sql(to))
        .fetch_all(self.reads())
        .await?;
        for (index, facts) in rows {
            if let Ok(facts) = serde_json::from_slice::<Attestation>(&facts) {
                touched.insert(from_sql(index), facts.subject_nodes());
            }
        }
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "select log_index, facts from object where tenant = $1 and log_index >= $2 and log_index < $3",
        )
        .bind(tenant)
        .bind(to_sql(from))
        .bind(to_sql(to))
        .fetch_all(self.reads())
        .await?;
        for (index, facts) in rows {
            if let Ok(facts) = serde_json::from_slice::<Object>(&facts) {
                touched.insert(from_sql(index), object_nodes(&facts));
            }
        }
        Ok(touched)
    }
}

/// The object's own node and those of what it names: a parent can change what is said about a child.
fn object_nodes(object: &Object) -> Vec<Node> {
    let mut nodes = vec![object.node, Node::Content(object.id.into())];
    match &object.body {
        Body::Index(index) => nodes.extend(index.children.iter().map(|child| Node::Content(child.digest))),
        Body::Manifest(manifest) => {
            nodes.push(Node::Content(manifest.config.digest));
            nodes.extend(manifest.layers.iter().map(|layer| Node::Content(layer.digest)));
        }
        Body::Config(_) | Body::Commit(_) => {}
        Body::Tag(tag) => nodes.push(Node::Git(tag.target)),
    }
    nodes.sort();
    nodes.dedup();
    nodes
}
