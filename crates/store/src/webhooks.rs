//! Where events are sent: receivers, how far each has come, and what could not be delivered.
//!
//! One instance at a time delivers to a receiver, under a lease; each write asks whether it still holds it.

use jiff::Timestamp;

use crate::{
    Store, StoreError,
    entry::{from_sql, to_sql},
    facts::time_from,
    limit::{in_time, own_task},
    pool::retry,
};

/// A receiver of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Whose events.
    pub tenant: String,
    /// Its id.
    pub id: String,
    /// Where events are sent.
    pub url: String,
    /// Which, with commas; all when empty.
    pub types: String,
    /// Generation of the key that its secret is derived from.
    pub mac_key: u32,
    /// How often the secret was changed.
    pub generation: u32,
    /// Generation of the key that the secret before is derived from.
    pub old_mac_key: u32,
    /// Until when what is sent is signed with the secret before, too.
    pub old_until: Timestamp,
    /// Who made it.
    pub creator: String,
    /// When.
    pub created: Timestamp,
    /// Entries of the log that it has been told.
    pub log_size: u64,
    /// Other events that it has been told.
    pub seq: u64,
    /// How often the next event was tried.
    pub attempts: u32,
    /// What went wrong with it last.
    pub error: String,
    /// When it is tried again.
    pub next: Timestamp,
    /// Who delivers.
    pub holder: String,
    /// Until when nobody else does.
    pub lease: Timestamp,
    /// How many events were delivered.
    pub delivered: u64,
    /// How many could not be.
    pub dead: u64,
}

/// An event that a receiver did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// 1, 2, 3 … per receiver.
    pub number: u64,
    /// The event's id.
    pub event: String,
    /// Its type.
    pub kind: String,
    /// The event as it would have been sent.
    pub body: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong last.
    pub error: String,
    /// When it was given up.
    pub time: Timestamp,
}

/// How far a receiver has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Entries of the log.
    pub log_size: u64,
    /// Other events.
    pub seq: u64,
}

fn small(n: i32) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

