//! Verifying what is stored under a newly registered key.

use catenary_evidence::{
    KeyId, Signature, Trust,
    attestation::{self, Attestation},
    digest::Sha256,
    object::{self, Body, Object},
};

use crate::{
    Store, StoreError,
    append::insert_subjects,
    derive::blocking,
    entry::from_sql,
    facts::{AttestationRecord, ObjectRecord, id_from, subject_rows, time_from},
    limit::{in_time, own_task},
    load::Loaded,
    pool::retry,
};

/// Rows that are verified and written at once.
const PAGE: i64 = 200;

/// What was added to the trust of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vouches {
    /// A key.
    Key(KeyId),
    /// A version of the root of this domain.
    Domain(String),
}

impl Vouches {
    /// Whether this vouches for the signature.
    pub fn is_by(&self, signature: &Signature) -> bool {
        match self {
            Self::Key(key) => signature.signer.key() == Some(*key),
            Self::Domain(name) => {
                signature.signer.identity().is_some_and(|identity| identity.domain == *name)
                    || signature.signer.key().is_some() && !signature.vouchers.is_empty()
                    || !signature.cosigned.is_empty()
            }
        }
    }

    /// Whether facts could gain anything by it.
    fn may_change(&self, facts: &Attestation) -> bool {
        match self {
            Self::Key(key) => !facts.is_signed_by(key),
            Self::Domain(_) => true,
        }
    }
}

/// A row, the facts under its seal, and its bytes.
type Item<R, F> = (R, F, Vec<u8>);

impl Store {
    /// Verifies every stored attestation and git object with `trust`, which holds what was `added`, and adds the
    /// signatures that it vouches for. Returns how many rows changed; a second run changes none.
    ///
    /// What is logged meanwhile was verified with the key already, or is refused as
    /// [`StoreError::KeysMoved`]: the caller logs `trust.added` first.
    pub async fn reverify(&self, tenant: &str, trust: &Trust, added: &Vouches) -> Result<u64, StoreError> {
        Ok(self.reverify_attestations(tenant, trust, added).await?
            + self.reverify_objects(tenant, trust, added).await?)
    }

    async fn reverify_attestations(
        &self,
        tenant: &str,
        trust: &Trust,
        added: &Vouches,
    ) -> Result<u64, StoreError> {
        let (mut after, mut changed) = (-1, 0);
        loop {
            let page = retry(|| {
                sqlx::query!(
                    "select id, log_index from attestation where tenant = $1 and log_index > $2
                     order by log_index limit $3",
                    tenant,
                    after,
                    PAGE
                )
                .fetch_all(self.reads())
            })
            .await?;
            let Some(last) = page.last() else { return Ok(changed) };
            after = last.log_index;
            let ids: Vec<Vec<u8>> = page.into_iter().map(|row| row.id).collect();
            let items = self.intact_attestations(tenant, &ids, added).await?;
            let (trust, added) = (trust.clone(), added.clone());
            let verified =
                blocking(move || items.into_iter().filter_map(|i| vouched(i, &trust, &added)).collect());
            let verified: Vec<(AttestationRecord, Attestation)> = verified.await?;
            for (old, facts) in verified {
                changed += u64::from(self.update_attestation(tenant, old, facts).await?);
            }
        }
    }

    /// Sealed rows with intact bytes which the key does not vouch for yet. Others are repaired when they are read.
    async fn intact_attestations(
        &self,
        tenant: &str,
        ids: &[Vec<u8>],
        added: &Vouches,
    ) -> Result<Vec<Item<AttestationRecord, Attestation>>, StoreError> {
        let mut found = Vec::new();
        for Loaded { record, intact } in self.load_attestations(tenant, ids, u64::MAX).await? {
            match record.open(tenant, self.seal()) {
                Some(facts) if intact && added.may_change(&facts) => found.push((record, facts)),
                Some(_) if intact => {}
                _ => self.alarm(
                    tenant,
                    "attestation",
                    &hex::encode(&record.id),
                    "the row or its body is changed",
                ),
            }
        }
        let mut bodies =
            self.bodies(tenant, &found.iter().map(|(_, facts)| facts.id).collect::<Vec<_>>()).await?;
        Ok(found
            .into_iter()
            .filter_map(|(record, facts)| bodies.remove(&facts.id).map(|bytes| (record, facts, bytes)))
            .collect())
    }

