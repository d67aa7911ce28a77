//! R19: what the service depends on is down, mute, or hostile.

use std::time::{Duration, Instant};

use acceptance::{
    App, Client, Stage, checker,
    jwt::{self, GITHUB, GITLAB, Issuer},
    listener::{Listener, Reply},
    load::{self, Acknowledged, Askers, Writers},
    proxy::{Proxy, Wire},
};
use serde_json::json;

use crate::{Plan, ground, report::Report};

const BEARER: &str = "a-bearer-for-notifications";

/// R19: issuer and registry are reset, mute, then lie. Verdicts and evidence that is verified offline need neither; CI tokens
/// are taken by the keys that are known; who knows none says so and when to come again.
pub async fn dependencies(plan: Plan) -> Report {
    let each = Duration::from_secs(if plan.short { 3 } else { 30 });
    let mut report = Report::default();
    let issuer = Issuer::new(GITHUB);
    let keys = Reply::Body("application/json", issuer.jwks().to_string().into_bytes());
    let (issuer_host, registry_host) = (Listener::start(keys).await, Listener::start(Reply::Stall).await);
    let issuer_wire = Proxy::open(port(&issuer_host.url)).await;
    let registry_wire = Proxy::open(port(&registry_host.url)).await;
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, &format!("http://127.0.0.1:{}/jwks", issuer_wire.port), registry_wire.port);
    let app = App::builder().await.config(&config).start().await;
    let stage = Stage::in_default(&app).await.play_honest().await;
    let image = stage.world.image();
    let writers = Writers::start(&stage, 2);
    let mut by_ci = Vec::new();
    by_token(&mut report, &stage, &app, &issuer, &mut by_ci, "while all is well").await;
    for (name, wire) in [("reset", None), ("mute", Some(Wire::black_hole()))] {
        for proxy in [&issuer_wire, &registry_wire] {
            match wire {
                Some(wire) => proxy.both(wire),
                None => proxy.refuse(true),
            }
            proxy.reset();
        }
        let asked = Askers::start(&stage, &image, 2);
        let begun = Instant::now();
        while begun.elapsed() < each {
            by_token(&mut report, &stage, &app, &issuer, &mut by_ci, name).await;
            unknown_key(&mut report, &app, &issuer, name).await;
            notified(&mut report, &app, name).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        ground::were_told(&mut report, &asked.stop().await, &[200], Duration::from_secs(2));
        stage.judge().await.passes();
        // One that starts now knows no key of the issuer.
        let other = app.builder.clone().beside(&app).start().await;
        let answer = submit(&other, &stage, &issuer.token(&issuer.github_claims())).await;
        let polite = !answer.header("retry-after").is_empty();
        report.expect((answer.status, polite) == (503, true), || {
            format!("{name}: without keys: {}", answer.show())
        });
        stage.at(&other.url).verdict(&image).await.passes();
        let own = stage.at(&other.url).submit(load::fresh(&stage.world.k_ci)).await;
        report.expect(own.status == 201, || format!("{name}: offline evidence: {}", own.show()));
        report.count("outages", 1);
        issuer_wire.heal();
        registry_wire.heal();
    }
    hostile(&mut report, &app, &stage, &issuer).await;
    ground::answered(&mut report, &writers, &[201, 503]);
    report.count("by CI tokens", by_ci.len() as u64);
    ground::settle(&mut report, &app, &stage, writers).await;
    let log = checker::check(&stage, &stage.tenant).await;
    let lost = load::lost(&log, &by_ci);
    report.expect(lost == 0, || format!("{lost} attestations by CI tokens are lost"));
    report
}

