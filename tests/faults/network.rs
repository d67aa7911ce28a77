//! R08, R09, R10: clients that hang up while the database is far away, a bad wire, no wire at all.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use acceptance::{
    App, Cluster, Stage, checker,
    cluster::free_port,
    load::{self, Acknowledged, Askers, Told, Writers, fresh},
    proxy::{Direction, Proxy, Wire},
};
use catenary_testkit::Key;
use reqwest::Method;

use crate::{
    Plan,
    ground::{self, Ground, RECOVERY},
    report::Report,
};

/// How soon everything works again on a wire that is mended: connections that lead nowhere are found out first.
const HEALED: Duration = Duration::from_secs(10);

/// R08: the database is 300 ms away and clients hang up at random; then others write as usual. No connection may come back
/// inside a transaction that a cancelled `begin` opened.
pub async fn clients_hang_up(plan: Plan) -> Report {
    let (storm, normal) = if plan.short { (150, 200) } else { (2_000, 1_000) };
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut report = Report::default();
    let ground = Ground::new(&[]).await;
    ground.proxy.set(Direction::Down, Wire::late(Duration::from_millis(300)));
    let (stage, key) = (&ground.stage, Key::ed25519("load"));
    let mut attempts = Vec::new();
    for n in 0..storm {
        // One reads, one writes; each with a connection of its own that ends with it.
        let client = stage.afresh(&stage.url);
        let (bytes, image) = (fresh(&key), acceptance::http::escape(&stage.world.image()));
        let patience = Duration::from_millis(random.u64(1..2_500));
        attempts.push(tokio::spawn(async move {
            let asks = async {
                match n % 3 {
                    0 => {
                        client
                            .get(&format!("/v1/verdict?image={image}&environment=prod&ctx.n={n}"))
                            .await
                            .status
                    }
                    _ => client.submit(bytes).await.status,
                }
            };
            tokio::time::timeout(patience, asks).await.is_err()
        }));
        if n % 20 == 19 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let mut hung_up = 0;
    for attempt in attempts {
        hung_up += u64::from(attempt.await.unwrap_or(true));
    }
    report.count("clients that hung up", hung_up);
    report.expect(hung_up > storm / 10, || format!("only {hung_up} hung up"));
    // Before the server's own limit would end such a transaction and hide it.
    let mut idle = 0;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        idle = idle.max(ground::idle_in_transaction(&ground, 2).await);
    }
    ground.proxy.heal();
    let mut acknowledged = Vec::new();
    let mut odd = Vec::new();
    for _ in 0..normal / 20 {
        let posts: Vec<_> = (0..20)
            .map(|_| {
                let (client, bytes) = (stage.admin.clone(), fresh(&key));
                tokio::spawn(async move { (client.submit(bytes.clone()).await, bytes) })
            })
            .collect();
        for post in posts {
            let (answer, bytes) = post.await.unwrap();
            if answer.status == 201 {
                let (id, index) = checker::acknowledged(&answer);
                acknowledged.push(Acknowledged { id, index, bytes });
            } else {
                odd.push(answer.status);
            }
        }
    }
    report.expect(odd.is_empty(), || format!("ordinary ingests were answered {odd:?}"));
    let log = checker::check(stage, &stage.tenant).await;
    let lost = load::lost(&log, &acknowledged);
    report.count("acknowledged", acknowledged.len() as u64);
    report.count("lost", lost);
    report.expect(lost == 0, || format!("{lost} acknowledged attestations are lost"));
    report.count("read back", load::kept(stage, &log, &acknowledged, 50).await);
    idle = idle.max(ground::idle_in_transaction(&ground, 2).await);
    let connections = ground::connections(&ground).await;
    report.expect(connections <= ground::CONNECTIONS, || format!("{connections} connections"));
    report.count("idle in transaction", idle);
    report.expect(idle == 0, || format!("{idle} connections lie inside a transaction"));
    let postgres = std::fs::read_to_string(ground.cluster.folder().join("postgres.log")).unwrap_or_default();
    let aborted = postgres.matches("current transaction is aborted").count()
        + ground.app.log().matches("25P02").count();
    report.count("25P02", aborted as u64);
    report.expect(aborted == 0, || "statements ran in an aborted transaction".to_owned());
    stage.judge().await.passes();
    ground.app.log_is_clean();
    report
}

