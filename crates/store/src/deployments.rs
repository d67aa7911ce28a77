//! What runs where, as deploy tools tell it.

use catenary_evidence::digest::{Digest, Sha256};
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _, postgres::PgRow};

use crate::{
    Store, StoreError,
    entry::{from_sql, to_sql},
    events::{self, NewEvent},
    facts::{id_from, time_from},
    limit::{in_time, own_task},
    pool::retry,
    watched::{self, NewWatched, Standing},
};

/// What a deploy tool tells.
#[derive(Debug, Clone)]
pub struct Report {
    /// For example `prod`.
    pub environment: String,
    /// For example `shop`.
    pub application: String,
    /// For example `deployment/api`.
    pub workload: String,
    /// `registry/repository@digest`.
    pub image: String,
    /// Its digest.
    pub digest: Digest,
    /// When it started; what runs already goes on, else now.
    pub since: Option<Timestamp>,
    /// When it ended.
    pub until: Option<Timestamp>,
    /// Whether it takes the place of whatever else the workload ran.
    pub replaces: bool,
    /// Who tells.
    pub reporter: String,
    /// The question whether it may run, with its answer now.
    pub question: NewWatched,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The deployment.
    pub id: Sha256,
    /// Whether it is new.
    pub created: bool,
    /// Whether it, or another that it replaces, was changed.
    pub changed: bool,
}

/// A deployment as it is known.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its id.
    pub id: Sha256,
    /// Of the event that told it: the cursor.
    pub seq: u64,
    /// For example `prod`.
    pub environment: String,
    /// For example `shop`.
    pub application: String,
    /// For example `deployment/api`.
    pub workload: String,
    /// `registry/repository@digest`.
    pub image: String,
    /// When it started.
    pub since: Timestamp,
    /// When it ended.
    pub until: Option<Timestamp>,
    /// Who told.
    pub reporter: String,
    /// When.
    pub recorded: Timestamp,
    /// What the answer was when it was told.
    pub start: Standing,
    /// What it is now, as far as the log was followed; `None` when nobody looks any more.
    pub now: Option<Standing>,
}

/// Which deployments a list shows.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Of this environment.
    pub environment: Option<String>,
    /// Of this application.
    pub application: Option<String>,
    /// Of this digest.
    pub digest: Option<Digest>,
    /// Running, or ended.
    pub running: Option<bool>,
    /// What runs and is not allowed now.
    pub denied: bool,
    /// What runs, was allowed when it started, and is not any more.
    pub lapsed: bool,
}

/// One application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationRow {
    /// Its name.
    pub name: String,
    /// Distinct images that run.
    pub images: u64,
    /// Deployments that run.
    pub running: u64,
    /// Of those, not allowed now.
    pub denied: u64,
    /// Of those, allowed when they started.
    pub lapsed: u64,
}

impl Store {
    /// Records reports, in one transaction with their events; one answer each, in order. `log_size`: what the answers were computed at.
    pub async fn record_deployments(
        &self,
        tenant: &str,
        reports: Vec<Report>,
        log_size: u64,
    ) -> Result<Vec<Recorded>, StoreError> {
        let (pool, tenant) = (self.writes().clone(), tenant.to_owned());
        own_task(in_time(async move {
            let mut transaction = pool.begin().await?;
            let recorded = record(&mut transaction, &tenant, &reports, log_size).await?;
            transaction.commit().await?;
            Ok(recorded)
        }))
        .await
    }

    /// Deployments below `before` (the cursor), newest first.
    pub async fn list_deployments(
        &self,
        tenant: &str,
        selection: &Selection,
        before: u64,
        limit: u32,
    ) -> Result<Vec<Deployment>, StoreError> {
        let rows = retry(|| async {
            select(tenant, selection, before, limit).build().fetch_all(self.reads()).await
        })
        .await?;
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// Applications with something that runs, by name, after `after`.
    pub async fn list_applications(
        &self,
        tenant: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ApplicationRow>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                r#"select d.application as "name!", count(distinct d.question) as "images!", count(*) as "running!",
                          count(*) filter (where not coalesce(w.allowed, d.allowed)) as "denied!",
                          count(*) filter (where d.allowed and not coalesce(w.allowed, d.allowed)) as "lapsed!"
                   from deployment d left join watched w on w.tenant = d.tenant and w.key = d.question
                   where d.tenant = $1 and d.until_us is null and d.application > $2
                   group by d.application order by d.application limit $3"#,
                tenant,
                after,
                i64::from(limit)
            )
            .fetch_all(self.reads())
        })
        .await?;
        let rows = rows.into_iter().map(|row| ApplicationRow {
            name: row.name,
            images: from_sql(row.images),
            running: from_sql(row.running),
            denied: from_sql(row.denied),
            lapsed: from_sql(row.lapsed),
        });
        Ok(rows.collect())
    }

    /// The image and environment of everything that an application runs, each once, at most `limit`.
    pub async fn images_of(
        &self,
        tenant: &str,
        application: &str,
        limit: u32,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let rows = retry(|| {
            sqlx::query!(
                "select distinct image, environment from deployment
                 where tenant = $1 and application = $2 and until_us is null order by image, environment limit $3",
                tenant,
                application,
                i64::from(limit)
            )
            .fetch_all(self.reads())
        })
        .await?;
        Ok(rows.into_iter().map(|row| (row.image, row.environment)).collect())
    }
}

