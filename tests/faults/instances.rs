//! R14, R22 and M01: more than one instance, on one database, on an old one, on one that migrates, cut off from it.

use std::time::{Duration, Instant};

use acceptance::{
    App, Cluster, Stage, checker,
    cluster::{count, execute},
    load::{Askers, Told, Writers},
    standby::{Lead, Wire, copy_database},
};

use crate::{
    Plan, ground,
    report::Report,
    several::{becomes_ready, is_ready, moved, nothing_is_lost, says_yes, write},
};

/// R14: an old backup gives no yes; two instances on one database make one history.
pub async fn backup_and_second_instance(plan: Plan) -> Report {
    let mut report = Report::default();
    let goal = if plan.short { 100 } else { 1_000 };
    let app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let image = stage.world.image();
    let writers = Writers::start(&stage, 8);
    write(&mut report, &[&writers], goal, "before the backup").await;
    let old = Cluster::shared().await.database().await;
    let from = app.database().to_owned();
    let to = old.clone();
    // While writers write: a backup is one moment.
    tokio::task::spawn_blocking(move || copy_database(&from, &to)).await.expect("a backup");
    write(&mut report, &[&writers], goal, "after the backup").await;
    let mut acknowledged = writers.stop().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let builder = app.stop();

    let app = builder.clone().database(&old).launch();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        report.expect(!is_ready(&app.anonymous()).await, || "ready on an old backup".into());
        report.expect(!says_yes(&stage.afresh(&app.url), &image).await, || "a yes from an old backup".into());
        report.count("answers asked of the old backup", 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    app.stop();

    let one = builder.start().await;
    let two = one.builder.clone().beside(&one).start().await;
    let stage = moved(stage, &one);
    let (here, there) = (Writers::start(&stage, 8), Writers::start(&stage.afresh(&two.url), 8));
    write(&mut report, &[&here, &there], goal, "by two instances").await;
    acknowledged.extend(here.stop().await);
    acknowledged.extend(there.stop().await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (a, b) = (
        checker::check(&stage, &stage.tenant).await.checkpoint,
        checker::check(&stage.afresh(&two.url), &stage.tenant).await.checkpoint,
    );
    report.expect((a.size, a.root) == (b.size, b.root), || "two instances show two logs".into());
    nothing_is_lost(&mut report, &stage, &acknowledged).await;
    stage.judge().await.passes();
    one.log_is_clean();
    report
}

/// What takes the schema back to before `0020_lighter_writes.sql`, which makes indexes anew while others write.
const WITHOUT_ONE: &str = "delete from _sqlx_migrations where version = 20;
    alter table body alter column bytes set storage extended;
    drop index attestation_by_builder; create index attestation_by_builder on attestation (tenant, builder, log_index);
    drop index attestation_by_commit; create index attestation_by_commit on attestation (tenant, source_commit, log_index)";

/// R22: the schema is migrated under load while instances of before and after run side by side.
///
/// The first is an older version (`--before`), or this program on a schema without one of its migrations, which the second
/// then applies; a later one, as the next version would bring it, is applied under both, and one of them has to start again on it.
pub async fn rolling_upgrade(plan: Plan) -> Report {
    let mut report = Report::default();
    let goal = if plan.short { 50 } else { 500 };
    let one = App::builder().await.version(plan.before).start().await;
    let stage = Stage::in_app(&one).await.play_honest().await;
    let url = one.database().to_owned();
    if plan.before.is_none() {
        execute(&url, WITHOUT_ONE).await;
    }
    let applied = "select count(*) from _sqlx_migrations where success";
    let before = count(&url, applied).await;
    let writers = Writers::start(&stage, 8);
    write(&mut report, &[&writers], goal, "on the old schema").await;

    let two = one.builder.clone().version(None).beside(&one).start().await;
    let migrations = count(&url, applied).await - before;
    report.count("migrations under load", u64::try_from(migrations).unwrap_or_default());
    report.expect(migrations > 0 || plan.before.is_some(), || "the newer instance did not migrate".into());
    let others = Writers::start(&stage.afresh(&two.url), 8);
    write(&mut report, &[&writers, &others], goal, "after a migration").await;

    execute(
        &url,
        "alter table deployment add column later text; create index later on deployment (tenant, later);
         insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (999999, 'later', true, '\\x00', 0)",
    )
    .await;
    write(&mut report, &[&writers, &others], goal, "on a later schema").await;
    // One of before dies in the middle of it, and must come back.
    let two = two.kill().launch();
    report.expect(becomes_ready(&two.anonymous()).await, || {
        format!(
            "an instance does not start on a later schema: {}",
            two.log().lines().last().unwrap_or_default()
        )
    });
    write(&mut report, &[&others], goal, "after a restart").await;
    let mut acknowledged = writers.stop().await;
    acknowledged.extend(others.stop().await);
    nothing_is_lost(&mut report, &stage, &acknowledged).await;
    stage.judge().await.passes();
    stage.afresh(&two.url).verdict(&stage.world.image()).await.passes();
    two.log_is_clean();
    report
}

/// M01: three instances behind a balancer; one dies and one is cut off from the database, under load.
pub async fn three_instances(plan: Plan) -> Report {
    let mut report = Report::default();
    let goal = if plan.short { 100 } else { 1_000 };
    let one = App::start().await;
    let stage = Stage::in_app(&one).await.play_honest().await;
    let url = one.database().to_owned();
    let database = Wire::to(&[port_of(&url)]).await;
    let two = one.builder.clone().beside(&one).start().await;
    let over = url.replacen(&format!(":{}/", port_of(&url)), &format!(":{}/", database.port), 1);
    let three = one.builder.clone().beside(&one).database(&over).start().await;
    let balancer = Wire::to(&[port_of(&one.url), port_of(&two.url), port_of(&three.url)]).await;
    let everywhere = stage.afresh(&format!("http://127.0.0.1:{}", balancer.port));
    let writers = Writers::start(&everywhere, 12);
    let asked = Askers::start(&everywhere, &stage.world.image(), 6);
    write(&mut report, &[&writers], goal, "by three instances").await;

    database.lead(Lead::Hole);
    let two = two.kill();
    let struck = Instant::now();
    write(&mut report, &[&writers], goal, "with one instance dead and one cut off").await;
    // The one that is left revokes; the one that is cut off must not say yes from memory.
    stage.revoke_key(&stage.world.k_ci.id(), "stolen").await.is(200);
    let revoked = Instant::now();
    let (cut_off, image) = (stage.afresh(&three.url), stage.world.image());
    while revoked.elapsed() < Duration::from_secs(5) {
        for client in [&cut_off, &stage.afresh(&one.url)] {
            let answer = says_yes(client, &image);
            let yes = tokio::time::timeout(Duration::from_secs(2), answer).await.unwrap_or(false);
            report.expect(!yes, || "a yes on revoked evidence".into());
            report.count("verdicts after the revocation", 1);
        }
    }
    report.expect(!is_ready(&cut_off.anonymous()).await, || "an instance without a database is ready".into());

    database.lead(Lead::To(vec![port_of(&url)]));
    let two = two.start().await;
    report.expect(becomes_ready(&cut_off.anonymous()).await, || "it does not come back after the cut".into());
    write(&mut report, &[&writers], goal, "after all are back").await;
    through_the_balancer(&mut report, &asked.stop().await, struck, revoked);
    // Whoever is led to the dead one hears nothing.
    ground::answered(&mut report, &writers, &[0, 201, 503]);
    let acknowledged = writers.stop().await;
    nothing_is_lost(&mut report, &stage, &acknowledged).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for app in [&one, &two, &three] {
        let client = stage.afresh(&app.url);
        report.expect(!says_yes(&client, &stage.world.image()).await, || "a yes on revoked evidence".into());
        checker::check(&client, &stage.tenant).await;
    }
    one.log_is_clean();
    report
}

/// Deploy tools that know the balancer alone are answered all the time, and never with a yes that was taken away before they asked.
fn through_the_balancer(report: &mut Report, told: &[Told], struck: Instant, revoked: Instant) {
    let of = |test: &dyn Fn(&Told) -> bool| told.iter().filter(|t| test(t)).count() as u64;
    let odd = of(&|t| ![0, 200, 503].contains(&t.status));
    report.expect(odd == 0, || format!("{odd} verdicts with other statuses"));
    let before = of(&|t| t.asked < struck && t.allowed);
    let between = of(&|t| t.asked > struck && t.asked < revoked && t.allowed);
    report.expect(before > 0 && between > 0, || {
        format!("{before} times yes before, {between} with one instance left")
    });
    let after = of(&|t| t.asked > revoked && t.allowed);
    report.expect(after == 0, || format!("{after} times yes through the balancer after the revocation"));
    report.count("verdicts through the balancer", told.len() as u64);
    report.count("of them with one instance left", of(&|t| t.asked > struck && t.asked < revoked));
}

/// The port in a URL of this machine.
fn port_of(url: &str) -> u16 {
    let after = url.rsplit("127.0.0.1:").next().unwrap_or_default();
    after.split('/').next().and_then(|port| port.parse().ok()).expect("a port")
}