    /// Writes a row with more signers, unless another instance changed it since it was read.
    async fn update_attestation(
        &self,
        tenant: &str,
        old: AttestationRecord,
        facts: Attestation,
    ) -> Result<bool, StoreError> {
        let (pool, tenant) = (self.writes().clone(), tenant.to_owned());
        let index = from_sql(old.log_index);
        let new = AttestationRecord::new(&tenant, &facts, index, time_from(old.time_us), self.seal());
        let rows: Vec<_> = subject_rows(&facts).into_iter().map(|row| (row, index, facts.id)).collect();
        let updated = own_task(in_time(async move {
            let mut transaction = pool.begin().await?;
            let updated = sqlx::query!(
                "update attestation set verified = $4, facts = $5, mac_key = $6, mac = $7
                 where tenant = $1 and id = $2 and mac = $3",
                tenant,
                &old.id,
                &old.mac,
                new.verified,
                &new.facts,
                new.mac_key,
                &new.mac
            )
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            if updated == 0 {
                transaction.rollback().await?;
                return Ok::<_, StoreError>(false);
            }
            sqlx::query!(
                "delete from attestation_subject where tenant = $1 and log_index = $2 and id = $3 and signer = ''",
                tenant,
                old.log_index,
                &old.id
            )
            .execute(&mut *transaction)
            .await?;
            insert_subjects(&mut transaction, &tenant, &rows).await?;
            transaction.commit().await?;
            Ok(true)
        }))
        .await?;
        if updated { Ok(true) } else { Err(moved()) }
    }

    async fn reverify_objects(
        &self,
        tenant: &str,
        trust: &Trust,
        added: &Vouches,
    ) -> Result<u64, StoreError> {
        let (mut after, mut changed) = (-1, 0);
        loop {
            let page = retry(|| {
                sqlx::query!(
                    "select node, log_index from object
                     where tenant = $1 and log_index > $2 and node like 'gitCommit:%' order by log_index limit $3",
                    tenant,
                    after,
                    PAGE
                )
                .fetch_all(self.reads())
            })
            .await?;
            let Some(last) = page.last() else { return Ok(changed) };
            after = last.log_index;
            let nodes: Vec<String> = page.into_iter().map(|row| row.node).collect();
            let loaded = self.load_objects(tenant, &nodes, u64::MAX).await?;
            let ids: Vec<Sha256> = loaded.iter().filter_map(|l| id_from(&l.record.id)).collect();
            let mut bodies = self.bodies(tenant, &ids).await?;
            let items: Vec<Item<ObjectRecord, Object>> = loaded
                .into_iter()
                .filter_map(|Loaded { record, .. }| {
                    let facts = record.open(tenant, self.seal())?;
                    let bytes = bodies.remove(&facts.id)?;
                    Some((record, facts, bytes))
                })
                .collect();
            let (trust, added) = (trust.clone(), added.clone());
            let verified =
                blocking(move || items.into_iter().filter_map(|i| signed(i, &trust, &added)).collect());
            let verified: Vec<(ObjectRecord, Object)> = verified.await?;
            for (old, facts) in verified {
                changed += u64::from(self.update_object(tenant, &old, &facts).await?);
            }
        }
    }

    async fn update_object(
        &self,
        tenant: &str,
        old: &ObjectRecord,
        facts: &Object,
    ) -> Result<bool, StoreError> {
        let (index, time) = (from_sql(old.log_index), time_from(old.time_us));
        let new = ObjectRecord::new(tenant, facts, &old.media_type, index, time, self.seal());
        let updated = in_time(sqlx::query!(
            "update object set facts = $4, mac_key = $5, mac = $6 where tenant = $1 and node = $2 and mac = $3",
            tenant,
            &old.node,
            &old.mac,
            &new.facts,
            new.mac_key,
            &new.mac
        )
        .execute(self.writes()))
        .await?
        .rows_affected();
        if updated == 1 { Ok(true) } else { Err(moved()) }
    }
}

/// The facts with the signatures that the added trust vouches for, if there are any new ones.
fn vouched(
    (record, old, bytes): Item<AttestationRecord, Attestation>,
    trust: &Trust,
    added: &Vouches,
) -> Option<(AttestationRecord, Attestation)> {
    // Evidence that proves wrong under the new trust stays as it is: in the log, and not counting for it.
    let mut new = attestation::verify(&bytes, trust).ok()?;
    if !new.signatures.iter().any(|signature| added.is_by(signature)) {
        return None;
    }
    // What was found before stays, unless the same signer is found anew.
    let kept = old.signatures.iter().filter(|s| new.signers().all(|signer| *signer != s.signer));
    let kept: Vec<Signature> = kept.cloned().collect();
    new.signatures.extend(kept);
    new.signatures.sort();
    (new != old).then_some((record, new))
}

/// The facts with the git signature that the added trust vouches for, if it is a new one.
fn signed(
    (record, old, bytes): Item<ObjectRecord, Object>,
    trust: &Trust,
    added: &Vouches,
) -> Option<(ObjectRecord, Object)> {
    let new = object::read(&record.media_type, &bytes, trust, Some(old.node)).ok()?;
    let by_added = object_signature(&new).is_some_and(|signature| added.is_by(signature));
    (by_added && new != old).then_some((record, new))
}

/// What a git object's signature proves.
pub(crate) fn object_signature(object: &Object) -> Option<&Signature> {
    match &object.body {
        Body::Commit(commit) => commit.signature.as_ref()?.verified.as_ref(),
        Body::Tag(tag) => tag.signature.as_ref()?.verified.as_ref(),
        Body::Index(_) | Body::Manifest(_) | Body::Config(_) => None,
    }
}

/// Another instance wrote the row meanwhile. Running again finds what is left to do.
fn moved() -> StoreError {
    StoreError::Unavailable("a row changed while it was verified; run again".into())
}