async fn record(
    db: &mut PgConnection,
    tenant: &str,
    reports: &[Report],
    log_size: u64,
) -> Result<Vec<Recorded>, sqlx::Error> {
    let questions: Vec<NewWatched> = reports.iter().map(|report| report.question.clone()).collect();
    watched::add(db, tenant, &questions).await?;
    let mut answers = Vec::with_capacity(reports.len());
    for report in reports {
        answers.push(record_one(db, tenant, report, log_size).await?);
    }
    Ok(answers)
}

async fn record_one(
    db: &mut PgConnection,
    tenant: &str,
    report: &Report,
    log_size: u64,
) -> Result<Recorded, sqlx::Error> {
    let mut ended = Vec::new();
    let running = sqlx::query!(
        "select id, since_us from deployment
         where tenant = $1 and environment = $2 and application = $3 and workload = $4 and image = $5 and until_us is null
         order by since_us desc limit 1",
        tenant,
        report.environment,
        report.application,
        report.workload,
        report.image
    )
    .fetch_optional(&mut *db)
    .await?;
    // Told again without a start, it is the one that runs.
    let (id, since) = match (report.since, &running) {
        (None, Some(row)) => (id_from(&row.id).unwrap_or(Sha256([0; 32])), time_from(row.since_us)),
        (since, _) => {
            let since = since.or(report.until).unwrap_or_else(Timestamp::now);
            (id_of(report, since), since)
        }
    };
    let known = sqlx::query_scalar!(
        r#"select until_us is null as "running!" from deployment where tenant = $1 and id = $2"#,
        tenant,
        &id.0[..]
    )
    .fetch_optional(&mut *db)
    .await?;
    let created = known.is_none();
    if created {
        insert(db, tenant, report, id, since, log_size).await?;
    }
    if let Some(until) = report.until.filter(|_| known != Some(false))
        && end(db, tenant, &[id], until.max(since)).await?
    {
        ended.push((report.image.clone(), until));
    }
    if report.replaces && report.until.is_none() {
        for (other, image, began) in others(db, tenant, report).await? {
            let until = since.max(began);
            if end(db, tenant, &[other], until).await? {
                ended.push((image, until));
            }
        }
    }
    let told: Vec<NewEvent> = ended
        .iter()
        .map(|(image, until)| {
            let mut data = place(report, image);
            data["until"] = json!(until);
            NewEvent { kind: "deployment.ended".into(), subject: image.clone(), log_size, data }
        })
        .collect();
    events::append(db, tenant, &told).await?;
    Ok(Recorded { id, created, changed: created || !ended.is_empty() })
}

/// The key: the same report is the same deployment.
fn id_of(report: &Report, since: Timestamp) -> Sha256 {
    let parts = json!([
        report.environment,
        report.application,
        report.workload,
        report.image,
        since.as_microsecond()
    ]);
    Sha256::of(parts.to_string().as_bytes())
}

fn place(report: &Report, image: &str) -> Value {
    json!({
        "image": image,
        "environment": report.environment,
        "application": report.application,
        "workload": report.workload,
        "reporter": report.reporter,
    })
}

