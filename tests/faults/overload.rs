//! R15, R20, R21: more work than there is machine.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use acceptance::{App, Client, Cluster, Stage, checker, http::escape};
use catenary_testkit::authority::{Authority, Claims, Leaf};
use serde_json::json;

use crate::{
    Plan,
    machine::{self, Group},
    report::Report,
    wire::{self, Seen, Wire, quantile},
};

const MIB: u64 = 1024 * 1024;
/// Connections that offer ten times as much as can be served.
const FLOOD: usize = 600;
/// Verdicts that are asked for, each second, beside everything else.
const VERDICTS: f64 = 50.0;

/// A service on a core of its own, with a tenant that trusts a keyless authority.
struct Scene {
    app: App,
    cluster: Cluster,
    stage: Stage,
    bundles: Arc<Bundles>,
}

/// Bundles that nobody has seen, made ahead: signing must not cost what is measured.
struct Bundles {
    ready: Mutex<Vec<Vec<u8>>>,
    authority: Authority,
    leaf: Leaf,
    client: Client,
}

impl Scene {
    async fn new() -> Self {
        Self::through(&[]).await
    }

    /// The same with a service that is started through another program.
    async fn through(wrapper: &[&str]) -> Self {
        let cluster = Cluster::private(&[]).await;
        let builder = App::builder().await.database(&cluster.database().await).env("RUST_LOG", "warn");
        let two = machine::has_two_cores();
        let core: &[&str] = if two { &["taskset", "-c", "0"] } else { &[] };
        let app = builder.wrapper(&[wrapper, core].concat()).start().await;
        let stage = Stage::in_app(&app).await.play_honest().await;
        let authority = Authority::at("overload", acceptance::now());
        let root = json!({"domain": "overload", "document": authority.trusted_root().to_json()});
        stage.post("/v1/trust", &root).await.is(201);
        let bundles = Bundles::new(&stage, authority);
        bundles.provide(1);
        let first = bundles.take().expect("one was signed");
        let kept = Wire::to(&stage).ask(&first).await.expect("it answers");
        assert_eq!(kept.status, 201, "a keyless bundle is taken");
        if two {
            machine::pin(cluster.pid(), 0);
            machine::pin(std::process::id(), 1);
        }
        Self { app, cluster, stage, bundles: Arc::new(bundles) }
    }

    /// What must hold after anything: nothing lost, one clean log, the same verdict.
    async fn check(self, report: &mut Report, acknowledged: u64) {
        machine::unpin(std::process::id());
        let log = checker::check(&self.stage, &self.stage.tenant).await;
        let entries = log.leaves.len() as u64;
        report
            .expect(entries >= acknowledged, || format!("{acknowledged} acknowledged, {entries} in the log"));
        self.stage.judge().await.passes();
        self.app.log_is_clean();
        self.app.never_panicked();
        drop(self.cluster);
    }
}

impl Bundles {
    fn new(client: &Client, authority: Authority) -> Self {
        let claims =
            Claims::github("acme/app", ".github/workflows/release.yml", "refs/heads/main", &"a1".repeat(20));
        let leaf = authority.leaf(&claims).issue();
        Self { ready: Mutex::default(), authority, leaf, client: client.clone() }
    }

    /// Signs until so many are ready.
    fn provide(&self, n: usize) {
        let ready = lock(&self.ready).len();
        let new: Vec<_> = (ready..n).map(|_| self.sign()).collect();
        lock(&self.ready).extend(new);
    }

    fn sign(&self) -> Vec<u8> {
        let digest = format!("{:064x}", acceptance::unique());
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "registry.test/acme/app", "digest": {"sha256": digest}}],
            "predicateType": "https://acme.test/load/v1", "predicate": {"n": acceptance::unique()}
        });
        let bundle = self.authority.attest(&self.leaf, &statement.to_string()).timestamp().to_json();
        wire::post(&self.client, "/v1/attestations", &bundle)
    }

    fn take(&self) -> Option<Vec<u8>> {
        lock(&self.ready).pop()
    }

    /// One that was not taken is still new.
    fn back(&self, bundle: Vec<u8>) {
        lock(&self.ready).push(bundle);
    }
}

/// Signs beside what goes on, so that so many are always ready, until it is dropped.
struct Signing(Arc<AtomicBool>);

impl Signing {
    fn keep(bundles: &Arc<Bundles>, n: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, bundles) = (stop.clone(), bundles.clone());
        std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                if lock(&bundles.ready).len() < n {
                    let bundle = bundles.sign();
                    bundles.back(bundle);
                } else {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        Self(stop)
    }
}