fn to_int(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

impl Store {
    /// Adds a receiver, unless the tenant has `most` already.
    pub async fn add_webhook(&self, hook: &Webhook, most: u32) -> Result<bool, StoreError> {
        let added = in_time(sqlx::query!(
            "insert into webhook (tenant, id, url, types, mac_key, creator, created_us, log_size, seq, attempts, error,
                                  next_us, holder, lease_us, delivered, dead)
             select $1, $2, $3, $4, $5, $6, $7, $8, $9, 0, '', 0, '', 0, 0, 0
             where (select count(*) from webhook where tenant = $1) < $10",
            hook.tenant,
            hook.id,
            hook.url,
            hook.types,
            to_int(hook.mac_key),
            hook.creator,
            hook.created.as_microsecond(),
            to_sql(hook.log_size),
            to_sql(hook.seq),
            i64::from(most)
        )
        .execute(self.writes()))
        .await?;
        Ok(added.rows_affected() == 1)
    }

    /// The receivers of one tenant, or of all of them.
    pub async fn webhooks(&self, tenant: Option<&str>) -> Result<Vec<Webhook>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                "select tenant, id, url, types, mac_key, creator, created_us, log_size, seq, attempts, error, next_us,
                        holder, lease_us, delivered, dead, generation, old_mac_key, old_until_us
                 from webhook where $1::text is null or tenant = $1 order by tenant, created_us, id",
                tenant
            )
            .fetch_all(self.reads())
        })
        .await?;
        let rows = rows.into_iter().map(|row| Webhook {
            tenant: row.tenant,
            id: row.id,
            url: row.url,
            types: row.types,
            mac_key: small(row.mac_key),
            generation: small(row.generation),
            old_mac_key: small(row.old_mac_key),
            old_until: time_from(row.old_until_us),
            creator: row.creator,
            created: time_from(row.created_us),
            log_size: from_sql(row.log_size),
            seq: from_sql(row.seq),
            attempts: small(row.attempts),
            error: row.error,
            next: time_from(row.next_us),
            holder: row.holder,
            lease: time_from(row.lease_us),
            delivered: from_sql(row.delivered),
            dead: from_sql(row.dead),
        });
        Ok(rows.collect())
    }

    /// Gives the receiver the next secret, unless somebody changed it since `hook` was read.
    pub async fn rotate_webhook(
        &self,
        hook: &Webhook,
        mac_key: u32,
        old_until: Timestamp,
    ) -> Result<bool, StoreError> {
        let changed = in_time(
            sqlx::query!(
                "update webhook set generation = generation + 1, old_mac_key = mac_key, mac_key = $4, old_until_us = $5
                 where tenant = $1 and id = $2 and generation = $3",
                hook.tenant,
                hook.id,
                to_int(hook.generation),
                to_int(mac_key),
                old_until.as_microsecond()
            )
            .execute(self.writes()),
        )
        .await?;
        Ok(changed.rows_affected() == 1)
    }

    /// Removes a receiver with its dead letters.
    pub async fn remove_webhook(&self, tenant: &str, id: &str) -> Result<bool, StoreError> {
        let (pool, tenant, id) = (self.writes().clone(), tenant.to_owned(), id.to_owned());
        own_task(in_time(async move {
            let mut transaction = pool.begin().await?;
            let gone = sqlx::query!("delete from webhook where tenant = $1 and id = $2", tenant, id)
                .execute(&mut *transaction)
                .await?;
            sqlx::query!("delete from dead_letter where tenant = $1 and webhook = $2", tenant, id)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(gone.rows_affected() == 1)
        }))
        .await
    }

    /// Takes the receiver until `until`, unless another instance has it.
    pub async fn take_webhook(
        &self,
        hook: &Webhook,
        holder: &str,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let taken = in_time(
            sqlx::query!(
                "update webhook set holder = $3, lease_us = $4
             where tenant = $1 and id = $2 and (holder = $3 or lease_us < $5) and log_size = $6 and seq = $7",
                hook.tenant,
                hook.id,
                holder,
                until.as_microsecond(),
                Timestamp::now().as_microsecond(),
                to_sql(hook.log_size),
                to_sql(hook.seq)
            )
            .execute(self.writes()),
        )
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    /// Notes how far it has come, with so many events delivered. `false`: it was removed, or another instance has it.
    pub async fn webhook_reached(
        &self,
        hook: &Webhook,
        holder: &str,
        until: Timestamp,
        at: Reached,
        delivered: u32,
    ) -> Result<bool, StoreError> {
        let updated = in_time(
            sqlx::query!(
                "update webhook set log_size = $4, seq = $5, delivered = delivered + $6, lease_us = $7,
                    attempts = 0, error = '', next_us = 0
             where tenant = $1 and id = $2 and holder = $3",
                hook.tenant,
                hook.id,
                holder,
                to_sql(at.log_size),
                to_sql(at.seq),
                i64::from(delivered),
                until.as_microsecond()
            )
            .execute(self.writes()),
        )
        .await?;
        Ok(updated.rows_affected() == 1)
    }

    /// Notes that the next event was not taken, and lets the receiver go until `next`.
    pub async fn webhook_failed(
        &self,
        hook: &Webhook,
        holder: &str,
        attempts: u32,
        error: &str,
        next: Timestamp,
    ) -> Result<(), StoreError> {
        in_time(
            sqlx::query!(
                "update webhook set attempts = $4, error = $5, next_us = $6, lease_us = 0
             where tenant = $1 and id = $2 and holder = $3",
                hook.tenant,
                hook.id,
                holder,
                to_int(attempts),
                error,
                next.as_microsecond()
            )
            .execute(self.writes()),
        )
        .await?;
        Ok(())
    }

    /// Lets the receiver go.
    pub async fn release_webhook(&self, hook: &Webhook, holder: &str) -> Result<(), StoreError> {
        in_time(
            sqlx::query!(
                "update webhook set lease_us = 0 where tenant = $1 and id = $2 and holder = $3",
                hook.tenant,
                hook.id,
                holder
            )
            .execute(self.writes()),
        )
        .await?;
        Ok(())
    }

    /// Gives an event up: keeps it among the dead letters, goes past it, and lets the receiver go.
    pub async fn bury(
        &self,
        hook: &Webhook,
        holder: &str,
        at: Reached,
        letter: &DeadLetter,
    ) -> Result<bool, StoreError> {
        in_time(async {
        let mut transaction = self.writes().begin().await?;
        let number = sqlx::query_scalar!(
            "update webhook set dead = dead + 1, log_size = $4, seq = $5, attempts = 0, error = $6, next_us = 0, lease_us = 0
             where tenant = $1 and id = $2 and holder = $3 returning dead",
            hook.tenant,
            hook.id,
            holder,
            to_sql(at.log_size),
            to_sql(at.seq),
            letter.error
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(number) = number else { return Ok(false) };
        sqlx::query!(
            "insert into dead_letter (tenant, webhook, number, event, type, body, attempts, error, time_us)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            hook.tenant,
            hook.id,
            number,
            letter.event,
            letter.kind,
            letter.body,
            to_int(letter.attempts),
            letter.error,
            letter.time.as_microsecond()
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
        })
        .await
    }

    /// Dead letters with numbers below `before`, newest first.
    pub async fn dead_letters(
        &self,
        tenant: &str,
        id: &str,
        before: u64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                "select number, event, type as kind, body, attempts, error, time_us from dead_letter
                 where tenant = $1 and webhook = $2 and number < $3 order by number desc limit $4",
                tenant,
                id,
                to_sql(before),
                i64::from(limit)
            )
            .fetch_all(self.reads())
        })
        .await?;
        let rows = rows.into_iter().map(|row| DeadLetter {
            number: from_sql(row.number),
            event: row.event,
            kind: row.kind,
            body: row.body,
            attempts: small(row.attempts),
            error: row.error,
            time: time_from(row.time_us),
        });
        Ok(rows.collect())
    }

    /// Removes a dead letter that was delivered after all.
    pub async fn remove_dead_letter(&self, tenant: &str, id: &str, number: u64) -> Result<(), StoreError> {
        in_time(
            sqlx::query!(
                "delete from dead_letter where tenant = $1 and webhook = $2 and number = $3",
                tenant,
                id,
                to_sql(number)
            )
            .execute(self.writes()),
        )
        .await?;
        Ok(())
    }
}
