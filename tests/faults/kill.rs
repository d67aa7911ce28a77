//! R01: the service is killed while it writes.

use std::time::{Duration, Instant};

use acceptance::{
    App, Stage, checker,
    load::{self, Writers},
};

use crate::{Plan, report::Report};

/// kill -9 of the service at random moments under 16 writers: nothing that was acknowledged is lost.
pub async fn service(plan: Plan) -> Report {
    // So many that "0 lost" says something: 1.5 in 10,000 at most, 19 times of 20.
    let (cycles, enough) = if plan.short { (20, 0) } else { (200, 20_000) };
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut report = Report::default();
    let mut app = App::start().await;
    let stage = Stage::in_app(&app).await.play_honest().await;
    let writers = Writers::start(&stage, 16);
    let mut slowest = Duration::ZERO;
    let mut cycle = 0;
    while cycle < cycles || (writers.acknowledged() < enough && cycle < 5 * cycles) {
        cycle += 1;
        let went_on = writers.progress(1, Duration::from_secs(10)).await;
        report.expect(went_on, || format!("nothing was acknowledged in cycle {cycle}"));
        tokio::time::sleep(Duration::from_millis(random.u64(0..2000))).await;
        let killed = Instant::now();
        app = app.kill().start().await;
        slowest = slowest.max(killed.elapsed());
    }
    let odd: Vec<_> = writers.statuses().into_keys().filter(|s| ![0, 201, 503].contains(s)).collect();
    report.expect(odd.is_empty(), || format!("statuses {odd:?}"));
    let acknowledged = writers.stop().await;
    let log = checker::check(&stage, &stage.tenant).await;
    let lost = load::lost(&log, &acknowledged);
    report.count("kills", cycle);
    report.count("acknowledged", acknowledged.len() as u64);
    report.count("lost", lost);
    report.count("ms to ready at most", u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX));
    report.expect(lost == 0, || format!("{lost} acknowledged attestations are lost"));
    report.expect(slowest < Duration::from_secs(10), || format!("ready only after {slowest:?}"));
    report.expect(acknowledged.len() >= enough, || "too few were acknowledged to tell".to_owned());
    report.count("read back", load::kept(&stage, &log, &acknowledged, 500).await);
    stage.judge().await.passes();
    app.log_is_clean();
    report
}
