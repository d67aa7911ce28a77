//! R13: somebody with the database's password, or a dying disk, changes what is stored.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use acceptance::{
    App, Stage,
    cluster::{connect, execute},
    load::fresh,
};
use catenary_testkit::{Statement, Subject};
use serde_json::{Value, json};
use sqlx::PgConnection;

mod file;

use crate::{Plan, ground::Ground, report::Report};

/// R13: what is touched says no at once; one pass of the scrubber finds every one of many single bytes.
pub async fn rots(plan: Plan) -> Report {
    let (period, entries, bytes) = if plan.short { ("2s", 300, 60) } else { ("20s", 3_000, 1_000) };
    let mut report = Report::default();
    fastrand::seed(plan.seed);
    let config = format!("scrub = \"{period}\"\n");
    let ground = Ground::with(&[], |builder| builder.config(&config)).await;
    file::bits_flip(&mut report).await;
    let (cached, kept) = touched(&mut report, &ground).await;
    let (facts, log) = tokio::join!(filled(&ground.app, entries), filled(&ground.app, entries));
    let clean = passes(&ground.app).await;
    await_passes(&mut report, &ground.app, clean + 1).await;
    let found =
        alarms(&ground.app).into_iter().filter(|a| [&facts.tenant, &log.tenant].contains(&&a.tenant)).count();
    report.expect(found == 0, || format!("{found} alarms about rows that nobody touched"));
    let mut database = connect(&ground.url).await;
    let mut done = corrupt(&mut database, &facts.tenant, &FACTS, bytes * 4 / 5).await;
    done.extend(corrupt(&mut database, &log.tenant, &LOG, bytes / 5).await);
    // The one that is under way has passed some of them already.
    let dirty = passes(&ground.app).await;
    await_passes(&mut report, &ground.app, dirty + 2).await;
    let answer = cached.judge().await;
    report.expect(answer.json()["allowed"] != true, || {
        format!("yes from memory after a pass: {}", answer.show())
    });
    let alarms = alarms(&ground.app);
    let missed: Vec<&Corrupted> =
        done.iter().filter(|one| !alarms.iter().any(|alarm| one.is_named_by(alarm))).collect();
    report.count("corrupted bytes", done.len() as u64);
    report.count("found in one pass", (done.len() - missed.len()) as u64);
    let missed: Vec<String> = missed.iter().map(|c| format!("{} {} {}", c.table, c.column, c.key)).collect();
    report.expect(missed.is_empty(), || format!("not found: {missed:?}"));
    report.expect(done.len() as u64 >= bytes * 9 / 10, || {
        format!("only {} bytes could be changed", done.len())
    });
    let shown = ready(&ground.app).await;
    let named = alarms.iter().any(|a| a.table == "(checkpoint outside)" && a.tenant == kept.tenant);
    report.expect(named, || "the changed checkpoint is not named".to_owned());
    let differences = shown["scrub"]["last"]["differences"].as_u64().unwrap_or(0);
    report
        .expect(differences > 0 && shown["scrub"]["findings"].is_array(), || format!("/readyz says {shown}"));
    let metrics = ground.app.anonymous().get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    report.expect(metrics.contains("catenary_scrub_last_pass_differences"), || "no metric tells".to_owned());
    amcheck(&mut report, &ground);
    // The log of one tenant is not what was followed: no yes from it. The other answers.
    let refused = log.judge().await;
    report.expect(refused.json()["allowed"] != true, || {
        format!("a yes from a damaged log: {}", refused.show())
    });
    report
}