/// R09: a wire to the database that is late, narrow, reset, half open, and a black hole; and the same to the clients.
pub async fn is_bad(plan: Plan) -> Report {
    let each = Duration::from_secs(if plan.short { 5 } else { 30 });
    let mut report = Report::default();
    let ground = Ground::new(&[]).await;
    let image = ground.stage.world.image();
    let port = ground.app.url.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap();
    let clients = Proxy::open(port).await;
    let near = ground.stage.at(&format!("http://127.0.0.1:{}", clients.port));
    let writers = Writers::start(&ground.stage, 4);
    let far = Writers::start(&near, 4);
    let uneven = Wire { jitter: Duration::from_millis(100), ..Wire::late(Duration::from_millis(200)) };
    let narrow = Wire { rate: 125_000, ..Wire::default() };
    let stalled = Wire { stall_after: 20_000, ..Wire::default() };
    for (name, wire, works) in [
        ("late", uneven, true),
        ("narrow", narrow, true),
        ("stalled", stalled, false),
        ("black hole", Wire::black_hole(), false),
    ] {
        writers.progress(1, Duration::from_secs(10)).await;
        let before = writers.acknowledged();
        let asked = Askers::start(&ground.stage, &image, 2);
        // A transaction has a dozen round trips.
        ground.proxy.set(Direction::Down, wire);
        if !works {
            ground.proxy.set(Direction::Up, wire);
        }
        clients.both(wire);
        tokio::time::sleep(each).await;
        if works {
            let written =
                writers.acknowledged() > before || writers.progress(1, Duration::from_secs(20)).await;
            report.expect(written, || format!("nothing is written while the wire is {name}"));
        }
        ground.proxy.heal();
        clients.heal();
        let healed = Instant::now();
        ground::recovers(&mut report, &writers, healed, HEALED).await;
        ground::recovers(&mut report, &far, healed, HEALED).await;
        ground::answers_again(&mut report, &ground.stage, &image, healed, HEALED).await;
        ground::were_told(&mut report, &asked.stop().await, &[200, 503], Duration::from_secs(8));
    }
    let begun = Instant::now();
    while begun.elapsed() < each {
        ground.proxy.reset();
        clients.reset();
        tokio::time::sleep(Duration::from_millis(200)).await;
        ground.proxy.half_close(if fastrand::bool() { Direction::Up } else { Direction::Down });
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let calm = Instant::now();
    ground::recovers(&mut report, &writers, calm, HEALED).await;
    ground::recovers(&mut report, &far, calm, HEALED).await;
    let slowest = writers.took().last().copied().unwrap_or_default();
    report.longest("ms of an ingest at most", slowest);
    // A head to be read (2 s), the write (5 s), and what the wire and a busy machine add.
    report.expect(slowest < Duration::from_secs(10), || format!("an ingest took {slowest:?}"));
    // Beyond their own bad wire, clients may hear nothing; never anything else.
    ground::answered(&mut report, &far, &[0, 201, 503]);
    let acknowledged = far.stop().await;
    ground.settle(&mut report, writers).await;
    let log = checker::check(&ground.stage, &ground.stage.tenant).await;
    let lost = load::lost(&log, &acknowledged);
    report.count("acknowledged", acknowledged.len() as u64);
    report.count("lost", lost);
    report.expect(lost == 0, || format!("{lost} of those beyond the bad wire are lost"));
    report
}

/// R10: the service is cut off from its database. No yes comes from memory for longer than the lease.
pub async fn is_cut(plan: Plan) -> Report {
    let cut = Duration::from_secs(if plan.short { 6 } else { 60 });
    let mut report = Report::default();
    match Namespace::new() {
        Ok(namespace) => through_namespace(&mut report, &namespace, cut).await,
        Err(why) => {
            report.skip("network namespace", &format!("{why}; a black hole in the proxy instead"));
            let ground = Ground::new(&[]).await;
            let change = |up: bool| ground.proxy.both(if up { Wire::default() } else { Wire::black_hole() });
            partition(&mut report, &ground.app, &ground.stage, change, cut).await;
        }
    }
    report
}

async fn through_namespace(report: &mut Report, namespace: &Namespace, cut: Duration) {
    let cluster = Cluster::private(&["fsync=on", "listen_addresses=*"]).await;
    let allowed = cluster.folder().join("data/pg_hba.conf");
    let rules = std::fs::read_to_string(&allowed).unwrap()
        + &format!("host all all {} trust\n", namespace.database.network());
    std::fs::write(&allowed, rules).unwrap();
    cluster.execute("postgres", "select pg_reload_conf()").await;
    let url = cluster.database().await.replace("127.0.0.1", &namespace.database.outside());
    let listen = format!("{}:{}", namespace.clients.inside(), free_port());
    let builder = acceptance::Builder::default().database(&url).env("CATENARY_LISTEN", &listen);
    let mut app = builder.wrapper(&["ip", "netns", "exec", &namespace.name]).launch();
    app.url = format!("http://{listen}");
    let begun = Instant::now();
    while app
        .anonymous()
        .try_send(app.anonymous().request(Method::GET, "/readyz"))
        .await
        .map_or(0, |a| a.status)
        != 200
    {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the service is not ready in its namespace: {}",
            app.log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let stage = Stage::in_app(&app).await.play_honest().await;
    partition(report, &app, &stage, |up| namespace.link(up), cut).await;
}

/// Cuts the wire under load, and mends it.
async fn partition(report: &mut Report, app: &App, stage: &Stage, link: impl Fn(bool), cut: Duration) {
    let image = stage.world.image();
    let writers = Writers::start(stage, 4);
    let asked = Askers::start(stage, &image, 4);
    writers.progress(10, Duration::from_secs(10)).await;
    let parted = Instant::now();
    link(false);
    tokio::time::sleep(cut).await;
    let mended = Instant::now();
    link(true);
    ground::recovers(report, &writers, mended, RECOVERY).await;
    ground::answers_again(report, stage, &image, mended, RECOVERY).await;
    let told = asked.stop().await;
    // The lease is one second; an answer that was on its way as it ended may still arrive a little later.
    let arrived = |t: &Told| t.asked + t.took;
    let late = |t: &&Told| arrived(t) > parted + Duration::from_millis(1_250) && arrived(t) < mended;
    let yes = told.iter().filter(late).filter(|t| t.allowed).count();
    report.count("verdicts while cut off", told.iter().filter(late).count() as u64);
    report.count("yes beyond the lease", yes as u64);
    report.expect(yes == 0, || format!("{yes} answers from memory after the lease"));
    report.expect(told.iter().filter(late).count() > 0, || "nothing was answered while cut off".to_owned());
    ground::were_told(report, &told, &[200, 503], Duration::from_secs(8));
    ground::answered(report, &writers, &[201, 503]);
    let slowest = writers.took().last().copied().unwrap_or_default();
    report.longest("ms of an ingest at most", slowest);
    report.expect(slowest < Duration::from_secs(10), || format!("an ingest took {slowest:?}"));
    ground::settle(report, app, stage, writers).await;
}

/// A network namespace with two wires: one to the clients, one to the database.
struct Namespace {
    name: String,
    clients: Veth,
    database: Veth,
}

/// A pair of interfaces, one end inside.
struct Veth {
    name: String,
    network: u8,
}

impl Veth {
    fn outside(&self) -> String {
        format!("10.231.{}.1", self.network)
    }

    fn inside(&self) -> String {
        format!("10.231.{}.2", self.network)
    }

    fn network(&self) -> String {
        format!("10.231.{}.0/24", self.network)
    }
}

impl Namespace {
    fn new() -> Result<Self, String> {
        let id = std::process::id() % 10_000;
        let network = fastrand::u8(0..120) * 2;
        let veth = |kind: &str, network| Veth { name: format!("ct{kind}{id}"), network };
        let namespace = Self {
            name: format!("catenary{id}"),
            clients: veth("c", network),
            database: veth("d", network + 1),
        };
        let name = namespace.name.as_str();
        ip(&["netns", "add", name])?;
        ip(&["netns", "exec", name, "ip", "link", "set", "lo", "up"])?;
        for veth in [&namespace.clients, &namespace.database] {
            let (outer, inner) = (veth.name.as_str(), format!("{}i", veth.name));
            ip(&["link", "add", outer, "type", "veth", "peer", "name", &inner, "netns", name])?;
            ip(&["addr", "add", &format!("{}/24", veth.outside()), "dev", outer])?;
            ip(&["link", "set", outer, "up"])?;
            let within = ["netns", "exec", name, "ip"];
            ip(&[&within[..], &["addr", "add", &format!("{}/24", veth.inside()), "dev", &inner]].concat())?;
            ip(&[&within[..], &["link", "set", &inner, "up"]].concat())?;
        }
        Ok(namespace)
    }

    /// Plugs the wire to the database in, or out.
    fn link(&self, up: bool) {
        ip(&["link", "set", &self.database.name, if up { "up" } else { "down" }]).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for veth in [&self.clients, &self.database] {
            let _ = ip(&["link", "del", &veth.name]);
        }
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let run = Command::new("ip").args(arguments).output().map_err(|e| format!("ip: {e}"))?;
    if run.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&run.stderr).trim()))
}