async fn insert(
    db: &mut PgConnection,
    tenant: &str,
    report: &Report,
    id: Sha256,
    since: Timestamp,
    log_size: u64,
) -> Result<(), sqlx::Error> {
    let standing = &report.question.standing;
    let mut data = place(report, &report.image);
    data["deployment"] = json!(id);
    data["since"] = json!(since);
    data["verdict"] = json!(standing);
    let subject = report.image.clone();
    let told = NewEvent { kind: "deployment.started".into(), subject, log_size, data };
    let seq = events::append(db, tenant, &[told]).await?;
    sqlx::query!(
        "insert into deployment (tenant, id, seq, environment, application, workload, image, digest, since_us, reporter,
                                 recorded_us, question, outcome, allowed, reason, verdict)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        tenant,
        &id.0[..],
        to_sql(seq),
        report.environment,
        report.application,
        report.workload,
        report.image,
        report.digest.to_string(),
        since.as_microsecond(),
        report.reporter,
        Timestamp::now().as_microsecond(),
        &report.question.key[..],
        standing.outcome,
        standing.allowed,
        standing.reason,
        &standing.verdict.0[..]
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn end(
    db: &mut PgConnection,
    tenant: &str,
    ids: &[Sha256],
    until: Timestamp,
) -> Result<bool, sqlx::Error> {
    let ids: Vec<Vec<u8>> = ids.iter().map(|id| id.0.to_vec()).collect();
    let ended = sqlx::query!(
        "update deployment set until_us = $3 where tenant = $1 and id = any($2) and until_us is null",
        tenant,
        &ids,
        until.as_microsecond()
    )
    .execute(db)
    .await?;
    Ok(ended.rows_affected() > 0)
}

/// What else the workload runs.
async fn others(
    db: &mut PgConnection,
    tenant: &str,
    report: &Report,
) -> Result<Vec<(Sha256, String, Timestamp)>, sqlx::Error> {
    let rows = sqlx::query!(
        "select id, image, since_us from deployment
         where tenant = $1 and environment = $2 and application = $3 and workload = $4 and image <> $5 and until_us is null
         order by id",
        tenant,
        report.environment,
        report.application,
        report.workload,
        report.image
    )
    .fetch_all(db)
    .await?;
    let whole = |id: &[u8]| id_from(id).unwrap_or(Sha256([0; 32]));
    Ok(rows.into_iter().map(|row| (whole(&row.id), row.image, time_from(row.since_us))).collect())
}

/// Only the conditions that the selection has, so that each combination finds its index.
fn select(tenant: &str, selection: &Selection, before: u64, limit: u32) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(
        "select d.id, d.seq, d.environment, d.application, d.workload, d.image, d.since_us, d.until_us, d.reporter,
                d.recorded_us, d.outcome, d.allowed, d.reason, d.verdict, w.outcome as now_outcome,
                w.allowed as now_allowed, w.reason as now_reason, w.verdict as now_verdict
         from deployment d left join watched w on w.tenant = d.tenant and w.key = d.question
         where d.tenant = ",
    );
    query.push_bind(tenant.to_owned());
    query.push(" and d.seq < ").push_bind(to_sql(before));
    let texts = [
        (" and d.environment = ", selection.environment.clone()),
        (" and d.application = ", selection.application.clone()),
        (" and d.digest = ", selection.digest.map(|digest| digest.to_string())),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            query.push(condition).push_bind(text.replace('\0', "\u{fffd}"));
        }
    }
    match selection.running {
        Some(true) => _ = query.push(" and d.until_us is null"),
        Some(false) => _ = query.push(" and d.until_us is not null"),
        None => {}
    }
    if selection.denied || selection.lapsed {
        query.push(" and d.until_us is null and not coalesce(w.allowed, d.allowed)");
    }
    if selection.lapsed {
        query.push(" and d.allowed");
    }
    query.push(" order by d.seq desc limit ").push_bind(i64::from(limit));
    query
}

fn read(row: &PgRow) -> Result<Deployment, sqlx::Error> {
    let id = |name: &str| Ok::<_, sqlx::Error>(id_from(&row.try_get::<Vec<u8>, _>(name)?));
    let nothing = Sha256([0; 32]);
    let now = match row.try_get::<Option<String>, _>("now_outcome")? {
        None => None,
        Some(outcome) => Some(Standing {
            outcome,
            allowed: row.try_get("now_allowed")?,
            reason: row.try_get("now_reason")?,
            verdict: id("now_verdict")?.unwrap_or(nothing),
        }),
    };
    Ok(Deployment {
        id: id("id")?.unwrap_or(nothing),
        seq: from_sql(row.try_get("seq")?),
        environment: row.try_get("environment")?,
        application: row.try_get("application")?,
        workload: row.try_get("workload")?,
        image: row.try_get("image")?,
        since: time_from(row.try_get("since_us")?),
        until: row.try_get::<Option<i64>, _>("until_us")?.map(time_from),
        reporter: row.try_get("reporter")?,
        recorded: time_from(row.try_get("recorded_us")?),
        start: Standing {
            outcome: row.try_get("outcome")?,
            allowed: row.try_get("allowed")?,
            reason: row.try_get("reason")?,
            verdict: id("verdict")?.unwrap_or(nothing),
        },
        now,
    })
}
