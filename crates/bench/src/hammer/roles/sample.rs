//! What the service takes of the machine (I10).

use std::{sync::Arc, time::Duration};

use sqlx::{Connection, PgConnection};

use crate::hammer::play::Play;

/// Resident memory of an instance.
pub const MEMORY: u64 = 400 << 20;
/// Open files of an instance.
pub const FILES: usize = 1_200;
/// Connections of an instance to Postgres: thirteen that read, four that write.
pub const CONNECTIONS: i64 = 17;

/// Looks once a second, until the end.
pub async fn sample(play: Arc<Play>) {
    while play.goes_on() {
        for instance in 0..play.site.urls.len() {
            let Some(usage) = play.site.usage(instance) else { continue };
            play.findings
                .check("I10", usage.resident <= MEMORY, || format!("instance {instance}: {usage:?}"));
            play.findings.check("I10", usage.files <= FILES, || format!("instance {instance}: {usage:?}"));
        }
        if let Ok(Some(idle)) = tokio::time::timeout(Duration::from_secs(2), idle_transactions(&play)).await {
            play.findings.check("I10", idle == 0, || format!("{idle} transactions are open and idle"));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Transactions that nobody has driven for longer than the limit that Postgres keeps (5 s, and one to notice).
async fn idle_transactions(play: &Play) -> Option<i64> {
    one(play, "select count(*) from pg_stat_activity where state like 'idle in transaction%' and state_change < now() - interval '6 s'").await
}

/// Connections of the service now.
pub async fn connections(play: &Play) -> Option<i64> {
    one(play, "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'").await
}

async fn one(play: &Play, sql: &'static str) -> Option<i64> {
    let mut db = PgConnection::connect(&play.site.database).await.ok()?;
    let count = sqlx::query_scalar(sql).fetch_one(&mut db).await.ok()?;
    let _ = db.close().await;
    Some(count)
}
