//! Which service keys the database belongs to: public parts and ids only.

use crate::{Store, StoreError, pool::retry};

/// One generation of one service key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceKeyRow {
    /// `log`, `mac`, `vsa` or `collector`.
    pub purpose: String,
    /// 1, 2, 3 …; the highest is the current one.
    pub generation: u32,
    /// Id of the key.
    pub key_id: String,
    /// Its public part; empty for the MAC key, which has none.
    pub public: String,
}

impl Store {
    /// Every recorded key, oldest generation first.
    pub async fn service_keys(&self) -> Result<Vec<ServiceKeyRow>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                "select purpose, generation, key_id, public from service_key order by purpose, generation"
            )
            .fetch_all(self.reads())
        })
        .await?;
        let rows = rows.into_iter().map(|row| ServiceKeyRow {
            purpose: row.purpose,
            generation: u32::try_from(row.generation).unwrap_or(0),
            key_id: row.key_id,
            public: row.public,
        });
        Ok(rows.collect())
    }

    /// Records new generations and compares the known ones: an instance whose keys are others, or which
    /// lacks a recorded one, is refused with [`StoreError::WrongKeys`].
    ///
    /// Keys are compared before anything is recorded: a wrong set leaves no trace. One statement records
    /// them, and what another instance recorded meanwhile is compared again.
    pub async fn bind_service_keys(&self, at_hand: &[ServiceKeyRow]) -> Result<(), StoreError> {
        compare(&self.service_keys().await?, at_hand)?;
        let purposes: Vec<String> = at_hand.iter().map(|key| key.purpose.clone()).collect();
        let generations: Vec<i32> = at_hand.iter().map(|key| key.generation as i32).collect();
        let key_ids: Vec<String> = at_hand.iter().map(|key| key.key_id.clone()).collect();
        let publics: Vec<String> = at_hand.iter().map(|key| key.public.clone()).collect();
        sqlx::query!(
            "insert into service_key (purpose, generation, key_id, public)
             select * from unnest($1::text[], $2::integer[], $3::text[], $4::text[])
             on conflict (purpose, generation) do nothing",
            &purposes,
            &generations,
            &key_ids,
            &publics
        )
        .execute(self.writes())
        .await?;
        compare(&self.service_keys().await?, at_hand)
    }
}

fn compare(recorded: &[ServiceKeyRow], at_hand: &[ServiceKeyRow]) -> Result<(), StoreError> {
    for key in recorded {
        let same =
            |other: &&ServiceKeyRow| (&other.purpose, other.generation) == (&key.purpose, key.generation);
        let found = at_hand.iter().find(same);
        if found != Some(key) {
            return Err(StoreError::WrongKeys {
                purpose: format!("{}-{}", key.purpose, key.generation),
                expected: key.key_id.clone(),
                found: found.map_or_else(|| "none".to_owned(), |key| key.key_id.clone()),
            });
        }
    }
    Ok(())
}