/// Each in a tenant of its own: the first answer after the change, and what it may be.
/// Gives two that only the scrubber notices: one whose answer is in memory (it was true when it was given, and is taken back), and one
/// whose checkpoint outside is changed.
async fn touched(report: &mut Report, ground: &Ground) -> (Stage, Stage) {
    let build = "tenant = $T and id = (select id from attestation where tenant = $T and predicate_type like 'https://slsa.dev/provenance%')";
    let flip = |table: &str, column: &str, rows: &str| {
        format!("update {table} set {column} = set_byte({column}, 9, get_byte({column}, 9) # 1) where {rows}")
    };
    let change = async |stage: &Stage, sql: &str| {
        execute(&ground.url, &sql.replace("$T", &format!("'{}'", stage.tenant))).await;
    };
    let changes = [
        (
            "the signed bytes",
            flip("body", "bytes", build),
            Says::NoBy("SYS_INTEGRITY_VIOLATION"),
            Some("body"),
        ),
        // Derived anew from the signed bytes, which are whole: a yes is true, and the row is named.
        ("its facts", flip("attestation", "facts", build), Says::Yes, Some("attestation")),
        (
            "the row by which it is found",
            format!("update attestation_subject set log_index = log_index + 4096 where {build}"),
            Says::Either,
            None,
        ),
        ("the head's root", flip("log_head", "root", "tenant = $T"), Says::No, None),
        ("an index", "drop index attestation_subject_by_id".to_owned(), Says::Yes, None),
    ];
    // Each waits out the lease of its keys and policy.
    let app = &ground.app;
    let (a, b, c) = tokio::join!(Stage::in_app(app), Stage::in_app(app), Stage::in_app(app));
    let (d, e) = tokio::join!(Stage::in_app(app), Stage::in_app(app));
    let (cached, kept) = tokio::join!(Stage::in_app(app), Stage::in_app(app));
    for ((what, sql, says, named), stage) in changes.into_iter().zip([a, b, c, d, e]) {
        stage.post_world().await;
        change(&stage, &sql).await;
        if what == "the head's root" {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
        }
        let answer = stage.judge().await;
        let yes = answer.json()["allowed"] == true;
        let as_it_must = match says {
            Says::Yes => yes,
            Says::No => !yes,
            Says::NoBy(code) => !yes && answer.codes().iter().any(|found| found == code),
            Says::Either => true,
        };
        report.expect(as_it_must, || format!("{what} was changed: {}", answer.show()));
        report.expect([200, 503].contains(&answer.status), || format!("{what}: {}", answer.show()));
        // Found by who asks, not by the scrubber, which has passes to make before it is there.
        let alarmed =
            |table: &str| alarms(app).iter().any(|a| (&*a.table, &a.tenant) == (table, &stage.tenant));
        report.expect(named.is_none_or(alarmed), || format!("{what} was changed and nobody said so"));
        report.count("touched digests", 1);
    }
    let cached = cached.play_honest().await;
    change(&cached, &flip("body", "bytes", build)).await;
    let changed = change_checkpoint(app, &kept.tenant);
    report.expect(changed, || "no checkpoint is kept outside".to_owned());
    (cached, kept)
}

/// What the first answer after a change may be.
enum Says {
    Yes,
    No,
    /// With this reason.
    NoBy(&'static str),
    Either,
}

/// `pg_amcheck` finds heaps and indexes whole: what was changed are values, and the service breaks no page.
fn amcheck(report: &mut Report, ground: &Ground) {
    let program = acceptance::cluster::binaries().join("pg_amcheck");
    if !program.is_file() {
        return report.skip("pg_amcheck", "it is not installed");
    }
    let port = ground.cluster.port().to_string();
    let run = std::process::Command::new(program)
        .args(["--install-missing", "--host", "127.0.0.1", "--username", "postgres", "--port", &port])
        .arg(ground.database())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    report.expect(run.status.success() && run.stdout.is_empty(), || format!("pg_amcheck: {said:.400}"));
    report.count("clean runs of pg_amcheck", u64::from(run.status.success()));
}

/// Changes one byte of the checkpoint that is kept outside the database.
fn change_checkpoint(app: &App, tenant: &str) -> bool {
    let files = std::fs::read_dir(app.data.join("checkpoints")).unwrap().flatten().map(|file| file.path());
    // Beside it lies the file by which writers wait for each other, which is empty.
    let own = |path: &std::path::PathBuf| {
        path.file_stem().is_some_and(|stem| stem == tenant)
            && std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
    };
    let Some(file) = files.into_iter().find(own) else { return false };
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).is_ok()
}