/// Issuers that answer something else than keys. A fresh service waits for none of them, and believes none.
async fn hostile(report: &mut Report, app: &App, stage: &Stage, issuer: &Issuer) {
    let elsewhere =
        Listener::start(Reply::Body("application/json", issuer.jwks().to_string().into_bytes())).await;
    for reply in [
        Reply::Redirect(elsewhere.url.clone()),
        Reply::Body("application/json", vec![b' '; 8 << 20]),
        Reply::Body("text/html", b"<html>".to_vec()),
        Reply::Body("application/json", br#"{"keys":[]}"#.to_vec()),
    ] {
        let shown = format!("{reply:.40?}");
        let host = Listener::start(reply).await;
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder, &format!("{}/jwks", host.url), 9);
        let mut builder = app.builder.clone().beside(app);
        builder = builder.without_config().config(&config);
        let other = builder.start().await;
        let begun = Instant::now();
        let answer = submit(&other, stage, &issuer.token(&issuer.github_claims())).await;
        report.longest("ms of a refused token at most", begun.elapsed());
        report.expect([401, 503].contains(&answer.status), || format!("{shown}: {}", answer.show()));
        report.expect(begun.elapsed() < Duration::from_secs(5), || format!("{shown}: {:?}", begun.elapsed()));
        stage.at(&other.url).verdict(&stage.world.image()).await.passes();
        report.count("hostile issuers", 1);
    }
    report.expect(elsewhere.calls() == 0, || "a redirect of an issuer was followed".to_owned());
}

/// A token of a known key is good, at once.
async fn by_token(
    report: &mut Report,
    stage: &Stage,
    app: &App,
    issuer: &Issuer,
    taken: &mut Vec<Acknowledged>,
    when: &str,
) {
    let begun = Instant::now();
    let answer = submit(app, stage, &issuer.token(&issuer.github_claims())).await;
    report.expect(answer.status == 201, || format!("a CI token, {when}: {}", answer.show()));
    report.longest("ms of a CI token at most", begun.elapsed());
    // A token whose key nobody knows may cost one fetch, which ends after three seconds.
    report.expect(begun.elapsed() < Duration::from_secs(5), || {
        format!("a CI token, {when}: {:?}", begun.elapsed())
    });
    if answer.status == 201 {
        let (id, index) = checker::acknowledged(&answer);
        taken.push(Acknowledged { id, index, bytes: String::new() });
    }
}

/// A token of an unknown key is refused, soon.
async fn unknown_key(report: &mut Report, app: &App, issuer: &Issuer, when: &str) {
    let token = issuer.sign(
        &json!({"alg": "RS256", "kid": format!("k-{}", acceptance::unique())}),
        &issuer.github_claims().to_string(),
    );
    let begun = Instant::now();
    let answer = Client::new(&app.url, Some(&token)).submit("{}").await;
    report
        .expect([401, 503].contains(&answer.status), || format!("an unknown key, {when}: {}", answer.show()));
    report.expect(begun.elapsed() < Duration::from_secs(5), || {
        format!("an unknown key, {when}: {:?}", begun.elapsed())
    });
}

/// A registry's notification is taken at once, whether or not the registry can be asked.
async fn notified(report: &mut Report, app: &App, when: &str) {
    let event = json!({"events": [{"id": "a", "timestamp": "2026-11-20T19:32:58Z", "action": "push",
        "target": {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": format!("sha256:{}", "1".repeat(64)),
                   "repository": "acme/app", "tag": "1"}, "request": {}, "actor": {}, "source": {}}]});
    let begun = Instant::now();
    let answer = Client::new(&app.url, Some(BEARER)).post("/v1/events/distribution", &event).await;
    report
        .expect([202, 503].contains(&answer.status), || format!("a notification, {when}: {}", answer.show()));
    report.expect(begun.elapsed() < Duration::from_secs(1), || {
        format!("a notification, {when}: {:?}", begun.elapsed())
    });
}

async fn submit(app: &App, stage: &Stage, token: &str) -> acceptance::Answer {
    Client::new(&app.url, Some(token)).submit(stage.world.build_envelope().to_bytes()).await
}

fn config(folder: &tempfile::TempDir, jwks: &str, registry: u16) -> String {
    let file = folder.path().join("gitlab.json");
    std::fs::write(&file, Issuer::new(GITLAB).jwks().to_string()).unwrap();
    let issuers = jwt::config_with(
        &format!("jwks_url = {jwks:?}"),
        &format!("jwks_file = {:?}", file.display().to_string()),
    );
    format!(
        "{issuers}\n[[registry]]\nname = \"registry.elsewhere.test\"\nurl = \"http://127.0.0.1:{registry}\"\ntenant = \"default\"\nnotification_token = \"{BEARER}\"\n"
    )
}

fn port(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap()
}