impl Drop for Signing {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no sender panics")
}

/// What senders saw.
#[derive(Debug, Default)]
struct Tally {
    statuses: BTreeMap<u16, u64>,
    unanswered: u64,
    no_retry_after: u64,
    refused_in: Vec<Duration>,
    served_in: Vec<Duration>,
    /// Of those, before the time was over.
    served_within: u64,
}

impl Tally {
    fn note(&mut self, seen: Option<Seen>) {
        let Some(seen) = seen else {
            self.unanswered += 1;
            return;
        };
        *self.statuses.entry(seen.status).or_default() += 1;
        if seen.status < 400 {
            self.served_in.push(seen.took);
        } else {
            self.refused_in.push(seen.took);
            self.no_retry_after += u64::from(!seen.retry_after);
        }
    }

    fn served(&self) -> u64 {
        self.served_in.len() as u64
    }

    fn all(&self) -> u64 {
        self.served() + self.refused_in.len() as u64 + self.unanswered
    }
}

/// Sends keyless bundles for a while: `rate` a second whatever comes back, or as fast as each is answered.
async fn ingest(scene: &Scene, connections: usize, rate: Option<f64>, time: Duration) -> Tally {
    let (tally, slot) = (Arc::new(Mutex::new(Tally::default())), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (tally, slot, bundles) = (tally.clone(), slot.clone(), scene.bundles.clone());
            let mut wire = Wire::to(&scene.stage);
            tokio::spawn(async move {
                loop {
                    if let Some(rate) = rate {
                        let at = slot.fetch_add(1, Ordering::Relaxed) as f64 / rate;
                        tokio::time::sleep_until((begun + Duration::from_secs_f64(at)).into()).await;
                    }
                    if begun.elapsed() >= time {
                        return;
                    }
                    let Some(bundle) = bundles.take() else {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        continue;
                    };
                    let seen = wire.ask(&bundle).await.ok();
                    if seen.is_none_or(|seen| seen.status >= 400) {
                        bundles.back(bundle);
                    }
                    let mut tally = lock(&tally);
                    tally.served_within +=
                        u64::from(begun.elapsed() <= time && seen.is_some_and(|seen| seen.status < 400));
                    tally.note(seen);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a sender does not panic");
    }
    std::mem::take(&mut *lock(&tally))
}

/// Asks for verdicts at a rate until told to stop: every other one is a question that nobody asked before.
struct Asking {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Tally>,
}

impl Asking {
    fn start(stage: &Stage, rate: f64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, client, image) = (stop.clone(), stage.admin.clone(), escape(&stage.world.image()));
        let task = tokio::spawn(async move {
            let tally = Arc::new(Mutex::new(Tally::default()));
            let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            let idle: Arc<Mutex<Vec<Wire>>> = Arc::default();
            let mut open = Vec::new();
            for n in 0_u64.. {
                tick.tick().await;
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let new = if n % 2 == 0 { String::new() } else { format!("&ctx.n={}", acceptance::unique()) };
                let path = format!("/v1/verdict?image={image}&environment=prod{new}");
                let request = wire::get(&client, &path);
                let mut wire = lock(&idle).pop().unwrap_or_else(|| Wire::to(&client));
                let (tally, idle) = (tally.clone(), idle.clone());
                open.push(tokio::spawn(async move {
                    let seen = wire.ask(&request).await.ok();
                    lock(&tally).note(seen);
                    lock(&idle).push(wire);
                }));
            }
            for one in open {
                one.await.expect("an asker does not panic");
            }
            std::mem::take(&mut *lock(&tally))
        });
        Self { stop, task }
    }

    async fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("askers do not panic")
    }
}

/// How much is served when nobody asks for more: the best of a ramp, a second.
async fn capacity(scene: &Scene, step: Duration, acknowledged: &mut u64) -> f64 {
    let mut best = 20.0_f64;
    for connections in [4, 8, 32, 96] {
        // What a step may take if it is twice as fast as the fastest before it.
        scene.bundles.provide((2.0 * best * step.as_secs_f64()) as usize);
        let asking = Asking::start(&scene.stage, VERDICTS);
        let tally = ingest(scene, connections, None, step).await;
        let served = tally.served_within as f64 / step.as_secs_f64();
        eprintln!("{connections} connections: {served:.0} a second");
        *acknowledged += tally.served();
        asking.stop().await;
        best = best.max(served);
    }
    best
}

/// Ten times what can be served: verdicts first, as much work done as before, and a quick no to the rest.
pub async fn ten_times(plan: Plan) -> Report {
    let mut report = Report::default();
    let (step, time) = if plan.short { (2, 10) } else { (5, 600) };
    let (step, time) = (Duration::from_secs(step), Duration::from_secs(time));
    let group = Group::new("memory", "memory.limit_in_bytes", &(512 * MIB).to_string());
    if group.is_none() {
        report.skip("the limit of memory", "no memory controller; what is resident is looked at instead");
    }
    let into: Vec<String> = group.iter().flat_map(Group::wrapper).collect();
    let scene = Scene::through(&into.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut acknowledged = 1;
    let rate = capacity(&scene, step, &mut acknowledged).await;
    // What every connection holds, and some seconds of what is served.
    scene.bundles.provide((5.0 * rate) as usize + 2 * FLOOD);
    let signing = Signing::keep(&scene.bundles, rate as usize + 300);
    let mut calm = baseline(&scene, &mut acknowledged).await;
    let usual = quantile(&mut calm, 0.5);
    let asking = Asking::start(&scene.stage, VERDICTS);
    let seconds = time.as_secs_f64();
    let mut flood = ingest(&scene, FLOOD, Some(10.0 * rate), time).await;
    let ended = Instant::now();
    let mut verdicts = asking.stop().await;
    drop(signing);
    let mut recovered = None;
    while ended.elapsed() < Duration::from_secs(20) {
        let mut now = baseline(&scene, &mut acknowledged).await;
        if quantile(&mut now, 0.5) <= 2 * usual + 20 {
            recovered = Some(ended.elapsed());
            break;
        }
    }
    acknowledged += flood.served();
    let goodput = flood.served_within as f64 / seconds;
    let in_time = verdicts.served_in.iter().filter(|t| **t <= Duration::from_millis(250)).count() as f64;
    let in_time = in_time / verdicts.all().max(1) as f64;
    let refused = quantile(&mut flood.refused_in, 0.99);
    report.count("served a second at capacity", rate as u64);
    report.count("offered a second", (flood.all() as f64 / seconds) as u64);
    report.count("served a second under overload", goodput as u64);
    report.count("% of capacity", (100.0 * goodput / rate) as u64);
    report.count("refused", flood.refused_in.len() as u64);
    report.count("ms to 95 % of refusals", quantile(&mut flood.refused_in, 0.95));
    report.count("ms to 99 % of refusals", refused);
    report.count("verdicts", verdicts.all());
    report.count("per mille of verdicts within 250 ms", (1000.0 * in_time) as u64);
    report.count("ms to 99 % of verdicts", quantile(&mut verdicts.served_in, 0.99));
    report.count("MiB resident at most", scene.app.process.peak() / MIB);
    if let Some(group) = &group {
        report.count("MiB charged at most", group.read("memory.max_usage_in_bytes") / MIB);
    }
    report.count("ms to recover", recovered.map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(0)));
    let odd: Vec<_> = flood.statuses.keys().filter(|s| ![200, 201, 429, 503].contains(s)).collect();
    report.expect(odd.is_empty(), || format!("statuses {:?}", flood.statuses));
    report.expect(flood.no_retry_after == 0, || {
        format!("{} refusals do not say when to come back", flood.no_retry_after)
    });
    report.expect(flood.unanswered == 0, || format!("{} were not answered", flood.unanswered));
    report.expect(scene.app.process.is_running(), || "the service was killed".into());
    report.expect(goodput >= 0.8 * rate, || format!("{goodput:.0} of {rate:.0} a second"));
    report.expect(refused <= 100, || format!("refusals took {refused} ms"));
    report.expect(in_time >= 0.99, || format!("verdicts: {:?}", verdicts.statuses));
    report.expect(scene.app.process.peak() <= 512 * MIB, || "over 512 MiB".into());
    report.expect(recovered.is_some_and(|t| t <= Duration::from_secs(10)), || "not back to normal".into());
    scene.check(&mut report, acknowledged).await;
    drop(group);
    report
}

/// How long single submissions take when nothing else goes on.
async fn baseline(scene: &Scene, acknowledged: &mut u64) -> Vec<Duration> {
    let mut wire = Wire::to(&scene.stage);
    let mut times = Vec::new();
    for _ in 0..10 {
        let Some(bundle) = scene.bundles.take() else { break };
        match wire.ask(&bundle).await {
            Ok(seen) if seen.status < 400 => {
                *acknowledged += 1;
                times.push(seen.took);
            }
            _ => {
                scene.bundles.back(bundle);
                times.push(wire::PATIENCE);
            }
        }
    }
    times
}

/// Eight processes that want the service's core, and a tenth of it for the service: slow, but never mute.
pub async fn starved(plan: Plan) -> Report {
    let mut report = Report::default();
    let time = Duration::from_secs(if plan.short { 6 } else { 60 });
    let scene = Scene::new().await;
    scene.bundles.provide(if plan.short { 300 } else { 3_000 });
    let _signing = Signing::keep(&scene.bundles, 200);
    let quota = Group::new("cpu", "cpu.cfs_quota_us", "10000");
    match &quota {
        Some(group) => group.take(scene.app.process.pid),
        None => report.skip("the quota", "no cpu controller"),
    }
    let spinners = machine::spin(8, 0);
    let asking = Asking::start(&scene.stage, 10.0);
    let probe = {
        let client = scene.stage.anonymous();
        tokio::spawn(async move {
            let (mut wire, mut tally, begun) = (Wire::to(&client), Tally::default(), Instant::now());
            let request = wire::get(&client, "/healthz");
            while begun.elapsed() < time {
                tally.note(wire.ask(&request).await.ok());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            tally
        })
    };
    let flood = ingest(&scene, 16, None, time).await;
    let mut alive = probe.await.expect("a probe does not panic");
    let mut verdicts = asking.stop().await;
    drop(spinners);
    drop(quota);
    report.count("probes", alive.all());
    report.count("ms to 99 % of probes", quantile(&mut alive.served_in, 0.99));
    report.count("verdicts", verdicts.all());
    report.count("verdicts refused", verdicts.refused_in.len() as u64);
    report.count("ms to 99 % of verdicts", quantile(&mut verdicts.served_in, 0.99));
    report.count("submissions", flood.all());
    report.count("taken", flood.served());
    report.expect(alive.served() == alive.all() && alive.served() > 0, || {
        format!("probes: {:?}", alive.statuses)
    });
    // A deadline that passes is told: nobody waits for an answer that does not come.
    for (what, tally) in [("verdicts", &verdicts), ("submissions", &flood)] {
        report.expect(tally.unanswered == 0, || format!("{} {what} were not answered", tally.unanswered));
        let odd = tally.statuses.keys().any(|s| ![200, 201, 429, 503].contains(s));
        report.expect(!odd, || format!("{what}: {:?}", tally.statuses));
    }
    let begun = Instant::now();
    let mut after = Vec::new();
    let mut acknowledged = 1 + flood.served();
    while begun.elapsed() < Duration::from_secs(10) && after.is_empty() {
        after = baseline(&scene, &mut acknowledged).await;
        after.retain(|took| *took < wire::PATIENCE);
    }
    report.expect(!after.is_empty(), || "it does not come back".into());
    scene.check(&mut report, acknowledged).await;
    report
}

/// 256 MiB for the service under overload: not killed, and nothing lost.
pub async fn little_memory(plan: Plan) -> Report {
    let mut report = Report::default();
    let time = Duration::from_secs(if plan.short { 6 } else { 120 });
    let group = Group::new("memory", "memory.limit_in_bytes", &(256 * MIB).to_string());
    if group.is_none() {
        report.skip("the limit", "no memory controller");
    }
    // In it from its first byte on: what a process has before it enters is not charged.
    let into: Vec<String> = group.iter().flat_map(Group::wrapper).collect();
    let scene = Scene::through(&into.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut acknowledged = 1;
    let rate = capacity(&scene, Duration::from_secs(2), &mut acknowledged).await;
    scene.bundles.provide((5.0 * rate) as usize + 2 * FLOOD);
    let signing = Signing::keep(&scene.bundles, rate as usize + 300);
    let asking = Asking::start(&scene.stage, VERDICTS);
    let flood = ingest(&scene, FLOOD, Some(10.0 * rate), time).await;
    let verdicts = asking.stop().await;
    drop(signing);
    let runs = scene.app.process.is_running();
    report.count("submissions", flood.all());
    report.count("taken", flood.served());
    report.count("verdicts", verdicts.served());
    report.count("MiB resident at most", scene.app.process.peak() / MIB);
    if let Some(group) = &group {
        report.count("MiB charged at most", group.read("memory.max_usage_in_bytes") / MIB);
        report.count("times at the limit", group.read("memory.failcnt"));
    }
    report.expect(runs, || "the service was killed".into());
    report.expect(flood.served() > 0 && verdicts.served() > 0, || "nothing was served".into());
    let scene = if runs {
        scene
    } else {
        let Scene { app, cluster, stage, bundles } = scene;
        Scene { app: app.kill().start().await, cluster, stage, bundles }
    };
    scene.check(&mut report, acknowledged + flood.served()).await;
    drop(group);
    report
}