/// A tenant with an honest chain, many notes and an SBOM.
async fn filled(app: &App, entries: u64) -> Stage {
    let stage = Stage::in_app(app).await.play_honest().await;
    for _ in 0..entries / 50 {
        let lines: Vec<String> = (0..50).map(|_| fresh(&stage.world.k_ci)).collect();
        stage.post_bytes("/v1/attestations", "application/x-ndjson", lines.join("\n")).await.is(200);
    }
    for n in 0..10 {
        let component = |m: u8| json!({"name": format!("p{n}-{m}"), "version": "1.0", "purl": format!("pkg:npm/p{n}-{m}@1.0")});
        let components: Vec<Value> = (0..10).map(component).collect();
        let sbom = json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": components});
        let statement = Statement::new("https://cyclonedx.org/bom", sbom).subject(Subject::new(
            "x",
            "sha256",
            &"2".repeat(64),
        ));
        stage.submit(statement.signed_by(&stage.world.k_ci).to_bytes()).await.is(201);
    }
    stage
}

/// Rows that are corrupted: table, columns with their types, how an alarm names the row, which rows.
struct Target {
    table: &'static str,
    columns: &'static [(&'static str, Type)],
    key: &'static str,
    rows: &'static str,
}

const fn target(
    table: &'static str,
    columns: &'static [(&'static str, Type)],
    key: &'static str,
    rows: &'static str,
) -> Target {
    Target { table, columns, key, rows }
}

impl Target {
    /// Whether it has a row for each attestation.
    fn is_large(&self) -> bool {
        ["attestation", "attestation_subject", "body", "log_entry"].contains(&self.table)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Bytes,
    Text,
    Number,
    Small,
    Bool,
}

/// What is derived from entries. Rows of one entry are corrupted in one table only, so that each is named by itself.
const FACTS: [Target; 6] = [
    target(
        "body",
        &[("bytes", Type::Bytes), ("id", Type::Bytes)],
        "encode(id, 'hex')",
        "id in (select id from log_entry where tenant = $T and kind = 'attestation' and log_index % 4 = 0)",
    ),
    target(
        "attestation",
        &[
            ("facts", Type::Bytes),
            ("mac", Type::Bytes),
            ("id", Type::Bytes),
            ("time_us", Type::Number),
            ("log_index", Type::Number),
            ("predicate_type", Type::Text),
            ("verified", Type::Bool),
            ("builder", Type::Text),
        ],
        "encode(id, 'hex')",
        "log_index % 4 = 1",
    ),
    target(
        "attestation_subject",
        &[("node", Type::Text), ("signer", Type::Text), ("log_index", Type::Number), ("id", Type::Bytes)],
        "node || ' ' || signer || ' ' || log_index",
        "log_index % 4 = 2",
    ),
    target(
        "mention",
        &[("package", Type::Text), ("name", Type::Text), ("version", Type::Text), ("position", Type::Number)],
        "position || ' sha256:'",
        "(position / 32768) % 4 = 3",
    ),
    target(
        "object",
        &[("facts", Type::Bytes), ("media_type", Type::Text), ("mac", Type::Bytes), ("id", Type::Bytes)],
        "node",
        "log_index % 2 = 0",
    ),
    target(
        "object_child",
        &[("log_index", Type::Number), ("child", Type::Text)],
        "child || ' ' || parent",
        "log_index % 2 = 1",
    ),
];

/// The log itself.
const LOG: [Target; 2] = [
    target(
        "log_entry",
        &[("leaf", Type::Bytes), ("id", Type::Bytes), ("kind", Type::Text), ("log_index", Type::Number)],
        "log_index::text",
        "log_index > 30",
    ),
    target(
        "log_tile",
        &[("hashes", Type::Bytes), ("root", Type::Bytes), ("level", Type::Small)],
        "level || '/' || tile_index",
        "true",
    ),
];

/// One byte that was changed.
#[derive(Debug)]
struct Corrupted {
    tenant: String,
    table: &'static str,
    column: &'static str,
    key: String,
}

impl Corrupted {
    fn is_named_by(&self, alarm: &Alarm) -> bool {
        if (alarm.tenant.as_str(), alarm.table.as_str()) != (self.tenant.as_str(), self.table) {
            return false;
        }
        if self.table != "log_entry" {
            return alarm.key.contains(&self.key);
        }
        // Where a leaf is still well-formed, only a range of leaves is known not to give the root.
        let Some((from, to)) = alarm.key.split_once("..") else { return alarm.key == self.key };
        let at = |text: &str| text.parse::<u64>().unwrap_or(0);
        (at(from)..at(to)).contains(&at(&self.key))
    }
}

/// Changes one byte of about `n` rows, spread over the tables as these have rows.
async fn corrupt(
    database: &mut PgConnection,
    tenant: &str,
    targets: &'static [Target],
    n: u64,
) -> Vec<Corrupted> {
    let mut candidates = Vec::new();
    for target in targets {
        let rows = target.rows.replace("$T", &format!("'{tenant}'"));
        let sql = format!(
            "select ctid::text || '|' || ({}) from {} where tenant = '{tenant}' and {rows}",
            target.key, target.table
        );
        let found: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *database).await.unwrap();
        candidates.extend(found.into_iter().map(|row| (target, row)));
    }
    fastrand::shuffle(&mut candidates);
    // Small tables first: each must be among them.
    let (many, few): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|(target, _)| target.is_large());
    let few = few.into_iter().take(usize::try_from(n / 4).unwrap_or(0));
    let mut done = Vec::new();
    for (target, row) in few.chain(many) {
        if done.len() as u64 >= n {
            break;
        }
        let (ctid, key) = row.split_once('|').unwrap();
        for _ in 0..8 {
            let (column, kind) = *fastrand::choice(target.columns).unwrap();
            let sql = format!(
                "update {} set {column} = {} where ctid = '{ctid}' and tenant = '{tenant}' and {}",
                target.table,
                changed(column, kind),
                there(column, kind)
            );
            let changed = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *database).await;
            if changed.is_ok_and(|done| done.rows_affected() == 1) {
                done.push(Corrupted {
                    tenant: tenant.to_owned(),
                    table: target.table,
                    column,
                    key: key.to_owned(),
                });
                break;
            }
        }
    }
    done
}

