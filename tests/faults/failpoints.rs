//! R02: the service dies at each place where dying could leave something half done.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use acceptance::{
    App, Client, Stage,
    checker::{self, Checked},
    jwt::{self, Issuer},
    load::{self, Acknowledged},
};
use catenary_testkit::Key;
use reqwest::Method;
use serde_json::json;

use crate::{Plan, report::Report};

/// As `catenary_store::failpoint::POINTS`: a name that the service does not know makes it end at once, without a hit.
const POINTS: [(&str, u64); 14] = [
    ("jwks.refresh", 1),
    ("bodies.before_insert", 20),
    ("bodies.after_insert", 20),
    ("entries.before_insert", 20),
    ("entries.after_insert", 20),
    ("append.before_commit", 20),
    ("append.after_commit", 20),
    ("checkpoint.sign", 20),
    ("ingest.before_response", 20),
    ("checkpoint.before_write", 3),
    ("checkpoint.before_rename", 3),
    ("checkpoint.after_rename", 3),
    ("decisions.before_commit", 3),
    ("verdict.sign", 10),
];

/// What was sent, and what was acknowledged of it.
#[derive(Debug, Default)]
struct Journal {
    sent: Mutex<Vec<String>>,
    acknowledged: Mutex<Vec<Acknowledged>>,
}

impl Journal {
    /// A service that is away refuses connections by the thousand; a few of what was sent tell as much.
    fn unanswered(&self, bytes: String) {
        let mut sent = self.sent.lock().expect("no panic");
        if sent.len() < 50 {
            sent.push(bytes);
        }
    }
}

/// kill -9 at every failpoint, five times each at another hit, and one failure there that the service must survive.
pub async fn every(plan: Plan) -> Report {
    let mut report = Report::default();
    if !cfg!(feature = "failpoints") {
        report.expect(false, || {
            "R02 needs a service with failpoints: cargo run -p acceptance --features failpoints --bin faults -- R02".into()
        });
        return report;
    }
    let rounds = if plan.short { 1 } else { 5 };
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let (github, gitlab) = (Issuer::new(jwt::GITHUB), Issuer::new(jwt::GITLAB));
    let folder = tempfile::tempdir().expect("a folder");
    let config = jwt::config(folder.path(), &github, &gitlab);
    let calm = App::builder().await.config(&config);
    let mut app = calm.start().await;
    let stage = Stage::in_default(&app).await.play_honest().await;
    let calm = app.builder.clone();
    let journal = Arc::new(Journal::default());
    for (point, most) in POINTS {
        for round in 0..=rounds {
            let dies = round < rounds;
            let action = if dies { "abort" } else { "error" };
            let armed = format!("{point}={}:{action}", random.u64(1..=most));
            drop(app.stop());
            app = calm.clone().env("CATENARY_FAILPOINTS", &armed).launch();
            let load = Load::start(&stage, &github, &journal);
            if dies {
                let died = gone(&app, Duration::from_secs(30)).await;
                report.expect(died, || format!("{armed} was never reached"));
                report.count("deaths", u64::from(died));
            } else {
                tokio::time::sleep(Duration::from_secs(3)).await;
                report.expect(app.process.is_running(), || format!("the service did not survive {armed}"));
                report.count("errors survived", 1);
            }
            load.stop().await;
            drop(app.kill());
            app = settle(&calm, &stage, &journal, &armed, &mut report).await;
        }
    }
    let log = checker::check(&stage, &stage.tenant).await;
    let acknowledged = journal.acknowledged.lock().expect("no panic").clone();
    let lost = load::lost(&log, &acknowledged);
    report.count("acknowledged", acknowledged.len() as u64);
    report.count("lost", lost);
    report.expect(lost == 0, || format!("{lost} acknowledged attestations are lost"));
    report.count("read back", load::kept(&stage, &log, &acknowledged, 200).await);
    app.log_is_clean();
    report
}

