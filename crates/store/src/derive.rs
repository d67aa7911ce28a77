//! Deriving a row anew from the signed bytes, when its seal is broken.
//!
//! Nothing that the database says is believed on the way: the followed root proves the leaf, the leaf
//! proves the body, and the body is verified as on the day it came.

use catenary_chain::gather::Logged;
use catenary_evidence::{
    attestation::{self, Attestation},
    digest::{Node, Sha256},
    object::{self, Object},
};
use catenary_tlog::{Leaf, leaf::kind, leaf_hash, verify_inclusion};

use crate::{
    Prefix, Store, StoreError,
    append::FactRows,
    entry::{from_sql, id_of},
    limit::{in_time, own_task},
    pool::retry,
};

/// A body that the followed log proves.
pub(crate) struct Proven {
    pub(crate) index: u64,
    pub(crate) leaf: Leaf,
    pub(crate) bytes: Vec<u8>,
}

impl Store {
    /// The body of `id`, if the prefix proves it.
    pub(crate) async fn proven(
        &self,
        tenant: &str,
        id: Sha256,
        at: &Prefix,
    ) -> Result<Option<Proven>, StoreError> {
        let row = retry(|| {
            sqlx::query!(
                r#"select e.log_index, e.leaf, b.bytes as "bytes?"
                   from log_entry e left join body b on b.tenant = e.tenant and b.id = e.id
                   where e.tenant = $1 and e.id = $2"#,
                tenant,
                &id.0[..]
            )
            .fetch_optional(self.reads())
        })
        .await?;
        let Some(row) = row else { return Ok(None) };
        let index = from_sql(row.log_index);
        let (Ok(leaf), Some(bytes)) = (Leaf::decode(&row.leaf), row.bytes) else { return Ok(None) };
        if index >= at.size
            || id_of(leaf.id) != id
            || id_of(leaf.body.sha256) != id
            || Sha256::of(&bytes) != id
        {
            return Ok(None);
        }
        let Ok(proof) = self.inclusion(tenant, index, at.size).await else { return Ok(None) };
        let proven = verify_inclusion(leaf_hash(&row.leaf), index, at.size, &proof, at.root).is_ok();
        Ok(proven.then_some(Proven { index, leaf, bytes }))
    }

    /// The facts of an attestation from its bytes; the row is written again.
    pub(crate) async fn derive_attestation(
        &self,
        tenant: &str,
        id: Sha256,
        at: &Prefix,
    ) -> Result<Option<Logged<Attestation>>, StoreError> {
        let Some(found) = self.attestation_as_of(tenant, id, at).await? else { return Ok(None) };
        let mut rows = FactRows::default();
        rows.attestation(tenant, &found.fact, found.index, found.received_at, self.seal());
        self.rewrite(tenant, rows).await;
        Ok(Some(found))
    }

    /// The same, and the row stays as it is.
    pub(crate) async fn attestation_as_of(
        &self,
        tenant: &str,
        id: Sha256,
        at: &Prefix,
    ) -> Result<Option<Logged<Attestation>>, StoreError> {
        let Some(Proven { index, leaf, bytes }) = self.proven(tenant, id, at).await? else { return Ok(None) };
        if leaf.kind != kind::ATTESTATION {
            return Ok(None);
        }
        let trust = at.trust.clone();
        let verified = blocking(move || attestation::verify(&bytes, &trust)).await?;
        Ok(verified.ok().map(|fact| Logged { index, received_at: leaf.time, fact }))
    }

    /// The facts of an object from its bytes; the row is written again.
    pub(crate) async fn derive_object(
        &self,
        tenant: &str,
        id: Sha256,
        at: &Prefix,
    ) -> Result<Option<Logged<Object>>, StoreError> {
        let Some((found, media_type)) = self.object_from_bytes(tenant, id, at).await? else {
            return Ok(None);
        };
        let mut rows = FactRows::default();
        rows.object(tenant, &found.fact, &media_type, found.index, found.received_at, self.seal());
        self.rewrite(tenant, rows).await;
        Ok(Some(found))
    }

    /// The same, and the row stays as it is.
    pub(crate) async fn object_as_of(
        &self,
        tenant: &str,
        id: Sha256,
        at: &Prefix,
    ) -> Result<Option<Logged<Object>>, StoreError> {
        Ok(self.object_from_bytes(tenant, id, at).await?.map(|(found, _)| found))
    }

    async fn object_from_bytes(
        &self,
        tenant: &str,
        id: Sha256,
        at: &Prefix,
    ) -> Result<Option<(Logged<Object>, String)>, StoreError> {
        let Some(Proven { index, leaf, bytes }) = self.proven(tenant, id, at).await? else { return Ok(None) };
        let (Some(media_type), Some(node)) = (leaf.extra.get("mediaType").cloned(), leaf_node(&leaf)) else {
            return Ok(None);
        };
        if leaf.kind != kind::OBJECT {
            return Ok(None);
        }
        let (trust, sent) = (at.trust.clone(), media_type.clone());
        let read = blocking(move || object::read(&sent, &bytes, &trust, Some(node))).await?;
        Ok(read.ok().map(|fact| (Logged { index, received_at: leaf.time, fact }, media_type)))
    }

    /// Repairs row and index rows; the answer does not need it.
    async fn rewrite(&self, tenant: &str, rows: FactRows) {
        let (pool, tenant) = (self.writes().clone(), tenant.to_owned());
        let written = own_task(in_time(async move {
            let mut transaction = pool.begin().await?;
            rows.replace(&mut transaction, &tenant).await?;
            Ok::<_, StoreError>(transaction.commit().await?)
        }));
        if let Err(error) = written.await {
            tracing::warn!(%error, "a changed row could not be repaired");
        }
    }
}

/// The node that an object's leaf names.
fn leaf_node(leaf: &Leaf) -> Option<Node> {
    leaf.extra.get("node")?.parse().ok()
}

/// Runs cryptography beside the reactor.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Unavailable(error.to_string()))
}