/// The column with one byte changed.
fn changed(column: &str, kind: Type) -> String {
    let (at, bit) = (fastrand::u32(0..100_000), 1 << fastrand::u32(0..8));
    match kind {
        Type::Bytes => format!(
            "set_byte({column}, {at} % length({column}), get_byte({column}, {at} % length({column})) # {bit})"
        ),
        Type::Text => {
            let place = format!("{at} % length({column}) + 1");
            format!(
                "overlay({column} placing case substr({column}, {place}, 1) when 'z' then 'y' else 'z' end from {place} for 1)"
            )
        }
        Type::Number => format!("{column} # {}", 1_u64 << fastrand::u64(16..48)),
        Type::Small => format!("({column} # 64)::smallint"),
        Type::Bool => format!("not {column}"),
    }
}

/// Whether there is a byte to change.
fn there(column: &str, kind: Type) -> String {
    match kind {
        Type::Bytes | Type::Text => format!("{column} is not null and length({column}) > 0"),
        _ => format!("{column} is not null"),
    }
}

/// An error line about a row.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Alarm {
    tenant: String,
    table: String,
    key: String,
}

fn alarms(app: &App) -> BTreeSet<Alarm> {
    let log = app.log();
    let lines = log.lines().filter(|line| line.contains("a stored row is not as it was written"));
    let fields = lines
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|mut line| line["fields"].take());
    let text = |fields: &Value, name: &str| fields[name].as_str().unwrap_or_default().to_owned();
    fields
        .map(|f| Alarm { tenant: text(&f, "tenant"), table: text(&f, "table"), key: text(&f, "key") })
        .collect()
}

async fn ready(app: &App) -> Value {
    app.anonymous().get("/readyz").await.json()
}

/// How many whole passes the scrubber made.
async fn passes(app: &App) -> u64 {
    ready(app).await["scrub"]["passes"].as_u64().unwrap_or(0)
}

async fn await_passes(report: &mut Report, app: &App, goal: u64) {
    let begun = Instant::now();
    while passes(app).await < goal {
        if begun.elapsed() > Duration::from_secs(300) {
            return report.expect(false, || format!("the scrubber made {goal} passes not in five minutes"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