/// Whether the process ends in time.
async fn gone(app: &App, limit: Duration) -> bool {
    let begun = Instant::now();
    while app.process.is_running() {
        if begun.elapsed() > limit {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

/// After a death: start without failpoints, send again what was not acknowledged, and compare.
async fn settle(
    calm: &acceptance::Builder,
    stage: &Stage,
    journal: &Journal,
    armed: &str,
    report: &mut Report,
) -> App {
    let app = calm.clone().start().await;
    let before = checker::check(stage, &stage.tenant).await;
    let sent = std::mem::take(&mut *journal.sent.lock().expect("no panic"));
    for bytes in sent {
        let first = again(stage, &bytes, armed, report).await;
        let second = again(stage, &bytes, armed, report).await;
        report.expect(first.is_some() && first == second, || format!("{armed}: {first:?}, then {second:?}"));
        let Some((id, index)) = first else { continue };
        // What was there after the death has kept its place, and nothing has two.
        let place = before.index_of.get(id.trim_start_matches("sha256:"));
        report.expect(place.is_none_or(|at| *at == index), || {
            format!("{armed}: {id} at {place:?} and {index}")
        });
        report.count("sent again", 1);
    }
    holds(&before, stage, journal, armed, report);
    stage.judge().await.passes();
    app
}

fn holds(log: &Checked, stage: &Stage, journal: &Journal, armed: &str, report: &mut Report) {
    let acknowledged = journal.acknowledged.lock().expect("no panic");
    let lost = load::lost(log, &acknowledged);
    report.expect(lost == 0, || format!("{lost} of {} are lost after {armed}", stage.tenant));
}

async fn again(stage: &Stage, bytes: &str, armed: &str, report: &mut Report) -> Option<(String, u64)> {
    let answer = stage.submit(bytes.to_owned()).await;
    report.expect([200, 201].contains(&answer.status), || format!("{armed}: {}", answer.show()));
    [200, 201].contains(&answer.status).then(|| checker::acknowledged(&answer))
}

/// Clients that pass every failpoint.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(stage: &Stage, issuer: &Issuer, journal: &Arc<Journal>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let key = Key::ed25519("failpoints");
        let mut tasks: Vec<_> = (0..4)
            .map(|_| tokio::spawn(write(stage.admin.clone(), key.clone(), stop.clone(), journal.clone())))
            .collect();
        let token = issuer.token(&issuer.github_claims());
        tasks.push(tokio::spawn(ask(stage.admin.clone(), token, stage.world.image(), stop.clone())));
        Self { stop, tasks }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

async fn write(client: Client, key: Key, stop: Arc<AtomicBool>, journal: Arc<Journal>) {
    while !stop.load(Ordering::Relaxed) {
        let bytes = load::fresh(&key);
        let request = client
            .request(Method::POST, "/v1/attestations")
            .header("content-type", "application/json")
            .timeout(Duration::from_secs(5));
        let answer = client.try_send(request.body(bytes.clone())).await;
        match answer {
            Ok(answer) if answer.status == 201 => {
                let (id, index) = checker::acknowledged(&answer);
                let mut all = journal.acknowledged.lock().expect("no panic");
                all.push(Acknowledged { id, index, bytes });
            }
            _ => {
                journal.unanswered(bytes);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Signed verdicts, recorded decisions and a CI's token.
async fn ask(client: Client, token: String, image: String, stop: Arc<AtomicBool>) {
    let ci = client.with(&token);
    let limit = Duration::from_secs(5);
    while !stop.load(Ordering::Relaxed) {
        let path = format!("/v1/gate?image={}&environment=prod", acceptance::http::escape(&image));
        let body = json!({"image": image, "environment": "prod"}).to_string();
        let signed =
            client.request(Method::POST, "/v1/verdict/vsa").header("content-type", "application/json");
        let posted = ci.request(Method::POST, "/v1/attestations").header("content-type", "application/json");
        let _ = client.try_send(client.request(Method::GET, &path).timeout(limit)).await;
        let _ = client.try_send(signed.body(body).timeout(limit)).await;
        let _ = ci.try_send(posted.body("{}").timeout(limit)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
